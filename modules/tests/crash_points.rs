//! Every system call of `set`, `install` and `remove` that changes something is cut in turn: the process is killed as it enters the call. A cut
//! at a call between two of them leaves what a cut at the second leaves.
//!
//! The real program runs under `strace`, which lists the calls of a run that ends, and then kills one run at each of them. After every cut
//! a person looks (`list`, `verify`, the links), without anything having been repaired; then the next change is made, and it looks again.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking, in its helpers as well")]

mod common;

use atlas_host::testing::cuts::Run;
use atlas_module::{
    store::Store,
    verify::verify,
    view::{self, Part},
};
use common::{Server, links_of};
use std::{fs, path::Path, process::Command};

fn cut<'a>(before: &'a Path, args: &'a [&'a str]) -> Run<'a> {
    Run { program: Path::new(common::PROGRAM), before, args }
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
    let cuts = cut(&server.root(), &["set", "ssSync", "v2"]).killed_at_every_change(|root, when| {
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

#[test]
fn a_disk_that_is_full_at_any_call_of_set_leaves_the_old_or_the_new_version_and_nothing_beside_it() {
    let server = Server::with_two_versions();
    let old = server.links();
    let seen = std::cell::RefCell::new([0, 0]);
    let runs = cut(&server.root(), &["set", "ssSync", "v2"]).disk_full_from_every_call(|root, succeeded, when| {
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
    let runs = cut(&server.root(), &args).disk_full_from_every_call(|root, succeeded, when| {
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
    let cuts = cut(&server.root(), &args).killed_at_every_change(|root, when| {
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
    let cuts = cut(&server.root(), &["remove", "ssSync", "v2"]).killed_at_every_change(|root, when| {
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
