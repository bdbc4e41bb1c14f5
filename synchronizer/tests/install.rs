//! `ssSync install` on a secondary: what PRI's Snapshot brings, and what it must not.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test ends where something is not as it must be")]

mod common;

use common::{World, lines, outcome, ss_sync};
use std::{
    fs,
    os::unix::fs::{MetadataExt, PermissionsExt, symlink},
    path::Path,
    process::Command,
};

#[test]
fn only_what_differs_is_replaced_and_what_pri_removed_goes() {
    let world = World::new("/etc/web\n/etc/motd\n");
    world.write("pri/etc/motd", "welcome\n");
    let report = world.cycle();
    assert_eq!(lines(&report, "changes"), ["added /etc/motd", "added /etc/web"]);
    assert_eq!(report["generation"], 1);
    assert_eq!(world.read("sec/etc/web/sites/shop"), "shop\n");
    assert_eq!(world.report(&[])["change_count"], 0);

    let kept = fs::metadata(world.path("sec/etc/web/sites/shop")).unwrap().ino();
    world.write("pri/etc/web/web.conf", "good 2\n");
    fs::remove_file(world.path("pri/etc/motd")).unwrap();
    world.write("sec/etc/web/local", "a local edit\n");
    let report = world.cycle();
    assert_eq!(
        lines(&report, "changes"),
        ["removed /etc/motd", "removed /etc/web/local", "replaced /etc/web/web.conf"]
    );
    assert_eq!(fs::metadata(world.path("sec/etc/web/sites/shop")).unwrap().ino(), kept, "it was not touched");
    assert_eq!(world.read("sec/etc/hostname"), "SEC1", "the identity stays");
    let installed: serde_json::Value =
        serde_json::from_str(&world.read("sec/var/lib/atlas/install/installed.json")).unwrap();
    assert_eq!((&installed["generation"], &installed["format"]), (&2.into(), &1.into()));
}

