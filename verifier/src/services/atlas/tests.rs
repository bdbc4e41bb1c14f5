use super::*;
use crate::here::testing::Server;
use atlas_model::verify::Verdict;
use serde_json::{Value, json};

const WELL: &str = r#"{"format":1,"findings":[{"about":"role","ok":true,"found":"PRI","remedy":[]}]}"#;
const NO_PROBLEMS: &str = r#"{"format":1,"modules":[{"name":"ssSync","problems":[]}],"problems":[]}"#;

fn boot(change: impl FnOnce(&mut Value)) -> String {
    let mut report = BootReport::begin("atlas-boot");
    report.outcome = Outcome::IdentityInstalled;
    report.cluster = Some("bakery".into());
    let mut boot = serde_json::to_value(&report).unwrap();
    boot["env_version"] = json!(2);
    change(&mut boot);
    boot.to_string()
}

fn server(role: &str) -> Server {
    let server = Server::new();
    server.member(role);
    PROGRAMS.iter().for_each(|name| server.program(&format!("usr/bin/{name}"), "exit 0"));
    server.program("usr/bin/atlas", &format!("echo '{WELL}'"));
    server.program("usr/bin/atlas-module", &format!("echo '{NO_PROBLEMS}'"));
    server.write("run/atlas/boot.json", &boot(|boot| boot["role"] = json!(role)));
    server.write("etc/ssh/sshd_config.d/60-atlas.conf", "");
    server.write("etc/ssh/ssh_host_ed25519_key", "secret");
    server.write("etc/ssh/ssh_host_ed25519_key.pub", "public");
    server.mode("etc/ssh/ssh_host_ed25519_key", 0o600);
    server.mode("unbound/SID_DATA", 0o700);
    let keys = |name: &str, text: &str| {
        server.write(&format!("unbound/SID_DATA/keys/{name}"), text);
        server.mode(&format!("unbound/SID_DATA/keys/{name}"), 0o600);
    };
    if role == "PRI" {
        keys("id_ed25519", "secret");
        keys("id_ed25519.pub", "public");
        keys("known_hosts", "SEC1 ssh-ed25519 AAAA\n");
    } else {
        keys("authorized_keys", "restrict,command=\"/opt/atlas/bin/ssSync serve\" ssh-ed25519 AAAA PRI\n");
    }
    server.mode("unbound/SID_DATA/keys", 0o700);
    server
}

#[test]
fn a_whole_atlas_is_well_in_either_role_and_none_is_no_fault() {
    assert_eq!(server("PRI").is_well(&SERVICE).summary, "this server would boot as PRI");
    server("SEC1").is_well(&SERVICE);
    Server::new().is_well(&SERVICE);
}

#[test]
fn what_stands_in_the_way_of_the_next_boot_is_told_with_its_remedy() {
    let server = server("SEC1");
    let finding = |about: &str, ok: bool, found: &str, remedy: &str| {
        let check = json!({"format": 1, "findings": [{"about": about, "ok": ok, "found": found, "remedy": [remedy]}]});
        server.program("usr/bin/atlas", &format!("echo '{check}'; exit 3"));
    };
    finding(
        "initramfs",
        false,
        "kernel 6.1.0-32: initrd.img-6.1.0-32 lacks atlas-boot",
        "update-initramfs -u -k 6.1.0-32",
    );
    let profile = server.says(&SERVICE, Verdict::Unacceptable, &["next boot would fail (initramfs)", "6.1.0-32 lacks"]);
    assert_eq!(profile.hint.as_deref(), Some("update-initramfs -u -k 6.1.0-32"));
    finding("warning", true, "half of the set is behind", "look");
    server.says(&SERVICE, Verdict::Slow, &["half of the set is behind"]);
    server.program("usr/bin/atlas", "echo 'Segmentation fault' >&2; exit 139");
    server.says(&SERVICE, Verdict::Unknown, &["cannot be told", "Segmentation fault"]);
}

#[test]
fn programs_and_links_that_are_gone_are_named() {
    let server = server("PRI");
    server.mode("usr/bin/ssRun", 0o644);
    server.says(&SERVICE, Verdict::Unacceptable, &["ssRun may not be run"]);
    server.remove("usr/bin/ssRun");
    server.says(&SERVICE, Verdict::Unacceptable, &["ssRun is not there"]);
    server.program("opt/atlas/bin/ssRun", "exit 0");
    server.is_well(&SERVICE);
    let module = |problem: &str| {
        let overview = json!({"format": 1, "modules": [{"name": "ssSync", "problems": [problem]}], "problems": []});
        server.program("usr/bin/atlas-module", &format!("echo '{overview}'"));
    };
    module("bin/ssSync points to ./update/ssSync.v1, which is not there");
    server.says(&SERVICE, Verdict::Unacceptable, &["module ssSync: bin/ssSync points to"]);
    module("v1 runs as process 7, but is not set");
    server.says(&SERVICE, Verdict::Slow, &["module ssSync: v1 runs"]);
}

