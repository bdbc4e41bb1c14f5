//! Making a commit of a Snapshot.

use super::{
    Cause, message,
    message::{Facts, Judged, Summary},
    repository::{CommitId, RECORDED, Repository, now},
    stream::{Action, Commit, List, dir_key},
};
use crate::{
    layout::{SidData, SidError, read_env_version},
    lines::{self, compare},
    snapshot::{MANIFEST, SNAPSHOT_ENV_VERSION, generation},
};
use atlas_host::{
    FileError, durable,
    lock::Lock,
    tree::{Dir, Rename},
};
use atlas_model::{
    EnvVersion, PathList, Role,
    manifest::{FileSet, Kind},
};
use std::{
    collections::{BTreeMap, HashSet},
    ffi::{OsStr, OsString},
    io::{BufWriter, Read},
    path::PathBuf,
    time::Duration,
};

/// A commit that was made.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Recorded {
    /// Its name.
    pub commit: CommitId,
    /// Who changed what: `taken on PRI`, `changed on SEC1 itself`, `installed from PRI generation 12`.
    pub cause: String,
    /// Whether some of it was changed on the server itself. Not so where all of it is as PRI has it, or nothing was there before.
    pub changed_here: bool,
    /// How many objects changed.
    pub files: usize,
    /// The sizes of the files that were added or replaced, in bytes.
    pub bytes: u64,
    /// Where the history before lies, if it was damaged and a new one was begun.
    pub set_aside: Option<PathBuf>,
}

/// A commit that lies ready, under no branch.
#[derive(Debug)]
#[must_use = "without `finish` the commit belongs to no branch and is lost"]
pub struct Prepared {
    repository: Repository,
    role: Role,
    recorded: Recorded,
    _lock: Lock,
}

/// What is recorded: one Snapshot of a Role directory, published or about to be.
#[derive(Clone, Copy, Debug)]
pub struct Subject<'a> {
    /// Whose.
    pub role: Role,
    /// The Role's directory.
    pub role_dir: &'a Dir,
    /// Which of its Snapshots: the newest, which the others were converted from.
    pub env_version: EnvVersion,
    /// The number under which it is or will be published.
    pub generation: u64,
}

/// Records the published Snapshot of `role`, if it differs from what was recorded last. The caller holds the lock of the Role.
///
/// Gives `None` where nothing changed, or nothing was ever published.
pub fn record(sid: &SidData, role: Role, cause: &Cause) -> Result<Option<Recorded>, SidError> {
    let Some(role_dir) = sid.role_dir(role)? else { return Ok(None) };
    let Some(env_version) = read_env_version(&role_dir, SNAPSHOT_ENV_VERSION)? else { return Ok(None) };
    let subject = Subject { role, role_dir: &role_dir, env_version, generation: generation(&role_dir)? };
    let Some(prepared) = prepare(sid, &subject, cause)? else { return Ok(None) };
    sid.dir().sync_file_system()?;
    prepared.finish().map(Some)
}

/// Writes the commit of a Snapshot, so that [`Prepared::finish`] needs to change only the branch. Under the lock of
/// the Role; that of the history is held until the end.
///
/// The caller flushes the file system between the two, and publishes the Snapshot, if that is still to be done. A history that is damaged is
/// set aside and a new one begun.
pub fn prepare(sid: &SidData, subject: &Subject<'_>, cause: &Cause) -> Result<Option<Prepared>, SidError> {
    let failure = match attempt(sid, subject, cause) {
        Err(error) if is_of_history(&error, sid) && Repository::is_damaged(sid) => error,
        other => return other,
    };
    let Ok(aside) = Repository::set_aside(sid) else { return Err(failure) };
    let mut prepared = attempt(sid, subject, cause)?;
    if let Some(prepared) = &mut prepared {
        prepared.recorded.set_aside = Some(aside);
    }
    Ok(prepared)
}

/// Whether an error may come from the repository, not from the Snapshot.
fn is_of_history(error: &SidError, sid: &SidData) -> bool {
    let history = sid.dir().show(super::HISTORY);
    match error {
        SidError::History { .. } => true,
        SidError::File(FileError { path, .. }) | SidError::Damaged { path, .. } | SidError::Manifest { path, .. } => {
            path.starts_with(history)
        }
        _ => false,
    }
}

