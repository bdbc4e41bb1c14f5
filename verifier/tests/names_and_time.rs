//! Name and time servers, exercised on the real ones.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking, in its helpers as well")]

mod common;

use atlas_host::testing::own_network;
use atlas_model::verify::Verdict;
use common::{Daemon, accepts, expect, setup, unpacked, value, verify, verify_found, verify_in, wait_until, write};

const ZONE: &str = "$TTL 60\n@ IN SOA ns.shop.example. admin.shop.example. ( 2026112101 60 60 60 60 )\n  IN NS ns\nns IN A 192.0.2.1\nwww IN A 192.0.2.7\n";

#[test]
fn zones_are_asked_for_and_one_that_is_not_loaded_is_told() {
    if !own_network("zones_are_asked_for_and_one_that_is_not_loaded_is_told") {
        return;
    }
    let tree = tempfile::tempdir().unwrap();
    let tree = tree.path();
    let dir = tree.to_str().unwrap();
    let local = format!(
        "zone \"shop.example\" {{ type master; file \"{dir}/db.shop\"; }};\nzone \"gone.example\" {{ type master; file \"{dir}/db.gone\"; }};\n"
    );
    let options = format!(
        "options {{ directory \"{dir}\"; listen-on {{ any; }}; recursion no; dnssec-validation no; pid-file none; session-keyfile none; }};\ncontrols {{ }};\n"
    );
    write(
        tree,
        "etc/bind/named.conf",
        "include \"/etc/bind/named.conf.options\";\ninclude \"/etc/bind/named.conf.local\";\n",
    );
    write(tree, "etc/bind/named.conf.options", &options);
    write(tree, "etc/bind/named.conf.local", &local);
    write(tree, "real.conf", &format!("{options}{local}"));
    write(tree, "db.shop", ZONE);
    write(tree, "etc/resolv.conf", "# ours\nnameserver 127.0.0.1\n");
    let found = setup("dns", tree);
    assert_eq!((found.problems.len(), &found.paths[..]), (0, &["/etc/bind".to_owned()][..]), "{found:?}");
    expect(
        &verify_found("dns", &found, "shop.example", &[]),
        Verdict::Unacceptable,
        &["connection refused", "named-checkconf"],
    );
    expect(
        &verify_in(tree, "dns", &[("resolver", "yes")]),
        Verdict::Unacceptable,
        &["no name server of this server answers: 127.0.0.1"],
    );

    let config = tree.join("real.conf");
    let server = Daemon::start("named", &["-f", "-4", "-c", config.to_str().unwrap()], 53);
    let zone = || verify_found("dns", &found, "shop.example", &[]);
    wait_until("the zone is loaded", || zone().verdict == Verdict::Ok);
    expect(&zone(), Verdict::Ok, &["serial 2026112101"]);
    expect(&verify_found("dns", &found, "gone.example", &[]), Verdict::Unacceptable, &["gone.example", "SERVFAIL"]);
    let www = |expected| verify("dns", &[("name", "www.shop.example"), ("expect", expected)]);
    expect(&www("192.0.2.7"), Verdict::Ok, &["www.shop.example is 192.0.2.7"]);
    expect(&www("192.0.2.8"), Verdict::Unacceptable, &["not 192.0.2.8"]);
    expect(&verify("dns", &[("name", "none.shop.example")]), Verdict::Unacceptable, &["NXDOMAIN"]);
    expect(&verify("dns", &[("zone", "other.example")]), Verdict::Unacceptable, &["REFUSED"]);
    expect(&verify("dns", &[("zone", "a..b")]), Verdict::Unknown, &["is no name"]);
    server.freeze();
    let stopped = verify_found("dns", &found, "shop.example", &[("--deadline", "3")]);
    expect(&stopped, Verdict::Unacceptable, &["no answer in time"]);
    server.thaw();
    drop(server);

    // It answers who asks often in part: not at all, or that they may come over TCP.
    for slip in [0, 1] {
        let rationed = options
            .replace("recursion no;", &format!("recursion no; rate-limit {{ responses-per-second 1; slip {slip}; }};"));
        write(tree, "etc/bind/named.conf.options", &rationed);
        write(tree, "real.conf", &format!("{rationed}{local}"));
        let found = setup("dns", tree);
        let server = Daemon::start("named", &["-f", "-4", "-c", config.to_str().unwrap()], 53);
        let zone = || verify_found("dns", &found, "shop.example", &[]);
        wait_until("the zone is loaded", || zone().verdict == Verdict::Ok);
        for _ in 0..6 {
            expect(&zone(), Verdict::Ok, &["serial 2026112101"]);
        }
        drop(server);
        wait_until("it has ended", || verify("dns", &[]).summary.contains("refused"));
    }
}

