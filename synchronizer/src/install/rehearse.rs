//! The rehearsal: the very same installation, seen by the services' checks alone.
//!
//! ```text
//!   ssSync install ──runs──► ssSync rehearse-install, in mounts of its own
//!                              /               read-only
//!                              /etc, /var, …   overlay: below, the real directory; above, memory
//!                              installs, runs the checks, tells what they said, ends: everything is gone with it
//! ```
//!
//! Invariant: the process that rehearses cannot write to the server's tree: what is not an overlay is mounted read-only for it.

use super::{
    record::{DIR, REHEARSAL},
    services::{self, Service, Works},
    source::Source,
};
use anyhow::{Context, ensure};
use atlas_cli::{Common, Exit, print_json};
use atlas_host::{mount, process::Command, tree::Dir};
use atlas_model::{EnvVersion, PathList, TreePath};
use atlas_sid::install::Trust;
use serde::{Deserialize, Serialize};
use std::{
    collections::{BTreeMap, BTreeSet},
    os::fd::{AsFd, AsRawFd},
    path::{Path, PathBuf},
    time::Duration,
};

/// What is written in a rehearsal may take as much memory, in bytes.
const MEMORY: u64 = 256 << 20;
/// Directories that checks write to, besides those that are installed to.
const ALWAYS: [&str; 3] = ["etc", "tmp", "var"];

/// The arguments of the process that rehearses.
#[derive(Clone, Debug, clap::Args)]
pub struct Rehearse {
    /// The directory of the Role PRI
    #[arg(long)]
    role_dir: PathBuf,
    /// This server's EnvVersion
    #[arg(long)]
    env_version: EnvVersion,
    /// Paths that are left as they are, one per line
    #[arg(long, default_value = "")]
    kept: String,
    /// The services to check, one per line
    #[arg(long)]
    services: String,
    /// Whether every byte is compared
    #[arg(long)]
    every_byte: bool,
    /// Check with the files that are here now
    #[arg(long)]
    as_it_is: bool,
}

/// What the checks said.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct Said {
    /// What they complained of, by service.
    pub(super) complaints: BTreeMap<String, String>,
    /// The services that work with these files when this server is PRI, and not before.
    pub(super) as_pri: BTreeSet<String>,
    /// What services complain of that did not work before either, in other words than before.
    #[serde(skip)]
    pub(super) otherwise: BTreeMap<String, String>,
}

/// What is to be rehearsed.
pub(super) struct Rehearsal<'a> {
    pub(super) root: &'a Path,
    pub(super) source: &'a Source,
    pub(super) env_version: EnvVersion,
    pub(super) held: &'a [TreePath],
    pub(super) services: &'a [&'a Service],
    pub(super) trust: Trust,
}

impl Rehearsal<'_> {
    /// Runs it, with PRI's files or with those that are here.
    ///
    /// # Errors
    /// It could not be rehearsed here; nothing is known of the services.
    pub(super) fn run(&self, with_pris_files: bool) -> anyhow::Result<Said> {
        let lines = |paths: &mut dyn Iterator<Item = String>| paths.collect::<Vec<_>>().join("\n");
        let identity = self.source.identity().paths();
        let program = std::env::current_exe().context("find this program")?;
        let held_open = format!("/proc/{}/fd/{}", std::process::id(), self.source.role_dir.as_fd().as_raw_fd());
        let seconds: u64 = self.services.iter().map(|service| service.seconds()).sum();
        let mut command = Command::new(program)
            .args(["rehearse-install", "--json", "--role-dir", &held_open])
            .arg("--root")
            .arg(self.root)
            .args(["--env-version", &self.env_version.number().to_string()])
            .args(["--kept", &lines(&mut identity.iter().chain(self.held).map(ToString::to_string))])
            .args(["--services", &lines(&mut self.services.iter().map(|service| service.name.clone()))])
            .deadline(Duration::from_secs(60 + seconds));
        if self.trust == Trust::Bytes {
            command = command.arg("--every-byte");
        }
        if !with_pris_files {
            command = command.arg("--as-it-is");
        }
        let _places = Places::make(self.root, &top_level(self.source))?;
        let output = command.run()?;
        serde_json::from_slice(&output.stdout).context("read what the rehearsal found")
    }
}

