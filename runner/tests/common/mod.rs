//! A server's tree in a temporary folder, and ssRun with it as its root.

#![allow(dead_code, unreachable_pub, reason = "each test file uses its part")]

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
    time::{Duration, Instant},
};

pub const SS_RUN: &str = env!("CARGO_BIN_EXE_ssRun");

/// A server's tree.
pub struct Server {
    root: tempfile::TempDir,
}

impl Server {
    pub fn new() -> Server {
        Server { root: tempfile::tempdir().unwrap() }
    }

    pub fn path(&self) -> &Path {
        self.root.path()
    }

    pub fn ss_run(&self, options: &[&str], script: &str) -> Command {
        let mut command = Command::new(SS_RUN);
        command.arg("--root").arg(self.path()).args(options).args(["--name", "p", "--", "sh", "-c", script]);
        command.current_dir(self.path()).stdin(Stdio::null()).env_remove("SSH_CONNECTION");
        command
    }

    pub fn run(&self, options: &[&str], script: &str) -> Output {
        self.ss_run(&[&["--no-handlers"], options].concat(), script).output().unwrap()
    }

    pub fn logs(&self) -> Vec<PathBuf> {
        let dir = self.path().join("var/log/atlas");
        let entries = fs::read_dir(dir).into_iter().flatten().map(|entry| entry.unwrap().path());
        let mut logs: Vec<PathBuf> =
            entries.filter(|path| path.file_name().unwrap().to_string_lossy().starts_with("LOG.")).collect();
        logs.sort();
        logs
    }

    pub fn log(&self) -> String {
        let logs = self.logs();
        assert_eq!(logs.len(), 1, "{logs:?}");
        String::from_utf8_lossy(&fs::read(&logs[0]).unwrap()).into_owned()
    }
}

pub fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let end = Instant::now() + Duration::from_secs(30);
    while !condition() {
        assert!(Instant::now() < end, "waited in vain until {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Copied by another process: a program that this one holds open for writing cannot be run by its other threads.
fn install(from: &Path, to: &Path) {
    assert!(Command::new("cp").arg("-p").arg(from).arg(to).status().unwrap().success());
}

/// ssRun finds its handlers beside itself: a folder with the ones of a test.
pub fn with_handlers(server: &Server, handlers: &[(&str, &str)]) -> PathBuf {
    use std::os::unix::fs::PermissionsExt;
    let bin = server.path().join("bin");
    fs::create_dir_all(&bin).unwrap();
    install(Path::new(SS_RUN), &bin.join("ssRun"));
    for (name, script) in handlers {
        let text = bin.join(format!("{name}.text"));
        fs::write(&text, format!("#!/bin/sh\n{script}\n")).unwrap();
        fs::set_permissions(&text, fs::Permissions::from_mode(0o755)).unwrap();
        install(&text, &bin.join(name));
    }
    bin.join("ssRun")
}
