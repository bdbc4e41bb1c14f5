//! What is known about the disks, and which of it belongs to an Unbound set.

use crate::{
    UNBOUND_ARRAY_NAME, UNBOUND_LABEL,
    content::Content,
    ext4::Ext4Superblock,
    md::{MdSuperblock, MdUuid, Slot},
    old_md::OldMember,
    set_record::{MadeOf, RecordedMember, SetRecord},
    time::utc,
};
use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
};

/// What the clocks of two servers may differ by, in seconds.
const CLOCKS_DIFFER: u64 = 600;
/// 2020: no set was written earlier.
const FIRST: u64 = 1_577_836_800;

/// A device that is a member of an md array.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// `/dev/vdb`.
    pub device: String,
    /// What is written on the disk's label, if it says.
    pub serial: Option<String>,
    /// Its own superblock.
    pub md: MdSuperblock,
    /// The superblock of the file system at the beginning of its data.
    pub ext4: Option<Ext4Superblock>,
}

/// A device that carries the file system itself, as a hardware RAID shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Single {
    /// `/dev/sdb`.
    pub device: String,
    /// What is written on the disk's label, if it says.
    pub serial: Option<String>,
    /// The superblock of the file system.
    pub ext4: Ext4Superblock,
}

/// A disk, a partition, or what the device mapper builds of them, as the kernel shows it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Device {
    /// `/dev/vdb`.
    pub path: PathBuf,
    /// What is written on the disk's label, if it says.
    pub serial: Option<String>,
    /// The name that the disk has in the whole world, if it says.
    pub wwid: Option<String>,
    /// Where it is plugged in: `SATA port 3`, `enclosure slot 4`.
    pub place: Option<String>,
    /// Its size in bytes.
    pub size_bytes: u64,
    /// Whether it takes no writes.
    pub read_only: bool,
    /// Of a partition: its disk.
    pub disk: Option<PathBuf>,
    /// Of a partition: whether its type says that it is part of a RAID.
    pub is_raid_partition: bool,
    /// What it is, where the device mapper builds it.
    pub mapping: Option<Mapping>,
    /// What the kernel builds of it: `dm-0`, `md127`.
    pub holders: Vec<String>,
    /// What lies on it, [`Survey::members`] and [`Survey::singles`] apart.
    pub traces: Vec<Trace>,
    /// Of an ext4 file system with our label: whether it has a directory SID_DATA, where that can be said.
    pub has_sid_data: Option<bool>,
    /// The record in it of what its set is made of, or why it cannot be read.
    pub record: Option<Result<SetRecord, String>>,
}

/// A device of the device mapper.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mapping {
    /// What builds it.
    pub by: Mapper,
    /// Its name below `/dev/mapper`.
    pub name: String,
}

/// What uses the device mapper.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mapper {
    /// dm-crypt.
    Luks,
    /// The logical volume manager.
    Lvm,
    /// Several paths to one disk.
    Multipath,
    /// Something else.
    Other,
}

impl Mapper {
    /// By the UUID that its tool gives a mapping, such as `CRYPT-LUKS2-…`.
    pub fn of_uuid(uuid: &str) -> Mapper {
        let beginnings = [("CRYPT-", Mapper::Luks), ("LVM-", Mapper::Lvm), ("mpath-", Mapper::Multipath)];
        // A partition of one: `part1-mpath-…`.
        let uuid = uuid.strip_prefix("part").and_then(|rest| rest.split_once('-')).map_or(uuid, |(_, rest)| rest);
        beginnings.into_iter().find(|(beginning, _)| uuid.starts_with(beginning)).map_or(Mapper::Other, |(_, by)| by)
    }
}

/// Something that was found on a device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Trace {
    /// A mark that is known.
    Content(Content),
    /// The same, at the beginning of a member's data, where the file system should be.
    Inside(Content),
    /// It is a member of an array of format 0.90.
    OldMd(OldMember),
    /// An Unbound file system where a member has it, without the member's superblock.
    Headless {
        /// So many bytes into the device.
        at_bytes: u64,
        /// The superblock of the file system.
        ext4: Ext4Superblock,
    },
    /// On a device that the device mapper builds: a member of an array, or a file system.
    Mapped {
        /// The member's superblock, where it is one.
        md: Option<MdSuperblock>,
        /// That of the file system.
        ext4: Option<Ext4Superblock>,
    },
    /// A superblock of md that cannot be one.
    Damaged(String),
    /// It could not be read, and what lies there is unknown.
    Unreadable(String),
    /// Zeros, wherever something known would have its mark.
    Blank,
}

/// Something that has disks, and is not served by a driver of this system: a controller, or a layer above one that has its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Controller {
    /// What it is: `PCI storage controller`, `SCSI disk`.
    pub kind: &'static str,
    /// Its address on its bus.
    pub address: String,
    /// As it says itself: vendor and device, as `1000:0072`, or a model.
    pub id: String,
    /// The module that serves it, where there is but one.
    pub module: Option<&'static str>,
}

