//! `atlas`: the operator's front.
//!
//! `atlas X` is built in (`init`, `status`, `notices`), or runs the program `atlas-X` that is found on PATH, with the arguments as they are. So each part
//! of ATLAS brings its own program, and the operator learns one name.

mod external;
pub mod init;
pub mod notices;
pub mod status;

use atlas_cli::{Common, Exit};
use clap::{CommandFactory, Parser, Subcommand, error::ErrorKind};
use std::ffi::OsString;

/// Set up and look after the servers of a cluster
#[derive(Clone, Debug, Parser)]
#[command(
    name = "atlas",
    version,
    arg_required_else_help = true,
    after_help = "'atlas X' runs the program 'atlas-X' for every other X, as 'atlas module list' runs 'atlas-module list'.

Examples:
  atlas init                      set this server up; asks for what it needs to know
  atlas init --check              would this server boot into its role?
  atlas status                    can I fail over right now?
  atlas notices                   what happened that somebody should look at
  atlas module list               which versions of the programs are installed

Exit codes: 0 done, 1 failed, 2 called wrongly, 3 the answer is no."
)]
pub struct Args {
    /// What to do.
    #[command(subcommand)]
    pub command: Verb,
    /// How to do and tell it.
    #[command(flatten)]
    pub common: Common,
}

/// What `atlas` does itself.
#[derive(Clone, Debug, Subcommand)]
pub enum Verb {
    /// Make this machine a server of a cluster: its Unbound disks, who it is, what to take along
    Init(Box<init::InitArgs>),
    /// Tell whether each secondary could take over now, and if not, why and what to do
    ///
    /// Run it on PRI. What is not known is said to be unknown: a report that is too old counts for nothing.
    #[command(after_help = "Examples:
  atlas status
  atlas status --watch
  atlas status --json

Exit codes: 0 ready, 1 failed, 2 called wrongly, 3 not ready, or not known.")]
    Status(status::StatusArgs),
    /// List what the programs noticed on this server and nobody has dealt with, and say that it is
    ///
    /// A version that was set back, a caller that was refused, a limit that was passed before a run: each is a
    /// finding of the VerifyService 'notices', here and on PRI, until it is done. They survive a reboot.
    #[command(after_help = "Examples:
  atlas notices
  atlas notices done atlas-module-bakeOven

Exit codes: 0 none waits, or done; 1 failed, 2 called wrongly, 3 some wait.")]
    Notices(notices::NoticesArgs),
    /// Another program, `atlas-X`.
    #[command(external_subcommand)]
    External(Vec<OsString>),
}

/// The program was called with arguments that do not fit together; nothing was tried.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
#[error("{0}")]
pub struct CalledWrongly(pub String);

/// The definition of the program, for man pages and completions.
pub fn command() -> clap::Command {
    Args::command()
}

/// How a wrong call is told: as clap tells those that it finds itself, with exit code 2.
pub fn usage(args: &Args, error: &anyhow::Error) -> clap::Error {
    let mut command = command();
    command.build();
    match (&args.command, command.find_subcommand_mut("init")) {
        (Verb::Init(_), Some(init)) => init.error(ErrorKind::ValueValidation, error),
        _ => command.error(ErrorKind::InvalidSubcommand, error),
    }
}

/// Runs the program.
pub fn run(args: &Args) -> anyhow::Result<Exit> {
    match &args.command {
        Verb::Init(init) => init::run(init, &args.common),
        Verb::Status(status) => status::run(status, &args.common),
        Verb::Notices(notices) => notices::run(notices, &args.common),
        Verb::External(words) => Err(external::become_program(words, &args.common)),
    }
}
