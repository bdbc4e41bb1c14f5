//! The files of 2.4 as 2.3 has them.

use super::{
    Converts, auth, location,
    newer::{GONE, uses},
    plugins, quota, settings,
    syntax::{Block, Node, Setting, commented},
    variables::{self, Scope},
};
use std::collections::{BTreeMap, BTreeSet};

/// What 2.3 does not have, and needs not.
const TAKEN_OUT: [&str; 3] = ["dovecot_config_version", "dovecot_storage_version", "auth_allow_weak_schemes"];

/// What all files together say.
#[derive(Debug, Default)]
pub(super) struct Facts {
    pub(super) plugins: plugins::Facts,
    /// Password files with fields that the other version does not know.
    pub(super) users: BTreeSet<String>,
    /// Whether it is said what is served.
    pub(super) serves: bool,
    /// Plugins that are loaded anywhere.
    pub(super) loaded: BTreeSet<String>,
}

pub(super) struct Older<'f> {
    pub(super) facts: &'f Facts,
    /// How many rules for single mailboxes there are.
    pub(super) rules: usize,
}

impl Converts for Older<'_> {
    fn setting(&self, setting: &Setting) -> Option<Vec<Node>> {
        match setting.key.as_str() {
            // 2.3 takes every scheme of passwords.
            "auth_allow_weak_schemes" if !setting.is_yes() => None,
            key if TAKEN_OUT.contains(&key) => Some(Vec::new()),
            "log_debug" if setting.text() == "category=ssl" => {
                Some(vec![Node::Set(setting.becomes("verbose_ssl", "yes"))])
            }
            // Nothing reads it where the plugin is not loaded.
            key if key.starts_with("fts_") && !self.facts.loaded.contains("fts") => {
                Some(vec![commented(&Node::Set(setting.clone()))])
            }
            _ => settings::older(setting),
        }
    }

    fn block(&mut self, block: Block) -> Vec<Node> {
        let kind = block.kind.as_str();
        match kind {
            "protocol" | "local" | "remote" | "local_name" => {
                let nodes = self.nodes(block.nodes.clone(), Scope::Mail);
                vec![Node::Block(Block { nodes, ..block })]
            }
            "namespace" => self.namespace(block),
            "service" if GONE.contains(&block.bare_name().as_str()) => vec![Node::Block(block)],
            "service" if block.bare_name() == "auth-worker" && lone_limit(&block).is_some() => lone_limit(&block)
                .into_iter()
                .map(|limit| Node::Set(Setting::new(&block.indent, "auth_worker_max_count", &limit)))
                .collect(),
            "service" => vec![Node::Block(service(block))],
            "dict_server" if block.is_empty() => vec![commented(&Node::Block(block))],
            "mail_plugins" | "protocols" | "imap_capability" => {
                vec![settings::older_switches(&block).unwrap_or(Node::Block(block))]
            }
            _ if auth::is_database(kind) && uses(&block, &self.facts.users) => vec![Node::Block(block)],
            _ if auth::is_database(kind) => vec![Node::Block(auth::older(&block).unwrap_or(block))],
            _ => vec![Node::Block(block)],
        }
    }
}

