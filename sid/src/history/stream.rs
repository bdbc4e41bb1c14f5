//! One commit as a stream for `git fast-import`, made while git reads it.
//!
//! The stream ends with `done`: one that is cut off is refused whole. Removals come first, so that a file may take a directory's place.

use super::names::{self, quoted};
use super::repository::CommitId;
use crate::{
    layout::SidError,
    lines::{self, json_text},
    snapshot::MANIFEST,
};
use atlas_host::{FileError, tree::Dir};
use atlas_model::{
    TreePath,
    manifest::{FileSet, Header},
};
use std::{
    collections::HashSet,
    fs::File,
    io::{self, Read, Write},
    os::unix::ffi::OsStrExt,
};

/// What a commit does to one object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Action {
    /// It goes.
    Remove,
    /// It becomes this file; executable for its owner or not.
    File { executable: bool },
    /// It becomes this link.
    Link,
}

/// A path list, and what it is now; nothing where it is gone.
pub(super) type List = (String, Option<Vec<u8>>);

/// A commit to be made.
#[derive(Debug)]
pub(super) struct Commit<'a> {
    /// The Snapshot's directory, where contents are read.
    pub(super) snapshot: &'a Dir,
    pub(super) branch: String,
    pub(super) parent: Option<&'a CommitId>,
    pub(super) message: String,
    pub(super) server: &'a str,
    pub(super) time: u64,
    pub(super) actions: Vec<(FileSet, TreePath, Action)>,
    /// The directories some of whose entries changed, as the Manifest's lines have them.
    pub(super) pieces: HashSet<(FileSet, Vec<u8>)>,
    /// The path lists that changed.
    pub(super) lists: Vec<List>,
}

impl Commit<'_> {
    /// Writes the stream.
    pub(super) fn write(&self, out: &mut dyn Write) -> io::Result<()> {
        let who = format!("ATLAS <root@{}> {} +0000", self.server, self.time);
        write!(out, "commit {}\nmark :1\nauthor {who}\ncommitter {who}\n", self.branch)?;
        data(out, self.message.as_bytes())?;
        if let Some(parent) = self.parent {
            writeln!(out, "from {parent}")?;
        }
        for (set, path, _) in self.actions.iter().filter(|(.., action)| *action == Action::Remove) {
            command(out, "D ", &names::content(*set, path))?;
        }
        for (set, path, action) in &self.actions {
            let name = names::content(*set, path);
            let below = TreePath::new(format!("/{}", set.dir_name()).as_bytes()).map_err(io::Error::other)?;
            let copy = below.as_path().join(path.relative());
            match action {
                Action::Remove => {}
                Action::File { executable } => {
                    let file = self.snapshot.file(copy.strip_prefix("/").unwrap_or(&copy)).map_err(io::Error::other)?;
                    command(out, if *executable { "M 100755 inline " } else { "M 100644 inline " }, &name)?;
                    copy_file(out, &file)?;
                }
                Action::Link => {
                    let target = self.link_target(*set, path).map_err(io::Error::other)?;
                    command(out, "M 120000 inline ", &name)?;
                    data(out, &target)?;
                }
            }
        }
        self.write_lists(out)?;
        self.write_pieces(out).map_err(io::Error::other)?;
        out.write_all(b"\nget-mark :1\ndone\n")?;
        out.flush()
    }

    fn link_target(&self, set: FileSet, path: &TreePath) -> Result<Vec<u8>, FileError> {
        let (parent, name) = self.snapshot.dir(set.dir_name())?.parent_of(path)?;
        Ok(parent.read_link(name)?.as_bytes().to_vec())
    }

    fn write_lists(&self, out: &mut dyn Write) -> io::Result<()> {
        for (name, content) in &self.lists {
            match content {
                Some(content) => {
                    command(out, "M 100644 inline ", name.as_bytes())?;
                    data(out, content)?;
                }
                None => command(out, "D ", name.as_bytes())?,
            }
        }
        Ok(())
    }

    /// Writes the pieces of the Manifest that changed: its lines are read once, those of a directory kept until the last one is past.
    fn write_pieces(&self, out: &mut dyn Write) -> Result<(), SidError> {
        let broken = |source| FileError::on::<io::Error>("send to git", self.snapshot.show(MANIFEST))(source);
        let (header, mut lines) = lines::of(self.snapshot)?;
        write_header(out, &header).map_err(broken)?;
        let mut left = self.pieces.clone();
        let mut open: Vec<Piece> = Vec::new();
        while lines.advance()? {
            let (set, path) = lines.place()?;
            while let Some(piece) = open.pop_if(|piece| !piece.covers(set, &path)) {
                piece.write(out)?;
            }
            let end = path.iter().rposition(|b| *b == b'/').unwrap_or(0);
            let key = (set, path[..end].to_vec());
            if open.last().is_none_or(|piece| piece.key != key) && self.pieces.contains(&key) {
                if !left.remove(&key) {
                    let why = "its lines are not sorted".to_owned();
                    return Err(SidError::Damaged { path: self.snapshot.show(MANIFEST), why });
                }
                open.push(Piece { key: key.clone(), lines: vec![] });
            }
            if let Some(piece) = open.last_mut().filter(|piece| piece.key == key) {
                piece.lines.extend_from_slice(lines.raw());
                piece.lines.push(b'\n');
            }
        }
        while let Some(piece) = open.pop() {
            piece.write(out)?;
        }
        left.into_iter().try_for_each(|key| Piece { key, lines: vec![] }.write(out))
    }
}

