//! ssCoreHandler's command line.

mod known;
mod scan;
mod sign;

use crate::store::{Limits, Store};
use anyhow::Result;
use atlas_cli::{Common, Exit};
use clap::{CommandFactory, Parser, Subcommand};
use known::{Reporting, found};
use scan::Scan;
use sign::Signing;
use std::{
    ffi::OsString,
    path::{Path, PathBuf},
    time::Duration,
};

const EXAMPLES: &str = "\
Examples:
  ssCoreHandler scan                         store the cores that are new; exit 3 when a new kind of crash is among them
  ssCoreHandler signature core --explain     raw and cleaned traceback side by side, and the rules that made the difference
  ssCoreHandler list                         the known crashes
  ssCoreHandler note 4f3a \"fixed in v3\"      tell others about it
  ssCoreHandler export known.txt             signatures for other sites; they run: ssCoreHandler import known.txt
  ssCoreHandler report 4f3a -o crash.tar     all about one crash, redacted, for somebody elsewhere

Exit codes: 0 done, 1 failed, 2 called wrongly, 3 (scan) a new kind of crash was found";

/// Cores to signatures: know every crash, and tell about each new kind once
#[derive(Debug, Parser)]
#[command(name = "ssCoreHandler", version, after_help = EXAMPLES)]
pub struct Arguments {
    #[command(flatten)]
    common: Common,
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Look for new cores and kernel crash logs, and count them
    Scan(Scan),
    /// Compute the signature of a core
    Signature(Signing),
    /// List the known crashes
    List,
    /// Show all that is known of one crash
    Show {
        /// The beginning of its signature
        signature: String,
    },
    /// Write a note to a crash
    Note {
        /// The beginning of its signature
        signature: String,
        /// What to write
        text: String,
    },
    /// Write the known signatures as text for other sites
    Export {
        /// Where to; standard output where it is left out
        file: Option<PathBuf>,
    },
    /// Take over another site's signatures
    Import {
        /// What `export` wrote there
        file: PathBuf,
    },
    /// Write a tar with all about one crash
    Report(Reporting),
    /// Compute all signatures anew, after the rules have changed
    Resign,
    /// List the rules by which tracebacks are cleaned
    Rules,
}

/// The command line's definition, for man pages and completions.
pub fn command() -> clap::Command {
    Arguments::command()
}

/// Parses, runs, ends.
pub fn main() -> std::process::ExitCode {
    let arguments = Arguments::of_ss_run(std::env::args_os().skip(1)).unwrap_or_else(atlas_cli::parse);
    atlas_cli::finish("ssCoreHandler", arguments.common.json, run(&arguments))
}

impl Arguments {
    /// The words that ssRun says before each run, `--root DIR scan [--dir DIR]…`: thousands of times a day, and all that people may say
    /// takes longer to set up than the look itself.
    fn of_ss_run(mut words: impl Iterator<Item = OsString>) -> Option<Arguments> {
        let is = |word: Option<OsString>, expected: &str| word.is_some_and(|word| word == expected);
        let path = |word: Option<OsString>| {
            word.filter(|word| !word.is_empty() && !word.as_encoded_bytes().starts_with(b"-")).map(PathBuf::from)
        };
        let root = is(words.next(), "--root").then(|| path(words.next()))??;
        is(words.next(), "scan").then_some(())?;
        let mut dirs = Vec::new();
        while let Some(word) = words.next() {
            dirs.push(is(Some(word), "--dir").then(|| path(words.next()))??);
        }
        Some(Arguments { common: Common { root, json: false }, action: Action::Scan(Scan::of(dirs)) })
    }
}

/// How long another program may hold the store.
const WAIT: Duration = Duration::from_secs(20);

fn run(arguments: &Arguments) -> Result<Exit> {
    let common = &arguments.common;
    let open = || Store::open(&common.root, Limits::default(), WAIT).map_err(anyhow::Error::from);
    match &arguments.action {
        Action::Scan(scan) => scan::scan(common, scan),
        Action::Signature(signing) => sign::sign(common, signing),
        Action::List => known::list(common, &open()?),
        Action::Show { signature } => known::show(common, &found(&open()?, signature)?),
        Action::Note { signature, text } => known::note(common, &open()?, signature, text),
        Action::Export { file } => known::export(&open()?, file.as_deref()),
        Action::Import { file } => known::import(common, &open()?, file),
        Action::Report(reporting) => known::report(common, &open()?, reporting),
        Action::Resign => known::resign(common, &open()?),
        Action::Rules => known::rules(common),
    }
}

/// This server's name, as its tree says.
pub fn server_name(root: &Path) -> String {
    let name = if root == Path::new("/") {
        nix::unistd::gethostname().ok().map(|name| name.to_string_lossy().into_owned())
    } else {
        std::fs::read_to_string(root.join("etc/hostname")).ok()
    };
    name.map(|name| name.trim().to_owned()).filter(|name| !name.is_empty()).unwrap_or_else(|| "unknown".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_sound() {
        command().debug_assert();
    }

    #[test]
    fn what_ss_run_says_means_what_it_means_to_all() {
        for words in ["--root / scan", "--root /r scan --dir /a", "--root r scan --dir a --dir b"] {
            let words = words.split(' ');
            let quick = Arguments::of_ss_run(words.clone().map(OsString::from)).unwrap();
            let whole = Arguments::parse_from(std::iter::once("ssCoreHandler").chain(words));
            let (Action::Scan(quick_scan), Action::Scan(scan)) = (&quick.action, &whole.action) else { panic!() };
            assert_eq!(
                (quick_scan, &quick.common.root, quick.common.json),
                (scan, &whole.common.root, whole.common.json)
            );
        }
    }

    #[test]
    fn whatever_else_is_said_is_left_to_the_whole_command_line() {
        for words in [
            "",
            "scan",
            "--root",
            "--root / list",
            "--root / scan --dir",
            "--root / scan --keep",
            "--root -x scan",
            "--json",
        ] {
            let words = words.split(' ').filter(|word| !word.is_empty()).map(OsString::from);
            assert!(Arguments::of_ss_run(words.clone()).is_none(), "{:?}", words.collect::<Vec<_>>());
        }
    }
}
