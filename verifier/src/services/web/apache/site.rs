//! What comes of a request to one host of Apache: files or something else, who gets them, and what is kept closed.

use super::{
    super::{Content, PAGE, Refusal, Site, configured::Status, is_plain},
    htaccess::overrides,
    rewrite::{Request, leads_away, may_fit},
    scope::{is_below, is_for_get, is_group, near},
    text::{Config, Directive},
};
use crate::{service::Tree, services::found::Finding};

pub(super) fn is_in(directive: &Directive, section: &str) -> bool {
    directive.within.iter().any(|within| within[0].eq_ignore_ascii_case(section))
}

/// A host, with what its document root says of itself.
pub(super) struct Host<'c> {
    own: Vec<&'c Directive>,
    outside: &'c [&'c Directive],
    root: Option<String>,
    /// What its access files say; `None` where that cannot be read.
    overrides: Option<Vec<Directive>>,
}

impl<'c> Host<'c> {
    pub(super) fn read(
        tree: &Tree,
        config: &Config,
        own: Vec<&'c Directive>,
        outside: &'c [&'c Directive],
        finding: &mut Finding,
    ) -> Host<'c> {
        let root = top(&own, outside, "DocumentRoot");
        let overrides = match root.as_deref().filter(|root| is_plain(root)) {
            None => Some(vec![]),
            Some(root) => match overrides(tree, config, &own, outside, root) {
                Ok(overrides) => Some(overrides),
                Err(error) => {
                    let why = atlas_cli::in_one_line(&error);
                    finding.note(format!("no test page is asked for in the document root {root}: {why}"));
                    None
                }
            },
        };
        Host { own, outside, root, overrides }
    }

    /// `is_https`: that this is TLS stands where it listens.
    pub(super) fn site(&self, (address, port): &(String, u16), is_https: bool, finding: &mut Finding) -> Site {
        let own = &self.own[..];
        let overrides = self.overrides.as_deref().unwrap_or_default();
        let every: Vec<&Directive> = own.iter().copied().chain(overrides).chain(self.outside.iter().copied()).collect();
        let engine = own.iter().rfind(|directive| directive.is("SSLEngine")).map(|one| one.arg(0).to_ascii_lowercase());
        let has_certificate = || top(own, self.outside, "SSLCertificateFile").is_some();
        let tls = engine.map_or_else(|| is_https && has_certificate(), |engine| engine == "on");
        let name = name(own);
        let is_passed_on = own.iter().any(|directive| takes_elsewhere(directive));
        let root = self.root.as_deref().unwrap_or_default();
        // Whoever is sent elsewhere is so before anybody looks who may read.
        let closed = |all: &[&Directive]| {
            let mut closed: Vec<String> =
                all.iter().filter(|_| !is_passed_on).filter_map(|one| closed(one, root, all)).collect();
            closed.sort();
            closed.dedup();
            closed
        };
        let restricted = closed(&every);
        let is_open = |all: &[&Directive]| {
            !is_passed_on && !closed(all).iter().any(|path| path == "/") && !is_limited(all, root, tls)
        };
        let request = Request { tls, name: name.as_deref(), port: *port, root };
        let is_plain = is_plain(root) && self.overrides.is_some();
        let is_overridden = is_plain && (!is_open(&every) || overrides_page(overrides, request));
        let content =
            if is_plain && is_open(&every) && !is_overridden { Content::Files(root.to_owned()) } else { Content::Any };
        if is_overridden && !overrides.is_empty() && is_open(&[own, self.outside].concat()) {
            finding.note(format!(
                "no test page is asked for in the document root {root}: by its access file (.htaccess), another \
                answer may come"
            ));
        }
        // Such a rule may be of other paths alone: it is not judged, and hides a document root that is gone.
        let may_be_of_others = |one: &&Directive| RULES.iter().any(|rule| one.is(rule));
        let is_sent_whole = own.iter().any(|one| takes_elsewhere(one) && !may_be_of_others(one));
        if let Some(rule) = own.iter().copied().find(may_be_of_others).filter(|_| is_plain && !is_sent_whole) {
            finding.note(format!(
                "no test page is asked for in the document root {root}: by {} in its host, another answer may come",
                rule.words[0]
            ));
        }
        if is_plain && !is_passed_on && is_forgotten(&every, root) {
            finding.note(format!(
                "nobody may read the document root {root}: what is said for / counts there (Require all denied), until a \
                 <Directory {root}> says Require all granted"
            ));
        }
        // One that leads elsewhere, or to a program, may answer as an open page does.
        let is_masked = every.iter().any(|one| {
            one.is("ErrorDocument")
                && ["401", "403"].contains(&one.arg(0))
                && (one.arg(1).starts_with('/') || one.arg(1).contains("://"))
        });
        let own_and_overrides: Vec<&Directive> = own.iter().copied().chain(overrides).collect();
        let refusal = match who_wants_certificates(&every, root).filter(|_| tls) {
            // Who shows no certificate gets no further than the handshake.
            Some(0) => Some(Refusal::Handshake),
            // Of the host, some are sent elsewhere before.
            Some(_) if is_passed_on => Some(Refusal::Perhaps),
            Some(_) => Some(Refusal::Certificate),
            None => None,
        };
        Site {
            aliases: aliases(own, name.as_deref()),
            masked: if is_masked { restricted.clone() } else { vec![] },
            answers: status(&own_and_overrides, root),
            limits: vec![],
            filter: filter(&every),
            port: *port,
            address: address.clone(),
            is_of_six: false,
            tls,
            name,
            content,
            refusal,
            restricted,
            certificate: top(own, self.outside, "SSLCertificateFile"),
            has_several_keys: own.iter().filter(|one| one.is("SSLCertificateFile")).count() > 1,
            wants_proxy: own.iter().any(|one| one.is("RemoteIPProxyProtocol") && one.arg(0).eq_ignore_ascii_case("on")),
            is_plain_h2: false,
        }
    }
}

