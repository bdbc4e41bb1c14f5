//! What a server verifies of itself: how it looks at its own tree, and how it tells what it found.
//!
//! ```text
//!  /proc /sys /etc …  ─► Faults: each with a verdict, what is wrong, what to do ─► one Profile, the weightiest fault first
//! ```
//!
//! One instance of each such service looks at everything of its kind: an array or disk that is gone must not be forgotten together with an
//! instance of its own. Everything is read below the server's root, and programs are taken from there, so that a tree in a
//! directory is looked at as a server is.

use anyhow::Context;
use atlas_host::{
    process::{Command, Output},
    tree::Dir,
};
use atlas_model::{
    MasterConfig,
    verify::{At, Fault, Found, Instance, Measure, Profile, Verdict},
};
use atlas_sid::{BoundData, SidData, layout::UNBOUND_MOUNT};
use std::{
    fs::File,
    io::Read,
    net::IpAddr,
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

/// The largest file of `/proc`, `/sys` or the like that is read, in bytes.
const MAX_TEXT: u64 = 1 << 20;
/// The most names of a directory that are looked at.
const MAX_NAMES: usize = 10_000;
/// Where Debian has programs, and ATLAS.
const PROGRAMS: [&str; 5] = ["usr/sbin", "usr/bin", "sbin", "bin", "opt/atlas/bin"];

/// A service that every server has, exercised by each on itself.
pub(crate) fn found() -> Found {
    Found { format: 1, instances: vec![Instance { at: At::Here, ..Instance::default() }], ..Found::default() }
}

/// A path below the root; `path` may be absolute.
pub(crate) fn below(root: &Path, path: &str) -> PathBuf {
    root.join(path.trim_start_matches('/'))
}

/// What the kernel, or root, says in a small file; links are followed, as in `/sys` they must be. `None` where it cannot be read.
pub(crate) fn text(root: &Path, path: &str) -> Option<String> {
    let mut content = Vec::new();
    let file = File::open(below(root, path)).ok().filter(|file| file.metadata().is_ok_and(|meta| meta.is_file()))?;
    file.take(MAX_TEXT).read_to_end(&mut content).ok()?;
    Some(String::from_utf8_lossy(&content).trim_end().to_owned())
}

/// A file that holds one number.
pub(crate) fn value(root: &Path, path: &str) -> Option<f64> {
    text(root, path)?.trim().parse().ok().filter(|value: &f64| value.is_finite())
}

/// The names in a directory, sorted, links followed; none where there is no such directory.
pub(crate) fn names(root: &Path, path: &str) -> Vec<String> {
    let entries = std::fs::read_dir(below(root, path)).into_iter().flatten().flatten();
    let mut names: Vec<String> =
        entries.filter_map(|entry| entry.file_name().into_string().ok()).take(MAX_NAMES).collect();
    names.sort();
    names
}

/// Whether something is there; links are followed.
pub(crate) fn is_there(root: &Path, path: &str) -> bool {
    below(root, path).exists()
}

/// Where a program of this server lies; `None` where it is not installed.
pub(crate) fn program(root: &Path, name: &str) -> Option<PathBuf> {
    PROGRAMS.iter().map(|dir| root.join(dir).join(name)).find(|file| file.is_file())
}

/// Runs a program of this server within this time; `None` where it is not installed. An error is a sentence.
pub(crate) fn run(root: &Path, name: &str, args: &[&str], deadline: Duration) -> Option<Result<Output, String>> {
    let command = Command::new(program(root, name)?).args(args).env("LC_ALL", "C.UTF-8");
    let output = command.deadline(deadline.max(Duration::from_millis(1))).output();
    Some(output.map_err(|error| atlas_cli::in_one_line(&error.into())))
}

/// Whether systemd runs this server.
pub(crate) fn has_systemd(root: &Path) -> bool {
    is_there(root, "run/systemd/system")
}

/// Whether only this server itself can send there.
pub(crate) fn is_own(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => address.is_loopback(),
        IpAddr::V6(address) => {
            address.is_loopback() || address.to_ipv4_mapped().is_some_and(|address| address.is_loopback())
        }
    }
}

/// How long the server is up, in seconds.
pub(crate) fn uptime(root: &Path) -> Option<f64> {
    text(root, "proc/uptime")?.split_whitespace().next()?.parse().ok()
}

