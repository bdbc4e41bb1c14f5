//! One object of a tree: read what it is, or make one exactly like it.
//!
//! What is carried: content, owner and group by number, permission bits, extended attributes (POSIX ACLs are two of them), the
//! modification time; of a link its target and owner. Devices, pipes and sockets are no configuration and are refused.

use crate::{
    FileError,
    tree::{Dir, ObjectType},
};
use atlas_model::{
    Digest,
    manifest::{Kind, Meta},
    tree_path::{escape, unescape},
};
use nix::{
    fcntl::AtFlags,
    sys::{
        stat::{FileStat, Mode, UtimensatFlags, fchmod, futimens, utimensat},
        time::TimeSpec,
    },
    unistd::{Gid, Uid, fchown, fchownat},
};
use sha2::{Digest as _, Sha256};
use std::{
    collections::BTreeMap,
    ffi::{OsStr, OsString},
    fs::File,
    io::{self, Read, Write},
    os::{
        fd::{AsFd, AsRawFd},
        unix::ffi::{OsStrExt, OsStringExt},
    },
    path::Path,
};
use xattr::FileExt;

/// Reads what lies at `name`. Every byte of a file is read for its digest.
pub fn read(dir: &Dir, name: &OsStr) -> Result<Kind, FileError> {
    let Some(stat) = dir.stat(name)? else { return Ok(Kind::Absent) };
    match ObjectType::of(&stat) {
        ObjectType::File => read_file(&dir.file(name)?, &stat, dir, name),
        ObjectType::Dir => {
            let opened = open_dir_as_file(&dir.dir(name)?, dir, name)?;
            Ok(Kind::Dir { meta: meta(dir, name, &stat, Some(&opened))? })
        }
        ObjectType::Link => {
            let target = escape(dir.read_link(name)?.as_bytes());
            Ok(Kind::Link { target, meta: Meta { mode: 0, ..meta(dir, name, &stat, None)? } })
        }
        ObjectType::Special => {
            let source = io::Error::other("it is a device, pipe or socket, which is no configuration");
            Err(FileError::on("read", dir.show(name))(source))
        }
    }
}

/// Reads the open file at `name`, of which `stat` was said.
pub(crate) fn read_file(file: &File, stat: &FileStat, dir: &Dir, name: &OsStr) -> Result<Kind, FileError> {
    let (size, sha256) = digest(file, stat.st_size).map_err(|error| FileError::on("read", dir.show(name))(error))?;
    Ok(Kind::File { size, sha256, meta: meta(dir, name, stat, Some(file))? })
}

/// Like [`read`], for comparing with `wanted`: exact where the two are the same, cheaper where they are not.
///
/// A file whose length differs is not read (its digest is that of nothing); a device, pipe or socket is given as a link to nowhere,
/// which no Snapshot holds.
pub fn read_to_compare(dir: &Dir, name: &OsStr, wanted: &Kind) -> Result<Kind, FileError> {
    match (dir.stat(name)?, wanted) {
        (Some(stat), Kind::File { size, .. })
            if ObjectType::of(&stat) == ObjectType::File && u64::try_from(stat.st_size) != Ok(*size) =>
        {
            let size = u64::try_from(stat.st_size).unwrap_or(0);
            Ok(Kind::File { size, sha256: Digest::of(b""), meta: meta(dir, name, &stat, None)? })
        }
        (Some(stat), _) if ObjectType::of(&stat) == ObjectType::Special => {
            Ok(Kind::Link { target: String::new(), meta: meta(dir, name, &stat, None)? })
        }
        _ => read(dir, name),
    }
}

/// Like [`read_to_compare`], but a file whose size, time, owner, mode and attributes are those of `wanted` is taken for it, unread.
pub fn look_to_compare(dir: &Dir, name: &OsStr, wanted: &Kind) -> Result<Kind, FileError> {
    if let (Some(stat), Kind::File { size, sha256, meta: said }) = (dir.stat(name)?, wanted)
        && ObjectType::of(&stat) == ObjectType::File
        && u64::try_from(stat.st_size) == Ok(*size)
        && (stat.st_mtime, u32::try_from(stat.st_mtime_nsec)) == (said.mtime, Ok(said.mtime_ns))
    {
        let file = if has_no_attributes(dir, name) { None } else { Some(dir.file(name)?) };
        return Ok(Kind::File { size: *size, sha256: *sha256, meta: meta(dir, name, &stat, file.as_ref())? });
    }
    read_to_compare(dir, name, wanted)
}

