//! Every system call of `set`, `install` and `remove` is cut in turn: the process is killed as it enters the call.
//!
//! The real program runs under `strace`, which lists the calls of a run that ends, and then kills one run at each of them. After every cut
//! a person looks (`list`, `verify`, the links), without anything having been repaired; then the next change is made, and it looks again.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking, in its helpers as well")]

mod common;

use atlas_module::{
    store::Store,
    verify::verify,
    view::{self, Part},
};
use common::{Server, copy_tree, links_of};
use std::{
    collections::BTreeMap,
    fs,
    path::Path,
    process::{Command, Stdio},
};

/// How a shell tells that a signal ended its program.
const KILLED: i32 = 128 + 9;

/// How a run of the program is begun: with the arguments that follow `--root DIR`.
struct Cut<'a> {
    before: &'a Server,
    args: &'a [&'a str],
}

impl Cut<'_> {
    fn fresh_copy(&self, work: &Path) {
        let _ = fs::remove_dir_all(work);
        copy_tree(&self.before.root(), work);
    }

    fn strace(&self, work: &Path, options: &[&str]) -> std::process::ExitStatus {
        // Among processes of its own alone: then every run looks at the same ones, with the same calls.
        let mut command = Command::new("unshare");
        if !nix::unistd::geteuid().is_root() {
            command.arg("--map-root-user");
        }
        command.args(["--pid", "--fork", "--mount-proc", "sh", "-c", "strace \"$@\"; exit $?", "sh"]);
        command.args(options).arg(common::PROGRAM).arg("--root").arg(work).args(self.args);
        command.stdout(Stdio::null()).stderr(Stdio::null()).status().expect("strace must be installed")
    }

    /// The calls of a run that is not cut: how often each was made, from the first that the program itself makes on.
    fn calls(&self, work: &Path) -> BTreeMap<String, usize> {
        self.fresh_copy(work);
        let log = work.with_extension("strace");
        let status = self.strace(work, &["-qq", "-o", log.to_str().unwrap()]);
        assert!(status.success(), "{:?} must succeed where it is not cut", self.args);
        let mut calls = BTreeMap::new();
        for line in fs::read_to_string(&log).unwrap().lines() {
            if let Some((name, _)) = line.split_once('(') {
                *calls.entry(name.to_owned()).or_insert(0) += 1;
            }
        }
        calls
    }

    /// Cuts the run at every call, and gives how many cuts there were.
    fn every_call(&self, check: impl Fn(&Path, &str)) -> usize {
        let work = self.before.root().with_file_name("work");
        let calls = self.calls(&work);
        assert!(calls.contains_key("renameat2"), "{calls:?}");
        let mut cuts = 0;
        for (name, count) in &calls {
            // The first call of all is strace's own start of the program.
            for nth in 1..=*count {
                if matches!(name.as_str(), "execve" | "exit_group") {
                    continue;
                }
                self.fresh_copy(&work);
                let inject = format!("inject={name}:signal=KILL:when={nth}");
                let status = self.strace(&work, &["-qq", "-o", "/dev/null", "-e", &inject]);
                assert_eq!(status.code(), Some(KILLED), "the run was to be killed at {name} {nth}, and was not");
                check(&work, &format!("cut at {name} number {nth}"));
                cuts += 1;
            }
        }
        cuts
    }
}

fn run(root: &Path, args: &[&str]) -> common::Answer {
    common::Answer::of(&Command::new(common::PROGRAM).arg("--root").arg(root).args(args).output().unwrap())
}

/// What is installed, by one look in which nothing stands out.
fn installed(root: &Path) -> Vec<String> {
    let overview = view::look(&Store::open(root).unwrap(), &Part::default()).unwrap();
    assert!(overview.problems.is_empty(), "{overview:?}");
    assert!(overview.modules.iter().all(|module| module.problems.is_empty()), "{overview:?}");
    let versions = overview.modules.iter().flat_map(|module| &module.versions);
    versions.map(|version| version.version.to_string()).collect()
}

