//! What one service is found to have, put together piece by piece, each once.

use crate::{
    seen::Look,
    service::{BESIDE, BOUND, LOOPBACK, SOCKET, Target, Tree},
};
use atlas_model::{
    TreePath, reserved,
    verify::{At, Found, Instance, MAX_ITEMS, Profile, TestData},
};
use atlas_sid::layout::UNBOUND_MOUNT;
use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    path::Path,
};

/// A [`Found`] in the making.
#[derive(Debug)]
pub(super) struct Finding(Found);

impl Default for Finding {
    fn default() -> Finding {
        Finding(Found { format: 1, ..Found::default() })
    }
}

/// A server that listens on no network, only on a socket of its own: no partner can come to it, and whether it runs is looked at by `services`.
pub(super) fn on_a_socket(name: &str) -> Instance {
    Instance { name: name.into(), options: BTreeMap::from([(SOCKET.into(), "only".into())]), at: At::Here }
}

/// What is to be said of such a one.
pub(super) fn is_on_a_socket(target: &Target) -> Option<Profile> {
    let told = "not exercised: it listens on a socket alone; 'services' says whether it runs";
    target.option(SOCKET).map(|_| Profile::ok(told))
}

impl Finding {
    /// Whether nothing was found.
    pub(super) fn is_empty(&self) -> bool {
        self.0.instances.is_empty()
    }

    /// Adds a file or directory to synchronise, where it is there, with every link on the way to it. One that belongs to this machine
    /// alone is a problem; what a package brought is there on every server.
    pub(super) fn path(&mut self, tree: &Tree, path: &str) {
        // What stands in a directory of links and is renewed there, under other names each time, is only whole as a whole.
        let path = if path.starts_with("/etc/letsencrypt/") { "/etc/letsencrypt" } else { path };
        if is_on_pris_disks(path) {
            self.problem(format!(
                "{path} is on the Unbound disks, which only PRI has: a secondary cannot start with it, and is not verified with it, \
                 before the swap; put it elsewhere, below /etc or /srv, from where it is synchronised"
            ));
        } else if tree.exists(path) {
            tree.way(path).iter().for_each(|path| {
                // The daemon reads it, too, and may be asked.
                tree.look(Look::Under, path);
                self.one(path);
            });
        }
    }

    /// Adds a link, and nothing of what it leads to.
    pub(super) fn link(&mut self, link: &str) {
        // The Unbound disks have their own.
        if !is_on_pris_disks(link) {
            self.one(link);
        }
    }

    fn one(&mut self, path: &str) {
        let path = path.trim_end_matches('/');
        let is_within = |known: &String| {
            path.strip_prefix(known.as_str()).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        };
        if path.is_empty() || is_packaged(path) || self.0.paths.iter().any(is_within) {
            return;
        }
        if self.0.paths.len() >= MAX_ITEMS {
            return self.problem(format!("there are more than {MAX_ITEMS} files; the rest is not synchronised"));
        }
        let why = match TreePath::parse(path).map(|path| reserved::why(&path)) {
            Ok(None) => {
                let is_below = |known: &str| known.strip_prefix(path).is_some_and(|rest| rest.starts_with('/'));
                self.0.paths.retain(|known| !is_below(known));
                return self.0.paths.push(path.to_owned());
            }
            Ok(Some(why)) => why.to_owned(),
            Err(error) => error.to_string(),
        };
        self.problem(format!("the configuration names {path}, which cannot be the same on every server: {why}"));
    }

    /// Adds an instance; one of the same name is another only where the name is taken, and then gets a number.
    pub(super) fn instance(&mut self, mut instance: Instance) {
        if self.0.instances.len() >= MAX_ITEMS {
            return self.problem(format!("there are more than {MAX_ITEMS}; the rest is not exercised"));
        }
        let known = |name: &str| self.0.instances.iter().find(|known| known.name == name);
        if known(&instance.name).is_some_and(|known| known.options == instance.options) {
            return;
        }
        let name = instance.name.clone();
        for number in 2..=MAX_ITEMS {
            if known(&instance.name).is_none() {
                break;
            }
            instance.name = format!("{name}#{number}");
        }
        self.0.instances.push(instance);
    }

    /// Adds test data, once per path.
    pub(super) fn place(&mut self, data: TestData) {
        if !self.0.place.iter().any(|known| known.path == data.path) && self.0.place.len() < MAX_ITEMS {
            self.0.place.push(data);
        }
    }

    /// Says what could not be made out; each thing once, and no more than a person reads.
    pub(super) fn problem(&mut self, problem: String) {
        if !self.0.problems.contains(&problem) && self.0.problems.len() < 20 {
            self.0.problems.push(problem);
        }
    }

