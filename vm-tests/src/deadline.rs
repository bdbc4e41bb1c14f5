//! Every wait ends. A [`Deadline`] is a point in time by which something must have happened.
//!
//! Deadlines are written for a quiet two-core machine under TCG. They stretch by one factor for the whole process: the
//! number in `ATLAS_TEST_SLOW` (3 for a busy machine, say), else what the accelerator says (see [`crate::Accel`]).

use std::sync::OnceLock;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};

static FACTOR: OnceLock<f64> = OnceLock::new();

/// The shortest pause of [`Deadline::poll`], and the longest. In between it is an eighth of the time that has passed: to be asked costs a
/// guest that is emulated some of the time in which it would get ready.
const SHORTEST: Duration = Duration::from_millis(20);
const LONGEST: Duration = Duration::from_millis(400);

/// Fixes the factor for this process unless it is fixed already; `ATLAS_TEST_SLOW` wins over `by_accelerator`.
pub(crate) fn set_factor(by_accelerator: f64) {
    FACTOR.get_or_init(|| from_env().unwrap_or(by_accelerator));
}

fn from_env() -> Option<f64> {
    let factor: f64 = std::env::var("ATLAS_TEST_SLOW").ok()?.parse().ok()?;
    (factor.is_finite() && factor > 0.0).then_some(factor)
}

/// The moment by which a wait must be over.
#[derive(Debug, Clone, Copy)]
pub struct Deadline {
    start: Instant,
    allowed: Duration,
}

/// A deadline `seconds` from now, stretched by the factor of this process.
pub fn secs(seconds: u64) -> Deadline {
    Deadline::after(Duration::from_secs(seconds))
}

impl Deadline {
    /// A deadline `time` from now, stretched by the factor of this process.
    pub fn after(time: Duration) -> Self {
        let factor = FACTOR.get().copied().or_else(from_env).unwrap_or(1.0);
        Self::exact(time.mul_f64(factor))
    }

    /// A deadline exactly `time` from now, whatever the machine.
    pub fn exact(time: Duration) -> Self {
        Self { start: Instant::now(), allowed: time }
    }

    /// The time left, or nothing if the deadline has passed.
    pub fn left(&self) -> Option<Duration> {
        self.allowed.checked_sub(self.start.elapsed()).filter(|left| !left.is_zero())
    }

    /// The time that was allowed in all, for messages.
    pub fn allowed(&self) -> Duration {
        self.allowed
    }

    /// Calls `attempt` until it returns a value.
    ///
    /// # Errors
    /// What `attempt` fails with, at once; or, when the deadline passes first, that `what` did not happen in time.
    pub fn poll<T>(&self, what: &str, mut attempt: impl FnMut() -> Result<Option<T>>) -> Result<T> {
        let begun = Instant::now();
        loop {
            if let Some(value) = attempt()? {
                return Ok(value);
            }
            let pause = (begun.elapsed() / 8).clamp(SHORTEST, LONGEST);
            match self.left() {
                Some(left) => thread::sleep(left.min(pause)),
                None => bail!("{what}: not within {:.1} s", self.allowed.as_secs_f64()),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_poll_that_never_succeeds_ends_at_its_deadline_and_names_what_it_waited_for() {
        let start = Instant::now();
        let error = Deadline::exact(Duration::from_millis(80)).poll("the moon", || Ok(None::<()>)).unwrap_err();
        assert!(error.to_string().contains("the moon: not within 0.1 s"), "{error}");
        assert!(start.elapsed() >= Duration::from_millis(80));
        assert!(start.elapsed() < Duration::from_secs(5));
    }

    #[test]
    fn a_poll_returns_the_first_value() {
        let mut calls = 0;
        let value = Deadline::exact(Duration::from_secs(5)).poll("three", || {
            calls += 1;
            Ok((calls == 3).then_some(calls))
        });
        assert_eq!(value.unwrap(), 3);
    }
}
