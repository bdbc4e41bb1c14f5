//! NetworkManager: keyfiles.

use super::{Cards, Described, Plan, ini};

/// Reads a `.nmconnection` file. `resolve` finds the interface of another connection by its UUID.
pub fn keyfile(plan: &mut Plan, file: &str, text: &str, resolve: &dyn Fn(&str) -> Option<String>) {
    let mut one = Described { file: file.to_owned(), ..Described::default() };
    let (mut name, mut parent, mut controller) = (None, None, None);
    let (mut vlan, mut is_vlan, mut at_boot) = (None, false, true);
    for line in ini::lines(text) {
        let Ok(ini::Line { section, key, value }) = line else {
            plan.unclear(file, format_args!("'{}' is not understood", line.err().unwrap_or_default()));
            continue;
        };
        match (section, key) {
            ("connection", "interface-name") => name = Some(value),
            ("connection", "type") => is_vlan = value == "vlan",
            ("connection", "autoconnect") => at_boot = value != "false",
            ("connection", "master" | "controller") => controller = Some(value),
            ("match", "interface-name") => {
                // `&` and `|` stand before a pattern where several are given.
                let names = value.split([';', ',', ' ']).filter(|word| !word.is_empty());
                one.cards.names.extend(names.map(|name| name.trim_start_matches(['&', '|']).to_owned()));
            }
            ("match", _) => {
                one.cards.perhaps = true;
                plan.unclear(file, format_args!("'{key}={value}' in [match] is not understood; it is taken to fit"));
            }
            ("ethernet" | "802-3-ethernet", "mac-address") => match value.parse() {
                Ok(mac) => one.cards.macs.push(mac),
                Err(_) => one.cards.perhaps = true,
            },
            ("vlan", "id") => vlan = value.parse().ok().filter(|id| *id < 4095),
            ("vlan", "parent") => parent = Some(value),
            ("ipv4" | "ipv6", key) if is_address(key) => addresses(plan, file, &mut one, &value),
            _ => {}
        }
    }
    one.cards.names.extend(name.clone());
    let named = |text: String| if text.contains('-') && text.len() == 36 { resolve(&text) } else { Some(text) };
    match (is_vlan, &name, vlan, parent.and_then(named)) {
        (true, Some(name), Some(id), Some(parent)) => {
            plan.upper(name).vlan = Some(id);
            plan.lies_on(name, Cards::named(parent));
        }
        (true, ..) => plan.unclear(file, "its VLAN lacks a name, a number or what it lies on"),
        (false, ..) => {}
    }
    if let Some(controller) = controller {
        match named(controller) {
            Some(controller) => plan.lies_on(&controller, one.cards.clone()),
            None => plan.unclear(file, "the connection that it belongs to is unknown"),
        }
    }
    if !at_boot && !one.addresses.is_empty() {
        plan.unclear(file, "it is not brought up at boot, and not asked for");
        one.addresses.clear();
    }
    plan.describe(one);
}

fn is_address(key: &str) -> bool {
    let numbered = |prefix: &str| key.strip_prefix(prefix).is_some_and(|rest| rest.bytes().all(|b| b.is_ascii_digit()));
    numbered("address") || numbered("addresses")
}

/// `192.168.1.10/24,192.168.1.1` with a gateway behind it, or several with prefixes.
fn addresses(plan: &mut Plan, file: &str, one: &mut Described, value: &str) {
    for (at, part) in value.split([',', ';']).map(str::trim).filter(|part| !part.is_empty()).enumerate() {
        if at == 0 || part.contains('/') {
            one.addresses.extend(plan.address(file, part));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LAN: &str = "[connection]\nid=lan\nuuid=2f6a1e3c-9f5c-4f0e-8c51-0c3f2f7f9a01\ntype=ethernet\ninterface-name=eth0\n\
        [ethernet]\nmac-address=52:54:00:00:00:01\n[ipv4]\nmethod=manual\naddress1=192.168.1.10/24,192.168.1.1\naddress2=192.168.1.11/24\n\
        dns=192.168.1.1;\n[ipv6]\nmethod=manual\naddresses=2001:db8::1/64;2001:db8::2/64\naddr-gen-mode=default\n";

    #[test]
    fn addresses_are_read_and_gateways_are_none() {
        let mut plan = Plan::default();
        keyfile(&mut plan, "lan", LAN, &|_| None);
        let shown: Vec<String> = plan.addresses().iter().map(ToString::to_string).collect();
        assert_eq!(shown, ["192.168.1.10", "192.168.1.11", "2001:db8::1", "2001:db8::2"]);
        assert_eq!(plan.described[0].cards.names, ["eth0"]);
        assert!(plan.not_understood.is_empty(), "{plan:?}");
    }

    #[test]
    fn a_vlan_names_its_parent_and_a_port_its_bond() {
        let mut plan = Plan::default();
        let uuid = "2f6a1e3c-9f5c-4f0e-8c51-0c3f2f7f9a01";
        let text = format!(
            "[connection]\ntype=vlan\ninterface-name=office\n[vlan]\nid=5\nparent={uuid}\n[ipv4]\naddress1=10.0.0.1/8\n"
        );
        keyfile(&mut plan, "office", &text, &|asked| (asked == uuid).then(|| "eth0".to_owned()));
        assert_eq!((plan.uppers[0].vlan, &plan.uppers[0].over), (Some(5), &vec![Cards::named("eth0")]));
        let port = "[connection]\ntype=ethernet\ninterface-name=eth1\ncontroller=bond0\nport-type=bond\n";
        keyfile(&mut plan, "port", port, &|_| None);
        assert_eq!((plan.uppers[1].name.as_str(), &plan.uppers[1].over), ("bond0", &vec![Cards::named("eth1")]));
        keyfile(&mut plan, "lost", &text, &|_| None);
        assert!(plan.not_understood[0].contains("what it lies on"), "{plan:?}");
    }

    #[test]
    fn what_is_not_brought_up_at_boot_is_not_asked_for_and_said() {
        let mut plan = Plan::default();
        keyfile(&mut plan, "lan", &LAN.replace("id=lan", "autoconnect=false"), &|_| None);
        assert!(plan.is_empty() && plan.not_understood[0].contains("not brought up at boot"));
    }
}