#[test]
fn the_bounds_of_a_zone_s_signatures_are_told() {
    if !own_network("the_bounds_of_a_zone_s_signatures_are_told") {
        return;
    }
    let tree = tempfile::tempdir().unwrap();
    let tree = tree.path();
    let dir = tree.to_str().unwrap();
    let run = |program: &str, args: &[&str]| {
        let out = std::process::Command::new(program).args(args).current_dir(tree).output().unwrap();
        assert!(out.status.success(), "{program}: {}", String::from_utf8_lossy(&out.stderr));
        String::from_utf8(out.stdout).unwrap().trim().to_owned()
    };
    let key = run("dnssec-keygen", &["-q", "-a", "ECDSAP256SHA256", "-f", "KSK", "shop.example"]);
    write(tree, "db.plain", &format!("{ZONE}$INCLUDE {dir}/{key}.key\n"));
    let config = format!(
        "options {{ directory \"{dir}\"; listen-on {{ any; }}; recursion no; dnssec-validation no; pid-file none; session-keyfile none; }};\ncontrols {{ }};\nzone \"shop.example\" {{ type primary; file \"{dir}/db.signed\"; }};\n"
    );
    write(tree, "etc/bind/named.conf", &config);
    write(tree, "real.conf", &config);
    for (from, until, verdict, part) in [
        ("now-3600", "now+2592000", Verdict::Ok, "serial 2026112101"),
        ("now-3600", "now+3600", Verdict::Slow, "end in 0.0 days"),
        ("now-864000", "now-172800", Verdict::Unacceptable, "ended 2.0 days ago"),
        ("now+86400", "now+2592000", Verdict::Unacceptable, "begin later than now"),
    ] {
        let plain = ["-z", "-P", "-o", "shop.example", "-s", from, "-e", until, "-f", "db.signed", "db.plain", &key];
        run("dnssec-signzone", &plain);
        let found = setup("dns", tree);
        let server = Daemon::start("named", &["-f", "-4", "-c", tree.join("real.conf").to_str().unwrap()], 53);
        let zone = || verify_found("dns", &found, "shop.example", &[]);
        wait_until("the zone is loaded", || zone().summary.contains(part));
        expect(&zone(), verdict, &[part]);
        drop(server);
        wait_until("it has ended", || verify("dns", &[]).summary.contains("refused"));
    }
}

#[test]
fn dnsmasq_is_asked_and_the_resolver_that_asks_it() {
    if !own_network("dnsmasq_is_asked_and_the_resolver_that_asks_it") {
        return;
    }
    let tree = tempfile::tempdir().unwrap();
    write(tree.path(), "etc/dnsmasq.conf", "port=53\naddress=/shop.example/192.0.2.9\n");
    write(tree.path(), "etc/resolv.conf", "nameserver 127.0.0.1\nnameserver 127.0.0.9\n");
    let found = setup("dns", tree.path());
    let args = [
        "--keep-in-foreground",
        "--no-resolv",
        "--no-hosts",
        "--user=root",
        "--pid-file=",
        "--listen-address=127.0.0.1",
        "--bind-interfaces",
    ];
    let _server = Daemon::start(
        "dnsmasq",
        &[&args[..], &["--conf-file=/dev/null", "--address=/shop.example/192.0.2.9"]].concat(),
        53,
    );
    let named = |expected| verify_found("dns", &found, "dnsmasq", &[("name", "a.shop.example"), ("expect", expected)]);
    expect(&named("192.0.2.9"), Verdict::Ok, &[]);
    expect(&named("192.0.2.7"), Verdict::Unacceptable, &["a.shop.example is 192.0.2.9, not 192.0.2.7"]);
    // The second name server is none.
    let resolver = verify_in(tree.path(), "dns", &[("resolver", "yes")]);
    expect(&resolver, Verdict::Slow, &["127.0.0.9 (", "cat /etc/resolv.conf"]);
    assert_eq!(value(&resolver, "name-servers"), 1.0);
}

