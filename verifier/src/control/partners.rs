//! Hearing the partners' Verifiers: one that is dead, stuck or unreachable must never look like one that has nothing to tell.

use super::{Identity, edits::Edits};
use crate::{
    board::{Board, Inner, now},
    exchange::{self, PORT, Secret, by_our_clock},
    orphaned,
    service::resolve,
};
use anyhow::Context;
use atlas_cli::in_one_line;
use atlas_host::tree::Dir;
use atlas_model::{
    EnvVersion, Partner, Role,
    cold_boot::{Difference, NETWORK, PACKAGES, RUNNING, START_PAGES, UNIT_FILES, UNIT_PATHS, UNITS, differences},
    cycle::{CYCLE, CycleReport},
    verify::{Fault, Findings, HEARTBEAT, Heard, Measure, Profile, Silent, Verdict, Worse},
};
use atlas_sid::left;
use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

/// How often a partner is asked.
const EVERY: Duration = Duration::from_secs(2);
/// How often it is asked, in seconds, as it is told.
const INTERVAL: u64 = 2;

/// The threads that ask.
pub(super) struct Partners;

impl Partners {
    /// Starts one for each partner.
    pub(super) fn start(identity: &Identity, board: &Arc<Board>) {
        for partner in identity.config.partners() {
            let mut own = Asker {
                root: identity.root.clone(),
                role: identity.config.role(),
                env_version: identity.env_version,
                partner: partner.clone(),
                edits: Edits::default(),
            };
            let board = Arc::clone(board);
            std::thread::spawn(move || {
                loop {
                    own.hear(&board);
                    std::thread::sleep(EVERY);
                }
            });
        }
        let (root, role, board) = (identity.root.clone(), identity.config.role(), Arc::clone(board));
        if role == Role::Pri {
            board.lock().siblings = identity.config.partners().to_vec();
        } else {
            std::thread::spawn(move || {
                loop {
                    hear_elsewhere(&root, role, &board);
                    std::thread::sleep(orphaned::EVERY);
                }
            });
        }
    }
}

/// While PRI does not ask: whether a secondary that comes before this one says that somebody tells.
fn hear_elsewhere(root: &Path, role: Role, board: &Board) {
    let siblings = {
        let inner = board.lock();
        if inner.asked.elapsed() < orphaned::PRI_ASKS / 2 {
            return;
        }
        orphaned::before(role, &inner.siblings)
    };
    let ask = |sibling: &Partner| -> anyhow::Result<bool> {
        let secret = Secret::read(root)?.context("there is no secret yet")?;
        orphaned::ask(sibling, &secret, resolve(&sibling.host, Duration::from_secs(2))?)
    };
    if siblings.iter().any(|sibling| ask(sibling).unwrap_or(false)) {
        board.lock().elsewhere = Some(Instant::now());
    }
}

struct Asker {
    root: PathBuf,
    role: Role,
    env_version: EnvVersion,
    partner: Partner,
    edits: Edits,
}

impl Asker {
    /// Asks once, and puts on the board what came of it.
    fn hear(&mut self, board: &Board) {
        let (role, time) = (self.partner.role, now());
        let answer = ask(&self.root, &self.partner);
        let mut inner = board.lock();
        let last = inner.heard.remove(&role);
        let before = last.as_ref().map(verdicts);
        let (heard, ahead) = match answer {
            Ok((findings, ahead)) => {
                (Heard { role, time: Some(time), silent: None, findings: Some(Box::new(findings)) }, ahead)
            }
            Err(error) => (silent(last, role, inner.started(), time, in_one_line(&error)), 0),
        };
        // Both may have begun just now: what has not been heard yet is no fault, and nothing to go by either.
        let profile = (heard.silent.is_some() || heard.time.is_some()).then(|| verifier(&heard, ahead));
        let is_news = before != Some(verdicts(&heard));
        let difference = self.cold_boot(&inner, &heard);
        let said = heard.findings.as_deref().filter(|_| heard.silent.is_none() && role == Role::Pri);
        if let Some(said) = said.filter(|said| !said.partners.is_empty()) {
            inner.siblings.clone_from(&said.partners);
        }
        inner.heard.insert(role, heard);
        drop(inner);
        if let Some(profile) = profile {
            board.take(Some(role), "verifier", "", INTERVAL, profile);
        }
        if let Some(difference) = difference {
            board.take(Some(role), "cold-boot", "", INTERVAL, difference);
        }
        if is_news {
            board.news();
        }
    }

