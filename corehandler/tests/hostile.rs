//! Cores that were cut off, damaged or made up: an answer or a clear refusal, soon, and never a panic.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test ends where something is not as it must be")]

mod common;

use atlas_corehandler::{
    clean::Rules,
    core_file::Core,
    signature::Signature,
    space::Search,
    traceback::{Detail, Traceback},
};
use common::{Environment, build, built, crash};
use proptest::prelude::*;
use std::{
    path::Path,
    sync::OnceLock,
    time::{Duration, Instant},
};

const BUILD: Environment = built("gcc", "gcc -O1 -g -pthread -w");

/// One real core, read once.
fn real() -> &'static [u8] {
    static CORE: OnceLock<Vec<u8>> = OnceLock::new();
    CORE.get_or_init(|| {
        let top = tempfile::tempdir().unwrap();
        let dir = build(top.path(), "faults.c", &BUILD);
        std::fs::read(crash(&dir, "2", "")).unwrap()
    })
}

/// What is made of a core with this content: the signature, or why it was refused.
fn answer(content: &[u8]) -> Result<String, String> {
    let tmp = tempfile::tempdir().unwrap();
    let path = tmp.path().join("core");
    std::fs::write(&path, content).unwrap();
    let started = Instant::now();
    let core = Core::open(&path).map_err(|error| error.to_string())?;
    let traceback = Traceback::of(core, &Search::new("/nonexistent"), Detail::Lines);
    let signature = Signature::of(&traceback, &Rules::built_in().unwrap());
    assert!(started.elapsed() < Duration::from_secs(30), "it took {:?}", started.elapsed());
    Ok(signature.id)
}

#[test]
fn what_is_no_core_is_refused_with_the_reason() {
    for (content, why) in [
        (&b""[..], "it is empty"),
        (b"#!/bin/sh", "does not begin like an ELF file"),
        (b"\x7fELF", "64 bit"),
        (b"\xfd7zXZ\0", "it is empty"),
        (b"\x28\xb5\x2f\xfd\xff\xff\xff", "it is empty"),
    ] {
        let refusal = answer(content).unwrap_err();
        assert!(refusal.contains(why), "{refusal}");
    }
    let program = std::fs::read(std::env::current_exe().unwrap()).unwrap();
    assert!(answer(&program[..1 << 20]).unwrap_err().contains("a program or a library"));
    let tmp = tempfile::tempdir().unwrap();
    nix::unistd::mkfifo(&tmp.path().join("core"), nix::sys::stat::Mode::S_IRWXU).unwrap();
    assert!(Core::open(&tmp.path().join("core")).unwrap_err().to_string().contains("no regular file"));
    assert!(Core::open(Path::new("/nonexistent")).is_err());
}

#[test]
fn a_core_that_was_cut_off_anywhere_is_answered_or_refused_and_says_what_is_missing() {
    let whole = real();
    let mut refused = 0;
    for cut in (0..40).map(|part| whole.len() * part / 40) {
        refused += usize::from(answer(&whole[..cut]).is_err());
    }
    assert!((1..40).contains(&refused), "{refused}");
    let tmp = tempfile::tempdir().unwrap();
    std::fs::write(tmp.path().join("core"), &whole[..whole.len() - 5000]).unwrap();
    assert!(Core::open(&tmp.path().join("core")).unwrap().missing_bytes > 0);
}

#[test]
fn headers_that_promise_the_moon_get_no_memory() {
    let mut content = real()[..8192].to_vec();
    // Every program header says that it has 2^62 bytes.
    let count = usize::from(u16::from_le_bytes([content[56], content[57]]));
    for header in 0..count {
        let at = 64 + header * 56;
        content[at + 32..at + 40].copy_from_slice(&(1u64 << 62).to_le_bytes());
        content[at + 40..at + 48].copy_from_slice(&(1u64 << 62).to_le_bytes());
    }
    let refusal = answer(&content).unwrap_err();
    assert!(refusal.contains("larger than") || refusal.contains("no thread"), "{refusal}");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn damage_in_headers_and_notes_never_panics(
        damage in proptest::collection::vec((0usize..16384, any::<u8>()), 1..60)
    ) {
        let mut content = real().to_vec();
        for (at, byte) in damage {
            content[at] = byte;
        }
        let _ = answer(&content);
    }

    #[test]
    fn damage_on_the_stack_never_panics(
        damage in proptest::collection::vec((0usize..1 << 17, any::<u64>()), 1..400)
    ) {
        let mut content = real().to_vec();
        let length = content.len();
        for (from_end, word) in damage {
            let at = length - 8 - from_end.min(length - 16);
            content[at..at + 8].copy_from_slice(&word.to_le_bytes());
        }
        let _ = answer(&content);
    }
}
