//! ssCoreHandler as it is called: crashes that are counted, told, exchanged and reported.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test ends where something is not as it must be")]

mod common;

use atlas_host::{mount, testing::own_mounts};
use common::{Environment, build, built, crash};
use serde_json::Value;
use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
};

const PROGRAM: &str = env!("CARGO_BIN_EXE_ssCoreHandler");
const BUILD: Environment = built("gcc", "gcc -O1 -g -pthread -w");

/// A server's tree, with a program that crashes.
struct Server {
    root: tempfile::TempDir,
    dir: PathBuf,
}

impl Server {
    fn new() -> Server {
        let root = tempfile::tempdir().unwrap();
        let dir = build(root.path(), "faults.c", &BUILD);
        fs::create_dir_all(root.path().join("etc")).unwrap();
        fs::write(root.path().join("etc/hostname"), "pri.example.org\n").unwrap();
        // The tree's programs are where the cores say.
        let below = root.path().join(dir.parent().unwrap().strip_prefix("/").unwrap());
        fs::create_dir_all(below.parent().unwrap()).unwrap();
        std::os::unix::fs::symlink(dir.parent().unwrap(), &below).unwrap();
        for library in ["lib", "lib64", "usr"] {
            std::os::unix::fs::symlink(Path::new("/").join(library), root.path().join(library)).unwrap();
        }
        Server { root, dir }
    }

    fn path(&self, path: &str) -> PathBuf {
        self.root.path().join(path)
    }

    /// Lets the program crash, and puts the core where ssCoreHandler looks.
    fn crash(&self, way: &str, name: &str) -> PathBuf {
        let core = crash(&self.dir, way, "");
        fs::create_dir_all(self.path("var/lib/atlas/cores")).unwrap();
        let place = self.path("var/lib/atlas/cores").join(name);
        fs::rename(core, &place).unwrap();
        place
    }

    fn call(&self, arguments: &[&str]) -> Output {
        Command::new(PROGRAM).arg("--root").arg(self.root.path()).args(arguments).output().unwrap()
    }

    fn json(&self, arguments: &[&str]) -> Value {
        let output = self.call(&[&["--json"], arguments].concat());
        serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{output:?}"))
    }

    fn only(&self) -> Value {
        let list = self.json(&["list"]);
        assert_eq!(list["crashes"].as_array().unwrap().len(), 1, "{list}");
        list["crashes"][0].clone()
    }
}

#[test]
fn a_new_crash_is_told_once_and_a_known_one_is_counted() {
    let server = Server::new();
    let core = server.crash("1", "core.1");
    let first = server.call(&["scan"]);
    assert_eq!(first.status.code(), Some(3), "{first:?}");
    assert!(String::from_utf8_lossy(&first.stdout).starts_with("NEW crash"), "{first:?}");
    assert!(!core.exists(), "the core was left");
    server.crash("1", "core.2");
    let second = server.call(&["scan"]);
    assert_eq!(second.status.code(), Some(0), "{second:?}");
    let entry = server.only();
    assert_eq!((&entry["count"], &entry["by_server"]["pri.example.org"]), (&Value::from(2), &Value::from(2)));
    assert_eq!(entry["strength"], "strong", "{entry}");
    let kept = fs::read_dir(server.path("var/lib/atlas/crashes/cores")).unwrap().count();
    assert_eq!(kept, 1);
}

#[test]
fn a_core_that_is_met_again_after_a_kill_is_not_counted_twice() {
    let server = Server::new();
    server.crash("1", "core.1");
    // With --keep the core stays, as it does when a kill comes before its removal; the list of handled ones is lost, too.
    server.call(&["scan", "--keep"]);
    fs::remove_file(server.path("var/lib/atlas/crashes/handled.json")).unwrap();
    server.call(&["scan", "--keep"]);
    assert_eq!(server.only()["count"], 1);
}

#[test]
fn writers_at_once_count_every_core() {
    let server = Server::new();
    for number in 0..6 {
        server.crash(if number % 2 == 0 { "1" } else { "4" }, &format!("core.{number}"));
    }
    std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| server.call(&["scan"]));
        }
    });
    server.call(&["scan"]);
    let list = server.json(&["list"]);
    let counts: Vec<u64> =
        list["crashes"].as_array().unwrap().iter().map(|entry| entry["count"].as_u64().unwrap()).collect();
    assert_eq!(counts, [3, 3], "{list}");
}

