//! `atlas-module set` among a thousand versions, against what else switches links. The bench itself stands with the program.

use std::process::Stdio;

use anyhow::{Context, Result, bail};

use super::{Row, say};
use crate::{process, setup};

pub(super) fn run() -> Result<Vec<Row>> {
    setup::install(&[("stow", "bench: the peer")])?;
    say("atlas-module is built as it is installed, and the bench beside it");
    let package = ["--quiet", "--release", "--locked", "--package", "atlas-module"];
    process::run(process::cargo().arg("build").args(package).args(["--bins", "--examples"]))?;
    say("a thousand versions are made, and switched by turns");
    let mut bench = process::cargo();
    bench.arg("run").args(package).args(["--example", "bench_modules", "--", "--json"]);
    let output = bench.stderr(Stdio::inherit()).output().context("cannot start cargo")?;
    // 1: it measured, and a goal was not met.
    if !matches!(output.status.code(), Some(0 | 1)) {
        bail!("{} failed: {}", process::shown(&bench), output.status);
    }
    serde_json::from_slice(&output.stdout).with_context(|| format!("{} printed no rows", process::shown(&bench)))
}
