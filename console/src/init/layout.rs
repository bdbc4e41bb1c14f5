//! Whether the root file system is laid out so that an early boot finds everything on it.
//!
//! atlas-boot runs when the root file system is mounted and nothing else: what it reads and writes must lie there.

use super::objection::Objection;
use std::{os::unix::fs::MetadataExt, path::Path};

/// What has to lie on the root file system itself: which environment this is, the identity, and the place of the mount.
const ON_ROOT: [&str; 4] = ["etc", "opt", "opt/atlas", "etc/atlas"];
/// What may have no line in fstab, either.
const NOT_IN_FSTAB: [&str; 4] = ["/etc", "/opt", "/opt/atlas", "/unbound"];

/// What is in the way.
pub fn objections(root: &Path) -> Vec<Objection> {
    let device = |path: &Path| std::fs::symlink_metadata(path).ok().map(|meta| (meta.dev(), meta.is_symlink()));
    let Some((root_device, _)) = device(root) else {
        return vec![Objection::new(format!("{} cannot be looked at", root.display()))];
    };
    let mut objections = Vec::new();
    for (path, on_root) in ON_ROOT.iter().filter_map(|path| Some((path, device(&root.join(path))?))) {
        match on_root {
            (_, true) => objections.push(Objection::new(format!("/{path} is a link")).hint(format!(
                "make /{path} a directory of the root file system: early at boot nothing else is mounted"
            ))),
            (device, false) if device != root_device => objections.push(
                Objection::new(format!("/{path} is a file system of its own"))
                    .hint(format!("move /{path} to the root file system: early at boot nothing else is mounted")),
            ),
            _ => {}
        }
    }
    if device(&root.join("unbound")).is_some_and(|(_, is_link)| is_link) {
        objections.push(Objection::new("/unbound is a link").hint("remove it; 'atlas init' makes the directory"));
    }
    let fstab = std::fs::read_to_string(root.join("etc/fstab")).unwrap_or_default();
    for at in fstab.lines().filter_map(mount_point).filter(|at| NOT_IN_FSTAB.contains(at)) {
        let objection = Objection::new(format!("/etc/fstab mounts {at}"));
        objections.push(match at {
            "/unbound" => {
                objection.hint("take that line out: atlas-boot mounts it, and after a refusal nothing else may")
            }
            _ => objection.hint(format!("move {at} to the root file system: early at boot nothing else is mounted")),
        });
    }
    objections
}

/// The second field of a line of fstab.
fn mount_point(line: &str) -> Option<&str> {
    let line = line.trim_start();
    let at = if line.starts_with('#') { None } else { line.split_whitespace().nth(1) }?;
    Some(if at.len() > 1 { at.trim_end_matches('/') } else { at })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{fs, os::unix::fs::symlink};

    fn texts(root: &Path) -> Vec<String> {
        objections(root).into_iter().map(|objection| objection.what).collect()
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
        let expected = ["/opt is a link", "/unbound is a link", "/etc/fstab mounts /opt", "/etc/fstab mounts /unbound"];
        assert_eq!(texts(tmp.path()), expected);
    }
}
