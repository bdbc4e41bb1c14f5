//! Snapshot Compare: whether a secondary has PRI's files [210-214].
//!
//! Two Snapshots of one EnvVersion are compared, and it is the **older** of the two servers' versions ([`compare_at`]): there PRI holds what it sent
//! and the secondary what it has, and neither went through a conversion that could lose something.
//!
//! ```text
//!   PRI Env2, SEC1 Env1     PRI/Env1, made by PRI with the Env2 it was made from     ↔  SEC1/Env1, as SEC1 took it from its files
//!   PRI Env2, SEC2 Env3     PRI/Env2, as PRI took it from its files                  ↔  SEC2/Env2, made by SEC2 from SEC2/Env3
//! ```
//!
//! - What the older version cannot express is in neither Snapshot's files, so it is no difference. It is in the residue, which is carried
//!   from PRI's Snapshot into the secondary's and so is the same on both sides.
//! - What a newer secondary has and the compared version cannot express lies in the residue of its Snapshot. Where PRI has no residue for that
//!   version, that secondary was changed locally, and this is told as [`What::OnlyNewer`]. A secondary also compares for itself, at its own
//!   version, the files that it was sent and the files that it has: that finds every other such change.

use crate::{
    EnvVersion, TreePath,
    manifest::{Entry, FileSet, Kind, Manifest},
    owners::Numbers,
};
use serde::Serialize;
use std::cmp::Ordering;

/// The version at which a PRI and a secondary of these versions are compared.
pub fn compare_at(pri: EnvVersion, secondary: EnvVersion) -> EnvVersion {
    pri.min(secondary)
}

/// How an object differs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case", tag = "what", content = "env_version")]
pub enum What {
    /// PRI has it, the secondary does not.
    Missing,
    /// The secondary has it, PRI does not.
    Added,
    /// Both have it; content, kind, owner, mode, time or attributes are others.
    Differs,
    /// The secondary says something that only this newer version can express, and PRI does not. The path is that of the residue.
    OnlyNewer(EnvVersion),
}

/// One object that is not the same.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Difference {
    /// Which.
    pub path: TreePath,
    /// How.
    #[serde(flatten)]
    pub what: What,
}

/// Two Snapshots of different EnvVersions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a Snapshot of {pri} cannot be compared with one of {secondary}")]
pub struct NotComparable {
    /// PRI's.
    pub pri: EnvVersion,
    /// The secondary's.
    pub secondary: EnvVersion,
}

/// Every object of the SyncFiles in which the secondary's Snapshot differs from PRI's, by path.
///
/// A listed path that is not there is the same as one that is not listed. Owners are the same where their names are.
///
/// # Errors
/// Where the two are not of one EnvVersion.
pub fn compare<'a>(pri: &'a Manifest, secondary: &'a Manifest) -> Result<Vec<Difference>, NotComparable> {
    if pri.env_version != secondary.env_version {
        return Err(NotComparable { pri: pri.env_version, secondary: secondary.env_version });
    }
    let numbers = Numbers::between(secondary.owners(), pri.owners());
    let there = |manifest: &'a Manifest| manifest.of_set(FileSet::Sync).filter(|entry| entry.kind != Kind::Absent);
    let (mut ours, mut theirs) = (there(pri).peekable(), there(secondary).peekable());
    let mut differences = Vec::new();
    loop {
        // Both are sorted by path.
        let order = match (ours.peek(), theirs.peek()) {
            (Some(our), Some(their)) => our.path.as_path().cmp(their.path.as_path()),
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (None, None) => break,
        };
        let our = if order.is_le() { ours.next() } else { None };
        let their = if order.is_ge() { theirs.next() } else { None };
        let (entry, what) = match (our, their) {
            (Some(our), Some(their)) if is_same(&our.kind, their.kind.clone(), &numbers) => continue,
            (Some(our), Some(_)) => (our, What::Differs),
            (Some(our), None) => (our, What::Missing),
            (None, Some(their)) => (their, What::Added),
            (None, None) => break,
        };
        differences.push(Difference { path: entry.path.clone(), what });
    }
    differences.extend(only_newer(pri, secondary));
    differences.sort_by(|a, b| a.path.as_path().cmp(b.path.as_path()));
    Ok(differences)
}

/// Whether the secondary's object is PRI's, once its owners have PRI's numbers.
fn is_same(pri: &Kind, mut secondary: Kind, numbers: &Numbers) -> bool {
    let known = match &mut secondary {
        Kind::File { meta, .. } | Kind::Dir { meta } | Kind::Link { meta, .. } => numbers.apply(meta),
        Kind::Absent => true,
    };
    known && pri.same_as(&secondary)
}

fn only_newer(pri: &Manifest, secondary: &Manifest) -> Vec<Difference> {
    let known: Vec<EnvVersion> = pri.entries().iter().filter_map(residue_of).collect();
    let residues = secondary.entries().iter().filter(|entry| matches!(entry.kind, Kind::File { .. }));
    let beyond = residues.filter_map(|entry| {
        let version = residue_of(entry)?;
        let is_newer = version > secondary.env_version && !known.contains(&version);
        is_newer.then(|| Difference { path: entry.path.clone(), what: What::OnlyNewer(version) })
    });
    beyond.collect()
}

