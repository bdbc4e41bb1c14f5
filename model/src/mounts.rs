//! Where file systems are mounted, or would be: what is listed as identity must lie on the root file system, which alone is there early at boot.
//!
//! Mount points count, not the numbers of devices: subvolumes of btrfs that are not mounted separately have numbers of their own and are there early,
//! and a bind mount of the root file system has its number and is not.
//!
//! ```text
//! /proc/self/mountinfo   36 35 98:0 /root /mount/point rw,noatime - ext4 /dev/sda1 rw     automounts too: autofs
//! /etc/fstab             UUID=… /mount/point ext4 defaults 0 2                            also what is not mounted now
//! *.mount                Where=/mount/point                                               units of an administrator
//! ```

use crate::TreePath;
use std::path::{Path, PathBuf};

/// A place where another file system is, or is to be.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct MountPoint {
    /// Where.
    pub at: PathBuf,
    /// Who says so.
    pub by: Witness,
}

/// Who knows of a mount point.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Witness {
    /// It is mounted now.
    Kernel,
    /// A line of /etc/fstab.
    Fstab,
    /// A unit of systemd in /etc.
    Unit,
}

impl std::fmt::Display for MountPoint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let at = self.at.display();
        match self.by {
            Witness::Kernel => write!(f, "another file system is mounted at {at}"),
            Witness::Fstab => write!(f, "/etc/fstab mounts another file system at {at}"),
            Witness::Unit => write!(f, "a mount unit mounts another file system at {at}"),
        }
    }
}

/// The mount points of a server, that of its root left out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MountPoints(Vec<MountPoint>);

impl MountPoints {
    /// Reads mountinfo, fstab and mount units of the server whose root is at `root` for the one who reads.
    pub fn parse<'t>(
        root: &Path,
        mountinfo: &str,
        fstab: &str,
        units: impl IntoIterator<Item = &'t str>,
    ) -> MountPoints {
        let mounted = mountinfo.lines().filter_map(|line| line.split(' ').nth(4)).map(unescape);
        let below = mounted.filter_map(|at| Some(Path::new("/").join(Path::new(&at).strip_prefix(root).ok()?)));
        let listed = fstab.lines().filter_map(|line| {
            let line = line.trim_start();
            if line.starts_with('#') { None } else { line.split_whitespace().nth(1) }
        });
        let of_units = units.into_iter().flat_map(str::lines).filter_map(|line| line.trim().strip_prefix("Where="));
        let mut points: Vec<MountPoint> = below
            .map(|at| (at, Witness::Kernel))
            .chain(listed.map(|at| (PathBuf::from(unescape(at)), Witness::Fstab)))
            .chain(of_units.map(|at| (PathBuf::from(at.trim()), Witness::Unit)))
            // A slash at the end is no name; `none` and `swap` are no places.
            .map(|(at, by)| MountPoint { at: at.components().collect(), by })
            .filter(|point| point.at.is_absolute() && point.at != Path::new("/"))
            .collect();
        points.sort_unstable();
        points.dedup();
        MountPoints(points)
    }

    /// The mount point that `path` lies at or below.
    pub fn around(&self, path: &Path) -> Option<&MountPoint> {
        self.0
            .iter()
            .filter(|point| path.starts_with(&point.at))
            .min_by_key(|point| std::cmp::Reverse(point.at.as_os_str().len()))
    }

    /// Who mounts, or is to mount, a file system at `path` itself.
    pub fn all_at(&self, path: &Path) -> impl Iterator<Item = &MountPoint> {
        self.0.iter().filter(move |point| point.at == path)
    }

    /// The first of them.
    pub fn at(&self, path: &Path) -> Option<&MountPoint> {
        self.all_at(path).next()
    }

    /// The mount point because of which `path`, or a part of it, is not on the root file system.
    pub fn of(&self, path: &TreePath) -> Option<&MountPoint> {
        let path = Path::new("/").join(path.relative());
        self.around(&path).or_else(|| self.0.iter().find(|point| point.at.starts_with(&path)))
    }
}

/// The type of the file system that is mounted at `root` itself, for the one who reads mountinfo; none where nothing is.
pub fn type_of_root(root: &Path, mountinfo: &str) -> Option<String> {
    // The last one covers those before it.
    mountinfo.lines().rev().find_map(|line| {
        let (fields, of_file_system) = line.split_once(" - ")?;
        let at = unescape(fields.split(' ').nth(4)?);
        (Path::new(&at) == root).then(|| of_file_system.split(' ').next().map(str::to_owned))?
    })
}

/// Whether what is written to a file system of this type may be gone with the next boot. Of an overlay nobody can tell from the outside where its
/// changes go, so that it counts as one.
pub fn is_volatile(file_system: &str) -> bool {
    ["overlay", "aufs", "tmpfs", "ramfs"].contains(&file_system)
}

