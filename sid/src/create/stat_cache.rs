//! What a Snapshot Create saw of every object, so that the next one need not read what has not changed since.
//!
//! ```text
//! SID_DATA/.stat-cache-PRI
//!   magic, key (32 bytes), when the pass began (8)       numbers are little-endian
//!   one record for each object, in the order of the Manifest:
//!     set (1), length of the path (2), path, dev ino size mtime ctime (8 each), mode uid gid (4 each)
//!   how many records (8), magic
//! ```
//!
//! The key names everything that the records hold for: the machine, the published Manifest, the converters. A file with another key, or one
//! that is not whole, is as none: then everything is read.
//!
//! An object that changed less than [`RACY`] before the pass began, or after, could have changed once more within the same tick of the clock
//! after it was read. It is read again, as git does with what it calls racily clean.

use crate::layout::SidError;
use atlas_host::{FileError, durable::temp_name, stamp::Stamp, tree::Dir};
use atlas_model::{TreePath, manifest::FileSet};
use std::{
    ffi::{OsStr, OsString},
    fs::File,
    io::{self, BufReader, BufWriter, Read, Seek, SeekFrom, Write},
    time::Duration,
};

const MAGIC: &[u8; 16] = b"atlas stat v1\n\0\0";
const HEADER: u64 = 16 + 32 + 8;
const SETS: [FileSet; 2] = [FileSet::Ident, FileSet::Sync];

/// How near to the beginning of a pass a change may lie and be hidden by the coarseness of a clock. The kernel's ticks are of 10 ms at
/// most; a file server's may be of a second or two.
pub(crate) const RACY: Duration = Duration::from_secs(2);

/// What a record holds for: a digest of all that it depends on.
pub(crate) type Key = [u8; 32];

/// One object as it was seen.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Record {
    pub(crate) is_sync: bool,
    pub(crate) path: Vec<u8>,
    pub(crate) stamp: Stamp,
}

impl Record {
    pub(crate) fn set(&self) -> FileSet {
        SETS[usize::from(self.is_sync)]
    }

    fn write(&self, out: &mut impl Write) -> io::Result<u64> {
        let Record { is_sync, path, stamp } = self;
        let length = u16::try_from(path.len()).map_err(io::Error::other)?;
        let mut bytes = [0; 3 + 40 + 12];
        bytes[0] = u8::from(*is_sync);
        bytes[1..3].copy_from_slice(&length.to_le_bytes());
        let eights = [stamp.dev, stamp.ino, stamp.size, stamp.mtime_ns.cast_unsigned(), stamp.ctime_ns.cast_unsigned()];
        for (place, number) in bytes[3..43].chunks_exact_mut(8).zip(eights) {
            place.copy_from_slice(&number.to_le_bytes());
        }
        for (place, number) in bytes[43..].chunks_exact_mut(4).zip([stamp.mode, stamp.uid, stamp.gid]) {
            place.copy_from_slice(&number.to_le_bytes());
        }
        out.write_all(&bytes[..3])?;
        out.write_all(path)?;
        out.write_all(&bytes[3..])?;
        Ok(self.size())
    }

    fn size(&self) -> u64 {
        3 + self.path.len() as u64 + 52
    }
}

/// The records of the last pass, one after the other.
#[derive(Debug)]
pub(crate) struct Reader {
    input: BufReader<File>,
    began_ns: i64,
    left: u64,
    /// The record that comes next; none after the last.
    next: Option<Record>,
    spare: Record,
}

impl Reader {
    /// Opens the cache `name` in `dir`; `None` where there is none that holds for `key`.
    pub(crate) fn open(dir: &Dir, name: &OsStr, key: &Key) -> Result<Option<Reader>, SidError> {
        let file = match dir.file(name) {
            Ok(file) => file,
            Err(error) if error.is_not_found() => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        Ok(Reader::of(file, key).ok())
    }

    fn of(mut file: File, key: &Key) -> io::Result<Reader> {
        let bad = || io::Error::from(io::ErrorKind::InvalidData);
        let mut trailer = [0; 24];
        file.seek(SeekFrom::End(-24))?;
        file.read_exact(&mut trailer)?;
        file.rewind()?;
        let mut input = BufReader::with_capacity(128 << 10, file);
        let mut header = [0; HEADER as usize];
        input.read_exact(&mut header)?;
        if header[..16] != *MAGIC || trailer[8..] != *MAGIC || header[16..48] != *key {
            return Err(bad());
        }
        let began_ns = i64::from_le_bytes(header[48..].try_into().map_err(|_| bad())?);
        let left = u64::from_le_bytes(trailer[..8].try_into().map_err(|_| bad())?);
        let mut reader = Reader { input, began_ns, left, next: None, spare: Record::default() };
        reader.advance()?;
        Ok(reader)
    }

    /// The record that comes next.
    pub(crate) fn peek(&self) -> Option<&Record> {
        self.next.as_ref()
    }

    /// Whether a stamp is old enough to say that nothing changed.
    pub(crate) fn can_tell(&self, stamp: &Stamp) -> bool {
        stamp.ctime_ns < self.began_ns.saturating_sub(i64::try_from(RACY.as_nanos()).unwrap_or(i64::MAX))
    }

    /// Goes on to the record after the next.
    pub(crate) fn advance(&mut self) -> io::Result<()> {
        let mut record = self.next.take().unwrap_or_else(|| std::mem::take(&mut self.spare));
        if self.left == 0 {
            return Ok(());
        }
        self.left -= 1;
        let mut head = [0; 3];
        self.input.read_exact(&mut head)?;
        record.is_sync = head[0] == 1;
        record.path.resize(usize::from(u16::from_le_bytes([head[1], head[2]])), 0);
        self.input.read_exact(&mut record.path)?;
        let mut numbers = [0; 52];
        self.input.read_exact(&mut numbers)?;
        let eight = |at: usize| numbers[at..at + 8].try_into().map_or(0, u64::from_le_bytes);
        let four = |at: usize| numbers[at..at + 4].try_into().map_or(0, u32::from_le_bytes);
        record.stamp = Stamp {
            dev: eight(0),
            ino: eight(8),
            size: eight(16),
            mtime_ns: eight(24).cast_signed(),
            ctime_ns: eight(32).cast_signed(),
            mode: four(40),
            uid: four(44),
            gid: four(48),
        };
        self.next = Some(record);
        Ok(())
    }
}

/// The cache that a pass leaves. As long as every record is that of the cache before, nothing is written.
#[derive(Debug)]
pub(crate) struct Writer<'a> {
    dir: &'a Dir,
    name: &'a OsStr,
    began_ns: i64,
    count: u64,
    /// The bytes of the old cache that hold as they are.
    same: u64,
    out: Option<(OsString, BufWriter<File>)>,
}

