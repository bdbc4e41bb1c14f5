//! Suspending: no cycle begins until somebody resumes [306].
//!
//! ```text
//! SID_DATA/Suspended     {"format":1,"since":1763700000,"reason":"new mail server, half way"}
//! ```
//!
//! It lies with the Role: PRI that was suspended is so on whatever server its disks are in.

use anyhow::Context;
use atlas_cli::Hint;
use atlas_host::durable;
use atlas_sid::SidData;
use serde::{Deserialize, Serialize};
use std::ffi::OsStr;

const NAME: &str = "Suspended";
/// The longest reason, in bytes.
const MAX_REASON: usize = 500;

/// Why no cycle runs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Suspended {
    /// 1.
    pub(crate) format: u32,
    /// Since when, in seconds since 1970.
    pub(crate) since: u64,
    /// What the operator said.
    pub(crate) reason: String,
}

impl Suspended {
    /// Whether it is so. A file that cannot be read is a suspension too: nobody knows what was meant by it.
    pub(crate) fn read(sid: &SidData) -> anyhow::Result<Option<Suspended>> {
        let Some(content) = sid.dir().read_if_there(NAME, 4096)? else { return Ok(None) };
        let unreadable = |_| Suspended { format: 1, since: 0, reason: format!("{NAME} cannot be read") };
        Ok(Some(serde_json::from_slice(&content).unwrap_or_else(unreadable)))
    }

    /// Makes it so.
    pub(crate) fn write(sid: &SidData, since: u64, reason: &str) -> anyhow::Result<()> {
        let reason = reason.trim();
        if reason.is_empty() || reason.len() > MAX_REASON || reason.chars().any(char::is_control) {
            return Err(anyhow::anyhow!("the reason must be one line of 1 to {MAX_REASON} bytes"))
                .hint("say what you are about to change, for whoever sees the alert");
        }
        let content = serde_json::to_vec(&Suspended { format: 1, since, reason: reason.into() })?;
        durable::write(sid.dir(), OsStr::new(NAME), &content, 0o600).context("suspend the Synchronizer")
    }

    /// Ends it; says whether it was so.
    pub(crate) fn end(sid: &SidData) -> anyhow::Result<bool> {
        let was = sid.dir().remove(OsStr::new(NAME)).context("resume the Synchronizer")?;
        sid.dir().sync()?;
        Ok(was)
    }
}
