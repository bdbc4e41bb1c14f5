//! What this server knows of its installations.
//!
//! ```text
//! /var/lib/atlas/install/      0700, on the Bound disk: it is a fact about this root file system
//!   .lock                      held by whoever installs
//!   installed.json             which generation is installed, and which one each service runs with
//!   pending.json               there while an installation is under way: what is still to be done
//!   kept/                      what that installation replaced, to be put back where a service does not come up with it
//!   rehearsal/                 empty; a place to mount on
//! ```
//!
//! Invariant: from before the first file is touched until the last service was told, `pending.json` says what a crash would leave undone.

use anyhow::Context;
use atlas_cli::Hint;
use atlas_host::{durable, lock::Lock, tree::Dir};
use atlas_model::{Digest, EnvVersion, PathList, Role, TreePath};
use atlas_sid::keep::Kept;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use std::{
    collections::{BTreeMap, BTreeSet},
    ffi::OsStr,
    time::Duration,
};

/// Where it lies, below the server's root.
pub(super) const DIR: &str = "var/lib/atlas/install";
/// The place to mount on.
pub(super) const REHEARSAL: &str = "rehearsal";
const INSTALLED: &str = "installed.json";
const PENDING: &str = "pending.json";
const KEPT: &str = "kept";
/// The largest such file, in bytes.
const MAX_SIZE: usize = 32 << 20;
/// How long another installation is waited for.
const LOCK_DEADLINE: Duration = Duration::from_secs(60);

/// What is installed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Installed {
    /// The format: 1.
    pub format: u32,
    /// The generation of PRI's Snapshot.
    pub generation: u64,
    /// The EnvVersion that it is of.
    pub env_version: EnvVersion,
    /// When, in seconds since 1970 by this server's clock.
    pub at: u64,
    /// When every byte was compared last.
    pub every_byte_at: u64,
    /// What PRI listed.
    pub listed: Vec<TreePath>,
    /// Each service that reads some of it.
    pub services: BTreeMap<String, ServiceState>,
}

/// What a service works with.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServiceState {
    /// The generation whose files it read; none where that is not known, or it does not run.
    pub runs_with: Option<u64>,
    /// Why it does not have the newest.
    pub held: Option<Held>,
}

/// Files of PRI's that a service here does not work with.
///
/// What a check complained of, which disturbs nobody, is asked again at every installation. A service that did not come up was disturbed; it is
/// tried again after a while that doubles.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Held {
    /// Of the files as PRI has them: they are tried again at once when PRI changes them.
    pub files: Digest,
    /// The generation that had them first.
    pub generation: u64,
    /// What the service complained of.
    pub why: String,
    /// When it did not come up, in seconds since 1970; none where its check complained.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fell: Option<u64>,
    /// How often it did not come up with these files.
    #[serde(default)]
    pub falls: u32,
}

/// How long after a service did not come up it is tried again, in seconds: at first, and at most.
const TRIED_AGAIN: (u64, u64) = (600, 6 * 3600);

impl Held {
    /// Whether it is tried again now, in seconds since 1970.
    pub(super) fn is_due(&self, now: u64) -> bool {
        let wait = TRIED_AGAIN.0.saturating_mul(1 << self.falls.saturating_sub(1).min(16)).min(TRIED_AGAIN.1);
        self.fell.is_none_or(|fell| !(fell..fell.saturating_add(wait)).contains(&now))
    }
}

/// An installation that is under way.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Pending {
    /// The format: 1.
    pub(super) format: u32,
    /// Services that are to be told.
    pub(super) services: BTreeSet<String>,
    /// Directories in which temporary names may be left; `None` is the root.
    pub(super) touched: BTreeSet<Option<TreePath>>,
}

/// The directory, locked.
#[derive(Debug)]
pub(super) struct Records {
    dir: Dir,
    _lock: Lock,
}

