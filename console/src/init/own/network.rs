//! Which program configures this server's network, and the file from which it takes static addresses.
//!
//! ```text
//!   netplan          /etc/netplan/*.yaml                               → 10-atlas.yaml
//!   NetworkManager   /etc/NetworkManager/system-connections/*          → atlas-INTERFACE.nmconnection
//!   networkd         /etc/systemd/network/*                            → 10-atlas-INTERFACE.network
//!   ifupdown         /etc/network/interfaces, interfaces.d/*           → interfaces
//! ```
//!
//! The one whose files have something is in use; where none has, the one that is enabled. For others the operator configures the addresses.

use crate::init::network::is_enabled;
use std::{
    collections::BTreeMap,
    fmt,
    net::IpAddr,
    path::{Path, PathBuf},
    str::FromStr,
};

/// An address, the length of its network's prefix, and where it goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address {
    /// The address.
    pub ip: IpAddr,
    /// How many of its bits are the network's.
    pub prefix: u8,
    /// The interface; `None`: the only one.
    pub interface: Option<String>,
}

impl FromStr for Address {
    type Err = String;
    fn from_str(text: &str) -> Result<Address, String> {
        let wrong = || format!("'{}' is not an address as in 192.168.1.12/24@eth0", text.escape_debug());
        let (network, interface) = text.split_once('@').map_or((text, None), |(network, name)| (network, Some(name)));
        let (ip, prefix) = network.split_once('/').ok_or_else(wrong)?;
        let ip: IpAddr = ip.parse().map_err(|_| wrong())?;
        let most = if ip.is_ipv4() { 32 } else { 128 };
        let prefix = prefix.parse::<u8>().ok().filter(|prefix| (1..=most).contains(prefix)).ok_or_else(wrong)?;
        // As the kernel has them.
        let good = |name: &str| {
            (1..=15).contains(&name.len()) && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-:".contains(&b))
        };
        if interface == Some("lo") {
            return Err(format!(
                "'{}' is not an address for a network: lo is this server's loopback",
                text.escape_debug()
            ));
        }
        if let Some(what) = not_of_a_host(ip, prefix) {
            return Err(format!("{ip}/{prefix} is {what}, and not that of one server"));
        }
        if ip.is_unspecified() || ip.is_loopback() || ip.is_multicast() || interface.is_some_and(|name| !good(name)) {
            return Err(wrong());
        }
        Ok(Address { ip, prefix, interface: interface.map(str::to_owned) })
    }
}

/// What an address is that is all zeros, or all ones, after the prefix.
fn not_of_a_host(ip: IpAddr, prefix: u8) -> Option<&'static str> {
    match ip {
        IpAddr::V4(ip) if prefix < 31 => {
            let host = u32::MAX.checked_shr(u32::from(prefix)).unwrap_or(0);
            match u32::from(ip) & host {
                0 => Some("the address of a network"),
                all if all == host => Some("the broadcast address of a network"),
                _ => None,
            }
        }
        IpAddr::V6(ip) if prefix < 127 => {
            let host = u128::MAX.checked_shr(u32::from(prefix)).unwrap_or(0);
            (u128::from(ip) & host == 0).then_some("the address of a network's routers")
        }
        _ => None,
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.ip, self.prefix)?;
        self.interface.as_ref().map_or(Ok(()), |interface| write!(f, "@{interface}"))
    }
}

/// A program that configures the network from files that ATLAS can write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Manager {
    /// `netplan`, which has one of the others do it.
    Netplan,
    /// NetworkManager.
    NetworkManager,
    /// systemd-networkd.
    Networkd,
    /// `ifup`, run by networking.service.
    Ifupdown,
}

impl Manager {
    const ALL: [Manager; 4] = [Manager::Netplan, Manager::NetworkManager, Manager::Networkd, Manager::Ifupdown];

