//! A new set: of disks, which become a mirror, or of an array or a disk that is there already.
//!
//! ```text
//!   disks                  each unused, of one size, empty (or erased, told twice) ──► mirror, file system
//!   an array or a disk     its ext4 is labelled and keeps its data; anything else is erased, told twice
//! ```

use super::{
    super::{
        machine::{BlockDevice, By, size},
        objection::Objection,
    },
    Item, SetFacts, SetPlan, Task, file_system, labelled, list,
    set::shown,
};
use atlas_model::survey::WHAT_A_SET_MAY_BE;
use std::path::{Path, PathBuf};

/// Two disks are of one size when the larger is at most one part in this many larger.
const SIZE_TOLERANCE: u64 = 100;
/// Smaller, there is no room for md's and the file system's own data, in bytes.
const SMALLEST: u64 = 32 << 20;

pub(super) fn create(facts: &SetFacts, degraded: bool) -> Result<SetPlan, Vec<Objection>> {
    let mut objections: Vec<Objection> = facts.parts.iter().filter_map(in_use).collect();
    for disk in facts.parts.iter().filter(|disk| disk.size_bytes < SMALLEST) {
        objections.push(Objection::new(format!(
            "{} is too small: {}, at least {} is needed",
            disk.named.display(),
            size(disk.size_bytes),
            size(SMALLEST)
        )));
    }
    objections.extend(facts.parts.iter().filter(|disk| !disk.parts.is_empty()).map(built));
    if let [a, b] = facts.parts.as_slice() {
        objections.extend(not_a_pair(a, b));
        if facts.survey.are_one_disk(&a.path, &b.path) {
            let what =
                format!("{} and {} are one disk, seen by two paths (multipath)", a.path.display(), b.path.display());
            objections.push(Objection::new(what).hint("name two different disks").hint(WHAT_A_SET_MAY_BE));
        }
    }
    if !objections.is_empty() {
        return Err(objections);
    }
    let whole = |disk: &BlockDevice| {
        let parts = facts.survey.on_partitions(&disk.path);
        let with = if parts.is_empty() { String::new() } else { format!(", with {}", parts.join(", ")) };
        Some((disk.path.clone(), format!("{}{with}", disk.holds.as_ref()?)))
    };
    let to_erase: Vec<(PathBuf, String)> = facts.parts.iter().filter_map(whole).collect();
    let mut items: Vec<Item> = to_erase.iter().map(|(disk, holds)| erase(disk, holds)).collect();
    let disks: Vec<PathBuf> = facts.parts.iter().map(|disk| disk.path.clone()).collect();
    let missing = if degraded { ", its second disk missing" } else { "" };
    items.push(Item::todo(
        format!("the mirror of {}{missing}", shown(&facts.parts)),
        Task::CreateMirror { disks, degraded },
    ));
    items.push(Item::todo(file_system(), Task::MakeFileSystem { over_anything: true }));
    Ok(SetPlan { items, to_erase })
}

fn erase(device: &Path, holds: &str) -> Item {
    Item::todo(format!("{}, which held {holds}", device.display()), Task::Erase(device.to_owned()))
}

/// What lies on LUKS, LVM or multipath.
fn built(device: &BlockDevice) -> Objection {
    Objection::new(format!("{} is built of other devices", device.named.display()))
        .hint("name the disk itself; for an md array use --array")
        .hint(WHAT_A_SET_MAY_BE)
}

fn in_use(device: &BlockDevice) -> Option<Objection> {
    if device.uses.is_empty() {
        return None;
    }
    let mut what = format!("{} is in use: {}", device.named.display(), list(&device.uses));
    if let Some(holds) = &device.holds {
        what.push_str(&format!(" (it holds {holds})"));
    }
    Some(Objection::new(what).hint("name a disk that is not in use; 'lsblk' shows them"))
}

/// Why two disks are no pair for a mirror.
fn not_a_pair(a: &BlockDevice, b: &BlockDevice) -> Option<Objection> {
    let (smaller, larger) = if a.size_bytes <= b.size_bytes { (a, b) } else { (b, a) };
    if a.path == b.path {
        return Some(Objection::new(format!("{} is named twice", a.path.display())).hint("name two different disks"));
    }
    if a.disk == b.disk {
        let what = format!("{} and {} lie on one disk, {}", a.path.display(), b.path.display(), a.disk);
        return Some(
            Objection::new(what).hint("name two different disks: a mirror is there for the day when one dies"),
        );
    }
    if larger.size_bytes - smaller.size_bytes > smaller.size_bytes / SIZE_TOLERANCE {
        let what = format!(
            "{} has {}, {} has {}: too different for a mirror",
            smaller.named.display(),
            size(smaller.size_bytes),
            larger.named.display(),
            size(larger.size_bytes)
        );
        return Some(Objection::new(what).hint("take disks of one size, or partitions of one size on them"));
    }
    None
}

