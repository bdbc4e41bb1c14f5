//! The kernel's own crashes, as pstore and kdump keep them: the log's last lines become entries with signatures of their own.
//!
//! ```text
//! /sys/fs/pstore/dmesg-…                          what the firmware kept, until systemd-pstore takes it away
//! /var/lib/systemd/pstore/ID/dmesg-…              the parts that it took
//!                            dmesg.txt            all of them, in order
//! /var/crash/202611210900/dmesg.202611210900      kdump's
//! ```
//!
//! One crash may lie in several of them: it is counted once, by the time that the kernel gave it. One log may tell of several events:
//! each has a signature of its own.

mod events;

use crate::signature::Strength;
use atlas_host::{FileError, tree::Dir};
pub use events::crashes;
use std::{
    io::{Read, Seek, SeekFrom},
    path::{Path, PathBuf},
};

/// The largest log that is read, in bytes.
const LOG_LIMIT: u64 = 16 << 20;
const NAMES_LIMIT: usize = 10_000;
/// Where such logs lie.
const PLACES: [&str; 3] = ["sys/fs/pstore", "var/lib/systemd/pstore", "var/crash"];
/// What systemd-pstore makes of the parts that lie beside it: a part alone may begin in the middle of a traceback.
const WHOLE: &str = "dmesg.txt";

/// A crash that a kernel log tells of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KernelCrash {
    /// SHA-256 of `text`.
    pub signature: String,
    /// How sure it is.
    pub strength: Strength,
    /// What was hashed: as for programs.
    pub text: String,
    /// The line that told of it first, with the time since that boot; none where the kernel wrote no times.
    pub moment: Option<String>,
}

/// A kernel log that was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Log {
    /// Where it lies, below the root.
    pub path: PathBuf,
    /// What tells it from every other.
    pub mark: String,
    /// When it was written, in seconds since 1970.
    pub time: u64,
}

/// The kernel logs that lie below `root`.
pub fn logs(root: &Dir) -> Result<Vec<Log>, FileError> {
    let mut found = Vec::new();
    for place in PLACES {
        match root.dir(place) {
            Ok(dir) => look(&dir, Path::new(place), 2, &mut found)?,
            Err(error) if error.is_not_found() => {}
            Err(error) => return Err(error),
        }
    }
    Ok(found)
}

fn look(dir: &Dir, path: &Path, depth: usize, found: &mut Vec<Log>) -> Result<(), FileError> {
    let names = dir.names(NAMES_LIMIT)?;
    let has_whole = names.iter().any(|name| name == WHOLE);
    for name in names {
        let Some(stat) = dir.stat(&name)? else { continue };
        match stat.st_mode & nix::libc::S_IFMT {
            nix::libc::S_IFDIR if depth > 0 => look(&dir.dir(&name)?, &path.join(&name), depth - 1, found)?,
            nix::libc::S_IFREG if name.to_string_lossy().starts_with("dmesg") && (!has_whole || name == WHOLE) => {
                let mark = format!("kernel:{}:{}:{}", stat.st_ino, stat.st_mtime, stat.st_size);
                let time = u64::try_from(stat.st_mtime).unwrap_or(0);
                found.push(Log { path: path.join(&name), mark, time });
            }
            _ => {}
        }
    }
    Ok(())
}

/// Reads a log, its end where it is too long.
pub fn read(root: &Dir, path: &Path) -> Result<String, FileError> {
    let mut file = root.file(path)?;
    let mut bytes = Vec::new();
    let too_much = file.metadata().map_or(0, |metadata| metadata.len()).saturating_sub(LOG_LIMIT);
    let read = file.seek(SeekFrom::Start(too_much)).and_then(|_| file.take(LOG_LIMIT).read_to_end(&mut bytes));
    read.map_err(FileError::on("read", root.show(path)))?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

#[cfg(test)]
mod tests;
