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

use crate::{
    layout::SidError,
    scan::{leads_out, parent_of},
    snapshot::Snapshot,
};
use atlas_host::{
    FileError,
    durable::{self, temp_name},
    object,
    tree::{Dir, Rename},
};
use atlas_model::{
    TreePath,
    manifest::{Entry, FileSet, Kind, Manifest, Meta},
};
use std::{
    collections::BTreeSet,
    ffi::{OsStr, OsString},
    fmt,
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

/// The difference between a Snapshot's set and a server's tree.
#[derive(Debug)]
pub struct Plan<'a> {
    entries: Vec<&'a Entry>,
    files: Option<Dir>,
    changes: Vec<Change>,
}

impl<'a> Plan<'a> {
    /// Compares; writes nothing. Every copy in the Snapshot that will be used is opened, so that a missing one is found here.
    pub fn make(root: &Dir, snapshot: &'a Snapshot, set: FileSet) -> Result<Plan<'a>, SidError> {
        let entries: Vec<&Entry> = snapshot.manifest.of_set(set).collect();
        let wanted: BTreeSet<&TreePath> = entries.iter().filter(|e| e.kind != Kind::Absent).map(|e| &e.path).collect();
        let mut plan = Plan { files: snapshot.files(set)?, entries, changes: vec![] };
        let mut made_whole: Option<&TreePath> = None;
        for entry in plan.entries.clone() {
            plan.check_copy(entry)?;
            if made_whole.is_some_and(|dir| entry.path.is_within(dir)) {
                continue;
            }
            let is = match parent_of(root, &entry.path)? {
                Some(parent) => object::read_to_compare(&parent, entry.path.name(), &entry.kind)?,
                None => Kind::Absent,
            };
            if let Some(change) = change(&is, entry) {
                if matches!(entry.kind, Kind::Dir { .. }) && !matches!(change, Change::Adjust(..)) {
                    made_whole = Some(&entry.path);
                }
                plan.changes.push(change);
            }
            if matches!((&is, &entry.kind), (Kind::Dir { .. }, Kind::Dir { .. })) {
                plan.changes.extend(strangers(root, &entry.path, &wanted)?);
            }
        }
        Ok(plan)
    }

    /// What differs, in the order of paths.
    pub fn changes(&self) -> &[Change] {
        &self.changes
    }

    /// The copy in the Snapshot must be there, and of the kind that the Manifest says.
    fn check_copy(&self, entry: &Entry) -> Result<(), SidError> {
        if entry.kind == Kind::Absent {
            return Ok(());
        }
        let damaged =
            |path: &Dir, why: &str| SidError::Damaged { path: path.show(entry.path.relative()), why: why.into() };
        let Some(files) = &self.files else { return Ok(()) };
        let (dir, name) = files.parent_of(&entry.path).map_err(|error| match leads_out(&entry.path, error) {
            SidError::File(error) if error.is_not_found() => damaged(files, "it is missing"),
            other => other,
        })?;
        let kind = object::read_to_compare(&dir, name, &entry.kind)?;
        if std::mem::discriminant(&kind) != std::mem::discriminant(&entry.kind) {
            return Err(damaged(files, "it is missing, or not of the kind that the Manifest says"));
        }
        if let (Kind::File { sha256: is, .. }, Kind::File { sha256: said, .. }) = (&kind, &entry.kind)
            && is != said
        {
            return Err(damaged(files, "its content is not what the Manifest says"));
        }
        Ok(())
    }

    /// Makes everything ready beside its target. Whatever fails, the tree is as it was.
    pub fn stage<'r>(&self, root: &'r Dir) -> Result<Staged<'r>, SidError> {
        let mut staged = Staged { root, items: vec![] };
        let mut cleaned = BTreeSet::new();
        for change in &self.changes {
            let result = self.stage_one(root, change, &mut cleaned);
            match result {
                Ok(item) => staged.items.push(item),
                Err(error) => {
                    staged.discard();
                    return Err(error);
                }
            }
        }
        if let Err(error) = root.sync_file_system() {
            staged.discard();
            return Err(error.into());
        }
        Ok(staged)
    }

    fn stage_one(
        &self,
        root: &Dir,
        change: &Change,
        cleaned: &mut BTreeSet<Option<TreePath>>,
    ) -> Result<Item, SidError> {
        let path = change.path();
        let parent = match path.parent() {
            Some(parent) => root.make_dirs(parent.relative()).map_err(|error| leads_out(path, error))?,
            None => root.dir(".")?,
        };
        if cleaned.insert(path.parent()) {
            durable::remove_leftovers(&parent)?;
        }
        let temp = temp_name();
        if matches!(change, Change::Add(_) | Change::Replace(_))
            && let Err(error) = self.make_temp(path, &parent, &temp)
        {
            // Best effort: what is left has a name that the next install removes.
            let _ = parent.remove_tree(&temp);
            return Err(error);
        }
        Ok(Item { change: change.clone(), parent, temp, before: None })
    }

    /// Makes the object at `path`, with all that lies below it, under the name `temp`.
    fn make_temp(&self, path: &TreePath, parent: &Dir, temp: &OsStr) -> Result<(), SidError> {
        let Some(files) = &self.files else { return Ok(()) };
        let below: Vec<&&Entry> =
            self.entries.iter().filter(|e| e.path.is_within(path) && e.kind != Kind::Absent).collect();
        for entry in &below {
            let (from, name) = files.parent_of(&entry.path)?;
            if entry.path == *path {
                object::make(&entry.kind, &from, name, parent, temp)?;
            } else {
                let inner = entry.path.relative().strip_prefix(path.relative()).unwrap_or(entry.path.relative());
                let to = parent
                    .dir(temp)?
                    .dir(inner.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(".".as_ref()))?;
                object::make(&entry.kind, &from, name, &to, name)?;
            }
        }
        Ok(())
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

/// Objects in a directory of the set that the set does not have: leftovers of another identity.
fn strangers(root: &Dir, path: &TreePath, wanted: &BTreeSet<&TreePath>) -> Result<Vec<Change>, SidError> {
    let dir = root.dir(path.relative())?;
    let mut strangers = Vec::new();
    for name in dir.names(Manifest::MAX_ENTRIES)? {
        let inner =
            path.join(&name).map_err(|error| FileError::on("read", dir.show(&name))(std::io::Error::other(error)))?;
        if !wanted.contains(&inner) {
            strangers.push(Change::Remove(inner));
        }
    }
    Ok(strangers)
}

/// One change, ready to be made.
#[derive(Debug)]
struct Item {
    change: Change,
    parent: Dir,
    temp: OsString,
    /// What a directory was before it was adjusted.
    before: Option<Meta>,
}

/// Everything lies ready; the tree is unchanged.
#[derive(Debug)]
pub struct Staged<'a> {
    root: &'a Dir,
    items: Vec<Item>,
}

