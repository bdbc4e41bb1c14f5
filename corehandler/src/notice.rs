//! Notices: one small file each, in the one place where whatever watches this server looks.
//!
//! ```text
//! /run/atlas/notices/TIME-SOURCE-KEY.json   {"format":1,"time":…,"source":"ssCoreHandler","severity":"warning","title":…,"text":…}
//! ```

use atlas_host::{FileError, durable, tree::Dir};
use std::{ffi::OsStr, path::Path};

/// The most notices that wait; beyond it the oldest make room.
const WAITING: usize = 500;

/// What somebody should know.
#[derive(Clone, Debug, serde::Serialize)]
pub struct Notice {
    /// In one line.
    pub title: String,
    /// In full.
    pub text: String,
}

impl Notice {
    /// Puts it where it is seen; `key` makes the file's name, and one of the same second and key replaces the other.
    pub fn send(&self, root: &Path, source: &str, key: &str) -> Result<(), FileError> {
        let dir = Dir::open_root(root)?.make_dirs("run/atlas/notices")?;
        let names = dir.names(100_000)?;
        for name in names.iter().take((names.len() + 1).saturating_sub(WAITING)) {
            dir.remove(name)?;
        }
        let time = crate::store::seconds_now();
        let content = serde_json::json!({
            "format": 1, "time": time, "source": source, "severity": "warning", "title": self.title, "text": self.text,
        });
        let name = format!("{time}-{source}-{key}.json");
        durable::write(&dir, OsStr::new(&name), content.to_string().as_bytes(), 0o644)
    }
}