#[test]
fn a_kill_at_any_time_loses_no_occurrence_and_counts_none_twice() {
    let server = Server::new();
    for number in 0..4 {
        server.crash("1", &format!("core.{number}"));
    }
    let mut killed = 0;
    for delay in 1..40 {
        let mut child = Command::new(PROGRAM)
            .arg("--root")
            .arg(server.root.path())
            .arg("scan")
            .stdout(std::process::Stdio::null())
            .spawn()
            .unwrap();
        std::thread::sleep(std::time::Duration::from_millis(delay * 4));
        child.kill().unwrap();
        killed += usize::from(child.wait().unwrap().code().is_none());
    }
    assert!(killed > 0, "no kill came in time");
    server.call(&["scan"]);
    assert_eq!(server.only()["count"], 4);
}

#[test]
fn limits_of_count_size_and_age_drop_cores_and_never_facts() {
    let server = Server::new();
    let kept = || fs::read_dir(server.path("var/lib/atlas/crashes/cores")).unwrap().map(|core| core.unwrap().path());
    let mut counted = 0;
    let mut count = |way: &str, limit: [&str; 2]| {
        server.crash(way, "core.1");
        counted += 1;
        assert!(server.call(&["scan", limit[0], limit[1]]).status.code().is_some_and(|code| code != 1));
        let list = server.json(&["list"]);
        let sum: u64 = list["crashes"].as_array().unwrap().iter().map(|entry| entry["count"].as_u64().unwrap()).sum();
        assert_eq!(sum, counted, "{list}");
    };
    count("1", ["--max-cores", "2"]);
    count("4", ["--max-cores", "2"]);
    count("5", ["--max-cores", "2"]);
    assert_eq!(kept().count(), 2);
    let long_ago = std::time::SystemTime::now() - std::time::Duration::from_secs(10 * 86400);
    kept().for_each(|core| fs::File::options().write(true).open(core).unwrap().set_modified(long_ago).unwrap());
    count("12", ["--max-days", "20"]);
    assert_eq!(kept().count(), 3);
    count("15", ["--max-days", "5"]);
    assert_eq!(kept().count(), 2);
    count("18", ["--max-mib", "0"]);
    assert_eq!(kept().count(), 0);
    assert_eq!(server.json(&["list"])["crashes"].as_array().unwrap().len(), 6);
}

#[test]
fn an_explanation_shows_raw_and_cleaned_side_by_side_with_the_rules() {
    let server = Server::new();
    let core = crash(&server.dir, "2", "");
    let output = server.call(&["signature", "--explain", core.to_str().unwrap()]);
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let line = |cleaned: &str| {
        let found = text.lines().find(|line| line.contains(cleaned));
        found.unwrap_or_else(|| panic!("{cleaned} is not in\n{text}")).to_owned()
    };
    let library = line("[strlen]");
    // Which rule it is depends on whether debug symbols of the C library are installed.
    let has_rule = ["c-strings", "libc"].iter().any(|rule| library.ends_with(rule));
    assert!(library.contains("registers") && has_rule, "how it was found, and the rule: {library}");
    assert_eq!(line("x_measure").matches("x_measure").count(), 2, "raw and cleaned: {text}");
    assert!(text.lines().any(|line| line.contains("start-up")), "what started the program is left out: {text}");
    let signed = text.split("):\n").nth(1).unwrap().split("\n\n").next().unwrap();
    assert!(signed.starts_with("strong\nprogram faults\nmemory\n[strlen]\nx_measure\n"), "{signed}");
}

#[test]
fn what_one_site_knows_another_learns_and_is_not_told_again() {
    let (here, there) = (Server::new(), Server::new());
    here.crash("4", "core.1");
    here.call(&["scan"]);
    let signature = here.only()["signature"].as_str().unwrap().to_owned();
    here.call(&["note", &signature[..10], "fixed in v3"]);
    let file = here.path("known.txt");
    assert!(here.call(&["export", file.to_str().unwrap()]).status.success());
    let first = there.json(&["import", file.to_str().unwrap()]);
    let again = there.json(&["import", file.to_str().unwrap()]);
    assert_eq!((&first["new"], &again["new"], &again["same"]), (&Value::from(1), &Value::from(0), &Value::from(1)));
    there.crash("4", "core.1");
    let scanned = there.call(&["scan"]);
    assert_eq!(scanned.status.code(), Some(0), "{scanned:?}");
    let entry = there.only();
    assert_eq!((&entry["count"], &entry["notes"][0]), (&Value::from(1), &Value::from("fixed in v3")));
    assert_eq!(there.call(&["export"]).stdout, fs::read(&file).unwrap());
}

