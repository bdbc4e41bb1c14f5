//! A version on trial, run by ssRun: the real programs, from `set --try` to the alert.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test ends where something is not as it must be")]

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
    sync::OnceLock,
    time::{Duration, Instant},
};

/// `atlas-module`, which is another crate's program: built where ssRun was.
fn atlas_module() -> &'static Path {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    BUILT.get_or_init(|| {
        let build = ["build", "--quiet", "--locked", "--package", "atlas-module", "--message-format", "json"];
        let output = Command::new(env!("CARGO")).args(build).stderr(Stdio::inherit()).output().unwrap();
        let messages = String::from_utf8(output.stdout).unwrap();
        let built = messages.lines().find_map(|line| {
            let message: serde_json::Value = serde_json::from_str(line).unwrap();
            message["executable"].as_str().map(PathBuf::from)
        });
        built.expect("cargo built atlas-module")
    })
}

/// A server with the module `oven`: v1 is good and set; v2 is what a test wants.
struct Server {
    root: tempfile::TempDir,
    bin: PathBuf,
}

impl Server {
    fn new(second: &str) -> Server {
        let root = tempfile::tempdir().unwrap();
        let bin = root.path().join("usr/bin");
        fs::create_dir_all(&bin).unwrap();
        let server = Server { root, bin };
        // By another process: a program that this one holds open for writing cannot be run by its other threads.
        for program in [Path::new(env!("CARGO_BIN_EXE_ssRun")), atlas_module()] {
            assert!(Command::new("cp").arg(program).arg(&server.bin).status().unwrap().success());
        }
        server.install("v1", "echo v1 bakes");
        server.module(&["set", "oven", "v1"]);
        server.install("v2", second);
        server
    }

    fn install(&self, version: &str, script: &str) {
        let folder = self.root.path().join(version);
        fs::create_dir(&folder).unwrap();
        fs::write(folder.join("oven"), format!("#!/bin/sh\n{script}\n")).unwrap();
        fs::set_permissions(folder.join("oven"), fs::Permissions::from_mode(0o755)).unwrap();
        let package = self.root.path().join(format!("{version}.tar"));
        let (folder, package) = (folder.to_str().unwrap(), package.to_str().unwrap());
        self.module(&["pack", folder, package, "--name", "oven", "--version", version]);
        self.module(&["install", "--allow-unsigned", package]);
    }

    fn module(&self, arguments: &[&str]) -> String {
        let output = Command::new(atlas_module()).arg("--root").arg(self.root.path()).args(arguments).output().unwrap();
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap()
    }

    fn ss_run(&self, options: &[&str]) -> Command {
        let mut command = Command::new(self.bin.join("ssRun"));
        command.arg("--root").arg(self.root.path()).args(["--no-handlers", "--to", "both"]).args(options);
        command.arg(self.root.path().join("opt/atlas/bin/oven")).stdin(Stdio::null()).current_dir(self.root.path());
        command
    }

    fn run(&self) -> Output {
        self.ss_run(&[]).output().unwrap()
    }

    fn is_set(&self) -> String {
        let link = fs::read_link(self.root.path().join("opt/atlas/bin/oven")).unwrap();
        link.extension().unwrap().to_str().unwrap().to_owned()
    }

    fn logs(&self) -> String {
        let logs = fs::read_dir(self.root.path().join("var/log/atlas")).unwrap();
        let mut logs: Vec<PathBuf> = logs.map(|entry| entry.unwrap().path()).collect();
        logs.retain(|log| log.file_name().unwrap().to_str().unwrap().starts_with("LOG."));
        logs.sort();
        logs.iter().map(|log| fs::read_to_string(log).unwrap()).collect()
    }

    /// What waits for somebody to see it, where anything does.
    fn alert(&self) -> Option<String> {
        let notices = fs::read_dir(self.root.path().join("var/lib/atlas/notices")).ok()?;
        Some(notices.map(|entry| fs::read_to_string(entry.unwrap().path()).unwrap()).collect())
    }
}

#[test]
fn a_crashing_version_is_set_back_at_its_last_start_with_an_alert() {
    let server = Server::new("echo v2 crashes; kill -SEGV $$");
    server.module(&["set", "oven", "v2", "--try", "3"]);
    for start in 1..=3 {
        assert_eq!((server.is_set().as_str(), server.alert()), ("v2", None), "before start {start}");
        assert_eq!(server.run().status.code(), Some(128 + 11), "start {start}");
    }
    assert_eq!(server.is_set(), "v1");
    let alert = server.alert().expect("an alert is raised");
    assert!(alert.contains("v2 did not report itself healthy within 3 starts; update/v1 is set again"), "{alert}");
    let logs = server.logs();
    for told in ["start 1 of 3", "start 3 of 3", "start 2 of 3 ended badly", "update/v1 is set again"] {
        assert!(logs.contains(told), "'{told}' is not in\n{logs}");
    }
    let output = server.run();
    assert_eq!((output.status.code(), output.stdout.as_slice()), (Some(0), b"v1 bakes\n".as_slice()));
    assert!(server.module(&["list"]).lines().any(|line| line.contains("v1") && line.contains("set")));
}

