//! A disk: a raw image file with a serial number, that is in one server or on the table, never in two places.
//!
//! Three things see to that. A [`Disk`] is a value without `Clone`: put into a server it is moved, and comes back only when the
//! server is off. Its file is held with an exclusive `flock` for as long as the value lives, so that no second `Disk` can be
//! made of the same image, in this process or another. And QEMU holds its own lock on the image while it runs.
//!
//! What a guest has been told is written lies in the image file (in the page cache of this machine, which outlives QEMU). So
//! cutting the power loses what the guest had not yet sent to the disk, and nothing else.

use std::ffi::OsStr;
use std::fs::{File, OpenOptions, TryLockError};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};

use crate::Trigger;

/// virtio-blk carries no more than this many bytes of a serial number.
const SERIAL_MAX: usize = 20;

/// A disk on the table: see the module's text.
#[derive(Debug)]
pub struct Disk {
    serial: String,
    path: PathBuf,
    file: File,
    record: Option<PathBuf>,
    is_write_protected: bool,
    falls_silent: Option<Trigger>,
}

impl Disk {
    /// An empty disk of `size_mib` MiB; the file takes up only what is written to it.
    ///
    /// # Errors
    /// The file exists, or cannot be made; or `serial` is not 1 to 20 of `A-Z a-z 0-9 . _ -`.
    pub fn blank(path: &Path, serial: &str, size_mib: u64) -> Result<Self> {
        let doing = || format!("making the disk {serial} in {}", path.display());
        OpenOptions::new()
            .write(true)
            .create_new(true)
            .open(path)
            .and_then(|file| file.set_len(size_mib << 20))
            .with_context(doing)?;
        Self::open(path, serial)
    }

    /// A new disk in `path` with what the image `source` holds. Holes stay holes; extents are shared where the file system can.
    ///
    /// # Errors
    /// As [`Disk::blank`]; or `source` cannot be read.
    pub fn copy_of(source: &Path, path: &Path, serial: &str) -> Result<Self> {
        ensure!(!path.exists(), "{} exists already, not overwritten by a copy of {}", path.display(), source.display());
        output_of("cp", &["--reflink=auto".as_ref(), "--sparse=always".as_ref(), source.as_ref(), path.as_ref()])?;
        Self::open(path, serial)
    }

    /// The disk whose image is `path`.
    ///
    /// # Errors
    /// Another [`Disk`], here or in another process, holds the image; or it cannot be opened; or `serial` is malformed.
    pub fn open(path: &Path, serial: &str) -> Result<Self> {
        let fine = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
        ensure!(
            (1..=SERIAL_MAX).contains(&serial.len()) && serial.chars().all(fine),
            "{serial:?} is no serial number: 1 to {SERIAL_MAX} of A-Z a-z 0-9 . _ -"
        );
        let path = path.canonicalize().with_context(|| format!("finding the image {}", path.display()))?;
        ensure!(
            !path.to_string_lossy().contains(','),
            "{}: QEMU takes no image with a comma in its path",
            path.display()
        );
        let file = OpenOptions::new().read(true).write(true).open(&path);
        let file = file.with_context(|| format!("opening the image {}", path.display()))?;
        match file.try_lock() {
            Ok(()) => Ok(Self {
                serial: serial.to_owned(),
                path,
                file,
                record: None,
                is_write_protected: false,
                falls_silent: None,
            }),
            Err(TryLockError::WouldBlock) => bail!(
                "the disk {serial} ({}) is held already: a disk is in one server or on the table, not in two places",
                path.display()
            ),
            Err(TryLockError::Error(error)) => Err(error).with_context(|| format!("locking {}", path.display())),
        }
    }

    /// The serial number, as the guest sees it in `/sys/block/vdX/serial`.
    pub fn serial(&self) -> &str {
        &self.serial
    }

    /// The image file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// From the next time that its server is switched on, what the guest writes is recorded in the new file `log`, from its beginning at each
    /// start; see [`Replay`](crate::Replay).
    ///
    /// # Errors
    /// The file exists, or cannot be made.
    pub fn record(&mut self, log: &Path) -> Result<()> {
        let doing = || format!("making the record of the disk {} in {}", self.serial, log.display());
        ensure!(!log.to_string_lossy().contains(','), "{}: QEMU takes no path with a comma", log.display());
        File::create_new(log).with_context(doing)?;
        self.record = Some(log.canonicalize().with_context(doing)?);
        Ok(())
    }

    /// From the next start of its server on, no guest can write to it.
    pub fn write_protect(&mut self) {
        self.is_write_protected = true;
    }

    /// From the next start of its server on, it stops answering with this access: see [`Server::has_fallen_silent`](crate::Server::has_fallen_silent).
    pub fn fall_silent(&mut self, at: Trigger) {
        self.falls_silent = Some(at);
    }

    pub(crate) fn falls_silent(&self) -> Option<&Trigger> {
        self.falls_silent.as_ref()
    }

    /// Hides all that lies at and behind byte `length`, as some docks hide the end of a disk.
    ///
    /// # Errors
    /// The image cannot be shortened.
    pub fn cut_off(&mut self, length: u64) -> Result<()> {
        ensure!(length < self.size_bytes()?, "the disk {} has no byte {length}", self.serial);
        self.file.set_len(length).with_context(|| format!("shortening the disk {}", self.serial))
    }

