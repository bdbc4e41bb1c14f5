//! What `atlas-convert` and `SyncConverterN` do.

pub use crate::args::Args;
use crate::{
    Converter, Direction,
    args::{Conversion, SyncConverterArgs, Traced, Verb},
    check, confine, load,
    part::{FileRule, KeyRule, LineRule, Made, Part, Pattern, ProgramRule, Rule, TextRule},
    program::Programs,
    trace,
};
use anyhow::Context;
use atlas_cli::{Exit, Hint, Table, print, print_json};
use atlas_host::tree::Dir;
use atlas_model::EnvVersion;
use clap::{CommandFactory, Parser};
use std::{
    fs,
    path::{Path, PathBuf},
    process::ExitCode,
};

/// The definition of `atlas-convert`, for man pages and completions.
pub fn command() -> clap::Command {
    Args::command()
}

/// `main` of `SyncConverterN`.
pub fn sync_converter(number: u32) -> ExitCode {
    if let Some(code) = as_confined() {
        return code;
    }
    let args = SyncConverterArgs::parse();
    let name = format!("SyncConverter{number}");
    let direction = args.direction.into();
    let result = EnvVersion::try_from(number).context("read the number of this converter").and_then(|newer| {
        convert(&args.root, &Conversion { newer, source: args.source, target: args.target }, direction)
    });
    atlas_cli::finish(&name, false, result)
}

/// This program as the confined parent of a part's program, where it was started as that.
pub fn as_confined() -> Option<ExitCode> {
    let args: Vec<std::ffi::OsString> = std::env::args_os().collect();
    let [_, verb, work, part_dir, program, direction] = args.as_slice() else { return None };
    if verb != confine::VERB {
        return None;
    }
    let (program, direction) = (program.to_string_lossy(), direction.to_string_lossy());
    let result = confine::run(Path::new(work), Path::new(part_dir), &program, &direction);
    Some(result.unwrap_or_else(|error| {
        let _ = print_error(&error);
        ExitCode::FAILURE
    }))
}

fn print_error(error: &anyhow::Error) -> std::io::Result<()> {
    use std::io::Write;
    writeln!(std::io::stderr().lock(), "{error:#}")
}

/// Runs `atlas-convert`.
pub fn run(args: &Args) -> anyhow::Result<Exit> {
    let root = &args.common.root;
    match &args.verb {
        Verb::Newer(conversion) => convert(root, conversion, Direction::Newer),
        Verb::Older(conversion) => convert(root, conversion, Direction::Older),
        Verb::List => list(root, args.common.json),
        Verb::Explain { newer, part } => explain(root, *newer, part, args.common.json),
        Verb::Check => check::run(root, args.common.json),
        Verb::Trace { conversion, complaint } => trace(root, conversion, complaint),
    }
}

/// This program's own path: in the early boot there is no /proc to ask.
pub(crate) fn own_path() -> PathBuf {
    std::env::current_exe().unwrap_or_else(|_| std::env::args_os().next().unwrap_or_default().into())
}

fn convert(root: &Path, conversion: &Conversion, direction: Direction) -> anyhow::Result<Exit> {
    let Conversion { newer, source, target } = conversion;
    let converter = load(root, *newer).hint("mend that file; 'atlas-convert list' reads all parts")?;
    let from = Dir::open_root(source).hint("name the directory of a Snapshot, such as /unbound/SID_DATA/PRI/Env2")?;
    fs::create_dir_all(target).with_context(|| format!("make {}", target.display()))?;
    let to = Dir::open_root(target)?;
    if !to.names(1).is_ok_and(|names| names.is_empty()) {
        return Err(anyhow::anyhow!("{} is not empty", target.display())).hint("name a directory that is empty");
    }
    let work = fs::canonicalize(target).with_context(|| format!("look at {}", target.display()))?;
    let done = converter.convert(&from, &to, direction, &Programs::below(&work, &own_path()));
    let done = done.with_context(|| format!("convert {} to the {} version", source.display(), direction.name())).hint(
        "mend what is named, or put a part of your own in its place: 'atlas-convert explain' shows what it does",
    )?;
    for path in done.left_out {
        print(format!("{path}: what was kept of the {} version no longer fits everywhere", direction.name()))?;
    }
    Ok(Exit::Done)
}

