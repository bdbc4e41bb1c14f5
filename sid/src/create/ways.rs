//! The directories above what the path lists name.

use crate::{layout::SidError, scan::parent_of};
use atlas_host::tree::{Dir, ObjectType};
use atlas_model::{
    PathList, TreePath,
    ways::{Way, Ways},
};
use std::collections::BTreeSet;

/// Those of `listed` that are not as directories usually are, and are not listed themselves.
pub(super) fn above(root: &Dir, listed: &PathList) -> Result<Ways, SidError> {
    let up = |path: &TreePath| std::iter::successors(path.parent(), TreePath::parent);
    let all: BTreeSet<TreePath> = listed.paths().iter().flat_map(up).filter(|path| !listed.covers(path)).collect();
    let mut ways = Ways::new();
    for path in all.into_iter().take(Way::MOST) {
        let Some(stat) = parent_of(root, &path)?.map(|parent| parent.stat(path.name())).transpose()?.flatten() else {
            continue;
        };
        let way = Way { mode: stat.st_mode & 0o7777, uid: stat.st_uid, gid: stat.st_gid };
        if ObjectType::of(&stat) == ObjectType::Dir && way != Way::USUAL {
            ways.insert(path, way);
        }
    }
    Ok(ways)
}
