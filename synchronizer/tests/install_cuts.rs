//! `ssSync install`, killed at every call that changes something, and with a disk that is full from every call on: each object is the old
//! one or the new one, whole, and the next run completes it.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test ends where something is not as it must be")]

mod common;

use atlas_host::testing::cuts::Run;
use common::{PROGRAM, World, ss_sync};
use std::{fs, path::Path};

const LISTED: &str = "/etc/group\n/etc/motd\n/etc/passwd\n/etc/web\n";
/// Each path with what is there before and after; nothing where it is not there.
const PATHS: [(&str, Option<&str>, Option<&str>); 6] = [
    ("etc/motd", Some("old\n"), None),
    (
        "etc/passwd",
        Some("root:x:0:0:root:/root:/bin/sh\n"),
        Some("root:x:0:0:root:/root:/bin/sh\nann:x:1000:1000::/:/bin/sh\n"),
    ),
    ("etc/group", Some("root:x:0:\n"), Some("root:x:0:\nann:x:1000:\n")),
    ("etc/web/web.conf", Some("good 1\n"), Some("good 2\n")),
    ("etc/web/sites/shop", Some("shop\n"), None),
    ("etc/web/new/deep/file", None, Some("new\n")),
];

/// A secondary that has the old, and PRI's Snapshot with the new.
fn change(world: &World) {
    world.write("pri/etc/motd", "old\n");
    world.cycle();
    for (path, _, new) in PATHS {
        match new {
            Some(content) => world.write(&format!("pri/{path}"), content),
            None => fs::remove_file(world.path("pri").join(path)).unwrap(),
        }
    }
    fs::remove_dir(world.path("pri/etc/web/sites")).unwrap();
    world.send();
}

/// How many of the paths are new; every one is the old or the new, whole.
fn count_new(root: &Path, when: &str) -> usize {
    let is = |path: &str| fs::read_to_string(root.join(path)).ok();
    let mut count = 0;
    for (path, old, new) in PATHS {
        let there = is(path);
        assert!(there.as_deref() == old || there.as_deref() == new, "{when}: {path} is {there:?}");
        count += usize::from(there.as_deref() == new);
    }
    count
}

fn assert_completed(root: &Path, when: &str) {
    let output = ss_sync(root, &["install"]);
    assert_eq!(output.status.code(), Some(0), "{when}: {}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(count_new(root, when), PATHS.len(), "{when}: the next run did not complete it");
    for dir in ["etc", "etc/web", "etc/web/new", "etc/web/new/deep", "var/lib/atlas/install"] {
        for entry in fs::read_dir(root.join(dir)).unwrap() {
            let name = entry.unwrap().file_name().into_string().unwrap();
            let is_left = name.starts_with(".atlas-tmp-") || ["pending.json", "kept"].contains(&name.as_str());
            assert!(!is_left, "{when}: {dir}/{name} is left");
        }
    }
}

#[test]
fn cut_at_any_call_each_object_is_old_or_new_and_the_next_run_completes_it() {
    let world = World::new(LISTED);
    change(&world);
    let sec = world.path("sec");
    let mut seen = [0; PATHS.len() + 1];
    let cuts =
        Run { program: Path::new(PROGRAM), before: &sec, args: &["install"] }.killed_at_every_change(|root, when| {
            seen[count_new(root, when)] += 1;
            assert_completed(root, when);
        });
    assert!(seen.iter().all(|count| *count > 0), "the cuts must lie before, between and after all changes: {seen:?}");
    println!("install: {cuts} cuts; how many left so many of {} objects new: {seen:?}", PATHS.len());
}

#[test]
fn a_disk_that_is_full_at_any_call_leaves_all_old_or_all_new() {
    let world = World::new(LISTED);
    change(&world);
    let sec = world.path("sec");
    let mut seen = [0, 0];
    let runs = Run { program: Path::new(PROGRAM), before: &sec, args: &["install"] }.disk_full_from(
        // What is created is written to; and most that is opened is not created.
        |name| name != "openat2",
        |root, succeeded, when| {
            let new = count_new(root, when);
            // Where every rename fails from one on, none can be taken back: each object is whole, and the next run completes it.
            let is_undone = new == 0 || when.contains("renameat2");
            assert!(is_undone || new == PATHS.len(), "{when}: {new} of {} objects are new", PATHS.len());
            assert!(new == PATHS.len() || !succeeded, "{when}: it said that it was done");
            seen[usize::from(new > 0)] += 1;
            assert_completed(root, when);
        },
    );
    assert!(seen[0] > 20, "{seen:?}");
    println!("install on a full disk: {runs} runs, {seen:?} left all old, something new");
}

#[test]
fn cut_between_publishing_and_telling_the_next_run_tells_the_service() {
    let world = World::with_service("/etc/web\n");
    world.cycle();
    world.write("pri/etc/web/web.conf", "good 2\n");
    world.send();
    let _ = fs::remove_file(world.path("sec/told"));
    let sec = world.path("sec");
    let mut told_late = 0;
    let cuts = Run { program: Path::new(PROGRAM), before: &sec, args: &["install"] }.killed_at(
        |name| name == "unlinkat",
        |root, when| {
            let conf = || fs::read_to_string(root.join("etc/web/web.conf")).unwrap();
            let was_new = conf() == "good 2\n";
            let told = || fs::read_to_string(root.join("told")).unwrap_or_default();
            let before = told();
            let output = ss_sync(root, &["install"]);
            assert_eq!(output.status.code(), Some(0), "{when}: {}", String::from_utf8_lossy(&output.stderr));
            assert_eq!(conf(), "good 2\n", "{when}");
            assert!(told().contains("reload web.service"), "{when}: the service works with the old file");
            told_late += usize::from(was_new && before.is_empty());
        },
    );
    assert!(told_late > 0, "no cut lay between publishing and telling");
    println!("install with a service: {cuts} cuts, at {told_late} the file was new and the service not told yet");
}
