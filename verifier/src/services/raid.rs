//! RAID: every array of the kernel's md has all its disks, and their copies agree [441].
//!
//! ```text
//! /sys/block/md127/md/   level  array_state  raid_disks  degraded  sync_action  sync_completed  sync_speed  mismatch_cnt  dev-vdb/state
//! ```
//!
//! What holds no data of its own, as the container of a BIOS' sets, and what has no second copy, as RAID-0, is not judged by its copies.

use crate::{
    here::{self, Faults},
    service::{Service, Target},
};
use atlas_model::verify::{Measure, Profile, Worse, number};
use std::path::Path;

pub(super) const SERVICE: Service = Service {
    name: "raid",
    about: "every array has all its disks, and their copies agree",
    interval: 30,
    deadline: 10,
    find: |_| Ok(here::found()),
    verify,
};

/// Read errors that md has corrected on one disk since the array was started; a few happen on disks that are well.
const READ_ERRORS: f64 = 20.0;

/// What of an array can be judged.
struct Array<'t> {
    root: &'t Path,
    name: String,
    /// For people: `md127 (raid1, /unbound)`.
    title: String,
}

fn verify(target: &Target) -> anyhow::Result<Profile> {
    let mut faults = Faults::default();
    let mut seen = Vec::new();
    for name in here::names(&target.root, "sys/block") {
        let Some(array) = Array::open(&target.root, &name) else { continue };
        seen.push(array.title.clone());
        array.judge(&mut faults);
    }
    Ok(faults.profile(match seen.len() {
        0 => "this server has no md array".to_owned(),
        _ => format!("all disks are there: {}", seen.join(", ")),
    }))
}

