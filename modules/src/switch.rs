//! Setting a version, going back to the one before, and trials.

use crate::{
    Error, formats,
    history::{self, Line, Why},
    links::{At, Change, Links, SetState, publish},
    name::{FileName, ModuleName, Release, Wanted},
    record::Record,
    store::{Changing, Store, TRIALS_DIR, difference},
};
use atlas_host::durable;
use serde::{Deserialize, Serialize};
use std::ffi::OsStr;

/// What setting a version did, or would do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Switched {
    /// The module.
    pub module: ModuleName,
    /// What was set before, where that was one whole version.
    pub from: Option<Release>,
    /// What is set now.
    pub to: Release,
    /// Whether anything had to be done.
    pub changed: bool,
    /// The links that point to the version now.
    pub links: Vec<FileName>,
    /// The links that went, because the version does not have these files.
    pub dropped: Vec<FileName>,
    /// Where files lie now that somebody had put in the place of a link.
    pub set_aside: Vec<String>,
    /// How many starts a trial has.
    pub trial_starts: Option<u32>,
    /// What somebody should know: rules that were overridden, and what could not be checked.
    pub warnings: Vec<String>,
}

/// How a version is to be set.
#[derive(Clone, Copy, Debug)]
pub struct How {
    /// For what reason.
    pub why: Why,
    /// How many starts it has to report itself healthy, where it is on trial.
    pub trial_starts: Option<u32>,
    /// Whether rules that protect data are overridden.
    pub force: bool,
}

impl How {
    /// As an operator sets a version.
    pub const SET: How = How { why: Why::Set, trial_starts: None, force: false };
}

/// A change that was thought through; nothing is done yet.
#[derive(Clone, Debug)]
pub struct Plan {
    switched: Switched,
    links: Links,
    how: How,
}

impl Plan {
    /// What would be done.
    pub fn preview(&self) -> &Switched {
        &self.switched
    }
}

/// The installed version that a person means: an update before a beta of the same version.
pub fn find(store: &Store, module: &ModuleName, wanted: &Wanted) -> Result<Release, Error> {
    let mut installed = store.installed()?;
    let of_module = installed.remove(module).unwrap_or_default();
    let fits = |r: &&Release| r.version == wanted.version && wanted.channel.is_none_or(|channel| channel == r.channel);
    if let Some(release) = of_module.iter().find(fits) {
        return Ok(release.clone());
    }
    if of_module.is_empty() {
        let known: Vec<&str> = installed.keys().map(ModuleName::as_str).take(30).collect();
        let hint =
            if known.is_empty() { "install one first".into() } else { format!("one of these: {}", known.join(", ")) };
        return Err(Error::refused(format!("no module {module} is installed"), hint));
    }
    let newest: Vec<String> = of_module.iter().rev().take(10).map(Release::to_string).collect();
    Err(Error::refused(
        format!("{module} {wanted} is not installed"),
        format!("one of these: {}; or install it first", newest.join(", ")),
    ))
}

/// What was set before what is set now.
pub fn before(store: &Store, module: &ModuleName) -> Result<Release, Error> {
    let links = store.links()?;
    let now = links.state_of(store, module)?;
    let installed = store.installed()?.remove(module).unwrap_or_default();
    links.history.before(module, now.release(), |release| installed.contains(release)).ok_or_else(|| {
        Error::refused(
            format!("history knows no other version of {module} that was set and is still installed"),
            format!("see 'atlas-module list {module}', and set one of those"),
        )
    })
}

/// Thinks a change through: everything that could forbid it is found here.
pub fn plan(store: &Store, module: &ModuleName, to: &Release, how: How) -> Result<Plan, Error> {
    let record = store.record(module, to)?.ok_or_else(|| {
        Error::refused(format!("{module} {to} is not installed"), format!("see 'atlas-module list {module}'"))
    })?;
    let links = store.links()?;
    let from = links.state_of(store, module)?;
    if how.trial_starts.is_some() && from.release().is_none_or(|from| from == to) {
        return Err(Error::refused(
            format!("{module} {to} cannot be on trial: there is no other version set that it could go back to"),
            format!("leave --try away: atlas-module set {module} {to}"),
        ));
    }
    let mut warnings = Vec::new();
    check_files(store, module, to, &record, how, &mut warnings)?;
    check_formats(store, module, to, &record, how, &mut warnings)?;
    let dropped: Vec<FileName> = links
        .of_module(store, module)?
        .into_iter()
        .map(|(file, _)| file)
        .filter(|file| record.file(file).is_none())
        .collect();
    let files: Vec<FileName> = record.files.iter().map(|file| file.name.clone()).collect();
    let right = |file: &FileName| links.at(file) == Some(&At::Version(to.clone()));
    let changed = !dropped.is_empty() || !files.iter().all(right);
    if let SetState::Mixed(parts) = &from {
        let parts: Vec<String> = parts.iter().map(|(file, release)| format!("{file} of {release}")).collect();
        warnings.push(format!("no whole version was set before, but {}", parts.join(", ")));
    }
    let switched = Switched {
        module: module.clone(),
        from: from.release().cloned(),
        to: to.clone(),
        changed,
        links: files,
        dropped,
        set_aside: vec![],
        trial_starts: how.trial_starts,
        warnings,
    };
    Ok(Plan { switched, links, how })
}

