//! One set of a Snapshot, its identity or its services' files, in memory: what is where, and which paths are listed.
//!
//! Parts change this copy and nothing else. A file is read when a part looks into it and not before; what no part touches is only
//! named here, and copied from where it lies when the result is written.

use crate::Error;
use atlas_host::{object, tree::Dir};
use atlas_model::{
    Digest, TreePath,
    manifest::{Kind, Meta},
};
use std::{collections::BTreeMap, ffi::OsStr, rc::Rc};

/// The largest file that a part may look into, in bytes; the accounts of some 50 000 people.
pub const MAX_TEXT: usize = 4 << 20;

/// Where the content of unchanged files lies.
#[derive(Debug)]
pub enum Store {
    /// Below a directory, at the files' own paths.
    Dir(Dir),
    /// In memory.
    Memory(BTreeMap<TreePath, Vec<u8>>),
}

impl Store {
    fn read(&self, path: &TreePath) -> Result<Vec<u8>, Error> {
        match self {
            Store::Dir(dir) => Ok(dir.read(path.relative(), MAX_TEXT)?),
            Store::Memory(files) => {
                files.get(path).cloned().ok_or_else(|| Error::Damaged(format!("the content of {path} is missing")))
            }
        }
    }
}

/// Where the content of one file is.
#[derive(Clone, Debug)]
pub enum Content {
    /// In a store, under the path that it had there.
    Stored(Rc<Store>, TreePath),
    /// Here: a part made it.
    Made(Rc<[u8]>),
    /// What is no file has none.
    None,
}

/// One object.
#[derive(Clone, Debug)]
pub struct Object {
    /// What it is; of a file with the digest of its content.
    pub kind: Kind,
    /// Its content.
    pub content: Content,
}

impl PartialEq for Object {
    fn eq(&self, other: &Object) -> bool {
        // A file's kind has the digest of its content.
        self.kind == other.kind
    }
}

impl Object {
    /// A file whose content is here.
    pub fn file(content: Vec<u8>, meta: Meta) -> Object {
        let kind = Kind::File { size: content.len() as u64, sha256: Digest::of(&content), meta };
        Object { kind, content: Content::Made(content.into()) }
    }

    /// What has no content: a directory, a link, an absence.
    pub fn plain(kind: Kind) -> Object {
        Object { kind, content: Content::None }
    }

    /// Reads the content; `None` for what is no file.
    pub fn read(&self) -> Result<Option<Vec<u8>>, Error> {
        match &self.content {
            Content::Stored(store, path) => store.read(path).map(Some),
            Content::Made(bytes) => Ok(Some(bytes.to_vec())),
            Content::None => Ok(None),
        }
    }

    /// Makes it in `dir`; a directory is made empty.
    pub fn write(&self, dir: &Dir, name: &OsStr) -> Result<(), Error> {
        match (&self.kind, &self.content) {
            (Kind::File { .. }, Content::Stored(store, path)) if let Store::Dir(files) = store.as_ref() => {
                let (from, from_name) = files.parent_of(path)?;
                Ok(object::make(&self.kind, &from, from_name, dir, name)?)
            }
            (Kind::File { .. }, _) => Ok(object::make_of(&self.kind, &self.read()?.unwrap_or_default(), dir, name)?),
            (kind, _) => Ok(object::make(kind, dir, name, dir, name)?),
        }
    }
}

/// Owner root, mode 0644, no time: what a file gets that is like no other.
pub fn plain_meta() -> Meta {
    Meta { mode: 0o644, uid: 0, gid: 0, mtime: 0, mtime_ns: 0, xattrs: BTreeMap::new() }
}

/// One set.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Tree {
    /// The path lists, by name: `IdentFilePaths`, or `SyncFilePaths…`.
    pub lists: BTreeMap<String, Vec<u8>>,
    /// The objects, by path.
    pub objects: BTreeMap<TreePath, Object>,
}

impl Tree {
    /// The content of the file at `path`; `None` where there is no file.
    pub fn text(&self, path: &TreePath) -> Result<Option<Vec<u8>>, Error> {
        match self.objects.get(path) {
            Some(object @ Object { kind: Kind::File { size, .. }, .. }) => {
                if *size > MAX_TEXT as u64 {
                    return Err(Error::TooLarge { path: path.clone() });
                }
                object.read()
            }
            _ => Ok(None),
        }
    }

    /// The content of the file at `path` where rules may apply to it: none of a larger one or one that is no UTF-8, which nobody wrote by hand.
    pub fn configuration(&self, path: &TreePath) -> Result<Option<String>, Error> {
        match self.text(path) {
            Err(Error::TooLarge { .. }) => Ok(None),
            content => Ok(content?.and_then(|content| String::from_utf8(content).ok())),
        }
    }

    /// Gives the file at `path` this content; owner, mode and times stay, or are those of `like`, or plain ones.
    pub fn put(&mut self, path: &TreePath, content: Vec<u8>, like: Option<&Meta>) {
        let meta = match self.objects.get(path).map(|object| &object.kind) {
            Some(Kind::File { meta, .. }) => meta.clone(),
            _ => like.cloned().unwrap_or_else(plain_meta),
        };
        self.objects.insert(path.clone(), Object::file(content, meta));
    }