pub(super) fn take_array(facts: &SetFacts) -> Result<SetPlan, Vec<Objection>> {
    let Some(array) = &facts.top else { return Err(Objection::new("the array does not run").into()) };
    let named = array.named.display();
    let is_part = |device: &str| facts.parts.iter().any(|part| part.path.as_os_str() == device);
    let members = facts.survey.members.iter().filter(|member| is_part(&member.device));
    let plain = members.filter(|member| member.md.level == 1 && !member.md.exotic).count();
    if array.raid_level.as_deref() != Some("raid1") || plain == 0 || plain != facts.parts.len() {
        let what = format!("{named} is no plain RAID-1 array with metadata 1.x on disks or partitions");
        return Err(Objection::new(what).hint("'mdadm --detail' shows what it is").hint(WHAT_A_SET_MAY_BE).into());
    }
    take(array, facts)
}

pub(super) fn take_disk(facts: &SetFacts) -> Result<SetPlan, Vec<Objection>> {
    let Some(disk) = &facts.top else { return Err(Objection::new("no disk was named").into()) };
    if !disk.parts.is_empty() || disk.raid_level.is_some() {
        return Err(built(disk).into());
    }
    let signs = facts.survey.signs_of_a_mirror(&disk.path.display().to_string());
    if !signs.is_empty() {
        let what = format!("{} looks like half of a mirror: {}", disk.named.display(), signs.join("; "));
        return Err(Objection::new(what)
            .hint("put the disk into a bay that shows all of it, or make the mirror whole first")
            .hint("if it never was a mirror and only its device grew, let the file system fill it: resize2fs")
            .into());
    }
    take(disk, facts)
}

/// Takes a device as the set: an ext4 file system on it stays.
fn take(device: &BlockDevice, facts: &SetFacts) -> Result<SetPlan, Vec<Objection>> {
    let ours = |by: &By| facts.mounted.as_ref() == Some(&device.path) && matches!(by, By::Mount(_));
    if device.uses.iter().any(|used| !ours(&used.by)) {
        return Err(in_use(device).into_iter().collect());
    }
    let set = format!("{} as the Unbound set", device.path.display());
    let mut plan = SetPlan { items: vec![Item::was_so(set)], to_erase: vec![] };
    match &device.holds {
        Some(holds) if holds.is_ext4() => {
            plan.items.push(labelled(holds.label.as_deref()));
        }
        holds => {
            if let Some(holds) = holds {
                plan.to_erase.push((device.path.clone(), holds.to_string()));
                plan.items.push(erase(&device.path, &holds.to_string()));
            }
            plan.items.push(Item::todo(file_system(), Task::MakeFileSystem { over_anything: true }));
        }
    }
    Ok(plan)
}

#[cfg(test)]
mod tests {
    use super::{
        super::{
            super::answers::Storage,
            plan_set,
            testing::{disk, disks, hardware, holding, pair, refused, tasks, used},
        },
        *,
    };
    use atlas_model::{
        ext4,
        survey::{Device, Single, Trace},
    };

    #[test]
    fn two_empty_disks_become_a_mirror() {
        let (storage, facts) = disks(vec![disk("vdb"), disk("vdc")]);
        let plan = plan_set(&storage, &facts).unwrap();
        let mirror = Task::CreateMirror { disks: vec!["/dev/vdb".into(), "/dev/vdc".into()], degraded: false };
        assert_eq!(tasks(&plan), [&mirror, &Task::MakeFileSystem { over_anything: true }, &Task::Mount]);
        assert!(plan.to_erase.is_empty());
    }

    #[test]
    fn what_a_disk_holds_is_named_and_its_loss_must_be_told() {
        let (storage, facts) = disks(vec![disk("vdb"), holding("vdc", "ext4", Some("books"))]);
        let plan = plan_set(&storage, &facts).unwrap();
        assert_eq!(plan.to_erase, [(PathBuf::from("/dev/vdc"), "ext4 'books'".to_owned())]);
        assert_eq!(tasks(&plan)[0], &Task::Erase("/dev/vdc".into()));
    }

    #[test]
    fn what_lies_on_the_partitions_of_a_disk_is_named_too() {
        let (storage, mut facts) = disks(vec![disk("vdb"), holding("vdc", "a partition table", None)]);
        let part = Device {
            path: "/dev/vdc1".into(),
            disk: Some("/dev/vdc".into()),
            traces: vec![Trace::Damaged("old data".into())],
            ..Device::default()
        };
        facts.survey.devices.push(part);
        let plan = plan_set(&storage, &facts).unwrap();
        assert_eq!(plan.to_erase, [(PathBuf::from("/dev/vdc"), "a partition table, with vdc1: old data".to_owned())]);
    }

