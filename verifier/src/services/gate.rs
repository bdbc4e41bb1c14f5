//! The gate of this server's network: somebody keeps it, it is open, and no other machine has an address of this server or of a partner.
//!
//! ```text
//! /run/atlas/gate.json   open, or why not; duplicates; a set that turned read-only; when it was written, every few seconds
//! ```

use crate::{
    here::{self, Faults},
    service::{Service, Target},
};
use atlas_model::{
    BootReport, GateReport, Outcome,
    verify::{ADDRESS_IN_USE, Profile},
};

pub(super) const SERVICE: Service = Service {
    name: "gate",
    about: "the network is open, nobody else has this server's addresses, and the set can be written",
    interval: 5,
    deadline: 5,
    find: |_| Ok(here::found()),
    verify,
};

/// The keeper writes its report at least every 10 seconds, unless the machine is very busy.
const SILENT_S: f64 = 60.0;
const INITIALISED: &str = "etc/atlas/initialised";
const STATUS: &str = "systemctl status atlas-gate; cat /run/atlas/gate.json";

fn verify(target: &Target) -> anyhow::Result<Profile> {
    let root = &target.root;
    if !here::is_there(root, INITIALISED) {
        return Ok(Profile::ok("this server belongs to no cluster yet"));
    }
    let mut faults = Faults::default();
    let booted =
        here::text(root, "run/atlas/boot.json").and_then(|text| serde_json::from_str::<BootReport>(&text).ok());
    if booted.is_some_and(|boot| boot.outcome == Outcome::NotInitialised) {
        faults.slow(
            "this server was set up after it booted: until its next boot nobody asks for its addresses, and nobody watches its disks",
            "reboot it once, before anything is at stake",
        );
        return Ok(faults.profile(""));
    }
    let report = here::text(root, "run/atlas/gate.json").map(|text| serde_json::from_str::<GateReport>(&text));
    match report {
        None => faults.unknown("nobody keeps the gate of the network: there is no /run/atlas/gate.json", STATUS),
        Some(Err(error)) => faults.unknown(format!("/run/atlas/gate.json cannot be read: {error}"), STATUS),
        Some(Ok(report)) => judge(&report, here::uptime(root), &mut faults),
    }
    Ok(faults.profile("the network is open, and its addresses are this server's alone"))
}

fn judge(report: &GateReport, uptime: Option<f64>, faults: &mut Faults) {
    if let Some(age) = uptime.map(|uptime| uptime - report.at_s as f64).filter(|age| *age > SILENT_S) {
        let age = here::duration(age as u64);
        faults.unknown(format!("the keeper of the gate has written nothing for {age}"), STATUS);
    }
    match &report.refusal {
        Some(refusal) => {
            faults.unacceptable(format!("the network is closed: {}", refusal.what), refusal.remedy.join("; "));
        }
        None if !report.open => faults.unacceptable("the network is closed", STATUS),
        None => {}
    }
    for duplicate in &report.duplicates {
        let cards: Vec<String> = duplicate.cards.iter().map(ToString::to_string).collect();
        let (who, cards) = if duplicate.of == "this server" {
            ("another machine has", cards.join(", "))
        } else {
            ("two machines have", cards.join(" and "))
        };
        faults.bad(
            ADDRESS_IN_USE,
            format!("{who} {}, an address of {}: {cards}", duplicate.address, duplicate.of),
            "find the machine by its card (its switch port, 'ip link' on each server); if it has a copy of the disks, switch one of the two off",
        );
    }
    if let Some(why) = &report.set_fault {
        faults.unacceptable(
            format!("the Unbound set cannot be relied on: {why}"),
            "dmesg; mdadm --detail /dev/md/atlas-unbound; if its disks are well: reboot, which checks the file system",
        );
    }
    for warning in &report.warnings {
        faults.slow(format!("at the opening of the network: {warning}"), STATUS);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::here::testing::Server;
    use atlas_model::{Refusal, RefusalCode, claims::Duplicate, verify::Verdict};

    fn server(report: &GateReport) -> Server {
        let server = Server::with(&[(INITIALISED, ""), ("proc/uptime", "1000.50 900.00\n")]);
        server.write("run/atlas/gate.json", &serde_json::to_string(report).unwrap());
        server
    }

    fn open() -> GateReport {
        GateReport { format: 1, open: true, at_s: 995, ..GateReport::default() }
    }

    #[test]
    fn a_gate_that_is_kept_and_open_is_well_and_a_server_of_no_cluster_has_none() {
        server(&open()).is_well(&SERVICE);
        Server::new().is_well(&SERVICE);
    }

    #[test]
    fn a_keeper_that_is_missing_or_silent_leaves_it_unknown() {
        let missing = Server::with(&[(INITIALISED, "")]);
        missing.says(&SERVICE, Verdict::Unknown, &["nobody keeps the gate"]);
        missing.write("run/atlas/gate.json", "{");
        missing.says(&SERVICE, Verdict::Unknown, &["cannot be read"]);
        server(&GateReport { at_s: 900, ..open() }).says(&SERVICE, Verdict::Unknown, &["nothing for 100 s"]);
    }

    #[test]
    fn a_closed_gate_says_why() {
        let refusal = Refusal::new(RefusalCode::DisksLost, "All disks are gone.").remedy("push them in");
        let report = GateReport { open: false, refusal: Some(refusal), ..open() };
        let profile = server(&report).says(&SERVICE, Verdict::Unacceptable, &["closed: All disks are gone."]);
        assert_eq!(profile.hint.as_deref(), Some("push them in"));
    }

    #[test]
    fn duplicates_and_a_set_that_cannot_be_written_are_unacceptable() {
        let cards = |last: &[u8]| last.iter().map(|last| atlas_model::address::Mac([2, 0, 0, 0, 0, *last])).collect();
        let duplicate = |of: &str, last: &[u8]| Duplicate {
            address: "192.168.77.1".parse().unwrap(),
            of: of.into(),
            cards: cards(last),
        };
        let of_pri = GateReport { duplicates: vec![duplicate("PRI", &[1, 2])], ..open() };
        server(&of_pri).says(
            &SERVICE,
            Verdict::Unacceptable,
            &["two machines have 192.168.77.1, an address of PRI: 02:00:00:00:00:01 and 02:00:00:00:00:02"],
        );
        let own = GateReport { duplicates: vec![duplicate("this server", &[2])], ..open() };
        server(&own).says(&SERVICE, Verdict::Unacceptable, &["another machine has 192.168.77.1"]);
        let set_fault = GateReport { set_fault: Some("it found errors".into()), ..open() };
        server(&set_fault).says(&SERVICE, Verdict::Unacceptable, &["cannot be relied on", "it found errors"]);
        let accepted = GateReport { warnings: vec!["an operator has accepted: x".into()], ..open() };
        server(&accepted).says(&SERVICE, Verdict::Slow, &["an operator has accepted"]);
    }

    #[test]
    fn a_server_that_was_set_up_since_its_boot_is_to_be_booted_once() {
        let silent = GateReport { at_s: 1, ..open() };
        let boot = |outcome| serde_json::to_string(&BootReport { outcome, ..BootReport::begin("test") }).unwrap();
        let server = server(&silent);
        server.write("run/atlas/boot.json", &boot(Outcome::NotInitialised));
        let told = server.says(&SERVICE, Verdict::Slow, &["was set up after it booted"]);
        assert!(told.hint.unwrap().contains("reboot it once"));
        server.write("run/atlas/boot.json", &boot(Outcome::IdentityInstalled));
        server.says(&SERVICE, Verdict::Unknown, &["has written nothing for"]);
    }
}
