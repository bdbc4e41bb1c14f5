//! `/run/atlas/gate.json`: whether this server's network is open, and if not, why.

use crate::{Refusal, claims::Duplicate};
use serde::{Deserialize, Serialize};
use std::net::IpAddr;

/// The state of the network gate, as its keeper left it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct GateReport {
    /// The format of this report: 1.
    pub format: u32,
    /// When this was written, in seconds since the kernel started: a keeper that runs writes it every few seconds.
    #[serde(default)]
    pub at_s: u64,
    /// Whether interfaces may send.
    pub open: bool,
    /// Why not, where it is closed.
    pub refusal: Option<Refusal>,
    /// What could not be done as it should, although the gate is as it must be.
    pub warnings: Vec<String>,
    /// What was asked for before it was opened.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub asked: Option<Asked>,
    /// Interfaces that are held although it is open: without a carrier nobody could be asked on them yet.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub held: Vec<String>,
    /// The members of the Unbound set, and how each answers.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub members: Vec<String>,
    /// Why the set cannot be written to, or not safely, although it is there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub set_fault: Option<String>,
    /// Addresses that two machines have at the moment.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub duplicates: Vec<Duplicate>,
}

/// Which addresses were asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Asked {
    /// All of them.
    pub addresses: Vec<IpAddr>,
    /// Those whose card was unknown, so that every wire was asked.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub everywhere: Vec<IpAddr>,
    /// What in the files was not understood: addresses that are taken from there were not asked for.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub not_understood: Vec<String>,
    /// How long it took to find the addresses and to bring the cards up, in microseconds.
    pub prepared_us: u64,
    /// How long all of it took, in microseconds.
    pub took_us: u64,
}

impl GateReport {
    /// The format that this program writes and reads.
    pub const FORMAT: u32 = 1;
    /// Its name in `/run/atlas`.
    pub const NAME: &'static str = "gate.json";
}
