//! Snapshot Create: copies what the path lists name from the server's tree into the Snapshot of (Role, EnvVersion) [187-189].
//!
//! The older versions are made from it in the same transaction [190-194], so that a Role directory never holds Snapshots of two moments.
//!
//! ```text
//!   walk      look at every object; read what changed since the last time           .stat-cache-PRI, stat_cache.rs, walk.rs
//!   compare   with the Manifest before: nothing changed → nothing is written        delta.rs
//!   build     what did not change is shared with the Snapshot before, by hard links  build.rs
//!   convert   the older versions, from what was built
//!   publish   flushed once, with the commit of the history; one exchange of names
//! ```
//!
//! What changes while it is read or copied is noticed, and all of it is taken again, a few times; what never settles is an error.

mod build;
mod delta;
mod lists;
mod stat_cache;
mod walk;
mod ways;

use crate::{
    accounts,
    convert::{self, Converted},
    history::{self, Cause},
    install::{Parents, check_copy},
    layout::{SidData, SidError, read_env_version},
    lines::{self, Lines},
    on_root, residue,
    snapshot::{MANIFEST, SNAPSHOT_ENV_VERSION, generation},
    transaction::Transaction,
};
use atlas_host::{durable, lock::Lock, tree::Dir};
use atlas_model::{
    EnvVersion, Owners, Role, TreePath,
    manifest::{Entry, FileSet, Header, Manifest},
    ways::Ways,
};
use build::{BuildError, Sources, build};
use delta::Delta;
use lists::Lists;
pub use lists::{adopt_list, ident_list};
use sha2::{Digest as _, Sha256};
use stat_cache::{Key, Reader, Writer};
use std::{
    collections::BTreeSet,
    ffi::{OsStr, OsString},
    fs::File,
    mem::take,
    os::unix::fs::MetadataExt,
    time::Duration,
};
use walk::{Request, TICK, now_ns, walk};

/// How often what changes while it is taken is taken again.
const ATTEMPTS: usize = 5;

/// What a Snapshot Create did.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Created {
    /// Whose.
    pub role: Role,
    /// For which Environment.
    pub env_version: EnvVersion,
    /// The number of the Role's last change: of this one, if anything changed.
    pub generation: u64,
    /// How many objects of the identity it holds.
    pub ident_objects: usize,
    /// How many other objects.
    pub sync_objects: usize,
    /// Whether anything differs from the Snapshot before. If not, nothing was written.
    pub changed: bool,
    /// How many objects were added, changed or removed.
    pub changed_objects: usize,
    /// The older versions that were made from it.
    pub converted_to: Vec<EnvVersion>,
    /// What their converters said, for somebody to look at; what was wrong with the Snapshot before.
    pub notes: Vec<String>,
    /// What lies in listed directories and cannot travel: no fault, for whoever asks.
    pub passed_over: Option<String>,
    /// The commit that was made of it.
    pub recorded: Option<history::Recorded>,
    /// Why none could be made. The Snapshot is whole without it, and the next one records the change.
    pub history_error: Option<String>,
}

/// How a Snapshot is made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct How {
    /// Whether to read every byte of every file. Otherwise what has the same times, size and place as the last time is taken for unchanged.
    pub reads_all: bool,
    /// Why it is made, for the history.
    pub cause: Cause,
}

impl Default for How {
    fn default() -> How {
        How { reads_all: false, cause: Cause::Created }
    }
}

/// Makes the Snapshot of (`role`, `env_version`) from the tree below `root`, and all older ones from it, if anything changed.
pub fn create(root: &Dir, sid: &SidData, role: Role, env_version: EnvVersion) -> Result<Created, SidError> {
    create_how(root, sid, role, env_version, &How::default())
}

