//! What on a secondary listens on PRI's addresses alone: it cannot run before this server is PRI, so it is started where PRI's addresses are, and
//! exercised there.
//!
//! ```text
//!  Services.json  ─► instances that wait: bound to addresses that this server does not have
//!  PRI's Snapshot ─► a network with PRI's addresses, interfaces and names      host::net::replica
//!    └─► VerifyService as-pri apart: a room where nothing can be changed       host::room
//!          └─► the daemon with this server's files ─► each instance's own verify, as PRI's clients come ─► room.rs
//! ```
//!
//! What cannot be started beside itself is named with its reason. What a daemon passes on to another, which is not in the room, is not exercised.

mod room;

pub use room::Apart;
pub(crate) use room::{APART, run};

use super::{
    daemon::may_start,
    running::{Beside, SERVERS, Server},
};
use crate::{
    here::{self, Faults, Member},
    service::{BESIDE, BOUND, Service, Target, Tree},
};
use anyhow::Context;
use atlas_host::net::replica::Replica;
use atlas_model::{
    Role,
    manifest::FileSet,
    verify::{At, Instance, Profile, Services, Verdict},
};
use atlas_sid::snapshot::{self, Found};
use room::{Exercised, Task};
use std::{
    collections::BTreeSet,
    net::{IpAddr, UdpSocket},
};

pub(super) const SERVICE: Service = Service {
    name: "as-pri",
    about: "what listens on PRI's addresses alone works on this secondary, in a network that has them",
    interval: 300,
    deadline: 90,
    find: |_| Ok(here::found()),
    verify,
};

/// What SetUp found on PRI, on every server.
const SERVICES: &str = "etc/atlas/verifier/Services.json";
/// The most instances that are exercised in one room.
const MOST: usize = 100;

fn verify(target: &Target) -> anyhow::Result<Profile> {
    if target.role.is_none_or(|role| role == Role::Pri) {
        return Ok(Profile::ok(
            "this server is PRI: what listens on its addresses alone is exercised with everything else",
        ));
    }
    let Some(text) = here::text(&target.root, SERVICES) else {
        return Ok(Profile::ok("no services have been found yet"));
    };
    let found: Services = serde_json::from_str(&text).context("read which services there are")?;
    let waiting = waiting(&found);
    if waiting.is_empty() {
        return Ok(Profile::ok("no service listens on PRI's addresses alone"));
    }
    let (tasks, not) = tasks(target, &waiting)?;
    let mut exercised = Exercised { not, ..Exercised::default() };
    if !tasks.is_empty() {
        let addresses = waiting.iter().flat_map(|(_, instance)| addresses(instance));
        let mut network = network(target)?;
        network = addresses.fold(network, Replica::with).with_interfaces_of(&Replica::of_this_server());
        exercised.add(room::exercise(target, &network, &tasks)?);
    }
    Ok(judged(exercised))
}

/// The addresses without which an instance's program does not start.
fn addresses(instance: &Instance) -> Vec<IpAddr> {
    let named = [BOUND, BESIDE].into_iter().find_map(|key| instance.options.get(key));
    named.into_iter().flat_map(|all| all.split_whitespace()).filter_map(|at| at.parse().ok()).collect()
}

/// What was found on PRI that listens on addresses alone that this server does not have.
fn waiting(found: &Services) -> Vec<(&str, &Instance)> {
    let is_here = |address: &IpAddr| UdpSocket::bind((*address, 0)).is_ok();
    let waits = |instance: &&Instance| {
        let all = addresses(instance);
        instance.at == At::Partners && !all.is_empty() && !all.iter().any(is_here)
    };
    found
        .services
        .iter()
        .flat_map(|(name, found)| found.instances.iter().filter(waits).map(move |one| (name.as_str(), one)))
        .take(MOST)
        .collect()
}

/// What is to be started for whom, and what is not exercised, with why.
fn tasks(target: &Target, waiting: &[(&str, &Instance)]) -> anyhow::Result<(Vec<Task>, Vec<String>)> {
    let tree = Tree::open(&target.root)?;
    let (mut tasks, mut not) = (vec![], vec![]);
    let names: BTreeSet<&str> = waiting.iter().map(|(name, _)| *name).collect();
    for name in names {
        let is_there = |server: &&Server| {
            server.services.contains(&name)
                && here::is_there(&target.root, server.program)
                && here::is_there(&target.root, server.config)
                && may_start(&tree, server.units)
        };
        let servers: Vec<&Server> = SERVERS.iter().filter(is_there).collect();
        let mut start = vec![];
        for server in &servers {
            match server.beside {
                Beside::Start(script) => start.push((server.package.to_owned(), script.to_owned())),
                Beside::Never(why) => not.push(format!("{} is not exercised as PRI, because {why}", server.package)),
            }
        }
        // A mail server and a mailbox server are one service of two programs, of which perhaps one is started here.
        let is_started = |instance: &Instance| {
            instance.options.get("protocol").is_none_or(|protocol| {
                let of = servers.iter().filter(|server| server.services.contains(&protocol.as_str()));
                of.clone().next().is_none() || of.clone().any(|server| matches!(server.beside, Beside::Start(_)))
            })
        };
        let instances: Vec<Instance> = waiting
            .iter()
            .filter(|(of, instance)| *of == name && is_started(instance))
            .map(|(_, instance)| (*instance).clone())
            .collect();
        match start.is_empty() || instances.is_empty() {
            false => tasks.push(Task { service: name.to_owned(), start, instances }),
            // That a program is missing is found by `services`.
            true if servers.is_empty() => {
                not.push(format!("{name} is not exercised as PRI, because no program for it is here"));
            }
            true => (),
        }
    }
    Ok((tasks, not))
}

/// PRI's network, by the identity that would be this server's.
fn network(target: &Target) -> anyhow::Result<Replica> {
    let Some(member) = Member::open(&target.root)? else { return Ok(Replica::default()) };
    let Some(dir) = member.sid.role_dir(Role::Pri).context("look for PRI's Snapshot")? else {
        return Ok(Replica::default());
    };
    let files = match snapshot::find(&dir, Role::Pri, member.bound.env_id).context("look for PRI's Snapshot")? {
        Found::Exact(snapshot) | Found::Older(snapshot) => snapshot.files(FileSet::Ident)?,
        Found::FromScratch => None,
    };
    Ok(files.map(|files| Replica::of_identity(&files)).unwrap_or_default())
}

/// All in one.
fn judged(exercised: Exercised) -> Profile {
    let mut faults = Faults::default();
    let hint = "in a network of its own with PRI's addresses: VerifyService as-pri verify --host localhost --role SEC1; \
        the configuration's own check: nginx -t, apachectl configtest, named-checkconf";
    for fault in &exercised.faults {
        faults.unacceptable(fault.clone(), hint);
    }
    let mut well = vec![];
    for (what, profile) in &exercised.found {
        let told = format!("as PRI, {what}: {}", profile.summary);
        let hint = profile.hint.clone().unwrap_or_else(|| hint.to_owned());
        match profile.verdict {
            Verdict::Ok => well.push(what.as_str()),
            // A machine that has other work, too, is slower than PRI would be.
            Verdict::Slow => faults.slow(told, hint),
            Verdict::Unacceptable => faults.unacceptable(told, hint),
            Verdict::Unknown => faults.unknown(told, hint),
        }
    }
    let mut said = vec![];
    if !well.is_empty() {
        said.push(format!("works in a network that has PRI's addresses: {}", well.join(", ")));
    }
    said.extend(exercised.not);
    faults.profile(said.join("; "))
}

#[cfg(test)]
mod tests;
