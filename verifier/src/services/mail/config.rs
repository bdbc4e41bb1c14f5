//! What postfix, exim and dovecot are configured to listen on.

use crate::{
    service::Tree,
    services::{found::Finding, included},
};
use atlas_model::verify::{At, Instance};
use std::collections::BTreeMap;

/// What one program is configured to do.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Server {
    pub(super) listeners: Vec<Listener>,
    /// Its certificate and key.
    pub(super) files: Vec<String>,
}

/// Only paths that say where they are.
fn plain<'t>(files: impl IntoIterator<Item = Option<&'t str>>) -> Vec<String> {
    let files = files.into_iter().flatten().filter(|file| file.starts_with('/') && !file.contains('$'));
    files.map(str::to_owned).collect()
}

/// One port.
#[derive(Debug, PartialEq)]
pub(super) struct Listener {
    pub(super) protocol: &'static str,
    pub(super) port: u16,
    /// TLS from the first byte.
    pub(super) is_tls: bool,
    /// TLS on demand.
    pub(super) starts_tls: bool,
    /// Whether it answers this server alone.
    pub(super) is_local: bool,
}

impl Listener {
    pub(super) fn instance(&self) -> Instance {
        let mut options =
            BTreeMap::from([("protocol".into(), self.protocol.into()), ("port".into(), self.port.to_string())]);
        for (key, is_so) in [("tls", self.is_tls), ("starttls", self.starts_tls)] {
            if is_so {
                options.insert(key.into(), "yes".into());
            }
        }
        let at = if self.is_local { At::Here } else { At::Partners };
        Instance { name: format!("{}:{}", self.protocol, self.port), options, at }
    }
}

pub(super) fn postfix(tree: &Tree, finding: &mut Finding) -> anyhow::Result<Server> {
    let dir = tree.installed("postfix", "/etc/postfix");
    let Some(main) = tree.read(&format!("{dir}/main.cf"))? else { return Ok(Server::default()) };
    finding.path(tree, dir);
    finding.path(tree, "/etc/aliases");
    Ok(postfix_text(&main, &tree.read(&format!("{dir}/master.cf"))?.unwrap_or_default()))
}

fn postfix_text(main: &str, master: &str) -> Server {
    let value = |name: &str| {
        let values = main.lines().filter_map(|line| line.split_once('=').filter(|(key, _)| key.trim_end() == name));
        values.map(|(_, value)| value.trim()).next_back()
    };
    let interfaces = value("inet_interfaces").unwrap_or("all");
    let is_local = interfaces
        .split([',', ' '])
        .all(|word| matches!(word, "loopback-only" | "localhost" | "127.0.0.1" | "::1" | "[::1]"));
    let level = value("smtpd_tls_security_level").unwrap_or_default();
    let mut listeners = vec![];
    for line in master.lines().filter(|line| !line.starts_with(['#', ' ', '\t'])) {
        let words: Vec<&str> = line.split_whitespace().collect();
        let [service, "inet", ..] = words[..] else { continue };
        if !matches!(words.get(7), Some(&("smtpd" | "postscreen"))) {
            continue;
        }
        let (host, service) = service.rsplit_once(':').unwrap_or(("", service));
        let port = match service {
            "smtp" => 25,
            "submission" => 587,
            "smtps" | "submissions" => 465,
            port => port.parse().unwrap_or(0),
        };
        let is_tls = port == 465;
        let starts_tls = !is_tls && (matches!(level, "may" | "encrypt") || value("smtpd_use_tls") == Some("yes"));
        let is_local = is_local || host.starts_with("127.") || host == "localhost";
        if port > 0 {
            listeners.push(Listener { protocol: "smtp", port, is_tls, starts_tls, is_local });
        }
    }
    // Newer ones have keys and certificates in one list of files.
    let chains = value("smtpd_tls_chain_files").unwrap_or_default().split([',', ' ']).map(Some).collect();
    let files = match value("smtpd_tls_cert_file") {
        Some(certificate) => vec![Some(certificate), value("smtpd_tls_key_file")],
        None => chains,
    };
    Server { listeners, files: plain(files) }
}

pub(super) fn exim(tree: &Tree, finding: &mut Finding) -> anyhow::Result<Server> {
    let dir = tree.installed("exim", "/etc/exim4");
    let Some(text) = tree.read(&format!("{dir}/update-exim4.conf.conf"))? else { return Ok(Server::default()) };
    finding.path(tree, dir);
    finding.path(tree, "/etc/aliases");
    Ok(exim_text(&text))
}

/// `dc_local_interfaces='127.0.0.1 ; ::1'`, each perhaps with a port: `192.0.2.1.587`.
fn exim_text(text: &str) -> Server {
    let all = text.lines().find_map(|line| line.strip_prefix("dc_local_interfaces=")).unwrap_or_default();
    let addresses = all.trim_matches(['\'', '"']).split(';').map(str::trim).filter(|address| !address.is_empty());
    let addresses: Vec<&str> = addresses.collect();
    let is_local =
        !addresses.is_empty() && addresses.iter().all(|address| address.starts_with("127.") || *address == "::1");
    let listener = Listener { protocol: "smtp", port: 25, is_tls: false, starts_tls: false, is_local };
    Server { listeners: vec![listener], files: vec![] }
}

