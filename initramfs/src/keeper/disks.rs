//! The members of the Unbound set, read again and again, with what the kernel says of them.
//!
//! ```text
//! /sys/block/md127/md/dev-vdb/state    in_sync: a member            /sys/class/block/vdb    gone where it is not there, or another disk
//! /sys/block/md127/md/array_state      readonly, broken             /proc/1/mountinfo       the file system turned read-only
//! /sys/fs/ext4/md127/errors_count      more than at the beginning: it found errors, and most kernels stop it without saying "ro"
//! ```

use atlas_host::{
    alive::{self, Ended, Reader},
    process::Command,
};
use atlas_model::members::{Members, Standing};
use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::mpsc::{Receiver, Sender, channel},
    thread,
    time::{Duration, Instant},
};

/// How often each member is read.
const USUAL: Duration = Duration::from_millis(1000);
/// And how often where one is in doubt.
const IN_DOUBT: Duration = Duration::from_millis(250);
/// How long making the set read-only may take, and how often it is looked whether it is done.
const REMOUNT: Duration = Duration::from_secs(10);
const AGAIN: Duration = Duration::from_millis(50);
/// The largest number of members that are read.
const MAX_MEMBERS: usize = 16;

/// Where the kernel shows its devices.
#[derive(Clone, Debug)]
pub(crate) struct Kernel {
    pub(crate) sys: PathBuf,
    pub(crate) dev: PathBuf,
    pub(crate) mounts: PathBuf,
}

impl Kernel {
    /// This machine's; the mounts as everybody has them, not as this service, whose mounts are read-only.
    pub(crate) fn here() -> Kernel {
        Kernel { sys: "/sys".into(), dev: "/dev".into(), mounts: "/proc/1/mountinfo".into() }
    }
}

/// Watches a set.
#[derive(Debug)]
pub(crate) struct Disks {
    kernel: Kernel,
    /// `md127`, or the one device of a set that is no array.
    set: String,
    mount: PathBuf,
    /// Errors that the file system had found when the watch began.
    errors: Option<u64>,
    members: Members,
    readers: BTreeMap<String, (Reader, Option<String>)>,
    ended: (Sender<Ended>, Receiver<Ended>),
    next: Duration,
    number: u64,
}

impl Disks {
    /// Of the set that was started as `device`, mounted at `mount`.
    pub(crate) fn new(kernel: Kernel, device: &str, mount: &Path) -> Disks {
        let set = device.rsplit('/').next().unwrap_or(device).to_owned();
        let (mount, members) = (mount.to_owned(), Members::default());
        let errors = errors_of(&kernel, &set);
        Disks {
            kernel,
            set,
            mount,
            errors,
            members,
            readers: BTreeMap::new(),
            ended: channel(),
            next: Duration::ZERO,
            number: 0,
        }
    }

    /// Looks at all members, and has them read where that is due. Never waits.
    pub(crate) fn look(&mut self, now: Duration) {
        for Ended { device, reader, well } in self.ended.1.try_iter() {
            if self.readers.get(&device).is_some_and(|(known, _)| known.number == reader) {
                self.members.ended(&device, now, well);
            }
        }
        self.members.consist_of(&self.listed());
        let devices: Vec<String> = self.members.devices().cloned().collect();
        self.readers.retain(|device, _| devices.contains(device));
        for device in &devices {
            let identity = alive::identity(&self.kernel.sys, device);
            if !self.readers.contains_key(device) {
                self.number += 1;
                let reader = Reader::start(&self.kernel.dev, device, self.number, self.ended.0.clone());
                // Without a thread nothing is known of it: as it was.
                self.readers.extend(reader.ok().map(|reader| (device.clone(), (reader, identity.clone()))));
            }
            if self.readers.get(device).is_some_and(|(_, known)| *known != identity) || identity.is_none() {
                self.members.is_gone(device);
            }
        }
        if now >= self.next {
            self.next = now + if self.members.is_in_doubt() { IN_DOUBT } else { USUAL };
            for (device, (reader, _)) in &self.readers {
                reader.ask();
                self.members.began(device, now);
            }
        }
    }

