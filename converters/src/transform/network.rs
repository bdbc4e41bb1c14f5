//! The network's identity: `/etc/network/interfaces` of ifupdown, and `.network` files of systemd-networkd.
//!
//! ```text
//! /etc/network/interfaces            /etc/systemd/network/50-ifupdown-eth0.network
//!   auto eth0                        [Match]
//!   iface eth0 inet static           Name=eth0
//!     address 192.168.1.10/24   ↔    [Network]
//!     gateway 192.168.1.1            Address=192.168.1.10/24
//!                                    Gateway=192.168.1.1
//! ```
//!
//! Only files of this name become stanzas again: a server of the older version that uses systemd-networkd, too, keeps its other files as they
//! are. Nothing is guessed. Where a stanza has no certain counterpart, as of a bridge, all stanzas stay as they are: ifupdown is in the newer
//! release as well, and a secondary that does not start it says so. What a `.network` file says and no stanza can is refused.

use super::interfaces::{self, Interface};
use crate::{Error, part::Pattern, tree::Tree};
use atlas_model::TreePath;
use std::{collections::BTreeMap, fmt::Write};

const INTERFACES: &str = "/etc/network/interfaces";
const FRAGMENTS: &str = "/etc/network/interfaces.d/*";
const PREFIX: &str = "/etc/systemd/network/50-ifupdown-";
const SUFFIX: &str = ".network";
const HEADING: &str =
    "# Made from /etc/network/interfaces; read on servers of an older EnvVersion as its stanza again.\n";

fn patterns(texts: &[&str]) -> Result<Vec<Pattern>, Error> {
    texts.iter().map(|text| Pattern::parse(text).map_err(Error::Damaged)).collect()
}

fn utf8(path: &TreePath, content: Vec<u8>) -> Result<String, Error> {
    String::from_utf8(content).map_err(|_| Error::Damaged(format!("{path} is no text")))
}

/// Stanzas become `.network` files.
pub(super) fn to_newer(tree: &mut Tree) -> Result<(), Error> {
    let mut read = vec![];
    for path in tree.files(&patterns(&[INTERFACES, FRAGMENTS])?) {
        let text = utf8(&path, tree.text(&path)?.unwrap_or_default())?;
        // One half by ifupdown and the other by systemd-networkd, nobody has tried.
        let Ok(found) = interfaces::parse(&text) else { return Ok(()) };
        read.push((path, found));
    }
    for (path, found) in read {
        if found.described.is_empty() {
            continue;
        }
        let mut new: BTreeMap<TreePath, Vec<u8>> = BTreeMap::new();
        for one in &found.described {
            let at = TreePath::parse(&format!("{PREFIX}{}{SUFFIX}", one.name));
            let at = at.map_err(|error| Error::Damaged(format!("{path}: {}: {error}", one.name)))?;
            if tree.text(&at)?.is_some() {
                return Err(Error::Damaged(format!("{path} describes {}, and so does {at}", one.name)));
            }
            new.insert(at, write(one).into_bytes());
        }
        new.insert(path.clone(), found.rest.into_bytes());
        tree.replace_files(&[path], &new);
    }
    Ok(())
}

/// The `.network` files that are named so become stanzas again.
pub(super) fn to_older(tree: &mut Tree) -> Result<(), Error> {
    let files = tree.files(&patterns(&[&format!("{PREFIX}*{SUFFIX}")])?);
    if files.is_empty() {
        return Ok(());
    }
    let interfaces = TreePath::parse(INTERFACES).map_err(|error| Error::Damaged(error.to_string()))?;
    let mut text = match tree.text(&interfaces)? {
        Some(content) => utf8(&interfaces, content)?,
        None => "auto lo\niface lo inet loopback\n\n".to_owned(),
    };
    if !text.is_empty() && !text.ends_with('\n') {
        text.push('\n');
    }
    for path in &files {
        let content = utf8(path, tree.text(path)?.unwrap_or_default())?;
        let one = parse(&content).map_err(|why| Error::Damaged(format!("{path}: {why}")))?;
        text.push_str(&interfaces::stanzas(&one));
    }
    tree.replace_files(&files, &[(interfaces, text.into_bytes())].into());
    Ok(())
}

/// The `.network` file of an interface.
fn write(one: &Interface) -> String {
    let mut text = format!("{HEADING}[Match]\nName={}\n", one.name);
    if one.mtu.is_some() || one.mac.is_some() || !one.auto {
        text.push_str("\n[Link]\n");
        one.mtu.iter().for_each(|mtu| text.push_str(&format!("MTUBytes={mtu}\n")));
        one.mac.iter().for_each(|mac| text.push_str(&format!("MACAddress={mac}\n")));
        if !one.auto {
            text.push_str("ActivationPolicy=manual\n");
        }
    }
    text.push_str("\n[Network]\n");
    let dhcp = match one.dhcp {
        (true, true) => "DHCP=yes\n",
        (true, false) => "DHCP=ipv4\n",
        (false, true) => "DHCP=ipv6\n",
        (false, false) => "",
    };
    text.push_str(dhcp);
    for (key, values) in [("Address", &one.addresses), ("Gateway", &one.gateways), ("DNS", &one.dns)] {
        values.iter().for_each(|value| text.push_str(&format!("{key}={value}\n")));
    }
    if !one.domains.is_empty() {
        let _ = writeln!(text, "Domains={}", one.domains.join(" "));
    }
    if let Some(accept) = one.accept_ra {
        let _ = writeln!(text, "IPv6AcceptRA={}", if accept { "yes" } else { "no" });
    }
    text
}

