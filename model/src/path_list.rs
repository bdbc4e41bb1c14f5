//! SyncFilePaths and IdentFilePaths: which paths of a server belong to a Snapshot.
//!
//! One absolute path per line, in the text form of [`TreePath`]; `#` at the beginning of a line or after a blank begins a comment, blanks
//! at the end of a line and blank lines are skipped. A path that names a directory stands for everything below it.
//!
//! ```text
//! # atlas: 1                     the format; may be left out, means 1
//! /etc/hostname                  # the name
//! /etc/systemd/network
//! /srv/shop/50\x2a               a character that would mean something else: 50*
//! ```
//!
//! Patterns are not expanded. A list that people write is [checked](PathList::check_written) for them before a Snapshot is made from it; one that
//! lies in a Snapshot is read as it is, because nobody at boot could correct it.

use crate::tree_path::{BadPath, TreePath};

/// A validated list of paths: sorted, each once, none below another.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PathList(Vec<TreePath>);

/// Why a text is no [`PathList`].
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum BadPathList {
    /// Larger than a list of paths can sensibly be.
    #[error("the list is larger than {} bytes", PathList::MAX_SIZE)]
    TooLarge,
    /// More paths than one list may have.
    #[error("the list has more than {} paths", PathList::MAX_PATHS)]
    TooMany,
    /// Not text.
    #[error("line {line} is not UTF-8 text; write such bytes as \\xNN")]
    NotText {
        /// The line, from 1.
        line: usize,
    },
    /// A format that this program does not know.
    #[error("line {line} names format '{format}'; this program reads format 1")]
    UnknownFormat {
        /// The line, from 1.
        line: usize,
        /// What the line says.
        format: String,
    },
    /// A path that breaks a rule.
    #[error("line {line}")]
    Path {
        /// The line, from 1.
        line: usize,
        /// The rule.
        #[source]
        source: BadPath,
    },
    /// A path with a character that shells expand.
    #[error("line {line} is a pattern ('*' or '?'), which stands for nothing here: {text}")]
    Pattern {
        /// The line, from 1.
        line: usize,
        /// What it says.
        text: String,
    },
}

impl PathList {
    /// The largest file, in bytes.
    pub const MAX_SIZE: usize = 4 << 20;
    /// The most paths.
    pub const MAX_PATHS: usize = 20_000;

    /// Reads a path list file.
    pub fn parse(content: &[u8]) -> Result<PathList, BadPathList> {
        if content.len() > Self::MAX_SIZE {
            return Err(BadPathList::TooLarge);
        }
        let mut paths = Vec::new();
        for (index, line) in content.split(|b| *b == b'\n').enumerate() {
            let number = index + 1;
            let line = std::str::from_utf8(line).map_err(|_| BadPathList::NotText { line: number })?;
            if let Some(comment) = line.strip_prefix('#') {
                match comment.trim().strip_prefix("atlas:").map(str::trim) {
                    None | Some("1") => continue,
                    Some(other) => {
                        let format = other.chars().take(20).collect::<String>().escape_debug().to_string();
                        return Err(BadPathList::UnknownFormat { line: number, format });
                    }
                }
            }
            let path = without_comment(line);
            if path.trim().is_empty() {
                continue;
            }
            paths.push(TreePath::parse(path).map_err(|source| BadPathList::Path { line: number, source })?);
            if paths.len() > Self::MAX_PATHS {
                return Err(BadPathList::TooMany);
            }
        }
        Ok(paths.into_iter().collect())
    }

    /// Whether each line of a list that people write means a path, and not all that fits a pattern.
    ///
    /// # Errors
    /// The first line that does not, or what [`PathList::parse`] refuses.
    pub fn check_written(content: &[u8]) -> Result<(), BadPathList> {
        Self::parse(content)?;
        for (index, line) in String::from_utf8_lossy(content).lines().enumerate() {
            if !line.starts_with('#') && without_comment(line).contains(PATTERN) {
                let text =
                    crate::tree_path::escape(without_comment(line).chars().take(200).collect::<String>().as_bytes());
                return Err(BadPathList::Pattern { line: index + 1, text });
            }
        }
        Ok(())
    }

    /// The paths, sorted.
    pub fn paths(&self) -> &[TreePath] {
        &self.0
    }

    /// Whether `path` is listed, or lies below a listed one.
    pub fn covers(&self, path: &TreePath) -> bool {
        // None lies below another, so that only the one before can hold it.
        let after = self.0.partition_point(|listed| listed.as_path() <= path.as_path());
        after.checked_sub(1).is_some_and(|before| path.is_within(&self.0[before]))
    }

    /// The file that [`PathList::parse`] reads back, with a heading that says what it is.
    pub fn to_file(&self, heading: &str) -> String {
        let heading = heading.lines().map(|line| format!("# {line}\n")).collect::<String>();
        let paths = self.0.iter().map(|path| format!("{}\n", line(path))).collect::<String>();
        format!("# atlas: 1\n{heading}{paths}")
    }
}

