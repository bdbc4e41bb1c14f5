//! The Debian packages that building and testing need.

use std::{path::Path, process::Command};

use anyhow::{Context, Result, bail};

use crate::process;

/// A Debian package, and what needs it.
pub(crate) type Needed = (&'static str, &'static str);

/// For building, the image, and the virtual machines.
const PACKAGES: [Needed; 12] = [
    ("libblkid-dev", "programs: what is on a disk"),
    ("libclang-dev", "programs: bindings for libblkid"),
    ("pkg-config", "programs: where libblkid is"),
    ("musl-tools", "programs: a C library that begins at once"),
    ("e2fsprogs", "disks: ext4 without mounting"),
    ("mmdebstrap", "image: a Debian root file system"),
    ("debian-archive-keyring", "image: whose packages to trust"),
    ("zstd", "image: the initramfs"),
    ("cpio", "image: the initramfs"),
    ("uidmap", "image: made without root's rights"),
    ("qemu-system-x86", "virtual machines"),
    ("qemu-utils", "disks whose cable breaks"),
];

/// For the tests besides.
const TEST_PACKAGES: [Needed; 41] = [
    ("acl", "access lists"),
    ("attr", "extended attributes"),
    ("mdadm", "RAID superblocks"),
    ("btrfs-progs", "disks that hold something else"),
    ("xfsprogs", "disks that hold something else"),
    ("cryptsetup-bin", "disks that hold something else"),
    ("git", "the history of Snapshots"),
    ("openssh-client", "the keys of servers"),
    ("openssh-server", "what PRI's key may run"),
    ("strace", "runs cut at every call"),
    ("mount", "disks that lose what was not flushed"),
    ("g++", "programs that crash"),
    ("clang", "programs that crash"),
    ("gdb", "tracebacks to compare with"),
    ("libc6-dbg", "debug symbols of a library"),
    ("xz-utils", "debug information as it is packed"),
    ("lz4", "cores as they are packed"),
    ("iproute2", "networks of a test's own"),
    ("iputils-ping", "services exercised: connectivity"),
    ("openssl", "services exercised: certificates"),
    ("curl", "services exercised: web and mail"),
    ("nginx-light", "services exercised: web"),
    ("apache2-bin", "services exercised: web"),
    ("user-mode-linux", "a kernel with NFS, one with md, and one that hangs"),
    ("kmod", "their modules"),
    ("dmsetup", "disks that answer nothing"),
    ("nfs-kernel-server", "services exercised: NFS"),
    ("bind9", "services exercised: DNS"),
    ("dnsmasq-base", "services exercised: DNS"),
    ("unbound", "services exercised: DNS"),
    ("chrony", "services exercised: NTP"),
    ("postfix", "services exercised: mail"),
    ("dovecot-imapd", "services exercised: mail"),
    ("libgnutls-dane0", "services exercised: exim's libraries"),
    ("libidn12", "services exercised: exim's libraries"),
    ("libnsl2", "services exercised: exim's libraries"),
    ("postgresql", "services exercised: PostgreSQL"),
    ("mariadb-server-core", "services exercised: MariaDB"),
    ("mariadb-client-core", "services exercised: MariaDB"),
    ("samba", "services exercised: Samba"),
    ("smbclient", "services exercised: Samba"),
];

