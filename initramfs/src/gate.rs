//! The keeper of the network gate: the second half of the proof, in the system that runs (`atlas-gate.service`).
//!
//! ```text
//! initramfs   init-top: the gate is closed           udev: every interface is held as it appears
//!             atlas-boot boot ─► boot.json
//! ─── pivot ──────────────────────────────────────────────────────────────────────────────────────
//! system      atlas-boot gate ─► boot.json of this boot allows it ─► nobody has the addresses ─► open, network-allowed, gate.json, READY
//!                             │                                   └► somebody has them      ─► closed, gate.json, READY
//!                             └► refused, or no report of this boot ─► closed, gate.json, READY
//! ```
//!
//! It is ready when it has decided: network services wait for that, and then for `network-allowed`. It runs on, and closes again where the
//! proof ends. A keeper that crashes leaves the gate as it is; one that is started again finds it so.

use crate::{
    PROGRAM, Places, accept,
    boot::INITIALISED,
    decide::Disks,
    keeper::{self, Found, Keeper, Question},
    machine::Machine,
    record, refuse, role, standing,
};
use atlas_host::{
    FileError, alive, durable,
    net::{NetError, gate::Gate},
    tree::Dir,
};
use atlas_model::{Acceptance, BootReport, GateReport, Outcome, Refusal, RefusalCode};
use std::{
    error::Error,
    ffi::OsStr,
    os::unix::net::{SocketAddr, UnixDatagram},
    time::Duration,
};

const REPORT_LIMIT: usize = 4 << 20;

/// What is to be done about the gate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    /// `atlas init` was never run here: nothing is held, nothing is watched.
    NotOurs,
    /// It is open already, since before this keeper was started.
    Standing,
    /// This boot allows it.
    Open,
    /// It stays closed.
    Closed(Refusal),
}

/// Keeps the gate. Returns where there is nothing to keep.
pub fn keep(places: &Places) -> Result<(), String> {
    let gate = Gate::new(&places.run);
    let read = read_report(places);
    let mut report = GateReport { format: GateReport::FORMAT, open: true, ..GateReport::default() };
    // Early: it takes a moment, and there is none to lose once this server has decided.
    report
        .warnings
        .extend(alive::stay_in_memory().err().map(|error| format!("the keeper may be swapped out: {error}")));
    let question = match decide(is_initialised(places), gate.is_open(), &boot_id(), &read) {
        Decision::NotOurs => {
            report.warnings.extend(gate.open().err().map(|error| chain(&error)));
            decided(places, &mut report);
            return Ok(());
        }
        Decision::Closed(refusal) => return closed(places, &gate, report, &refusal, &read),
        Decision::Standing => {
            match read.as_ref().ok().and_then(Option::as_ref).map(|boot| standing::prove(places, boot)) {
                Some(Err(refusal)) => return closed(places, &gate, report, &refusal, &read),
                Some(Ok(done)) => report.warnings.extend(done),
                None => {}
            }
            let before = before(places).unwrap_or_default();
            (report.held, report.asked) = (before.held, before.asked);
            None
        }
        Decision::Open => match still_so(places, &read).and_then(|()| ask(places, &gate, &mut report, &read)) {
            Ok(question) => Some(question),
            Err(refusal) => return closed(places, &gate, report, &refusal, &read),
        },
    };
    let boot = read.ok().flatten().unwrap_or_else(|| BootReport::begin(PROGRAM));
    let keeper = match question {
        None => {
            report.warnings.extend(end_of_acceptances(places));
            decided(places, &mut report);
            Keeper::new(places, &gate, report, &boot, Found::read(places, Duration::ZERO).unwrap_or_default())
        }
        Some(mut question) => {
            let keeper = question.defended(|found, _| {
                report.warnings.extend(end_of_acceptances(places));
                decided(places, &mut report);
                Keeper::new(places, &gate, report, &boot, found.clone())
            });
            keeper.having_asked(question)
        }
    };
    keeper::stay_closed(places, &gate, keeper.watch())
}

/// What early boot found is still so: an overlay may have been put over the root file system since, and the disks may have been pulled out.
fn still_so(places: &Places, read: &Result<Option<BootReport>, String>) -> Result<(), Refusal> {
    if let Some(refusal) = read.as_ref().ok().and_then(Option::as_ref).and_then(keeper::lost_already) {
        return Err(refusal);
    }
    let root = Dir::open_root(&places.root).map_err(|error| refuse::of_file("open the root file system", &error))?;
    role::keeps_what_is_written(&root)
}

