//! MasterConfig: who this Unbound set makes of a server, and who its partners are [104, 173, 333].
//!
//! ```toml
//! format = 1
//! cluster = "bakery"
//! role = "PRI"
//!
//! [[partner]]
//! role = "SEC1"
//! host = "192.168.1.11"
//! ```
//!
//! Invariants of a [`MasterConfig`]: PRI lists one or more secondaries, each once; a secondary lists PRI and nobody else.

use crate::{role::Role, shorten};
use serde::{Deserialize, Serialize};
use std::{fmt, str::FromStr};
use toml::Spanned;

/// The name that all servers and disks of one cluster share.
///
/// One to 63 lower-case letters, digits and hyphens, beginning with a letter or digit. The Bound disk carries it too
/// (`/opt/atlas/Cluster`), so that the disks of another cluster are told apart.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ClusterId(String);

impl ClusterId {
    /// Reads the whole content of a `Cluster` file: the name, and at most one newline.
    pub fn from_file(content: &[u8]) -> Result<ClusterId, BadMasterConfig> {
        let text = std::str::from_utf8(content).map_err(|_| BadMasterConfig::NotText)?;
        text.strip_suffix('\n').unwrap_or(text).parse()
    }

    /// What [`ClusterId::from_file`] reads back.
    pub fn to_file(&self) -> String {
        format!("{}\n", self.0)
    }
}

impl FromStr for ClusterId {
    type Err = BadMasterConfig;
    fn from_str(text: &str) -> Result<Self, BadMasterConfig> {
        let letter = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
        let good = (1..=63).contains(&text.len())
            && text.bytes().all(|b| letter(b) || b == b'-')
            && text.bytes().next().is_some_and(letter);
        if good { Ok(ClusterId(text.to_owned())) } else { Err(BadMasterConfig::Cluster(shorten(text, 120))) }
    }
}

impl fmt::Display for ClusterId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl TryFrom<String> for ClusterId {
    type Error = BadMasterConfig;
    fn try_from(text: String) -> Result<Self, BadMasterConfig> {
        text.parse()
    }
}

impl From<ClusterId> for String {
    fn from(id: ClusterId) -> String {
        id.0
    }
}

/// Another server of the cluster, as this one reaches it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Partner {
    /// Its Role.
    pub role: Role,
    /// Its host name or address on the business network.
    pub host: String,
}

/// A validated MasterConfig.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MasterConfig {
    cluster: ClusterId,
    role: Role,
    partners: Vec<Partner>,
}

/// The number alone, whatever else is there.
#[derive(Deserialize)]
struct Format {
    format: Option<Spanned<i64>>,
}

/// The file as it is written.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Raw {
    #[expect(dead_code, reason = "looked at before everything else; here, so that it is known")]
    format: i64,
    cluster: Spanned<String>,
    role: Spanned<String>,
    #[serde(default, rename = "partner")]
    partners: Vec<RawPartner>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawPartner {
    role: Spanned<String>,
    host: Spanned<String>,
}

/// Why a file is no MasterConfig.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum BadMasterConfig {
    /// The file has no byte, or only white space.
    #[error("it is empty")]
    Empty,
    /// The file is beyond the bound.
    #[error("it is larger than {} bytes", MasterConfig::MAX_SIZE)]
    TooLarge,
    /// Something else than a regular file has its name.
    #[error("it is {0}, and has to be a regular file")]
    NotAFile(&'static str),
    /// Bytes that are no text.
    #[error("it is not text (binary data)")]
    NotText,
    /// Text in another encoding.
    #[error(
        "the byte 0x{0:02x} is not UTF-8; if it is a letter such as 'ü', save the file as UTF-8, or write it without such letters"
    )]
    NotUtf8(u8),
    /// A key that has to be there.
    #[error("the key '{0}' is missing")]
    Missing(String),
    /// A fault with its place in the file.
    #[error("line {line}, column {column}: {fault}")]
    At {
        /// The line, from 1.
        line: usize,
        /// The character in the line, from 1.
        column: usize,
        /// What is wrong there.
        fault: Box<BadMasterConfig>,
    },
    /// Text that is no TOML, or TOML of another shape; a file that was cut off is most often this.
    #[error("it cannot be read as MasterConfig: {0}")]
    Syntax(String),
    /// A format of a later (or no) ATLAS.
    #[error("it is of format {0}; this program reads format 1")]
    UnknownFormat(i64),
    /// A Role that does not exist.
    #[error(transparent)]
    Role(#[from] crate::role::UnknownRole),
    /// A cluster name that breaks the rule.
    #[error("'{0}' is not a cluster name (expected 1 to 63 of a-z, 0-9 and '-', beginning with a letter or digit)")]
    Cluster(String),
    /// A host that is no name or address.
    #[error("partner {role}: '{host}' is not a host name or address")]
    Host {
        /// Whose.
        role: Role,
        /// What is given.
        host: String,
    },
    /// Partners that do not go with the Role.
    #[error("its partners do not fit its role {role}: {why}")]
    Partners {
        /// The server's own Role.
        role: Role,
        /// The rule that is broken.
        why: String,
    },
}

