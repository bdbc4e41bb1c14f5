//! What a package manager does to a server of the cast: a new kernel comes, ATLAS goes.
//!
//! QEMU hands over kernel and initramfs, so the host stands in for the boot loader: what dpkg left in the root disk's /boot is taken
//! out of it, and that is what boots.

use std::path::PathBuf;

use anyhow::{Context as _, Result, bail, ensure};
use atlas_image::{PlacedFile, place_files};

use super::cast::{Cast, LEFT, PAGE, PRI_ADDRESS};
use crate::disk::output_of;
use crate::{Boot, Context, Server, cache, secs, tiny};

/// What the package puts into an initramfs.
const PARTS: [&str; 6] = [
    "usr/lib/atlas/atlas-boot",
    "scripts/init-top/atlas",
    "scripts/local-bottom/atlas",
    "usr/lib/udev/rules.d/10-atlas-gate.rules",
    "usr/lib/udev/rules.d/63-atlas.rules",
    "etc/atlas/initialised",
];
/// Where the new kernel's package waits on the server.
const PACKAGE: &str = "/root/linux-image.deb";
/// The root disk of the server that begins as PRI.
const ROOT: &str = "left-root";

/// The operator's choice to have in an initramfs only the modules that this machine needs now: it is made in half the time, and what
/// ATLAS needs is there only if ATLAS asks for it.
fn needed_modules_only() -> PlacedFile {
    PlacedFile::new("/etc/initramfs-tools/conf.d/driver-policy", "MODULES=dep\n")
}

/// Another kernel of Debian's is installed on PRI while it works. Its initramfs was made by the package manager alone; the boot
/// from it installs PRI's identity over one that was overwritten.
pub(crate) fn kernel_upgrade_keeps_the_hook(ctx: &Context) -> Result<()> {
    let cast = Cast::get()?;
    let (release, package) = other_kernel(&cast.image.kernel_release)?;
    let lan = ctx.lan("office")?;
    let mut server = cast.server(ctx, LEFT, &lan)?;
    let new_kernel = PlacedFile::new(PACKAGE, std::fs::read(&package)?);
    place_files(server.disk(ROOT)?.path(), &[new_kernel, needed_modules_only()])?;
    up(&mut server)?;
    ensure!(server.sh("uname -r")? == cast.image.kernel_release);
    long(&server, &format!("dpkg --force-unsafe-io --install {PACKAGE} && rm {PACKAGE}"))?;
    let listing = long(&server, &format!("lsinitramfs /boot/initrd.img-{release}"))?;
    for part in PARTS {
        ensure!(listing.lines().any(|line| line == part), "the initramfs of {release} has no {part}");
    }
    server.sh("echo nobody > /etc/hostname")?;
    server.shutdown(secs(120))?;

    boot_from_own_disk(ctx, &mut server, &release)?;
    up(&mut server)?;
    ensure!(server.sh("uname -r")? == release);
    assert_took_the_role(&server)?;
    ensure!(server.sh("hostname")? == LEFT.hostname, "the new initramfs left the wrong identity");
    server.assert_healthy()?;
    server.shutdown(secs(120))
}

/// The package is purged from PRI while it works, which has to be said twice, and takes everything along but the Unbound disk, which is the operator's, and
/// the directory on which that is mounted then. At the next boot the set is still in the machine, and the server is who its own
/// files in /etc say: nothing takes PRI's role any more.
pub(crate) fn package_removed_leaves_nothing(ctx: &Context) -> Result<()> {
    let cast = Cast::get()?;
    let lan = ctx.lan("office")?;
    let client = ctx.client("client", &lan, "192.168.77.9/24")?;
    let mut server = cast.server(ctx, LEFT, &lan)?;
    place_files(server.disk(ROOT)?.path(), &[needed_modules_only()])?;
    up(&mut server)?;
    assert_took_the_role(&server)?;
    ensure!(units_that_know_atlas(&server)?.contains("/systemd-networkd.service.d/"), "nothing held the network");
    let refused = server.exec("dpkg --purge atlas 2>&1", secs(300))?;
    ensure!(refused.code != 0 && refused.text().contains("wears the identity of PRI"), "{}", refused.text());
    assert_took_the_role(&server)?;
    server.sh("rm /opt/atlas/Identity")?;
    long(&server, "dpkg --purge atlas")?;
    let left_over = server.sh("find / -xdev \\( -iname '*atlas*' -o -name unbound \\)")?;
    ensure!(left_over == "/unbound", "left behind:\n{left_over}");
    let units = units_that_know_atlas(&server)?;
    ensure!(units.is_empty(), "left behind in units, rules and hooks:\n{units}");
    let networkd = server.sh("systemctl cat systemd-networkd.service systemd-networkd.socket")?;
    ensure!(!networkd.to_lowercase().contains("atlas"), "systemd still has it:\n{networkd}");
    let in_initramfs = long(&server, "for image in /boot/initrd.img-*; do lsinitramfs $image; done")?;
    ensure!(in_initramfs.contains("sbin/mdadm"), "this is no listing of an initramfs:\n{in_initramfs}");
    ensure!(!in_initramfs.contains("atlas"), "ATLAS is still in the initramfs");
    server.sh("systemctl restart systemd-networkd")?;
    ensure!(client.sh(&format!("timeout 20 wget -qO- http://{PRI_ADDRESS}/"))? == PAGE, "the service went down");
    server.assert_healthy()?;

    server.sh("echo plain > /etc/hostname")?;
    server.sh(&format!("sed -i s/{PRI_ADDRESS}/192.168.77.50/ /etc/systemd/network/10-lan.network"))?;
    server.shutdown(secs(120))?;
    boot_from_own_disk(ctx, &mut server, &cast.image.kernel_release)?;
    up(&mut server)?;
    ensure!(server.sh("hostname")? == "plain");
    ensure!(server.sh("ip -4 -o address show dev eth0")?.contains("192.168.77.50/24"));
    let banner = client.sh("nc -w 10 192.168.77.50 22 < /dev/null | head -n 1")?;
    ensure!(banner.starts_with("SSH-2.0"), "sshd does not answer: {banner:?}");
    server.sh("test ! -e /run/atlas && ! mountpoint -q /unbound")?;
    server.assert_healthy()?;
    let data = server.sh("mount LABEL=ATLAS-UNBOUND /mnt && cat /mnt/www/index.html && umount /mnt")?;
    ensure!(data == PAGE, "the operator's data is gone: {data:?}");
    server.shutdown(secs(120))
}

