//! A directory tree held by a descriptor, and paths opened below it.
//!
//! Every path is resolved by the kernel with `openat2` below the held directory: a component that is a symbolic link, or that leads out, makes the
//! operation fail; where `openat2` is refused, `steps.rs` does the same. So nobody who can write somewhere in the tree can send a write of root's elsewhere, however the moments fall.

use crate::{FileError, steps};
use atlas_model::TreePath;
use nix::{
    dir::Dir as RawDir,
    errno::Errno,
    fcntl::{AtFlags, OFlag, OpenHow, ResolveFlag, open, openat2, readlinkat},
    libc::{RENAME_EXCHANGE, RENAME_NOREPLACE, SYS_renameat2, c_uint, syscall},
    sys::stat::{FileStat, Mode, SFlag, fstatat, mkdirat},
    unistd::{UnlinkatFlags, fsync, unlinkat},
};
use std::{
    ffi::{CString, OsStr, OsString},
    fs::File,
    io::Read,
    os::{
        fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd},
        unix::ffi::{OsStrExt, OsStringExt},
    },
    path::{Component, Path, PathBuf},
};

/// A directory held open.
#[derive(Debug)]
pub struct Dir {
    fd: OwnedFd,
    /// For messages only; never resolved again.
    shown: PathBuf,
}

/// What lies at a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ObjectType {
    /// A regular file.
    File,
    /// A directory.
    Dir,
    /// A symbolic link.
    Link,
    /// A device, pipe or socket.
    Special,
}

impl ObjectType {
    /// Of what `stat` says.
    pub fn of(stat: &FileStat) -> ObjectType {
        match SFlag::from_bits_truncate(stat.st_mode) & SFlag::S_IFMT {
            SFlag::S_IFREG => ObjectType::File,
            SFlag::S_IFDIR => ObjectType::Dir,
            SFlag::S_IFLNK => ObjectType::Link,
            _ => ObjectType::Special,
        }
    }
}

impl Dir {
    /// Opens a directory that the caller names; links in this one path are followed, as everywhere in the shell.
    pub fn open_root(path: impl AsRef<Path>) -> Result<Dir, FileError> {
        let path = path.as_ref();
        let fd =
            open(path, OFlag::O_DIRECTORY | OFlag::O_CLOEXEC, Mode::empty()).map_err(FileError::on("open", path))?;
        Ok(Dir { fd, shown: path.to_owned() })
    }

    /// The path as it was opened, for messages.
    pub fn shown(&self) -> &Path {
        &self.shown
    }

    /// A path of the tree as messages name it.
    pub fn show(&self, path: impl AsRef<Path>) -> PathBuf {
        self.shown.join(path.as_ref().strip_prefix("/").unwrap_or(path.as_ref()))
    }

    fn openat2(&self, path: &Path, flags: OFlag, mode: u32) -> nix::Result<OwnedFd> {
        let resolve =
            ResolveFlag::RESOLVE_BENEATH | ResolveFlag::RESOLVE_NO_SYMLINKS | ResolveFlag::RESOLVE_NO_MAGICLINKS;
        let mode = Mode::from_bits_truncate(mode);
        let how = OpenHow::new().flags(flags | OFlag::O_CLOEXEC).mode(mode).resolve(resolve);
        match again(|| openat2(&self.fd, path, how)) {
            // A filter of system calls, as systemd's RestrictSUIDSGID= is one.
            Err(Errno::ENOSYS | Errno::EPERM) => steps::open_below(self.fd.as_fd(), path, flags, mode),
            opened => opened,
        }
    }

    /// Opens a directory below.
    pub fn dir(&self, path: impl AsRef<Path>) -> Result<Dir, FileError> {
        let path = path.as_ref();
        let fd =
            self.openat2(path, OFlag::O_DIRECTORY, 0).map_err(FileError::on("open the directory", self.show(path)))?;
        Ok(Dir { fd, shown: self.show(path) })
    }

    /// Opens a directory below, links followed as if this one were the root directory: only for what is read and never written.
    pub fn followed_dir(&self, path: impl AsRef<Path>) -> Result<Dir, FileError> {
        let path = path.as_ref();
        let fd =
            self.followed(path, OFlag::O_DIRECTORY).map_err(FileError::on("open the directory", self.show(path)))?;
        Ok(Dir { fd, shown: self.show(path) })
    }

