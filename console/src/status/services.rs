//! What the Verifiers say, as far as it bears on a failover to one secondary.

use super::readiness::{Facts, Reason, reason};
use atlas_model::{
    BootReport, Outcome, Role,
    cycle::Problem,
    verify::{
        ADDRESS_IN_USE, Fault, Findings, HEARTBEAT, Observed, Profile, Verdict,
        causes::{Root, Sighting},
        listed_by,
    },
};

/// What is known of one secondary's services.
#[derive(Debug, Default)]
pub(super) struct Services {
    /// What is known not to work, the weightiest first.
    pub(super) against: Vec<Reason>,
    /// What is not known.
    pub(super) unclear: Vec<Reason>,
    /// What works and deserves a look.
    pub(super) remarks: Vec<Reason>,
}

/// The findings of this server's Verifier, where it lives.
pub(super) fn alive(facts: &Facts) -> Option<&Findings> {
    facts.findings.as_ref().filter(|_| facts.findings_age.is_some_and(|age| age <= HEARTBEAT))
}

/// What the Verifiers say of `role`: this server's, over the network, and that server's own, of its health; and what the last cycle said of it.
pub(super) fn of(facts: &Facts, role: Role, cycle: &[&Problem]) -> Services {
    let mut services = Services::default();
    let Some(findings) = alive(facts) else {
        let what = match facts.findings_age.filter(|_| facts.findings.is_some()) {
            Some(age) => format!("the Verifier on this server is dead or stuck: it last found something {age} s ago"),
            None => "the Verifier on this server has found nothing: nobody knows whether the services work".into(),
        };
        services.unclear.push(reason(what, "systemctl status VerifierControl"));
        services.against = cycle.iter().map(|problem| by_cycle(role, &problem.what, &problem.hint)).collect();
        return services;
    };
    let heard = findings.heard.iter().find(|heard| heard.role == role);
    let silent = role != findings.role && heard.is_none_or(|heard| heard.silent.is_some() || heard.findings.is_none());
    if silent {
        let why = heard.and_then(|heard| heard.silent.as_ref()).map_or("it has not answered yet", |silent| &silent.why);
        services.unclear.push(reason(
            format!("the Verifier of {role} is not heard: {why}"),
            format!("on {role}: systemctl status VerifierControl; is port 7311 open from here?"),
        ));
    }
    let findings = &deciding(findings, role, silent, cycle);
    let mut checks = 0;
    for (by, observed) in known(findings).filter(|(by, observed)| decides(findings, role, *by, observed)) {
        let is_check = observed.about == Some(role) && !["verifier", CYCLE].contains(&observed.service.as_str());
        checks += usize::from(is_check);
        services.date(by, observed, findings.time);
    }
    if checks == 0 {
        services.unclear.push(reason(
            format!("nothing on {role} is verified yet"),
            "VerifierControl plan; VerifierControl setup; ssSync cycle",
        ));
    }
    for root in findings.causes().roots() {
        let at = root.at;
        if !at.observed.is_stale(findings.time) && decides(findings, role, at.by, at.observed) {
            services.weigh(&root, role);
        }
    }
    services.conflicts(findings, role);
    services.against.sort_by(|a, b| a.what.cmp(&b.what));
    services
}

/// What the last cycle said is a check as any other.
const CYCLE: &str = "cycle";

/// The findings by which it is decided: with what the last cycle said, and without what a server said before it fell silent.
fn deciding(findings: &Findings, role: Role, silent: bool, cycle: &[&Problem]) -> Findings {
    let mut findings = findings.clone();
    let is_said = |observed: &Observed| {
        silent && observed.about == Some(role) && ["verifier", "cold-boot"].contains(&observed.service.as_str())
    };
    findings.observed.retain(|observed| !is_said(observed));
    let faults = cycle.iter().map(|problem| Fault::new(Verdict::Unacceptable, &problem.what, &problem.hint));
    let faults: Vec<Fault> = faults.map(|fault| fault.is(CYCLE, &[])).collect();
    if !faults.is_empty() {
        findings.observed.push(Observed {
            about: Some(role),
            service: CYCLE.into(),
            instance: String::new(),
            profile: Profile::of_faults(faults, ""),
            checked: findings.time,
            interval: super::readiness::STALE,
            since: findings.time,
            flapping: false,
            acknowledged: None,
            maintenance_until: None,
        });
    }
    findings
}

