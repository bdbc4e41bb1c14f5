//! `ssSync create` as a person runs it, on trees in temporary directories.

#![allow(clippy::unwrap_used, reason = "a test ends where it cannot go on")]

use serde_json::{Value, json};
use std::{
    fs,
    path::Path,
    process::{Command, Output},
};

const PRI: &str =
    "format = 1\ncluster = \"bakery\"\nrole = \"PRI\"\n[[partner]]\nrole = \"SEC1\"\nhost = \"10.0.0.2\"\n";

fn write(root: &Path, path: &str, content: &str) {
    let path = root.join(path);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, content).unwrap();
}

fn read(root: &Path, path: &str) -> String {
    fs::read_to_string(root.join(path)).unwrap()
}

/// A server of Env1 that 'atlas init' has set up as PRI.
fn server() -> tempfile::TempDir {
    let tmp = tempfile::tempdir().unwrap();
    for (path, content) in [
        ("etc/hostname", "pri\n"),
        ("etc/hosts", "127.0.0.1 localhost\n"),
        ("etc/nginx/nginx.conf", "events {}\n"),
        ("opt/atlas/EnvID", "1\n"),
        ("opt/atlas/Cluster", "bakery\n"),
        ("unbound/SID_DATA/MasterConfig", PRI),
        ("unbound/SID_DATA/PRI/Env1/IdentFilePaths", "/etc/hostname\n/etc/hosts\n/etc/absent\n"),
        ("unbound/SID_DATA/PRI/Env1/SyncFilePathsSpecial", "/etc/nginx\n"),
    ] {
        write(tmp.path(), path, content);
    }
    tmp
}

fn ss_sync(root: &Path, args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_ssSync")).arg("create").arg("--root").arg(root).args(args).output().unwrap()
}

/// Runs it on `root`, expects it to fail, and gives what it says.
fn complaint(root: &Path) -> String {
    let output = ss_sync(root, &[]);
    let text = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(output.stdout.is_empty() && text.contains("\n  try: "), "{text}");
    text
}

#[test]
fn what_was_made_is_told_to_people_and_programs() {
    let tmp = server();
    let output = ss_sync(tmp.path(), &[]);
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).unwrap();
    let (first, second) = text.split_once('\n').unwrap();
    assert_eq!(first, "Snapshot of PRI for Env1: identity 2 objects, other configuration 2 objects");
    assert!(second.starts_with("changed: 5 objects, recorded as "), "{second}");

    let answer: Value = serde_json::from_slice(&ss_sync(tmp.path(), &["--json"]).stdout).unwrap();
    let expected = json!({
        "format": 1, "role": "PRI", "env_version": 1, "generation": 1, "ident_objects": 2, "sync_objects": 2, "changed": false,
        "changed_objects": 0, "converted_to": [], "recorded": null, "history_error": null, "hooks": [],
        "notes": [], "passed_over": null, "lists": []
    });
    assert_eq!(answer, expected);
    let text = String::from_utf8(ss_sync(tmp.path(), &[]).stdout).unwrap();
    assert!(text.ends_with("nothing changed since the one before\n"), "{text}");
}

#[test]
fn the_snapshot_holds_the_files_as_they_are_now() {
    let tmp = server();
    assert!(ss_sync(tmp.path(), &[]).status.success());
    write(tmp.path(), "etc/hostname", "renamed\n");
    assert!(ss_sync(tmp.path(), &[]).status.success());
    let snapshot = tmp.path().join("unbound/SID_DATA/PRI");
    assert_eq!(read(&snapshot, "Env1/IdentFiles/etc/hostname"), "renamed\n");
    assert_eq!(read(&snapshot, "Env1/SyncFiles/etc/nginx/nginx.conf"), "events {}\n");
    assert_eq!(read(&snapshot, "SnapshotEnvVersion"), "1\n");
}

