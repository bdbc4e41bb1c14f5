//! What tells without reading whether an object is still the one that was read.

use crate::{
    FileError, object,
    tree::{Dir, ObjectType},
};
use atlas_model::manifest::Kind;
use nix::sys::stat::{FileStat, fstat};
use std::{ffi::OsStr, fs::File, io};

/// Where an object lies and when it changed last. The same stamp means the same content, owner, mode and attributes, unless the change
/// falls into the clock tick in which the stamp was taken: every change sets `ctime`, which no program can set back.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Stamp {
    /// The file system.
    pub dev: u64,
    /// The object in it.
    pub ino: u64,
    /// Its length in bytes.
    pub size: u64,
    /// Type and permission bits; 0 where nothing is.
    pub mode: u32,
    /// The owner's number.
    pub uid: u32,
    /// The group's number.
    pub gid: u32,
    /// When its content changed, in nanoseconds since 1970.
    pub mtime_ns: i64,
    /// When anything of it changed, in nanoseconds since 1970.
    pub ctime_ns: i64,
}

impl Stamp {
    /// Of what `stat` says.
    pub fn of(stat: &FileStat) -> Stamp {
        let nanoseconds = |seconds: i64, rest: i64| seconds.saturating_mul(1_000_000_000).saturating_add(rest);
        Stamp {
            dev: stat.st_dev,
            ino: stat.st_ino,
            size: u64::try_from(stat.st_size).unwrap_or(0),
            mode: stat.st_mode,
            uid: stat.st_uid,
            gid: stat.st_gid,
            mtime_ns: nanoseconds(stat.st_mtime, stat.st_mtime_nsec),
            ctime_ns: nanoseconds(stat.st_ctime, stat.st_ctime_nsec),
        }
    }
}

/// Reads the object that `stat` was just said of; `None` where it is no longer that one, or changed while it was read.
pub fn read_unmoved(dir: &Dir, name: &OsStr, stat: &FileStat) -> Result<Option<Kind>, FileError> {
    let now = |stat: Option<FileStat>| stat.map(|stat| Stamp::of(&stat));
    let kind = match ObjectType::of(stat) {
        ObjectType::File => match dir.open_any(name.as_ref()) {
            Ok(file) => {
                let file = File::from(file);
                // What was opened may be something else by now: then its stamp is another, and what was read does not count.
                let kind = object::read_file(&file, stat, dir, name);
                let after = fstat(&file).map_err(FileError::on("look at", dir.show(name)))?;
                return if Stamp::of(&after) == Stamp::of(stat) { kind.map(Some) } else { Ok(None) };
            }
            Err(error) => Err(error),
        },
        _ => object::read(dir, name),
    };
    let is_same = now(dir.stat(name)?) == Some(Stamp::of(stat));
    match kind {
        Ok(kind) => Ok(is_same.then_some(kind)),
        Err(error) if is_same || error.source.kind() == io::ErrorKind::PermissionDenied => Err(error),
        Err(_) => Ok(None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{fs, os::unix::fs::PermissionsExt};

    fn stat(dir: &Dir, name: &str) -> FileStat {
        dir.stat(name.as_ref()).unwrap().unwrap()
    }

    #[test]
    fn every_kind_of_change_changes_the_stamp() {
        let tmp = tempfile::tempdir_in(env!("CARGO_MANIFEST_DIR")).unwrap();
        let file = tmp.path().join("f");
        fs::write(&file, "one").unwrap();
        let dir = Dir::open_root(tmp.path()).unwrap();
        type Change = fn(&std::path::Path);
        let changes: [Change; 4] = [
            |file| fs::write(file, "two").unwrap(),
            |file| fs::set_permissions(file, PermissionsExt::from_mode(0o640)).unwrap(),
            |file| xattr::set(file, "user.colour", b"blue").unwrap(),
            |file| {
                let time = fs::metadata(file).unwrap().modified().unwrap();
                fs::write(file, "six").unwrap();
                fs::File::options().write(true).open(file).unwrap().set_modified(time).unwrap();
            },
        ];
        for change in changes {
            let before = stat(&dir, "f");
            // Beyond the tick of the kernel's clock.
            std::thread::sleep(std::time::Duration::from_millis(20));
            change(&file);
            assert_ne!(Stamp::of(&before), Stamp::of(&stat(&dir, "f")));
            assert_eq!(read_unmoved(&dir, "f".as_ref(), &before).unwrap(), None, "it is no longer what was seen");
        }
    }

    #[test]
    fn what_gave_way_to_something_else_is_told_as_moved_and_what_cannot_be_read_is_an_error() {
        let tmp = tempfile::tempdir().unwrap();
        let dir = Dir::open_root(tmp.path()).unwrap();
        fs::write(tmp.path().join("f"), "one").unwrap();
        let seen = stat(&dir, "f");
        assert!(matches!(read_unmoved(&dir, "f".as_ref(), &seen).unwrap(), Some(Kind::File { size: 3, .. })));
        fs::remove_file(tmp.path().join("f")).unwrap();
        assert_eq!(read_unmoved(&dir, "f".as_ref(), &seen).unwrap(), None);
        std::os::unix::fs::symlink("x", tmp.path().join("f")).unwrap();
        assert_eq!(read_unmoved(&dir, "f".as_ref(), &seen).unwrap(), None);
        nix::unistd::mkfifo(&tmp.path().join("p"), nix::sys::stat::Mode::S_IRWXU).unwrap();
        assert!(read_unmoved(&dir, "p".as_ref(), &stat(&dir, "p")).is_err());
    }
}
