//! `plugin { … }` of 2.3: in 2.4 these are settings like others, some in blocks of their own.

use super::{
    quota,
    syntax::{Block, Node, Setting, is_comment},
    variables::{self, Scope},
};
use std::collections::{BTreeMap, BTreeSet};

/// With the same name, and a value that both versions read alike.
const SAME: &[&str] = &[
    "mail_log_events",
    "mail_log_fields",
    "acl_groups",
    "acl_user",
    "fts_autoindex",
    "fts_autoindex_max_recent_msgs",
    "last_login_key",
    "last_login_precision",
    "quota_exceeded_message",
    "quota_status_nouser",
    "quota_status_overquota",
    "quota_status_success",
    "quota_status_toolarge",
    "imapsieve_url",
    "imapsieve_expunge_discarded",
    "sieve_plugins",
    "sieve_max_script_size",
    "sieve_max_actions",
    "sieve_max_redirects",
    "sieve_max_cpu_time",
    "sieve_resource_usage_timeout",
    "sieve_redirect_envelope_from",
    "sieve_redirect_duplicate_period",
    "sieve_report_from",
    "sieve_user_email",
    "sieve_trace_dir",
    "sieve_trace_level",
    "sieve_trace_debug",
    "sieve_trace_addresses",
    "sieve_duplicate_default_period",
    "sieve_duplicate_max_period",
    "sieve_include_max_includes",
    "sieve_include_max_nesting_depth",
    "sieve_notify_mailto_envelope_from",
    "sieve_editheader_max_header_size",
    "sieve_vacation_default_period",
    "sieve_vacation_max_period",
    "sieve_vacation_min_period",
    "sieve_vacation_use_original_recipient",
    "sieve_vacation_send_from_recipient",
    "sieve_vacation_to_header_ignore_envelope",
    "sieve_spamtest_status_type",
    "sieve_spamtest_status_header",
    "sieve_virustest_status_type",
    "sieve_virustest_status_header",
    "sieve_pipe_bin_dir",
    "sieve_pipe_socket_dir",
    "sieve_execute_bin_dir",
    "sieve_execute_socket_dir",
    "sieve_filter_bin_dir",
    "sieve_filter_socket_dir",
];
const RENAMED: [(&str, &str); 14] = [
    ("lazy_expunge", "lazy_expunge_mailbox"),
    ("quota_max_mail_size", "quota_mail_size"),
    ("quota_over_flag_value", "quota_over_status_mask"),
    ("quota_over_flag", "quota_over_status_current"),
    ("sieve_user_log", "sieve_user_log_path"),
    ("sieve_quota_max_scripts", "sieve_quota_script_count"),
    ("sieve_quota_max_storage", "sieve_quota_storage_size"),
    ("sieve_variables_max_scope_size", "sieve_variables_max_scope_count"),
    ("sieve_variables_max_variable_size", "sieve_variables_max_value_size"),
    ("sieve_spamtest_max_header", "sieve_spamtest_score_max_header"),
    ("sieve_spamtest_max_value", "sieve_spamtest_score_max_value"),
    ("sieve_virustest_max_header", "sieve_virustest_score_max_header"),
    ("sieve_virustest_max_value", "sieve_virustest_score_max_value"),
    ("fts_index_timeout", "fts_search_timeout"),
];
/// 2.3 takes any value for yes.
const YES: [(&str, &str); 6] = [
    ("mail_log_cached_only", "mail_log_cached_only"),
    ("acl_defaults_from_inbox", "acl_defaults_from_inbox"),
    ("acl_globals_only", "acl_globals_only"),
    ("lazy_expunge_only_last_instance", "lazy_expunge_only_last_instance"),
    ("quota_over_flag_lazy_check", "quota_over_status_lazy_check"),
    ("welcome_wait", "welcome_wait"),
];
/// Scripts by their kind: in 2.3, and as a type and the name of a block in 2.4.
const SCRIPTS: [(&str, &str); 6] = [
    ("sieve_default", "default"),
    ("sieve_discard", "discard"),
    ("sieve_global", "global"),
    ("sieve_global_dir", "global"),
    ("sieve_before", "before"),
    ("sieve_after", "after"),
];
/// Lists of extensions, with differences to the usual ones.
const EXTENSIONS: [&str; 2] = ["sieve_extensions", "sieve_global_extensions"];
/// Extensions that 2.4 does not have.
const GONE_EXTENSIONS: [&str; 3] = ["notify", "imapflags", "vnd.dovecot.duplicate"];
/// Compression, with the setting of its level.
const COMPRESSION: [(&str, &str); 5] = [
    ("gz", "compress_gz_level"),
    ("bz2", "compress_bz2_block_size_100k"),
    ("deflate", "compress_deflate_level"),
    ("zstd", "compress_zstd_level"),
    ("lz4", ""),
];

