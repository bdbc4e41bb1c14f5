//! Sections with keys and values, as systemd and NetworkManager write them.

/// One line that says something.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Line<'t> {
    /// The section, without brackets; empty before the first.
    pub(super) section: &'t str,
    pub(super) key: &'t str,
    pub(super) value: String,
}

/// The lines of a file, those that continue put together; what is no `key=value` comes back as it stands.
pub(super) fn lines(text: &str) -> Vec<Result<Line<'_>, &str>> {
    let mut found = Vec::new();
    let mut section = "";
    let mut rest = text.lines();
    while let Some(line) = rest.next() {
        let line = line.trim();
        if line.is_empty() || line.starts_with(['#', ';']) {
            continue;
        }
        if let Some(name) = line.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            section = name;
            continue;
        }
        let Some((key, value)) = line.split_once('=') else {
            found.push(Err(line));
            continue;
        };
        let mut value = value.trim().to_owned();
        while let Some(beginning) = value.strip_suffix('\\') {
            let next = rest.by_ref().map(str::trim).find(|next| !next.starts_with(['#', ';'])).unwrap_or_default();
            value = format!("{beginning} {next}");
        }
        found.push(Ok(Line { section, key: key.trim(), value: value.trim().to_owned() }));
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_put_together_and_comments_left_out() {
        let text = "# a\n[Match]\nName = eth0 \\\n; no\n eth1\n[Network]\nnonsense\nAddress=1.2.3.4/24\n";
        let found = lines(text);
        let line = |section, key, value: &str| Ok(Line { section, key, value: value.into() });
        assert_eq!(
            found,
            [line("Match", "Name", "eth0  eth1"), Err("nonsense"), line("Network", "Address", "1.2.3.4/24")]
        );
        assert_eq!(lines("a=b\\").len(), 1);
    }
}