/// Opens the gate, if nobody else has this server's addresses, or an operator accepted that.
fn ask(
    places: &Places,
    gate: &Gate,
    report: &mut GateReport,
    read: &Result<Option<BootReport>, String>,
) -> Result<Question, Refusal> {
    let boot = read.as_ref().ok().and_then(Option::as_ref);

    let failed = |error: &NetError| refuse::internal("ask on the network for this server's addresses", error);
    // A card may be renamed, or go, in the middle of it.
    let again = || Question::ask(places, gate).or_else(|_| Question::ask(places, gate));
    let mut question = again().map_err(|error| failed(&error))?;
    report.asked = Some(question.asked.clone());
    if let Some(refusal) = question.found.refusal(&question.answers) {
        let used = accepted(places, &refusal).map_err(|why| match why {
            None => refusal.clone(),
            Some(why) => refusal.clone().found(why),
        })?;
        question.is_accepted = true;
        let told = format!("an operator has accepted: {}", refusal.found.join("; "));
        // Whoever logs in is to see it, too.
        if let Some(mut boot) = boot.cloned() {
            boot.accepted.extend(used);
            boot.warnings.push(told.clone());
            report.warnings.extend(record::write(places, &boot).err().map(|error| chain(&error)));
        }
        report.warnings.push(told);
    }
    report.held = question.answers.not_asked.iter().cloned().collect();
    let opened = question.defended(|_, _| gate.open_except(&report.held));
    report.warnings.extend(opened.err().map(|error| chain(&error)));
    // Meanwhile somebody may have defended them who was first by a moment. Until the kernel begins with IPv6 it has nothing to say.
    if let Some(refusal) = question.found.refusal(&question.answers).filter(|_| !question.is_accepted) {
        return Err(refusal);
    }
    report.warnings.extend(question.defended(|_, raised| keeper::give_back(raised)));
    Ok(question)
}

/// Uses the operator's acceptance of just this up; an error says why it does not count, where there is more to say than that there is none.
fn accepted(places: &Places, refusal: &Refusal) -> Result<Vec<Acceptance>, Option<String>> {
    let root = Dir::open_root(&places.root).map_err(|error| Some(chain(&error)))?;
    let accepted = accept::read(&root).map_err(Some)?;
    let used: Vec<Acceptance> = accepted.iter().filter(|one| one.is_for(refusal)).cloned().collect();
    if used.is_empty() {
        return Err(accept::does_not_count(&accepted, &used, refusal));
    }
    accept::use_up(&root, &used)
        .map_err(|error| Some(format!("the acceptance cannot be used up: {}", chain(&error))))?;
    Ok(used)
}

/// This boot has decided: what an operator accepted for it holds no longer.
fn end_of_acceptances(places: &Places) -> Option<String> {
    accept::end(&Dir::open_root(&places.root).ok()?, &boot_id())
}

/// Keeps it closed, and says why where early boot did not.
fn closed(
    places: &Places,
    gate: &Gate,
    mut report: GateReport,
    refusal: &Refusal,
    read: &Result<Option<BootReport>, String>,
) -> Result<(), String> {
    report.warnings.extend(gate.close().err().map(|error| chain(&error)));
    report.open = false;
    report.refusal = Some(refusal.clone());
    if let Some(unsaid) = unsaid(refusal, read) {
        record::announce(&unsaid);
        report.warnings.extend(record::write(places, &unsaid).err().map(|error| chain(&error)));
    }
    report.warnings.extend(end_of_acceptances(places));
    // Before anything that waits for the decision begins to write there.
    keeper::let_go(places, &mut report);
    decided(places, &mut report);
    if refusal.code == RefusalCode::NotDecided {
        // Early boot did not come to it, and an initramfs without atlas-boot starts every array that it finds. Nobody waits for this.
        report.warnings.extend(stop_what_others_started(places));
        let unwritten = write(places, &mut report).err().map(|error| chain(&error));
        report.warnings.extend(unwritten);
    }
    keeper::stay_closed(places, gate, report)
}

fn stop_what_others_started(places: &Places) -> Vec<String> {
    let mut machine = Machine::new(places);
    let lines = machine.survey().map(|survey| machine.clear(&survey)).unwrap_or_default();
    lines.iter().for_each(|line| eprintln!("<4>{line}"));
    lines
}

