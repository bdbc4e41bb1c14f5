//! Starting the Unbound set: read-only first, for writing when everything else is decided.

use crate::{Places, refuse, running};
use atlas_host::{
    FileError, arrivals,
    md::{self, Array},
    mount::{self, Access},
    process::{Command, ProcessError},
    rehearsal::Rehearsal,
};
use atlas_model::{
    Refusal,
    ext4::Ext4Superblock,
    report::SetReport,
    survey::{SetChoice, SetKind},
};
use std::{
    path::{Path, PathBuf},
    time::Duration,
};

/// Where the array appears.
pub(crate) const ARRAY: &str = "/dev/md/atlas-unbound";
/// How much of the machine's memory a rehearsal may take: this share, within these bounds in bytes.
const REHEARSAL_SHARE: u64 = 4;
const REHEARSAL_BOUNDS: (u64, u64) = (32 << 20, 4 << 30);
/// A large file system takes its time; a hanging one must end.
pub(crate) const FSCK_DEADLINE: Duration = Duration::from_secs(3600);

/// The set, started read-only and mounted; nothing was written to it.
#[derive(Debug)]
pub struct ReadOnlySet<'p> {
    places: &'p Places,
    device: PathBuf,
    /// What md made of the members; `None` for a single device.
    array: Option<Array>,
    /// Somebody else started the array, and it goes on without this program.
    is_anothers: bool,
    /// There is work to do on the file system; it was done here, in memory.
    rehearsal: Option<Rehearsal>,
}

impl<'p> ReadOnlySet<'p> {
    /// Starts and mounts the chosen set.
    pub fn start(places: &'p Places, choice: &SetChoice) -> Result<ReadOnlySet<'p>, Refusal> {
        let device = match &choice.kind {
            SetKind::Single { device } => PathBuf::from(device),
            SetKind::Mirror { uuid, devices } => assemble(&uuid.to_string(), devices)?,
        };
        Self::mounted(places, choice, device, false)
    }

    /// Mounts the chosen set, which somebody else runs as `device`.
    pub fn of_another(places: &'p Places, choice: &SetChoice, device: PathBuf) -> Result<ReadOnlySet<'p>, Refusal> {
        Self::mounted(places, choice, device, true)
    }

    fn mounted(
        places: &'p Places,
        choice: &SetChoice,
        device: PathBuf,
        is_anothers: bool,
    ) -> Result<ReadOnlySet<'p>, Refusal> {
        let array = match &choice.kind {
            SetKind::Single { .. } => None,
            SetKind::Mirror { .. } => md::array(Path::new("/sys"), Path::new("/proc"), &device),
        };
        let mut set = ReadOnlySet { places, device, array, is_anothers, rehearsal: None };
        match set.verify(choice).and_then(|()| set.mount(&choice.ext4)) {
            Ok(()) => Ok(set),
            Err(refusal) => {
                set.release();
                Err(refusal)
            }
        }
    }

    fn verify(&self, choice: &SetChoice) -> Result<(), Refusal> {
        match (&choice.kind, &self.array) {
            (SetKind::Single { .. }, _) => Ok(()),
            (SetKind::Mirror { .. }, Some(array)) => running::verify(array),
            (SetKind::Mirror { .. }, None) => {
                let gone = std::io::Error::from(std::io::ErrorKind::NotFound);
                Err(refuse::assemble_failed(&FileError::on("find the array", &self.device)(gone)))
            }
        }
    }

    /// The set as it runs.
    pub fn describe(&self, choice: &SetChoice) -> SetReport {
        running::describe(choice, &self.device, self.array.as_ref())
    }

    fn mount(&mut self, ext4: &Ext4Superblock) -> Result<(), Refusal> {
        let at = self.places.unbound();
        if ext4.clean {
            return mount::ext4(&self.device, &at, Access::ReadOnly).map_err(|error| self.broken(&error));
        }
        let limit = rehearsal_limit();
        let rehearsal = Rehearsal::over(&self.device, limit)
            .map_err(|error| refuse::internal("rehearse the repair in memory", &error))?;
        let device = rehearsal.device().to_owned();
        self.rehearsal = Some(rehearsal);
        fsck(&device).map_err(|found| refuse::file_system_broken(&self.device.display().to_string(), &found))?;
        mount::ext4(&device, &at, Access::ReadOnly).map_err(|error| self.broken(&error))
    }

    fn broken(&self, error: &FileError) -> Refusal {
        refuse::file_system_broken(&self.device.display().to_string(), &format!("{error}: {}", error.source))
    }

    /// The device with the file system.
    pub fn device(&self) -> &Path {
        &self.device
    }

    /// Lets go of everything: unmounted, and the array stopped. Best effort, for the way to a refusal.
    pub fn release(mut self) {
        let _ = mount::unmount(&self.places.unbound());
        self.rehearsal = None;
        if self.array.is_some() && !self.is_anothers {
            let _ = md::stop(&self.device);
        }
    }

    /// Opens the set for writing: from here on the disks change. Gives what was done to the file system.
    ///
    /// On a failure everything is let go of.
    pub fn open_for_writing(mut self) -> Result<&'static str, Refusal> {
        match self.write_access() {
            Ok(done) => Ok(done),
            Err(refusal) => {
                self.release();
                Err(refusal)
            }
        }
    }

