use super::*;
use std::{fs, os::unix::fs::PermissionsExt};

/// A PRI with one VerifyService of its own, whose answer is the file `found`.
fn pri() -> tempfile::TempDir {
    let tmp = tempfile::tempdir().unwrap();
    let write = |path: &str, content: &str| {
        let path = tmp.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, content).unwrap();
    };
    write("opt/atlas/EnvID", "1\n");
    write("opt/atlas/Cluster", "bakery\n");
    write(
        "unbound/SID_DATA/MasterConfig",
        "format = 1\ncluster = \"bakery\"\nrole = \"PRI\"\n[[partner]]\nrole = \"SEC1\"\nhost = \"sec1\"\n",
    );
    write("unbound/SID_DATA/PRI/SnapshotEnvVersion", "1\n");
    write("unbound/SID_DATA/PRI/Env1/IdentFilePaths", "/etc/hostname\n");
    write("unbound/www/index.html", "the client's");
    write("etc/passwd", "root:x:0:0::/root:/bin/sh\n");
    let script = format!("#!/bin/sh\n[ \"$1\" = setup ] && exec cat {}\nexit 3\n", tmp.path().join("found").display());
    atlas_host::testing::write_program(&tmp.path().join("etc/atlas/verify.d/page"), &script);
    tmp
}

/// Has the VerifyService find one page in this directory, and runs SetUp.
fn set_up(root: &Path, dir: Option<&str>) -> (Report, FoundService) {
    let place = dir.map(|dir| TestData {
        path: format!("{dir}/.atlas-verify.html"),
        content: "page".into(),
        mode: 0o644,
        ..TestData::default()
    });
    let found = Found {
        format: 1,
        paths: vec!["/etc/page.conf".into()],
        place: place.into_iter().collect(),
        ..Found::default()
    };
    fs::write(root.join("found"), serde_json::to_string(&found).unwrap()).unwrap();
    let report = run(root).unwrap().unwrap();
    let page = report.services.services["page"].clone();
    (report, page)
}

fn listed(root: &Path) -> String {
    fs::read_to_string(root.join("unbound/SID_DATA/PRI/Env1/SyncFilePathsSvcpage")).unwrap()
}

#[test]
fn test_data_is_placed_listed_moved_along_and_cleaned_up() {
    let tmp = pri();
    let root = tmp.path();
    let (report, page) = set_up(root, Some("/unbound/www"));
    assert_eq!((report.placed.len(), page.problems.len()), (1, 0), "{page:?}");
    assert_eq!(fs::read_to_string(root.join("unbound/www/.atlas-verify.html")).unwrap(), "page");
    assert!(listed(root).contains("/unbound/www/.atlas-verify.html\n") && listed(root).contains("/etc/page.conf\n"));
    let secret = fs::read(root.join("etc/atlas/verifier/secret")).unwrap();
    assert_eq!(fs::metadata(root.join("etc/atlas/verifier/secret")).unwrap().permissions().mode() & 0o777, 0o600);

    let (report, _) = set_up(root, Some("/unbound/www"));
    assert!(report.placed.is_empty() && report.removed.is_empty(), "nothing changed, nothing is done");

    // A release that takes the place of the one before has no page.
    assert!(gone(root).unwrap().is_empty());
    fs::remove_file(root.join("unbound/www/.atlas-verify.html")).unwrap();
    assert_eq!(gone(root).unwrap(), ["/unbound/www/.atlas-verify.html"]);
    fs::rename(root.join("unbound/www"), root.join("unbound/away")).unwrap();
    assert!(gone(root).unwrap().is_empty(), "nothing is placed in a directory that is not there");
    fs::rename(root.join("unbound/away"), root.join("unbound/www")).unwrap();
    assert_eq!(set_up(root, Some("/unbound/www")).0.placed.len(), 1);
    assert_eq!(fs::read(root.join("etc/atlas/verifier/secret")).unwrap(), secret);

    fs::create_dir(root.join("unbound/new")).unwrap();
    let (report, _) = set_up(root, Some("/unbound/new"));
    assert_eq!(
        (report.placed.as_slice(), report.removed.as_slice()),
        (&["/unbound/new/.atlas-verify.html".to_owned()][..], &["/unbound/www/.atlas-verify.html".to_owned()][..])
    );
    assert!(
        listed(root).contains("/unbound/www/.atlas-verify.html\n"),
        "listed while it is gone, so that the secondaries lose it, too"
    );
    assert_eq!(fs::read_to_string(root.join("unbound/www/index.html")).unwrap(), "the client's");

    let (report, _) = set_up(root, None);
    assert_eq!(report.removed, ["/unbound/new/.atlas-verify.html"]);
}

#[test]
fn what_somebody_else_put_there_is_neither_written_over_nor_removed() {
    let tmp = pri();
    let root = tmp.path();
    fs::write(root.join("unbound/www/.atlas-verify.html"), "mine").unwrap();
    let (_, page) = set_up(root, Some("/unbound/www"));
    assert!(page.problems[0].contains("somebody else's file"), "{page:?}");
    fs::remove_file(root.join("unbound/www/.atlas-verify.html")).unwrap();
    set_up(root, Some("/unbound/www"));
    fs::write(root.join("unbound/www/.atlas-verify.html"), "changed").unwrap();
    let (report, _) = set_up(root, None);
    assert!(report.removed.is_empty() && root.join("unbound/www/.atlas-verify.html").exists());
}

