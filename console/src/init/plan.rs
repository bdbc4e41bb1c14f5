//! From answers and facts to tasks; nothing here looks at the machine or changes it.
//!
//! ```text
//!   the devices that were named ──► exactly the attached Unbound set?   take it as it is: start, finish, mount what is left to do
//!                               ──► another set is attached?            objection: at boot there would be two
//!                               ──► disks: a new mirror                 each unused, of one size, empty (or erased, told twice)
//!                               ──► an array or a disk: take it         its ext4 is labelled and keeps its data
//! ```
//!
//! Invariant: a set that is there is never erased or made anew, whatever was told.

use super::{
    answers::{Answers, Storage},
    machine::{BlockDevice, By, size},
    objection::Objection,
};
use atlas_model::{
    MasterConfig, RefusalCode, UNBOUND_LABEL,
    md::MdUuid,
    survey::{SetKind, Survey},
};
use atlas_sid::BoundData;
use std::{
    collections::BTreeSet,
    fmt,
    path::{Path, PathBuf},
};

/// Two disks are of one size when the larger is at most one part in this many larger.
const SIZE_TOLERANCE: u64 = 100;
/// Smaller, there is no room for md's and the file system's own data, in bytes.
const SMALLEST: u64 = 32 << 20;

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

/// Something to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Task {
    /// Remove what marks the content of this device.
    Erase(PathBuf),
    /// Make the mirror.
    CreateMirror {
        /// Of these.
        disks: Vec<PathBuf>,
        /// The second is missing.
        degraded: bool,
    },
    /// Start the mirror that is there.
    Assemble {
        /// The set.
        uuid: MdUuid,
        /// Its members.
        devices: Vec<PathBuf>,
    },
    /// Make the file system.
    MakeFileSystem {
        /// Also where something seems to be there: the device was made just now, or its content may be lost.
        over_anything: bool,
    },
    /// Label the file system that is there.
    Label,
    /// Mount it.
    Mount,
    /// Write MasterConfig.
    MasterConfig,
    /// Write the first path lists of the Role.
    PathLists,
    /// Write EnvID and Cluster.
    BoundData,
    /// Say on the root file system that ATLAS decides about the network.
    Marker,
    /// Put atlas-boot into every initramfs.
    Initramfs,
}

impl Task {
    /// What the task did, as a word of the report.
    pub fn done(&self) -> &'static str {
        match self {
            Task::Erase(_) => "erased",
            Task::CreateMirror { .. } | Task::MakeFileSystem { .. } => "made",
            Task::Assemble { .. } => "started",
            Task::Label => "labelled",
            Task::Mount => "mounted",
            Task::MasterConfig | Task::PathLists | Task::BoundData | Task::Marker | Task::Initramfs => "written",
        }
    }
}

/// A part of the result, and the task that is needed for it, if it was not so already.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Item {
    /// In words.
    pub what: String,
    /// `None`: it was so already.
    pub task: Option<Task>,
}

impl Item {
    /// Something is left to do.
    fn todo(what: impl Into<String>, task: Task) -> Item {
        Item { what: what.into(), task: Some(task) }
    }

    /// Nothing is left to do.
    fn was_so(what: impl Into<String>) -> Item {
        Item { what: what.into(), task: None }
    }

    fn needed(is_so: bool, what: impl Into<String>, task: Task) -> Item {
        if is_so { Item::was_so(what) } else { Item::todo(what, task) }
    }
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
            Storage::Disks { degraded, .. } => create(facts, *degraded)?,
            Storage::Array(_) => take_array(facts)?,
            Storage::Device(_) => take_disk(facts)?,
            Storage::Attached => return Err(Objection::new("no Unbound set is attached").into()),
        }
    };
    plan.items.push(plan_mount(facts)?);
    Ok(plan)
}

fn list<T: fmt::Display>(things: impl IntoIterator<Item = T>) -> String {
    things.into_iter().map(|thing| thing.to_string()).collect::<Vec<_>>().join(", ")
}

