//! Files that a configuration names, in whatever value they stand: without them the daemon does not start on another server.
//!
//! ```text
//!  ssl_cert = </srv/a.pem                             ┐
//!  args = scheme=CRYPT /srv/users                     │ every word that is the path of a file: synchronised,
//!  unionmap:{hash:/srv/b, proxy:pgsql:/srv/c}         │ with what postmap makes of it
//!  ${lookup{$domain}lsearch{/srv/d}{$value}}          ┘
//! ```
//!
//! What the daemon writes itself (its log, what it remembers) is no configuration and stays where it is.

use super::found::Finding;
use crate::{here, seen::Look, service::Tree};
use std::path::Path;

/// Words in the names of settings for what the daemon writes.
const WRITTEN: [&str; 13] = [
    "cache",
    "drift",
    "dump",
    "hwclock",
    "inbox",
    "log",
    "mail_location",
    "pid",
    "rtcfile",
    "socket",
    "spool",
    "state",
    "stats",
];
/// Words in the names of settings that may name a whole directory of files.
const DIRECTORIES: [&str; 4] = ["capath", "ca_dir", "sieve", "sourcedir"];
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
/// What postmap and its like make of a table, beside it.
const MADE: [&str; 4] = ["", ".db", ".lmdb", ".cdb"];

impl Finding {
    /// Adds the files that a value names, where they are there. `setting` is its name, or the first word of its line.
    pub(super) fn files_in(&mut self, tree: &Tree, setting: &str, value: &str) {
        // A login is no log.
        let setting = setting.to_ascii_lowercase().replace("login", "");
        if WRITTEN.iter().any(|word| setting.contains(word)) {
            return;
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
    words.map(|word| word.trim_end_matches('/')).filter(|word| {
        let is_elsewhere = ELSEWHERE.iter().any(|dir| Path::new(word).starts_with(dir));
        word.starts_with('/') && !word.starts_with("//") && !is_elsewhere
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::here::testing::Server;

    fn found(setting: &str, value: &str) -> Vec<String> {
        let root = Server::with(&[("srv/a", ""), ("srv/b", ""), ("srv/b.db", ""), ("srv/dir/c", ""), ("run/x", "")]);
        let mut finding = Finding::default();
        finding.files_in(&root.tree(), setting, value);
        finding.done().paths
    }

    #[test]
    fn a_file_is_found_in_whatever_value_it_stands() {
        for value in [
            "/srv/a",
            "</srv/a",
            "scheme=CRYPT username_format=%u \"/srv/a\"",
            "10.0.0.0/8, !/srv/a /srv/gone",
            "${lookup{$domain}lsearch{/srv/a}{$value}}",
            "lsearch;/srv/a : /run/x : /srv/dir",
            "user=filter argv=/srv/a -f ${sender} http://srv/b",
        ] {
            assert_eq!(found("value", value), ["/srv/a"], "{value}");
        }
        assert_eq!(found("maps", "unionmap:{hash:/srv/b, proxy:pgsql:/srv/a}"), ["/srv/b", "/srv/b.db", "/srv/a"]);
    }

    #[test]
    fn what_the_daemon_writes_stays_where_it_is() {
        for setting in ["log_path", "maillog_file", "driftfile", "pid_file", "tls_session_cache_database"] {
            assert!(found(setting, "/srv/a").is_empty(), "{setting}");
        }
        assert_eq!(found("smtpd_sender_login_maps", "hash:/srv/a"), ["/srv/a"]);
    }

    #[test]
    fn a_directory_is_taken_where_one_is_meant() {
        assert_eq!(found("smtpd_tls_CApath", "/srv/dir/"), ["/srv/dir"]);
        assert!(found("mail_home", "/srv/dir").is_empty());
        assert!(found("smtpd_tls_CApath", "/etc/ssl/certs").is_empty());
    }
}
