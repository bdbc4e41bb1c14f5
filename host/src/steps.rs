//! Opening a path below a held directory one name at a time, no link followed: for where `openat2` is refused.
//!
//! systemd's `RestrictSUIDSGID=` answers `openat2` with ENOSYS, because its filter cannot see the mode; udev, and with it whatever its rules
//! run, has it. What `openat2` keeps below the directory, these steps do, too: no name is a link, none is `..`, and each is opened in
//! a directory that is held.

use nix::{
    errno::Errno,
    fcntl::{OFlag, openat},
    sys::stat::Mode,
};
use std::{
    ffi::OsStr,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    path::{Component, Path},
};

/// Opens `path` below `dir`, as `openat2` does with `RESOLVE_BENEATH` and `RESOLVE_NO_SYMLINKS`.
pub(crate) fn open_below(dir: BorrowedFd<'_>, path: &Path, flags: OFlag, mode: Mode) -> nix::Result<OwnedFd> {
    let mut names = Vec::new();
    for component in path.components() {
        match component {
            Component::CurDir => {}
            Component::Normal(name) => names.push(name),
            _ => return Err(Errno::EXDEV),
        }
    }
    let last = names.pop().unwrap_or(OsStr::new("."));
    let mut held: Option<OwnedFd> = None;
    for name in names {
        let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let next = openat(held.as_ref().map_or(dir, AsFd::as_fd), name, flags, Mode::empty())?;
        held = Some(next);
    }
    openat(held.as_ref().map_or(dir, AsFd::as_fd), last, flags | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC, mode)
}

#[cfg(test)]
mod tests {
    use crate::{testing::refuse_openat2, tree::Dir};
    use std::{fs, os::unix::fs::symlink};

    #[test]
    fn where_openat2_is_refused_a_tree_is_written_and_no_link_is_followed() {
        let tmp = tempfile::tempdir().unwrap();
        fs::create_dir_all(tmp.path().join("real/below")).unwrap();
        fs::write(tmp.path().join("real/below/f"), "x").unwrap();
        symlink("real", tmp.path().join("link")).unwrap();
        symlink("real/below/f", tmp.path().join("last")).unwrap();
        symlink("/etc", tmp.path().join("out")).unwrap();
        std::thread::scope(|scope| {
            scope.spawn(|| {
                refuse_openat2();
                let dir = Dir::open_root(tmp.path()).unwrap();
                assert_eq!(dir.read("real/below/f", 10).unwrap(), b"x");
                assert_eq!(dir.read_if_there("real/none", 10).unwrap(), None);
                for bad in ["link/below/f", "out/passwd", "last", "../x", "real/../last", "/etc/passwd"] {
                    assert!(dir.read(bad, 100_000).is_err(), "{bad}");
                }
                let made = dir.make_dirs("new/deep").unwrap();
                crate::durable::write(&made, "g".as_ref(), b"y", 0o600).unwrap();
                assert!(dir.make_dirs("out/new").is_err());
                assert_eq!(made.names(10).unwrap(), ["g"]);
            });
        });
        assert_eq!(fs::read(tmp.path().join("new/deep/g")).unwrap(), b"y");
    }
}
