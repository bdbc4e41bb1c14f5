//! Clusters in one process: the real steps on trees in memory, the conversation over pipes that can be cut after any byte.
//!
//! ```text
//! /dev/shm/…/left  right  third        a machine each: its own disk, and below unbound/ the disks that are in it
//! synchronizer/situations/NAME.txt     what happens to them, and what is seen: see `situations`
//! ```

#![allow(clippy::panic, reason = "a test ends where it cannot go on")]

mod cuts;
mod hostile;
mod situations;

use crate::{
    cycle::{self, Upto, partner},
    protocol::{Fault, Wire},
    serve,
    server::Server,
};
use atlas_model::{
    cycle::{CycleReport, Outcome, PartnerReport},
    worn::{RoleIdentity, Worn},
};
use atlas_sid::{create, worn};
use std::{
    collections::BTreeMap,
    fs,
    io::{self, PipeWriter, Read, Write},
    path::{Path, PathBuf},
    process::Command,
    sync::{Mutex, PoisonError},
};

/// What lies between PRI and one machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Line {
    /// Nothing gets through.
    Down,
    /// It breaks after this many bytes from PRI.
    CutThere(u64),
    /// It breaks after this many bytes to PRI.
    CutBack(u64),
}

/// Some machines.
pub(super) struct Cluster {
    tmp: tempfile::TempDir,
    /// Which machine answers at which host name.
    pub(super) hosts: BTreeMap<String, String>,
    pub(super) lines: BTreeMap<String, Line>,
    /// Bytes of the last conversation with each machine, there and back.
    pub(super) traffic: Mutex<BTreeMap<String, (u64, u64)>>,
}

pub(super) fn write(path: &Path, content: &str) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, content).unwrap();
}

impl Cluster {
    /// PRI on machine `pri`, SEC1 on `sec1`, SEC2 on `sec2`, all of Env1; PRI synchronizes /etc/app.
    pub(super) fn new() -> Cluster {
        let memory = if Path::new("/dev/shm").is_dir() { PathBuf::from("/dev/shm") } else { std::env::temp_dir() };
        let tmp = tempfile::tempdir_in(memory).unwrap();
        let hosts = ["pri", "sec1", "sec2"].map(|name| (name.to_owned(), name.to_owned())).into();
        let cluster = Cluster { tmp, hosts, lines: BTreeMap::new(), traffic: Mutex::default() };
        for (machine, role) in [("pri", "PRI"), ("sec1", "SEC1"), ("sec2", "SEC2")] {
            let root = cluster.root(machine);
            write(&root.join("opt/atlas/EnvID"), "1\n");
            write(&root.join("opt/atlas/Cluster"), "bakery\n");
            write(&root.join("etc/hostname"), &format!("{machine}\n"));
            cluster.give_role(machine, role);
            let lists = root.join("unbound/SID_DATA").join(role).join("Env1");
            write(&lists.join("IdentFilePaths"), "/etc/hostname\n");
            write(&lists.join("SyncFilePathsSpecial"), if role == "PRI" { "/etc/app\n" } else { "" });
            cluster.boot(machine);
        }
        write(&cluster.root("pri").join("etc/app/a.conf"), "one\n");
        cluster
    }

    pub(super) fn root(&self, machine: &str) -> PathBuf {
        self.tmp.path().join(machine)
    }

    /// Makes the disks in a machine those of `role`.
    pub(super) fn give_role(&self, machine: &str, role: &str) {
        let partners: &[&str] = if role == "PRI" { &["SEC1", "SEC2"] } else { &["PRI"] };
        let mut config = format!("format = 1\ncluster = \"bakery\"\nrole = \"{role}\"\n");
        for partner in partners {
            config.push_str(&format!("[[partner]]\nrole = \"{partner}\"\nhost = \"{}\"\n", partner.to_lowercase()));
        }
        write(&self.root(machine).join("unbound/SID_DATA/MasterConfig"), &config);
    }