impl Staged<'_> {
    /// Makes all changes. On a failure those made are taken back, and the tree is as it was.
    pub fn commit(mut self) -> Result<Vec<Change>, SidError> {
        for index in 0..self.items.len() {
            if let Err(error) = self.items[index].apply() {
                self.items[..index].iter().rev().for_each(Item::take_back);
                self.discard();
                return Err(error.into());
            }
        }
        for item in &self.items {
            item.parent.sync()?;
        }
        let changes = self.items.iter().map(|item| item.change.clone()).collect();
        self.discard();
        Ok(changes)
    }

    /// Removes what lies under the temporary names: what was staged, or after a commit what was replaced.
    ///
    /// Best effort: such a name is never read, and removed by the next install.
    pub fn discard(&self) {
        for item in &self.items {
            let _ = item.parent.remove_tree(&item.temp);
        }
        let _ = self.root.sync();
    }
}

impl Item {
    fn name(&self) -> &OsStr {
        self.change.path().name()
    }

    fn apply(&mut self) -> Result<(), FileError> {
        match &self.change {
            Change::Add(_) => self.parent.rename(&self.temp, &self.parent, self.name(), Rename::NoReplace),
            Change::Replace(_) => self.parent.rename(&self.temp, &self.parent, self.name(), Rename::Exchange),
            Change::Remove(_) => match self.parent.rename(self.name(), &self.parent, &self.temp, Rename::NoReplace) {
                // A leftover that was cleaned away since.
                Err(error) if error.is_not_found() => Ok(()),
                other => other,
            },
            Change::Adjust(_, meta) => {
                let before = object::read(&self.parent, self.name())?.meta().cloned();
                object::update_dir(meta, &self.parent, self.change.path().name())?;
                self.before = before;
                Ok(())
            }
        }
    }

    /// Undoes [`Item::apply`]. Each is the reverse of a step that succeeded a moment ago and needs no space.
    fn take_back(&self) {
        let _ = match &self.change {
            Change::Add(_) => self.parent.rename(self.name(), &self.parent, &self.temp, Rename::NoReplace),
            Change::Replace(_) => self.parent.rename(&self.temp, &self.parent, self.name(), Rename::Exchange),
            Change::Remove(_) => self.parent.rename(&self.temp, &self.parent, self.name(), Rename::NoReplace),
            Change::Adjust(..) => match &self.before {
                Some(meta) => object::update_dir(meta, &self.parent, self.name()),
                None => Ok(()),
            },
        };
    }
}
