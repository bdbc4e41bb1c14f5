//! A bare file system: a hardware RAID shows one, and so does half of a mirror of which nothing is seen but its data.

use super::{
    advice,
    decision::Attached,
    facts::{Device, SetChoice, SetKind, Single, Survey, Trace},
};
use crate::{
    Refusal, RefusalCode,
    set_record::{MadeOf, SetRecord},
};

/// What the makers of file systems leave free at the end of a device is less than this, in bytes.
const SHORTEST_TAIL: u64 = 4096;
/// What md or a firmware leave free is at most this, in bytes; more was left by a person.
const LONGEST_TAIL: u64 = 256 << 20;

/// What mke2fs may leave free itself, where a last block group would have no room for its own tables, in bytes.
const DROPPED_GROUP: u64 = 4 << 20;

/// The records of what the set with this file system is made of, and where each was found.
fn records<'s>(survey: &'s Survey, single: &Single) -> Vec<(&'static str, &'s SetRecord)> {
    let uuid = single.ext4.uuid_text();
    let own = survey.device(&single.device).and_then(|device| device.record.as_ref()?.as_ref().ok());
    let own = own.map(|record| ("SID_DATA/Set on the disk", record));
    let bound = survey.bound_record.as_ref().map(|record| ("/opt/atlas/Set of this server", record));
    own.into_iter().chain(bound).filter(|(_, record)| record.file_system == uuid).collect()
}

fn own_record(device: Option<&Device>) -> Option<&SetRecord> {
    device?.record.as_ref()?.as_ref().ok()
}

/// Starts from one device, which nothing speaks against.
pub(super) fn choose(survey: &Survey, single: &Single) -> Result<SetChoice, Refusal> {
    let name = survey.name_of(&single.device, single.serial.as_deref());
    let device = survey.device(&single.device);
    if device.is_some_and(|device| device.read_only) {
        return Err(survey.write_protected(vec![format!("{name}: write-protected")]));
    }
    let mut warnings = vec![];
    let records = records(survey, single);
    match (records.first(), device) {
        (None, device) => {
            let why = match own_record(device) {
                Some(_) => "its record is of another file system",
                None => "it has no record of how its set is made",
            };
            warnings.push(format!(
                "{name} is taken for a whole disk (a hardware RAID), which nothing proves: {why}; 'atlas init' writes one"
            ));
        }
        (Some((place, record)), Some(device)) => warnings.extend(differs(&name, place, record, device)),
        _ => {}
    }
    Ok(SetChoice {
        kind: SetKind::Single { device: single.device.clone() },
        disks: vec![name],
        beside: vec![],
        left_out: vec![],
        degraded: false,
        ext4: single.ext4.clone(),
        written: single.ext4.written,
        warnings,
    })
}

fn differs(name: &str, place: &str, record: &SetRecord, device: &Device) -> Option<String> {
    let is_it = |member: &crate::set_record::RecordedMember| {
        match (&member.serial, &device.serial) {
            // A disk of a hardware RAID may grow.
            (Some(recorded), Some(serial)) => recorded == serial,
            _ => member.size_bytes == device.size_bytes,
        }
    };
    let recorded = record.members.first().filter(|_| !record.members.iter().any(is_it))?;
    let serial = recorded.serial.as_deref().unwrap_or("unknown");
    Some(format!(
        "{name} is another disk than {place} says (serial {serial}, {} bytes): if this is a copy, keep the other one away",
        recorded.size_bytes
    ))
}

impl Survey {
    /// What speaks for it that the bare file system on the device is half of a mirror.
    pub fn signs_of_a_mirror(&self, device: &str) -> Vec<String> {
        let single = self.singles.iter().find(|single| single.device == device);
        let attached = Attached { survey: self, sets: self.sets(), singles: single.into_iter().collect() };
        single.map_or(vec![], |single| signs(&attached, single))
    }
}

