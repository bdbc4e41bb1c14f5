//! A report of one fault for somebody who has never seen this server: a tar of texts that explain themselves.
//!
//! Arguments, environment, host names and addresses of the network are left out or replaced, and what was replaced is listed. The core,
//! which holds all of them, comes along only where it is asked for.

use crate::{entry::Entry, store::Store};
use anyhow::{Context, Result};
use regex_lite::Regex;
use std::{
    collections::BTreeMap,
    fmt::Write as _,
    fs::File,
    io::{self, Read, Seek, SeekFrom},
    path::Path,
};

/// Of each log the end is taken, in bytes.
const LOG_LIMIT: u64 = 4 << 20;
/// How many logs come along.
const LOGS: usize = 5;

/// Replaces what may tell of a customer, and counts it.
pub struct Redactor {
    hosts: Vec<(Regex, String)>,
    patterns: Vec<(&'static str, Regex, &'static str)>,
    /// What was replaced by what, and how often. What it was is not told.
    pub replaced: BTreeMap<String, usize>,
}

impl Redactor {
    /// For a text in which these servers may be named.
    pub fn new<'h>(hosts: impl IntoIterator<Item = &'h str>) -> Result<Redactor> {
        let mut names: Vec<&str> =
            hosts.into_iter().flat_map(|host| [host, host.split('.').next().unwrap_or(host)]).collect();
        names.sort_by_key(|name| std::cmp::Reverse(name.len()));
        names.dedup();
        let hosts = names
            .into_iter()
            .filter(|name| name.len() > 1)
            .enumerate()
            .map(|(index, name)| {
                Ok((Regex::new(&format!(r"(?i)\b{}\b", regex_lite::escape(name)))?, format!("[server-{}]", index + 1)))
            })
            .collect::<Result<_>>()?;
        let patterns = vec![
            ("mail address", Regex::new(r"[A-Za-z0-9._%+-]+@[A-Za-z0-9-]+\.[A-Za-z0-9.-]+")?, "[mail]"),
            ("IPv4 address", Regex::new(r"\b(?:[0-9]{1,3}\.){3}[0-9]{1,3}\b")?, "[address]"),
            (
                "IPv6 address",
                Regex::new(r"\b(?:[0-9a-fA-F]{1,4}:){3,7}[0-9a-fA-F]{0,4}\b|\b(?:[0-9a-fA-F]{1,4}:)+:[0-9a-fA-F:]*")?,
                "[address]",
            ),
            (
                "value of a setting that sounds secret",
                Regex::new(r"(?i)\b([A-Z0-9_]*(?:passw(?:or)?d|secret|token|api_?key)[A-Z0-9_]*\s*[=:]\s*)\S+")?,
                "${1}[secret]",
            ),
        ];
        Ok(Redactor { hosts, patterns, replaced: BTreeMap::new() })
    }

    /// The text without them.
    pub fn redact(&mut self, text: &str) -> String {
        let mut text = text.to_owned();
        for (pattern, new) in &self.hosts {
            let count = pattern.find_iter(&text).count();
            if count > 0 {
                *self.replaced.entry(format!("host name → {new}")).or_default() += count;
                text = pattern.replace_all(&text, new.as_str()).into_owned();
            }
        }
        for (what, pattern, new) in &self.patterns {
            let count = pattern.find_iter(&text).count();
            if count > 0 {
                *self.replaced.entry((*what).to_owned()).or_default() += count;
                text = pattern.replace_all(&text, *new).into_owned();
            }
        }
        text
    }
}

/// Writes the report; gives the names of its files and what was redacted.
pub fn write(
    store: &Store,
    entry: &Entry,
    root: &Path,
    target: File,
    with_core: bool,
) -> Result<(Vec<String>, BTreeMap<String, usize>)> {
    let own = crate::command::server_name(root);
    let mut redactor = Redactor::new(entry.by_server.keys().map(String::as_str).chain([own.as_str()]))?;
    let mut files: Vec<(String, String)> = Vec::new();
    files.push(("cleaned.txt".into(), entry.text.clone()));
    if let Some(raw) = &entry.raw {
        if !raw.command_line().is_empty() {
            *redactor.replaced.entry("arguments of the program".into()).or_default() += 1;
        }
        files.push(("raw.txt".into(), redactor.redact(&raw.lines().join("\n"))));
        files.push(("modules.txt".into(), modules(raw)));
    }
    files.push(("occurrences.txt".into(), redactor.redact(&occurrences(entry))));
    files.push(("notes.txt".into(), redactor.redact(&entry.notes.join("\n"))));
    files.push(("system.txt".into(), redactor.redact(&system(root))));
    let logs = entry.occurrences.iter().rev().filter_map(|occurrence| occurrence.log.as_deref());
    let mut seen: Vec<&str> = Vec::new();
    for log in logs {
        if seen.len() < LOGS && !seen.contains(&log) {
            seen.push(log);
            let name = Path::new(log).file_name().map_or_else(|| "log".into(), |name| name.to_string_lossy());
            let text =
                tail(&below(root, Path::new(log))).unwrap_or_else(|error| format!("it cannot be read: {error}\n"));
            files.push((format!("logs/{}", redactor.redact(&name)), redactor.redact(&text)));
        }
    }
    *redactor.replaced.entry("environment of the program (left out whole)".into()).or_default() += 1;
    let core = if with_core { store.core(&entry.signature)? } else { None };
    files.push(("redacted.txt".into(), redacted(&redactor.replaced)));
    files.insert(0, ("README.txt".into(), readme(entry, &files, core.is_some())));
    let mut archive = tar::Builder::new(target);
    let top = format!("crash-{}-{}", entry.program.replace('/', "_"), crate::signature::short(&entry.signature));
    for (name, text) in &files {
        add(&mut archive, &format!("{top}/{name}"), text.len() as u64, text.as_bytes()).context("write the report")?;
    }
    let mut names: Vec<String> = files.into_iter().map(|(name, _)| name).collect();
    if let Some(core) = core {
        let size = core.metadata().context("look at the core")?.len();
        add(&mut archive, &format!("{top}/core.zst"), size, core).context("write the core into the report")?;
        names.push("core.zst".into());
    }
    archive.into_inner().and_then(|file| file.sync_all()).context("write the report")?;
    Ok((names, redactor.replaced))
}

