//! From what the files say to the wires on which each address is asked for.

use super::{Cards, Described, Mac, Plan};
use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

/// Interfaces that lie on each other deeper than this are not followed.
const MAX_DEPTH: usize = 6;

/// A network card of this machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    /// `eth0`.
    pub name: String,
    /// The kernel's number of it.
    pub index: u32,
    /// Its Ethernet address.
    pub mac: Mac,
}

/// Where frames go: a card, and the VLAN on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Wire {
    /// The card.
    pub index: u32,
    /// The VLAN, where it is tagged.
    pub vlan: Option<u16>,
}

/// An address that will be taken, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// The address.
    pub address: IpAddr,
    /// Its wires.
    pub wires: BTreeSet<Wire>,
    /// Whether its card could not be told, so that every wire is asked.
    pub everywhere: bool,
}

impl Plan {
    /// Which address is asked for where, on a machine with these cards. Sorted by address, each once.
    pub fn wanted(&self, links: &[Link]) -> Vec<Wanted> {
        let mut found: BTreeMap<IpAddr, BTreeSet<Wire>> = BTreeMap::new();
        for one in &self.described {
            let wires = self.wires_of(one, links);
            for address in &one.addresses {
                found.entry(*address).or_default().extend(&wires);
            }
        }
        let all: BTreeSet<Wire> = links.iter().map(|link| Wire { index: link.index, vlan: None }).collect();
        let wanted = |(address, wires): (IpAddr, BTreeSet<Wire>)| {
            let everywhere = wires.is_empty();
            Wanted { address, wires: if everywhere { all.clone() } else { wires }, everywhere }
        };
        found.into_iter().map(wanted).collect()
    }

    /// The wires below whatever this description fits.
    fn wires_of(&self, one: &Described, links: &[Link]) -> BTreeSet<Wire> {
        let mut wires = BTreeSet::new();
        for link in links {
            if fits(&one.cards, &link.name, Some(link.mac)) && self.is_first(one, &link.name, Some(link.mac)) {
                wires.insert(Wire { index: link.index, vlan: None });
            }
        }
        for upper in &self.uppers {
            if fits(&one.cards, &upper.name, None) && self.is_first(one, &upper.name, None) {
                wires.extend(self.below(&upper.name, links, MAX_DEPTH));
            }
        }
        wires
    }

    /// Whether no earlier file is sure to have the interface for itself.
    fn is_first(&self, one: &Described, name: &str, mac: Option<Mac>) -> bool {
        let earlier = self.described.iter().take_while(|other| !std::ptr::eq(*other, one));
        !one.exclusive
            || !earlier
                .filter(|other| other.exclusive)
                .any(|other| !other.cards.perhaps && fits(&other.cards, name, mac))
    }

    /// The wires below an interface that is made on others.
    fn below(&self, name: &str, links: &[Link], depth: usize) -> BTreeSet<Wire> {
        let (Some(upper), Some(depth)) = (self.uppers.iter().find(|upper| upper.name == name), depth.checked_sub(1))
        else {
            return BTreeSet::new();
        };
        let mut wires = BTreeSet::new();
        for cards in &upper.over {
            let direct = links.iter().filter(|link| fits(cards, &link.name, Some(link.mac)));
            wires.extend(direct.map(|link| Wire { index: link.index, vlan: None }));
            let others = self.uppers.iter().filter(|other| other.name != name && fits(cards, &other.name, None));
            others.for_each(|other| wires.extend(self.below(&other.name, links, depth)));
        }
        match upper.vlan {
            None => wires,
            // A VLAN in a VLAN is asked on the outer one: nearer comes no frame of ours.
            Some(id) => wires.into_iter().map(|wire| Wire { vlan: wire.vlan.or(Some(id)), ..wire }).collect(),
        }
    }
}

