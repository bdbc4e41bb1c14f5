//! What is remembered of every check, and what people said about it. Pure: times come from the caller.
//!
//! ```text
//! SID_DATA/Verifier/PRI/notes.json              what people said: acknowledged, maintenance; written by VerifierResults alone
//! SID_DATA/Verifier/PRI/Env2/state.json         every check's last answer, open alerts; written by VerifierControl alone
//! SID_DATA/Verifier/PRI/Env2/log, log.1         what changed, a JSON object per line
//! ```

use atlas_model::{
    Role,
    verify::{Observed, Profile, Verdict},
};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, VecDeque};

/// How many changes of its verdict within [`FLAPPING_WINDOW`] make a service one that flaps.
const FLAPPING_CHANGES: usize = 5;
/// Seconds.
const FLAPPING_WINDOW: u64 = 1800;

/// What is remembered of one check.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// What it found; whether it flaps and what people said is added where it is told.
    #[serde(flatten)]
    found: Observed,
    /// When the verdict changed, the latest last.
    #[serde(default)]
    changes: VecDeque<u64>,
}

impl Record {
    /// The first answer.
    pub fn new(
        about: Option<Role>,
        service: &str,
        instance: &str,
        profile: Profile,
        interval: u64,
        now: u64,
    ) -> Record {
        let found = Observed {
            about,
            service: service.to_owned(),
            instance: instance.to_owned(),
            profile,
            checked: now,
            interval,
            since: now,
            flapping: false,
            acknowledged: None,
            maintenance_until: None,
        };
        Record { found, changes: VecDeque::new() }
    }

    /// The last answer.
    pub fn profile(&self) -> &Profile {
        &self.found.profile
    }

    /// The machine was booted since, or is another: what was found says nothing of now.
    pub fn outdate(&mut self) {
        self.found.checked = 0;
    }

    /// Takes in a new answer; says whether the verdict changed.
    pub fn take(&mut self, profile: Profile, interval: u64, now: u64) -> bool {
        let changed = profile.verdict != self.found.profile.verdict;
        if changed {
            self.found.since = now;
            self.changes.push_back(now);
            if self.changes.len() > FLAPPING_CHANGES {
                self.changes.pop_front();
            }
        }
        (self.found.profile, self.found.interval, self.found.checked) = (profile, interval, now);
        changed
    }

    fn is_flapping(&self, now: u64) -> bool {
        let recent = self.changes.iter().filter(|change| now.saturating_sub(**change) <= FLAPPING_WINDOW);
        recent.count() >= FLAPPING_CHANGES
    }

    /// As it is told to others.
    pub fn observed(&self, notes: &Notes, now: u64) -> Observed {
        let mut observed = Observed { flapping: self.is_flapping(now), ..self.found.clone() };
        notes.apply(&mut observed, now);
        observed
    }
}

/// Somebody knows about a problem and takes care.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Acknowledged {
    /// The problem began then: an acknowledgement ends with its problem.
    pub since: u64,
    /// What was said.
    pub why: String,
}

/// Changes are planned on a server.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Maintenance {
    /// When it begins to be expected.
    pub from: u64,
    /// When it ends, whatever has happened.
    pub until: u64,
    /// What is planned.
    pub why: String,
}

/// What people said.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Notes {
    /// The format: 1.
    pub format: u32,
    /// By the key of the problem.
    #[serde(default)]
    pub acknowledged: BTreeMap<String, Acknowledged>,
    /// By server, or by the key of one service.
    #[serde(default)]
    pub maintenance: BTreeMap<String, Maintenance>,
}

impl Notes {
    /// Tells what people said of this.
    pub fn apply(&self, observed: &mut Observed, now: u64) {
        let key = observed.key();
        let acknowledged = self.acknowledged.get(&key).filter(|said| said.since == observed.since);
        observed.acknowledged =
            acknowledged.filter(|_| observed.profile.verdict != Verdict::Ok).map(|said| said.why.clone());
        let server = observed.about.map(|role| role.to_string());
        let planned = server.and_then(|server| self.maintenance.get(&server)).or_else(|| self.maintenance.get(&key));
        observed.maintenance_until =
            planned.filter(|planned| (planned.from..planned.until).contains(&now)).map(|planned| planned.until);
    }

    /// Leaves out what has ended.
    pub fn forget_ended(&mut self, now: u64) {
        self.maintenance.retain(|_, planned| planned.until > now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record() -> Record {
        Record::new(Some(Role::Sec(1)), "web", "*:80", Profile::ok("fine"), 60, 100)
    }

    #[test]
    fn since_when_moves_with_the_verdict_alone() {
        let mut record = record();
        assert!(!record.take(Profile::ok("still fine"), 60, 160));
        assert_eq!((record.found.since, record.found.checked), (100, 160));
        assert!(record.take(Profile::unacceptable("gone"), 60, 220));
        assert!(!record.take(Profile::unacceptable("gone for another reason"), 60, 280));
        assert_eq!((record.found.since, record.found.checked), (220, 280));
    }

    #[test]
    fn what_keeps_changing_flaps_until_it_has_been_quiet() {
        let mut record = record();
        for n in 0..5_u64 {
            let profile = if n % 2 == 0 { Profile::unacceptable("gone") } else { Profile::ok("back") };
            assert!(!record.observed(&Notes::default(), 200 + n).flapping);
            record.take(profile, 60, 200 + n);
        }
        assert!(record.observed(&Notes::default(), 205).flapping);
        assert!(!record.observed(&Notes::default(), 205 + 1800).flapping);
    }

    #[test]
    fn an_acknowledgement_ends_with_its_problem_and_maintenance_at_its_time() {
        let mut record = record();
        record.take(Profile::unacceptable("gone"), 60, 220);
        let mut notes = Notes { format: 1, ..Notes::default() };
        notes.acknowledged.insert(record.found.key(), Acknowledged { since: 220, why: "Ann looks".into() });
        notes.maintenance.insert("SEC1".into(), Maintenance { from: 300, until: 400, why: "disks".into() });
        assert_eq!(record.observed(&notes, 230).acknowledged.as_deref(), Some("Ann looks"));
        assert_eq!(record.observed(&notes, 350).maintenance_until, Some(400));
        assert_eq!(record.observed(&notes, 400).maintenance_until, None);
        record.take(Profile::ok("back"), 60, 240);
        record.take(Profile::unacceptable("gone again"), 60, 250);
        assert_eq!(record.observed(&notes, 260).acknowledged, None);
        notes.forget_ended(400);
        assert!(notes.maintenance.is_empty());
    }
}
