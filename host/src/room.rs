//! A room of its own for a daemon that is started beside the one that runs: nothing that happens there can be seen outside.
//!
//! ```text
//!  unshare --net      a network that looks like a server's ([`Replica`])
//!  unshare --pid      everything ends with the first process there; /proc shows no other
//!  unshare --mount    /               read-only, with all that is mounted below it
//!                     /etc, /var      overlays: below, what is here; above, memory
//!                     /run /tmp /dev  in memory, empty but for /run/lock; of devices those that hold nothing
//!  setpriv            without the rights to load modules, set the clock, mount, make devices or restart the machine
//! ```
//!
//! Invariant: before a daemon starts, nothing that outlives the room can be written to: what could not be made read-only is an error.

use crate::{FileError, mount, net::replica::Replica, process::Command};
use nix::{
    mount::MsFlags,
    sys::resource::{Resource, setrlimit},
};
use std::{
    fs::{self, File, OpenOptions},
    os::{
        fd::AsRawFd,
        unix::fs::{OpenOptionsExt, PermissionsExt, symlink},
    },
    path::{Path, PathBuf},
};

/// What is written in a room may take as much memory, in bytes.
const MEMORY: u64 = 256 << 20;
/// The largest file that may be written, and the most data of one process, in bytes.
const LARGEST: (u64, u64) = (64 << 20, 2 << 30);
/// How long one process may compute, in seconds.
const CPU_SECONDS: u64 = 60;
/// What daemons write to, besides `/run` and `/tmp`.
const OVERLAID: [&str; 2] = ["etc", "var"];
/// Devices that hold nothing.
const DEVICES: [&str; 6] = ["null", "zero", "full", "random", "urandom", "tty"];
/// Where programs are looked for.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// Rights over the machine, which no daemon needs to serve.
const WITHOUT: &str = "--bounding-set=-sys_admin,-sys_boot,-sys_module,-sys_rawio,-sys_time,-sys_ptrace,-sys_pacct,-mknod,-syslog,-wake_alarm,\
    -mac_admin,-mac_override,-audit_control,-linux_immutable";

/// Runs `program` with a network, processes and mounts of its own; it has to furnish the room before it starts anything. Needs root.
pub fn apart(network: &Replica, program: &[String]) -> Command {
    let alone = ["unshare", "--mount", "--pid", "--ipc", "--fork", "--kill-child", "--mount-proc"];
    let words: Vec<String> = alone.iter().map(|word| (*word).to_owned()).chain(program.iter().cloned()).collect();
    let words = network.clone().without_hosts().words(&words);
    Command::new(&words[0]).args(&words[1..])
}

/// A room that stands.
#[derive(Debug)]
pub struct Room {
    root: PathBuf,
}

impl Room {
    /// Makes of this process's mounts, which must be its own, a room in which the tree at `root` can be worked with.
    ///
    /// # Errors
    /// It could not be made safe; then nothing may be started.
    pub fn furnish(root: &Path, hosts: Option<&str>) -> Result<Room, FileError> {
        let root = fs::canonicalize(root).map_err(FileError::on("find", root))?;
        if root != Path::new("/") {
            bind(&root, &root)?;
        }
        let below = mounts_below(&root)?;
        let overlaid = OVERLAID.map(|dir| root.join(dir));
        let held: Vec<(PathBuf, File)> = overlaid
            .iter()
            .chain(below.iter().filter(|at| overlaid.iter().any(|dir| at.starts_with(dir) && *at != dir)))
            .filter_map(|at| Some((at.clone(), hold(at).ok()?)))
            .collect();
        for at in below.iter().filter(|at| !at.starts_with(root.join("proc")) && !at.starts_with(root.join("run"))) {
            mount::show_mount_read_only(at)?;
        }
        memory(&root.join("run"), 0o755)?;
        lock_files(&root.join("run"))?;
        for (number, (at, file)) in held.iter().enumerate() {
            let lower = PathBuf::from(format!("/proc/self/fd/{}", file.as_raw_fd()));
            if !lower.is_dir() {
                bind(&lower, at)?;
                continue;
            }
            let layer = root.join(format!("run/.atlas-room/{number}"));
            let (upper, work) = (layer.join("upper"), layer.join("work"));
            [&upper, &work]
                .into_iter()
                .try_for_each(|dir| fs::create_dir_all(dir).map_err(FileError::on("make", dir)))?;
            mount::overlay_of(&lower, at, &upper, &work)?;
        }
        memory(&root.join("tmp"), 0o1777)?;
        devices(&root.join("dev"))?;
        if root != Path::new("/") {
            let proc = root.join("proc");
            fs::metadata(&proc).is_ok().then(|| bind(Path::new("/proc"), &proc)).transpose()?;
        }
        for kernel in ["proc/sys", "proc/sysrq-trigger"].map(|path| root.join(path)).iter().filter(|at| at.exists()) {
            bind(kernel, kernel)?;
            mount::show_mount_read_only(kernel)?;
        }
        if let Some(hosts) = hosts {
            let at = root.join("etc/hosts");
            fs::write(&at, hosts).map_err(FileError::on("write", &at))?;
        }
        limit().map_err(FileError::on("limit", Path::new("this process")))?;
        Ok(Room { root })
    }

