//! What mail servers are configured to listen on.

use crate::services::found::{Six, reached};
use atlas_model::verify::{At, Instance};
use std::collections::BTreeMap;

/// What one program is configured to do.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Server {
    pub(super) listeners: Vec<Listener>,
    /// Its certificate and key, and other files that lie elsewhere.
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
    /// Whether it answers this server alone.
    pub(super) is_local: bool,
    /// Where it listens, if not everywhere.
    pub(super) addresses: Vec<String>,
    /// Whether it makes its certificate up, anew every few hours.
    pub(super) renews_itself: bool,
    /// Whether it lets strangers wait before it greets, so as to find out robots.
    pub(super) is_wary: bool,
}

impl Listener {
    pub(super) fn instance(&self) -> Instance {
        let mut options =
            BTreeMap::from([("protocol".into(), self.protocol.into()), ("port".into(), self.port.to_string())]);
        for (key, is_so) in [("tls", self.is_tls), ("starttls", self.starts_tls)] {
            if is_so {
                options.insert(key.into(), "yes".into());
            }
        }
        options.extend(reached(self.addresses.iter().map(String::as_str), Six::AndFour).1);
        if self.renews_itself {
            options.extend(
                ["certificate-slow", "certificate-unacceptable"].map(|limit| (limit.to_owned(), "0".to_owned())),
            );
            // An old one makes a key for each conversation, which takes seconds where others work beside it.
            options.insert("tls-slow".into(), "15000".into());
        }
        if self.is_wary {
            options.insert("answer-slow".into(), "12000".into());
        }
        let at = if self.is_local { At::Here } else { At::Partners };
        Instance { name: format!("{}:{}", self.protocol, self.port), options, at }
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
