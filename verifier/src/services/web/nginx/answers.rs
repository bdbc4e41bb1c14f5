//! What a server of nginx answers by itself: under which conditions, whoever asks too often, and in place of a refusal.

use super::{
    super::{
        configured::Status,
        exercise::{BROWSER, LANGUAGE},
    },
    location::{chosen, find, has},
    text::Directive,
};
use regex_lite::RegexBuilder;

/// What is known of a request that is made to exercise a server.
pub(super) struct Request<'r> {
    pub(super) tls: bool,
    pub(super) name: Option<&'r str>,
}

impl Request<'_> {
    /// Whether a condition holds, as in `if ($request_method !~ GET)`; `None` where that depends on something that is not known here.
    pub(super) fn holds(&self, condition: &Directive) -> Option<bool> {
        let words = condition.args.join(" ");
        let words = words.trim().strip_prefix('(')?.strip_suffix(')')?.trim();
        let (variable, rest) = words.split_once(' ').unwrap_or((words, ""));
        let value = self.value(variable.strip_prefix('$')?)?;
        let (how, what) = rest.trim().split_once(' ').unwrap_or((rest.trim(), ""));
        let what = what.trim();
        let fits = |ignores_case: bool| {
            let pattern = RegexBuilder::new(what).case_insensitive(ignores_case).size_limit(1 << 20).build();
            pattern.ok().map(|pattern| pattern.is_match(value))
        };
        match how {
            "" => Some(!value.is_empty() && value != "0"),
            "=" if !what.contains('$') => Some(value == what),
            "!=" if !what.contains('$') => Some(value != what),
            "~" => fits(false),
            "~*" => fits(true),
            "!~" => fits(false).map(|fits| !fits),
            "!~*" => fits(true).map(|fits| !fits),
            _ => None,
        }
    }

    fn value(&self, variable: &str) -> Option<&str> {
        match variable {
            "request_method" => Some("GET"),
            "http_user_agent" => Some(BROWSER),
            "http_accept_language" => Some(LANGUAGE),
            "host" => self.name,
            "scheme" => Some(if self.tls { "https" } else { "http" }),
            "https" => Some(if self.tls { "on" } else { "" }),
            "http_referer" | "http_cookie" | "http_range" | "args" | "query_string" | "is_args" => Some(""),
            _ => (variable.starts_with("arg_") || variable.starts_with("cookie_")).then_some(""),
        }
    }

    /// What `/` answers in any case, where that is an error of the server: the server's own word comes before its locations'.
    pub(super) fn status(&self, own: &[Directive]) -> Option<Status> {
        let root = chosen(own, "/");
        let blocks = [own].into_iter().chain(root.last().map(|location| &location.block[..]));
        blocks.flatten().find_map(|directive| match directive.name.as_str() {
            "return" => code(&directive.args).map(|code| Status { code, is_perhaps: false }),
            "if" => {
                let code = find(&directive.block, "return").find_map(|one| code(&one.args))?;
                let holds = self.holds(directive);
                (holds != Some(false)).then_some(Status { code, is_perhaps: holds.is_none() })
            }
            _ => None,
        })
    }
}

/// A status of five hundred and more.
fn code(args: &[String]) -> Option<u16> {
    args.first()?.parse().ok().filter(|code| (500..600).contains(code))
}

/// How whoever asks too often, or too much at a time, is turned away, anywhere in a server.
pub(super) fn limits(blocks: &[&[Directive]]) -> Vec<u16> {
    let mut all = vec![];
    for (limit, status) in [("limit_req", "limit_req_status"), ("limit_conn", "limit_conn_status")] {
        if !blocks.iter().any(|block| has_below(block, limit)) {
            continue;
        }
        let mut said = vec![];
        blocks.iter().for_each(|block| statuses(block, status, &mut said));
        all.extend(if said.is_empty() { vec![503] } else { said });
    }
    all.sort_unstable();
    all.dedup();
    all
}

/// Whether a block has a directive, or a location within it.
fn has_below(block: &[Directive], name: &str) -> bool {
    has(block, &[name]) || find(block, "location").any(|location| has_below(&location.block, name))
}

fn statuses(block: &[Directive], name: &str, all: &mut Vec<u16>) {
    all.extend(find(block, name).filter_map(|one| one.args.first()?.parse::<u16>().ok()));
    find(block, "location").for_each(|location| statuses(&location.block, name, all));
}

/// Whether an error page answers with another status than the refusal's, for a path of this server.
pub(super) fn is_masked(http: &[Directive], own: &[Directive], path: &str) -> bool {
    let locations = chosen(own, path);
    let mut blocks = [http, own].into_iter().chain(locations.iter().map(|location| &location.block[..]));
    // Of the innermost block that has any.
    let Some(block) = blocks.rfind(|block| has(block, &["error_page"])) else { return false };
    find(block, "error_page").any(|page| {
        let Some((to, codes)) = page.args.split_last() else { return false };
        let is_refusal = codes.iter().any(|code| ["401", "403"].contains(&code.as_str()));
        let changes = codes.iter().any(|code| code.strip_prefix('=').is_some_and(|code| !code.starts_with('4')));
        is_refusal && (changes || to.contains("://") || to.starts_with('$') || answers_itself(own, to))
    })
}

/// Whether what an error page leads to says itself what is answered.
fn answers_itself(own: &[Directive], to: &str) -> bool {
    let does = |block: &[Directive]| has(block, &["return", "if", "rewrite"]);
    match to.starts_with('@') {
        true => find(own, "location").any(|location| location.args == [to] && does(&location.block)),
        false => chosen(own, to).last().is_some_and(|location| does(&location.block)),
    }
}

/// Whether a location is one path alone: nothing lies beside it that is closed as well.
pub(super) fn is_exact(own: &[Directive], path: &str) -> bool {
    chosen(own, path).last().is_some_and(|one| one.args.first().is_some_and(|how| how == "="))
}
