//! A program started without a copy of this process, its signals and streams as they are told.
//!
//! [`std::process::Command`] can leave a signal mask to a program only by copying this process for the program to begin in: a fifth of what
//! a small program takes, for each that is run.

use nix::{
    errno::Errno,
    libc,
    spawn::{PosixSpawnAttr, PosixSpawnFileActions, PosixSpawnFlags, posix_spawnp},
    sys::signal::{SigSet, Signal},
    unistd::{AccessFlags, Pid, access},
};
use std::{
    ffi::{CString, OsStr, OsString},
    io,
    os::{
        fd::{AsRawFd, BorrowedFd},
        unix::{ffi::OsStrExt, process::ExitStatusExt},
    },
    path::PathBuf,
    process::ExitStatus,
};

/// What a program begins with.
#[derive(Debug)]
pub struct Beginning<'a> {
    /// The program, by its path or looked for in `PATH`, and its arguments.
    pub words: &'a [OsString],
    /// A variable that it has besides those of this process.
    pub variable: Option<(&'static str, &'a OsStr)>,
    /// Standard input, where it is not this process's.
    pub input: Option<BorrowedFd<'a>>,
    /// Standard output and standard error.
    pub outputs: [BorrowedFd<'a>; 2],
    /// The signals that are blocked as it begins, instead of those that this thread has blocked for itself: who reads signals from a
    /// descriptor would hand on a program that no signal ends.
    pub blocked: SigSet,
}

/// A program that was started, and is to be waited for.
#[derive(Debug)]
pub struct Spawned {
    pid: Pid,
    status: Option<ExitStatus>,
}

impl Beginning<'_> {
    /// Starts it. A file that is a script and does not say of what is one of the shell's, as in every shell.
    pub fn spawn(&self) -> io::Result<Spawned> {
        match self.spawn_words(self.words) {
            Err(error) if error.raw_os_error() == Some(libc::ENOEXEC) => {
                let script = self.words.first().and_then(|name| found(name)).ok_or(error)?;
                let words = [["/bin/sh".into(), script.into_os_string()].as_slice(), &self.words[1..]].concat();
                self.spawn_words(&words)
            }
            other => other,
        }
    }

    fn spawn_words(&self, words: &[OsString]) -> io::Result<Spawned> {
        let words = words.iter().map(|word| Ok(CString::new(word.as_bytes())?)).collect::<io::Result<Vec<_>>>()?;
        let program = words.first().ok_or(io::ErrorKind::InvalidInput)?;
        let mut actions = PosixSpawnFileActions::init()?;
        let streams = [self.input, Some(self.outputs[0]), Some(self.outputs[1])];
        for (at, stream) in (0..).zip(streams) {
            stream.map_or(Ok(()), |stream| actions.add_dup2(stream.as_raw_fd(), at))?;
        }
        let mut attributes = PosixSpawnAttr::init()?;
        attributes.set_flags(PosixSpawnFlags::POSIX_SPAWN_SETSIGMASK | PosixSpawnFlags::POSIX_SPAWN_SETSIGDEF)?;
        attributes.set_sigmask(&self.blocked)?;
        // Rust's programs ignore it, and no other program expects that.
        attributes.set_sigdefault(&SigSet::from(Signal::SIGPIPE))?;
        let pid = posix_spawnp(program, &actions, &attributes, &words, &self.environment()?)?;
        Ok(Spawned { pid, status: None })
    }

    fn environment(&self) -> io::Result<Vec<CString>> {
        let of = |name: &OsStr, value: &OsStr| {
            let line = [name.as_bytes(), b"=", value.as_bytes()].concat();
            Ok(CString::new(line)?)
        };
        let is_set = |name: &OsStr| self.variable.is_some_and(|(set, _)| name == set);
        let own = std::env::vars_os().filter(|(name, _)| !is_set(name)).map(|(name, value)| of(&name, &value));
        own.chain(self.variable.map(|(name, value)| of(OsStr::new(name), value))).collect()
    }
}

/// The file that a program's name leads to.
fn found(name: &OsStr) -> Option<PathBuf> {
    if name.as_bytes().contains(&b'/') {
        return Some(name.into());
    }
    let is_program = |file: &PathBuf| file.is_file() && access(file, AccessFlags::X_OK).is_ok();
    std::env::split_paths(&std::env::var_os("PATH")?).map(|dir| dir.join(name)).find(is_program)
}

