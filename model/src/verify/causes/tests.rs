use super::*;
use crate::{
    EnvVersion,
    verify::{Heard, Profile},
};

const SEC: Role = Role::Sec(1);

fn observed(service: &str, instance: &str, profile: Profile) -> Observed {
    Observed {
        about: Some(SEC),
        service: service.into(),
        instance: instance.into(),
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
        partners: vec![],
        broken_channels: vec![],
    }
}

/// What PRI knows: what it sees of SEC1, and what SEC1 says of itself.
fn known(seen: Vec<Observed>, said: Vec<Observed>) -> Findings {
    let said = Heard { role: SEC, time: Some(1000), silent: None, findings: Some(Box::new(found(SEC, said))) };
    Findings { heard: vec![said], ..found(Role::Pri, seen) }
}

fn bad(what: &str, hint: &str, kind: &str, of: &[&str]) -> Fault {
    Fault::new(Verdict::Unacceptable, what, hint).is(kind, of)
}

fn refused(service: &str, instance: &str) -> Observed {
    observed(service, instance, Profile::unacceptable("connection refused").hint("on that server: ss -ltnp"))
}

/// Each root, and the keys of what follows from it; one that only may follow has a question mark.
fn trees(findings: &Findings) -> Vec<(String, Vec<String>)> {
    let tree = |root: &Root<'_, '_>| {
        let follows = root.follows.iter();
        let follows = follows.map(|(one, sure)| format!("{}{}", one.observed.key(), if *sure { "" } else { "?" }));
        (root.at.observed.key(), follows.collect())
    };
    findings.causes().roots().iter().map(tree).collect()
}

fn tree(root: &str, follows: &[&str]) -> (String, Vec<String>) {
    (root.to_owned(), follows.iter().map(|key| (*key).to_owned()).collect())
}

/// One package is missing, as ten checks see it.
fn without_nginx() -> Findings {
    let missing =
        bad("PRI runs what is not installed here: nginx (web)", "apt install nginx", "package", &["web", "nginx"]);
    let cold = Profile::of_faults(
        vec![
            bad("nginx is 1.22 on PRI and nothing here", "on SEC1: apt install nginx", "package", &["nginx"]),
            bad(
                "nginx-common is 1.22 on PRI and nothing here",
                "on SEC1: apt install nginx-common",
                "package",
                &["nginx-common"],
            ),
            bad(
                "nginx.service is enabled on PRI and nothing here",
                "systemctl enable nginx",
                "unit",
                &["nginx.service"],
            ),
            bad("time zone is UTC on PRI and CET here", "timedatectl set-timezone UTC", "", &[]),
        ],
        "",
    );
    known(
        vec![refused("web", "*:80"), refused("web", "*:443"), refused("ssh", "22"), observed("cold-boot", "", cold)],
        vec![observed("packages", "", Profile::of_faults(vec![missing], ""))],
    )
}

#[test]
fn a_missing_package_is_one_problem_with_one_command_and_hides_no_other_fault() {
    let findings = without_nginx();
    let causes = findings.causes();
    let roots = causes.roots();
    let package = roots.iter().find(|root| root.at.observed.service == "packages").unwrap();
    assert_eq!(package.hint().as_deref(), Some("on SEC1: apt install nginx"));
    let all = trees(&findings);
    assert_eq!(all.len(), 3, "{all:#?}");
    assert!(all.contains(&tree("SEC1/ssh/22", &[])), "a fault of its own stands by itself: {all:#?}");
    assert!(all.contains(&tree("SEC1/cold-boot", &[])), "so does the time zone: {all:#?}");
    let below = ["SEC1/web/*:80", "SEC1/web/*:443", "SEC1/cold-boot", "SEC1/cold-boot?", "SEC1/cold-boot?"];
    assert!(all.contains(&tree("SEC1/packages", &below)), "{all:#?}");
}

