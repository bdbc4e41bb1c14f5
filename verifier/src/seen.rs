//! What SetUp of one service looked at, and how it was then: while all of it is the same, so is the answer.
//!
//! ```text
//!  VerifyService web setup ─► Found, with `seen`: { "file /etc/nginx/nginx.conf": "dev-inode-size-mtime-ctime", "under /etc/nginx": digest, … }
//!  /run/atlas/setup.json   ─► the last answer of each service; taken again where each of its stamps is what it was
//! ```
//!
//! Invariants: a stamp is taken before what it stands for is read; an answer with a stamp that is younger than [`YOUNG`] is not kept, since a file can
//! change twice within one tick of the clock; nor is one that rests on anything but files, such as what runs. Nothing outlives the boot, nor [`OLD`].

use crate::{here::below, service::Tree};
use atlas_model::Digest;
use std::{
    collections::BTreeMap,
    fmt::Write,
    fs::{self, Metadata},
    os::unix::fs::MetadataExt,
    sync::Mutex,
    time::{Duration, SystemTime},
};

/// What changed so little before it was looked at may change once more without a trace.
const YOUNG: Duration = Duration::from_secs(2);
/// How long an answer is taken for the same at most: a daemon's word may rest on what is in no file.
pub(crate) const OLD: Duration = Duration::from_secs(60 * 60);
/// As much as is looked at below one directory, and how deep.
const MAX_BELOW: usize = 20_000;
const MAX_DEPTH: usize = 32;
/// As much as is said of one service; what a program prints is bounded.
const MAX_BYTES: usize = 256 << 10;

/// What an answer rests on.
#[derive(Debug, Default)]
pub(crate) struct Seen(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    stamps: BTreeMap<String, String>,
    rests_on_more: bool,
}

/// In which way something is looked at.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Look {
    /// The content of a file, or the names in a directory; links followed.
    File,
    /// Whether it is there, as what, and who may write to it; links followed.
    There,
    /// The links on the way to it, and where they lead.
    Way,
    /// All that lies below it.
    Under,
}

impl Look {
    fn word(self) -> &'static str {
        match self {
            Look::File => "file",
            Look::There => "there",
            Look::Way => "way",
            Look::Under => "under",
        }
    }

    fn of(word: &str) -> Option<Look> {
        [Look::File, Look::There, Look::Way, Look::Under].into_iter().find(|look| look.word() == word)
    }

    /// How it is now; an error where that cannot be told for certain.
    pub(crate) fn stamp(self, tree: &Tree, path: &str, now: SystemTime) -> Result<String, Uncertain> {
        match self {
            Look::File => followed(tree, path).map_or(Ok(GONE.into()), |meta| one(&meta, now)),
            Look::There => Ok(followed(tree, path).map_or(GONE.into(), |meta| format!("{:o}", meta.mode()))),
            Look::Way => Ok(tree.links(path).join("\n")),
            Look::Under => {
                let mut below = Below { tree, now, count: 0, text: String::new() };
                below.take(path, 0)?;
                Ok(Digest::of(below.text.as_bytes()).to_string())
            }
        }
    }
}

const GONE: &str = "gone";

/// It changed just now, or there is more than is looked at.
#[derive(Debug)]
pub(crate) struct Uncertain;

fn one(meta: &Metadata, now: SystemTime) -> Result<String, Uncertain> {
    let changed = SystemTime::UNIX_EPOCH + Duration::new(meta.ctime().max(0) as u64, meta.ctime_nsec() as u32);
    // A clock that was set back makes everything young.
    if now.duration_since(changed).is_ok_and(|age| age >= YOUNG) {
        let (mtime, ctime) = ((meta.mtime(), meta.mtime_nsec()), (meta.ctime(), meta.ctime_nsec()));
        Ok(format!("{}-{}-{}-{mtime:?}-{ctime:?}", meta.dev(), meta.ino(), meta.size()))
    } else {
        Err(Uncertain)
    }
}

/// Of what a path leads to in this tree, as if that were the root file system.
fn followed(tree: &Tree, path: &str) -> Option<Metadata> {
    let target = tree.links(path).pop()?;
    below(tree.path(), &target).symlink_metadata().ok().filter(|meta| !meta.is_symlink())
}

/// Stamps of all below a path, each with its name; a link's own and that of what it leads to.
struct Below<'t> {
    tree: &'t Tree,
    now: SystemTime,
    count: usize,
    text: String,
}

impl Below<'_> {
    fn take(&mut self, path: &str, depth: usize) -> Result<(), Uncertain> {
        self.count += 1;
        if self.count > MAX_BELOW || depth > MAX_DEPTH {
            return Err(Uncertain);
        }
        let Ok(meta) = below(self.tree.path(), path).symlink_metadata() else {
            self.text.push_str(GONE);
            return Ok(());
        };
        let _ = writeln!(self.text, "{path:?} {}", one(&meta, self.now)?);
        if meta.is_symlink() {
            self.text.push_str(&Look::File.stamp(self.tree, path, self.now)?);
        } else if meta.is_dir() {
            let entries = fs::read_dir(below(self.tree.path(), path)).map_err(|_| Uncertain)?.flatten();
            let mut names: Vec<_> = entries.map(|entry| entry.file_name()).collect();
            names.sort();
            for name in names {
                let name = name.to_str().ok_or(Uncertain)?;
                self.take(&format!("{}/{name}", path.trim_end_matches('/')), depth + 1)?;
            }
        }
        Ok(())
    }
}

