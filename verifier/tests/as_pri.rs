//! What listens on PRI's address, exercised on a secondary by the real daemon.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test ends where something is not as it must be")]

mod common;

use atlas_host::testing::own_network;
use atlas_model::verify::{Instance, Profile, Verdict};
use common::{expect, place, run, setup, verify_on, write};
use std::{fs, net::UdpSocket, path::Path};

/// Shows `/etc` with changes of this test's own, which are gone with it.
fn own_etc() -> tempfile::TempDir {
    let tmp = tempfile::tempdir_in("/var/tmp").unwrap();
    let dir = |name: &str| {
        let path = tmp.path().join(name);
        fs::create_dir(&path).unwrap();
        path.display().to_string()
    };
    let options = format!("lowerdir=/etc,upperdir={},workdir={}", dir("upper"), dir("work"));
    run("mount", &["-t", "overlay", "overlay", "-o", &options, "/etc"]);
    tmp
}

fn services(instances: &str) {
    let text = format!(r#"{{"format":1,"services":{{{instances}}}}}"#);
    write(Path::new("/"), "etc/atlas/verifier/Services.json", &text);
}

fn nginx(server: &str) {
    let conf = format!("user www-data;\npid /run/nginx.pid;\nevents {{}}\nhttp {{ access_log off; {server} }}\n");
    write(Path::new("/"), "etc/nginx/nginx.conf", &conf);
}

fn as_pri(role: &str) -> Profile {
    verify_on("localhost", "as-pri", &[("--role", role), ("--deadline", "80")])
}

#[test]
fn what_listens_on_pri_s_address_is_exercised_on_a_secondary_where_that_address_is() {
    if !own_network("what_listens_on_pri_s_address_is_exercised_on_a_secondary_where_that_address_is") {
        return;
    }
    let _etc = own_etc();
    let instance =
        |name: &str, options: &str| format!(r#"{{"name":"{name}","at":"partners","options":{{{options}}}}}"#);
    let site = instance("192.0.2.10:80", r#""port":"80","bound":"192.0.2.10","root":"/etc/site""#);
    let beside = instance("*:81", r#""port":"81","beside":"192.0.2.10","dynamic":"/app""#);
    services(&format!(r#""web":{{"instances":[{site},{beside}]}}"#));
    write(Path::new("/"), "etc/site/atlas-verify.html", "<!DOCTYPE html><title>ATLAS</title><p>/etc/site\n");
    run("chmod", &["755", "/etc/site"]);
    let both = "server { listen 192.0.2.10:80; root /etc/site; } server { listen 81; location / { proxy_pass http://127.0.0.1:9; } }";
    nginx(both);
    assert!(UdpSocket::bind("192.0.2.10:0").is_err(), "the address is not here");
    expect(
        &as_pri("SEC1"),
        Verdict::Ok,
        &["works in a network that has PRI's addresses", "web/192.0.2.10:80", "web/*:81"],
    );
    assert!(!Path::new("/run/nginx.pid").exists(), "it left nothing");
    assert!(UdpSocket::bind("192.0.2.10:0").is_err(), "the address is still not here");
    let processes =
        fs::read_dir("/proc").unwrap().filter_map(|entry| fs::read_to_string(entry.unwrap().path().join("comm")).ok());
    assert!(!processes.map(|name| name.trim().to_owned()).any(|name| name == "nginx"), "it ended with its room");

    fs::remove_file("/etc/site/atlas-verify.html").unwrap();
    expect(&as_pri("SEC1"), Verdict::Unacceptable, &["as PRI, web/192.0.2.10:80", "is not there"]);
    nginx("server { listen 192.0.2.10:80; nonsense on; }");
    expect(&as_pri("SEC1"), Verdict::Unacceptable, &["nginx does not start with PRI's addresses", "nonsense"]);
    // What cannot be in a room is no fault of the service.
    nginx("server { listen 192.0.2.10:80; location / { proxy_pass http://backend.invalid; } }");
    expect(&as_pri("SEC1"), Verdict::Ok, &["nginx is not exercised as PRI", "host not found in upstream"]);
    expect(&as_pri("PRI"), Verdict::Ok, &["this server is PRI"]);
}

#[test]
fn what_cannot_run_beside_itself_is_named_with_its_reason() {
    if !own_network("what_cannot_run_beside_itself_is_named_with_its_reason") {
        return;
    }
    let _etc = own_etc();
    let instance = r#"{"name":"15/main","at":"partners","options":{"port":"5432","bound":"192.0.2.10"}}"#;
    services(&format!(r#""postgresql":{{"instances":[{instance}]}}"#));
    fs::create_dir_all("/etc/postgresql").unwrap();
    expect(
        &as_pri("SEC1"),
        Verdict::Ok,
        &["postgresql is not exercised as PRI, because two cannot work with the same data"],
    );
    services(&format!(r#""web":{{"instances":[{}]}}"#, instance.replace("192.0.2.10", "127.0.0.1")));
    expect(&as_pri("SEC1"), Verdict::Ok, &["no service listens on PRI's addresses alone"]);
}

/// A daemon of Debian's with this configuration, on a secondary: all that SetUp finds of it on PRI's address works where that address is.
fn works_as_pri(service: &str, others: &[&str], config: &[(&str, &str)], named: &[&str]) {
    let _etc = own_etc();
    // The packages of other daemons for the same are here for other tests.
    for other in others {
        let _ = fs::remove_dir_all(other).or_else(|_| fs::remove_file(other));
    }
    for (path, content) in config {
        write(Path::new("/"), path, content);
    }
    let found = setup(service, Path::new("/"));
    place(Path::new("/"), &found);
    let bound = |one: &&Instance| one.options.get("bound").is_some_and(|at| at == "192.0.2.10");
    let mut instances: Vec<Instance> = found.instances.iter().filter(bound).cloned().collect();
    // How fast this machine is at the moment is not what is tested.
    let slow = ["answer", "dynamic", "tls", "read", "write"].map(|time| (format!("{time}-slow"), "1000000".to_owned()));
    instances.iter_mut().for_each(|one| one.options.extend(slow.clone()));
    assert!(!instances.is_empty(), "SetUp found nothing on PRI's address: {found:?}");
    let text = serde_json::json!({ "format": 1, "services": { service: { "instances": instances } } });
    write(Path::new("/"), "etc/atlas/verifier/Services.json", &text.to_string());
    let profile = as_pri("SEC1");
    expect(&profile, Verdict::Ok, &[&["works in a network that has PRI's addresses"], named].concat());
    assert!(!profile.summary.contains("not exercised"), "{profile:?}");
}

#[test]
fn sshd_on_pri_s_address_is_exercised_on_a_secondary() {
    if own_network("sshd_on_pri_s_address_is_exercised_on_a_secondary") {
        works_as_pri(
            "ssh",
            &["/etc/ssh/sshd_config.d"],
            &[("etc/ssh/sshd_config", "ListenAddress 192.0.2.10\n")],
            &["ssh/"],
        );
    }
}

#[test]
fn bind_on_pri_s_address_is_exercised_on_a_secondary() {
    if own_network("bind_on_pri_s_address_is_exercised_on_a_secondary") {
        let conf = "options { directory \"/var/cache/bind\"; listen-on { 192.0.2.10; }; listen-on-v6 { none; }; recursion no; };\n\
            zone \"example.org\" { type master; file \"/etc/bind/db.example\"; };\n";
        let zone = "$TTL 60\n@ SOA ns.example.org. root.example.org. 1 60 60 60 60\n@ NS ns\nns A 192.0.2.10\n";
        let config = [("etc/bind/named.conf", conf), ("etc/bind/db.example", zone)];
        works_as_pri("dns", &["/etc/unbound/unbound.conf", "/etc/dnsmasq.conf"], &config, &["dns/"]);
    }
}

#[test]
fn unbound_on_pri_s_address_is_exercised_on_a_secondary() {
    if own_network("unbound_on_pri_s_address_is_exercised_on_a_secondary") {
        let conf = "server:\n interface: 192.0.2.10\n access-control: 0.0.0.0/0 allow\n \
            local-zone: \"example.org.\" static\n local-data: \"www.example.org. A 192.0.2.10\"\n";
        let config = [("etc/unbound/unbound.conf", conf)];
        works_as_pri("dns", &["/etc/bind/named.conf", "/etc/dnsmasq.conf"], &config, &["dns/"]);
    }
}

#[test]
fn dovecot_on_pri_s_address_is_exercised_on_a_secondary() {
    if own_network("dovecot_on_pri_s_address_is_exercised_on_a_secondary") {
        let conf = "listen = 192.0.2.10\nprotocols = imap\nssl = no\nmail_location = maildir:~/Maildir\n\
            passdb {\n driver = pam\n}\nuserdb {\n driver = passwd\n}\n";
        let config = [("etc/dovecot/dovecot.conf", conf)];
        works_as_pri("mail", &["/etc/postfix/main.cf", "/etc/exim4"], &config, &["mail/"]);
    }
}

#[test]
fn samba_on_pri_s_address_is_exercised_on_a_secondary() {
    if own_network("samba_on_pri_s_address_is_exercised_on_a_secondary") {
        let conf = "[global]\ninterfaces = 192.0.2.10/24\nbind interfaces only = yes\nmap to guest = bad user\n\
            [public]\npath = /etc/site\nguest ok = yes\nread only = yes\n";
        let config = [("etc/samba/smb.conf", conf), ("etc/site/index.html", "here\n")];
        works_as_pri("samba", &[], &config, &["samba/"]);
    }
}