fn shown(devices: &[BlockDevice]) -> String {
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

fn file_system() -> String {
    format!("an ext4 file system, label {UNBOUND_LABEL}")
}

/// The ext4 file system that is there, with the label that it has.
fn labelled(label: Option<&str>) -> Item {
    match label {
        Some(UNBOUND_LABEL) => Item::was_so(file_system()),
        _ => Item::todo(format!("the ext4 file system as {UNBOUND_LABEL}; its data stays"), Task::Label),
    }
}

fn create(facts: &SetFacts, degraded: bool) -> Result<SetPlan, Vec<Objection>> {
    let mut objections: Vec<Objection> = facts.parts.iter().filter_map(in_use).collect();
    for disk in facts.parts.iter().filter(|disk| disk.size_bytes < SMALLEST) {
        objections.push(Objection::new(format!(
            "{} is too small: {}, at least {} is needed",
            disk.named.display(),
            size(disk.size_bytes),
            size(SMALLEST)
        )));
    }
    if let [a, b] = facts.parts.as_slice() {
        objections.extend(not_a_pair(a, b));
    }
    if !objections.is_empty() {
        return Err(objections);
    }
    let to_erase: Vec<(PathBuf, String)> =
        facts.parts.iter().filter_map(|disk| Some((disk.path.clone(), disk.holds.as_ref()?.to_string()))).collect();
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

fn take_array(facts: &SetFacts) -> Result<SetPlan, Vec<Objection>> {
    let Some(array) = &facts.top else { return Err(Objection::new("the array does not run").into()) };
    let named = array.named.display();
    let is_part = |device: &str| facts.parts.iter().any(|part| part.path.as_os_str() == device);
    let members = facts.survey.members.iter().filter(|member| is_part(&member.device));
    let plain = members.filter(|member| member.md.level == 1 && !member.md.exotic).count();
    if array.raid_level.as_deref() != Some("raid1") || plain == 0 || plain != facts.parts.len() {
        let what = format!("{named} is no plain RAID-1 array with metadata 1.x on disks or partitions");
        return Err(Objection::new(what).hint("'mdadm --detail' shows what it is").into());
    }
    take(array, facts)
}

fn take_disk(facts: &SetFacts) -> Result<SetPlan, Vec<Objection>> {
    let Some(disk) = &facts.top else { return Err(Objection::new("no disk was named").into()) };
    if !disk.parts.is_empty() || disk.raid_level.is_some() {
        let what = format!("{} is built of other devices", disk.named.display());
        return Err(Objection::new(what).hint("name the disk itself; for an md array use --array").into());
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

/// What this server's own disk says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Bound {
    /// It was never set up.
    Nothing,
    /// This.
    Is(BoundData),
    /// A part is lost or damaged; it is written anew.
    Broken(String),
}

/// What the Unbound file system has of this Role.
#[derive(Clone, Debug, Default)]
pub struct SidFacts {
    /// Who it makes of a server.
    pub config: Option<MasterConfig>,
    /// Whether there is a directory of the Role, with Snapshots or path lists.
    pub has_role: bool,
}

/// The files as they are.
#[derive(Clone, Debug)]
pub struct DataFacts {
    /// The Bound Data.
    pub bound: Bound,
    /// Whether `/etc/atlas/initialised` is there.
    pub marker: bool,
    /// The Sync and Identity Data; all missing while the set is not mounted.
    pub sid: SidFacts,
    /// The installed kernels whose initramfs lacks atlas-boot.
    pub kernels_without: Vec<String>,
    /// How many kernels are installed.
    pub kernels: usize,
}

/// Plans what is written to the two file systems; what contradicts the answers is an objection that says what is there.
pub fn plan_data(answers: &Answers, facts: &DataFacts) -> Result<Vec<Item>, Vec<Objection>> {
    let contradictions = contradictions(answers, facts);
    if !contradictions.is_empty() {
        return Err(contradictions);
    }
    let (config, env_version) = (&answers.config, answers.env_version);
    let (role, cluster) = (config.role(), config.cluster());
    let partners = list(config.partners().iter().map(|partner| format!("{}={}", partner.role, partner.host)));
    let bound_is_so = matches!(&facts.bound, Bound::Is(_));
    Ok(vec![
        Item::needed(
            facts.sid.config.is_some(),
            format!("MasterConfig: {role} of cluster {cluster}, partners {partners}"),
            Task::MasterConfig,
        ),
        Item::needed(facts.sid.has_role, format!("the path lists of {role}"), Task::PathLists),
        Item::needed(
            bound_is_so,
            format!("/opt/atlas: EnvID {}, cluster {cluster}", env_version.number()),
            Task::BoundData,
        ),
        Item::needed(facts.marker, "/etc/atlas/initialised: the network waits for the role", Task::Marker),
        Item::needed(
            facts.kernels_without.is_empty(),
            match facts.kernels {
                1 => "atlas-boot in the initramfs".to_owned(),
                count => format!("atlas-boot in the initramfs of each of {count} kernels"),
            },
            Task::Initramfs,
        ),
    ])
}

fn contradictions(answers: &Answers, facts: &DataFacts) -> Vec<Objection> {
    let mut objections = Vec::new();
    let wanted = &answers.config;
    if let Bound::Is(bound) = &facts.bound {
        if &bound.cluster != wanted.cluster() {
            objections.push(
                Objection::new(format!(
                    "this server belongs to cluster '{}' already, not to '{}'",
                    bound.cluster,
                    wanted.cluster()
                ))
                .hint("if it is to join the other cluster, remove /opt/atlas/Cluster and /opt/atlas/EnvID first"),
            );
        }
        if bound.env_id != answers.env_version {
            objections.push(
                Objection::new(format!("this server is of {} already, not of {}", bound.env_id, answers.env_version))
                    .hint("after an upgrade of the environment, write its new number to /opt/atlas/EnvID"),
            );
        }
    }
    let Some(config) = &facts.sid.config else { return objections };
    if config.cluster() != wanted.cluster() {
        objections.push(
            Objection::new(format!(
                "the Unbound set belongs to cluster '{}', not to '{}'",
                config.cluster(),
                wanted.cluster()
            ))
            .hint("check that these are the right disks"),
        );
    }
    if config.role() != wanted.role() {
        objections.push(
            Objection::new(format!("the Unbound set makes a server {}, not {}", config.role(), wanted.role()))
                .hint("check that these are the right disks; each server has a set of its own"),
        );
    } else if config.partners() != wanted.partners() {
        let there = list(config.partners().iter().map(|partner| format!("{}={}", partner.role, partner.host)));
        objections.push(
            Objection::new(format!("MasterConfig has other partners: {there}"))
                .hint("to change them, edit /unbound/SID_DATA/MasterConfig"),
        );
    }
    objections
}

#[cfg(test)]
mod tests {
    use super::{
        super::machine::{Holds, Use},
        *,
    };
    use atlas_model::{
        EnvVersion, ext4, md,
        survey::{Member, Single},
    };

    fn disk(name: &str) -> BlockDevice {
        BlockDevice {
            named: format!("/dev/{name}").into(),
            path: format!("/dev/{name}").into(),
            disk: name.into(),
            size_bytes: 10 << 30,
            uses: vec![],
            holds: None,
            parts: vec![],
            raid_level: None,
        }
    }

    fn holding(name: &str, kind: &str, label: Option<&str>) -> BlockDevice {
        let holds = Holds { kind: Some(kind.into()), label: label.map(Into::into) };
        BlockDevice { holds: Some(holds), ..disk(name) }
    }

    fn used(name: &str, by: By) -> BlockDevice {
        BlockDevice { uses: vec![Use { of: name.into(), by }], ..disk(name) }
    }

    fn disks(parts: Vec<BlockDevice>) -> (Storage, SetFacts) {
        let degraded = parts.len() == 1;
        let storage = Storage::Disks { disks: parts.iter().map(|part| part.named.clone()).collect(), degraded };
        (storage, SetFacts { parts, ..SetFacts::default() })
    }

    /// A healthy pair on vdb and vdc; `label`: that of its file system, if it has one.
    fn pair(label: Option<&str>) -> Survey {
        let member = |number: u32, device: &str| Member {
            device: device.into(),
            serial: None,
            md: md::testing::half(number),
            ext4: label.map(|label| ext4::testing::superblock(label, 5)),
        };
        Survey { members: vec![member(0, "/dev/vdb"), member(1, "/dev/vdc")], ..Survey::default() }
    }

    fn whats(objections: &[Objection]) -> String {
        objections.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
    }

    fn refused((storage, facts): (Storage, SetFacts)) -> String {
        whats(&plan_set(&storage, &facts).unwrap_err())
    }

    fn tasks(plan: &SetPlan) -> Vec<&Task> {
        plan.items.iter().filter_map(|item| item.task.as_ref()).collect()
    }

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

    fn hardware(device: BlockDevice) -> (Storage, SetFacts) {
        let storage = Storage::Device(device.named.clone());
        (storage, SetFacts { parts: vec![device.clone()], top: Some(device), ..SetFacts::default() })
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
    fn a_disk_of_a_hardware_raid_that_is_the_set_already_is_left_as_it_is() {
        let (storage, mut facts) = hardware(used("sdb", By::Mount("/unbound".into())));
        let ext4 = ext4::testing::superblock(UNBOUND_LABEL, 5);
        facts.survey.singles.push(Single { device: "/dev/sdb".into(), serial: None, ext4 });
        facts.mounted = Some("/dev/sdb".into());
        assert_eq!(tasks(&plan_set(&storage, &facts).unwrap()), Vec::<&Task>::new());
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

    #[test]
    fn nothing_is_mounted_over_files_or_beside_another_mount() {
        let (storage, mut facts) = disks(vec![disk("vdb"), disk("vdc")]);
        facts.hidden_files = 1;
        assert!(refused((storage.clone(), facts.clone())).contains("would hide its files"));
        (facts.hidden_files, facts.mounted) = (0, Some("/dev/vdx".into()));
        assert!(refused((storage, facts)).contains("/dev/vdx is mounted at /unbound already"));
    }

    fn answers() -> Answers {
        let config = "format=1\ncluster='bakery'\nrole='PRI'\n[[partner]]\nrole='SEC1'\nhost='a'\n";
        Answers {
            config: MasterConfig::parse(config.as_bytes()).unwrap(),
            env_version: EnvVersion::OLDEST,
            storage: Storage::Attached,
            ident_paths: vec![],
            sync_paths: vec![],
        }
    }

    fn data(config: Option<&str>, bound: Bound) -> DataFacts {
        let config = config.map(|text| MasterConfig::parse(text.as_bytes()).unwrap());
        let has_role = config.is_some();
        let sid = SidFacts { config, has_role };
        DataFacts { bound, marker: true, sid, kernels_without: vec![], kernels: 1 }
    }

    #[test]
    fn what_contradicts_the_answers_is_told_as_it_is() {
        let bound = |env: u32, cluster: &str| {
            Bound::Is(BoundData { env_id: EnvVersion::try_from(env).unwrap(), cluster: cluster.parse().unwrap() })
        };
        let config = |cluster: &str, role: &str, partner: &str, host: &str| {
            format!("format=1\ncluster='{cluster}'\nrole='{role}'\n[[partner]]\nrole='{partner}'\nhost='{host}'\n")
        };
        let same = config("bakery", "PRI", "SEC1", "a");
        assert!(
            plan_data(&answers(), &data(Some(&same), bound(1, "bakery"))).unwrap().iter().all(|i| i.task.is_none())
        );
        for (there, bound, expected) in [
            (same.clone(), bound(1, "brewery"), "this server belongs to cluster 'brewery' already"),
            (same, bound(2, "bakery"), "this server is of Env2 already"),
            (config("brewery", "PRI", "SEC1", "a"), Bound::Nothing, "the Unbound set belongs to cluster 'brewery'"),
            (config("bakery", "SEC1", "PRI", "a"), Bound::Nothing, "the Unbound set makes a server SEC1, not PRI"),
            (config("bakery", "PRI", "SEC1", "b"), Bound::Nothing, "MasterConfig has other partners: SEC1=b"),
        ] {
            let objections = plan_data(&answers(), &data(Some(&there), bound)).unwrap_err();
            assert!(whats(&objections).contains(expected), "{objections:?}");
        }
    }

    #[test]
    fn a_kernel_without_atlas_boot_has_its_initramfs_made_anew() {
        let mut facts = data(None, Bound::Nothing);
        facts.kernels_without = vec!["/boot/initrd.img-6.1 lacks it".into()];
        let items = plan_data(&answers(), &facts).unwrap();
        assert!(items.iter().any(|item| item.task == Some(Task::Initramfs)));
    }
}
