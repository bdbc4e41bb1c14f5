//! A part: what changed for one service between two EnvVersions, as a small TOML file.
//!
//! ```toml
//! format = 1
//! about = "OpenSSH 8.4 (Debian 11) and 9.2 (Debian 12)"
//!
//! [[move]]                       # a file or a whole directory has another place
//! older = "/etc/ntp.conf"
//! newer = "/etc/ntpsec/ntp.conf"
//!
//! [[key]]                        # a setting has another name, or only one version knows it
//! files = ["/etc/ssh/sshd_config", "/etc/ssh/sshd_config.d/*.conf"]
//! syntax = "words"
//! older = "ChallengeResponseAuthentication"
//! newer = "KbdInteractiveAuthentication"
//! ```
//!
//! `converters/README.md` teaches all rules. **Files are named by their place in the newer version**, whichever way a Snapshot goes: towards the
//! newer version the rules apply as [`Part::rules`] gives them, moves first; towards the older one backwards, moves last.

mod raw;

use atlas_model::TreePath;
use regex_lite::Regex;
use serde::Deserialize;
use std::{
    path::{Path, PathBuf},
    time::Duration,
};

/// A path in which `*` stands for any part of one component, and `**`, at its end, for everything below.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pattern(Vec<String>);

impl Pattern {
    /// Reads it: an absolute path.
    pub(crate) fn parse(text: &str) -> Result<Pattern, String> {
        TreePath::parse(&text.replace('*', "x")).map_err(|error| format!("{text:?} is no path: {error}"))?;
        Ok(Pattern(text.trim_start_matches('/').split('/').map(str::to_owned).collect()))
    }

    /// Whether the path is one of those meant.
    pub fn fits(&self, path: &TreePath) -> bool {
        let mut names = path.relative().iter();
        if let Some((_, above)) = self.0.split_last().filter(|(last, _)| *last == "**") {
            let mut is_each = above
                .iter()
                .map(|pattern| names.next().and_then(|name| name.to_str()).is_some_and(|name| fits(pattern, name)));
            return is_each.all(|fits| fits) && path.relative().iter().count() > above.len();
        }
        self.0.iter().all(|pattern| names.next().and_then(|name| name.to_str()).is_some_and(|name| fits(pattern, name)))
            && names.next().is_none()
    }
}

impl std::fmt::Display for Pattern {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.iter().try_for_each(|name| write!(f, "/{name}"))
    }
}

/// Whether `name` is `pattern`, in which each `*` stands for any text.
fn fits(pattern: &str, name: &str) -> bool {
    let Some((begin, rest)) = pattern.split_once('*') else { return pattern == name };
    let Some(name) = name.strip_prefix(begin) else { return false };
    let ends = std::iter::once(name.len()).chain(name.char_indices().map(|(at, _)| at));
    // The shortest text for the star first: quick for the patterns that there are.
    let mut ends: Vec<usize> = ends.collect();
    ends.sort_unstable();
    ends.into_iter().any(|at| fits(rest, &name[at..]))
}

/// How a configuration file writes a setting.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Syntax {
    /// `Key value`, `#` comments, letter case of no matter: ssh, ntp.
    Words,
    /// `key = value` below `[section]` headings, `;` and `#` comments: PHP, Samba, systemd.
    Ini,
    /// `key = value` or `key value`, `#` comments, letter case of no matter: PostgreSQL.
    Postgresql,
}

/// A setting with other names or values.
#[derive(Clone, Debug)]
pub struct KeyRule {
    /// Where it is set.
    pub files: Vec<Pattern>,
    /// How.
    pub syntax: Syntax,
    /// The heading that it must stand below; any where there is none.
    pub section: Option<String>,
    /// Names in the older and in the newer version; `None`: that version does not know it.
    pub names: Vec<(Option<String>, Option<String>)>,
    /// Values that are written differently: older, newer.
    pub values: Vec<(String, String)>,
}

/// A file or a link that only the older version has, and has always.
#[derive(Clone, Debug)]
pub struct FileRule {
    /// Where.
    pub path: TreePath,
    /// What it is.
    pub is: Made,
}

/// What is made where only one version has it.
#[derive(Clone, Debug)]
pub enum Made {
    /// A file with this content.
    File(String),
    /// A link to this place.
    Link(TreePath),
}

