//! A server: the chassis with its name, network cards and disks, on or off.
//!
//! Disks go in and out while it is off, as operators do it. While it is on, it is one QEMU process with four unix sockets, all
//! of which *we* listen on before QEMU starts, so that not one line of the console is lost and no socket is raced for:
//!
//! ```text
//! QEMU ── serial console ── Console       (logged, watched, typed on)
//!      ── monitor (QMP)                   (reset)
//!      ── org.qemu.guest_agent.0          (programs and files in the guest)
//!      ── one per network card ── Lan
//! ```

mod bays;

use std::fs::File;
use std::os::unix::net::{UnixListener, UnixStream};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};

use self::bays::{Bays, Cable};
use crate::agent::{Agent, Output};
use crate::console::Console;
use crate::deadline::{Deadline, secs};
use crate::disk::Disk;
use crate::lan::{Lan, Port};
use crate::wire::Wire;
use crate::{Accel, lock, qemu};

/// How long QEMU may take to come up; the guest is not part of it.
const POWER_ON: Duration = Duration::from_secs(20);
/// How long QEMU may take to end after it closed its connections.
const LAST_WORDS: Duration = Duration::from_secs(2);
/// How long the monitor may take to answer.
const MONITOR: Duration = Duration::from_secs(20);
/// How long we ask a guest agent to shut the guest down before the power button is pressed instead.
const AGENT_FIRST: Duration = Duration::from_secs(5);

/// How a server boots.
#[derive(Debug, Clone)]
pub enum Boot {
    /// The firmware loads a boot loader from the first disk.
    FirstDisk,
    /// QEMU hands over a kernel.
    Kernel {
        /// The kernel, a bzImage.
        kernel: PathBuf,
        /// The initramfs.
        initrd: PathBuf,
        /// The kernel's command line. The console is `ttyS0`.
        append: String,
    },
}

/// A server: see the module's text. Dropping it cuts the power.
#[derive(Debug)]
pub struct Server {
    name: String,
    /// How it boots; a change counts from the next start.
    pub boot: Boot,
    smp: u32,
    mem_mib: u32,
    disks: Vec<Disk>,
    /// The serial numbers of those that are pushed in only after the power is on.
    late: Vec<String>,
    ports: Vec<Port>,
    /// What its disks are in.
    bays: Bays,
    /// How many disks were pushed in while it was on.
    pushed: usize,
    /// Cards on the table, one for each slot into which one can be pushed while the power is on.
    spare: Vec<Port>,
    accel: Accel,
    is_measured: bool,
    console: Console,
    sockets: PathBuf,
    qemu_log: PathBuf,
    running: Option<Running>,
}

#[derive(Debug)]
struct Running {
    child: Child,
    monitor: Mutex<Wire>,
    agent: Mutex<Agent>,
    cables: Vec<Cable>,
    /// Of each disk that falls silent, whether it has.
    silent: Vec<Arc<AtomicBool>>,
}

/// Puts a [`Server`] together; made by [`crate::Context::server`].
#[derive(Debug)]
#[must_use]
pub struct ServerBuilder(Server);

impl ServerBuilder {
    /// `sockets` is a folder with a short path.
    pub(crate) fn new(
        name: &str,
        boot: Boot,
        accel: Accel,
        console: Console,
        sockets: &Path,
        qemu_log: PathBuf,
    ) -> Self {
        Self(Server {
            name: name.to_owned(),
            boot,
            smp: 1,
            mem_mib: 512,
            disks: Vec::new(),
            late: Vec::new(),
            ports: Vec::new(),
            bays: Bays::None,
            pushed: 0,
            spare: Vec::new(),
            accel,
            is_measured: false,
            console,
            sockets: sockets.to_owned(),
            qemu_log,
            running: None,
        })
    }

    /// Puts a disk in behind those there are: the first is `/dev/vda`.
    pub fn disk(mut self, disk: Disk) -> Self {
        self.0.disks.push(disk);
        self
    }

