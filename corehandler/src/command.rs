//! ssCoreHandler's command line.

use crate::{
    clean::{Fate, Rules},
    core_file::Core,
    entry::{Entry, Occurrence},
    exchange, find,
    kernel::{self, KernelCrash},
    notice::Notice,
    record::Record,
    report,
    signature::{Signature, short},
    space::Search,
    store::{Limits, Store, Stored},
    traceback::{Detail, Traceback},
};
use anyhow::{Context, Result, anyhow};
use atlas_cli::{Common, Exit, Hint, Table, print, print_json};
use atlas_host::tree::Dir;
use clap::{Args, CommandFactory, Parser, Subcommand};
use std::{
    fs::File,
    io::Read,
    path::{Path, PathBuf},
    time::Duration,
};

const EXAMPLES: &str = "\
Examples:
  ssCoreHandler scan                         store the cores that are new; exit 3 when a new kind of crash is among them
  ssCoreHandler signature core --explain     raw and cleaned traceback side by side, and the rules that made the difference
  ssCoreHandler list                         the known crashes
  ssCoreHandler note 4f3a \"fixed in v3\"      tell others about it
  ssCoreHandler export known.txt             signatures for other sites; they run: ssCoreHandler import known.txt
  ssCoreHandler report 4f3a -o crash.tar     all about one crash, redacted, for somebody elsewhere

Exit codes: 0 done, 1 failed, 2 called wrongly, 3 (scan) a new kind of crash was found";

/// Cores to signatures: know every crash, and tell about each new kind once
#[derive(Debug, Parser)]
#[command(name = "ssCoreHandler", version, after_help = EXAMPLES)]
pub struct Arguments {
    #[command(flatten)]
    common: Common,
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Look for new cores and kernel crash logs, and count them
    Scan(Scan),
    /// Compute the signature of a core
    Signature(Signing),
    /// List the known crashes
    List,
    /// Show all that is known of one crash
    Show {
        /// The beginning of its signature
        signature: String,
    },
    /// Write a note to a crash
    Note {
        /// The beginning of its signature
        signature: String,
        /// What to write
        text: String,
    },
    /// Write the known signatures as text for other sites
    Export {
        /// Where to; standard output where it is left out
        file: Option<PathBuf>,
    },
    /// Take over another site's signatures
    Import {
        /// What `export` wrote there
        file: PathBuf,
    },
    /// Write a tar with all about one crash
    Report(Reporting),
    /// Compute all signatures anew, after the rules have changed
    Resign,
    /// List the rules by which tracebacks are cleaned
    Rules,
}

#[derive(Debug, Args)]
struct Scan {
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
    #[arg(long, value_name = "MIB", default_value_t = 2048)]
    max_mib: u64,
    /// Keep at most this many cores
    #[arg(long, value_name = "N", default_value_t = 200)]
    max_cores: usize,
    /// Keep cores for at most this many days
    #[arg(long, value_name = "DAYS", default_value_t = 90)]
    max_days: u64,
}

#[derive(Debug, Args)]
struct Signing {
    /// The core file; it may be packed by zstd, lz4, xz or gzip, or lie in a report by apport
    core: PathBuf,
    /// The program that it is of, where it lies elsewhere now
    #[arg(long, value_name = "FILE")]
    program: Option<PathBuf>,
    /// Look for separate debug files here, too (DIR/.build-id/xx/….debug)
    #[arg(long, value_name = "DIR")]
    debug_dir: Vec<PathBuf>,
    /// Do not tell functions that the compiler copied into others
    #[arg(long)]
    no_inlines: bool,
    /// Show the raw and the cleaned traceback, and the rule that changed or dropped each frame
    #[arg(long)]
    explain: bool,
}

#[derive(Debug, Args)]
struct Reporting {
    /// The beginning of its signature
    signature: String,
    /// The file to write
    #[arg(short, long, value_name = "FILE")]
    output: PathBuf,
    /// Put the core in: it holds all of the program's data, and nothing in it is redacted
    #[arg(long)]
    with_core: bool,
}

