use super::{testing::*, *};
use atlas_model::verify::{ADDRESS_IN_USE, Fault, Observed, Profile, Silent, Verdict};

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
fn a_verifier_that_is_dead_silent_or_slow_is_never_all_green() {
    let dead = after(|facts, _| facts.findings_age = Some(60));
    let never = after(|facts, _| (facts.findings, facts.findings_age) = (None, None));
    let silent = after_finding(|findings| {
        findings.observed.push(observed(Role::Sec(1), "verifier", Profile::unacceptable("no answer")));
        findings.heard[0].silent = Some(Silent { since: 1, why: "refused".into() });
    });
    let stale = after_finding(|findings| findings.observed[0].checked = 800);
    let of_before_the_boot = after_finding(|findings| findings.observed[0].checked = 0);
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
        (of_before_the_boot, "since it booted"),
        (nothing, "nothing on SEC1"),
        (unknown, "no client"),
    ] {
        assert_eq!(answer.ready, Ready::Unknown, "{what}");
        assert!(answer.reasons.iter().any(|reason| reason.what.contains(what)), "{what}: {answer:?}");
    }
}

#[test]
fn what_is_slow_is_remarked_and_does_not_stand_in_the_way() {
    let answer = after_finding(|findings| findings.observed[0].profile.verdict = atlas_model::verify::Verdict::Slow);
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
    // What was found before the boot, perhaps on another machine, is not said of this one.
    for (checked, told) in [(1000, 3), (800, 2), (0, 2)] {
        let gate = Observed { checked, ..observed(Role::Pri, "gate", Profile::unacceptable("the network is closed")) };
        facts.findings.as_mut().unwrap().observed = vec![gate];
        assert_eq!(here(&facts).len(), told, "{checked}");
    }
}

#[test]
fn two_machines_with_an_address_of_pri_are_a_no_whatever_else_is_not_known() {
    let mut facts = facts();
    let fault =
        Fault::new(Verdict::Unacceptable, "another machine has 192.168.77.1", "find it").is(ADDRESS_IN_USE, &[]);
    let findings = facts.findings.as_mut().unwrap();
    findings.observed.push(observed(Role::Pri, "gate", Profile::of_faults(vec![fault], "")));
    findings.heard[0].silent = Some(Silent { since: 1, why: "refused".into() });
    let [answer] = decide(&facts).try_into().unwrap();
    assert_eq!(answer.ready, Ready::No);
    assert!(answer.reasons[0].what.contains("another machine has 192.168.77.1"), "{answer:?}");
}
