//! Disks: every file system has room and can be written, and no disk foresees its end [441].
//!
//! ```text
//! /proc/self/mountinfo, /etc/fstab   what is mounted, what should be, and what is read-only on purpose
//! /sys/fs/ext4/vda1/errors_count     errors that the file system has noted since its last check
//! smartctl --json -H -A /dev/sda     where a disk has such a thing; a virtual one has not, and that is no fault
//! ```

use super::smart;
use crate::{
    here::{self, Faults},
    service::{Service, Target, Tree},
};
use anyhow::Context;
use atlas_model::verify::{Fault, Profile, Verdict, Worse};
use nix::sys::statvfs::statvfs;
use procfs::{
    FromRead,
    process::{MountInfo, MountInfos},
};
use std::{collections::BTreeSet, path::Path};

pub(super) const SERVICE: Service = Service {
    name: "disk",
    about: "every file system has room and can be written, and no disk foresees its end",
    interval: 60,
    deadline: 30,
    find: |_| Ok(here::found()),
    verify,
};

/// The kinds of file systems that lie on this server's own disks and are written to.
const REAL: [&str; 11] = ["ext2", "ext3", "ext4", "xfs", "btrfs", "vfat", "f2fs", "jfs", "reiserfs", "bcachefs", "zfs"];
/// Kinds that lie elsewhere, or are made of something else: the network, memory, other directories, a file. Whoever uses them has an empty
/// directory without them.
const ELSEWHERE: [&str; 27] = [
    "nfs",
    "nfs4",
    "cifs",
    "smb3",
    "ceph",
    "glusterfs",
    "sshfs",
    "davfs",
    "s3fs",
    "afs",
    "9p",
    "virtiofs",
    "ocfs2",
    "gfs2",
    "lustre",
    "fuse",
    "mergerfs",
    "bindfs",
    "overlay",
    "aufs",
    "tmpfs",
    "iso9660",
    "udf",
    "squashfs",
    "erofs",
    "exfat",
    "ntfs",
];
/// Where people mount what they look at for a moment.
const PASSING: [&str; 3] = ["/media/", "/mnt/", "/run/"];
/// Free space and free inodes, in percent: slow, unacceptable.
const ROOM: (f64, f64) = (10.0, 3.0);

/// Room in a file system, in percent of what there is for whom is not root.
struct Room {
    space: f64,
    /// Nothing where the file system makes inodes as they are needed.
    inodes: Option<f64>,
}

/// A line of fstab.
struct Wanted {
    at: String,
    kind: String,
    options: Vec<String>,
}

fn verify(target: &Target) -> anyhow::Result<Profile> {
    let root = &target.root;
    let mut faults = Faults::default();
    let mounts = MountInfos::from_file(here::below(root, "/proc/self/mountinfo")).context("read what is mounted")?;
    let mut wanted = fstab(&here::text(root, "/etc/fstab").unwrap_or_default());
    // The kernel says where a mount is without the links on the way there.
    let tree = Tree::open(root)?;
    wanted.iter_mut().for_each(|wanted| wanted.at = tree.way(&wanted.at).pop().unwrap_or_default());
    let mut seen = BTreeSet::new();
    let mut looked_at = Vec::new();
    for mount in mounts.iter().filter(|mount| REAL.contains(&mount.fs_type.as_str())) {
        // The same file system at another place is not another one.
        if seen.insert(mount.majmin.clone()) {
            let at = unescaped(&mount.mount_point.to_string_lossy());
            judge(target, mount, &at, &wanted, &mut faults)?;
            looked_at.push(at);
        }
    }
    for missing in wanted.iter().filter(|wanted| wanted.is_expected()) {
        if !mounts.iter().any(|mount| unescaped(&mount.mount_point.to_string_lossy()) == missing.at) {
            let what = format!("{} is in /etc/fstab and not mounted", missing.at);
            faults.unacceptable(what, format!("mount {}; journalctl -b -u '*.mount'", missing.at));
        }
    }
    noted_errors(root, &mut faults);
    let smart = smart::look(target, &mut faults)?;
    Ok(faults.profile(format!("room to write on {}; {smart}", looked_at.join(", "))))
}

