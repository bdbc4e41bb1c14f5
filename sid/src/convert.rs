//! Converting a Snapshot to the next newer or older EnvVersion, with the converters that are installed on the Bound disk.
//!
//! `/opt/atlas/bin/SyncConverterN` converts between EnvN-1 and EnvN, in both directions [192, 336]:
//!
//! ```text
//! SyncConverter2 newer SRC DST     SRC: a Snapshot of Env1, not to be changed;  DST: an empty directory, to become one of Env2
//! SyncConverter2 older SRC DST     the other way
//! ```
//!
//! DST must hold IdentFilePaths, IdentFiles, the SyncFilePaths lists and SyncFiles when it ends with 0, and may hold Residue
//! ([`crate::residue`]). Its Manifest is made here, from what is there; a listed path that leads out of DST is refused.

use crate::{
    create::write_manifest,
    layout::SidError,
    residue,
    scan::scan,
    snapshot::{MANIFEST, read_list},
};
use atlas_host::{process::Command, tree::Dir};
use atlas_model::{
    EnvVersion, Owners, Role,
    manifest::{FileSet, Manifest},
};
use std::{
    path::{Path, PathBuf},
    time::Duration,
};

/// How long one conversion may take.
const DEADLINE: Duration = Duration::from_secs(120);

/// The converters of a server.
#[derive(Clone, Debug)]
pub struct Converters {
    root: PathBuf,
}

impl Converters {
    /// Those installed below the server's root directory.
    pub fn of(root: &Path) -> Converters {
        Converters { root: root.to_owned() }
    }

    /// A path as a program that runs in the server's tree sees it.
    fn seen_from_inside(&self, path: &Path) -> PathBuf {
        path.strip_prefix(&self.root).map_or_else(|_| path.to_owned(), |below| Path::new("/").join(below))
    }
}

/// Converts the Snapshot `from` in `role_dir` into a new Snapshot `to` beside it.
pub fn step(
    converters: &Converters,
    role_dir: &Dir,
    role: Role,
    from: EnvVersion,
    to: EnvVersion,
) -> Result<(), SidError> {
    convert(converters, &role_dir.dir(from.dir_name())?, role_dir, role, from, to)
}

/// Converts the Snapshot in `source` into `EnvN` in `target_dir`, one version up or down.
pub fn convert(
    converters: &Converters,
    source: &Dir,
    target_dir: &Dir,
    role: Role,
    from: EnvVersion,
    to: EnvVersion,
) -> Result<(), SidError> {
    let name = to.dir_name();
    target_dir.make_dir(&name, 0o700)?;
    let target = target_dir.dir(&name)?;
    let direction = if to > from { "newer" } else { "older" };
    Command::new(format!("/opt/atlas/bin/SyncConverter{}", from.max(to).number()))
        .arg(direction)
        .arg(converters.seen_from_inside(source.shown()))
        .arg(converters.seen_from_inside(target.shown()))
        .in_root(&converters.root)
        .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
        .deadline(DEADLINE)
        .run()
        .map_err(|source| SidError::Conversion { role, from, to, source })?;
    let mut entries = Vec::new();
    for set in [FileSet::Ident, FileSet::Sync] {
        let Some(list) = read_list(&target, set.list_name())? else {
            let why = format!("its converter made no {}", set.list_name());
            return Err(SidError::Damaged { path: target.shown().to_owned(), why });
        };
        target.make_dir(set.dir_name(), 0o700)?;
        entries.extend(scan(&target.dir(set.dir_name())?, &list, set)?);
    }
    entries.extend(residue::entries(&target)?);
    write_manifest(&target, role, to, entries, &owners_in(source)?).map(drop)
}

/// Whose numbers the files have: a conversion keeps them.
fn owners_in(snapshot: &Dir) -> Result<Owners, SidError> {
    let Some(content) = snapshot.read_if_there(MANIFEST, Manifest::MAX_SIZE)? else { return Ok(Owners::default()) };
    let manifest = Manifest::parse(&content);
    let manifest = manifest.map_err(|source| SidError::Manifest { path: snapshot.show(MANIFEST), source })?;
    Ok(manifest.owners().clone())
}
