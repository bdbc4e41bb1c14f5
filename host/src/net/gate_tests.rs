//! In a network namespace of the test's own, where two cables lead to another one in which every frame is seen.

use super::*;
use crate::testing::own_network;
use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, recv, setsockopt, socket,
    sockopt::{BindToDevice, Broadcast, ReceiveTimeout},
};
use nix::sys::time::TimeVal;
use std::{
    collections::BTreeMap,
    ffi::OsString,
    net::UdpSocket,
    os::fd::AsRawFd,
    sync::{Arc, Mutex, mpsc},
    time::Instant,
};

/// What the other end has seen, by kind.
type Seen = Arc<Mutex<BTreeMap<&'static str, usize>>>;

fn ip(command: &str) {
    let ended = std::process::Command::new("ip").args(command.split_whitespace()).status().unwrap();
    assert!(ended.success(), "ip {command}: {ended}");
}

fn wait_until(what: &str, mut is: impl FnMut() -> bool) {
    let until = Instant::now() + Duration::from_secs(20);
    while !is() {
        assert!(Instant::now() < until, "{what} did not come");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// A cable from `near`, `wire0` and so on, to the namespace `far`. From now on it is seen there what comes through.
fn cable(near: &str) -> Seen {
    ip(&format!("link add {near} address {} type veth peer name {near}-far", mac(near)));
    // So that it does not wait before it looks for a router.
    for (name, value) in [("accept_dad", "0"), ("router_solicitation_delay", "0")] {
        std::fs::write(format!("/proc/sys/net/ipv6/conf/{near}/{name}"), value).unwrap();
    }
    ip(&format!("link set {near}-far netns far"));
    ip(&format!("-n far link set {near}-far up"));
    watch(near)
}

/// The address of a cable's near end: by that, its frames are known.
fn mac(near: &str) -> String {
    format!("02:00:00:00:00:0{}", near.strip_prefix("wire").unwrap())
}

/// Counts what comes through the cable from now on.
fn watch(near: &str) -> Seen {
    let from: Vec<u8> = mac(near).split(':').map(|byte| u8::from_str_radix(byte, 16).unwrap()).collect();
    let seen = Seen::default();
    let (count, (ready, is_ready)) = (seen.clone(), mpsc::channel());
    std::thread::spawn(move || {
        let namespace = File::open("/run/netns/far").unwrap();
        nix::sched::setns(&namespace, CloneFlags::CLONE_NEWNET).unwrap();
        let socket =
            socket(AddressFamily::Packet, SockType::Raw, SockFlag::SOCK_CLOEXEC, SockProtocol::EthAll).unwrap();
        setsockopt(&socket, ReceiveTimeout, &TimeVal::new(60, 0)).unwrap();
        ready.send(()).unwrap();
        let mut frame = [0; 2048];
        while let Ok(length) = recv(socket.as_raw_fd(), &mut frame, MsgFlags::empty()) {
            if frame.get(6..12) == Some(&from) {
                *count.lock().unwrap().entry(kind(&frame[..length])).or_default() += 1;
            }
        }
    });
    is_ready.recv().unwrap();
    seen
}

fn kind(frame: &[u8]) -> &'static str {
    match (frame.get(12..14), frame.get(20), frame.get(54), frame.get(36..38)) {
        (Some([0x08, 0x06]), ..) => "ARP",
        (Some([0x86, 0xdd]), Some(58), Some(133), _) => "router solicitation",
        (Some([0x08, 0x00]), _, _, Some([0, 67])) => "DHCP",
        _ => "other",
    }
}

/// How often the kernel has looked for a router there, whether that came through or not.
fn solicitations(near: &str) -> u64 {
    let text = std::fs::read_to_string(format!("/proc/self/net/dev_snmp6/{near}")).unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix("Icmp6OutRouterSolicits")).unwrap();
    line.trim().parse().unwrap()
}

