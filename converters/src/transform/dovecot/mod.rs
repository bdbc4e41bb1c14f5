//! Dovecot 2.3 and 2.4: the same lines and blocks, and other names for nearly everything in them.
//!
//! ```text
//! /etc/dovecot/dovecot.conf, local.conf, conf.d/*                settings, in both languages
//! /etc/dovecot/dovecot-sql.conf.ext, dovecot-ldap.conf.ext       2.3: languages of their own, named by passdb { args = … }
//!                                                                2.4: settings like others, included in passdb { … }
//! ```
//!
//! Only what has a certain counterpart is converted. Everything else stays as it is, which the other version refuses with file and line; what it would
//! take and misunderstand gets a name that none knows ([`settings::UNCONVERTED`]). Comments and blank lines stay where they are.

mod auth;
mod external;
mod location;
mod newer;
mod older;
mod plugins;
mod quota;
mod settings;
mod syntax;
mod variables;

use crate::{Error, part::Pattern, tree::Tree};
use atlas_model::TreePath;
use external::Kind;
use newer::Newer;
use older::Older;
use std::collections::{BTreeMap, BTreeSet};
use syntax::{Block, Node, Setting};
use variables::Scope;

const FILES: [&str; 4] =
    ["/etc/dovecot/*.conf", "/etc/dovecot/*.ext", "/etc/dovecot/conf.d/*.conf", "/etc/dovecot/conf.d/*.ext"];
const MAIN: &str = "/etc/dovecot/dovecot.conf";
/// What Debian 13's own file says.
const VERSION: &str = "2.4.0";
/// What 2.3 serves where nothing is said; 2.4 serves nothing.
const PROTOCOLS: &str = "imap pop3 lmtp";

/// One direction of the conversion, below the settings and blocks that are looked at together.
trait Converts {
    /// What becomes of a setting; `None` where both versions have it so.
    fn setting(&self, setting: &Setting) -> Option<Vec<Node>>;

    /// What becomes of a block, and of what is in it.
    fn block(&mut self, block: Block) -> Vec<Node>;

    /// What becomes of a line or block. One that only the version it goes back to knows has its name again.
    fn node(&mut self, node: Node) -> Vec<Node> {
        match node {
            Node::Text(_) => vec![node],
            Node::Set(setting) => self.setting(&setting).unwrap_or_else(|| vec![Node::Set(setting)]),
            Node::Block(block) => match block.kind.strip_prefix(settings::UNCONVERTED).map(str::to_owned) {
                Some(kind) => vec![Node::Block(Block { kind, ..block })],
                None => self.block(block),
            },
        }
    }
}

/// One file that can be read: where it lies, and what it says.
struct Source {
    path: TreePath,
    text: String,
    nodes: Vec<Node>,
}

fn read(tree: &Tree) -> Result<Vec<Source>, Error> {
    let patterns =
        FILES.iter().map(|file| Pattern::parse(file).map_err(Error::Damaged)).collect::<Result<Vec<_>, _>>()?;
    let mut found = Vec::new();
    for path in tree.files(&patterns) {
        if let Some(text) = tree.configuration(&path)?
            && let Some(nodes) = syntax::parse(&text)
        {
            found.push(Source { path, text, nodes });
        }
    }
    Ok(found)
}

pub(super) fn to_newer(tree: &mut Tree) -> Result<(), Error> {
    let sources = read(tree)?;
    let users = password_files(tree, &sources, &["userdb_mail=", "userdb_quota_rule"])?;
    put(tree, convert(sources, &users, convert_newer));
    Ok(())
}

pub(super) fn to_older(tree: &mut Tree) -> Result<(), Error> {
    let sources = read(tree)?;
    let users =
        password_files(tree, &sources, &["userdb_mail_driver=", "userdb_mail_path=", "userdb_quota_storage_size="])?;
    put(tree, convert(sources, &users, convert_older));
    Ok(())
}

/// The password files that say of users what only the version knows that they come from.
fn password_files(tree: &Tree, sources: &[Source], fields: &[&str]) -> Result<BTreeSet<String>, Error> {
    let databases = sources.iter().flat_map(|source| &source.nodes).filter_map(|node| match node {
        Node::Block(block) if auth::is_database(&block.kind) => Some(block),
        _ => None,
    });
    let mut paths: BTreeSet<String> = BTreeSet::new();
    for setting in databases.flat_map(syntax::Block::settings) {
        paths.extend(setting.text().split_whitespace().last().filter(|path| path.starts_with('/')).map(str::to_owned));
    }
    let mut found = BTreeSet::new();
    for path in paths {
        let Ok(file) = TreePath::parse(&path) else { continue };
        let users = tree.configuration(&file)?.unwrap_or_default();
        if fields.iter().any(|field| users.contains(field)) {
            found.insert(path);
        }
    }
    Ok(found)
}

