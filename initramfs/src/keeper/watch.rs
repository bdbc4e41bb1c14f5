//! The watch over disks and addresses, while the gate is open; and over the gate, while it is closed.

use super::{
    addresses::{Found, Judged, Question},
    disks::{Disks, Kernel, make_read_only},
    disks_lost, tell_terminals,
};
use crate::{Places, gate, record};
use atlas_host::{
    mount,
    net::{
        NetError, cards,
        gate::Gate,
        probe::{self, Answers, Conflict, Ears, Said},
        rtnetlink::Rtnetlink,
    },
};
use atlas_model::{
    BootReport, GateReport, Outcome, Refusal, RefusalCode,
    address::{Link, Mac, Wire},
    claims::Claims,
};
use std::{
    collections::BTreeSet,
    path::Path,
    thread,
    time::{Duration, Instant},
};

/// How often the disks are looked at. The reads themselves are further apart.
const STEP: Duration = Duration::from_millis(200);
/// How often the machine's cards are looked at.
const CARDS: Duration = Duration::from_secs(2);
/// How often it is looked whether the set can be written.
const SET: Duration = Duration::from_secs(1);
/// How often the report says that somebody still watches.
const HEARTBEAT: Duration = Duration::from_secs(10);
/// How often systemd's watchdog hears it; it waits for ten seconds.
const SIGN: Duration = Duration::from_secs(2);
/// How long after the gate was opened a claim of this server's address by another machine closes it again: that machine asked at nearly the same time
/// and had decided first. Later, nobody can tell who was first, and it is reported.
const GRACE: Duration = Duration::from_secs(10);
/// How often a closed gate is looked at.
const CLOSED: Duration = Duration::from_secs(1);

/// Watches, with the gate open.
pub(crate) struct Keeper<'p> {
    places: &'p Places,
    gate: &'p Gate,
    report: GateReport,
    began: Instant,
    disks: Option<Disks>,
    /// The members as the boot found them, with serial number and place.
    of_boot: Vec<String>,
    claims: Claims,
    found: Found,
    ears: Option<Ears>,
    /// Who claimed an address of this server's in time to end its role.
    conflicts: BTreeSet<Conflict>,
    grace: Duration,
    next_cards: Duration,
    next_set: Duration,
    next_report: Duration,
    next_sign: Duration,
}

fn disks_of(boot: &BootReport) -> Option<Disks> {
    let mount = Path::new("/").join(atlas_sid::layout::UNBOUND_MOUNT);
    boot.set.as_ref().map(|set| Disks::new(Kernel::here(), &set.device, &mount))
}

/// The set was lost before the gate was opened: a system that waited in its emergency mode, for example, may go on without its disks.
pub(crate) fn lost_already(boot: &BootReport) -> Option<Refusal> {
    let mut disks = disks_of(boot)?;
    let of_boot = boot.set.as_ref().map(|set| set.disks.as_slice()).unwrap_or_default();
    disks.are_lost_already().then(|| disks_lost(&disks.standings(Duration::ZERO), of_boot))
}

