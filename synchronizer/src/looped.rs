//! `ssSyncLoop`: begins a SyncCycle every few minutes, and soon after a listed path changed [318, 327-329].
//!
//! It only decides when. The cycle itself is another program, run through ssRun, so that nothing that goes wrong in one can stop this one.
//!
//! ```text
//!   started ──► wait: at most --every, or until a watched path changed and has been quiet for --settle ──► ssRun ssSync cycle ──┐
//!                 ▲     (30 s where the last cycle found something wrong)                                                      │
//!                 └────────────────────────────────────────────────────────────────────────────────────────────────────────────┘
//! ```

use crate::{server::Server, suspend};
use atlas_cli::{Common, Exit, in_one_line};
use atlas_host::process::Command;
use atlas_model::{PathList, Role, manifest::FileSet, verify::is_test_data};
use atlas_sid::snapshot;
use clap::{CommandFactory, Parser};
use nix::{
    errno::Errno,
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::inotify::{AddWatchFlags, InitFlags, Inotify, InotifyEvent, WatchDescriptor},
};
use std::{
    collections::{HashMap, HashSet},
    ffi::OsString,
    os::fd::AsFd,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

/// Begin a SyncCycle every few minutes, and soon after a listed file changed
///
/// Runs in the foreground until it is stopped; 'ssSyncCtrl start' runs it as a service. On a secondary it waits: there, PRI drives.
#[derive(Clone, Debug, Parser)]
#[command(
    name = "ssSyncLoop",
    version,
    after_help = "Examples:
  ssSyncLoop                      what the service runs
  ssSyncLoop --every 60           every minute

Exit codes: 0 stopped, 1 failed, 2 called wrongly."
)]
pub struct Args {
    /// Seconds from the end of one cycle to the beginning of the next
    #[arg(long, value_name = "SECONDS", default_value_t = 300, value_parser = clap::value_parser!(u64).range(1..=86_400))]
    pub every: u64,
    /// Seconds of quiet after a change before a cycle begins
    #[arg(long, value_name = "SECONDS", default_value_t = 5, value_parser = clap::value_parser!(u64).range(0..=3_600))]
    pub settle: u64,
    /// End after this many cycles
    #[arg(long, value_name = "COUNT")]
    pub cycles: Option<u64>,
    /// Run this instead of 'ssRun ssSync cycle'
    #[arg(long, value_name = "COMMAND", hide = true)]
    pub command: Option<String>,
    /// How to do and tell it.
    #[command(flatten)]
    pub common: Common,
}

/// The definition of the program, for man pages and completions.
pub fn command() -> clap::Command {
    Args::command()
}

/// The longest that a cycle may take: its own deadlines end it long before.
const CYCLE_DEADLINE: Duration = Duration::from_secs(3600);
/// How soon after a cycle that found something wrong the next one begins, at most.
const AFTER_TROUBLE: Duration = Duration::from_secs(30);
/// How often a server that is no PRI, or whose disks are not there, is looked at again.
const LOOK_AGAIN: Duration = Duration::from_secs(60);
/// The most paths that are watched; beyond, the interval finds changes.
const MAX_WATCHED: usize = 5000;

/// Runs the program.
pub fn run(args: &Args) -> anyhow::Result<Exit> {
    atlas_cli::log::begin();
    let mut done = 0;
    while args.cycles.is_none_or(|cycles| done < cycles) {
        let mut longest = LOOK_AGAIN.min(Duration::from_secs(args.every));
        let watch = match ready(&args.common.root) {
            Ok(paths) => {
                // Before the cycle: what changes while it runs is seen afterwards.
                let mut watch = Watch::new(&paths);
                watch.end_of(&suspend::file(&args.common.root));
                longest = wait_after(cycle(args), args);
                done += 1;
                Some(watch)
            }
            Err(why) => {
                tracing::info!("no cycle: {}", in_one_line(&why));
                None
            }
        };
        if args.cycles.is_none_or(|cycles| done < cycles) {
            wait(watch.as_ref(), longest, Duration::from_secs(args.settle));
        }
    }
    Ok(Exit::Done)
}

