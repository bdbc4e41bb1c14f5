//! `passdb` and `userdb`: 2.3 gives a driver its `args` as words, or as the file that has the rest; 2.4 has settings, and a name for each block.
//!
//! ```text
//! passdb {                                                     passdb passwd-file {
//!   driver = passwd-file                                         default_password_scheme = CRYPT
//!   args = scheme=CRYPT username_format=%u /etc/dovecot/users    auth_username_format = %{user}
//! }                                                              passwd_file_path = /etc/dovecot/users
//!                                                              }
//! ```
//!
//! The files of SQL and LDAP stay where they are, with their owners and modes: they hold passwords. In 2.4, the blocks include them.

use super::{
    external::Kind,
    location, quota,
    syntax::{Block, Node, Setting, included, is_comment},
    variables::{self, Scope},
};

use std::collections::BTreeMap;

/// Settings of a block with the same meaning and other names.
const RENAMED: [(&str, &str); 1] = [("mechanisms", "mechanisms_filter")];
/// Settings of a block that both versions write alike.
const SAME: [&str; 7] =
    ["deny", "master", "skip", "username_filter", "result_success", "result_failure", "result_internalfail"];
/// What a userdb says of a user in both versions alike.
const USER_FIELDS: [&str; 7] = ["uid", "gid", "home", "user", "nice", "chroot", "system_groups_user"];

/// Whether it is a block of these.
pub(super) fn is_database(kind: &str) -> bool {
    kind == "passdb" || kind == "userdb"
}

/// The words of a PAM passdb, with their settings.
const PAM: [(&str, &str); 4] = [
    ("session", "pam_session"),
    ("setcred", "pam_setcred"),
    ("failure_show_msg", "pam_failure_show_msg"),
    ("max_requests", "pam_max_requests"),
];

/// How passwords in a file are written where nothing else is said: in 2.3, and in 2.4.
const SCHEME: &str = "CRYPT";
const NEWER_SCHEME: &str = "PLAIN";

#[derive(Default)]
struct Newer {
    settings: Vec<(String, String)>,
    fields: Vec<(String, String)>,
    include: Option<String>,
}

/// The block of 2.4 with this name; `None` where something in it has no certain counterpart.
pub(super) fn newer(block: &Block, name: &str, external: impl Fn(&str) -> Option<Kind>) -> Option<Block> {
    let driver = block.value("driver")?;
    let mut nodes = Vec::new();
    let mut fields = Vec::new();
    let mut fields_at = None;
    let indent = block.inner();
    let has_args = block.settings().any(|one| one.key == "args");
    for node in &block.nodes {
        let setting = match node {
            Node::Text(text) if is_comment(text) => {
                nodes.push(node.clone());
                continue;
            }
            Node::Set(setting) => setting,
            _ => return None,
        };
        let text = setting.text();
        match setting.key.as_str() {
            "driver" if text == driver && (has_args || driver_alone(&driver)) => {
                if name != driver {
                    nodes.push(node.clone());
                }
            }
            "args" => {
                let made = arguments(&block.kind, &driver, &text, &external)?;
                nodes.extend(
                    made.settings
                        .iter()
                        .map(|(key, value)| Node::Set(Setting::new(&indent, short(key, name, &driver), value))),
                );
                nodes.extend(made.include.map(|path| Node::Text(format!("{indent}!include_try {path}\n"))));
                if !made.fields.is_empty() {
                    fields_at.get_or_insert(nodes.len());
                    fields.extend(made.fields);
                }
            }
            key @ ("default_fields" | "override_fields") => {
                let suffix = if key == "default_fields" { ":default" } else { "" };
                for word in text.split_whitespace() {
                    let (key, value) = word.split_once('=')?;
                    fields
                        .extend(field(&block.kind, key, value)?.into_iter().map(|(key, value)| (key + suffix, value)));
                }
                fields_at.get_or_insert(nodes.len());
            }
            "pass" if setting.is_yes() => nodes.push(Node::Set(setting.becomes("result_success", "continue"))),
            key if SAME.contains(&key) => nodes.push(node.clone()),
            key => {
                let (_, newer) = RENAMED.iter().find(|(older, _)| *older == key)?;
                nodes.push(Node::Set(setting.renamed(newer)));
            }
        }
    }
    if let Some(at) = fields_at {
        let inner = format!("{indent}  ");
        let set = fields.iter().map(|(key, value)| Node::Set(Setting::new(&inner, key, value))).collect();
        nodes.insert(at, Node::Block(Block::new(&indent, "fields", "", set)));
    }
    Some(Block { nodes, ..block.clone().renamed(&block.kind, name) })
}

/// Whether a driver does without `args`.
fn driver_alone(driver: &str) -> bool {
    ["pam", "passwd", "prefetch", "static"].contains(&driver)
}

