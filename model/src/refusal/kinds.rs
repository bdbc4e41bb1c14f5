//! The kinds of refusal: one table, from which the screens and the table in `docs/operating.md` are made.

use serde::{Deserialize, Serialize};
use std::fmt;

/// A kind, what is the matter, what usually helps, and where it may be accepted, the risk of that.
macro_rules! refusals {
    ($($name:ident: $meaning:literal, helps $help:literal $(, risk $risk:literal)?;)+) => {
        /// The kinds of refusal. The text form is stable: it stands in `boot.json`, in an acceptance and in the manual.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(rename_all = "kebab-case")]
        pub enum RefusalCode {
            $(#[doc = $meaning] $name,)+
        }

        impl RefusalCode {
            /// All kinds, in the order of the manual.
            pub const ALL: &[RefusalCode] = &[$(RefusalCode::$name),+];

            /// What is the matter, for the manual.
            pub fn meaning(self) -> &'static str {
                match self { $(RefusalCode::$name => $meaning,)+ }
            }

            /// What usually helps, for the manual.
            pub fn usual_help(self) -> &'static str {
                match self { $(RefusalCode::$name => $help,)+ }
            }

            /// What an operator who knows better risks by accepting it; `None` where only a repair helps.
            pub fn risk_of_accepting(self) -> Option<&'static str> {
                match self { $(RefusalCode::$name => [$($risk,)? ""].into_iter().find(|risk| !risk.is_empty()),)+ }
            }
        }
    };
}

refusals! {
    NoUnboundSet: "no disk with Unbound Data is attached",
        helps "push the disks in until they lock; the screen lists every disk that is attached, and why it is no member";
    TwoSets: "two complete sets are attached",
        helps "leave in only the disks of the role that this server is to have";
    MixedSets: "members of different sets are attached",
        helps "leave in only the disks of the role that this server is to have";
    MissingMember: "half of a mirror that was whole when it was last used",
        helps "put the other half in; if it is dead, accept",
        risk "what was written after this half was last in the set is not on it; and if the missing member runs in another \
              server, two servers take the same role and addresses, both copies of the data change, and one of them has to \
              be given up";
    LostMirror: "a file system that belongs to a mirror shows up without its mirror: md metadata 0.90, firmware RAID, or a \
                 disk whose end is hidden",
        helps "put the disk into a bay that shows all of it; convert old metadata as the screen says";
    WrittenApart: "the halves were each written without the other",
        helps "decide which one counts, and accept it by name",
        risk "the copy that you do not choose is left out; what was written only there is not seen until somebody mounts it \
              by hand, and is gone once that member is added to the set again";
    DuplicateMember: "two disks say that they are the same member",
        helps "take the copy out";
    UnsupportedSet: "the set is of a kind that ATLAS does not start: not a plain RAID-1, no complete member, write-protected, \
                     or with LUKS, LVM, multipath or another file system than ext4",
        helps "the screen names what it is; finish a reshape where it was begun, or move the data to a set made by `atlas init`";
    AssembleFailed: "md could not start the set",
        helps "the screen says whether a disk was busy or failed";
    DiskHangs: "a disk gives no answer, or a step that waits for it comes to no end",
        helps "switch the power off, take the disk out or replace it, boot again";
    FilesystemBroken: "e2fsck would have to ask, or there is no file system",
        helps "take an image of one member, then run e2fsck by hand";
    MasterConfigMissing: "the set does not say who the server is",
        helps "check that these are the right disks; on a new set, `atlas init`";
    MasterConfigInvalid: "MasterConfig has a fault; the screen gives line and column",
        helps "repair the file";
    ForeignCluster: "the disks are another cluster's",
        helps "put them where they belong",
        risk "the server takes the identity of a server of another cluster; if that server runs, two servers have the same \
              addresses";
    ForeignIdentity: "the server wears the name, addresses and host keys of a role whose disks are elsewhere, or nobody knows \
                      whose, and the disks in it have no Snapshot yet",
        helps "put in the disks of that role, or `atlas init` with `--hostname` and `--address`";
    BoundDataInvalid: "this server's EnvID or Cluster is missing or unreadable",
        helps "run `atlas init` again";
    UnknownFormat: "a newer ATLAS wrote the disks",
        helps "install that ATLAS here";
    SnapshotMissing: "no Snapshot can serve this server",
        helps "`ssSync create` on the server where the disks ran last";
    SnapshotDamaged: "the Snapshot of this role is damaged or cannot be read",
        helps "`ssSync create` on the server where the disks ran last";
    BadPath: "an identity path leads out of its tree, or is not on this server's root file system",
        helps "repair IdentFilePaths; move the path to the root file system";
    ConversionFailed: "a converter of this server failed",
        helps "`atlas-convert check` names the part; repair it, or put your own in its place (`converters/README.md`)";
    RootNotWritable: "the server's own disk is full or failing, a file was made immutable, or the root file system is an overlay, \
                      which may forget what is written to it",
        helps "make room; replace the disk; `chattr -i`; boot without the overlay";
    SetChanged: "user space began anew (`systemctl soft-reboot`), and the Unbound set is not the one of the boot",
        helps "switch the server off and on again";
    NotDecided: "early boot ended without a decision: atlas-boot was not started there, crashed or hung",
        helps "`atlas init --check` names an initramfs that lacks it; `update-initramfs -u -k all`, and reboot";
    AddressInUse: "another machine on the network has an address of this server, or is about to take it",
        helps "find it by its card, which the screen names; if it has a copy of these disks, switch one of the two off",
        risk "if the other machine has a copy of these disks, two servers take the same role: clients reach now one and now the \
              other, and both copies of the data change; afterwards one of them has to be given up";
    DisksLost: "all front disks were pulled out, or failed, while the server ran: it gave its role up and closed its network",
        helps "if they are to run here again, push them in and switch the server off and on";
    Internal: "a step failed that should not",
        helps "the screen shows the cause";
}

