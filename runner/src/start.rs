//! ssStartHandler: is the server as it should be, before a program is run?

use crate::{
    measure,
    profile::{Exceeded, Profile},
};
use anyhow::{Context, Result};
use atlas_cli::{Common, Exit, Hint, print, print_json, version};
use atlas_host::tree::Dir;
use clap::{CommandFactory, Parser};
use std::{
    ffi::OsString,
    path::{Path, PathBuf},
};

const EXAMPLES: &str = "\
Examples:
  ssStartHandler --program ssSync            is all well for a run of ssSync? exit 3 where a limit is exceeded
  ssStartHandler --json                      all measures
  ssStartHandler --profile my.toml           by limits of one's own

The profile is /etc/atlas/profile.toml; it may be missing, and each limit in it may be:
  copies = 3    load_per_cpu = 8.0    memory_available_percent = 4    swap_used_percent = 80    paging_per_second = 2000
  disk_free_percent = 4    inodes_free_percent = 4    file_handles_percent = 85    paths = [\"/\", \"/unbound\", \"/var/log/atlas\"]
  [program.ssSyncLoop]
  copies = 1

copies are the runs of the program that ssRun has begun and that have not ended.

Exit codes: 0 all is within limits, 1 failed, 2 called wrongly, 3 a limit is exceeded";

/// Look whether the server is within its limits before a program is run
#[derive(Debug, Parser)]
#[command(name = "ssStartHandler", version, after_help = EXAMPLES)]
pub struct Arguments {
    #[command(flatten)]
    common: Common,
    /// The program that is about to be run
    #[arg(long, default_value = "")]
    program: OsString,
    /// The profile, in place of the server's
    #[arg(long, value_name = "FILE")]
    profile: Option<PathBuf>,
}

/// The command line's definition, for man pages and completions.
pub fn command() -> clap::Command {
    Arguments::command()
}

/// Parses, runs, ends.
pub fn main() -> std::process::ExitCode {
    let arguments: Arguments = atlas_cli::parse();
    atlas_cli::finish("ssStartHandler", arguments.common.json, run(&arguments))
}

/// The largest profile, in bytes.
const PROFILE_LIMIT: usize = 1 << 20;

fn profile(arguments: &Arguments) -> Result<Profile> {
    let text = match &arguments.profile {
        Some(path) => std::fs::read_to_string(path).with_context(|| format!("read {}", path.display()))?,
        None => {
            let root = Dir::open_root(&arguments.common.root)?;
            match root.read_if_there("etc/atlas/profile.toml", PROFILE_LIMIT)? {
                Some(content) => String::from_utf8(content).context("read /etc/atlas/profile.toml")?,
                None => return Ok(Profile::default()),
            }
        }
    };
    Profile::parse(&text).hint("see `ssStartHandler --help` for the limits that there are")
}

/// Who its notices are from.
const SOURCE: &str = "ssStartHandler";

fn run(arguments: &Arguments) -> Result<Exit> {
    let root = &arguments.common.root;
    let name = Path::new(&arguments.program).file_name().unwrap_or_default().to_string_lossy().into_owned();
    let program = version::without(&name);
    let limits = profile(arguments)?.of(program);
    let measured = measure::now(root, program, &limits.paths);
    let exceeded = limits.exceeded(&measured);
    if arguments.common.json {
        print_json(
            &serde_json::json!({ "format": 1, "program": program, "measured": measured, "exceeded": exceeded }),
        )?;
    }
    let key = if program.is_empty() { "server" } else { program };
    if exceeded.is_empty() {
        // What was told of an earlier start is over. That it cannot be removed says nothing of this one.
        let _ = atlas_cli::notice::over(root, SOURCE, key);
        return Ok(Exit::Done);
    }
    let text: Vec<String> = exceeded.iter().map(line).collect();
    if !arguments.common.json {
        print(text.join("\n"))?;
    }
    let title =
        format!("before a run of {}: {}", if program.is_empty() { "a program" } else { program }, exceeded[0].measure);
    // One who reads the log is told even where notices cannot be written.
    if let Err(error) = atlas_cli::notice::send(root, SOURCE, key, &title, &text.join("\n")) {
        print(format!("no notice was sent: {error}"))?;
    }
    Ok(Exit::No)
}

fn line(exceeded: &Exceeded) -> String {
    let Exceeded { measure, value, limit, unit, likely_cause } = exceeded;
    let unit = if unit.is_empty() { String::new() } else { format!(" {unit}") };
    format!("{measure}: {value:.1}{unit}, the limit is {limit:.1}{unit}; likely: {likely_cause}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_sound() {
        command().debug_assert();
    }
}
