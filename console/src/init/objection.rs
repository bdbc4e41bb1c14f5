//! What speaks against a plan, collected, so that the operator sees everything at once.

use atlas_cli::Hint;

/// One thing that is in the way, and what to try.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{what}")]
pub struct Objection {
    /// What is the matter.
    pub what: String,
    /// What to try, first thing first.
    pub hints: Vec<String>,
}

impl Objection {
    /// Something is in the way.
    pub fn new(what: impl Into<String>) -> Objection {
        Objection { what: what.into(), hints: vec![] }
    }

    /// Adds what to try.
    pub fn hint(mut self, what_to_try: impl Into<String>) -> Objection {
        self.hints.push(what_to_try.into());
        self
    }
}

/// All objections as one error: `Ok` where there are none.
pub fn none_of(mut objections: Vec<Objection>) -> anyhow::Result<()> {
    let hints: Vec<String> = objections.iter().flat_map(|objection| objection.hints.clone()).collect();
    let error = match objections.len() {
        0 => return Ok(()),
        1 => anyhow::Error::new(objections.remove(0)),
        count => {
            let list = objections.iter().map(|objection| format!("\n  - {objection}")).collect::<String>();
            anyhow::anyhow!("{count} things are in the way:{list}")
        }
    };
    let mut shown: Vec<String> = Vec::new();
    for hint in hints {
        if !shown.contains(&hint) {
            shown.push(hint);
        }
    }
    // The outermost hint is shown first; each needs a text of its own below it.
    let text = error.to_string();
    Err(shown.into_iter().rev().fold(error, |error, hint| {
        let hinted: anyhow::Result<()> = Err(error.context(text.clone())).hint(hint);
        hinted.err().unwrap_or_else(|| anyhow::anyhow!(text.clone()))
    }))
}

impl From<Objection> for Vec<Objection> {
    fn from(objection: Objection) -> Vec<Objection> {
        vec![objection]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_that_is_in_the_way_is_told_at_once() {
        assert!(none_of(vec![]).is_ok());
        let one = Objection::new("/dev/vdb is in use").hint("unmount it");
        assert_eq!(none_of(vec![one.clone()]).unwrap_err().to_string(), "/dev/vdb is in use");
        let both = none_of(vec![one, Objection::new("/dev/vdc is not there")]).unwrap_err().to_string();
        assert_eq!(both, "2 things are in the way:\n  - /dev/vdb is in use\n  - /dev/vdc is not there");
    }
}
