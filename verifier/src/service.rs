//! One kind of service, as this program finds and exercises it, and what both have to work with.

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
    net::{IpAddr, SocketAddr, TcpStream},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

/// A kind of service. All of them stand in [`crate::services::SERVICES`].
#[derive(Clone, Copy, Debug)]
pub struct Service {
    /// Its name, a word: `web`, `nfs`.
    pub name: &'static str,
    /// What is exercised, in a line.
    pub about: &'static str,
    /// How often, in seconds, unless the settings say otherwise.
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
    installed: BTreeMap<String, String>,
}

impl Tree {
    /// Opens the tree below `root` and reads `InstalledServices`: TOML, `nginx = "/usr/local/nginx"`.
    pub fn open(root: &Path) -> anyhow::Result<Tree> {
        let dir = Dir::open_root(root).context("open the server's tree")?;
        let content = dir.read_if_there(INSTALLED_SERVICES, MAX_CONFIG)?.unwrap_or_default();
        let text = String::from_utf8(content).context("read InstalledServices")?;
        let installed =
            toml::from_str(&text).with_context(|| format!("read {}", dir.show(INSTALLED_SERVICES).display()))?;
        Ok(Tree { path: root.to_owned(), dir, installed })
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
        self.installed.get(service).map_or(usual, String::as_str)
    }

    /// A configuration file as text (what is no UTF-8 is replaced); `None` where it is not there. `path` is absolute.
    pub fn read(&self, path: &str) -> anyhow::Result<Option<String>> {
        let path = path.trim_start_matches('/');
        let Some(content) = self.dir.read_if_there(path, MAX_CONFIG)? else { return Ok(None) };
        Ok(Some(String::from_utf8_lossy(&content).into_owned()))
    }

    /// Whether something of this absolute path is there, links followed.
    pub fn exists(&self, path: &str) -> bool {
        self.path.join(path.trim_start_matches('/')).exists()
    }

    /// The names in a directory, sorted; none where it is not there. `path` is absolute.
    pub fn names(&self, path: &str) -> Vec<String> {
        let Ok(dir) = self.dir.dir(path.trim_start_matches('/')) else { return vec![] };
        let mut names: Vec<String> =
            dir.names(10_000).unwrap_or_default().into_iter().filter_map(|name| name.into_string().ok()).collect();
        names.sort();
        names
    }
}

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
    /// What was found or set under this key.
    pub fn option(&self, key: &str) -> Option<&str> {
        self.options.get(key).map(String::as_str)
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

    /// The host's address.
    pub fn address(&self) -> anyhow::Result<IpAddr> {
        resolve(&self.host, self.left())
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
