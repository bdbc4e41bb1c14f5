//! For `atlas init --check`: whether the identity that is listed can be installed here, and whether it is all of one.
//!
//! ```text
//!   every list      of this Role and its partners' whose disks may come: on the root file system, and nothing immutable in its place
//!   this Role's     covers where the program that configures the network keeps its addresses
//! ```

use super::{
    check::{Finding, WARNING},
    facts,
    facts::Site,
    initramfs::chain,
    network::is_enabled,
};
use atlas_host::{net::addresses, tree::Dir};
use atlas_model::{BootReport, PathList, TreePath, manifest::FileSet};
use atlas_sid::{on_root, snapshot};
use std::{collections::BTreeSet, ffi::OsStr, path::Path};

const ABOUT: &str = "identity";

/// Who keeps addresses where: the unit or program that shows that it is in use, its name, and its files.
const KEEPERS: [(&str, &str, &str); 8] = [
    ("NetworkManager.service", "NetworkManager", "/etc/NetworkManager/system-connections"),
    ("systemd-networkd.service", "systemd-networkd", "/etc/systemd/network"),
    (IFUPDOWN, "ifupdown", "/etc/network/interfaces"),
    (IFUPDOWN, "ifupdown", "/etc/network/interfaces.d"),
    ("dhcpcd.service", "dhcpcd", "/etc/dhcpcd.conf"),
    ("connman.service", "connman", "/var/lib/connman"),
    ("wicked.service", "wicked", "/etc/wicked"),
    ("wg-quick@.service", "wg-quick", "/etc/wireguard"),
];
const IFUPDOWN: &str = "networking.service";
/// netplan has no unit: its generator is there or not.
const NETPLAN: (&str, &str) = ("usr/sbin/netplan", "/etc/netplan");

/// What was found.
pub(super) fn findings(site: &Site, boot: Option<&BootReport>) -> Vec<Finding> {
    let Some(lists) = Lists::read(site, boot) else {
        // A set that is lost may still be mounted, and give something of what it had.
        let sid = facts::open_sid(&site.unbound()).ok().flatten();
        let is_read =
            boot.is_some_and(|boot| boot.env_version.is_some()) && sid.is_some_and(|sid| sid.master_config().is_ok());
        return vec![if is_read {
            Finding::well(ABOUT, "no list names one yet")
        } else {
            Finding::well(
                WARNING,
                "the identity was not looked at: its lists are on the Unbound set, which is not mounted",
            )
        }];
    };
    let mut problems = immutable(site, &lists.all);
    problems.extend(elsewhere(site, &lists.all));
    problems.extend(lists.own.iter().flat_map(|own| unlisted(&site.root, own)));
    if problems.is_empty() {
        problems.push(Finding::well(ABOUT, "nothing keeps another one from its place"));
    }
    problems
}

/// What the lists of all servers name for this EnvVersion. Where they cannot be read, atlas-boot says it.
struct Lists {
    /// `None` before the first `atlas init` has written it, or where it cannot be read.
    own: Option<PathList>,
    all: BTreeSet<TreePath>,
}

impl Lists {
    fn read(site: &Site, boot: Option<&BootReport>) -> Option<Lists> {
        let env = boot?.env_version?;
        let sid = facts::open_sid(&site.unbound()).ok()??;
        let config = sid.master_config().ok()?;
        let list = |role| {
            let dir = sid.role_dir(role).ok()??.dir(env.dir_name()).ok()?;
            snapshot::read_list(&dir, FileSet::Ident.list_name()).ok()?
        };
        let own = list(config.role());
        let of_partners = config.partners().iter().filter_map(|partner| list(partner.role));
        let all: BTreeSet<TreePath> = of_partners.chain(own.clone()).flat_map(|list| list.paths().to_vec()).collect();
        (own.is_some() || !all.is_empty()).then_some(Lists { own, all })
    }
}

