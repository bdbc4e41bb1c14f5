//! Owners by name: the numbers of a Snapshot's objects, as the server that made it calls them.
//!
//! System accounts get their numbers in the order in which packages are installed, so one account has another number on each server.
//! The Manifest therefore says which names its numbers stand for, and an installation gives each object to the account of the same
//! name. The entries of access lists (POSIX ACLs) are numbers, too, and are treated alike.

use crate::{
    manifest::{Entry, Meta},
    ways::Ways,
};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// The names of numbers, or of numbers by name.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Owners {
    /// Accounts.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub users: BTreeMap<u32, String>,
    /// Groups.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub groups: BTreeMap<u32, String>,
}

/// The two attributes that hold access lists.
const ACLS: [&str; 2] = ["system.posix_acl_access", "system.posix_acl_default"];
/// The header of an access list, in hexadecimal digits: version 2, little-endian.
const ACL_VERSION: &str = "02000000";
/// One entry of it, in digits: tag and permissions of two bytes each, a number of four.
const ACL_ENTRY: usize = 16;
const ACL_USER: &str = "0200";
const ACL_GROUP: &str = "0800";

impl Owners {
    /// Whether every name is one that an account can have.
    pub(crate) fn check(&self) -> bool {
        let good = |name: &String| {
            (1..=255).contains(&name.len()) && !name.contains([':', ',', '/']) && !name.contains(char::is_control)
        };
        self.users.values().chain(self.groups.values()).all(good)
    }

    /// Those of `self` that own one of `entries` or `ways`, or stand in an access list of one.
    pub fn used_by(&self, entries: &[Entry], ways: &Ways) -> Owners {
        let (mut users, mut groups): (BTreeSet<u32>, BTreeSet<u32>) =
            ways.values().map(|way| (way.uid, way.gid)).unzip();
        for meta in entries.iter().filter_map(|entry| entry.kind.meta()) {
            users.insert(meta.uid);
            groups.insert(meta.gid);
            for (is_user, number) in acl_numbers(meta) {
                if is_user { &mut users } else { &mut groups }.insert(number);
            }
        }
        let only = |names: &BTreeMap<u32, String>, used: &BTreeSet<u32>| {
            names.iter().filter(|(number, _)| used.contains(number)).map(|(n, name)| (*n, name.clone())).collect()
        };
        Owners { users: only(&self.users, &users), groups: only(&self.groups, &groups) }
    }
}

/// From the numbers of the server that made a Snapshot to those of the one that installs it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Numbers {
    users: BTreeMap<u32, Option<u32>>,
    groups: BTreeMap<u32, Option<u32>>,
}

impl Numbers {
    /// Matches the names of `theirs` with those of `here`. A number without a name on their side stays as it is.
    pub fn between(theirs: &Owners, here: &Owners) -> Numbers {
        let map = |theirs: &BTreeMap<u32, String>, here: &BTreeMap<u32, String>| {
            let mut by_name: BTreeMap<&str, u32> = BTreeMap::new();
            for (number, name) in here {
                by_name.entry(name).or_insert(*number);
            }
            theirs.iter().map(|(number, name)| (*number, by_name.get(name.as_str()).copied())).collect()
        };
        Numbers { users: map(&theirs.users, &here.users), groups: map(&theirs.groups, &here.groups) }
    }

    /// Gives `meta` the numbers of this server; says whether every owner exists here.
    ///
    /// What belongs to nobody here becomes root's, without its set-id bits: a number must not be guessed, for it may be somebody else's.
    pub fn apply(&self, meta: &mut Meta) -> bool {
        let mut all_known = true;
        let mut of = |map: &BTreeMap<u32, Option<u32>>, number: u32| match map.get(&number) {
            Some(Some(here)) => *here,
            Some(None) => {
                all_known = false;
                0
            }
            None => number,
        };
        meta.uid = of(&self.users, meta.uid);
        meta.gid = of(&self.groups, meta.gid);
        for name in ACLS {
            let Some(value) = meta.xattrs.get_mut(name) else { continue };
            if let Some(mapped) =
                map_acl(value, |is_user, number| of(if is_user { &self.users } else { &self.groups }, number))
            {
                *value = mapped;
            }
        }
        if !all_known {
            meta.mode &= 0o1777;
        }
        all_known
    }
}

