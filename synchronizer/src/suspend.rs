//! Suspending: no cycle begins until somebody resumes [306]. Where it lies: [`atlas_sid::left`].

use anyhow::Context;
use atlas_cli::Hint;
use atlas_host::durable;
use atlas_sid::{
    SidData,
    layout::{SID_DATA, UNBOUND_MOUNT},
    left::Suspended,
};
use std::{
    ffi::OsStr,
    path::{Path, PathBuf},
};

/// The longest reason, in bytes.
const MAX_REASON: usize = 500;

/// Its file on the server whose tree is `root`, to be watched.
pub(crate) fn file(root: &Path) -> PathBuf {
    root.join(UNBOUND_MOUNT).join(SID_DATA).join(Suspended::NAME)
}

/// Makes it so.
pub(crate) fn suspend(sid: &SidData, since: u64, reason: &str) -> anyhow::Result<()> {
    let reason = reason.trim();
    if reason.is_empty() || reason.len() > MAX_REASON || reason.chars().any(char::is_control) {
        return Err(anyhow::anyhow!("the reason must be one line of 1 to {MAX_REASON} bytes"))
            .hint("say what you are about to change, for whoever sees the alert");
    }
    let content = serde_json::to_vec(&Suspended { format: 1, since, reason: reason.into() })?;
    durable::write(sid.dir(), OsStr::new(Suspended::NAME), &content, 0o600).context("suspend the Synchronizer")
}

/// Ends it; says whether it was so.
pub(crate) fn resume(sid: &SidData) -> anyhow::Result<bool> {
    let was = sid.dir().remove(OsStr::new(Suspended::NAME)).context("resume the Synchronizer")?;
    sid.dir().sync()?;
    Ok(was)
}
