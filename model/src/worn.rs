//! Whose identity a server wears: name, addresses and host keys lie on its own disk, and stay there when its Unbound disks are taken out.
//!
//! ```toml
//! format = 1
//! worn = "role"                 # own: no other server has it; role: that of [role]; unknown
//!
//! [role]                        # where worn = "role"
//! role = "PRI"
//! cluster = "bakery"
//! set = "0f0e…"                 # UUID of the file system that it came from, where that is known
//! paths = ["/etc/hostname"]     # what it consists of
//!
//! [becoming]                    # while one is being installed: files of both may be in place
//! ```
//!
//! The record never says less than what is so: before the first file of another identity is put in place it says which one is coming, and
//! it says that this one alone is there only when that is durable. An identity is `own` until it is copied to disks that other servers may boot.

use crate::{ClusterId, PathList, Role, TreePath, shorten};
use serde::Deserialize;

const HEADING: &str = "# Whose name, addresses and host keys this server wears. Written by atlas-boot, 'atlas init' and 'ssSync create'.\n";

/// The identity of a Role.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RoleIdentity {
    /// Whose.
    pub role: Role,
    /// Of which cluster.
    pub cluster: ClusterId,
    /// The UUID of the file system of its Unbound set, where it is known.
    #[serde(default)]
    pub set: Option<String>,
    /// What it consists of: the paths of its IdentFilePaths; empty where that is not known.
    #[serde(default)]
    pub paths: Vec<TreePath>,
}

impl RoleIdentity {
    /// Whether both are the identity of one Role of one cluster, on one set as far as both know theirs.
    fn is_that_of(&self, other: &RoleIdentity) -> bool {
        let sets = self.set.as_ref().zip(other.set.as_ref());
        (self.role, &self.cluster) == (other.role, &other.cluster) && sets.is_none_or(|(one, two)| one == two)
    }
}

impl RoleIdentity {
    /// As the lines of its table.
    fn to_lines(&self) -> String {
        // A JSON string is a TOML string, too.
        let quoted = |text: &str| serde_json::Value::from(text).to_string();
        let set = self.set.as_ref().map(|set| format!("set = {}\n", quoted(set))).unwrap_or_default();
        let paths: Vec<String> =
            self.paths.iter().map(|path| format!("    {},\n", quoted(&path.to_string()))).collect();
        let paths = if paths.is_empty() { "[]".to_owned() } else { format!("[\n{}]", paths.concat()) };
        format!("role = \"{}\"\ncluster = \"{}\"\n{set}paths = {paths}\n", self.role, self.cluster)
    }
}

impl std::fmt::Display for RoleIdentity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} of cluster {}", self.role, self.cluster)?;
        self.set.as_ref().map_or(Ok(()), |set| write!(f, ", from the set {set}"))
    }
}

/// Whose identity is in place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Whose {
    /// This server's own: no other one has it.
    Own,
    /// A Role's: whoever has its disks has it, too.
    Of(RoleIdentity),
    /// Nobody wrote it down.
    Unknown,
}

/// What the Bound disk says of the identity in place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Worn {
    /// Whose it is, or was before `becoming` began to take its place.
    pub whose: Whose,
    /// The one that is being installed, or was when the power went.
    pub becoming: Option<RoleIdentity>,
}

/// Why a server may not take a Role with the identity that is in place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Foreign<'w> {
    /// It is another Role's, or another cluster's, or that of another set of the same Role.
    Of(&'w RoleIdentity),
    /// Whose it is was not written down.
    Unknown,
}

/// Why a file is no record of this kind.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum BadWorn {
    /// Beyond the bound.
    #[error("it is larger than {} bytes", Worn::MAX_SIZE)]
    TooLarge,
    /// No TOML, or TOML of another shape.
    #[error("it cannot be read: {0}")]
    Syntax(String),
    /// A format of a later (or no) ATLAS.
    #[error("it is of format {0}; this program reads format 1")]
    UnknownFormat(i64),
    /// More paths than an identity may have.
    #[error("an identity of it has more than {} paths", PathList::MAX_PATHS)]
    TooManyPaths,
    /// `worn` and the tables do not fit each other.
    #[error("'{0}' does not say whose identity it is")]
    Whose(String),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Raw {
    worn: String,
    role: Option<RoleIdentity>,
    becoming: Option<RoleIdentity>,
}

