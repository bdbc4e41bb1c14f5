//! Whether a server still has its Unbound set: from what reading its members gives, second by second.
//!
//! ```text
//! reads well                           ─► the server keeps its role
//! gone from the kernel                 ─► counts at once
//! reads fail for FAILING               ─► counts
//! a read has no answer for SILENT      ─► counts        all of them count ─► the role is lost: only a cold boot gives one again
//! ```
//!
//! One member that is lost is the business of whoever watches arrays. Times are durations since the watch began.

use std::{collections::BTreeMap, fmt, time::Duration};

/// How long reads of a member may fail before it counts as lost: a controller that is reset fails a read or two.
pub const FAILING: Duration = Duration::from_millis(1500);
/// How long one read may take before the member counts as lost. A disk that repairs a sector is silent for some seconds; where the kernel has to
/// reset a controller it first waits 30 seconds for a command. Nobody takes disks out and boots them elsewhere in less than this.
pub const SILENT: Duration = Duration::from_secs(40);

/// How a member answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Answer {
    /// Nothing was read yet, or the last read was well.
    Well,
    /// All reads since then failed.
    FailingSince(Duration),
    /// It is not there.
    Gone,
}

/// What is known of one member.
#[derive(Clone, Debug)]
struct Member {
    answer: Answer,
    /// Since when a read waits for its end.
    waits_since: Option<Duration>,
}

/// The members of the set.
#[derive(Clone, Debug, Default)]
pub struct Members(BTreeMap<String, Member>);

/// How a member stands, for reports: `vdb: gone`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Standing {
    /// Its device.
    pub device: String,
    /// Whether it counts as there.
    pub there: bool,
    /// In words.
    pub words: &'static str,
}

impl fmt::Display for Standing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.device, self.words)
    }
}

impl Members {
    /// The set consists of these now. Who is new is taken to be well. That it consists of nothing at all is never believed: an array that
    /// vanished takes its list along.
    pub fn consist_of(&mut self, devices: &[String]) {
        if !devices.is_empty() {
            self.0.retain(|device, _| devices.contains(device));
            for device in devices {
                let new = Member { answer: Answer::Well, waits_since: None };
                self.0.entry(device.clone()).or_insert(new);
            }
        }
    }

    /// Their devices.
    pub fn devices(&self) -> impl Iterator<Item = &String> {
        self.0.keys()
    }

    /// A read of a member began.
    pub fn began(&mut self, device: &str, now: Duration) {
        if let Some(member) = self.0.get_mut(device) {
            member.waits_since.get_or_insert(now);
        }
    }

    /// A read of a member ended.
    pub fn ended(&mut self, device: &str, now: Duration, well: bool) {
        let Some(member) = self.0.get_mut(device) else { return };
        member.waits_since = None;
        member.answer = match member.answer {
            Answer::Gone => Answer::Gone,
            _ if well => Answer::Well,
            Answer::FailingSince(since) => Answer::FailingSince(since),
            Answer::Well => Answer::FailingSince(now),
        };
    }

    /// The kernel knows it no longer. What comes back under its name is another disk.
    pub fn is_gone(&mut self, device: &str) {
        if let Some(member) = self.0.get_mut(device) {
            member.answer = Answer::Gone;
        }
    }

    /// How each stands.
    pub fn standings(&self, now: Duration) -> Vec<Standing> {
        let standing = |(device, member): (&String, &Member)| {
            let long = |since: Duration, bound| now.saturating_sub(since) >= bound;
            let (there, words) = match (member.answer, member.waits_since) {
                (Answer::Gone, _) => (false, "gone"),
                (Answer::FailingSince(since), _) if long(since, FAILING) => (false, "reading it fails"),
                (_, Some(since)) if long(since, SILENT) => (false, "it does not answer"),
                (Answer::FailingSince(_), _) => (true, "a read failed"),
                (Answer::Well, Some(since)) if long(since, FAILING) => (true, "slow"),
                (Answer::Well, _) => (true, "well"),
            };
            Standing { device: device.clone(), there, words }
        };
        self.0.iter().map(standing).collect()
    }

    /// Whether all are lost. A set of which no member was ever known is not.
    pub fn are_lost(&self, now: Duration) -> bool {
        !self.0.is_empty() && self.standings(now).iter().all(|standing| !standing.there)
    }

    /// Whether a member deserves a look sooner than usual.
    pub fn is_in_doubt(&self) -> bool {
        self.0.values().any(|member| member.answer != Answer::Well)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn two() -> Members {
        let mut members = Members::default();
        members.consist_of(&["vdb".into(), "vdc".into()]);
        members
    }

    const S: fn(u64) -> Duration = Duration::from_millis;

    #[test]
    fn one_member_that_is_lost_closes_nothing_and_two_do() {
        let mut members = two();
        members.is_gone("vdb");
        assert!(!members.are_lost(S(100_000)));
        members.is_gone("vdc");
        assert!(members.are_lost(S(100_000)));
        assert_eq!(members.standings(S(0))[0].to_string(), "vdb: gone");
    }

    #[test]
    fn reads_that_fail_count_after_a_while_and_one_that_ends_well_forgives_them() {
        let mut members = two();
        for device in ["vdb", "vdc"] {
            members.ended(device, S(1000), false);
        }
        assert!(!members.are_lost(S(2499)) && members.is_in_doubt());
        assert!(members.are_lost(S(2500)));
        members.ended("vdb", S(2600), true);
        members.ended("vdb", S(2700), false);
        assert!(!members.are_lost(S(4000)));
        assert!(members.are_lost(S(4200)));
    }

    #[test]
    fn members_that_only_do_not_answer_have_longer() {
        let mut members = two();
        members.is_gone("vdc");
        members.began("vdb", S(1000));
        members.began("vdb", S(9000));
        assert!(!members.are_lost(S(40_999)));
        assert!(members.are_lost(S(41_000)));
        members.ended("vdb", S(41_500), true);
        assert!(!members.are_lost(S(99_000)));
    }

    #[test]
    fn a_disk_that_was_pulled_does_not_come_back_under_its_name_unless_the_set_took_it() {
        let mut members = two();
        members.is_gone("vdb");
        members.ended("vdb", S(1), true);
        assert!(!members.standings(S(1))[0].there);
        members.consist_of(&["vdc".into()]);
        members.consist_of(&["vdb".into(), "vdc".into()]);
        assert!(members.standings(S(2))[0].there, "mdadm --add");
    }

    #[test]
    fn an_array_that_vanished_takes_no_member_along() {
        let mut members = two();
        members.consist_of(&[]);
        assert_eq!(members.devices().count(), 2);
        members.is_gone("vdb");
        members.is_gone("vdc");
        assert!(members.are_lost(S(0)));
        assert!(!Members::default().are_lost(S(0)));
    }
}