    /// As [`ServerBuilder::disk`], but its controller finds the disk only when it is plugged: [`Server::plug`].
    pub fn late_disk(mut self, disk: Disk) -> Self {
        self.0.late.push(disk.serial().to_owned());
        self.disk(disk)
    }

    /// Plugs a network card into `lan`.
    ///
    /// # Errors
    /// The LAN's socket cannot be made.
    pub fn nic(mut self, lan: &Lan) -> Result<Self> {
        self.0.ports.push(lan.plug(&self.0.name)?);
        Ok(self)
    }

    /// Has a card for `lan` ready, and a free slot: see [`Server::push_card`].
    ///
    /// # Errors
    /// The LAN's socket cannot be made.
    pub fn spare_nic(mut self, lan: &Lan) -> Result<Self> {
        self.0.spare.push(lan.plug(&self.0.name)?);
        Ok(self)
    }

    /// Number of processors; 1 if not said.
    pub fn smp(mut self, processors: u32) -> Self {
        self.0.smp = processors;
        self
    }

    /// Memory in MiB; 512 if not said.
    pub fn mem_mib(mut self, mem_mib: u32) -> Self {
        self.0.mem_mib = mem_mib;
        self
    }

    /// Its time is to be measured: where it is emulated, its clock counts instructions, and does not hang on what else this machine does.
    pub fn measured(mut self) -> Self {
        self.0.is_measured = true;
        self
    }

    /// The server, off.
    pub fn build(self) -> Server {
        self.0
    }
}

impl Server {
    /// Its name: in logs, in messages, and to the [`Lan`].
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its console, over all power-ons.
    pub fn console(&self) -> &Console {
        &self.console
    }

    // ---- power

    /// Switches the power on; returns as soon as the machine runs, long before the guest is up.
    ///
    /// # Errors
    /// It is on; or QEMU does not start, with what QEMU said.
    pub fn start(&mut self) -> Result<()> {
        ensure!(!self.is_on(), "{} is on already", self.name);
        let doing = |name: &str| format!("starting {name}");
        let [serial, monitor, agent] =
            ["serial", "qmp", "agent"].map(|what| self.sockets.join(format!("{}-{what}", self.name)));
        let listeners = [listen(&serial)?, listen(&monitor)?, listen(&agent)?];
        let mut command = qemu::command();
        command.args(self.arguments(&serial, &monitor, &agent)?);
        let log = File::create(&self.qemu_log).with_context(|| format!("making {}", self.qemu_log.display()))?;
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        let cables = self.lay_cables()?;
        let silent = self.serve_those_that_fall_silent()?;
        let mut child = Killed(Some(qemu::spawn(command)?));
        let deadline = Deadline::after(POWER_ON);
        let mut accept = |listener: &UnixListener| self.accept(listener, &mut child, deadline);
        let [serial, monitor, agent] = listeners;
        self.console.attach(accept(&serial)?)?;
        let mut monitor = Wire::new(accept(&monitor)?);
        let agent = Agent::new(Wire::new(accept(&agent)?));
        // The greeting is passed over like an event.
        if let Err(error) = monitor.call("qmp_capabilities", &Value::Null, deadline) {
            // One that ends just now says more than its broken connection.
            let until = Instant::now() + LAST_WORDS;
            while Instant::now() < until {
                self.still_runs(&mut child)?;
                std::thread::sleep(Duration::from_millis(20));
            }
            return Err(error).with_context(|| doing(&self.name));
        }
        let child = child.0.take().context("QEMU was taken away")?;
        self.running = Some(Running { child, monitor: Mutex::new(monitor), agent: Mutex::new(agent), cables, silent });
        Ok(())
    }

    /// Whether the power is on.
    pub fn is_on(&self) -> bool {
        self.running.is_some()
    }

    /// The process id of its QEMU, if it is on.
    pub fn qemu_pid(&self) -> Option<u32> {
        self.running.as_ref().map(|running| running.child.id())
    }

