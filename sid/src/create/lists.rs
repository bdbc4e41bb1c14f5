//! The path lists that a Snapshot Create goes by.

use crate::{
    layout::{SidData, SidError},
    outgoing::is_source,
    snapshot::{env_versions, read_list},
};
use atlas_host::{durable, tree::Dir};
use atlas_model::{EnvVersion, PathList, Role, manifest::FileSet, reserved};
use std::{borrow::Cow, ffi::OsStr};

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

/// The paths of the identity that a Snapshot Create of (`role`, `env_version`) goes by.
pub fn ident_list(sid: &SidData, role: Role, env_version: EnvVersion) -> Result<PathList, SidError> {
    Lists::read(sid, role, env_version).map(|lists| lists.ident)
}

/// The path lists of a Role: those of the newest Environment that is not newer than the server's [271].
pub(super) struct Lists {
    files: Vec<(String, Vec<u8>)>,
    pub(super) ident: PathList,
    pub(super) sync: PathList,
}

impl Lists {
    pub(super) fn read(sid: &SidData, role: Role, env_version: EnvVersion) -> Result<Lists, SidError> {
        let none = |why: String| SidError::NoSnapshot { role, env_version, why };
        let role_dir = sid.role_dir(role)?.ok_or_else(|| none(format!("there is no directory {role}")))?;
        for version in env_versions(&role_dir)?.into_iter().rev().filter(|version| *version <= env_version) {
            let dir = role_dir.dir(version.dir_name())?;
            let Some(ident) = read_list(&dir, FileSet::Ident.list_name())? else { continue };
            reserved::check_identity(&ident)
                .map_err(|source| SidError::Reserved { path: dir.show(FileSet::Ident.list_name()), source })?;
            let mut lists = Lists { files: vec![], ident, sync: PathList::default() };
            for name in dir.names(10_000)?.iter().filter_map(|name| name.to_str()) {
                // SyncFilePaths itself is made from the others [104].
                let is_source = is_source(name);
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

    /// Every list file with its content, the one that is made from the others included.
    pub(super) fn all(&self) -> impl Iterator<Item = (&str, Cow<'_, [u8]>)> {
        let heading = "Made at every Snapshot Create from all SyncFilePaths… beside it; changes here are lost.";
        let made = self.sync.to_file(heading).into_bytes();
        let sources = self.files.iter().map(|(name, content)| (name.as_str(), Cow::Borrowed(content.as_slice())));
        sources.chain([(FileSet::Sync.list_name(), Cow::Owned(made))])
    }

    /// Writes them, not flushed.
    pub(super) fn write(&self, dir: &Dir) -> Result<(), SidError> {
        self.all().try_for_each(|(name, content)| Ok(durable::put(dir, OsStr::new(name), &content, 0o600)?))
    }

    /// Whether `dir` has these lists and no other.
    pub(super) fn are_those_of(&self, dir: &Dir) -> Result<bool, SidError> {
        for (name, content) in self.all() {
            if dir.read_if_there(name, PathList::MAX_SIZE)?.as_deref() != Some(&content) {
                return Ok(false);
            }
        }
        Ok(true)
    }
}
