//! The refusals of the decision, in words.

use super::facts::{Member, Single, Survey};
use crate::{
    Refusal, RefusalCode,
    md::{MdUuid, Slot},
    time::utc,
};
use std::collections::{BTreeMap, BTreeSet};

impl Member {
    pub(super) fn describe(&self) -> String {
        let slot = match self.md.slot() {
            Slot::Active(number) => format!("slot {number} of {}", self.md.raid_disks),
            Slot::Other => format!("spare of {} slots", self.md.raid_disks),
        };
        let state = if self.md.clean { "at rest" } else { "in use" };
        let whole = if self.md.is_whole() { "with all members" } else { "without all members" };
        format!(
            "{}: {slot} of set {}, event count {}, last written {} UTC, {state}, {whole}",
            name_of(&self.device, self.serial.as_deref()),
            self.md.set_uuid,
            self.md.events,
            utc(self.md.utime)
        )
    }
}

impl Survey {
    pub(super) fn no_set(&self) -> Refusal {
        let mut refusal = Refusal::new(RefusalCode::NoUnboundSet, "No disk with Unbound Data is attached.")
            .found(format!("{} block devices were looked at; none is a member of an Unbound set", self.looked_at));
        for (device, why) in &self.unreadable {
            refusal = refusal.found(format!("{device}: {why}"));
        }
        refusal
            .because("without its Unbound disks this server does not know who it is, and its last identity may be in use elsewhere")
            .remedy("shut down, push the Unbound disks of this server in until they lock, and boot again")
            .remedy("if the disks are in, look for their controller and errors in 'dmesg'")
            .remedy("if this machine is no longer to be an ATLAS server: give it a name, addresses and ssh keys of its own first (it still \
                 has those of its last role), and only then remove the package 'atlas'")
    }
}

pub(super) fn more_than_one(sets: &BTreeMap<MdUuid, Vec<&Member>>, singles: &[&Single]) -> Refusal {
    let complete = sets.values().all(|members| is_complete(members));
    let (code, what) = if complete {
        (RefusalCode::TwoSets, "More than one Unbound set is attached.")
    } else {
        (RefusalCode::MixedSets, "Members of different Unbound sets are attached.")
    };
    let mut refusal = Refusal::new(code, what);
    for member in sets.values().flatten() {
        refusal = refusal.found(member.describe());
    }
    for single in singles {
        let name = name_of(&single.device, single.serial.as_deref());
        refusal = refusal.found(format!("{name}: a set of its own, file system {}", single.ext4.uuid_text()));
    }
    refusal
        .because("each set makes a different server of this machine, and nothing says which one is meant")
        .remedy("shut down, leave in only the disks of the role that this server is to have, and boot again")
}

/// Whether every slot that some member believes filled is filled by a member that is there.
fn is_complete(members: &[&Member]) -> bool {
    let present: BTreeSet<u16> = members.iter().filter_map(|m| m.active()).collect();
    members.iter().flat_map(|m| m.md.filled_slots()).all(|slot| present.contains(&slot))
}

pub(super) fn written_apart(mut refusal: Refusal) -> Refusal {
    refusal.what = "The members of the Unbound set were each written without the other.".into();
    refusal
        .because("each holds changes that the other lacks; md would start them as one and mix two versions of the data")
        .remedy("decide which member has the data to keep: mount each by itself, read-only, and look")
        .remedy("shut down, remove the other member, boot with the chosen one (it will ask to be accepted), and add the other one anew")
        .remedy("or accept here and name the device to go on with: atlas-boot accept written-apart --device DEVICE")
}

fn name_of(device: &str, serial: Option<&str>) -> String {
    serial.map_or_else(|| device.to_owned(), |serial| format!("{device} (serial {serial})"))
}
