//! The receiving side of a Snapshot Send: a partner's Role directory, built beside the one that is there and published whole.
//!
//! ```text
//!   .next-SEC1/Env1/IdentFilePaths, SyncFilePaths…, Manifest      the description, validated as it comes
//!   .next-SEC1/.content/3f9a…                                      what this side lacked, each file by its digest
//!   .next-SEC1/Env1/IdentFiles/…  SyncFiles/…                      linked from what is published, or made from .content
//! ```
//!
//! Everything that comes is from another machine, whoever that is: counts, sizes and names are bounded, every path is a
//! [`TreePath`], content is taken only if it was asked for and only if it has its digest, and nothing has a name that anyone
//! reads before all of it was checked and flushed.

use crate::{
    layout::{SidData, SidError},
    outgoing::{Description, MAX_DESCRIPTION_FILES, Offer, describes, description_limit, fingerprint},
    snapshot::{MANIFEST, Snapshot, env_versions},
    transaction::Transaction,
};
use atlas_host::{
    FileError, object,
    tree::{Dir, ObjectType},
};
use atlas_model::{
    Digest, EnvVersion, Role, TreePath,
    manifest::{Entry, FileSet, Kind, Manifest},
};
use std::{
    collections::{BTreeMap, HashMap},
    ffi::OsStr,
    io::{self, Read, Write},
};

/// Where content lies that was received.
const CONTENT: &str = ".content";

/// The most that one partner's Snapshots may add to this disk, in bytes: configuration is small, and client data shares the disk.
pub const MAX_CONTENT: u64 = 4 << 30;

/// What is being received.
#[derive(Debug)]
pub struct Incoming<'a> {
    transaction: Transaction<'a>,
    offer: Offer,
    snapshots: Vec<Manifest>,
    published: Published,
    content: Dir,
    /// Not received yet, with its size.
    missing: BTreeMap<Digest, u64>,
}

/// Whether `sid` holds exactly what is offered.
pub fn holds(sid: &SidData, offer: &Offer) -> Result<bool, SidError> {
    let Some(dir) = sid.role_dir(offer.role)? else { return Ok(false) };
    let same_generation = crate::snapshot::generation(&dir)? == offer.generation;
    Ok(same_generation && fingerprint(&dir, offer.newest)? == offer.fingerprint)
}

