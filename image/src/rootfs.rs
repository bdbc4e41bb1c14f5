//! The root file system: a Debian 12 that `mmdebstrap` makes from the list of packages and the files in `rootfs/`.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;
use std::{fs, io};

use anyhow::{Context, Result};

use crate::Options;
use crate::cache::Key;
use crate::command::{run, within};

const SUITE: &str = "bookworm";

/// Documentation and translations are a third of the files, and nobody reads them in a virtual machine.
const DPKG_OPTIONS: [&str; 4] = [
    "path-exclude=/usr/share/man/*",
    "path-exclude=/usr/share/locale/*",
    "path-exclude=/usr/share/doc/*",
    "path-include=/usr/share/doc/*/copyright",
];

const APT_OPTIONS: [&str; 2] = ["Apt::Install-Recommends \"false\"", "Acquire::Languages \"none\""];

/// The root file system as a tar archive, without ATLAS; about 320 MB, made in about a minute if it is not cached.
///
/// # Errors
/// Where `mmdebstrap` fails: no network, most of the time.
pub fn root_file_system(options: &Options) -> Result<PathBuf> {
    let source = data_directory();
    let arguments = [SUITE].iter().chain(&DPKG_OPTIONS).chain(&APT_OPTIONS);
    let key = arguments.fold(Key::default(), |key, argument| key.with(argument.as_bytes()));
    let key =
        ["packages", "files", "customize.sh"].iter().try_fold(key, |key, name| key.with_files(&source.join(name)))?;
    let entry = options.cache.entry("rootfs", key, |entry| {
        (options.progress)("root file system: Debian 12 by mmdebstrap (kept for the next time)");
        make(&source, entry)
    })?;
    Ok(entry.join("rootfs.tar"))
}

fn make(source: &Path, entry: &Path) -> Result<()> {
    let packages = packages(&fs::read_to_string(source.join("packages"))?).join(",");
    let overlay = entry.join("files.tar");
    // Owner and mode do not come from whoever checked the repository out.
    run(
        Command::new("tar").args(["--owner=0", "--group=0", "--mode=u=rwX,go=rX", "--sort=name", "-cf"]).args([
            &overlay,
            Path::new("-C"),
            &source.join("files"),
            Path::new("."),
        ]),
        "pack the files of the test servers",
    )?;

    let mut command = within(Duration::from_secs(900), "mmdebstrap");
    command.args(["--quiet", "--mode=auto", "--variant=minbase"]);
    command.args(DPKG_OPTIONS.map(|option| format!("--dpkgopt={option}")));
    command.args(APT_OPTIONS.map(|option| format!("--aptopt={option}")));
    command.arg(format!("--include={packages}"));
    // Before initramfs-tools comes, so that its first initramfs is already made as it should be.
    command.arg(format!("--essential-hook=tar-in {} /", overlay.display()));
    let script = source.join("customize.sh");
    command.arg(format!("--customize-hook=upload {} /tmp/customize.sh", script.display()));
    command.arg("--customize-hook=chroot \"$1\" sh /tmp/customize.sh && rm \"$1/tmp/customize.sh\"");
    command.arg(SUITE).arg(entry.join("rootfs.tar"));
    run(&mut command, "make the root file system with mmdebstrap")?;
    fs::remove_file(overlay)?;
    Ok(())
}

/// The names in a list with comments.
fn packages(list: &str) -> Vec<&str> {
    list.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#')).collect()
}

/// Runs a shell script on a copy of the root file system that exists in memory for as long as the script runs, and
/// returns what it printed.
///
/// The script finds the copy's path in `$root`, where `/dev`, `/proc` and `/sys` are mounted, so that
/// `chroot "$root" …` works as on a server; `arguments` are its `$1`, `$2`…  It runs with the rights of root: of the
/// real one, or of one in a user namespace, where newuidmap (package uidmap) allows that.
///
/// # Errors
/// Where the namespaces cannot be made, or the script fails; what it printed is in the error.
pub fn run_in_root_file_system(
    root_file_system: &Path,
    script: &Path,
    arguments: &[&Path],
    deadline: Duration,
) -> Result<String> {
    let mut command = within(deadline, "unshare");
    if !is_root()? {
        command.args(["--map-root-user", "--map-auto"]);
    }
    command.args(["--mount", "--pid", "--fork", "--kill-child", "sh", "-eu"]);
    command.arg(data_directory().join("unpack.sh")).arg(root_file_system).arg(script).args(arguments);
    run(&mut command, &format!("work on a copy of the root file system with {}", script.display()))
}

fn is_root() -> Result<bool> {
    let status = fs::read_to_string("/proc/self/status").context("cannot read /proc/self/status")?;
    let uid = status.lines().find_map(|line| line.strip_prefix("Uid:")).and_then(|ids| ids.split_whitespace().nth(1));
    uid.map(|uid| uid == "0").ok_or_else(|| io::Error::other("no Uid in /proc/self/status").into())
}

/// Where the package list, the files and the scripts are.
pub(crate) fn data_directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("rootfs")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_of_packages_may_have_comments_and_blank_lines() {
        assert_eq!(packages("# a\nmdadm\n\n  acl \n#b\n"), ["mdadm", "acl"]);
    }

    #[test]
    fn the_list_names_what_every_test_needs() {
        let list = fs::read_to_string(data_directory().join("packages")).unwrap();
        for needed in ["mdadm", "initramfs-tools", "qemu-guest-agent", "linux-image-cloud-amd64"] {
            assert!(packages(&list).contains(&needed), "{needed}");
        }
    }
}
