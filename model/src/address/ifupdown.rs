//! ifupdown and ifupdown2: `/etc/network/interfaces` and what it includes.

use super::{Cards, Described, Plan};
use std::net::IpAddr;

/// Another file that belongs to this one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Include {
    /// The files that a shell pattern names.
    Source(String),
    /// The files of a directory whose names are letters, digits, `-` and `_`.
    Directory(String),
}

/// The lines as ifupdown reads them: what follows a backslash at a line's end is joined to it as it stands, comments are whole lines.
fn lines(text: &str) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    let mut is_open = false;
    for physical in text.lines() {
        if !is_open && physical.trim_start().starts_with('#') {
            continue;
        }
        let (part, goes_on) = physical.strip_suffix('\\').map_or((physical, false), |part| (part, true));
        match lines.last_mut().filter(|_| is_open) {
            Some(line) => line.push_str(part),
            None => lines.push(part.to_owned()),
        }
        is_open = goes_on;
    }
    lines
}

/// Reads a file; what it includes is for the caller to read next.
pub fn ifupdown(plan: &mut Plan, file: &str, text: &str) -> Vec<Include> {
    let mut includes = Vec::new();
    let mut current: Option<Described> = None;
    for line in lines(text) {
        let words: Vec<&str> = line.split_whitespace().collect();
        let Some((first, rest)) = words.split_first() else { continue };
        match (*first, rest) {
            ("iface", [name, ..]) => {
                current.take().into_iter().for_each(|done| plan.describe(done));
                current = Some(begin(plan, file, name, rest));
            }
            ("source" | "source-directory", paths) => {
                current.take().into_iter().for_each(|done| plan.describe(done));
                let include = |path: &&str| match *first {
                    "source" => Include::Source((*path).to_owned()),
                    _ => Include::Directory((*path).to_owned()),
                };
                includes.extend(paths.iter().map(include));
            }
            ("auto" | "no-auto-down" | "no-scripts" | "vlan", _) => {
                current.take().into_iter().for_each(|done| plan.describe(done));
            }
            (word, _) if word.starts_with("allow-") => {
                current.take().into_iter().for_each(|done| plan.describe(done));
            }
            ("mapping" | "rename" | "template", _) => {
                current.take().into_iter().for_each(|done| plan.describe(done));
                plan.unclear(file, format_args!("'{line}' is not understood"));
            }
            (option, values) => match &mut current {
                Some(one) => add(plan, one, option, values, line.trim()),
                None if option == "script" || option == "map" => {}
                None => plan.unclear(file, format_args!("'{line}' stands in no stanza")),
            },
        }
    }
    current.into_iter().for_each(|done| plan.describe(done));
    includes
}

/// The name of an interface without the number of an alias (`eth0:1`) and the mark of a pattern (`/eth*`).
fn bare(name: &str) -> &str {
    name.split(':').next().unwrap_or(name).trim_start_matches('/')
}

fn begin(plan: &mut Plan, file: &str, name: &str, words: &[&str]) -> Described {
    let name = bare(name);
    // eth0.5 is VLAN 5 on eth0; vlan5 says on what it lies in its stanza.
    let dotted = name.rsplit_once('.').and_then(|(below, id)| Some((Some(below), id.parse::<u16>().ok()?)));
    let numbered = name.strip_prefix("vlan").and_then(|id| Some((None, id.parse::<u16>().ok()?)));
    if let Some((below, id)) = dotted.or(numbered).filter(|(_, id)| *id < 4095) {
        plan.upper(name).vlan = Some(id);
        if let Some(below) = below {
            plan.lies_on(name, Cards::named(below));
        }
    }
    if words.contains(&"inherits") {
        plan.unclear(file, format_args!("'iface {}': what it inherits is not understood", words.join(" ")));
    }
    Described { file: file.to_owned(), cards: Cards::named(name), ..Described::default() }
}

fn add(plan: &mut Plan, one: &mut Described, option: &str, values: &[&str], line: &str) {
    let name = one.cards.names.first().cloned().unwrap_or_default();
    match option {
        // The rest of the line may be `netmask …` on one line in ifupdown2.
        "address" | "addresses" => {
            let given = values.iter().take_while(|value| value.contains(['.', ':']));
            one.addresses.extend(given.filter_map(|value| plan.address(&one.file, value)));
        }
        "vlan-raw-device" | "vlan_raw_device" => {
            for below in values {
                plan.lies_on(&name, Cards::named(*below));
            }
        }
        "vlan-id" | "vlan_id" => plan.upper(&name).vlan = values.first().and_then(|id| id.parse().ok()),
        "bond-slaves" | "bond_slaves" | "slaves" | "bridge_ports" | "bridge-ports" => ports(plan, one, &name, values),
        "bond-master" | "bond_master" => {
            if let Some(master) = values.first() {
                plan.lies_on(master, Cards::named(name));
            }
        }
        "up" | "pre-up" | "post-up" => command(plan, one, values, line),
        _ => {}
    }
}

fn ports(plan: &mut Plan, one: &Described, name: &str, values: &[&str]) {
    let mut values = values.iter();
    while let Some(port) = values.next() {
        match *port {
            "none" => {}
            "all" => plan.lies_on(name, Cards { perhaps: true, ..Cards::default() }),
            "regex" => {
                values.next();
                plan.unclear(&one.file, "'regex' is not understood; every card is taken to be a port");
                plan.lies_on(name, Cards { perhaps: true, ..Cards::default() });
            }
            port => plan.lies_on(name, Cards::named(port)),
        }
    }
}

