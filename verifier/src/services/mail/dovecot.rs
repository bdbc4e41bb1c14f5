//! dovecot: `doveconf -n` says what is set, in the language of 2.3 or of 2.4; or its files are read, which are of the same languages.

use super::config::{Listener, Server, plain};
use crate::{
    service::Tree,
    services::{
        daemon::{self, Daemon},
        found::{Finding, is_loopback},
        included,
    },
};
use std::collections::BTreeMap;

const DAEMON: Daemon =
    Daemon { name: "dovecot", programs: &["dovecot"], units: &["dovecot.service", "dovecot.socket"] };

pub(super) fn dovecot(tree: &Tree, finding: &mut Finding) -> anyhow::Result<Server> {
    let dir = tree.installed("dovecot", "/etc/dovecot");
    let main = format!("{dir}/dovecot.conf");
    if !tree.exists(&main) || !DAEMON.is_there(tree) {
        return Ok(Server::default());
    }
    finding.path(tree, dir);
    finding.path(tree, "/etc/default/dovecot");
    let own = included::lines(tree, finding, &main, &|line| {
        let pattern = line.strip_prefix("!include_try ").or_else(|| line.strip_prefix("!include "))?.trim();
        let pattern = if pattern.starts_with('/') { pattern.into() } else { format!("{dir}/{pattern}") };
        Some(tree.matching(&pattern))
    })?;
    let told = (dir == "/etc/dovecot").then(|| daemon::says(tree, finding, "doveconf", &["-n"])).flatten();
    for (name, value) in own.iter().filter_map(|line| without_comment(line).split_once('=')) {
        finding.files_in(tree, name, value);
    }
    let mut settings = Settings::read(&told.map_or(own.clone(), |told| told.lines().map(str::to_owned).collect()));
    // A key is never printed.
    settings.hidden(&Settings::read(&own));
    let server = settings.server(finding);
    Ok(server)
}

/// Settings, each by the blocks around it and its name, all joined by `/`.
#[derive(Debug, Default)]
struct Settings(BTreeMap<String, String>);

impl Settings {
    fn read(lines: &[String]) -> Settings {
        let (mut within, mut all) = (Vec::<String>::new(), Settings::default());
        for line in lines.iter().map(|line| without_comment(line)) {
            if let Some(section) = line.strip_suffix('{') {
                within.push(section.split_whitespace().collect::<Vec<_>>().join(" ").replace('"', ""));
                // It is there, even with nothing in it.
                all.0.entry(within.join("/")).or_default();
            } else if line == "}" {
                within.pop();
            } else if let Some((key, value)) = line.split_once('=') {
                let path = within.iter().map(String::as_str).chain([key.trim()]).collect::<Vec<_>>().join("/");
                let value = value.trim().trim_matches('"').trim().to_owned();
                // `protocols = $protocols imap` adds to what was there.
                let before = all.0.get(&path).cloned().unwrap_or_default();
                let value = value
                    .replace(&format!("$SET:{}", key.trim()), &before)
                    .replace(&format!("${}", key.trim()), &before);
                all.0.insert(path, value);
            }
        }
        all
    }

    fn value(&self, path: &str) -> Option<&str> {
        self.0.get(path).map(String::as_str)
    }

    /// Takes what the daemon hides from what its files say.
    fn hidden(&mut self, files: &Settings) {
        for name in ["ssl_key", "ssl_server_key_file", "ssl_server/key_file"] {
            if let Some(value) = files.value(name) {
                self.0.insert(name.to_owned(), value.to_owned());
            }
        }
    }

    fn has(&self, protocol: &str) -> bool {
        let is_listed = self.value("protocols").is_some_and(|list| list.split([' ', ',']).any(|word| word == protocol));
        is_listed || self.value(&format!("protocols/{protocol}")).is_some_and(|is_on| is_on != "no")
    }

