//! Replacing a Role directory whole.
//!
//! ```text
//!   begin     .next-PRI/   made new; the Snapshots that stay are shared by hard links
//!   … fill …
//!   publish   flushed; then .next-PRI and PRI change their names at one instant; then the old one, now .next-PRI, is removed
//! ```
//!
//! A Create keeps the old one, as .last-PRI, and the next Create makes its .next-PRI from that: only what changed since then has to be done to
//! it, and everything else is there already, shared with PRI by hard links. Such a directory was published, so it is whole; before it is
//! changed it gets the other name. The first Create for an EnvVersion has no such directory to keep and makes one, of links to what it
//! published: else the first change after it would take several times as long as every other.
//!
//! Cut off anywhere, PRI is the old one or the new one, whole. What is left under the other name is removed by the next `begin`.

use crate::{
    layout::{SidData, SidError},
    snapshot::{GENERATION, MANIFEST, SNAPSHOT_ENV_VERSION, env_versions, generation},
};
use atlas_host::{
    durable,
    lock::Lock,
    object,
    tree::{Dir, ObjectType, Rename},
};
use atlas_model::{EnvVersion, Role};
use std::{
    ffi::{OsStr, OsString},
    path::Path,
    time::Duration,
};

/// A Role directory that is being built, under the lock.
#[derive(Debug)]
pub struct Transaction<'a> {
    sid: &'a SidData,
    role: Role,
    next_name: OsString,
    next: Dir,
    /// Whether the directory that is replaced is kept for the next time.
    keeps_last: bool,
    /// Held by this, or by the caller as long as this lives.
    _lock: Option<Lock>,
}

impl<'a> Transaction<'a> {
    /// Begins with an empty directory.
    pub fn begin(sid: &'a SidData, role: Role) -> Result<Transaction<'a>, SidError> {
        let lock = sid.lock(role, Duration::from_secs(60))?;
        let next_name = next_name(role);
        sid.dir().remove_tree(&next_name)?;
        sid.dir().make_dir(&next_name, 0o700)?;
        let next = sid.dir().dir(&next_name)?;
        Ok(Transaction { sid, role, next_name, next, keeps_last: false, _lock: Some(lock) })
    }

    /// Removes the directory that was published before the one that is now: what it shares with that is not to be used again.
    pub(crate) fn forget_last(sid: &SidData, role: Role, _lock: &Lock) -> Result<(), SidError> {
        Ok(sid.dir().remove_tree(&last_name(role)).map(drop)?)
    }

    /// Begins with the directory that was published before the one that is now, if it was kept: whole, as it was. What it costs to bring
    /// it up to date depends on what changed since, not on how much there is.
    pub fn begin_from_last(sid: &'a SidData, role: Role, _lock: &'a Lock) -> Result<Transaction<'a>, SidError> {
        let next_name = next_name(role);
        sid.dir().remove_tree(&next_name)?;
        // From here on it is being changed, and its name says so.
        match sid.dir().rename(&last_name(role), sid.dir(), &next_name, Rename::NoReplace) {
            Err(error) if error.is_not_found() => {
                sid.dir().make_dir(&next_name, 0o700)?;
            }
            other => other?,
        }
        let next = sid.dir().dir(&next_name)?;
        Ok(Transaction { sid, role, next_name, next, keeps_last: true, _lock: None })
    }

    /// The directory to fill.
    pub fn dir(&self) -> &Dir {
        &self.next
    }

    /// Takes over the Snapshots of the published Role for which `stays` says so, by hard links.
    pub fn keep(&self, stays: impl Fn(EnvVersion) -> bool) -> Result<(), SidError> {
        let Some(current) = self.sid.role_dir(self.role)? else { return Ok(()) };
        for version in env_versions(&current)?.into_iter().filter(|version| stays(*version)) {
            link_tree(&current, OsStr::new(&version.dir_name()), &self.next)?;
        }
        Ok(())
    }

    /// Makes the new directory durable and gives it the Role's name, as the next generation; gives its number. `newest` is the
    /// newest valid Snapshot in it.
    pub fn publish(self, newest: EnvVersion) -> Result<u64, SidError> {
        let next = self.generation()? + 1;
        self.publish_as(newest, next).map(|()| next)
    }

