//! Whether the members of a mirror tell one history, and which of them have its end.
//!
//! A member's table says of every other one, by number, whether it was there when that member was last written. Slots do not do for
//! that: a disk that was replaced and the one in its place fill the same slot. Even a number may be given again, to a disk that was added
//! after another had left; the UUID of a member tells them apart.
//!
//! ```text
//!   newest         the highest event count; all tell the same
//!   halfway        one event less, the same table, the same content: a power cut fell between the writes of two superblocks
//!   left behind    the newest ones say that it is gone, and it did not itself go on without one of them
//!   anything else  was written apart
//! ```

use super::facts::Member;
use crate::md::Slot;

/// The members that have the end of the history, and those that were left behind in it; `None` where there is more than one history.
pub(super) fn tell_apart<'m>(members: &[&'m Member]) -> Option<(Vec<&'m Member>, Vec<&'m Member>)> {
    let active = || members.iter().copied().filter(|member| member.active().is_some());
    let events = active().map(|member| member.md.events).max().unwrap_or(0);
    let newest: Vec<&Member> = active().filter(|member| member.md.events == events).collect();
    let Some(first) = newest.first().copied() else { return Some((vec![], vec![])) };
    if !newest.iter().all(|member| tell_the_same(first, member) && lists(first, member)) {
        return None;
    }
    let is_halfway = |member: &Member| {
        events - member.md.events <= 1
            && member.md.roles == first.md.roles
            && newest.iter().all(|new| is_settled(new, member))
    };
    let (fresh, behind): (Vec<&Member>, Vec<&Member>) =
        active().partition(|member| member.md.events == events || is_halfway(member));
    let at_rest = fresh.iter().all(|member| member.md.clean && !member.md.rebuilding);
    let is_one = fresh.windows(2).all(|pair| have_one_content(pair[0], pair[1], at_rest));
    let are_left = behind.iter().all(|late| {
        !counts_on(&newest, late)
            && (ran_with_two(late, &newest) || newest.iter().all(|new| !went_on_without(late, new, &newest, members)))
    });
    (is_one && are_left).then_some((fresh, behind))
}

/// Whether two members are whole copies at one end of one history.
pub(super) fn are_one(a: &Member, b: &Member) -> bool {
    let at_rest = a.md.clean && b.md.clean;
    a.md.events == b.md.events && tell_the_same(a, b) && lists(a, b) && lists(b, a) && have_one_content(a, b, at_rest)
}

/// Whether `late`, which is behind, was written last together with two of the newest ones, which are in the set since it was made: their
/// numbers are never given again. Both have all that it wrote, whoever came into its place since, a spare of a lower number for one.
fn ran_with_two(late: &Member, newest: &[&Member]) -> bool {
    let since_the_beginning = |new: &&&Member| new.md.dev_number < new.md.raid_disks;
    newest
        .iter()
        .filter(since_the_beginning)
        .filter(|new| new.md.dev_number != late.md.dev_number && lists(late, new))
        .count()
        >= 2
}

/// Whether two members at one event say the same of everything.
fn tell_the_same(a: &Member, b: &Member) -> bool {
    (a.md.utime, a.md.clean, &a.md.roles) == (b.md.utime, b.md.clean, &b.md.roles)
}

/// Whether `a` says that `b` fills the slot that `b` says it fills.
fn lists(a: &Member, b: &Member) -> bool {
    a.md.roles.get(b.md.dev_number as usize) == Some(&b.md.slot())
}

/// Nothing is being written while a set's superblocks are: two members between whose event counts a power cut fell are the same.
fn is_settled(a: &Member, b: &Member) -> bool {
    have_one_content(a, b, true)
}

/// What was at rest is the same on every member to the byte; in the middle of writes, only the file system's name has to be.
fn have_one_content(a: &Member, b: &Member, at_rest: bool) -> bool {
    match (&a.ext4, &b.ext4) {
        _ if a.md.rebuilding || b.md.rebuilding => true,
        (Some(a), Some(b)) if at_rest => a.digest == b.digest,
        (Some(a), Some(b)) => a.uuid == b.uuid,
        (a, b) => a.is_none() && b.is_none(),
    }
}

