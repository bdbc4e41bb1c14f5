//! Notices: one small file each, in the one place where whatever watches this server looks.
//!
//! ```text
//! /run/atlas/notices/TIME-SOURCE-KEY.json   {"format":1,"time":…,"source":"ssSync","severity":"warning","title":…,"text":…}
//! ```

use atlas_host::{FileError, durable, tree::Dir};
use std::{ffi::OsStr, path::Path, time::SystemTime};

/// The most notices that wait; beyond it the oldest make room.
const WAITING: usize = 500;

/// Puts a notice where it is seen; `key` makes the file's name.
pub fn send(root: &Path, source: &str, key: &str, title: &str, text: &str) -> Result<(), FileError> {
    let dir = Dir::open_root(root)?.make_dirs("run/atlas/notices")?;
    let names = dir.names(100_000)?;
    for name in names.iter().take((names.len() + 1).saturating_sub(WAITING)) {
        dir.remove(name)?;
    }
    let time = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let content = serde_json::json!({
        "format": 1, "time": time, "source": source, "severity": "warning", "title": title, "text": text,
    });
    let name = format!("{time}-{source}-{key}.json");
    durable::write(&dir, OsStr::new(&name), content.to_string().as_bytes(), 0o644)
}
