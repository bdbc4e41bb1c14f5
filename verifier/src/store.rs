//! What survives a restart, in the Sync and Identity Data of (Role, EnvVersion) [450(5)]. `results` draws the files.

use crate::{
    alerts::{Alert, Open},
    results::{Notes, Record},
};
use anyhow::Context;
use atlas_cli::Hint;
use atlas_host::{durable, lock::Lock, tree::Dir};
use atlas_model::{EnvVersion, Partner, Role, verify::Verdict};
use atlas_sid::SidData;
use serde::{Deserialize, Serialize};
use std::{
    collections::BTreeMap, ffi::OsStr, fs::OpenOptions, io::Write, os::unix::fs::OpenOptionsExt, time::Duration,
};

/// What people said.
const NOTES: &str = "notes.json";
const MAX_STATE: usize = 32 << 20;
/// Beyond this size the log begins anew; the one before is kept.
const MAX_LOG: u64 = 4 << 20;

/// The directories of one (Role, EnvVersion).
#[derive(Debug)]
pub struct Store {
    role: Dir,
    env: Dir,
}

/// What is kept of every check and every alert.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct State {
    /// The format: 1.
    pub format: u32,
    /// By key.
    pub records: BTreeMap<String, Record>,
    /// Alerts that are not over, by key.
    pub open: BTreeMap<String, Open>,
    /// When it was said last how it stands, in seconds since 1970.
    #[serde(default)]
    pub word: Option<u64>,
    /// PRI's partners, as PRI said last.
    #[serde(default)]
    pub siblings: Vec<Partner>,
    /// The boot that it was found in, as the kernel names it.
    #[serde(default)]
    pub boot: String,
}

impl State {
    /// What is in its file.
    ///
    /// # Errors
    /// Where it is cut off, or of another format.
    pub fn parse(content: &[u8]) -> anyhow::Result<State> {
        let state: State = serde_json::from_slice(content)?;
        anyhow::ensure!(state.format == 1, "it is of format {}", state.format);
        Ok(state)
    }

    /// As the boot `boot` takes it over: problems and what people said of them go on, and nothing counts as known before it is asked again.
    pub fn taken_over_by(mut self, boot: String) -> State {
        if self.boot != boot {
            self.records.values_mut().for_each(Record::outdate);
        }
        self.boot = boot;
        self
    }
}

/// A line of the log.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "lowercase")]
pub enum Event {
    /// A verdict changed.
    Verdict {
        /// When, in seconds since 1970.
        time: u64,
        /// Of what.
        key: String,
        /// To what.
        verdict: Verdict,
        /// Why.
        summary: String,
    },
    /// One of several faults began or ended, and the verdict stayed.
    Fault {
        /// When.
        time: u64,
        /// Of what.
        key: String,
        /// What is wrong, or was.
        what: String,
        /// Whether it is over.
        over: bool,
    },
    /// An alert was handed to the channels.
    Alert {
        /// When.
        time: u64,
        /// Which.
        alert: Box<Alert>,
    },
    /// Somebody said something about it.
    Note {
        /// When.
        time: u64,
        /// About what.
        key: String,
        /// What.
        text: String,
    },
}

impl Store {
    /// Opens, and makes where it is missing, the store of (`role`, `env_version`).
    pub fn open(sid: &SidData, role: Role, env_version: EnvVersion) -> anyhow::Result<Store> {
        let make = |dir: &Dir, name: &str| -> anyhow::Result<Dir> {
            dir.make_dir(name, 0o700)?;
            Ok(dir.dir(name)?)
        };
        let role = make(&make(sid.dir(), "Verifier")?, &role.to_string())?;
        let env = make(&role, &env_version.dir_name())?;
        Ok(Store { role, env })
    }

    /// The state as it was left; a file that cannot be read is told and begins anew: all of it is found again.
    pub fn load(&self) -> State {
        let read = || -> anyhow::Result<State> {
            let content = self.env.read_if_there("state.json", MAX_STATE)?;
            content.map_or_else(|| Ok(State::default()), |content| State::parse(&content))
        };
        read().unwrap_or_else(|error| {
            tracing::error!("the Verifier's last state is lost: {}", atlas_cli::in_one_line(&error));
            State::default()
        })
    }

