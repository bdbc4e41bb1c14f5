//! postfix: `postconf -x` and `-x -M` say what counts, or `main.cf` and `master.cf` are read as postfix reads them.

use super::config::{Listener, Server, plain, port};
use crate::{
    service::Tree,
    services::{
        daemon::{self, Daemon},
        found::{Finding, is_loopback},
    },
};
use std::collections::BTreeMap;

const DAEMON: Daemon =
    Daemon { name: "postfix", programs: &["postfix"], units: &["postfix.service", "postfix@.service"] };
/// What is asked for.
const ASKED: [&str; 13] = [
    "inet_interfaces",
    "smtpd_tls_security_level",
    "smtpd_use_tls",
    "smtpd_enforce_tls",
    "smtpd_tls_wrappermode",
    "smtpd_tls_chain_files",
    "smtpd_tls_cert_file",
    "smtpd_tls_key_file",
    "smtpd_tls_eccert_file",
    "smtpd_tls_eckey_file",
    "smtpd_tls_CAfile",
    "smtpd_upstream_proxy_protocol",
    "postscreen_upstream_proxy_protocol",
];
/// How deep variables may lie in each other.
const MAX_DEPTH: usize = 8;
/// How long a value may become, in bytes.
const MAX_VALUE: usize = 100_000;

pub(super) fn postfix(tree: &Tree, finding: &mut Finding) -> anyhow::Result<Server> {
    let dir = tree.installed("postfix", "/etc/postfix");
    let Some(main) = tree.read(&format!("{dir}/main.cf"))? else { return Ok(Server::default()) };
    if !DAEMON.is_there(tree) {
        return Ok(Server::default());
    }
    finding.path(tree, dir);
    finding.path(tree, "/etc/aliases");
    let mut main = Main::read(&main);
    tables(&main).iter().for_each(|file| finding.path(tree, file));
    let mut master = tree.read(&format!("{dir}/master.cf"))?.unwrap_or_default();
    if dir == "/etc/postfix" {
        let told = daemon::says(tree, finding, "postconf", &[&["-x"][..], &ASKED].concat());
        let services = told.as_ref().and_then(|_| daemon::says(tree, finding, "postconf", &["-x", "-M"]));
        if let (Some(told), Some(services)) = (told, services) {
            main = Main::read(&told);
            master = services;
        }
    }
    Ok(read(&main, &master, finding))
}

/// Settings by name; values as they are written.
struct Main(BTreeMap<String, String>);

impl Main {
    fn read(text: &str) -> Main {
        let lines = logical(text);
        let pairs = lines.iter().filter_map(|line| line.split_once('='));
        Main(pairs.map(|(name, value)| (name.trim().to_owned(), value.trim().to_owned())).collect())
    }

    /// A value with those of other settings put in: `$name`, `${name}`, `$(name)`, and what stands under conditions.
    fn value(&self, name: &str) -> String {
        self.expanded(self.0.get(name).map_or("", String::as_str), 0)
    }

    fn expanded(&self, text: &str, depth: usize) -> String {
        let (mut whole, mut rest) = (String::new(), text);
        while let Some((before, after)) = rest.split_once('$') {
            whole.push_str(before);
            let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
            let (inner, after) = enclosed(after, '{', '}')
                .or_else(|| enclosed(after, '(', ')'))
                .unwrap_or_else(|| after.split_at(after.find(|c| !is_name(c)).unwrap_or(after.len())));
            if depth < MAX_DEPTH && whole.len() < MAX_VALUE {
                whole.push_str(&self.chosen(inner, depth + 1));
            }
            rest = after;
        }
        whole + rest
    }

