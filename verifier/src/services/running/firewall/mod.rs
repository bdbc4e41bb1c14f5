//! Whether this server's own packet filter lets clients come to the services: `nft --json list ruleset`, and what [`iptables`] says of its own.
//!
//! Only a warning: rules can say much that is not understood here, and partners find out what really comes through. So whatever may let a
//! packet in counts as letting it in, and what is told is the plain case: a rule that drops the port, or a policy that drops what no rule names.

use super::device;
use crate::{
    here::{self, Faults},
    service::Target,
};
use atlas_model::verify::{Fault, Verdict};
use rule::{Asked, Does};
use serde_json::Value;
use std::collections::BTreeSet;

mod iptables;
mod rule;

/// Where packets for this server pass.
const HOOKS: [&str; 3] = ["ingress", "prerouting", "input"];

/// All rules, and what is known of them as a whole.
struct Rules<'r> {
    objects: &'r [Value],
    /// The tables that filter nothing, by family and name.
    sleeping: &'r [(String, String)],
    /// The device by which clients come, where that is known.
    device: Option<&'r str>,
}

/// Looks at each port.
pub(super) fn look(target: &Target, ports: &[(String, u16, bool)], faults: &mut Faults) {
    let told = here::run(&target.root, "nft", &["--json", "list", "ruleset"], target.left());
    let has_nft = told.is_some();
    let mut objects = told
        .and_then(Result::ok)
        .and_then(|output| serde_json::from_slice::<Value>(&output.stdout).ok())
        .and_then(|mut rules| rules["nftables"].as_array_mut().map(std::mem::take))
        .unwrap_or_default();
    iptables::explain(target, &mut objects);
    let device = device::of_clients(&target.root);
    let sleeping = sleeping(target, &objects);
    objects.extend(iptables::beside_nft(target, has_nft));
    let rules = Rules { objects: &objects, sleeping: &sleeping, device: device.as_deref() };
    for (service, port, is_udp) in ports {
        if let Some(why) = rules.closed(*port, *is_udp) {
            let protocol = if *is_udp { "udp" } else { "tcp" };
            let what = format!("the firewall seems to keep clients of {service} out: {why} {protocol} port {port}");
            let hint = "nft list ruleset, or iptables-save; the file that it comes from: /etc/nftables.conf, /etc/iptables/rules.v4";
            faults.add(Fault::new(Verdict::Slow, what, hint).is("firewall", &[service]));
        }
    }
}

/// The tables that sleep, and filter nothing: by family and name. Older ones say so in their own language alone.
fn sleeping(target: &Target, objects: &[Value]) -> Vec<(String, String)> {
    let chains = objects.iter().filter(|object| HOOKS.iter().any(|hook| object["chain"]["hook"] == *hook));
    let tables: BTreeSet<(String, String)> = chains
        .filter_map(|object| {
            Some((object["chain"]["family"].as_str()?.into(), object["chain"]["table"].as_str()?.into()))
        })
        .collect();
    let sleeps = |(family, name): &(String, String)| {
        let args = ["--terse", "list", "table", family, name];
        let told = here::run(&target.root, "nft", &args, target.left());
        told.is_some_and(|told| told.is_ok_and(|output| is_dormant(&output.text())))
    };
    tables.into_iter().take(MOST_TABLES).filter(sleeps).collect()
}

/// `flags dormant`, before its first chain.
fn is_dormant(told: &str) -> bool {
    let head = told.split("chain ").next().unwrap_or_default();
    head.lines().any(|line| line.trim().strip_prefix("flags").is_some_and(|flags| flags.contains("dormant")))
}

/// The most tables that are looked at.
const MOST_TABLES: usize = 8;