impl<'a> Writer<'a> {
    pub(crate) fn new(dir: &'a Dir, name: &'a OsStr, began_ns: i64) -> Writer<'a> {
        Writer { dir, name, began_ns, count: 0, same: HEADER, out: None }
    }

    /// Adds a record; `is_same` where the old cache has this very one, and every one before.
    pub(crate) fn add(&mut self, record: &Record, is_same: bool) -> Result<(), SidError> {
        self.count += 1;
        if is_same && self.out.is_none() {
            self.same += record.size();
            return Ok(());
        }
        self.begin()?;
        self.try_write(|out| record.write(out).map(drop))
    }

    /// Whether the cache differs from the one before.
    pub(crate) fn differs(&self) -> bool {
        self.out.is_some()
    }

    /// Begins to write, with what holds of the old cache.
    pub(crate) fn begin(&mut self) -> Result<(), SidError> {
        if self.out.is_some() {
            return Ok(());
        }
        let temp = temp_name();
        self.dir.remove(&temp)?;
        let out = BufWriter::with_capacity(128 << 10, self.dir.create_new(&temp, 0o600)?);
        self.out = Some((temp, out));
        let same = self.same;
        let old = if same > HEADER { Some(self.dir.file(self.name)?) } else { None };
        self.try_write(|out| {
            out.write_all(&[0; HEADER as usize])?;
            if let Some(mut old) = old {
                old.seek(SeekFrom::Start(HEADER))?;
                io::copy(&mut old.take(same - HEADER), out)?;
            }
            Ok(())
        })
    }

    fn try_write(&mut self, write: impl FnOnce(&mut BufWriter<File>) -> io::Result<()>) -> Result<(), SidError> {
        let Some((temp, out)) = &mut self.out else { return Ok(()) };
        Ok(write(out).map_err(FileError::on("write", self.dir.show(temp)))?)
    }

    /// Ends the cache and gives it the key that it holds for; nothing is flushed. [`Finished::put`] gives it its name.
    pub(crate) fn finish(mut self, key: &Key) -> Result<Finished<'a>, SidError> {
        let (count, began_ns) = (self.count, self.began_ns);
        self.try_write(|out| {
            out.write_all(&count.to_le_bytes())?;
            out.write_all(MAGIC)?;
            out.rewind()?;
            out.write_all(MAGIC)?;
            out.write_all(key)?;
            out.write_all(&began_ns.to_le_bytes())?;
            out.flush()
        })?;
        let temp = self.out.take().map(|(temp, _)| temp);
        Ok(Finished { dir: self.dir, name: self.name, temp })
    }
}

impl Drop for Writer<'_> {
    fn drop(&mut self) {
        if let Some((temp, _)) = &self.out {
            // Best effort: what is left has a name that nobody reads.
            let _ = self.dir.remove(temp);
        }
    }
}

/// A cache that lies ready.
#[derive(Debug)]
pub(crate) struct Finished<'a> {
    dir: &'a Dir,
    name: &'a OsStr,
    temp: Option<OsString>,
}

impl Finished<'_> {
    /// Gives it its name, if there is anything new in it.
    pub(crate) fn put(mut self) -> Result<(), SidError> {
        match self.temp.take() {
            Some(temp) => Ok(self.dir.rename(&temp, self.dir, self.name, atlas_host::tree::Rename::Replace)?),
            None => Ok(()),
        }
    }
}

impl Drop for Finished<'_> {
    fn drop(&mut self) {
        if let Some(temp) = &self.temp {
            let _ = self.dir.remove(temp);
        }
    }
}

/// The order of records: that of the Manifest.
pub(crate) fn order(a: &Record, b: &Record) -> std::cmp::Ordering {
    a.is_sync.cmp(&b.is_sync).then_with(|| cmp_paths(&a.path, &b.path))
}

/// The order of paths in a Manifest: by components. No byte is below a slash, for none is NUL.
pub(crate) fn cmp_paths(a: &[u8], b: &[u8]) -> std::cmp::Ordering {
    let slash_first = |byte: &u8| if *byte == b'/' { 0 } else { *byte };
    // What two neighbours have in common needs no second look.
    let same = a.iter().zip(b).take_while(|(a, b)| a == b).count();
    a[same..].iter().map(slash_first).cmp(b[same..].iter().map(slash_first))
}

/// A path's bytes.
pub(crate) fn bytes(path: &TreePath) -> &[u8] {
    path.as_path().as_os_str().as_encoded_bytes()
}
