//! Whole cycles between real programs, each server a tree in a temporary directory; only the ssh between them is left out.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test ends where it cannot go on")]

use serde_json::Value;
use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Command, Output},
};

/// Three servers below one directory: PRI, SEC1 and SEC2, all of Env1.
struct Cluster {
    tmp: tempfile::TempDir,
}

fn write(root: &Path, path: &str, content: &str) {
    let path = root.join(path);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, content).unwrap();
}

fn partner(role: &str) -> String {
    format!("[[partner]]\nrole = \"{role}\"\nhost = \"{}\"\n", role.to_lowercase())
}

impl Cluster {
    fn new() -> Cluster {
        let cluster = Cluster { tmp: tempfile::tempdir().unwrap() };
        for (role, partners) in [("PRI", vec!["SEC1", "SEC2"]), ("SEC1", vec!["PRI"]), ("SEC2", vec!["PRI"])] {
            let root = cluster.root(role);
            let partners: String = partners.into_iter().map(partner).collect();
            let config = format!("format = 1\ncluster = \"bakery\"\nrole = \"{role}\"\n{partners}");
            write(&root, "unbound/SID_DATA/MasterConfig", &config);
            write(&root, "opt/atlas/EnvID", "1\n");
            write(&root, "opt/atlas/Cluster", "bakery\n");
            write(&root, "etc/hostname", &format!("{}\n", role.to_lowercase()));
            write(&root, &format!("unbound/SID_DATA/{role}/Env1/IdentFilePaths"), "/etc/hostname\n");
            let listed = if role == "PRI" { "/etc/app\n" } else { "" };
            write(&root, &format!("unbound/SID_DATA/{role}/Env1/SyncFilePathsSpecial"), listed);
        }
        for (name, content) in [("app.conf", "port = 1\n"), ("sub/more.conf", "x\n"), ("secret", "s\n")] {
            write(&cluster.root("PRI"), &format!("etc/app/{name}"), content);
        }
        fs::set_permissions(cluster.root("PRI").join("etc/app/secret"), fs::Permissions::from_mode(0o600)).unwrap();
        let call = format!(
            "#!/bin/sh\nexec {} serve --root {}/\"$1\"\n",
            env!("CARGO_BIN_EXE_ssSync"),
            cluster.tmp.path().display()
        );
        cluster.answer_with(&call);
        cluster
    }

    fn root(&self, role: &str) -> PathBuf {
        self.tmp.path().join(role)
    }

    /// What takes the place of ssh: called with the Role and the host.
    fn answer_with(&self, script: &str) {
        let path = self.tmp.path().join("call");
        fs::write(&path, script).unwrap();
        fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
    }

    fn ss_sync(&self, role: &str, args: &[&str]) -> Output {
        // With no more open files than systemd gives to a service.
        let mut command = Command::new("prlimit");
        command.args(["--nofile=1024", env!("CARGO_BIN_EXE_ssSync")]).args(args).arg("--root").arg(self.root(role));
        command.output().unwrap()
    }

    /// Runs a cycle; gives its exit code and report.
    fn cycle(&self) -> (i32, Value) {
        let call = self.tmp.path().join("call").display().to_string();
        let output = self.ss_sync("PRI", &["cycle", "--json", "--rsh", &call]);
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        let report = serde_json::from_slice(&output.stdout).unwrap_or(Value::String(error));
        (output.status.code().unwrap(), report)
    }

    fn synced(&self) -> Value {
        let (code, report) = self.cycle();
        assert_eq!(code, 0, "{report:#}");
        report
    }

    fn read(&self, role: &str, path: &str) -> String {
        fs::read_to_string(self.root(role).join(path)).unwrap_or_else(|error| panic!("{role} {path}: {error}"))
    }

    fn partner<'r>(report: &'r Value, role: &str) -> &'r Value {
        report["partners"].as_array().unwrap().iter().find(|partner| partner["role"] == role).unwrap()
    }
}

