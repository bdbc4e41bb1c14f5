//! The kernel's own client: mount, read, write, lock.

use super::FILE;
use crate::{service::Target, services::given};
use anyhow::Context;
use atlas_cli::Hint;
use atlas_host::{mount, process::Command};
use nix::{
    fcntl::{FcntlArg, fcntl},
    mount::{MntFlags, umount2},
    sys::{
        stat::futimens,
        time::{TimeSpec, TimeValLike},
    },
};
use std::{
    fs::OpenOptions,
    io::{ErrorKind, Read, Seek, SeekFrom, Write},
    net::IpAddr,
    os::unix::fs::{MetadataExt, OpenOptionsExt},
    path::Path,
    sync::mpsc,
    time::{Duration, Instant},
};

/// Where it is mounted: a directory that every system has, hidden from nobody but this process.
const AT: &str = "/mnt";
/// Soft, with two seconds per try and two tries: nothing waits for ever. Nothing is kept from or shared with other mounts.
const OPTIONS: &str = "soft,timeo=20,retrans=1,retry=0,proto=tcp,noac,nosharecache,nosuid,nodev,noexec";

/// What was done.
pub(super) struct Used {
    /// With which version of NFS.
    pub(super) version: u32,
    /// What took how long in milliseconds, and from when on it is slow.
    pub(super) times: Vec<(&'static str, f64, f64)>,
}

/// Mounts an export in any of these versions and exercises it; inside, what did not work.
pub(super) fn exercise(target: &Target, path: &str, versions: &[u32]) -> anyhow::Result<Result<Used, String>> {
    mount::own_mounts().hint("run it as root: only root may mount")?;
    let start = Instant::now();
    let mut complaints = vec![];
    for version in versions {
        // Below a pseudo root, clients of NFS 4 see other paths.
        let seen = target.option(super::PATH_4).filter(|_| *version == 4).unwrap_or(path);
        if seen.is_empty() {
            complaints.push("NFS 4: the path is not below the pseudo root (fsid=0)".to_owned());
            continue;
        }
        match attach(target, seen, *version)? {
            Ok(()) => {
                let took = ms(start);
                let used = within(target, path);
                // Lazily: a server that is gone by now is not waited for. Were it to fail, it would go with this process.
                let _ = umount2(AT, MntFlags::MNT_DETACH);
                return Ok(used.map(|mut times| {
                    times.insert(0, ("mount", took, 5000.0));
                    Used { version: *version, times }
                }));
            }
            Err(why) => complaints.push(format!("NFS {version}: {why}")),
        }
    }
    Ok(Err(format!("it cannot be mounted: {}", complaints.join("; "))))
}

fn attach(target: &Target, path: &str, version: u32) -> anyhow::Result<Result<(), String>> {
    let address = match target.address()? {
        IpAddr::V6(address) => format!("[{address}]"),
        IpAddr::V4(address) => address.to_string(),
    };
    let port = target.port(super::PORT)?;
    let command = Command::new("mount").args(["-t", "nfs", "-o"]).arg(format!("vers={version},port={port},{OPTIONS}"));
    let command = command.arg(format!("{address}:{path}")).arg(AT);
    // Half of what is left: another version may be tried.
    let output = command.env("LC_ALL", "C.UTF-8").deadline((target.left() / 2).max(Duration::from_millis(1))).output();
    let output = match output {
        Err(atlas_host::process::ProcessError::Deadline { deadline, .. }) => {
            return Ok(Err(format!("no answer within {:.0} s", deadline.as_secs_f64())));
        }
        output => output.context("mount")?,
    };
    let complaint = output.complaint();
    let is_ours =
        ["mount.<type>", "unknown filesystem type", "No such device", "must be superuser", "permission denied"];
    if !output.status.success() && is_ours.iter().any(|text| complaint.contains(text)) && !complaint.contains("server")
    {
        return Err(anyhow::anyhow!("this server cannot mount NFS: {complaint}"))
            .hint("install nfs-common, and see that the kernel has the module nfs");
    }
    Ok(if output.status.success() { Ok(()) } else { Err(complaint) })
}

/// Exercises the test file on a thread of its own: a call that does not come back holds up nobody.
fn within(target: &Target, path: &str) -> Result<Vec<(&'static str, f64, f64)>, String> {
    let (tell, told) = mpsc::channel();
    let (export, is_writable) = (path.to_owned(), target.option("access") == Some("rw"));
    std::thread::spawn(move || {
        // Nobody listens any more after the deadline.
        let _ = tell.send(file(&Path::new(AT).join(FILE), &export, is_writable));
    });
    told.recv_timeout(target.left())
        .unwrap_or_else(|_| Err("reading, writing or locking does not come to an end".into()))
}

fn file(path: &Path, export: &str, is_writable: bool) -> Result<Vec<(&'static str, f64, f64)>, String> {
    let failed = |what: &'static str| {
        move |error: std::io::Error| match error.kind() {
            ErrorKind::NotFound => {
                format!("the test file {FILE} is not there: what is exported is not what was synchronised")
            }
            ErrorKind::PermissionDenied => format!(
                "the test file cannot be {what}: its owner or mode, or those of the directory, keep clients out"
            ),
            _ => format!("the test file cannot be {what}: {error}"),
        }
    };
    let start = Instant::now();
    // A link there would lead out of the export.
    let flags = nix::libc::O_NOFOLLOW | nix::libc::O_NONBLOCK;
    let open = OpenOptions::new().read(true).write(is_writable).custom_flags(flags).open(path);
    let mut file = open.map_err(failed(if is_writable { "opened for writing" } else { "read" }))?;
    let mut found = String::new();
    (&mut file).take(65_536).read_to_string(&mut found).map_err(failed("read"))?;
    let mut times = vec![("read", ms(start), 1000.0)];
    if !given::is_in(&found, export) {
        return Err(format!(
            "the test file {FILE} is not what was placed: the export shows another directory, or the file was changed"
        ));
    }
    if is_writable {
        let start = Instant::now();
        let before = file.metadata().map_err(failed("looked at"))?;
        let written = file.seek(SeekFrom::Start(0)).and_then(|_| file.write_all(found.as_bytes()));
        written.and_then(|()| file.sync_all()).map_err(failed("written"))?;
        let time = |s, ns| TimeSpec::seconds(s) + TimeSpec::nanoseconds(ns);
        futimens(&file, &time(before.atime(), before.atime_nsec()), &time(before.mtime(), before.mtime_nsec()))
            .map_err(|errno| failed("given its time")(errno.into()))?;
        times.push(("write", ms(start), 2000.0));
        let start = Instant::now();
        lock(&file).map_err(failed("locked"))?;
        times.push(("lock", ms(start), 2000.0));
    }
    Ok(times)
}

/// Locks and unlocks. Somebody else's lock, another server's Verifier's, proves as much.
fn lock(file: &std::fs::File) -> std::io::Result<()> {
    let mut lock = nix::libc::flock { l_type: nix::libc::F_WRLCK as _, l_whence: 0, l_start: 0, l_len: 0, l_pid: 0 };
    match fcntl(file, FcntlArg::F_SETLK(&lock)) {
        Err(nix::errno::Errno::EAGAIN | nix::errno::Errno::EACCES) => return Ok(()),
        locked => locked.map(drop)?,
    }
    lock.l_type = nix::libc::F_UNLCK as _;
    Ok(fcntl(file, FcntlArg::F_SETLK(&lock)).map(drop)?)
}

fn ms(start: Instant) -> f64 {
    (start.elapsed().as_secs_f64() * 1e6).round() / 1e3
}
