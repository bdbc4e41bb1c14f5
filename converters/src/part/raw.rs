//! A part's file as it is written, and the checks that make rules of it.

use super::{FileRule, KeyRule, LineRule, Made, Pattern, ProgramRule, Rule, Syntax, TextRule, Transform};
use atlas_model::TreePath;
use regex_lite::RegexBuilder;
use serde::Deserialize;
use std::{path::PathBuf, time::Duration};

#[derive(Deserialize)]
pub(super) struct Head {
    pub(super) format: u32,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Part {
    #[serde(rename = "format")]
    _format: u32,
    pub(super) about: String,
    #[serde(rename = "move", default)]
    pub(super) moves: Vec<Move>,
    #[serde(default)]
    pub(super) file: Vec<File>,
    #[serde(default)]
    pub(super) text: Vec<Text>,
    #[serde(default)]
    pub(super) key: Vec<Key>,
    #[serde(default)]
    pub(super) line: Vec<Line>,
    #[serde(default)]
    pub(super) program: Vec<Program>,
    #[serde(default)]
    pub(super) transform: Vec<Named>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Move {
    older: TreePath,
    newer: TreePath,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct File {
    only_older: TreePath,
    content: Option<String>,
    link: Option<TreePath>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Text {
    files: Vec<String>,
    older: String,
    newer: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Key {
    files: Vec<String>,
    syntax: Syntax,
    section: Option<String>,
    older: Option<String>,
    newer: Option<String>,
    #[serde(default)]
    only_older: Vec<String>,
    #[serde(default)]
    only_newer: Vec<String>,
    #[serde(default)]
    values: Vec<Value>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Value {
    older: String,
    newer: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Line {
    files: Vec<String>,
    to_newer: Option<Replace>,
    to_older: Option<Replace>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Replace {
    matches: String,
    becomes: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Program {
    run: String,
    older: Vec<String>,
    newer: Vec<String>,
    #[serde(default = "ten")]
    deadline_seconds: u64,
}

fn ten() -> u64 {
    10
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Named {
    pub(super) name: Transform,
}

fn patterns(files: &[String]) -> Result<Vec<Pattern>, String> {
    if files.is_empty() {
        return Err("it names no files".into());
    }
    files.iter().map(|file| Pattern::parse(file)).collect()
}

impl Move {
    pub(super) fn check(self) -> Result<Rule, String> {
        if self.older.is_within(&self.newer) || self.newer.is_within(&self.older) {
            return Err(format!("{} and {} lie within each other", self.older, self.newer));
        }
        Ok(Rule::Move(self.older, self.newer))
    }
}

impl File {
    pub(super) fn check(self) -> Result<Rule, String> {
        let is = match (self.content, self.link) {
            (Some(content), None) => Made::File(content),
            (None, Some(link)) => Made::Link(link),
            _ => return Err("it needs a content, or a link's target, and not both".into()),
        };
        Ok(Rule::File(FileRule { path: self.only_older, is }))
    }
}

impl Text {
    pub(super) fn check(self) -> Result<Rule, String> {
        if self.older.is_empty() || self.newer.is_empty() || self.older == self.newer {
            return Err("it needs two texts that differ".into());
        }
        Ok(Rule::Text(TextRule { files: patterns(&self.files)?, older: self.older, newer: self.newer }))
    }
}

impl Key {
    pub(super) fn check(self) -> Result<Rule, String> {
        let pair = match (self.older, self.newer) {
            (None, None) => None,
            (Some(older), Some(newer)) => Some((Some(older), Some(newer))),
            _ => return Err("older and newer go together; a key of one version alone stands in only_…".into()),
        };
        let only_older = self.only_older.into_iter().map(|key| (Some(key), None));
        let only_newer = self.only_newer.into_iter().map(|key| (None, Some(key)));
        let names: Vec<_> = pair.into_iter().chain(only_older).chain(only_newer).collect();
        let is_blank = |key: &Option<String>| key.as_ref().is_some_and(|key| key.trim().is_empty());
        if names.is_empty() || names.iter().any(|(older, newer)| is_blank(older) || is_blank(newer)) {
            return Err("it names no key".into());
        }
        Ok(Rule::Key(KeyRule {
            files: patterns(&self.files)?,
            syntax: self.syntax,
            section: self.section,
            names,
            values: self.values.into_iter().map(|value| (value.older, value.newer)).collect(),
        }))
    }
}

impl Line {
    pub(super) fn check(self) -> Result<Rule, String> {
        let compiled = |side: Option<Replace>| {
            side.map(|one| {
                let whole = format!("^(?:{})$", one.matches);
                let regex = RegexBuilder::new(&whole).size_limit(1 << 20).build();
                regex.map(|regex| (regex, one.becomes)).map_err(|error| error.to_string())
            })
            .transpose()
        };
        let (to_newer, to_older) = (compiled(self.to_newer)?, compiled(self.to_older)?);
        if to_newer.is_none() && to_older.is_none() {
            return Err("it has neither to_newer nor to_older".into());
        }
        Ok(Rule::Line(LineRule { files: patterns(&self.files)?, to_newer, to_older }))
    }
}

impl Program {
    pub(super) fn check(self) -> Result<Rule, String> {
        let plain = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
        if self.run.is_empty() || self.run.starts_with('.') || !self.run.chars().all(plain) {
            return Err(format!("{:?} is no name of a program beside the part", self.run));
        }
        let deadline = Duration::from_secs(self.deadline_seconds);
        if deadline.is_zero() || deadline > super::Part::MAX_DEADLINE {
            return Err(format!("its deadline must be 1 to {} seconds", super::Part::MAX_DEADLINE.as_secs()));
        }
        let (older, newer) = (patterns(&self.older)?, patterns(&self.newer)?);
        Ok(Rule::Program(ProgramRule { dir: PathBuf::new(), run: self.run, older, newer, deadline }))
    }
}
