//! Finding the Snapshot of (Role, EnvVersion), and checking that it is whole.

use crate::layout::{SidError, read_env_version};
use atlas_host::tree::Dir;
use atlas_model::{
    EnvVersion, PathList, Role,
    manifest::{BadManifest, FileSet, Kind, Manifest},
};

/// The file that says which Snapshots are valid.
pub const SNAPSHOT_ENV_VERSION: &str = "SnapshotEnvVersion";
/// The file that counts the Snapshot Creates of a Role that found a change.
pub const GENERATION: &str = "Generation";
/// The file that lists what a Snapshot holds.
pub const MANIFEST: &str = "Manifest";

/// A Snapshot whose Manifest and lists were read and fit each other.
#[derive(Debug)]
pub struct Snapshot {
    /// Its directory.
    pub dir: Dir,
    /// What it holds.
    pub manifest: Manifest,
    /// The paths of the identity.
    pub ident_paths: PathList,
}

/// How a Manifest is read: whole, or one set of it.
type Parse = fn(&[u8]) -> Result<Manifest, BadManifest>;

/// What a Role directory offers to one Environment.
#[derive(Debug)]
pub enum Found {
    /// No Snapshot was ever made; the path lists are there [271].
    FromScratch,
    /// The Snapshot for this very Environment.
    Exact(Snapshot),
    /// Only an older one; it has to be converted [268].
    Older(Snapshot),
}

/// Finds what `role_dir` has for a server of `env_version`.
pub fn find(role_dir: &Dir, role: Role, env_version: EnvVersion) -> Result<Found, SidError> {
    find_read_by(Manifest::parse, role_dir, role, env_version)
}

/// The same, with no more in the Manifest than the IdentFiles: for a boot, which waits for it.
pub fn find_identity(role_dir: &Dir, role: Role, env_version: EnvVersion) -> Result<Found, SidError> {
    find_read_by(|content| Manifest::parse_set(content, FileSet::Ident), role_dir, role, env_version)
}

fn find_read_by(parse: Parse, role_dir: &Dir, role: Role, env_version: EnvVersion) -> Result<Found, SidError> {
    let none = |why: String| Err(SidError::NoSnapshot { role, env_version, why });
    let Some(newest) = newest(role_dir)? else {
        return from_scratch(role_dir, role, env_version);
    };
    let version = newest.min(env_version);
    match Snapshot::open_read_by(parse, role_dir, role, version)? {
        Some(snapshot) if version == env_version => Ok(Found::Exact(snapshot)),
        Some(snapshot) => Ok(Found::Older(snapshot)),
        None if newest > env_version => {
            none(format!("the server that made it is of {newest} and left none for {env_version}"))
        }
        None => none(format!("SnapshotEnvVersion says {newest}, but there is no Snapshot of that version")),
    }
}

/// Without SnapshotEnvVersion there must be path lists and nothing that looks like a Snapshot.
fn from_scratch(role_dir: &Dir, role: Role, env_version: EnvVersion) -> Result<Found, SidError> {
    let mut lists = false;
    for version in env_versions(role_dir)? {
        let dir = role_dir.dir(version.dir_name())?;
        for remains in [MANIFEST, FileSet::Ident.dir_name()] {
            if dir.stat(remains.as_ref())?.is_some() {
                let why = format!("it has {remains}, but {SNAPSHOT_ENV_VERSION} of its role is missing");
                return Err(SidError::Damaged { path: dir.shown().to_owned(), why });
            }
        }
        if version <= env_version && read_list(&dir, FileSet::Ident.list_name())?.is_some() {
            lists = true;
        }
    }
    if lists {
        return Ok(Found::FromScratch);
    }
    let why = format!("there is neither a Snapshot nor an IdentFilePaths for {env_version} or older");
    Err(SidError::NoSnapshot { role, env_version, why })
}

