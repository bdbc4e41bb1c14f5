//! What is slow to make, kept outside the build tree, keyed by what made it.
//!
//! ```text
//! CACHE/rootfs.lock            held while one is made; never deleted, never replaced
//! CACHE/rootfs-3f9a…/          complete: it got this name by a rename, when nothing was left to do
//! CACHE/rootfs-3f9a….partial/  being made by the holder of the lock, or left by one that was killed
//! ```

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use anyhow::{Context, Result, bail};
use sha2::{Digest, Sha256};

/// How many entries of a kind stay. One is in use; the others make going back and forth between two states cheap.
const KEPT: usize = 4;

/// A directory of finished results.
#[derive(Debug, Clone)]
pub struct Cache {
    directory: PathBuf,
}

/// The digest of everything that decides what a result will be.
///
/// Each input goes in with its length, so that two inputs never read as one other.
#[derive(Default)]
pub(crate) struct Key(Sha256);

impl Key {
    pub(crate) fn with(mut self, input: &[u8]) -> Self {
        self.0.update((input.len() as u64).to_le_bytes());
        self.0.update(input);
        self
    }

    /// Adds a file, or every file below a directory with its path and whether it is executable.
    pub(crate) fn with_files(self, path: &Path) -> Result<Self> {
        let mut files = Vec::new();
        list(path, &mut files)?;
        files.sort();
        files.iter().try_fold(self, |key, file| {
            let bytes = fs::read(file).with_context(|| format!("cannot read {}", file.display()))?;
            let name = file.strip_prefix(path).unwrap_or(file).as_os_str().as_encoded_bytes();
            Ok(key.with(name).with(&[u8::from(is_executable(file)?)]).with(&bytes))
        })
    }

    /// 16 hexadecimal digits.
    fn text(self) -> String {
        self.0.finalize().iter().take(8).map(|byte| format!("{byte:02x}")).collect()
    }
}

fn list(path: &Path, files: &mut Vec<PathBuf>) -> Result<()> {
    if !path.is_dir() {
        files.push(path.to_path_buf());
        return Ok(());
    }
    for entry in fs::read_dir(path).with_context(|| format!("cannot list {}", path.display()))? {
        list(&entry?.path(), files)?;
    }
    Ok(())
}

/// Whether the owner may execute the file: all of a mode that git keeps.
pub(crate) fn is_executable(file: &Path) -> Result<bool> {
    use std::os::unix::fs::PermissionsExt;
    let metadata = fs::metadata(file).with_context(|| format!("cannot look at {}", file.display()))?;
    Ok(metadata.permissions().mode() & 0o100 != 0)
}

impl Cache {
    /// `$ATLAS_CACHE`, or `atlas` below `$XDG_CACHE_HOME`, or below `~/.cache`.
    ///
    /// # Errors
    /// Where none of these variables is set.
    pub fn of_user() -> Result<Self> {
        let variable = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        let directory = variable("ATLAS_CACHE")
            .or_else(|| variable("XDG_CACHE_HOME").map(|base| base.join("atlas")))
            .or_else(|| variable("HOME").map(|home| home.join(".cache/atlas")));
        match directory {
            Some(directory) => Ok(Cache { directory }),
            None => bail!("no place for the cache: set ATLAS_CACHE to a directory on a disk with 8 GB free"),
        }
    }

    /// A cache in this directory, which is made when it is first needed.
    #[must_use]
    pub fn at(directory: PathBuf) -> Self {
        Cache { directory }
    }

    /// The directory that holds everything kept.
    #[must_use]
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// The directory of the entry of this kind and key; `make` fills it where it is not there yet.
    ///
    /// Processes that ask for the same entry at once wait for the first of them and get what that one made.
    pub(crate) fn entry(&self, kind: &str, key: Key, make: impl FnOnce(&Path) -> Result<()>) -> Result<PathBuf> {
        fs::create_dir_all(&self.directory).with_context(|| format!("cannot make {}", self.directory.display()))?;
        let _held = self.lock(kind)?;
        let name = format!("{kind}-{}", key.text());
        let entry = self.directory.join(&name);
        if !entry.exists() {
            let partial = self.directory.join(format!("{name}.partial"));
            if partial.exists() {
                fs::remove_dir_all(&partial).with_context(|| format!("cannot remove {}", partial.display()))?;
            }
            fs::create_dir(&partial).with_context(|| format!("cannot make {}", partial.display()))?;
            make(&partial)?;
            fs::rename(&partial, &entry).with_context(|| format!("cannot publish {}", entry.display()))?;
        }
        // The time of last use, by which the oldest are dropped.
        File::open(&entry)?.set_modified(SystemTime::now())?;
        self.drop_oldest(kind)?;
        Ok(entry)
    }

