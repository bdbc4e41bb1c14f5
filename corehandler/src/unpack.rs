//! Cores as others keep them: packed, or within a report.
//!
//! ```text
//! 28 b5 2f fd …             zstd            systemd-coredump since 246, and this store
//! 04 22 4d 18 …             lz4             systemd-coredump before
//! fd 37 7a 58 5a 00 …       xz              systemd-coredump before, built without lz4
//! ProblemType: Crash        apport's report: 'Key: value' lines, among them
//! CoreDump: base64            lines that begin with a blank; together they are one gzip (or zstd) stream
//!  H4sIAAAA…
//! ```
//!
//! They come from programs that cannot be trusted: what one unpacks to is bounded, and so is the memory that this takes.

use base64::{Engine, prelude::BASE64_STANDARD};
use std::{
    fs::File,
    io::{self, BufRead, BufReader, Read, Seek, SeekFrom, Write},
    os::unix::fs::FileExt,
    path::Path,
};

/// What a packed core may unpack to, in bytes.
pub const UNPACKED_LIMIT: u64 = 64 << 30;
/// The memory that unpacking may take, as a power of two: 128 MiB, which is what the widest presets of zstd and xz need.
const MEMORY_LOG: u32 = 27;
/// The longest line of a report, in bytes; apport packs a megabyte into one.
const LINE_LIMIT: u64 = 16 << 20;
/// Blocks of zeros of this size are not written; most of a core is such.
const BLOCK: usize = 64 << 10;
/// Where unpacked cores lie while they are read: on a disk, and not, as `/tmp` may, in memory.
const PLACE: &str = "/var/tmp";

/// A way to pack.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Packing {
    /// By zstd.
    Zstd,
    /// By lz4, in its frame format.
    Lz4,
    /// By xz.
    Xz,
    /// By gzip.
    Gzip,
    /// Within a report of apport's.
    Apport,
}

impl Packing {
    /// What a file is packed by, as its beginning tells; `None` for what is not packed.
    pub fn of(beginning: &[u8]) -> Option<Packing> {
        const MAGICS: [(&[u8], Packing); 5] = [
            (&[0x28, 0xb5, 0x2f, 0xfd], Packing::Zstd),
            (&[0x04, 0x22, 0x4d, 0x18], Packing::Lz4),
            (&[0xfd, b'7', b'z', b'X', b'Z', 0], Packing::Xz),
            (&[0x1f, 0x8b], Packing::Gzip),
            (b"ProblemType:", Packing::Apport),
        ];
        MAGICS.iter().find(|(magic, _)| beginning.starts_with(magic)).map(|(_, packing)| *packing)
    }

    /// What an opened file is packed by.
    pub fn of_file(file: &File) -> io::Result<Option<Packing>> {
        let mut beginning = [0; 12];
        let got = file.read_at(&mut beginning, 0)?;
        Ok(Packing::of(&beginning[..got]))
    }

    /// Reads what is packed.
    pub fn reader<'r>(self, packed: Box<dyn Read + 'r>) -> io::Result<Box<dyn Read + 'r>> {
        Ok(match self {
            Packing::Zstd => {
                let mut decoder = zstd::Decoder::new(packed)?;
                decoder.window_log_max(MEMORY_LOG)?;
                Box::new(decoder)
            }
            Packing::Lz4 => Box::new(lz4_flex::frame::FrameDecoder::new(packed)),
            Packing::Xz => {
                Box::new(lzma_rust2::XzReader::new_mem_limit(BufReader::new(packed), true, 1 << (MEMORY_LOG - 10)))
            }
            Packing::Gzip => Box::new(flate2::read::GzDecoder::new(packed)),
            Packing::Apport => {
                let mut content = BufReader::new(CoreDump::of(packed)?);
                let packing = Packing::of(content.fill_buf()?).filter(|packing| *packing != Packing::Apport);
                let packing = packing.ok_or_else(|| io::Error::other("its CoreDump is packed in an unknown way"))?;
                packing.reader(Box::new(content))?
            }
        })
    }
}

