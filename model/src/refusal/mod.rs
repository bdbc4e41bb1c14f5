//! Refusals: the situations in which a server must not take a Role, and what to tell the person who stands before it.

mod kinds;

pub use kinds::{RefusalCode, renew_manual};

use crate::Digest;
use serde::{Deserialize, Serialize};
use std::fmt;

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

    /// The beginning of the screen.
    pub fn title(&self) -> &'static str {
        match self.code {
            RefusalCode::DisksLost => "THIS SERVER HAS GIVEN ITS ROLE UP",
            _ => "ATLAS REFUSED TO TAKE A ROLE",
        }
    }

    /// The screen that an operator sees, without colour.
    pub fn screen(&self) -> String {
        let mut text = format!("{}: {}\n\n  {}\n", self.title(), self.code, self.what);
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
        if self.code == RefusalCode::DisksLost {
            text.push_str("\nOnly switching the server off and on opens its network again, whatever happens to the disks until then.\n");
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
}
