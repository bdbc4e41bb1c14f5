//! Variables: `%Lu` and `%{rip}` of 2.3 are `%{user | lower}` and `%{remote_ip}` in 2.4.
//!
//! 2.4 takes what it does not know for text, or finds it missing when somebody logs in. So what has no certain counterpart is refused here.

/// What the variables of a setting are about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Scope {
    /// Whose mail it is.
    Mail,
    /// The same in a shared namespace, where `%%u` is the owner of a mailbox.
    Shared,
    /// The prefix of a shared namespace.
    Prefix,
    /// Who logs in.
    Auth,
    Login,
    LoginFormat,
    Uidl,
    Deliver,
    ImapLogout,
    Pop3Logout,
    Rejection,
    /// What copies mails to another server.
    Dsync,
}

use Scope::{Auth, Deliver, Dsync, ImapLogout, Login, LoginFormat, Mail, Pop3Logout, Prefix, Rejection, Shared, Uidl};

const USER: [(&str, &str); 3] = [("u", "user"), ("n", "user | username"), ("d", "user | domain")];
const LONG_USER: [(&str, &str); 3] = [("user", "user"), ("username", "user | username"), ("domain", "user | domain")];
const CONNECTION: [(&str, &str); 14] = [
    ("l", "local_ip"),
    ("r", "remote_ip"),
    ("a", "local_port"),
    ("b", "remote_port"),
    ("lip", "local_ip"),
    ("rip", "remote_ip"),
    ("lport", "local_port"),
    ("rport", "remote_port"),
    ("real_lip", "real_local_ip"),
    ("real_rip", "real_remote_ip"),
    ("real_lport", "real_local_port"),
    ("real_rport", "real_remote_port"),
    ("session", "session"),
    ("local_name", "local_name"),
];
const NAMES: [(&str, &str); 6] = [
    ("auth_user", "auth_user"),
    ("auth_username", "auth_user | username"),
    ("auth_domain", "auth_user | domain"),
    ("orig_user", "original_user"),
    ("orig_username", "original_user | username"),
    ("orig_domain", "original_user | domain"),
];
const OF_MAIL: [(&str, &str); 8] = [
    ("h", "home"),
    ("home", "home"),
    ("s", "service"),
    ("service", "service"),
    ("p", "process:pid"),
    ("pid", "process:pid"),
    ("hostname", "hostname"),
    ("i", "process:uid"),
];
const OF_LOGIN: [(&str, &str); 11] = [
    ("s", "protocol"),
    ("service", "protocol"),
    ("m", "mechanism"),
    ("mech", "mechanism"),
    ("c", "secured"),
    ("secured", "secured"),
    ("k", "ssl_security"),
    ("ssl_security", "ssl_security"),
    ("e", "mail_pid"),
    ("mail_pid", "mail_pid"),
    ("listener", "listener"),
];
const OF_AUTH: [(&str, &str); 14] = [
    ("s", "protocol"),
    ("service", "protocol"),
    ("m", "mechanism"),
    ("mech", "mechanism"),
    ("w", "password"),
    ("password", "password"),
    ("c", "secured"),
    ("secured", "secured"),
    ("cert", "cert"),
    ("login_user", "login_user"),
    ("master_user", "master_user"),
    ("domain_first", "domain_first"),
    ("domain_last", "domain_last"),
    ("client_id", "client_id"),
];
const OF_UIDL: [(&str, &str); 5] = [("u", "uid"), ("v", "uidvalidity"), ("m", "md5"), ("f", "filename"), ("g", "guid")];
const OF_DELIVER: [(&str, &str); 14] = [
    ("m", "msgid"),
    ("msgid", "msgid"),
    ("$", "message"),
    ("s", "subject"),
    ("subject", "subject"),
    ("f", "from"),
    ("from", "from"),
    ("p", "size"),
    ("size", "size"),
    ("w", "vsize"),
    ("vsize", "vsize"),
    ("from_envelope", "from_envelope"),
    ("to_envelope", "to_envelope"),
    ("delivery_time", "delivery_time"),
];
const OF_IMAP: [(&str, &str); 13] = [
    ("i", "input"),
    ("input", "input"),
    ("o", "output"),
    ("output", "output"),
    ("deleted", "deleted"),
    ("expunged", "expunged"),
    ("trashed", "trashed"),
    ("autoexpunged", "autoexpunged"),
    ("appended", "appended"),
    ("fetch_hdr_count", "fetch_hdr_count"),
    ("fetch_hdr_bytes", "fetch_hdr_bytes"),
    ("fetch_body_count", "fetch_body_count"),
    ("fetch_body_bytes", "fetch_body_bytes"),
];
const OF_POP3: [(&str, &str); 12] = [
    ("i", "input"),
    ("input", "input"),
    ("o", "output"),
    ("output", "output"),
    ("t", "top_count"),
    ("p", "top_bytes"),
    ("r", "retr_count"),
    ("b", "retr_bytes"),
    ("d", "deleted_count"),
    ("deleted_bytes", "deleted_bytes"),
    ("m", "message_count"),
    ("s", "message_bytes"),
];
const OF_REJECTION: [(&str, &str); 4] = [("t", "to"), ("r", "reason"), ("s", "subject"), ("n", "literal('\\r\\n')")];
const OWNER: [(char, &str, &str); 4] = [
    ('u', "%{owner_user}", "$user"),
    ('n', "%{owner_user | username}", "$username"),
    ('d', "%{owner_user | domain}", "$domain"),
    ('h', "%{owner_home}", ""),
];

