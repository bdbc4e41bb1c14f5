//! Names in the tree of a commit, and in the stream that `git fast-import` reads.

use atlas_model::{TreePath, manifest::FileSet};
use std::os::unix::ffi::OsStrExt;

/// The directory with the pieces of the Manifest.
pub(super) const MANIFEST_DIR: &str = "Manifest";
/// The piece with its first line.
pub(super) const HEADER: &str = "=header";
/// The piece with the lines of one directory.
pub(super) const ENTRIES: &str = "=entries";

/// Where the content of an object lies: `SyncFiles/etc/hosts`.
pub(super) fn content(set: FileSet, path: &TreePath) -> Vec<u8> {
    let mut name = set.dir_name().as_bytes().to_vec();
    push_path(&mut name, path);
    name
}

/// Where the lines of the objects lie that are directly in `dir`; `None` is the root of the server's tree.
pub(super) fn entries(set: FileSet, dir: Option<&TreePath>) -> Vec<u8> {
    let mut name = format!("{MANIFEST_DIR}/{}", set.dir_name()).into_bytes();
    if let Some(dir) = dir {
        push_path(&mut name, dir);
    }
    name.push(b'/');
    name.extend_from_slice(ENTRIES.as_bytes());
    name
}

fn push_path(name: &mut Vec<u8>, path: &TreePath) {
    for component in path.relative().components() {
        let component = component.as_os_str().as_bytes();
        name.push(b'/');
        // What a tree of git may not hold, and what stands for something else here.
        let lower = component.to_ascii_lowercase();
        if component.starts_with(b"=") || lower == b".git" || lower == b".gitmodules" {
            name.push(b'=');
        }
        name.extend_from_slice(component);
    }
}

/// A name as a command of the stream has it, with whatever bytes it is made of.
pub(super) fn quoted(name: &[u8]) -> Vec<u8> {
    let mut text = vec![b'"'];
    for byte in name {
        match byte {
            b'"' | b'\\' => text.extend([b'\\', *byte]),
            b' '..=b'~' => text.push(*byte),
            _ => text.extend(format!("\\{byte:03o}").bytes()),
        }
    }
    text.push(b'"');
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(path: &str) -> String {
        String::from_utf8(content(FileSet::Sync, &TreePath::parse(path).unwrap())).unwrap()
    }

    #[test]
    fn names_that_git_keeps_for_itself_and_ours_are_set_apart() {
        assert_eq!(shown("/etc/hosts"), "SyncFiles/etc/hosts");
        assert_eq!(shown("/etc/.git/config"), "SyncFiles/etc/=.git/config");
        assert_eq!(shown("/etc/.GIT"), "SyncFiles/etc/=.GIT");
        assert_eq!(shown("/etc/.gitignore"), "SyncFiles/etc/.gitignore");
        assert_eq!(shown("/etc/=entries/=x"), "SyncFiles/etc/==entries/==x");
        assert_eq!(entries(FileSet::Ident, None), b"Manifest/IdentFiles/=entries");
    }

    #[test]
    fn every_byte_has_a_quoted_form_of_printable_ones() {
        let all: Vec<u8> = (0..=255).collect();
        let text = quoted(&all);
        assert!(text.iter().all(|byte| (b' '..=b'~').contains(byte)));
        assert_eq!(quoted(b"a\"b\\c\n\xff"), b"\"a\\\"b\\\\c\\012\\377\"");
    }
}