/// Brings it up, as whoever configures interfaces does, and sends one of each kind. All was sent, or dropped, when this is done.
fn configure(near: &str, subnet: u8) {
    ip(&format!("link set {near} down"));
    let before = solicitations(near);
    ip(&format!("link set {near} up"));
    ip(&format!("address replace 10.0.{subnet}.1/24 dev {near}"));
    wait_until("a router solicitation", || solicitations(near) > before);
    let socket = UdpSocket::bind("0.0.0.0:68").unwrap();
    setsockopt(&socket, Broadcast, &true).unwrap();
    setsockopt(&socket, BindToDevice, &OsString::from(near)).unwrap();
    socket.send_to(b"discover", "255.255.255.255:67").unwrap();
    // Nobody has this address: it is asked for.
    socket.send_to(b"hello", (format!("10.0.{subnet}.2").as_str(), 9)).unwrap();
}

fn all_kinds(seen: &Seen) -> bool {
    ["ARP", "router solicitation", "DHCP"].iter().all(|kind| seen.lock().unwrap().contains_key(kind))
}

fn gate(setting: &Path) -> Gate {
    std::fs::write(setting, "fq_codel\n").unwrap();
    Gate { run: "/run".into(), setting: setting.to_owned() }
}

#[test]
fn nothing_is_sent_while_the_gate_is_closed_and_everything_before_and_after() {
    if !own_network("net::gate::tests::nothing_is_sent_while_the_gate_is_closed_and_everything_before_and_after") {
        return;
    }
    let tmp = tempfile::tempdir().unwrap();
    let setting = tmp.path().join("default_qdisc");
    let gate = gate(&setting);
    ip("netns add far");
    let seen = cable("wire0");
    cable("wire1");
    configure("wire0", 1);
    wait_until("everything, before the gate was ever closed,", || all_kinds(&seen));

    let held = gate.close().unwrap();
    assert!(held.contains(&"wire0".to_owned()) && held.contains(&"wire1".to_owned()), "{held:?}");
    assert!(held.contains(&"wire0-far".to_owned()), "the other namespace is held, too: {held:?}");
    assert_eq!((gate.leaks().unwrap(), gate.is_open()), (vec![], false));
    assert_eq!(gate.close().unwrap(), Vec::<String>::new(), "what is closed is unchanged");
    // Anew: what was sent before the gate was closed may still wait to be counted.
    let (seen, late) = (watch("wire0"), watch("wire1"));
    configure("wire0", 1);
    configure("wire1", 2);
    assert_eq!((&*seen.lock().unwrap(), &*late.lock().unwrap()), (&BTreeMap::new(), &BTreeMap::new()));

    // A card that is pushed in, as udev meets it.
    let pushed_in = cable("wire2");
    assert_eq!(gate.leaks().unwrap(), ["wire2"]);
    assert_eq!(gate.hold("wire2").unwrap(), Hold::Held);
    assert_eq!(gate.hold("wire2").unwrap(), Hold::Unchanged);
    assert_eq!(gate.hold("lo").unwrap(), Hold::Loopback);
    assert!(matches!(gate.hold("wire3"), Err(NetError::NoInterface(_))));
    ip("link set wire2 name renamed");
    configure("renamed", 3);
    assert_eq!(*pushed_in.lock().unwrap(), BTreeMap::new());

    let mut released = gate.open().unwrap();
    released.sort_unstable();
    assert_eq!(released, ["renamed", "wire0", "wire0-far", "wire1", "wire1-far"]);
    assert!(gate.is_open());
    for (near, subnet, seen) in [("wire0", 1, &seen), ("wire1", 2, &late), ("renamed", 3, &pushed_in)] {
        configure(near, subnet);
        wait_until("everything, after the gate was opened,", || all_kinds(seen));
    }
    assert_eq!(gate.hold("wire0").unwrap(), Hold::Open);
    assert_eq!(gate.open().unwrap(), Vec::<String>::new(), "what is open is unchanged");
}