fn immutable(site: &Site, listed: &BTreeSet<TreePath>) -> Vec<Finding> {
    let is_fixed = |path: &&TreePath| {
        let parent = site.tree.parent_of(path);
        // What is not there is not in the way.
        parent.is_ok_and(|(dir, name)| [name, OsStr::new(".")].iter().any(|name| dir.is_fixed(name).unwrap_or(false)))
    };
    let finding = |path: &TreePath| {
        let found = format!(
            "with other disks: {path} was made immutable, itself or its directory, so no other can take its place"
        );
        let parent = path.parent().map_or_else(|| "/".to_owned(), |parent| parent.to_string());
        Finding::problem(ABOUT, found).remedy(format!("lsattr -d {path} {parent}; chattr -i -a PATH"))
    };
    listed.iter().filter(is_fixed).map(finding).collect()
}

fn elsewhere(site: &Site, listed: &BTreeSet<TreePath>) -> Vec<Finding> {
    let points = match on_root::mount_points(&site.tree) {
        Ok(points) => points,
        Err(error) => return vec![Finding::problem(ABOUT, chain(&error))],
    };
    let finding = |path: &TreePath| {
        let found = format!("{path} is listed, and not on the root file system: {}", points.of(path)?);
        Some(Finding::problem(ABOUT, found).remedy("move it to the root file system, or take it off IdentFilePaths"))
    };
    listed.iter().filter_map(finding).collect()
}

/// Files with addresses that no list names: after a swap the server would have this Role's name, and the addresses of before.
fn unlisted(root: &Path, own: &PathList) -> Vec<Finding> {
    let of_units = KEEPERS.iter().filter(|(unit, ..)| is_enabled(root, unit)).map(|(_, name, place)| (*name, *place));
    let netplan = root.join(NETPLAN.0).exists().then_some(("netplan", NETPLAN.1));
    let finding = |(name, place): (&str, &str)| {
        let path = TreePath::parse(place).ok().filter(|path| !own.covers(path))?;
        let at = root.join(path.relative());
        // A list may name the files in it one by one.
        let is_listed = |entry: std::fs::DirEntry| {
            entry
                .file_name()
                .to_str()
                .and_then(|name| path.join(OsStr::new(name)).ok())
                .is_some_and(|path| own.covers(&path))
        };
        let is_left_out = match std::fs::read_dir(&at) {
            Ok(entries) => entries.flatten().any(|entry| !is_listed(entry)),
            Err(_) => at.is_file(),
        };
        let found = format!(
            "{name} keeps addresses in {place}, which IdentFilePaths does not list: a swap would leave them behind"
        );
        is_left_out.then(|| {
            Finding::problem(ABOUT, found)
                .remedy(format!("add {place} to IdentFilePaths of this role, and run 'ssSync create'"))
        })
    };
    of_units.chain(netplan).filter_map(finding).chain(included(root, own)).collect()
}

