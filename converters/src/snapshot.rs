//! Reading the Snapshot to convert, and writing the one that it becomes.

use crate::{
    Error,
    residue::Residue,
    tree::{Content, Object, Store, Tree},
};
use atlas_host::{durable, object, tree::Dir};
use atlas_model::{
    EnvVersion, PathList,
    manifest::{FileSet, Kind, Manifest},
};
use std::{
    collections::BTreeMap,
    ffi::{OsStr, OsString},
    path::{Path, PathBuf},
    rc::Rc,
};

/// The sets that are converted, each for itself, and the directories of their residue.
pub const SETS: [(FileSet, &str); 2] = [(FileSet::Ident, "Ident"), (FileSet::Sync, "Sync")];

/// A Snapshot's Manifest.
pub fn manifest(snapshot: &Dir) -> Result<Manifest, Error> {
    let content = snapshot.read("Manifest", Manifest::MAX_SIZE)?;
    Manifest::parse(&content)
        .map_err(|error| Error::Damaged(format!("{} is no Manifest: {error}", snapshot.show("Manifest").display())))
}

/// Reads one set.
pub fn read(snapshot: &Dir, manifest: &Manifest, set: FileSet) -> Result<Tree, Error> {
    let mut tree = Tree::default();
    let is_list = |name: &str| match set {
        FileSet::Ident => name == set.list_name(),
        _ => name.starts_with(FileSet::Sync.list_name()),
    };
    for name in snapshot.names(10_000)?.iter().filter_map(|name| name.to_str()).filter(|name| is_list(name)) {
        tree.lists.insert(name.to_owned(), snapshot.read(name, PathList::MAX_SIZE)?);
    }
    let store = match snapshot.dir(set.dir_name()) {
        Ok(files) => Rc::new(Store::Dir(files)),
        Err(error) if error.is_not_found() => Rc::new(Store::Memory(BTreeMap::new())),
        Err(error) => return Err(error.into()),
    };
    for entry in manifest.of_set(set) {
        let content = match entry.kind {
            Kind::File { .. } => Content::Stored(store.clone(), entry.path.clone()),
            _ => Content::None,
        };
        tree.objects.insert(entry.path.clone(), Object { kind: entry.kind.clone(), content });
    }
    Ok(tree)
}

/// Writes one set into a Snapshot that has nothing of it yet. Nothing is flushed: the caller flushes once for all.
pub fn write(tree: &Tree, snapshot: &Dir, set: FileSet) -> Result<(), Error> {
    for (name, list) in &tree.lists {
        durable::write(snapshot, OsStr::new(name), list, 0o600)?;
    }
    snapshot.make_dir(set.dir_name(), 0o700)?;
    let files = snapshot.dir(set.dir_name())?;
    let there = || tree.objects.iter().filter(|(_, object)| object.kind != Kind::Absent);
    for (path, object) in there() {
        let parent = match path.parent() {
            Some(parent) => files.make_dirs(parent.relative())?,
            None => files.dir(".")?,
        };
        object.write(&parent, path.name())?;
    }
    for (path, object) in there().collect::<Vec<_>>().into_iter().rev() {
        if let Kind::Dir { .. } = object.kind {
            let (parent, name) = files.parent_of(path)?;
            object::make_dir_time(&object.kind, &parent, name)?;
        }
    }
    Ok(())
}

/// The place of the residue of a set for a version, below a Snapshot.
fn residue_path(set_name: &str, version: EnvVersion) -> PathBuf {
    Path::new(FileSet::Residue.dir_name()).join(set_name).join(version.dir_name())
}

/// The residue that a Snapshot has for a conversion to `version`.
pub fn residue(snapshot: &Dir, set_name: &str, version: EnvVersion) -> Result<Residue, Error> {
    match snapshot.dir(residue_path(set_name, version)) {
        Ok(dir) => Residue::read(&dir),
        Err(error) if error.is_not_found() => Ok(Residue::default()),
        Err(error) => Err(error.into()),
    }
}

/// Writes the residue for the way back to `version`.
pub fn write_residue(residue: &Residue, snapshot: &Dir, set_name: &str, version: EnvVersion) -> Result<(), Error> {
    if residue.is_empty() {
        return Ok(());
    }
    let dir = made(snapshot, &residue_path(set_name, version))?;
    residue.write(&dir, version)
}

/// Copies the residues for versions other than these two: they are for converters further on.
pub fn carry_residues(from: &Dir, to: &Dir, set_name: &str, but: [EnvVersion; 2]) -> Result<(), Error> {
    let path = Path::new(FileSet::Residue.dir_name()).join(set_name);
    let dir = match from.dir(&path) {
        Ok(dir) => dir,
        Err(error) if error.is_not_found() => return Ok(()),
        Err(error) => return Err(error.into()),
    };
    for name in dir.names(EnvVersion::MAX as usize)? {
        let version = name.to_str().and_then(EnvVersion::from_dir_name);
        if version.is_some_and(|version| !but.contains(&version)) {
            copy(&dir, &name, &made(to, &path)?)?;
        }
    }
    Ok(())
}

/// Makes and opens a directory of root's alone.
fn made(dir: &Dir, path: &Path) -> Result<Dir, Error> {
    let mut at = dir.dir(".")?;
    for name in path {
        at.make_dir(name, 0o700)?;
        at = at.dir(name)?;
    }
    Ok(at)
}

fn copy(from: &Dir, name: &OsString, to: &Dir) -> Result<(), Error> {
    let kind = object::read(from, name)?;
    object::make(&kind, from, name, to, name)?;
    if let Kind::Dir { .. } = kind {
        let (source, target) = (from.dir(name)?, to.dir(name)?);
        for inner in source.names(Manifest::MAX_ENTRIES)? {
            copy(&source, &inner, &target)?;
        }
        object::make_dir_time(&kind, to, name)?;
    }
    Ok(())
}

/// Gives the directories `Residue` and `Residue/Sync` of a Snapshot a time that does not depend on when it was made.
pub fn still(snapshot: &Dir) -> Result<(), Error> {
    let meta = atlas_model::manifest::Meta { mode: 0o700, ..crate::tree::plain_meta() };
    let kind = Kind::Dir { meta };
    let residue = match snapshot.dir(FileSet::Residue.dir_name()) {
        Ok(residue) => residue,
        Err(error) if error.is_not_found() => return Ok(()),
        Err(error) => return Err(error.into()),
    };
    for name in residue.names(10)? {
        object::make_dir_time(&kind, &residue, &name)?;
    }
    Ok(object::make_dir_time(&kind, snapshot, OsStr::new(FileSet::Residue.dir_name()))?)
}
