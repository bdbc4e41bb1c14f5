//! What the kernel says of its block devices.
//!
//! ```text
//! /sys/class/block/sda -> …/ata3/…/block/sda/        size  ro  wwid  device/{vpd_pg80,wwid,enclosure_device:SLOT}  holders/  dm/{name,uuid}
//! /sys/class/block/sda1 -> …/block/sda/sda1/         its partition, with a file "partition"
//! /sys/bus/{pci,virtio,usb,scsi}/devices/ADDRESS/    class, device, bInterfaceClass or type  vendor  driver -> …
//! /run/udev/data/bMAJOR:MINOR                        E:ID_PART_ENTRY_TYPE=…
//! ```

use crate::{FileError, rehearsal::is_rehearsal};
use atlas_model::survey::{Controller, Device, Mapper, Mapping};
use std::path::{Path, PathBuf};

/// Kernel-built devices, by the beginning of their names. Those of the device mapper are looked at: a set may lie in one.
pub(crate) const NOT_DISKS: [&str; 7] = ["md", "loop", "ram", "zram", "sr", "fd", "nbd"];
/// More devices than any server of this kind has.
const MAX_DEVICES: usize = 4096;
/// A partition of a RAID: the types of both kinds of partition table.
const RAID_TYPES: [&str; 2] = ["0xfd", "a19d880f-05fc-4d3b-a006-743f0f84911e"];
/// A bus on which disks, or what they are behind, wait for a driver.
struct Layer {
    name: &'static str,
    bus: &'static str,
    /// The attribute that tells what is there.
    mark: &'static str,
    /// How that begins for storage, and the module that serves it, where there is but one.
    kinds: &'static [(&'static str, Option<&'static str>)],
    /// The attributes that name it for a person.
    id: [&'static str; 2],
}

static LAYERS: [Layer; 4] = [
    Layer {
        name: "PCI storage controller",
        bus: "pci",
        mark: "class",
        kinds: &[("0x01", None)],
        id: ["vendor", "device"],
    },
    Layer {
        name: "virtio storage device",
        bus: "virtio",
        mark: "device",
        kinds: &[("0x0002", Some("virtio_blk")), ("0x0008", Some("virtio_scsi"))],
        id: ["vendor", "device"],
    },
    Layer {
        name: "USB storage device",
        bus: "usb",
        mark: "bInterfaceClass",
        kinds: &[("08", Some("usb_storage"))],
        id: ["bInterfaceClass", "bInterfaceProtocol"],
    },
    Layer { name: "SCSI disk", bus: "scsi", mark: "type", kinds: &[("0", Some("sd_mod"))], id: ["vendor", "model"] },
];

/// Where the kernel and udev say it; another place only in tests.
#[derive(Clone, Debug)]
pub struct Sources {
    /// `/sys`.
    pub sys: PathBuf,
    /// `/run`.
    pub run: PathBuf,
}

impl Default for Sources {
    fn default() -> Sources {
        Sources { sys: "/sys".into(), run: "/run".into() }
    }
}

impl Sources {
    /// All disks, partitions, and what the device mapper builds of them.
    pub fn devices(&self) -> Result<Vec<Device>, FileError> {
        let class = self.sys.join("class/block");
        let failed = |source| FileError::on("list", &class)(source);
        let mut devices = Vec::new();
        for entry in std::fs::read_dir(&class).map_err(failed)?.take(MAX_DEVICES) {
            let name = entry.map_err(failed)?.file_name().to_string_lossy().into_owned();
            if !NOT_DISKS.iter().any(|prefix| name.starts_with(prefix)) && !is_rehearsal(&self.sys, &name) {
                devices.push(self.device(&name));
            }
        }
        devices.sort_by(|a, b| a.path.cmp(&b.path));
        Ok(devices)
    }

    fn device(&self, name: &str) -> Device {
        let link = self.sys.join("class/block").join(name);
        let own = std::fs::canonicalize(&link).unwrap_or(link);
        let is_partition = own.join("partition").exists();
        let disk = own.parent().filter(|_| is_partition);
        let either = |attribute: &str| {
            [Some(own.as_path()), disk].into_iter().flatten().find_map(|dir| read_attribute(&dir.join(attribute)))
        };
        let whole = disk.unwrap_or(&own);
        Device {
            path: Path::new("/dev").join(name),
            serial: either("serial").or_else(|| either("device/serial")).or_else(|| scsi_serial(whole)),
            wwid: either("wwid").or_else(|| either("device/wwid")),
            place: self.place(whole),
            size_bytes: read_attribute(&own.join("size")).and_then(|text| text.parse::<u64>().ok()).unwrap_or(0) * 512,
            read_only: read_attribute(&own.join("ro")).is_some_and(|text| text == "1"),
            disk: disk.and_then(Path::file_name).map(|name| Path::new("/dev").join(name)),
            is_raid_partition: is_partition && self.is_raid_partition(&own),
            mapping: read_attribute(&own.join("dm/name")).map(|name| Mapping {
                by: Mapper::of_uuid(&read_attribute(&own.join("dm/uuid")).unwrap_or_default()),
                name,
            }),
            holders: names(&own.join("holders")),
            ..Device::default()
        }
    }

