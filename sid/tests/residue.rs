//! The residue of a Snapshot goes on to the next one, on trees in temporary directories.

#![allow(clippy::unwrap_used, reason = "a test ends where something is not as it must be")]

use atlas_host::tree::Dir;
use atlas_model::{EnvVersion, Role, manifest::FileSet};
use atlas_sid::{Found, SidData, create, snapshot};
use std::{fs, path::Path};

fn write(root: &Path, path: &str, content: &str) {
    let path = root.join(path);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, content).unwrap();
}

/// The paths and the contents of the residue that a new Snapshot of `role` has.
fn residue_after_create(tmp: &Path, role: Role) -> Vec<(String, String)> {
    let sid = SidData::open(&Dir::open_root(tmp.join("unbound")).unwrap()).unwrap();
    create::create(&Dir::open_root(tmp.join("server")).unwrap(), &sid, role, EnvVersion::OLDEST).unwrap();
    let role_dir = sid.role_dir(role).unwrap().unwrap();
    let Found::Exact(snapshot) = snapshot::find(&role_dir, role, EnvVersion::OLDEST).unwrap() else { return vec![] };
    let entries = snapshot.manifest.of_set(FileSet::Residue);
    let files = entries.filter_map(|entry| {
        let content = snapshot.dir.read(Path::new("Residue").join(entry.path.relative()), 100).ok()?;
        Some((entry.path.as_path().display().to_string(), String::from_utf8(content).unwrap()))
    });
    files.collect()
}

fn unbound() -> tempfile::TempDir {
    let tmp = tempfile::tempdir().unwrap();
    for (path, content) in [
        ("server/etc/hostname", "one\n"),
        ("unbound/SID_DATA/PRI/Env1/IdentFilePaths", "/etc/hostname\n"),
        ("unbound/SID_DATA/PRI/Env1/Residue/Sync/Env2/Changes", "of PRI's services"),
        ("unbound/SID_DATA/PRI/Env1/Residue/Ident/Env2/Changes", "of PRI's identity"),
        ("unbound/SID_DATA/SEC1/Env1/IdentFilePaths", "/etc/hostname\n"),
        ("unbound/SID_DATA/SEC1/Env1/Residue/Sync/Env2/Changes", "of services as they were"),
        ("unbound/SID_DATA/SEC1/Env1/Residue/Ident/Env2/Changes", "of SEC1's identity"),
    ] {
        write(tmp.path(), path, content);
    }
    tmp
}

#[test]
fn a_primary_keeps_what_its_version_cannot_express() {
    let tmp = unbound();
    let expected = [("/Ident/Env2/Changes", "of PRI's identity"), ("/Sync/Env2/Changes", "of PRI's services")];
    let expected = expected.map(|(path, content)| (path.to_owned(), content.to_owned()));
    assert_eq!(residue_after_create(tmp.path(), Role::Pri), expected);
    assert_eq!(residue_after_create(tmp.path(), Role::Pri), expected, "the second time, from its own Snapshot");
}

#[test]
fn a_secondary_has_the_residue_of_its_own_identity_and_of_pris_services() {
    let tmp = unbound();
    let expected = [("/Ident/Env2/Changes", "of SEC1's identity"), ("/Sync/Env2/Changes", "of PRI's services")];
    let expected = expected.map(|(path, content)| (path.to_owned(), content.to_owned()));
    assert_eq!(residue_after_create(tmp.path(), Role::Sec(1)), expected);
}
