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
    SidData,
    bound::ESD_DATA,
    install::{Change, Plan, Staged},
    layout::SidError,
    snapshot::{self, Found},
};
use atlas_host::{FileError, durable, tree::Dir};
use atlas_model::{
    EnvVersion, Role, TreePath,
    manifest::{FileSet, Manifest},
    worn::{BadWorn, Foreign, RoleIdentity, Whose, Worn},
};
use std::{collections::BTreeSet, ffi::OsStr, path::Path, time::SystemTime};

/// The record, below [`ESD_DATA`].
pub const FILE: &str = "Identity";
/// Where `atlas init` puts the files that gave the addresses before, below [`ESD_DATA`].
pub const BEFORE: &str = "identity-before";

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

/// The directories of these paths, and that of the record, in which an installation that was cut off left something: another Role's keys, perhaps.
pub fn littered(root: &Dir, paths: &[TreePath]) -> Vec<Dir> {
    let parents: BTreeSet<Option<TreePath>> = paths.iter().map(TreePath::parent).collect();
    let parents = parents.into_iter().map(|path| root.dir(path.as_ref().map_or(Path::new("."), TreePath::relative)));
    let has_leftovers = |dir: &Dir| {
        dir.names(Manifest::MAX_ENTRIES).is_ok_and(|names| names.iter().any(|name| durable::is_temporary(name)))
    };
    parents.chain([root.dir(ESD_DATA)]).filter_map(Result::ok).filter(has_leftovers).collect()
}

/// Removes what lies about in directories that are [`littered`]; only before anything else of ATLAS runs. What cannot be removed is found again.
pub fn clean(littered: &[Dir]) {
    for dir in littered {
        let _ = durable::remove_leftovers(dir);
    }
}

/// Whether the identity in place is that of this Role, or may become it; gives the record.
///
/// # Errors
/// Where the record says that another Role's is in place: a Snapshot would give it to this Role as well. Where this Role has a Snapshot
/// that no boot installed here: a new one would replace its identity by that of this machine.
pub fn check(root: &Dir, sid: &SidData, env: EnvVersion, identity: &RoleIdentity) -> Result<Worn, SidError> {
    let (worn, _) = read_or_unknown(root)?;
    let role = identity.role;
    let foreign = |worn: String| {
        let has_snapshot = sid.role_dir(role)?.map(|dir| snapshot::newest(&dir)).transpose()?.flatten().is_some();
        Err(SidError::ForeignIdentity { role, worn, has_snapshot })
    };
    if let Some(Foreign::Of(other)) = worn.foreign_to(identity) {
        return foreign(format!("the identity of {other}"));
    }
    match &worn.whose {
        Whose::Own if !is_installed(root, sid, role, env, |_| true)? => {
            return foreign(format!("an identity of its own, and not that of the Snapshot of {role}"));
        }
        // Its other files may have been changed here since.
        Whose::Unknown if !is_installed(root, sid, role, env, tells_servers_apart)? => {
            return foreign(format!(
                "another identity than that of the Snapshot of {role}, and nobody wrote down whose"
            ));
        }
        Whose::Of(_) | Whose::Own | Whose::Unknown => {}
    }
    Ok(worn)
}

/// Before a Snapshot is made of the identity in place, for `identity`: from now on it is that Role's.
///
/// # Errors
/// As [`check`] says.
pub fn give(root: &Dir, sid: &SidData, env: EnvVersion, mut identity: RoleIdentity) -> Result<(), SidError> {
    if let Whose::Of(of) = check(root, sid, env, &identity)?.whose {
        identity.set = identity.set.or(of.set);
    }
    if !write(root, &Worn::of(identity))? {
        // Whatever is in place now is that Role's, what was changed since the record was written included. Not flushed: it is only good to know.
        let _ = root.file(format!("{ESD_DATA}/{FILE}"))?.set_modified(SystemTime::now());
    }
    Ok(())
}

