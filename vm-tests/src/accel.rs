//! KVM or TCG, found out by booting.
//!
//! That `/dev/kvm` exists says little: inside a virtual machine or a container it may be there and hang, or abort QEMU.
//! So a kernel is booted under KVM with the very options the servers get. If it has not greeted within [`GREETING`], it is TCG.
//! The answer holds for one boot of this machine and one QEMU; it is kept in memory and in the cache folder.

use std::fs;
use std::io::Read;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::{Mutex, mpsc};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::deadline::{self, Deadline};
use crate::qemu;

/// A kernel under working KVM prints its first line after some 0.3 s.
const GREETING: Duration = Duration::from_secs(5);

/// How QEMU runs the guest's instructions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Accel {
    /// The processor runs them itself.
    Kvm,
    /// QEMU translates them: some ten times slower, but works everywhere.
    Tcg,
}

impl Accel {
    /// Tells which one works here, trying `kernel` (a bzImage) where that is not yet known. `ATLAS_TEST_ACCEL=kvm|tcg` decides
    /// without trying. Fixes the factor of all deadlines too.
    ///
    /// # Errors
    /// QEMU cannot be run, or `ATLAS_TEST_ACCEL` says something else.
    pub fn detect(kernel: &Path) -> Result<Self> {
        static KNOWN: Mutex<Option<Accel>> = Mutex::new(None);
        let mut known = crate::lock(&KNOWN);
        let accel = match *known {
            Some(accel) => accel,
            None => match std::env::var("ATLAS_TEST_ACCEL").as_deref() {
                Ok("kvm") => Self::Kvm,
                Ok("tcg") => Self::Tcg,
                Ok(other) => bail!("ATLAS_TEST_ACCEL={other}: say kvm or tcg"),
                Err(_) => cached_or_probed(kernel)?,
            },
        };
        *known = Some(accel);
        deadline::set_factor(accel.slowness());
        Ok(accel)
    }

    /// The options for QEMU. Under TCG a Debian is at its login some 15 % sooner on a `qemu64` than on a `max`: the kernel and glibc
    /// then leave alone the wide vector instructions, which TCG emulates element by element. Without `svm` it loads no modules for machines
    /// of its own.
    pub(crate) fn args(self) -> &'static [&'static str] {
        match self {
            Self::Kvm => &["-accel", "kvm", "-cpu", "max"],
            Self::Tcg => &["-accel", "tcg,thread=multi", "-cpu", "qemu64,-svm"],
        }
    }

    /// The same for a guest whose time is measured. An emulated one has a clock that counts its instructions, 2 ns each, and goes on by itself
    /// only while the guest waits: what else this machine does makes it no slower.
    pub(crate) fn args_to_measure(self) -> &'static [&'static str] {
        match self {
            Self::Kvm => self.args(),
            Self::Tcg => &["-accel", "tcg,thread=single", "-icount", "shift=1", "-cpu", "qemu64,-svm"],
        }
    }

    fn slowness(self) -> f64 {
        match self {
            Self::Kvm => 0.5,
            Self::Tcg => 1.0,
        }
    }
}

fn cached_or_probed(kernel: &Path) -> Result<Accel> {
    let boot_id = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    let version = Command::new(qemu::PROGRAM)
        .arg("--version")
        .output()
        .with_context(|| format!("running {}: install the package qemu-system-x86", qemu::PROGRAM))?;
    // What the answer depends on is written beside it: a note for another boot or QEMU is no answer.
    let circumstances = format!("{} {}", boot_id.trim(), String::from_utf8_lossy(&version.stdout).trim());
    let note = crate::cache::folder()?.join("accel");
    if let Ok(text) = fs::read_to_string(&note) {
        match text.split_once('\n') {
            Some(("kvm", rest)) if rest == circumstances => return Ok(Accel::Kvm),
            Some(("tcg", rest)) if rest == circumstances => return Ok(Accel::Tcg),
            _ => {}
        }
    }
    let accel = if Path::new("/dev/kvm").exists() && boots(Accel::Kvm, kernel)? { Accel::Kvm } else { Accel::Tcg };
    let word = if accel == Accel::Kvm { "kvm" } else { "tcg" };
    fs::write(&note, format!("{word}\n{circumstances}")).with_context(|| format!("writing {}", note.display()))?;
    Ok(accel)
}

/// Whether `kernel` prints its greeting in time; what becomes of it later does not matter.
fn boots(accel: Accel, kernel: &Path) -> Result<bool> {
    let mut command = qemu::command();
    command.args(accel.args()).args(["-m", "256", "-serial", "stdio"]);
    command.arg("-kernel").arg(kernel).args(["-append", "console=ttyS0 panic=-1"]);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut child = qemu::spawn(command)?;
    let mut output = child.stdout.take().context("QEMU's output was not piped")?;
    let (say, heard) = mpsc::channel();
    thread::spawn(move || {
        let mut seen = Vec::new();
        let mut chunk = [0; 4096];
        while let Ok(n @ 1..) = output.read(&mut chunk) {
            seen.extend_from_slice(&chunk[..n]);
            if String::from_utf8_lossy(&seen).contains("Linux version") {
                return say.send(()).ok();
            }
        }
        None
    });
    let greeted = heard.recv_timeout(GREETING).is_ok();
    child.kill().ok();
    // A broken KVM may hold the process in the kernel for good: do not wait for longer than it deserves.
    Deadline::exact(Duration::from_secs(3)).poll("the end of the probe", || Ok(child.try_wait()?)).ok();
    Ok(greeted)
}
