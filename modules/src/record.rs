//! `module.toml`: what a version of a module is. It leads every package, and stays on the server as the record of what was installed.
//!
//! ```toml
//! format = 1
//! name = "ssSync"
//! version = "v2"
//! summary = "the Synchronizer"            # may be left out
//!
//! [[file]]
//! name = "ssSync"                         # without the version; it becomes update/ssSync.v2
//! mode = "0755"
//! size = 123456
//! sha256 = "…"
//!
//! [[data]]                                # formats on the Unbound disk
//! name = "manifest"
//! reads = [1, 2]
//! writes = 2                              # left out where it only reads
//!
//! [[protocol]]                            # what it speaks with other servers
//! name = "sync"
//! speaks = [1, 2]
//! ```
//!
//! Every key is known or the whole is refused: a later program may say something that matters.

use crate::name::{BadName, FileName, ModuleName, Version};
use atlas_model::Digest;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

/// The name of the record in a package.
pub const RECORD_NAME: &str = "module.toml";

/// A checked `module.toml`.
///
/// Holding one proves: at least one and at most [`Record::MAX_FILES`] files, no name twice, no mode that gives more than its owner
/// the right to write or that changes who runs it, and [`Record::MAX_CONTENT`] bytes at most in all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// The module.
    pub name: ModuleName,
    /// Its version.
    pub version: Version,
    /// One line for people.
    pub summary: String,
    /// Its files, sorted by name.
    pub files: Vec<FileEntry>,
    /// The data formats that it reads and writes.
    pub data: Vec<DataFormats>,
    /// The protocols that it speaks.
    pub protocols: Vec<Protocol>,
}

/// One file of a version.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct FileEntry {
    /// Its name, without the version.
    pub name: FileName,
    /// Permission bits, within 0o755.
    pub mode: u32,
    /// Its length in bytes.
    pub size: u64,
    /// The digest of its content.
    pub sha256: Digest,
}

/// The versions of one kind of data that a version of a module deals with.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DataFormats {
    /// The kind of data: `manifest`, `master-config`.
    pub name: ModuleName,
    /// The formats that it reads.
    pub reads: Vec<u32>,
    /// The format that it writes, where it writes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub writes: Option<u32>,
}

/// The versions of one protocol that a version of a module speaks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Protocol {
    /// The protocol.
    pub name: ModuleName,
    /// Its versions.
    pub speaks: Vec<u32>,
}

