//! Parts that are programs: run on copies of files, confined, under a deadline.
//!
//! ```text
//! DST/.part-N/files/etc/inetd            copies of what the part names; the program is started here, with "newer" or "older"
//!                                        what it leaves here is taken, if the part names it; everything else is an error
//! ```

use crate::{
    Direction, Error, confine,
    part::ProgramRule,
    tree::{MAX_TEXT, Object, Tree, plain_meta},
};
use atlas_host::{
    process::Command,
    tree::{Dir, ObjectType},
};
use atlas_model::{TreePath, manifest::Meta};
use std::{
    cell::Cell,
    collections::BTreeMap,
    path::{Path, PathBuf},
};

/// The most files, and bytes in them, that a program may get or leave.
const MAX_FILES: usize = 1000;
const MAX_BYTES: usize = 16 << 20;

/// What runs the programs of parts.
#[derive(Debug)]
pub struct Programs {
    /// Where a directory for the copies may be made; `None`: programs cannot be run here.
    work: Option<PathBuf>,
    /// This program, which confines itself before it becomes the part's.
    own: PathBuf,
    count: Cell<u32>,
}

impl Programs {
    /// Runs them below `work`; `own` is the path of this program.
    pub fn below(work: &Path, own: &Path) -> Programs {
        Programs { work: Some(work.to_owned()), own: own.to_owned(), count: Cell::new(0) }
    }

    /// Runs none.
    pub fn none() -> Programs {
        Programs { work: None, own: PathBuf::new(), count: Cell::new(0) }
    }

    /// Runs one on copies of its files, and takes what it left.
    pub(crate) fn run(&self, rule: &ProgramRule, tree: &mut Tree, direction: Direction) -> Result<(), Error> {
        let (from, to) = direction.order(&rule.older, &rule.newer);
        let files = tree.files(from);
        if files.is_empty() {
            return Ok(());
        }
        let Some(work) = &self.work else { return Err(Error::Damaged("there is no place to run its program".into())) };
        // The same in each run: it is in the error, and an error that stays is told once.
        let name = format!(".part-{}", self.count.replace(self.count.get() + 1));
        let dir = Dir::open_root(work)?;
        dir.make_dir(&name, 0o700)?;
        let result = self.run_in(&dir.dir(&name)?, rule, tree, &files, direction);
        dir.remove_tree(name.as_ref())?;
        let left = result?;
        if let Some(stray) = left.keys().find(|path| !to.iter().any(|pattern| pattern.fits(path))) {
            return Err(Error::Damaged(format!("its program left {stray}, which the part does not name")));
        }
        if left.is_empty() {
            return Err(Error::Damaged("its program left no file".into()));
        }
        tree.replace_files(&files, &left);
        Ok(())
    }

    fn run_in(
        &self,
        dir: &Dir,
        rule: &ProgramRule,
        tree: &Tree,
        files: &[TreePath],
        direction: Direction,
    ) -> Result<BTreeMap<TreePath, Vec<u8>>, Error> {
        dir.make_dir("files", 0o700)?;
        let copies = dir.dir("files")?;
        let mut bound = Bound::default();
        for path in files {
            let content = tree.text(path)?.unwrap_or_default();
            bound.count(content.len())?;
            let parent = match path.parent() {
                Some(parent) => copies.make_dirs(parent.relative())?,
                None => copies.dir(".")?,
            };
            Object::file(content, Meta { mode: 0o600, ..plain_meta() }).write(&parent, path.name())?;
        }
        confine::hand_over(&copies)?;
        Command::new(&self.own)
            .arg(confine::VERB)
            .args([dir.shown(), rule.dir.as_path()])
            .args([rule.run.as_str(), direction.name()])
            .deadline(rule.deadline)
            .run()?;
        let mut left = BTreeMap::new();
        collect(&copies, None, &mut left, &mut Bound::default())?;
        Ok(left)
    }
}

/// Counts files and bytes.
#[derive(Default)]
struct Bound {
    files: usize,
    bytes: usize,
}

impl Bound {
    fn count(&mut self, bytes: usize) -> Result<(), Error> {
        self.files += 1;
        self.bytes += bytes;
        if self.files > MAX_FILES || self.bytes > MAX_BYTES {
            return Err(Error::Damaged(format!("its program has more than {MAX_FILES} files or {MAX_BYTES} bytes")));
        }
        Ok(())
    }
}

/// Reads all files below a directory that a program wrote to: links and special files are refused.
fn collect(
    dir: &Dir,
    at: Option<&TreePath>,
    left: &mut BTreeMap<TreePath, Vec<u8>>,
    bound: &mut Bound,
) -> Result<(), Error> {
    for name in dir.names(MAX_FILES)? {
        let path = match at {
            Some(at) => at.join(&name),
            None => TreePath::new(&[b"/", name.as_encoded_bytes()].concat()),
        };
        let path = path.map_err(|error| Error::Damaged(format!("its program left a file of a bad name: {error}")))?;
        match dir.stat(&name)?.as_ref().map(ObjectType::of) {
            Some(ObjectType::File) => {
                let content = dir.read(&name, MAX_TEXT)?;
                bound.count(content.len())?;
                left.insert(path, content);
            }
            Some(ObjectType::Dir) => {
                bound.count(0)?;
                collect(&dir.dir(&name)?, Some(&path), left, bound)?;
            }
            _ => return Err(Error::Damaged(format!("its program left {path}, which is no regular file"))),
        }
    }
    Ok(())
}
