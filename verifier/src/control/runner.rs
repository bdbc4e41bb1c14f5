//! A thread for every check, which runs it at its interval for as long as it is in the plan.

use super::pace::{self, Pace};
use crate::{board::Board, check::Check, drift};
use atlas_model::verify::key;
use std::{
    collections::BTreeMap,
    hash::{DefaultHasher, Hash, Hasher},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{JoinHandle, park_timeout},
    time::{Duration, Instant, SystemTime},
};

/// Answers that came at least this fast are asked for once more before a change for the worse is believed.
const FAST: Duration = Duration::from_secs(2);
/// The first round of checks is over this soon, where their intervals are longer.
const FIRST_ROUND: u64 = 10;
/// A little stack does for a thread that waits for a process.
const STACK: usize = 256 << 10;

/// The checks that run.
#[derive(Debug)]
pub(super) struct Runner {
    board: Arc<Board>,
    pace: Arc<Pace>,
    running: BTreeMap<String, Running>,
}

#[derive(Debug)]
struct Running {
    check: Check,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Runner {
    pub(super) fn new(board: Arc<Board>, pace: Arc<Pace>) -> Runner {
        Runner { board, pace, running: BTreeMap::new() }
    }

    /// Makes the checks that run those of `plan`. One that is in both goes on undisturbed.
    pub(super) fn keep_to(&mut self, plan: Vec<Check>, is_all: bool) {
        let mut wanted: BTreeMap<String, Check> =
            plan.into_iter().map(|check| (key(check.about, &check.service, &check.instance), check)).collect();
        self.running.retain(|key, running| {
            let stays = wanted.get(key) == Some(&running.check);
            if stays {
                wanted.remove(key);
                return true;
            }
            running.stop.store(true, Ordering::SeqCst);
            running.thread.iter().for_each(|thread| thread.thread().unpark());
            // A changed one begins when its predecessor has ended: two of one instance never run at once.
            !running.thread.as_ref().is_none_or(JoinHandle::is_finished)
        });
        for (key, check) in wanted {
            if self.running.contains_key(&key) {
                continue;
            }
            let stop = Arc::new(AtomicBool::new(false));
            let (own, board, stopped) = (check.clone(), Arc::clone(&self.board), Arc::clone(&stop));
            let pace = Arc::clone(&self.pace);
            let keep = move || keep_checking(&own, &board, &pace, &stopped);
            let thread = std::thread::Builder::new().stack_size(STACK).spawn(keep);
            match thread {
                Ok(thread) => drop(self.running.insert(key, Running { check, stop, thread: Some(thread) })),
                Err(error) => tracing::error!("{key} cannot be verified: {error}"),
            }
        }
        if !is_all {
            return;
        }
        // What the Verifier says of itself, of its partners and of what was changed here is no check.
        let goes_on = |key: &str| self.running.get(key).is_some_and(|running| !running.stop.load(Ordering::SeqCst));
        let named = |key: &str| ["/cold-boot", "/serving"].iter().any(|end| key.ends_with(end));
        let own = |key: &str| key.contains("/verifier") || named(key) || drift::is_own(key);
        self.board.lock().keep(|key| goes_on(key) || own(key));
    }
}

fn keep_checking(check: &Check, board: &Board, pace: &Pace, stop: &AtomicBool) {
    let mut random = Random::new(check);
    let mut next = Instant::now() + Duration::from_secs(check.interval.min(FIRST_ROUND)).mul_f64(random.next());
    loop {
        while let Some(left) = next.checked_duration_since(Instant::now()).filter(|left| !left.is_zero()) {
            if stop.load(Ordering::SeqCst) {
                return;
            }
            park_timeout(left);
        }
        if stop.load(Ordering::SeqCst) {
            return;
        }
        let turn = pace.turn();
        let begun = Instant::now();
        let mut profile = check.run();
        let worse = board.last(check).is_some_and(|last| profile.verdict.weight() > last.verdict.weight());
        if worse && begun.elapsed() < FAST {
            profile = check.run();
        }
        drop(turn);
        let factor = pace.factor();
        profile = pace::judged(profile, begun.elapsed(), Duration::from_secs(check.deadline), factor);
        if stop.load(Ordering::SeqCst) {
            return;
        }
        board.take(check.about, &check.service, &check.instance, check.interval * u64::from(factor), profile);
        // Up to a tenth earlier, so that checks that began together do not stay together.
        next = begun + (check.period() * factor).mul_f64(0.9 + 0.1 * random.next());
    }
}

/// Numbers between 0 and 1 that differ from check to check; nothing depends on them being hard to guess.
struct Random(u64);

impl Random {
    fn new(check: &Check) -> Random {
        let mut hasher = DefaultHasher::new();
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_nanos());
        (&check.service, &check.instance, &check.args, now).hash(&mut hasher);
        Random(hasher.finish())
    }

