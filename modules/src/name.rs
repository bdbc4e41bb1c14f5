//! The names that a module, its versions and its files have, and how they stand together in the name of a file.
//!
//! ```text
//!   ssSync.cfg.v2   in   update
//!   ────┬───── ─┬        ──┬───
//!    FileName  Version   Channel      Release = Channel + Version: "update/v2"
//! ```
//!
//! A [`FileName`] never contains a dot followed by `v` and a digit, and a [`Version`] begins with `v` and a digit: so the tag of a
//! file can be told from its name in one way only. All are short ASCII, so none can hold a newline, a path or an escape sequence.

use atlas_cli::version;
use serde::{Deserialize, Serialize};
use std::{cmp::Ordering, fmt, str::FromStr};

/// A text that is no name of its kind.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
#[error("'{text}' is no {what}: {rule}")]
pub struct BadName {
    /// `module name`, `version`, `file name`, …
    pub what: &'static str,
    /// The beginning of the text, escaped.
    pub text: String,
    /// What one looks like.
    pub rule: &'static str,
}

fn bad(what: &'static str, text: &str, rule: &'static str) -> BadName {
    let text: String = text.chars().take(60).collect();
    BadName { what, text: text.escape_debug().to_string(), rule }
}

macro_rules! text_type {
    ($name:ident) => {
        impl $name {
            /// As text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.0)
            }
        }
        impl TryFrom<String> for $name {
            type Error = BadName;
            fn try_from(text: String) -> Result<Self, BadName> {
                text.parse()
            }
        }
        impl From<$name> for String {
            fn from(name: $name) -> String {
                name.0
            }
        }
    };
}

/// The name of a module: `ssSync`. A letter, then letters, digits, `_` and `-`; at most 64.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ModuleName(String);
text_type!(ModuleName);

impl FromStr for ModuleName {
    type Err = BadName;
    fn from_str(text: &str) -> Result<Self, BadName> {
        let rest = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-');
        let good = text.len() <= 64 && text.starts_with(|c: char| c.is_ascii_alphabetic()) && text.bytes().all(rest);
        let rule = "it is a letter, then at most 63 letters, digits, '_' and '-'";
        if good { Ok(ModuleName(text.to_owned())) } else { Err(bad("module name", text, rule)) }
    }
}

/// A version of a module: `v2`, `v1.4.0-rc1`. `v` and a digit, then letters, digits, `.`, `_`, `+`, `~` and `-`; at most 64.
///
/// Ordered as people count: `v2` before `v10`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Version(String);
text_type!(Version);

impl FromStr for Version {
    type Err = BadName;
    fn from_str(text: &str) -> Result<Self, BadName> {
        let allowed = |b: &u8| b.is_ascii_alphanumeric() || b"._+~-".contains(b);
        let bytes = text.as_bytes();
        let good = matches!(bytes, [b'v', digit, ..] if digit.is_ascii_digit())
            && text.len() <= 64
            && bytes.iter().all(allowed);
        let rule = "it is 'v' and a digit, then at most 62 letters, digits and '._+~-'";
        if good { Ok(Version(text.to_owned())) } else { Err(bad("version", text, rule)) }
    }
}

impl Ord for Version {
    fn cmp(&self, other: &Version) -> Ordering {
        natural(self.0.as_bytes(), other.0.as_bytes()).then_with(|| self.0.cmp(&other.0))
    }
}

impl PartialOrd for Version {
    fn partial_cmp(&self, other: &Version) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// Compares byte by byte, but runs of digits by their value.
fn natural(mut a: &[u8], mut b: &[u8]) -> Ordering {
    fn digits(text: &[u8]) -> (&[u8], &[u8]) {
        let (number, rest) = text.split_at(text.iter().take_while(|b| b.is_ascii_digit()).count());
        (&number[number.iter().take_while(|b| **b == b'0').count()..], rest)
    }
    loop {
        match (a, b) {
            ([x, ..], [y, ..]) if x.is_ascii_digit() && y.is_ascii_digit() => {
                let ((x, rest_a), (y, rest_b)) = (digits(a), digits(b));
                match x.len().cmp(&y.len()).then_with(|| x.cmp(y)) {
                    Ordering::Equal => (a, b) = (rest_a, rest_b),
                    other => return other,
                }
            }
            ([x, rest_a @ ..], [y, rest_b @ ..]) if x == y => (a, b) = (rest_a, rest_b),
            _ => return a.cmp(b),
        }
    }
}

/// The name of a module's file without its version: `ssSync.cfg`. It is also the name of the link.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct FileName(String);
text_type!(FileName);

impl FromStr for FileName {
    type Err = BadName;
    fn from_str(text: &str) -> Result<Self, BadName> {
        let allowed = |b: u8| b.is_ascii_alphanumeric() || b"._+-".contains(&b);
        let good = (1..=100).contains(&text.len())
            && !text.starts_with(['.', '-'])
            && text.bytes().all(allowed)
            && version::split(text).is_none()
            && Channel::ALL.iter().all(|channel| channel.dir_name() != text);
        let rule = "it is at most 100 letters, digits and '._+-', begins with no '.' or '-', holds no '.v' with a digit, and is not 'update' or 'beta'";
        if good { Ok(FileName(text.to_owned())) } else { Err(bad("file name", text, rule)) }
    }
}

/// Which of the two directories a version lies in [391].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Channel {
    /// True updates.
    Update,
    /// Versions on trial.
    Beta,
}

impl Channel {
    /// Both.
    pub const ALL: [Channel; 2] = [Channel::Update, Channel::Beta];

    /// The directory: `update` or `beta`.
    pub fn dir_name(self) -> &'static str {
        match self {
            Channel::Update => "update",
            Channel::Beta => "beta",
        }
    }
}

