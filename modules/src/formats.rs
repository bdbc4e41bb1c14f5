//! Which data formats are on the Unbound disk now, and which of them a version of a module cannot read.
//!
//! The data say it themselves: the Manifests of the Snapshots and MasterConfig carry their format. A program that writes something
//! else, or that wants to be named as the writer, keeps a small file beside them, replaced whole as everything is:
//!
//! ```text
//!   /unbound/SID_DATA/formats/manifest.toml      format = 2
//!                                                written_by = "ssSync v3"
//! ```
//!
//! That a version *could* have written a format does not count: it must be possible to go back from one that never came to writing.

use crate::{name::ModuleName, record::Record};
use atlas_host::{FileError, tree::Dir};
use serde::Deserialize;
use std::{
    collections::BTreeMap,
    ffi::OsStr,
    io::{self, Read},
    path::Path,
};

/// Where the Unbound disk's Sync and Identity Data lie, below the root directory.
pub const SID_DATA: &str = "unbound/SID_DATA";
const FORMATS_DIR: &str = "formats";
const MAX_ENTRIES: usize = 10_000;

/// One kind of data, as it lies on the Unbound disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OnDisk {
    /// The kind.
    pub data: ModuleName,
    /// Its format.
    pub format: u32,
    /// Where it was seen, below `SID_DATA`.
    pub place: String,
    /// Which version wrote it, where something says so.
    pub written_by: Option<String>,
}

#[derive(Deserialize)]
struct Declared {
    format: u32,
    written_by: Option<String>,
}

/// Everything on the Unbound disk that says its format, one of each kind and format. Empty where no Unbound disk is there.
pub fn on_disk(root: &Dir) -> Result<Vec<OnDisk>, FileError> {
    let sid = match root.dir(SID_DATA) {
        Err(error) if error.is_not_found() => return Ok(vec![]),
        other => other?,
    };
    let mut found: BTreeMap<(ModuleName, u32), OnDisk> = BTreeMap::new();
    let mut add = |data: ModuleName, format: u32, place: String, written_by: Option<String>| {
        let entry = found.entry((data.clone(), format));
        let known = entry.or_insert(OnDisk { data, format, place, written_by: None });
        known.written_by = known.written_by.take().or(written_by);
    };
    for (data, place, format) in known(&sid)? {
        add(data, format, place, None);
    }
    if let Some(dir) = dir_if_there(&sid, FORMATS_DIR)? {
        for name in dir.names(MAX_ENTRIES)? {
            let data = name.to_str().and_then(|name| name.strip_suffix(".toml")).and_then(|name| name.parse().ok());
            let Some(data) = data else { continue };
            let place = format!("{FORMATS_DIR}/{data}.toml");
            let failed = |what| FileError::on("understand", dir.show(&name))(io::Error::other(what));
            let text = String::from_utf8(dir.read(&name, 4096)?).map_err(|_| failed("it is no text".to_owned()))?;
            let declared: Declared = toml::from_str(&text).map_err(|error| failed(error.message().to_owned()))?;
            let shown = declared.written_by.map(|text| text.chars().filter(|c| !c.is_control()).take(100).collect());
            add(data, declared.format, place, shown);
        }
    }
    Ok(found.into_values().collect())
}

/// What ATLAS itself keeps: (kind, place, format).
fn known(sid: &Dir) -> Result<Vec<(ModuleName, String, u32)>, FileError> {
    let mut all = Vec::new();
    let mut add = |data: &str, place: String, format: Option<u32>| {
        if let (Ok(data), Some(format)) = (data.parse(), format) {
            all.push((data, place, format));
        }
    };
    add("master-config", "MasterConfig".into(), beginning(sid, "MasterConfig")?.as_deref().and_then(toml_format));
    for role in sid.names(MAX_ENTRIES)? {
        let is_role = role.to_str().is_some_and(|name| name == "PRI" || name.starts_with("SEC"));
        let Some(dir) = is_role.then(|| dir_if_there(sid, &role)).transpose()?.flatten() else { continue };
        for env in dir.names(MAX_ENTRIES)? {
            if env.to_str().and_then(atlas_model::EnvVersion::from_dir_name).is_none() {
                continue;
            }
            let path = Path::new(&role).join(&env).join("Manifest");
            let format = beginning(sid, &path)?.as_deref().and_then(json_format);
            add("manifest", path.display().to_string(), format);
        }
    }
    Ok(all)
}

fn dir_if_there(dir: &Dir, name: impl AsRef<OsStr>) -> Result<Option<Dir>, FileError> {
    match dir.dir(name.as_ref()) {
        Ok(dir) => Ok(Some(dir)),
        Err(error) if error.is_not_found() => Ok(None),
        Err(error) => Err(error),
    }
}

