//! Samba, exercised on the real server.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking, in its helpers as well")]

mod common;

use atlas_host::testing::own_network;
use atlas_model::verify::Verdict;
use common::{Daemon, expect, place, run, setup, tree, value, verify, verify_found, write};
use std::{
    fs,
    io::Write,
    os::unix::fs::PermissionsExt,
    process::{Command, Stdio},
};

/// What is in a directory, sorted.
fn names(dir: &str) -> Vec<String> {
    let names = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<String> = names.collect();
    names.sort();
    names
}

#[test]
fn the_test_file_of_each_share_is_fetched_and_what_keeps_it_from_that_is_told() {
    if !own_network("the_test_file_of_each_share_is_fetched_and_what_keeps_it_from_that_is_told") {
        return;
    }
    let tree = tree();
    let tree = tree.path();
    let dir = tree.to_str().unwrap();
    let dirs: String = ["private", "lock", "state", "cache", "pid", "ncalrpc"]
        .map(|name| {
            fs::create_dir(tree.join(name)).unwrap();
            format!(
                "{name} {} = {dir}/{name}\n",
                if name == "private" || name == "ncalrpc" { "dir" } else { "directory" }
            )
        })
        .concat();
    let config = format!(
        "[global]\nmap to guest = bad user\nguest account = nobody\nlog file = /dev/stderr\ndisable spoolss = yes\nload printers = no\n\
        passdb backend = tdbsam:{dir}/private/passdb.tdb\n{dirs}\n\
        [open]\npath = /srv/open\nguest ok = yes\n[team]\npath = /srv/team\n\
        [drop]\npath = /srv/drop\nguest ok = yes\nread only = no\n[kept]\npath = /srv/kept\nguest ok = yes\nread only = no\n"
    );
    write(tree, "etc/samba/smb.conf", &config);
    for path in ["srv/open/x", "srv/team/x", "srv/drop/x", "srv/kept/x"] {
        write(tree, path, "");
    }
    fs::set_permissions("/srv/drop", PermissionsExt::from_mode(0o1777)).unwrap();
    let found = setup("samba", tree);
    assert_eq!((found.instances.len(), found.problems.len()), (4, 0), "{found:?}");
    place(tree, &found);
    let check = |name: &str, more: &[(&str, &str)]| verify_found("samba", &found, name, more);
    expect(&check("open", &[]), Verdict::Unacceptable, &["connection refused", "testparm"]);

    let smb_conf = tree.join("etc/samba/smb.conf");
    let smb_conf = smb_conf.to_str().unwrap();
    // An account of Samba's stands on one of the system's.
    let mut account =
        Command::new("smbpasswd").args(["-c", smb_conf, "-s", "-a", "www-data"]).stdin(Stdio::piped()).spawn().unwrap();
    account.stdin.take().unwrap().write_all(b"secret\nsecret\n").unwrap();
    assert!(account.wait().unwrap().success());
    let start = || Daemon::start("smbd", &["--foreground", "--no-process-group", "--configfile", smb_conf], 445);
    let server = start();
    let open = check("open", &[]);
    expect(&open, Verdict::Ok, &["the test file in open is fetched"]);
    assert!(value(&open, "read") > 0.0);
    expect(&check("team", &[]), Verdict::Ok, &["no share is opened without an account"]);
    write(tree, "account", "username = www-data\npassword = secret\n");
    let account = tree.join("account");
    let account = [("credentials", account.to_str().unwrap())];
    expect(&check("team", &account), Verdict::Ok, &["the test file in team is fetched"]);
    write(tree, "account", "username = www-data\npassword = guessed\n");
    expect(&check("team", &account), Verdict::Unacceptable, &["not let in"]);

    // The share that all may write to is written; one whose directory they may not write to is only where that is set.
    let written = check("drop", &[]);
    expect(&written, Verdict::Ok, &["the test file in drop is fetched, and one is written"]);
    assert!(value(&written, "write") > 0.0);
    assert_eq!(names("/srv/drop"), [".atlas-verify", "x"], "what was written is removed again");
    // One that a check left that was cut off, under the name of its own.
    let host = fs::read_to_string("/proc/sys/kernel/hostname").unwrap();
    let own: String = host.trim().chars().filter(|c| c.is_ascii_alphanumeric() || *c == '-').collect();
    fs::write(format!("/srv/drop/.atlas-verify-{own}"), "half").unwrap();
    run("chown", &["nobody", &format!("/srv/drop/.atlas-verify-{own}")]);
    expect(&check("drop", &[]), Verdict::Ok, &["one is written"]);
    assert_eq!(names("/srv/drop"), [".atlas-verify", "x"], "what was left is removed, too");
    expect(&check("kept", &[]), Verdict::Ok, &["the test file in kept is fetched"]);
    let rw = ("access", "rw");
    expect(&check("kept", &[rw]), Verdict::Unacceptable, &["kept: writing: ", "NT_STATUS_ACCESS_DENIED"]);
    expect(&check("open", &[rw]), Verdict::Unacceptable, &["open: writing: "]);
    fs::set_permissions("/srv/drop", PermissionsExt::from_mode(0o755)).unwrap();
    expect(&check("drop", &[]), Verdict::Unacceptable, &["drop: writing: ", "NT_STATUS_ACCESS_DENIED"]);
    assert_eq!(names("/srv/drop"), [".atlas-verify", "x"]);
    run("mount", &["-t", "tmpfs", "-o", "size=16k,mode=1777", "tmpfs", "/srv/drop"]);
    let placed = found.place.iter().find(|data| data.path == "/srv/drop/.atlas-verify").unwrap();
    fs::write(&placed.path, &placed.content).unwrap();
    fs::write("/srv/drop/filled", [0; 8 << 10]).unwrap();
    assert!(fs::write("/srv/drop/rest", [0; 8 << 10]).is_err(), "the file system is not full");
    expect(&check("drop", &[]), Verdict::Unacceptable, &["drop: writing: ", "full"]);
    fs::remove_file("/srv/drop/filled").unwrap();
    expect(&check("drop", &[]), Verdict::Ok, &["one is written"]);

    write(tree, "srv/open/.atlas-verify", "changed");
    expect(&check("open", &[]), Verdict::Unacceptable, &["is not what was placed"]);
    fs::remove_file("/srv/open/.atlas-verify").unwrap();
    expect(&check("open", &[]), Verdict::Unacceptable, &["is not there"]);
    run("mv", &["/srv/open", "/srv/moved"]);
    expect(&check("open", &[]), Verdict::Unacceptable, &["no such share, or its directory is missing"]);
    drop(server);
    let listener = std::net::TcpListener::bind("127.0.0.1:445").unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let _ = stream.unwrap().write_all(b"SSH-2.0-OpenSSH\r\n");
        }
    });
    expect(&verify("samba", &[]), Verdict::Unacceptable, &["does not speak SMB"]);
}
