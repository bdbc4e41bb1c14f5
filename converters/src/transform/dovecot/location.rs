//! `mail_location = maildir:~/Maildir:INDEX=/x` of 2.3, which is a setting for each part in 2.4: `mail_driver`, `mail_path`, `mail_index_path` …

use super::variables::{self, Scope};

/// Parts with a value; and the setting each is.
const PARTS: [(&str, &str); 13] = [
    ("INBOX", "mail_inbox_path"),
    ("INDEX", "mail_index_path"),
    ("INDEXPVT", "mail_index_private_path"),
    ("CONTROL", "mail_control_path"),
    ("ALT", "mail_alt_path"),
    ("VOLATILEDIR", "mail_volatile_path"),
    ("LAYOUT", "mailbox_list_layout"),
    ("SUBSCRIPTIONS", "mailbox_subscriptions_filename"),
    ("MAILBOXDIR", "mailbox_root_directory_name"),
    ("DIRNAME", "mailbox_directory_name"),
    ("FULLDIRNAME", "mailbox_directory_name"),
    ("BROKENCHAR", "mailbox_list_visible_escape_char"),
    ("LISTINDEX", "mailbox_list_index_prefix"),
];
/// Parts that are there or not.
const FLAGS: [(&str, &str); 3] = [
    ("UTF-8", "mailbox_list_utf8"),
    ("ITERINDEX", "mailbox_list_iter_from_index_dir"),
    ("NO-NOSELECT", "mailbox_list_drop_noselect"),
];
const DRIVERS: [&str; 5] = ["maildir", "mbox", "sdbox", "mdbox", "dbox"];

/// The settings of 2.4 that make up a location.
pub(super) fn is_part(key: &str) -> bool {
    let is = |(_, name): &(&str, &str)| *name == key;
    ["mail_driver", "mail_path", "mailbox_directory_name_legacy"].contains(&key)
        || PARTS.iter().any(is)
        || FLAGS.iter().any(is)
}

/// The settings of 2.4 for a location of 2.3.
pub(super) fn split(location: &str, scope: Scope) -> Option<Vec<(&'static str, String)>> {
    let mut parts = parts(location).into_iter();
    let name = parts.next()?;
    let driver = *DRIVERS.iter().find(|driver| **driver == name)?;
    let path = parts.next().filter(|path| !path.is_empty())?;
    let mut found = vec![("mail_driver", driver.to_owned()), ("mail_path", variables::newer(path, scope)?)];
    let mut has_maildir_layout = driver == "maildir";
    let mut drops = false;
    for part in parts {
        if let Some((_, key)) = FLAGS.iter().find(|(flag, _)| *flag == part) {
            drops |= part == "NO-NOSELECT";
            found.push((key, "yes".into()));
            continue;
        }
        let (name, value) = part.split_once('=')?;
        let (_, key) = PARTS.iter().find(|(part, _)| *part == name)?;
        if value.is_empty() || found.iter().any(|(there, _)| there == key) {
            return None;
        }
        if name == "LAYOUT" {
            has_maildir_layout = value.eq_ignore_ascii_case("maildir++");
        }
        found.push((key, variables::newer(value, scope)?));
        match name {
            "DIRNAME" => found.push(("mailbox_directory_name_legacy", "yes".into())),
            "FULLDIRNAME" => found.push(("mailbox_directory_name_legacy", "no".into())),
            _ => {}
        }
    }
    // 2.4 deletes mailboxes that are no more than a name of others, unless it is told to keep them as 2.3 did; Maildir++ has none.
    if !has_maildir_layout && !drops {
        found.push(("mailbox_list_drop_noselect", "no".into()));
    }
    Some(found)
}

/// What is between colons; variables may have one in their braces.
fn parts(location: &str) -> Vec<&str> {
    let mut found = Vec::new();
    let (mut begin, mut depth) = (0, 0_usize);
    for (at, c) in location.char_indices() {
        match c {
            '{' => depth += 1,
            '}' => depth = depth.saturating_sub(1),
            ':' if depth == 0 => {
                found.push(&location[begin..at]);
                begin = at + 1;
            }
            _ => {}
        }
    }
    found.push(&location[begin..]);
    found
}

/// The location of 2.3 for settings of 2.4.
pub(super) fn join(settings: &[(String, String)], scope: Scope) -> Option<String> {
    let value = |key: &str| settings.iter().rev().find(|(name, _)| name == key).map(|(_, value)| value.as_str());
    let driver = value("mail_driver").filter(|driver| DRIVERS.contains(driver))?;
    let mut out = format!("{driver}:{}", older(value("mail_path").filter(|path| !path.is_empty())?, scope)?);
    let is_full = value("mailbox_directory_name_legacy") == Some("no");
    for (name, setting) in PARTS {
        let meant = match name {
            "DIRNAME" => !is_full,
            "FULLDIRNAME" => is_full,
            _ => true,
        };
        if let Some(value) = value(setting).filter(|_| meant) {
            out.push_str(&format!(":{name}={}", older(value, scope).filter(|value| !value.is_empty())?));
        }
    }
    let has_maildir_layout =
        value("mailbox_list_layout").map_or(driver == "maildir", |layout| layout.eq_ignore_ascii_case("maildir++"));
    for (name, setting) in FLAGS {
        let usual = (name == "NO-NOSELECT" && !has_maildir_layout).then_some("yes");
        match value(setting).or(usual) {
            Some("yes") => out.push_str(&format!(":{name}")),
            Some("no") | None => {}
            Some(_) => return None,
        }
    }
    Some(out)
}

/// A colon would begin another part.
fn older(value: &str, scope: Scope) -> Option<String> {
    variables::older(value, scope).filter(|value| parts(value).len() == 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_location_is_split_and_joined_again() {
        for (location, settings) in [
            ("maildir:~/Maildir", "mail_driver=maildir mail_path=~/Maildir"),
            (
                "maildir:/var/vmail/%d/%n:INBOX=/in/%u:INDEX=/i/%u:LAYOUT=fs",
                "mail_driver=maildir mail_path=/var/vmail/%{user|domain}/%{user|username} mail_inbox_path=/in/%{user} mail_index_path=/i/%{user} \
                 mailbox_list_layout=fs mailbox_list_drop_noselect=no",
            ),
            (
                "mbox:~/mail:INBOX=/var/mail/%u",
                "mail_driver=mbox mail_path=~/mail mail_inbox_path=/var/mail/%{user} mailbox_list_drop_noselect=no",
            ),
            (
                "mdbox:~/m:ALT=/alt/%u:NO-NOSELECT",
                "mail_driver=mdbox mail_path=~/m mail_alt_path=/alt/%{user} mailbox_list_drop_noselect=yes",
            ),
        ] {
            let found = split(location, Scope::Mail).unwrap();
            let shown: Vec<String> =
                found.iter().map(|(key, value)| format!("{key}={}", value.replace(" | ", "|"))).collect();
            assert_eq!(shown.join(" "), settings);
            let found: Vec<(String, String)> = found.into_iter().map(|(key, value)| (key.to_owned(), value)).collect();
            assert_eq!(join(&found, Scope::Mail).unwrap(), location);
        }
        for location in ["", "auto", "imapc:", "maildir:", "maildir:~/M:SEPARATOR=/", "maildir:~/%Hu", "~/Maildir"] {
            assert_eq!(split(location, Scope::Mail), None, "{location}");
        }
    }
}
