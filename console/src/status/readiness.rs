//! The decision: from facts to `yes`, `no` or `unknown`, with the reasons in order of weight.

use super::services;
use atlas_model::{
    BootReport, EnvVersion, Partner, Role,
    cycle::{CycleReport, Outcome, PartnerReport, Problem},
    verify::Findings,
};
use serde::Serialize;

/// A cycle that began longer ago than this says nothing about now, in seconds: three intervals.
pub(super) const STALE: u64 = 900;
/// Clocks that differ by more than this are told, in seconds.
const CLOCK: i64 = 60;

/// What is known on this server.
#[derive(Clone, Debug, Serialize)]
pub struct Facts {
    /// Its Role.
    pub role: Role,
    /// Its partners.
    pub partners: Vec<Partner>,
    /// Its Environment.
    pub env_version: Option<EnvVersion>,
    /// What this boot found.
    pub boot: Option<BootReport>,
    /// The last cycle, on PRI.
    pub cycle: Option<CycleReport>,
    /// How long ago that began, in seconds.
    pub cycle_age: Option<u64>,
    /// Why cycles are suspended, where they are.
    pub suspended: Option<String>,
    /// What the Verifier on this server, and through it its partners', found.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub findings: Option<Findings>,
    /// How long ago that was written, in seconds.
    pub findings_age: Option<u64>,
    /// Of the Unbound set's members, how many there should be and how many there are; nothing where it is no mirror.
    pub members: Option<(u32, u32)>,
}

/// The answer for one secondary.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Readiness {
    /// Which.
    pub role: Role,
    /// Whether PRI's disks would do in it.
    pub ready: Ready,
    /// Why not, the weightiest first.
    pub reasons: Vec<Reason>,
    /// What works and deserves a look before it gets worse.
    pub remarks: Vec<Reason>,
}

/// Whether one could fail over now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Ready {
    /// Everything that is looked at is well.
    Yes,
    /// Something is known to stand in the way.
    No,
    /// Nobody knows.
    Unknown,
}

/// One reason.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Reason {
    /// What is the matter, and who saw it.
    pub what: String,
    /// What to do.
    pub hint: String,
    /// What follows from it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub follows: Vec<String>,
}

pub(super) fn reason(what: impl Into<String>, hint: impl Into<String>) -> Reason {
    Reason { what: what.into(), hint: hint.into(), follows: vec![] }
}

/// Decides for every secondary; on a secondary there is nothing to decide.
pub(super) fn decide(facts: &Facts) -> Vec<Readiness> {
    if facts.role != Role::Pri {
        return vec![];
    }
    facts.partners.iter().map(|partner| one(facts, partner.role)).collect()
}

fn one(facts: &Facts, role: Role) -> Readiness {
    if let Some(refused) = services::refused(facts) {
        return Readiness { role, ready: Ready::Unknown, reasons: vec![refused], remarks: vec![] };
    }
    let (mut against, mut unclear) = (Vec::new(), Vec::new());
    let is_recent = facts.cycle_age.is_some_and(|age| age <= STALE);
    let cycle = facts.cycle.iter().filter(|_| is_recent).flat_map(|cycle| &cycle.problems);
    let cycle: Vec<&Problem> = cycle.filter(|problem| problem.server == role).collect();
    let mut services = services::of(facts, role, &cycle);
    synced(facts, role, !cycle.is_empty(), (&mut against, &mut unclear));
    against.append(&mut services.against);
    unclear.append(&mut services.unclear);
    let ready = match (against.is_empty(), unclear.is_empty()) {
        (true, true) => Ready::Yes,
        (false, _) => Ready::No,
        (true, false) => Ready::Unknown,
    };
    against.append(&mut unclear);
    Readiness { role, ready, reasons: against, remarks: services.remarks }
}

/// What the last cycle says of it.
fn synced(facts: &Facts, role: Role, has_problems: bool, (against, unclear): (&mut Vec<Reason>, &mut Vec<Reason>)) {
    let (Some(cycle), Some(age)) = (&facts.cycle, facts.cycle_age) else {
        unclear.push(reason(
            "no cycle has run since this server booted",
            "ssSyncCtrl start, or for one cycle: ssSync cycle",
        ));
        return;
    };
    if age > STALE {
        unclear.push(match &facts.suspended {
            None => reason(
                format!("the last cycle began {} min ago", age / 60),
                "ssSyncCtrl status; systemctl status ssSyncLoop",
            ),
            Some(why) => reason(
                format!("no cycle for {} min: suspended, {why}", age / 60),
                "ssSyncCtrl resume, when the change is complete",
            ),
        });
        return;
    }
    match cycle.partners.iter().find(|partner| partner.role == role) {
        Some(partner) => judge(partner, cycle, has_problems, (against, unclear)),
        None => unclear.push(reason("the last cycle did not know this secondary", "ssSync cycle")),
    }
}

