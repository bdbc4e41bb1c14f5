use super::*;
use crate::net::{cards, packet::Wiretap};
use crate::testing::own_network;
use std::process::Command;

const IP: &str = "192.168.77.1";
const IP6: &str = "2001:db8::77:1";

fn sh(script: &str) {
    let output = Command::new("sh").args(["-ec", script]).output().unwrap();
    assert!(output.status.success(), "{script}: {}", String::from_utf8_lossy(&output.stderr));
}

/// Two cards on one wire: `near` is ours, and sends nothing but what passes a closed gate.
fn wire() -> (Link, Link) {
    sh(
        "ip link add near type veth peer name far; tc qdisc replace dev near root blackhole; ip link set near up; ip link set far up",
    );
    let links = Rtnetlink::open().unwrap().links().unwrap();
    let find = |name: &str| cards::card(links.iter().find(|link| link.name == name).unwrap()).unwrap();
    (find("near"), find("far"))
}

fn wanted(card: &Link, addresses: &[&str]) -> Vec<Wanted> {
    let wires: BTreeSet<Wire> = [Wire { index: card.index, vlan: None }].into();
    let one = |text: &&str| Wanted { address: text.parse().unwrap(), wires: wires.clone(), everywhere: false };
    addresses.iter().map(one).collect()
}

fn ears(card: &Link) -> Ears {
    Ears::open(std::slice::from_ref(card), [card.mac].into()).unwrap()
}

const PATIENCE: Duration = Duration::from_secs(2);

#[test]
fn a_kernel_that_has_the_addresses_answers_through_a_closed_gate() {
    if !own_network("net::probe::tests::a_kernel_that_has_the_addresses_answers_through_a_closed_gate") {
        return;
    }
    let (near, far) = wire();
    sh(&format!(
        "ip addr add {IP}/24 dev far; ip addr add {IP6}/64 dev far nodad; ip addr add 192.168.77.2/24 dev far"
    ));
    let began = Instant::now();
    let partner = "192.168.77.2".parse().unwrap();
    let answers = ask(&ears(&near), &wanted(&near, &[IP, IP6, "192.168.77.9"]), &[partner], PATIENCE).unwrap();
    let took = began.elapsed();
    let said: Vec<_> = answers.conflicts.iter().map(|one| (one.address.to_string(), one.mac, one.said)).collect();
    assert_eq!(said, [(IP.to_owned(), far.mac, Said::Claim), (IP6.to_owned(), far.mac, Said::Claim)]);
    assert_eq!(answers.others, [(partner, [far.mac].into())].into());
    assert!(took >= WINDOW && took < WINDOW + Duration::from_millis(400), "{took:?}");
}

#[test]
fn a_free_address_is_asked_for_three_times_and_nothing_else_leaves() {
    if !own_network("net::probe::tests::a_free_address_is_asked_for_three_times_and_nothing_else_leaves") {
        return;
    }
    let (near, far) = wire();
    // Whatever else would be sent: it must not pass.
    sh("ip addr add 192.168.77.8/24 dev near; ping -c1 -W1 192.168.77.3 >/dev/null 2>&1 & true");
    let other = ears(&far);
    let answers = ask(&ears(&near), &wanted(&near, &[IP, IP6]), &[], PATIENCE).unwrap();
    assert_eq!(answers, Answers::default());
    let mut seen: BTreeMap<(IpAddr, Said), usize> = BTreeMap::new();
    other.hear(Instant::now(), |_, heard| {
        assert_eq!(heard.mac, near.mac);
        *seen.entry((heard.address, heard.said)).or_default() += 1;
    });
    let three = [(IP.parse().unwrap(), Said::Probe), (IP6.parse().unwrap(), Said::Probe)].map(|one| (one, 3));
    assert_eq!(seen, three.into());
}

