//! Which paths belong to one machine, and are never carried from PRI to a secondary.
//!
//! A server's disks, its boot loader, its ids and what ATLAS keeps of itself are right on that machine alone. So a line of a
//! SyncFilePaths list that names such a path is refused when the Snapshot is made; a listed directory that *holds* one (`/etc/ssh`
//! holds the host keys) is carried without it; and an installation leaves such a path as it is, whatever the Snapshot says.
//!
//! The identity, which moves with the disks, is another matter only for host keys and what names network cards. A directory that holds
//! anything else of the table, as `/etc` does, is no identity, and accounts are none either.
//!
//! A `*` in the table stands for any characters within one component.

use crate::{PathList, TreePath};
use std::os::unix::ffi::OsStrExt;

const KERNEL: &str = "it is made by the kernel or at boot, and holds no configuration";
const BOOT: &str = "it belongs to the boot loader, kernel and initramfs of one machine";
const DISKS: &str = "it names the disks of one machine; on another it would mount or start the wrong ones, or none";
const ID: &str = "it is the id of one installation, and must differ from machine to machine";
const HOST_KEY: &str = "the host keys are part of a server's identity; list them in IdentFilePaths";
const NAMES: &str = "it ties names to the hardware addresses of one machine";
const ATLAS: &str =
    "it says which machine this is and what is installed on it; ATLAS keeps it for each server by itself";
const UNBOUND: &str = "it lies on the Unbound disks, which move between machines as a whole";
const ACCOUNTS: &str =
    "accounts belong to the system that is installed here; a SyncCycle carries people's accounts by itself";
const PACKAGES: &str = "it records which packages are installed on one machine";

/// Each with everything below it.
const TABLE: [(&str, &str); 62] = [
    ("/boot", BOOT),
    ("/dev", KERNEL),
    ("/efi", BOOT),
    ("/etc/.pwd.lock", KERNEL),
    ("/etc/adjtime", ID),
    ("/etc/crypttab", DISKS),
    ("/etc/default/grub", BOOT),
    ("/etc/default/grub.d", BOOT),
    ("/etc/default/mdadm", DISKS),
    ("/etc/dracut.conf", BOOT),
    ("/etc/dracut.conf.d", BOOT),
    ("/etc/fstab", DISKS),
    ("/etc/grub.d", BOOT),
    ("/etc/hostid", ID),
    ("/etc/initramfs", BOOT),
    ("/etc/initramfs-tools", BOOT),
    ("/etc/iscsi/initiatorname.iscsi", ID),
    ("/etc/kernel", BOOT),
    ("/etc/kernel-img.conf", BOOT),
    ("/etc/ld.so.cache", PACKAGES),
    ("/etc/lvm", DISKS),
    ("/etc/machine-id", ID),
    ("/etc/machine-info", ID),
    ("/etc/mdadm", DISKS),
    ("/etc/mdadm.conf", DISKS),
    ("/etc/mtab", KERNEL),
    ("/etc/multipath", DISKS),
    ("/etc/multipath.conf", DISKS),
    ("/etc/nvme/hostid", ID),
    ("/etc/nvme/hostnqn", ID),
    ("/etc/ssh/ssh_host_*", HOST_KEY),
    ("/etc/systemd/network/*-persistent-*", NAMES),
    ("/etc/udev/rules.d/*-persistent-*.rules", NAMES),
    ("/etc/zfs/zpool.cache", DISKS),
    ("/lib/firmware", BOOT),
    ("/lib/modules", BOOT),
    ("/lost+found", DISKS),
    ("/media", DISKS),
    ("/mnt", DISKS),
    ("/opt/atlas", ATLAS),
    ("/proc", KERNEL),
    ("/run", KERNEL),
    ("/sys", KERNEL),
    ("/tmp", KERNEL),
    ("/unbound", UNBOUND),
    ("/usr/lib/firmware", BOOT),
    ("/usr/lib/modules", BOOT),
    ("/usr/share/atlas", ATLAS),
    ("/var/cache/apt", PACKAGES),
    ("/var/lib/apt", PACKAGES),
    ("/var/lib/atlas", ATLAS),
    ("/var/lib/dbus/machine-id", ID),
    ("/var/lib/dpkg", PACKAGES),
    ("/var/lib/initramfs-tools", BOOT),
    ("/var/lib/systemd/credential.secret", ID),
    ("/var/lib/systemd/random-seed", ID),
    ("/var/lock", KERNEL),
    ("/var/log/atlas", ATLAS),
    ("/var/run", KERNEL),
    ("/var/tmp", KERNEL),
    ("/vmlinuz", BOOT),
    ("/initrd.img", BOOT),
];

