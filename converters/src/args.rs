//! The command lines of `atlas-convert` and of `SyncConverterN`.

use crate::Direction;
use atlas_model::EnvVersion;
use clap::{Parser, Subcommand, ValueEnum};
use std::path::PathBuf;

/// Snapshots of one EnvVersion as another: convert them, prove that nothing is lost, explain
///
/// What differs between two EnvVersions is described by parts, one small file a service: those of ATLAS in /usr/lib/atlas/converters/EnvN, the
/// site's own in /opt/atlas/converters/EnvN. What an older version cannot express is kept beside its Snapshot and comes back with the newer one.
#[derive(Clone, Debug, Parser)]
#[command(
    name = "atlas-convert",
    version,
    after_help = "Examples:
  atlas-convert list                          which parts there are
  atlas-convert explain 2 ntp                 what the part 'ntp' does between Env1 and Env2
  atlas-convert check                         prove the round trip for every Snapshot on the Unbound disks
  atlas-convert older 2 PRI/Env2 /tmp/env1    convert a Snapshot by hand

Exit codes: 0 done, 1 failed, 2 called wrongly, 3 check found a Snapshot that does not convert."
)]
pub struct Args {
    /// What to do.
    #[command(subcommand)]
    pub verb: Verb,
    /// How to do and tell it.
    #[command(flatten)]
    pub common: atlas_cli::Common,
}

/// What `atlas-convert` does.
#[derive(Clone, Debug, Subcommand)]
pub enum Verb {
    /// Convert a Snapshot of Env(N-1) to one of EnvN
    #[command(after_help = "Example:\n  atlas-convert newer 2 /unbound/SID_DATA/PRI/Env1 /tmp/env2")]
    Newer(Conversion),
    /// Convert a Snapshot of EnvN to one of Env(N-1)
    #[command(after_help = "Example:\n  atlas-convert older 2 /unbound/SID_DATA/PRI/Env2 /tmp/env1")]
    Older(Conversion),
    /// Show the parts of all converters
    #[command(after_help = "Examples:\n  atlas-convert list\n  atlas-convert list --json")]
    List,
    /// Show what a part does, each way
    #[command(after_help = "Example:\n  atlas-convert explain 2 openssh")]
    Explain {
        /// The newer of the two EnvVersions
        #[arg(value_name = "N")]
        newer: EnvVersion,
        /// The part: its file's name without .toml
        part: String,
    },
    /// Convert every Snapshot on the Unbound disks each way and back, in memory, and say what is lost meanwhile
    #[command(after_help = "Examples:\n  atlas-convert check\n  atlas-convert check --root /mnt/server --json")]
    Check,
    /// Which rules made what a program complains of; run by 'ssSync install'
    #[command(hide = true)]
    Trace {
        /// The conversion
        #[command(flatten)]
        conversion: Traced,
        /// What the program said
        complaint: String,
    },
}

/// A conversion that was made.
#[derive(Clone, Debug, clap::Args)]
pub struct Traced {
    /// Which way
    pub direction: Way,
    /// The newer of the two EnvVersions
    #[arg(value_name = "N")]
    pub newer: EnvVersion,
    /// The Snapshot that was converted
    pub source: PathBuf,
}

/// A conversion by hand.
#[derive(Clone, Debug, clap::Args)]
pub struct Conversion {
    /// The newer of the two EnvVersions
    #[arg(value_name = "N")]
    pub newer: EnvVersion,
    /// The Snapshot; it is not changed
    pub source: PathBuf,
    /// An empty directory, or a name for one
    pub target: PathBuf,
}

/// `SyncConverterN newer|older SRC DST`
#[derive(Clone, Debug, Parser)]
#[command(
    about = "Convert a Snapshot between two EnvVersions",
    version,
    after_help = "The Synchronizer and atlas-boot run this; 'atlas-convert' is for people.

Exit codes: 0 done, 1 failed, 2 called wrongly."
)]
pub(crate) struct SyncConverterArgs {
    /// Which way
    pub(crate) direction: Way,
    /// The Snapshot; it is not changed
    pub(crate) source: PathBuf,
    /// An empty directory
    pub(crate) target: PathBuf,
    /// Look for parts below DIR as if it were the server's root directory
    #[arg(long, value_name = "DIR", default_value = "/")]
    pub(crate) root: PathBuf,
}

/// Which way, as it is written.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum Way {
    /// From Env(N-1) to EnvN
    Newer,
    /// From EnvN to Env(N-1)
    Older,
}

impl From<Way> for Direction {
    fn from(way: Way) -> Direction {
        match way {
            Way::Newer => Direction::Newer,
            Way::Older => Direction::Older,
        }
    }
}
