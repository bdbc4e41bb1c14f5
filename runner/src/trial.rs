//! A program that is a module's, and a version of it on trial.
//!
//! A version on trial has so many starts to show itself healthy; `atlas-module` counts, and sets the version before again. ssRun tells it
//! what there is to count: each start before it is made, and how the run went. A run went well when it ended with 0, or has lasted for a
//! while; badly when it ended in any other way that nobody asked for. An `atlas-module` that is broken or slow is left behind, as every
//! handler is.

use crate::handlers::{self, Answer};
use atlas_cli::version;
use std::{
    ffi::{OsStr, OsString},
    os::unix::ffi::OsStrExt,
    path::{Path, PathBuf},
    thread::JoinHandle,
    time::Duration,
};

/// What is called.
pub const PROGRAM: &str = "atlas-module";
/// Where versions lie, below the root.
const MODULES_DIR: &str = "opt/atlas/modules";

/// A program's file that has a version: `ssSync` of `update/v2`.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Versioned {
    name: String,
    release: String,
}

impl Versioned {
    /// What a program is now, by the links that lead to it; `None` for one that is no module's.
    fn of(root: &Path, program: &OsStr) -> Option<Versioned> {
        let modules = std::fs::canonicalize(root.join(MODULES_DIR)).ok()?;
        let file = std::fs::canonicalize(on_path(program)?).ok()?;
        let mut parts = file.strip_prefix(modules).ok()?.iter();
        let (channel, tagged) = (parts.next()?.to_str()?, parts.next()?.to_str()?);
        let (name, version) = version::split(tagged)?;
        parts.next().is_none().then(|| Versioned { name: name.into(), release: format!("{channel}/{version}") })
    }
}

/// The file that a program's name leads to.
fn on_path(program: &OsStr) -> Option<PathBuf> {
    if program.as_bytes().contains(&b'/') {
        return Some(program.into());
    }
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|dir| dir.join(program)).find(|file| file.is_file())
}

/// How a run went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The version does what it is for.
    Healthy,
    /// It does not.
    Failed,
}

/// A run of a version that is on trial.
#[derive(Debug)]
pub struct Trial {
    root: PathBuf,
    program: OsString,
    versioned: Versioned,
    deadline: Duration,
    report: Option<JoinHandle<Option<Result<Answer, String>>>>,
}

impl Trial {
    /// Counts a start that is about to be made; what `atlas-module` said goes to `hear`. `None` where no trial goes on.
    pub fn begin(
        root: &Path,
        program: &OsStr,
        deadline: Duration,
        hear: impl FnOnce(&Result<Answer, String>),
    ) -> Option<Trial> {
        let name = Versioned::of(root, program)?.name;
        let answer = call(root, &["started".into(), name.into()], deadline)?;
        hear(&answer);
        // It says nothing where no trial goes on, and answers 3 where it has just ended.
        answer.ok().filter(|answer| answer.code == 0 && !answer.said.is_empty())?;
        let versioned = Versioned::of(root, program)?;
        Some(Trial { root: root.into(), program: program.into(), versioned, deadline, report: None })
    }

    /// Reports how the run went, once. Nobody waits for that: the program's output has to be passed on.
    pub fn report(&mut self, verdict: Verdict) {
        // Where something else was set as the program was started, nobody knows which of the two ran.
        if self.report.is_some() || Versioned::of(&self.root, &self.program).as_ref() != Some(&self.versioned) {
            return;
        }
        let verb = match verdict {
            Verdict::Healthy => "healthy",
            Verdict::Failed => "failed",
        };
        let arguments = [verb.into(), self.versioned.name.clone().into(), self.versioned.release.clone().into()];
        let (root, deadline) = (self.root.clone(), self.deadline);
        self.report = Some(std::thread::spawn(move || call(&root, &arguments, deadline)));
    }

    /// What became of the report; waits for it.
    pub fn end(self) -> Option<Result<Answer, String>> {
        self.report?.join().ok().flatten()
    }
}

fn call(root: &Path, arguments: &[OsString], deadline: Duration) -> Option<Result<Answer, String>> {
    let root: [OsString; 2] = ["--root".into(), root.into()];
    handlers::call(&[(PROGRAM, [&root, arguments].concat())], deadline).pop()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{fs, os::unix::fs::symlink};

    #[test]
    fn a_module_s_program_is_told_by_where_its_link_leads() {
        let tmp = tempfile::tempdir().unwrap();
        let (bin, modules) = (tmp.path().join("opt/atlas/bin"), tmp.path().join(MODULES_DIR));
        fs::create_dir_all(&bin).unwrap();
        fs::create_dir_all(modules.join("update")).unwrap();
        for name in ["ssSync.v2", "plain"] {
            fs::write(modules.join("update").join(name), "").unwrap();
        }
        symlink("../modules/update", bin.join("update")).unwrap();
        symlink("./update/ssSync.v2", bin.join("ssSync")).unwrap();
        symlink("./update/plain", bin.join("plain")).unwrap();
        let of = |program: &Path| Versioned::of(tmp.path(), program.as_os_str());
        let expected = Versioned { name: "ssSync".into(), release: "update/v2".into() };
        assert_eq!(of(&bin.join("ssSync")), Some(expected));
        for other in [bin.join("plain"), bin.join("none"), "/bin/sh".into(), "sh".into()] {
            assert_eq!(of(&other), None, "{}", other.display());
        }
    }
}
