//! Where a secondary is no longer as the last SyncCycle left it.
//!
//! ```text
//! SID_DATA/SEC1/Env2/Manifest      what was here at the end of the last cycle     ┐ held against the tree: a stat for each object,
//! SID_DATA/PRI/Env2/SyncFilePaths  which of it PRI decides                        ┘ a digest only where its stamp has moved
//! ```
//!
//! What counts is what an installation would put right: content, kind, owner, mode, attributes, what is gone and what is new. A file that was
//! only touched is no difference. Files of accounts are told by account.

mod accounts;
mod undone;

pub use undone::{Undone, WEEK};

use crate::{
    accounts::Which,
    layout::{SidData, SidError},
    lines,
    scan::parent_of,
    snapshot::{MANIFEST, env_versions, read_list},
};
use atlas_host::{
    durable, object,
    stamp::Stamp,
    tree::{Dir, ObjectType},
};
use atlas_model::{
    EnvVersion, PathList, Role, TreePath,
    manifest::{FileSet, Kind, Manifest, Meta},
    reserved,
};
use std::{
    collections::{BTreeMap, BTreeSet},
    ffi::OsStr,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

/// A change this near to a look may be hidden from it by the coarseness of the clock.
const RACY: Duration = Duration::from_secs(2);

/// What is not as it was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// What differs: `its content`, `gone`, `account www: number 1001 instead of 1000`.
    pub what: String,
    /// Whether something is there that was not: nothing that PRI has is missing.
    pub is_new: bool,
}

/// What the last cycle left, and where the tree was found to differ from it.
#[derive(Debug)]
pub struct Drift {
    id: Stamp,
    /// This server's Snapshot.
    snapshot: Dir,
    /// Sorted by path.
    items: Vec<Item>,
    listed: PathList,
    identity: PathList,
    found: BTreeMap<TreePath, Difference>,
    /// Names that were found in directories of the Snapshot and are not in it.
    strangers: BTreeSet<TreePath>,
}

#[derive(Debug)]
struct Item {
    path: TreePath,
    kind: Kind,
    /// As it was compared last; that of nothing where it has to be compared again.
    stamp: Stamp,
    is_known: bool,
}

