//! The configuration of Apache: a directive a line, and sections.

use super::{Content, Refusal, Site, Sites};
use crate::{
    here,
    service::Tree,
    services::{daemon::Daemon, found::Finding},
};
use std::collections::BTreeMap;

pub(super) const DAEMON: Daemon = Daemon { name: "apache", programs: &["apache2"], units: &["apache2.service"] };
/// The most lines, files included in all.
const MAX_LINES: usize = 200_000;
/// The most files.
const MAX_FILES: usize = 1000;
/// How deep files may lie in each other.
const MAX_DEPTH: usize = 16;
/// How deep sections may lie in each other.
const MAX_SECTIONS: usize = 32;
/// How long a word may become by what is put into it, in bytes.
const MAX_WORD: usize = 4096;
/// How long the lines of a macro may become, in bytes.
const MAX_MACRO: usize = 100_000;
/// The most virtual hosts, and the most ports, that are looked at.
const MAX_HOSTS: usize = 1000;
/// Modules that are part of Debian's program and never loaded.
const BUILT_IN: [&str; 6] = ["core", "so", "http", "log_config", "unixd", "version"];

/// What the directives of modules that are not always loaded begin with.
const OF_MODULES: [(&str, &str); 8] = [
    ("ssl", "ssl"),
    ("rewrite", "rewrite"),
    ("proxy", "proxy"),
    ("header", "headers"),
    ("expires", "expires"),
    ("md", "md"),
    ("wsgi", "wsgi"),
    ("dav", "dav"),
];

/// A directive, and the sections that it stands in, outermost first: `["VirtualHost *:80", "Location /admin"]`.
#[derive(Clone, Debug, PartialEq)]
struct Directive {
    within: Vec<Vec<String>>,
    words: Vec<String>,
}

impl Directive {
    fn is(&self, name: &str) -> bool {
        self.words[0].eq_ignore_ascii_case(name)
    }

    fn arg(&self, index: usize) -> &str {
        self.words.get(index + 1).map_or("", String::as_str)
    }
}

/// What is served by the configuration in `dir`; `None` where there is none.
pub(super) fn sites(tree: &Tree, dir: &str, finding: &mut Finding) -> anyhow::Result<Option<Sites>> {
    let main = format!("{dir}/apache2.conf");
    let Some(text) = tree.read(&main)? else { return Ok(None) };
    let mut reader = Reader {
        tree,
        dir,
        files: 0,
        lines: 0,
        within: vec![],
        modules: vec![],
        defined: BTreeMap::new(),
        macros: BTreeMap::new(),
        included: vec![],
        all: vec![],
    };
    reader.read(&text, 0)?;
    let all = reader.all;
    let mut files = reader.included;
    let named = all.iter().filter(|directive| NAMED.iter().any(|name| directive.is(name)));
    let at = |file: &str| if file.starts_with('/') { file.to_owned() } else { format!("{dir}/{file}") };
    files.extend(named.map(|directive| directive.arg(0)).filter(|file| !file.contains(['$', '%', ':'])).map(at));
    // Each <VirtualHost> is another, even where two have the same words.
    let mut hosts: Vec<&[String]> = vec![];
    for directive in all.iter().filter(|directive| directive.is("<VirtualHost")).take(MAX_HOSTS) {
        hosts.push(&directive.words[1..]);
    }
    let listens = all.iter().filter(|directive| directive.is("Listen"));
    let listens: Vec<(String, u16)> = listens.filter_map(|listen| address(listen.arg(0))).take(MAX_HOSTS).collect();
    let outside: Vec<&Directive> = all.iter().filter(|directive| !is_in(directive, "VirtualHost")).collect();
    let mut sites = vec![];
    for (number, addresses) in hosts.iter().enumerate() {
        let marker = number.to_string();
        let own: Vec<&Directive> = all
            .iter()
            .filter(|directive| {
                directive.within.iter().any(|section| section[0] == "VirtualHost" && section.last() == Some(&marker))
            })
            .collect();
        let at: Vec<(String, u16)> = addresses.iter().filter_map(|at| address(at)).collect();
        for (listened, port) in &listens {
            let Some((host, _)) = at.iter().find(|(_, at)| at == port || *at == 0) else { continue };
            // A host of one address is met there alone, wherever else the server listens.
            let is_any = ["", "*", "_default_", "0.0.0.0", "[::]"].contains(&host.as_str());
            let listen = (if is_any { listened.clone() } else { host.clone() }, *port);
            let new = site(&listen, &own, &outside);
            let same = |known: &&Site| known.port == new.port && known.address == new.address;
            // By no name, or by one that another has already, clients meet the first.
            let is_met = match &new.name {
                None => !sites.iter().any(|known| same(&known)),
                name => !sites.iter().any(|known: &Site| same(&known) && known.name == *name),
            };
            if is_met {
                sites.push(new);
            } else {
                finding.note(format!("a virtual host at port {port} has no name by which it could be asked"));
            }
        }
    }
    // Where no virtual host is, the server as a whole answers.
    let is_free = |listen: &&(String, u16)| !sites.iter().any(|site: &Site| site.port == listen.1);
    let whole: Vec<Site> = listens.iter().filter(is_free).map(|listen| site(listen, &[], &outside)).collect();
    sites.extend(whole);
    Ok(Some(Sites { sites, files }))
}

