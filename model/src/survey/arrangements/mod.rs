//! What a server can meet, one line each: what is attached, what has to come of it, and the words that have to be on the screen.
//!
//! Disks are named by a letter; disk `b` is `/dev/sdb` with the serial number `SER-B`.

mod broken;
mod whole;

use super::*;
use crate::{
    Acceptance, Digest, RefusalCode, UNBOUND_LABEL,
    content::{Content, Kind},
    ext4,
    md::{self, MdSuperblock, MdUuid, Slot},
    old_md,
    set_record::{MadeOf, RecordedMember, SetRecord},
};
use broken::{mirrors, nothing};
use std::path::PathBuf;
use whole::{bare, healthy};

const GIB: u64 = 1 << 30;

/// What is attached, being put together.
#[derive(Clone, Debug, Default)]
struct Rig {
    survey: Survey,
}

fn path(letter: &str) -> String {
    format!("/dev/sd{letter}")
}

fn serial(letter: &str) -> String {
    format!("SER-{}", letter.to_uppercase())
}

impl Rig {
    /// A disk, with nothing known of it yet.
    fn disk(mut self, letter: &str, change: impl FnOnce(&mut Device)) -> Rig {
        let mut device = Device {
            path: path(letter).into(),
            serial: Some(serial(letter)),
            place: Some(format!("SATA port {}", letter.bytes().next().unwrap_or(0) - b'a')),
            size_bytes: 500 * GIB,
            ..Device::default()
        };
        change(&mut device);
        self.survey.devices.push(device);
        self.survey.is_thorough = true;
        self
    }

    /// The last disk is a member.
    fn md(mut self, number: u32, change: impl FnOnce(&mut Member)) -> Rig {
        let device = self.survey.devices.last().unwrap();
        let mut member = Member {
            device: device.path.display().to_string(),
            serial: device.serial.clone(),
            md: md::testing::half(number),
            ext4: Some(ext4::testing::superblock(UNBOUND_LABEL, 5)),
        };
        change(&mut member);
        self.survey.members.push(member);
        self
    }

    /// A disk that is a member.
    fn member(self, letter: &str, number: u32, change: impl FnOnce(&mut MdSuperblock)) -> Rig {
        self.disk(letter, |_| ()).md(number, |member| change(&mut member.md))
    }

    /// A disk that is a member of another set, with a file system of its own.
    fn other(self, letter: &str, number: u32) -> Rig {
        self.apart(letter, number, 99)
    }

    /// The same, with the file system of this UUID.
    fn apart(self, letter: &str, number: u32, uuid: u8) -> Rig {
        self.disk(letter, |_| ()).md(number, |member| {
            member.md.set_uuid = MdUuid([8; 16]);
            member.ext4.as_mut().unwrap().uuid = [uuid; 16];
        })
    }

    fn pair(self) -> Rig {
        self.member("b", 0, |_| ()).member("c", 1, |_| ())
    }

    /// A disk with a bare file system that ends `tail` bytes before it.
    fn bare(mut self, letter: &str, uuid: u8, tail: u64, change: impl FnOnce(&mut Device)) -> Rig {
        self = self.disk(letter, |device| {
            device.has_sid_data = Some(true);
            change(device);
        });
        let device = self.survey.devices.last().unwrap();
        let block = ext4::testing::block_of(UNBOUND_LABEL, uuid, device.size_bytes - tail);
        let ext4 = ext4::Ext4Superblock::parse(&block).unwrap();
        self.survey.singles.push(Single {
            device: device.path.display().to_string(),
            serial: device.serial.clone(),
            ext4,
        });
        self
    }

    /// The last disk has an old partition table, which shows an Unbound file system.
    fn old_table(self, partition: &str, uuid: u8) -> Rig {
        let disk = self.survey.devices.last().unwrap().path.clone();
        self.bare(partition, uuid, 0, |device| device.disk = Some(disk))
    }

    /// The last file system ends with a block group.
    fn whole_groups(mut self) -> Rig {
        self.survey.singles.last_mut().unwrap().ext4.is_whole_groups = true;
        self
    }

    /// The last disk grew, and its file system was made to fill it.
    fn grown(mut self, bytes: u64) -> Rig {
        self.survey.devices.last_mut().unwrap().size_bytes += bytes;
        self.survey.singles.last_mut().unwrap().ext4.size_bytes += bytes;
        self
    }