impl Records {
    /// Opens it, and waits for another installation to end.
    pub(super) fn open(root: &Dir) -> anyhow::Result<Records> {
        let above = root.make_dirs("var/lib/atlas")?;
        above.make_dir("install", 0o700)?;
        let dir = above.dir("install")?;
        dir.make_dir(REHEARSAL, 0o700)?;
        let lock = Lock::take(&dir, OsStr::new(".lock"), LOCK_DEADLINE)
            .context("wait for another installation")
            .hint("look with 'ps' which ssSync runs")?;
        // What a run left that was cut off.
        durable::remove_leftovers(&dir)?;
        if dir.stat(OsStr::new(PENDING))?.is_none() {
            dir.remove_tree(OsStr::new(KEPT))?;
        }
        Ok(Records { dir, _lock: lock })
    }

    pub(super) fn installed(&self) -> anyhow::Result<Option<Installed>> {
        self.read(INSTALLED)
    }

    pub(super) fn pending(&self) -> anyhow::Result<Option<Pending>> {
        self.read(PENDING)
    }

    fn read<T: DeserializeOwned>(&self, name: &str) -> anyhow::Result<Option<T>> {
        let Some(content) = self.dir.read_if_there(name, MAX_SIZE)? else { return Ok(None) };
        let value: serde_json::Value = serde_json::from_slice(&content)
            .with_context(|| format!("read {}", self.dir.show(name).display()))
            .hint("remove the file: the next installation then compares everything anew")?;
        anyhow::ensure!(
            value["format"] == 1,
            "{} is of format {}; this program reads format 1",
            self.dir.show(name).display(),
            value["format"]
        );
        serde_json::from_value(value).map(Some).with_context(|| format!("read {}", self.dir.show(name).display()))
    }

    fn write(&self, name: &str, value: &impl Serialize) -> anyhow::Result<()> {
        let mut content = serde_json::to_vec_pretty(value)?;
        content.push(b'\n');
        durable::write(&self.dir, OsStr::new(name), &content, 0o600)
            .with_context(|| format!("write {}", self.dir.show(name).display()))
            .hint("free some space on the root file system")
    }

    /// What is kept of the installation under way; empty where none is.
    pub(super) fn kept(&self, role: Role, env_version: EnvVersion) -> anyhow::Result<Kept> {
        self.dir.make_dir(KEPT, 0o700)?;
        Kept::open(self.dir.dir(KEPT)?, role, env_version)
            .context("look at what was kept")
            .hint(format!("remove {}", self.dir.show(KEPT).display()))
    }

    /// Says what is going to be done; from now on a crash leaves it to the next run.
    pub(super) fn begin(&self, pending: &Pending) -> anyhow::Result<()> {
        self.write(PENDING, pending)
    }

    /// Says what was done; nothing is left to do.
    pub(super) fn end(&self, installed: &Installed) -> anyhow::Result<()> {
        self.write(INSTALLED, installed)?;
        self.clear()
    }

    /// Forgets what was under way: it was taken back, or is done.
    pub(super) fn clear(&self) -> anyhow::Result<()> {
        self.dir.remove(OsStr::new(PENDING))?;
        self.dir.sync()?;
        self.dir.remove_tree(OsStr::new(KEPT))?;
        Ok(())
    }
}

/// The clock, in seconds since 1970.
pub(super) fn now() -> u64 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

/// What was listed before and is not covered any more.
pub(super) fn no_longer_listed(before: &[TreePath], listed: &PathList) -> Vec<TreePath> {
    before.iter().filter(|path| !listed.covers(path)).cloned().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_service_that_fell_is_tried_again_ever_more_rarely_and_one_that_complained_at_once() {
        let held = |fell, falls| Held { files: Digest::of(b""), generation: 1, why: "x".into(), fell, falls };
        assert!(held(None, 0).is_due(1000));
        let waits = [(1, 600), (2, 1200), (3, 2400), (20, 21_600)];
        for (falls, wait) in waits {
            assert!(!held(Some(1000), falls).is_due(1000 + wait - 1), "{falls}");
            assert!(held(Some(1000), falls).is_due(1000 + wait), "{falls}");
        }
        assert!(held(Some(1000), 20).is_due(900), "a clock that was set back keeps nobody waiting");
    }
}