/// Everything that was found on the block devices of the machine.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Survey {
    /// All md members, also those that are none of ATLAS's business.
    pub members: Vec<Member>,
    /// All devices with a bare ext4 file system.
    pub singles: Vec<Single>,
    /// All devices, those among them.
    pub devices: Vec<Device>,
    /// Storage controllers without a driver.
    pub controllers: Vec<Controller>,
    /// Whether all was looked at, not only what decides.
    pub is_thorough: bool,
    /// What the Bound disk says of the set that this server was initialised with.
    pub bound_record: Option<SetRecord>,
}

/// The set to start, decided.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SetChoice {
    /// What to start from.
    pub kind: SetKind,
    /// The devices to start it from, with serial number and place.
    pub disks: Vec<String>,
    /// The other disks, one line for each.
    pub beside: Vec<String>,
    /// Members that are left out, with the reason.
    pub left_out: Vec<String>,
    /// Whether the set runs with fewer members than it has slots.
    pub degraded: bool,
    /// The file system, as seen on a fresh member.
    pub ext4: Ext4Superblock,
    /// Seconds since 1970 of the last write, by the clock of the server that did it.
    pub written: u64,
    /// What somebody should look at although the set may be started.
    pub warnings: Vec<String>,
}

/// What a set consists of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SetKind {
    /// An md mirror.
    Mirror {
        /// Its UUID.
        uuid: MdUuid,
        /// The devices to start it from.
        devices: Vec<String>,
    },
    /// One device.
    Single {
        /// The device.
        device: String,
    },
}

impl SetChoice {
    /// A warning where the last write lies in the future of this server's clock, by more than clocks differ.
    pub fn of_the_future(&self, now: u64) -> Option<String> {
        let ahead = self.written.checked_sub(now).filter(|ahead| *ahead > CLOCKS_DIFFER)?;
        Some(format!(
            "the Unbound set was last written {} UTC, {} in the future of this server's clock: one of the two clocks is wrong",
            utc(self.written),
            match ahead {
                ..7200 => format!("{} minutes", ahead.div_ceil(60)),
                _ => format!("{} hours", ahead.div_ceil(3600)),
            }
        ))
    }
}

impl Survey {
    /// Members whose last write lies in the future of this server's clock, or before there was an ATLAS: a clock was wrong, and their times say
    /// nothing about who was written last.
    pub fn wrong_clocks(&self, now: u64) -> Vec<String> {
        let of_set = self.sets().into_values().flatten();
        let wrong = of_set.filter_map(|member| {
            let when = match member.md.utime {
                time if time > now.saturating_add(CLOCKS_DIFFER) => "in the future of this server's clock",
                time if time < FIRST => "before there was an ATLAS",
                _ => return None,
            };
            let name = self.name_of(&member.device, member.serial.as_deref());
            Some(format!(
                "{name}: {} UTC is {when}: one of the two clocks is wrong, and this time says nothing",
                utc(member.md.utime)
            ))
        });
        wrong.collect()
    }
}

impl Member {
    pub(super) fn is_atlas(&self) -> bool {
        self.md.name == UNBOUND_ARRAY_NAME || self.ext4.as_ref().is_some_and(|fs| fs.label == UNBOUND_LABEL)
    }

    /// The slot that it fills.
    pub(super) fn active(&self) -> Option<u16> {
        match self.md.slot() {
            Slot::Active(slot) => Some(slot),
            Slot::Other => None,
        }
    }
}

impl Device {
    /// Whether it is part of a RAID that md or the firmware keeps at its end.
    pub(super) fn raid_at_its_end(&self) -> Option<&Trace> {
        let is_raid = |trace: &&Trace| match trace {
            Trace::OldMd(_) => true,
            Trace::Content(content) => matches!(content.kind, crate::content::Kind::FirmwareRaid(_)),
            _ => false,
        };
        self.traces.iter().find(is_raid)
    }

    /// Whether both are the same disk, reached by two ways.
    pub(super) fn is_same_disk_as(&self, other: &Device) -> bool {
        let same = |a: &Option<String>, b: &Option<String>| a.is_some() && a == b;
        let has_both_names = self.wwid.is_some() && other.wwid.is_some();
        let is_same = if has_both_names { same(&self.wwid, &other.wwid) } else { same(&self.serial, &other.serial) };
        is_same && self.size_bytes == other.size_bytes && self.path != other.path
    }
}

impl Survey {
    /// The device of this path.
    pub(super) fn device(&self, path: impl AsRef<Path>) -> Option<&Device> {
        self.devices.iter().find(|device| device.path == path.as_ref())
    }

    /// The devices that belong to an Unbound set, whatever their state: those that nothing but ATLAS may start.
    pub fn atlas_devices(&self) -> BTreeSet<String> {
        let members = self.sets().into_values().flatten().chain(self.of_the_record());
        members
            .map(|member| member.device.clone())
            .chain(self.candidates().into_iter().map(|single| single.device.clone()))
            .collect()
    }

