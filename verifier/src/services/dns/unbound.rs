//! What unbound is configured to answer: `unbound-checkconf -o` says each setting, or its files are read.

use super::server::{Server, say_rest};
use crate::{
    service::Tree,
    services::{
        daemon::{self, Daemon, started},
        found::{Finding, is_loopback},
        included::Files,
    },
};
use std::collections::BTreeSet;

const UNBOUND: Daemon = Daemon { name: "unbound", programs: &["unbound"], units: &["unbound.service"] };

pub(super) fn unbound(tree: &Tree, finding: &mut Finding) -> anyhow::Result<Option<Server>> {
    let dir = tree.installed("unbound", "/etc/unbound");
    let given = started::words(tree, finding, &UNBOUND, "unbound", "DAEMON_OPTS");
    let other = started::option(&given, "-c").filter(|file| file.starts_with('/') && tree.exists(file));
    let main = other.map_or_else(|| format!("{dir}/unbound.conf"), str::to_owned);
    if !tree.exists(&main) || !UNBOUND.is_there(tree) {
        return Ok(None);
    }
    finding.path(tree, dir);
    finding.path(tree, &main);
    let own = read(&mut Files::new(tree, finding), dir, &main, 0)?;
    let mut text: String = own.iter().map(|(key, value)| format!("{key}: {value}\n")).collect();
    named(&own).for_each(|(key, value)| finding.files_in(tree, key, value));
    // It is asked for one setting at a time, the last ones of which its older releases do not have; the last value that is read counts.
    let is_asked =
        dir == "/etc/unbound" && daemon::says(tree, finding, "unbound-checkconf", &["-o", "port", &main]).is_some();
    for setting in [
        "port",
        "interface",
        "access-control",
        "ip-ratelimit",
        "do-udp",
        "do-ip4",
        "tls-port",
        "ssl-port",
        "https-port",
        "proxy-protocol-port",
    ]
    .iter()
    .filter(|_| is_asked)
    {
        let Some(told) = daemon::may_say(tree, "unbound-checkconf", &["-o", setting, &main]) else { continue };
        text = text.lines().filter(|line| key(line) != Some(setting)).map(|line| format!("{line}\n")).collect();
        text.extend(told.lines().filter(|line| !line.is_empty()).map(|value| format!("{setting}: {value}\n")));
    }
    let server = unbound_text(&text);
    let interfaces = text.lines().filter(|line| matches!(key(line), Some("interface" | "ip-address")));
    let ports = interfaces.filter_map(|line| line.split('#').next()?.rsplit_once('@')?.1.trim().parse().ok());
    say_rest(finding, "unbound", server.as_ref(), ports);
    Ok(server)
}

/// Its settings with their values, in order; blanks and ends of lines count the same between a setting and the next.
fn read(files: &mut Files<'_>, dir: &str, path: &str, depth: usize) -> anyhow::Result<Vec<(String, String)>> {
    let mut all: Vec<(String, String)> = vec![];
    for (key, value) in settings(&files.text(path, depth)?) {
        if key != "include" && key != "include-toplevel" {
            all.push((key, value));
            continue;
        }
        let pattern = if value.starts_with('/') { value } else { format!("{dir}/{value}") };
        for file in files.matching(&pattern) {
            all.extend(read(files, dir, &file, depth + 1)?);
        }
    }
    Ok(all)
}

/// What may name files; a section begins where a setting has no value.
fn named(own: &[(String, String)]) -> impl Iterator<Item = (&str, &str)> {
    let sections = own.chunk_by(|_, (_, value)| !value.is_empty());
    sections.flat_map(|section| {
        let is_fetched = section.iter().any(|(key, _)| FETCHED.contains(&key.as_str()));
        let pairs = section.iter().map(|(key, value)| (key.as_str(), value.as_str()));
        pairs.filter(move |(key, _)| !is_fetched || *key != "zonefile")
    })
}