impl<'r> Rules<'r> {
    fn of(&self, kind: &'static str) -> impl Iterator<Item = &'r Value> {
        self.objects.iter().map(move |object| &object[kind]).filter(|object| object.is_object())
    }

    /// What keeps this port closed, where something plainly does.
    fn closed(&self, port: u16, is_udp: bool) -> Option<String> {
        self.of("chain").filter(|chain| self.is_passed(chain)).find_map(|chain| self.closed_by(chain, port, is_udp))
    }

    /// Whether the packets of clients pass this chain, with the port that the service has.
    fn is_passed(&self, chain: &Value) -> bool {
        let sleeps = self.sleeping.iter().any(|(family, name)| chain["family"] == **family && chain["table"] == **name);
        let is_here = match chain["hook"].as_str() {
            Some("input") => true,
            // Clients may name another port before it is changed.
            Some("prerouting") => chain["type"] != "nat" && !self.changes_ports(),
            Some("ingress") => !self.changes_ports() && self.device.is_some_and(|device| is_at(&chain["dev"], device)),
            _ => false,
        };
        is_here && !sleeps && !self.is_closed_on_purpose(chain)
    }

    fn changes_ports(&self) -> bool {
        let is_change = |expression: &Value| {
            ["redirect", "dnat"].iter().any(|key| expression.get(key).is_some())
                || expression
                    .get("xt")
                    .is_some_and(|xt| xt.is_null() || xt["name"] == "DNAT" || xt["name"] == "REDIRECT")
        };
        self.of("rule").filter_map(|rule| rule["expr"].as_array()).flatten().any(is_change)
    }

    /// Whoever wants no IPv6 at all has tables for it that let no port in; clients come by IPv4.
    fn is_closed_on_purpose(&self, chain: &Value) -> bool {
        let is_of = |rule: &&Value| rule["table"] == chain["table"] && rule["family"] == chain["family"];
        let is_ipv6 = chain["family"].as_str().is_some_and(|family| family.starts_with("ip6"));
        is_ipv6 && !self.of("rule").filter(is_of).any(rule::lets_a_port_in)
    }

    fn closed_by(&self, chain: &'r Value, port: u16, is_udp: bool) -> Option<String> {
        let is_of_table = |object: &&Value| object["table"] == chain["table"] && object["family"] == chain["family"];
        let named = self.of("set").chain(self.of("map")).filter(is_of_table).collect();
        let asked = Asked { port, is_udp, device: self.device, named };
        let rules_of = |name: &str| -> Vec<&'r Value> {
            self.of("rule").filter(is_of_table).filter(|rule| rule["chain"] == name).collect()
        };
        let name = chain["name"].as_str().unwrap_or_default();
        let drops = chain["policy"] == "drop";
        // Rules that the chain jumps to are not followed in their order: one that lets the port in may be reached.
        let (mut reached, mut next) = (BTreeSet::from([name.to_owned()]), vec![name.to_owned()]);
        while let Some(name) = next.pop() {
            for rule in rules_of(&name).into_iter().filter(|rule| asked.does(rule) == Does::Jumps) {
                for jump in asked.jumps(rule) {
                    if !self.of("chain").filter(is_of_table).any(|chain| chain["name"] == *jump) {
                        return None;
                    }
                    if reached.insert(jump.clone()) {
                        next.push(jump);
                    }
                }
            }
        }
        let may_accept = reached
            .iter()
            .filter(|other| *other != name)
            .flat_map(|name| rules_of(name))
            .any(|rule| asked.does(rule) == Does::MayAccept);
        if may_accept {
            return None;
        }
        // What goes back to the policy is let in by one that accepts.
        let does = |rule: &&Value| match asked.does(rule) {
            Does::Returns if !drops => Does::MayAccept,
            Does::Jumps if !drops && asked.goes(rule) => Does::MayAccept,
            Does::Jumps | Does::Returns => Does::Nothing,
            does => does,
        };
        let first = rules_of(name).iter().map(does).find(|does| *does != Does::Nothing);
        let table = chain["table"].as_str().unwrap_or_default();
        match first {
            Some(Does::Drops) => Some(format!("a rule of {table} {name} drops")),
            None if drops => Some(format!("{table} {name} drops what no rule accepts, and none names")),
            _ => None,
        }
    }
}

/// Whether a chain of one device, or of some, is of this one.
fn is_at(devices: &Value, device: &str) -> bool {
    devices == device || devices.as_array().is_some_and(|all| all.iter().any(|one| one == device))
}

#[cfg(test)]
mod tests;