    /// Where a disk is plugged in: as its enclosure says, else by the port of its controller.
    fn place(&self, disk: &Path) -> Option<String> {
        let slot = names(&disk.join("device")).into_iter().find_map(|name| {
            let slot = name.strip_prefix("enclosure_device:")?.trim().to_owned();
            Some(slot.to_lowercase().strip_prefix("slot").map_or(slot.clone(), |rest| rest.trim().to_owned()))
        });
        if let Some(slot) = slot {
            return Some(format!("enclosure slot {slot}"));
        }
        let way: Vec<String> = disk.components().map(|part| part.as_os_str().to_string_lossy().into_owned()).collect();
        let numbered = |prefix: &str| {
            way.iter()
                .find_map(|part| part.strip_prefix(prefix).filter(|rest| rest.parse::<u32>().is_ok()))
                .map(str::to_owned)
        };
        if let Some(port) = numbered("ata") {
            return Some(format!("SATA port {port}"));
        }
        if let Some(end) = way.iter().find(|part| part.starts_with("end_device-")) {
            let bay = read_attribute(&self.sys.join("class/sas_device").join(end).join("bay_identifier"));
            return Some(bay.map_or_else(|| format!("SAS {end}"), |bay| format!("SAS bay {bay}")));
        }
        // Of `usb1/1-4/1-4.2/1-4.2:1.0` the last device that is no interface.
        let at_usb = way.iter().position(|part| part.starts_with("usb")).map_or(way.len(), |at| at + 1);
        let usb = way[at_usb..].iter().take_while(|part| !part.contains(':')).last();
        usb.map(|port| format!("USB port {port}")).or_else(|| Some(self.pci(disk)? + &target(&way)))
    }

    /// The PCI address of the last device on the way to a disk, and its slot where the firmware names it.
    fn pci(&self, disk: &Path) -> Option<String> {
        let is_address = |part: &str| part.len() == 12 && part.as_bytes()[4] == b':' && part.as_bytes()[10] == b'.';
        let mut parts = disk.components().rev().map(|part| part.as_os_str().to_string_lossy().into_owned());
        let address = parts.find(|part| is_address(part))?;
        let slots = self.sys.join("bus/pci/slots");
        let slot = names(&slots)
            .into_iter()
            .find(|slot| read_attribute(&slots.join(slot).join("address")).is_some_and(|at| address.starts_with(&at)));
        Some(slot.map_or_else(|| format!("PCI {address}"), |slot| format!("PCI slot {slot}")))
    }

    fn is_raid_partition(&self, own: &Path) -> bool {
        let number = read_attribute(&own.join("dev")).unwrap_or_default();
        let told = std::fs::read_to_string(self.run.join(format!("udev/data/b{number}"))).unwrap_or_default();
        told.lines()
            .filter_map(|line| line.strip_prefix("E:ID_PART_ENTRY_TYPE="))
            .any(|kind| RAID_TYPES.contains(&kind))
    }

    /// What has disks and is served by no driver: controllers, and the layers between a controller and its disks.
    pub fn controllers(&self) -> Vec<Controller> {
        LAYERS.iter().flat_map(|layer| self.unserved(layer)).collect()
    }

