//! How `atlas-boot` is called.

use crate::accept::AcceptArgs;
use clap::{CommandFactory, Parser, Subcommand};
use std::path::PathBuf;

/// Makes this server what its Unbound disks say it is, before the network is up.
///
/// The initramfs runs 'atlas-boot boot'. An operator needs it in two cases: to see whether this server would boot into its role
/// ('atlas-boot check'), and, after a refusal, to accept a risk that it must not take by itself ('atlas-boot accept').
#[derive(Debug, Parser)]
#[command(
    name = "atlas-boot",
    version,
    after_help = "Examples:
  atlas-boot check                      would this server boot into its role, and why not?
  atlas-boot accept missing-member      after a refusal: go on without the missing disk
  less /run/atlas/boot.json             what the last boot found, did and refused

Exit codes: 0 done, 1 failed, 2 called wrongly, 3 the answer is no."
)]
pub struct Args {
    /// What to do.
    #[command(subcommand)]
    pub command: Verb,
    /// The server's root file system
    #[arg(long, value_name = "DIR", default_value = "/", global = true)]
    pub root: PathBuf,
    /// Where reports lie
    #[arg(long, value_name = "DIR", default_value = "/run", global = true)]
    pub run: PathBuf,
    /// Answer with the report as JSON
    #[arg(long, global = true)]
    pub json: bool,
}

/// What atlas-boot can be asked to do.
#[derive(Debug, Subcommand)]
pub enum Verb {
    /// Take the role of the Unbound disks; run by the initramfs, once
    Boot {
        /// Do the work; without it, have it done by another process and watch that
        #[arg(long, hide = true)]
        worker: bool,
    },
    /// Tell whether this server would boot into its role; changes nothing
    Check,
    /// Accept, once, a risk that led to a refusal
    Accept(AcceptArgs),
    /// Write down whose identity the last boot installed, where nobody did; run by an upgrade of the package
    NoteIdentity,
    /// Keep the network gate: open it if this boot allows that, or keep it closed; run by atlas-gate.service
    Gate,
    /// Keep a network interface from sending while the gate is closed (exit code 0; 3: it may send); run by udev
    Hold {
        /// The interface
        interface: String,
    },
    /// Tell by the exit code (0 yes, 3 no) whether a device belongs to an Unbound set; asked by udev. mdadm leaves that set alone from then on
    IsMember {
        /// The device
        device: PathBuf,
    },
    /// Leave Unbound sets out of an mdadm.conf; run when an initramfs is made
    LeaveOut {
        /// The mdadm.conf of the initramfs
        conf: PathBuf,
    },
}

/// The definition from which the man page, the completions and the reference are made.
pub fn command() -> clap::Command {
    Args::command()
}
