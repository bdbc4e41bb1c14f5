//! What the store knows of one fault.
//!
//! A server that has debug information tells the functions that a compiler copied into others, and gives a fault a *complete* signature; one that
//! has none gives it a *plain* one. They are two names of one fault: an entry stands under the complete one as soon as it is known, and under `also`
//! has the others, by which people and other sites find it.

use crate::{
    record::Record,
    signature::{Signature, Strength},
    traceback::Traceback,
};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The version of an entry's format.
pub const FORMAT: u32 = 1;
/// How many occurrences an entry tells in detail; all are counted.
const DETAILED: usize = 500;

/// One time that a fault happened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Occurrence {
    /// When, in seconds since 1970.
    pub time: u64,
    /// On which server.
    pub server: String,
    /// The program's path, with its version's tag.
    pub program_path: String,
    /// The log file of that run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub log: Option<String>,
    /// The core's own mark: the same core is counted once.
    pub mark: String,
}

/// All that is known of one fault.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Entry {
    /// [`FORMAT`].
    pub format: u32,
    /// The signature.
    pub signature: String,
    /// The same fault's other signatures: those of servers where inlined functions cannot be told, of all or some of the program.
    #[serde(default)]
    pub also: Vec<String>,
    /// Whether all functions that were copied into others are known.
    #[serde(default)]
    pub is_complete: bool,
    /// Strong or weak.
    pub strength: Strength,
    /// The version of the rules.
    pub rules: u32,
    /// The program, without its version.
    pub program: String,
    /// The text whose SHA-256 the signature is.
    pub text: String,
    /// The raw traceback; none where the entry came from another site.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub raw: Option<Record>,
    /// How often it happened here.
    pub count: u64,
    /// How often on which server.
    #[serde(default)]
    pub by_server: BTreeMap<String, u64>,
    /// The first and the latest occurrences, in order.
    #[serde(default)]
    pub occurrences: Vec<Occurrence>,
    /// What people wrote about it.
    #[serde(default)]
    pub notes: Vec<String>,
    /// Signatures under which it stood before the rules changed.
    #[serde(default)]
    pub former: Vec<String>,
    /// Whether it came from another site.
    #[serde(default)]
    pub is_imported: bool,
}

/// Which of these tells the same fault: the one of that signature, or else the only one that may be it.
pub(crate) fn same_fault(all: &[Entry], other: &Entry) -> Option<usize> {
    all.iter().position(|entry| entry.signature == other.signature).or_else(|| {
        let mut fitting = (0..all.len()).filter(|at| all[*at].may_be(other));
        fitting.next().filter(|_| fitting.next().is_none())
    })
}

impl Entry {
    pub(crate) fn new(traceback: &Traceback, signature: &Signature) -> Entry {
        let program = atlas_cli::version::without(&traceback.program);
        let mut entry = Entry { raw: Some(Record::of(traceback)), ..Entry::bare(program, signature.strength) };
        entry.take(signature);
        entry
    }

    /// An entry that tells nothing yet.
    pub fn bare(program: &str, strength: Strength) -> Entry {
        Entry {
            format: FORMAT,
            signature: String::new(),
            also: vec![],
            is_complete: false,
            strength,
            rules: 0,
            program: program.to_owned(),
            text: String::new(),
            raw: None,
            count: 0,
            by_server: BTreeMap::new(),
            occurrences: vec![],
            notes: vec![],
            former: vec![],
            is_imported: false,
        }
    }

    /// Takes over what a signature says.
    pub(crate) fn take(&mut self, signature: &Signature) {
        self.signature.clone_from(&signature.id);
        self.also = signature.plain_id.clone().into_iter().collect();
        self.is_complete = signature.is_complete;
        self.strength = signature.strength;
        self.rules = signature.rules;
        self.text.clone_from(&signature.text);
    }

    /// Whether this very core was counted before.
    pub(crate) fn counted(&self, occurrence: &Occurrence) -> bool {
        self.occurrences.iter().any(|known| known.mark == occurrence.mark)
    }

    pub(crate) fn add(&mut self, occurrence: Occurrence) {
        self.count += 1;
        *self.by_server.entry(occurrence.server.clone()).or_default() += 1;
        self.occurrences.push(occurrence);
        if self.occurrences.len() > DETAILED {
            // The first tells since when; the others make room.
            self.occurrences.remove(1);
        }
    }

