//! Configuration that lies in several files, of which one names the others.

use super::found::Finding;
use crate::service::Tree;

/// How deep files may include each other.
const MAX_DEPTH: usize = 8;
/// The most files.
const MAX_FILES: usize = 1000;
/// The most lines of all files together.
const MAX_LINES: usize = 100_000;

/// The lines of a file, and in place of each line for which `include` gives files, theirs. None where the file is not there. What is included is
/// synchronised, wherever it lies.
pub(super) fn lines(
    tree: &Tree,
    finding: &mut Finding,
    path: &str,
    include: &dyn Fn(&str) -> Option<Vec<String>>,
) -> anyhow::Result<Vec<String>> {
    let mut reader = Reader { tree, finding, include, files: 0, lines: vec![] };
    reader.read(path, 0)?;
    Ok(reader.lines)
}

struct Reader<'r> {
    tree: &'r Tree,
    finding: &'r mut Finding,
    include: &'r dyn Fn(&str) -> Option<Vec<String>>,
    files: usize,
    lines: Vec<String>,
}

impl Reader<'_> {
    fn read(&mut self, path: &str, depth: usize) -> anyhow::Result<()> {
        anyhow::ensure!(depth <= MAX_DEPTH, "{path}: files include each other more than {MAX_DEPTH} deep");
        anyhow::ensure!(self.files < MAX_FILES, "{path}: there are more than {MAX_FILES} files");
        self.files += 1;
        if depth > 0 {
            self.finding.path(self.tree, path);
        }
        for line in self.tree.read(path)?.unwrap_or_default().lines() {
            match (self.include)(line.trim()) {
                Some(files) => files.iter().try_for_each(|file| self.read(file, depth + 1))?,
                None => self.lines.push(line.trim().to_owned()),
            }
            anyhow::ensure!(
                self.lines.len() <= MAX_LINES,
                "{path}: with all that is included there are more than {MAX_LINES} lines"
            );
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::here::testing::Server;

    fn read(files: &[(&str, &str)]) -> anyhow::Result<Vec<String>> {
        let server = Server::with(files);
        lines(&server.tree(), &mut Finding::default(), "/a", &|line| {
            line.strip_prefix("+").map(|file| vec![file.to_owned()])
        })
    }

    #[test]
    fn what_a_line_includes_stands_in_its_place() {
        assert_eq!(read(&[("a", "1\n +/b\n+/gone\n 4"), ("b", "2\n3\n")]).unwrap(), ["1", "2", "3", "4"]);
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
        let error = |files: &[(&str, &str)]| read(files).unwrap_err().to_string();
        assert!(error(&[("a", "+/a")]).contains("8 deep"));
        assert!(error(&[("a", &"+/b\n".repeat(100)), ("b", &"+/c\n".repeat(100)), ("c", "")]).contains("1000 files"));
        assert!(error(&[("a", &"\n".repeat(100_001))]).contains("100000 lines"));
    }
}
