//! Refusals: the situations in which a server must not take a Role, and what to tell the person who stands before it.

use crate::Digest;
use serde::{Deserialize, Serialize};
use std::fmt;

/// The kinds of refusal. The text form is stable: it stands in `boot.json`, in an acceptance and in the manual.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RefusalCode {
    /// No device holds Unbound Data.
    NoUnboundSet,
    /// Two or more complete sets are attached.
    TwoSets,
    /// Members of more than one set are attached, not all of them complete.
    MixedSets,
    /// A member is missing that the set had when it was last used.
    MissingMember,
    /// Members were each written without the other.
    WrittenApart,
    /// Two devices claim to be the same member.
    DuplicateMember,
    /// The set is of a kind that ATLAS does not start.
    UnsupportedSet,
    /// The set could not be assembled.
    AssembleFailed,
    /// The file system is damaged beyond what is mended without asking.
    FilesystemBroken,
    /// MasterConfig is not there.
    MasterConfigMissing,
    /// MasterConfig is there and does not say who this server is.
    MasterConfigInvalid,
    /// The disks belong to another cluster than the server.
    ForeignCluster,
    /// EnvID or the cluster name of the Bound disk is missing or unreadable.
    BoundDataInvalid,
    /// The Unbound Data are of a format that this program does not know.
    UnknownFormat,
    /// No Snapshot from which this Environment can take the identity.
    SnapshotMissing,
    /// The Snapshot is there and not whole.
    SnapshotDamaged,
    /// A path of the identity leads out of the tree.
    BadPath,
    /// A converter failed.
    ConversionFailed,
    /// The identity could not be written to the root file system.
    RootNotWritable,
    /// Something that should always work did not.
    Internal,
}

impl RefusalCode {
    /// What an operator who knows better risks by accepting it; `None` where only a repair helps.
    pub fn risk_of_accepting(self) -> Option<&'static str> {
        match self {
            RefusalCode::MissingMember => Some(
                "if the missing member runs in another server, two servers take the same Role and addresses, and both copies \
                 of the data change; afterwards one of them has to be given up",
            ),
            RefusalCode::WrittenApart => Some(
                "the copy that you do not choose is left out; what was written only there is not seen until somebody mounts it \
                 by hand, and is gone once that member is added to the set again",
            ),
            RefusalCode::ForeignCluster => Some(
                "the server takes the identity of a server of another cluster; if that server runs, two servers have the same \
                 addresses",
            ),
            _ => None,
        }
    }
}

impl fmt::Display for RefusalCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match serde_json::to_value(self) {
            Ok(serde_json::Value::String(text)) => f.pad(&text),
            _ => Err(fmt::Error),
        }
    }
}

impl std::str::FromStr for RefusalCode {
    type Err = serde_json::Error;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        serde_json::from_value(serde_json::Value::String(text.into()))
    }
}

/// A refusal to take a Role: what was found, why going on is not safe, what to do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refusal {
    /// Which kind.
    pub code: RefusalCode,
    /// One sentence: what is the matter.
    pub what: String,
    /// The facts that it rests on, one per line.
    pub found: Vec<String>,
    /// Why it is not safe to go on.
    pub why: String,
    /// What to do, first thing first.
    pub remedy: Vec<String>,
    /// Stands for exactly this situation. An acceptance names it, so that it is void for any other.
    pub fingerprint: Option<Digest>,
}

impl Refusal {
    /// Begins a refusal; add facts, the reason and the remedy.
    pub fn new(code: RefusalCode, what: impl Into<String>) -> Refusal {
        Refusal { code, what: what.into(), found: vec![], why: String::new(), remedy: vec![], fingerprint: None }
    }

    /// Adds a fact.
    pub fn found(mut self, fact: impl Into<String>) -> Refusal {
        self.found.push(fact.into());
        self
    }

    /// Adds the causes of `error`, each once, as facts.
    pub fn caused_by(mut self, error: &dyn std::error::Error) -> Refusal {
        let mut cause = Some(error);
        while let Some(error) = cause {
            self.found.push(error.to_string());
            cause = error.source();
        }
        self
    }

    /// Says why going on is not safe.
    pub fn because(mut self, why: impl Into<String>) -> Refusal {
        self.why = why.into();
        self
    }

    /// Adds a thing to do.
    pub fn remedy(mut self, what_to_do: impl Into<String>) -> Refusal {
        self.remedy.push(what_to_do.into());
        self
    }

    /// The screen that an operator sees, without colour.
    pub fn screen(&self) -> String {
        let mut text = format!("ATLAS REFUSED TO TAKE A ROLE: {}\n\n  {}\n", self.code, self.what);
        let mut part = |title: &str, lines: &[String]| {
            if !lines.is_empty() {
                text.push_str(&format!("\n{title}\n"));
                lines.iter().for_each(|line| text.push_str(&format!("  - {line}\n")));
            }
        };
        part("Found:", &self.found);
        part("Why this is not safe:", std::slice::from_ref(&self.why));
        part("What to do:", &self.remedy);
        if let Some(risk) = self.code.risk_of_accepting() {
            text.push_str(&format!(
                "\nIf you know better: log in here as root and run 'atlas-boot accept {}'.\n  The risk: {risk}.\n",
                self.code
            ));
        }
        text.push_str("\nThe network stays down. Details: /run/atlas/boot.json\n");
        text
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.code, self.what)
    }
}

impl std::error::Error for Refusal {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_screen_says_what_why_and_what_to_do() {
        let screen = Refusal::new(RefusalCode::MissingMember, "Half of the set is missing.")
            .found("vdb: slot 0 of 2")
            .because("the other half may be booting elsewhere")
            .remedy("shut down and attach both members")
            .screen();
        for part in [
            "missing-member",
            "vdb: slot 0",
            "booting elsewhere",
            "attach both",
            "atlas-boot accept missing-member",
            "network stays down",
        ] {
            assert!(screen.contains(part), "{part} in {screen}");
        }
        assert!(!Refusal::new(RefusalCode::NoUnboundSet, "").screen().contains("accept"), "nothing there to accept");
    }

    #[test]
    fn a_code_reads_back_from_its_text() {
        assert_eq!("written-apart".parse::<RefusalCode>().ok(), Some(RefusalCode::WrittenApart));
        assert_eq!(RefusalCode::TwoSets.to_string(), "two-sets");
    }
}
