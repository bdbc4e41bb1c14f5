//! What a person sees of the demo: what is going on, with the time; at the end, what was checked.

use std::time::{Duration, Instant};

use anyhow::Result;

/// One thing that was checked.
struct Check {
    chapter: &'static str,
    what: String,
    /// What was there instead, where it was not as it should be.
    wrong: Option<String>,
    at: Duration,
}

/// The demo as it goes on.
pub(super) struct Story {
    start: Instant,
    chapter: &'static str,
    checks: Vec<Check>,
    /// Name and time of what was worth measuring.
    times: Vec<(String, Duration)>,
}

impl Story {
    pub(super) fn begin() -> Self {
        Story { start: Instant::now(), chapter: "", checks: Vec::new(), times: Vec::new() }
    }

    /// What is checked from here on stands under this heading.
    pub(super) fn chapter(&mut self, chapter: &'static str) {
        self.chapter = chapter;
    }

    /// A line about what happens now.
    pub(super) fn tell(&self, line: &str) {
        println!("{}  {line}", clock(self.start.elapsed()));
    }

    /// Does something that takes its time, and notes how much.
    pub(super) fn timed<T>(&mut self, what: &str, work: impl FnOnce() -> Result<T>) -> Result<T> {
        self.tell(what);
        let start = Instant::now();
        let done = work()?;
        self.times.push((what.to_owned(), start.elapsed()));
        Ok(done)
    }

    /// Compares what a server said with what it should have said; the demo goes on either way.
    pub(super) fn check(&mut self, what: &str, seen: &str, expected: &str) {
        let wrong = (seen != expected).then(|| format!("it is {seen:?} and should be {expected:?}"));
        let at = self.start.elapsed();
        match &wrong {
            None => println!("{}    ok      {what}: {}", clock(at), shortened(seen)),
            Some(wrong) => println!("{}    FAILED  {what}: {wrong}", clock(at)),
        }
        self.checks.push(Check { chapter: self.chapter, what: what.to_owned(), wrong, at });
    }

    /// The table and the last line; true if all was as it should be.
    pub(super) fn end(&self) -> bool {
        let mut chapter = None;
        for check in &self.checks {
            if chapter.replace(check.chapter) != Some(check.chapter) {
                println!("\n{}", check.chapter);
            }
            let verdict = if check.wrong.is_some() { "FAILED" } else { "ok" };
            println!("  {verdict:6}  {:60} at {}", check.what, clock(check.at));
        }
        println!("\ntimes");
        for (what, time) in &self.times {
            println!("  {:>7.1} s  {what}", time.as_secs_f64());
        }
        println!("  {:>7.1} s  in all\n", self.start.elapsed().as_secs_f64());
        println!("{}", self.verdict());
        self.is_good()
    }

    fn is_good(&self) -> bool {
        !self.checks.is_empty() && self.checks.iter().all(|check| check.wrong.is_none())
    }

    fn verdict(&self) -> String {
        let wrong: Vec<&str> = self.checks.iter().filter(|c| c.wrong.is_some()).map(|c| c.what.as_str()).collect();
        match (self.is_good(), wrong.is_empty()) {
            (true, _) => "failover: ok".to_owned(),
            (false, true) => "failover: FAILED: nothing was checked".to_owned(),
            (false, false) => format!("failover: FAILED: {}", wrong.join("; ")),
        }
    }
}

fn clock(time: Duration) -> String {
    format!("[{:2}:{:02}]", time.as_secs() / 60, time.as_secs() % 60)
}

/// Keys and digests are long.
fn shortened(text: &str) -> String {
    const SHOWN: usize = 60;
    if text.chars().count() <= SHOWN { text.to_owned() } else { text.chars().take(SHOWN).chain(['…']).collect() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_is_well_only_if_something_was_checked_and_nothing_was_wrong() {
        let mut story = Story::begin();
        assert!(!story.end());
        story.check("the name", "pri", "pri");
        assert_eq!((story.end(), story.verdict().as_str()), (true, "failover: ok"));
        story.check("the page", "old", "new");
        assert_eq!((story.end(), story.verdict().as_str()), (false, "failover: FAILED: the page"));
    }

    #[test]
    fn the_clock_shows_minutes_and_seconds() {
        assert_eq!(clock(Duration::from_secs(125)), "[ 2:05]");
    }
}
