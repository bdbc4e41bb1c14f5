//! A network of a program's own that looks like a server's: its addresses, under the names of its interfaces, with its names for other hosts.
//!
//! ```text
//!  unshare --net sh ─► an interface without a wire for each name, with its addresses
//!                   ─► unshare --mount sh ─► the server's hosts file over /etc/hosts ─► the program
//! ```
//!
//! What listens on the address of another server can be tried here before this server is that one. No frame leaves such a network, and it is gone
//! with the last program in it.

use super::addresses;
use crate::{process::Command, tree::Dir};
use std::{collections::BTreeMap, net::IpAddr, time::Duration};

/// The longest hosts file that is shown, in bytes: it is an argument of a program.
const MAX_HOSTS: usize = 64 << 10;
/// As much as the kernel takes of an interface's name, in bytes.
const MAX_NAME: usize = 15;
/// How long `ip` may take.
const DEADLINE: Duration = Duration::from_secs(5);

/// Makes the network: `$1` a line for each interface, `$2` whether any address may be listened on, `$3` a hosts file or nothing.
const MAKE: &str = r#"links=$1 any=$2 hosts=$3; shift 3
{ ip link set lo up
printf '%s\n' "$links" | while read -r link addresses; do
    [ -n "$link" ] || continue
    [ "$link" = lo ] || ip link add "$link" type dummy || ip link add "$link" type veth || link=lo
    for at in $addresses; do
        case $at in *:*) ip address add "$at" dev "$link" nodad ;; *) ip address add "$at" dev "$link" ;; esac
    done
    ip link set "$link" up
done
[ -z "$any" ] || for version in 4 6; do echo 1 > /proc/sys/net/ipv$version/ip_nonlocal_bind; done
} >/dev/null 2>&1
if [ -n "$hosts" ] && unshare --mount true 2>/dev/null; then
    exec unshare --mount sh -c 'mount -t tmpfs -o size=256k,mode=755 atlas /mnt && printf "%s\n" "$1" > /mnt/hosts &&
        mount --bind /mnt/hosts /etc/hosts && umount -l /mnt; shift; exec "$@"' sh "$hosts" "$@"
fi
exec "$@""#;

/// What such a network has.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Replica {
    links: BTreeMap<String, Vec<String>>,
    hosts: Option<String>,
    takes_any: bool,
}

impl Replica {
    /// That of the server whose identity lies below `tree`. What it has by DHCP stands in no file: any address may be listened on.
    pub fn of_identity(tree: &Dir) -> Replica {
        let mut replica = Replica { takes_any: true, ..Replica::default() };
        for described in addresses::read(tree).described {
            let name = described.cards.names.iter().find(|name| is_name(name)).map_or("lo", String::as_str);
            described.addresses.iter().for_each(|at| replica.add(name, *at));
        }
        let hosts = tree.read_followed("etc/hosts", MAX_HOSTS).ok();
        replica.hosts = hosts.map(|text| String::from_utf8_lossy(&text).replace('\0', ""));
        replica
    }

    /// That of this server as it is now.
    pub fn of_this_server() -> Replica {
        let said = Command::new("ip").args(["-o", "address", "show"]).deadline(DEADLINE).output();
        Replica::of_links(&said.map(|output| output.text()).unwrap_or_default())
    }

    /// That of the server of which `ip -o address show` says this.
    pub fn of_links(said: &str) -> Replica {
        Replica { links: links(said), ..Replica::default() }
    }

    /// The addresses of an interface; `None` where there is none of this name.
    pub fn addresses_of(&self, link: &str) -> Option<Vec<IpAddr>> {
        let all = self.links.get(link)?;
        Some(all.iter().filter_map(|at| at.split('/').next()?.parse().ok()).collect())
    }

    /// Adds the interfaces of another without their addresses: who listens on one by its name finds it.
    pub fn with_interfaces_of(mut self, other: &Replica) -> Replica {
        for name in other.links.keys() {
            self.links.entry(name.clone()).or_default();
        }
        self
    }

    /// Adds an address that is known from elsewhere, unless some interface has it.
    pub fn with(mut self, address: IpAddr) -> Replica {
        if !self.addresses().any(|known| known == address) && !address.is_unspecified() && !address.is_loopback() {
            self.add("lo", address);
        }
        self
    }

    /// Its hosts file, where it has one.
    pub fn hosts(&self) -> Option<&str> {
        self.hosts.as_deref()
    }

    /// The same with this server's own names for other hosts.
    pub fn without_hosts(self) -> Replica {
        Replica { hosts: None, ..self }
    }

    /// Its addresses.
    pub fn addresses(&self) -> impl Iterator<Item = IpAddr> {
        self.links.values().flatten().filter_map(|at| at.split('/').next()?.parse().ok())
    }

