//! `/opt/atlas/Identity`: whose identity this server wears, kept true through every power cut.
//!
//! ```text
//!   intent    "PRI's, and SEC1's is coming"      durable before the first name changes
//!   names     exchanged, made durable            cut off here: files of both; the record says so
//!   fact      "SEC1's"                           only then
//! ```
//!
//! Making a Snapshot is the other way in which an identity becomes a Role's: from then on its disks carry it to other servers.

use crate::{
    bound::ESD_DATA,
    install::{Change, Staged},
    layout::SidError,
};
use atlas_host::{FileError, durable, tree::Dir};
use atlas_model::worn::{BadWorn, Foreign, RoleIdentity, Whose, Worn};
use std::ffi::OsStr;

/// The record, below [`ESD_DATA`].
pub const FILE: &str = "Identity";

/// Reads the record; where there is none, nothing is known.
pub fn read(root: &Dir) -> Result<Worn, SidError> {
    let path = format!("{ESD_DATA}/{FILE}");
    let Some(content) = root.read_if_there(&path, Worn::MAX_SIZE + 1)? else { return Ok(Worn::UNKNOWN) };
    Worn::parse(&content).map_err(|source| SidError::Worn { path: root.show(&path), source })
}

/// The same; one that is damaged says nothing, and why is told. One of a later format stays an error.
pub fn read_or_unknown(root: &Dir) -> Result<(Worn, Option<String>), SidError> {
    match read(root) {
        Err(SidError::Worn { source, path }) if !matches!(source, BadWorn::UnknownFormat(_)) => {
            Ok((Worn::UNKNOWN, Some(format!("{} says nothing: {source}", path.display()))))
        }
        other => other.map(|worn| (worn, None)),
    }
}

/// Writes the record, durably; says whether anything changed.
pub fn write(root: &Dir, worn: &Worn) -> Result<bool, FileError> {
    durable::write_if_changed(&root.make_dirs(ESD_DATA)?, OsStr::new(FILE), worn.to_file().as_bytes(), 0o644)
}

/// What was done to put an identity in place.
#[derive(Debug)]
pub struct Wears {
    /// What it changed.
    pub changes: Vec<Change>,
    /// Why the record does not say so yet. What it says is true: that this identity is coming, or is there already.
    pub not_recorded: Option<SidError>,
}

/// Puts `identity` in the place of what is worn, which the record calls `was`: commits what was staged of it, or finds it in place already.
///
/// What was replaced lies under temporary names until [`Staged::discard`].
pub fn wear(
    root: &Dir,
    was: &Worn,
    identity: RoleIdentity,
    staged: Option<&mut Staged<'_>>,
) -> Result<Wears, SidError> {
    let fact = Worn::of(identity.clone());
    let Some(staged) = staged else {
        let not_recorded = write(root, &fact).err().map(SidError::from);
        return Ok(Wears { changes: vec![], not_recorded });
    };
    if was.foreign_to(&identity).is_some() || was.whose == Whose::Own {
        write(root, &was.becoming(identity))?;
    }
    let changes = staged.commit_unflushed()?;
    let recorded = staged.flush().and_then(|()| Ok(write(root, &fact)?));
    Ok(Wears { changes, not_recorded: recorded.err() })
}

/// Before a Snapshot is made of the identity in place, for `identity`: from now on it is that Role's.
///
/// # Errors
/// Where the record says that another Role's is in place: a Snapshot would give it to this Role as well.
pub fn give(root: &Dir, mut identity: RoleIdentity) -> Result<(), SidError> {
    let (worn, _) = read_or_unknown(root)?;
    if let Some(Foreign::Of(other)) = worn.foreign_to(&identity) {
        return Err(SidError::ForeignIdentity { role: identity.role, worn: other.to_string() });
    }
    if let Whose::Of(RoleIdentity { set: Some(set), .. }) = worn.whose {
        identity.set.get_or_insert(set);
    }
    write(root, &Worn::of(identity))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pri() -> RoleIdentity {
        let (role, cluster) = ("PRI".parse().unwrap(), "bakery".parse().unwrap());
        RoleIdentity { role, cluster, set: None, paths: vec![] }
    }

    #[test]
    fn a_record_that_is_not_there_or_damaged_says_nothing_and_a_later_one_is_refused() {
        let tmp = tempfile::tempdir().unwrap();
        let root = Dir::open_root(tmp.path()).unwrap();
        assert_eq!(read_or_unknown(&root).unwrap(), (Worn::UNKNOWN, None));
        assert!(write(&root, &Worn::OWN).unwrap() && !write(&root, &Worn::OWN).unwrap());
        assert_eq!(read_or_unknown(&root).unwrap(), (Worn::OWN, None));
        let file = tmp.path().join(ESD_DATA).join(FILE);
        std::fs::write(&file, "format = 1\nwo").unwrap();
        let (worn, why) = read_or_unknown(&root).unwrap();
        assert!(worn == Worn::UNKNOWN && why.unwrap().contains("Identity says nothing"));
        std::fs::write(&file, "format = 2\n").unwrap();
        assert!(matches!(read_or_unknown(&root), Err(SidError::Worn { source: BadWorn::UnknownFormat(2), .. })));
    }

    #[test]
    fn an_identity_of_which_a_snapshot_is_made_is_that_roles_and_goes_to_no_other() {
        let tmp = tempfile::tempdir().unwrap();
        let root = Dir::open_root(tmp.path()).unwrap();
        for before in [Worn::OWN, Worn::UNKNOWN, Worn::of(pri())] {
            write(&root, &before).unwrap();
            give(&root, pri()).unwrap();
            assert_eq!(read(&root).unwrap(), Worn::of(pri()));
        }
        let sec = RoleIdentity { role: "SEC1".parse().unwrap(), ..pri() };
        assert!(matches!(give(&root, sec), Err(SidError::ForeignIdentity { .. })));
        assert_eq!(read(&root).unwrap(), Worn::of(pri()), "nothing was written");
    }
}
