//! IPv6 neighbour discovery, as far as the detection of duplicate addresses needs it (RFC 4861, RFC 4862).
//!
//! ```text
//! Ethernet   to 6 · from 6 · [0x8100 · VLAN 2] · 0x86dd
//! IPv6       0x60000000 · length 2 · 58 · hops 255 · source 16 · destination 16
//! ICMPv6     type 135 or 136 · code 0 · checksum 2 · flags 4 · target 16 · options: type 1 · length in 8 bytes · …
//! ```

use super::packet::{Heard, Said, ethernet, payload};
use atlas_model::address::Mac;
use std::net::{IpAddr, Ipv6Addr};

const ETHERTYPE: u16 = 0x86dd;
const ICMP: u8 = 58;
const SOLICITATION: u8 = 135;
const ADVERTISEMENT: u8 = 136;
const SENDERS_MAC: u8 = 1;
const TARGETS_MAC: u8 = 2;
const OVERRIDE: u32 = 1 << 29;
const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);

/// The question whether somebody has `address`, by somebody who has none.
pub fn probe(from: Mac, vlan: Option<u16>, address: Ipv6Addr) -> Vec<u8> {
    build(from, vlan, (Ipv6Addr::UNSPECIFIED, group_of(address)), &message(SOLICITATION, 0, address, &[]))
}

/// The question who has `address`, which is another server's. It comes from the link-local address that this card's number makes: one from
/// nobody would tell a kernel that is about to take the address that it may not.
pub fn question(from: Mac, vlan: Option<u16>, address: Ipv6Addr) -> Vec<u8> {
    let option = [&[SENDERS_MAC, 1][..], &from.0].concat();
    build(from, vlan, (link_local(from), group_of(address)), &message(SOLICITATION, 0, address, &option))
}

/// The group that whoever has the address listens to.
fn group_of(address: Ipv6Addr) -> Ipv6Addr {
    let [.., a, b, c] = address.octets();
    Ipv6Addr::new(0xff02, 0, 0, 0, 0, 1, 0xff00 | u16::from(a), u16::from_be_bytes([b, c]))
}

fn link_local(Mac([a, b, c, d, e, f]): Mac) -> Ipv6Addr {
    let word = |high, low| u16::from_be_bytes([high, low]);
    Ipv6Addr::new(0xfe80, 0, 0, 0, word(a ^ 2, b), word(c, 0xff), word(0xfe, d), word(e, f))
}

/// The answer that `address` is in use here.
pub fn defend(from: Mac, vlan: Option<u16>, address: Ipv6Addr) -> Vec<u8> {
    let option = [&[TARGETS_MAC, 1][..], &from.0].concat();
    build(from, vlan, (address, ALL_NODES), &message(ADVERTISEMENT, OVERRIDE, address, &option))
}

fn message(kind: u8, flags: u32, target: Ipv6Addr, options: &[u8]) -> Vec<u8> {
    [&[kind, 0, 0, 0][..], &flags.to_be_bytes(), &target.octets(), options].concat()
}

fn build(from: Mac, vlan: Option<u16>, (source, destination): (Ipv6Addr, Ipv6Addr), icmp: &[u8]) -> Vec<u8> {
    let [.., a, b, c, d] = destination.octets();
    let mut frame = ethernet(Mac([0x33, 0x33, a, b, c, d]), from, vlan, ETHERTYPE);
    let length = u16::try_from(icmp.len()).unwrap_or_default();
    frame.extend([0x60, 0, 0, 0]);
    frame.extend(length.to_be_bytes());
    frame.extend([ICMP, 255]);
    frame.extend(source.octets());
    frame.extend(destination.octets());
    let sum = checksum(source, destination, icmp);
    frame.extend(&icmp[..2]);
    frame.extend(sum.to_be_bytes());
    frame.extend(&icmp[4..]);
    frame
}