fn put(tree: &mut Tree, changed: Vec<(TreePath, String)>) {
    for (path, text) in changed {
        tree.put(&path, text.into_bytes(), None);
    }
}

/// `dovecot.conf` and a file beside it, as 2.3 and as 2.4 have them.
pub(super) fn both(main: &str, beside: &str) -> Option<[[String; 2]; 2]> {
    let paths = [MAIN, "/etc/dovecot/dovecot-sql.conf.ext"].map(TreePath::parse);
    let [Ok(main_path), Ok(beside_path)] = paths else { return None };
    let files = [(main_path, main), (beside_path, beside)];
    let sources = || -> Option<Vec<Source>> {
        let source = |(path, text): &(TreePath, &str)| {
            Some(Source { path: path.clone(), text: (*text).to_owned(), nodes: syntax::parse(text)? })
        };
        files.iter().map(source).collect()
    };
    let with = |changed: Vec<(TreePath, String)>| {
        files.clone().map(|(path, text)| {
            changed.iter().find(|(one, _)| *one == path).map_or_else(|| text.to_owned(), |(_, text)| text.clone())
        })
    };
    Some([with(convert_older(sources()?, BTreeSet::new())), with(convert_newer(sources()?, BTreeSet::new()))])
}

fn is_main(source: &Source) -> bool {
    source.path.to_string() == MAIN
}

/// Whether a file is read as configuration: those above are, unless they are a database's, and what lies beside dovecot.conf is, where it is included.
fn is_configuration(path: &str, external: &BTreeMap<String, Kind>, included: &BTreeSet<String>) -> bool {
    !external.contains_key(path)
        && (!path.ends_with(".ext") || path.starts_with("/etc/dovecot/conf.d/") || included.contains(path))
}

/// Converts what Dovecot reads by itself: files that it does not read, such as Debian's where somebody wrote one of his own, mean nothing for it.
fn convert(
    sources: Vec<Source>,
    users: &BTreeSet<String>,
    one: impl Fn(Vec<Source>, BTreeSet<String>) -> Vec<(TreePath, String)>,
) -> Vec<(TreePath, String)> {
    let (read, left) = by_main(sources);
    let mut changed = one(read, users.clone());
    changed.extend(one(left, users.clone()));
    changed
}

/// The files that dovecot.conf leads to, with those of databases that they name, and all others. Without a dovecot.conf, all.
fn by_main(sources: Vec<Source>) -> (Vec<Source>, Vec<Source>) {
    let mut left: BTreeMap<String, &Source> = sources.iter().map(|source| (source.path.to_string(), source)).collect();
    let Some(main) = left.remove(MAIN) else { return (sources, vec![]) };
    let mut reached = BTreeSet::from([MAIN.to_owned()]);
    let mut open = vec![main];
    while let Some(source) = open.pop() {
        let patterns = included(std::slice::from_ref(source)).into_iter().filter_map(|path| Pattern::parse(&path).ok());
        let patterns: Vec<Pattern> = patterns.collect();
        let named = named_by(source);
        let is_next = |path: &String, source: &Source| {
            named.contains(path) || patterns.iter().any(|pattern| pattern.fits(&source.path))
        };
        let next: Vec<String> =
            left.iter().filter(|(path, source)| is_next(path, source)).map(|(path, _)| path.clone()).collect();
        for path in next {
            open.extend(left.remove(&path));
            reached.insert(path);
        }
    }
    sources.into_iter().partition(|source| reached.contains(&source.path.to_string()))
}

/// The files of databases that a file names.
fn named_by(source: &Source) -> BTreeSet<String> {
    let blocks = source.nodes.iter().filter_map(|node| match node {
        Node::Block(block) if auth::is_database(&block.kind) => Some(block),
        _ => None,
    });
    blocks.filter_map(|block| block.value("args")).collect()
}

