//! The repository itself: where it lies, how git is run on it, how it is mended.
//!
//! ```text
//! SID_DATA/history/
//!   objects refs HEAD config     what stock git reads
//!   recorded/                    Manifest and path lists that the newest commit of each Role holds
//!   incoming/                    a repository in which the next commit is made; it borrows the objects of this one
//! ```
//!
//! Invariant: a pack in `objects` is whole, also after a power cut: it was flushed under `incoming` before it was moved. git would take one that
//! is cut short for a damaged repository, whoever refers to it.

use crate::layout::{SidData, SidError};
use atlas_host::{
    FileError, durable,
    process::{Command, ProcessError},
    tree::{Dir, Rename},
};
use atlas_model::Role;
use std::{
    ffi::{OsStr, OsString},
    fmt,
    path::PathBuf,
    str::FromStr,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

/// The directory of the repository in the Sync and Identity Data.
pub const HISTORY: &str = "history";
/// Manifest and path lists that the newest commit of each Role holds.
pub(super) const RECORDED: &str = "recorded";
/// Where git makes the next commit.
const INCOMING: &str = "incoming";
/// How long git may take: a first commit has all files.
const DEADLINE: Duration = Duration::from_secs(600);
/// What git left behind and has not touched for so long was left by one that was killed.
const LEFT_AFTER: Duration = Duration::from_secs(3600);
/// How many packs there may be before git gathers them.
const MANY_PACKS: usize = 50;

/// Small packs are gathered now and then, large ones stay: so a commit's cost does not grow with the history.
const CONFIG: &str = "[core]
\trepositoryformatversion = 0
\tfilemode = true
\tbare = true
\tcompression = 1
\tprotectHFS = false
\tprotectNTFS = false
[gc]
\tautoDetach = false
\tautoPackLimit = 50
\tbigPackThreshold = 128m
\treflogExpire = never
";

/// The name of a commit: git's hash, in hexadecimal digits.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
#[serde(transparent)]
pub struct CommitId(String);

/// A text that is no [`CommitId`].
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("'{0}' is no commit: 40 lower-case hexadecimal digits expected")]
pub struct BadCommitId(String);

impl FromStr for CommitId {
    type Err = BadCommitId;
    fn from_str(text: &str) -> Result<Self, BadCommitId> {
        let good = matches!(text.len(), 40 | 64) && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        if good {
            Ok(CommitId(text.to_owned()))
        } else {
            Err(BadCommitId(text.chars().take(80).collect::<String>().escape_debug().to_string()))
        }
    }
}

impl fmt::Display for CommitId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

/// The repository, held open.
#[derive(Debug)]
pub(super) struct Repository {
    pub(super) dir: Dir,
}