impl Drift {
    /// Reads what the last cycle left; `None` on PRI, and before a first cycle.
    pub fn open(sid: &SidData, own: Role, env_version: EnvVersion) -> Result<Option<Drift>, SidError> {
        let Some(id) = Drift::id(sid, own, env_version)? else { return Ok(None) };
        let (Some(own_dir), Some(pri_dir)) = (sid.role_dir(own)?, sid.role_dir(Role::Pri)?) else { return Ok(None) };
        let pri = match pri_dir.dir(env_version.dir_name()) {
            Ok(dir) => dir,
            Err(error) if error.is_not_found() => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let Some(listed) = read_list(&pri, FileSet::Sync.list_name())? else { return Ok(None) };
        let snapshot = own_dir.dir(env_version.dir_name())?;
        let ident = |dir: &Dir| read_list(dir, FileSet::Ident.list_name()).map(Option::unwrap_or_default);
        let identity: PathList = ident(&snapshot)?.paths().iter().chain(ident(&pri)?.paths()).cloned().collect();
        let mut items = Vec::new();
        let (_, mut lines) = lines::of(&snapshot)?;
        while lines.advance()? {
            let entry = lines.entry()?;
            if entry.set == FileSet::Sync && listed.covers(&entry.path) && !identity.covers(&entry.path) {
                items.push(Item { path: entry.path, kind: entry.kind, stamp: Stamp::default(), is_known: false });
            }
        }
        items.sort_by(|a, b| a.path.cmp(&b.path));
        Ok(Some(Drift { id, snapshot, items, listed, identity, found: BTreeMap::new(), strangers: BTreeSet::new() }))
    }

    /// Which Snapshot of this server there is: another after each cycle that found or changed anything. `None` on PRI, and where there is none.
    pub fn id(sid: &SidData, own: Role, env_version: EnvVersion) -> Result<Option<Stamp>, SidError> {
        if own.is_primary() {
            return Ok(None);
        }
        let Some(dir) = sid.role_dir(own)? else { return Ok(None) };
        match dir.dir(env_version.dir_name()) {
            Ok(dir) => Ok(dir.stat(OsStr::new(MANIFEST))?.map(|stat| Stamp::of(&stat))),
            Err(error) if error.is_not_found() => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Whether it is still this that the last cycle left.
    pub fn is_of(&self, id: &Stamp) -> bool {
        self.id == *id
    }

    /// How many objects are compared.
    pub fn len(&self) -> usize {
        self.items.len()
    }

    /// Whether PRI lists nothing that is here.
    pub fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    /// The directories in which a change shows: those of the Snapshot, and those that hold what is listed. `None` is the root.
    pub fn dirs(&self) -> BTreeSet<Option<TreePath>> {
        let dirs = self.items.iter().filter(|item| matches!(item.kind, Kind::Dir { .. }));
        let own = dirs.map(|item| Some(item.path.clone()));
        own.chain(self.items.iter().map(|item| item.path.parent())).collect()
    }

    /// What differs, as of the last look.
    pub fn found(&self) -> &BTreeMap<TreePath, Difference> {
        &self.found
    }

    /// Looks at everything; reads only what has moved since the last look.
    pub fn look(&mut self, root: &Dir) -> Result<(), SidError> {
        let mut last: Option<(Option<TreePath>, Option<Dir>)> = None;
        for index in 0..self.items.len() {
            let parent = self.items[index].path.parent();
            if last.as_ref().is_none_or(|(of, _)| *of != parent) {
                let dir = held(root, &self.items[index].path);
                last = Some((parent, dir));
            }
            self.compare(root, last.as_ref().and_then(|(_, dir)| dir.as_ref()), index)?;
        }
        let strangers = std::mem::take(&mut self.strangers);
        strangers.iter().try_for_each(|path| self.stranger(root, path))
    }

    /// Looks at one path, of which something was heard. Says whether it is one that counts.
    pub fn look_at(&mut self, root: &Dir, path: &TreePath) -> Result<bool, SidError> {
        match self.items.binary_search_by(|item| item.path.cmp(path)) {
            Ok(index) => {
                self.items[index].stamp = Stamp::default();
                self.compare(root, held(root, path).as_ref(), index)?;
            }
            Err(_) if self.is_within(path) => self.stranger(root, path)?,
            Err(_) => return Ok(false),
        }
        Ok(true)
    }

    /// Whether a path lies in a directory of the Snapshot, and would be part of it.
    fn is_within(&self, path: &TreePath) -> bool {
        let is_dir = |parent: TreePath| {
            let at = self.items.binary_search_by(|item| item.path.cmp(&parent));
            at.is_ok_and(|at| matches!(self.items[at].kind, Kind::Dir { .. }))
        };
        path.parent().is_some_and(is_dir)
            && self.listed.covers(path)
            && !self.identity.covers(path)
            && !durable::is_temporary(path.name())
            && reserved::why(path).is_none()
    }

    fn stranger(&mut self, root: &Dir, path: &TreePath) -> Result<(), SidError> {
        let stat = held(root, path).map(|dir| dir.stat(path.name())).transpose()?.flatten();
        // Devices, pipes and sockets are a program's here: no Snapshot has any.
        if stat.is_some_and(|stat| ObjectType::of(&stat) != ObjectType::Special) {
            self.strangers.insert(path.clone());
            self.found.insert(path.clone(), Difference { what: "new".into(), is_new: true });
        } else {
            self.strangers.remove(path);
            self.found.remove(path);
        }
        Ok(())
    }

    fn compare(&mut self, root: &Dir, parent: Option<&Dir>, index: usize) -> Result<(), SidError> {
        let path = self.items[index].path.clone();
        let stat = parent.map(|dir| dir.stat(path.name())).transpose()?.flatten();
        let stamp = stat.map(|stat| Stamp::of(&stat)).unwrap_or_default();
        let item = &self.items[index];
        if stamp != Stamp::default() && stamp == item.stamp {
            return Ok(());
        }
        // The first time its size and time are believed, as an installation does; afterwards it was changed.
        let is = match parent {
            Some(dir) if item.is_known => object::read_to_compare(dir, path.name(), &item.kind),
            Some(dir) => object::look_to_compare(dir, path.name(), &item.kind),
            None => Ok(Kind::Absent),
        };
        let difference = match is {
            Ok(is) => differs(&is, &item.kind),
            Err(error) => Some(format!("it cannot be read: {}", error.source)),
        };
        let difference = difference.map(|what| self.by_account(root, &path).unwrap_or(what));
        let is_new = item.kind == Kind::Absent;
        match difference {
            Some(what) => drop(self.found.insert(path, Difference { what, is_new })),
            None => drop(self.found.remove(&path)),
        }
        if matches!(self.items[index].kind, Kind::Dir { .. }) {
            self.names(root, index)?;
        }
        let item = &mut self.items[index];
        (item.stamp, item.is_known) = (if is_old(&stamp) { stamp } else { Stamp::default() }, true);
        Ok(())
    }

    /// What is in a directory and not in the Snapshot.
    fn names(&mut self, root: &Dir, index: usize) -> Result<(), SidError> {
        let path = self.items[index].path.clone();
        let Ok(dir) = root.dir(path.relative()) else { return Ok(()) };
        for name in dir.names(Manifest::MAX_ENTRIES)? {
            let Ok(inner) = path.join(&name) else { continue };
            if self.items.binary_search_by(|item| item.path.cmp(&inner)).is_err() && self.is_within(&inner) {
                self.stranger(root, &inner)?;
            }
        }
        Ok(())
    }

    /// What differs in a file of accounts, by account; `None` for another file.
    fn by_account(&self, root: &Dir, path: &TreePath) -> Option<String> {
        let which = Which::ALL.into_iter().find(|which| OsStr::new(which.path()) == path.as_path())?;
        let name = which.path().trim_start_matches('/');
        let copies = self.snapshot.dir(FileSet::Sync.dir_name()).ok()?;
        let then = copies.read(name, Which::MAX_SIZE).ok()?;
        let now = root.read(name, Which::MAX_SIZE).ok()?;
        let told = accounts::differences(which, &then, &now);
        (!told.is_empty()).then(|| told.join(", "))
    }
}

/// Whether an object changed so long ago that its stamp says that it has not changed since.
fn is_old(stamp: &Stamp) -> bool {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i128::from(stamp.ctime_ns) + i128::try_from(RACY.as_nanos()).unwrap_or(0)
        < i128::try_from(now.as_nanos()).unwrap_or(0)
}

/// The directory of a path. One that is reached through a link, or is no directory, is gone.
fn held(root: &Dir, path: &TreePath) -> Option<Dir> {
    parent_of(root, path).ok().flatten()
}

/// What of an object is not as it must be; nothing where it was only touched.
pub fn differs(is: &Kind, must: &Kind) -> Option<String> {
    let noun = |kind: &Kind| match kind {
        Kind::File { .. } => "a file",
        Kind::Dir { .. } => "a directory",
        Kind::Link { target, .. } if target.is_empty() => "a device, pipe or socket",
        Kind::Link { .. } => "a link",
        Kind::Absent => "nothing",
    };
    let mut told: Vec<String> = vec![];
    match (is, must) {
        (Kind::Absent, Kind::Absent) => return None,
        (Kind::Absent, _) => return Some("gone".into()),
        (_, Kind::Absent) => return Some("new".into()),
        (Kind::File { size, sha256, .. }, Kind::File { size: length, sha256: digest, .. }) => {
            if (size, sha256) != (length, digest) {
                told.push("its content".into());
            }
        }
        (Kind::Link { target, .. }, Kind::Link { target: meant, .. }) if target != meant && !target.is_empty() => {
            told.push(format!("it leads to {target} instead of {meant}"));
        }
        (Kind::Dir { .. }, Kind::Dir { .. }) => {}
        (Kind::Link { target, .. }, Kind::Link { .. }) if !target.is_empty() => {}
        _ => return Some(format!("{} instead of {}", noun(is), noun(must))),
    }
    let (Some(is), Some(must)) = (is.meta(), must.meta()) else { return None };
    told.extend(differs_meta(is, must));
    (!told.is_empty()).then(|| told.join(", "))
}

fn differs_meta(is: &Meta, must: &Meta) -> Vec<String> {
    let mut told = vec![];
    if is.mode != must.mode {
        told.push(format!("its mode is {:o} instead of {:o}", is.mode, must.mode));
    }
    if (is.uid, is.gid) != (must.uid, must.gid) {
        told.push(format!("its owner is {}:{} instead of {}:{}", is.uid, is.gid, must.uid, must.gid));
    }
    if is.xattrs != must.xattrs {
        told.push("its access list or attributes".into());
    }
    told
}

/// What a cycle undid on a secondary: what had been changed since the Snapshot whose Manifest is `then`, was there in `before`, and is not any more
/// in `after`.
pub fn undone(
    then: lines::Lines<std::fs::File>,
    before: &Dir,
    after: &Dir,
) -> Result<BTreeMap<TreePath, String>, SidError> {
    let mut changed = BTreeMap::new();
    lines::compare(Some(then), lines::of(before)?.1, |difference| {
        let kind = |entry: &Option<atlas_model::manifest::Entry>| {
            entry.as_ref().map_or(Kind::Absent, |entry| entry.kind.clone())
        };
        let is_sync = difference.entry().is_some_and(|entry| entry.set == FileSet::Sync);
        let (old, new) = (kind(&difference.old), kind(&difference.new));
        if let Some(what) = differs(&new, &old).filter(|_| is_sync)
            && let Some(entry) = difference.entry()
        {
            changed.insert(entry.path.clone(), (what, new));
        }
        Ok(())
    })?;
    if changed.is_empty() {
        return Ok(BTreeMap::new());
    }
    let mut is_now: BTreeMap<TreePath, Kind> = BTreeMap::new();
    let (_, mut lines) = lines::of(after)?;
    while lines.advance()? {
        let entry = lines.entry()?;
        if entry.set == FileSet::Sync && changed.contains_key(&entry.path) {
            is_now.insert(entry.path, entry.kind);
        }
    }
    changed.retain(|path, (_, was)| differs(is_now.get(path).unwrap_or(&Kind::Absent), was).is_some());
    Ok(changed.into_iter().map(|(path, (what, _))| (path, what)).collect())
}

/// Opens the Manifest of a server's own Snapshot, to be compared with one that takes its place.
pub fn manifest(
    sid: &SidData,
    own: Role,
    env_version: EnvVersion,
) -> Result<Option<lines::Lines<std::fs::File>>, SidError> {
    let Some(dir) = snapshot_dir(sid, own, env_version)? else { return Ok(None) };
    match lines::of(&dir) {
        Ok((_, lines)) => Ok(Some(lines)),
        Err(SidError::File(error)) if error.is_not_found() => Ok(None),
        Err(error) => Err(error),
    }
}

/// The directory of a server's own Snapshot.
pub fn snapshot_dir(sid: &SidData, own: Role, env_version: EnvVersion) -> Result<Option<Dir>, SidError> {
    let Some(dir) = sid.role_dir(own)? else { return Ok(None) };
    Ok(if env_versions(&dir)?.contains(&env_version) { Some(dir.dir(env_version.dir_name())?) } else { None })
}
