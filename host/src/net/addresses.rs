//! Reads the files from which [`atlas_model::address`] knows the addresses of an identity.
//!
//! What systemd-networkd and NetworkManager would read is read in their order. netplan and cloud-init write such files themselves, at
//! boot below `/run`; where theirs are missing, that is reported. Links are followed as if the tree were the root file system.

use crate::tree::Dir;
use atlas_model::address::{self, Include, Plan};
use std::{collections::BTreeMap, ffi::OsString, path::Path};

/// The largest file, in bytes.
const MAX_FILE: usize = 256 << 10;
/// The most files of a directory, and in all that one file includes.
const MAX_FILES: usize = 500;
/// The same name in an earlier one counts; all are read in the order of their names.
const NETWORKD: [&str; 4] =
    ["etc/systemd/network", "run/systemd/network", "usr/local/lib/systemd/network", "usr/lib/systemd/network"];
const NETWORK_MANAGER: [&str; 3] = [
    "etc/NetworkManager/system-connections",
    "run/NetworkManager/system-connections",
    "usr/lib/NetworkManager/system-connections",
];
/// Who else may give addresses, and from where nothing is read.
const OTHERS: [&str; 3] = ["etc/wicked/ifconfig", "var/lib/connman", "etc/netctl"];
const INTERFACES: &str = "etc/network/interfaces";
const DHCPCD: &str = "etc/dhcpcd.conf";

/// All that the tree's files say of static addresses.
pub fn read(tree: &Dir) -> Plan {
    let mut plan = Plan::default();
    ifupdown(tree, &mut plan);
    networkd(tree, &mut plan);
    network_manager(tree, &mut plan);
    if let Some(text) = text(tree, &mut plan, DHCPCD) {
        address::dhcpcd(&mut plan, DHCPCD, &text);
    }
    let has_files = |dir: &str| !files_of(tree, dir).is_empty();
    if has_files("etc/netplan")
        && !has_files("run/systemd/network")
        && !has_files("run/NetworkManager/system-connections")
    {
        plan.unclear("etc/netplan", "netplan has not written its files below /run yet, so its addresses are unknown");
    }
    for dir in OTHERS.iter().filter(|dir| has_files(dir)) {
        plan.unclear(dir, "files of this kind are not read");
    }
    plan
}

fn ifupdown(tree: &Dir, plan: &mut Plan) {
    let mut waiting = vec![INTERFACES.to_owned()];
    let mut seen = std::collections::BTreeSet::new();
    while let Some(file) = waiting.pop() {
        if seen.len() >= MAX_FILES {
            return plan.unclear(INTERFACES, format_args!("it includes more than {MAX_FILES} files"));
        }
        if !seen.insert(file.clone()) {
            continue;
        }
        let Some(text) = text(tree, plan, &file) else { continue };
        for include in address::ifupdown(plan, &file, &text) {
            let (pattern, plain_names) = match &include {
                Include::Source(pattern) => (absolute(pattern), false),
                Include::Directory(dir) => (absolute(dir) + "/*", true),
            };
            let Some((dir, name)) = pattern.rsplit_once('/').filter(|(dir, _)| !dir.contains(['*', '?', '[', '$']))
            else {
                plan.unclear(&file, format_args!("'{pattern}' is not understood"));
                continue;
            };
            let plain = |name: &str| name.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_".contains(&b));
            let fits = |found: &String| {
                address::glob(name, found) && !found.starts_with('.') && (!plain_names || plain(found))
            };
            waiting.extend(files_of(tree, dir).into_iter().filter(fits).map(|found| format!("{dir}/{found}")));
        }
    }
}

/// Relative paths are meant from the directory of the main file.
fn absolute(path: &str) -> String {
    match path.strip_prefix('/') {
        Some(path) => path.trim_end_matches('/').to_owned(),
        None => format!("etc/network/{}", path.trim_end_matches('/')),
    }
}

fn networkd(tree: &Dir, plan: &mut Plan) {
    for (name, dir) in first_of_each(tree, &NETWORKD) {
        let file = format!("{dir}/{name}");
        let (network, netdev) = (name.ends_with(".network"), name.ends_with(".netdev"));
        if !network && !netdev {
            continue;
        }
        let Some(mut content) = text(tree, plan, &file) else { continue };
        let drop_ins: Vec<String> = NETWORKD.iter().map(|dir| format!("{dir}/{name}.d")).collect();
        let drop_ins: Vec<&str> = drop_ins.iter().map(String::as_str).collect();
        for (part, dir) in first_of_each(tree, &drop_ins).into_iter().filter(|(part, _)| part.ends_with(".conf")) {
            content.push('\n');
            content.push_str(&text(tree, plan, &format!("{dir}/{part}")).unwrap_or_default());
        }
        // A link to /dev/null, or an empty file, hides one of a later directory.
        if content.trim().is_empty() {
            continue;
        }
        if network {
            address::network(plan, &file, &content);
        } else {
            address::netdev(plan, &file, &content);
        }
    }
}

fn network_manager(tree: &Dir, plan: &mut Plan) {
    let mut profiles = Vec::new();
    for (name, dir) in first_of_each(tree, &NETWORK_MANAGER) {
        // Files without the ending were written by NetworkManager before 1.20.
        if !name.starts_with('.') && !name.ends_with(['~', '#']) {
            let file = format!("{dir}/{name}");
            profiles.extend(text(tree, plan, &file).map(|content| (file, content)));
        }
    }
    let value = |content: &str, wanted: &str| {
        let mut lines = content.lines().filter_map(|line| line.split_once('='));
        lines.find(|(key, _)| key.trim() == wanted).map(|(_, value)| value.trim().to_owned())
    };
    let names: BTreeMap<String, String> = profiles
        .iter()
        .filter_map(|(_, content)| Some((value(content, "uuid")?, value(content, "interface-name")?)))
        .collect();
    for (file, content) in &profiles {
        address::keyfile(plan, file, content, &|uuid| names.get(uuid).cloned());
    }
}

