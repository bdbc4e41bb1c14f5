//! Programs that come in versions: the version is the end of each file's name, as in `ssSync.v2` and `ssSync.cfg.v2` [390-391].
//!
//! ```text
//! /opt/atlas/bin/ssSync ──► modules/update/ssSync.v2        what /proc/self/exe is, for as long as it runs
//!                           modules/update/ssSync.cfg.v2    what it reads, whatever `bin/ssSync.cfg` points to by then
//! ```

use std::{
    io,
    path::{Path, PathBuf},
};

/// Takes `ssSync.cfg.v2` apart into `ssSync.cfg` and `v2`: at the first `.v` that a digit follows. `None` where there is no version.
pub fn split(name: &str) -> Option<(&str, &str)> {
    let at = name.as_bytes().windows(3).position(|w| w[0] == b'.' && w[1] == b'v' && w[2].is_ascii_digit())?;
    (at > 0).then(|| (&name[..at], &name[at + 1..]))
}

/// The name without its version: `ssSync.v2` is ssSync.
pub fn without(name: &str) -> &str {
    split(name).map_or(name, |(name, _)| name)
}

/// The data file `name` of the very version that runs here, whatever was set since it was started.
///
/// # Errors
/// Where the kernel does not tell which file this process was started from.
pub fn own_file(name: &str) -> io::Result<PathBuf> {
    Ok(beside(&std::env::current_exe()?, name))
}

/// The data file of the program `exe`: beside it, with its version.
fn beside(exe: &Path, name: &str) -> PathBuf {
    let program = exe.file_name().unwrap_or_default().to_string_lossy();
    // The kernel says so of a program that was removed while it runs.
    let program = program.strip_suffix(" (deleted)").unwrap_or(&program);
    exe.with_file_name(split(program).map_or_else(|| name.to_owned(), |(_, version)| format!("{name}.{version}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_comes_apart_at_the_first_version() {
        assert_eq!(split("ssSync.cfg.v2"), Some(("ssSync.cfg", "v2")));
        assert_eq!(split("ssSync.v0.1.0-rc.v2"), Some(("ssSync", "v0.1.0-rc.v2")));
        for name in ["ssSync", "my.view", ".v2", "ssSync.v", ""] {
            assert_eq!((split(name), without(name)), (None, name));
        }
    }

    #[test]
    fn a_data_file_has_the_version_of_its_program() {
        let of = |exe: &str| beside(Path::new(exe), "ssSync.cfg").display().to_string();
        assert_eq!(of("/opt/atlas/modules/beta/ssSync.v3"), "/opt/atlas/modules/beta/ssSync.cfg.v3");
        assert_eq!(of("/opt/atlas/modules/update/ssSync.v3 (deleted)"), "/opt/atlas/modules/update/ssSync.cfg.v3");
        assert_eq!(of("/usr/bin/ssSync"), "/usr/bin/ssSync.cfg");
    }
}
