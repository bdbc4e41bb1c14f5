//! One server of a cycle loses its power and the other goes on: it finds the connection broken, and keeps what it has by then.
//!
//! ```text
//!   PRI   ssSync cycle ──┐ ⚡ all its processes end; of what was not flushed, anything may be on its disks
//!   SEC1  ssSync serve   └─ goes on to its own end
//! ```
//!
//! Each cut is a run of its own. Neither may then remember more than the other has: the next cycle is not refused, and mends everything.

use super::{
    cuts::Medium,
    disk::Event,
    place::Memory,
    record::{How, Random, Recording, Traced, trace},
    state,
    steps::{PROGRAM, STEPS, Scene},
};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
    sync::{Arc, Mutex},
};

/// The servers, and which of the cycle's disks are theirs.
pub(crate) const VICTIMS: [(&str, &[usize]); 2] = [("pri", &[0]), ("sec", &[1, 2])];

/// How one server's cuts went.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    pub(crate) cuts: usize,
    /// Different states of both servers that the next cycle began with.
    pub(crate) states: BTreeSet<String>,
}

/// Cuts the power of one server in so many cycles, spread over what a cycle does.
pub(crate) fn cut_alone((victim, disks): (&'static str, &'static [usize]), runs: usize) -> Tally {
    atlas_host::mount::own_mounts().expect("this test mounts file systems: it needs root's rights");
    let scene = Scene::set(&STEPS[5]);
    let recording = scene.record(How { seed: 1, flushes_work: true });
    let calls = recording.events.iter().filter(|event| matches!(event, Event::Call(_))).count();
    let mut tally = Tally::default();
    for run in 0..runs {
        let mut random = Random(run as u64);
        let at = (run * calls + random.below(calls)) / runs;
        let seed = run as u64 + 1;
        if let Some(images) = cut_at(&scene, victim, disks, at, seed) {
            tally.cuts += 1;
            tally.states.insert(try_one(
                &scene,
                &recording,
                &images,
                &format!("{victim} at call {at} of {calls}, seed {seed}"),
            ));
        }
    }
    tally
}

/// Runs a cycle in which the victim's power is cut at that call, or at the next one while it is at work; gives all disks after it. `None` where the
/// victim had nothing more to do.
fn cut_at(scene: &Scene, victim: &'static str, disks: &[usize], at: usize, seed: u64) -> Option<Vec<Vec<u8>>> {
    let cut = Arc::new(Mutex::new(None));
    let at_call = {
        let (cut, base, mut count) = (cut.clone(), scene.place.base.clone(), 0);
        move |_: &str, events: usize| {
            count += 1;
            let mut cut = cut.lock().unwrap();
            if count > at && cut.is_none() {
                let processes = processes(&base, victim);
                // One that has ended meanwhile is as good as killed.
                processes.iter().for_each(|pid| _ = kill(*pid, Signal::SIGKILL));
                *cut = (!processes.is_empty()).then_some(events);
            }
        }
    };
    let how = How { seed, flushes_work: true };
    let Traced { before, events, mut after, .. } =
        trace(&scene.place, &scene.before, &scene.command(), how, || (), at_call);
    let end = cut.lock().unwrap().take()?;
    let mut medium = Medium::new(&before);
    events[..end].iter().for_each(|event| medium.take(event));
    let mut random = Random(seed ^ 0x5eed);
    let (lost, _) = medium.cut(|| random.below(2) == 0);
    lost.into_iter().enumerate().filter(|(disk, _)| disks.contains(disk)).for_each(|(disk, image)| after[disk] = image);
    Some(after)
}

/// What runs on a server: the program that was called with its tree, and all that it called, but not what runs on the other one.
fn processes(base: &Path, server: &str) -> Vec<Pid> {
    let of = |server: &str| format!("--root\0{}\0", base.join(server).display());
    let (own, others) = (of(server), of(if server == "pri" { "sec" } else { "pri" }));
    let all: BTreeMap<i32, (i32, String)> = fs::read_dir("/proc")
        .unwrap()
        .filter_map(|entry| {
            let path = entry.ok()?.path();
            let pid = path.file_name()?.to_str()?.parse().ok()?;
            let line = String::from_utf8_lossy(&fs::read(path.join("cmdline")).ok()?).into_owned();
            let stat = fs::read_to_string(path.join("stat")).ok()?;
            let parent = stat.rsplit(") ").next()?.split(' ').nth(1)?.parse().ok()?;
            Some((pid, (parent, line)))
        })
        .collect();
    let is = |line: &str, tree: &str| line.starts_with(PROGRAM) && line.contains(tree);
    let mut found: BTreeSet<i32> = all.iter().filter(|(_, (_, line))| is(line, &own)).map(|(pid, _)| *pid).collect();
    loop {
        let children = all
            .iter()
            .filter(|(pid, (parent, line))| found.contains(parent) && !found.contains(pid) && !is(line, &others));
        let children: Vec<i32> = children.map(|(pid, _)| *pid).collect();
        if children.is_empty() {
            return found.into_iter().map(Pid::from_raw).collect();
        }
        found.extend(children);
    }
}

/// Both servers come up with these disks: each unit is one that a cycle goes through, and the next cycle ends as one that nothing cut.
fn try_one(scene: &Scene, recording: &Recording, images: &[Vec<u8>], when: &str) -> String {
    let tmp = Memory::new();
    let files: Vec<_> = (0..images.len()).map(|disk| tmp.path().join(disk.to_string())).collect();
    for (file, image) in files.iter().zip(images) {
        fs::write(file, image).unwrap();
    }
    scene.place.mount(&files);
    println!("{when}");
    let is = state::essence(&state::units(&scene.place.base));
    for (unit, state) in &is {
        let known = recording.seen.get(unit).into_iter().flatten();
        let known: BTreeSet<String> = known.map(|state| state::essence_of(state)).collect();
        assert!(known.contains(state), "{when}: {unit} is neither old nor new: {state}");
    }
    let missing = recording.old.keys().filter(|unit| recording.new.contains_key(*unit) && !is.contains_key(*unit));
    assert_eq!(missing.count(), 0, "{when}: something is gone");
    scene.assert_always();
    scene.mend_once(recording);
    scene.place.unmount();
    format!("{is:?}")
}
