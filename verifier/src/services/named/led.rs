//! Files that stand in files that a configuration names.
//!
//! ```text
//!  ldap:/etc/postfix/ldap.cf          tls_ca_cert_file = /srv/ca.pem
//!  tls_server_sni_maps = hash:/srv/s  shop.example /srv/shop.key /srv/shop.pem
//!  alias_maps = hash:/etc/aliases     list: :include:/srv/list, "|/usr/local/bin/ticket"
//!  args = /etc/dovecot/ldap.conf.ext  tls_ca_cert_file = /srv/ca.pem
//!  hba_file = '/srv/pg_hba.conf'      host all @/srv/admins all scram-sha-256
//! ```
//!
//! Tables whose values are no files (a transport, an address, a mailbox) are not looked into.

use crate::{service::Tree, services::found::Finding};
use std::collections::BTreeSet;

/// The most files that one value leads to.
const MAX_FILES: usize = 200;
/// Kinds of tables that are asked of a program, and described by a file of settings.
const DESCRIBED: [&str; 5] = ["ldap", "memcache", "mysql", "pgsql", "sqlite"];

/// How a file names others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Language {
    /// `name = value`.
    Settings,
    /// In whatever stands behind a key.
    Values,
    /// Programs and lists of addresses; what is only a path is a mailbox.
    Aliases,
    /// Lists of names, and files of the same kind.
    Access,
}

impl Language {
    /// That of a file which a setting names as a table of this kind, if any; `None` where its values are no files.
    fn of(setting: &str, kind: &str, path: &str) -> Option<Language> {
        let is_settings = path.ends_with(".conf.ext") || path.ends_with(".conf");
        if DESCRIBED.contains(&kind) || setting == "args" && is_settings {
            return Some(Language::Settings);
        }
        match setting {
            _ if setting.ends_with("tls_server_sni_maps") || setting.ends_with("tls_policy_maps") => {
                Some(Language::Values)
            }
            _ if setting.contains("alias") || path.ends_with("/aliases") => Some(Language::Aliases),
            "hba_file" | "ident_file" => Some(Language::Access),
            _ => None,
        }
    }
}

impl Finding {
    /// Adds the files that stand in those that a value names.
    pub(super) fn led(&mut self, tree: &Tree, setting: &str, value: &str) {
        let setting = setting.trim().to_ascii_lowercase();
        let mut left: Vec<(Language, String)> = tables(value)
            .filter_map(|(kind, path)| Some((Language::of(&setting, kind, path)?, path.to_owned())))
            .collect();
        let mut known = BTreeSet::new();
        while let Some((language, path)) = left.pop() {
            if !known.insert(path.clone()) {
                continue;
            }
            if known.len() > MAX_FILES {
                return self
                    .note(format!("{setting} leads to more than {MAX_FILES} files; the rest is not looked into"));
            }
            match tree.read(&path) {
                Ok(text) => left.extend(self.in_file(tree, language, &path, &text.unwrap_or_default())),
                Err(error) => self.note(format!(
                    "{path} is not looked into, what it names is not synchronised: {}",
                    atlas_cli::in_one_line(&error)
                )),
            }
        }
    }

    /// Adds the files that a file names; gives those that are to be looked into as well.
    fn in_file(&mut self, tree: &Tree, language: Language, path: &str, text: &str) -> Vec<(Language, String)> {
        let mut more = vec![];
        for line in text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#')) {
            match language {
                Language::Settings => self.of_setting(tree, path, line),
                Language::Values => {
                    self.listed(tree, "", line.split_once(char::is_whitespace).map_or("", |(_, value)| value));
                }
                Language::Aliases => {
                    commands(line).for_each(|command| self.listed(tree, "", command));
                    for list in line.split(":include:").skip(1) {
                        let list = list.split([' ', '\t', ',', '"']).next().unwrap_or_default();
                        self.listed(tree, "", list);
                        more.push((language, list.to_owned()));
                    }
                }
                Language::Access => {
                    let mut words = line.split_whitespace();
                    let first = words.next().filter(|word| word.starts_with("include")).unwrap_or_default();
                    let named = words.clone().filter_map(|word| word.trim_matches('"').strip_prefix('@'));
                    named.for_each(|file| self.listed(tree, "", file));
                    for file in words.filter(|_| !first.is_empty()) {
                        self.listed(tree, first, file);
                        more.extend((first != "include_dir").then(|| (language, file.trim_matches('"').to_owned())));
                    }
                }
            }
        }
        more.retain(|(_, path)| path.starts_with('/'));
        more
    }

    /// A database is no configuration: its server, or the program that writes it, has it.
    fn of_setting(&mut self, tree: &Tree, path: &str, line: &str) {
        let Some((name, value)) = line.split_once('=').map(|(name, value)| (name.trim(), value.trim())) else { return };
        if name == "dbpath" || name == "connect" && value.starts_with('/') {
            return self.note(format!("{path} names the database {value}, which is not synchronised"));
        }
        self.listed(tree, name, value);
    }
}

/// The files of a value, each with the kind of table that it is said to be: `proxy:ldap:/srv/x` is `ldap`.
fn tables(value: &str) -> impl Iterator<Item = (&str, &str)> {
    let words = value.split(|c: char| c.is_whitespace() || ",;<>\"'{}()".contains(c));
    words.filter_map(|word| {
        let (kinds, path) = word.split_at(word.find('/')?);
        Some((kinds.trim_end_matches(':').rsplit([':', '=']).next().unwrap_or_default(), path))
    })
}

/// The programs of an alias, with their arguments.
fn commands(line: &str) -> impl Iterator<Item = &str> {
    line.split('|').skip(1).map(|command| command.split(['"', ',']).next().unwrap_or_default())
}