/// The variables of a scope: in 2.3 and in 2.4.
fn variables(scope: Scope) -> Vec<(&'static str, &'static str)> {
    let parts: &[&[(&str, &str)]] = match scope {
        Mail | Shared | Prefix => &[&USER, &OF_MAIL, &LONG_USER, &CONNECTION, &NAMES],
        Auth => &[&USER, &OF_AUTH, &LONG_USER, &CONNECTION, &NAMES],
        Login => &[&USER, &OF_LOGIN, &LONG_USER, &CONNECTION, &NAMES],
        LoginFormat => &[&[("$", "message"), ("s", "elements")]],
        Uidl => &[&OF_UIDL],
        Deliver => &[&OF_DELIVER, &[("session", "session")]],
        ImapLogout => &[&OF_IMAP, &[("session", "session")]],
        Pop3Logout => &[&OF_POP3, &[("session", "session")]],
        Rejection => &[&OF_REJECTION],
        Dsync => &[&USER, &LONG_USER, &[("login", "login"), ("host", "host")]],
    };
    parts.concat()
}

/// Names with a colon that both versions write alike.
fn is_field(name: &str) -> bool {
    ["userdb:", "passdb:", "env:", "ldap:"].iter().any(|begin| name.starts_with(begin))
}

pub(super) fn newer(text: &str, scope: Scope) -> Option<String> {
    let variables = variables(scope);
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('%') {
        out.push_str(&rest[..at]);
        rest = &rest[at + 1..];
        if let Some(after) = rest.strip_prefix('%') {
            let owner = OWNER.iter().find(|(c, ..)| after.starts_with(*c));
            rest = after;
            match (scope, owner) {
                (Shared, Some((_, owner, _))) | (Prefix, Some((_, _, owner))) => {
                    if owner.is_empty() {
                        return None;
                    }
                    out.push_str(owner);
                    rest = &after[1..];
                }
                _ => out.push_str(if after.starts_with('{') { "%%" } else { "%" }),
            }
            continue;
        }
        let end = rest.find(|c: char| !(c.is_ascii_uppercase() || c.is_ascii_digit() || c == '.'))?;
        let (modifiers, after) = rest.split_at(end);
        let (name, after) = match after.strip_prefix('{') {
            Some(long) => long.split_once('}')?,
            None => after.split_at(after.chars().next()?.len_utf8()),
        };
        rest = after;
        let is_long = name.len() > 1;
        let base = match variables.iter().find(|(older, _)| *older == name) {
            Some((_, newer)) => *newer,
            None if is_long && is_field(name) => name,
            None => return None,
        };
        out.push_str(&format!("%{{{base}{}}}", filters(modifiers, scope)?));
    }
    out.push_str(rest);
    Some(out)
}