    /// What a cold boot depends on there and is not as on PRI; PRI alone looks.
    fn cold_boot(&mut self, inner: &Inner, heard: &Heard) -> Option<Profile> {
        let findings = heard.findings.as_deref().filter(|_| heard.silent.is_none() && self.role == Role::Pri)?;
        let (own, theirs) = (inner.boots_with.as_ref()?, findings.boots_with.as_ref()?);
        self.edits.look(own, now());
        let mut all = differences((self.env_version, own), (findings.env_version, theirs));
        if !all.is_empty() && !self.edits.is_empty() {
            let cycle = Dir::open_root(&self.root).ok().and_then(|tree| left::report::<CycleReport>(&tree, CYCLE));
            let cycle = cycle.map(|cycle| cycle.time);
            all.retain(|difference| !self.edits.is_on_its_way(difference, cycle, now()));
        }
        Some(compared(&all, heard.role))
    }
}

/// The verdict of what a cold boot would find different there.
fn compared(differences: &[Difference], role: Role) -> Profile {
    let faults: Vec<Fault> = differences.iter().map(|difference| different(difference, role)).collect();
    let mut profile = Profile::of_faults(faults, format!("{role} boots with what PRI boots with"));
    if profile.verdict != Verdict::Ok {
        profile.summary = format!("{role} would boot with something else than PRI: {}", profile.summary);
    }
    profile
}

/// One difference, and the command that ends it.
fn different(difference: &Difference, role: Role) -> Fault {
    let Difference { subject, fact, pri, sec, weight } = difference;
    let (hint, kind) = match (subject.as_str(), pri, sec) {
        (PACKAGES, Some(_), None) => (format!("on {role}: apt install {fact}"), "package"),
        (PACKAGES, None, Some(_)) => (format!("on {role}: apt remove {fact}; or on PRI: apt install {fact}"), "extra"),
        (PACKAGES, Some(pri), Some(_)) => (format!("on {role}: apt update; apt install {fact}={pri}"), "version"),
        (UNITS, Some(state), _) if state == "enabled" => (format!("on {role}: systemctl enable {fact}"), "unit"),
        (UNITS, Some(state), _) if state.starts_with("masked") => (format!("on {role}: systemctl mask {fact}"), "unit"),
        (UNITS, ..) => (format!("on {role}: systemctl disable {fact}; or on PRI: systemctl enable {fact}"), "unit"),
        (UNIT_FILES, ..) => {
            (format!("on {role}: systemctl cat {}; on PRI: ssSync compare", unit_of(fact)), "unit-file")
        }
        (RUNNING, ..) => (format!("on {role}: systemctl status {fact}; systemctl start {fact}"), "stopped"),
        (UNIT_PATHS, Some(_), None) => (format!("put it on {role} as it is on PRI: {fact}"), "unit-path"),
        (UNIT_PATHS, ..) => (format!("on {role}: chown, chmod as on PRI: {fact}"), "owner"),
        (START_PAGES, ..) => (format!("on {role}: findmnt; on PRI: ssSync compare; ssSync cycle"), "page"),
        (NETWORK, ..) => (format!("on {role}: ip rule; ip route; ip link; networkctl status"), "road"),
        _ => (format!("make {role} as PRI is, or PRI as {role}"), ""),
    };
    let of = if [UNIT_FILES, UNIT_PATHS].contains(&subject.as_str()) { unit_of(fact) } else { fact };
    Fault::new(*weight, difference.to_string(), hint).is(kind, &[of])
}

/// `app.service.d/limits.conf`, `app.service's /srv/app` ─► `app.service`
fn unit_of(fact: &str) -> &str {
    let name = fact.split(['/', '\'']).next().unwrap_or(fact);
    name.strip_suffix(".d").unwrap_or(name)
}

/// What is known of one that did not answer just now. One lost packet is no fault: what it said a moment ago still holds. Later, what it said
/// is kept with its age, and shown as old.
fn silent(last: Option<Heard>, role: Role, started: u64, now: u64, why: String) -> Heard {
    let last = last.unwrap_or(Heard { role, time: None, silent: None, findings: None });
    if last.silent.is_none() && now.saturating_sub(last.time.unwrap_or(started)) < HEARTBEAT {
        return last;
    }
    let since = last.silent.map(|silent| silent.since).or(last.time).unwrap_or(started);
    Heard { silent: Some(Silent { since, why }), ..last }
}

