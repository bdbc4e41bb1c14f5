//! From the kernel's drivers to the file systems of fstab: what an initramfs that is built already does not show.

use crate::{
    cold_boot,
    here::{self, Faults},
    service::Target,
};
use atlas_sid::layout::UNBOUND_MOUNT;
use std::{collections::BTreeMap, os::unix::fs::PermissionsExt, path::Path};

/// Without it there is neither a root nor an Unbound file system.
const EXT4: &str = "ext4";
const RAID1: &str = "raid1";
/// What of the package is asked for when an initramfs is made, at the boot, or by udev.
const OF_BOOT: [&str; 5] =
    ["usr/share/initramfs-tools/", "usr/lib/dracut/", "usr/lib/udev/", "usr/lib/systemd/", "etc/initramfs-tools/"];
/// What is run: initramfs-tools and dracut leave out, without a word, what is not executable.
const RUN: [&str; 3] = ["initramfs-tools/hooks/", "initramfs-tools/scripts/", "usr/lib/dracut/modules.d/"];
const REBUILD: &str = "apt-get install --reinstall atlas; update-initramfs -u -k all";
/// The words that begin an entry of mdadm.conf; mdadm takes any beginning of three letters.
const MDADM: [&str; 13] = [
    "array",
    "device",
    "partition",
    "mailaddr",
    "mailfrom",
    "program",
    "create",
    "homehost",
    "homecluster",
    "auto",
    "policy",
    "sysfs",
    "monitordelay",
];
/// Kinds of fstab whose source is no device.
const WITHOUT_DEVICE: [&str; 12] =
    ["tmpfs", "proc", "sysfs", "devpts", "nfs", "nfs4", "cifs", "overlay", "bind", "none", "9p", "fuse.sshfs"];

/// Whether the kernel that boots by default can load what md and the Unbound file system need.
pub(super) fn modules(root: &Path, faults: &mut Faults) {
    let Some(kernel) = cold_boot::kernel(root).and_then(|facts| facts.get("default").cloned()) else { return };
    let dir = format!("lib/modules/{kernel}");
    // That there are none at all is told by `services` and the comparison with PRI.
    let Some(dep) = read(root, &format!("{dir}/modules.dep")) else { return };
    let builtin = read(root, &format!("{dir}/modules.builtin")).unwrap_or_default();
    let is_mirror = here::text(root, "proc/mdstat").is_some_and(|text| text.contains(" raid1 "));
    let wanted = [Some(EXT4), is_mirror.then_some(RAID1)];
    for module in wanted.into_iter().flatten() {
        let is_it = |line: &&str| {
            let file = line.split(':').next().unwrap_or_default().rsplit('/').next().unwrap_or_default();
            file.split('.').next() == Some(module)
        };
        if builtin.lines().any(|line| is_it(&line)) {
            continue;
        }
        let file = dep.lines().find(is_it).and_then(|line| line.split(':').next());
        let hint = format!("apt-get install --reinstall linux-image-{kernel}; depmod {kernel}");
        match file {
            None => faults.bad(
                "driver",
                format!("the kernel {kernel} has no module {module}, which the Unbound set needs"),
                hint,
            ),
            Some(file) if !here::is_there(root, &format!("{dir}/{file}")) => {
                let what = format!(
                    "/{dir}/{file} is not there: the next initramfs would lack {module}, which the Unbound set needs"
                );
                faults.bad("driver", what, hint);
            }
            Some(_) => kept_from(root, module, faults),
        }
    }
}

/// An index that may be larger than what the kernel says.
fn read(root: &Path, path: &str) -> Option<String> {
    std::fs::read(here::below(root, path)).ok().map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
}

/// A line of modprobe's configuration that keeps a module from being loaded.
fn kept_from(root: &Path, module: &str, faults: &mut Faults) {
    for dir in ["etc/modprobe.d", "run/modprobe.d", "usr/lib/modprobe.d", "lib/modprobe.d"] {
        for name in here::names(root, dir).into_iter().filter(|name| name.ends_with(".conf")) {
            let path = format!("{dir}/{name}");
            let text = here::text(root, &path).unwrap_or_default();
            let keeps = |line: &&str| match line.split_whitespace().collect::<Vec<_>>()[..] {
                ["blacklist", name] => name == module,
                ["install", name, program, ..] => {
                    name == module && ["true", "false"].iter().any(|end| program.ends_with(end))
                }
                _ => false,
            };
            if let Some(line) = text.lines().map(str::trim).find(keeps) {
                let what = format!(
                    "/{path} keeps {module} from being loaded ({line}): the Unbound set needs it at the next boot"
                );
                faults.bad(
                    "driver",
                    what,
                    format!("take that line out; update-initramfs -u -k all; modprobe {module}"),
                );
            }
        }
    }
}

/// Files of ATLAS's package by which an initramfs is made and a boot goes.
pub(super) fn packaged(target: &Target, faults: &mut Faults) {
    let root = &target.root;
    let Some(list) = here::text(root, "var/lib/dpkg/info/atlas.list") else { return };
    let of_boot: Vec<&str> = list
        .lines()
        .map(|line| line.trim_start_matches('/'))
        .filter(|path| OF_BOOT.iter().any(|dir| path.starts_with(dir)))
        .collect();
    let sums = here::text(root, "var/lib/dpkg/info/atlas.md5sums").unwrap_or_default();
    let sums: BTreeMap<&str, &str> =
        sums.lines().filter_map(|line| line.split_once("  ")).map(|(sum, path)| (path, sum)).collect();
    let mut whole = Vec::new();
    for path in of_boot {
        let Ok(meta) = root.join(path).symlink_metadata() else {
            let what = format!("/{path} is not there: the next initramfs, or boot, would be without it");
            faults.bad("hook", what, REBUILD);
            continue;
        };
        let is_run = meta.is_file() && RUN.iter().any(|dir| path.contains(dir));
        if is_run && meta.permissions().mode() & 0o111 == 0 {
            faults.bad(
                "hook",
                format!("/{path} is not executable: the next initramfs would be without it"),
                format!("chmod 755 /{path}"),
            );
        }
        if meta.is_file() && sums.contains_key(path) {
            whole.push(path);
        }
    }
    changed(target, &whole, &sums, faults);
}

