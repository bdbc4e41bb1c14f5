//! What the history says: which commits there are, what one changed, and the Snapshot that it holds.

use super::{
    names, read,
    repository::{CommitId, Repository},
};
use crate::{
    layout::{SidData, SidError},
    snapshot::{MANIFEST, Snapshot},
};
use atlas_host::{FileError, lock::Lock, tree::Dir};
use atlas_model::{
    EnvVersion, Role, TreePath,
    manifest::{FileSet, Kind, Manifest},
};
use std::{
    collections::HashMap,
    ffi::{OsStr, OsString},
    io::{self, BufWriter, Write},
    os::unix::ffi::{OsStrExt, OsStringExt},
};

/// The directory in which a Snapshot of the past is laid out; whoever begins to, removes what an earlier one left.
const PAST: &str = ".past";

/// One recorded change of a Role.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Commit {
    /// Its name.
    pub id: CommitId,
    /// When it was made, in seconds since 1970.
    pub time: u64,
    /// Whose Snapshot it holds.
    pub role: Role,
    /// The name of the server that had the Role.
    pub server: String,
    /// Of which Environment that was.
    pub env_version: EnvVersion,
    /// The number of the change.
    pub generation: u64,
    /// Who changed what.
    pub cause: String,
    /// How many objects changed.
    pub files: usize,
    /// The sizes of the files that were added or replaced, in bytes.
    pub bytes: u64,
}

/// A moment of the past.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum When {
    /// At this time, in seconds since 1970.
    Time(u64),
    /// At a commit, by the beginning of its name.
    Commit(String),
}

/// Why something is not in the history.
#[derive(Debug, thiserror::Error)]
pub enum QueryError {
    /// There is none.
    #[error("nothing of {0} was ever recorded")]
    Nothing(Role),
    /// The first commit is later.
    #[error("the history of {role} begins later than that")]
    TooEarly {
        /// Whose.
        role: Role,
    },
    /// No commit, or several, have such a name.
    #[error("{found} commits of {role} begin with '{name}'")]
    Name {
        /// Whose.
        role: Role,
        /// What was asked for.
        name: String,
        /// How many there are.
        found: usize,
    },
    /// The history cannot be read.
    #[error(transparent)]
    Sid(#[from] SidError),
}

impl From<FileError> for QueryError {
    fn from(error: FileError) -> QueryError {
        QueryError::Sid(error.into())
    }
}

/// The commits of a Role, the newest first, at most `limit`.
pub fn log(sid: &SidData, role: Role, limit: usize) -> Result<Vec<Commit>, SidError> {
    let Some(repository) = Repository::open(sid)? else { return Ok(vec![]) };
    let Some(tip) = repository.tip(role)? else { return Ok(vec![]) };
    let git = repository.git().args(["log", "-z", "--first-parent", "--format=%H%n%ct%n%(trailers:only,unfold)"]);
    let listing = read::listing(&repository, &git.arg(format!("--max-count={limit}")).arg(tip.to_string()))?;
    Ok(listing.split(|b| *b == 0).filter_map(|record| commit(&String::from_utf8_lossy(record))).collect())
}

/// Reads one record of `git log`; `None` for what no Snapshot Create wrote.
fn commit(record: &str) -> Option<Commit> {
    let mut lines = record.lines();
    let (id, time) = (lines.next()?.parse().ok()?, lines.next()?.parse().ok()?);
    let fields: HashMap<&str, &str> = lines.filter_map(|line| line.split_once(": ")).collect();
    Some(Commit {
        id,
        time,
        role: fields.get("Role")?.parse().ok()?,
        server: (*fields.get("Server")?).to_owned(),
        env_version: EnvVersion::from_file(fields.get("EnvVersion")?.as_bytes()).ok()?,
        generation: fields.get("Generation")?.parse().ok()?,
        cause: (*fields.get("Cause")?).to_owned(),
        files: fields.get("Files")?.parse().ok()?,
        bytes: fields.get("Bytes")?.parse().ok()?,
    })
}

/// The commit that held at a moment.
pub fn at(sid: &SidData, role: Role, when: &When) -> Result<Commit, QueryError> {
    let commits = log(sid, role, usize::try_from(i32::MAX).unwrap_or(usize::MAX))?;
    if commits.is_empty() {
        return Err(QueryError::Nothing(role));
    }
    match when {
        When::Time(time) => {
            commits.into_iter().find(|commit| commit.time <= *time).ok_or(QueryError::TooEarly { role })
        }
        When::Commit(name) => {
            let mut found: Vec<Commit> =
                commits.into_iter().filter(|commit| commit.id.to_string().starts_with(name)).collect();
            match (found.pop(), found.len()) {
                (Some(commit), 0) => Ok(commit),
                (last, more) => {
                    Err(QueryError::Name { role, name: name.clone(), found: more + usize::from(last.is_some()) })
                }
            }
        }
    }
}

/// Writes to `out` what changed from one commit to another, or in one, as git shows it; of `path` and what lies below it, where one is named. Gives
/// how many bytes that took: none where nothing differs.
pub fn patch(
    sid: &SidData,
    from: Option<&CommitId>,
    to: &CommitId,
    path: Option<&TreePath>,
    out: &mut dyn Write,
) -> Result<u64, SidError> {
    let Some(repository) = Repository::open(sid)? else { return Ok(0) };
    let git = match from {
        Some(from) => repository
            .git()
            .args(["--literal-pathspecs", "diff", "--no-ext-diff", "--no-textconv"])
            .arg(from.to_string()),
        None => repository.git().args(["--literal-pathspecs", "show", "--no-ext-diff", "--no-textconv"]),
    };
    let mut git = git.arg(to.to_string()).arg("--");
    for (set, path) in path.iter().flat_map(|path| [FileSet::Ident, FileSet::Sync].map(|set| (set, path))) {
        let content = names::content(set, path);
        let manifest = [names::MANIFEST_DIR.as_bytes(), b"/", &content].concat();
        git = git.arg(OsString::from_vec(content)).arg(OsString::from_vec(manifest));
    }
    let answer = git.converse(|_| Ok(()), |stdout| io::copy(stdout, out));
    // Whoever has seen enough closes the pipe, and git ends for that reason.
    let answer = answer.map_err(|source| repository.failed(source))?;
    Ok(answer.map_err(FileError::on("show", repository.dir.shown()))?)
}

/// Lays out the Snapshot that a commit holds, with the copies of those objects that `wants` names; the others are in its Manifest alone.
///
/// Under the lock of the history, until it is dropped.
pub fn past<'a>(
    sid: &'a SidData,
    commit: &Commit,
    wants: impl Fn(FileSet, &TreePath) -> bool,
) -> Result<Past<'a>, SidError> {
    let lock = sid.lock_history(std::time::Duration::from_secs(600))?;
    let Some(repository) = Repository::open(sid)? else {
        return Err(SidError::Damaged { path: sid.dir().show(super::HISTORY), why: "it is missing".into() });
    };
    sid.dir().remove_tree(OsStr::new(PAST))?;
    sid.dir().make_dir(PAST, 0o700)?;
    // Removed from here on, whatever happens.
    let mut past = Past { sid, snapshot: None, _lock: lock };
    let dir = sid.dir().dir(PAST)?.make_dirs(commit.env_version.dir_name())?;
    read::write_head(&repository, &commit.id, &dir)?;
    let manifest = Manifest::parse(&dir.read(MANIFEST, Manifest::MAX_SIZE)?)
        .map_err(|source| SidError::Manifest { path: dir.show(MANIFEST), source })?;
    write_contents(&repository, &commit.id, &manifest, &dir, wants)?;
    past.snapshot = Snapshot::open(&sid.dir().dir(PAST)?, commit.role, commit.env_version)?;
    Ok(past)
}

