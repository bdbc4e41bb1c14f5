//! When PRI is silent: whether anybody serves, and which secondary tells people.
//!
//! ```text
//!  PRI asks each secondary every 2 s; while it does, PRI tells.
//!  PRI is silent ─► the secondary of the lowest Role tells; another one asks it, and tells only where it does not hear that it does.
//! ```
//!
//! Secondaries are no partners of each other: PRI says who they are while it lives. No lock and no vote: where they cannot hear each other, both
//! tell.

use crate::exchange::{self, PORT, Secret};
use anyhow::Context;
use atlas_model::{
    Partner, Role,
    verify::{Findings, Heard, Observed, Profile, Silent, Verdict},
};
use serde::{Deserialize, Serialize};
use std::{
    net::{IpAddr, SocketAddr},
    time::Duration,
};

/// A secondary tells nobody while PRI has asked within this time: PRI tells.
pub const PRI_ASKS: Duration = Duration::from_secs(20);
/// So much longer waits one that may hear that another secondary tells.
const HEARS: Duration = Duration::from_secs(12);
/// How long it counts that another one tells.
pub const COUNTS: Duration = Duration::from_secs(15);
/// How often another secondary is asked.
pub const EVERY: Duration = Duration::from_secs(3);
/// A check that was made this much later than PRI's last answer was made without PRI, in seconds.
const AFTER: u64 = 3;
/// So long is waited for the checks of PRI before its silence counts, in seconds.
const ENOUGH: u64 = 15;
/// So long, where there is no check that says anything.
const LONG: u64 = 30;
/// The service under which it is observed.
pub const SERVING: &str = "serving";
/// What to do.
const RUNBOOK: &str = "take over: shut both servers down, put both of PRI's front disks into this server's bays, switch it on (docs/operating.md, The bad day)";

/// Whether a secondary tells people.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Telling {
    /// The format: 1.
    pub format: u32,
    /// Whose word it is.
    pub role: Role,
    /// PRI asks it: PRI lives, and tells.
    pub pri_asks: bool,
    /// It tells people itself, and its channels work.
    pub tells: bool,
}

/// The secondaries that come before this one.
pub fn before(role: Role, siblings: &[Partner]) -> Vec<Partner> {
    siblings.iter().filter(|sibling| sibling.role < role && sibling.role != Role::Pri).cloned().collect()
}

/// Whether this server tells people: how long ago PRI asked, whether another secondary comes before it, and how long ago such a one said that
/// somebody tells.
pub fn tells(role: Role, asked: Duration, has_before: bool, elsewhere: Option<Duration>) -> bool {
    match role {
        Role::Pri => true,
        _ if !has_before => asked > PRI_ASKS,
        _ => asked > PRI_ASKS + HEARS && elsewhere.is_none_or(|ago| ago > COUNTS),
    }
}

/// Asks another secondary whether somebody tells.
///
/// # Errors
/// Why it is not known.
pub fn ask(sibling: &Partner, secret: &Secret, address: IpAddr) -> anyhow::Result<bool> {
    let read = |body: &[u8]| serde_json::from_slice::<Telling>(body).context("read whether it tells");
    let telling = exchange::ask_for("/telling", SocketAddr::new(address, PORT), secret, read)?;
    anyhow::ensure!(telling.format == 1 && telling.role == sibling.role, "{} answers", telling.role);
    Ok(telling.tells || telling.pri_asks)
}

/// Whether PRI serves, as this secondary knows; nothing before anything is known.
pub fn serving(findings: &Findings) -> Option<Profile> {
    let heard = findings.heard.iter().find(|heard| heard.role == Role::Pri)?;
    match &heard.silent {
        None => heard.time.map(|_| Profile::ok("PRI answers")),
        Some(silent) => Some(without_pri(findings, heard, silent)),
    }
}

fn without_pri(findings: &Findings, heard: &Heard, silent: &Silent) -> Profile {
    let silent_for = findings.time.saturating_sub(silent.since);
    let is_exercised = |observed: &&Observed| {
        observed.about == Some(Role::Pri) && !["verifier", SERVING].contains(&observed.service.as_str())
    };
    let all: Vec<&Observed> = findings.observed.iter().filter(is_exercised).collect();
    let since: Vec<&&Observed> = all.iter().filter(|observed| observed.checked > silent.since + AFTER).collect();
    let answers = |observed: &&&&Observed| [Verdict::Ok, Verdict::Slow].contains(&observed.profile.verdict);
    let answering = since.iter().filter(answers).count();
    let was = if heard.time.is_some() { "" } else { " since this Verifier began" };
    if answering > 0 {
        return Profile::ok(format!("{answering} of {} services of PRI answer, and its Verifier does not", all.len()));
    }
    let is_long = silent_for >= LONG && (!since.is_empty() || !silent.why.contains("refused"));
    if silent_for >= ENOUGH && !since.is_empty() || is_long {
        let what = format!(
            "nobody serves: PRI has not answered for {silent_for} s{was}, nor has any of its {} services that are exercised from here: {}",
            all.len(),
            silent.why
        );
        return Profile::unacceptable(what).hint(RUNBOOK).kind("nobody");
    }
    Profile::unknown(format!(
        "the Verifier of PRI has not answered for {silent_for} s{was}; whether PRI serves is not known yet"
    ))
    .hint("VerifierResults list")
}

#[cfg(test)]
mod tests;
