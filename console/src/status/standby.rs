//! What a secondary says: whether it could take over now, whether PRI serves, and how old each of it is. Nobody else may be there to ask.

use super::{
    readiness::{Facts, Readiness, Ready, Reason, STALE, answer, reason},
    services,
};
use atlas_model::{
    Role,
    cycle::{Problem, SecondaryReport},
    verify::{Heard, Verdict},
};
use serde::Serialize;

/// Whether PRI serves, as a secondary knows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Pri {
    /// The answer.
    pub serves: Ready,
    /// Why.
    pub what: String,
    /// What to do.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
    /// How long ago its Verifier answered, in seconds.
    pub heard_age: Option<u64>,
}

/// Whether PRI serves; nothing on PRI itself.
pub(super) fn pri(facts: &Facts) -> Option<Pri> {
    if facts.role == Role::Pri {
        return None;
    }
    let unknown = |what: &str, heard_age| {
        let hint = Some("systemctl status VerifierControl".to_owned());
        Some(Pri { serves: Ready::Unknown, what: what.to_owned(), hint, heard_age })
    };
    let Some(findings) = services::alive(facts) else {
        return unknown("the Verifier on this server, which hears PRI, is dead, stuck, or was never started", None);
    };
    let heard = findings.heard.iter().find(|heard| heard.role == Role::Pri);
    let heard_age = heard.and_then(|heard| findings.time.checked_sub(heard.time?));
    let serving = findings.observed.iter().find(|one| one.about == Some(Role::Pri) && one.service == "serving");
    let Some(serving) = serving.filter(|serving| !serving.is_stale(findings.time)) else {
        return unknown("PRI has not been heard yet", heard_age);
    };
    let serves = match serving.profile.verdict {
        Verdict::Ok | Verdict::Slow => Ready::Yes,
        Verdict::Unacceptable => Ready::No,
        Verdict::Unknown => Ready::Unknown,
    };
    let (what, hint) = (serving.profile.summary.clone(), serving.profile.hint.clone());
    Some(Pri { serves, what, hint, heard_age })
}

/// Whether this secondary could take over now.
pub(super) fn own(facts: &Facts) -> Readiness {
    let role = facts.role;
    let is_recent = facts.synced_age.is_some_and(|age| age <= STALE);
    let left: Vec<Problem> =
        facts.synced.iter().filter(|_| is_recent).flat_map(|synced| synced.problems.clone()).collect();
    let mut services = services::of(facts, role, &left.iter().collect::<Vec<_>>());
    let (mut against, mut unclear) = (Vec::new(), Vec::new());
    synced(facts, &mut against, (&mut unclear, &mut services.remarks));
    against.append(&mut services.against);
    unclear.append(&mut services.unclear);
    if let Some(silent) = silence(facts) {
        services.remarks.push(silent);
    }
    answer(role, against, unclear, services.remarks)
}

/// What the last SyncUp says.
fn synced(facts: &Facts, against: &mut Vec<Reason>, (unclear, remarks): (&mut Vec<Reason>, &mut Vec<Reason>)) {
    let Some((synced, age)) = facts.synced.as_ref().zip(facts.synced_age) else {
        unclear.push(reason("PRI has not called since this server booted", "on PRI: ssSyncCtrl status; ssSync cycle"));
        return;
    };
    if age > STALE {
        let what = format!("PRI called last {} min ago: what it changed since is not here", age / 60);
        let told = reason(what, "on PRI: ssSyncCtrl status; ssSync cycle");
        // Where PRI is dead, there is nothing newer that anybody could have.
        let is_dead = pri(facts).is_some_and(|pri| pri.serves == Ready::No);
        if is_dead { remarks.push(told) } else { unclear.push(told) }
    }
    let SecondaryReport { would_boot, installed, .. } = synced;
    let hint = "atlas init --check";
    match would_boot {
        Some(true) => {}
        Some(false) => against.push(reason("this server would not boot into its role", hint)),
        None => unclear.push(reason("whether this server would boot into its role could not be found out", hint)),
    }
    if installed.is_none() {
        against.push(reason("no configuration of PRI's is installed here", "on PRI: ssSync cycle"));
    }
}