    /// The directories of its files, below the root.
    pub fn directories(self) -> &'static [&'static str] {
        match self {
            Manager::Netplan => &["etc/netplan"],
            Manager::NetworkManager => &["etc/NetworkManager/system-connections"],
            Manager::Networkd => &["etc/systemd/network"],
            Manager::Ifupdown => &["etc/network/interfaces.d"],
        }
    }

    fn is_enabled(self, root: &Path) -> bool {
        match self {
            Manager::Netplan => root.join("usr/sbin/netplan").exists(),
            Manager::NetworkManager => is_enabled(root, "NetworkManager.service"),
            Manager::Networkd => is_enabled(root, "systemd-networkd.service"),
            Manager::Ifupdown => is_enabled(root, "networking.service"),
        }
    }

    /// The files that it has its addresses from.
    fn files(self, root: &Path) -> Vec<PathBuf> {
        let mut files: Vec<PathBuf> = self.directories().iter().flat_map(|dir| list(root, dir)).collect();
        // These name cards by their hardware addresses; they give none.
        files.retain(|file| self != Manager::Networkd || file.extension().is_none_or(|kind| kind != "link"));
        if self == Manager::Ifupdown && ifupdown_configures(root) {
            files.push(INTERFACES.into());
        }
        files
    }
}

impl fmt::Display for Manager {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Manager::Netplan => "netplan",
            Manager::NetworkManager => "NetworkManager",
            Manager::Networkd => "systemd-networkd",
            Manager::Ifupdown => "ifupdown",
        })
    }
}

const INTERFACES: &str = "etc/network/interfaces";

/// The files of a directory, below the root, sorted.
pub(super) fn list(root: &Path, dir: &str) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(root.join(dir)).into_iter().flatten().flatten();
    let mut files: Vec<PathBuf> = entries.map(|entry| Path::new(dir).join(entry.file_name())).collect();
    files.sort_unstable();
    files
}

/// Whether /etc/network/interfaces has more than the loopback that Debian puts there.
fn ifupdown_configures(root: &Path) -> bool {
    let text = std::fs::read_to_string(root.join(INTERFACES)).unwrap_or_default();
    text.lines().any(|line| {
        let mut words = line.split_whitespace();
        matches!(words.next(), Some("iface" | "mapping")) && words.next() != Some("lo")
    })
}

/// How this server gets its addresses.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Network {
    /// Who configures it, where that is one of those known.
    pub manager: Option<Manager>,
    /// Whether netplan is to have NetworkManager do it.
    pub by_network_manager: bool,
    /// The interfaces that are hardware.
    pub interfaces: Vec<String>,
    /// All interfaces, bonds and bridges included.
    pub names: Vec<String>,
    /// Every file from which a known manager may take addresses, below the root.
    pub files: Vec<PathBuf>,
}

impl Network {
    /// Looks at a server.
    pub fn of(root: &Path, sys: &Path) -> Network {
        let in_use = |manager: &&Manager| manager.is_enabled(root) && !manager.files(root).is_empty();
        let enabled = [Manager::Networkd, Manager::NetworkManager, Manager::Ifupdown, Manager::Netplan];
        let manager = Manager::ALL.iter().find(in_use).copied();
        let manager = manager.or_else(|| enabled.into_iter().find(|manager| manager.is_enabled(root)));
        let cards = std::fs::read_dir(sys.join("class/net")).into_iter().flatten().flatten();
        let cards =
            cards.filter_map(|card| Some((card.path().join("device").exists(), card.file_name().into_string().ok()?)));
        let mut cards: Vec<(bool, String)> = cards.collect();
        cards.sort_unstable();
        let interfaces = cards.iter().filter(|(is_hardware, _)| *is_hardware).map(|(_, name)| name.clone()).collect();
        let names = cards.into_iter().map(|(_, name)| name).collect();
        let files = Manager::ALL.iter().flat_map(|manager| manager.files(root)).collect();
        let by_network_manager = Manager::NetworkManager.is_enabled(root) && !Manager::Networkd.is_enabled(root);
        Network { manager, by_network_manager, interfaces, names, files }
    }