/// Whether it bears on a failover. Without knowing which services there are, nobody knows whether one is missing.
fn decides(findings: &Findings, role: Role, by: Role, observed: &Observed) -> bool {
    observed.about == Some(role) || observed.service == "verifier" && by == findings.role && observed.about == Some(by)
}

fn by_cycle(role: Role, what: &str, hint: &str) -> Reason {
    reason(format!("{role}, seen by the last cycle: {what}"), hint)
}

impl Services {
    /// What is too old to say anything, and what keeps changing.
    fn date(&mut self, by: Role, observed: &Observed, now: u64) {
        let key = observed.key();
        if observed.is_stale(now) {
            self.unclear.push(match observed.age(now) {
                Some(age) => reason(
                    format!(
                        "{key} was verified last by {by} {age} s ago, and should be at least every {} s",
                        observed.interval
                    ),
                    "systemctl restart VerifierControl",
                ),
                None => reason(
                    format!(
                        "{key} was not verified by {by} since it booted: that takes {} s at most",
                        observed.interval
                    ),
                    format!("VerifierResults show {key}, in a while"),
                ),
            });
        } else if observed.profile.verdict == Verdict::Ok && observed.flapping {
            self.remarks.push(reason(format!("{key} keeps changing"), format!("VerifierResults history {key}")));
        }
    }

    /// Two machines have an address of this server: whoever became it would be the third. What speaks of `role` itself was weighed.
    fn conflicts(&mut self, findings: &Findings, role: Role) {
        let gates = findings.observed.iter().filter(|one| one.service == "gate" && one.about != Some(role));
        for gate in gates.filter(|gate| !gate.is_stale(findings.time)) {
            for fault in gate.profile.faults.iter().filter(|fault| fault.kind == ADDRESS_IN_USE) {
                let hint = fault.hint.clone().unwrap_or_else(|| listed_by(&gate.key()));
                self.against.push(reason(format!("{}, seen by {}: {}", gate.key(), findings.role, fault.what), hint));
            }
        }
    }

    /// A cause, with all that follows from it.
    fn weigh(&mut self, root: &Root<'_, '_>, role: Role) {
        let (at, observed) = (root.at, root.at.observed);
        let key = observed.key();
        let known = observed.acknowledged.as_ref().map(|why| format!(" (known: {why})")).unwrap_or_default();
        let hint = root.hint().unwrap_or_else(|| listed_by(&key));
        let mut told = match observed.service.as_str() {
            CYCLE => by_cycle(role, &root.fault.what, &hint),
            _ => reason(format!("{key}, seen by {}: {}{known}", at.by, root.fault.what), hint),
        };
        told.follows = root.follows.iter().map(|(one, sure)| below(one, *sure)).collect();
        match root.verdict() {
            Verdict::Ok => {}
            Verdict::Slow => self.remarks.push(told),
            Verdict::Unknown => self.unclear.push(told),
            // What is wrong with this server's own Verifier says nothing against the other server.
            Verdict::Unacceptable if observed.about != Some(role) => self.unclear.push(told),
            Verdict::Unacceptable => self.against.push(told),
        }
    }
}

/// What follows from a cause; where that is not sure, what helps if it does not.
fn below(one: &Sighting<'_>, sure: bool) -> String {
    let told = format!("{}, seen by {}: {}", one.observed.key(), one.by, one.fault.what);
    match one.hint().filter(|_| !sure) {
        None => told,
        Some(hint) => format!(
            "{told} (this may be a result of the problem above; if it is still there once that is fixed, try: {hint})"
        ),
    }
}