/// What must hold at every moment, before anything is repaired.
fn assert_whole(root: &Path, when: &str) {
    let findings = verify(&Store::open(root).unwrap(), None).unwrap().findings;
    assert!(findings.is_empty(), "{when}: {findings:?}");
}

/// After the next change, nothing of the cut one is left beside what is installed.
fn assert_nothing_left(root: &Path, when: &str) {
    for gone in ["opt/atlas/.bin-next", "opt/atlas/modules/staging"] {
        assert!(!root.join(gone).exists(), "{when}: {gone} is still there");
    }
    let records = fs::read_dir(root.join("opt/atlas/modules/records")).unwrap().count();
    assert_eq!(records, installed(root).len(), "{when}: there are other files among the records");
}

fn names(root: &Path, dir: &str) -> usize {
    fs::read_dir(root.join("opt/atlas/modules").join(dir)).unwrap().count()
}

#[test]
fn set_cut_at_any_call_leaves_the_old_or_the_new_version_whole() {
    let server = Server::with_two_versions();
    let old = server.links();
    let whole = Server::with_two_versions();
    whole.run(&["set", "ssSync", "v2"]).done();
    let new = whole.links();
    assert_ne!(old, new);
    let seen = std::cell::RefCell::new([0, 0]);
    let cut = Cut { before: &server, args: &["set", "ssSync", "v2"] };
    let cuts = cut.every_call(|root, when| {
        let links = links_of(root);
        assert!(links == old || links == new, "{when}: {links:?}");
        seen.borrow_mut()[usize::from(links == new)] += 1;
        installed(root);
        assert_whole(root, when);
        let history = run(root, &["history"]).done();
        assert_eq!(
            history.contains("update/v2"),
            links == new,
            "{when}: the history tells something else than the links"
        );
        run(root, &["set", "ssSync", "v2"]).done();
        assert_eq!(links_of(root), new, "{when}");
        assert_nothing_left(root, when);
    });
    let [kept, switched] = seen.into_inner();
    assert!(kept > 0 && switched > 0, "the cuts must lie on both sides of the switch");
    println!("set: {cuts} cuts, {kept} left the old version, {switched} the new one, none anything else");
}

/// The calls that need room on the disk.
const NEED_ROOM: [&str; 8] = ["mkdirat", "symlinkat", "linkat", "openat2", "write", "fsync", "renameat", "renameat2"];

/// From each of these calls on, the disk is full; gives how many runs there were.
fn fill_disk_at_every_call(cut: &Cut<'_>, check: impl Fn(&Path, bool, &str)) -> usize {
    let work = cut.before.root().with_file_name("work");
    let calls = cut.calls(&work);
    let mut runs = 0;
    for (name, count) in calls.iter().filter(|(name, _)| NEED_ROOM.contains(&name.as_str())) {
        for nth in 1..=*count {
            cut.fresh_copy(&work);
            let log = work.with_extension("strace");
            let inject = format!("inject={name}:error=ENOSPC:when={nth}+");
            let status = cut.strace(&work, &["-qq", "-o", log.to_str().unwrap(), "-e", &inject]);
            let when = format!("the disk was full from {name} number {nth} on");
            assert!(fs::read_to_string(&log).unwrap().contains("(INJECTED)"), "{when}: no fault was injected");
            assert!(status.code().is_some_and(|code| code < 2), "{when}: {status:?}");
            check(&work, status.success(), &when);
            runs += 1;
        }
    }
    runs
}