impl Worn {
    /// The largest file, in bytes: two lists of paths.
    pub const MAX_SIZE: usize = 2 * PathList::MAX_SIZE;

    /// Nothing is known.
    pub const UNKNOWN: Worn = Worn { whose: Whose::Unknown, becoming: None };
    /// The server's own.
    pub const OWN: Worn = Worn { whose: Whose::Own, becoming: None };

    /// That of a Role, and nothing of another one.
    pub fn of(identity: RoleIdentity) -> Worn {
        Worn { whose: Whose::Of(identity), becoming: None }
    }

    /// The record while `identity` takes the place of what is there.
    pub fn becoming(&self, identity: RoleIdentity) -> Worn {
        // What an installation before this one had put in place may be there, too; of three, two stand for all.
        let whose = match &self.becoming {
            Some(before) if !before.is_that_of(&identity) => {
                let mut before = before.clone();
                if let Whose::Of(complete) = &self.whose {
                    let more = complete.paths.iter().filter(|path| !before.paths.contains(path)).cloned();
                    before.paths = before.paths.iter().cloned().chain(more).collect();
                }
                Whose::Of(before)
            }
            _ => self.whose.clone(),
        };
        Worn { whose, becoming: Some(identity) }
    }

    /// Reads the file.
    pub fn parse(content: &[u8]) -> Result<Worn, BadWorn> {
        if content.len() > Self::MAX_SIZE {
            return Err(BadWorn::TooLarge);
        }
        let text = std::str::from_utf8(content).map_err(|_| BadWorn::Syntax("it is not text".into()))?;
        let syntax = |error: toml::de::Error| BadWorn::Syntax(shorten(error.message(), 120));
        let mut table: toml::Table = text.parse().map_err(syntax)?;
        match table.remove("format").and_then(|format| format.as_integer()) {
            Some(1) => {}
            Some(other) => return Err(BadWorn::UnknownFormat(other)),
            None => return Err(BadWorn::Syntax("it names no format".into())),
        }
        let raw: Raw = table.try_into().map_err(syntax)?;
        if [&raw.role, &raw.becoming].into_iter().flatten().any(|of| of.paths.len() > PathList::MAX_PATHS) {
            return Err(BadWorn::TooManyPaths);
        }
        let whose = match (raw.worn.as_str(), raw.role) {
            ("own", None) => Whose::Own,
            ("role", Some(role)) => Whose::Of(role),
            ("unknown", None) => Whose::Unknown,
            (other, _) => return Err(BadWorn::Whose(shorten(other, 20))),
        };
        Ok(Worn { whose, becoming: raw.becoming })
    }

    /// The file that [`Worn::parse`] reads back.
    pub fn to_file(&self) -> String {
        let (worn, role) = match &self.whose {
            Whose::Own => ("own", None),
            Whose::Of(role) => ("role", Some(role)),
            Whose::Unknown => ("unknown", None),
        };
        let mut text = format!("{HEADING}format = 1\nworn = \"{worn}\"\n");
        for (name, identity) in [("role", role), ("becoming", self.becoming.as_ref())] {
            if let Some(identity) = identity {
                text.push_str(&format!("\n[{name}]\n{}", identity.to_lines()));
            }
        }
        text
    }