/// What speaks against it, besides the problems that the cycle names, and what is not known.
fn judge(
    partner: &PartnerReport,
    cycle: &CycleReport,
    has_problems: bool,
    (against, unclear): (&mut Vec<Reason>, &mut Vec<Reason>),
) {
    let role = partner.role;
    let Some(secondary) = &partner.secondary else {
        if !has_problems {
            unclear.push(reason(format!("{role} sent no report"), "ssSync cycle"));
        }
        return;
    };
    match secondary.would_boot {
        Some(true) => {}
        Some(false) => against.insert(
            0,
            reason(
                format!("{role} says that it would not boot into its role"),
                format!("on {role}: atlas init --check"),
            ),
        ),
        None => unclear.push(reason(
            format!("{role} could not say whether it would boot into its role"),
            format!("on {role}: atlas init --check"),
        )),
    }
    if secondary.installed != Some(cycle.generation) {
        against.push(reason(
            format!(
                "{role} has generation {} installed, PRI is at {}",
                secondary.installed.unwrap_or(0),
                cycle.generation
            ),
            "ssSync cycle",
        ));
    }
    if partner.outcome != Outcome::Synced && against.is_empty() && !has_problems {
        against.push(reason(format!("{role} is not in step with PRI"), "ssSync compare"));
    }
    if let Some(ahead) = partner.clock_ahead.filter(|ahead| ahead.abs() > CLOCK) {
        against.push(reason(
            format!("the clocks of PRI and {role} differ by {} s", ahead.abs()),
            format!("see the time service on {role}"),
        ));
    }
}

/// What is wrong on this server itself.
pub(super) fn here(facts: &Facts) -> Vec<String> {
    let mut wrong = Vec::new();
    if let Some((wanted, there)) = facts.members.filter(|(wanted, there)| there < wanted) {
        wrong.push(format!("the Unbound set runs with {there} of {wanted} disks; replace the other: mdadm /dev/md/atlas-unbound --add DISK (where \
             it was in a set before: mdadm --zero-superblock DISK first)"));
    }
    if let Some(why) = &facts.suspended {
        wrong.push(format!("the Synchronizer is suspended: {why}"));
    }
    for problem in facts.cycle.iter().flat_map(|cycle| &cycle.problems).filter(|problem| problem.server == facts.role) {
        wrong.push(problem.what.clone());
    }
    wrong.extend(facts.boot.iter().flat_map(|boot| boot.warnings.iter().cloned()));
    wrong.extend(services::here(facts));
    wrong
}

#[cfg(test)]
mod tests {
    use super::*;
    use atlas_model::{Refusal, RefusalCode};
    use atlas_model::{
        cycle::SecondaryReport,
        verify::{Heard, Observed, Profile, Silent},
    };

    fn observed(about: Role, service: &str, profile: Profile) -> Observed {
        Observed {
            about: Some(about),
            service: service.into(),
            instance: String::new(),
            profile,
            checked: 1000,
            interval: 60,
            since: 900,
            flapping: false,
            acknowledged: None,
            maintenance_until: None,
        }
    }

    fn found(role: Role, observed: Vec<Observed>) -> Findings {
        Findings {
            format: 1,
            role,
            env_version: EnvVersion::OLDEST,
            time: 1000,
            started: 0,
            observed,
            heard: vec![],
            boots_with: None,
            broken_channels: vec![],
        }
    }

