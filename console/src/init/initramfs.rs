//! Which installed kernels would start atlas-boot.
//!
//! Listing an initramfs takes seconds, and this is asked every minute. So what was found well is remembered, by what the file was like then:
//!
//! ```text
//! /run/atlas/initramfs.json      {"format":1,"well":{"initrd.img-6.1.0-32-amd64":"254:1 1234 35127296 1763700000.1 1763700000.1"}}
//! ```
//!
//! It is empty after a boot, every file is looked at anew then; and a lack is never remembered, so that its end is seen at once.

use super::{
    drivers,
    facts::{self, MARKER},
    plan::{Item, Task},
    tool,
};
use anyhow::Context;
use atlas_cli::Hint;
use atlas_host::{durable, tree::Dir};
use atlas_model::cycle::REPORTS;
use serde::{Deserialize, Serialize};
use std::{
    collections::{BTreeMap, BTreeSet},
    ffi::OsStr,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    time::Duration,
};

/// Where atlas-boot lies, in the root file system as in an initramfs.
pub const ATLAS_BOOT: &str = "usr/lib/atlas/atlas-boot";

/// Making the initramfs of every kernel takes minutes on a slow machine.
const UPDATE_DEADLINE: Duration = Duration::from_secs(3600);
const LIST_DEADLINE: Duration = Duration::from_secs(300);
/// What is remembered, in [`REPORTS`].
const REMEMBERED: &str = "initramfs.json";
const MAX_REMEMBERED: usize = 64 << 10;

/// The initramfs that were found well.
#[derive(Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Remembered {
    format: u32,
    /// What each was like, by its name.
    well: BTreeMap<String, String>,
}

/// An installed kernel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kernel {
    /// `6.1.0-32-amd64`.
    pub version: String,
    /// Why a boot of it would not start atlas-boot; `None`: it would.
    pub lack: Option<String>,
}

/// The kernels in `/boot`, oldest name first.
pub fn kernels(root: &Path) -> Vec<Kernel> {
    let marked = root.join(MARKER).exists();
    // What is attached is attached to this machine, not to another one's tree.
    let attached =
        if root == Path::new("/") { facts::survey().unwrap_or_default().atlas_devices() } else { BTreeSet::new() };
    let needed = drivers::of(Path::new("/sys"), &attached);
    kernels_by(root, &needed, |file, version| {
        let builtin = root.join("lib/modules").join(version).join("modules.builtin");
        lack(file, marked, &needed, &std::fs::read_to_string(builtin).unwrap_or_default())
    })
}

fn kernels_by(root: &Path, needed: &BTreeSet<String>, lack: impl Fn(&Path, &str) -> Option<String>) -> Vec<Kernel> {
    let entries = std::fs::read_dir(root.join("boot")).into_iter().flatten().flatten();
    let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
    let mut versions: Vec<String> = names.filter_map(|name| Some(name.strip_prefix("vmlinuz-")?.to_owned())).collect();
    versions.sort_unstable();
    let before = Remembered::read(root);
    let mut now = Remembered { format: 1, ..Remembered::default() };
    let marked = root.join(MARKER).exists();
    let mut kernel = |version: String| {
        let file = initramfs(root, &version);
        let name = file.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let looks = looks(&file, marked, needed);
        let known = looks.is_some() && before.well.get(&name) == looks.as_ref();
        let lack = if known { None } else { lack(&file, &version) };
        if let (None, Some(looks)) = (&lack, looks) {
            now.well.insert(name, looks);
        }
        Kernel { version, lack }
    };
    let kernels = versions.into_iter().map(&mut kernel).collect();
    if now != before {
        now.write(root);
    }
    kernels
}

impl Remembered {
    /// What cannot be read was not remembered.
    fn read(root: &Path) -> Remembered {
        let read = || {
            let dir = Dir::open_root(root).ok()?.dir(REPORTS).ok()?;
            let remembered: Remembered = serde_json::from_slice(&dir.read(REMEMBERED, MAX_REMEMBERED).ok()?).ok()?;
            (remembered.format == 1).then_some(remembered)
        };
        read().unwrap_or_default()
    }

