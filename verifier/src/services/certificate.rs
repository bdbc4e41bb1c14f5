//! For whom PRI's certificate is, and whether its issuer is known there: what a secondary's is compared with.
//!
//! `openssl` tells; where it is not installed, nothing is known of the certificate, and of a secondary's only how long it lasts is looked at.

use crate::{seen::Look, service::Tree};
use atlas_host::process::Command;
use std::{collections::BTreeMap, time::Duration};

/// The option that says whether the issuer is known, and what it says where it is not.
pub(super) const ISSUER: &str = "issuer";
pub(super) const UNKNOWN: &str = "unknown";
/// The issuers that clients know, as the package ca-certificates has them. Beside it lie certificates of this server's own, such as ssl-cert's, which
/// no other one knows.
const KNOWN_ISSUERS: &str = "/etc/ssl/certs/ca-certificates.crt";
/// How long one look at a certificate may take.
const DEADLINE: Duration = Duration::from_secs(5);

/// The options of instances that show this certificate: `name`, and `issuer=unknown` where none is known.
pub(super) fn options(tree: &Tree, path: &str) -> BTreeMap<String, String> {
    if !tree.exists(path) {
        return BTreeMap::new();
    }
    [path, KNOWN_ISSUERS].into_iter().for_each(|path| tree.look(Look::File, path));
    let path = tree.path().join(path.trim_start_matches('/'));
    let openssl = |args: &[&str]| {
        let output = Command::new("openssl").args(args).arg(&path).deadline(DEADLINE).run();
        output.map(|output| output.text()).ok()
    };
    let Some(name) =
        openssl(&["x509", "-noout", "-subject", "-ext", "subjectAltName", "-in"]).and_then(|said| name(&said))
    else {
        return BTreeMap::new();
    };
    let mut options = BTreeMap::from([("name".to_owned(), name)]);
    let chain = path.to_string_lossy();
    // When it ends is looked at where it is shown.
    let known = ["-no-CApath", "-no-CAstore", "-CAfile", KNOWN_ISSUERS];
    if openssl(&[&["verify", "-no_check_time"], &known[..], &["-untrusted", &chain]].concat()).is_none() {
        options.insert(ISSUER.into(), UNKNOWN.into());
    }
    options
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
