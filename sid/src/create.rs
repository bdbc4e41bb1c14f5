//! Snapshot Create: copies what the path lists name from the server's tree into the Snapshot of (Role, EnvVersion) [187-189].
//!
//! The older versions are made from it in the same transaction [190-194], so that a Role directory never holds Snapshots of two moments.

use crate::{
    accounts, convert,
    layout::{SidData, SidError},
    outgoing::fingerprint,
    residue,
    scan::scan_except,
    snapshot::{MANIFEST, env_versions, newest, read_list},
    transaction::Transaction,
};
use atlas_host::{durable, object, tree::Dir};
use atlas_model::{
    EnvVersion, Owners, PathList, Role,
    manifest::{Entry, FileSet, Kind, Manifest},
    reserved,
};
use std::ffi::OsStr;

/// How often a file that changes while it is copied is copied again.
const ATTEMPTS: usize = 5;

/// What a Snapshot Create did.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Created {
    /// Whose.
    pub role: Role,
    /// For which Environment.
    pub env_version: EnvVersion,
    /// The number of this change of the Role.
    pub generation: u64,
    /// Whether anything differs from the generation before.
    pub changed: bool,
    /// How many objects of the identity it holds.
    pub ident_objects: usize,
    /// How many other objects.
    pub sync_objects: usize,
    /// The older versions that were made from it.
    pub converted_to: Vec<EnvVersion>,
}

/// Makes the Snapshot of (`role`, `env_version`) from the tree below `root`, and all older ones from it.
pub fn create(root: &Dir, sid: &SidData, role: Role, env_version: EnvVersion) -> Result<Created, SidError> {
    let lists = Lists::read(sid, role, env_version)?;
    let transaction = Transaction::begin(sid, role)?;
    let created = match fill(root, sid, &transaction, &lists, role, env_version) {
        Ok(created) => created,
        Err(error) => return transaction.abandon().and(Err(error)),
    };
    if let Some(current) = sid.role_dir(role)?
        && newest(&current)? == Some(env_version)
        && fingerprint(&current, env_version)? == fingerprint(transaction.dir(), env_version)?
    {
        let generation = transaction.generation()?;
        transaction.abandon()?;
        return Ok(Created { generation, changed: false, ..created });
    }
    transaction.publish(env_version).map(|generation| Created { generation, ..created })
}

fn fill(
    root: &Dir,
    sid: &SidData,
    transaction: &Transaction,
    lists: &Lists,
    role: Role,
    env_version: EnvVersion,
) -> Result<Created, SidError> {
    let name = env_version.dir_name();
    transaction.dir().make_dir(&name, 0o700)?;
    let dir = transaction.dir().dir(&name)?;
    lists.write(&dir)?;
    let mut entries = Vec::new();
    // A listed directory may hold a part of the identity, which is not everybody's.
    for (set, list, except) in
        [(FileSet::Ident, &lists.ident, &PathList::default()), (FileSet::Sync, &lists.sync, &lists.ident)]
    {
        dir.make_dir(set.dir_name(), 0o700)?;
        entries.extend(copy_set(root, &dir.dir(set.dir_name())?, list, set, except)?);
    }
    residue::carry(sid, role, env_version, &dir)?;
    entries.extend(residue::entries(&dir)?);
    let manifest = write_manifest(&dir, role, env_version, entries, &accounts::owners_of(root)?)?;
    let mut converted_to = Vec::new();
    let mut version = env_version;
    while let Some(older) = version.older() {
        let bound = convert::Converters::of(root.shown());
        convert::step(&bound, transaction.dir(), role, version, older)?;
        converted_to.push(older);
        version = older;
    }
    Ok(Created {
        role,
        env_version,
        generation: 0,
        changed: true,
        ident_objects: manifest.of_set(FileSet::Ident).filter(|entry| entry.kind != Kind::Absent).count(),
        sync_objects: manifest.of_set(FileSet::Sync).filter(|entry| entry.kind != Kind::Absent).count(),
        converted_to,
    })
}

/// Writes the Manifest of a Snapshot directory; `owners` are the accounts of the server that the files are from.
pub(crate) fn write_manifest(
    dir: &Dir,
    role: Role,
    env_version: EnvVersion,
    entries: Vec<Entry>,
    owners: &Owners,
) -> Result<Manifest, SidError> {
    let path = dir.show(MANIFEST);
    let manifest = Manifest::new(role, env_version, entries)
        .and_then(|manifest| manifest.with_owners(owners))
        .map_err(|source| SidError::Manifest { path: path.clone(), source })?;
    let content = manifest.to_file().map_err(|source| SidError::Damaged { path, why: source.to_string() })?;
    durable::write(dir, OsStr::new(MANIFEST), &content, 0o600)?;
    Ok(manifest)
}

