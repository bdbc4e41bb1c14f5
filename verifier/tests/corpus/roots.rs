//! Root file systems of Debian 11, 12 and 13 with all the daemons, made by mmdebstrap in minutes, and kept.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

pub const RELEASES: [&str; 3] = ["bullseye", "bookworm", "trixie"];

/// Those that go together, with the documentation that has examples.
const DAEMONS: [&str; 27] = [
    "iproute2",
    "procps",
    "openssl",
    "ssl-cert",
    "curl",
    "iputils-ping",
    "kmod",
    "man-db",
    "nginx-light",
    "apache2",
    "apache2-doc",
    "openssh-server",
    "bind9",
    "bind9-utils",
    "bind9-doc",
    "unbound",
    "dnsmasq",
    "postfix",
    "postfix-doc",
    "dovecot-imapd",
    "dovecot-pop3d",
    "samba",
    "smbclient",
    "nfs-kernel-server",
    "postgresql",
    "mariadb-server",
    "chrony",
];
/// Those that cannot be installed beside one of these.
const OTHERS: [&str; 6] = ["curl", "iproute2", "procps", "openssl", "exim4-daemon-light", "ntpsec"];

/// Where they are kept: `$ATLAS_CACHE`, or `~/.cache/atlas`.
fn cache() -> PathBuf {
    let of_user = || PathBuf::from(std::env::var_os("HOME").unwrap_or_else(|| "/root".into())).join(".cache/atlas");
    std::env::var_os("ATLAS_CACHE").map_or_else(of_user, PathBuf::from).join("corpus-roots")
}

/// The root file system of a release.
pub fn root(release: &str, is_other: bool) -> PathBuf {
    let packages = if is_other { OTHERS.join(",") } else { DAEMONS.join(",") };
    fs::create_dir_all(cache()).unwrap();
    // Another list makes another one.
    let digest = atlas_model::Digest::of(packages.as_bytes()).to_string();
    let name = format!("{release}-{}", &digest[..12]);
    let lock = fs::File::create(cache().join(format!("{name}.lock"))).unwrap();
    lock.lock().unwrap();
    let dir = cache().join(&name);
    if !dir.exists() {
        eprintln!("corpus: the root file system {name} by mmdebstrap (kept for the next time)");
        make(release, &packages, &cache().join(format!("{name}.new")), &cache().join(format!("{name}.log")));
        fs::rename(cache().join(format!("{name}.new")), &dir).unwrap();
    }
    dir
}

fn make(release: &str, packages: &str, new: &Path, log: &Path) {
    if new.exists() {
        fs::remove_dir_all(new).unwrap();
    }
    // Of Debian 11, the security archive names files that are gone.
    let source = (release == "bullseye").then_some("deb http://deb.debian.org/debian bullseye main");
    let log = fs::File::create(log).unwrap();
    let status = Command::new("mmdebstrap")
        .args(["--variant=minbase", "--aptopt=Apt::Install-Recommends \"false\""])
        .args(["--dpkgopt=path-exclude=/usr/share/locale/*", "--format=directory"])
        .arg(format!("--include={packages}"))
        .arg(release)
        .arg(new)
        .args(source)
        .stdout(log.try_clone().unwrap())
        .stderr(log)
        .status()
        .expect("mmdebstrap is there: 'cargo xtask setup' installs it");
    assert!(status.success(), "mmdebstrap cannot make {}: see the log beside it", new.display());
}
