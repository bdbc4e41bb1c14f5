//! When somebody is told: once per problem, again after a while, once more where nobody takes care, and when it is over.
//!
//! ```text
//!   what is known now ─► concerns ─┐
//!   what was told     ─► open     ─┴─► step ─► alerts ─► channels, each with a queue and a thread of its own
//! ```
//!
//! PRI tells of everything that it knows, its own findings and its partners'. A secondary tells only while PRI does not come to ask: then
//! nobody else would. A problem is over when each server that saw it says so: one that is silent, or that has just begun, does not say so.
//!
//! Invariants: [`step`] is pure, and what was told survives a restart, so that nothing is told twice; a channel that does not work holds
//! up no other.

pub mod channel;
mod concern;
mod word;

pub use concern::{Concern, concerns};
pub use word::word;

use crate::settings::AlertSettings;
use atlas_model::{Role, verify::Verdict};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// What was told and is not over.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Open {
    /// As it was told last.
    pub verdict: Verdict,
    /// Its sentence then.
    pub summary: String,
    /// When it was told first.
    pub first: u64,
    /// When it was told last.
    pub last: u64,
    /// Whether it was escalated.
    #[serde(default)]
    pub escalated: bool,
    /// Who saw it last.
    #[serde(default)]
    pub by: Vec<Role>,
    /// Which of several faults were told.
    #[serde(default)]
    pub faults: BTreeSet<String>,
}

/// So much of what follows is in an alert's text.
const FOLLOWS: usize = 20;

/// Why an alert is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// It is new.
    Problem,
    /// It got worse.
    Worse,
    /// It is still there.
    Still,
    /// Nobody has taken care of it.
    Escalated,
    /// It is over.
    Recovered,
    /// Somebody tries whether alerts arrive.
    Test,
    /// How it stands, said every few days also where all is well.
    Word,
}

/// One alert.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Alert {
    /// The format: 1.
    pub format: u32,
    /// Why it is sent.
    pub kind: Kind,
    /// See [`atlas_model::verify::Observed::key`].
    pub key: String,
    /// How bad.
    pub verdict: Verdict,
    /// What is the matter.
    pub summary: String,
    /// What to do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
    /// What follows from it, and is not told by itself.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub follows: Vec<String>,
    /// Which server tells.
    pub from: String,
    /// When, in seconds since 1970.
    pub time: u64,
    /// Since when it is so.
    pub since: u64,
}

impl Alert {
    /// A line.
    pub fn title(&self) -> String {
        let word = match self.kind {
            Kind::Word => return format!("ATLAS {}: {}", self.from, self.summary),
            Kind::Problem | Kind::Worse => self.verdict.to_string(),
            Kind::Still => format!("still {}", self.verdict),
            Kind::Escalated => format!("NOBODY TAKES CARE: {}", self.verdict),
            Kind::Recovered => "all right again".into(),
            Kind::Test => "test".into(),
        };
        format!("ATLAS {}: {} {word}", self.from, self.key)
    }

    /// All of it, for people.
    pub fn text(&self) -> String {
        let mut text = match self.kind {
            Kind::Word => format!("{}\n", self.title()),
            _ => format!("{}\n\n{}\n", self.title(), self.summary),
        };
        if let Some(hint) = &self.hint {
            text.push_str(&format!("\nWhat to do: {hint}\n"));
        }
        if !self.follows.is_empty() {
            text.push_str(if self.kind == Kind::Word { "\nOpen:\n" } else { "\nWith it go:\n" });
        }
        self.follows.iter().take(FOLLOWS).for_each(|line| text.push_str(&format!("  {line}\n")));
        if self.follows.len() > FOLLOWS {
            text.push_str(&format!("  and {} more: VerifierResults causes\n", self.follows.len() - FOLLOWS));
        }
        text
    }
}

/// Decides what is to be told now, and by whom (`from`), and notes in `open` that it is. `answers`: whether what a server sees is known now.
pub fn step(
    open: &mut BTreeMap<String, Open>,
    concerns: &[Concern],
    settings: &AlertSettings,
    (from, now): (&str, u64),
    answers: impl Fn(Role) -> bool,
) -> Vec<Alert> {
    let alert = |kind, key: &str, verdict, summary: &str, hint: Option<&String>, since| Alert {
        format: 1,
        kind,
        key: key.to_owned(),
        verdict,
        summary: summary.to_owned(),
        hint: hint.cloned(),
        follows: vec![],
        from: from.to_owned(),
        time: now,
        since,
    };
    let mut alerts = Vec::new();
    open.retain(|key, told| {
        let concern = concerns.iter().find(|concern| concern.key == *key);
        if let Some(concern) = concern {
            told.by.clone_from(&concern.by);
        }
        let is_over = concern.is_none() && told.by.iter().all(|by| answers(*by));
        if is_over {
            let summary = format!("it was: {}", told.summary);
            alerts.push(alert(Kind::Recovered, key, Verdict::Ok, &summary, None, now));
        }
        !is_over
    });
    for concern in concerns.iter().filter(|concern| !concern.is_quiet) {
        let Some(kind) = why_now(open.get(&concern.key), concern, settings, now) else { continue };
        let entry = open.entry(concern.key.clone()).or_insert(Open {
            verdict: concern.verdict,
            summary: String::new(),
            first: now,
            last: now,
            escalated: false,
            by: concern.by.clone(),
            faults: BTreeSet::new(),
        });
        entry.faults.extend(concern.faults.iter().cloned());
        (entry.verdict, entry.last) = (concern.verdict, now);
        entry.summary.clone_from(&concern.summary);
        entry.escalated |= kind == Kind::Escalated;
        let told = alert(kind, &concern.key, concern.verdict, &concern.summary, concern.hint.as_ref(), concern.since);
        alerts.push(Alert { follows: concern.follows.clone(), ..told });
    }
    alerts
}

fn why_now(told: Option<&Open>, concern: &Concern, settings: &AlertSettings, now: u64) -> Option<Kind> {
    let Some(told) = told else { return Some(Kind::Problem) };
    let passed = |since: u64, minutes: u64| minutes > 0 && now.saturating_sub(since) >= minutes * 60;
    match () {
        () if concern.verdict.weight() > told.verdict.weight() => Some(Kind::Worse),
        // Another one of what the same check looks at.
        () if !concern.faults.is_subset(&told.faults) => Some(Kind::Worse),
        () if concern.verdict == Verdict::Unacceptable
            && !told.escalated
            && passed(told.first, settings.escalate_minutes) =>
        {
            Some(Kind::Escalated)
        }
        () if passed(told.last, settings.repeat_minutes) => Some(Kind::Still),
        () => None,
    }
}

#[cfg(test)]
mod tests;
