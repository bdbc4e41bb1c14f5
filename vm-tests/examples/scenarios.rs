//! Runs scenarios alone, without the other tiers: `cargo run -p atlas-vm-tests --example scenarios -- [FILTER]`.

use std::process::ExitCode;

fn main() -> anyhow::Result<ExitCode> {
    let options = atlas_vm_tests::Options { filter: std::env::args().nth(1), keep_logs: true, ..Default::default() };
    let summary = atlas_vm_tests::run(&options)?;
    Ok(if summary.failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
