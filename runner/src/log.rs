//! Log files: what they are called, when a new one begins, and when old ones go.
//!
//! ```text
//! /var/log/atlas/
//!   LOG.ssSync.y04m06d03.h03m23s15        one per run; a second one in that second ends with .2
//!   LOG.ssSync-remote.y04m06d03.h03m24s01 one that another server started
//!   LOG.ssSyncLoop.y04m06d03              one per day
//!   LOG.big and LOG.big.y04m06d03.h…      one that is put aside when it has grown
//! ```

use atlas_host::{FileError, tree::Dir};
use atlas_model::time::Moment;
use std::{
    ffi::OsStr,
    fs::{File, OpenOptions},
    io,
    os::unix::fs::{MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

/// The time for names and stamps.
pub(crate) fn now() -> Moment {
    Moment::of(SystemTime::now())
}

/// When a new file begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Roll {
    /// With every run.
    Run,
    /// With every day.
    Day,
    /// When it has this many bytes.
    Size(u64),
}

impl std::str::FromStr for Roll {
    type Err = String;

    /// `run`, `day`, or a size: `500k`, `20M`, `1G`.
    fn from_str(text: &str) -> Result<Roll, String> {
        match text {
            "run" => Ok(Roll::Run),
            "day" => Ok(Roll::Day),
            size => {
                parse_size(size).map(Roll::Size).ok_or_else(|| "neither 'run' nor 'day' nor a size like 20M".into())
            }
        }
    }
}

/// A size with a unit.
pub fn parse_size(text: &str) -> Option<u64> {
    let digits = text.trim_end_matches(['k', 'K', 'M', 'G']);
    let shift = match &text[digits.len()..] {
        "" => 0,
        "k" | "K" => 10,
        "M" => 20,
        "G" => 30,
        _ => return None,
    };
    digits.parse::<u64>().ok()?.checked_mul(1 << shift).filter(|size| *size > 0)
}

/// The rule by which one program logs.
#[derive(Clone, Debug)]
pub struct Rule {
    /// Where the files lie.
    pub dir: PathBuf,
    /// What they are called after.
    pub name: String,
    /// When a new one begins.
    pub roll: Roll,
    /// Files that were not written for longer go.
    pub keep_age: Duration,
    /// Beyond this many bytes together the oldest go.
    pub keep_bytes: u64,
}

/// The most files of a directory that are looked at.
const FILES_LIMIT: usize = 1_000_000;
/// Old files are looked for once in this time.
const PRUNE_EVERY: Duration = Duration::from_secs(60);

impl Rule {
    fn current(&self, moment: Moment) -> String {
        match self.roll {
            Roll::Run => format!("LOG.{}.{}", self.name, moment.second_name()),
            Roll::Day => format!("LOG.{}.{}", self.name, moment.day_name()),
            Roll::Size(_) => format!("LOG.{}", self.name),
        }
    }

    /// Opens the file that is written to now.
    pub fn open(&self) -> Result<Log, FileError> {
        Dir::open_root("/")?.make_dirs(&self.dir)?;
        let moment = now();
        let name = self.current(moment);
        let (path, file) = match self.roll {
            Roll::Run => self.open_new(&name)?,
            Roll::Day | Roll::Size(_) => self.open_shared(&name)?,
        };
        let written = file.metadata().map_or(0, |metadata| metadata.len());
        Ok(Log { rule: self.clone(), path, file, written, day: moment.day_name() })
    }

    fn open_new(&self, name: &str) -> Result<(PathBuf, File), FileError> {
        let named = |number: u64| match number {
            1 => self.dir.join(name),
            _ => self.dir.join(format!("{name}.{number}")),
        };
        let mut number = 1;
        loop {
            let path = named(number);
            match append().create_new(true).open(&path) {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                    number = first_free(number, |number| named(number).symlink_metadata().is_ok());
                }
                other => return other.map(|file| (path.clone(), file)).map_err(FileError::on("create", path)),
            }
        }
    }

    fn open_shared(&self, name: &str) -> Result<(PathBuf, File), FileError> {
        let path = self.dir.join(name);
        append().create(true).open(&path).map(|file| (path.clone(), file)).map_err(FileError::on("open", path))
    }

    /// Removes what is too old, or too much; says how many files. Looks once a minute at most.
    pub fn prune(&self, current: &Path) -> Result<usize, FileError> {
        let mark = self.dir.join(format!(".pruned-{}", self.name));
        let now = SystemTime::now();
        let fresh = |time: SystemTime| now.duration_since(time).is_ok_and(|age| age < PRUNE_EVERY);
        if mark.metadata().and_then(|metadata| metadata.modified()).is_ok_and(fresh) {
            return Ok(0);
        }
        OpenOptions::new().create(true).truncate(true).write(true).open(&mark).map_err(FileError::on("write", mark))?;
        self.prune_now(current, now)
    }

    fn prune_now(&self, current: &Path, now: SystemTime) -> Result<usize, FileError> {
        let dir = Dir::open_root(&self.dir)?;
        let prefix = format!("LOG.{}.", self.name);
        let mut files = Vec::new();
        for name in dir.names(FILES_LIMIT)? {
            let is_own = name.to_string_lossy().strip_prefix(&prefix).is_some_and(is_time);
            if !is_own || current.file_name() == Some(&name) {
                continue;
            }
            if let Ok(metadata) = std::fs::symlink_metadata(self.dir.join(&name))
                && metadata.is_file()
            {
                files.push((metadata.mtime(), metadata.blocks() * 512, name));
            }
        }
        files.sort();
        let mut bytes: u64 = files.iter().map(|(_, size, _)| size).sum();
        let oldest = now.checked_sub(self.keep_age).unwrap_or(SystemTime::UNIX_EPOCH);
        let oldest = oldest.duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs().cast_signed());
        let mut removed = 0;
        for (time, size, name) in files {
            if time >= oldest && bytes <= self.keep_bytes {
                break;
            }
            dir.remove(OsStr::new(&name))?;
            (bytes, removed) = (bytes - size, removed + 1);
        }
        Ok(removed)
    }
}

