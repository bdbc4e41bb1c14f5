use super::*;
use atlas_model::EnvVersion;

const SECOND: Duration = Duration::from_secs(1);

#[test]
fn the_lowest_role_tells_within_a_minute_and_the_other_only_where_it_does_not_hear_that_it_does() {
    let told =
        |role, asked: u32, before, ago: Option<u32>| tells(role, SECOND * asked, before, ago.map(|ago| SECOND * ago));
    assert!(told(Role::Pri, 0, false, None));
    assert!(!told(Role::Sec(1), 20, false, None) && told(Role::Sec(1), 21, false, None));
    assert!(!told(Role::Sec(2), 21, true, None), "it waits for the word of SEC1");
    assert!(!told(Role::Sec(2), 3000, true, Some(3)), "SEC1 tells");
    assert!(told(Role::Sec(2), 40, true, Some(16)), "SEC1 does not say so any more");
    assert!(told(Role::Sec(2), 33, true, None), "within a minute");
}

#[test]
fn who_comes_before_is_a_secondary_of_a_lower_role() {
    let sibling = |number: u8| Partner { role: Role::Sec(number), host: format!("sec{number}") };
    let all = [1, 2, 3].map(sibling);
    assert_eq!(before(Role::Sec(3), &all), all[..2]);
    assert!(before(Role::Sec(1), &all).is_empty());
}

/// What SEC1 knows at second 1000: PRI answered last at `last`; each check of PRI has a verdict and a time.
fn known(last: Option<u64>, why: &str, checks: &[(Verdict, u64)]) -> Findings {
    let observed = |(number, (verdict, checked)): (usize, &(Verdict, u64))| Observed {
        about: Some(Role::Pri),
        service: "web".into(),
        instance: number.to_string(),
        profile: Profile::new(*verdict, "x"),
        checked: *checked,
        interval: 60,
        since: 0,
        flapping: false,
        acknowledged: None,
        maintenance_until: None,
    };
    let silent = last.map(|since| Silent { since, why: why.into() });
    let heard = Heard { role: Role::Pri, time: Some(last.unwrap_or(1000)), silent, findings: None };
    Findings {
        format: 1,
        role: Role::Sec(1),
        env_version: EnvVersion::OLDEST,
        time: 1000,
        started: 0,
        observed: checks.iter().enumerate().map(observed).collect(),
        heard: vec![heard],
        boots_with: None,
        partners: vec![],
        broken_channels: vec![],
    }
}

fn verdict(last: Option<u64>, why: &str, checks: &[(Verdict, u64)]) -> Verdict {
    serving(&known(last, why, checks)).unwrap().verdict
}

#[test]
fn a_pri_that_is_silent_and_serves_is_told_from_one_that_is_dead() {
    let (ok, bad) = (Verdict::Ok, Verdict::Unacceptable);
    assert_eq!(verdict(None, "", &[]), ok);
    assert_eq!(
        verdict(Some(980), "timed out", &[(ok, 975), (bad, 990)]),
        bad,
        "what answered before it fell silent counts nothing"
    );
    assert_eq!(verdict(Some(980), "timed out", &[(ok, 990), (bad, 990)]), ok, "it serves");
    assert_eq!(verdict(Some(990), "timed out", &[(bad, 995)]), Verdict::Unknown, "a restart is no death");
    assert_eq!(verdict(Some(975), "timed out", &[(ok, 970)]), Verdict::Unknown, "no check was made since");
    assert_eq!(verdict(Some(965), "timed out", &[(ok, 964)]), bad, "none was made for long");
    assert_eq!(
        verdict(Some(965), "connection refused", &[]),
        Verdict::Unknown,
        "its server answers, and nothing of it is exercised"
    );
}

#[test]
fn what_to_do_is_said_with_it() {
    let profile = serving(&known(Some(900), "timed out", &[(Verdict::Unacceptable, 990)])).unwrap();
    assert!(profile.summary.starts_with("nobody serves: PRI has not answered for 100 s"), "{}", profile.summary);
    assert!(profile.hint.unwrap().contains("put both of PRI's front disks into this server's bays"));
    assert_eq!(profile.faults[0].kind, "nobody");
}
