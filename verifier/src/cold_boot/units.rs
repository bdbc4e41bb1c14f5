//! Units of systemd: what starts at boot, what somebody wrote for it, and what of it runs.

use super::Facts;
use crate::here::{self, below, names, text};
use atlas_model::Digest;
use std::path::{Path, PathBuf};

const UNITS_OF: &str = "/etc/systemd/system";
/// Where unit files may lie, the first one counts.
pub(crate) const SEARCHED: [&str; 5] = [
    UNITS_OF,
    "/run/systemd/system",
    "/usr/local/lib/systemd/system",
    "/usr/lib/systemd/system",
    "/lib/systemd/system",
];
/// Where drop-ins are written by hand, by `systemctl edit` and by `systemctl set-property`.
const WRITTEN: [&str; 4] =
    [UNITS_OF, "/etc/systemd/system.control", "/run/systemd/system", "/run/systemd/system.control"];
/// Where the kernel has the groups of processes of services: of this version, and of the one before.
const CGROUPS: [&str; 2] = ["/sys/fs/cgroup/system.slice", "/sys/fs/cgroup/systemd/system.slice"];
/// As many digits tell two files apart.
const DIGITS: usize = 8;

/// Units that others pull in at boot because somebody enabled them, and those that are masked; a link that leads to no unit pulls in nothing.
pub(crate) fn enabled(root: &Path) -> Option<Facts> {
    if !here::is_there(root, UNITS_OF) {
        return None;
    }
    let mut facts = Facts::new();
    for name in names(root, UNITS_OF) {
        let path = format!("{UNITS_OF}/{name}");
        if name.ends_with(".wants") || name.ends_with(".requires") {
            let state = |unit: &str| match file_of(root, unit) || leads_somewhere(root, &format!("{path}/{unit}")) {
                true => "enabled".to_owned(),
                false => "enabled, without its unit file".to_owned(),
            };
            facts.extend(names(root, &path).into_iter().map(|unit| (unit.clone(), state(&unit))));
        }
    }
    // Masked last: it wins over what pulls it in.
    let masked = names(root, UNITS_OF).into_iter().filter(|name| is_masked(root, name));
    facts.extend(masked.map(|name| (name, "masked".to_owned())));
    facts.extend(default_target(root).map(|target| ("default.target".to_owned(), target)));
    Some(facts)
}

/// Whether somebody keeps a unit from being started.
pub(crate) fn is_masked(root: &Path, unit: &str) -> bool {
    let link = std::fs::read_link(below(root, &format!("{UNITS_OF}/{unit}")));
    link.is_ok_and(|target| target == Path::new("/dev/null"))
}

/// Whether another unit pulls this one in.
pub(crate) fn is_pulled_in(root: &Path, unit: &str) -> bool {
    SEARCHED.iter().any(|dir| {
        let pulling =
            names(root, dir).into_iter().filter(|name| name.ends_with(".wants") || name.ends_with(".requires"));
        pulling.into_iter().any(|name| below(root, &format!("{dir}/{name}/{unit}")).symlink_metadata().is_ok())
    })
}

/// Where a boot ends.
fn default_target(root: &Path) -> Option<String> {
    let links = SEARCHED.iter().map(|dir| below(root, &format!("{dir}/default.target")));
    let target = links.into_iter().find_map(|link| std::fs::read_link(link).ok())?;
    Some(target.file_name()?.to_string_lossy().into_owned())
}

/// Whether there is a file of a unit, or of its template.
pub(crate) fn file_of(root: &Path, unit: &str) -> bool {
    let template = unit.split_once('@').and_then(|(name, rest)| Some(format!("{name}@.{}", rest.rsplit_once('.')?.1)));
    let names = [Some(unit.to_owned()), template];
    names.iter().flatten().any(|name| SEARCHED.iter().any(|dir| below(root, &format!("{dir}/{name}")).exists()))
}

/// Whether a link leads to a file below this root.
fn leads_somewhere(root: &Path, path: &str) -> bool {
    let link = below(root, path);
    let Ok(target) = std::fs::read_link(&link) else { return link.exists() };
    let target: PathBuf = match target.to_str().filter(|_| target.is_absolute()) {
        Some(absolute) => below(root, absolute),
        None => link.parent().unwrap_or(root).join(target),
    };
    target.symlink_metadata().is_ok_and(|meta| meta.is_symlink() || meta.is_file())
}

