//! From arguments to actions, and from what they did to what people and programs read.

use crate::{
    Error, alert,
    args::{Action, Args},
    history::Line,
    install::{self, Installed, Placed},
    name::{Channel, FileName, ModuleName, Wanted},
    pack, package,
    signature::Trust,
    store::Store,
    switch::{self, How, Switched},
    trial::{self, Outcome, Trial},
    verify,
    view::{self, ModuleView, Overview, VersionView},
};
use anyhow::Context;
use atlas_cli::{Exit, Hint, Style, Table, print, print_json};
use atlas_host::{durable, tree::Dir};
use serde::Serialize;
use std::path::{Path, PathBuf};

/// Does what the arguments ask for.
pub fn run(args: Args) -> anyhow::Result<Exit> {
    let say = Say { json: args.common.json };
    let root = args.common.root.as_path();
    match args.action {
        Action::List { name, channel } => list(root, say, &view::Part { module: name, channel }),
        Action::Set { name, version, trial_starts, force, dry_run } => {
            let how =
                How { why: trial_starts.map_or(How::SET.why, |_| crate::history::Why::Trial), trial_starts, force };
            set(root, say, &name, &Goal::To(version), how, dry_run)
        }
        Action::Rollback { name, force, dry_run } => {
            let how = How { why: crate::history::Why::Rollback, force, ..How::SET };
            set(root, say, &name, &Goal::Before, how, dry_run)
        }
        Action::Unset { name } => unset(root, say, &name),
        Action::Install { files, beta, allow_unsigned, deliver, dry_run } => {
            let channel = if beta { Channel::Beta } else { Channel::Update };
            install_all(root, say, &files, &Installation { channel, allow_unsigned, deliver, dry_run })
        }
        Action::Remove { name, version, dry_run } => remove(root, say, &name, &version, dry_run),
        Action::Verify { name } => verify_all(root, say, name.as_ref()),
        Action::History { name } => history(root, say, name.as_ref()),
        Action::Pack { folder, output, name, version, key, password_file } => {
            let secret = key.map(|key| read_key(&key, password_file.as_deref())).transpose()?;
            let key = secret.as_ref().map(|(key, password)| (key.as_str(), password.clone()));
            let compress = output.extension().is_some_and(|extension| extension == "zst");
            make_package(say, &folder, &output, &pack::Request { name, version, key, compress })
        }
        Action::Started { name } => started(root, say, &name),
        Action::Healthy { name, version } => healthy(root, say, &name, &version),
        Action::Failed { name, version } => failed(root, say, &name, &version),
    }
}

/// How answers are given.
#[derive(Clone, Copy)]
struct Say {
    json: bool,
}

impl Say {
    /// The answer: as JSON with the number of its format, or as the text that is made only where it is wanted.
    fn answer<T: Serialize>(self, value: &T, text: impl FnOnce() -> String) -> anyhow::Result<()> {
        #[derive(Serialize)]
        struct Answer<'t, T: Serialize> {
            format: u32,
            #[serde(flatten)]
            value: &'t T,
        }
        if self.json { print_json(&Answer { format: 1, value }) } else { print(text()) }
    }
}

/// An error of the library, with what can be tried, and what was being done.
fn told<T>(result: Result<T, Error>, doing: impl FnOnce() -> String) -> anyhow::Result<T> {
    result
        .or_else(|error| match error.hint() {
            Some(hint) => Err(error).hint(hint),
            None => Err(error.into()),
        })
        .with_context(doing)
}

fn list(root: &Path, say: Say, part: &view::Part) -> anyhow::Result<Exit> {
    let overview =
        told(Store::open(root).and_then(|store| view::look(&store, part)), || "cannot list the modules".into())?;
    if let Some(name) = part.module.as_ref().filter(|_| overview.modules.is_empty()) {
        return Err(anyhow::anyhow!("no module {name} is installed")).hint("see 'atlas-module list'");
    }
    if say.json {
        print_json(&overview)?;
    } else {
        print(overview_text(&overview, Style::stdout()))?;
    }
    Ok(Exit::Done)
}