/// `expected` is how long the file probably is.
fn digest(file: &File, expected: i64) -> io::Result<(u64, Digest)> {
    copy(file, &mut io::sink(), u64::try_from(expected).unwrap_or(0))
}

fn meta(dir: &Dir, name: &OsStr, stat: &FileStat, file: Option<&File>) -> Result<Meta, FileError> {
    let mut xattrs = BTreeMap::new();
    if let Some(file) = file {
        let failed = |source: io::Error| FileError::on("read the attributes of", dir.show(name))(source);
        for key in supported(file.list_xattr()).map_err(failed)?.into_iter().flatten() {
            if let Some(value) = file.get_xattr(&key).map_err(failed)? {
                xattrs.insert(escape(key.as_bytes()), value.iter().map(|b| format!("{b:02x}")).collect());
            }
        }
    }
    Ok(Meta {
        mode: stat.st_mode & 0o7777,
        uid: stat.st_uid,
        gid: stat.st_gid,
        mtime: stat.st_mtime,
        mtime_ns: u32::try_from(stat.st_mtime_nsec).unwrap_or(0),
        xattrs,
    })
}

/// Whether it is certain that there are none: one call, where to open the file would take four. The name is the last of a path through a
/// directory that is held open, and is not followed.
fn has_no_attributes(dir: &Dir, name: &OsStr) -> bool {
    let path = Path::new("/proc/self/fd").join(dir.as_fd().as_raw_fd().to_string()).join(name);
    xattr::list(path).is_ok_and(|mut keys| keys.next().is_none())
}

/// A file system without extended attributes has none; that is no failure.
fn supported<T>(result: io::Result<T>) -> io::Result<Option<T>> {
    match result {
        Err(error) if error.raw_os_error() == Some(nix::libc::EOPNOTSUPP) => Ok(None),
        other => other.map(Some),
    }
}

fn open_dir_as_file(opened: &Dir, dir: &Dir, name: &OsStr) -> Result<File, FileError> {
    opened.as_fd().try_clone_to_owned().map(File::from).map_err(FileError::on("open", dir.show(name)))
}

/// Makes the object `to` in `to_dir` like `kind`, the content taken from `from` in `from_dir`. The name must be free.
///
/// The content is checked against the digest while it is copied: what differs is an error, and the caller removes what was begun.
/// Nothing is flushed yet: the caller flushes once for all that it makes. Directories are made empty.
pub fn make(kind: &Kind, from_dir: &Dir, from: &OsStr, to_dir: &Dir, to: &OsStr) -> Result<(), FileError> {
    let failed = |action| FileError::on::<io::Error>(action, to_dir.show(to));
    match kind {
        Kind::Absent => Ok(()),
        Kind::File { size, sha256, meta } => {
            let source = from_dir.file(from)?;
            let copied = write_new(&source, *size, meta, to_dir, to)?;
            if copied != (*size, *sha256) {
                let source = io::Error::other("its content is not what the Manifest says");
                return Err(FileError::on("copy", from_dir.show(from))(source));
            }
            Ok(())
        }
        Kind::Dir { meta } => {
            to_dir.make_dir(to, 0o700)?;
            update_dir(meta, to_dir, to)
        }
        Kind::Link { target, meta } => {
            let target = unescape(target).map(OsString::from_vec);
            let target =
                target.ok_or_else(|| failed("make the link")(io::Error::other("its target cannot be read")))?;
            to_dir.symlink(&target, to)?;
            let (uid, gid) = owners(meta);
            fchownat(to_dir, to, uid, gid, AtFlags::AT_SYMLINK_NOFOLLOW)
                .and_then(|()| {
                    let time = time_of(meta);
                    utimensat(to_dir, to, &time, &time, UtimensatFlags::NoFollowSymlink)
                })
                .map_err(FileError::on("set the owner of", to_dir.show(to)))
        }
    }
}

