//! `atlas X` becomes `atlas-X`, as `git X` becomes `git-X`.

use crate::CalledWrongly;
use anyhow::Context;
use atlas_cli::Common;
use atlas_host::process;
use std::{
    collections::BTreeSet,
    ffi::{OsStr, OsString},
    io,
    os::unix::{ffi::OsStrExt, fs::PermissionsExt, process::CommandExt},
    path::Path,
};

const PREFIX: &str = "atlas-";

/// Replaces this process by the program that the first word names; comes back only with the reason why it could not.
pub(crate) fn become_program(words: &[OsString], common: &Common) -> anyhow::Error {
    let Some((name, rest)) = words.split_first() else {
        return CalledWrongly("no command was given".into()).into();
    };
    let known = || {
        let path = std::env::var_os("PATH").unwrap_or_default();
        let names = on_path(&path).into_iter().collect::<Vec<_>>().join(", ");
        let others = if names.is_empty() { String::new() } else { format!("; on PATH are: {names}") };
        let name = name.to_string_lossy();
        CalledWrongly(format!("there is no 'atlas {name}': no program '{PREFIX}{name}' is on PATH{others}")).into()
    };
    // A name with a slash would be run from where it says, not from PATH.
    if name.as_bytes().contains(&b'/') || name.is_empty() {
        return known();
    }
    let mut program = OsString::from(PREFIX);
    program.push(name);
    let error = process::plain(&program).args(rest).args(passed_on(common)).exec();
    match error.kind() {
        io::ErrorKind::NotFound => known(),
        _ => {
            Err::<(), _>(error).with_context(|| format!("cannot run {}", program.display())).err().unwrap_or_else(known)
        }
    }
}

/// What was given before the command's name holds for the command.
fn passed_on(common: &Common) -> Vec<OsString> {
    let mut args = Vec::new();
    if common.root != Path::new("/") {
        args.extend(["--root".into(), common.root.clone().into_os_string()]);
    }
    if common.json {
        args.push("--json".into());
    }
    args
}

/// The commands that programs on this PATH offer.
fn on_path(path: &OsStr) -> BTreeSet<String> {
    let entries = std::env::split_paths(path).filter_map(|dir| std::fs::read_dir(dir).ok()).flatten().flatten();
    let runnable = entries.filter(|entry| {
        std::fs::metadata(entry.path()).is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
    });
    runnable.filter_map(|entry| Some(entry.file_name().to_str()?.strip_prefix(PREFIX)?.to_owned())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_programs_that_can_run_are_offered() {
        let tmp = tempfile::tempdir().unwrap();
        for (name, mode) in [("atlas-module", 0o755), ("atlas-notes.txt", 0o644), ("other", 0o755)] {
            std::fs::write(tmp.path().join(name), "").unwrap();
            std::fs::set_permissions(tmp.path().join(name), PermissionsExt::from_mode(mode)).unwrap();
        }
        assert_eq!(on_path(tmp.path().as_os_str()).into_iter().collect::<Vec<_>>(), ["module"]);
    }
}
