//! Which addresses this server is about to take, and whether another machine has them.

use crate::{
    Places,
    gate::{self, chain},
};
use atlas_host::{
    arrivals,
    net::{
        NetError, addresses,
        cards::{self, Raised},
        gate::Gate,
        probe::{self, Answers, Conflict, Ears, Heard, Said},
        rtnetlink::Rtnetlink,
    },
    tree::Dir,
};
use atlas_model::{
    Digest, Refusal, RefusalCode,
    address::{Link, Mac, Plan, Wanted, Wire},
    gate::Asked,
    report::SetReport,
};
use atlas_sid::{SidData, SidError, addresses as sid_addresses};
use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    path::Path,
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};

/// How long a card is waited for while udev is at work, or for this long at least.
const CARD_PATIENCE: Duration = Duration::from_secs(5);
const CARD_LEAST: Duration = Duration::from_millis(300);
/// How long a carrier is waited for: a link is agreed upon in 1 to 3 seconds. A card whose carrier comes later is asked on later.
const CARRIER_PATIENCE: Duration = Duration::from_secs(3);
/// How long the addresses are defended before it is looked whether the work is done.
const TURN: Duration = Duration::from_millis(10);
/// How often cards are looked for.
const LOOK: Duration = Duration::from_millis(50);
/// How long the Unbound file system may take to say who the partners are.
const CONFIG_DEADLINE: Duration = Duration::from_secs(3);
/// The largest `/etc/hosts`, in bytes.
const MAX_HOSTS: usize = 1 << 20;

/// The addresses of this server and its partners.
#[derive(Clone, Debug, Default)]
pub(crate) struct Found {
    /// Those of the identity that is installed, and their wires.
    pub(crate) wanted: Vec<Wanted>,
    /// Those of partners, and whose they are.
    pub(crate) others: Vec<(IpAddr, String)>,
    not_understood: Vec<String>,
    cards: Vec<Link>,
    own: BTreeSet<Mac>,
    /// What the set is that this boot has started, and runs on.
    set: Vec<String>,
}

impl Found {
    /// Reads the files, and waits `patience` for cards that are slow to appear.
    pub(crate) fn read(places: &Places, patience: Duration) -> Result<Found, NetError> {
        let plan = addresses::read(&Dir::open_root(&places.root)?);
        let others = partners(places);
        let (cards, own) = cards_of(&mut Rtnetlink::open()?, &plan, patience)?;
        let wanted = plan.wanted(&cards);
        let indices: BTreeSet<u32> = wanted.iter().flat_map(|one| one.wires.iter().map(|wire| wire.index)).collect();
        let cards = cards.into_iter().filter(|card| indices.contains(&card.index)).collect();
        let boot = gate::read_report(places).ok().flatten();
        let set = boot.and_then(|boot| boot.set).map(|set| members_of(&set)).unwrap_or_default();
        Ok(Found { wanted, others, not_understood: plan.not_understood, cards, own, set })
    }

    /// Whether it is an address of this server on that wire.
    fn is_wanted(&self, address: IpAddr, wire: Wire) -> bool {
        self.wanted.iter().any(|one| one.address == address && one.wires.contains(&wire))
    }

    /// What follows from something that was heard about an address of this server.
    pub(crate) fn judge(&self, ears: &Ears, card: &Link, heard: Heard) -> Option<Judged> {
        let wire = Wire { index: card.index, vlan: heard.vlan };
        if ears.is_own(heard.mac) || !self.is_wanted(heard.address, wire) {
            return None;
        }
        let Heard { said, address, mac, vlan } = heard;
        Some(match said {
            Said::Probe => Judged::Defend(wire),
            Said::Claim => Judged::Conflict(Conflict { address, interface: card.name.clone(), vlan, mac, said }),
        })
    }

    /// What is wanted on these cards.
    pub(crate) fn on(&self, cards: &BTreeSet<u32>) -> Vec<Wanted> {
        let on = |one: &Wanted| Wanted {
            wires: one.wires.iter().filter(|wire| cards.contains(&wire.index)).copied().collect(),
            ..one.clone()
        };
        self.wanted.iter().map(on).filter(|one| !one.wires.is_empty()).collect()
    }

