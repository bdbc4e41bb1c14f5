//! Configuration that lies in several files, of which one names the others.

use super::found::Finding;
use crate::service::Tree;

/// How deep files may include each other.
const MAX_DEPTH: usize = 8;
/// The most files.
const MAX_FILES: usize = 1000;
/// The most lines of all files together.
const MAX_LINES: usize = 100_000;

/// Files of which one names others: so many, so deep, and each that is named synchronised, wherever it lies.
pub(super) struct Files<'r> {
    tree: &'r Tree,
    finding: &'r mut Finding,
    left: usize,
}

impl<'r> Files<'r> {
    pub(super) fn new(tree: &'r Tree, finding: &'r mut Finding) -> Files<'r> {
        Files { tree, finding, left: MAX_FILES }
    }

    /// The text of one, which so many others lead to; empty where it is not there.
    pub(super) fn text(&mut self, path: &str, depth: usize) -> anyhow::Result<String> {
        anyhow::ensure!(depth <= MAX_DEPTH, "{path}: files include each other more than {MAX_DEPTH} deep");
        anyhow::ensure!(self.left > 0, "{path}: there are more than {MAX_FILES} files");
        self.left -= 1;
        if depth > 0 {
            self.finding.path(self.tree, path);
        }
        Ok(self.tree.read(path)?.unwrap_or_default())
    }

    /// Those that a pattern stands for.
    pub(super) fn matching(&self, pattern: &str) -> Vec<String> {
        self.tree.matching(pattern)
    }
}

/// The lines of a file, and in place of each line for which `include` gives files, theirs. None where the file is not there.
pub(super) fn lines(
    tree: &Tree,
    finding: &mut Finding,
    path: &str,
    include: &dyn Fn(&str) -> Option<Vec<String>>,
) -> anyhow::Result<Vec<String>> {
    let mut lines = vec![];
    read(&mut Files::new(tree, finding), path, 0, include, &mut lines)?;
    Ok(lines)
}

fn read(
    files: &mut Files<'_>,
    path: &str,
    depth: usize,
    include: &dyn Fn(&str) -> Option<Vec<String>>,
    lines: &mut Vec<String>,
) -> anyhow::Result<()> {
    for line in files.text(path, depth)?.lines() {
        match include(line.trim()) {
            Some(named) => named.iter().try_for_each(|file| read(files, file, depth + 1, include, lines))?,
            // Where one goes on, the blanks at the beginning of the next may count.
            None if lines.last().is_some_and(|last| last.ends_with('\\')) => lines.push(line.trim_end().to_owned()),
            None => lines.push(line.trim().to_owned()),
        }
        anyhow::ensure!(
            lines.len() <= MAX_LINES,
            "{path}: with all that is included there are more than {MAX_LINES} lines"
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::here::testing::Server;

    fn all(files: &[(&str, &str)]) -> anyhow::Result<Vec<String>> {
        let server = Server::with(files);
        lines(&server.tree(), &mut Finding::default(), "/a", &|line| {
            line.strip_prefix("+").map(|file| vec![file.to_owned()])
        })
    }

    #[test]
    fn what_a_line_includes_stands_in_its_place() {
        assert_eq!(all(&[("a", "1\n +/b\n+/gone\n 4"), ("b", "2\n3\n")]).unwrap(), ["1", "2", "3", "4"]);
    }

    #[test]
    fn what_is_included_travels_wherever_it_lies() {
        let server = Server::with(&[("etc/x/a", "+/srv/b\n+/etc/x/c\n"), ("srv/b", ""), ("etc/x/c", "")]);
        let mut finding = Finding::default();
        lines(&server.tree(), &mut finding, "/etc/x/a", &|line| {
            line.strip_prefix("+").map(|file| vec![file.to_owned()])
        })
        .unwrap();
        finding.path(&server.tree(), "/etc/x");
        assert_eq!(finding.done().paths, ["/srv/b", "/etc/x"]);
    }

    #[test]
    fn files_without_end_are_told() {
        let error = |files: &[(&str, &str)]| all(files).unwrap_err().to_string();
        assert!(error(&[("a", "+/a")]).contains("8 deep"));
        assert!(error(&[("a", &"+/b\n".repeat(100)), ("b", &"+/c\n".repeat(100)), ("c", "")]).contains("1000 files"));
        assert!(error(&[("a", &"\n".repeat(100_001))]).contains("100000 lines"));
    }
}