/// `\040` stands for a space, `\011` for a tab, `\012` for a line break, `\134` for a backslash.
fn unescape(text: &str) -> String {
    let mut parts = text.split('\\');
    let mut result = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let code = part.get(..3).and_then(|digits| u8::from_str_radix(digits, 8).ok()).filter(u8::is_ascii);
        match code {
            Some(code) => {
                result.push(char::from(code));
                result.push_str(&part[3..]);
            }
            None => {
                result.push('\\');
                result.push_str(part);
            }
        }
    }
    result
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOUNTINFO: &str = "\
22 1 254:1 / / rw,relatime shared:1 - ext4 /dev/vda1 rw
23 22 0:21 / /proc rw,nosuid - proc proc rw
40 22 254:127 / /unbound rw,noatime - ext4 /dev/md127 rw
41 22 0:40 / /srv/with\\040space rw - nfs4 server:/ rw
42 22 0:41 / /net rw,relatime - autofs systemd-1 rw,fd=40
43 22 254:1 /srv/etc /etc/bakery rw - ext4 /dev/vda1 rw
";

    fn found(points: &MountPoints, path: &str) -> Option<String> {
        points.of(&TreePath::parse(path).unwrap()).map(|point| format!("{:?} {}", point.by, point.at.display()))
    }

    #[test]
    fn what_lies_on_another_file_system_or_holds_one_is_found_with_its_mount_point() {
        let fstab = "# /dev/x /etc ext4\nUUID=a / ext4 defaults 0 1\nUUID=b /var/ ext4 noauto 0 2\n UUID=c none swap sw 0 0\n/dev/d /home ext4\n";
        let unit = "[Mount]\nWhat=/dev/e\nWhere=/opt/site\n";
        let points = MountPoints::parse(Path::new("/"), MOUNTINFO, fstab, [unit]);
        for (path, expected) in [
            ("/etc/hostname", None),
            ("/variety", None),
            ("/etc/bakery/key", Some("Kernel /etc/bakery")),
            ("/etc", Some("Kernel /etc/bakery")),
            ("/srv/with space/x", Some("Kernel /srv/with space")),
            ("/net/x", Some("Kernel /net")),
            ("/var", Some("Fstab /var")),
            ("/var/lib/krb5", Some("Fstab /var")),
            ("/home/baker/.ssh", Some("Fstab /home")),
            ("/opt/site/key", Some("Unit /opt/site")),
            ("/unbound/x", Some("Kernel /unbound")),
        ] {
            assert_eq!(found(&points, path).as_deref(), expected, "{path}");
        }
    }

    #[test]
    fn a_root_that_may_forget_is_told_from_one_that_keeps_what_is_written() {
        let initramfs = "1 0 0:2 / / rw - rootfs rootfs rw\n25 1 254:1 / /root ro shared:1 - ext4 /dev/vda1 ro\n";
        let over = "26 25 0:30 / /root rw - overlay overlayroot rw,lowerdir=/media/root-ro\n";
        let root = Path::new("/root");
        assert_eq!(type_of_root(root, initramfs).as_deref(), Some("ext4"));
        assert_eq!(type_of_root(root, &format!("{initramfs}{over}")).as_deref(), Some("overlay"));
        assert_eq!(type_of_root(Path::new("/srv"), MOUNTINFO), None);
        assert!(is_volatile("overlay") && is_volatile("tmpfs") && !is_volatile("ext4") && !is_volatile("btrfs"));
    }

    #[test]
    fn in_the_initramfs_the_root_is_a_mount_point_itself() {
        let mountinfo = "\
1 0 0:2 / / rw - rootfs rootfs rw
25 1 254:1 / /root ro,relatime - ext4 /dev/vda1 ro
26 25 254:2 / /root/usr ro - ext4 /dev/vda2 ro
27 1 0:30 / /run rw - tmpfs tmpfs rw
";
        let points = MountPoints::parse(Path::new("/root"), mountinfo, "LABEL=v /var xfs\n", []);
        assert_eq!(found(&points, "/usr/local/etc/x").as_deref(), Some("Kernel /usr"));
        assert_eq!(found(&points, "/var/x").as_deref(), Some("Fstab /var"));
        assert_eq!(found(&points, "/etc/hostname"), None);
        assert_eq!(found(&points, "/run/x"), None, "that of the initramfs");
    }

    #[test]
    fn the_root_on_lvm_luks_btrfs_or_an_overlay_is_the_root_and_its_subvolumes_count_where_they_are_mounted() {
        for (root, at, expected) in [
            ("1 0 253:0 / / rw - ext4 /dev/mapper/vg-root rw", "/etc/hostname", None),
            ("1 0 253:1 / / rw - ext4 /dev/mapper/luks rw", "/etc/hostname", None),
            ("1 0 0:28 / / rw - overlay overlay rw,lowerdir=/media/root-ro", "/etc/hostname", None),
            // A subvolume that is only a directory of the root: no mount point, although its device number differs.
            ("1 0 0:25 /@rootfs / rw - btrfs /dev/vda1 rw,subvol=/@rootfs", "/var/lib/x", None),
            (
                "1 0 0:25 /@rootfs / rw - btrfs /dev/vda1 rw\n2 1 0:25 /@var /var rw - btrfs /dev/vda1 rw,subvol=/@var",
                "/var/lib/x",
                Some("Kernel /var"),
            ),
            (
                "1 0 254:1 / / rw - ext4 /dev/vda1 rw\n2 1 254:2 / /usr ro - ext4 /dev/vda2 ro",
                "/usr/lib/x",
                Some("Kernel /usr"),
            ),
            ("1 0 254:1 / / rw - ext4 /dev/vda1 rw\n2 1 254:2 / /usr ro - ext4 /dev/vda2 ro", "/etc/x", None),
        ] {
            assert_eq!(found(&MountPoints::parse(Path::new("/"), root, "", []), at).as_deref(), expected, "{root}");
        }
    }

    #[test]
    fn what_is_no_mountinfo_or_fstab_has_no_mount_points() {
        for text in ["", "\\", "a b c d", "/dev/x\n\\04", "\u{0}\n\n#"] {
            assert_eq!(MountPoints::parse(Path::new("/"), text, text, []), MountPoints::default(), "{text:?}");
        }
    }
}