/// A version whose files are not those that were installed would make things worse.
fn check_files(
    store: &Store,
    module: &ModuleName,
    to: &Release,
    record: &Record,
    how: How,
    warnings: &mut Vec<String>,
) -> Result<(), Error> {
    let dir = store.channel(to.channel)?;
    for file in &record.files {
        let found = match &dir {
            Some(dir) => difference(dir, to, record, &file.name)?,
            None => Some("it is missing".into()),
        };
        let Some(found) = found else { continue };
        let what = format!("{}/{} is damaged: {found}", to.channel, to.tagged(&file.name));
        if !how.force {
            return Err(Error::refused(
                format!("{module} {to} was not set; {what}"),
                format!("install the package of {module} {} again; it mends what is damaged", to.version),
            ));
        }
        warnings.push(what);
    }
    Ok(())
}

/// A version that cannot read the data that are on the Unbound disk now would fail, or worse.
fn check_formats(
    store: &Store,
    module: &ModuleName,
    to: &Release,
    record: &Record,
    how: How,
    warnings: &mut Vec<String>,
) -> Result<(), Error> {
    let on_disk = formats::on_disk(store.root())?;
    for unreadable in formats::unreadable(&on_disk, record) {
        let what = format!("{module} {} cannot read what is on the Unbound disk: {unreadable}", to.version);
        if !how.force {
            return Err(Error::refused(
                what,
                format!(
                    "set a version that reads it; with --force, {module} {} would refuse these data, or read them wrongly and write over them",
                    to.version
                ),
            ));
        }
        warnings.push(format!("{what}; forced: it may refuse these data, or read them wrongly and write over them"));
    }
    Ok(())
}

/// Does it. The plan must have been made while this lock was held.
pub fn apply(changing: &Changing<'_>, plan: Plan) -> Result<Switched, Error> {
    let Plan { mut switched, links, how } = plan;
    // A delivery that finds its version set already says nothing; an operator who sets it, chooses it.
    let same_chooser = links.history.last_of(&switched.module).is_some_and(|last| {
        last.to.as_ref() == Some(&switched.to) && (last.why == how.why || how.why == Why::Delivered)
    });
    if !switched.changed && (same_chooser || how.why == Why::Delivered) {
        return Ok(switched);
    }
    let line = Line {
        n: links.history.next_number(),
        at: history::now(),
        by: history::who(),
        module: switched.module.clone(),
        from: switched.from.clone(),
        to: Some(switched.to.clone()),
        why: how.why,
        starts: how.trial_starts,
        forced: how.force,
    };
    let add = switched.links.iter().map(|file| (file.clone(), switched.to.clone())).collect();
    let change = Change { drop: switched.dropped.iter().cloned().collect(), add, line: Some(line) };
    switched.set_aside = publish(changing, &links, &change)?;
    Ok(switched)
}

/// Takes all links of a module away.
pub fn unset(changing: &Changing<'_>, module: &ModuleName) -> Result<Vec<FileName>, Error> {
    let links = changing.links()?;
    let owned: Vec<FileName> = links.of_module(changing, module)?.into_iter().map(|(file, _)| file).collect();
    if owned.is_empty() {
        return Ok(owned);
    }
    let line = Line {
        n: links.history.next_number(),
        at: history::now(),
        by: history::who(),
        module: module.clone(),
        from: links.state_of(changing, module)?.release().cloned(),
        to: None,
        why: Why::Set,
        starts: None,
        forced: false,
    };
    publish(changing, &links, &Change { drop: owned.iter().cloned().collect(), add: vec![], line: Some(line) })?;
    Ok(owned)
}

