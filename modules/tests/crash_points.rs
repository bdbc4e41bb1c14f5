//! Every system call of `set`, `install` and `remove` is cut in turn: the process is killed as it enters the call.
//!
//! The real program runs under `strace`, which lists the calls of a run that ends, and then kills one run at each of them. After every cut
//! a person looks (`list`, `verify`, the links), without anything having been repaired; then the next change is made, and it looks again.

mod common;

use common::{Server, copy_tree, links_of};
use std::{
    collections::BTreeMap,
    fs,
    os::unix::process::ExitStatusExt,
    path::Path,
    process::{Command, Stdio},
};

/// The calls with which processes are looked at.
const READS: [&str; 10] =
    ["openat", "readlinkat", "readlink", "read", "close", "statx", "getdents64", "newfstatat", "fstat", "lseek"];

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
        let mut command = Command::new("strace");
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
                if status.success() && READS.contains(&name.as_str()) {
                    // How often /proc is read depends on what else runs on this machine: this run had fewer calls of the kind.
                    continue;
                }
                assert_eq!(status.signal(), Some(9), "the run was to be killed at {name} {nth}, and was not");
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

fn installed(root: &Path) -> Vec<String> {
    let list: serde_json::Value = serde_json::from_str(&run(root, &["list", "--json"]).done()).unwrap();
    assert_eq!(list["problems"].as_array().unwrap().len(), 0, "{list}");
    let modules = list["modules"].as_array().unwrap();
    for module in modules {
        assert_eq!(module["problems"].as_array().unwrap().len(), 0, "{list}");
    }
    let versions = modules.iter().flat_map(|module| module["versions"].as_array().unwrap());
    versions.map(|version| version["version"].as_str().unwrap().to_owned()).collect()
}

/// What must hold at every moment, before anything is repaired.
fn assert_whole(root: &Path, when: &str) {
    let verified = run(root, &["verify"]);
    assert_eq!(verified.code, Some(0), "{when}: {verified:?}");
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