#[test]
fn where_the_cause_is_gone_what_remains_stands_by_itself() {
    let mut findings = without_nginx();
    findings.heard[0].findings.as_mut().unwrap().observed[0].profile = Profile::ok("all is installed");
    let all = trees(&findings);
    assert!(all.contains(&tree("SEC1/web/*:80", &[])) && all.contains(&tree("SEC1/web/*:443", &[])), "{all:#?}");
}

#[test]
fn what_a_server_said_before_it_fell_silent_or_long_ago_causes_nothing() {
    let mut silent = without_nginx();
    silent.heard[0].silent = Some(crate::verify::Silent { since: 0, why: "timeout".into() });
    assert!(trees(&silent).contains(&tree("SEC1/web/*:80", &[])));
    let mut old = without_nginx();
    old.heard[0].findings.as_mut().unwrap().observed[0].checked = 100;
    assert!(trees(&old).contains(&tree("SEC1/web/*:80", &[])));
}

#[test]
fn many_missing_packages_are_one_problem_with_one_command() {
    let one = |n: u32| {
        let name = format!("lib{n}");
        bad(
            &format!("{name} is 1 on PRI and nothing here"),
            &format!("on SEC1: apt install {name}"),
            "package",
            &[&name],
        )
    };
    let cold = Profile::of_faults((0..3).map(one).collect(), "");
    let many = known(vec![observed("cold-boot", "", Profile::of_faults((0..124).map(one).collect(), ""))], vec![]);
    let many = many.causes();
    let root = &many.roots()[0];
    assert!(root.fault.what.ends_with("; and 118 more (VerifierResults show SEC1/cold-boot)"), "{}", root.fault.what);
    assert!(root.hint().unwrap().ends_with(" lib122 lib123"), "the command has all");
    let findings = known(vec![observed("cold-boot", "", cold)], vec![]);
    let causes = findings.causes();
    let roots = causes.roots();
    assert_eq!((roots.len(), roots[0].hint().as_deref()), (1, Some("on SEC1: apt install lib0 lib1 lib2")));
}

#[test]
fn whom_one_server_cannot_reach_another_may() {
    let gone = || observed("connectivity", "", Profile::unacceptable("no answer").kind("unreachable"));
    let own = observed("raid", "", Profile::unacceptable("degraded"));
    let mut findings = known(vec![gone(), refused("web", ""), refused("verifier", "")], vec![own]);
    let other = found(Role::Sec(2), vec![refused("web", "")]);
    findings.heard.push(Heard { role: Role::Sec(2), time: Some(1000), silent: None, findings: Some(Box::new(other)) });
    assert_eq!(
        trees(&findings),
        [tree("SEC1/connectivity", &["SEC1/web", "SEC1/verifier"]), tree("SEC1/raid", &[]), tree("SEC1/web", &[])],
        "what it says of itself, and what SEC2 sees, stand"
    );
    let large = observed("connectivity", "", Profile::unacceptable("not in fragments").kind("fragments"));
    assert_eq!(trees(&known(vec![large, refused("web", "")], vec![])).len(), 2);
}

#[test]
fn a_chain_has_one_root_and_what_only_may_follow_is_marked() {
    let faults = vec![
        bad("/var/lib/app belongs to root", "chown app /var/lib/app", "directory", &["web"]),
        bad("nginx.service does not run", "systemctl start nginx", "stopped", &["web"]),
    ];
    let findings = known(vec![refused("web", "*:80")], vec![observed("services", "", Profile::of_faults(faults, ""))]);
    assert_eq!(trees(&findings), [tree("SEC1/services", &["SEC1/web/*:80?", "SEC1/services?"])]);
    let full = Profile::of_faults(vec![bad("/ is nearly full", "du -xh /", "full", &[])], "");
    let findings = known(vec![refused("web", "*:80")], vec![observed("disk", "", full)]);
    assert_eq!(trees(&findings), [tree("SEC1/disk", &["SEC1/web/*:80?"])]);
}