/// Everything that counts of what lies below a directory.
fn picture(dir: &Path) -> Vec<String> {
    let (mut lines, mut todo) = (vec![], vec![dir.to_owned()]);
    while let Some(path) = todo.pop() {
        let meta = fs::symlink_metadata(&path).unwrap();
        let content = if meta.is_file() { fs::read_to_string(&path).unwrap() } else { String::new() };
        let time = if meta.is_file() { (meta.mtime(), meta.mtime_nsec()) } else { (0, 0) };
        let target = fs::read_link(&path).unwrap_or_default();
        let mut names: Vec<_> = xattr::list(&path).unwrap().collect();
        names.sort();
        let attributes: Vec<_> = names.iter().map(|name| (name, xattr::get(&path, name).unwrap())).collect();
        let shown = path.strip_prefix(dir).unwrap().display();
        let (mode, owner) = (meta.mode(), (meta.uid(), meta.gid()));
        lines.push(format!("{shown} {mode:o} {owner:?} {time:?} {content:?} {target:?} {attributes:?}"));
        if meta.is_dir() {
            todo.extend(fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
        }
    }
    lines.sort();
    lines
}

#[test]
fn every_kind_of_object_is_on_the_secondary_as_it_is_on_pri() {
    let world = World::new("/etc/web\n");
    let web = |path: &str| world.path("pri/etc/web").join(path);
    fs::create_dir_all(web("empty/deep")).unwrap();
    for (path, mode) in [("tool", 0o4755), ("as-group", 0o2711), ("locked", 0o000), ("acl", 0o640), ("unnamed", 0o644)]
    {
        world.write(&format!("pri/etc/web/{path}"), path);
        fs::set_permissions(web(path), PermissionsExt::from_mode(mode)).unwrap();
    }
    for (path, mode) in [("shared", 0o2775), ("drop", 0o1777), ("closed", 0o700)] {
        fs::create_dir(web(path)).unwrap();
        fs::set_permissions(web(path), PermissionsExt::from_mode(mode)).unwrap();
    }
    symlink("web.conf", web("link")).unwrap();
    symlink("/not/there", web("dangling")).unwrap();
    xattr::set(web("tool"), "user.colour", b"blue\0\xff").unwrap();
    for (args, path) in [(["-m", "u:4321:rw"], "acl"), (["-dm", "g:1234:rx"], "shared")] {
        let status = Command::new("setfacl").args(args).arg(web(path)).status().unwrap();
        assert!(status.success(), "setfacl {args:?} (package acl)");
    }
    std::os::unix::fs::chown(web("unnamed"), Some(4321), Some(1234)).unwrap();
    std::os::unix::fs::lchown(web("link"), Some(4321), Some(1234)).unwrap();
    let report = world.cycle();
    assert!(lines(&report, "problems").is_empty(), "{report}");
    let (pri, sec) = (picture(&world.path("pri/etc/web")), picture(&world.path("sec/etc/web")));
    assert_eq!(pri, sec);
    assert_eq!(pri.iter().filter(|line| line.contains("posix_acl")).count(), 2, "no access lists: {pri:#?}");

    fs::remove_dir_all(web("empty")).unwrap();
    fs::remove_file(web("tool")).unwrap();
    fs::remove_file(web("link")).unwrap();
    fs::create_dir(web("link")).unwrap();
    world.cycle();
    assert_eq!(picture(&world.path("pri/etc/web")), picture(&world.path("sec/etc/web")));
}

#[test]
fn a_local_edit_is_undone_and_one_that_hides_behind_size_and_time_once_every_byte_is_compared() {
    let world = World::new("/etc/web\n");
    world.cycle();
    world.write("sec/etc/web/web.conf", "evil 1\n");
    assert_eq!(lines(&world.report(&[]), "changes"), ["replaced /etc/web/web.conf"]);
    let time = fs::metadata(world.path("sec/etc/web/web.conf")).unwrap().modified().unwrap();
    world.write("sec/etc/web/web.conf", "evil 1\n");
    fs::File::options().write(true).open(world.path("sec/etc/web/web.conf")).unwrap().set_modified(time).unwrap();
    assert_eq!(world.report(&[])["change_count"], 0);
    assert_eq!(world.report(&["--every-byte"])["change_count"], 1);
    assert_eq!(world.read("sec/etc/web/web.conf"), "good 1\n");
}

#[test]
fn what_pri_lists_no_longer_stays_and_is_told_once() {
    let world = World::new("/etc/web\n/etc/motd\n");
    world.write("pri/etc/motd", "welcome\n");
    world.cycle();
    world.list("/etc/web\n");
    let report = world.cycle();
    assert_eq!(lines(&report, "no_longer_listed"), ["/etc/motd"]);
    assert!(world.there("sec/etc/motd"));
    assert_eq!(lines(&world.report(&[]), "no_longer_listed"), Vec::<String>::new());
}

#[test]
fn pri_itself_and_a_secondary_without_a_snapshot_install_nothing() {
    let world = World::new("/etc/web\n");
    assert!(world.refusal().contains("no Snapshot of PRI was received yet"));
    world.send();
    let output = ss_sync(&world.path("pri"), &["install"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8(output.stderr).unwrap().contains("this server is PRI"));
}

#[test]
fn a_list_that_names_the_hardware_or_the_identity_is_refused_when_the_snapshot_is_made() {
    for (line, why) in [
        ("/etc/fstab", "names the disks of one machine"),
        ("/etc/machine-id", "id of one installation"),
        ("/etc/ssh/ssh_host_rsa_key", "list them in IdentFilePaths"),
        ("/etc/hostname", "part of the identity"),
    ] {
        let world = World::new(&format!("/etc/web\n{line}\n"));
        let output = ss_sync(&world.path("pri"), &["create"]);
        let told = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1));
        assert!(told.contains("SyncFilePathsSpecial") && told.contains(line) && told.contains(why), "{told}");
        assert!(told.contains("take that line off the list"), "{told}");
    }
}