/// Unit files that somebody wrote, and drop-ins.
pub(crate) fn files(root: &Path) -> Option<Facts> {
    if !here::is_there(root, UNITS_OF) {
        return None;
    }
    let mut facts = Facts::new();
    let mut add = |dir: &str, name: &str, shown: String| {
        let path = format!("{dir}/{name}");
        // Links enable and mask; that is told of the unit.
        let is_file = below(root, &path).symlink_metadata().is_ok_and(|meta| meta.is_file());
        if let Some(content) = text(root, &path).filter(|_| is_file) {
            facts.insert(shown, Digest::of(content.as_bytes()).to_string()[..DIGITS].to_owned());
        }
    };
    for name in names(root, UNITS_OF) {
        add(UNITS_OF, &name, name.clone());
    }
    for dir in WRITTEN {
        for of in names(root, dir).into_iter().filter(|name| name.ends_with(".d")) {
            let inner = format!("{dir}/{of}");
            for name in names(root, &inner).into_iter().filter(|name| name.ends_with(".conf")) {
                add(&inner, &name, format!("{of}/{name}"));
            }
        }
    }
    Some(facts)
}

/// Which of the services that start at boot run: by the kernel's groups of processes. `None` where there are none to look at.
pub(crate) fn running(root: &Path) -> Option<Facts> {
    let slice = CGROUPS.into_iter().find(|dir| here::is_there(root, dir))?;
    let starts = enabled(root)?;
    // What is begun by a socket, a path or a time runs when it is needed.
    let is_triggered = |unit: &str| {
        let name = unit.trim_end_matches(".service");
        ["socket", "path", "timer"].iter().any(|kind| file_of(root, &format!("{name}.{kind}")))
    };
    let services = starts.iter().filter(|(unit, state)| {
        unit.ends_with(".service") && *state == "enabled" && !unit.contains('@') && !is_triggered(unit)
    });
    let state = |unit: &String| {
        let group = format!("{slice}/{unit}");
        let events = text(root, &format!("{group}/cgroup.events")).unwrap_or_default();
        let procs = text(root, &format!("{group}/cgroup.procs")).unwrap_or_default();
        if events.contains("populated 1") || !procs.is_empty() { "running" } else { "stopped" }
    };
    Some(services.map(|(unit, _)| (unit.clone(), state(unit).to_owned())).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::here::testing::Server;

    fn server() -> Server {
        let server = Server::with(&[
            ("usr/lib/systemd/system/app.service", "[Service]\n"),
            ("usr/lib/systemd/system/worker@.service", "[Service]\n"),
            ("usr/lib/systemd/system/print.service", "[Service]\n"),
            ("usr/lib/systemd/system/print.socket", "[Socket]\n"),
            ("sys/fs/cgroup/system.slice/app.service/cgroup.events", "populated 1\nfrozen 0\n"),
        ]);
        for unit in ["app.service", "worker@1.service", "print.service"] {
            let wants = format!("etc/systemd/system/multi-user.target.wants/{unit}");
            server.link(&format!("/usr/lib/systemd/system/{unit}"), &wants);
        }
        server
    }

    #[test]
    fn a_link_to_a_unit_that_is_gone_enables_nothing() {
        let server = server();
        let state = |unit: &str| enabled(server.root()).unwrap().get(unit).cloned().unwrap();
        assert_eq!((state("app.service"), state("worker@1.service")), ("enabled".into(), "enabled".into()));
        server.remove("usr/lib/systemd/system/app.service");
        assert_eq!(state("app.service"), "enabled, without its unit file");
        server.write("etc/systemd/system/app.service", "[Service]\n");
        assert_eq!(state("app.service"), "enabled");
    }

    #[test]
    fn drop_ins_and_units_by_hand_are_told_by_what_is_in_them() {
        let server = server();
        server.write("etc/systemd/system/app.service.d/limits.conf", "[Service]\nMemoryMax=1M\n");
        server.write("run/systemd/system.control/app.service.d/50-CPUQuota.conf", "[Service]\nCPUQuota=1%\n");
        server.write("etc/systemd/system/job.service", "[Service]\n");
        let told = files(server.root()).unwrap();
        let names: Vec<&str> = told.keys().map(String::as_str).collect();
        assert_eq!(names, ["app.service.d/50-CPUQuota.conf", "app.service.d/limits.conf", "job.service"]);
        server.write("etc/systemd/system/app.service.d/limits.conf", "[Service]\nMemoryMax=1G\n");
        assert_ne!(files(server.root()).unwrap()["app.service.d/limits.conf"], told["app.service.d/limits.conf"]);
    }

    #[test]
    fn a_service_runs_while_it_has_a_process_and_one_that_a_socket_begins_is_not_told() {
        let server = server();
        let told = || running(server.root()).unwrap();
        assert_eq!(told(), Facts::from([("app.service".into(), "running".into())]));
        server.write("sys/fs/cgroup/system.slice/app.service/cgroup.events", "populated 0\nfrozen 0\n");
        assert_eq!(told(), Facts::from([("app.service".into(), "stopped".into())]));
        server.remove("sys");
        assert!(running(server.root()).is_none());
    }
}