#[test]
fn what_merely_deserves_a_look_is_no_cause_of_an_outage() {
    let slow = Fault::new(Verdict::Slow, "/ is nearly full", "du -xh /").is("full", &[]);
    let findings = known(vec![refused("web", "*:80")], vec![observed("disk", "", Profile::of_faults(vec![slow], ""))]);
    assert_eq!(trees(&findings), [tree("SEC1/web/*:80", &[]), tree("SEC1/disk", &[])]);
}

#[test]
fn what_an_older_version_says_is_related_as_well() {
    let lacking = Profile { lacks: vec!["web".into()], ..Profile::unacceptable("nginx is not installed here") };
    let findings =
        known(vec![refused("web", "*:80")], vec![observed("packages", "", lacking.hint("apt install nginx"))]);
    assert_eq!(trees(&findings), [tree("SEC1/packages", &["SEC1/web/*:80"])]);
    let gone = observed("connectivity", "", Profile::unacceptable("no answer"));
    assert_eq!(trees(&known(vec![gone, refused("web", "")], vec![])), [tree("SEC1/connectivity", &["SEC1/web"])]);
}

#[test]
fn whatever_is_wrong_each_fault_is_in_one_tree() {
    let services =
        ["connectivity", "packages", "services", "disk", "raid", "verifier", "time", "cold-boot", "cycle", "web"];
    let kinds = ["", "unreachable", "package", "stopped", "full", "read-only", "clock", "unit", "directory", "cycle"];
    for seed in 0..2000_u64 {
        let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
        let mut pick = |n: usize| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state as usize % n
        };
        let mut some = |count: usize| -> Vec<Observed> {
            let one = |_| {
                let of = [services[pick(10)]];
                let fault = bad("bad", "do", kinds[pick(10)], &of);
                observed(services[pick(10)], "", Profile::of_faults(vec![fault], ""))
            };
            (0..count).map(one).collect()
        };
        let findings = known(some(6), some(6));
        let causes = findings.causes();
        // Roots that are merged count as often as their parts.
        let whole: usize = causes.roots().iter().map(|root| root.parts.len() + root.follows.len()).sum();
        assert_eq!(whole, 12, "seed {seed}: {findings:#?}");
    }
}

#[test]
fn an_application_that_may_not_use_its_data_is_the_cause_of_its_clients_error() {
    let unit = bad(
        "orders.service would not start: its account orders may not go into /unbound/orders",
        "chown",
        "unit",
        &["orders.service", "/unbound/orders"],
    );
    let page = observed("web", "*:8081", Profile::unacceptable("/ answers 502"));
    let findings = known(vec![page], vec![observed("units", "", Profile::of_faults(vec![unit], ""))]);
    assert_eq!(trees(&findings), [tree("SEC1/units", &["SEC1/web/*:8081?"])]);
}

#[test]
fn what_was_changed_by_hand_is_the_cause_of_what_is_broken_by_it() {
    let changed = bad(
        "/etc/nginx/nginx.conf was changed since the last cycle: its content",
        "ssSync cycle",
        "changed",
        &["/etc/nginx/nginx.conf", "web", "nginx"],
    );
    let broken = bad("the configuration of nginx is broken", "nginx -t", "configuration", &["web", "nginx"]);
    let said = vec![
        observed("drift", "", Profile::of_faults(vec![changed.clone()], "")),
        observed("services", "", Profile::of_faults(vec![broken], "")),
    ];
    let findings = known(vec![refused("web", "*:80")], said);
    assert_eq!(trees(&findings), [tree("SEC1/drift", &["SEC1/web/*:80?", "SEC1/services?"])]);
    let other = known(vec![refused("ssh", "22")], vec![observed("drift", "", Profile::of_faults(vec![changed], ""))]);
    assert_eq!(trees(&other).len(), 2, "what it is not of stands by itself");
}