/// All that is known, with who saw it.
fn known(findings: &Findings) -> impl Iterator<Item = (Role, &Observed)> {
    let own = findings.observed.iter().map(|observed| (findings.role, observed));
    let heard =
        findings.heard.iter().filter(|heard| heard.silent.is_none()).filter_map(|heard| heard.findings.as_deref());
    own.chain(heard.flat_map(|said| said.observed.iter().map(|observed| (said.role, observed))))
}

/// How many services of a server do how well: `12 ok, 1 unacceptable`; a question mark where nobody knows.
pub(super) fn count(facts: &Facts, role: Role) -> String {
    let Some(findings) = alive(facts) else { return "?".into() };
    let causes = findings.causes();
    let all: Vec<&Observed> = known(findings)
        .filter(|(by, observed)| observed.about == Some(role) && !causes.is_consequence(*by, observed))
        .map(|(_, observed)| observed)
        .collect();
    let count = |verdict| {
        all.iter().filter(|observed| !observed.is_stale(findings.time) && observed.profile.verdict == verdict).count()
    };
    let stale = all.iter().filter(|observed| observed.is_stale(findings.time)).count();
    let words = [
        (count(Verdict::Unacceptable), "unacceptable"),
        (count(Verdict::Unknown), "unknown"),
        (stale, "old"),
        (count(Verdict::Slow), "slow"),
        (count(Verdict::Ok), "ok"),
    ];
    let words: Vec<String> =
        words.iter().filter(|(count, _)| *count > 0).map(|(count, word)| format!("{count} {word}")).collect();
    if words.is_empty() { "?".into() } else { words.join(", ") }
}

/// The weightiest verdict of one kind of service on a server; a question mark where nobody knows.
pub(super) fn verdict_of(facts: &Facts, role: Role, service: &str) -> String {
    let Some(findings) = alive(facts) else { return "?".into() };
    let verdicts = known(findings)
        .map(|(_, observed)| observed)
        .filter(|observed| observed.about == Some(role) && observed.service == service)
        .map(|observed| if observed.is_stale(findings.time) { Verdict::Unknown } else { observed.profile.verdict });
    verdicts.reduce(Verdict::or).map_or("?".into(), |verdict| verdict.to_string())
}

/// Why this server has no role and no network, where that is so, from what the boot wrote down: everything else follows from it.
pub(super) fn without_role(boot: &BootReport) -> Option<Reason> {
    let refused = boot.refusal.as_ref().map(|refusal| {
        reason(
            format!("this server has no role, and its network gate is closed: {refusal}"),
            "read the screen above the login prompt, or run: systemctl status atlas-gate",
        )
    });
    let is_new = boot.outcome == Outcome::NotInitialised;
    refused.or_else(|| is_new.then(|| reason("this server was not set up when it booted", "atlas init, then reboot")))
}

/// What is wrong with this server itself, by whoever saw it.
pub(super) fn here(facts: &Facts) -> Vec<String> {
    let Some(findings) = alive(facts) else {
        return vec![
            "the Verifier on this server is dead, stuck, or was never started: systemctl status VerifierControl".into(),
        ];
    };
    // A secondary's own state is in its answer.
    if facts.role != Role::Pri {
        return vec![];
    }
    let told = |root: &Root<'_, '_>| {
        let (key, by) = (root.at.observed.key(), root.at.by);
        let hint = root.hint().map(|hint| format!(" (try: {hint})")).unwrap_or_default();
        let more = match root.follows.len() {
            0 => String::new(),
            count => format!("; {count} more with it: VerifierResults causes {}", facts.role),
        };
        format!("{key} is {}, seen by {by}: {}{hint}{more}", root.verdict(), root.fault.what)
    };
    let causes = findings.causes();
    let is_known = |observed: &Observed| observed.about == Some(facts.role) && !observed.is_stale(findings.time);
    causes.roots().iter().filter(|root| is_known(root.at.observed)).map(told).collect()
}
