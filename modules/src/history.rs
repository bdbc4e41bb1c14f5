//! What was set, when, and by whom: one JSON object per line in `bin/.history`.
//!
//! ```text
//! {"n":7,"at":"2026-11-20T23:10:04Z","by":"root (alice)","module":"ssSync","from":"update/v1","to":"update/v2","why":"set"}
//! ```
//!
//! It lies in the directory of the links, so the rename that publishes the links publishes the line that tells of them: neither is
//! ever without the other. Lines that somebody damaged by hand are kept and passed over.

use crate::name::{ModuleName, Release};
use serde::{Deserialize, Serialize};

/// Its name in `bin`.
pub const HISTORY_NAME: &str = ".history";
/// The largest that is read, in bytes.
pub const MAX_SIZE: usize = 16 << 20;
/// How many lines are kept.
pub const MAX_LINES: usize = 10_000;

/// Why a version was set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Why {
    /// An operator wanted it.
    Set,
    /// An operator wanted the one before.
    Rollback,
    /// An operator wants to see whether it does.
    Trial,
    /// The trial before it was not survived.
    TrialFailed,
    /// It came with the system's package, and no operator had chosen.
    Delivered,
}

/// One line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Line {
    /// Counts up; names a trial.
    pub n: u64,
    /// The time, UTC.
    pub at: String,
    /// Who: the user that it ran as, and in brackets the one who had logged in.
    pub by: String,
    /// The module.
    pub module: ModuleName,
    /// What was set before, where that was one whole version.
    pub from: Option<Release>,
    /// What is set since.
    pub to: Option<Release>,
    /// Why.
    pub why: Why,
    /// How many starts a trial has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub starts: Option<u32>,
    /// Whether a rule was overridden.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub forced: bool,
}

/// The whole file.
#[derive(Clone, Debug, Default)]
pub struct History {
    text: Vec<u8>,
}

impl History {
    /// Takes the content of the file.
    pub fn from_file(text: Vec<u8>) -> History {
        History { text }
    }

    /// The lines that can be read, oldest first.
    pub fn lines(&self) -> impl DoubleEndedIterator<Item = Line> {
        self.text.split(|b| *b == b'\n').filter_map(|line| serde_json::from_slice(line).ok())
    }

    /// The last line about a module.
    pub fn last_of(&self, module: &ModuleName) -> Option<Line> {
        self.lines().rev().find(|line| &line.module == module)
    }

    /// The number for the next line.
    pub fn next_number(&self) -> u64 {
        self.lines().next_back().map_or(1, |line| line.n.saturating_add(1))
    }

    /// The content of the file with one more line, the oldest dropped where they are too many.
    pub fn with(&self, line: &Line) -> Result<Vec<u8>, serde_json::Error> {
        let mut text = self.text.clone();
        if !text.is_empty() && !text.ends_with(b"\n") {
            text.push(b'\n');
        }
        serde_json::to_writer(&mut text, line)?;
        text.push(b'\n');
        let excess = text.iter().filter(|b| **b == b'\n').count().saturating_sub(MAX_LINES);
        let cut = text.iter().enumerate().filter(|(_, b)| **b == b'\n').map(|(at, _)| at + 1).take(excess).last();
        Ok(text.split_off(cut.unwrap_or(0)))
    }

    /// What was set before `now`: the latest other version that can still be set and that did not fail a trial.
    ///
    /// Asking twice leads back and forth, as `cd -` does.
    pub fn before(
        &self,
        module: &ModuleName,
        now: Option<&Release>,
        usable: impl Fn(&Release) -> bool,
    ) -> Option<Release> {
        let mut failed = Vec::new();
        for line in self.lines().rev().filter(|line| &line.module == module) {
            if line.why == Why::TrialFailed {
                failed.extend(line.from.clone());
            }
            let candidates = [line.to, line.from].into_iter().flatten();
            let found = candidates.into_iter().find(|r| Some(r) != now && !failed.contains(r) && usable(r));
            if found.is_some() {
                return found;
            }
        }
        None
    }
}

