//! Other programs: run with a deadline, without a terminal to wait on, with bounded output.
//!
//! A program runs in a process group of its own, so that the deadline ends its children, too. Output beyond the bound is read and
//! dropped: the program never blocks on a full pipe, and the text that is kept says that it was cut.

pub mod spawn;

use crate::stream::{Hearing, Speaking};
use nix::{
    errno::Errno,
    sys::{
        signal::{Signal, killpg},
        wait::{Id, WaitPidFlag, waitid},
    },
    unistd::Pid,
};
use std::{
    ffi::{OsStr, OsString},
    fmt,
    io::{self, Read},
    os::unix::process::{CommandExt, ExitStatusExt},
    process::{Child, ChildStdin, ChildStdout, ExitStatus, Stdio},
    sync::mpsc::RecvTimeoutError,
    thread::JoinHandle,
    time::{Duration, Instant},
};

/// How much of a program's output is kept, each of standard output and error, in bytes.
pub const OUTPUT_LIMIT: usize = 1 << 20;

/// The language of every program that is run: what it says is read here, and its numbers have points.
const LANGUAGE: [(&str, &str); 1] = [("LC_ALL", "C.UTF-8")];

/// How long a program that was killed may take to end.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// A program to run.
#[derive(Clone, Debug)]
pub struct Command {
    program: OsString,
    args: Vec<OsString>,
    root: Option<std::path::PathBuf>,
    envs: Vec<(OsString, OsString)>,
    inherits_env: bool,
    deadline: Duration,
}

/// What a program that ended left.
#[derive(Clone, Debug)]
pub struct Output {
    /// How it ended.
    pub status: ExitStatus,
    /// Its standard output, at most [`OUTPUT_LIMIT`].
    pub stdout: Vec<u8>,
    /// Its standard error, at most [`OUTPUT_LIMIT`].
    pub stderr: Vec<u8>,
}

impl Output {
    /// Standard output as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.stdout).into_owned()
    }

    /// The last lines of standard error, or of standard output where that is empty: what a person needs to see.
    pub fn complaint(&self) -> String {
        let text = if self.stderr.trim_ascii().is_empty() { &self.stdout } else { &self.stderr };
        let text = String::from_utf8_lossy(text);
        let lines: Vec<&str> = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
        lines[lines.len().saturating_sub(6)..].join("; ")
    }
}

/// Why a program gave no output to go on with.
#[derive(Debug, thiserror::Error)]
pub enum ProcessError {
    /// It could not be started.
    #[error("cannot run '{program}'")]
    Start {
        /// The program and its arguments.
        program: String,
        /// The reason.
        #[source]
        source: io::Error,
    },
    /// It did not end in time and was killed.
    #[error("'{program}' did not end within {deadline:?} and was stopped")]
    Deadline {
        /// The program and its arguments.
        program: String,
        /// The time that it had.
        deadline: Duration,
    },
    /// It ended with a failure.
    #[error("'{program}' failed ({status}): {complaint}")]
    Failed {
        /// The program and its arguments.
        program: String,
        /// `exit status: 1`, `signal: 9`.
        status: String,
        /// What it said.
        complaint: String,
    },
}

impl fmt::Display for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.program.to_string_lossy())?;
        self.args.iter().try_for_each(|arg| write!(f, " {}", arg.to_string_lossy()))
    }
}

impl Command {
    /// A program with half a minute to end.
    pub fn new(program: impl AsRef<OsStr>) -> Command {
        Command {
            program: program.as_ref().to_owned(),
            args: vec![],
            root: None,
            envs: vec![],
            inherits_env: true,
            deadline: Duration::from_secs(30),
        }
    }

    /// Adds an argument.
    pub fn arg(mut self, arg: impl AsRef<OsStr>) -> Command {
        self.args.push(arg.as_ref().to_owned());
        self
    }

    /// Adds arguments.
    pub fn args<S: AsRef<OsStr>>(mut self, args: impl IntoIterator<Item = S>) -> Command {
        self.args.extend(args.into_iter().map(|arg| arg.as_ref().to_owned()));
        self
    }

    /// Runs it with `dir` as its root directory. Needs root; `/` changes nothing.
    pub fn in_root(mut self, dir: impl Into<std::path::PathBuf>) -> Command {
        self.root = Some(dir.into()).filter(|dir| dir.as_path() != "/");
        self
    }

    /// Sets a variable of its environment.
    pub fn env(mut self, name: impl AsRef<OsStr>, value: impl AsRef<OsStr>) -> Command {
        self.envs.push((name.as_ref().to_owned(), value.as_ref().to_owned()));
        self
    }

    /// Gives it no variable of this process's environment but PATH, the language, and those set with [`Command::env`].
    pub fn own_env(mut self) -> Command {
        self.inherits_env = false;
        self
    }

