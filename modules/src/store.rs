//! The versions on a server, and what changes among them: opened, locked, and made whole before anything else is done.
//!
//! A [`Store`] reads. It takes no lock and writes nothing, so it also serves on a read-only disk. A [`Changing`] holds the lock; having
//! one proves that whatever an earlier change left half done has been finished or taken back.

use crate::{
    Error,
    links::{self, Links},
    name::{Channel, FileName, ModuleName, Release},
    record::Record,
};
use atlas_host::{
    FileError, durable,
    lock::Lock,
    object,
    tree::{Dir, ObjectType, Rename},
};
use atlas_model::manifest::Kind;
use std::{
    collections::BTreeMap,
    ffi::OsStr,
    ops::Deref,
    path::{Path, PathBuf},
    time::Duration,
};

/// What ATLAS owns on the Bound disk, below the root directory.
pub const ATLAS_DIR: &str = "opt/atlas";
/// Where everything lies that the links point to, in [`ATLAS_DIR`].
pub const MODULES_DIR: &str = "modules";
/// The records of what is installed, in [`MODULES_DIR`].
pub const RECORDS_DIR: &str = "records";
/// What is being installed or removed just now, in [`MODULES_DIR`].
pub const STAGING_DIR: &str = "staging";
/// The starts of versions on trial, in [`MODULES_DIR`].
pub const TRIALS_DIR: &str = "trials";
const LOCK_NAME: &str = "lock";
/// How long a change waits for another one to end.
const LOCK_DEADLINE: Duration = Duration::from_secs(20);
/// The most versions of all modules together.
const MAX_RECORDS: usize = 100_000;

/// The versions on a server.
#[derive(Debug)]
pub struct Store {
    root: Dir,
    root_path: PathBuf,
    atlas: Dir,
}

impl Store {
    /// Opens what is below the root directory `root`, for reading.
    pub fn open(root: &Path) -> Result<Store, Error> {
        let dir = Dir::open_root(root)?;
        let atlas = dir.dir(ATLAS_DIR).map_err(|error| {
            if !error.is_not_found() {
                return Error::from(error);
            }
            let what = format!("ATLAS is not on this server: there is no {}", dir.show(ATLAS_DIR).display());
            Error::refused(what, "install a module, or name the server's root directory with --root")
        })?;
        Ok(Store { root: dir, root_path: root.to_owned(), atlas })
    }

    /// Like [`Store::open`], but makes the directory where it is missing.
    pub fn open_or_make(root: &Path) -> Result<Store, Error> {
        let dir = Dir::open_root(root)?;
        let atlas = dir.make_dirs(ATLAS_DIR)?;
        Ok(Store { root: dir, root_path: root.to_owned(), atlas })
    }

    /// The server's root directory.
    pub fn root(&self) -> &Dir {
        &self.root
    }

    /// The path of the server's root directory, as it was named.
    pub fn root_path(&self) -> &Path {
        &self.root_path
    }

    /// `/opt/atlas`.
    pub fn atlas(&self) -> &Dir {
        &self.atlas
    }

    /// A directory of `/opt/atlas`; `None` where it is not there yet.
    pub fn dir(&self, path: impl AsRef<Path>) -> Result<Option<Dir>, FileError> {
        match self.atlas.dir(path) {
            Ok(dir) => Ok(Some(dir)),
            Err(error) if error.is_not_found() => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// A directory of versions.
    pub fn channel(&self, channel: Channel) -> Result<Option<Dir>, FileError> {
        self.dir(Path::new(MODULES_DIR).join(channel.dir_name()))
    }

    /// Everything that is installed: by module, sorted; by directory and version. Names alone; no file is read.
    pub fn installed(&self) -> Result<BTreeMap<ModuleName, Vec<Release>>, FileError> {
        let mut all: BTreeMap<ModuleName, Vec<Release>> = BTreeMap::new();
        let Some(dir) = self.dir(Path::new(MODULES_DIR).join(RECORDS_DIR))? else { return Ok(all) };
        for name in dir.names(MAX_RECORDS)? {
            if let Some((module, release)) = name.to_str().and_then(parse_record_name) {
                all.entry(module).or_default().push(release);
            }
        }
        all.values_mut().for_each(|releases| releases.sort());
        Ok(all)
    }

    /// Whether a version is installed.
    pub fn is_installed(&self, module: &ModuleName, release: &Release) -> Result<bool, FileError> {
        let dir = self.dir(Path::new(MODULES_DIR).join(RECORDS_DIR))?;
        dir.map_or(Ok(None), |dir| dir.stat(OsStr::new(&record_name(module, release)))).map(|stat| stat.is_some())
    }

    /// The record of an installed version; `None` where it is not installed.
    pub fn record(&self, module: &ModuleName, release: &Release) -> Result<Option<Record>, Error> {
        let path = Path::new(MODULES_DIR).join(RECORDS_DIR).join(record_name(module, release));
        let Some(content) = self.atlas.read_if_there(&path, Record::MAX_SIZE)? else { return Ok(None) };
        let damaged = |source| Error::Record { path: self.atlas.show(&path), source };
        Record::parse(&content).map(Some).map_err(damaged)
    }

    /// The links that are set, as one moment saw them.
    pub fn links(&self) -> Result<Links, FileError> {
        links::read(self)
    }

    /// Takes the lock, and makes whole what an earlier change left.
    pub fn change(&self) -> Result<Changing<'_>, Error> {
        let lock = {
            let made = self.atlas.make_dir(MODULES_DIR, 0o755)?;
            let modules = self.atlas.dir(MODULES_DIR)?;
            let lock = Lock::take(&modules, OsStr::new(LOCK_NAME), LOCK_DEADLINE)?;
            links::adopt(self, &modules)?;
            let mut any = made;
            for channel in Channel::ALL {
                any |= modules.make_dir(channel.dir_name(), 0o755)?;
            }
            any |= modules.make_dir(RECORDS_DIR, 0o755)?;
            any |= modules.make_dir(TRIALS_DIR, 0o755)?;
            if any {
                modules.sync()?;
                self.atlas.sync()?;
                self.root.dir("opt")?.sync()?;
                self.root.sync()?;
            }
            lock
        };
        let changing = Changing { store: self, modules: self.atlas.dir(MODULES_DIR)?, _lock: lock };
        changing.settle()?;
        links::ensure(&changing)?;
        Ok(changing)
    }
}

/// The store while this process alone may change it.
#[derive(Debug)]
pub struct Changing<'s> {
    store: &'s Store,
    modules: Dir,
    _lock: Lock,
}

