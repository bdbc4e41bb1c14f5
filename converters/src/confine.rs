//! What a part's program may do: change the copies that it was given, and nothing else.
//!
//! This program is started again under the name of [`VERB`], takes everything from itself that the part's program must not have, and becomes
//! its parent:
//!
//! | hazard | as root | otherwise |
//! |---|---|---|
//! | writing elsewhere | a root directory of its own: `/usr` and the part's directory, read-only, and the copies; user nobody; Landlock where the kernel has it | Landlock, without which no program is run |
//! | reading secrets | they are not in that root directory | what the caller may read |
//! | the network, other processes | namespaces of its own | – |
//! | more rights | none are left, and none can be gained | none can be gained |
//! | hanging, and children that stay | the deadline ends the process that all others of the namespace depend on | the deadline ends the process group |
//! | endless files, memory, cores | resource limits | the same |

use crate::Error;
use anyhow::{Context, Result, bail};
use atlas_host::{
    process,
    tree::{Dir, ObjectType},
};
use landlock::{
    ABI, AccessFs, CompatLevel, Compatible, PathBeneath, PathFd, Ruleset, RulesetAttr, RulesetCreatedAttr,
    RulesetStatus,
};
use nix::{
    mount::{MsFlags, mount},
    sched::{CloneFlags, unshare},
    sys::resource::{Resource, setrlimit},
    unistd::{Gid, Uid, chdir, chroot, fchownat, geteuid, setgid, setgroups, setuid},
};
use std::{fs, os::unix::fs::symlink, path::Path, process::ExitCode};

/// The first argument that makes a converter the confined parent of a part's program.
pub const VERB: &str = "confined";
/// `nobody` and `nogroup`, the same on every Debian.
const NOBODY: u32 = 65534;
/// Bounds: a file's size, memory, processor time in seconds, open files.
const LIMITS: [(Resource, u64); 5] = [
    (Resource::RLIMIT_FSIZE, 16 << 20),
    (Resource::RLIMIT_AS, 1 << 30),
    (Resource::RLIMIT_CPU, 60),
    (Resource::RLIMIT_NOFILE, 256),
    (Resource::RLIMIT_CORE, 0),
];

/// Gives the copies to the user that the program will run as.
pub(crate) fn hand_over(copies: &Dir) -> Result<(), Error> {
    if !geteuid().is_root() {
        return Ok(());
    }
    let own = |dir: &Dir, name: &std::ffi::OsStr| {
        let (uid, gid) = (Some(Uid::from_raw(NOBODY)), Some(Gid::from_raw(NOBODY)));
        fchownat(dir, name, uid, gid, nix::fcntl::AtFlags::AT_SYMLINK_NOFOLLOW)
            .map_err(atlas_host::FileError::on("set the owner of", dir.show(name)))
    };
    own(copies, ".".as_ref())?;
    for name in copies.names(10_000)? {
        own(copies, &name)?;
        if copies.stat(&name)?.is_some_and(|stat| ObjectType::of(&stat) == ObjectType::Dir) {
            hand_over(&copies.dir(&name)?)?;
        }
    }
    Ok(())
}

/// Becomes the parent of `run` in `part_dir`: confined, in `work/files`.
///
/// # Errors
/// Where it cannot be confined: then it is not run.
pub(crate) fn run(work: &Path, part_dir: &Path, run: &str, direction: &str) -> Result<ExitCode> {
    for (resource, limit) in LIMITS {
        setrlimit(resource, limit, limit).with_context(|| format!("limit {resource:?}"))?;
    }
    let program = if geteuid().is_root() {
        imprison(work, part_dir).context("make a root directory for the part's program")?;
        write_only_below(Path::new("/work"), false)?;
        Path::new("/part").join(run)
    } else {
        chdir(&work.join("files"))?;
        write_only_below(&work.join("files"), true)?;
        part_dir.join(run)
    };
    let mut command = process::plain(&program);
    command.arg(direction).env_clear().env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin").env("LC_ALL", "C.UTF-8");
    let status = command.status().with_context(|| format!("run {}", part_dir.join(run).display()))?;
    Ok(ExitCode::from(status.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(1)))
}

/// A root directory with nothing in it but what a program needs to run, in namespaces of its own; then the user nobody.
fn imprison(work: &Path, part_dir: &Path) -> Result<()> {
    let apart =
        CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_NEWPID | CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWIPC;
    unshare(apart).context("namespaces of its own")?;
    let none: Option<&Path> = None;
    mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none).context("keep its mounts to itself")?;
    let root = work.join("root");
    fs::create_dir(&root)?;
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
    mount(Some("tmpfs"), &root, Some("tmpfs"), flags, Some("size=64k,mode=0755")).context("mount a tmpfs")?;
    // Debian's awk is a link to a link in /etc/alternatives.
    for name in ["usr", "bin", "sbin", "lib", "lib32", "lib64", "etc/alternatives"] {
        let there = Path::new("/").join(name);
        match fs::symlink_metadata(&there) {
            Ok(meta) if meta.is_symlink() => symlink(fs::read_link(&there)?, root.join(name))?,
            Ok(meta) if meta.is_dir() => bind(&there, &root.join(name), true)?,
            _ => {}
        }
    }
    bind(part_dir, &root.join("part"), true)?;
    bind(&work.join("files"), &root.join("work"), false)?;
    fs::create_dir(root.join("dev"))?;
    fs::write(root.join("dev/null"), "")?;
    mount(Some("/dev/null"), &root.join("dev/null"), none, MsFlags::MS_BIND, none).context("lend /dev/null")?;
    mount(none, &root, none, MsFlags::MS_REMOUNT | MsFlags::MS_RDONLY | flags, Some("size=64k,mode=0755"))?;
    chroot(&root)?;
    chdir("/work")?;
    setgroups(&[])?;
    setgid(Gid::from_raw(NOBODY))?;
    setuid(Uid::from_raw(NOBODY))?;
    Ok(())
}

/// Shows a directory at another place, there alone.
fn bind(from: &Path, to: &Path, read_only: bool) -> Result<()> {
    let none: Option<&Path> = None;
    let flags = MsFlags::MS_BIND | MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
    let what = || format!("show {} at {}", from.display(), to.display());
    fs::create_dir_all(to).with_context(what)?;
    mount(Some(from), to, none, MsFlags::MS_BIND, none).with_context(what)?;
    let access = if read_only { MsFlags::MS_RDONLY } else { MsFlags::empty() };
    mount(none, to, none, flags | access | MsFlags::MS_REMOUNT, none).with_context(what)
}

/// Landlock: reading and running as before, writing below `dir` and to /dev/null. Sets no_new_privs, too.
fn write_only_below(dir: &Path, must: bool) -> Result<()> {
    let abi = ABI::V5;
    let writing = AccessFs::from_write(abi);
    let ruleset = Ruleset::default().set_compatibility(CompatLevel::BestEffort).handle_access(writing)?.create()?;
    let files = PathBeneath::new(PathFd::new(dir)?, writing);
    let null = PathBeneath::new(PathFd::new("/dev/null")?, AccessFs::WriteFile);
    let status = ruleset.add_rule(files)?.add_rule(null)?.restrict_self()?;
    if must && status.ruleset == RulesetStatus::NotEnforced {
        bail!("this kernel has no Landlock, and without being root there is no other way to confine a part's program");
    }
    Ok(())
}
