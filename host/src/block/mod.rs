//! The block devices of the machine, and what their superblocks say.
//!
//! Devices are found in `/sys/class/block`: disks, partitions, and what the device mapper builds. What else the kernel builds (md,
//! loop, RAM) is left out: the question is what lies on the disks themselves. Superblocks are read past the page cache, which may
//! hold what a running array has long since overwritten.

#[cfg(not(target_env = "musl"))]
mod content;
mod examine;
mod list;
mod unmounted;

pub use atlas_model::survey::Device;
#[cfg(not(target_env = "musl"))]
pub use content::{Content, content};
pub(crate) use examine::{Looked, survey_by};
pub use examine::{ext4_on, ext4_uuid, ext4_uuid_below, survey};
pub(crate) use examine::{open_direct, read_block};
pub(crate) use list::NOT_DISKS;
pub use list::Sources;
pub use unmounted::Unmounted;

use crate::FileError;
use std::{
    fs::File,
    io::{Seek, SeekFrom},
    path::Path,
};

/// All disks, partitions and mappings of this machine.
pub fn devices() -> Result<Vec<Device>, FileError> {
    Sources::default().devices()
}

/// The size of a block device or image file, in bytes.
pub fn size_bytes(path: &Path) -> Result<u64, FileError> {
    File::open(path).and_then(|mut file| file.seek(SeekFrom::End(0))).map_err(FileError::on("measure", path))
}
