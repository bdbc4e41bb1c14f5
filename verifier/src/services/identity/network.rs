//! Whether something on this secondary takes PRI's network as its identity has it: a release of Debian may configure the network by another
//! program than PRI's, and a server without it would be PRI without an address.

use super::pri_dir;
use crate::here::{self, Faults, Member};
use atlas_host::tree::Dir;
use atlas_model::verify::{Fault, Verdict};
use std::path::Path;

/// A program that configures the network.
struct Program {
    name: &'static str,
    /// Its unit; one of these is pulled in at the boot.
    units: &'static [&'static str],
    /// Its files in an identity: directories, or files, with what their names end in.
    files: &'static [(&'static str, &'static str)],
    /// Whether a line of them gives an interface an address.
    gives: fn(&str) -> bool,
    package: &'static str,
}

/// Those of Debian 11, 12 and 13.
const PROGRAMS: [Program; 4] = [
    Program {
        name: "systemd-networkd",
        units: &["systemd-networkd.service"],
        files: &[("etc/systemd/network", ".network")],
        gives: |line| line.starts_with("Address=") || line.starts_with("DHCP="),
        package: "systemd",
    },
    Program {
        name: "ifupdown",
        units: &["networking.service"],
        files: &[("etc/network/interfaces", ""), ("etc/network/interfaces.d", "")],
        gives: |line| {
            let words: Vec<&str> = line.split_whitespace().collect();
            matches!(words[..], ["address", _, ..] | ["iface", _, _, "dhcp" | "auto", ..])
        },
        package: "ifupdown",
    },
    Program {
        name: "NetworkManager",
        units: &["NetworkManager.service"],
        files: &[("etc/NetworkManager/system-connections", ".nmconnection")],
        gives: |line| line.starts_with("address") || line == "method=auto",
        package: "network-manager",
    },
    Program {
        name: "netplan",
        units: &["systemd-networkd.service", "NetworkManager.service"],
        files: &[("etc/netplan", ".yaml")],
        gives: |line| ["addresses:", "dhcp4:", "dhcp6:"].iter().any(|start| line.starts_with(start)),
        package: "netplan.io",
    },
];
/// Where a unit is pulled in from.
const WANTS: [&str; 3] = [
    "etc/systemd/system/multi-user.target.wants",
    "etc/systemd/system/network-online.target.wants",
    "etc/systemd/system/sysinit.target.wants",
];

/// Tells where PRI's identity has addresses for programs that the boot of this server does not start.
pub(super) fn is_taken(member: &Member, faults: &mut Faults) -> anyhow::Result<()> {
    let root = member.tree.shown();
    // A tree in which nothing is pulled in is none that boots.
    let Some(dir) = pri_dir(member)?.filter(|_| !here::names(root, WANTS[0]).is_empty()) else { return Ok(()) };
    let wanted: Vec<&Program> = PROGRAMS.iter().filter(|program| program.has_addresses(&dir)).collect();
    if wanted.is_empty() || wanted.iter().any(|program| program.is_enabled(root)) {
        return Ok(());
    }
    for program in wanted {
        let Program { name, units, package, .. } = program;
        let what = format!(
            "PRI's identity configures the network by {name}, which no boot of this server starts: as PRI it would have no address"
        );
        let hint = format!("apt install {package}; systemctl enable {}", units[0]);
        faults.add(Fault::new(Verdict::Unacceptable, what, hint).is("network", &[name]));
    }
    Ok(())
}

impl Program {
    fn has_addresses(&self, identity: &Dir) -> bool {
        let gives = |path: &str| {
            let content = identity.read_if_there(path, 1 << 20).ok().flatten().unwrap_or_default();
            String::from_utf8_lossy(&content).lines().map(str::trim).any(self.gives)
        };
        self.files.iter().any(|(place, end)| {
            let names = identity.dir(place).and_then(|dir| dir.names(1000)).unwrap_or_default();
            let files = names.iter().filter_map(|name| name.to_str()).filter(|name| name.ends_with(end));
            gives(place) || files.map(|name| format!("{place}/{name}")).any(|path| gives(&path))
        })
    }

    fn is_enabled(&self, root: &Path) -> bool {
        WANTS.iter().flat_map(|dir| here::names(root, dir)).any(|name| self.units.contains(&name.as_str()))
    }
}
