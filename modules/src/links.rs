//! The links that choose what runs, and the one rename that changes them all.
//!
//! A module can have many links, and no file system changes many links at once. So the directory that holds them is the unit: the next
//! one is built beside it, made durable, and the two change places with one `renameat2(RENAME_EXCHANGE)`.
//!
//! ```text
//!   /opt/atlas/bin/                          /opt/atlas/.bin-next/     (while a change is being made)
//!     ssSync     -> ./update/ssSync.v1         ssSync     -> ./update/ssSync.v2
//!     ssSync.cfg -> ./update/ssSync.cfg.v1     ssSync.cfg -> ./update/ssSync.cfg.v2
//!     atlas      -> ./update/atlas.v1          atlas      -> ./update/atlas.v1        the same link, a second name
//!     update     -> ../modules/update          update     -> ../modules/update
//!     beta       -> ../modules/beta            beta       -> ../modules/beta
//!     .history                                 .history                               with one more line
//!                └──────────────── exchange, at one instant ───────────────┘
//! ```
//!
//! There is no state in which a mix could run: not while it is done, not after a power cut, and not for a program that knows nothing of
//! this one. What is called `.bin-next` is either not finished or no longer used; in both cases the next change clears it away.
//!
//! What somebody put into `bin` by hand comes along: files as second names, directories by a rename after the exchange.

use crate::{
    Error,
    history::{HISTORY_NAME, History, Line, MAX_SIZE},
    name::{Channel, FileName, ModuleName, Release},
    record::Record,
    store::{Changing, MODULES_DIR, Store},
};
use atlas_host::{
    FileError, durable,
    tree::{Dir, ObjectType, Rename},
};
use nix::errno::Errno;
use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    ffi::{OsStr, OsString},
    io::{self, Write},
    os::fd::AsFd,
};

/// The directory of the links, in `/opt/atlas`.
pub const BIN_DIR: &str = "bin";
const NEXT_DIR: &str = ".bin-next";
/// The most entries of it.
const MAX_ENTRIES: usize = 100_000;

/// What lies at a name in `bin`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum At {
    /// The link of a file, pointing to one of its versions; whether that is there is another question.
    Version(Release),
    /// Some other link, with its target.
    OtherLink(String),
    /// No link at all.
    NoLink(ObjectType),
}

/// `bin`, as one moment saw it.
#[derive(Clone, Debug, Default)]
pub struct Links {
    entries: BTreeMap<OsString, At>,
    /// What was set before.
    pub history: History,
}

/// What is set of one module.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SetState {
    /// No link of it is there.
    Nothing,
    /// Exactly the links of this version.
    Whole(Release),
    /// Something that no change by this program leaves: links of several versions, or some of them missing.
    Mixed(Vec<(FileName, Release)>),
}

impl SetState {
    /// The version, where it is one.
    pub fn release(&self) -> Option<&Release> {
        match self {
            SetState::Whole(release) => Some(release),
            SetState::Nothing | SetState::Mixed(_) => None,
        }
    }
}

impl Links {
    /// Everything in `bin` but what belongs to the directory itself, by name.
    pub fn entries(&self) -> impl Iterator<Item = (&OsStr, &At)> {
        self.entries.iter().map(|(name, at)| (name.as_os_str(), at))
    }

    /// What lies at a name.
    pub fn at(&self, name: &FileName) -> Option<&At> {
        self.entries.get(OsStr::new(name.as_str()))
    }

    /// The links that belong to a module: those that point to a file of one of its installed versions.
    pub fn of_module(&self, store: &Store, module: &ModuleName) -> Result<Vec<(FileName, Release)>, Error> {
        let mut records: HashMap<&Release, Option<Record>> = HashMap::new();
        let mut owned = Vec::new();
        for (name, at) in &self.entries {
            let (At::Version(release), Some(Ok(file))) = (at, name.to_str().map(str::parse::<FileName>)) else {
                continue;
            };
            if !records.contains_key(release) {
                records.insert(release, store.record(module, release)?);
            }
            if records[release].as_ref().is_some_and(|record| record.file(&file).is_some()) {
                owned.push((file, release.clone()));
            }
        }
        Ok(owned)
    }

    /// What is set of a module.
    pub fn state_of(&self, store: &Store, module: &ModuleName) -> Result<SetState, Error> {
        let owned = self.of_module(store, module)?;
        let Some((_, release)) = owned.first() else { return Ok(SetState::Nothing) };
        let files = store.record(module, release)?.map_or(0, |record| record.files.len());
        let whole = owned.len() == files && owned.iter().all(|(_, other)| other == release);
        Ok(if whole { SetState::Whole(release.clone()) } else { SetState::Mixed(owned) })
    }
}

