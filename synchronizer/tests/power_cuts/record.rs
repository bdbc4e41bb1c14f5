//! Recording a program's run: what came to the disks, and every state of which it was right that somebody saw it.

use super::{
    disk::{self, Disks, Event, Image, Log},
    gate::Gate,
    place::{Memory, Place},
    state::Units,
};
use atlas_host::testing::cuts::CHANGING;
use nix::unistd::syncfs;
use std::{
    collections::{BTreeMap, BTreeSet},
    fs::{File, Permissions},
    os::unix::fs::PermissionsExt,
    process::{Command, Output, Stdio},
    sync::{Arc, Mutex},
};

/// Numbers that look random and are the same in every run.
#[derive(Clone, Debug)]
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn below(&mut self, end: usize) -> usize {
        // The first numbers of near seeds are near, too.
        for _ in 0..3 {
            self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        }
        usize::try_from(self.0 >> 33).unwrap() % end
    }
}

/// How the program that is recorded is run.
#[derive(Clone, Copy, Debug)]
pub(crate) struct How {
    /// What the kernel writes out by itself, and when, comes from this.
    pub(crate) seed: u64,
    /// Whether its flushes do anything. Where not, each succeeds and nothing happens: a program with a fault.
    pub(crate) flushes_work: bool,
}

/// A run.
#[derive(Debug)]
pub(crate) struct Recording {
    pub(crate) before: Vec<Image>,
    pub(crate) events: Vec<Event>,
    /// What was there at the beginning.
    pub(crate) old: Units,
    /// What was there at the end.
    pub(crate) new: Units,
    /// Everything that was there at some moment.
    pub(crate) seen: BTreeMap<String, BTreeSet<String>>,
}

/// A program that ran on disks that record.
pub(crate) struct Traced {
    /// The disks as they were when it began.
    pub(crate) before: Vec<Image>,
    pub(crate) events: Vec<Event>,
    /// The disks when it had ended, and all of it was written out.
    pub(crate) after: Vec<Image>,
    pub(crate) output: Output,
}

/// Runs `command` on the disks of `place` as they are in `before`. `at_call` is told of each call that changes something, while whoever made
/// it stands still, with the number of events until then; `seen` looks around before and after the run.
pub(crate) fn trace(
    place: &Place,
    before: &[Image],
    command: &[String],
    how: How,
    mut seen: impl FnMut(),
    mut at_call: impl FnMut(&str, usize) + Send + 'static,
) -> Traced {
    let log = Log::default();
    let tmp = tempfile::tempdir().unwrap();
    let (disks_at, gate_at) = (tmp.path().join("disks"), tmp.path().join("gate"));
    for dir in [&disks_at, &gate_at] {
        std::fs::create_dir(dir).unwrap();
    }
    let disks = Disks::attach(&disks_at, before.to_vec(), &log);
    place.mount(&disks.files);
    seen();
    // Mounting writes, too.
    Kernel::of(place).write_all_out();
    log.lock().unwrap().clear();
    let before = disks.images();
    let gate = {
        let (log, mut kernel) = (log.clone(), Kernel::of(place));
        let (mut random, habits) = (Random(how.seed), Habits::of(how.seed));
        Gate::open(&gate_at, move |line| {
            let count = {
                let mut events = log.lock().unwrap();
                events.push(Event::Call(line.trim_end().to_owned()));
                events.len()
            };
            at_call(line, count);
            kernel.act(&mut random, &habits);
        })
    };
    let calls = format!("trace={}", CHANGING.join(","));
    let mut strace = Command::new("strace");
    strace.args(["-f", "--seccomp-bpf", "-qq", "-s", "60", "-e", "signal=none", "-e", &calls, "-o"]).arg(&gate.file);
    if !how.flushes_work {
        strace.args(["-e", "inject=fsync,fdatasync,syncfs:retval=0"]);
    }
    let output = strace.args(command).stdin(Stdio::null()).output().expect("strace must be installed");
    seen();
    gate.close();
    let events = std::mem::take(&mut *log.lock().unwrap());
    place.unmount();
    let after = disks.images();
    disks.detach();
    Traced { before, events, after, output }
}