/// Seconds since 1970.
pub(crate) fn now() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

/// `12 s`, `5 min`, `3 h`, `2 days`.
pub(crate) fn duration(seconds: u64) -> String {
    match seconds {
        0..120 => format!("{seconds} s"),
        120..7200 => format!("{} min", seconds / 60),
        7200..172_800 => format!("{} h", seconds / 3600),
        _ => format!("{} days", seconds / 86_400),
    }
}

/// Who this server is, by its own disk and the mounted Unbound set.
#[derive(Debug)]
pub(crate) struct Member {
    /// Its tree.
    pub(crate) tree: Dir,
    /// What its own disk says.
    pub(crate) bound: BoundData,
    /// What lies on the Unbound set.
    pub(crate) sid: SidData,
    /// Who that makes of it.
    pub(crate) config: MasterConfig,
}

impl Member {
    /// `None` where `atlas init` was never run.
    pub(crate) fn open(root: &Path) -> anyhow::Result<Option<Member>> {
        let tree = Dir::open_root(root).context("open the server's tree")?;
        let Some(bound) = BoundData::read(&tree).context("read which environment this server is")? else {
            return Ok(None);
        };
        let unbound = tree.dir(UNBOUND_MOUNT).context("open the Unbound file system")?;
        let sid = SidData::open(&unbound).context("open the Sync and Identity Data")?;
        let config = sid.master_config().context("read who this server is")?;
        Ok(Some(Member { tree, bound, sid, config }))
    }
}

/// What was found to be wrong, and the numbers that were read on the way.
#[derive(Debug, Default)]
pub(crate) struct Faults {
    found: Vec<Fault>,
    measures: Vec<Measure>,
}

impl Faults {
    /// Something is wrong.
    pub(crate) fn add(&mut self, fault: Fault) {
        self.found.push(fault);
    }

    /// Something does not do what it should.
    pub(crate) fn unacceptable(&mut self, what: impl Into<String>, hint: impl Into<String>) {
        self.add(Fault::new(Verdict::Unacceptable, what, hint));
    }

    /// Something does not do what it should: a fault of this kind.
    pub(crate) fn bad(&mut self, kind: &str, what: impl Into<String>, hint: impl Into<String>) {
        self.add(Fault::new(Verdict::Unacceptable, what, hint).is(kind, &[]));
    }

    /// Something works, and deserves a look.
    pub(crate) fn slow(&mut self, what: impl Into<String>, hint: impl Into<String>) {
        self.add(Fault::new(Verdict::Slow, what, hint));
    }

    /// Something could not be looked at.
    pub(crate) fn unknown(&mut self, what: impl Into<String>, hint: impl Into<String>) {
        self.add(Fault::new(Verdict::Unknown, what, hint));
    }

    /// A number; beyond its limits, `what` tells what that means.
    pub(crate) fn measure(&mut self, measure: Measure, what: &str, hint: &str) {
        self.measure_of("", measure, what, hint);
    }

    /// A number; beyond its limits it is a fault of this kind.
    pub(crate) fn measure_of(&mut self, kind: &str, measure: Measure, what: &str, hint: &str) {
        self.found.extend(Fault::of_measure(&measure, what, hint).map(|fault| fault.is(kind, &[])));
        self.measures.push(measure);
    }

    /// Whether nothing is wrong.
    pub(crate) fn is_empty(&self) -> bool {
        self.found.is_empty()
    }

    /// What another look found, too.
    pub(crate) fn take(&mut self, other: Faults) {
        self.found.extend(other.found);
        self.measures.extend(other.measures);
    }

    /// All in one: the weightiest fault first, or `well` where there is none.
    pub(crate) fn profile(self, well: impl Into<String>) -> Profile {
        Profile { measures: self.measures, ..Profile::of_faults(self.found, well) }
    }
}

#[cfg(test)]
pub(crate) mod testing {
    //! A server's tree in a directory, to put faults into.

    use crate::service::{Service, Target, Tree};
    use atlas_model::verify::{Profile, Verdict};
    use std::{
        os::unix::fs::PermissionsExt,
        path::Path,
        time::{Duration, Instant},
    };

    pub(crate) struct Server {
        dir: tempfile::TempDir,
        pub(crate) options: Vec<(&'static str, &'static str)>,
    }

