//! From what a pass found to what changed, and to the next Manifest.

use super::{stat_cache::cmp_paths, walk::Pass};
use crate::{layout::SidError, lines::Lines, snapshot::MANIFEST};
use atlas_host::{FileError, tree::Dir};
use atlas_model::{
    TreePath,
    manifest::{Entry, FileSet, Header},
};
use std::{
    borrow::Cow,
    cmp::Ordering,
    ffi::OsStr,
    fs::File,
    io::{self, BufWriter, Write},
};

/// What differs from the Snapshot before, in the order of the Manifest.
#[derive(Debug, Default)]
pub(crate) struct Delta {
    /// What was added or changed, as it is now.
    pub(crate) entries: Vec<Entry>,
    /// What is no longer there and no longer listed.
    pub(crate) gone: Vec<(FileSet, TreePath)>,
    /// How many entries the next Manifest has, those of the residue left out.
    pub(crate) count: usize,
}

impl Delta {
    /// Compares what was read with the Manifest before. `is_whole`: everything was read, so that what was not is gone.
    pub(crate) fn of(pass: Pass, before: Option<Lines<File>>, is_whole: bool) -> Result<Delta, SidError> {
        let mut delta = Delta { gone: pass.gone, count: pass.entries, ..Delta::default() };
        let Some(mut lines) = before else {
            return Ok(Delta { entries: pass.read, ..delta });
        };
        let mut read = pass.read.into_iter().peekable();
        let mut line = Vec::new();
        while lines.advance()? {
            let (set, raw) = lines.place()?;
            if set == FileSet::Residue {
                break;
            }
            let path = path_bytes(&raw)?;
            while let Some(new) = read.next_if(|entry| order(entry, set, &path).is_lt()) {
                delta.entries.push(new);
            }
            match read.next_if(|entry| order(entry, set, &path).is_eq()) {
                // The time of a directory or a link changed, or nothing did: the line stays.
                Some(entry) => {
                    line.clear();
                    serde_json::to_writer(&mut line, &entry)
                        .map_err(|error| FileError::on("write", MANIFEST)(io::Error::from(error)))?;
                    if line != lines.raw() && !entry.kind.same_as(&lines.entry()?.kind) {
                        delta.entries.push(entry);
                    }
                }
                None if is_whole => delta.gone.push((set, lines.entry()?.path)),
                None => {}
            }
        }
        delta.entries.extend(read);
        Ok(delta)
    }

    /// Whether nothing changed.
    pub(crate) fn is_none(&self) -> bool {
        self.entries.is_empty() && self.gone.is_empty()
    }

    /// Whether the path is among what was added or changed.
    pub(crate) fn has(&self, set: FileSet, path: &TreePath) -> bool {
        let key = super::stat_cache::bytes(path);
        self.entries.binary_search_by(|entry| order(entry, set, key)).is_ok()
    }

    /// Writes the next Manifest into the Snapshot's directory `to`: the lines of the one before, but for what changed.
    pub(crate) fn write_manifest(
        &self,
        to: &Dir,
        header: &Header,
        before: Option<Lines<File>>,
        residue: &[Entry],
    ) -> Result<(), SidError> {
        let failed = |source: io::Error| FileError::on("write", to.show(MANIFEST))(source);
        to.remove(OsStr::new(MANIFEST))?;
        let mut out = BufWriter::with_capacity(128 << 10, to.create_new(MANIFEST, 0o600)?);
        let mut line = serde_json::to_vec(header).map_err(|error| failed(error.into()))?;
        line.push(b'\n');
        out.write_all(&line).map_err(failed)?;
        let mut new = self.entries.iter().peekable();
        let mut gone = self.gone.iter().peekable();
        if let Some(mut lines) = before {
            while lines.advance()? {
                let (set, raw) = lines.place()?;
                if set == FileSet::Residue {
                    break;
                }
                let path = path_bytes(&raw)?;
                while let Some(entry) = new.next_if(|entry| order(entry, set, &path).is_lt()) {
                    write_entry(&mut out, entry).map_err(failed)?;
                }
                if let Some(entry) = new.next_if(|entry| order(entry, set, &path).is_eq()) {
                    write_entry(&mut out, entry).map_err(failed)?;
                } else if gone.next_if(|(s, p)| *s == set && super::stat_cache::bytes(p) == &*path).is_none() {
                    out.write_all(lines.raw()).and_then(|()| out.write_all(b"\n")).map_err(failed)?;
                }
            }
        }
        new.chain(residue).try_for_each(|entry| write_entry(&mut out, entry)).map_err(failed)?;
        out.flush().map_err(failed)?;
        Ok(())
    }
}

fn write_entry(out: &mut impl Write, entry: &Entry) -> io::Result<()> {
    serde_json::to_writer(&mut *out, entry)?;
    out.write_all(b"\n")
}

fn order(entry: &Entry, set: FileSet, path: &[u8]) -> Ordering {
    entry.set.cmp(&set).then_with(|| cmp_paths(super::stat_cache::bytes(&entry.path), path))
}

/// The bytes of a path that stands in a Manifest's line.
fn path_bytes(raw: &[u8]) -> Result<Cow<'_, [u8]>, SidError> {
    if !raw.contains(&b'\\') {
        return Ok(Cow::Borrowed(raw));
    }
    let quoted = [b"\"", raw, b"\""].concat();
    let path: TreePath = serde_json::from_slice(&quoted)
        .map_err(|error| SidError::Damaged { path: MANIFEST.into(), why: error.to_string() })?;
    Ok(Cow::Owned(super::stat_cache::bytes(&path).to_vec()))
}
