//! Servers in QEMU whose disks move, and the scenarios they act out.
//!
//! ATLAS is about what happens when disks are taken out of one server and put into another. This crate is the room in which that is
//! done: [`Server`]s with a watched [`Console`], [`Disk`]s that are in one place at a time, a [`Lan`] that can be cut and
//! tells who sent what. No privileges are needed, and no KVM: see [`Accel`].
//!
//! A scenario is a function of a [`Context`] and a row in [`SCENARIOS`]; [`run`] runs them. All waits end: see [`Deadline`].
//!
//! Packages it wants on this machine: `qemu-system-x86`, and from any Debian `util-linux`, `coreutils`, `dpkg`, `apt`, `libc-bin`;
//! for the tiny guest's agent the libraries that `qemu-system-x86` brings along (GLib, udev, numa, uring).

mod accel;
mod agent;
mod cache;
pub mod console;
mod context;
mod cpio;
mod deadline;
mod disk;
mod lan;
mod ledger;
mod qemu;
mod runner;
pub mod scenarios;
mod server;
mod silence;
mod tiny;
mod wire;
mod write_log;

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

pub use accel::Accel;
pub use agent::Output;
pub use console::Console;
pub use context::Context;
pub use cpio::Archive;
pub use deadline::{Deadline, secs};
pub use disk::Disk;
pub use lan::{Lan, Mac, Neighbour, Sent};
pub use runner::{Options, Outcome, Scenario, Summary, Tier, run_table};
pub use scenarios::SCENARIOS;
pub use server::{Boot, Server, ServerBuilder};
pub use silence::Trigger;
pub use tiny::Tiny;
pub use write_log::{Cut, Replay};

/// Runs the scenarios of this crate.
///
/// # Errors
/// As [`run_table`].
pub fn run(options: &Options) -> anyhow::Result<Summary> {
    run_table(SCENARIOS, options)
}

/// Locks; a thread that panicked while it held the lock left plain records behind, which are still good to report.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Waits for news, at most for `time`.
fn wait_timeout<'a, T>(news: &Condvar, guard: MutexGuard<'a, T>, time: Duration) -> MutexGuard<'a, T> {
    news.wait_timeout(guard, time).unwrap_or_else(PoisonError::into_inner).0
}