pub(super) fn dovecot(tree: &Tree, finding: &mut Finding) -> anyhow::Result<Server> {
    let dir = tree.installed("dovecot", "/etc/dovecot");
    let main = format!("{dir}/dovecot.conf");
    if !tree.exists(&main) {
        return Ok(Server::default());
    }
    finding.path(tree, dir);
    let lines = included::lines(tree, &main, &|line| {
        let pattern = line.strip_prefix("!include_try ").or_else(|| line.strip_prefix("!include "))?.trim();
        let pattern = if pattern.starts_with('/') { pattern.into() } else { format!("{dir}/{pattern}") };
        Some(tree.matching(&pattern))
    })?;
    Ok(dovecot_lines(&lines))
}

fn dovecot_lines(lines: &[String]) -> Server {
    let (mut certificate, mut key_file) = (None, None);
    let (mut within, mut ports) = (Vec::<String>::new(), BTreeMap::from([("imap", 143_u16), ("imaps", 993)]));
    let (mut has_imap, mut has_tls, mut listen) = (false, true, "*".to_owned());
    for line in lines.iter().map(|line| line.split('#').next().unwrap_or_default().trim()) {
        if let Some(section) = line.strip_suffix('{') {
            within.push(section.trim().to_owned());
        } else if line == "}" {
            within.pop();
        } else if let Some((key, value)) = line.split_once('=').map(|(key, value)| (key.trim(), value.trim())) {
            match (key, within.last().map(String::as_str)) {
                ("protocols", None) => has_imap |= value.split_whitespace().any(|word| word == "imap"),
                ("ssl_cert", None) => certificate = value.strip_prefix('<').map(str::trim),
                ("ssl_key", None) => key_file = value.strip_prefix('<').map(str::trim),
                ("ssl", None) => has_tls = value != "no",
                ("listen", None) => value.clone_into(&mut listen),
                ("port", Some("inet_listener imap")) => drop(ports.insert("imap", value.parse().unwrap_or(0))),
                ("port", Some("inet_listener imaps")) => drop(ports.insert("imaps", value.parse().unwrap_or(0))),
                _ => (),
            }
        }
    }
    let is_local = listen
        .split([',', ' '])
        .filter(|at| !at.is_empty())
        .all(|at| at.starts_with("127.") || at == "::1" || at == "localhost");
    let listener = |(name, port): (&str, u16)| {
        let is_tls = name == "imaps";
        let is_there = has_imap && port > 0 && (has_tls || !is_tls);
        is_there.then_some(Listener { protocol: "imap", port, is_tls, starts_tls: has_tls && !is_tls, is_local })
    };
    Server { listeners: ports.into_iter().filter_map(listener).collect(), files: plain([certificate, key_file]) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(server: &Server) -> Vec<(u16, bool, bool, bool)> {
        server.listeners.iter().map(|one| (one.port, one.is_tls, one.starts_tls, one.is_local)).collect()
    }

    #[test]
    fn ports_are_found_with_their_tls_and_whom_they_answer() {
        let main = "inet_interfaces = all\nsmtpd_tls_security_level=may\n";
        let master = "smtp      inet  n       -       y       -       -       smtpd\n#465 inet n - y - - smtpd\n\
            submissions inet n - y - - smtpd\n  -o smtpd_tls_wrappermode=yes\n127.0.0.1:2525 inet n - n - - smtpd\npickup unix n - y 60 1 pickup\n";
        let expected = [(25, false, true, false), (465, true, false, false), (2525, false, true, true)];
        assert_eq!(shown(&postfix_text(main, master)), expected);
        assert!(postfix_text("inet_interfaces = loopback-only\n", master).listeners.iter().all(|one| one.is_local));
        assert!(
            exim_text("dc_local_interfaces='127.0.0.1 ; ::1'\n").listeners[0].is_local
                && !exim_text("dc_local_interfaces=''\n").listeners[0].is_local
        );
        let lines = |text: &str| text.lines().map(str::to_owned).collect::<Vec<_>>();
        let dovecot = "protocols = imap pop3\nservice imap-login {\n  inet_listener imap {\n    port = 1143\n  }\n  inet_listener imaps {\n    #port = 9\n  }\n}\n";
        assert_eq!(shown(&dovecot_lines(&lines(dovecot))), [(1143, false, true, false), (993, true, false, false)]);
        let dovecot = "ssl = no\nlisten = 127.0.0.1, ::1\nprotocols = imap\n";
        assert_eq!(shown(&dovecot_lines(&lines(dovecot))), [(143, false, false, true)]);
        assert!(dovecot_lines(&lines("protocols = pop3\n")).listeners.is_empty());
    }
}
