//! `cargo test`, of whose output a person sees cargo's own result lines, and of what failed, why.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use super::Count;
use crate::process;

/// How much of what failed is shown.
const LINES_SHOWN: usize = 300;

/// Runs it and counts.
///
/// # Errors
/// Where it cannot be started, or failed without any test having failed: then something did not compile.
pub(super) fn run(command: &mut Command) -> Result<Count> {
    // What cargo says on standard error and the tests on standard output is one report: sh joins the two.
    let mut joined = Command::new("sh");
    joined.args(["-c", "exec \"$@\" 2>&1", "sh"]).arg(command.get_program()).args(command.get_args());
    if let Some(directory) = command.get_current_dir() {
        joined.current_dir(directory);
    }
    joined.stdout(Stdio::piped()).env("CARGO_TERM_COLOR", "never");
    let mut child = joined.spawn().with_context(|| format!("cannot start {}", process::shown(command)))?;
    let output = child.stdout.take().context("cargo's output is not there")?;
    let mut report = Report::default();
    for line in BufReader::new(output).split(b'\n') {
        if let Some(shown) = report.take(&String::from_utf8_lossy(&line?)) {
            println!("{shown}");
        }
    }
    let status = child.wait()?;
    for line in &report.failures {
        println!("{line}");
    }
    if !status.success() && report.count.failed == 0 {
        bail!("{} failed before it had run all tests: {status}", process::shown(command));
    }
    Ok(report.count)
}

/// What has been read so far.
#[derive(Debug, Default)]
struct Report {
    count: Count,
    failures: Vec<String>,
    heading: Option<String>,
    is_in_failures: bool,
}

impl Report {
    /// Takes a line in; returns what to show at once.
    fn take(&mut self, line: &str) -> Option<String> {
        if let Some(result) = line.strip_prefix("test result: ") {
            self.is_in_failures = false;
            let count = counted(result);
            self.count.passed += count.passed;
            self.count.failed += count.failed;
            // A program without tests is no news.
            let heading = self.heading.take().unwrap_or_default();
            return (count != Count::default()).then(|| format!("{heading}\n  {line}"));
        }
        if line.starts_with("     Running ") || line.starts_with("   Doc-tests ") {
            self.heading = Some(line.trim_start().to_owned());
            return None;
        }
        if line.starts_with("running ") {
            self.is_in_failures = false;
        }
        if line == "failures:" || line.starts_with("error") {
            self.is_in_failures = true;
        }
        let is_shown = self.is_in_failures || (line.starts_with("test ") && line.ends_with("FAILED"));
        if is_shown && self.failures.len() < LINES_SHOWN {
            self.failures.push(line.to_owned());
        }
        None
    }
}

/// Reads `ok. 3 passed; 1 failed; …`.
fn counted(result: &str) -> Count {
    let number = |what: &str| {
        let part = result.split([';', '.']).find_map(|part| part.trim().strip_suffix(what));
        part.and_then(|number| number.trim().parse().ok()).unwrap_or(0)
    };
    Count { passed: number("passed"), failed: number("failed") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_of_all_programs_are_added_up() {
        let mut report = Report::default();
        assert_eq!(report.take("     Running unittests src/lib.rs (target/debug/deps/a)"), None);
        let shown = report.take("test result: ok. 3 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out");
        assert!(shown.unwrap().starts_with("Running unittests src/lib.rs"));
        report.take("test result: FAILED. 1 passed; 2 failed; 0 ignored; 0 measured; 0 filtered out");
        assert_eq!(report.count, Count { passed: 4, failed: 2 });
    }

    #[test]
    fn why_a_test_failed_is_kept_and_what_passed_is_not() {
        let mut report = Report::default();
        let lines = ["test a ... ok", "test b ... FAILED", "", "failures:", "---- b stdout ----", "left: 1"];
        lines.iter().for_each(|line| assert_eq!(report.take(line), None));
        report.take("test result: FAILED. 1 passed; 1 failed; 0 ignored");
        report.take("error: test failed, to rerun pass `-p a --lib`");
        report.take("running 1 test");
        report.take("test c ... ok");
        assert_eq!(
            report.failures,
            [
                "test b ... FAILED",
                "failures:",
                "---- b stdout ----",
                "left: 1",
                "error: test failed, to rerun pass `-p a --lib`"
            ]
        );
    }

    #[test]
    fn a_program_without_tests_is_not_shown() {
        assert_eq!(Report::default().take("test result: ok. 0 passed; 0 failed; 0 ignored"), None);
    }

    #[test]
    fn what_does_not_compile_is_an_error_with_the_command_in_it() {
        let error = run(Command::new("sh").args(["-c", "echo 'error: no'; exit 101"])).unwrap_err().to_string();
        assert!(error.contains("failed before it had run all tests"), "{error}");
    }
}