#[test]
fn dnsmasq_that_answers_its_own_networks_alone_is_no_fault_behind_a_router() {
    if !own_network("dnsmasq_that_answers_its_own_networks_alone_is_no_fault_behind_a_router") {
        return;
    }
    // Two partners: one in its network, one behind a router, which is here the server itself.
    let script = "ip link add near type veth peer name near1; ip link add far type veth peer name far1
        ip addr add 10.1.0.1/24 dev near; ip link set near up; echo 1 > /proc/sys/net/ipv4/ip_forward
        ip addr add 10.2.0.1/24 dev far; ip link set far up";
    common::run("sh", &["-ec", script]);
    let partner = |device: &str, address: &str, way: &str| {
        let child = std::process::Command::new("unshare").args(["--net", "sleep", "1000"]).spawn().unwrap();
        let pid = child.id().to_string();
        let net = |pid: &str| std::fs::read_link(format!("/proc/{pid}/ns/net")).unwrap();
        wait_until("it has a network of its own", || net(&pid) != net("self"));
        common::run("ip", &["link", "set", device, "netns", &pid]);
        let inside = format!("ip addr add {address}/24 dev {device}; ip link set {device} up; {way}");
        common::run("nsenter", &["-t", &pid, "-n", "sh", "-ec", &inside]);
        (child, pid)
    };
    let mut near = partner("near1", "10.1.0.2", "true");
    // It asks by an address of another network, as one behind a router does.
    let mut far = partner(
        "far1",
        "10.2.0.2",
        "ip addr add 10.9.0.2/32 dev lo; ip link set lo up; ip route add 10.1.0.1 via 10.2.0.1 src 10.9.0.2",
    );
    common::run("ip", &["route", "add", "10.9.0.2", "via", "10.2.0.2"]);
    let tree = tempfile::tempdir().unwrap();
    write(tree.path(), "etc/dnsmasq.conf", "local-service\n");
    let found = setup("dns", tree.path());
    assert_eq!(found.instances[0].options["limited"], "net", "{found:?}");
    let args =
        ["--keep-in-foreground", "--no-resolv", "--no-hosts", "--user=root", "--pid-file=", "--conf-file=/dev/null"];
    let server = Daemon::start("dnsmasq", &[&args[..], &["--local-service"]].concat(), 53);
    let ask = |pid: &str| -> atlas_model::verify::Profile {
        let program = env!("CARGO_BIN_EXE_VerifyService");
        let verify = [
            "-t",
            pid,
            "-n",
            program,
            "dns",
            "verify",
            "--json",
            "--host",
            "10.1.0.1",
            "--set",
            "limited=net",
            "--deadline",
            "4",
        ];
        let output = std::process::Command::new("nsenter").args(verify).output().unwrap();
        serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{output:?}"))
    };
    expect(&ask(&near.1), Verdict::Ok, &["it answers"]);
    expect(&ask(&far.1), Verdict::Ok, &["not exercised: it answers some addresses"]);
    // One that hangs is told by who is in its network, one that is gone by both.
    server.freeze();
    expect(&ask(&near.1), Verdict::Unacceptable, &["no answer"]);
    server.thaw();
    drop(server);
    wait_until("it has ended", || !accepts(53));
    for pid in [&near.1, &far.1] {
        expect(&ask(pid), Verdict::Unacceptable, &["refused"]);
    }
    for child in [&mut near.0, &mut far.0] {
        child.kill().unwrap();
        child.wait().unwrap();
    }
}

#[test]
fn unbound_is_asked_for_what_it_knows_and_what_it_cannot_look_up_is_told() {
    if !own_network("unbound_is_asked_for_what_it_knows_and_what_it_cannot_look_up_is_told") {
        return;
    }
    let tree = tempfile::tempdir().unwrap();
    let tree = tree.path();
    let config = "server:\n  interface: 0.0.0.0\n  access-control: 127.0.0.0/8 allow\n  do-daemonize: no\n  username: \"\"\n  chroot: \"\"\n\
        \x20 pidfile: \"\"\n  use-syslog: no\n  module-config: \"iterator\"\n  local-zone: \"shop.example.\" static\n\
        \x20 local-data: \"www.shop.example. A 192.0.2.7\"\n";
    write(tree, "etc/unbound/unbound.conf", "include-toplevel: \"/etc/unbound/unbound.conf.d/*.conf\"\n");
    write(tree, "etc/unbound/unbound.conf.d/shop.conf", config);
    let found = setup("dns", tree);
    assert_eq!((found.problems.len(), &found.paths[..]), (0, &["/etc/unbound".to_owned()][..]), "{found:?}");
    let check = |more: &[(&str, &str)]| verify_found("dns", &found, "unbound", more);
    expect(&check(&[]), Verdict::Unacceptable, &["connection refused", "systemctl status named unbound"]);
    let config = tree.join("etc/unbound/unbound.conf.d/shop.conf");
    let server = Daemon::start("unbound", &["-d", "-c", config.to_str().unwrap()], 53);
    expect(&check(&[]), Verdict::Ok, &["it answers"]);
    let named = |name, address| check(&[("name", name), ("expect", address)]);
    expect(&named("www.shop.example", "192.0.2.7"), Verdict::Ok, &["www.shop.example is 192.0.2.7"]);
    expect(&named("www.shop.example", "192.0.2.8"), Verdict::Unacceptable, &["not 192.0.2.8"]);
    expect(&named("gone.shop.example", "192.0.2.7"), Verdict::Unacceptable, &["NXDOMAIN"]);
    // Nobody is there whom it could ask.
    expect(&named("www.other.example", "192.0.2.7"), Verdict::Unacceptable, &["SERVFAIL"]);
    server.freeze();
    expect(&check(&[("--deadline", "3")]), Verdict::Unacceptable, &["no answer in time"]);
    server.thaw();
}

