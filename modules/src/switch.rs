//! Setting a version, and going back to the one before.

use crate::{
    Error, formats,
    history::{self, Line, Why},
    links::{At, Change, Links, SetState, publish},
    name::{FileName, ModuleName, Release, Wanted},
    record::Record,
    store::{Changing, Store, difference},
};
use serde::Serialize;

/// What setting a version did, or would do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Switched {
    /// The module.
    pub module: ModuleName,
    /// What was set before, where that was one whole version.
    pub from: Option<Release>,
    /// What is set now.
    pub to: Release,
    /// Whether anything had to be done.
    pub changed: bool,
    /// The links that point to the version now.
    pub links: Vec<FileName>,
    /// The links that went, because the version does not have these files.
    pub dropped: Vec<FileName>,
    /// Where files lie now that somebody had put in the place of a link.
    pub set_aside: Vec<String>,
    /// How many starts a trial has.
    pub trial_starts: Option<u32>,
    /// What somebody should know: rules that were overridden, and what could not be checked.
    pub warnings: Vec<String>,
}

/// How a version is to be set.
#[derive(Clone, Copy, Debug)]
pub struct How {
    /// For what reason.
    pub why: Why,
    /// How many starts it has to report itself healthy, where it is on trial.
    pub trial_starts: Option<u32>,
    /// Whether rules that protect data are overridden.
    pub force: bool,
}

impl How {
    /// As an operator sets a version.
    pub const SET: How = How { why: Why::Set, trial_starts: None, force: false };
}

/// A change that was thought through; nothing is done yet.
#[derive(Clone, Debug)]
pub struct Plan {
    switched: Switched,
    links: Links,
    how: How,
}

impl Plan {
    /// What would be done.
    pub fn preview(&self) -> &Switched {
        &self.switched
    }
}

/// The installed version that a person means: an update before a beta of the same version.
pub fn find(store: &Store, module: &ModuleName, wanted: &Wanted) -> Result<Release, Error> {
    let mut installed = store.installed()?;
    let of_module = installed.remove(module).unwrap_or_default();
    let fits = |r: &&Release| r.version == wanted.version && wanted.channel.is_none_or(|channel| channel == r.channel);
    if let Some(release) = of_module.iter().find(fits) {
        return Ok(release.clone());
    }
    if of_module.is_empty() {
        let known: Vec<&str> = installed.keys().map(ModuleName::as_str).take(30).collect();
        let hint =
            if known.is_empty() { "install one first".into() } else { format!("one of these: {}", known.join(", ")) };
        return Err(Error::refused(format!("no module {module} is installed"), hint));
    }
    let newest: Vec<String> = of_module.iter().rev().take(10).map(Release::to_string).collect();
    Err(Error::refused(
        format!("{module} {wanted} is not installed"),
        format!("one of these: {}; or install it first", newest.join(", ")),
    ))
}

/// What was set before what is set now.
pub fn before(store: &Store, module: &ModuleName) -> Result<Release, Error> {
    let links = store.links()?;
    let now = links.state_of(store, module)?;
    let installed = store.installed()?.remove(module).unwrap_or_default();
    links.history.before(module, now.release(), |release| installed.contains(release)).ok_or_else(|| {
        Error::refused(
            format!("history knows no other version of {module} that was set and is still installed"),
            format!("see 'atlas-module list {module}', and set one of those"),
        )
    })
}

/// Thinks a change through: everything that could forbid it is found here.
pub fn plan(store: &Store, module: &ModuleName, to: &Release, how: How) -> Result<Plan, Error> {
    let record = store.record(module, to)?.ok_or_else(|| {
        Error::refused(format!("{module} {to} is not installed"), format!("see 'atlas-module list {module}'"))
    })?;
    let links = store.links()?;
    let from = links.state_of(store, module)?;
    if how.trial_starts.is_some() && from.release().is_none_or(|from| from == to) {
        return Err(Error::refused(
            format!("{module} {to} cannot be on trial: there is no other version set that it could go back to"),
            format!("leave --try away: atlas-module set {module} {to}"),
        ));
    }
    let mut doubts = Doubts { store, module, to, record: &record, force: how.force, warnings: vec![] };
    doubts.damaged_files()?;
    doubts.unreadable_data()?;
    let mut warnings = doubts.warnings;
    let dropped: Vec<FileName> = links
        .of_module(store, module)?
        .into_iter()
        .map(|(file, _)| file)
        .filter(|file| record.file(file).is_none())
        .collect();
    let files: Vec<FileName> = record.files.iter().map(|file| file.name.clone()).collect();
    let right = |file: &FileName| links.at(file) == Some(&At::Version(to.clone()));
    let changed = !dropped.is_empty() || !files.iter().all(right);
    if let SetState::Mixed(parts) = &from {
        let parts: Vec<String> = parts.iter().map(|(file, release)| format!("{file} of {release}")).collect();
        warnings.push(format!("no whole version was set before, but {}", parts.join(", ")));
    }
    let switched = Switched {
        module: module.clone(),
        from: from.release().cloned(),
        to: to.clone(),
        changed,
        links: files,
        dropped,
        set_aside: vec![],
        trial_starts: how.trial_starts,
        warnings,
    };
    Ok(Plan { switched, links, how })
}