fn overview_text(overview: &Overview, style: Style) -> String {
    let mut table = Table::new(["MODULE", "VERSION", "IN", "SET", "RUNNING"]);
    for module in &overview.modules {
        for (index, version) in module.versions.iter().enumerate() {
            let name = if index == 0 { style.bold(module.name.as_str()) } else { String::new() };
            table.row(version_row(name, module, version, style));
        }
    }
    let mut text = if overview.modules.is_empty() { "no module is installed\n".into() } else { table.to_string() };
    for module in &overview.modules {
        for problem in &module.problems {
            text.push_str(&format!("{} {}: {problem}\n", style.red("!"), module.name));
        }
    }
    for problem in &overview.problems {
        text.push_str(&format!("{} {problem}\n", style.red("!")));
    }
    text
}

fn version_row(name: String, module: &ModuleView, version: &VersionView, style: Style) -> [String; 5] {
    let pids: Vec<String> = version.pids.iter().map(i32::to_string).collect();
    let runs = if pids.is_empty() { String::new() } else { format!("pid {}", pids.join(" ")) };
    let runs = if version.set { style.green(&runs) } else { style.red(&runs) };
    let set = match &module.trial {
        Some(trial) if version.set => format!("on trial, start {} of {}", trial.starts, trial.starts_allowed),
        _ if version.set => "set".into(),
        _ => String::new(),
    };
    [name, version.version.to_string(), version.channel.to_string(), style.green(&set), runs]
}

enum Goal {
    To(Wanted),
    Before,
}

fn set(root: &Path, say: Say, name: &ModuleName, goal: &Goal, how: How, dry_run: bool) -> anyhow::Result<Exit> {
    let doing = || match goal {
        Goal::To(wanted) => format!("cannot set {name} to {wanted}"),
        Goal::Before => format!("cannot roll {name} back"),
    };
    let plan = |store: &Store| {
        let release = match goal {
            Goal::To(wanted) => switch::find(store, name, wanted)?,
            Goal::Before => switch::before(store, name)?,
        };
        switch::plan(store, name, &release, how)
    };
    let attempt = || -> Result<Switched, Error> {
        let store = Store::open(root)?;
        if dry_run {
            return plan(&store).map(|plan| plan.preview().clone());
        }
        let changing = store.change()?;
        switch::apply(&changing, plan(&changing)?)
    };
    let switched = told(attempt(), doing)?;
    say.answer(&switched, || switched_text(&switched, dry_run))?;
    Ok(Exit::Done)
}

fn switched_text(switched: &Switched, dry_run: bool) -> String {
    let Switched { module, to, .. } = switched;
    let was = switched.from.as_ref().map_or_else(|| "no whole version".into(), |from| format!("{from}"));
    let mut text = match (switched.changed, dry_run) {
        (false, _) => format!("{module} {to} is set already\n"),
        (true, true) => format!("{module} would be set to {to} (now: {was})\n"),
        (true, false) => format!("{module} is set to {to} (before: {was})\n"),
    };
    for file in &switched.dropped {
        text.push_str(&format!("  the link bin/{file} goes: {} does not have it\n", to.version));
    }
    for name in &switched.set_aside {
        text.push_str(&format!("  what was in the place of a link is now bin/{name}\n"));
    }
    if let Some(starts) = switched.trial_starts {
        text.push_str(&format!(
            "  on trial: it has {starts} starts to report itself healthy, else {was} is set again\n"
        ));
    }
    for warning in &switched.warnings {
        text.push_str(&format!("  {}: {warning}\n", Style::stdout().yellow("warning")));
    }
    text
}

fn unset(root: &Path, say: Say, name: &ModuleName) -> anyhow::Result<Exit> {
    let attempt = || switch::unset(&Store::open(root)?.change()?, name);
    let dropped = told(attempt(), || format!("cannot take the links of {name} away"))?;
    say.answer(&serde_json::json!({ "module": name, "dropped": dropped }), || match dropped.len() {
        0 => format!("no link of {name} was set"),
        count => format!("{name} is not set any more; {count} links went"),
    })?;
    Ok(Exit::Done)
}

struct Installation {
    channel: Channel,
    allow_unsigned: bool,
    deliver: bool,
    dry_run: bool,
}

fn install_all(root: &Path, say: Say, files: &[PathBuf], how: &Installation) -> anyhow::Result<Exit> {
    let mut done = Vec::new();
    for file in files {
        let (installed, set) = told(install_one(root, file, how), || format!("cannot install {}", file.display()))?;
        if !say.json {
            print(installed_text(&installed, set.as_ref(), how))?;
        }
        done.push(serde_json::json!({ "installed": installed, "set": set }));
    }
    if say.json {
        print_json(&serde_json::json!({ "format": 1, "packages": done }))?;
    }
    Ok(Exit::Done)
}

