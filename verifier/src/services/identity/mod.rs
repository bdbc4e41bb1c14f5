//! Who this server is: its identity is as its last Snapshot has it, what runs is what is configured, nothing of PRI's is worn by a secondary, and
//! root can log in.
//!
//! ```text
//! SID_DATA/SEC1/EnvN/IdentFiles     what the next boot of these disks installs            ─ /etc: changed, gone, new
//! SID_DATA/PRI/EnvN/IdentFiles      PRI's addresses and names                             ─ /etc, /proc/net: no secondary has them
//! /proc/sys/kernel/hostname         the name that runs                                    ─ /etc/hostname
//! /run/log/journal, /var/log/journal  the machine id of this boot                         ─ /etc/machine-id
//! /etc/systemd/system               what configures the network as PRI's files have it is started by the boot
//! /etc/shadow                       an account that expired lets nobody in, by key either
//! ```

mod network;
mod root;

use crate::{
    here::{self, Faults, Member},
    service::{Service, Target},
};
use anyhow::Context;
use atlas_host::{net::addresses, object, tree::Dir};
use atlas_model::{
    Role,
    manifest::{FileSet, Kind},
    verify::{Fault, Profile, Verdict},
    worn::{RoleIdentity, Whose},
};
use atlas_sid::{
    Found, SidError, Snapshot,
    addresses::{of_host, of_role, on_wires},
    drift::differs,
    install::{Change, Plan},
    snapshot, worn,
};
use std::{
    collections::BTreeSet,
    net::{IpAddr, Ipv6Addr},
    path::Path,
};

pub(super) const SERVICE: Service = Service {
    name: "identity",
    about: "this server is who its Snapshot says, wears nothing of PRI's, and lets root in",
    interval: 30,
    deadline: 10,
    find: |_| Ok(here::found()),
    verify,
};

fn verify(target: &Target) -> anyhow::Result<Profile> {
    let Some(member) = Member::open(&target.root)? else {
        return Ok(Profile::ok("this server belongs to no cluster yet"));
    };
    let mut faults = Faults::default();
    let role = member.config.role();
    worn(&member, &mut faults)?;
    // What is changed on PRI is meant, and in the next Snapshot a moment later.
    if !role.is_primary() {
        snapshot(&member, &mut faults)?;
        of_pri(&member, &mut faults)?;
        network::is_taken(&member, &mut faults)?;
    }
    name(&target.root, &mut faults);
    machine_id(&target.root, &mut faults);
    root::can_log_in(&target.root, here::now(), &mut faults);
    Ok(faults.profile(format!("the identity is that of {role}")))
}

/// Whose identity this server wears: between 'atlas init' on disks that have an identity and the next boot it is still its own.
fn worn(member: &Member, faults: &mut Faults) -> anyhow::Result<()> {
    let (role, cluster) = (member.config.role(), member.config.cluster().clone());
    let identity = RoleIdentity { role, cluster, set: None, paths: vec![] };
    let (record, _) = worn::read_or_unknown(&member.tree).context("read whose identity this server wears")?;
    if record.whose == Whose::Unknown {
        return Ok(());
    }
    match worn::check(&member.tree, &member.sid, member.bound.env_id, &identity) {
        Err(SidError::ForeignIdentity { worn, .. }) => {
            let what = format!("this server has the disks of {role}, and wears {worn}");
            let hint = format!("reboot: that installs the identity of {role}");
            faults.add(Fault::new(Verdict::Unacceptable, what, hint).is("worn", &[]));
            Ok(())
        }
        other => other.map(drop).context("read whose identity this server wears"),
    }
}

/// What differs from the Snapshot that the next cycle takes anew.
fn snapshot(member: &Member, faults: &mut Faults) -> anyhow::Result<()> {
    let (role, env_version) = (member.config.role(), member.bound.env_id);
    let Some(dir) = member.sid.role_dir(role)? else { return Ok(()) };
    let found = snapshot::find_identity(&dir, role, env_version).context("read this server's Snapshot")?;
    let Found::Exact(snapshot) = found else { return Ok(()) };
    let plan = Plan::make(&member.tree, &snapshot, FileSet::Ident).context("compare the identity with its Snapshot")?;
    for change in plan.changes() {
        let path = change.path();
        let what = match change {
            Change::Add(_) => format!("{path} of this server's identity is gone"),
            Change::Remove(_) => format!("{path} is new in this server's identity"),
            Change::Replace(_) | Change::Adjust(..) => match changed(&member.tree, &snapshot, change) {
                Some(what) => format!("{path} of this server's identity was changed: {what}"),
                // It was only touched.
                None => continue,
            },
        };
        let hint = format!(
            "the next cycle takes it over as {role}'s identity: if that was not meant, put it back (ssSync identity; the copy is in SID_DATA/{role})"
        );
        faults.add(Fault::new(Verdict::Slow, what, hint).is("changed", &[&path.to_string()]));
    }
    Ok(())
}

fn changed(tree: &Dir, snapshot: &Snapshot, change: &Change) -> Option<String> {
    let entry = snapshot.manifest.of_set(FileSet::Ident).find(|entry| entry.path == *change.path())?;
    let is = tree.parent_of(&entry.path).and_then(|(dir, name)| object::read_to_compare(&dir, name, &entry.kind));
    differs(&is.unwrap_or(Kind::Absent), &entry.kind)
}