#[test]
fn a_report_explains_itself_and_names_no_host_and_no_argument() {
    let server = Server::new();
    let log = server.path("var/log/atlas/LOG.faults");
    fs::create_dir_all(log.parent().unwrap()).unwrap();
    fs::write(&log, "started on pri.example.org by admin@example.org\n").unwrap();
    let core = crash(&server.dir, "16 12345678", "ATLAS_RUN_LOG=/var/log/atlas/LOG.faults");
    fs::create_dir_all(server.path("var/lib/atlas/cores")).unwrap();
    fs::rename(core, server.path("var/lib/atlas/cores/core")).unwrap();
    server.call(&["scan"]);
    let signature = server.only()["signature"].as_str().unwrap().to_owned();
    let file = server.path("report.tar");
    let output = server.call(&["report", &signature, "-o", file.to_str().unwrap()]);
    assert!(output.status.success(), "{output:?}");
    let listed = Command::new("tar").args(["-tf", file.to_str().unwrap()]).output().unwrap();
    let names = String::from_utf8_lossy(&listed.stdout).into_owned();
    for name in ["README.txt", "cleaned.txt", "raw.txt", "modules.txt", "system.txt", "redacted.txt", "logs/LOG.faults"]
    {
        assert!(names.contains(name), "{name} is not in {names}");
    }
    assert!(!names.contains("core.zst"));
    let all = Command::new("tar").args(["-xOf", file.to_str().unwrap()]).output().unwrap();
    let all = String::from_utf8_lossy(&all.stdout).into_owned();
    assert!(all.contains("[server-1]") && all.contains("[mail]"), "{all}");
    assert!(!all.contains("pri.example.org") && !all.contains("12345678"), "{all}");
    let with_core = server.path("with-core.tar");
    server.call(&["report", &signature, "--with-core", "-o", with_core.to_str().unwrap()]);
    let listed = Command::new("tar").args(["-tf", with_core.to_str().unwrap()]).output().unwrap();
    assert!(String::from_utf8_lossy(&listed.stdout).contains("core.zst"));
}

#[test]
fn the_log_of_the_run_is_known_from_the_core() {
    let server = Server::new();
    let core = crash(&server.dir, "1", "ATLAS_RUN_LOG=/var/log/atlas/LOG.x");
    let signature = server.json(&["signature", core.to_str().unwrap()]);
    assert_eq!(signature["log"], "/var/log/atlas/LOG.x");
}

#[test]
fn a_kernel_crash_is_an_entry_of_its_own() {
    let server = Server::new();
    let place = server.path("var/lib/systemd/pstore/123");
    fs::create_dir_all(&place).unwrap();
    let log = "<1>[ 1.0] BUG: kernel NULL pointer dereference, address: 0\n<4>[ 1.0] RIP: 0010:md_do_sync+0x30/0x1500 [md_mod]\n";
    fs::write(place.join("dmesg.txt"), log).unwrap();
    assert_eq!(server.call(&["scan"]).status.code(), Some(3));
    assert_eq!(server.call(&["scan"]).status.code(), Some(0));
    let entry = server.only();
    assert_eq!((&entry["program"], &entry["count"]), (&Value::from("kernel"), &Value::from(1)));
}

#[test]
fn two_events_of_one_kernel_log_are_two_entries_and_counted_once() {
    let server = Server::new();
    let place = server.path("var/crash/202611281200");
    fs::create_dir_all(&place).unwrap();
    let hung = "[ 1.0] INFO: task sync:45 blocked for more than 120 seconds.\n[ 1.0] Call Trace:\n[ 1.0]  wait_on_sync+0x1/0x2\n";
    let fault = "[ 9.0] general protection fault: 0000 [#1] SMP\n[ 9.0] RIP: 0010:raid1d+0x1/0x2 [raid1]\n";
    let alone = Server::new();
    fs::create_dir_all(alone.path("var/crash/202611281200")).unwrap();
    fs::write(alone.path("var/crash/202611281200/dmesg.202611281200"), fault).unwrap();
    fs::write(place.join("dmesg.202611281200"), format!("{hung}{fault}")).unwrap();
    assert_eq!(alone.call(&["scan"]).status.code(), Some(3));
    for code in [3, 0] {
        assert_eq!(server.call(&["scan"]).status.code(), Some(code));
        let listed = server.json(&["list"]);
        let crashes = listed["crashes"].as_array().unwrap();
        assert_eq!(crashes.len(), 2, "{listed}");
        assert!(crashes.iter().all(|crash| crash["count"] == 1), "{listed}");
        assert!(crashes.iter().any(|crash| crash["signature"] == alone.only()["signature"]), "{listed}");
    }
}