    /// Where it cannot be written, the next look takes as long as this one.
    fn write(&self, root: &Path) {
        let write = || -> Option<()> {
            let dir = Dir::open_root(root).ok()?.make_dirs(REPORTS).ok()?;
            durable::write(&dir, OsStr::new(REMEMBERED), &serde_json::to_vec(self).ok()?, 0o644).ok()
        };
        let _ = write();
    }
}

/// What changes with every change of a file, its content unread, or of what it should have; `None` where it is not there.
fn looks(file: &Path, marked: bool, needed: &BTreeSet<String>) -> Option<String> {
    let meta = std::fs::metadata(file).ok()?;
    let (changed, written) = ((meta.ctime(), meta.ctime_nsec()), (meta.mtime(), meta.mtime_nsec()));
    Some(format!(
        "{} {} {} {}.{} {}.{}{}{}",
        meta.dev(),
        meta.ino(),
        meta.size(),
        written.0,
        written.1,
        changed.0,
        changed.1,
        if marked { " marked" } else { "" },
        needed.iter().map(|module| format!(" {module}")).collect::<String>()
    ))
}

fn initramfs(root: &Path, version: &str) -> PathBuf {
    root.join("boot").join(format!("initrd.img-{version}"))
}

/// On a server that is `marked` as ATLAS's own, an initramfs must have the mark: without it, the gate is closed only after the pivot.
fn lack(initramfs: &Path, marked: bool, needed: &BTreeSet<String>, builtin: &str) -> Option<String> {
    if !initramfs.exists() {
        return Some(format!("there is no {}", initramfs.display()));
    }
    let listing = match tool("lsinitramfs").arg(initramfs).deadline(LIST_DEADLINE).run() {
        Ok(output) => output.text(),
        Err(error) => return Some(format!("{} cannot be listed: {}", initramfs.display(), chain(&error))),
    };
    let has = |path: &str| listing.lines().any(|line| line.trim_start_matches(['.', '/']) == path);
    if !has(ATLAS_BOOT) {
        Some(format!("{} lacks {ATLAS_BOOT}", initramfs.display()))
    } else if marked && !has(MARKER) {
        Some(format!("{} was made before 'atlas init' and lacks /{MARKER}", initramfs.display()))
    } else {
        let missing = drivers::missing(needed, &listing, builtin).join(", ");
        (!missing.is_empty()).then(|| {
            format!(
                "{} lacks drivers by which the disks of the Unbound set are attached: {missing}",
                initramfs.display()
            )
        })
    }
}

/// An error and its causes on one line.
pub fn chain(error: &dyn std::error::Error) -> String {
    error.source().map_or_else(|| error.to_string(), |cause| format!("{error}: {}", chain(cause)))
}

/// Makes the initramfs of every kernel anew, and looks whether each has atlas-boot.
pub fn update(root: &Path) -> anyhow::Result<()> {
    tool("update-initramfs")
        .args(["-u", "-k", "all"])
        .in_root(root)
        .deadline(UPDATE_DEADLINE)
        .run()
        .context("make the initramfs of every kernel")
        .hint("mend what the message names ('df /boot' if there is no space), and run 'atlas init' again")?;
    let lacks: Vec<String> = kernels(root).into_iter().filter_map(|kernel| kernel.lack).collect();
    if lacks.is_empty() {
        return Ok(());
    }
    let hint = match is_kept_from_updates(root) {
        true => ALLOW_UPDATES,
        false => {
            "reinstall the package 'atlas', which brings the hook; for a kernel without initramfs: update-initramfs -c -k VERSION"
        }
    };
    Err(anyhow::anyhow!("an initramfs was made without atlas-boot: {}", lacks.join("; "))).hint(hint)
}