fn install_one(root: &Path, file: &Path, how: &Installation) -> Result<(Installed, Option<Switched>), Error> {
    let source = package::open(file)?;
    let trust = Trust::of(&Dir::open_root(root)?, how.allow_unsigned)?;
    if how.dry_run {
        return match Store::open(root) {
            Ok(store) => Ok((install::check(&store, source, &trust, how.channel)?, None)),
            Err(error) => Err(error),
        };
    }
    let store = Store::open_or_make(root)?;
    let changing = store.change()?;
    let installed = install::install(&changing, source, &trust, how.channel)?;
    let set = if how.deliver { install::deliver(&changing, &installed)? } else { None };
    Ok((installed, set))
}

fn installed_text(installed: &Installed, set: Option<&Switched>, how: &Installation) -> String {
    let Installed { module, release, .. } = installed;
    let would = if how.dry_run { "would be " } else { "" };
    let mut text = match installed.placed {
        Placed::New => format!("{module} {release} {would}installed\n"),
        Placed::Already => format!("{module} {release} is installed already\n"),
        Placed::Mended => format!("{module} {release} was installed, but damaged; it {would}mended\n"),
        Placed::Adopted => format!("{module} {release} lay there already; now it is {would}known as installed\n"),
    };
    if let Some(set) = set {
        text.push_str(&switched_text(set, false));
    } else if !how.deliver && installed.placed == Placed::New {
        text.push_str(&format!("  to run it: atlas-module set {module} {release}\n"));
    }
    text
}

fn remove(root: &Path, say: Say, name: &ModuleName, version: &Wanted, dry_run: bool) -> anyhow::Result<Exit> {
    let attempt = || {
        let store = Store::open(root)?;
        if dry_run {
            let release = switch::find(&store, name, version)?;
            return install::check_removal(&store, name, &release).map(|()| release);
        }
        let changing = store.change()?;
        let release = switch::find(&changing, name, version)?;
        install::remove(&changing, name, &release).map(|()| release)
    };
    let release = told(attempt(), || format!("cannot remove {name} {version}"))?;
    say.answer(&serde_json::json!({ "module": name, "removed": release, "dry_run": dry_run }), || {
        format!("{name} {release} {}", if dry_run { "would be removed" } else { "is removed" })
    })?;
    Ok(Exit::Done)
}

fn verify_all(root: &Path, say: Say, name: Option<&ModuleName>) -> anyhow::Result<Exit> {
    let attempt = || verify::verify(&Store::open(root)?, name);
    let verified = told(attempt(), || "cannot verify what is installed".into())?;
    if say.json {
        print_json(&verified)?;
    } else {
        let mut text = String::new();
        for finding in &verified.findings {
            text.push_str(&format!("{} {}: {}\n", Style::stdout().red("!"), finding.place, finding.what));
        }
        let (versions, files) = (verified.versions, verified.files);
        let end = match verified.findings.len() {
            0 => format!("{versions} versions, {files} files: all as they were installed"),
            found => format!("{versions} versions, {files} files: {found} findings"),
        };
        print(text + &end)?;
    }
    Ok(if verified.findings.is_empty() { Exit::Done } else { Exit::No })
}

fn history(root: &Path, say: Say, name: Option<&ModuleName>) -> anyhow::Result<Exit> {
    let links = told(Store::open(root).and_then(|store| Ok(store.links()?)), || "cannot read the history".into())?;
    let lines: Vec<Line> = links.history.lines().filter(|line| name.is_none_or(|name| *name == line.module)).collect();
    say.answer(&serde_json::json!({ "lines": lines }), || {
        let mut table = Table::new(["WHEN (UTC)", "WHO", "MODULE", "FROM", "TO", "WHY"]);
        for line in &lines {
            let shown = |release: &Option<_>| release.as_ref().map_or_else(|| "-".into(), ToString::to_string);
            let why = serde_json::to_value(line.why).ok().and_then(|why| why.as_str().map(str::to_owned));
            let forced = if line.forced { ", forced" } else { "" };
            let why = why.unwrap_or_default() + forced;
            table.row([
                line.at.clone(),
                line.by.clone(),
                line.module.to_string(),
                shown(&line.from),
                shown(&line.to),
                why,
            ]);
        }
        table.to_string()
    })?;
    Ok(Exit::Done)
}