/// The same, in a certain way.
pub fn create_how(
    root: &Dir,
    sid: &SidData,
    role: Role,
    env_version: EnvVersion,
    how: &How,
) -> Result<Created, SidError> {
    let lock = sid.lock(role, Duration::from_secs(60))?;
    let lists = Lists::read(sid, role, env_version)?;
    on_root::check(root, &lists.ident)?;
    let accounts = accounts::owners_of(root)?;
    let mut task = Task { root, sid, role, env_version, how, lists, accounts, lock, damage: None };
    task.damage = task.published()?.map(|published| published.damage()).transpose()?.flatten();
    if task.damage.is_some() {
        Transaction::forget_last(sid, role, &task.lock)?;
    }
    let (mut attempt, mut last) = (1, Seen::default());
    loop {
        match task.attempt(last)? {
            Attempt::Done(created) => return Ok(*created),
            Attempt::Again { path, .. } if attempt == ATTEMPTS => return Err(SidError::Restless(path)),
            Attempt::Again { seen, .. } => last = seen,
        }
        attempt += 1;
        // Beyond the tick in which the change was seen.
        std::thread::sleep(2 * TICK);
    }
}

struct Task<'a> {
    root: &'a Dir,
    sid: &'a SidData,
    role: Role,
    env_version: EnvVersion,
    how: &'a How,
    lists: Lists,
    accounts: Owners,
    lock: Lock,
    /// What is wrong with the Snapshot that is published, of which nothing is taken over then.
    damage: Option<String>,
}

enum Attempt {
    Done(Box<Created>),
    /// Something changed meanwhile, or seems to have.
    Again {
        path: TreePath,
        seen: Seen,
    },
}

/// What an attempt that has to be repeated saw.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Seen {
    /// Of everything that was read. The same the next time: it has settled.
    fingerprint: Option<u64>,
    /// Whether something could not be copied. The same the next time, though nothing changed: it cannot be.
    has_failed: bool,
}

/// What is said of devices, pipes and sockets in listed directories.
fn told_of_passed_over((named, count): &(Vec<TreePath>, usize)) -> Option<String> {
    let names = named.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    let more = match count - named.len() {
        0 => String::new(),
        more => format!(" (and {more} more)"),
    };
    (*count > 0).then(|| format!("devices, pipes and sockets do not travel, each server makes its own: {names}{more}"))
}

/// The Snapshot that is published.
struct Published {
    role_dir: Dir,
    dir: Dir,
    header: Header,
}

impl Published {
    fn manifest(&self) -> Result<Lines<File>, SidError> {
        Ok(lines::of(&self.dir)?.1)
    }

    /// What is wrong with a copy of the identity. Who wears it has no use for them, and the server that needs them would refuse them: they are
    /// few, and are read each time.
    fn damage(&self) -> Result<Option<String>, SidError> {
        let Ok(files) = self.dir.dir(FileSet::Ident.dir_name()) else {
            return Ok(Some("the IdentFiles of the Snapshot cannot be opened".into()));
        };
        let (mut lines, mut copies) = (self.manifest()?, Parents::default());
        while lines.advance()? && lines.place()?.0 == FileSet::Ident {
            if let Err(error) = check_copy(&files, &lines.entry()?, &mut copies) {
                return Ok(Some(error.to_string()));
            }
        }
        Ok(None)
    }
}