/// Whether what nobody may do in the whole tree is all that is said of a document root.
fn is_forgotten(every: &[&Directive], root: &str) -> bool {
    let said = every.iter().filter(|one| ["Require", "Allow", "Deny", "Satisfy"].iter().any(|name| one.is(name)));
    let mut said = said.filter(|one| near(one, root).is_some()).peekable();
    let is_of_all = |one: &Directive| {
        let section = one.within.iter().rfind(|section| !is_group(section));
        section.is_some_and(|section| {
            section[0].eq_ignore_ascii_case("Directory") && section.get(1).is_some_and(|of| of == "/")
        })
    };
    said.peek().is_some()
        && said.all(|one| {
            one.is("Require") && one.words[1..].join(" ").eq_ignore_ascii_case("all denied") && is_of_all(one)
        })
}

/// The statuses of filters that look at how often somebody asks, and with which words.
fn filter(every: &[&Directive]) -> Vec<u16> {
    let value = |name: &str| every.iter().rfind(|one| one.is(name)).map(|one| one.arg(0));
    let mut codes = vec![];
    if value("DOSPageCount").or(value("DOSSiteCount")).is_some() {
        codes.push(value("DOSHTTPStatus").and_then(|code| code.parse().ok()).unwrap_or(403));
    }
    if value("SecRuleEngine").is_some_and(|how| how.eq_ignore_ascii_case("on")) {
        let rules =
            every.iter().filter(|one| ["SecRule", "SecAction", "SecDefaultAction"].iter().any(|name| one.is(name)));
        let said = rules.filter_map(|rule| rule.words.last()).filter(|actions| {
            actions.split(',').any(|action| ["deny", "block", "drop"].contains(&action.trim().trim_matches('"')))
        });
        for actions in said {
            let status = actions
                .split(',')
                .find_map(|action| action.trim().trim_matches('"').strip_prefix("status:")?.parse().ok());
            codes.push(status.unwrap_or(403));
        }
    }
    codes.sort_unstable();
    codes.dedup();
    codes
}

/// What a host says of itself, or the server of all hosts.
fn top(own: &[&Directive], outside: &[&Directive], name: &str) -> Option<String> {
    let find = |from: &[&Directive]| {
        from.iter()
            .find(|directive| directive.is(name) && !is_in(directive, "Directory") && !is_in(directive, "Location"))
            .map(|directive| directive.arg(0).to_owned())
    };
    find(own).or_else(|| find(outside))
}

/// The name by which a host is asked.
fn name(own: &[&Directive]) -> Option<String> {
    let name = own.iter().find(|directive| directive.is("ServerName"))?.arg(0);
    let name = name.split_once("://").map_or(name, |(_, name)| name);
    let name = name.split(':').next().unwrap_or_default().to_ascii_lowercase();
    (!name.contains(['*', '$']) && !name.is_empty()).then_some(name)
}

/// Names besides, by which clients come. What patterns stand for nobody knows.
fn aliases(own: &[&Directive], name: Option<&str>) -> Vec<String> {
    let all = own.iter().filter(|one| one.is("ServerAlias")).flat_map(|one| &one.words[1..]);
    let is_one = |other: &String| {
        let is_address = other.parse::<std::net::IpAddr>().is_ok();
        other.contains('.') && !other.contains(['*', '?', '$', '%', '_']) && !is_address && Some(&other[..]) != name
    };
    let mut all: Vec<String> = all.map(|other| other.to_ascii_lowercase()).filter(is_one).collect();
    all.sort();
    all.dedup();
    all
}