/// Blocks with more lines than this are not searched for scripts.
const MAX_SCRIPTS: usize = 200;

/// What of the whole configuration plugins need.
#[derive(Debug, Default)]
pub(super) struct Facts {
    pub(super) quota: quota::Facts,
    /// All settings of plugins in 2.3, or all settings in 2.4.
    values: BTreeMap<String, String>,
    /// Kinds of scripts that are numbered, so that their order has to be said.
    numbered: BTreeSet<&'static str>,
}

impl Facts {
    pub(super) fn add(&mut self, key: &str, value: String) {
        if let Some(Some(_)) = script_number(key) {
            self.numbered.extend(SCRIPTS.iter().filter(|(older, _)| key.starts_with(older)).map(|(_, kind)| *kind));
        }
        self.values.insert(key.to_owned(), value);
    }

    fn has(&self, key: &str) -> bool {
        self.values.contains_key(key)
    }

    fn get(&self, key: &str) -> Option<&str> {
        self.values.get(key).map(String::as_str)
    }
}

fn set(indent: &str, key: &str, value: &str) -> Node {
    Node::Set(Setting::new(indent, key, value))
}

/// What a plugin's setting is in 2.4; `None` where there is no certain counterpart.
pub(super) fn newer(setting: &Setting, group: &Block, facts: &Facts) -> Option<Vec<Node>> {
    let (key, text, indent) = (setting.key.as_str(), setting.text(), setting.indent.as_str());
    let inner = format!("{indent}  ");
    let one = |node: Setting| Some(vec![Node::Set(node)]);
    if quota::key(key).is_some() {
        return quota::newer(setting, &facts.quota);
    }
    if let Some(number) = key.strip_prefix("imapsieve_mailbox") {
        let (number, what) = number.split_once('_')?;
        let made = imapsieve(number, group, indent)?;
        return Some(if what == "name" { made } else { Vec::new() });
    }
    if let Some((name, _)) = YES.iter().map(|(older, newer)| (*newer, *older)).find(|(_, older)| *older == key) {
        return setting.is_yes().then(|| vec![Node::Set(setting.renamed(name))]);
    }
    let value = variables::newer(&text, Scope::Mail)?;
    let renamed = RENAMED.iter().find(|(older, _)| *older == key).map(|(_, newer)| *newer);
    if let Some(name) = renamed.or_else(|| SAME.contains(&key).then_some(key)) {
        return one(if value == text { setting.renamed(name) } else { setting.becomes(name, &value) });
    }
    if let Some(number) = script_number(key) {
        let (base, kind) =
            SCRIPTS.iter().find(|(older, _)| *older == key.trim_end_matches(|c: char| c.is_ascii_digit()))?;
        let is_one_of_many = kind == &"before" || kind == &"after";
        if number.is_some() && !is_one_of_many {
            return None;
        }
        let mut nodes = vec![set(&inner, "type", kind)];
        if is_one_of_many && facts.numbered.contains(kind) {
            nodes.push(set(&inner, "precedence", &number.unwrap_or(1).to_string()));
        }
        if *base == "sieve_default"
            && let Some(name) = facts.get("sieve_default_name")
        {
            nodes.push(set(&inner, "name", name));
        }
        nodes.extend(script(&value, &inner)?);
        let name = number.map_or_else(|| (*kind).to_owned(), |number| format!("{kind}{number}"));
        return Some(vec![Node::Block(Block::new(indent, "sieve_script", &name, nodes))]);
    }
    match key {
        "sieve" => {
            let dir = match facts.get("sieve_dir") {
                Some(dir) => variables::newer(dir, Scope::Mail)?,
                None => "~/sieve".into(),
            };
            let nodes = if value.starts_with("file:") && !facts.has("sieve_dir") {
                script(&value, &inner)?
            } else if value.contains([':', ';']) {
                return None;
            } else {
                vec![set(&inner, "path", &dir), set(&inner, "active_path", &value)]
            };
            Some(vec![Node::Block(Block::new(indent, "sieve_script", "personal", nodes))])
        }
        "sieve_dir" if !facts.has("sieve") => {
            let nodes = vec![set(&inner, "path", &value), set(&inner, "active_path", "~/.dovecot.sieve")];
            Some(vec![Node::Block(Block::new(indent, "sieve_script", "personal", nodes))])
        }
        "sieve_dir" if !facts.get("sieve")?.contains(':') => Some(Vec::new()),
        "sieve_default_name" if facts.has("sieve_default") => Some(Vec::new()),
        _ if EXTENSIONS.contains(&key) => extensions(setting, &text),
        "sieve_vacation_dont_check_recipient" if setting.is_yes() => {
            one(setting.becomes("sieve_vacation_check_recipient", "no"))
        }
        "quota_grace" if !text.contains('%') => one(setting.renamed("quota_storage_grace")),
        // The driver 'count' always knows them in 2.4.
        "quota_vsizes" if setting.is_yes() => Some(vec![super::syntax::commented(&Node::Set(setting.clone()))]),
        "acl" => match value.split_once(':') {
            None if value == "vfile" => one(setting.renamed("acl_driver")),
            Some(("vfile", "")) => one(setting.becomes("acl_driver", "vfile")),
            Some(("vfile", rest)) => {
                let seconds = rest.strip_prefix(":cache_secs=")?.parse::<u32>().ok()?;
                Some(vec![
                    Node::Set(setting.becomes("acl_driver", "vfile")),
                    set(indent, "acl_cache_ttl", &format!("{seconds} secs")),
                ])
            }
            _ => None,
        },
        "acl_anyone" if text == "allow" => one(setting.becomes("imap_acl_allow_anyone", "yes")),
        "acl_shared_dict" => {
            let path = value.strip_prefix("file:").filter(|path| !path.contains(':'))?;
            let dict = Block::new(&inner, "dict", "file", vec![set(&format!("{inner}  "), "path", path)]);
            Some(vec![Node::Block(Block::new(indent, "acl_sharing_map", "", vec![Node::Block(dict)]))])
        }
        "zlib_save" => {
            COMPRESSION.iter().find(|(name, _)| *name == text)?;
            one(setting.renamed("mail_compress_write_method"))
        }
        "zlib_save_level" => {
            let method = facts.get("zlib_save")?;
            let (_, level) = COMPRESSION.iter().find(|(name, level)| *name == method && !level.is_empty())?;
            one(setting.renamed(level))
        }
        "fts" if text == "solr" => Some(vec![Node::Block(Block::new(indent, "fts", &text, Vec::new()))]),
        "fts_solr" => {
            let url = value.strip_prefix("url=").filter(|url| !url.contains(char::is_whitespace))?;
            one(setting.becomes("fts_solr_url", url))
        }
        _ => None,
    }
}

