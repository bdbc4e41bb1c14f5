//! The Manifest: what a Snapshot holds, entry by entry, with the digest of every file.
//!
//! One JSON object per line, so that `grep` and `jq` read it. The first line says what the rest belongs to; each further line is
//! one object of the server's tree, sorted by set and path.
//!
//! ```text
//! {"atlas":"manifest","format":1,"role":"PRI","env_version":2,"entries":3}
//! {"set":"ident","path":"/etc/hostname","type":"file","mode":420,"uid":0,"gid":0,"mtime":1700000000,"mtime_ns":0,"size":4,"sha256":"…"}
//! {"set":"ident","path":"/etc/localtime","type":"link","target":"/usr/share/zoneinfo/UTC","uid":0,"gid":0}
//! {"set":"ident","path":"/etc/resolv.conf","type":"absent"}
//! ```
//!
//! The first line may have `"users":{"33":"www-data"},"groups":{"42":"shadow"}`: what the server that made the Snapshot calls the numbers; and
//! `"ways":{"/srv/private":{"mode":448,"uid":33,"gid":33}}`: directories above the objects that are none of them ([`Way`](crate::ways::Way)).
//!
//! Invariants: paths are unique within a set and sorted; nothing lies below an entry that is no directory; the number of entries
//! is that of the first line, so a Manifest that was cut off is never taken for a shorter one. A listed path that the server
//! did not have stands as `absent`: installing removes it.

use crate::{
    Digest, EnvVersion, Owners, Role, TreePath, shorten,
    tree_path::unescape,
    ways::{Way, Ways},
};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Which part of a Snapshot an entry belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum FileSet {
    /// IdentFiles: what sets the identity of the server.
    Ident,
    /// SyncFiles: what must be the same on every server.
    Sync,
    /// Residue: what this EnvVersion cannot express of the one that it was converted from. Never installed.
    Residue,
}

impl FileSet {
    /// Every set, in the order of the Manifest.
    pub const ALL: [FileSet; 3] = [FileSet::Ident, FileSet::Sync, FileSet::Residue];

    /// The directory in a Snapshot that holds the copies.
    pub fn dir_name(self) -> &'static str {
        match self {
            FileSet::Ident => "IdentFiles",
            FileSet::Sync => "SyncFiles",
            FileSet::Residue => "Residue",
        }
    }

    /// How every line of the set begins that ATLAS writes, up to its path.
    pub fn line_prefix(self) -> &'static [u8] {
        match self {
            FileSet::Ident => b"{\"set\":\"ident\",\"path\":\"",
            FileSet::Sync => b"{\"set\":\"sync\",\"path\":\"",
            FileSet::Residue => b"{\"set\":\"residue\",\"path\":\"",
        }
    }

    /// The file in a Snapshot that lists the paths; empty for the residue, which is all that its directory holds.
    pub fn list_name(self) -> &'static str {
        match self {
            FileSet::Ident => "IdentFilePaths",
            FileSet::Sync => "SyncFilePaths",
            FileSet::Residue => "",
        }
    }
}

/// Who owns an object, and what may be done with it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Meta {
    /// Permission bits with set-id and sticky bits, 0 to 0o7777; 0 for a link.
    #[serde(default)]
    pub mode: u32,
    /// The owner's number.
    pub uid: u32,
    /// The group's number.
    pub gid: u32,
    /// Modification time, seconds since 1970.
    #[serde(default)]
    pub mtime: i64,
    /// Its nanoseconds.
    #[serde(default)]
    pub mtime_ns: u32,
    /// Extended attributes, POSIX ACLs among them, by name; the values as hexadecimal digits.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub xattrs: BTreeMap<String, String>,
}

impl Meta {
    /// Whether all of it can be given to an object; what could not would stop an installation half-way.
    fn check(&self) -> Result<(), &'static str> {
        if self.mode > 0o7777 || self.mtime_ns > 999_999_999 {
            return Err("its mode or time is out of bounds");
        }
        // The largest number means "leave it as it is" where an owner is set.
        if self.uid == u32::MAX || self.gid == u32::MAX {
            return Err("its owner or group is out of bounds");
        }
        let hex = |text: &str| text.len().is_multiple_of(2) && text.bytes().all(|b| b.is_ascii_hexdigit());
        let good = |(name, value): (&String, &String)| {
            is_text_of(name, 255) && value.len() <= 2 * Self::MAX_XATTR_SIZE && hex(value)
        };
        if self.xattrs.len() > 100 || !self.xattrs.iter().all(good) {
            return Err("its extended attributes are none that a file can have");
        }
        Ok(())
    }

    /// The largest value of an extended attribute, in bytes: the kernel's bound.
    pub const MAX_XATTR_SIZE: usize = 64 << 10;
}