impl Older<'_> {
    /// Settings and blocks outside of those with settings of their own.
    pub(super) fn nodes(&mut self, nodes: Vec<Node>, scope: Scope) -> Vec<Node> {
        let (nodes, location) = joined(nodes, scope, "mail_location");
        let mut out: Vec<Node> = Vec::new();
        // The blank line behind what 2.4 wants to read first goes with it.
        let mut is_taken_out = false;
        for (number, node) in nodes.into_iter().enumerate() {
            if location.as_ref().is_some_and(|(at, _)| *at == number) {
                out.extend(location.iter().map(|(_, setting)| Node::Set(setting.clone())));
            }
            let is_blank = matches!(&node, Node::Text(text) if text.trim().is_empty());
            if std::mem::take(&mut is_taken_out) && is_blank {
                continue;
            }
            is_taken_out = matches!(&node, Node::Set(setting) if TAKEN_OUT.contains(&setting.key.as_str()));
            match plugins::older(&node, &self.facts.plugins) {
                Some(made) => in_plugin(&mut out, made),
                None => out.extend(self.node(node)),
            }
        }
        out
    }

    fn namespace(&mut self, block: Block) -> Vec<Node> {
        let scope = if block.value("type").as_deref() == Some("shared") { Scope::Shared } else { Scope::Mail };
        let (nodes, found) = joined(block.nodes.clone(), scope, "location");
        let prefix = block.value("prefix").unwrap_or_default();
        let was_empty = nodes.is_empty();
        let mut rules = Vec::new();
        let mut out = Vec::new();
        for (number, node) in nodes.into_iter().enumerate() {
            if found.as_ref().is_some_and(|(at, _)| *at == number) {
                out.extend(found.iter().map(|(_, setting)| Node::Set(setting.clone())));
            }
            match node {
                Node::Set(setting) if setting.key == "prefix" && setting.value.contains(['%', '$']) => {
                    let scope = if scope == Scope::Shared { Scope::Prefix } else { scope };
                    out.extend(match variables::older(&setting.value, scope) {
                        Some(value) => vec![Node::Set(Setting { value, ..setting })],
                        None => settings::unconverted(&setting),
                    });
                }
                Node::Block(mailbox) if mailbox.kind == "mailbox" => {
                    out.extend(self.mailbox(mailbox, &prefix, &mut rules).map(Node::Block));
                }
                node => out.push(node),
            }
        }
        let mut all = Vec::new();
        // A block for rules alone says nothing in 2.3.
        if was_empty || !out.is_empty() {
            all.push(Node::Block(Block { nodes: out, ..block }));
        }
        in_plugin(&mut all, rules);
        all
    }

    /// A mailbox without the rules on its quota; nothing, where it has nothing else.
    fn mailbox(&mut self, mailbox: Block, prefix: &str, rules: &mut Vec<Setting>) -> Option<Block> {
        let was_empty = mailbox.nodes.is_empty();
        let name = format!("{prefix}{}", mailbox.bare_name());
        let mut nodes = Vec::new();
        for node in &mailbox.nodes {
            let rule = match node {
                Node::Set(setting) => quota::older_mailbox(&name, setting),
                _ => None,
            };
            match rule {
                Some(rule) => {
                    self.rules += 1;
                    rules.push(Setting::new("", &format!("quota_rule{}", self.rules + 1), &rule));
                }
                None => nodes.push(node.clone()),
            }
        }
        (was_empty || !nodes.is_empty()).then_some(Block { nodes, ..mailbox })
    }
}

/// The settings of a location as one, with its place; they stay where 2.3 cannot say the same.
fn joined(nodes: Vec<Node>, scope: Scope, key: &str) -> (Vec<Node>, Option<(usize, Setting)>) {
    let is_part = |node: &Node| matches!(node, Node::Set(setting) if location::is_part(&setting.key));
    let parts: Vec<(String, String)> = nodes
        .iter()
        .filter_map(|node| match node {
            Node::Set(setting) if location::is_part(&setting.key) => Some((setting.key.clone(), setting.text())),
            _ => None,
        })
        .collect();
    let Some(text) = location::join(&parts, scope) else { return (nodes, None) };
    let Some(at) = nodes.iter().position(is_part) else { return (nodes, None) };
    let Some(Node::Set(first)) = nodes.get(at).cloned() else { return (nodes, None) };
    let setting = first.becomes(key, &text);
    let mut kept: Vec<Node> = nodes.into_iter().filter(|node| !is_part(node)).collect();
    // A place at the end.
    if at >= kept.len() {
        kept.push(Node::Text(String::new()));
    }
    (kept, Some((at, setting)))
}

