//! From the devices that were named to a mounted Unbound file system.
//!
//! ```text
//!   the devices that were named ──► exactly the attached Unbound set?   take it as it is: start, finish, mount what is left to do
//!                               ──► another set is attached?            objection: at boot there would be two
//!                               ──► anything else                       a new set, in `make`
//! ```

use super::{
    super::{
        answers::Storage,
        machine::{BlockDevice, By},
        objection::Objection,
    },
    Item, Task, file_system, labelled, list, make,
};
use atlas_model::{
    RefusalCode,
    survey::{SetKind, Survey},
};
use std::{collections::BTreeSet, path::PathBuf};

/// The machine's disks as far as the set is concerned.
#[derive(Clone, Debug, Default)]
pub struct SetFacts {
    /// All superblocks of the machine.
    pub survey: Survey,
    /// The disks that the set lies on or is to lie on; the members of an array that was named.
    pub parts: Vec<BlockDevice>,
    /// The device for the file system, where it is there already: an array that runs, or the disk of a hardware RAID.
    pub top: Option<BlockDevice>,
    /// What is mounted at /unbound.
    pub mounted: Option<PathBuf>,
    /// Files in the directory /unbound, which a mount would hide.
    pub hidden_files: usize,
}

/// What is to become of the disks.
#[derive(Clone, Debug, Default)]
pub struct SetPlan {
    /// In order.
    pub items: Vec<Item>,
    /// The devices whose content would be lost, with what it is. To go on, the operator has to say twice that it may.
    pub to_erase: Vec<(PathBuf, String)>,
}

/// Plans the way to a mounted Unbound file system.
pub fn plan_set(storage: &Storage, facts: &SetFacts) -> Result<SetPlan, Vec<Objection>> {
    let mut plan = if is_the_attached_set(facts)? {
        take_attached(facts)?
    } else {
        match storage {
            Storage::Disks { degraded, .. } => make::create(facts, *degraded)?,
            Storage::Array(_) => make::take_array(facts)?,
            Storage::Device(_) => make::take_disk(facts)?,
            Storage::Attached => return Err(Objection::new("no Unbound set is attached").into()),
        }
    };
    plan.items.push(plan_mount(facts)?);
    Ok(plan)
}

pub(super) fn shown(devices: &[BlockDevice]) -> String {
    list(devices.iter().map(|device| device.path.display()))
}

/// Whether the named devices are the set that is attached; another one beside them is in the way.
fn is_the_attached_set(facts: &SetFacts) -> Result<bool, Objection> {
    let attached = facts.survey.atlas_devices();
    let named: BTreeSet<String> = facts.parts.iter().map(|part| part.path.display().to_string()).collect();
    if attached.is_empty() {
        return Ok(false);
    }
    if attached == named {
        return Ok(true);
    }
    let attached_list = list(&attached);
    let objection = match attached.intersection(&named).next() {
        Some(one) => Objection::new(format!("{one} belongs to an Unbound set, which consists of {attached_list}"))
            .hint("name exactly its disks to take it over"),
        None => {
            Objection::new(format!("another Unbound set is attached: {attached_list}; a server boots with one only"))
                .hint("leave --disks, --array and --device out to take that set, or remove its disks from this machine")
        }
    };
    Err(objection
        .hint("a set that is no longer needed is erased by hand: mdadm --stop, then wipefs -a on each of its disks"))
}

