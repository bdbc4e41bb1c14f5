//! The services that read what is installed: which, how they are checked, and how they are told.
//!
//! The table is `services.toml` beside this file, compiled in; `/etc/atlas/services.d/*.toml` adds to it and overrides by name.

use super::as_pri;
use anyhow::{Context, ensure};
use atlas_host::{
    net::replica::Replica,
    process::{Command, ProcessError},
    tree::Dir,
};
use atlas_model::{Digest, TreePath, manifest::Entry};
use serde::Deserialize;
use std::{
    path::{Path, PathBuf},
    time::Duration,
};

const SHIPPED: &str = include_str!("services.toml");
/// Where an operator adds to it.
const LOCAL: &str = "etc/atlas/services.d";
/// The largest such file, in bytes, and the most of them.
const LOCAL_LIMITS: (usize, usize) = (1 << 20, 1000);
/// Where programs are looked for.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// How long a unit may take to start or reload.
const UNIT_DEADLINE: Duration = Duration::from_secs(100);
/// How long a service that was told is watched for falling over.
const SETTLE: Duration = Duration::from_secs(2);

/// How a service takes its new files.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Apply {
    #[default]
    Reload,
    Restart,
}

/// One service of the table.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Service {
    /// As reports call it.
    pub(super) name: String,
    paths: Vec<TreePath>,
    #[serde(default)]
    program: Option<String>,
    #[serde(default)]
    check: Vec<String>,
    #[serde(default)]
    start: Vec<String>,
    #[serde(default = "half_a_minute")]
    seconds: u64,
    #[serde(default)]
    units: Vec<String>,
    #[serde(default)]
    apply: Apply,
    #[serde(default)]
    run: Vec<String>,
}

fn half_a_minute() -> u64 {
    30
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Table {
    service: Vec<Service>,
}

/// Where a service works with its files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Works {
    /// On this server as it is.
    Here,
    /// When this server is PRI and has its addresses and its disks.
    AsPri,
}

/// How a service took its new files.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Told {
    /// It reads its files by itself.
    NobodyToTell,
    /// It does not run here now.
    NotRunning,
    /// It read its files again.
    Reloaded,
    /// It was started anew.
    Restarted,
}

impl Service {
    /// Whether it reads `path`.
    pub(super) fn reads(&self, path: &TreePath) -> bool {
        self.paths.iter().any(|prefix| path.is_within(prefix) || prefix.is_within(path))
    }

    /// The paths that it reads.
    pub(super) fn paths(&self) -> &[TreePath] {
        &self.paths
    }

    /// What PRI's Snapshot has for it, as one digest.
    pub(super) fn files(&self, entries: &[Entry]) -> anyhow::Result<Digest> {
        let mut text = Vec::new();
        for entry in entries.iter().filter(|entry| self.paths.iter().any(|prefix| entry.path.is_within(prefix))) {
            serde_json::to_writer(&mut text, entry)?;
            text.push(b'\n');
        }
        Ok(Digest::of(&text))
    }

    /// Whether the service is installed on the server whose tree is `root`.
    pub(super) fn is_here(&self, root: &Path) -> bool {
        let Some(program) = self.program.as_ref().or(self.check.first()).or(self.run.first()) else { return true };
        let there = |path: PathBuf| std::fs::symlink_metadata(path).is_ok_and(|meta| !meta.is_dir());
        match program.strip_prefix('/') {
            Some(below) => there(root.join(below)),
            None => PATH.split(':').any(|dir| there(root.join(&dir[1..]).join(program))),
        }
    }

    /// Whether there is anything to check.
    pub(super) fn has_check(&self) -> bool {
        !self.check.is_empty()
    }

    /// How long its check may take.
    pub(super) fn seconds(&self) -> u64 {
        self.seconds
    }

    /// Lets the service say whether it could work with its files as they are now, here or, with what PRI's network has, as PRI; what it
    /// complains of otherwise.
    pub(super) fn check(&self, root: &Path, pri: &Replica) -> Result<Works, String> {
        let deadline = Duration::from_secs(self.seconds);
        let run =
            |words: &[String]| words.split_first().map_or(Ok(()), |(program, args)| run(root, program, args, deadline));
        match run(&self.check) {
            Ok(()) => Ok(Works::Here),
            // What it said counts: the words of the check itself may name the disks, too.
            Err(why) if as_pri::lacks_pris_disks(root, &why.said) => Ok(Works::AsPri),
            Err(why) if as_pri::passes(&self.check, &why.said, pri, |words| run(words).is_ok()) => Ok(Works::AsPri),
            Err(why) => Err(why.whole),
        }
    }