#[test]
fn a_cycle_brings_every_secondary_to_what_pri_has() {
    let cluster = Cluster::new();
    let report = cluster.synced();
    for role in ["SEC1", "SEC2"] {
        assert_eq!(cluster.read(role, "etc/app/app.conf"), "port = 1\n");
        assert_eq!(cluster.read(role, "etc/app/sub/more.conf"), "x\n");
        let mode = fs::metadata(cluster.root(role).join("etc/app/secret")).unwrap().permissions().mode();
        assert_eq!(mode & 0o7777, 0o600);
        assert_eq!(cluster.read(role, "etc/hostname"), format!("{}\n", role.to_lowercase()), "the identity is its own");
        let at_pri = cluster.read("PRI", &format!("unbound/SID_DATA/{role}/Env1/IdentFiles/etc/hostname"));
        assert_eq!(at_pri, format!("{}\n", role.to_lowercase()));
        let partner = Cluster::partner(&report, role);
        assert_eq!((&partner["outcome"], &partner["secondary"]["installed"]), (&"synced".into(), &1.into()));
        assert_eq!(partner["sent"]["files"], 4);
    }
}

#[test]
fn only_what_changed_travels_and_what_pri_removed_goes() {
    let cluster = Cluster::new();
    cluster.synced();
    let report = cluster.synced();
    assert_eq!((&report["changed"], &report["generation"]), (&false.into(), &1.into()), "{report:#}");
    assert_eq!(Cluster::partner(&report, "SEC1")["sent"]["changed"], false);
    assert_eq!(Cluster::partner(&report, "SEC1")["received"]["changed"], false);

    write(&cluster.root("PRI"), "etc/app/app.conf", "port = 2\n");
    fs::remove_dir_all(cluster.root("PRI").join("etc/app/sub")).unwrap();
    let report = cluster.synced();
    assert_eq!(Cluster::partner(&report, "SEC1")["sent"]["files"], 1);
    for role in ["SEC1", "SEC2"] {
        assert_eq!(cluster.read(role, "etc/app/app.conf"), "port = 2\n");
        assert!(!cluster.root(role).join("etc/app/sub").exists());
    }
}

/// Copies programs into a server's tree, with the libraries that they need there.
fn lend(root: &Path, programs: &[&str]) {
    for program in programs {
        let program = format!("/bin/{program}");
        let libraries = Command::new("ldd").arg(&program).output().unwrap();
        let libraries = String::from_utf8(libraries.stdout).unwrap();
        let paths = libraries.split_whitespace().filter(|word| word.starts_with('/'));
        for path in paths.chain([program.as_str()]) {
            let to = root.join(&path[1..]);
            fs::create_dir_all(to.parent().unwrap()).unwrap();
            fs::copy(path, to).unwrap();
        }
    }
}

#[test]
fn what_a_converter_says_though_it_ends_well_is_told_as_a_problem() {
    let cluster = Cluster::new();
    let sec2 = cluster.root("SEC2");
    write(&sec2, "opt/atlas/EnvID", "2\n");
    fs::rename(sec2.join("unbound/SID_DATA/SEC2/Env1"), sec2.join("unbound/SID_DATA/SEC2/Env2")).unwrap();
    lend(&sec2, &["sh", "cp", "rm"]);
    let converter = "opt/atlas/bin/SyncConverter2";
    write(
        &sec2,
        converter,
        "#!/bin/sh\ncp -Rp \"$2/.\" \"$3\" && rm \"$3/Manifest\" && echo \"the $1 version: \u{1b}[31mtoo new\"\n",
    );
    fs::set_permissions(sec2.join(converter), fs::Permissions::from_mode(0o755)).unwrap();
    let (code, report) = cluster.cycle();
    assert_eq!((code, &Cluster::partner(&report, "SEC2")["outcome"]), (3, &"synced".into()), "{report:#}");
    let problems = report["problems"].as_array().unwrap();
    assert!(problems.iter().all(|problem| problem["server"] == "SEC2"), "{report:#}");
    for direction in ["newer", "older"] {
        let told = format!("a conversion: the {direction} version: [31mtoo new");
        assert!(problems.iter().any(|problem| problem["what"] == told.as_str()), "{report:#}");
    }
    cluster.synced();
}

#[test]
fn more_directories_may_change_than_files_may_be_open() {
    let cluster = Cluster::new();
    let file = |n: usize| format!("etc/app/{n:04}/index");
    for content in ["first", "second"] {
        (0..1100).for_each(|n| write(&cluster.root("PRI"), &file(n), content));
        cluster.synced();
        for sec in ["SEC1", "SEC2"] {
            assert!((0..1100).all(|n| cluster.read(sec, &file(n)) == content), "{content} at {sec}");
        }
    }
}

