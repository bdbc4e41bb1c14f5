//! The modules by which this server reaches the disks of its Unbound set: each has to be in the initramfs, or a boot does not see them.
//!
//! ```text
//! /sys/class/block/sdb ─► …/0000:00:04.0/virtio1/host2/target2:0:0/2:0:0:0/block/sdb
//!                              │            │                      └ driver/module ─► sd_mod
//!                              │            └ driver/module ─► virtio_scsi
//!                              └ driver/module ─► virtio_pci
//! ```
//!
//! A driver that is part of the kernel has no module. Another kernel may have what is a module here built in: `modules.builtin` says so.

use std::{collections::BTreeSet, path::Path};

/// The modules of these disks' drivers, and of all that stands between them and the processor.
pub fn of(sys: &Path, devices: &BTreeSet<String>) -> BTreeSet<String> {
    let places = devices.iter().filter_map(|device| {
        let name = device.strip_prefix("/dev/")?.replace('/', "!");
        sys.join("class/block").join(name).canonicalize().ok()
    });
    let modules = |place: std::path::PathBuf| -> Vec<String> {
        let above = place.ancestors().take_while(|at| at.starts_with(sys) && *at != sys);
        above
            .filter_map(|at| Some(module(std::fs::read_link(at.join("driver/module")).ok()?.file_name()?.to_str()?)))
            .collect()
    };
    places.flat_map(modules).collect()
}

/// Those of `needed` that neither the initramfs, of which this is the listing, nor the kernel itself has.
pub fn missing(needed: &BTreeSet<String>, listing: &str, builtin: &str) -> Vec<String> {
    let names = listing.lines().chain(builtin.lines()).filter_map(|line| {
        let (name, rest) = line.rsplit('/').next()?.split_once(".ko")?;
        (rest.is_empty() || rest.starts_with('.')).then(|| module(name))
    });
    let there: BTreeSet<String> = names.collect();
    needed.difference(&there).cloned().collect()
}

/// Files have dashes where the kernel says underscores.
fn module(name: &str) -> String {
    name.replace('-', "_")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{fs, os::unix::fs::symlink};

    fn set(names: &[&str]) -> BTreeSet<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn every_layer_between_a_disk_and_the_processor_counts() {
        let tmp = tempfile::tempdir().unwrap();
        let sys = tmp.path().canonicalize().unwrap();
        let disk = "devices/pci0000:00/0000:00:04.0/virtio1/host2/target2:0:0/2:0:0:0/block/sdb";
        fs::create_dir_all(sys.join(disk).join("sdb1")).unwrap();
        fs::create_dir_all(sys.join("class/block")).unwrap();
        for name in ["sdb", "sdb/sdb1"] {
            let link = sys.join("class/block").join(name.rsplit('/').next().unwrap());
            symlink(sys.join(disk).parent().unwrap().join(name), link).unwrap();
        }
        for (at, driver, module) in [
            ("devices/pci0000:00/0000:00:04.0", "virtio-pci", Some("virtio_pci")),
            ("devices/pci0000:00/0000:00:04.0/virtio1", "virtio_scsi", Some("virtio_scsi")),
            ("devices/pci0000:00/0000:00:04.0/virtio1/host2/target2:0:0/2:0:0:0", "sd", Some("sd_mod")),
            ("devices/pci0000:00", "pcieport", None),
        ] {
            let drivers = sys.join("bus/drivers").join(driver);
            fs::create_dir_all(&drivers).unwrap();
            if let Some(module) = module {
                fs::create_dir_all(sys.join("module").join(module)).unwrap();
                symlink(sys.join("module").join(module), drivers.join("module")).unwrap();
            }
            symlink(&drivers, sys.join(at).join("driver")).unwrap();
        }
        for device in ["/dev/sdb", "/dev/sdb1"] {
            assert_eq!(of(&sys, &set(&[device])), set(&["sd_mod", "virtio_pci", "virtio_scsi"]), "{device}");
        }
        assert_eq!(of(&sys, &set(&["/dev/sdc"])), set(&[]));
    }

    #[test]
    fn a_module_is_in_the_initramfs_or_in_the_kernel_or_missing() {
        let listing = "usr/lib/modules/6.1/kernel/drivers/virtio/virtio-pci.ko\nusr/lib/modules/6.1/kernel/fs/ext4.ko.xz\nvirtio_scsi.kob\n";
        let builtin = "kernel/drivers/scsi/sd_mod.ko\n";
        let needed = set(&["virtio_pci", "ext4", "sd_mod", "virtio_scsi"]);
        assert_eq!(missing(&needed, listing, builtin), ["virtio_scsi"]);
    }
}
