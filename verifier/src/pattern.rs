//! Shell patterns, as configurations include files by them.

/// Whether a path fits a pattern, name by name.
pub(crate) fn fits_path(pattern: &str, path: &str) -> bool {
    let names = |path: &str| path.split('/').filter(|name| !name.is_empty()).map(str::to_owned).collect::<Vec<_>>();
    let (pattern, path) = (names(pattern), names(path));
    pattern.len() == path.len()
        && pattern
            .iter()
            .zip(&path)
            .all(|(wanted, name)| fits(wanted, name) && (!name.starts_with('.') || wanted.starts_with('.')))
}

/// Whether a name fits a pattern. Takes time in proportion to both lengths' product, whatever the pattern.
pub(crate) fn fits(pattern: &str, name: &str) -> bool {
    let (mut pattern, name): (&str, Vec<char>) = (pattern, name.chars().collect());
    // Which beginnings of the name the pattern so far fits.
    let mut reached = vec![false; name.len() + 1];
    reached[0] = true;
    while let Some((wanted, rest)) = Wanted::first(pattern) {
        pattern = rest;
        let before = reached.clone();
        for end in 0..reached.len() {
            let one = end > 0 && before[end - 1] && wanted.is(name[end - 1]);
            let is_many = matches!(wanted, Wanted::Many);
            reached[end] = if is_many { before[end] || (end > 0 && reached[end - 1]) } else { one };
        }
    }
    reached[name.len()]
}

/// One part of a pattern: `*`, `?`, `[a-z]`, `[!a-z]`, or a character that stands for itself.
enum Wanted<'p> {
    Many,
    Any,
    OneOf { these: &'p str, is_not: bool },
    One(char),
}

impl Wanted<'_> {
    fn first(pattern: &str) -> Option<(Wanted<'_>, &str)> {
        let (first, rest) = (pattern.chars().next()?, &pattern[pattern.chars().next()?.len_utf8()..]);
        Some(match first {
            '*' => (Wanted::Many, rest),
            '?' => (Wanted::Any, rest),
            '\\' if !rest.is_empty() => {
                let one = rest.chars().next()?;
                (Wanted::One(one), &rest[one.len_utf8()..])
            }
            '[' => {
                let (inner, is_not) = rest.strip_prefix(['!', '^']).map_or((rest, false), |inner| (inner, true));
                // One that stands first is meant.
                let skip = usize::from(inner.starts_with(']'));
                match inner[skip..].find(']') {
                    Some(end) => (Wanted::OneOf { these: &inner[..skip + end], is_not }, &inner[skip + end + 1..]),
                    None => (Wanted::One('['), rest),
                }
            }
            one => (Wanted::One(one), rest),
        })
    }

    fn is(&self, c: char) -> bool {
        match self {
            Wanted::Many | Wanted::Any => true,
            Wanted::One(one) => *one == c,
            Wanted::OneOf { these, is_not } => {
                let these: Vec<char> = these.chars().collect();
                let in_range = |at: usize| at > 0 && at + 1 < these.len() && these[at] == '-';
                let ranges = (0..these.len()).filter(|at| in_range(*at));
                let mut is_in = ranges.clone().any(|at| (these[at - 1]..=these[at + 1]).contains(&c));
                is_in |= these.iter().enumerate().any(|(at, one)| *one == c && !in_range(at));
                is_in != *is_not
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_fits_a_pattern_or_not() {
        for (pattern, name, expected) in [
            ("*", "", true),
            ("a*b*c", "aXbYc", true),
            ("a*b", "ab", true),
            ("a?", "a", false),
            ("*.conf", "a.conf~", false),
            ("[0-9]*.conf", "10-a.conf", true),
            ("[!0-9_]*", "10-a.conf", false),
            ("[]a]?", "]x", true),
            ("[a-", "[a-", true),
            ("a\\*", "a*", true),
            ("a\\*", "ab", false),
        ] {
            assert_eq!(fits(pattern, name), expected, "{pattern} {name}");
        }
        assert!(!fits(&"*a".repeat(200), &"a".repeat(199)));
    }
}
