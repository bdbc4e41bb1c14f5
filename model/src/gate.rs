//! `/run/atlas/gate.json`: whether this server's network is open, and if not, why.

use crate::Refusal;
use serde::{Deserialize, Serialize};

/// The state of the network gate, as its keeper left it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GateReport {
    /// The format of this report: 1.
    pub format: u32,
    /// Whether interfaces may send.
    pub open: bool,
    /// Why not, where it is closed.
    pub refusal: Option<Refusal>,
    /// What could not be done as it should, although the gate is as it must be.
    pub warnings: Vec<String>,
}

impl GateReport {
    /// The format that this program writes and reads.
    pub const FORMAT: u32 = 1;
    /// Its name in `/run/atlas`.
    pub const NAME: &'static str = "gate.json";
}