/// The paths to watch, where a cycle can run now; `Err` says why it can't.
fn ready(root: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let server = Server::open(root)?;
    anyhow::ensure!(server.role() == Role::Pri, "this server is {}; PRI drives", server.role());
    let mut paths = Vec::new();
    if let Some(role) = server.sid.role_dir(server.role())? {
        for version in
            snapshot::env_versions(&role)?.into_iter().rev().filter(|version| *version <= server.env_version()).take(1)
        {
            let dir = role.dir(version.dir_name())?;
            for set in [FileSet::Ident, FileSet::Sync] {
                let list: PathList = snapshot::read_list(&dir, set.list_name())?.unwrap_or_default();
                // What partners' Verifiers write into their test data, the same again and again, is no change.
                let watched = list.paths().iter().filter(|path| !is_test_data(path));
                paths.extend(watched.map(|path| root.join(path.relative())));
            }
        }
    }
    Ok(paths)
}

/// How long after a cycle that ended so the next one begins: what it found wrong is looked at again soon, so that it is over when its reason is.
fn wait_after(code: Option<i32>, args: &Args) -> Duration {
    let every = Duration::from_secs(args.every);
    // The end of a suspension is watched for.
    let is_well = code == Some(0) || suspend::file(&args.common.root).exists();
    if is_well { every } else { every.min(AFTER_TROUBLE) }
}

/// Runs one, and says how it ended.
fn cycle(args: &Args) -> Option<i32> {
    let root = args.common.root.display().to_string();
    let command = match &args.command {
        Some(command) => Command::new("/bin/sh").args(["-c", command]),
        None => Command::new(beside("ssRun"))
            .args(["--root", &root, "--roll", "day", "--stamp", "--"])
            .arg(beside("ssSync"))
            .args(["cycle", "--root", &root]),
    };
    // What a cycle found is in its report; here it matters only whether it ran.
    let output = command.deadline(CYCLE_DEADLINE).output();
    let code = output.as_ref().ok().and_then(|output| output.status.code());
    match output {
        Ok(output) if matches!(output.status.code(), Some(0 | 3)) => tracing::info!("a cycle: {}", output.status),
        // What it said is in the log that ssRun keeps; what ssRun said is here.
        Ok(output) => tracing::warn!("a cycle failed ({}); see LOG.ssSync {}", output.status, output.complaint()),
        Err(error) => tracing::error!("the cycle could not be run: {}", in_one_line(&error.into())),
    }
    code
}

/// The program of this name that is set, which lies beside this one.
fn beside(name: &str) -> PathBuf {
    let own = std::env::args_os().next().map(PathBuf::from).filter(|own| own.components().count() > 1);
    let beside = own.map(|own| own.with_file_name(name)).filter(|path| path.exists());
    beside.unwrap_or_else(|| Path::new("/opt/atlas/bin").join(name))
}

/// A directory that is watched already is watched for this as well; without it, for this instead.
const ADDED: AddWatchFlags = AddWatchFlags::from_bits_retain(nix::libc::IN_MASK_ADD);

/// Paths that are watched, and what the kernel says of them.
#[derive(Debug)]
struct Watch(Option<Watched>);

#[derive(Debug)]
struct Watched {
    inotify: Inotify,
    /// Directories of which only these names count. What clients do beside a file that is synchronised is no change: it would begin a cycle
    /// after the other.
    only: HashMap<WatchDescriptor, HashSet<OsString>>,
    /// What is watched as a whole.
    whole: HashSet<WatchDescriptor>,
}

impl Watched {
    /// Watches a file, or all that happens in a directory. One that is gone again has nothing to watch.
    fn whole(&mut self, path: &Path, flags: AddWatchFlags) {
        if let Ok(watch) = self.inotify.add_watch(path, flags | ADDED) {
            self.whole.insert(watch);
        }
    }

    /// Watches whether something takes this name: a file that is replaced is another one.
    fn name(&mut self, path: &Path) {
        let flags = AddWatchFlags::IN_MOVED_TO | AddWatchFlags::IN_CREATE | ADDED;
        let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else { return };
        if let Ok(watch) = self.inotify.add_watch(parent, flags) {
            self.only.entry(watch).or_default().insert(name.to_owned());
        }
    }