#[test]
fn a_machine_that_wears_another_identity_replaces_none_and_is_told_to_reboot() {
    let tmp = server();
    assert!(ss_sync(tmp.path(), &[]).status.success());
    // The disks are in another machine now, which was set up and not rebooted.
    write(tmp.path(), "etc/hostname", "fresh\n");
    write(tmp.path(), "opt/atlas/Identity", "format = 1\nworn = \"own\"\n");
    let text = complaint(tmp.path());
    assert!(text.contains("an identity of its own") && text.contains("try: reboot"), "{text}");
    let snapshot = tmp.path().join("unbound/SID_DATA/PRI");
    assert_eq!(read(&snapshot, "Env1/IdentFiles/etc/hostname"), "pri\n");
}

#[test]
fn without_the_converter_for_an_older_version_nothing_is_published() {
    let tmp = server();
    write(tmp.path(), "opt/atlas/EnvID", "2\n");
    let text = complaint(tmp.path());
    assert!(text.contains("from Env2 to Env1") && text.contains("converter"), "{text}");
    assert!(!tmp.path().join("unbound/SID_DATA/PRI/SnapshotEnvVersion").exists());
    assert!(!tmp.path().join("unbound/SID_DATA/PRI/Env2").exists());
}

#[test]
fn a_server_that_was_never_set_up_is_told_to_run_init() {
    let tmp = server();
    fs::remove_dir_all(tmp.path().join("opt")).unwrap();
    let text = complaint(tmp.path());
    assert!(text.contains("never set up") && text.contains("try: run 'atlas init' first"), "{text}");
}

#[test]
fn disks_of_another_cluster_are_not_written_to() {
    let tmp = server();
    write(tmp.path(), "opt/atlas/Cluster", "brewery\n");
    let text = complaint(tmp.path());
    assert!(text.contains("'bakery'") && text.contains("'brewery'"), "{text}");
    assert!(!tmp.path().join("unbound/SID_DATA/PRI/SnapshotEnvVersion").exists());
}

#[test]
fn each_missing_or_broken_part_is_named() {
    type Break = fn(&Path);
    let cases: [(Break, &str); 6] = [
        (|root| fs::remove_dir_all(root.join("unbound")).unwrap(), "no Unbound set is mounted at"),
        (|root| fs::remove_dir_all(root.join("unbound/SID_DATA")).unwrap(), "open the Sync and Identity Data"),
        (|root| fs::remove_file(root.join("unbound/SID_DATA/MasterConfig")).unwrap(), "there is no"),
        (|root| write(root, "unbound/SID_DATA/MasterConfig", "role = \"PRI"), "is no valid MasterConfig"),
        (|root| fs::remove_file(root.join("opt/atlas/EnvID")).unwrap(), "while its companion is there"),
        (|root| fs::remove_dir_all(root.join("unbound/SID_DATA/PRI")).unwrap(), "there is no directory PRI"),
    ];
    for (break_it, expected) in cases {
        let tmp = server();
        break_it(tmp.path());
        let text = complaint(tmp.path());
        assert!(text.contains(expected), "expected '{expected}' in: {text}");
    }
}

#[test]
fn a_line_that_stands_for_nothing_is_refused_or_told_and_a_comment_is_no_part_of_a_path() {
    let tmp = server();
    let list = |text: &str| write(tmp.path(), "unbound/SID_DATA/PRI/Env1/SyncFilePathsSpecial", text);
    list("/etc/nginx   # the web server\n/etc/nothing \n");
    let output = ss_sync(tmp.path(), &["--json"]);
    let told: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(told["lists"], serde_json::json!(["/etc/nothing, which SyncFilePathsSpecial lists, is not there"]));
    assert_eq!(read(tmp.path(), "unbound/SID_DATA/PRI/Env1/SyncFiles/etc/nginx/nginx.conf"), "events {}\n");
    for (link, target) in [("etc/loose", "../srv/linked"), ("etc/listed", "/etc/nginx"), ("etc/usual", "/usr/share/x")]
    {
        std::os::unix::fs::symlink(target, tmp.path().join(link)).unwrap();
    }
    list("/etc/loose\n/etc/listed\n/etc/usual\n/etc/nginx\n");
    let told: serde_json::Value = serde_json::from_slice(&ss_sync(tmp.path(), &["--json"]).stdout).unwrap();
    let loose = "/etc/loose, which SyncFilePathsSpecial lists, is a link to /srv/linked, which no list has: list that, too, or it leads nowhere on a secondary";
    assert_eq!(told["lists"], serde_json::json!([loose]));
    list("/etc/nginx\n/etc/apache2/*\n");
    let text = complaint(tmp.path());
    assert!(text.contains("line 2 is a pattern") && text.contains("name the directory"), "{text}");
}

