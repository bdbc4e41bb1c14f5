//! exim's own configuration file: macros, conditions, the settings of its main part, its lists of access.

use crate::service::Tree;
use std::collections::BTreeMap;

/// How deep files may include each other, and macros stand in each other.
const MAX_DEPTH: usize = 8;
/// The most lines of all files together.
const MAX_LINES: usize = 100_000;
/// How long a line may become by what is put into it, in bytes.
const MAX_LINE: usize = 100_000;

/// What a file says, a line each, with macros put in.
#[derive(Debug, Default)]
pub(super) struct Said {
    /// The settings of the main part, as exim would say them.
    pub(super) main: String,
    /// The lists of access.
    pub(super) acl: String,
    /// All other parts.
    pub(super) rest: String,
    /// The files that are included.
    pub(super) files: Vec<String>,
}

/// Reads a file and what it includes.
pub(super) fn read(tree: &Tree, path: &str) -> anyhow::Result<Said> {
    let mut reader = Reader {
        tree,
        macros: BTreeMap::new(),
        holds: vec![],
        lines: 0,
        part: "main".to_owned(),
        said: Said::default(),
    };
    reader.file(path, 0)?;
    Ok(reader.said)
}

struct Reader<'t> {
    tree: &'t Tree,
    macros: BTreeMap<String, String>,
    /// Of each condition around a line: whether it holds, and whether one of its branches has.
    holds: Vec<(bool, bool)>,
    lines: usize,
    /// Which part goes on.
    part: String,
    said: Said,
}

impl Reader<'_> {
    fn file(&mut self, path: &str, depth: usize) -> anyhow::Result<()> {
        anyhow::ensure!(depth <= MAX_DEPTH, "{path}: files include each other more than {MAX_DEPTH} deep");
        let text = self.tree.read(path)?.unwrap_or_default();
        for line in logical(&text) {
            self.lines += 1;
            anyhow::ensure!(self.lines <= MAX_LINES, "{path}: there are more than {MAX_LINES} lines");
            self.line(&line, depth)?;
        }
        Ok(())
    }

    fn line(&mut self, line: &str, depth: usize) -> anyhow::Result<()> {
        let (word, rest) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
        let rest = rest.trim();
        match word {
            ".ifdef" | ".ifndef" => {
                let holds = self.knows(rest) == (word == ".ifdef");
                self.holds.push((holds, holds));
            }
            ".elifdef" | ".elifndef" => {
                let is_next = self.knows(rest) == (word == ".elifdef");
                if let Some((holds, has)) = self.holds.last_mut() {
                    *holds = !*has && is_next;
                    *has |= *holds;
                }
            }
            ".else" => {
                if let Some((holds, has)) = self.holds.last_mut() {
                    *holds = !*has;
                    *has = true;
                }
            }
            ".endif" => drop(self.holds.pop()),
            _ if self.holds.iter().any(|(holds, _)| !holds) => (),
            ".include" | ".include_if_exists" => {
                let file = self.substituted(rest).trim_matches('"').to_owned();
                self.said.files.push(file.clone());
                return self.file(&file, depth + 1);
            }
            "begin" => self.part = rest.to_owned(),
            _ => self.setting(line),
        }
        Ok(())
    }

    /// A macro, whose name begins with a capital letter, or a setting.
    fn setting(&mut self, line: &str) {
        if let Some((name, value)) = line.split_once('=').filter(|_| line.starts_with(|c: char| c.is_ascii_uppercase()))
        {
            let (name, value) = (name.trim().to_owned(), value.trim_start_matches('=').trim().to_owned());
            self.macros.insert(name, value);
            return;
        }
        let line = self.substituted(line);
        let line = line.trim_start_matches("hide ").trim_start();
        let said = match self.part.as_str() {
            "main" => &mut self.said.main,
            "acl" => &mut self.said.acl,
            _ => &mut self.said.rest,
        };
        if said.len() < MAX_LINES * 10 {
            said.push_str(&format!("{line}\n"));
        }
    }

    /// Whether a macro stands in the words of a condition.
    fn knows(&self, words: &str) -> bool {
        let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
        words.split(|c| !is_name(c)).any(|word| self.macros.contains_key(word))
    }

    /// With the values of macros in place of their names; the longest name counts.
    fn substituted(&self, line: &str) -> String {
        let mut line = line.to_owned();
        for _ in 0..MAX_DEPTH {
            let found = self.macros.iter().filter(|(name, _)| line.contains(name.as_str()));
            let Some((name, value)) = found.max_by_key(|(name, _)| name.len()) else { break };
            let new = line.replace(name.as_str(), value);
            if new == line || new.len() > MAX_LINE {
                break;
            }
            line = new;
        }
        line
    }
}

/// Lines as exim takes them: one that ends with a backslash goes on, and comments may stand between.
fn logical(text: &str) -> Vec<String> {
    let (mut lines, mut goes_on) = (Vec::<String>::new(), false);
    for line in text.lines().map(str::trim).filter(|line| !line.starts_with('#')) {
        let (line, more) = line.strip_suffix('\\').map_or((line, false), |line| (line, true));
        match lines.last_mut().filter(|_| goes_on) {
            Some(last) => last.push_str(line.trim_start()),
            None => lines.push(line.to_owned()),
        }
        goes_on = more;
    }
    lines.retain(|line| !line.is_empty());
    lines
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::here::testing::Server;

    #[test]
    fn the_main_part_is_read_with_its_macros_and_conditions() {
        let root = Server::with(&[
            (
                "etc/exim4/exim4.conf",
                "PORTS = 25 : \\\n  # between\n  2526\nPORTS_MORE = PORTS : 587\n.ifdef NOTHING\nlocal_interfaces = 127.0.0.1\n\
                 .elifdef PORTS\nlocal_interfaces = 0.0.0.0\n.else\nlocal_interfaces = ::1\n.endif\n\
                 daemon_smtp_ports = PORTS_MORE\n.include_if_exists /etc/exim4/more\nhide x = y\nbegin acl\nconnect:\n  accept hosts = PORTS\nbegin routers\nz:\n",
            ),
            ("etc/exim4/more", ".ifndef PORTS\nno = 1\n.endif\ntls_certificate = /srv/cert.pem\n"),
        ]);
        let said = read(&root.tree(), "/etc/exim4/exim4.conf").unwrap();
        let expected =
            "local_interfaces = 0.0.0.0\ndaemon_smtp_ports = 25 : 2526 : 587\ntls_certificate = /srv/cert.pem\nx = y\n";
        assert_eq!(said.main, expected);
        assert_eq!((said.acl.as_str(), said.rest.as_str()), ("connect:\naccept hosts = 25 : 2526\n", "z:\n"));
    }

    #[test]
    fn files_and_macros_without_end_are_met() {
        let root = Server::with(&[("a", "A = AA\nAA = A\nx = A\n.include /a\n")]);
        assert!(read(&root.tree(), "/a").unwrap_err().to_string().contains("8 deep"));
    }
}