    /// What the array consists of now; of a set that is no array, its device. Nothing where the array is gone.
    fn listed(&self) -> Vec<String> {
        let md = self.kernel.sys.join("block").join(&self.set).join("md");
        let is_array = self.set.starts_with("md");
        let Ok(entries) = std::fs::read_dir(&md) else {
            return if is_array { vec![] } else { vec![self.set.clone()] };
        };
        let names = entries.flatten().filter_map(|entry| entry.file_name().into_string().ok());
        let member = |name: String| {
            let state = std::fs::read_to_string(md.join(&name).join("state")).ok()?;
            let whole = state.trim().split(',').any(|word| word == "in_sync") && !state.contains("faulty");
            whole.then(|| name.strip_prefix("dev-").map(|device| device.replace('!', "/")))?
        };
        names.filter_map(member).take(MAX_MEMBERS).collect()
    }

    /// At the first look: whether the server has lost its set before anybody watched.
    pub(crate) fn are_lost_already(&mut self) -> bool {
        self.look(Duration::ZERO);
        let shown = ["block", "class/block"].iter().any(|below| self.kernel.sys.join(below).join(&self.set).exists());
        !shown || self.are_lost(Duration::ZERO)
    }

    /// How each member stands.
    pub(crate) fn standings(&self, now: Duration) -> Vec<Standing> {
        self.members.standings(now)
    }

    /// Whether the server has lost its set.
    pub(crate) fn are_lost(&self, now: Duration) -> bool {
        self.members.are_lost(now)
    }

    /// Why the set cannot be written to, or not safely, although it is there.
    pub(crate) fn fault(&self) -> Option<String> {
        let state = std::fs::read_to_string(self.kernel.sys.join("block").join(&self.set).join("md/array_state"));
        let state = state.unwrap_or_default();
        if ["readonly", "broken"].contains(&state.trim()) {
            return Some(format!("the array {} is {}", self.set, state.trim()));
        }
        let errors = errors_of(&self.kernel, &self.set);
        if errors.is_some_and(|now| self.errors.is_some_and(|then| now > then)) {
            return Some(format!(
                "the file system at {} found errors, and takes no more writes, or may lose them",
                self.mount.display()
            ));
        }
        let at = self.mount.display();
        is_read_only(&self.kernel.mounts, &self.mount)?
            .then(|| format!("the file system at {at} is read-only: it found errors, or somebody mounted it so"))
    }
}

/// Whether what is mounted at `at` takes no writes, by this list of mounts; nothing where nothing is mounted.
fn is_read_only(mounts: &Path, at: &Path) -> Option<bool> {
    let mounts = std::fs::read_to_string(mounts).unwrap_or_default();
    let at = at.to_str()?;
    // id parent major:minor root MOUNT OPTIONS … - kind source OPTIONS
    let line = mounts.lines().rev().find(|line| line.split(' ').nth(4) == Some(at))?;
    let (own, of_all) = (line.split(' ').nth(5)?, line.rsplit(' ').next()?);
    let says = |options: &str, word: &str| options.split(',').any(|option| option == word);
    Some(["ro", "emergency_ro", "shutdown"].iter().any(|word| says(of_all, word)) || says(own, "ro"))
}

/// Makes the set read-only. By systemd, as this program may mount nothing; without `--wait`, for which systemd-run needs D-Bus, which is not there
/// as long as the gate has not decided.
pub(crate) fn make_read_only(at: &Path) -> Result<(), String> {
    let mounts = Kernel::here().mounts;
    if is_read_only(&mounts, at) != Some(false) {
        return Ok(());
    }
    let options =
        ["--quiet", "--no-block", "--collect", "--property=DefaultDependencies=no", "mount", "-o", "remount,ro"];
    let command = Command::new("systemd-run").args(options).arg(at).deadline(REMOUNT);
    command.run().map_err(|error| error.to_string())?;
    let until = Instant::now() + REMOUNT;
    while is_read_only(&mounts, at) == Some(false) {
        if Instant::now() >= until {
            return Err(format!("it was not made read-only within {} s", REMOUNT.as_secs()));
        }
        thread::sleep(AGAIN);
    }
    Ok(())
}