impl Task<'_> {
    fn attempt(&self, last: Seen) -> Result<Attempt, SidError> {
        let began_ns = now_ns();
        let published = if self.damage.is_none() { self.published()? } else { None };
        let cache_name = OsString::from(format!(".stat-cache-{}", self.role));
        let key = published.as_ref().map(|published| self.key(&published.dir)).transpose()?;
        let cache = key.map(|key| Reader::open(self.sid.dir(), &cache_name, &key)).transpose()?.flatten();
        let mut writer = Writer::new(self.sid.dir(), &cache_name, began_ns);
        let lists = [(FileSet::Ident, &self.lists.ident), (FileSet::Sync, &self.lists.sync)];
        let mut request = Request { root: self.root, lists, cache, reads_all: self.how.reads_all };
        let mut pass = walk(&mut request, began_ns, &mut writer)?;
        if pass.is_cache_broken {
            drop(writer);
            writer = Writer::new(self.sid.dir(), &cache_name, began_ns);
            self.sid.dir().remove(&cache_name)?;
            pass = walk(&mut request, began_ns, &mut writer)?;
        }
        let is_whole = pass.is_whole;
        if let Some(path) = pass.moved {
            return Ok(Attempt::Again { path, seen: Seen::default() });
        }
        let seen = Seen { fingerprint: Some(pass.fingerprint), has_failed: false };
        if let Some(path) = pass.unsettled.clone().filter(|_| last.fingerprint != seen.fingerprint) {
            return Ok(Attempt::Again { path, seen });
        }
        let (objects, mut numbers) = (pass.objects, (take(&mut pass.users), take(&mut pass.groups)));
        let ways = ways::above(self.root, &self.lists.sync)?;
        numbers.0.extend(ways.values().map(|way| way.uid));
        numbers.1.extend(ways.values().map(|way| way.gid));
        let passed_over = told_of_passed_over(&pass.passed_over);
        let before = || published.as_ref().map(Published::manifest).transpose();
        let delta = Delta::of(pass, before()?, is_whole)?;
        let answer = Created {
            role: self.role,
            env_version: self.env_version,
            generation: published.as_ref().map_or(Ok(0), |published| generation(&published.role_dir))?,
            ident_objects: objects[0],
            sync_objects: objects[1],
            changed: true,
            changed_objects: delta.entries.len() + delta.gone.len(),
            converted_to: vec![],
            notes: self.damage.iter().map(|what| format!("{what}; it was made anew")).collect(),
            passed_over,
            recorded: None,
            history_error: None,
        };
        let next = Next::new(self, delta, ways, numbers, published.as_ref().filter(|_| !is_whole))?;
        if let (Some(published), Some(key)) = (&published, key)
            && self.is_current(published, &next, is_whole)?
        {
            if writer.differs() {
                writer.finish(&key)?.put()?;
            }
            let created = Created { changed: false, ..answer };
            return Ok(Attempt::Done(Box::new(self.catch_up(created))));
        }
        match self.replace(next, published.as_ref(), writer, &answer) {
            Ok(created) => Ok(Attempt::Done(Box::new(created))),
            Err(BuildError::Copy(path, error)) if last == (Seen { has_failed: true, ..seen }) => {
                Err(crate::scan::leads_out(&path, error))
            }
            Err(BuildError::Copy(path, _)) => Ok(Attempt::Again { path, seen: Seen { has_failed: true, ..seen } }),
            Err(BuildError::Other(error)) => Err(error),
        }
    }

    /// The Snapshot that is published for this Environment.
    fn published(&self) -> Result<Option<Published>, SidError> {
        let Some(role_dir) = self.sid.role_dir(self.role)? else { return Ok(None) };
        if read_env_version(&role_dir, SNAPSHOT_ENV_VERSION)? != Some(self.env_version) {
            return Ok(None);
        }
        let dir = role_dir.dir(self.env_version.dir_name())?;
        let (header, _) = lines::of(&dir)?;
        Ok(Some(Published { role_dir, dir, header }))
    }

    /// Whether what is published is what would be made. `is_whole`: it is not known whether the converters are still the same.
    fn is_current(&self, published: &Published, next: &Next, is_whole: bool) -> Result<bool, SidError> {
        let is_same = next.delta.is_none()
            && next.owners == published.header.owners()
            && next.ways == *published.header.ways()
            && self.lists.are_those_of(&published.dir)?
            && residue::is_current(self.sid, self.role, self.env_version, &published.dir)?;
        let mut version = self.env_version.older();
        if !is_same || (is_whole && version.is_some()) {
            return Ok(false);
        }
        while let Some(older) = version {
            match published.role_dir.dir(older.dir_name()) {
                Ok(dir) if dir.stat(OsStr::new(MANIFEST))?.is_some() => version = older.older(),
                _ => return Ok(false),
            }
        }
        Ok(true)
    }

    /// Records what an earlier run published and could not record.
    fn catch_up(&self, created: Created) -> Created {
        match history::record(self.sid, self.role, &self.how.cause) {
            Ok(recorded) => Created { recorded, ..created },
            Err(error) => Created { history_error: Some(told(&error)), ..created },
        }
    }

    /// Makes the next Role directory and publishes it.
    fn replace(
        &self,
        next: Next,
        published: Option<&Published>,
        mut writer: Writer<'_>,
        answer: &Created,
    ) -> Result<Created, BuildError> {
        let transaction = Transaction::begin_from_last(self.sid, self.role, &self.lock)?;
        let made = self.fill(&transaction, &next, published).and_then(|(dir, converted)| {
            writer.begin()?;
            Ok((writer.finish(&self.key(&dir)?)?, converted))
        });
        let (cache, converted) = match made {
            Ok(made) => made,
            Err(error) => {
                transaction.abandon()?;
                return Err(error);
            }
        };
        drop(next);
        let generation = transaction.generation()? + 1;
        let (role, env_version) = (self.role, self.env_version);
        let subject = history::Subject { role, role_dir: transaction.dir(), env_version, generation };
        let prepared = history::prepare(self.sid, &subject, &self.how.cause);
        transaction.publish_as(env_version, generation)?;
        cache.put()?;
        let recorded = prepared.and_then(|prepared| prepared.map(history::Prepared::finish).transpose());
        let (recorded, history_error) = match recorded {
            Ok(recorded) => (recorded, None),
            Err(error) => (None, Some(told(&error))),
        };
        let (converted_to, notes) = (converted.versions, [answer.notes.clone(), converted.notes].concat());
        Ok(Created { generation, converted_to, notes, recorded, history_error, ..answer.clone() })
    }

    fn fill(
        &self,
        transaction: &Transaction<'_>,
        next: &Next,
        published: Option<&Published>,
    ) -> Result<(Dir, Converted), BuildError> {
        let name = self.env_version.dir_name();
        transaction.dir().make_dir(&name, 0o700)?;
        let dir = transaction.dir().dir(&name)?;
        let last = match dir.file(MANIFEST) {
            Ok(file) => Some(Lines::open(file, dir.show(MANIFEST))?.1),
            Err(error) if error.is_not_found() => None,
            Err(error) => return Err(error.into()),
        };
        // Of the directory before, the copies alone are of use.
        remove_others(transaction.dir(), &[&name])?;
        remove_others(&dir, &[FileSet::Ident.dir_name(), FileSet::Sync.dir_name()])?;
        self.lists.write(&dir)?;
        residue::carry(self.sid, self.role, self.env_version, &dir)?;
        let residue = residue::entries(&dir)?;
        let count = next.delta.count + residue.len();
        let header = Header::new(self.role, self.env_version, count, &next.owners, next.ways.clone());
        let before = published.map(Published::manifest).transpose()?;
        next.delta.write_manifest(&dir, &header, before, &residue)?;
        let wanted = lines::of(&dir)?.1;
        let sources = Sources { root: self.root, published: published.map(|p| &p.dir), delta: &next.delta };
        build(&sources, &dir, last, wanted)?;
        let converters = convert::Converters::of(self.root.shown());
        let converted = convert::all_older(&converters, transaction.dir(), self.role, self.env_version)?;
        Ok((dir, converted))
    }

    /// What the stat cache holds for, together with the Snapshot in `snapshot`.
    fn key(&self, snapshot: &Dir) -> Result<Key, SidError> {
        let mut hash = Sha256::new();
        let mut add = |bytes: &[u8]| {
            hash.update((bytes.len() as u64).to_le_bytes());
            hash.update(bytes);
        };
        add(env!("CARGO_PKG_VERSION").as_bytes());
        add(&self.root.read_if_there("etc/machine-id", 100)?.unwrap_or_default());
        for stat in [self.root.stat(OsStr::new("."))?, snapshot.stat(OsStr::new(MANIFEST))?].into_iter().flatten() {
            add(&stat.st_ino.to_le_bytes());
            // A directory's other numbers change with what is in it.
            let is_file = stat.st_mode & nix::libc::S_IFMT == nix::libc::S_IFREG;
            let numbers = if is_file { [stat.st_size, stat.st_mtime, stat.st_mtime_nsec] } else { [0; 3] };
            numbers.iter().for_each(|number| add(&number.to_le_bytes()));
        }
        add(format!("{} {}", self.role, self.env_version).as_bytes());
        for (name, content) in self.lists.all() {
            add(name.as_bytes());
            add(&content);
        }
        let mut version = Some(self.env_version);
        while let Some(newer) = version.filter(|version| version.older().is_some()) {
            let path = self.root.show(format!("opt/atlas/bin/SyncConverter{}", newer.number()));
            add(std::fs::read_link(&path).unwrap_or_default().as_os_str().as_encoded_bytes());
            let converter = std::fs::metadata(&path).ok();
            let of = |meta: std::fs::Metadata| {
                format!("{} {} {} {}", meta.ino(), meta.size(), meta.ctime(), meta.ctime_nsec())
            };
            add(converter.map(of).unwrap_or_default().as_bytes());
            version = newer.older();
        }
        Ok(hash.finalize().into())
    }
}

