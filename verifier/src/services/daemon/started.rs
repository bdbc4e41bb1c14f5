//! What Debian's units hand a daemon besides its configuration: a variable in a file of `/etc/default`.

use crate::{service::Tree, services::found::Finding};

/// The words that `variable` has in `/etc/default/NAME`, which travels: `SSHD_OPTS="-p 2222"`.
pub(in crate::services) fn options(tree: &Tree, finding: &mut Finding, name: &str, variable: &str) -> Vec<String> {
    let file = format!("/etc/default/{name}");
    finding.path(tree, &file);
    // systemd takes the last one, and quotes of both kinds.
    let text = tree.read(&file).ok().flatten().unwrap_or_default();
    let mut values = text.lines().filter_map(|line| line.trim().strip_prefix(variable)?.strip_prefix('='));
    let value = values.next_back().unwrap_or_default().trim();
    let value = value.trim_matches(|c| c == '"' || c == '\'');
    value.split_whitespace().map(str::to_owned).collect()
}

/// The value of an option of one letter: `-p 2222` or `-p2222`; the last one counts.
pub(in crate::services) fn option<'w>(words: &'w [String], letter: &str) -> Option<&'w str> {
    let mut found = None;
    for (index, word) in words.iter().enumerate() {
        match word.strip_prefix(letter) {
            Some("") => found = words.get(index + 1).map(String::as_str),
            Some(value) => found = Some(value),
            None => {}
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::here::testing::Server;

    #[test]
    fn the_last_word_counts_and_the_file_travels() {
        let server =
            Server::with(&[("etc/default/ssh", "# SSHD_OPTS=-p 9\nSSHD_OPTS=\nSSHD_OPTS=\"-p 2222 -o X=y -p2223\"\n")]);
        let mut finding = Finding::default();
        let words = options(&server.tree(), &mut finding, "ssh", "SSHD_OPTS");
        assert_eq!(words, ["-p", "2222", "-o", "X=y", "-p2223"]);
        assert_eq!((option(&words, "-p"), option(&words, "-f")), (Some("2223"), None));
        assert_eq!(finding.done().paths, ["/etc/default/ssh"]);
        assert!(options(&server.tree(), &mut Finding::default(), "named", "OPTIONS").is_empty());
    }
}
