//! Units of systemd beyond whether they run: what a unit names is there, the next boot's units do not wait for each other in a circle, and ATLAS's
//! own daemons would start.
//!
//! ```text
//! /etc/systemd/system/*.wants            which start at boot
//! their files and drop-ins               directories, programs, accounts, files and units that they name, and what systemd refuses
//! systemd-analyze verify default.target  circles; asked again only when a unit has changed
//! ```
//!
//! How units differ from PRI's is compared with the other facts of a cold boot: [`crate::cold_boot`].

mod circles;
mod place;
mod refused;
mod way;

use crate::{
    cold_boot::{self, unit_file::UnitFile},
    here::{self, Faults},
    service::{Service, Target},
};
use atlas_model::verify::{Fault, Profile, Verdict};
use atlas_sid::layout::UNBOUND_MOUNT;
use place::Place;
use std::path::Path;

pub(super) const SERVICE: Service = Service {
    name: "units",
    about: "what the units that start at boot name is there, they wait for each other in no circle, and ATLAS's own start",
    interval: 60,
    deadline: 45,
    find: |_| Ok(here::found()),
    verify,
};

/// ATLAS's own that a boot starts; that of cycles is looked at with the cycles.
const OWN: [(&str, &str); 2] = [
    ("VerifierControl.service", "nothing would be verified or reported"),
    ("atlas-gate.service", "the network would stay closed"),
];
/// Made anew at each boot.
const VOLATILE: [&str; 4] = ["/run/", "/var/run/", "/proc/", "/dev/"];
/// What systemd makes when the unit starts: the directive, and where that is.
const MADE: [(&str, &str); 3] =
    [("StateDirectory", "/var/lib"), ("LogsDirectory", "/var/log"), ("CacheDirectory", "/var/cache")];

fn verify(target: &Target) -> anyhow::Result<Profile> {
    let root = &target.root;
    let mut faults = Faults::default();
    let enabled = cold_boot::units::enabled(root).unwrap_or_default();
    let running = cold_boot::units::running(root).unwrap_or_default();
    let services = enabled.iter().filter(|(unit, state)| unit.ends_with(".service") && *state == "enabled");
    let mut count = 0;
    for (unit, _) in services {
        let Some(file) = UnitFile::read(root, unit) else { continue };
        count += 1;
        if place::is_passed_over(root, &file) {
            continue;
        }
        let mut lacking = Faults::default();
        needs(root, unit, &file, &mut lacking);
        if !lacking.is_empty() && !place::may_be_passed_over(target, &file) {
            faults.take(lacking);
        }
        if running.get(unit).is_some_and(|state| state == "running") {
            made(root, unit, &file, &mut faults);
        }
    }
    let starters = enabled.keys().filter(|unit| unit.ends_with(".timer") || unit.ends_with(".socket"));
    for unit in starters.filter(|unit| enabled[*unit] == "enabled") {
        if let Some(service) = refused::starts_nothing(root, unit) {
            let what = format!("{unit} starts nothing: the unit {service} is not there");
            let hint = format!("systemctl cat {unit}; install what brings {service}, or: systemctl disable {unit}");
            faults.add(Fault::new(Verdict::Unacceptable, what, hint).is("unit", &[unit, &service]));
        }
    }
    own(root, &mut faults);
    circles::look(target, &mut faults);
    Ok(faults.profile(format!("{count} services that start at boot have what their units name")))
}

