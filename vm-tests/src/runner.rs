//! Runs scenarios, two at a time, tells a person how it goes, and keeps the logs of what failed.
//!
//! ```text
//! ok    swap-and-back                      61.2 s
//! FAIL  two-halves-written-apart           44.0 s  logs: target/vm-tests/two-halves-written-apart
//!       the message never came: …
//! 1 passed, 1 failed
//! ```

use std::io::Write;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Instant;

use anyhow::{Context as _, Result, anyhow, ensure};
use serde::Serialize;

use crate::{Context, ledger, lock};

/// Version of the JSON summary.
const SUMMARY_VERSION: u32 = 1;

/// What a scenario costs, cheapest first. A run of one tier includes the cheaper ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Tier {
    /// Tiny guests only: seconds.
    Fast,
    /// Full guests: minutes.
    Vm,
    /// What is run before a release.
    Long,
}

/// One scenario: a row of the table.
#[derive(Debug, Clone, Copy)]
pub struct Scenario {
    /// Its name: words with hyphens, the name of its log folder too.
    pub name: &'static str,
    /// When it is run.
    pub tier: Tier,
    /// What it does.
    pub act: fn(&Context) -> Result<()>,
}

/// What to run, and how.
#[derive(Debug, Clone)]
pub struct Options {
    /// Only scenarios whose name contains one of these; all where there is none.
    pub filters: Vec<String>,
    /// The dearest tier to run.
    pub tier: Tier,
    /// How many at a time.
    pub jobs: usize,
    /// Where the folders with the logs go.
    pub logs: PathBuf,
    /// Keep the logs of what passed too.
    pub keep_logs: bool,
    /// Where to write the summary as JSON.
    pub json: Option<PathBuf>,
    /// Where to write down when each long scenario ran last.
    pub ledger: Option<PathBuf>,
}

impl Options {
    /// Whether its filters let the scenario of this name through.
    pub fn selects(&self, name: &str) -> bool {
        self.filters.is_empty() || self.filters.iter().any(|part| name.contains(part.as_str()))
    }
}

impl Default for Options {
    fn default() -> Self {
        Self {
            filters: vec![],
            tier: Tier::Vm,
            jobs: 2,
            logs: "target/vm-tests".into(),
            keep_logs: false,
            json: None,
            ledger: Some(ledger::place()),
        }
    }
}

/// How a run went.
#[derive(Debug, Clone, Serialize)]
pub struct Summary {
    /// The version of this format.
    pub version: u32,
    /// Number of scenarios that passed.
    pub passed: usize,
    /// Number of scenarios that failed.
    pub failed: usize,
    /// Time for all of them, in seconds.
    pub seconds: f64,
    /// In the order of the table.
    pub scenarios: Vec<Outcome>,
}

/// How one scenario went.
#[derive(Debug, Clone, Serialize)]
pub struct Outcome {
    /// Its name.
    pub name: &'static str,
    /// Its tier.
    pub tier: Tier,
    /// Its time in seconds.
    pub seconds: f64,
    /// Why it failed, with causes; none if it passed.
    pub error: Option<String>,
    /// Where its logs are, if they were kept.
    pub logs: Option<PathBuf>,
}

/// Runs those scenarios of `table` that `options` selects, and prints how each went. The last line is `N passed, M failed`. A
/// scenario that fails is no error of the run: look at [`Summary::failed`].
///
/// # Errors
/// Nothing was selected, or the summary cannot be written.
pub fn run_table(table: &[Scenario], options: &Options) -> Result<Summary> {
    let wanted = |scenario: &&Scenario| scenario.tier <= options.tier && options.selects(scenario.name);
    let selected: Vec<_> = table.iter().filter(wanted).collect();
    ensure!(!selected.is_empty(), "no scenario is selected (filters {:?})", options.filters);
    let start = Instant::now();
    let next = AtomicUsize::new(0);
    let outcomes: Mutex<Vec<Option<Outcome>>> = Mutex::new(vec![None; selected.len()]);
    thread::scope(|scope| {
        for _ in 0..options.jobs.clamp(1, selected.len()) {
            scope.spawn(|| {
                while let Some((at, scenario)) = Some(next.fetch_add(1, Ordering::Relaxed))
                    .and_then(|at| selected.get(at).map(|scenario| (at, *scenario)))
                {
                    let outcome = run_one(scenario, options);
                    let mut outcomes = lock(&outcomes);
                    tell(&outcome);
                    let written = options.ledger.as_deref().map(|file| ledger::record(file, table, &outcome));
                    if let Some(Err(error)) = written {
                        say(&format!("      not written down: {error:#}"));
                    }
                    outcomes[at] = Some(outcome);
                }
            });
        }
    });
    let scenarios: Vec<Outcome> = lock(&outcomes).drain(..).flatten().collect();
    let failed = scenarios.iter().filter(|outcome| outcome.error.is_some()).count();
    let passed = scenarios.len() - failed;
    let summary =
        Summary { version: SUMMARY_VERSION, passed, failed, seconds: start.elapsed().as_secs_f64(), scenarios };
    if let Some(path) = &options.json {
        let writing = || format!("writing the summary {}", path.display());
        std::fs::write(path, serde_json::to_vec_pretty(&summary)?).with_context(writing)?;
    }
    say(&format!("{passed} passed, {failed} failed"));
    Ok(summary)
}