/// What the next Snapshot differs in, checked.
struct Next {
    delta: Delta,
    owners: Owners,
    ways: Ways,
}

impl Next {
    /// `numbers` are the owners of all objects; those in access lists of objects that did not change stand in the Manifest before.
    fn new(
        task: &Task<'_>,
        delta: Delta,
        ways: Ways,
        numbers: (BTreeSet<u32>, BTreeSet<u32>),
        before: Option<&Published>,
    ) -> Result<Next, SidError> {
        let bad = |source| SidError::Manifest { path: task.sid.dir().show(task.role.to_string()), source };
        let Delta { entries, gone, count } = delta;
        let checked = Manifest::new(task.role, task.env_version, entries)
            .and_then(|manifest| manifest.with_ways(ways))
            .and_then(|manifest| manifest.with_owners(&task.accounts))
            .map_err(bad)?;
        let (mut owners, ways) = (checked.owners().clone(), checked.ways().clone());
        let before = before.map(|before| before.header.owners()).unwrap_or_default();
        for (mine, names, numbers, before) in [
            (&mut owners.users, &task.accounts.users, numbers.0, before.users),
            (&mut owners.groups, &task.accounts.groups, numbers.1, before.groups),
        ] {
            let used = numbers.into_iter().chain(before.into_keys());
            mine.extend(used.filter_map(|number| Some((number, names.get(&number)?.clone()))));
        }
        Ok(Next { delta: Delta { entries: checked.into_entries(), gone, count }, owners, ways })
    }
}