#[test]
fn a_server_that_is_no_longer_who_it_was_is_told() {
    let changed = server("SEC1");
    changed.write("opt/atlas/EnvID", "3\n");
    changed.says(&SERVICE, Verdict::Unacceptable, &["EnvID was Env2 at the boot and is Env3 now"]);
    let role = server("SEC1");
    role.write("run/atlas/boot.json", &boot(|boot| boot["role"] = json!("SEC2")));
    role.says(&SERVICE, Verdict::Unacceptable, &["role in MasterConfig was SEC2 at the boot and is SEC1 now"]);
    let moved = server("SEC1");
    moved.write("opt/atlas/Cluster", "inn\n");
    moved.says(&SERVICE, Verdict::Unacceptable, &["cluster bakery, this server to inn"]);
    let lost = server("SEC1");
    lost.remove("unbound/SID_DATA/MasterConfig");
    lost.says(&SERVICE, Verdict::Unacceptable, &["nobody can say who this server is", "MasterConfig"]);
}

#[test]
fn what_this_boot_found_is_told() {
    let server = server("PRI");
    server.write("run/atlas/boot.json", &boot(|boot| boot["warnings"] = json!(["the clock is from 1970"])));
    server.says(&SERVICE, Verdict::Slow, &["this boot: the clock is from 1970"]);
    let degraded = "the Unbound set runs on 1 of 2 disks, /dev/vdb (serial PRI-0); replace what is missing";
    let left_out =
        "/dev/vdc (serial PRI-1): slot 1 of 2, event count 20, at rest, with all members: left out, behind the others";
    server.write("run/atlas/boot.json", &boot(|boot| boot["warnings"] = json!([degraded, left_out])));
    server.is_well(&SERVICE);
    server.write("run/atlas/boot.json", &boot(|boot| boot["outcome"] = json!("refused")));
    server.says(&SERVICE, Verdict::Unacceptable, &["refused its role"]);
    server.remove("run/atlas/boot.json");
    server.says(&SERVICE, Verdict::Slow, &["not booted by ATLAS"]);
}

#[test]
fn keys_that_are_gone_are_told_on_both_sides() {
    let pri = server("PRI");
    pri.write("unbound/SID_DATA/keys/known_hosts", "SEC7 ssh-ed25519 AAAA\n");
    pri.says(&SERVICE, Verdict::Unacceptable, &["the key of SEC1 is not known: it cannot be called"]);
    pri.write("unbound/SID_DATA/keys/known_hosts", "SEC1 ssh-ed25519 AAAA\n");
    pri.is_well(&SERVICE);
    pri.remove("unbound/SID_DATA/keys/id_ed25519");
    pri.says(&SERVICE, Verdict::Unacceptable, &["PRI's own key is not there"]);
    let sec = server("SEC1");
    sec.write("unbound/SID_DATA/keys/authorized_keys", "ssh-ed25519 AAAA PRI\n");
    sec.says(&SERVICE, Verdict::Slow, &["PRI's key may do anything"]);
    sec.remove("unbound/SID_DATA/keys");
    sec.says(&SERVICE, Verdict::Unacceptable, &["the key of PRI is not known"]);
    let nameless = server("SEC1");
    nameless.remove("etc/ssh/ssh_host_ed25519_key");
    nameless.says(&SERVICE, Verdict::Unacceptable, &["own ssh key is not there"]);
    let unread = server("SEC1");
    unread.remove("etc/ssh/sshd_config.d/60-atlas.conf");
    unread.says(&SERVICE, Verdict::Unacceptable, &["60-atlas.conf is not there"]);
}

#[test]
fn what_others_can_read_is_named_with_its_mode() {
    for (path, mode, is) in [
        ("unbound/SID_DATA", 0o755, "mode 0755"),
        ("etc/ssh/ssh_host_ed25519_key", 0o640, "mode 0640"),
        ("unbound/SID_DATA/keys/id_ed25519", 0o644, "mode 0644"),
    ] {
        let server = server("PRI");
        server.mode(path, mode);
        server.says(&SERVICE, Verdict::Unacceptable, &[path, is]);
    }
    let server = server("PRI");
    if std::os::unix::fs::chown(server.root().join("unbound/SID_DATA"), Some(4711), None).is_ok() {
        server.says(&SERVICE, Verdict::Unacceptable, &["unbound/SID_DATA belongs to account number 4711"]);
    }
}

#[test]
fn a_crash_is_told_until_somebody_says_something_about_it() {
    let server = server("PRI");
    let crash = |age: u64, notes: Value| {
        let entry = json!({
            "format": 1, "signature": "4f3a00112233445566", "program": "ssSync", "occurrences": [{"time": here::now() - age}],
            "notes": notes,
        });
        server.write("var/lib/atlas/crashes/entries/4f3a.json", &entry.to_string());
    };
    crash(3600, json!([]));
    server.says(&SERVICE, Verdict::Slow, &["ssSync crashed 60 min ago", "4f3a00112233"]);
    crash(3600, json!(["fixed in v3"]));
    server.is_well(&SERVICE);
    crash(1_000_000, json!([]));
    server.says(&SERVICE, Verdict::Slow, &["ssSync crashed 11 days ago"]);
}