/// `L`, `U`, `R`, `M`, `D`, a width, or the width in hexadecimal digits.
fn filters(modifiers: &str, scope: Scope) -> Option<String> {
    let digits = modifiers.find(|c: char| c.is_ascii_uppercase()).unwrap_or(modifiers.len());
    let (width, letters) = modifiers.split_at(digits);
    if scope == Uidl && letters == "X" {
        return match width.strip_prefix('0') {
            Some(width) => Some(format!(" | hex({})", width.parse::<u8>().ok()?)),
            None => width.is_empty().then(|| " | hex".to_owned()),
        };
    }
    let mut out = String::new();
    for letter in letters.chars() {
        out.push_str(match letter {
            'L' => " | lower",
            'U' => " | upper",
            'R' => " | reverse",
            'M' => " | md5 | hexlify",
            'D' => " | ldap_dn",
            _ => return None,
        });
    }
    if !width.is_empty() {
        let (offset, length) = width.split_once('.').unwrap_or(("0", width));
        let [offset, length] = [offset, length].map(|number| number.parse::<u16>().ok());
        // A zero before a width fills up, which is another thing.
        let is_filled = width.starts_with('0') && !width.starts_with("0.");
        out.push_str(&format!(" | substr({}, {})", offset?, length.filter(|length| *length > 0 && !is_filled)?));
    }
    Some(out)
}

pub(super) fn older(text: &str, scope: Scope) -> Option<String> {
    let variables = variables(scope);
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    loop {
        if let Some(at) = rest.find(['%', '$']) {
            out.push_str(&rest[..at]);
            rest = &rest[at..];
        } else {
            out.push_str(rest);
            return Some(out);
        }
        if let Some(after) = rest.strip_prefix('$') {
            let owner = OWNER.iter().filter(|(_, _, name)| scope == Prefix && !name.is_empty());
            match owner.filter(|(_, _, name)| rest.starts_with(name)).max_by_key(|(_, _, name)| name.len()) {
                Some((c, _, name)) => {
                    out.push_str(&format!("%%{c}"));
                    rest = &rest[name.len()..];
                }
                None => {
                    out.push('$');
                    rest = after;
                }
            }
        } else if let Some(after) = rest.strip_prefix("%{") {
            let (expression, after) = after.split_once('}')?;
            out.push_str(&older_expression(expression, scope, &variables)?);
            rest = after;
        } else if rest.starts_with("%%%{") {
            return None;
        } else if let Some(after) = rest.strip_prefix("%%{") {
            out.push_str("%%{");
            rest = after;
        } else {
            out.push_str("%%");
            rest = &rest[1..];
        }
    }
}

fn older_expression(expression: &str, scope: Scope, variables: &[(&str, &str)]) -> Option<String> {
    let parts: Vec<&str> = expression.split('|').map(str::trim).collect();
    let joined = parts.join(" | ");
    if scope == Shared {
        let whole = format!("%{{{joined}}}");
        if let Some((c, ..)) = OWNER.iter().find(|(_, owner, _)| *owner == whole) {
            return Some(format!("%%{c}"));
        }
    }
    // The longest name that the expression begins with: "user | domain" before "user".
    let begins =
        |newer: &str| joined == newer || joined.strip_prefix(newer).is_some_and(|rest| rest.starts_with(" | "));
    let longest = variables.iter().filter(|(_, newer)| begins(newer)).map(|(_, newer)| newer.len()).max();
    let found = longest.and_then(|longest| variables.iter().find(|(_, newer)| newer.len() == longest && begins(newer)));
    let (name, base) = match found {
        Some((older, newer)) => (*older, *newer),
        None => (*parts.first().filter(|name| is_field(name))?, *parts.first()?),
    };
    let modifiers = modifiers(&joined[base.len()..], scope)?;
    Some(if name.len() == 1 { format!("%{modifiers}{name}") } else { format!("%{modifiers}{{{name}}}") })
}

