//! What Samba's configuration says: its lines, the server as a whole, and the shares.

use super::super::{
    found::{Finding, is_loopback},
    given::FILE,
    included,
};
use crate::{pattern::fits, service::Tree};

/// Shares that are no directories of files, or another for everybody.
const OTHERS: [&str; 5] = ["global", "homes", "printers", "print$", "ipc$"];

/// Lines as Samba reads them: `\` at the end goes on, `include` is another file.
pub(super) fn read(tree: &Tree, finding: &mut Finding, path: &str) -> anyhow::Result<Vec<String>> {
    let lines = included::lines(tree, finding, path, &|line| match setting(line) {
        // Another file for each client says nothing of the server as a whole.
        Some((key, file)) if key == "include" && !file.contains('%') => Some(vec![file.to_owned()]),
        _ => None,
    })?;
    let text = joined(&lines.join("\n"));
    Ok(text.lines().filter(|line| !line.starts_with(['#', ';'])).map(str::to_owned).collect())
}

/// A line goes on inside a word, too; where blanks begin the next one, they are one.
pub(super) fn joined(text: &str) -> String {
    let mut parts = text.split("\\\n");
    let mut joined = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let rest = part.trim_start_matches([' ', '\t']);
        if rest.len() < part.len() && !joined.ends_with([' ', '\t']) {
            joined.push(' ');
        }
        joined.push_str(rest);
    }
    joined
}

/// `Guest OK = yes` → `guestok`, `yes`: neither case nor blanks count in a name.
pub(super) fn setting(line: &str) -> Option<(String, &str)> {
    let (key, value) = line.split_once('=')?;
    Some((key.to_ascii_lowercase().replace([' ', '\t'], ""), value.trim()))
}

/// What holds for the server as a whole.
#[derive(Debug, PartialEq)]
pub(super) struct Server {
    /// The first port that it listens on: 445, unless `smb ports` says otherwise.
    pub(super) port: u16,
    /// The others.
    pub(super) others: Vec<u16>,
    /// Whether it answers this server alone.
    pub(super) is_local: bool,
    /// Whether it answers some addresses alone.
    pub(super) is_limited: bool,
    /// Where it listens, if not everywhere.
    pub(super) addresses: Vec<String>,
    /// Where people's own shares lie, if it says so.
    pub(super) usershares: Option<String>,
}

impl Server {
    pub(super) fn read(lines: &[String]) -> Server {
        // What comes before any section is global, and the section may come again.
        let mut is_in = true;
        let in_global = |line: &&String| {
            is_in = section(line).map_or(is_in, |name| name.eq_ignore_ascii_case("global"));
            is_in
        };
        let global: Vec<(String, &str)> = lines.iter().filter(in_global).filter_map(|line| setting(line)).collect();
        let value = |name: &str| global.iter().rfind(|(key, _)| key == name).map(|(_, value)| *value);
        let ports = value("smbports").unwrap_or("445 139").split([' ', ',']).filter_map(|port| port.parse().ok());
        let mut ports: Vec<u16> = ports.collect();
        let port = if ports.is_empty() { 445 } else { ports.remove(0) };
        let interfaces = value("interfaces").unwrap_or_default();
        let own: Vec<String> = interfaces.split([' ', ',']).filter(|at| !at.is_empty()).map(interface).collect();
        let has_own = !own.is_empty() && value("bindinterfacesonly").is_some_and(is_yes);
        Server {
            port,
            others: ports,
            is_local: has_own && own.iter().all(|at| is_loopback(at)),
            is_limited: HOSTS.iter().any(|name| value(name).is_some_and(|hosts| !hosts.is_empty())),
            addresses: if has_own { own } else { vec![] },
            usershares: value("usersharepath").map(|path| path.trim_matches('"').to_owned()),
        }
    }
}

/// `lo`, `eth*`, `192.0.2.1/24`: an address without the length of its network. That of a network itself stands for those of this server in it.
fn interface(text: &str) -> String {
    let text = text.trim_matches('"').split(';').next().unwrap_or_default();
    match text.split_once('/') {
        Some((address, _)) if !address.ends_with(".0") && !address.ends_with("::") => address.to_owned(),
        Some((address, _)) if is_loopback(address) => address.to_owned(),
        _ => text.to_owned(),
    }
}

/// Settings that let some addresses in, or keep them out; both have two names.
const HOSTS: [&str; 4] = ["hostsallow", "allowhosts", "hostsdeny", "denyhosts"];