fn up(server: &mut Server) -> Result<()> {
    server.start()?;
    server.wait_booted(secs(180))
}

fn assert_took_the_role(server: &Server) -> Result<()> {
    let report: serde_json::Value = serde_json::from_slice(&server.read_file("/run/atlas/boot.json")?)?;
    ensure!(report["outcome"] == "identity-installed" && report["role"] == LEFT.role, "boot.json: {report:#}");
    Ok(())
}

/// Files that hook something into the boot and have ATLAS in them, one a line.
fn units_that_know_atlas(server: &Server) -> Result<String> {
    server.sh("grep -rli atlas /usr/lib/systemd /etc/systemd /run/systemd/system /usr/lib/udev/rules.d /etc/udev/rules.d /etc/mdadm \
               /usr/share/initramfs-tools /etc/initramfs-tools /etc/kernel || test $? = 1")
}

/// Runs a command that must succeed and may make an initramfs meanwhile; its standard output.
fn long(server: &Server, command: &str) -> Result<String> {
    let output = server.exec(command, secs(300))?;
    ensure!(output.code == 0, "`{command}` exits with {}: {}\n{}", output.code, output.text(), output.error_text());
    Ok(output.text())
}

/// The newest kernel of the same line that is not `release`, such as `6.1.0-40-cloud-amd64`: what `uname -r` will say, and
/// its package, from the cache.
fn other_kernel(release: &str) -> Result<(String, PathBuf)> {
    let abi = |release: &str| release.split('-').nth(1)?.parse::<u32>().ok();
    let number = abi(release).with_context(|| format!("{release} has no ABI number"))?;
    let pattern = format!("^linux-image-{}$", release.replacen(&format!("-{number}-"), "-[0-9]+-", 1));
    let found = output_of("apt-cache", &["search", "--names-only", &pattern].map(AsRef::as_ref))?;
    let names = found.lines().filter_map(|line| line.split_whitespace().next()?.strip_prefix("linux-image-"));
    let other = names.filter(|name| *name != release).max_by_key(|name| abi(name));
    let other = other.with_context(|| format!("apt knows no kernel but {release}: run apt-get update as root"))?;
    let package = format!("linux-image-{other}");
    let folder = cache::made_once(&package, |folder| tiny::download(&package, folder).map(drop))?;
    Ok((other.to_owned(), tiny::only_child(&folder, "linux-image-")?))
}

/// From now on the server boots the kernel and the initramfs of `release` that are on its root disk.
pub(super) fn boot_from_own_disk(ctx: &Context, server: &mut Server, release: &str) -> Result<()> {
    let place = server.name().to_owned();
    let disk = server.disk(&format!("{place}-root"))?;
    let kept = |name: &str| ctx.scratch().join(format!("{place}-{name}"));
    let take = |name: &str| disk.take_file(&format!("/boot/{name}-{release}"), &kept(name));
    let (own_kernel, own_initrd) = (take("vmlinuz")?, take("initrd.img")?);
    let Boot::Kernel { kernel, initrd, .. } = &mut server.boot else { bail!("it boots from its first disk") };
    (*kernel, *initrd) = (own_kernel, own_initrd);
    Ok(())
}