    /// How a QEMU is to open it, as the beginning of the value of its option `-drive`.
    pub(crate) fn drive(&self) -> String {
        let image = self.path.display();
        let read_only = if self.is_write_protected { "readonly=on," } else { "" };
        match &self.record {
            // unsafe: flushing to this machine's own disk would protect against its power failing, not the guest's.
            None => format!("{read_only}format=raw,cache=unsafe,discard=unmap,file={image}"),
            // Here a flush has to come as far as into the record, and no further.
            Some(log) => format!(
                "driver=blklogwrites,cache=writeback,file.driver=raw,file.cache.no-flush=on,file.file.driver=file,\
                 file.file.cache.no-flush=on,file.file.filename={image},log.driver=file,log.cache.no-flush=on,log.filename={}",
                log.display()
            ),
        }
    }

    /// Its size in bytes.
    ///
    /// # Errors
    /// The file cannot be asked.
    pub fn size_bytes(&self) -> Result<u64> {
        Ok(self.file.metadata()?.len())
    }

    /// A second disk with the same content, as of now, in the new file `path`.
    ///
    /// # Errors
    /// As [`Disk::copy_of`].
    pub fn copy(&self, path: &Path, serial: &str) -> Result<Self> {
        Self::copy_of(&self.path, path, serial)
    }

    /// Copies a file out of the ext4 file system on it, which nobody may be writing to; gives where it was copied to.
    ///
    /// # Errors
    /// It is not there, or empty.
    pub fn take_file(&self, file: &str, to: &Path) -> Result<PathBuf> {
        let request = format!("dump {file} {}", to.display());
        output_of("/sbin/debugfs", &["-R".as_ref(), request.as_ref(), self.path.as_ref()])?;
        // debugfs reports success whatever happens.
        ensure!(to.metadata().is_ok_and(|file| file.len() > 0), "the disk {} has no {file}", self.serial);
        Ok(to.to_owned())
    }

    /// `length` bytes from byte `offset` on.
    ///
    /// # Errors
    /// The disk ends before, or cannot be read.
    pub fn read_at(&self, offset: u64, length: usize) -> Result<Vec<u8>> {
        let mut bytes = vec![0; length];
        self.file
            .read_exact_at(&mut bytes, offset)
            .with_context(|| format!("reading {length} bytes at {offset} of the disk {}", self.serial))?;
        Ok(bytes)
    }

    /// Overwrites what lies at byte `offset`: how faults get onto a disk.
    ///
    /// # Errors
    /// The bytes reach beyond the end of the disk, or cannot be written.
    pub fn write_at(&mut self, offset: u64, bytes: &[u8]) -> Result<()> {
        let end = offset.checked_add(bytes.len() as u64);
        ensure!(
            end.is_some_and(|end| self.size_bytes().is_ok_and(|size| end <= size)),
            "{} bytes at {offset} reach beyond the end of the disk {}",
            bytes.len(),
            self.serial
        );
        self.file
            .write_all_at(bytes, offset)
            .with_context(|| format!("writing {} bytes at {offset} of the disk {}", bytes.len(), self.serial))
    }

    /// The SHA-256 of the whole content in hexadecimal, holes read as zeros: equal before and after means that nothing was written,
    /// or only what was there. Uses coreutils, since our own code is not optimised in tests.
    ///
    /// # Errors
    /// `sha256sum` fails.
    pub fn sha256(&self) -> Result<String> {
        let line = output_of("sha256sum", &["--".as_ref(), self.path.as_ref()])?;
        // A name with a backslash or newline is marked with a leading backslash.
        let digest = line.trim_start_matches('\\').split_whitespace().next();
        digest.map(str::to_owned).with_context(|| format!("sha256sum of {} said nothing", self.path.display()))
    }
}

/// Runs a host program that must succeed; its standard output.
pub(crate) fn output_of(program: &str, args: &[&OsStr]) -> Result<String> {
    let output = Command::new(program).args(args).output().with_context(|| format!("running {program}"))?;
    ensure!(
        output.status.success(),
        "{program} {}: {}: {}",
        args.join(OsStr::new(" ")).to_string_lossy(),
        output.status,
        String::from_utf8_lossy(&output.stderr).trim()
    );
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_image_makes_one_disk_at_a_time() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.img");
        let disk = Disk::blank(&path, "A", 1).unwrap();
        let error = Disk::open(&path, "B").unwrap_err().to_string();
        assert!(error.contains("is held already"), "{error}");
        drop(disk);
        Disk::open(&path, "B").unwrap();
    }

    #[test]
    fn a_copy_has_the_content_and_a_byte_changes_the_digest() {
        let folder = tempfile::tempdir().unwrap();
        let mut disk = Disk::blank(&folder.path().join("a.img"), "A", 2).unwrap();
        disk.write_at(1 << 20, b"here").unwrap();
        let copy = disk.copy(&folder.path().join("b.img"), "B").unwrap();
        assert_eq!(copy.read_at(1 << 20, 4).unwrap(), b"here");
        assert_eq!(copy.size_bytes().unwrap(), 2 << 20);
        assert_eq!(copy.sha256().unwrap(), disk.sha256().unwrap());
        disk.write_at(0, b"x").unwrap();
        assert_ne!(copy.sha256().unwrap(), disk.sha256().unwrap());
    }

    #[test]
    fn a_disk_does_not_grow_and_its_serial_fits_virtio() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.img");
        let mut disk = Disk::blank(&path, "A", 1).unwrap();
        assert!(disk.write_at((1 << 20) - 2, b"four").is_err());
        assert_eq!(disk.size_bytes().unwrap(), 1 << 20);
        drop(disk);
        assert!(Disk::open(&path, "").is_err());
        assert!(Disk::open(&path, "a,b").is_err());
        assert!(Disk::open(&path, "123456789012345678901").is_err());
    }
}
