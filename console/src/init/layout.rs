//! Whether the root file system is laid out so that an early boot finds everything on it.
//!
//! atlas-boot runs when the root file system is mounted and nothing else: what it reads and writes must lie there.

use super::{initramfs::chain, objection::Objection};
use atlas_host::tree::Dir;
use atlas_model::mounts::Witness;
use atlas_sid::{layout::UNBOUND_MOUNT, on_root};
use std::path::Path;

/// What has to lie on the root file system itself: which environment this is, the identity, and the place of the mount.
const ON_ROOT: [&str; 4] = ["etc", "opt", "opt/atlas", "etc/atlas"];

/// What is in the way.
pub fn objections(tree: &Dir) -> Vec<Objection> {
    let is_link = |path: &str| tree.shown().join(path).symlink_metadata().is_ok_and(|meta| meta.is_symlink());
    let points = match on_root::mount_points(tree) {
        Ok(points) => points,
        Err(error) => return vec![Objection::new(chain(&error))],
    };
    let mut objections = Vec::new();
    match on_root::volatile(tree) {
        Ok(None) => {}
        Ok(Some(file_system)) => objections.push(
            Objection::new(format!(
                "the root file system is of type {file_system} and may forget what is written to it"
            ))
            .hint("boot without the overlay; the identity has to be there after the next boot"),
        ),
        Err(error) => objections.push(Objection::new(chain(&error))),
    }
    for path in ON_ROOT {
        let early = "early at boot nothing else is mounted";
        if is_link(path) {
            let objection = Objection::new(format!("/{path} is a link"));
            objections.push(objection.hint(format!("make /{path} a directory of the root file system: {early}")));
        } else if let Some(point) = points.at(&Path::new("/").join(path)) {
            let objection = Objection::new(point.to_string());
            objections.push(objection.hint(format!("move /{path} to the root file system: {early}")));
        }
    }
    if is_link(UNBOUND_MOUNT) {
        objections.push(Objection::new("/unbound is a link").hint("remove it; 'atlas init' makes the directory"));
    }
    let unbound = Path::new("/").join(UNBOUND_MOUNT);
    let unbound = points.all_at(&unbound).filter(|point| point.by != Witness::Kernel);
    objections.extend(unbound.map(|point| {
        Objection::new(point.to_string())
            .hint("take that line out: atlas-boot mounts it, and after a refusal nothing else may")
    }));
    objections
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{fs, os::unix::fs::symlink};

    fn texts(root: &Path) -> Vec<String> {
        objections(&Dir::open_root(root).unwrap()).into_iter().map(|objection| objection.what).collect()
    }

    #[test]
    fn a_plain_server_has_nothing_in_the_way() {
        let tmp = tempfile::tempdir().unwrap();
        fs::create_dir_all(tmp.path().join("opt/atlas")).unwrap();
        fs::create_dir_all(tmp.path().join("etc")).unwrap();
        fs::write(tmp.path().join("etc/fstab"), "LABEL=R / ext4 ro 0 1\n# /dev/x /opt ext4\n/dev/y /srv xfs\n")
            .unwrap();
        assert_eq!(texts(tmp.path()), Vec::<String>::new());
    }

    #[test]
    fn what_early_boot_would_not_find_is_named() {
        let tmp = tempfile::tempdir().unwrap();
        fs::create_dir_all(tmp.path().join("etc")).unwrap();
        symlink("/srv/opt", tmp.path().join("opt")).unwrap();
        symlink("/srv/unbound", tmp.path().join("unbound")).unwrap();
        fs::write(tmp.path().join("etc/fstab"), "/dev/x /opt/ ext4\n  LABEL=ATLAS-UNBOUND /unbound ext4\n").unwrap();
        let expected = ["/opt is a link", "/unbound is a link", "/etc/fstab mounts another file system at /unbound"];
        assert_eq!(texts(tmp.path()), expected);
        fs::remove_file(tmp.path().join("opt")).unwrap();
        assert_eq!(texts(tmp.path())[0], "/etc/fstab mounts another file system at /opt");
    }
}
