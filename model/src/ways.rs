//! Ways: the directories above what a Snapshot carries that it does not carry themselves.
//!
//! A file may be listed and the directory that holds it not: the directory is then every server's own. Where a secondary has none it makes one, and
//! that is to let through whom PRI's lets through, and nobody else. Said of those alone that are not the usual `root:root` with mode 755.

use crate::{TreePath, manifest::Meta};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Whose a directory is, and whom it lets through.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Way {
    /// Permission bits with set-id and sticky bits, 0 to 0o7777.
    pub mode: u32,
    /// The owner's number.
    pub uid: u32,
    /// The group's number.
    pub gid: u32,
}

/// Those of a Snapshot.
pub type Ways = BTreeMap<TreePath, Way>;

impl Way {
    /// What a directory is that is made because one is needed.
    pub const USUAL: Way = Way { mode: 0o755, uid: 0, gid: 0 };
    /// The most of one Snapshot.
    pub const MOST: usize = 1000;

    /// Whether a directory can be given all of it.
    pub(crate) fn check(&self) -> bool {
        // The largest number means "leave it as it is" where an owner is set.
        self.mode <= 0o7777 && self.uid != u32::MAX && self.gid != u32::MAX
    }

    /// The same, to be given to a directory.
    pub fn meta(&self) -> Meta {
        Meta { mode: self.mode, uid: self.uid, gid: self.gid, mtime: 0, mtime_ns: 0, xattrs: BTreeMap::new() }
    }
}