/// The command line's definition, for man pages and completions.
pub fn command() -> clap::Command {
    Arguments::command()
}

/// Parses, runs, ends.
pub fn main() -> std::process::ExitCode {
    let arguments: Arguments = atlas_cli::parse();
    atlas_cli::finish("ssCoreHandler", arguments.common.json, run(&arguments))
}

/// How long another program may hold the store.
const WAIT: Duration = Duration::from_secs(20);

fn run(arguments: &Arguments) -> Result<Exit> {
    let common = &arguments.common;
    let open = || Store::open(&common.root, Limits::default(), WAIT).map_err(anyhow::Error::from);
    match &arguments.action {
        Action::Scan(scan) => self::scan(common, scan),
        Action::Signature(signing) => sign(common, signing),
        Action::List => list(common, &open()?),
        Action::Show { signature } => show(common, &found(&open()?, signature)?),
        Action::Note { signature, text } => note(common, &open()?, signature, text),
        Action::Export { file } => export(&open()?, file.as_deref()),
        Action::Import { file } => import(common, &open()?, file),
        Action::Report(reporting) => self::report(common, &open()?, reporting),
        Action::Resign => resign(common, &open()?),
        Action::Rules => rules(common),
    }
}

/// This server's name, as its tree says.
pub fn server_name(root: &Path) -> String {
    let name = if root == Path::new("/") {
        nix::unistd::gethostname().ok().map(|name| name.to_string_lossy().into_owned())
    } else {
        std::fs::read_to_string(root.join("etc/hostname")).ok()
    };
    name.map(|name| name.trim().to_owned()).filter(|name| !name.is_empty()).unwrap_or_else(|| "unknown".into())
}

