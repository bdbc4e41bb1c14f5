//! Packages: a tar file, plain or zstd, that carries one version of a module.
//!
//! ```text
//!   module.toml            first; the record: names, digests, modes (see `record`)
//!   module.toml.minisig    second, where it is signed: a minisign signature of module.toml, and so of every digest in it
//!   ssSync                 then the files, exactly those of the record, each once, in any order
//!   ssSync.cfg
//! ```
//!
//! Stock `tar cf x.tar module.toml module.toml.minisig ssSync ssSync.cfg` makes one, stock `minisign -Vm module.toml` checks one.
//! A package is read once, from its beginning, and believed in nothing: only plain file entries with short plain names go, the
//! record bounds every size before a byte is written, and what was compressed is bounded while it is expanded.

use crate::{
    name::{BadName, FileName},
    record::{BadRecord, FileEntry, RECORD_NAME, Record},
    signature::{BadSignature, Trust},
};
use atlas_host::{FileError, tree::Dir};
use atlas_model::Digest;
use sha2::{Digest as _, Sha256};
use std::{
    collections::BTreeSet,
    fs::File,
    io::{self, BufReader, Read, Write},
    os::unix::fs::PermissionsExt,
    path::Path,
};
use tar::{Archive, Entries, Entry, EntryType};

/// The name of the signature in a package.
pub const SIGNATURE_NAME: &str = "module.toml.minisig";
/// How much of a package is read, expanded, in bytes: the content and room for the rest.
const MAX_EXPANDED: u64 = Record::MAX_CONTENT + (64 << 20);
/// How far back a compressed package may refer, as a power of two: what expanding takes in memory.
const MAX_WINDOW_LOG: u32 = 27;
const ZSTD_MAGIC: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];

/// What a package turned out to be, every file checked against its digest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Package {
    /// What it holds.
    pub record: Record,
    /// The record as its bytes stand in the package.
    pub record_bytes: Vec<u8>,
    /// The file in trusted-keys.d whose key signed it; `None` where it is unsigned and that was allowed.
    pub signed_by: Option<String>,
}

