//! The store of crashes: one file of facts per signature, and beside it one core.
//!
//! ```text
//! /var/lib/atlas/crashes/
//!   lock
//!   entries/SIGNATURE.json     the facts: tracebacks, count, occurrences, notes
//!   cores/SIGNATURE.zst        the core of the first occurrence
//!   handled.json               cores that others keep and that were counted already
//! ```
//!
//! Invariants: an entry is replaced whole, so a kill leaves the old or the new one; an occurrence is in the entry before its core is taken away, and
//! bears the core's own mark, so that one that is met again after a kill is not counted twice; whatever the limits say, only cores and the
//! details of old occurrences are dropped, never a count.

use crate::{
    clean::Rules,
    entry::{self, Entry, FORMAT, Occurrence},
    signature::{Signature, Strength},
    traceback::Traceback,
    unpack::{self, Packing, UNPACKED_LIMIT},
};
use atlas_host::{
    FileError, durable,
    lock::Lock,
    tree::{Dir, Rename},
};
use std::{
    collections::BTreeMap,
    ffi::{OsStr, OsString},
    fs::File,
    io::{self, Read},
    path::Path,
    time::{Duration, SystemTime},
};

/// Where the store lies below the server's root.
pub const PLACE: &str = "var/lib/atlas/crashes";
/// The largest entry that is read, in bytes.
const ENTRY_LIMIT: usize = 16 << 20;
/// The most entries that are looked at.
const ENTRIES_LIMIT: usize = 100_000;
/// How many cores that others keep are remembered.
const HANDLED: usize = 10_000;

/// What the store did with a crash.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Stored {
    /// The first of its kind: somebody should know.
    New,
    /// Known; counted.
    Known,
    /// This very core was counted before.
    AlreadyCounted,
}

/// How much is kept.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// All cores together, in bytes.
    pub core_bytes: u64,
    /// How many cores.
    pub cores: usize,
    /// The oldest core.
    pub core_age: Duration,
}

impl Default for Limits {
    /// 2 GiB in 200 cores of the last 90 days.
    fn default() -> Limits {
        Limits { core_bytes: 2 << 30, cores: 200, core_age: Duration::from_secs(90 * 86400) }
    }
}

/// The store, held by this program alone until dropped.
#[derive(Debug)]
pub struct Store {
    dir: Dir,
    entries: Dir,
    cores: Dir,
    limits: Limits,
    _lock: Lock,
}

fn named(signature: &str, suffix: &str) -> OsString {
    format!("{signature}{suffix}").into()
}

/// Whether a text can be a signature: what comes from outside becomes a file's name.
pub fn is_signature(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte))
}

impl Store {
    /// Opens the store below `root`, waiting at most this long for another program that holds it.
    pub fn open(root: &Path, limits: Limits, wait: Duration) -> Result<Store, FileError> {
        let dir = Dir::open_root(root)?.make_dirs(PLACE)?;
        let lock = Lock::take(&dir, OsStr::new("lock"), wait)?;
        let (entries, cores) = (dir.make_dirs("entries")?, dir.make_dirs("cores")?);
        for inner in [&dir, &entries, &cores] {
            durable::remove_leftovers(inner)?;
        }
        Ok(Store { dir, entries, cores, limits, _lock: lock })
    }

    /// An entry by its whole signature.
    pub fn entry(&self, signature: &str) -> Result<Option<Entry>, FileError> {
        if !is_signature(signature) {
            return Ok(None);
        }
        let name = named(signature, ".json");
        let Some(content) = self.entries.read_if_there(&name, ENTRY_LIMIT)? else { return Ok(None) };
        let failed =
            |error: serde_json::Error| FileError::on("understand", self.entries.show(&name))(io::Error::other(error));
        let mut entry: Entry = serde_json::from_slice(&content).map_err(failed)?;
        if entry.format > FORMAT {
            let source = io::Error::other(format!("its format {} is newer than this program", entry.format));
            return Err(FileError::on("understand", self.entries.show(&name))(source));
        }
        if entry.signature != signature {
            // A kill came after the file had got its new name, and before that stood in it.
            entry.also.push(std::mem::replace(&mut entry.signature, signature.to_owned()));
        }
        Ok(Some(entry))
    }