#[test]
fn what_belongs_to_one_machine_is_neither_carried_nor_touched_in_a_listed_directory() {
    let world = World::new("/etc\n");
    for (server, text) in [("pri", "pri's"), ("sec", "this one's")] {
        for path in
            ["etc/fstab", "etc/ssh/ssh_host_rsa_key", "etc/ssh/sshd_config", "etc/udev/rules.d/70-persistent-net.rules"]
        {
            world.write(&format!("{server}/{path}"), text);
        }
    }
    world.write("sec/etc/mdadm/mdadm.conf", "this one's");
    world.cycle();
    assert!(!world.there("sec/unbound/SID_DATA/PRI/Env1/SyncFiles/etc/fstab"), "it did not even travel");
    assert!(!world.there("sec/unbound/SID_DATA/PRI/Env1/SyncFiles/etc/hostname"), "nor did the identity");
    assert_eq!(world.read("sec/etc/ssh/sshd_config"), "pri's");
    for path in ["fstab", "ssh/ssh_host_rsa_key", "udev/rules.d/70-persistent-net.rules", "mdadm/mdadm.conf"] {
        assert_eq!(world.read(&format!("sec/etc/{path}")), "this one's", "{path}");
    }
    assert_eq!(world.read("sec/etc/hostname"), "SEC1");
}

/// Writes a Snapshot as no ATLAS makes it, whatever the lists say.
fn forge(world: &World, from: &str, to: &str) {
    world.send();
    let snapshot = "sec/unbound/SID_DATA/PRI/Env1";
    for name in ["Manifest", "SyncFilePaths", "SyncFilePathsSpecial"] {
        let path = format!("{snapshot}/{name}");
        world.write(&path, &world.read(&path).replace(from, to));
    }
    fs::rename(world.path(&format!("{snapshot}/SyncFiles{from}")), world.path(&format!("{snapshot}/SyncFiles{to}")))
        .unwrap();
}

#[test]
fn a_snapshot_that_brings_what_belongs_to_this_machine_nevertheless_is_installed_without_it() {
    let world = World::new("/etc/web\n/etc/zzz\n");
    world.write("pri/etc/zzz", "pri's disks");
    world.write("sec/etc/zzz", "");
    forge(&world, "/etc/zzz", "/etc/fstab");
    world.write("sec/etc/fstab", "this one's");
    let report = world.report(&[]);
    assert_eq!(world.read("sec/etc/fstab"), "this one's");
    assert_eq!(report["left"][0]["path"], "/etc/fstab");
    assert!(report["left"][0]["why"].as_str().unwrap().contains("disks of one machine"), "{report}");
}

#[test]
fn an_empty_or_unmounted_source_is_refused_until_an_operator_confirms_it() {
    let world = World::new("/etc/web\n/etc/motd\n");
    world.write("pri/etc/motd", "welcome\n");
    for index in 0..30 {
        world.write(&format!("pri/etc/web/sites/{index}"), "x");
    }
    world.cycle();
    for remove in ["pri/etc/web/sites", "pri/etc/web"] {
        fs::remove_dir_all(world.path(remove)).unwrap();
        if remove.ends_with("web") {
            // The mount point that is left.
            fs::create_dir(world.path(remove)).unwrap();
        }
        world.send();
        let told = world.refusal();
        assert!(
            told.contains("/etc/web") && told.contains("would remove") && told.contains("--confirm-removal"),
            "{told}"
        );
        assert!(world.there("sec/etc/web/sites/29"), "nothing was removed");
    }
    let report = world.report(&["--confirm-removal"]);
    assert!(report["change_count"].as_u64().unwrap() > 0 && !world.there("sec/etc/web/sites"));
    assert_eq!(world.report(&[])["change_count"], 0, "confirmed once is enough");
}

#[test]
fn some_removals_among_many_files_are_ordinary() {
    let world = World::new("/etc/web\n");
    for index in 0..30 {
        world.write(&format!("pri/etc/web/sites/{index}"), "x");
    }
    world.cycle();
    for index in 0..14 {
        fs::remove_file(world.path(&format!("pri/etc/web/sites/{index}"))).unwrap();
    }
    assert_eq!(world.cycle()["change_count"], 14);
}