/// Unpacks into a file that has no name, so that nothing is left behind; with holes where there are zeros.
pub fn unpacked(packed: &File, packing: Packing) -> io::Result<File> {
    let mut from = packed.try_clone()?;
    from.rewind()?;
    let mut to = tempfile::tempfile_in(PLACE).or_else(|_| tempfile::tempfile())?;
    let limit = UNPACKED_LIMIT.min(room(&to)?);
    let mut reader = packing.reader(Box::new(from))?;
    let (mut block, mut length) = (vec![0; BLOCK], 0);
    loop {
        let got = fill(&mut reader, &mut block)?;
        if got == 0 {
            break;
        }
        length += got as u64;
        if length > limit {
            return Err(io::Error::other(format!("it unpacks to more than {limit} bytes")));
        }
        if block[..got].iter().all(|byte| *byte == 0) {
            to.seek(SeekFrom::Current(got as i64))?;
        } else {
            to.write_all(&block[..got])?;
        }
    }
    to.set_len(length)?;
    to.rewind()?;
    Ok(to)
}

/// Half of what is free where the file lies: others need the disk, too.
fn room(file: &File) -> io::Result<u64> {
    let stat = nix::sys::statvfs::fstatvfs(file)?;
    Ok((stat.blocks_available() * stat.fragment_size()) / 2)
}

fn fill(reader: &mut impl Read, block: &mut [u8]) -> io::Result<usize> {
    let mut got = 0;
    while got < block.len() {
        match reader.read(&mut block[got..]) {
            Ok(0) => break,
            Ok(count) => got += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            // What was cut off gives what there is; the core's own headers tell how much is missing.
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => break,
            Err(error) => return Err(error),
        }
    }
    Ok(got)
}

/// The content of the key `CoreDump` of a report.
struct CoreDump<R> {
    lines: BufReader<R>,
    line: Vec<u8>,
    content: Vec<u8>,
    read: usize,
    is_over: bool,
}

impl<R: Read> CoreDump<R> {
    /// Goes to where it begins.
    fn of(report: R) -> io::Result<CoreDump<R>> {
        let mut own =
            CoreDump { lines: BufReader::new(report), line: vec![], content: vec![], read: 0, is_over: false };
        while own.next_line()? {
            if own.line.trim_ascii_end() == b"CoreDump: base64" {
                return Ok(own);
            }
        }
        Err(io::Error::other("it is a report of apport's without a core"))
    }

    /// Reads the next line; false at the end.
    fn next_line(&mut self) -> io::Result<bool> {
        self.line.clear();
        (&mut self.lines).take(LINE_LIMIT).read_until(b'\n', &mut self.line)?;
        if self.line.len() as u64 == LINE_LIMIT {
            return Err(io::Error::other(format!("it has a line of more than {LINE_LIMIT} bytes")));
        }
        Ok(!self.line.is_empty())
    }
}

impl<R: Read> Read for CoreDump<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.read == self.content.len() {
            // The next key ends the content.
            self.is_over = self.is_over || !self.next_line()? || self.line[0] != b' ';
            if self.is_over {
                return Ok(0);
            }
            self.content = BASE64_STANDARD.decode(self.line.trim_ascii()).map_err(io::Error::other)?;
            self.read = 0;
        }
        let count = buffer.len().min(self.content.len() - self.read);
        buffer[..count].copy_from_slice(&self.content[self.read..self.read + count]);
        self.read += count;
        Ok(count)
    }
}

/// Reads a core, unpacked where it was packed.
pub fn content(path: &Path) -> io::Result<Box<dyn Read>> {
    let file = File::open(path)?;
    match Packing::of_file(&file)? {
        Some(packing) => packing.reader(Box::new(file)),
        None => Ok(Box::new(file)),
    }
}