/// Copies all objects of `list`; what changes meanwhile is noticed by its digest, and the whole set is taken again.
fn copy_set(root: &Dir, files: &Dir, list: &PathList, set: FileSet, except: &PathList) -> Result<Vec<Entry>, SidError> {
    let scan = || scan_except(root, list, set, except);
    let mut restless = None;
    for _ in 0..ATTEMPTS {
        let before = scan()?;
        match copy_entries(root, files, &before) {
            Ok(()) => {
                let after = scan()?;
                let moved = before.iter().zip(&after).find(|(a, b)| a.path != b.path || !a.kind.same_as(&b.kind));
                if moved.is_none() && before.len() == after.len() {
                    return Ok(before);
                }
                restless = moved.map(|(entry, _)| entry).or(before.last()).map(|entry| entry.path.clone());
            }
            Err((path, error)) if scan()? == before => return Err(crate::scan::leads_out(&path, error)),
            Err((path, _)) => restless = Some(path),
        }
        for name in files.names(usize::MAX - 1)? {
            files.remove_tree(&name)?;
        }
    }
    match restless {
        Some(path) => Err(SidError::Restless(path)),
        None => Ok(vec![]),
    }
}

pub(crate) type CopyError = (atlas_model::TreePath, atlas_host::FileError);

pub(crate) fn copy_entries(root: &Dir, files: &Dir, entries: &[Entry]) -> Result<(), CopyError> {
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

/// Makes `list` one of the lists that the next Snapshot Create of (`role`, `env_version`) goes by, under the name `name`.
pub fn adopt_list(
    sid: &SidData,
    role: Role,
    env_version: EnvVersion,
    name: &str,
    list: &PathList,
) -> Result<bool, SidError> {
    let none = || SidError::NoSnapshot { role, env_version, why: format!("there is no directory {role}") };
    let role_dir = sid.role_dir(role)?.ok_or_else(none)?;
    let newest = env_versions(&role_dir)?.into_iter().rev().find(|version| *version <= env_version).ok_or_else(none)?;
    let text = list.to_file("Made from PRI's list at every cycle; changes here are lost.");
    Ok(durable::write_if_changed(&role_dir.dir(newest.dir_name())?, OsStr::new(name), text.as_bytes(), 0o600)?)
}

/// The path lists of a Role: those of the newest Environment that is not newer than the server's [271].
struct Lists {
    files: Vec<(String, Vec<u8>)>,
    ident: PathList,
    sync: PathList,
}

impl Lists {
    fn read(sid: &SidData, role: Role, env_version: EnvVersion) -> Result<Lists, SidError> {
        let none = |why: String| SidError::NoSnapshot { role, env_version, why };
        let role_dir = sid.role_dir(role)?.ok_or_else(|| none(format!("there is no directory {role}")))?;
        for version in env_versions(&role_dir)?.into_iter().rev().filter(|version| *version <= env_version) {
            let dir = role_dir.dir(version.dir_name())?;
            let Some(ident) = read_list(&dir, FileSet::Ident.list_name())? else { continue };
            let mut lists = Lists { files: vec![], ident, sync: PathList::default() };
            for name in dir.names(10_000)?.iter().filter_map(|name| name.to_str()) {
                // SyncFilePaths itself is made from the others [104].
                let is_source = name.starts_with(FileSet::Sync.list_name()) && name != FileSet::Sync.list_name();
                if is_source || name == FileSet::Ident.list_name() {
                    lists.files.push((name.to_owned(), dir.read(name, PathList::MAX_SIZE)?));
                }
                if is_source {
                    let more = read_list(&dir, name)?.unwrap_or_default();
                    reserved::check(&more, &lists.ident)
                        .map_err(|source| SidError::Reserved { path: dir.show(name), source })?;
                    lists.sync = lists.sync.paths().iter().chain(more.paths()).cloned().collect();
                }
            }
            return Ok(lists);
        }
        Err(none("there is no IdentFilePaths for this version or an older one".into()))
    }

    fn write(&self, dir: &Dir) -> Result<(), SidError> {
        for (name, content) in &self.files {
            durable::write(dir, OsStr::new(name), content, 0o600)?;
        }
        let all = self
            .sync
            .to_file("Made at every Snapshot Create from all SyncFilePaths… beside it; changes here are lost.");
        Ok(durable::write(dir, OsStr::new(FileSet::Sync.list_name()), all.as_bytes(), 0o600)?)
    }
}
