//! Where the cores are: the kernel's `core_pattern` says, or those who catch them by a pipe keep them at a place of their own.

use crate::entry::Occurrence;
use atlas_host::{FileError, tree::Dir};
use nix::sys::stat::FileStat;
use std::{
    ffi::OsStr,
    path::{Path, PathBuf},
};

/// A core that was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// Where it lies.
    pub path: PathBuf,
    /// What tells it from every other core.
    pub mark: String,
    /// When it was written, in seconds since 1970.
    pub time: u64,
    /// Whether it may be taken away once it is stored; those that others keep stay.
    pub is_ours: bool,
}

/// The directories that may be looked at.
const NAMES_LIMIT: usize = 100_000;
/// Where ssRun lets cores go when the pattern names no directory.
pub const OWN_PLACE: &str = "var/lib/atlas/cores";
/// Who else keeps cores, and where.
const OTHERS: [&str; 3] = ["var/lib/systemd/coredump", "var/lib/apport/coredump", "var/crash"];
/// A core that is younger than this may still be written, in seconds.
const SETTLED: u64 = 1;
/// A report that nobody may read is still written by apport, which gives it its permissions last; unless apport itself has died, in seconds.
const REPORTED: u64 = 3600;

/// The directory that an absolute pattern writes to; the pattern of a pipe names none.
pub fn pattern_directory(pattern: &str) -> Option<PathBuf> {
    let pattern = pattern.trim();
    let path = Path::new(pattern);
    if !path.is_absolute() || path.parent().is_none_or(|parent| parent.to_string_lossy().contains('%')) {
        return None;
    }
    path.parent().map(Path::to_owned)
}

/// Looks for cores: in the given directories, where the pattern says, and where others keep them.
pub fn cores(root: &Path, given: &[PathBuf]) -> Result<Vec<Found>, FileError> {
    let pattern = std::fs::read_to_string(root.join("proc/sys/kernel/core_pattern")).unwrap_or_default();
    let mut found = Vec::new();
    for dir in given {
        look(&Dir::open_root(dir)?, dir, true, &mut found)?;
    }
    let by_pattern = pattern_directory(&pattern).map(|dir| (dir.strip_prefix("/").unwrap_or(&dir).to_owned(), true));
    let own = [(PathBuf::from(OWN_PLACE), true)];
    let others = OTHERS.iter().map(|dir| (PathBuf::from(dir), false));
    let root_dir = Dir::open_root(root)?;
    for (place, is_ours) in by_pattern.into_iter().chain(own).chain(others) {
        match root_dir.dir(&place) {
            Ok(dir) => look(&dir, &root.join(&place), is_ours, &mut found)?,
            Err(error) if error.is_not_found() => {}
            Err(error) => return Err(error),
        }
    }
    found.sort_by(|a, b| (a.time, &a.path).cmp(&(b.time, &b.path)));
    found.dedup_by(|a, b| a.mark == b.mark);
    Ok(found)
}

fn look(dir: &Dir, path: &Path, is_ours: bool, found: &mut Vec<Found>) -> Result<(), FileError> {
    for name in dir.names(NAMES_LIMIT)? {
        if !is_core_name(&name.to_string_lossy()) {
            continue;
        }
        // A link or a pipe of that name is none of ours.
        let Some(stat) = dir.stat(&name)? else { continue };
        if stat.st_mode & nix::libc::S_IFMT != nix::libc::S_IFREG || !is_settled(dir, &name, &stat) {
            continue;
        }
        let mark = format!("{}:{}:{}.{}:{}", stat.st_dev, stat.st_ino, stat.st_mtime, stat.st_mtime_nsec, stat.st_size);
        let time = u64::try_from(stat.st_mtime).unwrap_or(0);
        found.push(Found { path: path.join(&name), mark, time, is_ours });
    }
    Ok(())
}

/// `core`, `core.4711`, what systemd makes of it, and the reports of apport.
fn is_core_name(name: &str) -> bool {
    let rest = name.strip_prefix("core");
    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '-', '_'])) || name.ends_with(".crash")
}

/// A core that the kernel still writes is shorter than its headers say; wait for the next time.
fn is_settled(dir: &Dir, name: &OsStr, stat: &FileStat) -> bool {
    let age = crate::store::seconds_now().saturating_sub(u64::try_from(stat.st_mtime).unwrap_or(0));
    if stat.st_mode & 0o777 == 0 && age < REPORTED {
        return false;
    }
    age > SETTLED || dir.file(name).is_ok_and(|file| crate::core_file::is_whole(&file))
}

impl Found {
    /// The occurrence that this core tells of.
    pub fn occurrence(&self, server: &str, program_path: &str, log: Option<String>) -> Occurrence {
        Occurrence {
            time: self.time,
            server: server.to_owned(),
            program_path: program_path.to_owned(),
            log,
            mark: self.mark.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::OpenOptionsExt;

    #[test]
    fn only_a_pattern_that_is_a_path_names_a_directory() {
        assert_eq!(pattern_directory("/var/cores/core.%e.%p"), Some("/var/cores".into()));
        assert_eq!(pattern_directory("core"), None);
        assert_eq!(pattern_directory("|/usr/lib/systemd/systemd-coredump %P"), None);
        assert_eq!(pattern_directory("/var/%e/core"), None);
    }

    #[test]
    fn links_and_other_files_are_no_cores() {
        let tmp = tempfile::tempdir().unwrap();
        let cores = tmp.path().join(OWN_PLACE);
        std::fs::create_dir_all(&cores).unwrap();
        let old = std::time::SystemTime::now() - std::time::Duration::from_secs(60);
        for name in ["core", "core.12", "core.sh.0.ab.lz4", "_bin_sh.0.crash", "corelation", "other"] {
            std::fs::write(cores.join(name), name).unwrap();
            std::fs::File::options().write(true).open(cores.join(name)).unwrap().set_modified(old).unwrap();
        }
        std::os::unix::fs::symlink("/etc/passwd", cores.join("core.link")).unwrap();
        // As apport begins a report.
        let begun = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o0).open(cores.join("_b.0.crash"));
        begun.unwrap().set_modified(old).unwrap();
        let names: Vec<_> = super::cores(tmp.path(), &[]).unwrap().into_iter().map(|found| found.path).collect();
        assert_eq!(names, ["_bin_sh.0.crash", "core", "core.12", "core.sh.0.ab.lz4"].map(|name| cores.join(name)));
    }
}
