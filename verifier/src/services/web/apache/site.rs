//! What comes of a request to one host of Apache: files or something else, who gets them, and what is kept closed.

use super::{
    super::{Content, Refusal, Site, configured::Status, is_plain},
    text::Directive,
};

pub(super) fn is_in(directive: &Directive, section: &str) -> bool {
    directive.within.iter().any(|within| within[0].eq_ignore_ascii_case(section))
}

pub(super) fn site((address, port): &(String, u16), own: &[&Directive], outside: &[&Directive]) -> Site {
    let top = |name: &str| {
        let find = |from: &[&Directive]| {
            from.iter()
                .find(|directive| directive.is(name) && !is_in(directive, "Directory") && !is_in(directive, "Location"))
                .map(|directive| directive.arg(0).to_owned())
        };
        find(own).or_else(|| find(outside))
    };
    let root = top("DocumentRoot");
    let is_passed_on = own.iter().any(|directive| takes_elsewhere(directive));
    let every: Vec<&Directive> = own.iter().chain(outside).copied().collect();
    // Whoever is sent elsewhere is so before anybody looks who may read.
    let closed = every.iter().filter(|_| !is_passed_on).filter_map(|directive| closed(directive, root.as_deref()));
    let mut restricted: Vec<String> = closed.collect();
    restricted.sort();
    restricted.dedup();
    let content = match root {
        Some(root)
            if !is_passed_on
                && !restricted.iter().any(|path| path == "/")
                && !is_limited(&every, &root)
                && is_plain(&root) =>
        {
            Content::Files(root)
        }
        _ => Content::Any,
    };
    let tls = own.iter().any(|directive| directive.is("SSLEngine") && directive.arg(0).eq_ignore_ascii_case("on"));
    let name = own.iter().find(|directive| directive.is("ServerName")).map(|directive| directive.arg(0).to_owned());
    let name = name.map(|name| {
        let name = name.split_once("://").map_or(name.as_str(), |(_, name)| name);
        name.split(':').next().unwrap_or_default().to_ascii_lowercase()
    });
    let name = name.filter(|name| !name.contains(['*', '$']) && !name.is_empty());
    // One that leads elsewhere, or to a program, may answer as an open page does.
    let is_masked = every.iter().any(|one| {
        one.is("ErrorDocument")
            && ["401", "403"].contains(&one.arg(0))
            && (one.arg(1).starts_with('/') || one.arg(1).contains("://"))
    });
    Site {
        aliases: aliases(own, name.as_deref()),
        masked: if is_masked { restricted.clone() } else { vec![] },
        answers: status(own),
        limits: vec![],
        port: *port,
        address: address.clone(),
        is_of_six: false,
        tls,
        name,
        content,
        // Who shows no certificate gets no further than the handshake.
        refusal: top("SSLVerifyClient")
            .is_some_and(|who| tls && who.eq_ignore_ascii_case("require"))
            .then_some(Refusal::Handshake),
        restricted,
        certificate: top("SSLCertificateFile"),
        wants_proxy: own.iter().any(|one| one.is("RemoteIPProxyProtocol") && one.arg(0).eq_ignore_ascii_case("on")),
        is_plain_h2: false,
    }
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
fn status(own: &[&Directive]) -> Option<Status> {
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
            || one.within.iter().any(|section| section[0] != "VirtualHost");
        code.filter(is_error).map(|code| Status { code, is_perhaps: is_conditional || !is_whole })
    })
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
/// What does so for all below a path.
const BELOW: [&str; 7] =
    ["ProxyPass", "Redirect", "RedirectPermanent", "RedirectTemp", "Alias", "ScriptAlias", "WSGIScriptAlias"];

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
    is_one(&ALWAYS) || (is_one(&BELOW) && (is_whole || in_root || is_conditional)) || is_conditional
}

/// Whether not everybody may read what lies in the document root: by address, by certificate, or by anything else than being somebody.
fn is_limited(all: &[&Directive], root: &str) -> bool {
    let asks_who = all.iter().any(|one| {
        one.is("SSLVerifyClient")
            && !one.arg(0).eq_ignore_ascii_case("none")
            && !is_in(one, "Location")
            && !is_in(one, "Directory")
    });
    let root = root.trim_end_matches('/');
    // How near a section is to the document root: one of the path of all is the last word.
    let near = |directive: &Directive| -> Option<usize> {
        let section =
            directive.within.iter().rfind(|section| !section[0].starts_with("Require") && section[0] != "VirtualHost");
        let Some(section) = section else { return Some(0) };
        let of = section.get(1).map(|path| path.trim_end_matches('/'))?;
        match section[0].to_ascii_lowercase().as_str() {
            "location" if of.is_empty() => Some(usize::MAX),
            "directory" if root == of || of.is_empty() || root.starts_with(&format!("{of}/")) => Some(of.len() + 1),
            _ => None,
        }
    };
    let rules: Vec<(usize, &&Directive)> = all
        .iter()
        .filter(|one| ["Require", "Deny", "Allow"].iter().any(|name| one.is(name)))
        .filter_map(|one| Some((near(one)?, one)))
        .collect();
    let nearest = rules.iter().map(|(near, _)| *near).max();
    let says = |one: &Directive| one.words[1..].join(" ").to_ascii_lowercase();
    let is_open = |one: &Directive| match one.words[0].to_ascii_lowercase().as_str() {
        "require" => says(one) == "all granted",
        "allow" => says(one) == "from all",
        _ => false,
    };
    asks_who || rules.iter().any(|(near, one)| Some(*near) == nearest && !is_open(one))
}

/// The path that this directive keeps closed to who has no password, where one can be told.
fn closed(directive: &Directive, root: Option<&str>) -> Option<String> {
    let args = (directive.arg(0).to_ascii_lowercase(), directive.arg(1).to_ascii_lowercase());
    let wants = matches!((args.0.as_str(), args.1.as_str()), ("valid-user" | "user" | "group", _) | ("all", "denied"));
    if !directive.is("Require") || !wants || is_in(directive, "RequireAny") || is_in(directive, "LimitExcept") {
        return None;
    }
    let section = directive.within.iter().rfind(|section| !section[0].starts_with("Require"))?;
    let of = section.get(1).map(|path| path.trim_end_matches('/'))?;
    match section[0].to_ascii_lowercase().as_str() {
        "location" if of.is_empty() => Some("/".into()),
        "location" if of.starts_with('/') => Some(of.to_owned()),
        // What Debian's own configuration has.
        "filesmatch" if of == r"^\.ht" => Some("/.htaccess".into()),
        "directory" => match of.strip_prefix(root?.trim_end_matches('/'))? {
            "" => Some("/".into()),
            below if below.starts_with('/') => Some(format!("{below}/")),
            _ => None,
        },
        _ => None,
    }
}