impl<'p> Keeper<'p> {
    /// Of a server that has taken its role, or will keep the one that it has.
    pub(crate) fn new(
        places: &'p Places,
        gate: &'p Gate,
        report: GateReport,
        boot: &BootReport,
        found: Found,
    ) -> Keeper<'p> {
        let began = Instant::now();
        let disks = disks_of(boot);
        let mut claims = Claims::default();
        found.wanted.iter().for_each(|one| claims.watch(one.address, "this server", true));
        found.others.iter().for_each(|(address, of)| claims.watch(*address, of, false));
        Keeper {
            places,
            gate,
            report,
            began,
            disks,
            of_boot: boot.set.iter().flat_map(|set| set.disks.clone()).collect(),
            claims,
            found,
            ears: None,
            conflicts: BTreeSet::new(),
            grace: Duration::ZERO,
            next_cards: Duration::ZERO,
            next_set: Duration::ZERO,
            next_report: Duration::ZERO,
            next_sign: Duration::ZERO,
        }
    }

    /// Goes on where the question ended: with the sockets that heard the answers, and with who has claimed an address since. For [`GRACE`] a claim
    /// ends the role, unless an operator has accepted just that.
    pub(crate) fn having_asked(mut self, question: Question) -> Self {
        if !question.is_accepted {
            (self.grace, self.conflicts) = (GRACE, question.answers.conflicts);
        }
        // What was heard meanwhile waits in these sockets: the cards are looked at a little later.
        (self.ears, self.next_cards) = (Some(question.ears), CARDS);
        self
    }

    /// Watches until the disks are lost, or an address turns out to be another machine's; then the gate is closed, and this gives the report.
    pub(crate) fn watch(mut self) -> GateReport {
        loop {
            let now = self.began.elapsed();
            self.hear(now + STEP);
            let now = self.began.elapsed();
            let refusal = self.disks(now).or_else(|| self.late_claims()).or_else(|| self.held_cards());
            if let Some(refusal) = refusal {
                shut(self.places, self.gate, &mut self.report, refusal);
                return self.report;
            }
            if now >= self.next_sign {
                self.next_sign = now + SIGN;
                gate::still_watching();
            }
            if now >= self.next_cards {
                self.next_cards = now + CARDS;
                self.listen_to_all();
            }
            let changed = self.look_at_claims(now) | self.look_at_set(now);
            if changed || now >= self.next_report {
                self.next_report = now + HEARTBEAT;
                // A full /run is no reason to end the watch.
                let _ = gate::write(self.places, &mut self.report);
            }
        }
    }

    fn late_claims(&self) -> Option<Refusal> {
        let conflicts = self.conflicts.clone();
        self.found.refusal(&Answers { conflicts, ..Answers::default() })
    }

    fn disks(&mut self, now: Duration) -> Option<Refusal> {
        let disks = self.disks.as_mut()?;
        disks.look(now);
        if !disks.are_lost(now) {
            return None;
        }
        let standings = disks.standings(now);
        self.report.members = standings.iter().map(ToString::to_string).collect();
        Some(disks_lost(&standings, &self.of_boot))
    }

    /// Says whether anything changed.
    fn look_at_set(&mut self, now: Duration) -> bool {
        let Some(disks) = self.disks.as_ref().filter(|_| now >= self.next_set) else { return false };
        self.next_set = now + SET;
        let (set_fault, members) = (disks.fault(), disks.standings(now).iter().map(ToString::to_string).collect());
        let report = &mut self.report;
        let changed = report.set_fault != set_fault || report.members != members;
        (report.set_fault, report.members) = (set_fault, members);
        changed
    }

    /// Cards that had no carrier when the gate was opened: one that has it now is asked on, and then let go.
    fn held_cards(&mut self) -> Option<Refusal> {
        if self.report.held.is_empty() {
            return None;
        }
        let links = Rtnetlink::open().and_then(|mut kernel| kernel.links()).ok()?;
        let ready = |name: &&String| links.iter().any(|link| link.name == **name && link.has_carrier);
        let ready: Vec<String> = self.report.held.iter().filter(ready).cloned().collect();
        if ready.is_empty() {
            return None;
        }
        self.listen_to_all();
        let ears = self.ears.as_ref()?;
        let indices: BTreeSet<u32> =
            ears.cards().filter(|card| ready.contains(&card.name)).map(|card| card.index).collect();
        let answers =
            probe::ask(ears, &self.found.on(&indices), &self.found.partner_addresses(), Duration::ZERO).ok()?;
        if let Some(refusal) = self.found.refusal(&answers) {
            return Some(refusal);
        }
        for name in ready.iter().filter(|name| !answers.not_asked.contains(*name)) {
            match self.gate.release(name) {
                Ok(()) => self.report.held.retain(|held| held != name),
                Err(error) => self.report.warnings.push(gate::chain(&error)),
            }
        }
        self.next_report = Duration::ZERO;
        None
    }

    /// Listens on every card that is there now.
    fn listen_to_all(&mut self) {
        let Ok((cards, own)) = cards_now() else { return };
        let same = self
            .ears
            .as_ref()
            .is_some_and(|ears| ears.cards().eq(cards.iter()) && own.iter().all(|mac| ears.is_own(*mac)));
        if !same && let Ok(ears) = Ears::open(&cards, own) {
            // What the old ones still hold is heard before they go.
            self.hear(Duration::ZERO);
            self.ears = Some(ears);
        }
        // A VLAN that is not configured yet is defended like the rest.
        let wires: BTreeSet<Wire> = self.found.wanted.iter().flat_map(|one| one.wires.iter().copied()).collect();
        let deaf = self.ears.as_ref().and_then(|ears| ears.hear_vlans(&wires).err());
        if let Some(error) = deaf.map(|error| gate::chain(&error)).filter(|error| !self.report.warnings.contains(error))
        {
            self.report.warnings.push(error);
        }
    }

    fn look_at_claims(&mut self, now: Duration) -> bool {
        let (questions, changed) = self.claims.step(now);
        if let Some(ears) = &self.ears {
            for (wire, address) in
                questions.iter().flat_map(|address| wires(&self.found, ears).into_iter().map(|wire| (wire, *address)))
            {
                // On a card without a carrier nobody is asked.
                let _ = ears.inquire(wire, address);
            }
        }
        if changed {
            self.report.duplicates = self.claims.duplicates();
            tell_duplicates(&self.report);
        }
        changed
    }

    fn hear(&mut self, until: Duration) {
        let until = self.claims.due().map_or(until, |due| due.min(until));
        let until = self.began + until;
        let Some(ears) = &self.ears else {
            return thread::sleep(until.saturating_duration_since(Instant::now()));
        };
        let (claims, began, found) = (&mut self.claims, self.began, &self.found);
        let (conflicts, grace) = (&mut self.conflicts, self.grace);
        ears.hear(until, |card, heard| {
            let now = began.elapsed();
            match found.judge(ears, card, heard) {
                Some(Judged::Defend(wire)) => drop(ears.defend(wire, heard.address, heard.mac)),
                Some(Judged::Conflict(conflict)) if now < grace => drop(conflicts.insert(conflict)),
                _ if heard.said == Said::Claim && !ears.is_own(heard.mac) => {
                    claims.heard(heard.address, heard.mac, now);
                }
                _ => {}
            }
        });
    }
}