    /// `name`, `name?value`, `name:value`, `name?{value}:{other}`, `{a} == {b} ? {value} : {other}`.
    fn chosen(&self, inner: &str, depth: usize) -> String {
        let (holds, rest) = match enclosed(inner, '{', '}') {
            Some((left, rest)) => {
                let (sign, rest) = rest.split_at(rest.find('{').unwrap_or(rest.len()));
                let (right, rest) = enclosed(rest, '{', '}').unwrap_or_default();
                let [left, right] = [left, right].map(|side| self.expanded(side, depth).trim().to_owned());
                (compares(&left, sign.trim(), &right), rest.trim_start())
            }
            None => {
                let end = inner.find(['?', ':']).unwrap_or(inner.len());
                let (name, rest) = inner.split_at(end);
                let value = self.expanded(self.0.get(name.trim()).map_or("", String::as_str), depth);
                if rest.is_empty() || (rest.starts_with(':') && !value.is_empty()) {
                    return value;
                }
                (!value.is_empty(), rest)
            }
        };
        let (first, second) = match rest.strip_prefix('?').map(str::trim_start) {
            Some(rest) => match enclosed(rest, '{', '}') {
                Some((first, rest)) => (first, rest.trim_start().strip_prefix(':').unwrap_or_default()),
                None => (rest, ""),
            },
            None => ("", rest.strip_prefix(':').unwrap_or_default()),
        };
        let second = enclosed(second.trim_start(), '{', '}').map_or(second, |(second, _)| second);
        self.expanded(if holds { first } else { second }.trim(), depth)
    }
}

/// What stands in a pair of signs at the beginning, with all pairs in it, and what comes behind.
fn enclosed(text: &str, open: char, close: char) -> Option<(&str, &str)> {
    let inner = text.strip_prefix(open)?;
    let mut depth = 1;
    for (at, c) in inner.char_indices() {
        depth += i32::from(c == open) - i32::from(c == close);
        if depth == 0 {
            return Some((&inner[..at], &inner[at + close.len_utf8()..]));
        }
    }
    None
}

/// Numbers by what they are worth, everything else as text.
fn compares(left: &str, sign: &str, right: &str) -> bool {
    let order = match (left.parse::<u64>(), right.parse::<u64>()) {
        (Ok(left), Ok(right)) => left.cmp(&right),
        _ => left.cmp(right),
    };
    match sign {
        "==" => order.is_eq(),
        "!=" => order.is_ne(),
        "<" => order.is_lt(),
        "<=" => order.is_le(),
        ">" => order.is_gt(),
        ">=" => order.is_ge(),
        _ => false,
    }
}

/// Lines as postfix takes them: one that begins with a blank belongs to the one before; comments may stand between.
fn logical(text: &str) -> Vec<String> {
    let mut lines: Vec<String> = vec![];
    for line in text.lines().filter(|line| !line.trim_start().is_empty() && !line.trim_start().starts_with('#')) {
        match lines.last_mut().filter(|_| line.starts_with([' ', '\t'])) {
            Some(last) => last.push_str(&format!(" {}", line.trim())),
            None => lines.push(line.trim().to_owned()),
        }
    }
    lines
}

/// Tables that lie where somebody put them: `hash:/srv/mail/aliases`, and what was made of them.
fn tables(main: &Main) -> Vec<String> {
    let words =
        main.0.keys().flat_map(|name| main.value(name).split([',', ' ']).map(str::to_owned).collect::<Vec<_>>());
    let files = words.filter_map(|word| {
        let (kind, path) = word.rsplit_once(':')?;
        let is_kind = !kind.is_empty() && kind.chars().all(|c| c.is_ascii_lowercase() || c == ':');
        (is_kind && !["unix", "inet", "local", "smtp"].contains(&kind) && path.starts_with('/'))
            .then(|| path.to_owned())
    });
    files.flat_map(|path| ["", ".db", ".lmdb", ".cdb"].map(|end| format!("{path}{end}"))).collect()
}

fn read(main: &Main, master: &str, finding: &mut Finding) -> Server {
    let mut server = Server::default();
    for line in logical(master) {
        let words = words(&line);
        let [service, "inet", ..] = words[..] else { continue };
        let Some(program) = words.get(7).filter(|program| ["smtpd", "postscreen"].contains(program)) else { continue };
        let Some(listener) = listener(main, service, &words[8..], *program == "postscreen") else { continue };
        let own = |name: &str| setting(main, &words[8..], name);
        if !own(&format!("{program}_upstream_proxy_protocol")).is_empty() {
            finding.note(format!("smtp:{} is not exercised: it is reached through a balancer alone", listener.port));
            continue;
        }
        server.listeners.push(listener);
    }
    let values = [
        "smtpd_tls_chain_files",
        "smtpd_tls_cert_file",
        "smtpd_tls_key_file",
        "smtpd_tls_eccert_file",
        "smtpd_tls_eckey_file",
    ]
    .map(|name| main.value(name));
    server.files = plain(values.iter().flat_map(|value| value.split([',', ' '])).map(Some));
    server.files.extend(plain([Some(main.value("smtpd_tls_CAfile").as_str())]));
    server
}

