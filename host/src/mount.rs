//! Mounts.

use crate::FileError;
use std::os::fd::AsRawFd;
use std::path::Path;
use sys_mount::{Mount, MountFlags, UnmountFlags};

/// Whether a mount may be written to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Nothing is written, a journal is not replayed.
    ReadOnly,
    /// Writable.
    ReadWrite,
}

impl Access {
    fn flags(self) -> MountFlags {
        match self {
            Access::ReadOnly => MountFlags::RDONLY,
            Access::ReadWrite => MountFlags::empty(),
        }
    }
}

/// Mounts an ext4 file system. Client data lie on it: programs and devices stay as the OS would treat them.
pub fn ext4(device: &Path, at: &Path, access: Access) -> Result<(), FileError> {
    Mount::builder()
        .fstype("ext4")
        .flags(access.flags() | MountFlags::NOATIME)
        .mount(device, at)
        .map(drop)
        .map_err(FileError::on("mount the file system at", at))
}

/// Mounts a file system in memory that can hold at most `limit_bytes`.
pub fn memory(at: &Path, limit_bytes: u64) -> Result<(), FileError> {
    Mount::builder()
        .fstype("tmpfs")
        .data(&format!("size={limit_bytes},mode=0700"))
        .mount("atlas", at)
        .map(drop)
        .map_err(FileError::on("mount a file system in memory at", at))
}

/// Gives this process mounts of its own: what it mounts from now on nobody else sees, and it is gone when the process ends.
pub fn own_mounts() -> Result<(), FileError> {
    let failed = |errno: nix::errno::Errno| FileError::on("make mounts of its own for", "this process")(errno);
    nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNS).map_err(failed)?;
    let private = nix::mount::MsFlags::MS_REC | nix::mount::MsFlags::MS_PRIVATE;
    nix::mount::mount(None::<&str>, "/", None::<&str>, private, None::<&str>).map_err(failed)
}

/// Shows the tree at `at` read-only to this process, which must have mounts of its own. Other file systems mounted below stay as they are.
pub fn show_read_only(at: &Path) -> Result<(), FileError> {
    use nix::mount::MsFlags;
    if at != Path::new("/") {
        nix::mount::mount(Some(at), at, None::<&str>, MsFlags::MS_BIND | MsFlags::MS_REC, None::<&str>)
            .map_err(FileError::on("show read-only", at))?;
    }
    show_mount_read_only(at)
}

/// The same of what is mounted at exactly `at`.
pub fn show_mount_read_only(at: &Path) -> Result<(), FileError> {
    let flags = remount_flags(at, Access::ReadOnly) | nix::mount::MsFlags::MS_BIND;
    nix::mount::mount(None::<&str>, at, None::<&str>, flags, None::<&str>).map_err(FileError::on("show read-only", at))
}

/// Shows the directory `at` with all that is changed in it from now on in `upper`; `work` is an empty directory beside that.
pub fn overlay(at: &Path, upper: &Path, work: &Path) -> Result<(), FileError> {
    overlay_of(at, at, upper, work)
}

/// The same at `at` of another directory, `lower`.
pub fn overlay_of(lower: &Path, at: &Path, upper: &Path, work: &Path) -> Result<(), FileError> {
    let escape = |path: &Path| path.display().to_string().replace('\\', "\\\\").replace(',', "\\,").replace(':', "\\:");
    // Directories are renamed, too: without redirect_dir, only those that were made above could be.
    let data =
        format!("lowerdir={},upperdir={},workdir={},redirect_dir=on", escape(lower), escape(upper), escape(work));
    nix::mount::mount(Some("atlas"), at, Some("overlay"), nix::mount::MsFlags::empty(), Some(data.as_str()))
        .map_err(FileError::on("mount an overlay over", at))
}

/// Makes a mounted ext4 file system writable, or read-only.
pub fn change_access(at: &Path, access: Access) -> Result<(), FileError> {
    nix::mount::mount(None::<&str>, at, None::<&str>, remount_flags(at, access), None::<&str>)
        .map_err(FileError::on(if access == Access::ReadWrite { "make writable" } else { "make read-only" }, at))
}

