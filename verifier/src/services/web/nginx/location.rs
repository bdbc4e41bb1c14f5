//! Which location of a server a path belongs to.

use super::text::Directive;
use fancy_regex::RegexBuilder;

/// The directives of this name in a block.
pub(super) fn find<'d>(block: &'d [Directive], name: &str) -> impl Iterator<Item = &'d Directive> {
    block.iter().filter(move |directive| directive.name == name)
}

/// The first argument of a directive.
pub(super) fn argument<'d>(block: &'d [Directive], name: &str) -> Option<&'d str> {
    find(block, name).next()?.args.first().map(String::as_str)
}

/// Whether a block has one of these directives.
pub(super) fn has(block: &[Directive], names: &[&str]) -> bool {
    block.iter().any(|directive| names.contains(&directive.name.as_str()))
}

/// The location that a path belongs to, outermost first: each lies in the one before.
pub(super) fn chosen<'d>(block: &'d [Directive], path: &str) -> Vec<&'d Directive> {
    let Some(location) = one(block, path) else { return vec![] };
    let mut all = vec![location];
    all.extend(chosen(&location.block, path));
    all
}

/// What may stand before a path, without a blank: the longer ones first.
const HOW: [&str; 4] = ["^~", "~*", "~", "="];

/// An exact one; else the first pattern that fits, unless the longest beginning says `^~`; else the longest beginning.
fn one<'d>(block: &'d [Directive], path: &str) -> Option<&'d Directive> {
    let (mut longest, mut pattern): (Option<(&str, bool, &Directive)>, Option<&Directive>) = (None, None);
    for location in find(block, "location") {
        let (how, what) = match &location.args[..] {
            [both] if HOW.iter().any(|how| both.starts_with(how)) => {
                let how = HOW.iter().find(|how| both.starts_with(**how)).map_or(0, |how| how.len());
                both.split_at(how)
            }
            [what] => ("", what.as_str()),
            [how, what, ..] => (how.as_str(), what.as_str()),
            [] => continue,
        };
        match how {
            "=" if what == path => return Some(location),
            "~" | "~*" if pattern.is_none() && may_fit(what, path, how == "~*") => pattern = Some(location),
            "" | "^~"
                if !what.starts_with('@')
                    && path.starts_with(what)
                    && longest.is_none_or(|(before, ..)| what.len() > before.len()) =>
            {
                longest = Some((what, how == "^~", location));
            }
            _ => {}
        }
    }
    match longest {
        Some((_, true, location)) => Some(location),
        _ => pattern.or(longest.map(|(.., location)| location)),
    }
}

/// How many steps back a pattern may take before it counts as not understood.
const STEPS: usize = 100_000;

/// Whether a path fits a pattern, in the language of PCRE: `/\.(?!well-known)`. One that is not understood may fit.
pub(in crate::services::web) fn may_fit(pattern: &str, path: &str, ignores_case: bool) -> bool {
    let mut builder = RegexBuilder::new(pattern);
    let pattern = builder.case_insensitive(ignores_case).backtrack_limit(STEPS).delegate_size_limit(1 << 20).build();
    pattern.and_then(|pattern| pattern.is_match(path)).unwrap_or(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn location(args: &[&str], block: Vec<Directive>) -> Directive {
        Directive { name: "location".into(), args: args.iter().map(|arg| (*arg).to_owned()).collect(), block }
    }

    #[test]
    fn the_location_of_a_path_is_the_one_that_nginx_takes() {
        let inner = location(&["/img/new"], vec![]);
        let all = [
            location(&["/"], vec![]),
            location(&["/img"], vec![inner]),
            location(&["^~", "/img/raw"], vec![]),
            location(&["=", "/exact"], vec![]),
            location(&["~*", r"\.(PNG|html)$"], vec![]),
            location(&["~^\\/two"], vec![]),
            location(&["@named"], vec![]),
        ];
        let taken =
            |path: &str| chosen(&all, path).iter().map(|one| one.args.join(" ")).collect::<Vec<_>>().join(" > ");
        for (path, expected) in [
            ("/x", "/"),
            ("/exact", "= /exact"),
            ("/exactly", "/"),
            ("/img/new/1", "/img > /img/new"),
            ("/img/a.png", r"~* \.(PNG|html)$"),
            ("/img/raw/a.png", "^~ /img/raw"),
            ("/two", "~^\\/two"),
        ] {
            assert_eq!(taken(path), expected, "{path}");
        }
        assert!(chosen(&all[1..2], "/x").is_empty());
        for (pattern, path, fits) in [
            (r"/\.(?!well-known)", "/atlas-verify.html", false),
            (r"/\.(?!well-known)", "/.git/config", true),
            (r"^/(?!shop|blog).*$", "/atlas-verify.html", true),
            (r"^(?:[^/]*+/)*+x(?(", "/not understood", true),
            (r"(a*)*(b|c)\1(?=z)$", "/aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", true),
        ] {
            assert_eq!(may_fit(pattern, path, false), fits, "{pattern} {path}");
        }
    }
}
