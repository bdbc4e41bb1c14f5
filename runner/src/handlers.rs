//! The handlers before a run: called at once, heard until they end, left behind when the deadline comes.
//!
//! Every run waits for them, thousands a day, so nothing here sleeps to look again: the end of a handler's output wakes it.

use atlas_host::process;
use nix::{
    fcntl::{FcntlArg, OFlag, fcntl},
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::signal::{Signal, killpg},
    unistd::{Pid, read},
};
use std::{
    ffi::OsString,
    io,
    os::{
        fd::{AsFd, OwnedFd},
        unix::process::CommandExt,
    },
    path::{Path, PathBuf},
    process::{Child, Stdio},
    time::{Duration, Instant},
};

/// How much of what a handler says is kept, in bytes.
const SAID_LIMIT: usize = 64 << 10;

/// A handler's answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// Its exit code: 0 for all is well, 3 for something that somebody should know.
    pub code: i32,
    /// What it said.
    pub said: String,
}

/// A handler that runs.
struct Running {
    child: Child,
    output: Option<OwnedFd>,
    said: Vec<u8>,
}

/// Calls these handlers, each with its arguments, all at once; `Err` says why there is no answer.
pub fn call(handlers: &[(&str, Vec<OsString>)], deadline: Duration) -> Vec<Result<Answer, String>> {
    let until = Instant::now() + deadline;
    let mut running: Vec<Result<Running, String>> =
        handlers.iter().map(|(name, args)| Running::start(name, args)).collect();
    hear(&mut running, until);
    running.into_iter().map(|running| running?.end(until, deadline)).collect()
}

/// The one beside this program, else the one of the path.
fn program(name: &str) -> OsString {
    let own = std::env::current_exe().ok();
    let beside = own.map(|own: PathBuf| own.with_file_name(name)).filter(|path: &PathBuf| Path::exists(path));
    beside.map_or_else(|| name.into(), PathBuf::into_os_string)
}

/// Reads what they say until all are silent for good, or it is too late.
fn hear(running: &mut [Result<Running, String>], until: Instant) {
    loop {
        let left = until.saturating_duration_since(Instant::now());
        let mut open: Vec<&mut Running> = running.iter_mut().flatten().filter(|one| one.output.is_some()).collect();
        if open.is_empty() || left.is_zero() {
            return;
        }
        let mut polled: Vec<PollFd<'_>> =
            open.iter().flat_map(|one| &one.output).map(|fd| PollFd::new(fd.as_fd(), PollFlags::POLLIN)).collect();
        // A wait that fails ends the hearing; the deadline ends the rest.
        let timeout = PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX);
        if poll(&mut polled, timeout).is_err_and(|errno| errno != nix::errno::Errno::EINTR) {
            return;
        }
        for one in &mut open {
            one.read();
        }
    }
}

impl Running {
    fn start(name: &str, args: &[OsString]) -> Result<Running, String> {
        let failed = |error: io::Error| format!("it cannot be run: {error}");
        let (reader, writer) = nix::unistd::pipe2(OFlag::O_CLOEXEC).map_err(|errno| failed(errno.into()))?;
        fcntl(&reader, FcntlArg::F_SETFL(OFlag::O_NONBLOCK)).map_err(|errno| failed(errno.into()))?;
        let stderr = writer.try_clone().map_err(failed)?;
        let child = process::plain(program(name))
            .env("LC_ALL", "C")
            .args(args)
            .stdin(Stdio::null())
            .stdout(writer)
            .stderr(stderr)
            .process_group(0)
            .spawn()
            .map_err(failed)?;
        Ok(Running { child, output: Some(reader), said: vec![] })
    }

    /// Reads what is there; what is too much is read and dropped, so that it never waits for us.
    fn read(&mut self) {
        let mut buffer = [0; 4096];
        while let Some(output) = &self.output {
            match read(output, &mut buffer) {
                Ok(0) => self.output = None,
                Ok(count) => {
                    let room = SAID_LIMIT.saturating_sub(self.said.len());
                    self.said.extend_from_slice(&buffer[..count.min(room)]);
                    if room == 0 {
                        return;
                    }
                }
                Err(nix::errno::Errno::EINTR) => {}
                Err(_) => return,
            }
        }
    }

    /// Waits for its end, which follows the end of its output at once; or ends it, and its children.
    fn end(mut self, until: Instant, deadline: Duration) -> Result<Answer, String> {
        let said = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let mut pause = Duration::from_micros(20);
        loop {
            if let Some(status) = self.child.try_wait().map_err(|error| error.to_string())? {
                return match status.code() {
                    Some(code @ (0 | 3)) => Ok(Answer { code, said: said(&self.said) }),
                    _ => {
                        Err(format!("it ended with {status}: {}", said(&self.said).lines().last().unwrap_or("silence")))
                    }
                };
            }
            if Instant::now() >= until {
                // It may have ended since; then there is nobody to signal.
                let _ = killpg(Pid::from_raw(self.child.id().cast_signed()), Signal::SIGKILL);
                self.child.wait().map_err(|error| error.to_string())?;
                return Err(format!("it did not end within {deadline:?} and was stopped"));
            }
            std::thread::sleep(pause);
            pause = (pause * 2).min(Duration::from_millis(5));
        }
    }
}
