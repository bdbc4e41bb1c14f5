//! From answers and facts to tasks; nothing here looks at the machine or changes it.
//!
//! ```text
//!   set      the devices that were named ──► a mounted Unbound file system: an attached set is taken as it is, or
//!   make                                     a new one is made of disks, or of an array or a disk that is there
//!   data     the answers ──────────────────► MasterConfig, path lists, Bound Data, initramfs
//! ```
//!
//! Invariant: a set that is there is never erased or made anew, whatever was told.

mod data;
mod identity;
mod make;
mod set;
#[cfg(test)]
mod testing;

pub use data::{Bound, DataFacts, SidFacts, plan_data};
pub use identity::{IdentityFacts, SetSeen, foreign, in_words};
pub use set::{SetFacts, SetPlan, plan_set};

use atlas_model::{UNBOUND_LABEL, md::MdUuid};
use std::{fmt, path::PathBuf};

/// Something to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Task {
    /// Remove what marks the content of this device.
    Erase(PathBuf),
    /// Make the mirror.
    CreateMirror {
        /// Of these.
        disks: Vec<PathBuf>,
        /// The second is missing.
        degraded: bool,
    },
    /// Start the mirror that is there.
    Assemble {
        /// The set.
        uuid: MdUuid,
        /// Its members.
        devices: Vec<PathBuf>,
    },
    /// Make the file system.
    MakeFileSystem {
        /// Also where something seems to be there: the device was made just now, or its content may be lost.
        over_anything: bool,
    },
    /// Label the file system that is there.
    Label,
    /// Mount it.
    Mount,
    /// Write MasterConfig.
    MasterConfig,
    /// Write down how the set is made.
    SetRecord,
    /// Write the first path lists of the Role.
    PathLists,
    /// Note that the identity in place is this server's own.
    KeepIdentity,
    /// Give this server a name and addresses of its own.
    NewIdentity {
        /// And new host keys: others have those that are there.
        new_keys: bool,
    },
    /// Write EnvID and Cluster.
    BoundData,
    /// Say on the root file system that ATLAS decides about the network.
    Marker,
    /// Turn the lines of mdadm's configuration that start the set into comments.
    MdadmConf,
    /// Put atlas-boot into every initramfs.
    Initramfs,
}

impl Task {
    /// What the task did, as a word of the report.
    pub fn done(&self) -> &'static str {
        match self {
            Task::Erase(_) => "erased",
            Task::CreateMirror { .. } | Task::MakeFileSystem { .. } => "made",
            Task::Assemble { .. } => "started",
            Task::Label => "labelled",
            Task::Mount => "mounted",
            Task::MasterConfig
            | Task::SetRecord
            | Task::PathLists
            | Task::KeepIdentity
            | Task::NewIdentity { .. }
            | Task::BoundData
            | Task::Marker
            | Task::MdadmConf
            | Task::Initramfs => "written",
        }
    }
}

/// A part of the result, and the task that is needed for it, if it was not so already.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Item {
    /// In words.
    pub what: String,
    /// `None`: it was so already, or it `is_open`.
    pub task: Option<Task>,
    /// Only the mounted set says what is left to do.
    pub is_open: bool,
}

impl Item {
    /// Something is left to do.
    fn todo(what: impl Into<String>, task: Task) -> Item {
        Item { what: what.into(), task: Some(task), is_open: false }
    }

    /// Nothing is left to do.
    fn was_so(what: impl Into<String>) -> Item {
        Item { what: what.into(), task: None, is_open: false }
    }

    /// What is left to do is not known before the set is mounted.
    fn open(what: impl Into<String>) -> Item {
        Item { what: what.into(), task: None, is_open: true }
    }

    fn needed(is_so: bool, what: impl Into<String>, task: Task) -> Item {
        if is_so { Item::was_so(what) } else { Item::todo(what, task) }
    }
}

fn list<T: fmt::Display>(things: impl IntoIterator<Item = T>) -> String {
    things.into_iter().map(|thing| thing.to_string()).collect::<Vec<_>>().join(", ")
}

fn file_system() -> String {
    format!("an ext4 file system, label {UNBOUND_LABEL}")
}

/// The ext4 file system that is there, with the label that it has.
fn labelled(label: Option<&str>) -> Item {
    match label {
        Some(UNBOUND_LABEL) => Item::was_so(file_system()),
        _ => Item::todo(format!("the ext4 file system as {UNBOUND_LABEL}; its data stays"), Task::Label),
    }
}
