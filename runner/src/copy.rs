//! A program's output on its way from the pipe to where it is wanted.
//!
//! What was read is written before more is read, so nothing waits in this program when it dies. A target that fails (a full disk, a reader that
//! went away) never stops the program: the bytes that it did not take are counted, and where it takes some again, a line says how many it missed.

use crate::log::now;
use std::io::{self, Write};

/// Where output goes, and what it missed.
pub struct Target {
    out: Box<dyn Write + Send>,
    /// Bytes that it did not take since it last took some.
    missed: u64,
    /// Bytes that it did not take at all.
    pub lost: u64,
    /// Why not, when it last happened.
    pub reason: Option<String>,
    /// Nobody is there any more.
    is_closed: bool,
}

impl Target {
    /// A target that works.
    pub fn new(out: impl Write + Send + 'static) -> Target {
        Target { out: Box::new(out), missed: 0, lost: 0, reason: None, is_closed: false }
    }

    /// Writes all, or counts what is missed. Says whether trouble began just now.
    fn take(&mut self, data: &[u8]) -> bool {
        if self.is_closed {
            return false;
        }
        let had_trouble = self.missed > 0;
        if had_trouble {
            let line = format!(
                "\nssRun: {} bytes are missing here ({})\n",
                self.missed,
                self.reason.as_deref().unwrap_or("unknown")
            );
            if self.out.write_all(line.as_bytes()).is_err() {
                self.miss(data.len());
                return false;
            }
            self.missed = 0;
        }
        let mut rest = data;
        while !rest.is_empty() {
            match self.out.write(rest) {
                Ok(0) => {}
                Ok(count) => {
                    rest = &rest[count..];
                    continue;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => {
                    self.is_closed = error.kind() == io::ErrorKind::BrokenPipe;
                    self.reason = Some(error.to_string());
                }
            }
            self.miss(rest.len());
            return !had_trouble && !self.is_closed;
        }
        false
    }

    fn miss(&mut self, count: usize) {
        self.missed += count as u64;
        self.lost += count as u64;
    }
}

/// Copies output to its targets.
pub struct Copier {
    /// The targets.
    pub targets: Vec<Target>,
    stamps: bool,
    at_line_start: bool,
    stamped: Vec<u8>,
}

impl Copier {
    /// With a time stamp before each line, where that is wanted.
    pub fn new(targets: Vec<Target>, stamps: bool) -> Copier {
        Copier { targets, stamps, at_line_start: true, stamped: Vec::new() }
    }

    /// Passes on what was read. A target that begins to fail is told about on standard error.
    pub fn pass(&mut self, data: &[u8]) {
        let data = if self.stamps { stamp(data, &mut self.at_line_start, &mut self.stamped) } else { data };
        for target in &mut self.targets {
            if target.take(data) {
                let reason = target.reason.as_deref().unwrap_or("unknown");
                // Standard error may be gone, too; then the exit and the log say it.
                let _ = writeln!(io::stderr(), "ssRun: the log cannot be written ({reason}); the program runs on");
            }
        }
    }

    /// The bytes that some target did not take.
    pub fn lost(&self) -> u64 {
        self.targets.iter().map(|target| target.lost).max().unwrap_or(0)
    }
}

/// Puts the time before each line; all lines that were read at once have the same.
fn stamp<'b>(data: &[u8], at_line_start: &mut bool, buffer: &'b mut Vec<u8>) -> &'b [u8] {
    let now = now().stamp();
    buffer.clear();
    for line in data.split_inclusive(|byte| *byte == b'\n') {
        if *at_line_start {
            buffer.extend_from_slice(now.as_bytes());
        }
        buffer.extend_from_slice(line);
        *at_line_start = line.ends_with(b"\n");
    }
    buffer
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::{Arc, Mutex};

    /// A disk that is full for a while.
    struct Disk(Arc<Mutex<(Vec<u8>, usize)>>);

    impl Write for Disk {
        fn write(&mut self, data: &[u8]) -> io::Result<usize> {
            let (content, room) = &mut *self.0.lock().unwrap();
            let count = data.len().min(*room);
            if count == 0 {
                return Err(io::ErrorKind::StorageFull.into());
            }
            content.extend_from_slice(&data[..count]);
            *room -= count;
            Ok(count)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_full_disk_is_told_in_the_log_when_there_is_room_again() {
        let disk = Arc::new(Mutex::new((vec![], 6)));
        let mut copier = Copier::new(vec![Target::new(Disk(disk.clone()))], false);
        copier.pass(b"first line\n");
        copier.pass(b"second\n");
        disk.lock().unwrap().1 = 1000;
        copier.pass(b"third\n");
        let content = String::from_utf8(disk.lock().unwrap().0.clone()).unwrap();
        assert!(
            content.starts_with("first \nssRun: 12 bytes are missing here (") && content.ends_with(")\nthird\n"),
            "{content}"
        );
        assert_eq!(copier.lost(), 12);
    }

    #[test]
    fn each_line_has_one_stamp_however_it_was_cut() {
        let out = Arc::new(Mutex::new((vec![], 1000)));
        let mut copier = Copier::new(vec![Target::new(Disk(out.clone()))], true);
        for part in ["one\ntw", "o", "\nthree"] {
            copier.pass(part.as_bytes());
        }
        let content = String::from_utf8(out.lock().unwrap().0.clone()).unwrap();
        let ends: Vec<&str> = content.lines().map(|line| &line[24..]).collect();
        assert_eq!(ends, ["one", "two", "three"], "{content}");
    }
}
