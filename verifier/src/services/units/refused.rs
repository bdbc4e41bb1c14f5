//! What systemd itself refuses to start, as `systemd-analyze verify` tells of each unit, or only says at the boot.

use crate::{
    cold_boot::{unit_file::UnitFile, units},
    here,
    service::Tree,
};
use std::path::Path;

/// Kinds of units that come from files alone; the kernel, fstab or a process makes others.
const OF_FILES: [&str; 5] = [".service", ".socket", ".target", ".timer", ".path"];
/// Where units are that were made of others' configuration as this boot began.
const GENERATED: [&str; 3] = ["/run/systemd/generator", "/run/systemd/generator.early", "/run/systemd/generator.late"];

/// Each: what is lacking or wrong, why, and what to do.
pub(super) fn look(root: &Path, unit: &str, file: &UnitFile) -> Vec<(String, String, String)> {
    let mut found = vec![];
    let cat = format!("systemctl cat {unit}");
    let needed = ["Requires", "Requisite", "BindsTo"].iter().flat_map(|key| file.words("Unit", key));
    for other in needed.filter(|other| is_nowhere(root, other)) {
        let hint = format!("{cat}; install what brings {other}, or make it Wants=");
        found.push((other.clone(), format!("the unit {other}, which it requires, is not there"), hint));
    }
    let starts = file.commands("Service", "ExecStart").len();
    let kind = file.last("Service", "Type").unwrap_or("simple");
    let remains =
        file.last("Service", "RemainAfterExit").is_some_and(|value| ["yes", "true", "on", "1"].contains(&value));
    if starts > 1 && kind != "oneshot" {
        let hint = format!("{cat}; an empty ExecStart= before the one of a drop-in takes back those before it");
        found.push(("ExecStart".into(), format!("it has {starts} ExecStart=, which Type={kind} may not have"), hint));
    }
    if starts == 0 && kind != "oneshot" && !remains {
        found.push(("ExecStart".into(), "it has no ExecStart=".into(), cat.clone()));
    }
    for value in file.all("Service", "LoadCredential") {
        let Some((id, path)) = value.split_once(':') else { continue };
        let is_set = file.all("Service", "SetCredential").iter().any(|set| set.split(':').next() == Some(id));
        if path.starts_with('/')
            && !path.starts_with("/run/")
            && !path.contains('%')
            && !is_set
            && !here::is_there(root, path)
        {
            found.push((path.into(), format!("its credential {path} is not there"), format!("put it back; {cat}")));
        }
    }
    let is_pattern = |path: &&String| path.starts_with('/') && path.contains(['*', '?']) && !path.contains(['%', '[']);
    for pattern in file.all("Service", "EnvironmentFile").iter().filter(is_pattern) {
        let there = Tree::open(root).map(|tree| tree.matching(pattern).iter().any(|path| tree.exists(path)));
        if matches!(there, Ok(false)) {
            let what = format!("no file of settings is called {pattern}");
            found.push((
                pattern.clone(),
                what,
                format!("put one back, or begin the line with EnvironmentFile=-; {cat}"),
            ));
        }
    }
    let is_asserted = |path: &&String| path.starts_with('/') && !path.starts_with("/run/") && !path.contains('%');
    for path in
        file.all("Unit", "AssertPathExists").iter().filter(is_asserted).filter(|path| !here::is_there(root, path))
    {
        found.push((path.clone(), format!("{path}, which it asserts, is not there"), format!("put it back; {cat}")));
    }
    found
}

/// The service that a timer or socket is to start, where that is not there.
pub(super) fn starts_nothing(root: &Path, unit: &str) -> Option<String> {
    let file = UnitFile::read(root, unit)?;
    let named = file.last("Timer", "Unit").or_else(|| file.last("Socket", "Service")).map(str::to_owned);
    let (name, kind) = unit.rsplit_once('.')?;
    let is_each = file.last("Socket", "Accept").is_some_and(|value| ["yes", "true", "on", "1"].contains(&value));
    let own = || match (kind == "socket" && is_each, name.split_once('@')) {
        (true, None) => format!("{name}@.service"),
        _ => format!("{name}.service"),
    };
    Some(named.unwrap_or_else(own)).filter(|service| is_nowhere(root, service))
}

/// Whether no file makes this unit.
fn is_nowhere(root: &Path, unit: &str) -> bool {
    let name = OF_FILES.iter().find_map(|end| unit.strip_suffix(end));
    name.is_some_and(|name| {
        let is_made = GENERATED.iter().any(|dir| here::is_there(root, &format!("{dir}/{unit}")));
        let is_of_init = here::is_there(root, &format!("/etc/init.d/{name}"));
        !name.contains('%') && !units::file_of(root, unit) && !is_made && !is_of_init
    })
}
