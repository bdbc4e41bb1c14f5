//! What bind9 is configured to answer: `named-checkconf -p` prints it whole, or its files are read.

use super::{
    matched::Lists,
    server::{Server, Zone, say_rest},
};
use crate::{
    service::Tree,
    services::{
        daemon::{self, Daemon, started},
        found::{Finding, is_loopback, is_on_pris_disks},
        included::Files,
    },
};
use std::{
    collections::{BTreeSet, VecDeque},
    net::IpAddr,
};

const DAEMON: Daemon = Daemon { name: "bind", programs: &["named"], units: &["named.service", "bind9.service"] };
/// How deep blocks may lie in each other.
const MAX_DEPTH: usize = 16;
/// The most files of data that are looked into.
const MAX_FILES: usize = 1000;
/// The types of zones that are answered for out of data of one's own.
const OWN: [&str; 4] = ["master", "primary", "slave", "secondary"];

pub(super) fn bind(tree: &Tree, finding: &mut Finding) -> anyhow::Result<Option<Server>> {
    let dir = tree.installed("bind", "/etc/bind");
    let mut main = format!("{dir}/named.conf");
    if !tree.exists(&main) || !DAEMON.is_there(tree) {
        return Ok(None);
    }
    finding.path(tree, dir);
    let options = started::words(tree, finding, &DAEMON, "named", "OPTIONS");
    if let Some(file) = started::option(&options, "-c").filter(|file| tree.exists(file)) {
        main = file.to_owned();
        finding.path(tree, file);
    }
    // What it includes travels, whoever is asked.
    let own = read(&mut Files::new(tree, finding), &main, 0);
    let told =
        (dir == "/etc/bind").then(|| daemon::says(tree, finding, "named-checkconf", &["-p", "-x", &main])).flatten();
    let mut all = match told {
        Some(told) => statements(&mut words(&without_remarks(&told)).into_iter(), 0)?,
        None => own?,
    };
    // Given at its start, a port stands for the usual one.
    if let Some(port) = started::option(&options, "-p") {
        let port = Statement { words: vec!["port".into(), port.into()], block: vec![] };
        all.push(Statement { words: vec!["options".into()], block: vec![port] });
    }
    if options.iter().any(|word| word == "-4") {
        let none = Statement { words: vec!["none".into()], block: vec![] };
        let listen = Statement { words: vec!["listen-on-v6".into()], block: vec![none] };
        all.push(Statement { words: vec!["options".into()], block: vec![listen] });
    }
    files(&all, tree, finding);
    let server = server(&all);
    say_rest(finding, "bind", server.as_ref(), ports(&all));
    let secret: BTreeSet<u16> = secret(&all).collect();
    for port in secret {
        finding.note(format!("bind answers over TLS or HTTPS at port {port}, which is not exercised"));
    }
    Ok(server)
}

/// Words, and perhaps a block, up to a `;`.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Statement {
    pub(super) words: Vec<String>,
    pub(super) block: Vec<Statement>,
}

impl Statement {
    pub(super) fn is(&self, name: &str) -> bool {
        self.words.first().is_some_and(|word| word == name)
    }

    /// The word behind another one: the port in `listen-on port 53 { any; }`.
    fn behind(&self, name: &str) -> Option<&str> {
        let at = self.words.iter().position(|word| word == name)?;
        self.words.get(at + 1).map(String::as_str)
    }

    /// What stands in a list of addresses: `{ 10.0.0.0/8; !any; }`. `named-checkconf -p` prints one address as a network: `10.0.0.1/32`.
    fn addresses(&self) -> impl Iterator<Item = String> {
        self.block.iter().map(|one| {
            let text = one.words.join(" ");
            let alone = text.split_once('/').and_then(|(address, bits)| {
                let parsed = address.parse::<IpAddr>().ok()?;
                (bits == if parsed.is_ipv4() { "32" } else { "128" }).then(|| address.to_owned())
            });
            alone.unwrap_or(text)
        })
    }
}

