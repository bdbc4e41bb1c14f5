//! What bind9, unbound and dnsmasq are configured to answer.

use crate::{
    service::Tree,
    services::{found::Finding, included},
};

/// One server.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Server {
    pub(super) port: u16,
    /// The zones that it knows by itself.
    pub(super) zones: Vec<String>,
    /// Whether it answers this server alone.
    pub(super) is_local: bool,
}

/// What begins a line that includes a file, in bind and unbound.
const INCLUDES: [&str; 4] = ["include-toplevel:", "include:", "include ", "include\t"];

/// A file with all that it includes.
fn whole(tree: &Tree, path: &str) -> anyhow::Result<String> {
    let lines = included::lines(tree, path, &|line| {
        let pattern = INCLUDES.iter().find_map(|word| line.strip_prefix(word))?;
        Some(tree.matching(pattern.trim_matches([';', '"', ' ', '\t'])))
    })?;
    Ok(lines.join("\n"))
}

pub(super) fn bind(tree: &Tree, finding: &mut Finding) -> anyhow::Result<Option<Server>> {
    let dir = tree.installed("bind", "/etc/bind");
    let main = format!("{dir}/named.conf");
    if !tree.exists(&main) {
        return Ok(None);
    }
    finding.path(tree, dir);
    Ok(Some(bind_text(&whole(tree, &main)?)))
}

fn bind_text(text: &str) -> Server {
    let mut server = Server { port: 53, ..Server::default() };
    let words = words(&without_comments(text));
    for (index, word) in words.iter().enumerate() {
        let next = |count: usize| words.get(index + count).map(String::as_str).unwrap_or_default();
        let starts = index == 0 || matches!(words[index - 1].as_str(), ";" | "{" | "}");
        match word.as_str() {
            "zone" if starts => {
                let end = words[index..].iter().position(|word| word == "}").map_or(words.len(), |end| index + end);
                let own = words[index..end].windows(2).any(|pair| {
                    pair[0] == "type" && ["master", "primary", "slave", "secondary"].contains(&pair[1].as_str())
                });
                if own {
                    server.zones.push(next(1).to_owned());
                }
            }
            "listen-on" if starts => {
                if next(1) == "port" {
                    server.port = next(2).parse().unwrap_or(53);
                }
                let open = if next(1) == "port" { 3 } else { 1 };
                let addresses: Vec<&str> = words[index..]
                    .iter()
                    .skip(open + 1)
                    .map(String::as_str)
                    .take_while(|word| *word != "}")
                    .filter(|word| *word != ";")
                    .collect();
                server.is_local = !addresses.is_empty()
                    && addresses.iter().all(|address| address.starts_with("127.") || *address == "localhost");
            }
            _ => (),
        }
    }
    server
}

/// Without `//`, `#` and `/* */`.
fn without_comments(text: &str) -> String {
    let mut plain = String::new();
    let mut rest = text;
    while let Some(start) = rest.find("/*") {
        plain.push_str(&rest[..start]);
        rest = rest[start..].split_once("*/").map_or("", |(_, rest)| rest);
    }
    plain.push_str(rest);
    let lines =
        plain.lines().map(|line| line.split("//").next().unwrap_or_default().split('#').next().unwrap_or_default());
    lines.collect::<Vec<_>>().join("\n")
}

fn words(text: &str) -> Vec<String> {
    let spaced = text.replace(['"', '\''], " ").replace('{', " { ").replace('}', " } ").replace(';', " ; ");
    spaced.split_whitespace().map(str::to_owned).collect()
}

pub(super) fn unbound(tree: &Tree, finding: &mut Finding) -> anyhow::Result<Option<Server>> {
    let dir = tree.installed("unbound", "/etc/unbound");
    let main = format!("{dir}/unbound.conf");
    if !tree.exists(&main) {
        return Ok(None);
    }
    finding.path(tree, dir);
    Ok(Some(unbound_text(&whole(tree, &main)?)))
}

fn unbound_text(text: &str) -> Server {
    let mut server = Server { port: 53, ..Server::default() };
    let mut interfaces = vec![];
    for line in text.lines() {
        let line = line.split('#').next().unwrap_or_default();
        let Some((key, value)) = line.split_once(':') else { continue };
        let value = value.trim().trim_matches('"');
        match key.trim() {
            "port" => server.port = value.parse().unwrap_or(53),
            "interface" => interfaces.push(value.split('@').next().unwrap_or_default().to_owned()),
            _ => (),
        }
    }
    // Without a word, it listens on loopback alone.
    server.is_local = interfaces.iter().all(|address| address.starts_with("127.") || address == "::1");
    server
}

pub(super) fn dnsmasq(tree: &Tree, finding: &mut Finding) -> anyhow::Result<Option<Server>> {
    let main = tree.installed("dnsmasq", "/etc/dnsmasq.conf");
    let Some(mut text) = tree.read(main)? else { return Ok(None) };
    finding.path(tree, main);
    for file in tree.matching("/etc/dnsmasq.d/*") {
        finding.path(tree, "/etc/dnsmasq.d");
        text.push_str(&format!("\n{}", tree.read(&file)?.unwrap_or_default()));
    }
    let value = |key: &str| {
        text.lines()
            .filter_map(|line| line.trim().strip_prefix(key)?.trim_start().strip_prefix('='))
            .map(str::trim)
            .collect::<Vec<_>>()
    };
    let port = value("port").last().map_or(Ok(53), |port| port.parse()).unwrap_or(53);
    let listens = value("listen-address");
    let is_local = !listens.is_empty()
        && listens
            .iter()
            .flat_map(|listen| listen.split(','))
            .all(|listen| listen.starts_with("127.") || listen == "::1");
    // Port 0 means that it only gives out addresses.
    Ok((port != 0).then_some(Server { port, zones: vec![], is_local }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zones_ports_and_who_is_answered_are_read() {
        let bind = "// zone \"no.example\" { type master; };\n/* zone \"no2.example\" {\n type master; }; */\noptions { listen-on port 5353 { 127.0.0.1; }; };\n\
            zone \".\" { type hint; };\nzone \"shop.example\" IN {\n  type master; file \"/etc/bind/db.shop\"; allow-update { none; }; };\n\
            zone \"fwd.example\" { type forward; };\n";
        assert_eq!(bind_text(bind), Server { port: 5353, zones: vec!["shop.example".into()], is_local: true });
        assert!(!bind_text("options { listen-on { any; }; };").is_local && !bind_text("").is_local);
        let unbound = unbound_text("server:\n  interface: 0.0.0.0\n  port: 54 # not 53\n");
        assert_eq!((unbound.port, unbound.is_local), (54, false));
        assert!(unbound_text("server:\n").is_local);
    }

    #[test]
    fn files_that_include_each_other_are_told() {
        let tmp = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(tmp.path().join("etc/bind")).unwrap();
        std::fs::write(tmp.path().join("etc/bind/named.conf"), "include \"/etc/bind/named.conf\";\n").unwrap();
        let error = bind(&Tree::open(tmp.path()).unwrap(), &mut Finding::default()).unwrap_err();
        assert!(error.to_string().contains("8 deep"), "{error}");
    }
}
