//! web: what nginx and Apache serve, by their own configuration.
//!
//! ```text
//!  nginx.rs, apache.rs   configuration ─► Site: port, name, document root, what is restricted
//!  here                  Sites ─► Found: an instance each, a test page in each document root
//!  root.rs               where that lies, links followed
//!  exercise.rs           the page byte for byte, restricted pages closed, a dynamic page, the certificate's end
//! ```

mod apache;
mod apart;
mod configured;
mod exercise;
mod nginx;

use self::{
    apart::{Apart, NOT_BY},
    configured::{ALIASES, ANSWERS, FILTER, KEYS, LIMITS, MASKED, Status},
};
use super::{
    certificate,
    daemon::Daemon,
    found::{Finding, Six, beside, reached},
    served::Served,
};
use crate::service::{BOUND, MISSING, Service, Tree};
use atlas_model::verify::{Found, Instance, TestData};
use std::collections::BTreeMap;

pub(super) const SERVICE: Service = Service {
    name: "web",
    about: "nginx and Apache serve static and dynamic pages, keep restricted ones closed, with certificates that last",
    interval: 60,
    deadline: 20,
    find,
    verify: exercise::verify,
};

/// The page that is placed in each document root. Names that begin with a dot are often not served.
const PAGE: &str = "atlas-verify.html";
/// The most restricted paths that are tried of one site.
const MAX_RESTRICTED: usize = 10;

/// What a configuration serves.
#[derive(Debug, Default)]
struct Sites {
    sites: Vec<Site>,
    /// The addresses that have sites of their own, each with the port: who comes by one of them meets no site of all addresses.
    apart: Vec<(String, u16)>,
    /// What it names besides: certificates, keys, accounts.
    files: Vec<String>,
}

/// The most names of one site, besides the one that it is asked by.
const MAX_ALIASES: usize = 10;

/// One server name at one port.
#[derive(Debug)]
struct Site {
    port: u16,
    /// The address, where it listens on one only.
    address: String,
    /// Whether it listens on IPv6 alone.
    is_of_six: bool,
    tls: bool,
    name: Option<String>,
    content: Content,
    /// Names besides, for which its certificate has to be.
    aliases: Vec<String>,
    restricted: Vec<String>,
    /// Those of them for which an error page answers as it likes.
    masked: Vec<String>,
    refusal: Option<Refusal>,
    /// What is answered to everybody, where that is an error.
    answers: Option<Status>,
    /// The statuses by which whoever asks too often is turned away.
    limits: Vec<u16>,
    /// The statuses with which a filter may turn a request away.
    filter: Vec<u16>,
    /// What it shows over TLS.
    certificate: Option<String>,
    /// Whether it shows one of several, by the kind of key that a client takes.
    has_several_keys: bool,
    /// Whether a connection has to begin with the PROXY protocol, as those of a balancer do.
    wants_proxy: bool,
    /// Whether HTTP/2 is spoken in plain, and perhaps nothing else.
    is_plain_h2: bool,
}

/// How a site turns people away, as it is configured to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Refusal {
    /// The connection ends without an answer.
    Empty,
    /// TLS is not agreed on.
    Handshake,
    /// Who shows no certificate is refused by the page, or gets no answer.
    Certificate,
    /// Some get no answer, and who those are cannot be told.
    Perhaps,
}

impl Refusal {
    /// As the option `refuses` says it.
    fn word(self) -> &'static str {
        match self {
            Refusal::Empty => "empty",
            Refusal::Handshake => "handshake",
            Refusal::Certificate => "certificate",
            Refusal::Perhaps => "perhaps",
        }
    }
}

/// What can be asked for.
#[derive(Clone, Debug, PartialEq)]
enum Content {
    /// Files in this document root.
    Files(String),
    /// Something: an application, a redirection, a password first.
    Any,
}

/// The names besides that clients of a site come by over TLS.
fn tls_names(site: &Site) -> String {
    let all: Vec<&str> = site.aliases.iter().map(String::as_str).filter(|_| site.tls).take(MAX_ALIASES).collect();
    all.join(" ")
}