/// What `/` answers to everybody, where that is an error of the server: `Redirect 503 /`, `RewriteRule ^ - [R=503]`.
fn status(own: &[&Directive], root: &str) -> Option<Status> {
    let is_error = |code: &u16| (500..600).contains(code);
    let of_rule = |flags: &str| {
        let flags = flags.trim_matches(['[', ']']).split(',');
        flags.filter_map(|flag| flag.trim().split_once('=')).find_map(|(flag, code)| {
            ["r", "redirect"].contains(&flag.to_ascii_lowercase().as_str()).then(|| code.parse::<u16>().ok())?
        })
    };
    own.iter().enumerate().find_map(|(at, one)| {
        let code = if one.is("RewriteRule") {
            of_rule(one.arg(2))
        } else if one.is("Redirect") || one.is("RedirectMatch") {
            one.arg(0).parse().ok()
        } else {
            None
        };
        let before = at.checked_sub(1).map(|before| own[before]);
        let is_whole = match one.words[0].to_ascii_lowercase().as_str() {
            "redirect" => one.arg(1) == "/",
            "redirectmatch" => WHOLE.contains(&one.arg(1)),
            _ => WHOLE.contains(&one.arg(0)),
        };
        let is_conditional = before.is_some_and(|before| before.is("RewriteCond") && one.is("RewriteRule"))
            || one.within.iter().any(|section| !is_group(section) && !is_all_of(section, root));
        code.filter(is_error).map(|code| Status { code, is_perhaps: is_conditional || !is_whole })
    })
}

/// Whether a section is one of the whole document root.
fn is_all_of(section: &[String], root: &str) -> bool {
    section[0].eq_ignore_ascii_case("Directory") && section.get(1).is_some_and(|of| is_below(of, root))
}

/// Patterns of all paths.
const WHOLE: [&str; 8] = ["^", "^/", ".*", "^.*$", "^/.*", "^/.*$", "^(.*)$", "^/(.*)$"];

/// What sends requests elsewhere, whichever they are.
const ALWAYS: [&str; 11] = [
    "RewriteRule",
    "RedirectMatch",
    "ProxyPassMatch",
    "AliasMatch",
    "ScriptAliasMatch",
    "WSGIScriptAliasMatch",
    "Action",
    // What is sent is changed on its way.
    "Substitute",
    "SetOutputFilter",
    "ExtFilterDefine",
    "LuaOutputFilter",
];
/// Those of them that are for what fits a pattern, which may be no file of the document root.
const RULES: [&str; 2] = ["RewriteRule", "RedirectMatch"];
/// What does so for all below a path.
const BELOW: [&str; 7] =
    ["ProxyPass", "Redirect", "RedirectPermanent", "RedirectTemp", "Alias", "ScriptAlias", "WSGIScriptAlias"];

/// Filters that send the same in fewer bytes.
const COMPRESSED: [&str; 3] = ["DEFLATE", "BROTLI_COMPRESS", "BROTLI_COMPRESS;DEFLATE"];

/// Whether access files make something else of a request for the test page.
fn overrides_page(overrides: &[Directive], request: Request<'_>) -> bool {
    let page = format!("/{PAGE}");
    let changes = |one: &Directive| {
        let is_conditional = ["If", "ElseIf", "Else"].iter().any(|section| is_in(one, section));
        if is_conditional {
            return true;
        }
        match one.words[0].to_ascii_lowercase().as_str() {
            _ if near(one, request.root).is_none() => false,
            "rewriterule" => false,
            // A status may stand before the pattern.
            "redirectmatch" => {
                may_fit(one.arg(usize::from(!one.arg(0).starts_with(['^', '/', '(', '.', '\\']))), &page)
            }
            "redirect" | "redirectpermanent" | "redirecttemp" => (0..2).any(|at| is_below(one.arg(at), &page)),
            "sethandler" => {
                let handler = one.arg(0).to_ascii_lowercase();
                !["none", "default-handler"].contains(&handler.as_str()) && !handler.contains("php")
            }
            _ => takes_elsewhere(one),
        }
    };
    overrides.iter().any(changes) || leads_away(overrides, request)
}

/// How near the section is that lets nobody in without a certificate, where one does; 0 is the host itself.
fn who_wants_certificates(all: &[&Directive], root: &str) -> Option<usize> {
    let said = || all.iter().filter(|one| one.is("SSLVerifyClient")).filter_map(|one| Some((near(one, root)?, one)));
    let wants = |one: &Directive| one.arg(0).eq_ignore_ascii_case("require");
    // The host itself asks before it knows what for, and its own word stands before that of all.
    if said().find(|(near, _)| *near == 0).is_some_and(|(_, one)| wants(one)) {
        return Some(0);
    }
    said().max_by_key(|(near, _)| *near).filter(|(near, one)| *near > 0 && wants(one)).map(|(near, _)| near)
}