/// The first bytes of a file; `None` where it is not there.
fn beginning(dir: &Dir, path: impl AsRef<Path>) -> Result<Option<Vec<u8>>, FileError> {
    let path = path.as_ref();
    let file = match dir.file(path) {
        Err(error) if error.is_not_found() => return Ok(None),
        other => other?,
    };
    let mut content = Vec::new();
    file.take(4096).read_to_end(&mut content).map_err(FileError::on("read", dir.show(path)))?;
    Ok(Some(content))
}

fn toml_format(content: &[u8]) -> Option<u32> {
    let text = String::from_utf8_lossy(content);
    let line = text.lines().find(|line| line.trim_start().starts_with("format"))?;
    line.split_once('=')?.1.split('#').next()?.trim().parse().ok()
}

fn json_format(content: &[u8]) -> Option<u32> {
    let line = content.split(|b| *b == b'\n').next()?;
    let value: serde_json::Value = serde_json::from_slice(line).ok()?;
    value["format"].as_u64()?.try_into().ok()
}

/// What of it a version of a module reads, but not in this format: one sentence each.
pub fn unreadable(on_disk: &[OnDisk], record: &Record) -> Vec<String> {
    let sentence = |found: &OnDisk| {
        let reads = &record.data.iter().find(|data| data.name == found.data)?.reads;
        let listed: Vec<String> = reads.iter().map(u32::to_string).collect();
        (!reads.contains(&found.format)).then(|| {
            format!(
                "{} is of format {} (in {}), written by {}; it reads {}",
                found.data,
                found.format,
                found.place,
                found.written_by.as_deref().unwrap_or("a version that did not leave its name"),
                if listed.is_empty() { "none".to_owned() } else { listed.join(", ") },
            )
        })
    };
    on_disk.iter().filter_map(sentence).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::{DataFormats, FileEntry};
    use atlas_model::Digest;

    fn disk() -> (tempfile::TempDir, Dir) {
        let tmp = tempfile::tempdir().unwrap();
        let sid = tmp.path().join(SID_DATA);
        std::fs::create_dir_all(sid.join("PRI/Env2")).unwrap();
        std::fs::create_dir_all(sid.join("formats")).unwrap();
        std::fs::write(sid.join("MasterConfig"), "# this server\nformat = 1\nrole = \"PRI\"\n").unwrap();
        let manifest = "{\"atlas\":\"manifest\",\"format\":3,\"role\":\"PRI\",\"env_version\":2,\"entries\":0}\n";
        std::fs::write(sid.join("PRI/Env2/Manifest"), manifest).unwrap();
        std::fs::write(sid.join("formats/manifest.toml"), "format = 3\nwritten_by = \"ssSync v3\"\n").unwrap();
        let root = Dir::open_root(tmp.path()).unwrap();
        (tmp, root)
    }

    fn reader_of(data: &str, reads: &[u32]) -> Record {
        let file = FileEntry { name: "m".parse().unwrap(), mode: 0o755, size: 0, sha256: Digest::of(b"") };
        let data = DataFormats { name: data.parse().unwrap(), reads: reads.to_vec(), writes: None };
        let (name, version) = ("m".parse().unwrap(), "v1".parse().unwrap());
        Record { name, version, summary: String::new(), files: vec![file], data: vec![data], protocols: vec![] }
    }

    #[test]
    fn the_data_tell_their_format_and_the_declaration_their_writer() {
        let (_tmp, root) = disk();
        let found = on_disk(&root).unwrap();
        let shown: Vec<_> = found.iter().map(|f| (f.data.as_str(), f.format, f.written_by.as_deref())).collect();
        assert_eq!(shown, [("manifest", 3, Some("ssSync v3")), ("master-config", 1, None)]);
    }

    #[test]
    fn a_version_that_cannot_read_them_is_told_which_version_wrote_them() {
        let (_tmp, root) = disk();
        let found = on_disk(&root).unwrap();
        let sentences = unreadable(&found, &reader_of("manifest", &[1, 2]));
        assert_eq!(sentences, ["manifest is of format 3 (in PRI/Env2/Manifest), written by ssSync v3; it reads 1, 2"]);
        assert!(unreadable(&found, &reader_of("manifest", &[3])).is_empty());
        assert!(unreadable(&found, &reader_of("mail-queue", &[1])).is_empty(), "data that are not there");
    }

    #[test]
    fn no_unbound_disk_is_no_data() {
        let tmp = tempfile::tempdir().unwrap();
        assert_eq!(on_disk(&Dir::open_root(tmp.path()).unwrap()).unwrap(), []);
    }
}
