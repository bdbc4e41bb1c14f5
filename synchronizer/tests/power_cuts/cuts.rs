//! All disks that a power cut could leave, and what is tried with each.
//!
//! ```text
//!   events:  write write FLUSH write write write ⚡
//!            ───────────┘      └──────────────┘
//!            durable           any of these, in pieces of 4 KiB: a disk writes out what it has in its cache in any order
//! ```

use super::{
    disk::{Event, Image},
    place::{Memory, Place},
    record::{Random, Recording},
};
use std::{
    collections::{BTreeMap, HashSet},
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, Mutex, mpsc},
};

/// What a disk writes whole or not at all.
const PIECE: usize = 4096;
/// So many disks are tried at a time: most of it is waiting for the kernel.
const WORKERS: usize = 4;

/// What a server is after a cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum State {
    Old,
    /// Of several things that are published one after the other, some are new.
    Between,
    New,
}

/// One cut.
pub(crate) struct Cut<'a> {
    pub(crate) recording: &'a Recording,
    /// Counted from the first that the recording has, tried or not.
    pub(crate) number: usize,
    /// Whether the program had ended.
    pub(crate) ended: bool,
}

/// How many of what.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tally {
    /// The step.
    pub(crate) name: &'static str,
    /// Different disks.
    pub(crate) cuts: usize,
    pub(crate) states: BTreeMap<State, usize>,
    /// Different trees, which the next run had to mend.
    pub(crate) mended: usize,
    pub(crate) writes: usize,
    pub(crate) flushes: usize,
    /// What is wrong, with the cut.
    pub(crate) bad: Vec<String>,
}

/// What is asked of each disk, mounted at its place.
pub(crate) trait Trial: Sync {
    /// Looks, and changes nothing: what it is, and all of its bytes in short.
    fn look(&self, cut: &Cut<'_>) -> (State, u64);
    /// Does the next step, and looks whether everything is as it must be.
    fn mend(&self, cut: &Cut<'_>);
}

struct Job {
    images: Vec<Image>,
    number: usize,
    ended: bool,
    when: String,
}

/// Tries about `limit` cuts of a recording, evenly spread over it. `trees` are those that were mended already.
pub(crate) fn try_all(
    recording: &Recording,
    place: &Place,
    trial: &impl Trial,
    limit: usize,
    seed: u64,
    trees: &Mutex<HashSet<u64>>,
) -> Tally {
    let tally = Mutex::new(Tally::default());
    std::thread::scope(|scope| {
        let (sender, receiver) = mpsc::sync_channel::<Job>(1);
        let receiver = Arc::new(Mutex::new(receiver));
        for _ in 0..WORKERS {
            let (receiver, tally) = (receiver.clone(), &tally);
            scope.spawn(move || work(recording, place, trial, &receiver, tally, trees));
        }
        // Else whoever sends waits for ever where all workers have failed.
        drop(receiver);
        let (writes, flushes) = enumerate(recording, limit, seed, |job| sender.send(job).unwrap());
        let mut tally = tally.lock().unwrap();
        (tally.writes, tally.flushes) = (writes, flushes);
    });
    tally.into_inner().unwrap()
}

/// A piece that was written and not flushed.
struct Waiting<'a> {
    disk: usize,
    at: usize,
    data: &'a [u8],
}

/// What disks hold for good, and what they lose with their power.
pub(crate) struct Medium<'a> {
    durable: Vec<Image>,
    waiting: Vec<Waiting<'a>>,
}

impl<'a> Medium<'a> {
    pub(crate) fn new(before: &[Image]) -> Medium<'a> {
        Medium { durable: before.to_vec(), waiting: vec![] }
    }

    pub(crate) fn take(&mut self, event: &'a Event) {
        match event {
            Event::Call(_) => {}
            Event::Flush { disk } => {
                let (done, still) =
                    std::mem::take(&mut self.waiting).into_iter().partition(|piece| piece.disk == *disk);
                self.waiting = still;
                let done: Vec<_> = done;
                done.iter().for_each(|piece| apply(&mut self.durable, piece));
            }
            Event::Write { disk, at, data } => {
                let pieces = data.chunks(PIECE).enumerate();
                self.waiting.extend(pieces.map(|(i, data)| Waiting { disk: *disk, at: at + i * PIECE, data }));
            }
        }
    }

    /// The disks after a power cut, and how many pieces of those that were not flushed are there.
    pub(crate) fn cut(&self, mut is_kept: impl FnMut() -> bool) -> (Vec<Image>, usize) {
        let mut images = self.durable.clone();
        let kept = self.waiting.iter().filter(|_| is_kept()).map(|piece| apply(&mut images, piece)).count();
        (images, kept)
    }
}

