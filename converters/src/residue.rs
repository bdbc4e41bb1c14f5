//! Residue: what a Snapshot says and the one that was made from it cannot, so that the way back gives the same bytes.
//!
//! It is not made by parts but found: the new tree is converted back, and what differs from the tree that it came from is kept.
//!
//! ```text
//! older(NEW) = OLD          newer(OLD) = BACK        residue = what makes NEW of BACK
//!
//! Env1/Residue/Sync/Env2/                            used up when Env1 is converted to Env2
//!   Changes                                          one JSON object a line: what is changed, and from which state
//!   Edits/etc/ssh/sshd_config                        a unified diff
//!   Files/etc/ntpsec/ntp.d/nts.conf                  a whole file
//!   Lists/SyncFilePathsSSH                           a unified diff of a path list
//! ```
//!
//! Putting it back never undoes what was changed on the older server meanwhile: a diff goes where its surroundings are still there, and
//! everything else only where the object is still what it was.

use crate::{
    Error, patch,
    tree::{Content, MAX_TEXT, Object, Store, Tree},
};
use atlas_host::{object, tree::Dir};
use atlas_model::{
    EnvVersion, TreePath,
    manifest::{FileSet, Kind, Meta},
};
use serde::{Deserialize, Serialize};
use std::{collections::BTreeMap, ffi::OsStr, path::Path, rc::Rc};

const CHANGES: &str = "Changes";
const EDITS: &str = "Edits";
const FILES: &str = "Files";
const LISTS: &str = "Lists";
/// The largest `Changes`, and the largest diff: a diff has the lines of both files.
const MAX_CHANGES: usize = 64 << 20;
const MAX_DIFF: usize = 3 * MAX_TEXT;

#[derive(Serialize, Deserialize)]
struct Header {
    atlas: String,
    format: u32,
    env_version: EnvVersion,
}

/// One thing to put back.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase", tag = "change")]
pub enum Change {
    /// The lines of a file; and its owner, mode, times, if they are still what they were.
    Edit {
        /// Which.
        path: TreePath,
        /// What they were, and what they become.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        meta: Option<(Meta, Meta)>,
    },
    /// A whole object: where `was` is (nothing, if that is none), `is` belongs.
    Put {
        /// Where.
        path: TreePath,
        /// What has to be there.
        was: Option<Kind>,
        /// What takes its place.
        is: Option<Kind>,
    },
    /// The lines of a path list.
    List {
        /// Its name: `IdentFilePaths`, or `SyncFilePaths…`.
        name: String,
    },
}

impl Change {
    /// Reads the file `Changes`; `None` where it is none of this format. A partner may have written it.
    pub fn parse_all(content: &[u8]) -> Option<Vec<Change>> {
        let mut lines = content.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
        let header: Header = lines.next().and_then(|line| serde_json::from_slice(line).ok())?;
        if header.atlas != "residue" || header.format != 1 {
            return None;
        }
        let changes: Option<Vec<Change>> = lines.map(|line| serde_json::from_slice(line).ok()).collect();
        changes.filter(|changes| changes.iter().all(Change::is_sound))
    }

    /// A list must have the name of one: it becomes that of a file.
    fn is_sound(&self) -> bool {
        let Change::List { name } = self else { return true };
        let plain = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
        let is_list = name == FileSet::Ident.list_name() || name.starts_with(FileSet::Sync.list_name());
        is_list && name.chars().all(plain)
    }
}

/// All that has to be put back into one tree.
#[derive(Debug, Default)]
pub struct Residue {
    changes: Vec<Change>,
    diffs: BTreeMap<TreePath, Vec<u8>>,
    files: BTreeMap<TreePath, Content>,
    lists: BTreeMap<String, Vec<u8>>,
}

impl Residue {
    /// What makes `wanted` of `tree`.
    pub fn between(tree: &Tree, wanted: &Tree) -> Result<Residue, Error> {
        let mut residue = Residue::default();
        for (name, list) in &wanted.lists {
            let there = tree.lists.get(name).map(Vec::as_slice).unwrap_or_default();
            if there != list {
                residue.lists.insert(name.clone(), patch::between(there, list, name));
                residue.changes.push(Change::List { name: name.clone() });
            }
        }
        let paths: std::collections::BTreeSet<&TreePath> = tree.objects.keys().chain(wanted.objects.keys()).collect();
        for path in paths {
            let (was, is) = (tree.objects.get(path), wanted.objects.get(path));
            if was != is {
                residue.add(path, was, is)?;
            }
        }
        Ok(residue)
    }

