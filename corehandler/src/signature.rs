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
        let strength = if cleaned.weaknesses.is_empty() { Strength::Strong } else { Strength::Weak };
        let text = text(traceback, &cleaned, strength);
        let id = hash(&text);
        let plain_id = traceback.has_inlines.then(|| {
            let plain = rules.clean(traceback, false);
            hash(&self::text(traceback, &plain, strength))
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
    let mut text =
        format!("{}\nprogram {}\n{}\n", strength.name(), version::without(&traceback.program), kind(traceback));
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
    let message = traceback.abort_message.as_deref()?;
    cleaned.frames.first().filter(|frame| *frame == "[assert]")?;
    let (_, rest) = message.split_once("Assertion `")?;
    rest.rsplit_once("' failed").map(|(expression, _)| expression)
}
