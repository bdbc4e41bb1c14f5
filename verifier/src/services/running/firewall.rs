//! Whether this server's own packet filter lets clients come to the services: `nft --json list ruleset`.
//!
//! Only a warning: rules can say much that is not understood here, and partners find out what really comes through. So whatever may let a
//! packet in counts as letting it in, and what is told is the plain case: a rule that drops the port, or a policy that drops what no rule names.

use super::device;
use crate::{
    here::{self, Faults},
    service::Target,
};
use atlas_model::verify::{Fault, Verdict};
use serde_json::Value;
use std::collections::BTreeSet;

/// A chain that sees packets for this server.
struct Chain<'r> {
    family: &'r Value,
    table: &'r str,
    name: &'r str,
    drops: bool,
}

/// A port, the device by which clients come where that is known, and what is known of the names in a table: sets and maps.
struct Asked<'r> {
    port: u16,
    is_udp: bool,
    device: Option<&'r str>,
    named: Vec<&'r Value>,
}

/// What a rule does with a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Does {
    /// It is not about it.
    Nothing,
    /// It lets it in, perhaps only from some, or sends it to rules that are not followed here.
    MayAccept,
    /// It drops it, whoever sends it.
    Drops,
}

/// Looks at each port.
pub(super) fn look(target: &Target, ports: &[(String, u16, bool)], faults: &mut Faults) {
    let Some(Ok(output)) = here::run(&target.root, "nft", &["--json", "list", "ruleset"], target.left()) else {
        return;
    };
    let Ok(rules) = serde_json::from_slice::<Value>(&output.stdout) else { return };
    let device = device::of_clients(&target.root);
    let sleeping = sleeping(target, &rules);
    for (service, port, is_udp) in ports {
        if let Some(why) = closed(&rules, &sleeping, *port, *is_udp, device.as_deref()) {
            let protocol = if *is_udp { "udp" } else { "tcp" };
            let what = format!("the firewall seems to keep clients of {service} out: {why} {protocol} port {port}");
            let hint = "nft list ruleset; the file that it comes from: /etc/nftables.conf";
            faults.add(Fault::new(Verdict::Slow, what, hint).is("firewall", &[service]));
        }
    }
}