/// Like [`make`], for a file whose content is at hand; another kind has no content and is made the same way.
pub fn make_of(kind: &Kind, content: &[u8], to_dir: &Dir, to: &OsStr) -> Result<(), FileError> {
    match kind {
        Kind::File { size, meta, .. } => write_new(content, *size, meta, to_dir, to).map(drop),
        _ => make(kind, to_dir, to, to_dir, to),
    }
}

fn write_new(from: impl Read, size: u64, meta: &Meta, to_dir: &Dir, to: &OsStr) -> Result<(u64, Digest), FileError> {
    let mut target = to_dir.create_new(to, 0o600)?;
    let copied = copy(from, &mut target, size).map_err(FileError::on("write", to_dir.show(to)))?;
    set_meta(&target, meta).map_err(FileError::on("set owner, mode and attributes of", to_dir.show(to)))?;
    Ok(copied)
}

/// Gives a directory that is there the owner, mode and attributes of `meta`.
pub fn update_dir(meta: &Meta, dir: &Dir, name: &OsStr) -> Result<(), FileError> {
    let opened = open_dir_as_file(&dir.dir(name)?, dir, name)?;
    set_meta(&opened, meta).map_err(FileError::on("set owner, mode and attributes of", dir.show(name)))
}

/// Gives a directory its time again, after it was filled. Does nothing for other kinds.
pub fn make_dir_time(kind: &Kind, dir: &Dir, name: &OsStr) -> Result<(), FileError> {
    match kind {
        Kind::Dir { meta } => {
            let time = time_of(meta);
            utimensat(dir, name, &time, &time, UtimensatFlags::NoFollowSymlink)
                .map_err(FileError::on("set the time of", dir.show(name)))
        }
        _ => Ok(()),
    }
}

/// Copies all there is; gives its length and digest. `expected` is how long it probably is: a small file needs no large buffer, and is not
/// asked again whether it has ended.
pub fn copy(mut from: impl Read, to: &mut impl Write, expected: u64) -> io::Result<(u64, Digest)> {
    let length = usize::try_from(expected).unwrap_or(usize::MAX).saturating_add(1).clamp(512, 64 << 10);
    let (mut hash, mut size, mut buffer) = (Sha256::new(), 0, vec![0; length]);
    loop {
        let count = from.read(&mut buffer)?;
        hash.update(&buffer[..count]);
        to.write_all(&buffer[..count])?;
        size += count as u64;
        // Less than was asked for, where the end was expected, is the end.
        if count == 0 || (count < buffer.len() && size == expected) {
            return Ok((size, Digest::from_bytes(hash.finalize().into())));
        }
    }
}

fn owners(meta: &Meta) -> (Option<Uid>, Option<Gid>) {
    (Some(Uid::from_raw(meta.uid)), Some(Gid::from_raw(meta.gid)))
}

fn time_of(meta: &Meta) -> TimeSpec {
    TimeSpec::new(meta.mtime, i64::from(meta.mtime_ns))
}

/// Owner first: changing it clears set-id bits. Attributes that are there and not wanted go; the time comes last.
fn set_meta(file: &File, meta: &Meta) -> io::Result<()> {
    let (uid, gid) = owners(meta);
    fchown(file, uid, gid)?;
    fchmod(file, Mode::from_bits_truncate(meta.mode))?;
    for key in supported(file.list_xattr())?.into_iter().flatten() {
        if !meta.xattrs.contains_key(&escape(key.as_bytes())) {
            file.remove_xattr(&key)?;
        }
    }
    for (key, value) in &meta.xattrs {
        let key = unescape(key)
            .map(OsString::from_vec)
            .ok_or_else(|| io::Error::other("an attribute's name cannot be read"))?;
        let value = from_hex(value).ok_or_else(|| io::Error::other("an attribute's value cannot be read"))?;
        file.set_xattr(&key, &value)?;
    }
    let time = time_of(meta);
    Ok(futimens(file, &time, &time)?)
}

