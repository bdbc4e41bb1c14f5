//! What there is to tell of: what is wrong, by root, with what follows from it.

use super::Open;
use crate::settings::AlertSettings;
use atlas_model::{
    Role,
    verify::{
        Fault, Findings, Observed, Profile, Verdict,
        causes::{Causes, Sighting},
        names, summed,
    },
};
use std::collections::{BTreeMap, BTreeSet};

/// Something that is not as it should be, whoever saw it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Concern {
    /// See [`Observed::key`].
    pub key: String,
    /// How bad.
    pub verdict: Verdict,
    /// Its sentence, and who saw it.
    pub summary: String,
    /// Who saw it.
    pub by: Vec<Role>,
    /// What to do.
    pub hint: Option<String>,
    /// What follows from it.
    pub follows: Vec<String>,
    /// The names of its faults that do not serve, where a check tells several apart.
    pub faults: BTreeSet<String>,
    /// Since when, in seconds since 1970.
    pub since: u64,
    /// Somebody knows already, or planned it.
    pub is_quiet: bool,
}

/// What there is to be concerned about, in what this server knows: merged, so that what two servers saw is one concern, and what follows from
/// another is part of that one.
pub fn concerns(findings: &Findings, open: &BTreeMap<String, Open>, settings: &AlertSettings) -> Vec<Concern> {
    let own = findings.observed.iter().map(|observed| (findings.role, observed));
    let heard =
        findings.heard.iter().filter(|heard| heard.silent.is_none()).filter_map(|heard| heard.findings.as_deref());
    let others = heard.flat_map(|said| said.observed.iter().map(|observed| (said.role, observed)));
    let mut all: BTreeMap<String, Vec<(Role, &Observed)>> = BTreeMap::new();
    for (by, observed) in own.chain(others) {
        all.entry(observed.key()).or_default().push((by, observed));
    }
    let causes = findings.causes();
    let least = if settings.slow { 0 } else { Verdict::Slow.weight() };
    all.iter()
        .filter(|(_, seen)| seen.iter().any(|(_, observed)| weight(observed) > 0))
        .filter_map(|(key, seen)| concern(key, seen, &causes, open.contains_key(key)))
        .filter(|concern| concern.verdict.weight() > least)
        .collect()
}

/// What is the matter with one of the things that are verified; `None` where it follows from something else, unless that was told before.
fn concern(key: &str, seen: &[(Role, &Observed)], causes: &Causes<'_>, is_open: bool) -> Option<Concern> {
    let is_own = |cause: &Option<(&Sighting<'_>, bool)>| cause.is_none_or(|(_, sure)| !sure);
    let faults: Vec<_> = causes.of(key).collect();
    let standing: Vec<_> = faults.iter().filter(|(_, cause)| is_own(cause)).collect();
    if !faults.is_empty() && standing.is_empty() && !is_open {
        return None;
    }
    let (by_worst, worst) = seen.iter().max_by_key(|(_, observed)| weight(observed))?;
    let of_worst = || faults.iter().filter(|(one, _)| one.by == *by_worst);
    let mut told: Vec<Fault> =
        of_worst().filter(|(_, cause)| is_own(cause)).map(|(one, _)| one.fault.clone()).collect();
    let is_whole = told.is_empty() || told.len() == of_worst().count();
    let (mut summary, mut hint) = (worst.profile.summary.clone(), worst.profile.hint.clone());
    let mut verdict = worst.profile.verdict;
    if !is_whole {
        told = Profile::of_faults(told, "").faults;
        (summary, hint) = (summed(&told), told.first().and_then(|fault| fault.hint.clone()));
        verdict = told.first().map_or(verdict, |fault| fault.verdict);
    }
    let follows: Vec<_> = causes.below(key).filter(|(one, sure)| *sure && one.observed.key() != key).collect();
    verdict = follows.iter().fold(verdict, |worst, (one, _)| worst.or(one.fault.verdict));
    if worst.flapping {
        summary.push_str(" (it keeps changing)");
        verdict = verdict.or(Verdict::Slow);
    }
    let by: Vec<Role> = seen.iter().filter(|(_, observed)| weight(observed) > 0).map(|(by, _)| *by).collect();
    let seen_by: Vec<String> = by.iter().map(ToString::to_string).collect();
    summary.push_str(&format!("; seen by {}", seen_by.join(", ")));
    if let Some((cause, _)) = of_worst().find_map(|(_, cause)| cause.filter(|(_, sure)| !sure)) {
        summary.push_str(&format!("; it may follow from {}: {}", cause.observed.key(), cause.fault.what));
    }
    let mut below: Vec<String> =
        follows.iter().map(|(one, _)| format!("{}: {}", one.observed.key(), one.fault.what)).collect();
    below.dedup();
    let of = |observed: &Observed| -> Vec<String> {
        let is_bad = |fault: &Fault| fault.verdict == Verdict::Unacceptable;
        names(&observed.profile.faults).into_iter().filter(|(_, fault)| is_bad(fault)).map(|(name, _)| name).collect()
    };
    Some(Concern {
        faults: seen.iter().flat_map(|(_, observed)| of(observed)).collect(),
        key: key.to_owned(),
        verdict,
        summary,
        by,
        hint: hint.map(|hint| worst.placed(*by_worst, &hint)),
        follows: below,
        since: worst.since,
        is_quiet: worst.acknowledged.is_some() || worst.maintenance_until.is_some(),
    })
}

fn weight(observed: &Observed) -> u8 {
    let flapping = if observed.flapping { Verdict::Slow } else { Verdict::Ok };
    observed.profile.verdict.or(flapping).weight()
}