fn add(archive: &mut tar::Builder<File>, name: &str, size: u64, content: impl Read) -> io::Result<()> {
    let mut header = tar::Header::new_gnu();
    header.set_size(size);
    header.set_mode(0o600);
    header.set_mtime(crate::store::seconds_now());
    archive.append_data(&mut header, name, content.take(size))
}

/// A log's place: ssRun names it with the root that it ran with.
fn below(root: &Path, log: &Path) -> std::path::PathBuf {
    if log.starts_with(root) { log.to_owned() } else { root.join(log.strip_prefix("/").unwrap_or(log)) }
}

fn tail(path: &Path) -> io::Result<String> {
    let mut file = File::open(path)?;
    let size = file.metadata()?.len();
    file.seek(SeekFrom::Start(size.saturating_sub(LOG_LIMIT)))?;
    let mut bytes = Vec::new();
    file.take(LOG_LIMIT).read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

fn modules(raw: &crate::record::Record) -> String {
    let mut text =
        String::from("What was mapped: path, build id, and whether the file on the disk was the one that ran.\n\n");
    for (path, build_id, identity) in &raw.modules {
        let _ = writeln!(text, "{path}  {}  {identity:?}", build_id.as_deref().unwrap_or("no build id"));
    }
    text
}

fn occurrences(entry: &Entry) -> String {
    let mut text = format!("It happened {} times. UTC, server, program, log:\n\n", entry.count);
    for occurrence in &entry.occurrences {
        let time = atlas_model::time::utc(occurrence.time);
        let log = occurrence.log.as_deref().unwrap_or("-");
        let _ = writeln!(text, "{time}  {}  {}  {log}", occurrence.server, occurrence.program_path);
    }
    text
}

fn system(root: &Path) -> String {
    let files = [
        "etc/os-release",
        "proc/version",
        "proc/meminfo",
        "proc/loadavg",
        "proc/sys/kernel/core_pattern",
        "opt/atlas/EnvID",
    ];
    let mut text = String::new();
    for file in files {
        let content = std::fs::read_to_string(root.join(file)).unwrap_or_else(|error| format!("({error})"));
        let lines: Vec<&str> = content.trim_end().lines().take(12).collect();
        let _ = writeln!(text, "== /{file}\n{}\n", lines.join("\n"));
    }
    text
}

fn redacted(replaced: &BTreeMap<String, usize>) -> String {
    let mut text = String::from("What was left out or replaced in this report, and how often:\n\n");
    for (what, count) in replaced {
        let _ = writeln!(text, "{count:6}  {what}");
    }
    text
}

fn readme(entry: &Entry, files: &[(String, String)], has_core: bool) -> String {
    let explained = |name: &str| match name {
        "cleaned.txt" => {
            "the fault as its signature sees it, innermost function first; `sha256sum cleaned.txt` gives the signature"
        }
        "raw.txt" => "the whole traceback of the first occurrence, and how each frame was found",
        "modules.txt" => "the program and its libraries, with versions by build id",
        "occurrences.txt" => "when and where it happened",
        "notes.txt" => "what people wrote about it",
        "system.txt" => "the system that this report was made on",
        "redacted.txt" => "what was left out or replaced",
        _ => "the log of a run that ended so",
    };
    let list: String = files.iter().map(|(name, _)| format!("  {name:18} {}\n", explained(name))).collect();
    let core = if has_core {
        "  core.zst           the program's memory (zstd): it holds all data of the program\n"
    } else {
        ""
    };
    format!(
        "A crash of {}\n\nSignature {} ({})\nIt happened {} times.\n\nThe files:\n{list}{core}",
        entry.program,
        entry.signature,
        entry.strength.name(),
        entry.count
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_addresses_and_secrets_do_not_leave() {
        let mut redactor = Redactor::new(["pri.example.org"]).unwrap();
        let text = redactor
            .redact("pri.example.org (PRI) 192.168.1.7 fe80::1:2 root@example.org DB_PASSWORD=hunter2 main.rs:12");
        assert_eq!(text, "[server-1] ([server-2]) [address] [address] [mail] DB_PASSWORD=[secret] main.rs:12");
        assert_eq!(redactor.replaced.values().sum::<usize>(), 6, "{:?}", redactor.replaced);
    }
}
