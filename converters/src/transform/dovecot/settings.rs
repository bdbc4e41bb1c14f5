//! Settings that are alike but for their names, their files or the variables in them; and lists.

use super::{
    syntax::{Block, Node, Setting},
    variables::{self, Scope},
};

/// Names: in 2.3 and in 2.4.
const RENAMED: [(&str, &str); 9] = [
    ("auth_default_realm", "auth_default_domain"),
    ("default_idle_kill", "default_idle_kill_interval"),
    ("mail_attachment_dir", "mail_ext_attachment_path"),
    ("mail_attachment_min_size", "mail_ext_attachment_min_size"),
    ("ssl_cert_username_field", "ssl_server_cert_username_field"),
    ("ssl_key_password", "ssl_server_key_password"),
    ("ssl_require_crl", "ssl_server_require_crl"),
    ("ssl_verify_client_cert", "ssl_server_request_client_cert"),
    ("master_user_separator", "auth_master_user_separator"),
];
/// 2.3 has the content of a file, `</path`; 2.4 its path.
const FILES: [(&str, &str); 8] = [
    ("ssl_cert", "ssl_server_cert_file"),
    ("ssl_key", "ssl_server_key_file"),
    ("ssl_alt_cert", "ssl_server_alt_cert_file"),
    ("ssl_alt_key", "ssl_server_alt_key_file"),
    ("ssl_ca", "ssl_server_ca_file"),
    ("ssl_dh", "ssl_server_dh_file"),
    ("ssl_client_cert", "ssl_client_cert_file"),
    ("ssl_client_key", "ssl_client_key_file"),
];
/// Settings with variables.
const EXPANDED: [(&str, Scope); 31] = [
    ("mail_home", Scope::Mail),
    ("mail_chroot", Scope::Mail),
    ("mail_log_prefix", Scope::Mail),
    ("mail_temp_dir", Scope::Mail),
    ("mail_attachment_dir", Scope::Mail),
    ("mail_ext_attachment_path", Scope::Mail),
    ("postmaster_address", Scope::Mail),
    ("imapc_user", Scope::Mail),
    ("imapc_password", Scope::Mail),
    ("pop3c_user", Scope::Mail),
    ("pop3c_password", Scope::Mail),
    ("imapc_rawlog_dir", Scope::Mail),
    ("pop3c_rawlog_dir", Scope::Mail),
    ("rawlog_dir", Scope::Mail),
    ("lmtp_rawlog_dir", Scope::Mail),
    ("submission_relay_user", Scope::Mail),
    ("submission_relay_password", Scope::Mail),
    ("auth_username_format", Scope::Auth),
    ("login_greeting", Scope::Login),
    ("login_log_format_elements", Scope::Login),
    ("login_log_format", Scope::LoginFormat),
    ("pop3_uidl_format", Scope::Uidl),
    ("deliver_log_format", Scope::Deliver),
    ("imap_logout_format", Scope::ImapLogout),
    ("submission_logout_format", Scope::ImapLogout),
    ("imap_urlauth_logout_format", Scope::ImapLogout),
    ("managesieve_logout_format", Scope::ImapLogout),
    ("dsync_remote_cmd", Scope::Dsync),
    ("pop3_logout_format", Scope::Pop3Logout),
    ("rejection_reason", Scope::Rejection),
    ("rejection_subject", Scope::Rejection),
];
/// Lists of words, to which `$name` adds.
const LISTS: [&str; 2] = ["mail_plugins", "protocols"];
/// What begins the name of a setting or block that the other version would take and misunderstand. No version knows it: it says so, with file and line.
pub(super) const UNCONVERTED: &str = "unconverted_";

pub(super) fn unconverted(setting: &Setting) -> Vec<Node> {
    vec![Node::Set(setting.renamed(&format!("{UNCONVERTED}{}", setting.key)))]
}

