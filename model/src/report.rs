//! `/run/atlas/boot.json`: what atlas-boot found, did, and how long each step took.

use crate::{Digest, EnvVersion, Refusal, RefusalCode, Role};
use serde::{Deserialize, Deserializer, Serialize};

/// How a boot ended for ATLAS.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// The server holds its Role and the identity of the Snapshot.
    IdentityInstalled,
    /// The server holds its Role; no Snapshot was ever made, so the OS keeps its own identity [272].
    FromScratch,
    /// The server holds no Role; the network stays down.
    Refused,
    /// `atlas init` was never run here; ATLAS leaves this machine alone.
    NotInitialised,
}

impl Outcome {
    /// Whether the network may be configured.
    pub fn network_allowed(self) -> bool {
        self != Outcome::Refused
    }
}

/// The report of one boot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BootReport {
    /// The format of this report: 1.
    pub format: u32,
    /// The program and version that wrote it.
    pub program: String,
    /// The kernel's own name for this boot (`/proc/sys/kernel/random/boot_id`): the report means nothing for any other.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub boot_id: Option<String>,
    /// How it ended.
    pub outcome: Outcome,
    /// The Role, where one was taken.
    pub role: Option<Role>,
    /// The cluster of the disks.
    pub cluster: Option<String>,
    /// What the Bound disk says of itself.
    pub env_version: Option<EnvVersion>,
    /// The EnvVersion that the Snapshot was converted from, where it had to be.
    pub converted_from: Option<EnvVersion>,
    /// The Unbound set.
    pub set: Option<SetReport>,
    /// Whether anything was written to the Unbound disks.
    pub unbound_written: bool,
    /// What was changed on the root file system: one line per path, as `replaced /etc/hostname`.
    pub installed: Vec<String>,
    /// What somebody should look at although the boot went on.
    pub warnings: Vec<String>,
    /// The refusal, where it ended so.
    pub refusal: Option<Refusal>,
    /// What an operator had accepted beforehand, and this boot needed.
    #[serde(default, deserialize_with = "acceptances")]
    pub accepted: Vec<Acceptance>,
    /// The steps, in order.
    pub steps: Vec<Step>,
}

impl BootReport {
    /// The format that this program writes and reads.
    pub const FORMAT: u32 = 1;
    /// Where it lies on a running server.
    pub const PATH: &'static str = "/run/atlas/boot.json";

    /// The report of a boot that has just begun: refused, until it is known better.
    pub fn begin(program: &str) -> BootReport {
        BootReport {
            format: Self::FORMAT,
            program: program.to_owned(),
            boot_id: None,
            outcome: Outcome::Refused,
            role: None,
            cluster: None,
            env_version: None,
            converted_from: None,
            set: None,
            unbound_written: false,
            installed: vec![],
            warnings: vec![],
            refusal: None,
            accepted: vec![],
            steps: vec![],
        }
    }
}

/// The Unbound set as it was started.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SetReport {
    /// The UUID of the array; of the file system where the set is a single device.
    pub uuid: String,
    /// The device with the file system.
    pub device: String,
    /// The members that it runs on: those that hold all of the data, and those that are being filled.
    pub members: Vec<String>,
    /// The same, with serial number and place.
    #[serde(default)]
    pub disks: Vec<String>,
    /// Members that stand by for one that fails.
    #[serde(default)]
    pub spares: Vec<String>,
    /// Members of which a part is still being filled from the others.
    #[serde(default)]
    pub rebuilding: Vec<String>,
    /// Members that it was to be started from, and that md did not take.
    #[serde(default)]
    pub not_taken: Vec<String>,
    /// Members that were left out because they are behind.
    pub left_out: Vec<String>,
    /// Whether it runs with fewer members than it has slots.
    pub degraded: bool,
    /// What was done to the file system: `clean`, `journal replayed`, `mended`.
    pub file_system: String,
}

/// One step and its time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Step {
    /// What was done.
    pub name: String,
    /// When it began, in microseconds after atlas-boot did.
    pub at_us: u64,
    /// How long it took, in microseconds.
    pub took_us: u64,
}

/// A list of them. One alone, or `null`, is what earlier versions wrote.
fn acceptances<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<Acceptance>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Written {
        Nothing(()),
        One(Acceptance),
        All(Vec<Acceptance>),
    }
    Ok(match Written::deserialize(from)? {
        Written::Nothing(()) => vec![],
        Written::One(one) => vec![one],
        Written::All(all) => all,
    })
}

/// A refusal that an operator accepts once, written by `atlas-boot accept`, used up by the next boot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Acceptance {
    /// The format: 1.
    pub format: u32,
    /// What is accepted.
    pub code: RefusalCode,
    /// The situation that it holds for; void for any other.
    pub fingerprint: Digest,
    /// Which device to go on with, where there is a choice.
    pub device: Option<String>,
    /// Who accepted it: the login name on the console.
    pub by: String,
    /// Why, in their words.
    pub reason: String,
    /// When, in seconds since 1970 by the server's clock.
    pub at: u64,
    /// What the refusal had found, for whoever reads the record later.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub found: Vec<String>,
}

impl Acceptance {
    /// Whether it was given for just this refusal.
    pub fn is_for(&self, refusal: &Refusal) -> bool {
        self.code == refusal.code && Some(self.fingerprint) == refusal.fingerprint
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_of_an_earlier_version_is_read() {
        let acceptance = Acceptance {
            format: 1,
            code: RefusalCode::MissingMember,
            fingerprint: Digest::of(b"disks"),
            device: None,
            by: "root".into(),
            reason: "it burned".into(),
            at: 7,
            found: vec![],
        };
        let report = BootReport { accepted: vec![acceptance.clone()], ..BootReport::begin("test") };
        let mut json = serde_json::to_value(&report).unwrap();
        let read = |json: &serde_json::Value| serde_json::from_value::<BootReport>(json.clone()).unwrap().accepted;
        assert_eq!(read(&json), std::slice::from_ref(&acceptance));
        json["accepted"] = serde_json::to_value(&acceptance).unwrap();
        assert_eq!(read(&json), [acceptance]);
        json["accepted"] = serde_json::Value::Null;
        assert_eq!(read(&json), []);
    }
}
