//! The power goes while the Synchronizer works with its files: what was not flushed is on the disk or not, in any order.
//!
//! The real program runs on a real ext4, on disks that record what comes to them (`disk`); now and then, by a seed, the kernel commits
//! its journal or writes everything out, as it may at any moment (`record`). Then, for every cut, the disks are made that it leaves, and mounted,
//! so that ext4 replays its journal; and ATLAS looks at them and does its next step (`cuts`).
//!
//! ```text
//!   first     the first Snapshot that PRI ever makes                                  PRI's Unbound disk
//!   create    the next one, its older version, and the commit of the history          PRI's Unbound disk
//!   older     its older version again, with another converter
//!   newer     the secondary's Snapshot for PRI's version
//!   receive   what PRI sends                                                          the Unbound disks of both
//!   install   what was received                                                       the secondary's own disk, and its Unbound disk
//!   cycle     all of these                                                            all of these; the power of both goes at one moment
//! ```
//!
//! After every cut: each Role directory is the old one or the new one; every Snapshot in it is whole, and the server's own could be booted with; each
//! installed object is the old one or the new one; what the program had told to be done is done; secrets are root's alone. After the next run:
//! everything is as if nothing had been cut, nothing is left over, git finds no fault with the history, and a further change makes a whole Snapshot
//! of what is there. Where one server loses its power alone, the other one goes on (`alone`).

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking, in its helpers as well")]

mod alone;
mod cuts;
mod disk;
mod gate;
mod place;
mod record;
mod state;
mod steps;

use cuts::{State, Tally};
use record::How;
use std::sync::Mutex;
use steps::{STEPS, Scene, Step};

/// Tries cuts of a step: of so many runs, about so many of each.
fn cut(step: &'static Step, runs: u64, limit: usize, flushes_work: bool) -> Tally {
    // What a test mounts is gone when it ends, however it ends.
    atlas_host::mount::own_mounts().expect("this test mounts file systems: it needs root's rights");
    let scene = Scene::set(step);
    let (mut sum, trees) = (Tally { name: step.name, ..Tally::default() }, Mutex::default());
    for seed in 1..=runs {
        let recording = scene.record(How { seed, flushes_work });
        sum.add(cuts::try_all(&recording, &scene.place, &scene, limit, seed, &trees));
    }
    sum
}

/// Tries cuts of all steps, and tells of each when it is done.
fn cut_all(runs: u64, limit: usize) {
    println!("step      cuts   old  part   new  trees mended  writes flushes");
    let tallies: Vec<Tally> = STEPS.iter().map(|step| cut(step, runs, limit, true)).inspect(report).collect();
    tallies.iter().for_each(assert_all_good);
}

fn report(tally: &Tally) {
    let count = |state| tally.states.get(&state).copied().unwrap_or(0);
    let [old, part, new] = [State::Old, State::Between, State::New].map(count);
    let Tally { name, cuts, mended, writes, flushes, .. } = tally;
    println!("{name:8} {cuts:5} {old:5} {part:5} {new:5} {mended:13} {writes:7} {flushes:7}");
}

fn assert_all_good(tally: &Tally) {
    let Tally { name, cuts, bad, states, .. } = tally;
    assert!(bad.is_empty(), "{name}: {} of {cuts} cuts: {bad:#?}", bad.len());
    assert!(states.contains_key(&State::Old), "{name}: no cut lay before the end: {states:?}");
    assert!(states.contains_key(&State::New), "{name}: no cut lay after it was published: {states:?}");
}

#[test]
fn after_a_power_cut_everything_is_old_or_new_and_the_next_run_mends_it() {
    cut_all(1, 5);
}

#[test]
#[ignore = "tries thousands of disks, which takes a quarter of an hour"]
fn after_thousands_of_power_cuts_everything_is_old_or_new_and_the_next_run_mends_it() {
    cut_all(8, 60);
}

/// Cuts each server's power in so many cycles, while the other one goes on.
fn cut_each_alone(runs: usize) {
    std::thread::scope(|scope| {
        let running = alone::VICTIMS.map(|victim| (victim.0, scope.spawn(move || alone::cut_alone(victim, runs))));
        for (victim, running) in running {
            let alone::Tally { cuts, states } = running.join().expect("it says itself what is wrong");
            println!("{victim} alone: {cuts} cuts in {runs} cycles, {} different states to mend", states.len());
            assert!(cuts * 2 >= runs && states.len() > 1, "{victim}: {cuts} of {runs} cycles were cut");
        }
    });
}

#[test]
#[ignore = "runs a hundred cycles and more at the pace of a tracer"]
fn after_a_hundred_power_cuts_of_one_server_alone_the_next_cycle_mends_everything() {
    cut_each_alone(60);
}

#[test]
fn a_program_whose_flushes_do_nothing_is_found() {
    let tally = cut(&STEPS[0], 1, 20, false);
    let is_mixed = |bad: &&String| bad.contains("is neither old nor new");
    let mixed = tally.bad.iter().filter(is_mixed).count();
    assert!(mixed > 0, "nothing was ever flushed, and {} cuts left no mixture: {:#?}", tally.cuts, tally.bad);
    println!(
        "without flushes: {} of {} cuts are bad, as they must be, {mixed} of them mixtures",
        tally.bad.len(),
        tally.cuts
    );
}