#[test]
fn what_cannot_be_written_keeps_no_interface_from_being_held() {
    if !own_network("net::gate::tests::what_cannot_be_written_keeps_no_interface_from_being_held") {
        return;
    }
    let tmp = tempfile::tempdir().unwrap();
    let (run, setting) = (tmp.path().join("run"), tmp.path().join("default_qdisc"));
    let gate = Gate { run: run.clone(), ..gate(&setting) };
    std::fs::create_dir_all(run.join("atlas")).unwrap();
    std::fs::write(run.join("atlas").join(ALLOWED), "").unwrap();
    // As good as full: neither the setting of before nor the one that is to stay can be kept.
    std::fs::write(run.join("sysctl.d"), "").unwrap();
    std::fs::create_dir(run.join("atlas").join(FORMER)).unwrap();
    ip("netns add far");
    let seen = cable("wire0");
    configure("wire0", 1);
    wait_until("everything, before the gate is closed,", || all_kinds(&seen));
    assert!(gate.close().is_err(), "what could not be written is said");
    assert_eq!((gate.leaks().unwrap(), gate.is_open()), (vec![], false));
    assert_eq!(std::fs::read_to_string(&setting).unwrap(), BLACKHOLE);
    let seen = watch("wire0");
    configure("wire0", 1);
    assert_eq!(*seen.lock().unwrap(), BTreeMap::new());

    // Nor does it open where that cannot be said.
    std::fs::create_dir(run.join("atlas").join(ALLOWED)).unwrap();
    std::fs::write(run.join("atlas").join(ALLOWED).join("in the way"), "").unwrap();
    assert!(gate.open().is_err());
    assert_eq!(gate.leaks().unwrap(), Vec::<String>::new());
}

#[test]
fn what_somebody_else_put_on_an_interface_stays() {
    if !own_network("net::gate::tests::what_somebody_else_put_on_an_interface_stays") {
        return;
    }
    let tmp = tempfile::tempdir().unwrap();
    let gate = gate(&tmp.path().join("default_qdisc"));
    ip("netns add far");
    let _seen = cable("wire0");
    let mut kernel = Rtnetlink::open().unwrap();
    let wire = kernel.link("wire0").unwrap().index;
    kernel.set_root_qdisc(wire, 7 << 16, BLACKHOLE).unwrap();
    assert_eq!(gate.open().unwrap(), Vec::<String>::new());
    assert!(kernel.qdiscs().unwrap().iter().any(|qdisc| qdisc.link == wire && qdisc.handle == 7 << 16));
}

#[test]
fn the_kernels_setting_comes_back_as_it_was_and_a_cut_off_closing_loses_nothing() {
    if !own_network("net::gate::tests::the_kernels_setting_comes_back_as_it_was_and_a_cut_off_closing_loses_nothing") {
        return;
    }
    let tmp = tempfile::tempdir().unwrap();
    let setting = tmp.path().join("default_qdisc");
    let gate = gate(&setting);
    let now = || std::fs::read_to_string(&setting).unwrap().trim().to_owned();
    gate.close().unwrap();
    assert_eq!(now(), "blackhole");
    let reapplied = std::fs::read_to_string("/run/sysctl.d/zz-atlas-gate.conf").unwrap();
    assert!(reapplied.lines().any(|line| line == "net.core.default_qdisc = blackhole"), "{reapplied}");
    // Somebody set it, and the gate is closed once more: as the service does at its start.
    std::fs::write(&setting, "fq").unwrap();
    gate.close().unwrap();
    gate.close().unwrap();
    gate.open().unwrap();
    assert_eq!(now(), "fq");
    assert!(!Path::new("/run/sysctl.d/zz-atlas-gate.conf").exists());

    // It says so, and nobody knows what it was before.
    std::fs::remove_file("/run/atlas/default_qdisc").unwrap();
    std::fs::write(&setting, "blackhole").unwrap();
    gate.close().unwrap();
    gate.open().unwrap();
    assert_eq!(now(), FALLBACK);
}