/// Whether `text` is the escaped form of 1 to `max_len` bytes, none of them NUL.
fn is_text_of(text: &str, max_len: usize) -> bool {
    text.len() <= 4 * max_len
        && unescape(text).is_some_and(|bytes| (1..=max_len).contains(&bytes.len()) && !bytes.contains(&0))
}

/// What an object is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "lowercase")]
pub enum Kind {
    /// A regular file.
    File {
        /// Its length in bytes.
        size: u64,
        /// Of its content.
        sha256: Digest,
        /// Owner, mode, times, attributes.
        #[serde(flatten)]
        meta: Meta,
    },
    /// A directory.
    Dir {
        /// Owner, mode, times, attributes.
        #[serde(flatten)]
        meta: Meta,
    },
    /// A symbolic link, which is carried as such and never followed.
    Link {
        /// Where it points to, escaped as a [`TreePath`] is.
        target: String,
        /// Owner.
        #[serde(flatten)]
        meta: Meta,
    },
    /// A path that is listed, but was not there.
    Absent,
}

impl Kind {
    /// Owner, mode, times and attributes; none for what is absent.
    pub fn meta(&self) -> Option<&Meta> {
        match self {
            Kind::File { meta, .. } | Kind::Dir { meta } | Kind::Link { meta, .. } => Some(meta),
            Kind::Absent => None,
        }
    }

    /// Whether installing `self` over `other` would change nothing that counts.
    ///
    /// The times of directories and links do not count: writing below a directory changes its time, and no program reads a link's.
    pub fn same_as(&self, other: &Kind) -> bool {
        let timeless = |meta: &Meta| Meta { mtime: 0, mtime_ns: 0, ..meta.clone() };
        match (self, other) {
            (Kind::Dir { meta: a }, Kind::Dir { meta: b }) => timeless(a) == timeless(b),
            (Kind::Link { target: a, meta: ma }, Kind::Link { target: b, meta: mb }) => {
                a == b && timeless(ma) == timeless(mb)
            }
            _ => self == other,
        }
    }
}

/// One object of a Snapshot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Line")]
pub struct Entry {
    /// The list that it belongs to.
    pub set: FileSet,
    /// Where it belongs in the server's tree.
    pub path: TreePath,
    /// What it is.
    #[serde(flatten)]
    pub kind: Kind,
}

/// The fields that a line of a Manifest may have. An [`Entry`] could be read as it is written, but fields whose meaning hangs on another are
/// put aside and read twice then: that takes four times as long, and a cycle reads every Manifest several times.
#[derive(Deserialize)]
struct Line {
    set: FileSet,
    path: TreePath,
    #[serde(rename = "type")]
    of: LineOf,
    #[serde(default)]
    mode: u32,
    uid: Option<u32>,
    gid: Option<u32>,
    #[serde(default)]
    mtime: i64,
    #[serde(default)]
    mtime_ns: u32,
    #[serde(default)]
    xattrs: BTreeMap<String, String>,
    size: Option<u64>,
    sha256: Option<Digest>,
    target: Option<String>,
}

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
enum LineOf {
    File,
    Dir,
    Link,
    Absent,
}

impl TryFrom<Line> for Entry {
    type Error = &'static str;

    fn try_from(line: Line) -> Result<Entry, &'static str> {
        let Line { set, path, of, mode, uid, gid, mtime, mtime_ns, xattrs, size, sha256, target } = line;
        let meta = || -> Result<Meta, &'static str> {
            let (uid, gid) = (uid.ok_or("an object has no uid")?, gid.ok_or("an object has no gid")?);
            Ok(Meta { mode, uid, gid, mtime, mtime_ns, xattrs })
        };
        let kind = match of {
            LineOf::File => Kind::File {
                size: size.ok_or("a file has no size")?,
                sha256: sha256.ok_or("a file has no sha256")?,
                meta: meta()?,
            },
            LineOf::Dir => Kind::Dir { meta: meta()? },
            LineOf::Link => Kind::Link { target: target.ok_or("a link has no target")?, meta: meta()? },
            LineOf::Absent => Kind::Absent,
        };
        Ok(Entry { set, path, kind })
    }
}

