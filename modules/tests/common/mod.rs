//! A server in a temporary folder, and the real program run on it.

#![allow(dead_code, unreachable_pub, reason = "each test file uses its part")]

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Command, Output},
};

/// The program under test.
pub const PROGRAM: &str = env!("CARGO_BIN_EXE_atlas-module");

/// A server's tree.
pub struct Server {
    tmp: tempfile::TempDir,
}

/// What one call of the program gave.
#[derive(Debug)]
pub struct Answer {
    pub code: Option<i32>,
    pub out: String,
    pub err: String,
}

impl Answer {
    pub fn of(output: &Output) -> Answer {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Answer { code: output.status.code(), out: text(&output.stdout), err: text(&output.stderr) }
    }

    /// The answer of a call that must succeed.
    #[track_caller]
    pub fn done(self) -> String {
        assert_eq!(self.code, Some(0), "{self:?}");
        self.out
    }

    /// What a call that must fail told.
    #[track_caller]
    pub fn refused(self) -> String {
        assert_eq!(self.code, Some(1), "{self:?}");
        self.err
    }
}

impl Server {
    pub fn new() -> Server {
        let server = Server { tmp: tempfile::tempdir().unwrap() };
        fs::create_dir_all(server.root()).unwrap();
        server
    }

    /// One with v1 and v2 of `ssSync`, v1 set; v1 has an additional file that v2 lacks, and the other way round.
    pub fn with_two_versions() -> Server {
        let server = Server::new();
        server.install("v1", &[("ssSync", "one"), ("ssSync.cfg", "cfg one"), ("ssSync.old", "x")]);
        server.install("v2", &[("ssSync", "two"), ("ssSync.cfg", "cfg two"), ("ssSync.new", "y")]);
        server.run(&["set", "ssSync", "v1"]).done();
        server
    }

    pub fn root(&self) -> PathBuf {
        self.tmp.path().join("root")
    }

    /// A folder beside the root directory, for what a test needs.
    pub fn folder(&self) -> &Path {
        self.tmp.path()
    }

    pub fn path(&self, below_atlas: &str) -> PathBuf {
        self.root().join("opt/atlas").join(below_atlas)
    }

    pub fn run(&self, args: &[&str]) -> Answer {
        Answer::of(&self.command(args).output().unwrap())
    }

    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(PROGRAM);
        command.arg("--root").arg(self.root()).args(args);
        command
    }

    pub fn json(&self, args: &[&str]) -> serde_json::Value {
        let mut all = vec!["--json"];
        all.extend(args);
        serde_json::from_str(&self.run(&all).done()).unwrap()
    }

    /// Packs a version of `ssSync`; gives the path of the package.
    pub fn package(&self, version: &str, files: &[(&str, &str)]) -> PathBuf {
        package(self.tmp.path(), "ssSync", version, files)
    }

    pub fn install(&self, version: &str, files: &[(&str, &str)]) {
        self.install_module("ssSync", version, files);
    }

    pub fn install_module(&self, module: &str, version: &str, files: &[(&str, &str)]) {
        let package = package(self.tmp.path(), module, version, files);
        self.run(&["install", "--allow-unsigned", package.to_str().unwrap()]).done();
    }

    /// Where the link of a file points to; `None` where there is none.
    pub fn link(&self, name: &str) -> Option<String> {
        fs::read_link(self.path("bin").join(name)).ok().map(|to| to.to_str().unwrap().to_owned())
    }

    /// What a person sees of `bin`: every link that is a version's, with its target.
    pub fn links(&self) -> Vec<String> {
        links_of(&self.root())
    }

    /// The notices about modules that wait for somebody.
    pub fn notices(&self) -> String {
        let Ok(notices) = fs::read_dir(self.root().join("var/lib/atlas/notices")) else { return String::new() };
        notices.map(|entry| fs::read_to_string(entry.unwrap().path()).unwrap()).collect()
    }

    /// Asserts that the links are exactly those of one version, that every link leads somewhere, and that `verify` finds nothing.
    #[track_caller]
    pub fn assert_whole(&self) {
        let verified = self.run(&["verify"]);
        assert_eq!(verified.code, Some(0), "{verified:?}");
    }
}

pub fn links_of(root: &Path) -> Vec<String> {
    let Ok(entries) = fs::read_dir(root.join("opt/atlas/bin")) else { return vec![] };
    let mut links: Vec<String> = entries
        .filter_map(|entry| {
            let entry = entry.unwrap();
            let target = fs::read_link(entry.path()).ok()?.to_str()?.to_owned();
            target.starts_with("./").then(|| format!("{} -> {target}", entry.file_name().to_str().unwrap()))
        })
        .collect();
    links.sort();
    links
}

/// Packs a version of a module; programs are those files that have the module's name.
pub fn package(dir: &Path, module: &str, version: &str, files: &[(&str, &str)]) -> PathBuf {
    let folder = dir.join(format!("src-{module}-{version}"));
    let _ = fs::remove_dir_all(&folder);
    fs::create_dir_all(&folder).unwrap();
    for (name, content) in files {
        fs::write(folder.join(name), content).unwrap();
        let mode = if *name == module { 0o755 } else { 0o644 };
        fs::set_permissions(folder.join(name), fs::Permissions::from_mode(mode)).unwrap();
    }
    let output = dir.join(format!("{module}-{version}.tar.zst"));
    let args = ["pack", folder.to_str().unwrap(), output.to_str().unwrap(), "--name", module, "--version", version];
    Answer::of(&Command::new(PROGRAM).args(args).output().unwrap()).done();
    output
}