#[test]
fn a_local_change_is_undone_and_told() {
    let cluster = Cluster::new();
    cluster.synced();
    write(&cluster.root("SEC1"), "etc/app/app.conf", "port = 666\n");
    write(&cluster.root("SEC1"), "etc/app/stray.conf", "here\n");
    let report = cluster.synced();
    assert_eq!(Cluster::partner(&report, "SEC1")["secondary"]["changed_locally"], true);
    assert_eq!(Cluster::partner(&report, "SEC2")["secondary"]["changed_locally"], false);
    assert_eq!(cluster.read("SEC1", "etc/app/app.conf"), "port = 1\n");
    assert!(!cluster.root("SEC1").join("etc/app/stray.conf").exists());
    let told = ["/etc/app/app.conf (its content)", "/etc/app/stray.conf (new)"];
    assert_eq!(Cluster::partner(&report, "SEC1")["secondary"]["undone"], serde_json::json!(told));
    let kept: Value = serde_json::from_str(&cluster.read("SEC1", "var/lib/atlas/install/undone.json")).unwrap();
    assert_eq!(kept["undone"].as_array().unwrap().len(), 2, "the Verifier there tells them");
    assert!(!cluster.root("SEC2").join("var/lib/atlas/install/undone.json").exists());
}

#[test]
fn pri_s_history_shows_what_was_changed_on_a_secondary_and_undone() {
    let cluster = Cluster::new();
    let history = |role: &str, args: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_atlas-history"));
        let output = command.args(args).arg("--root").arg(cluster.root(role)).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    };
    let causes = || -> Vec<String> {
        let listed: Value = serde_json::from_str(&history("PRI", &["--role", "SEC1", "--json"])).unwrap();
        listed["commits"]
            .as_array()
            .unwrap()
            .iter()
            .map(|commit| commit["cause"].as_str().unwrap().to_owned())
            .collect()
    };
    cluster.synced();
    cluster.synced();
    let before = causes().len();
    for content in ["port = 666\n", "port = 667\n"] {
        write(&cluster.root("SEC1"), "etc/app/app.conf", content);
        cluster.synced();
    }
    let undone = "changed on SEC1 itself, and undone by a cycle";
    assert_eq!(causes()[..causes().len() - before], [undone, undone], "each as it was made, and nothing else");
    let listed: Value = serde_json::from_str(&history("PRI", &["--json"])).unwrap();
    for commit in listed["commits"].as_array().unwrap() {
        let id = commit["id"].as_str().unwrap();
        let shown = history("PRI", &["show", &id[..10]]);
        assert!(shown.contains(id), "'show' takes every id that the list has: {shown}");
        if commit["cause"] == undone {
            assert!(shown.contains("U /etc/app/app.conf (its content)"), "{shown}");
            let own = shown
                .lines()
                .find_map(|line| line.trim().strip_prefix("what was in them: on SEC1, atlas history show "));
            assert!(history("SEC1", &["show", own.unwrap()]).contains("+port = 66"));
        }
    }
    // What comes after it is recorded as before.
    write(&cluster.root("PRI"), "etc/app/app.conf", "port = 2\n");
    cluster.synced();
    assert_eq!(causes()[0], "installed from PRI generation 2");
}

#[test]
fn what_lies_in_a_directory_that_pri_begins_to_list_goes_where_pri_does_not_have_it() {
    let cluster = Cluster::new();
    cluster.synced();
    let (pri, sec) = (cluster.root("PRI"), cluster.root("SEC1"));
    write(&pri, "etc/new/both.conf", "pri\n");
    for empty in ["etc/new/empty", "etc/new/deep/empty"] {
        fs::create_dir_all(pri.join(empty)).unwrap();
        write(&sec, &format!("{empty}/stray.conf"), "here\n");
    }
    write(&sec, "etc/new/stray.conf", "here\n");
    write(&pri, "unbound/SID_DATA/PRI/Env1/SyncFilePathsSpecial", "/etc/app\n/etc/new\n");
    cluster.synced();
    for stray in ["etc/new/stray.conf", "etc/new/empty/stray.conf", "etc/new/deep/empty/stray.conf"] {
        assert!(!sec.join(stray).exists(), "{stray}");
    }
    assert!(sec.join("etc/new/deep/empty").is_dir());
    assert_eq!(cluster.read("SEC1", "etc/new/both.conf"), "pri\n");
    // Listed now: one that comes is found by this server's own Snapshot.
    write(&sec, "etc/new/empty/stray.conf", "again\n");
    cluster.synced();
    assert!(!sec.join("etc/new/empty/stray.conf").exists());
}