impl Repository {
    /// Opens it; `None` where nothing was ever recorded.
    pub(super) fn open(sid: &SidData) -> Result<Option<Repository>, SidError> {
        match sid.dir().dir(HISTORY) {
            Ok(dir) => Ok(Some(Repository { dir })),
            Err(error) if error.is_not_found() => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Opens it, or makes an empty one whose first branch is `role`. Under the lock.
    pub(super) fn open_or_begin(sid: &SidData, role: Role) -> Result<Repository, SidError> {
        if let Some(repository) = Repository::open(sid)? {
            return Ok(repository);
        }
        let temp = OsString::from(".next-history");
        sid.dir().remove_tree(&temp)?;
        sid.dir().make_dir(&temp, 0o700)?;
        let dir = sid.dir().dir(&temp)?;
        for path in ["objects/pack", "objects/info", "refs/heads", RECORDED] {
            dir.make_dirs(path)?;
        }
        durable::put(&dir, OsStr::new("config"), CONFIG.as_bytes(), 0o600)?;
        durable::put(&dir, OsStr::new("HEAD"), format!("ref: refs/heads/{role}\n").as_bytes(), 0o600)?;
        sid.dir().sync_file_system()?;
        sid.dir().rename(&temp, sid.dir(), OsStr::new(HISTORY), Rename::NoReplace)?;
        Ok(Repository { dir: sid.dir().dir(HISTORY)? })
    }

    /// Gives a damaged one another name, so that a new one can be begun; gives that name.
    pub(super) fn set_aside(sid: &SidData) -> Result<PathBuf, SidError> {
        let name = OsString::from(format!("{HISTORY}.damaged-{}", now()));
        sid.dir().rename(OsStr::new(HISTORY), sid.dir(), &name, Rename::NoReplace)?;
        Ok(sid.dir().show(&name))
    }

    /// Whether git itself finds that objects or branches are missing or broken. Slow for a long history; asked after a failure only.
    pub(super) fn is_damaged(sid: &SidData) -> bool {
        let Ok(Some(repository)) = Repository::open(sid) else { return true };
        let answer = repository.git().args(["fsck", "--connectivity-only", "--no-dangling", "--no-progress"]).run();
        matches!(answer, Err(ProcessError::Failed { .. }))
    }

    /// git, to work on this repository and with no settings but its own.
    pub(super) fn git(&self) -> Command {
        git_in(&self.dir)
    }

    /// git, to make what will be taken in by [`Repository::take_in`]. Under the lock, as all that follows.
    pub(super) fn incoming(&self) -> Result<Command, SidError> {
        let name = OsStr::new(INCOMING);
        self.dir.remove_tree(name)?;
        self.dir.make_dir(name, 0o700)?;
        let dir = self.dir.dir(name)?;
        for path in ["objects/pack", "objects/info", "refs"] {
            dir.make_dirs(path)?;
        }
        durable::put(&dir, OsStr::new("config"), CONFIG.as_bytes(), 0o600)?;
        durable::put(&dir, OsStr::new("HEAD"), b"ref: refs/heads/none\n", 0o600)?;
        durable::put(&dir.dir("objects/info")?, OsStr::new("alternates"), b"../../objects\n", 0o600)?;
        Ok(git_in(&dir))
    }

    /// Takes in what was made, which must be durable already.
    pub(super) fn take_in(&self) -> Result<(), SidError> {
        let (from, to) = (self.dir.dir(INCOMING)?.dir("objects/pack")?, self.dir.dir("objects/pack")?);
        let mut names = from.names(100)?;
        // git finds a pack by its index.
        names.sort_by_key(|name| name.as_encoded_bytes().ends_with(b".idx"));
        for name in &names {
            from.rename(name, &to, name, Rename::Replace)?;
        }
        self.dir.remove_tree(OsStr::new(INCOMING))?;
        Ok(())
    }

    /// What failed, with the repository's name.
    pub(super) fn failed(&self, source: ProcessError) -> SidError {
        SidError::History { path: self.dir.shown().to_owned(), source }
    }

    /// The newest commit of a Role.
    pub(super) fn tip(&self, role: Role) -> Result<Option<CommitId>, SidError> {
        let name = format!("refs/heads/{role}");
        if let Some(content) = self.dir.read_if_there(&name, 100)? {
            return self.commit_in(&name, &content).map(Some);
        }
        // git has gathered the branches into one file.
        let Some(packed) = self.dir.read_if_there("packed-refs", 1 << 20)? else { return Ok(None) };
        let line = packed.split(|b| *b == b'\n').find_map(|line| line.strip_suffix(format!(" {name}").as_bytes()));
        line.map(|id| self.commit_in("packed-refs", id)).transpose()
    }

    fn commit_in(&self, file: &str, content: &[u8]) -> Result<CommitId, SidError> {
        String::from_utf8_lossy(content)
            .trim_end()
            .parse()
            .map_err(|error: BadCommitId| SidError::Damaged { path: self.dir.show(file), why: error.to_string() })
    }

    /// Writes what [`Repository::set_tip`] makes the branch of a Role.
    pub(super) fn prepare_tip(&self, role: Role, commit: &CommitId) -> Result<(), SidError> {
        let heads = self.dir.make_dirs("refs/heads")?;
        Ok(durable::put(&heads, &next_tip(role), format!("{commit}\n").as_bytes(), 0o600)?)
    }

    /// Makes the commit that was prepared the newest of a Role, at one instant. Everything that it holds must be durable already.
    pub(super) fn set_tip(&self, role: Role) -> Result<(), SidError> {
        let heads = self.dir.dir("refs/heads")?;
        Ok(heads.rename(&next_tip(role), &heads, OsStr::new(&role.to_string()), Rename::Replace)?)
    }

    /// Removes what a killed git left. Under the lock; a git that an operator runs is left alone by the age of its files.
    pub(super) fn remove_leftovers(&self) -> Result<(), SidError> {
        let heads = self.dir.dir("refs/heads")?;
        for name in heads.names(1000)?.iter().filter(|name| name.as_encoded_bytes().ends_with(b".lock")) {
            heads.remove(name)?;
        }
        let old = |dir: &Dir, name: &OsStr| -> Result<bool, FileError> {
            let age = dir.stat(name)?.map(|stat| now().saturating_sub(u64::try_from(stat.st_mtime).unwrap_or(0)));
            Ok(age.is_some_and(|age| age > LEFT_AFTER.as_secs()))
        };
        let packs = self.dir.dir("objects/pack")?;
        for name in packs.names(1_000_000)? {
            let is_left = ["tmp_", ".tmp-"].iter().any(|prefix| name.as_encoded_bytes().starts_with(prefix.as_bytes()));
            if is_left && old(&packs, &name)? {
                packs.remove(&name)?;
            }
        }
        Ok(())
    }

    /// Has git gather small packs where there are many.
    pub(super) fn tidy(&self) -> Result<(), SidError> {
        if self.dir.dir("objects/pack")?.names(1_000_000)?.len() > 2 * MANY_PACKS {
            // It removes what it has gathered: that must be durable first.
            self.git()
                .args(["-c", "core.fsync=all", "gc", "--auto", "--quiet"])
                .run()
                .map_err(|source| self.failed(source))?;
        }
        Ok(())
    }
}

/// git, to work on the repository in `dir` and with no settings but its own.
fn git_in(dir: &Dir) -> Command {
    Command::new("git")
        .own_env()
        .env("GIT_CONFIG_NOSYSTEM", "1")
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .env("HOME", "/nonexistent")
        .env("LC_ALL", "C.UTF-8")
        .env("GIT_TERMINAL_PROMPT", "0")
        .env("GIT_OPTIONAL_LOCKS", "0")
        .env("GIT_NO_REPLACE_OBJECTS", "1")
        .deadline(DEADLINE)
        .arg("--git-dir")
        .arg(dir.shown())
}

/// The name of a branch's file that is not in force yet: one that git passes over, as its own lock files.
fn next_tip(role: Role) -> OsString {
    format!("{role}.lock").into()
}

/// Seconds since 1970.
pub(super) fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}
