//! What listens on PRI's address, exercised on a secondary by the real daemon.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test ends where something is not as it must be")]

mod common;

use atlas_host::testing::own_network;
use atlas_model::verify::{Profile, Verdict};
use common::{expect, run, verify_on, write};
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
