//! Connectivity, exercised over networks of the test's own.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking, in its helpers as well")]

mod common;

use atlas_host::testing::own_network;
use atlas_model::verify::Verdict;
use common::{expect, run, setup, value, verify, verify_on};

#[test]
fn a_host_that_answers_is_measured_and_one_that_does_not_is_told() {
    if !own_network("a_host_that_answers_is_measured_and_one_that_does_not_is_told") {
        return;
    }
    let profile = verify("connectivity", &[]);
    expect(&profile, Verdict::Ok, &["127.0.0.1 answers"]);
    assert!(value(&profile, "answer") > 0.0 && value(&profile, "lost") == 0.0 && value(&profile, "rate") > 1000.0);
    assert!(verify("connectivity", &[("rate-slow", "1e15")]).verdict == Verdict::Slow);

    expect(
        &verify_on("192.0.2.1", "connectivity", &[]),
        Verdict::Unacceptable,
        &["nreachable", "ip route get 192.0.2.1"],
    );
    run("ip", &["link", "add", "wire", "type", "veth", "peer", "name", "end"]);
    run("ip", &["address", "add", "192.0.2.2/24", "dev", "wire"]);
    run("ip", &["link", "set", "wire", "up"]);
    run("ip", &["link", "set", "end", "up"]);
    expect(&verify_on("192.0.2.1", "connectivity", &[]), Verdict::Unacceptable, &["192.0.2.1 answers no echo request"]);
    expect(&verify_on("no-such-host.invalid", "connectivity", &[]), Verdict::Unknown, &["does not know the address"]);
}

#[test]
fn fragments_that_are_dropped_on_the_way_are_told_apart_from_a_host_that_is_down() {
    if !own_network("fragments_that_are_dropped_on_the_way_are_told_apart_from_a_host_that_is_down") {
        return;
    }
    // What must not be kept for putting together again is dropped.
    run("ip", &["link", "set", "lo", "mtu", "1500"]);
    expect(&verify("connectivity", &[]), Verdict::Ok, &[]);
    for bound in ["low", "high"] {
        std::fs::write(format!("/proc/sys/net/ipv4/ipfrag_{bound}_thresh"), "0").unwrap();
    }
    expect(&verify("connectivity", &[]), Verdict::Unacceptable, &["in fragments", "MTU"]);
    expect(&verify("connectivity", &[("fragments", "no")]), Verdict::Ok, &[]);
}

#[test]
fn every_server_has_it() {
    let found = setup("connectivity", tempfile::tempdir().unwrap().path());
    assert_eq!(found.instances.len(), 1);
}

#[test]
fn a_value_that_means_nothing_is_told_and_not_taken_for_another() {
    for (service, key, value, wanted) in [
        ("connectivity", "fragments", "none", "yes or no"),
        ("web", "trust", "maybe", "yes or no"),
        ("web", "restricted", "admin", "paths that begin with '/'"),
        ("nfs", "access", "write", "rw or ro"),
        ("dns", "limited", "local", "yes or view or net or no"),
        ("mail", "tls-slow", "soon", "a number"),
        ("postgresql", "port", "0", "a port"),
    ] {
        let told = format!("{key} = {value:?} means nothing: it is to be {wanted}");
        expect(&verify(service, &[(key, value)]), Verdict::Unknown, &[&told, "/etc/atlas/verifier.toml"]);
    }
    // That of another instance is not its own.
    let profile = verify("ssh", &[("port@other", "none"), ("port", "1")]);
    expect(&profile, Verdict::Unacceptable, &["refused"]);
}