fn is_in(directive: &Directive, section: &str) -> bool {
    directive.within.iter().any(|within| within[0].eq_ignore_ascii_case(section))
}

fn site((address, port): &(String, u16), own: &[&Directive], outside: &[&Directive]) -> Site {
    let top = |name: &str| {
        let find = |from: &[&Directive]| {
            from.iter()
                .find(|directive| directive.is(name) && !is_in(directive, "Directory") && !is_in(directive, "Location"))
                .map(|directive| directive.arg(0).to_owned())
        };
        find(own).or_else(|| find(outside))
    };
    let root = top("DocumentRoot");
    let is_passed_on = own.iter().any(|directive| takes_elsewhere(directive));
    let every: Vec<&Directive> = own.iter().chain(outside).copied().collect();
    // Whoever is sent elsewhere is so before anybody looks who may read.
    let closed = every.iter().filter(|_| !is_passed_on).filter_map(|directive| closed(directive, root.as_deref()));
    let mut restricted: Vec<String> = closed.collect();
    restricted.sort();
    restricted.dedup();
    let content = match root {
        Some(root)
            if !is_passed_on
                && !restricted.iter().any(|path| path == "/")
                && !is_limited(&every, &root)
                && super::is_plain(&root) =>
        {
            Content::Files(root)
        }
        _ => Content::Any,
    };
    let tls = own.iter().any(|directive| directive.is("SSLEngine") && directive.arg(0).eq_ignore_ascii_case("on"));
    let name = own.iter().find(|directive| directive.is("ServerName")).map(|directive| directive.arg(0).to_owned());
    let name = name.map(|name| {
        let name = name.split_once("://").map_or(name.as_str(), |(_, name)| name);
        name.split(':').next().unwrap_or_default().to_ascii_lowercase()
    });
    let name = name.filter(|name| !name.contains(['*', '$']) && !name.is_empty());
    Site {
        port: *port,
        address: address.clone(),
        is_of_six: false,
        tls,
        name,
        content,
        // Who shows no certificate gets no further than the handshake.
        refusal: top("SSLVerifyClient")
            .is_some_and(|who| tls && who.eq_ignore_ascii_case("require"))
            .then_some(Refusal::Handshake),
        restricted,
        certificate: top("SSLCertificateFile"),
        wants_proxy: own.iter().any(|one| one.is("RemoteIPProxyProtocol") && one.arg(0).eq_ignore_ascii_case("on")),
        is_plain_h2: false,
    }
}

/// Files that Apache cannot do without.
const NAMED: [&str; 10] = [
    "SSLCertificateFile",
    "SSLCertificateKeyFile",
    "SSLCertificateChainFile",
    "SSLCACertificateFile",
    "SSLCARevocationFile",
    "SSLProxyCACertificateFile",
    "SSLProxyMachineCertificateFile",
    "SSLCADNRequestFile",
    "AuthUserFile",
    "AuthGroupFile",
];
/// What sends requests elsewhere, whichever they are.
const ALWAYS: [&str; 11] = [
    "RewriteRule",
    "RedirectMatch",
    "ProxyPassMatch",
    "AliasMatch",
    "ScriptAliasMatch",
    "WSGIScriptAliasMatch",
    "Action",
    // What is sent is changed on its way.
    "Substitute",
    "SetOutputFilter",
    "ExtFilterDefine",
    "LuaOutputFilter",
];
/// What does so for all below a path.
const BELOW: [&str; 7] =
    ["ProxyPass", "Redirect", "RedirectPermanent", "RedirectTemp", "Alias", "ScriptAlias", "WSGIScriptAlias"];

