//! `scan`: new cores and kernel logs are counted. Of each kind that nobody has said anything about the VerifyService `atlas` tells.

use super::{WAIT, server_name};
use crate::{
    clean::Rules,
    core_file::Core,
    entry::{Entry, Occurrence},
    find,
    kernel::{self, KernelCrash},
    signature::{Signature, short},
    space::Search,
    store::{Limits, Store, Stored},
    traceback::{Detail, Traceback},
};
use anyhow::{Context, Result};
use atlas_cli::{Common, Exit, print, print_json};
use atlas_host::tree::Dir;
use clap::Args;
use std::{
    path::{Path, PathBuf},
    time::Duration,
};

const MAX_MIB: u64 = 2048;
const MAX_CORES: usize = 200;
const MAX_DAYS: u64 = 90;

#[derive(Debug, PartialEq, Args)]
pub(super) struct Scan {
    /// Look in this directory, too, and take cores from there
    #[arg(long = "dir", value_name = "DIR")]
    dirs: Vec<PathBuf>,
    /// The name to count occurrences under; this server's where it is left out
    #[arg(long)]
    server: Option<String>,
    /// Leave the cores where they are
    #[arg(long)]
    keep: bool,
    /// All kept cores together take at most this many MiB
    #[arg(long, value_name = "MIB", default_value_t = MAX_MIB)]
    max_mib: u64,
    /// Keep at most this many cores
    #[arg(long, value_name = "N", default_value_t = MAX_CORES)]
    max_cores: usize,
    /// Keep cores for at most this many days
    #[arg(long, value_name = "DAYS", default_value_t = MAX_DAYS)]
    max_days: u64,
}

impl Scan {
    /// By the default limits.
    pub(super) fn of(dirs: Vec<PathBuf>) -> Scan {
        Scan { dirs, server: None, keep: false, max_mib: MAX_MIB, max_cores: MAX_CORES, max_days: MAX_DAYS }
    }
}

/// What a scan did.
#[derive(Debug, Default, serde::Serialize)]
struct Scanned {
    format: u32,
    new: Vec<Line>,
    known: Vec<Line>,
    refused: Vec<String>,
}

impl Scanned {
    fn add(&mut self, entry: &Entry, stored: &Stored, core: &Path) {
        match stored {
            Stored::New => self.new.push(Line::of(entry, core)),
            Stored::Known => self.known.push(Line::of(entry, core)),
            Stored::AlreadyCounted => {}
        }
    }
}

#[derive(Debug, serde::Serialize)]
struct Line {
    signature: String,
    strength: &'static str,
    program: String,
    count: u64,
    first: String,
    core: PathBuf,
}

impl Line {
    fn of(entry: &Entry, core: &Path) -> Line {
        Line {
            signature: entry.signature.clone(),
            strength: entry.strength.name(),
            program: entry.program.clone(),
            count: entry.count,
            first: entry.frames().take(3).collect::<Vec<_>>().join(" < "),
            core: core.to_owned(),
        }
    }
}

pub(super) fn scan(common: &Common, scan: &Scan) -> Result<Exit> {
    let cores = find::cores(&common.root, &scan.dirs)?;
    let root = Dir::open_root(&common.root)?;
    let logs = kernel::logs(&root)?;
    let mut scanned = Scanned { format: 1, ..Scanned::default() };
    if !cores.is_empty() || !logs.is_empty() {
        let age = Duration::from_secs(scan.max_days.saturating_mul(86400));
        let limits = Limits { core_bytes: scan.max_mib.saturating_mul(1 << 20), cores: scan.max_cores, core_age: age };
        let store = Store::open(&common.root, limits, WAIT)?;
        let server = scan.server.clone().unwrap_or_else(|| server_name(&common.root));
        let scanning = Scanning { common, scan, store: &store, server: &server, rules: Rules::built_in()? };
        let mut handled = store.handled()?;
        for core in cores {
            if !handled.contains(&core.mark) {
                scanning.core(&core, &mut scanned, &mut handled)?;
            }
        }
        for log in logs {
            if !handled.contains(&log.mark) {
                scanning.kernel(&root, &log, &mut scanned)?;
                handled.push(log.mark);
            }
        }
        // Entries know the marks of what they counted: without the list the next scan has more work, and counts nothing twice.
        match store.set_handled(handled) {
            Err(error) if error.source.kind() == std::io::ErrorKind::StorageFull => {}
            other => other?,
        }
    }
    let exit = if scanned.new.is_empty() { Exit::Done } else { Exit::No };
    if common.json {
        print_json(&scanned)?;
    } else {
        for line in &scanned.new {
            print(format!(
                "NEW crash {} of {} ({}): {}",
                short(&line.signature),
                line.program,
                line.strength,
                line.first
            ))?;
        }
        for line in &scanned.known {
            print(format!("known crash {} of {}, {} times now", short(&line.signature), line.program, line.count))?;
        }
        for line in &scanned.refused {
            print(format!("not a core: {line}"))?;
        }
    }
    Ok(exit)
}

struct Scanning<'s> {
    common: &'s Common,
    scan: &'s Scan,
    store: &'s Store,
    server: &'s str,
    rules: Rules,
}

impl Scanning<'_> {
    fn core(&self, found: &find::Found, scanned: &mut Scanned, handled: &mut Vec<String>) -> Result<()> {
        let core = match Core::open(&found.path) {
            Ok(core) => core,
            Err(error) => {
                scanned.refused.push(error.to_string());
                handled.push(found.mark.clone());
                return Ok(());
            }
        };
        let traceback = Traceback::of(core, &Search::new(&self.common.root), Detail::Lines);
        let signature = Signature::of(&traceback, &self.rules);
        let occurrence = found.occurrence(self.server, &traceback.program_path, traceback.log.clone());
        let (entry, stored) = self.store.count(&traceback, &signature, occurrence)?;
        self.store.keep_core(&entry.signature, &found.path)?;
        // Only now, with the fact on the disk, may the core go.
        scanned.add(&entry, &stored, &found.path);
        if found.is_ours && !self.scan.keep {
            std::fs::remove_file(&found.path).with_context(|| format!("remove {}", found.path.display()))?;
        } else {
            handled.push(found.mark.clone());
        }
        Ok(())
    }

    /// Counts each event of a kernel log.
    fn kernel(&self, root: &Dir, log: &kernel::Log, scanned: &mut Scanned) -> Result<()> {
        let path = self.common.root.join(&log.path);
        for (at, crash) in kernel::crashes(&kernel::read(root, &log.path)?).into_iter().enumerate() {
            let KernelCrash { signature, strength, text, moment } = crash;
            let unnamed = || if at == 0 { log.mark.clone() } else { format!("{}:{at}", log.mark) };
            let occurrence = Occurrence {
                time: log.time,
                server: self.server.to_owned(),
                program_path: "kernel".into(),
                log: Some(path.display().to_string()),
                mark: moment.map_or_else(unnamed, |moment| format!("kernel:{moment}")),
            };
            let (entry, stored) = self.store.count_kernel(&signature, strength, &text, occurrence)?;
            scanned.add(&entry, &stored, &path);
        }
        Ok(())
    }
}
