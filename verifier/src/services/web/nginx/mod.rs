//! The configuration of nginx: which servers there are, at which ports, and what comes of a request.
//!
//! `nginx -T` says which files count and that they are whole; what they mean is read here, as nginx means it: the default server of a port, the
//! location of a path, what is inherited.

mod answers;
mod location;
mod text;

use super::{Content, Refusal, Site, Sites};
use crate::{
    service::Tree,
    services::{
        daemon::{self, Daemon, Rights, started},
        found::{Finding, is_loopback},
    },
};
use answers::Request;
use location::{argument, chosen, find, has, may_fit};
use text::Directive;

pub(super) const DAEMON: Daemon = Daemon { name: "nginx", programs: &["nginx"], units: &["nginx.service"] };
/// Before it tells, it opens its logs and ports, and makes its directories where they are not there.
const RIGHTS: Rights = Rights::ReadsAnd(&["dac_override", "chown", "net_bind_service"]);
/// The most ports of a range that are exercised.
const MAX_RANGE: u16 = 10;

/// What is served by the configuration in `dir`; `None` where there is none.
pub(super) fn sites(tree: &Tree, dir: &str, finding: &mut Finding) -> anyhow::Result<Option<Sites>> {
    let given = started::of_unit(tree, &DAEMON).unwrap_or_default();
    let other = started::option(&given, "-c").filter(|file| dir == "/etc/nginx" && file.starts_with('/'));
    let main = other.map_or_else(|| format!("{dir}/nginx.conf"), str::to_owned);
    if !tree.exists(&main) {
        return Ok(None);
    }
    let usual = dir == "/etc/nginx";
    let told = usual.then(|| daemon::says_with(tree, finding, RIGHTS, "nginx", &["-T", "-q", "-c", &main])).flatten();
    // Relative names count from where the file lies.
    let dir = main.rsplit_once('/').map_or(dir, |(dir, _)| dir);
    let Some(config) = text::read(tree, dir, &main, told.as_deref())? else { return Ok(None) };
    if other.is_some() {
        finding.path(tree, &main);
    }
    files(&config.directives, tree, dir, finding);
    let mut sites = Sites { files: config.files, ..Sites::default() };
    passed_on(&config.directives, finding);
    for http in config.directives.iter().filter(|directive| directive.name == "http") {
        let servers: Vec<Server<'_>> = find(&http.block, "server").map(|server| Server::read(http, server)).collect();
        let listens = servers.iter().flat_map(|server| &server.listens);
        sites
            .apart
            .extend(listens.filter(|listen| !listen.address.is_empty()).map(|one| (one.address.clone(), one.port)));
        for (index, server) in servers.iter().enumerate() {
            for listen in &server.listens {
                if let Some(site) = server.site(listen, &servers[..index], &servers[index + 1..], finding) {
                    sites.sites.push(site);
                }
            }
            if server.listens.is_empty() {
                finding.note(format!(
                    "the server {} is reached over HTTP/3 or a socket alone, and not exercised",
                    server.title()
                ));
            }
        }
    }
    Ok(Some(sites))
}

/// Says what nginx passes on without looking into it (`stream`), or as a mail proxy: what is behind it answers there, in whichever protocol.
fn passed_on(directives: &[Directive], finding: &mut Finding) {
    let blocks = directives.iter().filter(|directive| ["stream", "mail"].contains(&directive.name.as_str()));
    let servers = blocks.flat_map(|block| find(&block.block, "server"));
    let all = servers.flat_map(|server| find(&server.block, "listen"));
    let mut listens: Vec<&str> = all.filter_map(|listen| listen.args.first().map(String::as_str)).collect();
    listens.dedup();
    if !listens.is_empty() {
        finding
            .note(format!("what nginx passes on as it comes (stream, mail) is not exercised: {}", listens.join(", ")));
    }
}

/// A `server` block and the one around it.
struct Server<'c> {
    /// Outermost first.
    blocks: Vec<&'c [Directive]>,
    listens: Vec<Listen>,
    names: Vec<&'c str>,
}

/// A port that is listened on by TCP.
#[derive(Clone, Debug, PartialEq)]
struct Listen {
    address: String,
    port: u16,
    is_of_six: bool,
    tls: bool,
    is_default: bool,
    wants_proxy: bool,
    /// Whether HTTP/2 is spoken in plain, as clients of gRPC do.
    is_plain_h2: bool,
}

