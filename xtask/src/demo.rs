//! `cargo xtask demo`: a failover that one can watch.

use std::time::Instant;

use anyhow::Result;
use atlas_vm_tests::demo::{Report, demo};

use crate::{image, process, setup};

#[derive(clap::Args)]
pub(crate) struct Arguments {}

/// Returns whether the failover did what it should.
pub(crate) fn run(_arguments: &Arguments) -> Result<bool> {
    setup::run()?;
    println!(
        "\nATLAS: the disks decide who a server is. Everything below happens in two emulated Debian 12 servers.\n"
    );
    println!("── the servers' image is built ──");
    atlas_image::server_image(&atlas_image::Options::new(&image::say)?)?;
    println!("\n── the failover ──");
    let began = Instant::now();
    let say = |step: &str| println!("[{:4.0} s] {step}", began.elapsed().as_secs_f64());
    let report = demo(&process::repository().join("target/demo"), &say)?;
    tell(&report);
    let failed: Vec<&str> = report.checks.iter().filter(|check| !check.is_ok()).map(|check| check.what).collect();
    match failed.as_slice() {
        [] => println!("\nfailover: ok"),
        failed => println!("\nfailover: failed: {}", failed.join("; ")),
    }
    Ok(failed.is_empty())
}

fn tell(report: &Report) {
    println!("\n── what was checked ──");
    let width = report.checks.iter().map(|check| check.what.len()).max().unwrap_or(0);
    for check in &report.checks {
        let verdict = if check.is_ok() { "ok    " } else { "FAILED" };
        let expected = if check.is_ok() { String::new() } else { format!("   expected: {}", check.expected) };
        println!("{verdict}  {:width$}  {}{expected}", check.what, check.seen);
    }
    println!("\n── times ──");
    for (step, took) in &report.timings {
        println!("{:7.1} s  {step}", took.as_secs_f64());
    }
}
