//! What an operator does with it, on a tree: the program as it is called, and what a person then sees.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking, in its helpers as well")]

mod common;

use common::{Answer, Server, package};
use std::{
    fs,
    os::unix::{
        fs::{PermissionsExt, symlink},
        process::CommandExt,
    },
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

/// A process that ends with the test.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A version whose program is a real one that keeps running: a copy of `sleep`.
fn install_sleeper(server: &Server, version: &str) {
    let folder = server.folder().join(format!("sleeper-{version}"));
    fs::create_dir_all(&folder).unwrap();
    fs::copy("/bin/sleep", folder.join("ssSync")).unwrap();
    fs::set_permissions(folder.join("ssSync"), fs::Permissions::from_mode(0o755)).unwrap();
    let output = server.folder().join(format!("sleeper-{version}.tar"));
    let (folder, output) = (folder.to_str().unwrap(), output.to_str().unwrap());
    server.run(&["pack", folder, output, "--name", "ssSync", "--version", version]).done();
    server.run(&["install", "--allow-unsigned", output]).done();
}

fn start(server: &Server) -> Running {
    let child = Command::new(server.path("bin/ssSync")).arg("600").stdin(Stdio::null()).spawn().unwrap();
    let running = Running(child);
    let exe = format!("/proc/{}/exe", running.0.id());
    wait_until(|| fs::read_link(&exe).is_ok_and(|path| path.to_str().unwrap().contains("ssSync.v")));
    running
}

fn wait_until(condition: impl Fn() -> bool) {
    let until = Instant::now() + Duration::from_secs(20);
    while !condition() {
        assert!(Instant::now() < until, "waited in vain");
        std::thread::sleep(Duration::from_millis(2));
    }
}

#[test]
fn a_person_with_a_shell_sees_what_the_layout_promises() {
    let server = Server::with_two_versions();
    assert_eq!(
        server.links(),
        [
            "ssSync -> ./update/ssSync.v1",
            "ssSync.cfg -> ./update/ssSync.cfg.v1",
            "ssSync.old -> ./update/ssSync.old.v1"
        ]
    );
    assert_eq!(fs::read_to_string(server.path("bin/ssSync")).unwrap(), "one");
    assert_eq!(fs::read_to_string(server.path("bin/update/ssSync.cfg.v2")).unwrap(), "cfg two");
    assert!(server.path("bin/beta").is_dir());
}

#[test]
fn set_moves_every_link_and_a_link_that_the_version_lacks_goes() {
    let server = Server::with_two_versions();
    let told = server.run(&["set", "ssSync", "v2"]).done();
    assert!(told.contains("set to update/v2 (before: update/v1)") && told.contains("bin/ssSync.old goes"), "{told}");
    let links = server.links();
    assert!(links.iter().all(|link| link.ends_with(".v2")) && links.len() == 3, "{links:?}");
    assert_eq!(server.link("ssSync.old"), None);
    assert_eq!(server.link("ssSync.new").as_deref(), Some("./update/ssSync.new.v2"));
    assert!(server.run(&["set", "ssSync", "v2"]).done().contains("is set already"));
    server.assert_whole();
}

#[test]
fn a_dry_run_changes_nothing() {
    let server = Server::with_two_versions();
    let package = server.package("v3", &[("ssSync", "three")]);
    let tree = || {
        let listing = Command::new("find").arg(server.root()).args(["-printf", "%p %l %s %i %C@\n"]).output().unwrap();
        Answer::of(&listing).out
    };
    let before = tree();
    for args in [
        vec!["set", "ssSync", "v2", "--dry-run"],
        vec!["remove", "ssSync", "v2", "--dry-run"],
        vec!["install", "--dry-run", "--allow-unsigned", package.to_str().unwrap()],
    ] {
        assert!(server.run(&args).done().contains("would be"), "{args:?}");
        assert_eq!(tree(), before, "{args:?}");
    }
}

#[test]
fn rollback_leads_to_what_was_set_before_and_history_says_who_and_when() {
    let server = Server::with_two_versions();
    assert!(server.run(&["rollback", "ssSync"]).refused().contains("no other version"));
    server.run(&["set", "ssSync", "v2"]).done();
    server.run(&["rollback", "ssSync"]).done();
    assert_eq!(server.link("ssSync").as_deref(), Some("./update/ssSync.v1"));
    server.run(&["rollback", "ssSync"]).done();
    assert_eq!(server.link("ssSync").as_deref(), Some("./update/ssSync.v2"));
    let history = server.json(&["history", "ssSync"]);
    let lines = history["lines"].as_array().unwrap();
    let shown: Vec<_> =
        lines.iter().map(|l| format!("{} {}", l["why"].as_str().unwrap(), l["to"].as_str().unwrap())).collect();
    assert_eq!(shown, ["set update/v1", "set update/v2", "rollback update/v1", "rollback update/v2"]);
    let me = Command::new("id").args(["--user", "--name"]).output().unwrap().stdout;
    let me = String::from_utf8(me).unwrap().trim_end().to_owned();
    assert!(lines.iter().all(|line| line["by"].as_str().unwrap().starts_with(&me)));
    assert!(lines.iter().all(|line| line["at"].as_str().unwrap().ends_with('Z')));
}

#[test]
fn one_look_shows_what_is_installed_set_and_running() {
    let server = Server::new();
    install_sleeper(&server, "v1");
    server.install("v2", &[("ssSync", "two")]);
    server.run(&["set", "ssSync", "v1"]).done();
    let running = start(&server);
    let pid = running.0.id();
    let list = server.json(&["list"]);
    let versions = &list["modules"][0]["versions"];
    assert_eq!(versions[0]["pids"], serde_json::json!([pid]));
    assert_eq!((&versions[0]["set"], &versions[1]["set"]), (&true.into(), &false.into()));
    assert!(list["modules"][0]["problems"].as_array().unwrap().is_empty());
    // Switched under the running program: it goes on, and stands out.
    server.run(&["set", "ssSync", "v2"]).done();
    let text = server.run(&["list", "ssSync"]).done();
    assert!(text.contains(&format!("! ssSync: update/v1 runs as process {pid}, but is not set")), "{text}");
    assert!(fs::read_link(format!("/proc/{pid}/exe")).unwrap().ends_with("modules/update/ssSync.v1"));
    let told = server.run(&["remove", "ssSync", "v1"]).refused();
    assert!(told.contains(&format!("runs now, as process {pid}")), "{told}");
    drop(running);
    server.run(&["remove", "ssSync", "v1"]).done();
}

#[test]
fn a_script_tells_its_version_although_its_process_is_the_interpreter() {
    let server = Server::new();
    server.install("v1", &[("ssSync", "#!/bin/sh\nsleep 600\nexit 0\n")]);
    server.install("v2", &[("ssSync", "#!/bin/sh\nexit 0\n")]);
    server.run(&["set", "ssSync", "v1"]).done();
    let child = Command::new(server.path("bin/ssSync")).process_group(0).spawn().unwrap();
    let group = nix::unistd::Pid::from_raw(child.id().try_into().unwrap());
    let running = Running(child);
    wait_until(|| server.json(&["list"])["modules"][0]["versions"][0]["pids"] == serde_json::json!([running.0.id()]));
    server.run(&["set", "ssSync", "v2"]).done();
    assert_eq!(server.json(&["list"])["modules"][0]["versions"][0]["pids"], serde_json::json!([running.0.id()]));
    nix::sys::signal::killpg(group, nix::sys::signal::Signal::SIGKILL).unwrap();
}

#[test]
fn the_set_version_and_one_that_a_trial_would_go_back_to_are_never_removed() {
    let server = Server::with_two_versions();
    assert!(server.run(&["remove", "ssSync", "v1"]).refused().contains("is set, and so it stays"));
    server.run(&["set", "ssSync", "v2", "--try", "2"]).done();
    assert!(server.run(&["remove", "ssSync", "v1"]).refused().contains("the trial"));
    server.run(&["healthy", "ssSync", "v2"]).done();
    server.run(&["remove", "ssSync", "v1"]).done();
    server.assert_whole();
    assert!(!server.path("modules/update/ssSync.v1").exists());
}

#[test]
fn a_trial_that_is_not_survived_sets_the_version_before_again_with_an_alert() {
    let server = Server::with_two_versions();
    assert!(server.run(&["set", "ssSync", "v1", "--try", "2"]).refused().contains("no other version set"));
    server.run(&["set", "ssSync", "v2", "--try", "2"]).done();
    for start in ["start 1 of 2", "start 2 of 2"] {
        assert!(server.run(&["started", "ssSync"]).done().contains(start));
        assert_eq!(server.link("ssSync").as_deref(), Some("./update/ssSync.v2"));
    }
    // The version before reports itself healthy: that says nothing of the one on trial.
    server.run(&["healthy", "ssSync", "v1"]).done();
    let answer = server.run(&["started", "ssSync"]);
    assert_eq!(answer.code, Some(3), "{answer:?}");
    let told = answer.out;
    assert!(told.contains("v2 did not report itself healthy within 2 starts; update/v1 is set again"), "{told}");
    assert_eq!(server.link("ssSync").as_deref(), Some("./update/ssSync.v1"));
    let notice: serde_json::Value = serde_json::from_str(&server.notices()).unwrap();
    assert!(notice["text"].as_str().unwrap().contains("update/v1 is set again"), "{notice}");
    assert!(server.run(&["started", "ssSync"]).done().is_empty(), "the trial is over");
    assert!(server.run(&["rollback", "ssSync"]).refused().contains("no other version"), "not to the one that failed");
}

#[test]
fn a_run_that_ended_badly_counts_where_it_was_the_last_of_the_trial() {
    let server = Server::with_two_versions();
    server.install("v2.1", &[("ssSync", "two"), ("ssSyncHelp", "a second program")]);
    server.run(&["set", "ssSync", "v2.1", "--try", "2"]).done();
    server.run(&["started", "ssSync"]).done();
    assert!(server.run(&["failed", "ssSync", "v2.1"]).done().contains("start 1 of 2 ended badly"));
    // Any of its programs stands for the module; one that is nobody's stands for nothing.
    assert!(server.run(&["started", "ssSyncHelp"]).done().contains("start 2 of 2"));
    assert!(server.run(&["started", "nobodys"]).done().is_empty());
    assert!(server.run(&["failed", "ssSync", "v1"]).done().is_empty(), "v1 is not on trial");
    assert_eq!(server.link("ssSync").as_deref(), Some("./update/ssSync.v2.1"));
    let last = server.run(&["failed", "ssSyncHelp", "update/v2.1"]);
    assert!(last.code == Some(3) && last.out.contains("within 2 starts; update/v1 is set again"), "{last:?}");
    assert_eq!(server.link("ssSync").as_deref(), Some("./update/ssSync.v1"));
    assert!(server.notices().contains("update/v1 is set again"));
}

#[test]
fn a_trial_that_reports_itself_healthy_stays() {
    let server = Server::with_two_versions();
    server.run(&["set", "ssSync", "v2", "--try", "1"]).done();
    server.run(&["started", "ssSync"]).done();
    assert!(server.run(&["list"]).done().contains("on trial, start 1 of 1"));
    assert!(server.run(&["healthy", "ssSync", "v2"]).done().contains("its trial is over"));
    for _ in 0..3 {
        server.run(&["started", "ssSync"]).done();
    }
    assert_eq!(server.link("ssSync").as_deref(), Some("./update/ssSync.v2"));
    assert_eq!(server.notices(), "");
}

#[test]
fn a_version_that_cannot_read_the_data_on_the_unbound_disk_is_refused_with_the_name_of_the_writer() {
    let server = Server::new();
    let folder = server.folder().join("old");
    fs::create_dir_all(&folder).unwrap();
    fs::write(folder.join("ssSync"), "old").unwrap();
    fs::write(
        folder.join("module.toml"),
        "name = \"ssSync\"\nversion = \"v1\"\n[[data]]\nname = \"manifest\"\nreads = [1]\n",
    )
    .unwrap();
    let package = server.folder().join("old.tar");
    server.run(&["pack", folder.to_str().unwrap(), package.to_str().unwrap()]).done();
    server.run(&["install", "--allow-unsigned", package.to_str().unwrap()]).done();
    let sid = server.root().join("unbound/SID_DATA");
    fs::create_dir_all(sid.join("formats")).unwrap();
    server.run(&["set", "ssSync", "v1", "--dry-run"]).done();
    fs::write(sid.join("formats/manifest.toml"), "format = 2\nwritten_by = \"ssSync v2\"\n").unwrap();
    let told = server.run(&["set", "ssSync", "v1"]).refused();
    assert!(told.contains("manifest is of format 2") && told.contains("written by ssSync v2; it reads 1"), "{told}");
    assert!(
        told.contains("--force, ssSync v1 would refuse these data, or read them wrongly and write over them"),
        "{told}"
    );
    assert_eq!(server.link("ssSync"), None);
    let forced = server.run(&["set", "ssSync", "v1", "--force"]).done();
    assert!(forced.contains("warning") && forced.contains("write over them"), "{forced}");
    assert!(server.run(&["history"]).done().contains("forced"));
}

#[test]
fn installing_again_is_fine_other_content_is_refused_and_damage_is_mended() {
    let server = Server::with_two_versions();
    let again = server.package("v2", &[("ssSync", "two"), ("ssSync.cfg", "cfg two"), ("ssSync.new", "y")]);
    let again = ["install", "--allow-unsigned", again.to_str().unwrap()];
    assert!(server.run(&again).done().contains("is installed already"));
    fs::write(server.path("modules/update/ssSync.cfg.v2"), "cfg twO").unwrap();
    let verified = server.run(&["verify"]);
    assert_eq!(verified.code, Some(3));
    assert!(verified.out.contains("update/ssSync.cfg.v2: its content is not what was installed"), "{verified:?}");
    assert!(server.run(&["set", "ssSync", "v2"]).refused().contains("is damaged"), "a damaged version is not set");
    assert!(server.run(&again).done().contains("mended"));
    server.assert_whole();
    let other = server.package("v2", &[("ssSync", "another two")]);
    for channel in [&[][..], &["--beta"]] {
        let args = [&["install", "--allow-unsigned", other.to_str().unwrap()], channel].concat();
        assert!(server.run(&args).refused().contains("already, with other content"));
    }
    server.assert_whole();
}

#[test]
fn updates_and_betas_lie_apart_and_are_seen_apart() {
    let server = Server::with_two_versions();
    let beta = server.package("v3", &[("ssSync", "three")]);
    server.run(&["install", "--allow-unsigned", "--beta", beta.to_str().unwrap()]).done();
    assert_eq!(fs::read_to_string(server.path("bin/beta/ssSync.v3")).unwrap(), "three");
    let versions = |args: &[&str]| {
        let list = server.json(args);
        let versions = list["modules"][0]["versions"].as_array().unwrap().clone();
        versions.iter().map(|v| v["version"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(versions(&["list", "--in", "beta"]), ["v3"]);
    assert_eq!(versions(&["list", "--in", "update"]), ["v1", "v2"]);
    server.run(&["set", "ssSync", "v3"]).done();
    assert_eq!(server.links(), ["ssSync -> ./beta/ssSync.v3"]);
    server.run(&["set", "ssSync", "update/v2"]).done();
}

#[test]
fn only_packages_of_trusted_makers_go_in_without_being_told_otherwise() {
    let server = Server::with_two_versions();
    let unsigned = server.package("v3", &[("ssSync", "three")]);
    let told = server.run(&["install", unsigned.to_str().unwrap()]).refused();
    assert!(told.contains("not signed") && told.contains("--allow-unsigned"), "{told}");
    let pair = minisign::KeyPair::generate_unencrypted_keypair().unwrap();
    let key = server.folder().join("maker.key");
    fs::write(&key, pair.sk.to_box(None).unwrap().to_string()).unwrap();
    let (folder, signed) = (server.folder().join("src-ssSync-v3"), server.folder().join("signed.tar.zst"));
    let pack = ["pack", folder.to_str().unwrap(), signed.to_str().unwrap(), "--name", "ssSync", "--version", "v3"];
    server.run(&[&pack[..], &["--key", key.to_str().unwrap()]].concat()).done();
    let install = ["install", signed.to_str().unwrap()];
    assert!(server.run(&install).refused().contains("not among those in"));
    let keys = server.root().join("etc/atlas/trusted-keys.d");
    fs::create_dir_all(&keys).unwrap();
    fs::write(keys.join("maker.pub"), pair.pk.to_box().unwrap().to_string()).unwrap();
    let answer = server.json(&install);
    assert_eq!(answer["packages"][0]["installed"]["signed_by"], "maker.pub");
}

#[test]
fn a_delivery_is_set_until_an_operator_chooses_and_then_it_only_lies_there() {
    let server = Server::new();
    let deliver = |version: &str| {
        let package = server.package(version, &[("ssSync", version)]);
        server.run(&["install", "--allow-unsigned", "--deliver", package.to_str().unwrap()]).done();
        server.link("ssSync").unwrap()
    };
    assert_eq!(deliver("v1"), "./update/ssSync.v1");
    assert_eq!(deliver("v2"), "./update/ssSync.v2");
    server.run(&["set", "ssSync", "v1"]).done();
    assert_eq!(deliver("v3"), "./update/ssSync.v1");
    // Choosing what is set already is a choice, too.
    server.run(&["set", "ssSync", "v1"]).done();
    assert_eq!(deliver("v4"), "./update/ssSync.v1");
    let list = server.json(&["list"]);
    assert_eq!(list["modules"][0]["versions"].as_array().unwrap().len(), 4, "nothing is ever removed");
}

#[test]
fn choosing_what_was_delivered_keeps_the_next_delivery_from_changing_it() {
    let server = Server::new();
    let package = |version: &str| server.package(version, &[("ssSync", version)]).to_str().unwrap().to_owned();
    server.run(&["install", "--allow-unsigned", "--deliver", &package("v1")]).done();
    server.run(&["set", "ssSync", "v1"]).done();
    server.run(&["install", "--allow-unsigned", "--deliver", &package("v2")]).done();
    assert_eq!(server.link("ssSync").as_deref(), Some("./update/ssSync.v1"));
}

#[test]
fn two_sets_at_once_end_with_one_of_them_whole_and_readers_never_see_a_mix() {
    let server = Server::with_two_versions();
    server.run(&["set", "ssSync", "v2"]).done();
    let children: Vec<Child> = (0..12)
        .map(|n| {
            let mut command = server.command(&["set", "ssSync", if n % 2 == 0 { "v1" } else { "v2" }]);
            command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
        })
        .collect();
    let mut looks = 0;
    let ended: Vec<_> = children
        .into_iter()
        .map(|mut child| {
            loop {
                let list = server.json(&["list"]);
                assert!(list["modules"][0]["set"].is_string(), "{list}");
                assert_eq!(list["modules"][0]["problems"], serde_json::json!([]), "{list}");
                looks += 1;
                if let Some(status) = child.try_wait().unwrap() {
                    return status;
                }
            }
        })
        .collect();
    assert!(ended.iter().all(|status| status.success()), "{ended:?}");
    assert!(looks >= 12);
    server.assert_whole();
    let lines = server.json(&["history"])["lines"].as_array().unwrap().len();
    assert!((3..=14).contains(&lines), "{lines}");
}

#[test]
fn what_somebody_put_into_bin_by_hand_stands_out_and_is_never_lost() {
    let server = Server::with_two_versions();
    fs::write(server.path("bin/note"), "by hand").unwrap();
    fs::create_dir(server.path("bin/kept")).unwrap();
    fs::write(server.path("bin/kept/file"), "inside").unwrap();
    symlink("/nowhere", server.path("bin/foreign")).unwrap();
    symlink("./update/other.v7", server.path("bin/other")).unwrap();
    fs::remove_file(server.path("bin/ssSync.cfg")).unwrap();
    fs::write(server.path("bin/ssSync.cfg"), "edited in place").unwrap();
    let list = server.run(&["list"]).done();
    for expected in [
        "bin/note is no link; somebody put it there",
        "bin/kept is no link",
        "bin/foreign points to /nowhere, which is no version of a module",
        "bin/other points to ./update/other.v7, which is not there",
        "no whole version is set",
    ] {
        assert!(list.contains(expected), "'{expected}' is not in\n{list}");
    }
    assert_eq!(server.run(&["verify"]).code, Some(3));
    let told = server.run(&["set", "ssSync", "v2"]).done();
    assert!(told.contains("bin/ssSync.cfg.by-hand"), "{told}");
    assert_eq!(fs::read_to_string(server.path("bin/ssSync.cfg.by-hand")).unwrap(), "edited in place");
    assert_eq!(fs::read_to_string(server.path("bin/ssSync.cfg")).unwrap(), "cfg two");
    assert_eq!(fs::read_to_string(server.path("bin/note")).unwrap(), "by hand");
    assert_eq!(fs::read_to_string(server.path("bin/kept/file")).unwrap(), "inside");
    assert_eq!(server.link("foreign").as_deref(), Some("/nowhere"));
    assert!(!server.path(".bin-next").exists());
}

#[test]
fn a_directory_in_the_place_of_a_link_is_refused_with_the_way_out() {
    let server = Server::with_two_versions();
    fs::create_dir(server.path("bin/ssSync.new")).unwrap();
    let before = server.links();
    let told = server.run(&["set", "ssSync", "v2"]).refused();
    assert!(told.contains("is a directory") && told.contains("try: move it away: mv"), "{told}");
    assert_eq!(server.links(), before);
}

#[test]
fn a_tree_in_which_bin_holds_the_versions_themselves_is_taken_over() {
    let server = Server::new();
    fs::create_dir_all(server.path("bin/update")).unwrap();
    fs::create_dir_all(server.path("bin/beta")).unwrap();
    fs::write(server.path("bin/update/ssSync.v0"), "by hand").unwrap();
    symlink("./update/ssSync.v0", server.path("bin/ssSync")).unwrap();
    server.install("v1", &[("ssSync", "one")]);
    assert_eq!(fs::read_to_string(server.path("bin/ssSync")).unwrap(), "by hand");
    assert_eq!(fs::read_to_string(server.path("bin/update/ssSync.v1")).unwrap(), "one");
    assert!(
        server.run(&["list"]).done().contains("bin/ssSync points to ./update/ssSync.v0, which no package installed")
    );
    server.run(&["set", "ssSync", "v1"]).done();
    assert_eq!(fs::read_to_string(server.path("bin/ssSync")).unwrap(), "one");
    assert!(server.path("bin/update/ssSync.v0").exists());
}

#[test]
fn completion_knows_the_modules_and_versions_of_this_server() {
    let server = Server::with_two_versions();
    package(server.folder(), "other", "v5", &[("other", "x")]);
    server.install_module("other", "v5", &[("other", "x")]);
    let complete = |words: &[&str]| {
        let mut command = Command::new(common::PROGRAM);
        command
            .env("COMPLETE", "bash")
            .env("_CLAP_IFS", "\n")
            .env("_CLAP_COMPLETE_INDEX", (words.len() + 2).to_string());
        command.args(["--", "atlas-module", "--root"]).arg(server.root()).args(words);
        Answer::of(&command.output().unwrap()).done().lines().map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(complete(&["set", "ss"]), ["ssSync"]);
    assert_eq!(complete(&["set", "ssSync", "v"]), ["v2", "v1"]);
    assert_eq!(complete(&["remove", "other", ""])[..1], ["v5"]);
}

#[test]
fn a_wrong_call_ends_with_two_and_an_error_in_json_is_json() {
    let server = Server::with_two_versions();
    for args in [&["set", "ssSync"][..], &["set", "ssSync", "2"], &["set", "../x", "v1"], &["nonsense"]] {
        assert_eq!(server.run(args).code, Some(2), "{args:?}");
    }
    let answer = server.run(&["--json", "set", "ssSync", "v77"]);
    let told: serde_json::Value = serde_json::from_str(&answer.err).unwrap();
    assert_eq!(answer.code, Some(1));
    assert!(told["hints"][0].as_str().unwrap().contains("update/v2, update/v1"), "{told}");
    let help = server.run(&["--help"]).done();
    assert!(help.contains("Examples:") && help.contains("atlas-module rollback ssSync"), "{help}");
}

/// Runs a shell script as root of a mount namespace of its own.
fn in_own_mounts(script: &str) -> Answer {
    let mut command = Command::new("unshare");
    if !nix::unistd::geteuid().is_root() {
        command.arg("--map-root-user");
    }
    let output = command.args(["--mount", "sh", "-euc", script]).env("PROGRAM", common::PROGRAM).output().unwrap();
    Answer::of(&output)
}

#[test]
fn on_a_read_only_disk_one_can_look_and_is_told_how_to_go_on() {
    let server = Server::with_two_versions();
    let script = format!(
        "mount --bind {root} {root}; mount -o remount,bind,ro {root}; ! touch {root}/x 2>/dev/null\n\
         \"$PROGRAM\" --root {root} list; \"$PROGRAM\" --root {root} verify; exec \"$PROGRAM\" --root {root} set ssSync v2",
        root = server.root().display()
    );
    let answer = in_own_mounts(&script);
    assert!(answer.out.contains("all as they were installed"), "{answer:?}");
    let told = answer.refused();
    assert!(told.contains("Read-only file system") && told.contains("remount,rw"), "{told}");
    assert_eq!(server.link("ssSync").as_deref(), Some("./update/ssSync.v1"));
}

#[test]
fn on_a_full_disk_nothing_changes_and_it_goes_on_once_there_is_room() {
    let server = Server::with_two_versions();
    let mount = server.folder().join("small");
    fs::create_dir(&mount).unwrap();
    let script = format!(
        "mount -t tmpfs -o size=1m,nr_inodes=60 small {mount}; cp -a {root} {mount}/root; P=\"$PROGRAM --root {mount}/root\"\n\
         i=0; while true > {mount}/fill$i; do i=$((i+1)); done 2>/dev/null || true; cat /dev/zero > {mount}/fill0 2>/dev/null || true\n\
         $P set ssSync v2 2>&1 && exit 9; $P list; $P verify; readlink {mount}/root/opt/atlas/bin/ssSync\n\
         rm {mount}/fill*; $P set ssSync v2; $P verify; ls -A {mount}/root/opt/atlas",
        root = server.root().display(),
        mount = mount.display()
    );
    let out = in_own_mounts(&script).done();
    let (full, free) = out.split_once("./update/ssSync.v1\n").expect("v1 is still set while the disk is full");
    assert!(full.contains("No space left on device") && full.contains("try: free some space"), "{full}");
    assert!(full.contains("all as they were installed") && free.contains("all as they were installed"), "{out}");
    assert!(free.ends_with("bin\nmodules\n"), "{free}");
}