    fn next(&mut self) -> f64 {
        let mut hasher = DefaultHasher::new();
        self.0.hash(&mut hasher);
        self.0 = hasher.finish();
        (self.0 >> 11) as f64 / (1_u64 << 53) as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{check::Speaks, store::State};
    use atlas_model::{EnvVersion, Role, verify::Verdict};

    fn check(service: &str, script: &str) -> Check {
        Check {
            about: Some(Role::Sec(1)),
            service: service.into(),
            instance: String::new(),
            interval: 1,
            deadline: 30,
            program: "/bin/sh".into(),
            args: vec!["-c".into(), script.into()],
            speaks: Speaks::Nagios,
        }
    }

    fn wait(board: &Board, what: &str, is_so: impl Fn(&Board) -> bool) {
        let start = Instant::now();
        while !is_so(board) {
            assert!(start.elapsed() < Duration::from_secs(20), "{what}");
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    #[test]
    fn one_that_never_answers_holds_up_no_other_and_what_is_dropped_ends() {
        let board = Arc::new(Board::new(Role::Pri, EnvVersion::OLDEST, State::default()));
        let mut runner = Runner::new(Arc::clone(&board), Arc::new(Pace::new(2)));
        let good = check("good", "echo fine");
        runner.keep_to(vec![check("stuck", "sleep 25"), good.clone()], true);
        wait(&board, "the good one is not verified", |board| board.last(&good).is_some());
        assert!(board.last(&check("stuck", "")).is_none());
        runner.keep_to(vec![], true);
        wait(&board, "it is not forgotten", |board| board.lock().findings(true).observed.is_empty());
    }

    #[test]
    fn on_a_busy_server_many_slow_checks_do_not_pile_up() {
        let tmp = tempfile::tempdir().unwrap();
        let (now, counts) = (tmp.path().join("now"), tmp.path().join("counts"));
        std::fs::create_dir(&now).unwrap();
        let script = format!(
            "mkdir {0}/$$; ls {0} | wc -l >>{1}; sleep 0.2; rmdir {0}/$$; echo fine",
            now.display(),
            counts.display()
        );
        let plan: Vec<Check> = (0..12).map(|n| check(&format!("slow{n}"), &script)).collect();
        let board = Arc::new(Board::new(Role::Pri, EnvVersion::OLDEST, State::default()));
        let pace = Arc::new(Pace::new(1));
        pace.look(25.0);
        let mut runner = Runner::new(Arc::clone(&board), Arc::clone(&pace));
        runner.keep_to(plan.clone(), true);
        wait(&board, "some never had their turn", |board| plan.iter().all(|check| board.last(check).is_some()));
        let most = || {
            let text = std::fs::read_to_string(&counts).unwrap();
            text.lines().filter_map(|line| line.trim().parse::<u32>().ok()).max().unwrap()
        };
        assert!(most() <= 2, "{} ran at once on one processor", most());
        let interval = board.lock().findings(true).observed[0].interval;
        assert_eq!(interval, 8, "nobody is promised what is not kept");
        (0..3).for_each(|_| pace.look(0.0));
        wait(&board, "they do not speed up again", |_| most() > 2);
        runner.keep_to(vec![], true);
    }

    #[test]
    fn a_fault_is_believed_when_it_is_seen_twice() {
        let tmp = tempfile::tempdir().unwrap();
        let (once, runs) = (tmp.path().join("once"), tmp.path().join("runs"));
        // Fails once, the second time it runs, and then after 'broken' is there.
        let script = format!(
            "echo >>{0}; [ -e {1}.broken ] && exit 2; [ $(wc -l <{0}) = 2 ] && echo glitch && exit 2; echo fine",
            runs.display(),
            once.display()
        );
        let board = Arc::new(Board::new(Role::Pri, EnvVersion::OLDEST, State::default()));
        let mut runner = Runner::new(Arc::clone(&board), Arc::new(Pace::new(2)));
        let check = check("web", &script);
        runner.keep_to(vec![check.clone()], true);
        wait(&board, "it did not run four times", |_| std::fs::read_to_string(&runs).is_ok_and(|text| text.len() >= 4));
        let verdicts = board.lock().take_events().len();
        assert_eq!(verdicts, 1, "a glitch is no change");
        std::fs::write(format!("{}.broken", once.display()), "").unwrap();
        wait(&board, "the fault is not seen", |board| {
            board.last(&check).is_some_and(|last| last.verdict != Verdict::Ok)
        });
    }
}
