//! A device that reads like another and keeps every write in memory.
//!
//! Replaying a journal and mending a file system write. Before it is known that the disks are the right ones, and that mending will
//! succeed, nothing may be written to them. So the whole is rehearsed first on a device-mapper snapshot whose changes lie in a RAM
//! disk; only when the rehearsal ended well is the same done for good.
//!
//! ```text
//!   e2fsck, mount ──► /dev/dm-N ──reads──► /dev/md127 (read-only)
//!                          └──changes────► /dev/ram0
//! ```

use crate::process::{Command, ProcessError};
use nix::errno::Errno;
use std::{
    fs::File,
    io,
    os::fd::AsRawFd,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

const NAME: &str = "atlas-rehearsal";
const CHANGES: &str = "/dev/ram0";

/// Whether a block device is a rehearsal's: it comes and goes with this program, and is no disk.
pub(crate) fn is_rehearsal(sys: &Path, device: &str) -> bool {
    let name = std::fs::read_to_string(sys.join("class/block").join(device).join("dm/name"));
    name.is_ok_and(|name| name.trim() == NAME)
}

/// The rehearsal device; gone when dropped.
#[derive(Debug)]
pub struct Rehearsal {
    control: Control,
    device: PathBuf,
}

/// Why there is no rehearsal.
#[derive(Debug, thiserror::Error)]
pub enum RehearsalError {
    /// The kernel lacks a module, or modprobe failed.
    #[error("cannot load the kernel modules for a rehearsal (brd, dm-snapshot)")]
    Modules(#[source] ProcessError),
    /// A device could not be opened or measured.
    #[error(transparent)]
    File(#[from] crate::FileError),
    /// The device mapper refused.
    #[error("device mapper: cannot {action}")]
    Mapper {
        /// What was asked of it.
        action: &'static str,
        /// Its answer.
        #[source]
        source: io::Error,
    },
}

impl Rehearsal {
    /// Makes a device over `origin`; at most `limit_bytes` of changes fit, then it fails as a broken disk does.
    pub fn over(origin: &Path, limit_bytes: u64) -> Result<Rehearsal, RehearsalError> {
        let size = format!("rd_size={}", limit_bytes / 1024);
        let load = |args: &[&str]| Command::new("modprobe").args(args).run().map(drop).map_err(RehearsalError::Modules);
        load(&["-q", "brd", "rd_nr=1", &size])?;
        load(&["-q", "dm-snapshot"])?;
        let sectors = crate::block::size_bytes(origin)? / 512;
        let control = Control::open()?;
        // What a run before this one left behind.
        let _ = control.call(DEV_REMOVE, "remove", None);
        let minor = control.call(DEV_CREATE, "create the device", None)?;
        let mut rehearsal = Rehearsal { control, device: PathBuf::from(format!("/dev/dm-{minor}")) };
        let table = format!("{} {CHANGES} N 16", origin.display());
        rehearsal.control.call(TABLE_LOAD, "load the table", Some((sectors, &table)))?;
        rehearsal.control.call(DEV_SUSPEND, "start the device", None)?;
        rehearsal.wait_for_node()?;
        Ok(rehearsal)
    }

    /// The device.
    pub fn device(&self) -> &Path {
        &self.device
    }

    fn wait_for_node(&mut self) -> Result<(), crate::FileError> {
        let until = Instant::now() + Duration::from_secs(5);
        loop {
            match File::open(&self.device) {
                Ok(_) => return Ok(()),
                Err(error) if Instant::now() >= until => return Err(crate::FileError::on("open", &self.device)(error)),
                Err(_) => std::thread::sleep(Duration::from_millis(2)),
            }
        }
    }
}

impl Drop for Rehearsal {
    fn drop(&mut self) {
        // udev may hold the new device open for a moment; what stays is harmless and gone with the next boot.
        for _ in 0..100 {
            if self.control.call(DEV_REMOVE, "remove", None).is_ok() {
                break;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        let _ = Command::new("modprobe").args(["-q", "-r", "brd"]).run();
    }
}

const DEV_CREATE: u8 = 3;
const DEV_REMOVE: u8 = 4;
const DEV_SUSPEND: u8 = 6;
const TABLE_LOAD: u8 = 9;

/// `struct dm_ioctl` of the kernel's interface, followed by room for one target and its text.
#[repr(C)]
struct Request {
    version: [u32; 3],
    data_size: u32,
    data_start: u32,
    target_count: u32,
    open_count: i32,
    flags: u32,
    event_nr: u32,
    padding: u32,
    dev: u64,
    name: [u8; 128],
    uuid: [u8; 129],
    data: [u8; 7],
    target: Target,
    text: [u8; 256],
}

/// `struct dm_target_spec`.
#[repr(C)]
struct Target {
    sector_start: u64,
    length: u64,
    status: i32,
    next: u32,
    target_type: [u8; 16],
}

/// The device mapper's control device.
#[derive(Debug)]
struct Control(File);

impl Control {
    fn open() -> Result<Control, crate::FileError> {
        let path = "/dev/mapper/control";
        File::options().read(true).write(true).open(path).map(Control).map_err(crate::FileError::on("open", path))
    }

    /// One request about our device; gives its minor number.
    fn call(&self, command: u8, action: &'static str, table: Option<(u64, &str)>) -> Result<u64, RehearsalError> {
        let failed = |source: io::Error| RehearsalError::Mapper { action, source };
        let mut request = Request {
            version: [4, 0, 0],
            data_size: u32::try_from(size_of::<Request>()).unwrap_or(u32::MAX),
            data_start: 312,
            target_count: u32::from(table.is_some()),
            open_count: 0,
            flags: 0,
            event_nr: 0,
            padding: 0,
            dev: 0,
            name: padded(NAME),
            uuid: [0; 129],
            data: [0; 7],
            target: Target { sector_start: 0, length: 0, status: 0, next: 0, target_type: padded("snapshot") },
            text: [0; 256],
        };
        if let Some((sectors, text)) = table {
            if text.len() >= request.text.len() {
                return Err(failed(io::Error::other("the device's name is too long")));
            }
            request.target.length = sectors;
            request.target.next = u32::try_from(size_of::<Target>() + request.text.len()).unwrap_or(u32::MAX);
            request.text[..text.len()].copy_from_slice(text.as_bytes());
        }
        let number = nix::request_code_readwrite!(0xfd, command, 312);
        // SAFETY: the descriptor is the device mapper's; the kernel reads and writes at most `data_size` bytes of `request`,
        // which is exactly its size, and every bit pattern is a valid `Request`.
        let result = unsafe { nix::libc::ioctl(self.0.as_raw_fd(), number, &raw mut request) };
        Errno::result(result).map_err(|errno| failed(errno.into()))?;
        Ok(nix::sys::stat::minor(request.dev))
    }
}

fn padded<const N: usize>(text: &str) -> [u8; N] {
    std::array::from_fn(|index| text.as_bytes().get(index).copied().unwrap_or(0))
}

const _: () = assert!(std::mem::offset_of!(Request, target) == 312, "the kernel's struct dm_ioctl has 312 bytes");