impl BadMasterConfig {
    /// What is wrong, without the place.
    pub fn fault(&self) -> &BadMasterConfig {
        match self {
            BadMasterConfig::At { fault, .. } => fault.fault(),
            other => other,
        }
    }

    /// The same, at the byte `at` of `content`.
    fn at(self, content: &[u8], at: usize) -> BadMasterConfig {
        let before = String::from_utf8_lossy(&content[..at.min(content.len())]).into_owned();
        let line = before.matches('\n').count() + 1;
        let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
        BadMasterConfig::At { line, column, fault: Box::new(self) }
    }
}

/// Whether the partner goes with the Role.
fn check_partner(role: Role, partner: &Partner) -> Result<(), BadMasterConfig> {
    let host = &partner.host;
    let good = (1..=253).contains(&host.len())
        && host.bytes().all(|b| b.is_ascii_alphanumeric() || b".:-".contains(&b))
        && !host.starts_with('-');
    if !good {
        return Err(BadMasterConfig::Host { role: partner.role, host: shorten(host, 120) });
    }
    if partner.role.is_primary() == role.is_primary() {
        let whom = if role.is_primary() { "PRI lists secondaries only" } else { "a secondary lists PRI only" };
        return Err(BadMasterConfig::Partners { role, why: format!("{} is listed, but {whom}", partner.role) });
    }
    Ok(())
}

fn not_utf8(content: &[u8], at: usize) -> BadMasterConfig {
    let is_binary = content.iter().any(|byte| byte.is_ascii_control() && !b"\t\r\n".contains(byte));
    match content.get(at) {
        Some(byte) if !is_binary => BadMasterConfig::NotUtf8(*byte).at(content, at),
        _ => BadMasterConfig::NotText.at(content, at),
    }
}

fn listed_twice(role: Role, partner: Role) -> BadMasterConfig {
    BadMasterConfig::Partners { role, why: format!("{partner} is listed twice") }
}

fn lists_none(role: Role) -> BadMasterConfig {
    BadMasterConfig::Partners { role, why: "it lists none".into() }
}

impl MasterConfig {
    /// The largest file, in bytes.
    pub const MAX_SIZE: usize = 64 << 10;

    /// Checks the parts against each other.
    pub fn new(cluster: ClusterId, role: Role, mut partners: Vec<Partner>) -> Result<MasterConfig, BadMasterConfig> {
        partners.sort_by_key(|partner| partner.role);
        partners.iter().try_for_each(|partner| check_partner(role, partner))?;
        if let Some(pair) = partners.windows(2).find(|pair| pair[0].role == pair[1].role) {
            return Err(listed_twice(role, pair[0].role));
        }
        if partners.is_empty() {
            return Err(lists_none(role));
        }
        Ok(MasterConfig { cluster, role, partners })
    }