/// The number that follows those that are taken, without a look at each of them: many runs may begin in one second.
fn first_free(mut taken: u64, is_taken: impl Fn(u64) -> bool) -> u64 {
    let mut free = taken + 1;
    while is_taken(free) {
        (taken, free) = (free, free + (free - taken) * 2);
    }
    while free - taken > 1 {
        let between = taken + (free - taken) / 2;
        *(if is_taken(between) { &mut taken } else { &mut free }) = between;
    }
    free
}

/// Whether the rest of a file's name is a time, so that `LOG.a` never removes the files of `LOG.a.b`.
fn is_time(rest: &str) -> bool {
    let bytes = rest.as_bytes();
    bytes.len() >= 9 && bytes[0] == b'y' && bytes[3] == b'm' && bytes[6] == b'd' && bytes[1].is_ascii_digit()
}

fn append() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.append(true).mode(0o640).custom_flags(nix::libc::O_NOFOLLOW | nix::libc::O_CLOEXEC);
    options
}

/// An opened log file.
#[derive(Debug)]
pub struct Log {
    rule: Rule,
    /// Its path.
    pub path: PathBuf,
    file: File,
    written: u64,
    day: String,
}

impl Log {
    /// Another handle on the file, for what is not output.
    pub fn another(&self) -> Option<File> {
        self.file.try_clone().ok()
    }

    /// Begins a new file where it is time to.
    fn roll(&mut self) -> Result<(), FileError> {
        match self.rule.roll {
            Roll::Run => return Ok(()),
            Roll::Day if now().day_name() == self.day => return Ok(()),
            Roll::Size(limit) if self.written < limit => return Ok(()),
            Roll::Day => {}
            Roll::Size(_) => {
                let mut aside = self.rule.dir.join(format!("LOG.{}.{}", self.rule.name, now().second_name()));
                for number in 2.. {
                    if !aside.exists() {
                        break;
                    }
                    aside.set_file_name(format!("LOG.{}.{}.{number}", self.rule.name, now().second_name()));
                }
                std::fs::rename(&self.path, &aside).map_err(FileError::on("put aside", &self.path))?;
            }
        }
        *self = self.rule.open()?;
        Ok(())
    }
}