#[test]
fn nothing_is_placed_where_or_as_it_must_not_be() {
    let tmp = pri();
    let root = tmp.path();
    std::os::unix::fs::symlink("/etc", root.join("unbound/link")).unwrap();
    for (dir, what) in [
        ("/unbound/missing", "not there"),
        ("/unbound/link", "place test data"),
        ("/proc", "nothing is synchronised"),
        ("/unbound/../etc", "place test data"),
        ("/unbound/SID_DATA", "nothing is synchronised"),
    ] {
        let (report, page) = set_up(root, Some(dir));
        assert!(
            report.placed.is_empty() && page.problems.iter().any(|problem| problem.contains(what)),
            "{dir}: {page:?}"
        );
    }
    let bad =
        TestData { path: "/unbound/www/index.html".into(), content: "x".into(), mode: 0o644, ..TestData::default() };
    let found =
        Found { format: 1, place: vec![bad], paths: vec!["/etc/fstab".into(), "no path".into()], ..Found::default() };
    fs::write(root.join("found"), serde_json::to_string(&found).unwrap()).unwrap();
    let page = run(root).unwrap().unwrap().services.services["page"].clone();
    assert_eq!(page.problems.len(), 3, "{page:?}");
    assert_eq!(fs::read_to_string(root.join("unbound/www/index.html")).unwrap(), "the client's");
}

#[test]
fn nothing_is_placed_below_what_is_not_mounted() {
    let tmp = pri();
    let root = tmp.path();
    let mounted = |at: &str| {
        fs::create_dir_all(root.join("proc/self")).unwrap();
        let line = format!("29 1 8:1 / / rw - ext4 /dev/sda1 rw\n30 29 8:2 / {at} rw - ext4 /dev/sdb1 rw\n");
        fs::write(root.join("proc/self/mountinfo"), line).unwrap();
    };
    fs::create_dir_all(root.join("srv/disk/www")).unwrap();
    fs::write(root.join("etc/fstab"), "UUID=1 / ext4 defaults 0 1\nUUID=2 /srv/disk ext4 defaults,nofail 0 2\n")
        .unwrap();
    mounted("/srv/disk");
    let (report, page) = set_up(root, Some("/srv/disk/www"));
    assert_eq!((report.placed.len(), page.problems.len()), (1, 0), "{page:?}");
    // Without the disk, what it hid is there.
    fs::remove_file(root.join("srv/disk/www/.atlas-verify.html")).unwrap();
    mounted("/mnt");
    let (report, page) = set_up(root, Some("/srv/disk/www"));
    assert!(
        report.placed.is_empty() && page.problems[0].contains("/srv/disk is in /etc/fstab and not mounted"),
        "{page:?}"
    );
    assert!(listed(root).contains("/srv/disk/www/.atlas-verify.html\n"), "it stays listed");
    mounted("/srv/disk");
    assert_eq!(set_up(root, Some("/srv/disk/www")).0.placed.len(), 1);
}

#[test]
fn one_whose_setup_fails_keeps_what_it_had() {
    let tmp = pri();
    let root = tmp.path();
    set_up(root, Some("/unbound/www"));
    fs::write(root.join("found"), "broken").unwrap();
    let report = run(root).unwrap().unwrap();
    assert!(report.services.services["page"].problems[0].contains("SetUp failed"));
    assert!(report.removed.is_empty() && root.join("unbound/www/.atlas-verify.html").exists());
}

#[test]
fn a_secondary_has_nothing_to_set_up() {
    let tmp = pri();
    let config = "format = 1\ncluster = \"bakery\"\nrole = \"SEC1\"\n[[partner]]\nrole = \"PRI\"\nhost = \"pri\"\n";
    fs::write(tmp.path().join("unbound/SID_DATA/MasterConfig"), config).unwrap();
    assert_eq!(run(tmp.path()).unwrap(), None);
    assert!(!tmp.path().join("etc/atlas/verifier").exists());
}

#[test]
fn a_directory_that_two_services_have_gets_one_file_that_both_list() {
    let tmp = pri();
    let root = tmp.path();
    set_up(root, Some("/unbound/www"));
    let other = "#!/bin/sh\necho '{\"format\":1,\"instances\":[],\"place\":[{\"path\":\"/unbound/www/.atlas-verify.html\",\"content\":\"other\",\"mode\":420}]}'\n";
    atlas_host::testing::write_program(&root.join("etc/atlas/verify.d/zother"), other);
    for _ in 0..2 {
        let (report, page) = set_up(root, Some("/unbound/www"));
        assert_eq!((report.placed.len(), page.problems.len()), (0, 0), "{report:?}");
        assert_eq!(fs::read_to_string(root.join("unbound/www/.atlas-verify.html")).unwrap(), "page");
        let of_other = fs::read_to_string(root.join("unbound/SID_DATA/PRI/Env1/SyncFilePathsSvczother")).unwrap();
        assert!(
            listed(root).contains("/unbound/www/.atlas-verify.html")
                && of_other.contains("/unbound/www/.atlas-verify.html")
        );
    }
    let (report, _) = set_up(root, None);
    assert_eq!(fs::read_to_string(root.join("unbound/www/.atlas-verify.html")).unwrap(), "other", "{report:?}");
}
