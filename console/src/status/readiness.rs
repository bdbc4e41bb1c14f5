//! The decision: from facts to `yes`, `no` or `unknown`, with the reasons in order of weight.

use super::{services, standby};
use atlas_model::{
    BootReport, EnvVersion, Partner, Role,
    cycle::{CycleReport, Outcome, PartnerReport, Problem, SecondaryReport},
    verify::Findings,
};
use serde::Serialize;

/// A cycle that began longer ago than this says nothing about now, in seconds: three intervals.
pub(super) const STALE: u64 = 900;
/// Clocks that differ by more than this are told, in seconds.
const CLOCK: i64 = 60;

/// What is known on this server.
#[derive(Clone, Debug, Serialize)]
pub struct Facts {
    /// Its Role.
    pub role: Role,
    /// Its partners.
    pub partners: Vec<Partner>,
    /// Its Environment.
    pub env_version: Option<EnvVersion>,
    /// What this boot found.
    pub boot: Option<BootReport>,
    /// The last cycle, on PRI.
    pub cycle: Option<CycleReport>,
    /// How long ago that began, in seconds.
    pub cycle_age: Option<u64>,
    /// The last SyncUp, on a secondary.
    pub synced: Option<SecondaryReport>,
    /// How long ago that was, in seconds.
    pub synced_age: Option<u64>,
    /// Why cycles are suspended, where they are.
    pub suspended: Option<String>,
    /// What the Verifier on this server, and through it its partners', found.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub findings: Option<Findings>,
    /// How long ago that was written, in seconds.
    pub findings_age: Option<u64>,
    /// Of the Unbound set's members, how many there should be and how many there are; nothing where it is no mirror.
    pub members: Option<(u32, u32)>,
}

/// The answer for one secondary.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Readiness {
    /// Which.
    pub role: Role,
    /// Whether PRI's disks would do in it.
    pub ready: Ready,
    /// Why not, the weightiest first.
    pub reasons: Vec<Reason>,
    /// What works and deserves a look before it gets worse.
    pub remarks: Vec<Reason>,
}

/// Whether one could fail over now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Ready {
    /// Everything that is looked at is well.
    Yes,
    /// Something is known to stand in the way.
    No,
    /// Nobody knows.
    Unknown,
}

/// One reason.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Reason {
    /// What is the matter, and who saw it.
    pub what: String,
    /// What to do.
    pub hint: String,
    /// What follows from it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub follows: Vec<String>,
}

pub(super) fn reason(what: impl Into<String>, hint: impl Into<String>) -> Reason {
    Reason { what: what.into(), hint: hint.into(), follows: vec![] }
}

/// Decides for every secondary; a secondary, for itself.
pub(super) fn decide(facts: &Facts) -> Vec<Readiness> {
    if facts.role != Role::Pri {
        return vec![standby::own(facts)];
    }
    facts.partners.iter().map(|partner| one(facts, partner.role)).collect()
}

fn one(facts: &Facts, role: Role) -> Readiness {
    let (mut against, mut unclear) = (Vec::new(), Vec::new());
    let is_recent = facts.cycle_age.is_some_and(|age| age <= STALE);
    let cycle = facts.cycle.iter().filter(|_| is_recent).flat_map(|cycle| &cycle.problems);
    let cycle: Vec<&Problem> = cycle.filter(|problem| problem.server == role).collect();
    let mut services = services::of(facts, role, &cycle);
    synced(facts, role, !cycle.is_empty(), (&mut against, &mut unclear));
    against.append(&mut services.against);
    unclear.append(&mut services.unclear);
    answer(role, against, unclear, services.remarks)
}

/// The answer, from what speaks against it and what is not known.
pub(super) fn answer(
    role: Role,
    mut against: Vec<Reason>,
    mut unclear: Vec<Reason>,
    remarks: Vec<Reason>,
) -> Readiness {
    let ready = match (against.is_empty(), unclear.is_empty()) {
        (true, true) => Ready::Yes,
        (false, _) => Ready::No,
        (true, false) => Ready::Unknown,
    };
    against.append(&mut unclear);
    Readiness { role, ready, reasons: against, remarks }
}

