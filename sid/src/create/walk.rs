//! One pass over everything that the path lists name: what has not changed since the last pass is not read.
//!
//! A pass shows the tree as it was at one moment, its beginning, unless something changed meanwhile; and a change shows: it sets the time of
//! the object, or of the directory that lost or got one. Then the pass is unsettled, and it is taken again.

use super::stat_cache::{Reader, Record, Writer, bytes, order};
use crate::{layout::SidError, scan::parent_of};
use atlas_host::{
    FileError, durable,
    stamp::{Stamp, read_unmoved},
    tree::{Dir, ObjectType},
};
use atlas_model::{
    PathList, TreePath,
    manifest::{Entry, FileSet, Kind, Manifest},
    reserved,
};
use nix::sys::stat::FileStat;
use std::{
    cmp::Ordering,
    collections::BTreeSet,
    ffi::{OsStr, OsString},
    hash::{DefaultHasher, Hash, Hasher},
    os::unix::ffi::OsStrExt,
    sync::{
        Arc, Mutex, PoisonError,
        mpsc::{Receiver, Sender, SyncSender, channel, sync_channel},
    },
    thread::{Scope, ScopedJoinHandle},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

/// The coarseness of the kernel's clock, and some more.
pub(crate) const TICK: Duration = Duration::from_millis(20);
/// How many objects are read at a time by one thread; fewer are not worth a thread.
const BATCH: usize = 64;
/// How many batches may wait; each of their objects may hold a directory open.
const WAITING: usize = 4;
/// How many of those that are passed over are named.
const MAX_NAMED: usize = 5;
/// How many threads read besides the one that looks for what to read.
const READERS: usize = 2;

/// What a pass found.
#[derive(Debug, Default)]
pub(crate) struct Pass {
    /// What was read, in the order of the Manifest.
    pub(crate) read: Vec<Entry>,
    /// What the last pass saw and this one did not, in the same order; empty where there was no last pass.
    pub(crate) gone: Vec<(FileSet, TreePath)>,
    /// How many objects there are in each set, those that are absent left out.
    pub(crate) objects: [usize; 2],
    /// Who owns anything.
    pub(crate) users: BTreeSet<u32>,
    pub(crate) groups: BTreeSet<u32>,
    /// How many objects there are with those that are absent.
    pub(crate) entries: usize,
    /// One that changed since the pass began, if there is any.
    pub(crate) unsettled: Option<TreePath>,
    /// One that changed while it was read: what was read of it is not to be used.
    pub(crate) moved: Option<TreePath>,
    /// The records of the last pass cannot be read to their end.
    pub(crate) is_cache_broken: bool,
    /// Whether everything was read, because nothing was known of the last pass.
    pub(crate) is_whole: bool,
    /// Differs where anything that was read had changed once more.
    pub(crate) fingerprint: u64,
    /// The first devices, pipes and sockets in listed directories, and how many there are.
    pub(crate) passed_over: (Vec<TreePath>, usize),
}

/// What a pass is about.
pub(crate) struct Request<'a> {
    pub(crate) root: &'a Dir,
    pub(crate) lists: [(FileSet, &'a PathList); 2],
    /// What the last pass saw, if that is known.
    pub(crate) cache: Option<Reader>,
    /// Whether to read also what has not changed.
    pub(crate) reads_all: bool,
}

/// Nanoseconds since 1970.
pub(crate) fn now_ns() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_nanos()).unwrap_or(i64::MAX)
}

/// Makes a pass that began at `began_ns`, and leaves in `writer` what it saw.
pub(crate) fn walk(request: &mut Request<'_>, began_ns: i64, writer: &mut Writer<'_>) -> Result<Pass, SidError> {
    let is_whole = request.cache.is_none();
    std::thread::scope(|scope| {
        let mut walker = Walker {
            cache: request.cache.take(),
            reads_all: request.reads_all,
            identity: request.lists[0].1,
            settled_before: began_ns.saturating_sub(i64::try_from(TICK.as_nanos()).unwrap_or(0)),
            writer,
            record: Record::default(),
            pass: Pass { is_whole, ..Pass::default() },
            hasher: DefaultHasher::new(),
            readers: Readers::new(scope),
        };
        for (set, list) in request.lists {
            walker.record.is_sync = set == FileSet::Sync;
            for path in list.paths() {
                walker.listed(request.root, path)?;
            }
        }
        walker.finish()
    })
}

struct Walker<'w, 'd, 'scope, 'env> {
    cache: Option<Reader>,
    reads_all: bool,
    /// What no SyncFiles may hold, for it is not everybody's.
    identity: &'w PathList,
    settled_before: i64,
    writer: &'w mut Writer<'d>,
    /// The object that is looked at.
    record: Record,
    pass: Pass,
    hasher: DefaultHasher,
    readers: Readers<'scope, 'env>,
}