/// For the tests, too, but installing one of these would remove another of the list: they are unpacked into [`UNPACKED_TO`].
const UNPACKED: [Needed; 2] = [
    ("ntpsec", "services exercised: NTP, beside chrony"),
    ("exim4-daemon-light", "services exercised: mail, beside postfix"),
];
const UNPACKED_TO: &str = "/usr/local/lib/atlas-tests";
/// A package's directory gets its name when it is whole.
const UNPACK: &str = "dir=$(mktemp -d)
trap 'rm -rf \"$dir\"' EXIT
cd \"$dir\"
apt-get -qq --option APT::Sandbox::User=root download \"$1\"
dpkg -x ./*.deb new
chmod 755 new
mkdir -p \"$2\"
mv new \"$2/$1\"";

/// Installs what is missing, and says what that is; silent where nothing is.
///
/// # Errors
/// Where the machine is no Debian, or installing fails, or needs rights that cannot be had.
pub(crate) fn run() -> Result<()> {
    install(&PACKAGES)?;
    add_quick_target();
    Ok(())
}

/// Has rustup bring Rust's library for musl. Where it cannot, all programs are built with glibc: as good, and slower to begin.
fn add_quick_target() {
    if atlas_image::has_quick_target() {
        return;
    }
    println!("setup: rustup target add {}", atlas_image::QUICK_TARGET);
    if let Err(error) = process::run(Command::new("rustup").args(["target", "add", atlas_image::QUICK_TARGET])) {
        println!("setup: {error:#}; all programs are built with glibc");
    }
}

/// The same, with what only the tests need.
///
/// # Errors
/// As [`run`].
pub(crate) fn with_tests() -> Result<()> {
    install(&[&PACKAGES[..], &TEST_PACKAGES[..]].concat())?;
    unpack(&UNPACKED)
}

/// Unpacks those that are not there.
fn unpack(packages: &[Needed]) -> Result<()> {
    let is_there = |name: &str| Path::new(UNPACKED_TO).join(name).is_dir();
    for (name, purpose) in packages.iter().filter(|(name, _)| !is_there(name)) {
        println!("setup: unpacking {name} into {UNPACKED_TO} ({purpose})");
        let become_root = become_root()?;
        apt_get(become_root, &["update"])?;
        let mut command = Command::new(if become_root { "sudo" } else { "env" });
        process::run(command.args(["sh", "-ec", UNPACK, "sh", name, UNPACKED_TO]))?;
    }
    Ok(())
}

/// The same for what only one command needs.
///
/// # Errors
/// As [`run`].
pub(crate) fn install(packages: &[Needed]) -> Result<()> {
    let missing = missing(packages, &installed(packages)?);
    if missing.is_empty() {
        return Ok(());
    }
    println!("setup: these Debian packages are needed and are not installed:");
    for (name, purpose) in &missing {
        println!("  {name:24} {purpose}");
    }
    let become_root = become_root()?;
    apt_get(become_root, &["update"])?;
    let mut install = vec!["install", "--yes", "--no-install-recommends"];
    install.extend(missing.iter().map(|(name, _)| name));
    apt_get(become_root, &install)
}

/// What dpkg says of all packages we want to know about: lines of name and state.
fn installed(packages: &[Needed]) -> Result<String> {
    let mut query = Command::new("dpkg-query");
    query
        .args(["--show", "--showformat=${Package} ${db:Status-Status}\\n"])
        .args(packages.iter().map(|(name, _)| name));
    // It fails where one of them is unknown to it; what it printed of the others is still right.
    let output = query.output().context(
        "cannot ask dpkg-query what is installed: building and testing needs Debian 12 or a system made from it",
    )?;
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

fn missing(packages: &[Needed], installed: &str) -> Vec<Needed> {
    let is_there = |name: &str| installed.lines().any(|line| line.strip_prefix(name) == Some(" installed"));
    packages.iter().copied().filter(|(name, _)| !is_there(name)).collect()
}

/// Whether root's rights have to be asked for.
///
/// # Errors
/// Where they cannot be had.
pub(crate) fn become_root() -> Result<bool> {
    let id = process::read(Command::new("id").arg("--user"))?;
    match id.trim() {
        "0" => Ok(false),
        _ if process::is_installed("sudo") => Ok(true),
        _ => bail!("this needs root's rights, and there is no sudo: run it as root"),
    }
}

/// Packages that bring a daemon would start it: what a test needs is started by that test. Whoever has said already what may start is left alone.
const STARTING_NOTHING: &str = "policy=/usr/sbin/policy-rc.d
if [ ! -e $policy ]; then
    trap 'rm -f $policy' EXIT
    printf '#!/bin/sh\\nexit 101\\n' > $policy && chmod 755 $policy
fi
DEBIAN_FRONTEND=noninteractive apt-get \"$@\"";

fn apt_get(become_root: bool, arguments: &[&str]) -> Result<()> {
    let mut command = Command::new(if become_root { "sudo" } else { "env" });
    command.args(["sh", "-c", STARTING_NOTHING, "sh", "-qq", "--option", "Dpkg::Use-Pty=0"]).args(arguments);
    println!("setup: {}apt-get {}", if become_root { "sudo " } else { "" }, arguments.join(" "));
    process::run(&mut command)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_fully_installed_counts() {
        let all: String = PACKAGES.map(|(name, _)| format!("{name} installed\n")).concat();
        assert!(missing(&PACKAGES, &all).is_empty());
        let removed = all.replace("cpio installed", "cpio config-files");
        assert_eq!(missing(&PACKAGES, &removed), [("cpio", "image: the initramfs")]);
        assert_eq!(missing(&PACKAGES, "").len(), PACKAGES.len());
    }

    #[test]
    fn a_package_whose_name_begins_like_another_is_not_taken_for_it() {
        assert!(missing(&TEST_PACKAGES, "acl-tools installed\n").iter().any(|(name, _)| *name == "acl"));
    }
}