/// What was changed by hand, as dpkg's digests show.
fn changed(target: &Target, paths: &[&str], sums: &BTreeMap<&str, &str>, faults: &mut Faults) {
    let files: Vec<String> = paths.iter().map(|path| target.root.join(path).to_string_lossy().into_owned()).collect();
    let args: Vec<&str> = std::iter::once("--").chain(files.iter().map(String::as_str)).collect();
    if files.is_empty() {
        return;
    }
    let Some(Ok(output)) = here::run(&target.root, "md5sum", &args, target.left()) else { return };
    for (line, path) in output.text().lines().zip(paths) {
        if line.split_whitespace().next() != sums.get(path).copied() {
            let what =
                format!("/{path} is not as the package has it: the next initramfs, or boot, may not find the role");
            faults.bad("hook", what, REBUILD);
        }
    }
}

/// A word that mdadm does not know may hide the line that it was meant to be.
pub(super) fn mdadm_conf(root: &Path, faults: &mut Faults) {
    for path in atlas_model::mdadm_conf::PLACES {
        let Some(text) = here::text(root, path) else { continue };
        let entries =
            text.lines().enumerate().filter(|(_, line)| !line.starts_with([' ', '\t', '#']) && !line.trim().is_empty());
        for (at, line) in entries {
            let word = line.split_whitespace().next().unwrap_or_default().to_lowercase();
            let is_known = word.len() >= 3 && MDADM.iter().any(|known| known.starts_with(&word));
            if !is_known {
                let what = format!("/{path}: line {} begins with '{word}', which mdadm does not know", at + 1);
                faults.slow(what, format!("correct the line; update-initramfs -u -k all; man mdadm.conf (/{path})"));
            }
        }
    }
}

/// What fstab names and a boot would wait for in vain.
pub(super) fn fstab(root: &Path, faults: &mut Faults) {
    let text = here::text(root, "etc/fstab").unwrap_or_default();
    for (at, line) in text.lines().enumerate() {
        let words: Vec<&str> = line.split_whitespace().collect();
        if words.is_empty() || line.trim_start().starts_with('#') {
            continue;
        }
        let [source, place, kind, ..] = words[..] else {
            let what = format!("/etc/fstab: line {} has fewer than three words, and mounts nothing", at + 1);
            faults.slow(what, "correct the line; systemctl daemon-reload; findmnt --verify");
            continue;
        };
        let options: Vec<&str> = words.get(3).map_or(vec![], |options| options.split(',').collect());
        let has = |names: &[&str]| options.iter().any(|option| names.contains(option));
        let is_path = has(&["bind", "rbind", "loop"]);
        let is_there = if is_path { path_is_there(root, source) } else { is_there(root, source) };
        if !is_path && WITHOUT_DEVICE.contains(&kind) || has(&["nofail", "noauto"]) || is_there {
            continue;
        }
        // What is mounted when somebody asks for it, or once there is a network, keeps no boot from its end.
        if has(&["x-systemd.automount", "_netdev"]) {
            let what = format!("/etc/fstab: {source}, to be mounted at {place}, is not there");
            faults.slow(what, "blkid; correct the line, or add nofail to its options; findmnt --verify");
            continue;
        }
        // Nothing of a boot requires swap: what needs it waits as long as for any device, and goes on.
        if kind == "swap" {
            let what = format!(
                "/etc/fstab: {source}, for swap, is not there: the next boot would wait 90 s and go on without"
            );
            faults.slow(what, "blkid -t TYPE=swap; correct the line, or mkswap; findmnt --verify");
            continue;
        }
        let what = format!(
            "/etc/fstab: {source}, to be mounted at {place}, is not there: the next boot would wait for it, and end in the emergency shell"
        );
        faults.bad("fstab", what, "blkid; correct the line, or add nofail to its options; findmnt --verify");
    }
}

/// Whether a directory or file that is mounted elsewhere is there; what lies on the Unbound disks is where PRI is.
fn path_is_there(root: &Path, source: &str) -> bool {
    let is_known = source.starts_with('/') && !source.contains('\\');
    !is_known || Path::new(source).starts_with(Path::new("/").join(UNBOUND_MOUNT)) || here::is_there(root, source)
}

/// Whether a device is there, or nobody can tell.
fn is_there(root: &Path, source: &str) -> bool {
    let by =
        [("UUID=", "by-uuid"), ("LABEL=", "by-label"), ("PARTUUID=", "by-partuuid"), ("PARTLABEL=", "by-partlabel")];
    if let Some((name, dir)) = by.iter().find_map(|(tag, dir)| Some((source.strip_prefix(tag)?, dir))) {
        let name = name.trim_matches('"');
        let is_plain = name.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c));
        let dir = format!("dev/disk/{dir}");
        let names = here::names(root, &dir);
        // Links are made by udev; in a tree without them nobody can tell.
        return !is_plain
            || !here::is_there(root, "dev/disk")
            || names.iter().any(|other| other.eq_ignore_ascii_case(name));
    }
    !source.starts_with("/dev/")
        || !here::is_there(root, "dev/disk")
        || root.join(&source[1..]).symlink_metadata().is_ok()
}