impl<'c> Server<'c> {
    fn read(http: &'c Directive, server: &'c Directive) -> Server<'c> {
        let mut listens: Vec<Vec<String>> = find(&server.block, "listen").map(|listen| listen.args.clone()).collect();
        if listens.is_empty() {
            listens.push(vec!["80".into()]);
        }
        let ssl = argument(&server.block, "ssl") == Some("on");
        let listens = listens.iter().flat_map(|words| Listen::read(words, ssl)).collect();
        let names =
            find(&server.block, "server_name").flat_map(|names| names.args.iter().map(String::as_str)).collect();
        Server { blocks: vec![&http.block, &server.block], listens, names }
    }

    fn title(&self) -> &str {
        self.names.first().copied().unwrap_or("without a name")
    }

    /// Whether a request that names nobody comes here. The first of an address and port is the default where none says so.
    fn is_default(&self, listen: &Listen, before: &[Server<'_>], after: &[Server<'_>]) -> bool {
        let meets = |other: &&Listen| other.port == listen.port && other.address == listen.address;
        let says_so = |server: &Server<'_>| server.listens.iter().filter(meets).any(|listen| listen.is_default);
        let same = |server: &Server<'_>| server.listens.iter().any(|other| meets(&other));
        listen.is_default || !(before.iter().any(same) || before.iter().chain(after).any(says_so))
    }

    /// What can be asked of it at a port.
    fn site(
        &self,
        listen: &Listen,
        before: &[Server<'_>],
        after: &[Server<'_>],
        finding: &mut Finding,
    ) -> Option<Site> {
        let is_default = self.is_default(listen, before, after);
        let (name, is_fit) = self.name(listen, is_default, before);
        if !is_fit {
            finding.note(format!(
                "the server {} at port {} has no name by which it could be asked",
                self.title(),
                listen.port
            ));
            return None;
        }
        let request = Request { tls: listen.tls, name: name.as_deref() };
        let refusal = self.refusal(listen, &request);
        let answers = request.status(self.own());
        let is_open = refusal.is_none() || refusal == Some(Refusal::Perhaps);
        let restricted = if is_open && !self.answers_before_access() { self.restricted(finding) } else { vec![] };
        let is_masked = |path: &&String| answers::is_masked(self.blocks[0], self.own(), path);
        Some(Site {
            port: listen.port,
            address: listen.address.clone(),
            is_of_six: {
                let others = self.listens.iter().filter(|other| other.port == listen.port);
                listen.is_of_six && others.filter(|other| !is_loopback(&other.address)).all(|other| other.is_of_six)
            },
            tls: listen.tls,
            content: if is_open { self.content(&request, finding) } else { Content::Any },
            aliases: if refusal.is_none() && listen.tls {
                self.aliases(listen, name.as_deref(), before, finding)
            } else {
                vec![]
            },
            masked: restricted.iter().filter(is_masked).cloned().collect(),
            restricted,
            refusal,
            answers,
            limits: answers::limits(&self.blocks),
            filter: vec![],
            name,
            certificate: self.value("ssl_certificate").filter(|file| file.starts_with('/')).map(str::to_owned),
            has_several_keys: {
                let block = self.blocks.iter().rfind(|block| has(block, &["ssl_certificate"]));
                block.is_some_and(|block| find(block, "ssl_certificate").count() > 1)
            },
            wants_proxy: listen.wants_proxy,
            is_plain_h2: listen.is_plain_h2,
        })
    }

    /// Names besides, by which clients come; what patterns stand for nobody knows.
    fn aliases(
        &self,
        listen: &Listen,
        name: Option<&str>,
        before: &[Server<'_>],
        finding: &mut Finding,
    ) -> Vec<String> {
        let is_taken = |name: &str| listen.has_name(name, before);
        let is_pattern = |name: &str| name.starts_with(['~', '.']) || name.contains('*');
        let (patterns, exact): (Vec<&str>, Vec<&str>) = self.names.iter().partition(|name| is_pattern(name));
        if let (Some(name), false) = (name, patterns.is_empty()) {
            finding.note(format!("the certificate of {name} is not looked at for {}", patterns.join(" and ")));
        }
        let is_one = |other: &&str| {
            let is_address = other.parse::<std::net::IpAddr>().is_ok();
            other.contains('.') && !other.contains(['$', '_', '"']) && !is_address && Some(*other) != name
        };
        let mut all: Vec<String> = vec![];
        for other in exact.into_iter().filter(is_one).filter(|other| !is_taken(other)) {
            let other = other.to_ascii_lowercase();
            if !all.contains(&other) {
                all.push(other);
            }
        }
        all
    }

    /// By which name it is asked, and whether it can be asked at all.
    fn name(&self, listen: &Listen, is_default: bool, before: &[Server<'_>]) -> (Option<String>, bool) {
        let is_exact =
            |name: &&&str| !name.starts_with('~') && !name.contains(['*', '"', '$', '_']) && !name.is_empty();
        let is_taken = |name: &str| listen.has_name(name, before);
        let free = |name: &&&str| !is_taken(name);
        if let Some(name) =
            self.names.iter().filter(is_exact).filter(free).find(|name| name.trim_start_matches('.').contains('.'))
        {
            return (Some(name.trim_start_matches('.').to_owned()), true);
        }
        if is_default {
            return (None, true);
        }
        // A name of a word alone; or one that a pattern stands for.
        if let Some(name) = self.names.iter().filter(is_exact).find(free) {
            return (Some((*name).to_owned()), true);
        }
        let pattern = self.names.iter().filter(free).find_map(|name| name.strip_prefix("*."));
        (pattern.map(|rest| format!("atlas-verify.{rest}")), pattern.is_some())
    }

    /// The argument of a directive that what lies within inherits.
    fn value(&self, name: &str) -> Option<&'c str> {
        self.blocks.iter().rev().find_map(|block| argument(block, name))
    }

    fn own(&self) -> &'c [Directive] {
        self.blocks[1]
    }

    /// Whether something comes before nginx looks who may read: all or some requests are sent elsewhere.
    fn answers_before_access(&self) -> bool {
        has(self.own(), &["return", "rewrite", "if"]) || self.value("ssl_verify_client").is_some_and(|who| who != "off")
    }

    /// How it turns everybody away, where it does.
    fn refusal(&self, listen: &Listen, request: &Request<'_>) -> Option<Refusal> {
        if listen.tls && self.value("ssl_reject_handshake") == Some("on") {
            return Some(Refusal::Handshake);
        }
        let closes = |block: &[Directive]| argument(block, "return") == Some("444");
        let root = chosen(self.own(), "/");
        if closes(self.own()) || root.last().is_some_and(|location| closes(&location.block)) {
            return Some(Refusal::Empty);
        }
        // Some are sent away without a word; of a condition that is not understood, nobody knows whether we are.
        let all = root.iter().map(|location| &location.block[..]).chain([self.own()]);
        let conditions = all.flat_map(|block| find(block, "if")).filter(|condition| closes(&condition.block));
        let held: Vec<Option<bool>> = conditions.map(|condition| request.holds(condition)).collect();
        match held.contains(&Some(true)) {
            true => Some(Refusal::Empty),
            false => held.contains(&None).then_some(Refusal::Perhaps),
        }
    }

    fn content(&self, request: &Request<'_>, finding: &mut Finding) -> Content {
        let locations = chosen(self.own(), &format!("/{}", super::PAGE));
        let blocks: Vec<&[Directive]> =
            self.blocks.iter().copied().chain(locations.iter().map(|location| &location.block[..])).collect();
        let value = |name: &str| blocks.iter().rev().find_map(|block| argument(block, name));
        // Of the innermost block that says anything of it.
        let limits = blocks.iter().rev().find(|block| has(block, &["allow", "deny"]));
        let is_limited = limits.is_some_and(|block| has(block, &["deny"]));
        let wants_password = value("auth_basic").is_some_and(|realm| realm != "off");
        let asks_others = blocks.iter().flat_map(|block| block.iter()).any(|one| {
            let name = one.name.as_str();
            name.starts_with("auth_")
                && !name.starts_with("auth_basic")
                && !["auth_delay", "auth_http"].contains(&name)
                && one.args.first().is_some_and(|to| to != "off")
        });
        let asks_who = self.value("ssl_verify_client").is_some_and(|who| who != "off");
        let every = || blocks.iter().flat_map(|block| block.iter());
        let is_passed_on = every().any(|one| ELSEWHERE.contains(&one.name.as_str()));
        let is_rewritten = every().any(|one| may_rewrite(one, request));
        let tries = blocks.iter().rev().find_map(|block| find(block, "try_files").next());
        let is_found = tries.is_none_or(|tries| names_page(&tries.args));
        let root = value("root").filter(|root| super::is_plain(root));
        let Some(root) = root.filter(|_| !is_passed_on) else { return Content::Any };
        let why: Vec<&str> = [
            (is_limited, "allow, deny"),
            (wants_password, "auth_basic"),
            (asks_others, "auth_…"),
            (asks_who, "ssl_verify_client"),
            (is_rewritten, "if, rewrite"),
            (!is_found, "try_files"),
        ]
        .into_iter()
        .filter_map(|(is_so, why)| is_so.then_some(why))
        .collect();
        if why.is_empty() {
            if chosen(self.own(), "/index.php").iter().any(|location| has(&location.block, &["fastcgi_pass"])) {
                finding.note(format!(
                    "of {root} a static file alone is exercised, not PHP behind nginx: set dynamic to one of its pages"
                ));
            }
            return Content::Files(root.into());
        }
        finding.note(format!(
            "no test page is asked for in the document root {root}: by nginx's own words, another answer may come ({})",
            why.join("; ")
        ));
        Content::Any
    }

    /// Paths that nobody may read who has no password.
    fn restricted(&self, finding: &mut Finding) -> Vec<String> {
        // Whoever is refused in one that keeps a log of its own is counted there: it is a trap, and bans.
        let has_log = |location: &&Directive| {
            let logs = ["access_log", "error_log"].iter().flat_map(|name| find(&location.block, name));
            logs.into_iter().any(|log| log.args.first().is_some_and(|to| to != "off" && to != "/dev/null"))
        };
        let locations = find(self.own(), "location")
            .filter(|location| !has(&location.block, &["return", "rewrite", "if", "internal"]) && !has_log(location));
        let mut closed: Vec<String> =
            locations.filter(|location| is_restricted(&location.block)).filter_map(url).collect();
        // Where another location is the one that counts for this path, it says nothing.
        closed.retain(|path| chosen(self.own(), path).last().is_some_and(|location| is_restricted(&location.block)));
        // Such a page may answer as an open one does.
        closed.retain(|path| {
            let is_dark = answers::is_exact(self.own(), path) && answers::is_masked(self.blocks[0], self.own(), path);
            if is_dark {
                finding.note(format!(
                    "whether {path} of {} is closed cannot be told: an error page answers",
                    self.title()
                ));
            }
            !is_dark
        });
        closed
    }
}

/// What answers with something else than the file that the path names, or may.
const ELSEWHERE: [&str; 25] = [
    "proxy_pass",
    "fastcgi_pass",
    "uwsgi_pass",
    "scgi_pass",
    "grpc_pass",
    "memcached_pass",
    "return",
    "alias",
    "internal",
    "empty_gif",
    "stub_status",
    "content_by_lua_block",
    "content_by_lua_file",
    "js_content",
    // Something is decided by a program, or put into what is sent.
    "access_by_lua_block",
    "access_by_lua_file",
    "rewrite_by_lua_block",
    "rewrite_by_lua_file",
    "body_filter_by_lua_block",
    "body_filter_by_lua_file",
    "js_body_filter",
    "sub_filter",
    "add_before_body",
    "add_after_body",
    "xslt_stylesheet",
];

/// Whether a directive may make something else of a request for the test page. A condition that does not hold, or that
/// only sets variables, and a pattern that does not fit leave it alone.
fn may_rewrite(one: &Directive, request: &Request<'_>) -> bool {
    match one.name.as_str() {
        "if" => request.holds(one) != Some(false) && one.block.iter().any(|inner| inner.name != "set"),
        "rewrite" => one.args.first().is_none_or(|pattern| may_fit(pattern, &format!("/{}", super::PAGE), false)),
        _ => false,
    }
}

/// Whether `try_files` comes to the test page: the last word is where it goes when no file is there, and nothing lies
/// below the page, nor has a longer name.
fn names_page(args: &[String]) -> bool {
    let page = format!("/{}", super::PAGE);
    let files = &args[..args.len().saturating_sub(1)];
    let paths = files.iter().map(|word| {
        ["${uri}", "$uri", "$document_uri"].iter().fold(word.clone(), |path, variable| path.replace(variable, &page))
    });
    // Of another path nobody knows whether it is there: a maintenance page, a cache.
    let first = paths.into_iter().find(|path| *path == page || !path.contains(&page));
    first.is_some_and(|path| path == page)
}

impl Listen {
    /// Whether one of these servers has this name there.
    fn has_name(&self, name: &str, servers: &[Server<'_>]) -> bool {
        let meets = |other: &Listen| other.port == self.port && other.address == self.address;
        let has = |server: &Server<'_>| server.names.iter().any(|known| known.eq_ignore_ascii_case(name));
        servers.iter().any(|server| has(server) && server.listens.iter().any(meets))
    }

    /// `80`, `*:80`, `192.0.2.1:80`, `[::]:80`, `192.0.2.1`, `8000-8010`; neither a Unix socket nor QUIC, which is of UDP.
    fn read(words: &[String], ssl: bool) -> Vec<Listen> {
        let is = |wanted: &str| words[1..].iter().any(|word| word == wanted);
        let Some(at) = words.first().filter(|at| !at.starts_with("unix:")) else { return vec![] };
        if words.len() > 1 && is("quic") {
            return vec![];
        }
        let (address, ports) = match at.rsplit_once(':') {
            Some((address, ports)) if !ports.ends_with(']') => (address, ports),
            _ if at.starts_with(|c: char| c.is_ascii_digit()) && !at.contains('.') => ("", at.as_str()),
            _ => (at.as_str(), "80"),
        };
        let (first, last) = ports.split_once('-').unwrap_or((ports, ports));
        let (Ok(first), Ok(last)) = (first.parse::<u16>(), last.parse::<u16>()) else { return vec![] };
        let is_of_six = address == "[::]" && !is("ipv6only=off");
        let address = if ["*", "0.0.0.0", "[::]"].contains(&address) { "" } else { address };
        let one = |port| Listen {
            address: address.to_owned(),
            port,
            is_of_six,
            tls: ssl || is("ssl"),
            is_default: is("default_server") || is("default"),
            wants_proxy: is("proxy_protocol"),
            is_plain_h2: is("http2") && !ssl && !is("ssl"),
        };
        (first..=last.min(first.saturating_add(MAX_RANGE))).map(one).collect()
    }
}

/// Whether nobody gets in who has no password. Who is let in by address cannot be told from here.
fn is_restricted(block: &[Directive]) -> bool {
    let wants_password = argument(block, "auth_basic").is_some_and(|realm| realm != "off");
    let is_open_to_some = has(block, &["allow"]) && argument(block, "satisfy") == Some("any");
    let is_closed = find(block, "deny").any(|deny| deny.args == ["all"]) && !has(block, &["allow"]);
    (wants_password && !is_open_to_some) || is_closed
}

/// A path that lies in a location, where one can be told.
fn url(location: &Directive) -> Option<String> {
    match &location.args.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [path] | ["=" | "^~", path] if path.starts_with('/') => Some((*path).to_owned()),
        _ => None,
    }
}

/// Adds the files that are named anywhere; `$` in the name of a certificate stands for whatever is there.
fn files(block: &[Directive], tree: &Tree, dir: &str, finding: &mut Finding) {
    for directive in block {
        for word in &directive.args {
            if word.starts_with('/') && word.contains('$') && directive.name.contains("_certificate") {
                tree.matching(&any(word)).iter().for_each(|file| finding.files_from(tree, dir, &directive.name, file));
            } else {
                finding.files_from(tree, dir, &directive.name, word);
            }
        }
        files(&directive.block, tree, dir, finding);
    }
}

/// `/srv/tls/*.pem`, of `/srv/tls/$ssl_server_name.pem` and of `/srv/tls/${name}.pem`.
fn any(word: &str) -> String {
    let mut parts = word.split('$');
    let first = parts.next().unwrap_or_default().to_owned();
    parts.fold(first, |pattern, part| {
        let name = |c: char| c.is_ascii_alphanumeric() || c == '_';
        let rest = match part.strip_prefix('{') {
            Some(braced) => braced.split_once('}').map_or("", |(_, rest)| rest),
            None => part.trim_start_matches(name),
        };
        format!("{pattern}*{rest}")
    })
}

#[cfg(test)]
mod tests;
