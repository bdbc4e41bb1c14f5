//! Known crashes as text that goes from site to site, and that a version control system can tell the differences of.
//!
//! ```text
//! atlas-crashes 1
//!
//! signature 5d41… strong rules 1
//! also 7b52…
//! note fixed in v3
//! | strong
//! | program ssSync
//! | memory
//! | [strlen]
//! | main
//! ```
//!
//! Entries stand in the order of their signatures; nothing tells of a site: no server, time or count. The text after the bars is what the
//! signature is the SHA-256 of, so that a line that was changed on the way is noticed.

use crate::{entry::Entry, signature::Strength, store::is_signature};
use sha2::{Digest, Sha256};

/// The first line.
const HEADER: &str = "atlas-crashes 1";
/// The largest text that is read, in bytes.
pub const TEXT_LIMIT: u64 = 64 << 20;

/// Why a text is not taken over; nothing of it is.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("line {line}: {why}")]
pub struct ExchangeError {
    /// The line, from 1.
    pub line: usize,
    /// What is wrong with it.
    pub why: String,
}

/// The text of these entries.
pub fn export(entries: &[Entry]) -> String {
    let mut sorted: Vec<&Entry> = entries.iter().collect();
    sorted.sort_by(|a, b| a.signature.cmp(&b.signature));
    let mut text = format!("{HEADER}\n");
    for entry in sorted {
        text += &format!("\nsignature {} {} rules {}\n", entry.signature, entry.strength.name(), entry.rules);
        text.extend(entry.is_complete.then_some("complete\n"));
        text.extend(entry.also.iter().map(|also| format!("also {also}\n")));
        text.extend(entry.notes.iter().map(|note| format!("note {}\n", note.replace(['\n', '\r'], " "))));
        text.extend(entry.text.lines().map(|line| format!("| {line}\n")));
    }
    text
}

/// Reads such a text.
pub fn parse(text: &str) -> Result<Vec<Entry>, ExchangeError> {
    let mut entries: Vec<Entry> = Vec::new();
    let mut started: Vec<usize> = Vec::new();
    for (index, line) in text.lines().enumerate() {
        let fail = |why: &str| ExchangeError { line: index + 1, why: why.to_owned() };
        if index == 0 {
            if line != HEADER {
                return Err(fail("it does not begin with 'atlas-crashes 1'; is it a newer format?"));
            }
            continue;
        }
        let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
        if word == "signature" {
            entries.push(head(rest).ok_or_else(|| fail("it is no 'signature HEX strong|weak rules N'"))?);
            started.push(index + 1);
            continue;
        }
        if line.is_empty() {
            continue;
        }
        let entry = entries.last_mut().ok_or_else(|| fail("no signature stands before it"))?;
        match word {
            "also" if is_signature(rest) => entry.also.push(rest.to_owned()),
            "complete" => entry.is_complete = true,
            "note" => entry.notes.push(rest.to_owned()),
            "|" => entry.text += &format!("{rest}\n"),
            _ => return Err(fail("it begins with none of 'also', 'complete', 'note' and '|'")),
        }
    }
    for (entry, line) in entries.iter_mut().zip(started) {
        if crate::space::hex(&Sha256::digest(entry.text.as_bytes())) != entry.signature {
            return Err(ExchangeError { line, why: "its lines were changed: they do not give this signature".into() });
        }
        entry.program =
            entry.text.lines().nth(1).and_then(|line| line.strip_prefix("program ")).unwrap_or_default().to_owned();
    }
    Ok(entries)
}

fn head(text: &str) -> Option<Entry> {
    let words: Vec<&str> = text.split(' ').collect();
    let [signature, strength, "rules", rules] = words[..] else { return None };
    let strength = match strength {
        "strong" => Strength::Strong,
        "weak" => Strength::Weak,
        _ => return None,
    };
    Some(Entry {
        signature: Some(signature).filter(|signature| is_signature(signature))?.to_owned(),
        rules: rules.parse().ok()?,
        is_imported: true,
        ..Entry::bare("", strength)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry() -> Entry {
        let text = "strong\nprogram ssSync\nmemory\n[strlen]\nmain\n";
        let signature = crate::space::hex(&Sha256::digest(text));
        let mut entry = head(&format!("{signature} strong rules 1")).unwrap();
        entry.text = text.into();
        entry.program = "ssSync".into();
        entry.notes = vec!["fixed in v3".into()];
        entry
    }

    #[test]
    fn what_is_exported_is_read_back_the_same() {
        let text = export(&[entry()]);
        let read = parse(&text).unwrap();
        assert_eq!(export(&read), text);
        assert!(!entry().learn(&read[0]));
    }

    #[test]
    fn a_line_that_was_changed_on_the_way_is_noticed() {
        let text = export(&[entry()]).replace("| main", "| mean");
        assert_eq!(parse(&text).unwrap_err().line, 3);
        assert_eq!(parse("something").unwrap_err().line, 1);
    }

    #[test]
    fn notes_of_both_sites_stay() {
        let mut other = entry();
        other.notes = vec!["seen at Bonn".into()];
        let mut both = entry();
        assert!(both.learn(&other) && !both.learn(&other));
        assert_eq!(both.notes, ["fixed in v3", "seen at Bonn"]);
    }
}
