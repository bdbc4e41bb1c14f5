//! The test programs that cargo builds, two at a time for each processor, and where there are several, each with one test at a time. A
//! person sees the result line of each, and of what failed, why.
//!
//! `cargo test` itself runs one program after the other; but many tests wait for a disk or a clock, and processors wait with them.

use std::collections::VecDeque;
use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::{Mutex, PoisonError};

use anyhow::{Context, Result, bail};
use serde::Deserialize;

use super::Count;
use crate::process;

/// How much of what failed is shown.
const LINES_SHOWN: usize = 300;

/// Begins what a test measured or counted, and a person is to see although it passed.
const FIGURE: &str = "figure: ";

/// One test program.
#[derive(Debug)]
struct Program {
    /// Where cargo put it.
    path: PathBuf,
    /// The directory of its package, in which cargo runs it.
    package: PathBuf,
}

/// Has cargo build the test programs of a selection, and runs them with `arguments`, `before` standing in front of each command.
///
/// # Errors
/// Where something did not compile, or a program cannot be started.
pub(super) fn run(selection: &[&str], before: &[String], arguments: &[&str]) -> Result<Count> {
    let programs = build(selection)?;
    let one_at_a_time = (programs.len() > 1).then_some("--test-threads=1");
    let arguments: Vec<&str> = one_at_a_time.into_iter().chain(arguments.iter().copied()).collect();
    let programs = Mutex::new(programs);
    let failures = Mutex::new(vec![]);
    let next = || programs.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
    let work = || {
        let mut count = Count::default();
        while let Some(program) = next() {
            let report = run_one(&program, before, &arguments)?;
            count = count + report.count;
            failures.lock().unwrap_or_else(PoisonError::into_inner).extend(report.failures);
        }
        Ok::<_, anyhow::Error>(count)
    };
    let at_a_time = 2 * std::thread::available_parallelism().map_or(1, usize::from);
    let counts: Vec<Result<Count>> = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..at_a_time).map(|_| scope.spawn(work)).collect();
        let joined =
            |worker: std::thread::ScopedJoinHandle<'_, _>| worker.join().unwrap_or_else(|_| bail!("it panicked"));
        workers.into_iter().map(joined).collect()
    });
    failures.into_inner().unwrap_or_else(PoisonError::into_inner).iter().for_each(|line| println!("{line}"));
    counts.into_iter().try_fold(Count::default(), |sum, count| Ok(sum + count?))
}

fn build(selection: &[&str]) -> Result<VecDeque<Program>> {
    let mut command = process::cargo();
    command.args(["test", "--locked", "--no-run", "--quiet", "--message-format", "json-render-diagnostics"]);
    let messages = process::read(command.args(selection))?;
    messages.lines().filter_map(|message| program_in(message).transpose()).collect()
}

/// The test program that one of cargo's messages tells of, if it does.
fn program_in(message: &str) -> Result<Option<Program>> {
    #[derive(Deserialize)]
    struct Message {
        executable: Option<PathBuf>,
        manifest_path: Option<PathBuf>,
        profile: Option<Profile>,
    }
    #[derive(Deserialize)]
    struct Profile {
        test: bool,
    }
    let message: Message = serde_json::from_str(message).context("cannot read a message of cargo's")?;
    let package = message.manifest_path.as_deref().and_then(std::path::Path::parent).map(PathBuf::from);
    let is_test = message.profile.is_some_and(|profile| profile.test);
    Ok(message.executable.zip(package).filter(|_| is_test).map(|(path, package)| Program { path, package }))
}

