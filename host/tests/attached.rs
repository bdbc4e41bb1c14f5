//! What is said of disks that the real programs made, and of those that something happened to.

#![allow(clippy::unwrap_used, reason = "a test")]

use atlas_host::block;
use atlas_model::{
    RefusalCode, UNBOUND_LABEL, ext4, md, old_md,
    set_record::{MadeOf, RecordedMember, SetRecord},
    survey::{Device, SetKind, Survey},
};
use std::{
    fs::File,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    process::Command,
};

/// Disks in files of a directory.
struct Bay {
    dir: tempfile::TempDir,
    disks: Vec<Device>,
}

impl Bay {
    fn new() -> Bay {
        Bay { dir: tempfile::tempdir().unwrap(), disks: vec![] }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn disk(&mut self, name: &str, size_bytes: u64) -> PathBuf {
        let path = self.path(name);
        File::options().create(true).append(true).open(&path).unwrap().set_len(size_bytes).unwrap();
        self.disks.push(Device {
            path: path.clone(),
            size_bytes,
            serial: Some(format!("S-{name}")),
            ..Device::default()
        });
        path
    }

    /// One with an Unbound file system of mke2fs that ends `tail` bytes before the disk.
    fn unbound(&mut self, name: &str, size_bytes: u64, tail: u64, record: Option<MadeOf>) -> PathBuf {
        let path = self.disk(name, size_bytes);
        let tree = self.path(&format!("{name}.tree"));
        std::fs::create_dir_all(tree.join("SID_DATA")).unwrap();
        if let Some(kind) = record {
            let members = vec![RecordedMember { serial: Some(format!("S-{name}")), size_bytes }];
            let record = SetRecord::new(kind, "01234567-89ab-cdef-0123-456789abcdef".into(), members);
            std::fs::write(tree.join("SID_DATA/Set"), record.to_file()).unwrap();
        }
        let blocks = format!("{}k", (size_bytes - tail) / 1024);
        let uuid = "01234567-89ab-cdef-0123-456789abcdef";
        let args = ["-q", "-F", "-t", "ext4", "-L", UNBOUND_LABEL, "-U", uuid, "-d", tree.to_str().unwrap()];
        run(Command::new("/sbin/mke2fs").args(args).arg(&path).arg(blocks));
        path
    }

    fn survey(&self) -> Survey {
        block::survey(&self.disks)
    }

    /// The code of the refusal, and its screen.
    fn refused(&self) -> (RefusalCode, String) {
        let refusal = self.survey().choose(None).unwrap_err();
        (refusal.code, refusal.screen())
    }
}

fn run(command: &mut Command) {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
}

fn write(path: &Path, at: u64, bytes: &[u8]) {
    File::options().write(true).open(path).unwrap().write_all_at(bytes, at).unwrap();
}

fn member(path: &Path, number: u32, change: impl FnOnce(&mut md::MdSuperblock)) {
    let mut sb = md::testing::half(number);
    change(&mut sb);
    write(path, 4096, &md::testing::to_block(&sb));
    write(path, sb.data_offset_bytes + 1024, &ext4::testing::block(UNBOUND_LABEL, 3));
}

/// What happens to a disk.
type Change<'c> = &'c dyn Fn(&Path);

const MIB: u64 = 1 << 20;

#[test]
fn members_and_bare_file_systems_are_told_apart() {
    let mut bay = Bay::new();
    let path = bay.disk("m", 4 * MIB);
    member(&path, 1, |_| ());
    bay.unbound("s", 16 * MIB, 0, None);
    bay.disk("empty", MIB);
    let survey = bay.survey();
    assert_eq!((survey.members.len(), survey.singles.len(), survey.devices.len()), (1, 1, 3));
    assert_eq!(survey.members[0].md, md::testing::half(1));
    assert_eq!(survey.members[0].ext4.as_ref().unwrap().label, UNBOUND_LABEL);
    assert_eq!(survey.members[0].serial.as_deref(), Some("S-m"));
}

#[test]
fn a_whole_disk_that_proves_to_be_one_is_the_set() {
    let mut bay = Bay::new();
    bay.unbound("s", 16 * MIB, 0, Some(MadeOf::Single));
    let choice = bay.survey().choose(None).unwrap();
    assert!(matches!(choice.kind, SetKind::Single { .. }) && choice.warnings.is_empty(), "{choice:?}");
    assert!(choice.disks[0].contains("serial S-s"), "{choice:?}");
}

#[test]
fn a_bare_disk_without_a_record_is_taken_with_a_warning_where_nothing_speaks_against_it() {
    let mut bay = Bay::new();
    bay.unbound("s", 16 * MIB, 0, None);
    let choice = bay.survey().choose(None).unwrap();
    assert!(choice.warnings.iter().any(|warning| warning.contains("nothing proves")), "{choice:?}");
}

#[test]
fn half_of_a_mirror_is_no_whole_disk_whatever_hides_its_superblock() {
    let old = |path: &Path| write(path, old_md::offset(16 * MIB).unwrap(), &old_md::testing::block(0));
    let imsm = |path: &Path| write(path, 16 * MIB - 1024, b"Intel Raid ISM Cfg Sig. 1.3.00");
    let ddf = |path: &Path| write(path, 16 * MIB - 512, b"\xde\x11\xde\x11");
    let shorter = |path: &Path| File::options().write(true).open(path).unwrap().set_len(15 * MIB).unwrap();
    let nothing = |_: &Path| ();
    let cases: [(&str, u64, Option<MadeOf>, Change<'_>, &str); 7] = [
        ("0.90", 128 << 10, None, &old, "format 0.90"),
        ("0.90, said to be single", 128 << 10, Some(MadeOf::Single), &old, "format 0.90"),
        ("IMSM", 0, Some(MadeOf::Single), &imsm, "IMSM"),
        ("DDF", 0, None, &ddf, "DDF"),
        ("1.0, end hidden", 136 << 10, None, &nothing, "ends 139264 bytes before its disk"),
        ("1.0, end hidden, with a record", 0, Some(MadeOf::Mirror), &nothing, "SID_DATA/Set on the disk says"),
        ("cut off", 0, None, &shorter, "larger than its disk"),
    ];
    for (name, tail, record, change, phrase) in cases {
        let mut bay = Bay::new();
        let path = bay.unbound("half", 16 * MIB, tail, record);
        change(&path);
        bay.disks[0].size_bytes = std::fs::metadata(&path).unwrap().len();
        let (code, screen) = bay.refused();
        assert_eq!(code, RefusalCode::LostMirror, "{name}: {screen}");
        assert!(screen.contains(phrase) && screen.contains("serial S-half"), "{name}: {screen}");
    }
}

#[test]
fn a_hardware_raid_that_grew_is_proven_by_its_record() {
    let mut bay = Bay::new();
    bay.unbound("raid", 16 * MIB, MIB, Some(MadeOf::Single));
    assert!(bay.survey().choose(None).is_ok());
}

#[test]
fn a_last_block_group_that_mke2fs_dropped_is_no_place_for_a_superblock_of_md() {
    let mut bay = Bay::new();
    bay.unbound("raid", 128 * MIB + (160 << 10), 0, None);
    let survey = bay.survey();
    assert_eq!(
        survey.singles[0].ext4.size_bytes,
        128 * MIB + 1024,
        "mke2fs took the rest, too: the test needs another size"
    );
    let choice = survey.choose(None).unwrap();
    assert!(choice.warnings.iter().any(|warning| warning.contains("nothing proves")), "{choice:?}");
}

#[test]
fn what_programs_made_is_named_where_the_set_should_be() {
    let mut bay = Bay::new();
    let make = |program: &str, args: &[&str], path: &Path| run(Command::new(program).args(args).arg(path));
    make("/sbin/mkfs.xfs", &["-q", "-L", "books"], &bay.disk("xfs", 320 * MIB));
    make("/sbin/mkfs.btrfs", &["-q", "-L", "films"], &bay.disk("btrfs", 128 * MIB));
    make("/sbin/mkswap", &["-q"], &bay.disk("swap", MIB));
    let luks = bay.disk("luks", 32 * MIB);
    let key = bay.path("key");
    std::fs::write(&key, "secret").unwrap();
    make(
        "/sbin/cryptsetup",
        &[
            "-q",
            "--pbkdf",
            "pbkdf2",
            "--pbkdf-force-iterations",
            "1000",
            "--key-file",
            key.to_str().unwrap(),
            "luksFormat",
        ],
        &luks,
    );
    make("/sbin/mke2fs", &["-q", "-F", "-t", "ext4", "-L", "ROOT"], &bay.disk("root", 8 * MIB));
    bay.disk("blank", MIB);
    let (code, screen) = bay.refused();
    assert_eq!(code, RefusalCode::NoUnboundSet);
    for (serial, what) in [
        ("S-xfs", "xfs 'books'"),
        ("S-btrfs", "btrfs 'films'"),
        ("S-swap", "swap space"),
        ("S-luks", "LUKS"),
        ("S-root", "ext4 'ROOT'"),
        ("S-blank", "empty"),
    ] {
        let line = screen.lines().find(|line| line.contains(serial)).unwrap_or_default();
        assert!(line.contains(what), "{serial} {what}: {screen}");
    }
}

#[test]
fn a_mirror_that_holds_something_else_than_ext4_is_refused_by_its_name() {
    for (mark, name) in [(b"LUKS\xba\xbe\0\x02".as_slice(), "LUKS"), (b"XFSB", "xfs")] {
        let mut bay = Bay::new();
        for number in 0..2 {
            let path = bay.disk(&format!("m{number}"), 8 * MIB);
            let sb = md::testing::half(number);
            write(&path, 4096, &md::testing::to_block(&sb));
            write(&path, sb.data_offset_bytes, mark);
        }
        let (code, screen) = bay.refused();
        assert_eq!(code, RefusalCode::UnsupportedSet, "{screen}");
        assert!(screen.contains(name) && screen.contains("serial S-m1") && screen.contains("with an ext4"), "{screen}");
    }
}

#[test]
fn why_the_other_half_is_no_member_is_said() {
    let wiped = |path: &Path| write(path, 4096, &[0; 4096]);
    let repartitioned = |path: &Path| {
        write(path, 0, &[0; 8192]);
        write(path, 512, b"EFI PART");
    };
    let damaged = |path: &Path| write(path, 4096 + 200, &[77]);
    let cases: [(Change<'_>, &[&str]); 3] = [
        (&wiped, &["without the member's superblock"]),
        (&repartitioned, &["a partition table", "without the member's superblock"]),
        (&damaged, &["checksum does not hold"]),
    ];
    for (change, phrases) in cases {
        let mut bay = Bay::new();
        for number in 0..2 {
            let path = bay.disk(&format!("m{number}"), 8 * MIB);
            member(&path, number, |_| ());
        }
        assert!(bay.survey().choose(None).is_ok());
        change(&bay.path("m1"));
        let (code, screen) = bay.refused();
        assert_eq!(code, RefusalCode::MissingMember, "{screen}");
        let line = screen.lines().find(|line| line.contains("serial S-m1")).unwrap_or_default();
        assert!(phrases.iter().all(|phrase| line.contains(phrase)), "{screen}");
    }
}

#[test]
fn a_disk_that_cannot_be_read_is_said_with_its_reason() {
    let mut bay = Bay::new();
    member(&bay.disk("m0", 8 * MIB), 0, |_| ());
    bay.disk("gone", 8 * MIB);
    std::fs::remove_file(bay.path("gone")).unwrap();
    // A file that is shorter than the disk that it stands for ends as a disk with unreadable sectors does.
    bay.disk("bad", 8 * MIB);
    File::options().write(true).open(bay.path("bad")).unwrap().set_len(4096).unwrap();
    bay.disk("dead", 0);
    let (code, screen) = bay.refused();
    assert_eq!(code, RefusalCode::MissingMember);
    for (serial, phrase) in [
        ("S-gone", "cannot be opened: No such file"),
        ("S-bad", "cannot be read at byte 4096"),
        ("S-dead", "no medium is in it, or the disk is dead"),
    ] {
        let line = screen.lines().find(|line| line.contains(serial)).unwrap_or_default();
        assert!(line.contains(phrase), "{serial}: {screen}");
    }
}

#[test]
fn a_stick_with_our_label_and_no_data_is_left_alone() {
    let mut bay = Bay::new();
    (0..2).for_each(|number| member(&bay.disk(&format!("m{number}"), 8 * MIB), number, |_| ()));
    let stick = bay.disk("stick", 8 * MIB);
    run(Command::new("/sbin/mke2fs").args(["-q", "-F", "-t", "ext4", "-L", UNBOUND_LABEL]).arg(&stick));
    let survey = bay.survey();
    assert!(survey.choose(None).is_ok());
    assert!(!survey.atlas_devices().contains(stick.to_str().unwrap()));
    std::fs::remove_file(bay.path("m1")).unwrap();
    let (code, screen) = bay.refused();
    assert_eq!(code, RefusalCode::MissingMember);
    let line = screen.lines().find(|line| line.contains("S-stick")).unwrap_or_default();
    assert!(line.contains("without SID_DATA") && line.contains("left alone"), "{screen}");
}

#[test]
fn both_halves_of_a_mirror_that_is_not_recognised_are_one_lost_mirror_and_not_two_sets() {
    let mut bay = Bay::new();
    for name in ["a", "b"] {
        let path = bay.unbound(name, 16 * MIB, 128 << 10, None);
        write(&path, old_md::offset(16 * MIB).unwrap(), &old_md::testing::block(0));
    }
    let (code, screen) = bay.refused();
    assert_eq!(code, RefusalCode::LostMirror, "{screen}");
    for phrase in ["serial S-a", "serial S-b", "--update=metadata"] {
        assert!(screen.contains(phrase), "{screen}");
    }
}