    /// Whether an event is of something that is watched; events that were lost may have been.
    fn counts(&self, event: &InotifyEvent) -> bool {
        match (&event.name, self.only.get(&event.wd)) {
            (Some(name), Some(names)) => self.whole.contains(&event.wd) || names.contains(name),
            // The directory itself, which is watched for names alone.
            (None, Some(_)) => self.whole.contains(&event.wd),
            (_, None) => true,
        }
    }
}

impl Watch {
    /// Watches the directories that hold these paths, and those that are directories themselves. What cannot be watched is found by the interval.
    fn new(paths: &[PathBuf]) -> Watch {
        let Ok(inotify) = Inotify::init(InitFlags::IN_NONBLOCK | InitFlags::IN_CLOEXEC) else { return Watch(None) };
        let mut watched = Watched { inotify, only: HashMap::new(), whole: HashSet::new() };
        let flags = AddWatchFlags::IN_CLOSE_WRITE
            | AddWatchFlags::IN_MOVE
            | AddWatchFlags::IN_CREATE
            | AddWatchFlags::IN_DELETE
            | AddWatchFlags::IN_ATTRIB;
        let mut left = MAX_WATCHED;
        let mut queue: Vec<(PathBuf, bool)> = paths.iter().map(|path| (path.clone(), true)).collect();
        while let Some((path, listed)) = queue.pop() {
            let is_dir = path.symlink_metadata().is_ok_and(|meta| meta.is_dir());
            if !is_dir && !listed {
                continue;
            }
            if left == 0 {
                break;
            }
            left -= 1;
            watched.whole(&path, flags);
            if is_dir {
                let inner = std::fs::read_dir(&path).into_iter().flatten().flatten();
                queue.extend(inner.map(|entry| (entry.path(), false)));
            }
            if listed {
                watched.name(&path);
            }
        }
        Watch(Some(watched))
    }

    /// Watches for the removal of one file, if it is there; its directory may change as it likes.
    fn end_of(&mut self, path: &Path) {
        if let Some(watched) = &mut self.0 {
            watched.whole(path, AddWatchFlags::IN_ATTRIB | AddWatchFlags::IN_DELETE_SELF);
        }
    }

    /// Whether something changed within this time.
    fn changed_within(&self, time: Duration) -> bool {
        let Some(watched) = &self.0 else {
            std::thread::sleep(time);
            return false;
        };
        let until = Instant::now() + time;
        loop {
            let left = until.saturating_duration_since(Instant::now());
            let timeout = PollTimeout::try_from(left.min(Duration::from_secs(3600))).unwrap_or(PollTimeout::MAX);
            let is_readable = poll(&mut [PollFd::new(watched.inotify.as_fd(), PollFlags::POLLIN)], timeout);
            let mut has_changed = false;
            // Emptied, so that the next is seen.
            while let Ok(events) = watched.inotify.read_events()
                && !events.is_empty()
            {
                has_changed |= events.iter().any(|event| watched.counts(event));
            }
            if has_changed || left.is_zero() || is_readable.is_err_and(|error| error != Errno::EINTR) {
                return has_changed;
            }
        }
    }
}

