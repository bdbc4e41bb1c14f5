//! `/etc/network/interfaces`: stanzas of ifupdown, and what of them can be said otherwise.

use std::fmt::Write;

/// An interface as both ifupdown and systemd-networkd can describe it. Lists are in the order in which they were written.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Interface {
    /// `eth0`.
    pub name: String,
    /// Whether it comes up at boot.
    pub auto: bool,
    /// Addresses with their prefix: `192.168.1.10/24`.
    pub addresses: Vec<String>,
    /// Gateways.
    pub gateways: Vec<String>,
    /// Name servers.
    pub dns: Vec<String>,
    /// Search domains.
    pub domains: Vec<String>,
    /// `dhcp` for IPv4, for IPv6.
    pub dhcp: (bool, bool),
    /// Whether router advertisements are accepted, where that is said.
    pub accept_ra: Option<bool>,
    /// The largest packet.
    pub mtu: Option<String>,
    /// The hardware address.
    pub mac: Option<String>,
}

/// What a file is made of.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Interfaces {
    /// The interfaces but `lo`, in the order of their first stanza.
    pub described: Vec<Interface>,
    /// The text without them.
    pub rest: String,
}

/// One line, with those that continue it, as the file has it and as its words.
struct Line<'t> {
    raw: &'t str,
    words: Vec<String>,
}

fn lines(text: &str) -> Vec<Line<'_>> {
    let mut lines = Vec::new();
    let mut start = 0;
    for (at, _) in text.match_indices('\n').chain(std::iter::once((text.len(), ""))) {
        let end = (at + 1).min(text.len());
        let continued = text[start..at].ends_with('\\') && !text[start..at].trim_start().starts_with('#');
        if (continued && at < text.len()) || start == end {
            continue;
        }
        let raw = &text[start..end];
        let joined = raw.replace("\\\n", "");
        let words = if joined.trim_start().starts_with('#') { "" } else { joined.trim() };
        lines.push(Line { raw, words: words.split_whitespace().map(str::to_owned).collect() });
        start = end;
    }
    lines
}

/// Reads the file.
///
/// # Errors
/// Names what cannot be said otherwise: that is refused, not guessed.
pub fn parse(text: &str) -> Result<Interfaces, String> {
    let mut found = Interfaces::default();
    let mut up: Vec<String> = Vec::new();
    let mut current: Option<(usize, String)> = None;
    let mut in_stanza = false;
    let mut kept = String::new();
    for line in lines(text) {
        let words: Vec<&str> = line.words.iter().map(String::as_str).collect();
        match words.as_slice() {
            [] => kept.push_str(line.raw),
            ["auto" | "allow-auto" | "allow-hotplug", names @ ..] => {
                (in_stanza, current) = (false, None);
                up.extend(names.iter().filter(|name| **name != "lo").map(|name| (*name).to_owned()));
                if names.contains(&"lo") {
                    let _ = writeln!(kept, "{} lo", words[0]);
                }
            }
            ["iface", name, family, method] => {
                in_stanza = true;
                current = begin(&mut found, name, family, method)?;
                if current.is_none() {
                    kept.push_str(line.raw);
                }
            }
            ["iface", ..] => return Err(format!("{:?} is no stanza of a known form", line.raw.trim())),
            ["source" | "source-directory", ..] => {
                (in_stanza, current) = (false, None);
                kept.push_str(line.raw);
            }
            ["mapping" | "no-auto-down" | "no-scripts" | "rename" | "template", ..] => {
                return Err(format!("{:?} has no counterpart in systemd-networkd", line.raw.trim()));
            }
            [option, values @ ..] => match &current {
                Some((index, family)) => add(&mut found.described[*index], family, option, values)?,
                None if in_stanza => kept.push_str(line.raw),
                None => return Err(format!("{:?} stands in no stanza", line.raw.trim())),
            },
        }
    }
    for name in up {
        match found.described.iter_mut().find(|one| one.name == name) {
            Some(one) => one.auto = true,
            None => return Err(format!("'auto {name}' has no stanza here")),
        }
    }
    found.rest = kept;
    Ok(found)
}

