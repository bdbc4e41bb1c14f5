//! Files of an ext4 file system that is not mounted, for somebody who only wants to know: see [`atlas_model::ext4::files`].

use crate::FileError;
use atlas_model::ext4::files::{Files, Inode, Unknown};
use std::{fs::File, os::unix::fs::FileExt, path::Path};

/// A file system on a device.
#[derive(Debug)]
pub struct Unmounted {
    device: File,
    begin_bytes: u64,
}

impl Unmounted {
    /// The one that begins at this byte of `device`.
    pub fn open(device: &Path, begin_bytes: u64) -> Result<Unmounted, FileError> {
        let device = File::open(device).map_err(FileError::on("open", device))?;
        Ok(Unmounted { device, begin_bytes })
    }

    /// The content of a file, at most `max` bytes; `None` where there is none.
    ///
    /// # Errors
    /// [`Unknown`]: it cannot be read without mounting the file system.
    pub fn file(&self, path: &[&str], max: usize) -> Result<Option<Vec<u8>>, Unknown> {
        self.find(path, |files, inode| files.content(inode, max))
    }

    /// Whether there is something at `path`; errors as above.
    pub fn has(&self, path: &[&str]) -> Result<bool, Unknown> {
        Ok(self.find(path, |_, _| Ok(()))?.is_some())
    }

    fn find<T>(
        &self,
        path: &[&str],
        found: impl FnOnce(&Files<'_>, &Inode) -> Result<T, Unknown>,
    ) -> Result<Option<T>, Unknown> {
        let read = |offset: u64, length: usize| {
            let mut bytes = vec![0; length];
            self.device.read_exact_at(&mut bytes, self.begin_bytes.checked_add(offset)?).ok()?;
            Some(bytes)
        };
        let files = Files::open(&read)?;
        let mut inode = files.root()?;
        for name in path {
            let Some(inner) = files.child(&inode, name)? else { return Ok(None) };
            inode = inner;
        }
        found(&files, &inode).map(Some)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    #[test]
    fn a_file_is_read_where_the_file_system_begins_later_on_the_device() {
        let tmp = tempfile::tempdir().unwrap();
        let (tree, image) = (tmp.path().join("tree"), tmp.path().join("image"));
        std::fs::create_dir_all(tree.join("SID_DATA")).unwrap();
        std::fs::write(tree.join("SID_DATA/MasterConfig"), "format = 1\n").unwrap();
        let begin_bytes = 1 << 20;
        File::create(&image).unwrap().set_len(9 << 20).unwrap();
        let made = Command::new("/sbin/mke2fs")
            .args(["-q", "-F", "-t", "ext4", "-E", &format!("offset={begin_bytes}"), "-d"])
            .arg(&tree)
            .arg(&image)
            .arg("8192k")
            .status()
            .unwrap();
        assert!(made.success());
        let unmounted = Unmounted::open(&image, begin_bytes).unwrap();
        assert_eq!(unmounted.file(&["SID_DATA", "MasterConfig"], 100), Ok(Some(b"format = 1\n".to_vec())));
        assert_eq!(unmounted.has(&["SID_DATA"]), Ok(true));
        assert_eq!(unmounted.file(&["SID_DATA", "PRI", "SnapshotEnvVersion"], 100), Ok(None));
        assert_eq!(Unmounted::open(&image, 0).unwrap().file(&["SID_DATA"], 100), Err(Unknown));
    }
}
