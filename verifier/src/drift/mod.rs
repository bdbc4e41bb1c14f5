//! What changes on a secondary between two cycles, told within seconds.
//!
//! ```text
//!  kernel (inotify) ── a name in a directory that counts ──► stat, digest where the stamp moved ─┐
//!  every minute      ── all of it by stamps ─────────────────────────────────────────────────────┼─► board: SECn/drift
//!  undone.json       ── what cycles undid: once, and what comes again within a week ─────────────┘
//! ```
//!
//! It is a thread of VerifierControl, not a program that is run every few seconds: to find one changed file among 20 000 by looking at all of
//! them every ten seconds would cost more than all other checks together. `VerifyService drift verify` looks once, by hand.
//!
//! Invariant: nothing is judged while a cycle is under way here, which changes files itself.

mod watch;

use crate::{
    board::Board,
    here::{self, Faults, Member},
    services::SERVERS,
};
use anyhow::Context;
use atlas_cli::in_one_line;
use atlas_host::{lock, tree::Dir};
use atlas_model::{
    EnvVersion, Role,
    verify::{Fault, Profile, Verdict},
};
use atlas_sid::{
    SidData,
    drift::{Drift, Undone},
    layout::UNBOUND_MOUNT,
};
use nix::time::{ClockId, clock_gettime};
use std::{
    collections::BTreeMap,
    ffi::OsStr,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};
use watch::Watch;

/// Within which a change is told, in seconds.
pub(crate) const INTERVAL: u64 = 10;
/// The name of this among the services.
pub(crate) const NAME: &str = "drift";
/// How long the kernel is waited for at a time.
const TURN: Duration = Duration::from_secs(1);
/// Changes that come together are looked at together.
const SETTLE: Duration = Duration::from_millis(500);
/// How often all is looked at, whatever the kernel said: what is written through another name of a file, it does not say.
const ALL: Duration = Duration::from_secs(60);
/// The same where the kernel cannot watch everything.
const ALL_UNWATCHED: Duration = Duration::from_secs(6);
/// Of the processor, the share of looking at everything: one part of so many.
const SHARE: u32 = 1000;
const SHARE_UNWATCHED: u32 = 400;
/// How long it is told that a cycle undid something, in seconds.
const ONCE: u64 = 300;
/// The lock that is held while a cycle is under way.
const CYCLE_LOCK: &str = ".cycle";
const HINT: &str =
    "on PRI: ssSync cycle undoes it; if the change is right, make it on PRI instead (atlas history on PRI shows both)";

/// Begins to watch, in a thread of its own. `off`: the operator does not want to know.
pub(crate) fn start(root: &Path, role: Role, env_version: EnvVersion, board: Arc<Board>, off: Arc<AtomicBool>) {
    if role.is_primary() {
        return;
    }
    let root = root.to_owned();
    std::thread::spawn(move || {
        let mut watcher = Watcher::new(root, role, env_version);
        loop {
            let profile = watcher.turn();
            if off.load(Ordering::Relaxed) {
                board.lock().keep(|key| !is_own(key));
                std::thread::sleep(TURN);
                continue;
            }
            board.take(Some(role), NAME, "", INTERVAL, profile);
        }
    });
}

/// Whether a finding is of this thread.
pub(crate) fn is_own(key: &str) -> bool {
    key.ends_with("/drift")
}

/// Looks once, as by hand.
pub(crate) fn look(root: &Path) -> anyhow::Result<Profile> {
    let Some(member) = Member::open(root)? else { return Ok(Profile::ok("this server belongs to no cluster yet")) };
    let (role, env_version) = (member.config.role(), member.bound.env_id);
    if role.is_primary() {
        return Ok(Profile::ok("this server is PRI: the others are held against it"));
    }
    let mut drift = Drift::open(&member.sid, role, env_version).context("read what the last cycle left")?;
    if let Some(drift) = &mut drift {
        drift.look(&member.tree).context("compare this server with what the last cycle left")?;
    }
    Ok(judged(&member.tree, drift.as_ref(), Faults::default()))
}

