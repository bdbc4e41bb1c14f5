//! The fuzz targets' properties on the committed inputs and on mutations of them, the same on every run.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test")]

#[path = "../../fuzz/src/verifier.rs"]
#[allow(unreachable_pub, reason = "a crate of its own there")]
mod properties;

#[path = "../../fuzz/src/short.rs"]
#[allow(unreachable_pub, reason = "public where it is included")]
mod short;

/// What a mutation puts in: pieces that some parser minds.
const PIECES: [&[u8]; 36] = [
    b"\0",
    b"\n",
    b"\r\n",
    b"\\\n",
    b"{",
    b"}",
    b"[",
    b"]",
    b";",
    b"#",
    b"\"",
    b"'",
    b"=",
    b":",
    b" ",
    b"|",
    b"\x1b[2J",
    b"\xff",
    b"\xe2\x80\xae",
    b"1e999",
    b"-1",
    b"18446744073709551615",
    b"null",
    b"NaN",
    b"/../",
    b"*",
    b"include /etc/*;\n",
    b"include \"/etc/bind/named.conf\"\n",
    b"include = /etc/samba/smb.conf\n",
    b"!includedir /etc/mysql\n",
    b"Include apache2.conf\n",
    b"Define a ${a}${a}\n",
    b"</a>\n",
    b"<IfModule !x>\n",
    b"[share]\npath = /srv\n",
    b"\xc0\x0c",
];

#[test]
fn every_target_has_seeds_that_parse() {
    short::seeds_parse("verifier", &properties::TARGETS);
}

#[test]
fn the_properties_hold_for_mutations_of_the_seeds() {
    short::mutations_hold("verifier", &properties::TARGETS, &PIECES);
}