/// What a unit needs before it can start, and nobody makes.
fn needs(root: &Path, unit: &str, file: &UnitFile, faults: &mut Faults) {
    let mut lacks = |path: &str, what: String, hint: String| {
        let fault = Fault::new(Verdict::Unacceptable, format!("{unit} would not start: {what}"), hint);
        faults.add(fault.is("unit", &[unit, path]));
    };
    for (path, what, hint) in refused::look(root, unit, file) {
        lacks(&path, what, hint);
    }
    let place = Place::of(root, file);
    let is_known = |path: &str| {
        let is_elsewhere = VOLATILE.iter().any(|dir| path.starts_with(dir)) || is_client_data(path);
        path.starts_with('/') && !path.contains(['%', '$', '*', '?', '[']) && !is_elsewhere
    };
    let is_gone = |path: &str| is_known(path) && !here::is_there(root, path);
    let is_gone_there = |path: &str| is_known(path) && place.lacks(path);
    if let Some(path) = file.last("Service", "RootDirectory").filter(|path| is_gone(path)) {
        let what = format!("its root directory {path} is not there");
        lacks(path, what, format!("mkdir -p {path}; or put back what was there"));
        return;
    }
    if let Some(path) = file.last("Service", "WorkingDirectory").filter(|path| is_gone_there(path)) {
        let what = format!("its working directory {path} is not there");
        lacks(path, what, format!("mkdir -p {path}; or put back what was there"));
    }
    let named = ["ReadWritePaths", "ReadOnlyPaths", "BindPaths", "BindReadOnlyPaths"];
    for path in named.iter().flat_map(|key| file.words("Service", key)) {
        let path = path.split(':').next().unwrap_or_default();
        if is_gone(path) && place.lacks(path) {
            lacks(
                path,
                format!("{path}, which it names, is not there"),
                format!("mkdir -p {path}; systemctl cat {unit}"),
            );
        }
    }
    for path in file.all("Service", "EnvironmentFile").iter().filter(|path| is_gone(path)) {
        lacks(path, format!("its file of settings {path} is not there"), format!("put it back; systemctl cat {unit}"));
    }
    for key in ["StandardOutput", "StandardError"] {
        let path = file.last("Service", key).and_then(|value| value.split_once(':')).map(|(_, path)| path);
        let dir = path.and_then(|path| path.rsplit_once('/')).map(|(dir, _)| dir).filter(|dir| !dir.is_empty());
        if let Some(dir) = dir.filter(|dir| is_gone(dir) && place.lacks(dir)) {
            lacks(
                dir,
                format!("{dir}, to which it writes, is not there"),
                format!("mkdir -p {dir}; systemctl cat {unit}"),
            );
        }
    }
    let is_dynamic = file.is_dynamic();
    let groups: Vec<String> =
        ["Group", "SupplementaryGroups"].iter().flat_map(|key| file.words("Service", key)).collect();
    let started = ["ExecStartPre", "ExecStart"].iter().flat_map(|key| file.commands("Service", key));
    let user = file.last("Service", "User").filter(|_| !file.is_dynamic());
    for path in started.filter(|line| !line.may_fail && !line.as_root).filter_map(|line| line.words.into_iter().next())
    {
        let closed = || {
            let user = user.filter(|_| is_known(&path) && place.is_of_server())?;
            way::not_run(root, user, &groups, &path).map(|why| format!("may not be run by its account {user}: {why}"))
        };
        if let Some(why) = place.not_run(&path).filter(|_| !path.starts_with('/') || is_known(&path)).or_else(closed) {
            let hint = format!("systemctl cat {unit}; reinstall what it is of");
            lacks(&path, format!("its program {path} {why}"), hint);
        }
    }
    let works_in = file.last("Service", "WorkingDirectory").filter(|path| !path.starts_with('-'));
    if let Some((user, path)) = file.last("Service", "User").zip(works_in)
        && let Some((dir, why)) = way::closed(root, user, &groups, path).filter(|_| !is_dynamic)
    {
        let what = format!("its account {user} may not go into {dir}, {why}");
        lacks(path, what, format!("namei -l {path}; chown or chmod {dir} as on PRI"));
    }
    for (key, table, noun) in [("User", "etc/passwd", "account"), ("Group", "etc/group", "group")] {
        let name = file.last("Service", key).filter(|name| !is_dynamic && !name.contains('%'));
        if let (Some(name), Some(text)) = (name, here::text(root, table))
            && name.parse::<u32>().is_err()
            && !text.lines().any(|line| line.split(':').next() == Some(name))
        {
            lacks(
                name,
                format!("the {noun} {name} is not there"),
                format!("getent {} {name}; adduser --system {name}", &table[4..]),
            );
        }
    }
}

/// Client data is where PRI's disks are.
fn is_client_data(path: &str) -> bool {
    path.trim_start_matches('/').split('/').next() == Some(UNBOUND_MOUNT)
}

/// Directories that systemd made when the unit started, and that it has lost since.
fn made(root: &Path, unit: &str, file: &UnitFile, faults: &mut Faults) {
    for (key, below) in MADE {
        for name in file.words("Service", key) {
            let path = format!("{below}/{}", name.split(':').next().unwrap_or_default());
            if !path.contains('%') && !here::is_there(root, &path) {
                let what = format!("{path}, which {unit} needs, is gone while it runs");
                let hint =
                    format!("systemctl restart {unit} makes it anew, and empty; what was in it has to be put back");
                faults.add(Fault::new(Verdict::Slow, what, hint).is("directory", &[unit, &path]));
            }
        }
    }
}

/// Whether ATLAS's own daemons would start at the next boot.
fn own(root: &Path, faults: &mut Faults) {
    if !here::is_there(root, "opt/atlas/EnvID") {
        return;
    }
    for (unit, then) in OWN {
        let name = unit.trim_end_matches(".service");
        if cold_boot::units::is_masked(root, unit) {
            let what = format!("{name} is masked: after the next boot {then}");
            let hint = format!("systemctl unmask {unit}");
            faults.add(Fault::new(Verdict::Unacceptable, what, hint).is("masked", &[unit, name]));
        } else if !cold_boot::units::is_pulled_in(root, unit) && cold_boot::units::file_of(root, unit) {
            let hint = "apt-get install --reinstall atlas";
            let what = format!("nothing starts {name} at the next boot: {then}");
            faults.add(Fault::new(Verdict::Unacceptable, what, hint).is("disabled", &[unit, name]));
        }
    }
}

#[cfg(test)]
mod tests;
