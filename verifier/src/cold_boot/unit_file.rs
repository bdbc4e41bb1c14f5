//! A unit file with its drop-ins, as far as its values are looked at.

use super::units::SEARCHED;
use crate::here::{names, text};
use std::{collections::BTreeMap, path::Path};

/// By section and key; an empty value takes back those before it, as for systemd.
#[derive(Debug, Default)]
pub(crate) struct UnitFile {
    values: BTreeMap<(String, String), Vec<String>>,
}

impl UnitFile {
    /// The file of a unit, or of its template, and its drop-ins in the order of their names; `None` where there is no file.
    pub(crate) fn read(root: &Path, unit: &str) -> Option<UnitFile> {
        let template =
            unit.split_once('@').and_then(|(name, rest)| Some(format!("{name}@.{}", rest.rsplit_once('.')?.1)));
        let called: Vec<String> = [Some(unit.to_owned()), template].into_iter().flatten().collect();
        let found =
            called.iter().find_map(|name| SEARCHED.iter().find_map(|dir| text(root, &format!("{dir}/{name}"))))?;
        let mut file = UnitFile::default();
        file.take(&found);
        // The directory that comes first has the word where two have the same name.
        let mut drop_ins: BTreeMap<String, String> = BTreeMap::new();
        for dir in SEARCHED.iter().flat_map(|dir| called.iter().map(move |name| format!("{dir}/{name}.d"))) {
            for name in names(root, &dir).into_iter().filter(|name| name.ends_with(".conf")) {
                let path = format!("{dir}/{name}");
                drop_ins.entry(name).or_insert(path);
            }
        }
        drop_ins.values().filter_map(|path| text(root, path)).for_each(|text| file.take(&text));
        Some(file)
    }

    fn take(&mut self, text: &str) {
        let mut section = String::new();
        let joined = text.replace("\\\n", " ");
        for line in joined.lines().map(str::trim).filter(|line| !line.starts_with(['#', ';'])) {
            if let Some(name) = line.strip_prefix('[').and_then(|line| line.strip_suffix(']')) {
                name.clone_into(&mut section);
            } else if let Some((key, value)) = line.split_once('=') {
                let values = self.values.entry((section.clone(), key.trim().to_owned())).or_default();
                match value.trim() {
                    "" => values.clear(),
                    value => values.push(value.to_owned()),
                }
            }
        }
    }

    /// Every value of a key.
    pub(crate) fn all(&self, section: &str, key: &str) -> &[String] {
        self.values.get(&(section.to_owned(), key.to_owned())).map_or(&[], Vec::as_slice)
    }

    /// The one that counts, where one does.
    pub(crate) fn last(&self, section: &str, key: &str) -> Option<&str> {
        self.all(section, key).last().map(String::as_str)
    }

    /// All conditions under which it is started, as they are written: `ConditionHost=pri`.
    pub(crate) fn conditions(&self) -> Vec<String> {
        let of_unit =
            self.values.iter().filter(|((section, key), _)| section == "Unit" && key.starts_with("Condition"));
        of_unit.flat_map(|((_, key), values)| values.iter().map(move |value| format!("{key}={value}"))).collect()
    }

    /// Whether its account and directories are systemd's own affair.
    pub(crate) fn is_dynamic(&self) -> bool {
        self.last("Service", "DynamicUser").is_some_and(|value| ["yes", "true", "on", "1"].contains(&value))
    }

    /// What a key starts, in order; several commands may stand behind each other, with a `;` between them.
    pub(crate) fn commands(&self, section: &str, key: &str) -> Vec<CommandLine> {
        self.all(section, key).iter().flat_map(|value| commands(value)).collect()
    }

    /// The words of all values.
    pub(crate) fn words(&self, section: &str, key: &str) -> impl Iterator<Item = String> {
        let all = self.all(section, key).iter().flat_map(|value| words(value));
        all.collect::<Vec<_>>().into_iter()
    }
}

/// One program that a unit starts.
#[derive(Debug, PartialEq)]
pub(crate) struct CommandLine {
    /// `-`: that it fails does not count.
    pub(crate) may_fail: bool,
    /// `+` or `!`: it is run as root, whatever its account is.
    pub(crate) as_root: bool,
    /// The program, and what it is given: variables as they are written.
    pub(crate) words: Vec<String>,
}