    fn facts() -> Facts {
        let env_version = EnvVersion::OLDEST;
        let role = Role::Sec(1);
        let secondary = SecondaryReport {
            format: 1,
            role,
            env_version,
            time: 0,
            installed: Some(7),
            install: serde_json::Value::Null,
            changed_locally: false,
            local_commit: None,
            converted: vec![],
            steps: vec![],
            would_boot: Some(true),
            problems: vec![],
        };
        let partner = PartnerReport {
            in_common: vec![],
            role,
            host: "sec1".into(),
            outcome: Outcome::Synced,
            why: None,
            env_version: Some(env_version),
            clock_ahead: Some(0),
            sent: None,
            received: None,
            secondary: Some(secondary),
            differences: vec![],
            history_error: None,
            steps: vec![],
        };
        let cycle = CycleReport {
            format: 1,
            program: "ssSync".into(),
            time: 0,
            env_version,
            generation: 7,
            changed: false,
            partners: vec![partner],
            steps: vec![],
            problems: vec![],
        };
        Facts {
            role: Role::Pri,
            partners: vec![Partner { role, host: "sec1".into() }],
            env_version: Some(env_version),
            boot: None,
            cycle: Some(cycle),
            cycle_age: Some(10),
            suspended: None,
            findings: Some(findings()),
            findings_age: Some(1),
            members: Some((2, 2)),
        }
    }

    fn findings() -> Findings {
        let sec = Role::Sec(1);
        let mut findings = found(Role::Pri, vec![observed(sec, "web", Profile::ok("fine"))]);
        let theirs = found(
            sec,
            vec![observed(sec, "raid", Profile::ok("both disks")), observed(Role::Pri, "web", Profile::ok("fine"))],
        );
        findings.heard.push(Heard { role: sec, time: Some(1000), silent: None, findings: Some(Box::new(theirs)) });
        findings
    }

    /// The answer after one thing was changed in what the Verifiers found.
    fn after_finding(change: impl FnOnce(&mut Findings)) -> Readiness {
        after(|facts, _| change(facts.findings.as_mut().unwrap()))
    }

    fn their(findings: &mut Findings) -> &mut Findings {
        findings.heard[0].findings.as_mut().unwrap()
    }

    #[test]
    fn a_server_that_is_not_installed_there_stands_in_the_way_once() {
        let sec = Role::Sec(1);
        let answer = after_finding(|findings| {
            findings.observed[0].profile = Profile::unacceptable("refused");
            findings.observed.push(Observed { instance: "shop:443".into(), ..findings.observed[0].clone() });
            let lacking = Profile { lacks: vec!["web".into()], ..Profile::unacceptable("nginx is not installed here") };
            their(findings).observed.push(observed(sec, "packages", lacking.hint("apt install nginx")));
        });
        let told: Vec<(&str, &str)> =
            answer.reasons.iter().map(|reason| (reason.what.as_str(), reason.hint.as_str())).collect();
        assert_eq!(told, [("SEC1/packages, seen by SEC1: nginx is not installed here", "on SEC1: apt install nginx")]);
        let below = ["SEC1/web, seen by PRI: refused", "SEC1/web/shop:443, seen by PRI: refused"];
        assert_eq!(answer.reasons[0].follows, below);
    }

    #[test]
    fn a_service_that_does_not_work_stands_in_the_way_whoever_saw_it() {
        let bad = || Profile::unacceptable("no answer").hint("look there");
        let answer = after_finding(|findings| findings.observed[0].profile = bad());
        assert_eq!((answer.ready, answer.reasons[0].what.as_str()), (Ready::No, "SEC1/web, seen by PRI: no answer"));
        assert_eq!(answer.reasons[0].hint, "look there");
        let answer = after_finding(|findings| their(findings).observed[0].profile = bad());
        assert_eq!((answer.ready, answer.reasons[0].what.as_str()), (Ready::No, "SEC1/raid, seen by SEC1: no answer"));
        let answer = after_finding(|findings| their(findings).observed[1].profile = bad());
        assert_eq!(answer.ready, Ready::Yes, "what is wrong with PRI does not speak against the secondary");
    }

    #[test]
    fn a_server_that_refused_says_so_and_sends_nobody_after_its_verifier() {
        let refusal = Refusal::new(RefusalCode::AddressInUse, "Another machine has an address of this server.");
        let boot = BootReport { refusal: Some(refusal), ..BootReport::begin("atlas-boot") };
        let mut all = facts();
        (all.boot, all.findings) = (Some(boot), None);
        let [answer] = decide(&all).try_into().unwrap();
        assert_eq!((answer.ready, answer.reasons.len()), (Ready::Unknown, 1));
        assert!(answer.reasons[0].what.contains("address-in-use"), "{answer:?}");
        let here = services::here(&all);
        assert!(here.len() == 1 && here[0].contains("its network gate is closed"), "{here:?}");
    }

