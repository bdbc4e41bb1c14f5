//! Keeping what is slow to make, in the folder where the images are kept too ([`atlas_image::Cache`]). Everything in it can be
//! deleted at any time; it is made again.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

/// The cache folder, made if it is not there.
///
/// # Errors
/// No variable says where it may be, or it cannot be made.
pub(crate) fn folder() -> Result<PathBuf> {
    let folder = atlas_image::Cache::of_user()?.directory().to_owned();
    fs::create_dir_all(&folder).with_context(|| format!("making the cache folder {}", folder.display()))?;
    Ok(folder)
}

/// Returns `folder()/name`, made by `make` in a temporary folder beside it and renamed when whole. A second process that
/// wants the same waits for the first.
///
/// # Errors
/// The cache cannot be written, or what `make` fails with.
pub(crate) fn made_once(name: &str, make: impl FnOnce(&Path) -> Result<()>) -> Result<PathBuf> {
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
