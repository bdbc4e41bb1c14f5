//! What two partners remember of each other's disks, so that a copy or an old state of one of them is found at the first contact.
//!
//! ```text
//! SID_DATA/bonds/SEC1        on PRI's disks, of SEC1's;  bonds/PRI on SEC1's disks, of PRI's
//!   format = 1
//!   last = "57-3f9a…"        the cycle that both completed: how many there were, and a random word that only these two know
//!   next = "58-a20c…"        on PRI alone, while a cycle is being completed: the partner may know it already
//! ```
//!
//! A cycle ends so: PRI writes `next`; tells it; the partner makes it its `last` and says so; PRI makes it its `last`. Cut off anywhere, what the
//! partner has is PRI's `last` or its `next`. Anything else means that one of the two sets is not the one that was there before: an old
//! mirror half, a restored backup, a copy that lived on elsewhere.

use crate::layout::{SidData, SidError};
use atlas_host::{durable, tree::Dir};
use atlas_model::Role;
use serde::{Deserialize, Serialize};
use std::{ffi::OsStr, fmt, io::Read, str::FromStr};

const BONDS: &str = "bonds";
const MAX_SIZE: usize = 1024;

/// One completed cycle: its number, and a word that nobody can guess.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Knot {
    /// How many cycles these two have completed.
    pub count: u64,
    word: String,
}

impl Knot {
    /// The next after `last`.
    pub fn after(last: Option<&Knot>) -> std::io::Result<Knot> {
        let mut random = [0; 16];
        std::fs::File::open("/dev/urandom")?.read_exact(&mut random)?;
        let word = random.iter().map(|byte| format!("{byte:02x}")).collect();
        Ok(Knot { count: last.map_or(0, |last| last.count).saturating_add(1), word })
    }
}

impl fmt::Display for Knot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.count, self.word)
    }
}

impl FromStr for Knot {
    type Err = String;

    fn from_str(text: &str) -> Result<Knot, String> {
        let parts = text.split_once('-').and_then(|(count, word)| Some((count.parse().ok()?, word)));
        match parts {
            Some((count, word)) if word.len() == 32 && word.bytes().all(|b| b.is_ascii_hexdigit()) => {
                Ok(Knot { count, word: word.to_owned() })
            }
            _ => Err("a cycle is written as its number, a '-' and 32 hexadecimal digits".into()),
        }
    }
}

impl TryFrom<String> for Knot {
    type Error = String;
    fn try_from(text: String) -> Result<Knot, String> {
        text.parse()
    }
}

impl From<Knot> for String {
    fn from(knot: Knot) -> String {
        knot.to_string()
    }
}

/// What one side remembers.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Bond {
    /// The last cycle that is known to be completed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last: Option<Knot>,
    /// A cycle that the partner may have completed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next: Option<Knot>,
}

/// How the memories of two partners fit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fit {
    /// They remember the same.
    Known,
    /// They never met; or one of them has new disks that know nobody yet, which is said of SECn only.
    New,
    /// PRI's disks are not the ones that the secondary knows.
    PriDiffers(String),
    /// The secondary's disks are not the ones that PRI knows.
    SecDiffers(String),
}