/// What speaks against setting a version. Each of it is refused or, where the operator forces it, told.
struct Doubts<'a> {
    store: &'a Store,
    module: &'a ModuleName,
    to: &'a Release,
    record: &'a Record,
    force: bool,
    warnings: Vec<String>,
}

impl Doubts<'_> {
    /// A version whose files are not those that were installed would make things worse.
    fn damaged_files(&mut self) -> Result<(), Error> {
        let Doubts { store, module, to, record, .. } = *self;
        let dir = store.channel(to.channel)?;
        for file in &record.files {
            let found = match &dir {
                Some(dir) => difference(dir, to, record, &file.name)?,
                None => Some("it is missing".into()),
            };
            let Some(found) = found else { continue };
            let what = format!("{}/{} is damaged: {found}", to.channel, to.tagged(&file.name));
            self.doubt(format!("{module} {to} was not set; {what}"), what, || {
                format!("install the package of {module} {} again; it mends what is damaged", to.version)
            })?;
        }
        Ok(())
    }

    /// A version that cannot read the data that are on the Unbound disk now would fail, or worse.
    fn unreadable_data(&mut self) -> Result<(), Error> {
        let Doubts { store, module, to, record, .. } = *self;
        let risk = "refuse these data, or read them wrongly and write over them";
        for unreadable in formats::unreadable(&formats::on_disk(store.root())?, record) {
            let what = format!("{module} {} cannot read what is on the Unbound disk: {unreadable}", to.version);
            let forced = format!("{what}; forced: it may {risk}");
            self.doubt(what, forced, || {
                format!("set a version that reads it; with --force, {module} {} would {risk}", to.version)
            })?;
        }
        Ok(())
    }

    fn doubt(&mut self, refusal: String, warning: String, hint: impl FnOnce() -> String) -> Result<(), Error> {
        if !self.force {
            return Err(Error::refused(refusal, hint()));
        }
        self.warnings.push(warning);
        Ok(())
    }
}

/// Does it. The plan must have been made while this lock was held.
pub fn apply(changing: &Changing<'_>, plan: Plan) -> Result<Switched, Error> {
    let Plan { mut switched, links, how } = plan;
    // A delivery that finds its version set already says nothing; an operator who sets it, chooses it.
    let same_chooser = links.history.last_of(&switched.module).is_some_and(|last| {
        last.to.as_ref() == Some(&switched.to) && (last.why == how.why || how.why == Why::Delivered)
    });
    if !switched.changed && (same_chooser || how.why == Why::Delivered) {
        return Ok(switched);
    }
    let line = Line {
        n: links.history.next_number(),
        at: history::now(),
        by: history::who(),
        module: switched.module.clone(),
        from: switched.from.clone(),
        to: Some(switched.to.clone()),
        why: how.why,
        starts: how.trial_starts,
        forced: how.force,
    };
    let add = switched.links.iter().map(|file| (file.clone(), switched.to.clone())).collect();
    let change = Change { drop: switched.dropped.iter().cloned().collect(), add, line: Some(line) };
    switched.set_aside = publish(changing, &links, &change)?;
    Ok(switched)
}

/// Takes all links of a module away.
pub fn unset(changing: &Changing<'_>, module: &ModuleName) -> Result<Vec<FileName>, Error> {
    let links = changing.links()?;
    let owned: Vec<FileName> = links.of_module(changing, module)?.into_iter().map(|(file, _)| file).collect();
    if owned.is_empty() {
        return Ok(owned);
    }
    let line = Line {
        n: links.history.next_number(),
        at: history::now(),
        by: history::who(),
        module: module.clone(),
        from: links.state_of(changing, module)?.release().cloned(),
        to: None,
        why: Why::Set,
        starts: None,
        forced: false,
    };
    publish(changing, &links, &Change { drop: owned.iter().cloned().collect(), add: vec![], line: Some(line) })?;
    Ok(owned)
}
