//! The tiny guest: Debian's kernel with an initramfs of a few MiB that is all there is. It is up in 2 s under TCG, has busybox's
//! shell and programs (`ip`, `wget`, `nc`, `httpd`, `arping`, `dd`, `sync` …), the guest agent, and a shell on the console.
//! Scenarios that need no full Debian use it, and so does whoever only looks on as a client.
//!
//! Its parts are Debian packages, downloaded with `apt-get download` (no privileges, nothing is installed) and kept in the
//! cache, keyed by their versions: `linux-image-cloud-amd64`, `busybox-static`, `qemu-guest-agent`.
//!
//! Kernel command line: `tiny.ip=ADDRESS/LENGTH` for `eth0`.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, OnceLock};

use anyhow::{Context, Result, ensure};

use crate::cache;
use crate::cpio::Archive;
use crate::disk::output_of;
use crate::lock;
use crate::server::Boot;

/// Changes whenever what is made of the packages changes, so that an old cache is not taken for the new.
const RECIPE: &str = "1";
const META: &str = "linux-image-cloud-amd64";
/// What each tiny guest loads, besides what these depend on.
const MODULES: [&str; 5] = ["virtio_pci", "virtio_blk", "virtio_net", "virtio_console", "virtio-rng"];

const INIT: &str = r#"#!/bin/busybox sh
/bin/busybox mkdir -p /proc /sys /dev /tmp /run /var/run /mnt /root
/bin/busybox --install -s /bin
mount -t proc proc /proc; mount -t sysfs sys /sys; mount -t devtmpfs dev /dev
export PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root PS1='tiny# '
for module in $(cat /etc/modules); do insmod "$module" || echo "tiny: no module $module"; done
ip link set lo up
for word in $(cat /proc/cmdline); do
    case $word in tiny.ip=*) ip link set eth0 up && ip address add "${word#tiny.ip=}" dev eth0;; esac
done
for port in /sys/class/virtio-ports/*; do
    if [ "$(cat "$port/name")" = org.qemu.guest_agent.0 ]; then
        qemu-ga -d -t /run -f /run/qemu-ga.pid -m virtio-serial -p "/dev/${port##*/}"
    fi
done
echo "tiny: up"
while :; do setsid cttyhack sh; done
"#;
/// What the guest agent runs for an orderly shutdown.
const SHUTDOWN: &str = "#!/bin/busybox sh\necho 'tiny: shutting down' > /dev/console\nsync\nexec poweroff -f\n";

/// The parts of a tiny guest, in the cache.
#[derive(Debug, Clone)]
pub struct Tiny {
    /// The kernel.
    pub kernel: PathBuf,
    /// The initramfs.
    pub initrd: PathBuf,
    /// The packages, unpacked: `boot`, `lib/modules`, `bin/busybox`, `usr/sbin/qemu-ga`.
    packages: PathBuf,
}

impl Tiny {
    /// The tiny guest, made if the cache does not have it.
    ///
    /// # Errors
    /// The packages cannot be downloaded; or `ldd` or `dpkg-deb` is missing.
    pub fn get() -> Result<&'static Self> {
        static READY: OnceLock<Tiny> = OnceLock::new();
        static MAKING: Mutex<()> = Mutex::new(());
        let _making = lock(&MAKING);
        match READY.get() {
            Some(tiny) => Ok(tiny),
            None => {
                let tiny = make().context("making the tiny guest")?;
                Ok(READY.get_or_init(|| tiny))
            }
        }
    }

    /// How a server boots into it, with `append` behind what it needs on the kernel's command line.
    pub fn boot(&self, append: &str) -> Boot {
        let (kernel, initrd) = (self.kernel.clone(), self.initrd.clone());
        Boot::Kernel { kernel, initrd, append: format!("console=ttyS0 panic=-1 net.ifnames=0 {append}") }
    }

    /// An initramfs like the tiny guest's, with more in it: kernel modules (loaded at boot, `raid1`), and programs of this machine with
    /// the libraries they need (`/sbin/mdadm`), written to `path`.
    ///
    /// # Errors
    /// A module or program is not there.
    pub fn initrd_with(&self, path: &Path, modules: &[&str], programs: &[&str]) -> Result<()> {
        let modules: Vec<_> = MODULES.iter().chain(modules).copied().collect();
        let mut archive = base(&self.packages, &modules)?;
        for program in programs {
            add_program(&mut archive, Path::new(program), program)?;
        }
        archive.write(path)
    }
}

fn make() -> Result<Tiny> {
    let kernel_package = output_of("apt-cache", &["depends", "--important", META].map(AsRef::as_ref))?;
    let kernel_package = kernel_package
        .split_whitespace()
        .find(|word| word.starts_with("linux-image-") && *word != META)
        .with_context(|| format!("apt knows no package {META}: run apt-get update as root"))?
        .to_owned();
    let packages = [kernel_package.as_str(), "busybox-static", "qemu-guest-agent"];
    let mut key = format!("tiny-{RECIPE}");
    for package in packages {
        let policy = output_of("apt-cache", &["policy", package].map(AsRef::as_ref))?;
        let candidate = policy.lines().find_map(|line| line.trim().strip_prefix("Candidate: "));
        let version =
            candidate.with_context(|| format!("apt knows no package {package}: run apt-get update as root"))?;
        key += &format!("-{}", version.replace(|c: char| !c.is_ascii_alphanumeric() && c != '.', "_"));
    }
    let folder = cache::made_once(&key, |folder| {
        let unpacked = folder.join("packages");
        packages.iter().try_for_each(|package| fetch(package, folder, &unpacked))?;
        base(&unpacked, &MODULES)?.write(&folder.join("initrd"))
    })?;
    let packages = folder.join("packages");
    let kernel = only_child(&packages.join("boot"), "vmlinuz-")?;
    Ok(Tiny { kernel, initrd: folder.join("initrd"), packages })
}