/// Now, as history says it.
pub fn now() -> String {
    let now = jiff::Timestamp::now();
    jiff::Timestamp::from_second(now.as_second()).unwrap_or(now).to_string()
}

/// Who runs this: the user, and the one who logged in where that is another. By name where /etc/passwd has it, else by number: a
/// static program can't ask the name service, which would load libraries of another glibc.
pub fn who() -> String {
    let accounts = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
    let name = |uid: u32| name_in(&accounts, uid).map_or_else(|| uid.to_string(), str::to_owned);
    let me = name(nix::unistd::geteuid().as_raw());
    let login = std::fs::read_to_string("/proc/self/loginuid").ok().and_then(|text| text.trim().parse::<u32>().ok());
    match login.filter(|uid| *uid != u32::MAX).map(name) {
        Some(login) if login != me => format!("{me} ({login})"),
        _ => me,
    }
}

/// The first name that this user has in a passwd file.
fn name_in(accounts: &str, uid: u32) -> Option<&str> {
    accounts.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)?.parse() == Ok(uid)).then_some(name)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(from: Option<&str>, to: &str, why: Why) -> Line {
        let release = |text: &str| text.parse().unwrap();
        let (n, at, by, module) = (1, now(), "me".into(), "m".parse().unwrap());
        Line { n, at, by, module, from: from.map(release), to: Some(release(to)), why, starts: None, forced: false }
    }

    fn history(lines: &[Line]) -> History {
        lines.iter().fold(History::default(), |history, line| History::from_file(history.with(line).unwrap()))
    }

    #[test]
    fn a_user_has_the_first_name_that_stands_for_the_number() {
        let accounts = "root:x:0:0:root:/root:/bin/bash\n+::::::\nbaker:x:1000:1000:,,,:/home/baker:/bin/sh\ntoor:x:0:0::/:/bin/sh\n";
        assert_eq!([0, 1000, 7].map(|uid| name_in(accounts, uid)), [Some("root"), Some("baker"), None]);
    }

    #[test]
    fn before_leads_back_and_forth_and_over_what_is_gone_or_failed() {
        let module = "m".parse().unwrap();
        let v = |text: &str| text.parse::<Release>().unwrap();
        let sets = [line(None, "update/v1", Why::Set), line(Some("update/v1"), "update/v2", Why::Set)];
        let before = |h: &History, now: &str, gone: &str| {
            h.before(&module, Some(&v(now)), |release| release.to_string() != gone).map(|release| release.to_string())
        };
        let two = history(&sets);
        assert_eq!(before(&two, "update/v2", "").as_deref(), Some("update/v1"));
        assert_eq!(before(&two, "update/v1", "").as_deref(), Some("update/v2"));
        assert_eq!(before(&two, "update/v2", "update/v1"), None);
        let mut trial = sets.to_vec();
        trial.push(line(Some("update/v2"), "beta/v3", Why::Trial));
        trial.push(line(Some("beta/v3"), "update/v2", Why::TrialFailed));
        assert_eq!(before(&history(&trial), "update/v2", "").as_deref(), Some("update/v1"));
    }

    #[test]
    fn a_damaged_line_is_kept_and_passed_over() {
        let damaged = History::from_file(b"{\"n\":3,\nnonsense".to_vec());
        let text = damaged.with(&line(None, "update/v1", Why::Set)).unwrap();
        assert!(text.starts_with(b"{\"n\":3,\nnonsense\n"));
        assert_eq!(History::from_file(text).lines().count(), 1);
    }

    #[test]
    fn the_oldest_lines_go_where_they_are_too_many() {
        let long = History::from_file("x\n".repeat(MAX_LINES + 5).into_bytes());
        let text = long.with(&line(None, "update/v1", Why::Set)).unwrap();
        assert_eq!(text.iter().filter(|b| **b == b'\n').count(), MAX_LINES);
        assert_eq!(History::from_file(text).lines().count(), 1);
    }
}