impl io::Write for Log {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        self.roll().map_err(|error| error.source)?;
        let count = self.file.write(data)?;
        self.written += count as u64;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn rule(dir: &Path, roll: Roll) -> Rule {
        Rule { dir: dir.into(), name: "p".into(), roll, keep_age: Duration::from_secs(86400), keep_bytes: 1 << 20 }
    }

    #[test]
    fn two_runs_of_one_second_have_two_files() {
        let tmp = tempfile::tempdir().unwrap();
        let rule = rule(tmp.path(), Roll::Run);
        let paths: Vec<_> = (0..3).map(|_| rule.open().unwrap().path).collect();
        assert!(paths[0] != paths[1] && paths[1] != paths[2] && paths[0] != paths[2], "{paths:?}");
        assert!(paths[0].file_name().unwrap().to_string_lossy().starts_with("LOG.p.y"));
    }

    #[test]
    fn the_number_that_follows_those_that_are_taken_is_found_by_few_looks() {
        for last in (1..70).chain([1000, 1_000_000]) {
            let looks = std::cell::Cell::new(0);
            let found = first_free(1, |number| {
                looks.set(looks.get() + 1);
                number <= last
            });
            assert_eq!(found, (last + 1).max(2));
            assert!(looks.get() <= 45, "{last}: {} looks", looks.get());
        }
    }

    #[test]
    fn a_file_that_has_grown_is_put_aside_and_no_byte_is_lost() {
        let tmp = tempfile::tempdir().unwrap();
        let mut log = rule(tmp.path(), Roll::Size(10)).open().unwrap();
        for _ in 0..5 {
            log.write_all(b"12345678").unwrap();
        }
        let files: Vec<_> = std::fs::read_dir(tmp.path()).unwrap().map(|entry| entry.unwrap().path()).collect();
        assert_eq!(files.len(), 3, "{files:?}");
        let total: u64 = files.iter().map(|file| file.metadata().unwrap().len()).sum();
        assert_eq!(total, 40);
    }

    #[test]
    fn old_and_too_many_logs_go_and_those_of_others_stay() {
        let tmp = tempfile::tempdir().unwrap();
        let rule = Rule { keep_bytes: 8192, ..rule(tmp.path(), Roll::Run) };
        let now = SystemTime::now();
        for (name, age) in [
            ("LOG.p.y01m01d01", 90_000),
            ("LOG.p.y02m01d01", 300),
            ("LOG.p.y03m01d01", 200),
            ("LOG.p.y04m01d01", 100),
            ("LOG.p.x.y01m01d01", 90_000),
            ("other", 90_000),
        ] {
            let path = tmp.path().join(name);
            std::fs::write(&path, vec![b'x'; 4096]).unwrap();
            File::options().write(true).open(&path).unwrap().set_modified(now - Duration::from_secs(age)).unwrap();
        }
        assert_eq!(rule.prune_now(Path::new("none"), now).unwrap(), 2);
        let mut left: Vec<_> = std::fs::read_dir(tmp.path())
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        left.sort();
        assert_eq!(left, ["LOG.p.x.y01m01d01", "LOG.p.y03m01d01", "LOG.p.y04m01d01", "other"]);
    }

    #[test]
    fn sizes_have_units() {
        assert_eq!("20M".parse(), Ok(Roll::Size(20 << 20)));
        assert_eq!("day".parse(), Ok(Roll::Day));
        assert!(
            "0".parse::<Roll>().is_err() && "soon".parse::<Roll>().is_err() && "999999999999G".parse::<Roll>().is_err()
        );
    }
}