    /// All entries, by signature.
    pub fn all(&self) -> Result<Vec<Entry>, FileError> {
        let mut all = Vec::new();
        for name in self.entries.names(ENTRIES_LIMIT)? {
            let signature = name.to_str().and_then(|name| name.strip_suffix(".json")).unwrap_or_default();
            all.extend(self.entry(signature)?);
        }
        Ok(all)
    }

    /// The entry whose signature begins like this; `Err` lists the candidates where there is not just one.
    pub fn find(&self, beginning: &str) -> Result<Result<Entry, Vec<String>>, FileError> {
        let all = self.all()?;
        let fits = |entry: &&Entry| {
            entry.signature.starts_with(beginning) || entry.also.iter().any(|also| also.starts_with(beginning))
        };
        let mut fitting: Vec<Entry> = all.iter().filter(fits).cloned().collect();
        Ok(match fitting.len() {
            1 => Ok(fitting.remove(0)),
            _ => Err(fitting.into_iter().map(|entry| entry.signature).collect()),
        })
    }

    /// The entry that tells the same fault: the one of that signature, or one that tells it with more or with less debug information. Where several
    /// may, none is taken.
    pub fn same_fault(&self, other: &Entry) -> Result<Option<Entry>, FileError> {
        if let Some(entry) = self.entry(&other.signature)? {
            return Ok(Some(entry));
        }
        let mut all = self.all()?;
        Ok(entry::same_fault(&all, other).map(|at| all.swap_remove(at)))
    }

    /// Has an entry take over what another one of the same fault knows; the entry, and whether that was anything.
    pub fn learn(&self, mut entry: Entry, other: &Entry) -> Result<(Entry, bool), FileError> {
        let before = entry.signature.clone();
        let is_new = entry.learn(other);
        if entry.signature != before {
            self.rename(&before, &entry.signature)?;
        }
        if is_new {
            self.put(&entry)?;
        }
        Ok((entry, is_new))
    }

    /// Takes over entries of another site; says how many were new, how many told something new, and how many were known already.
    pub fn import(&self, others: &[Entry]) -> Result<(usize, usize, usize), FileError> {
        let (mut own, mut new, mut changed) = (self.all()?, 0, 0);
        // Where several of them may be what is known here with less debug information, none is taken for it.
        let mut known_as: BTreeMap<&String, usize> = BTreeMap::new();
        others.iter().filter(|other| other.is_complete).flat_map(|other| &other.also).for_each(|name| {
            *known_as.entry(name).or_default() += 1;
        });
        for other in others {
            let is_alone = other.also.iter().all(|name| known_as.get(name).is_none_or(|count| *count == 1));
            let same = entry::same_fault(&own, other).filter(|at| is_alone || own[*at].signature == other.signature);
            if let Some(at) = same {
                let (entry, is_new) = self.learn(own[at].clone(), other)?;
                own[at] = entry;
                changed += usize::from(is_new);
            } else {
                self.put(other)?;
                own.push(other.clone());
                new += 1;
            }
        }
        Ok((new, changed, others.len() - new - changed))
    }

    /// Counts a crash.
    pub fn count(
        &self,
        traceback: &Traceback,
        signature: &Signature,
        occurrence: Occurrence,
    ) -> Result<(Entry, Stored), FileError> {
        let told = Entry::new(traceback, signature);
        let (mut entry, stored) = match self.same_fault(&told)? {
            Some(entry) => (self.learn(entry, &told)?.0, Stored::Known),
            None => (told, Stored::New),
        };
        if entry.counted(&occurrence) {
            return Ok((entry, Stored::AlreadyCounted));
        }
        entry.add(occurrence);
        self.put(&entry)?;
        Ok((entry, stored))
    }