#[test]
fn a_version_that_cannot_even_be_started_is_set_back() {
    let server = Server::new("exit 0");
    let program = server.root.path().join("v2/oven");
    fs::write(&program, "#!/nonexistent/interpreter\n").unwrap();
    let package = server.root.path().join("v3.tar");
    let (folder, package) = (program.parent().unwrap().to_str().unwrap(), package.to_str().unwrap());
    server.module(&["pack", folder, package, "--name", "oven", "--version", "v3"]);
    server.module(&["install", "--allow-unsigned", package]);
    server.module(&["set", "oven", "v3", "--try", "1"]);
    assert_eq!(server.run().status.code(), Some(127));
    assert_eq!((server.is_set().as_str(), server.alert().is_some()), ("v1", true));
}

#[test]
fn a_version_whose_run_ends_well_stays() {
    let server = Server::new("test -e bread || { touch bread; exit 1; }");
    server.module(&["set", "oven", "v2", "--try", "2"]);
    assert_eq!(server.run().status.code(), Some(1), "the first start is a bad one");
    assert_eq!(server.run().status.code(), Some(0));
    assert!(server.logs().contains("oven update/v2 is healthy; its trial is over"), "{}", server.logs());
    fs::remove_file(server.root.path().join("bread")).unwrap();
    for _ in 0..3 {
        server.run();
    }
    assert_eq!((server.is_set().as_str(), server.alert()), ("v2", None));
}

#[test]
fn a_version_that_lasts_is_healthy_before_it_ends() {
    let server = Server::new("trap 'exit 9' TERM; while :; do sleep 0.02; done");
    server.module(&["set", "oven", "v2", "--try", "1"]);
    let mut child = server.ss_run(&["--healthy-after", "1"]).stdout(Stdio::null()).spawn().unwrap();
    let end = Instant::now() + Duration::from_secs(30);
    while server.module(&["list"]).contains("on trial") {
        assert!(Instant::now() < end, "it was never reported healthy: {}", server.logs());
        std::thread::sleep(Duration::from_millis(20));
    }
    assert!(child.try_wait().unwrap().is_none(), "it was to be reported while it runs");
    terminate(&child);
    assert_eq!(child.wait().unwrap().code(), Some(9));
    assert_eq!((server.is_set().as_str(), server.alert()), ("v2", None));
}

#[test]
fn a_version_that_somebody_stopped_has_not_failed() {
    let server = Server::new("trap 'exit 9' TERM; echo ready > ready; while :; do sleep 0.02; done");
    server.module(&["set", "oven", "v2", "--try", "1"]);
    let mut child = server.ss_run(&[]).stdout(Stdio::null()).spawn().unwrap();
    while !server.root.path().join("ready").exists() {
        assert!(child.try_wait().unwrap().is_none(), "{}", server.logs());
        std::thread::sleep(Duration::from_millis(5));
    }
    terminate(&child);
    assert_eq!(child.wait().unwrap().code(), Some(9));
    assert_eq!((server.is_set().as_str(), server.alert()), ("v2", None));
}

fn terminate(child: &std::process::Child) {
    let pid = nix::unistd::Pid::from_raw(child.id().cast_signed());
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM).unwrap();
}

#[test]
fn a_broken_atlas_module_never_stops_the_run() {
    let server = Server::new("echo v2 bakes");
    server.module(&["set", "oven", "v2", "--try", "1"]);
    for broken in ["exit 99", "kill -SEGV $$", "sleep 60", "head -c 100000000 /dev/zero", ""] {
        let path = server.bin.join("atlas-module");
        fs::remove_file(&path).ok();
        if !broken.is_empty() {
            let text = server.root.path().join("broken");
            fs::write(&text, format!("#!/bin/sh\n{broken}\n")).unwrap();
            fs::set_permissions(&text, fs::Permissions::from_mode(0o755)).unwrap();
            assert!(Command::new("cp").arg("-p").arg(&text).arg(&path).status().unwrap().success());
        }
        let started = Instant::now();
        let output = server.ss_run(&["--handler-deadline", "1"]).env("PATH", "/usr/bin:/bin").output().unwrap();
        let took = started.elapsed();
        assert!(output.stdout.ends_with(b"v2 bakes\n") && output.status.success(), "{broken}: {output:?}");
        assert!(took < Duration::from_secs(15), "{broken}: {took:?}");
    }
    assert!(server.logs().contains("atlas-module: no answer"), "{}", server.logs());
}
