//! A log file that whoever writes to it waits for: `strace` writes the calls of a program to it, and so the program stands still after each
//! call that changes something, while we let the kernel write out what it likes.

use super::disk::attributes;
use fuser::{
    BackgroundSession, Config, Errno, FileHandle, Filesystem, Generation, INodeNo, LockOwner, OpenFlags, ReplyAttr,
    ReplyEmpty, ReplyEntry, ReplyWrite, Request, WriteFlags,
};
use std::{
    ffi::OsStr,
    path::{Path, PathBuf},
    sync::Mutex,
    time::{Duration, SystemTime},
};

const FILE: INodeNo = INodeNo(2);
const TTL: Duration = Duration::from_secs(3600);

/// The file, and who is told of each line.
#[derive(Debug)]
pub(crate) struct Gate {
    pub(crate) file: PathBuf,
    session: BackgroundSession,
}

impl Gate {
    /// Makes it below `at`, an empty directory. `told` gets the text of every write.
    pub(crate) fn open(at: &Path, told: impl FnMut(&str) + Send + 'static) -> Gate {
        let served = Served { told: Mutex::new(Box::new(told)) };
        let session = fuser::spawn_mount(served, at, &Config::default()).expect("FUSE is there (kernel module fuse)");
        Gate { file: at.join("calls"), session }
    }

    pub(crate) fn close(self) {
        self.session.umount_and_join().expect("nobody writes any more");
    }
}

type Told = Box<dyn FnMut(&str) + Send>;

struct Served {
    told: Mutex<Told>,
}

impl Filesystem for Served {
    fn lookup(&self, _req: &Request, _parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        if name == "calls" {
            reply.entry(&TTL, &attributes(FILE, 0), Generation(0));
        } else {
            reply.error(Errno::ENOENT);
        }
    }

    fn getattr(&self, _req: &Request, ino: INodeNo, _fh: Option<FileHandle>, reply: ReplyAttr) {
        reply.attr(&TTL, &attributes(ino, 0));
    }

    /// Opening truncates it.
    fn setattr(
        &self,
        _req: &Request,
        ino: INodeNo,
        _mode: Option<u32>,
        _uid: Option<u32>,
        _gid: Option<u32>,
        _size: Option<u64>,
        _atime: Option<fuser::TimeOrNow>,
        _mtime: Option<fuser::TimeOrNow>,
        _ctime: Option<SystemTime>,
        _fh: Option<FileHandle>,
        _crtime: Option<SystemTime>,
        _chgtime: Option<SystemTime>,
        _bkuptime: Option<SystemTime>,
        _flags: Option<fuser::BsdFileFlags>,
        reply: ReplyAttr,
    ) {
        reply.attr(&TTL, &attributes(ino, 0));
    }

    fn write(
        &self,
        _req: &Request,
        _ino: INodeNo,
        _fh: FileHandle,
        _offset: u64,
        data: &[u8],
        _write_flags: WriteFlags,
        _flags: OpenFlags,
        _lock_owner: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        (self.told.lock().unwrap())(&String::from_utf8_lossy(data));
        reply.written(u32::try_from(data.len()).unwrap());
    }

    fn flush(&self, _req: &Request, _ino: INodeNo, _fh: FileHandle, _lock_owner: LockOwner, reply: ReplyEmpty) {
        reply.ok();
    }
}