/// The tables that sleep, and filter nothing: by family and name. Older ones say so in their own language alone.
fn sleeping(target: &Target, rules: &Value) -> Vec<(String, String)> {
    let drops = |object: &&Value| object["chain"]["hook"] == "input";
    let chains = rules["nftables"].as_array().into_iter().flatten().filter(drops);
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

/// What keeps this port closed, where something plainly does.
fn closed(
    rules: &Value,
    sleeping: &[(String, String)],
    port: u16,
    is_udp: bool,
    device: Option<&str>,
) -> Option<String> {
    let objects = rules["nftables"].as_array()?;
    let of = |kind: &'static str| objects.iter().map(move |object| &object[kind]).filter(|object| object.is_object());
    let sleeps =
        |chain: &Value| sleeping.iter().any(|(family, name)| chain["family"] == **family && chain["table"] == **name);
    let chains = of("chain").filter(|chain| chain["hook"] == "input" && !sleeps(chain)).map(|chain| Chain {
        family: &chain["family"],
        table: chain["table"].as_str().unwrap_or_default(),
        name: chain["name"].as_str().unwrap_or_default(),
        drops: chain["policy"] == "drop",
    });
    for chain in chains {
        let is_of_table = |object: &&Value| object["table"] == chain.table && object["family"] == *chain.family;
        let of_table = || of("rule").filter(is_of_table);
        let asked = Asked { port, is_udp, device, named: of("set").chain(of("map")).filter(is_of_table).collect() };
        // Rules that the chain jumps to are not followed: one that lets the port in anywhere in the table may be reached.
        let may_accept =
            of_table().filter(|rule| rule["chain"] != chain.name).any(|rule| asked.does(rule) == Does::MayAccept);
        let first = of_table()
            .filter(|rule| rule["chain"] == chain.name)
            .map(|rule| asked.does(rule))
            .find(|does| *does != Does::Nothing);
        match first {
            Some(Does::Drops) if !may_accept => return Some(format!("a rule of {} {} drops", chain.table, chain.name)),
            None if chain.drops && !may_accept => {
                return Some(format!("{} {} drops what no rule accepts, and none names", chain.table, chain.name));
            }
            _ => {}
        }
    }
    None
}

impl Asked<'_> {
    fn does(&self, rule: &Value) -> Does {
        let Some(expressions) = rule["expr"].as_array() else { return Does::MayAccept };
        let has = |what: &str| expressions.iter().any(|expression| expression.get(what).is_some());
        let all = |what: &'static str| {
            expressions.iter().map(move |expression| &expression[what]).filter(|found| found.is_object())
        };
        // By anything else than the port: where it does not hold for everybody, dropping is not plain.
        let mut is_narrow = false;
        for matching in all("match") {
            let (left, right) = (&matching["left"], &matching["right"]);
            match left["payload"]["field"].as_str() {
                Some("dport") => match self.covers(right) {
                    Some(true) if matching["op"] == "==" && is_of(left, self.is_udp) => {}
                    Some(_) if matching["op"] == "==" => return Does::Nothing,
                    _ => is_narrow = true,
                },
                // Answers to what this server began, and the loopback device: neither lets a client come.
                _ if is_never_a_client(left, right) => return Does::Nothing,
                _ => match self.is_of_clients(matching) {
                    Some(true) => {}
                    Some(false) => return Does::Nothing,
                    None => is_narrow = true,
                },
            }
        }
        // What counts or limits is for some packets alone, as may be what nft itself does not understand: the matches of iptables.
        let is_plain = |expression: &Value| {
            expression.as_object().is_some_and(|all| all.keys().all(|key| PLAIN.contains(&key.as_str())))
        };
        let is_narrow = is_narrow || !expressions.iter().all(is_plain);
        let mapped = all("vmap").map(|map| self.mapped(map)).find(|does| *does != Does::Nothing);
        match mapped.unwrap_or(Does::Nothing) {
            _ if is_let_in(has) => Does::MayAccept,
            _ if (has("drop") || has("reject")) && !is_narrow => Does::Drops,
            Does::Drops if is_narrow => Does::Nothing,
            does => does,
        }
    }

    /// Whether a match is of the device by which clients come; `None` where it is of something else, or nobody knows.
    fn is_of_clients(&self, matching: &Value) -> Option<bool> {
        let (left, right, device) = (&matching["left"]["meta"]["key"], &matching["right"], self.device?);
        if left != "iifname" && left != "iif" {
            return None;
        }
        let named = right.as_str().and_then(|name| self.elements(name)).or(right["set"].as_array());
        let is_it = match (named, right.as_str()) {
            (Some(all), _) if all.iter().all(|one| one.as_str().is_some_and(|name| !name.contains('*'))) => {
                all.iter().any(|one| one == device)
            }
            (None, Some(name)) if !name.contains('*') => name == device,
            _ => return None,
        };
        match matching["op"].as_str() {
            Some("==") => Some(is_it),
            Some("!=") => Some(!is_it),
            _ => None,
        }
    }

    /// What a verdict map, `tcp dport vmap { 22 : accept, 80 : jump web }`, does with the port.
    fn mapped(&self, map: &Value) -> Does {
        let (key, data) = (&map["key"], &map["data"]);
        let named = data.as_str().and_then(|name| self.elements(name));
        let Some(elements) = data["set"].as_array().or(named) else { return Does::MayAccept };
        let (mut may_accept, mut is_dropped) = (false, false);
        for pair in elements {
            let (Some(value), Some(verdict)) = (pair.get(0), pair.get(1)) else { return Does::MayAccept };
            let is_met = match key["payload"]["field"].as_str() {
                Some("dport") if !is_of(key, self.is_udp) => Some(false),
                Some("dport") => self.covers(value),
                _ if is_never_a_client(key, value) => Some(false),
                _ => None,
            };
            let lets_in = is_let_in(|what| verdict.get(what).is_some());
            may_accept |= lets_in && is_met != Some(false);
            is_dropped |= !lets_in && is_met == Some(true) && verdict.get("drop").is_some();
        }
        match () {
            () if may_accept => Does::MayAccept,
            () if is_dropped => Does::Drops,
            () => Does::Nothing,
        }
    }

    /// The elements of a set or map of this name: `@web`.
    fn elements(&self, name: &str) -> Option<&Vec<Value>> {
        let name = name.strip_prefix('@')?;
        self.named.iter().find(|named| named["name"] == name)?["elem"].as_array()
    }

    /// Whether a port, a range, or a set of both has this port; `None` where that cannot be told.
    fn covers(&self, right: &Value) -> Option<bool> {
        let port = u64::from(self.port);
        if let Some(number) = right.as_u64() {
            return Some(number == port);
        }
        if let Some(range) = right["range"].as_array() {
            let (low, high) = (range.first()?.as_u64()?, range.get(1)?.as_u64()?);
            return Some((low..=high).contains(&port));
        }
        // One with a comment, a counter or a time.
        if right["elem"].is_object() {
            return self.covers(&right["elem"]["val"]);
        }
        let named = right.as_str().and_then(|name| self.elements(name));
        let mut unknown = false;
        for element in right["set"].as_array().or(named)? {
            match self.covers(element) {
                Some(true) => return Some(true),
                Some(false) => {}
                None => unknown = true,
            }
        }
        if unknown { None } else { Some(false) }
    }
}