/// Why a package may not be installed. Each is one line.
#[derive(Debug, thiserror::Error)]
pub enum BadPackage {
    /// It could not be read, expanded, or is no tar file.
    #[error("the package cannot be read: {0}")]
    Unreadable(String),
    /// It stops before its end.
    #[error("the package ends early: it was cut off")]
    EndsEarly,
    /// The first entry is another.
    #[error("the package does not begin with {RECORD_NAME}")]
    NoRecord,
    /// The record cannot be accepted. The reason is part of the line: a refusal of a package is one.
    #[error("{RECORD_NAME} in the package cannot be accepted: {0}")]
    Record(BadRecord),
    /// The signature.
    #[error(transparent)]
    Signature(#[from] BadSignature),
    /// An entry whose name is none.
    #[error("the package has an entry that may not be in it: {0}")]
    Name(BadName),
    /// A link, a device, a directory, …
    #[error("the package has an entry that may not be in it: '{name}' is {kind}, not a plain file")]
    Kind {
        /// The entry.
        name: String,
        /// What it is.
        kind: &'static str,
    },
    /// A file that the record does not have.
    #[error("the package has a file that {RECORD_NAME} does not list: {0}")]
    Unlisted(FileName),
    /// A file twice.
    #[error("the package has the file {0} twice")]
    Twice(FileName),
    /// A file that the record has and the package does not.
    #[error("the package lacks the file {0}")]
    Missing(FileName),
    /// Another size than the record says.
    #[error("the file {file} has {found} bytes in the package; {RECORD_NAME} says {listed}")]
    Size {
        /// The file.
        file: FileName,
        /// What the package says.
        found: u64,
        /// What the record says.
        listed: u64,
    },
    /// Another content than the record says.
    #[error("the content of {0} is not what its digest in {RECORD_NAME} says")]
    Digest(FileName),
}

impl From<BadRecord> for BadPackage {
    fn from(error: BadRecord) -> BadPackage {
        BadPackage::Record(error)
    }
}

impl BadPackage {
    /// What a person can try.
    pub fn hint(&self) -> Option<String> {
        match self {
            BadPackage::Signature(error) => Some(error.hint().to_owned()),
            BadPackage::EndsEarly | BadPackage::Digest(_) | BadPackage::Size { .. } => {
                Some("fetch the package again; compare its checksum with that of its source".into())
            }
            _ => Some("get the package from its maker again; nothing of it was installed".into()),
        }
    }
}

/// A package that was refused, or a file system that would not take it.
#[derive(Debug, thiserror::Error)]
pub enum UnpackError {
    /// The package.
    #[error(transparent)]
    Package(#[from] BadPackage),
    /// The file system.
    #[error(transparent)]
    File(#[from] FileError),
}

impl From<UnpackError> for crate::Error {
    fn from(error: UnpackError) -> crate::Error {
        match error {
            UnpackError::Package(error) => error.into(),
            UnpackError::File(error) => error.into(),
        }
    }
}

/// Opens the file of a package. A pipe or device, which would block or never end, is refused.
pub fn open(path: &Path) -> Result<File, FileError> {
    let failed = |error: io::Error| FileError::on("open the package", path)(error);
    let meta = std::fs::metadata(path).map_err(failed)?;
    if !meta.is_file() {
        return Err(FileError::on("open the package", path)(io::Error::other("it is no regular file")));
    }
    File::open(path).map_err(FileError::on("open the package", path))
}

/// Reads a package whole and checks everything in it. With `into`, its files are left there, flushed, under their tagged names.
///
/// What was begun in `into` when it fails is for the caller to remove.
pub fn unpack(source: impl Read, trust: &Trust, into: Option<&Dir>) -> Result<Package, UnpackError> {
    let mut source = BufReader::new(source);
    let mut magic = Vec::new();
    source.by_ref().take(4).read_to_end(&mut magic).map_err(unreadable)?;
    let is_zstd = magic == ZSTD_MAGIC;
    let whole = io::Cursor::new(magic).chain(source);
    let mut plain: Box<dyn Read + '_> = if is_zstd {
        let mut decoder = zstd::stream::read::Decoder::new(whole).map_err(unreadable)?;
        decoder.window_log_max(MAX_WINDOW_LOG).map_err(unreadable)?;
        Box::new(decoder)
    } else {
        Box::new(whole)
    };
    let mut bounded = Bounded { inner: &mut plain, left: MAX_EXPANDED, ended: false };
    let package = read_entries(&mut bounded, trust, into)?;
    // The end of a tar file is a block of zeros: one that just stops was cut off, even between two entries.
    if bounded.ended { Err(BadPackage::EndsEarly.into()) } else { Ok(package) }
}

fn read_entries(source: &mut impl Read, trust: &Trust, into: Option<&Dir>) -> Result<Package, UnpackError> {
    let mut archive = Archive::new(source);
    // Raw: long names, sparse files and other extensions stay entries of their own kinds, which are refused, and are never expanded.
    let mut entries = archive.entries().map_err(unreadable)?.raw(true);
    let mut first = next(&mut entries)?.ok_or(BadPackage::NoRecord)?;
    if &*first.path_bytes() != RECORD_NAME.as_bytes() || first.header().entry_type() != EntryType::Regular {
        return Err(BadPackage::NoRecord.into());
    }
    let record_bytes = small(&mut first)?;
    let record = Record::parse(&record_bytes).map_err(BadPackage::from)?;
    let mut second = next(&mut entries)?;
    let mut signature = None;
    if let Some(entry) = &mut second
        && &*entry.path_bytes() == SIGNATURE_NAME.as_bytes()
        && entry.header().entry_type() == EntryType::Regular
    {
        signature = Some(small(entry)?);
        second = next(&mut entries)?;
    }
    let signed_by = trust.check(&record_bytes, signature.as_deref()).map_err(BadPackage::from)?;
    let mut seen = BTreeSet::new();
    while let Some(mut entry) = second {
        let file = listed(&record, &entry)?;
        if !seen.insert(file.name.clone()) {
            return Err(BadPackage::Twice(file.name.clone()).into());
        }
        take(&record, file, &mut entry, into)?;
        second = next(&mut entries)?;
    }
    match record.files.iter().find(|file| !seen.contains(&file.name)) {
        Some(file) => Err(BadPackage::Missing(file.name.clone()).into()),
        None => Ok(Package { record, record_bytes, signed_by }),
    }
}

fn next<'a, R: Read>(entries: &mut Entries<'a, R>) -> Result<Option<Entry<'a, R>>, BadPackage> {
    entries.next().transpose().map_err(unreadable)
}

