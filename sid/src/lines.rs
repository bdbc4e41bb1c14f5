//! Manifests as lines: two of them are compared, and a new one is made from an old one, without reading either into memory whole.
//!
//! Lines that are the same byte for byte are the same entry; only those that differ are parsed. So the cost of a comparison is that of
//! reading two files, plus what changed.

use crate::{layout::SidError, snapshot::MANIFEST};
use atlas_host::{FileError, tree::Dir};
use atlas_model::{
    TreePath,
    manifest::{BadManifest, Entry, FileSet, Header},
};
use std::{
    borrow::Cow,
    collections::BTreeSet,
    fs::File,
    io::{BufRead, BufReader, Read},
    path::PathBuf,
};

/// The longest line, in bytes: a hundred attributes of the largest size.
const MAX_LINE: u64 = 16 << 20;

/// The lines of one Manifest after the first, each without its end.
#[derive(Debug)]
pub struct Lines<R> {
    reader: BufReader<R>,
    path: PathBuf,
    line: Vec<u8>,
    number: usize,
    left: usize,
}

impl<R: Read> Lines<R> {
    /// Reads the first line and says what it holds; `path` is for messages.
    pub fn open(reader: R, path: PathBuf) -> Result<(Header, Lines<R>), SidError> {
        let reader = BufReader::with_capacity(128 << 10, reader);
        let mut lines = Lines { reader, path, line: vec![], number: 0, left: 1 };
        lines.read_line()?;
        let header =
            Header::parse(&lines.line).map_err(|source| SidError::Manifest { path: lines.path.clone(), source })?;
        lines.left = header.entries;
        Ok((header, lines))
    }

    /// Goes to the next line; `false` after the last one. Lines that are missing are an error.
    pub fn advance(&mut self) -> Result<bool, SidError> {
        self.line.clear();
        if self.left == 0 {
            return Ok(false);
        }
        self.left -= 1;
        self.read_line()?;
        if self.line.is_empty() {
            let (announced, found) = (self.number + self.left, self.number - 1);
            return Err(self.bad(BadManifest::Count { announced, found }));
        }
        Ok(true)
    }

    fn read_line(&mut self) -> Result<(), SidError> {
        self.number += 1;
        let read = (&mut self.reader).take(MAX_LINE).read_until(b'\n', &mut self.line);
        read.map_err(FileError::on("read", &self.path))?;
        if self.line.last() == Some(&b'\n') {
            self.line.pop();
        }
        Ok(())
    }

    /// The line; empty before the first and after the last.
    pub fn raw(&self) -> &[u8] {
        &self.line
    }

    /// The line as an entry.
    pub fn entry(&self) -> Result<Entry, SidError> {
        serde_json::from_slice(&self.line).map_err(|error| {
            let message = error.to_string().chars().take(120).collect::<String>().escape_debug().to_string();
            self.bad(BadManifest::Line { line: self.number, message })
        })
    }

    /// The set and the path of the line, the path as it stands there: text within a JSON string.
    pub fn place(&self) -> Result<(FileSet, Cow<'_, [u8]>), SidError> {
        for set in FileSet::ALL {
            if let Some(rest) = self.line.strip_prefix(set.line_prefix())
                && let Some(end) = end_of_string(rest)
            {
                return Ok((set, Cow::Borrowed(&rest[..end])));
            }
        }
        let entry = self.entry()?;
        Ok((entry.set, Cow::Owned(json_text(&entry.path.to_string()))))
    }

    fn bad(&self, source: BadManifest) -> SidError {
        SidError::Manifest { path: self.path.clone(), source }
    }
}

/// Where the quote is that ends a JSON string.
fn end_of_string(text: &[u8]) -> Option<usize> {
    let mut at = 0;
    loop {
        match text.get(at)? {
            b'"' => return Some(at),
            b'\\' => at += 2,
            _ => at += 1,
        }
    }
}

/// A text as it stands within a JSON string.
pub(crate) fn json_text(text: &str) -> Vec<u8> {
    let quoted = serde_json::Value::from(text).to_string().into_bytes();
    quoted[1..quoted.len() - 1].to_vec()
}

/// One path at which two Manifests differ; at least one of the two has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// What the old one has there.
    pub old: Option<Entry>,
    /// What the new one has there.
    pub new: Option<Entry>,
}