/// Reads a `.network` file that says no more than stanzas can.
///
/// # Errors
/// Names what they cannot say.
pub fn parse(text: &str) -> Result<Interface, String> {
    let mut one = Interface { auto: true, ..Interface::default() };
    let mut section = "";
    for line in text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with(['#', ';'])) {
        if let Some(name) = line.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            section = name;
            continue;
        }
        let refused = || format!("'{line}' in [{section}] has no counterpart in /etc/network/interfaces");
        let (key, value) = line.split_once('=').map(|(key, value)| (key.trim(), value.trim())).ok_or_else(refused)?;
        set(&mut one, section, key, value).ok_or_else(refused)?;
    }
    if one.name.is_empty() {
        return Err("it names no interface: Name= in [Match] is missing".into());
    }
    let has = |six: bool, list: &[String]| list.iter().any(|address| address.contains(':') == six);
    if one.addresses.is_empty() && one.dhcp == (false, false) && one.accept_ra != Some(true) {
        return Err("it gives the interface no address, which no stanza can say".into());
    }
    if [false, true].iter().any(|six| has(*six, &one.gateways) && !has(*six, &one.addresses)) {
        return Err("it has a gateway without an address of the same kind, which no stanza can say".into());
    }
    if one.accept_ra == Some(false) && !has(true, &one.addresses) && !one.dhcp.1 {
        return Err("it says IPv6AcceptRA=no and nothing else of IPv6, which no stanza can say".into());
    }
    Ok(one)
}

fn set(one: &mut Interface, section: &str, key: &str, value: &str) -> Option<()> {
    let words = || value.split_whitespace().map(str::to_owned);
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_".contains(c);
    match (section, key, value) {
        (_, _, "") => return None,
        ("Match", "Name", name) if one.name.is_empty() && name.chars().all(plain) => name.clone_into(&mut one.name),
        ("Link", "MTUBytes", mtu) if mtu.bytes().all(|b| b.is_ascii_digit()) => one.mtu = Some(mtu.to_owned()),
        ("Link", "MACAddress", mac) if words().count() == 1 => one.mac = Some(mac.to_owned()),
        ("Link", "ActivationPolicy", "manual") => one.auto = false,
        ("Network", "Address", address) if address.contains('/') && words().count() == 1 => {
            one.addresses.push(address.to_owned());
        }
        ("Network", "Gateway", gateway) if gateway.contains(['.', ':']) && words().count() == 1 => {
            one.gateways.push(gateway.to_owned());
        }
        ("Network", "DNS", _) => one.dns.extend(words()),
        ("Network", "Domains", _) => one.domains.extend(words()),
        ("Network", "DHCP", "yes") => one.dhcp = (true, true),
        ("Network", "DHCP", "ipv4") => one.dhcp = (true, false),
        ("Network", "DHCP", "ipv6") => one.dhcp = (false, true),
        ("Network", "IPv6AcceptRA", "yes") => one.accept_ra = Some(true),
        ("Network", "IPv6AcceptRA", "no") => one.accept_ra = Some(false),
        _ => return None,
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_says_what_the_stanza_said() {
        let one = Interface {
            name: "eth0".into(),
            addresses: vec!["192.168.1.10/24".into(), "2001:db8::1/64".into()],
            gateways: vec!["192.168.1.1".into()],
            dns: vec!["10.0.0.1".into(), "10.0.0.2".into()],
            domains: vec!["bakery.example".into()],
            accept_ra: Some(false),
            mtu: Some("9000".into()),
            ..Interface::default()
        };
        assert_eq!(parse(&write(&one)).unwrap(), one);
        let stanzas = interfaces::stanzas(&one);
        assert_eq!(interfaces::parse(&stanzas).unwrap().described, [one], "{stanzas}");
    }

    #[test]
    fn what_a_stanza_cannot_say_is_refused() {
        let file = |line: &str| format!("[Match]\nName=eth0\n[Network]\nAddress=1.2.3.4/24\n{line}\n");
        assert!(parse(&file("")).is_ok());
        for line in [
            "VLAN=x",
            "Address=1.2.3.4",
            "Gateway=_dhcp4",
            "[Route]\nGateway=1.2.3.4",
            "DHCP=maybe",
            "nonsense",
            "Bond=b",
        ] {
            assert!(parse(&file(line)).unwrap_err().contains("no counterpart"), "{line}");
        }
        assert!(parse("[Network]\nAddress=1.2.3.4/24\n").unwrap_err().contains("names no interface"));
        assert!(parse("[Match]\nName=eth0\n").unwrap_err().contains("no address"));
        assert!(parse("[Match]\nName=eth*\n").is_err() && parse("[Match]\nType=ether\n").is_err());
    }
}