    /// Keeps the state.
    pub fn save(&self, state: &State) -> anyhow::Result<()> {
        durable::write(&self.env, OsStr::new("state.json"), &serde_json::to_vec(state)?, 0o600)
            .context("keep the Verifier's state")
    }

    /// Adds lines to the log.
    pub fn log(&self, events: &[Event]) -> anyhow::Result<()> {
        if events.is_empty() {
            return Ok(());
        }
        let path = self.env.show("log");
        if std::fs::metadata(&path).is_ok_and(|meta| meta.len() > MAX_LOG) {
            self.env.rename(OsStr::new("log"), &self.env, OsStr::new("log.1"), atlas_host::tree::Rename::Replace)?;
        }
        let mut text = String::new();
        for event in events {
            text.push_str(&serde_json::to_string(event)?);
            text.push('\n');
        }
        // The directory is root's alone: nobody puts a link there.
        let mut file =
            OpenOptions::new().append(true).create(true).mode(0o600).open(&path).context("open the Verifier's log")?;
        file.write_all(text.as_bytes()).context("write the Verifier's log")
    }

    /// The log, the oldest first; a line that was cut off by a crash is left out.
    pub fn history(&self) -> anyhow::Result<Vec<Event>> {
        let mut events = Vec::new();
        for name in ["log.1", "log"] {
            let content = self.env.read_if_there(name, 2 * MAX_LOG as usize)?.unwrap_or_default();
            events.extend(content.split(|byte| *byte == b'\n').filter_map(|line| serde_json::from_slice(line).ok()));
        }
        Ok(events)
    }

    /// What people said. A file that cannot be read is an error: it may say that somebody has taken a problem on, or that a server is in
    /// maintenance.
    pub fn notes(&self) -> anyhow::Result<Notes> {
        let Some(content) = self.role.read_if_there(NOTES, MAX_STATE)? else { return Ok(Notes::default()) };
        let path = self.role.show(NOTES).display().to_string();
        let notes: Notes = serde_json::from_slice(&content)
            .with_context(|| format!("read what was acknowledged, and what is in maintenance, in {path}"))
            .hint(format!("mend it, or give up what was said: mv {path} {path}.broken"))?;
        anyhow::ensure!(notes.format <= 1, "{path} is of format {}; this program reads format 1", notes.format);
        Ok(notes)
    }