/// Writes the Manifest of a Snapshot directory; `owners` are the accounts of the server that the files are from.
pub(crate) fn write_manifest(
    dir: &Dir,
    role: Role,
    env_version: EnvVersion,
    entries: Vec<Entry>,
    ways: Ways,
    owners: &Owners,
) -> Result<Manifest, SidError> {
    let path = dir.show(MANIFEST);
    let manifest = Manifest::new(role, env_version, entries)
        .and_then(|manifest| manifest.with_ways(ways))
        .and_then(|manifest| manifest.with_owners(owners))
        .map_err(|source| SidError::Manifest { path: path.clone(), source })?;
    let content = manifest.to_file().map_err(|source| SidError::Damaged { path, why: source.to_string() })?;
    durable::write(dir, OsStr::new(MANIFEST), &content, 0o600)?;
    Ok(manifest)
}

fn remove_others(dir: &Dir, stay: &[&str]) -> Result<(), SidError> {
    for name in dir.names(10_000)? {
        if !stay.iter().any(|stays| name == *stays) {
            dir.remove_tree(&name)?;
        }
    }
    Ok(())
}

/// An error with its causes, in one line.
fn told(error: &SidError) -> String {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        text.push_str(&format!(": {error}"));
        cause = error.source();
    }
    text
}
