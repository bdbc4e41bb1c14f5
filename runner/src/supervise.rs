//! A program that runs: its output passed on as it comes, signals passed to it, its end waited for.

use crate::copy::Copier;
use anyhow::{Context, Result};
use atlas_host::process::spawn::{Beginning, Spawned};
use nix::{
    errno::Errno,
    fcntl::{FcntlArg, OFlag, fcntl},
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::{
        signal::{SigSet, SigmaskHow, Signal, kill},
        signalfd::{SfdFlags, SignalFd},
    },
    unistd::{dup2_stdin, dup2_stdout, read},
};
use std::{
    ffi::{OsStr, OsString},
    fs::File,
    io,
    os::fd::{AsFd, OwnedFd},
    process::ExitStatus,
    time::{Duration, Instant},
};

/// How long output of processes that the program left behind is waited for, once the program has ended.
const AFTERMATH: Duration = Duration::from_millis(500);
/// A pipe as large as an unprivileged process may have: the program waits less often.
const PIPE_BYTES: i32 = 1 << 20;
/// How often the pipe is read before signals are looked at: about as much as it holds.
const READS: usize = 16;

/// The signals that are passed on, and the one that tells of the child's end; and what was blocked before.
fn signals() -> nix::Result<(SignalFd, SigSet)> {
    let set: SigSet = PASSED.into_iter().chain([Signal::SIGCHLD]).collect();
    let before = set.thread_swap_mask(SigmaskHow::SIG_BLOCK)?;
    Ok((SignalFd::with_flags(&set, SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC)?, before))
}

const PASSED: [Signal; 8] = [
    Signal::SIGHUP,
    Signal::SIGINT,
    Signal::SIGQUIT,
    Signal::SIGTERM,
    Signal::SIGUSR1,
    Signal::SIGUSR2,
    Signal::SIGCONT,
    Signal::SIGWINCH,
];
/// Those of them that tell a program to end.
const STOPS: [Signal; 4] = [Signal::SIGHUP, Signal::SIGINT, Signal::SIGQUIT, Signal::SIGTERM];

/// The streams on which a program talks with somebody: not a byte passes through this process.
pub struct Streams {
    input: OwnedFd,
    output: OwnedFd,
}

impl Streams {
    /// Takes standard input and output out of this process, so that nothing but the program gets them: neither the handlers nor a line that
    /// this process says. Who listens at the other end hears the program's end, and does not wait for this one's.
    pub fn take() -> io::Result<Streams> {
        let streams = Streams {
            input: io::stdin().as_fd().try_clone_to_owned()?,
            output: io::stdout().as_fd().try_clone_to_owned()?,
        };
        let null = File::options().read(true).write(true).open("/dev/null")?;
        dup2_stdin(&null)?;
        dup2_stdout(&null)?;
        Ok(streams)
    }
}

/// A program that was started.
pub struct Supervision {
    child: Spawned,
    reader: OwnedFd,
    signals: SignalFd,
    buffer: Vec<u8>,
    /// Whether somebody told it to end.
    pub was_stopped: bool,
}

/// What a look at the pipe gave.
#[derive(PartialEq)]
enum Pipe {
    Open,
    Ended,
}