/// A Snapshot of the past, laid out; gone when this is dropped.
#[derive(Debug)]
pub struct Past<'a> {
    sid: &'a SidData,
    snapshot: Option<Snapshot>,
    _lock: Lock,
}

impl Past<'_> {
    /// The Snapshot.
    pub fn snapshot(&self) -> Result<&Snapshot, SidError> {
        let lost = || SidError::Damaged { path: self.sid.dir().show(PAST), why: "it is missing".into() };
        self.snapshot.as_ref().ok_or_else(lost)
    }
}

impl Drop for Past<'_> {
    fn drop(&mut self) {
        // Best effort: the next one removes it before it begins.
        let _ = self.sid.dir().remove_tree(OsStr::new(PAST));
    }
}

fn write_contents(
    repository: &Repository,
    commit: &CommitId,
    manifest: &Manifest,
    dir: &Dir,
    wants: impl Fn(FileSet, &TreePath) -> bool,
) -> Result<(), SidError> {
    let mut wanted: HashMap<Vec<u8>, (FileSet, &TreePath, &Kind)> = HashMap::new();
    for set in [FileSet::Ident, FileSet::Sync] {
        dir.make_dir(set.dir_name(), 0o700)?;
        for entry in manifest.of_set(set).filter(|entry| wants(set, &entry.path)) {
            match &entry.kind {
                Kind::File { .. } | Kind::Link { .. } => {
                    wanted.insert(names::content(set, &entry.path), (set, &entry.path, &entry.kind));
                }
                Kind::Dir { .. } => drop(dir.dir(set.dir_name())?.make_dirs(entry.path.relative())?),
                Kind::Absent => {}
            }
        }
    }
    let all = read::tree(repository, commit, &[])?;
    let blobs: Vec<_> = all.into_iter().filter(|blob| wanted.contains_key(&blob.name)).collect();
    if blobs.len() != wanted.len() {
        let why = format!("commit {commit} lacks {} of the objects in its Manifest", wanted.len() - blobs.len());
        return Err(SidError::Damaged { path: repository.dir.shown().to_owned(), why });
    }
    read::contents(repository, &blobs, |blob, content| {
        let Some((set, path, kind)) = wanted.get(&blob.name) else { return Ok(()) };
        let made = || -> Result<(Dir, OsString), FileError> {
            let files = dir.dir(set.dir_name())?;
            let parent = path.parent().map_or_else(|| files.dir("."), |parent| files.make_dirs(parent.relative()))?;
            Ok((parent, path.name().to_owned()))
        };
        let (parent, name) = made().map_err(io::Error::other)?;
        if matches!(kind, Kind::Link { .. }) {
            let mut target = Vec::new();
            content.read_to_end(&mut target)?;
            return parent.symlink(OsStr::from_bytes(&target), &name).map_err(io::Error::other);
        }
        let mut file = BufWriter::new(parent.create_new(&name, 0o600).map_err(io::Error::other)?);
        io::copy(content, &mut file)?;
        file.flush()
    })
}