    fn followed(&self, path: &Path, flags: OFlag) -> nix::Result<OwnedFd> {
        let resolve = ResolveFlag::RESOLVE_IN_ROOT | ResolveFlag::RESOLVE_NO_MAGICLINKS;
        let how = OpenHow::new().flags(flags | OFlag::O_CLOEXEC).resolve(resolve);
        again(|| openat2(&self.fd, path, how))
    }

    /// Opens the directory that holds `path`, and gives the last component.
    pub fn parent_of<'p>(&self, path: &'p TreePath) -> Result<(Dir, &'p OsStr), FileError> {
        let parent = path.parent();
        let dir = self.dir(parent.as_ref().map_or(Path::new("."), |parent| parent.relative()))?;
        Ok((dir, path.name()))
    }

    /// Opens a regular file for reading. Anything else, a pipe that would block for ever above all, is refused.
    pub fn file(&self, path: impl AsRef<Path>) -> Result<File, FileError> {
        self.file_for(path.as_ref(), OFlag::O_RDONLY)
    }

    /// The same for reading and writing in place, as only a lock needs it.
    pub fn file_to_write(&self, path: impl AsRef<Path>) -> Result<File, FileError> {
        self.file_for(path.as_ref(), OFlag::O_RDWR)
    }

    fn file_for(&self, path: &Path, access: OFlag) -> Result<File, FileError> {
        self.regular(path, self.openat2(path, access | OFlag::O_NONBLOCK | OFlag::O_NOCTTY, 0))
    }

    fn regular(&self, path: &Path, opened: nix::Result<OwnedFd>) -> Result<File, FileError> {
        let fd = opened.map_err(FileError::on("open", self.show(path)))?;
        let stat = nix::sys::stat::fstat(&fd).map_err(FileError::on("look at", self.show(path)))?;
        if ObjectType::of(&stat) != ObjectType::File {
            return Err(FileError::on("read", self.show(path))(std::io::Error::other("it is no regular file")));
        }
        Ok(File::from(fd))
    }

    /// Opens whatever is there for reading, without waiting for anything. The caller looks at what it is before it reads.
    pub(crate) fn open_any(&self, path: &Path) -> Result<OwnedFd, FileError> {
        // The message is made only where there is an error: this is called for every file of a tree.
        self.openat2(path, OFlag::O_RDONLY | OFlag::O_NONBLOCK | OFlag::O_NOCTTY, 0)
            .map_err(|errno| FileError::on("open", self.show(path))(errno))
    }

    /// Reads a file whole, at most `limit` bytes; the bound stands in the error.
    pub fn read(&self, path: impl AsRef<Path>, limit: usize) -> Result<Vec<u8>, FileError> {
        let path = path.as_ref();
        self.whole(path, &self.file(path)?, limit)
    }

    /// Like [`Dir::read`], with links followed as if this directory were the root directory: only for what others than ATLAS read so, too.
    pub fn read_followed(&self, path: impl AsRef<Path>, limit: usize) -> Result<Vec<u8>, FileError> {
        let path = path.as_ref();
        let opened = self.followed(path, OFlag::O_RDONLY | OFlag::O_NONBLOCK | OFlag::O_NOCTTY);
        self.whole(path, &self.regular(path, opened)?, limit)
    }

    fn whole(&self, path: &Path, file: &File, limit: usize) -> Result<Vec<u8>, FileError> {
        let mut content = Vec::new();
        file.take(limit as u64 + 1).read_to_end(&mut content).map_err(FileError::on("read", self.show(path)))?;
        if content.len() > limit {
            let too_large = format!("it is too large (at most {limit} bytes are read)");
            let source = std::io::Error::new(std::io::ErrorKind::FileTooLarge, too_large);
            return Err(FileError::on("read", self.show(path))(source));
        }
        Ok(content)
    }

    /// Like [`Dir::read`]; `None` where there is no such file.
    pub fn read_if_there(&self, path: impl AsRef<Path>, limit: usize) -> Result<Option<Vec<u8>>, FileError> {
        match self.read(path, limit) {
            Ok(content) => Ok(Some(content)),
            Err(error) if error.is_not_found() => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// What lies at `name` (one component), links not followed; `None` where nothing does.
    pub fn stat(&self, name: &OsStr) -> Result<Option<FileStat>, FileError> {
        match fstatat(&self.fd, name, AtFlags::AT_SYMLINK_NOFOLLOW) {
            Ok(stat) => Ok(Some(stat)),
            Err(Errno::ENOENT) => Ok(None),
            Err(errno) => Err(FileError::on("look at", self.show(name))(errno)),
        }
    }

    /// Whether what lies at `name` was made immutable, or may only grow (`chattr +i`, `+a`), so that nothing can take its place. A file system
    /// that knows of neither has no such files.
    pub fn is_fixed(&self, name: &OsStr) -> Result<bool, FileError> {
        use nix::libc::{AT_SYMLINK_NOFOLLOW, STATX_ATTR_APPEND, STATX_ATTR_IMMUTABLE, statx};
        let failed = || self.show(name);
        let path = std::ffi::CString::new(name.as_bytes()).map_err(FileError::on("look at", failed()))?;
        // SAFETY: all zeroes are a valid value of this structure of numbers.
        let mut found: statx = unsafe { std::mem::zeroed() };
        // SAFETY: the descriptor and the string live longer than the call, and the kernel writes one such structure.
        let result = unsafe { statx(self.fd.as_raw_fd(), path.as_ptr(), AT_SYMLINK_NOFOLLOW, 0, &raw mut found) };
        Errno::result(result).map_err(FileError::on("look at", failed()))?;
        let fixed = (STATX_ATTR_IMMUTABLE | STATX_ATTR_APPEND) as u64;
        Ok(found.stx_attributes & found.stx_attributes_mask & fixed != 0)
    }

    /// Where the link at `name` points to.
    pub fn read_link(&self, name: &OsStr) -> Result<OsString, FileError> {
        readlinkat(&self.fd, name).map_err(FileError::on("read the link", self.show(name)))
    }

    /// The names in this directory, sorted, at most `limit`.
    pub fn names(&self, limit: usize) -> Result<Vec<OsString>, FileError> {
        let failed = |error: Errno| FileError::on("list", self.shown.clone())(error);
        let fd = self.openat2(Path::new("."), OFlag::O_DIRECTORY, 0).map_err(failed)?;
        let mut names = Vec::new();
        for entry in RawDir::from_fd(fd).map_err(failed)?.iter() {
            let name = OsString::from_vec(entry.map_err(failed)?.file_name().to_bytes().to_vec());
            if name.as_bytes() != b"." && name.as_bytes() != b".." {
                names.push(name);
            }
            if names.len() > limit {
                let source = std::io::Error::other(format!("it has more than {limit} entries"));
                return Err(FileError::on("list", self.shown.clone())(source));
            }
        }
        names.sort_unstable();
        Ok(names)
    }

    /// Makes a directory with this mode, whatever the umask; says whether it was missing.
    pub fn make_dir(&self, name: impl AsRef<Path>, mode: u32) -> Result<bool, FileError> {
        let name = name.as_ref();
        match mkdirat(&self.fd, name, Mode::from_bits_truncate(mode)) {
            Ok(()) => {
                let made = self.dir(name)?;
                nix::sys::stat::fchmod(&made.fd, Mode::from_bits_truncate(mode))
                    .map_err(FileError::on("set the mode of", self.show(name)))?;
                Ok(true)
            }
            Err(Errno::EEXIST) => self.dir(name).map(|_| false),
            Err(errno) => Err(FileError::on("make the directory", self.show(name))(errno)),
        }
    }

    /// Makes every missing directory of `path`, mode 0755; links on the way are refused.
    pub fn make_dirs(&self, path: impl AsRef<Path>) -> Result<Dir, FileError> {
        let names = path.as_ref().components().filter(|part| matches!(part, Component::Normal(_)));
        // Most are there already: one call tells, in place of four for each component.
        if let Ok(dir) = self.dir(Path::new(".").join(names.clone().collect::<PathBuf>())) {
            return Ok(Dir { shown: self.show(names.collect::<PathBuf>()), ..dir });
        }
        let mut dir = self.dir(".")?;
        for name in names {
            dir.make_dir(name, 0o755)?;
            dir = dir.dir(name)?;
        }
        Ok(dir)
    }

    /// Creates a file that must not be there yet.
    pub fn create_new(&self, name: impl AsRef<Path>, mode: u32) -> Result<File, FileError> {
        let name = name.as_ref();
        self.openat2(name, OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_RDWR, mode)
            .map(File::from)
            .map_err(FileError::on("create", self.show(name)))
    }

    /// Renames within this tree, with `renameat2`'s flags.
    pub fn rename(&self, from: &OsStr, to_dir: &Dir, to: &OsStr, how: Rename) -> Result<(), FileError> {
        let flags: c_uint = match how {
            Rename::Replace => 0,
            Rename::Exchange => RENAME_EXCHANGE,
            Rename::NoReplace => RENAME_NOREPLACE,
        };
        let failed = || to_dir.show(to);
        let names = [from, to].map(|name| CString::new(name.as_bytes()));
        let [Ok(from), Ok(to)] = &names else {
            return Err(FileError::on("rename into place", failed())(Errno::EINVAL));
        };
        let (old, new) = (self.fd.as_raw_fd(), to_dir.fd.as_raw_fd());
        // SAFETY: the descriptors and the strings live longer than the call, which writes nothing of this process. Not every C library
        // has a function for it.
        let result = unsafe { syscall(SYS_renameat2, old, from.as_ptr(), new, to.as_ptr(), flags) };
        Errno::result(result).map(drop).map_err(FileError::on("rename into place", failed()))
    }

    /// Makes a second name for a file of the same file system.
    pub fn hard_link(&self, from: &OsStr, to_dir: &Dir, to: &OsStr) -> Result<(), FileError> {
        nix::unistd::linkat(&self.fd, from, &to_dir.fd, to, AtFlags::empty())
            .map_err(FileError::on("link", to_dir.show(to)))
    }

    /// Makes a symbolic link that must not be there yet.
    pub fn symlink(&self, target: &OsStr, name: &OsStr) -> Result<(), FileError> {
        nix::unistd::symlinkat(target, &self.fd, name).map_err(FileError::on("make the link", self.show(name)))
    }

    /// Removes a file, link or empty directory; says whether it was there.
    pub fn remove(&self, name: &OsStr) -> Result<bool, FileError> {
        let result = match unlinkat(&self.fd, name, UnlinkatFlags::NoRemoveDir) {
            Err(Errno::EISDIR) => unlinkat(&self.fd, name, UnlinkatFlags::RemoveDir),
            other => other,
        };
        match result {
            Ok(()) => Ok(true),
            Err(Errno::ENOENT) => Ok(false),
            Err(errno) => Err(FileError::on("remove", self.show(name))(errno)),
        }
    }

    /// Removes a whole tree below `name`, links not followed; says whether there was anything.
    pub fn remove_tree(&self, name: &OsStr) -> Result<bool, FileError> {
        match self.stat(name)? {
            None => Ok(false),
            Some(stat) if ObjectType::of(&stat) == ObjectType::Dir => {
                let below = self.dir(name)?;
                for inner in below.names(usize::MAX - 1)? {
                    below.remove_tree(&inner)?;
                }
                self.remove(name)
            }
            Some(_) => self.remove(name),
        }
    }

    /// Makes the names in this directory durable.
    pub fn sync(&self) -> Result<(), FileError> {
        fsync(&self.fd).map_err(FileError::on("flush", self.shown.clone()))
    }

    /// Makes everything durable that the file system of this directory holds.
    pub fn sync_file_system(&self) -> Result<(), FileError> {
        nix::unistd::syncfs(&self.fd).map_err(FileError::on("flush the file system of", self.shown.clone()))
    }
}

impl AsFd for Dir {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// What a rename does to what is there already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rename {
    /// Takes its place.
    Replace,
    /// The two change places, at one instant.
    Exchange,
    /// Fails.
    NoReplace,
}

/// How often a path is resolved again.
const ATTEMPTS: usize = 1000;

/// Opens once more what the kernel could not resolve because something, anywhere, was renamed or mounted at that moment: then it cannot
/// tell whether a `..` stays below, and says EAGAIN.
fn again(open: impl Fn() -> nix::Result<OwnedFd>) -> nix::Result<OwnedFd> {
    let mut attempts = 0;
    loop {
        attempts += 1;
        match open() {
            Err(Errno::EAGAIN) if attempts < ATTEMPTS => std::thread::yield_now(),
            opened => return opened,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    fn path(text: &str) -> TreePath {
        TreePath::parse(text).unwrap()
    }

    #[test]
    fn a_link_on_the_way_is_refused_even_within_the_tree() {
        let tmp = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(tmp.path().join("real")).unwrap();
        std::fs::write(tmp.path().join("real/f"), "x").unwrap();
        symlink("real", tmp.path().join("link")).unwrap();
        symlink("/etc", tmp.path().join("out")).unwrap();
        symlink("real/f", tmp.path().join("last")).unwrap();
        let dir = Dir::open_root(tmp.path()).unwrap();
        assert_eq!(dir.read("real/f", 10).unwrap(), b"x");
        for bad in ["link/f", "out/passwd", "last", "../x", "/etc/passwd"] {
            assert!(dir.read(bad, 100_000).is_err(), "{bad}");
        }
        assert!(dir.parent_of(&path("/out/new")).is_err());
    }

    #[test]
    fn a_file_beyond_the_limit_is_an_error_that_names_the_limit() {
        let tmp = tempfile::tempdir().unwrap();
        std::fs::write(tmp.path().join("f"), "12345").unwrap();
        let dir = Dir::open_root(tmp.path()).unwrap();
        assert_eq!(dir.read("f", 5).unwrap(), b"12345");
        assert!(dir.read("f", 4).unwrap_err().source.to_string().contains("4 bytes"));
        assert_eq!(dir.read_if_there("none", 4).unwrap(), None);
    }

    #[test]
    fn a_link_that_goes_up_is_followed_however_much_is_renamed_meanwhile() {
        let tmp = tempfile::tempdir().unwrap();
        for dir in ["available", "enabled", "busy/0"] {
            std::fs::create_dir_all(tmp.path().join(dir)).unwrap();
        }
        std::fs::write(tmp.path().join("available/site"), "x").unwrap();
        symlink("../available/site", tmp.path().join("enabled/site")).unwrap();
        let dir = Dir::open_root(tmp.path()).unwrap();
        let (busy, is_over) = (tmp.path().join("busy"), std::sync::atomic::AtomicBool::new(false));
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let (mut from, mut to) = (busy.join("0"), busy.join("1"));
                while !is_over.load(std::sync::atomic::Ordering::SeqCst) {
                    std::fs::rename(&from, &to).unwrap();
                    std::mem::swap(&mut from, &mut to);
                }
            });
            let failed = (0..20_000).find_map(|_| dir.read_followed("enabled/site", 10).err());
            is_over.store(true, std::sync::atomic::Ordering::SeqCst);
            assert!(failed.is_none(), "{failed:?}");
        });
    }

    #[test]
    fn a_pipe_is_refused_at_once() {
        let tmp = tempfile::tempdir().unwrap();
        nix::unistd::mkfifo(&tmp.path().join("p"), Mode::S_IRWXU).unwrap();
        assert!(Dir::open_root(tmp.path()).unwrap().read("p", 10).is_err());
    }

    #[test]
    fn a_tree_is_removed_without_following_links() {
        let tmp = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(tmp.path().join("t/a/b")).unwrap();
        std::fs::write(tmp.path().join("kept"), "x").unwrap();
        symlink("../kept", tmp.path().join("t/link")).unwrap();
        let dir = Dir::open_root(tmp.path()).unwrap();
        assert!(dir.remove_tree(OsStr::new("t")).unwrap());
        assert!(!dir.remove_tree(OsStr::new("t")).unwrap());
        assert!(tmp.path().join("kept").exists());
    }
}
