//! The block devices of the machine, and what their superblocks say.
//!
//! Devices are found in `/sys/class/block`, whole disks and partitions. What the kernel builds from other devices (md, device mapper,
//! loop, RAM) is left out: the question is what lies on the disks themselves. Superblocks are read past the page cache, which may hold
//! what a running array has long since overwritten.

use crate::FileError;
use atlas_model::{
    ext4::{self, Ext4Superblock},
    md::{self, MdSuperblock},
    survey::{Member, Single, Survey},
};
use libblkid_rs::{BlkidProbe, BlkidProbeRet};
use nix::fcntl::OFlag;
use std::{
    fs::File,
    io::{self, Seek, SeekFrom},
    os::unix::fs::{FileExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

/// Kernel-built devices, by the beginning of their names.
const NOT_DISKS: [&str; 8] = ["md", "dm-", "loop", "ram", "zram", "sr", "fd", "nbd"];
/// More devices than any server of this kind has.
const MAX_DEVICES: usize = 4096;

/// A block device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Device {
    /// `/dev/vdb`.
    pub path: PathBuf,
    /// The serial number of the disk, where it tells one.
    pub serial: Option<String>,
    /// Its size in bytes.
    pub size_bytes: u64,
}

/// All disks and partitions with any size.
pub fn devices() -> Result<Vec<Device>, FileError> {
    let class = Path::new("/sys/class/block");
    let failed = |source| FileError::on("list", class)(source);
    let mut devices = Vec::new();
    for entry in std::fs::read_dir(class).map_err(failed)?.take(MAX_DEVICES) {
        let name = entry.map_err(failed)?.file_name();
        let shown = name.to_string_lossy();
        if NOT_DISKS.iter().any(|prefix| shown.starts_with(prefix)) {
            continue;
        }
        let attributes = class.join(&name);
        let size_bytes =
            read_attribute(&attributes.join("size")).and_then(|text| text.parse::<u64>().ok()).unwrap_or(0) * 512;
        // A partition's own directory lies in that of its disk.
        let serial = ["serial", "device/serial", "../serial", "../device/serial"]
            .iter()
            .find_map(|place| read_attribute(&attributes.join(place)));
        if size_bytes > 0 {
            devices.push(Device { path: Path::new("/dev").join(&name), serial, size_bytes });
        }
    }
    devices.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(devices)
}

fn read_attribute(path: &Path) -> Option<String> {
    let text = std::fs::read_to_string(path).ok()?;
    Some(text.trim().chars().filter(|c| !c.is_control()).take(64).collect::<String>()).filter(|text| !text.is_empty())
}

/// The size of a block device or image file, in bytes.
pub fn size_bytes(path: &Path) -> Result<u64, FileError> {
    File::open(path).and_then(|mut file| file.seek(SeekFrom::End(0))).map_err(FileError::on("measure", path))
}

/// Reads the superblocks of all `devices`. A device that cannot be read is in the survey with its reason, not an error.
pub fn survey(devices: &[Device]) -> Survey {
    let mut survey = Survey { looked_at: devices.len(), ..Survey::default() };
    for device in devices {
        let path = device.path.display().to_string();
        match examine(device) {
            Ok(Examined::Member(md, ext4)) => {
                survey.members.push(Member { device: path, serial: device.serial.clone(), md, ext4 });
            }
            Ok(Examined::Single(ext4)) => {
                survey.singles.push(Single { device: path, serial: device.serial.clone(), ext4 });
            }
            Ok(Examined::Other) => {}
            Err(why) => survey.unreadable.push((path, why)),
        }
    }
    survey
}

/// What was found on one device.
enum Examined {
    Member(MdSuperblock, Option<Ext4Superblock>),
    Single(Ext4Superblock),
    Other,
}

fn examine(device: &Device) -> Result<Examined, String> {
    let file = open_direct(&device.path).map_err(|error| format!("cannot be opened: {error}"))?;
    let read = |offset| read_block(&file, offset).map_err(|error| format!("cannot be read at byte {offset}: {error}"));
    for offset in md::superblock_offsets(device.size_bytes).into_iter().flatten() {
        if offset + md::SUPERBLOCK_LEN as u64 > device.size_bytes {
            continue;
        }
        match MdSuperblock::parse(&read(offset)?, offset) {
            Ok(None) => {}
            Ok(Some(md)) => {
                let at = md.data_offset_bytes;
                let inside = at % 4096 == 0 && at.saturating_add(8192) <= device.size_bytes;
                let ext4 =
                    if inside { Ext4Superblock::parse(&read(at)?[ext4::SUPERBLOCK_OFFSET as usize..]) } else { None };
                return Ok(Examined::Member(md, ext4));
            }
            Err(error) => return Err(error.to_string()),
        }
    }
    if device.size_bytes < 8192 {
        return Ok(Examined::Other);
    }
    Ok(Ext4Superblock::parse(&read(0)?[ext4::SUPERBLOCK_OFFSET as usize..]).map_or(Examined::Other, Examined::Single))
}

/// Past the page cache where the file system under an image file allows it.
fn open_direct(path: &Path) -> io::Result<File> {
    let open = |flags: OFlag| File::options().read(true).custom_flags(flags.bits()).open(path);
    open(OFlag::O_DIRECT).or_else(|error| match error.raw_os_error() {
        Some(nix::libc::EINVAL) => open(OFlag::empty()),
        _ => Err(error),
    })
}

/// One block of 4096 bytes, read into memory that is aligned as direct reads need it.
fn read_block(file: &File, offset: u64) -> io::Result<Vec<u8>> {
    #[repr(align(4096))]
    struct Aligned([u8; 4096]);
    let mut block = Box::new(Aligned([0; 4096]));
    file.read_exact_at(&mut block.0, offset)?;
    Ok(block.0.to_vec())
}

/// What libblkid recognises on a device: a file system, a RAID member, a partition table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Content {
    /// `ext4`, `linux_raid_member`, `gpt`, …
    pub kind: String,
    /// Its label or name, if it has one.
    pub label: Option<String>,
}