/// A stanza begins: the interface that its options belong to, or none for `lo`.
fn begin(found: &mut Interfaces, name: &str, family: &str, method: &str) -> Result<Option<(usize, String)>, String> {
    if name == "lo" && method == "loopback" {
        return Ok(None);
    }
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_".contains(c);
    if !name.chars().all(plain) || name.len() > 15 {
        return Err(format!("the interface {name:?} is more than a network card (a VLAN, an alias, a pattern)"));
    }
    let index = found.described.iter().position(|one| one.name == name).unwrap_or_else(|| {
        found.described.push(Interface { name: name.to_owned(), ..Interface::default() });
        found.described.len() - 1
    });
    let one = &mut found.described[index];
    match (family, method) {
        ("inet" | "inet6", "static") => {}
        ("inet", "dhcp") => one.dhcp.0 = true,
        ("inet6", "dhcp") => one.dhcp.1 = true,
        ("inet6", "auto") => one.accept_ra = Some(true),
        _ => return Err(format!("'iface {name} {family} {method}' has no counterpart that is certain")),
    }
    Ok(Some((index, family.to_owned())))
}

fn add(one: &mut Interface, family: &str, option: &str, values: &[&str]) -> Result<(), String> {
    let refused = || format!("'{option} {}' of {} has no counterpart that is certain", values.join(" "), one.name);
    match (option, values) {
        ("address", [address]) => one.addresses.push((*address).to_owned()),
        ("netmask", [mask]) => {
            let prefix = prefix(mask, family).ok_or_else(refused)?;
            match one.addresses.last_mut().filter(|address| !address.contains('/')) {
                Some(address) => *address = format!("{address}/{prefix}"),
                None => return Err(refused()),
            }
        }
        ("gateway", [gateway]) => one.gateways.push((*gateway).to_owned()),
        ("dns-nameservers" | "dns-nameserver", [_, ..]) => one.dns.extend(values.iter().map(|v| (*v).to_owned())),
        ("dns-search", [_, ..]) => one.domains.extend(values.iter().map(|v| (*v).to_owned())),
        ("mtu", [mtu]) if mtu.bytes().all(|b| b.is_ascii_digit()) => one.mtu = Some((*mtu).to_owned()),
        ("hwaddress", ["ether", mac] | [mac]) => one.mac = Some((*mac).to_owned()),
        ("accept_ra", ["0"]) => one.accept_ra = Some(false),
        ("accept_ra", ["1"]) => one.accept_ra = Some(true),
        _ => return Err(refused()),
    }
    Ok(())
}

/// 24 for `255.255.255.0` or `24`.
fn prefix(mask: &str, family: &str) -> Option<u32> {
    let bits = if family == "inet" { 32 } else { 128 };
    if let Ok(prefix) = mask.parse::<u32>() {
        return (prefix <= bits).then_some(prefix);
    }
    let mask = u32::from(mask.parse::<std::net::Ipv4Addr>().ok()?);
    (family == "inet" && mask.leading_ones() + mask.trailing_zeros() == 32 || mask == u32::MAX)
        .then(|| mask.leading_ones())
}