    fn add(&mut self, path: &TreePath, was: Option<&Object>, is: Option<&Object>) -> Result<(), Error> {
        if let (Some(was), Some(is)) = (was, is)
            && let (Some(old), Some(new)) = (small_file(was), small_file(is))
        {
            let diff = match (was.read()?, is.read()?) {
                (Some(a), Some(b)) if a != b => Some(patch::between(&a, &b, &path.to_string())),
                _ => None,
            };
            if let Some(diff) = diff {
                self.diffs.insert(path.clone(), diff);
                let meta = (old != new).then(|| (old.clone(), new.clone()));
                self.changes.push(Change::Edit { path: path.clone(), meta });
                return Ok(());
            }
        }
        let [was_kind, is_kind] = [was, is].map(|object| object.map(|object| object.kind.clone()));
        if let Some(object) = is
            && needs_file(was_kind.as_ref(), is_kind.as_ref())
        {
            self.files.insert(path.clone(), object.content.clone());
        }
        self.changes.push(Change::Put { path: path.clone(), was: was_kind, is: is_kind });
        Ok(())
    }

    /// Whether there is nothing to put back.
    pub fn is_empty(&self) -> bool {
        self.changes.is_empty()
    }

    /// The paths and lists that are changed, for people.
    pub fn what(&self) -> Vec<String> {
        let told = self.changes.iter().map(|change| match change {
            Change::Edit { path, .. } | Change::Put { path, .. } => path.to_string(),
            Change::List { name } => name.clone(),
        });
        told.collect()
    }

    /// The diffs by path, for people.
    pub fn diffs(&self) -> impl Iterator<Item = (&TreePath, &[u8])> {
        self.diffs.iter().map(|(path, diff)| (path, diff.as_slice()))
    }

    /// Puts everything back that still fits; gives the paths of what does not.
    pub fn apply(&self, tree: &mut Tree) -> Result<Vec<String>, Error> {
        let mut left_out = Vec::new();
        for change in &self.changes {
            let all = match change {
                Change::List { name } => self.apply_list(tree, name)?,
                Change::Edit { path, meta } => self.apply_edit(tree, path, meta.as_ref())?,
                Change::Put { path, was, is } => self.apply_put(tree, path, was.as_ref(), is.as_ref()),
            };
            if !all {
                left_out.extend(Residue { changes: vec![change.clone()], ..Residue::default() }.what());
            }
        }
        Ok(left_out)
    }

    fn apply_list(&self, tree: &mut Tree, name: &str) -> Result<bool, Error> {
        let diff = self.lists.get(name).ok_or_else(|| lost(name))?;
        let list = tree.lists.entry(name.to_owned()).or_default();
        let applied = patch::apply(list, diff).ok_or_else(|| lost(name))?;
        *list = applied.content;
        Ok(applied.left_out == 0)
    }

    fn apply_edit(&self, tree: &mut Tree, path: &TreePath, meta: Option<&(Meta, Meta)>) -> Result<bool, Error> {
        let Some(text) = tree.text(path)? else { return Ok(false) };
        let diff = self.diffs.get(path).ok_or_else(|| lost(path))?;
        let applied = patch::apply(&text, diff).ok_or_else(|| lost(path))?;
        let there = tree.objects.get(path).and_then(|object| object.kind.meta()).cloned();
        let meta = match (there, meta) {
            (Some(there), Some((was, is))) if there == *was => is.clone(),
            (Some(there), _) => there,
            (None, _) => return Ok(false),
        };
        tree.objects.insert(path.clone(), Object::file(applied.content, meta));
        Ok(applied.left_out == 0)
    }

    fn apply_put(&self, tree: &mut Tree, path: &TreePath, was: Option<&Kind>, is: Option<&Kind>) -> bool {
        let there = tree.objects.get(path);
        let unchanged = match (there.map(|object| &object.kind), was) {
            (Some(there), Some(was)) => there.same_as(was),
            (there, was) => is_nothing(there) && is_nothing(was),
        };
        if !unchanged {
            return false;
        }
        match (is, self.files.get(path), there) {
            (None, ..) => {
                tree.objects.remove(path);
            }
            (Some(kind), Some(content), _) => {
                tree.objects.insert(path.clone(), Object { kind: kind.clone(), content: content.clone() });
            }
            (Some(kind), None, there) => {
                let content = there.map_or(Content::None, |there| there.content.clone());
                tree.objects.insert(path.clone(), Object { kind: kind.clone(), content });
            }
        }
        true
    }