/// What an identity must not have besides, each with everything below it.
const NO_IDENTITY: [(&str, &str); 10] = [
    ("/etc/group", ACCOUNTS),
    ("/etc/group-", ACCOUNTS),
    ("/etc/gshadow", ACCOUNTS),
    ("/etc/gshadow-", ACCOUNTS),
    ("/etc/passwd", ACCOUNTS),
    ("/etc/passwd-", ACCOUNTS),
    ("/etc/shadow", ACCOUNTS),
    ("/etc/shadow-", ACCOUNTS),
    ("/etc/subgid", ACCOUNTS),
    ("/etc/subuid", ACCOUNTS),
];

fn no_identity() -> impl Iterator<Item = &'static (&'static str, &'static str)> {
    TABLE.iter().filter(|(_, why)| ![HOST_KEY, NAMES].contains(why)).chain(&NO_IDENTITY)
}

/// Why `path` stays with one machine although it is part of an identity that comes; `None` where nothing speaks against installing it.
pub fn why_no_identity(path: &TreePath) -> Option<&'static str> {
    no_identity().find(|(pattern, _)| relate(pattern, path) == Relation::Within).map(|(_, why)| *why)
}

/// The first pattern of what no identity may have that may have something below `dir`.
pub fn no_identity_below(dir: &TreePath) -> Option<&'static str> {
    no_identity().find(|(pattern, _)| relate(pattern, dir) == Relation::Holds).map(|(pattern, _)| *pattern)
}

/// Holds the paths of an identity against what belongs to one machine.
///
/// # Errors
/// The first path that is, or holds, such a thing.
pub fn check_identity(ident: &PathList) -> Result<(), Reserved> {
    let refused = |path: &TreePath| {
        let holds = |pattern| format!("it holds {pattern}, which belongs to one machine; list what is meant in it");
        why_no_identity(path).map(str::to_owned).or_else(|| no_identity_below(path).map(holds))
    };
    match ident.paths().iter().find_map(|path| refused(path).map(|why| (path, why))) {
        Some((path, why)) => Err(Reserved { path: path.clone(), cannot: "cannot be part of an identity", why }),
        None => Ok(()),
    }
}

/// Why `path` stays with one machine; `None` where nothing speaks against carrying it.
pub fn why(path: &TreePath) -> Option<&'static str> {
    if is_test_data(path) {
        return None;
    }
    TABLE.iter().find(|(pattern, _)| relate(pattern, path) == Relation::Within).map(|(_, why)| *why)
}

/// Whether it is the Verifier's own test data within client data: the one thing below `/unbound` that every server has [418].
fn is_test_data(path: &TreePath) -> bool {
    let mut above = path.relative().iter();
    (above.next(), above.next().is_some_and(|name| name != "SID_DATA")) == (Some("unbound".as_ref()), true)
        && crate::verify::is_test_data(path)
}

/// The first pattern of the table that may have something below `dir`.
pub fn below(dir: &TreePath) -> Option<&'static str> {
    TABLE.iter().find(|(pattern, _)| relate(pattern, dir) == Relation::Holds).map(|(pattern, _)| *pattern)
}

/// The line of a list that must not be there, and why.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{path} {cannot}: {why}")]
pub struct Reserved {
    /// The listed path.
    pub path: TreePath,
    /// What it cannot be.
    cannot: &'static str,
    /// The reason.
    pub why: String,
}

/// Holds the paths that are to be the same on every server against the table, and against those that make one server's identity.
///
/// # Errors
/// The first path that must not be listed.
pub fn check(sync: &PathList, ident: &PathList) -> Result<(), Reserved> {
    let own = "it is part of the identity (IdentFilePaths), which each server keeps for itself";
    let refused = |path: &TreePath| why(path).or_else(|| ident.covers(path).then_some(own));
    match sync.paths().iter().find_map(|path| refused(path).map(|why| (path, why))) {
        Some((path, why)) => {
            Err(Reserved { path: path.clone(), cannot: "cannot be the same on every server", why: why.into() })
        }
        None => Ok(()),
    }
}

#[derive(PartialEq, Eq)]
enum Relation {
    /// The path is what the pattern names, or lies below it.
    Within,
    /// The pattern names something below the path.
    Holds,
    Apart,
}

fn relate(pattern: &str, path: &TreePath) -> Relation {
    let (pattern, path) = (pattern.as_bytes(), path.as_path().as_os_str().as_bytes());
    // This is asked of every path of a Manifest, and nearly all pairs differ in their first letters, and the others before the first `*`.
    if pattern.get(1) != path.get(1) {
        return Relation::Apart;
    }
    let fixed = pattern.iter().position(|b| *b == b'*').unwrap_or(pattern.len()).min(path.len());
    if pattern[..fixed] != path[..fixed] {
        return Relation::Apart;
    }
    let mut components = path.split(|b| *b == b'/');
    for wanted in pattern.split(|b| *b == b'/') {
        match components.next() {
            None => return Relation::Holds,
            Some(is) if !component_fits(wanted, is) => return Relation::Apart,
            Some(_) => {}
        }
    }
    Relation::Within
}

