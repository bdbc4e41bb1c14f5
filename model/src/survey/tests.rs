use super::*;
use crate::{
    Acceptance, Refusal, RefusalCode, UNBOUND_LABEL, ext4,
    md::{self, MdSuperblock, MdUuid, Slot},
};

fn member(dev_number: u32, change: impl FnOnce(&mut MdSuperblock)) -> Member {
    let mut sb = md::testing::half(dev_number);
    change(&mut sb);
    let device = format!("/dev/vd{}", char::from(b'b' + dev_number as u8));
    Member { device, serial: None, md: sb, ext4: Some(ext4::testing::superblock(UNBOUND_LABEL, 5)) }
}

fn choose(members: Vec<Member>) -> Result<SetChoice, Refusal> {
    Survey { members, ..Survey::default() }.choose(None)
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
    let of_other = |n| {
        let mut member = member(n, |sb| sb.set_uuid = MdUuid([8; 16]));
        member.ext4.as_mut().unwrap().uuid = [99; 16];
        member
    };
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
    assert_eq!(survey.choose(None).unwrap_err().code, RefusalCode::LostMirror, "one file system on two disks");
    survey.singles[1].ext4.uuid = [8; 16];
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
        found: vec![],
    };
    assert!(survey(40).choose(Some(&acceptance)).unwrap().degraded);
    assert_eq!(survey(42).choose(Some(&acceptance)).unwrap_err().code, RefusalCode::MissingMember);
}
