//! Disks that leave and come while the power is on: front bays, and cables that break.
//!
//! ```text
//! QEMU ── pcie-root-port bay-SERIAL ── virtio-blk disk-SERIAL ── image                          pulled and pushed in
//!      └─ pcie-root-port bay-SERIAL ── virtio-blk disk-SERIAL ── socket ── qemu-nbd ── image    its cable cut, or dead silent
//!      └─ virtio-scsi scsi-SERIAL ── disk disk-SERIAL ── image                                  on another kind of controller
//! ```

use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};

use super::{Server, ServerBuilder};
use crate::deadline::{Deadline, secs};
use crate::disk::Disk;
use crate::{lock, qemu, silence};

/// How long the guest may take to let go of a disk, and `qemu-nbd` to be ready.
const PATIENCE: u64 = 60;

/// What the disks behind the first one are in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Bays {
    /// Nothing that lets go while the power is on.
    None,
    /// Bays.
    Open,
    /// Bays, each with a cable that can be cut.
    Cabled,
    /// A SCSI controller for each.
    Scsi,
}

/// The other end of a disk's cable.
#[derive(Debug)]
pub(super) struct Cable {
    serial: String,
    child: Child,
}

impl Drop for Cable {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

impl ServerBuilder {
    /// All disks but the first are in bays: they may be pulled, and pushed in, while the power is on.
    pub fn bays(mut self) -> Self {
        self.0.bays = Bays::Open;
        self
    }

    /// The same, and each has a cable that may break.
    pub fn cabled_bays(mut self) -> Self {
        self.0.bays = Bays::Cabled;
        self
    }

    /// All disks but the first are on SCSI controllers, one each.
    pub fn scsi(mut self) -> Self {
        self.0.bays = Bays::Scsi;
        self
    }
}

impl Server {
    /// Pulls a disk out of its bay while the power is on. The guest is not asked.
    ///
    /// # Errors
    /// It is off, has no such disk in a bay, or the guest does not let go of it.
    pub fn pull(&mut self, serial: &str) -> Result<Disk> {
        self.tell_monitor("device_del", &json!({ "id": format!("disk-{serial}") }))?;
        self.let_go(serial)
    }

    /// Pulls several disks out at the same moment.
    ///
    /// # Errors
    /// As [`Server::pull`].
    pub fn pull_all(&mut self, serials: &[String]) -> Result<Vec<Disk>> {
        for serial in serials {
            self.tell_monitor("device_del", &json!({ "id": format!("disk-{serial}") }))?;
        }
        serials.iter().map(|serial| self.let_go(serial)).collect()
    }

    fn let_go(&mut self, serial: &str) -> Result<Disk> {
        let id = format!("disk-{serial}");
        secs(PATIENCE).poll(&format!("{} to let go of the disk {serial}", self.name), || {
            let there = self.tell_monitor("qom-list", &json!({ "path": "/machine/peripheral" }))?;
            let names = there.as_array().context("no list of devices")?;
            Ok(names.iter().all(|device| device["name"] != id.as_str()).then_some(()))
        })?;
        let at = self.disks.iter().position(|disk| disk.serial() == serial);
        Ok(self.disks.remove(at.with_context(|| format!("{} has no disk {serial}", self.name))?))
    }

    /// Pushes a disk into the bay that it was pulled from.
    ///
    /// # Errors
    /// It is off, or the disk was in none of its bays when it was switched on.
    pub fn push(&mut self, disk: Disk) -> Result<()> {
        let bay = disk.serial().to_owned();
        self.push_into(disk, &bay)
    }

    /// Pushes a disk into the bay in which the disk `bay` was when the power was switched on.
    ///
    /// # Errors
    /// It is off, or there is no such bay.
    pub fn push_into(&mut self, disk: Disk, bay: &str) -> Result<()> {
        let (serial, again) = (disk.serial().to_owned(), format!("again-{}", self.pushed));
        self.pushed += 1;
        let line = format!("drive_add 0 if=none,id={again},{}", disk.drive());
        let said = self.tell_monitor("human-monitor-command", &json!({ "command-line": line }))?;
        ensure!(said.as_str().is_some_and(|said| said.trim() == "OK"), "drive_add says {said}");
        let device = json!({
            "driver": "virtio-blk-pci", "id": format!("disk-{serial}"), "bus": format!("bay-{bay}"),
            "drive": again, "serial": serial,
        });
        self.tell_monitor("device_add", &device)?;
        self.disks.push(disk);
        Ok(())
    }

