//! One of the things that a check found wrong, apart from the others, so that each can be listed, and related to what causes it.

use super::{Measure, Profile, Verdict, Worse, number};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// So many faults stand in a summary; [`Profile::faults`] has all.
pub const SUMMED: usize = 6;
/// All faults of one Profile have at most so many bytes of text.
const MAX_TEXT: usize = 40 << 10;

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fault {
    /// How bad.
    pub verdict: Verdict,
    /// What is wrong.
    pub what: String,
    /// What to do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
    /// Of which kind, as the rules of [`super::causes`] name it: `package`, `stopped`, `full` …; empty where no rule does.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub kind: String,
    /// Which services, packages or units it concerns, where it is not the check's own.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub of: Vec<String>,
}

/// The kind of what says that two machines have one address of the cluster.
pub const ADDRESS_IN_USE: &str = "address-in-use";

impl Fault {
    /// A fault of no kind.
    pub fn new(verdict: Verdict, what: impl Into<String>, hint: impl Into<String>) -> Fault {
        Fault { verdict, what: what.into(), hint: Some(hint.into()), kind: String::new(), of: vec![] }
    }

    /// Says of which kind it is, and what it concerns.
    #[must_use]
    pub fn is(self, kind: &str, of: &[&str]) -> Fault {
        Fault { kind: kind.to_owned(), of: of.iter().map(|name| (*name).to_owned()).collect(), ..self }
    }

    /// What a measure beyond its limit means, in these words; `None` where it is within.
    pub fn of_measure(measure: &Measure, what: &str, hint: &str) -> Option<Fault> {
        let verdict = measure.verdict();
        if verdict == Verdict::Ok {
            return None;
        }
        let limit = if verdict == Verdict::Slow { measure.slow } else { measure.unacceptable };
        let than = if measure.worse == Worse::Higher { "more" } else { "less" };
        let unit = if measure.unit.is_empty() { String::new() } else { format!(" {}", measure.unit) };
        let limit = limit.map(|limit| format!(", {than} than {}", number(limit))).unwrap_or_default();
        Some(Fault::new(verdict, format!("{what}: {}{unit}{limit}", number(measure.value)), hint))
    }
}

impl Profile {
    /// All in one: the weightiest fault first, or `well` where there is none. What weighs the same stays in its order.
    pub fn of_faults(mut faults: Vec<Fault>, well: impl Into<String>) -> Profile {
        faults.sort_by_key(|fault| std::cmp::Reverse(fault.verdict.weight()));
        let Some(verdict) = faults.first().map(|fault| fault.verdict) else { return Profile::ok(well) };
        let mut hints: Vec<&str> = Vec::new();
        for hint in faults.iter().take(SUMMED).filter_map(|fault| fault.hint.as_deref()) {
            if !hints.contains(&hint) {
                hints.push(hint);
            }
        }
        let mut profile = Profile::new(verdict, summed(&faults));
        profile.hint = (!hints.is_empty()).then(|| hints.join("; "));
        let mut left = MAX_TEXT;
        let text = |fault: &Fault| {
            let of: usize = fault.of.iter().map(|name| name.len() + 3).sum();
            fault.what.len() + fault.hint.as_ref().map_or(0, String::len) + of + 80
        };
        faults.retain(|fault| {
            let fits = text(fault) <= left;
            left = left.saturating_sub(text(fault));
            fits
        });
        profile.faults = faults;
        profile
    }

    /// Says of which kind the fault is that the summary tells.
    #[must_use]
    pub fn kind(mut self, kind: &str) -> Profile {
        let (verdict, what) = (self.verdict, self.summary.clone());
        self.faults = vec![Fault { verdict, what, hint: self.hint.clone(), kind: kind.to_owned(), of: vec![] }];
        self
    }
}

/// What tells faults apart over time: numbers in them change while they stay the same. Equal ones are counted.
pub fn names(faults: &[Fault]) -> BTreeMap<String, &Fault> {
    let mut names = BTreeMap::new();
    for fault in faults {
        let plain = |text: &str| text.chars().map(|c| if c.is_ascii_digit() { '#' } else { c }).collect::<String>();
        let name = plain(&fault.what)
            .replace("#.", "#")
            .split('#')
            .filter(|part| !part.is_empty())
            .collect::<Vec<_>>()
            .join("#");
        let mut numbered = name.clone();
        let mut count = 1;
        while names.contains_key(&numbered) {
            count += 1;
            numbered = format!("{name} ({count})");
        }
        names.insert(numbered, fault);
    }
    names
}

/// The first of several, and how many more there are.
pub fn summed(faults: &[Fault]) -> String {
    let mut told: Vec<&str> = faults.iter().take(SUMMED).map(|fault| fault.what.as_str()).collect();
    let more = format!("and {} more", faults.len().saturating_sub(SUMMED));
    if faults.len() > SUMMED {
        told.push(&more);
    }
    told.join("; ")
}

/// The command that lists all of what a check found, as a shell takes it.
pub fn listed_by(key: &str) -> String {
    let is_plain = key.chars().all(|c| c.is_ascii_alphanumeric() || "-_./:".contains(c));
    if is_plain { format!("VerifierResults show {key}") } else { format!("VerifierResults show '{key}'") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_faults_are_summed_up_and_all_of_them_kept() {
        let faults: Vec<Fault> = (0..9).map(|n| Fault::new(Verdict::Slow, format!("disk{n}"), "look")).collect();
        let profile = Profile::of_faults(faults, "fine");
        assert!(profile.summary.ends_with("disk5; and 3 more"), "{}", profile.summary);
        assert_eq!((profile.faults.len(), profile.hint.as_deref()), (9, Some("look")));
        assert_eq!(Profile::of_faults(vec![], "fine"), Profile::ok("fine"));
    }

    #[test]
    fn a_fault_whose_numbers_change_is_the_same_and_two_of_a_kind_are_two() {
        let named = |what: &[&str]| -> Vec<String> {
            let faults: Vec<Fault> = what.iter().map(|what| Fault::new(Verdict::Slow, *what, "look")).collect();
            names(&faults).into_keys().collect()
        };
        assert_eq!(named(&["free space: 9 %, less than 10"]), named(&["free space: 10.25 %, less than 10"]));
        assert_eq!(named(&["port 80", "port 443"]).len(), 2);
        assert_ne!(named(&["vdb failed"]), named(&["vdc failed"]));
    }

    #[test]
    fn the_weightiest_comes_first_and_text_has_an_end() {
        let mut faults: Vec<Fault> = (0..900).map(|n| Fault::new(Verdict::Slow, format!("{n:0200}"), "look")).collect();
        faults.push(Fault::new(Verdict::Unacceptable, "gone", "look"));
        let profile = Profile::of_faults(faults, "fine");
        assert!(profile.verdict == Verdict::Unacceptable && profile.summary.starts_with("gone; 000"));
        assert!(serde_json::to_string(&profile).unwrap().len() < super::super::MAX_PROFILE - 8192);
        assert!(profile.summary.ends_with("and 895 more"), "what is left out is counted");
    }
}