#[test]
fn a_kernel_crash_that_lies_in_several_places_is_counted_once() {
    let server = Server::new();
    let put = |path: &str, text: &str| {
        let path = server.path(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    };
    let oops = "<1>[ 1.0] BUG: kernel NULL pointer dereference, address: 0\n<4>[ 1.0] Oops: 0000\n";
    let place = "<4>[ 1.0] RIP: 0010:md_do_sync+0x30/0x1500 [md_mod]\n";
    let whole = format!("{oops}{place}");
    // As systemd-pstore lays them down: the whole, and the parts that the firmware gave, one of which begins in the middle.
    put("var/lib/systemd/pstore/1795338000/dmesg.txt", &whole);
    put("var/lib/systemd/pstore/1795338000/dmesg-efi-179533800001001", &format!("<4>[ 1.0] Oops: 0000\n{place}"));
    put("var/crash/202611210900/dmesg.202611210900", &whole.replace("<1>", "").replace("<4>", ""));
    assert_eq!(server.call(&["scan"]).status.code(), Some(3));
    assert_eq!(server.only()["count"], 1, "{}", server.only());
    put("var/crash/202611211000/dmesg.202611211000", &whole.replace("[ 1.0]", "[ 7.5]"));
    assert_eq!(server.call(&["scan"]).status.code(), Some(0));
    assert_eq!(server.only()["count"], 2, "{}", server.only());
}

#[test]
fn of_a_kernel_log_of_any_size_only_the_end_is_read() {
    let server = Server::new();
    let path = server.path("var/crash/202611210900/dmesg.202611210900");
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    let file = fs::File::create(&path).unwrap();
    let oops =
        "\n[ 1.0] BUG: kernel NULL pointer dereference, address: 0\n[ 1.0] RIP: 0010:md_do_sync+0x30/0x1500 [md_mod]\n";
    std::os::unix::fs::FileExt::write_all_at(&file, oops.as_bytes(), 200 << 30).unwrap();
    // A link to what others may not see, at such a name, is not followed.
    std::os::unix::fs::symlink("/etc/shadow", path.with_file_name("dmesg.link")).unwrap();
    assert_eq!(server.call(&["scan"]).status.code(), Some(3));
    assert!(server.only()["text"].as_str().unwrap().contains("md_do_sync"));
}

#[test]
fn resigning_by_the_same_rules_changes_nothing_and_by_older_entries_moves_them() {
    let server = Server::new();
    server.crash("1", "core.1");
    server.call(&["scan"]);
    assert_eq!(server.json(&["resign"])["changed"], Value::Array(vec![]));
    // An entry as older rules had made it: another signature, the same raw traceback.
    let entries = server.path("var/lib/atlas/crashes/entries");
    let right = server.only()["signature"].as_str().unwrap().to_owned();
    let old = "0".repeat(64);
    let text = fs::read_to_string(entries.join(format!("{right}.json"))).unwrap().replace(&right, &old);
    fs::remove_file(entries.join(format!("{right}.json"))).unwrap();
    fs::write(entries.join(format!("{old}.json")), text).unwrap();
    let changed = server.json(&["resign"]);
    assert_eq!(changed["changed"][0], serde_json::json!([old, right]), "{changed}");
    let entry = server.only();
    assert_eq!((entry["signature"].as_str(), &entry["count"]), (Some(right.as_str()), &Value::from(1)));
}

#[test]
fn a_program_that_was_replaced_gives_no_names_and_says_so() {
    let server = Server::new();
    let core = crash(&server.dir, "1", "");
    fs::remove_file(server.dir.join("faults")).unwrap();
    let other = Environment { build: "gcc -O2 -pthread -w -DOTHER", ..BUILD };
    build(server.root.path(), "faults.c", &other);
    let signature = server.json(&["signature", core.to_str().unwrap()]);
    assert_eq!(signature["strength"], "weak");
    assert!(!signature["raw"].to_string().contains("x_walk"), "{signature}");
    assert!(signature["weaknesses"].to_string().contains("not proven"), "{signature}");
}

/// Crashes in functions that -O2 copies into others, with and without debug information of the program; each crash is counted.
fn crash_inlined(server: &Server, with_debug: &[bool]) {
    build(server.root.path(), "faults.c", &Environment { build: "gcc -O2 -g -pthread -w", ..BUILD });
    common::shell(&server.dir, "mv faults full; strip --strip-debug -o bare full");
    for (number, with_debug) in with_debug.iter().enumerate() {
        // Another file each time: the one that was run may still be held.
        common::shell(&server.dir, &format!("cp {} new; mv new faults", if *with_debug { "full" } else { "bare" }));
        server.crash("13", &format!("core.{number}"));
        server.call(&["scan"]);
    }
}

#[test]
fn a_server_without_debug_information_and_one_with_it_count_the_same_crash() {
    let told = [[false, true, true, false], [true, false, false, true]].map(|with_debug| {
        let server = Server::new();
        crash_inlined(&server, &with_debug);
        let entry = server.only();
        assert_eq!((&entry["count"], &entry["is_complete"]), (&Value::from(4), &Value::Bool(true)), "{entry}");
        assert_eq!(entry["also"].as_array().unwrap().len(), 1, "nothing was inlined: {entry}");
        assert_eq!(fs::read_dir(server.path("var/lib/atlas/crashes/cores")).unwrap().count(), 1);
        assert_eq!(server.json(&["resign"])["changed"], Value::Array(vec![]));
        (entry["signature"].clone(), entry["also"].clone(), entry["text"].clone())
    });
    assert_eq!(told[0], told[1]);
}

#[test]
fn sites_with_and_without_debug_information_know_each_other_s_crash() {
    let (with, without) = (Server::new(), Server::new());
    crash_inlined(&with, &[true]);
    crash_inlined(&without, &[false]);
    let names = [&with, &without].map(|server| server.only()["signature"].as_str().unwrap().to_owned());
    assert_ne!(names[0], names[1], "nothing was inlined");
    for (from, to) in [(&without, &with), (&with, &without)] {
        let file = from.path("known.txt");
        from.call(&["export", file.to_str().unwrap()]);
        assert!(to.call(&["import", file.to_str().unwrap()]).status.success());
        let again = to.json(&["import", file.to_str().unwrap()]);
        assert_eq!((&again["new"], &again["changed"]), (&Value::from(0), &Value::from(0)), "{again}");
    }
    for server in [&with, &without] {
        assert_eq!((&server.only()["signature"], &server.only()["count"]), (&names[0].as_str().into(), &1.into()));
        assert!(server.call(&["show", &names[1]]).status.success(), "the plain name finds it, too");
    }
    assert_eq!(with.call(&["export"]).stdout, without.call(&["export"]).stdout);
}

/// The place of the store, on a disk of this size.
fn small_store(server: &Server, size_bytes: u64) -> PathBuf {
    let place = server.path("var/lib/atlas/crashes");
    fs::create_dir_all(&place).unwrap();
    mount::memory(&place, size_bytes).unwrap();
    place
}

#[test]
fn on_a_full_disk_the_fact_is_kept_and_the_core_is_not() {
    if !own_mounts("on_a_full_disk_the_fact_is_kept_and_the_core_is_not") {
        return;
    }
    let server = Server::new();
    let place = small_store(&server, 40 << 10);
    // An environment that does not pack well makes the core larger than the disk.
    let core = crash(&server.dir, "1", "X=$(head -c 60000 /dev/urandom | base64 -w0)");
    fs::create_dir_all(server.path("var/lib/atlas/cores")).unwrap();
    fs::rename(core, server.path("var/lib/atlas/cores/core.1")).unwrap();
    let first = server.call(&["scan"]);
    assert_eq!(first.status.code(), Some(3), "{first:?}");
    assert_eq!(server.only()["count"], 1);
    assert_eq!(fs::read_dir(place.join("cores")).unwrap().count(), 0, "the disk was not full");
    server.crash("1", "core.2");
    server.call(&["scan"]);
    assert_eq!(server.only()["count"], 2);
}

#[test]
fn where_not_even_a_fact_can_be_written_the_core_waits() {
    if !own_mounts("where_not_even_a_fact_can_be_written_the_core_waits") {
        return;
    }
    let server = Server::new();
    let place = small_store(&server, 4 << 10);
    fs::write(place.join("filler"), [0; 4096]).unwrap();
    let core = server.crash("1", "core.1");
    let refused = server.call(&["scan"]);
    assert_eq!(refused.status.code(), Some(1), "{refused:?}");
    assert!(String::from_utf8_lossy(&refused.stderr).contains("No space left"), "{refused:?}");
    assert!(core.exists());
    mount::unmount(&place).unwrap();
    assert_eq!(server.call(&["scan"]).status.code(), Some(3));
    assert_eq!(server.only()["count"], 1);
}