/// How many errors the file system has found since it was last checked.
fn errors_of(kernel: &Kernel, set: &str) -> Option<u64> {
    std::fs::read_to_string(kernel.sys.join("fs/ext4").join(set).join("errors_count")).ok()?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{fs, thread, time::Instant};

    struct Machine {
        dir: tempfile::TempDir,
        began: Instant,
    }

    impl Machine {
        fn new() -> (Machine, Disks) {
            let machine = Machine { dir: tempfile::tempdir().unwrap(), began: Instant::now() };
            machine.write("sys/block/md127/md/array_state", "clean\n");
            machine.write("sys/fs/ext4/md127/errors_count", "2\n");
            machine.mount("rw,relatime", "rw,errors=remount-ro");
            for disk in ["vdb", "vdc"] {
                machine.plug(disk, "1");
                machine.write(&format!("sys/block/md127/md/dev-{disk}/state"), "in_sync\n");
            }
            let path = |name: &str| machine.dir.path().join(name);
            let kernel = Kernel { sys: path("sys"), dev: path("dev"), mounts: path("mountinfo") };
            let disks = Disks::new(kernel, "/dev/md127", Path::new("/unbound"));
            (machine, disks)
        }

        fn write(&self, path: &str, content: &str) {
            let path = self.dir.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, content).unwrap();
        }

        fn mount(&self, own: &str, of_all: &str) {
            self.write("mountinfo", &format!("36 1 9:127 / /unbound {own} - ext4 /dev/md127 {of_all}\n"));
        }

        fn plug(&self, disk: &str, sequence: &str) {
            self.write(&format!("sys/class/block/{disk}/diskseq"), sequence);
            self.write(&format!("dev/{disk}"), &"x".repeat(8192));
        }

        fn pull(&self, disk: &str) {
            fs::remove_dir_all(self.dir.path().join("sys/class/block").join(disk)).unwrap();
            fs::remove_file(self.dir.path().join("dev").join(disk)).unwrap();
        }

        /// Looks until that is so, or for too long; says after how long it was.
        fn until(&self, disks: &mut Disks, so: impl Fn(&Disks, Duration) -> bool) -> Option<Duration> {
            let begun = Instant::now();
            while begun.elapsed() < Duration::from_secs(10) {
                let now = self.began.elapsed();
                disks.look(now);
                if so(disks, now) {
                    return Some(begun.elapsed());
                }
                thread::sleep(Duration::from_millis(10));
            }
            None
        }
    }

    #[test]
    fn disks_that_were_pulled_before_anybody_watched_are_lost_at_the_first_look() {
        let (_here, mut all) = Machine::new();
        assert!(!all.are_lost_already());
        let (one, mut half) = Machine::new();
        one.pull("vdb");
        assert!(!half.are_lost_already());
        let (none, mut gone) = Machine::new();
        ["vdb", "vdc"].iter().for_each(|disk| none.pull(disk));
        assert!(gone.are_lost_already());
        let (without, mut array) = Machine::new();
        fs::remove_dir_all(without.dir.path().join("sys/block/md127")).unwrap();
        assert!(array.are_lost_already());
    }

    fn words(disks: &Disks, now: Duration) -> String {
        disks.standings(now).iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
    }

    #[test]
    fn a_set_is_lost_as_soon_as_its_last_disk_is_pulled_and_stays_lost_when_it_is_put_back() {
        let (machine, mut disks) = Machine::new();
        assert!(machine.until(&mut disks, |disks, now| words(disks, now) == "vdb: well, vdc: well").is_some());
        machine.pull("vdc");
        disks.look(machine.began.elapsed());
        assert!(!disks.are_lost(machine.began.elapsed()));
        machine.pull("vdb");
        disks.look(machine.began.elapsed());
        assert!(disks.are_lost(machine.began.elapsed()), "at the first look");
        machine.plug("vdb", "2");
        machine.plug("vdc", "3");
        disks.look(machine.began.elapsed());
        assert!(disks.are_lost(machine.began.elapsed()));
    }

    #[test]
    fn disks_that_can_no_longer_be_read_are_lost_within_five_seconds() {
        let (machine, mut disks) = Machine::new();
        let read = |disks: &Disks, now| disks.standings(now).len() == 2 && disks.members.devices().count() == 2;
        machine.until(&mut disks, read).unwrap();
        // Read once, so that they are open; and then there is nothing to read.
        thread::sleep(Duration::from_millis(100));
        disks.look(machine.began.elapsed());
        for disk in ["vdb", "vdc"] {
            fs::File::options()
                .write(true)
                .open(machine.dir.path().join("dev").join(disk))
                .unwrap()
                .set_len(0)
                .unwrap();
        }
        let took = machine.until(&mut disks, |disks, now| disks.are_lost(now)).unwrap();
        assert!(took < Duration::from_secs(5) && took > Duration::from_millis(1400), "{took:?}");
        assert_eq!(words(&disks, machine.began.elapsed()), "vdb: reading it fails, vdc: reading it fails");
    }

    #[test]
    fn a_member_that_failed_does_not_keep_the_role_when_the_other_is_pulled() {
        let (machine, mut disks) = Machine::new();
        disks.look(machine.began.elapsed());
        machine.write("sys/block/md127/md/dev-vdb/state", "faulty\n");
        machine.write("sys/block/md127/md/dev-vdd/state", "spare\n");
        machine.plug("vdd", "4");
        disks.look(machine.began.elapsed());
        assert!(!disks.are_lost(machine.began.elapsed()));
        machine.pull("vdc");
        disks.look(machine.began.elapsed());
        assert!(disks.are_lost(machine.began.elapsed()), "{}", words(&disks, machine.began.elapsed()));
    }

    #[test]
    fn an_array_that_somebody_stopped_and_whose_disks_are_there_is_not_lost() {
        let (machine, mut disks) = Machine::new();
        disks.look(machine.began.elapsed());
        fs::remove_dir_all(machine.dir.path().join("sys/block/md127")).unwrap();
        disks.look(machine.began.elapsed());
        assert!(!disks.are_lost(machine.began.elapsed()));
    }

    #[test]
    fn a_set_that_is_read_only_is_reported_and_not_lost() {
        let (machine, mut disks) = Machine::new();
        disks.look(machine.began.elapsed());
        assert_eq!(disks.fault(), None);
        for (own, of_all) in [("rw", "ro"), ("ro", "rw"), ("rw", "rw,emergency_ro"), ("rw", "rw,shutdown")] {
            machine.mount(own, of_all);
            assert!(disks.fault().is_some_and(|why| why.contains("/unbound")), "{own} {of_all}");
        }
        machine.mount("rw", "rw");
        machine.write("sys/fs/ext4/md127/errors_count", "3\n");
        assert!(disks.fault().is_some_and(|why| why.contains("found errors")));
        machine.write("sys/block/md127/md/array_state", "readonly\n");
        assert_eq!(disks.fault().as_deref(), Some("the array md127 is readonly"));
        assert!(!disks.are_lost(machine.began.elapsed()));
    }

    #[test]
    fn a_set_that_is_one_device_counts_the_same() {
        let (machine, _) = Machine::new();
        let kernel = Kernel {
            sys: machine.dir.path().join("sys"),
            dev: machine.dir.path().join("dev"),
            mounts: machine.dir.path().join("mountinfo"),
        };
        let mut disks = Disks::new(kernel, "/dev/vdb", Path::new("/unbound"));
        disks.look(machine.began.elapsed());
        assert!(!disks.are_lost(machine.began.elapsed()));
        machine.pull("vdb");
        disks.look(machine.began.elapsed());
        assert!(disks.are_lost(machine.began.elapsed()));
    }
}