    /// Counts a crash of the kernel.
    pub fn count_kernel(
        &self,
        signature: &str,
        strength: Strength,
        text: &str,
        occurrence: Occurrence,
    ) -> Result<(Entry, Stored), FileError> {
        let known = self.entry(signature)?;
        let is_new = known.is_none();
        let mut entry = known.unwrap_or_else(|| Entry {
            signature: signature.to_owned(),
            is_complete: true,
            text: text.to_owned(),
            ..Entry::bare("kernel", strength)
        });
        if entry.counted(&occurrence) {
            return Ok((entry, Stored::AlreadyCounted));
        }
        entry.add(occurrence);
        self.put(&entry)?;
        Ok((entry, if is_new { Stored::New } else { Stored::Known }))
    }

    /// Writes an entry; where the disk is full, cores make room for facts.
    pub fn put(&self, entry: &Entry) -> Result<(), FileError> {
        let name = named(&entry.signature, ".json");
        let content = serde_json::to_vec_pretty(entry)
            .map_err(|error| FileError::on("write", self.entries.show(&name))(io::Error::other(error)))?;
        loop {
            match durable::write(&self.entries, &name, &content, 0o600) {
                Err(error) if error.source.kind() == io::ErrorKind::StorageFull && self.drop_oldest_core()? => {}
                other => return other,
            }
        }
    }

    /// Gives an entry and its core another name, which nobody has. The file's name is what counts: what stands in it may follow later.
    fn rename(&self, from: &str, to: &str) -> Result<(), FileError> {
        self.move_core(from, to)?;
        self.entries.rename(&named(from, ".json"), &self.entries, &named(to, ".json"), Rename::NoReplace)?;
        self.entries.sync()
    }

    /// Removes an entry that stands under another signature now.
    fn forget(&self, signature: &str) -> Result<(), FileError> {
        self.entries.remove(&named(signature, ".json"))?;
        self.entries.sync()
    }

    /// Keeps a core, packed, where the entry has none yet. A full disk is no error: the facts are what matters.
    pub fn keep_core(&self, signature: &str, core: &Path) -> Result<bool, FileError> {
        let name = named(signature, ".zst");
        if self.cores.stat(&name)?.is_some() {
            return Ok(false);
        }
        let temp = durable::temp_name();
        let kept = self
            .pack(core, &temp)
            .and_then(|()| self.cores.rename(&temp, &self.cores, &name, Rename::Replace).map_err(|error| error.source));
        if let Err(source) = kept {
            self.cores.remove(&temp)?;
            let is_full = matches!(source.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded);
            return if is_full { Ok(false) } else { Err(FileError::on("keep", core)(source)) };
        }
        self.cores.sync()?;
        self.keep_limits()?;
        Ok(true)
    }

    fn pack(&self, core: &Path, temp: &OsStr) -> io::Result<()> {
        let mut source = File::open(core)?;
        let mut target = self.cores.create_new(temp, 0o600).map_err(|error| error.source)?;
        if Packing::of_file(&source)? == Some(Packing::Zstd) {
            io::copy(&mut source, &mut target)?;
        } else {
            let mut encoder = zstd::Encoder::new(&mut target, 3)?;
            io::copy(&mut unpack::content(core)?.take(UNPACKED_LIMIT), &mut encoder)?;
            encoder.finish()?;
        }
        target.sync_all()
    }

