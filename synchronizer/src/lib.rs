//! The Synchronizer: keeps every secondary's configuration equivalent to PRI's [173-330].
//!
//! ```text
//!   PRI                                               SECn
//!   ssSyncLoop ── every few minutes, or when a listed file changed
//!      └─ ssRun ── ssSync cycle                       sshd ── ssRun ── ssSync serve   (PRI's key may run this alone)
//!           create, older                                        │
//!           send          ═══════ one ssh session ═════► receive
//!           SyncUp        ─────────────────────────────► create, newer, install, create, older
//!           receive       ◄═════════════════════════════ send
//!           newer, compare
//!      /run/atlas/cycle.json                          /run/atlas/synced.json
//! ```
//!
//! | module | is |
//! |---|---|
//! | [`cycle`] | PRI's side, all partners at once |
//! | `serve` | a secondary's side |
//! | `protocol` | what they say to each other, and role verification |
//! | `create`, `convert`, `install`, `compare` | the steps, each also a command |
//! | `keys` | how partners know each other |
//! | `suspend` | when no cycle may run |
//! | `looped`, `ctrl` | `ssSyncLoop` and `ssSyncCtrl` |
//! | `report` | what was done, for people and programs |
//!
//! Invariants: a Snapshot is made for the Role that the mounted Unbound set gives and for the Environment of this server's own disk,
//! or not at all. The root disk never takes the place of an Unbound set that is not mounted. Nothing is written on a partner before
//! both have verified who the other is.

mod accept;
mod compare;
mod convert;
mod create;
pub mod ctrl;
mod cycle;
pub mod history;
pub mod hooks;
mod identity;
pub mod install;
mod keys;
pub mod looped;
mod protocol;
mod report;
mod serve;
mod server;
#[cfg(test)]
mod simulation;
mod suspend;
mod who;

pub use cycle::CycleArgs;
#[cfg(feature = "testing")]
pub use protocol::testing;

use atlas_cli::{Common, Exit};
use atlas_model::Role;
use clap::{CommandFactory, Parser, Subcommand};

/// Keep every secondary's configuration equivalent to PRI's
///
/// A Snapshot is a copy of the files that make this server what it is: its network identity (IdentFilePaths) and its other
/// configuration (SyncFilePaths). It lies on the Unbound disks, in the directory of this server's Role and EnvVersion, so that
/// whichever machine holds these disks at its next boot can take the identity over. A cycle, driven by PRI, takes its Snapshot to every
/// secondary, has it installed there, and brings back what the secondary has then, to be compared.
#[derive(Clone, Debug, Parser)]
#[command(
    name = "ssSync",
    version,
    after_help = "Examples:
  ssSync cycle                    bring all secondaries up to date now, on PRI
  ssSync cycle --json             the same, told as JSON
  ssSync create                   take a Snapshot of this server, as its Role and EnvVersion
  ssSync compare                  where the secondaries differ from PRI, as of the last cycle

  ssSync keys                     this server's public key; on the partner: ssSync trust ROLE KEY