/// Reads `bin`. When a change takes its place meanwhile, it is read again, so that what is returned was once true.
pub(crate) fn read(store: &Store) -> Result<Links, FileError> {
    loop {
        let Some(bin) = store.dir(BIN_DIR)? else { return Ok(Links::default()) };
        let links = read_once(&bin)?;
        let inode = nix::sys::stat::fstat(bin.as_fd()).map_err(FileError::on("look at", bin.shown()))?.st_ino;
        if store.atlas().stat(OsStr::new(BIN_DIR))?.is_some_and(|stat| stat.st_ino == inode) {
            return Ok(links);
        }
    }
}

fn read_once(bin: &Dir) -> Result<Links, FileError> {
    let mut entries = BTreeMap::new();
    for name in bin.names(MAX_ENTRIES)? {
        let own = name == HISTORY_NAME || Channel::ALL.iter().any(|channel| name == channel.dir_name());
        if !own && let Some(at) = look(bin, &name)? {
            entries.insert(name, at);
        }
    }
    let history = bin.read_if_there(HISTORY_NAME, MAX_SIZE)?.unwrap_or_default();
    Ok(Links { entries, history: History::from_file(history) })
}

fn look(bin: &Dir, name: &OsStr) -> Result<Option<At>, FileError> {
    let target = match bin.read_link(name) {
        Ok(target) => target,
        Err(error) if error.is_not_found() => return Ok(None),
        Err(error) if error.source.raw_os_error() == Some(Errno::EINVAL as i32) => {
            return Ok(bin.stat(name)?.map(|stat| At::NoLink(ObjectType::of(&stat))));
        }
        Err(error) => return Err(error),
    };
    let version = target.to_str().and_then(Release::of_link_target);
    Ok(Some(match version {
        Some((release, file)) if name == file.as_str() => At::Version(release),
        _ => At::OtherLink(target.to_string_lossy().into_owned()),
    }))
}

/// What is to be different in the next `bin`.
#[derive(Clone, Debug, Default)]
pub(crate) struct Change {
    /// The links that go.
    pub(crate) drop: BTreeSet<FileName>,
    /// The links that come, or point elsewhere.
    pub(crate) add: Vec<(FileName, Release)>,
    /// What history says of it.
    pub(crate) line: Option<Line>,
}

/// Makes a change, all of it or nothing. Gives the names that files got which somebody had put in the place of a link.
pub(crate) fn publish(changing: &Changing<'_>, links: &Links, change: &Change) -> Result<Vec<String>, Error> {
    let atlas = changing.atlas();
    atlas.make_dir(NEXT_DIR, 0o755)?;
    let aside = match build(changing, links, change) {
        Ok(aside) => aside,
        Err(error) => {
            // It holds second names and new links alone. Best effort: the next change clears it away as well.
            let _ = atlas.remove_tree(OsStr::new(NEXT_DIR));
            return Err(error);
        }
    };
    let how = if changing.dir(BIN_DIR)?.is_some() { Rename::Exchange } else { Rename::NoReplace };
    atlas.rename(OsStr::new(NEXT_DIR), atlas, OsStr::new(BIN_DIR), how)?;
    atlas.sync()?;
    // It is done. What cannot be cleared away now is so by the next change.
    let _ = settle(changing);
    Ok(aside)
}

fn build(changing: &Changing<'_>, links: &Links, change: &Change) -> Result<Vec<String>, Error> {
    let next = changing.atlas().dir(NEXT_DIR)?;
    for channel in Channel::ALL {
        next.symlink(OsStr::new(&format!("../{MODULES_DIR}/{channel}")), OsStr::new(channel.dir_name()))?;
    }
    let changed = |name: &OsStr| {
        let name = name.to_str().and_then(|name| name.parse::<FileName>().ok());
        name.is_some_and(|name| change.drop.contains(&name) || change.add.iter().any(|(add, _)| add == &name))
    };
    let mut aside = Vec::new();
    if let Some(bin) = changing.dir(BIN_DIR)? {
        for (name, at) in links.entries() {
            match (at, changed(name)) {
                (At::NoLink(ObjectType::Dir), true) => return Err(in_the_way(&bin, name)),
                (At::NoLink(ObjectType::Dir), false) | (At::Version(_) | At::OtherLink(_), true) => {}
                (At::NoLink(_), true) => {
                    let other = free_name(&bin, name)?;
                    bin.hard_link(name, &next, &other)?;
                    aside.push(other.to_string_lossy().into_owned());
                }
                (_, false) if durable::is_temporary(name) => {}
                (_, false) => bin.hard_link(name, &next, name)?,
            }
        }
        if change.line.is_none() && bin.stat(OsStr::new(HISTORY_NAME))?.is_some() {
            bin.hard_link(OsStr::new(HISTORY_NAME), &next, OsStr::new(HISTORY_NAME))?;
        }
    }
    for (file, release) in &change.add {
        next.symlink(OsStr::new(&release.link_target(file)), OsStr::new(file.as_str()))?;
    }
    if let Some(line) = &change.line {
        write_history(&next, &links.history, line)?;
    }
    next.sync()?;
    Ok(aside)
}

