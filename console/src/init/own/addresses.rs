//! Whose addresses this server will take: no other server of the cluster may have them.
//!
//! ```text
//!   in place   what the files here configure, or what was given            ┐
//!   partners   each one's host, and its Snapshot if this set has it        ├─► one address on both sides is refused
//!   worn       the identity in place: files that nobody changed since it   ┘
//!              came, what was set aside since, its Snapshot
//! ```
//!
//! What cannot be read or resolved is a sentence: an address that comes by DHCP, a name that nobody knows.

use super::network::Network;
use crate::init::{facts::Site, tool};
use atlas_host::net::addresses;
use atlas_model::{
    MasterConfig, Partner, TreePath,
    worn::{RoleIdentity, Whose, Worn},
};
use atlas_sid::{
    SidData, addresses as of_others,
    bound::ESD_DATA,
    worn::{BEFORE, FILE},
};
use std::{
    net::IpAddr,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    time::Duration,
};

/// What a name server may take for one name.
const RESOLVE_DEADLINE: Duration = Duration::from_secs(5);
/// More than any of these files has.
const MAX_FILE: usize = 1 << 20;
/// Where netplan's own files lie that outlast a boot.
const NETPLAN: [&str; 2] = ["etc/netplan", "usr/lib/netplan"];

/// An address, and where it was seen or whose it is.
pub type Known = (IpAddr, String);

/// The addresses of this server and of others.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Addresses {
    /// What the files in place configure, each with its file.
    pub in_place: Vec<Known>,
    /// Those of partners, and whose they are.
    pub partners: Vec<Known>,
    /// Those of the identity that is worn, and how that is known.
    pub worn: Vec<Known>,
    /// What could not be read or resolved: a sentence each.
    pub unknown: Vec<String>,
}

impl Addresses {
    /// Looks at a server. `sid`: of the set that is mounted.
    pub fn look(site: &Site, worn: &Worn, config: &MasterConfig, sid: Option<&SidData>) -> Addresses {
        let mut found = Addresses::default();
        found.read_in_place(site);
        for partner in config.partners() {
            found.add_partner(site, partner, sid);
        }
        let whose = match &worn.whose {
            Whose::Of(identity) => Some(identity),
            Whose::Own | Whose::Unknown => None,
        };
        for identity in whose.into_iter().chain(&worn.becoming) {
            found.add_worn(site, identity, sid);
        }
        found.worn.extend(set_aside(site));
        found
    }

    fn read_in_place(&mut self, site: &Site) {
        let plan = addresses::read(&site.tree);
        let netplan: Vec<PathBuf> =
            NETPLAN.iter().flat_map(|dir| super::network::list(&site.root, dir)).filter(|file| is_yaml(file)).collect();
        // What netplan wrote at the last boot says what its files were then.
        let is_old = |file: &str| !netplan.is_empty() && file.starts_with("run/") && file.contains("netplan");
        for one in plan.described.iter().filter(|one| !is_old(&one.file)) {
            self.in_place.extend(one.addresses.iter().map(|address| (*address, one.file.clone())));
        }
        for file in &netplan {
            match site.tree.read_followed(file, MAX_FILE) {
                Ok(text) => {
                    let text = String::from_utf8_lossy(&text).into_owned();
                    self.in_place.extend(of_netplan(&text).into_iter().map(|ip| (ip, file.display().to_string())));
                }
                Err(error) => self.unknown.push(format!("{error}: {}", error.source)),
            }
        }
        self.in_place.sort();
        self.in_place.dedup();
        self.unknown.extend(plan.not_understood.into_iter().filter(|said| !said.starts_with("etc/netplan:")));
    }

    fn add_partner(&mut self, site: &Site, partner: &Partner, sid: Option<&SidData>) {
        let Partner { role, host } = partner;
        let hosts = site.tree.read_followed("etc/hosts", MAX_FILE).unwrap_or_default();
        let mut all = of_others::of_host(host, &String::from_utf8_lossy(&hosts));
        if all.is_empty() && site.root == Path::new("/") {
            all = resolve(host);
        }
        if all.is_empty() {
            self.unknown.push(format!("'{host}', the host of {role}, has no address here"));
        }
        all.extend(sid.and_then(|sid| of_others::of_role(sid, *role).ok()).unwrap_or_default());
        self.partners.extend(all.into_iter().map(|address| (address, format!("{role} ({host})"))));
    }

