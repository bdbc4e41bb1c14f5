//! What the next boot and every program rest on, and what is not seen before: drivers, what makes the next initramfs, file systems of fstab; modes of
//! directories that all use; settings of the kernel.
//!
//! ```text
//! /lib/modules/K/modules.dep, /etc/modprobe.d    ext4, and raid1 where a mirror runs: there, and not kept from being loaded
//! /var/lib/dpkg/info/atlas.*                     ATLAS's hooks, boot scripts and rules: there, as packaged, executable
//! /etc/fstab, /dev/disk                          what it names is there
//! /tmp, /var/tmp, /dev/shm, /etc …               modes without which programs fail
//! /etc/sysctl.d, /proc/sys                       what is set is so
//! ```
//!
//! The initramfs that is built is looked at by `atlas`.

mod chain;
mod sysctl;

use crate::{
    here::{self, Faults},
    service::{Service, Target},
};
use atlas_model::verify::Profile;
use std::{
    os::unix::fs::{MetadataExt, PermissionsExt},
    path::Path,
};

pub(super) const SERVICE: Service = Service {
    name: "boot",
    about: "what the next boot and every program rest on: drivers, hooks, fstab, modes of directories, settings of the kernel",
    interval: 60,
    deadline: 20,
    find: |_| Ok(here::found()),
    verify,
};

/// Where everybody may write, and nobody remove what is another's.
const SHARED: [&str; 3] = ["tmp", "var/tmp", "dev/shm"];
/// What everybody goes through, and only root writes to.
const OPEN: [&str; 8] = ["etc", "usr", "usr/bin", "usr/lib", "var", "var/lib", "run", "dev"];

fn verify(target: &Target) -> anyhow::Result<Profile> {
    let root = &target.root;
    let mut faults = Faults::default();
    chain::modules(root, &mut faults);
    chain::packaged(target, &mut faults);
    chain::mdadm_conf(root, &mut faults);
    chain::fstab(root, &mut faults);
    modes(root, &mut faults);
    let settings = sysctl::look(root, &mut faults);
    Ok(faults.profile(format!("the next boot finds what it needs; as configured: {settings} of the kernel's settings")))
}

fn modes(root: &Path, faults: &mut Faults) {
    let owner = std::fs::metadata(root).map_or(0, |meta| meta.uid());
    let look = |path: &str| std::fs::metadata(root.join(path)).ok();
    for path in SHARED {
        match look(path) {
            // A tree of which no system runs has none.
            None if path == "dev/shm" || !here::is_there(root, "proc/self") => {}
            None => faults.bad("mode", format!("/{path} is not there"), format!("install -d -m 1777 /{path}")),
            Some(meta) if meta.permissions().mode() & 0o7777 != 0o1777 => {
                let mode = meta.permissions().mode() & 0o7777;
                let what = format!(
                    "/{path} has mode {mode:04o} instead of 1777: programs that are not root's fail, or change each other's files"
                );
                faults.bad("mode", what, format!("chmod 1777 /{path}"));
            }
            Some(meta) if meta.uid() != owner => {
                faults.bad(
                    "mode",
                    format!("/{path} belongs to account number {}", meta.uid()),
                    format!("chown root:root /{path}"),
                );
            }
            Some(_) => {}
        }
    }
    for path in OPEN {
        let Some(meta) = look(path).filter(std::fs::Metadata::is_dir) else { continue };
        let mode = meta.permissions().mode() & 0o7777;
        if mode & 0o005 != 0o005 {
            let what = format!("/{path} has mode {mode:04o}: programs that are not root's find nothing in it");
            faults.bad("mode", what, format!("chmod 755 /{path}"));
        } else if mode & 0o002 != 0 {
            let what = format!("/{path} has mode {mode:04o}: everybody may change what is in it");
            faults.bad("mode", what, format!("chmod 755 /{path}"));
        } else if meta.uid() != owner {
            faults.bad(
                "mode",
                format!("/{path} belongs to account number {}", meta.uid()),
                format!("chown root:root /{path}"),
            );
        }
    }
}

#[cfg(test)]
mod tests;
