//! Whole files, or none: the one way to write a file that must survive a crash.
//!
//! The content goes to a temporary file beside the target, is flushed, and takes the name with one rename; then the directory is flushed.
//! At every instant the name stands for the old content or the new one.

use crate::{
    FileError,
    tree::{Dir, Rename},
};
use std::{
    ffi::{OsStr, OsString},
    io::Write,
    os::unix::fs::PermissionsExt,
    sync::atomic::{AtomicU32, Ordering},
};

/// The beginning of the name of every temporary file of ATLAS, so that what a crash left behind can be told and removed.
const TEMP_PREFIX: &str = ".atlas-tmp-";

/// Whether it is the name of a temporary file of ATLAS.
pub fn is_temporary(name: &OsStr) -> bool {
    name.as_encoded_bytes().starts_with(TEMP_PREFIX.as_bytes())
}

/// A name for a temporary file, not used before by this process.
pub fn temp_name() -> OsString {
    static COUNTER: AtomicU32 = AtomicU32::new(0);
    format!("{TEMP_PREFIX}{}-{}", std::process::id(), COUNTER.fetch_add(1, Ordering::Relaxed)).into()
}

/// Writes `content` as `name` in `dir`, durably, owned by the caller, with this mode.
pub fn write(dir: &Dir, name: &OsStr, content: &[u8], mode: u32) -> Result<(), FileError> {
    let temp = temp_name();
    let result = write_temp(dir, &temp, content, mode).and_then(|()| dir.rename(&temp, dir, name, Rename::Replace));
    if result.is_err() {
        // Best effort: the error that is returned says what matters, and the next cleaning removes what is left.
        let _ = dir.remove(&temp);
    }
    result?;
    dir.sync()
}

fn write_temp(dir: &Dir, temp: &OsStr, content: &[u8], mode: u32) -> Result<(), FileError> {
    // What a process of the same number left behind before a crash.
    dir.remove(temp)?;
    let mut file = dir.create_new(temp, 0o600)?;
    file.write_all(content)
        .and_then(|()| file.set_permissions(std::fs::Permissions::from_mode(mode)))
        .and_then(|()| file.sync_all())
        .map_err(FileError::on("write", dir.show(temp)))
}

/// Writes `content` as `name` in `dir` without flushing it: within something that has no name yet that anyone reads, and that is flushed
/// whole before it gets one. A file of that name gives way; other names of it stay as they are.
pub fn put(dir: &Dir, name: &OsStr, content: &[u8], mode: u32) -> Result<(), FileError> {
    dir.remove(name)?;
    let mut file = dir.create_new(name, 0o600)?;
    file.write_all(content)
        .and_then(|()| file.set_permissions(std::fs::Permissions::from_mode(mode)))
        .map_err(FileError::on("write", dir.show(name)))
}

/// Like [`write()`]; does nothing where the content is there already. Says whether it wrote.
pub fn write_if_changed(dir: &Dir, name: &OsStr, content: &[u8], mode: u32) -> Result<bool, FileError> {
    if dir.read_if_there(name, content.len()).ok().flatten().as_deref() == Some(content) {
        return Ok(false);
    }
    write(dir, name, content, mode).map(|()| true)
}

/// Removes the temporary files that a crash left in `dir`; gives how many there were.
///
/// Only for a caller that holds the lock of what is in `dir`: a temporary file of a living writer is one, too.
pub fn remove_leftovers(dir: &Dir) -> Result<usize, FileError> {
    let mut removed = 0;
    for name in dir.names(1_000_000)? {
        if is_temporary(&name) {
            removed += usize::from(dir.remove_tree(&name)?);
        }
    }
    Ok(removed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_replaced_whole_and_nothing_is_left_beside_it() {
        let tmp = tempfile::tempdir().unwrap();
        let dir = Dir::open_root(tmp.path()).unwrap();
        let name = OsStr::new("f");
        write(&dir, name, b"old", 0o644).unwrap();
        write(&dir, name, b"new", 0o600).unwrap();
        assert_eq!(dir.read("f", 10).unwrap(), b"new");
        assert_eq!(dir.names(10).unwrap(), ["f"]);
        assert_eq!(dir.stat(name).unwrap().unwrap().st_mode & 0o7777, 0o600);
        assert!(!write_if_changed(&dir, name, b"new", 0o600).unwrap());
    }

    #[test]
    fn a_write_that_fails_leaves_the_old_file_and_no_other() {
        let tmp = tempfile::tempdir().unwrap();
        let dir = Dir::open_root(tmp.path()).unwrap();
        std::fs::create_dir(tmp.path().join("d")).unwrap();
        std::fs::write(tmp.path().join("d/x"), "").unwrap();
        assert!(write(&dir, OsStr::new("d"), b"file over directory", 0o644).is_err());
        assert_eq!(dir.names(10).unwrap(), ["d"]);
    }

    #[test]
    fn only_leftovers_are_removed() {
        let tmp = tempfile::tempdir().unwrap();
        std::fs::write(tmp.path().join(temp_name()), "").unwrap();
        std::fs::write(tmp.path().join("kept"), "").unwrap();
        let dir = Dir::open_root(tmp.path()).unwrap();
        assert_eq!(remove_leftovers(&dir).unwrap(), 1);
        assert_eq!(dir.names(10).unwrap(), ["kept"]);
    }
}
