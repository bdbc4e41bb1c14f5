//! The configuration of Apache: which hosts there are, at which ports.
//!
//! ```text
//!  apache2ctl -t -D DUMP_CONFIG, or text.rs   directives, with the sections that they stand in
//!  here                                       hosts, each at its ports, by its name
//!  site.rs                                    what comes of a request to one of them
//! ```

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
use site::{is_in, site};
use text::{Config, Directive};

pub(super) const DAEMON: Daemon = Daemon { name: "apache", programs: &["apache2"], units: &["apache2.service"] };
/// The module that prints what Apache takes its configuration for: conditions decided, macros used, variables put in. It comes with the program,
/// and hardly anybody loads it.
const INFO: &str = "/usr/lib/apache2/modules/mod_info.so";
/// Apache with the variables that its unit gives it. apache2ctl makes directories first, where it has not run since the boot; this does not.
const ASK: &str = r#". /etc/apache2/envvars; [ -d "$APACHE_RUN_DIR" ] || APACHE_RUN_DIR=/run
exec apache2 -C 'LoadModule info_module /usr/lib/apache2/modules/mod_info.so' -t -D DUMP_CONFIG"#;
/// The most virtual hosts, and the most ports, that are looked at.
const MAX_HOSTS: usize = 1000;

/// What is served by the configuration in `dir`; `None` where there is none.
pub(super) fn sites(tree: &Tree, dir: &str, finding: &mut Finding) -> anyhow::Result<Option<Sites>> {
    let main = format!("{dir}/apache2.conf");
    if !tree.exists(&main) {
        return Ok(None);
    }
    let config = config(tree, dir, &main, finding)?;
    let named = config.all.iter().filter(|directive| NAMED.iter().any(|name| directive.is(name)));
    let at = |file: &str| if file.starts_with('/') { file.to_owned() } else { format!("{dir}/{file}") };
    let named = named.map(|directive| directive.arg(0)).filter(|file| !file.contains(['$', '%', ':'])).map(at);
    let files = config.files.iter().cloned().chain(named).collect();
    Ok(Some(Sites { sites: hosts(&config.all, finding), files }))
}

/// What Apache says of its configuration, and what it lies in; or what is read there.
fn config(tree: &Tree, dir: &str, main: &str, finding: &mut Finding) -> anyhow::Result<Config> {
    let is_asked = dir == "/etc/apache2" && tree.is_running() && tree.exists(INFO);
    let told = is_asked.then(|| daemon::says(tree, finding, "sh", &["-c", ASK, "apache2"])).flatten();
    // A file in which nothing counts today travels as well.
    let own = text::read(tree, dir, main);
    let Some(told) = told else { return own };
    let mut told = text::told(tree, dir, &told)?;
    told.files.extend(own.map(|own| own.files).unwrap_or_default());
    Ok(told)
}

/// Each host at each port where it is met.
fn hosts(all: &[Directive], finding: &mut Finding) -> Vec<Site> {
    let listens = all.iter().filter(|directive| directive.is("Listen"));
    let listens: Vec<(String, u16)> = listens.filter_map(|listen| address(listen.arg(0))).take(MAX_HOSTS).collect();
    let outside: Vec<&Directive> = all.iter().filter(|directive| !is_in(directive, "VirtualHost")).collect();
    let mut sites: Vec<Site> = vec![];
    // Each <VirtualHost> is another, even where two have the same words.
    let hosts = all.iter().filter(|directive| directive.is("<VirtualHost")).take(MAX_HOSTS);
    for (number, host) in hosts.enumerate() {
        let marker = number.to_string();
        let is_of_it =
            |section: &Vec<String>| section[0] == "VirtualHost" && section.last().is_some_and(|last| *last == marker);
        let own: Vec<&Directive> = all.iter().filter(|directive| directive.within.iter().any(is_of_it)).collect();
        let at: Vec<(String, u16)> = host.words[1..].iter().filter_map(|at| address(at)).collect();
        for (listened, port) in &listens {
            let Some((host, _)) = at.iter().find(|(_, at)| at == port || *at == 0) else { continue };
            // A host of one address is met there alone, wherever else the server listens.
            let is_any = ["", "*", "_default_", "0.0.0.0", "[::]"].contains(&host.as_str());
            let listen = (if is_any { listened.clone() } else { host.clone() }, *port);
            let new = site(&listen, &own, &outside);
            if is_met(&new, &sites) {
                sites.push(new);
            } else {
                finding.note(format!("a virtual host at port {port} has no name by which it could be asked"));
            }
        }
    }
    // Where no virtual host is, the server as a whole answers.
    let is_free = |listen: &&(String, u16)| !sites.iter().any(|site| site.port == listen.1);
    let whole: Vec<Site> = listens.iter().filter(is_free).map(|listen| site(listen, &[], &outside)).collect();
    sites.extend(whole);
    sites
}

/// Whether clients meet it: by no name, or by one that another has already, they meet the first.
fn is_met(new: &Site, sites: &[Site]) -> bool {
    let mut same = sites.iter().filter(|known| known.port == new.port && known.address == new.address);
    match &new.name {
        None => same.next().is_none(),
        name => !same.any(|known| known.name == *name),
    }
}

/// Files that Apache cannot do without.
const NAMED: [&str; 19] = [
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
    "AuthDBMUserFile",
    "AuthDBMGroupFile",
    "AuthzSVNAccessFile",
    "SSLCACertificatePath",
    "SSLCARevocationPath",
    "SSLCADNRequestPath",
    "SSLProxyCACertificatePath",
    "SSLProxyMachineCertificateChainFile",
    "SSLOCSPResponderCertificateFile",
];
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

#[cfg(test)]
mod tests;