/// A refusal where a bare file system belongs to a mirror, as far as can be seen.
pub(super) fn lost_mirror(attached: &Attached<'_>) -> Option<Refusal> {
    let signs: Vec<(&Single, Vec<String>)> =
        attached.singles.iter().map(|single| (*single, signs(attached, single))).collect();
    if attached.singles.is_empty() || !attached.is_one_file_system() || signs.iter().all(|(_, signs)| signs.is_empty())
    {
        return None;
    }
    let mut refusal = Refusal::new(
        RefusalCode::LostMirror,
        "The Unbound file system is half of a mirror, and shows up without its mirror.",
    );
    for (single, signs) in &signs {
        let name = attached.survey.name_of(&single.device, single.serial.as_deref());
        let signs = if signs.is_empty() { "the same file system".to_owned() } else { signs.join("; ") };
        refusal = refusal.found(format!("{name}: file system {}; {signs}", single.ext4.uuid_text()));
    }
    for member in attached.sets.values().flatten() {
        refusal = refusal.found(attached.survey.describe(member));
    }
    refusal = refusal.because(
        "the other half may be running in another server; written alone, the two would differ, and md would not notice",
    );
    Some(remedies(refusal, attached))
}

/// A refusal where the halves of one mirror were made sets of their own.
pub(super) fn split_mirror(attached: &Attached<'_>) -> Option<Refusal> {
    let members = attached.members();
    let is_remains = attached.survey.one_within_another(&members).is_some();
    if attached.sets.len() < 2 || !attached.singles.is_empty() || !attached.is_one_file_system() || is_remains {
        return None;
    }
    let devices: Vec<&str> = members.iter().map(|member| member.device.as_str()).collect();
    let described = members.iter().map(|member| attached.survey.describe(member));
    let mut refusal = Refusal::new(
        RefusalCode::LostMirror,
        "Several arrays hold one file system: the halves of a mirror were made sets of their own, or copied.",
    );
    refusal.found = described.collect();
    let refusal = refusal
        .because("each may have been written without the others, and nothing says which one has the data to keep")
        .remedy(format!("decide which one that is: {}", advice::BY_TIMES))
        .remedy(advice::look_into(&devices))
        .remedy("shut down, take out all but the set to keep, and boot");
    Some(members.iter().fold(refusal, |refusal, member| {
        let name = attached.survey.name_of(&member.device, member.serial.as_deref());
        refusal.remedy(format!(
            "to give up {name}, with the server up on the other one, and copy it anew: {}",
            advice::add_anew(&[&member.device])
        ))
    }))
}

/// Whether any single of the survey has a sign; for what is said where several sets are attached.
pub(super) fn is_half(attached: &Attached<'_>, single: &Single) -> bool {
    !signs(attached, single).is_empty()
}

fn remedies(refusal: Refusal, attached: &Attached<'_>) -> Refusal {
    let devices: Vec<&Device> = attached.singles.iter().filter_map(|s| attached.survey.device(&s.device)).collect();
    let traces = |device: &Device| {
        let disk = device.disk.as_ref().and_then(|disk| attached.survey.device(disk));
        [Some(device), disk].into_iter().flatten().find_map(|device| device.raid_at_its_end().cloned())
    };
    let is_old = devices.iter().any(|device| matches!(traces(device), Some(Trace::OldMd(_))));
    let is_firmware = devices.iter().any(|device| matches!(traces(device), Some(Trace::Content(_))));
    let names: Vec<&str> = attached.singles.iter().map(|single| single.device.as_str()).collect();
    if is_old {
        return refusal
            .remedy("shut down, attach both halves, and boot again to this console")
            .remedy(format!(
                "then convert the old metadata, once: mdadm --assemble --update=metadata /dev/md/atlas-unbound {} (and the other half); \
                 mdadm --stop /dev/md/atlas-unbound; reboot",
                names.join(" ")
            ));
    }
    if is_firmware {
        return refusal
            .remedy("if the firmware's RAID was switched off, switch it on in the firmware's set-up")
            .remedy(
                "ATLAS does not start firmware RAID: make a set with 'atlas init' on other disks, and copy the data",
            );
    }
    let refusal = refusal
        .remedy("shut down, put all disks of the mirror into bays or ports that show all of them (a USB dock may hide the end), and boot again")
        .remedy("see whether the kernel says that an end is hidden: dmesg | grep -i hpa")
        .remedy("if one of the disks is a copy, or was taken out of the set, shut down and remove it")
        .remedy(
            "if it is a copy on a hardware RAID, and the mirror is used no more: make a set there with 'atlas init', and copy all files but SID_DATA/Set",
        );
    match (attached.singles.as_slice(), attached.sets.is_empty()) {
        ([single], true) if !is_recorded_mirror(attached.survey, single) => refusal.remedy(format!(
            "if it never was a mirror and only its device grew: e2fsck -f {0}, resize2fs {0}, then reboot",
            single.device
        )),
        _ => refusal,
    }
}

