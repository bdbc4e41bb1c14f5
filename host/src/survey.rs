//! Reading the superblocks of disks of which one may not answer.
//!
//! A read of a disk that is dead in a certain way never returns, and nothing ends the thread that waits for it. So each disk is read on a
//! thread of its own, all at once; one that gives no answer in time is unreadable, for that reason, and its thread is left to itself: it is
//! not asked again before it has answered.

use crate::block::{Device, Looked, survey_by};
use atlas_model::survey::{Survey, Trace};
use std::{
    collections::BTreeMap,
    path::PathBuf,
    sync::mpsc::{Receiver, RecvTimeoutError, channel},
    time::{Duration, Instant},
};

/// Reads disks, each at most for a time.
#[derive(Debug)]
pub struct Reader {
    patience: Duration,
    silent: BTreeMap<PathBuf, Receiver<Looked>>,
}

impl Reader {
    /// All disks together have `patience` for a look.
    pub fn new(patience: Duration) -> Reader {
        Reader { patience, silent: BTreeMap::new() }
    }

    /// Reads the superblocks of all `devices`, as [`crate::block::survey`] does.
    pub fn survey(&mut self, devices: &[Device]) -> Survey {
        survey_by(devices, |looks, look| self.each(looks, look))
    }

    fn each(&mut self, looks: Vec<Looked>, look: fn(Looked) -> Looked) -> Vec<Looked> {
        let until = Instant::now() + self.patience;
        let asked: Vec<(Looked, Receiver<Looked>, bool)> =
            looks.into_iter().map(|looked| self.ask(looked, look)).collect();
        let mut answers = Vec::new();
        for (looked, answer, is_new) in asked {
            let rest = if is_new { until.saturating_duration_since(Instant::now()) } else { Duration::ZERO };
            answers.push(match answer.recv_timeout(rest) {
                Ok(answered) if is_new => answered,
                // What it says now is of an earlier look; the next one asks it again.
                Ok(_) => unread(looked, "it has only just answered again"),
                Err(RecvTimeoutError::Disconnected) => unread(looked, "the thread that read it ended early"),
                Err(RecvTimeoutError::Timeout) => {
                    self.silent.insert(looked.device.path.clone(), answer);
                    unread(looked, &format!("no answer within {} s", self.patience.as_secs()))
                }
            });
        }
        answers
    }

    fn ask(&mut self, looked: Looked, look: fn(Looked) -> Looked) -> (Looked, Receiver<Looked>, bool) {
        if let Some(waiting) = self.silent.remove(&looked.device.path) {
            return (looked, waiting, false);
        }
        let (answer, answered) = channel();
        let asked = looked.clone();
        // Where no thread can be had, the channel is closed, and that is the answer.
        let _ = std::thread::Builder::new().spawn(move || {
            // Nobody waits any more where the boot is over.
            let _ = answer.send(look(asked));
        });
        (looked, answered, true)
    }
}

fn unread(mut looked: Looked, why: &str) -> Looked {
    let is_said = looked.device.traces.iter().any(|trace| matches!(trace, Trace::Unreadable(_)));
    if !is_said {
        looked.device.traces.push(Trace::Unreadable(why.to_owned()));
    }
    looked
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

    static DEAD: AtomicBool = AtomicBool::new(true);
    static READS: AtomicUsize = AtomicUsize::new(0);

    fn look(looked: Looked) -> Looked {
        READS.fetch_add(1, Ordering::SeqCst);
        while looked.device.path.ends_with("dead") && DEAD.load(Ordering::SeqCst) {
            std::thread::sleep(Duration::from_millis(1));
        }
        looked
    }

    fn looks() -> Vec<Looked> {
        let named =
            |name: &str| Looked { device: Device { path: name.into(), ..Device::default() }, ..Looked::default() };
        ["a", "dead", "b"].map(named).into()
    }

    fn unreadable(looks: &[Looked]) -> Vec<String> {
        let traces = looks.iter().flat_map(|looked| &looked.device.traces);
        traces.filter_map(|trace| if let Trace::Unreadable(why) = trace { Some(why.clone()) } else { None }).collect()
    }

    #[test]
    fn a_disk_that_does_not_answer_is_unreadable_and_holds_up_no_other() {
        let mut reader = Reader::new(Duration::from_millis(300));
        let begun = Instant::now();
        for asked in [3, 5] {
            let seen = reader.each(looks(), look);
            assert_eq!(seen.len(), 3);
            let why = unreadable(&seen);
            assert!(why.len() == 1 && why[0].contains("no answer within"), "{why:?}");
            assert_eq!(READS.load(Ordering::SeqCst), asked, "a silent disk is not asked again");
        }
        assert!(begun.elapsed() < Duration::from_secs(5));
        DEAD.store(false, Ordering::SeqCst);
        let mut again = (0..1000).map(|_| {
            std::thread::sleep(Duration::from_millis(1));
            reader.each(looks(), look)
        });
        assert!(again.any(|seen| unreadable(&seen).is_empty()), "it answers, and is read again");
    }
}