#[test]
fn accounts_are_merged_before_the_files_that_they_own() {
    let world = World::new("/etc/group\n/etc/passwd\n/etc/shadow\n/etc/web\n");
    world.write(
        "pri/etc/passwd",
        "root:x:0:0:root:/root:/bin/bash\nweb:x:990:980::/:/bin/false\nann:x:1000:1000::/home/ann:/bin/sh\n",
    );
    world.write("pri/etc/group", "root:x:0:\nweb:x:980:\nann:x:1000:\n");
    world.write("pri/etc/shadow", "root:new:1::::::\nann:secret:1::::::\n");
    fs::set_permissions(world.path("pri/etc/shadow"), PermissionsExt::from_mode(0o640)).unwrap();
    world.write(
        "sec/etc/passwd",
        "root:x:0:0:root:/root:/bin/sh\nweb:x:101:102::/:/bin/false\neve:x:1003:1003::/:/bin/sh\n",
    );
    world.write("sec/etc/group", "root:x:0:\nweb:x:102:\n");
    world.write("sec/etc/shadow", "root:old:1::::::\neve:x:1::::::\n");
    std::os::unix::fs::chown(world.path("pri/etc/web/web.conf"), Some(990), Some(980)).unwrap();
    std::os::unix::fs::chown(world.path("pri/etc/web/sites"), Some(1000), Some(1000)).unwrap();
    let report = world.cycle();
    assert_eq!(lines(&report, "changes")[..3], ["replaced /etc/group", "replaced /etc/passwd", "replaced /etc/shadow"]);
    let passwd = "root:x:0:0:root:/root:/bin/bash\nweb:x:101:102::/:/bin/false\nann:x:1000:1000::/home/ann:/bin/sh\n";
    assert_eq!(world.read("sec/etc/passwd"), passwd);
    assert_eq!(world.read("sec/etc/shadow"), "root:new:1::::::\nann:secret:1::::::\n");
    let owner = |path: &str| fs::metadata(world.path(path)).map(|meta| (meta.uid(), meta.gid())).unwrap();
    assert_eq!((owner("sec/etc/web/web.conf"), owner("sec/etc/web/sites")), ((101, 102), (1000, 1000)));
    assert!(
        lines(&report, "warnings").iter().any(|line| line.contains("web has the number 990 on PRI and 101 here")),
        "{report}"
    );
    assert_eq!(world.report(&[])["change_count"], 0, "merged accounts stay as they are");

    // The numbers differ, and so do the files of accounts; the servers agree.
    world.write("sec/unbound/SID_DATA/SEC1/Env1/SyncFilePathsPRI", "/etc/group\n/etc/passwd\n/etc/shadow\n/etc/web\n");
    let compare = || {
        let output = ss_sync(&world.path("sec"), &["create"]);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let _ = fs::remove_dir_all(world.path("pri/unbound/SID_DATA/SEC1"));
        common::copy_tree(&world.path("sec/unbound/SID_DATA/SEC1"), &world.path("pri/unbound/SID_DATA/SEC1"));
        String::from_utf8(ss_sync(&world.path("pri"), &["compare"]).stdout).unwrap()
    };
    assert!(compare().contains("the same as PRI"), "{}", compare());
    world.write("sec/etc/passwd", &format!("{passwd}eve:x:1003:1003::/:/bin/sh\n"));
    assert!(compare().contains("differs   /etc/passwd"), "{}", compare());
}

#[test]
fn an_owner_that_is_not_here_is_a_problem_and_nobody_gets_the_file() {
    let world = World::new("/etc/web\n");
    world.write("pri/etc/passwd", "root:x:0:0:root:/root:/bin/sh\nweb:x:990:0::/:/bin/false\n");
    world.write("sec/etc/passwd", "root:x:0:0:root:/root:/bin/sh\nother:x:990:0::/:/bin/false\n");
    std::os::unix::fs::chown(world.path("pri/etc/web/web.conf"), Some(990), Some(0)).unwrap();
    fs::set_permissions(world.path("pri/etc/web/web.conf"), PermissionsExt::from_mode(0o4755)).unwrap();
    let report = world.cycle();
    assert!(lines(&report, "problems")[0].contains("/etc/web/web.conf belongs to web:root on PRI"), "{report}");
    let meta = fs::metadata(world.path("sec/etc/web/web.conf")).unwrap();
    assert_eq!((meta.uid(), meta.mode() & 0o7777), (0, 0o755));
}

