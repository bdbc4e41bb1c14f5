//! What this server's Verifier knows at the moment, shared by the threads that find it out and those that tell it.

use crate::{
    alerts::Open,
    check::Check,
    exchange::{Answers, Secret},
    orphaned::{PRI_ASKS, Telling},
    results::{Notes, Record},
    store::{Event, State},
};
use atlas_model::{
    EnvVersion, Partner, Role,
    verify::{ColdBoot, Fault, Findings, Heard, Profile, SUMMED, key, listed_by, names},
};
use std::{
    collections::BTreeMap,
    net::IpAddr,
    path::PathBuf,
    sync::{Condvar, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant, SystemTime},
};

/// Seconds since 1970.
pub fn now() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

/// Which of several faults began or ended.
fn differences(before: &[Fault], after: &[Fault], key: &str, time: u64) -> Vec<Event> {
    let (before, after) = (names(before), names(after));
    let event = |fault: &Fault, over| Event::Fault { time, key: key.to_owned(), what: fault.what.clone(), over };
    let ended = before.iter().filter(|(name, _)| !after.contains_key(*name)).map(|(_, fault)| event(fault, true));
    let begun = after.iter().filter(|(name, _)| !before.contains_key(*name)).map(|(_, fault)| event(fault, false));
    ended.chain(begun).collect()
}

/// The state that all threads share.
#[derive(Debug)]
pub struct Board {
    inner: Mutex<Inner>,
    changed: Condvar,
}

/// What is on the board.
#[derive(Debug)]
pub struct Inner {
    role: Role,
    env_version: EnvVersion,
    started: u64,
    records: BTreeMap<String, Record>,
    /// Alerts that are not over.
    pub open: BTreeMap<String, Open>,
    /// When it was said last how it stands.
    pub word: Option<u64>,
    /// What the partners' Verifiers say.
    pub heard: BTreeMap<Role, Heard>,
    /// What people said.
    pub notes: Notes,
    /// What this server would boot with.
    pub boots_with: Option<ColdBoot>,
    /// Channels that do not work.
    pub broken_channels: Vec<String>,
    /// When PRI, or anybody else who knows the secret, asked last; at the start it is given its time.
    pub asked: Instant,
    /// PRI's partners, as PRI said last.
    pub siblings: Vec<Partner>,
    /// When another secondary said last that somebody tells.
    pub elsewhere: Option<Instant>,
    /// Whether this server tells.
    pub tells: bool,
    /// What is to be written to the log.
    events: Vec<Event>,
    /// Whether a verdict changed since [`Board::wait`] returned.
    is_news: bool,
    /// The boot that all of this is of.
    boot: String,
}

impl Board {
    /// A board with what was known before the restart.
    pub fn new(role: Role, env_version: EnvVersion, state: State) -> Board {
        let inner = Inner {
            role,
            env_version,
            started: now(),
            records: state.records,
            open: state.open,
            word: state.word,
            heard: BTreeMap::new(),
            notes: Notes::default(),
            boots_with: None,
            broken_channels: vec![],
            asked: Instant::now(),
            siblings: state.siblings,
            elsewhere: None,
            tells: false,
            events: vec![],
            is_news: true,
            boot: state.boot,
        };
        Board { inner: Mutex::new(inner), changed: Condvar::new() }
    }

    /// The board, for one who reads or writes it; a panic elsewhere is no reason to be silent.
    pub fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes in an answer.
    pub fn take(&self, about: Option<Role>, service: &str, instance: &str, interval: u64, mut profile: Profile) {
        let mut inner = self.lock();
        let (key, time) = (key(about, service, instance), now());
        if profile.faults.len() > SUMMED {
            profile.summary.push_str(&format!(" ({})", listed_by(&key)));
        }
        let (verdict, summary) = (profile.verdict, profile.summary.clone());
        let (mut differing, before) = (vec![], inner.events.len());
        let changed = match inner.records.get_mut(&key) {
            Some(record) => {
                differing = differences(&record.profile().faults, &profile.faults, &key, time);
                record.take(profile, interval, time)
            }
            None => {
                inner.records.insert(key.clone(), Record::new(about, service, instance, profile, interval, time));
                true
            }
        };
        if changed {
            inner.events.push(Event::Verdict { time, key, verdict, summary });
        } else {
            inner.events.append(&mut differing);
        }
        if changed || inner.events.len() > before {
            inner.is_news = true;
            self.changed.notify_all();
        }
    }

    /// The verdict that a check had last.
    pub fn last(&self, check: &Check) -> Option<Profile> {
        self.lock()
            .records
            .get(&key(check.about, &check.service, &check.instance))
            .map(|record| record.profile().clone())
    }

    /// Says that there is something new to tell, besides verdicts.
    pub fn news(&self) {
        self.lock().is_news = true;
        self.changed.notify_all();
    }

