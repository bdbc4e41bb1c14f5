//! A server that was PRI takes SEC1's identity, and is killed at every call that changes something: whatever is in place, the record of it is true.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test ends where something is not as it must be")]

use atlas_host::{testing::cuts::Run, tree::Dir};
use atlas_model::{
    EnvVersion, Role,
    worn::{RoleIdentity, Worn},
};
use atlas_sid::{SidData, create, worn};
use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

const PATHS: [&str; 3] = ["etc/hostname", "etc/network/interfaces", "etc/ssh/ssh_host_ed25519_key"];

fn program() -> PathBuf {
    let example = std::env::current_exe().unwrap().ancestors().nth(2).unwrap().join("examples/wear");
    assert!(example.exists(), "cargo test builds {}", example.display());
    example
}

fn identity(role: &str) -> RoleIdentity {
    let paths = vec![];
    RoleIdentity { role: role.parse().unwrap(), cluster: "bakery".parse().unwrap(), set: None, paths }
}

/// The Snapshots of PRI and SEC1 on one Unbound disk, and a server that wears PRI's identity.
fn scene(base: &Path) {
    for role in ["PRI", "SEC1"] {
        for path in PATHS {
            let file = base.join("server").join(path);
            fs::create_dir_all(file.parent().unwrap()).unwrap();
            fs::write(file, format!("{role}'s {path}\n")).unwrap();
        }
        let lists = base.join(format!("unbound/SID_DATA/{role}/Env1"));
        fs::create_dir_all(&lists).unwrap();
        fs::write(lists.join("IdentFilePaths"), PATHS.map(|path| format!("/{path}\n")).concat()).unwrap();
        let sid = SidData::open(&Dir::open_root(base.join("unbound")).unwrap()).unwrap();
        let root = Dir::open_root(base.join("server")).unwrap();
        create::create(&root, &sid, role.parse().unwrap(), EnvVersion::OLDEST).unwrap();
    }
    let done = Command::new(program()).arg("--root").arg(base).arg("PRI").status().unwrap();
    assert!(done.success());
    assert_eq!(whose_files(base), BTreeMap::from([("PRI", 3), ("SEC1", 0)]));
}

/// How many files of each identity are in place; each is one of them, whole.
fn whose_files(base: &Path) -> BTreeMap<&'static str, usize> {
    let mut count = BTreeMap::from([("PRI", 0), ("SEC1", 0)]);
    for path in PATHS {
        let content = fs::read_to_string(base.join("server").join(path)).unwrap();
        let role = ["PRI", "SEC1"].into_iter().find(|role| content == format!("{role}'s {path}\n"));
        *count.get_mut(role.unwrap_or_else(|| panic!("{path} is {content:?}"))).unwrap() += 1;
    }
    count
}

/// Whether temporary files lie beside the identity, or beside the record of it.
fn has_leftovers(base: &Path) -> bool {
    let found = Command::new("find").arg(base.join("server")).args(["-name", ".atlas-tmp-*"]).output().unwrap();
    !found.stdout.is_empty()
}

/// Whose identity the record excludes from being in place: with disks of that Role before its first Snapshot, the server would boot.
fn may_be(base: &Path, role: &str) -> bool {
    worn::read(&Dir::open_root(base.join("server")).unwrap()).unwrap().foreign_to(&identity(role)).is_none()
}

#[test]
fn cut_off_anywhere_the_record_names_every_identity_that_is_in_place() {
    let tmp = tempfile::tempdir().unwrap();
    let before = tmp.path().join("before");
    scene(&before);
    let (mut mixed, mut littered, mut states) = (0, 0, BTreeMap::new());
    let run = Run { program: &program(), before: &before, args: &["SEC1"] };
    let cuts = run.killed_at_every_change(|base, when| {
        let files = whose_files(base);
        for role in ["PRI", "SEC1"] {
            let others = PATHS.len() - files[role];
            assert!(!may_be(base, role) || others == 0, "{when}: it passes for {role} with {files:?}");
        }
        mixed += usize::from(files.values().all(|count| *count > 0));
        *states.entry((may_be(base, "PRI"), may_be(base, "SEC1"))).or_insert(0) += 1;
        littered += usize::from(has_leftovers(base));
        let done = Command::new(program()).arg("--root").arg(base).arg("SEC1").status().unwrap();
        assert!(!has_leftovers(base), "{when}: the next boot leaves the other identity's files lying about");
        assert!(done.success() && may_be(base, "SEC1") && !may_be(base, "PRI"), "{when}: the next boot");
        assert_eq!(whose_files(base)["SEC1"], PATHS.len(), "{when}: the next boot");
    });
    println!("{cuts} cuts, {mixed} with files of both; (passes for PRI, for SEC1): {states:?}");
    assert!(littered > 0, "no cut left anything lying about");
    assert!(mixed > 0, "no cut lay between two files");
    assert!(states.contains_key(&(true, false)) && states.contains_key(&(false, false)), "{states:?}");
}

/// What a power cut leaves is what was flushed: the order of the calls, each durable before the next one matters.
#[test]
fn what_the_record_says_is_durable_before_and_after_what_it_is_about() {
    let tmp = tempfile::tempdir().unwrap();
    let base = tmp.path().join("base");
    scene(&base);
    let log = tmp.path().join("log");
    let strace = Command::new("strace")
        .args(["-qq", "-e", "trace=renameat2,renameat,fsync,syncfs", "-o"])
        .arg(&log)
        .arg(program())
        .arg("--root")
        .arg(&base)
        .arg("SEC1")
        .status()
        .unwrap();
    assert!(strace.success());
    let log = fs::read_to_string(&log).unwrap();
    let calls: Vec<&str> = log.lines().collect();
    let names_identity = |line: &&str| line.contains("rename") && line.contains(&format!("\"{}\"", worn::FILE));
    let records: Vec<usize> = (0..calls.len()).filter(|at| names_identity(&calls[*at])).collect();
    let exchanges: Vec<usize> = (0..calls.len()).filter(|at| calls[*at].contains("RENAME_EXCHANGE")).collect();
    let (&[intent, fact], &[first, .., last]) = (records.as_slice(), exchanges.as_slice()) else {
        panic!("not two records and several exchanges:\n{log}")
    };
    let flushed = |range: std::ops::Range<usize>, call: &str| calls[range].iter().any(|line| line.starts_with(call));
    assert!(intent < first && last < fact, "{log}");
    assert!(flushed(intent..first, "fsync"), "the name of the intent is not durable before the first exchange:\n{log}");
    assert!(flushed(last..fact, "syncfs"), "the exchanges are not durable before the fact:\n{log}");
    assert!(flushed(fact..calls.len(), "fsync"), "the fact is not durable at the end:\n{log}");
    let root = Dir::open_root(base.join("server")).unwrap();
    let role: Role = "SEC1".parse().unwrap();
    let is = worn::read(&root).unwrap();
    assert!(matches!(is, Worn { whose: atlas_model::worn::Whose::Of(of), becoming: None } if of.role == role));
}
