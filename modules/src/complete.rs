//! Completion of the names of modules and versions, as they are on this server at the moment.

use crate::{
    name::{ModuleName, Release},
    store::Store,
};
use clap_complete::{ArgValueCompleter, CompletionCandidate};
use std::{
    ffi::{OsStr, OsString},
    path::PathBuf,
};

/// Completes the name of a module.
pub fn modules() -> ArgValueCompleter {
    ArgValueCompleter::new(|current: &OsStr| candidates(current, |store, _| Some(names(store))))
}

/// Completes a version of the module that stands before it.
pub fn versions() -> ArgValueCompleter {
    ArgValueCompleter::new(|current: &OsStr| candidates(current, versions_of))
}

fn names(store: &Store) -> Vec<(String, String)> {
    let installed = store.installed().unwrap_or_default();
    installed.into_iter().map(|(name, releases)| (name.to_string(), format!("{} versions", releases.len()))).collect()
}

fn versions_of(store: &Store, words: &[OsString]) -> Option<Vec<(String, String)>> {
    let installed = store.installed().ok()?;
    let module = words
        .iter()
        .filter_map(|word| word.to_str()?.parse::<ModuleName>().ok())
        .find(|name| installed.contains_key(name))?;
    let set = store.links().ok()?.state_of(store, &module).ok()?;
    let shown =
        |release: &Release| if set.release() == Some(release) { "set".into() } else { release.channel.to_string() };
    // A version that lies in both directories must be named with its directory.
    let all = &installed[&module];
    let twice = |release: &Release| all.iter().filter(|other| other.version == release.version).count() > 1;
    let text = |release: &Release| if twice(release) { release.to_string() } else { release.version.to_string() };
    Some(all.iter().rev().map(|release| (text(release), shown(release))).collect())
}

/// The values that go on from what was typed. A server that cannot be read has none: completing is no place for errors.
fn candidates(
    current: &OsStr,
    of: impl Fn(&Store, &[OsString]) -> Option<Vec<(String, String)>>,
) -> Vec<CompletionCandidate> {
    let words: Vec<OsString> = std::env::args_os().skip_while(|arg| arg != "--").skip(2).collect();
    let begun = current.to_string_lossy();
    let Ok(store) = Store::open(&root_of(&words)) else { return vec![] };
    let fitting = of(&store, &words).unwrap_or_default().into_iter().filter(|(value, _)| value.starts_with(&*begun));
    fitting.map(|(value, help)| CompletionCandidate::new(value).help(Some(help.into()))).collect()
}

/// The root directory that the words name with `--root`.
fn root_of(words: &[OsString]) -> PathBuf {
    let after = words.iter().position(|word| word == "--root").and_then(|at| words.get(at + 1)).cloned();
    let joined = || words.iter().find_map(|word| word.to_str()?.strip_prefix("--root=").map(OsString::from));
    after.or_else(joined).map_or_else(|| "/".into(), PathBuf::from)
}
