//! What runs the services: units active now and at the next boot, whole configuration, programs, directories, kernel modules, listening where
//! clients come, no firewall in the way.
//!
//! Partners exercise each service over the network; what they see is that it does not answer. Here is why, and what they cannot see: that it
//! would not come back after a boot.
//!
//! ```text
//! /etc/atlas/verifier/Services.json ─► table.rs: what Debian runs for each ─► systemctl show, the tree, modprobe, /proc/net, nft
//! ```
//!
//! Two programs may provide one service, and the configuration of one that was removed stays. So the configuration makes a program a candidate,
//! and one that is neither installed nor switched on counts only where no other provides the service.

pub(super) mod device;
mod firewall;
mod kernel;
mod listening;
mod table;

use super::packages;
use crate::{
    here::{self, Faults},
    service::{BOUND, Service, Target},
};
use anyhow::Context;
use atlas_host::tree::Dir;
use atlas_model::{
    Role,
    verify::{At, Fault, FoundService, Instance, Profile, Services, Verdict},
};
use atlas_sid::accounts;
use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, UdpSocket},
    os::unix::fs::MetadataExt,
    path::Path,
};
pub(crate) use table::{Beside, SERVERS, Server};

pub(super) const SERVICE: Service = Service {
    name: "services",
    about: "what provides the services runs, starts at the next boot, and has what it needs",
    interval: 30,
    deadline: 30,
    find: |_| Ok(here::found()),
    verify,
};

/// What SetUp found on PRI, on every server.
const SERVICES: &str = "etc/atlas/verifier/Services.json";

/// What systemd says of a unit, by property.
type Unit = BTreeMap<String, String>;

fn verify(target: &Target) -> anyhow::Result<Profile> {
    let mut faults = Faults::default();
    let Some(text) = here::text(&target.root, SERVICES) else {
        return Ok(Profile::ok("no services have been found yet"));
    };
    let found: Services = serde_json::from_str(&text).context("read which services there are")?;
    let services: BTreeMap<&str, &FoundService> = found
        .services
        .iter()
        .filter(|(_, it)| !it.instances.is_empty())
        .map(|(name, it)| (name.as_str(), it))
        .collect();
    let names: BTreeSet<&str> = services.keys().copied().collect();
    let candidates: Vec<&Server> = SERVERS
        .iter()
        .filter(|server| {
            server.services.iter().any(|name| names.contains(name))
                && here::is_there(&target.root, server.config)
                && packages::may_run_on_pri(&found, server.package)
        })
        .collect();
    let units = units(target, &candidates, &services, &mut faults);
    let (mut seen, mut waiting) = (Vec::new(), Vec::new());
    // What a secondary has not installed is told once, by `packages`.
    let is_told = |server: &Server| {
        target.role.is_some_and(|role| role != Role::Pri)
            && found.services.contains_key("packages")
            && !here::is_there(&target.root, server.program)
    };
    for server in candidates.iter().filter(|server| !is_told(server)) {
        let provides = provides(&target.root, server, units.as_ref());
        let other = candidates.iter().any(|other| {
            other.services.iter().any(|name| server.services.contains(name))
                && self::provides(&target.root, other, units.as_ref())
        });
        if (provides || !other) && waits(target, server, &services) {
            waiting.push(server.package);
        } else if provides || !other {
            judge(&target.root, server, units.as_ref(), &mut faults);
            if let Some(units) = &units {
                let own = own_units(server, &services);
                own.iter().for_each(|unit| states(server, &[unit], units, &mut faults));
            }
            configuration(target, server, &mut faults);
            seen.push(server.package);
        }
    }
    let modules: BTreeSet<&str> = candidates.iter().flat_map(|server| server.modules).copied().collect();
    kernel::modules(target, &modules, &mut faults);
    let ports = ports(&services);
    listening::look(&target.root, &ports, &mut faults);
    firewall::look(target, &ports, &mut faults);
    let mut well = match seen.len() {
        0 if waiting.is_empty() => "none of the services needs a program here that is known".to_owned(),
        0 => "nothing runs here yet".to_owned(),
        _ => format!("runs, now and after a boot: {}", seen.join(", ")),
    };
    if !waiting.is_empty() {
        well.push_str(&format!(
            "; listens on PRI's addresses alone, and runs when this server is PRI: {}",
            waiting.join(", ")
        ));
    }
    Ok(faults.profile(well))
}