/// Why a text is no record.
#[derive(Debug, thiserror::Error)]
pub enum BadRecord {
    /// It is beyond the bound.
    #[error("it is larger than {} bytes", Record::MAX_SIZE)]
    TooLarge,
    /// It is no text, no TOML, or lacks or has a key too many.
    #[error("{0}")]
    Syntax(String),
    /// It is of a later format.
    #[error("it is of format {0}; this program reads format 1")]
    UnknownFormat(i64),
    /// A name that is none.
    #[error(transparent)]
    Name(#[from] BadName),
    /// No file at all, or too many.
    #[error("it lists {0} files; a module has 1 to {max}", max = Record::MAX_FILES)]
    FileCount(usize),
    /// A file twice.
    #[error("it lists the file {0} twice")]
    Twice(FileName),
    /// A mode beyond what a module's file may have.
    #[error("the mode {mode} of {file} is not an octal number within 0755 that its owner may read")]
    Mode {
        /// The file.
        file: FileName,
        /// The mode as written, shortened.
        mode: String,
    },
    /// A file that would fill the disk.
    #[error("its files have {0} bytes; {max} are allowed", max = Record::MAX_CONTENT)]
    ContentTooLarge(u64),
    /// Something else that contradicts itself.
    #[error("{0}")]
    Wrong(String),
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Raw {
    format: i64,
    name: String,
    version: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    summary: String,
    #[serde(default, rename = "file")]
    files: Vec<RawFile>,
    #[serde(default, rename = "data", skip_serializing_if = "Vec::is_empty")]
    data: Vec<DataFormats>,
    #[serde(default, rename = "protocol", skip_serializing_if = "Vec::is_empty")]
    protocols: Vec<Protocol>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawFile {
    name: String,
    mode: String,
    size: u64,
    sha256: String,
}

impl Record {
    /// The largest `module.toml`, in bytes.
    pub const MAX_SIZE: usize = 1 << 20;
    /// The most files of one version.
    pub const MAX_FILES: usize = 1000;
    /// The most content of one version, in bytes.
    pub const MAX_CONTENT: u64 = 1 << 30;

    /// Reads a `module.toml`.
    pub fn parse(content: &[u8]) -> Result<Record, BadRecord> {
        if content.len() > Self::MAX_SIZE {
            return Err(BadRecord::TooLarge);
        }
        let text = std::str::from_utf8(content).map_err(|_| BadRecord::Syntax("it is no UTF-8 text".into()))?;
        Self::check_format(text)?;
        let raw: Raw = toml::from_str(text).map_err(|error| BadRecord::Syntax(one_line(error.message())))?;
        let files = raw.files.iter().map(RawFile::check).collect::<Result<Vec<_>, _>>()?;
        let record = Record {
            name: raw.name.parse()?,
            version: raw.version.parse()?,
            summary: raw.summary,
            files,
            data: raw.data,
            protocols: raw.protocols,
        };
        record.checked()
    }

    /// The format first: a later one may have any shape, and its number is what the reader needs to be told.
    fn check_format(text: &str) -> Result<(), BadRecord> {
        #[derive(Deserialize)]
        struct Format {
            format: i64,
        }
        match toml::from_str::<Format>(text).map_err(|error| BadRecord::Syntax(one_line(error.message())))?.format {
            1 => Ok(()),
            other => Err(BadRecord::UnknownFormat(other)),
        }
    }

    /// Sorts the files and checks the parts against each other.
    pub fn checked(mut self) -> Result<Record, BadRecord> {
        self.files.sort();
        if self.files.is_empty() || self.files.len() > Self::MAX_FILES {
            return Err(BadRecord::FileCount(self.files.len()));
        }
        if let Some(pair) = self.files.windows(2).find(|pair| pair[0].name == pair[1].name) {
            return Err(BadRecord::Twice(pair[0].name.clone()));
        }
        let content = self.files.iter().fold(0_u64, |sum, file| sum.saturating_add(file.size));
        if content > Self::MAX_CONTENT {
            return Err(BadRecord::ContentTooLarge(content));
        }
        if self.summary.len() > 200 || self.summary.chars().any(char::is_control) {
            return Err(BadRecord::Wrong("its summary is not one line of at most 200 bytes".into()));
        }
        if self.data.len() + self.protocols.len() > 100 {
            return Err(BadRecord::Wrong("it names more than 100 data formats and protocols".into()));
        }
        let mut seen = BTreeSet::new();
        if let Some(twice) = self.data.iter().find(|data| !seen.insert(&data.name)) {
            return Err(BadRecord::Wrong(format!("it names the data '{}' twice", twice.name)));
        }
        Ok(self)
    }

    /// The text that [`Record::parse`] reads back.
    pub fn to_toml(&self) -> String {
        let raw = Raw {
            format: 1,
            name: self.name.to_string(),
            version: self.version.to_string(),
            summary: self.summary.clone(),
            files: self.files.iter().map(RawFile::of).collect(),
            data: self.data.clone(),
            protocols: self.protocols.clone(),
        };
        // Texts, numbers and lists of them: there is nothing in it that TOML could not say.
        toml::to_string(&raw).unwrap_or_default()
    }

    /// The entry of a file.
    pub fn file(&self, name: &FileName) -> Option<&FileEntry> {
        self.files.binary_search_by(|entry| entry.name.cmp(name)).ok().map(|index| &self.files[index])
    }
}

impl RawFile {
    fn check(&self) -> Result<FileEntry, BadRecord> {
        let name: FileName = self.name.parse()?;
        let shown: String = self.mode.chars().take(20).collect::<String>().escape_debug().to_string();
        let mode = u32::from_str_radix(&self.mode, 8).ok().filter(|mode| mode & !0o755 == 0 && mode & 0o400 != 0);
        let mode = mode.ok_or_else(|| BadRecord::Mode { file: name.clone(), mode: shown })?;
        let sha256 =
            self.sha256.parse().map_err(|error| BadRecord::Wrong(format!("the digest of {name} is {error}")))?;
        Ok(FileEntry { name, mode, size: self.size, sha256 })
    }

    fn of(entry: &FileEntry) -> RawFile {
        RawFile {
            name: entry.name.to_string(),
            mode: format!("{:04o}", entry.mode),
            size: entry.size,
            sha256: entry.sha256.to_string(),
        }
    }
}

fn one_line(text: &str) -> String {
    text.chars().take(200).collect::<String>().escape_debug().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text() -> String {
        let digest = Digest::of(b"x");
        format!(
            "format = 1\nname = \"ssSync\"\nversion = \"v2\"\n[[file]]\nname = \"ssSync\"\nmode = \"0755\"\nsize = 1\nsha256 = \"{digest}\"\n\
             [[file]]\nname = \"ssSync.cfg\"\nmode = \"0644\"\nsize = 1\nsha256 = \"{digest}\"\n\
             [[data]]\nname = \"manifest\"\nreads = [1, 2]\nwrites = 2\n"
        )
    }

    #[test]
    fn a_record_reads_back_from_its_text() {
        let record = Record::parse(text().as_bytes()).unwrap();
        assert_eq!(record.files.len(), 2);
        assert_eq!(record.data[0].writes, Some(2));
        assert_eq!(Record::parse(record.to_toml().as_bytes()).unwrap(), record);
    }

    #[test]
    fn what_is_out_of_bounds_or_unknown_is_refused_in_one_line() {
        let cases = [
            ("format = 1", "format = 9", "format 9"),
            ("name = \"ssSync\"", "name = \"../x\"", "module name"),
            ("version = \"v2\"", "version = \"v2/../../etc\"", "version"),
            ("version = \"v2\"", "version = \"v2\\n\"", "version"),
            ("ssSync.cfg", "ssSync", "twice"),
            ("ssSync.cfg", "/etc/passwd", "file name"),
            ("0644", "4755", "mode"),
            ("0644", "0666", "mode"),
            ("0644", "0000", "mode"),
            ("size = 1\n", "size = 99999999999\n", "bytes"),
            ("[[data]]", "[[later]]", "unknown"),
        ];
        for (from, to, expected) in &cases {
            let changed = text().replacen(from, to, 1);
            assert_ne!(changed, text(), "the case '{to}' changed nothing");
            let error = Record::parse(changed.as_bytes()).unwrap_err().to_string();
            assert!(error.contains(expected) && !error.contains('\n'), "{to}: {error}");
        }
    }

    #[test]
    fn a_huge_count_of_files_is_refused() {
        let mut record = Record::parse(text().as_bytes()).unwrap();
        let one = record.files[0].clone();
        record.files = (0..1001).map(|n| FileEntry { name: format!("f{n}").parse().unwrap(), ..one.clone() }).collect();
        assert!(matches!(Record::parse(record.to_toml().as_bytes()), Err(BadRecord::FileCount(1001))));
    }
}