fn is_yes(value: &str) -> bool {
    matches!(value.to_ascii_lowercase().as_str(), "yes" | "true" | "1" | "on")
}

/// The name of a section, of the line that begins it. What comes behind the name is passed over, as Samba does.
fn section(line: &str) -> Option<&str> {
    line.strip_prefix('[').and_then(|line| line.split_once(']')).map(|(name, _)| name.trim())
}

#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Share {
    pub(super) name: String,
    pub(super) path: String,
    pub(super) is_for_guests: bool,
    pub(super) is_read_only: bool,
    /// Whether not all may open it: by address, by account, or because what is sent has to be encrypted, which a guest cannot.
    pub(super) is_limited: bool,
    /// Whether what is removed there is kept.
    pub(super) keeps_all: bool,
    /// Whether a program runs each time that somebody opens it.
    pub(super) runs: bool,
    /// Whether names are told apart by their case.
    is_exact: bool,
    /// Whether all files are shown by names of one case.
    has_one_case: bool,
    /// Whether that is the upper one.
    is_upper: bool,
}

impl Share {
    /// Whether a file that lies there under a name of small letters has no name for clients.
    pub(super) fn hides_small_letters(&self) -> bool {
        self.is_exact && self.has_one_case && self.is_upper
    }
}

/// Modules that keep what clients remove, let nothing be removed, or nothing be written at times.
const KEEP: [&str; 3] = ["recycle", "worm", "readonly"];

pub(super) fn shares(lines: &[String]) -> Vec<Share> {
    let usual = Share { is_read_only: true, ..Share::default() };
    let (mut shares, mut hidden) = (Vec::<Share>::new(), vec![]);
    for line in lines {
        if let Some(name) = section(line) {
            // What stands in [global] holds for shares that say nothing else.
            let global = shares.iter().rfind(|share| share.name.eq_ignore_ascii_case("global")).unwrap_or(&usual);
            shares.push(Share { name: name.into(), path: String::new(), ..global.clone() });
            continue;
        }
        let (Some((key, value)), Some(share)) = (setting(line), shares.last_mut()) else { continue };
        let is_yes = is_yes(value);
        let mut copied = None;
        match key.as_str() {
            "path" | "directory" => share.path = value.trim_matches('"').trim_end_matches('/').into(),
            "guestok" | "public" => share.is_for_guests = is_yes,
            "readonly" => share.is_read_only = is_yes,
            "writable" | "writeable" | "writeok" => share.is_read_only = !is_yes,
            "vfsobjects" | "vfsobject" => {
                let mut modules =
                    value.split([' ', '\t', ',']).map(|module| module.split(':').next().unwrap_or_default());
                share.keeps_all = modules.any(|module| KEEP.contains(&module));
            }
            "preexec" | "exec" | "rootpreexec" => share.runs |= !value.is_empty(),
            "casesensitive" | "casesignames" => share.is_exact = is_yes,
            "defaultcase" => share.is_upper = value.eq_ignore_ascii_case("upper"),
            "preservecase" => share.has_one_case = !is_yes,
            "validusers" | "invalidusers" | "onlyuser" => share.is_limited |= !value.is_empty(),
            "serversmbencrypt" | "smbencrypt" => share.is_limited |= matches!(value, "required" | "mandatory"),
            key if HOSTS.contains(&key) => share.is_limited |= !value.is_empty(),
            "copy" => copied = Some(value),
            // Files that nobody sees, the test file among them.
            "vetofiles" => share.is_limited |= value.split('/').any(|hidden| !hidden.is_empty() && fits(hidden, FILE)),
            "available" if !is_yes => hidden.push(share.name.clone()),
            _ => (),
        }
        let from = copied.and_then(|from| shares.iter().find(|share| share.name.eq_ignore_ascii_case(from)).cloned());
        if let (Some(from), Some(share)) = (from, shares.last_mut()) {
            *share = Share { name: share.name.clone(), ..from };
        }
    }
    shares.retain(|share| {
        let is_plain =
            share.path.starts_with('/') && !share.path.contains('%') && !share.path.split('/').any(|name| name == "..");
        is_plain && !OTHERS.contains(&share.name.to_ascii_lowercase().as_str()) && !hidden.contains(&share.name)
            // It stands in a command for smbclient.
            && !share.name.contains(['/', '\\', '"', ';'])
    });
    shares
}