impl Walker<'_, '_, '_, '_> {
    fn listed(&mut self, root: &Dir, path: &TreePath) -> Result<(), SidError> {
        self.record.path.clear();
        self.record.path.extend_from_slice(bytes(path));
        let Some(parent) = parent_of(root, path)? else { return self.absent(path) };
        if let Some(stat) = parent.stat(path.name())? {
            return self.object(&Arc::new(parent), path.name(), &stat);
        }
        // When it went, if it was there, can be seen at its directory.
        if parent.stat(OsStr::new("."))?.is_some_and(|stat| Stamp::of(&stat).ctime_ns >= self.settled_before) {
            self.pass.unsettled.get_or_insert_with(|| path.clone());
        }
        self.absent(path)
    }

    fn absent(&mut self, path: &TreePath) -> Result<(), SidError> {
        self.record.stamp = Stamp::default();
        if !self.is_known()? || self.reads_all {
            self.record.path.hash(&mut self.hasher);
            self.pass.read.push(Entry { set: self.record.set(), path: path.clone(), kind: Kind::Absent });
        }
        Ok(())
    }

    fn object(&mut self, parent: &Arc<Dir>, name: &OsStr, stat: &FileStat) -> Result<(), SidError> {
        // What an installation or a restoration has staged, or left when it was cut off, is nobody's configuration.
        if durable::is_temporary(name) || self.is_excluded()? {
            return Ok(());
        }
        if ObjectType::of(stat) != ObjectType::Dir {
            return self.seen(parent, name, stat);
        }
        let dir = match parent.dir(name) {
            Ok(dir) => Arc::new(dir),
            Err(error) => return self.lost(error),
        };
        let names = dir.names(Manifest::MAX_ENTRIES)?;
        // Seen after the names: what comes or goes from now on changes its time.
        match parent.stat(name)? {
            Some(stat) if ObjectType::of(&stat) == ObjectType::Dir => self.seen(parent, name, &stat)?,
            _ => return self.lost(FileError::on("read", dir.shown())(std::io::Error::other("it was moved"))),
        }
        let length = self.record.path.len();
        for name in names {
            self.record.path.truncate(length);
            self.record.path.push(b'/');
            self.record.path.extend_from_slice(name.as_encoded_bytes());
            // One that is gone by now has changed the time of its directory.
            match dir.stat(&name)? {
                Some(stat) if ObjectType::of(&stat) == ObjectType::Special => self.pass_over(&name)?,
                Some(stat) => self.object(&dir, &name, &stat)?,
                None => self.pass.moved = Some(self.path()?),
            }
        }
        self.record.path.truncate(length);
        Ok(())
    }

    /// A device, pipe or socket in a listed directory: what a program or the kernel made for itself is no configuration.
    fn pass_over(&mut self, name: &OsStr) -> Result<(), SidError> {
        if durable::is_temporary(name) || self.is_excluded()? {
            return Ok(());
        }
        if self.pass.passed_over.0.len() < MAX_NAMED {
            let path = self.path()?;
            self.pass.passed_over.0.push(path);
        }
        self.pass.passed_over.1 += 1;
        Ok(())
    }

    /// Whether SyncFiles come without it. What the last pass saw is not: that went by the same rules and lists.
    fn is_excluded(&mut self) -> Result<bool, SidError> {
        self.skip_gone(true)?;
        let is_seen = |cache: &Reader| cache.peek().is_some_and(|next| order(next, &self.record) == Ordering::Equal);
        if !self.record.is_sync || self.cache.as_ref().is_some_and(is_seen) {
            return Ok(false);
        }
        let path = self.path()?;
        Ok(reserved::why(&path).is_some() || self.identity.covers(&path))
    }

    /// What was there a moment ago cannot be opened: it gave way to something else, or something is wrong.
    fn lost(&mut self, error: FileError) -> Result<(), SidError> {
        if error.source.kind() == std::io::ErrorKind::PermissionDenied {
            return Err(error.into());
        }
        self.pass.moved = Some(self.path()?);
        Ok(())
    }

    fn seen(&mut self, parent: &Arc<Dir>, name: &OsStr, stat: &FileStat) -> Result<(), SidError> {
        self.record.stamp = Stamp::of(stat);
        self.pass.objects[usize::from(self.record.is_sync)] += 1;
        self.pass.users.insert(stat.st_uid);
        self.pass.groups.insert(stat.st_gid);
        if self.is_known()? && !self.reads_all {
            return Ok(());
        }
        let path = self.path()?;
        if self.record.stamp.ctime_ns >= self.settled_before {
            self.pass.unsettled.get_or_insert_with(|| path.clone());
        }
        (&self.record.path, self.record.stamp).hash(&mut self.hasher);
        let index = self.pass.read.len();
        self.pass.read.push(Entry { set: self.record.set(), path, kind: Kind::Absent });
        self.readers.add(Job { index, dir: Arc::clone(parent), name: name.to_owned(), stat: *stat });
        Ok(())
    }