fn find<'s>(block: &'s [Statement], name: &str) -> impl Iterator<Item = &'s Statement> {
    block.iter().filter(move |statement| statement.is(name))
}

/// What it remarks on the way, each with its place: `/etc/bind/named.conf:4: option …`.
fn without_remarks(told: &str) -> String {
    let is_remark = |line: &&str| {
        let place = line.split_once(": ").and_then(|(place, _)| place.rsplit_once(':'));
        place.is_some_and(|(file, number)| !file.contains(char::is_whitespace) && number.parse::<u32>().is_ok())
    };
    told.lines().filter(|line| !is_remark(line)).map(|line| format!("{line}\n")).collect()
}

/// A file, which may include others wherever a statement may stand.
fn read(files: &mut Files<'_>, path: &str, depth: usize) -> anyhow::Result<Vec<Statement>> {
    let text = files.text(path, depth)?;
    with_included(files, statements(&mut words(&text).into_iter(), 0)?, depth)
}

fn with_included(files: &mut Files<'_>, statements: Vec<Statement>, depth: usize) -> anyhow::Result<Vec<Statement>> {
    let mut all = vec![];
    for mut statement in statements {
        match &statement.words[..] {
            [include, pattern] if include == "include" && statement.block.is_empty() => {
                for file in files.matching(pattern) {
                    all.extend(read(files, &file, depth + 1)?);
                }
            }
            _ => {
                statement.block = with_included(files, statement.block, depth)?;
                all.push(statement);
            }
        }
    }
    Ok(all)
}

/// The ports of one family at which it answers who asks in plain, and whether for this server alone. Over TLS or HTTPS, other clients come.
fn plain(options: &[&Statement], name: &str, usual: u16) -> Vec<(u16, bool, Vec<String>)> {
    let listens: Vec<&&Statement> = options.iter().filter(|option| option.is(name)).collect();
    if listens.is_empty() {
        return vec![(usual, false, vec![])];
    }
    let plain = listens
        .into_iter()
        .filter(|listen| is_plain(listen))
        .filter(|listen| !listen.addresses().all(|at| at == "none"));
    let one = |listen: &&Statement| {
        let port = listen.behind("port").and_then(|port| port.parse().ok()).unwrap_or(usual);
        (port, listen.addresses().all(|at| is_loopback(&at)), listen.addresses().collect())
    };
    plain.map(one).collect()
}

/// Whether clients come without TLS and HTTP.
fn is_plain(listen: &Statement) -> bool {
    listen.behind("tls").is_none_or(|tls| tls == "none") && listen.behind("http").is_none()
}

/// The ports at which others come.
fn secret(all: &[Statement]) -> impl Iterator<Item = u16> {
    let options = find(all, "options").flat_map(|options| &options.block);
    let listens = options.filter(|option| option.is("listen-on") || option.is("listen-on-v6"));
    listens.filter(|listen| !is_plain(listen)).filter_map(|listen| listen.behind("port")?.parse().ok())
}

fn usual_port(options: &[&Statement]) -> u16 {
    let port = options.iter().rfind(|option| option.is("port"));
    port.and_then(|port| port.words.get(1)?.parse().ok()).unwrap_or(53)
}

/// The ports at which it answers, those of IPv6 among them.
fn ports(all: &[Statement]) -> impl Iterator<Item = u16> {
    let options: Vec<&Statement> = find(all, "options").flat_map(|options| &options.block).collect();
    let both = ["listen-on", "listen-on-v6"].map(|name| plain(&options, name, usual_port(&options)));
    both.into_iter().flatten().map(|(port, ..)| port)
}

