//! What two servers would boot with, compared: what would matter at a failover although every synchronised file is the same.
//!
//! Servers of the same EnvVersion are meant to be the same, so every difference counts. Those of different ones differ by nature: there only
//! counts what a secondary lacks.

use crate::{
    EnvVersion,
    verify::{ColdBoot, Verdict},
};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Installed packages: name → version.
pub const PACKAGES: &str = "packages";
/// Of the packages, those that somebody asked for: name → `yes`. The others came along with them, and have other names in another Debian.
pub const ASKED_FOR: &str = "packages that were asked for";
/// Units that start at boot, or are kept from it: name → `enabled`, `masked`.
pub const UNITS: &str = "units";
/// Units and drop-ins that somebody wrote: path below `/etc/systemd/system` → a digest.
pub const UNIT_FILES: &str = "unit files";
/// Services that start at boot: name → `running`, `stopped`.
pub const RUNNING: &str = "running";
/// The kernel that is booted by default: `default` → its version, `modules` → `there`, `missing`.
pub const KERNEL: &str = "kernel";
/// Network devices: name → `up`, `down`.
pub const DEVICES: &str = "network devices";
/// What the units that start at boot name: `app.service's /srv/app` → whose it is, and its mode.
pub const UNIT_PATHS: &str = "files of units";
/// What clients of a site see first, where that is no client data: `*:80` → a digest.
pub const START_PAGES: &str = "start pages";
/// What leads to the clients: `eth0's mtu`, `default route` → as it is.
pub const NETWORK: &str = "network";
/// Swap: `total` → its size.
pub const SWAP: &str = "swap";

/// Limits of accounts and of the kernel: `* hard nofile`, `vm.swappiness` → the value.
pub const LIMITS: &str = "limits";

/// Begins the names of ATLAS' own packages and units: which of them run is another matter in each Role.
const OWN: [&str; 3] = ["atlas", "ssSync", "Verifier"];
/// But for this one: where it is not enabled, no cycle would begin after a failover.
const LOOP: &str = "ssSyncLoop.service";

/// In the name of a fact, what lies on the disks that move.
const CLIENT_DATA: &str = " /unbound/";

/// One fact in which a secondary differs from PRI.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Difference {
    /// `packages`, `units`, …
    pub subject: String,
    /// `nginx`, `nginx.service`, …
    pub fact: String,
    /// What PRI has; `None`: nothing.
    pub pri: Option<String>,
    /// What the secondary has; `None`: nothing.
    pub sec: Option<String>,
    /// How much it matters: unacceptable, or slow for what deserves a look.
    pub weight: Verdict,
}

impl std::fmt::Display for Difference {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let value = |value: &Option<String>| value.clone().unwrap_or_else(|| "nothing".into());
        write!(f, "{}: {} is {} on PRI and {} here", self.subject, self.fact, value(&self.pri), value(&self.sec))
    }
}

/// All that matters, the weightiest first, then by subject and fact.
pub fn differences(pri: (EnvVersion, &ColdBoot), sec: (EnvVersion, &ColdBoot)) -> Vec<Difference> {
    let nothing = BTreeMap::new();
    let same_version = pri.0 == sec.0;
    let pri_boot = pri.1;
    let mut found = Vec::new();
    let mut subjects: Vec<&String> = pri.1.subjects.keys().chain(sec.1.subjects.keys()).collect();
    subjects.sort();
    subjects.dedup();
    for subject in subjects {
        if subject == ASKED_FOR {
            continue;
        }
        // Of a server that does not tell about a subject at all, nobody knows that it lacks anything.
        let (Some(on_pri), there) = (pri.1.subjects.get(subject), sec.1.subjects.get(subject)) else { continue };
        if there.is_none() && subject != SWAP {
            continue;
        }
        let there = there.unwrap_or(&nothing);
        let mut facts: Vec<&String> = on_pri.keys().chain(there.keys()).collect();
        facts.sort();
        facts.dedup();
        for fact in facts {
            let (pri, sec) = (on_pri.get(fact), there.get(fact));
            if fact.as_str() != LOOP && OWN.iter().any(|own| fact.starts_with(own))
                || fact.as_str() == LOOP && pri.is_none()
            {
                continue;
            }
            if subject == PACKAGES && !same_version && sec.is_none() && is_of_its_debian(fact, pri_boot, there) {
                continue;
            }
            if let Some(weight) = weight(subject, fact, pri, sec, same_version) {
                let (subject, fact) = (subject.clone(), fact.clone());
                found.push(Difference { subject, fact, pri: pri.cloned(), sec: sec.cloned(), weight });
            }
        }
    }
    found.sort_by_key(|difference| std::cmp::Reverse(difference.weight.weight()));
    found
}