#[test]
fn a_disk_that_is_full_at_any_call_of_set_leaves_the_old_or_the_new_version_and_nothing_beside_it() {
    let server = Server::with_two_versions();
    let old = server.links();
    let cut = Cut { before: &server, args: &["set", "ssSync", "v2"] };
    let seen = std::cell::RefCell::new([0, 0]);
    let runs = fill_disk_at_every_call(&cut, |root, succeeded, when| {
        let kept = links_of(root) == old;
        assert!(!(kept && succeeded), "{when}: it said that it was done");
        seen.borrow_mut()[usize::from(kept)] += 1;
        assert_whole(root, when);
        run(root, &["set", "ssSync", "v2"]).done();
        assert!(links_of(root).iter().all(|link| link.ends_with(".v2")), "{when}");
        assert_nothing_left(root, when);
    });
    let [switched, kept] = seen.into_inner();
    assert!(kept > 10, "{kept}");
    println!(
        "set on a full disk: {runs} runs, {kept} left the old version, {switched} the new one, none anything else"
    );
}

#[test]
fn a_disk_that_is_full_at_any_call_of_install_leaves_the_version_out_or_in() {
    let server = Server::with_two_versions();
    let package = server.package("v3", &[("ssSync", "three"), ("ssSync.cfg", "cfg three")]);
    let args = ["install", "--allow-unsigned", package.to_str().unwrap()];
    let runs = fill_disk_at_every_call(&Cut { before: &server, args: &args }, |root, succeeded, when| {
        let there = installed(root).contains(&"v3".to_owned());
        assert!(there || !succeeded, "{when}: it said that it was done");
        assert_whole(root, when);
        run(root, &["set", "ssSync", "v2"]).done();
        assert_nothing_left(root, when);
        assert_eq!(names(root, "update"), if there { 8 } else { 6 }, "{when}: files are left");
        run(root, &args).done();
        assert_whole(root, when);
    });
    println!("install on a full disk: {runs} runs, each left the version out or in");
}

#[test]
fn install_cut_at_any_call_leaves_the_version_out_or_in() {
    let server = Server::with_two_versions();
    let package = server.package("v3", &[("ssSync", "three"), ("ssSync.cfg", "cfg three")]);
    let old = server.links();
    let args = ["install", "--allow-unsigned", package.to_str().unwrap()];
    let seen = std::cell::RefCell::new([0, 0]);
    let cuts = Cut { before: &server, args: &args }.every_call(|root, when| {
        assert_eq!(links_of(root), old, "{when}");
        let there = installed(root).contains(&"v3".to_owned());
        seen.borrow_mut()[usize::from(there)] += 1;
        assert_whole(root, when);
        // Something else is changed next: it clears away what was left, and does not finish what nobody asked it to.
        run(root, &["set", "ssSync", "v2"]).done();
        assert_eq!(installed(root).contains(&"v3".to_owned()), there, "{when}");
        assert_nothing_left(root, when);
        assert_eq!(names(root, "update"), if there { 8 } else { 6 }, "{when}: files are left");
        run(root, &args).done();
        assert!(installed(root).contains(&"v3".to_owned()), "{when}");
        assert_whole(root, when);
    });
    let [out, placed] = seen.into_inner();
    assert!(out > 0 && placed > 0);
    println!("install: {cuts} cuts, {out} left the version out, {placed} in, none in part");
}

#[test]
fn remove_cut_at_any_call_leaves_the_version_in_or_out() {
    let server = Server::with_two_versions();
    let old = server.links();
    let seen = std::cell::RefCell::new([0, 0]);
    let cuts = Cut { before: &server, args: &["remove", "ssSync", "v2"] }.every_call(|root, when| {
        assert_eq!(links_of(root), old, "{when}");
        let there = installed(root).contains(&"v2".to_owned());
        seen.borrow_mut()[usize::from(!there)] += 1;
        assert_whole(root, when);
        run(root, &["unset", "ssSync"]).done();
        assert_nothing_left(root, when);
        assert_eq!(names(root, "update"), if there { 6 } else { 3 }, "{when}: files are left, or lost");
        assert_whole(root, when);
    });
    let [kept, gone] = seen.into_inner();
    assert!(kept > 0 && gone > 0);
    println!("remove: {cuts} cuts, {kept} left the version in, {gone} out, none in part");
}