#[test]
fn ntpsec_is_asked_and_where_it_has_not_got_the_time_is_told() {
    if !own_network("ntpsec_is_asked_and_where_it_has_not_got_the_time_is_told") {
        return;
    }
    let tree = tempfile::tempdir().unwrap();
    let tree = tree.path();
    let config = tree.join("etc/ntpsec/ntp.conf");
    let start = |more: &str| {
        // It could not set this machine's clock, either.
        write(tree, "etc/ntpsec/ntp.conf", &format!("disable ntp kernel\nrestrict default kod nomodify\n{more}"));
        let program = unpacked("ntpsec", "usr/sbin/ntpd");
        let args = ["--bounding-set=-sys_time", &program, "-n", "-c", config.to_str().unwrap()];
        Daemon::start_until("setpriv", &args, || !verify("ntp", &[]).summary.contains("refused"))
    };
    write(tree, "etc/ntpsec/ntp.conf", "restrict default kod nomodify\n");
    let found = setup("ntp", tree);
    assert_eq!((&found.paths[..], found.problems.len()), (&["/etc/ntpsec".to_owned()][..], 0), "{found:?}");
    let check = || verify_found("ntp", &found, "ntpsec", &[]);
    expect(&check(), Verdict::Unacceptable, &["connection refused", "systemctl status chrony ntpsec"]);
    let server = start("tos orphan 6 orphanwait 1\n");
    wait_until("it takes itself for a clock", || check().verdict == Verdict::Ok);
    let profile = check();
    expect(&profile, Verdict::Ok, &["stratum 6"]);
    assert!(value(&profile, "offset") < 100.0);
    drop(server);
    let _server = start("");
    expect(&check(), Verdict::Unacceptable, &["has not got the time itself"]);
}

fn chrony(tree: &std::path::Path, more: &str) -> Daemon {
    let config = tree.join("real.conf");
    let dir = tree.to_str().unwrap();
    let text = format!("allow\nport 123\nbindcmdaddress /\ncmdport 0\npidfile {dir}/pid\n{more}\n");
    write(tree, "real.conf", &text);
    // -x leaves this machine's clock alone.
    Daemon::start_until("chronyd", &["-d", "-x", "-u", "root", "-f", config.to_str().unwrap()], || {
        !verify("ntp", &[]).summary.contains("refused")
    })
}

#[test]
fn a_time_server_is_asked_and_one_that_has_not_got_the_time_is_told() {
    if !own_network("a_time_server_is_asked_and_one_that_has_not_got_the_time_is_told") {
        return;
    }
    let tree = tempfile::tempdir().unwrap();
    let tree = tree.path();
    write(tree, "etc/chrony/chrony.conf", "allow 192.0.2.0/24\n");
    let found = setup("ntp", tree);
    assert_eq!(found.paths, ["/etc/chrony"]);
    let check = || verify_found("ntp", &found, "chrony", &[]);
    expect(&check(), Verdict::Unacceptable, &["connection refused", "chronyc tracking"]);
    let server = chrony(tree, "local stratum 8");
    let profile = check();
    expect(&profile, Verdict::Ok, &["stratum 8"]);
    assert!(value(&profile, "offset") < 100.0 && !accepts(123));
    // Both have the same clock: what is measured may be less than the last digit that is told.
    let mut strict = verify("ntp", &[("offset-unacceptable", "0")]);
    common::wait_until("an offset is measured", || {
        strict = verify("ntp", &[("offset-unacceptable", "0")]);
        strict.verdict != Verdict::Ok
    });
    expect(&strict, Verdict::Unacceptable, &["offset", "timedatectl"]);
    drop(server);
    let _server = chrony(tree, "");
    expect(&check(), Verdict::Unacceptable, &["has not got the time itself"]);
}
