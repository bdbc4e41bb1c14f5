//! The configuration of Apache: which hosts there are, at which ports.
//!
//! ```text
//!  apache2ctl -t -D DUMP_CONFIG, or text.rs   directives, with the sections that they stand in
//!  here                                       hosts, each at its ports, by its name
//!  htaccess.rs                                what the document root of each says besides
//!  site.rs                                    what comes of a request to one of them
//! ```

mod htaccess;
mod rewrite;
mod scope;
mod site;
mod text;

use super::{Site, Sites};
use crate::{
    service::Tree,
    services::{
        daemon::{self, Daemon},
        found::Finding,
    },
};
use site::{Host, is_in};
use text::{Config, Directive};

pub(super) const DAEMON: Daemon = Daemon { name: "apache", programs: &["apache2"], units: &["apache2.service"] };
/// The module that prints what Apache takes its configuration for: conditions decided, macros used, variables put in. It comes with the program,
/// and hardly anybody loads it.
const INFO: &str = "/usr/lib/apache2/modules/mod_info.so";
/// Apache with the variables that its unit gives it. apache2ctl makes directories first, where it has not run since the boot; this does not.
const ASK: &str = r#". /etc/apache2/envvars; [ -d "$APACHE_RUN_DIR" ] || APACHE_RUN_DIR=/run
exec apache2 $APACHE_ARGUMENTS -C 'LoadModule info_module /usr/lib/apache2/modules/mod_info.so' -t -D DUMP_CONFIG"#;
/// The most virtual hosts, and the most ports, that are looked at.
const MAX_HOSTS: usize = 1000;

/// What is served by the configuration in `dir`; `None` where there is none.
pub(super) fn sites(tree: &Tree, dir: &str, finding: &mut Finding) -> anyhow::Result<Option<Sites>> {
    let main = format!("{dir}/apache2.conf");
    if !tree.exists(&main) {
        return Ok(None);
    }
    let config = config(tree, dir, &main, finding)?;
    for directive in &config.all {
        directive.words[1..].iter().for_each(|word| finding.files_from(tree, dir, &directive.words[0], word));
    }
    let (sites, apart) = hosts(tree, &config, finding);
    Ok(Some(Sites { sites, apart, files: config.files }))
}

/// What Apache says of its configuration, and what it lies in; or what is read there.
fn config(tree: &Tree, dir: &str, main: &str, finding: &mut Finding) -> anyhow::Result<Config> {
    let is_asked = dir == "/etc/apache2" && tree.is_running() && tree.exists(INFO);
    let told = is_asked.then(|| daemon::says(tree, finding, "sh", &["-c", ASK, "apache2"])).flatten();
    // A file in which nothing counts today travels as well.
    let own = text::read(tree, dir, main);
    let Some(told) = told else { return own };
    let mut told = text::told(tree, dir, &told)?;
    if let Ok(own) = own {
        told.files.extend(own.files);
        // Which modules are loaded and what is defined is not told.
        (told.modules, told.defined) = (own.modules, own.defined);
    }
    Ok(told)
}

