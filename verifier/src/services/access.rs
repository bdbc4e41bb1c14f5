//! Whom a server lets in by address: that a partner may not is not that nobody can.

use crate::service::Target;
use anyhow::Context;
use atlas_host::process::Command;
use std::net::{IpAddr, SocketAddr, UdpSocket};

/// The option that names whom an instance is for.
pub(super) const CLIENTS: &str = "clients";

/// Whether this server is among those whom an instance is for; `None` where that cannot be told, because it says names or groups.
/// Without the option it is for everybody. Of networks that lie in each other the nearest counts.
pub(super) fn is_let_in(target: &Target) -> anyhow::Result<Option<bool>> {
    let Some(clients) = target.option(CLIENTS) else { return Ok(Some(true)) };
    match source(target)?.filter(|_| clients.contains('!')) {
        Some(own) => Ok(nearest(clients, own)),
        None => is_among(target, clients),
    }
}

/// What the nearest of these networks says of an address; `None` where names are among them.
fn nearest(clients: &str, own: IpAddr) -> Option<bool> {
    let mut best = (0, false);
    for client in clients.split_whitespace() {
        match shared(client.trim_start_matches('!'), own)? {
            Some(length) if length >= best.0 => best = (length, !client.starts_with('!')),
            _ => {}
        }
    }
    Some(best.1)
}

/// Whether this server is among these addresses, networks and names, with a `!` before who is not; `None` where that cannot be told.
pub(super) fn is_among(target: &Target, clients: &str) -> anyhow::Result<Option<bool>> {
    let own = source(target)?;
    let mut is_known = own.is_some();
    for client in clients.split_whitespace() {
        match own.and_then(|own| holds(client.trim_start_matches('!'), own)) {
            // Taken out of those who are let in, by how near a network is: who knows.
            Some(true) if client.starts_with('!') => return Ok(None),
            Some(true) if !clients.contains('!') => return Ok(Some(true)),
            Some(true) => is_known = false,
            Some(false) => {}
            None => is_known = false,
        }
    }
    Ok(is_known.then_some(false))
}

/// The address by which this server would come to the target: nothing is sent.
fn source(target: &Target) -> anyhow::Result<Option<IpAddr>> {
    let to = target.address()?;
    let any: IpAddr = if to.is_ipv4() { [0; 4].into() } else { [0; 16].into() };
    let asked = UdpSocket::bind(SocketAddr::new(any, 0)).and_then(|socket| {
        socket.connect(SocketAddr::new(to, 9))?;
        socket.local_addr()
    });
    Ok(asked.ok().map(|address| address.ip()))
}

/// Whether a router is between this server and the target: then neither is in a network of the other.
pub(super) fn is_routed(target: &Target) -> anyhow::Result<bool> {
    let to = target.address()?.to_string();
    let output = target
        .run(Command::new("ip").args(["-o", "route", "get", &to]))
        .context("ask for the way (Debian package iproute2)")?;
    Ok(output.text().split_whitespace().any(|word| word == "via"))
}

/// Whether an address, a network, or the word for all has this one; `None` for a name.
fn holds(client: &str, own: IpAddr) -> Option<bool> {
    shared(client, own).map(|length| length.is_some())
}

/// The length of a network that has this address; inside, `None` where it has not; `None` for a name.
fn shared(client: &str, own: IpAddr) -> Option<Option<u32>> {
    if ["*", "all", "<world>"].contains(&client) {
        return Some(Some(0));
    }
    let (net, length) = client.split_once('/').unwrap_or((client, ""));
    let net = address(net)?;
    let (net, own) = (bits(net), bits(own));
    if net.1 != own.1 {
        return Some(None);
    }
    let length = match length {
        "" if client.ends_with('/') => return None,
        "" => net.1 - missing(client),
        length => length.parse::<u32>().ok().or_else(|| Some(bits(address(length)?).0.count_ones()))?,
    };
    let shift = net.1.checked_sub(length)?;
    Some((shift >= net.1 || net.0 >> shift == own.0 >> shift).then_some(length))
}

/// An address; of one of IPv4 parts may be missing at the end: `192.168`.
fn address(text: &str) -> Option<IpAddr> {
    let is_short = !text.is_empty() && text.chars().all(|c| c.is_ascii_digit() || c == '.');
    let short = || format!("{}{}", text.trim_end_matches('.'), ".0".repeat((missing(text) / 8) as usize)).parse().ok();
    text.parse().ok().or_else(|| short().filter(|_| is_short))
}

/// How many bits of an address of IPv4 are not said.
fn missing(text: &str) -> u32 {
    let net = text.split('/').next().unwrap_or_default();
    if net.contains(':') {
        0
    } else {
        8 * 4_u32.saturating_sub(net.split('.').filter(|part| !part.is_empty()).count() as u32)
    }
}

/// The bits of an address, and how many there are.
fn bits(address: IpAddr) -> (u128, u32) {
    match address {
        IpAddr::V4(address) => (u32::from(address).into(), 32),
        IpAddr::V6(address) => (address.into(), 128),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::here::testing::Server;

    #[test]
    fn networks_are_understood_in_every_form() {
        let own: IpAddr = "192.168.7.9".parse().unwrap();
        for (client, expected) in [
            ("*", Some(true)),
            ("192.168.7.9", Some(true)),
            ("192.168.7.8", Some(false)),
            ("192.168.0.0/16", Some(true)),
            ("192.168.0.0/255.255.0.0", Some(true)),
            ("192.168", Some(true)),
            ("10.", Some(false)),
            ("0/0", Some(true)),
            ("fd00::/8", Some(false)),
            ("trusted.example", None),
            ("@group", None),
            ("192.168.0.0/99", None),
        ] {
            assert_eq!(holds(client, own), expected, "{client}");
        }
        assert_eq!(holds("fd00::/8", "fd00::7".parse().unwrap()), Some(true));
    }

    #[test]
    fn of_networks_in_each_other_the_nearest_counts() {
        let own: IpAddr = "10.9.0.10".parse().unwrap();
        for (clients, expected) in [
            ("* !10.9.0.10", Some(false)),
            ("!* 10.9.0.0/24", Some(true)),
            ("10.9.0.0/24 !10.0.0.0/8", Some(true)),
            ("* !10.9.0.11", Some(true)),
            ("!10.9.0.11 192.0.2.1", Some(false)),
            ("* !a.example", None),
        ] {
            assert_eq!(nearest(clients, own), expected, "{clients}");
        }
    }

    #[test]
    fn who_comes_from_loopback_is_known_by_its_address() {
        let server = Server::new();
        let target = |clients: &'static str| Target {
            host: "127.0.0.1".into(),
            options: [("clients".to_owned(), clients.to_owned())].into(),
            ..server.target()
        };
        assert_eq!(is_let_in(&target("10.0.0.0/8")).unwrap(), Some(false));
        assert_eq!(is_let_in(&target("10.0.0.0/8 127.0.0.0/8")).unwrap(), Some(true));
        assert_eq!(is_let_in(&target("10.0.0.0/8 a.example")).unwrap(), None);
    }
}