fn commands(value: &str) -> Vec<CommandLine> {
    let all = split(value);
    let lines = all.split(|word| word.is_end()).filter(|line| !line.is_empty());
    lines
        .map(|line| {
            let program = line[0].text.trim_start_matches(['@', '-', ':', '+', '!', '|']);
            let marks = &line[0].text[..line[0].text.len() - program.len()];
            // Behind an `@`, the second word is what the program is called.
            let given = line.iter().skip(if marks.contains('@') { 2 } else { 1 }).map(|word| word.text.clone());
            CommandLine {
                may_fail: marks.contains('-'),
                as_root: marks.contains(['+', '!']),
                words: [program.to_owned()].into_iter().chain(given).collect(),
            }
        })
        .collect()
}

/// A word without its quotes.
#[derive(Default)]
struct Word {
    text: String,
    is_quoted: bool,
}

impl Word {
    fn is_end(&self) -> bool {
        self.text == ";" && !self.is_quoted
    }
}

/// The words of a value as systemd splits them: in quotes of either kind, blanks count; `\x20` and `\s` are one.
pub(crate) fn words(value: &str) -> Vec<String> {
    split(value).into_iter().map(|word| word.text).collect()
}

fn split(value: &str) -> Vec<Word> {
    let (mut all, mut word, mut quote): (Vec<Word>, Option<Word>, Option<char>) = (vec![], None, None);
    let mut chars = value.chars();
    while let Some(c) = chars.next() {
        match c {
            _ if quote == Some(c) => quote = None,
            '"' | '\'' if quote.is_none() => {
                quote = Some(c);
                word.get_or_insert_default().is_quoted = true;
            }
            '\\' => {
                let word = word.get_or_insert_default();
                word.is_quoted = true;
                word.text.push_str(&escaped(&mut chars));
            }
            c if c.is_whitespace() && quote.is_none() => all.extend(word.take()),
            c => word.get_or_insert_default().text.push(c),
        }
    }
    all.extend(word);
    all
}

/// What stands behind a backslash; one that means nothing stays.
fn escaped(chars: &mut std::str::Chars<'_>) -> String {
    let Some(c) = chars.next() else { return "\\".into() };
    let byte = |text: &str| u8::from_str_radix(text, 16).ok().filter(u8::is_ascii).map(char::from);
    match c {
        'n' => "\n".into(),
        't' => "\t".into(),
        's' => " ".into(),
        '\\' | '"' | '\'' | ';' => c.to_string(),
        'x' => {
            let digits: String = chars.clone().take(2).collect();
            match byte(&digits).filter(|_| digits.len() == 2) {
                Some(c) => {
                    chars.nth(1);
                    c.to_string()
                }
                None => "\\x".into(),
            }
        }
        other => format!("\\{other}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_split_as_systemd_splits_them() {
        let line = |may_fail: bool, words: &[&str]| CommandLine {
            may_fail,
            as_root: words.get(1) == Some(&"b"),
            words: words.iter().map(|word| (*word).to_owned()).collect(),
        };
        for (value, expected) in [
            (r#""/usr/local/bin/my app" x"#, vec![line(false, &["/usr/local/bin/my app", "x"])]),
            (r"-'/usr/local/bin/my app'", vec![line(true, &["/usr/local/bin/my app"])]),
            (r"/usr/local/bin/my\x20app a\sb \q", vec![line(false, &["/usr/local/bin/my app", "a b", "\\q"])]),
            ("!@/bin/a called b", vec![line(false, &["/bin/a", "b"])]),
            (r#"/bin/a 1 ; -/bin/b ";" \;"#, vec![line(false, &["/bin/a", "1"]), line(true, &["/bin/b", ";", ";"])]),
            (r#"/bin/sh -c "a; 'b' \"c\"" "#, vec![line(false, &["/bin/sh", "-c", "a; 'b' \"c\""])]),
            ("", vec![]),
        ] {
            assert_eq!(commands(value), expected, "{value}");
        }
    }
}
