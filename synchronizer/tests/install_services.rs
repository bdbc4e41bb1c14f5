//! `ssSync install` and the services: rehearsed, told, watched, put back.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test ends where something is not as it must be")]

mod common;

use common::{World, lines, outcome};
use serde_json::Value;
use std::{fs, os::unix::fs::PermissionsExt, path::Path};

fn runs_with(world: &World) -> Value {
    let installed: Value = serde_json::from_str(&world.read("sec/var/lib/atlas/install/installed.json")).unwrap();
    installed["services"]["web"]["runs_with"].clone()
}

/// What a run must not leave: a mount, temporary names, its records of what is under way.
fn assert_nothing_left(world: &World) {
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap();
    assert!(!mounts.contains(world.tmp.path().to_str().unwrap()), "{mounts}");
    for gone in ["pending.json", "kept"] {
        assert!(!world.there(&format!("sec/var/lib/atlas/install/{gone}")), "{gone} is left");
    }
    assert_eq!(fs::read_dir(world.path("sec/var/lib/atlas/install/rehearsal")).unwrap().count(), 0);
    fn assert_no_temp(dir: &Path) {
        for entry in fs::read_dir(dir).unwrap().map(Result::unwrap) {
            assert!(!entry.file_name().to_str().unwrap().starts_with(".atlas-tmp-"), "{:?}", entry.path());
            if entry.file_type().unwrap().is_dir() {
                assert_no_temp(&entry.path());
            }
        }
    }
    assert_no_temp(&world.path("sec/etc"));
}

#[test]
fn the_check_sees_the_new_files_before_anybody_else_and_the_service_is_reloaded() {
    let world = World::with_service("/etc/web\n");
    let report = world.cycle();
    assert_eq!(report["rehearsal"], "done", "{report}");
    assert_eq!((outcome(&report, "web").as_str(), world.told().as_str()), ("reloaded", "reload web.service\n"));
    assert!(!world.there("sec/etc/web/trace"), "the check wrote to the real directory");
    assert_eq!(runs_with(&world), 1);
    assert_nothing_left(&world);

    let report = world.report(&[]);
    assert_eq!((outcome(&report, "web").as_str(), world.told().as_str()), ("unchanged", ""));
    assert_eq!(report["rehearsal"], "not-needed");
}

#[test]
fn files_that_a_check_complains_of_are_held_until_pri_changes_them() {
    let world = World::with_service("/etc/web\n/etc/motd\n");
    world.cycle();
    world.told();
    world.write("pri/etc/web/web.conf", "bad 2\n");
    world.write("pri/etc/motd", "welcome\n");
    let report = world.cycle();
    assert_eq!(outcome(&report, "web"), "held");
    assert_eq!(lines(&report, "changes"), ["added /etc/motd"], "what others read is installed");
    assert!(lines(&report, "problems")[0].contains("web.conf: bad is no directive"), "{report}");
    assert_eq!((world.read("sec/etc/web/web.conf").as_str(), world.told().as_str()), ("good 1\n", ""));
    assert_eq!(runs_with(&world), 1);
    let again = world.report(&[]);
    assert_eq!(
        (outcome(&again, "web").as_str(), &again["rehearsal"], world.told().as_str()),
        ("held", &"done".into(), ""),
        "its check is asked again, and nobody is disturbed"
    );

    world.write("pri/etc/web/web.conf", "good 3\n");
    let report = world.cycle();
    assert_eq!((outcome(&report, "web").as_str(), runs_with(&world)), ("reloaded", 3.into()));
    assert_nothing_left(&world);
}

#[test]
fn a_service_that_was_held_is_installed_by_itself_when_the_reason_is_gone() {
    let world = World::with_service("/etc/web\n");
    world.cycle();
    world.told();
    let check = world.read("sec/usr/sbin/webcheck");
    let program = |script: &str| {
        world.write("sec/usr/sbin/webcheck", script);
        fs::set_permissions(world.path("sec/usr/sbin/webcheck"), PermissionsExt::from_mode(0o755)).unwrap();
    };
    world.write("pri/etc/web/web.conf", "good 2\n");
    // A module of it is not installed here: what the old file does not name.
    program(
        "#!/bin/sh\nread -r _ number < /etc/web/web.conf\n[ \"$number\" = 1 ] || { echo no such module; exit 1; }\n",
    );
    assert_eq!(outcome(&world.cycle(), "web"), "held");
    assert_eq!(outcome(&world.report(&[]), "web"), "held");
    program(&check);
    let report = world.report(&[]);
    assert_eq!((outcome(&report, "web").as_str(), world.told().as_str()), ("reloaded", "reload web.service\n"));
    assert!(lines(&report, "problems").is_empty(), "{report}");
    assert_eq!(world.read("sec/etc/web/web.conf"), "good 2\n");
}

