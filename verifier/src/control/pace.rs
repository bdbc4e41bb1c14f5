//! How fast the checks go: on a server that is busy they back off together, instead of piling up on it.
//!
//! ```text
//!  load of a minute for each processor   up to 4   more   than 8   than 16
//!  a check begins                        every     2nd    4th      8th time
//!  at once                               all       2 for each processor
//! ```
//!
//! It slows down at once and speeds up by a step, when the load is below half of what it was slowed down for. What gets no answer in time
//! meanwhile is not known: the server that asks may be the one that is slow. That a server has much to do for some minutes, as after its boot, is no
//! problem of its own; that it does not end is.

use atlas_model::verify::{Fault, Profile, Verdict};
use std::{
    sync::{Condvar, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

/// From which load for each processor on checks are slowed down by the factor beside it.
const STEPS: [(f64, u32); 3] = [(4.0, 2), (8.0, 4), (16.0, 8)];
/// How many checks run at once on a busy server, for each processor.
const AT_ONCE: usize = 2;
/// How long one waits at most until others have ended.
const PATIENCE: Duration = Duration::from_secs(60);

/// A server that is busy for longer than this deserves a look.
const LASTING: Duration = Duration::from_secs(300);

/// What all checks of this server share.
#[derive(Debug)]
pub(super) struct Pace {
    state: Mutex<State>,
    ended: Condvar,
    processors: usize,
}

#[derive(Debug)]
struct State {
    factor: u32,
    /// Since when it is more than 1.
    since: Option<Instant>,
    load: f64,
    running: usize,
}

/// The right to run; given back at its end.
#[derive(Debug)]
pub(super) struct Turn<'p>(&'p Pace);

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.0.lock().running -= 1;
        self.0.ended.notify_one();
    }
}

impl Pace {
    pub(super) fn new(processors: usize) -> Pace {
        let state = Mutex::new(State { factor: 1, since: None, load: 0.0, running: 0 });
        Pace { state, ended: Condvar::new(), processors: processors.max(1) }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes in the load of the last minute.
    pub(super) fn look(&self, load: f64) {
        let mut state = self.lock();
        state.load = load;
        state.factor = next(state.factor, load / self.processors as f64);
        state.since = (state.factor > 1).then(|| state.since.unwrap_or_else(Instant::now));
        self.ended.notify_all();
    }

    /// By how much everything is slowed down; 1: not at all.
    pub(super) fn factor(&self) -> u32 {
        self.lock().factor
    }

    /// Waits for its turn; one that waited in vain for long runs all the same.
    pub(super) fn turn(&self) -> Turn<'_> {
        let is_crowded = |state: &mut State| state.factor > 1 && state.running >= AT_ONCE * self.processors;
        let guard = self.ended.wait_timeout_while(self.lock(), PATIENCE, is_crowded);
        let (mut state, _) = guard.unwrap_or_else(PoisonError::into_inner);
        state.running += 1;
        Turn(self)
    }

    /// What is said of it `after` it was last looked at.
    pub(super) fn profile(&self, after: Duration) -> Profile {
        let state = self.lock();
        if state.factor == 1 {
            return Profile::ok("checks begin as often as they should");
        }
        let what = format!(
            "this server is busy (load {:.0} on {} processors): its checks begin {} times as rarely, and what gets no answer in time is unknown",
            state.load, self.processors, state.factor
        );
        if state.since.is_none_or(|since| since.elapsed() + after < LASTING) {
            return Profile::ok(what);
        }
        let hint = "ps -eo pcpu,stat,pid,args --sort=-pcpu | head";
        Profile::of_faults(vec![Fault::new(Verdict::Slow, what, hint).is("busy", &[])], "")
    }
}

fn next(factor: u32, load: f64) -> u32 {
    let wanted = |load: f64| STEPS.iter().rev().find(|(from, _)| load > *from).map_or(1, |(_, factor)| *factor);
    let up = wanted(load);
    // Slower for as long as twice the load would slow down as much.
    if up < factor && wanted(load * 2.0) < factor { factor / 2 } else { up.max(factor) }
}

/// What an answer is worth that took this long of the time it had, on a server that is as busy.
pub(super) fn judged(profile: Profile, took: Duration, deadline: Duration, factor: u32) -> Profile {
    // A check that tries several ways shares its time among them, and leaves some.
    let is_late = took >= deadline / 2;
    if factor == 1 || !is_late || profile.verdict != Verdict::Unacceptable {
        return profile;
    }
    Profile::unknown(format!("no answer in time, and this server, which asks, is busy: {}", profile.summary))
        .hint("when it is no longer busy, this is asked again: VerifierResults causes")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_slows_down_at_once_and_speeds_up_step_by_step() {
        let mut factor = 1;
        let mut at = |load: f64| {
            factor = next(factor, load);
            factor
        };
        assert_eq!([2.0, 4.0, 4.1, 12.5, 17.0].map(&mut at), [1, 1, 2, 4, 8]);
        assert_eq!([9.0, 8.1].map(&mut at), [8, 8], "half of what it was slowed down for is not enough");
        assert_eq!([7.0, 5.0, 3.9, 1.9, 0.5].map(&mut at), [4, 4, 2, 1, 1]);
    }

    #[test]
    fn what_gets_no_answer_in_time_on_a_busy_server_is_not_known() {
        let bad = || Profile::unacceptable("nothing comes");
        let (late, soon, deadline) = (Duration::from_secs(6), Duration::from_secs(1), Duration::from_secs(10));
        assert_eq!(judged(bad(), late, deadline, 4).verdict, Verdict::Unknown);
        assert_eq!(judged(bad(), late, deadline, 1), bad(), "a server that is not busy knows");
        assert_eq!(judged(bad(), soon, deadline, 4), bad(), "a refusal is one, whoever is busy");
        assert_eq!(judged(Profile::ok("late"), late, deadline, 4), Profile::ok("late"));
    }

    #[test]
    fn it_says_so_while_it_lasts() {
        let pace = Pace::new(2);
        let verdict = |after: Duration| pace.profile(after).verdict;
        assert_eq!(verdict(LASTING), Verdict::Ok);
        pace.look(25.0);
        let busy = pace.profile(LASTING);
        assert!(busy.verdict == Verdict::Slow && busy.summary.contains("load 25 on 2 processors"), "{busy:?}");
        let soon = pace.profile(Duration::ZERO);
        assert!(
            soon.verdict == Verdict::Ok && soon.summary.contains("this server is busy"),
            "as after a boot: {soon:?}"
        );
        (0..3).for_each(|_| pace.look(0.5));
        assert_eq!(verdict(LASTING), Verdict::Ok);
    }
}