/// The words of a line; what stands in braces is one.
fn words(line: &str) -> Vec<&str> {
    let (mut words, mut rest) = (vec![], line.trim_start());
    while !rest.is_empty() {
        let end = match enclosed(rest, '{', '}') {
            Some((_, after)) => rest.len() - after.len(),
            None => rest.find(char::is_whitespace).unwrap_or(rest.len()),
        };
        let (word, after) = rest.split_at(end);
        words.push(word);
        rest = after.trim_start();
    }
    words
}

/// What counts for one service: `-o name=value`, or else the setting.
fn setting(main: &Main, options: &[&str], name: &str) -> String {
    let own = options.iter().map(|word| enclosed(word, '{', '}').map_or(*word, |(inner, _)| inner));
    let mut own = own.filter_map(|word| word.trim_start_matches("-o").split_once('='));
    match own.rfind(|(key, _)| key.trim() == name) {
        Some((_, value)) => main.expanded(value.trim(), 0),
        None => main.value(name),
    }
}

fn listener(main: &Main, service: &str, options: &[&str], is_wary: bool) -> Option<Listener> {
    let (host, service) = service.rsplit_once(':').unwrap_or(("", service));
    let port = port(service)?;
    let value = |name: &str| setting(main, options, name);
    let interfaces = value("inet_interfaces");
    let interfaces: Vec<&str> = interfaces.split([',', ' ']).filter(|at| !at.is_empty()).collect();
    let is_own = |at: &&str| *at == "loopback-only" || is_loopback(at);
    let is_local =
        if host.is_empty() { !interfaces.is_empty() && interfaces.iter().all(is_own) } else { is_loopback(host) };
    let is_tls = value("smtpd_tls_wrappermode") == "yes";
    // Without a certificate it offers none.
    let certificates = ["smtpd_tls_chain_files", "smtpd_tls_cert_file", "smtpd_tls_eccert_file"].map(&value);
    let has_certificate = certificates.iter().any(|file| !file.is_empty());
    let level = value("smtpd_tls_security_level");
    let old = level.is_empty() && ["smtpd_use_tls", "smtpd_enforce_tls"].iter().any(|name| value(name) == "yes");
    let starts_tls = !is_tls && has_certificate && (matches!(level.as_str(), "may" | "encrypt") || old);
    let addresses = if host.is_empty() { interfaces } else { vec![host] }.into_iter().map(str::to_owned).collect();
    Some(Listener { protocol: "smtp", port, is_tls, starts_tls, is_local, addresses, is_wary, ..Listener::default() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::here::testing::Server as Root;

    const MASTER: &str = "smtp      inet  n       -       y       -       -       smtpd\n#465 inet n - y - - smtpd\n\
        submissions inet n - y - - smtpd\n  -o smtpd_tls_wrappermode=yes\n# in between\n  -o syslog_name=x\n\
        127.0.0.1:2525 inet n - n - - smtpd\n  -o smtpd_tls_security_level=none\n26 inet n - n - 1 postscreen\npickup unix n - y 60 1 pickup\n";

    fn shown(main: &str, master: &str) -> Vec<(u16, bool, bool, bool, bool)> {
        let server = read(&Main::read(main), master, &mut Finding::default());
        let one = |one: &Listener| (one.port, one.is_tls, one.starts_tls, one.is_local, one.is_wary);
        server.listeners.iter().map(one).collect()
    }

    #[test]
    fn ports_are_found_with_their_tls_and_whom_they_answer() {
        let main = "inet_interfaces = all\nsmtpd_tls_cert_file=/etc/ssl/a.pem\nsmtpd_tls_security_level=may\n";
        let expected = [
            (25, false, true, false, false),
            (465, true, false, false, false),
            (2525, false, false, true, false),
            (26, false, true, false, true),
        ];
        assert_eq!(shown(main, MASTER), expected);
        assert!(shown("inet_interfaces = loopback-only\n", MASTER).iter().all(|one| one.3 && !one.2));
        let at = |main: &str| -> Vec<Option<String>> {
            let listeners = read(&Main::read(main), MASTER, &mut Finding::default()).listeners;
            listeners.iter().map(|one| one.instance().options.get("bound").cloned()).collect()
        };
        let pris = Some("192.0.2.1".to_owned());
        assert_eq!(at("inet_interfaces = 192.0.2.1, localhost\n"), [pris.clone(), pris.clone(), None, pris]);
        // Debian's own has no value of it.
        assert!(!shown("", MASTER)[0].3);
    }

    #[test]
    fn a_value_may_begin_on_the_next_line_and_name_others() {
        let main = "where = 127.0.0.1\ninet_interfaces =\n  # this one\n    ${where}\n\n\tlocalhost\n\
            smtpd_tls_chain_files =\n    /srv/key.pem,\n    /etc/ssl/chain.pem\nloop = $loop\n";
        assert!(shown(main, MASTER).iter().all(|one| one.3));
        let files = read(&Main::read(main), MASTER, &mut Finding::default()).files;
        assert_eq!(files, ["/srv/key.pem", "/etc/ssl/chain.pem"]);
        assert_eq!(Main::read(main).value("loop"), "");
    }

    #[test]
    fn values_may_stand_under_conditions_and_options_in_braces() {
        let main = Main::read(
            "level = 3\nempty =\na = ${empty?no}${empty:yes}\nb = ${{$level} >= {2} ? {new} : {old}}\n\
             c = ${level?{x${empty:y}}:{z}}\nd = ${{a} != {a}?{no}}.$(level)\n",
        );
        assert_eq!(["a", "b", "c", "d"].map(|name| main.value(name)), ["yes", "new", "xy", ".3"]);
        let master =
            "smtp inet n - y - - smtpd -o { smtpd_banner = two words } -o {smtpd_tls_wrappermode = ${empty:yes}}\n";
        let server = read(&main, master, &mut Finding::default());
        assert!(server.listeners[0].is_tls);
        for text in ["${", "${{", "${a", "${{a}", "${{a} ==", "${?", "${x?{", "$"] {
            assert!(main.expanded(text, 0).len() <= text.len(), "{text}");
        }
    }

    #[test]
    fn tables_travel_from_wherever_they_lie() {
        let main = Main::read(
            "virtual_alias_maps = hash:/srv/mail/virtual, proxy:pgsql:/etc/postfix/pg.cf\nsmtpd_milters = unix:/run/x\n",
        );
        let files = tables(&main);
        assert!(files.contains(&"/srv/mail/virtual.db".to_owned()) && files.contains(&"/etc/postfix/pg.cf".to_owned()));
        assert!(!files.iter().any(|file| file.starts_with("/run")), "{files:?}");
    }

    #[test]
    fn postconf_s_word_comes_before_the_files_and_a_balancer_s_port_is_a_note() {
        let root = Root::with(&[
            ("etc/postfix/main.cf", "inet_interfaces = loopback-only\n"),
            ("etc/postfix/master.cf", MASTER),
        ]);
        root.program("usr/sbin/postfix", "");
        root.program(
            "usr/sbin/postconf",
            "if [ \"$2\" = -M ]; then printf 'smtp inet n - y - - smtpd\\n2525 inet n - y - - smtpd\\n    -o smtpd_upstream_proxy_protocol=haproxy\\n'; else echo 'inet_interfaces = all'; fi",
        );
        let mut finding = Finding::default();
        let server = postfix(&root.tree().running(), &mut finding).unwrap();
        assert_eq!(server.listeners.iter().map(|one| (one.port, one.is_local)).collect::<Vec<_>>(), [(25, false)]);
        assert!(finding.done().notes[0].contains("smtp:2525 is not exercised"));
    }
}
