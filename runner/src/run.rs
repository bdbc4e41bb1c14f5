//! ssRun: looks at the server, runs the program, keeps its output, tells how it ended.

use crate::{
    copies,
    copy::{Copier, Target},
    handlers::{self, Answer},
    log::{Log, Roll, Rule, now, parse_size},
    supervise::{Streams, Supervision},
    trial::{self, Trial, Verdict},
};
use anyhow::{Context, Result};
use atlas_cli::{Common, Hint, version};
use clap::{CommandFactory, Parser, ValueEnum};
use nix::sys::{
    resource::{Resource, getrlimit, setrlimit},
    signal::Signal,
};
use std::{
    ffi::{OsStr, OsString},
    fs::File,
    io::Write,
    os::unix::process::ExitStatusExt,
    path::{Path, PathBuf},
    process::{ExitCode, ExitStatus},
    time::{Duration, Instant},
};

const EXAMPLES: &str = "\
Examples:
  ssRun -- ssSync                              output to /var/log/atlas/LOG.ssSync.y04m06d03.h03m23s15
  ssRun --to both --roll day -- ssSyncLoop     one file a day, and standard output, too
  ssRun --to file --roll 20M --stamp -- prog   the file is put aside at 20 MiB; each line has its time
  ssRun --to none -- prog -x                   no output; how it ended is on standard error
  ssRun --session -- ssSync serve              for an ssh key: it talks with its partner, what it complains of is in the log

Before the run ssStartHandler and ssCoreHandler look at the server; what they find is in the log, and neither they nor
their absence stop the run (but see --when-exceeded). In a session they look while the program is at work, and nobody waits for them.

Where a version of a module is on trial (`atlas-module set NAME VERSION --try N`), each start is counted, and how the run went is
reported: well when it ended with 0 or has lasted --healthy-after, badly when it ended otherwise and nobody had stopped it.

Exit code: the program's own; 128 + N where signal N ended it; 126 and 127 where it cannot be run or found;
1 where --when-exceeded=stop kept it from running; 2 where ssRun was called wrongly";

/// Run a program and keep what it says
#[derive(Debug, Parser)]
#[command(name = "ssRun", version, after_help = EXAMPLES)]
pub struct Arguments {
    #[command(flatten)]
    common: Common,
    /// Where the output goes
    #[arg(long, value_enum, default_value = "file")]
    to: To,
    /// When a new log file begins: 'run', 'day', or a size like 20M
    #[arg(long, default_value = "run")]
    roll: Roll,
    /// The name in LOG.NAME…; the program's where it is left out, with '-remote' where another server started it by ssh
    #[arg(long)]
    name: Option<String>,
    /// Where log files lie, below the root
    #[arg(long, value_name = "DIR", default_value = "/var/log/atlas")]
    log_dir: PathBuf,
    /// The program talks with somebody on standard input and output: they are its own, and its standard error goes to a log and to ssRun's
    #[arg(long, conflicts_with_all = ["to", "when_exceeded"])]
    session: bool,
    /// Put the time before each line
    #[arg(long)]
    stamp: bool,
    /// Remove this program's logs after so many days
    #[arg(long, value_name = "DAYS", default_value_t = 30)]
    keep_days: u64,
    /// Remove this program's oldest logs when all together are larger
    #[arg(long, value_name = "SIZE", default_value = "1G", value_parser = size)]
    keep_size: u64,
    /// Do not run ssStartHandler and ssCoreHandler
    #[arg(long)]
    no_handlers: bool,
    /// How long the handlers may take together, in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 5)]
    handler_deadline: u64,
    /// A version on trial that has run for so many seconds is healthy
    #[arg(long, value_name = "SECONDS", default_value_t = 60)]
    healthy_after: u64,
    /// What to do when ssStartHandler says that a limit is exceeded
    #[arg(long, value_enum, default_value = "run")]
    when_exceeded: WhenExceeded,
    /// The program and its arguments
    #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true, value_name = "PROGRAM")]
    program: Vec<OsString>,
}