    /// Says what is not exercised and why, and what was not asked; each thing once.
    pub(super) fn note(&mut self, note: String) {
        if !self.0.notes.contains(&note) && self.0.notes.len() < 20 {
            self.0.notes.push(note);
        }
    }

    /// The whole.
    pub(super) fn done(self) -> Found {
        self.0
    }
}

/// Whether a path lies where only PRI has anything.
pub(super) fn is_on_pris_disks(path: &str) -> bool {
    Path::new(path).starts_with(Path::new("/").join(UNBOUND_MOUNT))
}

/// Whether only this server itself can send to this address.
pub(super) fn is_loopback(address: &str) -> bool {
    let address = address.trim_start_matches('[').trim_end_matches(']');
    address.starts_with("127.") || ["::1", "localhost", "ip6-localhost", "loopback", "lo"].contains(&address)
}

/// The option for who listens on some addresses alone, neither on all nor on this server's own; `None` where it is not so. Names of hosts and
/// interfaces stay, and SetUp puts addresses in their places.
pub(super) fn bound<'a>(addresses: impl IntoIterator<Item = &'a str>) -> Option<(String, String)> {
    let mut known = vec![];
    for address in addresses.into_iter().filter(|address| !is_loopback(address)) {
        let address = address.trim_start_matches('[').trim_end_matches(']');
        let address = match address.parse::<IpAddr>() {
            Ok(address) if address.is_unspecified() => return None,
            Ok(address) => address.to_string(),
            Err(_) if is_name(address) => address.to_owned(),
            Err(_) => return None,
        };
        if !known.contains(&address) {
            known.push(address);
        }
    }
    (!known.is_empty()).then(|| (BOUND.to_owned(), known.join(" ")))
}

/// What daemons call all addresses, or those of loopback.
const NO_NAMES: [&str; 4] = ["all", "any", "default", "loopback-only"];

/// Whether an interface, or a host, can have this name.
fn is_name(text: &str) -> bool {
    !NO_NAMES.contains(&text)
        && text.starts_with(|c: char| c.is_ascii_alphabetic())
        && text.chars().all(|c| c.is_ascii_alphanumeric() || "._-:".contains(c))
}

/// Whether `::` means IPv6 alone to a daemon, or IPv4 as well.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Six {
    Alone,
    AndFour,
}

/// Who exercises what listens on these addresses, and the options that say where. Partners know each other by one address, mostly of IPv4: what
/// is of IPv6 alone is exercised by each server itself.
pub(super) fn reached<'a>(
    addresses: impl Iterator<Item = &'a str> + Clone,
    six: Six,
) -> (At, impl Iterator<Item = (String, String)>) {
    let parsed = addresses.clone().map(|at| at.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>().ok());
    let is_six = |at: Option<IpAddr>| at == Some(IpAddr::V6(Ipv6Addr::UNSPECIFIED)) && six == Six::Alone;
    let is_here = addresses.clone().next().is_some()
        && addresses.clone().zip(parsed.clone()).all(|(text, at)| is_loopback(text) || is_six(at));
    // By a name, or for all, it is there at the usual one.
    let usual = |at: &Option<IpAddr>| {
        at.is_none_or(|at| at == Ipv4Addr::LOCALHOST || (at.is_unspecified() && !is_six(Some(at))))
    };
    let first =
        parsed.clone().find_map(|at| at.map(|at| if at.is_unspecified() { "::1".to_owned() } else { at.to_string() }));
    let loopback =
        first.filter(|_| is_here && !parsed.clone().any(|at| usual(&at))).map(|at| (LOOPBACK.to_owned(), at));
    let at = if is_here { At::Here } else { At::Partners };
    (at, bound(addresses).into_iter().chain(loopback))
}

/// Says of each instance of one program that it is not there, either, where an address is not that another one listens on: such a program starts
/// with all that it is to listen on, or not at all.
pub(super) fn beside(instances: &mut [Instance]) {
    let all: BTreeSet<String> = instances
        .iter()
        .filter_map(|one| one.options.get(BOUND))
        .flat_map(|addresses| addresses.split(' ').map(str::to_owned))
        .collect();
    let all = all.into_iter().collect::<Vec<_>>().join(" ");
    for one in instances.iter_mut().filter(|one| !all.is_empty() && !one.options.contains_key(BOUND)) {
        one.options.insert(BESIDE.to_owned(), all.clone());
    }
}