fn write_history(next: &Dir, history: &History, line: &Line) -> Result<(), FileError> {
    let failed = |error: io::Error| FileError::on("write", next.show(HISTORY_NAME))(error);
    let text = history.with(line).map_err(|error| failed(error.into()))?;
    let mut file = next.create_new(HISTORY_NAME, 0o644)?;
    file.write_all(&text).and_then(|()| file.sync_all()).map_err(failed)
}

fn in_the_way(bin: &Dir, name: &OsStr) -> Error {
    let path = bin.show(name);
    Error::refused(
        format!("{} is a directory, and a link has to take its place", path.display()),
        format!("move it away: mv {0} {0}.by-hand", path.display()),
    )
}

/// A name for what cannot keep its own.
fn free_name(dir: &Dir, name: &OsStr) -> Result<OsString, FileError> {
    let mut free = name.to_owned();
    loop {
        free.push(".by-hand");
        if dir.stat(&free)?.is_none() {
            return Ok(free);
        }
    }
}

/// Clears away what an exchange, or a change that was cut before it, left. What only lies there is carried over into `bin`.
pub(crate) fn settle(changing: &Changing<'_>) -> Result<(), Error> {
    let Some(old) = changing.dir(NEXT_DIR)? else { return Ok(()) };
    for name in old.names(MAX_ENTRIES)? {
        let Some(stat) = old.stat(&name)? else { continue };
        let spare = match ObjectType::of(&stat) {
            ObjectType::Link => true,
            ObjectType::Dir => false,
            ObjectType::File | ObjectType::Special => stat.st_nlink > 1 || name == HISTORY_NAME,
        };
        if spare {
            old.remove(&name)?;
        } else if let Some(bin) = changing.dir(BIN_DIR)? {
            let place = if bin.stat(&name)?.is_none() { name.clone() } else { free_name(&bin, &name)? };
            old.rename(&name, &bin, &place, Rename::NoReplace)?;
        }
    }
    changing.atlas().remove(OsStr::new(NEXT_DIR))?;
    Ok(())
}

/// Sees to it that `bin` is there, and leads to the versions.
pub(crate) fn ensure(changing: &Changing<'_>) -> Result<(), Error> {
    let mut whole = false;
    if let Some(bin) = changing.dir(BIN_DIR)? {
        let leads = |channel: Channel| {
            bin.read_link(OsStr::new(channel.dir_name())).is_ok_and(|to| to == *format!("../{MODULES_DIR}/{channel}"))
        };
        whole = Channel::ALL.into_iter().all(leads);
    }
    if whole { Ok(()) } else { publish(changing, &read(changing)?, &Change::default()).map(drop) }
}

/// Takes over a tree in which `bin/update` and `bin/beta` are directories, as one that was made by hand.
///
/// The directory and a link to where it is going change places at one instant, so every path through `bin` leads on all the while.
pub(crate) fn adopt(store: &Store, modules: &Dir) -> Result<(), Error> {
    let Some(bin) = store.dir(BIN_DIR)? else { return Ok(()) };
    for channel in Channel::ALL {
        let name = OsStr::new(channel.dir_name());
        if bin.stat(name)?.is_none_or(|stat| ObjectType::of(&stat) != ObjectType::Dir) {
            continue;
        }
        match modules.stat(name)?.map(|stat| ObjectType::of(&stat)) {
            None | Some(ObjectType::Link) => {}
            Some(_) => {
                modules.remove(name).map_err(|_| {
                    let (here, there) = (bin.show(name), modules.show(name));
                    Error::refused(
                        format!("{} is a directory, and {} has versions, too", here.display(), there.display()),
                        format!("move what is in {} to {}, and remove the former", here.display(), there.display()),
                    )
                })?;
            }
        }
        if modules.stat(name)?.is_none() {
            modules.symlink(OsStr::new(&format!("../{MODULES_DIR}/{channel}")), name)?;
        }
        bin.rename(name, modules, name, Rename::Exchange)?;
        bin.sync()?;
        modules.sync()?;
    }
    Ok(())
}
