//! `atlas history` as a person runs it, on trees in temporary directories.

#![allow(clippy::unwrap_used, reason = "a test ends where it cannot go on")]

use serde_json::Value;
use std::{
    fs,
    os::unix::fs::{MetadataExt, PermissionsExt, symlink},
    path::{Path, PathBuf},
    process::{Command, Output},
};

struct World {
    tmp: tempfile::TempDir,
}

impl World {
    fn new(role: &str) -> World {
        let world = World { tmp: tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap() };
        let partner = if role == "PRI" { "SEC1" } else { "PRI" };
        let config = format!(
            "format = 1\ncluster = \"bakery\"\nrole = \"{role}\"\n[[partner]]\nrole = \"{partner}\"\nhost = \"10.0.0.2\"\n"
        );
        for (path, content) in [
            ("etc/hostname", "bread\n"),
            ("etc/app/main.conf", "port 1\n"),
            ("etc/app/sub/more.conf", "1\n"),
            ("opt/atlas/EnvID", "1\n"),
            ("opt/atlas/Cluster", "bakery\n"),
            ("unbound/SID_DATA/MasterConfig", &config),
            (&format!("unbound/SID_DATA/{role}/Env1/IdentFilePaths"), "/etc/hostname\n"),
            (&format!("unbound/SID_DATA/{role}/Env1/SyncFilePathsSpecial"), "/etc/app\n/etc/later\n"),
        ] {
            world.write(path, content);
        }
        world.create();
        world
    }

    fn path(&self, path: &str) -> PathBuf {
        self.tmp.path().join(path)
    }

