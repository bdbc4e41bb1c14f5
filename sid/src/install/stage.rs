//! Staging and committing: what an installation does to the tree.

use super::{Change, Parents, Plan, damaged};
use crate::{layout::SidError, scan::leads_out};
use atlas_host::{
    FileError,
    durable::{self, temp_name},
    object,
    tree::{Dir, Rename},
};
use atlas_model::{
    TreePath,
    manifest::{Entry, Kind, Meta},
};
use std::{
    collections::{BTreeMap, BTreeSet},
    ffi::{OsStr, OsString},
    path::Path,
};

impl Plan<'_> {
    /// Makes everything ready beside its target. Whatever fails, the tree is as it was.
    pub fn stage<'r>(&self, root: &'r Dir) -> Result<Staged<'r>, SidError> {
        Staged::of_all([self], root)
    }

    fn fill(&self, staged: &mut Staged<'_>) -> Result<(), SidError> {
        let root = staged.root;
        let (mut parents, mut copies) = (Parents::default(), Parents::default());
        for change in &self.changes {
            let path = change.path();
            staged.enter(path, &self.wanted.ways)?;
            let parent = parents.held(root, path)?;
            let temp = temp_name();
            if matches!(change, Change::Add(_) | Change::Replace(_))
                && let Err(error) = self.make_temp(path, parent, &temp, &mut copies)
            {
                // Best effort: what is left has a name that the next install removes.
                let _ = parent.remove_tree(&temp);
                return Err(error);
            }
            staged.items.push(Item { change: change.clone(), temp, before: None });
        }
        Ok(())
    }

    /// Makes the object at `path`, with all that lies below it, under the name `temp`.
    fn make_temp(&self, path: &TreePath, parent: &Dir, temp: &OsStr, copies: &mut Parents) -> Result<(), SidError> {
        let all = self.wanted.entries;
        let start = all.partition_point(|entry| entry.path.as_path() < path.as_path());
        // The directory below `temp` that was filled last: with the entries sorted, it is mostly the next one's, too.
        let mut filled: Option<(&Path, Dir)> = None;
        for entry in all[start..].iter().take_while(|entry| entry.path.is_within(path)) {
            if entry.kind == Kind::Absent || self.wanted.protected.why(&entry.path).is_some() {
                continue;
            }
            if entry.path == *path {
                self.make_object(entry, copies, parent, temp)?;
                continue;
            }
            let inner = entry.path.relative().strip_prefix(path.relative()).unwrap_or(entry.path.relative());
            let below = inner.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(".".as_ref());
            let dir = match &mut filled {
                Some((of, dir)) if *of == below => dir,
                other => &mut other.insert((below, parent.dir(temp)?.dir(below)?)).1,
            };
            self.make_object(entry, copies, dir, entry.path.name())?;
        }
        Ok(())
    }

    fn make_object(&self, entry: &Entry, copies: &mut Parents, to: &Dir, name: &OsStr) -> Result<(), SidError> {
        if let Some(content) = self.wanted.made.get(&entry.path) {
            return Ok(object::make_of(&entry.kind, content, to, name)?);
        }
        let Some(files) = &self.wanted.files else { return Ok(()) };
        let from = copies.of(files, &entry.path)?.ok_or_else(|| damaged(files, entry, "it is missing"))?;
        Ok(object::make(&entry.kind, from, entry.path.name(), to, name)?)
    }
}

/// One change, ready to be made.
#[derive(Debug)]
struct Item {
    change: Change,
    temp: OsString,
    /// What a directory was before it was adjusted.
    before: Option<Meta>,
}

/// Everything lies ready; the tree is unchanged.
#[derive(Debug)]
pub struct Staged<'r> {
    root: &'r Dir,
    /// A directory of each file system that has some of it, by the number of its device.
    file_systems: BTreeMap<u64, Dir>,
    /// The directories that hold what was staged. What lay there under temporary names before is gone.
    entered: BTreeSet<Option<TreePath>>,
    items: Vec<Item>,
}

