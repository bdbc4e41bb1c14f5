use super::*;
use atlas_model::{
    EnvVersion,
    verify::{Fault, Findings, Heard, Observed, Profile},
};

const SETTINGS: AlertSettings = AlertSettings { repeat_minutes: 60, escalate_minutes: 30, slow: true, word_days: 7 };

fn concern(verdict: Verdict) -> Concern {
    Concern {
        key: "SEC1/web".into(),
        verdict,
        summary: "gone".into(),
        by: vec![Role::Pri],
        hint: None,
        follows: vec![],
        faults: BTreeSet::new(),
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
        partners: vec![],
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
    let all = ["connectivity", "web", "ssh"].map(|service| observed(sec, service, Profile::unacceptable("no answer")));
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

/// A package is missing on SEC1, and what it serves does not answer; the second web site fails for a reason of its own.
fn without_nginx() -> Findings {
    let refused = |service: &str, what: &str| observed(Role::Sec(1), service, Profile::unacceptable(what));
    let mut pri = findings(Role::Pri, vec![refused("web", "connection refused"), refused("ssh", "no banner")]);
    let missing = Fault::new(Verdict::Unacceptable, "nginx is not installed here", "apt install nginx");
    let missing = Profile::of_faults(vec![missing.is("package", &["web", "nginx"])], "");
    let said = findings(Role::Sec(1), vec![observed(Role::Sec(1), "packages", missing)]);
    pri.heard.push(Heard { role: Role::Sec(1), time: Some(0), silent: None, findings: Some(Box::new(said)) });
    pri
}

#[test]
fn a_cause_is_told_once_with_its_command_and_what_falls_with_it_below() {
    let (mut open, pri) = (BTreeMap::new(), without_nginx());
    let found = concerns(&pri, &open, &SETTINGS);
    let alerts = step(&mut open, &found, &SETTINGS, ("PRI", 0), |_| true);
    let keys: Vec<&str> = alerts.iter().map(|alert| alert.key.as_str()).collect();
    assert_eq!(keys, ["SEC1/packages", "SEC1/ssh"], "an independent fault is told by itself");
    let text = alerts[0].text();
    assert!(text.contains("What to do: on SEC1: apt install nginx\n"), "{text}");
    assert!(text.ends_with("With it go:\n  SEC1/web: connection refused\n"), "{text}");
}

#[test]
fn what_outlives_its_cause_is_told_when_the_cause_is_gone() {
    let (mut open, mut pri) = (BTreeMap::new(), without_nginx());
    let mut told = |pri: &Findings| {
        let found = concerns(pri, &open, &SETTINGS);
        let alerts = step(&mut open, &found, &SETTINGS, ("PRI", 0), |_| true);
        alerts.into_iter().map(|alert| (alert.kind, alert.key)).collect::<Vec<_>>()
    };
    assert_eq!(told(&pri).len(), 2);
    pri.heard[0].findings.as_mut().unwrap().observed[0].profile = Profile::ok("all is installed");
    assert_eq!(told(&pri), [(Kind::Recovered, "SEC1/packages".into()), (Kind::Problem, "SEC1/web".into())]);
}

#[test]
fn what_only_may_follow_is_told_and_names_what_it_may_follow_from() {
    let mut pri = without_nginx();
    let full = Fault::new(Verdict::Unacceptable, "/ is nearly full", "du -xh /").is("full", &[]);
    pri.heard[0].findings.as_mut().unwrap().observed[0] =
        observed(Role::Sec(1), "disk", Profile::of_faults(vec![full], ""));
    let found = concerns(&pri, &BTreeMap::new(), &SETTINGS);
    let ssh = found.iter().find(|concern| concern.key == "SEC1/ssh").unwrap();
    assert!(ssh.summary.ends_with("it may follow from SEC1/disk: / is nearly full"), "{}", ssh.summary);
}

#[test]
fn another_fault_of_the_same_check_is_told_and_one_whose_numbers_change_is_not() {
    let mut open = BTreeMap::new();
    let mut told = |what: &[&str]| {
        let faults = what.iter().map(|what| Fault::new(Verdict::Unacceptable, *what, "look")).collect();
        let pri = findings(Role::Pri, vec![observed(Role::Sec(1), "services", Profile::of_faults(faults, ""))]);
        let found = concerns(&pri, &open, &SETTINGS);
        kinds(&step(&mut open, &found, &SETTINGS, ("PRI", 0), |_| true))
    };
    assert_eq!(told(&["nginx.service does not run for 5 s"]), [Kind::Problem]);
    assert_eq!(told(&["nginx.service does not run for 17 s"]), []);
    assert_eq!(told(&["nginx.service does not run for 27 s", "named.service does not run"]), [Kind::Worse]);
    assert_eq!(told(&["nginx.service does not run for 29 s"]), []);
    assert_eq!(told(&[]), [Kind::Recovered]);
}

#[test]
fn it_is_said_every_week_how_it_stands_also_where_all_is_well() {
    const DAY: u64 = 86_400;
    let mut pri = findings(Role::Pri, vec![observed(Role::Pri, "web", Profile::ok("fine"))]);
    let said = findings(Role::Sec(1), vec![observed(Role::Sec(1), "web", Profile::ok("fine"))]);
    pri.heard.push(Heard { role: Role::Sec(1), time: Some(0), silent: None, findings: Some(Box::new(said)) });
    let mut last = None;
    let mut at = |day: u64, concerns: &[Concern]| word(&mut last, 7, &pri, concerns, ("PRI of bakery", day * DAY));
    assert_eq!(at(100, &[]), None, "a week begins when somebody begins to look");
    assert_eq!(at(106, &[]), None);
    let well = at(107, &[]).unwrap();
    assert_eq!(well.title(), "ATLAS PRI of bakery: all is well: 2 checks on 2 servers");
    assert_eq!((well.verdict, well.kind), (Verdict::Ok, Kind::Word));
    assert_eq!(at(108, &[]), None, "once");
    let bad = at(115, &[concern(Verdict::Unacceptable)]).unwrap();
    assert_eq!(bad.title(), "ATLAS PRI of bakery: one problem is open: 2 checks on 2 servers");
    assert!(bad.text().contains("Open:\n  SEC1/web unacceptable: gone\n"), "{}", bad.text());
    assert_eq!(at(50, &[]), None, "the clock was set back");
    assert!(at(57, &[]).is_some(), "and the time begins anew");

    let mut last = None;
    let mut never = |day: u64| word(&mut last, 0, &pri, &[], ("PRI", day * DAY));
    assert_eq!((never(0), never(1000)), (None, None));
}