    /// Changes what people said, one at a time.
    pub fn change_notes(&self, change: impl FnOnce(&mut Notes)) -> anyhow::Result<()> {
        let _lock = Lock::take(&self.role, OsStr::new(".lock"), Duration::from_secs(10))?;
        let mut notes = self.notes()?;
        notes.format = 1;
        change(&mut notes);
        durable::write(&self.role, OsStr::new(NOTES), &serde_json::to_vec_pretty(&notes)?, 0o600)
            .context("keep what was said")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn store(root: &std::path::Path) -> Store {
        std::fs::create_dir_all(root.join("SID_DATA")).unwrap();
        let sid = SidData::open(&Dir::open_root(root).unwrap()).unwrap();
        Store::open(&sid, Role::Pri, EnvVersion::OLDEST).unwrap()
    }

    #[test]
    fn what_is_kept_comes_back_and_what_is_broken_begins_anew() {
        let tmp = tempfile::tempdir().unwrap();
        let open = Open {
            verdict: Verdict::Slow,
            summary: "x".into(),
            first: 1,
            last: 2,
            escalated: false,
            by: vec![],
            faults: Default::default(),
        };
        let open = BTreeMap::from([("SEC1/web".into(), open)]);
        let siblings = vec![Partner { role: Role::Sec(2), host: "sec2".into() }];
        let state = State { format: 1, records: BTreeMap::new(), open, word: Some(7), siblings, boot: "b1".into() };
        store(tmp.path()).save(&state).unwrap();
        assert_eq!(store(tmp.path()).load(), state);
        std::fs::write(tmp.path().join("SID_DATA/Verifier/PRI/Env1/state.json"), "{\"format\":").unwrap();
        assert_eq!(store(tmp.path()).load(), State::default());
    }

    #[test]
    fn what_was_kept_by_an_older_version_is_read() {
        let tmp = tempfile::tempdir().unwrap();
        let store = store(tmp.path());
        let state = r#"{"format":1,"records":{"SEC1/web/*:80":{"about":"SEC1","service":"web","instance":"*:80",
            "profile":{"format":1,"verdict":"unacceptable","summary":"gone"},"checked":200,"interval":60,"since":100,"changes":[90,100]}},"open":{}}"#;
        std::fs::write(tmp.path().join("SID_DATA/Verifier/PRI/Env1/state.json"), state).unwrap();
        let state = store.load();
        let observed = state.records["SEC1/web/*:80"].observed(&Notes::default(), 300);
        assert_eq!((observed.key().as_str(), observed.since, observed.checked), ("SEC1/web/*:80", 100, 200));
        assert_eq!((observed.profile.verdict, observed.flapping), (Verdict::Unacceptable, false));
        // Of this boot: known. The boot after it begins to ask anew, and forgets nothing else.
        let own = state.clone().taken_over_by(String::new());
        assert_eq!(own.records, state.records);
        let next = state.taken_over_by("b2".into());
        let observed = next.records["SEC1/web/*:80"].observed(&Notes::default(), 210);
        assert_eq!((observed.age(210), observed.is_stale(210), observed.since), (None, true, 100));
    }

    #[test]
    fn the_log_is_bounded_and_a_line_that_was_cut_off_is_left_out() {
        let tmp = tempfile::tempdir().unwrap();
        let store = store(tmp.path());
        let event = Event::Note { time: 1, key: "SEC1/web".into(), text: "x".repeat(1 << 20) };
        for _ in 0..11 {
            store.log(std::slice::from_ref(&event)).unwrap();
        }
        let size =
            |name: &str| std::fs::metadata(tmp.path().join("SID_DATA/Verifier/PRI/Env1").join(name)).unwrap().len();
        assert!(size("log.1") > MAX_LOG && size("log.1") < 2 * MAX_LOG && size("log") < 2 * MAX_LOG);
        let before = store.history().unwrap().len();
        let mut file = OpenOptions::new().append(true).open(tmp.path().join("SID_DATA/Verifier/PRI/Env1/log")).unwrap();
        file.write_all(b"{\"event\":\"note\",\"ti").unwrap();
        assert_eq!(store.history().unwrap().len(), before);
    }

    #[test]
    fn notes_that_cannot_be_read_are_not_taken_for_none_and_stay() {
        let tmp = tempfile::tempdir().unwrap();
        let store = store(tmp.path());
        let path = tmp.path().join("SID_DATA/Verifier/PRI/notes.json");
        for (broken, why) in [("{\"format\":1,\"ackn", "notes.json"), ("{\"format\":2}", "format 2")] {
            std::fs::write(&path, broken).unwrap();
            let error = format!("{:#}", store.notes().unwrap_err());
            assert!(error.contains(why), "{error}");
            assert!(store.change_notes(|notes| notes.acknowledged.clear()).is_err());
            assert_eq!(std::fs::read_to_string(&path).unwrap(), broken);
        }
    }

    #[test]
    fn what_people_say_adds_up() {
        let tmp = tempfile::tempdir().unwrap();
        let store = store(tmp.path());
        for key in ["SEC1/web", "SEC1/ssh"] {
            let said = crate::results::Acknowledged { since: 1, why: "known".into() };
            store.change_notes(|notes| drop(notes.acknowledged.insert(key.into(), said))).unwrap();
        }
        assert_eq!(store.notes().unwrap().acknowledged.len(), 2);
    }
}
