//! What a SyncCycle did: `/run/atlas/cycle.json` on PRI, `/run/atlas/synced.json` on a secondary. The Synchronizer writes these; whoever
//! watches a cluster reads them.

use crate::{EnvVersion, Role};
use serde::{Deserialize, Serialize};

/// The directory of the reports, below a server's root; empty after a boot.
pub const REPORTS: &str = "run/atlas";
/// PRI's, of the last cycle.
pub const CYCLE: &str = "cycle.json";
/// A secondary's, of the last SyncUp.
pub const SYNCED: &str = "synced.json";
/// The largest report, in bytes.
pub const MAX_SIZE: usize = 16 << 20;

/// Something that is not as it should be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Problem {
    /// Which server has it.
    pub server: Role,
    /// What is wrong, and why.
    pub what: String,
    /// What to do.
    pub hint: String,
}

/// One step, and how long it took.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Step {
    /// `create`, `send`, …
    pub name: String,
    /// Milliseconds.
    pub ms: u64,
}

/// What a secondary did on a SyncUp.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SecondaryReport {
    /// The format of this report: 1.
    pub format: u32,
    /// Whose.
    pub role: Role,
    /// Its Environment.
    pub env_version: EnvVersion,
    /// When it was done, in seconds since 1970 by its own clock.
    pub time: u64,
    /// The generation of PRI's Snapshot that is installed.
    pub installed: Option<u64>,
    /// What the installation changed, and which services run with what.
    pub install: serde_json::Value,
    /// Whether something had been changed on the secondary itself since its last cycle: recorded in its history, then undone.
    pub changed_locally: bool,
    /// The commit in the secondary's history that holds what had been changed there.
    #[serde(default)]
    pub local_commit: Option<String>,
    /// What of it the installation undid: `/etc/app.conf (its content)`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub undone: Vec<String>,
    /// The versions that PRI's Snapshot was converted to here.
    pub converted: Vec<EnvVersion>,
    /// The steps, in order.
    pub steps: Vec<Step>,
    /// Whether this server would boot into its role, as 'atlas init --check' says; not there where it could not be asked.
    #[serde(default)]
    pub would_boot: Option<bool>,
    /// What somebody should look at.
    pub problems: Vec<Problem>,
}

/// What a Snapshot Send moved.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Moved {
    /// The generation that both sides hold now.
    pub generation: u64,
    /// Whether the receiver lacked anything.
    pub changed: bool,
    /// Files whose content travelled.
    pub files: u64,
    /// Bytes that travelled, descriptions included.
    pub bytes: u64,
}

/// How a cycle went with one partner.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
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
pub struct PartnerReport {
    /// Which.
    pub role: Role,
    /// Where.
    pub host: String,
    /// How it went.
    pub outcome: Outcome,
    /// Why not better.
    pub why: Option<String>,
    /// Its Environment.
    pub env_version: Option<EnvVersion>,
    /// How far its clock is ahead of PRI's, in seconds.
    pub clock_ahead: Option<i64>,
    /// What was sent to it.
    pub sent: Option<Moved>,
    /// What came back.
    pub received: Option<Moved>,
    /// What it did.
    pub secondary: Option<SecondaryReport>,
    /// What of its identity is equal to PRI's without being in the way: `host name`, `machine id`.
    #[serde(default)]
    pub in_common: Vec<String>,
    /// Where its configuration differs from PRI's.
    pub differences: Vec<String>,
    /// Why its Snapshot is not in PRI's history, where it is not.
    #[serde(default)]
    pub history_error: Option<String>,
    /// The steps, in order.
    pub steps: Vec<Step>,
}

/// A whole cycle.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CycleReport {
    /// The format of this report: 1.
    pub format: u32,
    /// The program and version that wrote it.
    pub program: String,
    /// When it began, in seconds since 1970.
    pub time: u64,
    /// PRI's Environment.
    pub env_version: EnvVersion,
    /// The generation that PRI holds.
    pub generation: u64,
    /// Whether this cycle found a change on PRI.
    pub changed: bool,
    /// Each partner.
    pub partners: Vec<PartnerReport>,
    /// The steps on PRI before the partners, in order.
    pub steps: Vec<Step>,
    /// What somebody should look at.
    pub problems: Vec<Problem>,
}

impl CycleReport {
    /// Whether every partner is as it should be.
    pub fn is_good(&self) -> bool {
        self.problems.is_empty() && self.partners.iter().all(|partner| partner.outcome == Outcome::Synced)
    }
}