    #[test]
    fn a_verifier_that_is_dead_silent_or_slow_is_never_all_green() {
        let dead = after(|facts, _| facts.findings_age = Some(60));
        let never = after(|facts, _| (facts.findings, facts.findings_age) = (None, None));
        let silent = after_finding(|findings| {
            findings.observed.push(observed(Role::Sec(1), "verifier", Profile::unacceptable("no answer")));
            findings.heard[0].silent = Some(Silent { since: 1, why: "refused".into() });
        });
        let stale = after_finding(|findings| findings.observed[0].checked = 800);
        let nothing = after_finding(|findings| {
            findings.observed.clear();
            their(findings).observed.clear();
        });
        let unknown = after_finding(|findings| findings.observed[0].profile = Profile::unknown("no client"));
        for (answer, what) in [
            (dead, "dead"),
            (never, "nothing"),
            (silent, "not heard"),
            (stale, "200 s ago"),
            (nothing, "nothing on SEC1"),
            (unknown, "no client"),
        ] {
            assert_eq!(answer.ready, Ready::Unknown, "{what}");
            assert!(answer.reasons.iter().any(|reason| reason.what.contains(what)), "{what}: {answer:?}");
        }
    }

    #[test]
    fn what_is_slow_is_remarked_and_does_not_stand_in_the_way() {
        let answer =
            after_finding(|findings| findings.observed[0].profile.verdict = atlas_model::verify::Verdict::Slow);
        assert_eq!((answer.ready, answer.remarks.len()), (Ready::Yes, 1));
    }

    /// The answer after one thing was changed.
    fn after(change: impl FnOnce(&mut Facts, &mut CycleReport)) -> Readiness {
        let mut facts = facts();
        let mut cycle = facts.cycle.take().unwrap();
        change(&mut facts, &mut cycle);
        facts.cycle.get_or_insert(cycle);
        decide(&facts).remove(0)
    }

    #[test]
    fn where_all_is_well_the_answer_is_yes() {
        let answer = after(|_, _| {});
        assert_eq!((answer.ready, answer.reasons.len()), (Ready::Yes, 0));
        assert_eq!(here(&facts()), Vec::<String>::new());
    }

    #[test]
    fn what_is_not_known_is_never_yes() {
        let mut none = facts();
        none.cycle = None;
        assert_eq!(decide(&none)[0].ready, Ready::Unknown);
        let stale = after(|facts, _| facts.cycle_age = Some(STALE + 1));
        assert_eq!(stale.ready, Ready::Unknown);
        let suspended = after(|facts, _| (facts.cycle_age, facts.suspended) = (Some(STALE + 1), Some("mail".into())));
        assert!(suspended.reasons[0].what.contains("mail") && suspended.reasons[0].hint.contains("resume"));
        let silent = after(|_, cycle| cycle.partners[0].secondary = None);
        assert_eq!(silent.ready, Ready::Unknown);
        let unasked = after(|_, cycle| cycle.partners[0].secondary.as_mut().unwrap().would_boot = None);
        assert_eq!(unasked.ready, Ready::Unknown);
        let stranger = after(|_, cycle| cycle.partners.clear());
        assert_eq!(stranger.ready, Ready::Unknown);
    }

    #[test]
    fn each_thing_that_stands_in_the_way_is_told_with_what_to_do() {
        type Change = fn(&mut Facts, &mut CycleReport);
        let changes: [(&str, Change); 5] = [
            ("would not boot", |_, cycle| cycle.partners[0].secondary.as_mut().unwrap().would_boot = Some(false)),
            ("generation 6", |_, cycle| cycle.partners[0].secondary.as_mut().unwrap().installed = Some(6)),
            ("differ by 7200 s", |_, cycle| cycle.partners[0].clock_ahead = Some(-7200)),
            ("not in step", |_, cycle| cycle.partners[0].outcome = Outcome::Differs),
            ("nginx does not start", |_, cycle| {
                cycle.problems.push(Problem {
                    server: Role::Sec(1),
                    what: "nginx does not start".into(),
                    hint: "look".into(),
                });
            }),
        ];
        for (what, change) in changes {
            let answer = after(change);
            assert_eq!(answer.ready, Ready::No, "{what}");
            assert!(answer.reasons[0].what.contains(what) && !answer.reasons[0].hint.is_empty(), "{answer:?}");
        }
    }

    #[test]
    fn what_is_wrong_here_is_told_too() {
        let mut facts = facts();
        facts.members = Some((2, 1));
        facts.suspended = Some("mail".into());
        assert_eq!(here(&facts).len(), 2);
        facts.role = Role::Sec(1);
        assert_eq!(decide(&facts), vec![], "a secondary does not decide");
    }
}