impl Spawned {
    /// Its number.
    pub fn pid(&self) -> Pid {
        self.pid
    }

    /// How it ended, once it has.
    pub fn try_wait(&mut self) -> io::Result<Option<ExitStatus>> {
        if self.status.is_none() {
            let mut status = 0;
            // SAFETY: the kernel writes one number to where one is.
            let ended = unsafe { libc::waitpid(self.pid.as_raw(), &raw mut status, libc::WNOHANG) };
            match Errno::result(ended) {
                Ok(0) | Err(Errno::EINTR) => {}
                ended => self.status = ended.map(|_| Some(ExitStatus::from_raw(status)))?,
            }
        }
        Ok(self.status)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{
        fs::File,
        os::{fd::AsFd, unix::fs::PermissionsExt},
    };

    fn ended(words: &[&str], variable: Option<(&'static str, &OsStr)>) -> io::Result<(ExitStatus, String)> {
        let tmp = tempfile::tempdir().unwrap();
        let output = File::create(tmp.path().join("output")).unwrap();
        let words: Vec<OsString> = words.iter().map(Into::into).collect();
        let outputs = [output.as_fd(), output.as_fd()];
        let beginning = Beginning { words: &words, variable, input: None, outputs, blocked: SigSet::empty() };
        let mut spawned = beginning.spawn()?;
        let until = std::time::Instant::now() + std::time::Duration::from_secs(30);
        let status = loop {
            if let Some(status) = spawned.try_wait()? {
                break status;
            }
            assert!(std::time::Instant::now() < until, "{words:?} does not end");
            std::thread::yield_now();
        };
        assert_eq!(spawned.try_wait()?, Some(status), "once waited for, it is known");
        Ok((status, std::fs::read_to_string(tmp.path().join("output")).unwrap()))
    }

    #[test]
    fn every_way_to_end_is_told_real_time_signals_among_them() {
        let sh = |script: &str| ended(&["sh", "-c", script], None).unwrap().0;
        assert_eq!(sh("exit 7").code(), Some(7));
        assert_eq!((sh("kill -TERM $$").signal(), sh("kill -40 $$").signal()), (Some(15), Some(40)));
    }

    #[test]
    fn a_variable_stands_for_one_of_that_name() {
        let script = "env | grep -c ^PATH=; echo $PATH";
        let (_, said) = ended(&["/bin/sh", "-c", script], Some(("PATH", OsStr::new("/bin:/usr/bin")))).unwrap();
        assert_eq!(said, "1\n/bin:/usr/bin\n");
    }

    #[test]
    fn sigpipe_is_as_every_program_expects_it() {
        let (_, said) = ended(&["sh", "-c", "sed -n 's/^SigIgn:\\s*//p' /proc/$$/status"], None).unwrap();
        let ignored = |mask: &str| u64::from_str_radix(mask.trim(), 16).unwrap() >> (Signal::SIGPIPE as u32 - 1) & 1;
        let own = std::fs::read_to_string("/proc/self/status").unwrap();
        let own = own.lines().find_map(|line| line.strip_prefix("SigIgn:")).unwrap();
        assert_eq!((ignored(own), ignored(&said)), (1, 0));
    }

    #[test]
    fn a_script_that_does_not_say_of_what_is_the_shells() {
        let tmp = tempfile::tempdir().unwrap();
        let script = tmp.path().join("script");
        std::fs::write(&script, "echo \"$0 $1\"\nexit 3\n").unwrap();
        std::fs::set_permissions(&script, std::fs::Permissions::from_mode(0o755)).unwrap();
        let (status, said) = ended(&[script.to_str().unwrap(), "one"], None).unwrap();
        assert_eq!((status.code(), said), (Some(3), format!("{} one\n", script.display())));
    }

    #[test]
    fn what_cannot_be_started_says_why() {
        let kind = |program: &str| ended(&[program], None).unwrap_err().kind();
        assert_eq!(kind("/nonexistent"), io::ErrorKind::NotFound);
        assert_eq!(kind("no-such-program"), io::ErrorKind::NotFound);
        assert_eq!(kind("/etc/passwd"), io::ErrorKind::PermissionDenied);
        assert_eq!(kind("a\0b"), io::ErrorKind::InvalidInput);
        assert_eq!(found(OsStr::new("no-such-program")), None);
    }
}