/// The name in a block that has the driver's name needs no driver before it.
fn short<'k>(key: &'k str, name: &str, driver: &str) -> &'k str {
    key.strip_prefix(driver).and_then(|rest| rest.strip_prefix('_')).filter(|_| name == driver).unwrap_or(key)
}

fn arguments(kind: &str, driver: &str, text: &str, external: impl Fn(&str) -> Option<Kind>) -> Option<Newer> {
    let mut made = Newer::default();
    let mut set = |key: &str, value: String| made.settings.push((key.to_owned(), value));
    match driver {
        "pam" if kind == "passdb" => {
            for word in text.split_whitespace() {
                match word.split_once('=') {
                    Some((word, value)) => set(PAM.iter().find(|(name, _)| *name == word)?.1, value.to_owned()),
                    None if PAM[..3].iter().any(|(name, _)| *name == word) => return None,
                    None if word == "*" => set("pam_service_name", "%{protocol}".into()),
                    None => set("pam_service_name", variables::newer(word, Scope::Auth)?),
                }
            }
        }
        "passwd" => match text {
            "" => {}
            "blocking=no" => set("use_worker", "no".into()),
            "blocking=yes" => set("use_worker", "yes".into()),
            _ => return None,
        },
        "prefetch" if text.is_empty() => {}
        "passwd-file" => {
            let mut rest = text.trim();
            let has_scheme = rest.split_whitespace().any(|word| word.starts_with("scheme="));
            if kind == "passdb" && !has_scheme {
                set("default_password_scheme", SCHEME.into());
            }
            while !rest.starts_with('/') {
                let (word, after) = rest.split_once(char::is_whitespace)?;
                rest = after.trim_start();
                match word.split_once('=')? {
                    ("scheme", scheme) if kind == "passdb" => set("default_password_scheme", scheme.to_owned()),
                    ("scheme", _) => {}
                    ("username_format", format) => set("auth_username_format", variables::newer(format, Scope::Auth)?),
                    _ => return None,
                }
            }
            set("passwd_file_path", variables::newer(rest, Scope::Auth)?);
        }
        "static" => {
            for word in text.split_whitespace() {
                match (kind, word.split_once('=').unwrap_or((word, "yes"))) {
                    ("passdb", ("password", password)) => {
                        set("static_password", variables::newer(password, Scope::Auth)?);
                    }
                    ("userdb", ("allow_all_users", value)) => set("static_allow_all_users", value.to_owned()),
                    (_, (key, value)) => made.fields.extend(field(kind, key, value)?),
                }
            }
        }
        "sql" | "ldap" => {
            let wanted = if driver == "sql" { Kind::Sql } else { Kind::Ldap };
            if external(text) != Some(wanted) {
                return None;
            }
            made.include = Some(text.to_owned());
        }
        _ => return None,
    }
    Some(made)
}

/// What a database says of a user, as 2.4 calls it.
pub(super) fn field(kind: &str, key: &str, value: &str) -> Option<Vec<(String, String)>> {
    let (prefix, key, is_user) = match key.strip_prefix("userdb_") {
        Some(rest) if kind == "passdb" => ("userdb_", rest, true),
        _ => ("", key, kind == "userdb"),
    };
    let with_prefix = |(key, value): (&str, String)| (format!("{prefix}{key}"), value);
    match key {
        "mail" => Some(location::split(value, Scope::Auth)?.into_iter().map(with_prefix).collect()),
        "quota_rule" => Some(quota::everywhere(value)?.into_iter().map(with_prefix).collect()),
        _ if is_user && !USER_FIELDS.contains(&key) => None,
        _ if key.contains(':') || key.starts_with("quota") => None,
        _ => Some(vec![with_prefix((key, variables::newer(value, Scope::Auth)?))]),
    }
}

