//! A unified diff that is put back into a file that may have changed since.

use diffy::{DiffOptions, Hunk, Line, Patch};

/// The lines around a change that have to be there for it to be put back.
const CONTEXT: usize = 3;

/// The diff that makes `new` of `old`; `name` is what its heading calls the file.
pub fn between(old: &[u8], new: &[u8], name: &str) -> Vec<u8> {
    let mut options = DiffOptions::new();
    options.set_context_len(CONTEXT).set_original_filename(name.to_owned()).set_modified_filename(name.to_owned());
    options.create_patch_bytes(old, new).to_bytes()
}

/// What a diff did.
#[derive(Debug, PartialEq, Eq)]
pub struct Applied {
    /// The file after it.
    pub content: Vec<u8>,
    /// How many of its changes no longer fitted and were left out.
    pub left_out: usize,
}

/// Puts each change back where its surroundings are; `None` for what is no diff.
///
/// A change whose surroundings are nowhere, even with less and less of them asked for, is left out: what was changed in the file
/// since then counts.
pub fn apply(content: &[u8], diff: &[u8]) -> Option<Applied> {
    let patch = Patch::from_bytes(diff).ok()?;
    let mut lines: Vec<&[u8]> = content.split_inclusive(|byte| *byte == b'\n').collect();
    let (mut left_out, mut moved) = (0, 0_isize);
    for hunk in patch.hunks() {
        match place(&lines, hunk, moved) {
            Some(change) => {
                moved += change.new.len().cast_signed() - change.old_len.cast_signed();
                lines.splice(change.at..change.at + change.old_len, change.new);
            }
            None => left_out += 1,
        }
    }
    Some(Applied { content: lines.concat(), left_out })
}

/// Lines to put in the place of others.
struct Change<'p> {
    at: usize,
    old_len: usize,
    new: Vec<&'p [u8]>,
}

/// Where a hunk goes; the lines before it have become `moved` more than they were.
fn place<'p>(lines: &[&[u8]], hunk: &Hunk<'p, [u8]>, moved: isize) -> Option<Change<'p>> {
    let all = hunk.lines();
    let is_context = |line: &&Line<'p, [u8]>| matches!(line, Line::Context(_));
    let before = all.iter().take_while(is_context).count();
    let after = all[before..].iter().rev().take_while(is_context).count();
    // Of an empty range a diff gives the line before it, otherwise its first, from 1.
    let range = hunk.old_range();
    let start = if range.is_empty() { range.start() } else { range.start().saturating_sub(1) };
    for trimmed in 0..=CONTEXT {
        let (head, tail) = (trimmed.min(before), trimmed.min(after));
        let kept = &all[head..all.len() - tail];
        let old: Vec<&[u8]> = kept.iter().filter_map(|line| old_of(line)).collect();
        if old.is_empty() && trimmed > 0 {
            break;
        }
        let expected = (start + head).saturating_add_signed(moved).min(lines.len());
        if let Some(at) = nearest(lines, &old, expected) {
            let new = kept.iter().filter_map(|line| new_of(line)).collect();
            return Some(Change { at, old_len: old.len(), new });
        }
    }
    None
}

fn old_of<'p>(line: &Line<'p, [u8]>) -> Option<&'p [u8]> {
    match line {
        Line::Context(text) | Line::Delete(text) => Some(text),
        Line::Insert(_) => None,
    }
}

fn new_of<'p>(line: &Line<'p, [u8]>) -> Option<&'p [u8]> {
    match line {
        Line::Context(text) | Line::Insert(text) => Some(text),
        Line::Delete(_) => None,
    }
}

/// Where `wanted` stands in `lines`, as near to `expected` as may be.
fn nearest(lines: &[&[u8]], wanted: &[&[u8]], expected: usize) -> Option<usize> {
    let last = lines.len().checked_sub(wanted.len())?;
    let fits = |at: &usize| *at <= last && lines[*at..*at + wanted.len()] == *wanted;
    let around =
        (0..=lines.len()).flat_map(|distance| [expected.checked_sub(distance), expected.checked_add(distance)]);
    around.flatten().find(fits)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn applied(content: &str, diff: &[u8]) -> (String, usize) {
        let applied = apply(content.as_bytes(), diff).unwrap();
        (String::from_utf8(applied.content).unwrap(), applied.left_out)
    }

    #[test]
    fn a_change_is_put_back_into_a_file_that_changed_elsewhere() {
        let old = "1\n2\n3\n4\n5\n6\n7\n8\n9\n";
        let diff = between(old.as_bytes(), old.replace("5\n", "five\n").as_bytes(), "x");
        assert_eq!(applied(&format!("0\n0\n{old}"), &diff), (format!("0\n0\n{old}").replace("5\n", "five\n"), 0));
        // Right beside it, too.
        assert_eq!(applied("1\n2\n3\nx\n5\n6\n7\n", &diff), ("1\n2\n3\nx\nfive\n6\n7\n".into(), 0));
        // What replaced the changed line counts.
        assert_eq!(applied("1\n2\n3\n4\nV\n6\n", &diff), ("1\n2\n3\n4\nV\n6\n".into(), 1));
    }

    #[test]
    fn what_was_only_added_is_left_out_where_nothing_of_its_surroundings_is_left() {
        let diff = between(b"1\n2\n", b"1\nnew\n2\n", "x");
        assert_eq!(applied("1\n2\n3\n", &diff), ("1\nnew\n2\n3\n".into(), 0));
        assert_eq!(applied("a\nb\n", &diff), ("a\nb\n".into(), 1));
        assert_eq!(applied("", &between(b"", b"all\n", "x")), ("all\n".into(), 0));
    }

    #[test]
    fn what_is_no_diff_is_refused() {
        assert_eq!(apply(b"x", b"--- a\n+++ b\n@@ nonsense\n"), None);
    }

    proptest! {
        #[test]
        fn a_diff_makes_of_the_old_file_the_new_one(
            old in proptest::collection::vec("[a-c]{0,2}[\\r\\xff]?\\n?", 0..12),
            new in proptest::collection::vec("[a-c]{0,2}[\\r\\xff]?\\n?", 0..12),
        ) {
            let (old, new) = (old.concat(), new.concat());
            let diff = between(old.as_bytes(), new.as_bytes(), "/etc/x");
            prop_assert_eq!(apply(old.as_bytes(), &diff), Some(Applied { content: new.into_bytes(), left_out: 0 }));
        }

        #[test]
        fn no_bytes_make_it_panic(content in proptest::collection::vec(any::<u8>(), 0..60), diff in "(--- a\n\\+\\+\\+ b\n)?(@@ -[0-9]{1,3},[0-9] \\+1,[0-9] @@\n)?([ +-]?[a-z]\n){0,5}") {
            apply(&content, diff.as_bytes());
        }
    }
}