impl Site {
    /// What it answers because it is configured to.
    fn rest(&self, aliases: String) -> impl Iterator<Item = (String, String)> {
        let words = |codes: &[u16]| codes.iter().map(u16::to_string).collect::<Vec<_>>().join(" ");
        let masked: Vec<&str> = self.masked.iter().map(String::as_str).filter(|path| !path.contains(' ')).collect();
        let all = [
            (ALIASES, aliases),
            (ANSWERS, self.answers.map(Status::words).unwrap_or_default()),
            (LIMITS, words(&self.limits)),
            (FILTER, words(&self.filter)),
            (MASKED, masked.join(" ")),
        ];
        all.into_iter().filter(|(_, value)| !value.is_empty()).map(|(key, value)| (key.to_owned(), value))
    }
}

/// Whether a document root is a path, and no pattern with variables.
fn is_plain(root: &str) -> bool {
    root.starts_with('/') && !root.contains(['$', '%']) && !root.split('/').any(|name| name == "..")
}

/// The test page of a document root. It names the root, so that a site that shows another's is found out.
fn page(root: &str) -> String {
    let safe = |c: char| if c.is_ascii_alphanumeric() || "/._- ".contains(c) { c } else { '_' };
    format!("<!DOCTYPE html><title>ATLAS</title><p>{}\n", root.chars().map(safe).collect::<String>())
}

fn find(tree: &Tree) -> anyhow::Result<Found> {
    let mut finding = Finding::default();
    let nginx = tree.installed("nginx", "/etc/nginx");
    let apache = tree.installed("apache", "/etc/apache2");
    type Read = fn(&Tree, &str, &mut Finding) -> anyhow::Result<Option<Sites>>;
    let servers: [(&str, &Daemon, Read); 2] =
        [(nginx, &nginx::DAEMON, nginx::sites), (apache, &apache::DAEMON, apache::sites)];
    let mut roots = BTreeMap::new();
    for (dir, daemon, read) in servers {
        if !daemon.is_there(tree) {
            continue;
        }
        match read(tree, dir, &mut finding) {
            Ok(Some(sites)) => take(&mut finding, tree, dir, sites, &mut roots),
            Ok(None) => (),
            Err(error) => finding.problem(format!("{dir}: {}", atlas_cli::in_one_line(&error))),
        }
    }
    Ok(finding.done())
}

