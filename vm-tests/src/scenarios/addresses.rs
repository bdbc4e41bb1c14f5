//! An address is asked for before it is taken, and heard of when a second machine has it.
//!
//! ```text
//! left   PRI, with its set                  clone   a copy of left's root disk and of its set, byte for byte
//! right  SEC1                               tiny machines with addresses of theirs
//! ```

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use std::net::{IpAddr, Ipv4Addr};

use super::bench::IDENTITY;
use super::cast::{Cast, LEFT, PAGE, PRI_ADDRESS, RIGHT, SEC_ADDRESS};
use crate::{Context, Disk, Lan, Server, secs};

const ACCEPT: &str = "atlas-boot accept address-in-use --reason 'the other one is on the table' --i-accept-the-risk";
/// The window in which an answer is waited for, in microseconds.
const WINDOW_US: u64 = 1_000_000;
/// Where asking counts as hung. An emulated server on a busy machine takes seconds for what a real one does in milliseconds; what asking costs is
/// measured by `cargo xtask bench boot`.
const HUNG_US: u64 = 15_000_000;

/// A second server with the same disks, as `dd` makes them.
fn clone_of_left(ctx: &Context, lan: &Lan) -> Result<Server> {
    let cast = Cast::get()?;
    let copy =
        |serial: &str| Disk::copy_of(&cast.folder.join(serial), &ctx.scratch().join(format!("clone-{serial}")), serial);
    let mut builder = cast.chassis(ctx, "clone")?.nic(lan)?.disk(copy(&LEFT.root_serial())?);
    for serial in LEFT.members() {
        builder = builder.disk(copy(&serial)?);
    }
    Ok(builder.build())
}

fn gate_of(server: &Server) -> Result<Value> {
    Ok(serde_json::from_slice(&server.read_file("/run/atlas/gate.json")?)?)
}

fn is_open(server: &Server) -> Result<bool> {
    Ok(server.exec("test -e /run/atlas/network-allowed", secs(60))?.code == 0)
}

/// Waits until the gate of a server has been decided about; says whether it is open.
fn decided(server: &Server) -> Result<bool> {
    server.wait_agent(secs(240))?;
    secs(120).poll(&format!("the gate of {}", server.name()), || {
        Ok((server.exec("test -e /run/atlas/gate.json", secs(60))?.code == 0).then_some(()))
    })?;
    is_open(server)
}

fn address(text: &str) -> Result<IpAddr> {
    Ok(text.parse()?)
}

/// The Ethernet address of a server's only card.
fn card(server: &Server) -> Result<String> {
    server.sh("cat /sys/class/net/eth0/address")
}

/// A copy of everything that PRI is, beside PRI: refused, by the card that has the address; nothing but questions leaves it. Accepted, it comes up, and
/// PRI knows that there are two.
pub(crate) fn clone_beside_pri(ctx: &Context) -> Result<()> {
    let lan = ctx.lan("office")?;
    let mut left = Cast::get()?.server(ctx, LEFT, &lan)?;
    let client = ctx.client("client", &lan, "192.168.77.9/24")?;
    left.start()?;
    left.wait_booted(secs(240))?;
    ensure!(gate_of(&left)?["asked"]["addresses"][0] == PRI_ADDRESS, "{:#}", gate_of(&left)?);
    let mut clone = clone_of_left(ctx, &lan)?;
    clone.start()?;
    clone.wait_console("ATLAS REFUSED TO TAKE A ROLE: address-in-use", secs(240))?;
    clone.wait_console("The network stays down", secs(10))?;
    clone.wait_booted(secs(240))?;
    assert_refused(ctx, &lan, &clone, &card(&left)?)?;
    ensure!(client.sh(&format!("timeout 20 wget -qO- http://{PRI_ADDRESS}/"))? == PAGE, "PRI no longer serves");
    ensure!(gate_of(&left)?["duplicates"].is_null(), "the questions were taken for claims: {:#}", gate_of(&left)?);

    let said = clone.exec(ACCEPT, secs(60))?;
    ensure!(said.code == 0, "not accepted: {}", said.error_text());
    clone.shutdown(secs(120))?;
    clone.start()?;
    clone.wait_booted(secs(240))?;
    let report: Value = serde_json::from_slice(&clone.read_file("/run/atlas/boot.json")?)?;
    ensure!(report["outcome"] == "identity-installed" && is_open(&clone)?, "{report:#}");
    ensure!(clone.sh("cat /opt/atlas/accepted.d/*.json")?.contains("on the table"), "no record is kept");
    let check = clone.exec("atlas-boot check", secs(120))?;
    ensure!(check.code == 0 && check.text().contains("the next one asks again"), "{}: {}", check.code, check.text());
    clone.sh("ping -c 3 -W 1 192.168.77.9 || true")?;
    let clones = card(&clone)?;
    secs(60).poll("PRI to know of the second one", || {
        let gate = gate_of(&left)?;
        Ok((gate["duplicates"][0]["cards"][0] == clones.as_str()).then_some(()))
    })?;
    clone.power_cut()?;
    secs(60).poll("PRI to know that it is gone", || Ok(gate_of(&left)?["duplicates"].is_null().then_some(())))?;
    left.power_cut()
}