/// Of an ICMPv6 message whose own checksum is zero.
fn checksum(source: Ipv6Addr, destination: Ipv6Addr, icmp: &[u8]) -> u16 {
    let length = u16::try_from(icmp.len()).unwrap_or_default();
    let pseudo = [&source.octets()[..], &destination.octets(), &length.to_be_bytes(), &[0, ICMP], icmp].concat();
    let sum: u32 = pseudo.chunks(2).map(|pair| u32::from(pair[0]) << 8 | u32::from(*pair.get(1).unwrap_or(&0))).sum();
    let sum = (sum & 0xffff) + (sum >> 16);
    !((sum & 0xffff) + (sum >> 16)) as u16
}

/// What a frame says about an address; `None` where it is no neighbour discovery, or says nothing.
///
/// The checksum is not looked at: a card may be left to fill it in, and a wire has one of its own.
pub fn parse(frame: &[u8]) -> Option<Heard> {
    let (from, vlan, packet) = payload(frame, ETHERTYPE)?;
    let icmp = packet.get(40..64)?;
    let is_neighbours = packet[0] >> 4 == 6 && packet[6] == ICMP && packet[7] == 255 && icmp[1] == 0;
    if !is_neighbours || !from.is_one_card() {
        return None;
    }
    let address = |bytes: &[u8]| <[u8; 16]>::try_from(bytes).ok().map(Ipv6Addr::from);
    let (source, target) = (address(packet.get(8..24)?)?, address(icmp.get(8..24)?)?);
    let (said, address, mac) = match icmp[0] {
        SOLICITATION if source.is_unspecified() => (Said::Probe, target, from),
        SOLICITATION => (Said::Claim, source, from),
        ADVERTISEMENT => (Said::Claim, target, option(packet.get(64..)?).unwrap_or(from)),
        _ => return None,
    };
    let one = !address.is_unspecified() && !address.is_multicast();
    one.then_some(Heard { said, address: IpAddr::V6(address), mac, vlan })
}

/// The Ethernet address in the options of an advertisement.
fn option(mut options: &[u8]) -> Option<Mac> {
    while let [kind, eighths, ..] = *options {
        let whole = options.get(..usize::from(eighths) * 8).filter(|whole| !whole.is_empty())?;
        if kind == TARGETS_MAC {
            return whole.get(2..8)?.try_into().ok().map(Mac).filter(|mac| mac.is_one_card());
        }
        options = &options[whole.len()..];
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: Mac = Mac([2, 0, 0, 0, 0, 1]);
    const IP: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0x12, 0x3456);

    #[test]
    fn a_probe_claims_nothing_and_its_answer_does() {
        for vlan in [None, Some(4094)] {
            let asked = probe(A, vlan, IP);
            assert_eq!(asked[..6], [0x33, 0x33, 0xff, 0x12, 0x34, 0x56]);
            assert_eq!(parse(&asked), Some(Heard { said: Said::Probe, address: IP.into(), mac: A, vlan }));
            let answered = parse(&defend(A, vlan, IP));
            assert_eq!(answered, Some(Heard { said: Said::Claim, address: IP.into(), mac: A, vlan }));
        }
    }

    #[test]
    fn a_question_for_another_servers_address_frightens_nobody() {
        let heard = parse(&question(A, None, IP)).unwrap();
        assert_eq!((heard.said, heard.address), (Said::Claim, "fe80::ff:fe00:1".parse().unwrap()));
    }

    #[test]
    fn a_checksum_over_all_of_it_is_zero() {
        let frame = defend(A, None, IP);
        let icmp = &frame[14 + 40..];
        assert_eq!(checksum(IP, ALL_NODES, icmp), 0);
    }

    #[test]
    fn what_is_cut_off_or_of_another_kind_says_nothing() {
        let whole = probe(A, None, IP);
        for end in 0..whole.len() {
            assert_eq!(parse(&whole[..end]), None, "cut at {end}");
        }
        // Not from the wire itself: somebody routed it here.
        let mut far = whole.clone();
        far[14 + 7] = 64;
        assert_eq!(parse(&far), None);
        let mut echo = whole;
        echo[14 + 40] = 128;
        assert_eq!(parse(&echo), None);
        // Options that lie about their length end the search, and the frame's sender counts.
        for length in [0, 255] {
            let mut lying = defend(A, None, IP);
            lying[14 + 40 + 25] = length;
            assert_eq!(parse(&lying).map(|heard| heard.mac), Some(A), "{length}");
        }
    }
}