#[test]
fn what_a_cycle_installed_that_was_cut_off_then_is_no_local_change() {
    let cluster = Cluster::new();
    cluster.synced();
    let call = cluster.tmp.path().join("call").display().to_string();
    // SEC1 has installed it, and made no Snapshot of it any more.
    let install_only = |port: &str| {
        write(&cluster.root("PRI"), "etc/app/app.conf", port);
        for (role, args) in [("PRI", &["create"][..]), ("PRI", &["send", "--rsh", &call]), ("SEC1", &["install"])] {
            let output = cluster.ss_sync(role, args);
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        }
        assert_eq!(cluster.read("SEC1", "etc/app/app.conf"), port);
    };
    let secondary = |report: &Value| Cluster::partner(report, "SEC1")["secondary"].clone();
    install_only("port = 2\n");
    let done = secondary(&cluster.synced());
    assert_eq!((&done["changed_locally"], &done["local_commit"]), (&false.into(), &Value::Null), "{done:#}");

    // Both at once: what was changed there is found.
    install_only("port = 3\n");
    write(&cluster.root("SEC1"), "etc/app/stray.conf", "here\n");
    let done = secondary(&cluster.synced());
    assert_eq!(done["changed_locally"], true, "{done:#}");
    assert!(done["local_commit"].is_string(), "{done:#}");
}

#[test]
fn the_history_on_both_sides_says_who_changed_what() {
    let cluster = Cluster::new();
    cluster.synced();
    write(&cluster.root("SEC1"), "etc/app/app.conf", "port = 666\n");
    let report = cluster.synced();
    let log = |role: &str, branch: &str| {
        let repository = cluster.root(role).join("unbound/SID_DATA/history");
        let output = Command::new("git").arg("--git-dir").arg(repository).args(["log", "-p", branch]).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    };
    let at_sec1 = log("SEC1", "SEC1");
    for (what, times) in [("+port = 666", 1), ("-port = 666", 1), ("changed on SEC1 itself", 1)] {
        assert_eq!(at_sec1.matches(what).count(), times, "{what}\n{at_sec1}");
    }
    assert!(at_sec1.contains("installed from PRI generation 1"), "{at_sec1}");
    let commit = Cluster::partner(&report, "SEC1")["secondary"]["local_commit"].as_str().unwrap().to_owned();
    assert!(at_sec1.contains(&commit));
    assert!(log("PRI", "PRI").contains("+port = 1"), "PRI's own");
    assert!(log("PRI", "SEC2").contains("+port = 1"), "what SEC2 sent");
}

#[test]
fn a_dead_partner_holds_up_nobody_else() {
    let cluster = Cluster::new();
    let dead = format!(
        "#!/bin/sh\n[ $1 = SEC2 ] && {{ echo 'No route to host' >&2; exit 255; }}\nexec {} serve --root {}/$1\n",
        env!("CARGO_BIN_EXE_ssSync"),
        cluster.tmp.path().display()
    );
    cluster.answer_with(&dead);
    let (code, report) = cluster.cycle();
    assert_eq!(code, 3);
    assert_eq!(Cluster::partner(&report, "SEC1")["outcome"], "synced");
    let lost = Cluster::partner(&report, "SEC2");
    assert_eq!(lost["outcome"], "unreachable");
    assert!(lost["why"].as_str().unwrap().contains("No route to host"), "{lost:#}");
    assert!(report["problems"][0]["hint"].as_str().unwrap().contains("network"));
}

#[test]
fn a_slow_partner_holds_up_nobody_else() {
    let cluster = Cluster::new();
    // The first one answers when the second one has taken everything over.
    let done = cluster.root("SEC2").join("run/atlas/synced.json");
    let slow = format!(
        "#!/bin/sh\nif [ $1 = SEC1 ]; then\nfor i in $(seq 600); do [ -e {0} ] && break; sleep 0.1; done\n[ -e {0} ] || exit 9\nfi\n\
         exec {1} serve --root {2}/$1\n",
        done.display(),
        env!("CARGO_BIN_EXE_ssSync"),
        cluster.tmp.path().display()
    );
    cluster.answer_with(&slow);
    cluster.synced();
    let time = |role: &str| fs::metadata(cluster.root(role).join("run/atlas/synced.json")).unwrap().modified().unwrap();
    assert!(time("SEC2") < time("SEC1"), "the slow one was not slow");
}

