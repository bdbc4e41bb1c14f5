//! Disks that have stopped answering, seen from outside: in sysfs, without asking them.
//!
//! ```text
//! /sys/class/block/vdb/stat   reads done · … (4) writes done · … (8) requests under way · … (11) discards, (15) flushes done
//! /sys/class/block/dm-0/slaves/   what a device is built of
//! /sys/dev/block/254:1        the device of a number
//! ```

use nix::{
    sys::signal::{Signal, kill},
    unistd::{Pid, getsid},
};
use std::{
    collections::{BTreeMap, BTreeSet},
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

/// Watches some devices.
#[derive(Debug)]
pub struct Stalls {
    sys: PathBuf,
    /// What each had completed when it last completed something, or had nothing to do.
    seen: BTreeMap<String, (Vec<u64>, Instant)>,
}

impl Stalls {
    /// Begins to watch devices, by the kernel's names, and what they are built of.
    pub fn of(sys: &Path, devices: &BTreeSet<String>) -> Stalls {
        let mut all = BTreeSet::new();
        devices.iter().for_each(|device| add_with_parts(sys, device, &mut all));
        let now = Instant::now();
        Stalls { sys: sys.to_owned(), seen: all.into_iter().map(|name| (name, (vec![], now))).collect() }
    }

    /// Looks, and names those that had requests under way for `time` and completed none. To be called more often than that.
    pub fn silent_for(&mut self, time: Duration) -> Vec<String> {
        let now = Instant::now();
        for (name, (completed, since)) in &mut self.seen {
            let counts = counts(&self.sys, name);
            let under_way = counts.get(8).copied().unwrap_or(0);
            let done: Vec<u64> = [0, 4, 11, 15].iter().filter_map(|at| counts.get(*at).copied()).collect();
            if under_way == 0 || done != *completed {
                (*completed, *since) = (done, now);
            }
        }
        let silent = self.seen.iter().filter(|(_, (_, since))| now.duration_since(*since) >= time);
        silent.map(|(name, _)| name.clone()).collect()
    }
}

fn counts(sys: &Path, name: &str) -> Vec<u64> {
    let text = std::fs::read_to_string(sys.join("class/block").join(name).join("stat")).unwrap_or_default();
    text.split_whitespace().map(|number| number.parse().unwrap_or(0)).collect()
}

fn add_with_parts(sys: &Path, name: &str, all: &mut BTreeSet<String>) {
    if !all.insert(name.to_owned()) {
        return;
    }
    let parts = std::fs::read_dir(sys.join("class/block").join(name).join("slaves")).into_iter().flatten().flatten();
    parts.for_each(|part| add_with_parts(sys, &part.file_name().to_string_lossy(), all));
}

/// The device of a mounted file system, by the kernel's name; none for one that lies on no device.
pub fn below_file_system(sys: &Path, at: &Path) -> BTreeSet<String> {
    let name = || {
        let device = std::fs::metadata(at).ok()?.dev();
        let number = format!("{}:{}", nix::libc::major(device), nix::libc::minor(device));
        let place = std::fs::canonicalize(sys.join("dev/block").join(number)).ok()?;
        Some(place.file_name()?.to_string_lossy().into_owned())
    };
    name().into_iter().collect()
}

/// Kills every process of a session, its leader included. One that waits for a disk ends when the disk answers, if ever.
pub fn end_session(leader: u32) {
    let Some(session) = i32::try_from(leader).ok().map(Pid::from_raw) else { return };
    let processes = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let numbers = processes.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok()).map(Pid::from_raw);
    for process in numbers.filter(|process| getsid(Some(*process)) == Ok(session)) {
        // It may have ended by itself since.
        let _ = kill(process, Signal::SIGKILL);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(tmp: &Path, name: &str, done: u64, under_way: u64) {
        let dir = tmp.join("class/block").join(name);
        std::fs::create_dir_all(&dir).unwrap();
        std::fs::write(dir.join("stat"), format!("{done} 0 0 0 0 0 0 0 {under_way} 0 0 0 0 0 0 0 0\n")).unwrap();
    }

    #[test]
    fn a_disk_is_silent_when_it_has_work_and_completes_none() {
        let tmp = tempfile::tempdir().unwrap();
        let time = Duration::from_millis(20);
        let disks = ["dead", "busy", "idle"];
        disks.iter().for_each(|name| write(tmp.path(), name, 5, u64::from(*name != "idle")));
        let mut stalls = Stalls::of(tmp.path(), &disks.iter().map(ToString::to_string).collect());
        assert_eq!(stalls.silent_for(time), Vec::<String>::new());
        std::thread::sleep(time);
        write(tmp.path(), "busy", 6, 1);
        assert_eq!(stalls.silent_for(time), ["dead"]);
        write(tmp.path(), "dead", 6, 1);
        assert_eq!(stalls.silent_for(time), Vec::<String>::new(), "it has answered");
    }

    #[test]
    fn what_a_device_is_built_of_is_watched_too() {
        let tmp = tempfile::tempdir().unwrap();
        write(tmp.path(), "vdb", 1, 0);
        write(tmp.path(), "md127", 1, 0);
        std::fs::create_dir_all(tmp.path().join("class/block/md127/slaves/vdb")).unwrap();
        let stalls = Stalls::of(tmp.path(), &["md127".to_owned()].into());
        assert_eq!(stalls.seen.into_keys().collect::<Vec<_>>(), ["md127", "vdb"]);
    }
}