    /// The end of the last disk is hidden.
    fn cut(mut self, bytes: u64) -> Rig {
        self.survey.devices.last_mut().unwrap().size_bytes -= bytes;
        self
    }

    fn found(self, letter: &str, traces: Vec<Trace>) -> Rig {
        self.disk(letter, |device| device.traces = traces)
    }

    fn bound_record(mut self, kind: MadeOf, uuid: u8) -> Rig {
        self.survey.bound_record = Some(record(kind, uuid, "B"));
        self
    }

    /// A disk behind a SCSI host that has a driver, without the driver for disks.
    fn scsi_disk(mut self) -> Rig {
        self.survey.controllers.push(Controller {
            kind: "SCSI disk",
            address: "2:0:0:1".into(),
            id: "QEMU HARDDISK".into(),
            module: Some("sd_mod"),
        });
        self
    }

    fn controller(mut self) -> Rig {
        self.survey.controllers.push(Controller {
            kind: "PCI storage controller",
            address: "0000:03:00.0".into(),
            id: "1000:0072".into(),
            module: None,
        });
        self
    }
}

fn uuid_text(uuid: u8) -> String {
    ext4::Ext4Superblock::parse(&ext4::testing::block_of("", uuid, GIB)).unwrap().uuid_text()
}

fn record(kind: MadeOf, uuid: u8, serial: &str) -> SetRecord {
    let members = vec![RecordedMember { serial: Some(format!("SER-{serial}")), size_bytes: 500 * GIB }];
    SetRecord::new(kind, uuid_text(uuid), members)
}

fn says(kind: MadeOf, uuid: u8, serial: &str) -> impl FnOnce(&mut Device) {
    let record = record(kind, uuid, serial);
    move |device| device.record = Some(Ok(record))
}

fn rig() -> Rig {
    Rig::default()
}

fn mark(kind: Kind) -> Vec<Trace> {
    vec![Trace::Content(Content { kind, label: None })]
}

fn labelled(kind: Kind) -> Vec<Trace> {
    vec![Trace::Content(Content { kind, label: Some(UNBOUND_LABEL.into()) })]
}

fn old() -> Trace {
    Trace::OldMd(old_md::parse(&old_md::testing::block(0)).unwrap())
}

fn imsm() -> Trace {
    Trace::Content(Content { kind: Kind::FirmwareRaid("Intel Matrix Storage, IMSM"), label: None })
}

fn unreadable() -> Vec<Trace> {
    vec![Trace::Unreadable("it cannot be read at byte 4096: Input/output error".into())]
}

fn alone(slot: u16) -> Vec<Slot> {
    (0..2).map(|number| if number == slot { Slot::Active(number) } else { Slot::Other }).collect()
}

fn inside(kind: Kind) -> impl Fn(&mut Device) {
    move |device| device.traces = vec![Trace::Inside(Content { kind, label: None })]
}

fn holding(kind: Kind) -> Rig {
    rig().disk("b", inside(kind)).md(0, |m| m.ext4 = None).disk("c", inside(kind)).md(1, |m| m.ext4 = None)
}

fn mapping(by: Mapper, name: &str) -> Option<Mapping> {
    Some(Mapping { by, name: name.into() })
}

fn mapped(by: Mapper, md: Option<MdSuperblock>, label: Option<&str>) -> impl FnOnce(&mut Device) {
    let ext4 = label.map(|label| ext4::testing::superblock(label, 5));
    move |device| {
        device.path = "/dev/dm-0".into();
        device.mapping = mapping(by, "vault");
        device.traces = vec![Trace::Mapped { md, ext4 }];
    }
}

