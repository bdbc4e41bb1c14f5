//! What a cycle did, and what somebody should look at: for people on the screen, for programs in `/run/atlas/cycle.json`.
//!
//! ```text
//! /run/atlas/cycle.json      on PRI: the last cycle          one of these two is there, never stale from another Role:
//! /run/atlas/synced.json     on SECn: the last SyncUp        the directory is empty after a boot
//! ```

use crate::protocol::Moved;
use atlas_cli::notice;
use atlas_host::{durable, tree::Dir};
use atlas_model::{EnvVersion, Role};
use serde::{Deserialize, Serialize};
use std::{ffi::OsStr, path::Path};

/// Where the reports lie.
pub(crate) const REPORTS: &str = "run/atlas";
/// PRI's.
pub(crate) const CYCLE: &str = "cycle.json";
/// A secondary's.
pub(crate) const SYNCED: &str = "synced.json";
/// The largest report, in bytes.
const MAX_SIZE: usize = 16 << 20;
/// The longest list in a report that travels.
pub(crate) const MAX_LISTED: usize = 500;

/// Something that is not as it should be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Problem {
    /// Which server has it.
    pub(crate) server: Role,
    /// What is wrong, and why.
    pub(crate) what: String,
    /// What to do.
    pub(crate) hint: String,
}

/// One step, and how long it took.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Step {
    /// `create`, `send`, …
    pub(crate) name: String,
    /// Milliseconds.
    pub(crate) ms: u64,
}

/// What a secondary did on a SyncUp.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct SecondaryReport {
    /// The format of this report: 1.
    pub(crate) format: u32,
    /// Whose.
    pub(crate) role: Role,
    /// Its Environment.
    pub(crate) env_version: EnvVersion,
    /// When it was done, in seconds since 1970 by its own clock.
    pub(crate) time: u64,
    /// The generation of PRI's Snapshot that is installed.
    pub(crate) installed: Option<u64>,
    /// What the installation changed, and which services run with what.
    pub(crate) install: serde_json::Value,
    /// What had been changed on the secondary itself since its last cycle: recorded in the history, then undone.
    pub(crate) changed_locally: bool,
    /// The versions that PRI's Snapshot was converted to here.
    pub(crate) converted: Vec<EnvVersion>,
    /// The steps, in order.
    pub(crate) steps: Vec<Step>,
    /// What somebody should look at.
    pub(crate) problems: Vec<Problem>,
}

/// How a cycle went with one partner.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Outcome {
    /// It holds what PRI holds, and its Snapshots are here.
    Synced,
    /// It holds what PRI holds, except for what the problems name.
    Differs,
    /// It is not the partner that it should be, or takes us for another. Nothing was written.
    Refused,
    /// It could not be reached.
    Unreachable,
    /// Something went wrong on the way; what it had before is whole.
    Failed,
}

/// What became of one partner.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct PartnerReport {
    /// Which.
    pub(crate) role: Role,
    /// Where.
    pub(crate) host: String,
    /// How it went.
    pub(crate) outcome: Outcome,
    /// Why not better.
    pub(crate) why: Option<String>,
    /// Its Environment.
    pub(crate) env_version: Option<EnvVersion>,
    /// How far its clock is ahead of PRI's, in seconds.
    pub(crate) clock_ahead: Option<i64>,
    /// What was sent to it.
    pub(crate) sent: Option<Moved>,
    /// What came back.
    pub(crate) received: Option<Moved>,
    /// What it did.
    pub(crate) secondary: Option<SecondaryReport>,
    /// Where its configuration differs from PRI's.
    pub(crate) differences: Vec<String>,
    /// The steps, in order.
    pub(crate) steps: Vec<Step>,
}

/// A whole cycle.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct CycleReport {
    /// The format of this report: 1.
    pub(crate) format: u32,
    /// The program and version that wrote it.
    pub(crate) program: String,
    /// When it began, in seconds since 1970.
    pub(crate) time: u64,
    /// PRI's Environment.
    pub(crate) env_version: EnvVersion,
    /// The generation that PRI holds.
    pub(crate) generation: u64,
    /// Whether this cycle found a change on PRI.
    pub(crate) changed: bool,
    /// Each partner.
    pub(crate) partners: Vec<PartnerReport>,
    /// The steps on PRI before the partners, in order.
    pub(crate) steps: Vec<Step>,
    /// What somebody should look at.
    pub(crate) problems: Vec<Problem>,
}

impl CycleReport {
    /// Whether every partner is as it should be.
    pub(crate) fn is_good(&self) -> bool {
        self.problems.is_empty() && self.partners.iter().all(|partner| partner.outcome == Outcome::Synced)
    }

    /// The last one, if there is one that can be read.
    pub(crate) fn last(root: &Dir) -> Option<CycleReport> {
        let content = root.dir(REPORTS).ok()?.read_if_there(CYCLE, MAX_SIZE).ok()??;
        serde_json::from_slice(&content).ok()
    }
}

/// Writes a report where whoever watches this server looks.
pub(crate) fn publish(root: &Dir, name: &str, report: &impl Serialize) -> anyhow::Result<()> {
    let content = serde_json::to_vec(report)?;
    let dir = root.make_dirs(REPORTS)?;
    Ok(durable::write(&dir, OsStr::new(name), &content, 0o644)?)
}

/// Tells what is wrong now and was not before: a problem that stays is told once.
pub(crate) fn notify(root: &Path, problems: &[Problem], before: &[Problem]) -> anyhow::Result<()> {
    for problem in problems.iter().filter(|problem| !before.contains(problem)) {
        let title = format!("{}: {}", problem.server, problem.what);
        let key = atlas_model::Digest::of(title.as_bytes()).to_string();
        notice::send(root, "ssSync", &key[..12], &title, &problem.hint)?;
    }
    Ok(())
}

/// At most [`MAX_LISTED`] of these, and a last line that says how many more there are.
pub(crate) fn shortened(lines: impl Iterator<Item = String>) -> Vec<String> {
    let mut lines: Vec<String> = lines.collect();
    if lines.len() > MAX_LISTED {
        let more = lines.len() - MAX_LISTED;
        lines.truncate(MAX_LISTED);
        lines.push(format!("… and {more} more"));
    }
    lines
}

/// Runs a step and notes how long it took.
pub(crate) fn timed<T>(steps: &mut Vec<Step>, name: &str, step: impl FnOnce() -> T) -> T {
    let started = std::time::Instant::now();
    let result = step();
    steps.push(Step { name: name.into(), ms: u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX) });
    result
}

/// Seconds since 1970.
pub(crate) fn now() -> u64 {
    std::time::SystemTime::now().duration_since(std::time::SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs())
}