/// Whether a program cannot run here before this server is PRI: some instance of it listens on addresses alone that this server does not have.
fn waits(target: &Target, server: &Server, services: &BTreeMap<&str, &FoundService>) -> bool {
    let is_secondary = target.role.is_some_and(|role| role != Role::Pri);
    let all: Vec<_> =
        server.services.iter().filter_map(|name| services.get(name)).flat_map(|found| &found.instances).collect();
    let has = |address: &str| address.parse::<IpAddr>().is_ok_and(|address| UdpSocket::bind((address, 0)).is_ok());
    let is_elsewhere = |instance: &&Instance| {
        instance.options.get(BOUND).is_some_and(|addresses| !addresses.split_whitespace().any(has))
    };
    is_secondary && all.iter().any(is_elsewhere)
}

/// The ports of the services that clients reach over the network, and whether each is of UDP.
fn ports(services: &BTreeMap<&str, &FoundService>) -> Vec<(String, u16, bool)> {
    let is_udp = |name: &str| SERVERS.iter().any(|server| server.is_udp && server.services.contains(&name));
    let of = |(name, found): (&&str, &&FoundService)| -> Vec<(String, u16, bool)> {
        let reached = found.instances.iter().filter(|instance| instance.at == At::Partners);
        let ports = reached.filter_map(|instance| instance.options.get("port")?.parse().ok());
        ports.map(|port| ((*name).to_owned(), port, is_udp(name))).collect()
    };
    services.iter().flat_map(of).collect()
}

/// Asks systemd once for all units; nothing where there is none to ask.
fn units(
    target: &Target,
    candidates: &[&Server],
    services: &BTreeMap<&str, &FoundService>,
    faults: &mut Faults,
) -> Option<BTreeMap<String, Unit>> {
    let own: Vec<String> = candidates.iter().flat_map(|server| own_units(server, services)).collect();
    let names = candidates.iter().flat_map(|server| server.units).copied().chain(own.iter().map(String::as_str));
    let names: Vec<&str> = names.collect();
    if names.is_empty() || !here::has_systemd(&target.root) {
        return None;
    }
    let args =
        [&["show", "--property=Id,LoadState,ActiveState,SubState,UnitFileState,Names", "--"], &names[..]].concat();
    let answer = here::run(&target.root, "systemctl", &args, target.left())?;
    match answer.and_then(|output| if output.status.success() { Ok(output.text()) } else { Err(output.complaint()) }) {
        Ok(text) => Some(by_name(&text)),
        Err(why) => {
            faults.unknown(format!("which units run cannot be told: {why}"), "systemctl is-system-running");
            None
        }
    }
}

/// The units of what SetUp found of one program.
fn own_units(server: &Server, services: &BTreeMap<&str, &FoundService>) -> Vec<String> {
    let found = server.services.iter().filter_map(|name| services.get(name)).flat_map(|found| &found.instances);
    found.filter_map(|instance| (server.unit_of)(&instance.name)).collect()
}

/// `systemctl show`: a paragraph for each unit; one that has several names stands under each.
fn by_name(text: &str) -> BTreeMap<String, Unit> {
    let mut units = BTreeMap::new();
    for paragraph in text.split("\n\n") {
        let pairs = paragraph.lines().filter_map(|line| line.split_once('='));
        let unit: Unit = pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
        let names = [unit.get("Id"), unit.get("Names")].into_iter().flatten().flat_map(|names| names.split(' '));
        for name in names {
            units.insert(name.to_owned(), unit.clone());
        }
    }
    units
}

fn property<'u>(units: &'u BTreeMap<String, Unit>, unit: &str, name: &str) -> &'u str {
    units.get(unit).and_then(|unit| unit.get(name)).map_or("", String::as_str)
}

fn is_on(state: &str) -> bool {
    ["enabled", "enabled-runtime", "static", "generated", "alias", "indirect", "linked"].contains(&state)
}

/// Whether this program is there, or somebody wants it to run.
fn provides(root: &Path, server: &Server, units: Option<&BTreeMap<String, Unit>>) -> bool {
    let is_wanted = |unit: &&&str| {
        units.is_some_and(|units| {
            property(units, unit, "UnitFileState") == "enabled" || property(units, unit, "ActiveState") == "active"
        })
    };
    here::is_there(root, server.program) || server.units.iter().find(is_wanted).is_some()
}