fn attempt(sid: &SidData, subject: &Subject<'_>, cause: &Cause) -> Result<Option<Prepared>, SidError> {
    let role = subject.role;
    let lock = sid.lock_history(Duration::from_secs(600))?;
    let snapshot = subject.role_dir.dir(subject.env_version.dir_name())?;
    let repository = Repository::open_or_begin(sid, role)?;
    let parent = repository.tip(role)?;
    let before = parent.as_ref().map(|commit| recorded_dir(&repository, role, commit)).transpose()?;
    if let Some(before) = &before
        && is_same_file(before, &snapshot, MANIFEST)?
        && changed_lists(Some(before), &snapshot)?.is_empty()
    {
        return Ok(None);
    }
    repository.remove_leftovers()?;
    let changes = Changes::find(Summary::new(role, parent.is_none()), before.as_ref(), &snapshot)?;
    let facts = Facts {
        role,
        env_version: subject.env_version,
        generation: subject.generation,
        server: &message::server_of(&snapshot),
        is_first: parent.is_none(),
    };
    if changes.is_none() {
        // The same content in another file.
        if let (Some(parent), true) = (&parent, changes.pieces.is_empty()) {
            link_recorded(&repository, role, parent, &snapshot)?;
        }
        return Ok(None);
    }
    let judged = message::judge(sid, &facts, &changes.summary, cause)?;
    let message = message::message(&facts, &changes.summary, &judged);
    let recorded = changes.write(&repository, &snapshot, &facts, parent.as_ref(), message, judged)?;
    link_recorded(&repository, role, &recorded.commit, &snapshot)?;
    repository.prepare_tip(role, &recorded.commit)?;
    Ok(Some(Prepared { repository, role, recorded, _lock: lock }))
}

/// What a commit says that changes nothing of the Snapshot before.
pub(super) struct Written {
    pub(super) message: String,
    pub(super) cause: String,
    pub(super) files: usize,
}

/// Writes a commit of the Snapshot that `parent` has already.
pub(super) fn recorded_by(
    repository: &Repository,
    snapshot: &Dir,
    facts: &Facts<'_>,
    parent: &CommitId,
    written: Written,
) -> Result<Recorded, SidError> {
    repository.remove_leftovers()?;
    let Written { message, cause, files } = written;
    let judged = Judged::plain(cause);
    let recorded = Changes::default().write(repository, snapshot, facts, Some(parent), message, judged)?;
    link_recorded(repository, facts.role, &recorded.commit, snapshot)?;
    repository.prepare_tip(facts.role, &recorded.commit)?;
    Ok(Recorded { files, ..recorded })
}

impl Prepared {
    pub(super) fn new(repository: Repository, role: Role, recorded: Recorded, lock: Lock) -> Prepared {
        Prepared { repository, role, recorded, _lock: lock }
    }

    /// Makes the commit the newest of its branch. What it holds must have been flushed; the change of the branch is not: should it be lost,
    /// the next Snapshot Create records the same once more.
    pub fn finish(self) -> Result<Recorded, SidError> {
        let Prepared { repository, role, recorded, _lock } = self;
        repository.take_in()?;
        repository.set_tip(role)?;
        let kept = recorded_name(role, &recorded.commit);
        let dir = repository.dir.dir(RECORDED)?;
        for name in dir.names(10_000)? {
            let is_roles = name.to_string_lossy().starts_with(&format!("{role}-")) && name != kept;
            if is_roles || durable::is_temporary(&name) {
                dir.remove_tree(&name)?;
            }
        }
        repository.tidy()?;
        Ok(recorded)
    }
}

/// What differs between the Snapshot that was recorded last and the one to be recorded.
#[derive(Debug, Default)]
struct Changes {
    summary: Summary,
    actions: Vec<(FileSet, atlas_model::TreePath, Action)>,
    pieces: HashSet<(FileSet, Vec<u8>)>,
    lists: Vec<List>,
}

impl Changes {
    fn find(summary: Summary, before: Option<&Dir>, snapshot: &Dir) -> Result<Changes, SidError> {
        let mut changes = Changes { summary, lists: changed_lists(before, snapshot)?, ..Changes::default() };
        let open = |dir: &Dir| Ok::<_, SidError>(lines::of(dir)?.1);
        compare(before.map(open).transpose()?, open(snapshot)?, |difference| {
            let Some(entry) = difference.entry() else { return Ok(()) };
            changes.pieces.insert((entry.set, dir_key(&entry.path)));
            if let (Some(old), Some(new)) = (&difference.old, &difference.new)
                && old.kind.same_as(&new.kind)
            {
                // The time of a directory or a link: taken along with what else changed.
                return Ok(());
            }
            changes.summary.add(&difference);
            let had_content =
                difference.old.as_ref().is_some_and(|old| matches!(old.kind, Kind::File { .. } | Kind::Link { .. }));
            let action = match difference.new.as_ref().map(|new| &new.kind) {
                Some(Kind::File { meta, .. }) => Action::File { executable: meta.mode & 0o100 != 0 },
                Some(Kind::Link { .. }) => Action::Link,
                _ if had_content => Action::Remove,
                _ => return Ok(()),
            };
            changes.actions.push((entry.set, entry.path.clone(), action));
            Ok(())
        })?;
        Ok(changes)
    }

    fn is_none(&self) -> bool {
        !self.summary.is_worth_it && self.lists.is_empty()
    }

