//! One kind of service, as this program finds and exercises it, and what both have to work with.

use crate::{
    installed::Installed,
    pattern::fits,
    seen::{Look, Seen},
    settable,
};
use anyhow::Context;
use atlas_host::{
    process::{Command, Output, ProcessError},
    tree::Dir,
};
use atlas_model::{
    Role,
    verify::{Found, Measure, Profile, Worse},
};
use std::{
    collections::BTreeMap,
    ffi::OsString,
    net::{IpAddr, SocketAddr, TcpStream},
    path::{Component, Path, PathBuf},
    time::{Duration, Instant},
};

/// A kind of service. All of them stand in [`crate::services::SERVICES`].
#[derive(Clone, Copy, Debug)]
pub struct Service {
    /// Its name, a word: `web`, `nfs`.
    pub name: &'static str,
    /// What is exercised, in a line.
    pub about: &'static str,
    /// Within which what is wrong is told, in seconds, unless the settings say otherwise.
    pub interval: u64,
    /// How long one check may take, in seconds, unless the settings say otherwise.
    pub deadline: u64,
    /// SetUp: what is there, by the real configuration. Reads only; what is to be placed is told, not done.
    pub find: fn(&Tree) -> anyhow::Result<Found>,
    /// Verify: exercises one instance. An error means that it could not be exercised, which makes the verdict unknown; a service that does
    /// not do what it should is no error but a [`Profile`].
    pub verify: fn(&Target) -> anyhow::Result<Profile>,
}

/// The largest configuration file that is read, in bytes.
const MAX_CONFIG: usize = 4 << 20;
/// Where it is said that a service is installed elsewhere than Debian does.
const INSTALLED_SERVICES: &str = "etc/atlas/InstalledServices";

/// The server's own tree, in which SetUp looks for services.
#[derive(Debug)]
pub struct Tree {
    path: PathBuf,
    dir: Dir,
    installed: Installed,
    is_running: bool,
    seen: Seen,
}

impl Tree {
    /// Opens the tree below `root` and reads `InstalledServices`.
    pub fn open(root: &Path) -> anyhow::Result<Tree> {
        let dir = Dir::open_root(root).context("open the server's tree")?;
        let content = dir.read_if_there(INSTALLED_SERVICES, MAX_CONFIG)?.unwrap_or_default();
        let mut tree = Tree {
            path: root.to_owned(),
            dir,
            installed: Installed::default(),
            is_running: root == Path::new("/"),
            seen: Seen::default(),
        };
        tree.look(Look::File, INSTALLED_SERVICES);
        tree.installed = Installed::read(&String::from_utf8_lossy(&content), |path| tree.exists(path));
        Ok(tree)
    }

    /// Notes how something is that is about to be looked at.
    pub(crate) fn look(&self, look: Look, path: &str) {
        self.seen.look(self, look, path);
    }

    /// What was looked at.
    pub(crate) fn seen(&self) -> &Seen {
        &self.seen
    }

    /// Whether it is the tree of the running server, whose programs look at it when they are asked.
    pub fn is_running(&self) -> bool {
        self.is_running
    }

    /// Takes its programs for those of the running server.
    #[cfg(test)]
    pub(crate) fn running(self) -> Tree {
        Tree { is_running: true, ..self }
    }

    /// Whether `InstalledServices` names this service.
    pub fn is_named(&self, service: &str) -> bool {
        self.installed.places.contains_key(service)
    }

    /// Where the tree lies; `/` on the running server.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The tree, held open.
    pub fn dir(&self) -> &Dir {
        &self.dir
    }

    /// The directory of configuration that `InstalledServices` names for this service, or else `usual`: absolute.
    pub fn installed<'t>(&'t self, service: &str, usual: &'t str) -> &'t str {
        self.installed.places.get(service).map_or(usual, String::as_str)
    }

    /// What in `InstalledServices` means nothing.
    pub(crate) fn misplaced(&self) -> &[String] {
        &self.installed.problems
    }

