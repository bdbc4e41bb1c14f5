//! postfix: `postconf -x` and `-x -M` say what counts, or `main.cf` and `master.cf` are read as postfix reads them.

use super::config::{Listener, Server, plain, port, seconds};
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
const ASKED: [&str; 31] = [
    "myhostname",
    "inet_interfaces",
    "inet_protocols",
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
    "smtpd_tls_req_ccert",
    "smtpd_delay_reject",
    "smtpd_client_restrictions",
    "smtpd_helo_restrictions",
    "smtpd_discard_ehlo_keywords",
    "smtpd_discard_ehlo_keyword_address_maps",
    "postscreen_blacklist_action",
    "postscreen_dnsbl_action",
    "mydestination",
    "virtual_alias_domains",
    "virtual_mailbox_domains",
    "virtual_alias_maps",
    "virtual_mailbox_maps",
    "smtpd_sender_restrictions",
    "smtpd_relay_restrictions",
    "smtpd_recipient_restrictions",
];
/// Ports at which a server takes mails of its own users.
const OF_USERS: [u16; 2] = [587, 465];
/// Restrictions that keep a secondary from beginning a mail: strangers, or who has no name that leads back. Each refusal is logged, and who is refused
/// often may be banned.
const REFUSING: [&str; 6] = [
    "reject",
    "defer",
    "reject_unknown_client_hostname",
    "reject_unknown_client",
    "reject_unknown_reverse_client_hostname",
    "reject_unknown_helo_hostname",
];
/// How long postscreen lets strangers wait, in seconds.
const POSTSCREEN_WAITS: u32 = 10;
/// What names its certificates and keys; chains come first.
const CERTIFICATES: [&str; 5] = [
    "smtpd_tls_chain_files",
    "smtpd_tls_cert_file",
    "smtpd_tls_key_file",
    "smtpd_tls_eccert_file",
    "smtpd_tls_eckey_file",
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
    let mut master = tree.read(&format!("{dir}/master.cf"))?.unwrap_or_default();
    named(tree, finding, &main, &master);
    if dir == "/etc/postfix" {
        let told = daemon::says(tree, finding, "postconf", &[&["-x"][..], &ASKED].concat());
        let services = told.as_ref().and_then(|_| daemon::says(tree, finding, "postconf", &["-x", "-M"]));
        if let (Some(told), Some(services)) = (told, services) {
            main = Main::read(&told);
            master = services;
            let postmaster = postmaster(tree, &main);
            main.0.extend(postmaster.map(|postmaster| (POSTMASTER.to_owned(), postmaster)));
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

/// Adds the files that its settings name, those of single services too, wherever they lie.
fn named(tree: &Tree, finding: &mut Finding, main: &Main, master: &str) {
    main.0.keys().for_each(|name| finding.files_in(tree, name, &main.value(name)));
    for line in logical(master) {
        for word in words(&line).into_iter().skip(7) {
            let (name, value) = option(word).unwrap_or(("", word));
            finding.files_in(tree, name, &main.expanded(value, 0));
        }
    }
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
    server.files = certificates(|name| main.value(name));
    server
}

/// Its certificates and keys: of chains, which hold both, before those of single files.
fn certificates(value: impl Fn(&str) -> String) -> Vec<String> {
    let values = CERTIFICATES.map(value);
    plain(values.iter().flat_map(|value| value.split([',', ' '])).map(Some))
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
    let mut own = options.iter().filter_map(|word| option(word));
    match own.rfind(|(key, _)| *key == name) {
        Some((_, value)) => main.expanded(value, 0),
        None => main.value(name),
    }
}

/// `name=value`, `{name = value}`, `-oname=value`.
fn option(word: &str) -> Option<(&str, &str)> {
    let inner = enclosed(word, '{', '}').map_or(word, |(inner, _)| inner);
    let (name, value) = inner.trim_start_matches("-o").split_once('=')?;
    Some((name.trim(), value.trim()))
}

/// Whether it turns some away, and how long it lets them wait, before they said for whom a mail is.
fn meets(value: impl Fn(&str) -> String, is_postscreen: bool) -> (bool, u32) {
    if is_postscreen {
        let drops = ["postscreen_blacklist_action", "postscreen_denylist_action", "postscreen_dnsbl_action"];
        return (drops.iter().any(|name| value(name) == "drop"), POSTSCREEN_WAITS);
    }
    if value("smtpd_delay_reject") != "no" {
        return (false, 0);
    }
    let all = ["smtpd_client_restrictions", "smtpd_helo_restrictions"].map(&value).join(" ");
    let words: Vec<&str> = all.split([',', ' ']).filter(|word| !word.is_empty()).collect();
    let waits = words.windows(2).filter(|pair| pair[0] == "sleep").filter_map(|pair| seconds(pair[1])).sum();
    (words.iter().any(|word| !word.starts_with("permit")), waits)
}

fn listener(main: &Main, service: &str, options: &[&str], is_postscreen: bool) -> Option<Listener> {
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
    let has_certificate = CERTIFICATES.iter().any(|name| !name.contains("key") && !value(name).is_empty());
    let level = value("smtpd_tls_security_level");
    let old = level.is_empty() && ["smtpd_use_tls", "smtpd_enforce_tls"].iter().any(|name| value(name) == "yes");
    let is_kept_back =
        value("smtpd_discard_ehlo_keywords").split([',', ' ']).any(|word| word.eq_ignore_ascii_case("starttls"));
    let starts_tls =
        !is_tls && has_certificate && !is_kept_back && (matches!(level.as_str(), "may" | "encrypt") || old);
    let offers_to_some = !value("smtpd_discard_ehlo_keyword_address_maps").is_empty();
    // Where TLS is a choice, so is the certificate.
    let wants_certificate =
        value("smtpd_tls_req_ccert") == "yes" && (is_tls || level == "encrypt" || value("smtpd_enforce_tls") == "yes");
    let (turns_away, waits) = meets(value, is_postscreen);
    let recipient = recipient(main, value, port);
    let is_of_six = value("inet_protocols") == "ipv6";
    let interfaces =
        if is_of_six && ["", "all"].contains(&interfaces.join(" ").as_str()) { vec!["::"] } else { interfaces };
    let addresses = if host.is_empty() { interfaces } else { vec![host] }.into_iter().map(str::to_owned).collect();
    let certificates = certificates(value);
    Some(Listener {
        protocol: "smtp",
        port,
        is_tls,
        starts_tls,
        offers_to_some,
        wants_certificate,
        turns_away,
        is_local,
        addresses,
        certificates,
        waits,
        recipient,
        ..Listener::default()
    })
}

/// To whom a mail is begun: whom it takes mail for in its own domain. What it takes from its users alone is asked as nobody is restricted. `None`
/// where its own name is such a domain, which it says when it is greeted.
fn recipient(main: &Main, value: impl Fn(&str) -> String, port: u16) -> Option<String> {
    let bare = Some("postmaster".to_owned());
    let restrictions = RESTRICTIONS.map(|of| value(&format!("smtpd_{of}_restrictions")));
    let refuses = restrictions.iter().any(|list| list.split([',', ' ']).any(|word| REFUSING.contains(&word)));
    if refuses || OF_USERS.contains(&port) {
        return bare;
    }
    let written = main.0.get("mydestination").map_or("$myhostname", String::as_str);
    let (own, name) = (value("mydestination"), value("myhostname"));
    let mut all = own.split([',', ' ']).filter(|word| !word.is_empty());
    if ["$myhostname", "${myhostname}", "$(myhostname)"].iter().any(|name| written.contains(name))
        || all.clone().any(|one| one == name)
    {
        return None;
    }
    let local = all.find(|name| is_domain(name)).map(|domain| format!("postmaster@{domain}"));
    local.or_else(|| main.0.get(POSTMASTER).cloned()).or(bare)
}

/// Beside postfix's own settings: a postmaster whom it has in one of its tables.
const POSTMASTER: &str = "(postmaster)";
/// The most domains and tables that are asked.
const MAX_ASKED: usize = 3;

/// The postmaster of a virtual domain, where a table has him. Whoever is in none would be refused each time, and that is logged.
fn postmaster(tree: &Tree, main: &Main) -> Option<String> {
    let words = |name: &str| {
        main.value(name).split([',', ' ']).filter(|word| !word.is_empty()).map(str::to_owned).collect::<Vec<_>>()
    };
    let domains = ["virtual_mailbox_domains", "virtual_alias_domains"].iter().flat_map(|name| words(name));
    let domains = domains.filter(|domain| is_domain(domain)).take(MAX_ASKED);
    let maps: Vec<String> =
        ["virtual_alias_maps", "virtual_mailbox_maps"].iter().flat_map(|name| words(name)).take(MAX_ASKED).collect();
    let mut asked = domains.map(|domain| format!("postmaster@{domain}"));
    asked.find(|address| {
        let mut answers = maps.iter().filter_map(|map| daemon::may_say(tree, "postmap", &["-q", address, map]));
        answers.any(|answer| !answer.trim().is_empty())
    })
}

fn is_domain(name: &str) -> bool {
    name.contains('.')
        && !name.starts_with("localhost")
        && name.chars().all(|c| c.is_ascii_alphanumeric() || ".-".contains(c))
}

/// What restricts whom a mail may come from.
const RESTRICTIONS: [&str; 5] = ["client", "helo", "sender", "relay", "recipient"];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::here::testing::Server as Root;

    const MASTER: &str = "smtp      inet  n       -       y       -       -       smtpd\n#465 inet n - y - - smtpd\n\
        submissions inet n - y - - smtpd\n  -o smtpd_tls_wrappermode=yes\n# in between\n  -o syslog_name=x\n\
        127.0.0.1:2525 inet n - n - - smtpd\n  -o smtpd_tls_security_level=none\n26 inet n - n - 1 postscreen\npickup unix n - y 60 1 pickup\n";

    fn shown(main: &str, master: &str) -> Vec<(u16, bool, bool, bool, bool)> {
        let server = read(&Main::read(main), master, &mut Finding::default());
        let one = |one: &Listener| (one.port, one.is_tls, one.starts_tls, one.is_local, one.waits > 0);
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
    fn how_it_meets_strangers_is_known() {
        let main = "smtpd_tls_cert_file = /a.pem\nsmtpd_tls_security_level = may\nsmtpd_delay_reject = no\nmua_client_restrictions = permit_mynetworks, reject\n";
        let options = |options: &str| {
            let server =
                read(&Main::read(main), &format!("587 inet n - y - - smtpd\n  {options}\n"), &mut Finding::default());
            let mut options = server.listeners[0].instance().options;
            options.retain(|key, _| !["port", "protocol", "recipient"].contains(&key.as_str()));
            options.into_iter().map(|(key, value)| format!("{key}={value}")).collect::<Vec<_>>().join(" ")
        };
        assert_eq!(options(""), "starttls=yes");
        assert_eq!(options("-o smtpd_client_restrictions=$mua_client_restrictions"), "starttls=yes turns-away=yes");
        assert_eq!(options("-o smtpd_helo_restrictions=reject_unknown_helo_hostname"), "starttls=yes turns-away=yes");
        assert_eq!(options("-o smtpd_client_restrictions=permit_mynetworks,permit"), "starttls=yes");
        assert_eq!(options("-o smtpd_delay_reject=yes -o smtpd_client_restrictions=reject"), "starttls=yes");
        assert_eq!(
            options("-o { smtpd_client_restrictions = sleep 5, permit }"),
            "answer-slow=7000 starttls=yes tls-slow=8000 turns-away=yes"
        );
        assert_eq!(options("-o smtpd_discard_ehlo_keywords=silent-discard,STARTTLS"), "");
        assert_eq!(options("-o smtpd_discard_ehlo_keyword_address_maps=cidr:/x"), "starttls=perhaps");
        assert_eq!(
            options("-o smtpd_tls_wrappermode=yes -o smtpd_tls_req_ccert=yes"),
            "client-certificate=yes tls=yes"
        );
        assert_eq!(options("-o smtpd_tls_req_ccert=yes"), "starttls=yes");
        let main = Main::read("postscreen_denylist_action = drop\n");
        let server = read(&main, "smtp inet n - y - 1 postscreen\n", &mut Finding::default());
        assert!(server.listeners[0].turns_away);
    }

    #[test]
    fn a_server_of_ipv6_alone_is_asked_by_each_server_itself() {
        let one = |main: &str| {
            read(&Main::read(main), "smtp inet n - y - - smtpd\n", &mut Finding::default()).listeners[0].instance()
        };
        let six = one("inet_protocols = ipv6\n");
        assert_eq!(
            (six.at, six.options.get("loopback").map(String::as_str)),
            (atlas_model::verify::At::Here, Some("::1"))
        );
        assert_eq!(one("inet_protocols = all\ninet_interfaces = all\n").at, atlas_model::verify::At::Partners);
    }

    #[test]
    fn a_mail_is_begun_to_whom_anybody_may_write() {
        let to = |main: &str, service: &str| {
            let server = read(&Main::read(main), &format!("{service} inet n - y - - smtpd\n"), &mut Finding::default());
            server.listeners[0].instance().options.remove("recipient").unwrap_or_default()
        };
        let main = "mydestination = localhost, hash:/etc/postfix/more, shop.example other.example\n";
        assert_eq!(to(main, "smtp"), "postmaster@shop.example");
        assert_eq!(to(main, "587"), "postmaster", "a submission takes mails of its users alone");
        assert_eq!(to("mydestination = localhost, mail\n", "smtp"), "postmaster");
        for own in [
            "",
            "mydestination = $myhostname, other.example\n",
            "myhostname = a.example\nmydestination = b.example a.example\n",
        ] {
            assert_eq!(to(own, "smtp"), "", "it says its name itself");
        }
        for refusing in
            ["client_restrictions = permit_mynetworks, reject", "helo_restrictions = reject_unknown_helo_hostname"]
        {
            assert_eq!(to(&format!("{main}smtpd_{refusing}\n"), "smtp"), "postmaster", "{refusing}");
        }
        let usual =
            "smtpd_recipient_restrictions = reject_unauth_destination, check_policy_service inet:127.0.0.1:10023\n";
        assert_eq!(to(&format!("{main}{usual}"), "smtp"), "postmaster@shop.example");
    }

    #[test]
    fn files_travel_from_wherever_they_lie() {
        let files = [
            "virtual",
            "virtual.db",
            "pg.cf",
            "one",
            "one.db",
            "nets",
            "dh.pem",
            "ca.pem",
            "b.pem",
            "b.key",
            "chain.pem",
            "filter",
        ];
        let main = "virtual_alias_maps = hash:/srv/virtual, proxy:pgsql:/srv/pg.cf\n\
            smtpd_sender_login_maps = unionmap:{hash:/srv/one, static:{x}}\nmynetworks = 127.0.0.0/8 /srv/nets\n\
            smtpd_tls_dh1024_param_file = /srv/dh.pem\nsmtpd_tls_CAfile = /srv/ca.pem\nsmtpd_milters = unix:/run/x\n\
            smtpd_tls_cert_file = /etc/ssl/certs/a.pem\nwhere = /srv\n";
        let master = "smtp inet n - y - - smtpd\n587 inet n - y - - smtpd\n  -o smtpd_tls_cert_file=${where}/b.pem -o {smtpd_tls_key_file = /srv/b.key}\n\
            465 inet n - y - - smtpd\n  -o smtpd_tls_chain_files=/srv/chain.pem\n\
            filter unix - n n - - pipe\n  user=filter argv=/srv/filter -f ${sender}\n";
        let root = Root::with(&[("etc/postfix/main.cf", main), ("etc/postfix/master.cf", master)]);
        files.iter().for_each(|name| root.write(&format!("srv/{name}"), ""));
        let mut finding = Finding::default();
        let server = postfix(&root.tree(), &mut finding).unwrap();
        let mut found = finding.done().paths;
        found.sort();
        let mut expected = files.map(|name| format!("/srv/{name}")).to_vec();
        expected.push("/etc/postfix".into());
        expected.sort();
        assert_eq!(found, expected);
        // Each is held against its own certificate.
        let of: Vec<&str> = server.listeners.iter().map(|one| one.certificates[0].as_str()).collect();
        assert_eq!(of, ["/etc/ssl/certs/a.pem", "/srv/b.pem", "/srv/chain.pem"]);
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
