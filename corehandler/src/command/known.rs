//! What is known: shown, noted, exchanged, reported, computed anew.

use crate::{clean::Rules, entry::Entry, exchange, record::Record, report, signature::short, store::Store};
use anyhow::{Context, Result, anyhow};
use atlas_cli::{Common, Exit, Hint, Table, print, print_json};
use atlas_host::tree::Dir;
use atlas_model::time::utc;
use clap::Args;
use std::{
    fs::File,
    io::Read,
    path::{Path, PathBuf},
};

#[derive(Debug, Args)]
pub(super) struct Reporting {
    /// The beginning of its signature
    signature: String,
    /// The file to write
    #[arg(short, long, value_name = "FILE")]
    output: PathBuf,
    /// Put the core in: it holds all of the program's data, and nothing in it is redacted
    #[arg(long)]
    with_core: bool,
}

/// The one entry whose signature begins like this.
pub(super) fn found(store: &Store, beginning: &str) -> Result<Entry> {
    store
        .find(beginning)?
        .map_err(|candidates| match candidates.len() {
            0 => anyhow!("no known crash has a signature that begins with '{beginning}'"),
            count => anyhow!("{count} signatures begin with '{beginning}'"),
        })
        .hint("see `ssCoreHandler list`")
}

pub(super) fn list(common: &Common, store: &Store) -> Result<Exit> {
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

pub(super) fn show(common: &Common, entry: &Entry) -> Result<Exit> {
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

pub(super) fn note(common: &Common, store: &Store, beginning: &str, text: &str) -> Result<Exit> {
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

pub(super) fn export(store: &Store, file: Option<&Path>) -> Result<Exit> {
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

pub(super) fn import(common: &Common, store: &Store, file: &Path) -> Result<Exit> {
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

pub(super) fn report(common: &Common, store: &Store, reporting: &Reporting) -> Result<Exit> {
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

pub(super) fn resign(common: &Common, store: &Store) -> Result<Exit> {
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

pub(super) fn rules(common: &Common) -> Result<Exit> {
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
