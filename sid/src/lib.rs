//! Sync and Identity Data: what lies on the Unbound disk besides client data, and the few ways to read and change it.
//!
//! ```text
//! /unbound/SID_DATA/                     0700 root
//!   MasterConfig                         who this disk makes of a server
//!   Set                                  whether its disks are a mirror, and which they are
//!   .lock-PRI  .lock-history             held by whoever changes the directory of that Role, or the history of all
//!   PRI/                                 one unit: replaced whole, by one exchange of names
//!     SnapshotEnvVersion                 the newest EnvVersion with a valid Snapshot; not there: none was ever made
//!     Generation                         how many Creates found a change; a partner's copy has the number of the original
//!     Env2/                              the Snapshot (PRI, Env2)
//!       IdentFilePaths  IdentFiles/etc/hostname …
//!       SyncFilePathsSpecial  SyncFilePaths<Svc>  SyncFilePaths  SyncFiles/etc/nginx/nginx.conf …
//!       Residue/Sync/Env3/ …             what only Env3 can express of the Snapshot that this one was converted from
//!       Manifest                         every object with its digest
//!     Env1/ …
//!   history/                             a git repository: what changed, when and by whom
//!   formats/manifest.toml                which program wrote the Snapshots, and in which format
//!   bonds/SEC1                           the last cycle that was completed with this partner, as both remember it
//!   .last-PRI/                            the Role's directory before this one, whole; the next is made from it
//!   .stat-cache-PRI                      what the last Create saw, so that the next need not read it again
//!   .next-PRI/                           a Role being built, or the one before it on its way out; nobody reads it
//! /opt/atlas/                            on the Bound disk: EnvID, Cluster, Identity, Set, bin/SyncConverterN
//! ```
//!
//! Invariants:
//! - A Role directory is complete at every instant. What is being built has a name that nobody reads [276-290].
//! - A Snapshot newer than SnapshotEnvVersion, or not listed whole in its Manifest, is never used [189, 222].
//! - Files below a Role are never changed in place, so that the next Role directory may share them by hard links.

pub mod accounts;
pub mod addresses;
pub mod bond;
pub mod bound;
pub mod convert;
pub mod create;
pub mod drift;
pub mod history;
pub mod incoming;
pub mod install;
pub mod keep;
pub mod keys;
pub mod layout;
pub mod left;
pub mod lines;
pub mod on_root;
pub mod outgoing;
pub mod residue;
pub mod scan;
pub mod set_record;
pub mod snapshot;
pub mod transaction;
pub mod worn;

pub use bound::BoundData;
pub use layout::{SidData, SidError};
pub use snapshot::{Found, Snapshot};