    #[test]
    fn disks_that_cannot_be_a_pair_are_objected_to_all_at_once() {
        let root = used("vda", By::Mount("/".into()));
        let small = BlockDevice { size_bytes: 1 << 20, ..used("vdd", By::Swap) };
        let text = refused(disks(vec![root, small]));
        for part in ["vda holds this server's root file system", "vdd is swap space", "too small", "too different"] {
            assert!(text.contains(part), "{part} in {text}");
        }
    }

    #[test]
    fn one_disk_under_two_names_is_no_pair() {
        assert!(refused(disks(vec![disk("vdb"), disk("vdb")])).contains("named twice"));
        let partition = |name: &str| BlockDevice { disk: "vdb".into(), ..disk(name) };
        assert!(refused(disks(vec![partition("vdb1"), partition("vdb2")])).contains("lie on one disk"));
    }

    #[test]
    fn what_a_boot_would_refuse_is_no_set() {
        let device = |name: &str| Device {
            path: format!("/dev/{name}").into(),
            wwid: Some("naa.5".into()),
            size_bytes: 10 << 30,
            ..Device::default()
        };
        let (storage, mut facts) = disks(vec![disk("sdb"), disk("sdc")]);
        facts.survey.devices = vec![device("sdb"), device("sdc")];
        assert!(refused((storage, facts)).contains("one disk, seen by two paths"));

        let volume = |name: &str| BlockDevice { parts: vec!["/dev/sda3".into()], ..disk(name) };
        assert!(refused(disks(vec![volume("dm-0"), volume("dm-1")])).contains("dm-0 is built of other devices"));

        let (storage, mut facts) = hardware(holding("sdb", "ext4", None));
        let block = ext4::testing::block_of("books", 3, (10 << 30) - (1 << 20));
        let ext4 = ext4::Ext4Superblock::parse(&block).unwrap();
        facts.survey.singles = vec![Single { device: "/dev/sdb".into(), serial: None, ext4 }];
        assert!(plan_set(&storage, &facts).is_ok(), "nothing is known of its disk");
        facts.survey.devices = vec![device("sdb")];
        assert!(refused((storage, facts)).contains("sdb looks like half of a mirror: it ends 1048576 bytes before"));
    }

    #[test]
    fn sizes_may_differ_by_one_percent() {
        let with_size = |name: &str, size_bytes| BlockDevice { size_bytes, ..disk(name) };
        let plan = |b, c| {
            let (storage, facts) = disks(vec![with_size("vdb", b), with_size("vdc", c)]);
            plan_set(&storage, &facts).is_ok()
        };
        assert!(plan(1_000_000_000, 1_010_000_000) && plan(1_010_000_000, 1_000_000_000));
        assert!(!plan(1_000_000_000, 1_010_000_001));
    }

    #[test]
    fn an_ext4_that_is_taken_over_is_labelled_and_keeps_its_data() {
        let (storage, facts) = hardware(holding("sdb", "ext4", Some("books")));
        let plan = plan_set(&storage, &facts).unwrap();
        assert_eq!((tasks(&plan), plan.to_erase.len()), (vec![&Task::Label, &Task::Mount], 0));

        let (storage, facts) = hardware(holding("sdb", "xfs", None));
        let plan = plan_set(&storage, &facts).unwrap();
        assert_eq!((tasks(&plan)[0], plan.to_erase.len()), (&Task::Erase("/dev/sdb".into()), 1));

        assert!(refused(hardware(used("sdb", By::Mount("/srv".into())))).contains("sdb is mounted at /srv"));
    }

    #[test]
    fn an_array_is_taken_when_it_is_a_plain_mirror() {
        let array = |level: &str| BlockDevice { raid_level: Some(level.into()), ..holding("md0", "ext4", None) };
        let facts = |level: &str| {
            let mut survey = pair(Some("books"));
            survey.members.iter_mut().for_each(|member| member.md.name = "data".into());
            let (_, facts) = disks(vec![disk("vdb"), disk("vdc")]);
            (Storage::Array("/dev/md0".into()), SetFacts { survey, top: Some(array(level)), ..facts })
        };
        let (storage, good) = facts("raid1");
        assert_eq!(tasks(&plan_set(&storage, &good).unwrap()), [&Task::Label, &Task::Mount]);
        assert!(refused(facts("raid5")).contains("no plain RAID-1"));
        let (storage, mut old_metadata) = facts("raid1");
        old_metadata.survey.members.clear();
        assert!(refused((storage, old_metadata)).contains("metadata 1.x"));
    }
}