    /// Reads the file.
    pub fn parse(content: &[u8]) -> Result<MasterConfig, BadMasterConfig> {
        if content.len() > Self::MAX_SIZE {
            return Err(BadMasterConfig::TooLarge);
        }
        let text = std::str::from_utf8(content).map_err(|error| not_utf8(content, error.valid_up_to()))?;
        if text.trim().is_empty() {
            return Err(BadMasterConfig::Empty);
        }
        if let Some(at) = text.find('\0') {
            return Err(BadMasterConfig::NotText.at(content, at));
        }
        let syntax = |error: toml::de::Error| {
            let at = error.span().map_or(0, |span| span.start);
            match error.message().strip_prefix("missing field ") {
                // That it is not there has no place in the file.
                Some(key) if at == 0 => return BadMasterConfig::Missing(key.trim_matches('`').to_owned()),
                Some(key) => return BadMasterConfig::Missing(key.trim_matches('`').to_owned()).at(content, at),
                None => {}
            }
            BadMasterConfig::Syntax(shorten(error.message(), 120)).at(content, at)
        };
        // The format first: a later one may have any shape, and its number is what the reader needs to be told.
        let format: Format = toml::from_str(text).map_err(syntax)?;
        if let Some(format) = format.format
            && *format.get_ref() != 1
        {
            return Err(BadMasterConfig::UnknownFormat(*format.get_ref()).at(content, format.span().start));
        }
        let raw: Raw = toml::from_str(text).map_err(syntax)?;
        let here = |place: &Spanned<String>| {
            let at = place.span().start;
            move |fault: BadMasterConfig| fault.at(content, at)
        };
        let cluster = raw.cluster.get_ref().parse::<ClusterId>().map_err(here(&raw.cluster))?;
        let role = raw.role.get_ref().parse::<Role>().map_err(|fault| here(&raw.role)(fault.into()))?;
        let mut partners: Vec<Partner> = vec![];
        for RawPartner { role: its, host } in &raw.partners {
            let partner_role = its.get_ref().parse::<Role>().map_err(|fault| here(its)(fault.into()))?;
            let partner = Partner { role: partner_role, host: host.get_ref().clone() };
            check_partner(role, &partner).map_err(|fault| {
                let place = if matches!(fault, BadMasterConfig::Host { .. }) { host } else { its };
                here(place)(fault)
            })?;
            if partners.iter().any(|other| other.role == partner.role) {
                return Err(here(its)(listed_twice(role, partner.role)));
            }
            partners.push(partner);
        }
        MasterConfig::new(cluster, role, partners).map_err(here(&raw.role))
    }

    /// The file that [`MasterConfig::parse`] reads back.
    pub fn to_file(&self) -> String {
        let mut text = format!(
            "# Who the server is that holds this disk, and who its partners are.\nformat = 1\ncluster = \"{}\"\nrole = \"{}\"\n",
            self.cluster, self.role
        );
        for partner in &self.partners {
            text.push_str(&format!("\n[[partner]]\nrole = \"{}\"\nhost = \"{}\"\n", partner.role, partner.host));
        }
        text
    }

    /// The cluster that this disk belongs to.
    pub fn cluster(&self) -> &ClusterId {
        &self.cluster
    }

    /// The Role of the server that holds this disk.
    pub fn role(&self) -> Role {
        self.role
    }