impl Array<'_> {
    /// `None`: it is no array, or none that holds data.
    fn open<'t>(root: &'t Path, name: &str) -> Option<Array<'t>> {
        let level = here::text(root, &format!("sys/block/{name}/md/level"))?;
        // Assembled and never started, an array has members and no level yet; stopped, it has neither.
        let has_members =
            || here::names(root, &format!("sys/block/{name}/md")).iter().any(|file| file.starts_with("dev-"));
        if level == "container" || (level.is_empty() && !has_members()) {
            return None;
        }
        let level = if level.is_empty() { "not started".to_owned() } else { level };
        let device = here::text(root, &format!("sys/block/{name}/dev")).unwrap_or_default();
        let mounted = mount_point(root, &device).map(|at| format!(", {at}")).unwrap_or_default();
        Some(Array { root, name: name.to_owned(), title: format!("{name} ({level}{mounted})") })
    }

    fn text(&self, file: &str) -> Option<String> {
        here::text(self.root, &format!("sys/block/{}/md/{file}", self.name))
    }

    fn value(&self, file: &str) -> Option<f64> {
        here::value(self.root, &format!("sys/block/{}/md/{file}", self.name))
    }

    fn judge(&self, faults: &mut Faults) {
        let title = &self.title;
        let detail = format!("mdadm --detail /dev/{}", self.name);
        let state = self.text("array_state").unwrap_or_default();
        match state.as_str() {
            "clear" => return,
            "inactive" => {
                let members: Vec<String> = self.members().map(|(disk, _)| disk).collect();
                let with = if members.is_empty() { String::new() } else { format!(", with {}", members.join(", ")) };
                return faults.unacceptable(
                    format!("{} is assembled and not started{with}", self.name),
                    format!("{detail}; if it is complete: mdadm --run /dev/{}", self.name),
                );
            }
            "broken" => {
                return faults.unacceptable(format!("{title} has failed: it lost more disks than it can"), detail);
            }
            // Whoever writes to it waits, for as long as that takes.
            "suspended" => faults.unacceptable(
                format!("{title} is suspended: whatever reads or writes there waits"),
                format!("{detail}; dmesg; what suspended it has to let it go on"),
            ),
            "readonly" => faults.slow(
                format!("{title} is read-only"),
                format!("if that is not meant: mdadm --readwrite /dev/{}", self.name),
            ),
            _ => {}
        }
        let missing = self.value("degraded").unwrap_or(0.0);
        self.measure(faults, "missing", missing, "");
        self.disks(faults, missing);
        for (disk, _) in self
            .members()
            .filter(|(disk, _)| self.text(&format!("dev-{disk}/bad_blocks")).is_some_and(|list| !list.is_empty()))
        {
            faults.unacceptable(
                format!("{disk} of {title} has blocks that it cannot give: it is no full copy any more, and dying"),
                format!(
                    "mdadm --examine-badblocks /dev/{disk}; while the other disk is well: mdadm --manage /dev/{0} --add /dev/ANOTHER; \
                     mdadm --manage /dev/{0} --replace /dev/{disk}",
                    self.name
                ),
            );
        }
        self.ailing(faults);
        if let Some(mismatches) = self.value("mismatch_cnt").filter(|count| *count > 0.0) {
            self.measure(faults, "mismatches", mismatches, "sectors");
            faults.slow(
                format!("the copies of {title} differ in {mismatches} sectors"),
                format!(
                    "{detail}; look at its disks (smartctl -a), then: echo repair > /sys/block/{}/md/sync_action",
                    self.name
                ),
            );
        }
    }

    /// Disks that are still part of it and that md has complaints of, one complaint for each.
    fn ailing(&self, faults: &mut Faults) {
        let title = &self.title;
        let is_among = |state: &str, word: &str| state.split(',').any(|state| state == word);
        let is_replacing = self.members().any(|(_, state)| is_among(&state, "replacement"));
        for (disk, state) in self.members() {
            let is = |word: &str| is_among(&state, word);
            let errors = self.value(&format!("dev-{disk}/errors")).unwrap_or(0.0);
            // What failed is told as that; where md fills another disk already, the rebuild is told.
            let what = match () {
                () if is("faulty") || is_replacing && is("want_replacement") => continue,
                () if is("want_replacement") => {
                    format!("{disk} of {title} fails: md asks for another disk in its place")
                }
                () if is("write_error") => format!("{disk} of {title} could not write some blocks"),
                () if errors > READ_ERRORS => {
                    format!("{disk} of {title} had {} read errors, which md corrected", number(errors))
                }
                () => continue,
            };
            faults.slow(
                what,
                format!(
                    "smartctl -x /dev/{disk}; put another disk in: mdadm --manage /dev/{0} --add /dev/ANOTHER; \
                     mdadm --manage /dev/{0} --replace /dev/{disk}",
                    self.name
                ),
            );
        }
    }

    /// Disks that failed or are missing, and how far their replacement is.
    fn disks(&self, faults: &mut Faults, missing: f64) {
        let (title, wanted) = (&self.title, self.wanted().map_or("its".to_owned(), number));
        let faulty: Vec<String> =
            self.members().filter(|(_, state)| state.contains("faulty")).map(|(disk, _)| disk).collect();
        let action = self.text("sync_action").unwrap_or_default();
        let progress = self.progress();
        let named = if faulty.is_empty() { String::new() } else { format!(": {} failed", faulty.join(", ")) };
        let put_back = format!(
            "mdadm --detail /dev/{0}; put a disk in and: mdadm --manage /dev/{0} --add /dev/DISK (one that ran without the others: \
                 mdadm --zero-superblock /dev/DISK first)",
            self.name
        );
        match action.as_str() {
            "recover" | "resync" | "reshape" => {
                if let Some((percent, left)) = progress {
                    self.measure(faults, "rebuilt", percent, "%");
                    let left = left.map(|left| format!(", about {} left", here::duration(left))).unwrap_or_default();
                    let doing = if missing > 0.0 { "is being rebuilt" } else { "is being synchronised" };
                    faults.slow(
                        format!("{title} {doing}: {percent:.1} %{left}{named}"),
                        "keep it running until it is done: cat /proc/mdstat",
                    );
                } else {
                    faults.slow(format!("{title} waits to be rebuilt{named}"), "cat /proc/mdstat");
                }
            }
            _ if missing > 0.0 => {
                let left = self.wanted().map_or("too few".to_owned(), |wanted| number(wanted - missing));
                faults.unacceptable(format!("{title} runs with {left} of {wanted} disks{named}"), put_back);
            }
            _ if !faulty.is_empty() => faults.slow(
                format!("{title} is complete{named} and is still part of it"),
                format!("take it out: mdadm --manage /dev/{} --remove {}", self.name, faulty.join(" ")),
            ),
            _ if self.text("reshape_position").is_some_and(|at| at != "none") => faults.slow(
                format!("the reshape of {title} is not finished, and stands still"),
                format!("cat /proc/mdstat; mdadm --grow --continue /dev/{}", self.name),
            ),
            _ => {}
        }
    }

    /// How many disks it has when it is whole. While it is reshaped, the kernel adds how many it had: `4 (3)`.
    fn wanted(&self) -> Option<f64> {
        self.text("raid_disks")?.split_whitespace().next()?.parse().ok()
    }

    /// The disks and what md says of each.
    fn members(&self) -> impl Iterator<Item = (String, String)> {
        let names = here::names(self.root, &format!("sys/block/{}/md", self.name));
        names.into_iter().filter_map(|name| {
            let disk = name.strip_prefix("dev-")?.to_owned();
            Some((disk, self.text(&format!("{name}/state")).unwrap_or_default()))
        })
    }

    /// How much of a synchronisation is done in percent, and how many seconds it will still take.
    fn progress(&self) -> Option<(f64, Option<u64>)> {
        let completed = self.text("sync_completed")?;
        let (done, all) = completed.split_once('/')?;
        let (done, all): (f64, f64) = (done.trim().parse().ok()?, all.trim().parse().ok()?);
        // Sectors of half a KiB, and KiB a second.
        let left =
            self.value("sync_speed").filter(|speed| *speed > 0.0).map(|speed| (all - done).max(0.0) / 2.0 / speed);
        (all > 0.0).then(|| (done * 100.0 / all, left.map(|left| left as u64)))
    }

    fn measure(&self, faults: &mut Faults, what: &str, value: f64, unit: &str) {
        let name = format!("{}/{what}", self.name);
        let measure = Measure { name, value, unit: unit.into(), slow: None, unacceptable: None, worse: Worse::Higher };
        faults.measure(measure, "", "");
    }
}

