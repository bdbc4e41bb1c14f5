//! Asking for addresses before they are taken (RFC 5227; RFC 4862, 5.4), and hearing who has them afterwards.
//!
//! ```text
//! card has a carrier ── 0 ms ──── 250 ms ──── 500 ms ──────────── 1000 ms
//!                       asked     asked       asked               nobody answered: it is free on this wire
//! ```
//!
//! A carrier that had to be waited for is asked twice as long. All addresses and all cards are asked at once. Two machines that ask at the same time hear each other's questions. One that has
//! decided defends its addresses from then on, though nothing has configured them yet: a machine that asks a moment later is answered.
//!
//! The frames pass a closed gate, because they are sent past the queueing disciplines; nothing else does.

pub use super::packet::{Heard, Said};
use super::{NetError, arp, ndp, packet::Wiretap, rtnetlink::Rtnetlink};
use atlas_model::address::{Link, Mac, Wanted, Wire};
use nix::{
    errno::Errno,
    poll::{PollFd, PollFlags, PollTimeout, poll},
};
use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    os::fd::AsFd,
    time::{Duration, Instant},
};

/// When each address is asked for, in milliseconds after the first time.
const ASKED_AT: [u64; 3] = [0, 250, 500];
/// How long after the first question an answer counts.
pub const WINDOW: Duration = Duration::from_millis(1000);
/// The same, and a window of its own, for a card whose carrier had to be waited for: a switch, or the machine at the other end of the wire,
/// may drop everything in the first second.
const FRESH_ASKED_AT: [u64; 5] = [0, 250, 500, 1000, 1500];
const FRESH_WINDOW: Duration = Duration::from_millis(2000);
/// A carrier that comes later than this after the beginning had to be waited for.
const FRESH: Duration = Duration::from_millis(200);
/// How often carriers are looked at while one is waited for.
const LOOK: Duration = Duration::from_millis(20);
/// The most that is taken from one card before the others are looked at.
const AT_ONCE: usize = 1000;

/// Somebody who has an address that is asked for, or is about to take it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Conflict {
    /// The address.
    pub address: IpAddr,
    /// The card of this machine that heard it.
    pub interface: String,
    /// In which VLAN.
    pub vlan: Option<u16>,
    /// The other machine's card.
    pub mac: Mac,
    /// Whether it has the address, or asks for it as we do.
    pub said: Said,
}

/// What came of the questions.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Answers {
    /// Who was heard, each once.
    pub conflicts: BTreeSet<Conflict>,
    /// The cards that answered for the other addresses that were asked for.
    pub others: BTreeMap<IpAddr, BTreeSet<Mac>>,
    /// Cards that could not be asked: no carrier, or they are gone.
    pub not_asked: BTreeSet<String>,
}

/// Listens on cards.
#[derive(Debug)]
pub struct Ears {
    taps: Vec<(Link, Wiretap)>,
    own: BTreeSet<Mac>,
}

impl Ears {
    /// On each of these cards; `own` are the addresses of all cards of this machine.
    pub fn open(cards: &[Link], own: BTreeSet<Mac>) -> Result<Ears, NetError> {
        let open = |card: &Link| Ok((card.clone(), Wiretap::open(&card.name, card.index)?));
        Ok(Ears { taps: cards.iter().map(open).collect::<Result<_, NetError>>()?, own })
    }

    /// The cards.
    pub fn cards(&self) -> impl Iterator<Item = &Link> {
        self.taps.iter().map(|(card, _)| card)
    }

    /// Hears what comes in these VLANs, although the kernel may have no interface for them yet; see [`Wiretap::hear_all`].
    pub fn hear_vlans(&self, wires: &BTreeSet<Wire>) -> Result<(), NetError> {
        let known = registered_vlans();
        let is_unknown = |wire: &Wire| wire.vlan.is_some_and(|vlan| !known.contains(&vlan));
        let all = |card: &Link| wires.iter().any(|wire| wire.index == card.index && is_unknown(wire));
        self.taps.iter().try_for_each(|(card, tap)| tap.hear_all(all(card)))
    }

    /// Whether a card is one of this machine's.
    pub fn is_own(&self, mac: Mac) -> bool {
        self.own.contains(&mac)
    }