#[test]
fn who_is_not_who_it_should_be_is_refused_and_nothing_is_written() {
    let cluster = Cluster::new();
    let swapped = format!(
        "#!/bin/sh\nexec {} serve --root {}/SEC1\n",
        env!("CARGO_BIN_EXE_ssSync"),
        cluster.tmp.path().display()
    );
    cluster.answer_with(&swapped);
    let (code, report) = cluster.cycle();
    assert_eq!(code, 3);
    let wrong = Cluster::partner(&report, "SEC2");
    assert_eq!(wrong["outcome"], "refused", "{wrong:#}");
    assert!(wrong["why"].as_str().unwrap().contains("SEC2"), "{wrong:#}");
    assert!(!cluster.root("PRI").join("unbound/SID_DATA/SEC2").exists());

    // Two servers that hold Role PRI: each is told, nothing is sent.
    let config = cluster.read("PRI", "unbound/SID_DATA/MasterConfig");
    write(&cluster.root("SEC1"), "unbound/SID_DATA/MasterConfig", &config);
    let (_, report) = cluster.cycle();
    assert_eq!(Cluster::partner(&report, "SEC1")["outcome"], "refused");
    let told = cluster.read("SEC1", "var/lib/atlas/notices/ssSync-refused-PRI.json");
    assert!(told.contains("two servers hold Role PRI"), "{told}");
}

#[test]
fn an_old_copy_of_pris_disks_is_refused_until_an_operator_accepts_it() {
    let cluster = Cluster::new();
    cluster.synced();
    let copy = cluster.tmp.path().join("old");
    let cp =
        |from: &Path, to: &Path| assert!(Command::new("cp").arg("-a").args([from, to]).status().unwrap().success());
    cp(&cluster.root("PRI"), &copy);
    cluster.synced();
    fs::remove_dir_all(cluster.root("PRI")).unwrap();
    cp(&copy, &cluster.root("PRI"));
    write(&cluster.root("PRI"), "etc/app/app.conf", "port = 0\n");
    let (code, report) = cluster.cycle();
    assert_eq!(code, 3);
    let refused = Cluster::partner(&report, "SEC1");
    assert_eq!(refused["outcome"], "refused");
    assert!(refused["why"].as_str().unwrap().contains("old copy"), "{refused:#}");
    assert_eq!(cluster.read("SEC1", "etc/app/app.conf"), "port = 1\n");

    assert_eq!(cluster.ss_sync("SEC1", &["accept", "PRI"]).status.code(), Some(1), "it asks first");
    for (role, partner) in [("SEC1", "PRI"), ("SEC2", "PRI"), ("PRI", "SEC1"), ("PRI", "SEC2")] {
        assert_eq!(cluster.ss_sync(role, &["accept", partner, "--yes"]).status.code(), Some(0));
    }
    cluster.synced();
    assert_eq!(cluster.read("SEC1", "etc/app/app.conf"), "port = 0\n");
}

#[test]
fn a_partner_that_talks_nonsense_costs_one_report_and_nothing_else() {
    let cluster = Cluster::new();
    let nonsense =
        "#!/bin/sh\ncase $1 in SEC1) head -c 100000 /dev/zero;; *) printf '\\377\\377\\377\\377'; cat;; esac\n";
    cluster.answer_with(nonsense);
    let (code, report) = cluster.cycle();
    assert_eq!(code, 3);
    for role in ["SEC1", "SEC2"] {
        let partner = Cluster::partner(&report, role);
        assert_eq!(partner["outcome"], "failed", "{partner:#}");
        assert!(partner["why"].as_str().unwrap().contains("protocol"), "{partner:#}");
        assert!(!cluster.root("PRI").join("unbound/SID_DATA").join(role).exists());
    }
}

