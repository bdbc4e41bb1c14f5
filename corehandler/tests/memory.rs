//! Cores that were made to cost much: the real program's memory and time stay within bounds. The one test of this file has its process
//! to itself, so that the largest memory of all children so far is that of the one before it, or the next.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test ends where something is not as it must be")]

mod common;

use common::shell;
use nix::sys::resource::{UsageWho, getrusage};
use std::{
    fs,
    path::Path,
    process::{Command, Output},
    time::{Duration, Instant},
};

/// The memory that no core makes it take more of, in KiB.
const MEMORY_LIMIT: i64 = 512 << 10;
const TIME_LIMIT: Duration = Duration::from_secs(60);

/// The largest memory of any child that has ended, in KiB.
fn largest() -> i64 {
    getrusage(UsageWho::RUSAGE_CHILDREN).unwrap().max_rss()
}

fn words(values: &[u64]) -> Vec<u8> {
    values.iter().flat_map(|value| value.to_le_bytes()).collect()
}

fn note(kind: u32, data: &[u8]) -> Vec<u8> {
    let mut note = [5u32, u32::try_from(data.len()).unwrap(), kind].map(u32::to_le_bytes).concat();
    note.extend(b"CORE\0\0\0\0");
    note.extend(data);
    note.resize(note.len().next_multiple_of(4), 0);
    note
}

/// The registers of a thread that stands at `pc`, with its stack and frame pointer at `sp`.
fn thread(pc: u64, sp: u64) -> Vec<u8> {
    let mut registers = [0u64; 27];
    (registers[16], registers[19], registers[4]) = (pc, sp, sp);
    let mut status = vec![0; 112];
    status[12] = 11;
    status.extend(words(&registers));
    status.resize(336, 0);
    note(1, &status)
}

/// Mapped files, each of a page, that follow each other from `start` on.
fn files(start: u64, count: u64, name: impl Fn(u64) -> String) -> Vec<u8> {
    let mut data = words(&[count, 4096]);
    data.extend((0..count).flat_map(|at| words(&[start + at * 4096, start + (at + 1) * 4096, 0])));
    data.extend((0..count).flat_map(|at| (name(at) + "\0").into_bytes()));
    note(0x4649_4c45, &data)
}

/// A core with these notes, one large part of memory, all of it code, and `content` as the beginning of it.
fn core(notes: &[Vec<u8>], content: &[u8]) -> Vec<u8> {
    let notes = notes.concat();
    let mut core = b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0\x04\0\x3e\0\x01\0\0\0".to_vec();
    core.extend(words(&[0, 64, 0]));
    core.extend(b"\0\0\0\0\x40\0\x38\0\x02\0\0\0\0\0\0\0");
    let (notes_at, content_at) = (64 + 2 * 56, 64 + 2 * 56 + notes.len() as u64);
    core.extend(words(&[4, notes_at, 0, 0, notes.len() as u64, 0, 4]));
    core.extend(words(&[1 | 7 << 32, content_at, BASE, 0, content.len() as u64, 1 << 40, 4096]));
    core.extend(notes);
    core.extend(content);
    core
}

const BASE: u64 = 0x10_0000;

/// Has its signature told; gives what it said, and the largest memory so far in KiB.
fn told(path: &Path) -> (Output, i64) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ssCoreHandler"));
    let started = Instant::now();
    let output = command.args(["signature", "--explain"]).arg(path).output().unwrap();
    let took = started.elapsed();
    let largest = largest();
    println!(
        "{:40} {:?} {:7.2} s  {largest} KiB",
        path.file_name().unwrap().display(),
        output.status.code(),
        took.as_secs_f64()
    );
    assert!(matches!(output.status.code(), Some(0 | 1)), "{}: {output:?}", path.display());
    assert!(took < TIME_LIMIT, "{}: {took:?}", path.display());
    assert!(largest < MEMORY_LIMIT, "{}: {largest} KiB", path.display());
    (output, largest)
}