    fn server(&self, finding: &mut Finding) -> Server {
        for (name, port) in [("pop3", "110"), ("pop3s", "995")].into_iter().filter(|_| self.has("pop3")) {
            let port = self.value(&format!("service pop3-login/inet_listener {name}/port")).unwrap_or(port);
            if port != "0" {
                finding.note(format!("{name}:{port} is not exercised: of dovecot, IMAP alone is"));
            }
        }
        if !self.has("imap") {
            return Server::default();
        }
        let has_tls = self.value("ssl").is_none_or(|ssl| ssl != "no");
        let mut listeners = vec![];
        let mut names = vec!["imap".to_owned(), "imaps".to_owned()];
        names.extend(self.0.keys().filter_map(|key| {
            let name = key.strip_prefix("service imap-login/inet_listener ")?;
            (!name.contains('/') && !["imap", "imaps"].contains(&name)).then(|| name.to_owned())
        }));
        for name in names {
            let value = |setting: &str| self.value(&format!("service imap-login/inet_listener {name}/{setting}"));
            let usual = match name.as_str() {
                "imap" => 143,
                "imaps" => 993,
                _ => 0,
            };
            let port = value("port").map_or(usual, |port| port.parse().unwrap_or(0));
            let is_tls = value("ssl").map_or(name == "imaps", |ssl| ssl == "yes");
            if port == 0 || (is_tls && !has_tls) {
                continue;
            }
            if value("haproxy") == Some("yes") {
                finding.note(format!("imap:{port} is not exercised: it is reached through a balancer alone"));
                continue;
            }
            let at = value("address")
                .or(value("listen"))
                .filter(|at| !at.is_empty())
                .or(self.value("listen"))
                .unwrap_or("*");
            let addresses: Vec<String> = at.split([',', ' ']).filter(|at| !at.is_empty()).map(str::to_owned).collect();
            let is_local = addresses.iter().all(|at| is_loopback(at));
            let listener = Listener {
                protocol: "imap",
                port,
                is_tls,
                starts_tls: has_tls && !is_tls,
                is_local,
                addresses,
                ..Listener::default()
            };
            let named = self.named().into_iter().filter(|_| has_tls);
            listeners.extend(named.map(|(name, file)| Listener {
                name: Some(name),
                certificates: vec![file],
                ..listener.clone()
            }));
            listeners.push(listener);
        }
        // Those of the protocol count before those of all.
        let files = ["protocol imap/", ""]
            .into_iter()
            .flat_map(|of| FILES.into_iter().map(move |name| self.value(&format!("{of}{name}")).map(without_sign)));
        Server { listeners, files: plain(files) }
    }

    /// Names for which it has certificates of their own, and these.
    fn named(&self) -> Vec<(String, String)> {
        let certificates = self.0.iter().filter_map(|(path, value)| {
            let (names, setting) = path.strip_prefix("local_name ")?.split_once('/')?;
            let file = plain([Some(without_sign(value))]).pop()?;
            // Any name will do for one that is for all of a domain.
            let name = names.split(' ').next()?.replace('*', "mail");
            CERTIFICATES.contains(&setting).then_some((name, file))
        });
        certificates.collect()
    }
}

/// What names a certificate, in the languages of 2.3 and of 2.4.
const CERTIFICATES: [&str; 3] = ["ssl_cert", "ssl_server_cert_file", "ssl_server/cert_file"];
/// The same, and keys.
const FILES: [&str; 6] = [
    "ssl_cert",
    "ssl_server_cert_file",
    "ssl_server/cert_file",
    "ssl_key",
    "ssl_server_key_file",
    "ssl_server/key_file",
];

/// `<` says that what is in the file is meant.
fn without_sign(value: &str) -> &str {
    value.strip_prefix('<').unwrap_or(value).trim()
}