impl Seen {
    /// Notes how something is, before it is looked at.
    pub(crate) fn look(&self, tree: &Tree, look: Look, path: &str) {
        let key = format!("{} {path}", look.word());
        let Ok(mut state) = self.0.lock() else { return };
        if state.rests_on_more || state.stamps.contains_key(&key) {
            return;
        }
        match look.stamp(tree, path, SystemTime::now()) {
            Ok(stamp) => drop(state.stamps.insert(key, stamp)),
            Err(Uncertain) => state.rests_on_more = true,
        }
    }

    /// The answer rests on what is in no file.
    pub(crate) fn rests_on_more(&self) {
        if let Ok(mut state) = self.0.lock() {
            state.rests_on_more = true;
        }
    }

    /// All stamps; none where they do not say whether the answer would be another.
    pub(crate) fn stamps(&self) -> BTreeMap<String, String> {
        self.0
            .lock()
            .map(|state| {
                let bytes: usize = state.stamps.iter().map(|(key, stamp)| key.len() + stamp.len()).sum();
                if state.rests_on_more || bytes > MAX_BYTES { BTreeMap::new() } else { state.stamps.clone() }
            })
            .unwrap_or_default()
    }
}

/// Whether everything is as it was.
pub(crate) fn is_same(tree: &Tree, stamps: &BTreeMap<String, String>) -> bool {
    let now = SystemTime::now();
    !stamps.is_empty()
        && stamps.iter().all(|(key, then)| {
            let look = key.split_once(' ').and_then(|(word, path)| Some((Look::of(word)?, path)));
            look.is_some_and(|(look, path)| look.stamp(tree, path, now).is_ok_and(|stamp| stamp == *then))
        })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::here::testing::Server;

    fn stamp(server: &Server, look: Look, path: &str) -> String {
        // Later, when nothing is young any more.
        look.stamp(&server.tree(), path, SystemTime::now() + 2 * YOUNG).unwrap()
    }

    #[test]
    fn what_changes_has_another_stamp_and_what_does_not_the_same() {
        let server = Server::with(&[("etc/web/a.conf", "1"), ("etc/web/more/b.conf", "2"), ("srv/c.conf", "3")]);
        server.link("/srv/c.conf", "etc/web/c.conf");
        let looks = [
            (Look::File, "/etc/web/a.conf"),
            (Look::File, "/etc/web"),
            (Look::File, "/etc/web/gone"),
            (Look::There, "/etc/web/gone"),
            (Look::Way, "/etc/web/c.conf"),
            (Look::Under, "/etc/web"),
        ];
        let all = || looks.map(|(look, path)| stamp(&server, look, path));
        let changed = |before: [String; 6]| -> Vec<usize> {
            let now = all();
            (0..looks.len()).filter(|at| before[*at] != now[*at]).collect()
        };
        assert_eq!(changed(all()), [0; 0]);
        let before = all();
        server.write("etc/web/a.conf", "4");
        assert_eq!(changed(before), [0, 5]);
        let before = all();
        server.write("etc/web/gone", "5");
        assert_eq!(changed(before), [1, 2, 3, 5]);
        let before = all();
        server.write("etc/web/more/b.conf", "6");
        assert_eq!(changed(before), [5]);
        let before = all();
        server.write("srv/c.conf", "longer");
        assert_eq!(changed(before), [5], "what a link leads to counts");
        let before = all();
        server.remove("etc/web/c.conf");
        server.link("/etc/web/a.conf", "etc/web/c.conf");
        assert_eq!(changed(before), [1, 4, 5]);
    }

    #[test]
    fn what_is_young_or_no_file_proves_nothing() {
        let server = Server::with(&[("etc/a", "1")]);
        let tree = server.tree();
        tree.look(Look::There, "/etc/a");
        assert_eq!(tree.seen().stamps()["there /etc/a"], "100644");
        assert!(is_same(&tree, &tree.seen().stamps()) && !is_same(&tree, &BTreeMap::new()));
        assert!(!is_same(&tree, &[("there /etc/a".to_owned(), GONE.to_owned())].into()));
        assert!(!is_same(&tree, &[("other /etc/a".to_owned(), GONE.to_owned())].into()));
        tree.look(Look::File, "/etc/a");
        assert!(tree.seen().stamps().is_empty(), "it was written a moment ago");
        let tree = server.tree();
        tree.seen().rests_on_more();
        tree.look(Look::There, "/etc/a");
        assert!(tree.seen().stamps().is_empty());
    }
}
