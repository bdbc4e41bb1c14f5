//! What lies on a device, whatever that is: asked of libblkid.
//!
//! libblkid is linked from the system's C library's side. Programs that are built for musl have no disks to look at, and do without.

use crate::FileError;
use libblkid_rs::{BlkidProbe, BlkidProbeRet};
use std::{io, path::Path};

/// What libblkid recognises on a device: a file system, a RAID member, a partition table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Content {
    /// `ext4`, `linux_raid_member`, `gpt`, …
    pub kind: String,
    /// Its label or name, if it has one.
    pub label: Option<String>,
}

/// Looks for anything that somebody may want to keep. `None` means that libblkid knows nothing that begins like this.
pub fn content(device: &Path) -> Result<Option<Content>, FileError> {
    let failed = |error: libblkid_rs::BlkidErr| {
        FileError::on("look for content on", device)(io::Error::other(error.to_string()))
    };
    let mut probe = BlkidProbe::new_from_filename(device).map_err(failed)?;
    probe.enable_superblocks(true).map_err(failed)?;
    probe.enable_partitions(true).map_err(failed)?;
    loop {
        match probe.do_probe().map_err(failed)? {
            BlkidProbeRet::Done => return Ok(None),
            BlkidProbeRet::Success => {
                let kind = probe.lookup_value("TYPE").or_else(|_| probe.lookup_value("PTTYPE"));
                if let Ok(kind) = kind {
                    return Ok(Some(Content { kind, label: probe.lookup_value("LABEL").ok() }));
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image(dir: &Path, name: &str, size_bytes: u64) -> Device {
        let path = dir.join(name);
        File::create(&path).unwrap().set_len(size_bytes).unwrap();
        Device { path, size_bytes, ..Device::default() }
    }

    #[test]
    fn a_disk_that_holds_anything_is_told_from_an_empty_one() {
        let tmp = tempfile::tempdir().unwrap();
        let device = image(tmp.path(), "d", 8 << 20);
        assert_eq!(content(&device.path).unwrap(), None);
        std::process::Command::new("mke2fs")
            .args(["-q", "-t", "ext4", "-L", "books"])
            .arg(&device.path)
            .status()
            .unwrap();
        assert_eq!(content(&device.path).unwrap(), Some(Content { kind: "ext4".into(), label: Some("books".into()) }));
    }
}