/// A comment begins a line, or stands behind a blank and not in quotes.
fn without_comment(line: &str) -> &str {
    let mut is_quoted = false;
    for (at, c) in line.char_indices() {
        match c {
            '"' => is_quoted = !is_quoted,
            '#' if !is_quoted && (at == 0 || line[..at].ends_with([' ', '\t'])) => return line[..at].trim(),
            _ => {}
        }
    }
    line.trim()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::here::testing::Server as Root;

    fn server(text: &str) -> Server {
        Settings::read(&text.lines().map(str::to_owned).collect::<Vec<_>>()).server(&mut Finding::default())
    }

    fn shown(text: &str) -> Vec<(u16, bool, bool, bool)> {
        server(text).listeners.iter().map(|one| (one.port, one.is_tls, one.starts_tls, one.is_local)).collect()
    }

    #[test]
    fn the_language_of_2_3_is_read() {
        let text = "protocols = imap pop3\nservice imap-login {\n  inet_listener imap {\n    port = 1143\n  }\n  inet_listener imaps {\n    #port = 9\n  }\n}\n";
        assert_eq!(shown(text), [(1143, false, true, false), (993, true, false, false)]);
        assert_eq!(shown("ssl = no\nlisten = 127.0.0.1, ::1\nprotocols = \" imap\"\n"), [(143, false, false, true)]);
        assert!(shown("protocols = pop3\n").is_empty());
        let bound =
            server("protocols = imap\nlisten = 127.0.0.1, 192.0.2.1\nssl = no\n").listeners.remove(0).instance();
        assert_eq!(bound.options["bound"], "192.0.2.1");
        assert_eq!(shown("protocols = pop3\nprotocols = $protocols imap # ours\n").len(), 2);
        let files = server("protocols = imap\nssl_cert = </etc/a.pem\nssl_key = </etc/a.key\n").files;
        assert_eq!(files, ["/etc/a.pem", "/etc/a.key"]);
    }

    #[test]
    fn the_language_of_2_4_is_read() {
        let text = "protocols {\n  imap = yes\n  lmtp = yes\n}\nssl_server {\n  cert_file = /etc/a.pem\n  key_file = /etc/a.key\n}\n\
            service imap-login {\n  inet_listener imap {\n    port = 0\n  }\n  inet_listener imaps {\n  }\n\
            inet_listener inner {\n    port = 10143\n    listen = 127.0.0.1\n  }\n  inet_listener proxied {\n    port = 10144\n    haproxy = yes\n  }\n}\n";
        assert_eq!(shown(text), [(993, true, false, false), (10143, false, true, true)]);
        assert_eq!(server(text).files, ["/etc/a.pem", "/etc/a.key"]);
        assert_eq!(server("protocols {\n imap = yes\n}\nssl_server_cert_file = /etc/b.pem\n").files, ["/etc/b.pem"]);
        assert!(shown("protocols {\n  imap = no\n  pop3 = yes\n}\n").is_empty());
    }

    #[test]
    fn files_travel_from_wherever_they_lie() {
        let files = ["a.pem", "a.key", "ca.pem", "dh.pem", "users", "sql", "b.pem", "b.key", "more", "global.sieve"];
        let text = "protocols = imap\nssl_cert = </srv/a.pem\nssl_key = </srv/a.key\nssl_ca = </srv/ca.pem\nssl_dh = </srv/dh.pem\n\
            passdb {\n  driver = passwd-file\n  args = scheme=CRYPT username_format=%u /srv/users # ours\n}\n\
            passdb {\n  driver = sql\n  args = /srv/sql\n}\n!include /srv/more\nlog_path = /srv/log\n\
            plugin {\n  sieve_before = /srv/global.sieve\n}\n";
        let more = "local_name b.example {\n  ssl_cert = </srv/b.pem\n  ssl_key = </srv/b.key\n}\n";
        let new = "protocols {\n  imap = yes\n}\nssl_server_cert_file = /srv/a.pem\nssl_server_key_file = /srv/a.key\n\
            ssl_server_ca_file = /srv/ca.pem\nssl_server {\n  dh_file = /srv/dh.pem\n}\npassdb passwd-file {\n  passwd_file_path = /srv/users\n}\n\
            userdb sql {\n  x = /srv/sql\n}\n!include /srv/more\nsieve_script before {\n  path = /srv/global.sieve\n}\n";
        let more_new =
            "local_name b.example {\n  ssl_server_cert_file = /srv/b.pem\n  ssl_server_key_file = /srv/b.key\n}\n";
        for (text, more) in [(text, more), (new, more_new)] {
            let root = Root::with(&[("etc/dovecot/dovecot.conf", text), ("srv/log", "")]);
            files.iter().for_each(|name| root.write(&format!("srv/{name}"), ""));
            root.write("srv/more", more);
            let mut finding = Finding::default();
            let server = dovecot(&root.tree(), &mut finding).unwrap();
            let mut found = finding.done().paths;
            found.sort();
            let mut expected = files.map(|name| format!("/srv/{name}")).to_vec();
            expected.push("/etc/dovecot".into());
            expected.sort();
            assert_eq!(found, expected, "{text}");
            assert_eq!(server.files, ["/srv/a.pem", "/srv/a.key"]);
            let names: Vec<String> = server.listeners.iter().map(|one| one.instance().name).collect();
            assert_eq!(names, ["imap:143:b.example", "imap:143", "imap:993:b.example", "imap:993"]);
            assert_eq!(server.listeners[0].certificates, ["/srv/b.pem"]);
        }
    }

    #[test]
    fn doveconf_s_word_comes_before_the_files_which_know_what_it_hides() {
        let root = Root::with(&[(
            "etc/dovecot/dovecot.conf",
            "protocols = imap pop3\nssl_key = </etc/a.key\n!include_try gone.conf\n",
        )]);
        root.program("usr/sbin/dovecot", "");
        root.program("usr/bin/doveconf", "printf '# 2.3.19\\nprotocols = \" imap\"\\nssl_cert = </etc/a.pem\\nssl_key = # hidden, use -P to show it\\nservice imap-login {\\n  inet_listener imap {\\n    port = 1143\\n  }\\n}\\n'");
        let server = dovecot(&root.tree().running(), &mut Finding::default()).unwrap();
        assert_eq!(server.listeners.iter().map(|one| one.port).collect::<Vec<_>>(), [1143, 993]);
        assert_eq!(server.files, ["/etc/a.pem", "/etc/a.key"]);
    }
}
