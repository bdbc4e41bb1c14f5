//! Converting a Snapshot to the next newer or older EnvVersion, with the converters that are installed on the Bound disk.
//!
//! `/opt/atlas/bin/SyncConverterN` converts between EnvN-1 and EnvN, in both directions [192, 336]:
//!
//! ```text
//! SyncConverter2 newer SRC DST     SRC: a Snapshot of Env1, not to be changed;  DST: an empty directory, to become one of Env2
//! SyncConverter2 older SRC DST     the other way
//! ```
//!
//! DST must hold IdentFilePaths, IdentFiles, the SyncFilePaths lists and SyncFiles when it ends with 0, and may hold Residue
//! ([`crate::residue`]). Its Manifest is made here, from what is there; a listed path that leads out of DST is refused.

use crate::{
    accounts,
    create::write_manifest,
    layout::{SidData, SidError},
    residue,
    scan::scan,
    snapshot::{self, MANIFEST, read_list},
    transaction::Transaction,
};
use atlas_host::{process::Command, tree::Dir};
use atlas_model::{
    EnvVersion, Owners, Role,
    manifest::{FileSet, Manifest},
};
use std::{
    path::{Path, PathBuf},
    time::Duration,
};

/// How long one conversion may take.
const DEADLINE: Duration = Duration::from_secs(120);
/// As many lines of what a converter says are passed on, and as many letters of each.
const NOTES: (usize, usize) = (50, 300);

/// What a chain of conversions made.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Converted {
    /// The versions that were made.
    pub versions: Vec<EnvVersion>,
    /// What the converters said though they ended well, for somebody to look at.
    pub notes: Vec<String>,
}

/// The converters of a server.
#[derive(Clone, Debug)]
pub struct Converters {
    root: PathBuf,
}

impl Converters {
    /// Those installed below the server's root directory.
    pub fn of(root: &Path) -> Converters {
        Converters { root: root.to_owned() }
    }

    /// A path as a program that runs in the server's tree sees it.
    fn seen_from_inside(&self, path: &Path) -> PathBuf {
        path.strip_prefix(&self.root).map_or_else(|_| path.to_owned(), |below| Path::new("/").join(below))
    }
}

/// Converts the Snapshot `from` in `role_dir` into a new Snapshot `to` beside it; gives what [`convert`] gives.
pub fn step(
    converters: &Converters,
    role_dir: &Dir,
    role: Role,
    from: EnvVersion,
    to: EnvVersion,
) -> Result<Vec<String>, SidError> {
    convert(converters, &role_dir.dir(from.dir_name())?, role_dir, role, from, to)
}

/// ConvertToNewer: makes the Snapshots of `role` up to `env_version` from the newest that is there, and publishes them with it [199].
///
/// Makes none where SnapshotEnvVersion is that version or a newer one.
pub fn to_newer(
    converters: &Converters,
    sid: &SidData,
    role: Role,
    env_version: EnvVersion,
) -> Result<Converted, SidError> {
    let none = |why: &str| SidError::NoSnapshot { role, env_version, why: why.into() };
    let dir = sid.role_dir(role)?.ok_or_else(|| none("nothing was received from it"))?;
    let newest = snapshot::newest(&dir)?.ok_or_else(|| none("it never made one"))?;
    let missing: Vec<_> = EnvVersion::up_to(env_version).filter(|version| *version > newest).collect();
    if missing.is_empty() {
        return Ok(Converted::default());
    }
    let transaction = Transaction::begin(sid, role)?;
    let fill = || -> Result<Vec<String>, SidError> {
        transaction.keep(|version| version <= newest)?;
        let mut notes = Vec::new();
        let mut from = newest;
        for to in &missing {
            notes.extend(step(converters, transaction.dir(), role, from, *to)?);
            from = *to;
        }
        Ok(notes)
    };
    match fill() {
        Ok(notes) => {
            transaction.generation().and_then(|same| transaction.publish_as(env_version, same))?;
            Ok(Converted { versions: missing, notes })
        }
        Err(error) => transaction.abandon().and(Err(error)),
    }
}

/// ConvertToOlder: makes all older Snapshots of `role` again from the one of `env_version`, and publishes them with it [191].
///
/// Snapshot Create does this by itself, in the same transaction; this is for when a converter was mended since.
pub fn to_older(
    converters: &Converters,
    sid: &SidData,
    role: Role,
    env_version: EnvVersion,
) -> Result<Converted, SidError> {
    let newest = sid.role_dir(role)?.map(|dir| snapshot::newest(&dir)).transpose()?.flatten();
    if newest != Some(env_version) {
        let why = "there is none of this version to convert; make one first".into();
        return Err(SidError::NoSnapshot { role, env_version, why });
    }
    let transaction = Transaction::begin(sid, role)?;
    let fill = || -> Result<Converted, SidError> {
        transaction.keep(|version| version == env_version)?;
        all_older(converters, transaction.dir(), role, env_version)
    };
    match fill() {
        Ok(made) => transaction.generation().and_then(|same| transaction.publish_as(env_version, same)).map(|()| made),
        Err(error) => transaction.abandon().and(Err(error)),
    }
}