/// Whether packages bring and renew this file on every server.
fn is_packaged(path: &str) -> bool {
    let own = path.starts_with("/usr/local/");
    path.starts_with("/usr/") && !own || path == "/etc/ssl/certs/ca-certificates.crt"
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    #[test]
    fn who_listens_on_some_addresses_alone_is_bound_to_them() {
        let of = |addresses: &[&str]| bound(addresses.iter().copied()).map(|(_, addresses)| addresses);
        assert_eq!(of(&["192.0.2.1", "127.0.0.1", "[2001:db8::1]"]).as_deref(), Some("192.0.2.1 2001:db8::1"));
        assert_eq!(of(&["lo", "lan0", "www.example"]).as_deref(), Some("lan0 www.example"));
        for all in [&[][..], &[""], &["*"], &["0.0.0.0"], &["192.0.2.1", "::"], &["127.0.0.1"], &["eth*"], &["all"]] {
            assert_eq!(of(all), None, "{all:?}");
        }
    }

    #[test]
    fn a_server_comes_to_its_own_services_where_they_listen() {
        let of = |addresses: &[&str], six| {
            let (at, options) = reached(addresses.iter().copied(), six);
            (at, options.map(|(key, value)| format!("{key}={value}")).collect::<Vec<_>>().join(" "))
        };
        for (addresses, six, at, options) in [
            (&["127.0.0.1", "::1"][..], Six::Alone, At::Here, ""),
            (&["localhost"], Six::Alone, At::Here, ""),
            (&["[::1]"], Six::Alone, At::Here, "loopback=::1"),
            (&["127.0.0.2"], Six::AndFour, At::Here, "loopback=127.0.0.2"),
            (&["::"], Six::Alone, At::Here, "loopback=::1"),
            (&["::"], Six::AndFour, At::Partners, ""),
            (&["::", "0.0.0.0"], Six::Alone, At::Partners, ""),
            (&["", "::"], Six::Alone, At::Partners, ""),
            (&["192.0.2.1", "::1"], Six::Alone, At::Partners, "bound=192.0.2.1"),
            (&[], Six::Alone, At::Partners, ""),
        ] {
            assert_eq!(of(addresses, six), (at, options.to_owned()), "{addresses:?}");
        }
    }

    #[test]
    fn one_that_listens_elsewhere_keeps_those_beside_it_from_starting() {
        let one = |bound: Option<&str>| Instance {
            options: bound.into_iter().map(|at| (BOUND.to_owned(), at.to_owned())).collect(),
            ..Instance::default()
        };
        let mut all = [one(None), one(Some("192.0.2.1")), one(Some("192.0.2.1 192.0.2.2"))];
        beside(&mut all);
        assert_eq!(all[0].options[BESIDE], "192.0.2.1 192.0.2.2");
        assert!(!all[1].options.contains_key(BESIDE));
        let mut none = [one(None)];
        beside(&mut none);
        assert!(none[0].options.is_empty());
    }

    #[test]
    fn a_store_whose_names_rotate_travels_as_a_whole() {
        let server = crate::here::testing::Server::with(&[
            ("etc/letsencrypt/archive/a/fullchain3.pem", ""),
            ("etc/letsencrypt/renewal/a.conf", ""),
            ("srv/acme/a-17.pem", ""),
        ]);
        server.link("../../archive/a/fullchain3.pem", "etc/letsencrypt/live/a/fullchain.pem");
        server.link("a-17.pem", "srv/acme/a.pem");
        let mut finding = Finding::default();
        finding.path(&server.tree(), "/etc/letsencrypt/live/a/fullchain.pem");
        finding.path(&server.tree(), "/srv/acme/a.pem");
        assert_eq!(finding.done().paths, ["/etc/letsencrypt", "/srv/acme/a.pem", "/srv/acme/a-17.pem"]);
    }

    #[test]
    fn everything_is_found_once_and_what_belongs_to_one_machine_is_a_problem() {
        let tmp = tempfile::tempdir().unwrap();
        for dir in ["etc/web", "boot/grub"] {
            std::fs::create_dir_all(tmp.path().join(dir)).unwrap();
        }
        let tree = Tree::open(tmp.path()).unwrap();
        let mut finding = Finding::default();
        for path in ["/etc/web", "/etc/web/", "/etc/gone", "/boot/grub"] {
            finding.path(&tree, path);
        }
        for root in ["a", "a", "b"] {
            let options = BTreeMap::from([("root".to_owned(), root.to_owned())]);
            finding.instance(Instance { name: "*:80".into(), options, ..Instance::default() });
        }
        let found = finding.done();
        assert_eq!(found.paths, ["/etc/web"]);
        assert!(found.problems[0].contains("/boot/grub"), "{found:?}");
        assert_eq!(
            found.instances.iter().map(|instance| instance.name.as_str()).collect::<Vec<_>>(),
            ["*:80", "*:80#2"]
        );
    }
}
