//! What may be set of each service, and which values mean something: any other would be taken for one of those.

use crate::{pattern::fits, service};

/// What may be set of a service: the names of its measures (each has limits, `NAME-slow` and `NAME-unacceptable`), and its options; `*` stands
/// for what is found on each server.
pub(super) struct Settable {
    pub(super) service: &'static str,
    measures: &'static [&'static str],
    options: &'static [(&'static str, Value)],
}

/// What an option may say.
#[derive(Clone, Copy)]
enum Value {
    /// One of these words.
    OneOf(&'static [&'static str]),
    /// Nothing that is measured is below 0.
    Number,
    Port,
    /// A file, by its absolute path.
    File,
    /// Pages of a site, between blanks.
    Pages,
    /// Whatever it is, its service knows.
    Text,
}

use Value::{File, Number, OneOf, Pages, Port, Text};

const YES: Value = OneOf(&["yes", "no"]);
const ACCESS: Value = OneOf(&["rw", "ro"]);

const fn of(
    service: &'static str,
    measures: &'static [&'static str],
    options: &'static [(&'static str, Value)],
) -> Settable {
    Settable { service, measures, options }
}

/// Of all services, by name. Each answer of a check is held against it where assertions are on.
pub(super) const SETTABLE: [Settable; 26] = [
    of("as-pri", &[], &[]),
    of("atlas", &[], &[]),
    of("boot", &[], &[]),
    of("connectivity", &["answer", "lost", "fragmented", "rate"], &[("fragments", YES)]),
    of("disk", &["space", "inodes", "space*", "inodes*", "*/worn", "*/temperature", "*/grown-defects"], &[]),
    of(
        "dns",
        &["answer", "name-servers", "signatures"],
        &[
            ("port", Port),
            ("name", Text),
            ("expect", Text),
            ("zone", Text),
            ("clients", Text),
            ("limited", OneOf(&["yes", "view", "net", "no"])),
            ("shadowed", Text),
            ("transport", OneOf(&["tcp"])),
            ("resolver", YES),
        ],
    ),
    of("drift", &[], &[]),
    of("gate", &[], &[]),
    of("identity", &[], &[]),
    of("logs", &["largest", "share"], &[]),
    of(
        "mail",
        &["answer", "tls", "certificate", "accepted", "delivered"],
        &[
            ("port", Port),
            ("protocol", OneOf(&["smtp", "imap"])),
            ("tls", YES),
            ("starttls", OneOf(&["yes", "perhaps", "no"])),
            ("client-certificate", YES),
            ("turns-away", YES),
            ("name", Text),
            ("ca", File),
            ("trust", YES),
            ("recipient", Text),
            ("mail-to", Text),
            ("mail-from", Text),
            ("credentials", File),
            ("imap-port", Port),
            ("imap-tls", YES),
            ("issuer", OneOf(&["known", "unknown", "incomplete"])),
        ],
    ),
    of("mariadb", &["answer", "query"], &[("port", Port), ("credentials", File), ("database", Text)]),
    of(
        "nfs",
        &["answer", "mount", "read", "write", "lock"],
        &[
            ("path", File),
            ("path-4", Text),
            ("access", ACCESS),
            ("kerberos", YES),
            ("needs", OneOf(&["ticket", "tls", "other-server", "unplaced"])),
            ("clients", Text),
            ("port", Port),
        ],
    ),
    of("notices", &[], &[]),
    of("ntp", &["answer", "offset"], &[("port", Port), ("clients", Text), ("limited", OneOf(&["rate"]))]),
    of("packages", &[], &[("packages", Text)]),
    of(
        "postgresql",
        &["answer", "query"],
        &[("port", Port), ("user", Text), ("database", Text), ("credentials", File)],
    ),
    of("raid", &[], &[]),
    of(
        "samba",
        &["answer", "read", "write"],
        &[
            ("port", Port),
            ("share", Text),
            ("path", File),
            ("access", ACCESS),
            ("guest", YES),
            ("credentials", File),
            ("limited", YES),
        ],
    ),
    of("services", &[], &[]),
    of("ssh", &["answer"], &[("port", Port), ("clients", Text)]),
    of("synchronizer", &["suspended", "last-cycle", "last-sync-up"], &[("every", Number)]),
    of("system", &["load", "tasks", "memory", "swap", "file-handles", "temperature/*"], &[]),
    of("time", &["offset", "hardware-clock"], &[]),
    of("units", &[], &[]),
    of(
        "web",
        &["answer", "dynamic", "certificate"],
        &[
            ("port", Port),
            ("tls", YES),
            ("name", Text),
            ("root", File),
            ("refuses", OneOf(&["certificate", "empty", "handshake", "perhaps"])),
            ("dynamic", Pages),
            ("expect", Text),
            ("restricted", Pages),
            ("proxy", YES),
            ("http2", OneOf(&["plain"])),
            ("keys", OneOf(&["several"])),
            ("not-by", Text),
            ("answers", Text),
            ("limits", Text),
            ("filter", Text),
            ("masked", Pages),
            ("aliases", Text),
            ("ca", File),
            ("trust", YES),
            ("issuer", OneOf(&["known", "unknown", "incomplete"])),
        ],
    ),
];
/// What SetUp finds of where a service can be reached; it may be said by hand, too.
const REACHED: [(&str, Value); 5] = [
    (service::BOUND, Text),
    (service::DATA, Text),
    (service::LOOPBACK, Text),
    (service::BESIDE, Text),
    (service::SOCKET, OneOf(&["only"])),
];