Exit codes: 0 done, 1 failed, 2 called wrongly, 3 done, but something differs or a partner is not in step."
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
#[derive(Clone, Debug, Subcommand)]
pub enum Verb {
    /// Run one whole cycle with all partners, on PRI
    ///
    /// Takes PRI's Snapshot, sends every secondary what it lacks, has it converted and installed there, receives the secondary's own
    /// Snapshot and compares. All partners at once; one that is slow or dead holds up nobody else. What fails leaves what was there before.
    #[command(after_help = "Examples:
  ssSync cycle
  ssSync cycle --partner SEC2 --json")]
    Cycle(CycleArgs),
    /// Take a Snapshot of this server, and make those for all older EnvVersions from it
    ///
    /// The Role comes from MasterConfig on the Unbound disks, the EnvVersion from this server's own disk. The Snapshot takes the
    /// place of the one before at one instant; cut off anywhere, the one before stays whole. Where nothing changed since then,
    /// nothing is written; otherwise the change is a commit of the history in SID_DATA/history.
    #[command(after_help = "Examples:
  ssSync create
  ssSync create --full            read every byte, also of files whose times and sizes are as before
  ssSync create --root /mnt/server --json")]
    Create {
        /// Read every file, and do not trust times and sizes to tell that it is unchanged
        #[arg(long)]
        full: bool,
    },
    /// Make this server's Snapshots for all older EnvVersions again from its newest one
    Older,
    /// Send this server's Snapshots to the secondaries, without having them installed; on PRI
    Send(CycleArgs),
    /// Make the partners' Snapshots for this server's EnvVersion from their older ones
    Newer,
    /// Install what PRI's Snapshot for this EnvVersion brings; on a secondary
    ///
    /// Replaces only what differs, and removes what PRI removed. This server's identity, and what belongs to this machine (its disks, boot
    /// loader, ids), stay as they are. Accounts are merged: people as on PRI, the system's accounts with the numbers that they have here.
    /// Services check the new files before these are published, and are reloaded or restarted afterwards; the files of one that does not
    /// work with them are left or put back as they were. Cut off anywhere, the next run completes it.
    #[command(after_help = "Examples:
  ssSync install
  ssSync install --json
  ssSync install --confirm-removal     where so much was removed on PRI that a run refuses
  ssSync install --retry               after a service was mended that did not work with PRI's files

Exit codes: 0 installed, 1 failed and nothing was changed, or the next run completes it, 2 called wrongly, 3 installed, and something needs
somebody.")]
    Install(install::Options),
    /// Show where this server's identity differs from its Snapshot; atlas-boot installs it at the next boot
    Identity,
    /// Show where the secondaries differ from PRI, as of the last cycle; on PRI
    Compare {
        /// Only these; all secondaries where none is named
        roles: Vec<Role>,
    },
    /// Print the public key that the partner has to trust
    #[command(after_help = "Example, on both servers:
  pri#  ssSync keys                            prints: ssh-ed25519 AAAA…
  sec#  ssSync trust PRI 'ssh-ed25519 AAAA…'
  sec#  ssSync keys                            prints: ssh-ed25519 BBBB…
  pri#  ssSync trust SEC1 'ssh-ed25519 BBBB…'")]
    Keys,
    /// Know a partner by its public key from now on
    Trust {
        /// The partner's Role
        role: Role,
        /// The line that 'ssSync keys' printed there
        key: String,
    },
    /// Meet a partner anew, whose disks are not the ones that this server remembers
    ///
    /// Partners remember their last cycle. Where one of them comes with other disks (an old mirror half, a restored copy), both refuse. Only
    /// where you know that the disks on both sides are the right ones, run this on both.
    Accept {
        /// The partner's Role
        role: Role,
        /// Do it; without this, only what it would mean is said
        #[arg(long)]
        yes: bool,
    },
    /// Run the hooks of a point now, as the Synchronizer runs them there
    ///
    /// Hooks are the programs in /etc/atlas/hooks.d/POINT, and POINT.PRI, POINT.SEC or POINT.SEC1 for one Role, in the order of their
    /// names. They and their directories must belong to root and be writable by nobody else. They learn ATLAS_POINT, ATLAS_ROLE and
    /// ATLAS_ENV_VERSION, and have five minutes each. One that fails before a step ends the step; after a step its failure is reported.
    #[command(after_help = "Example: have the verifier's set-up run before each Snapshot on PRI
  install -D verifier-setup /etc/atlas/hooks.d/before-create.PRI/10-verifier
  ssSync hooks before-create")]
    Hooks {
        /// The point
        point: hooks::Point,
    },
    /// Answer PRI on standard input and output; what PRI's key runs here
    #[command(hide = true)]
    Serve,
    /// Installs where only the services' checks see it; run by 'ssSync install'
    #[command(hide = true)]
    RehearseInstall(install::Rehearse),
    /// Starts a service in a place of its own; run by 'ssSync rehearse-install'
    #[command(hide = true)]
    StartApart(install::StartApart),
}

/// The definition of the program, for man pages and completions.
pub fn command() -> clap::Command {
    Args::command()
}

/// Runs the program.
pub fn run(args: &Args) -> anyhow::Result<Exit> {
    let common = &args.common;
    match &args.command {
        Verb::Cycle(cycle) => cycle::run(common, cycle),
        Verb::Create { full } => create::run(common, *full),
        Verb::Older => convert::older(common),
        Verb::Send(cycle) => cycle::run_send(common, cycle),
        Verb::Newer => convert::newer(common),
        Verb::Install(options) => install::run(common, *options),
        Verb::Identity => identity::run(common),
        Verb::Compare { roles } => compare::run(common, roles),
        Verb::Keys => keys::show(common),
        Verb::Trust { role, key } => keys::trust(common, *role, key),
        Verb::Accept { role, yes } => accept::run(common, *role, *yes),
        Verb::Hooks { point } => hooks::run_and_tell(common, *point),
        Verb::Serve => serve::run(common),
        Verb::RehearseInstall(rehearse) => install::run_rehearsal(common, rehearse),
        Verb::StartApart(start) => install::start_apart(common, start),
    }
}
