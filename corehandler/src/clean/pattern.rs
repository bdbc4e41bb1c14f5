//! A rule's pattern: compiled only for a text that may match.
//!
//! A traceback has a few dozen names, and most rules are about none of them. Compiling all patterns takes longer than walking the stack, so
//! each is read for the literals that a match begins with, and compiled when one of them is there.

use regex_lite::Regex;
use std::{borrow::Cow, cell::OnceCell};

/// A pattern and what it takes to match it.
#[derive(Debug)]
pub(super) struct Pattern {
    text: String,
    /// A match begins with one of these; nothing where it may begin with anything.
    literals: Option<Vec<String>>,
    /// It matches at the beginning alone; leading underscores count neither there nor in the literals.
    is_anchored: bool,
    compiled: OnceCell<Option<Regex>>,
}

impl Pattern {
    pub(super) fn new(text: String) -> Pattern {
        let is_anchored = text.starts_with('^');
        let literals = branches(&text, is_anchored);
        Pattern { text, literals, is_anchored, compiled: OnceCell::new() }
    }

    /// Compiles it now, where a mistake in it is to be known now.
    pub(super) fn check(self) -> Result<Pattern, regex_lite::Error> {
        let regex = Regex::new(&self.text)?;
        Ok(Pattern { compiled: OnceCell::from(Some(regex)), ..self })
    }

    /// Whether it is worth a look: false is sure.
    fn may_match(&self, text: &str) -> bool {
        let Some(literals) = &self.literals else { return true };
        if self.is_anchored {
            let text = text.trim_start_matches('_');
            return literals.iter().any(|literal| text.starts_with(literal.as_str()));
        }
        literals.iter().any(|literal| text.contains(literal.as_str()))
    }

    fn for_text(&self, text: &str) -> Option<&Regex> {
        self.may_match(text).then(|| self.compiled.get_or_init(|| Regex::new(&self.text).ok()).as_ref()).flatten()
    }

    pub(super) fn is_match(&self, text: &str) -> bool {
        self.for_text(text).is_some_and(|regex| regex.is_match(text))
    }

    pub(super) fn replace_all<'t>(&self, text: &'t str, replacement: &str) -> Cow<'t, str> {
        self.for_text(text).map_or(Cow::Borrowed(text), |regex| regex.replace_all(text, replacement))
    }
}

/// What stands between the bars that are in no group, class or escape.
fn alternatives(pattern: &str) -> Vec<&str> {
    let (mut found, mut begin, mut depth, mut in_class, mut is_escaped) = (Vec::new(), 0, 0, false, false);
    // All of the syntax is ASCII, and no byte of another character is.
    for (at, byte) in pattern.bytes().enumerate() {
        match byte {
            _ if is_escaped => is_escaped = false,
            b'\\' => is_escaped = true,
            b']' => in_class = false,
            _ if in_class => {}
            b'[' => in_class = true,
            b'(' => depth += 1,
            b')' => depth -= 1,
            b'|' if depth == 0 => {
                found.push(&pattern[begin..at]);
                begin = at + 1;
            }
            _ => {}
        }
    }
    found.push(&pattern[begin..]);
    found
}

/// The literals of a whole pattern, all of whose branches are for the beginning of a text, or none.
fn branches(pattern: &str, is_anchored: bool) -> Option<Vec<String>> {
    let mut literals = Vec::new();
    for branch in alternatives(pattern) {
        let rest = if is_anchored { branch.strip_prefix('^')? } else { branch };
        branch_beginnings(rest, is_anchored, &mut literals)?;
    }
    Some(literals)
}

/// Adds the literals that a branch's matches begin with, without leading underscores where these do not count.
fn branch_beginnings(branch: &str, is_anchored: bool, literals: &mut Vec<String>) -> Option<()> {
    let (literal, rest) = literal(branch, is_anchored);
    if !literal.is_empty() {
        literals.push(literal);
        return Some(());
    }
    let group = rest.strip_prefix('(').and_then(whole_group)?;
    alternatives(group).into_iter().try_for_each(|branch| branch_beginnings(branch, is_anchored, literals))
}