/// Where the file system of this device (`9:127`) is mounted.
fn mount_point(root: &Path, device: &str) -> Option<String> {
    let mounts = here::text(root, "proc/self/mountinfo")?;
    let line = mounts.lines().find(|line| line.split(' ').nth(2) == Some(device))?;
    line.split(' ').nth(4).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::here::testing::Server;
    use atlas_model::verify::Verdict;

    fn array(name: &str, level: &str, files: &[(&str, &str)]) -> Server {
        let server = Server::new();
        let usual = [
            ("level", level),
            ("array_state", "clean"),
            ("raid_disks", "2"),
            ("degraded", "0"),
            ("sync_action", "idle"),
            ("sync_completed", "none"),
            ("mismatch_cnt", "0"),
            ("dev-vdb/state", "in_sync"),
            ("dev-vdc/state", "in_sync"),
        ];
        for (file, content) in usual.iter().chain(files) {
            server.write(&format!("sys/block/{name}/md/{file}"), &format!("{content}\n"));
        }
        server.write(&format!("sys/block/{name}/dev"), "9:127\n");
        server.write("sys/block/vdb/dev", "254:16\n");
        server.write("proc/self/mountinfo", "36 1 9:127 / /unbound rw - ext4 /dev/md127 rw\n");
        server
    }

    #[test]
    fn a_whole_array_is_well_and_a_server_without_one_too() {
        let profile = array("md127", "raid1", &[]).is_well(&SERVICE);
        assert_eq!(profile.summary, "all disks are there: md127 (raid1, /unbound)");
        assert_eq!(Server::new().is_well(&SERVICE).summary, "this server has no md array");
        array("md126", "container", &[("array_state", "inactive")]).is_well(&SERVICE);
        let stopped = array("md126", "", &[("array_state", "clear")]);
        ["dev-vdb", "dev-vdc"].iter().for_each(|member| stopped.remove(&format!("sys/block/md126/md/{member}")));
        stopped.is_well(&SERVICE);
        // RAID-0 has no copies, and no files about them.
        let striped = array("md1", "raid0", &[]);
        ["degraded", "mismatch_cnt", "sync_action", "sync_completed"]
            .iter()
            .for_each(|file| striped.remove(&format!("sys/block/md1/md/{file}")));
        striped.is_well(&SERVICE);
    }

    #[test]
    fn an_array_without_a_disk_names_the_one_that_failed() {
        let lost = array("md127", "raid1", &[("degraded", "1")]);
        lost.says(&SERVICE, Verdict::Unacceptable, &["md127", "/unbound", "1 of 2 disks"]);
        let failed = array("md127", "raid1", &[("degraded", "1"), ("dev-vdc/state", "faulty")]);
        let profile = failed.says(&SERVICE, Verdict::Unacceptable, &["1 of 2 disks: vdc failed"]);
        assert!(profile.hint.unwrap().contains("--add"));
        let spare = array("md127", "raid1", &[("dev-vdd/state", "faulty,write_error")]);
        spare.says(&SERVICE, Verdict::Slow, &["vdd failed", "still part"]);
    }

    #[test]
    fn a_disk_that_lacks_blocks_is_no_copy() {
        array("md127", "raid1", &[("dev-vdb/bad_blocks", "")]).is_well(&SERVICE);
        let profile = array("md127", "raid1", &[("dev-vdb/bad_blocks", "3000 16")]).says(
            &SERVICE,
            Verdict::Unacceptable,
            &["vdb of md127"],
        );
        assert!(profile.hint.unwrap().contains("--replace /dev/vdb"));
    }

    #[test]
    fn disks_that_md_complains_of_are_told_with_how_to_replace_them() {
        for (file, content, words) in [
            (
                "dev-vdb/state",
                "in_sync,want_replacement",
                "vdb of md127 (raid1, /unbound) fails: md asks for another disk",
            ),
            ("dev-vdb/state", "in_sync,write_error,blocked", "vdb of md127 (raid1, /unbound) could not write"),
            ("dev-vdb/errors", "312", "vdb of md127 (raid1, /unbound) had 312 read errors"),
        ] {
            let profile = array("md127", "raid1", &[(file, content)]).says(&SERVICE, Verdict::Slow, &[words]);
            assert!(profile.hint.unwrap().contains("mdadm --manage /dev/md127 --replace /dev/vdb"));
        }
        for (file, content) in [
            ("dev-vdb/errors", "3"),
            ("dev-vdb/state", "in_sync,write_mostly"),
            ("dev-vdc/state", "in_sync,replacement"),
        ] {
            array("md127", "raid1", &[(file, content)]).is_well(&SERVICE);
        }
        let still = array("md127", "raid1", &[("array_state", "suspended")]);
        still.says(&SERVICE, Verdict::Unacceptable, &["md127 (raid1, /unbound) is suspended"]);
    }

    #[test]
    fn a_rebuild_is_told_with_how_much_is_done_and_how_long_it_takes() {
        let files = [
            ("degraded", "1"),
            ("sync_action", "recover"),
            ("sync_completed", "500000 / 2000000"),
            ("sync_speed", "1000"),
        ];
        let profile = array("md127", "raid1", &files).says(
            &SERVICE,
            Verdict::Slow,
            &["being rebuilt: 25.0 %, about 12 min left"],
        );
        assert!(profile.measures.iter().any(|measure| measure.name == "md127/rebuilt" && measure.value == 25.0));
        let waiting = [("degraded", "1"), ("sync_action", "recover"), ("sync_completed", "delayed")];
        array("md127", "raid1", &waiting).says(&SERVICE, Verdict::Slow, &["waits to be rebuilt"]);
        // The monthly check reads only.
        array("md127", "raid1", &[("sync_action", "check"), ("sync_completed", "5 / 10")]).is_well(&SERVICE);
    }

    #[test]
    fn every_shape_of_an_array_in_sysfs_is_understood() {
        let frozen = [
            ("raid_disks", "4 (3)"),
            ("degraded", "1"),
            ("sync_action", "frozen"),
            ("reshape_position", "2048"),
            ("dev-vdc/state", "faulty"),
        ];
        array("md0", "raid5", &frozen).says(&SERVICE, Verdict::Unacceptable, &["runs with 3 of 4 disks: vdc failed"]);
        let still = [("raid_disks", "4 (3)"), ("sync_action", "frozen"), ("reshape_position", "2048")];
        array("md0", "raid5", &still).says(&SERVICE, Verdict::Slow, &["reshape of md0", "stands still"]);
        let delayed = [("sync_action", "resync"), ("sync_completed", "delayed"), ("raid_disks", "4")];
        array("md3", "raid10", &delayed).says(&SERVICE, Verdict::Slow, &["md3 (raid10", "waits to be rebuilt"]);
        array("md2", "raid1", &[("array_state", "read-auto"), ("resync_start", "0"), ("reshape_position", "none")])
            .is_well(&SERVICE);
        let imsm = [("metadata_version", "external:/md127/0"), ("dev-vdb/state", "in_sync,external_bbl")];
        array("md126", "raid1", &imsm).is_well(&SERVICE);
    }

    #[test]
    fn copies_that_differ_and_arrays_that_do_not_run_are_told() {
        array("md127", "raid1", &[("mismatch_cnt", "128")]).says(
            &SERVICE,
            Verdict::Slow,
            &["md127", "differ in 128 sectors"],
        );
        array("md127", "raid1", &[("array_state", "inactive")]).says(
            &SERVICE,
            Verdict::Unacceptable,
            &["md127", "not started"],
        );
        // As the kernel shows one half of a mirror that udev found: neither level nor number of disks.
        let half = [("array_state", "inactive"), ("raid_disks", ""), ("dev-vdb/state", "spare")];
        array("md127", "", &half).says(&SERVICE, Verdict::Unacceptable, &["md127 is assembled and not started", "vdb"]);
        array("md1", "raid0", &[("array_state", "broken")]).says(
            &SERVICE,
            Verdict::Unacceptable,
            &["md1", "has failed"],
        );
        array("md1", "raid1", &[("array_state", "readonly")]).says(&SERVICE, Verdict::Slow, &["read-only"]);
    }
}