/// The paths that are included anywhere.
fn included(sources: &[Source]) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for source in sources {
        let dir = dir_of(&source.path);
        let lines = source.text.lines().filter_map(|line| syntax::included(line.trim_start()));
        found.extend(lines.map(|path| if path.starts_with('/') { path.to_owned() } else { format!("{dir}/{path}") }));
    }
    found
}

fn dir_of(path: &TreePath) -> String {
    path.parent().map(|dir| dir.to_string()).unwrap_or_default()
}

fn changed(source: Source, nodes: &[Node]) -> Option<(TreePath, String)> {
    let text = syntax::print(nodes);
    (text != source.text).then_some((source.path, text))
}

fn convert_newer(sources: Vec<Source>, users: BTreeSet<String>) -> Vec<(TreePath, String)> {
    if sources.iter().any(|source| older::says_version(&source.nodes)) {
        return Vec::new();
    }
    let included = included(&sources);
    let mut facts = newer::Facts { external: databases(&sources), users, ..newer::Facts::default() };
    let is_conf =
        |source: &Source, facts: &newer::Facts| is_configuration(&source.path.to_string(), &facts.external, &included);
    let mut serves = false;
    let mut has_passwords = false;
    for source in
        sources.iter().filter(|source| is_conf(source, &facts)).map(|source| &source.nodes).collect::<Vec<_>>()
    {
        gather(source, &mut facts);
    }
    facts.plugins.quota.inbox = inbox(&sources);
    for source in &sources {
        let path = source.path.to_string();
        serves |= includes_protocols(source);
        let is_read = path.ends_with(".conf") || included.contains(&path);
        has_passwords |= is_read && is_conf(source, &facts) && passwords(&source.nodes);
    }
    serves |= facts.counts.contains_key("protocols");
    let used = facts.namespaces.iter().map(|name| ("namespace".to_owned(), name.clone())).collect();
    let mut newer = Newer { facts: &facts, dir: String::new(), used, numbers: BTreeMap::new() };
    let mut out = Vec::new();
    for mut source in sources {
        let nodes = std::mem::take(&mut source.nodes);
        let path = source.path.to_string();
        let nodes = match facts.external.get(&path) {
            Some(kind) => external::newer(nodes, *kind),
            None if is_conf(&source, &facts) => {
                newer.dir = dir_of(&source.path);
                let mut nodes = newer.nodes(nodes);
                if is_main(&source) {
                    head(&mut nodes, serves, has_passwords);
                }
                nodes
            }
            None => nodes,
        };
        out.extend(changed(source, &nodes));
    }
    out
}

/// Puts what 2.4 wants to read first before everything else, but after the comments at the beginning.
fn head(nodes: &mut Vec<Node>, serves: bool, has_passwords: bool) {
    let mut lines = vec![("dovecot_config_version", VERSION), ("dovecot_storage_version", VERSION)];
    lines.extend((!serves).then_some(("protocols", PROTOCOLS)));
    // 2.3 takes every scheme that a password is written in.
    lines.extend(has_passwords.then_some(("auth_allow_weak_schemes", "yes")));
    put_first(nodes, &lines);
}

/// Puts settings before all others.
fn put_first(nodes: &mut Vec<Node>, lines: &[(&str, &str)]) {
    let count = nodes.len();
    let is_text = |node: &Node| matches!(node, Node::Text(text) if syntax::is_comment(text));
    let mut at = nodes.iter().position(|node| !is_text(node)).unwrap_or(count);
    // A comment right before the first setting is about that.
    while at > 0 && at < count && matches!(&nodes[at - 1], Node::Text(text) if !text.trim().is_empty()) {
        at -= 1;
    }
    let mut new: Vec<Node> = lines.iter().map(|(key, value)| Node::Set(Setting::new("", key, value))).collect();
    new.extend((count > 0).then(|| Node::Text("\n".into())));
    if let Some(Node::Text(before)) = at.checked_sub(1).and_then(|before| nodes.get_mut(before))
        && !before.ends_with('\n')
    {
        before.push('\n');
    }
    nodes.splice(at..at, new);
}

/// Whether files of Debian's packages say what is served.
fn includes_protocols(source: &Source) -> bool {
    let mut paths = source.text.lines().filter_map(|line| syntax::included(line.trim_start()));
    paths.any(|path| path.contains("protocols.d"))
}