    /// A configuration file as text (what is no UTF-8 is replaced), links followed as the service does; `None` where it is not there. `path`
    /// is absolute.
    pub fn read(&self, path: &str) -> anyhow::Result<Option<String>> {
        self.look(Look::File, path);
        match self.dir.read_followed(path.trim_start_matches('/'), MAX_CONFIG) {
            Ok(content) => Ok(Some(String::from_utf8_lossy(&content).into_owned())),
            Err(error) if error.is_not_found() => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Whether something of this absolute path is there, links followed.
    pub fn exists(&self, path: &str) -> bool {
        self.look(Look::There, path);
        self.path.join(path.trim_start_matches('/')).exists()
    }

    /// Where a path leads: every link on the way, each by a path without links, and at last what it leads to. `path` is absolute.
    pub fn way(&self, path: &str) -> Vec<String> {
        self.look(Look::Way, path);
        self.links(path)
    }

    /// The same, unnoted.
    pub(crate) fn links(&self, path: &str) -> Vec<String> {
        let (mut links, mut at) = (vec![], PathBuf::from("/"));
        let mut left: Vec<OsString> = names_of(Path::new(path));
        left.reverse();
        while let Some(name) = left.pop() {
            if name == ".." {
                at.pop();
                continue;
            }
            at.push(&name);
            let Ok(target) = std::fs::read_link(self.path.join(at.strip_prefix("/").unwrap_or(&at))) else { continue };
            links.push(at.to_string_lossy().into_owned());
            if links.len() > MAX_LINKS {
                return links;
            }
            at.pop();
            if target.is_absolute() {
                at = PathBuf::from("/");
            }
            left.extend(names_of(&target).into_iter().rev());
        }
        links.push(at.to_string_lossy().into_owned());
        links
    }

    /// Whether every account may make files in this directory and see what is in it, links followed. In a box to drop things into nobody can clean up.
    pub fn may_all_write(&self, path: &str) -> bool {
        use std::os::unix::fs::PermissionsExt;
        self.look(Look::There, path);
        let meta = std::fs::metadata(self.path.join(path.trim_start_matches('/')));
        meta.is_ok_and(|meta| meta.is_dir() && meta.permissions().mode() & 0o007 == 0o007)
    }

    /// The names in a directory, sorted; none where it is not there. `path` is absolute.
    pub fn names(&self, path: &str) -> Vec<String> {
        self.look(Look::File, path);
        let path = path.trim_start_matches('/');
        let Ok(dir) = self.dir.followed_dir(if path.is_empty() { "." } else { path }) else { return vec![] };
        let mut names: Vec<String> =
            dir.names(10_000).unwrap_or_default().into_iter().filter_map(|name| name.into_string().ok()).collect();
        names.sort();
        names
    }

    /// The paths that fit an absolute pattern, sorted; `*` stands for any characters of a name, `?` for one. A pattern without them is itself,
    /// there or not. At most [`MAX_MATCHES`].
    pub fn matching(&self, pattern: &str) -> Vec<String> {
        let mut found = vec![String::new()];
        for component in pattern.split('/').filter(|component| !component.is_empty()) {
            let fitting = |dir: String| -> Vec<String> {
                if !component.contains(['*', '?', '[']) {
                    return vec![format!("{dir}/{component}")];
                }
                let hidden = component.starts_with('.');
                let names = self.names(&dir).into_iter();
                let names = names.filter(|name| (hidden || !name.starts_with('.')) && fits(component, name));
                names.map(|name| format!("{dir}/{name}")).collect()
            };
            found = found.into_iter().flat_map(fitting).take(MAX_MATCHES).collect();
        }
        found
    }
}

/// The most links on the way to a file, as for the kernel.
const MAX_LINKS: usize = 40;

/// The names in a path, `..` among them.
fn names_of(path: &Path) -> Vec<OsString> {
    let names = path.components().filter(|part| matches!(part, Component::Normal(_) | Component::ParentDir));
    names.map(|part| part.as_os_str().to_owned()).collect()
}

/// The most files that a pattern stands for.
const MAX_MATCHES: usize = 1000;

/// The option that names what lies on the Unbound disks: without it a secondary has nothing to answer with.
pub const DATA: &str = "data";
/// The option that names the addresses that an instance listens on, where those are not all.
pub const BOUND: &str = "bound";

/// The option in which SetUp finds a document root that is not there: one that was is missed.
pub const MISSING: &str = "missing";
/// The option that names the address at which a server comes to an instance of its own, where that is not 127.0.0.1.
pub const LOOPBACK: &str = "loopback";
/// What a server calls itself.
pub const SELF: &str = "localhost";
/// The option that names the addresses that the program of an instance listens on besides, and without which it does not start.
pub const BESIDE: &str = "beside";

/// The option of one that listens on no network.
pub(crate) const SOCKET: &str = "socket";

/// What one check is asked to exercise.
#[derive(Clone, Debug)]
pub struct Target {
    /// Its host name or address, as the caller gave it.
    pub host: String,
    /// Its Role; `None` for an outsider.
    pub role: Option<Role>,
    /// Which instance; empty where there is only one.
    pub instance: String,
    /// What SetUp found of it, and limits from the settings.
    pub options: BTreeMap<String, String>,
    /// When the check has to be over.
    pub until: Instant,
    /// This server's own tree.
    pub root: PathBuf,
}

impl Target {
    /// What was found or set under this key, or, for this instance alone, under `KEY@INSTANCE`.
    pub fn option(&self, key: &str) -> Option<&str> {
        self.options.get(&format!("{key}@{}", self.instance)).or_else(|| self.options.get(key)).map(String::as_str)
    }

    /// Which of the values that count for this instance means nothing, and why.
    pub(crate) fn meaningless(&self, service: &str) -> Option<String> {
        self.options.keys().find_map(|key| {
            let (word, instance) = key.split_once('@').unwrap_or((key, &self.instance));
            let value = self.option(word).filter(|_| instance == self.instance)?;
            settable::meaningless(service, word, value)
        })
    }

    /// What an instance that listens on some addresses alone means for a server: where it is exercised, or why it cannot be there.
    pub fn bound(self) -> Result<Target, String> {
        if let Some(data) = self.option(DATA).filter(|_| self.role.is_some_and(|role| role != Role::Pri)) {
            return Err(format!("not exercised: its data, {data}, comes with PRI's disks"));
        }
        let Some(addresses) = self.option(BOUND).map(str::to_owned) else { return Ok(self) };
        // SetUp has put addresses in the places of names.
        let all: Vec<&str> = addresses.split_whitespace().filter(|at| at.parse::<IpAddr>().is_ok()).collect();
        if all.is_empty() {
            return Ok(self);
        }
        let own = self.address().map(|own| own.to_string()).unwrap_or_default();
        match self.role {
            _ if all.contains(&own.as_str()) => Ok(self),
            // Its clients come to this address, whichever one the server is known by.
            Some(Role::Pri) => Ok(Target { host: all.first().map_or(own, |at| (*at).to_owned()), ..self }),
            Some(_) => Err(format!(
                "not exercised from here: it listens on {} alone, where this server is when it is PRI; it exercises that itself (as-pri)",
                all.join(" and ")
            )),
            None => Ok(self),
        }
    }

    /// Why nobody listens there: the program listens on addresses besides that this secondary does not have, and starts with all of them or not at
    /// all. `None` where that is not why.
    pub(crate) fn waiting(&self) -> Option<String> {
        let addresses = self.option(BESIDE).filter(|_| self.role.is_some_and(|role| role != Role::Pri))?;
        let own = self.address().ok()?.to_string();
        let port = self.port(0).ok()?;
        if addresses.split(' ').any(|at| at == own) {
            return None;
        }
        let refused = TcpStream::connect_timeout(&SocketAddr::new(own.parse().ok()?, port), Duration::from_secs(1));
        let is_refused = refused.is_err_and(|error| error.kind() == std::io::ErrorKind::ConnectionRefused);
        is_refused.then(|| {
            format!(
                "not exercised: its program listens on {} besides, and starts when this server is PRI",
                addresses.replace(' ', " and ")
            )
        })
    }

    /// The port that was found or set, or else the usual one.
    pub fn port(&self, usual: u16) -> anyhow::Result<u16> {
        let Some(port) = self.option("port") else { return Ok(usual) };
        port.parse().with_context(|| format!("port={port} is no port"))
    }

    /// What was found or set under this key; an error that names the key where nothing was.
    pub fn required(&self, key: &str) -> anyhow::Result<&str> {
        self.option(key).with_context(|| format!("'--set {key}=…' is missing"))
    }

    /// The number that was set under this key, or else `usual`.
    pub fn number(&self, key: &str, usual: f64) -> anyhow::Result<f64> {
        let Some(text) = self.option(key) else { return Ok(usual) };
        text.parse()
            .ok()
            .filter(|number: &f64| number.is_finite())
            .with_context(|| format!("{key}={text} is no number"))
    }

    /// A measure with the limits `NAME-slow` and `NAME-unacceptable` of the settings, or else the usual ones.
    pub fn measure(
        &self,
        name: &str,
        value: f64,
        unit: &str,
        usual: (Option<f64>, Option<f64>),
        worse: Worse,
    ) -> anyhow::Result<Measure> {
        let limit = |what: &str, usual: Option<f64>| -> anyhow::Result<Option<f64>> {
            let key = format!("{name}-{what}");
            if self.option(&key).is_none() { Ok(usual) } else { self.number(&key, 0.0).map(Some) }
        };
        let (slow, unacceptable) = (limit("slow", usual.0)?, limit("unacceptable", usual.1)?);
        Ok(Measure { name: name.into(), value, unit: unit.into(), slow, unacceptable, worse })
    }

    /// A time since `start` in milliseconds, as a measure.
    pub fn time(
        &self,
        name: &str,
        start: Instant,
        slow_ms: f64,
        unacceptable_ms: Option<f64>,
    ) -> anyhow::Result<Measure> {
        let value = (start.elapsed().as_secs_f64() * 1e6).round() / 1e3;
        self.measure(name, value, "ms", (Some(slow_ms), unacceptable_ms), Worse::Higher)
    }

    /// How long the check may still take.
    pub fn left(&self) -> Duration {
        self.until.saturating_duration_since(Instant::now())
    }

    /// The host's address. What a name service makes of `localhost` may be of the family that nobody listens on.
    pub fn address(&self) -> anyhow::Result<IpAddr> {
        match self.host == SELF {
            true => resolve(self.option(LOOPBACK).unwrap_or("127.0.0.1"), self.left()),
            false => resolve(&self.host, self.left()),
        }
    }

    /// Connects over TCP; reading and writing have the check's own end as their deadline.
    pub fn connect(&self, port: u16) -> anyhow::Result<Result<TcpStream, std::io::Error>> {
        let address = SocketAddr::new(self.address()?, port);
        let left = self.left().max(Duration::from_millis(1));
        Ok(TcpStream::connect_timeout(&address, left).and_then(|stream| {
            let left = Some(self.left().max(Duration::from_millis(1)));
            stream.set_read_timeout(left).and_then(|()| stream.set_write_timeout(left)).map(|()| stream)
        }))
    }

    /// Runs a client program; inside, that it did not come to an end before the check had to: its server does not answer.
    pub fn client(&self, command: Command) -> Result<Result<Output, String>, ProcessError> {
        match self.run(command) {
            Err(ProcessError::Deadline { deadline, .. }) => {
                // What was asked before has used it up.
                let is_used_up = deadline < Duration::from_millis(50);
                Ok(Err(match is_used_up {
                    true => "no time was left to ask".to_owned(),
                    false => format!("no answer within {:.1} s", deadline.as_secs_f64()),
                }))
            }
            output => output.map(Ok),
        }
    }

    /// Runs a client program, which has to end when the check has to. Another exit status than 0 is no error of its own.
    pub fn run(&self, command: Command) -> Result<Output, ProcessError> {
        command.env("LC_ALL", "C.UTF-8").deadline(self.left().max(Duration::from_millis(1))).output()
    }
}

/// The address of a name, looked up as everything on this server does (`getent`): a static program has no name service.
pub fn resolve(host: &str, deadline: Duration) -> anyhow::Result<IpAddr> {
    if let Ok(address) = host.parse() {
        return Ok(address);
    }
    let output =
        Command::new("getent").args(["ahosts", host]).deadline(deadline.max(Duration::from_millis(1))).output();
    let text = output.map(|output| output.text()).unwrap_or_default();
    let first = text.split_whitespace().next().and_then(|word| word.parse().ok());
    first.with_context(|| format!("this server does not know the address of '{host}'"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_stands_for_what_is_there_and_links_are_followed_within_the_tree() {
        let tmp = tempfile::tempdir().unwrap();
        let at = |path: &str| tmp.path().join(path);
        for dir in ["etc/web/enabled", "etc/web/available"] {
            std::fs::create_dir_all(at(dir)).unwrap();
        }
        for (path, content) in
            [("etc/web/available/shop", "shop"), ("etc/web/enabled/.old.conf", ""), ("etc/web/enabled/a.conf", "a")]
        {
            std::fs::write(at(path), content).unwrap();
        }
        std::os::unix::fs::symlink("/etc/web/available/shop", at("etc/web/enabled/shop.conf")).unwrap();
        std::os::unix::fs::symlink("../../../../etc/hostname", at("etc/web/enabled/out.conf")).unwrap();
        let tree = Tree::open(tmp.path()).unwrap();
        let found = tree.matching("/etc/web/enabled/*.conf");
        assert_eq!(found, ["/etc/web/enabled/a.conf", "/etc/web/enabled/out.conf", "/etc/web/enabled/shop.conf"]);
        assert_eq!(tree.read(&found[2]).unwrap().as_deref(), Some("shop"));
        assert_eq!(tree.read(&found[1]).unwrap(), None);
        assert_eq!(tree.matching("/etc/w?b/*/shop"), ["/etc/web/available/shop", "/etc/web/enabled/shop"]);
    }

    #[test]
    fn a_path_travels_with_every_link_on_its_way() {
        let tmp = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(tmp.path().join("srv/tls")).unwrap();
        std::fs::create_dir_all(tmp.path().join("etc")).unwrap();
        std::fs::write(tmp.path().join("srv/tls/chain-17.pem"), "").unwrap();
        std::os::unix::fs::symlink("chain-17.pem", tmp.path().join("srv/tls/chain.pem")).unwrap();
        std::os::unix::fs::symlink("../srv/tls", tmp.path().join("etc/tls")).unwrap();
        std::os::unix::fs::symlink("round", tmp.path().join("etc/round")).unwrap();
        let tree = Tree::open(tmp.path()).unwrap();
        assert_eq!(tree.way("/etc/tls/chain.pem"), ["/etc/tls", "/srv/tls/chain.pem", "/srv/tls/chain-17.pem"]);
        assert_eq!(tree.way("/etc/gone"), ["/etc/gone"]);
        assert!(tree.way("/etc/round/x").len() > MAX_LINKS);
    }

    #[test]
    fn what_listens_on_pri_s_address_is_exercised_there_and_on_no_secondary() {
        let target = |role, host: &str, options: &[(&str, &str)]| Target {
            host: host.into(),
            role,
            instance: String::new(),
            options: options.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect(),
            until: Instant::now() + Duration::from_secs(5),
            root: "/".into(),
        };
        let bound = [(BOUND, "192.0.2.10 192.0.2.11")];
        let host =
            |role, host: &str, options: &[(&str, &str)]| target(role, host, options).bound().map(|target| target.host);
        assert_eq!(host(Some(Role::Sec(1)), "192.0.2.1", &[]).as_deref(), Ok("192.0.2.1"));
        assert_eq!(host(Some(Role::Pri), "192.0.2.2", &bound).as_deref(), Ok("192.0.2.10"));
        assert_eq!(host(Some(Role::Pri), "192.0.2.11", &bound).as_deref(), Ok("192.0.2.11"));
        assert_eq!(host(None, "192.0.2.2", &bound).as_deref(), Ok("192.0.2.2"));
        assert!(host(Some(Role::Sec(1)), "192.0.2.1", &bound).unwrap_err().contains("192.0.2.10 and 192.0.2.11 alone"));
        // A port that nobody has, and one that somebody has.
        let open = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let (used, free) = (open.local_addr().unwrap().port().to_string(), "1");
        let waits = |role, port: &str, beside: &[(&str, &str)]| {
            target(role, "127.0.0.1", &[&[("port", port)], beside].concat()).waiting().is_some()
        };
        let beside = [(BESIDE, "192.0.2.10")];
        assert!(waits(Some(Role::Sec(1)), free, &beside));
        assert!(!waits(Some(Role::Sec(1)), &used, &beside), "somebody listens, and that it is wrong is another matter");
        assert!(!waits(Some(Role::Pri), free, &beside) && !waits(None, free, &beside));
        assert!(!waits(Some(Role::Sec(1)), free, &[]) && !waits(Some(Role::Sec(1)), free, &[(BESIDE, "127.0.0.1")]));
    }
}
