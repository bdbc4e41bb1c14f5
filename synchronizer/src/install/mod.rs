//! Snapshot Install: a secondary takes over the configuration of PRI [202-204].
//!
//! ```text
//!   bring      PRI's SyncFiles with this server's numbers; accounts merged, not copied            source.rs
//!   compare    only what differs; what PRI removed goes; what belongs to this machine stays       sid::install
//!   guard      what looks like a source that was not mounted is refused                           guard.rs
//!   rehearse   the same installation in a private overlay; each service's check sees it,          rehearse.rs
//!              with this server's addresses and, where it complains, with PRI's                   as_pri.rs
//!   hold       what a check complains of, with the converter's rule that made it                  made_by.rs
//!   keep       what will be replaced                                                              sid::keep
//!   stage      beside the targets, flushed; a full disk fails here and nothing is changed         sid::install
//!   publish    one exchange of names per object; taken back where one fails
//!   tell       services whose files changed and that run are reloaded or restarted, unless        services.rs
//!              they work only where PRI's addresses are                                           as_pri.rs
//!   put back   the files of a service that does not come up with them
//! ```
//!
//! Invariants:
//! - The files of a service whose check complains of PRI's files (and not of those that are here) are not published. They are *held*: left out,
//!   and reported at every run, until PRI changes them or the check passes: it is asked again each time. A service that did not come up with
//!   them is tried again after ten minutes, and after twice as long each time it does not, up to six hours.
//! - From before the first change until the last service was told, a record on the Bound disk says what is left to do; the next run does it.

mod as_pri;
mod command;
mod guard;
mod made_by;
mod publish;
mod record;
mod rehearse;
mod services;
mod source;

pub use as_pri::StartApart;
pub use record::{Held, Installed, ServiceState};
pub use rehearse::Rehearse;

pub(crate) use as_pri::run as start_apart;
pub use command::Options;
pub(crate) use command::run;
pub(crate) use rehearse::run as run_rehearsal;

use anyhow::Context;
use atlas_host::tree::Dir;
use atlas_model::{EnvVersion, Role, TreePath};
use atlas_sid::{
    SidData,
    install::{Change, Plan, Trust},
};
use record::{Pending, Records, now};
use rehearse::{Rehearsal, Said};
use services::Service;
use source::{Brought, Source};
use std::collections::{BTreeMap, BTreeSet};

/// After so many seconds every byte is compared again: a file can be changed and have the size and time that it had.
const EVERY_BYTE_AFTER: u64 = 24 * 60 * 60;
/// As many changed or left paths are named in a report.
const NAMED: usize = 1000;

/// What an installation did and found.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct InstallReport {
    /// The generation of PRI's Snapshot that is installed now.
    pub generation: u64,
    /// The EnvVersion that it is of.
    pub env_version: EnvVersion,
    /// Whether an installation that had been cut off was completed.
    pub completed: bool,
    /// Whether the services' checks saw the new files before they were published.
    pub rehearsal: Rehearsed,
    /// How many paths were changed.
    pub change_count: usize,
    /// One line for each, at most the first 1000: `replaced /etc/hosts`.
    pub changes: Vec<String>,
    /// What the Snapshot has, and this server keeps as it is, with the reason; at most the first 1000.
    pub left: Vec<Left>,
    /// What PRI listed before and does not list now. It stays as it is.
    pub no_longer_listed: Vec<TreePath>,
    /// The services that read what is synchronised.
    pub services: Vec<ServiceReport>,
    /// What somebody may want to know.
    pub warnings: Vec<String>,
    /// What needs somebody.
    pub problems: Vec<String>,
}

/// Whether there was a rehearsal.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Rehearsed {
    /// Nothing changed that any service here checks.
    NotNeeded,
    /// Every check saw the new files.
    Done,
    /// There could be none. The checks ran when the files were published, and what they complained of was put back.
    NotPossible(String),
}

/// A path that is left as it is.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Left {
    /// Which.
    pub path: TreePath,
    /// Why.
    pub why: String,
}

/// One service.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct ServiceReport {
    /// Its name in the table.
    pub name: String,
    /// What became of it.
    pub outcome: Outcome,
    /// The generation whose files it read; none where that is not known, or it does not run.
    pub runs_with: Option<u64>,
}