fn run_one(program: &Program, before: &[String], arguments: &[&str]) -> Result<Report> {
    // What it says on standard output and standard error is one report: sh joins the two.
    let mut command = Command::new("sh");
    command.args(["-c", "exec \"$@\" 2>&1", "sh"]).args(before).arg(&program.path);
    command.args(arguments).current_dir(&program.package).env("CARGO_MANIFEST_DIR", &program.package);
    let mut child = command.stdout(Stdio::piped()).spawn().context("cannot start sh")?;
    let output = child.stdout.take().context("the output of a test program is not there")?;
    let mut report = Report::default();
    for line in BufReader::new(output).split(b'\n') {
        if let Some(result) = report.take(&String::from_utf8_lossy(&line?)) {
            println!("{}\n  {result}", program.shown());
        }
    }
    let status = child.wait()?;
    if !status.success() && report.count.failed == 0 {
        report.count.failed = 1;
        report.failures.push(format!("{} ended before it had run all tests: {status}", program.shown()));
    }
    Ok(report)
}

impl Program {
    fn shown(&self) -> String {
        self.path.strip_prefix(process::repository()).unwrap_or(&self.path).display().to_string()
    }
}

/// What has been read so far.
#[derive(Debug, Default)]
struct Report {
    count: Count,
    failures: Vec<String>,
    is_in_failures: bool,
}

impl Report {
    /// Takes a line in; returns it where it is a result, or a figure.
    fn take<'a>(&mut self, line: &'a str) -> Option<&'a str> {
        if let Some(result) = line.strip_prefix("test result: ") {
            self.is_in_failures = false;
            let count = counted(result);
            self.count = self.count + count;
            // A program without tests is no news.
            return (count != Count::default()).then_some(line);
        }
        if line.starts_with("running ") {
            self.is_in_failures = false;
        }
        if line == "failures:" || line.starts_with("error") {
            self.is_in_failures = true;
        }
        if line.starts_with(FIGURE) {
            return Some(line);
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
    fn results_of_several_runs_are_added_up_and_shown_with_figures_but_for_one_without_tests() {
        let mut report = Report::default();
        let line = "test result: ok. 3 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out";
        assert_eq!(report.take(line), Some(line));
        assert!(
            report.take("test result: FAILED. 1 passed; 2 failed; 0 ignored; 0 measured; 0 filtered out").is_some()
        );
        assert_eq!(report.take("test result: ok. 0 passed; 0 failed; 0 ignored"), None);
        assert_eq!(report.take("figure: 7 histories"), Some("figure: 7 histories"));
        assert_eq!(report.count, Count { passed: 4, failed: 2 });
    }

    #[test]
    fn why_a_test_failed_is_kept_and_what_passed_is_not() {
        let mut report = Report::default();
        let lines = ["test a ... ok", "test b ... FAILED", "", "failures:", "---- b stdout ----", "left: 1"];
        lines.iter().for_each(|line| assert_eq!(report.take(line), None));
        report.take("test result: FAILED. 1 passed; 1 failed; 0 ignored");
        report.take("running 1 test");
        report.take("test c ... ok");
        assert_eq!(report.failures, ["test b ... FAILED", "failures:", "---- b stdout ----", "left: 1"]);
    }

    #[test]
    fn only_test_programs_are_run() {
        let of = |test: bool, executable: &str| {
            let message = format!(
                r#"{{"reason":"compiler-artifact","manifest_path":"/r/sid/Cargo.toml","profile":{{"test":{test}}},"executable":{executable}}}"#
            );
            program_in(&message).unwrap().map(|program| (program.path, program.package))
        };
        assert_eq!(of(true, r#""/t/sid-1""#), Some(("/t/sid-1".into(), "/r/sid".into())));
        assert_eq!(of(false, r#""/t/atlas""#), None);
        assert_eq!(of(true, "null"), None);
        assert!(program_in(r#"{"reason":"build-finished","success":true}"#).unwrap().is_none());
    }

    #[test]
    fn a_program_that_dies_without_a_result_has_failed() {
        let program = Program { path: "/bin/false".into(), package: "/".into() };
        let report = run_one(&program, &[], &[]).unwrap();
        assert_eq!(report.count, Count { passed: 0, failed: 1 });
        assert!(report.failures[0].contains("/bin/false ended before"), "{:?}", report.failures);
    }
}
