//! What the kernel says of a block device: what uses it, what it is made of, what it holds.
//!
//! ```text
//! /sys/class/block/vda -> …/vda/          a disk        dev  size  serial  holders/  slaves/  md/level
//! /sys/class/block/vda1 -> …/vda/vda1/    its partition, with a file "partition"
//! /proc/self/mountinfo, /proc/swaps       who uses what
//! ```

use super::objection::Objection;
use atlas_host::{FileError, block};
use std::{
    fmt,
    fs::File,
    io::Read,
    path::{Path, PathBuf},
};

/// Where the kernel tells about devices; another place only in tests.
#[derive(Clone, Debug)]
pub struct Machine {
    /// `/sys`.
    pub sys: PathBuf,
    /// `/proc`.
    pub proc: PathBuf,
    /// `/dev`.
    pub dev: PathBuf,
}

/// How a device is in use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum By {
    /// A file system on it is mounted here.
    Mount(PathBuf),
    /// The kernel builds this device from it: `md127`, `dm-0`.
    Holder(String),
    /// As swap space.
    Swap,
}

/// One use of a device, or of a part of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Use {
    /// The device, partition, or what is built of it: `vda1`.
    pub of: String,
    /// How.
    pub by: By,
}

impl fmt::Display for Use {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.by {
            By::Mount(at) if at == Path::new("/") => write!(f, "{} holds this server's root file system", self.of),
            By::Mount(at) => write!(f, "{} is mounted at {}", self.of, at.display()),
            By::Holder(name) => write!(f, "{} is part of {name}", self.of),
            By::Swap => write!(f, "{} is swap space", self.of),
        }
    }
}

/// What somebody may want to keep.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holds {
    /// `ext4`, `linux_raid_member`, `gpt`, …; `None`: bytes that nothing known begins with.
    pub kind: Option<String>,
    /// Its label or name.
    pub label: Option<String>,
}

impl Holds {
    /// Whether it is an ext4 file system.
    pub fn is_ext4(&self) -> bool {
        self.kind.as_deref() == Some("ext4")
    }
}

impl fmt::Display for Holds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.kind.as_deref() {
            None => return f.write_str("data of an unknown kind"),
            Some("linux_raid_member") => f.write_str("a member of a RAID")?,
            Some("LVM2_member") => f.write_str("a part of an LVM volume group")?,
            Some("gpt" | "dos") => f.write_str("a partition table")?,
            Some(kind) => f.write_str(kind)?,
        }
        self.label.as_ref().map_or(Ok(()), |label| write!(f, " '{}'", label.escape_debug()))
    }
}

/// A block device as it is now.
#[derive(Clone, Debug)]
pub struct BlockDevice {
    /// As the operator named it.
    pub named: PathBuf,
    /// `/dev/vdb`, whatever link it was named by.
    pub path: PathBuf,
    /// The disk that it lies on: `vda` of `vda1`, itself for a whole disk.
    pub disk: String,
    /// Its size in bytes.
    pub size_bytes: u64,
    /// Its uses, those of its partitions and of what is built of it included.
    pub uses: Vec<Use>,
    /// What it holds.
    pub holds: Option<Holds>,
    /// The devices that it is built of.
    pub parts: Vec<PathBuf>,
    /// `raid1`, where it is an md array.
    pub raid_level: Option<String>,
}

impl BlockDevice {
    /// The kernel's name: `vdb`.
    pub fn name(&self) -> String {
        self.path.file_name().unwrap_or_default().to_string_lossy().into_owned()
    }

    /// The arrays and mappings that are built of it directly.
    pub fn holders(&self) -> impl Iterator<Item = &str> {
        let name = self.name();
        self.uses.iter().filter(move |used| used.of == name).filter_map(|used| match &used.by {
            By::Holder(holder) => Some(holder.as_str()),
            _ => None,
        })
    }
}

impl Default for Machine {
    fn default() -> Machine {
        Machine { sys: "/sys".into(), proc: "/proc".into(), dev: "/dev".into() }
    }
}