    fn path(&self) -> Result<TreePath, SidError> {
        TreePath::new(&self.record.path).map_err(|error| {
            let path = OsStr::from_bytes(&self.record.path);
            FileError::on("read", path)(std::io::Error::other(error)).into()
        })
    }

    /// Notes the object; says whether the last pass saw it as it is now, so long before that pass began that it cannot have changed since.
    fn is_known(&mut self) -> Result<bool, SidError> {
        self.pass.entries += 1;
        if self.pass.entries > Manifest::MAX_ENTRIES {
            let source = std::io::Error::other(format!("more than {} objects are listed", Manifest::MAX_ENTRIES));
            return Err(FileError::on("read", OsStr::from_bytes(&self.record.path))(source).into());
        }
        self.skip_gone(true)?;
        let Some(cache) = &mut self.cache else {
            self.writer.add(&self.record, false)?;
            return Ok(false);
        };
        let next = cache.peek();
        let is_there = next.is_some_and(|next| order(next, &self.record) == Ordering::Equal);
        let is_same = is_there && next.is_some_and(|next| next.stamp == self.record.stamp);
        let can_tell = cache.can_tell(&self.record.stamp);
        if is_there && cache.advance().is_err() {
            self.pass.is_cache_broken = true;
        }
        if !can_tell {
            // Read once more, and then known from this pass on.
            self.writer.begin()?;
        }
        self.writer.add(&self.record, is_same)?;
        Ok(is_same && can_tell)
    }

    /// Passes over the records of what is gone: all before the object that is looked at, or all that are left.
    fn skip_gone(&mut self, is_before: bool) -> Result<(), SidError> {
        let Some(cache) = &mut self.cache else { return Ok(()) };
        while let Some(next) = cache.peek()
            && (!is_before || order(next, &self.record) == Ordering::Less)
        {
            match TreePath::new(&next.path) {
                Ok(path) => self.pass.gone.push((next.set(), path)),
                Err(_) => self.pass.is_cache_broken = true,
            }
            self.writer.begin()?;
            if cache.advance().is_err() {
                self.pass.is_cache_broken = true;
            }
        }
        Ok(())
    }

    fn finish(mut self) -> Result<Pass, SidError> {
        self.skip_gone(false)?;
        for (index, result) in self.readers.finish() {
            match result? {
                Some(kind) => self.pass.read[index].kind = kind,
                None => self.pass.moved = Some(self.pass.read[index].path.clone()),
            }
        }
        self.pass.fingerprint = self.hasher.finish();
        Ok(self.pass)
    }
}

/// An object to be read.
struct Job {
    index: usize,
    dir: Arc<Dir>,
    name: OsString,
    stat: FileStat,
}

type Answer = (usize, Result<Option<Kind>, FileError>);

impl Job {
    fn run(self) -> Answer {
        (self.index, read_unmoved(&self.dir, &self.name, &self.stat))
    }
}

/// Threads that read, begun when there is enough to read.
struct Readers<'scope, 'env> {
    scope: &'scope Scope<'scope, 'env>,
    batch: Vec<Job>,
    jobs: Option<SyncSender<Vec<Job>>>,
    answers: (Sender<Answer>, Receiver<Answer>),
    threads: Vec<ScopedJoinHandle<'scope, ()>>,
}

impl<'scope, 'env> Readers<'scope, 'env> {
    fn new(scope: &'scope Scope<'scope, 'env>) -> Self {
        Readers { scope, batch: vec![], jobs: None, answers: channel(), threads: vec![] }
    }

    fn add(&mut self, job: Job) {
        self.batch.push(job);
        if self.batch.len() == BATCH {
            let batch = std::mem::take(&mut self.batch);
            if self.jobs.is_none() {
                self.begin();
            }
            // Without receivers, which end only when this does, the batch is read here.
            if let Some(Err(unsent)) = self.jobs.as_ref().map(|jobs| jobs.send(batch)) {
                self.batch = unsent.0;
            }
        }
    }

    fn begin(&mut self) {
        let (jobs, todo) = sync_channel::<Vec<Job>>(WAITING);
        let todo = Arc::new(Mutex::new(todo));
        for _ in 0..READERS {
            let (todo, answers) = (Arc::clone(&todo), self.answers.0.clone());
            self.threads.push(self.scope.spawn(move || {
                loop {
                    let batch = todo.lock().unwrap_or_else(PoisonError::into_inner).recv();
                    let Ok(batch) = batch else { return };
                    for job in batch {
                        if answers.send(job.run()).is_err() {
                            return;
                        }
                    }
                }
            }));
        }
        self.jobs = Some(jobs);
    }

    /// Everything that was read, in any order.
    fn finish(&mut self) -> impl Iterator<Item = Answer> + use<> {
        self.jobs = None;
        let last: Vec<Answer> = self.batch.drain(..).map(Job::run).collect();
        let (sender, answers) = std::mem::replace(&mut self.answers, channel());
        drop(sender);
        self.threads.clear();
        last.into_iter().chain(answers)
    }
}
