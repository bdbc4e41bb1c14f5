//! Latent faults: the scenario that brings them about, and its table.

use anyhow::{Context, Result};
use atlas_vm_tests::Tier;
use serde::Deserialize;

use super::{Row, say};
use crate::process;

/// For so many it is shown by a swap.
const SWAPPED: f64 = 10.0;

/// One fault, as the scenario leaves it.
#[derive(Deserialize)]
struct Fault {
    fault: String,
    interval: u32,
    reported: Option<f64>,
    named: bool,
    cleared: Option<f64>,
    ready: Option<String>,
    breaks: bool,
}

pub(super) fn run() -> Result<Vec<Row>> {
    say("two servers boot, and every fault of the table is brought about on the secondary: an hour or so");
    let logs = process::repository().join("target/latent-faults");
    let options = atlas_vm_tests::Options {
        filters: vec!["latent-faults".into()],
        tier: Tier::Long,
        logs: logs.clone(),
        keep_logs: true,
        ..atlas_vm_tests::Options::default()
    };
    // That a goal is missed is told by the rows.
    atlas_vm_tests::run(&options)?;
    let path = logs.join("latent-faults/latent-faults.json");
    let content = std::fs::read(&path).with_context(|| format!("the scenario left no {}", path.display()))?;
    let faults: Vec<Fault> = serde_json::from_slice(&content).context("cannot read the table")?;
    let row = |fault: &Fault| {
        // What a swap would fail with must not read yes.
        let is_right = !fault.breaks || fault.ready.as_deref() == Some("no");
        let seconds = fault.reported.filter(|_| fault.named && fault.cleared.is_some() && is_right).unwrap_or(9999.0);
        Row::at_most(&fault.fault, seconds, f64::from(fault.interval), "s")
    };
    let swapped = std::fs::read_to_string(logs.join("latent-faults/swapped")).context("the scenario made no swap")?;
    let swapped: f64 = swapped.trim().parse().context("how many faults were real after a swap")?;
    let real = Row {
        goal: "at least".into(),
        met: swapped >= SWAPPED,
        ..Row::at_most("faults that were a no, real after a swap", swapped, SWAPPED, "")
    };
    Ok(faults.iter().map(row).chain([real]).collect())
}
