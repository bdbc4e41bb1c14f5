//! `import`, `resign` and `scan` are killed at every system call that changes something: no fact is lost, none is doubled, and the next run finishes the work.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test ends where something is not as it must be")]

mod common;

use atlas_host::testing::cuts::{CHANGING, Run};
use common::{Environment, build, built, crash};
use serde_json::Value;
use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
};

const PROGRAM: &str = env!("CARGO_BIN_EXE_ssCoreHandler");
const BUILD: Environment = built("gcc", "gcc -O1 -g -pthread -w");
const ENTRIES: &str = "var/lib/atlas/crashes/entries";

fn call(root: &Path, arguments: &[&str]) -> Output {
    Command::new(PROGRAM).arg("--root").arg(root).args(arguments).output().unwrap()
}

/// A server's tree that has counted two crashes of one kind and one of another, each of them with its core.
fn server() -> (tempfile::TempDir, PathBuf) {
    let top = tempfile::tempdir().unwrap();
    let dir = build(top.path(), "faults.c", &BUILD);
    let root = top.path().join("root");
    let cores = root.join("var/lib/atlas/cores");
    fs::create_dir_all(&cores).unwrap();
    for (way, name) in [("1", "core.1"), ("1", "core.2"), ("4", "core.3")] {
        fs::rename(crash(&dir, way, ""), cores.join(name)).unwrap();
    }
    (top, root)
}

/// The calls that change a disk: what is cut between two of them leaves what is cut at the second. A core is removed by its path.
fn changes(call: &str) -> bool {
    CHANGING.contains(&call) || call == "unlink"
}

/// What is known: by signature, how often it happened and what was noted.
fn known(root: &Path, when: &str) -> BTreeMap<String, (u64, usize)> {
    let output = call(root, &["--json", "list"]);
    assert!(output.status.success(), "{when}: {output:?}");
    let list: Value = serde_json::from_slice(&output.stdout).unwrap();
    let crash = |crash: &Value| {
        let (count, notes) = (crash["count"].as_u64().unwrap(), crash["notes"].as_array().unwrap().len());
        (crash["signature"].as_str().unwrap().to_owned(), (count, notes))
    };
    list["crashes"].as_array().unwrap().iter().map(crash).collect()
}

fn assert_no_leftovers(root: &Path, when: &str) {
    for dir in [ENTRIES, "var/lib/atlas/crashes/cores", "var/lib/atlas/crashes"] {
        for entry in fs::read_dir(root.join(dir)).unwrap() {
            let name = entry.unwrap().file_name().into_string().unwrap();
            assert!(!name.starts_with('.'), "{when}: {dir}/{name} was left");
        }
    }
}

#[test]
fn an_import_that_is_killed_at_any_call_is_finished_by_the_next() {
    let (top, root) = server();
    call(&root, &["scan"]);
    let other = top.path().join("other");
    fs::create_dir(&other).unwrap();
    let text = top.path().join("known.txt");
    // What the other site knows: both kinds, one with a note, and one more.
    for signature in known(&root, "before").keys() {
        call(&root, &["note", signature, "seen at Bonn"]);
    }
    call(&root, &["export", text.to_str().unwrap()]);
    let noted = known(&root, "noted");
    for entry in fs::read_dir(root.join(ENTRIES)).unwrap() {
        let path = entry.unwrap().path();
        let without = fs::read_to_string(&path).unwrap().replace("\"seen at Bonn\"", "");
        fs::write(&path, without).unwrap();
    }
    let gone = noted.keys().next().unwrap();
    fs::remove_file(root.join(ENTRIES).join(format!("{gone}.json"))).unwrap();
    let before = known(&root, "before");
    assert_eq!(before.len(), 1);
    let import = ["import", text.to_str().unwrap()];
    let run = Run { program: Path::new(PROGRAM), before: &root, args: &import };
    let cuts = run.killed_at(changes, |work, when| {
        let after = known(work, when);
        for (signature, (count, notes)) in &before {
            let (now, noted) = after[signature];
            assert!(now == *count && noted >= *notes, "{when}: {after:?}");
        }
        assert!(call(work, &import).status.success(), "{when}");
        let end = known(work, when);
        assert!(end.len() == 2 && end.values().all(|(_, notes)| *notes == 1), "{when}: {end:?}");
        assert_no_leftovers(work, when);
    });
    println!("import: {cuts} cuts, each finished by the next import");
}

