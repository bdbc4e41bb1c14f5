//! Which installed kernels would start atlas-boot.

use super::{
    plan::{Item, Task},
    tool,
};
use anyhow::Context;
use atlas_cli::Hint;
use std::{
    path::{Path, PathBuf},
    time::Duration,
};

/// Where atlas-boot lies, in the root file system as in an initramfs.
pub const ATLAS_BOOT: &str = "usr/lib/atlas/atlas-boot";

/// Making the initramfs of every kernel takes minutes on a slow machine.
const UPDATE_DEADLINE: Duration = Duration::from_secs(3600);
const LIST_DEADLINE: Duration = Duration::from_secs(300);

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
    let entries = std::fs::read_dir(root.join("boot")).into_iter().flatten().flatten();
    let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
    let mut versions: Vec<String> = names.filter_map(|name| Some(name.strip_prefix("vmlinuz-")?.to_owned())).collect();
    versions.sort_unstable();
    let kernel = |version: String| Kernel { lack: lack(&initramfs(root, &version)), version };
    versions.into_iter().map(kernel).collect()
}

fn initramfs(root: &Path, version: &str) -> PathBuf {
    root.join("boot").join(format!("initrd.img-{version}"))
}

fn lack(initramfs: &Path) -> Option<String> {
    if !initramfs.exists() {
        return Some(format!("there is no {}", initramfs.display()));
    }
    match tool("lsinitramfs").arg(initramfs).deadline(LIST_DEADLINE).run() {
        Ok(output) if output.text().lines().any(|line| line.trim_start_matches(['.', '/']) == ATLAS_BOOT) => None,
        Ok(_) => Some(format!("{} lacks {ATLAS_BOOT}", initramfs.display())),
        Err(error) => Some(format!("{} cannot be listed: {}", initramfs.display(), chain(&error))),
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
    Err(anyhow::anyhow!("an initramfs was made without atlas-boot: {}", lacks.join("; ")))
        .hint("reinstall the package 'atlas', which brings the hook; for a kernel without initramfs: update-initramfs -c -k VERSION")
}

/// The kernels after the items were done: an initramfs that was made was looked at then.
pub fn as_updated(mut kernels: Vec<Kernel>, done: &[Item]) -> Vec<Kernel> {
    if done.iter().any(|item| item.task == Some(Task::Initramfs)) {
        kernels.iter_mut().for_each(|kernel| kernel.lack = None);
    }
    kernels
}