    /// The addresses of partners.
    pub(crate) fn partner_addresses(&self) -> Vec<IpAddr> {
        self.others.iter().map(|(address, _)| *address).collect()
    }

    /// Why this server must not take its addresses, if it must not.
    pub(crate) fn refusal(&self, answers: &Answers) -> Option<Refusal> {
        refusal(&answers.conflicts, &names(&self.others, &answers.others), &self.own, &self.set)
    }
}

/// See [`Found::judge`].
pub(crate) enum Judged {
    /// Somebody asks for it: it is in use here.
    Defend(Wire),
    /// Somebody else has it.
    Conflict(Conflict),
}

/// What was asked, and what came of it.
#[derive(Debug)]
pub(crate) struct Question {
    pub(crate) found: Found,
    pub(crate) answers: Answers,
    /// Whether an operator has accepted that somebody else has these addresses.
    pub(crate) is_accepted: bool,
    /// For the report.
    pub(crate) asked: Asked,
    /// What is heard from now on.
    pub(crate) ears: Ears,
    raised: Vec<Raised>,
}

impl Question {
    /// Asks on every wire of every address of the identity that is installed.
    pub(crate) fn ask(places: &Places, gate: &Gate) -> Result<Question, NetError> {
        let began = Instant::now();
        let found = Found::read(places, CARD_PATIENCE)?;
        let ears = Ears::open(&found.cards, found.own.clone())?;
        let raised = raise(gate, &found.cards)?;
        let before = began.elapsed();
        let answers = probe::ask(&ears, &found.wanted, &found.partner_addresses(), CARRIER_PATIENCE)?;
        let micros = |time: Duration| u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
        let asked = Asked {
            addresses: found.wanted.iter().map(|one| one.address).collect(),
            everywhere: found.wanted.iter().filter(|one| one.everywhere).map(|one| one.address).collect(),
            not_understood: found.not_understood.clone(),
            prepared_us: micros(before),
            took_us: micros(began.elapsed()),
        };
        Ok(Question { found, answers, is_accepted: false, asked, ears, raised })
    }

