//! Identity lies on the root file system: early at boot, when it is installed, nothing else is mounted.
//!
//! A path on another file system would be written below its mount point, where nobody finds it: the server would go on with its old one.

use crate::layout::SidError;
use atlas_host::{FileError, tree::Dir};
use atlas_model::{
    PathList, TreePath,
    mounts::{self, MountPoints},
};
use std::{
    ffi::OsStr,
    os::unix::ffi::OsStrExt,
    path::{Path, PathBuf},
};

/// More than any of these files has, in bytes.
const MAX_FILE: usize = 4 << 20;
const FSTAB: &str = "etc/fstab";
/// Where an administrator's mount units lie.
const UNITS: &str = "etc/systemd/system";
const MAX_UNITS: usize = 10_000;

/// The mount points of the server whose tree this is: those of now, and those that its configuration names.
pub fn mount_points(root: &Dir) -> Result<MountPoints, FileError> {
    let mounted = mountinfo()?;
    let fstab = match root.read_followed(FSTAB, MAX_FILE) {
        Err(error) if error.is_not_found() => String::new(),
        other => text(&other?),
    };
    let at = canonical(root)?;
    Ok(MountPoints::parse(&at, &mounted, &fstab, units(root)?.iter().map(String::as_str)))
}

/// The type of the root file system, where it may forget what is written to it: an overlay, or one in memory.
///
/// An identity is not taken on such a one: after the next boot this server would not know whose it has.
pub fn volatile(root: &Dir) -> Result<Option<String>, FileError> {
    Ok(mounts::type_of_root(&canonical(root)?, &mountinfo()?).filter(|name| mounts::is_volatile(name)))
}

fn mountinfo() -> Result<String, FileError> {
    let path = Path::new("/proc/self/mountinfo");
    std::fs::read(path).map(|bytes| text(&bytes)).map_err(FileError::on("read", path))
}

fn canonical(root: &Dir) -> Result<PathBuf, FileError> {
    std::fs::canonicalize(root.shown()).map_err(FileError::on("look at", root.shown()))
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// The texts of the mount units.
fn units(root: &Dir) -> Result<Vec<String>, FileError> {
    let dir = match root.followed_dir(UNITS) {
        Ok(dir) => dir,
        Err(error) if error.is_not_found() => return Ok(vec![]),
        Err(error) => return Err(error),
    };
    let is_mount = |name: &OsStr| name.as_bytes().ends_with(b".mount");
    let names = dir.names(MAX_UNITS)?.into_iter().filter(|name| is_mount(name));
    // A unit that is masked, or a link to one elsewhere, mounts nothing of its own here.
    let texts = names.filter_map(|name| dir.read(&name, MAX_FILE).ok());
    Ok(texts.map(|bytes| text(&bytes)).collect())
}

/// Whether all of `list` lies on the root file system.
///
/// # Errors
/// [`SidError::Elsewhere`] with the first path that does not, and its mount point.
pub fn check(root: &Dir, list: &PathList) -> Result<(), SidError> {
    let points = mount_points(root)?;
    let elsewhere = |path: &TreePath| points.of(path).map(|point| (path.clone(), point.to_string()));
    match list.paths().iter().find_map(elsewhere) {
        Some((path, why)) => Err(SidError::Elsewhere { path, why }),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    fn list(path: &str) -> PathList {
        [TreePath::parse(path).unwrap()].into_iter().collect()
    }

    #[test]
    fn a_path_that_fstab_or_a_unit_mounts_over_is_not_on_the_root_file_system_although_nothing_is_mounted_now() {
        let tmp = tempfile::tempdir().unwrap();
        fs::create_dir_all(tmp.path().join(UNITS)).unwrap();
        fs::write(tmp.path().join(FSTAB), "UUID=b /var ext4 noauto 0 2\n").unwrap();
        fs::write(tmp.path().join(UNITS).join("srv.mount"), "[Mount]\nWhat=server:/\nWhere=/srv\n").unwrap();
        let root = Dir::open_root(tmp.path()).unwrap();
        assert!(check(&root, &list("/etc/hostname")).is_ok());
        for (path, why) in [
            ("/var/lib/secret", "/etc/fstab mounts another file system at /var"),
            ("/srv/key", "a mount unit mounts another file system at /srv"),
        ] {
            let error = check(&root, &list(path)).unwrap_err();
            assert!(matches!(&error, SidError::Elsewhere { .. }) && error.to_string().contains(why), "{error}");
        }
    }

    #[test]
    fn what_is_mounted_below_the_tree_counts_and_what_is_mounted_elsewhere_does_not() {
        let name = "on_root::tests::what_is_mounted_below_the_tree_counts_and_what_is_mounted_elsewhere_does_not";
        if !atlas_host::testing::own_mounts(name) {
            return;
        }
        let tmp = tempfile::tempdir().unwrap();
        fs::create_dir_all(tmp.path().join("server/var/lib")).unwrap();
        fs::create_dir_all(tmp.path().join("etc")).unwrap();
        let root = Dir::open_root(tmp.path().join("server")).unwrap();
        assert!(check(&root, &list("/var/lib/x")).is_ok());
        assert_eq!(volatile(&root).unwrap(), None);
        atlas_host::mount::memory(&tmp.path().join("server/var"), 1 << 20).unwrap();
        atlas_host::mount::memory(&tmp.path().join("etc"), 1 << 20).unwrap();
        assert!(matches!(check(&root, &list("/var/lib/x")), Err(SidError::Elsewhere { .. })));
        assert!(check(&root, &list("/etc/x")).is_ok());
        // A bind mount of the root file system itself: the same device, and not there early.
        assert!(check(&root, &list("/srv/x")).is_ok());
        fs::create_dir_all(tmp.path().join("server/srv")).unwrap();
        fs::create_dir_all(tmp.path().join("server/data")).unwrap();
        let bound = std::process::Command::new("mount")
            .arg("--bind")
            .arg(tmp.path().join("server/data"))
            .arg(tmp.path().join("server/srv"))
            .status();
        assert!(bound.unwrap().success());
        assert!(matches!(check(&root, &list("/srv/x")), Err(SidError::Elsewhere { .. })));
        atlas_host::mount::memory(&tmp.path().join("server"), 1 << 20).unwrap();
        assert_eq!(volatile(&root).unwrap().as_deref(), Some("tmpfs"));
    }
}
