//! Runs scenarios: `cargo run -p atlas-vm-tests --example run [PART-OF-NAME]`.

fn main() -> anyhow::Result<()> {
    let options = atlas_vm_tests::Options { filter: std::env::args().nth(1), keep_logs: true, ..Default::default() };
    let summary = atlas_vm_tests::run(&options)?;
    std::process::exit(i32::from(summary.failed > 0))
}
