//! systemd-networkd: `.network` files with their drop-ins, and the `.netdev` files of VLANs.

use super::{Cards, Described, Mac, Plan, ini};

/// Keys of `[Network]` that put another interface on top of this one.
const UPPERS: [&str; 7] = ["VLAN", "Bond", "Bridge", "MACVLAN", "MACVTAP", "IPVLAN", "IPVTAP"];

/// Reads a `.network` file, its drop-ins behind it.
pub fn network(plan: &mut Plan, file: &str, text: &str) {
    let mut one = Described { file: file.to_owned(), exclusive: true, ..Described::default() };
    let mut taken = true;
    let mut uppers = Vec::new();
    let mut unclear = Vec::new();
    for line in ini::lines(text) {
        let Ok(ini::Line { section, key, value }) = line else {
            plan.unclear(file, format_args!("'{}' is not understood", line.err().unwrap_or_default()));
            continue;
        };
        match (section, key) {
            ("Match", key) => unclear.extend(matched(&mut one.cards, key, &value)),
            ("Network" | "Address", "Address") if value.is_empty() => one.addresses.clear(),
            ("Network" | "Address", "Address") => one.addresses.extend(plan.address(file, &value)),
            ("Network", upper) if UPPERS.contains(&upper) => {
                uppers.extend(value.split_whitespace().map(str::to_owned));
            }
            ("Link", "Unmanaged") if ["yes", "true", "1", "on"].contains(&value.as_str()) => taken = false,
            ("Link", "ActivationPolicy") if ["down", "always-down", "manual"].contains(&value.as_str()) => {
                plan.unclear(file, format_args!("'{key}={value}': it is not brought up at boot, and not asked for"));
                taken = false;
            }
            _ => {}
        }
    }
    for upper in uppers {
        plan.lies_on(&upper, one.cards.clone());
    }
    if !taken {
        one.addresses.clear();
    }
    // Which cards a file is for matters only where it has addresses: systemd brings a dozen that have none.
    if !one.addresses.is_empty() {
        unclear.iter().for_each(|what| plan.unclear(file, what));
    }
    plan.describe(one);
}

/// Gives what of it is not understood.
fn matched(cards: &mut Cards, key: &str, value: &str) -> Option<String> {
    let words = || value.split_whitespace();
    match key {
        "Name" => cards.names.extend(words().map(|word| word.trim_matches('"').to_owned())),
        "MACAddress" | "PermanentMACAddress" => {
            let read: Vec<Mac> = words().filter_map(|word| word.parse().ok()).collect();
            cards.perhaps |= read.len() != words().count();
            cards.macs.extend(read);
        }
        // What a wire can be asked on is Ethernet anyway.
        "Type" if value.split_whitespace().any(|kind| kind == "ether") => {}
        _ => {
            cards.perhaps = true;
            return Some(format!("'{key}={value}' in [Match] is not understood; it is taken to fit"));
        }
    }
    None
}

/// Reads a `.netdev` file: the number of a VLAN.
pub fn netdev(plan: &mut Plan, file: &str, text: &str) {
    let (mut name, mut vlan, mut kind) = (String::new(), None, String::new());
    for line in ini::lines(text).into_iter().flatten() {
        match (line.section, line.key) {
            ("NetDev", "Name") => name = line.value,
            ("NetDev", "Kind") => kind = line.value,
            ("VLAN", "Id") => vlan = line.value.parse().ok().filter(|id| *id < 4095),
            _ => {}
        }
    }
    match (kind.as_str(), vlan) {
        (_, _) if name.is_empty() => plan.unclear(file, "it names no interface"),
        ("vlan", None) => plan.unclear(file, "the VLAN has no number"),
        ("vlan", Some(id)) => plan.upper(&name).vlan = Some(id),
        _ => drop(plan.upper(&name)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::address::Mac;

    #[test]
    fn cards_addresses_and_what_lies_on_them_are_read() {
        let mut plan = Plan::default();
        let text = "[Match]\nName=en* eth0\nMACAddress=52:54:00:00:00:01\n[Network]\nAddress=192.168.1.10/24\nAddress=2001:db8::1/64\n\
            DHCP=no\nVLAN=office guests\n[Address]\nAddress=10.0.0.1/8\nLabel=x\n";
        network(&mut plan, "10-lan.network", text);
        netdev(&mut plan, "office.netdev", "[NetDev]\nName=office\nKind=vlan\n[VLAN]\nId=5\n");
        let one = &plan.described[0];
        assert_eq!(one.cards.names, ["en*", "eth0"]);
        assert_eq!(one.cards.macs, [Mac([0x52, 0x54, 0, 0, 0, 1])]);
        assert_eq!(
            one.addresses.iter().map(ToString::to_string).collect::<Vec<_>>(),
            ["192.168.1.10", "2001:db8::1", "10.0.0.1"]
        );
        assert_eq!(plan.uppers[0].vlan, Some(5));
        assert_eq!((plan.uppers.len(), &plan.uppers[1].over[0]), (2, &one.cards));
        assert!(plan.not_understood.is_empty(), "{plan:?}");
    }

    #[test]
    fn what_is_not_understood_is_said_and_taken_to_fit() {
        let mut plan = Plan::default();
        let text = "[Match]\nPath=pci-*\nType=ether\n[Network]\nAddress=nonsense\nAddress=1.2.3.4/8\n";
        network(&mut plan, "a.network", text);
        assert!(plan.described[0].cards.perhaps);
        assert!(plan.not_understood[0].contains("nonsense") && plan.not_understood[1].contains("Path=pci-*"));
        let mut plan = Plan::default();
        network(
            &mut plan,
            "80-container-ve.network",
            "[Match]\nKind=veth\nDriver=veth\n[Network]\nAddress=0.0.0.0/28\n",
        );
        assert!(plan.not_understood.is_empty(), "{plan:?}");
        network(&mut plan, "b.network", "[Match]\nName=a\n[Network]\nAddress=1.2.3.4/8\nAddress=\n");
        network(&mut plan, "c.network", "[Match]\nName=a\n[Link]\nUnmanaged=yes\n[Network]\nAddress=1.2.3.4/8\n");
        assert!(plan.is_empty());
        network(&mut plan, "d.network", "[Network]\nAddress=0.0.0.0/24\nAddress=127.0.0.1/8\n");
        assert!(plan.is_empty(), "neither can be another machine's");
    }
}