#[test]
fn a_resigning_that_is_killed_at_any_call_loses_no_count_and_no_core() {
    let (_top, root) = server();
    call(&root, &["scan"]);
    let right = known(&root, "before");
    // As older rules had it: each kind under another signature, with its core.
    for (number, signature) in right.keys().enumerate() {
        let old = format!("{number}").repeat(64);
        let entry = root.join(ENTRIES).join(format!("{signature}.json"));
        let text = fs::read_to_string(&entry).unwrap().replace(signature, &old);
        fs::write(root.join(ENTRIES).join(format!("{old}.json")), text).unwrap();
        fs::remove_file(entry).unwrap();
        let cores = root.join("var/lib/atlas/crashes/cores");
        fs::rename(cores.join(format!("{signature}.zst")), cores.join(format!("{old}.zst"))).unwrap();
    }
    assert_ne!(known(&root, "older"), right);
    let run = Run { program: Path::new(PROGRAM), before: &root, args: &["resign"] };
    let cuts = run.killed_at(changes, |work, when| {
        let seen: u64 = known(work, when).values().map(|(count, _)| count).sum();
        assert!(seen >= 3, "{when}: only {seen} of 3 occurrences are left");
        assert!(call(work, &["resign"]).status.success(), "{when}");
        assert_eq!(known(work, when), right, "{when}");
        assert_eq!(
            fs::read_dir(work.join("var/lib/atlas/crashes/cores")).unwrap().count(),
            2,
            "{when}: a core is lost"
        );
        assert_no_leftovers(work, when);
    });
    println!("resign: {cuts} cuts, each finished by the next");
}

#[test]
fn a_crash_that_is_told_better_than_before_is_counted_once_whenever_the_count_is_killed() {
    let top = tempfile::tempdir().unwrap();
    // Static: the tree needs no libraries. The thirteenth way crashes in functions that -O2 copies into others.
    let dir = build(top.path(), "faults.c", &Environment { build: "gcc -O2 -g -static -pthread -w", ..BUILD });
    let root = top.path().join("root");
    let (cores, program) = (root.join("var/lib/atlas/cores"), root.join(dir.strip_prefix("/").unwrap()).join("faults"));
    fs::create_dir_all(program.parent().unwrap()).unwrap();
    fs::create_dir_all(&cores).unwrap();
    common::shell(&dir, &format!("strip --strip-debug -o {} faults", program.display()));
    fs::rename(crash(&dir, "13", ""), cores.join("core.1")).unwrap();
    call(&root, &["scan"]);
    fs::copy(dir.join("faults"), &program).unwrap();
    fs::rename(crash(&dir, "13", ""), cores.join("core.2")).unwrap();
    let plain = known(&root, "before").into_keys().next().unwrap();
    let run = Run { program: Path::new(PROGRAM), before: &root, args: &["scan"] };
    let cuts = run.killed_at(changes, |work, when| {
        assert!(call(work, &["scan"]).status.success(), "{when}");
        let after = known(work, when);
        assert_eq!(after.values().map(|(count, _)| *count).collect::<Vec<_>>(), [2], "{when}: {after:?}");
        assert!(!after.contains_key(&plain), "{when}: nothing was told better");
        assert!(call(work, &["show", &plain]).status.success(), "{when}");
        assert_eq!(fs::read_dir(work.join("var/lib/atlas/crashes/cores")).unwrap().count(), 1, "{when}");
        assert_no_leftovers(work, when);
    });
    println!("count: {cuts} cuts, each finished by the next scan");
}