/// For the name of a script's setting: its number, if it has one.
fn script_number(key: &str) -> Option<Option<u32>> {
    let base = key.trim_end_matches(|c: char| c.is_ascii_digit());
    SCRIPTS.iter().find(|(older, _)| *older == base)?;
    match &key[base.len()..] {
        "" => Some(None),
        digits => digits.parse().ok().map(Some),
    }
}

/// `file:PATH;active=PATH`, as settings of a script's block.
fn script(location: &str, inner: &str) -> Option<Vec<Node>> {
    let location = location.strip_prefix("file:").unwrap_or(location);
    let mut parts = location.split(';');
    let path = parts.next().filter(|path| !path.is_empty() && !path.contains(':'))?;
    let mut nodes = vec![set(inner, "path", path)];
    for part in parts {
        let (key, value) = part.split_once('=')?;
        let key = match key {
            "active" => "active_path",
            "name" => "name",
            "bindir" => "bin_path",
            _ => return None,
        };
        nodes.push(set(inner, key, value));
    }
    Some(nodes)
}

/// `+a -b`, differences to the usual ones; or all, without signs.
fn extensions(setting: &Setting, text: &str) -> Option<Vec<Node>> {
    let words: Vec<&str> = text.split_whitespace().collect();
    let is_gone = |word: &&str| GONE_EXTENSIONS.contains(&word.trim_start_matches(['+', '-']));
    if words.iter().any(is_gone) {
        return None;
    }
    if words.iter().all(|word| !word.starts_with(['+', '-'])) {
        return Some(vec![Node::Set(setting.clone())]);
    }
    let inner = format!("{}  ", setting.indent);
    let differences = words.iter().map(|word| {
        let (sign, name) = word.split_at(1);
        Some(set(
            &inner,
            name,
            match sign {
                "+" => "yes",
                "-" => "no",
                _ => return None,
            },
        ))
    });
    Some(vec![Node::Block(Block::new(&setting.indent, &setting.key, "", differences.collect::<Option<_>>()?))])
}

