//! Access files (`.htaccess`): what a document root says of itself, where `AllowOverride` lets it.
//!
//! They lie in client data: they are read as a section of their directory, and nothing of them is synchronised.

use super::{
    scope::{is_below, is_group},
    text::{self, Config, Directive},
};
use crate::{here, service::Tree};
use std::os::unix::fs::MetadataExt;

/// What the access files of a document root and of the directories above it say, outermost first.
pub(super) fn overrides(
    tree: &Tree,
    config: &Config,
    own: &[&Directive],
    outside: &[&Directive],
    root: &str,
) -> anyhow::Result<Vec<Directive>> {
    // What the host says itself comes last.
    let every: Vec<&Directive> = outside.iter().chain(own).copied().collect();
    let named = every.iter().rfind(|one| one.is("AccessFileName"));
    let names = named.map_or(vec![".htaccess"], |one| one.words[1..].iter().map(String::as_str).collect());
    let is_apache_another = every.iter().any(|one| one.is("AssignUserID"));
    let mut all = vec![];
    for dir in way(root).into_iter().filter(|dir| may_override(&every, dir)) {
        for name in &names {
            let path = format!("{}/{name}", dir.trim_end_matches('/'));
            // The first that is there counts.
            if let Some(file) = tree.read(&path)? {
                if !is_apache_another && is_kept_from_apache(tree, &path) {
                    // Then it refuses everybody, whatever the file says.
                    break;
                }
                all.extend(text::access_file(tree, config, &dir, &file)?);
                break;
            }
        }
    }
    Ok(all)
}

/// Whether the file is readable by its owner alone, who is not Apache's account.
fn is_kept_from_apache(tree: &Tree, path: &str) -> bool {
    let accounts = here::text(tree.path(), "/etc/passwd").unwrap_or_default();
    let apache = accounts.lines().find_map(|line| line.strip_prefix("www-data:")?.split(':').nth(1)?.parse().ok());
    let meta = here::below(tree.path(), path).metadata();
    meta.is_ok_and(|meta| meta.mode() & 0o044 == 0 && apache.is_some_and(|apache: u32| apache != meta.uid()))
}

/// `/`, `/srv`, `/srv/www`.
fn way(root: &str) -> Vec<String> {
    let mut way = vec!["/".to_owned()];
    let mut at = String::new();
    for name in root.split('/').filter(|name| !name.is_empty() && *name != ".") {
        at = format!("{at}/{name}");
        way.push(at.clone());
    }
    way
}

/// Whether Apache looks for an access file in this directory. Nobody may say so but a section of directories.
fn may_override(every: &[&Directive], dir: &str) -> bool {
    ["AllowOverride", "AllowOverrideList"].iter().any(|name| {
        let said = every.iter().filter(|one| one.is(name)).filter_map(|one| Some((depth(one, dir)?, one)));
        // Of two that are as near, the latter counts.
        let last = said.reduce(|best, next| if next.0 >= best.0 { next } else { best });
        last.is_some_and(|(_, one)| !one.arg(0).eq_ignore_ascii_case("none"))
    })
}

/// How near the section of a directive is to a directory; `None` where it is of another.
fn depth(directive: &Directive, dir: &str) -> Option<usize> {
    let mut sections = directive.within.iter().filter(|section| !is_group(section));
    let section = sections.next().filter(|section| section[0].eq_ignore_ascii_case("Directory"))?;
    let of = section.get(1)?;
    is_below(of, dir).then(|| of.split('/').filter(|name| !name.is_empty()).count())
}