/// A text that stands for another.
#[derive(Clone, Debug)]
pub struct TextRule {
    /// Where.
    pub files: Vec<Pattern>,
    /// In the older version.
    pub older: String,
    /// In the newer one.
    pub newer: String,
}

/// Lines that are replaced where they match, each direction on its own.
#[derive(Clone, Debug)]
pub struct LineRule {
    /// Where.
    pub files: Vec<Pattern>,
    /// Towards the newer version: what a line must be, and what it becomes.
    pub to_newer: Option<(Regex, String)>,
    /// Towards the older version.
    pub to_older: Option<(Regex, String)>,
}

/// A program that changes copies of files.
#[derive(Clone, Debug)]
pub struct ProgramRule {
    /// Where the part's file lies.
    pub dir: PathBuf,
    /// The program's file there.
    pub run: String,
    /// The files that it gets in the older version, and may make when it converts to that.
    pub older: Vec<Pattern>,
    /// The same in the newer version.
    pub newer: Vec<Pattern>,
    /// How long it may run.
    pub deadline: Duration,
}

/// A change that is too much for lines, and is part of the program.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Transform {
    /// `/etc/network/interfaces` to `/etc/systemd/network/*.network`.
    IfupdownNetworkd,
    /// Accounts and groups of the system that Debian 12 gave other names.
    Accounts,
    /// `http2 on;` and `ssl on;` of nginx, which other versions write at `listen`.
    Nginx,
    /// The languages of Dovecot 2.3 and 2.4.
    Dovecot,
}

impl Transform {
    /// What it does, for people.
    pub fn about(self) -> &'static str {
        match self {
            Transform::IfupdownNetworkd => {
                "stanzas of /etc/network/interfaces ↔ /etc/systemd/network/50-ifupdown-*.network; what one side cannot say is refused"
            }
            Transform::Accounts => {
                "accounts: group ssh ↔ _ssh, account and group ntp ↔ ntpsec; where both names are there, both stay as they are"
            }
            Transform::Nginx => "nginx: 'http2 on;' of a server ↔ 'listen … http2'; 'ssl on;' becomes 'listen … ssl'",
            Transform::Dovecot => {
                "dovecot: the language of 2.3 ↔ that of 2.4; what has no certain counterpart stays, and is refused with file and line"
            }
        }
    }
}

/// One rule.
#[derive(Clone, Debug)]
pub enum Rule {
    /// A path with another place: older, newer.
    Move(TreePath, TreePath),
    /// See [`FileRule`].
    File(FileRule),
    /// See [`TextRule`].
    Text(TextRule),
    /// See [`KeyRule`].
    Key(KeyRule),
    /// See [`LineRule`].
    Line(LineRule),
    /// See [`ProgramRule`].
    Program(ProgramRule),
    /// See [`Transform`].
    Transform(Transform),
}

/// A part that was read and checked.
#[derive(Clone, Debug)]
pub struct Part {
    /// The name of its file without `.toml`; the service.
    pub name: String,
    /// What it is about, for people.
    pub about: String,
    /// In the order in which they apply towards the newer version.
    pub rules: Vec<Rule>,
}

/// Why a file is no part.
#[derive(Debug, thiserror::Error)]
pub enum BadPart {
    /// Beyond the bound.
    #[error("it is larger than {} bytes", Part::MAX_SIZE)]
    TooLarge,
    /// No TOML, or not of the form.
    #[error("{0}")]
    Toml(String),
    /// A later format.
    #[error("it is of format {0}; this program reads format 1")]
    Format(u32),
    /// A rule that cannot be.
    #[error("{rule} {number}: {why}")]
    Rule {
        /// `move`, `key` …
        rule: &'static str,
        /// Which of these, from 1.
        number: usize,
        /// What is wrong.
        why: String,
    },
}

impl Part {
    /// The largest part file, in bytes.
    pub const MAX_SIZE: usize = 64 << 10;
    /// The most rules of one kind.
    pub const MAX_RULES: usize = 500;
    /// The longest that a program may have.
    pub const MAX_DEADLINE: Duration = Duration::from_secs(30);

