//! The Synchronizer: on PRI it runs, is not suspended, and its last cycle reached every partner; on a secondary PRI calls in time [88, 279, 306].
//!
//! ```text
//! ssSyncLoop.service                  dead, or not started at the next boot
//! SID_DATA/Suspended                  told as long as it lasts, so that nobody forgets it [306]
//! /run/atlas/cycle.json               PRI's last cycle: its age tells whether the loop is stuck
//! /run/atlas/synced.json              a secondary's last SyncUp
//! ```

use crate::{
    here::{self, Faults, Member},
    service::{Service, Target},
};
use atlas_model::{
    Role,
    cycle::{CYCLE, CycleReport, Outcome, PartnerReport, SYNCED, SecondaryReport},
    verify::{Fault, Profile, Verdict, Worse},
};
use atlas_sid::left::{Suspended, report};

pub(super) const SERVICE: Service = Service {
    name: "synchronizer",
    about: "cycles run and reach every partner; on a secondary, PRI calls in time",
    interval: 30,
    deadline: 15,
    find: |_| Ok(here::found()),
    verify,
};

const UNIT: &str = "ssSyncLoop.service";
/// Seconds between cycles, unless `every` is set.
const EVERY: f64 = 300.0;
/// After this many times it something is stuck.
const MISSED: f64 = 3.0;
/// A suspension that lasts longer was forgotten, in seconds.
const FORGOTTEN: f64 = 3600.0;

fn verify(target: &Target) -> anyhow::Result<Profile> {
    let Some(member) = Member::open(&target.root)? else {
        return Ok(Profile::ok("this server belongs to no cluster yet"));
    };
    let mut faults = Faults::default();
    let longest = (target.number("every", EVERY)? * MISSED).max(1.0);
    let well = if member.config.role() == Role::Pri {
        on_pri(target, &member, longest, &mut faults)?
    } else {
        on_secondary(target, &member, longest, &mut faults)?
    };
    Ok(faults.profile(well))
}

fn on_pri(target: &Target, member: &Member, longest: f64, faults: &mut Faults) -> anyhow::Result<String> {
    let suspended = Suspended::read(&member.sid)?;
    if let Some(suspended) = &suspended {
        let age = here::now().saturating_sub(suspended.since);
        let usual = (Some(0.0), Some(FORGOTTEN));
        let measure = target.measure("suspended", age as f64 + 1.0, "s", usual, Worse::Higher)?;
        let since = if suspended.since == 0 { "nobody knows how long".into() } else { here::duration(age) };
        let what = format!("the Synchronizer is suspended for {since} ({}), seconds", suspended.reason);
        faults.measure(measure, &what, "when the change is complete: ssSyncCtrl resume");
    }
    let runs = unit(target, Role::Pri, faults);
    let cycle: Option<CycleReport> = report(&member.tree, CYCLE);
    let Some(cycle) = cycle else {
        if suspended.is_none() && here::uptime(&target.root).is_none_or(|uptime| uptime > longest) {
            let what = format!("no cycle has run since this server was booted{}", but(runs));
            faults.unacceptable(what, "ssSyncCtrl status; journalctl -b -u ssSyncLoop; ssSync cycle");
        }
        return Ok("no cycle has run yet".into());
    };
    let Some(age) = here::now().checked_sub(cycle.time) else {
        faults.unknown("the last cycle began in the future: the clock was set back", "date; ssSync cycle");
        return Ok(String::new());
    };
    let limit = if suspended.is_some() { (None, None) } else { (None, Some(longest)) };
    let measure = target.measure("last-cycle", age as f64, "s", limit, Worse::Higher)?;
    let stuck = format!("no cycle for {}{}, seconds since the last began", here::duration(age), but(runs));
    faults.measure_of(
        "late",
        measure,
        &stuck,
        "ssSyncCtrl status; journalctl -u ssSyncLoop -n 50; systemctl restart ssSyncLoop",
    );
    // What an old cycle found says nothing of now.
    if age as f64 <= longest {
        outcomes(member, &cycle, faults);
    }
    Ok(format!("{} in step, {} ago", cycle.partners.len(), here::duration(age)))
}

