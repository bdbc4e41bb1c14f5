//! A conversation over two descriptors in which nobody is waited for longer than agreed.
//!
//! Two bounds hold for every byte: how long the other side may be silent, and when the whole conversation must be over. A partner
//! that sends one byte a minute runs into the second.

use nix::{
    errno::Errno,
    fcntl::{FcntlArg, OFlag, fcntl},
    poll::{PollFd, PollFlags, PollTimeout, poll},
    unistd::{read, write},
};
use std::{
    io::{self, Read, Write},
    os::fd::{AsFd, OwnedFd},
    time::{Duration, Instant},
};

/// The bounds of one direction.
#[derive(Debug)]
struct Bounds {
    fd: OwnedFd,
    silence: Duration,
    until: Instant,
}

/// What the other side says.
#[derive(Debug)]
pub struct Hearing(Bounds);

/// What is said to the other side.
#[derive(Debug)]
pub struct Speaking(Bounds);

impl Hearing {
    /// A descriptor to read from, on which a silence of `silence`, or anything at all after `until`, is an error.
    pub fn new(fd: OwnedFd, silence: Duration, until: Instant) -> io::Result<Hearing> {
        Bounds::new(fd, silence, until).map(Hearing)
    }
}

impl Speaking {
    /// A descriptor to write to, which takes nothing for at most `silence`, and nothing at all after `until`.
    pub fn new(fd: OwnedFd, silence: Duration, until: Instant) -> io::Result<Speaking> {
        Bounds::new(fd, silence, until).map(Speaking)
    }
}

impl Bounds {
    fn new(fd: OwnedFd, silence: Duration, until: Instant) -> io::Result<Bounds> {
        let flags = OFlag::from_bits_truncate(fcntl(&fd, FcntlArg::F_GETFL)?);
        fcntl(&fd, FcntlArg::F_SETFL(flags | OFlag::O_NONBLOCK))?;
        Ok(Bounds { fd, silence, until })
    }

    /// Tries until it can be done, or it is too late.
    fn go(&self, flags: PollFlags, mut attempt: impl FnMut(&OwnedFd) -> nix::Result<usize>) -> io::Result<usize> {
        // One that always has something to say is bounded, too.
        if Instant::now() >= self.until {
            return Err(too_late("the whole took too long"));
        }
        loop {
            match attempt(&self.fd) {
                Err(Errno::EAGAIN) => self.wait(flags)?,
                Err(Errno::EINTR) => {}
                other => return Ok(other?),
            }
        }
    }

    fn wait(&self, flags: PollFlags) -> io::Result<()> {
        let silent_until = (Instant::now() + self.silence).min(self.until);
        loop {
            let left = silent_until.saturating_duration_since(Instant::now());
            let timeout = PollTimeout::try_from(left.min(Duration::from_secs(3600))).unwrap_or(PollTimeout::MAX);
            match poll(&mut [PollFd::new(self.fd.as_fd(), flags)], timeout) {
                Ok(0) if Instant::now() >= self.until => return Err(too_late("the whole took too long")),
                Ok(0) if Instant::now() >= silent_until => return Err(too_late("the other side is silent")),
                Ok(0) | Err(Errno::EINTR) => {}
                Ok(_) => return Ok(()),
                Err(errno) => return Err(errno.into()),
            }
        }
    }
}

fn too_late(why: &str) -> io::Error {
    io::Error::new(io::ErrorKind::TimedOut, why)
}

impl Read for Hearing {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.go(PollFlags::POLLIN, |fd| read(fd, buffer))
    }
}

impl Write for Speaking {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        self.0.go(PollFlags::POLLOUT, |fd| write(fd, buffer))
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::unistd::pipe;

    fn hearing(silence: u64, whole: u64) -> (Hearing, OwnedFd) {
        let (input, output) = pipe().unwrap();
        let until = Instant::now() + Duration::from_millis(whole);
        (Hearing::new(input, Duration::from_millis(silence), until).unwrap(), output)
    }

    #[test]
    fn silence_ends_it_and_so_does_talking_too_slowly() {
        let (mut stream, out) = hearing(50, 60_000);
        assert_eq!(stream.read(&mut [0; 1]).unwrap_err().to_string(), "the other side is silent");
        write(&out, b"x").unwrap();
        assert_eq!(stream.read(&mut [0; 1]).unwrap(), 1);
        drop(out);
        assert_eq!(stream.read(&mut [0; 1]).unwrap(), 0);

        let (mut stream, out) = hearing(1000, 100);
        let talker = std::thread::spawn(move || {
            while write(&out, b"x").is_ok() {
                std::thread::sleep(Duration::from_millis(10));
            }
        });
        let error = loop {
            match stream.read_exact(&mut [0; 1]) {
                Ok(()) if Instant::now() > stream.0.until + Duration::from_secs(5) => panic!("it goes on for ever"),
                Ok(()) => {}
                Err(error) => break error,
            }
        };
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        drop(stream);
        talker.join().unwrap();
    }

    #[test]
    fn a_partner_that_does_not_read_is_not_written_to_for_ever() {
        let (_input, output) = pipe().unwrap();
        let until = Instant::now() + Duration::from_secs(60);
        let mut stream = Speaking::new(output, Duration::from_millis(50), until).unwrap();
        assert_eq!(stream.write_all(&vec![0; 1 << 20]).unwrap_err().kind(), io::ErrorKind::TimedOut);
    }
}
