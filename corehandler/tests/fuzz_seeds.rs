//! The fuzz targets' properties on the committed inputs and on mutations of them, the same on every run.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test")]

#[path = "../../fuzz/src/crashes.rs"]
#[allow(unreachable_pub, reason = "a crate of its own there")]
mod properties;

#[path = "../../fuzz/src/short.rs"]
#[allow(unreachable_pub, reason = "public where it is included")]
mod short;

/// What a mutation puts in: pieces that some parser minds.
const PIECES: [&[u8]; 20] = [
    b"\0",
    b"\n",
    b"\n ",
    b"\nCoreDump: base64\n ",
    b"ProblemType:",
    b"====",
    b"H4sI",
    b"\x28\xb5\x2f\xfd",
    b"\x04\x22\x4d\x18",
    b"\xfd7zXZ\0",
    b"\xff\xff\xff\xff",
    b"\xff\xff\xff\xff\xff\xff\xff\x7f",
    b"\x7fELF",
    b"[ 1.5] ",
    b"Kernel panic - not syncing",
    b"Call Trace:\n",
    b"a.cold+0x1/0x2\n",
    b"note ",
    b"| strong\n",
    b"signature ",
];

#[test]
fn every_target_has_seeds_that_parse() {
    short::seeds_parse("crashes", &properties::TARGETS);
}

#[test]
fn the_properties_hold_for_mutations_of_the_seeds() {
    short::mutations_hold("crashes", &properties::TARGETS, &PIECES);
}
