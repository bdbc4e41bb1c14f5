//! By which network device clients come: the one by which the partners are reached.

use crate::here::{self, Member};
use std::{
    net::{IpAddr, Ipv4Addr},
    path::Path,
};

const RTF_UP: u32 = 1;

/// `None` where nobody can tell: no partner has an address of IPv4, or none of them is reached by a device.
pub(in crate::services) fn of_clients(root: &Path) -> Option<String> {
    let member = Member::open(root).ok()??;
    let routes = here::text(root, "proc/net/route")?;
    let hosts = here::text(root, "etc/hosts").unwrap_or_default();
    let mut devices: Vec<&str> = member
        .config
        .partners()
        .iter()
        .filter_map(|partner| address(&partner.host, &hosts))
        .filter_map(|address| by_route(&routes, address))
        .collect();
    devices.dedup();
    // Several: clients come by either.
    let [device] = devices[..] else { return None };
    Some(device.to_owned())
}

fn address(host: &str, hosts: &str) -> Option<Ipv4Addr> {
    let of = |address: IpAddr| if let IpAddr::V4(address) = address { Some(address) } else { None };
    host.parse().ok().or_else(|| atlas_sid::addresses::of_host(host, hosts).into_iter().find_map(of))
}

/// `eth0 004DA8C0 00000000 0001 … 00FFFFFF`: the device of the narrowest route to an address. The numbers are bytes as they lie in memory.
fn by_route(routes: &str, address: Ipv4Addr) -> Option<&str> {
    let address = u32::from_ne_bytes(address.octets());
    let narrowness = |line: &str| -> Option<u32> {
        let words: Vec<&str> = line.split_whitespace().collect();
        let number = |at: usize| words.get(at).and_then(|word| u32::from_str_radix(word, 16).ok());
        let (network, flags, mask) = (number(1)?, number(3)?, number(7)?);
        (flags & RTF_UP != 0 && address & mask == network).then(|| mask.count_ones())
    };
    let found = routes.lines().skip(1).filter_map(|line| Some((narrowness(line)?, line.split_whitespace().next()?)));
    found.max_by_key(|(narrow, _)| *narrow).map(|(_, device)| device).filter(|device| *device != "*")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::here::testing::Server;

    const ROUTES: &str = "Iface\tDestination\tGateway\tFlags\tRefCnt\tUse\tMetric\tMask\n\
        eth1\t00000000\t0100000A\t0003\t0\t0\t0\t00000000\neth0\t004DA8C0\t00000000\t0001\t0\t0\t0\t00FFFFFF\n";

    #[test]
    fn clients_come_by_the_device_of_the_narrowest_route_to_the_partners() {
        assert_eq!(by_route(ROUTES, Ipv4Addr::new(192, 168, 77, 2)), Some("eth0"));
        assert_eq!(by_route(ROUTES, Ipv4Addr::new(192, 0, 2, 1)), Some("eth1"));
        let server = Server::with(&[("proc/net/route", ROUTES), ("etc/hosts", "192.168.77.2 other\n")]);
        server.member("PRI");
        assert_eq!(of_clients(server.root()).as_deref(), Some("eth0"));
        server.write("etc/hosts", "");
        assert_eq!(of_clients(server.root()), None);
        assert_eq!(of_clients(Server::new().root()), None);
    }
}
