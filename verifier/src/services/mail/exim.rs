//! exim: `exim4 -bP` says what counts, or Debian's answers to its questions are read.

use super::config::{Listener, Server, plain, port};
use crate::{
    service::Tree,
    services::{
        daemon::{self, Daemon},
        found::{Finding, is_loopback},
    },
};

const DAEMON: Daemon = Daemon { name: "exim", programs: &["exim4", "exim"], units: &["exim4.service", "exim.service"] };
/// What is asked for.
const ASKED: [&str; 6] = [
    "local_interfaces",
    "daemon_smtp_ports",
    "tls_on_connect_ports",
    "tls_advertise_hosts",
    "tls_certificate",
    "tls_privatekey",
];

pub(super) fn exim(tree: &Tree, finding: &mut Finding) -> anyhow::Result<Server> {
    let dir = tree.installed("exim", "/etc/exim4");
    let text = tree.read(&format!("{dir}/update-exim4.conf.conf"))?;
    let is_own = ["exim4.conf", "exim.conf"].iter().any(|file| tree.exists(&format!("{dir}/{file}")));
    if (text.is_none() && !is_own) || !DAEMON.is_there(tree) {
        return Ok(Server::default());
    }
    finding.path(tree, dir);
    finding.path(tree, "/etc/aliases");
    let told =
        (dir == "/etc/exim4").then(|| daemon::says(tree, finding, "exim4", &[&["-bP"][..], &ASKED].concat())).flatten();
    Ok(told.map_or_else(|| answers(&text.unwrap_or_default()), |told| settings(&told)))
}

/// `dc_local_interfaces='127.0.0.1 ; ::1'`, each perhaps with a port: `192.0.2.1.587`.
fn answers(text: &str) -> Server {
    let all = text.lines().find_map(|line| line.trim().strip_prefix("dc_local_interfaces=")).unwrap_or_default();
    let listeners = listeners(&format!("<; {}", all.trim_matches(['\'', '"'])), "", "");
    Server {
        listeners: listeners.into_iter().map(|one| Listener { starts_tls: false, ..one }).collect(),
        files: vec![],
    }
}

/// `name = value`, a line each.
fn settings(told: &str) -> Server {
    let value = |name: &str| {
        let values = told.lines().filter_map(|line| line.split_once('=').filter(|(key, _)| key.trim() == name));
        values.map(|(_, value)| value.trim()).next_back().unwrap_or_default()
    };
    let mut listeners = listeners(value("local_interfaces"), value("daemon_smtp_ports"), value("tls_on_connect_ports"));
    let offers = !value("tls_advertise_hosts").is_empty();
    listeners.iter_mut().for_each(|one| one.starts_tls = offers && !one.is_tls);
    Server { listeners, files: plain(["tls_certificate", "tls_privatekey"].map(|name| Some(value(name)))) }
}

/// A list, divided by `:` or by what `<` says.
fn list(text: &str) -> Vec<&str> {
    let (sign, text) = match text.strip_prefix('<') {
        Some(rest) => (rest.chars().next().unwrap_or(':'), rest.get(1..).unwrap_or_default()),
        None => (':', text),
    };
    text.split(sign).map(str::trim).filter(|item| !item.is_empty()).collect()
}

fn listeners(interfaces: &str, ports: &str, tls: &str) -> Vec<Listener> {
    let usual: Vec<u16> = list(ports).into_iter().filter_map(port).collect();
    let usual = if usual.is_empty() { vec![25] } else { usual };
    let tls: Vec<u16> = list(tls).into_iter().filter_map(port).collect();
    let mut all: Vec<(String, u16)> = vec![];
    for at in list(interfaces) {
        let (address, own) = interface(at);
        all.extend(own.map_or(usual.clone(), |own| vec![own]).into_iter().map(|port| (address.clone(), port)));
    }
    if all.is_empty() {
        all = usual.into_iter().map(|port| (String::new(), port)).collect();
    }
    let mut ports: Vec<u16> = all.iter().map(|(_, port)| *port).collect();
    ports.sort_unstable();
    ports.dedup();
    let one = |port| {
        let is_local = all.iter().filter(|(_, at)| *at == port).all(|(address, _)| is_loopback(address));
        Listener { protocol: "smtp", port, is_tls: tls.contains(&port), is_local, ..Listener::default() }
    };
    ports.into_iter().map(one).collect()
}

/// `192.0.2.1`, `192.0.2.1.587`, `[::1]:587`, `::1`.
fn interface(text: &str) -> (String, Option<u16>) {
    if let Some((address, rest)) = text.strip_prefix('[').and_then(|text| text.split_once(']')) {
        return (address.to_owned(), rest.trim_start_matches([':', '.']).parse().ok());
    }
    match text.rsplit_once('.') {
        Some((address, port)) if text.matches('.').count() == 4 => (address.to_owned(), port.parse().ok()),
        _ => (text.to_owned(), None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(server: &Server) -> Vec<(u16, bool, bool, bool)> {
        server.listeners.iter().map(|one| (one.port, one.is_tls, one.starts_tls, one.is_local)).collect()
    }

    #[test]
    fn debian_s_answers_are_read() {
        assert_eq!(shown(&answers("dc_local_interfaces='127.0.0.1 ; ::1'\n")), [(25, false, false, true)]);
        assert_eq!(shown(&answers("dc_local_interfaces=''\n")), [(25, false, false, false)]);
        let ports = answers("dc_local_interfaces='127.0.0.1.26;192.0.2.1.587'\n");
        assert_eq!(shown(&ports), [(26, false, false, true), (587, false, false, false)]);
    }

    #[test]
    fn exim_s_own_word_is_understood() {
        let told = "local_interfaces = <; 127.0.0.1 ; [::1]:26\ndaemon_smtp_ports = 25 : smtps\ntls_on_connect_ports = 465\n\
            tls_advertise_hosts = *\ntls_certificate = /etc/exim4/exim.crt\ntls_privatekey =\n";
        let server = settings(told);
        assert_eq!(shown(&server), [(25, false, true, true), (26, false, true, true), (465, true, false, true)]);
        assert_eq!(server.files, ["/etc/exim4/exim.crt"]);
        assert_eq!(
            shown(&settings("local_interfaces = 0.0.0.0\ntls_advertise_hosts =\n")),
            [(25, false, false, false)]
        );
    }
}