#[test]
fn a_check_that_complains_of_the_files_here_as_well_holds_nothing() {
    let world = World::with_service("/etc/web\n");
    world.write("sec/etc/web/web.conf", "bad here\n");
    world.write("pri/etc/web/web.conf", "bad there\n");
    let report = world.cycle();
    assert_eq!((outcome(&report, "web").as_str(), lines(&report, "problems").len()), ("reloaded", 0), "{report}");
    assert_eq!(world.read("sec/etc/web/web.conf"), "bad there\n");

    // What is wrong with PRI's is another thing.
    world.write("pri/etc/web/web.conf", "worse there\n");
    let report = world.cycle();
    assert_eq!(world.read("sec/etc/web/web.conf"), "worse there\n");
    assert!(lines(&report, "problems")[0].contains("does not work with PRI's, which it has now"), "{report}");
}

#[test]
fn a_check_that_writes_below_tmp_is_believed() {
    let world = World::with_service("/etc/web\n");
    fs::create_dir(world.path("sec/tmp")).unwrap();
    fs::set_permissions(world.path("sec/tmp"), PermissionsExt::from_mode(0o1777)).unwrap();
    let check = world.read("sec/usr/sbin/webcheck");
    // Whoever it runs as may write there.
    let writes = "\n: >/tmp/made && [ -k /tmp ] || exit 9\n";
    world.write("sec/usr/sbin/webcheck", &check.replacen('\n', writes, 1));
    world.cycle();
    world.write("pri/etc/web/web.conf", "bad 2\n");
    let report = world.cycle();
    assert_eq!(outcome(&report, "web"), "held", "{report}");
    assert_eq!(world.read("sec/etc/web/web.conf"), "good 1\n");
    assert!(!world.there("sec/tmp/made"), "the check wrote to the real directory");
}

#[test]
fn a_service_that_does_not_come_up_gets_the_files_of_before_back() {
    let world = World::with_service("/etc/web\n");
    world.cycle();
    world.told();
    world.write("pri/etc/web/web.conf", "crash 2\n");
    world.write("pri/etc/web/new/file", "new\n");
    fs::remove_dir_all(world.path("pri/etc/web/sites")).unwrap();
    let report = world.cycle();
    assert_eq!(outcome(&report, "web"), "put-back");
    assert!(lines(&report, "problems")[0].contains("web.service does not run any more"), "{report}");
    assert_eq!(world.read("sec/etc/web/web.conf"), "good 1\n");
    assert_eq!(world.read("sec/etc/web/sites/shop"), "shop\n");
    assert!(!world.there("sec/etc/web/new"));
    assert_eq!(world.read("sec/units/web.service"), "up\n", "it runs again");
    assert_eq!(world.told(), "reload web.service\nrestart web.service\n");
    assert_eq!(runs_with(&world), 1);
    assert_nothing_left(&world);
    assert_eq!((outcome(&world.report(&[]), "web").as_str(), world.told().as_str()), ("held", ""), "it does not flap");
}

#[test]
fn who_reads_a_certificate_at_its_start_is_told_of_a_renewed_one() {
    let world = World::with_service("/etc/letsencrypt\n");
    world.write("sec/units/dovecot.service", "up\n");
    world.write("pri/etc/letsencrypt/live/mail/fullchain.pem", "old\n");
    world.cycle();
    world.told();
    world.write("pri/etc/letsencrypt/live/mail/fullchain.pem", "new\n");
    let report = world.cycle();
    assert_eq!(
        (outcome(&report, "certificates").as_str(), world.told().as_str()),
        ("reloaded", "reload dovecot.service\n"),
        "nobody else runs here"
    );
}