/// A setting anywhere but in a block with settings of its own; `None` where it is to stay as it is. `dir` is where its file lies.
pub(super) fn newer(setting: &Setting, dir: &str) -> Option<Vec<Node>> {
    let (key, text) = (setting.key.as_str(), setting.text());
    let one = |setting: Setting| Some(vec![Node::Set(setting)]);
    if let Some(original) = key.strip_prefix(UNCONVERTED) {
        return one(setting.renamed(original));
    }
    if let Some((_, name)) = FILES.iter().find(|(older, _)| *older == key) {
        let path = setting.value.strip_prefix('<')?.trim();
        let path = if path.starts_with('/') { path.to_owned() } else { format!("{dir}/{path}") };
        return one(setting.becomes(name, &path));
    }
    if key == "protocols" && text == "none" {
        return one(setting.becomes(key, ""));
    }
    if LISTS.contains(&key) {
        return newer_list(setting, &text);
    }
    let name = RENAMED.iter().find(|(older, _)| *older == key).map_or(key, |(_, newer)| *newer);
    if let Some((_, scope)) = EXPANDED.iter().find(|(expanded, _)| *expanded == key) {
        return Some(expanded(setting, name, |text| Some(newer_reference(&variables::newer(text, *scope)?))));
    }
    match key {
        "disable_plaintext_auth" => one(setting.becomes("auth_allow_cleartext", inverted(setting)?)),
        "ssl_prefer_server_ciphers" => {
            one(setting.becomes("ssl_server_prefer_ciphers", if setting.is_yes() { "server" } else { "client" }))
        }
        "auth_worker_max_count" => {
            let limit = Setting::new(&format!("{}  ", setting.indent), "process_limit", &text);
            Some(vec![Node::Block(Block::new(&setting.indent, "service", "auth-worker", vec![Node::Set(limit)]))])
        }
        "imap_capability" if text.starts_with('+') => {
            let words = text[1..].split_whitespace();
            Some(vec![switches(&setting.indent, key, words.map(str::to_owned))])
        }
        _ => {
            let value = newer_reference(&setting.value);
            (name != key || value != setting.value)
                .then(|| vec![Node::Set(Setting { key: name.into(), value, ..setting.clone() })])
        }
    }
}

pub(super) fn older(setting: &Setting) -> Option<Vec<Node>> {
    let (key, text) = (setting.key.as_str(), setting.text());
    let one = |setting: Setting| Some(vec![Node::Set(setting)]);
    if let Some(original) = key.strip_prefix(UNCONVERTED) {
        return one(setting.renamed(original));
    }
    if let Some((older, _)) = FILES.iter().find(|(_, newer)| *newer == key) {
        let is_path = text.starts_with('/') && !text.contains("%{");
        return is_path
            .then(|| vec![Node::Set(Setting { key: (*older).into(), value: format!("<{text}"), ..setting.clone() })]);
    }
    let name = RENAMED.iter().find(|(_, newer)| *newer == key).map_or(key, |(older, _)| *older);
    if let Some((_, scope)) = EXPANDED.iter().find(|(expanded, _)| *expanded == key) {
        return Some(expanded(setting, name, |text| variables::older(&older_reference(text), *scope)));
    }
    match key {
        "protocols" if text.is_empty() => one(setting.becomes(key, "none")),
        "auth_allow_cleartext" => one(setting.becomes("disable_plaintext_auth", inverted(setting)?)),
        "ssl_server_prefer_ciphers" if text == "server" => one(setting.becomes("ssl_prefer_server_ciphers", "yes")),
        "ssl_server_prefer_ciphers" if text == "client" => one(setting.becomes("ssl_prefer_server_ciphers", "no")),
        "mail_plugins" => {
            match older_reference(&text).split_whitespace().map(older_plugin).collect::<Option<Vec<&str>>>() {
                Some(plugins) => one(setting.becomes(key, &plugins.join(" "))),
                None => Some(unconverted(setting)),
            }
        }
        _ => {
            let value = older_reference(&setting.value);
            (name != key || value != setting.value)
                .then(|| vec![Node::Set(Setting { key: name.into(), value, ..setting.clone() })])
        }
    }
}

/// With the variables of the other version; under a name that none knows, where it has no such.
fn expanded(setting: &Setting, name: &str, change: impl Fn(&str) -> Option<String>) -> Vec<Node> {
    let is_quoted = setting.value.starts_with('"');
    // Within quotes, a backslash is another one.
    match change(&setting.value).filter(|value| !is_quoted || value.contains('\\') == setting.value.contains('\\')) {
        Some(value) => vec![Node::Set(Setting { key: name.into(), value, ..setting.clone() })],
        None => unconverted(setting),
    }
}

