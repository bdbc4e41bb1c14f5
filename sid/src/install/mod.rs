//! Installing a set of a Snapshot into a server's tree: only what differs, and all or nothing.
//!
//! ```text
//!   plan     compare every object; nothing is written
//!   stage    make each new object beside its target under a temporary name; flush once     ← a full disk fails here, nothing is changed
//!   commit   exchange names, one rename per object; on a failure exchange back              ← needs no space
//!   clean    remove what lies under the temporary names now: the old objects
//! ```
//!
//! A power cut between two renames leaves some objects old and some new, each of them whole. The next install sees the difference
//! and completes it; atlas-boot runs one before the network, at every boot.
//!
//! Directories are opened one at a time, below the held root and never through a link: however many have changed, few are open.

mod stage;

pub use stage::Staged;

use crate::{layout::SidError, scan::parent_of, snapshot::Snapshot};
use atlas_host::{
    FileError, object,
    tree::{Dir, ObjectType},
};
use atlas_model::{
    PathList, TreePath,
    manifest::{Entry, FileSet, Kind, Manifest, Meta},
    reserved,
};
use std::{
    collections::{BTreeMap, BTreeSet},
    fmt, io,
};

/// What has to be done to one path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// Something is put where nothing was.
    Add(TreePath),
    /// What is there gives way to something else.
    Replace(TreePath),
    /// A directory stays and gets another owner, mode or attribute.
    Adjust(TreePath, Meta),
    /// What is there goes.
    Remove(TreePath),
}

impl Change {
    /// The path.
    pub fn path(&self) -> &TreePath {
        match self {
            Change::Add(path) | Change::Replace(path) | Change::Adjust(path, _) | Change::Remove(path) => path,
        }
    }
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let verb = match self {
            Change::Add(_) => "added",
            Change::Replace(_) => "replaced",
            Change::Adjust(..) => "adjusted",
            Change::Remove(_) => "removed",
        };
        write!(f, "{verb} {}", self.path())
    }
}

/// What an installation brings, and what it keeps its hands off.
#[derive(Debug)]
pub struct Wanted<'a> {
    /// The objects, sorted by path, as a [`Manifest`] has them.
    pub entries: &'a [Entry],
    /// The copies; `None` where no object needs one.
    pub files: Option<Dir>,
    /// How directories above the objects are made where there are none.
    pub ways: BTreeMap<TreePath, Meta>,
    /// The content of files that are made here instead of copied.
    pub made: BTreeMap<TreePath, Vec<u8>>,
    /// What is left as it is, whatever the Snapshot says.
    pub protected: Protected,
    /// When a file is taken to be unchanged.
    pub trust: Trust,
    /// Where the tree was looked at a moment ago: the paths at which something else is, or may be. The others are not looked at again.
    pub differing: Option<BTreeSet<TreePath>>,
    /// Whether what lies in a directory of the set, and is not in the set, is removed.
    pub removes_strangers: bool,
}

/// When a file of the tree is taken to be what the Manifest says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trust {
    /// Its bytes were read, and those of its copy in the Snapshot.
    Bytes,
    /// Size, modification time to the nanosecond, owner, mode and attributes are the same. Installing gives files the time of the Manifest, so
    /// whoever writes to one later gives it another.
    Stat,
}

/// Paths that an installation leaves as they are.
#[derive(Debug, Default)]
pub struct Protected {
    /// These, and what lies below.
    pub paths: PathList,
    /// Those that belong to the machine, too: [`reserved`].
    pub reserved: bool,
    /// Those that no identity may have, too.
    pub no_identity: bool,
}

impl Protected {
    /// Why `path` is left as it is.
    pub fn why(&self, path: &TreePath) -> Option<&'static str> {
        let reserved = self.reserved.then(|| reserved::why(path)).flatten();
        let reserved = reserved.or_else(|| self.no_identity.then(|| reserved::why_no_identity(path)).flatten());
        reserved.or_else(|| self.paths.covers(path).then_some("it is kept as this server has it"))
    }

    /// Whether something that is left as it is may lie below `dir`.
    fn may_lie_below(&self, dir: &TreePath) -> bool {
        self.reserved && reserved::below(dir).is_some()
            || self.no_identity && reserved::no_identity_below(dir).is_some()
            || self.paths.paths().iter().any(|path| path.is_within(dir))
    }
}

/// The difference between a Snapshot's set and a server's tree.
#[derive(Debug)]
pub struct Plan<'a> {
    wanted: Wanted<'a>,
    changes: Vec<Change>,
    left: Vec<(TreePath, &'static str)>,
}

