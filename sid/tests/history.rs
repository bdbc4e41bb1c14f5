//! What a Role's history says, read by stock git.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test ends where something is not as it must be")]

use atlas_host::tree::Dir;
use atlas_model::{EnvVersion, Role};
use atlas_sid::{
    SidData, create,
    history::{self, Cause},
};
use std::{
    fs,
    os::unix::{
        ffi::OsStrExt,
        fs::{PermissionsExt, symlink},
    },
    path::{Path, PathBuf},
    process::Command,
};

/// A server's tree and an Unbound file system.
struct World {
    tmp: tempfile::TempDir,
}

const ENV1: EnvVersion = EnvVersion::OLDEST;
const SEC1: Role = Role::Sec(1);

impl World {
    fn new() -> World {
        let world = World { tmp: tempfile::tempdir().unwrap() };
        for role in ["PRI", "SEC1"] {
            world.write(&format!("unbound/SID_DATA/{role}/Env1/IdentFilePaths"), "/etc/hostname\n");
            world.write(&format!("unbound/SID_DATA/{role}/Env1/SyncFilePathsSpecial"), "/etc/app\n");
        }
        world.write("pri/etc/hostname", "bread\n");
        world.write("pri/etc/app/main.conf", "port 1\n");
        world.write("sec/etc/hostname", "butter\n");
        world.write("sec/etc/app/main.conf", "port 1\n");
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

    fn sid(&self) -> SidData {
        SidData::open(&Dir::open_root(self.path("unbound")).unwrap()).unwrap()
    }

    fn history(&self) -> PathBuf {
        self.path("unbound/SID_DATA/history")
    }

    /// Takes a Snapshot and records it.
    fn create(&self, tree: &str, role: Role) -> Option<history::Recorded> {
        let created = create::create(&Dir::open_root(self.path(tree)).unwrap(), &self.sid(), role, ENV1).unwrap();
        assert_eq!(created.history_error, None);
        created.recorded
    }

    fn record(&self, role: Role) -> Result<Option<history::Recorded>, atlas_sid::SidError> {
        history::record(&self.sid(), role, &Cause::Created)
    }

    fn git(&self, args: &[&str]) -> String {
        let output = Command::new("git").arg("--git-dir").arg(self.history()).args(args).output().unwrap();
        assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).into_owned()
    }
}

#[test]
fn every_change_is_a_commit_that_stock_git_shows_and_no_change_is_none() {
    let world = World::new();
    let first = world.create("pri", Role::Pri).unwrap();
    assert_eq!((first.cause.as_str(), first.files), ("taken on PRI", 3));
    assert_eq!(world.record(Role::Pri).unwrap(), None);
    world.write("pri/etc/app/main.conf", "port 2\n");
    let second = world.create("pri", Role::Pri).unwrap();
    assert_eq!(world.git(&["rev-parse", "PRI", "PRI~1"]), format!("{}\n{}\n", second.commit, first.commit));
    let log = world.git(&["log", "-p", "-1"]);
    for expected in [
        "PRI of Env1 on bread: 1 changed",
        "M /etc/app/main.conf",
        "-port 1",
        "+port 2",
        "Cause: taken on PRI",
        "Bytes: 7",
    ] {
        assert!(log.contains(expected), "no '{expected}' in {log}");
    }
    assert!(!log.contains("etc/hostname"), "what did not change is not in the commit: {log}");
    world.git(&["fsck", "--strict"]);
    assert_eq!(fs::metadata(world.history()).unwrap().permissions().mode() & 0o7777, 0o700);
}

