//! Disks that record every write and every flush, in the order in which the kernel sends them.
//!
//! ```text
//!   ext4 ── loop device ── a file of this FUSE file system ── Event::Write, Event::Flush
//! ```
//!
//! What a program wrote and nobody flushed is in the kernel's memory only, and comes here late or never: as with a real disk.

use fuser::{
    BackgroundSession, Config, Errno, FileAttr, FileHandle, FileType, Filesystem, Generation, INodeNo, LockOwner,
    OpenFlags, ReplyAttr, ReplyData, ReplyEmpty, ReplyEntry, ReplyWrite, Request, WriteFlags,
};
use std::{
    ffi::OsStr,
    path::{Path, PathBuf},
    process::Command,
    sync::{Arc, Mutex},
    time::{Duration, UNIX_EPOCH},
};

/// All bytes of a disk.
pub(crate) type Image = Vec<u8>;

/// The size of a disk in bytes: the smallest that has a journal of the usual kind.
pub(crate) const SIZE: usize = 16 << 20;

/// As `atlas init` makes the Unbound file system.
const FEATURES: &str = "none,has_journal,ext_attr,resize_inode,dir_index,filetype,extent,64bit,flex_bg,sparse_super,large_file,\
                        huge_file,dir_nlink,extra_isize,metadata_csum";

/// What came to the disks.
#[derive(Debug)]
pub(crate) enum Event {
    Write {
        disk: usize,
        at: usize,
        data: Vec<u8>,
    },
    /// All that came to this disk before is durable.
    Flush {
        disk: usize,
    },
    /// A program made this system call; no disk knows of it.
    Call(String),
}

/// What came, first to last.
pub(crate) type Log = Arc<Mutex<Vec<Event>>>;

/// Disks that are in use, and recorded.
#[derive(Debug)]
pub(crate) struct Disks {
    /// The files that are the disks.
    pub(crate) files: Vec<PathBuf>,
    at: PathBuf,
    images: Arc<Vec<Mutex<Image>>>,
    session: BackgroundSession,
}

impl Disks {
    /// Shows `images` as files below `at`, an empty directory.
    pub(crate) fn attach(at: &Path, images: Vec<Image>, log: &Log) -> Disks {
        let files = (0..images.len()).map(|disk| at.join(disk.to_string())).collect();
        let images = Arc::new(images.into_iter().map(Mutex::new).collect::<Vec<_>>());
        let served = Served { images: images.clone(), log: log.clone() };
        let session = fuser::spawn_mount(served, at, &Config::default()).expect("FUSE is there (kernel module fuse)");
        Disks { files, at: at.to_owned(), images, session }
    }

    /// What came to them, flushed or not.
    pub(crate) fn images(&self) -> Vec<Image> {
        self.images.iter().map(|image| image.lock().unwrap().clone()).collect()
    }

    pub(crate) fn detach(self) {
        // Whoever watches devices may still look at a loop device that was just let go of.
        unmount(&self.at);
        self.session.join().expect("the disks were served to the end");
    }
}

/// A disk with an empty file system.
pub(crate) fn empty(scratch: &Path) -> Image {
    let file = scratch.join("empty");
    std::fs::write(&file, vec![0; SIZE]).unwrap();
    run(Command::new("mke2fs").args(["-q", "-t", "ext4", "-b", "4096", "-I", "256", "-O", FEATURES]).arg(&file));
    let image = std::fs::read(&file).unwrap();
    std::fs::remove_file(file).unwrap();
    image
}

/// Mounts the file system in `file`; its journal is replayed where it was cut off.
pub(crate) fn mount(file: &Path, at: &Path) {
    run(Command::new("mount").args(["-t", "ext4", "-o", "loop"]).args([file, at]));
}

/// Unmounts it; whoever still works there has some time to end.
pub(crate) fn unmount(at: &Path) {
    for _ in 0..600 {
        if Command::new("umount").arg("-q").arg(at).output().unwrap().status.success() {
            return;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    panic!("somebody still works in {}", at.display());
}

pub(crate) fn run(command: &mut Command) {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
}

struct Served {
    images: Arc<Vec<Mutex<Image>>>,
    log: Log,
}

const TTL: Duration = Duration::from_secs(3600);

pub(crate) fn attributes(ino: INodeNo, size: usize) -> FileAttr {
    let is_root = ino == INodeNo::ROOT;
    FileAttr {
        ino,
        size: size as u64,
        blocks: size as u64 / 512,
        atime: UNIX_EPOCH,
        mtime: UNIX_EPOCH,
        ctime: UNIX_EPOCH,
        crtime: UNIX_EPOCH,
        kind: if is_root { FileType::Directory } else { FileType::RegularFile },
        perm: if is_root { 0o700 } else { 0o600 },
        nlink: 1,
        uid: 0,
        gid: 0,
        rdev: 0,
        blksize: 4096,
        flags: 0,
    }
}

impl Served {
    fn disk(&self, ino: INodeNo) -> usize {
        usize::try_from(u64::from(ino)).unwrap() - 2
    }
}

impl Filesystem for Served {
    fn lookup(&self, _req: &Request, _parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        match name.to_str().and_then(|name| name.parse::<usize>().ok()).filter(|disk| *disk < self.images.len()) {
            Some(disk) => reply.entry(&TTL, &attributes(INodeNo(disk as u64 + 2), SIZE), Generation(0)),
            None => reply.error(Errno::ENOENT),
        }
    }

    fn getattr(&self, _req: &Request, ino: INodeNo, _fh: Option<FileHandle>, reply: ReplyAttr) {
        reply.attr(&TTL, &attributes(ino, if ino == INodeNo::ROOT { 0 } else { SIZE }));
    }

    fn read(
        &self,
        _req: &Request,
        ino: INodeNo,
        _fh: FileHandle,
        offset: u64,
        size: u32,
        _flags: OpenFlags,
        _lock_owner: Option<LockOwner>,
        reply: ReplyData,
    ) {
        let image = self.images[self.disk(ino)].lock().unwrap();
        let start = usize::try_from(offset).unwrap().min(image.len());
        reply.data(&image[start..(start + size as usize).min(image.len())]);
    }

    fn write(
        &self,
        _req: &Request,
        ino: INodeNo,
        _fh: FileHandle,
        offset: u64,
        data: &[u8],
        _write_flags: WriteFlags,
        _flags: OpenFlags,
        _lock_owner: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        let (disk, at) = (self.disk(ino), usize::try_from(offset).unwrap());
        self.images[disk].lock().unwrap()[at..at + data.len()].copy_from_slice(data);
        self.log.lock().unwrap().push(Event::Write { disk, at, data: data.to_vec() });
        reply.written(u32::try_from(data.len()).unwrap());
    }

    fn fsync(&self, _req: &Request, ino: INodeNo, _fh: FileHandle, _datasync: bool, reply: ReplyEmpty) {
        self.log.lock().unwrap().push(Event::Flush { disk: self.disk(ino) });
        reply.ok();
    }

    fn flush(&self, _req: &Request, _ino: INodeNo, _fh: FileHandle, _lock_owner: LockOwner, reply: ReplyEmpty) {
        reply.ok();
    }
}