/// Puts settings into the `plugin` block that was begun just before, or into one of their own.
fn in_plugin(out: &mut Vec<Node>, made: Vec<Setting>) {
    let Some(indent) = made.first().map(|first| first.indent.clone()) else { return };
    let inside = made.into_iter().map(|setting| {
        let tail = if setting.tail.ends_with('\n') { setting.tail.clone() } else { "\n".into() };
        Node::Set(Setting { indent: format!("{indent}  "), tail, ..setting })
    });
    match out.last_mut() {
        Some(Node::Block(block)) if block.kind == "plugin" => block.nodes.extend(inside),
        _ => out.push(Node::Block(Block::new(&indent, "plugin", "", inside.collect()))),
    }
}

/// The one setting that 2.3 has outside.
fn lone_limit(block: &Block) -> Option<String> {
    match block.nodes.as_slice() {
        [Node::Set(setting)] if setting.key == "process_limit" => Some(setting.text()),
        _ => None,
    }
}

fn service(block: Block) -> Block {
    let nodes = block.nodes.into_iter().map(|node| match node {
        Node::Set(setting) => Node::Set(match setting.key.as_str() {
            "restart_request_count" if setting.text() == "unlimited" => setting.becomes("service_count", "0"),
            "restart_request_count" => setting.renamed("service_count"),
            "idle_kill_interval" => setting.renamed("idle_kill"),
            _ => referring(setting),
        }),
        Node::Block(listener) => {
            let nodes = listener.nodes.into_iter().map(|node| match node {
                Node::Set(setting) if setting.key == "listen" => Node::Set(setting.renamed("address")),
                Node::Set(setting) => Node::Set(referring(setting)),
                node => node,
            });
            Node::Block(Block { nodes: nodes.collect(), ..listener })
        }
        node => node,
    });
    Block { nodes: nodes.collect(), ..block }
}

fn referring(setting: Setting) -> Setting {
    let value = settings::older_reference(&setting.value);
    Setting { value, ..setting }
}

/// Gathers what one file says.
pub(super) fn gather(nodes: &[Node], facts: &mut Facts) {
    for node in nodes {
        match node {
            Node::Set(setting) => {
                facts.serves |= setting.key == "protocols";
                if setting.key == "mail_plugins" {
                    facts.loaded.extend(setting.text().split_whitespace().map(str::to_owned));
                }
                facts.plugins.add(&setting.key, setting.text());
            }
            Node::Block(block) => {
                facts.serves |= block.kind == "protocols";
                if block.kind == "mail_plugins" {
                    facts.loaded.extend(block.settings().map(|one| one.key.clone()));
                }
                if block.kind == "quota" {
                    let name = block.bare_name();
                    let roots = &mut facts.plugins.quota;
                    if !roots.roots.iter().any(|(_, there)| *there == name) {
                        let count = roots.roots.len();
                        roots.add(&if count == 0 { String::new() } else { (count + 1).to_string() }, name);
                    }
                }
                gather(&block.nodes, facts);
            }
            Node::Text(_) => {}
        }
    }
}

/// The version that a file says it is of.
pub(super) fn says_version(nodes: &[Node]) -> bool {
    nodes.iter().any(|node| matches!(node, Node::Set(setting) if setting.key == "dovecot_config_version"))
}

/// Files that blocks for SQL and LDAP include, with the driver of each.
pub(super) fn external(nodes: &[Node], found: &mut BTreeMap<String, super::external::Kind>) {
    use super::external::Kind;
    for node in nodes {
        let Node::Block(block) = node else { continue };
        if !auth::is_database(&block.kind) {
            continue;
        }
        let kind = match block.value("driver").unwrap_or_else(|| block.bare_name()).as_str() {
            "sql" => Kind::Sql,
            "ldap" => Kind::Ldap,
            _ => continue,
        };
        let texts = block.nodes.iter().filter_map(|node| match node {
            Node::Text(text) => super::syntax::included(text),
            _ => None,
        });
        found.extend(texts.filter(|path| path.starts_with('/')).map(|path| (path.to_owned(), kind)));
    }
}
