//! Giving a server a name, addresses and host keys of its own.

use super::{
    Hostname, NewIdentity, NewNetwork,
    addresses::is_older_than_record,
    network::{Network, NewFile},
};
use crate::init::{facts::Site, tool};
use anyhow::Context;
use atlas_cli::Hint;
use atlas_host::{
    FileError, durable,
    tree::{Dir, Rename},
};
use atlas_model::{
    TreePath,
    worn::{Whose, Worn},
};
use atlas_sid::{
    bound::ESD_DATA,
    worn::{self, BEFORE},
};
use std::{
    ffi::OsStr,
    path::{Path, PathBuf},
};

const SSH: &str = "etc/ssh";
const HOSTNAME: &str = "etc/hostname";
const MACHINE_ID: &str = "/etc/machine-id";
/// More than any such file has.
const MAX_FILE: usize = 1 << 20;

/// Puts a new identity in the place of what is there, and says so on the Bound disk when it is durable.
/// `new_keys`: others have those that are there.
pub fn apply(site: &Site, new: &NewIdentity, new_keys: bool) -> anyhow::Result<()> {
    let (worn, _) = worn::read_or_unknown(&site.tree).context("read whose identity this server wears")?;
    if let NewNetwork::Write { addresses, gateways } = &new.network {
        let network = Network::of(&site.root, &site.machine.sys);
        let files = network.files_for(addresses, gateways).map_err(anyhow::Error::msg)?;
        write_network(&site.tree, &files, &network.files).context("write the addresses")?;
    }
    write_name(&site.tree, &new.hostname).context("write the name")?;
    if new_keys {
        make_host_keys(site).context("make the ssh host keys")?;
    }
    if is_of(&worn, MACHINE_ID) {
        write_machine_id(&site.tree).context("make a machine id")?;
    }
    keep(&site.tree)
}

/// Notes that the identity in place is this server's own. It is durable first.
pub fn keep(tree: &Dir) -> anyhow::Result<()> {
    tree.sync_file_system()?;
    worn::write(tree, &Worn::OWN).context("note that the identity is this server's own")?;
    Ok(())
}

fn is_of(worn: &Worn, path: &str) -> bool {
    let of = match &worn.whose {
        Whose::Of(identity) => Some(identity),
        Whose::Own | Whose::Unknown => None,
    };
    let mut paths = of.into_iter().chain(&worn.becoming).flat_map(|identity| &identity.paths);
    paths.any(|listed| TreePath::parse(path).is_ok_and(|path| path.is_within(listed)))
}

/// Writes `files`, and then takes the others away that had addresses.
fn write_network(tree: &Dir, files: &[NewFile], before: &[PathBuf]) -> Result<(), FileError> {
    for file in files {
        let dir = tree.make_dirs(parent(&file.path))?;
        if before.contains(&file.path)
            && dir.read_if_there(name(&file.path), MAX_FILE)?.as_deref() != Some(file.content.as_bytes())
        {
            set_aside(tree, &file.path)?;
        }
        durable::write_if_changed(&dir, name(&file.path), file.content.as_bytes(), file.mode)?;
    }
    before.iter().filter(|path| files.iter().all(|file| &file.path != *path)).try_for_each(|path| set_aside(tree, path))
}

fn set_aside(tree: &Dir, path: &Path) -> Result<(), FileError> {
    let from = tree.dir(parent(path))?;
    if from.stat(name(path))?.is_none() {
        return Ok(());
    }
    tree.make_dirs(ESD_DATA)?.make_dir(BEFORE, 0o700)?;
    let to = tree.make_dirs(Path::new(ESD_DATA).join(BEFORE).join(parent(path)))?;
    to.remove_tree(name(path))?;
    from.rename(name(path), &to, name(path), Rename::NoReplace)
}

fn parent(path: &Path) -> &Path {
    path.parent().unwrap_or(Path::new(""))
}

fn name(path: &Path) -> &OsStr {
    path.file_name().unwrap_or_default()
}

fn write_name(tree: &Dir, hostname: &Hostname) -> Result<(), FileError> {
    let etc = tree.dir("etc")?;
    let hosts = etc.read_if_there("hosts", MAX_FILE)?.unwrap_or_default();
    let hosts = hosts_with(&String::from_utf8_lossy(&hosts), hostname.as_str());
    durable::write_if_changed(&etc, OsStr::new("hosts"), hosts.as_bytes(), 0o644)?;
    durable::write_if_changed(&etc, OsStr::new("hostname"), format!("{}\n", hostname.as_str()).as_bytes(), 0o644)?;
    Ok(())
}

