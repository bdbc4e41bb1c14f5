//! How the Unbound set is made, as `atlas init` wrote it down: in the file system itself (`SID_DATA/Set`) and on the Bound disk
//! (`/opt/atlas/Set`).
//!
//! A half of a mirror can look like a whole disk: metadata at its end may be of an old kind, or hidden by the dock that the disk is
//! in. A bare file system therefore has to prove that it never was a mirror's; a mirror that md knows as one needs no proof.
//!
//! ```toml
//! format = 1
//! kind = "mirror"                 # or "single"
//! file_system = "0e1f…-…"
//!
//! [[member]]
//! serial = "S3YZNB0K"
//! size_bytes = 500107862016
//! ```

use crate::{MasterConfig, shorten};
use serde::Deserialize;

/// What a set is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum MadeOf {
    /// An md mirror.
    Mirror,
    /// One device, such as a hardware RAID shows it.
    Single,
}

/// A disk of the set, when the record was written.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct RecordedMember {
    /// What is written on its label, where the kernel knows it.
    pub serial: Option<String>,
    /// The size of the disk or partition.
    pub size_bytes: u64,
}

/// The record.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct SetRecord {
    format: i64,
    /// What it is made of.
    pub kind: MadeOf,
    /// The UUID of its file system.
    pub file_system: String,
    /// Its disks.
    #[serde(default, rename = "member")]
    pub members: Vec<RecordedMember>,
}

/// Why a file is no record.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum BadSetRecord {
    /// The format of a later (or no) ATLAS.
    #[error("it is of format {0}; this program reads format 1")]
    UnknownFormat(i64),
    /// Not text, not TOML, or TOML of another shape.
    #[error("it cannot be read: {0}")]
    Malformed(String),
}

impl SetRecord {
    /// Its name, in either place.
    pub const NAME: &str = "Set";
    /// The largest file, in bytes.
    pub const MAX_SIZE: usize = MasterConfig::MAX_SIZE;

    /// A record of this format.
    pub fn new(kind: MadeOf, file_system: String, members: Vec<RecordedMember>) -> SetRecord {
        SetRecord { format: 1, kind, file_system, members }
    }

    /// Reads the file.
    pub fn parse(content: &[u8]) -> Result<SetRecord, BadSetRecord> {
        let malformed = |message: &str| BadSetRecord::Malformed(shorten(message, 120));
        if content.len() > Self::MAX_SIZE {
            return Err(malformed("it is too large"));
        }
        let text = std::str::from_utf8(content).map_err(|_| malformed("it is not text"))?;
        let table: toml::Table = text.parse().map_err(|error: toml::de::Error| malformed(error.message()))?;
        match table.get("format").and_then(toml::Value::as_integer) {
            Some(1) => {}
            Some(other) => return Err(BadSetRecord::UnknownFormat(other)),
            None => return Err(malformed("it has no format")),
        }
        toml::from_str(text).map_err(|error| malformed(error.message()))
    }

    /// What [`SetRecord::parse`] reads back.
    pub fn to_file(&self) -> String {
        // A string of JSON is one of TOML.
        let quoted = |text: &str| serde_json::Value::from(text).to_string();
        let kind = match self.kind {
            MadeOf::Mirror => "mirror",
            MadeOf::Single => "single",
        };
        let mut text = format!(
            "# How the Unbound set is made. Written by ATLAS; a bare file system without it may be half of a mirror.\n\
             format = 1\nkind = \"{kind}\"\nfile_system = {}\n",
            quoted(&self.file_system)
        );
        for member in &self.members {
            let serial =
                member.serial.as_ref().map(|serial| format!("serial = {}\n", quoted(serial))).unwrap_or_default();
            text.push_str(&format!("\n[[member]]\n{serial}size_bytes = {}\n", member.size_bytes));
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_reads_back_and_a_field_of_a_later_version_does_no_harm() {
        let member = RecordedMember { serial: Some("A \"quoted\" one".into()), size_bytes: 500_107_862_016 };
        let record =
            SetRecord::new(MadeOf::Mirror, "u".into(), vec![member, RecordedMember { serial: None, size_bytes: 1 }]);
        assert_eq!(SetRecord::parse(record.to_file().as_bytes()), Ok(record.clone()));
        let more = record.to_file().replace("kind", "later = 5\nkind");
        assert_eq!(SetRecord::parse(more.as_bytes()), Ok(record));
    }

    #[test]
    fn what_is_no_record_is_refused_with_its_reason() {
        let why = |content: &[u8]| SetRecord::parse(content).unwrap_err().to_string();
        assert_eq!(why(b"format = 2\n"), "it is of format 2; this program reads format 1");
        assert!(why(b"kind = 'mirror'\n").contains("no format"));
        assert!(why(b"format = 1\nkind = 'triple'\nfile_system = 'u'\n").contains("triple"));
        assert!(why(b"\xff").contains("not text"));
        assert!(why(&[b'#'; SetRecord::MAX_SIZE + 1]).contains("too large"));
    }
}