#[test]
fn two_that_ask_at_the_same_time_hear_each_other() {
    if !own_network("net::probe::tests::two_that_ask_at_the_same_time_hear_each_other") {
        return;
    }
    let (near, far) = wire();
    let both: Vec<Answers> = std::thread::scope(|scope| {
        let asks = [&near, &far]
            .map(|card| scope.spawn(move || ask(&ears(card), &wanted(card, &[IP, IP6]), &[], PATIENCE).unwrap()));
        asks.map(|one| one.join().unwrap()).into()
    });
    for (answers, other) in both.iter().zip([far.mac, near.mac]) {
        let said: Vec<_> = answers.conflicts.iter().map(|one| (one.mac, one.said)).collect();
        assert_eq!(said, [(other, Said::Probe); 2]);
    }
}

#[test]
fn two_partners_that_boot_at_once_ask_for_each_other_and_both_get_their_own() {
    if !own_network("net::probe::tests::two_partners_that_boot_at_once_ask_for_each_other_and_both_get_their_own") {
        return;
    }
    let (near, far) = wire();
    let (mine, theirs) = ([IP, IP6], ["192.168.77.2", "2001:db8:77::2"]);
    let of = |texts: [&str; 2]| texts.map(|text| text.parse::<IpAddr>().unwrap());
    let both = std::thread::scope(|scope| {
        let first = scope.spawn(|| ask(&ears(&near), &wanted(&near, &mine), &of(theirs), PATIENCE).unwrap());
        let second = scope.spawn(|| ask(&ears(&far), &wanted(&far, &theirs), &of(mine), PATIENCE).unwrap());
        [first.join().unwrap(), second.join().unwrap()]
    });
    assert_eq!(both.map(|answers| answers.conflicts), [BTreeSet::new(), BTreeSet::new()]);
}

#[test]
fn one_that_asks_a_moment_later_hears_the_defence() {
    if !own_network("net::probe::tests::one_that_asks_a_moment_later_hears_the_defence") {
        return;
    }
    let (near, far) = wire();
    let (first, mine) = (ears(&near), wanted(&near, &[IP, IP6]));
    assert_eq!(ask(&first, &mine, &[], PATIENCE).unwrap().conflicts, BTreeSet::new());
    let later = std::thread::scope(|scope| {
        let later = scope.spawn(|| ask(&ears(&far), &wanted(&far, &[IP, IP6]), &[], PATIENCE).unwrap());
        first.hear(Instant::now() + WINDOW, |card, heard| {
            if heard.said == Said::Probe {
                first.defend(Wire { index: card.index, vlan: heard.vlan }, heard.address, heard.mac).unwrap();
            }
        });
        later.join().unwrap()
    });
    let claimed: Vec<_> = later.conflicts.iter().map(|one| (one.mac, one.said)).collect();
    assert_eq!(claimed, [(near.mac, Said::Claim); 2]);
}

#[test]
fn own_questions_that_come_back_do_not_count_and_another_machine_with_our_mac_does() {
    if !own_network(
        "net::probe::tests::own_questions_that_come_back_do_not_count_and_another_machine_with_our_mac_does",
    ) {
        return;
    }
    let (near, far) = wire();
    let address: std::net::Ipv4Addr = IP.parse().unwrap();
    let mirror = Wiretap::open(&far.name, far.index).unwrap();
    let (ears, mine) = (ears(&near), wanted(&near, &[IP]));
    mirror.send(&arp::probe(near.mac, None, address)).unwrap();
    assert_eq!(ask(&ears, &mine, &[], PATIENCE).unwrap(), Answers::default());
    // In another VLAN it is another wire.
    mirror.send(&arp::defend(far.mac, Some(7), address, near.mac)).unwrap();
    assert_eq!(ask(&ears, &mine, &[], PATIENCE).unwrap(), Answers::default());
    mirror.send(&arp::defend(near.mac, None, address, near.mac)).unwrap();
    assert_eq!(ask(&ears, &mine, &[], PATIENCE).unwrap().conflicts.len(), 1);
}

