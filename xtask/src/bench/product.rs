//! Benches that stand with the product they measure, as an example of its crate: built and run here, next to their peers.

use std::path::PathBuf;
use std::process::Stdio;

use anyhow::{Context, Result, bail};

use super::{Row, say};
use crate::setup::Needed;
use crate::{process, setup};

/// A bench that prints rows as JSON.
pub(super) struct Product {
    /// The crates whose programs it runs; the first has the bench.
    crates: &'static [&'static str],
    example: &'static str,
    /// Whether its first argument is the folder of those programs, as they are packaged.
    takes_programs: bool,
    /// Whether the next is the root file system of a Debian with one of each kind of service, as an archive.
    takes_services: bool,
    arguments: &'static [&'static str],
    peers: &'static [Needed],
}

/// `atlas-module set` among a thousand versions, against what else switches links.
pub(super) const MODULES: Product = Product {
    crates: &["atlas-module"],
    example: "bench_modules",
    takes_programs: false,
    takes_services: false,
    arguments: &["--json"],
    peers: &[("stow", "bench: the peer")],
};

/// From a core to its signature, against debuggers, and what ssRun adds to a run.
pub(super) const CRASHES: Product = Product {
    crates: &["atlas-corehandler", "atlas-runner"],
    example: "bench_crashes",
    takes_programs: true,
    takes_services: false,
    arguments: &["--json"],
    peers: &[("gdb", "bench: the peer"), ("elfutils", "bench: the peer")],
};

/// Snapshots, their installation and cycles, next to rsync and git.
pub(super) const SYNC: Product = Product {
    crates: &["atlas-synchronizer", "atlas-runner", "atlas-corehandler"],
    example: "bench_sync",
    takes_programs: false,
    takes_services: false,
    arguments: &["--json"],
    peers: &[
        ("rsync", "bench: the peer"),
        ("git", "bench: the peer"),
        ("openssh-server", "bench: between the servers"),
        ("time", "bench: memory in use"),
    ],
};

/// Verifying: what it costs, and how soon a fault is told.
pub(super) const VERIFY: Product = Product {
    crates: &["atlas-verifier"],
    example: "bench_verify",
    takes_programs: true,
    takes_services: true,
    arguments: &["--json"],
    peers: &[("iputils-ping", "bench: an echo")],
};

/// Real configurations, each with its daemon; the clients are this machine's.
pub(super) const CORPUS: Product = Product {
    crates: &["atlas-verifier"],
    example: "bench_corpus",
    takes_programs: true,
    takes_services: false,
    arguments: &["--json"],
    peers: &[
        ("mmdebstrap", "bench: Debian 11, 12 and 13 with all the daemons"),
        ("debian-archive-keyring", "bench: whose packages to trust"),
        ("iproute2", "bench: a network with a partner in it"),
        ("user-mode-linux", "bench: a kernel with NFS"),
        ("curl", "bench: web and mail"),
        ("postgresql-client", "bench: PostgreSQL"),
        ("mariadb-client-core", "bench: MariaDB"),
        ("smbclient", "bench: Samba"),
    ],
};

impl Product {
    pub(super) fn run(&self) -> Result<Vec<Row>> {
        setup::install(self.peers)?;
        say("the programs are built as they are installed");
        let folder = self.programs()?;
        let services = if self.takes_services { Some(services()?) } else { None };
        say("the bench is built, and measures");
        let mut bench = process::cargo();
        bench.args(["run", "--quiet", "--release", "--locked", "--example", self.example, "--package"]);
        bench.args(self.crates.first()).arg("--").args(folder).args(services).args(self.arguments);
        let output = bench.stderr(Stdio::inherit()).output().context("cannot start cargo")?;
        // 1: it measured, and a goal was not met.
        if !matches!(output.status.code(), Some(0 | 1)) {
            bail!("{} failed: {}", process::shown(&bench), output.status);
        }
        serde_json::from_slice(&output.stdout).with_context(|| format!("{} printed no rows", process::shown(&bench)))
    }

    /// Builds the programs; gives their folder to a bench that asks for it.
    fn programs(&self) -> Result<Option<PathBuf>> {
        if self.takes_programs {
            return atlas_image::programs_of(&process::repository(), self.crates).map(Some);
        }
        let mut build = process::cargo();
        build.args(["build", "--quiet", "--release", "--locked", "--bins"]);
        process::run(build.args(self.crates.iter().flat_map(|name| ["--package", name])))?;
        Ok(None)
    }
}

/// A root file system with one of each kind of service.
fn services() -> Result<PathBuf> {
    setup::install(&[
        ("mmdebstrap", "bench: a Debian root file system"),
        ("uidmap", "bench: made without root's rights"),
    ])?;
    let progress = |line: &str| say(line);
    atlas_image::root_file_system(&atlas_image::Options::new(&progress)?.with("services"))
}
