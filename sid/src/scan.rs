//! Reading the objects that a path list names, from a server's tree or from a Snapshot.

use crate::layout::SidError;
use atlas_host::{FileError, durable, object, tree::Dir};
use atlas_model::{
    PathList, TreePath,
    manifest::{Entry, FileSet, Kind, Manifest},
    reserved,
};

/// Reads every object of `list` below `tree`: listed files, and listed directories with all that they hold.
///
/// A listed path that is not there, its directory included, is an entry, too: `absent`.
///
/// SyncFiles come without what belongs to one machine ([`reserved`]).
pub fn scan(tree: &Dir, list: &PathList, set: FileSet) -> Result<Vec<Entry>, SidError> {
    scan_except(tree, list, set, &PathList::default())
}

/// The same without the paths of `except`, and what lies below them.
pub fn scan_except(tree: &Dir, list: &PathList, set: FileSet, except: &PathList) -> Result<Vec<Entry>, SidError> {
    let mut scan = Scan { set, except, entries: Vec::new() };
    for path in list.paths() {
        match parent_of(tree, path)? {
            Some(parent) => scan.object(&parent, path)?,
            None => scan.entries.push(Entry { set, path: path.clone(), kind: Kind::Absent }),
        }
    }
    Ok(scan.entries)
}

/// The directory that holds `path`, if it is there. One that is reached through a link is refused.
pub(crate) fn parent_of(tree: &Dir, path: &TreePath) -> Result<Option<Dir>, SidError> {
    match tree.parent_of(path) {
        Ok((parent, _)) => Ok(Some(parent)),
        Err(error) if error.is_not_found() => Ok(None),
        Err(error) => Err(leads_out(path, error)),
    }
}

/// A link on the way is told as what it is.
pub(crate) fn leads_out(path: &TreePath, error: FileError) -> SidError {
    // ELOOP: a component is a symbolic link. ENOTDIR: one is no directory. EXDEV: the path climbs above the tree.
    let is_path = matches!(
        error.source.raw_os_error().map(nix::errno::Errno::from_raw),
        Some(nix::errno::Errno::ELOOP | nix::errno::Errno::ENOTDIR | nix::errno::Errno::EXDEV)
    );
    if is_path { SidError::LeadsOut { path: path.clone(), source: error } } else { error.into() }
}

struct Scan<'a> {
    set: FileSet,
    except: &'a PathList,
    entries: Vec<Entry>,
}

impl Scan<'_> {
    fn object(&mut self, parent: &Dir, path: &TreePath) -> Result<(), SidError> {
        let is_reserved = self.set == FileSet::Sync && reserved::why(path).is_some();
        if is_reserved || durable::is_temporary(path.name()) || self.except.covers(path) {
            return Ok(());
        }
        if self.entries.len() >= Manifest::MAX_ENTRIES {
            let source = std::io::Error::other(format!("more than {} objects are listed", Manifest::MAX_ENTRIES));
            return Err(FileError::on("read", parent.shown())(source).into());
        }
        let kind = object::read(parent, path.name())?;
        let is_dir = matches!(kind, Kind::Dir { .. });
        self.entries.push(Entry { set: self.set, path: path.clone(), kind });
        if is_dir {
            let dir = parent.dir(path.name())?;
            for name in dir.names(Manifest::MAX_ENTRIES)? {
                let below = path
                    .join(&name)
                    .map_err(|error| FileError::on("read", dir.show(&name))(std::io::Error::other(error)))?;
                self.object(&dir, &below)?;
            }
        }
        Ok(())
    }
}
