//! The early-boot half of ATLAS: from disks to an identity, before the network [179-182, 325-326].
//!
//! ```text
//!  bound     EnvID and Cluster of the root file system: which environment is this?
//!  clear     arrays that something else started of our members are stopped                     arrays
//!  survey    every disk's superblocks: which set is ours, is it whole, has it one history?      model::survey decides
//!  start     the set, READ-ONLY; a file system that needs work is worked on in memory           host::rehearsal
//!  read      MasterConfig: who am I?  Is it our cluster?  The Snapshot of (Role, EnvVersion), converted in memory if need be
//!  stage     the identity, beside the files that it will replace, on the root file system
//!  ─────────── up to here nothing was written to the Unbound disks; every refusal but one of the machine itself falls above ───────────
//!  open      the set for writing; mend and mount the file system at /unbound; publish a converted Snapshot
//!  commit    the identity, by exchanging names
//!  report    /run/atlas/boot.json
//!  ═══════════ the pivot; from here on in the system that runs (`atlas-gate.service`) ═══════════
//!  gate      opened where the report allows it: /run/atlas/network-allowed. Until then no interface sends a frame
//! ```
//!
//! Invariants:
//! - The gate is closed before the first interface is there, and only success opens it. A crash, a missing hook, a hang leave it closed.
//! - Every refusal says what was found, why it is not safe, what to do: on the console, in the kernel log, in boot.json.
//! - Nothing is decided by names or the order of devices.
//! - Nothing is waited for without an end: a process that touches no disk watches the one that does (`watch`).

pub mod accept;
pub mod args;
pub mod arrays;
pub mod boot;
pub mod check;
pub mod decide;
pub mod gate;
pub mod identity;
mod keeper;
pub mod machine;
pub mod note;
pub mod record;
pub mod refuse;
mod role;
pub mod running;
#[cfg(test)]
mod same_answer;
pub mod standing;
pub mod unbound;
pub mod watch;

use std::path::PathBuf;

/// This program and its version, as reports name it.
pub const PROGRAM: &str = concat!("atlas-boot ", env!("CARGO_PKG_VERSION"));

/// Where things are, seen from this program: in the initramfs the root file system lies below a directory.
#[derive(Clone, Debug)]
pub struct Places {
    /// The server's root file system: `/root` in the initramfs, `/` later.
    pub root: PathBuf,
    /// `/run`, which survives the pivot.
    pub run: PathBuf,
}

impl Places {
    /// Where the Unbound file system is mounted.
    pub fn unbound(&self) -> PathBuf {
        self.root.join(atlas_sid::layout::UNBOUND_MOUNT)
    }
}
