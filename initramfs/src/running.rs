//! What md made of the set, read back and held against what was decided: it may leave a disk out, and still report success.

use atlas_host::md::Array;
use atlas_model::{
    Refusal, RefusalCode, UNBOUND_ARRAY,
    report::SetReport,
    survey::{SetChoice, SetKind},
};
use std::path::Path;

/// The set as it runs.
pub fn describe(choice: &SetChoice, device: &Path, array: Option<&Array>) -> SetReport {
    let (uuid, decided) = match &choice.kind {
        SetKind::Mirror { uuid, devices } => (uuid.to_string(), devices.clone()),
        SetKind::Single { device } => (choice.ext4.uuid_text(), vec![device.clone()]),
    };
    let mut report = SetReport {
        uuid,
        device: device.display().to_string(),
        members: decided,
        disks: choice.disks.clone(),
        spares: vec![],
        rebuilding: vec![],
        not_taken: vec![],
        left_out: choice.left_out.clone(),
        degraded: choice.degraded,
        file_system: "read-only".into(),
    };
    let Some(array) = array else { return report };
    let named = |is: fn(&atlas_host::md::ArrayMember) -> bool| -> Vec<String> {
        array.members.iter().filter(|member| is(member)).map(|member| member.device.clone()).collect()
    };
    let is_there =
        |device: &&String| array.members.iter().any(|member| member.device == **device && !member.is_faulty());
    report.not_taken = report.members.iter().filter(|device| !is_there(device)).cloned().collect();
    report.members = named(|member| member.is_in_sync() || member.is_rebuilding());
    (report.spares, report.rebuilding) = (named(|member| member.is_spare()), named(|member| member.is_rebuilding()));
    report.degraded = named(|member| member.is_in_sync()).len() < array.slots as usize;
    report
}

/// Whether md runs the set at all: with one member at least that holds all of the data.
pub fn verify(array: &Array) -> Result<(), Refusal> {
    let runs = !matches!(array.state.as_str(), "" | "clear" | "inactive");
    if runs && array.members.iter().any(atlas_host::md::ArrayMember::is_in_sync) {
        return Ok(());
    }
    let mut refusal =
        Refusal::new(RefusalCode::AssembleFailed, "md did not start the Unbound set, and reported no error.")
            .found(format!("{}: {}", array.device.display(), array.state));
    for member in &array.members {
        refusal = refusal.found(format!("{}: {}", member.device, member.states.join(", ")));
    }
    Err(refusal
        .because("its data cannot be reached")
        .remedy("look for what md says of each disk in 'dmesg', and at 'mdadm --examine' of each member"))
}

/// What md did otherwise than it was decided, and therefore nobody has said yet.
pub fn warnings(set: &SetReport) -> Vec<String> {
    let line = |device: &String| {
        let is_it = |disk: &&String| {
            disk.strip_prefix(device.as_str()).is_some_and(|rest| rest.is_empty() || rest.starts_with(' '))
        };
        let named = set.disks.iter().find(is_it).unwrap_or(device);
        format!(
            "{named} belongs to the set and is not in it: md did not take it, or threw it out at the first error; 'dmesg' says why (too small, or \
             failing); the set has one copy less than it should, replace the disk: mdadm {UNBOUND_ARRAY} --add DISK"
        )
    };
    set.not_taken.iter().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use atlas_host::md::ArrayMember;
    use atlas_model::{ext4, md::MdUuid};

    fn choice(devices: &[&str]) -> SetChoice {
        SetChoice {
            kind: SetKind::Mirror { uuid: MdUuid([7; 16]), devices: devices.iter().map(ToString::to_string).collect() },
            disks: vec![],
            beside: vec![],
            left_out: vec![],
            degraded: false,
            ext4: ext4::testing::superblock("ATLAS-UNBOUND", 5),
            written: 0,
            warnings: vec![],
        }
    }

    fn array(state: &str, members: &[(&str, Option<u16>, &str)]) -> Array {
        let member = |(device, slot, states): &(&str, Option<u16>, &str)| ArrayMember {
            device: (*device).into(),
            slot: *slot,
            states: states.split(',').map(str::to_owned).collect(),
        };
        Array {
            device: "/dev/md127".into(),
            state: state.into(),
            slots: 2,
            sync_action: "idle".into(),
            members: members.iter().map(member).collect(),
            used_by: vec![],
        }
    }

    fn running(decided: &[&str], members: &[(&str, Option<u16>, &str)]) -> SetReport {
        let array = array("readonly", members);
        verify(&array).unwrap();
        describe(&choice(decided), Path::new("/dev/md127"), Some(&array))
    }

    #[test]
    fn a_whole_set_gives_nothing_to_say() {
        let set = running(
            &["/dev/vdb", "/dev/vdc", "/dev/vdd"],
            &[("/dev/vdb", Some(0), "in_sync"), ("/dev/vdc", Some(1), "in_sync"), ("/dev/vdd", None, "spare")],
        );
        assert!(!set.degraded && set.not_taken.is_empty());
        assert_eq!((set.members.len(), set.spares.as_slice()), (2, ["/dev/vdd".to_owned()].as_slice()));
        assert_eq!(warnings(&set), Vec::<String>::new());
    }

    #[test]
    fn a_member_that_md_did_not_take_is_named() {
        let set = running(&["/dev/vdb", "/dev/vdc"], &[("/dev/vdb", Some(0), "in_sync")]);
        assert!(set.degraded);
        assert_eq!(
            (set.members.as_slice(), set.not_taken.as_slice()),
            (["/dev/vdb".to_owned()].as_slice(), ["/dev/vdc".to_owned()].as_slice())
        );
        assert!(warnings(&set)[0].contains("/dev/vdc") && warnings(&set).len() == 1, "{:?}", warnings(&set));
        let lost_spare = running(
            &["/dev/vdb", "/dev/vdc", "/dev/vdd"],
            &[("/dev/vdb", Some(0), "in_sync"), ("/dev/vdc", Some(1), "in_sync")],
        );
        assert!(!lost_spare.degraded && lost_spare.not_taken == ["/dev/vdd"]);
    }

    #[test]
    fn a_member_that_is_being_filled_is_there_and_no_copy() {
        let set =
            running(&["/dev/vdb", "/dev/vdc"], &[("/dev/vdb", Some(0), "in_sync"), ("/dev/vdc", Some(1), "spare")]);
        assert!(set.degraded && set.not_taken.is_empty() && set.members.len() == 2);
        assert_eq!(set.rebuilding, ["/dev/vdc"]);
        assert_eq!(warnings(&set), Vec::<String>::new());
    }

    #[test]
    fn a_set_that_does_not_run_is_refused_whatever_mdadm_reported() {
        for array in
            [array("inactive", &[("/dev/vdb", Some(0), "in_sync")]), array("readonly", &[("/dev/vdb", None, "spare")])]
        {
            assert_eq!(verify(&array).unwrap_err().code, RefusalCode::AssembleFailed);
        }
    }
}