#[test]
fn files_that_name_an_address_of_pri_s_are_installed_all_the_same() {
    let world = World::with_service("/etc/web\n");
    world.write("pri/unbound/SID_DATA/PRI/Env1/IdentFilePaths", "/etc/hostname\n/etc/network/interfaces\n");
    world.write("pri/etc/network/interfaces", "iface eth0 inet static\n  address 192.0.2.10/24\n");
    let program = |path: &str, script: &str| {
        world.write(path, &format!("#!/bin/sh\n{script}\n"));
        fs::set_permissions(world.path(path), PermissionsExt::from_mode(0o755)).unwrap();
    };
    program(
        "sec/usr/sbin/webcheck",
        "read -r first rest < /etc/web/web.conf\n[ \"$first\" = bad ] && exit 1\n[ \"$first\" != address ] || [ -n \"$ANYWHERE\" ] && exit 0\n\
        echo 'bind() to 192.0.2.1:80 failed (99: Cannot assign requested address)' >&2\nexit 1",
    );
    world.cycle();
    world.write("pri/etc/web/web.conf", "address 192.0.2.1\n");
    // As unshare is called: what it runs makes the network of $6, where $7 says whether any address may be listened on.
    program("sec/usr/bin/unshare", "shift 8\nANYWHERE=1\nexport ANYWHERE\nexec \"$@\"");
    let report = world.cycle();
    assert_eq!(
        outcome(&report, "web"),
        "held",
        "what passes with this server's addresses in a network of its own has another fault"
    );
    assert!(report.to_string().contains("192.0.2.1:80 failed"), "it says what the check said first: {report}");
    assert_eq!(world.read("sec/etc/web/web.conf"), "good 1\n");
    program("sec/usr/bin/unshare", "exit 1");
    assert_eq!(outcome(&world.report(&["--retry"]), "web"), "held", "what listens nowhere is not installed");

    program(
        "sec/usr/bin/unshare",
        "[ \"$1\" = --net ] || exit 9\ncase $6 in *'eth0 192.0.2.10/32'*) ANYWHERE=$7 ;; esac\n\
        case $6 in *'lo 192.0.2.1/32'*) ;; *) ANYWHERE= ;; esac\nshift 8\nexport ANYWHERE\nexec \"$@\"",
    );
    world.told();
    let report = world.report(&["--retry"]);
    assert_eq!(outcome(&report, "web"), "only-as-pri", "{report}");
    assert_eq!(world.read("sec/etc/web/web.conf"), "address 192.0.2.1\n");
    assert_eq!(world.told(), "", "here it could only fail");
    assert_eq!(outcome(&world.report(&[]), "web"), "unchanged");
    world.write("pri/etc/web/web.conf", "good 2\n");
    assert_eq!(outcome(&world.cycle(), "web"), "reloaded");
}

#[test]
fn a_service_whose_check_does_not_listen_is_started_in_a_room_with_pri_s_addresses_and_names() {
    let world = World::with_service("/etc/web\n");
    world.write("pri/unbound/SID_DATA/PRI/Env1/IdentFilePaths", "/etc/hostname\n/etc/hosts\n");
    world.write("pri/etc/hosts", "192.0.2.10 www.example.org\n");
    world.write("sec/run/atlas/x", "");
    let table = world.read("sec/etc/atlas/services.d/web.toml");
    world.write("sec/etc/atlas/services.d/web.toml", &format!("{table}start = [\"webstart\"]\n"));
    // It listens where a name leads, as its file says; and leaves something behind.
    let start = "#!/bin/sh\necho $$ > /run/web.pid || exit 7\necho x >> /etc/web/started || exit 8\nread how name < /etc/web/web.conf\n\
        [ \"$how\" = listen ] || exit 0\nwhile read -r at host; do [ \"$host\" = \"$name\" ] && exit 0; done < /etc/hosts\nexit 1\n";
    world.write("sec/usr/sbin/webstart", start);
    fs::set_permissions(world.path("sec/usr/sbin/webstart"), PermissionsExt::from_mode(0o755)).unwrap();
    assert_eq!(outcome(&world.cycle(), "web"), "reloaded");
    for (listen, expected) in [("www.example.org", "only-as-pri"), ("www.elsewhere.org", "reloaded")] {
        world.write("pri/etc/web/web.conf", &format!("listen {listen}\n"));
        let report = world.cycle();
        assert_eq!((outcome(&report, "web").as_str(), &report["rehearsal"]), (expected, &"done".into()), "{report}");
        assert_eq!(world.read("sec/etc/web/web.conf"), format!("listen {listen}\n"));
    }
    assert!(
        !world.there("sec/run/web.pid") && !world.there("sec/etc/web/started"),
        "what it wrote is gone with its room"
    );
    assert_nothing_left(&world);
}