    /// A program of the tree, without rights over the machine.
    pub fn command(&self, words: &[&str]) -> Command {
        let root = self.root.display().to_string();
        let there: &[&str] = if root == "/" { &[] } else { &["chroot", &root] };
        Command::new("setpriv").arg(WITHOUT).args(there).args(words).own_env().env("PATH", PATH)
    }
}

/// What of this process is bounded in a room; its children have it from there.
fn limit() -> std::io::Result<()> {
    for (what, most) in
        [(Resource::RLIMIT_CPU, CPU_SECONDS), (Resource::RLIMIT_FSIZE, LARGEST.0), (Resource::RLIMIT_DATA, LARGEST.1)]
    {
        setrlimit(what, most, most)?;
    }
    // Where memory runs out, what is only tried goes first.
    fs::write("/proc/self/oom_score_adj", "1000")
}

fn hold(at: &Path) -> std::io::Result<File> {
    OpenOptions::new().read(true).custom_flags(nix::libc::O_PATH | nix::libc::O_CLOEXEC).open(at)
}

fn bind(from: &Path, at: &Path) -> Result<(), FileError> {
    nix::mount::mount(Some(from), at, None::<&str>, MsFlags::MS_BIND | MsFlags::MS_REC, None::<&str>)
        .map_err(FileError::on("show something else at", at))
}

/// An empty directory in memory, where there is a directory.
fn memory(at: &Path, mode: u32) -> Result<(), FileError> {
    if !at.is_dir() {
        return Ok(());
    }
    mount::memory(at, MEMORY)?;
    fs::set_permissions(at, fs::Permissions::from_mode(mode)).map_err(FileError::on("open", at))
}

/// Where `/var/lock` leads on every Debian: a boot makes it, and Apache does not start without.
fn lock_files(run: &Path) -> Result<(), FileError> {
    if !run.is_dir() {
        return Ok(());
    }
    let at = run.join("lock");
    fs::create_dir_all(&at).map_err(FileError::on("make", &at))?;
    fs::set_permissions(&at, fs::Permissions::from_mode(0o1777)).map_err(FileError::on("open", &at))
}

/// The devices that hold nothing, alone.
fn devices(at: &Path) -> Result<(), FileError> {
    if !at.is_dir() {
        return Ok(());
    }
    let held: Vec<(&str, File)> =
        DEVICES.iter().filter_map(|name| Some((*name, hold(&Path::new("/dev").join(name)).ok()?))).collect();
    memory(at, 0o755)?;
    for (name, device) in held {
        let to = at.join(name);
        File::create(&to).map_err(FileError::on("make", &to))?;
        bind(Path::new(&format!("/proc/self/fd/{}", device.as_raw_fd())), &to)?;
    }
    for (name, target) in [
        ("fd", "/proc/self/fd"),
        ("stdin", "/proc/self/fd/0"),
        ("stdout", "/proc/self/fd/1"),
        ("stderr", "/proc/self/fd/2"),
    ] {
        symlink(target, at.join(name)).map_err(FileError::on("make a link in", at))?;
    }
    let shared = at.join("shm");
    fs::create_dir(&shared).map_err(FileError::on("make", &shared))?;
    fs::set_permissions(&shared, fs::Permissions::from_mode(0o1777)).map_err(FileError::on("open", &shared))
}

/// What is mounted at `root` and below and can be seen, the upper ones first.
fn mounts_below(root: &Path) -> Result<Vec<PathBuf>, FileError> {
    let own = Path::new("/proc/thread-self/mountinfo");
    let text = fs::read_to_string(own).map_err(FileError::on("read", own))?;
    let fields = text.lines().filter_map(|line| Some((line.split(' ').next()?, plain(line.split(' ').nth(4)?))));
    let mut all: Vec<PathBuf> =
        fields.filter(|(id, at)| at.starts_with(root) && is_seen(id, at)).map(|(_, at)| at).collect();
    all.sort();
    all.dedup();
    Ok(all)
}

/// Whether this path leads to the mount of this number, and not to one that was mounted over it.
fn is_seen(id: &str, at: &Path) -> bool {
    let Ok(file) = hold(at) else { return true };
    let info = fs::read_to_string(format!("/proc/thread-self/fdinfo/{}", file.as_raw_fd())).unwrap_or_default();
    info.lines().find_map(|line| line.strip_prefix("mnt_id:")).is_none_or(|seen| seen.trim() == id)
}

/// A path as `mountinfo` has it: blanks, tabs, ends of lines and backslashes as `\040`.
fn plain(text: &str) -> PathBuf {
    let mut plain = text.to_owned();
    for (code, char) in [("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")] {
        plain = plain.replace(code, char);
    }
    plain.into()
}

#[cfg(test)]
mod tests;