/// What became of a service.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// None of its files changed.
    Unchanged,
    /// It is not installed on this server; its files are there, unchecked.
    NotInstalledHere,
    /// It does not run here now; its files are there.
    NotRunning,
    /// Nobody has to be told: it reads its files by itself.
    NobodyToTell,
    /// It read its files again.
    Reloaded,
    /// It was started anew.
    Restarted,
    /// Its files are there for when this server is PRI; with its addresses they work, and without them they cannot.
    OnlyAsPri,
    /// Its check complained of PRI's files; it has those of before.
    Held(String),
    /// It did not come up with PRI's files; those of before were put back.
    PutBack(String),
}

/// How to install.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct How {
    /// What looks like a source that was not mounted is removed nevertheless.
    pub confirm_removal: bool,
    /// Every byte is compared, whatever sizes and times say.
    pub every_byte: bool,
    /// What is held is tried again.
    pub retry: bool,
    /// This server's Snapshot was taken a moment ago, and says what is here.
    pub just_taken: bool,
}

/// Installs PRI's Snapshot of `env_version` on this secondary, below `root`.
///
/// # Errors
/// Where nothing could be installed; what was installed before is then as it was, or the next run completes it.
pub fn install(
    root: &Dir,
    sid: &SidData,
    own: Role,
    env_version: EnvVersion,
    generation: u64,
) -> anyhow::Result<InstallReport> {
    install_as(root, sid, own, env_version, generation, How::default())
}

/// The same, as an operator may ask for it.
///
/// # Errors
/// As [`install`].
pub fn install_as(
    root: &Dir,
    sid: &SidData,
    own: Role,
    env_version: EnvVersion,
    generation: u64,
    how: How,
) -> anyhow::Result<InstallReport> {
    let source = Source::find(sid, own, env_version)?;
    let records = Records::open(root)?;
    let before = records.installed()?;
    let pending = records.pending()?;
    let (services, problems) = services::read(root)?;
    let last = before.as_ref().map_or(0, |before| before.every_byte_at);
    let is_due = !(last..last.saturating_add(EVERY_BYTE_AFTER)).contains(&now());
    let mut run = Run {
        root,
        source: &source,
        own,
        env_version,
        generation,
        how,
        trust: if how.every_byte || is_due { Trust::Bytes } else { Trust::Stat },
        records: &records,
        before,
        pending: pending.clone().unwrap_or_default(),
        services: &services,
        held: BTreeMap::new(),
        seen: if how.just_taken { own_snapshot(sid, own, env_version)? } else { None },
        outcomes: BTreeMap::new(),
        as_pri: BTreeSet::new(),
        report: InstallReport {
            generation,
            env_version,
            completed: pending.is_some(),
            rehearsal: Rehearsed::NotNeeded,
            change_count: 0,
            changes: vec![],
            left: vec![],
            no_longer_listed: vec![],
            services: vec![],
            warnings: vec![],
            problems,
        },
    };
    run.clean(pending.as_ref())?;
    if run.choose()? {
        run.publish()?;
    }
    run.finish()
}

/// The Snapshot of what is here.
fn own_snapshot(sid: &SidData, own: Role, env_version: EnvVersion) -> anyhow::Result<Option<Dir>> {
    let dir = sid.role_dir(own)?.map(|dir| dir.dir(env_version.dir_name())).transpose()?;
    Ok(dir)
}

/// One installation.
struct Run<'a> {
    root: &'a Dir,
    source: &'a Source,
    own: Role,
    env_version: EnvVersion,
    generation: u64,
    how: How,
    trust: Trust,
    records: &'a Records,
    before: Option<Installed>,
    pending: Pending,
    services: &'a [Service],
    /// Services that keep the files that they have.
    held: BTreeMap<String, Held>,
    /// This server's own Snapshot, where it was taken a moment ago.
    seen: Option<Dir>,
    outcomes: BTreeMap<String, Outcome>,
    /// Services whose check passed where PRI's addresses are, and not here.
    as_pri: BTreeSet<String>,
    report: InstallReport,
}

