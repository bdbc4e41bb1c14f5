//! `atlas` as a person runs it, on trees in temporary directories.
//!
//! Nothing here touches a disk: what `atlas init` does to disks is acted out in virtual machines.

#![allow(clippy::unwrap_used, reason = "a test ends where it cannot go on")]

use serde_json::{Value, json};
use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Command, Output},
};

fn write(root: &Path, path: &str, content: &str) {
    let path = root.join(path);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, content).unwrap();
}

fn program(root: &Path, path: &str, script: &str) {
    write(root, path, &format!("#!/bin/sh\n{script}\n"));
    fs::set_permissions(root.join(path), PermissionsExt::from_mode(0o755)).unwrap();
}

fn atlas(path: &Path, args: &[&str]) -> Output {
    let path = format!("{}:/usr/bin:/bin", path.display());
    Command::new(env!("CARGO_BIN_EXE_atlas")).env("PATH", path).args(args).output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn another_word_runs_the_program_of_that_name_with_its_arguments_and_exit_code() {
    let tmp = tempfile::tempdir().unwrap();
    program(tmp.path(), "atlas-weather", "echo \"$@\"; exit 3");
    let output = atlas(tmp.path(), &["weather", "--here", "a b"]);
    assert_eq!((output.status.code(), text(&output.stdout).as_str()), (Some(3), "--here a b\n"));
    let output = atlas(tmp.path(), &["--root", "/mnt", "--json", "weather"]);
    assert_eq!(text(&output.stdout), "--root /mnt --json\n");
}

#[test]
fn a_word_without_a_program_is_a_wrong_call_that_names_what_there_is() {
    let tmp = tempfile::tempdir().unwrap();
    program(tmp.path(), "atlas-weather", "exit 0");
    for word in ["wether", "../weather"] {
        let output = atlas(tmp.path(), &[word]);
        let told = text(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{told}");
        assert!(told.contains(&format!("no 'atlas {word}'")) && told.contains("on PATH are: weather"), "{told}");
    }
}

#[test]
fn a_program_that_cannot_run_is_a_failure_with_its_reason() {
    let tmp = tempfile::tempdir().unwrap();
    program(tmp.path(), "atlas-broken", "");
    fs::write(tmp.path().join("atlas-broken"), "#!/nonexistent/interpreter\n").unwrap();
    fs::set_permissions(tmp.path().join("atlas-broken"), PermissionsExt::from_mode(0o644)).unwrap();
    let output = atlas(tmp.path(), &["broken"]);
    assert_eq!(output.status.code(), Some(1), "{}", text(&output.stderr));
    assert!(text(&output.stderr).contains("cannot run atlas-broken"), "{}", text(&output.stderr));
}

#[test]
fn what_is_missing_on_the_command_line_is_a_wrong_call_that_names_it() {
    let tmp = tempfile::tempdir().unwrap();
    let tree = server(tmp.path());
    // Setting up is root's; in a user namespace anybody is.
    let as_root = ["--map-root-user", env!("CARGO_BIN_EXE_atlas")];
    let output =
        Command::new("unshare").args(as_root).args(["init", "--root", &tree, "--role", "PRI"]).output().unwrap();
    let told = text(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{told}");
    assert!(told.contains("--cluster; --env-version; --partner; --disks"), "{told}");
}

/// What atlas-boot says of a server that would boot as PRI.
fn report() -> Value {
    json!({
        "format": 1, "program": "atlas-boot", "outcome": "from-scratch", "role": "PRI", "cluster": "bakery", "env_version": 1,
        "converted_from": null, "set": null, "unbound_written": false, "installed": [], "warnings": ["one disk is old"],
        "refusal": null, "accepted": [], "steps": [],
    })
}

/// A server that would boot as PRI: two kernels, networkd held, and programs that answer as the real ones do.
fn server(tmp: &Path) -> String {
    let root = tmp.join("root");
    answers(&root, &report());
    program(tmp, "lsinitramfs", "cat \"$1\"");
    for version in ["6.1.0-9", "6.1.0-10"] {
        write(&root, &format!("boot/vmlinuz-{version}"), "");
        write(&root, &format!("boot/initrd.img-{version}"), "init\nusr/lib/atlas/atlas-boot\nusr/sbin/mdadm\n");
    }
    let waits = "[Unit]\nConditionPathExists=|/run/atlas/network-allowed\n";
    write(&root, "usr/lib/systemd/system/systemd-networkd.service.d/50-atlas.conf", waits);
    write(&root, "etc/systemd/system/multi-user.target.wants/systemd-networkd.service", "");
    write(&root, "etc/fstab", "LABEL=ROOT / ext4 defaults 0 1\n");
    write(&root, "proc/cmdline", "root=LABEL=ROOT ro quiet\n");
    root.to_str().unwrap().to_owned()
}

fn answers(root: &Path, report: &Value) {
    program(root, "usr/lib/atlas/atlas-boot", &format!("[ \"$1 $2\" = 'check --json' ] && echo '{report}'"));
}

fn check(tmp: &Path, root: &str) -> (Option<i32>, Value) {
    let output = atlas(tmp, &["init", "--check", "--json", "--root", root]);
    (output.status.code(), serde_json::from_slice(&output.stdout).unwrap())
}

/// Breaks something, and expects one problem that says so, with a remedy.
fn one_problem(break_it: impl Fn(&Path), about: &str, expected: &str) {
    let tmp = tempfile::tempdir().unwrap();
    let root = server(tmp.path());
    break_it(Path::new(&root));
    let (code, answer) = check(tmp.path(), &root);
    assert_eq!((code, &answer["boots_into_role"]), (Some(3), &json!(false)), "{answer:#}");
    let findings = answer["findings"].as_array().unwrap();
    let problems: Vec<&Value> = findings.iter().filter(|finding| finding["ok"] == false).collect();
    assert_eq!(problems.len(), 1, "{answer:#}");
    assert_eq!(problems[0]["about"], about);
    assert!(problems[0]["found"].as_str().unwrap().contains(expected), "{answer:#}");
    assert!(!problems[0]["remedy"].as_array().unwrap().is_empty(), "{answer:#}");
}

#[test]
fn a_server_that_would_boot_into_its_role_says_so() {
    let tmp = tempfile::tempdir().unwrap();
    let root = server(tmp.path());
    let (code, answer) = check(tmp.path(), &root);
    assert_eq!(code, Some(0), "{answer:#}");
    assert_eq!(
        (&answer["boots_into_role"], &answer["role"], &answer["format"]),
        (&json!(true), &json!("PRI"), &json!(1))
    );
    assert_eq!(answer["boot"], report());

    let output = atlas(tmp.path(), &["init", "--check", "--root", &root]);
    let told = text(&output.stdout);
    for part in ["this server would boot as PRI", "look   warning", "kernel 6.1.0-9 starts", "kernel 6.1.0-10 starts"] {
        assert!(told.contains(part), "'{part}' in: {told}");
    }
}

#[test]
fn what_atlas_boot_refuses_is_told_with_its_remedy() {
    let refusal = json!({
        "code": "two-sets", "what": "More than one Unbound set is attached.", "found": [], "why": "",
        "remedy": ["leave in only one"], "fingerprint": null,
    });
    let mut refused = report();
    (refused["refusal"], refused["outcome"], refused["role"]) = (refusal, json!("refused"), Value::Null);
    one_problem(|root| answers(root, &refused), "role", "refused (two-sets): More than one");

    let mut never_set_up = report();
    (never_set_up["outcome"], never_set_up["role"]) = (json!("not-initialised"), Value::Null);
    one_problem(|root| answers(root, &never_set_up), "role", "never set up");
}

#[test]
fn an_atlas_boot_that_cannot_be_asked_is_a_problem() {
    one_problem(|root| fs::remove_file(root.join("usr/lib/atlas/atlas-boot")).unwrap(), "role", "is not installed");
    one_problem(
        |root| program(root, "usr/lib/atlas/atlas-boot", "echo 'Segmentation fault' >&2; exit 139"),
        "role",
        "Segmentation fault",
    );
}

#[test]
fn each_kernel_must_start_atlas_boot() {
    let initrd = "boot/initrd.img-6.1.0-9";
    one_problem(
        |root| write(root, initrd, "init\nusr/sbin/mdadm\n"),
        "initramfs",
        "6.1.0-9 lacks usr/lib/atlas/atlas-boot",
    );
    one_problem(|root| fs::remove_file(root.join(initrd)).unwrap(), "initramfs", "there is no");
}

#[test]
fn a_network_service_that_does_not_wait_is_named() {
    let wants = "etc/systemd/system/multi-user.target.wants";
    one_problem(|root| write(root, &format!("{wants}/networking.service"), ""), "network", "networking.service would");
    let hides = "etc/systemd/system/systemd-networkd.service.d/50-atlas.conf";
    one_problem(|root| write(root, hides, "# edited\n"), "network", "systemd-networkd.service would");
}

#[test]
fn a_file_of_an_identity_that_was_made_immutable_is_named() {
    let tmp = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let root = PathBuf::from(server(tmp.path()));
    let config =
        "format = 1\ncluster = \"bakery\"\nrole = \"SEC1\"\n[[partner]]\nrole = \"PRI\"\nhost = \"10.0.0.1\"\n";
    write(&root, "unbound/SID_DATA/MasterConfig", config);
    write(&root, "unbound/SID_DATA/PRI/Env1/IdentFilePaths", "/etc/hostname\n/etc/not-here\n");
    write(&root, "etc/hostname", "butter\n");
    let file = root.join("etc/hostname");
    let chattr = |flag| Command::new("chattr").arg(flag).arg(&file).status().is_ok_and(|status| status.success());
    // It takes a right that not everybody who runs this has, and a file system that knows of it.
    if !chattr("+i") {
        return;
    }
    let (code, answer) = check(tmp.path(), root.to_str().unwrap());
    assert!(chattr("-i"));
    assert_eq!(code, Some(3), "{answer:#}");
    let problems: Vec<&Value> =
        answer["findings"].as_array().unwrap().iter().filter(|finding| finding["ok"] == false).collect();
    assert_eq!((problems.len(), &problems[0]["about"]), (1, &json!("identity")), "{answer:#}");
    assert!(problems[0]["found"].as_str().unwrap().contains("/etc/hostname was made immutable"), "{answer:#}");
    assert_eq!(check(tmp.path(), root.to_str().unwrap()).0, Some(0));
}

#[test]
fn a_network_that_the_kernel_configures_is_named() {
    one_problem(
        |root| write(root, "proc/cmdline", "root=LABEL=ROOT ip=dhcp\n"),
        "kernel command line",
        "'ip=dhcp' configures the network",
    );
    let tmp = tempfile::tempdir().unwrap();
    let root = server(tmp.path());
    write(Path::new(&root), "proc/cmdline", "root=LABEL=ROOT ip=off\n");
    assert_eq!(check(tmp.path(), &root).0, Some(0));
}

#[test]
fn what_early_boot_would_not_find_is_named() {
    one_problem(
        |root| write(root, "etc/fstab", "/dev/vdz /opt ext4 defaults 0 2\n"),
        "file systems",
        "another file system at /opt",
    );
    one_problem(|root| write(root, "etc/fstab", "LABEL=ATLAS-UNBOUND /unbound ext4\n"), "file systems", "/unbound");
}

#[test]
fn a_secondary_gives_a_verdict_of_itself_and_of_pri_and_is_not_content_without_pri() {
    let tmp = tempfile::tempdir().unwrap();
    let root = tmp.path();
    let config = "format = 1\ncluster = \"bakery\"\nrole = \"SEC1\"\n[[partner]]\nrole = \"PRI\"\nhost = \"pri\"\n";
    write(root, "unbound/SID_DATA/MasterConfig", config);
    let status = || {
        let args = ["status", "--root", root.to_str().unwrap()];
        let output = atlas(root, &args);
        (output.status.code(), text(&output.stdout))
    };
    let (code, told) = status();
    assert_eq!(code, Some(3), "{told}");
    assert!(
        told.starts_with("PRI SERVES: UNKNOWN\n") && told.contains("READY TO FAIL OVER TO SEC1: UNKNOWN"),
        "{told}"
    );

    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
    let observed = |about: &str, service: &str, verdict: &str, summary: &str| {
        let profile = json!({"format": 1, "verdict": verdict, "summary": summary, "hint": "take over: put both of PRI's disks in"});
        json!({"about": about, "service": service, "instance": "", "profile": profile, "checked": now, "interval": 60, "since": now})
    };
    let report = |serving: &str, silent: Value| {
        let heard = json!([{"role": "PRI", "time": now - 60, "silent": silent}]);
        let own = json!([
            observed("SEC1", "raid", "ok", "both disks"),
            observed("PRI", "serving", serving, "told by the Verifier")
        ]);
        let findings = json!({"format": 1, "role": "SEC1", "env_version": 1, "time": now, "started": 0, "observed": own, "heard": heard});
        write(root, "run/atlas/verifier.json", &findings.to_string());
    };
    let synced = json!({
        "format": 1, "role": "SEC1", "env_version": 1, "time": now - 40, "installed": 7, "install": null, "changed_locally": false,
        "converted": [], "steps": [], "would_boot": true, "problems": [],
    });
    write(root, "run/atlas/synced.json", &synced.to_string());
    report("ok", Value::Null);
    assert_eq!(status().0, Some(0), "{}", status().1);
    report("unacceptable", json!({"since": now - 60, "why": "timeout"}));
    let (code, told) = status();
    assert_eq!(code, Some(3), "{told}");
    assert!(
        told.starts_with("PRI SERVES: NO\n") && told.contains("try: take over: put both of PRI's disks in"),
        "{told}"
    );
    assert!(told.contains("READY TO FAIL OVER TO SEC1: yes"), "{told}");
}

#[test]
fn a_server_without_a_role_answers_no_and_says_why() {
    let tmp = tempfile::tempdir().unwrap();
    let root = tmp.path();
    std::fs::create_dir(root.join("unbound")).unwrap();
    let status = |more: &[&str]| {
        let args = [&["status", "--root", root.to_str().unwrap()], more].concat();
        let output = atlas(root, &args);
        (output.status.code(), text(&output.stdout))
    };
    let refusal = atlas_model::Refusal::new(atlas_model::RefusalCode::MissingMember, "The Unbound set lacks a disk.");
    let mut boot = atlas_model::BootReport { refusal: Some(refusal), ..atlas_model::BootReport::begin("atlas-boot") };
    write(root, "run/atlas/boot.json", &serde_json::to_string(&boot).unwrap());
    let (code, told) = status(&[]);
    assert_eq!(code, Some(3), "{told}");
    assert!(told.starts_with("READY TO FAIL OVER TO THIS SERVER: NO\n"), "{told}");
    assert!(told.contains("missing-member") && told.contains("try: read the screen above the login"), "{told}");
    let (code, told) = status(&["--json"]);
    let told: Value = serde_json::from_str(&told).unwrap();
    assert!(code == Some(3) && told["here"][0].as_str().unwrap().contains("missing-member"), "{told}");
    (boot.refusal, boot.outcome) = (None, atlas_model::Outcome::NotInitialised);
    write(root, "run/atlas/boot.json", &serde_json::to_string(&boot).unwrap());
    assert!(status(&[]).1.contains("try: atlas init, then reboot"), "{}", status(&[]).1);
    // It was booted without ATLAS.
    std::fs::remove_file(root.join("run/atlas/boot.json")).unwrap();
    let error = || {
        let output = atlas(root, &["status", "--root", root.to_str().unwrap()]);
        (output.status.code(), text(&output.stderr))
    };
    let (code, told) = error();
    assert!(code == Some(1) && told.contains("never set up") && told.contains("'atlas init' sets it up"), "{told}");
    write(root, "opt/atlas/EnvID", "1\n");
    write(root, "opt/atlas/Cluster", "bakery\n");
    let (code, told) = error();
    assert!(code == Some(1) && told.contains("see /run/atlas/boot.json"), "{told}");
}

#[test]
fn notices_are_listed_and_dealt_with() {
    let tmp = tempfile::tempdir().unwrap();
    let root = tmp.path().to_str().unwrap();
    let notices = |args: &[&str]| atlas(tmp.path(), &[&["--root", root, "notices"], args].concat());
    let none = notices(&[]);
    assert_eq!((none.status.code(), text(&none.stdout).as_str()), (Some(0), "no notice waits on this server\n"));
    let send = |key: &str, text: &str| {
        atlas_cli::notice::send(tmp.path(), "atlas-module", key, &format!("a version of {key} was set back"), text)
            .unwrap();
    };
    send("oven", "it crashed\nsee 'atlas-module history oven'");
    send("oven", "it crashed\nsee 'atlas-module history oven'");
    send("mixer", "");
    let listed = notices(&[]);
    let told = text(&listed.stdout);
    assert_eq!(listed.status.code(), Some(3), "{told}");
    for part in
        ["atlas-module-oven\n", "2 times, from ", "    see 'atlas-module history oven'\n", "atlas-module-mixer\n"]
    {
        assert!(told.contains(part), "{part}: {told}");
    }
    let listed: Value = serde_json::from_slice(&notices(&["--json"]).stdout).unwrap();
    assert_eq!((&listed["format"], listed["notices"].as_array().unwrap().len()), (&json!(1), 2), "{listed}");

    let wrong = notices(&["done", "atlas-module-toaster"]);
    assert_eq!((wrong.status.code(), text(&wrong.stderr).contains("atlas notices")), (Some(1), true));
    assert_eq!(notices(&["done"]).status.code(), Some(2));
    let done = notices(&["done", "atlas-module-oven"]);
    assert_eq!((done.status.code(), text(&done.stdout).as_str()), (Some(0), "done: atlas-module-oven\n"));
    assert!(!text(&notices(&[]).stdout).contains("oven"));
    let all: Value = serde_json::from_slice(&notices(&["done", "--all", "--json"]).stdout).unwrap();
    assert_eq!(all, json!({"format": 1, "done": ["atlas-module-mixer"]}));
    assert_eq!(notices(&[]).status.code(), Some(0));
}
