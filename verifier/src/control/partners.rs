//! Hearing the partners' Verifiers: one that is dead, stuck or unreachable must never look like one that has nothing to tell.

use super::Identity;
use crate::{
    board::{Board, now},
    exchange::{self, PORT, Secret, by_our_clock},
    service::resolve,
};
use anyhow::Context;
use atlas_cli::in_one_line;
use atlas_model::{
    Partner,
    verify::{Findings, HEARTBEAT, Heard, Profile, Silent, Verdict},
};
use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

/// How often a partner is asked.
const EVERY: Duration = Duration::from_secs(2);
/// How often it is asked, in seconds, as it is told.
const INTERVAL: u64 = 2;

/// The threads that ask.
pub(super) struct Partners;

impl Partners {
    /// Starts one for each partner.
    pub(super) fn start(identity: &Identity, board: &Arc<Board>) {
        for partner in identity.config.partners() {
            let own = Asker { root: identity.root.clone(), partner: partner.clone() };
            let board = Arc::clone(board);
            std::thread::spawn(move || {
                loop {
                    own.hear(&board);
                    std::thread::sleep(EVERY);
                }
            });
        }
    }
}

struct Asker {
    root: PathBuf,
    partner: Partner,
}

impl Asker {
    /// Asks once, and puts on the board what came of it.
    fn hear(&self, board: &Board) {
        let (role, time) = (self.partner.role, now());
        let answer = ask(&self.root, &self.partner);
        let mut inner = board.lock();
        let last = inner.heard.remove(&role);
        let was_silent = last.as_ref().is_none_or(|last| last.silent.is_some());
        let heard = match answer {
            Ok(findings) => Heard { role, time: Some(time), silent: None, findings: Some(Box::new(findings)) },
            Err(error) => {
                let since = last.as_ref().map_or(time, |last| last.silent.as_ref().map_or(time, |silent| silent.since));
                let silent = Some(Silent { since, why: in_one_line(&error) });
                // What it said before is kept, with its age: it is shown as old.
                let (time, findings) = last.map_or((None, None), |last| (last.time, last.findings));
                Heard { role, time, silent, findings }
            }
        };
        let profile = self.verifier(&heard, time);
        let is_news = was_silent != heard.silent.is_some() || differs(&heard, inner.heard.get(&role));
        inner.heard.insert(role, heard);
        drop(inner);
        board.take(Some(role), "verifier", "", INTERVAL, profile);
        if is_news {
            board.news();
        }
    }

    /// Whether its Verifier lives.
    fn verifier(&self, heard: &Heard, now: u64) -> Profile {
        let role = heard.role;
        match &heard.silent {
            None => Profile::ok(format!("the Verifier of {role} answers")),
            // One lost packet is no fault; a heartbeat is.
            Some(silent) if now.saturating_sub(silent.since) < HEARTBEAT && heard.time.is_some() => Profile::ok(
                format!("the Verifier of {role} answered {} s ago", now.saturating_sub(heard.time.unwrap_or(now))),
            ),
            Some(silent) => Profile::unacceptable(format!("the Verifier of {role} does not answer: {}", silent.why))
                .hint(format!("on {role}: systemctl status VerifierControl; is port {PORT} open from here?")),
        }
    }
}

/// Whether one says another thing than the other, in what matters at once.
fn differs(heard: &Heard, before: Option<&Heard>) -> bool {
    let verdicts = |heard: &Heard| -> Vec<(String, Verdict)> {
        let observed = heard.findings.iter().flat_map(|findings| &findings.observed);
        observed.map(|observed| (observed.key(), observed.profile.verdict)).collect()
    };
    before.is_none_or(|before| verdicts(before) != verdicts(heard))
}

fn ask(root: &Path, partner: &Partner) -> anyhow::Result<Findings> {
    let secret = Secret::read(root)?
        .context("this server has no secret yet: SetUp on PRI makes it, and a cycle brings it to the secondaries")?;
    let address = resolve(&partner.host, Duration::from_secs(2))?;
    let mut findings = exchange::ask(SocketAddr::new(address, PORT), &secret)?;
    anyhow::ensure!(
        findings.role == partner.role,
        "it says that it is {}, and MasterConfig says {}",
        findings.role,
        partner.role
    );
    by_our_clock(&mut findings, now());
    findings.heard.clear();
    Ok(findings)
}