/// /etc/hosts for a server of this name: Debian has its name at 127.0.1.1, and the domain there stays. Other lines name other machines, the
/// old name's owner among them.
fn hosts_with(before: &str, hostname: &str) -> String {
    let is_own = |line: &&str| line.split_whitespace().next() == Some("127.0.1.1");
    let old_name = before.lines().find(is_own).and_then(|line| line.split_whitespace().nth(1));
    let names = match old_name.and_then(|name| name.split_once('.')) {
        Some((_, domain)) => format!("{hostname}.{domain} {hostname}"),
        None => hostname.to_owned(),
    };
    let own = format!("127.0.1.1\t{names}\n");
    let mut text: String =
        before.lines().map(|line| if is_own(&line) { own.clone() } else { format!("{line}\n") }).collect();
    if old_name.is_none() {
        text.push_str(&own);
    }
    text
}

/// A server without an ssh server has no host keys, and needs none.
fn make_host_keys(site: &Site) -> anyhow::Result<()> {
    let Ok(dir) = site.tree.dir(SSH) else { return Ok(()) };
    let keys: Vec<_> = dir.names(10_000)?.into_iter().filter(|name| is_host_key(name)).collect();
    if keys.is_empty() && dir.stat(OsStr::new("sshd_config"))?.is_none() {
        return Ok(());
    }
    for key in keys {
        dir.remove(&key)?;
    }
    tool("ssh-keygen").arg("-A").arg("-f").arg(&site.root).run().map(drop).hint("apt install openssh-client")
}

fn is_host_key(name: &OsStr) -> bool {
    name.as_encoded_bytes().starts_with(b"ssh_host_")
}

fn write_machine_id(tree: &Dir) -> anyhow::Result<()> {
    let random = std::fs::read_to_string("/proc/sys/kernel/random/uuid").context("ask the kernel for a number")?;
    let id = format!("{}\n", random.trim().replace('-', ""));
    Ok(durable::write(&tree.dir("etc")?, OsStr::new("machine-id"), id.as_bytes(), 0o444)?)
}

fn hostname(site: &Site) -> String {
    std::fs::read_to_string(site.root.join(HOSTNAME)).unwrap_or_default().trim().to_owned()
}

/// Whether the name is that of the identity in place, and no `atlas init` that was cut off has written it.
pub fn has_its_name(site: &Site, new: &NewIdentity) -> bool {
    hostname(site).eq_ignore_ascii_case(new.hostname.as_str()) && is_older_than_record(site, Path::new(HOSTNAME))
}

