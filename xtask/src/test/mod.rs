//! `cargo xtask test`: every test there is, in tiers, cheapest first.
//!
//! All tiers run, whatever fails before them: one run tells everything. Only the VM scenarios are left out where
//! the image they boot cannot be made.

mod cargo_tests;
mod direction;

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use atlas_vm_tests::Tier as VmTier;

use crate::{image, process, setup};

#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Leave the disk image and the virtual machines out.
    #[arg(long, conflicts_with = "long")]
    fast: bool,
    /// With what takes too long for every day: all scenarios, crashes in three releases of Debian, ten thousand runs, thousands
    /// of power cuts, and licences and sources of all dependencies.
    #[arg(long)]
    long: bool,
    /// Only the tests and scenarios whose names contain this.
    filter: Option<String>,
}

/// How many tests of a tier passed and failed. A check is one test.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Count {
    pub(crate) passed: usize,
    pub(crate) failed: usize,
}

impl std::ops::Add for Count {
    type Output = Count;

    fn add(self, other: Count) -> Count {
        Count { passed: self.passed + other.passed, failed: self.failed + other.failed }
    }
}

/// One tier: its heading, when it runs, what it does.
struct Tier {
    name: &'static str,
    is_wanted: fn(&Arguments) -> bool,
    run: fn(&Arguments) -> Result<Count>,
}

const TIERS: [Tier; 10] = [
    Tier { name: "format", is_wanted: checks, run: |_| check(format()) },
    Tier { name: "lints", is_wanted: checks, run: |_| check(lints()) },
    Tier { name: "direction of dependencies", is_wanted: checks, run: |_| check(direction::check()) },
    Tier { name: "licences and sources of dependencies", is_wanted: checks, run: |arguments| deny(arguments.long) },
    Tier { name: "generated files", is_wanted: checks, run: |_| check(process::generate(true)) },
    Tier { name: "unit and property tests", is_wanted: |_| true, run: unit_tests },
    Tier { name: "examples in the documentation", is_wanted: checks, run: |_| check(examples()) },
    Tier { name: "long tests", is_wanted: |arguments| arguments.long, run: long_tests },
    Tier { name: "package and image", is_wanted: |arguments| !arguments.fast, run: package_and_image },
    Tier { name: "scenarios in virtual machines", is_wanted: |arguments| !arguments.fast, run: scenarios },
];

/// Whoever names a test wants that test.
fn checks(arguments: &Arguments) -> bool {
    arguments.filter.is_none()
}

/// Returns whether all that ran has passed.
pub(crate) fn run(arguments: &Arguments) -> Result<bool> {
    setup::with_tests()?;
    let image = (!arguments.fast && arguments.filter.is_none()).then(image_beside).transpose()?;
    let mut results = Vec::new();
    for tier in TIERS.iter().filter(|tier| (tier.is_wanted)(arguments)) {
        println!("\n── {} ──", tier.name);
        let start = Instant::now();
        let count = (tier.run)(arguments).unwrap_or_else(|error| {
            println!("error: {error:#}");
            Count { passed: 0, failed: 1 }
        });
        let took = start.elapsed();
        println!("{}: {}, {}", tier.name, verdict(count), seconds(took));
        results.push((tier.name, count, took));
    }
    if let Some(mut image) = image {
        image.wait().context("the image made beside the tests")?;
    }
    Ok(tell(&results))
}

/// Begins to make the image, which is mostly waiting for one processor, while the tests have the other. The tier that tests it finds it in
/// the cache, or waits for it there; where it fails, that tier fails in the same way and says why.
fn image_beside() -> Result<std::process::Child> {
    let log = process::repository().join("target/image.log");
    let output = std::fs::File::create(&log).with_context(|| format!("cannot write {}", log.display()))?;
    let mut command = Command::new("nice");
    command.arg("-n19").arg(std::env::current_exe()?).arg("image");
    command.stdin(Stdio::null()).stdout(output.try_clone()?).stderr(output);
    command.spawn().context("cannot start nice")
}

/// Prints the table and the last line; true if nothing failed, and something ran.
fn tell(results: &[(&str, Count, Duration)]) -> bool {
    println!();
    for (name, count, took) in results {
        let Count { passed, failed } = count;
        println!("{:6}  {name:38} {passed:5} passed {failed:3} failed {:>9}", verdict(*count), seconds(*took));
    }
    let sum = |number: fn(&Count) -> usize| results.iter().map(|(_, count, _)| number(count)).sum::<usize>();
    let (passed, failed) = (sum(|count| count.passed), sum(|count| count.failed));
    let took: Duration = results.iter().map(|(.., took)| *took).sum();
    println!("{:6}  {:59} {:>9}", "", "", seconds(took));
    println!("{passed} passed, {failed} failed");
    failed == 0 && passed > 0
}

fn verdict(count: Count) -> &'static str {
    match count {
        Count { failed: 0, passed: 0 } => "none",
        Count { failed: 0, .. } => "ok",
        Count { .. } => "FAILED",
    }
}

fn seconds(time: Duration) -> String {
    format!("{:.1} s", time.as_secs_f64())
}

/// A check that held is one test passed.
fn check(result: Result<()>) -> Result<Count> {
    result.map(|()| Count { passed: 1, failed: 0 })
}

fn format() -> Result<()> {
    process::run_check(process::cargo().args(["fmt", "--all", "--check", "--", "--files-with-diff"]))
}

