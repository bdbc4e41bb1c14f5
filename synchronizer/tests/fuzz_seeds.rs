//! The fuzz target's property on the committed inputs and on mutations of them, the same on every run.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test")]

#[path = "../../fuzz/src/synchronizer.rs"]
#[allow(unreachable_pub, reason = "a crate of its own there")]
mod properties;

#[path = "../../fuzz/src/short.rs"]
#[allow(unreachable_pub, reason = "public where it is included")]
mod short;

/// What a mutation puts in: pieces that the parser minds.
const PIECES: [&[u8]; 16] = [
    b"\0",
    b"\0\0\0\x0e{\"say\":\"have\"}",
    b"\0\0\0\x0f{\"say\":\"tied\"} ",
    b"\xff\xff\xff\xff",
    b"{",
    b"}",
    b"[",
    b"\"",
    b"\\u001b[2J",
    b"\x1b[2J",
    b"-1",
    b"18446744073709551616",
    b"null",
    b"\"SEC9999\"",
    b"../",
    b"\xe2\x80\xae",
];

#[test]
fn every_target_has_seeds_that_parse() {
    short::seeds_parse("synchronizer", &properties::TARGETS);
}

#[test]
fn the_properties_hold_for_mutations_of_the_seeds() {
    short::mutations_hold("synchronizer", &properties::TARGETS, &PIECES);
}