/// The names in some directories, sorted, each with the first directory that has it.
fn first_of_each<'d>(tree: &Dir, dirs: &[&'d str]) -> BTreeMap<String, &'d str> {
    let mut found = BTreeMap::new();
    for dir in dirs {
        for name in files_of(tree, dir) {
            found.entry(name).or_insert(*dir);
        }
    }
    found
}

fn files_of(tree: &Dir, dir: &str) -> Vec<String> {
    let names = tree.followed_dir(dir).and_then(|dir| dir.names(MAX_FILES)).unwrap_or_default();
    names.into_iter().filter_map(|name: OsString| name.into_string().ok()).collect()
}

/// `None`: there is no such file, or it cannot be read, which is reported.
fn text(tree: &Dir, plan: &mut Plan, path: &str) -> Option<String> {
    match tree.read_followed(Path::new(path), MAX_FILE) {
        Ok(content) => Some(String::from_utf8_lossy(&content).into_owned()),
        Err(error) => {
            let is_dir = tree.followed_dir(path).is_ok();
            // A link to /dev/null is no regular file, and means that there is none.
            let masked = error.source.to_string() == "it is no regular file";
            if !error.is_not_found() && !is_dir && !masked {
                plan.unclear(path, error.source);
            }
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree(files: &[(&str, &str)]) -> (tempfile::TempDir, Dir) {
        let dir = tempfile::tempdir().unwrap();
        for (path, content) in files {
            let path = dir.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, content).unwrap();
        }
        let tree = Dir::open_root(dir.path()).unwrap();
        (dir, tree)
    }

    fn addresses(plan: &Plan) -> Vec<String> {
        plan.addresses().iter().map(ToString::to_string).collect()
    }

    #[test]
    fn every_kind_of_file_is_found_where_it_lies() {
        let (_dir, tree) = tree(&[
            (
                "etc/network/interfaces",
                "source /etc/network/interfaces.d/*\nsource-directory more\niface lo inet loopback\n",
            ),
            ("etc/network/interfaces.d/lan", "iface eth0 inet static\n address 10.0.0.1/8\n"),
            ("etc/network/more/b", "iface eth0 inet static\n address 10.0.0.2/8\n"),
            ("etc/network/more/b.bak", "iface eth0 inet static\n address 10.0.0.99/8\n"),
            ("etc/systemd/network/10-lan.network", "[Match]\nName=eth1\n[Network]\nAddress=10.0.0.3/8\n"),
            ("etc/systemd/network/10-lan.network.d/more.conf", "[Network]\nAddress=10.0.0.4/8\n"),
            ("run/systemd/network/10-netplan-eth2.network", "[Match]\nName=eth2\n[Network]\nAddress=10.0.0.5/8\n"),
            ("run/systemd/network/10-lan.network", "[Match]\nName=eth1\n[Network]\nAddress=10.0.0.98/8\n"),
            (
                "etc/NetworkManager/system-connections/x.nmconnection",
                "[connection]\ninterface-name=eth3\n[ipv4]\naddress1=10.0.0.6/8\n",
            ),
            ("etc/dhcpcd.conf", "interface eth4\nstatic ip_address=10.0.0.7/8\n"),
            ("etc/netplan/50.yaml", "network: {version: 2}\n"),
        ]);
        let plan = read(&tree);
        assert_eq!(addresses(&plan), (1..=7).map(|last| format!("10.0.0.{last}")).collect::<Vec<_>>());
        assert_eq!(plan.not_understood, Vec::<String>::new());
    }

    #[test]
    fn what_is_hidden_by_a_link_to_nothing_does_not_count() {
        let (dir, tree) =
            tree(&[("usr/lib/systemd/network/80-x.network", "[Match]\nName=e\n[Network]\nAddress=10.0.0.1/8\n")]);
        assert_eq!(addresses(&read(&tree)), ["10.0.0.1"]);
        std::fs::create_dir_all(dir.path().join("etc/systemd/network")).unwrap();
        std::os::unix::fs::symlink("/dev/null", dir.path().join("etc/systemd/network/80-x.network")).unwrap();
        assert_eq!(read(&tree), Plan::default());
    }

    #[test]
    fn what_cannot_be_read_is_reported() {
        let (_dir, tree) = tree(&[
            ("etc/netplan/50.yaml", "network: {}\n"),
            ("etc/network/interfaces", "source /etc/$X/*\n"),
            ("etc/wicked/ifconfig/eth0.xml", ""),
        ]);
        let said = read(&tree).not_understood.join("\n");
        for part in ["netplan has not written", "'etc/$X/*' is not understood", "etc/wicked/ifconfig"] {
            assert!(said.contains(part), "{part}: {said}");
        }
        assert_eq!(read(&Dir::open_root(tempfile::tempdir().unwrap().path()).unwrap()), Plan::default());
    }

    #[test]
    fn files_that_include_each_other_end() {
        let (_dir, tree) =
            tree(&[("etc/network/interfaces", "source /etc/network/*\niface e inet static\naddress 10.0.0.1/8\n")]);
        assert_eq!(addresses(&read(&tree)), ["10.0.0.1"]);
    }
}