    impl Server {
        pub(crate) fn new() -> Server {
            Server { dir: tempfile::tempdir().unwrap(), options: vec![] }
        }

        /// One with these files.
        pub(crate) fn with(files: &[(&str, &str)]) -> Server {
            let server = Server::new();
            files.iter().for_each(|(path, content)| server.write(path, content));
            server
        }

        /// As SetUp looks into it.
        pub(crate) fn tree(&self) -> Tree {
            Tree::open(self.root()).unwrap()
        }

        pub(crate) fn root(&self) -> &Path {
            self.dir.path()
        }

        pub(crate) fn write(&self, path: &str, content: &str) {
            let path = self.root().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, content).unwrap();
        }

        pub(crate) fn remove(&self, path: &str) {
            let path = self.root().join(path);
            if path.is_dir() { std::fs::remove_dir_all(path).unwrap() } else { std::fs::remove_file(path).unwrap() }
        }

        /// A program of the server, as a shell script.
        pub(crate) fn program(&self, path: &str, script: &str) {
            atlas_host::testing::write_program(&self.root().join(path), &format!("#!/bin/sh\n{script}\n"));
        }

        pub(crate) fn mode(&self, path: &str, mode: u32) {
            std::fs::set_permissions(self.root().join(path), std::fs::Permissions::from_mode(mode)).unwrap();
        }

        pub(crate) fn link(&self, target: &str, path: &str) {
            let path = self.root().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            let _ = std::fs::remove_file(&path);
            std::os::unix::fs::symlink(target, path).unwrap();
        }

        /// Makes it a server of a cluster of two.
        pub(crate) fn member(&self, role: &str) {
            let partner = if role == "PRI" { "SEC1" } else { "PRI" };
            let config = format!(
                "format = 1\ncluster = \"bakery\"\nrole = \"{role}\"\n[[partner]]\nrole = \"{partner}\"\nhost = \"other\"\n"
            );
            self.write("unbound/SID_DATA/MasterConfig", &config);
            self.write("opt/atlas/EnvID", "2\n");
            self.write("opt/atlas/Cluster", "bakery\n");
        }

        pub(crate) fn target(&self) -> Target {
            Target {
                host: "localhost".into(),
                role: None,
                instance: String::new(),
                options: self.options.iter().map(|(key, value)| ((*key).into(), (*value).into())).collect(),
                until: Instant::now() + Duration::from_secs(60),
                root: self.root().to_owned(),
            }
        }

        pub(crate) fn verify(&self, service: &Service) -> Profile {
            (service.verify)(&self.target()).unwrap()
        }

        /// Asserts that the server is well.
        pub(crate) fn is_well(&self, service: &Service) -> Profile {
            let profile = self.verify(service);
            assert_eq!(profile.verdict, Verdict::Ok, "{profile:?}");
            assert_eq!(profile.hint, None, "{profile:?}");
            profile
        }

        /// Asserts that a fault is told, by all of these words, with what to do.
        pub(crate) fn says(&self, service: &Service, verdict: Verdict, words: &[&str]) -> Profile {
            let profile = self.verify(service);
            assert_eq!(profile.verdict, verdict, "{profile:?}");
            for word in words {
                assert!(profile.summary.contains(word), "'{word}' is not in {profile:?}");
            }
            assert!(profile.hint.as_ref().is_some_and(|hint| !hint.is_empty()), "{profile:?}");
            profile
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_weightiest_fault_is_told_first_and_each_hint_once() {
        let mut faults = Faults::default();
        faults.slow("a is near", "look");
        faults.unacceptable("b is gone", "mend b");
        faults.unknown("c says nothing", "look");
        let profile = faults.profile("fine");
        assert_eq!(profile.verdict, Verdict::Unacceptable);
        assert_eq!(profile.summary, "b is gone; c says nothing; a is near");
        assert_eq!(profile.hint.as_deref(), Some("mend b; look"));
        assert_eq!(Faults::default().profile("fine"), Profile::ok("fine"));
    }

    #[test]
    fn many_faults_are_counted() {
        let mut faults = Faults::default();
        (0..9).for_each(|n| faults.slow(format!("disk{n}"), "look"));
        assert!(faults.profile("fine").summary.ends_with("disk5; and 3 more"));
    }
}