fn judge(target: &Target, mount: &MountInfo, at: &str, wanted: &[Wanted], faults: &mut Faults) -> anyhow::Result<()> {
    // Of the file system itself: a mount of it may be read-only for this program alone.
    let is_read_only = mount.super_options.contains_key("ro");
    let on_purpose = wanted.iter().any(|wanted| wanted.at == at && wanted.options.iter().any(|option| option == "ro"));
    if on_purpose || PASSING.iter().any(|place| at.starts_with(place)) {
        return Ok(());
    }
    if is_read_only {
        let device = mount.mount_source.as_deref().unwrap_or("its device");
        let what = format!("{at} ({device}) is read-only, which nobody asked for: an error of its disk, most often");
        let hint = format!(
            "dmesg | grep -i -e 'I/O error' -e remount; check the disk, then fsck {device} while it is not mounted"
        );
        faults.add(Fault::new(Verdict::Unacceptable, what, hint).is("read-only", &[]));
    }
    match statvfs(&here::below(&target.root, at)) {
        Ok(stat) => room(target, at, &Room::of(&stat), faults),
        Err(errno) => {
            let hint = format!("ls {at}; dmesg | tail -50");
            faults.unacceptable(format!("the file system at {at} does not answer: {}", errno.desc()), hint);
            Ok(())
        }
    }
}

impl Room {
    fn of(stat: &nix::sys::statvfs::Statvfs) -> Room {
        let percent = |part: u64, whole: u64| part as f64 * 100.0 / whole.max(1) as f64;
        let used = stat.blocks().saturating_sub(stat.blocks_free());
        // As df has it: what is kept for root is neither used nor free.
        let space = percent(stat.blocks_available(), used.saturating_add(stat.blocks_available()));
        Room { space, inodes: (stat.files() > 0).then(|| percent(stat.files_free(), stat.files())) }
    }
}

fn room(target: &Target, at: &str, room: &Room, faults: &mut Faults) -> anyhow::Result<()> {
    let measure = |what: &str, value: f64| {
        let usual = (
            Some(target.number(&format!("{what}-slow"), ROOM.0)?),
            Some(target.number(&format!("{what}-unacceptable"), ROOM.1)?),
        );
        let name = format!("{what}{}", at.replace(|c: char| c.is_whitespace() || c == '=', "_"));
        target.measure(&name, (value * 10.0).round() / 10.0, "%", usual, Worse::Lower)
    };
    let hint = format!("du -xh {at} | sort -h | tail -20; make room there");
    faults.measure_of("full", measure("space", room.space)?, &format!("{at} is nearly full, free space"), &hint);
    if let Some(inodes) = room.inodes {
        let hint = format!("du -x --inodes {at} | sort -n | tail -20; remove files there");
        let what = format!("{at} can hardly take more files, free inodes");
        faults.measure_of("full", measure("inodes", inodes)?, &what, &hint);
    }
    Ok(())
}

/// What ext4 noted stays noted until somebody checks the file system.
fn noted_errors(root: &Path, faults: &mut Faults) {
    for device in here::names(root, "/sys/fs/ext4") {
        let errors = here::value(root, &format!("/sys/fs/ext4/{device}/errors_count")).unwrap_or(0.0);
        if errors > 0.0 {
            faults.slow(
                format!("the file system on {device} has noted {errors} errors since it was last checked"),
                format!("dumpe2fs -h /dev/{device} | grep -i error; fsck it while it is not mounted"),
            );
        }
    }
}

impl Wanted {
    /// Whether it should be mounted all the time.
    fn is_expected(&self) -> bool {
        const NOT_ALWAYS: [&str; 5] = ["noauto", "nofail", "user", "x-systemd.automount", "comment=systemd.automount"];
        let has = |words: &[&str]| self.options.iter().any(|option| words.contains(&option.as_str()));
        let is_fuse = |kind: &str| kind.starts_with("fuse.") || kind.starts_with("ntfs");
        let is_real = self
            .kind
            .split(',')
            .any(|kind| REAL.contains(&kind) || ELSEWHERE.contains(&kind) || is_fuse(kind) || kind == "auto");
        // A directory at another place as well is of no kind of its own.
        (is_real || has(&["bind", "rbind"])) && !has(&NOT_ALWAYS)
    }
}

