//! What the units that somebody wrote name: directories, programs, files of settings; whose they are, and how they may be used.
//!
//! An application without a package has no list of what it needs but its unit. An interpreter's program is there while the script that it runs is
//! gone; a container's directory, or an account's data, is an argument.

use super::{Facts, unit_file::UnitFile, units};
use crate::here::below;
use atlas_host::tree::Dir;
use atlas_sid::accounts;
use std::{
    collections::{BTreeMap, BTreeSet},
    os::unix::fs::{MetadataExt, PermissionsExt},
    path::Path,
};

/// Where units are that no package brought.
const WRITTEN: [&str; 2] = ["etc/systemd/system", "usr/local/lib/systemd/system"];
/// Made anew at each boot, or by whoever comes first.
const VOLATILE: [&str; 7] = ["/run/", "/var/run/", "/proc/", "/dev/", "/sys/", "/tmp/", "/var/tmp/"];

/// The facts; `None` where there are no units.
pub(super) fn facts(root: &Path) -> Option<Facts> {
    let enabled = units::enabled(root)?;
    let owners = Dir::open_root(root).ok().and_then(|tree| accounts::owners_of(&tree).ok()).unwrap_or_default().users;
    let mut facts = Facts::new();
    let services = enabled.iter().filter(|(unit, state)| unit.ends_with(".service") && *state == "enabled");
    for (unit, _) in services.filter(|(unit, _)| is_written(root, unit)) {
        let Some(file) = UnitFile::read(root, unit).filter(|file| !file.is_dynamic()) else { continue };
        for path in named(root, &file) {
            facts.extend(state(root, &path, &owners).map(|state| (format!("{unit}'s {path}"), state)));
        }
    }
    Some(facts)
}

fn is_written(root: &Path, unit: &str) -> bool {
    let is_file = |path: String| below(root, &path).symlink_metadata().is_ok_and(|meta| meta.is_file());
    WRITTEN.iter().any(|dir| is_file(format!("{dir}/{unit}")))
}

/// The paths that a unit names and that stay.
fn named(root: &Path, file: &UnitFile) -> BTreeSet<String> {
    let of = |key: &str| file.words("Service", key).collect::<Vec<_>>();
    let keys =
        ["WorkingDirectory", "RootDirectory", "ReadWritePaths", "ReadOnlyPaths", "BindPaths", "BindReadOnlyPaths"];
    let directories = keys.into_iter().chain(["EnvironmentFile"]).flat_map(of);
    let made = of("StateDirectory").into_iter().map(|name| format!("/var/lib/{name}"));
    // `--directory=/srv/app`, `--bind=/srv/app:/app`
    let argument = |word: String| word.rsplit('=').next().unwrap_or_default().to_owned();
    let arguments = of("ExecStart").into_iter().map(argument).filter(|path| is_kept(root, path));
    let first = |path: String| path.trim_start_matches(['-', '+', '!', '@', ':']).split(':').next().map(str::to_owned);
    let all = directories.chain(made).chain(arguments).filter_map(first);
    all.filter(|path| {
        path.starts_with('/')
            && !path.contains(['%', '$', '*', '?', '['])
            && !VOLATILE.iter().any(|dir| path.starts_with(dir))
    })
    .collect()
}

/// Files below `/var` that are an argument are written by the program itself: a log, a lease.
fn is_kept(root: &Path, path: &str) -> bool {
    let path = path.split(':').next().unwrap_or_default();
    !path.starts_with("/var/") || below(root, path).is_dir()
}

fn state(root: &Path, path: &str, owners: &BTreeMap<u32, String>) -> Option<String> {
    let meta = std::fs::metadata(below(root, path)).ok()?;
    let number = format!("account number {}", meta.uid());
    let owner = owners.get(&meta.uid()).unwrap_or(&number);
    Some(format!("of {owner}, mode {:04o}", meta.permissions().mode() & 0o7777))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::here::testing::Server;

    #[test]
    fn what_a_unit_of_one_s_own_names_is_told_by_owner_and_mode() {
        let me = nix::unistd::Uid::effective().as_raw();
        let server = Server::with(&[
            (
                "etc/systemd/system/app.service",
                "[Service]\nUser=app\nWorkingDirectory=/srv/app\nEnvironmentFile=-/etc/default/app\n\
                 ExecStart=/usr/bin/python3 /opt/app/app.py --data=/var/lib/app --log=/var/log/app.log --pid /run/app.pid\n",
            ),
            ("usr/lib/systemd/system/nginx.service", "[Service]\nExecStart=/usr/sbin/nginx\n"),
            ("etc/passwd", &format!("app:x:{me}:{me}::/:/bin/sh\n")),
            ("srv/app/x", ""),
            ("etc/default/app", ""),
            ("usr/bin/python3", ""),
            ("usr/sbin/nginx", ""),
            ("opt/app/app.py", ""),
            ("var/lib/app/x", ""),
            ("var/log/app.log", ""),
            ("run/app.pid", ""),
        ]);
        for unit in ["app", "nginx"] {
            let wants = format!("etc/systemd/system/multi-user.target.wants/{unit}.service");
            let dir = if unit == "app" { "/etc" } else { "/usr/lib" };
            server.link(&format!("{dir}/systemd/system/{unit}.service"), &wants);
        }
        server.mode("srv/app", 0o700);
        let told = facts(server.root()).unwrap();
        let paths: Vec<&str> = told.keys().map(|name| name.strip_prefix("app.service's ").unwrap()).collect();
        assert_eq!(paths, ["/etc/default/app", "/opt/app/app.py", "/srv/app", "/usr/bin/python3", "/var/lib/app"]);
        assert_eq!(told["app.service's /srv/app"], "of app, mode 0700");
        server.remove("opt/app/app.py");
        assert_eq!(facts(server.root()).unwrap().len(), 4);
        assert!(facts(Server::new().root()).is_none());
    }
}