#[test]
fn a_complaint_names_the_rule_of_the_converter_that_made_the_line() {
    let world = World::with_service("/etc/web\n");
    world.cycle();
    let convert = "#!/bin/sh\n[ \"$1 $2 $3 $4 $5\" = 'trace older 2 /unbound/SID_DATA/PRI/Env2 --' ] || exit 1\n\
        case $6 in *'bad is no directive'*) echo \"rule 'good ↔ bad' of part 'web' (SyncConverter2)\" ;; esac\n";
    world.write("sec/opt/atlas/bin/atlas-convert", convert);
    fs::set_permissions(world.path("sec/opt/atlas/bin/atlas-convert"), PermissionsExt::from_mode(0o755)).unwrap();
    world.write("pri/etc/web/web.conf", "bad 2\n");
    world.send();
    let told = lines(&world.report(&[]), "problems").remove(0);
    assert!(told.ends_with("bad is no directive"), "nothing was converted: {told}");
    fs::create_dir(world.path("sec/unbound/SID_DATA/PRI/Env2")).unwrap();
    let told = lines(&world.report(&["--retry"]), "problems").remove(0);
    assert!(
        told.ends_with("bad is no directive; made by the converter: rule 'good ↔ bad' of part 'web' (SyncConverter2)"),
        "{told}"
    );
}

#[test]
fn a_service_that_does_not_run_is_checked_and_left_alone() {
    let world = World::with_service("/etc/web\n");
    world.write("sec/units/web.service", "down\n");
    let report = world.cycle();
    assert_eq!((outcome(&report, "web").as_str(), world.told().as_str()), ("not-running", ""));
    assert_eq!(runs_with(&world), Value::Null);
    world.write("pri/etc/web/web.conf", "bad\n");
    assert_eq!(outcome(&world.cycle(), "web"), "held");
}

#[test]
fn where_nothing_can_be_rehearsed_the_check_comes_after_and_the_files_are_put_back() {
    // A file that the rehearsal cannot make, because the root of the tree is none of its overlays.
    let world = World::with_service("/etc/web\n/new\n");
    world.cycle();
    world.write("pri/new", "new\n");
    world.write("pri/etc/web/web.conf", "bad 2\n");
    let report = world.cycle();
    assert!(report["rehearsal"]["not-possible"].as_str().unwrap().contains("Read-only file system"), "{report}");
    assert_eq!(outcome(&report, "web"), "put-back");
    assert_eq!(world.read("sec/etc/web/web.conf"), "good 1\n");
    assert_eq!(world.read("sec/new"), "new\n", "the rest is installed");
}

#[test]
fn what_pri_has_in_a_directory_of_the_root_that_is_not_here_is_rehearsed_as_well() {
    let world = World::with_service("/etc/web\n/data/www/page\n");
    world.cycle();
    assert!(!world.there("sec/data"));
    world.write("pri/etc/web/web.conf", "bad 2\n");
    let report = world.cycle();
    assert_eq!((outcome(&report, "web").as_str(), &report["rehearsal"]), ("held", &"done".into()));
    assert!(!world.there("sec/data"), "the place to rehearse in is gone again");
    world.write("pri/data/www/page", "new\n");
    world.cycle();
    assert_eq!(world.read("sec/data/www/page"), "new\n");
}

#[test]
fn files_that_need_what_only_pri_s_disks_have_are_installed_and_nobody_is_told() {
    let world = World::with_service("/etc/web\n");
    world.cycle();
    world.told();
    let check = "#!/bin/sh\nread -r name file < /etc/web/web.conf\n[ \"$name\" != cert ] || [ -e \"$file\" ] && exit 0\n\
        echo \"cannot load certificate \\\"$file\\\": No such file\" >&2\nexit 1\n";
    world.write("sec/usr/sbin/webcheck", check);
    fs::set_permissions(world.path("sec/usr/sbin/webcheck"), PermissionsExt::from_mode(0o755)).unwrap();
    world.write("pri/etc/web/web.conf", "cert /srv/tls/b.pem\n");
    assert_eq!(outcome(&world.cycle(), "web"), "held", "what is nowhere may be a mistake");
    world.write("pri/etc/web/web.conf", "cert /unbound/tls/b.pem\n");
    let report = world.cycle();
    assert_eq!(outcome(&report, "web"), "only-as-pri", "{report}");
    assert_eq!((world.read("sec/etc/web/web.conf").as_str(), world.told().as_str()), ("cert /unbound/tls/b.pem\n", ""));
}

#[test]
fn a_check_that_hangs_ends_at_its_deadline() {
    let world = World::with_service("/etc/web\n");
    world.write("sec/usr/sbin/webcheck", "#!/bin/sh\nwhile :; do :; done\n");
    let table = world.read("sec/etc/atlas/services.d/web.toml");
    world.write("sec/etc/atlas/services.d/web.toml", &format!("{table}seconds = 1\n"));
    let report = world.cycle();
    // With the files that are here it hangs as well: that says nothing about PRI's.
    assert_eq!((outcome(&report, "web").as_str(), &report["rehearsal"]), ("reloaded", &"done".into()));
}