    /// The signatures that a server without debug information may give this fault.
    fn plain_names(&self) -> impl Iterator<Item = &String> {
        self.also.iter().chain((!self.is_complete).then_some(&self.signature))
    }

    /// Whether two entries may tell one fault, one of them with less debug information. Two that are complete and differ are two faults.
    pub(crate) fn may_be(&self, other: &Entry) -> bool {
        self.strength == other.strength
            && !(self.is_complete && other.is_complete)
            && self.plain_names().any(|name| other.plain_names().any(|other| name == other))
    }

    /// Takes over what another entry of the same fault knows; says whether that was anything.
    pub(crate) fn learn(&mut self, other: &Entry) -> bool {
        let (also, notes, was_complete) = (self.also.clone(), self.notes.clone(), self.is_complete);
        self.also.extend(other.also.iter().cloned().chain([other.signature.clone()]));
        if other.is_complete && !self.is_complete {
            self.also.push(self.signature.clone());
            self.signature.clone_from(&other.signature);
            (self.text, self.rules, self.is_complete) = (other.text.clone(), other.rules, true);
            self.raw = other.raw.clone().or(self.raw.take());
        }
        if self.raw.is_none() {
            self.raw.clone_from(&other.raw);
        }
        self.also.retain(|name| *name != self.signature);
        self.also.sort();
        self.also.dedup();
        self.notes.extend(other.notes.iter().filter(|note| !notes.contains(note)).cloned());
        (&also, &notes, was_complete) != (&self.also, &self.notes, self.is_complete)
    }

    /// Two entries that turned out to be one fault: their counts add up.
    pub(crate) fn merged(mut self, other: &Entry) -> Entry {
        self.count += other.count;
        for (server, count) in &other.by_server {
            *self.by_server.entry(server.clone()).or_default() += count;
        }
        self.occurrences.extend(other.occurrences.iter().cloned());
        self.occurrences.sort_by_key(|occurrence| occurrence.time);
        self.occurrences.truncate(DETAILED);
        self.notes.extend(other.notes.iter().cloned());
        self.notes.sort();
        self.notes.dedup();
        self.former.extend(other.former.iter().cloned());
        self.also.extend(other.also.iter().cloned());
        self.also.sort();
        self.also.dedup();
        self
    }

    /// The cleaned traceback, innermost first.
    pub fn frames(&self) -> impl Iterator<Item = &str> {
        self.text.lines().skip(3)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(signature: &str, also: &[&str], is_complete: bool) -> Entry {
        let also = also.iter().map(|name| (*name).to_owned()).collect();
        Entry { signature: signature.into(), also, is_complete, count: 1, ..Entry::bare("p", Strength::Strong) }
    }

    #[test]
    fn two_faults_that_look_alike_without_debug_information_stay_two() {
        let (one, two, plain) = (entry("1", &["p"], true), entry("2", &["p"], true), entry("p", &[], false));
        assert!(one.may_be(&plain) && plain.may_be(&two) && !one.may_be(&two));
        assert_eq!(same_fault(&[one.clone(), two.clone()], &plain), None, "it may be either");
        assert_eq!(same_fault(&[two, one.clone()], &one), Some(1));
        assert_eq!(same_fault(std::slice::from_ref(&plain), &one), Some(0));
        let weak = Entry { strength: Strength::Weak, ..plain };
        assert_eq!(same_fault(&[one], &weak), None);
    }

    #[test]
    fn an_entry_takes_the_name_that_tells_more_and_keeps_its_count() {
        let mut known = Entry { notes: vec!["seen".into()], ..entry("p", &[], false) };
        let more = Entry { notes: vec!["fixed".into()], text: "more".into(), ..entry("f", &["p", "q"], true) };
        assert!(known.learn(&more) && !known.learn(&more));
        assert_eq!((known.signature.as_str(), known.also.join(" "), known.count), ("f", "p q".into(), 1));
        assert_eq!((known.text.as_str(), known.notes.join(" ")), ("more", "seen fixed".into()));
        assert!(!known.learn(&entry("p", &[], false)));
    }
}
