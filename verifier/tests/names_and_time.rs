//! Name and time servers, exercised on the real ones.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking, in its helpers as well")]

mod common;

use atlas_host::testing::own_network;
use atlas_model::verify::Verdict;
use common::{Daemon, accepts, expect, setup, value, verify, verify_found, verify_in, write};

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
    common::wait_until("the zone is loaded", || zone().verdict == Verdict::Ok);
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
    expect(&verify("ntp", &[("offset-unacceptable", "-1")]), Verdict::Unacceptable, &["offset", "timedatectl"]);
    drop(server);
    let _server = chrony(tree, "");
    expect(&check(), Verdict::Unacceptable, &["has not got the time itself"]);
}