fn but(runs: bool) -> &'static str {
    if runs { ", although ssSyncLoop runs: it is stuck, or each one fails" } else { "" }
}

/// Whether the loop runs; that it would not after the next boot is a fault, too.
fn unit(target: &Target, role: Role, faults: &mut Faults) -> bool {
    let ask = |verb: &str| {
        let output = here::run(&target.root, "systemctl", &[verb, UNIT], target.left())?.ok()?;
        output.text().lines().next().map(|line| line.trim().to_owned()).filter(|state| !state.is_empty())
    };
    if !here::has_systemd(&target.root) {
        return false;
    }
    // On a secondary, too: there it waits, and begins the cycles after a failover.
    let off = ask("is-enabled").filter(|state| state == "disabled" || state.starts_with("masked"));
    let is_off = off.is_some();
    if let Some(state) = off {
        let what = format!("ssSyncLoop is {state}: no cycle would begin after the next boot as PRI");
        faults.slow(what, "ssSyncCtrl start");
    }
    let Some(state) = ask("is-active") else { return false };
    if role == Role::Pri && state != "active" && state != "reloading" {
        let what = match state.as_str() {
            "activating" => "ssSyncLoop ends again and again".to_owned(),
            _ => format!("ssSyncLoop does not run ({state}): no cycle begins"),
        };
        let hint = "systemctl status ssSyncLoop; journalctl -b -u ssSyncLoop; ssSyncCtrl start";
        faults.add(Fault::new(Verdict::Unacceptable, what, hint).is("stopped", &[UNIT]));
    }
    if role != Role::Pri && ["inactive", "failed", "activating"].contains(&state.as_str()) && !is_off {
        let what = match state.as_str() {
            "activating" => "ssSyncLoop ends again and again, which would begin the cycles after a failover".to_owned(),
            _ => format!("ssSyncLoop does not run ({state}), which waits here to begin the cycles after a failover"),
        };
        let hint = "systemctl status ssSyncLoop; journalctl -b -u ssSyncLoop; ssSyncCtrl start";
        faults.add(Fault::new(Verdict::Slow, what, hint).is("stopped", &[UNIT]));
    }
    state == "active"
}

/// What the last cycle found wrong.
fn outcomes(member: &Member, cycle: &CycleReport, faults: &mut Faults) {
    for partner in member.config.partners() {
        match cycle.partners.iter().find(|report| report.role == partner.role) {
            None => faults.slow(format!("the last cycle left out {}", partner.role), "ssSync cycle"),
            Some(report) => outcome(report, cycle, faults),
        }
    }
    for problem in cycle.problems.iter().filter(|problem| problem.server == Role::Pri) {
        faults.slow(format!("the last cycle found on PRI: {}", problem.what), &problem.hint);
    }
}

fn outcome(report: &PartnerReport, cycle: &CycleReport, faults: &mut Faults) {
    let role = report.role;
    let how = match report.outcome {
        Outcome::Synced => "is in step",
        Outcome::Differs => "differs from PRI",
        Outcome::Refused => "is not the partner it should be",
        Outcome::Unreachable => "cannot be reached",
        Outcome::Failed => "could not be synchronised",
    };
    let problems: Vec<_> = cycle.problems.iter().filter(|problem| problem.server == role).collect();
    let why = report.why.clone().or_else(|| problems.first().map(|problem| problem.what.clone()));
    let why = why.or_else(|| report.differences.first().cloned()).map(|why| format!(": {why}")).unwrap_or_default();
    let hint = problems.first().map_or("ssSync cycle; ssSync compare".to_owned(), |problem| problem.hint.clone());
    match report.outcome {
        Outcome::Synced => problems.iter().for_each(|problem| {
            faults.slow(format!("the last cycle found on {role}: {}", problem.what), &problem.hint);
        }),
        Outcome::Differs => faults.slow(format!("{role} {how}{why}"), hint),
        Outcome::Refused | Outcome::Unreachable | Outcome::Failed => {
            faults.unacceptable(format!("{role} {how}{why}"), hint);
        }
    }
    if let Some(why) = &report.history_error {
        faults.slow(format!("what {role} sent is not in the history: {why}"), "atlas-history");
    }
}

