//! Who has an address: whether two machines claim it at the same time, from what is heard on the LAN.
//!
//! ```text
//! a claim by the card that had it                  ─► nothing
//! a claim by another card, or once in a while      ─► everybody is asked; one card answers ─► it has the address now
//!                                                                        two answer        ─► a duplicate, until a later look finds one
//! ```
//!
//! The server's own addresses are watched, too: it does not hear itself, so any other card that answers is a second one. Times are durations
//! since the watch began.

use crate::address::Mac;
use serde::{Deserialize, Serialize};
use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    time::Duration,
};

/// When everybody is asked in a look, after its beginning.
const ASKED_AT: [Duration; 3] = [Duration::ZERO, Duration::from_millis(300), Duration::from_millis(600)];
/// How long a look lasts.
pub const LOOK: Duration = Duration::from_millis(1000);
/// How long after a look a duplicate is looked at again.
const AGAIN: Duration = Duration::from_secs(5);
/// How long after a look the address of another server is looked at although nothing was heard.
const USUAL: Duration = Duration::from_secs(30);
/// Cards that are kept of one address.
const MAX_CARDS: usize = 16;

/// An address that two machines have.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Duplicate {
    /// The address.
    pub address: IpAddr,
    /// Whose it is: `PRI`, `this server`.
    pub of: String,
    /// The cards that answer for it; for an address of this server, those of others.
    pub cards: BTreeSet<Mac>,
}

#[derive(Clone, Debug)]
struct Watched {
    of: String,
    ours: bool,
    holder: Option<Mac>,
    look: Option<Look>,
    cards: BTreeSet<Mac>,
    next: Option<Duration>,
}

#[derive(Clone, Debug)]
struct Look {
    since: Duration,
    asked: usize,
    answered: BTreeSet<Mac>,
}

/// The addresses that are watched.
#[derive(Clone, Debug, Default)]
pub struct Claims(BTreeMap<IpAddr, Watched>);

impl Claims {
    /// Watches an address of `of`; one that is watched already stays as it is.
    pub fn watch(&mut self, address: IpAddr, of: &str, ours: bool) {
        let next = (!ours).then_some(Duration::ZERO);
        let new = Watched { of: of.to_owned(), ours, holder: None, look: None, cards: BTreeSet::new(), next };
        self.0.entry(address).or_insert(new);
    }

    /// Whether it is an address of this server.
    pub fn is_ours(&self, address: IpAddr) -> bool {
        self.0.get(&address).is_some_and(|watched| watched.ours)
    }

    /// A card of another machine claims an address.
    pub fn heard(&mut self, address: IpAddr, mac: Mac, now: Duration) {
        let Some(watched) = self.0.get_mut(&address) else { return };
        if let Some(look) = &mut watched.look {
            if look.answered.len() < MAX_CARDS {
                look.answered.insert(mac);
            }
        } else if watched.ours {
            if watched.cards.is_empty() {
                watched.next = Some(now);
            }
        } else if watched.holder.is_none() {
            watched.holder = Some(mac);
        } else if watched.holder != Some(mac) && watched.cards.is_empty() {
            watched.next = Some(now);
        }
    }

    /// What is to be asked now. Also ends the looks that are over: the second value says whether a duplicate came or went.
    pub fn step(&mut self, now: Duration) -> (Vec<IpAddr>, bool) {
        let (mut questions, mut changed) = (Vec::new(), false);
        for (address, watched) in &mut self.0 {
            if watched.look.is_none() && watched.next.is_some_and(|next| now >= next) {
                watched.look = Some(Look { since: now, asked: 0, answered: BTreeSet::new() });
            }
            let Some(look) = &mut watched.look else { continue };
            let due = ASKED_AT.iter().filter(|at| now >= look.since + **at).count();
            if due > look.asked {
                look.asked = due;
                questions.push(*address);
            }
            if now >= look.since + LOOK {
                let answered = std::mem::take(&mut look.answered);
                changed |= watched.end(answered, now);
            }
        }
        (questions, changed)
    }

    /// When there is something to do again.
    pub fn due(&self) -> Option<Duration> {
        let due = |watched: &Watched| match &watched.look {
            Some(look) => Some(look.since + ASKED_AT.get(look.asked).copied().unwrap_or(LOOK)),
            None => watched.next,
        };
        self.0.values().filter_map(due).min()
    }

    /// The addresses that two machines have.
    pub fn duplicates(&self) -> Vec<Duplicate> {
        let duplicate = |(address, watched): (&IpAddr, &Watched)| {
            let (address, of, cards) = (*address, watched.of.clone(), watched.cards.clone());
            (!cards.is_empty()).then_some(Duplicate { address, of, cards })
        };
        self.0.iter().filter_map(duplicate).collect()
    }
}

