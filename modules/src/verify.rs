//! Whether everything that is installed is still what was installed.

use crate::{
    Error,
    name::{Channel, ModuleName, Release},
    record::Record,
    store::{MODULES_DIR, RECORDS_DIR, STAGING_DIR, Store, difference, parse_record_name, record_name},
    view,
};
use serde::Serialize;
use std::{collections::BTreeSet, path::Path};

const MAX_ENTRIES: usize = 1_000_000;

/// What was looked at, and what was found.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Verified {
    /// The format: 1.
    pub format: u32,
    /// How many versions were looked at.
    pub versions: usize,
    /// How many files were read whole.
    pub files: usize,
    /// What is not as it was installed, or not from a package.
    pub findings: Vec<Finding>,
}

/// Something that is not as it should be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// Where, below `/opt/atlas`.
    pub place: String,
    /// What.
    pub what: String,
}

/// Reads every file of every installed version, or of those of one module.
///
/// No lock is taken: what another program installs or removes meanwhile is not found wanting.
pub fn verify(store: &Store, only: Option<&ModuleName>) -> Result<Verified, Error> {
    let mut verified = Verified { format: 1, ..Verified::default() };
    // The order matters where a version comes or goes meanwhile: its files first, then where its record comes from, then where it goes to.
    let mut there = BTreeSet::new();
    for channel in Channel::ALL {
        if let Some(dir) = store.channel(channel)? {
            there.extend(dir.names(MAX_ENTRIES)?.into_iter().map(|name| (channel, name)));
        }
    }
    let mut known = staged(store)?;
    for (module, releases) in store.installed()? {
        for release in releases {
            let looked_at = only.is_none_or(|only| *only == module);
            if let Some(record) = check_version(store, &module, &release, looked_at, &mut verified)? {
                known.extend(record.files.iter().map(|file| (release.channel, release.tagged(&file.name).into())));
            }
        }
    }
    if only.is_none() {
        for (channel, name) in there.difference(&known) {
            // One that went meanwhile is no finding.
            if store.channel(*channel)?.map_or(Ok(None), |dir| dir.stat(name))?.is_some() {
                let what = "it was not installed from a package".into();
                let place = format!("{MODULES_DIR}/{channel}/{}", name.to_string_lossy().escape_debug());
                verified.findings.push(Finding { place, what });
            }
        }
        let overview = view::look(store, &view::Part::default())?;
        verified.findings.extend(overview.problems.into_iter().map(|what| Finding { place: "bin".into(), what }));
    }
    Ok(verified)
}

/// The files of versions that come or go just now, or did when the power went: the next change takes them away.
fn staged(store: &Store) -> Result<BTreeSet<(Channel, std::ffi::OsString)>, Error> {
    let mut files = BTreeSet::new();
    let Some(staging) = store.dir(Path::new(MODULES_DIR).join(STAGING_DIR))? else { return Ok(files) };
    for name in staging.names(MAX_ENTRIES)? {
        let Some((_, release)) = name.to_str().and_then(parse_record_name) else { continue };
        let content = staging.read_if_there(&name, Record::MAX_SIZE)?.unwrap_or_default();
        if let Ok(record) = Record::parse(&content) {
            files.extend(record.files.iter().map(|file| (release.channel, release.tagged(&file.name).into())));
        }
    }
    Ok(files)
}

fn check_version(
    store: &Store,
    module: &ModuleName,
    release: &Release,
    looked_at: bool,
    verified: &mut Verified,
) -> Result<Option<Record>, Error> {
    let record = match store.record(module, release) {
        Err(Error::Record { source, .. }) => {
            let place = format!("{MODULES_DIR}/{RECORDS_DIR}/{}", record_name(module, release));
            verified.findings.push(Finding { place, what: format!("the record is damaged: {source}") });
            return Ok(None);
        }
        other => other?,
    };
    let Some(record) = record.filter(|_| looked_at) else { return Ok(None) };
    let Some(dir) = store.channel(release.channel)? else { return Ok(Some(record)) };
    verified.versions += 1;
    for file in &record.files {
        let found = difference(&dir, release, &record, &file.name)?;
        verified.files += 1;
        // Removed meanwhile is no finding.
        if let Some(what) = found
            && store.is_installed(module, release)?
        {
            let place = format!("{MODULES_DIR}/{}/{}", release.channel, release.tagged(&file.name));
            verified.findings.push(Finding { place, what });
        }
    }
    Ok(Some(record))
}