    /// Does `work`, and defends the addresses meanwhile: another machine that asks just now must hear of this one in time. Who claims one is heard, too.
    pub(crate) fn defended<T: Send>(&mut self, work: impl FnOnce(&Found, &[Raised]) -> T + Send) -> T {
        let Question { found, answers, ears, raised, .. } = self;
        let found = &*found;
        thread::scope(|scope| {
            let worker = scope.spawn(|| work(found, raised));
            while !worker.is_finished() {
                ears.hear(Instant::now() + TURN, |card, heard| match found.judge(ears, card, heard) {
                    Some(Judged::Defend(wire)) => drop(ears.defend(wire, heard.address, heard.mac)),
                    Some(Judged::Conflict(conflict)) => drop(answers.conflicts.insert(conflict)),
                    None => {}
                });
            }
            worker.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }
}

/// Lets the kernel begin with IPv6: the gate is open.
pub(crate) fn give_back(raised: &[Raised]) -> Vec<String> {
    raised.iter().filter_map(|raised| raised.give_back().err()).map(|error| chain(&error)).collect()
}

/// The machine's cards, once all that the plan names are there, or no more are to be expected; and the addresses of all of them.
fn cards_of(kernel: &mut Rtnetlink, plan: &Plan, patience: Duration) -> Result<(Vec<Link>, BTreeSet<Mac>), NetError> {
    let began = Instant::now();
    loop {
        let settled = began.elapsed() >= CARD_LEAST && !arrivals::udev_is_at_work(Path::new("/run"));
        let links = kernel.links()?;
        let cards: Vec<Link> = links.iter().filter_map(cards::card).collect();
        let missing = plan.wanted(&cards).iter().any(|one| one.everywhere);
        if !missing || settled || began.elapsed() >= patience {
            let own = links.iter().filter_map(|link| link.mac).map(Mac).collect();
            return Ok((cards, own));
        }
        thread::sleep(LOOK);
    }
}

/// Brings the cards up, each held by the gate before.
fn raise(gate: &Gate, cards: &[Link]) -> Result<Vec<Raised>, NetError> {
    let mut kernel = Rtnetlink::open()?;
    let mut raised = Vec::new();
    for card in cards {
        gate.hold(&card.name)?;
        let link = kernel.link(&card.name)?;
        raised.extend(cards::raise(&mut kernel, &link)?);
    }
    Ok(raised)
}

/// The addresses of partners. None where the Unbound file system does not answer in time: then a refusal names nobody, and no
/// partner's address is watched.
fn partners(places: &Places) -> Vec<(IpAddr, String)> {
    let (places, (answer, answered)) = (places.clone(), mpsc::channel());
    // A file system of dead disks must hold up nobody.
    let read = move || drop(answer.send(partners_of(&places).unwrap_or_default()));
    let started = thread::Builder::new().stack_size(512 << 10).spawn(read);
    started.ok().and_then(|_| answered.recv_timeout(CONFIG_DEADLINE).ok()).unwrap_or_default()
}

/// By MasterConfig, and by the identity of each partner as far as this server has it.
fn partners_of(places: &Places) -> Result<Vec<(IpAddr, String)>, SidError> {
    let root = Dir::open_root(&places.root)?;
    let sid = SidData::open(&Dir::open_root(places.unbound())?)?;
    let hosts = root.read_followed("etc/hosts", MAX_HOSTS).unwrap_or_default();
    let hosts = String::from_utf8_lossy(&hosts);
    let mut found = Vec::new();
    for partner in sid.master_config()?.partners() {
        let of = partner.role.to_string();
        // Without a Snapshot of it, its host is what is known.
        let of_role = sid_addresses::of_role(&sid, partner.role).unwrap_or_default();
        let all = sid_addresses::of_host(&partner.host, &hosts).into_iter().chain(of_role);
        found.extend(all.map(|address| (address, of.clone())));
    }
    found.sort();
    found.dedup_by_key(|(address, _)| *address);
    Ok(found)
}

/// Which partner has which card, as far as it answered for its address.
fn names(partners: &[(IpAddr, String)], answered: &BTreeMap<IpAddr, BTreeSet<Mac>>) -> BTreeMap<Mac, String> {
    let of = |(address, role): &(IpAddr, String)| {
        let cards = answered.get(address).cloned().unwrap_or_default();
        let name = format!("{role} ({address})");
        cards.into_iter().map(move |mac| (mac, name.clone()))
    };
    partners.iter().flat_map(of).collect()
}

/// The refusal for these conflicts; `None` where there are none. Accepted, it is for these members and wires alone.
fn refusal(
    conflicts: &BTreeSet<Conflict>,
    names: &BTreeMap<Mac, String>,
    own: &BTreeSet<Mac>,
    set: &[String],
) -> Option<Refusal> {
    if conflicts.is_empty() {
        return None;
    }
    let claimed = conflicts.iter().any(|one| one.said == Said::Claim);
    let what = match claimed {
        true => "Another machine on the network has this server's address.",
        false => "Another machine on the network is about to take this server's address, too.",
    };
    let mut refusal = Refusal::new(RefusalCode::AddressInUse, what);
    let mut situation = BTreeSet::new();
    for Conflict { address, interface, vlan, mac, said } in conflicts {
        let wire = vlan.map_or_else(|| interface.clone(), |id| format!("{interface}, VLAN {id}"));
        let who = match names.get(mac) {
            Some(name) => format!(": the card of {name}"),
            // This server has claimed nothing yet.
            None if own.contains(mac) => {
                ": a card of this server has that number, too, so it is a copy of this machine, or a loop of cables"
                    .into()
            }
            None => String::new(),
        };
        let does = if *said == Said::Claim { "is used by" } else { "is asked for by" };
        refusal = refusal.found(format!("{address} {does} {mac}, heard on {wire}{who}"));
        situation.insert(format!("{address} {mac} {wire}"));
    }
    situation.extend(set.iter().cloned());
    let situation: Vec<String> = situation.into_iter().collect();
    let mut refusal = refusal
        .because("if it is this role's other server, or a copy of these disks, two servers would take writes of the same clients")
        .remedy("find the machine with that card (its switch port, or 'ip link' on each server) and see who it is")
        .remedy("if it has a copy of these disks: decide which one counts, and switch the other off")
        .remedy("if it has only the address: give it another one")
        .remedy("then reboot this server");
    refusal.fingerprint = Some(Digest::of(situation.join("\n").as_bytes()));
    Some(refusal)
}

/// What the set is and runs on, without the names that the kernel gives devices from boot to boot.
fn members_of(set: &SetReport) -> Vec<String> {
    let name = |disk: &String| disk.split_once(' ').map_or(disk.clone(), |(_, serial)| serial.to_owned());
    let (on, left) = (set.disks.iter().map(name), set.left_out.iter().map(name));
    on.map(|disk| format!("{} on {disk}", set.uuid)).chain(left.map(|disk| format!("without {disk}"))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn conflict(last: u8, said: Said) -> Conflict {
        let address = "192.168.77.1".parse().unwrap();
        Conflict { address, interface: "eth0".into(), vlan: None, mac: Mac([2, 0, 0, 0, 0, last]), said }
    }

    #[test]
    fn a_refusal_names_address_card_and_partner_and_stands_for_just_that() {
        let partner = ("192.168.77.2".parse().unwrap(), "SEC1".to_owned());
        let answered = [("192.168.77.2".parse().unwrap(), [Mac([2, 0, 0, 0, 0, 7])].into())].into();
        let names = names(&[partner], &answered);
        let of = |conflicts: &[Conflict]| {
            refusal(&conflicts.iter().cloned().collect(), &names, &[Mac([2, 0, 0, 0, 0, 9])].into(), &[]).unwrap()
        };
        let known = of(&[conflict(7, Said::Claim)]);
        assert_eq!(known.code, RefusalCode::AddressInUse);
        assert_eq!(
            known.found,
            ["192.168.77.1 is used by 02:00:00:00:00:07, heard on eth0: the card of SEC1 (192.168.77.2)"]
        );
        assert!(known.screen().contains("atlas-boot accept address-in-use"));
        let asking = of(&[conflict(7, Said::Probe)]);
        assert!(asking.what.contains("about to take") && asking.fingerprint == known.fingerprint);
        assert_ne!(of(&[conflict(8, Said::Claim)]).fingerprint, known.fingerprint);
        assert_ne!(of(&[conflict(7, Said::Claim), conflict(8, Said::Claim)]).fingerprint, known.fingerprint);
        let copied = of(&[conflict(9, Said::Claim)]);
        assert!(copied.found[0].ends_with("so it is a copy of this machine, or a loop of cables"), "{copied:?}");
        assert_eq!(refusal(&BTreeSet::new(), &names, &BTreeSet::new(), &[]), None);
        // It stands for this wire, and for the set as it is.
        let tagged = Conflict { vlan: Some(5), ..conflict(7, Said::Claim) };
        let elsewhere = Conflict { interface: "eth1".into(), ..conflict(7, Said::Claim) };
        for other in [tagged, elsewhere] {
            assert_ne!(of(&[other]).fingerprint, known.fingerprint);
        }
        let with = |disks: &[&str]| {
            let disks = disks.iter().map(|disk| (*disk).to_owned()).collect();
            let set = SetReport { uuid: "7".into(), disks, ..SetReport::default() };
            refusal(&[conflict(7, Said::Claim)].into(), &names, &BTreeSet::new(), &members_of(&set))
                .unwrap()
                .fingerprint
        };
        let both = with(&["/dev/vdb (serial A)", "/dev/vdc (serial B)"]);
        assert_eq!(both, with(&["/dev/sdx (serial B)", "/dev/sda (serial A)"]), "the kernel's names are no part of it");
        assert!(both != with(&["/dev/vdb (serial A)"]) && both != known.fingerprint);
    }
}
