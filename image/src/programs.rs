//! Building the programs that go into the package.
//!
//! All of them are linked statically, C library included: `atlas-boot` because nothing else is sure to be in an initramfs, the
//! others because one package serves servers with different Debians, and what is linked to the C library of one does not start
//! on the one before. What a static program can't do is ask the name service (users, groups, hosts by name), which loads
//! libraries of the glibc that it was linked with: clippy.toml lists the calls that do.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use serde::Deserialize;

use crate::command::{run, within};

/// What is built for. Named even where it is the host, so that flags for the target do not reach the procedural macros.
const TARGET: &str = "x86_64-unknown-linux-gnu";

/// What the programs of [`QUICK`] are built for: with musl in glibc's place, a program begins in a third of the time, because it does not
/// ask for all that there is to know of the processor first.
pub const QUICK_TARGET: &str = "x86_64-unknown-linux-musl";

/// The crates whose programs stand before each run of every other program.
const QUICK: [&str; 2] = ["atlas-corehandler", "atlas-runner"];

/// The one that runs in the initramfs.
pub(crate) const EARLY_BOOT: &str = "atlas-boot";

/// The crates whose programs are packaged, all of them, under the names the crates give.
const CRATES: [&str; 8] = [
    EARLY_BOOT,
    "atlas-console",
    "atlas-converters",
    "atlas-corehandler",
    "atlas-module",
    "atlas-runner",
    "atlas-synchronizer",
    "atlas-verifier",
];

/// Cargo builds every dependency again where these change, so the caller's own flags are not for this build, which has a target
/// directory of its own.
const FLAGS: &str = "-C target-feature=+crt-static";

/// A program as cargo built it: by the release profile, with the names of its functions but for the one that runs in the initramfs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Program {
    /// The name it is called by.
    pub name: String,
    /// Where cargo put it.
    pub path: PathBuf,
    /// Its size.
    pub size_bytes: u64,
}

/// For everything from nothing, on a slow machine that others use too.
const BUILD_DEADLINE: Duration = Duration::from_secs(3600);

/// The folder with the programs of these crates, as they are packaged.
pub fn programs_of(repository: &Path, crates: &[&str]) -> Result<PathBuf> {
    let programs = build_crates(repository, crates)?;
    let mut folders: Vec<&Path> = programs.iter().filter_map(|program| program.path.parent()).collect();
    folders.dedup();
    ensure!(folders.len() == 1, "the programs of {} are not in one folder", crates.join(", "));
    Ok(folders[0].to_path_buf())
}

/// All programs, proven to be static: `atlas-boot` first, the others by name.
pub(crate) fn build_all(repository: &Path) -> Result<Vec<Program>> {
    build_crates(repository, &CRATES)
}

/// How [`build_all`] builds them, in one line.
pub(crate) fn how() -> &'static str {
    if has_quick_target() {
        "programs: built by cargo, static; those that stand before each run with musl"
    } else {
        "programs: built by cargo, static; without musl (`rustup target add x86_64-unknown-linux-musl`, `musl-gcc`), each run takes longer"
    }
}

/// Whether there is what [`QUICK_TARGET`] takes: Rust's library, and a compiler for what is written in C.
pub fn has_quick_target() -> bool {
    let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let libraries = Command::new(rustc).args(["--print", "target-libdir", "--target", QUICK_TARGET]).output();
    let has_library = libraries.is_ok_and(|output| Path::new(String::from_utf8_lossy(&output.stdout).trim()).is_dir());
    has_library && Command::new("musl-gcc").arg("--version").output().is_ok_and(|output| output.status.success())
}

fn build_crates(repository: &Path, crates: &[&str]) -> Result<Vec<Program>> {
    let has_quick_target = has_quick_target();
    let (quick, others): (Vec<&str>, Vec<&str>) =
        crates.iter().partition(|name| has_quick_target && QUICK.contains(name));
    let mut programs = Vec::new();
    for (target, crates) in [(QUICK_TARGET, quick), (TARGET, others)] {
        if !crates.is_empty() {
            programs.extend(build_for(target, repository, &crates)?);
        }
    }
    programs.sort_by(|a, b| (a.name != EARLY_BOOT, &a.name).cmp(&(b.name != EARLY_BOOT, &b.name)));
    Ok(programs)
}

fn build_for(target: &str, repository: &Path, crates: &[&str]) -> Result<Vec<Program>> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = within(BUILD_DEADLINE, cargo);
    command.current_dir(repository).args(["build", "--release", "--locked", "--bins", "--target", target]);
    command.arg("--target-dir").arg(repository.join("target/static"));
    command.args(["--message-format", "json-render-diagnostics"]);
    command.args(crates.iter().flat_map(|name| ["--package", name]));
    command.env("RUSTFLAGS", FLAGS);
    let programs = build(&mut command, "the programs")?;
    for program in &programs {
        ensure!(
            is_static(&program.path)?,
            "{} needs a dynamic linker, which the initramfs may not have, and a C library, which other Debians have in other \
             versions: was it built with +crt-static?",
            program.path.display()
        );
    }
    Ok(programs)
}

fn build(command: &mut Command, what: &str) -> Result<Vec<Program>> {
    let messages = run(command, &format!("build {what}"))?;
    let mut programs = Vec::new();
    for message in messages.lines() {
        if let Some(path) = executable_in(message)? {
            let name = path.file_name().context("a program without a name")?.to_string_lossy().into_owned();
            let size_bytes = std::fs::metadata(&path)?.len();
            programs.push(Program { name, path, size_bytes });
        }
    }
    if programs.is_empty() {
        bail!("cannot build {what}: cargo reported success and no program");
    }
    Ok(programs)
}

/// The program that one of cargo's messages tells of, if it does.
fn executable_in(message: &str) -> Result<Option<PathBuf>> {
    #[derive(Deserialize)]
    struct Message {
        reason: String,
        executable: Option<PathBuf>,
    }
    let message: Message = serde_json::from_str(message).context("cannot read a message of cargo's")?;
    Ok(message.executable.filter(|_| message.reason == "compiler-artifact"))
}

/// Whether the program runs without a dynamic linker.
fn is_static(program: &Path) -> Result<bool> {
    let headers = run(
        Command::new("readelf").arg("--program-headers").arg("--wide").arg(program),
        &format!("read the program headers of {}", program.display()),
    )?;
    ensure!(headers.contains("LOAD"), "{} is no program", program.display());
    Ok(!headers.lines().any(|line| line.trim_start().starts_with("INTERP")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_messages_about_a_program_name_one() {
        let artifact = r#"{"reason":"compiler-artifact","executable":"/t/release/atlas","fresh":true}"#;
        assert_eq!(executable_in(artifact).unwrap(), Some(PathBuf::from("/t/release/atlas")));
        let library = r#"{"reason":"compiler-artifact","executable":null}"#;
        assert_eq!(executable_in(library).unwrap(), None);
        assert_eq!(executable_in(r#"{"reason":"build-finished","success":true}"#).unwrap(), None);
        assert!(executable_in("warning: text").is_err());
    }

    #[test]
    fn a_program_with_a_dynamic_linker_is_not_taken_for_static() {
        assert!(!is_static(&std::env::current_exe().unwrap()).unwrap());
    }
}
