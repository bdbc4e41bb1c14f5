//! Who this server is to be: from the Bound Data, and a set that was chosen and mounted, to an identity.
//!
//! A boot and a question about the next one (`atlas-boot check`, and with it `atlas init --check`) come through here with the same facts and get the
//! same answer. What only the boot does to the root file system, [`How`] says.
//!
//! ```text
//!   start      EnvID and Cluster; what was accepted; how the set was made
//!   …          the disks: crate::decide
//!   prepare    MasterConfig ─ cluster ─ Snapshot ─ conversion ─ paths on the root file system ─ whose identity is worn ─ what would change
//! ```

use crate::{
    Places, accept,
    boot::{Clock, INITIALISED},
    decide::Found,
    identity::{Disks, How, Identity},
    refuse,
};
use atlas_host::tree::Dir;
use atlas_model::{
    Acceptance, BootReport, MasterConfig, Refusal, RefusalCode, TreePath, ext4::Ext4Superblock, set_record::SetRecord,
};
use atlas_sid::{BoundData, SidData, SidError, on_root, set_record};
use std::time::{SystemTime, UNIX_EPOCH};

/// What the Bound disk says before any other is looked at.
#[derive(Debug)]
pub(crate) struct Start {
    /// Which environment, of which cluster.
    pub(crate) bound: BoundData,
    /// What an operator accepted for this boot.
    pub(crate) accepted: Vec<Acceptance>,
    /// How the set was made that was last in this server.
    pub(crate) record: Option<SetRecord>,
}

impl Start {
    /// Reads it; `None`: this machine is not (yet) ATLAS's.
    pub(crate) fn read(root: &Dir, report: &mut BootReport) -> Result<Option<Start>, Refusal> {
        let Some(bound) = read_bound(root)? else { return Ok(None) };
        keeps_what_is_written(root)?;
        report.env_version = Some(bound.env_id);
        let accepted = or_warn(accept::read(root).map(Some), report).unwrap_or_default();
        let record = or_warn(set_record::read_bound(root), report);
        Ok(Some(Start { bound, accepted, record }))
    }

    /// What was accepted about the disks themselves.
    pub(crate) fn of_disks(&self) -> Option<&Acceptance> {
        let is_of_disks =
            |one: &&Acceptance| matches!(one.code, RefusalCode::MissingMember | RefusalCode::WrittenApart);
        self.accepted.iter().find(is_of_disks)
    }
}

/// An identity is installed only where the next boot finds it.
pub(crate) fn keeps_what_is_written(root: &Dir) -> Result<(), Refusal> {
    match on_root::volatile(root) {
        Ok(None) => Ok(()),
        Ok(Some(file_system)) => Err(refuse::root_forgets(&file_system)),
        Err(error) => Err(refuse::of_file("look at the root file system", &error)),
    }
}

/// What cannot be read counts as not there, and that is said.
fn or_warn<T>(read: Result<Option<T>, String>, report: &mut BootReport) -> Option<T> {
    read.unwrap_or_else(|why| {
        report.warnings.push(why);
        None
    })
}

/// `None`: this machine is not (yet) ATLAS's.
pub(crate) fn read_bound(root: &Dir) -> Result<Option<BoundData>, Refusal> {
    let bound = BoundData::read(root).map_err(|error| refuse::of_bound(&error))?;
    let marker = TreePath::parse(INITIALISED).ok().and_then(|path| {
        let (dir, name) = root.parent_of(&path).ok()?;
        dir.stat(name).ok().flatten()
    });
    if bound.is_none() && marker.is_some() {
        return Err(refuse::bound_lost(INITIALISED));
    }
    Ok(bound)
}

/// By this server's clock, in seconds since 1970.
pub(crate) fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

/// Puts what was found on the way to a set into the report.
pub(crate) fn remember(found: &Found, start: &Start, report: &mut BootReport) {
    let of_now = found.warnings.iter().chain(&found.choice.warnings).cloned().chain(found.choice.of_the_future(now()));
    for warning in of_now {
        if !report.warnings.contains(&warning) {
            report.warnings.push(warning);
        }
    }
    report.accepted = start.of_disks().filter(|_| found.accepted).cloned().into_iter().collect();
}

/// The Sync and Identity Data of the mounted set.
pub(crate) fn open_sid(places: &Places) -> Result<SidData, Refusal> {
    let unbound =
        Dir::open_root(places.unbound()).map_err(|error| refuse::of_file("open the Unbound file system", &error))?;
    match SidData::open(&unbound) {
        Err(SidError::File(error)) if error.is_not_found() => {
            Err(refuse::of_sid(&SidError::NoMasterConfig(unbound.show("SID_DATA/MasterConfig"))))
        }
        other => other.map_err(|error| refuse::of_sid(&error)),
    }
}

/// Reads MasterConfig and checks that the disks belong here; gives the acceptance that this needed.
fn read_config<'s>(
    sid: &SidData,
    start: &'s Start,
    ext4: &Ext4Superblock,
) -> Result<(MasterConfig, Option<&'s Acceptance>), Refusal> {
    let config = sid.master_config().map_err(|error| refuse::of_sid(&error))?;
    if config.cluster() == &start.bound.cluster {
        return Ok((config, None));
    }
    let refusal = refuse::foreign_cluster(&config.cluster().to_string(), &start.bound.cluster.to_string(), ext4);
    match start.accepted.iter().find(|one| one.is_for(&refusal)) {
        Some(acceptance) => Ok((config, Some(acceptance))),
        None => Err(refusal),
    }
}

/// With the set mounted, whose file system this is: who this server is, and its identity.
pub(crate) fn prepare<'r>(
    places: &Places,
    root: &'r Dir,
    start: &Start,
    ext4: &Ext4Superblock,
    how: How,
    report: &mut BootReport,
    clock: &mut Clock,
) -> Result<(MasterConfig, Identity<'r>), Refusal> {
    let (sid, (config, acceptance)) = clock.step("read who this server is", || {
        let sid = open_sid(places)?;
        let config = read_config(&sid, start, ext4)?;
        Ok::<_, Refusal>((sid, config))
    })?;
    report.accepted.extend(acceptance.cloned());
    report.cluster = Some(config.cluster().to_string());
    let file_system = &ext4.uuid_text();
    let disks = Disks { sid: &sid, config: &config, file_system };
    let identity = Identity::prepare(places, root, &disks, &start.bound, how, clock)?;
    report.warnings.extend_from_slice(&identity.warnings);
    Ok((config, identity))
}