impl<'a> Plan<'a> {
    /// Compares; writes nothing. Every copy in the Snapshot that will be used is read, so that a missing or damaged one is found here.
    pub fn make(root: &Dir, snapshot: &'a Snapshot, set: FileSet) -> Result<Plan<'a>, SidError> {
        let wanted = Wanted {
            entries: snapshot.manifest.of_set(set).as_slice(),
            files: snapshot.files(set)?,
            ways: BTreeMap::new(),
            made: BTreeMap::new(),
            // Lists of before that was refused may have named what belongs to another machine.
            protected: Protected { no_identity: set == FileSet::Ident, ..Protected::default() },
            trust: Trust::Bytes,
            differing: None,
            removes_strangers: true,
        };
        let plan = Plan::of(root, wanted)?;
        plan.check_copies(|is_made| is_made)?;
        Ok(plan)
    }

    /// The same for objects that the caller chose. A missing or damaged copy is found when it is staged.
    pub fn of(root: &Dir, wanted: Wanted<'a>) -> Result<Plan<'a>, SidError> {
        let mut plan = Plan { wanted, changes: vec![], left: vec![] };
        let entries = plan.wanted.entries;
        // In a tree that was looked at a stranger is a difference itself: directories without differences have none.
        let with_parents =
            |paths: &BTreeSet<TreePath>| paths.iter().flat_map(|p| [Some(p.clone()), p.parent()]).flatten().collect();
        let looked_into: Option<BTreeSet<TreePath>> = plan.wanted.differing.as_ref().map(with_parents);
        let may_have_strangers = |dir| looked_into.as_ref().is_none_or(|dirs| dirs.contains(dir));
        let mut made_whole: Option<&TreePath> = None;
        let mut parents = Parents::default();
        for entry in entries {
            if let Some(why) = plan.wanted.protected.why(&entry.path) {
                plan.left.push((entry.path.clone(), why));
                continue;
            }
            if made_whole.is_some_and(|dir| entry.path.is_within(dir)) {
                continue;
            }
            let is = if plan.wanted.differing.as_ref().is_some_and(|paths| !paths.contains(&entry.path)) {
                entry.kind.clone()
            } else {
                match parents.of(root, &entry.path)? {
                    Some(parent) => plan.read(parent, entry)?,
                    None => Kind::Absent,
                }
            };
            if let Some(change) = change(&is, entry) {
                if matches!(entry.kind, Kind::Dir { .. }) && !matches!(change, Change::Adjust(..)) {
                    made_whole = Some(&entry.path);
                }
                plan.add(change, &is);
            }
            let stays = matches!((&is, &entry.kind), (Kind::Dir { .. }, Kind::Dir { .. }));
            if plan.wanted.removes_strangers && stays && may_have_strangers(&entry.path) {
                plan.remove_strangers(root, &entry.path)?;
            }
        }
        Ok(plan)
    }

    fn read(&self, parent: &Dir, entry: &Entry) -> Result<Kind, SidError> {
        let name = entry.path.name();
        Ok(match self.wanted.trust {
            Trust::Bytes => object::read_to_compare(parent, name, &entry.kind)?,
            Trust::Stat => object::look_to_compare(parent, name, &entry.kind)?,
        })
    }

    /// Adds a change, unless something that is left as it is would go with it.
    fn add(&mut self, change: Change, is: &Kind) {
        let takes_away = matches!((&change, is), (Change::Remove(_) | Change::Replace(_), Kind::Dir { .. }));
        if takes_away && self.wanted.protected.may_lie_below(change.path()) {
            self.left.push((change.path().clone(), "it is a directory that may hold what this server keeps"));
        } else {
            self.changes.push(change);
        }
    }

    /// Objects in a directory of the set that the set does not have: leftovers of another identity, and what PRI removed.
    fn remove_strangers(&mut self, root: &Dir, path: &TreePath) -> Result<(), SidError> {
        let entries = self.wanted.entries;
        let is_wanted = |path: &TreePath| {
            let found = entries.binary_search_by(|entry| entry.path.as_path().cmp(path.as_path()));
            found.is_ok_and(|index| entries[index].kind != Kind::Absent)
        };
        let dir = root.dir(path.relative())?;
        for name in dir.names(Manifest::MAX_ENTRIES)? {
            let inner = path
                .join(&name)
                .map_err(|error| FileError::on("read", dir.show(&name))(std::io::Error::other(error)))?;
            if is_wanted(&inner) || self.wanted.protected.why(&inner).is_some() {
                continue;
            }
            let is = match dir.stat(&name)?.map(|stat| ObjectType::of(&stat)) {
                // A program's here: no Snapshot has any.
                Some(ObjectType::Special) => continue,
                Some(ObjectType::Dir) => object::read(&dir, &name)?,
                _ => Kind::Absent,
            };
            self.add(Change::Remove(inner), &is);
        }
        Ok(())
    }

    /// How many objects staging makes, and how many blocks of `block` bytes they take, each with something for its name.
    pub fn needs(&self, block: u64) -> (u64, u64) {
        let is_made = |change: &&Change| matches!(change, Change::Add(_) | Change::Replace(_));
        let made: Vec<&TreePath> = self.changes.iter().filter(is_made).map(Change::path).collect();
        let entries = self.wanted.entries.iter().filter(|entry| made.iter().any(|path| entry.path.is_within(path)));
        let blocks = entries.filter_map(|entry| match &entry.kind {
            Kind::Absent => None,
            Kind::File { size, .. } => Some(size.div_ceil(block.max(1))),
            Kind::Dir { .. } => Some(1),
            Kind::Link { .. } => Some(0),
        });
        blocks.fold((0, 0), |(objects, sum), blocks| (objects + 1, sum + blocks))
    }

    /// What differs, in the order of paths.
    pub fn changes(&self) -> &[Change] {
        &self.changes
    }

    /// What the Snapshot has, and what is left as it is nevertheless, with the reason.
    pub fn left(&self) -> &[(TreePath, &'static str)] {
        &self.left
    }

    /// Makes the changes for which `first` says so before the others.
    pub fn put_first(&mut self, first: impl Fn(&TreePath) -> bool) {
        self.changes.sort_by_key(|change| !first(change.path()));
    }

    /// Reads the copies that staging will not use: what is there already needs none, until it is lost.
    pub fn check_spare_copies(&self) -> Result<(), SidError> {
        self.check_copies(|is_made| !is_made)
    }

    /// Reads the copies of those objects for which `wanted` says so, told whether staging makes them.
    fn check_copies(&self, wanted: impl Fn(bool) -> bool) -> Result<(), SidError> {
        let made = self.changes.iter().filter(|change| !matches!(change, Change::Adjust(..)));
        let made: BTreeSet<TreePath> = made.map(|change| change.path().clone()).collect();
        let is_made =
            |path: &TreePath| std::iter::successors(Some(path.clone()), TreePath::parent).any(|p| made.contains(&p));
        let mut copies = Parents::default();
        let entries = self.wanted.entries.iter().filter(|entry| self.wanted.protected.why(&entry.path).is_none());
        entries.filter(|entry| wanted(is_made(&entry.path))).try_for_each(|entry| self.check_copy(entry, &mut copies))
    }

    /// The copy in the Snapshot must be there, and of the kind that the Manifest says.
    fn check_copy(&self, entry: &Entry, copies: &mut Parents) -> Result<(), SidError> {
        match &self.wanted.files {
            Some(files) if !self.wanted.made.contains_key(&entry.path) => check_copy(files, entry, copies),
            _ => Ok(()),
        }
    }
}

/// The copy of `entry` below `files` must be there, and be what the Manifest says.
pub(crate) fn check_copy(files: &Dir, entry: &Entry, copies: &mut Parents) -> Result<(), SidError> {
    if entry.kind == Kind::Absent {
        return Ok(());
    }
    let damaged = |why: &str| Err(damaged(files, entry, why));
    let Some(dir) = copies.of(files, &entry.path)? else { return damaged("it is missing") };
    let kind = object::read_to_compare(dir, entry.path.name(), &entry.kind)?;
    if std::mem::discriminant(&kind) != std::mem::discriminant(&entry.kind) {
        return damaged("it is missing, or not of the kind that the Manifest says");
    }
    if let (Kind::File { sha256: is, .. }, Kind::File { sha256: said, .. }) = (&kind, &entry.kind)
        && is != said
    {
        return damaged("its content is not what the Manifest says");
    }
    Ok(())
}

fn damaged(files: &Dir, entry: &Entry, why: &str) -> SidError {
    SidError::Damaged { path: files.show(entry.path.relative()), why: why.into() }
}

/// The directory that holds the path last asked for; paths come sorted, so that it mostly holds the next one, too.
#[derive(Default)]
pub(crate) struct Parents {
    last: Option<(Option<TreePath>, Option<Dir>)>,
}

impl Parents {
    fn of(&mut self, root: &Dir, path: &TreePath) -> Result<Option<&Dir>, SidError> {
        let parent = path.parent();
        if self.last.as_ref().is_none_or(|(of, _)| *of != parent) {
            self.last = Some((parent, parent_of(root, path)?));
        }
        Ok(self.last.as_ref().and_then(|(_, dir)| dir.as_ref()))
    }

    /// The same where it was a moment ago.
    fn held(&mut self, root: &Dir, path: &TreePath) -> Result<&Dir, SidError> {
        let gone = || FileError::on("find the directory of", root.show(path.relative()))(io::ErrorKind::NotFound);
        Ok(self.of(root, path)?.ok_or_else(gone)?)
    }
}

fn change(is: &Kind, entry: &Entry) -> Option<Change> {
    let path = entry.path.clone();
    match (is, &entry.kind) {
        (Kind::Absent, Kind::Absent) => None,
        (_, Kind::Absent) => Some(Change::Remove(path)),
        (Kind::Absent, _) => Some(Change::Add(path)),
        (is, wanted) if is.same_as(wanted) => None,
        (Kind::Dir { .. }, Kind::Dir { meta }) => Some(Change::Adjust(path, meta.clone())),
        _ => Some(Change::Replace(path)),
    }
}
