//! The nouns of ATLAS as types, and the rules that need no machine.
//!
//! Everything here is pure: parsers take `&str` or `&[u8]`, decisions take facts and return values. What reads disks, files or
//! clocks stands in `atlas-host`; what a value means for a running server stands in the products.
//!
//! Two kinds of type meet in every parser: the raw one, as the bytes say it, and the validated one, which the rest of ATLAS
//! accepts. Holding a validated value proves what its documentation says; there is no other way to make one.
//!
//! ```text
//!   Bound disk                Unbound disk
//!   EnvId ── EnvVersion       MasterConfig ── Role, ClusterId, Partners
//!        └────────────┬────────────┘
//!              (Role, EnvVersion) ── Snapshot ── PathList, Manifest ── TreePath, Entry
//!   MdSuperblock, Ext4Superblock ── Survey ── SetChoice | Refusal ── BootReport
//! ```

pub mod address;
pub mod claims;
pub mod cold_boot;
pub mod compare;
pub mod content;
pub mod cycle;
pub mod digest;
pub mod env_version;
pub mod ext4;
pub mod gate;
pub mod manifest;
pub mod master_config;
pub mod md;
pub mod mdadm_conf;
pub mod members;
pub mod mounts;
pub mod old_md;
pub mod owners;
pub mod path_list;
pub mod refusal;
pub mod report;
pub mod reserved;
pub mod role;
pub mod set_record;
pub mod survey;
pub mod time;
pub mod tree_path;
pub mod verify;
pub mod ways;
pub mod worn;

pub use digest::Digest;
pub use env_version::{EnvId, EnvVersion};
pub use gate::GateReport;
pub use master_config::{ClusterId, MasterConfig, Partner};
pub use owners::Owners;
pub use path_list::PathList;
pub use refusal::{Refusal, RefusalCode};
pub use report::{Acceptance, BootReport, Outcome};
pub use role::Role;
pub use tree_path::TreePath;

/// At most `count` characters of a text from outside, fit to be shown on a console.
pub(crate) fn shorten(text: &str, count: usize) -> String {
    let shown = |char: char| match char {
        '"' | '\'' => char.to_string(),
        other => other.escape_debug().to_string(),
    };
    text.chars().take(count).map(shown).collect()
}

/// The label of the file system on an Unbound set.
pub const UNBOUND_LABEL: &str = "ATLAS-UNBOUND";
/// The name (after the home host) of the md array of an Unbound set.
pub const UNBOUND_ARRAY_NAME: &str = "atlas-unbound";
/// Where that array appears.
pub const UNBOUND_ARRAY: &str = "/dev/md/atlas-unbound";
