//! The Debian package and the disk image of a server.
//!
//! What the tests boot is what a user would install: a Debian made by `mmdebstrap`, and on it the package `atlas`,
//! installed by `dpkg`. There are three of them, one for each [`Release`] that ATLAS runs on; a release that nobody asks for is
//! never made. Every step's result is kept in a cache outside the build tree, under a digest of what made it:
//!
//! ```text
//! rootfs/   package list, files ──mmdebstrap──▶ rootfs.tar ─┬──────────────▶ plain image    Debian, for comparison
//! programs, integration files ──dpkg-deb──▶ atlas_V_amd64.deb ┴─dpkg -i──▶ server image     Debian with ATLAS
//!
//! an image:  root.img        ext4, raw and sparse, label ATLAS-ROOT, no partition table
//!            kernel, initrd  the ones that are in root.img's /boot
//!            kernel-release  for example 6.1.0-40-cloud-amd64
//!
//! names in the cache: rootfs-bookworm-KEY, plain-bookworm-KEY, server-bookworm-KEY; rootfs-bookworm-services-KEY where it has more;
//!                     package-KEY is one for all
//! ```
//!
//! An image is shared by everyone who tests: copy `root.img` before a machine writes to it.

mod cache;
mod command;
mod disk;
mod package;
mod personality;
mod programs;
mod rootfs;

use std::path::{Path, PathBuf};

pub use cache::Cache;
pub use disk::{KERNEL_ARGUMENTS, ROOT_LABEL, ROOT_PASSWORD, ServerImage, plain_image, server_image};
pub use package::{Package, package};
pub use personality::{PlacedFile, place_files};
pub use programs::{Program, QUICK_TARGET, has_quick_target, programs_of};
pub use rootfs::{Release, root_file_system, run_in_root_file_system};

/// From what, to where, and who is told.
pub struct Options<'a> {
    /// The repository whose programs and integration files are packaged.
    pub repository: PathBuf,
    /// Where what is slow to make is kept.
    pub cache: Cache,
    /// Which Debian; nothing of the package depends on it.
    pub release: Release,
    /// What a server has besides: a directory in `rootfs/`, laid out as that is.
    pub more: Option<&'static str>,
    /// Called with one line, such as `root file system: made by mmdebstrap`, before each step that takes its time.
    pub progress: &'a (dyn Fn(&str) + Sync),
}

impl<'a> Options<'a> {
    /// This repository, the cache of the user who runs this, and Debian 12.
    ///
    /// # Errors
    /// Where neither `$ATLAS_CACHE`, `$XDG_CACHE_HOME` nor `$HOME` says where a cache may be.
    pub fn new(progress: &'a (dyn Fn(&str) + Sync)) -> anyhow::Result<Self> {
        let repository = Path::new(env!("CARGO_MANIFEST_DIR")).parent().map(Path::to_path_buf).unwrap_or_default();
        Ok(Options { repository, cache: Cache::of_user()?, release: Release::default(), more: None, progress })
    }

    /// The same with another Debian.
    #[must_use]
    pub fn on(self, release: Release) -> Self {
        Options { release, ..self }
    }

    /// The same with what `rootfs/MORE/` adds.
    #[must_use]
    pub fn with(self, more: &'static str) -> Self {
        Options { more: Some(more), ..self }
    }

    /// What the cache calls servers that differ in this.
    fn kind(&self) -> String {
        [self.release.suite()].into_iter().chain(self.more).collect::<Vec<_>>().join("-")
    }
}