impl Machine {
    /// Looks at the device that the operator named.
    pub fn look(&self, named: &Path) -> Result<BlockDevice, Objection> {
        let shown = named.display();
        let path = std::fs::canonicalize(named).map_err(|_| {
            Objection::new(format!("{shown} is not there"))
                .hint("see with 'lsblk' which disks there are; a disk of a new server may need a reboot to appear")
        })?;
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let class = self.class(&name);
        if path.parent() != Some(&self.dev) || !class.exists() {
            return Err(Objection::new(format!("{shown} is no block device")).hint("name a disk, as in /dev/vdb"));
        }
        let size_bytes = attribute(&class.join("size")).and_then(|text| text.parse::<u64>().ok()).unwrap_or(0) * 512;
        let uses = self.uses(&name);
        let holds = match holds(&path) {
            Ok(holds) => holds,
            // That it is in use is what the operator has to know; what is on it is not to be touched.
            Err(_) if !uses.is_empty() => Some(Holds { kind: None, label: None }),
            Err(error) => {
                return Err(
                    Objection::new(format!("{error}: {}", error.source)).hint("look for errors of the disk in 'dmesg'")
                );
            }
        };
        Ok(BlockDevice {
            named: named.to_owned(),
            disk: self.disk_of(&name),
            size_bytes,
            uses,
            holds,
            parts: names(&class.join("slaves")).iter().map(|part| self.dev.join(part)).collect(),
            raid_level: attribute(&class.join("md/level")),
            path,
        })
    }

    /// The device that is mounted at exactly `at`, the uppermost if there are several.
    pub fn mounted_at(&self, at: &Path) -> Option<PathBuf> {
        let mount = self.mounts().into_iter().rev().find(|mount| mount.at == at)?;
        let is_it = |name: &String| attribute(&self.class(name).join("dev")).as_deref() == Some(&mount.number);
        let name = names(&self.sys.join("class/block")).into_iter().find(is_it);
        Some(name.map_or(PathBuf::from(mount.source), |name| self.dev.join(name)))
    }

    /// The whole disks that nothing uses and that hold nothing, as they are shown to somebody who has to choose.
    pub fn free_disks(&self) -> Vec<String> {
        let devices = block::devices().unwrap_or_default();
        let disks = devices.iter().filter(|device| device.size_bytes > 0 && device.mapping.is_none());
        let looked = disks.filter_map(|device| Some((device, self.look(&device.path).ok()?)));
        let free = looked.filter(|(_, disk)| disk.uses.is_empty() && disk.disk == disk.name());
        free.map(|(device, disk)| {
            let serial = device.serial.as_ref().map(|serial| format!("  serial {serial}")).unwrap_or_default();
            let holds = disk.holds.as_ref().map_or("empty".to_owned(), |holds| format!("holds {holds}"));
            format!("  {}  {}{serial}  {holds}", disk.path.display(), size(disk.size_bytes))
        })
        .collect()
    }

    fn class(&self, name: &str) -> PathBuf {
        self.sys.join("class/block").join(name)
    }

    fn disk_of(&self, name: &str) -> String {
        let class = self.class(name);
        let own = std::fs::canonicalize(&class).ok().filter(|_| class.join("partition").exists());
        let parent = own.as_deref().and_then(Path::parent).and_then(Path::file_name);
        parent.map_or_else(|| name.to_owned(), |parent| parent.to_string_lossy().into_owned())
    }

    fn uses(&self, name: &str) -> Vec<Use> {
        let mut uses = Vec::new();
        self.collect_uses(name, 0, &mut uses);
        let class = self.class(name);
        for part in names(&class).iter().filter(|part| class.join(part).join("partition").exists()) {
            self.collect_uses(part, 0, &mut uses);
        }
        uses
    }