    /// Reads a part file.
    pub fn parse(name: &str, content: &[u8]) -> Result<Part, BadPart> {
        if content.len() > Self::MAX_SIZE {
            return Err(BadPart::TooLarge);
        }
        let shown = |text: String| BadPart::Toml(text.chars().take(400).collect());
        let text = std::str::from_utf8(content).map_err(|error| shown(error.to_string()))?;
        let head: raw::Head = toml::from_str(text).map_err(|error| shown(error.to_string()))?;
        if head.format != 1 {
            return Err(BadPart::Format(head.format));
        }
        let raw: raw::Part = toml::from_str(text).map_err(|error| shown(error.to_string()))?;
        let mut rules = Vec::new();
        collect("move", raw.moves, raw::Move::check, &mut rules)?;
        collect("file", raw.file, raw::File::check, &mut rules)?;
        collect("text", raw.text, raw::Text::check, &mut rules)?;
        collect("key", raw.key, raw::Key::check, &mut rules)?;
        collect("line", raw.line, raw::Line::check, &mut rules)?;
        collect("program", raw.program, raw::Program::check, &mut rules)?;
        collect("transform", raw.transform, |one| Ok(Rule::Transform(one.name)), &mut rules)?;
        Ok(Part { name: name.to_owned(), about: raw.about, rules })
    }

    /// Says where its file lies, and so its programs.
    pub fn lying_in(mut self, place: &Path) -> Part {
        for rule in &mut self.rules {
            if let Rule::Program(ProgramRule { dir, .. }) = rule {
                place.clone_into(dir);
            }
        }
        self
    }
}

fn collect<T>(
    rule: &'static str,
    raw: Vec<T>,
    check: impl Fn(T) -> Result<Rule, String>,
    rules: &mut Vec<Rule>,
) -> Result<(), BadPart> {
    for (number, one) in raw.into_iter().enumerate() {
        let wrong = |why| BadPart::Rule { rule, number: number + 1, why };
        if number >= Part::MAX_RULES {
            return Err(wrong(format!("more than {} of them", Part::MAX_RULES)));
        }
        rules.push(check(one).map_err(wrong)?);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_stands_for_part_of_one_component() {
        let pattern = Pattern::parse("/etc/php/*/fpm/*.conf").unwrap();
        let fits = |path: &str| pattern.fits(&TreePath::parse(path).unwrap());
        assert!(fits("/etc/php/8.2/fpm/a.conf") && fits("/etc/php/x/fpm/.conf"));
        assert!(!fits("/etc/php/8.2/fpm/a.ini") && !fits("/etc/php/8.2/fpm/b/a.conf") && !fits("/etc/php/fpm/a.conf"));
        assert!(Pattern::parse("etc/x").is_err() && Pattern::parse("/etc/../x").is_err());
    }

    #[test]
    fn a_part_that_cannot_be_is_refused_with_the_rule_that_is_wrong() {
        let wrong = |text: &str| {
            Part::parse("x", format!("format = 1\nabout = \"x\"\n{text}").as_bytes()).unwrap_err().to_string()
        };
        assert!(wrong("[[move]]\nolder = \"/a\"\nnewer = \"/a/b\"").starts_with("move 1: "));
        assert!(wrong("[[move]]\nolder = \"/a/../b\"\nnewer = \"/c\"").contains("older"));
        assert!(wrong("[[file]]\nonly_older = \"/a\"").starts_with("file 1: it needs"));
        assert!(wrong("[[file]]\nonly_older = \"/a\"\ncontent = \"x\"\nlink = \"/b\"").contains("not both"));
        assert!(wrong("[[key]]\nfiles = [\"/a\"]\nsyntax = \"ini\"").contains("names no key"));
        assert!(wrong("[[text]]\nfiles = []\nolder = \"a\"\nnewer = \"b\"").contains("names no files"));
        assert!(wrong("[[line]]\nfiles = [\"/a\"]\nto_newer = { matches = \"(\", becomes = \"\" }").contains("line 1"));
        for run in ["../sh", "", ".x", "a b"] {
            let text = format!("[[program]]\nrun = \"{run}\"\nolder = [\"/a\"]\nnewer = [\"/a\"]");
            assert!(wrong(&text).contains("no name"), "{run}");
        }
        let hour = "[[program]]\nrun = \"x\"\nolder = [\"/a\"]\nnewer = [\"/a\"]\ndeadline_seconds = 3600";
        assert!(wrong(hour).contains("deadline"));
        assert!(wrong("[[colour]]\nx = 1").contains("colour"));
        assert!(matches!(Part::parse("x", b"format = 2\n"), Err(BadPart::Format(2))));
    }
}