impl RefusalCode {
    /// The rows of the manual's table, as Markdown.
    pub fn manual() -> String {
        let mut text = String::from(
            "| refusal | what is the matter | what usually helps | may be accepted |\n|---|---|---|---|\n",
        );
        for code in Self::ALL {
            let accepted = if code.risk_of_accepting().is_some() { "yes" } else { "no" };
            text.push_str(&format!("| `{code}` | {} | {} | {accepted} |\n", code.meaning(), code.usual_help()));
        }
        text
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

/// Where the table begins and ends in the manual.
const MANUAL_MARKERS: (&str, &str) = ("<!-- refusals: generated -->\n", "<!-- end of refusals -->\n");

/// The manual with its table as it should be; `None` where the markers are not there.
pub fn renew_manual(text: &str) -> Option<String> {
    let (before, rest) = text.split_once(MANUAL_MARKERS.0)?;
    let (_, after) = rest.split_once(MANUAL_MARKERS.1)?;
    Some([before, MANUAL_MARKERS.0, &RefusalCode::manual(), MANUAL_MARKERS.1, after].concat())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_code_reads_back_from_its_text() {
        for code in RefusalCode::ALL {
            assert_eq!(code.to_string().parse::<RefusalCode>().ok(), Some(*code));
        }
        assert_eq!(RefusalCode::TwoSets.to_string(), "two-sets");
    }

    #[test]
    fn the_manual_has_the_table_as_the_screens_know_it() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/operating.md");
        let text = std::fs::read_to_string(path).unwrap();
        assert!(renew_manual(&text).unwrap() == text, "stale; `cargo xtask generate` renews it");
    }

    #[test]
    fn a_row_may_stand_in_a_table() {
        for code in RefusalCode::ALL {
            let texts = [code.meaning(), code.usual_help()];
            assert!(texts.iter().all(|text| !text.is_empty() && !text.contains(['|', '\n'])), "{code}");
        }
    }
}