/// Where `/etc/fstab` mounts something that is not mounted now: what is written there lies below it when it is.
pub(crate) fn unmounted(root: &Path) -> Vec<String> {
    let (Ok(mounts), Ok(tree)) = (MountInfos::from_file(here::below(root, "/proc/self/mountinfo")), Tree::open(root))
    else {
        return vec![];
    };
    let wanted = fstab(&here::text(root, "/etc/fstab").unwrap_or_default()).into_iter();
    let wanted = wanted.map(|wanted| tree.way(&wanted.at).pop().unwrap_or(wanted.at));
    let is_mounted = |at: &str| mounts.iter().any(|mount| unescaped(&mount.mount_point.to_string_lossy()) == at);
    wanted.filter(|at| !is_mounted(at)).collect()
}

fn fstab(text: &str) -> Vec<Wanted> {
    let lines = text.lines().map(str::trim).filter(|line| !line.starts_with('#'));
    lines
        .filter_map(|line| {
            let mut words = line.split_whitespace().skip(1);
            let (at, kind, options) = (words.next()?, words.next()?, words.next().unwrap_or("defaults"));
            at.starts_with('/').then(|| Wanted {
                at: unescaped(if at == "/" { at } else { at.trim_end_matches('/') }),
                kind: kind.into(),
                options: options.split(',').map(str::to_owned).collect(),
            })
        })
        .collect()
}

