//! From facts to a choice: pure, and refusing whatever is not beyond doubt.

use super::{
    facts::{Member, SetChoice, Single, Survey},
    mirror, single,
};
use crate::{Acceptance, Refusal, md::MdUuid};
use std::collections::BTreeMap;

/// What of all that is attached may be an Unbound set.
pub(super) struct Attached<'s> {
    pub(super) survey: &'s Survey,
    /// The arrays.
    pub(super) sets: BTreeMap<MdUuid, Vec<&'s Member>>,
    /// The bare file systems.
    pub(super) singles: Vec<&'s Single>,
}

impl Survey {
    /// Decides which set is this server's, or why none may be started.
    ///
    /// `accepted` is what an operator accepted beforehand; it counts only for the very situation that it names.
    pub fn choose(&self, accepted: Option<&Acceptance>) -> Result<SetChoice, Refusal> {
        let attached = Attached { survey: self, sets: self.sets(), singles: self.candidates() };
        match attached.decide(accepted) {
            Ok(choice) => {
                let beside = self.beside(&[choice.disks.as_slice(), choice.left_out.as_slice()].concat());
                Ok(SetChoice { beside, ..choice })
            }
            Err(mut refusal) => {
                refusal.found.extend(self.beside(&refusal.found));
                Err(refusal)
            }
        }
    }
}

impl Attached<'_> {
    fn decide(&self, accepted: Option<&Acceptance>) -> Result<SetChoice, Refusal> {
        if let Some(refusal) = self.one_disk_by_two_paths().or_else(|| self.held_by_a_mapping()) {
            return Err(refusal);
        }
        if let Some(refusal) = single::lost_mirror(self).or_else(|| single::split_mirror(self)) {
            return Err(refusal);
        }
        let mut sets = self.sets.values();
        match (sets.next(), sets.next(), self.singles.as_slice()) {
            (None, _, []) => Err(self.survey.nothing_to_start()),
            (Some(members), None, []) => mirror::choose(self.survey, members, accepted),
            (None, _, [single]) => single::choose(self.survey, single),
            _ => Err(self.more_than_one()),
        }
    }

    /// Whether all candidates hold one file system, as far as they hold one.
    pub(super) fn is_one_file_system(&self) -> bool {
        let members = self.sets.values().flatten().filter_map(|member| member.ext4.as_ref());
        let mut systems = self.singles.iter().map(|single| &single.ext4).chain(members);
        systems.next().is_some_and(|first| systems.all(|ext4| ext4.uuid == first.uuid))
    }

    /// The devices of all candidates, in the order of their names.
    pub(super) fn devices(&self) -> Vec<&str> {
        let members = self.sets.values().flatten().map(|member| member.device.as_str());
        let mut devices: Vec<&str> = members.chain(self.singles.iter().map(|single| single.device.as_str())).collect();
        devices.sort_unstable();
        devices
    }

    /// Whether what lies on the two devices is the same, as it would be on one disk.
    fn say_the_same(&self, a: &str, b: &str) -> bool {
        let member = |device: &str| self.survey.members.iter().find(|member| member.device == device);
        let single = |device: &str| self.survey.singles.iter().find(|single| single.device == device);
        match ((member(a), member(b)), (single(a), single(b))) {
            ((Some(a), Some(b)), _) => a.md.set_uuid == b.md.set_uuid && a.md.device_uuid == b.md.device_uuid,
            (_, (Some(a), Some(b))) => a.ext4.uuid == b.ext4.uuid,
            _ => false,
        }
    }

    /// Two devices that are one disk.
    pub(super) fn two_paths(&self) -> Option<(&str, &str)> {
        let devices = self.devices();
        let pairs =
            devices.iter().enumerate().flat_map(|(index, a)| devices[index + 1..].iter().map(move |b| (*a, *b)));
        pairs.into_iter().find(|(a, b)| {
            let are_one = match (self.survey.device(a), self.survey.device(b)) {
                (Some(a), Some(b)) => a.is_same_disk_as(b),
                _ => false,
            };
            are_one && self.say_the_same(a, b)
        })
    }
}