    /// Cuts the cables of all disks in bays: every access fails from now on.
    ///
    /// # Errors
    /// It is off, or they have no cables.
    pub fn cut_cables(&mut self) -> Result<()> {
        let running = self.running.as_mut().context("it is off")?;
        ensure!(!running.cables.is_empty(), "its disks have no cables");
        running.cables.clear();
        Ok(())
    }

    /// From now on, no access to a disk in a bay ends.
    ///
    /// # Errors
    /// It is off, or they have no cables.
    pub fn silence_cables(&self) -> Result<()> {
        let cables = &self.on()?.cables;
        ensure!(!cables.is_empty(), "its disks have no cables");
        let children: Vec<String> = cables.iter().map(|cable| cable.child.id().to_string()).collect();
        let stopped = Command::new("kill").arg("-STOP").args(children).status().context("running kill")?;
        ensure!(stopped.success(), "stopping qemu-nbd: kill ended with {stopped}");
        Ok(())
    }

    fn tell_monitor(&self, command: &str, arguments: &Value) -> Result<Value> {
        let answer = lock(&self.on()?.monitor).call(command, arguments, Deadline::after(super::MONITOR));
        answer.with_context(|| format!("asking the monitor of {}", self.name))
    }

    /// QEMU's options for a disk in a bay.
    pub(super) fn bay(&self, number: usize, disk: &Disk) -> [(&'static str, String); 3] {
        let (serial, first) = (disk.serial(), 16 + number);
        let drive = match self.bays {
            Bays::Cabled => over_socket(&self.socket(serial)),
            Bays::Open | Bays::Scsi | Bays::None => disk.drive(),
        };
        let (controller, device) = match self.bays {
            Bays::Scsi => (format!("virtio-scsi-pci,id=scsi-{serial}"), format!("scsi-hd,bus=scsi-{serial}.0")),
            Bays::Open | Bays::Cabled | Bays::None => (
                format!("pcie-root-port,id=bay-{serial},chassis={first},slot={first}"),
                format!("virtio-blk-pci,bus=bay-{serial}"),
            ),
        };
        [
            ("-device", controller),
            ("-drive", format!("if=none,id=disk{number},{drive}")),
            ("-device", format!("{device},id=disk-{serial},drive=disk{number},serial={serial}")),
        ]
    }

    /// Whether a disk that was to fall silent has done so since the power was switched on.
    ///
    /// # Errors
    /// It is off.
    pub fn has_fallen_silent(&self) -> Result<bool> {
        Ok(self.on()?.silent.iter().any(|silent| silent.load(Ordering::Acquire)))
    }

    /// The other ends of the disks that fall silent, before QEMU is started.
    pub(super) fn serve_those_that_fall_silent(&self) -> Result<Vec<Arc<AtomicBool>>> {
        let disks = self.disks.iter().filter_map(|disk| Some((disk, disk.falls_silent()?.clone())));
        disks.map(|(disk, at)| silence::serve(disk.path(), &self.socket(disk.serial()), at)).collect()
    }

    pub(super) fn socket(&self, serial: &str) -> PathBuf {
        self.sockets.join(format!("{}-{serial}", self.name))
    }

    /// Lays the cables, before QEMU is started.
    pub(super) fn lay_cables(&self) -> Result<Vec<Cable>> {
        if self.bays != Bays::Cabled {
            return Ok(vec![]);
        }
        self.disks.iter().skip(1).map(|disk| lay(disk, &self.socket(disk.serial()))).collect()
    }
}

/// The value of `-drive` for an image that somebody serves at a socket.
pub(super) fn over_socket(socket: &Path) -> String {
    format!("format=raw,file.driver=nbd,file.server.type=unix,file.server.path={}", socket.display())
}

fn lay(disk: &Disk, socket: &Path) -> Result<Cable> {
    std::fs::remove_file(socket).ok();
    let mut command = Command::new("setpriv");
    command.args([
        "--pdeathsig",
        "KILL",
        "--",
        "qemu-nbd",
        "--persistent",
        "--format=raw",
        "--cache=writeback",
        "--socket",
    ]);
    command.arg(socket).arg(disk.path());
    let mut cable = Cable { serial: disk.serial().to_owned(), child: qemu::spawn(command)? };
    secs(PATIENCE).poll(&format!("the cable of the disk {}", cable.serial), || {
        if let Some(status) = cable.child.try_wait()? {
            bail!("qemu-nbd (package qemu-utils) ended with {status}");
        }
        Ok(socket.exists().then_some(()))
    })?;
    Ok(cable)
}
