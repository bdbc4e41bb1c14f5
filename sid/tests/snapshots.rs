//! Snapshots from a server's tree to another's, on trees in temporary directories.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test ends where something is not as it must be")]

use atlas_host::{testing::own_mounts, tree::Dir};
use atlas_model::{EnvVersion, Role, manifest::FileSet};
use atlas_sid::{Found, SidData, SidError, create, install::Plan, snapshot};
use std::{
    fs,
    os::unix::fs::{PermissionsExt, symlink},
    path::{Path, PathBuf},
};

/// Two servers' root trees and one Unbound file system.
struct World {
    tmp: tempfile::TempDir,
}

const ENV1: EnvVersion = EnvVersion::OLDEST;

impl World {
    fn new(ident_paths: &str) -> World {
        let tmp = tempfile::tempdir().unwrap();
        let world = World { tmp };
        for (path, content) in [
            ("a/etc/hostname", "pri\n"),
            ("a/etc/systemd/network/10-lan.network", "[Network]\nAddress=10.0.0.1/24\n"),
            ("b/etc/hostname", "sec1\n"),
            ("b/etc/systemd/network/20-old.network", "[Network]\nAddress=10.0.0.2/24\n"),
            ("b/etc/resolv.conf", "nameserver 10.0.0.9\n"),
            ("b/etc/other", "untouched"),
            ("unbound/SID_DATA/PRI/Env1/IdentFilePaths", ident_paths),
        ] {
            world.write(path, content);
        }
        symlink("/usr/share/zoneinfo/UTC", world.path("a/etc/localtime")).unwrap();
        fs::set_permissions(world.path("a/etc/hostname"), PermissionsExt::from_mode(0o640)).unwrap();
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

    fn dir(&self, path: &str) -> Dir {
        Dir::open_root(self.path(path)).unwrap()
    }

    fn sid(&self) -> SidData {
        SidData::open(&self.dir("unbound")).unwrap()
    }

    fn create(&self, root: &str) -> Result<create::Created, SidError> {
        create::create(&self.dir(root), &self.sid(), Role::Pri, ENV1)
    }

    fn find(&self, version: EnvVersion) -> Result<Found, SidError> {
        let role_dir = self.sid().role_dir(Role::Pri)?.expect("the role directory was made");
        snapshot::find(&role_dir, Role::Pri, version)
    }

    fn install(&self, root: &str) -> Result<Vec<String>, SidError> {
        let Found::Exact(snapshot) = self.find(ENV1)? else { panic!("no exact Snapshot") };
        let root = self.dir(root);
        let changes = Plan::make(&root, &snapshot, FileSet::Ident)?.stage(&root)?.commit()?;
        Ok(changes.iter().map(ToString::to_string).collect())
    }
}

/// Every path below `dir` with what it is, for comparing a tree with itself later.
fn picture(dir: &Path) -> Vec<String> {
    let mut lines = Vec::new();
    let mut todo = vec![dir.to_owned()];
    while let Some(path) = todo.pop() {
        let meta = fs::symlink_metadata(&path).unwrap();
        let content = if meta.is_file() { fs::read(&path).unwrap() } else { vec![] };
        lines.push(format!("{} {:o} {content:?}", path.display(), meta.permissions().mode()));
        if meta.is_dir() {
            todo.extend(fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
        }
    }
    lines.sort();
    lines
}

const IDENT: &str = "/etc/hostname\n/etc/localtime\n/etc/resolv.conf\n/etc/systemd/network\n";

#[test]
fn an_identity_moves_from_one_server_to_another_and_leaves_nothing_of_the_old_one() {
    let world = World::new(IDENT);
    world.create("a").unwrap();
    let socket = world.path("b/etc/systemd/network/socket");
    let _program = std::os::unix::net::UnixListener::bind(&socket).unwrap();
    let mut changes = world.install("b").unwrap();
    changes.sort();
    assert!(socket.exists(), "a socket is the program's that made it");
    assert_eq!(
        changes,
        [
            "added /etc/localtime",
            "added /etc/systemd/network/10-lan.network",
            "removed /etc/resolv.conf",
            "removed /etc/systemd/network/20-old.network",
            "replaced /etc/hostname",
        ]
    );
    assert_eq!(world.read("b/etc/hostname"), "pri\n");
    assert_eq!(fs::metadata(world.path("b/etc/hostname")).unwrap().permissions().mode() & 0o7777, 0o640);
    assert_eq!(fs::read_link(world.path("b/etc/localtime")).unwrap(), Path::new("/usr/share/zoneinfo/UTC"));
    assert_eq!(world.read("b/etc/other"), "untouched");
    assert_eq!(world.install("b").unwrap(), Vec::<String>::new(), "a second install has nothing to do");
    assert!(picture(&world.path("b")).iter().all(|line| !line.contains(".atlas-tmp-")));
}

#[test]
fn a_whole_directory_is_added_where_there_was_none_or_a_file() {
    let world = World::new("/etc/conf.d\n/etc/thing\n");
    world.write("a/etc/conf.d/deep/er/file", "x");
    world.write("a/etc/thing/file", "y");
    world.write("b/etc/thing", "a file where a directory comes");
    world.create("a").unwrap();
    assert_eq!(world.install("b").unwrap(), ["added /etc/conf.d", "replaced /etc/thing"]);
    assert_eq!((world.read("b/etc/conf.d/deep/er/file"), world.read("b/etc/thing/file")), ("x".into(), "y".into()));
    assert_eq!(world.install("b").unwrap(), Vec::<String>::new());
}

#[test]
fn a_create_that_fails_changes_nothing_that_is_published() {
    let world = World::new(IDENT);
    world.create("a").unwrap();
    let before = picture(&world.path("unbound/SID_DATA/PRI"));
    fs::remove_dir_all(world.path("a/etc/systemd")).unwrap();
    symlink("/etc", world.path("a/etc/systemd")).unwrap();
    assert!(matches!(world.create("a"), Err(SidError::LeadsOut { .. })));
    assert_eq!(picture(&world.path("unbound/SID_DATA/PRI")), before);
    assert!(!world.path("unbound/SID_DATA/.next-PRI").exists());
}

#[test]
fn a_link_in_the_target_tree_is_refused_and_nothing_is_changed() {
    let world = World::new(IDENT);
    world.create("a").unwrap();
    fs::rename(world.path("b/etc/systemd"), world.path("b/elsewhere")).unwrap();
    symlink("../elsewhere", world.path("b/etc/systemd")).unwrap();
    let before = picture(&world.path("b"));
    assert!(matches!(world.install("b"), Err(SidError::LeadsOut { .. })));
    assert_eq!(picture(&world.path("b")), before);
}

#[test]
fn a_link_in_the_snapshot_is_refused() {
    let world = World::new(IDENT);
    world.create("a").unwrap();
    let files = world.path("unbound/SID_DATA/PRI/Env1/IdentFiles/etc");
    fs::rename(&files, world.path("moved")).unwrap();
    symlink(world.path("moved"), &files).unwrap();
    assert!(matches!(world.install("b"), Err(SidError::LeadsOut { .. })));
}

#[test]
fn a_copy_that_was_damaged_on_the_disk_is_refused_before_anything_is_changed() {
    let world = World::new(IDENT);
    world.create("a").unwrap();
    let copy = "unbound/SID_DATA/PRI/Env1/IdentFiles/etc/systemd/network/10-lan.network";
    let rotten = world.read(copy).replace("10.0.0.1", "10.0.0.7");
    let before = picture(&world.path("b"));
    for damage in [Some(rotten), None] {
        match damage {
            Some(content) => fs::write(world.path(copy), content).unwrap(),
            None => fs::remove_file(world.path(copy)).unwrap(),
        }
        assert!(matches!(world.install("b"), Err(SidError::Damaged { .. })));
        assert_eq!(picture(&world.path("b")), before);
    }
}

#[test]
fn from_scratch_is_not_an_error_but_a_lost_snapshot_is() {
    let world = World::new(IDENT);
    assert!(matches!(world.find(ENV1), Ok(Found::FromScratch)));
    assert!(matches!(world.find(ENV1.newer().unwrap()), Ok(Found::FromScratch)), "lists of an older version do");
    world.create("a").unwrap();
    assert!(matches!(world.find(ENV1.newer().unwrap()), Ok(Found::Older(_))));
    fs::remove_file(world.path("unbound/SID_DATA/PRI/SnapshotEnvVersion")).unwrap();
    assert!(matches!(world.find(ENV1), Err(SidError::Damaged { .. })));
    fs::remove_dir_all(world.path("unbound/SID_DATA/PRI/Env1")).unwrap();
    assert!(matches!(world.find(ENV1), Err(SidError::NoSnapshot { .. })));
}

#[test]
fn a_snapshot_of_a_newer_server_alone_cannot_serve_an_older_one() {
    let world = World::new(IDENT);
    world.create("a").unwrap();
    let role = world.path("unbound/SID_DATA/PRI");
    fs::rename(role.join("Env1"), role.join("Env2")).unwrap();
    fs::write(role.join("SnapshotEnvVersion"), "2\n").unwrap();
    assert!(matches!(world.find(ENV1), Err(SidError::NoSnapshot { .. })));
}

#[test]
fn a_manifest_of_another_role_or_with_unlisted_paths_is_refused() {
    let world = World::new(IDENT);
    world.create("a").unwrap();
    let manifest = "unbound/SID_DATA/PRI/Env1/Manifest";
    let good = world.read(manifest);
    world.write(manifest, &good.replacen("\"PRI\"", "\"SEC1\"", 1));
    assert!(matches!(world.find(ENV1), Err(SidError::Damaged { .. })));
    world.write(manifest, &good.replace("/etc/hostname", "/etc/shadow"));
    assert!(matches!(world.find(ENV1), Err(SidError::Damaged { .. })));
    world.write(manifest, &good.replace("/etc/hostname", "/etc/../shadow"));
    assert!(matches!(world.find(ENV1), Err(SidError::Manifest { .. })));
    world.write(manifest, &good);
    world.write("unbound/SID_DATA/PRI/Env1/IdentFilePaths", "/etc/../shadow\n");
    assert!(matches!(world.find(ENV1), Err(SidError::PathList { .. })));
}

#[test]
fn a_full_disk_at_staging_leaves_the_tree_as_it_was() {
    if !own_mounts("a_full_disk_at_staging_leaves_the_tree_as_it_was") {
        return;
    }
    let world = World::new("/etc/hostname\n/etc/big\n");
    world.write("a/etc/big", &"x".repeat(3 << 20));
    world.create("a").unwrap();
    let small = world.path("small");
    fs::create_dir(&small).unwrap();
    atlas_host::mount::memory(&small, 1 << 20).unwrap();
    fs::create_dir(small.join("etc")).unwrap();
    fs::write(small.join("etc/hostname"), "sec1\n").unwrap();
    let before = picture(&small);
    let result = world.install("small");
    let after = picture(&small);
    let Err(SidError::File(error)) = result else { panic!("{result:?}") };
    assert_eq!(error.source.raw_os_error(), Some(nix::libc::ENOSPC));
    assert_eq!(after, before);
}