/// Runs `command` on the disks of `place` as they are in `before`; `look` tells what is there.
pub(crate) fn record(
    place: &Place,
    before: &[Image],
    command: &[String],
    how: How,
    look: impl Fn() -> Units + Clone + Send + 'static,
) -> Recording {
    let (noted, mut ends) = (Arc::new(Mutex::new(Seen::new())), vec![]);
    let at_call = {
        let (noted, look) = (noted.clone(), look.clone());
        move |line: &str, _: usize| {
            if shows(line) {
                note(&mut noted.lock().unwrap(), &look());
            }
        }
    };
    let Traced { before, events, output, .. } = trace(place, before, command, how, || ends.push(look()), at_call);
    let said = [output.stdout, output.stderr].concat();
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&said));
    let mut seen = std::mem::take(&mut *noted.lock().unwrap());
    ends.iter().for_each(|units| note(&mut seen, units));
    let (Some(new), Some(old)) = (ends.pop(), ends.pop()) else { unreachable!("it is looked at twice") };
    Recording { before, events, old, new, seen }
}

/// Whether a call may have changed what `look` sees: names, owners or modes. Content comes under names that nobody reads.
fn shows(call: &str) -> bool {
    const SHOWS: [&str; 8] = ["rename", "link", "mkdir", "fchmod", "fchown", "setxattr", "ftruncate", "resumed"];
    !call.contains(" = -1 ") && SHOWS.iter().any(|name| call.contains(name))
}

/// States of what was not there are not noted.
type Seen = BTreeMap<String, BTreeSet<String>>;

fn note(seen: &mut Seen, units: &Units) {
    for (unit, state) in units {
        seen.entry(unit.clone()).or_default().insert(state.clone());
    }
}

/// What the kernel may do at any moment, without being asked.
struct Kernel {
    /// A file of nobody's on each disk.
    files: Vec<File>,
    flips: u32,
}

impl Kernel {
    fn of(place: &Place) -> Kernel {
        let files = place.disks().map(|at| File::create(at.join("lost+found/nobodys")).unwrap()).collect();
        Kernel { files, flips: 0 }
    }

    fn write_all_out(&self) {
        self.files.iter().for_each(|file| syncfs(file).unwrap());
    }

    /// On each disk, now and then: the journal is committed, and with it all names, while the content of new files is still in memory; or
    /// everything is written out.
    fn act(&mut self, random: &mut Random, habits: &Habits) {
        for file in &self.files {
            let chance = random.below(24);
            if chance < habits.commits {
                self.flips += 1;
                let mode = if self.flips.is_multiple_of(2) { 0o600 } else { 0o644 };
                file.set_permissions(Permissions::from_mode(mode)).unwrap();
                file.sync_all().unwrap();
            } else if chance < habits.commits + habits.writes_all_out {
                syncfs(file).unwrap();
            }
        }
    }
}

/// After how many of 24 calls the kernel does what.
struct Habits {
    commits: usize,
    writes_all_out: usize,
}

impl Habits {
    fn of(seed: u64) -> Habits {
        let (commits, writes_all_out) = match seed % 3 {
            0 => (2, 1),
            1 => (4, 0),
            _ => (1, 0),
        };
        Habits { commits, writes_all_out }
    }
}

/// A disk with nothing on it for each of the place's, filled by `fill`.
pub(crate) fn prepare(place: &Place, fill: impl FnOnce()) -> Vec<Image> {
    let tmp = Memory::new();
    let files: Vec<_> = place.disks().enumerate().map(|(disk, _)| tmp.path().join(disk.to_string())).collect();
    for file in &files {
        std::fs::write(file, disk::empty(tmp.path())).unwrap();
    }
    place.mount(&files);
    fill();
    place.unmount();
    files.iter().map(|file| std::fs::read(file).unwrap()).collect()
}