/// What to do where nobody may make an initramfs anew.
pub const ALLOW_UPDATES: &str = "say update_initramfs=yes in /etc/initramfs-tools/update-initramfs.conf, which keeps every initramfs as it is now; then update-initramfs -u -k all";

/// Whether Debian's own setting makes `update-initramfs -u` do nothing, and end well.
pub fn is_kept_from_updates(root: &Path) -> bool {
    let text = std::fs::read_to_string(root.join("etc/initramfs-tools/update-initramfs.conf")).unwrap_or_default();
    // It is a script: the last line counts.
    let last = text.lines().filter_map(|line| line.trim().strip_prefix("update_initramfs=")).next_back();
    last.is_some_and(|value| value.trim_matches(['"', '\'']) == "no")
}

/// The kernels after the items were done: an initramfs that was made was looked at then.
pub fn as_updated(mut kernels: Vec<Kernel>, done: &[Item]) -> Vec<Kernel> {
    if done.iter().any(|item| item.task == Some(Task::Initramfs)) {
        kernels.iter_mut().for_each(|kernel| kernel.lack = None);
    }
    kernels
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::RefCell;

    #[test]
    fn a_setting_that_keeps_every_initramfs_as_it_is_is_known() {
        let tmp = tempfile::tempdir().unwrap();
        assert!(!is_kept_from_updates(tmp.path()));
        let dir = tmp.path().join("etc/initramfs-tools");
        std::fs::create_dir_all(&dir).unwrap();
        for (text, is_kept) in [
            ("# update_initramfs=no\nupdate_initramfs=yes\n", false),
            ("update_initramfs=all\n", false),
            ("update_initramfs=yes\nupdate_initramfs=\"no\"\n", true),
        ] {
            std::fs::write(dir.join("update-initramfs.conf"), text).unwrap();
            assert_eq!(is_kept_from_updates(tmp.path()), is_kept, "{text}");
        }
    }

    #[test]
    fn an_initramfs_is_listed_again_when_it_changed_and_as_long_as_it_lacks_the_program() {
        let tmp = tempfile::tempdir().unwrap();
        let boot = tmp.path().join("boot");
        std::fs::create_dir(&boot).unwrap();
        for version in ["1", "2"] {
            std::fs::write(boot.join(format!("vmlinuz-{version}")), "kernel").unwrap();
            std::fs::write(boot.join(format!("initrd.img-{version}")), format!("with atlas-boot {version}")).unwrap();
        }
        let listed = RefCell::new(Vec::new());
        let needed = RefCell::new(BTreeSet::new());
        let look = || {
            listed.borrow_mut().clear();
            let kernels = kernels_by(tmp.path(), &needed.borrow(), |file, _| {
                listed.borrow_mut().push(file.file_name().unwrap().to_string_lossy().into_owned());
                let text = std::fs::read_to_string(file).unwrap_or_default();
                (!text.contains("atlas-boot")).then(|| "it lacks it".to_owned())
            });
            (kernels.into_iter().map(|kernel| kernel.lack.is_none()).collect::<Vec<_>>(), listed.borrow().clone())
        };
        assert_eq!(look(), (vec![true, true], vec!["initrd.img-1".into(), "initrd.img-2".into()]));
        assert_eq!(look(), (vec![true, true], vec![]));
        // On another controller.
        needed.borrow_mut().insert("ahci".to_owned());
        assert_eq!(look().1.len(), 2);
        assert_eq!(look().1, Vec::<String>::new());
        // As large as before.
        std::fs::write(boot.join("initrd.img-2"), "with nothing here 2").unwrap();
        for _ in 0..2 {
            assert_eq!(look(), (vec![true, false], vec!["initrd.img-2".into()]));
        }
        std::fs::remove_file(boot.join("initrd.img-1")).unwrap();
        assert_eq!(look().0, vec![false, false]);
        std::fs::write(tmp.path().join("run/atlas/initramfs.json"), "{").unwrap();
        std::fs::write(boot.join("initrd.img-1"), "atlas-boot again").unwrap();
        assert_eq!(look().0, vec![true, false]);
    }
}