    fn unserved(&self, layer: &'static Layer) -> impl Iterator<Item = Controller> {
        let bus = self.sys.join("bus").join(layer.bus).join("devices");
        let attribute = {
            let bus = bus.clone();
            move |address: &str, what: &str| read_attribute(&bus.join(address).join(what)).unwrap_or_default()
        };
        names(&bus).into_iter().filter(move |address| !bus.join(address).join("driver").exists()).filter_map(
            move |address| {
                let (_, module) =
                    layer.kinds.iter().find(|(mark, _)| attribute(&address, layer.mark).starts_with(mark))?;
                let id = layer.id.map(|what| attribute(&address, what).trim_start_matches("0x").to_owned());
                let id = id.join(if layer.bus == "scsi" { " " } else { ":" });
                Some(Controller { kind: layer.name, address, id, module: *module })
            },
        )
    }
}

/// The serial number as SCSI's page 0x80 has it: four bytes, of which the last is the length, and text.
fn scsi_serial(disk: &Path) -> Option<String> {
    let page = std::fs::read(disk.join("device/vpd_pg80")).ok()?;
    let length = usize::from(*page.get(3)?);
    let text = page.get(4..4 + length).unwrap_or(page.get(4..)?);
    cleaned(&String::from_utf8_lossy(text))
}

fn read_attribute(path: &Path) -> Option<String> {
    cleaned(&std::fs::read_to_string(path).ok()?)
}

/// Fit to be shown: at most 64 characters, none of which moves a cursor.
fn cleaned(text: &str) -> Option<String> {
    let text: String = text.trim().trim_matches('\0').chars().filter(|c| !c.is_control()).take(64).collect();
    Some(text.trim().to_owned()).filter(|text| !text.is_empty())
}

fn names(dir: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
    let mut names: Vec<String> = entries.filter_map(|entry| entry.file_name().into_string().ok()).collect();
    names.sort_unstable();
    names
}

/// Channel, target and unit of a SCSI disk, of which a controller has many.
fn target(way: &[String]) -> String {
    let numbers = |part: &String| part.split(':').filter(|number| number.parse::<u32>().is_ok()).count();
    let address = way.iter().find(|part| numbers(part) == 4 && part.split(':').count() == 4);
    address.and_then(|part| part.split_once(':')).map_or(String::new(), |(_, target)| format!(", target {target}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{fs, os::unix::fs::symlink};

    struct Fake {
        dir: tempfile::TempDir,
    }

    impl Fake {
        fn new() -> Fake {
            let fake = Fake { dir: tempfile::tempdir().unwrap() };
            fs::create_dir_all(fake.dir.path().join("sys/class/block")).unwrap();
            fake
        }

        fn write(&self, path: &str, content: &[u8]) -> &Fake {
            let path = self.dir.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, content).unwrap();
            self
        }

        /// A device below `/sys/devices`, with its link.
        fn device(&self, way: &str, attributes: &[(&str, &str)]) -> &Fake {
            let name = way.rsplit('/').next().unwrap();
            self.write(&format!("sys/devices/{way}/size"), b"2048\n");
            for (attribute, content) in attributes {
                self.write(&format!("sys/devices/{way}/{attribute}"), content.as_bytes());
            }
            symlink(format!("../../devices/{way}"), self.dir.path().join("sys/class/block").join(name)).unwrap();
            self
        }

        fn sources(&self) -> Sources {
            Sources { sys: self.dir.path().join("sys"), run: self.dir.path().join("run") }
        }

        fn look(&self, name: &str) -> Device {
            let path = Path::new("/dev").join(name);
            self.sources().devices().unwrap().into_iter().find(|device| device.path == path).unwrap()
        }
    }

    const SATA: &str = "pci0000:00/0000:00:1f.2/ata3/host2/target2:0:0/2:0:0:0/block/sdb";

    #[test]
    fn a_sata_disk_has_its_serial_from_page_80_and_its_port() {
        let fake = Fake::new();
        fake.device(SATA, &[("device/wwid", "t10.ATA     DISK\n"), ("ro", "1\n"), ("holders/md127/x", "")])
            .device(&format!("{SATA}/sdb1"), &[("partition", "1\n"), ("dev", "8:17\n"), ("ro", "0\n")])
            .write(&format!("sys/devices/{SATA}/device/vpd_pg80"), b"\0\x80\0\x08S3YZNB0K")
            .write("run/udev/data/b8:17", b"S:disk/by-x\nE:ID_PART_ENTRY_TYPE=0xfd\n");
        let disk = fake.look("sdb");
        assert_eq!((disk.serial.as_deref(), disk.place.as_deref()), (Some("S3YZNB0K"), Some("SATA port 3")));
        assert_eq!((disk.wwid.as_deref(), disk.read_only, disk.size_bytes), (Some("t10.ATA     DISK"), true, 1 << 20));
        assert_eq!(disk.holders, ["md127"]);
        let partition = fake.look("sdb1");
        assert_eq!((partition.serial, partition.place), (disk.serial, disk.place));
        assert_eq!((partition.disk.as_deref(), partition.is_raid_partition), (Some(Path::new("/dev/sdb")), true));
        assert!(!partition.read_only && !disk.is_raid_partition);
    }

    #[test]
    fn the_place_is_the_slot_the_bay_or_the_port() {
        let fake = Fake::new();
        let sas = "pci0000:00/0000:00:01.0/0000:01:00.0/host0/port-0:0/end_device-0:0/target0:0:0/0:0:0:0/block/sda";
        let usb = "pci0000:00/0000:00:14.0/usb2/2-4/2-4.1/2-4.1:1.0/host6/target6:0:0/6:0:0:0/block/sdd";
        let nvme = "pci0000:00/0000:00:1d.0/0000:03:00.0/nvme/nvme0/nvme0n1";
        fake.device(sas, &[])
            .write("sys/class/sas_device/end_device-0:0/bay_identifier", b"5\n")
            .device(&SATA.replace("ata3", "ata9"), &[("device/enclosure_device:Slot 04/x", "")])
            .device(usb, &[])
            .device("pci0000:00/0000:00:04.0/virtio1/host2/target2:0:3/2:0:3:0/block/sdf", &[])
            .device(nvme, &[("wwid", "eui.0025\n"), ("device/serial", "NVME1 \n")])
            .device("pci0000:00/0000:00:05.0/virtio2/block/vda", &[("serial", "ROOT\n")])
            .write("sys/bus/pci/slots/7/address", b"0000:03:00\n");
        let place = |name: &str| fake.look(name).place.unwrap();
        assert_eq!(["sda", "sdb", "sdd"].map(place), ["SAS bay 5", "enclosure slot 04", "USB port 2-4.1"]);
        assert_eq!(["nvme0n1", "vda"].map(place), ["PCI slot 7", "PCI 0000:00:05.0"]);
        assert_eq!(place("sdf"), "PCI 0000:00:04.0, target 0:3:0");
        assert_eq!(fake.look("nvme0n1").serial.as_deref(), Some("NVME1"));
    }

    #[test]
    fn what_the_device_mapper_builds_is_named_by_its_tool() {
        let fake = Fake::new();
        fake.device("virtual/block/dm-0", &[("dm/name", "mpatha\n"), ("dm/uuid", "mpath-3600\n")])
            .device("virtual/block/dm-1", &[("dm/name", "vault\n"), ("dm/uuid", "CRYPT-LUKS2-x-vault\n")])
            .device("virtual/block/dm-2", &[("dm/name", "mpatha-part1\n"), ("dm/uuid", "part1-mpath-3600\n")])
            .device("virtual/block/dm-3", &[("dm/name", "atlas-rehearsal\n")])
            .device("virtual/block/md127", &[])
            .device("virtual/block/loop0", &[]);
        let by = |name: &str| fake.look(name).mapping.unwrap().by;
        assert_eq!(["dm-0", "dm-1", "dm-2"].map(by), [Mapper::Multipath, Mapper::Luks, Mapper::Multipath]);
        assert_eq!(fake.sources().devices().unwrap().len(), 3, "neither md nor loop, nor what this program made");
    }

    #[test]
    fn a_storage_controller_without_a_driver_is_found() {
        let fake = Fake::new();
        for (address, class, driver) in [
            ("0000:01:00.0", "0x010700", false),
            ("0000:00:1f.2", "0x010601", true),
            ("0000:02:00.0", "0x020000", false),
        ] {
            let dir = format!("sys/bus/pci/devices/{address}");
            fake.write(&format!("{dir}/class"), class.as_bytes())
                .write(&format!("{dir}/vendor"), b"0x1000\n")
                .write(&format!("{dir}/device"), b"0x0072\n");
            if driver {
                fake.write(&format!("{dir}/driver/x"), b"");
            }
        }
        let expected = Controller {
            kind: "PCI storage controller",
            address: "0000:01:00.0".into(),
            id: "1000:0072".into(),
            module: None,
        };
        assert_eq!(fake.sources().controllers(), [expected]);
    }

    #[test]
    fn a_layer_without_a_driver_above_a_controller_that_has_one_is_found_with_its_module() {
        let fake = Fake::new();
        fake.write("sys/bus/pci/devices/0000:00:05.0/class", b"0x010000\n")
            .write("sys/bus/pci/devices/0000:00:05.0/driver/x", b"")
            .write("sys/bus/virtio/devices/virtio1/device", b"0x0008\n")
            .write("sys/bus/virtio/devices/virtio1/vendor", b"0x1af4\n")
            .write("sys/bus/virtio/devices/virtio0/device", b"0x0001\n")
            .write("sys/bus/usb/devices/2-4:1.0/bInterfaceClass", b"08\n")
            .write("sys/bus/scsi/devices/host2/uevent", b"")
            .write("sys/bus/scsi/devices/2:0:0:0/type", b"0\n")
            .write("sys/bus/scsi/devices/2:0:0:0/driver/x", b"")
            .write("sys/bus/scsi/devices/2:0:1:0/type", b"5\n")
            .write("sys/bus/scsi/devices/2:0:0:1/type", b"0\n")
            .write("sys/bus/scsi/devices/2:0:0:1/vendor", b"QEMU    \n")
            .write("sys/bus/scsi/devices/2:0:0:1/model", b"HARDDISK\n");
        let found = fake.sources().controllers();
        let modules: Vec<_> = found.iter().map(|controller| (controller.address.as_str(), controller.module)).collect();
        assert_eq!(
            modules,
            [("virtio1", Some("virtio_scsi")), ("2-4:1.0", Some("usb_storage")), ("2:0:0:1", Some("sd_mod"))]
        );
        assert_eq!((found[0].id.as_str(), found[2].id.as_str()), ("1af4:0008", "QEMU HARDDISK"));
    }
}