    fn add(&mut self, link: &str, address: IpAddr) {
        let all = if address.is_ipv4() { "32" } else { "128" };
        let at = self.links.entry(link.to_owned()).or_default();
        let (new, own) = (format!("{address}/{all}"), format!("{address}/"));
        if !at.iter().any(|known| known.starts_with(&own)) {
            at.push(new);
        }
    }

    /// The words that run `program` in such a network. Needs root.
    pub fn words<S: AsRef<str>>(&self, program: &[S]) -> Vec<String> {
        let lines: Vec<String> = self.links.iter().map(|(name, at)| format!("{name} {}", at.join(" "))).collect();
        let any = if self.takes_any { "yes" } else { "" };
        let first = ["unshare", "--net", "sh", "-c", MAKE, "sh", &lines.join("\n"), any];
        let first = first.into_iter().chain([self.hosts.as_deref().unwrap_or_default()]);
        first.chain(program.iter().map(AsRef::as_ref)).map(str::to_owned).collect()
    }
}

/// Whether an interface can have this name, and it is no pattern.
fn is_name(name: &str) -> bool {
    !name.is_empty()
        && name.len() <= MAX_NAME
        && name.chars().all(|c| c.is_ascii_alphanumeric() || "._-".contains(c))
        && !name.starts_with('-')
}

/// `ip -o address`: `2: eth0    inet 192.0.2.11/24 brd 192.0.2.255 scope global eth0`.
fn links(text: &str) -> BTreeMap<String, Vec<String>> {
    let mut links: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for line in text.lines() {
        let mut words = line.split_whitespace().skip(1);
        let (Some(name), Some(_), Some(at)) = (words.next(), words.next(), words.next()) else { continue };
        let of_its_own = line.contains("scope global") || (name == "lo" && !line.contains("scope host"));
        let addresses = links.entry(name.split('@').next().unwrap_or(name).to_owned()).or_default();
        let address = at.split('/').next().and_then(|at| at.parse::<IpAddr>().ok());
        if of_its_own && address.is_some_and(|at| !at.is_loopback()) {
            addresses.push(at.to_owned());
        }
    }
    links.retain(|name, _| is_name(name));
    links
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing;

    #[test]
    fn the_addresses_of_this_server_are_those_that_ip_shows() {
        let text = "1: lo    inet 127.0.0.1/8 scope host lo\\       valid_lft forever\n\
            1: lo    inet 192.0.2.9/32 scope global lo\\       valid_lft forever\n\
            2: eth0@if7    inet 192.0.2.11/24 brd 192.0.2.255 scope global eth0\\\n\
            2: eth0    inet6 fe80::1/64 scope link \\       valid_lft forever\n";
        let expected = [("eth0", vec!["192.0.2.11/24"]), ("lo", vec!["192.0.2.9/32"])];
        let expected = expected.map(|(name, at)| (name.to_owned(), at.into_iter().map(str::to_owned).collect()));
        assert_eq!(links(text), BTreeMap::from(expected));
    }

    #[test]
    fn who_listens_on_another_server_s_address_interface_or_name_can_do_so_there_alone() {
        if !testing::own_network(
            "net::replica::tests::who_listens_on_another_server_s_address_interface_or_name_can_do_so_there_alone",
        ) {
            return;
        }
        let tmp = tempfile::tempdir().unwrap();
        let write = |path: &str, content: &str| {
            let path = tmp.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, content).unwrap();
        };
        write(
            "etc/network/interfaces",
            "iface wan7 inet static\n  address 192.0.2.10/24\niface wan7 inet6 static\n  address 2001:db8::10/64\n",
        );
        write("etc/hosts", "192.0.2.10 www.example.org\n");
        let pri = Replica::of_identity(&Dir::open_root(tmp.path()).unwrap());
        let here = Replica::of_this_server();
        let run = |network: &Replica, script: &str| {
            let words = network.words(&["sh", "-c", script]);
            Command::new(&words[0]).args(&words[1..]).output().unwrap().text()
        };
        let look = "ip -o address show dev wan7 | grep -o 'inet6* [^ ]*'; getent hosts www.example.org; cat /proc/sys/net/ipv4/ip_nonlocal_bind";
        let seen = run(&pri, look);
        for words in ["inet 192.0.2.10/32", "inet6 2001:db8::10/128", "192.0.2.10      www.example.org", "\n1\n"] {
            assert!(seen.contains(words), "'{words}' is not in: {seen}");
        }
        assert_eq!(run(&here, look), "0\n", "this server has nothing of it");
        assert_eq!(run(&here.clone().with_interfaces_of(&pri), "ip -o link show wan7 | grep -o wan7"), "wan7\n");
        assert!(run(&here, "cat /etc/hosts").lines().eq(std::fs::read_to_string("/etc/hosts").unwrap().lines()));
        assert!(pri.addresses().eq(["192.0.2.10", "2001:db8::10"].map(|at| at.parse::<IpAddr>().unwrap())));
    }
}