/// Whether requests for files of the document root may be answered by something else.
fn takes_elsewhere(directive: &Directive) -> bool {
    let is_whole = (0..2).any(|index| directive.arg(index) == "/");
    // Within <Location /> the path is left out.
    let in_root = directive
        .within
        .iter()
        .any(|section| section[0].eq_ignore_ascii_case("Location") && section.get(1).is_some_and(|path| path == "/"));
    let is_conditional = ["If", "ElseIf", "Else"].iter().any(|section| is_in(directive, section));
    let is_one = |names: &[&str]| names.iter().any(|name| directive.is(name));
    is_one(&ALWAYS) || (is_one(&BELOW) && (is_whole || in_root || is_conditional)) || is_conditional
}

/// Whether not everybody may read what lies in the document root: by address, by certificate, or by anything else than being somebody.
fn is_limited(all: &[&Directive], root: &str) -> bool {
    let asks_who = all.iter().any(|one| {
        one.is("SSLVerifyClient")
            && !one.arg(0).eq_ignore_ascii_case("none")
            && !is_in(one, "Location")
            && !is_in(one, "Directory")
    });
    let root = root.trim_end_matches('/');
    // How near a section is to the document root: one of the path of all is the last word.
    let near = |directive: &Directive| -> Option<usize> {
        let section =
            directive.within.iter().rfind(|section| !section[0].starts_with("Require") && section[0] != "VirtualHost");
        let Some(section) = section else { return Some(0) };
        let of = section.get(1).map(|path| path.trim_end_matches('/'))?;
        match section[0].to_ascii_lowercase().as_str() {
            "location" if of.is_empty() => Some(usize::MAX),
            "directory" if root == of || of.is_empty() || root.starts_with(&format!("{of}/")) => Some(of.len() + 1),
            _ => None,
        }
    };
    let rules: Vec<(usize, &&Directive)> = all
        .iter()
        .filter(|one| ["Require", "Deny", "Allow"].iter().any(|name| one.is(name)))
        .filter_map(|one| Some((near(one)?, one)))
        .collect();
    let nearest = rules.iter().map(|(near, _)| *near).max();
    let says = |one: &Directive| one.words[1..].join(" ").to_ascii_lowercase();
    let is_open = |one: &Directive| match one.words[0].to_ascii_lowercase().as_str() {
        "require" => says(one) == "all granted",
        "allow" => says(one) == "from all",
        _ => false,
    };
    asks_who || rules.iter().any(|(near, one)| Some(*near) == nearest && !is_open(one))
}

/// The path that this directive keeps closed to who has no password, where one can be told.
fn closed(directive: &Directive, root: Option<&str>) -> Option<String> {
    let args = (directive.arg(0).to_ascii_lowercase(), directive.arg(1).to_ascii_lowercase());
    let wants = matches!((args.0.as_str(), args.1.as_str()), ("valid-user" | "user" | "group", _) | ("all", "denied"));
    if !directive.is("Require") || !wants || is_in(directive, "RequireAny") || is_in(directive, "LimitExcept") {
        return None;
    }
    let section = directive.within.iter().rfind(|section| !section[0].starts_with("Require"))?;
    let of = section.get(1).map(|path| path.trim_end_matches('/'))?;
    match section[0].to_ascii_lowercase().as_str() {
        "location" if of.is_empty() => Some("/".into()),
        "location" if of.starts_with('/') => Some(of.to_owned()),
        // What Debian's own configuration has.
        "filesmatch" if of == r"^\.ht" => Some("/.htaccess".into()),
        "directory" => match of.strip_prefix(root?.trim_end_matches('/'))? {
            "" => Some("/".into()),
            below if below.starts_with('/') => Some(format!("{below}/")),
            _ => None,
        },
        _ => None,
    }
}

