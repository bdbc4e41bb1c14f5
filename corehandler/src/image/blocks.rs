//! A file read by blocks: whoever looks at headers asks for a few bytes here and there, hundreds of times.

use std::{
    fs::File,
    io::{self, Read, Seek, SeekFrom},
    os::unix::fs::FileExt,
};

/// Bytes that are read at once.
const BLOCK: usize = 4 << 10;

/// A file, and the block of it that was read last.
#[derive(Debug)]
pub(super) struct Blocks<'f> {
    file: &'f File,
    at: u64,
    block: [u8; BLOCK],
    begins: u64,
    filled: usize,
}

impl<'f> Blocks<'f> {
    pub(super) fn of(file: &'f File) -> Blocks<'f> {
        Blocks { file, at: 0, block: [0; BLOCK], begins: 0, filled: 0 }
    }

    /// What the block has from here on.
    fn rest(&self) -> &[u8] {
        let within = self.at.checked_sub(self.begins).and_then(|within| usize::try_from(within).ok());
        within.and_then(|within| self.block[..self.filled].get(within..)).unwrap_or_default()
    }

    fn fill(&mut self) -> io::Result<()> {
        self.filled = 0;
        self.filled = self.file.read_at(&mut self.block, self.at)?;
        self.begins = self.at;
        Ok(())
    }
}

impl Read for Blocks<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = if buffer.len() >= BLOCK {
            self.file.read_at(buffer, self.at)?
        } else {
            if self.rest().is_empty() {
                self.fill()?;
            }
            let count = buffer.len().min(self.rest().len());
            buffer[..count].copy_from_slice(&self.rest()[..count]);
            count
        };
        self.at += count as u64;
        Ok(count)
    }
}

impl Seek for Blocks<'_> {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let from = |begin: u64, by: i64| {
            begin.checked_add_signed(by).ok_or_else(|| io::Error::from(io::ErrorKind::InvalidInput))
        };
        self.at = match to {
            SeekFrom::Start(at) => at,
            SeekFrom::Current(by) => from(self.at, by)?,
            SeekFrom::End(by) => from(self.file.metadata()?.len(), by)?,
        };
        Ok(self.at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    #[test]
    fn bytes_are_the_files_wherever_and_however_many_are_asked_for() {
        let content: Vec<u8> = (0..100_000_u32).map(|at| (at * 7 + at / 251) as u8).collect();
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(&content).unwrap();
        let mut blocks = Blocks::of(&file);
        let mut at = 1_usize;
        for count in [0, 1, 24, 256, BLOCK - 1, BLOCK, BLOCK + 1, 40_000].into_iter().cycle().take(400) {
            at = at * 31 % (content.len() - count);
            blocks.seek(SeekFrom::Start(at as u64)).unwrap();
            let mut read = vec![0; count];
            blocks.read_exact(&mut read).unwrap();
            assert_eq!(read, content[at..at + count], "{count} bytes at {at}");
        }
        assert_eq!(blocks.seek(SeekFrom::End(-3)).unwrap(), content.len() as u64 - 3);
        let mut rest = Vec::new();
        blocks.read_to_end(&mut rest).unwrap();
        assert_eq!(rest, content[content.len() - 3..]);
        assert!(blocks.seek(SeekFrom::Current(i64::MIN)).is_err());
    }
}
