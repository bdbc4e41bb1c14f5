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
    use std::fs::File;

    #[test]
    fn a_disk_that_holds_anything_is_told_from_an_empty_one() {
        let tmp = tempfile::tempdir().unwrap();
        let device = tmp.path().join("d");
        File::create(&device).unwrap().set_len(8 << 20).unwrap();
        assert_eq!(content(&device).unwrap(), None);
        std::process::Command::new("mke2fs").args(["-q", "-t", "ext4", "-L", "books"]).arg(&device).status().unwrap();
        assert_eq!(content(&device).unwrap(), Some(Content { kind: "ext4".into(), label: Some("books".into()) }));
    }
}