/// `80`, `*:80`, `192.0.2.1:80`, `[::]:80`, `_default_:443`; the port is 0 for `*` and a name alone.
fn address(text: &str) -> Option<(String, u16)> {
    if let Ok(port) = text.parse() {
        return Some((String::new(), port));
    }
    match text.rsplit_once(':') {
        Some((_, "*")) => Some((String::new(), 0)),
        Some((address, port)) if !port.ends_with(']') => Some((address.into(), port.parse().ok()?)),
        _ => Some((text.into(), 0)),
    }
}

struct Reader<'t> {
    tree: &'t Tree,
    dir: &'t str,
    files: usize,
    lines: usize,
    within: Vec<Vec<String>>,
    modules: Vec<String>,
    defined: BTreeMap<String, String>,
    /// By name in lower case: parameters, and lines.
    macros: BTreeMap<String, (Vec<String>, String)>,
    included: Vec<String>,
    all: Vec<Directive>,
}

impl Reader<'_> {
    fn read(&mut self, text: &str, depth: usize) -> anyhow::Result<()> {
        anyhow::ensure!(depth <= MAX_DEPTH, "Apache's files lie more than {MAX_DEPTH} deep in each other");
        let text = text.replace("\\\n", " ");
        let mut lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
        while let Some(line) = lines.next() {
            self.lines += 1;
            anyhow::ensure!(self.lines <= MAX_LINES, "Apache's configuration has more than {MAX_LINES} lines");
            if let Some(head) = line.get(..7).filter(|head| head.eq_ignore_ascii_case("<macro ")) {
                let words = words(line[head.len()..].trim_end_matches('>'));
                let body: Vec<&str> =
                    lines.by_ref().take_while(|line| !line.to_ascii_lowercase().starts_with("</macro")).collect();
                if let Some((name, parameters)) = words.split_first() {
                    self.macros.insert(name.to_ascii_lowercase(), (parameters.to_vec(), body.join("\n")));
                }
            } else if line.starts_with("</") {
                self.within.pop();
            } else if let Some(section) = line.strip_prefix('<') {
                anyhow::ensure!(
                    self.within.len() < MAX_SECTIONS,
                    "Apache's sections lie more than {MAX_SECTIONS} deep in each other"
                );
                self.open(&words(section.trim_end_matches('>')));
            } else if !self.within.iter().any(|section| section[0] == "skipped") {
                self.directive(&words(line), depth)?;
            }
        }
        Ok(())
    }

    fn open(&mut self, words: &[String]) {
        let mut section = words.iter().map(|word| self.substituted(word)).collect::<Vec<_>>();
        if section.is_empty() {
            section.push("skipped".into());
        }
        let of = section.get(1).map(String::as_str).unwrap_or_default();
        let (is_not, of) = of.strip_prefix('!').map_or((false, of), |of| (true, of));
        let is_there = match section[0].to_ascii_lowercase().as_str() {
            "ifmodule" => {
                let name = of.trim_start_matches("mod_").trim_end_matches(".c").trim_end_matches("_module");
                BUILT_IN.contains(&name) || self.modules.iter().any(|module| module == name)
            }
            "ifdefine" => self.defined.contains_key(of),
            // What a directive's name begins with says of which module it is.
            "ifdirective" => {
                let of = of.to_ascii_lowercase();
                let module = OF_MODULES.iter().find(|(start, _)| of.starts_with(start)).map(|(_, module)| *module);
                module.is_none_or(|module| self.modules.iter().any(|known| known == module))
            }
            "iffile" => {
                self.tree.exists(&if of.starts_with('/') { of.to_owned() } else { format!("{}/{of}", self.dir) })
            }
            _ => !is_not,
        };
        if is_there == is_not {
            section = vec!["skipped".into()];
        } else if section[0].eq_ignore_ascii_case("VirtualHost")
            && !self.within.iter().any(|section| section[0] == "skipped")
        {
            let mut words = section;
            words[0] = "<VirtualHost".into();
            let number = self.all.iter().filter(|directive| directive.is("<VirtualHost")).count();
            self.all.push(Directive { within: vec![], words });
            section = vec!["VirtualHost".into(), number.to_string()];
        }
        self.within.push(section);
    }

    fn directive(&mut self, words: &[String], depth: usize) -> anyhow::Result<()> {
        let words: Vec<String> = words.iter().map(|word| self.substituted(word)).collect();
        let Some(name) = words.first().map(|name| name.to_ascii_lowercase()) else { return Ok(()) };
        let arg = words.get(1).cloned().unwrap_or_default();
        match name.as_str() {
            "loadmodule" => self.modules.push(arg.trim_end_matches("_module").into()),
            "undefine" => drop(self.defined.remove(&arg)),
            "use" => {
                let Some((parameters, mut body)) = self.macros.get(&arg.to_ascii_lowercase()).cloned() else {
                    return Ok(());
                };
                // The longest first: one may be the beginning of another.
                let mut pairs: Vec<(&String, &String)> = parameters.iter().zip(words.iter().skip(2)).collect();
                pairs.sort_by_key(|(name, _)| std::cmp::Reverse(name.len()));
                for (name, value) in pairs {
                    anyhow::ensure!(
                        body.len() <= MAX_MACRO && value.len() <= MAX_WORD,
                        "Apache's macro {arg} becomes too long"
                    );
                    body = body.replace(name.as_str(), value);
                }
                self.read(&body, depth + 1)?;
            }
            "define" => drop(self.defined.insert(arg, words.get(2).cloned().unwrap_or_default())),
            "include" | "includeoptional" => {
                let pattern = if arg.starts_with('/') { arg } else { format!("{}/{arg}", self.dir) };
                for path in self.tree.matching(&pattern) {
                    self.include(&path, depth + 1)?;
                }
            }
            _ => self.all.push(Directive { within: self.within.clone(), words }),
        }
        Ok(())
    }

    /// Reads a file, or all that lie in a directory and below.
    fn include(&mut self, path: &str, depth: usize) -> anyhow::Result<()> {
        anyhow::ensure!(depth <= MAX_DEPTH, "Apache's files lie more than {MAX_DEPTH} deep in each other");
        self.files += 1;
        self.included.push(path.to_owned());
        anyhow::ensure!(self.files <= MAX_FILES, "Apache includes more than {MAX_FILES} files");
        if !here::below(self.tree.path(), path).is_dir() {
            let text = self.tree.read(path)?.unwrap_or_default();
            return self.read(&text, depth);
        }
        self.tree.names(path).iter().try_for_each(|name| self.include(&format!("{path}/{name}"), depth + 1))
    }

    /// `${NAME}` is what was defined by that name; what was not stays as it is.
    fn substituted(&self, word: &str) -> String {
        let (mut whole, mut rest) = (String::new(), word);
        while let Some((before, after)) = rest.split_once("${") {
            whole.push_str(before);
            let end = after.find(['}', '$']).filter(|end| after[*end..].starts_with('}'));
            let value = end.and_then(|end| Some((self.defined.get(&after[..end])?, end + 1)));
            match value.filter(|(value, _)| whole.len() + value.len() <= MAX_WORD) {
                Some((value, end)) => {
                    whole.push_str(value);
                    rest = &after[end..];
                }
                None => {
                    whole.push_str("${");
                    rest = after;
                }
            }
        }
        whole + rest
    }
}

