//! How md writes its superblocks. `real_md.rs` holds it against the kernel's own.
//!
//! - *busy*: before the first write after a rest, the event count rises by one on all members, and the set counts as in use
//! - *rest*: a moment after the last write; of a whole set the count goes back to where it was, of a degraded one it rises again
//! - *changed*: members come or go, or the set is opened for writing: the count rises, and the table says who fills which slot now
//! - a member that is not there hears of none of it
//! - being filled, a member stands in everybody's table as if it were complete; it alone says that it is not

use crate::world::{DISKS, Data, Fault, Mask, World};
use atlas_model::{
    UNBOUND_ARRAY_NAME,
    md::{self, MdSuperblock, MdUuid, Slot},
};

const TABLE: usize = 6;
const GONE: u8 = 0xff;

/// What decides of a member's superblock.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Member {
    pub(crate) set: u8,
    /// Stays with this membership; a copy has the same.
    pub(crate) uuid: u8,
    pub(crate) number: u8,
    pub(crate) slots: u8,
    pub(crate) events: u8,
    pub(crate) utime: u8,
    pub(crate) clean: bool,
    pub(crate) rebuilding: bool,
    pub(crate) roles: [u8; TABLE],
}

impl Member {
    pub(crate) fn slot(&self) -> Option<u8> {
        Some(self.roles[self.number as usize]).filter(|slot| *slot != GONE)
    }

    /// Whether it believes that every slot is filled.
    pub(crate) fn is_whole(&self) -> bool {
        (0..self.slots).all(|slot| self.roles.contains(&slot))
    }

    /// How many members it lists.
    pub(crate) fn listed(&self) -> u32 {
        self.roles.iter().map(|slot| u32::from(*slot != GONE)).sum()
    }

    /// The superblock that the product sees.
    pub(crate) fn superblock(&self) -> MdSuperblock {
        MdSuperblock {
            set_uuid: MdUuid([self.set + 1; 16]),
            name: UNBOUND_ARRAY_NAME.into(),
            raid_disks: u32::from(self.slots),
            dev_number: u32::from(self.number),
            device_uuid: MdUuid([self.uuid; 16]),
            utime: 1_700_000_000 + u64::from(self.utime),
            events: u64::from(self.events),
            clean: self.clean,
            rebuilding: self.rebuilding,
            roles: self
                .roles
                .iter()
                .map(|slot| if *slot == GONE { Slot::Other } else { Slot::Active(u16::from(*slot)) })
                .collect(),
            ..md::testing::half(0)
        }
    }
}

/// What happens to an array.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Change {
    Busy,
    Rest,
    /// Members came, went, or became complete.
    Members,
}

/// The numbers of the disks in a set of disks.
pub(crate) fn disks_of(mask: Mask) -> impl Iterator<Item = usize> + Clone {
    (0..DISKS).filter(move |disk| mask & 1 << disk != 0)
}

impl World {
    fn md(&self, disk: usize) -> Option<Member> {
        self.disks[disk].member().copied()
    }

    fn md_mut(&mut self, disk: usize, change: impl FnOnce(&mut Member)) {
        if let crate::world::Content::Member(member, _) = &mut self.disks[disk].content {
            change(member);
        }
    }

    /// Writes the superblocks of the members that run as one array.
    pub(crate) fn md_update(&mut self, members: Mask, can_decrease: &mut bool, change: Change) {
        let Some(now) = disks_of(members).filter_map(|disk| self.md(disk)).max_by_key(|member| member.events) else {
            return;
        };
        let clean = match change {
            Change::Busy => false,
            Change::Rest => true,
            Change::Members => now.clean,
        };
        if change != Change::Members && clean == now.clean {
            return;
        }
        let mut roles = [GONE; TABLE];
        for member in disks_of(members).filter_map(|disk| self.md(disk)) {
            roles[member.number as usize] = member.slot().unwrap_or(GONE);
        }
        let is_degraded = !(0..now.slots).all(|slot| {
            disks_of(members).filter_map(|disk| self.md(disk)).any(|m| m.slot() == Some(slot) && !m.rebuilding)
        });
        let counts_back = change != Change::Members && !is_degraded;
        let events = if counts_back && clean && *can_decrease {
            *can_decrease = false;
            now.events - 1
        } else {
            *can_decrease = counts_back;
            now.events + 1
        };
        self.known.clock += 1;
        let utime = self.known.clock;
        for disk in disks_of(members) {
            self.md_mut(disk, |member| {
                *member = Member { events, utime, clean, roles, slots: now.slots, ..*member };
            });
        }
    }

    /// Those of `disks` that hold all of the data.
    pub(crate) fn complete(&self, disks: Mask) -> Mask {
        disks_of(disks)
            .filter(|disk| self.disks[*disk].member().is_none_or(|member| !member.rebuilding))
            .map(|disk| 1 << disk)
            .sum()
    }

    /// Makes a mirror of two slots from one or two disks.
    pub(crate) fn md_create(&mut self, disks: Mask, set: u8, data: Data) {
        let mut roles = [GONE; TABLE];
        disks_of(disks).enumerate().for_each(|(slot, _)| roles[slot] = slot as u8);
        self.known.clock += 1;
        let utime = self.known.clock;
        for (number, disk) in disks_of(disks).enumerate() {
            let uuid = self.new_member();
            let number = number as u8;
            let member =
                Member { set, uuid, number, slots: 2, events: 10, utime, clean: true, rebuilding: false, roles };
            self.disks[disk].content = crate::world::Content::Member(member, data);
        }
    }