/// Each host at each port where it is met, and the addresses that have hosts of their own.
fn hosts(tree: &Tree, config: &Config, finding: &mut Finding) -> (Vec<Site>, Vec<At>) {
    let all = &config.all;
    let listens = all.iter().filter(|directive| directive.is("Listen"));
    let listens: Vec<At> = listens.filter_map(|listen| address(listen.arg(0))).take(MAX_HOSTS).collect();
    // At this one it is usual.
    let says_https = |listen: &&Directive| match listen.arg(1) {
        "" => address(listen.arg(0)).is_some_and(|(_, port)| port == 443),
        protocol => protocol.eq_ignore_ascii_case("https"),
    };
    let https: Vec<u16> = all
        .iter()
        .filter(|directive| directive.is("Listen"))
        .filter(says_https)
        .filter_map(|listen| Some(address(listen.arg(0))?.1))
        .collect();
    let outside: Vec<&Directive> = all.iter().filter(|directive| !is_in(directive, "VirtualHost")).collect();
    let mut sites: Vec<Site> = vec![];
    // Each <VirtualHost> is another, even where two have the same words.
    let hosts: Vec<&Directive> = all.iter().filter(|directive| directive.is("<VirtualHost")).take(MAX_HOSTS).collect();
    let at = |host: &Directive| host.words[1..].iter().filter_map(|at| address(at)).collect::<Vec<At>>();
    let every: Vec<At> = hosts.iter().flat_map(|host| at(host)).collect();
    for (number, host) in hosts.iter().enumerate() {
        let marker = number.to_string();
        let is_of_it =
            |section: &Vec<String>| section[0] == "VirtualHost" && section.last().is_some_and(|last| *last == marker);
        let own: Vec<&Directive> = all.iter().filter(|directive| directive.within.iter().any(is_of_it)).collect();
        let host_at = at(host);
        let host = Host::read(tree, config, own, &outside, finding);
        for listened in &listens {
            for met in host_at.iter().filter_map(|at| met(at, listened, &every)) {
                let new = host.site(&met, https.contains(&met.1), finding);
                if is_met(&new, &sites) {
                    sites.push(new);
                } else {
                    finding.note(format!("a virtual host at port {} has no name by which it could be asked", met.1));
                }
            }
        }
    }
    // Where no virtual host is, the server as a whole answers.
    let is_free = |listen: &&At| !sites.iter().any(|site| site.port == listen.1);
    let free: Vec<&At> = listens.iter().filter(is_free).collect();
    if !free.is_empty() {
        let host = Host::read(tree, config, vec![], &outside, finding);
        sites.extend(
            free.into_iter().map(|listen| host.site(listen, https.contains(&listen.1), finding)).collect::<Vec<_>>(),
        );
    }
    let of_one = |(address, port): &At| {
        let ports = listens.iter().map(|(_, port)| *port).filter(move |listened| *port == 0 || port == listened);
        ports.map(|port| (address.clone(), port)).collect::<Vec<At>>()
    };
    (sites, every.iter().filter(|(address, _)| !address.is_empty()).flat_map(of_one).collect())
}

/// An address, empty for all, and a port, 0 for all.
type At = (String, u16);

/// Where a host of this address and port is met, of those who come to where the server listens. A host of the very port comes before one of all
/// ports, and one of the very address before one of all addresses.
fn met(host: &At, listened: &At, every: &[At]) -> Option<At> {
    let (port, is_of_all) = (listened.1, host.0.is_empty());
    let is_of_port = host.1 == port || (host.1 == 0 && !every.contains(&(host.0.clone(), port)));
    let is_there = is_of_all || listened.0.is_empty() || host.0 == listened.0;
    let has_own = |at: &At| at.0 == listened.0 && (at.1 == port || at.1 == 0);
    let is_hidden = is_of_all && !listened.0.is_empty() && every.iter().any(has_own);
    // A host of one address is met there alone, wherever else the server listens.
    let address = if is_of_all { &listened.0 } else { &host.0 };
    (is_of_port && is_there && !is_hidden).then(|| (address.clone(), port))
}

/// Whether clients meet it: by no name, or by one that another has already, they meet the first.
fn is_met(new: &Site, sites: &[Site]) -> bool {
    let mut same = sites.iter().filter(|known| known.port == new.port && known.address == new.address);
    match &new.name {
        None => same.next().is_none(),
        name => !same.any(|known| known.name == *name),
    }
}

/// `80`, `*:80`, `192.0.2.1:80`, `[::]:80`, `_default_:443`; the port is 0 for `*` and a name alone.
fn address(text: &str) -> Option<At> {
    if let Ok(port) = text.parse() {
        return Some((String::new(), port));
    }
    let (address, port) = match text.rsplit_once(':') {
        Some((address, "*")) => (address, 0),
        Some((address, port)) if !port.ends_with(']') => (address, port.parse().ok()?),
        _ => (text, 0),
    };
    let is_of_all = ["*", "_default_", "0.0.0.0", "[::]"].contains(&address);
    Some((if is_of_all { String::new() } else { address.to_ascii_lowercase() }, port))
}

#[cfg(test)]
mod tests;