fn enumerate(recording: &Recording, limit: usize, seed: u64, mut give: impl FnMut(Job)) -> (usize, usize) {
    let events = &recording.events;
    let is_write = |event: &&Event| matches!(event, Event::Write { .. });
    let writes = events.iter().filter(is_write).count();
    let flushes = events.iter().filter(|event| matches!(event, Event::Flush { .. })).count();
    let mut random = Random(seed ^ 0x5eed);
    let mut medium = Medium::new(&recording.before);
    let (mut last, mut since_call, mut met) = ("the beginning", 0, 0);
    let last_call = events.iter().rposition(|event| matches!(event, Event::Call(_))).unwrap_or(0);
    for (index, event) in events.iter().enumerate() {
        medium.take(event);
        match event {
            Event::Call(call) => {
                (last, since_call) = (call, 0);
                if index != last_call {
                    continue;
                }
            }
            Event::Flush { .. } => continue,
            Event::Write { .. } => since_call += 1,
        }
        // Two cuts at each write: all that was written is there; only some of it is.
        for only_some in [false, true] {
            met += 1;
            // Always: one of the first, and what is durable when the program has ended.
            let is_chosen = met == 1 || index == last_call || random.below(2 * writes) < limit;
            if !is_chosen || (only_some && medium.waiting.is_empty()) {
                continue;
            }
            let ended = index >= last_call;
            let (images, kept) = medium.cut(|| !only_some || random.below(2) == 0);
            let when = format!(
                "cut {met}: write {since_call} after {last}; {kept} of {} pieces that were not flushed are there",
                medium.waiting.len()
            );
            give(Job { images, number: met, ended, when });
        }
    }
    (writes, flushes)
}

fn apply(images: &mut [Image], piece: &Waiting<'_>) {
    images[piece.disk][piece.at..piece.at + piece.data.len()].copy_from_slice(piece.data);
}

/// Tries disks, with mounts that no other worker sees.
fn work(
    recording: &Recording,
    place: &Place,
    trial: &impl Trial,
    jobs: &Mutex<mpsc::Receiver<Job>>,
    tally: &Mutex<Tally>,
    trees: &Mutex<HashSet<u64>>,
) {
    atlas_host::mount::own_mounts().expect("root's rights");
    let tmp = Memory::new();
    // A loop device may hold its file for a moment longer: each disk gets a file of its own.
    for round in 0.. {
        let job = jobs.lock().unwrap().recv();
        let Ok(job) = job else { break };
        let cut = Cut { recording, number: job.number, ended: job.ended };
        let files: Vec<_> = (0..job.images.len()).map(|disk| tmp.path().join(format!("{round}-{disk}"))).collect();
        for (file, image) in files.iter().zip(&job.images) {
            std::fs::write(file, image).unwrap();
        }
        drop(job.images);
        place.mount(&files);
        let tried = catch_unwind(AssertUnwindSafe(|| {
            let (state, tree) = trial.look(&cut);
            let is_new = trees.lock().unwrap().insert(tree);
            if is_new {
                trial.mend(&cut);
            }
            (state, is_new)
        }));
        place.unmount();
        files.iter().for_each(|file| std::fs::remove_file(file).unwrap());
        let mut tally = tally.lock().unwrap();
        tally.cuts += 1;
        match tried {
            Ok((state, is_new)) => {
                *tally.states.entry(state).or_default() += 1;
                tally.mended += usize::from(is_new);
            }
            Err(panic) => {
                let text = panic.downcast_ref::<String>().map(String::as_str);
                let text = text.or(panic.downcast_ref::<&str>().copied()).unwrap_or("a panic");
                tally.bad.push(format!("{}: {text}", job.when));
            }
        }
    }
}

impl Tally {
    pub(crate) fn add(&mut self, other: Tally) {
        self.cuts += other.cuts;
        self.mended += other.mended;
        self.writes += other.writes;
        self.flushes += other.flushes;
        self.bad.extend(other.bad);
        for (state, count) in other.states {
            *self.states.entry(state).or_default() += count;
        }
    }
}