/// A command that is run with the interface: one that adds an address is understood, one that might do so is reported.
fn command(plan: &mut Plan, one: &mut Described, words: &[&str], line: &str) {
    let program = words.first().map_or("", |program| program.rsplit('/').next().unwrap_or(program));
    let mut rest = words.iter().skip(1).skip_while(|word| word.starts_with('-')).copied();
    match (program, rest.next()) {
        ("ip", Some("a" | "addr" | "address")) => {
            let rest: Vec<&str> = rest.collect();
            let adds = matches!(rest.first(), Some(&("add" | "replace" | "change" | "append")));
            let own = [one.cards.names.first().map_or("", String::as_str), "$IFACE", "\"$IFACE\"", "${IFACE}"];
            let other = rest.iter().skip_while(|word| **word != "dev").nth(1).filter(|dev| !own.contains(*dev));
            let address = rest.get(1..).and_then(|rest| rest.iter().find(|word| is_address(word)));
            match (adds, address, other) {
                (true, Some(address), None) => one.addresses.extend(plan.address(&one.file, address)),
                (true, Some(address), Some(dev)) => {
                    let addresses = plan.address(&one.file, address).into_iter().collect();
                    let cards = Cards::named(bare(dev));
                    plan.describe(Described { file: one.file.clone(), cards, addresses, exclusive: false });
                }
                (true, None, _) => plan.unclear(&one.file, format_args!("the address in '{line}' is not understood")),
                (false, ..) => {}
            }
        }
        ("ip", Some("route" | "r" | "ro" | "rule" | "link" | "l" | "neigh" | "-batch")) => {}
        ("route" | "ethtool" | "sysctl" | "iptables" | "ip6tables" | "nft" | "echo" | "true" | "sleep" | "tc", _) => {}
        _ => plan.unclear(&one.file, format_args!("what '{line}' does is not looked into")),
    }
}

fn is_address(word: &str) -> bool {
    word.split('/').next().is_some_and(|bare| bare.parse::<IpAddr>().is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> (Plan, Vec<Include>) {
        let mut plan = Plan::default();
        let includes = ifupdown(&mut plan, "interfaces", text);
        (plan, includes)
    }

    fn shown(plan: &Plan) -> Vec<String> {
        let line = |one: &Described| format!("{}={:?}", one.cards.names.join(","), one.addresses);
        plan.described.iter().filter(|one| !one.addresses.is_empty()).map(line).collect()
    }

    #[test]
    fn stanzas_give_their_addresses_and_dhcp_gives_none() {
        let (plan, includes) = read(
            "source /etc/network/interfaces.d/*\nsource-directory more\nauto lo eth0\niface lo inet loopback\niface eth0 inet static\n\
             \taddress 192.168.1.10/24\n\tgateway 192.168.1.1\n\tup ip route add 10.0.0.0/8 dev eth0\niface eth0 inet6 static\n\
             address 2001:db8::1/64\n post-up ip -6 addr add 2001:db8::2/64 dev $IFACE\niface eth1 inet dhcp\niface eth0:1 inet static\n\
             address 192.168.1.11\n netmask 255.255.255.0\n",
        );
        assert_eq!(shown(&plan), ["eth0=[192.168.1.10]", "eth0=[2001:db8::1, 2001:db8::2]", "eth0=[192.168.1.11]"]);
        assert_eq!(
            includes,
            [Include::Source("/etc/network/interfaces.d/*".into()), Include::Directory("more".into())]
        );
        assert!(plan.not_understood.is_empty(), "{plan:?}");
    }

    #[test]
    fn lines_go_on_inside_a_word_and_not_in_a_comment() {
        let text = "iface eth0 inet static\n address 192.168.77.3\\\n1/24\n# was \\\niface eth1 inet static\n address \\\n 10.0.0.1/8\n";
        assert_eq!(shown(&read(text).0), ["eth0=[192.168.77.31]", "eth1=[10.0.0.1]"]);
    }

    #[test]
    fn vlans_bonds_and_bridges_lie_on_their_cards() {
        let (plan, _) = read(
            "iface eth0.5 inet static\n address 10.5.0.1/24\niface vlan7 inet manual\n vlan-raw-device eth1\niface bond0 inet static\n\
             address 10.0.0.1/8\n bond-slaves eth2 eth3\niface br0 inet manual\n bridge_ports bond0\niface eth4 inet manual\n bond-master bond0\n",
        );
        let upper = |name: &str| plan.uppers.iter().find(|upper| upper.name == name).unwrap();
        assert_eq!((upper("eth0.5").vlan, &upper("eth0.5").over), (Some(5), &vec![Cards::named("eth0")]));
        assert_eq!((upper("vlan7").vlan, &upper("vlan7").over), (Some(7), &vec![Cards::named("eth1")]));
        assert_eq!(upper("bond0").over, ["eth2", "eth3", "eth4"].map(Cards::named));
        assert_eq!(upper("br0").over, [Cards::named("bond0")]);
    }

    #[test]
    fn what_may_add_an_address_unseen_is_reported() {
        for line in ["up /usr/local/bin/more-addresses", "up ifconfig eth0:1 1.2.3.4", "up ip addr add $MINE dev eth0"]
        {
            let (plan, _) = read(&format!("iface eth0 inet manual\n {line}\n"));
            assert_eq!(plan.not_understood.len(), 1, "{line}: {plan:?}");
        }
        for line in ["mapping eth0", "iface eth0 inherits base", "address 1.2.3.4"] {
            let (plan, _) = read(&format!("{line}\n"));
            assert_eq!(plan.not_understood.len(), 1, "{line}: {plan:?}");
        }
        let (plan, _) = read("iface eth0 inet manual\n up ip addr add 10.0.0.9/8 dev eth1\n");
        assert_eq!(shown(&plan), ["eth1=[10.0.0.9]"]);
    }
}