    /// Sends the commit to git, which writes it beside the repository.
    fn write(
        self,
        repository: &Repository,
        snapshot: &Dir,
        facts: &Facts<'_>,
        parent: Option<&CommitId>,
        message: String,
        judged: Judged,
    ) -> Result<Recorded, SidError> {
        let commit = Commit {
            snapshot,
            branch: format!("refs/heads/{}", facts.role),
            parent,
            message,
            server: facts.server,
            time: now(),
            actions: self.actions,
            pieces: self.pieces,
            lists: self.lists,
        };
        // Everything is flushed at once, by the caller.
        let git =
            repository.incoming()?.args(["-c", "core.fsync=none", "-c", "fastimport.unpackLimit=0", "fast-import"]);
        let answer = git.args(["--quiet", "--force", "--done", "--date-format=raw"]).converse(
            |stdin| commit.write(&mut BufWriter::with_capacity(64 << 10, stdin)),
            |stdout| {
                let mut text = String::new();
                stdout.take(200).read_to_string(&mut text).map(|_| text)
            },
        );
        let text = answer.map_err(|source| repository.failed(source))?;
        let text = text.map_err(FileError::on("record the Snapshot", snapshot.shown()))?;
        let id = text.trim_end().parse().map_err(|_| SidError::Damaged {
            path: repository.dir.shown().to_owned(),
            why: format!("git fast-import gave no commit but '{}'", text.escape_debug()),
        })?;
        let (files, bytes) = (self.summary.objects, self.summary.bytes);
        Ok(Recorded { commit: id, cause: judged.text, changed_here: judged.here, files, bytes, set_aside: None })
    }
}

/// The path lists that differ, with what they are now.
fn changed_lists(before: Option<&Dir>, snapshot: &Dir) -> Result<Vec<List>, SidError> {
    let mut changed = BTreeMap::new();
    for name in list_names(snapshot)? {
        let content = snapshot.read(&name, PathList::MAX_SIZE)?;
        let old = before.map(|before| before.read_if_there(&name, PathList::MAX_SIZE)).transpose()?.flatten();
        if old.as_ref() != Some(&content) {
            changed.insert(name, Some(content));
        }
    }
    for name in before.map(list_names).transpose()?.into_iter().flatten() {
        if snapshot.stat(OsStr::new(&name))?.is_none() {
            changed.insert(name, None);
        }
    }
    Ok(changed.into_iter().collect())
}

fn list_names(dir: &Dir) -> Result<Vec<String>, SidError> {
    let names = dir.names(10_000)?.into_iter().filter_map(|name| name.into_string().ok());
    Ok(names
        .filter(|name| [FileSet::Ident, FileSet::Sync].iter().any(|set| name.starts_with(set.list_name())))
        .collect())
}

/// Whether two names stand for one file.
fn is_same_file(a: &Dir, b: &Dir, name: &str) -> Result<bool, SidError> {
    let (a, b) = (a.stat(OsStr::new(name))?, b.stat(OsStr::new(name))?);
    Ok(a.zip(b).is_some_and(|(a, b)| (a.st_dev, a.st_ino) == (b.st_dev, b.st_ino)))
}

fn recorded_name(role: Role, commit: &CommitId) -> OsString {
    format!("{role}-{commit}").into()
}

/// Keeps Manifest and lists of the Snapshot that `commit` holds.
fn link_recorded(repository: &Repository, role: Role, commit: &CommitId, snapshot: &Dir) -> Result<(), SidError> {
    let recorded = repository.dir.make_dirs(RECORDED)?;
    let (name, temp) = (recorded_name(role, commit), durable::temp_name());
    recorded.remove_tree(&temp)?;
    recorded.make_dir(&temp, 0o700)?;
    let dir = recorded.dir(&temp)?;
    snapshot.hard_link(OsStr::new(MANIFEST), &dir, OsStr::new(MANIFEST))?;
    // Lists are copied: an operator's editor may write into the file.
    for list in list_names(snapshot)? {
        durable::put(&dir, OsStr::new(&list), &snapshot.read(&list, PathList::MAX_SIZE)?, 0o600)?;
    }
    recorded.remove_tree(&name)?;
    Ok(recorded.rename(&temp, &recorded, &name, Rename::NoReplace)?)
}

/// Manifest and lists of the newest commit; taken out of the repository where the links to them were lost.
fn recorded_dir(repository: &Repository, role: Role, commit: &CommitId) -> Result<Dir, SidError> {
    let name = recorded_name(role, commit);
    let recorded = repository.dir.make_dirs(RECORDED)?;
    match recorded.dir(&name) {
        Err(error) if error.is_not_found() => {}
        other => return Ok(other?),
    }
    let temp = durable::temp_name();
    recorded.remove_tree(&temp)?;
    recorded.make_dir(&temp, 0o700)?;
    let dir = recorded.dir(&temp)?;
    super::read::write_head(repository, commit, &dir)?;
    recorded.rename(&temp, &recorded, &name, Rename::NoReplace)?;
    Ok(recorded.dir(&name)?)
}