/// The block of 2.3; `None` where something in it has no certain counterpart.
pub(super) fn older(block: &Block) -> Option<Block> {
    let driver = block.value("driver").unwrap_or_else(|| block.bare_name());
    let mut words: Vec<String> = Vec::new();
    let mut last = String::new();
    let mut overrides = Vec::new();
    let mut defaults = Vec::new();
    let mut nodes = Vec::new();
    let indent = block.inner();
    for node in &block.nodes {
        match node {
            Node::Text(text) => match included(text) {
                Some(path)
                    if ["sql", "ldap"].contains(&driver.as_str()) && path.starts_with('/') && last.is_empty() =>
                {
                    path.clone_into(&mut last);
                }
                None if is_comment(text) => nodes.push(node.clone()),
                _ => return None,
            },
            Node::Block(one) if full(block, &driver, &one.kind) == "fields" && one.name.is_empty() => {
                let older = older_fields(&block.kind, one)?;
                for (key, value) in older {
                    match key.strip_suffix(":default") {
                        Some(key) => defaults.push(word(key, &value)?),
                        None if driver == "static" => words.push(word(&key, &value)?),
                        None => overrides.push(word(&key, &value)?),
                    }
                }
            }
            Node::Block(_) => return None,
            Node::Set(setting) => {
                let text = setting.text();
                let expanded = |text: &str| variables::older(text, Scope::Auth);
                match (driver.as_str(), full(block, &driver, &setting.key)) {
                    (_, "driver") => {}
                    ("pam", "service_name") => last = expanded(&text)?,
                    ("pam", key @ ("session" | "setcred" | "failure_show_msg" | "max_requests")) => {
                        words.push(word(key, &text)?);
                    }
                    ("passwd", "use_worker") => words.push(word("blocking", &text)?),
                    ("passwd-file", "default_password_scheme") => words.push(word("scheme", &text)?),
                    ("passwd-file", "auth_username_format") => words.push(word("username_format", &expanded(&text)?)?),
                    ("passwd-file", "passwd_file_path") => last = expanded(&text)?,
                    ("static", "password") => words.push(word("password", &expanded(&text)?)?),
                    ("static", "allow_all_users") => words.push(word("allow_all_users", &text)?),
                    (_, key) if SAME.contains(&key) => nodes.push(node.clone()),
                    (_, key) => {
                        let (older, _) = RENAMED.iter().find(|(_, newer)| *newer == key)?;
                        nodes.push(Node::Set(setting.renamed(older)));
                    }
                }
            }
        }
    }
    let needs_last = ["passwd-file", "sql", "ldap"].contains(&driver.as_str());
    if !(needs_last || driver_alone(&driver)) || needs_last && last.is_empty() {
        return None;
    }
    if driver == "passwd-file" && block.kind == "passdb" && !words.iter().any(|word| word.starts_with("scheme=")) {
        words.insert(0, format!("scheme={NEWER_SCHEME}"));
    }
    words.extend(Some(last).filter(|last| !last.is_empty()));
    let made = [
        ("driver", driver),
        ("args", words.join(" ")),
        ("default_fields", defaults.join(" ")),
        ("override_fields", overrides.join(" ")),
    ];
    let set = made.into_iter().filter(|(_, value)| !value.is_empty());
    let set = set.map(|(key, value)| Node::Set(Setting::new(&indent, key, &value)));
    let nodes = set.chain(nodes).collect();
    Some(Block { nodes, ..block.clone().renamed(&block.kind, "") })
}

/// The name of a setting without the block's and the driver's.
fn full<'k>(block: &Block, driver: &str, key: &'k str) -> &'k str {
    let key = key.strip_prefix(block.kind.as_str()).and_then(|rest| rest.strip_prefix('_')).unwrap_or(key);
    key.strip_prefix(driver).and_then(|rest| rest.strip_prefix('_')).unwrap_or(key)
}

/// A word of `args`.
fn word(key: &str, value: &str) -> Option<String> {
    (!value.contains(char::is_whitespace) && !value.is_empty()).then(|| format!("{key}={value}"))
}

/// What 2.4 says of a user, as 2.3 calls it.
pub(super) fn older_fields(kind: &str, fields: &Block) -> Option<Vec<(String, String)>> {
    let mut out = Vec::new();
    // Parts of a location, by what stands before and after their names.
    let mut locations: BTreeMap<(&str, &str), Vec<(String, String)>> = BTreeMap::new();
    for node in &fields.nodes {
        let setting = match node {
            Node::Set(setting) => setting,
            Node::Text(text) if is_comment(text) => continue,
            _ => return None,
        };
        let (key, text) = (setting.key.as_str(), setting.text());
        let (userdb, bare) = match key.strip_prefix("userdb_") {
            Some(rest) if kind == "passdb" => ("userdb_", rest),
            _ => ("", key),
        };
        let (bare, suffix) = bare.strip_suffix(":default").map_or((bare, ""), |bare| (bare, ":default"));
        let is_user = kind == "userdb" || !userdb.is_empty();
        if is_user && location::is_part(bare) {
            locations.entry((userdb, suffix)).or_default().push((bare.to_owned(), text));
        } else if is_user && bare == "quota_storage_size" {
            out.push((format!("{userdb}quota_rule{suffix}"), quota::older_everywhere("storage", &text)?));
        } else if is_user && !USER_FIELDS.contains(&bare) || bare.contains(['/', ':']) {
            return None;
        } else {
            out.push((key.to_owned(), variables::older(&text, Scope::Auth)?));
        }
    }
    for ((userdb, suffix), parts) in locations {
        out.push((format!("{userdb}mail{suffix}"), location::join(&parts, Scope::Auth)?));
    }
    Some(out)
}
