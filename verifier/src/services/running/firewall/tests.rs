use super::*;
use crate::here::testing::Server;
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

fn closed(
    rules: &Value,
    sleeping: &[(String, String)],
    port: u16,
    is_udp: bool,
    device: Option<&str>,
) -> Option<String> {
    let objects = rules["nftables"].as_array().unwrap();
    Rules { objects, sleeping, device }.closed(port, is_udp)
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
    let from =
        json!({"match": {"op": "==", "left": {"payload": {"protocol": "ip", "field": "saddr"}}, "right": "10.0.0.1"}});
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
    let map =
        |elements: &Value| json!({"map": {"family": "inet", "table": "filter", "name": "verdicts", "elem": elements}});
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
    let udp = json!({"match": {"op": "==", "left": {"payload": {"protocol": "udp", "field": "dport"}}, "right": 80}});
    assert!(is_closed("drop", &[json!([udp, {"accept": null}])]).is_some());
    assert_eq!(is_closed("accept", &[answers]), None);
}

/// What nft lists of these lines of iptables-save.
fn by_iptables(rules: &[&str]) -> Option<String> {
    let head = ":INPUT DROP [0:0]\n:OUTPUT ACCEPT [0:0]\n:f2b - [0:0]\n";
    let said = format!(
        "*filter\n{head}{}\n-A OUTPUT -j ACCEPT\n-A f2b -s 192.0.2.1/32 -j REJECT\n-A f2b -j RETURN\nCOMMIT\n",
        rules.join("\n")
    );
    closed(&json!({"nftables": iptables::translated(&said, "ip")}), &[], 80, false, Some("eth0"))
}

#[test]
fn matches_of_iptables_that_no_new_client_meets_let_nobody_in() {
    const ANSWERS: &str = "-A INPUT -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT";
    for closed in [
        "",
        "-A INPUT -m state --state ESTABLISHED -j ACCEPT",
        "-A INPUT -i lo -j ACCEPT",
        "-A INPUT -p icmp -m icmp --icmp-type 8 -j ACCEPT",
        "-A INPUT -p tcp -m multiport --dports 22,443,8000:8090 -m comment --comment \"a \\\"b --dport 80\" -j ACCEPT",
        "-A INPUT -p udp -m udp --sport 67 --dport 68 -j ACCEPT",
        "-A INPUT -p udp -j ACCEPT",
        "-A INPUT -p tcp -m tcp --dport 80 -j f2b",
        "-A INPUT -m limit --limit 3/min -j LOG --log-prefix \"x -j ACCEPT \"",
        "-A INPUT ! -i eth0 -j ACCEPT",
        "-A INPUT -p tcp -m tcp --dport 80 -m conntrack --ctstate NEW -j DROP",
        "-A INPUT -m conntrack ! --ctstate RELATED,ESTABLISHED -j DROP\n-A INPUT -j ACCEPT",
    ] {
        assert!(by_iptables(&[ANSWERS, closed]).is_some(), "{closed}");
    }
    for open in [
        "-A INPUT -p tcp -m multiport --dports 22,79:81 -j ACCEPT",
        "-A INPUT -p tcp -m conntrack --ctstate NEW -m tcp --dport 80 -m comment --comment web -j ACCEPT",
        "-A INPUT -p tcp -m state --state NEW,ESTABLISHED -m tcp --dport 80 -j ACCEPT",
        "-A INPUT -m conntrack ! --ctstate INVALID -j ACCEPT",
        "-A INPUT -m conntrack --ctstate DNAT -j ACCEPT",
        "-A INPUT -m set --match-set web src -j ACCEPT",
        "-A INPUT ! -p icmp -j ACCEPT",
        "-A INPUT -s 10.0.0.0/8 -j ACCEPT",
        "-A INPUT -p tcp -j ACCEPT",
        "-A INPUT -p tcp ! --dport 22 -j ACCEPT",
        "-A INPUT -i eth+ -j ACCEPT",
        "-A INPUT -j ts-input",
    ] {
        assert_eq!(by_iptables(&[ANSWERS, open]), None, "{open}");
    }
}

#[test]
fn what_nft_cannot_tell_of_iptables_is_asked_of_it() {
    let server = Server::new();
    let xt = |name: &str| json!({"xt": {"type": "match", "name": name}});
    let rule = |expr: Value| json!({"rule": {"family": "ip", "table": "filter", "chain": "INPUT", "expr": expr}});
    let chain =
        json!({"chain": {"family": "ip", "table": "filter", "name": "INPUT", "hook": "input", "policy": "drop"}});
    let objects = [
        chain,
        rule(json!([xt("conntrack"), {"counter": {}}, {"accept": null}])),
        rule(json!([dport(&json!(443)), {"accept": null}])),
    ];
    let closed = || {
        let mut objects = objects.clone();
        iptables::explain(&server.target(), &mut objects);
        closed(&json!({"nftables": objects}), &[], 80, false, None)
    };
    assert_eq!(closed(), None, "nobody tells what it matches");
    let save = |states: &str, more: &str| {
        let said = format!(
            "*filter\n:INPUT DROP [0:0]\n-A INPUT -m conntrack --ctstate {states} -j ACCEPT\n-A INPUT -p tcp -m tcp --dport 443 -j ACCEPT\n{more}COMMIT"
        );
        server.program("usr/sbin/iptables-save", &format!("[ \"$*\" = '-t filter' ] && cat <<'E'\n{said}\nE"));
    };
    save("RELATED,ESTABLISHED", "");
    assert!(closed().is_some());
    save("NEW", "");
    assert_eq!(closed(), None);
    save("ESTABLISHED", "-A INPUT -j LOG\n");
    assert_eq!(closed(), None, "other rules than those of nft");
}

