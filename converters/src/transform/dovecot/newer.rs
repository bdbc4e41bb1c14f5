//! The files of 2.3 as 2.4 has them.

use super::{
    Converts, auth,
    external::Kind,
    location, plugins, settings,
    syntax::{self, Block, Node, Setting, commented, included},
    variables::{self, Scope},
};
use std::collections::{BTreeMap, BTreeSet};

/// Services that 2.4 does not have, and that only say how they would be reached.
pub(super) const GONE: [&str; 7] =
    ["director", "ipc", "old-stats", "replicator", "aggregator", "tcpwrap", "dict-async"];

/// What all files together say.
#[derive(Debug, Default)]
pub(super) struct Facts {
    pub(super) plugins: plugins::Facts,
    /// Password files with fields that the other version does not know.
    pub(super) users: BTreeSet<String>,
    /// How often a setting is made at all.
    pub(super) counts: BTreeMap<String, usize>,
    /// `ssl = required`, and nothing else anywhere.
    pub(super) needs_tls: bool,
    /// The names of namespaces.
    pub(super) namespaces: BTreeSet<String>,
    /// Files of SQL and LDAP, by path.
    pub(super) external: BTreeMap<String, Kind>,
}

pub(super) struct Newer<'f> {
    pub(super) facts: &'f Facts,
    /// Where the file lies that is converted.
    pub(super) dir: String,
    /// Names that blocks have already: kind and name.
    pub(super) used: BTreeSet<(String, String)>,
    /// For names that were not free: the number to try next.
    pub(super) numbers: BTreeMap<(String, String), usize>,
}

impl Converts for Newer<'_> {
    fn setting(&self, setting: &Setting) -> Option<Vec<Node>> {
        let is_once = |key: &str| self.facts.counts.get(key).is_some_and(|count| *count == 1);
        match setting.key.as_str() {
            "mail_location" => located(setting, Scope::Mail),
            "verbose_ssl" if setting.is_no() && is_once("verbose_ssl") => {
                Some(vec![commented(&Node::Set(setting.clone()))])
            }
            "verbose_ssl"
                if setting.is_yes() && is_once("verbose_ssl") && !self.facts.counts.contains_key("log_debug") =>
            {
                Some(vec![Node::Set(setting.becomes("log_debug", "category=ssl"))])
            }
            // As in 2.3, where it says nothing then; 2.4 refuses both together.
            "disable_plaintext_auth" if setting.is_no() && self.facts.needs_tls => {
                Some(vec![commented(&Node::Set(setting.clone()))])
            }
            _ => settings::newer(setting, &self.dir),
        }
    }

    fn block(&mut self, block: Block) -> Vec<Node> {
        let kind = block.kind.as_str();
        match kind {
            "protocol" | "local" | "remote" | "local_name" => self.filter(block),
            "namespace" => vec![Node::Block(self.namespace(block))],
            "service" => self.service(block),
            "plugin" => self.plugin(block),
            "dict" if block.is_empty() => vec![commented(&Node::Block(block))],
            _ if auth::is_database(kind) => {
                let driver = block.value("driver").unwrap_or_default();
                let name = self.free_name(&block.kind, &driver);
                let is_said = self.facts.users.is_empty() || !uses(&block, &self.facts.users);
                let made = auth::newer(&block, &name, |path| self.facts.external.get(path).copied());
                match made.filter(|_| is_said) {
                    Some(made) => vec![Node::Block(made)],
                    None => {
                        self.used.remove(&(block.kind.clone(), name));
                        vec![Node::Block(block)]
                    }
                }
            }
            _ => vec![Node::Block(block)],
        }
    }
}