fn run_one(scenario: &Scenario, options: &Options) -> Outcome {
    let start = Instant::now();
    let logs = options.logs.join(scenario.name);
    let result = Context::new(scenario.name, &logs).and_then(|context| {
        let acted = catch_unwind(AssertUnwindSafe(|| (scenario.act)(&context)));
        let acted = acted.unwrap_or_else(|panic| Err(anyhow!("it panicked: {}", panic_text(&*panic))));
        // A fatal line explains a failure better than what failed after it, and fails what seemed to pass.
        let consoles = context.finish();
        match (acted, consoles) {
            (Ok(()), consoles) => consoles,
            (Err(error), Ok(())) => Err(error),
            (Err(error), Err(fatal)) => Err(error.context(fatal)),
        }
    });
    let error = result.err().map(|error| format!("{error:#}"));
    if let Some(error) = &error {
        std::fs::write(logs.join("error.txt"), error).ok();
    } else if !options.keep_logs {
        std::fs::remove_dir_all(&logs).ok();
    }
    let kept = logs.exists().then(|| logs.canonicalize().unwrap_or(logs));
    Outcome { name: scenario.name, tier: scenario.tier, seconds: start.elapsed().as_secs_f64(), error, logs: kept }
}

fn panic_text(panic: &(dyn std::any::Any + Send)) -> &str {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("without a message")
}

fn tell(outcome: &Outcome) {
    let line = format!("{:34} {:7.1} s", outcome.name, outcome.seconds);
    match &outcome.error {
        None => say(&format!("ok    {line}")),
        Some(error) => {
            let logs = outcome.logs.as_ref().map(|path| format!("  logs: {}", path.display())).unwrap_or_default();
            say(&format!("FAIL  {line}{logs}\n      {}", error.replace('\n', "\n      ")));
        }
    }
}

/// One line to standard output at once; a closed pipe is no reason to stop the tests.
fn say(line: &str) {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{line}").and_then(|()| out.flush()).ok();
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &[Scenario] = &[
        Scenario { name: "good", tier: Tier::Fast, act: |_| Ok(()) },
        Scenario { name: "bad", tier: Tier::Fast, act: |_| Err(anyhow!("the cause").context("the failure")) },
        Scenario { name: "panics", tier: Tier::Vm, act: |_| panic!("the horror") },
        Scenario { name: "dear", tier: Tier::Long, act: |_| Ok(()) },
    ];

    #[test]
    fn what_fails_or_panics_is_counted_told_and_its_logs_are_kept() {
        let folder = tempfile::tempdir().unwrap();
        let json = folder.path().join("summary.json");
        let options =
            Options { logs: folder.path().join("logs"), json: Some(json.clone()), ledger: None, ..Options::default() };
        let summary = run_table(TABLE, &options).unwrap();
        assert_eq!((summary.passed, summary.failed), (1, 2));
        let errors: Vec<_> = summary.scenarios.iter().map(|outcome| outcome.error.as_deref().unwrap_or("-")).collect();
        assert_eq!(errors, ["-", "the failure: the cause", "it panicked: the horror"]);
        assert!(!folder.path().join("logs/good").exists());
        assert!(folder.path().join("logs/bad/error.txt").exists());
        let written: serde_json::Value = serde_json::from_slice(&std::fs::read(json).unwrap()).unwrap();
        assert_eq!((&written["version"], &written["failed"]), (&1.into(), &2.into()));
        assert_eq!(written["scenarios"][1]["tier"], "fast");
    }

    #[test]
    fn a_filter_and_a_tier_select_and_selecting_nothing_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let options = Options { tier: Tier::Fast, logs: folder.path().to_owned(), ledger: None, ..Options::default() };
        let only_good = Options { filters: vec!["oo".into()], ..options.clone() };
        assert_eq!(run_table(TABLE, &only_good).unwrap().scenarios.len(), 1);
        let both = Options { filters: vec!["oo".into(), "ba".into()], ..options.clone() };
        assert_eq!(run_table(TABLE, &both).unwrap().scenarios.len(), 2);
        let too_dear = Options { filters: vec!["dear".into()], ..options };
        assert!(run_table(TABLE, &too_dear).is_err());
    }
}
