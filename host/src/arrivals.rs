//! Which disks there are by now, and what is still on its way.
//!
//! No one place in Linux says that all disks were found. What is known: the devices that are there, and signs of more to come.
//!
//! | sign | where |
//! |---|---|
//! | udev works on events | `/run/udev/queue` |
//! | a driver is starting | `/proc/modules`, state `Loading` |
//! | an NVMe controller is starting | `/sys/class/nvme/*/state`, not `live` |
//! | a SCSI host that has shown no device yet | `/sys/class/scsi_host/*`, none of its own in `/sys/bus/scsi/devices` |
//!
//! An empty port of an ATA controller is a SCSI host without a device, too; its link says that nothing is plugged in.

use crate::{block::NOT_DISKS, rehearsal};
use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
};

/// Where to look; other places than the machine's own only in tests.
#[derive(Clone, Debug)]
pub struct Places {
    /// `/sys`.
    pub sys: PathBuf,
    /// `/proc`.
    pub proc: PathBuf,
    /// `/run`.
    pub run: PathBuf,
}

/// What is there, and what is still coming.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Arrivals {
    /// Disks, partitions and controllers, by the kernel's names.
    pub present: BTreeSet<String>,
    /// Each sign of more to come, in words.
    pub pending: Vec<String>,
}

/// Whether udev has something to do; `run` is `/run`.
pub fn udev_is_at_work(run: &Path) -> bool {
    run.join("udev/queue").exists()
}

/// Looks once. What cannot be read is no sign.
pub fn look(places: &Places) -> Arrivals {
    let class = |name: &str| names(&places.sys.join("class").join(name));
    let is_disk = |name: &String| {
        !NOT_DISKS.iter().any(|prefix| name.starts_with(prefix)) && !rehearsal::is_rehearsal(&places.sys, name)
    };
    let disks = class("block").into_iter().filter(is_disk);
    let (hosts, nvme) = (class("scsi_host"), class("nvme"));
    let mut pending = Vec::new();
    if udev_is_at_work(&places.run) {
        pending.push("udev".to_owned());
    }
    let modules = std::fs::read_to_string(places.proc.join("modules")).unwrap_or_default();
    let loading = modules.lines().filter(|line| line.split(' ').nth(4) == Some("Loading"));
    pending.extend(loading.filter_map(|line| Some(format!("the driver {}", line.split(' ').next()?))));
    let starting = |name: &&String| {
        let state = attribute(&places.sys.join("class/nvme").join(name).join("state"));
        matches!(state.as_str(), "new" | "resetting" | "connecting")
    };
    pending.extend(nvme.iter().filter(starting).cloned());
    let devices = names(&places.sys.join("bus/scsi/devices"));
    pending.extend(hosts.iter().filter(|host| is_silent(places, host, &devices)).map(|host| format!("SCSI {host}")));
    Arrivals { present: disks.chain(hosts.clone()).chain(nvme.clone()).collect(), pending }
}

/// Whether a SCSI host may be about to show its first device.
fn is_silent(places: &Places, host: &str, devices: &[String]) -> bool {
    let Some(number) = host.strip_prefix("host") else { return false };
    let own = [format!("{number}:"), format!("target{number}:")];
    if devices.iter().any(|device| own.iter().any(|prefix| device.starts_with(prefix))) {
        return false;
    }
    // …/ata3/host2/scsi_host/host2: the port of an ATA controller says by its link whether a disk is plugged in.
    let at = std::fs::canonicalize(places.sys.join("class/scsi_host").join(host)).unwrap_or_default();
    let port = at.components().find_map(|part| {
        let part = part.as_os_str().to_string_lossy();
        part.strip_prefix("ata").filter(|rest| rest.parse::<u32>().is_ok()).map(str::to_owned)
    });
    port.is_none_or(|port| {
        let speed = attribute(&places.sys.join("class/ata_link").join(format!("link{port}")).join("sata_spd"));
        !matches!(speed.as_str(), "" | "<unknown>")
    })
}

fn names(dir: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
    let mut names: Vec<String> = entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    names.sort_unstable();
    names
}

fn attribute(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_default().trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Machine(tempfile::TempDir);

    impl Machine {
        fn with(files: &[(&str, &str)]) -> Machine {
            let machine = Machine(tempfile::tempdir().unwrap());
            files.iter().for_each(|(path, text)| machine.write(path, text));
            machine
        }

        fn write(&self, path: &str, text: &str) {
            let path = self.0.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }

        fn link(&self, path: &str, target: &str) {
            let path = self.0.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::create_dir_all(self.0.path().join(target)).unwrap();
            std::os::unix::fs::symlink(self.0.path().join(target), path).unwrap();
        }

        fn look(&self) -> Arrivals {
            let at = |name: &str| self.0.path().join(name);
            look(&Places { sys: at("sys"), proc: at("proc"), run: at("run") })
        }
    }

    #[test]
    fn a_machine_at_rest_gives_no_sign_of_more() {
        let machine = Machine::with(&[
            ("sys/class/block/vda/size", "1"),
            ("sys/class/block/md127/size", "1"),
            // What this program itself has made: the file system is worked on in memory.
            ("sys/class/block/dm-0/dm/name", "atlas-rehearsal\n"),
            ("sys/class/nvme/nvme0/state", "live\n"),
            ("proc/modules", "raid1 57344 1 - Live 0x0\n"),
        ]);
        let arrivals = machine.look();
        assert_eq!(arrivals.pending, Vec::<String>::new());
        assert_eq!(arrivals.present.into_iter().collect::<Vec<_>>(), ["nvme0", "vda"]);
    }

    #[test]
    fn each_sign_of_more_is_named() {
        let machine = Machine::with(&[
            ("run/udev/queue", ""),
            ("proc/modules", "raid1 57344 1 - Live 0x0\nmpt3sas 1 0 - Loading 0x0\n"),
            ("sys/class/nvme/nvme1/state", "connecting\n"),
        ]);
        machine.link("sys/class/scsi_host/host7", "sys/devices/pci0/host7/scsi_host/host7");
        assert_eq!(machine.look().pending, ["udev", "the driver mpt3sas", "nvme1", "SCSI host7"]);
        machine.write("sys/bus/scsi/devices/7:0:0:0", "");
        assert_eq!(machine.look().pending, ["udev", "the driver mpt3sas", "nvme1"]);
    }

    #[test]
    fn an_empty_port_of_an_ata_controller_is_waited_for_only_where_a_disk_is_plugged_in() {
        let machine = Machine::with(&[("sys/class/ata_link/link3/sata_spd", "<unknown>\n")]);
        machine.link("sys/class/scsi_host/host2", "sys/devices/pci0/ata3/host2/scsi_host/host2");
        assert_eq!(machine.look().pending, Vec::<String>::new());
        machine.write("sys/class/ata_link/link3/sata_spd", "6.0 Gbps\n");
        assert_eq!(machine.look().pending, ["SCSI host2"]);
    }
}
