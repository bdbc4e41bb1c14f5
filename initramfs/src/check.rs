//! Would this server boot into its role? The decisions of a boot, on the running system, writing nothing.

use crate::{
    PROGRAM, Places,
    boot::Clock,
    decide::{self, Disks, Found},
    identity::How,
    machine::Machine,
    refuse,
    role::{self, Start},
    watch::Voice,
};
use atlas_host::{mount, tree::Dir};
use atlas_model::{BootReport, Outcome, Refusal, RefusalCode, report::SetReport, survey::SetKind};

/// Decides as a boot would. The Unbound file system has to be mounted, as it is on a server that runs.
pub fn check(places: &Places) -> BootReport {
    let mut report = BootReport::begin(PROGRAM);
    let mut clock = Clock::new(Voice::default());
    let answer = answer(places, &mut report, &mut clock);
    report.steps = clock.steps();
    match answer {
        Ok(outcome) => report.outcome = outcome,
        Err(refusal) => report.refusal = Some(refusal),
    }
    report
}

fn answer(places: &Places, report: &mut BootReport, clock: &mut Clock) -> Result<Outcome, Refusal> {
    let root = Dir::open_root(&places.root).map_err(|error| refuse::of_file("open the root file system", &error))?;
    let Some(start) = Start::read(&root, report)? else { return Ok(Outcome::NotInitialised) };
    let mut disks = Machine::looking(places);
    disks.bound_record.clone_from(&start.record);
    let found = find(&mut disks, &start, report)?;
    decide(places, &root, &start, &found, report, clock).map_err(|refusal| refuse::with_disks(refusal, &found.choice))
}

/// The set that a boot would take, if the disks stayed as they are.
pub(crate) fn find(disks: &mut impl Disks, start: &Start, report: &mut BootReport) -> Result<Found, Refusal> {
    let found = decide::at_once(disks, start.acceptance.as_ref())?;
    role::remember(&found, start, report);
    Ok(found)
}

fn decide(
    places: &Places,
    root: &Dir,
    start: &Start,
    found: &Found,
    report: &mut BootReport,
    clock: &mut Clock,
) -> Result<Outcome, Refusal> {
    let choice = &found.choice;
    let (uuid, members) = match &choice.kind {
        SetKind::Mirror { uuid, devices } => (uuid.to_string(), devices.clone()),
        SetKind::Single { device } => (choice.ext4.uuid_text(), vec![device.clone()]),
    };
    report.set = Some(SetReport {
        uuid,
        device: String::new(),
        members,
        disks: choice.disks.clone(),
        spares: vec![],
        rebuilding: vec![],
        not_taken: vec![],
        left_out: choice.left_out.clone(),
        degraded: choice.degraded,
        file_system: "mounted".into(),
    });
    let at = places.unbound();
    if !mount::is_mount_point(&at).map_err(|error| refuse::of_file("look at /unbound", &error))? {
        return Err(Refusal::new(
            RefusalCode::Internal,
            "The Unbound set is there, but not mounted, so its content is unknown.",
        )
        .because("what it says of the role cannot be checked")
        .remedy("reboot, or mount it: mount LABEL=ATLAS-UNBOUND /unbound"));
    }
    look(places, root, start, found, report, clock)
}

/// What a boot would make of the mounted set.
pub(crate) fn look(
    places: &Places,
    root: &Dir,
    start: &Start,
    found: &Found,
    report: &mut BootReport,
    clock: &mut Clock,
) -> Result<Outcome, Refusal> {
    let file_system = found.choice.ext4.uuid_text();
    let (config, identity) = role::prepare(places, root, start, &file_system, How::Look, report, clock)?;
    report.role = Some(config.role());
    report.converted_from = identity.converted.as_ref().map(|converted| converted.from);
    report.installed.clone_from(&identity.changes);
    Ok(if identity.from_scratch { Outcome::FromScratch } else { Outcome::IdentityInstalled })
}
