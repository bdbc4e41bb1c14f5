//! A disk that boots: the root file system, with the package installed, as an ext4 file system in a file.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Result;

use crate::cache::Key;
use crate::rootfs::{data_directory, root_file_system, run_in_root_file_system};
use crate::{Options, Package, package};

/// The label by which the kernel command line names the root file system.
pub const ROOT_LABEL: &str = "ATLAS-ROOT";

/// Root's password on the test servers; everyone may know it.
pub const ROOT_PASSWORD: &str = "atlas";

/// What QEMU is given with `-append`.
///
/// Network interfaces are eth0, eth1… in the order of QEMU's arguments. Without mitigations, which protect
/// nothing here, an emulated server boots a little faster. The kernel's check of its timer fails where the emulator
/// was kept waiting for a processor, and its watchdog calls a processor stuck then; neither says anything of a server. Nor does a service
/// that starts late for that reason.
pub const KERNEL_ARGUMENTS: &str = "root=LABEL=ATLAS-ROOT ro console=ttyS0 net.ifnames=0 quiet mitigations=off no_timer_check watchdog_thresh=60 \
     systemd.default_timeout_start_sec=300";

/// Room for the system (about 350 MB) and for what tests write; the file is sparse.
const SIZE: &str = "1G";
/// The same for a server that has more.
const SIZE_WITH_MORE: &str = "2G";

/// What is needed to boot a server. The files are shared and must not be written to.
#[derive(Debug, Clone)]
pub struct ServerImage {
    /// The package that is installed on it, if one is.
    pub package: Option<Package>,
    /// The root disk: ext4 without a partition table, raw, sparse.
    pub root: PathBuf,
    /// For `qemu-system-x86_64 -kernel`: the one in the root disk's /boot.
    pub kernel: PathBuf,
    /// For `qemu-system-x86_64 -initrd`: the one in the root disk's /boot.
    pub initrd: PathBuf,
    /// What `uname -r` says on that server.
    pub kernel_release: String,
}

/// A Debian server with ATLAS installed as the package that [`package`] builds.
///
/// # Errors
/// Where programs do not build, or the package does not build or install.
pub fn server_image(options: &Options) -> Result<ServerImage> {
    // The root file system needs no package, and is made by one processor at a time.
    let (package, _) = std::thread::scope(|scope| {
        let root_file_system = scope.spawn(|| root_file_system(options));
        (package(options), root_file_system.join())
    });
    image(options, Some(package?))
}

/// The same Debian server without ATLAS, to compare with.
///
/// # Errors
/// Where the root file system cannot be made.
pub fn plain_image(options: &Options) -> Result<ServerImage> {
    image(options, None)
}

fn image(options: &Options, package: Option<Package>) -> Result<ServerImage> {
    let tar = root_file_system(options)?;
    let data = data_directory();
    let package_file = package.as_ref().map(|package| package.path.as_path());
    let unpack_and_build = [data.join("unpack.sh"), data.join("disk.sh")];
    let size = if options.more.is_some() { SIZE_WITH_MORE } else { SIZE };
    // The directory's name is the key of what made the archive.
    let key = Key::default().with(tar.as_os_str().as_encoded_bytes()).with(size.as_bytes());
    let key = unpack_and_build.iter().map(PathBuf::as_path).chain(package_file).try_fold(key, Key::with_files)?;
    let (kind, what) = match package_file {
        Some(_) => ("server", "server image: the package is installed, the disk is written"),
        None => ("plain", "plain image: the disk is written"),
    };
    let kind = format!("{kind}-{}", options.kind());
    let entry = options.cache.entry(&kind, key, |entry| {
        (options.progress)(what);
        let arguments = [Some(entry), Some(Path::new(size)), Some(Path::new(ROOT_LABEL)), package_file];
        let arguments: Vec<&Path> = arguments.into_iter().flatten().collect();
        run_in_root_file_system(&tar, &unpack_and_build[1], &arguments, Duration::from_secs(900)).map(drop)
    })?;
    Ok(ServerImage {
        package,
        root: entry.join("root.img"),
        kernel: entry.join("kernel"),
        initrd: entry.join("initrd"),
        kernel_release: fs::read_to_string(entry.join("kernel-release"))?.trim().to_owned(),
    })
}
