//! Whether root can log in: PRI comes as root, and so does whoever repairs the server.

use crate::here::{self, Faults};
use atlas_model::verify::{Fault, Verdict};
use std::path::Path;

const DAY: u64 = 86_400;
/// Days before a password expires at which it deserves a look.
const SOON: i64 = 7;
/// What is not limited, in days.
const NEVER: i64 = 10_000;

/// An account or a password that expired lets nobody in, with a key either: PAM says so.
pub(super) fn can_log_in(root: &Path, now: u64, faults: &mut Faults) {
    let mut shut = |what: String, hint: &str| {
        faults.add(Fault::new(Verdict::Unacceptable, what, hint).is("login", &["root"]));
    };
    let Some(shadow) = here::text(root, "etc/shadow") else { return };
    let Some(line) = shadow.lines().find(|line| line.starts_with("root:")) else {
        return shut("root has no entry in /etc/shadow: nobody can log in as root".into(), "pwck; pwconv");
    };
    let fields: Vec<&str> = line.split(':').collect();
    let number = |at: usize| fields.get(at).and_then(|field| field.parse::<i64>().ok()).filter(|number| *number >= 0);
    let today = i64::try_from(now / DAY).unwrap_or(i64::MAX);
    let hint = "passwd root; or, where it is not to expire: chage -M -1 -E -1 root";
    if let Some(end) = number(7).filter(|end| *end <= today) {
        let what = format!("root's account expired {} days ago: nobody can log in, PRI either", today - end);
        return shut(what, "chage -E -1 root");
    }
    let Some(last) = number(2) else { return };
    if last == 0 {
        return shut("root's password has to be changed at the next login: PRI cannot log in".into(), hint);
    }
    let Some(longest) = number(4).filter(|days| *days < NEVER) else { return };
    match last + longest - today {
        left if left < 0 => {
            shut(format!("root's password expired {} days ago: PRI cannot log in", -left), hint);
        }
        left if left <= SOON => faults.slow(format!("root's password expires in {left} days"), hint),
        _ => {}
    }
}