fn is_recorded_mirror(survey: &Survey, single: &Single) -> bool {
    let own = own_record(survey.device(&single.device));
    own.into_iter().chain(&survey.bound_record).any(|record| record.kind == MadeOf::Mirror)
}

/// What speaks for its being half of a mirror.
fn signs(attached: &Attached<'_>, single: &Single) -> Vec<String> {
    let survey = attached.survey;
    let records = records(survey, single);
    let mut signs: Vec<String> = records
        .iter()
        .filter(|(_, record)| record.kind == MadeOf::Mirror)
        .map(|(place, _)| format!("{place} says that it belongs to a mirror"))
        .collect();
    let is_proven = records.iter().any(|(_, record)| record.kind == MadeOf::Single);
    signs.extend(of_another_name(survey, single, is_proven));
    let elsewhere = attached.devices().into_iter().filter(|other| *other != single.device).find(|other| {
        let members = survey.members.iter().map(|m| (&m.device, m.ext4.as_ref()));
        let singles = survey.singles.iter().map(|s| (&s.device, Some(&s.ext4)));
        members.chain(singles).any(|(device, ext4)| device == other && ext4.is_some_and(|e| e.uuid == single.ext4.uuid))
    });
    signs.extend(elsewhere.map(|device| format!("the same file system lies on {device}")));
    let Some(device) = survey.device(&single.device) else { return signs };
    let disk = device.disk.as_ref().and_then(|disk| survey.device(disk));
    if let Some(trace) = [Some(device), disk].into_iter().flatten().find_map(Device::raid_at_its_end) {
        signs.push(format!("at its end lies {}", super::words::of_trace(trace)));
    }
    let unreadable = device.traces.iter().filter(|trace| matches!(trace, Trace::Unreadable(_) | Trace::Damaged(_)));
    signs.extend(unreadable.map(super::words::of_trace));
    if let Some(Err(why)) = &device.record {
        signs.push(format!("SID_DATA/Set, which says how its set is made, is unreadable: {why}"));
    }
    let (size, of_disk) = (single.ext4.size_bytes, device.size_bytes);
    if size > of_disk && of_disk > 0 {
        signs.push(format!("it is {} bytes larger than its disk: the disk's end is hidden or cut off", size - of_disk));
    }
    let tail = of_disk.saturating_sub(size);
    let may_be_dropped = single.ext4.is_whole_groups && tail < DROPPED_GROUP;
    if !is_proven && size > 0 && (SHORTEST_TAIL..=LONGEST_TAIL).contains(&tail) && !may_be_dropped {
        signs.push(format!("it ends {tail} bytes before its disk, where md keeps its superblock"));
    }
    if !is_proven && device.is_raid_partition {
        signs.push("its partition is of a type for RAID".into());
    }
    signs
}

/// Records of a mirror that name another file system: a UUID is changed with one command, and makes no whole disk of a half.
fn of_another_name(survey: &Survey, single: &Single, is_proven: bool) -> Option<String> {
    let uuid = single.ext4.uuid_text();
    let is_a_mirrors = |record: &&SetRecord| record.kind == MadeOf::Mirror && record.file_system != uuid;
    let device = survey.device(&single.device)?;
    if own_record(Some(device)).filter(is_a_mirrors).is_some() {
        return Some(
            "SID_DATA/Set on the disk says that it belongs to a mirror, whose file system has another UUID".into(),
        );
    }
    let bound = survey.bound_record.as_ref().filter(is_a_mirrors)?;
    let is_listed = bound.members.iter().any(|member| member.serial.is_some() && member.serial == device.serial);
    (is_listed && !is_proven).then(|| {
        "/opt/atlas/Set of this server says that this disk belongs to a mirror, whose file system has another UUID"
            .into()
    })
}