#[test]
fn a_directory_that_nobody_lists_is_made_as_pri_has_it_and_told_where_it_lets_everybody_in() {
    let world = World::new("/srv/app/keys/tls.key\n/srv/app/page\n/opt/drop/seed\n");
    for path in ["srv/app/keys/tls.key", "srv/app/page", "opt/drop/seed"] {
        world.write(&format!("pri/{path}"), path);
    }
    world.write("pri/etc/passwd", "root:x:0:0:root:/root:/bin/sh\nweb:x:990:0::/:/bin/false\n");
    world.write("sec/etc/passwd", "root:x:0:0:root:/root:/bin/sh\nweb:x:101:0::/:/bin/false\n");
    let set = |path: &str, owner: u32, mode: u32| {
        std::os::unix::fs::chown(world.path(path), Some(owner), Some(0)).unwrap();
        fs::set_permissions(world.path(path), PermissionsExt::from_mode(mode)).unwrap();
    };
    set("pri/srv/app/keys", 990, 0o2750);
    set("pri/opt/drop", 0, 0o1777);
    let report = world.cycle();
    assert!(lines(&report, "problems").is_empty(), "{report}");
    let is = |path: &str| {
        let meta = fs::metadata(world.path("sec").join(path)).unwrap();
        (meta.uid(), meta.mode() & 0o7777)
    };
    assert_eq!(
        [is("srv"), is("srv/app"), is("srv/app/keys"), is("opt/drop")],
        [(0, 0o755), (0, 0o755), (101, 0o2750), (0, 0o1777)]
    );
    assert_eq!(world.report(&[])["change_count"], 0);

    // What is there is this server's own; that it lets everybody in is told until it does not.
    set("sec/srv/app/keys", 101, 0o755);
    world.write("pri/srv/app/page", "another");
    let told = lines(&world.cycle(), "problems").join("\n");
    assert!(told.contains("the directory /srv/app/keys lets everybody through here (mode 755)"), "{told}");
    assert!(told.contains("chmod 2750 /srv/app/keys"), "{told}");
    assert_eq!(is("srv/app/keys"), (101, 0o755));
    set("sec/srv/app/keys", 101, 0o700);
    assert!(lines(&world.cycle(), "problems").is_empty());
    // PRI closes another one.
    set("pri/srv/app", 990, 0o710);
    let told = lines(&world.cycle(), "problems").join("\n");
    assert!(told.contains("chmod 710 /srv/app"), "{told}");
}

#[test]
fn malformed_or_missing_accounts_change_nothing() {
    let world = World::new("/etc/passwd\n/etc/web\n");
    world.write("pri/etc/passwd", "");
    world.send();
    let told = world.refusal();
    assert!(told.contains("PRI's /etc/passwd is malformed: it has no root"), "{told}");
    assert!(!world.there("sec/etc/web"), "the whole installation is refused");
    fs::remove_file(world.path("pri/etc/passwd")).unwrap();
    let report = world.cycle();
    assert!(lines(&report, "problems")[0].contains("/etc/passwd is no file on PRI"), "{report}");
    assert!(world.there("sec/etc/passwd") && world.there("sec/etc/web"));
}

#[test]
fn a_directory_that_became_a_link_leads_no_write_elsewhere() {
    for way in ["etc/web", "etc/web/sites"] {
        let world = World::new("/etc/web/sites/shop\n/etc/web/web.conf\n");
        world.cycle();
        world.write("outside/shop", "not ours\n");
        world.write("outside/web.conf", "not ours\n");
        fs::remove_dir_all(world.path("sec").join(way)).unwrap();
        symlink(world.path("outside"), world.path("sec").join(way)).unwrap();
        world.write("pri/etc/web/sites/shop", "new\n");
        world.send();
        let told = world.refusal();
        assert!(told.contains("leads out of the tree"), "{told}");
        assert_eq!(fs::read_dir(world.path("outside")).unwrap().count(), 2);
        assert_eq!(world.read("outside/shop") + &world.read("outside/web.conf"), "not ours\nnot ours\n");
    }
}

