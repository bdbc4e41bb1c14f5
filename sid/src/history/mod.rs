//! The history of a Role: every Snapshot Create that found a change is a commit in a git repository, whatever caused the change [309, 310].
//!
//! ```text
//! SID_DATA/history/                     0700; stock git reads it: git --git-dir /unbound/SID_DATA/history log -p PRI
//!   refs/heads/PRI  refs/heads/SEC1 …   one branch for each Role
//!   objects/pack/                       one pack for each commit, until git gathers them
//!   recorded/PRI-COMMIT/                Manifest (a hard link) and path lists of the Snapshot that COMMIT holds
//! SID_DATA/.past/                       a Snapshot of the past, laid out to be restored from
//! SID_DATA/history.damaged-TIME/        one that git could not go on with: kept, and a new one begun
//! ```
//!
//! The tree of a commit is the Snapshot's directory, the Manifest in pieces, so that a change of one file changes one small piece:
//!
//! ```text
//! IdentFilePaths  SyncFilePaths…        as they are
//! SyncFiles/etc/nginx/nginx.conf        content; links as links
//! Manifest/=header                      the first line of the Manifest
//! Manifest/SyncFiles/etc/nginx/=entries its lines of what lies directly in /etc/nginx: owner, mode, attributes, digest
//! ```
//!
//! A name that begins with `=`, or that git would take for its own (`.git`), stands with one more `=` before it.
//!
//! Invariants:
//! - All or nothing: objects are written first, under no branch; then everything is flushed, then the Role is published, then one
//!   rename makes the commit the branch's. Cut off anywhere, the branch is as it was, and the next Create records what this one did not.
//! - What a commit costs depends on what changed, and on the reading of two Manifests.
//! - A history that cannot be written never keeps a Snapshot from being made: the caller reports the error.

mod message;
mod names;
pub mod query;
mod read;
mod record;
mod repository;
mod stream;
mod undone;

pub use record::{Prepared, Recorded, Subject, prepare, record};
pub use repository::{CommitId, HISTORY};
pub use undone::undone;

/// Why a Snapshot is recorded; with what changed, it says who changed it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cause {
    /// This server took a Snapshot of itself.
    Created,
    /// The server that has the Role took it and sent it here.
    Received,
    /// This server was put back to how it was at a commit.
    Restored(CommitId),
}