/// Prints the rules that made what a complaint names, one a line.
fn trace(root: &Path, way: &Traced, complaint: &str) -> anyhow::Result<Exit> {
    let converter = load(root, way.newer)?;
    let from = Dir::open_root(&way.source)?;
    let scratch = tempfile::tempdir().context("make a directory for programs of parts")?;
    let programs = Programs::below(scratch.path(), &own_path());
    let direction = way.direction.into();
    for rule in trace::rules_of(&converter, &from, direction, &programs, complaint)? {
        print(format!("{rule} (SyncConverter{})", way.newer.number()))?;
    }
    Ok(Exit::Done)
}

/// All converters that have parts.
pub(crate) fn converters(root: &Path) -> anyhow::Result<Vec<Converter>> {
    let mut found = Vec::new();
    for number in 2..=EnvVersion::MAX {
        let newer = EnvVersion::try_from(number)?;
        let there = load::PLACES.iter().any(|place| root.join(place).join(newer.dir_name()).is_dir());
        if !there {
            break;
        }
        found.push(
            load(root, newer).hint("mend that file, or put an empty one of its name into /opt/atlas/converters")?,
        );
    }
    Ok(found)
}

#[derive(serde::Serialize)]
struct Listed {
    env_version: EnvVersion,
    part: String,
    about: String,
    rules: usize,
}

fn list(root: &Path, json: bool) -> anyhow::Result<Exit> {
    let mut listed = Vec::new();
    for converter in converters(root)? {
        listed.extend(converter.parts.into_iter().map(|part| Listed {
            env_version: converter.newer,
            part: part.name,
            about: part.about,
            rules: part.rules.len(),
        }));
    }
    if json {
        print_json(&serde_json::json!({ "format": 1, "parts": listed }))?;
        return Ok(Exit::Done);
    }
    let mut table = Table::new(["converter", "part", "about"]);
    for one in listed {
        table.row([format!("SyncConverter{}", one.env_version.number()), one.part, one.about]);
    }
    print(table)?;
    Ok(Exit::Done)
}

fn explain(root: &Path, newer: EnvVersion, name: &str, json: bool) -> anyhow::Result<Exit> {
    let converter = load(root, newer)?;
    let part = converter
        .parts
        .iter()
        .find(|part| part.name == name)
        .ok_or_else(|| anyhow::anyhow!("there is no part '{name}' of {newer}"))
        .hint("'atlas-convert list' shows all parts")?;
    let lines: Vec<String> = part.rules.iter().map(explain_rule).collect();
    if json {
        print_json(&serde_json::json!({ "format": 1, "part": part.name, "about": part.about, "rules": lines }))?;
    } else {
        print(explained(part, newer, &lines))?;
    }
    Ok(Exit::Done)
}

fn explained(part: &Part, newer: EnvVersion, lines: &[String]) -> String {
    let older = newer.older().map(|older| older.to_string()).unwrap_or_default();
    format!(
        "{}: {}\n{older} ↔ {newer}\n{}",
        part.name,
        part.about,
        lines.iter().map(|line| format!("  {line}\n")).collect::<String>()
    )
}

pub(crate) fn explain_rule(rule: &Rule) -> String {
    let files = |patterns: &[Pattern]| patterns.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    match rule {
        Rule::Move(older, newer) => format!("{older} ↔ {newer}"),
        Rule::File(FileRule { path, is: Made::File(_) }) => format!("{path}: a file that only the older has"),
        Rule::File(FileRule { path, is: Made::Link(target) }) => {
            format!("{path}: a link to {target} that only the older has")
        }
        Rule::Text(TextRule { files: at, older, newer }) => format!("{older:?} ↔ {newer:?} in {}", files(at)),
        Rule::Key(KeyRule { files: at, names, values, .. }) => {
            let name = |key: &Option<String>| key.clone().unwrap_or_else(|| "(not known)".into());
            let names: Vec<_> =
                names.iter().map(|(older, newer)| format!("{} ↔ {}", name(older), name(newer))).collect();
            let values: String = values.iter().map(|(older, newer)| format!("; value {older} ↔ {newer}")).collect();
            format!("{}{values} in {}", names.join(", "), files(at))
        }
        Rule::Line(LineRule { files: at, to_newer, to_older }) => {
            let side = |name: &str, side: &Option<(regex_lite::Regex, String)>| {
                let told =
                    side.as_ref().map(|(regex, becomes)| format!("{name}: {} becomes {becomes:?}; ", regex.as_str()));
                told.unwrap_or_default()
            };
            format!("lines: {}{}in {}", side("newer", to_newer), side("older", to_older), files(at))
        }
        Rule::Program(ProgramRule { run, older, newer, deadline, .. }) => {
            format!("program {run}, at most {deadline:?}: {} ↔ {}", files(older), files(newer))
        }
        Rule::Transform(transform) => format!("built in: {}", transform.about()),
    }
}