impl Supervision {
    /// Starts the program; the outer error is of the means to watch it, the inner one of the start.
    ///
    /// With `streams`, these are its standard input and output, and its standard error alone is seen.
    pub fn start(
        words: &[OsString],
        variable: Option<(&'static str, &OsStr)>,
        streams: Option<Streams>,
    ) -> Result<io::Result<Supervision>> {
        let (reader, writer) = nix::unistd::pipe2(OFlag::O_CLOEXEC).context("make a pipe for the output")?;
        // Smaller is slower, no more.
        let _ = fcntl(&reader, FcntlArg::F_SETPIPE_SZ(PIPE_BYTES));
        fcntl(&reader, FcntlArg::F_SETFL(OFlag::O_NONBLOCK)).context("prepare the pipe")?;
        let (signals, blocked) = signals().context("prepare for signals")?;
        let beginning = Beginning {
            words,
            variable,
            input: streams.as_ref().map(|streams| streams.input.as_fd()),
            outputs: [streams.as_ref().map_or(writer.as_fd(), |streams| streams.output.as_fd()), writer.as_fd()],
            blocked,
        };
        let child = beginning.spawn();
        // While this process held them, the output, and what the program says to its partner, would never end.
        drop((writer, streams));
        Ok(child.map(|child| Supervision { child, reader, signals, buffer: vec![0; 1 << 16], was_stopped: false }))
    }

    /// Its number.
    pub fn pid(&self) -> u32 {
        self.child.pid().as_raw().cast_unsigned()
    }

    /// Sees it to its end; calls `lasts` once where it runs for longer than `while_`.
    pub fn run(&mut self, copier: &mut Copier, while_: Duration, lasts: impl FnOnce()) -> Result<ExitStatus> {
        let started = Instant::now();
        let mut lasts = Some(lasts);
        let mut pipe = Pipe::Open;
        let mut ended: Option<(ExitStatus, Instant)> = None;
        loop {
            if let (Some((status, _)), Pipe::Ended) = (&ended, &pipe) {
                return Ok(*status);
            }
            let wait = match (ended, &lasts) {
                (Some((status, at)), _) => match AFTERMATH.checked_sub(at.elapsed()) {
                    None => return Ok(status),
                    Some(left) => left.try_into().unwrap_or(PollTimeout::ZERO),
                },
                (None, Some(_)) => while_.saturating_sub(started.elapsed()).try_into().unwrap_or(PollTimeout::MAX),
                (None, None) => PollTimeout::NONE,
            };
            self.wait(pipe == Pipe::Open, wait)?;
            if pipe == Pipe::Open {
                pipe = self.pass_output(copier)?;
            }
            self.pass_signals()?;
            if ended.is_none() {
                ended = self.child.try_wait().context("wait for the program")?.map(|status| (status, Instant::now()));
            }
            if ended.is_none() && started.elapsed() >= while_ {
                lasts.take().into_iter().for_each(|lasts| lasts());
            }
        }
    }

    /// Waits for a signal or, where the pipe is open, for output.
    fn wait(&self, with_output: bool, at_most: PollTimeout) -> Result<()> {
        let mut polled = vec![PollFd::new(self.signals.as_fd(), PollFlags::POLLIN)];
        if with_output {
            polled.push(PollFd::new(self.reader.as_fd(), PollFlags::POLLIN));
        }
        match poll(&mut polled, at_most) {
            Ok(_) | Err(Errno::EINTR) => Ok(()),
            Err(errno) => Err(errno).context("wait for the program"),
        }
    }

    /// Passes on what is there; a program that never stops writing must not keep signals waiting.
    fn pass_output(&mut self, copier: &mut Copier) -> Result<Pipe> {
        for _ in 0..READS {
            match read(&self.reader, &mut self.buffer) {
                Ok(0) => return Ok(Pipe::Ended),
                Ok(count) => copier.pass(&self.buffer[..count]),
                Err(Errno::EINTR) => {}
                Err(Errno::EAGAIN) => return Ok(Pipe::Open),
                Err(errno) => return Err(errno).context("read the program's output"),
            }
        }
        Ok(Pipe::Open)
    }

    /// Passes signals on, but for those that the terminal sent to the program as well.
    fn pass_signals(&mut self) -> Result<()> {
        while let Some(info) = self.signals.read_signal().context("read a signal")? {
            let Ok(signal) = Signal::try_from(info.ssi_signo.cast_signed()) else { continue };
            let from_terminal = info.ssi_code == nix::libc::SI_KERNEL;
            self.was_stopped |= STOPS.contains(&signal);
            if signal != Signal::SIGCHLD && !from_terminal {
                // It may have ended since; then there is nobody to tell.
                let _ = kill(self.child.pid(), signal);
            }
        }
        Ok(())
    }
}