    /// The same for what is of a generation that is there: Snapshots converted from it, or received from the server that made it.
    pub fn publish_as(self, newest: EnvVersion, generation: u64) -> Result<(), SidError> {
        durable::put(&self.next, OsStr::new(SNAPSHOT_ENV_VERSION), newest.to_file().as_bytes(), 0o600)?;
        durable::put(&self.next, OsStr::new(GENERATION), format!("{generation}\n").as_bytes(), 0o600)?;
        self.exchange()?;
        // It is published. What cannot be kept or removed now is removed by the next `begin`.
        let _ = if self.keeps_last { self.keep_last(newest) } else { self.remove_old() };
        Ok(())
    }

    /// The generation that is published now; 0 where there is none.
    pub fn generation(&self) -> Result<u64, SidError> {
        self.sid.role_dir(self.role)?.map_or(Ok(0), |dir| generation(&dir))
    }

    /// The same without a Snapshot: path lists only, for a Role that starts from scratch.
    pub fn publish_from_scratch(self) -> Result<(), SidError> {
        self.exchange()?;
        let _ = self.remove_old();
        Ok(())
    }

    /// Flushes the new directory and gives it the Role's name; the old one has the name of what is being made afterwards.
    fn exchange(&self) -> Result<(), SidError> {
        let parent = self.sid.dir();
        parent.sync_file_system()?;
        let name = OsString::from(self.role.to_string());
        let how = if parent.stat(&name)?.is_some() { Rename::Exchange } else { Rename::NoReplace };
        parent.rename(&self.next_name, parent, &name, how)?;
        Ok(parent.sync()?)
    }

    fn remove_old(&self) -> Result<(), SidError> {
        self.sid.dir().remove_tree(&self.next_name)?;
        Ok(())
    }

    /// Keeps the old one for the next Create, or, where it has no Snapshot for this EnvVersion, links to the new one's.
    fn keep_last(&self, newest: EnvVersion) -> Result<(), SidError> {
        let (parent, snapshot) = (self.sid.dir(), newest.dir_name());
        let is_of_use = match parent.dir(Path::new(&self.next_name).join(&snapshot)) {
            Ok(old) => old.stat(OsStr::new(MANIFEST))?.is_some(),
            Err(error) if error.is_not_found() => false,
            Err(error) => return Err(error.into()),
        };
        if !is_of_use && let Some(new) = self.sid.role_dir(self.role)? {
            self.remove_old()?;
            parent.make_dir(&self.next_name, 0o700)?;
            link_tree(&new, OsStr::new(&snapshot), &parent.dir(&self.next_name)?)?;
            parent.sync_file_system()?;
        }
        Ok(parent.rename(&self.next_name, parent, &last_name(self.role), Rename::NoReplace)?)
    }

    /// Gives up: what was built is removed.
    pub fn abandon(self) -> Result<(), SidError> {
        self.sid.dir().remove_tree(&self.next_name)?;
        Ok(())
    }
}

fn next_name(role: Role) -> OsString {
    format!(".next-{role}").into()
}

fn last_name(role: Role) -> OsString {
    format!(".last-{role}").into()
}

/// Makes `name` in `to` a copy of `name` in `from` whose files are the same files.
fn link_tree(from: &Dir, name: &OsStr, to: &Dir) -> Result<(), SidError> {
    let Some(stat) = from.stat(name)? else { return Ok(()) };
    match ObjectType::of(&stat) {
        ObjectType::File => from.hard_link(name, to, name)?,
        ObjectType::Dir => {
            let kind = object::read(from, name)?;
            object::make(&kind, from, name, to, name)?;
            let (source, target) = (from.dir(name)?, to.dir(name)?);
            for inner in source.names(usize::MAX - 1)? {
                link_tree(&source, &inner, &target)?;
            }
            object::make_dir_time(&kind, to, name)?;
        }
        _ => object::make(&object::read(from, name)?, from, name, to, name)?,
    }
    Ok(())
}

/// Makes `name` in `to` a copy of `name` in `from`, on whatever file system.
pub fn copy_tree(from: &Dir, name: &OsStr, to: &Dir) -> Result<(), SidError> {
    let kind = object::read(from, name)?;
    object::make(&kind, from, name, to, name)?;
    if from.stat(name)?.is_some_and(|stat| ObjectType::of(&stat) == ObjectType::Dir) {
        let (source, target) = (from.dir(name)?, to.dir(name)?);
        for inner in source.names(usize::MAX - 1)? {
            copy_tree(&source, &inner, &target)?;
        }
        object::make_dir_time(&kind, to, name)?;
    }
    Ok(())
}