fn fetch(package: &str, folder: &Path, unpacked: &Path) -> Result<()> {
    let downloaded = tempfile::tempdir_in(folder)?;
    let package = download(package, downloaded.path())?;
    output_of("dpkg-deb", &["-x".as_ref(), package.as_ref(), unpacked.as_ref()])?;
    Ok(())
}

/// Downloads a Debian package into `folder`, which is empty, and says which file that is.
///
/// # Errors
/// apt knows no such package, or cannot get it.
pub(crate) fn download(package: &str, folder: &Path) -> Result<PathBuf> {
    let output = Command::new("apt-get").args(["download", package]).current_dir(folder).output();
    let output = output.context("running apt-get")?;
    ensure!(
        output.status.success(),
        "apt-get download {package}: {}: {} (does apt-get update as root help?)",
        output.status,
        String::from_utf8_lossy(&output.stderr).trim()
    );
    only_child(folder, "")
}

fn base(packages: &Path, modules: &[&str]) -> Result<Archive> {
    let mut archive = Archive::default();
    archive.file("init", 0o755, INIT.as_bytes());
    archive.file("sbin/shutdown", 0o755, SHUTDOWN.as_bytes());
    archive.copy("bin/busybox", 0o755, &packages.join("bin/busybox"))?;
    add_program(&mut archive, &packages.join("usr/sbin/qemu-ga"), "usr/sbin/qemu-ga")?;
    let tree = only_child(&packages.join("lib/modules"), "")?;
    let mut order = Vec::new();
    for module in modules {
        add_module(&mut archive, &tree, module, &mut order)?;
    }
    archive.file("etc/modules", 0o644, order.join("\n").as_bytes());
    Ok(archive)
}

/// Adds a module and, before it, those it depends on; a module built into the kernel is none.
fn add_module(archive: &mut Archive, tree: &Path, module: &str, order: &mut Vec<String>) -> Result<()> {
    let wanted = module.replace('-', "_");
    let is_it = |path: &str| {
        let name = path.rsplit('/').next().and_then(|file| file.strip_suffix(".ko")).unwrap_or_default();
        name.replace('-', "_") == wanted
    };
    let lists = |list: &str| {
        std::fs::read_to_string(tree.join(list)).with_context(|| format!("reading {list} in {}", tree.display()))
    };
    let all = lists("modules.order")?;
    let Some(path) = all.lines().find(|path| is_it(path)) else {
        ensure!(lists("modules.builtin")?.lines().any(is_it), "the kernel has no module {module}");
        return Ok(());
    };
    let inside = format!("lib/modules/{wanted}.ko");
    let at = format!("/{inside}");
    if order.contains(&at) {
        return Ok(());
    }
    let content = std::fs::read(tree.join(path)).with_context(|| format!("reading the module {path}"))?;
    for needed in dependencies(&content) {
        add_module(archive, tree, &needed, order)?;
    }
    archive.file(&inside, 0o644, &content);
    order.push(at);
    Ok(())
}

/// A module names what it depends on in its section `.modinfo`, as `depends=a,b` between zero bytes.
fn dependencies(module: &[u8]) -> Vec<String> {
    let entry = module.split(|byte| *byte == 0).find_map(|entry| entry.strip_prefix(b"depends="));
    let names = String::from_utf8_lossy(entry.unwrap_or_default()).into_owned();
    names.split(',').filter(|name| !name.is_empty()).map(str::to_owned).collect()
}

/// Adds a program of this machine and the libraries that the dynamic linker would load for it.
fn add_program(archive: &mut Archive, program: &Path, inside: &str) -> Result<()> {
    archive.copy(inside.trim_start_matches('/'), 0o755, program)?;
    let output = Command::new("ldd").arg(program).output().context("running ldd")?;
    let listed = String::from_utf8_lossy(&output.stdout).into_owned();
    ensure!(!listed.contains("not found"), "libraries of {} are missing:\n{listed}", program.display());
    let libraries: BTreeSet<_> = listed.split_whitespace().filter(|word| word.starts_with('/')).collect();
    for library in libraries {
        archive.copy(library.trim_start_matches('/'), 0o755, Path::new(library))?;
    }
    Ok(())
}

/// The first entry of a folder whose name begins so.
pub(crate) fn only_child(folder: &Path, prefix: &str) -> Result<PathBuf> {
    let reading = || format!("reading {}", folder.display());
    for entry in std::fs::read_dir(folder).with_context(reading)? {
        let entry = entry.with_context(reading)?;
        if entry.file_name().to_string_lossy().starts_with(prefix) {
            return Ok(entry.path());
        }
    }
    anyhow::bail!("nothing named {prefix}… in {}", folder.display())
}