    fn new_member(&mut self) -> u8 {
        self.known.members += 1;
        self.known.members
    }

    /// `mdadm --assemble --run` with these disks: the members that run. One that is more than one event behind is dropped.
    pub(crate) fn md_assemble(&self, disks: Mask) -> Mask {
        let members = || disks_of(disks).filter_map(|disk| Some((disk, self.md(disk)?)));
        let newest = members().map(|(_, member)| member.events).max().unwrap_or(0);
        let runs = members().filter(|(_, member)| member.slot().is_some() && member.events + 1 >= newest);
        if runs.clone().all(|(_, member)| member.rebuilding) { 0 } else { runs.map(|(disk, _)| 1 << disk).sum() }
    }

    /// Opens an assembled array for writing; notes where members of different content are taken for the same.
    pub(crate) fn md_open(&mut self, members: Mask, can_decrease: &mut bool) {
        let complete = self.complete(members);
        let contents: Vec<_> = disks_of(complete)
            .filter_map(|disk| self.disks[disk].data())
            .map(|data| (data.writes, data.stamp))
            .collect();
        if contents.windows(2).any(|pair| pair[0] != pair[1]) {
            self.blame(Fault::Mixed);
        }
        // What was in use is copied from its first member to the others.
        let first = disks_of(complete).min_by_key(|disk| self.md(*disk).and_then(|member| member.slot()));
        if let Some(first) = first.and_then(|disk| self.disks[disk].data()) {
            self.change_data(complete, |data| *data = first);
        }
        // Nobody else is in its table from here on; and it is at rest until it is written to.
        self.md_update(members, can_decrease, Change::Members);
        self.md_update(members, can_decrease, Change::Rest);
    }

    /// A member that is gone is noticed: written down twice, once as failed, once as removed.
    pub(crate) fn md_lost(&mut self, left: Mask, can_decrease: &mut bool) {
        self.md_update(left, can_decrease, Change::Members);
        self.md_update(left, can_decrease, Change::Members);
    }

    /// Adds a disk in place of a missing member; it is filled from now on.
    pub(crate) fn md_add(&mut self, members: Mask, disk: usize, can_decrease: &mut bool) {
        let Some(source) = disks_of(members).find_map(|member| self.md(member)) else { return };
        let Some(data) = disks_of(members).find_map(|member| self.disks[member].data()) else { return };
        let is_free = |slot: u8| slot < source.slots && !source.roles.contains(&slot);
        // One that was a member before gets its number and slot again, where nobody else has them.
        let again = self.md(disk).filter(|old| old.set == source.set && source.roles[old.number as usize] == GONE);
        let again = again.and_then(|old| Some((old.uuid, old.number, old.slot().filter(|slot| is_free(*slot))?)));
        // Numbers of the first members are given to nobody else; of those after them, the first that is free.
        let number = (2..TABLE as u8).find(|number| source.roles[usize::from(*number)] == GONE);
        let added = number.zip((0..source.slots).find(|slot| is_free(*slot)));
        let Some((uuid, number, slot)) =
            again.or_else(|| added.map(|(number, slot)| (self.new_member(), number, slot)))
        else {
            return;
        };
        let mut member = Member { uuid, number, rebuilding: true, ..source };
        member.roles[usize::from(number)] = slot;
        // Nobody may take what is on it for the whole.
        self.disks[disk].content = crate::world::Content::Member(member, Data { writes: 0, ..data });
        self.md_update(members | 1 << disk, can_decrease, Change::Members);
    }

    /// The members that are being filled are complete.
    pub(crate) fn md_filled(&mut self, members: Mask, can_decrease: &mut bool) {
        let source = disks_of(self.complete(members)).next();
        let Some(data) = source.and_then(|disk| self.disks[disk].data()) else { return };
        for disk in disks_of(members) {
            if self.md(disk).is_some_and(|member| member.rebuilding) {
                self.md_mut(disk, |member| member.rebuilding = false);
                self.disks[disk].data_mut().into_iter().for_each(|copy| *copy = data);
            }
        }
        self.md_update(members, can_decrease, Change::Members);
    }

    /// A third mirror: filled, and taken out again. Afterwards the set has its two slots, and the backup believes in three.
    pub(crate) fn md_backup(&mut self, members: Mask, disk: usize, can_decrease: &mut bool) {
        disks_of(members).for_each(|member| self.md_mut(member, |member| member.slots += 1));
        self.md_add(members, disk, can_decrease);
        self.md_filled(members | 1 << disk, can_decrease);
        self.md_lost(members, can_decrease);
        disks_of(members).for_each(|member| self.md_mut(member, |member| member.slots -= 1));
        self.md_update(members, can_decrease, Change::Members);
    }

    /// Whether the array of these members lacks one, or is filling one.
    pub(crate) fn md_is_whole(&self, members: Mask) -> bool {
        let mut all = disks_of(members).filter_map(|disk| self.md(disk));
        all.all(|member| member.is_whole() && !member.rebuilding)
    }
}