    fn lock(&self, kind: &str) -> Result<File> {
        let path = self.directory.join(format!("{kind}.lock"));
        let file = File::options().create(true).truncate(false).write(true).open(&path);
        let file = file.with_context(|| format!("cannot open {}", path.display()))?;
        file.lock().with_context(|| format!("cannot lock {}", path.display()))?;
        Ok(file)
    }

    fn drop_oldest(&self, kind: &str) -> Result<()> {
        let prefix = format!("{kind}-");
        let mut entries = Vec::new();
        for entry in fs::read_dir(&self.directory)? {
            let entry = entry?;
            let name = entry.file_name();
            let is_of_kind = name.to_str().and_then(|name| name.strip_prefix(&prefix)).is_some_and(is_key);
            if is_of_kind {
                entries.push((entry.metadata()?.modified()?, entry.path()));
            }
        }
        entries.sort_by_key(|(last_used, _)| std::cmp::Reverse(*last_used));
        for (_, old) in entries.iter().skip(KEPT) {
            fs::remove_dir_all(old).with_context(|| format!("cannot remove {}", old.display()))?;
        }
        Ok(())
    }
}

fn is_key(text: &str) -> bool {
    text.len() == 16 && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    fn key(input: &str) -> Key {
        Key::default().with(input.as_bytes())
    }

    #[test]
    fn an_entry_is_made_once_and_then_found() {
        let folder = tempfile::tempdir().unwrap();
        let cache = Cache::at(folder.path().join("cache"));
        let made = Cell::new(0);
        let make = |entry: &Path| {
            made.set(made.get() + 1);
            Ok(fs::write(entry.join("result"), "whole")?)
        };
        let first = cache.entry("thing", key("a"), make).unwrap();
        let second = cache.entry("thing", key("a"), make).unwrap();
        assert_eq!((first.clone(), made.get()), (second, 1));
        assert_eq!(fs::read_to_string(first.join("result")).unwrap(), "whole");
    }

    #[test]
    fn what_failed_half_way_has_no_name_that_anyone_reads_and_is_made_afresh() {
        let folder = tempfile::tempdir().unwrap();
        let cache = Cache::at(folder.path().to_path_buf());
        let failed = cache.entry("thing", key("a"), |entry| {
            fs::write(entry.join("half"), "")?;
            bail!("the disk is full")
        });
        assert_eq!(failed.unwrap_err().to_string(), "the disk is full");
        let entry = cache.entry("thing", key("a"), |entry| Ok(fs::write(entry.join("whole"), "")?)).unwrap();
        assert!(entry.join("whole").exists() && !entry.join("half").exists());
    }

    #[test]
    fn only_the_entries_used_last_are_kept_and_other_kinds_are_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let cache = Cache::at(folder.path().to_path_buf());
        let other = cache.entry("thing-else", key("x"), |_| Ok(())).unwrap();
        let first = cache.entry("thing", key("0"), |_| Ok(())).unwrap();
        let entries: Vec<_> =
            (1..=KEPT).map(|n| cache.entry("thing", key(&n.to_string()), |_| Ok(())).unwrap()).collect();
        assert!(!first.exists(), "the oldest is dropped");
        assert!(entries.iter().all(|entry| entry.exists()));
        assert!(other.exists());
    }

    #[test]
    fn two_inputs_never_have_the_key_of_one_other() {
        let apart = Key::default().with(b"ab").with(b"c").text();
        assert_ne!(apart, Key::default().with(b"a").with(b"bc").text());
        assert_ne!(apart, Key::default().with(b"abc").text());
    }

    #[test]
    fn the_key_of_files_knows_their_names_content_and_whether_they_can_be_run() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let digest = || Key::default().with_files(folder.path()).unwrap().text();
        fs::write(folder.path().join("a"), "1").unwrap();
        let mut seen = vec![digest()];
        fs::write(folder.path().join("a"), "2").unwrap();
        seen.push(digest());
        fs::rename(folder.path().join("a"), folder.path().join("b")).unwrap();
        seen.push(digest());
        fs::set_permissions(folder.path().join("b"), fs::Permissions::from_mode(0o755)).unwrap();
        seen.push(digest());
        seen.sort();
        seen.dedup();
        assert_eq!(seen.len(), 4);
    }

    #[test]
    fn two_who_ask_at_once_get_one_entry_made_by_one_of_them() {
        use std::sync::atomic::{AtomicUsize, Ordering};
        let folder = tempfile::tempdir().unwrap();
        let cache = Cache::at(folder.path().to_path_buf());
        let made = AtomicUsize::new(0);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    cache.entry("thing", key("a"), |entry| {
                        made.fetch_add(1, Ordering::SeqCst);
                        Ok(fs::write(entry.join("whole"), "")?)
                    })
                });
            }
        });
        assert_eq!(made.load(Ordering::SeqCst), 1);
    }
}