#[test]
fn a_link_in_the_place_of_a_listed_object_is_replaced_and_not_followed() {
    let world = World::new("/etc/web\n");
    world.cycle();
    world.write("outside/shop", "not ours\n");
    for (path, to) in [("sec/etc/web/web.conf", "outside/shop"), ("sec/etc/web/sites", "outside")] {
        let _ = fs::remove_file(world.path(path));
        let _ = fs::remove_dir_all(world.path(path));
        symlink(world.path(to), world.path(path)).unwrap();
    }
    assert_eq!(lines(&world.report(&[]), "changes"), ["replaced /etc/web/sites", "replaced /etc/web/web.conf"]);
    assert_eq!(world.read("sec/etc/web/web.conf"), "good 1\n");
    assert_eq!(world.read("outside/shop"), "not ours\n");
}

#[test]
fn a_file_that_was_made_immutable_is_told_as_one_and_nothing_is_changed() {
    let world = World::new("/etc/web\n/etc/motd\n");
    world.write("pri/etc/motd", "1\n");
    world.cycle();
    let file = world.path("sec/etc/web/web.conf");
    let chattr = |flag| Command::new("chattr").arg(flag).arg(&file).status().is_ok_and(|status| status.success());
    // It takes a right that not everybody who runs this has, and a file system that knows of it.
    if !chattr("+i") {
        return;
    }
    world.write("pri/etc/motd", "2\n");
    world.write("pri/etc/web/web.conf", "good 2\n");
    world.send();
    let refused = world.install(&[]);
    assert!(chattr("-i"));
    let told = String::from_utf8(refused.stderr).unwrap();
    assert_eq!(refused.status.code(), Some(1), "{told}");
    assert!(told.contains("sec/etc/web/web.conf") && told.contains("'chattr -i' ends that"), "{told}");
    assert_eq!(world.read("sec/etc/motd") + &world.read("sec/etc/web/web.conf"), "1\ngood 1\n");
    assert_eq!(world.report(&[])["change_count"], 2);
}

#[test]
fn a_full_disk_changes_nothing_and_leaves_nothing() {
    if !atlas_host::testing::own_mounts("a_full_disk_changes_nothing_and_leaves_nothing") {
        return;
    }
    let world = World::new("/etc/web\n");
    world.cycle();
    let small = world.path("sec/etc/web/sites");
    atlas_host::mount::memory(&small, 64 << 10).unwrap();
    world.write("sec/etc/web/sites/shop", "shop\n");
    world.report(&[]);
    world.write("pri/etc/web/web.conf", "good 2\n");
    world.write("pri/etc/web/sites/big", &"x".repeat(100 << 10));
    world.send();
    let told = world.refusal();
    assert!(told.contains("No space left") && told.contains("free some space"), "{told}");
    assert_eq!(world.read("sec/etc/web/web.conf"), "good 1\n");
    let names: Vec<_> = fs::read_dir(&small).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(names, ["shop"]);
    assert!(!world.there("sec/var/lib/atlas/install/pending.json") && !world.there("sec/var/lib/atlas/install/kept"));
    fs::remove_file(world.path("pri/etc/web/sites/big")).unwrap();
    assert_eq!(world.cycle()["change_count"], 1);
}

#[test]
fn a_service_that_is_not_here_is_told_apart_and_its_files_are_installed() {
    let world = World::new("/etc/nginx\n");
    world.write("pri/etc/nginx/nginx.conf", "events {}\n");
    let report = world.cycle();
    assert_eq!(outcome(&report, "nginx"), "not-installed-here");
    assert!(world.there("sec/etc/nginx/nginx.conf"));
}
