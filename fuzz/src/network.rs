//! What must hold for every configuration of the network and every frame from a LAN, as `properties.rs` has it for the others;
//! `host/tests/fuzz_seeds.rs` includes this file.

use atlas_host::net::packet::Heard;
use atlas_model::address::{self, Link, Mac, Plan};

/// A parser's properties as a function of the input; `true` where it parsed.
pub type Property = fn(&[u8]) -> bool;

/// Every target by its name, which is that of its folder below `seeds-network`, too.
pub const TARGETS: [(&str, Property); 2] = [("addresses", addresses), ("frames", frames)];

/// Files of all kinds: an address is one that a machine can have, is asked for somewhere, and what is said can be shown.
pub fn addresses(data: &[u8]) -> bool {
    let text = String::from_utf8_lossy(data);
    let mut plan = Plan::default();
    let includes = address::ifupdown(&mut plan, "interfaces", &text);
    assert!(includes.len() <= text.len());
    address::network(&mut plan, "a.network", &text);
    address::netdev(&mut plan, "a.netdev", &text);
    address::keyfile(&mut plan, "a.nmconnection", &text, &|_| Some("eth1".to_owned()));
    address::dhcpcd(&mut plan, "dhcpcd.conf", &text);
    for said in &plan.not_understood {
        assert!(!said.chars().any(char::is_control) && said.chars().count() <= 300, "{said:?}");
    }
    let card = |(index, name): (u32, &str)| Link { name: name.into(), index, mac: Mac([2, 0, 0, 0, 0, index as u8]) };
    let cards: Vec<Link> = (1..).zip(["eth0", "eth1", "enp3s0"]).map(card).collect();
    let wanted = plan.wanted(&cards);
    assert_eq!(wanted.iter().map(|one| one.address).collect::<Vec<_>>(), plan.addresses());
    for one in &wanted {
        assert!(!one.address.is_unspecified() && !one.address.is_multicast() && !one.address.is_loopback());
        assert!(!one.wires.is_empty(), "{one:?} is asked for nowhere");
        assert!(one.wires.iter().all(|wire| (1..=3).contains(&wire.index) && wire.vlan.is_none_or(|id| id < 4095)));
    }
    !plan.is_empty()
}

/// A frame: who speaks is one card, of an address that one machine can have, and nothing behind the frame counts.
pub fn frames(data: &[u8]) -> bool {
    let Some(heard) = Heard::parse(data) else { return false };
    assert!(heard.mac.is_one_card() && heard.vlan.is_none_or(|id| (1..4096).contains(&id)));
    assert!(!heard.address.is_unspecified() || heard.said == atlas_host::net::packet::Said::Probe);
    true
}
