//! Making a package from a folder.
//!
//! The same folder gives the same bytes, whenever and by whom it is packed: no time, no owner, no order of the file system is in them.

use crate::{
    Error,
    name::{FileName, ModuleName, Version},
    package::SIGNATURE_NAME,
    record::{DataFormats, FileEntry, Protocol, RECORD_NAME, Record},
    signature,
};
use atlas_host::tree::{Dir, ObjectType};
use atlas_model::Digest;
use serde::Deserialize;
use std::{ffi::OsStr, io::Write, path::Path};

/// zstd's highest level takes fifteen times as long for a tenth less.
const LEVEL: i32 = 9;

/// What a package is made of.
#[derive(Clone, Debug, Default)]
pub struct Request<'a> {
    /// The module; else what the folder's `module.toml` says.
    pub name: Option<ModuleName>,
    /// Its version; else what the folder's `module.toml` says.
    pub version: Option<Version>,
    /// The text of a minisign secret key, and its password where it has one.
    pub key: Option<(&'a str, Option<String>)>,
    /// Whether it is compressed with zstd.
    pub compress: bool,
}

/// What a folder's own `module.toml` may say; its files are those that lie beside it.
#[derive(Default, Deserialize)]
struct Draft {
    name: Option<ModuleName>,
    version: Option<Version>,
    #[serde(default)]
    summary: String,
    #[serde(default)]
    data: Vec<DataFormats>,
    #[serde(default, rename = "protocol")]
    protocols: Vec<Protocol>,
}

/// Makes the package of a folder; gives its record and its bytes.
pub fn pack(folder: &Path, request: &Request<'_>) -> Result<(Record, Vec<u8>), Error> {
    let dir = Dir::open_root(folder)?;
    let draft = read_draft(&dir)?;
    let missing = |what: &str| {
        Error::refused(
            format!("the {what} of the package is not known"),
            format!("give --{what}, or say it in {RECORD_NAME} in the folder"),
        )
    };
    let mut files = Vec::new();
    for name in dir.names(Record::MAX_FILES + 2)? {
        if name != RECORD_NAME && name != SIGNATURE_NAME {
            files.push(read_file(&dir, &name)?);
        }
    }
    let record = Record {
        name: request.name.clone().or(draft.name).ok_or_else(|| missing("name"))?,
        version: request.version.clone().or(draft.version).ok_or_else(|| missing("version"))?,
        summary: draft.summary,
        files: files.iter().map(|(entry, _)| entry.clone()).collect(),
        data: draft.data,
        protocols: draft.protocols,
    };
    let record =
        record.checked().map_err(|error| Error::refused(format!("{} is no module: {error}", folder.display()), ""))?;
    let text = record.to_toml();
    let mut parts = vec![(RECORD_NAME.to_owned(), 0o644, text.clone().into_bytes())];
    if let Some((key, password)) = &request.key {
        let signed = signature::sign(text.as_bytes(), key, password.clone());
        let signed = signed.map_err(|why| Error::refused(format!("the package cannot be signed: {why}"), ""))?;
        parts.push((SIGNATURE_NAME.to_owned(), 0o644, signed.into_bytes()));
    }
    parts.extend(files.into_iter().map(|(entry, content)| (entry.name.to_string(), entry.mode, content)));
    let failed = |error: std::io::Error| Error::refused(format!("the package cannot be written: {error}"), "");
    let tar = to_tar(&parts).map_err(failed)?;
    let bytes = if request.compress { zstd::encode_all(tar.as_slice(), LEVEL).map_err(failed)? } else { tar };
    Ok((record, bytes))
}

fn read_draft(dir: &Dir) -> Result<Draft, Error> {
    let Some(content) = dir.read_if_there(RECORD_NAME, Record::MAX_SIZE)? else { return Ok(Draft::default()) };
    let text = String::from_utf8_lossy(&content);
    toml::from_str(&text).map_err(|error| {
        Error::refused(format!("{} cannot be understood: {}", dir.show(RECORD_NAME).display(), error.message()), "")
    })
}

fn read_file(dir: &Dir, name: &OsStr) -> Result<(FileEntry, Vec<u8>), Error> {
    let path = dir.show(name);
    let plain = dir.stat(name)?.filter(|stat| ObjectType::of(stat) == ObjectType::File);
    let Some(stat) = plain else {
        return Err(Error::refused(
            format!("{} is no plain file", path.display()),
            "a module is made of plain files alone",
        ));
    };
    let file: FileName = name.to_string_lossy().parse()?;
    let content = dir.read(name, usize::try_from(Record::MAX_CONTENT).unwrap_or(usize::MAX))?;
    // Two modes say all that matters: a program, or not.
    let mode = if stat.st_mode & 0o100 == 0 { 0o644 } else { 0o755 };
    Ok((FileEntry { name: file, mode, size: content.len() as u64, sha256: Digest::of(&content) }, content))
}

fn to_tar(parts: &[(String, u32, Vec<u8>)]) -> std::io::Result<Vec<u8>> {
    let mut tar = tar::Builder::new(Vec::new());
    for (name, mode, content) in parts {
        let mut header = tar::Header::new_ustar();
        header.set_path(name)?;
        header.set_mode(*mode);
        header.set_size(content.len() as u64);
        header.set_entry_type(tar::EntryType::Regular);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(0);
        header.set_cksum();
        tar.append(&header, content.as_slice())?;
    }
    let mut bytes = tar.into_inner()?;
    bytes.flush()?;
    Ok(bytes)
}