impl<'r> Staged<'r> {
    /// Makes everything of several plans for one tree ready, to be committed as one. Staged one after the other they would remove each other's
    /// temporary files.
    pub fn of_all<'p>(plans: impl IntoIterator<Item = &'p Plan<'p>>, root: &'r Dir) -> Result<Staged<'r>, SidError> {
        let mut staged = Staged { root, file_systems: BTreeMap::new(), entered: BTreeSet::new(), items: vec![] };
        let result = plans.into_iter().try_for_each(|plan| plan.fill(&mut staged)).and_then(|()| staged.flush());
        if let Err(error) = result {
            staged.discard();
            return Err(error);
        }
        Ok(staged)
    }

    /// Makes the directory that holds `path` ready to be staged in, if it is not.
    fn enter(&mut self, path: &TreePath, ways: &BTreeMap<TreePath, Meta>) -> Result<(), SidError> {
        if !self.entered.insert(path.parent()) {
            return Ok(());
        }
        let is_missing = |way: &TreePath| self.root.dir(way.relative()).is_err_and(|error| error.is_not_found());
        let made: Vec<_> = ways.iter().filter(|(way, _)| path.is_within(way) && is_missing(way)).collect();
        let parent = match path.parent() {
            Some(parent) => self.root.make_dirs(parent.relative()).map_err(|error| leads_out(path, error))?,
            None => self.root.dir(".")?,
        };
        for (way, meta) in made {
            let (above, name) = self.root.parent_of(way)?;
            object::update_dir(meta, &above, name)?;
        }
        durable::remove_leftovers(&parent)?;
        if let Some(stat) = parent.stat(OsStr::new("."))? {
            self.file_systems.entry(stat.st_dev).or_insert(parent);
        }
        Ok(())
    }

    /// Makes durable what was done: once for each file system that has some of it.
    pub fn flush(&self) -> Result<(), SidError> {
        Ok(self.file_systems.values().try_for_each(Dir::sync_file_system)?)
    }

    /// Makes all changes, durably. On a failure those made are taken back, and the tree is as it was.
    pub fn commit(mut self) -> Result<Vec<Change>, SidError> {
        self.apply()?;
        if let Err(error) = self.flush() {
            self.take_back(self.items.len());
            return Err(error);
        }
        self.discard();
        Ok(self.changes())
    }

    /// The same for a caller who will make the names durable, or repeats the installation where that did not come to pass.
    ///
    /// What was replaced lies under the temporary names until [`Staged::discard`].
    pub fn commit_unflushed(&mut self) -> Result<Vec<Change>, SidError> {
        self.apply()?;
        Ok(self.changes())
    }

    fn apply(&mut self) -> Result<(), SidError> {
        let mut parents = Parents::default();
        for index in 0..self.items.len() {
            let item = &mut self.items[index];
            let result = parents.held(self.root, item.change.path()).and_then(|parent| Ok(item.apply(parent)?));
            if let Err(error) = result {
                self.take_back(index);
                return Err(error);
            }
        }
        Ok(())
    }

    fn changes(&self) -> Vec<Change> {
        self.items.iter().map(|item| item.change.clone()).collect()
    }

    /// Undoes the first `count` changes, and removes what was staged.
    fn take_back(&self, count: usize) {
        let mut parents = Parents::default();
        for item in self.items[..count].iter().rev() {
            // Each is the reverse of a step that succeeded a moment ago and needs no space.
            let _ = parents.held(self.root, item.change.path()).and_then(|parent| Ok(item.take_back(parent)?));
        }
        self.discard();
    }

    /// Removes what lies under the temporary names: what was staged, or after a commit what was replaced.
    ///
    /// Best effort: such a name is never read, and removed by the next install.
    pub fn discard(&self) {
        let mut parents = Parents::default();
        for item in &self.items {
            let _ = parents.held(self.root, item.change.path()).and_then(|parent| Ok(parent.remove_tree(&item.temp)?));
        }
    }
}

impl Item {
    fn name(&self) -> &OsStr {
        self.change.path().name()
    }

    fn apply(&mut self, parent: &Dir) -> Result<(), FileError> {
        match &self.change {
            Change::Add(_) => parent.rename(&self.temp, parent, self.name(), Rename::NoReplace),
            Change::Replace(_) => parent.rename(&self.temp, parent, self.name(), Rename::Exchange),
            Change::Remove(_) => match parent.rename(self.name(), parent, &self.temp, Rename::NoReplace) {
                // A leftover that was cleaned away since.
                Err(error) if error.is_not_found() => Ok(()),
                other => other,
            },
            Change::Adjust(_, meta) => {
                let before = object::read(parent, self.name())?.meta().cloned();
                object::update_dir(meta, parent, self.name())?;
                self.before = before;
                Ok(())
            }
        }
    }

    /// Undoes [`Item::apply`].
    fn take_back(&self, parent: &Dir) -> Result<(), FileError> {
        match &self.change {
            Change::Add(_) => parent.rename(self.name(), parent, &self.temp, Rename::NoReplace),
            Change::Replace(_) => parent.rename(&self.temp, parent, self.name(), Rename::Exchange),
            Change::Remove(_) => parent.rename(&self.temp, parent, self.name(), Rename::NoReplace),
            Change::Adjust(..) => match &self.before {
                Some(meta) => object::update_dir(meta, parent, self.name()),
                None => Ok(()),
            },
        }
    }
}