fn judge(root: &Path, server: &Server, units: Option<&BTreeMap<String, Unit>>, faults: &mut Faults) {
    if !here::is_there(root, server.program) {
        let what = format!(
            "the program /{} is not there: the package {} is missing or broken",
            server.program, server.package
        );
        add(faults, server, "package", &[], what, format!("apt-get install --reinstall {}", server.package));
    }
    if let Some(units) = units {
        states(server, server.units, units, faults);
    }
    for (directory, owners) in server.directories {
        self::directory(root, server, directory, owners, faults);
    }
}

/// A fault that keeps a program from serving.
fn add(faults: &mut Faults, server: &Server, kind: &str, units: &[&str], what: String, hint: String) {
    let of: Vec<&str> = server.services.iter().chain([&server.package]).chain(units).copied().collect();
    faults.add(Fault::new(Verdict::Unacceptable, what, hint).is(kind, &of));
}

/// Whether it would start again with its configuration: one that runs does not notice that this was broken since.
fn configuration(target: &Target, server: &Server, faults: &mut Faults) {
    let Some((program, args)) = server.check.split_first() else { return };
    // sshd makes this directory as it starts, and looks at nothing without it.
    if *program == "sshd" && !here::is_there(&target.root, "run/sshd") {
        return;
    }
    let hint = match *program {
        "sh" => "mend what it names; pg_lsclusters shows where it lies".to_owned(),
        _ => format!("{}; mend what it names", server.check.join(" ")),
    };
    match here::run(&target.root, program, args, target.left()) {
        Some(Ok(output)) if !output.status.success() => {
            let what = format!("the configuration of {} is broken, it would not start again", server.package);
            add(faults, server, "configuration", &[], format!("{what}: {}", output.complaint()), hint);
        }
        Some(Err(why)) => {
            faults.unknown(
                format!("whether the configuration of {} is whole cannot be told: {why}", server.package),
                hint,
            );
        }
        _ => {}
    }
}

/// Whether one of its units runs, and whether one would after a boot.
fn states(server: &Server, names: &[&str], units: &BTreeMap<String, Unit>, faults: &mut Faults) {
    let package = server.package;
    let there: Vec<&str> =
        names.iter().copied().filter(|unit| !["", "not-found"].contains(&property(units, unit, "LoadState"))).collect();
    let Some(first) = there.first() else {
        let what = format!("there is no unit {}: the package {package} is missing or broken", names.join(" or "));
        return add(faults, server, "package", names, what, format!("apt-get install --reinstall {package}"));
    };
    let active = |unit: &&str| ["active", "reloading", "refreshing"].contains(&property(units, unit, "ActiveState"));
    if !there.iter().any(active) {
        let state = format!("{}, {}", property(units, first, "ActiveState"), property(units, first, "SubState"));
        let hint = format!("systemctl status {first}; journalctl -b -u {first}; systemctl start {first}");
        add(faults, server, "stopped", &there, format!("{first} does not run ({state})"), hint);
    }
    if !there.iter().any(|unit| is_on(property(units, unit, "UnitFileState"))) {
        let state = property(units, first, "UnitFileState");
        let hint = if state.starts_with("masked") { format!("systemctl unmask {first}; ") } else { String::new() };
        let state = if state.is_empty() { "not enabled" } else { state };
        let what = format!("{first} would not start at the next boot: it is {state}");
        add(faults, server, "disabled", &there, what, format!("{hint}systemctl enable {first}"));
    }
}

fn directory(root: &Path, server: &Server, directory: &str, owners: &[&str], faults: &mut Faults) {
    let (package, usual) = (server.package, owners.first().unwrap_or(&"root"));
    let Ok(meta) = std::fs::metadata(root.join(directory)) else {
        let hint = format!("apt-get install --reinstall {package}; or: install -d -o {usual} /{directory}");
        let what = format!("/{directory}, which {package} needs, is not there");
        return add(faults, server, "directory", &[], what, hint);
    };
    let accounts = Dir::open_root(root).ok().and_then(|tree| accounts::owners_of(&tree).ok()).unwrap_or_default();
    let number = format!("account number {}", meta.uid());
    let is = accounts.users.get(&meta.uid()).unwrap_or(&number);
    // Where no account can be read, nobody knows whose it is.
    if !accounts.users.is_empty() && !owners.contains(&is.as_str()) {
        let what = format!("/{directory}, which {package} needs, belongs to {is} instead of {usual}");
        let hint = format!("chown {usual} /{directory}; then see what is in it: ls -la /{directory}");
        add(faults, server, "directory", &[], what, hint);
    }
}

#[cfg(test)]
mod tests;