    /// Waits until there is news, at most this long; says whether there is.
    pub fn wait(&self, longest: Duration) -> bool {
        let guard = self.lock();
        let waited = self.changed.wait_timeout_while(guard, longest, |inner| !inner.is_news);
        let (mut inner, _) = waited.unwrap_or_else(PoisonError::into_inner);
        std::mem::take(&mut inner.is_news)
    }
}

impl Inner {
    /// Forgets what is not checked any more.
    pub fn keep(&mut self, is_checked: impl Fn(&str) -> bool) {
        let before = self.records.len();
        self.records.retain(|key, _| is_checked(key));
        self.is_news |= self.records.len() != before;
    }

    /// Since when this Verifier runs, in seconds since 1970.
    pub fn started(&self) -> u64 {
        self.started
    }

    /// Everything that is known now. What the partners say is left out for a partner: it asks them itself.
    pub fn findings(&self, with_heard: bool) -> Findings {
        let time = now();
        Findings {
            format: 1,
            role: self.role,
            env_version: self.env_version,
            time,
            started: self.started,
            observed: self.records.values().map(|record| record.observed(&self.notes, time)).collect(),
            heard: if with_heard { self.heard.values().cloned().collect() } else { vec![] },
            boots_with: self.boots_with.clone(),
            partners: if self.role == Role::Pri { self.siblings.clone() } else { vec![] },
            broken_channels: self.broken_channels.clone(),
        }
    }

    /// What is to be kept over a restart.
    pub fn state(&self) -> State {
        State {
            format: 1,
            records: self.records.clone(),
            open: self.open.clone(),
            word: self.word,
            siblings: self.siblings.clone(),
            boot: self.boot.clone(),
        }
    }

    /// What is to be logged, once.
    pub fn take_events(&mut self) -> Vec<Event> {
        std::mem::take(&mut self.events)
    }
}

/// The board, as it is shown to partners and to Prometheus.
#[derive(Debug)]
pub struct Shown {
    /// The board.
    pub board: std::sync::Arc<Board>,
    /// Where the secret lies.
    pub root: PathBuf,
    /// Who may read the metrics.
    pub metrics_from: Vec<IpAddr>,
}

impl Answers for Shown {
    fn secret(&self) -> Option<Secret> {
        Secret::read(&self.root).ok().flatten()
    }

    fn findings(&self) -> Vec<u8> {
        let mut inner = self.board.lock();
        inner.asked = Instant::now();
        serde_json::to_vec(&inner.findings(false)).unwrap_or_default()
    }

    fn telling(&self) -> Vec<u8> {
        let inner = self.board.lock();
        let pri_asks = inner.asked.elapsed() <= PRI_ASKS;
        let tells = inner.tells && inner.broken_channels.is_empty();
        serde_json::to_vec(&Telling { format: 1, role: inner.role, pri_asks, tells }).unwrap_or_default()
    }

    fn metrics(&self) -> String {
        crate::metrics::text(&self.board.lock().findings(true))
    }

    fn may_read_metrics(&self, from: IpAddr) -> bool {
        from.to_canonical().is_loopback() || self.metrics_from.contains(&from.to_canonical())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use atlas_model::verify::Verdict;

    #[test]
    fn each_fault_that_begins_or_ends_is_in_the_history() {
        let board = Board::new(Role::Pri, EnvVersion::OLDEST, State::default());
        let take = |what: &[&str]| {
            let faults = what.iter().map(|what| Fault::new(Verdict::Slow, *what, "look")).collect();
            board.take(Some(Role::Pri), "system", "", 60, Profile::of_faults(faults, "fine"));
            let told = |event: Event| match event {
                Event::Verdict { verdict, .. } => verdict.to_string(),
                Event::Fault { what, over, .. } => format!("{} {what}", if over { "over:" } else { "begun:" }),
                other => panic!("{other:?}"),
            };
            board.lock().take_events().into_iter().map(told).collect::<Vec<_>>()
        };
        assert_eq!(take(&["load 7"]), ["slow"]);
        assert_eq!(take(&["load 8"]), [""; 0], "a number is no news");
        assert_eq!(take(&["load 8", "a.service failed"]), ["begun: a.service failed"]);
        assert_eq!(take(&["a.service failed"]), ["over: load 8"]);
        assert_eq!(take(&[]), ["ok"]);
    }

    #[test]
    fn a_change_is_news_once_and_is_logged_once() {
        let board = Board::new(Role::Pri, EnvVersion::OLDEST, State::default());
        assert!(board.wait(Duration::ZERO) && !board.wait(Duration::ZERO));
        board.take(Some(Role::Sec(1)), "web", "", 60, Profile::unacceptable("gone"));
        assert!(board.wait(Duration::ZERO));
        board.take(Some(Role::Sec(1)), "web", "", 60, Profile::unacceptable("still gone"));
        assert!(!board.wait(Duration::ZERO));
        let mut inner = board.lock();
        assert_eq!((inner.take_events().len(), inner.take_events().len()), (1, 0));
        assert_eq!(inner.findings(true).observed[0].profile.summary, "still gone");
        inner.keep(|key| key != "SEC1/web");
        assert!(inner.findings(true).observed.is_empty());
    }
}
