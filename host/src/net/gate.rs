//! The gate: while it is closed, no interface sends a frame, whoever configures it.
//!
//! Closed is two things, because each covers what the other cannot:
//!
//! ```text
//! net.core.default_qdisc=blackhole   an interface that is brought up drops all that it is to send; no moment lies between
//! root qdisc `blackhole a71a:`       on each interface but loopback, also on those that were up before, or take no default
//!
//! /run/sysctl.d/zz-atlas-gate.conf   the former again, for whoever applies the system's settings meanwhile
//! /run/atlas/default_qdisc           the setting as it was
//! /run/atlas/network-allowed         the gate is open; there is no other sign
//! ```
//!
//! `blackhole` is part of every kernel that has queueing disciplines at all, so nothing has to be loaded. It drops on the way out: ARP,
//! router solicitations and DHCP included. What comes in is received. A VLAN, a bridge, or a container's interface sends through an
//! interface of the machine, which is held.
//!
//! What does not pass a queueing discipline is not held: `netconsole`, AF_PACKET sockets and AF_XDP programs that ask to bypass it.

use super::{
    NetError,
    rtnetlink::{Link, Qdisc, ROOT, Rtnetlink},
};
use crate::{FileError, durable, lock::Lock, process::Command, tree::Dir};
use nix::{errno::Errno, sched::CloneFlags};
use std::{
    collections::BTreeSet,
    ffi::OsStr,
    fs::File,
    io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    time::Duration,
};

/// The kernel's setting of what an interface gets that is brought up.
const SETTING: &str = "/proc/sys/net/core/default_qdisc";
/// What drops everything.
const BLACKHOLE: &str = "blackhole";
/// By this handle, what the gate put on an interface is known from what somebody else did.
const HANDLE: u32 = 0xa71a << 16;
/// What interfaces get where nobody knows what they got before.
const FALLBACK: &str = "pfifo_fast";

/// The file that is there while the gate is open, in `/run/atlas`.
pub const ALLOWED: &str = "network-allowed";
const FORMER: &str = "default_qdisc";
const LOCK: &str = "gate.lock";
/// In `/run/sysctl.d`. Settings are applied in the order of the files' names, wherever they lie.
const SYSCTL_FILE: &str = "zz-atlas-gate.conf";
const SYSCTL_TEXT: &str =
    "# The ATLAS gate is closed: see 'systemctl status atlas-gate'.\nnet.core.default_qdisc = blackhole\n";
const SYSCTL_PROGRAMS: [&str; 2] = ["/usr/lib/systemd/systemd-sysctl", "/lib/systemd/systemd-sysctl"];

/// Whoever holds the lock needs milliseconds.
const LOCK_DEADLINE: Duration = Duration::from_secs(5);
/// Network namespaces that are looked into.
const MAX_NAMESPACES: usize = 4096;

/// The gate of this machine.
#[derive(Clone, Debug)]
pub struct Gate {
    run: PathBuf,
    setting: PathBuf,
}

/// What [`Gate::hold`] found, or did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hold {
    /// From now on the interface sends nothing.
    Held,
    /// It sent nothing already.
    Unchanged,
    /// The gate is open: the interface was left alone.
    Open,
    /// It is the loopback device, which was left alone.
    Loopback,
}

impl Gate {
    /// The gate whose files lie below `run`: `/run`.
    pub fn new(run: impl Into<PathBuf>) -> Gate {
        Gate { run: run.into(), setting: SETTING.into() }
    }

    /// Whether it is open, and network services may start.
    pub fn is_open(&self) -> bool {
        self.run.join("atlas").join(ALLOWED).exists()
    }

    /// Closes it: nothing is sent any more, in no network namespace. Gives the interfaces that could send until now.
    pub fn close(&self) -> Result<Vec<String>, NetError> {
        let dir = self.dir();
        let _lock = dir.as_ref().ok().and_then(|dir| self.lock(dir));
        // Each does its part, whatever becomes of the others: a full /run must not keep an interface from being held. The sign goes first of
        // all: whoever comes in the meantime finds it closed.
        let no_sign = dir.as_ref().map_or(Ok(()), |dir| dir.remove(OsStr::new(ALLOWED)).map(drop));
        let setting = self.close_setting(dir.as_ref().ok());
        let held = everywhere(|kernel| {
            let interfaces = Interfaces::list(kernel)?;
            interfaces.act_on(|link| !link.is_loopback && !interfaces.is_held(link), |link| hold(kernel, link))
        });
        no_sign?;
        let held = held?;
        setting?;
        dir.map(|_| held).map_err(NetError::from)
    }

    /// Holds one interface, unless the gate is open.
    pub fn hold(&self, interface: &str) -> Result<Hold, NetError> {
        let dir = self.dir()?;
        let _lock = self.lock(&dir);
        if self.is_open() {
            return Ok(Hold::Open);
        }
        let mut kernel = Rtnetlink::open()?;
        let link = kernel.link(interface)?;
        if link.is_loopback {
            return Ok(Hold::Loopback);
        }
        if Interfaces::list(&mut kernel)?.is_held(&link) {
            return Ok(Hold::Unchanged);
        }
        hold(&mut kernel, &link).map(|()| Hold::Held).map_err(|source| failed("hold", &link, source))
    }