/// `ssSync rehearse-install`, run by `ssSync install` alone.
pub(crate) fn run(common: &Common, args: &Rehearse) -> anyhow::Result<Exit> {
    let kept: PathList = PathList::parse(args.kept.as_bytes())?;
    let source = Source::open(Dir::open_root(&args.role_dir)?, args.env_version, &kept)?;
    let dirs = ALWAYS.iter().map(PathBuf::from).chain(top_level(&source)).collect();
    set_stage(&common.root, &dirs).context("make a place to rehearse in")?;
    // Opened only now: below are the overlays.
    let root = Dir::open_root(&common.root)?;
    if !args.as_it_is {
        let trust = if args.every_byte { Trust::Bytes } else { Trust::Stat };
        let brought = source.bring(&root, None)?;
        brought.plan(&source, &root, &[], trust)?.stage(&root)?.commit()?;
    }
    let (services, _) = services::read(&root)?;
    let (mut said, pri) = (Said::default(), source.network());
    for service in services.iter().filter(|service| args.services.lines().any(|name| name == service.name)) {
        match service.rehearse(&common.root, &pri) {
            Ok(Works::Here) => {}
            Ok(Works::AsPri) => drop(said.as_pri.insert(service.name.clone())),
            Err(complaint) => drop(said.complaints.insert(service.name.clone(), complaint)),
        }
    }
    print_json(&said)?;
    Ok(Exit::Done)
}

/// The directories of the root directory in which something is listed.
fn top_level(source: &Source) -> BTreeSet<PathBuf> {
    let all = source.listed.paths().iter().filter(|path| path.relative().iter().nth(1).is_some());
    all.filter_map(|path| path.relative().iter().next().map(PathBuf::from)).collect()
}

/// Directories that PRI has in its root directory and this server has not: to be rehearsed in, they have to be there, empty, for as long.
struct Places(Vec<PathBuf>);

impl Places {
    fn make(root: &Path, dirs: &BTreeSet<PathBuf>) -> anyhow::Result<Places> {
        let mut places = Places(vec![]);
        for at in dirs.iter().map(|dir| root.join(dir)) {
            match std::fs::create_dir(&at) {
                Ok(()) => places.0.push(at),
                Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => (),
                Err(error) => return Err(error).with_context(|| format!("make {} to rehearse in", at.display())),
            }
        }
        Ok(places)
    }
}

impl Drop for Places {
    fn drop(&mut self) {
        // Where it is not empty any more, somebody else needs it.
        self.0.iter().for_each(|at| drop(std::fs::remove_dir(at)));
    }
}

/// Gives this process mounts of its own: the tree read-only, and an overlay in memory over each of `dirs`.
fn set_stage(root: &Path, dirs: &BTreeSet<PathBuf>) -> anyhow::Result<()> {
    let root = std::fs::canonicalize(root)?;
    mount::own_mounts()?;
    mount::show_read_only(&root)?;
    let memory = root.join(DIR).join(REHEARSAL);
    mount::memory(&memory, MEMORY)?;
    for dir in dirs {
        let at = root.join(dir);
        let stat = std::fs::symlink_metadata(&at);
        // What is not there cannot be made: the tree is read-only.
        if let Ok(meta) = stat
            && meta.is_dir()
        {
            let layer = memory.join(dir);
            let (upper, work) = (layer.join("upper"), layer.join("work"));
            std::fs::create_dir_all(&upper)?;
            std::fs::create_dir_all(&work)?;
            // Who may write there is what the upper one says.
            std::fs::set_permissions(&upper, meta.permissions())?;
            mount::overlay(&at, &upper, &work)?;
        }
    }
    ensure!(mount::is_read_only(&root)?, "{} is not read-only", root.display());
    Ok(())
}