    /// Asks who has an address, without saying anything of oneself.
    pub fn ask(&self, wire: Wire, address: IpAddr) -> Result<(), NetError> {
        self.send(wire, |card| match address {
            IpAddr::V4(address) => arp::probe(card, wire.vlan, address),
            IpAddr::V6(address) => ndp::probe(card, wire.vlan, address),
        })
    }

    /// Asks who has another server's address; unlike [`Ears::ask`], this keeps nobody from taking it.
    pub fn inquire(&self, wire: Wire, address: IpAddr) -> Result<(), NetError> {
        self.send(wire, |card| match address {
            IpAddr::V4(address) => arp::question(card, wire.vlan, address),
            IpAddr::V6(address) => ndp::question(card, wire.vlan, address),
        })
    }

    /// Tells `asker` that an address is in use here.
    pub fn defend(&self, wire: Wire, address: IpAddr, asker: Mac) -> Result<(), NetError> {
        self.send(wire, |card| match address {
            IpAddr::V4(address) => arp::defend(card, wire.vlan, address, asker),
            IpAddr::V6(address) => ndp::defend(card, wire.vlan, address),
        })
    }

    fn send(&self, wire: Wire, frame: impl FnOnce(Mac) -> Vec<u8>) -> Result<(), NetError> {
        match self.taps.iter().find(|(card, _)| card.index == wire.index) {
            Some((card, tap)) => tap.send(&frame(card.mac)),
            None => Err(NetError::NoInterface(wire.index.to_string())),
        }
    }

    /// Gives everything that is heard until then to `take`. A card that is down or gone is silent.
    pub fn hear(&self, until: Instant, mut take: impl FnMut(&Link, Heard)) {
        loop {
            for (card, tap) in &self.taps {
                for _ in 0..AT_ONCE {
                    let Ok(Some(heard)) = tap.hear() else { break };
                    take(card, heard);
                }
            }
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            let mut waiting: Vec<PollFd> =
                self.taps.iter().map(|(_, tap)| PollFd::new(tap.as_fd(), PollFlags::POLLIN)).collect();
            // Rounded up: a wait of 0 would spin. A card that is down is always ready with its error, and is not asked for more.
            let wait = left.min(Duration::from_millis(200)) + Duration::from_micros(999);
            match poll(&mut waiting, PollTimeout::try_from(wait).unwrap_or(PollTimeout::MAX)) {
                Ok(_) | Err(Errno::EINTR) => {}
                Err(_) => std::thread::sleep(LOOK.min(left)),
            }
            let broken = |fd: &PollFd| fd.revents().is_some_and(|events| events.contains(PollFlags::POLLERR));
            if waiting.iter().any(broken) {
                std::thread::sleep(LOOK.min(left));
            }
        }
    }
}

/// The VLANs of which the kernel has an interface, on whatever card: `eth0.6 | 6 | eth0`. Without its module it has none.
fn registered_vlans() -> BTreeSet<u16> {
    vlans_of(&std::fs::read_to_string("/proc/net/vlan/config").unwrap_or_default())
}

fn vlans_of(config: &str) -> BTreeSet<u16> {
    config.lines().filter_map(|line| line.split('|').nth(1)?.trim().parse().ok()).collect()
}

/// Where a card stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// It has no carrier.
    Waiting,
    /// Since then, and so many times; whether its carrier is fresh.
    Asking(Instant, usize, bool),
    Done,
}

