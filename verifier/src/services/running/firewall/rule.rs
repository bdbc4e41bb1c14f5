//! What one rule does with one port, as far as that can be told.

use serde_json::Value;

/// A port, the device by which clients come where that is known, and what is known of the names in a table: sets and maps.
pub(super) struct Asked<'r> {
    pub(super) port: u16,
    pub(super) is_udp: bool,
    pub(super) device: Option<&'r str>,
    pub(super) named: Vec<&'r Value>,
}

/// What a rule does with a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Does {
    /// It is not about it.
    Nothing,
    /// It lets it in, perhaps only from some.
    MayAccept,
    /// It sends it, perhaps only that from some, to the rules of other chains.
    Jumps,
    /// It ends this chain for it, perhaps only for that from some.
    Returns,
    /// It drops it, whoever sends it.
    Drops,
}

impl Asked<'_> {
    pub(super) fn does(&self, rule: &Value) -> Does {
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
                _ if is_of_another(left, self.is_udp) => return Does::Nothing,
                Some("dport") => match self.covers(right) {
                    Some(true) if matching["op"] == "==" && is_of(left, self.is_udp) => {}
                    Some(_) if matching["op"] == "==" => return Does::Nothing,
                    _ => is_narrow = true,
                },
                _ => match self.is_for_client(matching) {
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
            _ if has("jump") || has("goto") => Does::Jumps,
            _ if has("return") => Does::Returns,
            _ if (has("drop") || has("reject")) && !is_narrow => Does::Drops,
            Does::Drops if is_narrow => Does::Nothing,
            does => does,
        }
    }

    /// Whether a match holds for what a client sends first, whatever its port is; `None` where it holds for some, or nobody knows.
    fn is_for_client(&self, matching: &Value) -> Option<bool> {
        let (left, right) = (&matching["left"], &matching["right"]);
        let holds = match () {
            // Neither answers to what this server began nor the loopback device let a client come.
            () if left["ct"]["key"] == "state" => is_new(right)?,
            () if is_loopback(left, right) => false,
            () if is_protocol(left) => self.is_protocol(right)?,
            () => return self.is_of_clients(matching),
        };
        match matching["op"].as_str() {
            Some("==" | "in") => Some(holds),
            Some("!=") => Some(!holds),
            _ => None,
        }
    }

    /// Whether the protocol, or one of these, is that of the port.
    fn is_protocol(&self, right: &Value) -> Option<bool> {
        let own = if self.is_udp { ["udp", "17"] } else { ["tcp", "6"] };
        match right.as_str() {
            Some(name) if name.starts_with('@') => None,
            Some(name) => Some(own.contains(&name)),
            None if right.is_u64() => Some(right.as_u64() == own[1].parse().ok()),
            None => right["set"]
                .as_array()?
                .iter()
                .map(|one| self.is_protocol(one))
                .reduce(|all, one| Some(all? || one?))?,
        }
    }

    /// The chains to which a rule may send the port.
    pub(super) fn jumps(&self, rule: &Value) -> Vec<String> {
        let mut found = vec![];
        targets(rule, &mut found);
        let maps = self.named.iter().filter(|named| {
            rule["expr"].as_array().into_iter().flatten().any(|expression| {
                expression["vmap"]["data"]
                    .as_str()
                    .and_then(|data| data.strip_prefix('@'))
                    .is_some_and(|data| named["name"] == data)
            })
        });
        maps.for_each(|map| targets(map, &mut found));
        found
    }

    /// Whether it does not come back from there.
    pub(super) fn goes(&self, rule: &Value) -> bool {
        let says = |value: &Value| value.to_string().contains("\"goto\"");
        says(rule) || self.named.iter().any(|named| says(named))
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
        let (mut may_accept, mut may_jump, mut is_dropped) = (false, false, false);
        for pair in elements {
            let (Some(value), Some(verdict)) = (pair.get(0), pair.get(1)) else { return Does::MayAccept };
            let is_met = match key["payload"]["field"].as_str() {
                _ if is_of_another(key, self.is_udp) => Some(false),
                Some("dport") => self.covers(value),
                _ if key["ct"]["key"] == "state" => is_new(value),
                _ if is_loopback(key, value) => Some(false),
                _ if is_protocol(key) => self.is_protocol(value),
                _ => None,
            };
            let has = |what: &str| verdict.get(what).is_some();
            may_accept |= is_let_in(has) && is_met != Some(false);
            may_jump |= (has("jump") || has("goto")) && is_met != Some(false);
            is_dropped |= is_met == Some(true) && has("drop");
        }
        match () {
            () if may_accept => Does::MayAccept,
            () if may_jump => Does::Jumps,
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

/// Whether this lets a packet in, or gives it to a program that may.
fn is_let_in(has: impl Fn(&str) -> bool) -> bool {
    ["accept", "queue"].iter().any(|verdict| has(verdict))
}

/// The chains that are named anywhere in it.
fn targets(value: &Value, found: &mut Vec<String>) {
    for kind in ["jump", "goto"] {
        found.extend(value[kind]["target"].as_str().map(str::to_owned));
    }
    match value {
        Value::Object(fields) => fields.values().for_each(|value| targets(value, found)),
        Value::Array(all) => all.iter().for_each(|value| targets(value, found)),
        _ => {}
    }
}

/// Whether a rule accepts some port; that of DHCP says nothing of clients.
pub(super) fn lets_a_port_in(rule: &Value) -> bool {
    let expressions = || rule["expr"].as_array().into_iter().flatten();
    let is_port = |expression: &Value| {
        let matching = &expression["match"];
        matching["left"]["payload"]["field"] == "dport" && !matching["right"].to_string().contains("546")
            || expression["vmap"]["key"].to_string().contains("dport")
    };
    let is_accepting =
        |expression: &Value| ["accept", "jump", "goto", "vmap"].iter().any(|verdict| expression.get(verdict).is_some());
    expressions().any(is_port) && expressions().any(is_accepting)
}

fn is_of(left: &Value, is_udp: bool) -> bool {
    !is_of_another(left, is_udp)
}

/// Whether a field is of another protocol than that of the port: `icmp type`, `udp sport`. Such a match asks for its protocol first.
fn is_of_another(left: &Value, is_udp: bool) -> bool {
    const OTHERS: [&str; 11] =
        ["udplite", "sctp", "dccp", "icmp", "icmpv6", "icmp6", "igmp", "esp", "ah", "comp", "gre"];
    match left["payload"]["protocol"].as_str() {
        Some("tcp") => is_udp,
        Some("udp") => !is_udp,
        // `th dport`: of either. `ip saddr`: of all.
        Some(name) => OTHERS.contains(&name),
        None => false,
    }
}

/// Whether states are those of a connection that a client begins; `None` where only some rule outside knows.
fn is_new(right: &Value) -> Option<bool> {
    let states = right.to_string();
    match () {
        () if states.contains("new") => Some(true),
        () if states.contains("untracked") || states.contains('@') => None,
        () => Some(false),
    }
}

fn is_loopback(left: &Value, right: &Value) -> bool {
    (left["meta"]["key"] == "iifname" || left["meta"]["key"] == "iif") && right == "lo"
}

fn is_protocol(left: &Value) -> bool {
    left["meta"]["key"] == "l4proto" || left["payload"]["protocol"] == "ip" && left["payload"]["field"] == "protocol"
}