/// The scripts for what is done to a mailbox over IMAP, `imapsieve_mailbox1_…`.
fn imapsieve(number: &str, group: &Block, indent: &str) -> Option<Vec<Node>> {
    if group.nodes.len() > MAX_SCRIPTS {
        return None;
    }
    let begin = format!("imapsieve_mailbox{number}_");
    let mut keys = group.settings().filter_map(|one| one.key.strip_prefix(&begin));
    if number.parse::<u16>().is_err() || !keys.all(|key| ["name", "from", "causes", "before", "after"].contains(&key)) {
        return None;
    }
    let value = |what: &str| group.value(&format!("{begin}{what}"));
    let causes = value("causes").unwrap_or_else(|| "append copy flag".into()).to_ascii_lowercase().replace(',', " ");
    let name = value("name")?;
    let mut around: Vec<(&str, String)> = Vec::new();
    around.extend((name != "*").then_some(("mailbox", name)));
    around.extend(value("from").filter(|from| from != "*").map(|from| ("imapsieve_from", from)));
    let deep = " ".repeat(indent.len() + 2 * around.len());
    let inner = format!("{deep}  ");
    let mut scripts = Vec::new();
    for kind in ["before", "after"] {
        let Some(path) = value(kind) else { continue };
        let mut nodes = vec![set(&inner, "type", kind), set(&inner, "cause", causes.trim())];
        nodes.extend(script(&variables::newer(&path, Scope::Mail)?, &inner)?);
        let name = format!("imapsieve_mailbox{number}_{kind}");
        scripts.push(Node::Block(Block::new(&deep, "sieve_script", &name, nodes)));
    }
    while let Some((kind, name)) = around.pop() {
        if name.contains(['"', '\\', '*', '?', '%']) {
            return None;
        }
        let name = if name.contains(char::is_whitespace) { format!("\"{name}\"") } else { name };
        scripts = vec![Node::Block(Block::new(&" ".repeat(indent.len() + 2 * around.len()), kind, &name, scripts))];
    }
    Some(scripts)
}

/// What a setting or a block of 2.4 is in the `plugin` block of 2.3; `None` for what is none of a plugin, or has no certain counterpart.
pub(super) fn older(node: &Node, facts: &Facts) -> Option<Vec<Setting>> {
    match node {
        Node::Set(setting) => older_setting(setting, facts),
        Node::Block(block) => {
            let pairs = older_block(block, facts)?;
            Some(pairs.iter().map(|(key, value)| Setting::new(&block.indent, key, value)).collect())
        }
        Node::Text(_) => None,
    }
}

