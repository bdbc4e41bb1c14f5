//! What cycles undid on this server, for a week: by it is seen what changes again and again.
//!
//! ```text
//! /var/lib/atlas/install/undone.json    {"format":1,"undone":[{"time":1763700000,"path":"/etc/app.conf","what":"its content"}]}
//! ```

use crate::layout::SidError;
use atlas_host::{FileError, durable, tree::Dir};
use atlas_model::TreePath;
use serde::{Deserialize, Serialize};
use std::{collections::BTreeMap, ffi::OsStr, io};

/// How long it is remembered, in seconds.
pub const WEEK: u64 = 7 * 86_400;
const DIR: &str = "var/lib/atlas/install";
const NAME: &str = "undone.json";
/// The most that are kept; the oldest go.
const MOST: usize = 1000;
const MAX_SIZE: usize = 4 << 20;

/// One change that a cycle undid.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Undone {
    /// When, in seconds since 1970 by this server's clock.
    pub time: u64,
    /// Where.
    pub path: TreePath,
    /// What had been changed.
    pub what: String,
}

#[derive(Serialize, Deserialize)]
struct File {
    format: u32,
    undone: Vec<Undone>,
}

impl Undone {
    /// All of the last week, the oldest first.
    pub fn read(root: &Dir, now: u64) -> Result<Vec<Undone>, SidError> {
        let Some(content) = root.read_if_there(format!("{DIR}/{NAME}"), MAX_SIZE)? else { return Ok(vec![]) };
        let failed = |error| FileError::on("read", root.show(DIR).join(NAME))(io::Error::other(error));
        let file: File = serde_json::from_slice(&content).map_err(failed)?;
        Ok(file.undone.into_iter().filter(|one| now.saturating_sub(one.time) < WEEK).collect())
    }

    /// Adds what a cycle undid now.
    pub fn add(root: &Dir, now: u64, changes: &BTreeMap<TreePath, String>) -> Result<(), SidError> {
        // One that cannot be read any more says nothing, and is begun anew.
        let mut undone = Undone::read(root, now).unwrap_or_default();
        undone.extend(changes.iter().map(|(path, what)| Undone { time: now, path: path.clone(), what: what.clone() }));
        let surplus = undone.len().saturating_sub(MOST);
        undone.drain(..surplus);
        let dir = root.make_dirs(DIR)?;
        let failed = |error| FileError::on("write", dir.show(NAME))(io::Error::other(error));
        let mut content = serde_json::to_vec(&File { format: 1, undone }).map_err(failed)?;
        content.push(b'\n');
        Ok(durable::write(&dir, OsStr::new(NAME), &content, 0o600)?)
    }
}