    /// Opens it: every interface that the gate held gets the default of the kernel's, and only those. Gives them.
    ///
    /// An interface that cannot be let go stays held; the gate is open then all the same, and this is an error.
    pub fn open(&self) -> Result<Vec<String>, NetError> {
        self.open_except(&[])
    }

    /// The same, but for these interfaces, which stay held until [`Gate::release`].
    pub fn open_except(&self, held: &[String]) -> Result<Vec<String>, NetError> {
        let dir = self.dir()?;
        let _lock = self.lock(&dir);
        // Where it cannot be said that the gate is open, it stays closed. Nobody sees the sign before the lock is given back.
        durable::write(&dir, OsStr::new(ALLOWED), b"", 0o644)?;
        self.open_setting(&dir)?;
        everywhere(|kernel| {
            let interfaces = Interfaces::list(kernel)?;
            let meant = |link: &Link| interfaces.drops_for_the_gate(link) && !held.contains(&link.name);
            interfaces.act_on(meant, |link| release(kernel, link))
        })
    }

    /// Lets go of an interface that stayed held when the gate was opened. One that is not held is left alone, and so is every one while
    /// the gate is closed.
    pub fn release(&self, interface: &str) -> Result<(), NetError> {
        let dir = self.dir()?;
        let _lock = self.lock(&dir);
        let mut kernel = Rtnetlink::open()?;
        let link = kernel.link(interface)?;
        if !self.is_open() || !Interfaces::list(&mut kernel)?.is_held(&link) {
            return Ok(());
        }
        release(&mut kernel, &link).map_err(|source| failed("let go of", &link, source))
    }

    /// The interfaces of this network namespace that could send a frame; none while the gate is closed.
    pub fn leaks(&self) -> Result<Vec<String>, NetError> {
        let interfaces = Interfaces::list(&mut Rtnetlink::open()?)?;
        let leaks = interfaces.links.iter().filter(|link| !link.is_loopback && !interfaces.is_held(link));
        Ok(leaks.map(|link| link.name.clone()).collect())
    }

    fn dir(&self) -> Result<Dir, FileError> {
        Dir::open_root(&self.run)?.make_dirs("atlas")
    }

    /// Without the lock, what is done is done all the same: a holder that hangs must not keep the gate from closing.
    fn lock(&self, dir: &Dir) -> Option<Lock> {
        Lock::take(dir, OsStr::new(LOCK), LOCK_DEADLINE).ok()
    }

    /// The setting first; that it comes back later, and stays meanwhile, are files that may not be written.
    fn close_setting(&self, dir: Option<&Dir>) -> Result<(), NetError> {
        let now = self.setting()?;
        let mut kept = Ok(());
        if now != BLACKHOLE {
            if let Some(dir) = dir {
                kept = durable::write(dir, OsStr::new(FORMER), now.as_bytes(), 0o644);
            }
            self.set(BLACKHOLE)?;
        }
        let sysctls = Dir::open_root(&self.run)?.make_dirs("sysctl.d")?;
        durable::write_if_changed(&sysctls, OsStr::new(SYSCTL_FILE), SYSCTL_TEXT.as_bytes(), 0o644)?;
        Ok(kept?)
    }

    /// What was set before, and then what the system's configuration says now.
    fn open_setting(&self, dir: &Dir) -> Result<(), NetError> {
        let sysctls = Dir::open_root(&self.run)?.make_dirs("sysctl.d")?;
        sysctls.remove(OsStr::new(SYSCTL_FILE))?;
        if self.setting()? != BLACKHOLE {
            return Ok(());
        }
        let former = dir.read_if_there(FORMER, 64)?.unwrap_or_default();
        let former = String::from_utf8_lossy(&former).trim().to_owned();
        let known = !former.is_empty() && former != BLACKHOLE;
        if !known || self.set(&former).is_err() {
            self.set(FALLBACK)?;
        }
        if let Some(program) = SYSCTL_PROGRAMS.iter().find(|program| Path::new(program).exists()) {
            // Best effort: what was set before is a setting to live with.
            let _ = Command::new(program).arg("--prefix=/net/core/default_qdisc").deadline(LOCK_DEADLINE).output();
        }
        if self.setting()? == BLACKHOLE {
            self.set(FALLBACK)?;
        }
        Ok(())
    }

    fn setting(&self) -> Result<String, FileError> {
        let text = std::fs::read_to_string(&self.setting).map_err(FileError::on("read", &self.setting))?;
        Ok(text.trim().to_owned())
    }

    fn set(&self, kind: &str) -> Result<(), FileError> {
        std::fs::write(&self.setting, kind).map_err(FileError::on("write", &self.setting))
    }
}