    /// Puts files in the place of others: those of `from` that are not among `new` go, with their lines in the lists; a new one gets the owner and mode
    /// of the first that it comes from, and is listed beside it where nothing lists it.
    pub fn replace_files(&mut self, from: &[TreePath], new: &BTreeMap<TreePath, Vec<u8>>) {
        let like = from.iter().find_map(|path| self.objects.get(path)?.kind.meta().cloned());
        for (path, content) in new.iter().rev() {
            if self.text(path).ok().flatten().as_ref() != Some(content) {
                self.put(path, content.clone(), like.as_ref());
            }
            for beside in from {
                if !self.is_listed(path) {
                    self.list_beside(beside, path);
                }
            }
            crate::rule::fill_in_parents(self, path, None);
        }
        if new.is_empty() {
            return;
        }
        for gone in from.iter().filter(|path| !new.contains_key(path)) {
            self.objects.remove(gone);
            let gone = gone.to_string();
            self.map_lists(|line| (line != gone).then(|| line.to_owned()));
        }
    }

    /// The files among the objects whose path fits one of the patterns.
    pub fn files(&self, patterns: &[crate::part::Pattern]) -> Vec<TreePath> {
        let fits = |path: &TreePath| patterns.iter().any(|pattern| pattern.fits(path));
        let files = self.objects.iter().filter(|(_, object)| matches!(object.kind, Kind::File { .. }));
        files.map(|(path, _)| path.clone()).filter(|path| fits(path)).collect()
    }

    /// Whether `path` is listed, or lies below a path that is.
    pub fn is_listed(&self, path: &TreePath) -> bool {
        self.lists_any(|listed| path.is_within(listed))
    }

    /// Whether a list names `path`, and not only a directory above it.
    pub fn lists_itself(&self, path: &TreePath) -> bool {
        self.lists_any(|listed| listed == path)
    }

    fn lists_any(&self, is_it: impl Fn(&TreePath) -> bool) -> bool {
        let fits = |line: &str| TreePath::parse(line).is_ok_and(|listed| is_it(&listed));
        self.lists.values().any(|list| String::from_utf8_lossy(list).lines().any(fits))
    }

    /// Changes every line of every list: `None` takes the line away.
    pub fn map_lists(&mut self, change: impl Fn(&str) -> Option<String>) {
        for list in self.lists.values_mut() {
            let Ok(text) = std::str::from_utf8(list) else { continue };
            let mut changed = String::with_capacity(text.len());
            for line in text.split_inclusive('\n') {
                let bare = line.strip_suffix('\n').unwrap_or(line);
                if let Some(new) = change(bare) {
                    changed.push_str(&new);
                    changed.push_str(&line[bare.len()..]);
                }
            }
            *list = changed.into_bytes();
        }
    }

    /// Adds a path to every list that names `beside`, on a line after it.
    pub fn list_beside(&mut self, beside: &TreePath, path: &TreePath) {
        let (beside, path) = (beside.to_string(), path.to_string());
        self.map_lists(|line| Some(if line == beside { format!("{line}\n{path}") } else { line.to_owned() }));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn configuration_is_text_of_a_size_that_somebody_may_have_written() {
        let path = TreePath::parse("/etc/a").unwrap();
        let mut tree = Tree::default();
        assert_eq!(tree.configuration(&path).unwrap(), None);
        for (content, is_configuration) in [
            (b"a = 1\n".to_vec(), true),
            (vec![0xff; 9], false),
            (vec![b'\n'; MAX_TEXT], true),
            (vec![b'\n'; MAX_TEXT + 1], false),
        ] {
            tree.objects.insert(path.clone(), Object::file(content, plain_meta()));
            assert_eq!(tree.configuration(&path).unwrap().is_some(), is_configuration);
        }
        assert!(matches!(tree.text(&path), Err(Error::TooLarge { .. })), "a program does not get it");
    }

    #[test]
    fn a_list_keeps_its_comments_and_the_end_of_its_last_line() {
        let lists = [("IdentFilePaths".to_owned(), b"# who\n/etc/a\n/etc/b".to_vec())].into();
        let mut tree = Tree { lists, ..Tree::default() };
        let [a, c] = ["/etc/a", "/etc/c"].map(|path| TreePath::parse(path).unwrap());
        tree.list_beside(&a, &c);
        assert_eq!(tree.lists["IdentFilePaths"], b"# who\n/etc/a\n/etc/c\n/etc/b");
        assert!(tree.is_listed(&c) && !tree.is_listed(&TreePath::parse("/etc/d").unwrap()));
        tree.map_lists(|line| (line != "/etc/c").then(|| line.replace("/etc/b", "/etc/x")));
        assert_eq!(tree.lists["IdentFilePaths"], b"# who\n/etc/a\n/etc/x");
    }
}