/// One that watches.
#[derive(Debug)]
struct Watcher {
    root: PathBuf,
    role: Role,
    env_version: EnvVersion,
    known: Option<(Drift, Watch)>,
    /// Whether everything is to be looked at in the next turn.
    is_due: bool,
    looked: Instant,
    /// What it cost, in time of the processor.
    cost: Duration,
    last: Profile,
}

impl Watcher {
    fn new(root: PathBuf, role: Role, env_version: EnvVersion) -> Watcher {
        let last = Profile::unknown("nothing has been compared yet").hint("VerifyService drift verify");
        let (looked, cost) = (Instant::now(), Duration::ZERO);
        Watcher { root, role, env_version, known: None, is_due: true, looked, cost, last }
    }

    /// Waits for a change, at most for a second, and says how the server is.
    fn turn(&mut self) -> Profile {
        match self.try_turn() {
            Ok(Some(profile)) => self.last = profile,
            // A cycle is at work: what was so before it holds.
            Ok(None) => {}
            Err(error) => {
                std::thread::sleep(TURN);
                self.known = None;
                let what = format!("whether anything was changed here cannot be told: {}", in_one_line(&error));
                self.last = Profile::unknown(what).hint("VerifyService drift verify; df /unbound; dmesg");
            }
        }
        self.last.clone()
    }

    fn try_turn(&mut self) -> anyhow::Result<Option<Profile>> {
        let heard = match &self.known {
            Some((_, watch)) => watch.wait(TURN, SETTLE),
            None => {
                std::thread::sleep(TURN);
                watch::Heard::default()
            }
        };
        let tree = Dir::open_root(&self.root).context("open the server's tree")?;
        let unbound = tree.dir(UNBOUND_MOUNT).context("open the Unbound file system")?;
        let sid = SidData::open(&unbound).context("open the Sync and Identity Data")?;
        let is_cycle = || lock::is_held(sid.dir(), OsStr::new(CYCLE_LOCK)).unwrap_or(false);
        let id = Drift::id(&sid, self.role, self.env_version)?;
        let is_same = match (&self.known, &id) {
            (Some((drift, _)), Some(id)) => drift.is_of(id),
            (None, None) => true,
            _ => false,
        };
        self.is_due |= !is_same || heard.is_all || self.looked.elapsed() >= self.period();
        if (self.is_due || !heard.paths.is_empty()) && is_cycle() {
            self.is_due = true;
            return Ok(None);
        }
        if self.is_due {
            let begun = cpu_time();
            if !is_same || self.known.is_none() {
                let drift = Drift::open(&sid, self.role, self.env_version).context("read what the last cycle left")?;
                self.known = drift.map(|drift| (drift, Watch::default()));
            }
            if let Some((drift, watch)) = &mut self.known {
                // Watched first: what changes while it is looked at is heard of afterwards.
                if heard.is_all || !is_same || !watch.is_whole() {
                    *watch = Watch::of(&self.root, &drift.dirs());
                }
                drift.look(&tree).context("compare this server with what the last cycle left")?;
            }
            (self.is_due, self.looked, self.cost) = (false, Instant::now(), cpu_time().saturating_sub(begun));
        } else if let Some((drift, _)) = &mut self.known {
            for path in &heard.paths {
                drift.look_at(&tree, path).with_context(|| format!("compare {path} with what the last cycle left"))?;
            }
        }
        if is_cycle() {
            self.is_due = true;
            return Ok(None);
        }
        let mut faults = Faults::default();
        if let Some((_, watch)) = self.known.as_ref().filter(|(_, watch)| !watch.is_whole()) {
            let period = self.period().as_secs();
            let what = format!(
                "the kernel watches {} directories fewer than are synchronised: a change is found within {period} s",
                watch.lacking()
            );
            faults.slow(what, "sysctl fs.inotify.max_user_watches; set it higher in /etc/sysctl.d, on PRI");
        }
        Ok(Some(judged(&tree, self.known.as_ref().map(|(drift, _)| drift), faults)))
    }

