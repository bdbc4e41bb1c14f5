//! What iptables says of its rules, as nft would say it: nft's JSON shows of a match of iptables only that there is one.
//!
//! ```text
//! :INPUT DROP [0:0]                                               ─► {"chain": {"hook": "input", "policy": "drop", …}}
//! -A INPUT -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT   ─► {"rule": {"expr": [{"match": {"left": {"ct": …}}}, {"accept": null}], …}}
//! ```
//!
//! What is not known here stays as nft shows it, as a match of which nobody knows anything: `{"xt": null}`.

use crate::{here, service::Target};
use serde_json::{Value, json};
use std::{collections::BTreeSet, path::Path};

/// The family that nft knows, the programs that tell of it, and where the kernel lists what the older iptables filters by.
const FAMILIES: [(&str, [&str; 2], &str, &str); 2] = [
    ("ip", ["iptables-nft-save", "iptables-save"], "iptables-legacy-save", "proc/net/ip_tables_names"),
    ("ip6", ["ip6tables-nft-save", "ip6tables-save"], "ip6tables-legacy-save", "proc/net/ip6_tables_names"),
];
/// Tables that filter what is for this server.
const TABLES: [&str; 3] = ["raw", "mangle", "filter"];
/// Targets that let a packet go on.
const GO_ON: [&str; 8] = ["LOG", "NFLOG", "ULOG", "MARK", "CONNMARK", "TRACE", "TCPMSS", "CT"];
/// States that a connection can have, and no other property of it.
const STATES: [&str; 5] = ["NEW", "ESTABLISHED", "RELATED", "INVALID", "UNTRACKED"];

/// Puts into rules of nft what iptables says of them, where nft cannot tell it.
pub(super) fn explain(target: &Target, objects: &mut [Value]) {
    let unclear: BTreeSet<(String, String)> = objects
        .iter()
        .map(|object| &object["rule"])
        .filter(|rule| has_xt(rule))
        .filter_map(|rule| Some((rule["family"].as_str()?.to_owned(), rule["table"].as_str()?.to_owned())))
        .filter(|(_, table)| TABLES.contains(&table.as_str()))
        .collect();
    for (family, table) in unclear {
        let Some((_, programs, ..)) = FAMILIES.iter().find(|(name, ..)| *name == family) else { continue };
        if let Some(said) = programs.iter().find_map(|program| said(target, program, &table)) {
            put_in(objects, &translated(&said, &family));
        }
    }
}

/// The rules of iptables where nft is not installed to tell them, and those of the older iptables, which nft does not see.
pub(super) fn beside_nft(target: &Target, has_nft: bool) -> Vec<Value> {
    let mut objects = vec![];
    for (family, programs, legacy, loaded) in FAMILIES {
        if !has_nft && let Some(program) = programs.iter().find(|name| here::program(&target.root, name).is_some()) {
            let all = TABLES.iter().filter_map(|table| said(target, program, table));
            objects.extend(all.flat_map(|said| translated(&said, family)));
        }
        // To ask for a table that is not loaded would load it.
        for table in legacy_tables(&target.root, loaded) {
            let said = said(target, legacy, table).unwrap_or_default();
            objects.extend(translated(&said, &format!("{family}-legacy")));
        }
    }
    objects
}

fn legacy_tables(root: &Path, loaded: &str) -> Vec<&'static str> {
    let loaded = here::text(root, loaded).unwrap_or_default();
    TABLES.into_iter().filter(|table| loaded.lines().any(|line| line == *table)).collect()
}

fn said(target: &Target, program: &str, table: &str) -> Option<String> {
    let output = here::run(&target.root, program, &["-t", table], target.left())?.ok()?;
    output.status.success().then(|| output.text())
}

fn has_xt(rule: &Value) -> bool {
    rule["expr"].as_array().is_some_and(|all| all.iter().any(|expression| expression.get("xt").is_some()))
}

/// Both list the rules of a chain in their order; where they do not list as many, nothing is put in.
fn put_in(objects: &mut [Value], said: &[Value]) {
    let of = |rule: &Value| ["family", "table", "chain"].map(|key| rule[key].as_str().unwrap_or_default().to_owned());
    let unclear: BTreeSet<[String; 3]> =
        objects.iter().map(|object| &object["rule"]).filter(|rule| has_xt(rule)).map(of).collect();
    for chain in unclear {
        let theirs: Vec<&Value> =
            said.iter().map(|object| &object["rule"]).filter(|rule| rule.is_object() && of(rule) == chain).collect();
        let ours: Vec<&mut Value> =
            objects.iter_mut().filter_map(|object| object.get_mut("rule")).filter(|rule| of(rule) == chain).collect();
        if ours.len() != theirs.len() {
            continue;
        }
        for (rule, said) in ours.into_iter().zip(theirs).filter(|(rule, _)| has_xt(rule)) {
            rule["expr"] = said["expr"].clone();
        }
    }
}