fn inverted(setting: &Setting) -> Option<&'static str> {
    match (setting.is_yes(), setting.is_no()) {
        (true, _) => Some("no"),
        (_, true) => Some("yes"),
        _ => None,
    }
}

/// `$name` of 2.3 is `$SET:name` in 2.4.
pub(super) fn newer_reference(value: &str) -> String {
    referring(value, |name| (!name.starts_with("SET:")).then(|| format!("$SET:{name}")))
}

pub(super) fn older_reference(value: &str) -> String {
    referring(value, |name| name.strip_prefix("SET:").map(|name| format!("${name}")))
}

/// Other names for settings that a value refers to; not within quotes.
fn referring(value: &str, change: impl Fn(&str) -> Option<String>) -> String {
    if value.starts_with(['"', '\'', '<']) || !value.contains('$') {
        return value.to_owned();
    }
    let is_name = |name: &str| {
        let bare = name.strip_prefix("SET:").unwrap_or(name);
        !bare.is_empty() && bare.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_')
    };
    let words = value.split(' ').map(|word| {
        let name = word.strip_prefix('$').filter(|name| is_name(name));
        name.and_then(&change).unwrap_or_else(|| word.to_owned())
    });
    words.collect::<Vec<_>>().join(" ")
}

/// `name { a = yes }`.
fn switches(indent: &str, name: &str, words: impl Iterator<Item = String>) -> Node {
    let inner = format!("{indent}  ");
    Node::Block(Block::new(indent, name, "", words.map(|word| Node::Set(Setting::new(&inner, &word, "yes"))).collect()))
}

fn newer_list(setting: &Setting, text: &str) -> Option<Vec<Node>> {
    let key = setting.key.as_str();
    let words: Vec<&str> = text.split_whitespace().collect();
    let adds = words.first().and_then(|word| word.strip_prefix('$')) == Some(key);
    let words = &words[usize::from(adds)..];
    let mut known = Vec::new();
    for word in words {
        match *word {
            word if word.starts_with('$') => return Some(unconverted(setting)),
            word if key != "mail_plugins" => known.push(word.to_owned()),
            // IMAP's COMPRESS is part of 2.4.
            "imap_zlib" => {}
            "zlib" => known.push("mail_compress".into()),
            "listescape" | "mailbox_alias" | "old_stats" | "imap_old_stats" | "stats" | "imap_stats"
            | "replication" | "fts_squat" | "fts_lucene" => {
                return Some(unconverted(setting));
            }
            word => known.push(word.to_owned()),
        }
    }
    if !adds {
        let value = known.join(" ");
        return (value != text).then(|| vec![Node::Set(setting.becomes(key, &value))]);
    }
    if known.is_empty() {
        return Some(Vec::new());
    }
    Some(vec![switches(&setting.indent, key, known.into_iter())])
}

/// What a plugin is called in 2.3, or a protocol.
fn older_plugin(name: &str) -> Option<&str> {
    match name {
        "mail_compress" => Some("zlib"),
        // Debian 12 does not have it.
        "fts_flatcurve" => None,
        name => Some(name),
    }
}

/// A list of switches as words that add to the list.
pub(super) fn older_switches(block: &Block) -> Option<Node> {
    let key = block.kind.as_str();
    let mut words = Vec::new();
    for node in &block.nodes {
        match node {
            Node::Set(setting) if setting.is_yes() => words.push(older_plugin(&setting.key)?.to_owned()),
            _ => return None,
        }
    }
    let begin = match key {
        "mail_plugins" | "protocols" => format!("${key} "),
        "imap_capability" => "+".into(),
        _ => return None,
    };
    (block.name.is_empty() && !words.is_empty()).then(|| {
        let mut setting = Setting::new(&block.indent, key, "x");
        setting.value = format!("{begin}{}", words.join(" "));
        setting.tail.clone_from(&block.tail);
        Node::Set(setting)
    })
}