/// A trial that goes on: `modules/trials/NAME.json`, which counts starts, and the line of history that began it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Trial {
    /// The version on trial.
    pub release: Release,
    /// How many starts it has.
    pub starts_allowed: u32,
    /// How many it had.
    pub starts: u32,
    /// Whether it reported itself healthy, which ends the trial.
    pub healthy: bool,
    #[serde(skip)]
    line: Line,
}

impl Trial {
    /// The version that is set again when it fails.
    pub fn goes_back_to(&self) -> Option<&Release> {
        self.line.from.as_ref()
    }
}

#[derive(Serialize, Deserialize)]
struct Count {
    format: u32,
    /// The line of history that began the trial: the count of an earlier one does not matter any more.
    trial: u64,
    starts: u32,
    healthy: bool,
}

/// The trial of what is set of a module now.
pub fn trial(store: &Store, links: &Links, module: &ModuleName) -> Result<Option<Trial>, Error> {
    let Some(line) = links.history.last_of(module).filter(|line| line.why == Why::Trial) else { return Ok(None) };
    let (Some(release), Some(starts_allowed)) = (line.to.clone(), line.starts) else { return Ok(None) };
    let path = format!("{}/{TRIALS_DIR}/{module}.json", crate::store::MODULES_DIR);
    let content = store.atlas().read_if_there(&path, 4096)?.unwrap_or_default();
    // A count that cannot be read begins anew: the trial is longer then, and nothing is lost.
    let count = serde_json::from_slice(&content).ok().filter(|count: &Count| count.trial == line.n);
    let (starts, healthy) = count.map_or((0, false), |count| (count.starts, count.healthy));
    Ok(Some(Trial { release, starts_allowed, starts, healthy, line }))
}

/// What a start of a module's program meant.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case", tag = "trial")]
pub enum Start {
    /// No trial goes on.
    None,
    /// It is one of those that the trial has.
    Counted(Trial),
    /// The trial is over; the version before is set again.
    Failed {
        /// The version that did not report itself healthy.
        failed: Release,
        /// How many starts it had.
        starts: u32,
        /// What was done.
        switched: Switched,
    },
}

/// Counts a start that is about to be made. Sets the version before again where the trial's starts are used up.
pub fn started(store: &Store, module: &ModuleName) -> Result<Start, Error> {
    // Without a trial, a start costs no lock and no write.
    let going_on = |store: &Store| -> Result<Option<Trial>, Error> {
        Ok(trial(store, &store.links()?, module)?.filter(|trial| !trial.healthy))
    };
    if going_on(store)?.is_none() {
        return Ok(Start::None);
    }
    let changing = store.change()?;
    let Some(mut trial) = going_on(&changing)? else { return Ok(Start::None) };
    if trial.starts < trial.starts_allowed {
        trial.starts += 1;
        write_count(&changing, module, &trial)?;
        return Ok(Start::Counted(trial));
    }
    let back = trial.line.from.clone().ok_or_else(|| Error::refused("the trial has nothing to go back to", ""))?;
    // What ran before the trial is what is safest now, whatever else could be said about it.
    let how = How { why: Why::TrialFailed, trial_starts: None, force: true };
    let switched = apply(&changing, plan(&changing, module, &back, how)?)?;
    Ok(Start::Failed { failed: trial.release, starts: trial.starts, switched })
}

/// Takes the report of a version that it is healthy; gives whether that ended a trial of it.
pub fn healthy(store: &Store, module: &ModuleName, wanted: &Wanted) -> Result<bool, Error> {
    let release = find(store, module, wanted)?;
    let on_trial = |store: &Store| -> Result<Option<Trial>, Error> {
        Ok(trial(store, &store.links()?, module)?.filter(|trial| !trial.healthy && trial.release == release))
    };
    if on_trial(store)?.is_none() {
        return Ok(false);
    }
    let changing = store.change()?;
    let Some(mut trial) = on_trial(&changing)? else { return Ok(false) };
    trial.healthy = true;
    write_count(&changing, module, &trial)?;
    Ok(true)
}

fn write_count(changing: &Changing<'_>, module: &ModuleName, trial: &Trial) -> Result<(), Error> {
    let count = Count { format: 1, trial: trial.line.n, starts: trial.starts, healthy: trial.healthy };
    let mut text = serde_json::to_vec(&count).unwrap_or_default();
    text.push(b'\n');
    let dir = changing.modules().dir(TRIALS_DIR)?;
    Ok(durable::write(&dir, OsStr::new(&format!("{module}.json")), &text, 0o644)?)
}