/// SnapshotEnvVersion: the newest version with a valid Snapshot; `None` where none was ever made [189].
pub fn newest(role_dir: &Dir) -> Result<Option<EnvVersion>, SidError> {
    read_env_version(role_dir, SNAPSHOT_ENV_VERSION)
}

/// How many times the Role's Snapshots were made anew on the server that has the Role; 0 where that was never counted.
pub fn generation(role_dir: &Dir) -> Result<u64, SidError> {
    let Some(content) = role_dir.read_if_there(GENERATION, 32)? else { return Ok(0) };
    let number = std::str::from_utf8(&content).ok().and_then(|text| text.trim_end().parse().ok());
    number.ok_or_else(|| SidError::Damaged {
        path: role_dir.show(GENERATION),
        why: "it holds no number; remove it to begin to count anew".into(),
    })
}

/// The versions that have a directory below a Role, oldest first.
pub fn env_versions(role_dir: &Dir) -> Result<Vec<EnvVersion>, SidError> {
    let names = role_dir.names(EnvVersion::MAX as usize)?;
    let mut versions: Vec<_> = names.iter().filter_map(|name| EnvVersion::from_dir_name(name.to_str()?)).collect();
    versions.sort_unstable();
    Ok(versions)
}

/// Reads a path list; `None` where there is none.
pub fn read_list(dir: &Dir, name: &str) -> Result<Option<PathList>, SidError> {
    let Some(content) = dir.read_if_there(name, PathList::MAX_SIZE + 1)? else { return Ok(None) };
    PathList::parse(&content).map(Some).map_err(|source| SidError::PathList { path: dir.show(name), source })
}

impl Snapshot {
    /// Opens one version; `None` where there is no such directory.
    pub fn open(role_dir: &Dir, role: Role, version: EnvVersion) -> Result<Option<Snapshot>, SidError> {
        Snapshot::open_read_by(Manifest::parse, role_dir, role, version)
    }

    fn open_read_by(
        parse: Parse,
        role_dir: &Dir,
        role: Role,
        version: EnvVersion,
    ) -> Result<Option<Snapshot>, SidError> {
        let dir = match role_dir.dir(version.dir_name()) {
            Ok(dir) => dir,
            Err(error) if error.is_not_found() => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let path = dir.shown().to_owned();
        let damaged = |why: String| SidError::Damaged { path: path.clone(), why };
        let ident_paths =
            read_list(&dir, FileSet::Ident.list_name())?.ok_or_else(|| damaged("IdentFilePaths is missing".into()))?;
        let content = dir
            .read_if_there(MANIFEST, Manifest::MAX_SIZE)?
            .ok_or_else(|| damaged("its Manifest is missing".into()))?;
        let manifest = parse(&content).map_err(|source| SidError::Manifest { path: dir.show(MANIFEST), source })?;
        if (manifest.role, manifest.env_version) != (role, version) {
            return Err(damaged(format!("its Manifest is that of ({}, {})", manifest.role, manifest.env_version)));
        }
        if let Some(stray) = manifest.of_set(FileSet::Ident).find(|entry| !ident_paths.covers(&entry.path)) {
            return Err(damaged(format!("its Manifest has {}, which IdentFilePaths does not list", stray.path)));
        }
        if let Some(lost) =
            ident_paths.paths().iter().find(|path| manifest.of_set(FileSet::Ident).all(|e| e.path != **path))
        {
            return Err(damaged(format!("IdentFilePaths lists {lost}, which its Manifest does not have")));
        }
        Ok(Some(Snapshot { dir, manifest, ident_paths }))
    }

    /// The directory with the copies of one set; `None` where the set has no object.
    pub fn files(&self, set: FileSet) -> Result<Option<Dir>, SidError> {
        match self.dir.dir(set.dir_name()) {
            Ok(dir) => Ok(Some(dir)),
            Err(error) if error.is_not_found() && self.manifest.of_set(set).all(|entry| entry.kind == Kind::Absent) => {
                Ok(None)
            }
            Err(error) => Err(error.into()),
        }
    }
}