    fn write(&self, path: &str, content: &str) {
        let path = self.path(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }

    fn read(&self, path: &str) -> String {
        fs::read_to_string(self.path(path)).unwrap()
    }

    fn create(&self) {
        let status =
            Command::new(env!("CARGO_BIN_EXE_ssSync")).args(["create", "--root"]).arg(self.tmp.path()).output();
        assert!(status.unwrap().status.success());
    }

    fn run(&self, args: &[&str]) -> Output {
        Command::new(env!("CARGO_BIN_EXE_atlas-history"))
            .arg("--root")
            .arg(self.tmp.path())
            .args(args)
            .output()
            .unwrap()
    }

    fn said(&self, args: &[&str]) -> String {
        let output = self.run(args);
        assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    fn refused(&self, args: &[&str]) -> String {
        let output = self.run(args);
        assert_eq!(output.status.code(), Some(1), "{}", String::from_utf8_lossy(&output.stdout));
        String::from_utf8(output.stderr).unwrap()
    }

    /// The names of all commits, the newest first.
    fn commits(&self) -> Vec<String> {
        let listed: Value = serde_json::from_str(&self.said(&["--json"])).unwrap();
        let commits = listed["commits"].as_array().unwrap().iter();
        commits.map(|commit| commit["id"].as_str().unwrap().to_owned()).collect()
    }
}

/// Everything that counts of a tree: names, kinds, contents, modes, times and attributes.
fn picture(dir: &Path) -> Vec<String> {
    let mut lines = vec![];
    let mut todo = vec![dir.to_owned()];
    while let Some(path) = todo.pop() {
        let meta = fs::symlink_metadata(&path).unwrap();
        let content = if meta.is_file() { fs::read_to_string(&path).unwrap() } else { String::new() };
        let target = fs::read_link(&path).unwrap_or_default();
        let colour = xattr::get(&path, "user.colour").unwrap_or_default();
        let time = if meta.is_file() { meta.mtime_nsec() } else { 0 };
        lines.push(format!("{} {:o} {time} {content:?} {target:?} {colour:?}", path.display(), meta.mode()));
        if meta.is_dir() {
            todo.extend(fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
        }
    }
    lines.sort();
    lines
}

#[test]
fn changes_are_listed_and_shown_line_by_line() {
    let world = World::new("PRI");
    world.write("etc/app/main.conf", "port 2\n");
    world.create();
    let table = world.said(&[]);
    let lines: Vec<&str> = table.lines().collect();
    assert!(lines[0].starts_with("ID ") && lines.len() == 3, "{table}");
    assert!(lines[1].contains("bread") && lines[1].ends_with("taken on PRI"), "{table}");
    let commits = world.commits();
    let shown = world.said(&["show", &commits[0][..8]]);
    assert!(shown.contains("-port 1\n+port 2"), "{shown}");
    let diff = world.said(&["diff", "/etc/app/main.conf", "--from", &commits[1]]);
    assert!(diff.contains("+port 2") && !diff.contains("=entries"), "{diff}");
    assert_eq!(world.said(&["diff", "/etc/app/sub", "--from", &commits[1]]), "");
    let beside = world.run(&["diff", "/etc/app/sub", "--from", &commits[1]]).stderr;
    assert!(String::from_utf8(beside).unwrap().contains("no change of /etc/app/sub is recorded there"));
    assert!(world.refused(&["show", "ffffffff"]).contains("0 commits of PRI begin with 'ffffffff'"));
    assert!(world.refused(&["diff", "--from", "1999-01-01"]).contains("begins later"));
}

#[test]
fn a_file_and_a_directory_come_back_exactly_as_they_were() {
    let world = World::new("PRI");
    fs::set_permissions(world.path("etc/app/main.conf"), PermissionsExt::from_mode(0o640)).unwrap();
    xattr::set(world.path("etc/app/main.conf"), "user.colour", b"blue").unwrap();
    symlink("main.conf", world.path("etc/app/link")).unwrap();
    world.create();
    let before = picture(&world.path("etc/app"));
    let then = world.commits()[0].clone();
    world.write("etc/app/main.conf", "port 2\n");
    fs::set_permissions(world.path("etc/app/main.conf"), PermissionsExt::from_mode(0o600)).unwrap();
    xattr::remove(world.path("etc/app/main.conf"), "user.colour").unwrap();
    fs::remove_file(world.path("etc/app/link")).unwrap();
    fs::remove_dir_all(world.path("etc/app/sub")).unwrap();
    world.write("etc/app/stranger", "x");
    world.write("etc/hostname", "roll\n");

    let told = world.said(&["restore", "/etc/app/main.conf", "--at", &then, "--dry-run"]);
    assert!(told.contains("replaced /etc/app/main.conf") && told.contains("nothing was changed yet"), "{told}");
    assert_eq!(world.read("etc/app/main.conf"), "port 2\n");
    assert!(world.refused(&["restore", "/etc/app/main.conf", "--at", &then]).contains("--yes"));
    assert_eq!(world.read("etc/app/main.conf"), "port 2\n");

    world.said(&["restore", "/etc/app/main.conf", "--at", &then, "--yes"]);
    assert_eq!(world.read("etc/app/main.conf"), "port 1\n");
    assert!(world.path("etc/app/stranger").exists(), "only the one file was asked for");
    world.said(&["restore", "/etc/app", "--at", &then, "--yes"]);
    assert_eq!(picture(&world.path("etc/app")), before);
    assert_eq!(world.read("etc/hostname"), "roll\n");
    assert!(world.said(&["restore", "/etc/app", "--at", &then, "--yes"]).contains("nothing differs"));
    let all: Value =
        serde_json::from_str(&world.said(&["restore", "--all", "--at", &then, "--yes", "--json"])).unwrap();
    assert_eq!((&all["changes"][0], &all["done"]), (&Value::from("replaced /etc/hostname"), &Value::from(true)));
    assert_eq!(world.read("etc/hostname"), "bread\n");
    assert!(!world.path("unbound/SID_DATA/.past").exists());
}

#[test]
fn what_a_restore_replaces_is_recorded_first_and_can_be_had_back() {
    let world = World::new("PRI");
    let then = world.commits()[0].clone();
    world.write("etc/app/main.conf", "never recorded\n");
    world.said(&["restore", "/etc/app", "--at", &then, "--yes"]);
    let listed: Value = serde_json::from_str(&world.said(&["--json"])).unwrap();
    assert_eq!(listed["commits"][0]["cause"], format!("restored on PRI from {then}"));
    let replaced = listed["commits"][1]["id"].as_str().unwrap();
    world.said(&["restore", "/etc/app/main.conf", "--at", replaced, "--yes"]);
    assert_eq!(world.read("etc/app/main.conf"), "never recorded\n");
}

#[test]
fn everything_comes_back_as_it_was_at_a_time() {
    let world = World::new("PRI");
    world.write("etc/app/main.conf", "port 2\n");
    world.create();
    // Changes are told apart by the second.
    let pause = || std::thread::sleep(std::time::Duration::from_millis(1100));
    pause();
    let now = Command::new("date").args(["-u", "+%Y-%m-%d %H:%M:%S"]).output().unwrap().stdout;
    let then = String::from_utf8(now).unwrap();
    pause();
    world.write("etc/app/main.conf", "port 3\n");
    world.write("etc/later", "1\n");
    fs::remove_dir_all(world.path("etc/app/sub")).unwrap();
    world.create();
    world.said(&["restore", "--all", "--at", then.trim(), "--yes"]);
    assert_eq!(world.read("etc/app/main.conf"), "port 2\n");
    assert_eq!(world.read("etc/app/sub/more.conf"), "1\n");
    assert!(!world.path("etc/later").exists());
    assert!(world.refused(&["restore", "--all", "--at", "2001-01-01", "--yes"]).contains("begins later"));
}

#[test]
fn what_lies_in_one_directory_comes_back_at_once_be_it_identity_or_not() {
    let world = World::new("PRI");
    world.write("etc/later", "1\n");
    world.create();
    let then = world.commits()[0].clone();
    world.write("etc/hostname", "bagel\n");
    world.write("etc/later", "2\n");
    world.said(&["restore", "--all", "--at", &then, "--yes"]);
    assert_eq!((world.read("etc/hostname").as_str(), world.read("etc/later").as_str()), ("bread\n", "1\n"));
    let left: Vec<_> = fs::read_dir(world.path("etc")).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left.len(), 3, "{left:?}");
}

#[test]
fn what_was_not_there_then_goes_and_what_was_never_recorded_is_refused() {
    let world = World::new("PRI");
    let then = world.commits()[0].clone();
    world.write("etc/later", "1\n");
    world.write("etc/app/new.conf", "1\n");
    world.create();
    world.said(&["restore", "/etc/later", "--at", &then, "--yes"]);
    assert!(!world.path("etc/later").exists());
    world.said(&["restore", "/etc/app/new.conf", "--at", &then, "--yes"]);
    assert!(!world.path("etc/app/new.conf").exists());
    assert!(world.refused(&["restore", "/etc/passwd", "--at", &then, "--yes"]).contains("was on no list"));
}

#[test]
fn a_secondary_is_told_to_restore_on_pri() {
    let world = World::new("SEC1");
    let then = world.commits()[0].clone();
    world.write("etc/app/main.conf", "port 2\n");
    let told = world.refused(&["restore", "--all", "--at", &then, "--yes"]);
    assert!(told.contains("this server is SEC1") && told.contains("try: restore it on PRI"), "{told}");
    assert_eq!(world.read("etc/app/main.conf"), "port 2\n");
}

#[test]
fn files_of_another_env_version_are_not_put_back() {
    let world = World::new("PRI");
    let then = world.commits()[0].clone();
    world.write("opt/atlas/EnvID", "2\n");
    assert!(
        world
            .refused(&["restore", "--all", "--at", &then, "--yes"])
            .contains("are those of Env1, and this server is of Env2")
    );
}

#[test]
fn a_wrong_call_is_told_apart_from_a_failure() {
    let world = World::new("PRI");
    for args in [
        &["restore", "--at", "2026-01-01"][..],
        &["restore", "/x", "--all", "--at", "3f2a"],
        &["restore", "/x", "--at", "soon"],
    ] {
        assert_eq!(world.run(args).status.code(), Some(2), "{args:?}");
    }
}

#[test]
fn a_git_that_is_cut_off_anywhere_leaves_the_history_as_it_was_and_never_costs_the_snapshot() {
    let world = World::new("PRI");
    let bin = world.path("bin");
    fs::create_dir(&bin).unwrap();
    let path = std::env::var("PATH").unwrap();
    let fake = |body: &str| {
        // 'git' as it is found without this directory; only what writes is cut.
        let script = format!(
            "#!/bin/bash\nPATH='{path}'\ncase \"$*\" in *fast-import*) ;; *) exec git \"$@\" ;; esac\n{body}\n"
        );
        fs::write(bin.join("git"), script).unwrap();
        fs::set_permissions(bin.join("git"), PermissionsExt::from_mode(0o755)).unwrap();
    };
    let create = |path: &str| -> Value {
        let mut command = Command::new(env!("CARGO_BIN_EXE_ssSync"));
        let output =
            command.args(["create", "--json", "--root"]).arg(world.tmp.path()).env("PATH", path).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        serde_json::from_slice(&output.stdout).unwrap()
    };
    let with_fake = format!("{}:{path}", bin.display());
    let mut count = world.commits().len();
    let cuts: Vec<String> = [0, 1, 100, 300, 500, 700, 900]
        .iter()
        .map(|bytes| format!("head -c {bytes} | git \"$@\""))
        .chain([
            "git \"$@\" & sleep 0.05; kill -9 $!; exit 1".to_owned(),
            "git \"$@\" >/dev/null; kill -9 $$".to_owned(),
        ])
        .chain(["exit 1".to_owned(), "cat >/dev/null; echo nonsense".to_owned()])
        .collect();
    for (round, cut) in cuts.iter().enumerate() {
        fake(cut);
        world.write("etc/app/main.conf", &format!("round {round}\n"));
        let created = create(&with_fake);
        assert!(created["history_error"].is_string(), "{cut}: nothing was cut: {created}");
        assert_eq!(created["changed"], true);
        assert_eq!(world.read("unbound/SID_DATA/PRI/Env1/SyncFiles/etc/app/main.conf"), format!("round {round}\n"));
        assert_eq!(world.commits().len(), count, "{cut}");
        // Nothing changed since, and yet what was not recorded is.
        let next = create(&path);
        assert_eq!((&next["changed"], &next["recorded"]["files"]), (&Value::from(false), &Value::from(1)), "{cut}");
        count += 1;
        assert_eq!(world.commits().len(), count);
    }
    let history = world.path("unbound/SID_DATA/history");
    let fsck = Command::new("git").arg("--git-dir").arg(&history).args(["fsck", "--strict"]).output().unwrap();
    assert!(fsck.status.success(), "{}", String::from_utf8_lossy(&fsck.stderr));
    assert!(
        fs::read_dir(world.path("unbound/SID_DATA"))
            .unwrap()
            .all(|entry| { !entry.unwrap().file_name().to_string_lossy().contains("damaged") })
    );
}
