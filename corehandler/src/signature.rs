//! The signature: the name of a fault, the same wherever it happens.
//!
//! It is the SHA-256 of a short text that a person can read, and repeat with `sha256sum`:
//!
//! ```text
//! strong
//! program ssSync
//! memory
//! [strlen]
//! read_record
//! main
//! ```

use crate::{
    clean::{Cleaned, Rules},
    traceback::Traceback,
};
use atlas_cli::version;
use sha2::{Digest, Sha256};

/// How sure one can be that equal signatures are one fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Strength {
    /// It rests on names, and on frames that were found by call frame information.
    Strong,
    /// It rests on addresses, or on frames that were guessed. It never equals a strong one.
    Weak,
}

impl Strength {
    fn of(cleaned: &Cleaned) -> Strength {
        if cleaned.weaknesses.is_empty() { Strength::Strong } else { Strength::Weak }
    }

    /// The word that people see.
    pub fn name(self) -> &'static str {
        match self {
            Strength::Strong => "strong",
            Strength::Weak => "weak",
        }
    }
}

/// The signature of one crash.
#[derive(Clone, Debug)]
pub struct Signature {
    /// SHA-256 in hexadecimal.
    pub id: String,
    /// The signature that a server without debug information gives the same crash; `None` where this is that one already.
    pub plain_id: Option<String>,
    /// Whether all functions that the compiler copied into others are in it.
    pub is_complete: bool,
    /// Strong or weak.
    pub strength: Strength,
    /// The version of the rules.
    pub rules: u32,
    /// The text that was hashed.
    pub text: String,
    /// The cleaned traceback.
    pub cleaned: Cleaned,
}

impl Signature {
    /// Of a traceback.
    pub fn of(traceback: &Traceback, rules: &Rules) -> Signature {
        let cleaned = rules.clean(traceback, traceback.has_inlines);
        let strength = Strength::of(&cleaned);
        let text = text(traceback, &cleaned, strength);
        let id = hash(&text);
        let plain_id = traceback.has_inlines.then(|| {
            let plain = rules.clean(traceback, false);
            hash(&self::text(traceback, &plain, Strength::of(&plain)))
        });
        let plain_id = plain_id.filter(|plain| *plain != id);
        Signature { id, plain_id, is_complete: cleaned.is_complete, strength, rules: rules.version, text, cleaned }
    }

    /// Enough of it for people to tell signatures apart.
    pub fn short(&self) -> &str {
        short(&self.id)
    }
}

/// The first twelve digits.
pub fn short(id: &str) -> &str {
    id.get(..12).unwrap_or(id)
}

fn hash(text: &str) -> String {
    crate::space::hex(&Sha256::digest(text.as_bytes()))
}

fn text(traceback: &Traceback, cleaned: &Cleaned, strength: Strength) -> String {
    // Where nothing of the runtime is there to complain of it, it is a wrong access.
    let is_pure_virtual = cleaned.frames.first().is_some_and(|frame| frame == "[pure virtual]");
    let kind = if is_pure_virtual { "abort".to_owned() } else { kind(traceback) };
    let mut text = format!("{}\nprogram {}\n{kind}\n", strength.name(), version::without(&traceback.program));
    if let Some(assertion) = assertion(traceback, cleaned) {
        text += &format!("assertion {assertion}\n");
    }
    for frame in &cleaned.frames {
        text += frame;
        text.push('\n');
    }
    text
}

/// What kind of end it was. A compiler may turn a wrong access into an invalid instruction, so these are one kind.
pub fn kind(traceback: &Traceback) -> String {
    if traceback.is_stack_overflow {
        return "stack overflow".into();
    }
    match traceback.signal.number {
        4 | 5 | 7 | 11 => "memory".into(),
        6 => "abort".into(),
        8 => "arithmetic".into(),
        31 => "forbidden call".into(),
        other => format!("signal {other}"),
    }
}

/// A failed assertion's expression: two in one function are two faults. File and line change with every edit.
fn assertion<'t>(traceback: &'t Traceback, cleaned: &Cleaned) -> Option<&'t str> {
    cleaned.frames.first().filter(|frame| *frame == "[assert]")?;
    expression(traceback.abort_message.as_deref()?)
}

/// The quotes that translations put around it.
const QUOTES: [(char, char); 9] =
    [('`', '\''), ('»', '«'), ('«', '»'), ('„', '“'), ('“', '”'), ('‘', '’'), ('「', '」'), ('"', '"'), ('\'', '\'')];

/// What stands in quotes in `program: file:line: function: Assertion `…' failed.`, in whatever language the program speaks.
fn expression(message: &str) -> Option<&str> {
    if let Some((_, rest)) = message.split_once("Assertion `") {
        return rest.rsplit_once("' failed").map(|(expression, _)| expression);
    }
    // The function's name may have quotes of its own.
    let sentence = message.match_indices(": ").nth(2).map_or(message, |(at, _)| &message[at + 2..]);
    let quoted = |quotes: &[(char, char)]| {
        let found = quotes.iter().filter_map(|(open, close)| {
            let from = sentence.find(*open)? + open.len_utf8();
            let to = sentence.rfind(*close).filter(|to| *to >= from)?;
            Some((from, sentence[from..to].trim()))
        });
        found.min_by_key(|(from, _)| *from).map(|(_, expression)| expression)
    };
    let (sure, plain) = QUOTES.split_at(QUOTES.len() - 2);
    quoted(sure).or_else(|| quoted(plain))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_assertion_is_the_same_in_every_language() {
        for sentence in [
            "Assertion `a['x'] == \"«\"' failed.",
            "Zusicherung »a['x'] == \"«\"« nicht erfüllt.",
            "l'assertion «\u{a0}a['x'] == \"«\"\u{a0}» a échoué.",
            "La declaración `a['x'] == \"«\"' no se cumple.",
            "Předpoklad „a['x'] == \"«\"“ nesplněn.",
            "假设 ‘a['x'] == \"«\"’ 失败。",
            "アサーション「a['x'] == \"«\"」が失敗しました",
        ] {
            let message = format!("prog: src/file.cc:17: int shop::check(int): {sentence}");
            assert_eq!(expression(&message), Some("a['x'] == \"«\""), "{message}");
        }
        assert_eq!(expression("prog: file.c:17: check: asserzione \"a == 3\" non riuscita"), Some("a == 3"));
        assert_eq!(expression("double free or corruption (out)"), None);
    }
}