    /// The same, and where its check says nothing of addresses, by starting one beside that which runs. The tree at `root` is this process's alone.
    pub(super) fn rehearse(&self, root: &Path, pri: &Replica) -> Result<Works, String> {
        let works = self.check(root, pri)?;
        let is_as_pri = works == Works::Here && !self.start.is_empty() && as_pri::starts(&self.start, root, pri);
        Ok(if is_as_pri { Works::AsPri } else { works })
    }

    /// Makes it read its files where it runs.
    pub(super) fn tell(&self, root: &Path) -> Result<Told, String> {
        if let Some((program, args)) = self.run.split_first() {
            return run(root, program, args, UNIT_DEADLINE).map(|()| Told::Reloaded).map_err(|why| why.whole);
        }
        if self.units.is_empty() {
            return Ok(Told::NobodyToTell);
        }
        let mut told = Told::NotRunning;
        for unit in self.units.iter().filter(|unit| is_active(root, unit)) {
            let reloaded = self.apply == Apply::Reload && systemctl(root, "reload", unit).is_ok();
            if reloaded {
                told = if told == Told::Restarted { told } else { Told::Reloaded };
            } else {
                systemctl(root, "restart", unit)?;
                told = Told::Restarted;
            }
        }
        Ok(told)
    }

    /// Starts it again, whatever it did before: for files that were put back.
    pub(super) fn restart(&self, root: &Path) -> Result<(), String> {
        if !self.run.is_empty() {
            return self.tell(root).map(drop);
        }
        self.units.iter().filter(|unit| is_known(root, unit)).try_for_each(|unit| systemctl(root, "restart", unit))
    }

    /// The units that run.
    pub(super) fn active(&self, root: &Path) -> Vec<String> {
        self.units.iter().filter(|unit| is_active(root, unit)).cloned().collect()
    }
}

/// Watches units for a while; gives the first that does not run any more.
pub(super) fn first_to_fall(root: &Path, units: &[String]) -> Option<String> {
    let until = std::time::Instant::now() + SETTLE;
    loop {
        let fallen = first_to_fall_now(root, units);
        if fallen.is_some() {
            return fallen;
        }
        if units.is_empty() || std::time::Instant::now() >= until {
            return None;
        }
        std::thread::sleep(Duration::from_millis(250));
    }
}

/// The first that does not run.
pub(super) fn first_to_fall_now(root: &Path, units: &[String]) -> Option<String> {
    units.iter().find(|unit| !is_active(root, unit)).cloned()
}

fn is_active(root: &Path, unit: &str) -> bool {
    systemctl(root, "is-active", unit).is_ok()
}

fn is_known(root: &Path, unit: &str) -> bool {
    systemctl(root, "cat", unit).is_ok()
}

fn systemctl(root: &Path, verb: &str, unit: &str) -> Result<(), String> {
    run(root, "systemctl", &[verb.to_owned(), unit.to_owned()], UNIT_DEADLINE).map_err(|why| why.whole)
}

/// Why a program was of no use.
struct Why {
    /// For people.
    whole: String,
    /// What the program itself said.
    said: String,
}

fn run(root: &Path, program: &str, args: &[String], deadline: Duration) -> Result<(), Why> {
    let command = Command::new(program).args(args).in_root(root).env("PATH", PATH).env("LC_ALL", "C.UTF-8");
    command.deadline(deadline).run().map(drop).map_err(|error| match error {
        // A script is long, and says nothing to whoever reads what it complains of.
        ProcessError::Failed { program, status, complaint } if program.contains('\n') => {
            Why { whole: format!("its check failed ({status}): {complaint}"), said: complaint }
        }
        ProcessError::Failed { ref complaint, .. } => {
            let said = complaint.clone();
            Why { whole: format!("{:#}", anyhow::Error::new(error)), said }
        }
        error => Why { whole: format!("{:#}", anyhow::Error::new(error)), said: String::new() },
    })
}

