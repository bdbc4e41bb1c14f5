//! The steps of a cycle as commands of their own, and what an operator controls the Synchronizer with; what these call (ssh, systemctl) is
//! played by scripts.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test ends where something is not as it must be")]

mod common;

use common::{PROGRAM, World, ss_sync};
use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::Path,
    process::{Command, Output},
};

const CTRL: &str = env!("CARGO_BIN_EXE_ssSyncCtrl");

/// Puts a script of this name where programs are looked for.
fn play(world: &World, name: &str, script: &str) {
    let path = format!("bin/{name}");
    world.write(&path, &format!("#!/bin/sh\n{script}\n"));
    fs::set_permissions(world.path(&path), PermissionsExt::from_mode(0o755)).unwrap();
}

fn with_scripts(world: &World, program: &str, args: &[&str]) -> Output {
    let path = format!("{}:{}", world.path("bin").display(), std::env::var("PATH").unwrap());
    Command::new(program).args(args).arg("--root").arg(world.path("pri")).env("PATH", path).output().unwrap()
}

fn said(output: &Output) -> String {
    let both = [&output.stdout[..], &output.stderr].concat();
    String::from_utf8(both).unwrap()
}

#[track_caller]
fn done(root: &Path, args: &[&str]) -> String {
    let output = ss_sync(root, args);
    assert_eq!(output.status.code(), Some(0), "{args:?}: {}", said(&output));
    said(&output)
}

#[test]
fn each_step_of_a_cycle_is_a_command() {
    let world = World::new("/etc/web\n");
    let (pri, sec) = (world.path("pri"), world.path("sec"));
    world.write("call", &format!("#!/bin/sh\nexec {PROGRAM} serve --root {}\n", sec.display()));
    fs::set_permissions(world.path("call"), PermissionsExt::from_mode(0o755)).unwrap();
    let call = world.path("call").display().to_string();

    done(&pri, &["create"]);
    assert!(world.there("pri/unbound/SID_DATA/PRI/Env1/SyncFiles/etc/web/web.conf"));
    done(&pri, &["older"]);
    done(&pri, &["send", "--rsh", &call]);
    assert!(world.there("sec/unbound/SID_DATA/PRI/Env1/SyncFiles/etc/web/web.conf"), "it did not arrive");
    assert!(!world.there("sec/etc/web") && !world.there("pri/unbound/SID_DATA/SEC1"), "send does more than send");
    done(&sec, &["newer"]);
    done(&sec, &["install"]);
    assert_eq!(world.read("sec/etc/web/web.conf"), "good 1\n");
    done(&sec, &["create"]);
    assert!(world.there("sec/unbound/SID_DATA/SEC1/Env1/Manifest"));

    assert!(said(&ss_sync(&pri, &["compare"])).contains("nothing was received from SEC1 yet"));
    done(&pri, &["cycle", "--rsh", &call]);
    assert!(done(&pri, &["compare"]).contains("the same as PRI"));
    assert!(done(&pri, &["compare", "SEC1"]).contains("the same as PRI"));
}

#[test]
fn identity_tells_what_the_next_boot_changes_and_changes_nothing() {
    let world = World::new("/etc/web\n");
    let sec = world.path("sec");
    let none = ss_sync(&sec, &["identity"]);
    assert_eq!(none.status.code(), Some(1), "{}", said(&none));
    done(&sec, &["create"]);
    assert!(done(&sec, &["identity"]).contains("the identity is that of SEC1"));
    world.write("sec/etc/hostname", "other");
    let differs = ss_sync(&sec, &["identity"]);
    assert_eq!(differs.status.code(), Some(3));
    assert_eq!(said(&differs).trim(), "at the next boot: replaced /etc/hostname");
    assert_eq!(world.read("sec/etc/hostname"), "other", "that is for the next boot");
}

#[test]
fn the_loop_is_controlled_as_a_service_and_a_cycle_can_be_had_now() {
    let world = World::new("/etc/web\n");
    let called = |name: &str| fs::read_to_string(world.path(name)).unwrap_or_default();
    play(
        &world,
        "systemctl",
        &format!("echo \"$@\" >> {}; [ $1 != is-active ] || echo active", world.path("units").display()),
    );
    let serve = format!("exec {PROGRAM} serve --root {}", world.path("sec").display());
    play(&world, "ssh", &format!("echo \"$@\" >> {}; {serve}", world.path("calls").display()));
    let ctrl = |args: &[&str]| with_scripts(&world, CTRL, args);
    for verb in ["start", "restart", "stop"] {
        let output = ctrl(&[verb]);
        assert!(output.status.success(), "{verb}: {}", said(&output));
    }
    let unit = "ssSyncLoop.service";
    assert_eq!(called("units"), format!("enable --now {unit}\nrestart {unit}\nstop {unit}\n"));

    let status = ctrl(&["status"]);
    assert_eq!((status.status.code(), said(&status).contains("none since the boot")), (Some(3), true));
    let now = ctrl(&["now"]);
    assert!(now.status.success(), "{}", said(&now));
    assert_eq!(world.read("sec/etc/web/web.conf"), "good 1\n");
    let call = called("calls");
    for option in
        ["-F none", "BatchMode=yes", "StrictHostKeyChecking=yes", "HostKeyAlias=SEC1", "root@10.0.0.2 ssSync serve"]
    {
        assert!(call.contains(option), "{option}: {call}");
    }
    let status = ctrl(&["status"]);
    assert_eq!((status.status.code(), said(&status).contains("synced")), (Some(0), true), "{}", said(&status));
    play(&world, "systemctl", "echo failed; exit 3");
    assert_eq!(ctrl(&["status"]).status.code(), Some(3), "a loop that does not run is not well");
    assert_eq!(ctrl(&["start"]).status.code(), Some(1));
}

#[test]
fn a_cycle_that_does_not_run_for_a_suspension_says_so_each_time() {
    let world = World::new("/etc/web\n");
    assert!(with_scripts(&world, CTRL, &["suspend", "new mail server"]).status.success());
    for _ in 0..2 {
        let refused = ss_sync(&world.path("pri"), &["cycle", "--rsh", "false"]);
        assert_eq!(refused.status.code(), Some(1));
        let told = String::from_utf8_lossy(&refused.stderr);
        assert!(told.contains("suspended: new mail server"), "{told}");
    }
}