    /// Shuts the guest down in order: through the guest agent, else by the power button. The server is off then.
    ///
    /// # Errors
    /// It is off; or the guest does not power off before the deadline (it is left on).
    pub fn shutdown(&mut self, deadline: Deadline) -> Result<()> {
        let patience = Deadline::exact(AGENT_FIRST.min(deadline.left().unwrap_or_default()));
        let asked = lock(&self.on()?.agent).ask_to_shut_down(patience);
        if asked.is_err() {
            self.monitor("system_powerdown")?;
        }
        self.wait_off(deadline)
    }

    /// Waits until the guest has powered itself off.
    ///
    /// # Errors
    /// It is off, or the deadline passes, or QEMU ends with an error.
    pub fn wait_off(&mut self, deadline: Deadline) -> Result<()> {
        let name = self.name.clone();
        let running = self.running.as_mut().with_context(|| format!("{name} is off"))?;
        let status = deadline.poll(&format!("the power-off of {name}"), || Ok(running.child.try_wait()?))?;
        self.running = None;
        self.console.wait_hang_up();
        ensure!(status.success(), "the QEMU of {name} ended with {status}: {}", self.qemu_said());
        Ok(())
    }

    /// Pulls the plug. What the guest had written to the disks is there, what it still had in memory is lost.
    ///
    /// # Errors
    /// It is off; or QEMU had ended before.
    pub fn power_cut(&mut self) -> Result<()> {
        let name = self.name.clone();
        let mut running = self.running.take().with_context(|| format!("{name} is off"))?;
        running.child.kill().with_context(|| format!("killing the QEMU of {name}"))?;
        let status = running.child.wait()?;
        self.console.wait_hang_up();
        ensure!(status.signal() == Some(9), "the power of {name} was gone before it was cut: QEMU ended with {status}");
        Ok(())
    }

    /// Presses the reset button.
    ///
    /// # Errors
    /// It is off, or the monitor does not answer.
    pub fn reset(&self) -> Result<()> {
        self.monitor("system_reset")
    }

    /// Stops the machine in the middle of what it does, with all that it has written in the images of its disks, lets `look` see
    /// these, and lets the machine go on. For the guest no time passes.
    ///
    /// # Errors
    /// It is off, or the monitor does not answer, or what `look` fails with.
    pub fn standing_still<T>(&self, look: impl FnOnce(&[Disk]) -> Result<T>) -> Result<T> {
        self.monitor("stop")?;
        let seen = look(&self.disks)?;
        self.monitor("cont")?;
        Ok(seen)
    }

    /// Pushes a spare network card into its slot while the power is on; `number` counts from 0. The guest has it until the power goes.
    ///
    /// # Errors
    /// It is off, has no such card, or had it pushed in before.
    pub fn push_card(&self, number: usize) -> Result<()> {
        let port = self.spare.get(number).with_context(|| format!("{} has no spare card {number}", self.name))?;
        let card = json!({
            "driver": "virtio-net-pci", "id": format!("card{number}"), "bus": format!("slot{number}"),
            "netdev": format!("spare{number}"), "mac": mac_text(port), "romfile": "",
        });
        self.monitor_with("device_add", &card)
    }

    // ---- disks, while it is off

    /// Puts a disk in, behind those there are.
    ///
    /// # Errors
    /// The server is on. The disk is lost then, as a value; its image stays.
    pub fn insert(&mut self, disk: Disk) -> Result<()> {
        self.off()?;
        self.disks.push(disk);
        Ok(())
    }

    /// Takes the disk with that serial number out.
    ///
    /// # Errors
    /// The server is on, or has no such disk.
    pub fn remove(&mut self, serial: &str) -> Result<Disk> {
        self.off()?;
        let at = self.disks.iter().position(|disk| disk.serial() == serial);
        Ok(self.disks.remove(at.with_context(|| format!("{} has no disk {serial}", self.name))?))
    }

