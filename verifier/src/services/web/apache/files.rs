//! Files that Apache's directives name, wherever they lie.

use super::text::Directive;

/// What the names of a database's files end with, where it is not one file alone.
pub(super) const PARTS: [&str; 3] = [".dir", ".pag", ".db"];

/// The file that a directive names, where it names one; `%` and `$` stand for what is not known.
pub(super) fn named(directive: &Directive) -> Option<String> {
    let is_one = |names: &[&str]| names.iter().any(|name| directive.is(name));
    let file = if directive.is("RewriteMap") {
        of_map(directive.arg(1))?
    } else if is_one(&SECOND) {
        directive.arg(1)
    } else if is_one(&PROGRAMS) {
        program(directive.arg(0))?
    } else if is_one(&LAST) {
        directive.words.get(2..)?.iter().rfind(|word| word.starts_with('/'))?
    } else {
        Some(directive.arg(0)).filter(|_| is_one(&NAMED))?
    };
    (!file.is_empty() && !file.contains(['$', '%', ':'])).then(|| file.to_owned())
}

/// `txt:/srv/map`, `dbm=sdbm:/srv/map`, `prg:/srv/program and its words`; none where it is Apache's own or of a database.
fn of_map(source: &str) -> Option<&str> {
    let (kind, file) = source.split_once(':')?;
    let kind = kind.split('=').next()?;
    ["txt", "rnd", "dbm", "prg"].contains(&kind).then(|| file.split(' ').next().unwrap_or_default())
}

/// `exec:/srv/program`, `|/srv/program and its words`, `||/srv/program`.
fn program(words: &str) -> Option<&str> {
    let line = words.strip_prefix("exec:").or_else(|| Some(words.strip_prefix('|')?.trim_start_matches(['|', '$'])))?;
    line.split_whitespace().next().filter(|file| file.starts_with('/'))
}

/// Those that name a program among others.
const PROGRAMS: [&str; 5] = ["SSLPassPhraseDialog", "CustomLog", "ErrorLog", "TransferLog", "GlobalLog"];

/// Those that name the file behind something else.
const SECOND: [&str; 6] = [
    "LoadModule",
    "WSGIScriptAlias",
    "WSGIScriptAliasMatch",
    "MaxMindDBFile",
    "LDAPTrustedGlobalCert",
    "LuaMapHandler",
];

/// Those whose last path is the file: `SSLOpenSSLConfCmd DHParameters /srv/dh.pem`.
const LAST: [&str; 2] = ["SSLOpenSSLConfCmd", "LDAPTrustedClientCert"];

/// Files that Apache cannot do without.
const NAMED: [&str; 35] = [
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
    "SSLSessionTicketKeyFile",
    "SSLSRPVerifierFile",
    "MDCertificateFile",
    "MDCertificateKeyFile",
    "LoadFile",
    "PHPINIDir",
    "GeoIPDBFile",
    "PerlRequire",
    "PerlConfigRequire",
    "PerlPostConfigRequire",
    "SecUnicodeMapFile",
    "WSGIImportScript",
    "WSGIAuthUserScript",
    "WSGIAccessScript",
    "WSGIDispatchScript",
    "WSGIPythonHome",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directive_names_its_file_in_its_own_way() {
        for (words, file) in [
            (&["RewriteMap", "m", "txt:/srv/map.txt"][..], Some("/srv/map.txt")),
            (&["rewritemap", "m", "dbm=sdbm:/srv/map"], Some("/srv/map")),
            (&["RewriteMap", "m", "prg:/srv/map.pl -x"], Some("/srv/map.pl")),
            (&["RewriteMap", "m", "rnd:maps/r"], Some("maps/r")),
            (&["RewriteMap", "m", "int:tolower"], None),
            (&["RewriteMap", "m", "dbd:SELECT a FROM b"], None),
            (&["WSGIScriptAlias", "/app", "/srv/app.wsgi"], Some("/srv/app.wsgi")),
            (&["LoadModule", "x_module", "/srv/mod_x.so"], Some("/srv/mod_x.so")),
            (&["SSLPassPhraseDialog", "exec:/srv/pass arg"], Some("/srv/pass")),
            (&["SSLPassPhraseDialog", "builtin"], None),
            (&["CustomLog", "|/srv/split 86400", "combined"], Some("/srv/split")),
            (&["CustomLog", "/var/log/a", "combined"], None),
            (&["SSLOpenSSLConfCmd", "DHParameters", "/srv/dh.pem"], Some("/srv/dh.pem")),
            (&["SSLOpenSSLConfCmd", "Curves", "X25519"], None),
            (&["AuthUserFile", "users"], Some("users")),
            (&["AuthUserFile", "/srv/%{HOST}"], None),
            (&["DocumentRoot", "/srv/www"], None),
        ] {
            let words = words.iter().map(|word| (*word).to_owned()).collect();
            let directive = Directive { within: vec![], words };
            assert_eq!(named(&directive).as_deref(), file, "{:?}", directive.words);
        }
    }
}