/// A path as it is, from how mountinfo and fstab write it.
fn unescaped(text: &str) -> String {
    [("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")]
        .iter()
        .fold(text.to_owned(), |text, (escaped, plain)| text.replace(escaped, plain))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::here::testing::Server;

    /// Limits that a test machine keeps, whatever it is like.
    const LENIENT: [(&str, &str); 4] =
        [("space-slow", "0"), ("space-unacceptable", "0"), ("inodes-slow", "0"), ("inodes-unacceptable", "0")];

    fn server(mounts: &str, fstab: &str) -> Server {
        let mut server = Server::new();
        server.options.extend(LENIENT);
        server.write("proc/self/mountinfo", mounts);
        server.write("etc/fstab", fstab);
        server.write("srv/some data/f", "");
        server.write("boot/f", "");
        server
    }

    const ROOT: &str = "25 1 254:1 / / rw,relatime shared:1 - ext4 /dev/vda1 rw,errors=remount-ro\n\
        26 25 0:5 / /proc rw shared:2 - proc proc rw\n\
        27 25 254:1 /x /var/bound ro - ext4 /dev/vda1 rw\n\
        28 25 11:0 / /cd ro - iso9660 /dev/sr0 ro\n";

    #[test]
    fn what_has_room_and_can_be_written_is_well() {
        let well =
            server(ROOT, "UUID=1 / ext4 errors=remount-ro 0 1\n/dev/sr0 /cd iso9660 noauto 0 0\n").is_well(&SERVICE);
        assert!(well.summary.starts_with("room to write on /; "), "{well:?}");
        assert!(well.measures.iter().any(|measure| measure.name == "space/" && measure.value > 0.0));
        let on_purpose = format!("{ROOT}29 25 254:2 / /boot ro - ext4 /dev/vda2 ro\n");
        server(&on_purpose, "UUID=2 /boot ext4 ro 0 2\n").is_well(&SERVICE);
        let passing = format!("{ROOT}29 25 8:1 / /media/stick ro - vfat /dev/sda1 ro\n");
        server(&passing, "").is_well(&SERVICE);
    }

    #[test]
    fn a_file_system_that_went_read_only_is_told() {
        let gone = ROOT.replacen("ext4 /dev/vda1 rw,", "ext4 /dev/vda1 ro,", 1);
        assert_ne!(gone, ROOT);
        server(&gone, "UUID=1 / ext4 errors=remount-ro 0 1\n").says(
            &SERVICE,
            Verdict::Unacceptable,
            &["/ (/dev/vda1)", "read-only"],
        );
        server(&gone, "UUID=1 / ext4 ro 0 1\n").is_well(&SERVICE);
    }

    #[test]
    fn what_is_nearly_full_is_told_by_what_is_short() {
        let mut full = server(ROOT, "");
        full.options = vec![("space-slow", "101"), ("inodes-slow", "0"), ("inodes-unacceptable", "0")];
        full.says(&SERVICE, Verdict::Slow, &["/ is nearly full", "less than 101"]);
        full.options.push(("space-unacceptable", "101"));
        full.says(&SERVICE, Verdict::Unacceptable, &["/ is nearly full"]);
        let mut faults = Faults::default();
        let target = Server::new().target();
        room(&target, "/srv/mail", &Room { space: 50.0, inodes: Some(2.0) }, &mut faults).unwrap();
        let profile = faults.profile("well");
        assert_eq!(profile.verdict, Verdict::Unacceptable);
        assert_eq!(profile.summary, "/srv/mail can hardly take more files, free inodes: 2 %, less than 3");
    }

    #[test]
    fn what_fstab_names_and_is_not_mounted_is_told() {
        let fstab = "# a comment\nLABEL=data /srv/some\\040data ext4 defaults 0 2\nUUID=3 none swap sw 0 0\n/dev/x /opt/x ext4 noauto 0 0\n";
        server(ROOT, fstab).says(&SERVICE, Verdict::Unacceptable, &["/srv/some data is in /etc/fstab"]);
        let mounted = format!("{ROOT}29 25 254:3 / /srv/some\\040data rw - ext4 /dev/vda3 rw\n");
        server(&mounted, fstab).is_well(&SERVICE);
    }

    #[test]
    fn what_lies_in_the_network_or_in_memory_and_is_not_mounted_is_told() {
        for line in [
            "server:/export/home /srv/x nfs4 rw,hard 0 0",
            "server:/export/home /srv/x nfs rw,bg,_netdev 0 0",
            "//server/share /srv/x cifs credentials=/root/c 0 0",
            "user@server:/dir /srv/x fuse.sshfs _netdev 0 0",
            "sshfs#user@server:/dir /srv/x fuse defaults 0 0",
            "/srv/d* /srv/x mergerfs defaults 0 0",
            "overlay /srv/x overlay lowerdir=/a,upperdir=/b,workdir=/c 0 0",
            "tmpfs /srv/x tmpfs size=1G 0 0",
            "/srv/cd.iso /srv/x iso9660 loop,ro 0 0",
        ] {
            server(ROOT, line).says(&SERVICE, Verdict::Unacceptable, &["/srv/x is in /etc/fstab and not mounted"]);
            let mounted = format!("{ROOT}29 25 0:50 / /srv/x rw - nfs4 server:/export/home rw\n");
            server(&mounted, line).is_well(&SERVICE);
        }
        for line in [
            "server:/export/home /srv/x nfs4 rw,nofail 0 0",
            "server:/export/home /srv/x nfs4 noauto,x-systemd.automount 0 0",
            "/dev/sr0 /media/cdrom0 udf,iso9660 user,noauto 0 0",
            "/proc /srv/x proc defaults 0 0",
            "none none swap sw 0 0",
        ] {
            server(ROOT, line).is_well(&SERVICE);
        }
    }

    #[test]
    fn what_fstab_names_through_links_is_mounted_where_they_lead_and_a_bind_has_to_be_there() {
        let fstab = "/dev/x /home/ ext4 defaults 0 2\n/dev/y /data ext3,ext4 ro 0 2\n/srv/in /srv//out none bind 0 0\n/dev/z /auto ext4 noauto,x-systemd.automount 0 0\n";
        let home = format!(
            "{ROOT}29 25 254:3 / /srv/home rw - ext4 /dev/vda3 rw\n30 25 254:4 / /srv/data ro - ext4 /dev/vda4 ro\n"
        );
        let all = format!("{home}31 25 254:1 /srv/in /srv/out rw - ext4 /dev/vda1 rw\n");
        let linked = |mounts: &str| {
            let server = server(mounts, fstab);
            server.link("/srv/home", "home");
            server.link("srv/data", "data");
            server.write("srv/home/f", "");
            server.write("srv/data/f", "");
            server
        };
        linked(&all).is_well(&SERVICE);
        linked(&home).says(&SERVICE, Verdict::Unacceptable, &["/srv/out is in /etc/fstab and not mounted"]);
        linked(ROOT).says(
            &SERVICE,
            Verdict::Unacceptable,
            &["/srv/home is in /etc/fstab", "/srv/data is in /etc/fstab"],
        );
    }

    #[test]
    fn a_file_system_that_noted_errors_or_does_not_answer_is_told() {
        let noted = server(ROOT, "");
        noted.write("sys/fs/ext4/vda1/errors_count", "0\n");
        noted.is_well(&SERVICE);
        noted.write("sys/fs/ext4/vda1/errors_count", "4\n");
        noted.says(&SERVICE, Verdict::Slow, &["vda1", "4 errors"]);
        let silent = format!("{ROOT}29 25 254:4 / /gone rw - xfs /dev/vdd rw\n");
        server(&silent, "").says(&SERVICE, Verdict::Unacceptable, &["/gone does not answer"]);
    }
}
