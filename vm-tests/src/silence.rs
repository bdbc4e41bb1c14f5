//! A disk that stops answering at a chosen access, as one does whose controller dies: from then on no request ends, and none fails.
//!
//! QEMU asks for its content over NBD, and this module is the other end:
//!
//! ```text
//! QEMU ── virtio-blk ── nbd client ── unix socket ── thread ── image
//!
//! handshake   "NBDMAGIC" "IHAVEOPT" flags │ client's flags │ (IHAVEOPT option length data → MAGIC option type length data)*
//! requests    25609513 flags type handle offset length data │ 67446698 error handle data            all numbers big-endian
//! ```

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context, Result};

use crate::server::bind;

/// The access with which a disk falls silent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Trigger {
    /// The first read of one of these bytes.
    Read(Range<u64>),
    /// The first write to one of them.
    Write(Range<u64>),
    /// The first write, wherever, after one of these bytes was read.
    WriteAfterRead(Range<u64>),
}

impl Trigger {
    /// Whether the disk falls silent with this request; what this one is waited for with may be another from then on.
    fn is_met_by(&mut self, request: &Request) -> bool {
        match self {
            Trigger::Read(range) => request.kind == READ && request.touches(range),
            Trigger::Write(range) => request.kind == WRITE && request.touches(range),
            Trigger::WriteAfterRead(range) => {
                if request.kind == READ && request.touches(range) {
                    *self = Trigger::Write(0..u64::MAX);
                }
                false
            }
        }
    }
}

const OPTION_MAGIC: &[u8] = b"IHAVEOPT";
const OPTION_REPLY: u64 = 0x0003_e889_0455_65a9;
/// Fixed newstyle, no zeroes.
const HANDSHAKE_FLAGS: u16 = 0b11;
const OPTION_GO: u32 = 7;
const REPLY_ACK: u32 = 1;
const REPLY_INFO: u32 = 3;
const REPLY_UNSUPPORTED: u32 = (1 << 31) + 1;
/// It has flags, and takes flushes.
const EXPORT_FLAGS: u16 = 0b101;
const READ: u16 = 0;
const WRITE: u16 = 1;
const DISCONNECT: u16 = 2;
const FLUSH: u16 = 3;
/// No client asks for more at once.
const LENGTH_MAX: u64 = 64 << 20;

/// Serves the image at `socket` to the one who connects; gives what tells whether it has fallen silent.
pub(crate) fn serve(image: &Path, socket: &Path, trigger: Trigger) -> Result<Arc<AtomicBool>> {
    let file = OpenOptions::new().read(true).write(true).open(image);
    let file = file.with_context(|| format!("opening {}", image.display()))?;
    let listener = bind(socket)?;
    let silent = Arc::new(AtomicBool::new(false));
    let of_thread = Arc::clone(&silent);
    std::thread::spawn(move || {
        // Whoever connects and goes away again has ended its QEMU.
        let served = listener.accept().and_then(|(stream, _)| converse(stream, &file, trigger, &of_thread));
        drop(served);
    });
    Ok(silent)
}

fn converse(mut stream: UnixStream, file: &File, mut trigger: Trigger, silent: &AtomicBool) -> io::Result<()> {
    shake_hands(&mut stream, file.metadata()?.len())?;
    loop {
        let request = Request::read(&mut stream)?;
        if request.kind == DISCONNECT {
            return Ok(());
        }
        if trigger.is_met_by(&request) {
            silent.store(true, Ordering::Release);
        }
        let mut data = vec![0; usize::try_from(request.length).unwrap_or_default()];
        if request.kind == WRITE {
            stream.read_exact(&mut data)?;
        }
        // Requests are taken, so that the one who asks waits for the disk and not for the socket.
        if silent.load(Ordering::Acquire) {
            continue;
        }
        let done = match request.kind {
            READ => file.read_exact_at(&mut data, request.offset),
            WRITE => file.write_all_at(&data, request.offset),
            FLUSH => Ok(()),
            _ => Err(io::ErrorKind::Unsupported.into()),
        };
        let error: u32 = if done.is_ok() { 0 } else { 5 };
        let mut reply = 0x6744_6698_u32.to_be_bytes().to_vec();
        reply.extend(error.to_be_bytes());
        reply.extend(request.handle);
        if request.kind == READ && done.is_ok() {
            reply.extend(data);
        }
        stream.write_all(&reply)?;
    }
}