/// The version that an entry below `/Sync/EnvN` of the residue is for.
fn residue_of(entry: &Entry) -> Option<EnvVersion> {
    let mut names = entry.path.relative().iter().filter_map(|name| name.to_str());
    let of_services = entry.set == FileSet::Residue && names.next() == Some("Sync");
    of_services.then(|| names.next().and_then(EnvVersion::from_dir_name)).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Digest, Role, manifest::Meta};
    use std::collections::BTreeMap;

    fn snapshot(env: u32, files: &[(FileSet, &str, &str)]) -> Manifest {
        let meta = |mtime| Meta { mode: 0o644, uid: 0, gid: 0, mtime, mtime_ns: 0, xattrs: BTreeMap::new() };
        let kind = |content: &str| match content {
            "absent" => Kind::Absent,
            content => Kind::File { size: content.len() as u64, sha256: Digest::of(content.as_bytes()), meta: meta(1) },
        };
        let entry = |(set, path, content): &(FileSet, &str, &str)| Entry {
            set: *set,
            path: TreePath::parse(path).unwrap(),
            kind: kind(content),
        };
        Manifest::new(Role::Pri, EnvVersion::try_from(env).unwrap(), files.iter().map(entry).collect()).unwrap()
    }

    fn told(pri: &Manifest, secondary: &Manifest) -> Vec<(String, What)> {
        let differences = compare(pri, secondary).unwrap();
        differences.into_iter().map(|one| (one.path.as_path().display().to_string(), one.what)).collect()
    }

    use FileSet::{Ident, Residue, Sync};

    #[test]
    fn what_differs_is_told_by_path_and_the_identity_is_no_matter() {
        let pri = snapshot(
            2,
            &[(Sync, "/a", "1"), (Sync, "/b", "1"), (Sync, "/c", "1"), (Ident, "/i", "1"), (Sync, "/x", "absent")],
        );
        let sec = snapshot(
            2,
            &[(Sync, "/a", "1"), (Sync, "/b", "2"), (Sync, "/d", "1"), (Ident, "/i", "2"), (Sync, "/y", "absent")],
        );
        let expected = [("/b", What::Differs), ("/c", What::Missing), ("/d", What::Added)];
        assert_eq!(told(&pri, &sec), expected.map(|(path, what)| (path.to_owned(), what)));
        assert_eq!(told(&pri, &pri), []);
    }

    #[test]
    fn owners_are_the_same_where_their_names_are() {
        let owned = |uid: u32, name: &str| {
            let meta = Meta { mode: 0o644, uid, gid: 0, mtime: 1, mtime_ns: 0, xattrs: BTreeMap::new() };
            let kind = Kind::File { size: 0, sha256: Digest::of(b""), meta };
            let entries = vec![Entry { set: Sync, path: TreePath::parse("/a").unwrap(), kind }];
            let owners = crate::Owners { users: [(uid, name.to_owned())].into(), ..Default::default() };
            Manifest::new(Role::Pri, EnvVersion::OLDEST, entries).unwrap().with_owners(&owners).unwrap()
        };
        let differs = [("/a".to_owned(), What::Differs)];
        assert_eq!(told(&owned(33, "www-data"), &owned(48, "www-data")), []);
        assert_eq!(told(&owned(33, "www-data"), &owned(33, "other")), differs);
        assert_eq!(told(&owned(0, "root"), &owned(33, "other")), differs);
    }

    #[test]
    fn snapshots_of_two_versions_are_not_compared() {
        assert!(compare(&snapshot(1, &[]), &snapshot(2, &[])).is_err());
        let [one, two] = [1, 2].map(|number| EnvVersion::try_from(number).unwrap());
        assert_eq!((compare_at(one, two), compare_at(two, one)), (one, one));
    }

    #[test]
    fn what_only_a_newer_secondary_can_say_is_a_difference_unless_pri_once_said_such() {
        let file = (Sync, "/a", "1");
        let residue = (Residue, "/Sync/Env3/Edits/a", "+new");
        let (plain, local) = (snapshot(2, &[file]), snapshot(2, &[file, residue]));
        let env3 = EnvVersion::try_from(3).unwrap();
        assert_eq!(told(&plain, &local), [("/Sync/Env3/Edits/a".to_owned(), What::OnlyNewer(env3))]);
        assert_eq!(told(&local, &local), []);
        assert_eq!(told(&local, &plain), []);
        // What only an older version could say, and the identity's own, are no matter.
        let other = snapshot(2, &[file, (Residue, "/Sync/Env1/Edits/a", "+"), (Residue, "/Ident/Env3/Edits/a", "+")]);
        assert_eq!(told(&plain, &other), []);
    }
}
