use super::*;
use crate::here::testing::Server as Machine;

fn instance(name: &str, key: &str, addresses: &str) -> String {
    format!(r#"{{"name":"{name}","at":"partners","options":{{"port":"80","{key}":"{addresses}"}}}}"#)
}

fn found(instances: &[String]) -> Services {
    let text = format!(r#"{{"format":1,"services":{{"web":{{"instances":[{}]}}}}}}"#, instances.join(","));
    serde_json::from_str(&text).unwrap()
}

#[test]
fn who_waits_listens_on_addresses_alone_that_this_server_does_not_have() {
    let all = [
        instance("a", BOUND, "192.0.2.10"),
        instance("b", BOUND, "192.0.2.10 127.0.0.1"),
        instance("c", BESIDE, "192.0.2.10"),
        instance("d", "name", "www"),
        instance("e", BOUND, "192.0.2.10").replace("partners", "here"),
    ];
    let found = found(&all);
    assert_eq!(waiting(&found).iter().map(|(_, one)| one.name.as_str()).collect::<Vec<_>>(), ["a", "c"]);
}

#[test]
fn each_program_that_is_here_is_started_and_one_that_is_not_is_named() {
    let server = Machine::new();
    let found = found(&[instance("a", BOUND, "192.0.2.10")]);
    let waiting = waiting(&found);
    let (none, not) = tasks(&server.target(), &waiting).unwrap();
    assert!(none.is_empty() && not[0].contains("no program for it is here"), "{not:?}");
    server.write("etc/apache2/apache2.conf", "");
    server.write("etc/nginx/nginx.conf", "");
    server.program("usr/sbin/nginx", "");
    let (tasks, not) = tasks(&server.target(), &waiting).unwrap();
    assert!(not.is_empty());
    assert_eq!(
        tasks[0].start,
        [("nginx".to_owned(), "exec nginx".to_owned())],
        "only its configuration is left of the other"
    );
}

#[test]
fn a_program_whose_unit_is_masked_is_not_started_beside_the_one_that_serves() {
    let server = Machine::new();
    for (program, config) in [("apache2", "etc/apache2/apache2.conf"), ("nginx", "etc/nginx/nginx.conf")] {
        server.write(config, "");
        server.program(&format!("usr/sbin/{program}"), "");
        server.write(&format!("lib/systemd/system/{program}.service"), "[Service]\n");
    }
    server.link("/dev/null", "etc/systemd/system/apache2.service");
    let found = found(&[instance("a", BOUND, "192.0.2.10")]);
    let (tasks, _) = tasks(&server.target(), &waiting(&found)).unwrap();
    let started: Vec<&str> = tasks[0].start.iter().map(|(package, _)| package.as_str()).collect();
    assert_eq!(started, ["nginx"]);
}

#[test]
fn what_was_found_is_told_with_the_weightiest_first_and_every_reason() {
    let well = ("web/a".to_owned(), Profile::ok("it answers"));
    let not = "postgresql is not exercised as PRI, because two cannot work with the same data".to_owned();
    let exercised = Exercised { found: vec![well.clone()], faults: vec![], not: vec![not.clone()] };
    let profile = judged(exercised);
    assert_eq!(profile.verdict, Verdict::Ok);
    assert_eq!(profile.summary, format!("works in a network that has PRI's addresses: web/a; {not}"));
    let bad = ("web/b".to_owned(), Profile::unacceptable("nothing comes"));
    let profile = judged(Exercised { found: vec![well, bad], ..Exercised::default() });
    assert_eq!((profile.verdict, profile.summary.as_str()), (Verdict::Unacceptable, "as PRI, web/b: nothing comes"));
    assert!(profile.hint.is_some());
}

#[test]
fn of_a_service_of_two_programs_only_what_the_started_one_serves_is_exercised() {
    let server = Machine::new();
    for (program, config) in [("postfix", "etc/postfix/main.cf"), ("dovecot", "etc/dovecot/dovecot.conf")] {
        server.write(config, "");
        server.program(&format!("usr/sbin/{program}"), "");
    }
    let of = |name: &str, protocol: &str| {
        instance(name, BOUND, "192.0.2.10").replace("\"port\"", &format!("\"protocol\":\"{protocol}\",\"port\""))
    };
    let text = |instances: &[String]| {
        format!(r#"{{"format":1,"services":{{"mail":{{"instances":[{}]}}}}}}"#, instances.join(","))
    };
    let found: Services = serde_json::from_str(&text(&[of("smtp:25", "smtp"), of("imap:143", "imap")])).unwrap();
    let (both, not) = tasks(&server.target(), &waiting(&found)).unwrap();
    let exercised: Vec<&str> = both[0].instances.iter().map(|one| one.name.as_str()).collect();
    assert_eq!(exercised, ["imap:143"]);
    assert!(not[0].starts_with("postfix is not exercised as PRI, because a second one"), "{not:?}");
    let found: Services = serde_json::from_str(&text(&[of("smtp:25", "smtp")])).unwrap();
    assert!(tasks(&server.target(), &waiting(&found)).unwrap().0.is_empty(), "dovecot serves none of it");
}
