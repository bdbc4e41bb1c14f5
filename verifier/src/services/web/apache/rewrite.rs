//! What the rules of access files make of a request for the test page, which lies there as a file.
//!
//! Applications pass on what is no file (`RewriteCond %{REQUEST_FILENAME} !-f`); their rules leave the page alone. A rule
//! counts as fitting where that cannot be told.

use super::{
    super::{
        PAGE,
        exercise::{BROWSER, LANGUAGE},
    },
    scope::near,
    text::Directive,
};
use regex_lite::RegexBuilder;

/// What is known of a request for the test page.
#[derive(Clone, Copy, Debug)]
pub(super) struct Request<'r> {
    pub(super) tls: bool,
    pub(super) name: Option<&'r str>,
    pub(super) port: u16,
    pub(super) root: &'r str,
}

/// Whether a request for the test page may come to something else. `all` is of the access files, outermost first.
pub(super) fn leads_away(all: &[Directive], request: Request<'_>) -> bool {
    let is_of_rules = |one: &Directive| one.words[0].to_ascii_lowercase().starts_with("rewrite");
    let engine = all.iter().rfind(|one| one.is("RewriteEngine"));
    if !engine.is_some_and(|one| one.arg(0).eq_ignore_ascii_case("on")) {
        return false;
    }
    let inherits = all.iter().any(|one| one.is("RewriteOptions"));
    // Those of a directory stand in the place of those above it.
    let dir = |one: &Directive| one.within.first().and_then(|section| section.get(1)).cloned().unwrap_or_default();
    let innermost = all.iter().rfind(|one| is_of_rules(one)).map(dir).unwrap_or_default();
    let (mut conditions, mut is_certain): (Vec<&Directive>, bool) = (vec![], true);
    for one in all.iter().filter(|one| (inherits || dir(one) == innermost) && near(one, request.root).is_some()) {
        if one.is("RewriteCond") {
            conditions.push(one);
        } else if one.is("RewriteRule") {
            let flags = flags(one.arg(2));
            let has = |names: &[&str]| flags.iter().any(|(flag, _)| names.contains(&flag.as_str()));
            let path = request.path_below(&dir(one));
            let fits = matches(one.arg(0), &path, has(&["nc", "nocase"]));
            let holds = request.all_hold(&std::mem::take(&mut conditions));
            if fits == Some(false) || holds == Some(false) {
                continue;
            }
            let acts = ["f", "forbidden", "g", "gone", "r", "redirect", "p", "proxy", "h", "handler", "n", "next"];
            if one.arg(1) != "-" || has(&acts) {
                return true;
            }
            is_certain &= (fits, holds) == (Some(true), Some(true));
            if has(&["l", "last", "end"]) && is_certain {
                return false;
            }
        }
    }
    false
}

/// `[R=301,L]`: each in lower case, with what stands behind it.
fn flags(words: &str) -> Vec<(String, String)> {
    let words = words.trim_matches(['[', ']']).split(',');
    let pairs = words.map(|flag| flag.trim().split_once('=').unwrap_or((flag.trim(), "")));
    pairs.map(|(flag, value)| (flag.to_ascii_lowercase(), value.to_owned())).collect()
}

