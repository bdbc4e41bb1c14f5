//! Accounts and groups of the system that have another name in another version, in all files that name them.
//!
//! Both names may be there: a server that was upgraded keeps the old one, and people have a group of the name that the system gave up. Then
//! nothing is renamed, in either direction: no name may stand twice, and the way back has to give the same files.

use crate::{Error, tree::Tree};
use atlas_model::TreePath;
use std::collections::BTreeSet;

/// Where accounts are named first, and where groups are.
const ACCOUNTS: [&str; 2] = ["/etc/passwd", "/etc/shadow"];
const GROUPS: [&str; 2] = ["/etc/group", "/etc/gshadow"];
/// The first number that is a person's.
const PEOPLE: u32 = 1000;

/// A name in the older version and in the newer one.
#[derive(Clone, Copy)]
struct Name {
    older: &'static str,
    newer: &'static str,
    /// Whether there is an account of the name, besides the group.
    is_account: bool,
}

/// Debian 11 and 12.
const NAMES: [Name; 2] =
    [Name { older: "ssh", newer: "_ssh", is_account: false }, Name { older: "ntp", newer: "ntpsec", is_account: true }];

pub(super) fn to_newer(tree: &mut Tree) -> Result<(), Error> {
    NAMES.iter().try_for_each(|name| rename(tree, name.older, name.newer, name.is_account))
}

pub(super) fn to_older(tree: &mut Tree) -> Result<(), Error> {
    NAMES.iter().try_for_each(|name| rename(tree, name.newer, name.older, name.is_account))
}

fn rename(tree: &mut Tree, from: &str, to: &str, is_account: bool) -> Result<(), Error> {
    if is_account && is_renamed(tree, &ACCOUNTS, from, to)? {
        each(tree, &ACCOUNTS, |line| first(line, from, to))?;
        each(tree, &GROUPS, |line| member(line, from, to))?;
    }
    if is_renamed(tree, &GROUPS, from, to)? {
        each(tree, &GROUPS, |line| first(line, from, to))?;
    }
    Ok(())
}

/// Whether the name is the system's, and the other one is free in all files.
fn is_renamed(tree: &Tree, files: &[&str], from: &str, to: &str) -> Result<bool, Error> {
    let mut names = BTreeSet::new();
    for file in files {
        let text = text(tree, file)?.unwrap_or_default();
        for line in text.lines() {
            let mut fields = line.split(':');
            let name = fields.next().unwrap_or_default();
            let number = fields.nth(1).and_then(|number| number.parse::<u32>().ok());
            // Password files have other things in that place.
            if name == from && !file.ends_with("shadow") && number.is_some_and(|number| number >= PEOPLE) {
                return Ok(false);
            }
            names.insert(name.to_owned());
        }
    }
    Ok(names.contains(from) && !names.contains(to))
}

fn path(file: &str) -> Result<TreePath, Error> {
    TreePath::parse(file).map_err(|error| Error::Damaged(error.to_string()))
}

fn text(tree: &Tree, file: &str) -> Result<Option<String>, Error> {
    tree.configuration(&path(file)?)
}

/// Gives each line of these files what `change` makes of it.
fn each(tree: &mut Tree, files: &[&str], change: impl Fn(&str) -> Option<String>) -> Result<(), Error> {
    for file in files {
        let Some(before) = text(tree, file)? else { continue };
        let one = |line: &str| {
            let bare = line.strip_suffix('\n').unwrap_or(line);
            change(bare).map_or_else(|| line.to_owned(), |new| new + &line[bare.len()..])
        };
        let after: String = before.split_inclusive('\n').map(one).collect();
        if after != before {
            tree.put(&path(file)?, after.into_bytes(), None);
        }
    }
    Ok(())
}

/// The line with another name in its first field.
fn first(line: &str, from: &str, to: &str) -> Option<String> {
    line.strip_prefix(from).filter(|rest| rest.starts_with(':')).map(|rest| format!("{to}{rest}"))
}

/// The line of a group with another name among its members.
fn member(line: &str, from: &str, to: &str) -> Option<String> {
    let (head, members) = line.rsplit_once(':').filter(|(head, _)| head.matches(':').count() == 2)?;
    let is_there = members.split(',').any(|name| name == from);
    let renamed = |name| if name == from { to } else { name };
    is_there.then(|| format!("{head}:{}", members.split(',').map(renamed).collect::<Vec<_>>().join(",")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree::{Object, plain_meta};

    fn tree(files: &[(&str, &str)]) -> Tree {
        let mut tree = Tree::default();
        for (file, content) in files {
            tree.objects.insert(path(file).unwrap(), Object::file(content.as_bytes().to_vec(), plain_meta()));
        }
        tree
    }

    fn said(tree: &Tree) -> Vec<String> {
        let files = ACCOUNTS.iter().chain(&GROUPS);
        files.filter_map(|file| text(tree, file).unwrap()).collect()
    }

    #[test]
    fn a_name_is_changed_in_all_files_and_back() {
        let newer = [
            ("/etc/passwd", "root:x:0:0::/root:/bin/sh\nntpsec:x:105:110::/:/bin/false\n"),
            ("/etc/shadow", "root:*:1::::::\nntpsec:!:1::::::\n"),
            ("/etc/group", "_ssh:x:109:\nntpsec:x:110:\nclock:x:33:a,ntpsec,b\n"),
            ("/etc/gshadow", "_ssh:!::\nntpsec:!::\nclock:!::ntpsec"),
        ];
        let mut tree = tree(&newer);
        to_older(&mut tree).unwrap();
        assert_eq!(
            said(&tree),
            [
                "root:x:0:0::/root:/bin/sh\nntp:x:105:110::/:/bin/false\n",
                "root:*:1::::::\nntp:!:1::::::\n",
                "ssh:x:109:\nntp:x:110:\nclock:x:33:a,ntp,b\n",
                "ssh:!::\nntp:!::\nclock:!::ntp",
            ]
        );
        to_newer(&mut tree).unwrap();
        assert_eq!(said(&tree), newer.map(|(_, text)| text.to_owned()));
    }

    #[test]
    fn where_both_names_are_there_or_the_name_is_people_s_nothing_is_renamed() {
        let both = [
            ("/etc/passwd", "ntp:x:104:112::/:/bin/false\nntpsec:x:105:110::/:/bin/false\n"),
            ("/etc/shadow", "ntp:!:1::::::\nntpsec:!:1::::::\n"),
            ("/etc/group", "ntp:x:112:\nntpsec:x:110:\nssh:x:1001:ann\n_ssh:x:109:\nclock:x:33:ntp,ntpsec\n"),
            ("/etc/gshadow", "ntp:!::\nntpsec:!::\nssh:!::ann\n_ssh:!::\nclock:!::ntp,ntpsec\n"),
        ];
        for change in [to_older, to_newer] {
            let mut tree = tree(&both);
            change(&mut tree).unwrap();
            assert_eq!(said(&tree), both.map(|(_, text)| text.to_owned()));
        }
        let people = [("/etc/group", "ssh:x:1001:ann\n")];
        let mut tree = tree(&people);
        to_newer(&mut tree).unwrap();
        assert_eq!(said(&tree), ["ssh:x:1001:ann\n"]);
    }
}