fn component_fits(pattern: &[u8], name: &[u8]) -> bool {
    match pattern.iter().position(|b| *b == b'*') {
        None => pattern == name,
        Some(star) => {
            let (start, rest) = (&pattern[..star], &pattern[star + 1..]);
            name.starts_with(start) && (start.len()..=name.len()).any(|at| component_fits(rest, &name[at..]))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(text: &str) -> TreePath {
        TreePath::parse(text).unwrap()
    }

    #[test]
    fn what_belongs_to_one_machine_is_named_with_its_reason() {
        for (text, expected) in [
            ("/etc/fstab", DISKS),
            ("/etc/ssh/ssh_host_ed25519_key.pub", HOST_KEY),
            ("/etc/udev/rules.d/70-persistent-net.rules", NAMES),
            ("/boot/grub/grub.cfg", BOOT),
            ("/opt/atlas/EnvID", ATLAS),
            ("/unbound/SID_DATA/MasterConfig", UNBOUND),
            ("/unbound/SID_DATA/.atlas-verify", UNBOUND),
            ("/unbound/www/index.html", UNBOUND),
            ("/unbound/.atlas-verify/www/index.html", UNBOUND),
        ] {
            assert_eq!(why(&path(text)), Some(expected), "{text}");
        }
        for text in [
            "/unbound/www/.atlas-verify.html",
            "/unbound/share/.atlas-verify/x",
            "/etc/fstab.d",
            "/etc/ssh/sshd_config",
            "/etc/nginx",
            "/etc",
            "/etc/udev/rules.d/63-x.rules",
            "/bootx",
        ] {
            assert_eq!(why(&path(text)), None, "{text}");
        }
    }

    #[test]
    fn a_directory_knows_what_it_must_not_carry() {
        assert_eq!(below(&path("/etc/ssh")), Some("/etc/ssh/ssh_host_*"));
        assert_eq!(below(&path("/etc/nginx")), None);
        assert!(below(&path("/etc")).is_some() && below(&path("/etc/fstab")).is_none());
    }

    #[test]
    fn a_line_that_names_the_hardware_or_the_identity_is_refused() {
        let list = |text: &str| PathList::parse(text.as_bytes()).unwrap();
        assert_eq!(check(&list("/etc/nginx\n/etc\n"), &list("/etc/hostname\n")), Ok(()));
        let refused = check(&list("/etc/nginx\n/etc/fstab\n"), &PathList::default()).unwrap_err();
        assert!(refused.to_string().starts_with("/etc/fstab cannot be the same on every server: it names the disks"));
        let refused =
            check(&list("/etc/systemd/network/10-lan.network\n"), &list("/etc/systemd/network\n")).unwrap_err();
        assert!(refused.why.contains("IdentFilePaths"));
    }

    #[test]
    fn an_identity_has_nothing_that_belongs_to_one_machine_and_no_directory_that_holds_it() {
        let of = |text: &str| check_identity(&[path(text)].into_iter().collect());
        for text in [
            "/opt/atlas",
            "/opt/atlas/EnvID",
            "/opt",
            "/etc/fstab",
            "/etc/machine-id",
            "/etc/mdadm/mdadm.conf",
            "/etc/initramfs-tools",
            "/etc/shadow",
            "/etc/passwd",
            "/boot",
            "/unbound/www",
            "/etc",
            "/var/lib",
        ] {
            let refused = of(text).unwrap_err();
            assert!(refused.to_string().starts_with(&format!("{text} cannot be part of an identity: ")), "{refused}");
        }
        for text in [
            "/etc/hostname",
            "/etc/hosts",
            "/etc/network/interfaces",
            "/etc/systemd/network",
            "/etc/ssh",
            "/etc/ssh/ssh_host_rsa_key",
            "/etc/udev/rules.d",
            "/var/lib/connman",
        ] {
            assert_eq!(of(text), Ok(()), "{text}");
        }
        assert!(of("/etc").unwrap_err().why.contains("it holds /etc/"));
    }

    #[test]
    fn every_pattern_is_a_path_and_stands_once() {
        let all: Vec<_> = TABLE.iter().chain(&NO_IDENTITY).collect();
        for (index, (pattern, _)) in all.iter().enumerate() {
            assert_eq!(path(pattern).to_string(), *pattern);
            assert!(all[..index].iter().all(|(other, _)| other != pattern), "{pattern}");
        }
    }
}
