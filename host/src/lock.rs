//! One holder at a time.
//!
//! The lock is `flock` on a file. A file that was removed or replaced between opening and locking would give two holders on two
//! inodes; so after the lock is got, the name must still stand for the same inode.

use crate::{FileError, tree::Dir};
use nix::fcntl::{Flock, FlockArg};
use std::{
    ffi::OsStr,
    fs::File,
    io,
    os::unix::fs::MetadataExt,
    time::{Duration, Instant},
};

/// Held until dropped; the kernel lets go of it when the process ends, however it ends.
#[derive(Debug)]
pub struct Lock {
    _flock: Flock<File>,
}

impl Lock {
    /// Takes the lock `name` in `dir`, waiting for another holder at most until `deadline` has passed.
    pub fn take(dir: &Dir, name: &OsStr, deadline: Duration) -> Result<Lock, FileError> {
        let failed = |source: io::Error| FileError::on("lock", dir.show(name))(source);
        let until = Instant::now() + deadline;
        loop {
            let file = match dir.create_new(name, 0o600) {
                Err(error) if error.source.kind() == io::ErrorKind::AlreadyExists => match dir.file(name) {
                    // Removed in between: begin again.
                    Err(error) if error.is_not_found() => continue,
                    other => other?,
                },
                other => other?,
            };
            let inode = file.metadata().map_err(failed)?.ino();
            match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
                Ok(flock) => {
                    if dir.stat(name)?.is_some_and(|stat| stat.st_ino == inode) {
                        return Ok(Lock { _flock: flock });
                    }
                }
                Err((_, nix::errno::Errno::EWOULDBLOCK)) if Instant::now() < until => {
                    std::thread::sleep(Duration::from_millis(10));
                }
                Err((_, nix::errno::Errno::EWOULDBLOCK)) => {
                    return Err(failed(io::Error::new(io::ErrorKind::WouldBlock, "another program holds it")));
                }
                Err((_, errno)) => return Err(failed(errno.into())),
            }
        }
    }
}

/// Whether somebody holds the lock `name` in `dir`. It is not touched: who asked by taking it would be in the way of whoever needs it now.
pub fn is_held(dir: &Dir, name: &OsStr) -> Result<bool, FileError> {
    let Some(stat) = dir.stat(name)? else { return Ok(false) };
    // `1: FLOCK  ADVISORY  WRITE 4242 08:02:131090 0 EOF`: device numbers differ from those of stat on some file systems, inodes do not.
    let locks = std::fs::read_to_string("/proc/locks").map_err(FileError::on("read", "/proc/locks"))?;
    let is_it = |line: &str| {
        let mut words = line.split_whitespace();
        let (kind, at) = (words.nth(1), words.nth(3));
        let inode = at.and_then(|at| at.rsplit(':').next()).and_then(|inode| inode.parse().ok());
        kind == Some("FLOCK") && inode == Some(stat.st_ino)
    };
    Ok(locks.lines().any(is_it))
}

/// The lock of all programs that change accounts (`useradd`, `passwd` and the like): `lckpwdf` of the C library takes the same one.
#[derive(Debug)]
pub struct AccountsLock {
    // The kernel lets go of it when the file is closed.
    _file: Option<File>,
}

impl AccountsLock {
    /// Takes it on the server whose tree is `root`, waiting for another holder at most until `deadline` has passed.
    pub fn take(root: &Dir, deadline: Duration) -> Result<AccountsLock, FileError> {
        let (name, until) = (OsStr::new(".pwd.lock"), Instant::now() + deadline);
        let etc = match root.dir("etc") {
            Ok(etc) => etc,
            // There are no accounts.
            Err(error) if error.is_not_found() => return Ok(AccountsLock { _file: None }),
            Err(error) => return Err(error),
        };
        let file = match etc.create_new(name, 0o600) {
            Err(error) if error.source.kind() == io::ErrorKind::AlreadyExists => etc.file_to_write(name)?,
            other => other?,
        };
        let whole = nix::libc::flock {
            l_type: nix::libc::F_WRLCK as nix::libc::c_short,
            l_whence: nix::libc::SEEK_SET as nix::libc::c_short,
            l_start: 0,
            l_len: 0,
            l_pid: 0,
        };
        loop {
            match nix::fcntl::fcntl(&file, nix::fcntl::FcntlArg::F_SETLK(&whole)) {
                Ok(_) => return Ok(AccountsLock { _file: Some(file) }),
                Err(nix::errno::Errno::EACCES | nix::errno::Errno::EAGAIN) if Instant::now() < until => {
                    std::thread::sleep(Duration::from_millis(50));
                }
                Err(errno) => return Err(FileError::on("lock", etc.show(name))(errno)),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_is_one_holder_until_the_lock_is_dropped() {
        let tmp = tempfile::tempdir().unwrap();
        let dir = Dir::open_root(tmp.path()).unwrap();
        let name = OsStr::new("lock");
        let first = Lock::take(&dir, name, Duration::ZERO).unwrap();
        let refused = Lock::take(&dir, name, Duration::from_millis(30)).unwrap_err();
        assert!(refused.source.to_string().contains("another program"));
        assert!(is_held(&dir, name).unwrap());
        drop(first);
        assert!(!is_held(&dir, name).unwrap() && !is_held(&dir, OsStr::new("none")).unwrap());
        Lock::take(&dir, name, Duration::ZERO).unwrap();
    }

    #[test]
    fn a_replaced_lock_file_gives_the_new_one() {
        let tmp = tempfile::tempdir().unwrap();
        let dir = Dir::open_root(tmp.path()).unwrap();
        let name = OsStr::new("lock");
        let _old = Lock::take(&dir, name, Duration::ZERO).unwrap();
        std::fs::remove_file(tmp.path().join("lock")).unwrap();
        let _new = Lock::take(&dir, name, Duration::ZERO).unwrap();
        assert!(Lock::take(&dir, name, Duration::ZERO).is_err(), "the new file has a holder, too");
    }
}
