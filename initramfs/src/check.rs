//! Would this server boot into its role? The decisions of a boot, on the running system, writing nothing.

use crate::{
    PROGRAM, Places,
    boot::Clock,
    decide::{self, Disks, Found},
    identity::How,
    machine::Machine,
    refuse,
    role::{self, Start},
    unbound::ARRAY,
    watch::Voice,
};
use atlas_host::{mount, tree::Dir};
use atlas_model::{BootReport, Outcome, Refusal, RefusalCode, report::SetReport, survey::SetKind};
use std::path::Path;

/// Decides as a boot would. The Unbound file system has to be mounted, as it is on a server that runs.
pub fn check(places: &Places) -> BootReport {
    let mut report = BootReport::begin(PROGRAM);
    let mut clock = Clock::new(Voice::default());
    let answer = answer(places, &mut report, &mut clock);
    report.steps = clock.steps();
    match answer {
        Ok(outcome) => report.outcome = outcome,
        Err(mut refusal) => {
            if refusal.code == RefusalCode::BoundDataInvalid
                && let Ok(survey) = Machine::looking(places).survey()
            {
                refusal.found.extend(survey.beside(&refusal.found));
            }
            report.refusal = Some(refusal);
        }
    }
    report
}

fn answer(places: &Places, report: &mut BootReport, clock: &mut Clock) -> Result<Outcome, Refusal> {
    let root = Dir::open_root(&places.root).map_err(|error| refuse::of_file("open the root file system", &error))?;
    let Some(start) = Start::read(&root, report)? else { return Ok(Outcome::NotInitialised) };
    let mut disks = Machine::looking(places);
    disks.bound_record.clone_from(&start.record);
    let found = find(&mut disks, &start, report)?;
    decide(places, &root, &start, &found, report, clock).map_err(|refusal| refuse::with_disks(refusal, &found.choice))
}

/// The set that a boot would take, if the disks stayed as they are.
pub(crate) fn find(disks: &mut impl Disks, start: &Start, report: &mut BootReport) -> Result<Found, Refusal> {
    let found = decide::at_once(disks, start.acceptance.as_ref())?;
    role::remember(&found, start, report);
    Ok(found)
}

fn decide(
    places: &Places,
    root: &Dir,
    start: &Start,
    found: &Found,
    report: &mut BootReport,
    clock: &mut Clock,
) -> Result<Outcome, Refusal> {
    let choice = &found.choice;
    let (uuid, members) = match &choice.kind {
        SetKind::Mirror { uuid, devices } => (uuid.to_string(), devices.clone()),
        SetKind::Single { device } => (choice.ext4.uuid_text(), vec![device.clone()]),
    };
    report.set = Some(SetReport {
        uuid,
        device: String::new(),
        members,
        disks: choice.disks.clone(),
        spares: vec![],
        rebuilding: vec![],
        not_taken: vec![],
        left_out: choice.left_out.clone(),
        degraded: choice.degraded,
        file_system: "mounted".into(),
    });
    let at = places.unbound();
    if !mount::is_mount_point(&at).map_err(|error| refuse::of_file("look at /unbound", &error))? {
        return Err(not_mounted(found));
    }
    look(places, root, start, found, report, clock)
}

/// The set is there, and its content is unknown. The commands change nothing on it.
fn not_mounted(found: &Found) -> Refusal {
    let array = match &found.choice.kind {
        SetKind::Single { device } => Some(device.clone()),
        SetKind::Mirror { devices, .. } => {
            let members = found.survey.devices.iter().filter(|d| devices.iter().any(|path| d.path == Path::new(path)));
            let mut holders = members.flat_map(|device| &device.holders);
            holders.find(|holder| holder.starts_with("md")).map(|holder| format!("/dev/{holder}"))
        }
    };
    let (start, stop) = match (&array, &found.choice.kind) {
        (None, SetKind::Mirror { devices, .. }) => (
            format!("mdadm --assemble --readonly --run --config=none {ARRAY} {} && ", devices.join(" ")),
            format!("; mdadm --stop {ARRAY}"),
        ),
        _ => (String::new(), String::new()),
    };
    let device = array.as_deref().unwrap_or(ARRAY);
    Refusal::new(RefusalCode::Internal, "The Unbound set is there, but not mounted, so its content is unknown.")
        .because("what it says of the role cannot be checked")
        .remedy(format!("to see what a boot would say of its content: {start}mount -o ro,noload {device} /unbound && atlas-boot check; umount /unbound{stop}"))
        .remedy("or reboot")
}

/// What a boot would make of the mounted set.
pub(crate) fn look(
    places: &Places,
    root: &Dir,
    start: &Start,
    found: &Found,
    report: &mut BootReport,
    clock: &mut Clock,
) -> Result<Outcome, Refusal> {
    let file_system = found.choice.ext4.uuid_text();
    let (config, identity) = role::prepare(places, root, start, &file_system, How::Look, report, clock)?;
    report.role = Some(config.role());
    report.converted_from = identity.converted.as_ref().map(|converted| converted.from);
    report.installed.clone_from(&identity.changes);
    Ok(if identity.from_scratch { Outcome::FromScratch } else { Outcome::IdentityInstalled })
}

#[cfg(test)]
mod tests {
    use super::*;
    use atlas_model::{
        ext4,
        md::testing::half,
        survey::{Device, Member, Survey},
    };
    use std::time::Duration;

    struct Still(Survey);

    impl Disks for Still {
        fn arrivals(&mut self) -> atlas_host::arrivals::Arrivals {
            atlas_host::arrivals::Arrivals::default()
        }
        fn survey(&mut self) -> Result<Survey, Refusal> {
            Ok(self.0.clone())
        }
        fn clear(&mut self, _: &Survey) -> Vec<String> {
            vec![]
        }
        fn now(&self) -> Duration {
            Duration::ZERO
        }
        fn pause(&mut self, _: Duration) {}
        fn say(&mut self, _: &str) {}
    }

    fn remedy(holder: Option<&str>) -> String {
        let ext4 = || Some(ext4::testing::superblock("ATLAS-UNBOUND", 5));
        let member =
            |device: &str, number| Member { device: device.into(), serial: None, md: half(number), ext4: ext4() };
        let device = |path: &str| Device {
            path: path.into(),
            holders: holder.into_iter().map(str::to_owned).collect(),
            ..Device::default()
        };
        let survey = Survey {
            members: vec![member("/dev/vdb", 0), member("/dev/vdc", 1)],
            devices: vec![device("/dev/vdb"), device("/dev/vdc")],
            ..Survey::default()
        };
        not_mounted(&decide::at_once(&mut Still(survey), None).unwrap()).remedy.remove(0)
    }

    #[test]
    fn a_set_that_is_not_mounted_is_looked_into_without_a_write() {
        let pushed_in = remedy(None);
        for part in [
            "mdadm --assemble --readonly --run --config=none /dev/md/atlas-unbound /dev/vdb /dev/vdc && mount -o ro,noload",
            "atlas-boot check; umount /unbound; mdadm --stop /dev/md/atlas-unbound",
        ] {
            assert!(pushed_in.contains(part), "{part} in {pushed_in}");
        }
        let running = remedy(Some("md127"));
        assert!(
            running.contains("mount -o ro,noload /dev/md127 /unbound") && !running.contains("--assemble"),
            "{running}"
        );
        assert!(!running.contains("--stop"), "{running}");
    }
}