fn modifiers(filters: &str, scope: Scope) -> Option<String> {
    let mut letters = String::new();
    let mut width = String::new();
    let mut each = filters.split('|').map(str::trim).filter(|filter| !filter.is_empty()).peekable();
    while let Some(filter) = each.next() {
        if !width.is_empty() {
            return None;
        }
        letters.push(match filter {
            "lower" => 'L',
            "upper" => 'U',
            "reverse" => 'R',
            "ldap_dn" => 'D',
            "md5" => {
                each.next_if_eq(&"hexlify");
                'M'
            }
            "hex" if scope == Uidl => 'X',
            _ => {
                let (name, arguments) = filter.strip_suffix(')')?.split_once('(')?;
                let numbers: Option<Vec<u16>> = arguments.split(',').map(|number| number.trim().parse().ok()).collect();
                match (name, numbers?.as_slice()) {
                    ("hex", [digits]) if scope == Uidl && letters.is_empty() => {
                        width = format!("0{digits}");
                        'X'
                    }
                    ("substr", [0, length]) if *length > 0 => {
                        width = length.to_string();
                        continue;
                    }
                    ("substr", [offset, length]) if *length > 0 => {
                        width = format!("{offset}.{length}");
                        continue;
                    }
                    _ => return None,
                }
            }
        });
    }
    Some(width + &letters)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_of_2_3_are_those_of_2_4_and_again() {
        for (scope, of_2_3, of_2_4) in [
            (Mail, "/var/vmail/%d/%n", "/var/vmail/%{user | domain}/%{user | username}"),
            (
                Mail,
                "%Lu %1n %2.1n %MLu %{session}",
                "%{user | lower} %{user | username | substr(0, 1)} %{user | username | substr(2, 1)} %{user | md5 | hexlify | lower} %{session}",
            ),
            (Mail, "%s(%u)<%p>: 100%%", "%{service}(%{user})<%{process:pid}>: 100%"),
            (Mail, "%%{x} $1", "%%{x} $1"),
            (Shared, "maildir:%%h/M:INDEX=~/s/%%u", "maildir:%{owner_home}/M:INDEX=~/s/%{owner_user}"),
            (Prefix, "shared/%%u/%%n", "shared/$user/$username"),
            (Auth, "(&(uid=%u)(d=%Ld)) %s %w", "(&(uid=%{user})(d=%{user | domain | lower})) %{protocol} %{password}"),
            (
                Login,
                "user=<%u> rip=%r %c session=<%{session}>",
                "user=<%{user}> rip=%{remote_ip} %{secured} session=<%{session}>",
            ),
            (LoginFormat, "%$: %s", "%{message}: %{elements}"),
            (Uidl, "%08Xu%08Xv", "%{uid | hex(8)}%{uidvalidity | hex(8)}"),
            (Pop3Logout, "top=%t/%p, %{deleted_bytes}", "top=%{top_count}/%{top_bytes}, %{deleted_bytes}"),
        ] {
            assert_eq!(newer(of_2_3, scope).as_deref(), Some(of_2_4));
            assert_eq!(older(of_2_4, scope).as_deref(), Some(of_2_3));
        }
        assert_eq!(older("%{user|username|lower}", Auth).as_deref(), Some("%Ln"));
        assert_eq!(
            newer("%Hu", Mail).or(newer("%2.256Nd", Mail)).or(newer("%{if;a;==;b;c}", Mail)).or(newer("a%", Mail)),
            None
        );
        for text in ["%{user | default('x')}", "%{foo}", "%{user", "%{port + 1}", "%%%{a}"] {
            assert_eq!(older(text, Mail), None, "{text}");
        }
    }
}