    /// The disk with that serial number, where it is, to look at or to put a fault on.
    ///
    /// # Errors
    /// The server is on, or has no such disk.
    pub fn disk(&mut self, serial: &str) -> Result<&mut Disk> {
        self.off()?;
        let name = &self.name;
        let mut disks = self.disks.iter_mut();
        disks.find(|disk| disk.serial() == serial).with_context(|| format!("{name} has no disk {serial}"))
    }

    // ---- disks, while it is on

    /// Has the guest see a disk that it did not see when it was switched on: a [`ServerBuilder::late_disk`].
    ///
    /// # Errors
    /// It is off, has no such disk, or the disk is there already.
    pub fn plug(&self, serial: &str) -> Result<()> {
        let number = self.disks.iter().position(|disk| disk.serial() == serial);
        let number = number.with_context(|| format!("{} has no disk {serial}", self.name))?;
        let (bay, drive) = (format!("bay{number}"), format!("disk{number}"));
        let arguments = json!({ "driver": "virtio-blk-pci", "bus": bay, "drive": drive, "serial": serial });
        self.monitor_with("device_add", &arguments)
    }

    // ---- the guest

    /// Waits until programs can be run in the guest.
    ///
    /// # Errors
    /// The server is off, the deadline passes, or the console shows a fatal line that was not expected.
    pub fn wait_agent(&self, deadline: Deadline) -> Result<()> {
        deadline.poll(&format!("the guest agent of {}", self.name), || {
            self.console.verify_no_fatal()?;
            let short = Deadline::exact(Duration::from_secs(1).min(deadline.left().unwrap_or_default()));
            match lock(&self.on()?.agent).synchronize(short) {
                Ok(()) => Ok(Some(())),
                Err(_) if short.left().is_none() => Ok(None),
                Err(error) => Err(error).with_context(|| format!("waiting for {}", self.name)),
            }
        })
    }

    /// Waits until systemd has started all it was to start, whether or not all of it came up; see [`Server::assert_healthy`].
    ///
    /// # Errors
    /// As [`Server::wait_agent`].
    pub fn wait_booted(&self, deadline: Deadline) -> Result<()> {
        self.wait_agent(deadline)?;
        let output = self.exec("systemctl is-system-running --wait", deadline)?;
        let state = output.text();
        ensure!(["running", "degraded"].contains(&state.as_str()), "{} is {state:?} after its boot", self.name);
        Ok(())
    }

    /// Runs a shell command in the guest, whatever its exit code.
    ///
    /// # Errors
    /// The agent does not answer, or the command does not end before the deadline.
    pub fn exec(&self, command: &str, deadline: Deadline) -> Result<Output> {
        lock(&self.on()?.agent).exec(command, deadline).with_context(|| format!("running `{command}` on {}", self.name))
    }

    /// Runs a shell command that must succeed within 60 s; its standard output without the line ends at its end.
    ///
    /// # Errors
    /// As [`Server::exec`], or its exit code is not 0; the message has its output.
    pub fn sh(&self, command: &str) -> Result<String> {
        let output = self.exec(command, secs(60))?;
        if output.code != 0 {
            let said = [output.text(), output.error_text()].join("\n");
            bail!("`{command}` on {} exits with {}: {}", self.name, output.code, said.trim());
        }
        Ok(output.text())
    }

    /// A file of the guest.
    ///
    /// # Errors
    /// The agent does not answer, or the file cannot be read.
    pub fn read_file(&self, path: &str) -> Result<Vec<u8>> {
        lock(&self.on()?.agent).read_file(path, secs(60)).with_context(|| format!("reading {path} on {}", self.name))
    }

    /// Writes a file of the guest, in place. It is not flushed to the disk.
    ///
    /// # Errors
    /// The agent does not answer, or the file cannot be written.
    pub fn write_file(&self, path: &str, content: &[u8]) -> Result<()> {
        lock(&self.on()?.agent)
            .write_file(path, content, secs(60))
            .with_context(|| format!("writing {path} on {}", self.name))
    }

