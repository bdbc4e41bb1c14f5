//! Running the programs that do the work: output kept back unless it is needed, and an end to every wait.

use std::ffi::OsStr;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail};

/// How much of a failed program's output is shown.
const LINES_SHOWN: usize = 40;

/// A program that will be stopped when `deadline` has passed (by `timeout`, with all its children).
pub(crate) fn within(deadline: Duration, program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new("timeout");
    command.arg("--kill-after=10").arg(deadline.as_secs().max(1).to_string()).arg(program);
    command
}

/// Runs it and returns what it printed to standard output.
///
/// `doing` completes the sentence "cannot …".
///
/// # Errors
/// Where it cannot be started, or ends with anything but success; the end of its output is in the error, without lines
/// of JSON, which are for machines.
pub(crate) fn run(command: &mut Command, doing: &str) -> Result<String> {
    let output = command
        .output()
        .with_context(|| format!("cannot {doing}: {} does not start", command.get_program().to_string_lossy()))?;
    let printed = String::from_utf8_lossy(&output.stdout).into_owned();
    if output.status.success() {
        return Ok(printed);
    }
    let said = printed.lines().filter(|line| !line.starts_with('{'));
    let complained = String::from_utf8_lossy(&output.stderr);
    let lines: Vec<&str> = said.chain(complained.lines()).collect();
    let shown = lines[lines.len().saturating_sub(LINES_SHOWN)..].join("\n  ");
    let hint = match output.status.code() {
        Some(124) => "\n  (stopped: it had not ended within its deadline)",
        Some(127) => "\n  (a program is missing: `cargo xtask setup` installs what is needed)",
        _ => "",
    };
    bail!("cannot {doing}: {}{hint}\n  {shown}", output.status)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_program_said_before_it_failed_is_in_the_error() {
        let mut command = within(Duration::from_secs(10), "sh");
        command.args(["-c", "echo '{\"json\":1}'; echo first; echo last >&2; exit 3"]);
        let message = run(&mut command, "make tea").unwrap_err().to_string();
        assert!(message.starts_with("cannot make tea: exit status: 3"), "{message}");
        assert!(message.contains("first") && message.contains("last"), "{message}");
        assert!(!message.contains("json"), "{message}");
    }

    #[test]
    fn a_program_that_does_not_end_is_stopped_and_the_error_says_so() {
        let mut command = within(Duration::from_secs(1), "sleep");
        let message = run(command.arg("60"), "wait").unwrap_err().to_string();
        assert!(message.contains("had not ended within its deadline"), "{message}");
    }

    #[test]
    fn a_missing_program_is_reported_with_how_to_get_it() {
        let mut command = within(Duration::from_secs(1), "no-such-program");
        let message = run(&mut command, "start").unwrap_err().to_string();
        assert!(message.contains("cargo xtask setup"), "{message}");
    }
}
