//! ARP over Ethernet, as far as a question for an address needs it (RFC 826, RFC 5227).
//!
//! ```text
//! Ethernet   to 6 · from 6 · [0x8100 · VLAN 2] · 0x0806
//! ARP        1 · 0x0800 · 6 · 4 · operation 2 · sender MAC 6 · sender IP 4 · target MAC 6 · target IP 4
//! ```

use super::packet::{Heard, Said, ethernet, payload};
use atlas_model::address::Mac;
use std::net::{IpAddr, Ipv4Addr};

const ETHERTYPE: u16 = 0x0806;
const REQUEST: u16 = 1;
const REPLY: u16 = 2;
const EVERYBODY: Mac = Mac([0xff; 6]);
/// Stands where a question has the address that it asks for, and nobody looks: this one asks for another server's.
const QUESTION: Mac = Mac(*b"\x02ATLAS");
/// What stands before the addresses: Ethernet, IPv4, and their lengths.
const FORM: [u8; 6] = [0, 1, 8, 0, 6, 4];

/// The question whether somebody has `address`, by somebody who has none: it leaves no trace in anybody's table.
pub fn probe(from: Mac, vlan: Option<u16>, address: Ipv4Addr) -> Vec<u8> {
    build(from, EVERYBODY, vlan, REQUEST, (from, Ipv4Addr::UNSPECIFIED), (Mac([0; 6]), address))
}

/// The question who has `address`, which is another server's: one that is about to take it has nothing to fear from it.
pub fn question(from: Mac, vlan: Option<u16>, address: Ipv4Addr) -> Vec<u8> {
    build(from, EVERYBODY, vlan, REQUEST, (from, Ipv4Addr::UNSPECIFIED), (QUESTION, address))
}

/// The answer that `address` is in use here.
pub fn defend(from: Mac, vlan: Option<u16>, address: Ipv4Addr, asker: Mac) -> Vec<u8> {
    build(from, asker, vlan, REPLY, (from, address), (asker, Ipv4Addr::UNSPECIFIED))
}

fn build(
    from: Mac,
    to: Mac,
    vlan: Option<u16>,
    operation: u16,
    sender: (Mac, Ipv4Addr),
    target: (Mac, Ipv4Addr),
) -> Vec<u8> {
    let mut frame = ethernet(to, from, vlan, ETHERTYPE);
    frame.extend(FORM);
    frame.extend(operation.to_be_bytes());
    for (mac, address) in [sender, target] {
        frame.extend(mac.0);
        frame.extend(address.octets());
    }
    // The shortest frame that a wire carries.
    frame.resize(frame.len().max(60), 0);
    frame
}

/// What a frame says about an address; `None` where it is no ARP, or says nothing.
pub fn parse(frame: &[u8]) -> Option<Heard> {
    let (from, vlan, packet) = payload(frame, ETHERTYPE)?;
    let packet: &[u8; 28] = packet.get(..28)?.try_into().ok()?;
    let operation = u16::from_be_bytes([packet[6], packet[7]]);
    if packet[..6] != FORM || !(operation == REQUEST || operation == REPLY) {
        return None;
    }
    let address = |at: usize| Ipv4Addr::new(packet[at], packet[at + 1], packet[at + 2], packet[at + 3]);
    let sender = Mac([packet[8], packet[9], packet[10], packet[11], packet[12], packet[13]]);
    let mac = if sender.is_one_card() { sender } else { from };
    let (said, address) = match (address(14), operation) {
        (Ipv4Addr::UNSPECIFIED, REQUEST) if packet[18..24] == QUESTION.0 => return None,
        (Ipv4Addr::UNSPECIFIED, REQUEST) => (Said::Probe, address(24)),
        (Ipv4Addr::UNSPECIFIED, _) => return None,
        (sender, _) => (Said::Claim, sender),
    };
    mac.is_one_card().then_some(Heard { said, address: IpAddr::V4(address), mac, vlan })
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: Mac = Mac([2, 0, 0, 0, 0, 1]);
    const B: Mac = Mac([2, 0, 0, 0, 0, 2]);
    const IP: Ipv4Addr = Ipv4Addr::new(192, 168, 77, 1);

    #[test]
    fn a_probe_claims_nothing_and_its_answer_does() {
        for vlan in [None, Some(5)] {
            let asked = parse(&probe(A, vlan, IP)).unwrap();
            assert_eq!(asked, Heard { said: Said::Probe, address: IP.into(), mac: A, vlan });
            let answered = parse(&defend(B, vlan, IP, A)).unwrap();
            assert_eq!(answered, Heard { said: Said::Claim, address: IP.into(), mac: B, vlan });
        }
        let probe = probe(A, None, IP);
        assert_eq!((probe.len(), &probe[28..32]), (60, &[0; 4][..]));
    }

    #[test]
    fn a_question_for_another_servers_address_frightens_nobody() {
        assert_eq!(parse(&question(A, None, IP)), None);
    }

    #[test]
    fn what_is_cut_off_or_of_another_kind_says_nothing() {
        let whole = defend(B, Some(5), IP, A);
        for end in 0..14 + 4 + 28 {
            assert_eq!(parse(&whole[..end]), None, "cut at {end}");
        }
        for at in [12, 14, 18, 19, 20, 22, 23, 25] {
            let mut other = defend(B, None, IP, A);
            other[at.min(21)] ^= 0x40;
            assert_eq!(parse(&other), None, "byte {at}");
        }
        // Everybody's address as a sender's: the frame's own sender counts.
        let mut group = defend(B, None, IP, A);
        group[22..28].fill(0xff);
        assert_eq!(parse(&group).map(|heard| heard.mac), Some(B));
    }
}