fn size(text: &str) -> Result<u64, String> {
    parse_size(text).ok_or_else(|| "no size like 500k, 20M or 1G".into())
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum To {
    /// Standard output only
    Stdout,
    /// A log file only
    File,
    /// A log file and standard output
    Both,
    /// Nowhere
    None,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum WhenExceeded {
    /// Run it; the log tells
    Run,
    /// Do not run it
    Stop,
}

/// The command line's definition, for man pages and completions.
pub fn command() -> clap::Command {
    Arguments::command()
}

/// Parses, runs, ends as the program did.
pub fn main() -> ExitCode {
    let arguments: Arguments = atlas_cli::parse();
    match run(&arguments) {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            let code = code_of(&error);
            let told = atlas_cli::finish("ssRun", arguments.common.json, Err(error));
            code.map_or(told, ExitCode::from)
        }
    }
}

/// 127 where there is no such program, 126 where it cannot be run: as every shell has it.
fn code_of(error: &anyhow::Error) -> Option<u8> {
    let start = error.chain().find_map(|cause| cause.downcast_ref::<StartError>())?;
    Some(if start.source.kind() == std::io::ErrorKind::NotFound { 127 } else { 126 })
}

/// The program could not be started.
#[derive(Debug, thiserror::Error)]
#[error("cannot run '{program}'")]
struct StartError {
    program: String,
    #[source]
    source: std::io::Error,
}

impl Arguments {
    /// What the log is called after.
    fn log_name(&self) -> String {
        if let Some(name) = &self.name {
            return name.replace('/', "_");
        }
        let remote = if std::env::var_os("SSH_CONNECTION").is_some() { "-remote" } else { "" };
        format!("{}{remote}", self.program_name())
    }

    /// What the program is called, without its version.
    fn program_name(&self) -> String {
        let program = Path::new(&self.program[0]).file_name().unwrap_or(OsStr::new("program")).to_string_lossy();
        version::without(&program).to_owned()
    }

    /// Counts the program among its copies for as long as it runs.
    fn counted(&self, pid: u32, record: &mut Record) -> Option<copies::Counted> {
        let counted = copies::count(&self.common.root, &self.program_name(), pid);
        // It runs as well without: its log says that nobody will count it.
        counted.map_err(|error| record.line(&format!("not counted among the copies that run: {error}"))).ok()
    }

    fn rule(&self) -> Rule {
        let dir = self.common.root.join(self.log_dir.strip_prefix("/").unwrap_or(&self.log_dir));
        Rule {
            dir: std::path::absolute(&dir).unwrap_or(dir),
            name: self.log_name(),
            roll: self.roll,
            keep_age: Duration::from_secs(self.keep_days.saturating_mul(86400)),
            keep_bytes: self.keep_size,
        }
    }
}

fn run(arguments: &Arguments) -> Result<u8> {
    // Before anything else: no word of this program, or of one that it calls, may get into a conversation.
    let streams = arguments.session.then(Streams::take).transpose().context("take standard input and output")?;
    let wants_file = matches!(arguments.to, To::File | To::Both);
    // A log that cannot be opened is told, and the program runs all the same.
    let log = wants_file.then(|| arguments.rule().open()).and_then(|log| match log {
        Ok(log) => Some(log),
        Err(error) => {
            let reason = std::error::Error::source(&error).map(ToString::to_string).unwrap_or_default();
            let _ = writeln!(std::io::stderr(), "ssRun: {error} ({reason}); the program runs without a log");
            None
        }
    });
    let path = log.as_ref().map(|log| log.path.clone());
    let mut record = Record { log: log.as_ref().and_then(Log::another), path, speaks: arguments.to == To::None };
    allow_cores();
    let started = Instant::now();
    let looks_before = !arguments.no_handlers && !arguments.session;
    if looks_before && look(arguments, &mut record) && arguments.when_exceeded == WhenExceeded::Stop {
        record.line("not run: a limit is exceeded");
        return Err(anyhow::anyhow!(
            "'{}' was not run: ssStartHandler found a limit exceeded",
            arguments.program[0].to_string_lossy()
        ))
        .hint("see the log, or run it with --when-exceeded=run");
    }
    let mut targets: Vec<Target> = log.map(Target::new).into_iter().collect();
    if matches!(arguments.to, To::Stdout | To::Both) {
        targets.push(Target::new(std::io::stdout()));
    }
    if arguments.session {
        targets.push(Target::new(std::io::stderr()));
    }
    let mut copier = Copier::new(targets, arguments.stamp);
    let mut trial = Trial::begin(&arguments.common.root, &arguments.program[0], deadline(arguments), |answer| {
        record.answer(trial::PROGRAM, answer);
    });
    let ended = supervise(arguments, streams, &mut copier, &mut record, trial.as_mut());
    if let Some(answer) = trial.and_then(Trial::end) {
        record.answer(trial::PROGRAM, &answer);
    }
    let (status, pid) = ended?;
    let lost = copier.lost();
    record.end(&arguments.program[0], status, pid, started.elapsed(), lost);
    // Old logs that cannot be removed are no reason to fail the run.
    if let Some(Err(error)) = record.path.as_ref().map(|path| arguments.rule().prune(path)) {
        record.line(&format!("old logs were not removed: {error}"));
    }
    if status.core_dumped() && !arguments.no_handlers {
        let answers = handlers::call(&[("ssCoreHandler", core_arguments(arguments))], deadline(arguments));
        answers.iter().for_each(|answer| record.answer("ssCoreHandler", answer));
    }
    Ok(status.code().map_or_else(|| 128u8.wrapping_add(low(status.signal().unwrap_or(0))), low))
}

fn low(number: i32) -> u8 {
    number.to_le_bytes()[0]
}

/// ssRun's own lines in the log.
struct Record {
    log: Option<File>,
    path: Option<PathBuf>,
    /// Where there is no log file, and nobody sees the output: the end is told on standard error.
    speaks: bool,
}

impl Record {
    /// For another thread. Each line is written at once, so that they do not mix.
    fn another(&self) -> Record {
        let log = self.log.as_ref().and_then(|log| log.try_clone().ok());
        Record { log, path: self.path.clone(), speaks: self.speaks }
    }

    fn line(&mut self, text: &str) {
        let line = format!("ssRun: {}{text}\n", now().stamp());
        // A full disk is told by the copier; here the next line is as good.
        if let Some(log) = &mut self.log {
            let _ = log.write_all(line.as_bytes());
        } else if self.speaks {
            let _ = std::io::stderr().write_all(line.as_bytes());
        }
    }

    /// What a handler said, or that it said nothing.
    fn answer(&mut self, handler: &str, answer: &Result<Answer, String>) {
        match answer {
            Ok(answer) => answer.said.lines().for_each(|line| self.line(&format!("{handler}: {line}"))),
            Err(why) => self.line(&format!("{handler}: no answer: {why}")),
        }
    }

    fn end(&mut self, program: &OsStr, status: ExitStatus, pid: u32, took: Duration, lost: u64) {
        let how = match (status.code(), status.signal()) {
            (Some(code), _) => format!("status {code}"),
            (_, Some(number)) => {
                let name = Signal::try_from(number).map_or("unknown", Signal::as_str);
                let core = if status.core_dumped() { ", core dumped" } else { "" };
                format!("signal {number} ({name}){core}")
            }
            _ => "unknown".into(),
        };
        let lost = if lost > 0 { format!(", {lost} bytes of output were lost") } else { String::new() };
        let seconds = took.as_secs_f64();
        self.line(&format!("{} (pid {pid}) ended with {how} after {seconds:.3} s{lost}", program.to_string_lossy()));
    }
}

/// A core as large as the system allows; a limit of none is what most servers start with.
fn allow_cores() {
    if let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_CORE)
        && soft < hard
    {
        // Without a core the run is as good; only its crash would be poorer.
        let _ = setrlimit(Resource::RLIMIT_CORE, hard, hard);
    }
}