#[test]
fn the_pieces_put_together_are_the_manifest() {
    let world = World::new();
    world.create("pri", Role::Pri);
    world.write("pri/etc/app/sub/deep/x", "x");
    world.create("pri", Role::Pri);
    fs::remove_dir_all(world.path("pri/etc/app/sub/deep")).unwrap();
    world.write("pri/etc/app/a", "first in its directory");
    fs::set_permissions(world.path("pri/etc/app/main.conf"), PermissionsExt::from_mode(0o750)).unwrap();
    world.create("pri", Role::Pri);
    let mut lines: Vec<String> = vec![];
    for name in world.git(&["ls-tree", "-r", "--name-only", "PRI", "Manifest/"]).lines() {
        lines.extend(world.git(&["show", &format!("PRI:{name}")]).lines().map(str::to_owned));
    }
    lines.sort();
    let manifest = fs::read_to_string(world.path("unbound/SID_DATA/PRI/Env1/Manifest")).unwrap();
    let mut expected: Vec<String> = manifest.lines().map(str::to_owned).collect();
    expected.sort();
    assert_eq!(lines, expected);
    assert!(world.git(&["ls-tree", "-r", "PRI"]).contains("100755 blob"), "what is executable shows as such");
}

#[test]
fn a_local_change_on_a_secondary_shows_as_such_and_then_as_undone() {
    let world = World::new();
    world.create("pri", Role::Pri);
    assert_eq!(world.create("sec", SEC1).unwrap().cause, "first Snapshot of SEC1");
    world.write("sec/etc/app/main.conf", "port 666\n");
    assert_eq!(world.create("sec", SEC1).unwrap().cause, "changed on SEC1 itself");
    world.write("sec/etc/app/main.conf", "port 1\n");
    assert_eq!(world.create("sec", SEC1).unwrap().cause, "installed from PRI generation 1");
    world.write("pri/etc/app/new.conf", "1\n");
    world.create("pri", Role::Pri);
    world.write("sec/etc/app/new.conf", "1\n");
    world.write("sec/etc/app/own.conf", "1\n");
    world.write("sec/etc/hostname", "margarine\n");
    let mixed = world.create("sec", SEC1).unwrap();
    assert_eq!(mixed.cause, "changed on SEC1 itself (2), and installed from PRI generation 2 (1)");
    let log = world.git(&["log", "-1", "SEC1"]);
    assert!(log.contains("A /etc/app/own.conf (changed here)") && log.contains("Server: margarine"), "{log}");
    fs::remove_file(world.path("sec/etc/app/own.conf")).unwrap();
    assert_eq!(world.create("sec", SEC1).unwrap().cause, "installed from PRI generation 2");
}

#[test]
fn names_of_any_bytes_are_recorded_as_they_are() {
    let world = World::new();
    let dir = world.path("pri/etc/app");
    let names: [&[u8]; 9] =
        [b"quo\"te", b"back\\slash", b"\xff\xfe", b"tab\there", b"=entries", b" lead", b"-D", b"\xe2\x80\xae", b"end "];
    for name in names {
        fs::write(dir.join(std::ffi::OsStr::from_bytes(name)), name).unwrap();
    }
    fs::create_dir_all(dir.join(".git/objects")).unwrap();
    fs::write(dir.join(".git/config"), "[core]").unwrap();
    symlink("nowhere\n\"\u{ff}", dir.join("link")).unwrap();
    symlink("x", dir.join(".gitmodules")).unwrap();
    world.create("pri", Role::Pri).unwrap();
    world.git(&["fsck", "--strict"]);
    let mut git = Command::new("git");
    git.arg("--git-dir").arg(world.history()).args(["ls-tree", "-rz", "--name-only", "PRI"]);
    let listing = git.output().unwrap().stdout;
    for name in names {
        let name = if name == b"=entries" { b"==entries" } else { name };
        let wanted = [b"SyncFiles/etc/app/", name].concat();
        assert!(listing.split(|b| *b == 0).any(|line| line == wanted), "{}", name.escape_ascii());
    }
    assert_eq!(world.git(&["show", "PRI:SyncFiles/etc/app/=.git/config"]), "[core]");
    assert_eq!(world.git(&["cat-file", "blob", "PRI:SyncFiles/etc/app/quo\"te"]), "quo\"te");
}