    /// The files that give this server `addresses`; in words what is missing, where they cannot be written.
    pub fn files_for(&self, addresses: &[Address], gateways: &[IpAddr]) -> Result<Vec<NewFile>, String> {
        let manager = self.manager.ok_or(
            "no program that ATLAS knows configures the network here: configure the addresses by hand, and give --addresses-are-own instead of --address",
        )?;
        let mut by_interface: BTreeMap<&str, Vec<&Address>> = BTreeMap::new();
        for address in addresses {
            let interface = match (&address.interface, self.interfaces.as_slice()) {
                (Some(interface), known) if !self.names.contains(interface) => {
                    return Err(format!("this server has no interface '{interface}', it has {}", known.join(", ")));
                }
                (Some(interface), _) => interface,
                (None, [only]) => only,
                (None, []) => {
                    return Err(format!("this server has no interface; name it: --address {address}@INTERFACE"));
                }
                (None, more) => {
                    return Err(format!(
                        "name the interface, one of {}: --address {address}@{}",
                        more.join(", "),
                        more[0]
                    ));
                }
            };
            by_interface.entry(interface).or_default().push(address);
        }
        for gateway in gateways {
            if gateways.iter().filter(|other| other.is_ipv4() == gateway.is_ipv4()).count() > 1 {
                return Err("more than one gateway of a kind is given".into());
            }
            if addresses.iter().any(|address| address.ip == *gateway) {
                return Err(format!("the gateway {gateway} is the address that this server is to have"));
            }
            if !addresses.iter().any(|address| is_within(*gateway, address)) {
                return Err(format!("the gateway {gateway} is in the network of no address that is given"));
            }
        }
        let plan: Vec<Interface<'_>> = by_interface
            .into_iter()
            .map(|(name, addresses)| {
                let is_near = |gateway: &&IpAddr| addresses.iter().any(|address| is_within(**gateway, address));
                Interface { name, gateways: gateways.iter().filter(is_near).collect(), addresses }
            })
            .collect();
        Ok(match (manager, self.by_network_manager) {
            (Manager::Netplan, true) => vec![netplan_file("  renderer: NetworkManager\n", &plan)],
            _ => render(manager, &plan),
        })
    }
}

fn is_within(ip: IpAddr, address: &Address) -> bool {
    match (ip, address.ip) {
        (IpAddr::V4(ip), IpAddr::V4(of)) => {
            let mask = u32::MAX.checked_shl(32 - u32::from(address.prefix)).unwrap_or(0);
            u32::from(ip) & mask == u32::from(of) & mask
        }
        (IpAddr::V6(ip), IpAddr::V6(of)) => {
            let mask = u128::MAX.checked_shl(128 - u32::from(address.prefix)).unwrap_or(0);
            ip.is_unicast_link_local() || u128::from(ip) & mask == u128::from(of) & mask
        }
        _ => false,
    }
}

/// A file that is written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewFile {
    /// Where, below the root.
    pub path: PathBuf,
    /// Its text.
    pub content: String,
    /// Its mode.
    pub mode: u32,
}

struct Interface<'a> {
    name: &'a str,
    addresses: Vec<&'a Address>,
    gateways: Vec<&'a IpAddr>,
}

const HEADING: &str = "# Written by 'atlas init': addresses of this server's own.\n";

