//! `ssSync`: takes and keeps Snapshots of this server's configuration [187-194].
//!
//! ```text
//!   this server                                        its Unbound set
//!   /opt/atlas/EnvID     ── Env2 ──┐             ┌──   /unbound/SID_DATA/MasterConfig    cluster, PRI
//!   /opt/atlas/Cluster   ──────────┴─ must agree ┘
//!   /etc/hostname, …     ── copied as IdentFilePaths and SyncFilePaths… name them ──►   SID_DATA/PRI/Env2/
//! ```
//!
//! Invariant: a Snapshot is made for the Role that the mounted Unbound set gives and for the Environment of this server's own disk,
//! or not at all. The root disk never takes the place of an Unbound set that is not mounted.

mod create;
pub mod install;

use atlas_cli::{Common, Exit};
use clap::{CommandFactory, Parser, Subcommand};

/// Take a Snapshot of this server's configuration
///
/// A Snapshot is a copy of the files that make this server what it is: its network identity (IdentFilePaths) and its other
/// configuration (SyncFilePaths). It lies on the Unbound disks, in the directory of this server's Role and EnvVersion, so that
/// whichever machine holds these disks at its next boot can take the identity over.
#[derive(Clone, Debug, Parser)]
#[command(
    name = "ssSync",
    version,
    after_help = "Examples:
  ssSync create                   take a Snapshot of this server, as its Role and EnvVersion
  ssSync create --json            the same, told as JSON
  ssSync install                  on a secondary: take over what PRI's Snapshot brings

Exit codes: 0 done, 1 failed, 2 called wrongly."
)]
pub struct Args {
    /// What to do.
    #[command(subcommand)]
    pub command: Verb,
    /// How to do and tell it.
    #[command(flatten)]
    pub common: Common,
}

/// What `ssSync` does.
#[derive(Clone, Copy, Debug, Subcommand)]
pub enum Verb {
    /// Take a Snapshot of this server, and make those for all older EnvVersions from it
    ///
    /// The Role comes from MasterConfig on the Unbound disks, the EnvVersion from this server's own disk. The Snapshot takes the
    /// place of the one before at one instant; cut off anywhere, the one before stays whole.
    #[command(after_help = "Examples:
  ssSync create
  ssSync create --root /mnt/server --json")]
    Create,
    /// On a secondary: install what PRI's Snapshot for this EnvVersion brings
    ///
    /// Replaces only what differs, and removes what PRI removed. What belongs to this machine, and its identity, stay as they are.
    #[command(after_help = "Examples:
  ssSync install
  ssSync install --json")]
    Install,
}

/// The definition of the program, for man pages and completions.
pub fn command() -> clap::Command {
    Args::command()
}

/// Runs the program.
pub fn run(args: &Args) -> anyhow::Result<Exit> {
    match args.command {
        Verb::Create => create::run(&args.common),
        Verb::Install => install::run(&args.common),
    }
}