#[test]
fn a_file_takes_the_place_of_a_directory_and_the_other_way() {
    let world = World::new();
    world.write("pri/etc/app/thing/inner", "1");
    world.create("pri", Role::Pri);
    fs::remove_dir_all(world.path("pri/etc/app/thing")).unwrap();
    world.write("pri/etc/app/thing", "file");
    world.create("pri", Role::Pri).unwrap();
    assert_eq!(world.git(&["show", "PRI:SyncFiles/etc/app/thing"]), "file");
    fs::remove_file(world.path("pri/etc/app/thing")).unwrap();
    world.write("pri/etc/app/thing/inner", "2");
    world.create("pri", Role::Pri).unwrap();
    assert_eq!(world.git(&["show", "PRI:SyncFiles/etc/app/thing/inner"]), "2");
    assert!(!world.git(&["ls-tree", "-r", "PRI~1"]).contains("thing/=entries"));
}

#[test]
fn a_changed_path_list_alone_is_recorded() {
    let world = World::new();
    world.create("pri", Role::Pri);
    world.write("unbound/SID_DATA/PRI/Env1/SyncFilePathsWeb", "# nothing yet\n");
    let recorded = world.create("pri", Role::Pri).unwrap();
    assert_eq!(recorded.files, 0);
    assert!(world.git(&["show", "PRI"]).contains("+# nothing yet"));
    // As an editor does that writes into the file.
    let list = fs::File::options().append(true).open(world.path("unbound/SID_DATA/PRI/Env1/SyncFilePathsWeb"));
    std::io::Write::write_all(&mut list.unwrap(), b"# nor now\n").unwrap();
    world.create("pri", Role::Pri).unwrap();
    assert!(world.git(&["show", "PRI"]).contains("+# nor now"));
}

#[test]
fn what_is_lost_beside_the_repository_is_taken_out_of_it_again() {
    let world = World::new();
    world.create("pri", Role::Pri);
    fs::remove_dir_all(world.history().join("recorded")).unwrap();
    assert_eq!(world.record(Role::Pri).unwrap(), None);
    world.git(&["pack-refs", "--all"]);
    fs::remove_dir_all(world.history().join("recorded")).unwrap();
    world.write("pri/etc/app/main.conf", "port 3\n");
    assert_eq!(world.create("pri", Role::Pri).unwrap().files, 1);
    assert_eq!(world.git(&["rev-list", "--count", "PRI"]), "2\n");
}

#[test]
fn a_damaged_history_is_kept_and_a_new_one_begun() {
    type Damage = fn(&Path);
    let damages: [Damage; 4] = [
        |history| {
            for pack in fs::read_dir(history.join("objects/pack")).unwrap() {
                let pack = pack.unwrap().path();
                fs::set_permissions(&pack, PermissionsExt::from_mode(0o600)).unwrap();
                fs::write(&pack, "rotten").unwrap();
            }
        },
        |history| fs::write(history.join("refs/heads/PRI"), "0123456789012345678901234567890123456789\n").unwrap(),
        |history| fs::write(history.join("refs/heads/PRI"), "").unwrap(),
        |history| {
            fs::remove_dir_all(history).unwrap();
            fs::write(history, "no directory").unwrap();
        },
    ];
    for damage in damages {
        let world = World::new();
        world.create("pri", Role::Pri);
        damage(&world.history());
        world.write("pri/etc/app/main.conf", "port 4\n");
        let recorded = world.create("pri", Role::Pri).unwrap();
        let aside = recorded.set_aside.unwrap();
        assert!(aside.exists());
        assert_eq!(recorded.files, 3, "a new history begins with everything");
        assert_eq!(world.git(&["rev-list", "--count", "PRI"]), "1\n");
    }
}