fn deadline(arguments: &Arguments) -> Duration {
    Duration::from_secs(arguments.handler_deadline)
}

fn core_arguments(arguments: &Arguments) -> Vec<OsString> {
    let mut args: Vec<OsString> = vec!["--root".into(), arguments.common.root.clone().into(), "scan".into()];
    if let Ok(dir) = std::env::current_dir() {
        args.extend(["--dir".into(), dir.into()]);
    }
    args
}

/// Calls both handlers at once; says whether a limit is exceeded.
fn look(arguments: &Arguments, record: &mut Record) -> bool {
    let start: Vec<OsString> =
        vec!["--root".into(), arguments.common.root.clone().into(), "--program".into(), arguments.program[0].clone()];
    let called = [("ssStartHandler", start), ("ssCoreHandler", core_arguments(arguments))];
    let answers = handlers::call(&called, deadline(arguments));
    for ((name, _), answer) in called.iter().zip(&answers) {
        record.answer(name, answer);
    }
    matches!(answers.first(), Some(Ok(Answer { code: 3, .. })))
}

/// Runs the program to its end, and tells how that went where it is on trial.
fn supervise(
    arguments: &Arguments,
    streams: Option<Streams>,
    copier: &mut Copier,
    record: &mut Record,
    mut trial: Option<&mut Trial>,
) -> Result<(ExitStatus, u32)> {
    let log = record.path.clone();
    let variable = log.as_ref().map(|log| ("ATLAS_RUN_LOG", log.as_os_str()));
    let mut report = |verdict: Verdict| trial.iter_mut().for_each(|trial| trial.report(verdict));
    let shown = arguments.program.iter().map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ");
    let mut running = Supervision::start(&arguments.program, variable, streams)?.map_err(|source| {
        record.line(&format!("cannot run {shown}: {source}"));
        report(Verdict::Failed);
        StartError { program: arguments.program[0].to_string_lossy().into_owned(), source }
    })?;
    let pid = running.pid();
    record.line(&format!("{shown} runs (pid {pid})"));
    let _counted = arguments.counted(pid, record);
    let long = Duration::from_secs(arguments.healthy_after);
    let mut beside = record.another();
    let status = std::thread::scope(|scope| {
        // Only now: this thread must not take the signals that are for the program.
        if arguments.session && !arguments.no_handlers {
            scope.spawn(|| look(arguments, &mut beside));
        }
        running.run(copier, long, || report(Verdict::Healthy))
    })?;
    if status.success() {
        report(Verdict::Healthy);
    } else if !running.was_stopped {
        report(Verdict::Failed);
    }
    Ok((status, pid))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_sound() {
        command().debug_assert();
    }
}
