//! dhcpcd: `static` and `inform` in `/etc/dhcpcd.conf`.

use super::{Cards, Described, Plan};

/// Reads the file.
pub fn dhcpcd(plan: &mut Plan, file: &str, text: &str) {
    let mut one = Described { file: file.to_owned(), ..Described::default() };
    let end = |plan: &mut Plan, one: &mut Described, next: Cards| {
        let next = Described { file: one.file.clone(), cards: next, ..Described::default() };
        let done = std::mem::replace(one, next);
        if !done.addresses.is_empty() {
            plan.describe(done);
        }
    };
    for line in text.lines().map(str::trim).filter(|line| !line.starts_with('#')) {
        let words: Vec<&str> = line.split_whitespace().collect();
        match words.as_slice() {
            ["interface", name] => end(plan, &mut one, Cards::named(*name)),
            ["profile" | "ssid", ..] => {
                end(plan, &mut one, Cards { perhaps: true, ..Cards::default() });
                plan.unclear(file, format_args!("'{line}' is not understood; it is taken to hold"));
            }
            ["static", value] => {
                if let Some(("ip_address" | "ip6_address", address)) = value.split_once('=') {
                    one.addresses.extend(plan.address(file, address));
                }
            }
            ["inform" | "inform6", address] => one.addresses.extend(plan.address(file, address)),
            _ => {}
        }
    }
    end(plan, &mut one, Cards::default());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn static_addresses_belong_to_the_interface_above_them() {
        let mut plan = Plan::default();
        let text = "hostname\ninterface eth0\nstatic ip_address=192.168.0.10/24\nstatic ip6_address=fd51::1/64\nstatic routers=192.168.0.1\n\
            # static ip_address=1.1.1.1/8\ninterface eth1\ninform 10.0.0.1/8\n";
        dhcpcd(&mut plan, "/etc/dhcpcd.conf", text);
        assert_eq!(plan.described.len(), 2);
        assert_eq!(plan.described[0].cards.names, ["eth0"]);
        assert_eq!(plan.addresses().len(), 3);
    }
}
