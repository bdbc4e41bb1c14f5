//! Writing an initramfs: a cpio archive in the format `newc`, which the kernel unpacks.
//!
//! ```text
//! entry   "070701" · 13 numbers of 8 hex digits · name, NUL · padding to 4 · content · padding to 4
//! archive entries · an entry named TRAILER!!!
//! ```

use std::collections::BTreeSet;
use std::path::Path;

use anyhow::{Context, Result};

const DIRECTORY: u32 = 0o040_755;
const REGULAR: u32 = 0o100_000;

/// An archive in the making. Folders are added as they are needed; what is there already is not added twice.
#[derive(Debug, Default)]
pub struct Archive {
    bytes: Vec<u8>,
    names: BTreeSet<String>,
}

impl Archive {
    /// Adds a file owned by root. `name` has no leading slash; `mode` is the permission bits.
    pub fn file(&mut self, name: &str, mode: u32, content: &[u8]) {
        let parents = name.match_indices('/').map(|(at, _)| &name[..at]);
        for parent in parents {
            if self.names.insert(parent.to_owned()) {
                self.entry(parent, DIRECTORY, &[]);
            }
        }
        if self.names.insert(name.to_owned()) {
            self.entry(name, REGULAR | mode, content);
        }
    }

    /// Adds the content of a file of this machine.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn copy(&mut self, name: &str, mode: u32, source: &Path) -> Result<()> {
        let content = std::fs::read(source).with_context(|| format!("reading {}", source.display()))?;
        self.file(name, mode, &content);
        Ok(())
    }

    /// Writes the archive, uncompressed.
    ///
    /// # Errors
    /// `path` cannot be written.
    pub fn write(mut self, path: &Path) -> Result<()> {
        self.entry("TRAILER!!!", 0, &[]);
        std::fs::write(path, &self.bytes).with_context(|| format!("writing {}", path.display()))
    }

    fn entry(&mut self, name: &str, mode: u32, content: &[u8]) {
        let inode = self.names.len() as u32;
        // inode, mode, uid, gid, links, mtime, size, device (2), special device (2), length of the name with its NUL, checksum
        let numbers = [inode, mode, 0, 0, 1, 0, content.len() as u32, 0, 0, 0, 0, name.len() as u32 + 1, 0];
        self.bytes.extend(b"070701");
        numbers.iter().for_each(|number| self.bytes.extend(format!("{number:08x}").bytes()));
        self.bytes.extend(name.bytes().chain([0]));
        self.pad();
        self.bytes.extend(content);
        self.pad();
    }

    fn pad(&mut self) {
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_is_laid_out_as_the_kernel_reads_it() {
        let mut archive = Archive::default();
        archive.file("a/bc", 0o644, b"hello");
        archive.file("a/bc", 0o644, b"again");
        let text = String::from_utf8(archive.bytes).unwrap();
        let folder = "070701000000010000 41ed".replace(' ', "");
        assert!(text.starts_with(&folder), "{text}");
        // 110 bytes of header, "a\0" fills up to a multiple of 4.
        assert_eq!(&text[110..112], "a\0");
        assert_eq!(&text[112..118], "070701");
        assert_eq!(&text[112 + 110..112 + 110 + 5], "a/bc\0");
        assert_eq!(&text[112 + 116..], "hello\0\0\0");
    }
}