/// Says what was decided, to everybody who waits for it. A report that cannot be written ends no watch: `/run` may be full.
fn decided(places: &Places, report: &mut GateReport) {
    let unwritten = write(places, report).err().map(|error| chain(&error));
    report.warnings.extend(unwritten);
    say(report);
    notify("READY=1");
}

/// What a keeper before this one wrote.
fn before(places: &Places) -> Option<GateReport> {
    let content =
        Dir::open_root(&places.run).ok()?.read_if_there(format!("atlas/{}", GateReport::NAME), REPORT_LIMIT).ok()??;
    serde_json::from_slice(&content).ok()
}

/// Decides from facts alone. `report` is boot.json, `None` where there is none; an error says why it cannot be read.
fn decide(is_initialised: bool, is_open: bool, boot_id: &str, report: &Result<Option<BootReport>, String>) -> Decision {
    if is_open {
        return Decision::Standing;
    }
    let not_decided = |found: &str| Decision::Closed(refuse::not_decided(found));
    match report {
        Err(why) => not_decided(why),
        Ok(None) if is_initialised => not_decided("there is no /run/atlas/boot.json"),
        Ok(None) => Decision::NotOurs,
        Ok(Some(report)) if report.boot_id.as_ref().is_some_and(|of| of != boot_id) => {
            not_decided("/run/atlas/boot.json is of another boot")
        }
        Ok(Some(report)) => match (&report.refusal, report.outcome) {
            (Some(refusal), _) => Decision::Closed(refusal.clone()),
            (None, Outcome::Refused) => not_decided("/run/atlas/boot.json says 'refused', and not why"),
            (None, Outcome::NotInitialised) if is_initialised => not_decided("'atlas init' was run after this boot"),
            (None, Outcome::NotInitialised) => Decision::NotOurs,
            (None, Outcome::IdentityInstalled | Outcome::FromScratch) => Decision::Open,
        },
    }
}

fn is_initialised(places: &Places) -> bool {
    places.root.join(INITIALISED.trim_start_matches('/')).exists()
}

/// The kernel's name for this boot.
pub fn boot_id() -> String {
    let id = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    id.trim().to_owned()
}

pub(crate) fn read_report(places: &Places) -> Result<Option<BootReport>, String> {
    let read = || Dir::open_root(&places.run)?.read_if_there("atlas/boot.json", REPORT_LIMIT);
    let Some(content) = read().map_err(|error: FileError| chain(&error))? else { return Ok(None) };
    match serde_json::from_slice::<BootReport>(&content) {
        Ok(report) if report.format == BootReport::FORMAT => Ok(Some(report)),
        Ok(report) => Err(format!("/run/atlas/boot.json is of format {}", report.format)),
        Err(error) => Err(format!("/run/atlas/boot.json cannot be read: {error}")),
    }
}

/// What is to be said of a refusal that early boot did not say itself.
fn unsaid(refusal: &Refusal, read: &Result<Option<BootReport>, String>) -> Option<BootReport> {
    let of_boot = read.as_ref().ok().and_then(Option::as_ref);
    if of_boot.is_some_and(|report| report.refusal.as_ref() == Some(refusal)) {
        return None;
    }
    let begun = of_boot.cloned().unwrap_or_else(|| BootReport::begin(PROGRAM));
    let (boot_id, refusal) = (Some(boot_id()), Some(refusal.clone()));
    Some(BootReport { boot_id, refusal, outcome: Outcome::Refused, ..begun })
}

/// Writes gate.json, with the time.
pub(crate) fn write(places: &Places, report: &mut GateReport) -> Result<(), FileError> {
    let uptime = std::fs::read_to_string("/proc/uptime").unwrap_or_default();
    report.at_s = uptime.split(['.', ' ']).next().and_then(|seconds| seconds.parse().ok()).unwrap_or(0);
    let dir = Dir::open_root(&places.run)?.make_dirs("atlas")?;
    let json = serde_json::to_vec_pretty(report).map_err(FileError::on("write", dir.show(GateReport::NAME)))?;
    durable::write(&dir, OsStr::new(GateReport::NAME), &json, 0o644)
}

/// For the journal.
pub(crate) fn say(report: &GateReport) {
    match &report.refusal {
        Some(refusal) => eprintln!("<5>the gate is closed: {refusal}"),
        None => eprintln!("<6>the gate is open"),
    }
    report.warnings.iter().for_each(|warning| eprintln!("<4>{warning}"));
}