    /// What is known of the identity that was put in place of this server's own.
    fn add_worn(&mut self, site: &Site, identity: &RoleIdentity, sid: Option<&SidData>) {
        let of_it = |file: &str| {
            let path = TreePath::parse(&format!("/{file}"));
            identity.paths.is_empty()
                || path.is_ok_and(|path| identity.paths.iter().any(|listed| path.is_within(listed)))
        };
        for (address, file) in self.in_place.iter().filter(|(_, file)| of_it(file)) {
            if is_older_than_record(site, Path::new(file)) {
                let how = format!("/{file} is as that identity has it");
                self.worn.push((*address, how));
            }
        }
        let snapshot = sid.and_then(|sid| of_others::of_role(sid, identity.role).ok()).unwrap_or_default();
        let how = format!("the Snapshot of {} has it", identity.role);
        self.worn.extend(snapshot.into_iter().map(|address| (address, how.clone())));
    }
}

fn is_yaml(file: &Path) -> bool {
    file.extension().is_some_and(|kind| kind == "yaml")
}

/// When the record was written: nothing of the identity that it names was put in place later.
fn record_ns(site: &Site) -> Option<i128> {
    let metadata = std::fs::metadata(site.root.join(ESD_DATA).join(FILE)).ok()?;
    Some(nanoseconds(metadata.mtime(), metadata.mtime_nsec()))
}

fn nanoseconds(seconds: i64, nanoseconds: i64) -> i128 {
    i128::from(seconds) * 1_000_000_000 + i128::from(nanoseconds)
}

/// Whether a file is as it was when the record was written. Whoever changes a file, or puts another in its place, changes its ctime.
pub(super) fn is_older_than_record(site: &Site, file: &Path) -> bool {
    let changed = std::fs::metadata(site.root.join(file)).map(|of| nanoseconds(of.ctime(), of.ctime_nsec()));
    match (changed, record_ns(site)) {
        (Ok(changed), Some(written)) => changed <= written,
        (changed, None) => changed.is_ok(),
        (Err(_), _) => false,
    }
}

/// Addresses of files that an `atlas init` which was cut off has set aside since the identity came.
fn set_aside(site: &Site) -> Vec<Known> {
    let before = format!("{ESD_DATA}/{BEFORE}");
    let Ok(dir) = site.tree.dir(&before) else { return vec![] };
    let files = addresses::read(&dir).described.into_iter();
    let files = files.map(|one| (format!("{before}/{}", one.file), one.addresses));
    files
        .filter(|(file, _)| !is_older_than_record(site, Path::new(file)))
        .flat_map(|(file, of)| of.into_iter().map(move |address| (address, format!("/{file} has it"))))
        .collect()
}

/// What the resolver of this server knows.
fn resolve(host: &str) -> Vec<IpAddr> {
    let answer = tool("getent").args(["ahosts", host]).deadline(RESOLVE_DEADLINE).run();
    let text = answer.map(|answer| String::from_utf8_lossy(&answer.stdout).into_owned()).unwrap_or_default();
    let mut all: Vec<IpAddr> = text
        .lines()
        .filter_map(|line| line.split_whitespace().next()?.parse().ok())
        .filter(|address: &IpAddr| !address.is_loopback())
        .collect();
    all.sort_unstable();
    all.dedup();
    all
}

/// The addresses with a length that a file of netplan gives to an interface; where its routes lead is none.
fn of_netplan(text: &str) -> Vec<IpAddr> {
    let is_part = |c: char| c.is_ascii_hexdigit() || ".:/".contains(c);
    let mut found = Vec::new();
    for line in text.lines().map(|line| line.split('#').next().unwrap_or_default()) {
        let mut at = 0;
        while let Some(start) = line[at..].find(is_part).map(|start| at + start) {
            let end = line[start..].find(|c| !is_part(c)).map_or(line.len(), |end| start + end);
            let before = line[..start].trim_end_matches(['"', '\'', ' ']);
            let is_route = before.ends_with("to:") || before.ends_with("from:");
            let address = line[start..end].split_once('/').and_then(|(ip, prefix)| {
                prefix.parse::<u8>().ok()?;
                ip.parse::<IpAddr>().ok()
            });
            found.extend(address.filter(|ip| !is_route && !ip.is_loopback()));
            at = end;
        }
    }
    found
}

/// The same address on both sides: what is this server's, and why it must not be.
pub fn shared<'k>(mine: &'k [Known], others: &'k [Known]) -> Vec<(&'k Known, &'k Known)> {
    let same = |one: &'k Known| others.iter().find(|other| other.0 == one.0).map(|other| (one, other));
    mine.iter().filter_map(same).collect()
}

/// What was looked at, where no address could be read.
pub fn looked_at(network: &Network, addresses: &Addresses) -> String {
    let files: Vec<String> = network.files.iter().map(|file| format!("/{}", file.display())).collect();
    let files = if files.is_empty() { "no file configures the network".to_owned() } else { files.join(", ") };
    let unknown = addresses.unknown.iter().map(|said| format!("; {said}")).collect::<String>();
    format!("no address could be read ({files}{unknown}), so none was compared with those of other servers")
}
