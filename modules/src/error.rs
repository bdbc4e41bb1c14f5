//! What can go wrong, and what a person can try then.

use crate::{name::BadName, package::BadPackage, record::BadRecord};
use atlas_host::FileError;
use std::{io, path::PathBuf};

/// Why something was not done.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file system would not.
    #[error(transparent)]
    File(#[from] FileError),
    /// The package may not be installed.
    #[error(transparent)]
    Package(#[from] BadPackage),
    /// A name that is none.
    #[error(transparent)]
    Name(#[from] BadName),
    /// A record on this server was damaged.
    #[error("{} is damaged", path.display())]
    Record {
        /// The record.
        path: PathBuf,
        /// What is wrong with it.
        #[source]
        source: BadRecord,
    },
    /// A rule forbids it.
    #[error("{what}")]
    Refused {
        /// What was found, and why that does not go.
        what: String,
        /// What to try.
        hint: String,
    },
}

impl Error {
    /// A rule that forbids something, and the way on.
    pub fn refused(what: impl Into<String>, hint: impl Into<String>) -> Error {
        Error::Refused { what: what.into(), hint: hint.into() }
    }

    /// What a person can try.
    pub fn hint(&self) -> Option<String> {
        match self {
            Error::Refused { hint, .. } => Some(hint.clone()).filter(|hint| !hint.is_empty()),
            Error::Package(error) => error.hint(),
            Error::Record { .. } => Some("install the package of that version again; it mends the record".into()),
            Error::File(error) => hint_for(&error.source).map(str::to_owned),
            Error::Name(_) => None,
        }
    }
}

fn hint_for(error: &io::Error) -> Option<&'static str> {
    match error.kind() {
        io::ErrorKind::ReadOnlyFilesystem => Some("make it writable: mount -o remount,rw /"),
        io::ErrorKind::StorageFull => {
            Some("free some space on the Bound disk; 'atlas-module remove' takes versions away that are not set")
        }
        io::ErrorKind::PermissionDenied => Some("run it as root"),
        io::ErrorKind::WouldBlock => Some("another atlas-module is at work; let it end"),
        _ => None,
    }
}