fn lints() -> Result<()> {
    let arguments = ["clippy", "--quiet", "--workspace", "--all-targets", "--locked", "--", "--deny", "warnings"];
    process::run_check(process::cargo().args(arguments))
}

/// Where cargo-deny is not there, a long run installs it and any other says that it left this out.
fn deny(install: bool) -> Result<Count> {
    if !process::is_installed("cargo-deny") {
        if !install {
            println!("left out: cargo-deny is not installed (`cargo xtask test --long` installs it)");
            return Ok(Count::default());
        }
        process::run(process::cargo().args(["install", "--quiet", "--locked", "cargo-deny"]))?;
    }
    check(process::run_check(process::cargo().args([
        "deny",
        "--log-level",
        "error",
        "check",
        "licenses",
        "bans",
        "sources",
    ])))
}

/// All but those that boot machines: they are a tier of their own.
fn unit_tests(arguments: &Arguments) -> Result<Count> {
    let as_root = as_root()?;
    let filter: Vec<&str> = arguments.filter.as_deref().into_iter().collect();
    let everything_else = cargo_tests::run(&["--workspace", "--exclude", "atlas-vm-tests"], &as_root, &filter)?;
    let harness = cargo_tests::run(&["--package", "atlas-vm-tests", "--lib"], &[], &filter)?;
    Ok(everything_else + harness)
}

/// What the documentation shows does what it says.
fn examples() -> Result<()> {
    process::run_check(process::cargo().args(["test", "--quiet", "--locked", "--workspace", "--doc"]))
}

/// Those that their crates ignore because of their time. The others that are ignored are run where they belong.
fn long_tests(arguments: &Arguments) -> Result<Count> {
    let selection =
        ["atlas-corehandler", "atlas-histories", "atlas-runner", "atlas-synchronizer"].map(|name| ["--package", name]);
    let ignored: Vec<&str> = std::iter::once("--ignored").chain(arguments.filter.as_deref()).collect();
    cargo_tests::run(selection.as_flattened(), &as_root()?, &ignored)
}

/// What runs tests as root where it is somebody else that calls: the products are root's programs, and what they do (owners, mounts,
/// networks of a test's own) cannot be tried as anybody else.
fn as_root() -> Result<Vec<String>> {
    if !setup::become_root()? {
        return Ok(vec![]);
    }
    let own = |name: &str| std::env::var(name).unwrap_or_default();
    // Root's programs are in directories that others have no use for.
    let path = format!("PATH={}:/usr/local/sbin:/usr/sbin:/sbin", own("PATH"));
    let kept = [path, format!("HOME={}", own("HOME"))];
    Ok(["sudo", "--preserve-env", "env"].map(str::to_owned).into_iter().chain(kept).collect())
}

fn package_and_image(arguments: &Arguments) -> Result<Count> {
    let mut choice = vec!["--ignored"];
    if !arguments.long {
        choice.extend(["--skip", "other_releases", "--skip", "built_otherwise"]);
    }
    choice.extend(arguments.filter.as_deref());
    let count = cargo_tests::run(&["--package", "atlas-image"], &[], &choice)?;
    let image = atlas_image::server_image(&atlas_image::Options::new(&image::say)?)?;
    println!("image: {}", image.root.display());
    Ok(count)
}

fn scenarios(arguments: &Arguments) -> Result<Count> {
    let options = atlas_vm_tests::Options {
        filters: arguments.filter.iter().cloned().collect(),
        tier: if arguments.long { VmTier::Long } else { VmTier::Vm },
        logs: process::repository().join("target/vm-tests"),
        ..atlas_vm_tests::Options::default()
    };
    let filter: Vec<&str> = arguments.filter.as_deref().into_iter().collect();
    let harness = cargo_tests::run(&["--package", "atlas-vm-tests", "--test", "*"], &[], &filter)?;
    if !atlas_vm_tests::SCENARIOS.iter().any(|scenario| options.selects(scenario.name)) {
        return Ok(harness);
    }
    let summary = atlas_vm_tests::run(&options)?;
    Ok(harness + Count { passed: summary.passed, failed: summary.failed })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(arguments: &[&str]) -> Vec<&'static str> {
        use clap::Parser;
        #[derive(Parser)]
        struct Line {
            #[command(flatten)]
            arguments: Arguments,
        }
        let arguments = Line::parse_from([&["test"], arguments].concat()).arguments;
        TIERS.iter().filter(|tier| (tier.is_wanted)(&arguments)).map(|tier| tier.name).collect()
    }

    #[test]
    fn fast_leaves_the_virtual_machines_out_and_nothing_else() {
        assert_eq!(names(&["--long"]).len(), TIERS.len());
        assert_eq!(names(&["--fast"]), &names(&[])[..TIERS.len() - 3]);
    }

    #[test]
    fn a_filter_leaves_the_checks_out() {
        assert_eq!(names(&["--fast", "raid"]), ["unit and property tests"]);
    }

    #[test]
    fn a_run_in_which_nothing_ran_has_not_passed() {
        let none = [("a", Count::default(), Duration::ZERO)];
        let good = [("a", Count { passed: 1, failed: 0 }, Duration::ZERO)];
        let bad = [good[0], ("b", Count { passed: 5, failed: 1 }, Duration::ZERO)];
        assert_eq!([tell(&none), tell(&good), tell(&bad)], [false, true, false]);
    }
}
