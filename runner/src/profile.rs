//! What is normal for a server and a program, and the rules that compare.
//!
//! ```toml
//! # /etc/atlas/profile.toml; what is left out has the default that stands here
//! copies = 3                    # of the program, begun by ssRun and not ended
//! load_per_cpu = 8.0            # over one minute
//! memory_available_percent = 4  # at least
//! swap_used_percent = 80        # at most; no swap is no fault
//! paging_per_second = 2000      # pages read from swap and for faults, since the last look
//! disk_free_percent = 4         # at least, of each path
//! inodes_free_percent = 4       # at least, of each path
//! file_handles_percent = 85     # at most, of what the kernel allows
//! paths = ["/", "/unbound", "/var/log/atlas"]
//!
//! [program.ssSyncLoop]          # the same, for one program
//! copies = 1
//! ```

use crate::measure::Measured;
use std::collections::BTreeMap;

/// Limits as a profile gives them.
#[derive(Clone, Debug, Default, PartialEq, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Limits {
    copies: Option<usize>,
    load_per_cpu: Option<f64>,
    memory_available_percent: Option<f64>,
    swap_used_percent: Option<f64>,
    paging_per_second: Option<f64>,
    disk_free_percent: Option<f64>,
    inodes_free_percent: Option<f64>,
    file_handles_percent: Option<f64>,
    paths: Option<Vec<String>>,
}

/// A profile file.
#[derive(Clone, Debug, Default, PartialEq, serde::Deserialize)]
pub struct Profile {
    #[serde(flatten)]
    all: BTreeMap<String, toml::Value>,
}

/// Why a profile is not one.
#[derive(Debug, thiserror::Error)]
pub enum ProfileError {
    /// It is no TOML, or has a name that means nothing.
    #[error("the profile cannot be understood")]
    Text(#[from] toml::de::Error),
}

/// The limits for one program, complete.
#[derive(Clone, Debug, PartialEq)]
pub struct Valid {
    /// Copies that may run already.
    pub copies: usize,
    /// Load of one minute per CPU, at most.
    pub load_per_cpu: f64,
    /// Memory that is available, at least, in percent.
    pub memory_available_percent: f64,
    /// Swap in use, at most, in percent.
    pub swap_used_percent: f64,
    /// Pages read per second, at most.
    pub paging_per_second: f64,
    /// Free space, at least, in percent.
    pub disk_free_percent: f64,
    /// Free inodes, at least, in percent.
    pub inodes_free_percent: f64,
    /// File handles in use, at most, in percent.
    pub file_handles_percent: f64,
    /// The file systems that are looked at.
    pub paths: Vec<String>,
}

impl Profile {
    /// Reads a profile; an unknown name is an error, so that no limit is silently none.
    pub fn parse(text: &str) -> Result<Profile, ProfileError> {
        let profile: Profile = toml::from_str(text)?;
        profile.common()?;
        for limits in profile.programs().values() {
            limits.clone().try_into::<Limits>()?;
        }
        Ok(profile)
    }

    fn programs(&self) -> toml::Table {
        match self.all.get("program") {
            Some(toml::Value::Table(table)) => table.clone(),
            _ => toml::Table::new(),
        }
    }

    fn common(&self) -> Result<Limits, toml::de::Error> {
        let common: toml::Table = self
            .all
            .iter()
            .filter(|(name, _)| *name != "program")
            .map(|(name, value)| (name.clone(), value.clone()))
            .collect();
        common.try_into()
    }

