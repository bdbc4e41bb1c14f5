//! `cargo xtask bench NAME`: ATLAS and its peer on the same work, side by side, in one run.

mod boot;

use anyhow::Result;
use serde::Serialize;

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
}

/// One thing measured, next to the same thing of the peer where there is one.
#[derive(Debug, Clone, Serialize, PartialEq)]
pub(crate) struct Row {
    /// What was measured.
    pub(crate) name: String,
    /// ATLAS's.
    pub(crate) value: f64,
    /// Of both values.
    pub(crate) unit: &'static str,
    /// What it is compared with; empty where the goal is absolute.
    pub(crate) peer: &'static str,
    /// The peer's.
    pub(crate) peer_value: Option<f64>,
    /// `value / peer_value`
    pub(crate) ratio: Option<f64>,
    /// The goal, for people.
    pub(crate) goal: String,
    /// Whether it is met.
    pub(crate) met: bool,
}

impl Row {
    /// A value that must not be above a limit in the same unit.
    pub(crate) fn at_most(name: &str, value: f64, limit: f64, unit: &'static str) -> Self {
        let goal = format!("at most {limit} {unit}");
        Row { name: name.into(), value, unit, peer: "", peer_value: None, ratio: None, goal, met: value <= limit }
    }

    /// A value that must not be more than so many times the peer's.
    pub(crate) fn at_most_times(
        name: &str,
        value: f64,
        unit: &'static str,
        peer: &'static str,
        peer_value: f64,
        limit: f64,
    ) -> Self {
        let ratio = value / peer_value;
        let goal = format!("ratio at most {limit}");
        let (peer_value, ratio, met) = (Some(peer_value), Some(ratio), ratio <= limit);
        Row { name: name.into(), value, unit, peer, peer_value, ratio, goal, met }
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
    };
    if arguments.json {
        println!("{}", serde_json::to_string_pretty(&rows)?);
    } else {
        print!("{}", table(&rows));
    }
    Ok(rows.iter().all(|row| row.met))
}

fn table(rows: &[Row]) -> String {
    let width = rows.iter().map(|row| row.name.len()).max().unwrap_or(0);
    let line = |row: &Row| {
        let peer = row.peer_value.map(|value| format!("{}: {value:.1} {}", row.peer, row.unit)).unwrap_or_default();
        let ratio = row.ratio.map(|ratio| format!("ratio {ratio:.3}")).unwrap_or_default();
        let met = if row.met { "met" } else { "NOT MET" };
        let value = format!("{:.1} {}", row.value, row.unit);
        format!("{:width$}  {value:>12}  {peer:28}  {ratio:12}  {met:7}  ({})\n", row.name, row.goal)
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
        let expected = r#"{"name":"size","value":1.5,"unit":"MiB","peer":"","peer_value":null,"ratio":null,
            "goal":"at most 2 MiB","met":true}"#;
        assert_eq!(row, serde_json::from_str::<serde_json::Value>(expected).unwrap());
    }

    #[test]
    fn the_table_says_which_goal_is_not_met() {
        let rows = [Row::at_most("a", 1.0, 2.0, "s"), Row::at_most_times("b", 3.0, "s", "Debian", 1.0, 1.5)];
        let table = table(&rows);
        let lines: Vec<&str> = table.lines().collect();
        assert!(lines[0].contains(" met ") && lines[1].contains("NOT MET"), "{table}");
        assert!(lines[1].contains("Debian: 1.0 s") && lines[1].contains("ratio 3.000"), "{table}");
    }
}