fn write_header(out: &mut dyn Write, header: &Header) -> io::Result<()> {
    let name = format!("{}/{}", names::MANIFEST_DIR, names::HEADER);
    command(out, "M 100644 inline ", name.as_bytes())?;
    let mut line = serde_json::to_vec(header)?;
    line.push(b'\n');
    data(out, &line)
}

/// The lines of one directory.
struct Piece {
    key: (FileSet, Vec<u8>),
    lines: Vec<u8>,
}

impl Piece {
    /// Whether `path` lies in the directory or below it, so that more lines of it may follow.
    fn covers(&self, set: FileSet, path: &[u8]) -> bool {
        self.key.0 == set && path.strip_prefix(self.key.1.as_slice()).is_some_and(|rest| rest.first() == Some(&b'/'))
    }

    fn write(&self, out: &mut dyn Write) -> Result<(), SidError> {
        let (set, dir) = &self.key;
        let dir = dir_of(dir)?;
        let name = names::entries(*set, dir.as_ref());
        let failed = |source| FileError::on::<io::Error>("send to git", names::MANIFEST_DIR)(source);
        if self.lines.is_empty() {
            return Ok(command(out, "D ", &name).map_err(failed)?);
        }
        command(out, "M 100644 inline ", &name).and_then(|()| data(out, &self.lines)).map_err(failed)?;
        Ok(())
    }
}

/// The key of the directory that holds `path`, as the Manifest's lines have it.
pub(super) fn dir_key(path: &TreePath) -> Vec<u8> {
    path.parent().map(|parent| json_text(&parent.to_string())).unwrap_or_default()
}

fn dir_of(key: &[u8]) -> Result<Option<TreePath>, SidError> {
    if key.is_empty() {
        return Ok(None);
    }
    let quoted = [b"\"", key, b"\""].concat();
    let bad = |why: String| SidError::Damaged { path: MANIFEST.into(), why };
    serde_json::from_slice(&quoted).map(Some).map_err(|error| bad(error.to_string()))
}

fn command(out: &mut dyn Write, verb: &str, name: &[u8]) -> io::Result<()> {
    out.write_all(verb.as_bytes())?;
    out.write_all(&quoted(name))?;
    out.write_all(b"\n")
}

fn data(out: &mut dyn Write, content: &[u8]) -> io::Result<()> {
    writeln!(out, "data {}", content.len())?;
    out.write_all(content)?;
    out.write_all(b"\n")
}

fn copy_file(out: &mut dyn Write, file: &File) -> io::Result<()> {
    let size = file.metadata()?.len();
    writeln!(out, "data {size}")?;
    if io::copy(&mut file.take(size), out)? != size {
        return Err(io::Error::new(
            io::ErrorKind::UnexpectedEof,
            "a file of the Snapshot became shorter while it was read",
        ));
    }
    out.write_all(b"\n")
}