/// Whether its Verifier lives, and its clock is ours; `ahead` in seconds.
fn verifier(heard: &Heard, ahead: i64) -> Profile {
    let role = heard.role;
    let Some(silent) = &heard.silent else {
        let measure = Measure {
            name: "difference-of-clocks".into(),
            value: ahead.unsigned_abs() as f64,
            unit: "s".into(),
            slow: Some(5.0),
            unacceptable: Some(60.0),
            worse: Worse::Higher,
        };
        let profile = Profile::ok(format!("the Verifier of {role} answers")).measure(measure);
        return if profile.verdict == Verdict::Ok {
            profile
        } else {
            profile.hint(format!("on {role}: timedatectl; and here")).kind("clock")
        };
    };
    Profile::unacceptable(format!("the Verifier of {role} does not answer: {}", silent.why))
        .hint(format!("on {role}: systemctl status VerifierControl; is port {PORT} open from here?"))
        .kind("silent")
}

/// What changes when something has happened there.
fn verdicts(heard: &Heard) -> (bool, Vec<(String, Verdict)>) {
    let observed = heard.findings.iter().flat_map(|findings| &findings.observed);
    (heard.silent.is_some(), observed.map(|observed| (observed.key(), observed.profile.verdict)).collect())
}

fn ask(root: &Path, partner: &Partner) -> anyhow::Result<(Findings, i64)> {
    let secret = Secret::read(root)?
        .context("this server has no secret yet: SetUp on PRI makes it, and a cycle brings it to the secondaries")?;
    let address = resolve(&partner.host, Duration::from_secs(2))?;
    let mut findings = exchange::ask(SocketAddr::new(address, PORT), &secret)?;
    anyhow::ensure!(
        findings.role == partner.role,
        "it says that it is {}, and MasterConfig says {}",
        findings.role,
        partner.role
    );
    let now = now();
    let ahead = findings.time.cast_signed().saturating_sub(now.cast_signed());
    by_our_clock(&mut findings, now);
    findings.heard.clear();
    // Whoever is asked by PRI knows by that that PRI lives.
    findings.observed.retain(|observed| observed.service != orphaned::SERVING);
    Ok((findings, ahead))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_lost_answer_is_no_silence_and_silence_is_dated_from_the_last_answer() {
        let said = Heard { role: Role::Sec(1), time: Some(100), silent: None, findings: None };
        let soon = silent(Some(said.clone()), Role::Sec(1), 0, 109, "lost".into());
        assert_eq!(soon, said);
        let late = silent(Some(said), Role::Sec(1), 0, 110, "lost".into());
        assert_eq!(late.silent.as_ref().map(|silent| silent.since), Some(100));
        assert_eq!(verifier(&late, 0).verdict, Verdict::Unacceptable);
        assert!(silent(None, Role::Sec(1), 0, 5, "never".into()).silent.is_none(), "both began just now");
        assert!(
            silent(None, Role::Sec(1), 0, 15, "never".into()).silent.is_some(),
            "one that never answered is silent"
        );
    }

    #[test]
    fn a_difference_names_the_unit_that_it_concerns() {
        let of = |subject: &str, fact: &str, sec: Option<&str>| {
            let (subject, fact, pri) = (subject.to_owned(), fact.to_owned(), Some("1".to_owned()));
            let difference = Difference { subject, fact, pri, sec: sec.map(str::to_owned), weight: Verdict::Slow };
            let fault = different(&difference, Role::Sec(1));
            (fault.kind.clone(), fault.of.join(" "))
        };
        let cases = [
            (UNIT_FILES, "app.service.d/limits.conf", Some("2"), "unit-file", "app.service"),
            (UNIT_FILES, "app.service", Some("2"), "unit-file", "app.service"),
            (UNIT_PATHS, "app.service's /srv/app", None, "unit-path", "app.service"),
            (UNIT_PATHS, "app.service's /srv/app", Some("2"), "owner", "app.service"),
            (RUNNING, "app.service", Some("stopped"), "stopped", "app.service"),
            (PACKAGES, "nginx", None, "package", "nginx"),
        ];
        for (subject, fact, sec, kind, unit) in cases {
            assert_eq!(of(subject, fact, sec), (kind.to_owned(), unit.to_owned()), "{fact}");
        }
    }

    #[test]
    fn clocks_that_differ_are_told() {
        let said = Heard { role: Role::Sec(1), time: Some(100), silent: None, findings: None };
        assert_eq!(verifier(&said, -2).verdict, Verdict::Ok);
        assert_eq!(verifier(&said, -7200).verdict, Verdict::Unacceptable);
        assert!(verifier(&said, 7200).summary.contains("clocks is 7200 s"));
    }
}
