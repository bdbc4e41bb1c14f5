//! Starting QEMU so that it ends with us.
//!
//! A QEMU must not outlive the tests, however they end. Drop covers the orderly ways; for the rest (the test process is
//! killed) the kernel is asked to kill the child with its parent, through `setpriv --pdeathsig`. The kernel means the parent
//! *thread*, so all children are started by one thread that lives as long as the process.

use std::process::{Child, Command};
use std::sync::{Mutex, mpsc};
use std::thread;

use anyhow::{Context, Result};

/// The emulator.
pub(crate) const PROGRAM: &str = "qemu-system-x86_64";

/// A machine with nothing but what is asked for. It boots a cloud kernel a little faster as q35 than as pc.
pub(crate) const BARE: [&str; 6] = ["-nodefaults", "-no-user-config", "-display", "none", "-machine", "q35"];

type Request = (Command, mpsc::Sender<std::io::Result<Child>>);

/// QEMU with the options of [`BARE`], to be completed and handed to [`spawn`].
pub(crate) fn command() -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL", "--", PROGRAM]).args(BARE);
    command
}

/// Starts a command made by [`command`]. `setpriv` becomes QEMU by exec, so that the child's id is QEMU's own.
///
/// # Errors
/// `setpriv` (package util-linux) cannot be run. If QEMU cannot, the child ends with 127 and says so on its standard error.
pub(crate) fn spawn(command: Command) -> Result<Child> {
    static STARTER: Mutex<Option<mpsc::Sender<Request>>> = Mutex::new(None);
    let (reply, child) = mpsc::channel();
    crate::lock(&STARTER)
        .get_or_insert_with(|| {
            let (requests, inbox) = mpsc::channel::<Request>();
            thread::spawn(move || inbox.iter().for_each(|(mut command, reply)| drop(reply.send(command.spawn()))));
            requests
        })
        .send((command, reply))
        .ok()
        .context("the thread that starts QEMU is gone")?;
    child.recv().context("the thread that starts QEMU is gone")?.context("starting QEMU through setpriv")
}