/// What a configuration answers; `None` where it listens for nobody who asks in plain.
fn server(all: &[Statement]) -> Option<Server> {
    let options: Vec<&Statement> = find(all, "options").flat_map(|options| &options.block).collect();
    let option = |name: &str| options.iter().find(|statement| statement.is(name)).copied();
    let usual = usual_port(&options);
    let mut all_plain = plain(&options, "listen-on", usual);
    if all_plain.is_empty() {
        // There, `any` is all of IPv6.
        let six = |at: String| if at == "any" { "::".to_owned() } else { at };
        let of_six = plain(&options, "listen-on-v6", usual).into_iter();
        let of_six = of_six.map(|(port, is_local, at)| (port, is_local, at.into_iter().map(six).collect::<Vec<_>>()));
        all_plain = of_six
            .map(|(port, is_local, at)| (port, is_local, if at.is_empty() { vec!["::".into()] } else { at }))
            .collect();
    }
    // The one that clients come to.
    let best = all_plain.iter().min_by_key(|(port, is_local, _)| (*is_local, *port != 53));
    let (port, is_local, addresses) = best?;
    let lists = Lists::of(all);
    let is_limited = |list: Option<&Statement>| list.is_some_and(|list| !lists.is_for_all(&list.block));
    // Of lists with a `!` the order counts: they are not written out.
    let clients = |list: Option<&Statement>| {
        let words = list.filter(|_| option("allow-query-on").is_none()).map(|list| lists.written_out(&list.block));
        words.filter(|words| words.iter().all(|word| !word.starts_with('!'))).unwrap_or_default()
    };
    // Whoever is in the hole gets no answer of any kind.
    let has_hole = option("blackhole").is_some_and(|list| !lists.is_for_nobody(&list.block));
    let all_limited = has_hole || is_limited(option("allow-query")) || is_limited(option("allow-query-on"));
    let mut server = Server {
        port: *port,
        is_local: *is_local,
        addresses: addresses.clone(),
        is_limited: all_limited,
        clients: if has_hole { vec![] } else { clients(option("allow-query")) },
        is_of_net: false,
        is_rationed: option("rate-limit").is_some()
            || find(all, "view").any(|view| find(&view.block, "rate-limit").next().is_some()),
        zones: vec![],
        is_of_tcp: false,
    };
    let dir = directory(all);
    let mut take = |block: &[Statement], limited: bool, is_of_view: bool, shadowed: &[String]| {
        for zone in find(block, "zone") {
            let is_own = find(&zone.block, "type")
                .any(|kind| kind.words.get(1).is_some_and(|kind| OWN.contains(&kind.as_str())));
            let own = find(&zone.block, "allow-query").next();
            let (Some(name), true) = (zone.words.get(1), is_own) else { continue };
            let is_limited = limited || has_hole || if own.is_some() { is_limited(own) } else { all_limited };
            let clients = match () {
                () if limited || has_hole || !is_limited => vec![],
                () => clients(own.or(option("allow-query"))),
            };
            let name = name.trim_end_matches('.').to_ascii_lowercase();
            if !server.zones.iter().any(|known| known.name == name) {
                let data = data(zone, dir).filter(|file| is_on_pris_disks(file));
                server.zones.push(Zone { name, is_limited, clients, is_of_view, shadowed: shadowed.to_vec(), data });
            }
        }
    };
    take(all, false, false, &[]);
    let mut shadowed = vec![];
    for view in find(all, "view") {
        let matched = find(&view.block, "match-clients").next();
        let some = is_limited(matched);
        let keys = find(&view.block, "match-destinations").next().is_some();
        let limited = some || keys || is_limited(find(&view.block, "allow-query").next());
        take(&view.block, limited, some || keys, &shadowed);
        // The first view that fits is the one that is shown.
        shadowed.extend(matched.into_iter().flat_map(|matched| lists.written_out(&matched.block)));
    }
    Some(server)
}

/// Where relative names count from.
fn directory(all: &[Statement]) -> Option<&str> {
    let mut options = find(all, "options").flat_map(|options| &options.block);
    options.find(|one| one.is("directory")).and_then(|one| one.words.get(1)).map(String::as_str)
}