/// What a group holds, where the match has to go through it; `rest` follows its bracket.
fn whole_group(rest: &str) -> Option<&str> {
    let content = rest.strip_prefix("?:").unwrap_or(rest);
    let (mut depth, mut in_class, mut is_escaped) = (0, false, false);
    for (at, c) in content.char_indices() {
        match c {
            _ if is_escaped => is_escaped = false,
            '\\' => is_escaped = true,
            ']' => in_class = false,
            _ if in_class => {}
            '[' => in_class = true,
            '(' => depth += 1,
            ')' if depth > 0 => depth -= 1,
            ')' => {
                let may_be_left_out = content[at + 1..].starts_with(['?', '*', '{']);
                return (!may_be_left_out && !content.starts_with('?')).then_some(&content[..at]);
            }
            _ => {}
        }
    }
    None
}

/// The literal that a branch begins with, and what follows it.
fn literal(branch: &str, skips_underscores: bool) -> (String, &str) {
    let (mut literal, mut rest) = (String::new(), branch);
    loop {
        let mut chars = rest.chars();
        let c = match (chars.next(), chars.clone().next()) {
            (Some('\\'), Some(escaped)) if escaped.is_ascii_punctuation() => {
                chars.next();
                escaped
            }
            (Some(plain), _) if !"\\.[](){}*+?|^$".contains(plain) => plain,
            _ => return (literal, rest),
        };
        let after = chars.as_str();
        if skips_underscores && literal.is_empty() && c == '_' {
            rest = after.strip_prefix(['?', '*', '+']).unwrap_or(after);
            continue;
        }
        if after.starts_with(['?', '*', '{']) {
            return (literal, rest);
        }
        literal.push(c);
        rest = after;
        if after.starts_with('+') {
            return (literal, rest);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn literals(pattern: &str) -> Option<Vec<String>> {
        Pattern::new(pattern.into()).literals
    }

    #[test]
    fn the_literals_of_a_pattern_are_those_that_each_match_begins_with() {
        for (pattern, expected) in [
            ("^main$", vec!["main"]),
            ("^(std::rt::|core::(a|b))", vec!["std::rt::", "core::"]),
            ("^_*(?:mem(cpy|set)|b?zero|_+raise)$", vec![]),
            ("^_*(mem(cpy|set)|__?raise)$", vec!["mem", "raise"]),
            ("^(std|core)(::|$)|^operator (new|delete)", vec!["std", "core", "operator "]),
            (r"^(internal/)?runtime\.", vec![]),
            (r"\.(cold|isra)(\..*)?$", vec!["."]),
            (r"(\{lambda.*?\}|\$_[0-9]+|<lambda)", vec!["{lambda", "$_", "<lambda"]),
            (r"a+b|[cd]", vec![]),
            (r"^ab?c", vec!["a"]),
            (r"^(__|_x)", vec![]),
            (r"^libc([.-].*)?\.so|^\[vdso\]$", vec!["libc", "[vdso]"]),
            (r"^a|b", vec![]),
        ] {
            let expected = (!expected.is_empty()).then(|| expected.iter().map(ToString::to_string).collect());
            assert_eq!(literals(pattern), expected, "{pattern}");
        }
    }

    /// Texts that nearly match: what the patterns of the table are made of, put together at random.
    fn text() -> impl Strategy<Value = String> {
        let mut parts: Vec<String> = crate::clean::Rules::built_in()
            .unwrap()
            .patterns()
            .flat_map(|pattern| {
                pattern.text.split(|c: char| "()[]|*+?^$\\{}".contains(c)).map(String::from).collect::<Vec<_>>()
            })
            .collect();
        parts.extend(["_", "__", "::", ".", "{", "}", "<", "'", "lambda", "$_", "7", " ", "vdso"].map(String::from));
        proptest::collection::vec(proptest::sample::select(parts), 1..5).prop_map(|parts| parts.concat())
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]

        #[test]
        fn what_is_not_looked_at_does_not_match(text in text()) {
            thread_local! {
                static RULES: crate::clean::Rules = crate::clean::Rules::parse(include_str!("../rules.toml")).unwrap();
            }
            RULES.with(|rules| {
                for pattern in rules.patterns() {
                    let regex = pattern.compiled.get().unwrap().as_ref().unwrap();
                    prop_assert!(pattern.may_match(&text) || !regex.is_match(&text), "{:?} {text:?}", pattern);
                }
                Ok(())
            })?;
        }
    }

    #[test]
    fn most_patterns_of_the_table_are_not_looked_at_for_a_name_of_a_program() {
        let rules = crate::clean::Rules::built_in().unwrap();
        let looked_at = |name: &str| rules.patterns().filter(|pattern| pattern.may_match(name)).count();
        for name in ["shop::Order::total", "x_walk", "faults::main", "regex::run"] {
            assert!(looked_at(name) <= 6, "{name}: {}", looked_at(name));
        }
    }
}