/// Waits for the next cycle's time: `longest`, or a change and then `settle` of quiet, whichever comes first.
fn wait(watch: Option<&Watch>, longest: Duration, settle: Duration) {
    let until = Instant::now() + longest;
    let left = || until.saturating_duration_since(Instant::now());
    let Some(watch) = watch else {
        std::thread::sleep(longest);
        return;
    };
    while !left().is_zero() {
        if watch.changed_within(left()) {
            while !left().is_zero() && watch.changed_within(settle.min(left())) {}
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_cycle_found_wrong_is_looked_at_again_soon() {
        let tmp = tempfile::tempdir().unwrap();
        let root = tmp.path().to_str().unwrap();
        let args = |every: &str| Args::parse_from(["ssSyncLoop", "--every", every, "--root", root]);
        let seconds = |code, every| wait_after(code, &args(every)).as_secs();
        assert_eq!((seconds(Some(0), "300"), seconds(Some(3), "300"), seconds(Some(1), "300")), (300, 30, 30));
        assert_eq!((seconds(None, "300"), seconds(Some(3), "10")), (30, 10));
        let suspended = suspend::file(tmp.path());
        std::fs::create_dir_all(suspended.parent().unwrap()).unwrap();
        std::fs::write(&suspended, "").unwrap();
        assert_eq!(seconds(Some(3), "300"), 300, "nothing changes before it is resumed");
    }

    fn waited(watch: &Watch, longest: u64) -> Duration {
        let started = Instant::now();
        wait(Some(watch), Duration::from_millis(longest), Duration::from_millis(50));
        started.elapsed()
    }

    #[test]
    fn a_changed_file_ends_the_wait_and_an_unchanged_one_does_not() {
        let tmp = tempfile::tempdir().unwrap();
        let dir = tmp.path().join("etc/deep");
        std::fs::create_dir_all(&dir).unwrap();
        let file = tmp.path().join("etc/hosts");
        std::fs::write(&file, "a").unwrap();
        for change in ["replaced", "below"] {
            let watch = Watch::new(&[file.clone(), tmp.path().join("etc")]);
            assert!(waited(&watch, 300) >= Duration::from_millis(300), "nothing happened, but the wait ended");
            match change {
                "replaced" => {
                    std::fs::write(tmp.path().join("etc/new"), "b").unwrap();
                    std::fs::rename(tmp.path().join("etc/new"), &file).unwrap();
                }
                _ => std::fs::write(dir.join("f"), "c").unwrap(),
            }
            assert!(waited(&watch, 60_000) < Duration::from_secs(30), "{change} was not seen");
        }
    }

    #[test]
    fn what_clients_do_beside_a_file_that_is_listed_does_not_end_the_wait() {
        let tmp = tempfile::tempdir().unwrap();
        let file = tmp.path().join(".atlas-verify");
        std::fs::write(&file, "a").unwrap();
        let watch = Watch::new(&[file, tmp.path().join("later")]);
        std::fs::write(tmp.path().join("letter"), "a client's").unwrap();
        std::fs::rename(tmp.path().join("letter"), tmp.path().join("letter.old")).unwrap();
        assert!(waited(&watch, 300) >= Duration::from_millis(300), "the wait ended for a client's file");
        std::fs::create_dir(tmp.path().join("later")).unwrap();
        assert!(waited(&watch, 60_000) < Duration::from_secs(30), "what is listed and comes later was not seen");
    }

    #[test]
    fn in_a_directory_that_is_listed_everything_counts_though_a_file_in_it_is_listed_too() {
        let tmp = tempfile::tempdir().unwrap();
        let [dir, file, other] = ["d", "d/file", "d/other"].map(|name| tmp.path().join(name));
        std::fs::create_dir(&dir).unwrap();
        for file in [&file, &other] {
            std::fs::write(file, "a").unwrap();
        }
        for order in [[dir.clone(), file.clone()], [file, dir]] {
            let watch = Watch::new(&order);
            std::fs::remove_file(&other).unwrap();
            assert!(waited(&watch, 60_000) < Duration::from_secs(30), "a removal was not seen: {order:?}");
            std::fs::write(&other, "a").unwrap();
        }
    }

    #[test]
    fn the_end_of_a_suspension_ends_the_wait_and_what_else_happens_beside_it_does_not() {
        let tmp = tempfile::tempdir().unwrap();
        let suspended = tmp.path().join("Suspended");
        Watch::new(&[]).end_of(&suspended);
        std::fs::write(&suspended, "").unwrap();
        let mut watch = Watch::new(&[]);
        watch.end_of(&suspended);
        std::fs::write(tmp.path().join("other"), "").unwrap();
        assert!(waited(&watch, 300) >= Duration::from_millis(300), "the wait ended for another file");
        std::fs::remove_file(&suspended).unwrap();
        assert!(waited(&watch, 60_000) < Duration::from_secs(30), "nobody noticed that it can go on");
    }
}
