//! Reading what was recorded, with git's plumbing alone: no attribute or filter that lies in the tree touches a byte.

use super::{
    names,
    repository::{CommitId, Repository},
};
use crate::{layout::SidError, snapshot::MANIFEST};
use atlas_host::{FileError, durable, tree::Dir};
use atlas_model::{
    PathList,
    manifest::{BadManifest, FileSet, Manifest},
};
use std::{
    ffi::OsStr,
    io::{self, BufRead, BufReader, BufWriter, Read, Write},
};

/// The most that a listing of git's may be, in bytes.
pub(super) const MAX_LISTING: u64 = 1 << 30;

/// One object in the tree of a commit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Blob {
    pub(super) id: String,
    pub(super) name: Vec<u8>,
}

/// The objects of a commit at or below these names; no names: all.
pub(super) fn tree(repository: &Repository, commit: &CommitId, below: &[&[u8]]) -> Result<Vec<Blob>, SidError> {
    let git =
        repository.git().args(["--literal-pathspecs", "ls-tree", "-r", "-z", "--full-tree", &commit.to_string(), "--"]);
    let git = below.iter().fold(git, |git, name| git.arg(<OsStr as std::os::unix::ffi::OsStrExt>::from_bytes(name)));
    let listing = listing(repository, &git)?;
    let blob = |record: &[u8]| {
        let (about, name) = record.split_at(record.iter().position(|b| *b == b'\t')?);
        let id = about.split(|b| *b == b' ').nth(2)?;
        Some(Blob { id: String::from_utf8(id.to_vec()).ok()?, name: name[1..].to_vec() })
    };
    Ok(listing.split(|b| *b == 0).filter_map(blob).collect())
}

/// What a git command prints, whole.
pub(super) fn listing(repository: &Repository, git: &atlas_host::process::Command) -> Result<Vec<u8>, SidError> {
    let answer = git.converse(
        |_| Ok(()),
        |stdout| {
            let mut bytes = Vec::new();
            stdout.take(MAX_LISTING).read_to_end(&mut bytes).map(|_| bytes)
        },
    );
    let bytes = answer.map_err(|source| repository.failed(source))?;
    Ok(bytes.map_err(FileError::on("read", repository.dir.shown()))?)
}

/// Reads the content of each blob, in turn.
pub(super) fn contents(
    repository: &Repository,
    blobs: &[Blob],
    mut each: impl FnMut(&Blob, &mut dyn Read) -> io::Result<()>,
) -> Result<(), SidError> {
    let answer = repository.git().args(["cat-file", "--batch"]).converse(
        |stdin| {
            let mut stdin = BufWriter::new(stdin);
            blobs.iter().try_for_each(|blob| writeln!(stdin, "{}", blob.id))?;
            stdin.flush()
        },
        |stdout| {
            let mut stdout = BufReader::with_capacity(64 << 10, stdout);
            for blob in blobs {
                let mut head = String::new();
                (&mut stdout).take(200).read_line(&mut head)?;
                let size = head
                    .trim_end()
                    .rsplit_once(" blob ")
                    .and_then(|_| head.trim_end().rsplit(' ').next()?.parse().ok());
                let size = size.ok_or_else(|| io::Error::other(format!("git has no {}", blob.id)))?;
                let mut content = (&mut stdout).take(size);
                each(blob, &mut content)?;
                io::copy(&mut content, &mut io::sink())?;
                stdout.read_exact(&mut [0])?;
            }
            Ok(())
        },
    );
    let answer = answer.map_err(|source| repository.failed(source))?;
    Ok(answer.map_err(FileError::on("read", repository.dir.shown()))?)
}

/// The Manifest of a commit, put together again and checked.
pub(super) fn manifest(repository: &Repository, commit: &CommitId) -> Result<Manifest, SidError> {
    let mut pieces = tree(repository, commit, &[names::MANIFEST_DIR.as_bytes()])?;
    // The first line comes first; the others are sorted when they are read.
    let is_header = |blob: &Blob| blob.name == format!("{}/{}", names::MANIFEST_DIR, names::HEADER).as_bytes();
    pieces.sort_by_key(|blob| !is_header(blob));
    let mut content = Vec::new();
    contents(repository, &pieces, |_, blob| {
        if content.len() > Manifest::MAX_SIZE {
            return Err(io::Error::other(BadManifest::TooLarge));
        }
        blob.read_to_end(&mut content).map(drop)
    })?;
    let path = repository.dir.show(format!("{commit}/{MANIFEST}"));
    Manifest::parse(&content).map_err(|source| SidError::Manifest { path, source })
}

/// Writes Manifest and path lists of a commit into `dir`.
pub(super) fn write_head(repository: &Repository, commit: &CommitId, dir: &Dir) -> Result<(), SidError> {
    let manifest = manifest(repository, commit)?;
    let path = dir.show(MANIFEST);
    let content = manifest.to_file().map_err(|error| SidError::Damaged { path, why: error.to_string() })?;
    durable::put(dir, OsStr::new(MANIFEST), &content, 0o600)?;
    drop(content);
    let is_list = |blob: &Blob| {
        let sets = [FileSet::Ident, FileSet::Sync];
        !blob.name.contains(&b'/') && sets.iter().any(|set| blob.name.starts_with(set.list_name().as_bytes()))
    };
    let lists: Vec<Blob> = tree(repository, commit, &[])?.into_iter().filter(is_list).collect();
    contents(repository, &lists, |blob, content| {
        let mut bytes = Vec::new();
        content.take(PathList::MAX_SIZE as u64).read_to_end(&mut bytes)?;
        let name = <OsStr as std::os::unix::ffi::OsStrExt>::from_bytes(&blob.name);
        durable::put(dir, name, &bytes, 0o600).map_err(io::Error::other)
    })
}
