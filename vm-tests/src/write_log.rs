//! What a guest wrote to a disk, in order, with its flushes; and the disk as a power cut at any moment would have left it.
//!
//! The image of a disk has all that a guest was told is written. A real disk keeps what it is told in a cache, and when the power goes, of what
//! came since the last flush each part is there or not. QEMU's driver `blklogwrites` records a disk's writes and flushes in the form
//! of Linux's dm-log-writes, so that any such state can be made afterwards:
//!
//! ```text
//!   sector 0       superblock: magic, version, …          (left out of account: it lags behind)
//!   sector 1       an entry: sector, sectors, flags, 0    little-endian, 64 bits each
//!   sector 2 …     its data, if it is a write
//!   …              the next entry
//! ```

use std::fs::File;
use std::io::{BufReader, ErrorKind, Read as _};
use std::path::Path;

use anyhow::{Context as _, Result, bail};

use crate::Disk;

const SECTOR: usize = 512;
/// More than QEMU lets a guest write at once.
const LONGEST_WRITE: u64 = 64 << 20;
const FLUSH: u64 = 1;

/// A recorded disk on its way from what it was before the record begins. What was flushed is in its image; the rest waits.
#[derive(Debug)]
pub struct Replay {
    log: BufReader<File>,
    /// How much of the record has been read.
    at: u64,
    flushed: Disk,
    waiting: Vec<Write>,
}

#[derive(Debug)]
struct Write {
    offset: u64,
    bytes: Vec<u8>,
}

/// What a power cut did to the writes that no flush had followed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cut {
    /// So many were there.
    pub kept: usize,
    /// And so many were not.
    pub lost: usize,
}

impl Replay {
    /// `before` is a copy of the disk as it was when its server was switched on, and `log` what [`Disk::record`] wrote since.
    ///
    /// # Errors
    /// The record cannot be read.
    pub fn begin(log: &Path, before: Disk) -> Result<Self> {
        let opened = File::open(log).with_context(|| format!("opening the record {}", log.display()))?;
        let mut log = BufReader::with_capacity(1 << 20, opened);
        log.read_exact(&mut [0; SECTOR]).context("the record has not begun")?;
        Ok(Self { log, at: SECTOR as u64, flushed: before, waiting: Vec::new() })
    }

    /// Goes on to where the record was `length` bytes long.
    ///
    /// # Errors
    /// The record is not one, or ends before; or the disk cannot be written.
    pub fn advance(&mut self, length: u64) -> Result<()> {
        while self.at < length {
            let at = self.at;
            self.take().with_context(|| format!("the record of {} at byte {at}", self.flushed.serial()))?;
        }
        Ok(())
    }

    fn take(&mut self) -> Result<()> {
        let mut entry = [0; SECTOR];
        self.log.read_exact(&mut entry)?;
        let number = |at: usize| Ok::<u64, anyhow::Error>(u64::from_le_bytes(entry[at * 8..(at + 1) * 8].try_into()?));
        let (sector, sectors, flags) = (number(0)?, number(1)?, number(2)?);
        let length = sectors.checked_mul(SECTOR as u64).filter(|length| *length <= LONGEST_WRITE);
        let offset = sector.checked_mul(SECTOR as u64);
        let (Some(length), Some(offset)) = (length, offset) else { bail!("no write is of {sectors} sectors") };
        self.at += SECTOR as u64 + length;
        match (flags, length) {
            (FLUSH, 0) => {
                for write in self.waiting.drain(..) {
                    self.flushed.write_at(write.offset, &write.bytes)?;
                }
            }
            (0, 1..) => {
                let mut bytes = vec![0; usize::try_from(length)?];
                // What is zero at the end of the record may be a hole beyond the end of the file.
                match self.log.read_exact(&mut bytes) {
                    Err(error) if error.kind() == ErrorKind::UnexpectedEof => bytes.fill(0),
                    read => read?,
                }
                self.waiting.push(Write { offset, bytes });
            }
            _ => bail!("an entry of {sectors} sectors has the flags {flags}"),
        }
        Ok(())
    }

    /// The disk in the new image `path`, as it is when the power goes now: of what was not flushed, what `is_kept` says.
    ///
    /// # Errors
    /// The image cannot be made.
    pub fn cut(&self, path: &Path, mut is_kept: impl FnMut() -> bool) -> Result<(Disk, Cut)> {
        let mut disk = self.flushed.copy(path, self.flushed.serial())?;
        let mut cut = Cut { kept: 0, lost: 0 };
        for write in &self.waiting {
            if is_kept() {
                disk.write_at(write.offset, &write.bytes)?;
                cut.kept += 1;
            } else {
                cut.lost += 1;
            }
        }
        Ok((disk, cut))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(sector: u64, sectors: u64, flags: u64, data: &[u8]) -> Vec<u8> {
        let mut bytes = [sector, sectors, flags, 0].map(u64::to_le_bytes).concat();
        bytes.resize(SECTOR, 0);
        bytes.extend(data);
        bytes
    }

    fn replay(folder: &Path, entries: &[Vec<u8>]) -> Replay {
        let log = folder.join("log");
        std::fs::write(&log, [vec![0; SECTOR], entries.concat()].concat()).unwrap();
        Replay::begin(&log, Disk::blank(&folder.join("before"), "D", 1).unwrap()).unwrap()
    }

    #[test]
    fn what_was_flushed_is_there_and_of_the_rest_what_was_kept() {
        let folder = tempfile::tempdir().unwrap();
        let sector = |byte: u8| vec![byte; SECTOR];
        let entries = [
            entry(3, 1, 0, &sector(b'a')),
            entry(0, 0, FLUSH, &[]),
            entry(3, 1, 0, &sector(b'b')),
            entry(4, 1, 0, &sector(b'c')),
        ];
        let mut replay = replay(folder.path(), &entries);
        let at_end = |replay: &Replay, name: &str, kept: [bool; 2]| {
            let mut kept = kept.into_iter();
            let (disk, cut) = replay.cut(&folder.path().join(name), || kept.next().unwrap()).unwrap();
            (disk.read_at(3 * 512, 1).unwrap()[0], disk.read_at(4 * 512, 1).unwrap()[0], cut)
        };
        let length = |count: usize| (SECTOR + entries[..count].concat().len()) as u64;
        replay.advance(length(1)).unwrap();
        assert_eq!(at_end(&replay, "one", [false; 2]), (0, 0, Cut { kept: 0, lost: 1 }));
        replay.advance(length(2)).unwrap();
        assert_eq!(at_end(&replay, "two", [false; 2]), (b'a', 0, Cut { kept: 0, lost: 0 }));
        replay.advance(length(4)).unwrap();
        assert_eq!(at_end(&replay, "three", [false, true]), (b'a', b'c', Cut { kept: 1, lost: 1 }));
        assert_eq!(at_end(&replay, "four", [true, false]), (b'b', 0, Cut { kept: 1, lost: 1 }));
    }

    #[test]
    fn what_is_no_record_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        for (name, bad) in [
            ("flags", entry(1, 1, 64, &[0; SECTOR])),
            ("nothing", entry(0, 0, 0, &[])),
            ("too long", entry(1, u64::MAX / 2, 0, &[])),
            ("cut off", vec![0; 100]),
        ] {
            let folder = folder.path().join(name);
            std::fs::create_dir(&folder).unwrap();
            assert!(replay(&folder, &[bad]).advance(1 << 30).is_err(), "{name}");
        }
    }
}
