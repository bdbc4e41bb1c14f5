//! Whether two servers wear one identity: what each of them says of its own, compared before anything is written.
//!
//! Digests of the ssh host keys and the addresses that its configuration gives it are those of one server; where two have them, one wears
//! the other's, and both are refused. Machine ids may be equal where one server was copied from the other; that is a matter for
//! somebody to look at.

use atlas_host::{net::addresses, tree::Dir};
use atlas_model::{Digest, Role};
use atlas_sid::addresses::on_wires;
use serde::{Deserialize, Serialize};
use std::{collections::BTreeSet, net::IpAddr};

const SSH: &str = "etc/ssh";
const MAX_FILE: usize = 64 << 10;
/// More keys or addresses than a server has; what comes beyond is not looked at.
const MOST: usize = 256;

/// What a server says of the identity in place. A partner of before says nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Wears {
    /// Its name.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub(crate) hostname: String,
    /// Digests of its ssh host keys.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub(crate) host_keys: BTreeSet<Digest>,
    /// The addresses that its configuration gives it.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub(crate) addresses: BTreeSet<IpAddr>,
    /// The digest of its machine id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) machine_id: Option<Digest>,
}

impl Wears {
    /// What is in place below `root`. What cannot be read is left out: it is no reason not to talk to a partner.
    pub(crate) fn of(root: &Dir) -> Wears {
        let read = |path: &str| root.read_if_there(path, MAX_FILE).ok().flatten();
        let first_word = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).split_whitespace().next().map(str::to_owned);
        Wears {
            hostname: read("etc/hostname").and_then(first_word).unwrap_or_default(),
            host_keys: host_keys(root),
            addresses: on_wires(&addresses::read(root)).take(MOST).collect(),
            machine_id: read("etc/machine-id")
                .and_then(first_word)
                .filter(|id| id.len() == 32)
                .map(|id| Digest::of(id.as_bytes())),
        }
    }
}

/// Of the key itself: its comment may differ.
fn host_keys(root: &Dir) -> BTreeSet<Digest> {
    let key = |dir: &Dir, name: &std::ffi::OsStr| -> Option<Digest> {
        let text = String::from_utf8(dir.read(name, MAX_FILE).ok()?).ok()?;
        text.split_whitespace().nth(1).map(|key| Digest::of(key.as_bytes()))
    };
    let Ok(dir) = root.dir(SSH) else { return BTreeSet::new() };
    let names = dir.names(10_000).unwrap_or_default();
    let public = names
        .iter()
        .filter(|name| name.to_str().is_some_and(|name| name.starts_with("ssh_host_") && name.ends_with(".pub")));
    public.filter_map(|name| key(&dir, name)).take(MOST).collect()
}

/// Why the identities of two Roles are one; `Ok` where they are two.
pub(crate) fn compare(own: (Role, &Wears), other: (Role, &Wears)) -> Result<(), String> {
    let ((own_role, own), (other_role, other)) = (own, other);
    let mut same = Vec::new();
    if own.host_keys.intersection(&other.host_keys).next().is_some() {
        same.push("ssh host keys".to_owned());
    }
    let addresses: Vec<String> = own.addresses.intersection(&other.addresses).take(8).map(IpAddr::to_string).collect();
    if !addresses.is_empty() {
        same.push(format!("addresses ({})", addresses.join(", ")));
    }
    if same.is_empty() {
        return Ok(());
    }
    // The same words at both ends, whichever asks.
    let (first, second) = (own_role.min(other_role), own_role.max(other_role));
    Err(format!(
        "{first} and {second} have the same {}: one of them wears the other's identity; give it its own with 'atlas init … --hostname NAME --address ADDRESS/LENGTH'",
        same.join(" and ")
    ))
}