    fn collect_uses(&self, name: &str, depth: usize, uses: &mut Vec<Use>) {
        let class = self.class(name);
        let mut add = |by| uses.push(Use { of: name.to_owned(), by });
        let number = attribute(&class.join("dev"));
        let path = self.dev.join(name);
        for mount in self.mounts() {
            if Some(&mount.number) == number.as_ref() || Path::new(&mount.source) == path {
                add(By::Mount(mount.at));
            }
        }
        let swaps = std::fs::read_to_string(self.proc.join("swaps")).unwrap_or_default();
        if swaps.lines().skip(1).filter_map(|line| line.split_whitespace().next()).any(|at| Path::new(at) == path) {
            add(By::Swap);
        }
        let holders = names(&class.join("holders"));
        holders.iter().for_each(|holder| add(By::Holder(holder.clone())));
        // More layers than anybody stacks.
        if depth < 8 {
            holders.iter().for_each(|holder| self.collect_uses(holder, depth + 1, uses));
        }
    }

    fn mounts(&self) -> Vec<Mount> {
        let text = std::fs::read_to_string(self.proc.join("self/mountinfo")).unwrap_or_default();
        text.lines().filter_map(Mount::parse).collect()
    }
}

struct Mount {
    number: String,
    at: PathBuf,
    source: String,
}

impl Mount {
    /// `36 35 98:0 / /mnt rw,noatime master:1 - ext4 /dev/root rw`
    fn parse(line: &str) -> Option<Mount> {
        let (before, after) = line.split_once(" - ")?;
        let mut fields = before.split(' ');
        let number = fields.nth(2)?.to_owned();
        let at = PathBuf::from(fields.nth(1)?.replace("\\040", " "));
        Some(Mount { number, at, source: after.split(' ').nth(1)?.to_owned() })
    }
}

/// What is on a device: what libblkid knows, or any byte in the first MiB that is not zero.
pub fn holds(device: &Path) -> Result<Option<Holds>, FileError> {
    if let Some(content) = block::content(device)? {
        return Ok(Some(Holds { kind: Some(content.kind), label: content.label }));
    }
    let mut beginning = Vec::new();
    File::open(device)
        .and_then(|file| file.take(1 << 20).read_to_end(&mut beginning))
        .map_err(FileError::on("read", device))?;
    Ok(beginning.iter().any(|byte| *byte != 0).then_some(Holds { kind: None, label: None }))
}

/// A size as people read it.
pub fn size(bytes: u64) -> String {
    match bytes {
        0..1_000_000_000 => format!("{} MB", bytes / 1_000_000),
        1_000_000_000..10_000_000_000_000 => format!("{} GB", bytes / 1_000_000_000),
        _ => format!("{} TB", bytes / 1_000_000_000_000),
    }
}

fn attribute(path: &Path) -> Option<String> {
    Some(std::fs::read_to_string(path).ok()?.trim().to_owned())
}