/// `roots` has, for each directory that is served, the first document root that leads to it.
fn take(finding: &mut Finding, tree: &Tree, dir: &str, sites: Sites, roots: &mut BTreeMap<String, String>) {
    finding.path(tree, dir);
    for file in sites.files {
        if file.starts_with('/') {
            finding.path(tree, &file);
        }
    }
    let mut instances = vec![];
    // Who listens on all addresses of a port does not need each to be there.
    let is_open = |site: &&Site| site.address.is_empty() && !site.is_of_six;
    let open: Vec<String> = sites.sites.iter().filter(is_open).map(|site| site.port.to_string()).collect();
    for site in sites.sites {
        let apart = Apart::of(&site, &sites.apart);
        let mut options = BTreeMap::from([("port".to_owned(), site.port.to_string())]);
        if site.tls {
            options.insert("tls".into(), "yes".into());
        }
        if let Some(name) = &site.name {
            options.insert("name".into(), name.clone());
        }
        if let Some(file) = site.certificate.clone().filter(|_| site.tls) {
            let mut known = certificate::options(tree, &file);
            options.extend(known.remove_entry(certificate::ISSUER));
        }
        options.extend(site.rest(tls_names(&site)));
        if site.tls && site.has_several_keys {
            options.insert(KEYS.into(), "several".into());
        }
        if let Some(refusal) = site.refusal {
            options.insert("refuses".into(), refusal.word().into());
        }
        let address = if site.is_of_six { "::" } else { &site.address };
        let six = if site.is_of_six { Six::Alone } else { Six::AndFour };
        let (at, where_to) = reached([address].into_iter(), six);
        options.extend(where_to);
        if site.wants_proxy {
            options.insert("proxy".into(), "yes".into());
        }
        if site.is_plain_h2 {
            options.insert("http2".into(), "plain".into());
        }
        if let Content::Files(root) = &site.content {
            match Served::of(tree, root, PAGE) {
                Ok(root) => {
                    root.links.iter().for_each(|link| finding.link(link));
                    let path = format!("{}/{PAGE}", root.real.trim_end_matches('/'));
                    // One page lies there, whichever way leads to it; its words stay the same after the next release.
                    let named = roots.entry(root.real).or_insert(root.path);
                    finding.place(TestData { path, content: page(named), mode: 0o644, owner: None });
                    options.insert("root".into(), named.clone());
                }
                Err(why) => {
                    finding.note(format!("no test page is asked for in the document root {root}: {why}"));
                    if !tree.exists(root) {
                        options.insert(MISSING.into(), root.clone());
                    }
                }
            }
        }
        if !site.restricted.is_empty() {
            let paths: Vec<&str> =
                site.restricted.iter().map(String::as_str).filter(|path| !path.contains(' ')).collect();
            options.insert("restricted".into(), paths[..paths.len().min(MAX_RESTRICTED)].join(" "));
        }
        let name = format!("{}:{}", site.name.as_deref().unwrap_or("*"), site.port);
        if let Some(apart) = apart {
            instances.push(apart.by_itself(&name, &options));
            options.insert(NOT_BY.into(), apart.addresses.join(" "));
        }
        instances.push(Instance { name, options, at });
    }
    let is_within = |one: &Instance| one.options.contains_key(BOUND) && open.contains(&one.options["port"]);
    let (within, mut instances): (Vec<_>, Vec<_>) = instances.into_iter().partition(is_within);
    beside(&mut instances);
    instances.into_iter().chain(within).for_each(|instance| finding.instance(instance));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_that_listens_on_all_addresses_of_a_port_starts_without_one_of_them() {
        let beside = |at: &str| {
            let text = format!("http {{ server {{ listen 80; }} server {{ listen {at}; server_name a.example; }} }}");
            let server = crate::here::testing::Server::with(&[("etc/nginx/nginx.conf", &text)]);
            let found = find(&server.tree()).unwrap();
            let all = found.instances.iter().find(|one| one.name == "*:80").unwrap();
            all.options.get(crate::service::BESIDE).cloned()
        };
        assert_eq!(beside("192.0.2.7:80"), None);
        assert_eq!(beside("192.0.2.7:81").as_deref(), Some("192.0.2.7"));
    }

    #[test]
    fn a_page_lies_where_a_linked_document_root_leads_to_and_the_links_travel() {
        let server = crate::here::testing::Server::with(&[
            (
                "etc/nginx/nginx.conf",
                "http { server { listen 80; root /srv/app/current; }\n\
                server { listen 81; root /srv/./app/releases/7; }\n\
                server { listen 82; root /srv/gone; } }",
            ),
            ("srv/app/releases/7/index.html", ""),
        ]);
        server.link("/srv/app/releases/7", "srv/app/current");
        let found = find(&server.tree()).unwrap();
        let placed: Vec<_> = found.place.iter().map(|data| (data.path.as_str(), data.content.as_str())).collect();
        let content = page("/srv/app/current");
        assert_eq!(placed, [("/srv/app/releases/7/atlas-verify.html", content.as_str())]);
        assert_eq!(found.paths, ["/etc/nginx", "/srv/app/current"]);
        let roots: Vec<_> = found.instances.iter().map(|one| one.options.get("root").map(String::as_str)).collect();
        assert_eq!(roots, [Some("/srv/app/current"), Some("/srv/app/current"), None]);
        assert!(found.problems.is_empty() && found.notes[0].contains("/srv/gone: it is not there"), "{found:?}");
    }

    #[test]
    fn a_document_root_that_depends_on_the_request_gets_no_page() {
        assert!(is_plain("/srv/the shop"));
        for root in ["/srv/$host", "/srv/%0", "html", "/srv/../etc"] {
            assert!(!is_plain(root), "{root}");
        }
        assert_eq!(page("/srv/a<b>\n"), "<!DOCTYPE html><title>ATLAS</title><p>/srv/a_b__\n");
    }
}
