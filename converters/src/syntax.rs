//! Settings in configuration files: finding the lines that set a key, and changing nothing else in the file.

use crate::part::Syntax;
use std::ops::Range;

/// A line that sets the key that was asked for.
#[derive(Clone, Debug)]
pub(crate) struct Setting<'t> {
    line: &'t str,
    key: Range<usize>,
    value: Range<usize>,
}

impl Setting<'_> {
    /// The value, without quotes.
    pub(crate) fn value(&self) -> &str {
        &self.line[self.value.clone()]
    }

    /// The line with another key, and another value where one is given.
    pub(crate) fn renamed(&self, key: &str, value: Option<&str>) -> String {
        let Setting { line, key: at, value: old } = self;
        format!(
            "{}{key}{}{}{}",
            &line[..at.start],
            &line[at.end..old.start],
            value.unwrap_or(&line[old.clone()]),
            &line[old.end..]
        )
    }
}

/// Replaces every line that sets `key` below the heading `section` (any, where there is none) with what `change` makes of it, and takes it away,
/// with the lines that continue it, where that is nothing.
pub(crate) fn change_settings(
    text: &str,
    syntax: Syntax,
    section: Option<&str>,
    key: &str,
    change: impl Fn(Setting) -> Option<String>,
) -> String {
    let mut out = String::with_capacity(text.len());
    let mut heading = "";
    let mut removing = false;
    for line in text.split_inclusive('\n') {
        let bare = line.trim_end_matches(['\n', '\r']);
        let continues = syntax == Syntax::Ini && bare.ends_with('\\');
        if removing {
            removing = continues;
            continue;
        }
        if let Some(name) = heading_of(bare, syntax) {
            heading = name;
        }
        let here = section.is_none_or(|section| section.eq_ignore_ascii_case(heading));
        match parse(bare, syntax).filter(|(at, _)| here && same_key(&bare[at.clone()], key, syntax)) {
            None => out.push_str(line),
            Some((at, value)) => match change(Setting { line: bare, key: at, value }) {
                Some(new) => {
                    out.push_str(&new);
                    out.push_str(&line[bare.len()..]);
                }
                None => removing = continues,
            },
        }
    }
    out
}

fn heading_of(line: &str, syntax: Syntax) -> Option<&str> {
    let name = line.trim().strip_prefix('[').filter(|_| syntax == Syntax::Ini)?;
    name.split(']').next().map(str::trim)
}

/// Where key and value stand in a line that sets something.
fn parse(line: &str, syntax: Syntax) -> Option<(Range<usize>, Range<usize>)> {
    let start = line.len() - line.trim_start().len();
    let rest = &line[start..];
    let comment = |c: char| c == '#' || (c == ';' && syntax == Syntax::Ini);
    if rest.is_empty() || rest.starts_with(comment) {
        return None;
    }
    let key_len = match syntax {
        Syntax::Words | Syntax::Postgresql => rest.find(|c: char| c == '=' || c.is_whitespace()).unwrap_or(rest.len()),
        Syntax::Ini => rest.find('=')?,
    };
    let key = start..start + rest[..key_len].trim_end().len();
    let separators = |c: char| c.is_whitespace() || c == '=';
    let after = &line[start + key_len..];
    let value_start = line.len() - after.trim_start_matches(separators).len();
    let value = value_start..value_start + value_len(&line[value_start..], syntax);
    Some((key, unquoted(line, value)))
}

fn value_len(value: &str, syntax: Syntax) -> usize {
    match syntax {
        Syntax::Words | Syntax::Ini => value.trim_end().len(),
        Syntax::Postgresql => match value.strip_prefix('\'').and_then(|rest| rest.find('\'')) {
            Some(end) => end + 2,
            None => value.find(|c: char| c == '#' || c.is_whitespace()).unwrap_or(value.len()),
        },
    }
}

fn unquoted(line: &str, value: Range<usize>) -> Range<usize> {
    let text = &line[value.clone()];
    let quoted = |quote: char| text.len() >= 2 && text.starts_with(quote) && text.ends_with(quote);
    if quoted('"') || quoted('\'') { value.start + 1..value.end - 1 } else { value }
}

/// PHP alone minds the case of a key; no two of its keys differ in nothing else.
fn same_key(there: &str, wanted: &str, syntax: Syntax) -> bool {
    // In Samba, 'log file' and 'logfile' are one.
    let plain = |key: &str| match syntax {
        Syntax::Ini => key.split_whitespace().collect::<Vec<_>>().join(" ").to_ascii_lowercase(),
        _ => key.to_ascii_lowercase(),
    };
    plain(there) == plain(wanted)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn renamed(text: &str, syntax: Syntax, section: Option<&str>, key: &str) -> String {
        change_settings(text, syntax, section, key, |one| {
            Some(one.renamed("new", (one.value() == "on").then_some("off")))
        })
    }

    #[test]
    fn only_the_line_that_sets_the_key_changes_and_of_it_only_key_and_value() {
        let text = "# key on\n\tKey  on \nkeys on\nother key\nkey=x\nkey";
        assert_eq!(renamed(text, Syntax::Words, None, "KEY"), "# key on\n\tnew  off \nkeys on\nother key\nnew=x\nnew");
    }

    #[test]
    fn the_heading_decides_where_one_is_asked_for() {
        let text = "key = on\n[a]\n;key = on\nmy  key = \"on\"\r\n[B]\nkey=1";
        assert_eq!(renamed(text, Syntax::Ini, Some("b"), "key"), text.replace("key=1", "new=1"));
        assert_eq!(renamed(text, Syntax::Ini, None, "my key"), text.replace("my  key = \"on\"", "new = \"off\""));
    }

    #[test]
    fn a_comment_after_a_value_of_postgresql_is_no_part_of_it() {
        assert_eq!(renamed("k 'on' # on\nk=on# x\n", Syntax::Postgresql, None, "k"), "new 'off' # on\nnew=off# x\n");
    }

    #[test]
    fn a_setting_that_goes_takes_its_further_lines_along() {
        let text = "a = 1 \\\n  2\\\n  3\nb = 1\n";
        assert_eq!(change_settings(text, Syntax::Ini, None, "a", |_| None), "b = 1\n");
        assert_eq!(change_settings(text, Syntax::Words, None, "a", |_| None), "  2\\\n  3\nb = 1\n");
    }
}