/// A validated Manifest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Manifest {
    /// Whose Snapshot it is.
    pub role: Role,
    /// For which Environment.
    pub env_version: EnvVersion,
    owners: Owners,
    ways: Ways,
    entries: Vec<Entry>,
}

/// The first line of a Manifest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Header {
    atlas: String,
    format: u32,
    /// Whose Snapshot it is.
    pub role: Role,
    /// For which Environment.
    pub env_version: EnvVersion,
    /// How many lines follow.
    pub entries: usize,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    users: BTreeMap<u32, String>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    groups: BTreeMap<u32, String>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    ways: Ways,
}

impl Header {
    /// The first line of a Manifest with this many entries.
    pub fn new(role: Role, env_version: EnvVersion, entries: usize, owners: &Owners, ways: Ways) -> Header {
        let (users, groups) = (owners.users.clone(), owners.groups.clone());
        Header { atlas: "manifest".into(), format: 1, role, env_version, entries, users, groups, ways }
    }

    /// The directories above its objects.
    pub fn ways(&self) -> &Ways {
        &self.ways
    }

    /// What the server that made the Snapshot calls the numbers in it.
    pub fn owners(&self) -> Owners {
        Owners { users: self.users.clone(), groups: self.groups.clone() }
    }

    /// Reads the line.
    pub fn parse(line: &[u8]) -> Result<Header, BadManifest> {
        // What every format says of itself.
        #[derive(Deserialize)]
        struct Kind {
            atlas: String,
            #[serde(default)]
            format: u32,
        }
        let kind: Kind = serde_json::from_slice(line).map_err(|_| BadManifest::NotManifest)?;
        match (kind.atlas.as_str(), kind.format) {
            ("manifest", 1) => serde_json::from_slice(line).map_err(|error| unreadable(1, &error)),
            ("manifest", other) => Err(BadManifest::UnknownFormat(other)),
            _ => Err(BadManifest::NotManifest),
        }
    }
}

/// Why a file is no Manifest.
#[derive(Debug, thiserror::Error)]
pub enum BadManifest {
    /// The file is beyond the bound.
    #[error("it is larger than {} bytes", Manifest::MAX_SIZE)]
    TooLarge,
    /// A line that is not of the form.
    #[error("line {line} cannot be read: {message}")]
    Line {
        /// The line, from 1.
        line: usize,
        /// What the JSON reader found, shortened and escaped: it quotes what the line says.
        message: String,
    },
    /// A later format.
    #[error("it is of format {0}; this program reads format 1")]
    UnknownFormat(u32),
    /// The first line does not say that this is a Manifest.
    #[error("its first line does not begin a Manifest")]
    NotManifest,
    /// Lines are missing or too many.
    #[error("it announces {announced} entries and has {found}; it was cut off or edited")]
    Count {
        /// What the first line says.
        announced: usize,
        /// What follows.
        found: usize,
    },
    /// A name that no account can have.
    #[error("its first line names an account as none can be named")]
    Owners,
    /// Directories above the objects that no directory can be like.
    #[error("its first line has directories with an owner or mode that none can have, or more than {}", Way::MOST)]
    Ways,
    /// Two entries contradict each other.
    #[error("{path}: {why}")]
    Entry {
        /// Where.
        path: TreePath,
        /// What is wrong.
        why: &'static str,
    },
}

impl Manifest {
    /// The largest file, in bytes.
    pub const MAX_SIZE: usize = 256 << 20;
    /// The most entries.
    pub const MAX_ENTRIES: usize = 1_000_000;

