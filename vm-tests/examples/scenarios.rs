//! Runs scenarios alone, without the other tiers: `cargo run -p atlas-vm-tests --example scenarios -- [FILTER…]`. Long ones are run where
//! their whole name is given.

use std::process::ExitCode;

use atlas_vm_tests::{Options, SCENARIOS, Scenario, Tier};

fn main() -> anyhow::Result<ExitCode> {
    let wanted = Options { filters: std::env::args().skip(1).collect(), ..Default::default() };
    let is_meant = |scenario: &&Scenario| {
        let is_named = wanted.filters.iter().any(|filter| filter == scenario.name);
        is_named || scenario.tier <= wanted.tier && wanted.selects(scenario.name)
    };
    let filters: Vec<String> = SCENARIOS.iter().filter(is_meant).map(|scenario| scenario.name.to_owned()).collect();
    anyhow::ensure!(!filters.is_empty(), "no scenario is selected by {:?}", wanted.filters);
    let summary = atlas_vm_tests::run(&Options { filters, tier: Tier::Long, keep_logs: true, ..wanted })?;
    Ok(if summary.failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