/// A file, where it is known in which directory.
fn at(file: &str, dir: Option<&str>) -> Option<String> {
    match file.starts_with('/') {
        true => Some(file.to_owned()),
        false => dir.map(|dir| format!("{dir}/{file}")),
    }
}

/// The file of a zone that is this server's own.
fn data(zone: &Statement, dir: Option<&str>) -> Option<String> {
    file_of(zone, &["master", "primary"], dir)
}

/// The file of a zone of one of these types.
fn file_of(zone: &Statement, types: &[&str], dir: Option<&str>) -> Option<String> {
    let value = |name: &str| find(&zone.block, name).next().and_then(|one| one.words.get(1)).map(String::as_str);
    at(value("file").filter(|_| value("type").is_some_and(|is| types.contains(&is)))?, dir)
}

/// The data of its own zones, and files of TLS, wherever they lie.
fn files(all: &[Statement], tree: &Tree, finding: &mut Finding) {
    let dir = directory(all);
    let of_views =
        find(all, "view").flat_map(|view| find(&view.block, "zone").map(move |zone| (zone, view.words.get(1))));
    let zones = find(all, "zone").map(|zone| (zone, None)).chain(of_views);
    let mut left = VecDeque::new();
    for (zone, view) in zones {
        // Where the roots are is read at the start, and never written.
        if let Some(hints) = file_of(zone, &["hint"], dir) {
            finding.path(tree, &hints);
        }
        let Some(file) = data(zone, dir) else { continue };
        let name = zone.words.get(1).map_or("", String::as_str);
        let is_for_somebody = |one: &Statement| !one.addresses().any(|who| who == "none");
        let is_changed = CHANGING.iter().any(|by| find(&zone.block, by).next().is_some_and(is_for_somebody));
        if is_on_pris_disks(&file) {
            finding
                .note(format!("the zone {name} comes with PRI's disks ({file}): a secondary does not answer for it"));
        } else {
            if is_changed {
                finding.note(format!(
                    "bind changes the zone {name} itself: a secondary has it as {file} was last written; on /unbound it would move along"
                ));
            }
            // Whoever is shown another view never asks for this one.
            if let Some(view) = view.filter(|_| !tree.exists(&file)) {
                finding.note(format!(
                    "the data of the zone {name} in the view {view} is not there ({file}): bind answers for it with an error"
                ));
            }
            left.push_back(file);
        }
    }
    let mut known = BTreeSet::new();
    while let Some(file) = left.pop_front().filter(|_| known.len() < MAX_FILES) {
        if known.insert(file.clone()) {
            finding.path(tree, &file);
            match tree.read(&file) {
                Ok(data) => left.extend(included(&data.unwrap_or_default()).filter_map(|file| at(file, dir))),
                Err(_) => finding.note(format!("{file} is not looked into: what it includes is not synchronised")),
            }
        }
    }
    all.iter().for_each(|one| besides(one, tree, dir.unwrap_or("/var/cache/bind"), finding));
}

/// What is named anywhere but as the data of a zone: keys, certificates, tables, plugins.
fn besides(one: &Statement, tree: &Tree, dir: &str, finding: &mut Finding) {
    if let Some((name, words)) = one.words.split_first().filter(|_| !one.is("zone")) {
        words.iter().for_each(|word| finding.files_from(tree, dir, name, word));
        one.block.iter().for_each(|one| besides(one, tree, dir, finding));
    }
}

/// The files that a zone's data includes; a line that begins with a blank is one of records.
fn included(zone: &str) -> impl Iterator<Item = &str> {
    let includes = |line: &str| line.get(..8).is_some_and(|word| word.eq_ignore_ascii_case("$include"));
    zone.lines()
        .filter(move |line| includes(line))
        .filter_map(|line| Some(line.split_whitespace().nth(1)?.trim_matches('"')))
}

