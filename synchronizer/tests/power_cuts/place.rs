//! Where the disks of the servers are mounted, for one thread alone.

use super::disk;
use atlas_host::mount;
use std::{
    path::{Path, PathBuf},
    process::Command,
};

/// A directory in memory: what is flushed there costs nothing.
#[derive(Debug)]
pub(crate) struct Memory(tempfile::TempDir);

impl Memory {
    pub(crate) fn new() -> Memory {
        let tmp = tempfile::tempdir().unwrap();
        mount::memory(tmp.path(), 512 << 20).unwrap();
        Memory(tmp)
    }

    pub(crate) fn path(&self) -> &Path {
        self.0.path()
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        // What is still in use goes with whoever uses it.
        let _ = Command::new("umount").arg("--lazy").arg(self.path()).output();
    }
}

/// A directory with the servers' trees, and the directories in it that are disks of their own, outer ones first.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    pub(crate) base: PathBuf,
    disks: &'static [&'static str],
}

impl Place {
    pub(crate) fn new(base: &Path, disks: &'static [&'static str]) -> Place {
        Place { base: base.to_owned(), disks }
    }

    pub(crate) fn disks(&self) -> impl Iterator<Item = PathBuf> + '_ {
        self.disks.iter().map(|disk| self.base.join(disk))
    }

    pub(crate) fn mount(&self, files: &[PathBuf]) {
        assert_eq!(files.len(), self.disks.len());
        for (file, at) in files.iter().zip(self.disks()) {
            std::fs::create_dir_all(&at).unwrap();
            disk::mount(file, &at);
        }
    }

    pub(crate) fn unmount(&self) {
        self.disks().collect::<Vec<_>>().iter().rev().for_each(|at| disk::unmount(at));
    }
}
