//! The sending side of a Snapshot Send [195-197]: what a Role directory holds, and its content by digest.
//!
//! A Snapshot Send is an offer first: Role, generation, SnapshotEnvVersion and a fingerprint over all that describes them. A partner that holds
//! the same answers so, and nothing else travels. Otherwise it gets the descriptions (path lists and Manifest of each Snapshot), asks for the
//! content that it lacks, by digest, and gets that.
//!
//! Invariant: an offer names only what SnapshotEnvVersion says is valid. A newer leftover is never sent [189].

use crate::{
    layout::{SidData, SidError},
    snapshot::{self, MANIFEST, Snapshot, generation},
};
use atlas_host::tree::Dir;
use atlas_model::{
    Digest, EnvVersion, PathList, Role,
    manifest::{FileSet, Kind, Manifest},
};
use serde::{Deserialize, Serialize};
use std::{collections::HashMap, fs::File};

/// What a server has of one Role.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Offer {
    /// Whose Snapshots.
    pub role: Role,
    /// The number of the change that they are of.
    pub generation: u64,
    /// SnapshotEnvVersion: the newest that is valid.
    pub newest: EnvVersion,
    /// Over what describes them, see [`fingerprint`].
    pub fingerprint: Digest,
}

/// The files of a Snapshot that say what else it holds: path lists and Manifest, by name.
pub type Description = Vec<(String, Vec<u8>)>;

/// A Role directory that is offered. Its Snapshots are not read yet: mostly the partner has them.
#[derive(Debug)]
pub struct Offered {
    offer: Offer,
    dir: Dir,
}

/// A Role directory that is read for sending.
#[derive(Debug)]
pub struct Outgoing {
    snapshots: Vec<Snapshot>,
    /// Where content lies: which Snapshot, which entry of its Manifest.
    by_digest: HashMap<Digest, (usize, usize)>,
}

impl Offered {
    /// Opens the valid Snapshots of `role`.
    pub fn open(sid: &SidData, role: Role) -> Result<Offered, SidError> {
        let dir = sid.role_dir(role)?;
        let none = |why: &str| SidError::NoSnapshot { role, env_version: EnvVersion::OLDEST, why: why.into() };
        let dir = dir.ok_or_else(|| none("there is no directory of that name"))?;
        let newest = snapshot::newest(&dir)?.ok_or_else(|| none("none was ever made"))?;
        let offer = Offer { role, generation: generation(&dir)?, newest, fingerprint: fingerprint(&dir, newest)? };
        Ok(Offered { offer, dir })
    }

    /// What is offered.
    pub fn offer(&self) -> &Offer {
        &self.offer
    }

    /// Reads and checks all of it.
    pub fn read(&self) -> Result<Outgoing, SidError> {
        let role = self.offer.role;
        let mut snapshots = Vec::new();
        for version in EnvVersion::up_to(self.offer.newest) {
            let lost = || SidError::NoSnapshot { role, env_version: version, why: "its directory is missing".into() };
            snapshots.push(Snapshot::open(&self.dir, role, version)?.ok_or_else(lost)?);
        }
        let mut by_digest = HashMap::new();
        for (at, snapshot) in snapshots.iter().enumerate() {
            for (index, entry) in snapshot.manifest.entries().iter().enumerate() {
                if let Kind::File { sha256, .. } = entry.kind {
                    by_digest.entry(sha256).or_insert((at, index));
                }
            }
        }
        Ok(Outgoing { snapshots, by_digest })
    }
}

impl Outgoing {
    /// The description of each Snapshot, oldest version first.
    pub fn descriptions(&self) -> impl Iterator<Item = Result<(EnvVersion, Description), SidError>> + '_ {
        self.snapshots.iter().map(|snapshot| Ok((snapshot.manifest.env_version, describe(&snapshot.dir)?)))
    }

    /// The content of this digest, and its size; `None` where nothing that was offered has it.
    pub fn content(&self, digest: &Digest) -> Result<Option<(File, u64)>, SidError> {
        let Some((at, index)) = self.by_digest.get(digest) else { return Ok(None) };
        let snapshot = &self.snapshots[*at];
        let entry = &snapshot.manifest.entries()[*index];
        let Kind::File { size, .. } = entry.kind else { return Ok(None) };
        let Some(files) = snapshot.files(entry.set)? else { return Ok(None) };
        let (dir, name) = files.parent_of(&entry.path)?;
        Ok(Some((dir.file(name)?, size)))
    }
}

/// Whether a name in a Snapshot directory is that of a file which describes it.
pub(crate) fn describes(name: &str) -> bool {
    name == MANIFEST || [FileSet::Ident, FileSet::Sync].iter().any(|set| name == set.list_name()) || is_source(name)
}

/// Whether it is the name of a list that people write: `SyncFilePaths` and letters, digits, `-` and `_`. What an editor leaves beside it
/// (`SyncFilePathsSpecial~`) is none.
pub fn is_source(name: &str) -> bool {
    let plain = |text: &str| {
        (1..=64).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
    };
    name.strip_prefix(FileSet::Sync.list_name()).is_some_and(plain)
}

/// The largest of these files, in bytes.
pub fn description_limit(name: &str) -> usize {
    if name == MANIFEST { Manifest::MAX_SIZE } else { PathList::MAX_SIZE }
}

/// The most files of a description.
pub const MAX_DESCRIPTION_FILES: usize = 1000;

fn describe(dir: &Dir) -> Result<Description, SidError> {
    let mut names: Vec<String> = dir
        .names(10_000)?
        .into_iter()
        .filter_map(|name| name.into_string().ok())
        .filter(|name| describes(name))
        .collect();
    names.sort();
    names.into_iter().map(|name| Ok((name.clone(), dir.read(&name, description_limit(&name))?))).collect()
}

/// One digest for all Snapshots of a Role up to a version: over all that describes them, the digests of all content among it.
pub fn fingerprint(role_dir: &Dir, newest: EnvVersion) -> Result<Digest, SidError> {
    let mut text = String::new();
    for version in EnvVersion::up_to(newest) {
        let description = match role_dir.dir(version.dir_name()) {
            Ok(dir) => describe(&dir)?,
            Err(error) if error.is_not_found() => vec![],
            Err(error) => return Err(error.into()),
        };
        for (name, content) in description {
            text.push_str(&format!("{version} {name} {}\n", Digest::of(&content)));
        }
    }
    Ok(Digest::of(text.as_bytes()))
}
