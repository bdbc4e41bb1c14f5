//! What mail servers are configured to listen on.

use crate::services::found::{Six, reached};
use atlas_model::verify::{At, Instance};
use std::collections::BTreeMap;

/// The option of one that talks to none who show no certificate of their own.
pub(super) const CLIENT_CERTIFICATE: &str = "client-certificate";
/// The option of one that is configured to turn some away when they come.
pub(super) const TURNS_AWAY: &str = "turns-away";
/// The option with an address that a mail is begun to, and not sent.
pub(super) const RECIPIENT: &str = "recipient";
/// How long a greeting usually may take, in milliseconds.
pub(super) const ANSWER_SLOW: u32 = 2000;
/// How long TLS, with the greeting before it, usually may take, in milliseconds, and where a key is made for each conversation.
pub(super) const TLS_SLOW: u32 = 3000;
const OWN_KEY_SLOW: u32 = 15_000;

/// What one program is configured to do.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Server {
    pub(super) listeners: Vec<Listener>,
    /// Its certificate and key.
    pub(super) files: Vec<String>,
}

/// Only paths that say where they are.
pub(super) fn plain<'t>(files: impl IntoIterator<Item = Option<&'t str>>) -> Vec<String> {
    let files = files.into_iter().flatten().filter(|file| file.starts_with('/') && !file.contains('$'));
    files.map(str::to_owned).collect()
}

/// One port.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Listener {
    pub(super) protocol: &'static str,
    pub(super) port: u16,
    /// TLS from the first byte.
    pub(super) is_tls: bool,
    /// TLS on demand.
    pub(super) starts_tls: bool,
    /// Whether it offers that to some addresses alone.
    pub(super) offers_to_some: bool,
    /// Whether it talks to none who show no certificate of their own.
    pub(super) wants_certificate: bool,
    /// Whether it is configured to turn some away before they said who they are.
    pub(super) turns_away: bool,
    /// Whether it answers this server alone.
    pub(super) is_local: bool,
    /// Where it listens, if not everywhere.
    pub(super) addresses: Vec<String>,
    /// Files of which one has its certificate, where that is another than the server's.
    pub(super) certificates: Vec<String>,
    /// Whom its clients ask for, where it shows another certificate to others.
    pub(super) name: Option<String>,
    /// Whether it makes its certificate up, anew every few hours.
    pub(super) renews_itself: bool,
    /// How long it lets strangers wait before it greets, so as to find out robots, in seconds.
    pub(super) waits: u32,
    /// For whom it takes mail from anybody, where that is known.
    pub(super) recipient: Option<String>,
}

impl Listener {
    pub(super) fn instance(&self) -> Instance {
        let mut options =
            BTreeMap::from([("protocol".into(), self.protocol.into()), ("port".into(), self.port.to_string())]);
        let starttls = if self.offers_to_some { "perhaps" } else { "yes" };
        for (key, is_so, how) in [
            ("tls", self.is_tls, "yes"),
            ("starttls", self.starts_tls, starttls),
            (CLIENT_CERTIFICATE, self.wants_certificate, "yes"),
            (TURNS_AWAY, self.turns_away, "yes"),
        ] {
            if is_so {
                options.insert(key.into(), how.into());
            }
        }
        options.extend(self.recipient.iter().map(|to| (RECIPIENT.to_owned(), to.clone())));
        let (at, where_to) = reached(self.addresses.iter().map(String::as_str), Six::Alone);
        options.extend(where_to);
        if self.waits > 0 {
            // TLS begins behind the greeting.
            for (limit, usual) in [("answer-slow", ANSWER_SLOW), ("tls-slow", TLS_SLOW)] {
                options.insert(limit.into(), (self.waits * 1000 + usual).to_string());
            }
        }
        if self.renews_itself {
            options.extend(
                ["certificate-slow", "certificate-unacceptable"].map(|limit| (limit.to_owned(), "0".to_owned())),
            );
            // An old one makes a key for each conversation, which takes seconds where others work beside it.
            options.insert("tls-slow".into(), (self.waits * 1000 + OWN_KEY_SLOW).to_string());
        }
        let at = if self.is_local { At::Here } else { at };
        let name = match &self.name {
            Some(name) => format!("{}:{}:{name}", self.protocol, self.port),
            None => format!("{}:{}", self.protocol, self.port),
        };
        Instance { name, options, at }
    }
}

/// A number, or a name of `/etc/services`.
pub(super) fn port(text: &str) -> Option<u16> {
    match text {
        "smtp" => Some(25),
        "submission" => Some(587),
        "smtps" | "submissions" | "ssmtp" => Some(465),
        port => port.parse().ok().filter(|port| *port > 0),
    }
}

/// A time, in seconds where no unit follows: `5`, `3s`, `1m`.
pub(super) fn seconds(text: &str) -> Option<u32> {
    let (number, unit) = text.split_at(text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len()));
    let unit = match unit {
        "" | "s" => 1,
        "m" => 60,
        "h" => 3600,
        _ => return None,
    };
    number.parse::<u32>().ok()?.checked_mul(unit)
}