#[test]
fn a_listed_path_behind_a_link_is_refused_and_the_snapshot_before_stays() {
    let tmp = server();
    assert!(ss_sync(tmp.path(), &[]).status.success());
    fs::rename(tmp.path().join("etc/nginx"), tmp.path().join("elsewhere")).unwrap();
    std::os::unix::fs::symlink("../elsewhere", tmp.path().join("etc/nginx")).unwrap();
    write(tmp.path(), "unbound/SID_DATA/PRI/Env1/SyncFilePathsSpecial", "/etc/nginx/nginx.conf\n");
    let text = complaint(tmp.path());
    assert!(text.contains("/etc/nginx/nginx.conf leads out") && text.contains("without links"), "{text}");
    assert_eq!(read(tmp.path(), "unbound/SID_DATA/PRI/Env1/SyncFiles/etc/nginx/nginx.conf"), "events {}\n");
}

#[test]
fn a_failure_is_json_where_json_was_asked_for() {
    let tmp = tempfile::tempdir().unwrap();
    let output = ss_sync(tmp.path(), &["--json"]);
    assert_eq!(output.status.code(), Some(1));
    let told: Value = serde_json::from_slice(&output.stderr).unwrap();
    assert!(told["hints"][0].as_str().unwrap().contains("atlas init"), "{told}");
}

#[test]
fn the_root_disk_never_stands_in_for_an_unbound_set_that_is_not_mounted() {
    let tmp = server();
    let program = tmp.path().join("ssSync");
    fs::copy(env!("CARGO_BIN_EXE_ssSync"), &program).unwrap();
    let libraries = Command::new("sh")
        .arg("-c")
        .arg(r#"ldd "$1" | grep -o '/[^ ]*' | while read -r lib; do mkdir -p "$2$(dirname "$lib")"; cp -L "$lib" "$2$lib"; done"#)
        .args(["sh".as_ref(), program.as_os_str(), tmp.path().as_os_str()])
        .status()
        .unwrap();
    assert!(libraries.success());
    for root in ["/", "/etc/.."] {
        // In a user namespace, so that anybody can run this.
        let in_tree = ["--map-root-user".as_ref(), "--root".as_ref(), tmp.path().as_os_str()];
        let output =
            Command::new("unshare").args(in_tree).args(["/ssSync", "create", "--root", root]).output().unwrap();
        let text = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{text}");
        assert!(text.contains("no Unbound set is mounted at"), "{text}");
    }
    assert!(!tmp.path().join("unbound/SID_DATA/PRI/SnapshotEnvVersion").exists());
}

#[test]
fn a_hook_that_fails_before_the_snapshot_keeps_it_from_being_made() {
    let tmp = server();
    assert!(ss_sync(tmp.path(), &[]).status.success());
    write(tmp.path(), "etc/hostname", "renamed\n");
    let hook = "etc/atlas/hooks.d/before-create.PRI/10-refuse";
    write(tmp.path(), hook, "no program that the kernel knows");
    fs::set_permissions(tmp.path().join(hook), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let text = complaint(tmp.path());
    assert!(text.contains("10-refuse") && text.contains("no Snapshot was made"), "{text}");
    assert_eq!(read(tmp.path(), "unbound/SID_DATA/PRI/Env1/IdentFiles/etc/hostname"), "pri\n");
    fs::set_permissions(tmp.path().join(hook), std::os::unix::fs::PermissionsExt::from_mode(0o777)).unwrap();
    assert!(complaint(tmp.path()).contains("others than its owner may write"));
    fs::remove_file(tmp.path().join(hook)).unwrap();
    assert!(ss_sync(tmp.path(), &[]).status.success());
}

#[test]
fn a_wrong_call_is_told_apart_from_a_failure() {
    let called_wrongly = Command::new(env!("CARGO_BIN_EXE_ssSync")).arg("creat").output().unwrap();
    assert_eq!(called_wrongly.status.code(), Some(2));
}
