//! What changes on a secondary between two cycles is found, by what differs, and is no difference any more when it is put right.

#![allow(clippy::unwrap_used, reason = "a test ends where something is not as it must be")]

use atlas_host::tree::Dir;
use atlas_model::{EnvVersion, Role, TreePath};
use atlas_sid::{
    SidData, create,
    drift::{self, Drift, Undone, WEEK},
};
use std::{
    fs,
    os::unix::fs::{PermissionsExt, symlink},
    path::PathBuf,
};

const ENV1: EnvVersion = EnvVersion::OLDEST;
const SEC1: Role = Role::Sec(1);
const PASSWD: &str = "root:x:0:0:root:/root:/bin/bash\napp:x:1000:1000:App:/home/app:/bin/sh\n";

/// A secondary after a cycle: PRI lists /etc/app, a link, a path that is not there, and the accounts.
struct Secondary {
    tmp: tempfile::TempDir,
}

impl Secondary {
    fn new() -> Secondary {
        let server = Secondary { tmp: tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap() };
        let listed = "/etc/app\n/etc/absent\n/etc/passwd\n/etc/link\n";
        for (path, content) in [
            ("unbound/SID_DATA/PRI/Env1/IdentFilePaths", "/etc/hostname\n"),
            ("unbound/SID_DATA/PRI/Env1/SyncFilePaths", listed),
            ("unbound/SID_DATA/SEC1/Env1/IdentFilePaths", "/etc/hostname\n"),
            ("unbound/SID_DATA/SEC1/Env1/SyncFilePathsPRI", listed),
            ("unbound/SID_DATA/SEC1/Env1/SyncFilePathsSpecial", "/etc/own\n"),
            ("etc/hostname", "sec1\n"),
            ("etc/own", "own\n"),
            ("etc/passwd", PASSWD),
            ("etc/app/app.conf", "port = 1\n"),
            ("etc/app/sub/more.conf", "x\n"),
        ] {
            server.write(path, content);
        }
        symlink("app/app.conf", server.path("etc/link")).unwrap();
        server.snapshot();
        server
    }

    fn path(&self, path: &str) -> PathBuf {
        self.tmp.path().join(path)
    }

