//! What a scenario gets: folders of its own and the makers of disks, LANs and servers.

use std::fs::File;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::Instant;

use anyhow::{Context as _, Result, ensure};
use atlas_image::ServerImage;
use tempfile::TempDir;

use crate::console::Console;
use crate::disk::Disk;
use crate::lan::Lan;
use crate::server::{Boot, Server, ServerBuilder};
use crate::tiny::Tiny;
use crate::{Accel, lock};

/// Longest path of a folder for sockets: with a file name it must fit a socket address of 108 bytes.
const SOCKETS_MAX: usize = 60;

/// The surroundings of one scenario. Disk images and sockets vanish with it, logs stay.
#[derive(Debug)]
pub struct Context {
    name: String,
    logs: PathBuf,
    scratch: TempDir,
    consoles: Mutex<Vec<Console>>,
    begun: Instant,
}

impl Context {
    /// Surroundings for the scenario `name`, with logs in the folder `logs`, which is emptied.
    ///
    /// # Errors
    /// The folders cannot be made.
    pub fn new(name: &str, logs: &Path) -> Result<Self> {
        if logs.exists() {
            std::fs::remove_dir_all(logs).with_context(|| format!("emptying {}", logs.display()))?;
        }
        std::fs::create_dir_all(logs).with_context(|| format!("making {}", logs.display()))?;
        let base = Some(std::env::temp_dir()).filter(|dir| dir.as_os_str().len() < SOCKETS_MAX - 12);
        let scratch =
            tempfile::Builder::new().prefix("av-").tempdir_in(base.as_deref().unwrap_or(Path::new("/tmp")))?;
        Ok(Self {
            name: name.to_owned(),
            logs: logs.to_owned(),
            scratch,
            consoles: Mutex::default(),
            begun: Instant::now(),
        })
    }

    /// The scenario's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The folder of its logs: `SERVER.console.log`, `SERVER.qemu.log`, `LAN.pcap`, `story.log`.
    pub fn logs(&self) -> &Path {
        &self.logs
    }

    /// Writes into `story.log` how far a long story has come, with the seconds since it began.
    ///
    /// # Errors
    /// The log cannot be written.
    pub fn note(&self, what: &str) -> Result<()> {
        let path = self.logs.join("story.log");
        let log = File::options().create(true).append(true).open(&path);
        let line = format!("{:7.1} {what}\n", self.begun.elapsed().as_secs_f64());
        log.and_then(|mut log| log.write_all(line.as_bytes())).with_context(|| format!("writing {}", path.display()))
    }

    /// A folder that goes with the scenario.
    pub fn scratch(&self) -> &Path {
        self.scratch.path()
    }

    /// A new empty disk. No two of a scenario may have the same serial number.
    ///
    /// # Errors
    /// As [`Disk::blank`].
    pub fn blank_disk(&self, serial: &str, size_mib: u64) -> Result<Disk> {
        Disk::blank(&self.image(serial), serial, size_mib)
    }

    /// A new disk with the content of the image `source`.
    ///
    /// # Errors
    /// As [`Disk::copy_of`].
    pub fn copy_disk(&self, serial: &str, source: &Path) -> Result<Disk> {
        Disk::copy_of(source, &self.image(serial), serial)
    }

    fn image(&self, serial: &str) -> PathBuf {
        self.scratch().join(format!("{serial}.img"))
    }

    /// A new LAN.
    ///
    /// # Errors
    /// Its record cannot be made.
    pub fn lan(&self, name: &str) -> Result<Lan> {
        short_name(name)?;
        Lan::new(name, self.scratch(), &self.logs.join(format!("{name}.pcap")))
    }

    /// A new server. Its console is watched: [`Context::finish`] fails on what it should not have said.
    ///
    /// # Errors
    /// Neither KVM nor TCG works, or the logs cannot be made.
    pub fn server(&self, name: &str, boot: Boot) -> Result<ServerBuilder> {
        short_name(name)?;
        let kernel = match &boot {
            Boot::Kernel { kernel, .. } => kernel,
            Boot::FirstDisk => &Tiny::get()?.kernel,
        };
        let accel = Accel::detect(kernel)?;
        let console = Console::new(name, &self.logs.join(format!("{name}.console.log")))?;
        lock(&self.consoles).push(console.clone());
        Ok(ServerBuilder::new(name, boot, accel, console, self.scratch(), self.logs.join(format!("{name}.qemu.log"))))
    }

    /// A new Debian server that boots `image` from a copy of its root disk (serial number `NAME-root`), with `append` behind the kernel
    /// arguments that the image wants.
    ///
    /// # Errors
    /// As [`Context::server`]; or the disk cannot be copied.
    pub fn debian(&self, name: &str, image: &ServerImage, append: &str) -> Result<ServerBuilder> {
        let append = format!("{} {append}", atlas_image::KERNEL_ARGUMENTS).trim_end().to_owned();
        let boot = Boot::Kernel { kernel: image.kernel.clone(), initrd: image.initrd.clone(), append };
        Ok(self.server(name, boot)?.disk(self.copy_disk(&format!("{name}-root"), &image.root)?))
    }

    /// A new tiny server (see [`Tiny`]): a shell, the guest agent and busybox's programs, up in 2 s.
    ///
    /// # Errors
    /// As [`Context::server`]; or the parts cannot be fetched.
    pub fn tiny(&self, name: &str) -> Result<ServerBuilder> {
        self.server(name, Tiny::get()?.boot(""))
    }

    /// A client on `lan` with the address `address` (such as `10.0.0.9/24`), up and ready: for looking at the servers from outside, as in
    /// `client.sh("timeout 5 wget -qO- http://10.0.0.1/")` (Debian's
    /// busybox crashes on `wget -T`).
    ///
    /// # Errors
    /// As [`Context::tiny`]; or it does not come up.
    pub fn client(&self, name: &str, lan: &Lan, address: &str) -> Result<Server> {
        let mut client = self.server(name, Tiny::get()?.boot(&format!("tiny.ip={address}")))?.nic(lan)?.build();
        client.start()?;
        client.wait_agent(crate::secs(30))?;
        Ok(client)
    }

    /// The end of the scenario: all consoles must have said what was expected and nothing fatal beyond.
    ///
    /// # Errors
    /// What [`Console::verify`] finds on the first console that fails.
    pub fn finish(&self) -> Result<()> {
        lock(&self.consoles).iter().try_for_each(Console::verify)
    }
}

fn short_name(name: &str) -> Result<()> {
    let fine = |c: char| c.is_ascii_alphanumeric() || c == '-';
    ensure!(
        (1..=24).contains(&name.len()) && name.chars().all(fine),
        "{name:?} cannot name a server or LAN: 1 to 24 of A-Z a-z 0-9 -"
    );
    Ok(())
}
