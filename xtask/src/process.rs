//! Running cargo and the programs of the system.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

/// The root of the repository.
pub(crate) fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().map(Path::to_path_buf).unwrap_or_default()
}

/// The cargo that runs us, at work in the repository.
pub(crate) fn cargo() -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(repository());
    command
}

/// Runs it with our own output; an error names the whole command, so that it can be repeated by hand.
pub(crate) fn run(command: &mut Command) -> Result<()> {
    let status = command.status().with_context(|| format!("cannot start {}", shown(command)))?;
    if !status.success() {
        bail!("{} failed: {status}", shown(command));
    }
    Ok(())
}

/// Runs a check that is silent where all is well, and shows no more than the beginning of what it finds.
pub(crate) fn run_check(command: &mut Command) -> Result<()> {
    const LINES_SHOWN: usize = 120;
    let output = command.output().with_context(|| format!("cannot start {}", shown(command)))?;
    if output.status.success() {
        return Ok(());
    }
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8_lossy(&said);
    said.lines().take(LINES_SHOWN).for_each(|line| println!("{line}"));
    if said.lines().count() > LINES_SHOWN {
        println!("… and more");
    }
    bail!("{} failed: {}", shown(command), output.status)
}

/// Runs it and returns its standard output; what it says on standard error is shown.
pub(crate) fn read(command: &mut Command) -> Result<String> {
    let output = command.stderr(std::process::Stdio::inherit()).output();
    let output = output.with_context(|| format!("cannot start {}", shown(command)))?;
    if !output.status.success() {
        bail!("{} failed: {}", shown(command), output.status);
    }
    String::from_utf8(output.stdout).with_context(|| format!("{} printed something that is no text", shown(command)))
}

/// The command as one would type it.
pub(crate) fn shown(command: &Command) -> String {
    let program = Path::new(command.get_program()).file_name().unwrap_or(command.get_program());
    let words = std::iter::once(program).chain(command.get_args());
    words.map(std::ffi::OsStr::to_string_lossy).collect::<Vec<_>>().join(" ")
}

/// Whether a program can be started.
pub(crate) fn is_installed(program: &str) -> bool {
    let paths = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&paths).any(|directory| directory.join(program).is_file())
}

/// Writes, or checks, the files that come from the programs' definitions.
pub(crate) fn generate(check: bool) -> Result<()> {
    let mut command = cargo();
    command.args(["run", "--quiet", "--locked", "--package", "xtask-generate", "--"]);
    if check {
        command.arg("--check");
    }
    run(&mut command)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_that_fails_is_named_as_one_would_type_it() {
        let message = run(Command::new("/bin/sh").args(["-c", "exit 3"])).unwrap_err().to_string();
        assert_eq!(message, "sh -c exit 3 failed: exit status: 3");
    }

    #[test]
    fn what_is_installed_is_found_and_what_is_not_is_not() {
        assert!(is_installed("sh"));
        assert!(!is_installed("no-such-program"));
    }
}
