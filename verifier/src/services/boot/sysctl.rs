//! Settings of the kernel: what the files of this server's people say is so now.
//!
//! The files are read as `systemd-sysctl` reads them: of two with one name, that of the first directory; all in the order of their names; the last
//! word counts. What a package sets, and nobody here, is left to the package.

use crate::here::{self, Faults};
use std::{collections::BTreeMap, path::Path};

const DIRS: [&str; 5] = ["etc/sysctl.d", "run/sysctl.d", "usr/local/lib/sysctl.d", "usr/lib/sysctl.d", "lib/sysctl.d"];
/// ssCoreHandler and the like set it as they start.
const SET_BY_PROGRAMS: [&str; 1] = ["kernel/core_pattern"];

/// How many are as they should be.
pub(super) fn look(root: &Path, faults: &mut Faults) -> usize {
    let mut files: BTreeMap<String, String> = BTreeMap::new();
    for dir in DIRS {
        for name in here::names(root, dir).into_iter().filter(|name| name.ends_with(".conf")) {
            let path = format!("{dir}/{name}");
            files.entry(name).or_insert(path);
        }
    }
    // The last word: what is in it, and in which file.
    let mut wanted: BTreeMap<String, (String, &String)> = BTreeMap::new();
    for path in files.values() {
        for (key, value) in here::text(root, path).unwrap_or_default().lines().filter_map(setting) {
            wanted.insert(key, (value, path));
        }
    }
    let own =
        wanted.iter().filter(|(key, (_, path))| path.starts_with("etc/") && !SET_BY_PROGRAMS.contains(&key.as_str()));
    let mut well = 0;
    for (key, (value, path)) in own {
        let Some(now) = here::text(root, &format!("proc/sys/{key}")).map(|now| words(&now)) else { continue };
        if now == *value || is_same_number(&now, value) {
            well += 1;
            continue;
        }
        let name = key.replace('/', ".");
        let what = format!("the kernel's setting {name} is {now}, and /{path} says {value}");
        faults.slow(what, format!("sysctl -w {name}='{value}'; or correct /{path}"));
    }
    well
}

/// `net.ipv4.ip_forward = 1`; names with patterns are left out.
fn setting(line: &str) -> Option<(String, String)> {
    let line = line.trim();
    let (key, value) = line.split_once('=').filter(|_| !line.starts_with(['#', ';']))?;
    let key = key.trim().trim_start_matches('-');
    // Where the first of the two is a slash, dots are parts of names.
    let is_path = key.find(['.', '/']).is_some_and(|at| key[at..].starts_with('/'));
    let swapped = |c: char| match c {
        '.' => '/',
        '/' => '.',
        c => c,
    };
    let key: String = if is_path { key.to_owned() } else { key.chars().map(swapped).collect() };
    let is_plain = !key.is_empty() && !key.contains(['*', '?', '[']) && !key.split('/').any(|part| part == "..");
    is_plain.then(|| (key, words(value)))
}

fn words(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn is_same_number(a: &str, b: &str) -> bool {
    let number = |text: &str| match text.strip_prefix("0x") {
        Some(digits) => i128::from_str_radix(digits, 16).ok(),
        None => text.parse::<i128>().ok(),
    };
    number(a).is_some() && number(a) == number(b)
}
