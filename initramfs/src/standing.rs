//! The keeper of a gate that is open already. Since the boot that opened it, user space may have begun anew on the same kernel, as
//! `systemctl soft-reboot` makes it: /run is as it was, the array may run, and the disks may be others. What has not been proven since,
//! is proven here, as a boot would, or the gate closes: a role is taken by a cold boot alone.
//!
//! ```text
//! /unbound mounted         user space has not begun anew: nothing to prove
//! else                     the disks now: the set of boot.json? ─► its array: can it be mounted? ─► the role of boot.json? ─► it stands
//! ```

use crate::{Places, check, refuse};
use atlas_host::{mount, process::Command};
use atlas_model::{BootReport, Refusal};
use std::{path::Path, time::Duration};

const MOUNT_DEADLINE: Duration = Duration::from_secs(60);

/// Proves that what opened the gate is still so; gives what was done, if anything.
pub fn prove(places: &Places, boot: &BootReport) -> Result<Option<String>, Refusal> {
    let Some(set) = &boot.set else { return Ok(None) };
    let at = places.unbound();
    let is_mounted = || mount::is_mount_point(&at).map_err(|error| refuse::of_file("look at /unbound", &error));
    if is_mounted()? {
        return Ok(None);
    }
    same_set(boot, &check::check(places))?;
    mount_in_the_system(Path::new(&set.device), &at)?;
    if !is_mounted()? {
        return Err(refuse::set_changed("its file system cannot be mounted"));
    }
    let now = check::check(places);
    if let Some(refusal) = now.refusal {
        return Err(refusal);
    }
    same_set(boot, &now)?;
    if now.role != boot.role {
        let role = |report: &BootReport| report.role.map_or_else(|| "no role".to_owned(), |role| role.to_string());
        return Err(refuse::set_changed(&format!("it was {} at the boot, and is {} now", role(boot), role(&now))));
    }
    Ok(Some("user space has begun anew; the Unbound set is the one of the boot, and is mounted again".into()))
}

/// Whether the disks, as a boot would choose among them now, are the set that was started.
fn same_set(boot: &BootReport, now: &BootReport) -> Result<(), Refusal> {
    let uuid = |report: &BootReport| report.set.as_ref().map(|set| set.uuid.clone());
    match (uuid(now), &now.refusal) {
        (None, Some(refusal)) => Err(refusal.clone()),
        (now, _) if now == uuid(boot) => Ok(()),
        (now, _) => Err(refuse::set_changed(&format!(
            "the set of the boot: {}; now: {}",
            uuid(boot).unwrap_or_default(),
            now.unwrap_or_else(|| "none".into())
        ))),
    }
}

/// By systemd, for all the system: the keeper has mounts of its own.
fn mount_in_the_system(device: &Path, at: &Path) -> Result<(), Refusal> {
    let command = Command::new("systemd-mount").args(["--quiet", "--collect", "--type=ext4", "--options=noatime"]);
    let command = command.arg(device).arg(at).deadline(MOUNT_DEADLINE);
    command.run().map(drop).map_err(|error| refuse::set_changed("its file system cannot be mounted").caused_by(&error))
}

#[cfg(test)]
mod tests {
    use super::*;
    use atlas_model::{RefusalCode, report::SetReport};

    fn with_set(uuid: Option<&str>) -> BootReport {
        let set = |uuid: &str| SetReport { uuid: uuid.into(), ..SetReport::default() };
        BootReport { set: uuid.map(set), ..BootReport::begin("atlas-boot") }
    }

    #[test]
    fn only_the_set_of_the_boot_is_the_same() {
        let boot = with_set(Some("a"));
        assert_eq!(same_set(&boot, &with_set(Some("a"))), Ok(()));
        // It is not mounted yet, and so check does not know more.
        let refusal = Some(Refusal::new(RefusalCode::Internal, "It is not mounted."));
        assert_eq!(same_set(&boot, &BootReport { refusal, ..with_set(Some("a")) }), Ok(()));
        for now in [with_set(Some("b")), with_set(None)] {
            assert_eq!(same_set(&boot, &now).unwrap_err().code, RefusalCode::SetChanged);
        }
        let two_sets = Refusal::new(RefusalCode::TwoSets, "Two.");
        let now = BootReport { refusal: Some(two_sets.clone()), ..with_set(None) };
        assert_eq!(same_set(&boot, &now), Err(two_sets), "what a boot would say is said");
    }
}