impl Watched {
    /// A look is over; says whether that changes anything.
    fn end(&mut self, answered: BTreeSet<Mac>, now: Duration) -> bool {
        self.look = None;
        let is_duplicate = answered.len() > usize::from(!self.ours);
        if !self.ours && !is_duplicate {
            self.holder = answered.first().copied().or(self.holder);
        }
        let cards = if is_duplicate { answered } else { BTreeSet::new() };
        self.next = match (is_duplicate, self.ours) {
            (true, _) => Some(now + AGAIN),
            (false, true) => None,
            (false, false) => Some(now + USUAL),
        };
        std::mem::replace(&mut self.cards, cards.clone()) != cards
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: Mac = Mac([2, 0, 0, 0, 0, 1]);
    const B: Mac = Mac([2, 0, 0, 0, 0, 2]);
    const S: fn(u64) -> Duration = Duration::from_millis;

    fn address() -> IpAddr {
        "192.168.77.1".parse().unwrap()
    }

    /// A look from `at` on, in which these answer; says whether a duplicate came or went.
    fn look(claims: &mut Claims, at: u64, answers: &[Mac]) -> bool {
        let mut asked = 0;
        for moment in (at..at + 1000).step_by(100) {
            let (questions, changed) = claims.step(S(moment));
            asked += questions.len();
            assert!(!changed, "the look is not over");
            if !questions.is_empty() {
                answers.iter().for_each(|mac| claims.heard(address(), *mac, S(moment)));
            }
        }
        assert_eq!(asked, 3, "at {at}");
        claims.step(S(at + 1000)).1
    }

    fn of_pri() -> Claims {
        let mut claims = Claims::default();
        claims.watch(address(), "PRI", false);
        assert!(!look(&mut claims, 0, &[A]));
        claims
    }

    #[test]
    fn a_second_card_is_asked_about_and_two_that_answer_are_a_duplicate_until_one_is_left() {
        let mut claims = of_pri();
        claims.heard(address(), A, S(2000));
        assert_eq!(claims.step(S(2000)), (vec![], false), "it is the one that has it");
        claims.heard(address(), B, S(3000));
        assert!(look(&mut claims, 3000, &[A, B]));
        let duplicate = Duplicate { address: address(), of: "PRI".into(), cards: [A, B].into() };
        assert_eq!(claims.duplicates(), [duplicate]);
        // It is looked at again and again while it lasts.
        assert_eq!(claims.due(), Some(S(9000)));
        assert!(!look(&mut claims, 9000, &[A, B]));
        assert!(look(&mut claims, 15_000, &[B]));
        assert_eq!(claims.duplicates(), []);
    }

    #[test]
    fn an_address_that_moved_is_no_duplicate() {
        let mut claims = of_pri();
        claims.heard(address(), B, S(3000));
        assert!(!look(&mut claims, 3000, &[B]));
        claims.heard(address(), B, S(5000));
        assert_eq!(claims.step(S(5000)), (vec![], false));
        assert_eq!(claims.due(), Some(S(4000) + USUAL));
    }

    #[test]
    fn a_silent_duplicate_is_found_by_the_usual_look() {
        let mut claims = of_pri();
        assert!(look(&mut claims, 31_000, &[B, A]));
        assert_eq!(claims.duplicates().len(), 1);
    }

    #[test]
    fn any_other_card_that_claims_our_own_address_is_a_duplicate() {
        let mut claims = Claims::default();
        claims.watch(address(), "this server", true);
        claims.watch(address(), "PRI", false);
        assert!(claims.is_ours(address()));
        assert_eq!((claims.step(S(0)), claims.due()), ((vec![], false), None));
        claims.heard(address(), B, S(100));
        assert!(look(&mut claims, 100, &[B]));
        assert_eq!(claims.duplicates()[0].cards, [B].into());
        assert!(look(&mut claims, 7000, &[]));
        assert_eq!((claims.duplicates(), claims.due()), (vec![], None));
        // A claim that nobody stands by is none.
        claims.heard(address(), B, S(20_000));
        assert!(!look(&mut claims, 20_000, &[]));
    }

    #[test]
    fn what_nobody_watches_says_nothing() {
        let mut claims = Claims::default();
        claims.heard(address(), A, S(0));
        assert_eq!((claims.step(S(0)), claims.duplicates(), claims.due()), ((vec![], false), vec![], None));
    }
}