/// The stanzas that describe an interface.
pub fn stanzas(one: &Interface) -> String {
    let mut text = String::new();
    let name = &one.name;
    if one.auto {
        let _ = writeln!(text, "auto {name}");
    }
    // What is said of the interface as a whole stands in its first stanza.
    let mut whole = of_the_whole(one);
    for (family, six) in [("inet", false), ("inet6", true)] {
        let dhcp = if six { one.dhcp.1 } else { one.dhcp.0 };
        let of_family = |list: &[String]| -> Vec<String> {
            list.iter().filter(|address| address.contains(':') == six).cloned().collect()
        };
        let (addresses, gateways) = (of_family(&one.addresses), of_family(&one.gateways));
        let auto = six && one.accept_ra == Some(true) && addresses.is_empty() && !dhcp;
        let methods = [("dhcp", dhcp), ("auto", auto), ("static", !addresses.is_empty())];
        for (method, _) in methods.into_iter().filter(|(_, used)| *used) {
            let _ = writeln!(text, "iface {name} {family} {method}");
            if method == "static" {
                addresses.iter().for_each(|address| text.push_str(&format!("    address {address}\n")));
                gateways.iter().for_each(|address| text.push_str(&format!("    gateway {address}\n")));
            }
            if six
                && method != "auto"
                && let Some(accept) = one.accept_ra
            {
                let _ = writeln!(text, "    accept_ra {}", u8::from(accept));
            }
            text.push_str(&std::mem::take(&mut whole));
        }
    }
    text
}

fn of_the_whole(one: &Interface) -> String {
    let list = |option: &str, values: &[String]| {
        if values.is_empty() { String::new() } else { format!("    {option} {}\n", values.join(" ")) }
    };
    let mtu = one.mtu.as_ref().map(|mtu| format!("    mtu {mtu}\n")).unwrap_or_default();
    let mac = one.mac.as_ref().map(|mac| format!("    hwaddress ether {mac}\n")).unwrap_or_default();
    list("dns-nameservers", &one.dns) + &list("dns-search", &one.domains) + &mtu + &mac
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = "# who\nsource /etc/network/interfaces.d/*\n\nauto lo eth0\niface lo inet loopback\n\nallow-hotplug eth1\n\
        iface eth0 inet static\n\taddress 192.168.1.10\n\tnetmask 255.255.255.0\n\tgateway 192.168.1.1\n\tdns-nameservers 10.0.0.1 \\\n 10.0.0.2\n\
        iface eth0 inet6 static\n  address 2001:db8::10/64\n  accept_ra 0\niface eth1 inet dhcp\n";

    #[test]
    fn the_stanzas_are_read_and_all_else_stays() {
        let found = parse(FILE).unwrap();
        assert_eq!(found.rest, "# who\nsource /etc/network/interfaces.d/*\n\nauto lo\niface lo inet loopback\n\n");
        let [eth0, eth1] = found.described.as_slice() else { panic!("{found:?}") };
        assert_eq!(eth0.addresses, ["192.168.1.10/24", "2001:db8::10/64"]);
        assert_eq!((eth0.auto, eth0.accept_ra, eth0.dns.len()), (true, Some(false), 2));
        assert!(eth1.auto && eth1.dhcp == (true, false));
        let written: String = found.described.iter().map(stanzas).collect();
        assert_eq!(parse(&written).unwrap().described, found.described, "{written}");
    }

    #[test]
    fn what_has_no_certain_counterpart_is_refused() {
        for (text, why) in [
            ("iface eth0 inet static\n address 1.2.3.4/24\n up ip route add 10.0.0.0/8 dev eth0\n", "up ip route"),
            ("iface br0 inet static\n address 1.2.3.4/24\n bridge_ports eth0\n", "bridge_ports"),
            ("iface eth0.5 inet dhcp\n", "eth0.5"),
            ("iface eth0:1 inet dhcp\n", "eth0:1"),
            ("iface eth0 inet manual\n", "manual"),
            ("iface eth0 inet static\n address 1.2.3.4\n netmask 255.0.255.0\n", "255.0.255.0"),
            ("auto eth7\n", "auto eth7"),
            ("address 1.2.3.4\n", "no stanza"),
            ("mapping eth0\n", "mapping"),
            ("iface eth0\n", "known form"),
        ] {
            let error = parse(text).unwrap_err();
            assert!(error.contains(why), "{text:?}: {error}");
        }
    }
}
