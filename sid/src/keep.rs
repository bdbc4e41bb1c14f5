//! What an installation is about to replace, kept so that it can be put back.
//!
//! ```text
//! <dir>/Manifest          the objects as they were; `absent` where something is added
//! <dir>/SyncFiles/etc/…   their copies
//! ```
//!
//! Invariant: an object that is kept already stays as it was kept first. So when an installation was cut off half-way, its repetition
//! keeps what was there before the first of the two.

use crate::{
    create::write_manifest,
    install::Change,
    layout::SidError,
    scan::{leads_out, parent_of, scan},
    snapshot::MANIFEST,
};
use atlas_host::{FileError, object, tree::Dir};
use atlas_model::{
    EnvVersion, Owners, Role, TreePath,
    manifest::{Entry, FileSet, Kind, Manifest},
};

/// Objects that were kept.
#[derive(Debug)]
pub struct Kept {
    dir: Dir,
    manifest: Manifest,
}

impl Kept {
    /// Opens what is kept in `dir`, which belongs to the server's own (`role`, `env_version`).
    pub fn open(dir: Dir, role: Role, env_version: EnvVersion) -> Result<Kept, SidError> {
        let bad = |source| SidError::Manifest { path: dir.show(MANIFEST), source };
        let manifest = match dir.read_if_there(MANIFEST, Manifest::MAX_SIZE)? {
            Some(content) => Manifest::parse(&content).map_err(bad)?,
            None => Manifest::new(role, env_version, vec![]).map_err(bad)?,
        };
        Ok(Kept { dir, manifest })
    }

    /// Keeps what `changes` will replace below `root`, as far as it is not kept yet. Durable when this returns.
    pub fn add(&mut self, root: &Dir, changes: &[Change]) -> Result<(), SidError> {
        let mut entries = Vec::new();
        for change in changes.iter().filter(|change| !self.knows(change.path())) {
            entries.extend(before(root, change)?);
        }
        entries.retain(|entry| !self.knows(&entry.path));
        // Where a directory is gone in the meantime, or is none any more, nothing that was kept of it has a place to be put back to.
        let is_below = |old: &Entry| {
            entries.iter().any(|new| {
                !matches!(new.kind, Kind::Dir { .. }) && old.path != new.path && old.path.is_within(&new.path)
            })
        };
        let before: Vec<Entry> = self.manifest.entries().iter().filter(|old| !is_below(old)).cloned().collect();
        let name = FileSet::Sync.dir_name();
        self.dir.make_dir(name, 0o700)?;
        let files = self.dir.dir(name)?;
        for entry in entries.iter().filter(|entry| !matches!(entry.kind, Kind::Dir { .. })) {
            // Left by a keeping that was cut off: in no Manifest.
            if let Some(parent) = parent_of(&files, &entry.path)? {
                parent.remove_tree(entry.path.name())?;
            }
        }
        copy_entries(root, &files, &entries).map_err(|(path, error)| leads_out(&path, error))?;
        self.dir.sync_file_system()?;
        entries.extend(before);
        let Manifest { role, env_version, .. } = self.manifest;
        self.manifest = write_manifest(&self.dir, role, env_version, entries, [].into(), &Owners::default())?;
        Ok(())
    }

    /// Whether `path` is kept, by itself or as a part of something that was no directory.
    fn knows(&self, path: &TreePath) -> bool {
        let entries = self.manifest.entries();
        let after = entries.partition_point(|entry| entry.path.as_path() <= path.as_path());
        let before = after.checked_sub(1).map(|index| &entries[index]);
        before.is_some_and(|e| e.path == *path || path.is_within(&e.path) && !matches!(e.kind, Kind::Dir { .. }))
    }

    /// Every object as it was, sorted by path.
    pub fn entries(&self) -> &[Entry] {
        self.manifest.entries()
    }

    /// The directory with the copies.
    pub fn files(&self) -> Result<Dir, SidError> {
        Ok(self.dir.dir(FileSet::Sync.dir_name())?)
    }
}

/// What lies where `change` is to be made.
fn before(root: &Dir, change: &Change) -> Result<Vec<Entry>, SidError> {
    let set = FileSet::Sync;
    let one = |path: &TreePath, kind| vec![Entry { set, path: path.clone(), kind }];
    Ok(match change {
        Change::Add(path) => one(path, Kind::Absent),
        Change::Adjust(path, _) => match parent_of(root, path)? {
            Some(parent) => one(path, object::read(&parent, path.name())?),
            None => vec![],
        },
        Change::Replace(path) | Change::Remove(path) => scan(root, &[path.clone()].into_iter().collect(), set)?,
    })
}

type CopyError = (TreePath, FileError);

fn copy_entries(root: &Dir, files: &Dir, entries: &[Entry]) -> Result<(), CopyError> {
    for entry in entries.iter().filter(|entry| entry.kind != Kind::Absent) {
        let on = |error| (entry.path.clone(), error);
        let (from, name) = root.parent_of(&entry.path).map_err(on)?;
        let to = match entry.path.parent() {
            Some(parent) => files.make_dirs(parent.relative()).map_err(on)?,
            None => files.dir(".").map_err(on)?,
        };
        object::make(&entry.kind, &from, name, &to, name).map_err(on)?;
    }
    for entry in entries.iter().rev().filter(|entry| matches!(entry.kind, Kind::Dir { .. })) {
        let on = |error| (entry.path.clone(), error);
        let (to, name) = files.parent_of(&entry.path).map_err(on)?;
        object::make_dir_time(&entry.kind, &to, name).map_err(on)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test ends where something is not as it must be")]

    use super::*;

    #[test]
    fn what_was_kept_of_a_directory_goes_with_it() {
        let tmp = tempfile::tempdir().unwrap();
        for dir in ["root/etc/app/d", "kept"] {
            std::fs::create_dir_all(tmp.path().join(dir)).unwrap();
        }
        std::fs::write(tmp.path().join("root/etc/app/d/old"), "x").unwrap();
        let root = Dir::open_root(tmp.path().join("root")).unwrap();
        let open = || {
            let dir = Dir::open_root(tmp.path().join("kept")).unwrap();
            Kept::open(dir, "SEC1".parse().unwrap(), "1".parse().unwrap()).unwrap()
        };
        let path = |text: &str| TreePath::parse(text).unwrap();
        let shown = |kept: &Kept| -> Vec<String> {
            kept.entries().iter().map(|entry| format!("{} {}", entry.path, entry.kind == Kind::Absent)).collect()
        };
        open().add(&root, &[Change::Add(path("/etc/app/d/new")), Change::Replace(path("/etc/app/d/old"))]).unwrap();
        assert_eq!(shown(&open()), ["/etc/app/d/new true", "/etc/app/d/old false"]);
        // The run was cut off, and somebody removes the directory before the next.
        std::fs::remove_dir_all(tmp.path().join("root/etc/app/d")).unwrap();
        open().add(&root, &[Change::Add(path("/etc/app/d"))]).unwrap();
        assert_eq!(shown(&open()), ["/etc/app/d true"]);
    }
}
