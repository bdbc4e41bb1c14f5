//! What a service's check says in a network that has PRI's addresses.
//!
//! What listens on an address of PRI's cannot do so here before the swap, and has to afterwards: its files are installed where they are whole there, and
//! nobody is told of them, because this server's service could only fail.

use atlas_host::net::addresses;
use atlas_model::manifest::FileSet;
use atlas_sid::Snapshot;
use std::net::{IpAddr, UdpSocket};

/// What the system says of an address that it does not have.
const NO_ADDRESS: &str = "Cannot assign requested address";
/// Runs what follows the first argument, addresses, in a network of its own that has these, and in which any other may be listened on.
const THERE: &str = "for at in $1; do ip address add \"$at\" dev lo; done 2>/dev/null; ip link set lo up 2>/dev/null\n\
    for version in 4 6; do echo 1 > /proc/sys/net/ipv$version/ip_nonlocal_bind; done 2>/dev/null; shift; exec \"$@\"";

/// The addresses of PRI's identity, as far as its files say them.
pub(super) fn addresses_in(snapshot: &Snapshot) -> Vec<IpAddr> {
    let files = snapshot.files(FileSet::Ident).ok().flatten();
    files.map(|files| addresses::read(&files).addresses()).unwrap_or_default()
}

/// The program and arguments by which a check is made in PRI's network, where its complaint is of an address that this server does not have.
pub(super) fn check(check: &[String], complaint: &str, pris: &[IpAddr]) -> Option<(&'static str, Vec<String>)> {
    let named = named(complaint);
    let mut all: Vec<IpAddr> = pris.iter().chain(&named).copied().filter(|address| is_elsewhere(*address)).collect();
    // postfix tells its log alone what is wrong.
    let may_be_of_addresses = complaint.trim_end().ends_with(':') && !all.is_empty();
    let is_of_one = complaint.contains(NO_ADDRESS) || named.iter().any(|address| all.contains(address));
    if !is_of_one && !may_be_of_addresses {
        return None;
    }
    all.sort_unstable();
    all.dedup();
    let all: Vec<String> = all.iter().map(ToString::to_string).collect();
    let first = ["--net", "sh", "-c", THERE, "sh", &all.join(" ")].map(str::to_owned);
    Some(("unshare", first.into_iter().chain(check.iter().cloned()).collect()))
}

/// The addresses in a sentence, each perhaps with a port or a length behind it.
fn named(text: &str) -> Vec<IpAddr> {
    let words = text.split(|c: char| !(c.is_ascii_hexdigit() || c == '.' || c == ':'));
    let one = |word: &str| {
        let word = word.trim_end_matches(['.', ':']);
        let without_port = || word.rsplit_once(':').and_then(|(address, _)| address.parse().ok());
        word.parse().ok().or_else(without_port)
    };
    words.filter_map(one).collect()
}

/// Whether this server cannot listen there, as another can.
fn is_elsewhere(address: IpAddr) -> bool {
    !address.is_unspecified() && !address.is_loopback() && UdpSocket::bind((address, 0)).is_err()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn there(complaint: &str, pris: &[&str]) -> Option<String> {
        let pris: Vec<IpAddr> = pris.iter().map(|address| address.parse().unwrap()).collect();
        check(&["nginx".into(), "-t".into()], complaint, &pris).map(|(_, args)| args[5].clone())
    }

    #[test]
    fn a_complaint_of_an_address_that_is_not_here_is_looked_into_where_it_is() {
        let of_nginx = "[emerg] bind() to 192.0.2.1:80 failed (99: Cannot assign requested address)";
        assert_eq!(there(of_nginx, &["192.0.2.9"]).as_deref(), Some("192.0.2.1 192.0.2.9"));
        let of_postfix = "fatal: parameter inet_interfaces: no local interface found for 192.0.2.1";
        assert_eq!(there(of_postfix, &[]).as_deref(), Some("192.0.2.1"));
        let of_nothing = "'postfix check' failed (exit status: 1): ";
        assert_eq!(there(of_nothing, &["192.0.2.9"]).as_deref(), Some("192.0.2.9"));
        assert_eq!(there(of_nothing, &["127.0.0.1"]), None);
        let by_name = "could not bind to pri.example: Cannot assign requested address";
        assert_eq!(there(by_name, &[]).as_deref(), Some(""));
        assert_eq!(there("bind() to [2001:db8::1]:80 failed", &[]).as_deref(), Some("2001:db8::1"));
        for other in [
            "bind() to 0.0.0.0:80 failed (98: Address already in use)",
            "bind() to 127.0.0.1:80 failed (98: Address already in use)",
            "unknown directive \"lsten\" in /etc/nginx/nginx.conf:3",
        ] {
            assert_eq!(there(other, &["192.0.2.9"]), None, "{other}");
        }
    }

    #[test]
    fn addresses_are_found_in_every_form() {
        let found: Vec<String> = named("at 192.0.2.1:80, [::1]:8080; fe80::1 and 10.0.0.1. Line 12:30 of a.b")
            .iter()
            .map(ToString::to_string)
            .collect();
        assert_eq!(found, ["192.0.2.1", "::1", "fe80::1", "10.0.0.1"]);
    }
}
