//! What the Synchronizer left, as whoever watches a server reads it: reports, and whether somebody suspended it [306].
//!
//! ```text
//! /run/atlas/cycle.json  synced.json     reports; see atlas_model::cycle
//! SID_DATA/Suspended                     {"format":1,"since":1763700000,"reason":"new mail server, half way"}
//! ```
//!
//! The suspension lies with the Role: PRI that was suspended is so on whatever server its disks are in.

use crate::layout::{SidData, SidError};
use atlas_host::tree::Dir;
use atlas_model::cycle::{MAX_SIZE, REPORTS};
use serde::{Deserialize, Serialize};

/// A report that can be read; what is not there, or cannot be read, says nothing.
pub fn report<T: serde::de::DeserializeOwned>(root: &Dir, name: &str) -> Option<T> {
    let content = root.dir(REPORTS).ok()?.read_if_there(name, MAX_SIZE).ok()??;
    serde_json::from_slice(&content).ok()
}

/// Why no cycle runs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Suspended {
    /// 1.
    pub format: u32,
    /// Since when, in seconds since 1970; 0 where nobody knows.
    pub since: u64,
    /// What the operator said.
    pub reason: String,
}

impl Suspended {
    /// Its file, below SID_DATA.
    pub const NAME: &str = "Suspended";

    /// Whether it is so. A file that cannot be read is a suspension too: nobody knows what was meant by it.
    pub fn read(sid: &SidData) -> Result<Option<Suspended>, SidError> {
        let Some(content) = sid.dir().read_if_there(Self::NAME, 4096)? else { return Ok(None) };
        let unreadable = |_| Suspended { format: 1, since: 0, reason: format!("{} cannot be read", Self::NAME) };
        Ok(Some(serde_json::from_slice(&content).unwrap_or_else(unreadable)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_suspension_that_cannot_be_read_is_one_too() {
        let tmp = tempfile::tempdir().unwrap();
        std::fs::create_dir(tmp.path().join("SID_DATA")).unwrap();
        let sid = SidData::open(&Dir::open_root(tmp.path()).unwrap()).unwrap();
        assert_eq!(Suspended::read(&sid).unwrap(), None);
        let file = tmp.path().join("SID_DATA/Suspended");
        std::fs::write(&file, r#"{"format":1,"since":7,"reason":"mail"}"#).unwrap();
        assert_eq!(Suspended::read(&sid).unwrap().map(|it| (it.since, it.reason)), Some((7, "mail".into())));
        std::fs::write(&file, "{").unwrap();
        assert!(Suspended::read(&sid).unwrap().is_some_and(|it| it.reason.contains("cannot be read")));
    }
}
