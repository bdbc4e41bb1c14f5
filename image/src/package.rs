//! The Debian package `atlas`: programs, and what hooks them into the boot of a server.
//!
//! The same sources give the same bytes: files belong to root, have modes from [`TREES`] and a fixed date.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use crate::Options;
use crate::cache::Key;
use crate::command::{run, within};
use crate::programs::{self, EARLY_BOOT, Program};

/// What is copied with everything below it: from the repository, to the server, with which mode.
const TREES: [(&str, &str, u32); 13] = [
    ("converters/parts", "usr/lib/atlas/converters", 0o644),
    ("initramfs/initramfs-tools", "usr/share/initramfs-tools", 0o755),
    ("initramfs/udev", "usr/lib/udev/rules.d", 0o644),
    ("initramfs/systemd/atlas-gate.service", "usr/lib/systemd/system/atlas-gate.service", 0o644),
    ("initramfs/systemd/sleep.conf", "usr/lib/systemd/sleep.conf.d/50-atlas.conf", 0o644),
    ("image/package/grub/atlas.cfg", "etc/default/grub.d/atlas.cfg", 0o644),
    ("synchronizer/systemd", "usr/lib/systemd/system", 0o644),
    ("synchronizer/sshd", "etc/ssh/sshd_config.d", 0o644),
    ("verifier/systemd", "usr/lib/systemd/system", 0o644),
    ("verifier/hooks", "etc/atlas/hooks.d", 0o755),
    ("image/package/copyright", "usr/share/doc/atlas/copyright", 0o644),
    ("docs/man", "usr/share/man/man1", 0o644),
    ("docs/completions/bash", "usr/share/bash-completion/completions", 0o644),
];

/// The condition that holds a network service down until the identity is installed, and the units that get it.
const NETWORK_HELD: &str = "initramfs/systemd/network-held.conf";
const HELD_UNITS: &str = include_str!("../../initramfs/systemd/network-units");

/// Where the modules lie that `postinst` installs; dpkg replaces these files, and never what was installed from them.
const BUNDLES: &str = "usr/lib/atlas/bundles";
/// What cannot be seen in a module's files: which formats it reads and writes. Not every module has such.
const MODULES: &str = "image/package/modules";
/// What packs them here and installs them there.
const PACKER: &str = "atlas-module";

/// Links that are part of the package: where, and to what.
const LINKS: [(&str, &str); 5] = [
    ("usr/bin/atlas-boot", "../lib/atlas/atlas-boot"),
    // mdadm starts no set that is listed there; atlas-boot lists those that it sees.
    ("etc/mdadm/mdadm.conf.d/atlas.conf", "/run/atlas/mdadm.conf"),
    // agetty does not look into /run/issue.d where there is an /etc/issue, and a refusal may be unable to write to /etc.
    ("etc/issue.d/atlas.issue", "/run/issue.d/atlas.issue"),
    // The network services ask for it, too; where there is none of these, interfaces are held all the same.
    ("usr/lib/systemd/system/sysinit.target.wants/atlas-gate.service", "../atlas-gate.service"),
    // A Verifier that somebody has to remember to start verifies nothing.
    ("usr/lib/systemd/system/multi-user.target.wants/VerifierControl.service", "../VerifierControl.service"),
];

/// Where the Unbound disk's file system is mounted, and where atlas-boot mounts working memory.
const DIRECTORIES: [&str; 2] = ["unbound", "opt/atlas/work"];

/// What the programs and hooks call. There are no libraries: the programs are static, so that this holds for every Debian.
const DEPENDS: &str = "mdadm, initramfs-tools, e2fsprogs, git, systemd, udev";
/// What the Verifier's checks and alerts call, each where there is such a service.
const RECOMMENDS: &str = "curl, iputils-ping, bind9-dnsutils, nfs-common, smartmontools, jq";

const DESCRIPTION: &str = "Disk-swap failover: a server is who its front disks say it is
 At boot, before the network is configured, ATLAS finds the server's removable
 RAID-1 set, reads from it which server this is and installs that identity.
 Moving the disks of the primary server into a secondary one makes that the
 primary one.";

/// The date of all files: 2026-01-01 UTC, in seconds since 1970.
const SOURCE_DATE_EPOCH: &str = "1767225600";

/// A built Debian package.
#[derive(Debug, Clone)]
pub struct Package {
    /// `…/atlas_VERSION_amd64.deb`
    pub path: PathBuf,
    /// The programs in it; `atlas-boot` comes first.
    pub programs: Vec<Program>,
}