    /// How long it may take.
    pub fn deadline(mut self, deadline: Duration) -> Command {
        self.deadline = deadline;
        self
    }

    /// Runs it to its end, whatever its exit status.
    pub fn output(&self) -> Result<Output, ProcessError> {
        let started = |source| ProcessError::Start { program: self.to_string(), source };
        let mut child = self.prepared().stdin(Stdio::null()).spawn().map_err(started)?;
        let stdout = keep(child.stdout.take());
        let stderr = keep(child.stderr.take());
        let status = self.wait(&mut child).map_err(started)?;
        let Some(status) = status else {
            return Err(ProcessError::Deadline { program: self.to_string(), deadline: self.deadline });
        };
        Ok(Output { status, stdout: finish(stdout), stderr: finish(stderr) })
    }

    /// Starts it, to talk with it through its standard input and output. The deadline is that of the whole conversation.
    pub fn talk(&self, silence: Duration) -> Result<Conversation, ProcessError> {
        let started = |source| ProcessError::Start { program: self.to_string(), source };
        let mut child = self.prepared().stdin(Stdio::piped()).spawn().map_err(started)?;
        let stderr = keep(child.stderr.take());
        let (Some(input), Some(output)) = (child.stdout.take(), child.stdin.take()) else {
            return Err(started(io::Error::other("it has no standard input or output")));
        };
        let until = Instant::now() + self.deadline;
        let heard = Hearing::new(input.into(), silence, until).map_err(started)?;
        let said = Speaking::new(output.into(), silence, until).map_err(started)?;
        Ok(Conversation { command: self.clone(), child, streams: Some((heard, said)), stderr: Some(stderr) })
    }

    /// Runs it to its end, while `feed` writes its standard input and `take` reads its standard output, each at its own pace; another
    /// exit status than 0 is an error.
    ///
    /// An error of `feed` or `take` comes back inside, where the program itself did not fail: one that ends early closes their pipes.
    pub fn converse<T>(
        &self,
        feed: impl FnOnce(ChildStdin) -> io::Result<()> + Send,
        take: impl FnOnce(&mut ChildStdout) -> io::Result<T>,
    ) -> Result<io::Result<T>, ProcessError> {
        let started = |source| ProcessError::Start { program: self.to_string(), source };
        let mut child = self.prepared().stdin(Stdio::piped()).spawn().map_err(started)?;
        let (stdin, stdout, stderr) = (child.stdin.take(), child.stdout.take(), keep(child.stderr.take()));
        let (Some(stdin), Some(mut stdout)) = (stdin, stdout) else {
            return Err(started(io::Error::other("its standard input and output could not be had")));
        };
        let pid = pid_of(&child);
        let (ended, is_ended) = std::sync::mpsc::channel::<()>();
        let (fed, taken, in_time) = std::thread::scope(|scope| {
            let watch = scope.spawn(move || {
                let in_time = !matches!(is_ended.recv_timeout(self.deadline), Err(RecvTimeoutError::Timeout));
                if !in_time {
                    // The program is not reaped before this thread has ended: the number is still its own.
                    let _ = killpg(pid, Signal::SIGKILL);
                }
                in_time
            });
            let feeder = scope.spawn(move || feed(stdin));
            let taken = take(&mut stdout);
            // Nobody reads any more: the program must not wait for us.
            drop(stdout);
            let fed = feeder.join().unwrap_or_else(|_| Err(io::Error::other("the writer panicked")));
            // Waits for the end without reaping.
            while let Err(Errno::EINTR) = waitid(Id::Pid(pid), WaitPidFlag::WEXITED | WaitPidFlag::WNOWAIT) {}
            drop(ended);
            (fed, taken, watch.join().unwrap_or(false))
        });
        let status = child.wait().map_err(started)?;
        let output = Output { status, stdout: vec![], stderr: finish(stderr) };
        if !in_time {
            return Err(ProcessError::Deadline { program: self.to_string(), deadline: self.deadline });
        }
        // What ended the conversation on our side explains more than that the program then failed, too.
        match fed {
            Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Ok(Err(error)),
            fed if status.success() => Ok(fed.and(taken)),
            _ => Err(self.failed(&output)),
        }
    }

