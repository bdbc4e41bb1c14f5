//! Runs scenarios alone, without the other tiers: `cargo run -p atlas-vm-tests --example scenarios -- [FILTER]`. Long ones are run where
//! their whole name is given.

use std::process::ExitCode;

use atlas_vm_tests::{Options, SCENARIOS, Tier};

fn main() -> anyhow::Result<ExitCode> {
    let filter = std::env::args().nth(1);
    let is_named = SCENARIOS.iter().any(|scenario| filter.as_deref() == Some(scenario.name));
    let tier = if is_named { Tier::Long } else { Tier::Vm };
    let options = Options { filter, tier, keep_logs: true, ..Default::default() };
    let summary = atlas_vm_tests::run(&options)?;
    Ok(if summary.failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
