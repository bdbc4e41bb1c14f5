//! A program's run, cut at every system call: the process is killed as it enters the call, or the disk is full from it on.
//!
//! The real program runs under `strace`, on a fresh copy of a tree each time. A first run, which ends, tells the calls; then there is one run
//! for each of them.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking, in its helpers as well")]

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::{Command, ExitStatus, Stdio},
};

/// How a shell tells that a signal ended its program.
const KILLED: i32 = 128 + 9;
/// The calls that need room on the disk.
const NEED_ROOM: [&str; 8] = ["mkdirat", "symlinkat", "linkat", "openat2", "write", "fsync", "renameat", "renameat2"];

/// The calls that change a disk, or make a change durable. A cut at another call leaves what a cut at the next of these leaves.
pub const CHANGING: [&str; 17] = [
    "write",
    "pwrite64",
    "copy_file_range",
    "ftruncate",
    "mkdirat",
    "symlinkat",
    "linkat",
    "unlinkat",
    "renameat",
    "renameat2",
    "fchown",
    "fchownat",
    "fchmod",
    "utimensat",
    "fsetxattr",
    "fsync",
    "syncfs",
];

/// A run that is to be cut: `PROGRAM --root COPY_OF_BEFORE ARGS`.
#[derive(Clone, Copy, Debug)]
pub struct Run<'a> {
    /// The program.
    pub program: &'a Path,
    /// The tree that it works on; a run sees a copy beside it.
    pub before: &'a Path,
    /// What it is to do. Its exit code must be 0 where it is not cut.
    pub args: &'a [&'a str],
}

/// Copies a tree as it is: links as links, second names of a file as second names.
///
/// # Panics
/// It cannot.
pub fn copy_tree(from: &Path, to: &Path) {
    let status = Command::new("cp").arg("-a").arg("--").arg(from).arg(to).status().unwrap();
    assert!(status.success(), "cp -a {} {}", from.display(), to.display());
}

impl Run<'_> {
    fn work(&self) -> PathBuf {
        self.before.with_file_name("work")
    }

    fn fresh_copy(&self, work: &Path) {
        let _ = fs::remove_dir_all(work);
        copy_tree(self.before, work);
    }

    fn strace(&self, work: &Path, options: &[&str]) -> ExitStatus {
        // Among processes of its own alone: then every run looks at the same ones, with the same calls.
        let mut command = Command::new("unshare");
        if !nix::unistd::geteuid().is_root() {
            command.arg("--map-root-user");
        }
        command.args(["--pid", "--fork", "--mount-proc", "sh", "-c", "strace \"$@\"; exit $?", "sh"]);
        command.args(options).arg(self.program).arg("--root").arg(work).args(self.args);
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
        assert!(calls.keys().any(|call| call.starts_with("rename")), "it publishes nothing: {calls:?}");
        calls
    }

    /// Kills a run at every call in turn, and has each tree that is left checked; gives how many there were.
    ///
    /// # Panics
    /// A run was not killed where it was to be, or the check panics.
    pub fn killed_at_every_call(&self, check: impl FnMut(&Path, &str)) -> usize {
        self.killed_at(|_| true, check)
    }

    /// The same at every call that changes something: for a program that writes through held directories, whose changes are all [`CHANGING`].
    ///
    /// # Panics
    /// As [`Run::killed_at_every_call`].
    pub fn killed_at_every_change(&self, check: impl FnMut(&Path, &str)) -> usize {
        self.killed_at(|name| CHANGING.contains(&name), check)
    }

    /// The same at the calls that `chosen` names.
    ///
    /// # Panics
    /// As [`Run::killed_at_every_call`], and where no call is chosen.
    pub fn killed_at(&self, chosen: impl Fn(&str) -> bool, mut check: impl FnMut(&Path, &str)) -> usize {
        let work = self.work();
        let calls = self.calls(&work);
        let mut cuts = 0;
        for (name, count) in calls.iter().filter(|(name, _)| chosen(name)) {
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
        assert!(cuts > 0, "no call was cut");
        cuts
    }

    /// From every call that needs room on, in turn, the disk is full; has each tree checked, with whether the program said that it had
    /// succeeded. Gives how many there were.
    ///
    /// # Panics
    /// No call failed in a run, or the program ended otherwise than by 0 or 1, or the check panics.
    pub fn disk_full_from_every_call(&self, check: impl FnMut(&Path, bool, &str)) -> usize {
        self.disk_full_from(|_| true, check)
    }

    /// The same for the calls that `chosen` names.
    ///
    /// # Panics
    /// As [`Run::disk_full_from_every_call`].
    pub fn disk_full_from(&self, chosen: impl Fn(&str) -> bool, mut check: impl FnMut(&Path, bool, &str)) -> usize {
        let work = self.work();
        let calls = self.calls(&work);
        let mut runs = 0;
        let needs_room = |name: &str| NEED_ROOM.contains(&name) && chosen(name);
        for (name, count) in calls.iter().filter(|(name, _)| needs_room(name)) {
            for nth in 1..=*count {
                self.fresh_copy(&work);
                let log = work.with_extension("strace");
                let inject = format!("inject={name}:error=ENOSPC:when={nth}+");
                let status = self.strace(&work, &["-qq", "-o", log.to_str().unwrap(), "-e", &inject]);
                let when = format!("the disk was full from {name} number {nth} on");
                assert!(fs::read_to_string(&log).unwrap().contains("(INJECTED)"), "{when}: no fault was injected");
                assert!(status.code().is_some_and(|code| code < 2), "{when}: {status:?}");
                check(&work, status.success(), &when);
                runs += 1;
            }
        }
        runs
    }
}
