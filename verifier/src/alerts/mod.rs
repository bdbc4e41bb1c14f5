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

use crate::settings::AlertSettings;
use atlas_model::{
    Role,
    verify::{Findings, Observed, Verdict, key},
};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

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
    /// Since when, in seconds since 1970.
    pub since: u64,
    /// Somebody knows already, or planned it.
    pub is_quiet: bool,
}

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
}

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
}

/// One alert.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Alert {
    /// The format: 1.
    pub format: u32,
    /// Why it is sent.
    pub kind: Kind,
    /// See [`Observed::key`].
    pub key: String,
    /// How bad.
    pub verdict: Verdict,
    /// What is the matter.
    pub summary: String,
    /// What to do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
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
        let mut text = format!("{}\n\n{}\n", self.title(), self.summary);
        if let Some(hint) = &self.hint {
            text.push_str(&format!("\nWhat to do: {hint}\n"));
        }
        text
    }
}

/// What there is to be concerned about, in what this server knows: merged, so that what two servers saw is one concern.
pub fn concerns(findings: &Findings, open: &BTreeMap<String, Open>, settings: &AlertSettings) -> Vec<Concern> {
    let own = findings.observed.iter().map(|observed| (findings.role, observed));
    let heard =
        findings.heard.iter().filter(|heard| heard.silent.is_none()).filter_map(|heard| heard.findings.as_deref());
    let others = heard.flat_map(|said| said.observed.iter().map(|observed| (said.role, observed)));
    let mut all: BTreeMap<String, Vec<(Role, &Observed)>> = BTreeMap::new();
    for (by, observed) in own.chain(others) {
        all.entry(observed.key()).or_default().push((by, observed));
    }
    // Whom nobody reaches has no service that anybody reaches: that is one concern, not twenty.
    let unreachable = |observed: &Observed| {
        observed.service != "connectivity"
            && observed.about.is_some_and(|role| {
                all.get(&key(Some(role), "connectivity", "")).is_some_and(|seen| {
                    seen.iter().all(|(_, connectivity)| connectivity.profile.verdict == Verdict::Unacceptable)
                })
            })
    };
    let concern = |(key, seen): (&String, &Vec<(Role, &Observed)>)| {
        let (_, worst) = seen.iter().max_by_key(|(_, observed)| weight(observed))?;
        let is_bad = weight(worst) > if settings.slow { 0 } else { Verdict::Slow.weight() };
        let is_of_another = unreachable(worst) || findings.is_of_what_is_lacking(worst);
        if !is_bad || is_of_another && !open.contains_key(key) {
            return None;
        }
        let by: Vec<Role> = seen.iter().filter(|(_, observed)| weight(observed) > 0).map(|(by, _)| *by).collect();
        let seen_by: Vec<String> = by.iter().map(ToString::to_string).collect();
        let flapping = if worst.flapping { " (it keeps changing)" } else { "" };
        Some(Concern {
            key: key.clone(),
            verdict: if worst.flapping { worst.profile.verdict.or(Verdict::Slow) } else { worst.profile.verdict },
            summary: format!("{}{flapping}; seen by {}", worst.profile.summary, seen_by.join(", ")),
            by,
            hint: worst.profile.hint.clone(),
            since: worst.since,
            is_quiet: worst.acknowledged.is_some() || worst.maintenance_until.is_some(),
        })
    };
    all.iter().filter_map(concern).collect()
}

fn weight(observed: &Observed) -> u8 {
    let flapping = if observed.flapping { Verdict::Slow } else { Verdict::Ok };
    observed.profile.verdict.or(flapping).weight()
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
        });
        (entry.verdict, entry.last) = (concern.verdict, now);
        entry.summary.clone_from(&concern.summary);
        entry.escalated |= kind == Kind::Escalated;
        alerts.push(alert(kind, &concern.key, concern.verdict, &concern.summary, concern.hint.as_ref(), concern.since));
    }
    alerts
}