/// Whether the newest ones take `late`, which is behind, for one of them: what it was to write then was lost.
fn counts_on(newest: &[&Member], late: &Member) -> bool {
    newest.iter().any(|new| lists(new, late)) && !newest.iter().any(|new| new.md.dev_number == late.md.dev_number)
}

/// Whether `late`, which is behind, may have run with `new` and then without it: what it wrote then is nowhere else.
///
/// Numbers are given in order, spares' included: one that `late` does not list, and that is lower than another that it does, may have been
/// there before. One that is higher came later, if there was a member from which it could be filled: one that `late` lists and that went on
/// after it. And a set goes on from one of its members: one that lists nobody but itself was followed by nobody that it does not know. One
/// that was still being filled never went on.
fn went_on_without(late: &Member, new: &Member, newest: &[&Member], members: &[&Member]) -> bool {
    if late.md.rebuilding {
        return false;
    }
    if new.md.dev_number == late.md.dev_number {
        // Which of the two was there first, only a third one can say that both knew.
        return !newest.iter().any(|other| other.md.dev_number != late.md.dev_number && lists(late, other));
    }
    let listed =
        || late.md.roles.iter().zip(0u32..).filter(|(slot, _)| **slot != Slot::Other).map(|(_, number)| number);
    let stood_still = |number| members.iter().any(|m| m.md.dev_number == number && m.md.events <= late.md.events);
    let was_followed = listed().any(|number| number != late.md.dev_number && !stood_still(number));
    let is_later = new.md.dev_number >= late.md.raid_disks && listed().max() < Some(new.md.dev_number);
    !(lists(late, new) || is_later && was_followed)
}

#[cfg(test)]
mod tests {
    use crate::{
        Acceptance, Refusal, RefusalCode, UNBOUND_LABEL, ext4,
        md::{self, MdUuid, Slot},
        survey::{Member, SetChoice, Survey},
    };

    const FIRST: Slot = Slot::Active(0);
    const SECOND: Slot = Slot::Active(1);
    const GONE: Slot = Slot::Other;

    /// At rest, in the state that its table and event count say; the file system as of `written`.
    fn member(number: u32, events: u64, roles: &[Slot], written: u32) -> Member {
        let md = md::MdSuperblock { events, roles: roles.to_vec(), ..md::testing::half(number) };
        let ext4 = Some(ext4::testing::superblock(UNBOUND_LABEL, written));
        Member { device: format!("/dev/vd{}", char::from(b'b' + number as u8)), serial: None, md, ext4 }
    }

    fn in_use(mut member: Member) -> Member {
        member.md.clean = false;
        member
    }

    /// In a set of three slots.
    fn of_three(mut member: Member) -> Member {
        member.md.raid_disks = 3;
        member
    }

    /// Another member with the same number, given again after it was free.
    fn later(mut member: Member) -> Member {
        member.md.device_uuid = MdUuid([99; 16]);
        member.device = "/dev/vdx".into();
        member
    }

    fn choose(members: Vec<Member>) -> Result<SetChoice, Refusal> {
        Survey { members, ..Survey::default() }.choose(None)
    }

    fn code(members: Vec<Member>) -> RefusalCode {
        choose(members).unwrap_err().code
    }

    fn left_out(members: Vec<Member>) -> usize {
        choose(members).unwrap().left_out.len()
    }

    #[test]
    fn a_replaced_disk_and_the_one_in_its_place_are_no_mirror_of_each_other() {
        // Each went on alone, one event apart, and the power went during a write: both fill slot 1.
        let replaced = member(1, 50, &[GONE, SECOND], 5);
        let in_its_place = in_use(member(2, 51, &[GONE, GONE, SECOND], 6));
        assert_eq!(code(vec![replaced, in_its_place]), RefusalCode::WrittenApart);
    }

    #[test]
    fn a_set_that_went_on_with_another_disk_is_not_left_out() {
        let with_new = |number| member(number, 50, &[FIRST, GONE, SECOND], 5);
        let alone = || member(1, 90, &[GONE, SECOND], 6);
        assert_eq!(code(vec![with_new(0), with_new(2), alone()]), RefusalCode::WrittenApart);
        assert_eq!(code(vec![with_new(2), alone()]), RefusalCode::WrittenApart);
        assert_eq!(code(vec![with_new(0), alone()]), RefusalCode::WrittenApart);
    }

