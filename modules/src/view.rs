//! The one look [389, 392]: what is installed, what is set, what runs, and what is not as it should be.

use crate::{
    Error,
    links::At,
    name::{Channel, FileName, ModuleName, Release, Version},
    record::Record,
    running::{self, Running},
    store::Store,
    trial::{self, Trial},
};
use serde::Serialize;
use std::{
    collections::{BTreeMap, HashMap},
    ffi::OsStr,
};

/// Everything, as `list --json` gives it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Overview {
    /// The format: 1.
    pub format: u32,
    /// The modules, by name.
    pub modules: Vec<ModuleView>,
    /// What stands out and belongs to no module: links that point nowhere, things put there by hand.
    pub problems: Vec<String>,
}

/// One module.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ModuleView {
    /// Its name.
    pub name: ModuleName,
    /// What is set, where that is one whole version.
    pub set: Option<Release>,
    /// Its versions, oldest first.
    pub versions: Vec<VersionView>,
    /// The trial that goes on.
    pub trial: Option<Trial>,
    /// What stands out.
    pub problems: Vec<String>,
}

/// One installed version.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct VersionView {
    /// The version.
    pub version: Version,
    /// The directory.
    #[serde(rename = "in")]
    pub channel: Channel,
    /// Whether it is set.
    pub set: bool,
    /// The processes that run it now.
    pub pids: Vec<i32>,
}

/// Which part is wanted.
#[derive(Clone, Debug, Default)]
pub struct Part {
    /// This module alone.
    pub module: Option<ModuleName>,
    /// This directory alone.
    pub channel: Option<Channel>,
}

/// Takes the look.
pub fn look(store: &Store, part: &Part) -> Result<Overview, Error> {
    let links = store.links()?;
    let installed = store.installed()?;
    let mut owners = Owners::new(store, &installed);
    let mut problems = Vec::new();
    let mut set: BTreeMap<ModuleName, Vec<(FileName, Release)>> = BTreeMap::new();
    for (name, at) in links.entries() {
        let shown = name.to_string_lossy().escape_debug().to_string();
        match (at, name.to_str().and_then(|name| name.parse::<FileName>().ok())) {
            (At::Version(release), Some(file)) => match owners.of(&file, release)? {
                Some(module) => set.entry(module).or_default().push((file, release.clone())),
                None => problems.push(stray_link(store, &file, release)?),
            },
            (At::OtherLink(target), _) => {
                problems
                    .push(format!("bin/{shown} points to {}, which is no version of a module", target.escape_debug()));
            }
            (At::NoLink(_) | At::Version(_), _) => {
                problems.push(format!("bin/{shown} is no link; somebody put it there"));
            }
        }
    }
    let mut running: BTreeMap<ModuleName, Vec<Running>> = BTreeMap::new();
    for process in running::processes(store.root_path()) {
        match owners.of(&process.file, &process.release)? {
            Some(module) => running.entry(module).or_default().push(process),
            None => problems.push(format!(
                "process {} runs {}/{}, which is not installed any more",
                process.pid,
                process.release.channel,
                process.release.tagged(&process.file)
            )),
        }
    }
    let mut modules = Vec::new();
    for (module, releases) in installed.iter().filter(|(name, _)| part.module.as_ref().is_none_or(|m| m == *name)) {
        let set = set.remove(module).unwrap_or_default();
        let running = running.remove(module).unwrap_or_default();
        let trial = trial::going_on(store, &links, module)?;
        modules.push(module_view(&mut owners, part, module, releases, &set, &running, trial)?);
    }
    Ok(Overview { format: 1, modules, problems })
}

fn stray_link(store: &Store, file: &FileName, release: &Release) -> Result<String, Error> {
    let tagged = release.tagged(file);
    let there = match store.channel(release.channel)? {
        Some(dir) => dir.stat(OsStr::new(&tagged))?.is_some(),
        None => false,
    };
    let what = if there { "which no package installed" } else { "which is not there" };
    Ok(format!("bin/{file} points to {}, {what}", release.link_target(file)))
}

fn module_view(
    owners: &mut Owners<'_>,
    part: &Part,
    name: &ModuleName,
    releases: &[Release],
    set: &[(FileName, Release)],
    running: &[Running],
    trial: Option<Trial>,
) -> Result<ModuleView, Error> {
    let mut problems = Vec::new();
    let first = set.first().map(|(_, release)| release);
    let files = first.map(|release| owners.record(name, release)).transpose()?.flatten();
    let whole = files.as_ref().is_some_and(|r| r.files.len() == set.len()) && set.iter().all(|(_, r)| Some(r) == first);
    if !whole && !set.is_empty() {
        let parts: Vec<String> = set.iter().map(|(file, release)| format!("{file} of {release}")).collect();
        problems.push(format!("no whole version is set, but {}", parts.join(", ")));
    }
    for (file, release) in set {
        let dir = owners.store.channel(release.channel)?;
        let there = dir.map_or(Ok(None), |dir| dir.stat(OsStr::new(&release.tagged(file))))?.is_some();
        if !there {
            problems.push(format!("bin/{file} points to {}, which is not there", release.link_target(file)));
        }
    }
    let set = first.filter(|_| whole).cloned();
    for process in running.iter().filter(|process| Some(&process.release) != set.as_ref()) {
        let gone = if process.deleted { ", and its file is gone" } else { "" };
        problems.push(format!("{} runs as process {}, but is not set{gone}", process.release, process.pid));
    }
    let versions = releases
        .iter()
        .filter(|release| part.channel.is_none_or(|channel| channel == release.channel))
        .map(|release| VersionView {
            version: release.version.clone(),
            channel: release.channel,
            set: set.as_ref() == Some(release),
            pids: running.iter().filter(|process| process.release == *release).map(|process| process.pid).collect(),
        })
        .collect();
    Ok(ModuleView { name: name.clone(), set, versions, trial, problems })
}

/// Finds out which module a version-tagged file belongs to.
pub(crate) struct Owners<'s> {
    store: &'s Store,
    installed: &'s BTreeMap<ModuleName, Vec<Release>>,
    records: HashMap<(ModuleName, Release), Option<Record>>,
}

impl<'s> Owners<'s> {
    pub(crate) fn new(store: &'s Store, installed: &'s BTreeMap<ModuleName, Vec<Release>>) -> Owners<'s> {
        Owners { store, installed, records: HashMap::new() }
    }

    /// The module that has this file in this version.
    pub(crate) fn of(&mut self, file: &FileName, release: &Release) -> Result<Option<ModuleName>, Error> {
        // A file is mostly named after its module: that one is asked first, so that the others need not be read.
        let stem: Option<ModuleName> = file.as_str().split('.').next().and_then(|stem| stem.parse().ok());
        let others = self.installed.keys().filter(|module| Some(*module) != stem.as_ref());
        for module in stem.iter().chain(others) {
            let installed = self.installed.get(module).is_some_and(|all| all.binary_search(release).is_ok());
            if installed && self.record(module, release)?.is_some_and(|record| record.file(file).is_some()) {
                return Ok(Some(module.clone()));
            }
        }
        Ok(None)
    }

    /// A record that is damaged counts as none: `verify` tells of it.
    fn record(&mut self, module: &ModuleName, release: &Release) -> Result<Option<Record>, Error> {
        let key = (module.clone(), release.clone());
        if let Some(record) = self.records.get(&key) {
            return Ok(record.clone());
        }
        let record = match self.store.record(module, release) {
            Err(Error::Record { .. }) => None,
            other => other?,
        };
        Ok(self.records.entry(key).or_insert(record).clone())
    }
}