    /// The packed core of an entry, where it is kept.
    pub fn core(&self, signature: &str) -> Result<Option<File>, FileError> {
        match self.cores.file(named(signature, ".zst")) {
            Ok(file) => Ok(Some(file)),
            Err(error) if error.is_not_found() => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Cores by age, the oldest first: when, size, name.
    fn cores_by_age(&self) -> Result<Vec<(i64, u64, OsString)>, FileError> {
        let mut cores = Vec::new();
        for name in self.cores.names(ENTRIES_LIMIT)? {
            if let Some(stat) = self.cores.stat(&name)? {
                cores.push((stat.st_mtime, u64::try_from(stat.st_size).unwrap_or(0), name));
            }
        }
        cores.sort();
        Ok(cores)
    }

    fn drop_oldest_core(&self) -> Result<bool, FileError> {
        match self.cores_by_age()?.first() {
            Some((_, _, name)) => self.cores.remove(name),
            None => Ok(false),
        }
    }

    /// Drops the oldest cores that are too many, too large together, or too old; says how many.
    pub fn keep_limits(&self) -> Result<usize, FileError> {
        let cores = self.cores_by_age()?;
        let oldest = seconds_now().saturating_sub(self.limits.core_age.as_secs());
        let (mut count, mut bytes) = (cores.len(), cores.iter().map(|core| core.1).sum::<u64>());
        let mut dropped = 0;
        for (time, size, name) in cores {
            let is_old = u64::try_from(time).unwrap_or(0) < oldest;
            if count <= self.limits.cores && bytes <= self.limits.core_bytes && !is_old {
                break;
            }
            self.cores.remove(&name)?;
            (count, bytes, dropped) = (count - 1, bytes - size, dropped + 1);
        }
        Ok(dropped)
    }

    /// The marks of cores that others keep and that were counted.
    pub fn handled(&self) -> Result<Vec<String>, FileError> {
        let content = self.dir.read_if_there("handled.json", ENTRY_LIMIT)?.unwrap_or_default();
        // A list that cannot be read costs work, not truth: entries know the marks, too.
        Ok(serde_json::from_slice(&content).unwrap_or_default())
    }

    /// Remembers such marks.
    pub fn set_handled(&self, mut marks: Vec<String>) -> Result<(), FileError> {
        marks.drain(..marks.len().saturating_sub(HANDLED));
        let content = serde_json::to_vec(&marks).unwrap_or_default();
        durable::write_if_changed(&self.dir, OsStr::new("handled.json"), &content, 0o600).map(|_| ())
    }

    /// Computes all signatures anew, by these rules; gives the old and the new ones that differ.
    pub fn resign(&self, rules: &Rules) -> Result<Vec<(String, String)>, FileError> {
        let mut changed = Vec::new();
        for old in self.all()? {
            let Some(raw) = &old.raw else { continue };
            let signature = Signature::of(&raw.traceback(), rules);
            // Another site told what was copied into what: without debug information nothing as good can be computed.
            if old.is_complete && !signature.is_complete {
                continue;
            }
            if signature.id == old.signature && old.rules == rules.version {
                continue;
            }
            let mut new = old.clone();
            new.take(&signature);
            if signature.id != old.signature {
                new.former.push(old.signature.clone());
                match self.entry(&signature.id)? {
                    // A kill came between the writing and the removing: it is merged already.
                    Some(there) if there.former.contains(&old.signature) => {}
                    Some(there) => self.put(&there.merged(&new))?,
                    None => self.put(&new)?,
                }
                self.move_core(&old.signature, &signature.id)?;
                self.forget(&old.signature)?;
                changed.push((old.signature, signature.id));
            } else {
                self.put(&new)?;
            }
        }
        Ok(changed)
    }

    fn move_core(&self, from: &str, to: &str) -> Result<(), FileError> {
        let (from, to) = (named(from, ".zst"), named(to, ".zst"));
        match self.cores.rename(&from, &self.cores, &to, Rename::NoReplace) {
            Err(error) if error.is_not_found() => Ok(()),
            Err(error) if error.source.kind() == io::ErrorKind::AlreadyExists => self.cores.remove(&from).map(|_| ()),
            other => other,
        }
    }
}

/// Seconds since 1970.
pub fn seconds_now() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs())
}
