//! Placing a version, and taking one away.
//!
//! ```text
//!   modules/staging/        while something is installed or removed
//!     ssSync.v2               unpacked and checked, flushed
//!     ssSync.update.v2.toml   the record: from now on, the files of this version are taken back if this is cut
//!   modules/update/         the files come here, one rename each
//!   modules/records/        the record comes here with one rename: from now on, the version is installed
//! ```
//!
//! Removing goes the other way: the record moves to staging with one rename (from now on the version is gone), then its files go.

use crate::{
    Error,
    history::Why,
    name::{Channel, FileName, ModuleName, Release},
    package::{self, Package},
    record::Record,
    running,
    signature::Trust,
    store::{Changing, Store, difference, record_name},
    switch::{self, How, Switched},
    trial,
};
use atlas_host::{
    durable,
    tree::{Dir, Rename},
};
use serde::Serialize;
use std::{ffi::OsStr, io::Read};

/// What installing did, or would do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Placed {
    /// Its files were placed.
    New,
    /// It was there already, whole.
    Already,
    /// It was there already; what was missing or damaged was placed again.
    Mended,
    /// Its files lay there already, put there by hand; now they are known.
    Adopted,
}

/// An installation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Installed {
    /// The module.
    pub module: ModuleName,
    /// The version, and where it lies.
    pub release: Release,
    /// What was done.
    pub placed: Placed,
    /// The file of the trusted key that signed it.
    pub signed_by: Option<String>,
    /// The files that it has.
    pub files: Vec<FileName>,
}

impl Installed {
    fn of(package: &Package, release: Release, placed: Placed) -> Installed {
        let files = package.record.files.iter().map(|file| file.name.clone()).collect();
        let signed_by = package.signed_by.clone();
        Installed { module: package.record.name.clone(), release, placed, signed_by, files }
    }
}

/// How the server and a package stand to each other.
enum Standing {
    New,
    Known { damaged_record: bool },
    FilesThere,
}

/// Checks a package as installing it would; nothing is written.
pub fn check(store: &Store, source: impl Read, trust: &Trust, channel: Channel) -> Result<Installed, Error> {
    let package = package::unpack(source, trust, None)?;
    let release = Release { channel, version: package.record.version.clone() };
    let placed = match standing(store, &package.record, &release)? {
        Standing::New => Placed::New,
        Standing::FilesThere => Placed::Adopted,
        Standing::Known { damaged_record } => {
            let whole = !damaged_record && damaged(store, &release, &package.record)?.is_empty();
            if whole { Placed::Already } else { Placed::Mended }
        }
    };
    Ok(Installed::of(&package, release, placed))
}

/// Installs a package. Everything is checked before anything is placed; what fails leaves nothing behind.
pub fn install(
    changing: &Changing<'_>,
    source: impl Read,
    trust: &Trust,
    channel: Channel,
) -> Result<Installed, Error> {
    let staging = changing.make_staging()?;
    let result = package::unpack(source, trust, Some(&staging))
        .map_err(Error::from)
        .and_then(|package| place(changing, &staging, &package, channel));
    let cleared = changing.clear_staging();
    let installed = result?;
    cleared?;
    Ok(installed)
}

fn place(changing: &Changing<'_>, staging: &Dir, package: &Package, channel: Channel) -> Result<Installed, Error> {
    let record = &package.record;
    let release = Release { channel, version: record.version.clone() };
    let name = record_name(&record.name, &release);
    let dir = changing.channel_dir(channel)?;
    let placed = match standing(changing, record, &release)? {
        Standing::New => {
            durable::write(staging, OsStr::new(&name), &package.record_bytes, 0o644)?;
            move_files(staging, &dir, &release, record.files.iter().map(|file| &file.name), Rename::NoReplace)?;
            changing.move_record(staging, &changing.records()?, &name)?;
            Placed::New
        }
        Standing::FilesThere => {
            durable::write(&changing.records()?, OsStr::new(&name), &package.record_bytes, 0o644)?;
            Placed::Adopted
        }
        Standing::Known { damaged_record } => {
            let bad = damaged(changing, &release, record)?;
            move_files(staging, &dir, &release, bad.iter(), Rename::Replace)?;
            if damaged_record {
                durable::write(&changing.records()?, OsStr::new(&name), &package.record_bytes, 0o644)?;
            }
            if bad.is_empty() && !damaged_record { Placed::Already } else { Placed::Mended }
        }
    };
    Ok(Installed::of(package, release, placed))
}

fn move_files<'f>(
    staging: &Dir,
    dir: &Dir,
    release: &Release,
    files: impl Iterator<Item = &'f FileName>,
    how: Rename,
) -> Result<(), Error> {
    for file in files {
        let tagged = release.tagged(file);
        staging.rename(OsStr::new(&tagged), dir, OsStr::new(&tagged), how)?;
    }
    Ok(dir.sync()?)
}

