//! The decision which disks are this server's Unbound set, from facts alone.
//!
//! md by itself is not careful enough: it starts two halves that were written apart as one array if their event counts agree, and
//! with two sets of one name the order of probing decides. So every member's superblock is looked at here, before anything is
//! started, and what is not beyond doubt is refused.
//!
//! ```text
//!   devices ──► ATLAS members by array UUID, and single devices      (what they are: by array name or file system label)
//!                 │  exactly one set?               NoUnboundSet, TwoSets, MixedSets
//!                 │  each member once?              DuplicateMember
//!                 │  a plain mirror?                UnsupportedSet
//!                 │  one history?                   WrittenApart
//!                 │  every member it last had?      MissingMember
//!                 ▼
//!             SetChoice: the members to start from, those left behind, degraded or not
//! ```
//!
//! Words: members are *fresh* when their event count is the highest, or one less (a power cut between two superblock writes).
//! A member is *left behind* when the fresh ones say that its slot is empty or filled by another, and it did not itself run
//! without all of them.

use crate::{
    Acceptance, Digest, Refusal, RefusalCode, UNBOUND_ARRAY_NAME, UNBOUND_LABEL,
    ext4::Ext4Superblock,
    md::{MdSuperblock, MdUuid, Slot},
    time::utc,
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
    fn is_atlas(&self) -> bool {
        self.md.name == UNBOUND_ARRAY_NAME || self.ext4.as_ref().is_some_and(|fs| fs.label == UNBOUND_LABEL)
    }

    fn describe(&self) -> String {
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
    /// Decides which set is this server's, or why none may be started.
    ///
    /// `accepted` is what an operator accepted beforehand; it counts only for the very situation that it names.
    pub fn choose(&self, accepted: Option<&Acceptance>) -> Result<SetChoice, Refusal> {
        let singles: Vec<&Single> = self.singles.iter().filter(|single| single.ext4.label == UNBOUND_LABEL).collect();
        let sets = self.sets();
        match (sets.len(), singles.as_slice()) {
            (0, []) => Err(self.no_set()),
            (1, []) => sets
                .into_values()
                .next()
                .map_or_else(|| Err(self.no_set()), |members| choose_mirror(&members, accepted)),
            (0, [single]) => Ok(SetChoice {
                kind: SetKind::Single { device: single.device.clone() },
                left_out: vec![],
                degraded: false,
                ext4: single.ext4.clone(),
            }),
            _ => Err(more_than_one(&sets, &singles)),
        }
    }

    /// The devices that belong to an Unbound set, whatever their state: those that nothing but ATLAS may start.
    pub fn atlas_devices(&self) -> BTreeSet<String> {
        let members = self.sets().into_values().flatten().map(|member| member.device.clone());
        let singles = self.singles.iter().filter(|single| single.ext4.label == UNBOUND_LABEL);
        members.chain(singles.map(|single| single.device.clone())).collect()
    }

    /// All members of each array of which at least one member is recognised.
    fn sets(&self) -> BTreeMap<MdUuid, Vec<&Member>> {
        let ours: BTreeSet<MdUuid> = self.members.iter().filter(|m| m.is_atlas()).map(|m| m.md.set_uuid).collect();
        let mut sets = BTreeMap::<MdUuid, Vec<&Member>>::new();
        for member in self.members.iter().filter(|m| ours.contains(&m.md.set_uuid)) {
            sets.entry(member.md.set_uuid).or_default().push(member);
        }
        sets
    }

    fn no_set(&self) -> Refusal {
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

fn more_than_one(sets: &BTreeMap<MdUuid, Vec<&Member>>, singles: &[&Single]) -> Refusal {
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
    let present: BTreeSet<u16> = members.iter().filter_map(|m| active(m)).collect();
    members.iter().flat_map(|m| m.md.filled_slots()).all(|slot| present.contains(&slot))
}

fn active(member: &Member) -> Option<u16> {
    match member.md.slot() {
        Slot::Active(slot) => Some(slot),
        Slot::Other => None,
    }
}

fn choose_mirror(members: &[&Member], accepted: Option<&Acceptance>) -> Result<SetChoice, Refusal> {
    let mut lines: Vec<String> = members.iter().map(|m| m.md.fingerprint().to_string()).collect();
    lines.sort_unstable();
    let fingerprint = Digest::of(lines.concat().as_bytes());
    let refuse = |code, what: &str| {
        let mut refusal = Refusal::new(code, what);
        refusal.found = members.iter().map(|member| member.describe()).collect();
        refusal.fingerprint = Some(fingerprint);
        refusal
    };
    let is_accepted = |code| accepted.filter(|a| a.code == code && a.fingerprint == fingerprint);

    if let Some(member) = members.iter().find(|m| m.md.level != 1 || m.md.exotic) {
        let level = member.md.level;
        return Err(refuse(RefusalCode::UnsupportedSet, "The Unbound set is no plain RAID-1 mirror.")
            .found(format!("level {level}, or a reshape or write journal"))
            .because("only of a plain mirror does every member hold all of the data")
            .remedy(
                "finish or undo the reshape on the server where it was begun, or make a mirror with 'atlas init'",
            ));
    }
    let numbers: BTreeSet<u32> = members.iter().map(|m| m.md.dev_number).collect();
    if numbers.len() != members.len() {
        return Err(refuse(
            RefusalCode::DuplicateMember,
            "Two disks say that they are the same member of the Unbound set.",
        )
        .because("one is a copy of the other, made at an unknown time; starting from the wrong one loses data")
        .remedy("shut down, remove the copy, and boot again"));
    }

    let newest = members.iter().map(|m| m.md.events).max().unwrap_or(0);
    let (fresh, behind): (Vec<&Member>, Vec<&Member>) =
        members.iter().copied().filter(|m| active(m).is_some()).partition(|m| newest - m.md.events <= 1);
    if !is_one_history(&fresh, &behind) {
        return match is_accepted(RefusalCode::WrittenApart).and_then(|a| a.device.as_deref()) {
            Some(device) => {
                start_from_one(members, device).ok_or_else(|| written_apart(refuse(RefusalCode::WrittenApart, "")))
            }
            None => Err(written_apart(refuse(RefusalCode::WrittenApart, ""))),
        };
    }

    let sources: Vec<&Member> = fresh.iter().copied().filter(|m| !m.md.rebuilding).collect();
    let present: BTreeSet<u16> = fresh.iter().filter_map(|m| active(m)).collect();
    let expected: BTreeSet<u16> = fresh.iter().flat_map(|m| m.md.filled_slots()).collect();
    let missing: Vec<u16> = expected.difference(&present).copied().collect();
    let Some(source) = sources.first() else {
        return Err(refuse(RefusalCode::UnsupportedSet, "No member of the Unbound set holds all of the data.")
            .because("the members that are there are spares, or were still being filled from one that is missing")
            .remedy("attach the member that the set was being rebuilt from, and boot again"));
    };
    if !missing.is_empty() && is_accepted(RefusalCode::MissingMember).is_none() {
        let slots = missing.iter().map(u16::to_string).collect::<Vec<_>>().join(", ");
        return Err(refuse(
            RefusalCode::MissingMember,
            "A member of the Unbound set is missing that it had when it was last used.",
        )
        .found(format!("nothing fills slot {slots}"))
        .because(
            "the missing member may be booting in another server at this moment, which would then take the same role",
        )
        .remedy("shut down, attach all disks of the set, and boot again")
        .remedy("if a disk has died, make sure that it is in no other server, then accept to run without it"));
    }
    let Some(ext4) = source.ext4.clone() else {
        return Err(refuse(RefusalCode::FilesystemBroken, "The Unbound set holds no ext4 file system.")
            .because("there is nothing to read the role from")
            .remedy("if the set is new, run 'atlas init' on the server that it is for")
            .remedy("if it held data, do not write to it; look at a backup superblock with 'e2fsck -n -b 32768'"));
    };
    let left_out =
        members.iter().filter(|m| !fresh.iter().any(|f| f.device == m.device)).map(|m| m.describe()).collect();
    Ok(SetChoice {
        kind: SetKind::Mirror { uuid: source.md.set_uuid, devices: fresh.iter().map(|m| m.device.clone()).collect() },
        left_out,
        degraded: sources.len() < source.md.raid_disks as usize,
        ext4,
    })
}

/// Whether all members tell one history: the fresh ones the same, and those behind a beginning of it.
fn is_one_history(fresh: &[&Member], behind: &[&Member]) -> bool {
    let tables_agree = fresh.iter().all(|a| {
        fresh.iter().all(|b| {
            let same_moment = a.md.events == b.md.events;
            let told_alike =
                !same_moment || (a.md.utime == b.md.utime && a.md.roles == b.md.roles && a.md.clean == b.md.clean);
            let know_each_other = active(b).is_none_or(|slot| a.md.is_filled(slot));
            told_alike && know_each_other
        })
    });
    // What was at rest is the same on every member to the byte; in the middle of writes, only the file system's name has to be.
    let at_rest = fresh.iter().all(|m| m.md.clean && !m.md.rebuilding);
    let same_content = fresh.windows(2).all(|pair| match (&pair[0].ext4, &pair[1].ext4) {
        _ if pair.iter().any(|m| m.md.rebuilding) => true,
        (Some(a), Some(b)) => {
            if at_rest {
                a.digest == b.digest
            } else {
                a.uuid == b.uuid
            }
        }
        (a, b) => a.is_none() && b.is_none(),
    });
    // A member that ran without those that are fresh now, while they ran without it, has writes that they lack.
    let none_ran_alone =
        behind.iter().all(|late| fresh.iter().filter_map(|m| active(m)).all(|slot| late.md.is_filled(slot)));
    // The fresh ones still count on a member that is more than one write behind: its writes were lost.
    let none_lost_writes = behind
        .iter()
        .all(|late| !fresh.iter().any(|m| m.md.roles.get(late.md.dev_number as usize) == Some(&late.md.slot())));
    tables_agree && same_content && none_ran_alone && none_lost_writes
}

fn written_apart(mut refusal: Refusal) -> Refusal {
    refusal.what = "The members of the Unbound set were each written without the other.".into();
    refusal
        .because("each holds changes that the other lacks; md would start them as one and mix two versions of the data")
        .remedy("decide which member has the data to keep: mount each by itself, read-only, and look")
        .remedy("shut down, remove the other member, boot with the chosen one (it will ask to be accepted), and add the other one anew")
        .remedy("or accept here and name the device to go on with: atlas-boot accept written-apart --device DEVICE")
}

/// After an acceptance: the set as the one chosen member has it.
fn start_from_one(members: &[&Member], device: &str) -> Option<SetChoice> {
    let chosen = members.iter().find(|m| m.device == device && active(m).is_some() && !m.md.rebuilding)?;
    Some(SetChoice {
        kind: SetKind::Mirror { uuid: chosen.md.set_uuid, devices: vec![chosen.device.clone()] },
        left_out: members.iter().filter(|m| m.device != device).map(|m| m.describe()).collect(),
        degraded: true,
        ext4: chosen.ext4.clone()?,
    })
}

fn name_of(device: &str, serial: Option<&str>) -> String {
    serial.map_or_else(|| device.to_owned(), |serial| format!("{device} (serial {serial})"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{ext4, md};

    fn member(dev_number: u32, change: impl FnOnce(&mut MdSuperblock)) -> Member {
        let mut sb = md::testing::half(dev_number);
        change(&mut sb);
        let device = format!("/dev/vd{}", char::from(b'b' + dev_number as u8));
        Member { device, serial: None, md: sb, ext4: Some(ext4::testing::superblock(UNBOUND_LABEL, 5)) }
    }

    fn choose(members: Vec<Member>) -> Result<SetChoice, Refusal> {
        Survey { looked_at: members.len(), members, ..Survey::default() }.choose(None)
    }

    fn code(members: Vec<Member>) -> RefusalCode {
        choose(members).unwrap_err().code
    }

    const ALONE_0: [Slot; 2] = [Slot::Active(0), Slot::Other];
    const ALONE_1: [Slot; 2] = [Slot::Other, Slot::Active(1)];

    #[test]
    fn both_halves_of_a_healthy_set_are_the_set() {
        let choice = choose(vec![member(1, |_| ()), member(0, |_| ())]).unwrap();
        assert!(!choice.degraded && choice.left_out.is_empty());
        assert!(matches!(choice.kind, SetKind::Mirror { devices, .. } if devices.len() == 2));
    }

    #[test]
    fn one_half_of_a_healthy_set_is_refused_wherever_the_other_may_be() {
        assert_eq!(code(vec![member(0, |_| ())]), RefusalCode::MissingMember);
        assert_eq!(code(vec![member(1, |_| ())]), RefusalCode::MissingMember);
    }

    #[test]
    fn a_set_that_had_lost_a_member_runs_degraded_with_and_without_the_one_left_behind() {
        let survivor = || member(0, |sb| (sb.events, sb.roles) = (60, ALONE_0.to_vec()));
        let alone = choose(vec![survivor()]).unwrap();
        assert!(alone.degraded && alone.left_out.is_empty());
        let with_old = choose(vec![member(1, |_| ()), survivor()]).unwrap();
        assert!(with_old.degraded && with_old.left_out.len() == 1);
        assert!(matches!(with_old.kind, SetKind::Mirror { devices, .. } if devices == ["/dev/vdb"]));
    }

    #[test]
    fn halves_that_were_written_apart_are_refused_whatever_their_event_counts_say() {
        let a = |events| member(0, move |sb| (sb.events, sb.roles) = (events, ALONE_0.to_vec()));
        let b = |events| member(1, move |sb| (sb.events, sb.roles) = (events, ALONE_1.to_vec()));
        for (left, right) in [(50, 50), (50, 51), (50, 58), (58, 50)] {
            assert_eq!(code(vec![a(left), b(right)]), RefusalCode::WrittenApart, "{left} {right}");
        }
    }

    #[test]
    fn equal_tables_do_not_hide_that_content_or_time_differ() {
        let mut other_content = member(1, |_| ());
        other_content.ext4 = Some(ext4::testing::superblock(UNBOUND_LABEL, 6));
        assert_eq!(code(vec![member(0, |_| ()), other_content.clone()]), RefusalCode::WrittenApart);
        assert_eq!(code(vec![member(0, |_| ()), member(1, |sb| sb.utime += 60)]), RefusalCode::WrittenApart);
        other_content.md.clean = false;
        let in_use = choose(vec![member(0, |sb| sb.clean = false), other_content]);
        assert!(in_use.is_ok(), "a power cut may fall between the two writes of one superblock");
    }

    #[test]
    fn a_power_cut_between_two_superblock_writes_is_one_history() {
        let choice = choose(vec![member(0, |sb| (sb.events, sb.clean) = (41, false)), member(1, |_| ())]).unwrap();
        assert!(!choice.degraded);
    }

    #[test]
    fn a_member_that_lost_writes_unnoticed_is_refused() {
        assert_eq!(code(vec![member(0, |sb| sb.events = 50), member(1, |_| ())]), RefusalCode::WrittenApart);
    }

    #[test]
    fn a_replaced_disk_may_come_back_without_harm() {
        // Slot 1 was filled by device 1, is now filled by device 2; device 1 still believes in the old world.
        let now = [Slot::Active(0), Slot::Other, Slot::Active(1)];
        let new = |n| member(n, |sb| (sb.events, sb.roles) = (90, now.to_vec()));
        let choice = choose(vec![new(0), new(2), member(1, |_| ())]).unwrap();
        assert!(!choice.degraded && choice.left_out.len() == 1);
    }

    #[test]
    fn a_member_that_is_still_being_filled_does_not_count_as_a_copy() {
        let choice = choose(vec![member(0, |_| ()), member(1, |sb| sb.rebuilding = true)]).unwrap();
        assert!(choice.degraded);
        assert_eq!(
            code(vec![member(1, |sb| (sb.rebuilding, sb.roles) = (true, ALONE_1.to_vec()))]),
            RefusalCode::UnsupportedSet
        );
    }

    #[test]
    fn two_sets_and_members_of_two_sets_are_told_apart_and_refused() {
        let of_other = |n| member(n, |sb| sb.set_uuid = MdUuid([8; 16]));
        assert_eq!(code(vec![member(0, |_| ()), member(1, |_| ()), of_other(0), of_other(1)]), RefusalCode::TwoSets);
        assert_eq!(code(vec![member(0, |_| ()), of_other(1)]), RefusalCode::MixedSets);
        assert_eq!(code(vec![member(0, |_| ()), member(1, |_| ()), of_other(1)]), RefusalCode::MixedSets);
    }

    #[test]
    fn a_copy_of_a_member_is_refused() {
        assert_eq!(code(vec![member(0, |_| ()), member(1, |_| ()), member(1, |_| ())]), RefusalCode::DuplicateMember);
    }

    #[test]
    fn other_arrays_and_file_systems_are_none_of_our_business() {
        let mut root = member(0, |sb| (sb.name, sb.set_uuid) = ("host:root".into(), MdUuid([1; 16])));
        root.ext4 = Some(ext4::testing::superblock("ROOT", 1));
        assert_eq!(code(vec![root.clone()]), RefusalCode::NoUnboundSet);
        assert!(choose(vec![root, member(0, |_| ()), member(1, |_| ())]).is_ok());
    }

    #[test]
    fn an_array_of_any_name_is_recognised_by_its_file_system() {
        let choice = choose(vec![member(0, |sb| sb.name = "data".into()), member(1, |sb| sb.name = "data".into())]);
        assert!(choice.is_ok());
    }

    #[test]
    fn one_device_of_a_hardware_raid_is_a_set_and_two_are_refused() {
        let single = |device: &str| Single {
            device: device.into(),
            serial: None,
            ext4: ext4::testing::superblock(UNBOUND_LABEL, 5),
        };
        let mut survey = Survey { singles: vec![single("/dev/sdb")], ..Survey::default() };
        assert!(matches!(survey.choose(None).unwrap().kind, SetKind::Single { .. }));
        survey.singles.push(single("/dev/sdc"));
        assert_eq!(survey.choose(None).unwrap_err().code, RefusalCode::TwoSets);
    }

    #[test]
    fn an_acceptance_counts_for_its_own_situation_only() {
        let survey = |events| Survey { members: vec![member(0, |sb| sb.events = events)], ..Survey::default() };
        let refusal = survey(40).choose(None).unwrap_err();
        let acceptance = Acceptance {
            format: 1,
            code: refusal.code,
            fingerprint: refusal.fingerprint.unwrap(),
            device: None,
            by: "root".into(),
            reason: "the disk burned".into(),
            at: 0,
        };
        assert!(survey(40).choose(Some(&acceptance)).unwrap().degraded);
        assert_eq!(survey(42).choose(Some(&acceptance)).unwrap_err().code, RefusalCode::MissingMember);
    }
}
