//! The md arrays that the kernel has, as sysfs shows them.
//!
//! ```text
//! /sys/block/md127/dev                    9:127
//! /sys/block/md127/holders/               what is built of it
//! /sys/block/md127/md/array_state         inactive, read-auto, readonly, clean, active, …
//! /sys/block/md127/md/raid_disks, sync_action
//! /sys/block/md127/md/dev-vdb/            a member:  slot  0, 1, … or none;  state  in_sync, spare, faulty, …
//! ```

use crate::{
    FileError,
    process::{Command, ProcessError},
};
use nix::errno::Errno;
use std::{
    fs::File,
    os::fd::AsRawFd,
    path::{Path, PathBuf},
};

/// An array, running or not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Array {
    /// `/dev/md127`.
    pub device: PathBuf,
    /// `inactive`, `readonly`, `clean`, …
    pub state: String,
    /// How many slots it has.
    pub slots: u32,
    /// `idle`, `recover`, `resync`, …
    pub sync_action: String,
    /// What it is made of, as the kernel has it now; by name.
    pub members: Vec<ArrayMember>,
    /// Who uses it: a mount point, or the name of what is built of it.
    pub used_by: Vec<String>,
}

/// A member, as the kernel has it now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ArrayMember {
    /// `/dev/vdb`.
    pub device: String,
    /// The slot that it fills or is being filled for.
    pub slot: Option<u16>,
    /// `in_sync`, `spare`, `faulty`, `write_mostly`, …
    pub states: Vec<String>,
}

impl ArrayMember {
    /// Whether it holds all of the data.
    pub fn is_in_sync(&self) -> bool {
        self.slot.is_some() && self.has("in_sync")
    }

    /// Whether it is being filled from another.
    pub fn is_rebuilding(&self) -> bool {
        self.slot.is_some() && !self.has("in_sync") && !self.is_faulty()
    }

    /// Whether it stands by for one that fails.
    pub fn is_spare(&self) -> bool {
        self.slot.is_none() && !self.is_faulty()
    }

    /// Whether md has given it up.
    pub fn is_faulty(&self) -> bool {
        self.has("faulty")
    }

    fn has(&self, state: &str) -> bool {
        self.states.iter().any(|own| own == state)
    }
}

/// All arrays with at least one member. `sys` and `proc` are `/sys` and `/proc`, but for tests.
pub fn arrays(sys: &Path, proc: &Path) -> Result<Vec<Array>, FileError> {
    let block = sys.join("block");
    let failed = |source| FileError::on("list", &block)(source);
    let mut arrays = Vec::new();
    for entry in std::fs::read_dir(&block).map_err(failed)? {
        let name = entry.map_err(failed)?.file_name();
        let place = block.join(&name);
        if place.join("md").is_dir() {
            arrays.push(read(&place, &name.to_string_lossy(), proc));
        }
    }
    arrays.retain(|array| !array.members.is_empty());
    arrays.sort_by(|a, b| a.device.cmp(&b.device));
    Ok(arrays)
}

/// The array that `device` is, where there is one: `/dev/md127`.
pub fn array(sys: &Path, proc: &Path, device: &Path) -> Option<Array> {
    let name = device.file_name()?.to_string_lossy().into_owned();
    let place = sys.join("block").join(&name);
    place.join("md").is_dir().then(|| read(&place, &name, proc))
}

fn read(place: &Path, name: &str, proc: &Path) -> Array {
    let md = place.join("md");
    let mut members: Vec<ArrayMember> = names(&md)
        .into_iter()
        .filter_map(|entry| Some((entry.strip_prefix("dev-")?.to_owned(), md.join(&entry))))
        .map(|(member, at)| ArrayMember {
            // The kernel writes a slash in a device's name so.
            device: format!("/dev/{}", member.replace('!', "/")),
            slot: attribute(&at.join("slot")).parse().ok(),
            states: attribute(&at.join("state")).split(',').map(str::to_owned).collect(),
        })
        .collect();
    members.sort_by(|a, b| a.device.cmp(&b.device));
    Array {
        device: Path::new("/dev").join(name),
        state: attribute(&md.join("array_state")),
        slots: attribute(&md.join("raid_disks")).split(' ').next().and_then(|text| text.parse().ok()).unwrap_or(0),
        sync_action: attribute(&md.join("sync_action")),
        members,
        used_by: used_by(place, name, proc),
    }
}