fn shake_hands(stream: &mut UnixStream, size_bytes: u64) -> io::Result<()> {
    stream.write_all(&[b"NBDMAGIC", OPTION_MAGIC, &HANDSHAKE_FLAGS.to_be_bytes()].concat())?;
    let _flags: [u8; 4] = take(stream)?;
    loop {
        let magic: [u8; 8] = take(stream)?;
        let (option, length) = (u32::from_be_bytes(take(stream)?), u32::from_be_bytes(take(stream)?));
        if magic != OPTION_MAGIC || u64::from(length) > LENGTH_MAX {
            return Err(io::ErrorKind::InvalidData.into());
        }
        io::copy(&mut Read::by_ref(stream).take(length.into()), &mut io::sink())?;
        if option != OPTION_GO {
            answer(stream, option, REPLY_UNSUPPORTED, &[])?;
            continue;
        }
        let export = [&0_u16.to_be_bytes()[..], &size_bytes.to_be_bytes(), &EXPORT_FLAGS.to_be_bytes()].concat();
        answer(stream, option, REPLY_INFO, &export)?;
        return answer(stream, option, REPLY_ACK, &[]);
    }
}

fn answer(stream: &mut UnixStream, option: u32, kind: u32, data: &[u8]) -> io::Result<()> {
    let numbers = [option, kind, u32::try_from(data.len()).unwrap_or_default()].map(u32::to_be_bytes).concat();
    stream.write_all(&[&OPTION_REPLY.to_be_bytes()[..], &numbers, data].concat())
}

fn take<const N: usize>(stream: &mut impl Read) -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    stream.read_exact(&mut bytes).map(|()| bytes)
}

#[derive(Debug)]
struct Request {
    kind: u16,
    handle: [u8; 8],
    offset: u64,
    length: u64,
}

impl Request {
    fn touches(&self, range: &Range<u64>) -> bool {
        self.offset < range.end && range.start < self.offset + self.length
    }

    fn read(stream: &mut impl Read) -> io::Result<Request> {
        let [magic, flags_and_kind]: [[u8; 4]; 2] = [take(stream)?, take(stream)?];
        let [_, _, high, low] = flags_and_kind;
        let (handle, offset) = (take(stream)?, u64::from_be_bytes(take(stream)?));
        let length = u64::from(u32::from_be_bytes(take(stream)?));
        if magic != 0x2560_9513_u32.to_be_bytes() || length > LENGTH_MAX {
            return Err(io::ErrorKind::InvalidData.into());
        }
        Ok(Request { kind: u16::from_be_bytes([high, low]), handle, offset, length })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(kind: u16, offset: u64, length: u64) -> Request {
        Request { kind, handle: [0; 8], offset, length }
    }

    #[test]
    fn a_read_that_touches_the_range_meets_the_trigger_and_its_neighbours_do_not() {
        let mut trigger = Trigger::Read(4096..8192);
        for (offset, length, is_met) in [(0, 4096, false), (0, 4097, true), (8191, 1, true), (8192, 512, false)] {
            assert_eq!(trigger.is_met_by(&request(READ, offset, length)), is_met, "{offset} {length}");
        }
        assert!(!trigger.is_met_by(&request(WRITE, 4096, 4096)));
        assert!(Trigger::Write(0..1).is_met_by(&request(WRITE, 0, 512)));
        assert!(!Trigger::Write(0..1).is_met_by(&request(FLUSH, 0, 0)));
    }

    #[test]
    fn a_write_counts_only_after_the_read_that_it_is_to_follow() {
        let mut trigger = Trigger::WriteAfterRead(4096..8192);
        let met = [(WRITE, 4096), (READ, 0), (WRITE, 512), (READ, 4096), (READ, 0), (WRITE, 512)]
            .map(|(kind, offset)| trigger.is_met_by(&request(kind, offset, 512)));
        assert_eq!(met, [false, false, false, false, false, true]);
    }

    #[test]
    fn it_answers_until_the_trigger_and_then_no_more() {
        let folder = tempfile::tempdir().unwrap();
        let (image, socket) = (folder.path().join("image"), folder.path().join("socket"));
        std::fs::write(&image, vec![0x5a; 1 << 20]).unwrap();
        let ask = |command: &str| {
            let silent = serve(&image, &socket, Trigger::Write(0..512)).unwrap();
            let mut client = std::process::Command::new("qemu-io");
            client.args(["-f", "raw", "-c", command]).arg(format!("nbd:unix:{}", socket.display()));
            (silent, client.stdout(std::process::Stdio::piped()).spawn().unwrap())
        };
        let (silent, client) = ask("read -P 0x5a 4096 8192");
        let said = String::from_utf8(client.wait_with_output().unwrap().stdout).unwrap();
        assert!(said.contains("read 8192/8192 bytes at offset 4096") && !said.contains("failed"), "{said}");
        assert!(!silent.load(Ordering::Acquire));

        let (silent, mut client) = ask("write 0 512");
        crate::secs(30).poll("the silence", || Ok(silent.load(Ordering::Acquire).then_some(()))).unwrap();
        std::thread::sleep(std::time::Duration::from_millis(200));
        assert!(client.try_wait().unwrap().is_none(), "the write came to an end");
        client.kill().unwrap();
        client.wait().unwrap();
        assert_eq!(std::fs::read(&image).unwrap(), vec![0x5a; 1 << 20], "nothing is written");
    }
}
