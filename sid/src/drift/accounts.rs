//! What differs between two states of a file of accounts, for a person: by account, and never a secret.

use crate::accounts::Which;
use std::collections::BTreeMap;

/// At most so many accounts are named.
const NAMED: usize = 5;

/// One clause for each account or group that differs.
pub(super) fn differences(which: Which, then: &[u8], now: &[u8]) -> Vec<String> {
    let (then, now) = (table(then), table(now));
    let noun = if matches!(which, Which::Group | Which::Gshadow) { "group" } else { "account" };
    let mut told = vec![];
    for (name, fields) in &then {
        match now.get(name) {
            None => told.push(format!("{noun} {name} is gone")),
            Some(other) if other != fields => {
                told.push(format!("{noun} {name}: {}", of(which, fields, other).join(" and ")));
            }
            Some(_) => {}
        }
    }
    let new = now.keys().filter(|name| !then.contains_key(*name));
    told.extend(new.map(|name| format!("{noun} {name} is new")));
    if told.len() > NAMED {
        let more = told.len() - NAMED;
        told.truncate(NAMED);
        told.push(format!("and {more} more"));
    }
    told
}

fn table(content: &[u8]) -> BTreeMap<String, Vec<String>> {
    let text = String::from_utf8_lossy(content);
    let lines = text.lines().filter_map(|line| line.split_once(':'));
    lines.map(|(name, rest)| (shown(name), rest.split(':').map(str::to_owned).collect())).collect()
}

/// Whatever stands there is shown on terminals.
fn shown(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(64).collect()
}

/// What differs of one account; the fields are those after its name.
fn of(which: Which, then: &[String], now: &[String]) -> Vec<String> {
    let field = |fields: &[String], at: usize| fields.get(at).map(|field| shown(field)).unwrap_or_default();
    let differs = |at: usize| field(then, at) != field(now, at);
    let changed = |what: &str, at: usize| format!("{what} {} instead of {}", field(now, at), field(then, at));
    let mut told = vec![];
    match which {
        Which::Passwd => {
            let names = [(1, "number"), (2, "group"), (4, "home"), (5, "shell")];
            told.extend(names.into_iter().filter(|(at, _)| differs(*at)).map(|(at, what)| changed(what, at)));
        }
        Which::Group => {
            if differs(1) {
                told.push(changed("number", 1));
            }
            if differs(2) {
                told.push(members(&field(then, 2), &field(now, 2)));
            }
        }
        Which::Shadow => {
            let is_locked = |fields: &[String]| field(fields, 0).starts_with(['!', '*']);
            match (is_locked(then), is_locked(now)) {
                (false, true) => told.push("its password is locked".into()),
                (true, false) => told.push("its password is not locked any more".into()),
                _ if differs(0) => told.push("its password".into()),
                _ => {}
            }
            if differs(6) {
                told.push("when it expires".into());
            }
            if (1..=5).any(differs) {
                told.push("when its password expires".into());
            }
        }
        Which::Gshadow => {}
    }
    if told.is_empty() {
        told.push("its entry".into());
    }
    told
}

fn members(then: &str, now: &str) -> String {
    let list =
        |text: &str| -> Vec<String> { text.split(',').filter(|name| !name.is_empty()).map(str::to_owned).collect() };
    let (then, now) = (list(then), list(now));
    let gone: Vec<&str> = then.iter().filter(|name| !now.contains(name)).map(String::as_str).collect();
    let new: Vec<&str> = now.iter().filter(|name| !then.contains(name)).map(String::as_str).collect();
    match (gone.is_empty(), new.is_empty()) {
        (false, true) => format!("{} is no member any more", gone.join(", ")),
        (true, false) => format!("{} is a member", new.join(", ")),
        _ => "its members".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_account_is_told_by_what_differs_and_no_secret_with_it() {
        let told = |which, then: &str, now: &str| differences(which, then.as_bytes(), now.as_bytes()).join("; ");
        let passwd = "root:x:0:0:root:/root:/bin/bash\napp:x:1000:1000:App:/home/app:/bin/sh\n";
        let cases = [
            (passwd.replace("1000:1000", "1001:1000"), "account app: number 1001 instead of 1000"),
            (passwd.replace(":/bin/sh", ":/bin/false"), "account app: shell /bin/false instead of /bin/sh"),
            (passwd.replace("app:x", "web:x"), "account app is gone; account web is new"),
        ];
        for (now, words) in cases {
            assert_eq!(told(Which::Passwd, passwd, &now), words);
        }
        assert_eq!(told(Which::Group, "adm:x:4:ann,bob\n", "adm:x:4:ann\n"), "group adm: bob is no member any more");
        assert_eq!(told(Which::Group, "adm:x:4:ann\n", "adm:x:4:ann,bob\n"), "group adm: bob is a member");
        let shadow = "app:$y$secret:19000:0:99999:7:::\n";
        assert_eq!(
            told(Which::Shadow, shadow, "app:!$y$secret:19000:0:99999:7:::\n"),
            "account app: its password is locked"
        );
        let other = told(Which::Shadow, shadow, "app:$y$other:19000:0:99999:7:::\n");
        assert_eq!(other, "account app: its password");
        assert_eq!(
            told(Which::Shadow, shadow, "app:$y$secret:0:0:99999:7:::\n"),
            "account app: when its password expires"
        );
    }
}