    /// The partners, by Role.
    pub fn partners(&self) -> &[Partner] {
        &self.partners
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const PRI: &str =
        "format = 1\ncluster = \"bakery\"\nrole = \"PRI\"\n[[partner]]\nrole = \"SEC1\"\nhost = \"10.0.0.2\"\n";

    #[test]
    fn pri_lists_its_secondaries_and_reads_back() {
        let config = MasterConfig::parse(PRI.as_bytes()).unwrap();
        assert_eq!((config.role(), config.partners().len()), (Role::Pri, 1));
        assert_eq!(MasterConfig::parse(config.to_file().as_bytes()), Ok(config));
    }

    #[test]
    fn what_is_cut_off_anywhere_is_never_another_valid_role() {
        let whole = MasterConfig::parse(PRI.as_bytes());
        for end in 0..PRI.len() - 1 {
            let cut = MasterConfig::parse(&PRI.as_bytes()[..end]);
            assert!(cut.is_err() || cut == whole, "cut at {end}");
        }
    }

    #[test]
    fn a_key_that_is_missing_is_named() {
        let why = |text: &str| MasterConfig::parse(text.as_bytes()).unwrap_err().to_string();
        for (line, key) in [("format = 1", "format"), ("cluster = \"bakery\"", "cluster"), ("role = \"PRI\"", "role")] {
            assert_eq!(why(&PRI.replace(line, "")), format!("the key '{key}' is missing"));
        }
        let of_partner = MasterConfig::parse(PRI.replace("host = \"10.0.0.2\"", "").as_bytes()).unwrap_err();
        assert_eq!(of_partner.fault(), &BadMasterConfig::Missing("host".into()));
    }

    #[test]
    fn a_letter_in_another_encoding_is_shown_with_its_line() {
        let latin1: Vec<u8> = [&b"# f\xfcr die B\xe4ckerei\n"[..], PRI.as_bytes()].concat();
        let wrong = MasterConfig::parse(&latin1).unwrap_err();
        assert_eq!(wrong.fault(), &BadMasterConfig::NotUtf8(0xfc));
        let text = wrong.fault().to_string();
        assert!(text.contains("UTF-8") && matches!(wrong, BadMasterConfig::At { line: 1, column: 4, .. }), "{wrong:?}");
        let binary = MasterConfig::parse(b"\0\xff").unwrap_err();
        assert_eq!(binary.fault(), &BadMasterConfig::NotText);
    }

    #[test]
    fn each_kind_of_bad_file_has_its_own_error() {
        let parse = |text: &str| MasterConfig::parse(text.as_bytes()).unwrap_err();
        assert_eq!(parse(""), BadMasterConfig::Empty);
        assert_eq!(parse(" \n"), BadMasterConfig::Empty);
        assert_eq!(parse("format = 2\nwhatever = true\n").fault(), &BadMasterConfig::UnknownFormat(2));
        assert!(matches!(parse(&PRI.replace("\"PRI\"", "\"KING\"")).fault(), BadMasterConfig::Role(_)));
        assert!(matches!(parse(&PRI.replace("SEC1", "PRI")).fault(), BadMasterConfig::Partners { .. }));
        assert!(matches!(parse(&PRI.replace("bakery", "Bakery!")).fault(), BadMasterConfig::Cluster(_)));
        assert!(matches!(parse(&PRI.replace("10.0.0.2", "-oProxyCommand=x")).fault(), BadMasterConfig::Host { .. }));
        assert_eq!(MasterConfig::parse(&vec![b' '; MasterConfig::MAX_SIZE + 1]), Err(BadMasterConfig::TooLarge));
    }

    #[test]
    fn every_fault_has_its_line_and_column() {
        let said = |content: &[u8]| MasterConfig::parse(content).unwrap_err().to_string();
        let with = |from: &str, to: &str| said(PRI.replace(from, to).as_bytes());
        assert_eq!(
            with("\"PRI\"", "\"KING\""),
            "line 3, column 8: 'KING' is not a role (expected PRI, or SEC1 to SEC99)"
        );
        assert!(with("format = 1", "format = 7").starts_with("line 1, column 10: it is of format 7"));
        assert!(with("bakery", "Bäckerei").starts_with("line 2, column 11: 'Bäckerei' is not a cluster name"));
        assert!(with("SEC1", "PRI").starts_with("line 5, column 8: its partners do not fit"));
        assert!(with("SEC1", "SEC0").starts_with("line 5, column 8: 'SEC0' is not a role"));
        assert!(with("10.0.0.2", "a b").starts_with("line 6, column 8: partner SEC1: 'a b' is not a host"));
        let twice = format!("{PRI}[[partner]]\nrole = \"SEC\"\nhost = \"b\"\n");
        assert!(
            said(twice.as_bytes())
                .starts_with("line 8, column 8: its partners do not fit its role PRI: SEC1 is listed twice")
        );
        assert!(
            said(&PRI.as_bytes()[..43])
                .contains("line 3, column 8: its partners do not fit its role PRI: it lists none")
        );
        assert!(said(b"format = 1\nrole = PRI\n").starts_with("line 2, column 8: it cannot be read as MasterConfig"));
        assert!(
            with("cluster", "clutser")
                .starts_with("line 2, column 1: it cannot be read as MasterConfig: unknown field")
        );
        assert_eq!(
            said(b"format = 1\nrole = \"\xff"),
            "line 2, column 9: the byte 0xff is not UTF-8; if it is a letter such as 'ü', save the file as UTF-8, or write it without such letters"
        );
        assert_eq!(said(b"format = 1\n\0"), "line 2, column 1: it is not text (binary data)");
        assert_eq!(said(b"\x7fELF\xff\xfe"), "line 1, column 5: it is not text (binary data)");
    }

    #[test]
    fn a_secondary_lists_pri_and_nobody_else() {
        let partner = |role| Partner { role, host: "10.0.0.1".into() };
        let cluster: ClusterId = "bakery".parse().unwrap();
        assert!(MasterConfig::new(cluster.clone(), Role::Sec(1), vec![partner(Role::Pri)]).is_ok());
        assert!(
            MasterConfig::new(cluster.clone(), Role::Sec(1), vec![partner(Role::Pri), partner(Role::Sec(2))]).is_err()
        );
        assert!(MasterConfig::new(cluster, Role::Sec(1), vec![]).is_err());
    }

    proptest! {
        #[test]
        fn no_input_makes_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            let _ = MasterConfig::parse(&bytes);
        }
    }
}
