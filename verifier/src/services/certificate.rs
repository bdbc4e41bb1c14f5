//! For whom PRI's certificate is, and whether its issuer is known there: what a secondary's is compared with.
//!
//! `openssl` tells; where it is not installed, nothing is known of the certificate, and of a secondary's only how long it lasts is looked at.

use crate::{here, seen::Look, service::Tree};
use atlas_host::process::Command;
use std::{collections::BTreeMap, path::Path, time::Duration};

/// The option that says whether the issuer is known, and what it says where it is not.
pub(super) const ISSUER: &str = "issuer";
pub(super) const UNKNOWN: &str = "unknown";
/// What it says where clients know the issuer's issuer, and the certificate that leads there is not in the file.
pub(super) const INCOMPLETE: &str = "incomplete";
/// The most files beside a certificate that are looked at for the one that it lacks.
const MAX_BESIDE: usize = 20;
/// The issuers that clients know, as the package ca-certificates has them. Beside it lie certificates of this server's own, such as ssl-cert's, which
/// no other one knows.
const KNOWN_ISSUERS: &str = "/etc/ssl/certs/ca-certificates.crt";
/// How long one look at a certificate may take.
const DEADLINE: Duration = Duration::from_secs(5);

/// The options of instances that show this certificate: `name`, and `issuer=unknown` where none is known, or
/// `issuer=incomplete`.
pub(super) fn options(tree: &Tree, path: &str) -> BTreeMap<String, String> {
    if !tree.exists(path) {
        return BTreeMap::new();
    }
    [path, KNOWN_ISSUERS].into_iter().for_each(|path| tree.look(Look::File, path));
    let at = path;
    let path = here::below(tree.path(), path);
    let openssl = |args: &[&str]| {
        let output = Command::new("openssl").args(args).arg(&path).deadline(DEADLINE).run();
        output.map(|output| output.text()).ok()
    };
    let said = openssl(&["x509", "-noout", "-subject", "-issuer", "-ext", "subjectAltName", "-in"]).unwrap_or_default();
    let Some(name) = name(&said) else { return BTreeMap::new() };
    let mut options = BTreeMap::from([("name".to_owned(), name)]);
    let chain = path.to_string_lossy();
    // When it ends is looked at where it is shown.
    let known = ["-no-CApath", "-no-CAstore", "-CAfile", KNOWN_ISSUERS];
    if openssl(&[&["verify", "-no_check_time"], &known[..], &["-untrusted", &chain]].concat()).is_none() {
        let is_beside = |file: &String| {
            let file = here::below(tree.path(), file);
            openssl(&[&["verify", "-no_check_time"], &known[..], &["-untrusted", &file.to_string_lossy()]].concat())
                .is_some()
        };
        // Public issuers put what the logs of certificates answered into theirs, others do not.
        let is_public = || {
            let said = openssl(&["x509", "-noout", "-ext", "ct_precert_scts", "-in"]);
            Path::new(KNOWN_ISSUERS).exists() && said.is_some_and(|said| said.contains("SCTs"))
        };
        let lacks =
            is_alone(tree, at) && !vouches_for_itself(&said) && (is_public() || beside(tree, at).iter().any(is_beside));
        options.insert(ISSUER.into(), if lacks { INCOMPLETE } else { UNKNOWN }.into());
    }
    options
}

/// Whether a certificate is its own issuer's.
fn vouches_for_itself(said: &str) -> bool {
    let line = |start: &str| said.lines().find_map(|line| line.strip_prefix(start));
    line("subject=") == line("issuer=")
}

/// Whether a file has no certificate but its own.
fn is_alone(tree: &Tree, path: &str) -> bool {
    let text = tree.read(path).ok().flatten().unwrap_or_default();
    text.matches("-----BEGIN CERTIFICATE-----").count() == 1
}

/// The files beside a certificate that may be of its issuers: certbot's `fullchain.pem` beside `cert.pem`,
/// `shop.ca-bundle` beside `shop.crt`.
fn beside(tree: &Tree, path: &str) -> Vec<String> {
    let Some((dir, own)) = path.rsplit_once('/') else { return vec![] };
    let is_of_issuers = |name: &String| {
        let is_one = [".pem", ".crt", ".cer", "bundle"].iter().any(|end| name.ends_with(end));
        is_one && name != own && !name.contains("key")
    };
    tree.names(dir).into_iter().filter(is_of_issuers).take(MAX_BESIDE).map(|name| format!("{dir}/{name}")).collect()
}

/// The first name that it is for: one of the list, or else the subject's. Any name will do for one that is for all of a domain.
fn name(said: &str) -> Option<String> {
    let listed = said.split([',', ' ', '\n']).find_map(|word| word.strip_prefix("DNS:"));
    let subject = || {
        let line = said.lines().find_map(|line| line.strip_prefix("subject="))?;
        line.split(',').find_map(|part| part.trim().strip_prefix("CN")?.trim_start().strip_prefix('='))
    };
    let name = listed.or_else(subject)?.trim().replace('*', "mail");
    let is_name = !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '.' || c == '-');
    is_name.then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_beside_a_certificate_may_be_of_its_issuers() {
        let one = "-----BEGIN CERTIFICATE-----\n";
        let server = crate::here::testing::Server::with(&[
            ("srv/tls/shop.crt", one),
            ("srv/tls/shop.ca-bundle", &one.repeat(2)),
            ("srv/tls/fullchain.pem", ""),
            ("srv/tls/privkey.pem", ""),
            ("srv/tls/README", ""),
        ]);
        let tree = server.tree();
        assert_eq!(beside(&tree, "/srv/tls/shop.crt"), ["/srv/tls/fullchain.pem", "/srv/tls/shop.ca-bundle"]);
        assert!(vouches_for_itself("subject=CN = a\nissuer=CN = a\n"));
        assert!(!vouches_for_itself("subject=CN = a\nissuer=CN = b\n"));
        assert!(is_alone(&tree, "/srv/tls/shop.crt") && !is_alone(&tree, "/srv/tls/shop.ca-bundle"));
    }

    #[test]
    fn a_certificate_is_for_the_first_name_of_its_list_or_else_for_its_subject() {
        let name = |said: &str| name(said).unwrap_or_default();
        let list = "X509v3 Subject Alternative Name: \n    DNS:mail.shop.example, DNS:shop.example\n";
        assert_eq!(name(&format!("subject=CN = other\n{list}")), "mail.shop.example");
        assert_eq!(name("subject=O = Shop, CN = mail.shop.example\n"), "mail.shop.example");
        assert_eq!(name("subject=CN=mail.shop.example, O=Shop\n"), "mail.shop.example");
        assert_eq!(name("subject=CN = *.shop.example\n"), "mail.shop.example");
        assert_eq!(name("subject=CN = The shop's own\n"), "");
        assert_eq!(name("subject=O = CNN\n"), "");
    }
}
