//! What leads from a server to its clients besides addresses, as it is now: sizes of packets, the default route, rules that choose among routes.

use super::Facts;
use crate::here::{self, names, text};
use std::{path::Path, time::Duration};

/// The rules that every kernel begins with.
const USUAL: [&str; 3] =
    ["0:\tfrom all lookup local", "32766:\tfrom all lookup main", "32767:\tfrom all lookup default"];
const RTF_UP: u32 = 1;
/// A route by which packets are turned away.
const RTF_REJECT: u32 = 0x200;

/// The facts; `None` where there is no network to look at.
pub(super) fn facts(root: &Path) -> Option<Facts> {
    let devices = names(root, "/sys/class/net");
    let real = devices.iter().filter(|name| here::is_there(root, &format!("/sys/class/net/{name}/device")));
    let mut facts: Facts = real
        .filter_map(|name| Some((format!("{name}'s mtu"), text(root, &format!("/sys/class/net/{name}/mtu"))?)))
        .collect();
    let routes = text(root, "/proc/net/route")?;
    let mut defaults: Vec<String> = routes.lines().skip(1).filter_map(default_by).collect();
    defaults.sort();
    defaults.dedup();
    let defaults = if defaults.is_empty() { "none".to_owned() } else { defaults.join(" and ") };
    facts.insert("default route".into(), defaults);
    let mut closed: Vec<String> = routes.lines().skip(1).filter_map(closed).collect();
    closed.sort();
    let closed = if closed.is_empty() { "none".to_owned() } else { closed.join(" and ") };
    facts.insert("closed networks".into(), closed);
    facts.extend(rules(root).map(|rules| ("policy rules".to_owned(), rules)));
    Some(facts)
}

/// `eth0 00000000 0101A8C0 0003 …`: the device of a default route that is in use. Each server may have its own router.
fn default_by(line: &str) -> Option<String> {
    let words: Vec<&str> = line.split_whitespace().collect();
    let number = |at: usize| words.get(at).and_then(|word| u32::from_str_radix(word, 16).ok());
    let is_default = number(1) == Some(0) && number(7) == Some(0) && number(3)? & RTF_UP != 0;
    is_default.then(|| format!("by {}", words[0]))
}

/// `* 00004D0A 00000000 0201 … 0000FFFF`: a network in which nobody is reached, as `unreachable`, `prohibit` and `blackhole` make it.
fn closed(line: &str) -> Option<String> {
    let words: Vec<&str> = line.split_whitespace().collect();
    let number = |at: usize| words.get(at).and_then(|word| u32::from_str_radix(word, 16).ok());
    let (network, flags, mask) = (number(1)?, number(3)?, number(7)?);
    // The kernel prints the bytes as they lie in memory.
    let network = std::net::Ipv4Addr::from(network.to_ne_bytes());
    (flags & RTF_REJECT != 0 || words[0] == "*").then(|| format!("{network}/{}", mask.count_ones()))
}

/// Those beyond the usual ones; `None` where nobody can be asked.
fn rules(root: &Path) -> Option<String> {
    let output = here::run(root, "ip", &["rule", "show"], Duration::from_secs(5))?.ok()?;
    let text = output.text();
    let own: Vec<&str> = text.lines().map(str::trim).filter(|line| !line.is_empty() && !USUAL.contains(line)).collect();
    output.status.success().then(|| if own.is_empty() { "the usual".to_owned() } else { own.join("; ") })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::here::testing::Server;

    #[test]
    fn packets_routes_and_rules_are_facts() {
        let server = Server::with(&[
            ("sys/class/net/eth0/device/x", ""),
            ("sys/class/net/eth0/mtu", "1500\n"),
            ("sys/class/net/lo/mtu", "65536\n"),
            (
                "proc/net/route",
                "Iface\tDestination\tGateway\tFlags\tRefCnt\tUse\tMetric\tMask\n\
                 eth0\t00000000\t014DA8C0\t0003\t0\t0\t0\t00000000\neth0\t004DA8C0\t00000000\t0001\t0\t0\t0\t00FFFFFF\n",
            ),
        ]);
        let told = |server: &Server| {
            let facts = facts(server.root()).unwrap();
            facts.iter().map(|(name, value)| format!("{name}: {value}")).collect::<Vec<_>>()
        };
        assert_eq!(told(&server), ["closed networks: none", "default route: by eth0", "eth0's mtu: 1500"]);
        server.program("usr/sbin/ip", "printf '0:\\tfrom all lookup local\\n32766:\\tfrom all lookup main\\n'");
        assert_eq!(told(&server)[3], "policy rules: the usual");
        server.program("usr/sbin/ip", "printf '0:\\tfrom all lookup local\\n100:\\tfrom 10.0.0.0/8 prohibit\\n'");
        assert_eq!(told(&server)[3], "policy rules: 100:\tfrom 10.0.0.0/8 prohibit");
        server.write("proc/net/route", "Iface\tDestination\n");
        assert_eq!(told(&server)[1], "default route: none");
        let closed = "Iface\tDestination\tGateway\tFlags\tRefCnt\tUse\tMetric\tMask\n*\t00004D0A\t00000000\t0201\t0\t0\t0\t0000FFFF\n";
        server.write("proc/net/route", closed);
        assert_eq!(told(&server)[0], "closed networks: 10.77.0.0/16");
        assert!(facts(Server::new().root()).is_none());
    }
}