/// Compares what PRI remembers of a secondary with what that remembers of PRI.
pub fn fit(pri: &Bond, sec: &Bond) -> Fit {
    match (&pri.last, &pri.next, &sec.last) {
        (_, _, None) => Fit::New,
        (last, next, Some(known)) if last.as_ref() == Some(known) || next.as_ref() == Some(known) => Fit::Known,
        (None, None, Some(known)) => Fit::PriDiffers(format!(
            "PRI's disks remember no cycle with this secondary, which remembers cycle {}: they are new, or an old copy",
            known.count
        )),
        (last, next, Some(known)) => {
            let newest = next.as_ref().or(last.as_ref()).map_or(0, |knot| knot.count);
            match known.count.cmp(&newest) {
                std::cmp::Ordering::Greater => Fit::PriDiffers(format!(
                    "PRI's disks remember cycle {newest} with this secondary, which remembers cycle {}: they are an old copy",
                    known.count
                )),
                std::cmp::Ordering::Less => Fit::SecDiffers(format!(
                    "this secondary's disks remember cycle {} with PRI, which remembers cycle {newest}: they are an old copy",
                    known.count
                )),
                std::cmp::Ordering::Equal => Fit::PriDiffers(format!(
                    "both remember a cycle {newest}, but not the same one: a copy of one of the disk sets is in use elsewhere"
                )),
            }
        }
    }
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Raw {
    format: u32,
    last: Option<Knot>,
    next: Option<Knot>,
}

impl Bond {
    /// What is remembered of `partner`; nothing where there was never a cycle.
    pub fn read(sid: &SidData, partner: Role) -> Result<Bond, SidError> {
        let name = format!("{BONDS}/{partner}");
        let Some(content) = sid.dir().read_if_there(&name, MAX_SIZE)? else { return Ok(Bond::default()) };
        let bad = |why: String| SidError::Bond { path: sid.dir().show(&name), why };
        let text = String::from_utf8(content).map_err(|error| bad(error.to_string()))?;
        let raw: Raw = toml::from_str(&text).map_err(|error| bad(error.message().to_owned()))?;
        if raw.format != 1 {
            return Err(bad(format!("it is of format {}; this program reads format 1", raw.format)));
        }
        Ok(Bond { last: raw.last, next: raw.next })
    }

    /// Remembers it, durably.
    pub fn write(&self, sid: &SidData, partner: Role) -> Result<(), SidError> {
        let dir = bonds(sid)?;
        let mut text = String::from("format = 1\n");
        for (key, knot) in [("last", &self.last), ("next", &self.next)] {
            if let Some(knot) = knot {
                text.push_str(&format!("{key} = \"{knot}\"\n"));
            }
        }
        Ok(durable::write(&dir, OsStr::new(&partner.to_string()), text.as_bytes(), 0o600)?)
    }

    /// Forgets the partner; says whether there was anything to forget.
    pub fn forget(sid: &SidData, partner: Role) -> Result<bool, SidError> {
        let dir = bonds(sid)?;
        let removed = dir.remove(OsStr::new(&partner.to_string()))?;
        dir.sync()?;
        Ok(removed)
    }
}

fn bonds(sid: &SidData) -> Result<Dir, SidError> {
    sid.dir().make_dir(BONDS, 0o700)?;
    Ok(sid.dir().dir(BONDS)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn knot(count: u64, letter: char) -> Knot {
        Knot { count, word: letter.to_string().repeat(32) }
    }

    fn bond(last: Option<Knot>, next: Option<Knot>) -> Bond {
        Bond { last, next }
    }

    #[test]
    fn the_end_of_a_cycle_may_be_cut_off_anywhere() {
        let (old, new) = (knot(1, 'a'), knot(2, 'b'));
        let told = bond(Some(old.clone()), Some(new.clone()));
        assert_eq!(fit(&told, &bond(Some(old), None)), Fit::Known, "the partner never heard of it");
        assert_eq!(fit(&told, &bond(Some(new.clone()), None)), Fit::Known, "its answer was lost");
        assert_eq!(fit(&bond(Some(new.clone()), None), &bond(Some(new), None)), Fit::Known);
        assert_eq!(fit(&Bond::default(), &Bond::default()), Fit::New);
    }

    #[test]
    fn an_old_copy_is_found_on_the_side_that_has_it() {
        let (old, new) = (bond(Some(knot(3, 'a')), None), bond(Some(knot(9, 'b')), None));
        assert!(matches!(fit(&old, &new), Fit::PriDiffers(why) if why.contains("cycle 3") && why.contains("cycle 9")));
        assert!(matches!(fit(&new, &old), Fit::SecDiffers(_)));
        assert!(
            matches!(fit(&Bond::default(), &new), Fit::PriDiffers(_)),
            "new disks never take over PRI's place unasked"
        );
        assert_eq!(fit(&new, &Bond::default()), Fit::New, "a secondary may get new disks");
    }

    #[test]
    fn a_copy_that_lived_on_elsewhere_is_found_by_its_word() {
        let (one, other) = (bond(Some(knot(9, 'a')), None), bond(Some(knot(9, 'b')), None));
        assert!(matches!(fit(&one, &other), Fit::PriDiffers(why) if why.contains("elsewhere")));
    }

    #[test]
    fn it_is_remembered_and_what_is_no_memory_is_refused() {
        let tmp = tempfile::tempdir().unwrap();
        std::fs::create_dir(tmp.path().join("SID_DATA")).unwrap();
        let sid = SidData::open(&Dir::open_root(tmp.path()).unwrap()).unwrap();
        let partner = Role::Sec(1);
        assert_eq!(Bond::read(&sid, partner).unwrap(), Bond::default());
        let known = bond(Some(Knot::after(None).unwrap()), Some(knot(2, 'c')));
        known.write(&sid, partner).unwrap();
        assert_eq!(Bond::read(&sid, partner).unwrap(), known);
        for bad in ["", "format = 2\n", "format = 1\nlast = \"x\"\n", "format = 1\nlast = \"-1-00\"\n", "\u{1}"] {
            std::fs::write(tmp.path().join("SID_DATA/bonds/SEC1"), bad).unwrap();
            assert!(matches!(Bond::read(&sid, partner), Err(SidError::Bond { .. })), "{bad:?}");
        }
        assert!(Bond::forget(&sid, partner).unwrap() && !Bond::forget(&sid, partner).unwrap());
    }
}
