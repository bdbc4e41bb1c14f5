//! Quotas: `quota_rule = *:storage=1G` of 2.3 is `quota_storage_size = 1G` in 2.4, and a quota root is a block.

use super::{
    syntax::{Block, Node, Setting, is_comment},
    variables::{self, Scope},
};

/// What a setting of 2.3 is: `quota2_warning3` is of root `2`.
#[derive(Debug, PartialEq)]
pub(super) enum Key<'k> {
    Root(&'k str),
    Rule(&'k str),
    Warning(&'k str),
}

/// What of the whole configuration the rules need.
#[derive(Debug, Default)]
pub(super) struct Facts {
    /// The roots: their numbers in 2.3, and their names.
    pub(super) roots: Vec<(String, String)>,
    /// The one namespace with the INBOX: its name, and the prefix of its mailboxes.
    pub(super) inbox: Option<(String, String)>,
}

impl Facts {
    /// More roots than this are no configuration that somebody wrote.
    const MAX_ROOTS: usize = 16;

    pub(super) fn add(&mut self, number: &str, name: String) {
        self.roots.retain(|(there, _)| there != number);
        if self.roots.len() < Self::MAX_ROOTS {
            self.roots.push((number.to_owned(), name));
        }
    }
}

pub(super) fn key(key: &str) -> Option<Key<'_>> {
    let rest = key.strip_prefix("quota")?;
    let digits = rest.len() - rest.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    let (root, rest) = rest.split_at(digits);
    let is_number = |text: &str| text.chars().all(|c| c.is_ascii_digit());
    match (rest, rest.strip_prefix("_rule"), rest.strip_prefix("_warning")) {
        ("", ..) => Some(Key::Root(root)),
        (_, Some(number), _) if is_number(number) => Some(Key::Rule(root)),
        (_, _, Some(number)) if is_number(number) => Some(Key::Warning(root)),
        _ => None,
    }
}

/// What else is said of a root: settings with their values.
type Others = Vec<(&'static str, &'static str)>;

/// `maildir:User quota:noenforcing`: the driver, the name, and what else is said.
fn root(value: &str) -> Option<(&str, &str, Others)> {
    let mut parts = value.split(':');
    let driver = parts.next().filter(|driver| ["maildir", "count", "fs"].contains(driver))?;
    let name = parts.next().unwrap_or_default();
    let others: Option<Vec<_>> = parts
        .map(|part| match part {
            "noenforcing" => Some(("enforce", "no")),
            "hidden" => Some(("hidden", "yes")),
            "ignoreunlimited" => Some(("ignore_unlimited", "yes")),
            _ => None,
        })
        .collect();
    Some((driver, name, others?))
}

/// The name of a root, as a block has it.
pub(super) fn root_name(number: &str, value: &str) -> Option<String> {
    let (_, name, _) = root(value)?;
    Some(if name.is_empty() { format!("quota{number}") } else { name.to_owned() })
}

fn named(name: &str) -> String {
    format!("\"{}\"", name.replace('\\', "\\\\").replace('"', "\\\""))
}

fn set(indent: &str, key: &str, value: &str) -> Node {
    Node::Set(Setting::new(indent, key, value))
}

pub(super) fn newer(setting: &Setting, facts: &Facts) -> Option<Vec<Node>> {
    let indent = setting.indent.as_str();
    let inner = format!("{indent}  ");
    let text = setting.text();
    let block = |root: &str, nodes: Vec<Node>| {
        let (_, name) = facts.roots.iter().find(|(number, _)| number == root)?;
        Some(vec![Node::Block(Block::new(indent, "quota", &named(name), nodes))])
    };
    match key(&setting.key)? {
        Key::Root(number) => {
            let (driver, _, others) = root(&text)?;
            let mut nodes = vec![set(&inner, "driver", driver)];
            nodes.extend(others.into_iter().map(|(key, value)| set(&inner, key, value)));
            block(number, nodes)
        }
        Key::Rule(root) => match text.split_once(':')? {
            ("*", _) => {
                let limits = everywhere(&text)?;
                // The settings of all roots, which a userdb may override, where there is one.
                if facts.roots.len() == 1 && facts.roots[0].0 == root {
                    return Some(limits.iter().map(|(key, value)| set(indent, key, value)).collect());
                }
                block(
                    root,
                    limits
                        .iter()
                        .map(|(key, value)| set(&inner, key.strip_prefix("quota_").unwrap_or(key), value))
                        .collect(),
                )
            }
            (mailbox, limit) if facts.roots.len() == 1 => {
                let (namespace, prefix) = facts.inbox.as_ref()?;
                let mailbox = mailbox
                    .strip_prefix(prefix.as_str())
                    .filter(|mailbox| !mailbox.is_empty() && !mailbox.contains(['*', '?', '%', '"']))?;
                let (key, value) = mailbox_limit(limit)?;
                let name = if mailbox.contains(' ') { named(mailbox) } else { mailbox.to_owned() };
                let node = set(&format!("{inner}  "), key, &value);
                let mailbox = Block::new(&inner, "mailbox", &name, vec![node]);
                Some(vec![Node::Block(Block::new(indent, "namespace", namespace, vec![Node::Block(mailbox)]))])
            }
            _ => None,
        },
        Key::Warning(root) => {
            let (limit, command) = text.split_once(char::is_whitespace)?;
            let (service, arguments) = command.trim().split_once(char::is_whitespace).unwrap_or((command.trim(), ""));
            let (threshold, limit) = limit.strip_prefix('-').map_or((None, limit), |limit| (Some("under"), limit));
            let (resource, percent) = limit.split_once('=')?;
            let percent: u8 = percent.trim_end_matches('%').parse().ok().filter(|_| percent.ends_with('%'))?;
            let deep = format!("{inner}  ");
            let mut nodes = match resource {
                "storage" => vec![set(&deep, "quota_storage_percentage", &percent.to_string())],
                "messages" => vec![
                    set(&deep, "resource", "message"),
                    set(&deep, "quota_message_percentage", &percent.to_string()),
                ],
                _ => return None,
            };
            nodes.extend(threshold.map(|threshold| set(&deep, "threshold", threshold)));
            let arguments = variables::newer(arguments, Scope::Mail)?;
            let arguments = (!arguments.is_empty()).then(|| set(&format!("{deep}  "), "args", &arguments));
            nodes.push(Node::Block(Block::new(&deep, "execute", service, arguments.into_iter().collect())));
            block(root, vec![Node::Block(Block::new(&inner, "warning", &setting.key, nodes))])
        }
    }
}

/// A rule for all mailboxes, `*:storage=1G:messages=1000`.
pub(super) fn everywhere(rule: &str) -> Option<Vec<(&'static str, String)>> {
    let limits = rule.strip_prefix("*:")?.split(':').map(|limit| match limit.split_once('=')? {
        ("storage", value) => Some(("quota_storage_size", size(value, "k")?)),
        ("bytes", value) => Some(("quota_storage_size", size(value, "B")?)),
        ("messages", value) => Some(("quota_message_count", size(value, "")?)),
        _ => None,
    });
    // The name of an attribute of LDAP has a colon, too.
    match rule.split_once('=') {
        Some(("*:bytes", value)) if value.starts_with("%{") => Some(vec![("quota_storage_size", size(value, "B")?)]),
        Some(("*:storage", value)) if value.starts_with("%{") => Some(vec![("quota_storage_size", size(value, "k")?)]),
        _ => limits.collect(),
    }
}

pub(super) fn older_everywhere(resource: &str, value: &str) -> Option<String> {
    let is_number = !value.is_empty() && value.chars().all(|c| c.is_ascii_digit());
    let unit = if is_number && resource == "storage" { "B" } else { "" };
    (value != "unlimited" && !value.contains([' ', ':']) || value.starts_with("%{"))
        .then(|| format!("*:{resource}={value}{unit}"))
}

/// A size with its unit: without one, 2.3 counts kilobytes and 2.4 bytes.
fn size(text: &str, unit: &str) -> Option<String> {
    let digits = text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    let is_variable =
        text.strip_prefix("%{").and_then(|rest| rest.split_once('}')).is_some_and(|(_, rest)| rest.is_empty());
    match (&text[..digits], &text[digits..]) {
        ("", _) if is_variable => Some(format!("{text}{unit}")),
        ("0", "") => Some("0".into()),
        ("", _) => None,
        (number, "") => Some(format!("{number}{unit}")),
        (_, "B" | "b" | "K" | "k" | "M" | "m" | "G" | "g" | "T" | "t") if !unit.is_empty() => Some(text.to_owned()),
        // 2.3 reads the first letter of a unit alone.
        (_, "KB" | "kB" | "kb" | "MB" | "mb" | "GB" | "gb" | "TB" | "tb") if !unit.is_empty() => {
            Some(text[..=digits].to_owned())
        }
        _ => None,
    }
}

/// A rule for one mailbox.
fn mailbox_limit(limit: &str) -> Option<(&'static str, String)> {
    if limit == "ignore" {
        return Some(("quota_ignore", "yes".into()));
    }
    let value = limit.strip_prefix("storage=")?;
    let (is_more, value) = value.strip_prefix('+').map_or((false, value), |value| (true, value));
    match (is_more, value.strip_suffix('%')) {
        (_, Some(percent)) => {
            let percent: u32 = percent.trim_end_matches('%').parse().ok()?;
            Some(("quota_storage_percentage", (percent + if is_more { 100 } else { 0 }).to_string()))
        }
        (true, None) => Some(("quota_storage_extra", size(value, "k")?)),
        (false, None) => None,
    }
}

/// The rule of 2.3 for a mailbox, from a setting of its block in 2.4.
pub(super) fn older_mailbox(mailbox: &str, setting: &Setting) -> Option<String> {
    let text = setting.text();
    match setting.key.as_str() {
        "quota_ignore" if setting.is_yes() => Some(format!("{mailbox}:ignore")),
        "quota_storage_extra" => Some(format!("{mailbox}:storage=+{text}")),
        "quota_storage_percentage" => {
            let percent: u32 = text.parse().ok()?;
            let more = percent.checked_sub(100).filter(|more| *more > 0);
            Some(more.map_or_else(
                || format!("{mailbox}:storage={percent}%%"),
                |more| format!("{mailbox}:storage=+{more}%%"),
            ))
        }
        _ => None,
    }
}

/// A block of 2.4 as settings of 2.3.
pub(super) fn older(block: &Block, facts: &Facts) -> Option<Vec<(String, String)>> {
    let name = block.bare_name();
    let (number, _) = facts.roots.iter().find(|(_, root)| *root == name)?;
    let mut out = Vec::new();
    let mut limits = String::new();
    let mut root = None;
    let mut options = String::new();
    for node in &block.nodes {
        match node {
            Node::Text(text) if is_comment(text) => {}
            Node::Set(setting) => {
                let text = setting.text();
                match setting.key.strip_prefix("quota_").unwrap_or(&setting.key) {
                    "driver" if ["maildir", "count", "fs"].contains(&text.as_str()) => root = Some(text),
                    "enforce" if setting.is_no() => options.push_str(":noenforcing"),
                    "hidden" if setting.is_yes() => options.push_str(":hidden"),
                    "ignore_unlimited" if setting.is_yes() => options.push_str(":ignoreunlimited"),
                    "storage_size" => limits.push_str(older_everywhere("storage", &text)?.strip_prefix('*')?),
                    "message_count" => limits.push_str(older_everywhere("messages", &text)?.strip_prefix('*')?),
                    _ => return None,
                }
            }
            Node::Block(warning) if ["warning", "quota_warning"].contains(&warning.kind.as_str()) => {
                let key = match key(&warning.name) {
                    Some(Key::Warning(_)) => warning.name.clone(),
                    _ => format!("quota{number}_warning"),
                };
                out.push((key, older_warning(warning)?));
            }
            _ => return None,
        }
    }
    // A warning or a limit alone may add to a root that another block names.
    let is_root = root.is_some() || !options.is_empty() || out.is_empty() && limits.is_empty();
    if is_root {
        out.insert(
            0,
            (format!("quota{number}"), format!("{}:{name}{options}", root.unwrap_or_else(|| "count".into()))),
        );
    }
    if !limits.is_empty() {
        out.push((format!("quota{number}_rule"), format!("*{limits}")));
    }
    Some(out)
}

fn older_warning(block: &Block) -> Option<String> {
    let mut resource = "storage";
    let mut percent = None;
    let mut sign = "";
    let mut command = None;
    for node in &block.nodes {
        match node {
            Node::Text(text) if is_comment(text) => {}
            Node::Set(setting) => {
                let text = setting.text();
                let key = setting
                    .key
                    .strip_prefix("quota_warning_")
                    .or_else(|| setting.key.strip_prefix("quota_"))
                    .unwrap_or(&setting.key);
                match (key, text.as_str()) {
                    ("storage_percentage" | "message_percentage", _) => percent = text.parse::<u8>().ok(),
                    ("resource", "message") => resource = "messages",
                    ("resource", "storage") | ("threshold", "over") => {}
                    ("threshold", "under") => sign = "-",
                    _ => return None,
                }
            }
            Node::Block(execute) if execute.kind == "execute" && execute.settings().all(|one| one.key == "args") => {
                let arguments = variables::older(&execute.value("args").unwrap_or_default(), Scope::Mail)?;
                command = Some(format!("{} {arguments}", execute.bare_name()).trim_end().to_owned());
            }
            _ => return None,
        }
    }
    Some(format!("{sign}{resource}={}%% {}", percent?, command?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_unit_of_two_letters_is_its_first_one() {
        assert_eq!(everywhere("*:storage=1GB"), Some(vec![("quota_storage_size", "1G".to_owned())]));
        assert_eq!(mailbox_limit("storage=+100MB"), Some(("quota_storage_extra", "100M".to_owned())));
        assert_eq!((everywhere("*:messages=1GB"), everywhere("*:storage=1Gx")), (None, None));
    }
}
