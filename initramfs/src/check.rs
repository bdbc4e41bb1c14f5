//! Would this server boot into its role? The same decisions as a boot, on the running system, writing nothing.

use crate::{PROGRAM, Places, boot, decide, identity, machine::Machine, refuse};
use atlas_host::{mount, tree::Dir};
use atlas_model::{BootReport, Outcome, Refusal, RefusalCode, manifest::FileSet, report::SetReport, survey::SetKind};
use atlas_sid::{Found, SidData, install::Plan, on_root, set_record, snapshot, worn};

/// Decides as a boot would. The Unbound file system has to be mounted, as it is on a server that runs.
pub fn check(places: &Places) -> BootReport {
    let mut report = BootReport::begin(PROGRAM);
    match decide(places, &mut report) {
        Ok(outcome) => report.outcome = outcome,
        Err(refusal) => report.refusal = Some(refusal),
    }
    report
}

fn decide(places: &Places, report: &mut BootReport) -> Result<Outcome, Refusal> {
    let root = Dir::open_root(&places.root).map_err(|error| refuse::of_file("open the root file system", &error))?;
    let Some(bound) = boot::read_bound(&root)? else { return Ok(Outcome::NotInitialised) };
    report.env_version = Some(bound.env_id);
    let bound_record = set_record::read_bound(&root).unwrap_or_else(|why| {
        report.warnings.push(why);
        None
    });
    let mut disks = Machine::looking(places);
    disks.bound_record = bound_record;
    let choice = decide::at_once(&mut disks, None)?.choice;
    report.warnings.extend(choice.warnings);
    let (uuid, members) = match &choice.kind {
        SetKind::Mirror { uuid, devices } => (uuid.to_string(), devices.clone()),
        SetKind::Single { device } => (choice.ext4.uuid_text(), vec![device.clone()]),
    };
    report.set = Some(SetReport {
        uuid,
        device: String::new(),
        members,
        disks: choice.disks,
        spares: vec![],
        rebuilding: vec![],
        not_taken: vec![],
        left_out: choice.left_out,
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
    let of_sid = |error| refuse::of_sid(&error);
    let unbound = Dir::open_root(&at).map_err(|error| refuse::of_file("open /unbound", &error))?;
    let sid = SidData::open(&unbound).map_err(of_sid)?;
    let (config, _) = boot::read_config(&sid, &bound, None)?;
    report.cluster = Some(config.cluster().to_string());
    report.role = Some(config.role());
    let missing = || atlas_sid::SidError::NoSnapshot {
        role: config.role(),
        env_version: bound.env_id,
        why: "its directory is missing".into(),
    };
    let role_dir = sid.role_dir(config.role()).map_err(of_sid)?.ok_or_else(|| of_sid(missing()))?;
    match snapshot::find_identity(&role_dir, config.role(), bound.env_id).map_err(of_sid)? {
        Found::FromScratch => {
            let (worn, doubt) = worn::read_or_unknown(&root).map_err(of_sid)?;
            report.warnings.extend(doubt);
            identity::from_scratch(&worn, &identity::of_set(&config, &choice.ext4.uuid_text()))?;
            Ok(Outcome::FromScratch)
        }
        Found::Older(snapshot) => {
            report.converted_from = Some(snapshot.manifest.env_version);
            Ok(Outcome::IdentityInstalled)
        }
        Found::Exact(snapshot) => {
            on_root::check(&root, &snapshot.ident_paths).map_err(of_sid)?;
            let plan = Plan::make(&root, &snapshot, FileSet::Ident).map_err(of_sid)?;
            report.installed = plan.changes().iter().map(ToString::to_string).collect();
            Ok(Outcome::IdentityInstalled)
        }
    }
}