impl fmt::Display for Channel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.dir_name())
    }
}

impl FromStr for Channel {
    type Err = BadName;
    fn from_str(text: &str) -> Result<Self, BadName> {
        let found = Channel::ALL.into_iter().find(|channel| channel.dir_name() == text);
        found.ok_or_else(|| bad("directory of versions", text, "it is 'update' or 'beta'"))
    }
}

/// One version in one of the directories: `update/v2`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Release {
    /// The directory.
    pub channel: Channel,
    /// The version.
    pub version: Version,
}

impl Release {
    /// The name of a file of this version: `ssSync.cfg.v2`.
    pub fn tagged(&self, file: &FileName) -> String {
        format!("{file}.{}", self.version)
    }

    /// What the link of a file points to: `./update/ssSync.cfg.v2`.
    pub fn link_target(&self, file: &FileName) -> String {
        format!("./{}/{}", self.channel, self.tagged(file))
    }

    /// What a link points to, read back; `None` where it is no link of this kind.
    pub fn of_link_target(target: &str) -> Option<(Release, FileName)> {
        let (channel, tagged) = target.strip_prefix("./").unwrap_or(target).split_once('/')?;
        let (file, version) = split_tagged(tagged)?;
        Some((Release { channel: channel.parse().ok()?, version }, file))
    }
}

/// Takes the name of a version-tagged file apart.
pub fn split_tagged(tagged: &str) -> Option<(FileName, Version)> {
    let (file, version) = version::split(tagged)?;
    Some((file.parse().ok()?, version.parse().ok()?))
}

impl fmt::Display for Release {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&format!("{}/{}", self.channel, self.version))
    }
}

impl FromStr for Release {
    type Err = BadName;
    fn from_str(text: &str) -> Result<Self, BadName> {
        let (channel, version) = text
            .split_once('/')
            .ok_or_else(|| bad("installed version", text, "it is like 'update/v2' or 'beta/v3'"))?;
        Ok(Release { channel: channel.parse()?, version: version.parse()? })
    }
}

impl TryFrom<String> for Release {
    type Error = BadName;
    fn try_from(text: String) -> Result<Self, BadName> {
        text.parse()
    }
}

impl From<Release> for String {
    fn from(release: Release) -> String {
        release.to_string()
    }
}

/// What a person names a version with: `v2`, wherever it lies, or `beta/v3`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// The directory, where one was named.
    pub channel: Option<Channel>,
    /// The version.
    pub version: Version,
}

impl FromStr for Wanted {
    type Err = BadName;
    fn from_str(text: &str) -> Result<Self, BadName> {
        if text.contains('/') {
            text.parse().map(|Release { channel, version }| Wanted { channel: Some(channel), version })
        } else {
            text.parse().map(|version| Wanted { channel: None, version })
        }
    }
}

impl fmt::Display for Wanted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.channel {
            Some(channel) => write!(f, "{channel}/{}", self.version),
            None => write!(f, "{}", self.version),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_version_that_is_a_path_or_holds_a_newline_is_no_version() {
        for bad in [
            "",
            "2",
            "v",
            "vx",
            "v2/../../etc",
            "../v2",
            "v2\n",
            "v2 ",
            "v1\0",
            "v2\u{1b}[31m",
            &format!("v{}", "1".repeat(64)),
        ] {
            assert!(bad.parse::<Version>().is_err(), "{bad:?}");
        }
        assert!("v1.4.0-rc1~deb+x_2".parse::<Version>().is_ok());
    }

    #[test]
    fn versions_are_ordered_as_people_count() {
        let mut versions: Vec<Version> =
            ["v10", "v2", "v1.10", "v1.9", "v1", "v02"].iter().map(|text| text.parse().unwrap()).collect();
        versions.sort();
        let shown: Vec<&str> = versions.iter().map(Version::as_str).collect();
        assert_eq!(shown, ["v1", "v1.9", "v1.10", "v02", "v2", "v10"]);
    }

    #[test]
    fn names_of_files_cannot_hide_anything() {
        for bad in ["", ".hidden", "-rf", "a/b", "..", "update", "beta", "a\nb", "ssSync.v2", "a.v1.cfg", "ä"] {
            assert!(bad.parse::<FileName>().is_err(), "{bad:?}");
        }
        for good in ["ssSync", "ssSync.cfg", "a.vx", "x.tar.gz"] {
            assert!(good.parse::<FileName>().is_ok(), "{good}");
        }
    }

    #[test]
    fn a_message_about_a_bad_name_stays_on_one_line() {
        let error = "v1\nrm -rf".parse::<Version>().unwrap_err().to_string();
        assert!(!error.contains('\n') && error.contains("v1\\nrm"), "{error}");
    }

    proptest! {
        #[test]
        fn a_tagged_name_comes_apart_as_it_was_put_together(file in "[A-Za-z][A-Za-z.]{0,12}", version in "v[0-9][a-z0-9.v]{0,9}") {
            prop_assume!(file.parse::<FileName>().is_ok());
            let (file, version): (FileName, Version) = (file.parse().unwrap(), version.parse().unwrap());
            let release = Release { channel: Channel::Beta, version };
            prop_assert_eq!(Release::of_link_target(&release.link_target(&file)), Some((release, file)));
        }

        #[test]
        fn the_order_of_versions_is_total(a in "v[0-9][0-9a-z.]{0,6}", b in "v[0-9][0-9a-z.]{0,6}", c in "v[0-9][0-9a-z.]{0,6}") {
            let (a, b, c): (Version, Version, Version) = (a.parse().unwrap(), b.parse().unwrap(), c.parse().unwrap());
            prop_assert_eq!(a.cmp(&b), b.cmp(&a).reverse());
            prop_assert!(!(a <= b && b <= c) || a <= c);
        }
    }
}
