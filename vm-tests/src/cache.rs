//! The folder that holds what is slow to make and outlives a build: `$ATLAS_CACHE`, else `$XDG_CACHE_HOME/atlas`, else
//! `~/.cache/atlas`. Everything in it can be deleted at any time; it is made again.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

/// The cache folder, made if it is not there.
///
/// # Errors
/// Neither variable nor `HOME` is set, or the folder cannot be made.
pub fn folder() -> Result<PathBuf> {
    let set = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let folder = set("ATLAS_CACHE")
        .or_else(|| set("XDG_CACHE_HOME").map(|base| base.join("atlas")))
        .or_else(|| set("HOME").map(|home| home.join(".cache/atlas")))
        .context("no place for the cache: none of ATLAS_CACHE, XDG_CACHE_HOME and HOME is set")?;
    fs::create_dir_all(&folder).with_context(|| format!("making the cache folder {}", folder.display()))?;
    Ok(folder)
}

/// Returns `folder()/name`, made by `make` in a temporary folder beside it and renamed when whole. A second process that
/// wants the same waits for the first.
///
/// # Errors
/// The cache cannot be written, or what `make` fails with.
pub fn made_once(name: &str, make: impl FnOnce(&Path) -> Result<()>) -> Result<PathBuf> {
    let cache = folder()?;
    let done = cache.join(name);
    let lock_path = cache.join(format!("{name}.lock"));
    let lock = fs::File::create(&lock_path).with_context(|| format!("making {}", lock_path.display()))?;
    lock.lock().with_context(|| format!("locking {}", lock_path.display()))?;
    if done.is_dir() {
        return Ok(done);
    }
    let building = tempfile::Builder::new().prefix("making-").tempdir_in(&cache)?;
    make(building.path())?;
    fs::rename(building.path(), &done).with_context(|| format!("publishing {}", done.display()))?;
    Ok(done)
}