    fn write(&self, path: &str, content: &str) {
        let path = self.path(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }

    fn root(&self) -> Dir {
        Dir::open_root(self.tmp.path()).unwrap()
    }

    fn sid(&self) -> SidData {
        SidData::open(&Dir::open_root(self.path("unbound")).unwrap()).unwrap()
    }

    fn snapshot(&self) {
        create::create(&self.root(), &self.sid(), SEC1, ENV1).unwrap();
    }

    fn drift(&self) -> Drift {
        Drift::open(&self.sid(), SEC1, ENV1).unwrap().unwrap()
    }

    /// What differs, as a person reads it, after one look more.
    fn look(&self, drift: &mut Drift) -> Vec<String> {
        drift.look(&self.root()).unwrap();
        drift.found().iter().map(|(path, found)| format!("{path}: {}", found.what)).collect()
    }
}

/// A change of a secondary's tree.
type Change = fn(&Secondary);

#[test]
fn each_kind_of_change_is_told_with_what_differs_and_is_over_when_it_is_put_right() {
    let kinds: [(Change, Change, &str); 8] = [
        (
            |s| s.write("etc/app/app.conf", "port = 2\n"),
            |s| s.write("etc/app/app.conf", "port = 1\n"),
            "/etc/app/app.conf: its content",
        ),
        (
            |s| fs::set_permissions(s.path("etc/app/app.conf"), PermissionsExt::from_mode(0o600)).unwrap(),
            |s| fs::set_permissions(s.path("etc/app/app.conf"), PermissionsExt::from_mode(0o644)).unwrap(),
            "/etc/app/app.conf: its mode is 600 instead of 644",
        ),
        (
            |s| fs::rename(s.path("etc/app/app.conf"), s.path("moved")).unwrap(),
            |s| fs::rename(s.path("moved"), s.path("etc/app/app.conf")).unwrap(),
            "/etc/app/app.conf: gone",
        ),
        (
            |s| {
                fs::rename(s.path("etc/app/app.conf"), s.path("moved")).unwrap();
                fs::create_dir(s.path("etc/app/app.conf")).unwrap();
            },
            |s| {
                fs::remove_dir(s.path("etc/app/app.conf")).unwrap();
                fs::rename(s.path("moved"), s.path("etc/app/app.conf")).unwrap();
            },
            "/etc/app/app.conf: a directory instead of a file",
        ),
        (
            |s| {
                fs::remove_file(s.path("etc/link")).unwrap();
                symlink("/dev/null", s.path("etc/link")).unwrap();
            },
            |s| {
                fs::remove_file(s.path("etc/link")).unwrap();
                symlink("app/app.conf", s.path("etc/link")).unwrap();
            },
            "/etc/link: it leads to /dev/null instead of app/app.conf",
        ),
        (|s| s.write("etc/absent", "x"), |s| fs::remove_file(s.path("etc/absent")).unwrap(), "/etc/absent: new"),
        (
            |s| s.write("etc/app/sub/stranger", "x"),
            |s| fs::remove_file(s.path("etc/app/sub/stranger")).unwrap(),
            "/etc/app/sub/stranger: new",
        ),
        (
            |s| s.write("etc/passwd", &PASSWD.replace("/bin/sh", "/bin/false")),
            |s| s.write("etc/passwd", PASSWD),
            "/etc/passwd: account app: shell /bin/false instead of /bin/sh",
        ),
    ];
    let server = Secondary::new();
    let mut drift = server.drift();
    for (change, put_right, told) in kinds {
        assert!(server.look(&mut drift).is_empty());
        change(&server);
        assert_eq!(server.look(&mut drift), [told]);
        assert_eq!(server.look(&mut server.drift()), [told], "one who begins to look sees it, too");
        put_right(&server);
        assert!(server.look(&mut drift).is_empty(), "after {told}");
    }
}

#[test]
fn a_change_that_keeps_size_and_time_is_found_and_a_touch_is_none() {
    let server = Secondary::new();
    let mut drift = server.drift();
    assert!(server.look(&mut drift).is_empty());
    let file = server.path("etc/app/app.conf");
    let time = fs::metadata(&file).unwrap().modified().unwrap();
    fs::write(&file, "port = 7\n").unwrap();
    fs::File::options().write(true).open(&file).unwrap().set_modified(time).unwrap();
    assert_eq!(server.look(&mut drift), ["/etc/app/app.conf: its content"]);
    fs::write(&file, "port = 1\n").unwrap();
    assert!(server.look(&mut drift).is_empty());
}

#[test]
fn what_pri_does_not_list_and_what_is_of_one_server_alone_is_nobodys_drift() {
    let server = Secondary::new();
    let mut drift = server.drift();
    server.write("etc/own", "changed\n");
    server.write("etc/hostname", "other\n");
    server.write("etc/other", "x\n");
    let socket = std::os::unix::net::UnixListener::bind(server.path("etc/app/control")).unwrap();
    assert!(server.look(&mut drift).is_empty());
    assert!(server.look(&mut server.drift()).is_empty());
    drop(socket);
    let path = |path: &str| TreePath::parse(path).unwrap();
    assert!(!drift.look_at(&server.root(), &path("/etc/own")).unwrap());
    server.write("etc/app/app.conf", "port = 2\n");
    assert!(drift.look_at(&server.root(), &path("/etc/app/app.conf")).unwrap());
    assert_eq!(drift.found().len(), 1);
    assert!(Drift::open(&server.sid(), Role::Pri, ENV1).unwrap().is_none(), "PRI is what the others are held against");
}

#[test]
fn what_a_cycle_undid_is_known_for_a_week() {
    let server = Secondary::new();
    let then = drift::manifest(&server.sid(), SEC1, ENV1).unwrap().unwrap();
    server.write("etc/app/app.conf", "port = 2\n");
    server.write("etc/app/stays.conf", "new\n");
    server.snapshot();
    let before = drift::snapshot_dir(&server.sid(), SEC1, ENV1).unwrap().unwrap();
    server.write("etc/app/app.conf", "port = 1\n");
    server.snapshot();
    let after = drift::snapshot_dir(&server.sid(), SEC1, ENV1).unwrap().unwrap();
    let undone = drift::undone(then, &before, &after).unwrap();
    let told: Vec<String> = undone.iter().map(|(path, what)| format!("{path}: {what}")).collect();
    assert_eq!(told, ["/etc/app/app.conf: its content"], "what is still there was not undone");
    let root = server.root();
    for time in [1000, 1000 + WEEK - 1] {
        Undone::add(&root, time, &undone).unwrap();
    }
    assert_eq!(Undone::read(&root, 1000 + WEEK - 1).unwrap().len(), 2);
    assert_eq!(Undone::read(&root, 1000 + WEEK).unwrap().len(), 1);
}