/// Makes all Snapshots of older versions in `role_dir`, one from the other, beginning with the one of `env_version`.
pub fn all_older(
    converters: &Converters,
    role_dir: &Dir,
    role: Role,
    env_version: EnvVersion,
) -> Result<Converted, SidError> {
    let mut made = Converted::default();
    let mut from = env_version;
    while let Some(to) = from.older() {
        made.notes.extend(step(converters, role_dir, role, from, to)?);
        made.versions.push(to);
        from = to;
    }
    Ok(made)
}

/// Converts the Snapshot in `source` into `EnvN` in `target_dir`, one version up or down; gives what the converter said, by lines.
pub fn convert(
    converters: &Converters,
    source: &Dir,
    target_dir: &Dir,
    role: Role,
    from: EnvVersion,
    to: EnvVersion,
) -> Result<Vec<String>, SidError> {
    let name = to.dir_name();
    target_dir.make_dir(&name, 0o700)?;
    let target = target_dir.dir(&name)?;
    let direction = if to > from { "newer" } else { "older" };
    let said = Command::new(format!("/opt/atlas/bin/SyncConverter{}", from.max(to).number()))
        .arg(direction)
        .arg(converters.seen_from_inside(source.shown()))
        .arg(converters.seen_from_inside(target.shown()))
        .in_root(&converters.root)
        .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
        .deadline(DEADLINE)
        .run()
        .map_err(|source| SidError::Conversion { role, from, to, source })?;
    let mut entries = Vec::new();
    for set in [FileSet::Ident, FileSet::Sync] {
        let Some(list) = read_list(&target, set.list_name())? else {
            let why = format!("its converter made no {}", set.list_name());
            return Err(SidError::Damaged { path: target.shown().to_owned(), why });
        };
        target.make_dir(set.dir_name(), 0o700)?;
        entries.extend(scan(&target.dir(set.dir_name())?, &list, set)?);
    }
    entries.extend(residue::entries(&target)?);
    let ways = manifest_in(source)?.map(|manifest| manifest.ways().clone()).unwrap_or_default();
    write_manifest(&target, role, to, entries, ways, &owners_after(source, &target)?)?;
    Ok(notes(&said.text()))
}

/// The lines of a text, bounded; nothing in them can steer a terminal.
fn notes(said: &str) -> Vec<String> {
    let tame = |line: &str| line.chars().filter(|c| !c.is_control()).take(NOTES.1).collect::<String>();
    said.lines().map(tame).filter(|line| !line.trim().is_empty()).take(NOTES.0).collect()
}

/// Whose numbers the files of a converted Snapshot have: a conversion keeps them, and may give an account another name.
fn owners_after(source: &Dir, target: &Dir) -> Result<Owners, SidError> {
    let mut owners = manifest_in(source)?.map(|manifest| manifest.owners().clone()).unwrap_or_default();
    let renamed = accounts::owners_of(&target.dir(FileSet::Sync.dir_name())?)?;
    owners.users.extend(renamed.users);
    owners.groups.extend(renamed.groups);
    Ok(owners)
}

/// The Manifest of a Snapshot, where it has one.
fn manifest_in(snapshot: &Dir) -> Result<Option<Manifest>, SidError> {
    let Some(content) = snapshot.read_if_there(MANIFEST, Manifest::MAX_SIZE)? else { return Ok(None) };
    let manifest = Manifest::parse(&content);
    Ok(Some(manifest.map_err(|source| SidError::Manifest { path: snapshot.show(MANIFEST), source })?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use atlas_model::manifest::{Entry, Kind, Meta};

    #[test]
    fn an_account_that_the_other_version_calls_otherwise_is_called_so_in_the_manifest() {
        let tmp = tempfile::tempdir().unwrap();
        let dir = |name: &str| {
            std::fs::create_dir_all(tmp.path().join(name).join("SyncFiles/etc")).unwrap();
            Dir::open_root(tmp.path().join(name)).unwrap()
        };
        let (source, target) = (dir("Env1"), dir("Env2"));
        let meta = Meta { mode: 0o755, uid: 110, gid: 42, mtime: 0, mtime_ns: 0, xattrs: [].into() };
        let path = atlas_model::TreePath::parse("/etc/a").unwrap();
        let entries = vec![Entry { set: FileSet::Sync, path, kind: Kind::Dir { meta } }];
        let names = |number: u32, name: &str| [(number, name.to_owned())].into();
        let owners = Owners { users: names(110, "ntp"), groups: names(42, "shadow") };
        write_manifest(&source, Role::Pri, EnvVersion::OLDEST, entries, [].into(), &owners).unwrap();
        assert_eq!(owners_after(&source, &target).unwrap(), owners);
        std::fs::write(tmp.path().join("Env2/SyncFiles/etc/passwd"), "ntpsec:x:110:115::/:/bin/false\n").unwrap();
        let renamed = Owners { users: names(110, "ntpsec"), ..owners };
        assert_eq!(owners_after(&source, &target).unwrap(), renamed);
    }
}
