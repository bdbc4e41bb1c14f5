//! Would this server boot into its role? The decisions of a boot, on the running system, writing nothing.

use crate::{
    PROGRAM, Places,
    boot::Clock,
    decide::{self, Disks, Found},
    gate,
    identity::How,
    machine::Machine,
    refuse,
    role::{self, Start},
    unbound::{self, ReadOnlySet},
    watch::Voice,
};
use atlas_host::{mount, tree::Dir};
use atlas_model::{
    BootReport, Outcome, Refusal, RefusalCode,
    report::SetReport,
    survey::{SetChoice, SetKind},
};
use std::path::{Path, PathBuf};

/// Decides as a boot would. Where the Unbound file system is not mounted, it is, read-only and for this program alone, until it was looked into.
pub fn check(places: &Places) -> BootReport {
    let mut report = BootReport::begin(PROGRAM);
    let mut clock = Clock::new(Voice::default());
    let answer = answer(places, &mut report, &mut clock).and_then(|outcome| match refused_now(places) {
        Some(refusal) if refusal.code == RefusalCode::AddressInUse => {
            let again = "that was heard when this server booted: only the next boot asks again, and goes on if nobody answers then";
            Err(refusal.found(again))
        }
        Some(refusal) => {
            report.warnings.push(format!("this server has no role now ({}): this is about the next boot", refusal.code));
            Ok(outcome)
        }
        None => Ok(outcome),
    });
    report.steps = clock.steps();
    match answer {
        Ok(outcome) => {
            let is_ours = !matches!(gate::read_report(places), Ok(None));
            if outcome != Outcome::NotInitialised && !is_ours {
                report.warnings.push(
                    "this server was booted without ATLAS; whether the next boot has it, 'atlas init --check' says"
                        .into(),
                );
            }
            report.warnings.extend(asked_again(places));
            report.outcome = outcome;
        }
        Err(mut refusal) => {
            if let Ok(survey) = Machine::looking(places).survey() {
                if refusal.code == RefusalCode::BoundDataInvalid {
                    refusal.found.extend(survey.beside(&refusal.found));
                }
                refusal = refuse::with_clocks(refusal, &survey);
            }
            report.refusal = Some(refusal);
        }
    }
    report
}

/// Why this server has no role since it booted, where that is so.
fn refused_now(places: &Places) -> Option<Refusal> {
    this_boot(places)?.refusal
}

/// What the boot that runs now reported.
fn this_boot(places: &Places) -> Option<BootReport> {
    gate::read_report(places).ok()?.filter(|boot| boot.boot_id.as_ref().is_some_and(|id| *id == gate::boot_id()))
}

/// What this boot had accepted, and the next one asks again.
fn asked_again(places: &Places) -> Option<String> {
    let accepted = this_boot(places)?.accepted;
    let address = accepted.into_iter().find(|one| one.code == RefusalCode::AddressInUse)?;
    Some(format!(
        "'{}' was accepted for the boot that runs now ({}): the next one asks again, and is refused if somebody answers then",
        address.code,
        address.found.join("; ")
    ))
}

fn answer(places: &Places, report: &mut BootReport, clock: &mut Clock) -> Result<Outcome, Refusal> {
    let root = Dir::open_root(&places.root).map_err(|error| refuse::of_file("open the root file system", &error))?;
    let Some(start) = Start::read(&root, report)? else { return Ok(Outcome::NotInitialised) };
    let mut disks = Machine::looking(places);
    disks.bound_record.clone_from(&start.record);
    let found = find(&mut disks, &start, report)?;
    let is_mounted =
        mount::is_mount_point(&places.unbound()).map_err(|error| refuse::of_file("look at /unbound", &error))?;
    if is_mounted {
        // What is mounted was ended when its disks were lost, and says nothing of those that are there now.
        if let Some(lost) = refused_now(places).filter(|refusal| refusal.code == RefusalCode::DisksLost) {
            let again = "the set can be found again, and is looked into by the next boot, which decides then";
            return Err(refuse::with_disks(lost.found(again), &found.choice));
        }
        report.set = Some(describe(&found.choice));
        return look(places, &root, &start, &found, report, clock)
            .map_err(|refusal| refuse::with_mounted_disks(refusal, &found.choice));
    }
    decide(places, &root, &start, &found, report, clock).map_err(|refusal| refuse::with_disks(refusal, &found.choice))
}