/// Whether name and addresses are those of `new` already, and no others.
pub fn is_as_asked(site: &Site, new: &NewIdentity) -> bool {
    let network = Network::of(&site.root, &site.machine.sys);
    let are_so = match &new.network {
        NewNetwork::Configured => true,
        NewNetwork::Write { addresses, gateways } => network.files_for(addresses, gateways).is_ok_and(|files| {
            let is_so = |file: &NewFile| {
                std::fs::read(site.root.join(&file.path)).is_ok_and(|is| is == file.content.as_bytes())
            };
            files.iter().all(is_so) && network.files.iter().all(|path| files.iter().any(|file| file.path == *path))
        }),
    };
    are_so && hostname(site) == new.hostname.as_str()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::init::{machine::Machine, own::addresses::Addresses};
    use atlas_model::worn::RoleIdentity;
    use std::{fs, os::unix::fs::symlink};

    fn server(root: &Path, files: &[(&str, &str)], enabled: &[&str]) -> Site {
        for (path, content) in files {
            let path = root.join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, content).unwrap();
        }
        let wants = root.join("etc/systemd/system/multi-user.target.wants");
        fs::create_dir_all(&wants).unwrap();
        for unit in enabled {
            symlink(format!("/lib/systemd/system/{unit}"), wants.join(unit)).unwrap();
        }
        fs::create_dir_all(root.join("sys/class/net/eth0/device")).unwrap();
        fs::create_dir_all(root.join("sys/class/net/lo")).unwrap();
        let machine = Machine { sys: root.join("sys"), ..Machine::default() };
        Site { root: root.into(), tree: Dir::open_root(root).unwrap(), machine }
    }

    fn new(address: &str) -> NewIdentity {
        NewIdentity {
            hostname: "sec1".parse().unwrap(),
            network: NewNetwork::Write {
                addresses: vec![address.parse().unwrap(), "2001:db8::2/64".parse().unwrap()],
                gateways: vec!["192.168.1.254".parse().unwrap(), "fe80::1".parse().unwrap()],
            },
        }
    }

    /// Each manager's files, as a PRI has them, which file takes the new addresses, and a part of it.
    const MANAGERS: [(&str, &str, &str, &str, &str); 4] = [
        (
            "systemd-networkd.service",
            "etc/systemd/network/20-lan.network",
            "[Match]\nType=ether\n[Network]\nAddress=192.168.1.1/24\n",
            "etc/systemd/network/10-atlas-eth0.network",
            "Name=eth0\n\n[Network]\nAddress=192.168.1.2/24\nAddress=2001:db8::2/64\nGateway=192.168.1.254\nGateway=fe80::1\n",
        ),
        (
            "networking.service",
            "etc/network/interfaces",
            "auto eth0\niface eth0 inet static\n  address 192.168.1.1/24\n",
            "etc/network/interfaces",
            "auto eth0\niface eth0 inet static\n    address 192.168.1.2/24\n    gateway 192.168.1.254\niface eth0 inet6 static\n    address 2001:db8::2/64\n    gateway fe80::1\n",
        ),
        (
            "NetworkManager.service",
            "etc/NetworkManager/system-connections/lan.nmconnection",
            "[ipv4]\naddress1=192.168.1.1/24\n",
            "etc/NetworkManager/system-connections/atlas-eth0.nmconnection",
            "[ipv4]\nmethod=manual\naddress1=192.168.1.2/24\ngateway=192.168.1.254\n",
        ),
        (
            "systemd-networkd.service",
            "etc/netplan/50-cloud-init.yaml",
            "network:\n  ethernets:\n    eth0:\n      addresses: [192.168.1.1/24]\n",
            "etc/netplan/10-atlas.yaml",
            "    eth0:\n      addresses:\n        - \"192.168.1.2/24\"\n        - \"2001:db8::2/64\"\n      routes:\n        - to: \"0.0.0.0/0\"\n",
        ),
    ];

    #[test]
    fn whatever_configures_the_network_gets_the_new_addresses_and_loses_the_old_ones() {
        for (unit, old, content, path, part) in MANAGERS {
            let tmp = tempfile::tempdir().unwrap();
            let files =
                [(old, content), ("etc/hostname", "pri\n"), ("usr/sbin/netplan", ""), ("etc/ssh/sshd_config", "")];
            let site = server(tmp.path(), if old.contains("netplan") { &files } else { &files[..2] }, &[unit]);
            // Twice: as it is when the first time was cut off at its end.
            for _ in 0..2 {
                worn::write(&site.tree, &Worn::UNKNOWN).unwrap();
                apply(&site, &new("192.168.1.2/24"), true).unwrap();
                let written = fs::read_to_string(tmp.path().join(path)).unwrap();
                assert!(written.contains(part), "{unit}: {written}");
                assert!(old == path || !tmp.path().join(old).exists(), "{old} is still there");
                let found = std::process::Command::new("grep")
                    .args(["-r", "192.168.1.1[^0-9]"])
                    .arg(tmp.path().join("etc"))
                    .output()
                    .unwrap();
                assert_eq!(String::from_utf8_lossy(&found.stdout), "", "{unit}");
                assert_eq!(worn::read(&site.tree).unwrap(), Worn::OWN);
            }
            let kept = tmp.path().join("opt/atlas/identity-before").join(old);
            assert_eq!(fs::read_to_string(kept).unwrap(), content, "{unit}");
        }
    }

    #[test]
    fn the_name_is_new_and_other_machines_keep_theirs() {
        let before = "127.0.0.1 localhost\n127.0.1.1 pri.bakery.example pri\n192.168.1.1 pri\n";
        let after = "127.0.0.1 localhost\n127.0.1.1\tsec1.bakery.example sec1\n192.168.1.1 pri\n";
        assert_eq!(hosts_with(before, "sec1"), after);
        assert_eq!(hosts_with("::1 localhost\n", "sec1"), "::1 localhost\n127.0.1.1\tsec1\n");
    }

    #[test]
    fn host_keys_and_the_machine_id_that_the_other_has_are_made_anew() {
        let tmp = tempfile::tempdir().unwrap();
        let files = [
            ("etc/ssh/ssh_host_ed25519_key", "PRI's"),
            ("etc/ssh/sshd_config", ""),
            ("etc/machine-id", "1\n"),
            ("etc/hostname", "pri\n"),
        ];
        let site = server(tmp.path(), &files, &[]);
        let identity = RoleIdentity {
            role: atlas_model::Role::Pri,
            cluster: "bakery".parse().unwrap(),
            set: None,
            paths: vec![TreePath::parse("/etc/machine-id").unwrap()],
        };
        worn::write(&site.tree, &Worn::of(identity)).unwrap();
        let configured = NewIdentity { network: NewNetwork::Configured, ..new("192.168.1.2/24") };
        apply(&site, &configured, true).unwrap();
        let read = |path: &str| fs::read_to_string(tmp.path().join(path)).unwrap();
        assert!(read("etc/ssh/ssh_host_ed25519_key").contains("PRIVATE KEY"));
        assert_eq!((read("etc/machine-id").trim().len(), read("etc/hostname").as_str()), (32, "sec1\n"));
        assert_eq!(worn::read(&site.tree).unwrap(), Worn::OWN);
    }

    fn of_pri(paths: &[&str]) -> Worn {
        let paths = paths.iter().map(|path| TreePath::parse(path).unwrap()).collect();
        let (role, cluster) = (atlas_model::Role::Pri, "bakery".parse().unwrap());
        Worn::of(RoleIdentity { role, cluster, set: None, paths })
    }

    fn seen(site: &Site, worn: &Worn, host: &str) -> Addresses {
        let config = format!("format=1\ncluster='bakery'\nrole='SEC1'\n[[partner]]\nrole='PRI'\nhost='{host}'\n");
        let config = atlas_model::MasterConfig::parse(config.as_bytes()).unwrap();
        Addresses::look(site, worn, &config, None)
    }

    #[test]
    fn the_addresses_of_the_identity_in_place_are_those_of_files_that_nobody_changed_since_it_came() {
        let tmp = tempfile::tempdir().unwrap();
        let network = |last: u8| format!("[Network]\nAddress=192.168.1.{last}/24\nGateway=192.168.1.254\n");
        let lan = "etc/systemd/network/x.network";
        let files = [("etc/hostname", "SEC1\n"), (lan, &*network(1)), ("etc/hosts", "192.168.1.9 pri\n")];
        let site = server(tmp.path(), &files, &["systemd-networkd.service"]);
        let worn = of_pri(&["/etc/systemd/network"]);
        worn::write(&site.tree, &worn).unwrap();
        let at = |last: u8| format!("192.168.1.{last}").parse::<std::net::IpAddr>().unwrap();
        let before = seen(&site, &worn, "pri");
        assert_eq!(before.in_place, [(at(1), lan.to_owned())]);
        assert_eq!(before.partners, [(at(9), "PRI (pri)".to_owned())]);
        assert_eq!(before.worn[0].0, at(1));
        assert!(has_its_name(&site, &new("192.168.1.2/24")));
        assert!(seen(&site, &of_pri(&["/etc/hosts"]), "pri").worn.is_empty(), "the file is not part of that identity");

        // The clock of files is coarse.
        let written = fs::metadata(tmp.path().join("opt/atlas/Identity")).unwrap().modified().unwrap();
        while fs::metadata(tmp.path().join(lan)).unwrap().modified().unwrap() <= written {
            fs::write(tmp.path().join(lan), network(2)).unwrap();
        }
        let after = seen(&site, &worn, "nobody");
        assert_eq!((after.in_place[0].0, after.worn, after.partners), (at(2), vec![], vec![]));
        assert!(after.unknown[0].contains("'nobody', the host of PRI, has no address here"), "{:?}", after.unknown);
    }

    #[test]
    fn what_an_init_that_was_cut_off_has_set_aside_is_known_as_the_others_and_what_it_wrote_is_not() {
        let tmp = tempfile::tempdir().unwrap();
        let lan = "etc/systemd/network/x.network";
        let files = [("etc/hostname", "pri\n"), (lan, "[Network]\nAddress=192.168.1.1/24\n")];
        let site = server(tmp.path(), &files, &["systemd-networkd.service"]);
        let worn = of_pri(&["/etc/systemd/network", "/etc/hostname"]);
        worn::write(&site.tree, &worn).unwrap();
        apply(&site, &new("192.168.1.2/24"), true).unwrap();
        // Cut off before the record: it is put back with its time.
        let modified = std::time::SystemTime::now() - std::time::Duration::from_secs(3600);
        worn::write(&site.tree, &worn).unwrap();
        fs::File::options()
            .write(true)
            .open(tmp.path().join("opt/atlas/Identity"))
            .unwrap()
            .set_modified(modified)
            .unwrap();
        let seen = seen(&site, &worn, "192.168.1.9");
        assert_eq!(seen.worn, [("192.168.1.1".parse().unwrap(), format!("/opt/atlas/identity-before/{lan} has it"))]);
        assert!(!has_its_name(&site, &new("192.168.1.2/24")), "the same command goes on");
    }

    #[test]
    fn what_netplan_is_to_give_an_interface_counts_and_not_what_it_gave_at_the_last_boot() {
        let tmp = tempfile::tempdir().unwrap();
        let yaml = "network:\n  ethernets:\n    eth0:\n      addresses: [192.168.1.2/24, '2001:db8::2/64'] # 10.0.0.1/8\n      \
                    routes: [{to: 10.0.0.0/8, via: 192.168.1.254}]\n      nameservers: {addresses: [192.168.1.1]}\n";
        let old = "[Network]\nAddress=192.168.1.1/24\n";
        let files = [("etc/netplan/50.yaml", yaml), ("run/systemd/network/10-netplan-eth0.network", old)];
        let site = server(tmp.path(), &files, &[]);
        let addresses: Vec<String> =
            seen(&site, &Worn::OWN, "192.168.1.1").in_place.iter().map(|(ip, _)| ip.to_string()).collect();
        assert_eq!(addresses, ["192.168.1.2", "2001:db8::2"]);
    }

    #[test]
    fn what_was_asked_for_and_done_is_known_to_be_so() {
        let tmp = tempfile::tempdir().unwrap();
        let files = [("etc/hostname", "fresh\n"), ("etc/ssh/ssh_host_x_key", "its own")];
        let site = server(tmp.path(), &files, &["systemd-networkd.service"]);
        assert!(!is_as_asked(&site, &new("192.168.1.2/24")));
        apply(&site, &new("192.168.1.2/24"), false).unwrap();
        assert!(is_as_asked(&site, &new("192.168.1.2/24")) && !is_as_asked(&site, &new("192.168.1.3/24")));
        let key = fs::read_to_string(tmp.path().join("etc/ssh/ssh_host_x_key")).unwrap();
        assert_eq!(key, "its own");
    }

    #[test]
    fn where_addresses_cannot_be_written_the_reason_is_given() {
        let tmp = tempfile::tempdir().unwrap();
        let site = server(tmp.path(), &[("etc/hostname", "pri\n")], &["connman.service"]);
        let why = |site: &Site, address: &str, gateway: &str| {
            let network = Network::of(&site.root, &site.machine.sys);
            network.files_for(&[address.parse().unwrap()], &[gateway.parse().unwrap()]).unwrap_err()
        };
        assert!(why(&site, "10.0.0.1/24", "10.0.0.2").contains("--addresses-are-own"));
        let tmp = tempfile::tempdir().unwrap();
        let site = server(tmp.path(), &[], &["networking.service"]);
        assert!(why(&site, "10.0.0.1/24", "10.0.1.2").contains("network of no address"));
        assert!(why(&site, "10.0.0.1/24", "10.0.0.1").contains("the gateway 10.0.0.1 is the address that this server"));
        assert!(why(&site, "10.0.0.1/24@eth7", "10.0.0.2").contains("no interface 'eth7', it has eth0"));
        fs::create_dir_all(tmp.path().join("sys/class/net/eth1/device")).unwrap();
        assert!(why(&site, "10.0.0.1/24", "10.0.0.2").contains("one of eth0, eth1"));
    }
}
