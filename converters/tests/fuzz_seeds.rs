//! The fuzz targets' properties on the committed inputs and on mutations of them, the same on every run.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test")]

#[path = "../../fuzz/src/converters.rs"]
#[allow(unreachable_pub, reason = "a crate of its own there")]
mod properties;

#[path = "../../fuzz/src/short.rs"]
#[allow(unreachable_pub, reason = "public where it is included")]
mod short;

/// What a mutation puts in: pieces that some parser minds.
const PIECES: [&[u8]; 31] = [
    b"\0",
    b"\n",
    b"\r\n",
    b"\\\n",
    b"{",
    b"}",
    b";",
    b"#",
    b"\"",
    b"'",
    b"[[key]]\n",
    b"iface eth0 inet static\n",
    b"auto eth0\n",
    b"@@ -1,1 +1,1 @@\n",
    b"-a\n",
    b"+a\n",
    b"\xff",
    b"\xe2\x80\xae",
    b"listen 1 ssl;",
    b"http2 on;",
    b"plugin {\n",
    b"}\n",
    b"passdb {\n",
    b" = ",
    b"quota_rule = *:storage=1G\n",
    b"sieve = ",
    b"%{user | lower}",
    b"%%u",
    b"%08Xu",
    b"dovecot_config_version = 2.4.0\n",
    b"mail_location = mbox:a:INDEX=b\n",
];

#[test]
fn every_target_has_seeds_that_parse() {
    short::seeds_parse("converters", &properties::TARGETS);
}

#[test]
fn the_properties_hold_for_mutations_of_the_seeds() {
    short::mutations_hold("converters", &properties::TARGETS, &PIECES);
}