    /// Why a server that has no Snapshot of `wanted` yet may not take that Role with the identity in place; `None`: it may.
    pub fn foreign_to(&self, wanted: &RoleIdentity) -> Option<Foreign<'_>> {
        let complete = match &self.whose {
            Whose::Of(role) if !role.is_that_of(wanted) => Some(Foreign::Of(role)),
            Whose::Unknown => Some(Foreign::Unknown),
            Whose::Own | Whose::Of(_) => None,
        };
        let begun = self.becoming.as_ref().filter(|role| !role.is_that_of(wanted)).map(Foreign::Of);
        begun.or(complete)
    }

    /// The paths of identities in place that `list` does not cover: an installation by that list leaves them as they are.
    pub fn left_by(&self, list: &PathList) -> Vec<&TreePath> {
        let complete = match &self.whose {
            Whose::Of(role) => Some(role),
            Whose::Own | Whose::Unknown => None,
        };
        let worn = complete.into_iter().chain(&self.becoming).flat_map(|of| &of.paths);
        let mut left: Vec<&TreePath> = worn.filter(|path| !list.covers(path)).collect();
        left.sort_unstable();
        left.dedup();
        left
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn identity(role: &str, set: Option<&str>) -> RoleIdentity {
        RoleIdentity {
            role: role.parse().unwrap(),
            cluster: "bakery".parse().unwrap(),
            set: set.map(Into::into),
            paths: ["/etc/hostname", "/etc/network"].iter().map(|path| TreePath::parse(path).unwrap()).collect(),
        }
    }

    #[test]
    fn what_is_written_is_read_back() {
        let pri = Worn::of(identity("PRI", Some("u-1")));
        for worn in [Worn::OWN, Worn::UNKNOWN, pri.clone(), pri.becoming(identity("SEC1", None))] {
            assert_eq!(Worn::parse(worn.to_file().as_bytes()), Ok(worn.clone()), "{}", worn.to_file());
        }
    }

    #[test]
    fn what_is_not_understood_is_an_error_and_a_later_format_is_named() {
        assert_eq!(Worn::parse(b"format = 2\nwho = 'me'\n"), Err(BadWorn::UnknownFormat(2)));
        for bad in
            ["", "worn", "format = 1\nworn = 'role'\n", "format = 1\nworn = 'theirs'\n", "worn = 'own'\n", "\u{0}"]
        {
            assert!(Worn::parse(bad.as_bytes()).is_err(), "{bad:?}");
        }
        assert_eq!(Worn::parse(&vec![b' '; Worn::MAX_SIZE + 1]), Err(BadWorn::TooLarge));
    }

    #[test]
    fn an_identity_is_foreign_to_every_other_role_cluster_and_set() {
        let wanted = identity("PRI", Some("u-1"));
        let other_cluster = RoleIdentity { cluster: "brewery".parse().unwrap(), ..wanted.clone() };
        for (is_foreign, worn) in [
            (false, Worn::OWN),
            (true, Worn::UNKNOWN),
            (false, Worn::of(wanted.clone())),
            (false, Worn::of(identity("PRI", None))),
            (true, Worn::of(identity("PRI", Some("u-2")))),
            (true, Worn::of(identity("SEC1", Some("u-1")))),
            (true, Worn::of(other_cluster)),
        ] {
            assert_eq!(worn.foreign_to(&wanted).is_some(), is_foreign, "{worn:?}");
        }
    }

    #[test]
    fn while_one_takes_the_place_of_another_it_is_foreign_to_both() {
        let (pri, sec) = (identity("PRI", None), identity("SEC1", None));
        let mixed = Worn::of(pri.clone()).becoming(sec.clone());
        assert_eq!(mixed.foreign_to(&pri), Some(Foreign::Of(&sec)));
        assert_eq!(mixed.foreign_to(&sec), Some(Foreign::Of(&pri)));
        assert_eq!(Worn::OWN.becoming(sec.clone()).foreign_to(&sec), None, "what is not there yet is its own");
        // Cut off twice, on the way to one and then to another.
        let third = identity("SEC2", None);
        let twice = mixed.becoming(third.clone());
        assert_eq!(twice.foreign_to(&third), Some(Foreign::Of(&sec)));
        assert_eq!(mixed.becoming(sec), mixed, "the same installation again");
    }

    #[test]
    fn what_another_list_does_not_cover_stays() {
        let list: PathList = [TreePath::parse("/etc/hostname").unwrap()].into_iter().collect();
        let left = |worn: &Worn| worn.left_by(&list).iter().map(ToString::to_string).collect::<Vec<_>>();
        assert_eq!(left(&Worn::of(identity("PRI", None))), ["/etc/network"]);
        assert_eq!(left(&Worn::OWN.becoming(identity("PRI", None))), ["/etc/network"]);
        assert!(left(&Worn::OWN).is_empty());
    }
}