    /// The bare file systems that may be an Unbound set: those with our label, but for one that certainly has no SID_DATA. It may be
    /// anybody's stick, and must not be taken while the set is still on its way.
    pub(super) fn candidates(&self) -> Vec<&Single> {
        let labelled = self.singles.iter().filter(|single| single.ext4.label == UNBOUND_LABEL);
        labelled.filter(|single| !self.is_without_data(single) && !self.is_inside_a_member(&single.device)).collect()
    }

    /// Whether it is a partition of a disk that is itself a member: what an old partition table shows there is a part of that member.
    pub(super) fn is_inside_a_member(&self, device: &str) -> bool {
        let disk = self.device(device).and_then(|device| device.disk.as_deref());
        disk.is_some_and(|disk| self.members.iter().any(|member| Path::new(&member.device) == disk))
    }

    /// What was found on a device, but for what it shows of its partitions: the file system of a member lies further in, seen from the whole disk,
    /// and its superblock is that of the partition.
    pub(super) fn traces_of<'s>(&'s self, device: &'s Device) -> impl Iterator<Item = &'s Trace> {
        let is_headless = |trace: &Trace| matches!(trace, Trace::Headless { .. });
        let is_known = |part: &&Device| {
            let path = part.path.to_string_lossy();
            part.disk.as_deref() == Some(&device.path)
                && (part.traces.iter().any(is_headless)
                    || self.members.iter().any(|member| member.device == path)
                    || self.singles.iter().any(|single| single.device == path))
        };
        let is_of_a_partition = self.devices.iter().any(|part| is_known(&part));
        device.traces.iter().filter(move |trace| !(is_of_a_partition && is_headless(trace)))
    }

    /// The members that nothing but the record on the Bound disk shows to be this server's: neither md's name nor the label does.
    pub(super) fn of_the_record(&self) -> Vec<&Member> {
        let Some(record) = &self.bound_record else { return vec![] };
        let sets = self.sets();
        let is_recorded = |member: &&Member| {
            let file_system = member.ext4.as_ref().map(Ext4Superblock::uuid_text);
            file_system.as_ref() == Some(&record.file_system) && !sets.contains_key(&member.md.set_uuid)
        };
        self.members.iter().filter(is_recorded).collect()
    }

    /// Whether it has our label and certainly no Unbound Data.
    pub(super) fn is_without_data(&self, single: &Single) -> bool {
        let device = self.device(&single.device);
        single.ext4.label == UNBOUND_LABEL && single.ext4.clean && device.is_some_and(|d| d.has_sid_data == Some(false))
    }

    /// What is written down of how the chosen set is made.
    pub fn record_of(&self, choice: &SetChoice) -> SetRecord {
        let (kind, devices) = match &choice.kind {
            SetKind::Mirror { devices, .. } => (MadeOf::Mirror, devices.as_slice()),
            SetKind::Single { device } => (MadeOf::Single, std::slice::from_ref(device)),
        };
        let found = devices.iter().filter_map(|path| self.device(path));
        let members =
            found.map(|device| RecordedMember { serial: device.serial.clone(), size_bytes: device.size_bytes });
        let mut members: Vec<RecordedMember> = members.collect();
        // The kernel names disks in another order at every boot; the record stays the same.
        members.sort_by(|a, b| (&a.serial, a.size_bytes).cmp(&(&b.serial, b.size_bytes)));
        SetRecord::new(kind, choice.ext4.uuid_text(), members)
    }

    /// Whether the two devices are one disk, reached by two paths.
    pub fn are_one_disk(&self, a: &Path, b: &Path) -> bool {
        matches!((self.device(a), self.device(b)), (Some(a), Some(b)) if a.wwid.is_some() && a.is_same_disk_as(b))
    }

    /// The member of an Unbound set that a person calls so: by its device, its serial number, or the UUID that md gave it.
    pub fn member_called(&self, name: &str) -> Option<&Member> {
        let is_called = |m: &&&Member| {
            m.device == name || m.serial.as_deref() == Some(name) || m.md.device_uuid.to_string() == name
        };
        let sets = self.sets();
        let mut called = sets.values().flatten().filter(is_called).copied();
        // A dock may give all its disks one serial number.
        called.next().filter(|_| called.next().is_none())
    }

    /// All members of each array of which at least one member is recognised.
    pub(super) fn sets(&self) -> BTreeMap<MdUuid, Vec<&Member>> {
        let ours: BTreeSet<MdUuid> = self.members.iter().filter(|m| m.is_atlas()).map(|m| m.md.set_uuid).collect();
        let mut sets = BTreeMap::<MdUuid, Vec<&Member>>::new();
        for member in self.members.iter().filter(|m| ours.contains(&m.md.set_uuid)) {
            sets.entry(member.md.set_uuid).or_default().push(member);
        }
        sets
    }
}