impl Difference {
    /// The entry of the new one, or where it has none, of the old one.
    pub fn entry(&self) -> Option<&Entry> {
        self.new.as_ref().or(self.old.as_ref())
    }
}

/// Tells `each` every difference, in the order of sets and paths. No old one: everything is new.
///
/// A Manifest that is not sorted, which no ATLAS writes, gives differences that lead to the same end when what is gone is removed first.
pub fn compare<A: Read, B: Read>(
    mut old: Option<Lines<A>>,
    mut new: Lines<B>,
    mut each: impl FnMut(Difference) -> Result<(), SidError>,
) -> Result<(), SidError> {
    let mut has_old = old.as_mut().map_or(Ok(false), Lines::advance)?;
    let mut has_new = new.advance()?;
    while let (Some(before), true) = (old.as_mut().filter(|_| has_old), has_new) {
        if before.raw() == new.raw() {
            (has_old, has_new) = (before.advance()?, new.advance()?);
            continue;
        }
        let (was, is) = (before.entry()?, new.entry()?);
        let order = (was.set, was.path.as_path()).cmp(&(is.set, is.path.as_path()));
        let (takes_old, takes_new) = (order.is_le(), order.is_ge());
        each(Difference { old: takes_old.then_some(was), new: takes_new.then_some(is) })?;
        if takes_old {
            has_old = before.advance()?;
        }
        if takes_new {
            has_new = new.advance()?;
        }
    }
    while let Some(before) = old.as_mut().filter(|_| has_old) {
        each(Difference { old: Some(before.entry()?), new: None })?;
        has_old = before.advance()?;
    }
    while has_new {
        each(Difference { old: None, new: Some(new.entry()?) })?;
        has_new = new.advance()?;
    }
    Ok(())
}

/// Opens the Manifest of the Snapshot in `dir`.
pub fn of(dir: &Dir) -> Result<(Header, Lines<File>), SidError> {
    Lines::open(dir.file(MANIFEST)?, dir.show(MANIFEST))
}

/// The paths beyond the identity of which the Snapshots in two directories do not say the same.
///
/// `None` where that cannot be told from the lines: each server has numbers of its own for its accounts.
pub fn differing(one: &Dir, other: &Dir) -> Result<Option<BTreeSet<TreePath>>, SidError> {
    let ((header, one), (other_header, other)) = (of(one)?, of(other)?);
    if header.owners() != other_header.owners() {
        return Ok(None);
    }
    let mut paths = BTreeSet::new();
    compare(Some(one), other, |difference| {
        // The times of directories, which count for nothing, are others on every server.
        let is_same =
            matches!(&difference, Difference { old: Some(old), new: Some(new) } if old.kind.same_as(&new.kind));
        let entry = difference.entry().filter(|entry| !is_same && entry.set != FileSet::Ident);
        paths.extend(entry.map(|entry| entry.path.clone()));
        Ok(())
    })?;
    Ok(Some(paths))
}

#[cfg(test)]
mod tests {
    use super::*;
    use atlas_model::{
        Digest, EnvVersion, Owners, Role, TreePath,
        manifest::{Kind, Manifest, Meta},
    };
    use std::collections::BTreeMap;

    fn file(path: &str, content: &str) -> Entry {
        let meta = Meta { mode: 0o644, uid: 0, gid: 0, mtime: 1, mtime_ns: 2, xattrs: BTreeMap::new() };
        let kind = Kind::File { size: content.len() as u64, sha256: Digest::of(content.as_bytes()), meta };
        Entry { set: FileSet::Sync, path: TreePath::parse(path).unwrap(), kind }
    }

    fn manifest(files: &[(&str, &str)]) -> Vec<u8> {
        let entries = files.iter().map(|(path, content)| file(path, content)).collect();
        Manifest::new(Role::Pri, EnvVersion::OLDEST, entries).unwrap().to_file().unwrap()
    }

    fn lines(content: &[u8]) -> Lines<&[u8]> {
        Lines::open(content, "M".into()).unwrap().1
    }

    fn told(old: Option<&[u8]>, new: &[u8]) -> Vec<String> {
        let mut told = vec![];
        compare(old.map(lines), lines(new), |difference| {
            let sign = match (&difference.old, &difference.new) {
                (None, _) => '+',
                (_, None) => '-',
                _ => '~',
            };
            told.push(format!("{sign}{}", difference.entry().unwrap().path));
            Ok(())
        })
        .unwrap();
        told
    }