#[test]
fn no_core_costs_more_memory_or_time_than_the_bound() {
    let tmp = tempfile::tempdir().unwrap();
    let path = |name: &str| tmp.path().join(name);
    let crashed = thread(BASE, BASE + 4096);
    let write = |name: &str, notes: &[Vec<u8>], content: &[u8]| fs::write(path(name), core(notes, content)).unwrap();

    write("small", std::slice::from_ref(&crashed), &[]);
    assert!(told(&path("small")).0.status.success(), "what the others are made from is a core");
    write("threads", &vec![crashed.clone(); 99_999], &[]);
    write("too many threads", &vec![crashed.clone(); 180_000], &[]);
    write("mappings without names", &[crashed.clone(), files(BASE, 1 << 18, |_| String::new())], &[]);
    write("mappings of as many files", &[crashed.clone(), files(BASE, 1 << 18, |at| format!("/usr/bin/{at:x}"))], &[]);
    write(
        "mappings of programs",
        &[crashed.clone(), files(BASE, 1 << 18, |at| format!("/usr/bin/{}", if at % 2 == 0 { "gdb" } else { "perl" }))],
        &[],
    );
    let more = vec![files(BASE, 1 << 18, |_| String::new()); 5];
    write("mappings again and again", &[vec![crashed.clone()], more].concat(), &[]);
    write("a file that never ends", &[crashed.clone(), files(BASE, 1, |_| "/proc/kmsg".into())], &[]);
    // Each frame's pointer leads to the next frame, and all return addresses are code.
    let frames: Vec<u8> = (0..1 << 18).flat_map(|at| words(&[BASE + (at + 1) * 16, BASE + 64])).collect();
    write("frames without end", &[thread(BASE, BASE)], &frames);
    for name in [
        "threads",
        "too many threads",
        "mappings without names",
        "mappings of as many files",
        "mappings of programs",
        "mappings again and again",
        "a file that never ends",
        "frames without end",
    ] {
        told(&path(name));
    }
    // As many program headers as a number of 32 bits can count.
    let mut headers = core(&[crashed], &[]);
    headers[40..48].copy_from_slice(&64u64.to_le_bytes());
    headers[56..58].copy_from_slice(&[0xff, 0xff]);
    headers[58..62].copy_from_slice(&[64, 0, 1, 0]);
    headers[64 + 44..64 + 48].copy_from_slice(&u32::MAX.to_le_bytes());
    fs::write(path("program headers"), &headers).unwrap();
    fs::File::options().write(true).open(path("program headers")).unwrap().set_len(20 << 30).unwrap();
    told(&path("program headers"));
    let narrow = [("zstd", "zstd -q -1"), ("lz4", "lz4 -q"), ("xz", "xz -0"), ("gzip", "gzip -1")];
    for (name, pack) in narrow {
        shell(tmp.path(), &format!("head -c 100M /dev/zero | {pack} -c > 'bomb of {name}'"));
        let said = told(&path(&format!("bomb of {name}"))).0;
        assert!(String::from_utf8_lossy(&said.stderr).contains("does not begin like an ELF file"), "{said:?}");
    }
    // What is packed so that unpacking takes much is not unpacked.
    // A frame that is nothing, and asks for a window of 2 GiB.
    fs::write(path("wide.zstd"), [0x28, 0xb5, 0x2f, 0xfd, 0, (31 - 10) << 3, 1, 0, 0]).unwrap();
    shell(tmp.path(), "echo | xz --lzma2=dict=192MiB,mode=fast,mf=hc3,nice=4 -c > wide.xz");
    for (name, why) in [("wide.zstd", "too much memory"), ("wide.xz", "memory too big")] {
        let said = told(&path(name)).0;
        assert!(String::from_utf8_lossy(&said.stderr).contains(why), "{said:?}");
    }
    // That the measure sees what a child takes: dd reads so much at once.
    shell(tmp.path(), "dd if=/dev/zero of=/dev/null bs=600M count=1");
    assert!(largest() >= MEMORY_LIMIT, "{}", largest());
}