#[test]
fn a_vlan_is_asked_with_its_tag() {
    if !own_network("net::probe::tests::a_vlan_is_asked_with_its_tag") {
        return;
    }
    let (near, far) = wire();
    let (asker, other) = (ears(&near), ears(&far));
    let wire = Wire { index: near.index, vlan: Some(7) };
    asker.ask(wire, IP.parse().unwrap()).unwrap();
    asker.ask(wire, IP6.parse().unwrap()).unwrap();
    let mut vlans = Vec::new();
    other.hear(Instant::now(), |_, heard| vlans.push(heard.vlan));
    assert_eq!(vlans, [Some(7), Some(7)]);
}

#[test]
fn a_card_without_a_carrier_is_waited_for_and_reported() {
    if !own_network("net::probe::tests::a_card_without_a_carrier_is_waited_for_and_reported") {
        return;
    }
    let (near, far) = wire();
    sh(&format!("ip addr add {IP}/24 dev far; ip link set far down"));
    let (ears, mine) = (ears(&near), wanted(&near, &[IP]));
    let answers = ask(&ears, &mine, &[], Duration::from_millis(100)).unwrap();
    assert_eq!((answers.conflicts.len(), answers.not_asked), (0, BTreeSet::from(["near".to_owned()])));
    let answers = std::thread::scope(|scope| {
        scope.spawn(|| sh("sleep 0.3; ip link set far up"));
        ask(&ears, &mine, &[], PATIENCE).unwrap()
    });
    assert_eq!(answers.not_asked, BTreeSet::new());
    assert_eq!(answers.conflicts.first().map(|one| one.mac), Some(far.mac));
}

#[test]
fn a_port_without_a_cable_does_not_delay_what_could_be_asked_on_another() {
    if !own_network("net::probe::tests::a_port_without_a_cable_does_not_delay_what_could_be_asked_on_another") {
        return;
    }
    let (near, _far) = wire();
    sh("ip link add loose type veth peer name end; ip link set loose up");
    let loose = cards::card(&Rtnetlink::open().unwrap().link("loose").unwrap()).unwrap();
    let ears = Ears::open(&[near.clone(), loose.clone()], [near.mac, loose.mac].into()).unwrap();
    let mut one = wanted(&near, &[IP]);
    one[0].wires.insert(Wire { index: loose.index, vlan: None });
    let began = Instant::now();
    let answers = ask(&ears, &one, &[], Duration::from_secs(20)).unwrap();
    assert_eq!((answers.conflicts.len(), answers.not_asked), (0, BTreeSet::from(["loose".to_owned()])));
    assert!(began.elapsed() < Duration::from_secs(3), "{:?}", began.elapsed());
}

#[test]
fn a_card_is_raised_without_an_address_and_gets_ipv6_back() {
    if !own_network("net::probe::tests::a_card_is_raised_without_an_address_and_gets_ipv6_back") {
        return;
    }
    sh("ip link add near type veth peer name far; ip link set far up");
    let mut kernel = Rtnetlink::open().unwrap();
    let link = kernel.link("near").unwrap();
    assert_eq!((link.is_up, link.kind.as_deref()), (false, Some("veth")));
    let raised = cards::raise(&mut kernel, &link).unwrap().unwrap();
    assert!(kernel.link("near").unwrap().is_up);
    let addresses = || {
        let output = Command::new("ip").args(["-6", "-o", "addr", "show", "dev", "near"]).output().unwrap();
        String::from_utf8(output.stdout).unwrap()
    };
    assert_eq!(addresses(), "");
    raised.give_back().unwrap();
    assert!(addresses().contains("fe80:"), "{}", addresses());
    let again = kernel.link("near").unwrap();
    assert!(cards::raise(&mut kernel, &again).unwrap().is_none());
}

#[test]
fn the_vlans_that_the_kernel_knows_are_read() {
    let config = "VLAN Dev name    | VLAN ID\nName-Type: VLAN_NAME_TYPE_RAW_PLUS_VID_NO_PAD\neth0.6         | 6  | eth0\nlan             | 20  | bond0\n";
    assert_eq!(vlans_of(config), [6, 20].into());
    assert_eq!(vlans_of(""), BTreeSet::new());
}
