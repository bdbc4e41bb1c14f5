//! The next Role directory, made from what is there: files that did not change are shared by hard links, only those that did are copied.

use super::delta::Delta;
use crate::{
    layout::SidError,
    lines::{Difference, Lines, compare},
};
use atlas_host::{FileError, object, tree::Dir};
use atlas_model::{
    TreePath,
    manifest::{Entry, FileSet, Kind},
};
use std::fs::File;

/// What the next Snapshot is made of.
pub(crate) struct Sources<'a> {
    /// The server's tree, for what changed.
    pub(crate) root: &'a Dir,
    /// The published Snapshot, for what did not.
    pub(crate) published: Option<&'a Dir>,
    pub(crate) delta: &'a Delta,
}

/// Why a Snapshot could not be made.
pub(crate) enum BuildError {
    /// An object of the server's tree could not be copied as it was seen: it may have changed.
    Copy(TreePath, FileError),
    /// Anything else.
    Other(SidError),
}

impl<E: Into<SidError>> From<E> for BuildError {
    fn from(error: E) -> BuildError {
        BuildError::Other(error.into())
    }
}

/// Brings the copies below `snapshot` from what the Manifest `is` says to what `wanted` says.
pub(crate) fn build(
    sources: &Sources<'_>,
    snapshot: &Dir,
    is: Option<Lines<File>>,
    wanted: Lines<File>,
) -> Result<(), BuildError> {
    for set in [FileSet::Ident, FileSet::Sync] {
        snapshot.make_dir(set.dir_name(), 0o700)?;
    }
    let mut places = Places {
        to: Place::new(snapshot),
        from: sources.published.map(Place::new),
        root: Place { in_sets: false, ..Place::new(sources.root) },
    };
    let mut failure = None;
    let result = compare(is, wanted, |difference| {
        places.bring(sources, &difference).map_err(|error| match error {
            BuildError::Other(error) => error,
            BuildError::Copy(path, error) => {
                failure = Some((path.clone(), error));
                SidError::Restless(path)
            }
        })
    });
    match failure {
        Some((path, error)) => Err(BuildError::Copy(path, error)),
        None => Ok(result?),
    }
}

/// The directories that are open on each side.
struct Places<'a> {
    to: Place<'a>,
    from: Option<Place<'a>>,
    root: Place<'a>,
}

impl Places<'_> {
    fn bring(&mut self, sources: &Sources<'_>, difference: &Difference) -> Result<(), BuildError> {
        let Some(Entry { set, path, .. }) = difference.entry() else { return Ok(()) };
        if *set == FileSet::Residue {
            return Ok(());
        }
        let was = difference.old.as_ref().map_or(&Kind::Absent, |entry| &entry.kind);
        let wanted = difference.new.as_ref().map_or(&Kind::Absent, |entry| &entry.kind);
        let name = path.name();
        match (was, wanted) {
            (Kind::Absent, Kind::Absent) => return Ok(()),
            (_, Kind::Absent) => {
                if let Some(dir) = self.to.holding(*set, path)? {
                    dir.remove_tree(name)?;
                }
                return Ok(());
            }
            (Kind::Dir { .. }, Kind::Dir { meta }) => {
                return Ok(object::update_dir(meta, self.to.made(*set, path)?, name)?);
            }
            (Kind::Absent, _) => {}
            _ => {
                self.to.made(*set, path)?.remove_tree(name)?;
            }
        }
        let to = self.to.made(*set, path)?;
        if sources.delta.has(*set, path) {
            let copy = |error| BuildError::Copy(path.clone(), error);
            let gone =
                || copy(FileError::on("copy", path.as_path())(std::io::Error::from(std::io::ErrorKind::NotFound)));
            let from = self.root.holding(*set, path).map_err(copy)?.ok_or_else(gone)?;
            return object::make(wanted, from, name, to, name).map_err(copy);
        }
        let Some(from) = self.from.as_mut() else { return Ok(()) };
        let missing = || SidError::Damaged { path: from_path(sources, *set, path), why: "it is missing".into() };
        let Some(from) = from.holding(*set, path)? else { return Err(missing().into()) };
        match wanted {
            Kind::File { .. } => from.hard_link(name, to, name)?,
            _ => object::make(wanted, from, name, to, name)?,
        }
        Ok(())
    }
}

fn from_path(sources: &Sources<'_>, set: FileSet, path: &TreePath) -> std::path::PathBuf {
    let dir = sources.published.map(|dir| dir.show(set.dir_name())).unwrap_or_default();
    dir.join(path.relative())
}

/// Whether a file or a link is now where a directory was on the way.
fn is_no_directory(error: &FileError) -> bool {
    use nix::errno::Errno;
    matches!(error.source.raw_os_error().map(Errno::from_raw), Some(Errno::ENOTDIR | Errno::ELOOP))
}

/// A Snapshot's directory or a server's tree, and the directory below it that was used last.
struct Place<'a> {
    snapshot: &'a Dir,
    /// Whether each set has a directory of its own.
    in_sets: bool,
    last: Option<(FileSet, Option<TreePath>, Dir)>,
}

impl<'a> Place<'a> {
    fn new(snapshot: &'a Dir) -> Place<'a> {
        Place { snapshot, in_sets: true, last: None }
    }

    /// The directory that holds the copy of `path`; made, with those above it, where it is missing.
    fn made(&mut self, set: FileSet, path: &TreePath) -> Result<&Dir, FileError> {
        let snapshot = self.snapshot;
        self.open(set, path, |files, parent| match parent {
            Some(parent) => files.make_dirs(parent.relative()).map(Some),
            None => files.dir(".").map(Some),
        })
        .map(|dir| dir.unwrap_or(snapshot))
    }

    /// The same; `None` where it is missing.
    fn holding(&mut self, set: FileSet, path: &TreePath) -> Result<Option<&Dir>, FileError> {
        self.open(set, path, |files, parent| match parent.map_or_else(|| files.dir("."), |p| files.dir(p.relative())) {
            Err(error) if error.is_not_found() || is_no_directory(&error) => Ok(None),
            other => other.map(Some),
        })
    }

    fn open(
        &mut self,
        set: FileSet,
        path: &TreePath,
        open: impl FnOnce(&Dir, Option<&TreePath>) -> Result<Option<Dir>, FileError>,
    ) -> Result<Option<&Dir>, FileError> {
        let parent = path.parent();
        if !self.last.as_ref().is_some_and(|(s, p, _)| *s == set && *p == parent) {
            self.last = None;
            let Some(dir) =
                open(&self.snapshot.dir(if self.in_sets { set.dir_name() } else { "." })?, parent.as_ref())?
            else {
                return Ok(None);
            };
            self.last = Some((set, parent, dir));
        }
        Ok(self.last.as_ref().map(|(.., dir)| dir))
    }
}