    /// The limits of a program: its own, else those of all, else the defaults.
    pub fn of(&self, program: &str) -> Valid {
        let all = self.common().unwrap_or_default();
        let own: Limits =
            self.programs().get(program).and_then(|limits| limits.clone().try_into().ok()).unwrap_or_default();
        let paths = || ["/", "/unbound", "/var/log/atlas"].map(String::from).to_vec();
        Valid {
            copies: own.copies.or(all.copies).unwrap_or(3),
            load_per_cpu: own.load_per_cpu.or(all.load_per_cpu).unwrap_or(8.0),
            memory_available_percent: own.memory_available_percent.or(all.memory_available_percent).unwrap_or(4.0),
            swap_used_percent: own.swap_used_percent.or(all.swap_used_percent).unwrap_or(80.0),
            paging_per_second: own.paging_per_second.or(all.paging_per_second).unwrap_or(2000.0),
            disk_free_percent: own.disk_free_percent.or(all.disk_free_percent).unwrap_or(4.0),
            inodes_free_percent: own.inodes_free_percent.or(all.inodes_free_percent).unwrap_or(4.0),
            file_handles_percent: own.file_handles_percent.or(all.file_handles_percent).unwrap_or(85.0),
            paths: own.paths.or(all.paths).unwrap_or_else(paths),
        }
    }
}

/// A limit that is exceeded.
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
pub struct Exceeded {
    /// What was measured.
    pub measure: String,
    /// How much it is.
    pub value: f64,
    /// How much it may be.
    pub limit: f64,
    /// `%`, `per CPU`, …
    pub unit: &'static str,
    /// Where to look first.
    pub likely_cause: String,
}

impl Valid {
    /// Compares; what could not be measured is not exceeded, and stands among the measures as missing.
    pub fn exceeded(&self, now: &Measured) -> Vec<Exceeded> {
        let mut found = Vec::new();
        let mut at_most = |measure: &str, value: Option<f64>, limit: f64, unit, cause: &str| {
            if let Some(value) = value.filter(|value| *value > limit) {
                found.push(Exceeded { measure: measure.into(), value, limit, unit, likely_cause: cause.into() });
            }
        };
        let copies = format!("earlier runs do not end: look at pids {}", join(&now.copies));
        at_most("copies running", Some(now.copies.len() as f64), self.copies as f64, "", &copies);
        at_most(
            "load",
            now.load_per_cpu,
            self.load_per_cpu,
            "per CPU",
            "too many processes that run or wait for a disk",
        );
        at_most(
            "swap used",
            now.swap_used_percent,
            self.swap_used_percent,
            "%",
            "memory is short: see the largest processes",
        );
        at_most(
            "paging",
            now.paging_per_second,
            self.paging_per_second,
            "pages/s",
            "memory is short: programs wait for the disk",
        );
        at_most(
            "file handles",
            now.file_handles_percent,
            self.file_handles_percent,
            "%",
            "a program does not close its files",
        );
        let mut at_least = |measure: String, value: Option<f64>, limit: f64, cause: String| {
            if let Some(value) = value.filter(|value| *value < limit) {
                found.push(Exceeded { measure, value, limit, unit: "%", likely_cause: cause });
            }
        };
        let cause = "a process has grown: see the largest processes".to_owned();
        at_least("memory available".into(), now.memory_available_percent, self.memory_available_percent, cause);
        for disk in &now.disks {
            let cause = format!("files that grew below {}: logs, cores, snapshots", disk.path);
            at_least(format!("space free on {}", disk.path), Some(disk.free_percent), self.disk_free_percent, cause);
            let cause = format!("very many small files below {}", disk.path);
            at_least(
                format!("inodes free on {}", disk.path),
                disk.inodes_free_percent,
                self.inodes_free_percent,
                cause,
            );
        }
        found
    }
}

fn join(pids: &[i32]) -> String {
    let shown: Vec<String> = pids.iter().take(10).map(ToString::to_string).collect();
    shown.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::measure::Disk;

    #[test]
    fn a_program_s_own_limit_comes_before_that_of_all() {
        let profile = Profile::parse("copies = 5\nload_per_cpu = 2.0\n[program.ssSyncLoop]\ncopies = 1\n").unwrap();
        assert_eq!((profile.of("ssSyncLoop").copies, profile.of("other").copies), (1, 5));
        assert_eq!((profile.of("ssSyncLoop").load_per_cpu, profile.of("x").swap_used_percent), (2.0, 80.0));
    }

    #[test]
    fn a_misspelt_limit_is_an_error_and_not_no_limit() {
        assert!(Profile::parse("copys = 5").is_err());
        assert!(Profile::parse("[program.x]\nload = 1.0").is_err());
    }

    #[test]
    fn each_measure_that_exceeds_is_told_with_its_limit() {
        let now = Measured {
            copies: vec![4, 5, 6, 7],
            load_per_cpu: Some(9.0),
            memory_available_percent: Some(1.0),
            swap_used_percent: Some(90.0),
            paging_per_second: Some(3000.0),
            file_handles_percent: Some(99.0),
            disks: vec![Disk { path: "/".into(), free_percent: 1.0, inodes_free_percent: Some(0.5) }],
        };
        let valid = Profile::default().of("p");
        let found = valid.exceeded(&now);
        assert_eq!(found.len(), 8, "{found:?}");
        assert!(found[0].likely_cause.contains("4, 5, 6, 7"));
        assert_eq!(valid.exceeded(&Measured::default()), []);
    }
}
