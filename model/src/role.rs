//! Who a server is: the primary, or the Nth secondary.

use serde::{Deserialize, Serialize};
use std::{fmt, str::FromStr};

/// The Role of a server, as its Unbound Data says it [104].
///
/// Written `PRI`, `SEC1`, `SEC2`, …; `SEC` is read as `SEC1`. The spelling is exact: a Role names a directory and decides who
/// answers on the network, so nothing near it is accepted in its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Role {
    /// The primary server: the one that serves.
    Pri,
    /// The Nth secondary, 1 to [`Role::MAX_SECONDARIES`].
    Sec(u8),
}

impl Role {
    /// The most secondaries that one PRI can have.
    pub const MAX_SECONDARIES: u8 = 99;

    /// Whether this is the primary.
    pub fn is_primary(self) -> bool {
        self == Role::Pri
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Role::Pri => f.pad("PRI"),
            Role::Sec(n) => f.pad(&format!("SEC{n}")),
        }
    }
}

/// A text that names no Role.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("'{0}' is not a role (expected PRI, or SEC1 to SEC{max})", max = Role::MAX_SECONDARIES)]
pub struct UnknownRole(pub String);

impl FromStr for Role {
    type Err = UnknownRole;

    fn from_str(text: &str) -> Result<Self, UnknownRole> {
        let unknown = || UnknownRole(crate::shorten(text, 40));
        match text {
            "PRI" => Ok(Role::Pri),
            "SEC" => Ok(Role::Sec(1)),
            _ => {
                let digits = text.strip_prefix("SEC").ok_or_else(unknown)?;
                let canonical = !digits.starts_with('0') && digits.bytes().all(|b| b.is_ascii_digit());
                match digits.parse::<u8>() {
                    Ok(n) if canonical && (1..=Role::MAX_SECONDARIES).contains(&n) => Ok(Role::Sec(n)),
                    _ => Err(unknown()),
                }
            }
        }
    }
}

impl TryFrom<String> for Role {
    type Error = UnknownRole;
    fn try_from(text: String) -> Result<Self, UnknownRole> {
        text.parse()
    }
}

impl From<Role> for String {
    fn from(role: Role) -> String {
        role.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_role_reads_back_as_it_is_written() {
        for role in std::iter::once(Role::Pri).chain((1..=Role::MAX_SECONDARIES).map(Role::Sec)) {
            assert_eq!(role.to_string().parse(), Ok(role));
        }
        assert_eq!("SEC".parse(), Ok(Role::Sec(1)));
    }

    #[test]
    fn what_only_resembles_a_role_is_refused() {
        for text in
            ["", "pri", "PRI ", "SEC0", "SEC01", "SEC100", "SEC256", "SEC+1", "SEC-1", "SECONDARY", "PRI1", "../PRI"]
        {
            assert!(text.parse::<Role>().is_err(), "{text:?}");
        }
        assert_eq!("\u{1b}[2J".parse::<Role>(), Err(UnknownRole("\\u{1b}[2J".into())), "shown on a console");
    }
}