    #[test]
    fn what_was_added_changed_and_removed_is_told_and_nothing_else() {
        let old = manifest(&[("/a", "1"), ("/b/c", "1"), ("/b-d", "1"), ("/e", "1")]);
        let new = manifest(&[("/a", "1"), ("/b/c", "2"), ("/b/d", "1"), ("/e", "1"), ("/f", "1")]);
        assert_eq!(told(Some(&old), &new), ["~/b/c", "+/b/d", "-/b-d", "+/f"]);
        assert_eq!(told(Some(&new), &old), ["~/b/c", "-/b/d", "+/b-d", "-/f"]);
        assert_eq!(told(Some(&old), &old), [""; 0]);
        assert_eq!(told(None, &old).len(), 4);
    }

    #[test]
    fn two_snapshots_differ_where_their_lines_say_something_else_that_counts() {
        let tmp = tempfile::tempdir().unwrap();
        let root = Dir::open_root(tmp.path()).unwrap();
        let of = |name: &str, entries: Vec<Entry>, owner: &str| {
            root.make_dir(name, 0o700).unwrap();
            let owners = Owners { users: [(0, owner.to_owned())].into(), ..Owners::default() };
            let manifest = Manifest::new(Role::Pri, EnvVersion::OLDEST, entries).unwrap().with_owners(&owners).unwrap();
            std::fs::write(tmp.path().join(name).join(MANIFEST), manifest.to_file().unwrap()).unwrap();
            root.dir(name).unwrap()
        };
        let dir = |mtime| {
            let Kind::File { meta, .. } = file("/d", "").kind else { panic!("no file") };
            Entry { kind: Kind::Dir { meta: Meta { mtime, ..meta } }, ..file("/d", "") }
        };
        let ident = |content| Entry { set: FileSet::Ident, ..file("/etc/hostname", content) };
        let pri = of("pri", vec![ident("pri"), dir(1), file("/d/a", "1"), file("/d/b", "1")], "root");
        let same = of("same", vec![ident("sec"), dir(2), file("/d/a", "1"), file("/d/b", "1")], "root");
        let other = of("other", vec![ident("sec"), dir(1), file("/d/a", "2"), file("/d/c", "1")], "root");
        let named = of("named", vec![ident("sec"), dir(1), file("/d/a", "1"), file("/d/b", "1")], "toor");
        let found = |one: &Dir, other: &Dir| {
            differing(one, other).unwrap().map(|paths| paths.iter().map(ToString::to_string).collect())
        };
        assert_eq!(found(&pri, &same), Some(vec![]));
        assert_eq!(found(&pri, &other), Some(vec!["/d/a".to_owned(), "/d/b".into(), "/d/c".into()]));
        assert_eq!(found(&pri, &named), None::<Vec<String>>, "the number 0 may be somebody else's");
    }

    #[test]
    fn a_place_is_read_without_parsing_as_it_is_with() {
        let content = manifest(&[("/quo\"te/a\\x5cb\\xff", "1")]);
        let mut lines = lines(&content);
        assert!(lines.advance().unwrap());
        let (set, raw) = lines.place().unwrap();
        assert_eq!((set, raw.into_owned()), (FileSet::Sync, json_text("/quo\"te/a\\x5cb\\xff")));
        let text = String::from_utf8(content.clone()).unwrap();
        let turned =
            text.replace("{\"set\":\"sync\",", "{").replace("\"type\"", "\"set\":\"sync\",\"type\"").into_bytes();
        let mut other_order = super::tests::lines(&turned);
        assert!(other_order.advance().unwrap() && turned != content);
        assert_eq!(other_order.place().unwrap().1, lines.place().unwrap().1);
    }

    #[test]
    fn a_manifest_that_was_cut_off_is_an_error() {
        let whole = manifest(&[("/a", "1"), ("/b", "1")]);
        let end = whole[..whole.len() - 1].iter().rposition(|b| *b == b'\n').unwrap() + 1;
        let cut = compare(None::<Lines<&[u8]>>, lines(&whole[..end]), |_| Ok(()));
        assert!(matches!(cut, Err(SidError::Manifest { source: BadManifest::Count { .. }, .. })), "{cut:?}");
    }
}
