//! Builds the corpus from source, crashes it, and reads the cores.
#![allow(clippy::unwrap_used, clippy::panic, dead_code, reason = "helpers of tests, each test using some")]

pub(crate) mod languages;

use atlas_corehandler::{
    clean::Rules,
    core_file::Core,
    signature::Signature,
    space::Search,
    traceback::{Detail, Traceback},
};
use std::{
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

/// A way to build one of the sources.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Environment {
    /// What the table calls it.
    pub(crate) name: &'static str,
    /// The compiler and its flags; the source and the output are added.
    pub(crate) build: &'static str,
    /// A shell script that changes the built `faults`; none where empty.
    pub(crate) after: &'static str,
    /// A variable that the program runs with: `NAME=value`; none where empty.
    pub(crate) variable: &'static str,
}

impl Environment {
    /// The name of its directory.
    pub(crate) fn folder(&self) -> String {
        self.name.replace(' ', "_")
    }
}

/// An environment that is only built.
pub(crate) const fn built(name: &'static str, build: &'static str) -> Environment {
    Environment { name, build, after: "", variable: "" }
}

pub(crate) fn shell(dir: &Path, script: &str) -> std::process::Output {
    let output = Command::new("sh")
        .args(["-ec", script])
        .env("LC_ALL", "C")
        .current_dir(dir)
        .stdin(Stdio::null())
        .output()
        .unwrap();
    assert!(output.status.success(), "{script}: {}", String::from_utf8_lossy(&output.stderr));
    output
}

pub(crate) fn source(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus").join(name)
}

/// Builds `faults` from `source` in a directory of its own.
pub(crate) fn build(top: &Path, source_name: &str, environment: &Environment) -> PathBuf {
    let dir = top.join(environment.folder());
    std::fs::create_dir_all(&dir).unwrap();
    shell(&dir, &format!("{} -o faults {}", environment.build, source(source_name).display()));
    if !environment.after.is_empty() {
        shell(&dir, environment.after);
    }
    dir
}

/// Runs `faults` until it crashes; gives the core.
///
/// Cores go where the kernel's pattern says: the tests need one that is a plain name.
pub(crate) fn crash(dir: &Path, way: &str, variable: &str) -> PathBuf {
    let pattern = std::fs::read_to_string("/proc/sys/kernel/core_pattern").unwrap();
    assert!(
        !pattern.contains(['|', '/', '%']),
        "the corpus needs cores in the working directory: set /proc/sys/kernel/core_pattern to 'core'"
    );
    let script = format!("ulimit -c unlimited; rm -f core core.*; exec env {variable} ./faults {way} >/dev/null 2>&1");
    let status = Command::new("sh").args(["-c", &script]).current_dir(dir).status().unwrap();
    let core = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).find(|path| {
        path.file_name().is_some_and(|name| name == "core" || name.to_string_lossy().starts_with("core."))
    });
    let core = core.unwrap_or_else(|| panic!("way {way} in {} left no core: {status}", dir.display()));
    let named = dir.join(format!("kept-{}", way.replace(' ', "-")));
    std::fs::rename(core, &named).unwrap();
    named
}

pub(crate) fn signature_of(core: &Path, search: &Search) -> (Traceback, Signature) {
    let traceback = Traceback::of(Core::open(core).unwrap(), search, Detail::Lines);
    let signature = Signature::of(&traceback, &Rules::built_in().unwrap());
    (traceback, signature)
}