impl Newer<'_> {
    /// Settings and blocks outside of those with settings of their own.
    pub(super) fn nodes(&mut self, nodes: Vec<Node>) -> Vec<Node> {
        nodes.into_iter().flat_map(|node| self.node(node)).collect()
    }

    /// Blocks that say for whom settings are: 2.4 wants one for each name.
    fn filter(&mut self, block: Block) -> Vec<Node> {
        let nodes = self.nodes(block.nodes.clone());
        let names = block.bare_name();
        let block = Block { nodes, ..block };
        if block.kind != "local_name" || !names.contains(' ') {
            return vec![Node::Block(block)];
        }
        // The line of the last brace may end with the file.
        let close = format!("{}\n", block.close.trim_end());
        let each = names
            .split_whitespace()
            .map(|name| Node::Block(Block { close: close.clone(), ..block.clone().renamed("local_name", name) }));
        each.collect()
    }

    /// A name that no other block of this kind has, nor gets.
    fn free_name(&mut self, kind: &str, wanted: &str) -> String {
        let key = (kind.to_owned(), wanted.to_owned());
        if self.used.insert(key.clone()) {
            return key.1;
        }
        let number = self.numbers.entry(key).or_insert(1);
        loop {
            *number += 1;
            let name = format!("{wanted}{number}");
            if self.used.insert((kind.to_owned(), name.clone())) {
                return name;
            }
        }
    }

    fn namespace(&mut self, block: Block) -> Block {
        let scope = if block.value("type").as_deref() == Some("shared") { Scope::Shared } else { Scope::Mail };
        let block = if block.name.is_empty() {
            let prefix: String = block.value("prefix").unwrap_or_default();
            let word: String = prefix.chars().take_while(|c| c.is_ascii_alphanumeric()).collect();
            let is_inbox = block.value("inbox").is_some_and(|value| value == "yes");
            let wanted = if is_inbox { "inbox".into() } else { word.to_ascii_lowercase() };
            let name = self.free_name("namespace", if wanted.is_empty() { "ns" } else { &wanted });
            block.renamed("namespace", &name)
        } else {
            block
        };
        let nodes = block.nodes.iter().flat_map(|node| {
            let made = match node {
                Node::Set(setting) => match setting.key.as_str() {
                    "location" if setting.value.is_empty() => Some(vec![commented(node)]),
                    "location" => located(setting, scope),
                    "prefix" if scope == Scope::Shared => expanded(setting, Scope::Prefix),
                    "prefix" if setting.value.contains('%') => expanded(setting, scope),
                    key if key.starts_with(settings::UNCONVERTED) => settings::newer(setting, &self.dir),
                    _ => None,
                },
                _ => None,
            };
            made.unwrap_or_else(|| vec![node.clone()])
        });
        let nodes = nodes.collect();
        Block { nodes, ..block }
    }

    fn service(&mut self, block: Block) -> Vec<Node> {
        let name = block.bare_name();
        if GONE.contains(&name.as_str()) {
            // Debian's files have them with nothing in them.
            let kind = format!("{}service", settings::UNCONVERTED);
            return vec![if block.is_empty() {
                commented(&Node::Block(block))
            } else {
                Node::Block(Block { kind, ..block })
            }];
        }
        let mut listeners = 0;
        let nodes = block.nodes.into_iter().map(|node| match node {
            Node::Set(setting) => Node::Set(of_service(setting)),
            Node::Block(listener) => {
                let listener = if listener.name.is_empty() && listener.kind == "inet_listener" {
                    listeners += 1;
                    let name = if listeners == 1 { name.clone() } else { format!("{name}{listeners}") };
                    listener.renamed("inet_listener", &name)
                } else {
                    listener
                };
                let nodes = listener.nodes.into_iter().map(|node| match node {
                    Node::Set(setting) if setting.key == "address" => Node::Set(setting.renamed("listen")),
                    Node::Set(setting) => Node::Set(referring(setting)),
                    node => node,
                });
                Node::Block(Block { nodes: nodes.collect(), ..listener })
            }
            node => node,
        });
        vec![Node::Block(Block { nodes: nodes.collect(), ..block })]
    }

    /// What is converted stands where the block was; what is not, stays in it.
    fn plugin(&mut self, block: Block) -> Vec<Node> {
        if !block.nodes.iter().any(|node| !matches!(node, Node::Text(_)))
            && !block.nodes.iter().any(|node| matches!(node, Node::Text(text) if included(text).is_some()))
        {
            return vec![commented(&Node::Block(block))];
        }
        let (mut out, mut rest) = (Vec::new(), Vec::new());
        for node in &block.nodes {
            match node {
                Node::Set(setting) => match plugins::newer(setting, &block, &self.facts.plugins) {
                    Some(made) => out.extend(made),
                    None => rest.push(node.clone()),
                },
                Node::Text(text) if syntax::is_comment(text) => out.push(node.clone()),
                node => rest.push(node.clone()),
            }
        }
        if !rest.is_empty() {
            out.push(Node::Block(Block { nodes: rest, ..block }));
        } else if let Some(comment) = block.tail.find('#') {
            out.insert(0, Node::Text(format!("{}{}", block.indent, &block.tail[comment..])));
        }
        out
    }
}

/// Whether a block of a database names one of these files last in a setting.
pub(super) fn uses(block: &Block, files: &BTreeSet<String>) -> bool {
    block.settings().any(|one| one.text().split_whitespace().last().is_some_and(|path| files.contains(path)))
}

fn located(setting: &Setting, scope: Scope) -> Option<Vec<Node>> {
    let text = setting.text();
    if text.is_empty() {
        return Some(vec![commented(&Node::Set(setting.clone()))]);
    }
    let made = location::split(&text, scope)?;
    let mut nodes: Vec<Node> =
        made.iter().map(|(key, value)| Node::Set(Setting::new(&setting.indent, key, value))).collect();
    if let Some(Node::Set(first)) = nodes.first_mut() {
        first.tail = if setting.tail.ends_with('\n') { setting.tail.clone() } else { "\n".into() };
    }
    Some(nodes)
}

fn expanded(setting: &Setting, scope: Scope) -> Option<Vec<Node>> {
    Some(match variables::newer(&setting.value, scope) {
        Some(value) => vec![Node::Set(Setting { value, ..setting.clone() })],
        None => settings::unconverted(setting),
    })
}

fn of_service(setting: Setting) -> Setting {
    match setting.key.as_str() {
        "service_count" if setting.text() == "0" => setting.becomes("restart_request_count", "unlimited"),
        "service_count" => setting.renamed("restart_request_count"),
        "idle_kill" => setting.renamed("idle_kill_interval"),
        _ => referring(setting),
    }
}

fn referring(setting: Setting) -> Setting {
    let value = settings::newer_reference(&setting.value);
    Setting { value, ..setting }
}