/// `interface: 0.0.0.0 port:53 # why`: settings, each with its words up to the next one. What stands in quotes is a word, and never a setting.
fn settings(text: &str) -> Vec<(String, String)> {
    let mut all: Vec<(String, String)> = vec![];
    for mut rest in text.lines().map(str::trim_start) {
        while let Some(first) = rest.chars().next().filter(|first| *first != '#') {
            let (word, after, is_quoted) = match first {
                '"' | '\'' => {
                    let (word, after) = rest[1..].split_once(first).unwrap_or((&rest[1..], ""));
                    (word, after, true)
                }
                _ => {
                    let (word, after) = rest.split_at(rest.find([' ', '\t', '#']).unwrap_or(rest.len()));
                    (word, after, false)
                }
            };
            let (mut word, mut after) = (word, after);
            let is_name = |name: &str| name.starts_with(|c: char| c.is_ascii_lowercase()) && !name.contains(['.', '/']);
            let key = word.split_once(':').filter(|(name, value)| {
                !is_quoted && is_name(name) && (value.is_empty() || all.is_empty() || GLUED.contains(name))
            });
            if let Some((name, _)) = key {
                all.push((name.to_owned(), String::new()));
                after = &rest[name.len() + 1..];
                word = "";
            }
            if let Some((_, value)) = all.last_mut().filter(|_| !word.is_empty()) {
                let blank = if value.is_empty() { "" } else { " " };
                value.push_str(&format!("{blank}{word}"));
            }
            rest = after.trim_start();
        }
    }
    all
}

/// Settings whose value may stand right behind the colon, as that of any other may; an address has colons itself.
const GLUED: [&str; 9] = [
    "port",
    "interface",
    "ip-address",
    "tls-port",
    "ssl-port",
    "https-port",
    "access-control",
    "include",
    "include-toplevel",
];
/// What makes it fetch a zone, and write it into the file that it names.
const FETCHED: [&str; 4] = ["master", "primary", "url", "allow-notify"];

fn key(line: &str) -> Option<&str> {
    line.split('#').next()?.split_once(':').map(|(key, _)| key.trim())
}

/// `10.0.0.0/8 allow`, as a word of whom it is for: of networks that lie in each other the nearest counts.
fn client(rule: &str) -> Option<String> {
    let (net, does) = rule.split_once(char::is_whitespace)?;
    let is_not = if does.trim_start().starts_with("allow") { "" } else { "!" };
    Some(format!("{is_not}{net}"))
}