    fn prepared(&self) -> std::process::Command {
        let mut command = plain(&self.program);
        if !self.inherits_env {
            command.env_clear().envs(std::env::var_os("PATH").map(|path| ("PATH", path))).envs(LANGUAGE);
        }
        command.args(&self.args).envs(self.envs.iter().map(|(name, value)| (name, value)));
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0);
        if let Some(root) = self.root.clone() {
            // SAFETY: between fork and exec only two system calls are made; the path was allocated before.
            unsafe {
                command.pre_exec(move || {
                    nix::unistd::chroot(&root)?;
                    nix::unistd::chdir("/").map_err(io::Error::from)
                })
            };
        }
        command
    }

    /// Runs it to its end; another exit status than 0 is an error.
    pub fn run(&self) -> Result<Output, ProcessError> {
        let output = self.output()?;
        if output.status.success() { Ok(output) } else { Err(self.failed(&output)) }
    }

    fn failed(&self, output: &Output) -> ProcessError {
        let (program, status) = (self.to_string(), output.status.to_string());
        ProcessError::Failed { program, status, complaint: output.complaint() }
    }

    /// Waits for the end, at most until the deadline; then ends the whole group and gives `None`.
    fn wait(&self, child: &mut Child) -> io::Result<Option<ExitStatus>> {
        let until = Instant::now() + self.deadline;
        let mut pause = Duration::from_micros(200);
        loop {
            if let Some(status) = child.try_wait()? {
                return Ok(Some(status));
            }
            if Instant::now() >= until {
                end_group(child);
                abandon(child)?;
                return Ok(None);
            }
            std::thread::sleep(pause);
            pause = (pause * 2).min(Duration::from_millis(20));
        }
    }
}

/// A program in the language of all that are run, for who hands this process over to it, or waits for it in a way of its own.
pub fn plain(program: impl AsRef<OsStr>) -> std::process::Command {
    let mut command = std::process::Command::new(program);
    command.envs(LANGUAGE).env_remove("LANGUAGE");
    command
}

/// Waits for one that was killed. One that waits for a disk does not end before the disk answers; it is left to itself then.
fn abandon(child: &mut Child) -> io::Result<()> {
    let until = Instant::now() + LAST_WORDS;
    while child.try_wait()?.is_none() && Instant::now() < until {
        std::thread::sleep(Duration::from_millis(1));
    }
    Ok(())
}

fn pid_of(child: &Child) -> Pid {
    Pid::from_raw(i32::try_from(child.id()).unwrap_or(i32::MAX))
}

/// Ends a program and all that it started.
fn end_group(child: &Child) {
    // It may have ended by itself since; then there is nobody to signal.
    let _ = killpg(pid_of(child), Signal::SIGKILL);
}

/// A program that is being talked with. Dropped, it is ended with all that it started.
#[derive(Debug)]
pub struct Conversation {
    command: Command,
    child: Child,
    streams: Option<(Hearing, Speaking)>,
    stderr: Option<JoinHandle<Vec<u8>>>,
}

impl Conversation {
    /// What is heard from it, and what is said to it. To be taken once.
    pub fn streams(&mut self) -> io::Result<(Hearing, Speaking)> {
        self.streams.take().ok_or_else(|| io::ErrorKind::NotConnected.into())
    }

    /// Waits a moment for the program to end by itself; gives how it did, and what it complained of.
    pub fn end(mut self) -> Result<Output, ProcessError> {
        drop(self.streams.take());
        let command = self.command.clone().deadline(Duration::from_secs(5));
        let status = command
            .wait(&mut self.child)
            .map_err(|source| ProcessError::Start { program: command.to_string(), source })?
            .ok_or_else(|| ProcessError::Deadline { program: command.to_string(), deadline: command.deadline })?;
        Ok(Output { status, stdout: vec![], stderr: self.stderr.take().map(finish).unwrap_or_default() })
    }
}

impl Drop for Conversation {
    fn drop(&mut self) {
        // Reaped already: then its number may be another's by now.
        if !matches!(self.child.try_wait(), Ok(Some(_))) {
            end_group(&self.child);
            let _ = self.child.wait();
        }
    }
}

/// Reads a stream to its end on a thread of its own, keeping at most [`OUTPUT_LIMIT`] bytes.
fn keep(stream: Option<impl Read + Send + 'static>) -> JoinHandle<Vec<u8>> {
    std::thread::spawn(move || {
        let (mut kept, mut buffer) = (Vec::new(), [0; 8192]);
        let Some(mut stream) = stream else { return kept };
        while let Ok(count @ 1..) = stream.read(&mut buffer) {
            let room = OUTPUT_LIMIT.saturating_sub(kept.len());
            kept.extend_from_slice(&buffer[..count.min(room)]);
        }
        kept
    })
}

/// What was read so far. A grandchild that holds the stream open does not hold us: a short grace, then what there is is lost with it.
fn finish(reader: JoinHandle<Vec<u8>>) -> Vec<u8> {
    let until = Instant::now() + Duration::from_millis(500);
    while !reader.is_finished() && Instant::now() < until {
        std::thread::sleep(Duration::from_millis(1));
    }
    if reader.is_finished() { reader.join().unwrap_or_default() } else { Vec::new() }
}

/// Whether a status means that a signal ended the program.
pub fn ended_by_signal(status: ExitStatus) -> Option<i32> {
    status.signal()
}

#[cfg(test)]
mod tests;