fn from_hex(text: &str) -> Option<Vec<u8>> {
    if !text.len().is_multiple_of(2) || !text.bytes().all(|b| b.is_ascii_hexdigit()) {
        return None;
    }
    (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{PermissionsExt, symlink};

    /// Makes a copy of every object of `names` and checks that it is the same in all that counts.
    fn assert_copied_alike(dir: &Dir, name: &str) -> Kind {
        let (from, to) = (OsStr::new(name), OsString::from(format!("{name}-copy")));
        let kind = read(dir, from).unwrap();
        make(&kind, dir, from, dir, &to).unwrap();
        let copied = read(dir, &to).unwrap();
        assert!(kind.same_as(&copied), "{kind:?}\n{copied:?}");
        kind
    }

    #[test]
    fn a_copy_has_content_mode_attributes_and_time() {
        let tmp = tempfile::tempdir_in(env!("CARGO_MANIFEST_DIR")).unwrap();
        let file = tmp.path().join("f");
        std::fs::write(&file, "content").unwrap();
        xattr::set(&file, "user.colour", b"blue\0").unwrap();
        std::fs::set_permissions(&file, PermissionsExt::from_mode(0o4751)).unwrap();
        File::options().write(true).open(&file).unwrap().set_modified(std::time::UNIX_EPOCH).unwrap();
        let dir = Dir::open_root(tmp.path()).unwrap();
        let Kind::File { meta, size: 7, .. } = assert_copied_alike(&dir, "f") else { panic!("no file") };
        assert_eq!((meta.mode, meta.mtime, meta.xattrs["user.colour"].as_str()), (0o4751, 0, "626c756500"));
        symlink("nowhere\n", tmp.path().join("l")).unwrap();
        assert!(matches!(assert_copied_alike(&dir, "l"), Kind::Link { target, .. } if target == "nowhere\\x0a"));
        std::fs::create_dir(tmp.path().join("d")).unwrap();
        assert_copied_alike(&dir, "d");
    }

    #[test]
    fn a_look_sees_an_attribute_that_came_went_or_changed() {
        let tmp = tempfile::tempdir_in(env!("CARGO_MANIFEST_DIR")).unwrap();
        let (file, name) = (tmp.path().join("a file"), OsStr::new("a file"));
        std::fs::write(&file, "content").unwrap();
        let dir = Dir::open_root(tmp.path()).unwrap();
        let without = read(&dir, name).unwrap();
        assert_eq!(look_to_compare(&dir, name, &without).unwrap(), without);
        xattr::set(&file, "user.colour", b"blue").unwrap();
        let with = read(&dir, name).unwrap();
        assert_eq!(look_to_compare(&dir, name, &without).unwrap(), with);
        assert_ne!(with, without);
        assert_eq!(look_to_compare(&dir, name, &with).unwrap(), with);
        xattr::set(&file, "user.colour", b"red").unwrap();
        assert_eq!(look_to_compare(&dir, name, &with).unwrap(), read(&dir, name).unwrap());
        xattr::remove(&file, "user.colour").unwrap();
        assert_eq!(look_to_compare(&dir, name, &with).unwrap(), without);
    }

    #[test]
    fn content_that_is_not_what_was_promised_is_an_error() {
        let tmp = tempfile::tempdir().unwrap();
        std::fs::write(tmp.path().join("f"), "one").unwrap();
        let dir = Dir::open_root(tmp.path()).unwrap();
        let promised = read(&dir, OsStr::new("f")).unwrap();
        std::fs::write(tmp.path().join("f"), "two").unwrap();
        let error = make(&promised, &dir, OsStr::new("f"), &dir, OsStr::new("g")).unwrap_err();
        assert!(error.source.to_string().contains("Manifest"));
    }

    #[test]
    fn what_is_not_there_is_absent_and_what_is_no_file_is_refused() {
        let tmp = tempfile::tempdir().unwrap();
        nix::unistd::mkfifo(&tmp.path().join("p"), Mode::S_IRWXU).unwrap();
        let dir = Dir::open_root(tmp.path()).unwrap();
        assert_eq!(read(&dir, OsStr::new("none")).unwrap(), Kind::Absent);
        assert!(read(&dir, OsStr::new("p")).is_err());
    }
}
