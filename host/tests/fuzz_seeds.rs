//! The fuzz targets' properties on the committed inputs and on mutations of them, the same on every run.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test")]

#[path = "../../fuzz/src/network.rs"]
#[allow(unreachable_pub, reason = "a crate of its own there")]
mod properties;

#[path = "../../fuzz/src/short.rs"]
#[allow(unreachable_pub, reason = "public where it is included")]
mod short;

/// What a mutation puts in: pieces that the parsers mind.
const PIECES: [&[u8]; 24] = [
    b"\0",
    b"\xff",
    b"\n",
    b"\\\n",
    b"=",
    b"[",
    b"]",
    b"*",
    b"!",
    b"\x1b[2J",
    b"iface eth0 inet static\n",
    b"address 10.0.0.9/8\n",
    b"Address=2001:db8::9/64\n",
    b"[Network]\n",
    b"[Match]\nName=[!e]*\n",
    b"VLAN=eth0\n",
    b"Kind=vlan\n[VLAN]\nId=4095\n",
    b"address1=10.0.0.9/8,\n",
    b"bridge_ports regex .* none\n",
    b"vlan-raw-device eth0\n",
    b"\x81\0\0\x05",
    b"\x08\x06",
    b"\x86\xdd",
    b"\x88",
];

#[test]
fn every_target_has_seeds_that_parse() {
    short::seeds_parse("network", &properties::TARGETS);
}

#[test]
fn the_properties_hold_for_mutations_of_the_seeds() {
    short::mutations_hold("network", &properties::TARGETS, &PIECES);
}