    #[test]
    fn a_copy_from_before_is_not_taken_for_a_half_that_is_one_write_behind() {
        let both = [FIRST, SECOND];
        let copy = member(0, 40, &both, 5);
        assert_eq!(code(vec![copy.clone(), in_use(member(1, 41, &both, 6))]), RefusalCode::WrittenApart);
        assert_eq!(left_out(vec![copy, in_use(member(1, 41, &both, 5))]), 0, "the power went between two superblocks");
    }

    #[test]
    fn a_member_whose_loss_was_the_last_thing_to_be_written_is_left_behind() {
        assert_eq!(left_out(vec![member(0, 41, &[FIRST, GONE], 5), member(1, 40, &[FIRST, SECOND], 5)]), 1);
    }

    #[test]
    fn a_member_that_was_never_filled_is_left_out_when_the_one_before_it_is_back() {
        let mut given_up = member(2, 50, &[FIRST, GONE, SECOND], 5);
        let now = |number| member(number, 90, &[FIRST, SECOND], 6);
        assert_eq!(code(vec![now(0), now(1), given_up.clone()]), RefusalCode::WrittenApart);
        given_up.md.rebuilding = true;
        assert_eq!(left_out(vec![now(0), now(1), given_up]), 1);
    }

    #[test]
    fn a_member_that_a_spare_of_a_lower_number_replaced_is_left_behind() {
        let third = Slot::Active(2);
        let now = |number| of_three(member(number, 61, &[FIRST, SECOND, third], 6));
        let replaced = || of_three(member(3, 42, &[FIRST, SECOND, GONE, third], 5));
        assert_eq!(left_out(vec![now(0), now(1), now(2), replaced()]), 1);
        // Written without the others since, or with one of them alone, it may hold what nobody has.
        for roles in [[GONE, GONE, GONE, third], [FIRST, GONE, GONE, third]] {
            let apart = of_three(member(3, 70, &roles, 7));
            assert_eq!(code(vec![now(0), now(1), now(2), apart]), RefusalCode::WrittenApart);
        }
    }

    #[test]
    fn of_three_members_the_two_that_are_one_are_gone_on_with_together() {
        let third = Slot::Active(2);
        let two = |number| of_three(member(number, 61, &[FIRST, SECOND, GONE], 6));
        let members = || vec![two(0), two(1), of_three(member(2, 61, &[GONE, GONE, third], 7))];
        let refusal = choose(members()).unwrap_err();
        assert_eq!(refusal.code, RefusalCode::WrittenApart);
        let said = refusal.remedy.join("\n");
        assert!(said.contains("to go on with /dev/vdb and /dev/vdc: atlas-boot accept written-apart --device /dev/vdb, reboot; then give up /dev/vdd"), "{said}");
        assert!(said.contains("to go on with /dev/vdd: atlas-boot accept"), "{said}");
        for (chosen, count) in [("/dev/vdb", 2), ("/dev/vdc", 2), ("/dev/vdd", 1)] {
            let accepted = Acceptance {
                format: 1,
                code: refusal.code,
                fingerprint: refusal.fingerprint.unwrap(),
                device: Some(chosen.into()),
                by: "root".into(),
                reason: "it has today's orders".into(),
                at: 0,
                found: vec![],
            };
            let choice = Survey { members: members(), ..Survey::default() }.choose(Some(&accepted)).unwrap();
            assert_eq!((choice.disks.len(), choice.left_out.len()), (count, 3 - count), "{choice:?}");
        }
    }

    #[test]
    fn a_number_that_was_given_again_makes_no_copy_of_a_member() {
        let table = [FIRST, GONE, SECOND];
        let now = || vec![member(0, 90, &table, 6), later(member(2, 90, &table, 6))];
        let with_old = |old| now().into_iter().chain([old]).collect::<Vec<_>>();
        assert_eq!(left_out(with_old(member(2, 50, &table, 5))), 1);
        assert_eq!(code(with_old(member(2, 50, &[GONE, GONE, SECOND], 5))), RefusalCode::WrittenApart);
        // Without a third that both knew, nothing says which of the two came first.
        let alone = || later(member(2, 90, &[GONE, GONE, SECOND], 6));
        assert_eq!(code(vec![alone(), member(2, 50, &[GONE, GONE, SECOND], 5)]), RefusalCode::WrittenApart);
    }
}