    /// Waits for a pattern on the console: [`Console::wait`].
    ///
    /// # Errors
    /// As [`Console::wait`].
    pub fn wait_console(&self, pattern: &str, deadline: Deadline) -> Result<String> {
        self.console.wait(pattern, deadline)
    }

    /// Types a line on the console.
    ///
    /// # Errors
    /// The server is off.
    pub fn type_line(&self, line: &str) -> Result<()> {
        self.console.type_text(&format!("{line}\n"))
    }

    /// Logs in on the console and waits for the prompt of root's shell.
    ///
    /// # Errors
    /// As [`Console::wait`], for each of the prompts.
    pub fn log_in(&self, user: &str, password: &str, deadline: Deadline) -> Result<()> {
        // The prompt may have been waited for already, or buried under messages: an empty line makes it come again.
        self.type_line("")?;
        self.wait_console(r"login: $", deadline)?;
        self.type_line(user)?;
        self.wait_console(r"Password: $", deadline)?;
        self.type_line(password)?;
        self.wait_console(r"# $", deadline).map(drop)
    }

    /// Declares a fatal console line as wanted: [`Console::expect`].
    ///
    /// # Errors
    /// As [`Console::expect`].
    pub fn expect_console(&self, pattern: &str) -> Result<()> {
        self.console.expect(pattern)
    }

    /// Passes if no unit of a full guest has failed and no program has left a core.
    ///
    /// # Errors
    /// The names of the units and cores; or the guest cannot be asked.
    pub fn assert_healthy(&self) -> Result<()> {
        self.console.verify_no_fatal()?;
        let failed = self.sh("systemctl list-units --failed --plain --no-legend --no-pager | cut -d' ' -f1")?;
        if !failed.is_empty() {
            let units = failed.split_whitespace().collect::<Vec<_>>();
            let log = self.exec(&format!("journalctl -b --no-pager -n 15 -u {}", units.join(" -u ")), secs(60))?;
            bail!("units failed on {}: {}\n{}", self.name, units.join(", "), log.text());
        }
        let cores = self
            .sh("find / /var/lib/systemd/coredump /var/crash -maxdepth 1 -type f -name 'core*' 2>/dev/null || true")?;
        ensure!(cores.is_empty(), "programs left cores on {}: {}", self.name, cores.replace('\n', ", "));
        Ok(())
    }

    // ---- QEMU

    fn on(&self) -> Result<&Running> {
        self.running.as_ref().with_context(|| format!("{} is off", self.name))
    }

    fn off(&self) -> Result<()> {
        ensure!(!self.is_on(), "{} is on: shut it down before its disks are touched", self.name);
        Ok(())
    }

    fn monitor(&self, command: &str) -> Result<()> {
        self.monitor_with(command, &Value::Null)
    }

    fn monitor_with(&self, command: &str, arguments: &Value) -> Result<()> {
        let answer = lock(&self.on()?.monitor).call(command, arguments, Deadline::after(MONITOR));
        answer.map(drop).with_context(|| format!("asking the monitor of {}", self.name))
    }

    /// Waits for QEMU to connect; fails at once if it ends instead.
    fn accept(&self, listener: &UnixListener, child: &mut Killed, deadline: Deadline) -> Result<UnixStream> {
        let stream = deadline.poll(&format!("the start of the QEMU of {}", self.name), || {
            self.still_runs(child)?;
            match listener.accept() {
                Ok((stream, _)) => Ok(Some(stream)),
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => Ok(None),
                Err(error) => Err(error.into()),
            }
        })?;
        stream.set_nonblocking(false)?;
        Ok(stream)
    }

    /// Fails where QEMU ended at its start, with what it said.
    fn still_runs(&self, child: &mut Killed) -> Result<()> {
        match child.0.as_mut().and_then(|child| child.try_wait().transpose()).transpose()? {
            Some(status) => bail!("the QEMU of {} ended at its start with {status}: {}", self.name, self.qemu_said()),
            None => Ok(()),
        }
    }