fn read_key(key: &Path, password: Option<&Path>) -> anyhow::Result<(String, Option<String>)> {
    let read = |path: &Path| std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()));
    let password = password.map(read).transpose()?.map(|text| text.trim_end_matches('\n').to_owned());
    Ok((read(key)?, password))
}

fn make_package(say: Say, folder: &Path, output: &Path, request: &pack::Request<'_>) -> anyhow::Result<Exit> {
    let attempt = || {
        let (record, bytes) = pack::pack(folder, request)?;
        let (parent, name) = (output.parent().filter(|p| !p.as_os_str().is_empty()), output.file_name());
        let name = name.ok_or_else(|| Error::refused(format!("{} names no file", output.display()), ""))?;
        durable::write(&Dir::open_root(parent.unwrap_or(Path::new(".")))?, name, &bytes, 0o644)?;
        Ok((record, bytes.len()))
    };
    let (record, size) = told(attempt(), || format!("cannot make a package of {}", folder.display()))?;
    let files = record.files.len();
    let answer = serde_json::json!({ "module": record.name, "version": record.version, "files": files, "size": size });
    say.answer(&answer, || {
        format!("{} holds {} {}: {files} files, {size} bytes", output.display(), record.name, record.version)
    })?;
    Ok(Exit::Done)
}

/// The module that a program belongs to; where it is none's, there is nothing to count.
fn started(root: &Path, say: Say, name: &FileName) -> anyhow::Result<Exit> {
    let doing = || format!("cannot count the start of {name}");
    let store = told(Store::open(root), doing)?;
    let Some(module) = told(trial::module_of(&store, name), doing)? else { return tell(say, &Outcome::None, "") };
    let outcome = told(trial::started(&store, &module), doing)?;
    tell_trial(&store, say, &module, &outcome, "")
}

fn failed(root: &Path, say: Say, name: &FileName, version: &Wanted) -> anyhow::Result<Exit> {
    let doing = || format!("cannot take the report of {name} {version}");
    let store = told(Store::open(root), doing)?;
    let Some(module) = told(trial::module_of(&store, name), doing)? else { return tell(say, &Outcome::None, "") };
    let outcome = told(trial::failed(&store, &module, version), doing)?;
    tell_trial(&store, say, &module, &outcome, " ended badly")
}

/// Says how the trial stands now, and raises an alert where it is lost.
fn tell_trial(store: &Store, say: Say, module: &ModuleName, outcome: &Outcome, how: &str) -> anyhow::Result<Exit> {
    let text = match outcome {
        Outcome::None => String::new(),
        Outcome::Counted(Trial { release, starts, starts_allowed, .. }) => {
            format!("{module} {release} is on trial: start {starts} of {starts_allowed}{how}")
        }
        Outcome::Failed { failed, starts, switched } => {
            let back = &switched.to;
            format!("{module} {failed} did not report itself healthy within {starts} starts; {back} is set again")
        }
    };
    let lost = matches!(outcome, Outcome::Failed { .. });
    if lost {
        let doing = || "the version before is set again, but the alert was not raised".into();
        told(alert::raise(store, module, &text), doing)?;
    }
    tell(say, outcome, &text)?;
    Ok(if lost { Exit::No } else { Exit::Done })
}

/// Nothing at all where there is nothing to say: a start without a trial is nobody's news.
fn tell(say: Say, outcome: &Outcome, text: &str) -> anyhow::Result<Exit> {
    if say.json || !text.is_empty() {
        say.answer(outcome, || text.to_owned())?;
    }
    Ok(Exit::Done)
}

fn healthy(root: &Path, say: Say, name: &FileName, version: &Wanted) -> anyhow::Result<Exit> {
    let attempt = || {
        let store = Store::open(root)?;
        trial::module_of(&store, name)?.map_or(Ok(false), |module| trial::healthy(&store, &module, version))
    };
    let ended = told(attempt(), || format!("cannot take the report of {name} {version}"))?;
    say.answer(&serde_json::json!({ "module": name, "trial_ended": ended }), || {
        if ended {
            format!("{name} {version} is healthy; its trial is over")
        } else {
            format!("{name} {version} is not on trial")
        }
    })?;
    Ok(Exit::Done)
}