/// Whether an interface may be meant.
fn fits(cards: &Cards, name: &str, mac: Option<Mac>) -> bool {
    // As networkd reads it: a mark before the first turns all of them around, and one before another belongs to its name.
    let inverted = cards.names.first().is_some_and(|first| first.starts_with('!'));
    let first = cards.names.first().map(|first| first.strip_prefix('!').unwrap_or(first));
    let named = first.into_iter().chain(cards.names.iter().skip(1).map(String::as_str)).any(|one| glob(one, name));
    let by_name = cards.names.is_empty() || named != inverted;
    // What has no address of its own yet is told by its name alone.
    let by_mac = cards.macs.is_empty() || mac.map_or(!cards.names.is_empty(), |mac| cards.macs.contains(&mac));
    let says_something = !cards.names.is_empty() || mac.is_some();
    by_name && by_mac && says_something
}

/// Shell patterns: `*`, `?`, `[abc]`, `[a-z]`, `[!a]`.
pub fn glob(pattern: &str, text: &str) -> bool {
    let (pattern, text): (Vec<char>, Vec<char>) = (pattern.chars().collect(), text.chars().collect());
    let (mut p, mut t) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    while t < text.len() {
        if pattern.get(p) == Some(&'*') {
            star = Some((p, t));
            p += 1;
        } else if let Some(length) = pattern.get(p..).and_then(|rest| one(rest, text[t])) {
            (p, t) = (p + length, t + 1);
        } else if let Some((at, taken)) = star {
            star = Some((at, taken + 1));
            (p, t) = (at + 1, taken + 1);
        } else {
            return false;
        }
    }
    pattern[p..].iter().all(|c| *c == '*')
}