#[allow(clippy::needless_pass_by_value, reason = "it is what map_err wants")]
fn unreadable(error: io::Error) -> BadPackage {
    let text = error.to_string();
    let ends = ["failed to read entire block", "unexpected EOF", "incomplete frame"];
    if error.kind() == io::ErrorKind::UnexpectedEof || ends.iter().any(|end| text.contains(end)) {
        return BadPackage::EndsEarly;
    }
    BadPackage::Unreadable(text.chars().take(200).collect::<String>().escape_debug().to_string())
}

/// The content of an entry that must be small.
fn small<R: Read>(entry: &mut Entry<'_, R>) -> Result<Vec<u8>, BadPackage> {
    let size = entry.size();
    if size > Record::MAX_SIZE as u64 {
        return Err(BadRecord::TooLarge.into());
    }
    let mut content = Vec::new();
    entry.read_to_end(&mut content).map_err(unreadable)?;
    if content.len() as u64 == size { Ok(content) } else { Err(BadPackage::EndsEarly) }
}

/// The file of the record that an entry is.
fn listed<'r, R: Read>(record: &'r Record, entry: &Entry<'_, R>) -> Result<&'r FileEntry, BadPackage> {
    let shown = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
    if let Some(kind) = unwelcome(entry.header().entry_type()) {
        let name = shown.chars().take(60).collect::<String>().escape_debug().to_string();
        return Err(BadPackage::Kind { name, kind });
    }
    let name: FileName = shown.parse().map_err(BadPackage::Name)?;
    let file = record.file(&name).ok_or(BadPackage::Unlisted(name))?;
    if entry.size() != file.size {
        return Err(BadPackage::Size { file: file.name.clone(), found: entry.size(), listed: file.size });
    }
    Ok(file)
}

fn unwelcome(kind: EntryType) -> Option<&'static str> {
    match kind {
        EntryType::Regular => None,
        EntryType::Symlink => Some("a symbolic link"),
        EntryType::Link => Some("a hard link"),
        EntryType::Char | EntryType::Block => Some("a device"),
        EntryType::Directory => Some("a directory"),
        EntryType::Fifo => Some("a pipe"),
        EntryType::GNUSparse => Some("a sparse file"),
        EntryType::GNULongName | EntryType::GNULongLink => Some("a long name"),
        _ => Some("an extension of the tar format"),
    }
}

/// Checks the content of a file, and writes it where it is wanted.
fn take<R: Read>(
    record: &Record,
    file: &FileEntry,
    entry: &mut Entry<'_, R>,
    into: Option<&Dir>,
) -> Result<(), UnpackError> {
    let name = format!("{}.{}", file.name, record.version);
    let mut out = into.map(|dir| dir.create_new(&name, 0o600)).transpose()?;
    let failed = |error: io::Error| {
        FileError::on("write", into.map_or_else(|| Path::new(&name).to_owned(), |dir| dir.show(&name)))(error)
    };
    let (mut hash, mut buffer, mut size) = (Sha256::new(), vec![0; 64 << 10], 0);
    loop {
        let count = entry.read(&mut buffer).map_err(unreadable)?;
        if count == 0 {
            break;
        }
        size += count as u64;
        hash.update(&buffer[..count]);
        if let Some(out) = &mut out {
            out.write_all(&buffer[..count]).map_err(failed)?;
        }
    }
    if size != file.size {
        return Err(BadPackage::EndsEarly.into());
    }
    if Digest::from_bytes(hash.finalize().into()) != file.sha256 {
        return Err(BadPackage::Digest(file.name.clone()).into());
    }
    if let Some(out) = out {
        out.set_permissions(std::fs::Permissions::from_mode(file.mode))
            .and_then(|()| out.sync_all())
            .map_err(failed)?;
    }
    Ok(())
}

/// A reader that gives at most so many bytes, and remembers whether it came to the end of its source.
struct Bounded<R> {
    inner: R,
    left: u64,
    ended: bool,
}

impl<R: Read> Read for Bounded<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.left == 0 {
            return Err(io::Error::other(format!("it is larger than {MAX_EXPANDED} bytes")));
        }
        let wanted = buffer.len().min(usize::try_from(self.left).unwrap_or(usize::MAX));
        let count = self.inner.read(&mut buffer[..wanted])?;
        self.left -= count as u64;
        self.ended |= count == 0 && wanted > 0;
        Ok(count)
    }
}