/// Whether requests for files of the document root may be answered by something else.
fn takes_elsewhere(directive: &Directive) -> bool {
    let is_whole = (0..2).any(|index| directive.arg(index) == "/");
    // Within <Location /> the path is left out.
    let in_root = directive
        .within
        .iter()
        .any(|section| section[0].eq_ignore_ascii_case("Location") && section.get(1).is_some_and(|path| path == "/"));
    let is_conditional = ["If", "ElseIf", "Else"].iter().any(|section| is_in(directive, section));
    let is_one = |names: &[&str]| names.iter().any(|name| directive.is(name));
    // Who does not ask for it gets nothing compressed.
    let compresses = directive.is("SetOutputFilter") && COMPRESSED.contains(&directive.arg(0));
    (is_one(&ALWAYS) && !compresses) || (is_one(&BELOW) && (is_whole || in_root || is_conditional)) || is_conditional
}

/// Whether not everybody may read what lies in the document root: by address, by certificate, or by anything else than being somebody.
fn is_limited(all: &[&Directive], root: &str, tls: bool) -> bool {
    let asks = all.iter().filter(|one| near(one, root).is_some()).any(|one| {
        let methods = || one.words[1..].iter().map(|method| method.to_ascii_uppercase());
        (one.is("AllowMethods") && !methods().any(|method| ["GET", "RESET"].contains(&method.as_str())))
            || (one.is("SSLVerifyClient") && !one.arg(0).eq_ignore_ascii_case("none"))
            || one.is("SSLRequire")
            || (one.is("SSLRequireSSL") && !tls)
    });
    let rules: Vec<(usize, &&Directive)> = all
        .iter()
        .filter(|one| ["Require", "Deny", "Allow"].iter().any(|name| one.is(name)))
        .filter_map(|one| Some((near(one, root)?, one)))
        .collect();
    let nearest = rules.iter().map(|(near, _)| *near).max();
    let says = |one: &Directive| one.words[1..].join(" ").to_ascii_lowercase();
    let is_open = |one: &Directive| match one.words[0].to_ascii_lowercase().as_str() {
        "require" => says(one) == "all granted",
        "allow" => says(one) == "from all",
        _ => false,
    };
    asks || rules.iter().any(|(near, one)| Some(*near) == nearest && !is_open(one))
}

/// The path that this directive keeps closed to who has no password, where one can be told.
fn closed(directive: &Directive, root: &str, all: &[&Directive]) -> Option<String> {
    if !directive.is("Require")
        || !wants(directive)
        || is_in(directive, "RequireAny")
        || is_in(directive, "LimitExcept")
    {
        return None;
    }
    // One of several is enough, unless a section says that all are needed. Who shows no certificate may get no answer.
    let beside = |one: &&&Directive| one.within == directive.within;
    let is_all = directive.within.last().is_some_and(|section| section[0].eq_ignore_ascii_case("RequireAll"));
    let is_one_of = !is_all && all.iter().filter(beside).any(|one| one.is("Require") && !wants(one));
    // Whoever logs in by a form, or elsewhere, is sent there.
    let is_basic = |how: &str| ["basic", "digest", "none"].contains(&how.to_ascii_lowercase().as_str());
    let is_other = |one: &Directive| {
        one.is("SSLVerifyClient")
            || (one.is("Satisfy") && one.arg(0) == "any")
            || (one.is("AuthType") && !is_basic(one.arg(0)))
    };
    if is_one_of || all.iter().filter(beside).any(|one| is_other(one)) {
        return None;
    }
    let section = directive.within.iter().rfind(|section| !is_group(section) && !is_for_get(section))?;
    let of = section.get(1).map(|path| path.trim_end_matches('/'))?;
    let path = match section[0].to_ascii_lowercase().as_str() {
        "location" if of.is_empty() => "/".into(),
        "location" if of.starts_with('/') => of.to_owned(),
        "directory" if root.starts_with('/') => match of.strip_prefix(root.trim_end_matches('/'))? {
            "" => "/".into(),
            below if below.starts_with('/') => format!("{below}/"),
            _ => return None,
        },
        _ => return None,
    };
    // Of several words on the whole site the nearest counts.
    let requires = all.iter().filter(|one| one.is("Require"));
    let is_last = || requires.filter_map(|one| near(one, root)).max() == near(directive, root);
    (path != "/" || is_last()).then_some(path)
}

/// Whether a `Require` lets nobody in, or nobody without a password.
fn wants(require: &Directive) -> bool {
    let args = (require.arg(0).to_ascii_lowercase(), require.arg(1).to_ascii_lowercase());
    matches!((args.0.as_str(), args.1.as_str()), ("valid-user" | "user" | "group", _) | ("all", "denied"))
}