/// The set is there: whatever is left to do on the way to its file system.
fn take_attached(facts: &SetFacts) -> Result<SetPlan, Vec<Objection>> {
    let set = format!("the Unbound set on {}", shown(&facts.parts));
    let mut plan = SetPlan::default();
    let (kind, label) = match facts.survey.choose(None) {
        Ok(choice) => (choice.kind, Some(choice.ext4.label)),
        Err(refusal) => match unfinished(facts) {
            Some(kind) if refusal.code == RefusalCode::FilesystemBroken => (kind, None),
            _ => {
                let found = refusal.found.iter().map(|fact| format!("\n    {fact}")).collect::<String>();
                let what = format!("{set} cannot be used: {}{found}", refusal.what);
                return Err(Objection { what, hints: refusal.remedy }.into());
            }
        },
    };
    plan.items.push(match kind {
        SetKind::Mirror { uuid, devices } if facts.top.is_none() => {
            Item::todo(set, Task::Assemble { uuid, devices: devices.into_iter().map(PathBuf::from).collect() })
        }
        _ => Item::was_so(set),
    });
    match label {
        Some(label) => plan.items.push(labelled(Some(&label))),
        None => {
            let holds = facts.top.as_ref().and_then(|top| top.holds.as_ref()).filter(|holds| holds.kind.is_some());
            let lost = holds.map(|holds| facts.parts.iter().map(|part| (part.path.clone(), holds.to_string())));
            plan.to_erase.extend(lost.into_iter().flatten());
            // Of an array that does not run nobody knows yet what it holds; it is looked at again when it does.
            let is_known = facts.top.is_some();
            plan.items.push(Item::todo(file_system(), Task::MakeFileSystem { over_anything: is_known }));
        }
    }
    Ok(plan)
}

/// A mirror of this program's making, cut off before it had a file system.
fn unfinished(facts: &SetFacts) -> Option<SetKind> {
    let is_part = |device: &String| facts.parts.iter().any(|part| part.path.as_os_str() == device.as_str());
    let members: Vec<_> = facts.survey.members.iter().filter(|member| is_part(&member.device)).collect();
    let uuid = members.first()?.md.set_uuid;
    let is_empty = members.iter().all(|member| member.ext4.is_none() && member.md.set_uuid == uuid);
    let devices = members.iter().map(|member| member.device.clone()).collect();
    is_empty.then_some(SetKind::Mirror { uuid, devices })
}

fn plan_mount(facts: &SetFacts) -> Result<Item, Objection> {
    let what = "the Unbound file system at /unbound";
    match (&facts.mounted, &facts.top) {
        (Some(mounted), Some(top)) if *mounted == top.path => Ok(Item::was_so(what)),
        (Some(mounted), _) => Err(Objection::new(format!("{} is mounted at /unbound already", mounted.display()))
            .hint("unmount it, and take its line out of /etc/fstab")),
        (None, _) if facts.hidden_files > 0 => Err(Objection::new(
            "the directory /unbound of the root file system is not empty; the set would hide its files",
        )
        .hint("move its files elsewhere; afterwards, with the set mounted, to where they belong")),
        (None, Some(top)) if top.uses.iter().any(|used| matches!(used.by, By::Mount(_))) => {
            Err(Objection::new(format!("the Unbound set is mounted elsewhere: {}", list(&top.uses)))
                .hint("unmount it there"))
        }
        (None, _) => Ok(Item::todo(what, Task::Mount)),
    }
}

#[cfg(test)]
mod tests {
    use super::{
        super::testing::{disk, disks, hardware, holding, pair, refused, tasks, used, whats},
        *,
    };
    use atlas_model::{UNBOUND_LABEL, ext4, md, survey::Single};

    #[test]
    fn a_set_that_is_mounted_is_left_as_it_is_whatever_may_be_erased() {
        let member = |name| BlockDevice {
            uses: used(name, By::Holder("md127".into())).uses,
            ..holding(name, "linux_raid_member", None)
        };
        let (storage, mut facts) = disks(vec![member("vdc"), member("vdb")]);
        facts.survey = pair(Some(UNBOUND_LABEL));
        facts.top = Some(used("md127", By::Mount("/unbound".into())));
        facts.mounted = Some("/dev/md127".into());
        let plan = plan_set(&storage, &facts).unwrap();
        assert_eq!((tasks(&plan).len(), plan.to_erase.len()), (0, 0), "{:?}", plan.items);
        let attached = plan_set(&Storage::Attached, &facts).unwrap();
        assert_eq!(attached.items, plan.items);
    }