/// Whether a package of PRI is missing only because the other server has another Debian: it came along with one that was asked for, or the same is
/// there by another number, as `postgresql-13` for `postgresql-15`.
fn is_of_its_debian(package: &str, pri: &ColdBoot, there: &BTreeMap<String, String>) -> bool {
    let came_along = pri.subjects.get(ASKED_FOR).is_some_and(|asked| !asked.contains_key(package));
    let stem = |name: &str| name.split(|c: char| c.is_ascii_digit() || c == '.').collect::<String>();
    came_along || stem(package) != package && there.keys().any(|other| stem(other) == stem(package))
}

/// How much one fact matters; `None`: not at all.
fn weight(
    subject: &str,
    fact: &str,
    pri: Option<&String>,
    sec: Option<&String>,
    same_version: bool,
) -> Option<Verdict> {
    let is_lacking = pri.is_some() && sec.is_none();
    match (subject, fact) {
        // What cannot be loaded is wrong, whatever PRI has.
        (KERNEL, "modules") => sec.filter(|state| *state != "there").map(|_| Verdict::Unacceptable),
        (DEVICES, _) => (is_lacking && pri.is_some_and(|state| state == "up")).then_some(Verdict::Unacceptable),
        // How much swap there is goes with the machine; whether there is any does not.
        (SWAP, _) => is_lacking.then_some(Verdict::Slow),
        _ if pri == sec => None,
        // It starts again at the next boot; until then somebody should know why it does not run.
        (RUNNING, LOOP) => None,
        (RUNNING, _) => is_stopped(pri, sec).then_some(Verdict::Slow),
        // What both have is meant to be the same; one that is enabled and missing is told as a unit.
        (UNIT_FILES, _) if same_version && pri.is_some() && sec.is_some() => Some(Verdict::Unacceptable),
        // Client data is where PRI's disks are; what else a unit names has to be here, too.
        (UNIT_PATHS, _) if pri.is_none() || sec.is_none() && fact.contains(CLIENT_DATA) => None,
        (UNIT_PATHS, _) if fact.contains(CLIENT_DATA) => Some(Verdict::Slow),
        (UNIT_PATHS, _) => Some(Verdict::Unacceptable),
        (START_PAGES, _) => pri.map(|_| Verdict::Unacceptable),
        (UNITS, LOOP) => Some(Verdict::Slow),
        (UNITS, _) if pri.is_some_and(|state| state == "enabled") => {
            Some(if same_version || sec.is_some() { Verdict::Unacceptable } else { Verdict::Slow })
        }
        _ if same_version || is_lacking && [PACKAGES, UNITS].contains(&subject) => Some(Verdict::Slow),
        // A kernel and its limits are those of its Debian.
        (PACKAGES | UNITS | KERNEL, _) => None,
        (LIMITS, _) => is_lacking.then_some(Verdict::Slow),
        _ => Some(Verdict::Slow),
    }
}