fn assert_refused(ctx: &Context, lan: &Lan, clone: &Server, mac: &str) -> Result<()> {
    let report: Value = serde_json::from_slice(&clone.read_file("/run/atlas/boot.json")?)?;
    ensure!(report["refusal"]["code"] == "address-in-use", "{report:#}");
    let (found, expected) =
        (report["refusal"]["found"].to_string(), format!("{PRI_ADDRESS} is used by {mac}, heard on eth0"));
    ensure!(found.contains(&expected), "{expected:?} is not in {found}");
    ensure!(!is_open(clone)? && gate_of(clone)?["open"] == false, "{:#}", gate_of(clone)?);
    let check = clone.exec("atlas-boot check --json", secs(120))?;
    let told: Value = serde_json::from_slice(&check.stdout)?;
    ensure!(
        check.code == 3 && told["refusal"]["code"] == "address-in-use",
        "a question is answered otherwise: {told:#}"
    );
    let status = clone.exec("atlas status", secs(60))?;
    ensure!(status.code == 3 && status.text().contains("address-in-use"), "{}", status.text());
    ensure!(
        clone.sh("findmnt -n -o FS-OPTIONS /unbound")?.starts_with("ro"),
        "the set of a server without a role is written"
    );
    let sent = lan.sent("clone")?;
    ensure!(sent.probes >= 3 && sent.other_than_probes() == 0, "a refused clone sent {sent:?}");
    let asked = gate_of(clone)?["asked"].clone();
    let us = |name: &str| asked[name].as_u64().with_context(|| format!("no {name} in {asked:#}"));
    let took = us("took_us")? - us("prepared_us")?;
    ctx.note(&format!("asking took {} ms", took / 1000))?;
    ensure!((WINDOW_US..HUNG_US).contains(&took), "asking took {took} us: {asked:#}");
    Ok(())
}

/// Both have the same disks, and both are switched on at the same moment: at most one comes up.
pub(crate) fn clones_at_once(ctx: &Context) -> Result<()> {
    let lan = ctx.lan("office")?;
    let mut left = Cast::get()?.server(ctx, LEFT, &lan)?;
    let mut clone = clone_of_left(ctx, &lan)?;
    left.start()?;
    clone.start()?;
    let (one, other) = (decided(&left)?, decided(&clone)?);
    ctx.note(&format!(
        "left is {}, its clone is {}",
        if one { "up" } else { "refused" },
        if other { "up" } else { "refused" }
    ))?;
    ensure!(!(one && other), "both are up");
    for (server, is_up) in [(&left, one), (&clone, other)] {
        server.wait_booted(secs(240))?;
        let sent = lan.sent(server.name())?;
        ensure!(sent.probes > 0, "{} never asked: {sent:?}", server.name());
        // Nobody but the kernel's link-local IPv6 speaks until the network is configured.
        let of_the_link = |used: &IpAddr| matches!(used, IpAddr::V6(six) if six.is_unicast_link_local());
        ensure!(is_up || sent.used.keys().all(of_the_link), "{} was refused and sent as PRI: {sent:?}", server.name());
        if !is_up && sent.other_than_probes() > 0 {
            // An emulated machine may stand still for seconds: the other one's answer came when this one had opened, and closed it again.
            let (name, frames) = (server.name(), sent.other_than_probes());
            ctx.note(&format!("{name} was refused after it had opened: {frames} frames from its link-local address"))?;
        }
        ensure!(is_up || !server.console().text().is_empty());
    }
    left.power_cut()?;
    clone.power_cut()
}