fn remount_flags(at: &Path, access: Access) -> nix::mount::MsFlags {
    use nix::{mount::MsFlags, sys::statvfs::FsFlags};
    let mut flags = MsFlags::MS_REMOUNT;
    // A remount forgets the options that it does not repeat.
    let now = nix::sys::statvfs::statvfs(at).map(|stat| stat.flags()).unwrap_or(FsFlags::empty());
    for (is, keep) in [
        (FsFlags::ST_NOATIME, MsFlags::MS_NOATIME),
        #[cfg(not(target_env = "musl"))]
        (FsFlags::ST_RELATIME, MsFlags::MS_RELATIME),
        (FsFlags::ST_NODEV, MsFlags::MS_NODEV),
        (FsFlags::ST_NOSUID, MsFlags::MS_NOSUID),
        (FsFlags::ST_NOEXEC, MsFlags::MS_NOEXEC),
    ] {
        flags.set(keep, now.contains(is));
    }
    flags.set(MsFlags::MS_RDONLY, access == Access::ReadOnly);
    flags
}

/// Whether the file system at `path` is mounted read-only.
pub fn is_read_only(path: &Path) -> Result<bool, FileError> {
    nix::sys::statvfs::statvfs(path)
        .map(|stat| stat.flags().contains(nix::sys::statvfs::FsFlags::ST_RDONLY))
        .map_err(FileError::on("look at the file system of", path))
}

/// What a file system has room for.
#[derive(Clone, Copy, Debug)]
pub struct Room {
    /// The size of a block, in bytes.
    pub block: u64,
    /// How many root can still fill: those for root alone included, those that the file system keeps back for itself not.
    pub blocks: u64,
    /// How many inodes are free.
    pub inodes: u64,
    /// Whether their number says anything.
    pub counts_inodes: bool,
    /// Whether its device cannot be written.
    pub is_write_protected: bool,
}

/// How much room there is in the file system at `path`.
pub fn room(path: &Path) -> Result<Room, FileError> {
    use std::os::unix::fs::MetadataExt;
    let stat = nix::sys::statvfs::statvfs(path).map_err(FileError::on("look at the file system of", path))?;
    let device = std::fs::metadata(path).map_err(FileError::on("look at", path))?.dev();
    let (major, minor) = (nix::sys::stat::major(device), nix::sys::stat::minor(device));
    let device = format!("/sys/dev/block/{major}:{minor}");
    let protected = std::fs::read_to_string(format!("{device}/ro"));
    Ok(Room {
        block: stat.fragment_size(),
        blocks: stat.blocks_free().saturating_sub(kept_back(Path::new(&device))),
        inodes: stat.files_free(),
        counts_inodes: stat.files() > 0,
        is_write_protected: protected.is_ok_and(|text| text.trim() == "1"),
    })
}

/// How many blocks ext4 on the device with this directory in sysfs counts as free and gives to nobody, root included: it needs them to write out
/// what was promised already. 4096 as a rule. With `bigalloc`, where a cluster is many blocks, the answer is too small.
fn kept_back(device: &Path) -> u64 {
    let name = std::fs::read_link(device).ok().and_then(|path| path.file_name().map(std::ffi::OsStr::to_owned));
    let says = name.and_then(|name| {
        let ext4 = Path::new("/sys/fs/ext4").join(name).join("reserved_clusters");
        std::fs::read_to_string(ext4).ok()
    });
    says.and_then(|text| text.trim().parse().ok()).unwrap_or(0)
}

/// Unmounts.
pub fn unmount(at: &Path) -> Result<(), FileError> {
    sys_mount::unmount(at, UnmountFlags::empty()).map_err(FileError::on("unmount", at))
}

/// How long taking a mount out of sight, or ending it, may take.
const PATIENCE: std::time::Duration = std::time::Duration::from_secs(5);

/// Takes a mount out of everybody's sight, although somebody may hang in it: waits neither for its device nor for who uses it. Where nothing is
/// mounted, nothing is done.
pub fn detach(at: &Path) {
    let at = at.to_owned();
    apart(move || {
        let flags = nix::mount::MntFlags::MNT_DETACH | nix::mount::MntFlags::UMOUNT_NOFOLLOW;
        let _ = nix::mount::umount2(&at, flags);
    });
}

