//! Residue: what a Snapshot's EnvVersion cannot express of the Snapshot that it was converted from.
//!
//! ```text
//! PRI/Env1/Residue/Sync/Env2/ …     made when (PRI, Env2) was converted to Env1; used up when (PRI, Env1) is converted to Env2
//! PRI/Env1/Residue/Ident/Env3/ …    carried through Env2, for the converter of Env3
//! ```
//!
//! The converters write and read what lies in there. Here it is only carried: it is part of the Manifest, so that it travels with the
//! Snapshot; it belongs to no path of a server and is never installed; and a new Snapshot of the same server takes it over from the one
//! before, because the files that it is made from cannot say it.
//!
//! A secondary has the services' files of PRI, so the residue of these is PRI's, too. With it, its Snapshot converts to exactly what
//! PRI's does, as long as nobody changed a file on the secondary.

use crate::{
    layout::{SidData, SidError},
    scan::scan,
    transaction::copy_tree,
};
use atlas_host::tree::Dir;
use atlas_model::{
    EnvVersion, PathList, Role, TreePath,
    manifest::{Entry, FileSet, Kind},
};

/// The directories in Residue: one for each set, because a secondary has one from PRI and the other of its own.
const OF_SETS: [(FileSet, &str); 2] = [(FileSet::Ident, "Ident"), (FileSet::Sync, "Sync")];

/// Everything below a Snapshot's Residue; nothing where there is none.
pub fn entries(snapshot: &Dir) -> Result<Vec<Entry>, SidError> {
    let residue = match snapshot.dir(FileSet::Residue.dir_name()) {
        Ok(residue) => residue,
        Err(error) if error.is_not_found() => return Ok(vec![]),
        Err(error) => return Err(error.into()),
    };
    let list: PathList = OF_SETS.iter().filter_map(|(_, name)| TreePath::parse(&format!("/{name}")).ok()).collect();
    let mut entries = scan(&residue, &list, FileSet::Residue)?;
    entries.retain(|entry| entry.kind != Kind::Absent);
    Ok(entries)
}

/// Copies into the new Snapshot `to` of (`role`, `env_version`) the residue that its files go with.
pub(crate) fn carry(sid: &SidData, role: Role, env_version: EnvVersion, to: &Dir) -> Result<(), SidError> {
    for (set, name) in OF_SETS {
        let whose = if set == FileSet::Sync { Role::Pri } else { role };
        let Some(role_dir) = sid.role_dir(whose)? else { continue };
        let from = match role_dir.dir(format!("{}/{}", env_version.dir_name(), FileSet::Residue.dir_name())) {
            Ok(from) => from,
            Err(error) if error.is_not_found() => continue,
            Err(error) => return Err(error.into()),
        };
        if from.stat(name.as_ref())?.is_some() {
            to.make_dir(FileSet::Residue.dir_name(), 0o700)?;
            copy_tree(&from, name.as_ref(), &to.dir(FileSet::Residue.dir_name())?)?;
        }
    }
    Ok(())
}

/// Whether the residue of the Snapshot in `snapshot` is what [`carry`] would take.
pub(crate) fn is_current(sid: &SidData, role: Role, env_version: EnvVersion, snapshot: &Dir) -> Result<bool, SidError> {
    // The primary's comes from its own Snapshot.
    if role.is_primary() {
        return Ok(true);
    }
    let Some(primary) = sid.role_dir(Role::Pri)? else { return Ok(true) };
    let theirs = match primary.dir(env_version.dir_name()) {
        Ok(dir) => entries(&dir)?,
        Err(error) if error.is_not_found() => return Ok(true),
        Err(error) => return Err(error.into()),
    };
    let common = format!("/{}", OF_SETS[1].1);
    let of_services = |entries: Vec<Entry>| -> Vec<(TreePath, Kind)> {
        let all = entries.into_iter().map(|entry| (entry.path, entry.kind));
        all.filter(|(path, _)| path.to_string().starts_with(&common)).collect()
    };
    let (theirs, ours) = (of_services(theirs), of_services(entries(snapshot)?));
    Ok(theirs.len() == ours.len() && theirs.iter().zip(&ours).all(|(a, b)| a.0 == b.0 && a.1.same_as(&b.1)))
}