    /// How long after one look at everything the next is due.
    fn period(&self) -> Duration {
        match &self.known {
            Some((_, watch)) if !watch.is_whole() => ALL_UNWATCHED.max(self.cost * SHARE_UNWATCHED),
            _ => ALL.max(self.cost * SHARE),
        }
    }
}

/// What this thread took of the processor until now.
fn cpu_time() -> Duration {
    clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).map(Duration::from).unwrap_or_default()
}

fn judged(root: &Dir, drift: Option<&Drift>, mut faults: Faults) -> Profile {
    for (path, found) in drift.iter().flat_map(|drift| drift.found()) {
        let (kind, verdict, what) = match found.what.as_str() {
            "new" => ("new", Verdict::Slow, format!("{path} is here, and was not after the last cycle")),
            "gone" => ("gone", Verdict::Unacceptable, format!("{path} is gone since the last cycle")),
            what => ("changed", Verdict::Unacceptable, format!("{path} was changed since the last cycle: {what}")),
        };
        let of = concerns(&path.to_string());
        let of: Vec<&str> = of.iter().map(String::as_str).collect();
        faults.add(Fault::new(verdict, what, HINT).is(kind, &of));
    }
    undone(root, &mut faults);
    let count = drift.map_or(0, Drift::len);
    faults.profile(format!("{count} objects are as the last cycle left them"))
}

/// What may fail with a file: the unit that it is of, the services and packages whose configuration it is; and itself, for whoever names it.
fn concerns(path: &str) -> Vec<String> {
    let mut of = vec![path.to_owned()];
    let unit = path.strip_prefix("/etc/systemd/system/").and_then(|rest| rest.split('/').next());
    let unit = unit.map(|unit| unit.strip_suffix(".d").unwrap_or(unit));
    of.extend(unit.filter(|unit| unit.contains('.') && !unit.ends_with(".wants")).map(str::to_owned));
    let is_of = |config: &str| {
        let config: Vec<&str> = config.split('/').take(2).collect();
        let path: Vec<&str> = path.trim_start_matches('/').split('/').take(config.len()).collect();
        path == config
    };
    for server in SERVERS.iter().filter(|server| is_of(server.config)) {
        of.extend(server.services.iter().chain([&server.package]).map(|name| (*name).to_owned()));
    }
    of.dedup();
    of
}

/// What cycles undid here: told for a while; and what comes again and again, for as long as it did within a week.
fn undone(root: &Dir, faults: &mut Faults) {
    let now = here::now();
    let all = match Undone::read(root, now) {
        Ok(all) => all,
        Err(error) => {
            let what = format!("what cycles undid here cannot be read: {}", in_one_line(&error.into()));
            return faults.unknown(what, "rm /var/lib/atlas/install/undone.json");
        }
    };
    let mut by_path: BTreeMap<_, Vec<&Undone>> = BTreeMap::new();
    all.iter().for_each(|one| by_path.entry(&one.path).or_default().push(one));
    for (path, times) in by_path {
        let Some(last) = times.last() else { continue };
        let ago = now.saturating_sub(last.time);
        if times.len() > 1 {
            let what = format!(
                "{path} was changed here and put back by a cycle {} times within a week, the last {} ago: {}",
                times.len(),
                here::duration(ago),
                last.what
            );
            faults.slow(what, "find out what writes to it here (atlas history shows when); make the change on PRI, or take the path off PRI's list");
        } else if ago < ONCE {
            let what = format!(
                "{path} had been changed here ({}), and a cycle put it back {} ago",
                last.what,
                here::duration(ago)
            );
            faults.slow(what, "if the change was right, make it on PRI; atlas history shows it");
        }
    }
}

#[cfg(test)]
mod tests;