    #[test]
    fn a_set_that_does_not_run_is_started_by_its_uuid() {
        let (storage, mut facts) = disks(vec![disk("vdb"), disk("vdc")]);
        facts.survey = pair(Some(UNBOUND_LABEL));
        let plan = plan_set(&storage, &facts).unwrap();
        let devices = vec!["/dev/vdb".into(), "/dev/vdc".into()];
        assert_eq!(tasks(&plan), [&Task::Assemble { uuid: md::testing::half(0).set_uuid, devices }, &Task::Mount]);
    }

    #[test]
    fn a_mirror_that_was_cut_off_before_its_file_system_is_finished() {
        let (storage, mut facts) = disks(vec![disk("vdb"), disk("vdc")]);
        facts.survey = pair(None);
        let stopped = plan_set(&storage, &facts).unwrap();
        assert!(matches!(tasks(&stopped)[0], Task::Assemble { .. }));
        assert_eq!(tasks(&stopped)[1], &Task::MakeFileSystem { over_anything: false });

        facts.top = Some(disk("md127"));
        let running = plan_set(&storage, &facts).unwrap();
        assert_eq!(tasks(&running), [&Task::MakeFileSystem { over_anything: true }, &Task::Mount]);
        assert!(running.to_erase.is_empty());

        facts.top = Some(holding("md127", "xfs", None));
        let holds_something = plan_set(&storage, &facts).unwrap();
        assert_eq!(holds_something.to_erase.len(), 2, "each of its disks must be named");
    }

    #[test]
    fn another_set_or_a_part_of_one_is_in_the_way() {
        let (storage, mut facts) = disks(vec![disk("vdd"), disk("vde")]);
        facts.survey = pair(Some(UNBOUND_LABEL));
        assert!(refused((storage, facts)).contains("another Unbound set is attached: /dev/vdb, /dev/vdc"));
        let (storage, mut facts) = disks(vec![disk("vdb"), disk("vde")]);
        facts.survey = pair(Some(UNBOUND_LABEL));
        assert!(refused((storage, facts)).contains("/dev/vdb belongs to an Unbound set"));
    }

    #[test]
    fn a_set_that_a_boot_would_refuse_is_refused_with_its_remedy() {
        let (storage, mut facts) = disks(vec![disk("vdb")]);
        facts.survey = pair(Some(UNBOUND_LABEL));
        facts.survey.members.pop();
        let objections = plan_set(&storage, &facts).unwrap_err();
        assert!(whats(&objections).contains("A member of the Unbound set is missing"), "{objections:?}");
        assert!(objections[0].hints.iter().any(|hint| hint.contains("attach all disks")), "{objections:?}");
    }

    #[test]
    fn a_disk_of_a_hardware_raid_that_is_the_set_already_is_left_as_it_is() {
        let (storage, mut facts) = hardware(used("sdb", By::Mount("/unbound".into())));
        let ext4 = ext4::testing::superblock(UNBOUND_LABEL, 5);
        facts.survey.singles.push(Single { device: "/dev/sdb".into(), serial: None, ext4 });
        facts.mounted = Some("/dev/sdb".into());
        assert_eq!(tasks(&plan_set(&storage, &facts).unwrap()), Vec::<&Task>::new());
    }

    #[test]
    fn nothing_is_mounted_over_files_or_beside_another_mount() {
        let (storage, mut facts) = disks(vec![disk("vdb"), disk("vdc")]);
        facts.hidden_files = 1;
        assert!(refused((storage.clone(), facts.clone())).contains("would hide its files"));
        (facts.hidden_files, facts.mounted) = (0, Some("/dev/vdx".into()));
        assert!(refused((storage, facts)).contains("/dev/vdx is mounted at /unbound already"));
    }
}