/// What of PRI's a secondary has.
fn of_pri(member: &Member, faults: &mut Faults) -> anyhow::Result<()> {
    let of_pri: BTreeSet<IpAddr> =
        of_role(&member.sid, Role::Pri).context("read PRI's addresses")?.into_iter().collect();
    let configured: BTreeSet<IpAddr> = on_wires(&addresses::read(&member.tree)).collect();
    let running = running(member.tree.shown());
    for address in of_pri.iter().filter(|address| on_one(address)) {
        let where_from = match (configured.contains(address), running.contains(address)) {
            (true, true) => "is configured here, and in use",
            (true, false) => "is configured here: the next boot would take it",
            (false, true) => "is in use here, although nothing configures it",
            (false, false) => continue,
        };
        let hint = format!(
            "ip address show to {address}; take it out of this server's network files; ip address del {address}/… dev …"
        );
        let what = format!("PRI's address {address} {where_from}");
        faults.add(Fault::new(Verdict::Unacceptable, what, hint).is("address", &[]));
    }
    let Some(hosts) = pri_file(member, "etc/hosts")? else { return Ok(()) };
    let own = here::text(member.tree.shown(), "etc/hosts").unwrap_or_default();
    for name in names_in(&hosts) {
        let (there, now) = (of_host(&name, &hosts), of_host(&name, &own));
        if !there.is_empty() && !now.is_empty() && there != now {
            let shown = |all: &[IpAddr]| all.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
            let what =
                format!("/etc/hosts says that {name} is {}, and PRI's that it is {}", shown(&now), shown(&there));
            faults.slow(what, "correct /etc/hosts on the one that is wrong");
        }
    }
    if let Some(name) = pri_file(member, "etc/hostname")?.as_deref().and_then(first_word)
        && here::text(member.tree.shown(), "etc/hostname").as_deref().and_then(first_word) == Some(name)
    {
        faults.slow(
            format!("this server is called {name}, as PRI is"),
            "give it a name of its own: hostnamectl set-hostname NAME",
        );
    }
    Ok(())
}

/// Loopback and the like are every server's.
fn on_one(address: &IpAddr) -> bool {
    !address.is_loopback() && !address.is_unspecified()
}

/// The files of PRI's identity.
fn pri_dir(member: &Member) -> anyhow::Result<Option<Dir>> {
    let Some(dir) = member.sid.role_dir(Role::Pri)? else { return Ok(None) };
    let Some(version) = snapshot::newest(&dir)? else { return Ok(None) };
    match dir.dir(format!("{}/{}", version.dir_name(), FileSet::Ident.dir_name())) {
        Ok(dir) => Ok(Some(dir)),
        Err(error) if error.is_not_found() => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// A file of PRI's identity.
fn pri_file(member: &Member, path: &str) -> anyhow::Result<Option<String>> {
    let Some(dir) = pri_dir(member)? else { return Ok(None) };
    let content = dir.read_if_there(path, 1 << 20)?;
    Ok(content.map(|content| String::from_utf8_lossy(&content).into_owned()))
}

fn names_in(hosts: &str) -> BTreeSet<String> {
    let lines = hosts.lines().filter_map(|line| line.split('#').next());
    lines.flat_map(|line| line.split_whitespace().skip(1)).map(str::to_lowercase).collect()
}

/// The addresses that the kernel takes for its own.
fn running(root: &Path) -> BTreeSet<IpAddr> {
    let mut found = BTreeSet::new();
    let (mut last, tries) = (None, here::text(root, "proc/net/fib_trie").unwrap_or_default());
    for line in tries.lines().map(str::trim) {
        if let Some(address) = line.strip_prefix("|-- ") {
            last = address.parse::<IpAddr>().ok();
        } else if line.ends_with("host LOCAL") {
            found.extend(last);
        }
    }
    let sixes = here::text(root, "proc/net/if_inet6").unwrap_or_default();
    let six = |line: &str| u128::from_str_radix(line.split_whitespace().next()?, 16).ok();
    found.extend(sixes.lines().filter_map(six).map(|bits| IpAddr::from(Ipv6Addr::from(bits))));
    found
}

fn first_word(text: &str) -> Option<&str> {
    text.lines().map(str::trim).find(|line| !line.is_empty() && !line.starts_with('#'))
}

/// The name that runs and the one that is configured.
fn name(root: &Path, faults: &mut Faults) {
    let (Some(runs), Some(file)) = (here::text(root, "proc/sys/kernel/hostname"), here::text(root, "etc/hostname"))
    else {
        return;
    };
    let Some(configured) = first_word(&file) else {
        return faults.slow("/etc/hostname has no name in it", "hostnamectl set-hostname NAME");
    };
    let short = |name: &str| name.split('.').next().unwrap_or_default().to_lowercase();
    if short(&runs) != short(configured) {
        let what = format!("this server calls itself {runs}, and /etc/hostname {configured}");
        faults.slow(what, "hostname -F /etc/hostname; or, where the file is wrong: hostnamectl set-hostname NAME");
    }
}

/// One that is missing is made anew by the next boot; one that was changed makes the journal of this boot another machine's.
fn machine_id(root: &Path, faults: &mut Faults) {
    let is_id = |text: &str| text.len() == 32 && text.bytes().all(|b| b.is_ascii_hexdigit());
    let journals: BTreeSet<String> = ["run/log/journal", "var/log/journal"]
        .into_iter()
        .flat_map(|dir| here::names(root, dir))
        .filter(|name| is_id(name))
        .collect();
    let id = here::text(root, "etc/machine-id").unwrap_or_default();
    let hint = "put it back: ls /var/log/journal /run/log/journal names it, and so does the backup";
    match id.trim() {
        // A tree of which no system runs has none.
        "" if journals.is_empty() => {}
        text if !is_id(text) => faults.slow("/etc/machine-id holds no id: the next boot would make another", hint),
        text if !journals.is_empty() && !journals.contains(text) => {
            faults.slow("/etc/machine-id was changed since this server was booted", hint);
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests;