/// `None` where nobody is answered who asks in plain.
fn unbound_text(text: &str) -> Option<Server> {
    let pairs: Vec<(&str, &str)> = text
        .lines()
        .filter_map(|line| line.split('#').next()?.split_once(':'))
        .map(|(key, value)| (key.trim(), value.trim().trim_matches(['"', '\''])))
        .collect();
    let all = |name: &'static str| pairs.iter().filter(move |(key, _)| *key == name).map(|(_, value)| *value);
    let number =
        |name: &'static str, usual: u16| all(name).next_back().and_then(|value| value.parse().ok()).unwrap_or(usual);
    let port = number("port", 53);
    let secret = [number("tls-port", 853), number("ssl-port", 853), number("https-port", 443)];
    let interfaces: Vec<(&str, u16)> = all("interface")
        .chain(all("ip-address"))
        .map(|at| at.split_once('@').map_or((at, port), |(at, own)| (at, own.trim().parse().unwrap_or(port))))
        .collect();
    // Of a balancer's: it says first for whom it asks.
    let proxied: Vec<u16> = all("proxy-protocol-port").filter_map(|value| value.parse().ok()).collect();
    let is_no = |name: &'static str| all(name).next_back() == Some("no");
    let is_plain = |at: &str, port: u16| {
        let is_off = is_no("do-ip4") && at.parse::<std::net::Ipv4Addr>().is_ok();
        !(is_off || secret.contains(&port) || proxied.contains(&port))
    };
    let plain: Vec<&(&str, u16)> = interfaces.iter().filter(|(at, port)| is_plain(at, *port)).collect();
    // Without a word, it listens on loopback alone.
    let best = plain.iter().min_by_key(|(at, _)| is_loopback(at)).map_or(("127.0.0.1", port), |best| **best);
    let may_all = all("access-control").any(|rule| {
        let mut words = rule.split_whitespace();
        words.next().is_some_and(|net| net.ends_with("/0"))
            && words.next().is_some_and(|does| does.starts_with("allow"))
    });
    let is_there = port != 0 && (interfaces.is_empty() || !plain.is_empty());
    let there = plain.iter().filter(|(_, port)| *port == best.1).map(|(at, _)| (*at).to_owned());
    is_there.then(|| Server {
        port: best.1,
        zones: vec![],
        is_local: is_loopback(best.0),
        addresses: there.collect(),
        is_limited: !may_all,
        // In one order, whoever told of them: unbound-checkconf has another than the file.
        clients: all("access-control")
            .filter_map(client)
            .filter(|_| !may_all)
            .collect::<BTreeSet<_>>()
            .into_iter()
            .collect(),
        is_of_net: false,
        is_rationed: number("ip-ratelimit", 0) > 0,
        is_of_tcp: is_no("do-udp"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::here::testing::Server as Root;

    #[test]
    fn unbound_s_ports_and_who_is_answered_are_read() {
        let one = |text: &str| unbound_text(text).map(|server| (server.port, server.is_local, server.is_limited));
        assert_eq!(one("server:\n  interface: 0.0.0.0\n  port: 54 # not 53\n"), Some((54, false, true)));
        assert_eq!(one("server:\n"), Some((53, true, true)));
        let tls = "server:\n interface: 0.0.0.0@853\n interface: 127.0.0.1\n interface: 192.0.2.1@5353\n access-control: 0.0.0.0/0 allow\n";
        assert_eq!(one(tls), Some((5353, false, false)));
        assert_eq!(unbound_text(tls).unwrap().addresses, ["192.0.2.1"]);
        let some = "interface: 0.0.0.0\naccess-control: 10.0.0.0/8 allow\naccess-control: 10.1.0.0/16 refuse\n";
        assert_eq!(unbound_text(some).unwrap().clients, ["!10.1.0.0/16", "10.0.0.0/8"]);
        assert!(unbound_text(tls).unwrap().clients.is_empty());
        let rationed = |text: &str| unbound_text(text).unwrap().is_rationed;
        assert!(rationed("ip-ratelimit: 5\n") && !rationed("ip-ratelimit: 0\n") && !rationed("port: 53\n"));
        assert_eq!(one("interface: 0.0.0.0@853\n"), None);
        assert_eq!(one("interface: 0.0.0.0\nproxy-protocol-port: 53\n"), None);
        assert_eq!(
            one("interface: 0.0.0.0@54\ninterface: 0.0.0.0\nproxy-protocol-port: 53\n"),
            Some((54, false, true))
        );
        let six = unbound_text("do-ip4: no\ninterface: 0.0.0.0\ninterface: ::0\ndo-udp: no\n").unwrap();
        assert!(six.is_of_tcp && six.addresses == ["::0"], "{six:?}");
        assert_eq!(one("interface: 0.0.0.0@8853\ntls-port: 8853\n"), None);
    }

    #[test]
    fn unbound_s_settings_stand_wherever_there_is_room() {
        let root = Root::with(&[
            (
                "etc/unbound/unbound.conf",
                "server: interface: 0.0.0.0 port:5300 local-data: \"port: 1\"\n  access-control: 0.0.0.0/0\n    allow\ninclude: \"more/*.conf\" # x\n",
            ),
            ("etc/unbound/more/a.conf", "server:\n  interface: ::0@54 # port: 2\n"),
            ("etc/unbound/more/b.off", "server:\n  port: 3\n"),
        ]);
        let own = unbound(&root.tree(), &mut Finding::default()).unwrap().unwrap();
        assert_eq!((own.port, own.is_local, own.is_limited), (5300, false, false));
        let round = Root::with(&[("etc/unbound/unbound.conf", "include: /etc/unbound/unbound.conf\n")]);
        assert!(unbound(&round.tree(), &mut Finding::default()).unwrap_err().to_string().contains("8 deep"));
    }

    #[test]
    fn unbound_s_own_word_comes_before_its_files() {
        let root = Root::with(&[("etc/unbound/unbound.conf", "server:\n port: 9\n interface: ::1\n")]);
        root.program("usr/sbin/unbound", "");
        let says = "case $2 in port) echo 54;; interface) echo 0.0.0.0; echo ::;; access-control) echo 0.0.0.0/0 allow;; *) exit 1;; esac";
        root.program("usr/sbin/unbound-checkconf", says);
        let mut finding = Finding::default();
        let server = unbound(&root.tree().running(), &mut finding).unwrap().unwrap();
        assert_eq!((server.port, server.is_local, server.is_limited), (54, false, false));
        assert!(finding.done().notes.is_empty(), "an old one knows no port for TLS");
        let own = unbound(&root.tree(), &mut Finding::default()).unwrap().unwrap();
        assert_eq!((own.port, own.is_local), (9, true));
    }
}