fn older_setting(setting: &Setting, facts: &Facts) -> Option<Vec<Setting>> {
    let (key, text) = (setting.key.as_str(), setting.text());
    let one = |setting: Setting| Some(vec![setting]);
    if let Some((older, _)) = YES.iter().find(|(_, newer)| *newer == key) {
        return setting.is_yes().then(|| vec![setting.renamed(older)]);
    }
    let renamed = RENAMED.iter().find(|(_, newer)| *newer == key).map(|(older, _)| *older);
    let known = renamed.or_else(|| (SAME.contains(&key) || EXTENSIONS.contains(&key)).then_some(key));
    if let Some(name) = known {
        let value = variables::older(&text, Scope::Mail)?;
        return one(if value == text { setting.renamed(name) } else { setting.becomes(name, &value) });
    }
    match key {
        "quota_storage_size" => one(setting.becomes("quota_rule", &quota::older_everywhere("storage", &text)?)),
        "quota_message_count" if !facts.has("quota_storage_size") => {
            one(setting.becomes("quota_rule", &quota::older_everywhere("messages", &text)?))
        }
        "quota_storage_grace" => one(setting.renamed("quota_grace")),
        "sieve_vacation_check_recipient" if setting.is_no() => {
            one(setting.becomes("sieve_vacation_dont_check_recipient", "yes"))
        }
        "acl_driver" if text == "vfile" && !facts.has("acl_global_path") => match facts.get("acl_cache_ttl") {
            Some(ttl) => {
                let seconds = ttl.strip_suffix(" secs")?;
                one(setting.becomes("acl", &format!("vfile::cache_secs={seconds}")))
            }
            None => one(setting.renamed("acl")),
        },
        "acl_cache_ttl" if facts.get("acl_driver") == Some("vfile") && text.ends_with(" secs") => Some(Vec::new()),
        "imap_acl_allow_anyone" if setting.is_yes() => one(setting.becomes("acl_anyone", "allow")),
        "mail_compress_write_method" => one(setting.renamed("zlib_save")),
        "fts_solr_url" => one(setting.becomes("fts_solr", &format!("url={text}"))),
        _ => {
            let (method, _) = COMPRESSION.iter().find(|(_, level)| *level == key)?;
            (facts.get("mail_compress_write_method") == Some(*method)).then(|| vec![setting.renamed("zlib_save_level")])
        }
    }
}

fn older_block(block: &Block, facts: &Facts) -> Option<Vec<(String, String)>> {
    match block.kind.as_str() {
        "quota" => quota::older(block, &facts.quota),
        "sieve_script" => older_script(block),
        "fts" if block.nodes.is_empty() && block.bare_name() == "solr" => Some(vec![("fts".into(), block.bare_name())]),
        "acl_sharing_map" => match block.nodes.as_slice() {
            [Node::Block(dict)]
                if dict.kind == "dict" && dict.name == "file" && dict.settings().count() == dict.nodes.len() =>
            {
                let path = dict.value("path").filter(|_| dict.nodes.len() == 1)?;
                Some(vec![("acl_shared_dict".into(), format!("file:{}", variables::older(&path, Scope::Mail)?))])
            }
            _ => None,
        },
        "mailbox" | "imapsieve_from" => older_imapsieve(block, &[]),
        kind if EXTENSIONS.contains(&kind) && block.name.is_empty() => {
            let words = block.nodes.iter().map(|node| match node {
                Node::Set(setting) if setting.is_yes() => Some(format!("+{}", setting.key)),
                Node::Set(setting) if setting.is_no() => Some(format!("-{}", setting.key)),
                _ => None,
            });
            Some(vec![(kind.to_owned(), words.collect::<Option<Vec<_>>>()?.join(" "))])
        }
        _ => None,
    }
}

