//! Telling people of what was done while nobody watched: a file in `/run/atlas/alerts`, and a line in the system's log.

use crate::{Error, history, name::ModuleName, store::Store};
use atlas_host::{durable, process::Command};
use serde::Serialize;
use std::ffi::OsStr;

/// Where alerts lie, below the root directory: one file for each, replaced when it comes again.
pub const ALERTS_DIR: &str = "run/atlas/alerts";

#[derive(Serialize)]
struct Alert<'a> {
    format: u32,
    at: String,
    program: &'static str,
    severity: &'static str,
    about: String,
    text: &'a str,
    hint: String,
}

/// Raises an alert about a module.
pub fn raise(store: &Store, module: &ModuleName, text: &str) -> Result<(), Error> {
    let alert = Alert {
        format: 1,
        at: history::now(),
        program: "atlas-module",
        severity: "critical",
        about: format!("module {module}"),
        text,
        hint: format!("see 'atlas-module history {module}'"),
    };
    if store.root_path() == "/" {
        // The file below is what counts; a server without a log has still been told.
        let _ = Command::new("logger").args(["-p", "daemon.alert", "-t", "atlas-module", text]).run();
    }
    let dir = store.root().make_dirs(ALERTS_DIR)?;
    let mut content = serde_json::to_vec(&alert).unwrap_or_default();
    content.push(b'\n');
    Ok(durable::write(&dir, OsStr::new(&format!("module-{module}.json")), &content, 0o644)?)
}