#[test]
fn iptables_is_asked_where_nft_is_not_and_for_the_older_one_only_where_it_is_loaded() {
    let server = Server::new();
    let ports = [("web".to_owned(), 80, false)];
    let told = || {
        let mut faults = Faults::default();
        look(&server.target(), &ports, &mut faults);
        faults.profile("well").summary
    };
    let shut = "[ \"$2\" = filter ] && printf '*filter\\n:INPUT DROP [0:0]\\n-A INPUT -p tcp -m tcp --dport 443 -j ACCEPT\\nCOMMIT\\n'";
    assert_eq!(told(), "well");
    server.program("usr/sbin/iptables-save", shut);
    assert!(told().contains("filter INPUT drops what no rule accepts"), "{}", told());
    server.program("usr/sbin/nft", "echo '{\"nftables\":[]}'");
    assert_eq!(told(), "well");
    server.program("usr/sbin/iptables-legacy-save", shut);
    assert_eq!(told(), "well");
    server.write("proc/net/ip_tables_names", "filter\n");
    assert!(told().contains("filter INPUT drops what no rule accepts"), "{}", told());
}

#[test]
fn rules_for_the_whole_protocol_and_of_other_hooks_are_told() {
    let protocol = |right: Value| json!({"match": {"op": "==", "left": {"meta": {"key": "l4proto"}}, "right": right}});
    let reject = |right: Value| is_closed("accept", &[json!([protocol(right), {"reject": {"type": "tcp reset"}}])]);
    assert!(reject(json!("tcp")).is_some() && reject(json!({"set": ["tcp", "udp"]})).is_some());
    assert_eq!(reject(json!("udp")), None);
    let ping = json!([{"match": {"op": "==", "left": {"payload": {"protocol": "icmp", "field": "type"}}, "right": "echo-request"}}, {"accept": null}]);
    assert!(is_closed("drop", &[ping, json!([protocol(json!("icmp")), {"accept": null}])]).is_some());
    assert_eq!(is_closed("drop", &[json!([protocol(json!("tcp")), {"accept": null}])]), None);
    assert_eq!(is_closed("accept", &[json!([dport(&json!(80)), {"return": null}]), json!([{"drop": null}])]), None);

    let hooked = |chain: Value, more: Value| {
        let rule = json!({"rule": {"family": "netdev", "table": "t", "chain": "c", "expr": [dport(&json!(80)), {"drop": null}]}});
        closed(&json!({"nftables": [{"chain": chain}, rule, more]}), &[], 80, false, Some("eth0"))
    };
    let chain = |hook: &str, dev: Value| json!({"family": "netdev", "table": "t", "name": "c", "type": "filter", "hook": hook, "policy": "accept", "dev": dev});
    assert_eq!(hooked(chain("prerouting", Value::Null), json!({})).as_deref(), Some("a rule of t c drops"));
    assert!(hooked(chain("ingress", json!("eth0")), json!({})).is_some());
    assert!(hooked(chain("ingress", json!(["eth1", "eth0"])), json!({})).is_some());
    assert_eq!(hooked(chain("ingress", json!("eth1")), json!({})), None);
    // Clients come to another port.
    let redirect =
        json!({"rule": {"family": "ip", "table": "nat", "chain": "c", "expr": [{"redirect": {"port": 80}}]}});
    assert_eq!(hooked(chain("prerouting", Value::Null), redirect), None);
}

#[test]
fn tables_that_close_ipv6_as_a_whole_are_meant() {
    let with = |rules: &str| {
        let said = format!("*filter\n:INPUT DROP [0:0]\n-A INPUT -i lo -j ACCEPT\n{rules}COMMIT\n");
        closed(&json!({"nftables": iptables::translated(&said, "ip6")}), &[], 80, false, None)
    };
    assert_eq!(with("-A INPUT -p ipv6-icmp -j ACCEPT\n-A INPUT -p udp -m udp --dport 546 -j ACCEPT\n"), None);
    assert!(with("-A INPUT -p tcp -m tcp --dport 22 -j ACCEPT\n").is_some());
    assert_eq!(with("-A INPUT -p tcp -m multiport --dports 22,80 -j ACCEPT\n"), None);
}
