//! The one place of ATLAS that touches the machine.
//!
//! Whatever writes, mounts, locks, runs or reads raw devices goes through here, so that each hazard is met once:
//!
//! | module | gives | the hazard it meets |
//! |---|---|---|
//! | [`tree`] | a directory held open, and paths opened below it | links and `..` that lead out of the tree |
//! | [`durable`] | whole files, or none | half-written files after a crash |
//! | [`object`] | one object with owner, mode, ACL, attributes, times | attributes lost on the way |
//! | [`stamp`] | whether an object changed, unread | a change that nobody sees |
//! | [`lock`] | one holder | two programs at once; a lock file that was replaced |
//! | [`process`] | other programs, with deadlines and bounded output | hanging, endless output |
//! | [`stream`] | a conversation with another program | a partner that is silent, or slow on purpose |
//! | [`alive`] | whether a disk still answers | a read that never ends |
//! | [`arrivals`] | the disks that are there by now, and signs of more | deciding before a slow disk came |
//! | [`block`] | block devices and their superblocks | trusting names and probe order |
//! | [`md`] | the arrays that run, and their members | taking what was asked for as what is |
//! | [`stall`] | disks that have stopped answering | waiting for ever |
//! | [`survey`] | the superblocks of all disks | a disk that never answers |
//! | [`mount`] | mounts | |
//! | [`net`] | network interfaces, and a lock on all of them | a frame that is sent before it may be |
//! | [`room`] | a place for a daemon beside the one that runs | a trial that changes what it tries |
//! | [`rehearsal`] | a device whose writes go to memory | writing to a disk before it is known that one may |
//!
//! `unsafe` is allowed here alone, each block with the reason why it is sound.

#![allow(unsafe_code, reason = "this crate is where the machine is touched; every block says why it is sound")]

pub mod alive;
pub mod arrivals;
pub mod block;
pub mod durable;
pub mod lock;
pub mod md;
pub mod mount;
pub mod net;
pub mod object;
pub mod process;
pub mod rehearsal;
pub mod room;
pub mod stall;
pub mod stamp;
mod steps;
pub mod stream;
pub mod survey;
#[cfg(any(test, feature = "testing"))]
#[allow(clippy::expect_used, clippy::panic, reason = "a test ends where something is not as it must be")]
pub mod testing;
pub mod tree;

use atlas_model::tree_path::escape;
use std::{io, path::PathBuf};

/// An operation on a file that failed: what, on which, and why. The file's name may be anybody's, so it is told as paths are written.
#[derive(Debug, thiserror::Error)]
#[error("cannot {action} {}", escape(path.as_os_str().as_encoded_bytes()))]
pub struct FileError {
    /// `open`, `replace`, …
    pub action: &'static str,
    /// The file, as the reader knows it.
    pub path: PathBuf,
    /// The reason.
    #[source]
    pub source: io::Error,
}

impl FileError {
    /// Makes the mapping that `map_err` wants.
    pub fn on<E: Into<io::Error>>(action: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(E) -> FileError {
        let path = path.into();
        move |source| FileError { action, path, source: source.into() }
    }

    /// Whether the file is larger than its reader allows.
    pub fn is_too_large(&self) -> bool {
        self.source.kind() == io::ErrorKind::FileTooLarge
    }

    /// Whether the file is simply not there.
    pub fn is_not_found(&self) -> bool {
        self.source.kind() == io::ErrorKind::NotFound
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_would_move_the_cursor_is_told_and_does_not() {
        let error = FileError::on("read", "/etc/\u{1b}[2J\nall is well")(io::ErrorKind::NotFound);
        assert_eq!(error.to_string(), "cannot read /etc/\\x1b[2J\\x0aall is well");
    }
}