fn names(dir: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
    let mut names: Vec<String> = entries.filter_map(|entry| entry.file_name().into_string().ok()).collect();
    names.sort_unstable();
    names
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{fs, os::unix::fs::symlink};

    /// vda with the root file system on vda1; vdb empty; vdc and vdd in md127, mounted at /unbound; vde with swap on vde1.
    fn machine(dir: &Path) -> Machine {
        let write = |path: &str, content: &str| {
            let path = dir.join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, content).unwrap();
        };
        for (device, number) in [
            ("vda", 0),
            ("vda/vda1", 1),
            ("vdb", 16),
            ("vdc", 32),
            ("vdd", 48),
            ("vde", 64),
            ("vde/vde1", 65),
            ("md127", 127),
        ] {
            let name = device.rsplit('/').next().unwrap();
            write(&format!("sys/devices/{device}/dev"), &format!("254:{number}\n"));
            write(&format!("sys/devices/{device}/size"), "4096\n");
            fs::create_dir_all(dir.join("sys/class/block")).unwrap();
            symlink(format!("../../devices/{device}"), dir.join("sys/class/block").join(name)).unwrap();
            write(&format!("dev/{name}"), "");
            fs::File::options().write(true).open(dir.join("dev").join(name)).unwrap().set_len(2 << 20).unwrap();
        }
        for partition in ["vda/vda1", "vde/vde1"] {
            write(&format!("sys/devices/{partition}/partition"), "1\n");
        }
        for member in ["vdc", "vdd"] {
            write(&format!("sys/devices/{member}/holders/md127/dev"), "");
            write(&format!("sys/devices/md127/slaves/{member}/dev"), "");
        }
        write("sys/devices/md127/md/level", "raid1\n");
        let dev = dir.join("dev");
        write(
            "proc/self/mountinfo",
            "1 0 254:1 / / rw - ext4 /dev/root rw\n2 1 254:127 / /unbound rw - ext4 /dev/x rw\n",
        );
        write("proc/swaps", &format!("Filename Type\n{} partition 1 0 -2\n", dev.join("vde1").display()));
        Machine { sys: dir.join("sys"), proc: dir.join("proc"), dev }
    }

    fn uses(machine: &Machine, name: &str) -> Vec<String> {
        machine.look(&machine.dev.join(name)).unwrap().uses.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_disk_is_in_use_by_what_its_partitions_and_arrays_do() {
        let tmp = tempfile::tempdir().unwrap();
        let machine = machine(tmp.path());
        assert_eq!(uses(&machine, "vda"), ["vda1 holds this server's root file system"]);
        assert_eq!(uses(&machine, "vdb"), Vec::<String>::new());
        assert_eq!(uses(&machine, "vdc"), ["vdc is part of md127", "md127 is mounted at /unbound"]);
        assert_eq!(uses(&machine, "vde"), ["vde1 is swap space"]);
    }

    #[test]
    fn a_device_is_told_by_whatever_name_it_was_given() {
        let tmp = tempfile::tempdir().unwrap();
        let machine = machine(tmp.path());
        let by_id = tmp.path().join("by-id");
        symlink(machine.dev.join("vda1"), &by_id).unwrap();
        let device = machine.look(&by_id).unwrap();
        assert_eq!((device.path, device.disk.as_str()), (machine.dev.join("vda1"), "vda"));
        let array = machine.look(&machine.dev.join("md127")).unwrap();
        assert_eq!(array.parts, [machine.dev.join("vdc"), machine.dev.join("vdd")]);
        assert_eq!(array.raid_level.as_deref(), Some("raid1"));
        assert_eq!(machine.mounted_at(Path::new("/unbound")), Some(machine.dev.join("md127")));
        assert_eq!(machine.mounted_at(Path::new("/srv")), None);
    }

    #[test]
    fn what_is_no_device_is_told_as_that() {
        let tmp = tempfile::tempdir().unwrap();
        let machine = machine(tmp.path());
        assert!(machine.look(&machine.dev.join("vdz")).unwrap_err().what.contains("is not there"));
        assert!(machine.look(&machine.proc.join("swaps")).unwrap_err().what.contains("is no block device"));
    }

    #[test]
    fn one_byte_in_the_first_mebibyte_is_something_that_a_disk_holds() {
        let tmp = tempfile::tempdir().unwrap();
        let machine = machine(tmp.path());
        let disk = machine.dev.join("vdb");
        assert_eq!(holds(&disk).unwrap(), None);
        let file = fs::File::options().write(true).open(&disk).unwrap();
        std::os::unix::fs::FileExt::write_all_at(&file, b"x", (1 << 20) - 1).unwrap();
        assert_eq!(holds(&disk).unwrap().unwrap().to_string(), "data of an unknown kind");
    }

    #[test]
    fn what_a_disk_holds_is_named_in_words() {
        let text = |kind: &str, label: Option<&str>| {
            Holds { kind: Some(kind.into()), label: label.map(Into::into) }.to_string()
        };
        assert_eq!(text("ext4", Some("books")), "ext4 'books'");
        assert_eq!(text("gpt", None), "a partition table");
        assert_eq!(text("linux_raid_member", Some("old:0")), "a member of a RAID 'old:0'");
    }
}