    /// Writes it into a directory that is made for it; nothing where there is nothing.
    pub fn write(&self, dir: &Dir, env_version: EnvVersion) -> Result<(), Error> {
        if self.is_empty() {
            return Ok(());
        }
        let header = Header { atlas: "residue".into(), format: 1, env_version };
        let mut lines = vec![serde_json::to_string(&header).map_err(|error| unwritable(&error))?];
        for change in &self.changes {
            lines.push(serde_json::to_string(change).map_err(|error| unwritable(&error))?);
        }
        let texts = self.diffs.iter().map(|(path, diff)| (Path::new(EDITS).join(path.relative()), diff));
        let lists = self.lists.iter().map(|(name, diff)| (Path::new(LISTS).join(name), diff));
        write_secret(dir, Path::new(CHANGES), (lines.join("\n") + "\n").as_bytes())?;
        texts.chain(lists).try_for_each(|(path, diff)| write_secret(dir, &path, diff))?;
        for change in &self.changes {
            if let Change::Put { path, is: Some(Kind::File { size, sha256, .. }), .. } = change
                && let Some(content) = self.files.get(path)
            {
                let kind = Kind::File { size: *size, sha256: *sha256, meta: secret(0o600) };
                let at = Path::new(FILES).join(path.relative());
                Object { kind, content: content.clone() }.write(&secret_dirs(dir, &at)?, path.name())?;
            }
        }
        still(dir)
    }

    /// Reads what [`Residue::write`] wrote.
    pub fn read(dir: &Dir) -> Result<Residue, Error> {
        let content = dir.read(CHANGES, MAX_CHANGES)?;
        let damaged = || Error::Damaged(format!("{} is no residue of format 1", dir.show(CHANGES).display()));
        let changes = Change::parse_all(&content).ok_or_else(damaged)?;
        let mut residue = Residue::default();
        let store = match dir.dir(FILES) {
            Ok(files) => Some(Rc::new(Store::Dir(files))),
            Err(error) if error.is_not_found() => None,
            Err(error) => return Err(error.into()),
        };
        for change in changes {
            match &change {
                Change::List { name } => {
                    residue.lists.insert(name.clone(), dir.read(Path::new(LISTS).join(name), MAX_DIFF)?);
                }
                Change::Edit { path, .. } => {
                    residue.diffs.insert(path.clone(), dir.read(Path::new(EDITS).join(path.relative()), MAX_DIFF)?);
                }
                Change::Put { path, was, is } if needs_file(was.as_ref(), is.as_ref()) => {
                    let store = store.clone().ok_or_else(damaged)?;
                    residue.files.insert(path.clone(), Content::Stored(store, path.clone()));
                }
                Change::Put { .. } => {}
            }
            residue.changes.push(change);
        }
        Ok(residue)
    }
}

/// The owner, mode and times of a file that is small enough for a diff.
fn small_file(object: &Object) -> Option<&Meta> {
    match &object.kind {
        Kind::File { size, meta, .. } if *size <= MAX_TEXT as u64 => Some(meta),
        _ => None,
    }
}

/// Whether a file is put there whose content is not there yet.
fn needs_file(was: Option<&Kind>, is: Option<&Kind>) -> bool {
    match (was, is) {
        (Some(Kind::File { sha256: was, .. }), Some(Kind::File { sha256: is, .. })) => was != is,
        (_, is) => matches!(is, Some(Kind::File { .. })),
    }
}

/// Nothing there, and a listed path with nothing there, are the same for what is to be put in its place.
fn is_nothing(kind: Option<&Kind>) -> bool {
    kind.is_none_or(|kind| *kind == Kind::Absent)
}

fn lost(what: impl std::fmt::Display) -> Error {
    Error::Damaged(format!("the residue of {what} is missing or no diff"))
}

fn unwritable(error: &serde_json::Error) -> Error {
    Error::Damaged(format!("the residue cannot be written: {error}"))
}

/// Root's alone, and always of one time: the same residue gives the same Manifest.
fn secret(mode: u32) -> Meta {
    Meta { mode, ..crate::tree::plain_meta() }
}

fn write_secret(dir: &Dir, path: &Path, content: &[u8]) -> Result<(), Error> {
    let at = secret_dirs(dir, path)?;
    Object::file(content.to_vec(), secret(0o600)).write(&at, path.file_name().unwrap_or(OsStr::new(CHANGES)))
}

/// Makes and opens the directory of `path`.
fn secret_dirs(dir: &Dir, path: &Path) -> Result<Dir, Error> {
    let mut at = dir.dir(".")?;
    for name in path.parent().into_iter().flat_map(Path::iter) {
        at.make_dir(name, 0o700)?;
        at = at.dir(name)?;
    }
    Ok(at)
}

/// Gives all directories below the time of the files.
fn still(dir: &Dir) -> Result<(), Error> {
    for name in dir.names(atlas_model::manifest::Manifest::MAX_ENTRIES)? {
        if let Some(stat) = dir.stat(&name)?
            && atlas_host::tree::ObjectType::of(&stat) == atlas_host::tree::ObjectType::Dir
        {
            still(&dir.dir(&name)?)?;
            object::make_dir_time(&Kind::Dir { meta: secret(0o700) }, dir, &name)?;
        }
    }
    Ok(())
}