    /// Sorts the entries and checks them against each other.
    pub fn new(role: Role, env_version: EnvVersion, mut entries: Vec<Entry>) -> Result<Manifest, BadManifest> {
        entries.sort_by(|a, b| (a.set, a.path.as_path()).cmp(&(b.set, b.path.as_path())));
        let mut parents: Vec<&Entry> = Vec::new();
        for entry in &entries {
            let wrong = |why| Err(BadManifest::Entry { path: entry.path.clone(), why });
            parents.retain(|p| p.set == entry.set && entry.path.is_within(&p.path));
            if let Some(parent) = parents.last() {
                if parent.path == entry.path {
                    return wrong("it is listed twice");
                }
                if !matches!(parent.kind, Kind::Dir { .. }) {
                    return wrong("it lies below something that is no directory");
                }
            }
            if let Some(meta) = entry.kind.meta() {
                meta.check().map_err(|why| BadManifest::Entry { path: entry.path.clone(), why })?;
            }
            if let Kind::Link { target, .. } = &entry.kind
                && !is_text_of(target, 4095)
            {
                return wrong("the target of the link is none that a link can have");
            }
            parents.push(entry);
        }
        Ok(Manifest { role, env_version, owners: Owners::default(), ways: Ways::new(), entries })
    }

    /// Says how the directories above its objects are. Comes before the owners, whose names they need, too.
    pub fn with_ways(self, ways: Ways) -> Result<Manifest, BadManifest> {
        let is_good = ways.len() <= Way::MOST && ways.values().all(Way::check);
        if is_good { Ok(Manifest { ways, ..self }) } else { Err(BadManifest::Ways) }
    }

    /// Says what the server that made the Snapshot calls the numbers in it. Names that no entry needs are left out.
    pub fn with_owners(self, owners: &Owners) -> Result<Manifest, BadManifest> {
        let owners = owners.used_by(&self.entries, &self.ways);
        if owners.check() { Ok(Manifest { owners, ..self }) } else { Err(BadManifest::Owners) }
    }

    /// Reads the file.
    pub fn parse(content: &[u8]) -> Result<Manifest, BadManifest> {
        Manifest::read(content, |_| true)
    }

    /// Reads one set of the file, and of the others only how many lines there are: a server that boots waits for its identity, and
    /// the other sets have thousands of entries.
    pub fn parse_set(content: &[u8], set: FileSet) -> Result<Manifest, BadManifest> {
        let of_another = |line: &[u8]| FileSet::ALL.iter().any(|s| *s != set && line.starts_with(s.line_prefix()));
        let mut manifest = Manifest::read(content, |line| !of_another(line))?;
        manifest.entries.retain(|entry| entry.set == set);
        Ok(manifest)
    }

    /// Reads the file; of lines that are not `wanted`, that they are there.
    fn read(content: &[u8], wanted: impl Fn(&[u8]) -> bool) -> Result<Manifest, BadManifest> {
        if content.len() > Self::MAX_SIZE {
            return Err(BadManifest::TooLarge);
        }
        let mut lines = content.split(|b| *b == b'\n').enumerate().map(|(index, line)| (index + 1, line));
        let (_, first) = lines.next().ok_or(BadManifest::NotManifest)?;
        let header = Header::parse(first)?;
        let (mut entries, mut found) = (Vec::new(), 0);
        for (line, text) in lines.filter(|(_, text)| !text.is_empty()).take(Self::MAX_ENTRIES + 1) {
            found += 1;
            if wanted(text) {
                entries.push(serde_json::from_slice(text).map_err(|error| unreadable(line, &error))?);
            }
        }
        if found != header.entries {
            return Err(BadManifest::Count { announced: header.entries, found });
        }
        let owners = Owners { users: header.users, groups: header.groups };
        Manifest::new(header.role, header.env_version, entries)?.with_ways(header.ways)?.with_owners(&owners)
    }

    /// The file that [`Manifest::parse`] reads back.
    pub fn to_file(&self) -> Result<Vec<u8>, serde_json::Error> {
        let (entries, ways) = (self.entries.len(), self.ways.clone());
        let mut bytes = serde_json::to_vec(&Header::new(self.role, self.env_version, entries, &self.owners, ways))?;
        bytes.push(b'\n');
        for entry in &self.entries {
            serde_json::to_writer(&mut bytes, entry)?;
            bytes.push(b'\n');
        }
        Ok(bytes)
    }

    /// All entries, sorted by set and path.
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// The same, without the Manifest.
    pub fn into_entries(self) -> Vec<Entry> {
        self.entries
    }