/// A secondary whose address its partner has: refused, and the partner is named. Without that it comes up, and knows at once when two
/// machines have PRI's address.
pub(crate) fn partners_address_twice(ctx: &Context) -> Result<()> {
    let lan = ctx.lan("office")?;
    let mut right = Cast::get()?.server(ctx, RIGHT, &lan)?;
    let pri = ctx.client("pri", &lan, &format!("{PRI_ADDRESS}/24"))?;
    let taken = |verb: &str| format!("ip address {verb} {SEC_ADDRESS}/24 dev eth0");
    pri.sh(&taken("add"))?;
    right.start()?;
    right.wait_console("ATLAS REFUSED TO TAKE A ROLE: address-in-use", secs(240))?;
    right.wait_booted(secs(240))?;
    let report: Value = serde_json::from_slice(&right.read_file("/run/atlas/boot.json")?)?;
    let expected = format!("the card of PRI ({PRI_ADDRESS})");
    ensure!(report["refusal"]["found"].to_string().contains(&expected), "{expected:?} is not in {report:#}");
    ensure!(right.sh(IDENTITY)? == Cast::get()?.identity(RIGHT)?, "the identity changed");
    right.shutdown(secs(120))?;

    pri.sh(&taken("del"))?;
    right.start()?;
    right.wait_booted(secs(240))?;
    ensure!(is_open(&right)?, "it is not up: {:#}", gate_of(&right)?);
    pri.sh(&format!("ping -c 3 {SEC_ADDRESS}"))?;
    ensure!(lan.sent("right")?.used.contains_key(&address(SEC_ADDRESS)?), "it does not use its address");
    ensure!(gate_of(&right)?["duplicates"].is_null(), "{:#}", gate_of(&right)?);
    let thief = ctx.client("thief", &lan, "192.168.77.8/24")?;
    thief.sh(&format!("ip address add {PRI_ADDRESS}/24 dev eth0"))?;
    thief.sh(&format!("arping -c 2 -U -I eth0 {PRI_ADDRESS} || true"))?;
    let cards = [card(&pri)?, card(&thief)?];
    secs(60).poll("the secondary to know of the second one", || {
        let found = gate_of(&right)?["duplicates"].to_string();
        Ok((found.contains(PRI_ADDRESS) && cards.iter().all(|card| found.contains(card.as_str()))).then_some(()))
    })?;
    let told = right.exec("/opt/atlas/bin/VerifyService gate verify --host localhost", secs(60))?;
    ensure!(told.text().contains("two machines have"), "the Verifier says {:?}{:?}", told.text(), told.error_text());
    thief.sh(&format!("ip address del {PRI_ADDRESS}/24 dev eth0"))?;
    secs(60)
        .poll("the secondary to know that it is gone", || Ok(gate_of(&right)?["duplicates"].is_null().then_some(())))?;
    right.power_cut()
}

/// An address in a VLAN, on a card that drops what comes in a VLAN of which the kernel has no interface yet, as most cards do and QEMU's does.
pub(crate) fn address_of_a_vlan_in_use(ctx: &Context) -> Result<()> {
    const IN_VLAN: Ipv4Addr = Ipv4Addr::new(192, 168, 6, 1);
    let lan = ctx.lan("office")?;
    let mut left = Cast::get()?.server(ctx, LEFT, &lan)?;
    left.start()?;
    left.wait_booted(secs(240))?;
    left.sh(&format!(
        "cd /etc/systemd/network && sed -i 's/^\\[Network\\]$/&\\nVLAN=eth0.6/' 10-lan.network && \
         printf '[NetDev]\\nName=eth0.6\\nKind=vlan\\n[VLAN]\\nId=6\\n' > 20-vlan.netdev && \
         printf '[Match]\\nName=eth0.6\\n[Network]\\nAddress={IN_VLAN}/24\\n' > 20-vlan.network && ssSync create && sync"
    ))?;
    left.shutdown(secs(120))?;
    let neighbour = lan.neighbour("neighbour", 6, IN_VLAN)?;
    left.start()?;
    left.wait_console("ATLAS REFUSED TO TAKE A ROLE: address-in-use", secs(240))?;
    left.wait_booted(secs(240))?;
    let report: Value = serde_json::from_slice(&left.read_file("/run/atlas/boot.json")?)?;
    let expected = format!("{IN_VLAN} is used by {}, heard on eth0, VLAN 6", neighbour.mac());
    ensure!(report["refusal"]["found"].to_string().contains(&expected), "{expected:?} is not in {report:#}");
    left.shutdown(secs(120))?;

    drop(neighbour);
    left.start()?;
    left.wait_booted(secs(240))?;
    ensure!(is_open(&left)?, "it is not up: {:#}", gate_of(&left)?);
    secs(60).poll("the VLAN to be configured, and the card to drop again what is not for it", || {
        let has = left.exec(&format!("ip -o addr show dev eth0.6 | grep -q {IN_VLAN}"), secs(60))?.code == 0;
        let hears_all = left.exec("ip -d link show eth0 | grep -q 'promiscuity 0'", secs(60))?.code != 0;
        Ok((has && !hears_all).then_some(()))
    })?;
    left.power_cut()
}
