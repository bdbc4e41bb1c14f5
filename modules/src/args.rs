//! The command line.

use crate::{
    complete,
    name::{Channel, FileName, ModuleName, Version, Wanted},
};
use clap::{Parser, Subcommand};
use std::path::PathBuf;

const EXAMPLES: &str = "\
Examples:
  atlas-module list                          what is installed, set, and running
  atlas-module set ssSync v2                 run v2 from its next start on
  atlas-module rollback ssSync               back to what was set before
  atlas-module set ssSync v3 --try 3         back by itself, unless v3 is healthy within 3 starts
  atlas-module install ssSync-v3.tar --beta  place a package beside the other versions
  atlas-module verify                        is everything still what was installed?

Exit codes: 0 done, 1 failed, 2 called wrongly, 3 verify found something, or a trial was not survived.
Completion: source <(COMPLETE=bash atlas-module)";

/// Versions of the programs side by side, switched by links
#[derive(Debug, Parser)]
#[command(name = "atlas-module", version, after_help = EXAMPLES)]
pub struct Args {
    /// What every program has.
    #[command(flatten)]
    pub common: atlas_cli::Common,
    /// What is to be done.
    #[command(subcommand)]
    pub action: Action,
}

/// What is to be done.
#[derive(Debug, Subcommand)]
pub enum Action {
    /// Show what is installed, what is set, and what runs now
    #[command(
        after_help = "Examples:\n  atlas-module list\n  atlas-module list ssSync\n  atlas-module list --in beta --json"
    )]
    List {
        /// This module alone
        #[arg(add = complete::modules())]
        name: Option<ModuleName>,
        /// The versions of this directory alone: update or beta
        #[arg(long = "in", value_name = "DIRECTORY")]
        channel: Option<Channel>,
    },
    /// Choose the version that runs from the next start on: all its links at once, or none
    #[command(
        after_help = "Examples:\n  atlas-module set ssSync v2\n  atlas-module set ssSync beta/v3 --try 3\n  atlas-module set ssSync v1 --dry-run"
    )]
    Set {
        /// The module
        #[arg(add = complete::modules())]
        name: ModuleName,
        /// The version: v2, or beta/v2 where update has one of that name, too
        #[arg(add = complete::versions())]
        version: Wanted,
        /// Go back to the version before, with an alert, unless this one reports itself healthy within STARTS starts
        #[arg(long = "try", value_name = "STARTS", value_parser = clap::value_parser!(u32).range(1..=1000))]
        trial_starts: Option<u32>,
        /// Set it although it cannot read the data on the Unbound disk (it may write over them), or is damaged
        #[arg(long)]
        force: bool,
        /// Only say what would be done
        #[arg(long)]
        dry_run: bool,
    },
    /// Set what was set before; twice leads back again
    Rollback {
        /// The module
        #[arg(add = complete::modules())]
        name: ModuleName,
        /// Set it although it cannot read the data on the Unbound disk (it may write over them), or is damaged
        #[arg(long)]
        force: bool,
        /// Only say what would be done
        #[arg(long)]
        dry_run: bool,
    },
    /// Take all links of a module away, so that it can be removed
    Unset {
        /// The module
        #[arg(add = complete::modules())]
        name: ModuleName,
    },
    /// Place packages beside the versions that are there; nothing that runs or is set changes
    #[command(
        after_help = "Examples:\n  atlas-module install ssSync-v2.tar.zst\n  atlas-module install ssSync-v3.tar --beta\n  atlas-module install ssSync-v2.tar --dry-run --json"
    )]
    Install {
        /// The packages: tar files, plain or zstd
        #[arg(required = true, value_name = "FILE")]
        files: Vec<PathBuf>,
        /// Place them in bin/beta instead of bin/update
        #[arg(long)]
        beta: bool,
        /// Take packages that nobody signed, or whose signer is not trusted here
        #[arg(long)]
        allow_unsigned: bool,
        /// Set each, unless an operator has chosen a version of that module (for the system's own package)
        #[arg(long, conflicts_with = "beta")]
        deliver: bool,
        /// Only check them, and say what would be done
        #[arg(long)]
        dry_run: bool,
    },
    /// Remove a version; never the one that is set or one that runs
    Remove {
        /// The module
        #[arg(add = complete::modules())]
        name: ModuleName,
        /// The version
        #[arg(add = complete::versions())]
        version: Wanted,
        /// Only say what would be done
        #[arg(long)]
        dry_run: bool,
    },
    /// Read every installed file and compare it with what was installed; ends with 3 where something differs
    Verify {
        /// This module alone
        #[arg(add = complete::modules())]
        name: Option<ModuleName>,
    },
    /// Show what was set, when, and by whom
    History {
        /// This module alone
        #[arg(add = complete::modules())]
        name: Option<ModuleName>,
    },
    /// Make a package from a folder: its files, and module.toml for what cannot be seen in them
    #[command(
        after_help = "Examples:\n  atlas-module pack build/ssSync ssSync-v2.tar.zst --name ssSync --version v2\n  atlas-module pack build/ssSync ssSync-v2.tar --key maker.key\n\nA folder's module.toml may have: name, version, summary, [[data]] name reads writes, [[protocol]] name speaks."
    )]
    Pack {
        /// The folder
        folder: PathBuf,
        /// The package to write; compressed where its name ends in .zst
        #[arg(value_name = "FILE")]
        output: PathBuf,
        /// The module
        #[arg(long)]
        name: Option<ModuleName>,
        /// Its version
        #[arg(long)]
        version: Option<Version>,
        /// Sign with this minisign secret key
        #[arg(long, value_name = "FILE")]
        key: Option<PathBuf>,
        /// The file that holds the password of the key
        #[arg(long, value_name = "FILE", requires = "key")]
        password_file: Option<PathBuf>,
    },
    /// Count a start that is about to be made; ssRun calls it. Ends with 3 where that set the version before again
    Started {
        /// The module, or one of its programs
        #[arg(add = complete::modules())]
        name: FileName,
    },
    /// Report that a version is healthy, which ends its trial well; ssRun does after a good run
    Healthy {
        /// The module, or one of its programs
        #[arg(add = complete::modules())]
        name: FileName,
        /// The version that reports: its own, as it knows it from /proc/self/exe
        #[arg(add = complete::versions())]
        version: Wanted,
    },
    /// Report that a run of a version ended badly. Ends with 3 where it was its trial's last, and the version before is set again
    Failed {
        /// The module, or one of its programs
        #[arg(add = complete::modules())]
        name: FileName,
        /// The version that ran
        #[arg(add = complete::versions())]
        version: Wanted,
    },
}
