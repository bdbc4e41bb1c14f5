//! The word that comes also where all is well: whoever stops getting it knows that nobody looks any more.

use super::{Alert, Concern, Kind};
use atlas_model::verify::{Findings, Verdict};
use std::collections::BTreeSet;

/// What its key is.
const KEY: &str = "all";
/// So many of the problems are named.
const NAMED: usize = 20;
const DAY: u64 = 86_400;

/// What is to be said now, where `days` have passed since `last`; the first time counts from when somebody began to look.
pub fn word(
    last: &mut Option<u64>,
    days: u64,
    findings: &Findings,
    concerns: &[Concern],
    (from, now): (&str, u64),
) -> Option<Alert> {
    let since = *last.get_or_insert(now);
    // A clock that was set back begins the time anew, so that no year passes in silence.
    if since > now {
        *last = Some(now);
    }
    if days == 0 || now.saturating_sub(since) < days.saturating_mul(DAY) {
        return None;
    }
    *last = Some(now);
    let heard = findings.heard.iter().filter(|heard| heard.silent.is_none());
    let heard: Vec<&Findings> = heard.filter_map(|heard| heard.findings.as_deref()).collect();
    let keys = |said: &Findings| said.observed.iter().map(atlas_model::verify::Observed::key).collect::<Vec<_>>();
    let checked: BTreeSet<String> =
        keys(findings).into_iter().chain(heard.iter().flat_map(|said| keys(said))).collect();
    let servers = match heard.len() + 1 {
        1 => "one server".to_owned(),
        servers => format!("{servers} servers"),
    };
    let open = concerns.len();
    let how = match open {
        0 => "all is well".to_owned(),
        1 => "one problem is open".to_owned(),
        open => format!("{open} problems are open"),
    };
    let silent: Vec<String> = findings
        .heard
        .iter()
        .filter(|heard| heard.silent.is_some())
        .map(|heard| format!("{} does not answer", heard.role))
        .collect();
    let wrong =
        concerns.iter().take(NAMED).map(|concern| format!("{} {}: {}", concern.key, concern.verdict, concern.summary));
    Some(Alert {
        format: 1,
        kind: Kind::Word,
        key: KEY.into(),
        verdict: concerns.iter().fold(Verdict::Ok, |worst, concern| worst.or(concern.verdict)),
        summary: format!("{how}: {} checks on {servers}", checked.len()),
        hint: Some(format!(
            "atlas status says whether you can fail over now. This comes every {days} days, also where all is well: where it does not, nobody looks any more"
        )),
        follows: silent.into_iter().chain(wrong).collect(),
        from: from.to_owned(),
        time: now,
        since,
    })
}
