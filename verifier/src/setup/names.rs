//! Where a service listens by a name, of an interface or of a host: on PRI it is known which addresses that means.
//!
//! An interface over which partners reach this server needs no word: a service that listens there is exercised as one that listens everywhere. One on
//! another network, and a host's name, stand for PRI's addresses, and a secondary has none of them before it is PRI.

use crate::{
    here,
    service::{BESIDE, BOUND},
};
use atlas_host::net::replica::Replica;
use atlas_model::{
    MasterConfig,
    verify::{Found, Instance},
};
use atlas_sid::addresses::of_host;
use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket},
    path::Path,
};

/// Puts addresses in the places of names, for all that was found.
pub(super) fn settle(root: &Path, config: &MasterConfig, found: &mut BTreeMap<String, Found>) {
    let mut named: Vec<&mut Instance> =
        found.values_mut().flat_map(|found| &mut found.instances).filter(|one| has_names(one)).collect();
    if named.is_empty() {
        return;
    }
    let hosts = here::text(root, "etc/hosts").unwrap_or_default();
    let partners = config.partners().iter().filter_map(|partner| of_host(&partner.host, &hosts).into_iter().next());
    let own = partners.filter_map(toward).collect();
    let names = Names { server: Replica::of_this_server(), hosts, own };
    named.iter_mut().for_each(|one| names.settle(one));
}

fn has_names(instance: &Instance) -> bool {
    let values = [BOUND, BESIDE].iter().filter_map(|key| instance.options.get(*key));
    values.flat_map(|all| all.split_whitespace()).any(|at| at.parse::<IpAddr>().is_err())
}

/// The address of this server that a partner sees. Nothing is sent.
fn toward(partner: IpAddr) -> Option<IpAddr> {
    let any = if partner.is_ipv4() { IpAddr::from(Ipv4Addr::UNSPECIFIED) } else { Ipv6Addr::UNSPECIFIED.into() };
    let socket = UdpSocket::bind(SocketAddr::new(any, 0)).ok()?;
    socket.connect(SocketAddr::new(partner, 9)).ok()?;
    Some(socket.local_addr().ok()?.ip())
}

struct Names {
    server: Replica,
    hosts: String,
    /// The addresses by which partners know this server; none where that is not known, and they may come by any interface.
    own: Vec<IpAddr>,
}

impl Names {
    fn settle(&self, instance: &mut Instance) {
        for key in [BOUND, BESIDE] {
            let Some(value) = instance.options.remove(key) else { continue };
            let all: Option<Vec<Vec<IpAddr>>> = value.split_whitespace().map(|word| self.addresses(word)).collect();
            let mut known: Vec<String> = vec![];
            for address in all.into_iter().flatten().flatten().map(|address| address.to_string()) {
                if !known.contains(&address) {
                    known.push(address);
                }
            }
            if !known.is_empty() {
                instance.options.insert(key.to_owned(), known.join(" "));
            }
        }
    }

    /// What a word stands for, this server itself left out; `None` where partners reach it, or it is not known.
    fn addresses(&self, word: &str) -> Option<Vec<IpAddr>> {
        if let Ok(address) = word.parse() {
            return Some(vec![address]);
        }
        if let Some(addresses) = self.server.addresses_of(word) {
            let is_partners = self.own.is_empty() || addresses.iter().any(|address| self.own.contains(address));
            return (!is_partners).then_some(addresses);
        }
        Some(of_host(word, &self.hosts)).filter(|all| !all.is_empty())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_stands_for_addresses_unless_partners_reach_it() {
        let names = Names {
            server: Replica::of_links(
                "2: eth0    inet 192.0.2.1/24 scope global eth0\n2: eth0    inet6 2001:db8::1/64 scope global \n\
                 3: lan0    inet 198.51.100.1/24 scope global lan0\n4: wlan0    inet6 fe80::1/64 scope link \n",
            ),
            hosts: "127.0.1.1 pri\n192.0.2.7 www.example www # ours\n2001:db8::7 www.example\n".into(),
            own: vec!["192.0.2.1".parse().unwrap()],
        };
        let of = |names: &Names, key: &str, value: &str| {
            let mut instance = Instance { options: [(key.to_owned(), value.to_owned())].into(), ..Instance::default() };
            names.settle(&mut instance);
            instance.options.remove(key)
        };
        let settled = |key, value| of(&names, key, value);
        for (said, known) in [
            ("lan0", Some("198.51.100.1")),
            ("WWW.example", Some("192.0.2.7 2001:db8::7")),
            ("www 192.0.2.7 lan0", Some("192.0.2.7 198.51.100.1")),
            ("203.0.113.1", Some("203.0.113.1")),
            // Partners come by it.
            ("eth0", None),
            ("lan0 eth0", None),
            // This server alone; no address; nobody knows.
            ("pri", None),
            ("wlan0", None),
            ("elsewhere.example", None),
            ("lan0 elsewhere.example", None),
        ] {
            assert_eq!(settled(BOUND, said).as_deref(), known, "{said}");
            assert_eq!(settled(BESIDE, said).as_deref(), known, "{said}");
        }
        let nobody = Names { own: vec![], ..names };
        assert_eq!(of(&nobody, BOUND, "lan0"), None, "partners may come by it");
    }
}
