//! What is known of a name server.

use crate::services::found::Finding;
use std::collections::BTreeSet;

/// One server.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Server {
    pub(super) port: u16,
    /// The zones that it knows by itself.
    pub(super) zones: Vec<Zone>,
    /// Whether it answers this server alone.
    pub(super) is_local: bool,
    /// Where it listens, if not everywhere.
    pub(super) addresses: Vec<String>,
    /// Whether it answers some addresses alone.
    pub(super) is_limited: bool,
    /// Which, where that is known; with a `!` before who is not.
    pub(super) clients: Vec<String>,
    /// Whether it answers the networks that it is in itself alone.
    pub(super) is_of_net: bool,
    /// Whether it leaves out answers to who asks often.
    pub(super) is_rationed: bool,
    /// Whether it answers over TCP alone.
    pub(super) is_of_tcp: bool,
}

/// A zone of its own.
#[derive(Debug, PartialEq)]
pub(super) struct Zone {
    pub(super) name: String,
    /// Whether some addresses alone may ask for it.
    pub(super) is_limited: bool,
    /// Which, where that is known.
    pub(super) clients: Vec<String>,
    /// Whether it is shown to some alone, and others meet another view.
    pub(super) is_of_view: bool,
    /// Whom a view before its own is for: they are shown that one, in which it is not.
    pub(super) shadowed: Vec<String>,
    /// Its data, where that lies on the Unbound disks.
    pub(super) data: Option<String>,
}

/// Says at which of these ports it answers besides, or that it answers nobody who asks in plain: neither is exercised.
pub(super) fn say_rest(finding: &mut Finding, name: &str, server: Option<&Server>, ports: impl Iterator<Item = u16>) {
    let Some(server) = server else {
        return finding.note(format!("{name} answers over TLS or HTTPS or a balancer alone, and is not exercised"));
    };
    for port in ports.filter(|port| *port != server.port).collect::<BTreeSet<u16>>() {
        finding.note(format!("{name} answers at port {port} too, which is not exercised"));
    }
}
