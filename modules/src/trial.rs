//! A version on trial: it has so many starts to report itself healthy, or the version before is set again.
//!
//! ```text
//!   set --try 3 ──► started ──► started ──► started ──► started: set back       no report came, and the starts are used up
//!                      │           └─► healthy: it stays                         the trial is over
//!                      └─► failed: it goes on …       └─► failed: set back       at once, where it was the last start
//! ```
//!
//! ssRun calls all three for every program that is a module's. The line of history that set the version begins the trial; the starts are
//! counted beside it, in `modules/trials/NAME.json`.

use crate::{
    Error,
    history::{Line, Why},
    links::{At, Links},
    name::{FileName, ModuleName, Release, Wanted},
    store::{Changing, MODULES_DIR, Store, TRIALS_DIR},
    switch::{How, Switched, apply, find, plan},
    view::Owners,
};
use atlas_host::durable;
use serde::{Deserialize, Serialize};
use std::ffi::OsStr;

/// A trial that goes on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Trial {
    /// The version on trial.
    pub release: Release,
    /// How many starts it has.
    pub starts_allowed: u32,
    /// How many it had.
    pub starts: u32,
    #[serde(skip)]
    line: Line,
}

impl Trial {
    /// The version that is set again when it fails.
    pub fn goes_back_to(&self) -> Option<&Release> {
        self.line.from.as_ref()
    }

    fn is_used_up(&self) -> bool {
        self.starts >= self.starts_allowed
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

/// The trial of what is set of a module now; one that ended well goes on no more.
pub fn going_on(store: &Store, links: &Links, module: &ModuleName) -> Result<Option<Trial>, Error> {
    let Some(line) = links.history.last_of(module).filter(|line| line.why == Why::Trial) else { return Ok(None) };
    let (Some(release), Some(starts_allowed)) = (line.to.clone(), line.starts) else { return Ok(None) };
    let path = format!("{MODULES_DIR}/{TRIALS_DIR}/{module}.json");
    let content = store.atlas().read_if_there(&path, 4096)?.unwrap_or_default();
    // A count that cannot be read begins anew: the trial is longer then, and nothing is lost.
    let count = serde_json::from_slice(&content).ok().filter(|count: &Count| count.trial == line.n);
    let (starts, healthy) = count.map_or((0, false), |count| (count.starts, count.healthy));
    Ok((!healthy).then_some(Trial { release, starts_allowed, starts, line }))
}

/// The module that a name stands for: its own, or that of one of the programs that are set.
pub fn module_of(store: &Store, name: &FileName) -> Result<Option<ModuleName>, Error> {
    let installed = store.installed()?;
    if let Some(module) = name.as_str().parse().ok().filter(|module| installed.contains_key(module)) {
        return Ok(Some(module));
    }
    match store.links()?.at(name) {
        Some(At::Version(release)) => Owners::new(store, &installed).of(name, release),
        _ => Ok(None),
    }
}

/// What a start of a module's program, or the end of one, meant.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case", tag = "trial")]
pub enum Outcome {
    /// No trial goes on.
    None,
    /// It goes on.
    Counted(Trial),
    /// It is over; the version before is set again.
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
pub fn started(store: &Store, module: &ModuleName) -> Result<Outcome, Error> {
    change(store, module, None, |changing, mut trial| {
        if trial.is_used_up() {
            return give_up(changing, module, trial);
        }
        trial.starts += 1;
        write_count(changing, module, &trial, false)?;
        Ok(Outcome::Counted(trial))
    })
}

/// Takes word that a run of a version ended badly. Sets the version before again where it was the trial's last start.
pub fn failed(store: &Store, module: &ModuleName, wanted: &Wanted) -> Result<Outcome, Error> {
    let release = find(store, module, wanted)?;
    change(store, module, Some(&release), |changing, trial| {
        if trial.is_used_up() { give_up(changing, module, trial) } else { Ok(Outcome::Counted(trial)) }
    })
}

/// Takes the report of a version that it is healthy; gives whether that ended a trial of it.
pub fn healthy(store: &Store, module: &ModuleName, wanted: &Wanted) -> Result<bool, Error> {
    let release = find(store, module, wanted)?;
    let ended = change(store, module, Some(&release), |changing, trial| {
        write_count(changing, module, &trial, true)?;
        Ok(Outcome::Counted(trial))
    })?;
    Ok(ended != Outcome::None)
}

/// Changes a trial that goes on, of this version alone where one is named. Without such a trial, it costs no lock and no write.
fn change(
    store: &Store,
    module: &ModuleName,
    only: Option<&Release>,
    change: impl FnOnce(&Changing<'_>, Trial) -> Result<Outcome, Error>,
) -> Result<Outcome, Error> {
    let going_on = |store: &Store| -> Result<Option<Trial>, Error> {
        let trial = going_on(store, &store.links()?, module)?;
        Ok(trial.filter(|trial| only.is_none_or(|only| *only == trial.release)))
    };
    if going_on(store)?.is_none() {
        return Ok(Outcome::None);
    }
    let changing = store.change()?;
    match going_on(&changing)? {
        Some(trial) => change(&changing, trial),
        None => Ok(Outcome::None),
    }
}

fn give_up(changing: &Changing<'_>, module: &ModuleName, trial: Trial) -> Result<Outcome, Error> {
    let back = trial.line.from.ok_or_else(|| Error::refused("the trial has nothing to go back to", ""))?;
    // What ran before the trial is what is safest now, whatever else could be said about it.
    let how = How { why: Why::TrialFailed, trial_starts: None, force: true };
    let switched = apply(changing, plan(changing, module, &back, how)?)?;
    Ok(Outcome::Failed { failed: trial.release, starts: trial.starts, switched })
}

fn write_count(changing: &Changing<'_>, module: &ModuleName, trial: &Trial, healthy: bool) -> Result<(), Error> {
    let count = Count { format: 1, trial: trial.line.n, starts: trial.starts, healthy };
    let mut text = serde_json::to_vec(&count).unwrap_or_default();
    text.push(b'\n');
    let dir = changing.modules().dir(TRIALS_DIR)?;
    Ok(durable::write(&dir, OsStr::new(&format!("{module}.json")), &text, 0o644)?)
}
