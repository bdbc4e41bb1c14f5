//! An empty or unmounted source never becomes a mass delete.
//!
//! A file system that was not mounted on PRI looks like a directory whose files were all removed. So an installation is refused, and
//! nothing is changed, where of one listed path, or of all together,
//!
//! - more than [`FEW`] objects would go, and they are more than half of what is here; or
//! - all would go that lie in a listed directory, and they are more than [`VERY_FEW`].
//!
//! An operator who did remove that much on PRI confirms it on each secondary with `ssSync install --confirm-removal`.

use atlas_cli::Hint;
use atlas_host::{
    durable,
    tree::{Dir, ObjectType},
};
use atlas_model::{
    PathList, TreePath,
    manifest::{Entry, Kind, Manifest},
};
use atlas_sid::install::Change;

/// As many objects may always go.
const FEW: usize = 10;
/// As many may go together with everything else of a listed directory.
const VERY_FEW: usize = 2;

/// What a plan takes away of one listed path.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Loss {
    /// Objects that are here.
    here: usize,
    /// Those of them that would go.
    gone: usize,
}

impl Loss {
    fn is_too_much(self, empties: bool) -> bool {
        self.gone > FEW && self.gone * 2 > self.here || empties && self.gone > VERY_FEW
    }
}

/// Refuses what looks like a source that was not mounted.
pub(super) fn check(root: &Dir, listed: &PathList, entries: &[Entry], changes: &[Change]) -> anyhow::Result<()> {
    let mut all = Loss::default();
    for path in listed.paths() {
        let mut loss = Loss::default();
        for change in changes.iter().filter(|change| change.path().is_within(path)) {
            loss.gone += match change {
                Change::Remove(path) => count(root, path, true)?,
                Change::Replace(path) => count(root, path, false)?,
                Change::Add(_) | Change::Adjust(..) => 0,
            };
        }
        if loss.gone > VERY_FEW {
            loss.here = count(root, path, true)?;
            let start = entries.partition_point(|entry| entry.path.as_path() <= path.as_path());
            let below = entries[start..].iter().take_while(|entry| entry.path.is_within(path));
            let empties = below.filter(|entry| entry.kind != Kind::Absent).count() == 0;
            refuse(loss, empties, &path.to_string())?;
        }
        all.gone += loss.gone;
    }
    if all.gone > FEW {
        let stay = entries.iter().filter(|entry| entry.kind != Kind::Absent).count();
        all.here = all.gone + stay;
        refuse(all, false, "all listed paths together")?;
    }
    Ok(())
}

fn refuse(loss: Loss, empties: bool, what: &str) -> anyhow::Result<()> {
    if !loss.is_too_much(empties) {
        return Ok(());
    }
    let Loss { here, gone } = loss;
    Err(anyhow::anyhow!(
        "PRI's Snapshot would remove {gone} of {here} objects of {what} from this server, as if a file system had not been mounted on PRI"
    ))
    .hint("look on PRI whether everything is mounted and there; if so much was really removed, run 'ssSync install --confirm-removal' on this server. Nothing was changed")
}

/// Objects at and below `path`; those of ATLAS' own temporary names do not count.
fn count(root: &Dir, path: &TreePath, with_itself: bool) -> anyhow::Result<usize> {
    let (parent, name) = match root.parent_of(path) {
        Ok(found) => found,
        Err(error) if error.is_not_found() => return Ok(0),
        Err(error) => return Err(error.into()),
    };
    let below = count_at(&parent, name)?;
    Ok(if with_itself { below } else { below.saturating_sub(1) })
}

fn count_at(dir: &Dir, name: &std::ffi::OsStr) -> anyhow::Result<usize> {
    if durable::is_temporary(name) {
        return Ok(0);
    }
    let Some(stat) = dir.stat(name)? else { return Ok(0) };
    let mut count = 1;
    if ObjectType::of(&stat) == ObjectType::Dir {
        let below = dir.dir(name)?;
        for inner in below.names(Manifest::MAX_ENTRIES)? {
            count += count_at(&below, &inner)?;
        }
    }
    Ok(count)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_too_much() {
        let loss = |gone, here| Loss { here, gone };
        assert!(!loss(10, 10).is_too_much(false) && !loss(11, 22).is_too_much(false));
        assert!(loss(11, 21).is_too_much(false));
        assert!(!loss(2, 2).is_too_much(true) && loss(3, 3).is_too_much(true));
    }
}