/// How much of the pattern stands for this one character.
fn one(pattern: &[char], c: char) -> Option<usize> {
    match pattern.first()? {
        '?' => Some(1),
        '[' => {
            let end = pattern.iter().skip(2).position(|c| *c == ']')? + 2;
            let inner = &pattern[1..end];
            let inverted = matches!(inner.first(), Some('!' | '^'));
            let inner = &inner[usize::from(inverted)..];
            let mut at = 0;
            let mut hit = false;
            while at < inner.len() {
                let range = inner.get(at + 1) == Some(&'-') && at + 2 < inner.len();
                let last = if range { inner[at + 2] } else { inner[at] };
                hit |= (inner[at]..=last).contains(&c);
                at += if range { 3 } else { 1 };
            }
            (hit != inverted).then_some(end + 1)
        }
        '\\' => (pattern.get(1) == Some(&c)).then_some(2),
        other => (*other == c).then_some(1),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::address::{ifupdown, keyfile, netdev, network};

    fn links() -> Vec<Link> {
        ["eth0", "eth1", "enp3s0"]
            .iter()
            .zip(1..)
            .map(|(name, index)| Link { name: (*name).into(), index, mac: Mac([2, 0, 0, 0, 0, index as u8]) })
            .collect()
    }

    fn shown(plan: &Plan) -> String {
        let wire = |wire: &Wire| match wire.vlan {
            None => wire.index.to_string(),
            Some(vlan) => format!("{}.{vlan}", wire.index),
        };
        let line = |one: Wanted| {
            let wires: Vec<String> = one.wires.iter().map(wire).collect();
            format!("{} on {}{}", one.address, wires.join(" "), if one.everywhere { " (everywhere)" } else { "" })
        };
        plan.wanted(&links()).into_iter().map(line).collect::<Vec<_>>().join("; ")
    }

    #[test]
    fn a_list_that_is_turned_around_is_so_as_networkd_reads_it() {
        let cards =
            |names: &[&str]| Cards { names: names.iter().map(|name| (*name).to_owned()).collect(), ..Cards::default() };
        let both = cards(&["!eth0", "eth1"]);
        assert_eq!(["eth0", "eth1", "eth2"].map(|name| fits(&both, name, None)), [false, false, true]);
        // A second mark belongs to the name that it stands before, which no card has.
        let one = cards(&["!eth0", "!eth1"]);
        assert_eq!(["eth0", "eth1", "eth2"].map(|name| fits(&one, name, None)), [false, true, true]);
    }

    #[test]
    fn names_patterns_and_macs_find_their_cards() {
        let of = |matched: &str| {
            let mut plan = Plan::default();
            network(&mut plan, "a", &format!("[Match]\n{matched}\n[Network]\nAddress=10.0.0.1/8\n"));
            shown(&plan)
        };
        assert_eq!(of("Name=eth1"), "10.0.0.1 on 2");
        assert_eq!(of("Name=eth*"), "10.0.0.1 on 1 2");
        assert_eq!(of("Name=!eth*"), "10.0.0.1 on 3");
        assert_eq!(of("Name=en[op]?s[0-9]"), "10.0.0.1 on 3");
        assert_eq!(of("MACAddress=02:00:00:00:00:02"), "10.0.0.1 on 2");
        assert_eq!(of("Type=ether"), "10.0.0.1 on 1 2 3");
        assert_eq!(of("Name=wlan0"), "10.0.0.1 on 1 2 3 (everywhere)");
    }

    #[test]
    fn networkd_gives_a_card_what_the_first_file_says() {
        let mut plan = Plan::default();
        network(&mut plan, "10", "[Match]\nName=eth0\n[Network]\nAddress=10.0.0.1/8\n");
        network(&mut plan, "20", "[Match]\nName=e*\n[Network]\nAddress=10.0.0.2/8\n");
        assert_eq!(shown(&plan), "10.0.0.1 on 1; 10.0.0.2 on 2 3");
        let mut plan = Plan::default();
        network(&mut plan, "10", "[Match]\nName=eth0\nHost=other\n[Network]\nAddress=10.0.0.1/8\n");
        network(&mut plan, "20", "[Match]\nName=eth0\n[Network]\nAddress=10.0.0.2/8\n");
        assert_eq!(shown(&plan), "10.0.0.1 on 1; 10.0.0.2 on 1", "the first may not be meant");
    }

    #[test]
    fn a_vlan_on_a_bond_is_tagged_on_each_of_its_cards() {
        let mut plan = Plan::default();
        network(&mut plan, "10", "[Match]\nName=eth?\n[Network]\nBond=bond0\n");
        network(&mut plan, "20", "[Match]\nName=bond0\n[Network]\nVLAN=office\n");
        network(&mut plan, "30", "[Match]\nName=office\n[Network]\nAddress=10.0.0.1/8\n");
        netdev(&mut plan, "o", "[NetDev]\nName=office\nKind=vlan\n[VLAN]\nId=5\n");
        netdev(&mut plan, "b", "[NetDev]\nName=bond0\nKind=bond\n");
        assert_eq!(shown(&plan), "10.0.0.1 on 1.5 2.5");
    }

    #[test]
    fn ifupdown_and_networkmanager_find_their_wires() {
        let mut plan = Plan::default();
        ifupdown(
            &mut plan,
            "i",
            "iface br0 inet static\naddress 10.0.0.1/8\nbridge_ports eth0 eth1.7\niface eth1.7 inet manual\n",
        );
        assert_eq!(shown(&plan), "10.0.0.1 on 1 2.7");
        let mut plan = Plan::default();
        let text =
            "[connection]\ntype=ethernet\n[ethernet]\nmac-address=02:00:00:00:00:03\n[ipv6]\naddress1=2001:db8::1/64\n";
        keyfile(&mut plan, "k", text, &|_| None);
        assert_eq!(shown(&plan), "2001:db8::1 on 3");
    }

    #[test]
    fn interfaces_that_lie_on_each_other_in_a_ring_end() {
        let mut plan = Plan::default();
        ifupdown(
            &mut plan,
            "i",
            "iface a inet static\naddress 10.0.0.1/8\nbridge_ports b\niface b inet manual\nbridge_ports a\n",
        );
        assert_eq!(shown(&plan), "10.0.0.1 on 1 2 3 (everywhere)");
    }

    #[test]
    fn patterns_are_those_of_the_shell() {
        for (pattern, text, fits) in [
            ("*", "", true),
            ("e*0", "eth0", true),
            ("e*0", "eth01", false),
            ("*a*b", "xaybzab", true),
            ("[!e]*", "eth0", false),
            ("[]", "a", false),
            ("\\*", "*", true),
            ("?", "", false),
        ] {
            assert_eq!(glob(pattern, text), fits, "{pattern} {text}");
        }
    }
}
