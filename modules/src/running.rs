//! Which versions run now, from `/proc`.
//!
//! The kernel names the file that a process was started from, not the link that led there: so a process tells its version for as long
//! as it lives, whatever is set since. A script's process is its interpreter; it tells its version by the script that it holds open.

use crate::{
    name::{Channel, FileName, Release, split_tagged},
    store::{ATLAS_DIR, MODULES_DIR},
};
use procfs::process::{FDTarget, Process};
use std::path::{Path, PathBuf};

/// A process of a version of a module.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Running {
    /// Which file of a module it runs.
    pub file: FileName,
    /// Of which version.
    pub release: Release,
    /// Its process id.
    pub pid: i32,
    /// Whether the file is gone from the disk meanwhile.
    pub deleted: bool,
}

/// Everything that runs from below `root`. Processes that may not be looked at, or that end meanwhile, are left out.
pub fn processes(root: &Path) -> Vec<Running> {
    let Ok(atlas) = std::fs::canonicalize(root.join(ATLAS_DIR)) else { return vec![] };
    let Ok(all) = procfs::process::all_processes() else { return vec![] };
    let mut running: Vec<Running> = all.flatten().filter_map(|process| look(&process, &atlas)).collect();
    running.sort();
    running
}

fn look(process: &Process, atlas: &Path) -> Option<Running> {
    // A thread of the kernel has no file.
    let exe = process.exe().ok()?;
    let found = |path: &Path| {
        version_of(path, &atlas.join(MODULES_DIR)).map(|(release, file, deleted)| Running {
            file,
            release,
            pid: process.pid(),
            deleted,
        })
    };
    if exe.starts_with(atlas) {
        return found(&exe);
    }
    // Only the interpreter of one of our scripts is worth the look at what it holds open.
    let names_ours =
        |arg: &String| Path::new(arg).starts_with(atlas) || Path::new(arg).starts_with(Path::new("/").join(ATLAS_DIR));
    if !process.cmdline().ok()?.iter().skip(1).take(3).any(names_ours) {
        return None;
    }
    process.fd().ok()?.flatten().find_map(|fd| match fd.target {
        FDTarget::Path(path) => found(&path),
        _ => None,
    })
}

/// The version that a path below `modules` is of, and whether the kernel says that the file is gone.
fn version_of(path: &Path, modules: &Path) -> Option<(Release, FileName, bool)> {
    let text = path.to_str()?;
    let (text, deleted) = text.strip_suffix(" (deleted)").map_or((text, false), |text| (text, true));
    let path = PathBuf::from(text);
    let mut parts = path.strip_prefix(modules).ok()?.iter();
    let (channel, tagged) = (parts.next()?.to_str()?, parts.next()?.to_str()?);
    let (file, version) = split_tagged(tagged)?;
    let channel: Channel = channel.parse().ok()?;
    parts.next().is_none().then_some((Release { channel, version }, file, deleted))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_of_the_kernel_tells_the_version() {
        let of = |path: &str| version_of(Path::new(path), Path::new("/opt/atlas/modules"));
        let (release, file, deleted) = of("/opt/atlas/modules/update/ssSync.v2").unwrap();
        assert_eq!((release.to_string().as_str(), file.as_str(), deleted), ("update/v2", "ssSync", false));
        assert!(of("/opt/atlas/modules/beta/ssSync.v3 (deleted)").unwrap().2);
        for other in ["/opt/atlas/modules/update/x", "/opt/atlas/modules/records/ssSync.v2", "/usr/bin/ssSync.v2"] {
            assert_eq!(of(other), None, "{other}");
        }
    }
}