fn is_stopped(pri: Option<&String>, sec: Option<&String>) -> bool {
    pri.is_some_and(|state| state == "running") && sec.is_some_and(|state| state == "stopped")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn boots(facts: &[(&str, &str, &str)]) -> ColdBoot {
        let mut all = ColdBoot::default();
        for (subject, fact, value) in facts {
            let subject = all.subjects.entry((*subject).to_owned()).or_default();
            if !fact.is_empty() {
                subject.insert((*fact).to_owned(), (*value).to_owned());
            }
        }
        all
    }

    /// The differences as text, with their weight.
    fn between(versions: (u32, u32), pri: &[(&str, &str, &str)], sec: &[(&str, &str, &str)]) -> Vec<String> {
        let version = |number: u32| EnvVersion::from_file(format!("{number}\n").as_bytes()).unwrap();
        let found = differences((version(versions.0), &boots(pri)), (version(versions.1), &boots(sec)));
        found.iter().map(|difference| format!("{} {difference}", difference.weight)).collect()
    }

    const SAME: (u32, u32) = (2, 2);
    const OLDER: (u32, u32) = (2, 1);

    #[test]
    fn the_same_servers_have_no_difference_and_what_is_not_told_is_none() {
        let facts = [(PACKAGES, "nginx", "1.22"), (UNITS, "nginx.service", "enabled"), (DEVICES, "eth0", "up")];
        assert!(between(SAME, &facts, &facts).is_empty());
        assert!(between(SAME, &facts, &[]).is_empty());
        assert!(between(SAME, &[], &facts).is_empty());
    }

    #[test]
    fn of_the_same_version_every_difference_of_packages_and_units_counts() {
        let pri = [(PACKAGES, "nginx", "1.22"), (PACKAGES, "php", "8.2"), (UNITS, "nginx.service", "enabled")];
        let sec = [(PACKAGES, "nginx", "1.18"), (PACKAGES, "vim", "9"), (UNITS, "cups.service", "enabled")];
        let expected = [
            "unacceptable units: nginx.service is enabled on PRI and nothing here",
            "slow packages: nginx is 1.22 on PRI and 1.18 here",
            "slow packages: php is 8.2 on PRI and nothing here",
            "slow packages: vim is nothing on PRI and 9 here",
            "slow units: cups.service is nothing on PRI and enabled here",
        ];
        assert_eq!(between(SAME, &pri, &sec), expected);
    }

    #[test]
    fn of_different_versions_only_what_is_missing_counts() {
        let pri = [
            (PACKAGES, "nginx", "1.22"),
            (PACKAGES, "php", "8.2"),
            (UNITS, "nginx.service", "enabled"),
            (KERNEL, "default", "6.1"),
        ];
        let sec = [
            (PACKAGES, "nginx", "1.18"),
            (PACKAGES, "vim", "9"),
            (UNITS, "cups.service", "enabled"),
            (KERNEL, "default", "5.10"),
        ];
        let expected = [
            "slow packages: php is 8.2 on PRI and nothing here",
            "slow units: nginx.service is enabled on PRI and nothing here",
        ];
        assert_eq!(between(OLDER, &pri, &sec), expected);
        let masked = between(OLDER, &[(UNITS, "nginx.service", "enabled")], &[(UNITS, "nginx.service", "masked")]);
        assert_eq!(masked, ["unacceptable units: nginx.service is enabled on PRI and masked here"]);
    }

    #[test]
    fn a_service_that_was_stopped_and_a_unit_file_that_differs_are_told() {
        let pri =
            [(RUNNING, "app.service", "running"), (RUNNING, "job.service", "stopped"), (RUNNING, LOOP, "running")];
        let sec =
            [(RUNNING, "app.service", "stopped"), (RUNNING, "job.service", "running"), (RUNNING, LOOP, "stopped")];
        assert_eq!(between(SAME, &pri, &sec), ["slow running: app.service is running on PRI and stopped here"]);
        assert!(between(SAME, &sec, &pri).iter().all(|told| told.contains("job.service")));
        assert!(between(SAME, &pri[..1], &[(RUNNING, "", "")]).is_empty(), "that it is not there is told as a unit");
        let file = |digest| [(UNIT_FILES, "app.service.d/limits.conf", digest)];
        let expected = "unacceptable unit files: app.service.d/limits.conf is 1a on PRI and 2b here";
        assert_eq!(between(SAME, &file("1a"), &file("2b")), [expected]);
        let more = between(SAME, &[(UNIT_FILES, "", "")], &file("2b"));
        assert_eq!(more, ["slow unit files: app.service.d/limits.conf is nothing on PRI and 2b here"]);
    }

    #[test]
    fn a_library_of_another_debian_is_not_missing_and_what_was_asked_for_is() {
        let pri = [
            (PACKAGES, "libssl3", "3.0"),
            (PACKAGES, "php-fpm", "8.2"),
            (PACKAGES, "postgresql-15", "15.1"),
            (ASKED_FOR, "php-fpm", "yes"),
            (ASKED_FOR, "postgresql-15", "yes"),
        ];
        let sec = [(PACKAGES, "libssl1.1", "1.1"), (PACKAGES, "postgresql-13", "13.2")];
        assert_eq!(between(OLDER, &pri, &sec), ["slow packages: php-fpm is 8.2 on PRI and nothing here"]);
        assert_eq!(between(SAME, &pri, &sec).len(), 5, "of the same Debian each of them counts");
        assert_eq!(between(OLDER, &pri[2..], &[(PACKAGES, "vim", "9")]).len(), 1);
    }

    #[test]
    fn what_a_unit_names_is_there_and_whose_it_is_on_pri() {
        let path = |path: &str| format!("app.service's {path}");
        let (data, program) = (path("/unbound/app"), path("/opt/app/run"));
        let pri = [(UNIT_PATHS, data.as_str(), "of app, mode 0700"), (UNIT_PATHS, &program, "of root, mode 0755")];
        let other = [(UNIT_PATHS, data.as_str(), "of root, mode 0700"), (UNIT_PATHS, &program, "of root, mode 0755")];
        let told =
            "slow files of units: app.service's /unbound/app is of app, mode 0700 on PRI and of root, mode 0700 here";
        assert_eq!(between(OLDER, &pri, &other), [told]);
        let bare = between(SAME, &pri, &[(UNIT_PATHS, "", "")]);
        let told =
            "unacceptable files of units: app.service's /opt/app/run is of root, mode 0755 on PRI and nothing here";
        assert_eq!(bare, [told], "client data is where PRI's disks are");
        assert!(between(SAME, &[(UNIT_PATHS, "", "")], &pri).is_empty());
        let page = |digest| [(START_PAGES, "*:80", digest)];
        assert_eq!(
            between(OLDER, &page("1a"), &page("2b")),
            ["unacceptable start pages: *:80 is 1a on PRI and 2b here"]
        );
    }

    #[test]
    fn what_the_network_and_the_kernel_need_weighs_most() {
        let lost = between(OLDER, &[(DEVICES, "eth0", "up"), (DEVICES, "eth1", "down")], &[(DEVICES, "eno1", "up")]);
        assert_eq!(lost, ["unacceptable network devices: eth0 is up on PRI and nothing here"]);
        assert!(between(SAME, &[(DEVICES, "eth0", "up")], &[(DEVICES, "eth0", "down")]).is_empty());
        let bare = between(SAME, &[(KERNEL, "modules", "there")], &[(KERNEL, "modules", "missing")]);
        assert_eq!(bare, ["unacceptable kernel: modules is there on PRI and missing here"]);
        assert_eq!(between(OLDER, &[("time", "zone", "UTC")], &[("time", "zone", "CET")]).len(), 1);
    }

    #[test]
    fn what_is_atlas_s_own_or_goes_with_the_machine_is_no_difference() {
        let pri = [(UNITS, "VerifierControl.service", "enabled"), (PACKAGES, "atlas", "2"), (SWAP, "total", "4 GiB")];
        assert!(between(SAME, &pri, &[(UNITS, "", ""), (PACKAGES, "atlas", "1"), (SWAP, "total", "1 GiB")]).is_empty());
        assert_eq!(between(SAME, &pri, &[(SWAP, "", "")]).len(), 1);
        let looped = [(UNITS, LOOP, "enabled")];
        assert_eq!(between(SAME, &looped, &[(UNITS, "", "")]).len(), 1);
        assert!(between(SAME, &[(UNITS, "", "")], &looped).is_empty());
    }
}
