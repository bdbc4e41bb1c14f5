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
        let mut text = self.text(self.title());
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

    /// The answer to the question what the next boot will do. The system that runs may be up, and stays as it is.
    pub fn forecast(&self) -> String {
        // Until it is switched off, there is no more to know.
        if self.code == RefusalCode::DisksLost {
            return self.screen();
        }
        let mut text = self.text("THE NEXT BOOT WILL REFUSE TO TAKE A ROLE");
        if let Some(risk) = self.code.risk_of_accepting() {
            text.push_str(&format!(
                "\nIf you know better: once a boot has refused, log in at its console as root and run 'atlas-boot accept {}'.\n  \
                 The risk: {risk}.\n",
                self.code
            ));
        }
        text.push_str(
            "\nThis is about the next boot, with the disks as they are now: it will keep the network down. What runs now is not changed.\n",
        );
        text
    }

    /// What was found, why that is not safe, what to do.
    fn text(&self, title: &str) -> String {
        let mut text = format!("{title}: {}\n\n  {}\n", self.code, self.what);
        let mut part = |title: &str, lines: &[String]| {
            if !lines.is_empty() {
                text.push_str(&format!("\n{title}\n"));
                lines.iter().for_each(|line| text.push_str(&format!("  - {line}\n")));
            }
        };
        part("Found:", &self.found);
        part("Why this is not safe:", std::slice::from_ref(&self.why));
        part("What to do:", &self.remedy);
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
    fn an_answer_about_the_next_boot_does_not_say_that_the_network_of_this_one_is_down() {
        let refusal = Refusal::new(RefusalCode::WrittenApart, "Apart.").because("two versions").remedy("decide");
        let text = refusal.forecast();
        for part in
            ["THE NEXT BOOT WILL REFUSE", "written-apart", "two versions", "once a boot has refused", "not changed"]
        {
            assert!(text.contains(part), "{part} in {text}");
        }
        assert!(!text.contains("stays down") && !text.contains("log in here"), "{text}");
        let lost =
            Refusal::new(RefusalCode::DisksLost, "Gone.").because("another may have them").remedy("switch it off");
        assert!(!lost.forecast().contains("WILL REFUSE"), "the next boot decides: {}", lost.forecast());
    }
}