impl Run<'_> {
    /// Removes what an installation that was cut off left under temporary names.
    fn clean(&self, pending: Option<&Pending>) -> anyhow::Result<()> {
        for touched in pending.iter().flat_map(|pending| &pending.touched) {
            let dir = self.root.dir(touched.as_ref().map_or(".".as_ref(), |path| path.relative()));
            match dir {
                Ok(dir) => drop(atlas_host::durable::remove_leftovers(&dir)?),
                Err(error) if error.is_not_found() => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    fn find(&self, name: &str) -> Option<&Service> {
        self.services.iter().find(|service| service.name == name)
    }

    /// The paths of the services that keep what they have.
    fn held_paths(&self) -> Vec<TreePath> {
        self.held.keys().filter_map(|name| self.find(name)).flat_map(|service| service.paths().to_vec()).collect()
    }

    /// Finds out whether there is anything to do, and which services can work with what PRI brings; the others are held.
    fn choose(&mut self) -> anyhow::Result<bool> {
        let brought = self.source.bring(self.root, self.seen.as_ref())?;
        self.still_held(&brought)?;
        // Each round holds at least one service more.
        for _ in 0..=self.services.len() {
            let held = self.held_paths();
            let plan = brought.plan(self.source, self.root, &held, self.trust)?;
            if !self.how.confirm_removal {
                guard::check(self.root, &self.source.listed, &brought.entries, plan.changes())?;
            }
            if plan.changes().is_empty() && self.pending.services.is_empty() {
                self.note(&brought, &plan);
                return Ok(false);
            }
            let touched = self.touched(&plan);
            let to_check: Vec<&Service> = touched.into_iter().filter(|service| service.has_check()).collect();
            if to_check.is_empty() {
                return Ok(true);
            }
            let said = match self.rehearse(&to_check, &held) {
                Ok(said) => said,
                Err(error) => {
                    self.report.rehearsal = Rehearsed::NotPossible(format!("{error:#}"));
                    self.report.warnings.push(format!("the installation could not be rehearsed: {error:#}"));
                    return Ok(true);
                }
            };
            self.report.rehearsal = Rehearsed::Done;
            self.as_pri = said.as_pri;
            for (name, why) in &said.otherwise {
                let problem = format!(
                    "{name} did not work with its own files, and does not work with PRI's, which it has now: {why}"
                );
                // Each round says it once more.
                if !self.report.problems.contains(&problem) {
                    self.report.problems.push(problem);
                }
            }
            if said.complaints.is_empty() {
                return Ok(true);
            }
            for (name, why) in said.complaints {
                let why = made_by::with_rules(self.root.shown(), self.source, self.env_version, why);
                self.hold(&name, why.clone(), false, &brought)?;
                self.outcomes.insert(name, Outcome::Held(why));
            }
        }
        Ok(true)
    }

    /// What is to be told of what PRI brings.
    fn note(&mut self, brought: &Brought, plan: &Plan<'_>) {
        self.report.warnings.extend(brought.warnings.iter().cloned());
        self.report.problems.extend(brought.problems.iter().cloned());
        let left = plan.left().iter().take(NAMED);
        self.report.left = left.map(|(path, why)| Left { path: path.clone(), why: (*why).to_owned() }).collect();
    }

    /// What was held before stays so while PRI's files for it are the same and it is not its time to be tried again.
    fn still_held(&mut self, brought: &Brought) -> anyhow::Result<()> {
        let states = self.before.iter().flat_map(|before| &before.services);
        for (name, held) in states.filter_map(|(name, state)| Some((name, state.held.as_ref()?))) {
            let Some(service) = self.find(name) else { continue };
            let is_due = self.how.retry || held.is_due(now());
            if !is_due && service.files(&brought.entries)? == held.files {
                self.outcomes.insert(name.clone(), Outcome::Held(held.why.clone()));
                self.held.insert(name.clone(), held.clone());
            }
        }
        Ok(())
    }

    /// Leaves a service the files that it has; `fell`: it did not come up with PRI's.
    fn hold(&mut self, name: &str, why: String, fell: bool, brought: &Brought) -> anyhow::Result<()> {
        let service = self.find(name).context("the rehearsal named a service that is not in the table")?;
        let files = service.files(&brought.entries)?;
        let before = self.before.as_ref().and_then(|before| before.services.get(name)?.held.as_ref());
        let falls = before.filter(|before| before.files == files).map_or(0, |before| before.falls);
        let (fell, falls) = if fell { (Some(now()), falls + 1) } else { (None, falls) };
        self.held.insert(name.to_owned(), Held { files, generation: self.generation, why, fell, falls });
        Ok(())
    }

    /// The services here that read something that a plan changes.
    fn touched(&self, plan: &Plan<'_>) -> Vec<&Service> {
        let is_touched = |service: &&Service| plan.changes().iter().any(|change| service.reads(change.path()));
        let root = self.root.shown();
        self.services.iter().filter(is_touched).filter(|service| service.is_here(root)).collect()
    }

    /// What the checks complain of with PRI's files, and not with those that are here.
    fn rehearse(&self, services: &[&Service], held: &[TreePath]) -> anyhow::Result<Said> {
        let with = |services: &[&Service], with_pris: bool| {
            let (root, source) = (self.root.shown(), self.source);
            Rehearsal { root, source, env_version: self.env_version, held, services, trust: self.trust }.run(with_pris)
        };
        let mut said = with(services, true)?;
        let complaining: Vec<&Service> =
            services.iter().filter(|service| said.complaints.contains_key(&service.name)).copied().collect();
        if !complaining.is_empty() {
            let already = with(&complaining, false)?.complaints;
            // Times, process numbers and lines differ from one complaint to the next.
            let words = |why: &str| why.replace(|c: char| c.is_ascii_digit(), "");
            let (before, now) = said.complaints.into_iter().partition(|(name, _)| already.contains_key(name));
            (said.otherwise, said.complaints) = (before, now);
            said.otherwise.retain(|name, why| words(&already[name]) != words(why));
        }
        Ok(said)
    }

    /// Writes down what is installed now, and what each service works with.
    fn finish(mut self) -> anyhow::Result<InstallReport> {
        let listed = &self.source.listed;
        let mut states = BTreeMap::new();
        for service in
            self.services.iter().filter(|service| service.paths().iter().any(|path| reads_some(listed, path)))
        {
            let name = &service.name;
            let ran =
                self.before.as_ref().and_then(|before| before.services.get(name)).and_then(|state| state.runs_with);
            let here = service.is_here(self.root.shown());
            let outcome =
                self.outcomes.remove(name).unwrap_or(if here { Outcome::Unchanged } else { Outcome::NotInstalledHere });
            let runs_with = match &outcome {
                Outcome::Reloaded | Outcome::Restarted | Outcome::NobodyToTell => Some(self.generation),
                Outcome::Unchanged => ran.map(|_| self.generation),
                Outcome::Held(_) | Outcome::PutBack(_) => ran,
                Outcome::NotRunning | Outcome::NotInstalledHere | Outcome::OnlyAsPri => None,
            };
            if let Outcome::Held(why) | Outcome::PutBack(why) = &outcome {
                self.report
                    .problems
                    .push(format!("{name} does not work with PRI's files and has those of before: {why}"));
            }
            states.insert(name.clone(), ServiceState { runs_with, held: self.held.remove(name) });
            self.report.services.push(ServiceReport { name: name.clone(), outcome, runs_with });
        }
        let before = self.before.as_ref();
        self.report.no_longer_listed = record::no_longer_listed(before.map_or(&[], |before| &before.listed), listed);
        let every_byte_at = match self.trust {
            Trust::Bytes => now(),
            Trust::Stat => before.map_or(0, |before| before.every_byte_at),
        };
        let mut installed = Installed {
            format: 1,
            generation: self.generation,
            env_version: self.env_version,
            at: before.map_or(0, |before| before.at),
            every_byte_at,
            listed: listed.paths().to_vec(),
            services: states,
        };
        if self.report.change_count > 0 || self.report.completed || before != Some(&installed) {
            installed.at = now();
            self.records.end(&installed)?;
        }
        Ok(self.report)
    }
}

/// Whether something that a service reads is listed.
fn reads_some(listed: &atlas_model::PathList, path: &TreePath) -> bool {
    listed.covers(path) || listed.paths().iter().any(|listed| listed.is_within(path))
}

/// The directories in which changes are made.
fn parents(changes: &[Change]) -> BTreeSet<Option<TreePath>> {
    changes.iter().map(|change| change.path().parent()).collect()
}
