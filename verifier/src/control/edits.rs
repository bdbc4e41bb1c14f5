//! What PRI's people have just changed and the next cycle brings: for so long, a secondary that does not have it yet is no fault.

use atlas_model::{
    cold_boot::{Difference, START_PAGES, UNIT_FILES, UNIT_PATHS, UNITS},
    verify::ColdBoot,
};
use std::collections::BTreeMap;

/// Subjects of what cycles bring, or what goes with it.
const BROUGHT: [&str; 4] = [START_PAGES, UNIT_FILES, UNIT_PATHS, UNITS];
/// A cycle that has not come by then is a fault of its own, in seconds; and what it was to bring is missing.
const PATIENCE: u64 = 900;
/// A secondary looks at what it would boot with this rarely, in seconds, and may have other things to do after a cycle.
const SEEN: u64 = 90;

/// When this server's facts changed while it was looked at, in seconds since 1970.
#[derive(Debug, Default)]
pub(super) struct Edits {
    last: ColdBoot,
    is_known: bool,
    changed: BTreeMap<(String, String), Edit>,
}

#[derive(Debug)]
struct Edit {
    at: u64,
    /// When it was seen that a cycle has brought it.
    brought: Option<u64>,
}

impl Edits {
    /// Takes in how this server is now.
    pub(super) fn look(&mut self, own: &ColdBoot, now: u64) {
        if self.is_known && self.last == *own {
            return;
        }
        for subject in BROUGHT.into_iter().filter(|_| self.is_known) {
            let (then, is) = (self.last.subjects.get(subject), own.subjects.get(subject));
            let names = then.into_iter().chain(is).flat_map(|facts| facts.keys());
            for fact in names {
                if then.and_then(|facts| facts.get(fact)) != is.and_then(|facts| facts.get(fact)) {
                    self.changed.insert((subject.to_owned(), fact.clone()), Edit { at: now, brought: None });
                }
            }
        }
        (self.last, self.is_known) = (own.clone(), true);
    }

    /// Whether nothing has changed that may still be on its way.
    pub(super) fn is_empty(&self) -> bool {
        self.changed.is_empty()
    }

    /// Whether a difference is of a change that no cycle has brought yet, or so recently that the secondary has not looked since; `cycle`: when the
    /// last complete one began.
    pub(super) fn is_on_its_way(&mut self, difference: &Difference, cycle: Option<u64>, now: u64) -> bool {
        let Some(edit) = self.changed.get_mut(&(difference.subject.clone(), difference.fact.clone())) else {
            return false;
        };
        if edit.brought.is_none() && cycle.is_some_and(|begun| begun > edit.at) {
            edit.brought = Some(now);
        }
        match edit.brought {
            Some(brought) => now.saturating_sub(brought) < SEEN,
            None => now.saturating_sub(edit.at) < PATIENCE,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use atlas_model::verify::Verdict;

    fn boots(value: &str) -> ColdBoot {
        let facts = BTreeMap::from([("app.service".to_owned(), value.to_owned())]);
        ColdBoot { subjects: BTreeMap::from([(UNIT_FILES.to_owned(), facts)]) }
    }

    #[test]
    fn what_was_changed_on_pri_is_on_its_way_until_a_cycle_began_after_it() {
        let (subject, fact) = (UNIT_FILES.to_owned(), "app.service".to_owned());
        let difference = Difference { subject, fact, pri: None, sec: None, weight: Verdict::Unacceptable };
        let mut edits = Edits::default();
        edits.look(&boots("1a"), 100);
        assert!(edits.is_empty() && !edits.is_on_its_way(&difference, None, 100), "it was so before anybody looked");
        edits.look(&boots("2b"), 1000);
        let mut is = |cycle, now| edits.is_on_its_way(&difference, cycle, now);
        assert!(is(None, 1001) && is(Some(900), 1100) && is(Some(1000), 1100));
        assert!(!is(Some(900), 1900), "no cycle comes");
        assert!(is(Some(1001), 1100), "the secondary has to look first");
        assert!(!is(Some(1001), 1190), "the cycle has brought it, and it is not there");
    }
}
