//! Which environment a server is: the number that its Bound disk carries.

use crate::shorten;
use serde::{Deserialize, Serialize};
use std::{fmt, str::FromStr};

/// The version of an Environment: OS, programs and the form of their configuration files [104].
///
/// A number from 1 to [`EnvVersion::MAX`]; larger is newer. Names the directory `Env<N>` of a Snapshot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "u32", into = "u32")]
pub struct EnvVersion(u32);

impl EnvVersion {
    /// The oldest Environment there can be.
    pub const OLDEST: EnvVersion = EnvVersion(1);
    /// The largest number accepted: far above any real one, and small enough to walk.
    pub const MAX: u32 = 9999;
    /// The largest `EnvID` or `SnapshotEnvVersion` file, in bytes: the number and a newline.
    pub const MAX_SIZE: usize = 5;

    /// The number itself.
    pub fn number(self) -> u32 {
        self.0
    }

    /// The next newer version, if there can be one.
    pub fn newer(self) -> Option<EnvVersion> {
        EnvVersion::try_from(self.0 + 1).ok()
    }

    /// The next older version, if there is one.
    pub fn older(self) -> Option<EnvVersion> {
        EnvVersion::try_from(self.0 - 1).ok()
    }

    /// All versions from the oldest to `newest`.
    pub fn up_to(newest: EnvVersion) -> impl Iterator<Item = EnvVersion> {
        (1..=newest.0).map(EnvVersion)
    }

    /// The name of a Snapshot's directory below its Role: `Env2`.
    pub fn dir_name(self) -> String {
        format!("Env{}", self.0)
    }

    /// The version that a directory name stands for; `None` for any other name.
    pub fn from_dir_name(name: &str) -> Option<EnvVersion> {
        let version = name.strip_prefix("Env")?.parse().ok()?;
        (EnvVersion::dir_name(version) == name).then_some(version)
    }

    /// Reads the whole content of an `EnvID` or `SnapshotEnvVersion` file: the number, and at most one newline.
    pub fn from_file(content: &[u8]) -> Result<EnvVersion, BadEnvVersion> {
        let shown = || BadEnvVersion(shorten(&String::from_utf8_lossy(&content[..content.len().min(40)]), 40));
        if content.len() > Self::MAX_SIZE {
            return Err(shown());
        }
        let text = std::str::from_utf8(content).map_err(|_| shown())?;
        text.strip_suffix('\n').unwrap_or(text).parse().map_err(|_| shown())
    }

    /// What [`EnvVersion::from_file`] reads back.
    pub fn to_file(self) -> String {
        format!("{}\n", self.0)
    }
}

/// What the Bound disk says of itself: `/opt/atlas/EnvID` is one [`EnvVersion`].
pub type EnvId = EnvVersion;

/// A text that is no EnvVersion.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("'{0}' is no EnvVersion; it is a whole number from 1 to {max}{ends}", max = EnvVersion::MAX, ends = self.ends())]
pub struct BadEnvVersion(pub String);

impl BadEnvVersion {
    /// What is not to be seen where such a file is looked at.
    fn ends(&self) -> &'static str {
        let has_return = self.0.contains("\\r");
        if has_return { ". Line 1 ends with a carriage return (\\r): write it with a newline alone" } else { "" }
    }
}

impl TryFrom<u32> for EnvVersion {
    type Error = BadEnvVersion;
    fn try_from(number: u32) -> Result<Self, BadEnvVersion> {
        if (1..=EnvVersion::MAX).contains(&number) {
            Ok(EnvVersion(number))
        } else {
            Err(BadEnvVersion(number.to_string()))
        }
    }
}

impl From<EnvVersion> for u32 {
    fn from(version: EnvVersion) -> u32 {
        version.0
    }
}

impl FromStr for EnvVersion {
    type Err = BadEnvVersion;
    fn from_str(text: &str) -> Result<Self, BadEnvVersion> {
        let bad = || BadEnvVersion(shorten(text, 40));
        let canonical = !text.starts_with('0') && text.bytes().all(|b| b.is_ascii_digit());
        let number: u32 = text.parse().map_err(|_| bad())?;
        if canonical { EnvVersion::try_from(number) } else { Err(bad()) }
    }
}

impl fmt::Display for EnvVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.dir_name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_holds_the_number_and_at_most_one_newline() {
        assert_eq!(EnvVersion::from_file(b"2\n").map(EnvVersion::number), Ok(2));
        assert_eq!(EnvVersion::from_file(b"2").map(EnvVersion::number), Ok(2));
        for bad in [
            &b""[..],
            b"\n",
            b"2\n\n",
            b" 2",
            b"02",
            b"+2",
            b"0",
            b"10000",
            b"Env2",
            b"2\0",
            b"\xff",
            b"99999999999999999999",
        ] {
            assert!(EnvVersion::from_file(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn only_the_canonical_directory_name_is_a_version() {
        assert_eq!(EnvVersion::from_dir_name("Env12").map(EnvVersion::number), Some(12));
        for bad in ["Env", "Env0", "Env01", "env1", "Env1 ", "Env1.old", "SnapshotEnvVersion"] {
            assert_eq!(EnvVersion::from_dir_name(bad), None, "{bad}");
        }
    }

    #[test]
    fn one_is_the_oldest_and_the_chain_goes_on_to_the_largest() {
        assert_eq!(EnvVersion::OLDEST.older(), None);
        assert_eq!(EnvVersion::OLDEST.newer().map(EnvVersion::number), Some(2));
        assert_eq!(EnvVersion::try_from(EnvVersion::MAX).ok().and_then(EnvVersion::newer), None);
    }
}