/// The interfaces of a network namespace, with their queueing disciplines.
struct Interfaces {
    links: Vec<Link>,
    qdiscs: Vec<Qdisc>,
}

impl Interfaces {
    fn list(kernel: &mut Rtnetlink) -> Result<Interfaces, NetError> {
        Ok(Interfaces { links: kernel.links()?, qdiscs: kernel.qdiscs()? })
    }

    fn of(&self, link: &Link) -> impl Iterator<Item = &Qdisc> {
        let index = link.index;
        self.qdiscs.iter().filter(move |qdisc| qdisc.link == index)
    }

    /// Whether the gate's own is on it.
    fn is_held(&self, link: &Link) -> bool {
        self.of(link).any(|qdisc| qdisc.parent == ROOT && qdisc.handle == HANDLE && qdisc.kind == BLACKHOLE)
    }

    /// Whether it drops because of the gate: held, or brought up while the setting said so, with one queue or with several. A `blackhole`
    /// that somebody else put there has a handle.
    fn drops_for_the_gate(&self, link: &Link) -> bool {
        self.is_held(link) || self.of(link).any(|qdisc| qdisc.handle == 0 && qdisc.kind == BLACKHOLE)
    }

    /// Acts on those that are `meant`, whatever becomes of the others; gives their names. One that is gone meanwhile is no error.
    fn act_on(
        &self,
        meant: impl Fn(&Link) -> bool,
        mut act: impl FnMut(&Link) -> io::Result<()>,
    ) -> Result<Vec<String>, NetError> {
        let (mut done, mut error) = (Vec::new(), None);
        for link in self.links.iter().filter(|link| meant(link)) {
            match act(link) {
                Ok(()) => done.push(link.name.clone()),
                Err(source) if is_gone(&source) => {}
                Err(source) => error = error.or(Some(failed("change", link, source))),
            }
        }
        error.map_or(Ok(done), Err)
    }
}

fn hold(kernel: &mut Rtnetlink, link: &Link) -> io::Result<()> {
    kernel.set_root_qdisc(link.index, HANDLE, BLACKHOLE)
}

/// What the kernel put there by itself cannot be taken away, but for one that was put in its place.
fn release(kernel: &mut Rtnetlink, link: &Link) -> io::Result<()> {
    hold(kernel, link)?;
    kernel.delete_root_qdisc(link.index, HANDLE)
}

fn is_gone(error: &io::Error) -> bool {
    error.raw_os_error() == Some(Errno::ENODEV as i32)
}

fn failed(action: &str, link: &Link, source: io::Error) -> NetError {
    NetError::Kernel { action: format!("{action} the interface {}", link.name), source }
}

/// Acts in this process's network namespace, and then in all others that a process or a name keeps: an interface that was given to a
/// container is there, and nowhere else.
fn everywhere(act: impl Fn(&mut Rtnetlink) -> Result<Vec<String>, NetError> + Sync) -> Result<Vec<String>, NetError> {
    let (mut done, mut error) = (Vec::new(), None);
    let mut note = |result: Result<Vec<String>, NetError>| match result {
        Ok(names) => done.extend(names),
        Err(one) => error = error.take().or(Some(one)),
    };
    note(Rtnetlink::open().and_then(|mut kernel| act(&mut kernel)));
    for namespace in other_namespaces() {
        // A thread of its own, which ends there: nothing else of this process may be in another namespace.
        let inside = std::thread::scope(|scope| {
            let work = scope.spawn(|| match nix::sched::setns(&namespace, CloneFlags::CLONE_NEWNET) {
                Ok(()) => act(&mut Rtnetlink::open()?),
                Err(errno) => {
                    Err(NetError::Kernel { action: "enter a network namespace".into(), source: errno.into() })
                }
            });
            work.join().unwrap_or_else(|_| Ok(vec![]))
        });
        note(inside);
    }
    error.map_or(Ok(done), Err)
}

/// Those that can be opened: each once, at most [`MAX_NAMESPACES`].
fn other_namespaces() -> Vec<File> {
    let inode = |file: &File| file.metadata().ok().map(|meta| (meta.dev(), meta.ino()));
    let mut seen: BTreeSet<_> = File::open("/proc/self/ns/net").ok().and_then(|own| inode(&own)).into_iter().collect();
    let entries = |dir: &str| std::fs::read_dir(dir).into_iter().flatten().flatten().map(|entry| entry.path());
    let is_number = |name: &OsStr| name.to_string_lossy().bytes().all(|byte| byte.is_ascii_digit());
    let processes = entries("/proc").filter(|path| path.file_name().is_some_and(is_number));
    let named = ["/run/netns", "/run/docker/netns"].into_iter().flat_map(entries);
    let files = processes.map(|process| process.join("ns/net")).chain(named);
    let new = files.filter_map(|path| {
        let file = File::open(path).ok()?;
        seen.insert(inode(&file)?).then_some(file)
    });
    new.take(MAX_NAMESPACES).collect()
}

#[cfg(test)]
#[path = "gate_tests.rs"]
mod tests;