fn acl_numbers(meta: &Meta) -> Vec<(bool, u32)> {
    let mut found = Vec::new();
    for value in ACLS.iter().filter_map(|name| meta.xattrs.get(*name)) {
        map_acl(value, |is_user, number| {
            found.push((is_user, number));
            number
        });
    }
    found
}

/// Passes every number of an access list through `map`; `None` where it is of another form, which is then left as it is.
fn map_acl(hex: &str, mut map: impl FnMut(bool, u32) -> u32) -> Option<String> {
    let entries =
        hex.strip_prefix(ACL_VERSION).filter(|rest| rest.is_ascii() && rest.len().is_multiple_of(ACL_ENTRY))?;
    let mut mapped = ACL_VERSION.to_owned();
    for at in (0..entries.len()).step_by(ACL_ENTRY) {
        let (head, number) = entries[at..at + ACL_ENTRY].split_at(8);
        mapped.push_str(head);
        let is_user = &head[..4] == ACL_USER;
        if is_user || &head[..4] == ACL_GROUP {
            let number = u32::from_str_radix(number, 16).ok()?.swap_bytes();
            mapped.push_str(&format!("{:08x}", map(is_user, number).swap_bytes()));
        } else {
            mapped.push_str(number);
        }
    }
    Some(mapped)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn owners(users: &[(u32, &str)], groups: &[(u32, &str)]) -> Owners {
        let map = |pairs: &[(u32, &str)]| pairs.iter().map(|(number, name)| (*number, (*name).to_owned())).collect();
        Owners { users: map(users), groups: map(groups) }
    }

    fn meta(uid: u32, gid: u32, mode: u32) -> Meta {
        Meta { mode, uid, gid, mtime: 0, mtime_ns: 0, xattrs: BTreeMap::new() }
    }

    #[test]
    fn an_object_goes_to_the_account_of_the_same_name() {
        let numbers = Numbers::between(
            &owners(&[(33, "www-data"), (105, "bind")], &[(42, "shadow")]),
            &owners(&[(34, "www-data"), (105, "tss")], &[(43, "shadow")]),
        );
        let mut of_web = meta(33, 42, 0o640);
        assert!(numbers.apply(&mut of_web));
        assert_eq!((of_web.uid, of_web.gid, of_web.mode), (34, 43, 0o640));
        let mut nameless = meta(7777, 42, 0o640);
        assert!(numbers.apply(&mut nameless) && nameless.uid == 7777);
    }

    #[test]
    fn what_belongs_to_nobody_here_becomes_roots_and_lends_nobody_roots_rights() {
        let numbers = Numbers::between(&owners(&[(105, "bind")], &[]), &owners(&[(105, "tss")], &[]));
        let mut of_bind = meta(105, 0, 0o6755);
        assert!(!numbers.apply(&mut of_bind));
        assert_eq!((of_bind.uid, of_bind.mode), (0, 0o755));
    }

    #[test]
    fn the_numbers_in_an_access_list_are_names_too() {
        // user::rw-, user:1000:r--, group::r--, group:50:r--, mask::r--, other::---
        let acl =
            "0200000001000600ffffffff02000400e803000004000400ffffffff080004003200000010000400ffffffff20000000ffffffff";
        let mut with_acl =
            Meta { xattrs: [("system.posix_acl_access".to_owned(), acl.to_owned())].into(), ..meta(0, 0, 0o640) };
        assert_eq!(acl_numbers(&with_acl), [(true, 1000), (false, 50)]);
        let numbers =
            Numbers::between(&owners(&[(1000, "ann")], &[(50, "staff")]), &owners(&[(1001, "ann")], &[(51, "staff")]));
        assert!(numbers.apply(&mut with_acl));
        let expected = acl.replace("e8030000", "e9030000").replace("32000000", "33000000");
        assert_eq!(with_acl.xattrs["system.posix_acl_access"], expected);
        assert_eq!(map_acl("0300", |_, n| n), None);
    }
}