/// The set that a boot would take, if the disks stayed as they are.
pub(crate) fn find(disks: &mut impl Disks, start: &Start, report: &mut BootReport) -> Result<Found, Refusal> {
    let found = decide::at_once(disks, start.of_disks())?;
    role::remember(&found, start, report);
    Ok(found)
}

/// Decides about a set that is not mounted, by what is in it.
fn decide(
    places: &Places,
    root: &Dir,
    start: &Start,
    found: &Found,
    report: &mut BootReport,
    clock: &mut Clock,
) -> Result<Outcome, Refusal> {
    report.set = Some(describe(&found.choice));
    // Mounted for this program alone: nobody else sees what is here for a moment.
    mount::own_mounts().map_err(|error| not_mounted().caused_by(&error))?;
    let choice = &found.choice;
    let set = clock.step("start the Unbound set read-only", || match running(found) {
        Some(device) => ReadOnlySet::of_another(places, choice, device),
        None => ReadOnlySet::start(places, choice),
    })?;
    report.set = Some(SetReport { file_system: "looked into, not mounted".into(), ..set.describe(choice) });
    let answer = look(places, root, start, found, report, clock);
    // udev looks at a new array, too, and it cannot be stopped meanwhile.
    unbound::settle(&places.run);
    set.release();
    answer
}

/// A set that is mounted, or about to be looked into.
fn describe(choice: &SetChoice) -> SetReport {
    let (uuid, members) = match &choice.kind {
        SetKind::Mirror { uuid, devices } => (uuid.to_string(), devices.clone()),
        SetKind::Single { device } => (choice.ext4.uuid_text(), vec![device.clone()]),
    };
    SetReport {
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
    }
}

/// The array of the set, where somebody started it.
fn running(found: &Found) -> Option<PathBuf> {
    let SetKind::Mirror { devices, .. } = &found.choice.kind else { return None };
    let members =
        found.survey.devices.iter().filter(|device| devices.iter().any(|path| device.path == Path::new(path)));
    let mut holders = members.flat_map(|device| &device.holders);
    holders.find(|holder| holder.starts_with("md")).map(|holder| Path::new("/dev").join(holder))
}

fn not_mounted() -> Refusal {
    Refusal::new(RefusalCode::Internal, "The Unbound set is there, but not mounted, so its content is unknown.")
        .because("what it says of the role cannot be checked")
        .remedy("run 'atlas-boot check' as root: it starts the set read-only, looks, and stops it")
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
    let (config, identity) = role::prepare(places, root, start, &found.choice.ext4, How::Look, report, clock)?;
    report.role = Some(config.role());
    report.converted_from = identity.converted.as_ref().map(|converted| converted.from);
    report.installed.clone_from(&identity.changes);
    Ok(if identity.from_scratch { Outcome::FromScratch } else { Outcome::IdentityInstalled })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::same_answer::Bench;
    use atlas_model::{
        ext4,
        md::testing::half,
        survey::{Device, Member, Survey},
    };

    fn found(holders: &[&str]) -> Found {
        let ext4 = || Some(ext4::testing::superblock("ATLAS-UNBOUND", 5));
        let member =
            |device: &str, number| Member { device: device.into(), serial: None, md: half(number), ext4: ext4() };
        let device = |path: &str| Device {
            path: path.into(),
            holders: holders.iter().map(|holder| (*holder).to_owned()).collect(),
            ..Device::default()
        };
        let survey = Survey {
            members: vec![member("/dev/vdb", 0), member("/dev/vdc", 1)],
            devices: vec![device("/dev/vdb"), device("/dev/vdc")],
            ..Survey::default()
        };
        decide::at_once(&mut Bench::of(survey), None).unwrap()
    }

    #[test]
    fn an_array_that_somebody_started_is_looked_into_as_it_runs() {
        assert_eq!(running(&found(&[])), None);
        assert_eq!(running(&found(&["md127"])), Some(PathBuf::from("/dev/md127")));
        assert_eq!(running(&found(&["dm-0"])), None, "who holds it otherwise is no array to mount");
    }
}