/// What lets others change a zone's data, which bind writes itself then. What it signs of a zone that nobody changes it keeps beside it.
const CHANGING: [&str; 2] = ["allow-update", "update-policy"];

fn statements(words: &mut dyn Iterator<Item = Word>, depth: usize) -> anyhow::Result<Vec<Statement>> {
    anyhow::ensure!(depth <= MAX_DEPTH, "bind's blocks lie more than {MAX_DEPTH} deep in each other");
    let (mut all, mut statement) = (vec![], Statement::default());
    while let Some(word) = words.next() {
        match word {
            Word::Text(text) => statement.words.push(text),
            Word::Open => statement.block = statements(words, depth + 1)?,
            Word::Close => break,
            Word::End => all.push(std::mem::take(&mut statement)),
        }
    }
    Ok(all)
}

#[derive(Debug, PartialEq)]
enum Word {
    Text(String),
    Open,
    Close,
    End,
}

/// Without `//`, `#` and `/* */`, unless they stand in quotes.
fn words(text: &str) -> Vec<Word> {
    let (mut words, mut rest) = (vec![], text.trim_start());
    while let Some(first) = rest.chars().next() {
        let after = if first == '#' || rest.starts_with("//") {
            rest.split_once('\n').map_or("", |(_, after)| after)
        } else if let Some(comment) = rest.strip_prefix("/*") {
            comment.split_once("*/").map_or("", |(_, after)| after)
        } else if let Some(quoted) = rest.strip_prefix('"') {
            let (word, after) = quoted.split_once('"').unwrap_or((quoted, ""));
            words.push(Word::Text(word.to_owned()));
            after
        } else if let Some(word) = [('{', Word::Open), ('}', Word::Close), (';', Word::End)]
            .into_iter()
            .find_map(|(sign, word)| (sign == first).then_some(word))
        {
            words.push(word);
            &rest[1..]
        } else {
            let ends = |(at, c): (usize, char)| {
                let here = &rest[at..];
                (c.is_whitespace() || "{};\"".contains(c) || here.starts_with("//") || here.starts_with("/*"))
                    .then_some(at)
            };
            let end = rest.char_indices().find_map(ends).unwrap_or(rest.len());
            words.push(Word::Text(rest[..end].to_owned()));
            &rest[end..]
        };
        rest = after.trim_start();
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::here::testing::Server as Root;

    fn read(text: &str) -> anyhow::Result<Option<Server>> {
        Ok(server(&statements(&mut words(text).into_iter(), 0)?))
    }

    fn one(text: &str) -> (u16, bool, Vec<(String, bool)>) {
        let server = read(text).unwrap().unwrap();
        let zones = server.zones.into_iter().map(|zone| (zone.name, zone.is_limited)).collect();
        (server.port, server.is_local, zones)
    }

    fn zones(names: &[(&str, bool)]) -> Vec<(String, bool)> {
        names.iter().map(|(name, limited)| ((*name).to_owned(), *limited)).collect()
    }

    #[test]
    fn zones_ports_and_who_is_answered_are_read() {
        let text = "// zone \"no.example\" { type master; };\n/* zone \"no2.example\" {\n type master; }; */\n\
            options { listen-on port 5353 { 127.0.0.1; }; };\nzone \".\" { type hint; };\n\
            zone \"Shop.example.\" IN {\n  type master; file \"/etc/bind/db.shop\"; allow-update { none; }; }; # ours\n\
            zone \"fwd.example\" { type forward; };\n";
        assert_eq!(one(text), (5353, true, zones(&[("shop.example", false)])));
        assert_eq!(one("options { listen-on { any; }; };"), (53, false, vec![]));
        assert_eq!(one("options { port 54; directory \"/x//y\"; };"), (54, false, vec![]));
    }

    #[test]
    fn plain_questions_go_where_plain_questions_are_answered() {
        let tls = "listen-on port 853 tls local { any; }; listen-on port 443 tls local http default { any; };";
        assert_eq!(one(&format!("options {{ listen-on port 53 {{ any; }}; {tls} }};")).0, 53);
        let six = read(&format!("options {{ {tls} }};")).unwrap().unwrap();
        assert_eq!(
            (six.port, &six.addresses[..]),
            (53, &["::".to_owned()][..]),
            "over IPv6 it answers all, where nothing else is said"
        );
        assert_eq!(read(&format!("options {{ {tls} listen-on-v6 {{ none; }}; }};")).unwrap(), None);
        let rationed = |text: &str| read(text).unwrap().unwrap().is_rationed;
        assert!(rationed("options { rate-limit { responses-per-second 5; }; };"));
        assert!(rationed("view a { rate-limit { slip 1; }; };") && !rationed("options { port 54; };"));
        let both =
            "options { listen-on port 5300 { 127.0.0.1; }; listen-on port 54 tls none { 192.0.2.1; 127.0.0.1; }; };";
        assert_eq!(one(both), (54, false, vec![]));
    }

    #[test]
    fn a_server_of_ipv6_alone_is_asked_there() {
        let at =
            |text: &str| read(text).unwrap().map(|server| (server.port, server.is_local, server.addresses.join(" ")));
        let six = "options { listen-on { none; }; listen-on-v6 port 54 { ::1; }; };";
        assert_eq!(at(six), Some((54, true, "::1".into())));
        assert_eq!(at("options { listen-on { none; }; listen-on-v6 { any; }; };"), Some((53, false, "::".into())));
        assert_eq!(at("options { listen-on { none; }; };"), Some((53, false, "::".into())));
        assert_eq!(at("options { listen-on { none; }; listen-on-v6 { none; }; };"), None);
    }

    #[test]
    fn zones_that_not_everybody_may_ask_for_are_known() {
        let text = "view inner { match-clients { 10.0.0.0/8; }; zone \"a\" { type primary; }; };\n\
            view outer { match-clients { any; }; zone \"b\" { type secondary; }; zone \"c\" { type primary; allow-query { none; }; }; };";
        assert_eq!(one(text).2, zones(&[("a", true), ("b", false), ("c", true)]));
        let of_views: Vec<bool> = read(text).unwrap().unwrap().zones.iter().map(|zone| zone.is_of_view).collect();
        assert_eq!(of_views, [true, false, false]);
        let shadowed: Vec<String> =
            read(text).unwrap().unwrap().zones.iter().map(|zone| zone.shadowed.join(" ")).collect();
        assert_eq!(shadowed, ["", "10.0.0.0/8", "10.0.0.0/8"], "who is shown the first view is not shown the second");
        let named = format!(
            "acl lan {{ 127.0.0.1; 10.0.0.0/8; }}; acl ours {{ lan; !\"x\"; }}; {}",
            text.replace("10.0.0.0/8", "ours")
        );
        let of_names = read(&named).unwrap().unwrap().zones;
        assert_eq!(of_names[1].shadowed, ["127.0.0.1", "10.0.0.0/8", "!x"], "whoever has a name stands for addresses");
        let text = "options { allow-query { 10.0.0.0/8; }; }; zone \"a\" { type primary; }; zone \"b\" { type primary; allow-query { any; }; };";
        assert_eq!(one(text).2, zones(&[("a", true), ("b", false)]));
    }

    #[test]
    fn who_is_named_before_all_others_may_be_refused() {
        for (list, is_limited) in [
            ("any;", false),
            ("!none; any;", false),
            ("10.0.0.0/8; any;", false),
            ("everybody;", false),
            ("{ any; };", false),
            ("!key k; any;", false),
            ("! bad; any;", true),
            ("!\"bad\"; \"any\";", true),
            ("!10.0.0.1; any;", true),
            ("!{ 10.0.0.1; }; any;", true),
            ("ours;", true),
            ("not_quite;", true),
            ("round;", true),
            ("key k;", true),
            ("none;", true),
            ("localnets; localhost;", true),
        ] {
            let lists = "acl bad { 10.0.0.0/8; }; acl everybody { 10.0.0.1; any; }; acl ours { localnets; };\n\
                acl not_quite { !bad; any; }; acl round { round; };";
            let zone = format!("{lists} zone \"a\" {{ type primary; allow-query {{ {list} }}; }};");
            assert_eq!(one(&zone).2, zones(&[("a", is_limited)]), "{list}");
            let whole = read(&format!("{lists} options {{ allow-query {{ {list} }}; }};")).unwrap().unwrap();
            assert_eq!(whole.is_limited, is_limited, "{list}");
        }
        for (option, is_limited) in [
            ("blackhole { none; }", false),
            ("blackhole { 10.0.0.0/8; }", true),
            ("allow-query-on { any; }", false),
            ("allow-query-on { 127.0.0.1; }", true),
        ] {
            let text = format!("options {{ {option}; }}; zone \"a\" {{ type primary; }};");
            assert_eq!(one(&text).2, zones(&[("a", is_limited)]), "{option}");
        }
    }

    #[test]
    fn a_file_counts_where_it_is_included_and_what_named_checkconf_remarks_is_no_statement() {
        let root = Root::with(&[
            ("etc/bind/named.conf", "options { include \"/etc/bind/inner\"; }; include \"/etc/bind/zones\"; // x\n"),
            ("etc/bind/inner", "listen-on port 5300 { 127.0.0.1; };"),
            ("etc/bind/zones", "zone a { type master; };"),
        ]);
        let found = |root: &Root, is_running: bool| {
            let tree = if is_running { root.tree().running() } else { root.tree() };
            let server = bind(&tree, &mut Finding::default()).unwrap().unwrap();
            (server.port, server.is_local, server.zones.len())
        };
        assert_eq!(found(&root, false), (5300, true, 1));
        let mut finding = Finding::default();
        bind(&root.tree(), &mut finding).unwrap();
        assert_eq!(finding.done().notes, ["bind answers at port 53 too, which is not exercised"], "over IPv6");
        root.program("usr/sbin/named", "");
        let says = "printf '/etc/bind/named.conf:4: option x is deprecated\nzone \"a\" {\n\ttype master;\n};\n'";
        root.program("usr/bin/named-checkconf", says);
        assert_eq!(found(&root, true), (53, false, 1));
    }

    #[test]
    fn ports_at_which_clients_come_over_tls_are_told() {
        let text = "options { listen-on port 853 tls local { any; }; listen-on-v6 port 443 tls local http h { any; }; \
            listen-on { any; }; listen-on-v6 { any; }; };";
        let root = Root::with(&[("etc/bind/named.conf", text)]);
        let mut finding = Finding::default();
        bind(&root.tree(), &mut finding).unwrap();
        let told = |port: u16| format!("bind answers over TLS or HTTPS at port {port}, which is not exercised");
        assert_eq!(finding.done().notes, [told(443), told(853)]);
    }

    #[test]
    fn files_that_include_each_other_are_told() {
        let root = Root::with(&[("etc/bind/named.conf", "include \"/etc/bind/named.conf\"; // again\n")]);
        let error = bind(&root.tree(), &mut Finding::default()).unwrap_err();
        assert!(error.to_string().contains("8 deep"), "{error}");
        assert!(read(&"a {".repeat(100)).unwrap_err().to_string().contains("16 deep"));
    }

    #[test]
    fn zones_travel_from_wherever_they_lie_but_for_those_on_the_unbound_disks() {
        let root = Root::with(&[
            (
                "etc/bind/named.conf",
                "options { directory \"/srv/zones\"; statistics-file \"/srv/told\"; };\ninclude \"/srv/keys\";\ntls x { cert-file \"/srv/c.pem\"; key-file \"c.key\"; };\nplugin query \"/srv/filter.so\" { on; };\n\
                zone \"a\" { type master; file \"a.db\"; };\nview \"in\" { zone \"b\" { type primary; file \"/srv/b.db\"; allow-update { none; }; }; };\n\
                zone \"c\" { type primary; file \"c.db\"; allow-update { key k; }; };\nzone \"d\" { type slave; file \"d.db\"; };\n\
                zone \"e\" { type primary; file \"e.db\"; dnssec-policy default; inline-signing yes; };\n\
                zone \"f\" { type primary; file \"/unbound/f.db\"; };\nzone \".\" { type hint; file \"/srv/hints\"; };\n",
            ),
            ("srv/keys", ""),
            ("srv/c.pem", ""),
            ("srv/filter.so", ""),
            ("srv/told", ""),
            ("srv/zones/c.key", ""),
            ("srv/zones/a.db", ""),
            ("srv/zones/c.db", ""),
            ("srv/zones/d.db", ""),
            ("srv/zones/e.db", ""),
            ("unbound/f.db", ""),
            ("srv/hints", ""),
            ("srv/b.db", ""),
        ]);
        let mut finding = Finding::default();
        bind(&root.tree(), &mut finding).unwrap();
        let found = finding.done();
        let expected = [
            "/etc/bind",
            "/srv/keys",
            "/srv/hints",
            "/srv/zones/a.db",
            "/srv/zones/c.db",
            "/srv/zones/e.db",
            "/srv/b.db",
            "/srv/c.pem",
            "/srv/zones/c.key",
            "/srv/filter.so",
        ];
        assert_eq!(found.paths, expected);
        let [changed, moves] = &found.notes[..] else { panic!("{:?}", found.notes) };
        assert!(
            changed.contains("the zone c itself") && moves.contains("the zone f comes with PRI's disks"),
            "{found:?}"
        );
        let zones = read(&root.tree().read("/etc/bind/named.conf").unwrap().unwrap()).unwrap().unwrap().zones;
        let data: Vec<&str> = zones.iter().filter_map(|zone| zone.data.as_deref()).collect();
        assert_eq!(data, ["/unbound/f.db"]);
        root.remove("srv/b.db");
        let mut finding = Finding::default();
        bind(&root.tree(), &mut finding).unwrap();
        let notes = finding.done().notes;
        assert!(
            notes.iter().any(|note| note.starts_with("the data of the zone b in the view in is not there")),
            "{notes:?}"
        );
    }

    #[test]
    fn what_named_is_started_with_counts() {
        let root = Root::with(&[
            ("etc/bind/named.conf", "options { port 9; };\n"),
            ("srv/named.conf", "zone a { type master; };\n"),
            ("etc/default/named", "OPTIONS=\"-u bind -4 -p 5354 -c /srv/named.conf\"\n"),
        ]);
        let mut finding = Finding::default();
        let server = bind(&root.tree(), &mut finding).unwrap().unwrap();
        assert_eq!((server.port, server.zones.len()), (5354, 1));
        let paths = finding.done().paths;
        assert!(
            ["/etc/default/named", "/srv/named.conf"].iter().all(|path| paths.contains(&(*path).to_owned())),
            "{paths:?}"
        );
    }

    #[test]
    fn named_s_own_word_comes_before_its_files() {
        let root = Root::with(&[("etc/bind/named.conf", "options { port 9; };\n")]);
        root.program("usr/sbin/named", "");
        root.program(
            "usr/bin/named-checkconf",
            "[ \"$1\" = -p ] && printf 'options {\\n\\tlisten-on port 54  {\\n\\t\\t\"any\";\\n\\t};\\n};\\n'",
        );
        let port = |root: &Root| bind(&root.tree().running(), &mut Finding::default()).unwrap().unwrap().port;
        assert_eq!(port(&root), 54);
        root.program("usr/bin/named-checkconf", "exit 1");
        assert_eq!(port(&root), 9);
    }
}