/// Tells systemd's watchdog that somebody still watches.
pub(crate) fn still_watching() {
    notify("WATCHDOG=1");
}

/// Tells systemd, where that started this program.
fn notify(state: &str) {
    let Some(address) = std::env::var_os("NOTIFY_SOCKET") else { return };
    // Whom nobody hears goes on; systemd gives up on it in time.
    let _ = UnixDatagram::unbound().and_then(|socket| match address.as_encoded_bytes().strip_prefix(b"@") {
        Some(name) => {
            use std::os::linux::net::SocketAddrExt;
            socket.send_to_addr(state.as_bytes(), &SocketAddr::from_abstract_name(name)?)
        }
        None => socket.send_to(state.as_bytes(), &address),
    });
}

/// An error and its causes on one line.
pub fn chain(error: &dyn Error) -> String {
    error.source().map_or_else(|| error.to_string(), |cause| format!("{error}: {}", chain(cause)))
}

#[cfg(test)]
mod tests {
    use super::*;

    const THIS: &str = "11111111-2222-3333-4444-555555555555";

    fn report(outcome: Outcome) -> BootReport {
        BootReport { outcome, boot_id: Some(THIS.into()), ..BootReport::begin("atlas-boot") }
    }

    fn decided(is_initialised: bool, report: Option<BootReport>) -> Decision {
        decide(is_initialised, false, THIS, &Ok(report))
    }

    fn code(decision: &Decision) -> Option<RefusalCode> {
        match decision {
            Decision::Closed(refusal) => Some(refusal.code),
            _ => None,
        }
    }

    #[test]
    fn only_a_boot_that_took_a_role_opens_it() {
        for outcome in [Outcome::IdentityInstalled, Outcome::FromScratch] {
            // Also where somebody removed the mark: early boot has found a role.
            for is_initialised in [true, false] {
                assert_eq!(decided(is_initialised, Some(report(outcome))), Decision::Open);
            }
        }
        let refusal = Refusal::new(RefusalCode::TwoSets, "Two sets.");
        let refused = BootReport { refusal: Some(refusal.clone()), ..report(Outcome::Refused) };
        for is_initialised in [true, false] {
            assert_eq!(decided(is_initialised, Some(refused.clone())), Decision::Closed(refusal.clone()));
        }
    }

    #[test]
    fn without_a_report_of_this_boot_it_stays_closed() {
        let other = BootReport { boot_id: Some("another".into()), ..report(Outcome::IdentityInstalled) };
        let silent = report(Outcome::Refused);
        for found in [None, Some(other), Some(silent), Some(report(Outcome::NotInitialised))] {
            assert_eq!(code(&decided(true, found.clone())), Some(RefusalCode::NotDecided), "{found:?}");
        }
        let broken = decide(false, false, THIS, &Err("it cannot be read".into()));
        assert_eq!(code(&broken), Some(RefusalCode::NotDecided));
    }

    #[test]
    fn a_machine_where_init_never_ran_is_left_alone() {
        assert_eq!(decided(false, None), Decision::NotOurs);
        assert_eq!(decided(false, Some(report(Outcome::NotInitialised))), Decision::NotOurs);
    }

    #[test]
    fn a_keeper_that_is_started_again_finds_it_open() {
        assert_eq!(decide(true, true, THIS, &Ok(Some(report(Outcome::FromScratch)))), Decision::Standing);
    }

    #[test]
    fn a_boot_that_nobody_decided_is_refused_above_the_login_too() {
        let tmp = tempfile::tempdir().unwrap();
        let places = Places { root: tmp.path().into(), run: tmp.path().into() };
        let refusal = refuse::not_decided("nothing");
        let told = unsaid(&refusal, &Ok(None)).unwrap();
        record::write(&places, &told).unwrap();
        assert_eq!(unsaid(&refusal, &Ok(Some(told))), None, "it was said already");
        let above = std::fs::read_to_string(tmp.path().join("issue.d/atlas.issue")).unwrap();
        assert!(above.contains("not-decided"), "{above}");
        let written = read_report(&places).unwrap().unwrap();
        assert_eq!(written.refusal.map(|refusal| refusal.code), Some(RefusalCode::NotDecided));
        assert_eq!(written.boot_id, Some(boot_id()));
    }
}