fn render(manager: Manager, interfaces: &[Interface<'_>]) -> Vec<NewFile> {
    let file = |path: String, content: String, mode| NewFile { path: path.into(), content, mode };
    match manager {
        Manager::Networkd => interfaces
            .iter()
            .map(|interface| {
                let path = format!("etc/systemd/network/10-atlas-{}.network", interface.name);
                file(path, networkd(interface), 0o644)
            })
            .collect(),
        Manager::NetworkManager => interfaces
            .iter()
            .map(|interface| {
                let path = format!("etc/NetworkManager/system-connections/atlas-{}.nmconnection", interface.name);
                file(path, keyfile(interface), 0o600)
            })
            .collect(),
        Manager::Netplan => vec![netplan_file("", interfaces)],
        Manager::Ifupdown => vec![file(INTERFACES.into(), ifupdown(interfaces), 0o644)],
    }
}

fn networkd(interface: &Interface<'_>) -> String {
    let lines =
        |key: &str, values: Vec<String>| values.iter().map(|value| format!("{key}={value}\n")).collect::<String>();
    let addresses = interface.addresses.iter().map(|address| format!("{}/{}", address.ip, address.prefix)).collect();
    let gateways = interface.gateways.iter().map(ToString::to_string).collect();
    let (addresses, gateways) = (lines("Address", addresses), lines("Gateway", gateways));
    format!("{HEADING}[Match]\nName={}\n\n[Network]\n{addresses}{gateways}", interface.name)
}

fn keyfile(interface: &Interface<'_>) -> String {
    let section = |name: &str, is_v4: bool, otherwise: &str| {
        let of_family = interface.addresses.iter().filter(|address| address.ip.is_ipv4() == is_v4);
        let lines: String = of_family
            .enumerate()
            .map(|(at, address)| format!("address{}={}/{}\n", at + 1, address.ip, address.prefix))
            .collect();
        if lines.is_empty() {
            return format!("\n[{name}]\nmethod={otherwise}\n");
        }
        let gateway = interface.gateways.iter().find(|gateway| gateway.is_ipv4() == is_v4);
        let gateway = gateway.map(|gateway| format!("gateway={gateway}\n")).unwrap_or_default();
        format!("\n[{name}]\nmethod=manual\n{lines}{gateway}")
    };
    let (v4, v6) = (section("ipv4", true, "disabled"), section("ipv6", false, "auto"));
    format!("{HEADING}[connection]\nid=atlas-{0}\ntype=ethernet\ninterface-name={0}\n{v4}{v6}", interface.name)
}

fn netplan_file(renderer: &str, interfaces: &[Interface<'_>]) -> NewFile {
    let mut text = format!("{HEADING}network:\n  version: 2\n{renderer}  ethernets:\n");
    for interface in interfaces {
        text.push_str(&format!("    {}:\n      addresses:\n", interface.name));
        for address in &interface.addresses {
            text.push_str(&format!("        - \"{}/{}\"\n", address.ip, address.prefix));
        }
        if !interface.gateways.is_empty() {
            text.push_str("      routes:\n");
        }
        for gateway in &interface.gateways {
            // As every netplan reads it; `default` is younger.
            let to = if gateway.is_ipv4() { "0.0.0.0/0" } else { "::/0" };
            text.push_str(&format!("        - to: \"{to}\"\n          via: \"{gateway}\"\n"));
        }
    }
    NewFile { path: "etc/netplan/10-atlas.yaml".into(), content: text, mode: 0o600 }
}

fn ifupdown(interfaces: &[Interface<'_>]) -> String {
    let mut text = format!("{HEADING}auto lo\niface lo inet loopback\n");
    for interface in interfaces {
        text.push_str(&format!("\nauto {}\n", interface.name));
        let mut gateways = interface.gateways.clone();
        for address in &interface.addresses {
            let family = if address.ip.is_ipv4() { "inet" } else { "inet6" };
            let ip = format!("    address {}/{}\n", address.ip, address.prefix);
            text.push_str(&format!("iface {} {family} static\n{ip}", interface.name));
            if let Some(at) = gateways.iter().position(|gateway| is_within(**gateway, address)) {
                text.push_str(&format!("    gateway {}\n", gateways.remove(at)));
            }
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_that_of_one_server_on_a_network() {
        for good in ["192.168.77.5/24", "192.168.77.0/31", "192.168.77.1/32@bond0", "10.0.255.0/16", "2001:db8::2/64"] {
            assert_eq!(good.parse::<Address>().unwrap().to_string(), good);
        }
        for bad in [
            "192.168.77.0/24",
            "192.168.77.255/24",
            "192.168.77.5/24@lo",
            "2001:db8::/64",
            "127.0.0.1/8",
            "0.0.0.0/0",
            "192.168.77.5/33",
            "192.168.77.5",
            "224.0.0.1/4",
        ] {
            assert!(bad.parse::<Address>().is_err(), "{bad}");
        }
    }
}
