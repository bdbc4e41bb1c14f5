//! The keeper of the gate as systemd runs it, on a network of the test's own: it asks, opens, defends, and is refused.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test")]

use atlas_host::{net::gate::Gate, testing::own_network};
use atlas_model::{Acceptance, BootReport, Digest, GateReport, Outcome, RefusalCode};
use std::{
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

const ADDRESS: &str = "192.168.77.1";

fn sh(script: &str) -> String {
    let output = Command::new("sh").args(["-ec", script]).output().unwrap();
    assert!(output.status.success(), "{script}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

/// A server on which early boot took a role. The gate is closed.
struct Server {
    card: &'static str,
    tree: tempfile::TempDir,
    keeper: Option<Child>,
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(keeper) = &mut self.keeper {
            keeper.kill().unwrap();
            keeper.wait().unwrap();
        }
    }
}

/// A wire from `near` to `far`, which is another machine's, as far as a network namespace is one.
fn wire() {
    sh("ip netns add other; ip link add near type veth peer name far netns other; ip -n other link set far up");
    // The kernel shows this setting to its first network alone.
    sh("mount -t tmpfs tmpfs /proc/sys/net/core; echo fq_codel > /proc/sys/net/core/default_qdisc");
}

impl Server {
    /// With this card, which is up already, and sends nothing.
    fn new(card: &'static str) -> Server {
        let server = Server { card, tree: tempfile::tempdir().unwrap(), keeper: None };
        server.write("etc/network/interfaces", &format!("iface {card} inet static\n address {ADDRESS}/24\n"));
        server.write("etc/atlas/initialised", "");
        server.write("opt/atlas/EnvID", "1\n");
        std::fs::create_dir_all(server.path("run/atlas")).unwrap();
        server.write("etc/hosts", "192.168.77.2 sec1\n");
        let config =
            "format = 1\ncluster = \"bakery\"\nrole = \"PRI\"\n[[partner]]\nrole = \"SEC1\"\nhost = \"sec1\"\n";
        server.write("unbound/SID_DATA/MasterConfig", config);
        server.report(&BootReport { outcome: Outcome::IdentityInstalled, ..BootReport::begin("test") });
        server.gate().close().unwrap();
        server
    }

    fn path(&self, path: &str) -> std::path::PathBuf {
        self.tree.path().join(path)
    }

    fn write(&self, path: &str, content: &str) {
        let path = self.path(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, content).unwrap();
    }

    fn report(&self, report: &BootReport) {
        self.write("run/atlas/boot.json", &serde_json::to_string(report).unwrap());
    }

    fn gate(&self) -> Gate {
        Gate::new(self.path("run"))
    }

    fn atlas_boot(&self, args: &[&str]) -> Command {
        let mut command = Command::new(if self.card == "far" { "ip" } else { "env" });
        command.args(if self.card == "far" { &["netns", "exec", "other"][..] } else { &[] });
        command
            .arg(env!("CARGO_BIN_EXE_atlas-boot"))
            .args(args)
            .arg("--root")
            .arg(self.tree.path())
            .arg("--run")
            .arg(self.path("run"));
        command
    }

    fn keep(&mut self) {
        // A gate is closed in all namespaces; the one at the other end is another machine's.
        if self.card == "near" {
            sh("tc -n other qdisc del dev far root");
        }
        let _ = std::fs::remove_file(self.path("run/atlas/gate.json"));
        self.keeper = Some(self.atlas_boot(&["gate"]).stderr(Stdio::null()).spawn().unwrap());
        until("the keeper to decide", || self.path("run/atlas/gate.json").exists());
    }

    fn stop(&mut self) {
        let mut keeper = self.keeper.take().unwrap();
        keeper.kill().unwrap();
        keeper.wait().unwrap();
    }

    fn gate_report(&self) -> GateReport {
        serde_json::from_slice(&std::fs::read(self.path("run/atlas/gate.json")).unwrap()).unwrap()
    }

    fn boot_report(&self) -> BootReport {
        serde_json::from_slice(&std::fs::read(self.path("run/atlas/boot.json")).unwrap()).unwrap()
    }
}

fn until(what: &str, so: impl Fn() -> bool) {
    let begun = Instant::now();
    while !so() {
        assert!(begun.elapsed() < Duration::from_secs(30), "waited in vain for {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// The card is up, and the other end has noticed: else the kernel may take a second before that sends anything.
fn up_already() {
    sh("ip link set near up");
    until("the carrier", || sh("ip -n other -o link show far").contains("state UP"));
}

fn holds_near() -> bool {
    sh("tc qdisc show dev near root").contains("blackhole a71a:")
}

#[test]
fn a_free_address_opens_the_gate_and_is_defended_from_then_on() {
    if !own_network("a_free_address_opens_the_gate_and_is_defended_from_then_on") {
        return;
    }
    wire();
    let mut server = Server::new("near");
    up_already();
    server.keep();
    let report = server.gate_report();
    assert!(report.open && report.refusal.is_none() && report.held.is_empty(), "{report:?}");
    let asked = report.asked.unwrap();
    assert_eq!(asked.addresses, [ADDRESS.parse::<std::net::IpAddr>().unwrap()]);
    assert!((1_000_000..1_800_000).contains(&(asked.took_us - asked.prepared_us)), "{asked:?}");
    assert!(server.gate().is_open() && !holds_near());
    // Nobody has configured the address yet; a second server that asks is answered all the same.
    assert_eq!(sh("ip -4 -o addr show dev near"), "");
    let mut second = Server::new("far");
    second.keep();
    let refusal = second.gate_report().refusal.unwrap();
    let mac = sh("ip -o link show near | grep -o 'link/ether [0-9a-f:]*' | cut -d' ' -f2");
    assert_eq!(refusal.found, [format!("{ADDRESS} is used by {mac}, heard on far")]);
}

#[test]
fn of_two_that_begin_a_moment_apart_at_most_one_stays_open() {
    if !own_network("of_two_that_begin_a_moment_apart_at_most_one_stays_open") {
        return;
    }
    wire();
    // The first one's window is a second; what it does after that takes some time, too.
    for apart in [0, 500, 900, 1000, 1100, 1300] {
        let (mut first, mut second) = (Server::new("near"), Server::new("far"));
        up_already();
        let wait = Duration::from_millis(apart);
        std::thread::scope(|scope| {
            scope.spawn(|| first.keep());
            std::thread::sleep(wait);
            scope.spawn(|| second.keep());
        });
        let open = || [first.gate_report().open, second.gate_report().open];
        until("one of them to give way", || open() != [true, true]);
        // As they came: one that is left in another state is the next round's beginning.
        sh("ip link set near down; ip -n other link set far down; ip -n other link set far up");
    }
}

#[test]
fn an_address_in_use_is_refused_and_once_accepted_the_gate_opens() {
    if !own_network("an_address_in_use_is_refused_and_once_accepted_the_gate_opens") {
        return;
    }
    wire();
    let mut server = Server::new("near");
    sh(&format!("ip -n other addr add {ADDRESS}/24 dev far; ip -n other addr add 192.168.77.2/24 dev far"));
    up_already();
    let mac = sh("ip -n other -o link show far | grep -o 'link/ether [0-9a-f:]*' | cut -d' ' -f2");
    // This boot needed an acceptance already, and used it up.
    let foreign = Acceptance {
        format: 1,
        code: RefusalCode::ForeignCluster,
        fingerprint: Digest::of(b"garage"),
        device: None,
        by: "root".into(),
        reason: "the garage is ours, too".into(),
        at: 1,
        found: vec![],
    };
    server.report(&BootReport {
        outcome: Outcome::IdentityInstalled,
        accepted: vec![foreign],
        ..BootReport::begin("test")
    });
    server.keep();
    let refusal = server.gate_report().refusal.unwrap();
    assert_eq!(refusal.found, [format!("{ADDRESS} is used by {mac}, heard on near: the card of SEC1 (192.168.77.2)")]);
    assert!(!server.gate_report().open && !server.gate().is_open() && holds_near());
    assert_eq!(server.boot_report().refusal.as_ref(), Some(&refusal));
    let above_the_login = std::fs::read_to_string(server.path("run/issue.d/atlas.issue")).unwrap();
    assert!(above_the_login.contains("address-in-use"), "{above_the_login}");
    server.stop();

    let accept = ["accept", "address-in-use", "--reason", "I know it", "--i-accept-the-risk"];
    let said = server.atlas_boot(&accept).output().unwrap();
    assert!(said.status.success() && String::from_utf8_lossy(&said.stdout).contains("foreign-cluster once more"));
    let mut given: serde_json::Value =
        serde_json::from_slice(&std::fs::read(server.path("opt/atlas/accepted.json")).unwrap()).unwrap();
    let accepted: Vec<Acceptance> = serde_json::from_value(given["accepted"].clone()).unwrap();
    let codes: Vec<RefusalCode> = accepted.iter().map(|one| one.code).collect();
    assert_eq!(codes, [RefusalCode::ForeignCluster, RefusalCode::AddressInUse]);
    // The next boot, which uses the first one again.
    given["accepted"] = serde_json::to_value(&accepted[1..]).unwrap();
    server.write("opt/atlas/accepted.json", &given.to_string());
    server.report(&BootReport { outcome: Outcome::IdentityInstalled, ..BootReport::begin("test") });
    server.keep();
    let report = server.gate_report();
    assert!(report.open && server.gate().is_open(), "{report:?}");
    assert!(report.warnings.iter().any(|warning| warning.contains("accepted")), "{report:?}");
    assert!(!server.path("opt/atlas/accepted.json").exists(), "it holds for one boot");
    assert_eq!(std::fs::read_dir(server.path("opt/atlas/accepted.d")).unwrap().count(), 1);
    // Both have it now, and the other one says so.
    sh("ip netns exec other ping -c 1 -W 1 -I 192.168.77.1 192.168.77.77 || true");
    until("the duplicate", || {
        server.gate_report().duplicates.iter().any(|one| one.cards.iter().any(|card| card.to_string() == mac))
    });
    sh(&format!("ip -n other addr del {ADDRESS}/24 dev far"));
    until("its end", || server.gate_report().duplicates.is_empty());
}

/// Cards that filter VLANs drop what comes in one that the kernel knows nothing of, but in this mode.
#[test]
fn a_card_hears_all_while_a_vlan_of_its_own_is_not_configured_yet() {
    if !own_network("a_card_hears_all_while_a_vlan_of_its_own_is_not_configured_yet") {
        return;
    }
    wire();
    let hears_all = || sh("ip -d link show near").contains("promiscuity 1");
    let mut server = Server::new("near");
    up_already();
    server.keep();
    assert!(!hears_all(), "without a VLAN it does not");
    server.stop();
    server.gate().close().unwrap();
    server.write("etc/network/interfaces", "iface near.6 inet static\n address 192.168.6.1/24\n");
    server.keep();
    assert!(server.gate_report().open && hears_all(), "{:?}", server.gate_report());
}

#[test]
fn a_card_without_a_carrier_stays_held_until_somebody_could_be_asked() {
    if !own_network("a_card_without_a_carrier_stays_held_until_somebody_could_be_asked") {
        return;
    }
    wire();
    let mut server = Server::new("near");
    sh("ip -n other link set far down");
    server.keep();
    let report = server.gate_report();
    assert!(report.open && report.held == ["near"] && holds_near(), "{report:?}");
    sh("ip -n other link set far up");
    until("the card", || !holds_near());
    until("its report", || server.gate_report().held.is_empty());
    assert!(server.gate().is_open());
}

#[test]
fn a_card_whose_carrier_comes_late_and_whose_address_is_in_use_closes_the_gate() {
    if !own_network("a_card_whose_carrier_comes_late_and_whose_address_is_in_use_closes_the_gate") {
        return;
    }
    wire();
    let mut server = Server::new("near");
    sh(&format!("ip -n other addr add {ADDRESS}/24 dev far; ip -n other link set far down"));
    server.keep();
    assert!(server.gate_report().open);
    sh("ip -n other link set far up");
    until("the refusal", || !server.gate_report().open);
    assert!(server.gate_report().refusal.is_some_and(|refusal| refusal.to_string().contains("address-in-use")));
    assert!(!server.gate().is_open() && holds_near());
}

#[test]
fn a_set_that_is_gone_closes_the_gate_for_this_boot() {
    if !own_network("a_set_that_is_gone_closes_the_gate_for_this_boot") {
        return;
    }
    wire();
    let mut server = Server::new("near");
    // Of a device that no kernel has; the report may say more than this test knows.
    let set = serde_json::json!({
        "uuid": "", "device": "/dev/atlas-no-such-disk", "members": [], "left_out": [], "degraded": false, "file_system": "clean",
    });
    let set = serde_json::from_value(set).unwrap();
    server.report(&BootReport { outcome: Outcome::IdentityInstalled, set: Some(set), ..BootReport::begin("test") });
    server.keep();
    until("the end of the role", || !server.gate_report().open);
    let refusal = server.gate_report().refusal.unwrap();
    assert_eq!(refusal.code.to_string(), "disks-lost");
    assert_eq!(refusal.found, ["atlas-no-such-disk: gone"]);
    assert!(!server.gate().is_open() && holds_near());
    assert!(sh("ip -o link show near").contains("state DOWN"));
    // Somebody brings the card up again: it is held. A keeper that is started again does not open either.
    sh("ip link set near up");
    assert!(holds_near());
    server.stop();
    server.keep();
    assert!(!server.gate_report().open && !server.gate().is_open());
}
