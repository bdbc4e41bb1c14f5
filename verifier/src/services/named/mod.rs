//! Files that a configuration names, in whatever value they stand: without them the daemon does not start on another server.
//!
//! ```text
//!  ssl_cert = </srv/a.pem                             ┐
//!  args = scheme=CRYPT /srv/users                     │ every word that is the path of a file: synchronised,
//!  unionmap:{hash:/srv/b, proxy:pgsql:/srv/c}         │ with what postmap makes of it, and with the files that
//!  ${lookup{$domain}lsearch{/srv/d}{$value}}          ┘ stand in it, where its language is known (led.rs)
//! ```
//!
//! What the daemon writes itself (its log, what it remembers) is no configuration and stays where it is.

mod led;
#[cfg(test)]
mod tests;

use super::found::Finding;
use crate::{here, seen::Look, service::Tree};
use std::path::Path;

/// Words in the names of settings for what the daemon writes.
const WRITTEN: [&str; 19] = [
    "auto-trust-anchor",
    "cache",
    "drift",
    "dump",
    "hwclock",
    "inbox",
    "lease",
    "log",
    "mail_location",
    "pid",
    "recursing",
    "rtcfile",
    "secroots",
    "socket",
    "spool",
    "state",
    "statistics",
    "stats",
    "timestamp",
];
/// Words in the names of settings that may name a whole directory of files.
const DIRECTORIES: [&str; 20] = [
    "addn-hosts",
    "ca_cert_dir",
    "ca_dir",
    "capath",
    "conf-dir",
    "dhcp-hostsfile",
    "dhcp-optsfile",
    "hostsdir",
    "include_dir",
    "js_path",
    "optsdir",
    "perl_modules",
    "phpinidir",
    "sieve",
    "sourcedir",
    // Apache's.
    "sslcacertificatepath",
    "sslcadnrequestpath",
    "sslcarevocationpath",
    "sslproxycacertificatepath",
    "wsgipythonhome",
];
/// Words in the names of settings whose relative value is a file. It lies beside the configuration, which travels as a whole, but may be a link.
const RELATIVE: [&str; 5] = ["cert", "crl", "dhparam", "file", "key"];
/// Where nothing lies that a person configures, or where every server has its own.
const ELSEWHERE: [&str; 32] = [
    "/bin",
    "/dev",
    "/etc/group",
    "/etc/hostname",
    "/etc/hosts",
    "/etc/localtime",
    "/etc/mailname",
    "/etc/passwd",
    "/etc/resolv.conf",
    "/etc/services",
    "/etc/shadow",
    "/etc/ssl/certs/ca-certificates.crt",
    "/lib",
    "/proc",
    "/run",
    "/sbin",
    "/sys",
    "/tmp",
    "/usr/bin",
    "/usr/lib",
    "/usr/libexec",
    "/usr/sbin",
    "/usr/share",
    "/var/cache",
    "/var/lib/chrony",
    "/var/lib/dovecot",
    "/var/lib/exim4",
    "/var/lib/ntpsec",
    "/var/lib/postfix",
    "/var/log",
    "/var/run",
    "/var/spool",
];
/// What postmap and its like make of a table, beside it; a database of Apache's may have two files.
const MADE: [&str; 6] = ["", ".db", ".lmdb", ".cdb", ".dir", ".pag"];

impl Finding {
    /// Adds the files that lines name, each of which sets something: `NAME = VALUE`, `NAME: VALUE`, `NAME VALUE`.
    pub(super) fn files_of<'l>(&mut self, tree: &Tree, lines: impl IntoIterator<Item = &'l str>) {
        for line in lines.into_iter().map(str::trim).filter(|line| !line.starts_with(['#', ';'])) {
            let before = line.split('/').next().unwrap_or_default();
            let end = before.find(['=', ':']).or_else(|| line.find(char::is_whitespace)).unwrap_or(line.len());
            let (setting, value) = line.split_at(end);
            self.files_in(tree, setting, value);
        }
    }

    /// Adds the files that a value names, where they are there, and those that stand in them. `setting` is its name.
    pub(super) fn files_in(&mut self, tree: &Tree, setting: &str, value: &str) {
        self.listed(tree, setting, value);
        self.led(tree, setting, value);
    }

    /// Adds the files that a word names, where they are there, and none that stand in them: in the languages of web servers and of sshd a word of
    /// the same name means something else. A relative one counts from `dir`.
    pub(super) fn files_from(&mut self, tree: &Tree, dir: &str, setting: &str, word: &str) {
        let is_absolute = word.starts_with(['/', '|']) || word.contains(":/");
        let names_file = || RELATIVE.iter().any(|part| setting.to_ascii_lowercase().contains(part));
        if is_absolute {
            self.listed(tree, setting, word);
        } else if names_file() {
            let (_, file) = word.rsplit_once(':').unwrap_or(("", word));
            self.listed(tree, setting, &format!("{dir}/{file}"));
        }
    }

    /// Adds the files that a value names itself.
    fn listed(&mut self, tree: &Tree, setting: &str, value: &str) {
        // Neither a login nor a dialog is a log.
        let setting =
            ["login", "logon", "dialog"].iter().fold(setting.to_ascii_lowercase(), |name, no| name.replace(no, ""));
        // A log may be piped to a program, with words of its own.
        let piped = value.trim_start().strip_prefix('|').map(|line| line.trim_start_matches(['|', '$', ' ']));
        let value = match piped.and_then(|line| line.split_whitespace().next()) {
            Some(program) => program,
            None if WRITTEN.iter().any(|word| setting.contains(word)) => return,
            None => value,
        };
        // As a whole it is one path, with blanks in it, or none.
        let whole = value.trim().trim_matches(['"', '\'']);
        if whole.contains(' ') && is_configured(whole) && here::below(tree.path(), whole).is_file() {
            tree.look(Look::There, whole);
            return self.path(tree, whole);
        }
        let may_be_directory = DIRECTORIES.iter().any(|word| setting.contains(word));
        for path in paths(value) {
            for path in MADE.map(|end| format!("{path}{end}")) {
                tree.look(Look::There, &path);
                let lies = here::below(tree.path(), &path);
                if lies.is_file() || may_be_directory && lies.is_dir() && path != "/etc/ssl/certs" {
                    self.path(tree, &path);
                }
            }
        }
    }
}

/// The absolute paths in a value, whatever stands before each.
fn paths(value: &str) -> impl Iterator<Item = &str> {
    let words = value.split(|c: char| c.is_whitespace() || ",;:=|!<>\"'{}()".contains(c));
    words.map(|word| word.trim_end_matches('/')).filter(|word| is_configured(word))
}

/// Whether it is a path where a person configures something.
fn is_configured(path: &str) -> bool {
    let is_elsewhere = ELSEWHERE.iter().any(|dir| Path::new(path).starts_with(dir));
    path.starts_with('/') && !path.starts_with("//") && !is_elsewhere
}
