//! `cargo xtask bench NAME`: ATLAS and its peer on the same work, side by side, in one run.

mod boot;
mod latent;
mod product;

use anyhow::Result;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::setup;

#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Which one.
    name: Name,
    /// One array of rows and nothing else on standard output.
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, clap::ValueEnum)]
enum Name {
    /// What ATLAS adds to a boot: time, and size of the initramfs.
    Boot,
    /// Switching a module's version: time, next to update-alternatives and stow.
    Modules,
    /// From a core to its signature, next to gdb and eu-stack; and what ssRun adds to a run.
    Crashes,
    /// Taking and installing Snapshots, and whole cycles over ssh: time and memory, next to rsync and git.
    Sync,
    /// Verifying: processor and memory for 200 checks a minute, and how soon a fault is told.
    Verify,
    /// Real configurations of Debian 11, 12 and 13: what SetUp finds is what each daemon says, and none that is well is called a fault.
    Corpus,
    /// Every fault of a table brought about on a secondary, in virtual machines: whether it is told, how soon, and whether that names it.
    LatentFaults,
}

/// One thing measured, next to the same thing of the peer, or next to a limit.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Row {
    /// What was measured.
    pub(crate) name: String,
    /// ATLAS's.
    pub(crate) value: f64,
    /// Of both values.
    pub(crate) unit: String,
    /// What it is compared with; `goal` where that is a limit.
    pub(crate) peer: String,
    /// The peer's, or the limit.
    pub(crate) peer_value: f64,
    /// `value / peer_value`
    pub(crate) ratio: f64,
    /// What the ratio may be at most, or in words what must be so.
    pub(crate) goal: Value,
    /// Whether it is so.
    pub(crate) met: bool,
}

impl Row {
    /// A value that must not be above a limit.
    pub(crate) fn at_most(name: &str, value: f64, limit: f64, unit: &str) -> Self {
        Row::at_most_times(name, value, unit, "goal", limit, 1.0)
    }

    /// A value that must not be more than `goal` times the peer's.
    pub(crate) fn at_most_times(name: &str, value: f64, unit: &str, peer: &str, peer_value: f64, goal: f64) -> Self {
        let ratio = value / peer_value;
        Row {
            name: name.into(),
            value,
            unit: unit.into(),
            peer: peer.into(),
            peer_value,
            ratio,
            goal: goal.into(),
            met: ratio <= goal,
        }
    }
}

/// Where to tell how far it is: not on standard output, which may be for a machine.
pub(crate) fn say(step: &str) {
    eprintln!("bench: {step}");
}

/// Returns whether every goal is met.
pub(crate) fn run(arguments: &Arguments) -> Result<bool> {
    setup::run()?;
    let rows = match arguments.name {
        Name::Boot => boot::run()?,
        Name::Modules => product::MODULES.run()?,
        Name::Crashes => product::CRASHES.run()?,
        Name::Sync => product::SYNC.run()?,
        Name::Verify => product::VERIFY.run()?,
        Name::Corpus => product::CORPUS.run()?,
        Name::LatentFaults => latent::run()?,
    };
    if arguments.json {
        println!("{}", serde_json::to_string_pretty(&rows)?);
    } else {
        print!("{}", table(&rows));
    }
    Ok(rows.iter().all(|row| row.met))
}

fn table(rows: &[Row]) -> String {
    let width = |text: fn(&Row) -> &str| rows.iter().map(|row| text(row).chars().count()).max().unwrap_or(0);
    let (names, peers) = (width(|row| &row.name), width(|row| &row.peer));
    let line = |row: &Row| {
        let Row { name, value, unit, peer, peer_value, ratio, goal, met } = row;
        let goal = goal.as_str().map_or_else(|| goal.to_string(), str::to_owned);
        let met = if *met { "met" } else { "NOT MET" };
        format!(
            "{name:names$}  {value:8.2} {unit:3}  {peer:peers$} {peer_value:8.2} {unit:3}  ratio {ratio:6.3}, \
             goal {goal}: {met}\n"
        )
    };
    rows.iter().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_goal_is_met_up_to_its_limit_and_not_beyond() {
        assert!(Row::at_most("size", 2.0, 2.0, "MiB").met);
        assert!(!Row::at_most("size", 2.01, 2.0, "MiB").met);
        assert!(Row::at_most_times("boot", 10.3, "s", "Debian", 10.0, 1.03).met);
        assert!(!Row::at_most_times("boot", 10.4, "s", "Debian", 10.0, 1.03).met);
    }

    #[test]
    fn rows_have_the_same_fields_in_every_bench() {
        let row = serde_json::to_value(Row::at_most("size", 1.5, 2.0, "MiB")).unwrap();
        let expected = r#"{"name":"size","value":1.5,"unit":"MiB","peer":"goal","peer_value":2.0,"ratio":0.75,
            "goal":1.0,"met":true}"#;
        assert_eq!(row, serde_json::from_str::<serde_json::Value>(expected).unwrap());
    }

    #[test]
    fn the_table_says_which_goal_is_not_met() {
        let rows = [Row::at_most("a", 1.0, 2.0, "s"), Row::at_most_times("b", 3.0, "s", "Debian", 1.0, 1.5)];
        let table = table(&rows);
        let lines: Vec<&str> = table.lines().collect();
        assert!(lines[0].ends_with(" met") && lines[1].ends_with("NOT MET"), "{table}");
        assert!(lines[1].contains("Debian") && lines[1].contains("ratio  3.000"), "{table}");
    }
}