/// The objects that nft would list.
pub(super) fn translated(said: &str, family: &str) -> Vec<Value> {
    let (mut objects, mut table) = (vec![], String::new());
    for line in said.lines() {
        if let Some(name) = line.strip_prefix('*') {
            name.trim().clone_into(&mut table);
        } else if let Some(chain) = line.strip_prefix(':') {
            let mut words = chain.split(' ');
            let (name, policy) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
            let mut chain = json!({"family": family, "table": table, "name": name});
            if policy != "-" {
                chain["hook"] = name.to_lowercase().into();
                chain["policy"] = policy.to_lowercase().into();
            }
            objects.push(json!({"chain": chain}));
        } else if let Some((chain, rule)) =
            line.strip_prefix("-A ").map(|rest| rest.split_once(' ').unwrap_or((rest, "")))
        {
            objects
                .push(json!({"rule": {"family": family, "table": table, "chain": chain, "expr": expressions(rule)}}));
        }
    }
    objects
}

/// What one rule asks of a packet, and does with it.
fn expressions(rule: &str) -> Vec<Value> {
    let mut expressions = vec![];
    let mut protocol = "th".to_owned();
    let (mut words, mut is_not) = (words(rule).into_iter(), false);
    while let Some(word) = words.next() {
        if word == "!" {
            is_not = true;
            continue;
        }
        let op = if std::mem::take(&mut is_not) { "!=" } else { "==" };
        let mut value = || words.next().unwrap_or_default();
        let matching = |left: Value, right: Value| json!({"match": {"op": op, "left": left, "right": right}});
        expressions.push(match word.as_str() {
            "-j" => {
                expressions.push(verdict(&value()));
                break;
            }
            "-g" => {
                expressions.push(json!({"goto": {"target": value()}}));
                break;
            }
            "-p" => {
                let name = value();
                if ["tcp", "udp"].contains(&name.as_str()) && op == "==" {
                    protocol.clone_from(&name);
                }
                matching(json!({"meta": {"key": "l4proto"}}), name.into())
            }
            "-i" => matching(json!({"meta": {"key": "iifname"}}), value().replace('+', "*").into()),
            "--dport" | "--dports" => {
                let ports: Option<Vec<Value>> = value().split(',').map(port).collect();
                let left = json!({"payload": {"protocol": protocol, "field": "dport"}});
                ports.map_or(json!({"xt": null}), |ports| matching(left, json!({"set": ports})))
            }
            "--ctstate" | "--state" => {
                let states = value();
                let states: Vec<&str> = states.split(',').collect();
                let is_known = states.iter().all(|state| STATES.contains(state));
                let right: Vec<String> = states.iter().map(|state| state.to_lowercase()).collect();
                if is_known { matching(json!({"ct": {"key": "state"}}), right.into()) } else { json!({"xt": null}) }
            }
            "--comment" => {
                value();
                continue;
            }
            "-m" => match value().as_str() {
                "tcp" | "udp" | "multiport" | "conntrack" | "state" | "comment" => continue,
                _ => json!({"xt": null}),
            },
            option if option.starts_with('-') => json!({"xt": null}),
            // The value of something that is not known.
            _ => continue,
        });
    }
    expressions
}

fn verdict(target: &str) -> Value {
    match target {
        "ACCEPT" => json!({"accept": null}),
        "DROP" => json!({"drop": null}),
        "REJECT" => json!({"reject": null}),
        "RETURN" => json!({"return": null}),
        "QUEUE" | "NFQUEUE" => json!({"queue": null}),
        "DNAT" | "REDIRECT" => json!({"redirect": null}),
        target if GO_ON.contains(&target) => json!({"log": null}),
        target => json!({"jump": {"target": target}}),
    }
}

/// `80`, or `8080:8090`.
fn port(word: &str) -> Option<Value> {
    let number = |word: &str| word.parse::<u16>().ok();
    match word.split_once(':') {
        None => number(word).map(Value::from),
        Some((low, high)) => Some(json!({"range": [number(low)?, number(high)?]})),
    }
}

/// The words of a line, as iptables-save quotes them: `--comment "of \"web\""`.
fn words(line: &str) -> Vec<String> {
    let (mut words, mut word, mut is_quoted) = (vec![], String::new(), false);
    let mut chars = line.chars();
    while let Some(char) = chars.next() {
        match char {
            '"' => is_quoted = !is_quoted,
            '\\' if is_quoted => word.extend(chars.next()),
            ' ' if !is_quoted => words.push(std::mem::take(&mut word)),
            _ => word.push(char),
        }
    }
    words.push(word);
    words.retain(|word| !word.is_empty());
    words
}
