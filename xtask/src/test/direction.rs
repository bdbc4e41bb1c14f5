//! Which crate may use which: products meet in files, never by linking each other.

use anyhow::{Context, Result, bail};
use serde::Deserialize;

use crate::process;

/// Every crate of the workspace, and those of the others it may name in its Cargo.toml.
const MAY_USE: [(&str, &[&str]); 18] = [
    // The nouns and rules, the machine, the frame of a program, the data: each stands on those before it.
    ("atlas-model", &[]),
    ("atlas-host", &["atlas-model"]),
    ("atlas-cli", &["atlas-model", "atlas-host"]),
    ("atlas-sid", &["atlas-model", "atlas-host"]),
    // Products.
    ("atlas-boot", &["atlas-model", "atlas-host", "atlas-sid"]),
    ("atlas-synchronizer", &["atlas-model", "atlas-host", "atlas-cli", "atlas-sid"]),
    ("atlas-converters", &["atlas-model", "atlas-host", "atlas-cli"]),
    ("atlas-verifier", &["atlas-model", "atlas-host", "atlas-cli", "atlas-sid"]),
    ("atlas-console", &["atlas-model", "atlas-host", "atlas-cli", "atlas-sid"]),
    ("atlas-module", &["atlas-model", "atlas-host", "atlas-cli"]),
    ("atlas-corehandler", &["atlas-model", "atlas-host", "atlas-cli"]),
    ("atlas-runner", &["atlas-model", "atlas-host", "atlas-cli"]),
    // Tries the decisions in histories that a program makes up.
    ("atlas-histories", &["atlas-model", "atlas-host", "atlas-boot"]),
    // What builds, boots and tests them uses built programs.
    ("atlas-image", &[]),
    ("atlas-vm-tests", &["atlas-image"]),
    ("xtask", &["atlas-image", "atlas-vm-tests"]),
    // Looks at the command lines of all programs, and at the table of refusals.
    (
        "xtask-generate",
        &[
            "atlas-model",
            "atlas-boot",
            "atlas-synchronizer",
            "atlas-converters",
            "atlas-verifier",
            "atlas-console",
            "atlas-module",
            "atlas-corehandler",
            "atlas-runner",
        ],
    ),
    // Feeds the parsers; lies outside the workspace because it needs a nightly compiler.
    (
        "atlas-fuzz",
        &[
            "atlas-model",
            "atlas-sid",
            "atlas-host",
            "atlas-converters",
            "atlas-corehandler",
            "atlas-synchronizer",
            "atlas-verifier",
        ],
    ),
];

#[derive(Deserialize)]
struct Metadata {
    packages: Vec<Package>,
}

#[derive(Deserialize)]
struct Package {
    name: String,
    dependencies: Vec<Dependency>,
}

#[derive(Deserialize)]
struct Dependency {
    name: String,
    /// There for crates of this repository only.
    path: Option<String>,
}

/// Holds the workspace's edges, those of tests and build scripts too, against [`MAY_USE`].
///
/// # Errors
/// Names every edge that is not in the table, and every crate that is not.
pub(super) fn check() -> Result<()> {
    let arguments = ["metadata", "--format-version", "1", "--no-deps", "--locked"];
    let metadata = process::read(process::cargo().args(arguments))?;
    let wrong = wrong_in(&metadata)?;
    if !wrong.is_empty() {
        bail!(
            "against the direction of dependencies (MAY_USE in xtask/src/test/direction.rs):\n  {}",
            wrong.join("\n  ")
        );
    }
    Ok(())
}

fn wrong_in(metadata: &str) -> Result<Vec<String>> {
    let metadata: Metadata = serde_json::from_str(metadata).context("cannot read what cargo metadata printed")?;
    let mut wrong = Vec::new();
    for package in &metadata.packages {
        let Some((_, allowed)) = MAY_USE.iter().find(|(name, _)| *name == package.name) else {
            wrong.push(format!("{} is not in the table", package.name));
            continue;
        };
        // A crate's tests may ask for it once more, with other features.
        let others = package.dependencies.iter().filter(|one| one.path.is_some() && one.name != package.name);
        let forbidden = others.filter(|dependency| !allowed.contains(&dependency.name.as_str()));
        wrong.extend(forbidden.map(|dependency| format!("{} uses {}", package.name, dependency.name)));
    }
    Ok(wrong)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn metadata(package: &str, dependency: &str) -> String {
        format!(
            r#"{{"packages":[{{"name":"{package}","dependencies":[
                {{"name":"serde","path":null}},{{"name":"{dependency}","path":"/r/x"}}]}}]}}"#
        )
    }

    #[test]
    fn an_edge_against_the_direction_is_named() {
        assert_eq!(wrong_in(&metadata("atlas-model", "atlas-host")).unwrap(), ["atlas-model uses atlas-host"]);
        assert!(wrong_in(&metadata("atlas-host", "atlas-model")).unwrap().is_empty());
        assert!(wrong_in(&metadata("atlas-host", "atlas-host")).unwrap().is_empty());
    }

    #[test]
    fn a_crate_nobody_thought_about_is_named() {
        assert_eq!(wrong_in(&metadata("atlas-new", "atlas-model")).unwrap(), ["atlas-new is not in the table"]);
    }

    #[test]
    fn the_table_itself_has_no_circle() {
        for (at, (name, uses)) in MAY_USE.iter().enumerate() {
            for used in *uses {
                let before = MAY_USE.iter().position(|(other, _)| other == used);
                assert!(before.is_some_and(|before| before < at), "{name} uses {used}, which must stand before it");
            }
        }
    }
}