    /// The entries of one set, sorted by path.
    pub fn of_set(&self, set: FileSet) -> std::slice::Iter<'_, Entry> {
        let start = self.entries.partition_point(|entry| entry.set < set);
        let end = self.entries.partition_point(|entry| entry.set <= set);
        self.entries[start..end].iter()
    }

    /// What the server that made the Snapshot calls the numbers in it.
    pub fn owners(&self) -> &Owners {
        &self.owners
    }

    /// The directories above its objects.
    pub fn ways(&self) -> &Ways {
        &self.ways
    }
}

fn unreadable(line: usize, error: &serde_json::Error) -> BadManifest {
    BadManifest::Line { line, message: shorten(&error.to_string(), 120) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(path: &str, kind: Kind) -> Entry {
        Entry { set: FileSet::Ident, path: TreePath::parse(path).unwrap(), kind }
    }

    fn meta() -> Meta {
        Meta { mode: 0o644, uid: 0, gid: 0, mtime: 1, mtime_ns: 2, xattrs: BTreeMap::new() }
    }

    fn file(content: &[u8]) -> Kind {
        Kind::File { size: content.len() as u64, sha256: Digest::of(content), meta: meta() }
    }

    fn sample() -> Manifest {
        let link = Kind::Link { target: "/usr/share/zoneinfo/UTC".into(), meta: Meta { mode: 0, ..meta() } };
        let entries = vec![
            entry("/etc/ssh/key", file(b"k")),
            entry("/etc/ssh", Kind::Dir { meta: meta() }),
            entry("/etc/localtime", link),
            entry("/etc/resolv.conf", Kind::Absent),
        ];
        Manifest::new(Role::Pri, EnvVersion::OLDEST, entries).unwrap()
    }

    #[test]
    fn a_manifest_reads_back_from_its_file() {
        let manifest = sample();
        assert_eq!(Manifest::parse(&manifest.to_file().unwrap()).unwrap(), manifest);
    }

    #[test]
    fn the_names_of_owners_are_kept_where_something_is_owned() {
        let names = |pairs: &[(u32, &str)]| pairs.iter().map(|(n, name)| (*n, (*name).to_owned())).collect();
        let owners = Owners { users: names(&[(0, "root"), (7, "lp")]), groups: names(&[(0, "root")]) };
        let manifest = sample().with_owners(&owners).unwrap();
        assert_eq!(manifest.owners().users, names(&[(0, "root")]), "nothing is lp's");
        assert_eq!(Manifest::parse(&manifest.to_file().unwrap()).unwrap(), manifest);
        let way = Way { mode: 0o700, uid: 7, gid: 0 };
        let ways = Ways::from([(TreePath::parse("/srv").unwrap(), way)]);
        let above = sample().with_ways(ways.clone()).unwrap().with_owners(&owners).unwrap();
        assert_eq!(Manifest::parse(&above.to_file().unwrap()).unwrap(), above);
        assert_eq!((above.ways(), &above.owners().users[&7]), (&ways, &"lp".to_owned()), "a directory above is lp's");
        for bad in [Way { mode: 0o10_000, ..way }, Way { uid: u32::MAX, ..way }] {
            let ways = Ways::from([(TreePath::parse("/srv").unwrap(), bad)]);
            assert!(matches!(sample().with_ways(ways), Err(BadManifest::Ways)));
        }
        let bad = Owners { users: names(&[(0, "a:b")]), ..Owners::default() };
        assert!(matches!(sample().with_owners(&bad), Err(BadManifest::Owners)));
    }

    #[test]
    fn a_manifest_that_was_cut_off_is_never_a_shorter_one() {
        let whole = sample().to_file().unwrap();
        for end in 0..whole.len() - 1 {
            assert!(Manifest::parse(&whole[..end]).is_err(), "cut at {end}");
        }
    }

    #[test]
    fn one_set_is_read_as_it_is_among_the_others() {
        let other = |set, path: &str| Entry { set, ..entry(path, file(b"other")) };
        let mut entries = sample().into_entries();
        entries.extend([other(FileSet::Sync, "/etc/ssh/key"), other(FileSet::Residue, "/etc/residue")]);
        let whole = Manifest::new(Role::Pri, EnvVersion::OLDEST, entries).unwrap();
        let content = whole.to_file().unwrap();
        for set in FileSet::ALL {
            let read = Manifest::parse_set(&content, set).unwrap();
            assert_eq!(read.entries(), whole.of_set(set).as_slice(), "{set:?}");
        }
        let text = String::from_utf8(content.clone()).unwrap();
        let turned =
            text.replace("{\"set\":\"sync\",\"path\":\"/etc/ssh/key\"", "{\"path\":\"/etc/ssh/key\",\"set\":\"sync\"");
        assert!(turned != text, "the line is written in another order");
        assert_eq!(
            Manifest::parse_set(turned.as_bytes(), FileSet::Ident).unwrap(),
            Manifest::parse_set(&content, FileSet::Ident).unwrap()
        );
        for end in 0..content.len() - 1 {
            assert!(Manifest::parse_set(&content[..end], FileSet::Residue).is_err(), "cut at {end}");
        }
    }

    #[test]
    fn a_later_format_is_refused_by_its_number() {
        let later = String::from_utf8(sample().to_file().unwrap()).unwrap().replacen("\"format\":1", "\"format\":7", 1);
        assert!(matches!(Manifest::parse(later.as_bytes()), Err(BadManifest::UnknownFormat(7))));
    }

    #[test]
    fn entries_that_contradict_each_other_are_refused() {
        let new = |entries| Manifest::new(Role::Pri, EnvVersion::OLDEST, entries);
        assert!(new(vec![entry("/a", file(b"")), entry("/a", Kind::Absent)]).is_err());
        assert!(new(vec![entry("/a", file(b"")), entry("/a/b", file(b""))]).is_err());
        assert!(
            new(vec![entry("/a-c", file(b"")), entry("/a", Kind::Dir { meta: meta() }), entry("/a/b", file(b""))])
                .is_ok()
        );
    }

    #[test]
    fn what_could_not_be_installed_is_refused_before_anything_is() {
        let with = |meta| Manifest::new(Role::Pri, EnvVersion::OLDEST, vec![entry("/a", Kind::Dir { meta })]);
        let xattr = |name: &str, value: &str| Meta { xattrs: [(name.into(), value.into())].into(), ..meta() };
        assert!(with(xattr("user.colour", "00ff")).is_ok());
        for bad in [
            Meta { uid: u32::MAX, ..meta() },
            Meta { gid: u32::MAX, ..meta() },
            Meta { mode: 0o10000, ..meta() },
            Meta { mtime_ns: 1_000_000_000, ..meta() },
            xattr("user.colour", "0"),
            xattr("user.colour", "0g"),
            xattr("user.colour", &"00".repeat(Meta::MAX_XATTR_SIZE + 1)),
            xattr("", "00"),
            xattr("user.\\x00", "00"),
            xattr(&"n".repeat(256), "00"),
        ] {
            assert!(with(bad.clone()).is_err(), "{bad:?}");
        }
        for bad in ["", "a\\", "a\\x00", &"n".repeat(4096)] {
            let link = Kind::Link { target: bad.into(), meta: meta() };
            assert!(Manifest::new(Role::Pri, EnvVersion::OLDEST, vec![entry("/a", link)]).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn the_message_of_a_bad_line_does_not_reach_the_console_as_it_is() {
        let line = format!("{{\"set\":\"\\u001b[2J{}\"}}\n", "x".repeat(1000));
        let text =
            format!("{{\"atlas\":\"manifest\",\"format\":1,\"role\":\"PRI\",\"env_version\":1,\"entries\":1}}\n{line}");
        let message = Manifest::parse(text.as_bytes()).unwrap_err().to_string();
        assert!(message.starts_with("line 2 ") && message.contains("[2J"), "{message}");
        assert!(!message.contains('\u{1b}') && message.len() < 300, "{message}");
    }

    #[test]
    fn the_time_of_a_directory_does_not_make_it_another() {
        let old = Kind::Dir { meta: meta() };
        let touched = Kind::Dir { meta: Meta { mtime: 99, ..meta() } };
        assert!(old.same_as(&touched) && !old.same_as(&Kind::Dir { meta: Meta { mode: 0o700, ..meta() } }));
        assert!(!file(b"a").same_as(&file(b"b")));
    }
}
