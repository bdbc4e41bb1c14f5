//! What follows from a server's word that a program is not installed there: whatever that program would serve does not answer, which is one fault and
//! not one for each client.

use super::{Findings, Observed, Verdict};

impl Findings {
    /// Whether a fault is told by another one already: its server's own Verifier says, and lately, that what provides the service is not installed.
    pub fn is_of_what_is_lacking(&self, observed: &Observed) -> bool {
        let Some(role) = observed.about else { return false };
        let heard = self.heard.iter().filter(|heard| heard.role == role && heard.silent.is_none());
        let said = heard.filter_map(|heard| heard.findings.as_deref()).chain((self.role == role).then_some(self));
        let lacks = |own: &Observed| {
            own.about == Some(role)
                && own.profile.verdict == Verdict::Unacceptable
                && !own.is_stale(self.time)
                && own.profile.lacks.contains(&observed.service)
        };
        observed.profile.verdict != Verdict::Ok && said.flat_map(|said| &said.observed).any(lacks)
    }
}