impl Deref for Changing<'_> {
    type Target = Store;
    fn deref(&self) -> &Store {
        self.store
    }
}

impl Changing<'_> {
    /// `/opt/atlas/modules`.
    pub fn modules(&self) -> &Dir {
        &self.modules
    }

    /// A directory of versions.
    pub fn channel_dir(&self, channel: Channel) -> Result<Dir, FileError> {
        self.modules.dir(channel.dir_name())
    }

    /// The records.
    pub fn records(&self) -> Result<Dir, FileError> {
        self.modules.dir(RECORDS_DIR)
    }

    /// Finishes or takes back what a cut change left.
    fn settle(&self) -> Result<(), Error> {
        links::settle(self)?;
        durable::remove_leftovers(&self.modules.dir(TRIALS_DIR)?)?;
        self.clear_staging()
    }

    /// An empty directory for what is to be installed or removed.
    pub fn make_staging(&self) -> Result<Dir, FileError> {
        self.modules.make_dir(STAGING_DIR, 0o700)?;
        self.modules.sync()?;
        self.modules.dir(STAGING_DIR)
    }

    /// Takes away the files of every version whose record lies in staging, then staging itself.
    ///
    /// A record lies there from before its first file is placed until after the last: an installation that was cut is taken back. A
    /// removal begins with moving the record there: one that was cut is finished. (See the picture in the crate's documentation.)
    pub fn clear_staging(&self) -> Result<(), Error> {
        let staging = match self.modules.dir(STAGING_DIR) {
            Err(error) if error.is_not_found() => return Ok(()),
            other => other?,
        };
        for name in staging.names(MAX_RECORDS)? {
            let Some((module, release)) = name.to_str().and_then(parse_record_name) else { continue };
            let record = Record::parse(&staging.read(&name, Record::MAX_SIZE)?);
            if let (Ok(record), false) = (record, self.is_installed(&module, &release)?) {
                let dir = self.channel_dir(release.channel)?;
                for file in &record.files {
                    dir.remove(OsStr::new(&release.tagged(&file.name)))?;
                }
                dir.sync()?;
            }
        }
        self.modules.remove_tree(OsStr::new(STAGING_DIR))?;
        Ok(())
    }

    /// Publishes or withdraws a record with one rename.
    pub fn move_record(&self, from: &Dir, to: &Dir, name: &str) -> Result<(), FileError> {
        from.rename(OsStr::new(name), to, OsStr::new(name), Rename::NoReplace)?;
        to.sync()?;
        from.sync()
    }
}

/// The name of the record of a version: `ssSync.update.v2.toml`.
pub fn record_name(module: &ModuleName, release: &Release) -> String {
    format!("{module}.{}.{}.toml", release.channel, release.version)
}

/// Reads the name of a record back.
pub fn parse_record_name(name: &str) -> Option<(ModuleName, Release)> {
    let mut parts = name.strip_suffix(".toml")?.splitn(3, '.');
    let (module, channel, version) = (parts.next()?, parts.next()?, parts.next()?);
    Some((module.parse().ok()?, Release { channel: channel.parse().ok()?, version: version.parse().ok()? }))
}

/// How an installed file differs from its record; `None` where it does not.
pub fn difference(dir: &Dir, release: &Release, record: &Record, file: &FileName) -> Result<Option<String>, FileError> {
    let Some(entry) = record.file(file) else { return Ok(Some("its record does not list it".into())) };
    let tagged = release.tagged(file);
    let Some(stat) = dir.stat(OsStr::new(&tagged))? else { return Ok(Some("it is missing".into())) };
    if ObjectType::of(&stat) != ObjectType::File {
        return Ok(Some("it is not a plain file any more".into()));
    }
    let Kind::File { size, sha256, meta } = object::read(dir, OsStr::new(&tagged))? else {
        return Ok(Some("it is not a plain file any more".into()));
    };
    Ok(if size != entry.size {
        Some(format!("it has {size} bytes and had {}", entry.size))
    } else if sha256 != entry.sha256 {
        Some("its content is not what was installed".into())
    } else if meta.mode != entry.mode {
        Some(format!("its mode is {:04o} and was {:04o}", meta.mode, entry.mode))
    } else {
        None
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_of_a_record_reads_back_also_where_the_version_has_dots() {
        let (module, release) = ("ss-Sync".parse().unwrap(), "beta/v1.2.3-rc.1".parse().unwrap());
        let name = record_name(&module, &release);
        assert_eq!(name, "ss-Sync.beta.v1.2.3-rc.1.toml");
        assert_eq!(parse_record_name(&name), Some((module, release)));
        for other in ["x", "a.update.toml", ".atlas-tmp-1-2", "a.other.v1.toml", "lock"] {
            assert_eq!(parse_record_name(other), None, "{other}");
        }
    }
}