/// Started from these disks, `degraded` or not; or refused.
enum Expected {
    Whole(&'static str),
    Degraded(&'static str),
    Refused(RefusalCode),
}
use Expected::{Degraded, Refused, Whole};

/// A name, what is attached, what comes of it, and what is said: on the screen, or as warnings of a choice.
type Arrangement = (&'static str, Rig, Expected, &'static [&'static str]);

#[test]
fn every_arrangement_has_its_answer_in_words_that_name_the_disk() {
    let all: Vec<Arrangement> = [healthy(), bare(), mirrors(), nothing()].into_iter().flatten().collect();
    assert!(all.len() >= 95, "{} arrangements", all.len());
    let mut wrong = vec![];
    for (name, rig, expected, phrases) in &all {
        let (is_right, text) = match (rig.survey.choose(None), expected) {
            (Ok(choice), Whole(letters)) => (started(&choice, letters) && !choice.degraded, choice.warnings.join("\n")),
            (Ok(choice), Degraded(letters)) => {
                (started(&choice, letters) && choice.degraded, choice.warnings.join("\n"))
            }
            (Err(refusal), Refused(code)) => (refusal.code == *code, refusal.screen()),
            (answer, _) => (false, format!("{answer:#?}")),
        };
        let missing: Vec<_> = phrases.iter().filter(|phrase| !text.contains(**phrase)).collect();
        if !is_right || !missing.is_empty() {
            wrong.push(format!("{name}: {missing:?} in {text}"));
        }
    }
    assert!(wrong.is_empty(), "{}\n\n{} of {} wrong", wrong.join("\n\n"), wrong.len(), all.len());
}

/// Whether it starts from exactly the disks of these letters, each named with its serial number.
fn started(choice: &SetChoice, letters: &str) -> bool {
    let letters: Vec<String> = match letters.contains(' ') {
        true => letters.split(' ').map(str::to_owned).collect(),
        false if letters.len() == 2 && letters.ends_with('1') => vec![letters.to_owned()],
        false => letters.chars().map(String::from).collect(),
    };
    let expected: Vec<String> = letters.iter().map(|letter| path(letter)).collect();
    let devices = match &choice.kind {
        SetKind::Mirror { devices, .. } => devices.clone(),
        SetKind::Single { device } => vec![device.clone()],
    };
    devices == expected
        && choice.disks.len() == devices.len()
        && choice.disks.iter().all(|disk| disk.contains("serial "))
}

#[test]
fn every_refusal_names_all_disks_that_are_attached() {
    for (name, rig, _, _) in [healthy(), bare(), mirrors(), nothing()].into_iter().flatten() {
        let Err(refusal) = rig.survey.choose(None) else { continue };
        let screen = refusal.screen();
        for device in rig.survey.devices.iter().filter(|device| device.disk.is_none()) {
            let path = device.path.display().to_string();
            assert!(screen.contains(&path), "{name}: {path} is not named: {screen}");
        }
        assert!(!refusal.why.is_empty() && !refusal.remedy.is_empty(), "{name}");
    }
}

#[test]
fn what_was_chosen_after_an_acceptance_is_the_same_disk_whatever_it_is_called_then() {
    let apart = |first: &str, second: &str| {
        let half = |slot: u16| move |m: &mut MdSuperblock| (m.events, m.roles) = (50, alone(slot));
        rig().member(first, 0, half(0)).member(second, 1, half(1)).survey
    };
    let refusal = apart("b", "c").choose(None).unwrap_err();
    let acceptance = Acceptance {
        format: 1,
        code: RefusalCode::WrittenApart,
        fingerprint: refusal.fingerprint.unwrap(),
        device: Some(MdUuid([1; 16]).to_string()),
        by: "root".into(),
        reason: "it has today's orders".into(),
        at: 0,
        found: vec![],
    };
    for (first, second) in [("b", "c"), ("c", "b")] {
        let choice = apart(first, second).choose(Some(&acceptance)).unwrap();
        assert!(started(&choice, second) && choice.degraded, "{choice:?}");
        assert!(choice.left_out[0].contains(&serial(first)), "{choice:?}");
        assert!(choice.left_out[0].contains("left out, given up"), "{choice:?}");
        assert!(choice.left_out[0].contains("--zero-superblock"), "{choice:?}");
    }
    let other = Acceptance { fingerprint: Digest::of(b"another situation"), ..acceptance };
    assert_eq!(apart("b", "c").choose(Some(&other)).unwrap_err().code, RefusalCode::WrittenApart);
}

#[test]
fn a_time_that_cannot_be_is_named_where_times_are_to_decide() {
    let apart = rig().member("b", 0, |m| m.utime = 2_208_988_800).member("c", 1, |m| m.utime = 86_400);
    let wrong = apart.survey.wrong_clocks(1_796_000_000);
    assert!(wrong.len() == 2 && wrong[0].contains("SER-B") && wrong[0].contains("in the future"), "{wrong:?}");
    assert!(wrong[1].contains("SER-C") && wrong[1].contains("before there was an ATLAS"), "{wrong:?}");
    assert_eq!(rig().pair().survey.wrong_clocks(u64::MAX), Vec::<String>::new());
}

#[test]
fn a_mirror_of_one_disk_is_no_mirror_and_said_to_be_none() {
    let one = rig().member("b", 0, |m| {
        m.raid_disks = 1;
        m.roles = vec![Slot::Active(0)];
    });
    let choice = one.survey.choose(None).unwrap();
    assert!(!choice.degraded && choice.warnings[0].contains("nothing has a copy"), "{choice:?}");
}

#[test]
fn a_member_that_cannot_give_some_blocks_is_named_and_nobody_is_told_to_erase_the_other() {
    let both = rig().member("b", 0, |m| m.bad_blocks = true).member("c", 1, |_| ()).survey.choose(None).unwrap();
    assert!(both.warnings.iter().any(|line| line.contains("SER-B") && line.contains("cannot give")), "{both:?}");
    let none = rig().member("b", 0, |m| m.bad_blocks = true).member("c", 1, |m| m.bad_blocks = true);
    let none = none.survey.choose(None).unwrap();
    assert!(none.warnings.len() == 1 && none.warnings[0].contains("no member is a full copy"), "{none:?}");
    let behind = rig()
        .member("b", 0, |m| {
            (m.bad_blocks, m.events) = (true, m.events + 9);
            m.roles = alone(0);
        })
        .member("c", 1, |_| ());
    let choice = behind.survey.choose(None).unwrap();
    assert!(
        choice.left_out[0].contains("keep it as it is") && !choice.left_out[0].contains("--zero-superblock"),
        "{choice:?}"
    );
}

#[test]
fn a_last_write_in_the_future_is_reported() {
    let choice = rig().pair().survey.choose(None).unwrap();
    assert_eq!(choice.of_the_future(choice.written), None);
    assert_eq!(choice.of_the_future(choice.written - 500), None, "clocks differ a little");
    let warning = choice.of_the_future(choice.written - 7200).unwrap();
    assert!(warning.contains("2 hours in the future"), "{warning}");
}

#[test]
fn the_record_of_a_choice_names_its_disks() {
    let survey = rig().pair().survey;
    let record = survey.record_of(&survey.choose(None).unwrap());
    assert_eq!((record.kind, record.members.len()), (MadeOf::Mirror, 2));
    assert_eq!(record.members[0], RecordedMember { serial: Some("SER-B".into()), size_bytes: 500 * GIB });
    assert_eq!(survey.device(PathBuf::from("/dev/sdb")).unwrap().size_bytes, 500 * GIB);
}

#[test]
fn no_screen_advises_a_write_to_a_partition_inside_a_member() {
    for rig in
        [rig().member("b", 0, |_| ()).old_table("b1", 9), rig().pair().old_table("c1", 3).bare("d", 9, 0, |_| ())]
    {
        let refusal = rig.survey.choose(None).unwrap_err();
        assert!(
            !refusal.remedy.iter().any(|line| line.contains("/dev/sdb1") || line.contains("/dev/sdc1")),
            "{:?}",
            refusal.remedy
        );
    }
}

/// The whole disk shows the file system of a member on its partition; to wipe that disk would be to wipe the good member.
#[test]
fn no_screen_takes_the_disk_of_a_good_member_for_the_one_that_is_missing() {
    let half = broken::half_on_a_partition().survey;
    let headless = |device: &Device| device.traces.iter().any(|trace| matches!(trace, Trace::Headless { .. }));
    assert!(half.devices.iter().any(headless), "the disk does not show it");
    let refusal = half.choose(None).unwrap_err();
    assert!(!refusal.remedy.iter().any(|line| line.contains("may be the missing member")), "{:?}", refusal.remedy);
    assert!(!refusal.to_string().contains("wiped") && !refusal.found.iter().any(|line| line.contains("wiped")));
}

#[test]
fn disks_of_the_record_are_kept_from_md_whatever_they_are_called() {
    let survey = broken::renamed(2).bound_record(MadeOf::Mirror, 9).survey;
    assert_eq!(survey.atlas_devices().len(), 2);
    assert_eq!(broken::renamed(2).survey.atlas_devices().len(), 0);
}