/// Who uses an array or one of its partitions.
fn used_by(place: &Path, name: &str, proc: &Path) -> Vec<String> {
    let partitions = names(place).into_iter().filter(|entry| entry.starts_with(name) && place.join(entry).is_dir());
    let places: Vec<PathBuf> =
        std::iter::once(place.to_owned()).chain(partitions.map(|entry| place.join(entry))).collect();
    let numbers: Vec<String> = places.iter().map(|place| attribute(&place.join("dev"))).collect();
    let mounts = std::fs::read_to_string(proc.join("self/mountinfo")).unwrap_or_default();
    let mounted = mounts.lines().filter_map(|line| {
        let mut fields = line.split(' ');
        let (number, at) = (fields.nth(2)?, fields.nth(1)?);
        numbers.iter().any(|own| own == number).then(|| at.to_owned())
    });
    let swaps = std::fs::read_to_string(proc.join("swaps")).unwrap_or_default();
    let swap = swaps.lines().filter_map(|line| {
        let device = line.split_whitespace().next()?.strip_prefix("/dev/")?;
        places.iter().any(|place| place.ends_with(device)).then(|| format!("swap on {device}"))
    });
    places.iter().flat_map(|place| names(&place.join("holders"))).chain(mounted).chain(swap).collect()
}

fn names(dir: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
    entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
}

fn attribute(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_default().trim().to_owned()
}

/// `RESTART_ARRAY_RW` of `linux/raid/md_u.h`.
const RESTART_ARRAY_RW: nix::libc::Ioctl = 0x934;

/// Opens an array that was started read-only for writing, as `mdadm --readwrite` does.
pub fn open_for_writing(array: &Path) -> Result<(), FileError> {
    let device = File::open(array).map_err(FileError::on("open", array))?;
    // SAFETY: the descriptor is open for as long as the call takes, and this request has no argument.
    let done = unsafe { nix::libc::ioctl(device.as_raw_fd(), RESTART_ARRAY_RW) };
    Errno::result(done).map(drop).map_err(FileError::on("open for writing", array))
}

/// Stops an array. Fails where it is in use.
pub fn stop(array: &Path) -> Result<(), ProcessError> {
    Command::new("mdadm").arg("--stop").arg(array).run().map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_array_is_not_opened_for_writing_and_named() {
        let tmp = tempfile::tempdir().unwrap();
        let file = tmp.path().join("md127");
        let failed = |file: &Path| open_for_writing(file).map_err(|error| error.to_string()).unwrap_err();
        assert!(failed(&file).contains("md127"));
        std::fs::write(&file, "").unwrap();
        // The request came to the kernel, which has no such one for a file.
        let error = open_for_writing(&file).unwrap_err();
        assert_eq!(error.source.raw_os_error(), Some(Errno::ENOTTY as i32), "{error}");
        assert!(error.to_string().contains("open for writing") && error.to_string().contains("md127"));
    }

    /// A mirror of vdb and vdc, with vdd standing by.
    fn machine(mounted: bool, holder: Option<&str>) -> tempfile::TempDir {
        let tmp = tempfile::tempdir().unwrap();
        let write = |path: &str, text: &str| {
            let path = tmp.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        };
        for (path, text) in [
            ("sys/block/md127/dev", "9:127\n"),
            ("sys/block/md127/md/array_state", "clean\n"),
            ("sys/block/md127/md/raid_disks", "2\n"),
            ("sys/block/md127/md/sync_action", "idle\n"),
            ("sys/block/md127/md/dev-vdb/slot", "0\n"),
            ("sys/block/md127/md/dev-vdb/state", "in_sync\n"),
            ("sys/block/md127/md/dev-vdc/slot", "1\n"),
            ("sys/block/md127/md/dev-vdc/state", "write_mostly\n"),
            ("sys/block/md127/md/dev-vdd/slot", "none\n"),
            ("sys/block/md127/md/dev-vdd/state", "spare\n"),
            ("sys/block/md126/md/array_state", "clear\n"),
            ("sys/block/vda/dev", "254:0\n"),
        ] {
            write(path, text);
        }
        let at = if mounted { "36 25 9:127 / /unbound rw - ext4 /dev/md127 rw\n" } else { "" };
        write("proc/self/mountinfo", &format!("21 1 254:1 / / rw - ext4 /dev/vda1 rw\n{at}"));
        if let Some(holder) = holder {
            write(&format!("sys/block/md127/holders/{holder}"), "");
        }
        tmp
    }

    fn only(tmp: &tempfile::TempDir) -> Array {
        let all = arrays(&tmp.path().join("sys"), &tmp.path().join("proc")).unwrap();
        assert_eq!(all.len(), 1, "an array without members is none: {all:?}");
        all.into_iter().next().unwrap()
    }

    #[test]
    fn an_array_is_read_with_what_each_member_does() {
        let array = only(&machine(false, None));
        assert_eq!((array.device.as_path(), array.state.as_str(), array.slots), (Path::new("/dev/md127"), "clean", 2));
        let is = array.members.iter().map(|m| (m.device.as_str(), m.is_in_sync(), m.is_rebuilding(), m.is_spare()));
        assert_eq!(
            is.collect::<Vec<_>>(),
            [("/dev/vdb", true, false, false), ("/dev/vdc", false, true, false), ("/dev/vdd", false, false, true)]
        );
        assert_eq!(array.used_by, Vec::<String>::new());
    }

    #[test]
    fn who_uses_an_array_is_found_by_mounts_and_holders() {
        assert_eq!(only(&machine(true, Some("dm-0"))).used_by, ["dm-0", "/unbound"]);
    }
}
