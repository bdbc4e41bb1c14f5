//! Samba, exercised on the real server.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking, in its helpers as well")]

mod common;

use atlas_host::testing::own_network;
use atlas_model::verify::Verdict;
use common::{Daemon, expect, place, run, setup, tree, value, verify, verify_found, write};
use std::{
    fs,
    io::Write,
    process::{Command, Stdio},
};

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
        [open]\npath = /srv/open\nguest ok = yes\n[team]\npath = /srv/team\n"
    );
    write(tree, "etc/samba/smb.conf", &config);
    for path in ["srv/open/x", "srv/team/x"] {
        write(tree, path, "");
    }
    let found = setup("samba", tree);
    assert_eq!((found.instances.len(), found.problems.len()), (2, 0), "{found:?}");
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