#[test]
fn suspended_nothing_runs_and_the_reason_is_told() {
    let cluster = Cluster::new();
    let ctrl = |args: &[&str]| {
        Command::new(env!("CARGO_BIN_EXE_ssSyncCtrl"))
            .args(args)
            .arg("--root")
            .arg(cluster.root("PRI"))
            .output()
            .unwrap()
    };
    assert!(ctrl(&["suspend", "new mail server"]).status.success());
    let (code, said) = cluster.cycle();
    assert_eq!(code, 1);
    assert!(said.as_str().unwrap().contains("new mail server"), "{said}");
    let status = ctrl(&["status"]);
    assert_eq!(status.status.code(), Some(3));
    assert!(String::from_utf8_lossy(&status.stdout).contains("new mail server"));
    assert!(ctrl(&["resume"]).status.success());
    cluster.synced();
}

#[test]
fn keys_are_trusted_for_one_command_by_the_partners_that_master_config_lists() {
    let cluster = Cluster::new();
    let said = |output: Output| {
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    };
    let key = said(cluster.ss_sync("PRI", &["keys"]));
    assert!(key.starts_with("ssh-ed25519 "));
    assert_eq!(key, said(cluster.ss_sync("PRI", &["keys"])), "it is made once");
    said(cluster.ss_sync("SEC1", &["trust", "PRI", key.trim()]));
    said(cluster.ss_sync("SEC1", &["trust", "PRI", key.trim()]));
    let authorized = cluster.read("SEC1", "unbound/SID_DATA/keys/authorized_keys");
    let run = "/opt/atlas/bin/ssRun --session --roll 20M --keep-size 200M --handler-deadline 2";
    let expected = format!("restrict,command=\"{run} -- /opt/atlas/bin/ssSync serve\" {} PRI\n", key.trim());
    assert_eq!(authorized, expected);
    assert_eq!(cluster.ss_sync("SEC1", &["trust", "SEC2", key.trim()]).status.code(), Some(1));
    assert_eq!(cluster.ss_sync("SEC1", &["trust", "PRI", "command=\"sh\" ssh-ed25519 AAAA"]).status.code(), Some(1));
}

#[test]
fn the_loop_begins_a_cycle_at_once_and_again_soon_after_a_listed_file_changed() {
    let cluster = Cluster::new();
    let (root, log) = (cluster.root("PRI"), cluster.tmp.path().join("log"));
    let test_data = "etc/.atlas-verify";
    write(&root, test_data, "x");
    write(&root, "unbound/SID_DATA/PRI/Env1/SyncFilePathsSvcnfs", &format!("/{test_data}\n"));
    cluster.synced();
    assert_eq!(cluster.read("SEC1", test_data), "x");
    let note = format!("echo cycle >> {}", log.display());
    let args = ["--cycles", "2", "--every", "3600", "--settle", "0", "--command", &note];
    let mut running =
        Command::new(env!("CARGO_BIN_EXE_ssSyncLoop")).args(args).arg("--root").arg(&root).spawn().unwrap();
    let cycles = || fs::read_to_string(&log).unwrap_or_default().lines().count();
    let until = std::time::Instant::now() + std::time::Duration::from_secs(60);
    while cycles() < 1 && std::time::Instant::now() < until {
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    assert_eq!(cycles(), 1);
    // What a partner's Verifier does in an export of PRI.
    for _ in 0..10 {
        write(&root, test_data, "x");
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
    assert_eq!(cycles(), 1, "test data that was written began a cycle");
    // Again and again: the first may come before the program watches.
    while running.try_wait().unwrap().is_none() && std::time::Instant::now() < until {
        write(&root, "etc/app/app.conf", "port = 3\n");
        std::thread::sleep(std::time::Duration::from_millis(100));
    }
    assert!(running.try_wait().unwrap().is_some_and(|status| status.success()), "the change was not seen");
    assert_eq!(cycles(), 2);
}

#[test]
fn the_loop_waits_on_a_secondary() {
    let cluster = Cluster::new();
    let mut running = Command::new(env!("CARGO_BIN_EXE_ssSyncLoop"))
        .args(["--cycles", "1", "--command", "true", "--root"])
        .arg(cluster.root("SEC1"))
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let mut said = std::io::BufReader::new(running.stderr.take().unwrap());
    let mut line = String::new();
    std::io::BufRead::read_line(&mut said, &mut line).unwrap();
    assert!(line.contains("PRI drives"), "{line}");
    assert!(running.try_wait().unwrap().is_none(), "it did not wait");
    running.kill().unwrap();
    running.wait().unwrap();
}
