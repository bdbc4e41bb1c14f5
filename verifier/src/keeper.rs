//! Keeps what must survive a restart, on a thread of its own: a dead Unbound disk may never answer, and who alerts people must not wait for it.
//!
//! ```text
//!  main thread ── events, state ──► waiting (bounded) ──► keeper ── log, state.json ──► /unbound
//!              ◄── notes, since when there is no answer ──┘   └──── notes.json ◄────────┘
//! ```
//!
//! The state is only ever the last one; of events that wait, the oldest are given up when there are too many.

use crate::{
    results::Notes,
    store::{Event, State, Store},
};
use atlas_cli::in_one_line;
use std::{
    collections::VecDeque,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

/// How often it is looked what people have said.
const LOOK: Duration = Duration::from_secs(1);
/// How long the main thread waits for what people have said by now; a disk that owes an answer for longer is not waited for.
const PATIENCE: Duration = Duration::from_millis(500);
/// So many events wait at most.
const MAX_WAITING: usize = 10_000;

/// The thread that keeps, seen from the one that tells.
#[derive(Debug)]
pub struct Keeper(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    work: Mutex<Work>,
    wake: Condvar,
    /// A look at the notes has ended.
    looked: Condvar,
}

#[derive(Debug, Default)]
struct Work {
    events: VecDeque<Event>,
    state: Option<State>,
    notes: Notes,
    /// How many looks at the notes were asked for, and the last one that was answered.
    looks: (u64, u64),
    /// Since when the disk owes an answer.
    asked: Option<Instant>,
    failed: Option<String>,
    /// Why what people said is not known, or not any more.
    unread: Option<String>,
    given_up: usize,
    is_over: bool,
}

impl Work {
    /// Takes in what people said. What cannot be read now was said all the same, and holds.
    fn read(&mut self, notes: anyhow::Result<Notes>) {
        match notes {
            Ok(notes) => (self.notes, self.unread) = (notes, None),
            Err(error) => self.unread = Some(in_one_line(&error)),
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Work> {
        self.work.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Keeper {
    /// Begins; what people have said so far is read at once.
    ///
    /// # Errors
    /// No thread can be had.
    pub fn start(store: Store) -> std::io::Result<Keeper> {
        let mut work = Work::default();
        work.read(store.notes());
        let shared = Arc::new(Shared { work: Mutex::new(work), wake: Condvar::new(), looked: Condvar::new() });
        let own = Arc::clone(&shared);
        std::thread::Builder::new().name("keeper".into()).spawn(move || keep(&store, &own))?;
        Ok(Keeper(shared))
    }

    /// Has this kept, without waiting.
    pub fn keep(&self, events: Vec<Event>, state: State) {
        let mut work = self.0.lock();
        work.events.extend(events);
        while work.events.len() > MAX_WAITING {
            work.events.pop_front();
            work.given_up += 1;
        }
        work.state = Some(state);
        self.0.wake.notify_one();
    }

    /// What people have said until now; where the disk does not answer in time, what they had said when it last did.
    pub fn notes(&self) -> Notes {
        let mut work = self.0.lock();
        if work.asked.is_none_or(|asked| asked.elapsed() <= PATIENCE) {
            work.looks.0 += 1;
            let look = work.looks.0;
            self.0.wake.notify_one();
            let is_due = |work: &mut Work| work.looks.1 < look;
            work = self.0.looked.wait_timeout_while(work, PATIENCE, is_due).unwrap_or_else(PoisonError::into_inner).0;
        }
        work.notes.clone()
    }

    /// Why what people said cannot be read.
    pub fn unread(&self) -> Option<String> {
        self.0.lock().unread.clone()
    }

    /// What is wrong with keeping: there is no answer for longer than `patience`, or there was an error.
    pub fn trouble(&self, patience: Duration) -> Option<String> {
        let work = self.0.lock();
        let silent = work.asked.map(|asked| asked.elapsed()).filter(|silent| *silent > patience);
        match (silent, &work.failed) {
            (Some(silent), _) => Some(format!(
                "/unbound gives no answer for {} s: {} changes are kept in memory only, {} are lost",
                silent.as_secs(),
                work.events.len(),
                work.given_up
            )),
            (None, failed) => failed.clone(),
        }
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        self.0.lock().is_over = true;
        self.0.wake.notify_one();
    }
}

fn keep(store: &Store, shared: &Shared) {
    loop {
        let mut work = shared.lock();
        if work.events.is_empty() && work.state.is_none() && work.looks.0 == work.looks.1 && !work.is_over {
            work = shared.wake.wait_timeout(work, LOOK).unwrap_or_else(PoisonError::into_inner).0;
        }
        if work.is_over && work.events.is_empty() && work.state.is_none() {
            return;
        }
        let (events, state) = (Vec::from(std::mem::take(&mut work.events)), work.state.take());
        let look = work.looks.0;
        work.asked = Some(Instant::now());
        drop(work);
        let kept = store.log(&events).and_then(|()| state.as_ref().map_or(Ok(()), |state| store.save(state)));
        let notes = store.notes();
        let mut work = shared.lock();
        let failed = kept.err().map(|error| in_one_line(&error));
        if let Some(why) = failed.as_ref().filter(|why| work.failed.as_ref() != Some(why)) {
            tracing::error!("{why}");
        }
        (work.asked, work.failed, work.looks.1) = (None, failed, look);
        work.read(notes);
        drop(work);
        shared.looked.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use atlas_host::tree::Dir;
    use atlas_model::{EnvVersion, Role};
    use atlas_sid::SidData;
    use std::path::{Path, PathBuf};

    fn store(root: &Path) -> (Store, PathBuf) {
        std::fs::create_dir_all(root.join("SID_DATA")).unwrap();
        let sid = SidData::open(&Dir::open_root(root).unwrap()).unwrap();
        let store = Store::open(&sid, Role::Pri, EnvVersion::OLDEST).unwrap();
        (store, root.join("SID_DATA/Verifier/PRI/Env1"))
    }

    fn event(number: u64) -> Event {
        Event::Note { time: number, key: "SEC1/web".into(), text: String::new() }
    }

    fn wait_until(what: &str, is_so: impl Fn() -> bool) {
        let begun = Instant::now();
        while !is_so() {
            assert!(begun.elapsed() < Duration::from_secs(20), "{what}");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    #[test]
    fn what_is_kept_is_on_the_disk_soon_and_what_is_said_comes_from_there() {
        let tmp = tempfile::tempdir().unwrap();
        let (own, dir) = store(tmp.path());
        let (other, _) = store(tmp.path());
        let keeper = Keeper::start(own).unwrap();
        keeper.keep(vec![event(1), event(2)], State { format: 1, ..State::default() });
        wait_until("the log was not written", || {
            other.history().unwrap().len() == 2 && dir.join("state.json").exists()
        });
        let said = crate::results::Acknowledged { since: 1, why: "known".into() };
        other.change_notes(|notes| drop(notes.acknowledged.insert("SEC1/web".into(), said))).unwrap();
        assert_eq!(keeper.notes().acknowledged.len(), 1, "what was said a moment ago is not known");
        assert_eq!((keeper.trouble(Duration::from_secs(20)), keeper.unread()), (None, None));

        std::fs::write(dir.with_file_name("notes.json"), "{").unwrap();
        assert_eq!(keeper.notes().acknowledged.len(), 1, "what was said is forgotten");
        assert!(keeper.unread().unwrap().contains("notes.json"), "nobody is told");
        std::fs::remove_file(dir.with_file_name("notes.json")).unwrap();
        assert_eq!((keeper.notes().acknowledged.len(), keeper.unread()), (0, None));
    }

    /// A pipe that nobody reads is a file whose opening never comes back, like that of one on a dead disk.
    #[test]
    fn a_disk_that_never_answers_holds_up_nobody_and_is_reported() {
        let tmp = tempfile::tempdir().unwrap();
        let (own, dir) = store(tmp.path());
        nix::unistd::mkfifo(&dir.join("log"), nix::sys::stat::Mode::S_IRWXU).unwrap();
        let keeper = Keeper::start(own).unwrap();
        keeper.keep(vec![event(0)], State::default());
        wait_until("nothing is written", || keeper.trouble(Duration::ZERO).is_some());
        let begun = Instant::now();
        for number in 0..30_000 {
            keeper.keep(vec![event(number)], State::default());
        }
        assert!(begun.elapsed() < Duration::from_secs(10), "somebody waited: {:?}", begun.elapsed());
        wait_until("nothing is reported", || keeper.trouble(Duration::from_millis(50)).is_some());
        let trouble = keeper.trouble(Duration::from_millis(50)).unwrap();
        assert!(trouble.contains("/unbound gives no answer") && trouble.contains("10000 changes"), "{trouble}");
        assert_eq!(keeper.trouble(Duration::from_secs(600)), None, "a moment is no trouble");
        // It answers again: what waited is written.
        let pipe = dir.join("log");
        let reader = std::thread::spawn(move || std::fs::read(pipe).unwrap().len());
        wait_until("it does not go on", || keeper.trouble(Duration::from_millis(50)).is_none());
        drop(keeper);
        assert!(reader.join().unwrap() > 0);
    }
}