/// Builds the programs, and the package where they or its other parts changed.
///
/// # Errors
/// Where a program does not build or is not static, or `dpkg-deb` fails.
pub fn package(options: &Options) -> Result<Package> {
    (options.progress)(programs::how());
    let built = programs::build_all(&options.repository)?;

    let key = Key::default().with_files(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src/package.rs"))?;
    let sources = copies().into_iter().map(|(source, ..)| options.repository.join(source));
    let key = sources
        .filter(|source| source.exists())
        .chain(scripts(&options.repository))
        .chain([options.repository.join(MODULES)])
        .try_fold(key, |key, source| key.with_files(&source))?;
    let key = built.iter().try_fold(key, |key, program| key.with(program.name.as_bytes()).with_files(&program.path))?;

    let name = format!("atlas_{}_amd64.deb", env!("CARGO_PKG_VERSION"));
    let entry = options.cache.entry("package", key, |entry| {
        (options.progress)("package: built by dpkg-deb");
        let staged = entry.join("staged");
        stage(&options.repository, &built, &staged)?;
        make(&staged, &entry.join(&name))?;
        fs::remove_dir_all(&staged)?;
        Ok(())
    })?;
    Ok(Package { path: entry.join(name), programs: built })
}

/// All that is copied as it is: [`TREES`], and a drop-in for each of [`HELD_UNITS`].
fn copies() -> Vec<(&'static str, String, u32)> {
    let drop_in = |unit| (NETWORK_HELD, format!("usr/lib/systemd/system/{unit}.d/50-atlas.conf"), 0o644);
    let units = HELD_UNITS.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    let trees = TREES.iter().map(|(source, destination, mode)| (*source, (*destination).to_owned(), *mode));
    trees.chain(units.map(drop_in)).collect()
}

/// The scripts that dpkg runs.
fn scripts(repository: &Path) -> impl Iterator<Item = PathBuf> {
    ["postinst", "prerm", "postrm"].map(|name| repository.join("image/package").join(name)).into_iter()
}

/// Lays out below `staged` what the package will hold.
fn stage(repository: &Path, programs: &[Program], staged: &Path) -> Result<()> {
    for (source, destination, mode) in copies() {
        copy_tree(&repository.join(source), &staged.join(destination), mode)?;
    }
    for program in programs {
        if is_module(program) {
            bundle(repository, programs, program, staged)?;
            make_link(staged, &format!("usr/bin/{}", program.name), &format!("/opt/atlas/bin/{}", program.name))?;
            continue;
        }
        let directory = if program.name == EARLY_BOOT { "usr/lib/atlas" } else { "usr/bin" };
        copy_tree(&program.path, &staged.join(directory).join(&program.name), 0o755)?;
    }
    for (link, target) in LINKS {
        make_link(staged, link, target)?;
    }
    for directory in DIRECTORIES {
        make_directories(&staged.join(directory))?;
    }
    for script in scripts(repository) {
        let name = script.file_name().context("a script without a name")?.to_owned();
        copy_tree(&script, &staged.join("DEBIAN").join(name), 0o755)?;
    }
    fs::write(staged.join("DEBIAN/control"), control())?;
    let conffiles = conffiles(staged)?;
    if !conffiles.is_empty() {
        fs::write(staged.join("DEBIAN/conffiles"), conffiles)?;
    }
    Ok(())
}

/// Whether a program is delivered as a module, several versions of which may lie side by side: those that run again and again on
/// a server. What installs modules, what runs before them, and the operator's front are plain files of the package.
fn is_module(program: &Program) -> bool {
    ["ss", "SyncConverter", "Verif"].iter().any(|start| program.name.starts_with(start))
}

/// Packs a program as the bundle that `postinst` installs, with the `atlas-module` that is packaged beside it.
fn bundle(repository: &Path, programs: &[Program], program: &Program, staged: &Path) -> Result<()> {
    let packer = programs.iter().find(|other| other.name == PACKER);
    let packer =
        packer.with_context(|| format!("{} is a module, and there is no {PACKER} to pack it", program.name))?;
    let folder = staged.with_file_name("bundle");
    copy_tree(&program.path, &folder.join(&program.name), 0o755)?;
    let facts = repository.join(MODULES).join(format!("{}.toml", program.name));
    if facts.exists() {
        copy_tree(&facts, &folder.join("module.toml"), 0o644)?;
    }
    let bundles = staged.join(BUNDLES);
    make_directories(&bundles)?;
    let file = bundles.join(format!("{}.tar.zst", program.name));
    let mut command = within(Duration::from_secs(60), &packer.path);
    command.arg("pack").args([&folder, &file]);
    command.args(["--name", &program.name, "--version", concat!("v", env!("CARGO_PKG_VERSION"))]);
    run(&mut command, &format!("pack the module {}", program.name))?;
    fs::set_permissions(&file, fs::Permissions::from_mode(0o644))?;
    fs::remove_dir_all(&folder)?;
    Ok(())
}

fn make_link(staged: &Path, link: &str, target: &str) -> Result<()> {
    let link = staged.join(link);
    make_directories(link.parent().unwrap_or(staged))?;
    symlink(target, &link).with_context(|| format!("cannot make the link {}", link.display()))
}

/// Copies a file, or all files below a directory; links stay links.
fn copy_tree(source: &Path, destination: &Path, mode: u32) -> Result<()> {
    let context = || format!("cannot copy {} into the package", source.display());
    let metadata = fs::symlink_metadata(source).with_context(context)?;
    if metadata.is_dir() {
        for entry in fs::read_dir(source).with_context(context)? {
            let entry = entry.with_context(context)?;
            copy_tree(&entry.path(), &destination.join(entry.file_name()), mode)?;
        }
        return Ok(());
    }
    make_directories(destination.parent().unwrap_or(destination))?;
    if metadata.is_symlink() {
        return symlink(fs::read_link(source).with_context(context)?, destination).with_context(context);
    }
    fs::copy(source, destination).with_context(context)?;
    fs::set_permissions(destination, fs::Permissions::from_mode(mode)).with_context(context)
}

/// Makes a directory and those above it, all with the mode of a system directory, whatever the umask is.
fn make_directories(directory: &Path) -> Result<()> {
    if directory.is_dir() {
        return Ok(());
    }
    if let Some(parent) = directory.parent() {
        make_directories(parent)?;
    }
    fs::create_dir(directory).with_context(|| format!("cannot make {}", directory.display()))?;
    fs::set_permissions(directory, fs::Permissions::from_mode(0o755))?;
    Ok(())
}

fn control() -> String {
    format!(
        "Package: atlas\n\
         Version: {version}\n\
         Architecture: amd64\n\
         Maintainer: ATLAS <atlas@localhost>\n\
         Section: admin\n\
         Priority: optional\n\
         Depends: {DEPENDS}\n\
         Recommends: {RECOMMENDS}\n\
         Description: {DESCRIPTION}\n",
        version = env!("CARGO_PKG_VERSION"),
    )
}

/// All files below /etc: dpkg keeps what an administrator changed there. A link cannot be one of them.
fn conffiles(staged: &Path) -> Result<String> {
    fn list(directory: &Path, staged: &Path, found: &mut Vec<String>) -> Result<()> {
        for entry in fs::read_dir(directory)? {
            let path = entry?.path();
            if path.is_dir() {
                list(&path, staged, found)?;
            } else if !path.is_symlink() {
                found.push(format!("/{}\n", path.strip_prefix(staged)?.display()));
            }
        }
        Ok(())
    }
    let mut found = Vec::new();
    let etc = staged.join("etc");
    if etc.exists() {
        list(&etc, staged, &mut found)?;
    }
    found.sort();
    Ok(found.concat())
}

fn make(staged: &Path, package: &Path) -> Result<()> {
    let mut command = within(Duration::from_secs(900), "dpkg-deb");
    command.env("SOURCE_DATE_EPOCH", SOURCE_DATE_EPOCH);
    command.args(["--root-owner-group", "-Zxz", "-z2", "--build"]).args([staged, package]);
    run(&mut command, "build the Debian package")?;
    ensure!(package.exists(), "dpkg-deb reported success and made no {}", package.display());
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    fn any_program(folder: &Path) -> Program {
        // Any program linked as ours are will do.
        let path = folder.join("some-program");
        fs::copy("/bin/true", &path).unwrap();
        Program { name: "some-program".into(), path, size_bytes: 0 }
    }

    fn repository() -> &'static Path {
        Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap()
    }

    #[test]
    fn the_same_parts_give_the_same_bytes() {
        let folder = tempfile::tempdir().unwrap();
        let program = any_program(folder.path());
        let build = |name: &str| {
            let place = folder.path().join(name);
            stage(repository(), std::slice::from_ref(&program), &place.join("staged")).unwrap();
            make(&place.join("staged"), &place.join("a.deb")).unwrap();
            fs::read(place.join("a.deb")).unwrap()
        };
        let first = build("first");
        assert!(first == build("second"), "two builds of the same parts differ");
    }

    #[test]
    fn what_is_staged_belongs_to_root_and_no_one_else_may_write_it() {
        let folder = tempfile::tempdir().unwrap();
        let staged = folder.path().join("staged");
        stage(repository(), &[any_program(folder.path())], &staged).unwrap();
        make(&staged, &folder.path().join("a.deb")).unwrap();
        let mut list = Command::new("dpkg-deb");
        let listing = run(list.arg("--contents").arg(folder.path().join("a.deb")), "list the package").unwrap();
        assert!(listing.contains("./usr/bin/some-program"), "{listing}");
        for line in listing.lines().filter(|line| !line.starts_with('l')) {
            assert!(line.contains(" root/root "), "{line}");
            assert!(matches!(&line[..10], "drwxr-xr-x" | "-rwxr-xr-x" | "-rw-r--r--"), "{line}");
        }
    }

    #[test]
    fn files_below_etc_are_the_administrators_to_change() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir_all(folder.path().join("etc/b")).unwrap();
        fs::write(folder.path().join("etc/b/x"), "").unwrap();
        fs::write(folder.path().join("etc/a"), "").unwrap();
        symlink("/run/b", folder.path().join("etc/link")).unwrap();
        assert_eq!(conffiles(folder.path()).unwrap(), "/etc/a\n/etc/b/x\n");
    }
}
