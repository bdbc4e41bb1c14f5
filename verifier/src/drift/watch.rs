//! What the kernel says of directories that count.

use atlas_model::TreePath;
use nix::{
    errno::Errno,
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::inotify::{AddWatchFlags, InitFlags, Inotify, InotifyEvent, WatchDescriptor},
};
use std::{
    collections::{BTreeSet, HashMap},
    os::{fd::AsFd, unix::ffi::OsStrExt},
    path::Path,
    time::Duration,
};

/// Directories that are watched.
#[derive(Debug, Default)]
pub(super) struct Watch {
    inotify: Option<Inotify>,
    dirs: HashMap<WatchDescriptor, Option<TreePath>>,
    /// How many could not be watched, though they are there.
    lacking: usize,
}

/// What was heard.
#[derive(Debug, Default)]
pub(super) struct Heard {
    /// Names that changed in some way.
    pub(super) paths: BTreeSet<TreePath>,
    /// Directories came or went, or more happened than the kernel could say: anything may have changed.
    pub(super) is_all: bool,
}

impl Watch {
    /// Watches these, below `root`. One that is not there shows at the one that holds it.
    pub(super) fn of(root: &Path, dirs: &BTreeSet<Option<TreePath>>) -> Watch {
        let flags = AddWatchFlags::IN_CLOSE_WRITE
            | AddWatchFlags::IN_ATTRIB
            | AddWatchFlags::IN_CREATE
            | AddWatchFlags::IN_DELETE
            | AddWatchFlags::IN_MOVE
            | AddWatchFlags::IN_DELETE_SELF
            | AddWatchFlags::IN_MOVE_SELF
            | AddWatchFlags::IN_ONLYDIR
            | AddWatchFlags::IN_DONT_FOLLOW;
        let Ok(inotify) = Inotify::init(InitFlags::IN_NONBLOCK | InitFlags::IN_CLOEXEC) else {
            return Watch { lacking: dirs.len(), ..Watch::default() };
        };
        let mut watch = Watch::default();
        for dir in dirs {
            let path = dir.as_ref().map_or_else(|| root.to_owned(), |dir| root.join(dir.relative()));
            match inotify.add_watch(&path, flags) {
                Ok(descriptor) => drop(watch.dirs.insert(descriptor, dir.clone())),
                Err(Errno::ENOENT | Errno::ENOTDIR | Errno::ELOOP) => {}
                Err(_) => watch.lacking += 1,
            }
        }
        watch.inotify = Some(inotify);
        watch
    }

    /// Whether everything that is there is watched.
    pub(super) fn is_whole(&self) -> bool {
        self.inotify.is_some() && self.lacking == 0
    }

    /// How many directories are not.
    pub(super) fn lacking(&self) -> usize {
        self.lacking
    }

    /// Waits for a change at most `longest`, and then for those that come with it.
    pub(super) fn wait(&self, longest: Duration, settle: Duration) -> Heard {
        let mut heard = Heard::default();
        let Some(inotify) = &self.inotify else {
            std::thread::sleep(longest);
            return heard;
        };
        let timeout = PollTimeout::try_from(longest).unwrap_or(PollTimeout::MAX);
        let mut fds = [PollFd::new(inotify.as_fd(), PollFlags::POLLIN)];
        if poll(&mut fds, timeout).unwrap_or(0) > 0 {
            std::thread::sleep(settle);
            while let Ok(events) = inotify.read_events() {
                events.iter().for_each(|event| self.take(event, &mut heard));
            }
        }
        heard
    }

    fn take(&self, event: &InotifyEvent, heard: &mut Heard) {
        let gone = AddWatchFlags::IN_Q_OVERFLOW
            | AddWatchFlags::IN_DELETE_SELF
            | AddWatchFlags::IN_MOVE_SELF
            | AddWatchFlags::IN_UNMOUNT;
        let came = AddWatchFlags::IN_CREATE | AddWatchFlags::IN_DELETE | AddWatchFlags::IN_MOVE;
        let is_dir = event.mask.contains(AddWatchFlags::IN_ISDIR);
        heard.is_all |= event.mask.intersects(gone) || is_dir && event.mask.intersects(came);
        let Some(dir) = self.dirs.get(&event.wd) else { return };
        match &event.name {
            Some(name) => {
                let dir = dir.as_ref().map_or(&b""[..], |dir| dir.as_path().as_os_str().as_bytes());
                heard.paths.extend(TreePath::new(&[dir, b"/", name.as_bytes()].concat()).ok());
            }
            // The directory itself: its owner or mode.
            None => heard.paths.extend(dir.clone()),
        }
    }
}