/// `2004-06-03 03:23:15` for seconds since 1970.
pub fn utc(seconds: u64) -> String {
    let (days, rest) = (i64::try_from(seconds / 86400).unwrap_or(0), seconds % 86400);
    // Howard Hinnant's civil_from_days, for days since 1970.
    let shifted = days + 719_468;
    let era = shifted.div_euclid(146_097);
    let of_era = shifted.rem_euclid(146_097);
    let year_of_era = (of_era - of_era / 1460 + of_era / 36524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_index = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month_index + 2) / 5 + 1;
    let month = if month_index < 10 { month_index + 3 } else { month_index - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    format!("{year:04}-{month:02}-{day:02} {:02}:{:02}:{:02}", rest / 3600, rest / 60 % 60, rest % 60)
}

fn found(store: &Store, beginning: &str) -> Result<Entry> {
    store
        .find(beginning)?
        .map_err(|candidates| match candidates.len() {
            0 => anyhow!("no known crash has a signature that begins with '{beginning}'"),
            count => anyhow!("{count} signatures begin with '{beginning}'"),
        })
        .hint("see `ssCoreHandler list`")
}

/// What a scan did.
#[derive(Debug, Default, serde::Serialize)]
struct Scanned {
    format: u32,
    new: Vec<Line>,
    known: Vec<Line>,
    refused: Vec<String>,
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

fn scan(common: &Common, scan: &Scan) -> Result<Exit> {
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
        // Only now, with the fact on the disk, may the core go; and somebody is told before it does.
        self.tell(&entry, &stored, &found.path, scanned)?;
        if found.is_ours && !self.scan.keep {
            std::fs::remove_file(&found.path).with_context(|| format!("remove {}", found.path.display()))?;
        } else {
            handled.push(found.mark.clone());
        }
        Ok(())
    }

    fn tell(&self, entry: &Entry, stored: &Stored, core: &Path, scanned: &mut Scanned) -> Result<()> {
        match stored {
            Stored::New => {
                let title = format!("new kind of crash of {} on {}", entry.program, self.server);
                let text = format!("signature {} ({})\n{}", entry.signature, entry.strength.name(), entry.text);
                let notice = Notice { title, text };
                notice.send(&self.common.root, "ssCoreHandler", short(&entry.signature))?;
                scanned.new.push(Line::of(entry, core));
            }
            Stored::Known => scanned.known.push(Line::of(entry, core)),
            Stored::AlreadyCounted => {}
        }
        Ok(())
    }

    fn kernel(&self, root: &Dir, log: &kernel::Log, scanned: &mut Scanned) -> Result<()> {
        let Some(crash) = kernel::parse(&kernel::read(root, &log.path)?) else { return Ok(()) };
        let path = self.common.root.join(&log.path);
        let KernelCrash { signature, strength, text, moment } = crash;
        let occurrence = Occurrence {
            time: log.time,
            server: self.server.to_owned(),
            program_path: "kernel".into(),
            log: Some(path.display().to_string()),
            mark: moment.map_or_else(|| log.mark.clone(), |moment| format!("kernel:{moment}")),
        };
        let (entry, stored) = self.store.count_kernel(&signature, strength, &text, occurrence)?;
        self.tell(&entry, &stored, &path, scanned)
    }
}

fn sign(common: &Common, signing: &Signing) -> Result<Exit> {
    let core = Core::open(&signing.core).hint("is it a core file of an x86-64 program? `file` tells")?;
    let missing = core.missing_bytes;
    let search =
        Search { root: common.root.clone(), program: signing.program.clone(), debug_dirs: signing.debug_dir.clone() };
    let detail = match (signing.no_inlines, signing.explain || common.json) {
        (true, _) => Detail::Functions,
        (false, true) => Detail::Lines,
        (false, false) => Detail::Inlines,
    };
    let traceback = Traceback::of(core, &search, detail);
    let signature = Signature::of(&traceback, &Rules::built_in()?);
    if common.json {
        return print_json(&serde_json::json!({
            "format": 1, "signature": signature.id, "also": signature.plain_id, "strength": signature.strength,
            "rules": signature.rules, "program": traceback.program, "build_id": traceback.program_build_id,
            "signal": traceback.signal.number, "depth": traceback.depth, "cleaned": signature.cleaned.frames,
            "weaknesses": signature.cleaned.weaknesses, "missing_bytes": missing, "log": traceback.log,
            "raw": frames_json(&traceback, &signature),
        }))
        .map(|()| Exit::Done);
    }
    if signing.explain {
        explain(&traceback, &signature)?;
    }
    print(format!("{} {}", signature.id, signature.strength.name()))?;
    if let Some(plain) = &signature.plain_id {
        print(format!("  {plain} where no debug information is installed"))?;
    }
    for weakness in &signature.cleaned.weaknesses {
        print(format!("  weak: {weakness}"))?;
    }
    if missing > 0 {
        print(format!("  the core was cut off: {missing} bytes are missing"))?;
    }
    Ok(Exit::Done)
}

/// The raw frames for programs, the middle of a deep traceback left out.
fn frames_json(traceback: &Traceback, signature: &Signature) -> Vec<serde_json::Value> {
    let total = signature.cleaned.explained.len();
    let explained = signature.cleaned.explained.iter().enumerate();
    let shown = explained.filter(|(at, _)| *at < SHOWN || *at + SHOWN >= total);
    shown
        .filter_map(|(at, line)| {
            let frame = traceback.frames.get(line.raw)?;
            Some(serde_json::json!({
                "frame": at, "trust": frame.trust, "function": frame.place.shown(), "symbol": frame.place.symbol,
                "module": frame.place.module, "offset": frame.place.offset, "source": frame.place.source,
                "fate": fate(&line.fate), "rules": line.rules.iter().map(|rule| rule.to_string()).collect::<Vec<_>>(),
            }))
        })
        .collect()
}

/// How many frames are shown from each end of a deep traceback.
const SHOWN: usize = 40;

fn fate(fate: &Fate) -> String {
    match fate {
        Fate::Kept(name) => name.to_string(),
        Fate::Joined(name) => format!("= {name}"),
        Fate::Dropped => "-".into(),
        Fate::Repeated => "… again".into(),
    }
}

fn explain(traceback: &Traceback, signature: &Signature) -> Result<()> {
    let mut table = Table::new(["#", "FOUND BY", "RAW", "CLEANED", "RULES"]);
    let total = signature.cleaned.explained.len();
    for (at, line) in signature.cleaned.explained.iter().enumerate() {
        if at >= SHOWN && at + SHOWN < total {
            if at == SHOWN {
                table.row(["…".to_owned(), String::new(), format!("{} more", total - 2 * SHOWN)]);
            }
            continue;
        }
        let Some(frame) = traceback.frames.get(line.raw) else { continue };
        let rules: Vec<&str> = line.rules.iter().map(|rule| &**rule).collect();
        let raw: String = frame.place.shown().chars().take(70).collect();
        table.row([at.to_string(), frame.trust.name().to_owned(), raw, fate(&line.fate), rules.join(" ")]);
    }
    print(&table)?;
    if let Some(message) = &traceback.abort_message {
        print(format!("The C library said: {message}"))?;
    }
    print(format!("\nThe signature is the SHA-256 of (rules {}):\n{}", signature.rules, signature.text))
}

fn list(common: &Common, store: &Store) -> Result<Exit> {
    let mut all = store.all()?;
    all.sort_by_key(|entry| std::cmp::Reverse(entry.occurrences.last().map_or(0, |occurrence| occurrence.time)));
    if common.json {
        let all: Vec<Entry> =
            all.into_iter().map(|entry| Entry { raw: entry.raw.map(Record::without_arguments), ..entry }).collect();
        return print_json(&serde_json::json!({ "format": 1, "crashes": all })).map(|()| Exit::Done);
    }
    let mut table = Table::new(["SIGNATURE", "", "COUNT", "LAST (UTC)", "PROGRAM", "WHERE", "NOTE"]);
    for entry in &all {
        let last = entry.occurrences.last().map_or_else(|| "never here".into(), |occurrence| utc(occurrence.time));
        let place: String = entry.frames().take(2).collect::<Vec<_>>().join(" < ").chars().take(50).collect();
        let note = entry.notes.last().cloned().unwrap_or_default();
        let row = [
            short(&entry.signature),
            entry.strength.name(),
            &entry.count.to_string(),
            &last,
            &entry.program,
            &place,
            &note,
        ];
        table.row(row);
    }
    print(if all.is_empty() { "no crash is known".to_owned() } else { table.to_string() })?;
    Ok(Exit::Done)
}

fn show(common: &Common, entry: &Entry) -> Result<Exit> {
    if common.json {
        return print_json(entry).map(|()| Exit::Done);
    }
    print(format!("signature {} ({}, rules {})", entry.signature, entry.strength.name(), entry.rules))?;
    for also in &entry.also {
        print(format!("also      {also}"))?;
    }
    print(format!("happened  {} times", entry.count))?;
    for (server, count) in &entry.by_server {
        print(format!("  {count:6} on {server}"))?;
    }
    for occurrence in entry.occurrences.iter().rev().take(10) {
        let log = occurrence.log.as_deref().unwrap_or("no log known");
        print(format!("  {} {} {} {log}", utc(occurrence.time), occurrence.server, occurrence.program_path))?;
    }
    for note in &entry.notes {
        print(format!("note      {note}"))?;
    }
    print(format!("\ncleaned:\n{}", entry.text))?;
    if let Some(raw) = &entry.raw {
        print(format!("raw, of the first occurrence:\n{}", raw.lines().join("\n")))?;
    }
    Ok(Exit::Done)
}

fn note(common: &Common, store: &Store, beginning: &str, text: &str) -> Result<Exit> {
    let mut entry = found(store, beginning)?;
    let text = text.replace(['\n', '\r'], " ");
    let is_new = !entry.notes.contains(&text);
    if is_new {
        entry.notes.push(text);
        store.put(&entry)?;
    }
    if common.json {
        print_json(&serde_json::json!({ "format": 1, "signature": entry.signature, "written": is_new }))?;
    } else {
        print(if is_new { "noted" } else { "that note stands there already" })?;
    }
    Ok(Exit::Done)
}

fn export(store: &Store, file: Option<&Path>) -> Result<Exit> {
    let text = exchange::export(&store.all()?);
    match file {
        None => print(text)?,
        Some(file) => {
            let dir = file.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
            let name = file.file_name().ok_or_else(|| anyhow!("'{}' names no file", file.display()))?;
            atlas_host::durable::write(&Dir::open_root(dir)?, name, text.as_bytes(), 0o644)?;
        }
    }
    Ok(Exit::Done)
}

fn import(common: &Common, store: &Store, file: &Path) -> Result<Exit> {
    let mut text = String::new();
    let opened = File::open(file).with_context(|| format!("open {}", file.display()))?;
    opened.take(exchange::TEXT_LIMIT).read_to_string(&mut text).with_context(|| format!("read {}", file.display()))?;
    let entries = exchange::parse(&text)
        .with_context(|| format!("understand {}", file.display()))
        .hint("let the other site export it anew; nothing was taken over")?;
    let (new, changed, same) = store.import(&entries)?;
    if common.json {
        print_json(&serde_json::json!({ "format": 1, "new": new, "changed": changed, "same": same }))?;
    } else {
        print(format!("{new} new, {changed} with new notes, {same} known already"))?;
    }
    Ok(Exit::Done)
}

fn report(common: &Common, store: &Store, reporting: &Reporting) -> Result<Exit> {
    let entry = found(store, &reporting.signature)?;
    let target = File::options()
        .write(true)
        .create_new(true)
        .open(&reporting.output)
        .with_context(|| format!("create {}", reporting.output.display()))
        .hint("choose a name that is not there yet")?;
    let (files, redacted) = report::write(store, &entry, &common.root, target, reporting.with_core)?;
    if common.json {
        print_json(&serde_json::json!({ "format": 1, "files": files, "redacted": redacted }))?;
    } else {
        print(format!("{}: {}", reporting.output.display(), files.join(", ")))?;
        for (what, count) in redacted {
            print(format!("  redacted {count:4} × {what}"))?;
        }
    }
    Ok(Exit::Done)
}

fn resign(common: &Common, store: &Store) -> Result<Exit> {
    let rules = Rules::built_in()?;
    let changed = store.resign(&rules)?;
    if common.json {
        print_json(&serde_json::json!({ "format": 1, "rules": rules.version, "changed": changed }))?;
    } else {
        for (old, new) in &changed {
            print(format!("{} is {} now", short(old), short(new)))?;
        }
        print(format!("{} signatures changed by rules {}", changed.len(), rules.version))?;
    }
    Ok(Exit::Done)
}

fn rules(common: &Common) -> Result<Exit> {
    let rules = Rules::built_in()?;
    if common.json {
        print_json(&serde_json::json!({ "format": 1, "version": rules.version, "rules": rules.shown() }))?;
    } else {
        let mut table = Table::new(["ABOUT", "RULE", "WHY"]);
        for rule in rules.shown() {
            table.row([rule.table, &rule.id, &rule.why]);
        }
        print(format!("version {}\n{table}", rules.version))?;
    }
    Ok(Exit::Done)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::seconds_now;

    #[test]
    fn times_are_told_in_utc() {
        assert_eq!(utc(0), "1970-01-01 00:00:00");
        assert_eq!(utc(1_086_232_995), "2004-06-03 03:23:15");
        assert_eq!(utc(951_782_400), "2000-02-29 00:00:00");
        assert!(utc(seconds_now()) > utc(0));
    }

    #[test]
    fn the_command_line_is_sound() {
        command().debug_assert();
    }
}
