//! The root file system: a Debian that `mmdebstrap` makes from the lists of packages and the files in `rootfs/`.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;
use std::{fs, io};

use anyhow::{Context, Result};

use crate::Options;
use crate::cache::Key;
use crate::command::{run, within};

/// A release of Debian that ATLAS runs on.
///
/// What all of them get lies in `rootfs/`; what only one of them gets, in `rootfs/SUITE/`, laid out in the same way, as is what
/// [`Options::more`] names, which may have such folders itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Release {
    /// Debian 11; here with a /lib beside /usr/lib, as servers have that were upgraded to it.
    Bullseye,
    /// Debian 12, on which the package is built.
    #[default]
    Bookworm,
    /// Debian 13.
    Trixie,
}

impl Release {
    /// All of them, the oldest first.
    pub const ALL: [Release; 3] = [Release::Bullseye, Release::Bookworm, Release::Trixie];

    /// Where its packages come from, as a line of sources.list, where that is not all that mmdebstrap would take.
    ///
    /// Debian 11 is at its end: its last point release will not change any more, while files go from its security archive whose
    /// index still names them.
    fn source(self) -> Option<&'static str> {
        (self == Release::Bullseye).then_some("deb http://deb.debian.org/debian bullseye main")
    }

    /// What the archive calls it, and this crate's cache.
    #[must_use]
    pub fn suite(self) -> &'static str {
        match self {
            Release::Bullseye => "bullseye",
            Release::Bookworm => "bookworm",
            Release::Trixie => "trixie",
        }
    }
}

impl std::fmt::Display for Release {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let number = match self {
            Release::Bullseye => 11,
            Release::Bookworm => 12,
            Release::Trixie => 13,
        };
        write!(f, "Debian {number}")
    }
}

/// Documentation and translations are a third of the files, and nobody reads them in a virtual machine. The last is there again at the end
/// (customize.sh): with it, installing systemd-coredump would set where the cores go of the machine that this is made on.
const DPKG_OPTIONS: [&str; 5] = [
    "path-exclude=/usr/share/man/*",
    "path-exclude=/usr/share/locale/*",
    "path-exclude=/usr/share/doc/*",
    "path-include=/usr/share/doc/*/copyright",
    "path-exclude=/usr/lib/sysctl.d/50-coredump.conf",
];

const APT_OPTIONS: [&str; 2] = ["Apt::Install-Recommends \"false\"", "Acquire::Languages \"none\""];

/// The root file system of the release as a tar archive, without ATLAS; about 320 MB, made in about a minute if it is not cached.
///
/// # Errors
/// Where `mmdebstrap` fails: no network, most of the time.
pub fn root_file_system(options: &Options) -> Result<PathBuf> {
    let (source, suite) = (data_directory(), options.release.suite());
    let arguments = [suite].into_iter().chain(options.release.source()).chain(DPKG_OPTIONS).chain(APT_OPTIONS);
    let key = arguments.fold(Key::default(), |key, argument| key.with(argument.as_bytes()));
    let parts = ["packages", "files", "customize.sh", suite].into_iter().chain(options.more);
    let mut parts = parts.map(|name| source.join(name)).filter(|part| part.exists());
    let key = parts.try_fold(key, |key, part| key.with_files(&part))?;
    let entry = options.cache.entry(&format!("rootfs-{}", options.kind()), key, |entry| {
        (options.progress)(&format!("root file system: {} by mmdebstrap (kept for the next time)", options.release));
        make(&source, options, entry)
    })?;
    Ok(entry.join("rootfs.tar"))
}

fn make(source: &Path, options: &Options, entry: &Path) -> Result<()> {
    let release = options.release;
    let of_release = |more: &str| [more.to_owned(), format!("{more}/{}", release.suite())];
    let places: Vec<PathBuf> = of_release("")
        .into_iter()
        .chain(options.more.into_iter().flat_map(of_release))
        .map(|name| source.join(name.trim_start_matches('/')))
        .collect();
    let mut command = within(Duration::from_secs(1800), "mmdebstrap");
    command.args(["--quiet", "--mode=auto", "--variant=minbase"]);
    command.args(DPKG_OPTIONS.map(|option| format!("--dpkgopt={option}")));
    command.args(APT_OPTIONS.map(|option| format!("--aptopt={option}")));
    for place in &places {
        let list = place.join("packages");
        if list.exists() {
            command.arg(format!("--include={}", packages(&fs::read_to_string(list)?).join(",")));
        }
    }
    for (number, files) in places.iter().map(|place| place.join("files")).enumerate().filter(|(_, path)| path.exists())
    {
        let overlay = entry.join(format!("files-{number}.tar"));
        pack(&files, &overlay)?;
        // Before initramfs-tools comes, so that its first initramfs is already made as it should be.
        command.arg(format!("--essential-hook=tar-in {} /", overlay.display()));
    }
    for script in places.iter().map(|place| place.join("customize.sh")).filter(|script| script.exists()) {
        command.arg(format!("--customize-hook=upload {} /tmp/customize.sh", script.display()));
        command.arg("--customize-hook=chroot \"$1\" sh /tmp/customize.sh && rm \"$1/tmp/customize.sh\"");
    }
    command.arg(release.suite()).arg(entry.join("rootfs.tar")).args(release.source());
    run(&mut command, &format!("make the root file system of {release} with mmdebstrap"))?;
    Ok(())
}

/// Packs the files below a directory; owner and mode do not come from whoever checked the repository out.
fn pack(files: &Path, archive: &Path) -> Result<()> {
    let mut command = Command::new("tar");
    command.args(["--owner=0", "--group=0", "--mode=u=rwX,go=rX", "--sort=name", "-cf"]);
    command.args([archive, Path::new("-C"), files, Path::new(".")]);
    run(&mut command, "pack the files of the test servers").map(drop)
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
