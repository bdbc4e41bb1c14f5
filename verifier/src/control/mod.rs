//! VerifierControl: runs every VerifyService at its interval, and tells what came of it [448-450].
//!
//! ```text
//!  checks      one thread each: VerifyServiceN verify ─────────┐
//!  partners    one thread each: asks its Verifier every 2 s ───┼─► board ─► main thread: /run/atlas/verifier.json, state, log, alerts
//!  finder      every 45 s: what is here, cold boot's facts ────┘              │
//!  put-back    on PRI, every 5 s: test data that a new release of a site took away
//!  keeper      writes state and log to /unbound, reads notes ───┘              │
//!  port 7311   partners and Prometheus ask ◄─────────────────────────────────┘
//! ```
//!
//! Invariants: the main thread waits for nobody: what may hang runs in a thread, or a process, of its own; an instance has one thread, so that
//! two of its checks never run at once.

mod edits;
mod finder;
mod pace;
mod partners;
mod program;
mod runner;

pub use program::{Args, Mode, command, run};

use crate::{
    alerts::{self, channel::Channels},
    board::{Board, Shown, now},
    catalogue::{self, Known},
    drift, exchange, here,
    keeper::Keeper,
    orphaned, settable,
    settings::Settings,
    setup,
    store::{Event, Store},
};
use anyhow::Context;
use atlas_cli::{Hint, in_one_line};
use atlas_host::{
    durable,
    tree::{Dir, Rename},
};
use atlas_model::{
    EnvVersion, MasterConfig, Role,
    cycle::REPORTS,
    verify::{FINDINGS, Fault, Profile, Services, Verdict},
};
use atlas_sid::{BoundData, SidData, layout::UNBOUND_MOUNT};
use finder::Finder;
use pace::Pace;
use partners::Partners;
use procfs::{Current, LoadAverage};
use runner::Runner;
use std::{
    ffi::OsStr,
    os::unix::net::UnixDatagram,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

/// How often it is said that this Verifier lives, news or not.
const BEAT: Duration = Duration::from_secs(3);
/// How often it is looked whether settings or services have changed.
const LOOK_AGAIN: Duration = Duration::from_secs(5);
/// How long the Unbound disks may take to keep something before that is reported.
const SILENT: Duration = Duration::from_secs(10);
/// How soon an answer is written to disk that says nothing new.
const SAVE: Duration = Duration::from_secs(60);

/// Who this server is, as the Verifier needs it.
#[derive(Debug)]
pub struct Identity {
    /// Where its tree lies.
    pub root: PathBuf,
    /// What the Unbound set says.
    pub config: MasterConfig,
    /// Which Environment it is.
    pub env_version: EnvVersion,
    /// The Sync and Identity Data.
    pub sid: SidData,
}

impl Identity {
    /// Reads it.
    ///
    /// # Errors
    /// Where the server was never set up, or its Unbound set is not mounted.
    pub fn read(root: &Path) -> anyhow::Result<Identity> {
        let tree = Dir::open_root(root).context("open the server's tree")?;
        let bound = BoundData::read(&tree)?
            .context("this server was never set up: it has no EnvID")
            .hint("run 'atlas init' first; 'atlas init --help' shows how")?;
        let unbound = tree.dir(UNBOUND_MOUNT).context("open the Unbound file system")?;
        let sid = SidData::open(&unbound)
            .context("read who this server is")
            .hint("see /run/atlas/boot.json for why the last boot did not mount the Unbound set; without that file it was no boot of ATLAS': reboot")?;
        let config = sid.master_config().context("read who this server is")?;
        Ok(Identity { root: root.to_owned(), config, env_version: bound.env_id, sid })
    }
}

/// What SetUp on PRI found; nothing before it came here.
pub fn services(root: &Path) -> anyhow::Result<Services> {
    let path = format!("{}/Services.json", exchange::DIRECTORY);
    let tree = Dir::open_root(root)?;
    let Some(content) = tree.read_if_there(&path, 4 << 20)? else { return Ok(Services::default()) };
    let services: Services = serde_json::from_slice(&content).with_context(|| format!("read /{path}"))?;
    anyhow::ensure!(services.format == 1, "/{path} is of format {}; this program reads format 1", services.format);
    Ok(services)
}

/// A program of ATLAS that lies beside this one.
pub fn beside(name: &str) -> PathBuf {
    let own = std::env::current_exe().ok().map(|own| own.with_file_name(name)).filter(|path| path.exists());
    let called = || {
        let own = std::env::args_os().next().map(PathBuf::from).filter(|own| own.components().count() > 1);
        own.map(|own| own.with_file_name(name)).filter(|path| path.exists())
    };
    called().or(own).unwrap_or_else(|| Path::new("/opt/atlas/bin").join(name))
}

/// A VerifierControl that runs.
struct Control {
    identity: Identity,
    board: Arc<Board>,
    keeper: Keeper,
    settings: Settings,
    /// Whether they are those of the file, now or at some time.
    has_settings: bool,
    channels: Channels,
    runner: Runner,
    pace: Arc<Pace>,
    finder: Finder,
    saved: Instant,
    drift_off: Arc<AtomicBool>,
}

/// Waits until this server is somebody: one that was not set up yet, or whose Unbound set is not there, has nothing to verify.
fn who_it_is(root: &Path) -> Identity {
    let mut last = String::new();
    loop {
        match Identity::read(root) {
            Ok(identity) => return identity,
            Err(error) => {
                let why = in_one_line(&error);
                if why != last {
                    tracing::info!("nothing to verify yet: {why}");
                    last = why;
                }
            }
        }
        say("READY=1");
        say("WATCHDOG=1");
        std::thread::sleep(LOOK_AGAIN);
    }
}

/// Runs until it is stopped.
///
/// # Errors
/// Where its port cannot be had.
fn control(root: &Path) -> anyhow::Result<()> {
    atlas_cli::log::begin();
    let identity = who_it_is(root);
    let (role, env_version) = (identity.config.role(), identity.env_version);
    let store = Store::open(&identity.sid, role, env_version)?;
    // Settings that nobody can read are a problem, and no reason to verify nothing.
    let read = Settings::read(root).inspect_err(|error| tracing::error!("the settings: {error:#}"));
    let has_settings = read.is_ok();
    let settings = read.unwrap_or_default();
    let boot = here::text(root, "proc/sys/kernel/random/boot_id").unwrap_or_default();
    let board = Arc::new(Board::new(role, env_version, store.load().taken_over_by(boot)));
    let shown = Shown { board: Arc::clone(&board), root: root.to_owned(), metrics_from: settings.metrics_from.clone() };
    exchange::serve(&settings.listen, &Arc::new(shown))
        .hint("is another VerifierControl running? ss -ltnp 'sport = :7311'")?;
    let processors = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let pace = Arc::new(Pace::new(processors));
    let mut control = Control {
        channels: Channels::start(&settings.channels, root),
        finder: Finder::start(root, beside("VerifyService"), Arc::clone(&board)),
        runner: Runner::new(Arc::clone(&board), Arc::clone(&pace)),
        pace,
        identity,
        board,
        keeper: Keeper::start(store).context("begin to keep what is found")?,
        settings,
        has_settings,
        saved: Instant::now(),
        drift_off: Arc::default(),
    };
    Partners::start(&control.identity, &control.board);
    drift::start(root, role, env_version, Arc::clone(&control.board), Arc::clone(&control.drift_off));
    if role == Role::Pri {
        let root = root.to_owned();
        let started = std::thread::Builder::new().name("put-back".into()).spawn(move || put_back(&root));
        started.context("begin to look after test data")?;
    }
    say("READY=1");
    control.look_again();
    let mut looked = Instant::now();
    loop {
        let news = control.board.wait(BEAT.min(Duration::from_secs(1)));
        if looked.elapsed() >= LOOK_AGAIN {
            control.look_again();
            looked = Instant::now();
        }
        control.tell(news);
        say("WATCHDOG=1");
    }
}

/// On PRI: places test data again that went with an earlier release of a site, before a partner misses it. Once for each that goes; where its disks
/// do not answer, this thread alone waits for them.
fn put_back(root: &Path) {
    let mut known: Vec<String> = vec![];
    loop {
        std::thread::sleep(LOOK_AGAIN);
        let gone = setup::gone(root).unwrap_or_default();
        if gone.iter().any(|path| !known.contains(path)) {
            tracing::info!("test data is gone, and placed again: {}", gone.join(", "));
            if let Err(error) = setup::run(root) {
                tracing::warn!("SetUp: {}", in_one_line(&error));
            }
        }
        known = gone;
    }
}

impl Control {
    /// Takes in what may have changed: settings, services, how busy this server is.
    fn look_again(&mut self) {
        let root = self.identity.root.clone();
        if let Ok(load) = LoadAverage::current() {
            self.pace.look(f64::from(load.one));
        }
        self.own("load", self.pace.profile(Duration::ZERO));
        let unread = match Settings::read(&root) {
            Ok(settings) => {
                self.has_settings = true;
                if settings != self.settings {
                    tracing::info!("the settings have changed");
                    if settings.channels != self.settings.channels {
                        self.channels = Channels::start(&settings.channels, &root);
                    }
                    self.settings = settings;
                }
                let is_off = self.settings.service.get(drift::NAME).is_some_and(|own| own.off);
                self.drift_off.store(is_off, Ordering::Relaxed);
                None
            }
            Err(error) => {
                let holds = if self.has_settings { "what was set before holds" } else { "none of it is in force" };
                Some(format!("{}; {holds}", in_one_line(&error)))
            }
        };
        let services = match services(&root) {
            Ok(services) => services,
            Err(error) => {
                self.own("services", Profile::unknown(in_one_line(&error)).hint("on PRI: VerifierControl setup"));
                self.tell_of_settings(unread, &[]);
                return;
            }
        };
        self.tell_of_setup(&services);
        let (plugins, refused) = catalogue::plugins(&root, &beside("VerifyService"));
        self.own(
            "plugins",
            all_of(
                Verdict::Slow,
                refused,
                "chown root, chmod 755; or remove it",
                format!("{} VerifyServices", plugins.len()),
            ),
        );
        let (here, is_known) = (self.finder.here().unwrap_or_default(), self.finder.here().is_some());
        let (role, partners) = (self.identity.config.role(), self.identity.config.partners().to_vec());
        let known = Known {
            role,
            partners: &partners,
            plugins: &plugins,
            services: &services,
            here: &here,
            settings: &self.settings,
        };
        let programs = Path::new("/");
        let heard = settable::Known { root: &root, programs, plugins: &plugins, services: &services, here: &here };
        let without_effect = settable::without_effect(&self.settings, &heard);
        self.tell_of_settings(unread, &without_effect);
        self.runner.keep_to(catalogue::plan(&known), is_known);
    }

    /// A word that nobody understands is told, and not taken for one that counts.
    fn tell_of_settings(&self, unread: Option<String>, without_effect: &[String]) {
        let what = unread.map_or_else(|| without_effect.to_vec(), |unread| vec![unread]);
        let hint = "correct that line in /etc/atlas/verifier.toml";
        self.own("settings", all_of(Verdict::Slow, what, hint, "the settings are in use"));
    }

    /// What SetUp could not do is a finding like any other [430(7)].
    fn tell_of_setup(&self, services: &Services) {
        let problems: Vec<String> = services
            .services
            .iter()
            .flat_map(|(name, found)| found.problems.iter().map(move |problem| format!("{name}: {problem}")))
            .collect();
        let instances: usize = services.services.values().map(|found| found.instances.len()).sum();
        let profile = if services.format == 0 {
            Profile::unknown("SetUp has not run: which services there are is not known here")
                .hint("on PRI: VerifierControl setup; then ssSync cycle")
        } else {
            let well = format!("{instances} instances of {} kinds of services are known", services.services.len());
            let mut profile = all_of(Verdict::Slow, problems, "VerifierControl setup on PRI shows all of it", well);
            if profile.verdict != Verdict::Ok {
                profile.summary = format!("SetUp could not do all: {}", profile.summary);
            }
            profile
        };
        self.own("services", profile);
    }

    /// Something about the Verifier itself.
    fn own(&self, what: &str, profile: Profile) {
        self.board.take(Some(self.identity.config.role()), "verifier", what, LOOK_AGAIN.as_secs(), profile);
    }

    /// Tells what is known: to whoever reads the report, to the disk, and to people.
    fn tell(&mut self, news: bool) {
        let notes = self.keeper.notes();
        self.own(
            "unbound",
            match self.keeper.trouble(SILENT) {
                None => Profile::ok("what is found is kept on the Unbound disks"),
                Some(trouble) => {
                    Profile::unacceptable(trouble).hint("dmesg; mdadm --detail /dev/md/atlas-unbound; df /unbound")
                }
            },
        );
        self.own(
            "notes",
            match self.keeper.unread() {
                None => Profile::ok("what people said is known"),
                Some(why) => Profile::new(Verdict::Slow, format!("{why}; what they had said before holds")).hint(
                    "correct the file; or move it away, and acknowledgements and maintenance have to be said again",
                ),
            },
        );
        let broken = self.channels.broken();
        self.own(
            "alerts",
            all_of(
                Verdict::Unacceptable,
                broken.iter().map(|why| format!("alerts do not arrive: {why}")),
                "VerifierResults alert-test",
                format!("{} channels", self.settings.channels.len()),
            ),
        );
        let (role, now) = (self.identity.config.role(), now());
        let serving = orphaned::serving(&self.board.lock().findings(true)).filter(|_| role != Role::Pri);
        if let Some(serving) = serving {
            self.board.take(Some(Role::Pri), orphaned::SERVING, "", LOOK_AGAIN.as_secs(), serving);
        }
        let mut inner = self.board.lock();
        (inner.notes, inner.broken_channels) = (notes, broken);
        let findings = inner.findings(true);
        let has_before = !orphaned::before(role, &inner.siblings).is_empty();
        let elsewhere = inner.elsewhere.map(|said| said.elapsed());
        inner.tells = orphaned::tells(role, inner.asked.elapsed(), has_before, elsewhere);
        let tells = inner.tells;
        let own = self.finder.here().is_some().then_some(role);
        let alerts = if tells {
            let concerns = alerts::concerns(&findings, &inner.open, &self.settings.alert);
            let from = format!("{role} of {}", self.identity.config.cluster());
            let heard = findings.heard.iter().filter(|heard| heard.silent.is_none() && heard.findings.is_some());
            let answering: Vec<Role> = heard.map(|heard| heard.role).chain(own).collect();
            let partners: Vec<Role> = self.identity.config.partners().iter().map(|partner| partner.role).collect();
            // Whoever is no partner any more will never say anything.
            let answers = |who: Role| answering.contains(&who) || who != role && !partners.contains(&who);
            let settings = &self.settings.alert;
            let mut alerts = alerts::step(&mut inner.open, &concerns, settings, (&from, now), answers);
            // A secondary tells while PRI is silent, and that is said anyway.
            if role == Role::Pri {
                alerts.extend(alerts::word(&mut inner.word, settings.word_days, &findings, &concerns, (&from, now)));
            }
            alerts
        } else {
            // PRI tells, or another secondary; what it was told of meanwhile is its own affair.
            inner.open.clear();
            vec![]
        };
        let mut events = inner.take_events();
        let state = inner.state();
        drop(inner);
        for alert in &alerts {
            tracing::warn!("{}: {}", alert.title(), alert.summary);
            self.channels.send(alert);
            events.push(Event::Alert { time: now, alert: Box::new(alert.clone()) });
        }
        if let Err(error) = report(&self.identity.root, &findings) {
            tracing::error!("the report cannot be written: {}", in_one_line(&error));
        }
        if news || !events.is_empty() || self.saved.elapsed() >= SAVE {
            self.saved = Instant::now();
            self.keeper.keep(events, state);
        }
    }
}

/// A Profile of faults that weigh the same, and of which the same helps.
fn all_of(verdict: Verdict, what: impl IntoIterator<Item = String>, hint: &str, well: impl Into<String>) -> Profile {
    Profile::of_faults(what.into_iter().map(|what| Fault::new(verdict, what, hint)).collect(), well)
}

/// Puts the findings where `atlas status` looks. In memory: it is written anew every second, and means nothing after a boot.
fn report(root: &Path, findings: &atlas_model::verify::Findings) -> anyhow::Result<()> {
    let dir = Dir::open_root(root)?.make_dirs(REPORTS)?;
    let temp = durable::temp_name();
    durable::put(&dir, &temp, &serde_json::to_vec(findings)?, 0o600)?;
    Ok(dir.rename(&temp, &dir, OsStr::new(FINDINGS), Rename::Replace)?)
}

/// Tells systemd, where that started this program, that it is there and is not stuck.
fn say(what: &str) {
    let Some(address) = std::env::var_os("NOTIFY_SOCKET") else { return };
    // Whom nobody hears goes on; systemd restarts it then.
    let _ = UnixDatagram::unbound().and_then(|socket| {
        let text = what.as_bytes();
        match address.as_encoded_bytes().strip_prefix(b"@") {
            Some(name) => {
                use std::os::linux::net::SocketAddrExt;
                socket.send_to_addr(text, &std::os::unix::net::SocketAddr::from_abstract_name(name)?)
            }
            None => socket.send_to(text, &address),
        }
    });
}
