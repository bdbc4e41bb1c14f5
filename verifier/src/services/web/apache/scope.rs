//! Which sections of Apache's configuration concern the test page, and which of them has the last word.

use super::{
    super::PAGE,
    rewrite::may_fit,
    text::{Directive, OVERRIDE},
};
use crate::pattern;

/// Apache merges what patterns of directories say after the directories, then what files say, then what locations say.
const OF_PATTERN: usize = 1 << 20;
const OF_FILES: usize = 1 << 21;
const OF_LOCATION: usize = 1 << 22;
/// What a section is that only groups what stands in it.
const GROUPS: [&str; 7] = ["virtualhost", "ifmodule", "ifdefine", "ifversion", "iffile", "ifdirective", "ifsection"];

/// Whether a section only groups: hosts, conditions that were decided while reading, `RequireAll`.
pub(super) fn is_group(section: &[String]) -> bool {
    let name = section[0].to_ascii_lowercase();
    GROUPS.contains(&name.as_str()) || name.starts_with("require")
}

/// Whether a section is one of the requests for pages: `<Limit GET>`, `<LimitExcept POST>`.
pub(super) fn is_for_get(section: &[String]) -> bool {
    let names_get = section[1..].iter().any(|method| method.eq_ignore_ascii_case("GET"));
    match section[0].to_ascii_lowercase().as_str() {
        "limit" => names_get,
        "limitexcept" => !names_get,
        _ => false,
    }
}

/// How near a directive is to the test page of this document root: the nearest has the last word. `None` where it does
/// not concern it, or only under a condition.
pub(super) fn near(directive: &Directive, root: &str) -> Option<usize> {
    let page = format!("/{PAGE}");
    let mut nearest = 0;
    for section in directive.within.iter().filter(|section| !is_group(section)) {
        let word = |index: usize| section.get(index).map_or("", String::as_str);
        let (is_pattern, of) = if word(1) == "~" { (true, word(2)) } else { (false, word(1)) };
        let name = section[0].to_ascii_lowercase();
        let level = match name.trim_end_matches("match") {
            "limit" | "limitexcept" => is_for_get(section).then_some(0),
            "location" if is_pattern || name == "locationmatch" => may_fit(of, &page).then_some(OF_LOCATION),
            "location" => is_below(of, &page).then_some(OF_LOCATION),
            "directory" if is_pattern || name == "directorymatch" => {
                let root = root.trim_end_matches('/');
                (may_fit(of, root) || may_fit(of, &format!("{root}/"))).then_some(OF_PATTERN)
            }
            "directory" => is_below(of, root).then(|| {
                let is_override = section.get(2).is_some_and(|third| third == OVERRIDE);
                2 * of.trim_end_matches('/').len() + 1 + usize::from(is_override)
            }),
            "files" if is_pattern || name == "filesmatch" => may_fit(of, PAGE).then_some(OF_FILES),
            "files" => pattern::fits(of, PAGE).then_some(OF_FILES),
            _ => None,
        };
        nearest = nearest.max(level?);
    }
    Some(nearest)
}

/// Whether a path is this one, or lies below it; `*` and `?` stand for what they stand for in Apache.
pub(super) fn is_below(of: &str, path: &str) -> bool {
    let of = of.trim_end_matches('/');
    if !of.contains(['*', '?', '[']) {
        return path.strip_prefix(of).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
    }
    let depth = of.split('/').filter(|name| !name.is_empty()).count();
    let above: Vec<&str> = path.split('/').filter(|name| !name.is_empty()).take(depth).collect();
    pattern::fits_path(of, &above.join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_section_has_the_last_word_and_what_is_of_others_has_none() {
        let near = |sections: &[&str]| {
            let words = |section: &&str| section.split(' ').map(str::to_owned).collect();
            near(&Directive { within: sections.iter().map(words).collect(), words: vec!["Require".into()] }, "/srv/a")
        };
        let order: [&[&str]; 9] = [
            &["VirtualHost 0", "Limit GET POST"],
            &["Directory /"],
            &["Directory /srv/", "IfModule authz_core"],
            &["Directory /srv/a", "LimitExcept POST"],
            &["Directory /srv/a access-file"],
            &["DirectoryMatch ^/srv/.$"],
            &["Directory /srv/a", "FilesMatch \\.(html|inc)$"],
            &["Location ~ ^/[a-z]", "RequireAll"],
            &["Location /*.html"],
        ];
        let levels: Vec<usize> = order.iter().map(|one| near(one).unwrap_or_else(|| panic!("{one:?}"))).collect();
        assert!(levels.is_sorted() && levels[1..6].windows(2).all(|two| two[0] < two[1]), "{levels:?}");
        let none: [&[&str]; 8] = [
            &["Directory /srv/ab"],
            &["Directory /srv/?/b"],
            &["Directory /srv/b", "Files *.html"],
            &["Files *.php"],
            &["FilesMatch ^\\.ht"],
            &["Location /admin"],
            &["LimitExcept GET"],
            &["If -f"],
        ];
        for one in none {
            assert_eq!(near(one), None, "{one:?}");
        }
        assert!(is_below("/srv/*", "/srv/a/b") && !is_below("/srv/*/*", "/srv/a") && is_below("/", "/srv"));
    }
}