/// What PRI saw of this server is not known while it is silent.
fn silence(facts: &Facts) -> Option<Reason> {
    let findings = services::alive(facts)?;
    let is_silent = |heard: &&Heard| heard.role == Role::Pri && heard.silent.is_some();
    let heard = findings.heard.iter().find(is_silent)?;
    let ago = heard.time.map_or("ever".to_owned(), |time| format!("for {} s", findings.time.saturating_sub(time)));
    let what = format!("PRI has not said {ago} how it reaches this server's services: this is by its own checks alone");
    Some(reason(what, "VerifierResults list"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::status::readiness::{decide, testing::secondary};
    use atlas_model::verify::{Profile, Silent};

    fn changed(change: impl FnOnce(&mut Facts)) -> (Ready, Readiness) {
        let mut facts = secondary();
        change(&mut facts);
        let [own] = decide(&facts).try_into().unwrap();
        (pri(&facts).unwrap().serves, own)
    }

    /// PRI has not answered since second 940.
    fn dead(facts: &mut Facts) {
        let findings = facts.findings.as_mut().unwrap();
        (findings.heard[0].time, findings.heard[0].silent) =
            (Some(940), Some(Silent { since: 940, why: "timeout".into() }));
        let serving = findings.observed.iter_mut().find(|one| one.service == "serving").unwrap();
        serving.profile = Profile::unacceptable("nobody serves").hint("take over").kind("nobody");
    }

    #[test]
    fn a_secondary_that_is_well_beside_a_pri_that_serves_says_yes_to_both() {
        let (serves, own) = changed(|_| {});
        assert_eq!((serves, own.ready, own.role), (Ready::Yes, Ready::Yes, Role::Sec(1)), "{own:?}");
        assert_eq!(pri(&secondary()).unwrap().heard_age, Some(1));
    }

    #[test]
    fn when_pri_is_dead_a_secondary_that_is_well_could_take_over_and_says_by_what() {
        let (serves, own) = changed(dead);
        assert_eq!((serves, own.ready), (Ready::No, Ready::Yes), "{own:?}");
        assert!(own.remarks.iter().any(|one| one.what.contains("for 60 s")), "{own:?}");
        let (_, own) = changed(|facts| {
            dead(facts);
            facts.synced_age = Some(5 * STALE);
        });
        assert_eq!(own.ready, Ready::Yes, "nothing newer is to be had");
        assert!(own.remarks.iter().any(|one| one.what.contains("75 min ago")), "{own:?}");
    }

    #[test]
    fn what_a_secondary_does_not_know_is_never_yes() {
        let (serves, own) = changed(|facts| facts.findings_age = Some(60));
        assert_eq!((serves, own.ready), (Ready::Unknown, Ready::Unknown));
        let (serves, _) =
            changed(|facts| facts.findings.as_mut().unwrap().observed.retain(|one| one.service != "serving"));
        assert_eq!(serves, Ready::Unknown);
        assert_eq!(changed(|facts| (facts.synced, facts.synced_age) = (None, None)).1.ready, Ready::Unknown);
        assert_eq!(changed(|facts| facts.synced_age = Some(STALE + 1)).1.ready, Ready::Unknown);
        assert_eq!(changed(|facts| facts.synced.as_mut().unwrap().would_boot = None).1.ready, Ready::Unknown);
    }

    #[test]
    fn what_stands_in_a_secondary_s_way_is_said_there_too() {
        let own = changed(|facts| facts.synced.as_mut().unwrap().would_boot = Some(false)).1;
        assert_eq!((own.ready, own.reasons[0].what.as_str()), (Ready::No, "this server would not boot into its role"));
        let own = changed(|facts| {
            let findings = facts.findings.as_mut().unwrap();
            let raid = findings.observed.iter_mut().find(|one| one.service == "raid").unwrap();
            raid.profile = Profile::unacceptable("one disk is gone").hint("mdadm --add");
        });
        assert_eq!((own.1.ready, own.1.reasons[0].hint.as_str()), (Ready::No, "on SEC1: mdadm --add"));
        let own = changed(|facts| {
            let left = Problem { server: Role::Sec(1), what: "nginx is held".into(), hint: "look".into() };
            facts.synced.as_mut().unwrap().problems.push(left);
        });
        assert!(own.1.ready == Ready::No && own.1.reasons[0].what.contains("nginx is held"), "{own:?}");
    }
}