fn convert_older(sources: Vec<Source>, users: BTreeSet<String>) -> Vec<(TreePath, String)> {
    let main = sources.iter().find(|source| is_main(source));
    if main.is_some_and(|main| !older::says_version(&main.nodes)) {
        return Vec::new();
    }
    let mut external = BTreeMap::new();
    for source in &sources {
        older::external(&source.nodes, &mut external);
    }
    let included = included(&sources);
    let mut facts = older::Facts { users, ..older::Facts::default() };
    for source in sources.iter().filter(|source| is_configuration(&source.path.to_string(), &external, &included)) {
        older::gather(&source.nodes, &mut facts);
    }
    let serves = facts.serves || sources.iter().any(includes_protocols);
    let mut older = Older { facts: &facts, rules: 0 };
    let mut out = Vec::new();
    for mut source in sources {
        let nodes = std::mem::take(&mut source.nodes);
        let path = source.path.to_string();
        let nodes = match external.get(&path) {
            Some(kind) => external::older(nodes, *kind),
            None if is_configuration(&path, &external, &included) => {
                let mut nodes = older.nodes(nodes, Scope::Mail);
                // 2.4 serves nothing where nothing is said.
                if is_main(&source) && !serves {
                    put_first(&mut nodes, &[("protocols", "none")]);
                }
                nodes
            }
            None => nodes,
        };
        out.extend(changed(source, &nodes));
    }
    out
}

/// Files that `args` name for SQL or LDAP, and not for both.
fn databases(sources: &[Source]) -> BTreeMap<String, Kind> {
    let mut found: BTreeMap<String, Option<Kind>> = BTreeMap::new();
    for source in sources {
        for node in &source.nodes {
            let Node::Block(block) = node else { continue };
            if !auth::is_database(&block.kind) {
                continue;
            }
            let Some(path) = block.value("args") else { continue };
            let kind = match block.value("driver").as_deref() {
                Some("sql") => Some(Kind::Sql),
                Some("ldap") => Some(Kind::Ldap),
                _ => None,
            };
            let one = found.entry(path).or_insert(kind);
            *one = one.filter(|one| Some(*one) == kind);
        }
    }
    let is_there = |path: &String| sources.iter().any(|source| source.path.to_string() == *path);
    found.into_iter().filter(|(path, _)| is_there(path)).filter_map(|(path, kind)| Some((path, kind?))).collect()
}

/// Gathers what one file of 2.3 says.
fn gather(nodes: &[Node], facts: &mut newer::Facts) {
    for node in nodes {
        match node {
            Node::Set(setting) => {
                let count = facts.counts.entry(setting.key.clone()).or_default();
                *count += 1;
                if setting.key == "ssl" {
                    facts.needs_tls = *count == 1 && setting.text() == "required";
                }
            }
            Node::Block(block) if block.kind == "plugin" => {
                for setting in block.settings() {
                    let text = setting.text();
                    if let Some(quota::Key::Root(number)) = quota::key(&setting.key)
                        && let Some(name) = quota::root_name(number, &text)
                    {
                        facts.plugins.quota.add(number, name);
                    }
                    facts.plugins.add(&setting.key, text);
                }
            }
            Node::Block(block) => {
                if block.kind == "namespace" && !block.name.is_empty() {
                    facts.namespaces.insert(block.bare_name());
                }
                gather(&block.nodes, facts);
            }
            Node::Text(_) => {}
        }
    }
}

/// The one namespace that has the INBOX.
fn inbox(sources: &[Source]) -> Option<(String, String)> {
    let blocks = || {
        sources.iter().flat_map(|source| &source.nodes).filter_map(|node| match node {
            Node::Block(block) if block.kind == "namespace" => Some(block),
            _ => None,
        })
    };
    let name = |block: &syntax::Block| if block.name.is_empty() { "inbox".to_owned() } else { block.bare_name() };
    let names: BTreeSet<String> =
        blocks().filter(|block| block.value("inbox").is_some_and(|value| value == "yes")).map(name).collect();
    let mut names = names.into_iter();
    let one = names.next().filter(|_| names.next().is_none())?;
    let prefix = blocks().filter(|block| name(block) == one).filter_map(|block| block.value("prefix")).next_back();
    Some((one, prefix.unwrap_or_default()))
}

/// Whether passwords are looked up that may be written in any scheme.
fn passwords(nodes: &[Node]) -> bool {
    nodes.iter().any(|node| match node {
        Node::Block(block) if block.kind == "passdb" => {
            block.value("driver").is_some_and(|driver| !["pam", "static"].contains(&driver.as_str()))
        }
        _ => false,
    })
}

#[cfg(test)]
mod tests;