/// Statements of a rule that hold for every packet which meets it.
const PLAIN: [&str; 14] = [
    "match", "vmap", "counter", "log", "mangle", "notrack", "accept", "drop", "reject", "jump", "goto", "return",
    "continue", "queue",
];

/// Whether this lets a packet in, or sends it to rules that are not followed here.
fn is_let_in(has: impl Fn(&str) -> bool) -> bool {
    ["accept", "jump", "goto", "queue"].iter().any(|verdict| has(verdict))
}

fn is_of(left: &Value, is_udp: bool) -> bool {
    match left["payload"]["protocol"].as_str() {
        Some("tcp") => !is_udp,
        Some("udp") => is_udp,
        // `th dport`: of either.
        _ => true,
    }
}

/// Connections that exist already, and the loopback device.
fn is_never_a_client(left: &Value, right: &Value) -> bool {
    let is_new = || format!("{right}").contains("new");
    left["ct"]["key"] == "state" && !is_new()
        || left["meta"]["key"] == "iifname" && right == "lo"
        || left["meta"]["key"] == "iif" && right == "lo"
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn chain(policy: &str) -> Value {
        json!({"chain": {"family": "inet", "table": "filter", "name": "input", "hook": "input", "policy": policy}})
    }

    fn rule(expr: &Value) -> Value {
        json!({"rule": {"family": "inet", "table": "filter", "chain": "input", "expr": expr}})
    }

    fn dport(right: &Value) -> Value {
        json!({"match": {"op": "==", "left": {"payload": {"protocol": "tcp", "field": "dport"}}, "right": right}})
    }

    fn is_closed(policy: &str, rules: &[Value]) -> Option<String> {
        let all: Vec<Value> = [chain(policy)].into_iter().chain(rules.iter().map(rule)).collect();
        closed(&json!({"nftables": all}), &[], 80, false, Some("eth0"))
    }

    #[test]
    fn what_lets_clients_in_is_no_fault() {
        assert_eq!(closed(&json!({"nftables": [{"metainfo": {}}]}), &[], 80, false, Some("eth0")), None);
        assert_eq!(is_closed("accept", &[]), None);
        assert_eq!(is_closed("drop", &[json!([dport(&json!(80)), {"accept": null}])]), None);
        assert_eq!(
            is_closed("drop", &[json!([dport(&json!({"set": [22, {"range": [79, 81]}]})), {"accept": null}])]),
            None
        );
        // Perhaps it is in it.
        assert_eq!(is_closed("drop", &[json!([dport(&json!("@web")), {"accept": null}])]), None);
        assert_eq!(is_closed("drop", &[json!([{"jump": {"target": "services"}}])]), None);
        let from = json!({"match": {"op": "==", "left": {"payload": {"protocol": "ip", "field": "saddr"}}, "right": "10.0.0.1"}});
        assert_eq!(is_closed("accept", &[json!([from, dport(&json!(80)), {"drop": null}])]), None);
        assert_eq!(is_closed("accept", &[json!([dport(&json!(443)), {"drop": null}])]), None);
    }

    #[test]
    fn what_limits_drops_some_alone_and_a_table_may_sleep() {
        for limit in [
            json!({"limit": {"rate": 100, "per": "second", "inv": true}}),
            json!({"ct count": {"val": 1000, "inv": true}}),
            json!({"meter": {"key": {"payload": {"protocol": "ip", "field": "saddr"}}, "stmt": {"ct count": {"val": 100, "inv": true}}, "name": "m"}}),
        ] {
            assert_eq!(is_closed("accept", &[json!([dport(&json!(80)), limit, {"drop": null}])]), None, "{limit}");
        }
        assert!(is_closed("accept", &[json!([dport(&json!(80)), {"log": null}, {"drop": null}])]).is_some());
        let with = |sleeping: &[(String, String)]| {
            closed(&json!({"nftables": [chain("drop")]}), sleeping, 80, false, Some("eth0"))
        };
        assert!(with(&[]).is_some() && with(&[("ip".into(), "filter".into())]).is_some());
        assert!(with(&[("inet".into(), "filter".into())]).is_none());
        assert!(is_dormant("table inet t {\n\tflags dormant\n\tchain i {\n\t}\n}\n"));
        assert!(!is_dormant("table inet t {\n\tchain i {\n\t\tcomment \"flags dormant\"\n\t}\n}\n"));
    }

    #[test]
    fn a_rule_for_the_device_of_the_clients_is_for_all_of_them() {
        let by =
            |op: &str, right: Value| json!({"match": {"op": op, "left": {"meta": {"key": "iifname"}}, "right": right}});
        let drop = |by: Value| is_closed("accept", &[json!([by, dport(&json!(80)), {"drop": null}])]).is_some();
        assert!(drop(by("==", json!("eth0"))) && drop(by("==", json!({"set": ["eth0", "eth1"]}))));
        assert!(drop(by("!=", json!("eth1"))));
        assert!(!drop(by("==", json!("eth1"))) && !drop(by("!=", json!("eth0"))) && !drop(by("==", json!("eth*"))));
        // Let in by another device alone.
        let inner = json!([by("==", json!("eth1")), dport(&json!(80)), {"accept": null}]);
        assert!(is_closed("drop", &[inner]).is_some());
        assert_eq!(is_closed("drop", &[json!([by("==", json!("eth0")), {"accept": null}])]), None);
    }

    fn vmap(key: &Value, data: &Value) -> Value {
        json!({"vmap": {"key": key, "data": data}})
    }

    #[test]
    fn verdict_maps_and_named_sets_are_followed() {
        let port = json!({"payload": {"protocol": "tcp", "field": "dport"}});
        let state = json!({"ct": {"key": "state"}});
        let answers = json!([vmap(
            &state,
            &json!({"set": [["established", {"accept": null}], ["related", {"accept": null}], ["invalid", {"drop": null}]]})
        )]);
        let web = json!([vmap(&port, &json!({"set": [[22, {"accept": null}], [80, {"accept": null}]]}))]);
        assert_eq!(is_closed("drop", &[answers.clone(), web]), None);
        let others = json!([vmap(&port, &json!({"set": [[22, {"accept": null}], [443, {"accept": null}]]}))]);
        assert!(is_closed("drop", &[answers.clone(), others]).is_some());
        let shut = json!([vmap(&port, &json!({"set": [[80, {"drop": null}]]}))]);
        assert!(is_closed("accept", &[answers, shut]).is_some());
        let device = json!({"meta": {"key": "iifname"}});
        let inner =
            json!([vmap(&device, &json!({"set": [["lo", {"accept": null}], ["eth0", {"jump": {"target": "in"}}]]}))]);
        assert_eq!(is_closed("drop", &[inner]), None);
        let loopback = json!([vmap(&device, &json!({"set": [["lo", {"accept": null}]]}))]);
        assert!(is_closed("drop", &[loopback]).is_some());
        let both = json!({"concat": [{"payload": {"protocol": "ip", "field": "protocol"}}, port]});
        let pair = json!([vmap(&both, &json!({"set": [[{"concat": ["tcp", 80]}, {"accept": null}]]}))]);
        assert_eq!(is_closed("drop", &[pair]), None);
        assert_eq!(is_closed("drop", &[json!([vmap(&port, &json!("@unheard_of"))])]), None);

        let set =
            |elements: &Value| json!({"set": {"family": "inet", "table": "filter", "name": "ports", "elem": elements}});
        let map = |elements: &Value| json!({"map": {"family": "inet", "table": "filter", "name": "verdicts", "elem": elements}});
        let with = |named: &Value, policy: &str, expr: &Value| {
            closed(&json!({"nftables": [chain(policy), named, rule(expr)]}), &[], 80, false, Some("eth0"))
        };
        let accepted = json!([dport(&json!("@ports")), {"accept": null}]);
        assert_eq!(with(&set(&json!([22, {"elem": {"val": 80, "comment": "web"}}])), "drop", &accepted), None);
        assert!(with(&set(&json!([22, 443])), "drop", &accepted).is_some());
        let dropped = json!([dport(&json!("@ports")), {"drop": null}]);
        assert!(with(&set(&json!([{"range": [79, 81]}])), "accept", &dropped).is_some());
        let mapped = json!([vmap(&port, &json!("@verdicts"))]);
        assert_eq!(with(&map(&json!([[80, {"accept": null}]])), "drop", &mapped), None);
        assert!(with(&map(&json!([[81, {"accept": null}]])), "drop", &mapped).is_some());
    }

    #[test]
    fn a_rule_or_a_policy_that_drops_the_port_is_told() {
        let dropped = is_closed("accept", &[json!([dport(&json!(80)), {"counter": {"packets": 1}}, {"drop": null}])]);
        assert_eq!(dropped.as_deref(), Some("a rule of filter input drops"));
        assert!(is_closed("accept", &[json!([dport(&json!({"set": [80, 443]})), {"reject": null}])]).is_some());
        assert!(is_closed("accept", &[json!([{"drop": null}])]).is_some());
        let answers = json!([{"match": {"op": "in", "left": {"ct": {"key": "state"}}, "right": ["established", "related"]}}, {"accept": null}]);
        let loopback =
            json!([{"match": {"op": "==", "left": {"meta": {"key": "iifname"}}, "right": "lo"}}, {"accept": null}]);
        let ssh = json!([dport(&json!(22)), {"accept": null}]);
        let shut = is_closed("drop", &[answers.clone(), loopback, ssh]);
        assert_eq!(shut.as_deref(), Some("filter input drops what no rule accepts, and none names"));
        // The same port of the other protocol.
        let udp =
            json!({"match": {"op": "==", "left": {"payload": {"protocol": "udp", "field": "dport"}}, "right": 80}});
        assert!(is_closed("drop", &[json!([udp, {"accept": null}])]).is_some());
        assert_eq!(is_closed("accept", &[answers]), None);
    }
}