    /// Notes that a machine wears the identity of the disks in it, as a boot does.
    pub(super) fn boot(&self, machine: &str) {
        let Ok(server) = Server::open(&self.root(machine)) else { return };
        let (role, cluster) = (server.role(), server.config.cluster().clone());
        let paths = create::ident_list(&server.sid, role, server.env_version()).map(|list| list.paths().to_vec());
        let paths = paths.unwrap_or_default();
        worn::write(&server.root, &Worn::of(RoleIdentity { role, cluster, set: None, paths })).unwrap();
    }

    pub(super) fn copy(from: &Path, to: &Path) {
        let _ = fs::remove_dir_all(to);
        fs::create_dir_all(to.parent().unwrap()).unwrap();
        assert!(Command::new("cp").arg("-a").args([from, to]).status().unwrap().success());
    }

    /// The machine in which the disks with this Role are.
    pub(super) fn machine_of(&self, role: &str) -> Option<String> {
        let has =
            |machine: &String| Server::open(&self.root(machine)).is_ok_and(|server| server.role().to_string() == role);
        self.hosts.values().find(|machine| has(machine)).cloned()
    }

    /// One cycle, driven by the machine that has PRI's disks.
    pub(super) fn cycle(&self) -> anyhow::Result<CycleReport> {
        let pri = Server::open(&self.root(&self.machine_of("PRI").unwrap()))?;
        let partners: Vec<_> = pri.config.partners().iter().collect();
        cycle::cycle(&pri, &partners, Upto::Compare, |to| self.converse(&pri, to))
    }

    fn converse(&self, pri: &Server, to: &atlas_model::Partner) -> PartnerReport {
        let mut report = partner::blank(to);
        let machine = &self.hosts[&to.host];
        let line = self.lines.get(machine);
        if line == Some(&Line::Down) {
            (report.outcome, report.why) = (Outcome::Unreachable, Some("no answer".into()));
            return report;
        }
        let (there, back) = match line {
            Some(Line::CutThere(bytes)) => (*bytes, u64::MAX),
            Some(Line::CutBack(bytes)) => (u64::MAX, *bytes),
            _ => (u64::MAX, u64::MAX),
        };
        let ((heard_by_sec, said_by_pri), (heard_by_pri, said_by_sec)) = (io::pipe().unwrap(), io::pipe().unwrap());
        let root = self.root(machine);
        std::thread::scope(|scope| {
            let secondary = scope.spawn(move || {
                let mut said = Cut { pipe: Some(said_by_sec), left: back };
                answer(&root, heard_by_sec, &mut said);
                back - said.left
            });
            let mut said = Cut { pipe: Some(said_by_pri), left: there };
            let talked =
                partner::talk(pri, to.role, &mut Wire::new(heard_by_pri, &mut said), &mut report, Upto::Compare);
            if let Err(fault) = talked {
                (report.outcome, report.why) = match fault {
                    Fault::Refused(why) => (Outcome::Refused, Some(why)),
                    other => (Outcome::Failed, Some(atlas_cli::in_one_line(&other.into()))),
                };
            }
            said.pipe = None;
            let traffic = (there - said.left, secondary.join().unwrap());
            self.traffic.lock().unwrap_or_else(PoisonError::into_inner).insert(machine.clone(), traffic);
        });
        report
    }
}

/// The secondary's side, as `ssSync serve` does it.
fn answer(root: &Path, heard: impl Read + Send, said: &mut Cut) {
    let mut wire = Wire::new(heard, said);
    serve::converse(root, &mut wire).ok();
}

/// A pipe that breaks after some bytes.
struct Cut {
    pipe: Option<PipeWriter>,
    left: u64,
}

impl Write for Cut {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        let Some(pipe) = &mut self.pipe else { return Err(io::ErrorKind::BrokenPipe.into()) };
        let some = buffer.len().min(usize::try_from(self.left).unwrap_or(usize::MAX));
        if some == 0 && !buffer.is_empty() {
            self.pipe = None;
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        let written = pipe.write(&buffer[..some])?;
        self.left -= written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
