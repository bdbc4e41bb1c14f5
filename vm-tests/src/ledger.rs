//! Which of the long scenarios ran last on which commit: `LONG-RUNS.md`, written by each run of one.
//!
//! Nobody runs all of them every day. What has not run for long, or never, shows here.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, ensure};

use crate::{Outcome, Scenario, Tier};

const HEAD: &str = "# The last run of each long scenario

Written by the runs themselves: `cargo xtask test --long` runs all of them, and
`cargo run -p atlas-vm-tests --example scenarios -- NAME` one. A `+` behind the commit: with changes that
were not committed.

| scenario | came out | took | commit | on |
|---|---|---|---|---|
";
const NEVER: &str = "never run | | | |";

/// The file, in this crate's folder.
pub(crate) fn place() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("LONG-RUNS.md")
}

/// Writes down how a long scenario of `table` came out; of others, nothing.
pub(crate) fn record(file: &Path, table: &[Scenario], outcome: &Outcome) -> Result<()> {
    if outcome.tier != Tier::Long {
        return Ok(());
    }
    let came_out = if outcome.error.is_none() { "ok" } else { "**failed**" };
    let row =
        format!("{came_out} | {:.0} s | {} | {} |", outcome.seconds, commit(file)?, output("date", &["-u", "+%F"])?);
    let known = std::fs::read_to_string(file).unwrap_or_default();
    let writing = || format!("writing {}", file.display());
    let fresh = file.with_extension("new");
    std::fs::write(&fresh, with_row(&known, table, outcome.name, &row)).with_context(writing)?;
    std::fs::rename(&fresh, file).with_context(writing)
}

/// The table with one row changed: a row for each long scenario that there is, in the order of their names.
fn with_row(known: &str, table: &[Scenario], name: &str, row: &str) -> String {
    let parts = known.lines().filter_map(|line| line.strip_prefix("| ")?.split_once(" | "));
    let mut rows: BTreeMap<&str, &str> =
        table.iter().filter(|scenario| scenario.tier == Tier::Long).map(|scenario| (scenario.name, NEVER)).collect();
    parts.for_each(|(name, row)| {
        rows.entry(name).and_modify(|known| *known = row);
    });
    rows.insert(name, row);
    rows.iter().fold(HEAD.to_owned(), |text, (name, row)| text + &format!("| {name} | {row}\n"))
}

/// The commit that is checked out around this file, and whether anything else was changed.
fn commit(file: &Path) -> Result<String> {
    let folder = file.parent().context("a file lies in a folder")?.to_string_lossy();
    let git = |rest: &[&str]| output("git", &[&["-C", folder.as_ref()], rest].concat());
    let changed = git(&["status", "--porcelain", "--untracked-files=no", ":/", ":!LONG-RUNS.md"])?;
    Ok(git(&["rev-parse", "--short=7", "HEAD"])? + if changed.is_empty() { "" } else { "+" })
}

fn output(program: &str, arguments: &[&str]) -> Result<String> {
    let output = Command::new(program).args(arguments).output().with_context(|| format!("running {program}"))?;
    ensure!(output.status.success(), "{program} {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &[Scenario] = &[
        Scenario { name: "slow", tier: Tier::Long, act: |_| Ok(()) },
        Scenario { name: "idle", tier: Tier::Long, act: |_| Ok(()) },
        Scenario { name: "daily", tier: Tier::Vm, act: |_| Ok(()) },
    ];

    fn outcome(name: &'static str, tier: Tier, error: Option<&str>) -> Outcome {
        Outcome { name, tier, seconds: 61.4, error: error.map(str::to_owned), logs: None }
    }

    #[test]
    fn each_long_scenario_has_a_row_and_only_what_ran_changes_its_own() {
        let folder = tempfile::tempdir().unwrap();
        let git = |arguments: &[&str]| {
            let done = Command::new("git").arg("-C").arg(folder.path()).args(arguments).output().unwrap();
            assert!(done.status.success(), "{done:?}");
        };
        git(&["init", "-q"]);
        std::fs::write(folder.path().join("code"), "1").unwrap();
        git(&["add", "."]);
        git(&["-c", "user.name=a", "-c", "user.email=a@b", "commit", "-qm", "begin"]);
        let file = folder.path().join("LONG-RUNS.md");
        let rows = || {
            let text = std::fs::read_to_string(&file).unwrap();
            text.lines().filter(|line| line.contains(" s | ") || line.contains("never")).map(str::to_owned).collect()
        };
        record(&file, TABLE, &outcome("daily", Tier::Vm, None)).unwrap();
        assert!(!file.exists(), "what runs every day is not written down");

        record(&file, TABLE, &outcome("slow", Tier::Long, None)).unwrap();
        let found: Vec<String> = rows();
        assert_eq!(found[0], "| idle | never run | | | |");
        assert!(found[1].starts_with("| slow | ok | 61 s | ") && !found[1].contains('+'), "{found:?}");

        std::fs::write(folder.path().join("code"), "2").unwrap();
        record(&file, TABLE, &outcome("idle", Tier::Long, Some("it broke"))).unwrap();
        let later: Vec<String> = rows();
        assert!(later[0].starts_with("| idle | **failed** | 61 s | ") && later[0].contains("+ | "), "{later:?}");
        assert_eq!(later[1], found[1]);
    }

    #[test]
    fn every_long_scenario_stands_in_the_file() {
        let text = std::fs::read_to_string(place()).unwrap();
        let missing: Vec<&str> = crate::SCENARIOS
            .iter()
            .filter(|scenario| scenario.tier == Tier::Long && !text.contains(&format!("| {} |", scenario.name)))
            .map(|scenario| scenario.name)
            .collect();
        assert!(missing.is_empty(), "never run and not in LONG-RUNS.md: {missing:?}");
    }
}