/// What shells expand in a path.
const PATTERN: [char; 2] = ['*', '?'];

/// A line without the comment and the blanks at its end.
fn without_comment(line: &str) -> &str {
    let comment = line.match_indices('#').find(|(at, _)| line[..*at].ends_with([' ', '\t']));
    comment.map_or(line, |(at, _)| &line[..at]).trim_end_matches([' ', '\t'])
}

/// A path as a line that means it: what would begin a comment, or be taken for a pattern, is escaped.
fn line(path: &TreePath) -> String {
    let text = path.to_string();
    let is_taken = |(at, c): (usize, char)| match c {
        '#' => text[..at].ends_with(' '),
        ' ' => at + 1 == text.len(),
        c => PATTERN.contains(&c),
    };
    text.char_indices()
        .map(|(at, c)| if is_taken((at, c)) { format!("\\x{:02x}", u32::from(c)) } else { c.to_string() })
        .collect()
}

/// Sorts, and drops what is listed twice or lies below another listed path: it is covered already.
impl FromIterator<TreePath> for PathList {
    fn from_iter<T: IntoIterator<Item = TreePath>>(paths: T) -> PathList {
        let mut sorted: Vec<TreePath> = paths.into_iter().collect();
        // By components, so that everything below a directory directly follows it ("/a/b" before "/a-c").
        sorted.sort_by(|a, b| a.as_path().cmp(b.as_path()));
        let mut kept: Vec<TreePath> = Vec::with_capacity(sorted.len());
        for path in sorted {
            if !kept.last().is_some_and(|last| path.is_within(last)) {
                kept.push(path);
            }
        }
        PathList(kept)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_and_blank_lines_are_skipped_and_paths_sorted_once() {
        let list = PathList::parse(b"# mine\n\n/etc/b\n/etc/a\n/etc/a\n/etc/a/below\n/etc/a-c\n").unwrap();
        let paths = list.paths().iter().map(ToString::to_string).collect::<Vec<_>>();
        assert_eq!(paths, ["/etc/a", "/etc/a-c", "/etc/b"]);
        assert!(list.covers(&TreePath::parse("/etc/a/x").unwrap()));
        assert!(!list.covers(&TreePath::parse("/etc/ab").unwrap()));
    }

    #[test]
    fn a_list_reads_back_from_its_file() {
        let list = PathList::parse(b"/etc/hostname\n/etc/ssh\n").unwrap();
        assert_eq!(PathList::parse(list.to_file("what sets the identity\nof this server").as_bytes()), Ok(list));
    }

    #[test]
    fn a_bad_line_is_named_by_its_number() {
        assert!(matches!(PathList::parse(b"/ok\n/etc/../x\n"), Err(BadPathList::Path { line: 2, .. })));
        assert!(matches!(PathList::parse(b"/ok\n\n\xff\n"), Err(BadPathList::NotText { line: 3 })));
        assert!(matches!(PathList::parse(b"# atlas: 9\n"), Err(BadPathList::UnknownFormat { line: 1, .. })));
        assert!(matches!(PathList::parse(b" /etc/hosts\n"), Err(BadPathList::Path { line: 1, .. })));
    }

    #[test]
    fn a_comment_or_blanks_behind_a_path_are_no_part_of_it() {
        let list = PathList::parse(b"/etc/nginx   # the web server\n/etc/php \n/etc/a#b\t \n  # only this\n").unwrap();
        assert_eq!(
            list.paths().iter().map(ToString::to_string).collect::<Vec<_>>(),
            ["/etc/a#b", "/etc/nginx", "/etc/php"]
        );
    }

    #[test]
    fn a_pattern_is_refused_where_people_write_it_and_read_where_it_lies_in_a_snapshot() {
        for (list, bad) in [
            ("# all *\n/etc/apache2/*\n", Some(2)),
            ("/etc/php?\n", Some(1)),
            ("/etc/nginx # all of it*\n/srv/50\\x2a\n", None),
        ] {
            assert!(PathList::parse(list.as_bytes()).is_ok());
            match (PathList::check_written(list.as_bytes()), bad) {
                (Ok(()), None) => {}
                (Err(BadPathList::Pattern { line, .. }), Some(bad)) if line == bad => {}
                other => panic!("{list}: {other:?}"),
            }
        }
        let odd: PathList = ["/srv/50*", "/srv/a #1", "/srv/c# ", "/srv/d  "]
            .iter()
            .map(|path| TreePath::new(path.as_bytes()).unwrap())
            .collect();
        let file = odd.to_file("odd");
        assert_eq!((PathList::parse(file.as_bytes()), PathList::check_written(file.as_bytes())), (Ok(odd), Ok(())));
    }

    #[test]
    fn an_endless_list_is_cut_short() {
        assert_eq!(PathList::parse("/a\n".repeat(PathList::MAX_PATHS + 1).as_bytes()), Err(BadPathList::TooMany));
        assert_eq!(PathList::parse(&vec![b'#'; PathList::MAX_SIZE + 1]), Err(BadPathList::TooLarge));
    }
}