impl<'a> Incoming<'a> {
    /// Begins to receive what is offered. The Role that is published stays as it is until [`Incoming::publish`].
    pub fn begin(sid: &'a SidData, offer: Offer) -> Result<Incoming<'a>, SidError> {
        let published = Published::read(sid, offer.role)?;
        let transaction = Transaction::begin(sid, offer.role)?;
        transaction.dir().make_dir(CONTENT, 0o700)?;
        let content = transaction.dir().dir(CONTENT)?;
        Ok(Incoming { transaction, offer, snapshots: vec![], published, content, missing: BTreeMap::new() })
    }

    /// Takes the description of one Snapshot; they come oldest first, none left out.
    pub fn describe(&mut self, version: EnvVersion, description: &Description) -> Result<(), SidError> {
        let expected = self.snapshots.last().map_or(Some(EnvVersion::OLDEST), |last| last.env_version.newer());
        if Some(version) != expected || version > self.offer.newest || description.len() > MAX_DESCRIPTION_FILES {
            return Err(self.hostile(&format!("its Snapshots come in another order than {version} allows")));
        }
        let name = version.dir_name();
        self.transaction.dir().make_dir(&name, 0o700)?;
        let dir = self.transaction.dir().dir(&name)?;
        let mut manifest = None;
        for (name, content) in description {
            if !describes(name) || content.len() > description_limit(name) {
                return Err(self.hostile("a file of its description has a name or size that none may have"));
            }
            let mut file = dir.create_new(name, 0o600)?;
            file.write_all(content).map_err(FileError::on("write", dir.show(name)))?;
            if name == MANIFEST {
                let parsed = Manifest::parse(content);
                manifest = Some(parsed.map_err(|source| SidError::Manifest { path: dir.show(MANIFEST), source })?);
            }
        }
        let manifest = manifest.ok_or_else(|| self.hostile("it has no Manifest"))?;
        if (manifest.role, manifest.env_version) != (self.offer.role, version) {
            return Err(self.hostile(&format!("its Manifest is that of ({}, {})", manifest.role, manifest.env_version)));
        }
        for entry in manifest.entries() {
            if let Kind::File { sha256, size, .. } = entry.kind
                && !self.published.by_digest.contains_key(&sha256)
            {
                self.missing.insert(sha256, size);
            }
        }
        self.snapshots.push(manifest);
        Ok(())
    }

    /// What this side lacks, after all descriptions came.
    pub fn needs(&self) -> Result<Vec<Digest>, SidError> {
        if self.snapshots.last().map(|last| last.env_version) != Some(self.offer.newest) {
            return Err(self.hostile("not all of its Snapshots were described"));
        }
        let total = self.missing.values().try_fold(0u64, |sum, size| sum.checked_add(*size)).unwrap_or(u64::MAX);
        if total > MAX_CONTENT {
            return Err(
                self.hostile(&format!("it would add {total} bytes, more than the {MAX_CONTENT} that are allowed"))
            );
        }
        Ok(self.missing.keys().copied().collect())
    }

    /// Takes content that was needed, and gives its size. What is not what its digest says is refused.
    pub fn content(&mut self, digest: &Digest, reader: &mut impl Read) -> Result<u64, SidError> {
        let size = self.missing.remove(digest).ok_or_else(|| self.hostile("it sends what nobody asked for"))?;
        let name = digest.to_string();
        let mut file = self.content.create_new(&name, 0o600)?;
        let is = object::copy(&mut reader.take(size), &mut file, size)
            .map_err(FileError::on("write", self.content.show(&name)))?;
        if is != (size, *digest) {
            return Err(self.hostile("content came that is not what its digest says"));
        }
        Ok(size)
    }

    /// Builds the Snapshots, checks each, and gives them the Role's name at one instant.
    pub fn publish(self) -> Result<(), SidError> {
        if !self.missing.is_empty() {
            return Err(self.hostile("not all of the content came"));
        }
        for manifest in &self.snapshots {
            self.build(manifest)?;
        }
        self.transaction.dir().remove_tree(OsStr::new(CONTENT))?;
        for manifest in &self.snapshots {
            Snapshot::open(self.transaction.dir(), self.offer.role, manifest.env_version)?
                .ok_or_else(|| self.hostile("a Snapshot of it is missing"))?;
        }
        if fingerprint(self.transaction.dir(), self.offer.newest)? != self.offer.fingerprint {
            return Err(self.hostile("what came is not what was offered"));
        }
        self.transaction.publish_as(self.offer.newest, self.offer.generation)
    }

    /// Gives up: what came is removed.
    pub fn abandon(self) -> Result<(), SidError> {
        self.transaction.abandon()
    }

    fn build(&self, manifest: &Manifest) -> Result<(), SidError> {
        let dir = self.transaction.dir().dir(manifest.env_version.dir_name())?;
        for set in FileSet::ALL {
            if set == FileSet::Residue && manifest.of_set(set).next().is_none() {
                continue;
            }
            dir.make_dir(set.dir_name(), 0o700)?;
            let files = dir.dir(set.dir_name())?;
            for entry in manifest.of_set(set).filter(|entry| entry.kind != Kind::Absent) {
                self.place(manifest.env_version, entry, &files)?;
            }
            let dirs = manifest.of_set(set).filter(|entry| matches!(entry.kind, Kind::Dir { .. }));
            for entry in dirs.collect::<Vec<_>>().into_iter().rev() {
                let (parent, name) = files.parent_of(&entry.path)?;
                object::make_dir_time(&entry.kind, &parent, name)?;
            }
        }
        Ok(())
    }

    /// Makes one object, without copying where the very same file is published already.
    fn place(&self, version: EnvVersion, entry: &Entry, files: &Dir) -> Result<(), SidError> {
        let name = entry.path.name();
        let to = match entry.path.parent() {
            Some(parent) => files.make_dirs(parent.relative())?,
            None => files.dir(".")?,
        };
        let Kind::File { sha256, .. } = &entry.kind else {
            // A directory or a link has no content: it is made from what the Manifest says alone.
            return Ok(object::make(&entry.kind, &to, name, &to, name)?);
        };
        if let Some(from) = self.published.same_file(version, entry)? {
            return Ok(from.hard_link(name, &to, name)?);
        }
        match self.published.by_digest.get(sha256) {
            Some(place) => {
                let (from, from_name) = self.published.open(place)?;
                Ok(object::make(&entry.kind, &from, from_name, &to, name)?)
            }
            None => Ok(object::make(&entry.kind, &self.content, OsStr::new(&sha256.to_string()), &to, name)?),
        }
    }

    fn hostile(&self, why: &str) -> SidError {
        SidError::Received { role: self.offer.role, why: why.into() }
    }
}

/// Where a file of the published Role lies.
type Place = (EnvVersion, FileSet, TreePath);

/// What of the Role is there already, and can be used again.
#[derive(Debug, Default)]
struct Published {
    dirs: HashMap<(EnvVersion, FileSet), Dir>,
    entries: HashMap<Place, Kind>,
    by_digest: HashMap<Digest, Place>,
}

impl Published {
    /// Reads the Manifests. A Snapshot that is damaged is not used: it is about to be replaced.
    fn read(sid: &SidData, role: Role) -> Result<Published, SidError> {
        let mut published = Published::default();
        let Some(dir) = sid.role_dir(role)? else { return Ok(published) };
        for version in env_versions(&dir)? {
            let Ok(Some(snapshot)) = Snapshot::open(&dir, role, version) else { continue };
            for set in FileSet::ALL {
                if let Ok(Some(files)) = snapshot.files(set) {
                    published.dirs.insert((version, set), files);
                }
            }
            for entry in snapshot.manifest.entries() {
                let place = (version, entry.set, entry.path.clone());
                if let Kind::File { sha256, size, .. } = entry.kind
                    && published.has_file(&place, size)
                {
                    published.by_digest.entry(sha256).or_insert_with(|| place.clone());
                    published.entries.insert(place, entry.kind.clone());
                }
            }
        }
        Ok(published)
    }

    /// Whether the file is there, of its length. Its content is looked at when it is copied.
    fn has_file(&self, place: &Place, size: u64) -> bool {
        let stat = self.open(place).ok().and_then(|(dir, name)| dir.stat(name).ok().flatten());
        stat.is_some_and(|stat| ObjectType::of(&stat) == ObjectType::File && u64::try_from(stat.st_size) == Ok(size))
    }

    fn open<'p>(&self, (version, set, path): &'p Place) -> Result<(Dir, &'p OsStr), SidError> {
        let not_there = || io::Error::from(io::ErrorKind::NotFound);
        let dir = self.dirs.get(&(*version, *set));
        let dir = dir.ok_or_else(|| FileError::on("open", path.as_path())(not_there()))?;
        Ok(dir.parent_of(path)?)
    }

    /// The directory of the file that is the same in place, content and all that the Manifest says.
    fn same_file(&self, version: EnvVersion, entry: &Entry) -> Result<Option<Dir>, SidError> {
        let place = (version, entry.set, entry.path.clone());
        match self.entries.get(&place) {
            Some(kind) if *kind == entry.kind => Ok(Some(self.open(&place)?.0)),
            _ => Ok(None),
        }
    }
}