    fn qemu_said(&self) -> String {
        let text = std::fs::read_to_string(&self.qemu_log).unwrap_or_default();
        if text.trim().is_empty() { "it said nothing".to_owned() } else { text.trim().to_owned() }
    }

    fn arguments(&self, serial: &Path, monitor: &Path, agent: &Path) -> Result<Vec<String>> {
        let accel = if self.is_measured { self.accel.args_to_measure() } else { self.accel.args() };
        let mut args: Vec<String> = accel.iter().map(|word| (*word).to_owned()).collect();
        let mut add = |option: &str, value: String| args.extend([option.to_owned(), value]);
        add("-name", self.name.clone());
        add("-m", self.mem_mib.to_string());
        add("-smp", self.smp.to_string());
        for (id, path) in [("serial", serial), ("monitor", monitor), ("agent", agent)] {
            add("-chardev", format!("socket,id={id},path={}", path.display()));
        }
        add("-serial", "chardev:serial".to_owned());
        add("-mon", "chardev=monitor,mode=control".to_owned());
        add("-device", "virtio-serial-pci".to_owned());
        add("-device", "virtserialport,chardev=agent,name=org.qemu.guest_agent.0".to_owned());
        // Without it sshd and others would wait for randomness.
        add("-device", "virtio-rng-pci".to_owned());
        for (number, disk) in self.disks.iter().enumerate() {
            if self.bays != Bays::None && number > 0 {
                self.bay(number, disk).into_iter().for_each(|(option, value)| add(option, value));
                continue;
            }
            let drive = match disk.falls_silent() {
                Some(_) => bays::over_socket(&self.socket(disk.serial())),
                None => disk.drive(),
            };
            add("-drive", format!("if=none,id=disk{number},{drive}"));
            if self.late.iter().any(|late| late == disk.serial()) {
                // The bay in which it will be put: only a port takes a device while the machine runs.
                add("-device", format!("pcie-root-port,id=bay{number},chassis={number},slot={number}"));
            } else {
                add("-device", format!("virtio-blk-pci,drive=disk{number},serial={}", disk.serial()));
            }
        }
        let wire = |id: String, port: &Port| {
            format!("stream,id={id},server=off,addr.type=unix,addr.path={}", port.socket.display())
        };
        for (number, port) in self.ports.iter().enumerate() {
            add("-netdev", wire(format!("net{number}"), port));
            add("-device", format!("virtio-net-pci,netdev=net{number},mac={},romfile=", mac_text(port)));
        }
        for (number, port) in self.spare.iter().enumerate() {
            add("-netdev", wire(format!("spare{number}"), port));
            // Below the bridge that q35 has from the beginning, nothing can be pushed in.
            add("-device", format!("pcie-root-port,id=slot{number},chassis={0},slot={0}", 100 + number));
        }
        if let Boot::Kernel { kernel, initrd, append } = &self.boot {
            for (option, path) in [("-kernel", kernel), ("-initrd", initrd)] {
                ensure!(path.is_file(), "{} cannot boot: there is no {}", self.name, path.display());
                add(option, path.display().to_string());
            }
            add("-append", append.clone());
        }
        Ok(args)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

fn mac_text(port: &Port) -> String {
    port.mac.map(|byte| format!("{byte:02x}")).join(":")
}

/// A child that is killed unless it is taken out.
struct Killed(Option<Child>);

impl Drop for Killed {
    fn drop(&mut self) {
        if let Some(mut child) = self.0.take() {
            child.kill().ok();
            child.wait().ok();
        }
    }
}

/// A socket on which the one who accepts waits.
pub(crate) fn bind(socket: &Path) -> Result<UnixListener> {
    // A socket file of the last power-on may be there.
    std::fs::remove_file(socket).ok();
    UnixListener::bind(socket).with_context(|| format!("making the socket {}", socket.display()))
}

fn listen(socket: &Path) -> Result<UnixListener> {
    let listener = bind(socket)?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}