fn why_now(told: Option<&Open>, concern: &Concern, settings: &AlertSettings, now: u64) -> Option<Kind> {
    let Some(told) = told else { return Some(Kind::Problem) };
    let passed = |since: u64, minutes: u64| minutes > 0 && now.saturating_sub(since) >= minutes * 60;
    match () {
        () if concern.verdict.weight() > told.verdict.weight() => Some(Kind::Worse),
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
mod tests {
    use super::*;
    use atlas_model::{
        EnvVersion,
        verify::{Heard, Profile},
    };

    const SETTINGS: AlertSettings = AlertSettings { repeat_minutes: 60, escalate_minutes: 30, slow: true };

    fn concern(verdict: Verdict) -> Concern {
        Concern {
            key: "SEC1/web".into(),
            verdict,
            summary: "gone".into(),
            by: vec![Role::Pri],
            hint: None,
            since: 0,
            is_quiet: false,
        }
    }

    fn kinds(alerts: &[Alert]) -> Vec<Kind> {
        alerts.iter().map(|alert| alert.kind).collect()
    }

    #[test]
    fn a_problem_is_told_once_then_repeated_escalated_and_ended() {
        let mut open = BTreeMap::new();
        let bad = [concern(Verdict::Unacceptable)];
        let mut at = |concerns: &[Concern], minute: u64| {
            kinds(&step(&mut open, concerns, &SETTINGS, ("PRI", minute * 60), |_| true))
        };
        assert_eq!(at(&bad, 0), [Kind::Problem]);
        assert_eq!(at(&bad, 1), []);
        assert_eq!(at(&bad, 30), [Kind::Escalated]);
        assert_eq!(at(&bad, 31), []);
        assert_eq!(at(&bad, 90), [Kind::Still]);
        assert_eq!(at(&[], 91), [Kind::Recovered]);
        assert_eq!(at(&[], 92), []);
    }

    #[test]
    fn what_gets_worse_is_told_and_what_gets_better_is_not() {
        let mut open = BTreeMap::new();
        let mut at = |verdict| kinds(&step(&mut open, &[concern(verdict)], &SETTINGS, ("PRI", 0), |_| true));
        assert_eq!(at(Verdict::Slow), [Kind::Problem]);
        assert_eq!(at(Verdict::Unacceptable), [Kind::Worse]);
        assert_eq!(at(Verdict::Slow), []);
    }

    #[test]
    fn what_somebody_knows_about_is_told_when_it_is_over_alone() {
        let mut open = BTreeMap::new();
        let quiet = Concern { is_quiet: true, ..concern(Verdict::Unacceptable) };
        assert!(step(&mut open, std::slice::from_ref(&quiet), &SETTINGS, ("PRI", 0), |_| true).is_empty());
        assert!(step(&mut open, &[], &SETTINGS, ("PRI", 1), |_| true).is_empty(), "never told, never over");
        step(&mut open, &[concern(Verdict::Unacceptable)], &SETTINGS, ("PRI", 2), |_| true);
        assert!(step(&mut open, &[quiet], &SETTINGS, ("PRI", 100_000), |_| true).is_empty());
        assert_eq!(kinds(&step(&mut open, &[], &SETTINGS, ("PRI", 100_001), |_| true)), [Kind::Recovered]);
    }

    #[test]
    fn a_problem_is_over_when_whoever_saw_it_says_so() {
        let mut open = BTreeMap::new();
        let seen = Concern { by: vec![Role::Sec(1)], ..concern(Verdict::Unacceptable) };
        step(&mut open, &[seen], &SETTINGS, ("PRI", 0), |_| true);
        let mut later =
            |answers: bool| kinds(&step(&mut open, &[], &SETTINGS, ("PRI", 1), |who| answers || who == Role::Pri));
        assert_eq!(later(false), [], "silence is no recovery");
        assert_eq!(later(true), [Kind::Recovered]);
    }

    #[test]
    fn what_was_told_before_a_restart_is_not_told_again() {
        let mut open = BTreeMap::new();
        step(&mut open, &[concern(Verdict::Slow)], &SETTINGS, ("PRI", 0), |_| true);
        let text = serde_json::to_string(&open).unwrap();
        let mut open: BTreeMap<String, Open> = serde_json::from_str(&text).unwrap();
        assert!(step(&mut open, &[concern(Verdict::Slow)], &SETTINGS, ("PRI", 60), |_| true).is_empty());
    }

    fn observed(about: Role, service: &str, profile: Profile) -> Observed {
        Observed {
            about: Some(about),
            service: service.into(),
            instance: String::new(),
            profile,
            checked: 0,
            interval: 60,
            since: 0,
            flapping: false,
            acknowledged: None,
            maintenance_until: None,
        }
    }

    fn findings(role: Role, observed: Vec<Observed>) -> Findings {
        Findings {
            format: 1,
            role,
            env_version: EnvVersion::OLDEST,
            time: 0,
            started: 0,
            observed,
            heard: vec![],
            boots_with: None,
            broken_channels: vec![],
        }
    }

    #[test]
    fn of_a_server_that_is_not_installed_there_is_one_concern_whatever_it_serves() {
        let refused = |service: &str, instance: &str| Observed {
            instance: instance.into(),
            ..observed(Role::Sec(1), service, Profile::unacceptable("refused"))
        };
        let mut pri = findings(Role::Pri, vec![refused("web", "a:80"), refused("web", "b:80"), refused("dns", "")]);
        let lacking = Profile { lacks: vec!["web".into()], ..Profile::unacceptable("nginx is not installed here") };
        let said = findings(Role::Sec(1), vec![observed(Role::Sec(1), "packages", lacking.hint("apt install nginx"))]);
        pri.heard.push(Heard { role: Role::Sec(1), time: Some(0), silent: None, findings: Some(Box::new(said)) });
        let keys = |findings: &Findings| -> Vec<String> {
            concerns(findings, &BTreeMap::new(), &SETTINGS).into_iter().map(|concern| concern.key).collect()
        };
        assert_eq!(keys(&pri), ["SEC1/dns", "SEC1/packages"]);
        pri.heard[0].silent = Some(atlas_model::verify::Silent { since: 0, why: "timeout".into() });
        assert_eq!(keys(&pri).len(), 3, "what it said before it fell silent is not relied on");
    }

    #[test]
    fn what_two_saw_is_one_concern_that_names_both() {
        let mut pri = findings(Role::Pri, vec![]);
        for sec in [Role::Sec(1), Role::Sec(2)] {
            let said = findings(sec, vec![observed(Role::Pri, "web", Profile::unacceptable("gone"))]);
            pri.heard.push(Heard { role: sec, time: Some(0), silent: None, findings: Some(Box::new(said)) });
        }
        let found = concerns(&pri, &BTreeMap::new(), &SETTINGS);
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].summary, "gone; seen by SEC1, SEC2");
    }

    #[test]
    fn whom_nobody_reaches_is_one_concern() {
        let sec = Role::Sec(1);
        let all =
            ["connectivity", "web", "ssh"].map(|service| observed(sec, service, Profile::unacceptable("no answer")));
        let pri = findings(Role::Pri, all.to_vec());
        let found = concerns(&pri, &BTreeMap::new(), &SETTINGS);
        assert_eq!(found.iter().map(|concern| concern.key.as_str()).collect::<Vec<_>>(), ["SEC1/connectivity"]);
        let mut open = BTreeMap::new();
        step(
            &mut open,
            &[Concern { key: "SEC1/web".into(), ..concern(Verdict::Unacceptable) }],
            &SETTINGS,
            ("PRI", 0),
            |_| true,
        );
        assert_eq!(concerns(&pri, &open, &SETTINGS).len(), 2, "what was told is not taken back for that");
    }

    #[test]
    fn one_that_flaps_stays_a_concern_while_it_is_well() {
        let mut one = observed(Role::Sec(1), "web", Profile::ok("fine"));
        one.flapping = true;
        let found = concerns(&findings(Role::Pri, vec![one]), &BTreeMap::new(), &SETTINGS);
        assert_eq!((found[0].verdict, found[0].summary.contains("keeps changing")), (Verdict::Slow, true));
    }
}