/// The table of the server whose tree is `root`, and what is wrong with files that were passed over.
pub(super) fn read(root: &Dir) -> anyhow::Result<(Vec<Service>, Vec<String>)> {
    let mut services = parse(SHIPPED).context("read the table of services")?;
    let mut problems = Vec::new();
    let local = match root.dir(LOCAL) {
        Ok(local) => local,
        Err(error) if error.is_not_found() => return Ok((services, problems)),
        Err(error) => return Err(error.into()),
    };
    for name in local.names(LOCAL_LIMITS.1)?.iter().filter(|name| name.as_encoded_bytes().ends_with(b".toml")) {
        let text = local.read(name, LOCAL_LIMITS.0)?;
        match std::str::from_utf8(&text).map_err(anyhow::Error::from).and_then(parse) {
            Ok(more) => {
                services.retain(|service| more.iter().all(|other| other.name != service.name));
                services.extend(more);
            }
            Err(error) => problems.push(format!("{} was passed over: {error:#}", local.show(name).display())),
        }
    }
    Ok((services, problems))
}

fn parse(text: &str) -> anyhow::Result<Vec<Service>> {
    let table: Table = toml::from_str(text)?;
    for service in &table.service {
        ensure!(!service.name.is_empty() && !service.paths.is_empty(), "a service has no name, or no paths");
        ensure!((1..=600).contains(&service.seconds), "{}: seconds are from 1 to 600", service.name);
    }
    Ok(table.service)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shipped_table_can_be_read_and_has_each_name_once() {
        let services = parse(SHIPPED).unwrap();
        for (index, service) in services.iter().enumerate() {
            assert!(services[..index].iter().all(|other| other.name != service.name), "{}", service.name);
            assert!(service.paths.iter().all(|path| atlas_model::reserved::why(path).is_none()), "{}", service.name);
        }
        let nginx = services.iter().find(|service| service.name == "nginx").unwrap();
        assert!(nginx.reads(&TreePath::parse("/etc/nginx/conf.d/a.conf").unwrap()));
        assert!(!nginx.reads(&TreePath::parse("/etc/nginx2").unwrap()));
        assert!(nginx.reads(&TreePath::parse("/etc").unwrap()), "it goes with what holds it");
    }

    #[test]
    fn what_a_check_is_made_of_is_no_complaint() {
        let service = |script: &str| {
            let table = format!(
                "[[service]]\nname = \"x\"\npaths = [\"/x\"]\ncheck = [\"sh\", \"-c\", \"\"\"\n{script}\n\"\"\"]\n"
            );
            parse(&table).unwrap().remove(0)
        };
        let check = |script: &str| service(script).check(Path::new("/"), &Replica::default());
        let of_itself = "grep -v 'file /unbound/.* failed' /dev/null || echo 'line 1: unknown option' >&2; exit 1";
        assert_eq!(check(of_itself).unwrap_err(), "its check failed (exit status: 1): line 1: unknown option");
        assert_eq!(check("echo 'file /unbound/nowhere failed' >&2; exit 1"), Ok(Works::AsPri));
        assert_eq!(check("exit 0"), Ok(Works::Here));
    }

    #[test]
    fn an_operator_adds_overrides_and_is_told_of_mistakes() {
        let tmp = tempfile::tempdir().unwrap();
        let dir = tmp.path().join(LOCAL);
        std::fs::create_dir_all(&dir).unwrap();
        std::fs::write(dir.join("shop.toml"), "[[service]]\nname = \"shop\"\npaths = [\"/srv/shop\"]\n[[service]]\nname = \"nginx\"\npaths = [\"/etc/nginx\"]\n").unwrap();
        std::fs::write(dir.join("typo.toml"), "[[service]]\nname = \"x\"\npath = [\"/x\"]\n").unwrap();
        std::fs::write(dir.join("note.txt"), "not read").unwrap();
        let (services, problems) = read(&Dir::open_root(tmp.path()).unwrap()).unwrap();
        assert!(services.iter().any(|service| service.name == "shop"));
        let nginx: Vec<&Service> = services.iter().filter(|service| service.name == "nginx").collect();
        assert!(nginx.len() == 1 && !nginx[0].has_check());
        assert!(problems.len() == 1 && problems[0].contains("typo.toml"), "{problems:?}");
    }
}