fn on_secondary(target: &Target, member: &Member, longest: f64, faults: &mut Faults) -> anyhow::Result<String> {
    unit(target, member.config.role(), faults);
    let hint = "on PRI: ssSyncCtrl status; is this server reachable from there by ssh?";
    let synced: Option<SecondaryReport> = report(&member.tree, SYNCED);
    let Some(synced) = synced else {
        if here::uptime(&target.root).is_none_or(|uptime| uptime > longest) {
            faults.unacceptable("PRI has not called since this server was booted: it has no new configuration", hint);
        }
        return Ok("PRI has not called yet".into());
    };
    let Some(age) = here::now().checked_sub(synced.time) else {
        faults.unknown("PRI's last call was in the future: the clock was set back", "date; on PRI: ssSync cycle");
        return Ok(String::new());
    };
    let measure = target.measure("last-sync-up", age as f64, "s", (None, Some(longest)), Worse::Higher)?;
    let late = format!("PRI has not called for {}, seconds since the last SyncUp", here::duration(age));
    faults.measure(measure, &late, hint);
    for problem in &synced.problems {
        let what = format!("the last SyncUp left: {}", problem.what);
        faults.add(Fault::new(Verdict::Slow, what, &problem.hint).is("cycle", &[]));
    }
    Ok(format!("PRI called {} ago", here::duration(age)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::here::testing::Server;
    use serde_json::{Value, json};

    const RUNS: &str = "case $1 in is-active) echo active;; is-enabled) echo enabled;; esac";

    fn server(role: &str) -> Server {
        let server = Server::new();
        server.member(role);
        server.write("proc/uptime", "5000.0 1.0\n");
        server.write("run/systemd/system/x", "");
        server.program("usr/bin/systemctl", RUNS);
        server
    }

    fn cycle(age: u64, change: impl FnOnce(&mut Value)) -> String {
        let mut cycle = json!({
            "format": 1, "program": "ssSync", "time": here::now() - age, "env_version": 2, "generation": 7, "changed": false,
            "partners": [{
                "role": "SEC1", "host": "sec1", "outcome": "synced", "why": null, "env_version": 2, "clock_ahead": 0,
                "sent": null, "received": null, "secondary": null, "differences": [], "steps": [],
            }],
            "steps": [], "problems": [],
        });
        change(&mut cycle);
        cycle.to_string()
    }

    fn pri(age: u64, change: impl FnOnce(&mut Value)) -> Server {
        let server = server("PRI");
        server.write("run/atlas/cycle.json", &cycle(age, change));
        server
    }

    #[test]
    fn a_synchronizer_that_works_is_well_and_a_server_of_no_cluster_has_none() {
        pri(100, |_| ()).is_well(&SERVICE);
        Server::new().is_well(&SERVICE);
        let fresh = server("PRI");
        fresh.write("proc/uptime", "60.0 1.0\n");
        fresh.is_well(&SERVICE);
    }

    #[test]
    fn a_dead_loop_is_told_at_once_and_a_stuck_one_after_three_intervals() {
        let dead = pri(100, |_| ());
        dead.program(
            "usr/bin/systemctl",
            "case $1 in is-active) echo failed; exit 3;; is-enabled) echo enabled;; esac",
        );
        dead.says(&SERVICE, Verdict::Unacceptable, &["ssSyncLoop does not run (failed)"]);
        pri(901, |_| ()).says(&SERVICE, Verdict::Unacceptable, &["no cycle for 15 min", "stuck"]);
        server("PRI").says(
            &SERVICE,
            Verdict::Unacceptable,
            &["no cycle has run since this server was booted", "stuck"],
        );
        let mut patient = pri(901, |_| ());
        patient.options = vec![("every", "600")];
        patient.is_well(&SERVICE);
        let disabled = pri(100, |_| ());
        disabled.program(
            "usr/bin/systemctl",
            "case $1 in is-active) echo active;; is-enabled) echo disabled; exit 1;; esac",
        );
        disabled.says(&SERVICE, Verdict::Slow, &["ssSyncLoop is disabled"]);
        let future = server("PRI");
        future.write("run/atlas/cycle.json", &cycle(0, |cycle| cycle["time"] = json!(here::now() + 5000)));
        future.says(&SERVICE, Verdict::Unknown, &["in the future"]);
    }

    #[test]
    fn a_suspension_is_told_as_long_as_it_lasts() {
        let suspend = |since: u64| {
            let server = pri(2000, |_| ());
            let text = json!({"format": 1, "since": since, "reason": "moving the mail"}).to_string();
            server.write("unbound/SID_DATA/Suspended", &text);
            server
        };
        let profile =
            suspend(here::now() - 1230).says(&SERVICE, Verdict::Slow, &["suspended for 20 min", "moving the mail"]);
        assert!(!profile.summary.contains("no cycle for"), "{profile:?}");
        suspend(here::now() - 4000).says(&SERVICE, Verdict::Unacceptable, &["suspended", "moving the mail"]);
        suspend(0).says(&SERVICE, Verdict::Unacceptable, &["nobody knows how long"]);
    }

    #[test]
    fn what_the_last_cycle_found_is_told_with_the_partner() {
        let with = |outcome: &str, why: Value| {
            pri(100, |cycle| {
                cycle["partners"][0]["outcome"] = json!(outcome);
                cycle["partners"][0]["why"] = why;
            })
        };
        let cases = [
            ("unreachable", Verdict::Unacceptable, "SEC1 cannot be reached: no route"),
            ("failed", Verdict::Unacceptable, "SEC1 could not be synchronised: no route"),
            ("refused", Verdict::Unacceptable, "SEC1 is not the partner it should be: no route"),
            ("differs", Verdict::Slow, "SEC1 differs from PRI: no route"),
        ];
        for (outcome, verdict, words) in cases {
            with(outcome, json!("no route")).says(&SERVICE, verdict, &[words]);
        }
        let problem = |server: &str| json!([{"server": server, "what": "nginx -t fails", "hint": "see it"}]);
        pri(100, |cycle| cycle["problems"] = problem("SEC1")).says(
            &SERVICE,
            Verdict::Slow,
            &["on SEC1: nginx -t fails"],
        );
        pri(100, |cycle| cycle["problems"] = problem("PRI")).says(&SERVICE, Verdict::Slow, &["on PRI: nginx -t fails"]);
        pri(100, |cycle| cycle["partners"] = json!([])).says(&SERVICE, Verdict::Slow, &["left out SEC1"]);
    }

    #[test]
    fn a_secondary_that_pri_does_not_call_is_told() {
        let synced = |age: u64, problems: Value| {
            let server = server("SEC1");
            let report = json!({
                "format": 1, "role": "SEC1", "env_version": 2, "time": here::now() - age, "installed": 7, "install": null,
                "changed_locally": false, "converted": [], "steps": [], "problems": problems,
            });
            server.write("run/atlas/synced.json", &report.to_string());
            server
        };
        synced(100, json!([])).is_well(&SERVICE);
        synced(1000, json!([])).says(&SERVICE, Verdict::Unacceptable, &["PRI has not called for 16 min"]);
        server("SEC1").says(&SERVICE, Verdict::Unacceptable, &["PRI has not called since"]);
        let left = json!([{"server": "SEC1", "what": "smbd does not reload", "hint": "look"}]);
        synced(100, left).says(&SERVICE, Verdict::Slow, &["smbd does not reload"]);
        let idle = synced(100, json!([]));
        idle.program("usr/bin/systemctl", "case $1 in is-active) echo active;; is-enabled) echo enabled;; esac");
        idle.is_well(&SERVICE);
        idle.program("usr/bin/systemctl", "case $1 in is-active) echo inactive;; is-enabled) echo enabled;; esac");
        idle.says(&SERVICE, Verdict::Slow, &["ssSyncLoop does not run (inactive), which waits here"]);
        idle.program("usr/bin/systemctl", "case $1 in is-active) echo inactive;; is-enabled) echo disabled;; esac");
        idle.says(&SERVICE, Verdict::Slow, &["ssSyncLoop is disabled: no cycle would begin"]);
    }
}