/// Files that ifupdown reads from elsewhere, by `source`.
fn included(root: &Path, own: &PathList) -> Vec<Finding> {
    let Some(tree) = Dir::open_root(root).ok().filter(|_| is_enabled(root, IFUPDOWN)) else { return vec![] };
    let usual = |path: &TreePath| {
        let places = KEEPERS.iter().filter_map(|(.., place)| TreePath::parse(place).ok());
        let made_at_boot = ["/run", "/usr"].into_iter().filter_map(|place| TreePath::parse(place).ok());
        places.chain(made_at_boot).any(|place| path.is_within(&place))
    };
    let described = addresses::read(&tree).described.into_iter().filter(|one| !one.addresses.is_empty());
    let files: BTreeSet<TreePath> =
        described.filter_map(|one| TreePath::parse(&format!("/{}", one.file.trim_start_matches('/'))).ok()).collect();
    let finding = |path: &TreePath| {
        let found = format!(
            "{path} has an address of this server, and IdentFilePaths does not list it: a swap would leave it behind"
        );
        Finding::problem(ABOUT, found)
            .remedy(format!("add {path} to IdentFilePaths of this role, and run 'ssSync create'"))
    };
    files.iter().filter(|path| !usual(path) && !own.covers(path)).map(finding).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{fs, os::unix::fs::symlink};

    fn server(root: &Path, unit: &str, file: &str) {
        let wants = root.join("etc/systemd/system/multi-user.target.wants");
        fs::create_dir_all(&wants).unwrap();
        let _ = symlink(format!("/lib/systemd/system/{unit}"), wants.join(unit));
        let file = root.join(file);
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(file, "address").unwrap();
    }

    fn list(paths: &[&str]) -> PathList {
        paths.iter().map(|path| TreePath::parse(path).unwrap()).collect()
    }

    fn found(root: &Path, list: &PathList) -> Vec<String> {
        unlisted(root, list).into_iter().map(|finding| finding.found).collect()
    }

    #[test]
    fn a_program_that_keeps_addresses_in_no_listed_file_is_named() {
        for (unit, file, place) in [
            (
                "NetworkManager.service",
                "etc/NetworkManager/system-connections/lan.nmconnection",
                "/etc/NetworkManager/system-connections",
            ),
            ("connman.service", "var/lib/connman/ethernet/settings", "/var/lib/connman"),
            ("dhcpcd.service", "etc/dhcpcd.conf", "/etc/dhcpcd.conf"),
            ("networking.service", "etc/network/interfaces.d/lan", "/etc/network/interfaces.d"),
            ("wg-quick@wg0.service", "etc/wireguard/wg0.conf", "/etc/wireguard"),
        ] {
            let tmp = tempfile::tempdir().unwrap();
            server(tmp.path(), unit, file);
            let texts = found(tmp.path(), &list(&["/etc/hostname"]));
            assert!(texts.len() == 1 && texts[0].contains(place), "{unit}: {texts:?}");
            assert!(found(tmp.path(), &list(&[place])).is_empty(), "{unit}");
            assert!(found(tmp.path(), &list(&[&format!("/{file}")])).is_empty() || file.contains("ethernet"), "{unit}");
        }
    }

    #[test]
    fn a_file_that_ifupdown_includes_from_elsewhere_is_named() {
        let tmp = tempfile::tempdir().unwrap();
        server(tmp.path(), "networking.service", "etc/network/interfaces");
        let write = |path: &str, text: &str| {
            fs::create_dir_all(tmp.path().join(path).parent().unwrap()).unwrap();
            fs::write(tmp.path().join(path), text).unwrap();
        };
        write("etc/network/interfaces", "source /etc/network/more/*\n");
        write("etc/network/more/lan", "iface eth0 inet static\n  address 192.0.2.5/24\n");
        write("etc/network/more/dhcp", "iface eth1 inet dhcp\n");
        let usual = ["/etc/network/interfaces"];
        let texts = found(tmp.path(), &list(&usual));
        assert!(texts.len() == 1 && texts[0].starts_with("/etc/network/more/lan has an address"), "{texts:?}");
        assert!(found(tmp.path(), &list(&[usual[0], "/etc/network/more"])).is_empty());
    }

    #[test]
    fn a_program_that_does_not_run_or_has_no_addresses_needs_no_list() {
        let tmp = tempfile::tempdir().unwrap();
        server(tmp.path(), "systemd-networkd.service", "etc/NetworkManager/system-connections/lan.nmconnection");
        fs::create_dir_all(tmp.path().join("etc/systemd/network")).unwrap();
        assert!(found(tmp.path(), &list(&[])).is_empty());
        server(tmp.path(), "x.service", "usr/sbin/netplan");
        server(tmp.path(), "x.service", "etc/netplan/50-cloud-init.yaml");
        assert!(found(tmp.path(), &list(&[]))[0].contains("netplan keeps addresses in /etc/netplan"));
    }
}