/// What the last cycle says of it.
fn synced(facts: &Facts, role: Role, has_problems: bool, (against, unclear): (&mut Vec<Reason>, &mut Vec<Reason>)) {
    let (Some(cycle), Some(age)) = (&facts.cycle, facts.cycle_age) else {
        unclear.push(reason(
            "no cycle has run since this server booted",
            "ssSyncCtrl start, or for one cycle: ssSync cycle",
        ));
        return;
    };
    if age > STALE {
        unclear.push(match &facts.suspended {
            None => reason(
                format!("the last cycle began {} min ago", age / 60),
                "ssSyncCtrl status; systemctl status ssSyncLoop",
            ),
            Some(why) => reason(
                format!("no cycle for {} min: suspended, {why}", age / 60),
                "ssSyncCtrl resume, when the change is complete",
            ),
        });
        return;
    }
    match cycle.partners.iter().find(|partner| partner.role == role) {
        Some(partner) => judge(partner, cycle, has_problems, (against, unclear)),
        None => unclear.push(reason("the last cycle did not know this secondary", "ssSync cycle")),
    }
}

/// What speaks against it, besides the problems that the cycle names, and what is not known.
fn judge(
    partner: &PartnerReport,
    cycle: &CycleReport,
    has_problems: bool,
    (against, unclear): (&mut Vec<Reason>, &mut Vec<Reason>),
) {
    let role = partner.role;
    let Some(secondary) = &partner.secondary else {
        if !has_problems {
            unclear.push(reason(format!("{role} sent no report"), "ssSync cycle"));
        }
        return;
    };
    match secondary.would_boot {
        Some(true) => {}
        Some(false) => against.insert(
            0,
            reason(
                format!("{role} says that it would not boot into its role"),
                format!("on {role}: atlas init --check"),
            ),
        ),
        None => unclear.push(reason(
            format!("{role} could not say whether it would boot into its role"),
            format!("on {role}: atlas init --check"),
        )),
    }
    if secondary.installed != Some(cycle.generation) {
        against.push(reason(
            format!(
                "{role} has generation {} installed, PRI is at {}",
                secondary.installed.unwrap_or(0),
                cycle.generation
            ),
            "ssSync cycle",
        ));
    }
    if partner.outcome != Outcome::Synced && against.is_empty() && !has_problems {
        against.push(reason(format!("{role} is not in step with PRI"), "ssSync compare"));
    }
    if let Some(ahead) = partner.clock_ahead.filter(|ahead| ahead.abs() > CLOCK) {
        against.push(reason(
            format!("the clocks of PRI and {role} differ by {} s", ahead.abs()),
            format!("see the time service on {role}"),
        ));
    }
}

/// What is wrong on this server itself.
pub(super) fn here(facts: &Facts) -> Vec<String> {
    let mut wrong = Vec::new();
    if let Some((wanted, there)) = facts.members.filter(|(wanted, there)| there < wanted) {
        wrong.push(format!("the Unbound set runs with {there} of {wanted} disks; replace the other: mdadm /dev/md/atlas-unbound --add DISK (where \
             it was in a set before: mdadm --zero-superblock DISK first)"));
    }
    if let Some(why) = &facts.suspended {
        wrong.push(format!("the Synchronizer is suspended: {why}"));
    }
    for problem in facts.cycle.iter().flat_map(|cycle| &cycle.problems).filter(|problem| problem.server == facts.role) {
        wrong.push(problem.what.clone());
    }
    wrong.extend(facts.boot.iter().flat_map(|boot| boot.warnings.iter().cloned()));
    wrong.extend(services::here(facts));
    wrong
}

#[cfg(test)]
pub(super) mod testing;
#[cfg(test)]
mod tests;
