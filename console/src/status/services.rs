//! What the Verifiers say, as far as it bears on a failover to one secondary.

use super::readiness::{Facts, Reason, reason};
use atlas_model::{
    Role,
    verify::{Findings, HEARTBEAT, Observed, Verdict},
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

/// What the Verifiers say of `role`: this server's, over the network, and that server's own, of its health.
pub(super) fn of(facts: &Facts, role: Role) -> Services {
    let mut services = Services::default();
    let Some(findings) = alive(facts) else {
        let what = match facts.findings_age.filter(|_| facts.findings.is_some()) {
            Some(age) => format!("the Verifier on this server is dead or stuck: it last found something {age} s ago"),
            None => "the Verifier on this server has found nothing: nobody knows whether the services work".into(),
        };
        services.unclear.push(reason(what, "systemctl status VerifierControl"));
        return services;
    };
    let heard = findings.heard.iter().find(|heard| heard.role == role);
    let silent = heard.is_none_or(|heard| heard.silent.is_some() || heard.findings.is_none());
    if silent {
        let why = heard.and_then(|heard| heard.silent.as_ref()).map_or("it has not answered yet", |silent| &silent.why);
        services.unclear.push(reason(
            format!("the Verifier of {role} is not heard: {why}"),
            format!("on {role}: systemctl status VerifierControl; is port 7311 open from here?"),
        ));
    }
    let own = findings.observed.iter().map(|observed| (findings.role, observed));
    let said = heard.filter(|_| !silent).and_then(|heard| heard.findings.as_deref());
    let theirs = said.into_iter().flat_map(|said| said.observed.iter().map(|observed| (said.role, observed)));
    let mut checks = 0;
    for (by, observed) in own.chain(theirs) {
        // Without knowing which services there are, nobody knows whether one is missing.
        let decides = observed.about == Some(role)
            || observed.service == "verifier" && by == findings.role && observed.about == Some(by);
        // That it is not heard is told already, and what was compared with what it said then has ended with it.
        let is_said =
            silent && observed.about == Some(role) && ["verifier", "cold-boot"].contains(&observed.service.as_str());
        if decides && !is_said && !findings.is_of_what_is_lacking(observed) {
            checks += usize::from(observed.about == Some(role) && observed.service != "verifier");
            services.weigh(by, observed, findings.time, role);
        }
    }
    if checks == 0 {
        services.unclear.push(reason(
            format!("nothing on {role} is verified yet"),
            "VerifierControl plan; VerifierControl setup; ssSync cycle",
        ));
    }
    services.against.sort_by(|a, b| a.what.cmp(&b.what));
    services
}

impl Services {
    fn weigh(&mut self, by: Role, observed: &Observed, now: u64, role: Role) {
        let key = observed.key();
        let known = observed.acknowledged.as_ref().map(|why| format!(" (known: {why})")).unwrap_or_default();
        let hint = observed.profile.hint.clone().unwrap_or_else(|| format!("VerifierResults show {key}"));
        let told = reason(format!("{key}, seen by {by}: {}{known}", observed.profile.summary), hint);
        match observed.profile.verdict {
            _ if observed.is_stale(now) => self.unclear.push(reason(
                format!(
                    "{key} was verified last by {by} {} s ago, and should be at least every {} s",
                    now.saturating_sub(observed.checked),
                    observed.interval
                ),
                "systemctl restart VerifierControl",
            )),
            Verdict::Ok if observed.flapping => {
                self.remarks.push(reason(format!("{key} keeps changing"), format!("VerifierResults history {key}")));
            }
            Verdict::Ok => {}
            Verdict::Slow => self.remarks.push(told),
            Verdict::Unknown => self.unclear.push(told),
            // What is wrong with this server's own Verifier says nothing against the other server.
            Verdict::Unacceptable if observed.about != Some(role) => self.unclear.push(told),
            Verdict::Unacceptable => self.against.push(told),
        }
    }
}

/// How many services of a server do how well: `12 ok, 1 unacceptable`; a question mark where nobody knows.
pub(super) fn count(facts: &Facts, role: Role) -> String {
    let Some(findings) = alive(facts) else { return "?".into() };
    let own = findings.observed.iter();
    let heard =
        findings.heard.iter().filter(|heard| heard.silent.is_none()).filter_map(|heard| heard.findings.as_deref());
    let all: Vec<&Observed> = own
        .chain(heard.flat_map(|said| &said.observed))
        .filter(|observed| observed.about == Some(role) && !findings.is_of_what_is_lacking(observed))
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
    let heard =
        findings.heard.iter().filter(|heard| heard.silent.is_none()).filter_map(|heard| heard.findings.as_deref());
    let all = findings.observed.iter().chain(heard.flat_map(|said| &said.observed));
    let verdicts = all
        .filter(|observed| observed.about == Some(role) && observed.service == service)
        .map(|observed| if observed.is_stale(findings.time) { Verdict::Unknown } else { observed.profile.verdict });
    verdicts.reduce(Verdict::or).map_or("?".into(), |verdict| verdict.to_string())
}

/// Why this server has no role and no network, where that is so: everything else follows from it.
pub(super) fn refused(facts: &Facts) -> Option<Reason> {
    let refusal = facts.boot.as_ref()?.refusal.as_ref()?;
    Some(reason(
        format!("this server has no role, and its network gate is closed: {refusal}"),
        "the screen is above the login prompt, and in: systemctl status atlas-gate",
    ))
}

/// What is wrong with this server itself, by whoever saw it.
pub(super) fn here(facts: &Facts) -> Vec<String> {
    if let Some(refused) = refused(facts) {
        return vec![format!("{}: {}", refused.what, refused.hint)];
    }
    let Some(findings) = alive(facts) else {
        return vec![
            "the Verifier on this server is dead, stuck, or was never started: systemctl status VerifierControl".into(),
        ];
    };
    let own = findings.observed.iter().map(|observed| (findings.role, observed));
    let heard =
        findings.heard.iter().filter(|heard| heard.silent.is_none()).filter_map(|heard| heard.findings.as_deref());
    let all = own.chain(heard.flat_map(|said| said.observed.iter().map(|observed| (said.role, observed))));
    all.filter(|(_, observed)| observed.about == Some(facts.role) && observed.profile.verdict != Verdict::Ok)
        .map(|(by, observed)| {
            format!("{} is {}, seen by {by}: {}", observed.key(), observed.profile.verdict, observed.profile.summary)
        })
        .collect()
}
