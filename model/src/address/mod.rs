//! The addresses that an identity will take, and the wire of each, as the files of whoever configures the network say it.
//!
//! ```text
//! /etc/network/interfaces  interfaces.d    ifupdown    ┐
//! /etc/systemd/network  /run/systemd/…     networkd    ├─► Plan: cards, addresses,  ──► Wanted: address, card, VLAN
//! …/system-connections/*.nmconnection      keyfile     │   what lies on what               ▲
//! /etc/dhcpcd.conf                         dhcpcd      ┘                                   the machine's cards
//! ```
//!
//! netplan and cloud-init write files of these kinds, and those are read. What comes by DHCP is no address of the identity: there is
//! nothing to ask for. What was not understood is kept as a sentence, and an address whose card cannot be told is asked for on
//! every wire: asking too widely costs a few frames, asking too little could cost the data.

mod dhcpcd;
mod ifupdown;
mod ini;
mod keyfile;
mod networkd;
mod wires;

pub use dhcpcd::dhcpcd;
pub use ifupdown::{Include, ifupdown};
pub use keyfile::keyfile;
pub use networkd::{netdev, network};
pub use wires::{Link, Wanted, Wire, glob};

use std::{fmt, net::IpAddr, str::FromStr};

/// The most that is taken from the files of one server; what is beyond is reported as not understood.
const MAX_ITEMS: usize = 1000;

/// An Ethernet address.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Mac(pub [u8; 6]);

impl Mac {
    /// Whether it names one card: not all zeroes, not a group.
    pub fn is_one_card(self) -> bool {
        self.0 != [0; 6] && self.0[0] & 1 == 0
    }
}

/// A text that is no Ethernet address.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("not an Ethernet address (expected six pairs of hexadecimal digits)")]
pub struct BadMac;

impl FromStr for Mac {
    type Err = BadMac;
    fn from_str(text: &str) -> Result<Mac, BadMac> {
        let mut bytes = [0; 6];
        let mut parts = text.split([':', '-']);
        for byte in &mut bytes {
            let part = parts
                .next()
                .filter(|part| part.len() < 3 && part.bytes().all(|b| b.is_ascii_hexdigit()))
                .ok_or(BadMac)?;
            *byte = u8::from_str_radix(part, 16).map_err(|_| BadMac)?;
        }
        if parts.next().is_some() { Err(BadMac) } else { Ok(Mac(bytes)) }
    }
}

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text: Vec<String> = self.0.iter().map(|byte| format!("{byte:02x}")).collect();
        f.pad(&text.join(":"))
    }
}

impl fmt::Debug for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

impl TryFrom<String> for Mac {
    type Error = BadMac;
    fn try_from(text: String) -> Result<Mac, BadMac> {
        text.parse()
    }
}

impl From<Mac> for String {
    fn from(mac: Mac) -> String {
        mac.to_string()
    }
}

/// Which cards a file means: what is said must hold, what is empty says nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cards {
    /// Shell patterns; one that begins with `!` turns the meaning of all of them around.
    pub names: Vec<String>,
    /// The cards' own addresses.
    pub macs: Vec<Mac>,
    /// Whether the file says more than was understood, so that fewer cards may be meant.
    pub perhaps: bool,
}

impl Cards {
    /// The interface of this name.
    pub fn named(name: impl Into<String>) -> Cards {
        Cards { names: vec![name.into()], ..Cards::default() }
    }
}

/// What one file, or one stanza of it, gives to an interface.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Described {
    /// The file, for messages. networkd takes the first one by its last component.
    pub file: String,
    /// The interface.
    pub cards: Cards,
    /// Its static addresses.
    pub addresses: Vec<IpAddr>,
    /// Whether an interface that this fits takes nothing from later files: so does networkd.
    pub exclusive: bool,
}

/// An interface that is made on top of others: a VLAN, a bond, a bridge.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Upper {
    /// Its name.
    pub name: String,
    /// The VLAN, where it is one.
    pub vlan: Option<u16>,
    /// What it lies on.
    pub over: Vec<Cards>,
}

/// All that the files say.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// Interfaces and their addresses, in the order of the files.
    pub described: Vec<Described>,
    /// What lies on what.
    pub uppers: Vec<Upper>,
    /// What could mean an address and was not understood: a sentence each, with the file.
    pub not_understood: Vec<String>,
}

impl Plan {
    /// Whether nothing static is in it.
    pub fn is_empty(&self) -> bool {
        self.described.iter().all(|one| one.addresses.is_empty())
    }

    /// All addresses, each once.
    pub fn addresses(&self) -> Vec<IpAddr> {
        let mut all: Vec<IpAddr> = self.described.iter().flat_map(|one| one.addresses.clone()).collect();
        all.sort_unstable();
        all.dedup();
        all
    }

    /// Adds that something was not understood.
    pub fn unclear(&mut self, file: &str, what: impl fmt::Display) {
        if self.not_understood.len() < MAX_ITEMS {
            let plain = |c: char| if c.is_control() { '?' } else { c };
            self.not_understood.push(format!("{file}: {what}").chars().take(300).map(plain).collect());
        }
    }

    fn describe(&mut self, described: Described) {
        if self.described.len() < MAX_ITEMS {
            self.described.push(described);
        } else {
            self.unclear(&described.file, "more interfaces than any server has");
        }
    }

    /// The upper interface of this name, made where there is none yet.
    fn upper(&mut self, name: &str) -> &mut Upper {
        let known = self.uppers.iter().position(|upper| upper.name == name);
        let at = known.unwrap_or_else(|| {
            self.uppers.push(Upper { name: name.to_owned(), ..Upper::default() });
            self.uppers.len() - 1
        });
        &mut self.uppers[at]
    }

    /// Notes that `name` lies on `cards`.
    fn lies_on(&mut self, name: &str, cards: Cards) {
        let over = &mut self.upper(name).over;
        if !over.contains(&cards) && over.len() < MAX_ITEMS {
            over.push(cards);
        }
    }

    /// Takes an address with or without a prefix; what cannot be asked for (loopback, any, groups) is left out, as is what is none.
    fn address(&mut self, file: &str, text: &str) -> Option<IpAddr> {
        let bare = text.split('/').next().unwrap_or_default().trim();
        let Ok(address) = bare.parse::<IpAddr>() else {
            self.unclear(file, format_args!("'{text}' is not an address"));
            return None;
        };
        let one = !address.is_unspecified() && !address.is_multicast() && !address.is_loopback();
        one.then_some(address)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ethernet_address_reads_back() {
        let mac: Mac = "52:54:00:aB:c:01".parse().unwrap();
        assert_eq!(mac.to_string(), "52:54:00:ab:0c:01");
        assert_eq!(mac.to_string().parse(), Ok(mac));
        for bad in
            ["", "52:54:00:ab:0c", "52:54:00:ab:0c:01:02", "52:54:00:ab:0c:+1", "x", "525400ab0c01", "00:0:0:0:0:"]
        {
            assert_eq!(bad.parse::<Mac>(), Err(BadMac), "{bad}");
        }
        assert!(mac.is_one_card() && !Mac([0xff; 6]).is_one_card() && !Mac([0; 6]).is_one_card());
    }
}