/// What two Roles have in common that somebody should look at.
pub(crate) fn in_common(own: &Wears, other: &Wears) -> Vec<&'static str> {
    let mut common = Vec::new();
    if !own.hostname.is_empty() && own.hostname.eq_ignore_ascii_case(&other.hostname) {
        common.push("host name");
    }
    if own.machine_id.is_some() && own.machine_id == other.machine_id {
        common.push("machine id");
    }
    common
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{fs, path::Path};

    fn server(root: &Path, name: &str, key: &str, address: &str) -> Wears {
        for (path, content) in [
            ("etc/hostname", format!("{name}\n")),
            ("etc/machine-id", "0123456789abcdef0123456789abcdef\n".to_owned()),
            ("etc/ssh/ssh_host_ed25519_key.pub", format!("ssh-ed25519 {key} root@{name}\n")),
            ("etc/ssh/ssh_host_ed25519_key", "secret".to_owned()),
            (
                "etc/systemd/network/10-lan.network",
                format!("[Match]\nName=eth0\n[Network]\nAddress={address}/24\nAddress=127.0.0.2/8\n"),
            ),
        ] {
            let path = root.join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, content).unwrap();
        }
        Wears::of(&Dir::open_root(root).unwrap())
    }

    #[test]
    fn equal_host_keys_and_addresses_of_two_roles_are_named_alike_at_both_ends() {
        let [one, two] = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
        let pri = server(one.path(), "pri", "AAAA1", "10.0.0.1");
        let sec = Role::Sec(1);
        for (key, address, expected) in [
            ("AAAA2", "10.0.0.2", None),
            ("AAAA1", "10.0.0.2", Some("PRI and SEC1 have the same ssh host keys: ")),
            ("AAAA2", "10.0.0.1", Some("PRI and SEC1 have the same addresses (10.0.0.1): ")),
            ("AAAA1", "10.0.0.1", Some("PRI and SEC1 have the same ssh host keys and addresses (10.0.0.1): ")),
        ] {
            let other = server(two.path(), "sec1", key, address);
            let (at_pri, at_sec) =
                (compare((Role::Pri, &pri), (sec, &other)), compare((sec, &other), (Role::Pri, &pri)));
            assert_eq!(at_pri, at_sec);
            match expected {
                None => assert_eq!(at_pri, Ok(())),
                Some(text) => assert!(at_pri.as_ref().is_err_and(|why| why.starts_with(text)), "{at_pri:?}"),
            }
        }
    }

    #[test]
    fn the_address_of_a_bridge_without_a_wire_may_be_that_of_another_server() {
        let tmp = tempfile::tempdir().unwrap();
        for (path, content) in [
            ("br.netdev", "[NetDev]\nName=br0\nKind=bridge\n"),
            ("br.network", "[Match]\nName=br0\n[Network]\nAddress=10.0.3.1/24\n"),
            ("lan.network", "[Match]\nName=eth0\n[Network]\nAddress=10.0.0.1/24\nAddress=169.254.0.2/16\n"),
        ] {
            let dir = tmp.path().join("etc/systemd/network");
            fs::create_dir_all(&dir).unwrap();
            fs::write(dir.join(path), content).unwrap();
        }
        let wears = Wears::of(&Dir::open_root(tmp.path()).unwrap());
        assert_eq!(wears.addresses, ["10.0.0.1".parse().unwrap()].into());
    }

    #[test]
    fn what_a_copied_machine_has_in_common_is_found_and_a_partner_of_before_has_nothing() {
        let [one, two] = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
        let pri = server(one.path(), "pri", "AAAA1", "10.0.0.1");
        assert_eq!(in_common(&pri, &server(two.path(), "PRI", "AAAA2", "10.0.0.2")), ["host name", "machine id"]);
        let before = Wears::default();
        assert!(in_common(&pri, &before).is_empty() && in_common(&before, &before).is_empty());
        assert_eq!(compare((Role::Pri, &pri), (Role::Sec(1), &before)), Ok(()));
        assert_eq!(compare((Role::Pri, &before), (Role::Sec(1), &before)), Ok(()));
    }
}