/// Compares a package with what is there, and refuses what would change it.
fn standing(store: &Store, record: &Record, release: &Release) -> Result<Standing, Error> {
    for channel in Channel::ALL {
        let there = Release { channel, version: release.version.clone() };
        let known = match store.record(&record.name, &there) {
            Err(Error::Record { .. }) if there == *release => return Ok(Standing::Known { damaged_record: true }),
            other => other?,
        };
        match known {
            Some(known) if known != *record => {
                return Err(Error::refused(
                    format!("{} {there} is installed already, with other content", record.name),
                    "a version never changes: let its maker give the new content a new version",
                ));
            }
            Some(_) if there == *release => return Ok(Standing::Known { damaged_record: false }),
            _ => {}
        }
    }
    refuse_files_of_others(store, record)?;
    let Some(dir) = store.channel(release.channel)? else { return Ok(Standing::New) };
    let mut there = 0;
    for file in &record.files {
        let tagged = release.tagged(&file.name);
        if dir.stat(OsStr::new(&tagged))?.is_none() {
            continue;
        }
        there += 1;
        if let Some(what) = difference(&dir, release, record, &file.name)? {
            let path = dir.show(&tagged);
            return Err(Error::refused(
                format!("{} was put there by hand, and is not what the package has: {what}", path.display()),
                format!("move it away: mv {0} {0}.by-hand", path.display()),
            ));
        }
    }
    match there {
        0 => Ok(Standing::New),
        all if all == record.files.len() => Ok(Standing::FilesThere),
        _ => Err(Error::refused(
            format!(
                "some, not all files of {} {} were put into {} by hand",
                record.name,
                release.version,
                dir.shown().display()
            ),
            "move them away; the package has them",
        )),
    }
}

/// Two modules with a link of the same name would switch each other.
fn refuse_files_of_others(store: &Store, record: &Record) -> Result<(), Error> {
    for (module, releases) in store.installed()? {
        for release in releases.iter().filter(|_| module != record.name) {
            let Some(other) = store.record(&module, release)? else { continue };
            if let Some(file) = record.files.iter().find(|file| other.file(&file.name).is_some()) {
                return Err(Error::refused(
                    format!("the file {} of the package belongs to the module {module}", file.name),
                    "let the maker of the package give it another name",
                ));
            }
        }
    }
    Ok(())
}

/// The files of an installed version that are not what its record says.
fn damaged(store: &Store, release: &Release, record: &Record) -> Result<Vec<FileName>, Error> {
    let Some(dir) = store.channel(release.channel)? else { return Ok(vec![]) };
    let mut bad = Vec::new();
    for file in &record.files {
        if difference(&dir, release, record, &file.name)?.is_some() {
            bad.push(file.name.clone());
        }
    }
    Ok(bad)
}

/// Sets a version that came with the system's package, unless an operator has chosen what to set.
pub fn deliver(changing: &Changing<'_>, installed: &Installed) -> Result<Option<Switched>, Error> {
    let links = changing.links()?;
    let chosen = match links.history.last_of(&installed.module) {
        Some(line) => line.why != Why::Delivered,
        None => !links.of_module(changing, &installed.module)?.is_empty(),
    };
    if chosen {
        return Ok(None);
    }
    let how = How { why: Why::Delivered, ..How::SET };
    switch::apply(changing, switch::plan(changing, &installed.module, &installed.release, how)?).map(Some)
}

/// What forbids the removal of a version.
pub fn check_removal(store: &Store, module: &ModuleName, release: &Release) -> Result<(), Error> {
    if !store.is_installed(module, release)? {
        return Err(Error::refused(
            format!("{module} {release} is not installed"),
            format!("see 'atlas-module list {module}'"),
        ));
    }
    let links = store.links()?;
    if links.of_module(store, module)?.iter().any(|(_, set)| set == release) {
        return Err(Error::refused(
            format!("{module} {release} is set, and so it stays"),
            format!("set another version first: atlas-module set {module} VERSION"),
        ));
    }
    let files: Vec<FileName> = match store.record(module, release) {
        Ok(record) => record.map(|record| record.files.into_iter().map(|file| file.name).collect()).unwrap_or_default(),
        Err(Error::Record { .. }) => vec![],
        Err(error) => return Err(error),
    };
    let runs =
        running::processes(store.root_path()).into_iter().find(|p| p.release == *release && files.contains(&p.file));
    if let Some(process) = runs {
        return Err(Error::refused(
            format!("{module} {release} runs now, as process {}, and so it stays", process.pid),
            "stop or restart that service first",
        ));
    }
    let trial = trial::going_on(store, &links, module)?;
    if trial.is_some_and(|trial| trial.goes_back_to() == Some(release)) {
        return Err(Error::refused(
            format!("{module} {release} is what the trial that goes on would set again"),
            format!("wait for the end of the trial, or end it: see 'atlas-module list {module}'"),
        ));
    }
    Ok(())
}

/// Removes a version: its record and its files. Never the set or a running one.
pub fn remove(changing: &Changing<'_>, module: &ModuleName, release: &Release) -> Result<(), Error> {
    check_removal(changing, module, release)?;
    let staging = changing.make_staging()?;
    changing.move_record(&changing.records()?, &staging, &record_name(module, release))?;
    changing.clear_staging()
}