impl Value {
    /// What it has to be, where this is something else.
    fn is_not(self, text: &str) -> Option<String> {
        let (is_good, wanted) = match self {
            OneOf(words) => (words.contains(&text), words.join(" or ")),
            Number => {
                let is_one = text.parse::<f64>().is_ok_and(|number| number.is_finite() && number >= 0.0);
                (is_one, "a number, 0 or more".into())
            }
            Port => (text.parse::<u16>().is_ok_and(|port| port > 0), "a port".into()),
            File => (text.starts_with('/'), "an absolute path".into()),
            Pages => (text.split_whitespace().all(|page| page.starts_with('/')), "paths that begin with '/'".into()),
            Text => (true, String::new()),
        };
        (!is_good).then_some(wanted)
    }
}

impl Settable {
    /// What may be said of an option or a limit.
    fn value(&self, key: &str) -> Option<Value> {
        let known = self.options.iter().chain(&REACHED).find(|(name, _)| *name == key).map(|(_, value)| *value);
        let is_limit = || ["-slow", "-unacceptable"].iter().any(|end| key.ends_with(end));
        known.or_else(|| is_limit().then_some(Number))
    }

    /// Every key, as it may be written.
    pub(super) fn keys(&self) -> Vec<String> {
        let reached = REACHED.iter().filter(|_| !self.options.is_empty());
        let options = self.options.iter().chain(reached).map(|(name, _)| (*name).to_owned());
        let limits = self.measures.iter().flat_map(|name| [format!("{name}-slow"), format!("{name}-unacceptable")]);
        options.chain(limits).collect()
    }
}

/// Whether a measure of a service is among those whose limits can be set.
pub(crate) fn is_measure(service: &str, name: &str) -> bool {
    settable(service)
        .is_none_or(|settable| settable.measures.is_empty() || settable.measures.iter().any(|known| fits(known, name)))
}

/// Why a value of an option, or of a limit, means nothing; what nobody reads may say anything.
pub(crate) fn meaningless(service: &str, key: &str, value: &str) -> Option<String> {
    let wanted = settable(service)?.value(key)?.is_not(value)?;
    Some(format!("{key} = {value:?} means nothing: it is to be {wanted}"))
}

/// What is settable of a service that ATLAS knows itself.
pub(super) fn settable(service: &str) -> Option<&'static Settable> {
    SETTABLE.iter().find(|settable| settable.service == service)
}