/// On a thread of its own, for so long: the way to a mount point may lie on a disk that hangs, too.
fn apart(work: impl FnOnce() + Send + 'static) {
    let (done, is_done) = std::sync::mpsc::channel::<()>();
    let work = move || {
        work();
        drop(done);
    };
    if std::thread::Builder::new().spawn(work).is_ok() {
        let _ = is_done.recv_timeout(PATIENCE);
    }
}

/// `EXT4_IOC_SHUTDOWN` of `linux/ext4.h`, and to write nothing more out before.
const SHUTDOWN: nix::libc::Ioctl = nix::request_code_read!(b'X', 125, size_of::<u32>()) as nix::libc::Ioctl;
const WITHOUT_WRITING: u32 = 2;

/// Ends a file system whose device is lost: whoever reads or writes gets an error at once, nothing reaches the device if it comes back, and the
/// kernel says nothing more of it. Only unmounting remains. Does nothing where no file system is mounted; waits for no device.
pub fn end(at: &Path) {
    let at = at.to_owned();
    apart(move || {
        let Ok(root) = std::fs::File::open(&at) else { return };
        // Of what was opened, not of what the path leads to by now: a directory of the root file system would end that.
        let device = |file: &std::fs::File| {
            use std::os::unix::fs::MetadataExt;
            file.metadata().map(|meta| meta.dev()).ok()
        };
        let above = at.parent().and_then(|parent| std::fs::File::open(parent).ok());
        if above.is_some_and(|above| device(&above) != device(&root)) {
            let how = WITHOUT_WRITING;
            // SAFETY: the descriptor is open for as long as the call takes, and this request reads the number that it is given a pointer to.
            unsafe { nix::libc::ioctl(root.as_raw_fd(), SHUTDOWN, &raw const how) };
        }
    });
}

/// Takes a mount along to another place, as `mount --move` does.
pub fn move_to(from: &Path, to: &Path) -> Result<(), FileError> {
    nix::mount::mount(Some(from), to, None::<&str>, nix::mount::MsFlags::MS_MOVE, None::<&str>)
        .map_err(FileError::on("move the mount to", to))
}

/// Whether something is mounted at exactly `path`.
pub fn is_mount_point(path: &Path) -> Result<bool, FileError> {
    use std::os::unix::fs::MetadataExt;
    let failed = |source| FileError::on("look at", path)(source);
    let device = |path: &Path| std::fs::metadata(path).map(|meta| meta.dev());
    let here = device(path).map_err(failed)?;
    Ok(path.parent().is_none() || here != device(&path.join("..")).map_err(failed)?)
}

/// The devices of this system, shown in another root directory until this is dropped.
#[derive(Debug)]
pub struct LentDevices(Option<std::path::PathBuf>);

/// Shows `/dev` in the tree below `root`; does nothing where that is this system's own root.
pub fn lend_devices(root: &Path) -> Result<LentDevices, FileError> {
    if root == Path::new("/") {
        return Ok(LentDevices(None));
    }
    let at = root.join("dev");
    Mount::builder().flags(MountFlags::BIND).mount("/dev", &at).map_err(FileError::on("show the devices at", &at))?;
    Ok(LentDevices(Some(at)))
}

impl Drop for LentDevices {
    fn drop(&mut self) {
        if let Some(at) = &self.0 {
            // Lazily: a converter's child that still runs does not keep the boot from going on.
            let _ = sys_mount::unmount(at, UnmountFlags::DETACH);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mount_that_is_in_use_goes_out_of_sight_and_what_is_none_stays() {
        let name = "mount::tests::a_mount_that_is_in_use_goes_out_of_sight_and_what_is_none_stays";
        if !crate::testing::own_mounts(name) {
            return;
        }
        let tmp = tempfile::tempdir().unwrap();
        memory(tmp.path(), 1 << 20).unwrap();
        let user = std::fs::File::create(tmp.path().join("in-use")).unwrap();
        assert!(unmount(tmp.path()).is_err(), "nobody uses it");
        detach(tmp.path());
        assert!(!is_mount_point(tmp.path()).unwrap());
        detach(tmp.path());
        assert!(tmp.path().is_dir());
        drop(user);
    }
}