/// Whether what `counts` of the identity in the Snapshot of `role` is in place here; also where there is no Snapshot.
fn is_installed(
    root: &Dir,
    sid: &SidData,
    role: Role,
    env: EnvVersion,
    counts: fn(&TreePath) -> bool,
) -> Result<bool, SidError> {
    let Some(role_dir) = sid.role_dir(role)? else { return Ok(true) };
    if snapshot::newest(&role_dir)?.is_none() {
        return Ok(true);
    }
    // One that cannot be read cannot be seen to be in place.
    let Ok(Found::Exact(snapshot) | Found::Older(snapshot)) = snapshot::find_identity(&role_dir, role, env) else {
        return Ok(false);
    };
    let plan = Plan::make(root, &snapshot, FileSet::Ident);
    Ok(plan.is_ok_and(|plan| !plan.changes().iter().any(|change| counts(change.path()))))
}

/// Of an identity: what two servers never have alike.
fn tells_servers_apart(path: &TreePath) -> bool {
    let text = path.to_string();
    text == "/etc/hostname" || text.starts_with("/etc/ssh/ssh_host_") || text == "/etc/machine-id"
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::create;

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

    /// A server of PRI's set; no Snapshot is made yet.
    fn server(root: &std::path::Path) -> (Dir, SidData) {
        for (path, content) in [
            ("etc/hostname", "pri\n"),
            ("etc/hosts", "127.0.1.1 pri\n"),
            ("unbound/SID_DATA/PRI/Env1/IdentFilePaths", "/etc/hostname\n/etc/hosts\n"),
        ] {
            std::fs::create_dir_all(root.join(path).parent().unwrap()).unwrap();
            std::fs::write(root.join(path), content).unwrap();
        }
        let tree = Dir::open_root(root).unwrap();
        let sid = SidData::open(&Dir::open_root(root.join("unbound")).unwrap()).unwrap();
        (tree, sid)
    }

    #[test]
    fn an_identity_of_which_a_snapshot_is_made_is_that_roles_and_goes_to_no_other() {
        let tmp = tempfile::tempdir().unwrap();
        let (root, sid) = server(tmp.path());
        for before in [Worn::OWN, Worn::UNKNOWN, Worn::of(pri())] {
            write(&root, &before).unwrap();
            give(&root, &sid, EnvVersion::OLDEST, pri()).unwrap();
            assert_eq!(read(&root).unwrap(), Worn::of(pri()));
        }
        let sec = RoleIdentity { role: "SEC1".parse().unwrap(), ..pri() };
        let error = give(&root, &sid, EnvVersion::OLDEST, sec).unwrap_err();
        assert!(matches!(error, SidError::ForeignIdentity { has_snapshot: false, .. }), "{error}");
        assert_eq!(read(&root).unwrap(), Worn::of(pri()), "nothing was written");
    }

    #[test]
    fn a_machine_that_no_boot_gave_the_snapshots_identity_replaces_none() {
        let tmp = tempfile::tempdir().unwrap();
        let (root, sid) = server(tmp.path());
        create::create(&root, &sid, Role::Pri, EnvVersion::OLDEST).unwrap();
        let give_as = |worn: &Worn| {
            write(&root, worn).unwrap();
            give(&root, &sid, EnvVersion::OLDEST, pri())
        };
        for worn in [Worn::OWN, Worn::UNKNOWN] {
            give_as(&worn).expect("it is the identity of the Snapshot");
        }
        std::fs::write(tmp.path().join("etc/hosts"), "127.0.1.1 pri pri2\n").unwrap();
        give_as(&Worn::UNKNOWN).expect("a file that was changed on the server with that name");
        give_as(&Worn::of(pri())).expect("it wears it");
        std::fs::write(tmp.path().join("etc/hostname"), "fresh\n").unwrap();
        for worn in [Worn::OWN, Worn::UNKNOWN] {
            let error = give_as(&worn).unwrap_err();
            assert!(matches!(error, SidError::ForeignIdentity { has_snapshot: true, .. }), "{worn:?}: {error}");
            assert_eq!(read(&root).unwrap(), worn);
        }
        give_as(&Worn::of(pri())).expect("its name was changed");
    }
}