#[test]
fn a_commit_that_was_cut_off_damages_nothing_and_goes() {
    let world = World::new();
    world.create("pri", Role::Pri);
    // As a power cut leaves them: names that were committed before their content.
    let incoming = world.history().join("incoming");
    for name in
        ["pack-0123456789012345678901234567890123456789.pack", "pack-0123456789012345678901234567890123456789.idx"]
    {
        fs::create_dir_all(incoming.join("objects/pack")).unwrap();
        fs::write(incoming.join("objects/pack").join(name), "").unwrap();
    }
    world.git(&["fsck", "--full"]);
    world.write("pri/etc/app/main.conf", "port 6\n");
    let recorded = world.create("pri", Role::Pri).unwrap();
    assert_eq!((recorded.files, recorded.set_aside), (1, None));
    world.git(&["fsck", "--full"]);
    assert_eq!(world.git(&["rev-list", "--count", "PRI"]), "2\n");
    assert!(!incoming.exists());
}

#[test]
fn a_failure_that_is_no_damage_keeps_the_history_and_the_next_time_records_both() {
    let world = World::new();
    world.create("pri", Role::Pri);
    let first = world.git(&["rev-parse", "PRI"]);
    world.write("pri/etc/app/main.conf", "port 5\n");
    world.create("pri", Role::Pri);
    // As if the power had gone before the branch was changed.
    fs::write(world.history().join("refs/heads/PRI"), first).unwrap();
    // The copy is not what the Manifest says: the Snapshot is at fault, not the history.
    let copy = world.path("unbound/SID_DATA/PRI/Env1/SyncFiles/etc/app/main.conf");
    fs::rename(&copy, world.path("away")).unwrap();
    assert!(world.record(Role::Pri).is_err());
    assert_eq!(world.git(&["rev-list", "--count", "PRI"]), "1\n");
    fs::rename(world.path("away"), &copy).unwrap();
    assert_eq!(world.record(Role::Pri).unwrap().unwrap().files, 1);
    assert!(
        fs::read_dir(world.path("unbound/SID_DATA"))
            .unwrap()
            .all(|entry| { !entry.unwrap().file_name().to_string_lossy().contains("damaged") })
    );
}

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig { cases: 24, ..Default::default() })]
    #[test]
    fn whatever_names_and_contents_were_recorded_comes_back_byte_for_byte(
        files in proptest::collection::btree_map(
            proptest::collection::vec(proptest::collection::vec(1_u8.., 1..12), 1..4),
            proptest::collection::vec(proptest::prelude::any::<u8>(), 0..60),
            1..8,
        ),
    ) {
        let world = World::new();
        let app = world.path("pri/etc/app");
        for (names, content) in &files {
            let names = names.iter().map(|name| std::ffi::OsStr::from_bytes(name));
            let bad = |name: &std::ffi::OsStr| name == "." || name == ".." || name.as_bytes().iter().any(|b| matches!(b, b'/' | b'\n'));
            if names.clone().any(bad) {
                continue;
            }
            let path = names.fold(app.clone(), |path, name| path.join(name));
            // One name may be a file here and a directory there: the first one stays.
            if fs::create_dir_all(path.parent().unwrap()).is_ok() && !path.exists() {
                fs::write(&path, content).unwrap();
            }
        }
        world.create("pri", Role::Pri);
        let sid = world.sid();
        let commit = history::query::log(&sid, Role::Pri, 1).unwrap().remove(0);
        let published = fs::read(world.path("unbound/SID_DATA/PRI/Env1/Manifest")).unwrap();
        let past = history::query::past(&sid, &commit, |_, _| true).unwrap();
        let snapshot = past.snapshot().unwrap();
        proptest::prop_assert_eq!(snapshot.manifest.to_file().unwrap(), published);
        for entry in snapshot.manifest.entries() {
            let copies = snapshot.files(entry.set).unwrap().unwrap();
            if let atlas_model::manifest::Kind::File { sha256, .. } = &entry.kind {
                let content = copies.read(entry.path.relative(), 1000).unwrap();
                proptest::prop_assert_eq!(&atlas_model::Digest::of(&content), sha256);
            }
        }
    }
}