    fn write_access(&mut self) -> Result<&'static str, Refusal> {
        let at = self.places.unbound();
        let opened = |error: &FileError| refuse::of_file("open the Unbound file system for writing", error);
        if self.array.is_some() {
            md::open_for_writing(&self.device)
                .map_err(|error| refuse::of_file("open the Unbound set for writing", &error))?;
        }
        if self.rehearsal.is_none() {
            return mount::change_access(&at, Access::ReadWrite).map(|()| "clean").map_err(|error| opened(&error));
        }
        mount::unmount(&at).map_err(|error| opened(&error))?;
        self.rehearsal = None;
        let mended = fsck(&self.device)
            .map_err(|found| refuse::file_system_broken(&self.device.display().to_string(), &found))?;
        mount::ext4(&self.device, &at, Access::ReadWrite).map_err(|error| opened(&error))?;
        Ok(mended)
    }
}

fn assemble(uuid: &str, devices: &[String]) -> Result<PathBuf, Refusal> {
    let failed = |error: ProcessError| match error {
        ProcessError::Deadline { .. } => refuse::disk_hangs(&error),
        error => refuse::assemble_failed(&error),
    };
    // Whatever has them in use already (an array that udev began before our rule was there) is in the way.
    Command::new("mdadm")
        .args(["--assemble", ARRAY, "--config=none", "--readonly", "--run", "--uuid", uuid])
        .args(devices)
        // It makes the names itself: udev comes to it when it is through with all other devices.
        .env("MDADM_NO_UDEV", "1")
        .run()
        .map_err(failed)?;
    std::fs::canonicalize(ARRAY).map_err(|error| refuse::assemble_failed(&FileError::on("find", ARRAY)(error)))
}

/// Mends what can be mended without asking. `Ok`: what was done; `Err`: what e2fsck said.
fn fsck(device: &Path) -> Result<&'static str, String> {
    let output = Command::new("e2fsck")
        .arg("-p")
        .arg(device)
        .deadline(FSCK_DEADLINE)
        .output()
        .map_err(|error| error.to_string())?;
    // e2fsck: 0 nothing to do, 1 mended, 2 mended and a reboot is due (only for a mounted root); above: not mended.
    match output.status.code() {
        Some(0) => Ok("journal replayed"),
        Some(1 | 2) if output.text().contains("recovering journal") => Ok("journal replayed"),
        Some(1 | 2) => Ok("mended"),
        _ => Err(format!("e2fsck: {}", output.complaint())),
    }
}

fn rehearsal_limit() -> u64 {
    let memory = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let total =
        memory.lines().find_map(|line| line.strip_prefix("MemTotal:")?.trim().strip_suffix(" kB")?.parse::<u64>().ok());
    (total.unwrap_or(0) * 1024 / REHEARSAL_SHARE).clamp(REHEARSAL_BOUNDS.0, REHEARSAL_BOUNDS.1)
}

/// Lets udev finish with the devices that are there. A missing or slow udev does not stop the boot.
pub fn settle(run: &Path) {
    // Where it has nothing to do, asking it takes longer than a look at all disks.
    if !arrivals::udev_is_at_work(run) {
        return;
    }
    let _ = Command::new("udevadm").args(["settle", "--timeout=10"]).deadline(Duration::from_secs(12)).run();
}