/// The values of a script's block, by names without their beginning; `None` where there is more than settings.
fn script_values(block: &Block) -> Option<BTreeMap<String, String>> {
    let mut values = BTreeMap::new();
    for node in &block.nodes {
        match node {
            Node::Set(setting) => {
                let key = setting.key.strip_prefix("sieve_script_").unwrap_or(&setting.key);
                values.insert(key.to_owned(), setting.text());
            }
            Node::Text(text) if is_comment(text) => {}
            _ => return None,
        }
    }
    if values.remove("driver").is_some_and(|driver| driver != "file") {
        return None;
    }
    Some(values)
}

fn older_script(block: &Block) -> Option<Vec<(String, String)>> {
    let mut values = script_values(block)?;
    let kind = values.remove("type").unwrap_or_else(|| "personal".into());
    let mut take = |key: &str| -> Option<Option<String>> {
        match values.remove(key) {
            Some(value) => Some(Some(variables::older(&value, Scope::Mail)?)),
            None => Some(None),
        }
    };
    let (path, active, name, bin, precedence) =
        (take("path")??, take("active_path")?, take("name")?, take("bin_path")?, take("precedence")?);
    let key = match (kind.as_str(), precedence) {
        ("personal", None) => "sieve".to_owned(),
        ("before" | "after", None) => format!("sieve_{kind}"),
        ("before" | "after", Some(number)) if number == "1" => format!("sieve_{kind}"),
        ("before" | "after", Some(number)) if number.bytes().all(|b| b.is_ascii_digit()) => {
            format!("sieve_{kind}{number}")
        }
        ("default" | "discard" | "global", None) => format!("sieve_{kind}"),
        _ => return None,
    };
    if !values.is_empty() || path.contains([':', ';']) {
        return None;
    }
    let mut out = Vec::new();
    let mut value = if kind == "personal" { format!("file:{path}") } else { path };
    for (option, text) in [("active", active), ("bindir", bin)] {
        value.push_str(&text.map(|text| format!(";{option}={text}")).unwrap_or_default());
    }
    match name {
        Some(name) if kind == "default" => out.push(("sieve_default_name".to_owned(), name)),
        Some(name) => value.push_str(&format!(";name={name}")),
        None => {}
    }
    out.insert(0, (key, value));
    Some(out)
}

/// Only the blocks that [`imapsieve`] makes, or that are like them.
fn older_imapsieve(block: &Block, around: &[(&str, String)]) -> Option<Vec<(String, String)>> {
    let around: Vec<(&str, String)> =
        around.iter().cloned().chain([(block.kind.as_str(), block.bare_name())]).collect();
    let of = |kind: &str| around.iter().find(|(one, _)| *one == kind).map(|(_, name)| name.clone());
    let mut out = Vec::new();
    if block.nodes.len() > MAX_SCRIPTS {
        return None;
    }
    for node in &block.nodes {
        match node {
            Node::Block(inner) if inner.kind == "imapsieve_from" && block.kind == "mailbox" => {
                out.extend(older_imapsieve(inner, &around)?);
            }
            Node::Block(inner) if inner.kind == "sieve_script" => {
                let begin = inner.name.strip_prefix("imapsieve_mailbox")?;
                let (number, _) = begin.split_once('_').filter(|(number, _)| number.parse::<u16>().is_ok())?;
                let values = script_values(inner)?;
                let kind = values.get("type").filter(|kind| ["before", "after"].contains(&kind.as_str()))?;
                let cause = values.get("cause")?.to_ascii_uppercase();
                let path = variables::older(values.get("path")?, Scope::Mail)?;
                if values.len() != 3 {
                    return None;
                }
                let key = |what: &str| format!("imapsieve_mailbox{number}_{what}");
                if !out.iter().any(|(there, _)| *there == key("name")) {
                    out.push((key("name"), of("mailbox").unwrap_or_else(|| "*".into())));
                    out.extend(of("imapsieve_from").map(|from| (key("from"), from)));
                    out.push((key("causes"), cause));
                }
                out.push((key(kind), format!("file:{path}")));
            }
            Node::Text(text) if is_comment(text) => {}
            _ => return None,
        }
    }
    (!out.is_empty()).then_some(out)
}