/// Looks for anything that somebody may want to keep. `None` means that libblkid knows nothing that begins like this.
pub fn content(device: &Path) -> Result<Option<Content>, FileError> {
    let failed = |error: libblkid_rs::BlkidErr| {
        FileError::on("look for content on", device)(io::Error::other(error.to_string()))
    };
    let mut probe = BlkidProbe::new_from_filename(device).map_err(failed)?;
    probe.enable_superblocks(true).map_err(failed)?;
    probe.enable_partitions(true).map_err(failed)?;
    loop {
        match probe.do_probe().map_err(failed)? {
            BlkidProbeRet::Done => return Ok(None),
            BlkidProbeRet::Success => {
                let kind = probe.lookup_value("TYPE").or_else(|_| probe.lookup_value("PTTYPE"));
                if let Ok(kind) = kind {
                    return Ok(Some(Content { kind, label: probe.lookup_value("LABEL").ok() }));
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image(dir: &Path, name: &str, size_bytes: u64) -> Device {
        let path = dir.join(name);
        File::create(&path).unwrap().set_len(size_bytes).unwrap();
        Device { path, serial: Some(format!("S-{name}")), size_bytes }
    }

    #[test]
    fn members_single_devices_and_strangers_are_told_apart() {
        let tmp = tempfile::tempdir().unwrap();
        let (member, single, empty) =
            (image(tmp.path(), "m", 4 << 20), image(tmp.path(), "s", 1 << 20), image(tmp.path(), "e", 1 << 20));
        let mirror = md::testing::half(1);
        let write = |device: &Device, at: u64, bytes: &[u8]| {
            File::options().write(true).open(&device.path).unwrap().write_all_at(bytes, at).unwrap();
        };
        write(&member, 4096, &md::testing::to_block(&mirror));
        write(&member, mirror.data_offset_bytes + 1024, &ext4::testing::block("ATLAS-UNBOUND", 3));
        write(&single, 1024, &ext4::testing::block("ATLAS-UNBOUND", 3));
        let mut gone = empty.clone();
        gone.path = tmp.path().join("gone");
        let survey = survey(&[member, single, empty, gone]);
        assert_eq!(
            (survey.members.len(), survey.singles.len(), survey.unreadable.len(), survey.looked_at),
            (1, 1, 1, 4)
        );
        assert_eq!(survey.members[0].md, mirror);
        assert_eq!(survey.members[0].ext4.as_ref().unwrap().label, "ATLAS-UNBOUND");
        assert_eq!(survey.members[0].serial.as_deref(), Some("S-m"));
    }

    #[test]
    fn a_superblock_with_a_broken_checksum_is_reported_not_ignored() {
        let tmp = tempfile::tempdir().unwrap();
        let device = image(tmp.path(), "m", 4 << 20);
        let mut block = md::testing::to_block(&md::testing::half(0));
        block[200] ^= 1;
        File::options().write(true).open(&device.path).unwrap().write_all_at(&block, 4096).unwrap();
        assert!(survey(&[device]).unreadable[0].1.contains("checksum"));
    }

    #[test]
    fn a_disk_that_holds_anything_is_told_from_an_empty_one() {
        let tmp = tempfile::tempdir().unwrap();
        let device = image(tmp.path(), "d", 8 << 20);
        assert_eq!(content(&device.path).unwrap(), None);
        std::process::Command::new("mke2fs")
            .args(["-q", "-t", "ext4", "-L", "books"])
            .arg(&device.path)
            .status()
            .unwrap();
        assert_eq!(content(&device.path).unwrap(), Some(Content { kind: "ext4".into(), label: Some("books".into()) }));
    }
}
