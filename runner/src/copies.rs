//! Which runs of a program have begun and not ended.
//!
//! ```text
//! /run/atlas/runs/ssSync      empty; byte N is locked for as long as ssRun waits for process N, which runs ssSync
//! ```
//!
//! The kernel keeps the list: a lock goes with the process that holds it, however that ends. To ask costs a few system calls on a server of
//! any size, where to look through its processes costs three for each. What was not started by ssRun is not in it.

use atlas_host::{FileError, tree::Dir};
use nix::{
    errno::Errno,
    fcntl::{FcntlArg, fcntl},
    libc::{F_RDLCK, F_UNLCK, F_WRLCK, SEEK_SET, c_int, c_short, flock},
};
use std::{fs::File, io, path::Path};

/// Where the files lie.
const PLACE: &str = "run/atlas/runs";
/// The kernel gives no process a number from here on.
const PIDS: i64 = 1 << 22;
/// The most copies that are told.
const MOST: usize = 10_000;

/// A run that is counted until this is dropped.
#[derive(Debug)]
pub struct Counted {
    // The kernel lets go of the lock when the file is closed.
    _file: File,
}

fn bytes(kind: c_int, start: i64, length: i64) -> flock {
    // The values of both are small by POSIX; the C library types them larger than its structure.
    flock { l_type: kind as c_short, l_whence: SEEK_SET as c_short, l_start: start, l_len: length, l_pid: 0 }
}

/// Counts process `pid` among the copies of `program` on the server whose tree is `root`.
pub fn count(root: &Path, program: &str, pid: u32) -> Result<Counted, FileError> {
    let dir = Dir::open_root(root)?.make_dirs(PLACE)?;
    let file = match dir.create_new(program, 0o644) {
        Err(error) if error.source.kind() == io::ErrorKind::AlreadyExists => dir.file_to_write(program)?,
        other => other?,
    };
    fcntl(&file, FcntlArg::F_OFD_SETLK(&bytes(F_WRLCK, i64::from(pid), 1)))
        .map_err(FileError::on("lock", dir.show(program)))?;
    Ok(Counted { _file: file })
}

/// The processes that run `program`, as far as ssRun waits for them.
pub fn running(root: &Path, program: &str) -> Result<Vec<i32>, FileError> {
    let dir = match Dir::open_root(root)?.dir(PLACE) {
        Err(error) if error.is_not_found() => return Ok(vec![]),
        other => other?,
    };
    let file = match dir.file(program) {
        Err(error) if error.is_not_found() => return Ok(vec![]),
        other => other?,
    };
    let mut pids: Vec<i32> = Vec::new();
    // Which of several locks is told is the kernel's choice: what lies before and behind it is asked for as well.
    let mut ranges: Vec<std::ops::Range<i64>> = std::iter::once(0..PIDS).collect();
    while let Some(range) = ranges.pop().filter(|_| pids.len() < MOST) {
        // Writers' locks alone: whoever may only read the file can lock it for readers, and is no copy.
        let mut found = bytes(F_RDLCK, range.start, range.end - range.start);
        match fcntl(&file, FcntlArg::F_OFD_GETLK(&mut found)) {
            Err(Errno::EINTR) => ranges.push(range),
            Err(errno) => return Err(FileError::on("ask for the locks of", dir.show(program))(errno)),
            Ok(_) if found.l_type == F_UNLCK as c_short => {}
            Ok(_) => {
                let locked = found.l_start.max(range.start)..(found.l_start + found.l_len).min(range.end);
                pids.extend(locked.clone().take(MOST).filter_map(|pid| i32::try_from(pid).ok()));
                ranges.extend([range.start..locked.start, locked.end..range.end].into_iter().filter(|r| !r.is_empty()));
            }
        }
    }
    pids.sort_unstable();
    Ok(pids)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn those_that_run_are_told_in_order_and_whatever_began_first() {
        let tmp = tempfile::tempdir().unwrap();
        assert_eq!(running(tmp.path(), "p").unwrap(), [0; 0]);
        let counted: Vec<Counted> =
            [900, 17, 18, 500].into_iter().map(|pid| count(tmp.path(), "p", pid).unwrap()).collect();
        let _other = count(tmp.path(), "q", 3).unwrap();
        assert_eq!(running(tmp.path(), "p").unwrap(), [17, 18, 500, 900]);
        drop(counted);
        assert_eq!(running(tmp.path(), "p").unwrap(), [0; 0]);
    }

    #[test]
    fn whoever_may_only_read_makes_no_copies() {
        let tmp = tempfile::tempdir().unwrap();
        drop(count(tmp.path(), "p", 1).unwrap());
        let reader = File::open(tmp.path().join(PLACE).join("p")).unwrap();
        fcntl(&reader, FcntlArg::F_OFD_SETLK(&bytes(F_RDLCK, 5, 1))).unwrap();
        assert_eq!(running(tmp.path(), "p").unwrap(), [0; 0]);
    }
}