/// Where a partner is looked for: on the wires of this server's own addresses, or everywhere where it has none.
fn wires(found: &Found, ears: &Ears) -> BTreeSet<Wire> {
    let own: BTreeSet<Wire> = found.wanted.iter().flat_map(|one| one.wires.iter().copied()).collect();
    if own.is_empty() { ears.cards().map(|card| Wire { index: card.index, vlan: None }).collect() } else { own }
}

fn cards_now() -> Result<(Vec<Link>, BTreeSet<Mac>), NetError> {
    let links = Rtnetlink::open()?.links()?;
    let own = links.iter().filter_map(|link| link.mac).map(Mac).collect();
    Ok((links.iter().filter(|link| link.is_up).filter_map(cards::card).collect(), own))
}

fn tell_duplicates(report: &GateReport) {
    for duplicate in &report.duplicates {
        let cards: Vec<String> = duplicate.cards.iter().map(ToString::to_string).collect();
        record::log(&format!(
            "two machines have {}, an address of {}: {}",
            duplicate.address,
            duplicate.of,
            cards.join(", ")
        ));
    }
    if report.duplicates.is_empty() {
        record::log("no two machines have the same address any more");
    }
}

/// The role has ended: nothing leaves this machine any more, and everybody is told why.
fn shut(places: &Places, gate: &Gate, report: &mut GateReport, refusal: Refusal) {
    let mut warnings = Vec::new();
    // Links first: that is one message each, and takes what waits in the cards along.
    warnings.extend(links_down().err().map(|error| gate::chain(&error)));
    warnings.extend(gate.close().err().map(|error| gate::chain(&error)));
    let begun = gate::read_report(places).ok().flatten().unwrap_or_else(|| BootReport::begin(crate::PROGRAM));
    let boot = BootReport {
        outcome: Outcome::Refused,
        refusal: Some(refusal.clone()),
        boot_id: Some(gate::boot_id()),
        ..begun
    };
    record::announce(&boot);
    tell_terminals(Path::new("/dev"), &refusal.screen());
    warnings.extend(record::write(places, &boot).err().map(|error| gate::chain(&error)));
    report.open = false;
    report.refusal = Some(refusal);
    report.warnings.extend(warnings);
    report.held.clear();
    let _ = gate::write(places, report);
    gate::say(report);
    let_go(places, report);
}

fn links_down() -> Result<(), NetError> {
    let mut kernel = Rtnetlink::open()?;
    for link in kernel.links()?.iter().filter(|link| link.is_up && !link.is_loopback) {
        // One that is gone meanwhile, or cannot be set down, is held all the same.
        let _ = kernel.set_up(link.index, false);
    }
    Ok(())
}

/// Nothing is written to a set whose server has no role: lost disks may be in another server, and a mirror's half that served nobody must not look
/// as if it had been written last.
pub(crate) fn let_go(places: &Places, report: &mut GateReport) {
    let at = places.unbound();
    match report.refusal.as_ref().map(|refusal| refusal.code) {
        Some(RefusalCode::DisksLost) => mount::end(&at),
        Some(RefusalCode::AddressInUse) => {
            let failed = make_read_only(&at).err();
            report.warnings.extend(failed.map(|error| format!("the Unbound set may still be written: {error}")));
        }
        _ => {}
    }
}

/// Keeps the gate closed, whoever brings interfaces up, in whatever network namespace, until the machine is switched off.
pub(crate) fn stay_closed(places: &Places, gate: &Gate, mut report: GateReport) -> ! {
    let mut next_report = Instant::now();
    loop {
        // What is closed is left as it is; what cannot be done was said when the gate was closed.
        let _ = gate.close();
        gate::still_watching();
        if Instant::now() >= next_report {
            next_report = Instant::now() + HEARTBEAT;
            let _ = gate::write(places, &mut report);
        }
        thread::sleep(CLOSED);
    }
}