/// Asks for each address on its wires, and for `others` on all of them. A card without a carrier is waited for until `patience` is over, and
/// only while an address could be asked for on no other card.
pub fn ask(ears: &Ears, wanted: &[Wanted], others: &[IpAddr], patience: Duration) -> Result<Answers, NetError> {
    let mut kernel = Rtnetlink::open()?;
    let mut answers = Answers::default();
    let wires: BTreeSet<Wire> = wanted.iter().flat_map(|one| one.wires.iter().copied()).collect();
    ears.hear_vlans(&wires)?;
    let mut states: BTreeMap<u32, State> = wires.iter().map(|wire| (wire.index, State::Waiting)).collect();
    let began = Instant::now();
    let until = began + patience;
    let of_us = wanted.iter().flat_map(|one| one.wires.iter().map(|wire| (*wire, one.address)));
    let probes: Vec<(Wire, IpAddr)> = of_us.collect();
    let of_others = wires.iter().flat_map(|wire| others.iter().map(|address| (*wire, *address)));
    let questions: Vec<(Wire, IpAddr)> = of_others.collect();
    loop {
        let waiting = states.values().any(|state| *state == State::Waiting);
        let carriers = if waiting { with_carrier(&mut kernel)? } else { BTreeSet::new() };
        let now = Instant::now();
        for (card, state) in &mut states {
            let mine = |(wire, _): &&(Wire, IpAddr)| wire.index == *card;
            let fresh = now > began + FRESH;
            *state = step(*state, now, carriers.contains(card), fresh, || {
                probes.iter().filter(mine).all(|(wire, address)| ears.ask(*wire, *address).is_ok())
                    && questions.iter().filter(mine).all(|(wire, address)| ears.inquire(*wire, *address).is_ok())
            });
        }
        let is_done = |wire: &Wire| states.get(&wire.index) == Some(&State::Done);
        let answered = || wanted.iter().all(|one| one.wires.iter().any(is_done));
        let enough = now >= until || answered();
        if states.values().all(|state| *state == State::Done || enough && *state == State::Waiting) {
            break;
        }
        let next = if waiting { now + LOOK } else { now + WINDOW };
        let next = states.values().filter_map(|state| due(*state)).fold(next, Instant::min);
        ears.hear(next, |card, heard| answers.take(ears, wanted, others, card, heard));
    }
    let silent = |card: &&Link| states.get(&card.index).is_some_and(|state| *state != State::Done);
    answers.not_asked = ears.cards().filter(silent).map(|card| card.name.clone()).collect();
    Ok(answers)
}

/// What becomes of a card; `send` asks all of its questions, and says whether they went out.
fn step(state: State, now: Instant, carrier: bool, fresh: bool, send: impl Fn() -> bool) -> State {
    match state {
        State::Waiting if carrier && send() => State::Asking(now, 1, fresh),
        State::Asking(since, times, fresh) if due(state).is_some_and(|due| now >= due) => {
            match times < asked_at(fresh).0.len() {
                false => State::Done,
                // It lost its carrier: it begins anew.
                true => {
                    if send() {
                        State::Asking(since, times + 1, fresh)
                    } else {
                        State::Waiting
                    }
                }
            }
        }
        other => other,
    }
}

/// When a card is asked, and how long answers count.
fn asked_at(fresh: bool) -> (&'static [u64], Duration) {
    if fresh { (&FRESH_ASKED_AT, FRESH_WINDOW) } else { (&ASKED_AT, WINDOW) }
}

/// When a card is to be looked at again.
fn due(state: State) -> Option<Instant> {
    let State::Asking(since, times, fresh) = state else { return None };
    let (asked_at, window) = asked_at(fresh);
    Some(since + asked_at.get(times).map_or(window, |at| Duration::from_millis(*at)))
}

/// The cards that have one.
fn with_carrier(kernel: &mut Rtnetlink) -> Result<BTreeSet<u32>, NetError> {
    Ok(kernel.links()?.into_iter().filter(|link| link.has_carrier).map(|link| link.index).collect())
}

impl Answers {
    fn take(&mut self, ears: &Ears, wanted: &[Wanted], others: &[IpAddr], card: &Link, heard: Heard) {
        let wire = Wire { index: card.index, vlan: heard.vlan };
        // A switch may give us our own questions back. A claim is never our own, even by our own card's address: we have said nothing.
        let ours = heard.said == Said::Probe && ears.is_own(heard.mac);
        let meant = |one: &Wanted| one.address == heard.address && one.wires.contains(&wire);
        if !ours && wanted.iter().any(meant) {
            self.conflicts.insert(Conflict {
                address: heard.address,
                interface: card.name.clone(),
                vlan: heard.vlan,
                mac: heard.mac,
                said: heard.said,
            });
        }
        if heard.said == Said::Claim && others.contains(&heard.address) {
            self.others.entry(heard.address).or_default().insert(heard.mac);
        }
    }
}

#[cfg(test)]
#[path = "probe_tests.rs"]
mod tests;