impl Request<'_> {
    /// As the rules of a directory see it.
    fn path_below(&self, dir: &str) -> String {
        let below = self.root.strip_prefix(dir.trim_end_matches('/')).unwrap_or_default().trim_matches('/');
        if below.is_empty() { PAGE.to_owned() } else { format!("{below}/{PAGE}") }
    }

    /// Whether all conditions hold, of which some are joined by `[OR]`; `None` where that cannot be told.
    fn all_hold(&self, conditions: &[&Directive]) -> Option<bool> {
        let (mut all, mut any) = (Some(true), Some(false));
        for (at, one) in conditions.iter().enumerate() {
            let flags = flags(one.arg(2));
            let ignores_case = flags.iter().any(|(flag, _)| ["nc", "nocase"].contains(&flag.as_str()));
            any = or(any, self.holds(one.arg(0), one.arg(1), ignores_case));
            let goes_on = flags.iter().any(|(flag, _)| ["or", "ornext"].contains(&flag.as_str()));
            if !goes_on || at + 1 == conditions.len() {
                // Both hold where neither fails.
                all = or(all.map(|all| !all), any.map(|any| !any)).map(|fails| !fails);
                any = Some(false);
            }
        }
        all
    }

    fn holds(&self, text: &str, pattern: &str, ignores_case: bool) -> Option<bool> {
        let (is_not, pattern) = pattern.strip_prefix('!').map_or((false, pattern), |pattern| (true, pattern));
        let value = self.expanded(text);
        let file = format!("{}/{PAGE}", self.root.trim_end_matches('/'));
        let holds = match pattern {
            "-f" | "-F" | "-U" | "-s" if value.as_ref() == Some(&file) => Some(true),
            "-d" | "-l" | "-L" | "-h" | "-x" if value.as_ref() == Some(&file) => Some(false),
            // Nobody has a file whose name begins with the page's.
            "-f" | "-F" | "-d" | "-l" | "-L" | "-s" if value.as_ref().is_some_and(|one| one.starts_with(&file)) => {
                Some(false)
            }
            _ if pattern.starts_with(['<', '>', '-']) => None,
            _ => match pattern.strip_prefix('=') {
                Some(wanted) if !wanted.contains(['%', '$']) => value.map(|value| {
                    if ignores_case {
                        value.eq_ignore_ascii_case(wanted.trim_matches('"'))
                    } else {
                        value == wanted.trim_matches('"')
                    }
                }),
                Some(_) => None,
                None => value.and_then(|value| matches(pattern, &value, ignores_case)),
            },
        };
        holds.map(|holds| holds != is_not)
    }

    /// A text with the values of its variables in it; `None` where one is not known here.
    fn expanded(&self, text: &str) -> Option<String> {
        let (mut whole, mut rest) = (String::new(), text);
        while let Some((before, after)) = rest.split_once("%{") {
            let (variable, behind) = after.split_once('}')?;
            whole.push_str(before);
            whole.push_str(&self.value(variable)?);
            rest = behind;
        }
        whole.push_str(rest);
        // Parts of what a pattern fitted; `expr` is a language of its own.
        let is_known = !whole.contains('$') && !rest.contains('%') && text != "expr";
        is_known.then_some(whole)
    }

    fn value(&self, variable: &str) -> Option<String> {
        let scheme = if self.tls { "https" } else { "http" };
        let is_usual = self.port == if self.tls { 443 } else { 80 };
        Some(match variable.to_ascii_uppercase().as_str() {
            "REQUEST_FILENAME" | "SCRIPT_FILENAME" => format!("{}/{PAGE}", self.root.trim_end_matches('/')),
            "DOCUMENT_ROOT" => self.root.trim_end_matches('/').to_owned(),
            "REQUEST_URI" | "SCRIPT_NAME" => format!("/{PAGE}"),
            "THE_REQUEST" => format!("GET /{PAGE} HTTP/1.1"),
            "REQUEST_METHOD" => "GET".into(),
            "REQUEST_SCHEME" => scheme.into(),
            "HTTPS" => (if self.tls { "on" } else { "off" }).into(),
            "SERVER_PORT" => self.port.to_string(),
            "HTTP_HOST" | "HTTP:HOST" => match self.name? {
                name if is_usual => name.to_owned(),
                name => format!("{name}:{}", self.port),
            },
            "SERVER_NAME" => self.name?.to_owned(),
            "HTTP_USER_AGENT" | "HTTP:USER-AGENT" => BROWSER.into(),
            "HTTP:ACCEPT-LANGUAGE" => LANGUAGE.into(),
            "HTTP_ACCEPT" | "HTTP:ACCEPT" => "*/*".into(),
            "QUERY_STRING" | "HTTP_REFERER" | "HTTP_COOKIE" | "HTTP_FORWARDED" | "PATH_INFO" => String::new(),
            "ENV:REDIRECT_STATUS" => String::new(),
            other if other.starts_with("HTTP:") => String::new(),
            _ => return None,
        })
    }
}

/// Either holds; `None` where that cannot be told.
fn or(one: Option<bool>, other: Option<bool>) -> Option<bool> {
    match (one, other) {
        (Some(true), _) | (_, Some(true)) => Some(true),
        (Some(false), Some(false)) => Some(false),
        _ => None,
    }
}

/// Whether a text fits a pattern, perhaps with a `!` before it; `None` where that cannot be told.
fn matches(pattern: &str, text: &str, ignores_case: bool) -> Option<bool> {
    let (is_not, pattern) = pattern.strip_prefix('!').map_or((false, pattern), |pattern| (true, pattern));
    let plain = without_looks(pattern);
    let regex = RegexBuilder::new(&plain).case_insensitive(ignores_case).size_limit(1 << 20).build().ok()?;
    // Without what has to follow or not, it fits more.
    let fits = if regex.is_match(text) { (plain == pattern).then_some(true) } else { Some(false) };
    fits.map(|fits| fits != is_not)
}

/// Whether a text may fit a pattern.
pub(super) fn may_fit(pattern: &str, text: &str) -> bool {
    matches(pattern, text, false) != Some(false)
}

/// A pattern without its `(?=…)`, `(?!…)`, `(?<=…)` and `(?<!…)`.
fn without_looks(pattern: &str) -> String {
    let (mut plain, mut at) = (String::new(), 0);
    while let Some(next) = pattern[at..].chars().next() {
        let rest = &pattern[at..];
        let is_look = ["(?=", "(?!", "(?<=", "(?<!"].iter().any(|start| rest.starts_with(start));
        let length = match next {
            '\\' => 1 + rest[1..].chars().next().map_or(0, char::len_utf8),
            '(' if is_look => {
                at += group(rest);
                continue;
            }
            _ => next.len_utf8(),
        };
        plain.push_str(&rest[..length]);
        at += length;
    }
    plain
}

/// How long a group in parentheses is, in bytes.
fn group(text: &str) -> usize {
    let (mut depth, mut is_escaped) = (0_usize, false);
    for (at, char) in text.char_indices() {
        match char {
            _ if is_escaped => is_escaped = false,
            '\\' => is_escaped = true,
            '(' => depth += 1,
            ')' if depth == 1 => return at + 1,
            ')' => depth -= 1,
            _ => (),
        }
    }
    text.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_that_looks_ahead_is_known_not_to_fit_or_not_known() {
        assert_eq!(matches(r"^\.well-known/(?!acme|pki(x))", PAGE, false), Some(false));
        assert_eq!(matches(r"^(?!acme)a", PAGE, false), None);
        assert_eq!(matches(r"!^(?!acme)b", PAGE, false), Some(true));
        assert_eq!(matches(r"\(?=", "x", false), Some(false));
        assert_eq!(matches("[", PAGE, false), None);
        assert_eq!(without_looks(r"a(?!b\)(c))d\(?=e(?:f)"), r"ad\(?=e(?:f)");
        assert!(may_fit("(", PAGE) && may_fit(r"\.html$", PAGE) && !may_fit(r"\.php$", PAGE));
    }
}
