//! What is known about the disks, and which of it belongs to an Unbound set.

use crate::{
    UNBOUND_ARRAY_NAME, UNBOUND_LABEL,
    ext4::Ext4Superblock,
    md::{MdSuperblock, MdUuid, Slot},
};
use std::collections::{BTreeMap, BTreeSet};

/// A device that is a member of an md array.
#[derive(Clone, Debug)]
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
#[derive(Clone, Debug)]
pub struct Single {
    /// `/dev/sdb`.
    pub device: String,
    /// What is written on the disk's label, if it says.
    pub serial: Option<String>,
    /// The superblock of the file system.
    pub ext4: Ext4Superblock,
}

/// Everything that was found on the block devices of the machine.
#[derive(Clone, Debug, Default)]
pub struct Survey {
    /// All md members, also those that are none of ATLAS's business.
    pub members: Vec<Member>,
    /// All devices with a bare ext4 file system.
    pub singles: Vec<Single>,
    /// Devices that could not be read, or carry a damaged superblock, with the reason.
    pub unreadable: Vec<(String, String)>,
    /// How many devices were looked at.
    pub looked_at: usize,
}

/// The set to start, decided.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SetChoice {
    /// What to start from.
    pub kind: SetKind,
    /// Members that are left out because they are behind, described.
    pub left_out: Vec<String>,
    /// Whether the set runs with fewer members than it has slots.
    pub degraded: bool,
    /// The file system, as seen on a fresh member.
    pub ext4: Ext4Superblock,
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

impl Survey {
    /// The devices that belong to an Unbound set, whatever their state: those that nothing but ATLAS may start.
    pub fn atlas_devices(&self) -> BTreeSet<String> {
        let members = self.sets().into_values().flatten().map(|member| member.device.clone());
        let singles = self.singles.iter().filter(|single| single.ext4.label == UNBOUND_LABEL);
        members.chain(singles.map(|single| single.device.clone())).collect()
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