/// Words, of which some stand in quotes.
fn words(line: &str) -> Vec<String> {
    let (mut words, mut rest) = (vec![], line.trim());
    while let Some(first) = rest.chars().next() {
        let (word, after) = match first {
            '"' | '\'' => rest[1..].split_once(first).unwrap_or((&rest[1..], "")),
            _ => rest.split_once(char::is_whitespace).unwrap_or((rest, "")),
        };
        words.push(word.to_owned());
        rest = after.trim_start();
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::here::testing::Server;

    fn read(files: &[(&str, &str)]) -> anyhow::Result<Option<Sites>> {
        sites(&Server::with(files).tree(), "/etc/apache2", &mut Finding::default())
    }

    const MAIN: &str = "IncludeOptional mods-enabled/*.load\nInclude ports.conf\nIncludeOptional sites-enabled/*.conf\n\
        <FilesMatch \"^\\.ht\">\n  Require all denied\n</FilesMatch>\n<Directory />\n  Require all denied\n</Directory>\n<Directory /srv>\n  Require all granted\n</Directory>\n";
    const PORTS: &str = "Listen 80\n<IfModule ssl_module>\n  Listen 443\n</IfModule>\n<IfModule mod_gnutls.c>\n  Listen 444\n</IfModule>\n";

    #[test]
    fn virtual_hosts_are_found_with_what_they_serve_and_what_they_keep_closed() {
        let sites = read(&[
            ("etc/apache2/apache2.conf", MAIN),
            ("etc/apache2/ports.conf", PORTS),
            ("etc/apache2/mods-enabled/ssl.load", "LoadModule ssl_module /usr/lib/apache2/modules/mod_ssl.so\n"),
            (
                "etc/apache2/sites-enabled/a.conf",
                "Define top /srv/shop\n<VirtualHost *:80>\n  ServerName shop.example:80\n  DocumentRoot ${top}\n\
                <Directory /srv/shop/staff>\n AuthType Basic\n Require valid-user\n </Directory>\n</VirtualHost>\n\
                <VirtualHost *:443>\n  DocumentRoot \"/srv/the shop\"\n SSLEngine on\n SSLCertificateFile /etc/ssl/shop.pem\n\
                <Location /admin>\n <RequireAll>\n Require user \\\n anne\n </RequireAll>\n </Location>\n</VirtualHost>\n\
                <VirtualHost *:80>\n  ServerName old.example\n DocumentRoot /srv/old\n Redirect permanent / https://shop.example/\n</VirtualHost>\n",
            ),
        ]);
        let sites = sites.unwrap().unwrap();
        let [plain, tls, old] = &sites.sites[..] else { panic!("{sites:?}") };
        assert_eq!((plain.port, plain.tls, plain.name.as_deref()), (80, false, Some("shop.example")));
        assert_eq!(plain.content, Content::Files("/srv/shop".into()));
        assert_eq!(plain.restricted, ["/.htaccess", "/staff/"]);
        assert_eq!((tls.port, tls.tls, &tls.content), (443, true, &Content::Files("/srv/the shop".into())));
        assert_eq!(tls.restricted, ["/.htaccess", "/admin"]);
        assert_eq!((old.name.as_deref(), &old.content), (Some("old.example"), &Content::Any));
        let included = ["mods-enabled/ssl.load", "ports.conf", "sites-enabled/a.conf"];
        let files = included.map(|file| format!("/etc/apache2/{file}")).into_iter().chain(["/etc/ssl/shop.pem".into()]);
        assert_eq!(sites.files, files.collect::<Vec<_>>());
    }

    fn all(text: &str) -> Vec<(String, Content, Vec<String>)> {
        let sites = read(&[("etc/apache2/apache2.conf", text)]).unwrap().unwrap().sites;
        let name = |site: &Site| format!("{}:{}", site.name.as_deref().unwrap_or("*"), site.port);
        sites.into_iter().map(|site| (name(&site), site.content, site.restricted)).collect()
    }

    #[test]
    fn pages_that_not_everybody_gets_are_not_asked_for() {
        let host = |more: &str| {
            let text = format!(
                "Listen 80\n<FilesMatch \"^\\.ht\">\n Require all denied\n</FilesMatch>\n<Directory />\n Require all denied\n</Directory>\n\
                <Directory /srv>\n Require all granted\n</Directory>\n<VirtualHost *:80>\n ServerName a.example\n DocumentRoot /srv/a\n{more}\n</VirtualHost>\n"
            );
            all(&text).remove(0)
        };
        let open =
            host("<Directory /srv/a/staff>\n Require ip 10.0.0.0/8\n</Directory>\nAlias /icons /usr/share/icons\n");
        assert_eq!((open.1, open.2), (Content::Files("/srv/a".into()), vec!["/.htaccess".to_owned()]));
        for limit in [
            "<Location />\n Require ip 10.0.0.0/8\n</Location>",
            "<Directory /srv/a/>\n Require host a.example\n</Directory>",
            "<Directory /srv/a>\n Order deny,allow\n Deny from all\n Allow from 10.0.0.0/8\n</Directory>",
            "SSLVerifyClient require",
            "Alias / /srv/other/",
            "<Location />\n ProxyPass http://127.0.0.1:8080/\n</Location>",
            "<If \"%{HTTPS} != 'on'\">\n Redirect permanent https://a.example/\n</If>",
        ] {
            assert_eq!(host(limit).1, Content::Any, "{limit}");
        }
        let sent = host("Redirect permanent / https://a.example/");
        assert_eq!((sent.1, sent.2), (Content::Any, vec![]), "it is sent elsewhere before anybody looks who may read");
    }

    #[test]
    fn macros_and_conditions_are_followed_and_each_host_is_met_once() {
        let text = "Listen 80\n<Macro Host $name $name2>\n<VirtualHost *:80>\nServerName $name\nDocumentRoot /srv/$name2\n</VirtualHost>\n</Macro>\n\
            Use Host a.example one\nUse host http://b.example:80 two\nUndefMacro Host\n\
            <IfFile /etc/gone>\nListen 81\n</IfFile>\n<VirtualHost *:80>\nDocumentRoot /srv/never\n</VirtualHost>\n\
            <VirtualHost *:80>\nServerName A.example\nServerName a.example\n</VirtualHost>\n";
        let sites = all(text);
        let shown: Vec<(&str, &Content)> = sites.iter().map(|(name, content, _)| (name.as_str(), content)).collect();
        let files = ["/srv/one", "/srv/two"].map(|root| Content::Files(root.into()));
        assert_eq!(shown[..2], [("a.example:80", &files[0]), ("b.example:80", &files[1])]);
        assert!(!shown.iter().any(|(name, _)| *name == "*:80" || name.ends_with(":81")), "{shown:?}");
    }

    #[test]
    fn a_port_of_no_virtual_host_is_the_server_s_and_who_shows_no_certificate_is_refused() {
        let sites = read(&[(
            "etc/apache2/apache2.conf",
            "Listen 80\nListen 443\n<VirtualHost *:443>\nServerName a.example\nSSLEngine on\nSSLVerifyClient require\n</VirtualHost>\n\
             <VirtualHost *:444>\n</VirtualHost>\n",
        )]);
        let sites = sites.unwrap().unwrap().sites;
        let shown: Vec<_> = sites.iter().map(|site| (site.port, site.name.as_deref(), site.refusal)).collect();
        assert_eq!(shown, [(443, Some("a.example"), Some(Refusal::Handshake)), (80, None, None)]);
    }

    #[test]
    fn a_directive_is_there_with_its_module() {
        let ports = |module: &str| {
            let main = format!(
                "{module}\n<IfDirective SSLEngine>\nListen 443\n</IfDirective>\n<IfDirective !SSLEngine>\nListen 80\n</IfDirective>\n"
            );
            let sites = read(&[("etc/apache2/apache2.conf", &main)]).unwrap().unwrap().sites;
            sites.iter().map(|site| site.port).collect::<Vec<_>>()
        };
        assert_eq!(ports(""), [80]);
        assert_eq!(ports("LoadModule ssl_module x.so"), [443]);
    }

    #[test]
    fn a_directory_is_included_with_all_that_is_in_it() {
        let sites = read(&[
            ("etc/apache2/apache2.conf", "Listen 80\nInclude more\n"),
            ("etc/apache2/more/a", "<VirtualHost *:80>\nServerName a.example\n</VirtualHost>\n"),
            ("etc/apache2/more/b/c.conf", "<VirtualHost *:80>\nServerName c.example\n</VirtualHost>\n"),
        ]);
        let names: Vec<_> = sites.unwrap().unwrap().sites.into_iter().map(|site| site.name).collect();
        assert_eq!(names, [Some("a.example".to_owned()), Some("c.example".to_owned())]);
    }

    #[test]
    fn a_file_that_includes_itself_is_told() {
        let error = read(&[("etc/apache2/apache2.conf", "Include apache2.conf\n")]).unwrap_err();
        assert!(error.to_string().contains("16 deep"), "{error}");
        assert!(read(&[]).unwrap().is_none());
        let error = read(&[("etc/apache2/apache2.conf", &"<a>\n".repeat(100))]).unwrap_err();
        assert!(error.to_string().contains("32 deep"), "{error}");
    }

    #[test]
    fn what_is_defined_is_put_in_once_and_makes_no_word_endless() {
        let root = |value: &str, root: &str| {
            let main = format!("Listen 80\nDefine a {value}\nDefine b ${{a}}/b\nDocumentRoot {root}\n");
            read(&[("etc/apache2/apache2.conf", &main)]).unwrap().unwrap().sites.remove(0).content
        };
        assert_eq!(root("/srv", "${b}/c"), Content::Files("/srv/b/c".into()));
        assert_eq!(root("/srv", "/x${c"), Content::Any);
        let long = "/x".repeat(1500);
        assert_eq!(root(&long, &"${a}".repeat(100_000)), Content::Any);
    }
}
