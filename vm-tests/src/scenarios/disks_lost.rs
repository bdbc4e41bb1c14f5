//! A PRI that loses its disks stops being PRI, at once and until a cold boot.

use std::net::IpAddr;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use super::cast::{Cast, LEFT, PAGE, PRI_ADDRESS, RIGHT};
use crate::{Context, Lan, Server, secs};

/// Within this time after its disks are gone, the last frame has left a server.
const CLOSED_WITHIN: Duration = Duration::from_secs(5);
/// The same where its disks only do not answer: 40 seconds, and what a look takes.
const SILENT_WITHIN: Duration = Duration::from_secs(46);
/// How long nothing is heard of a server before it counts as silent.
const QUIET: Duration = Duration::from_secs(3);
/// Has the client ask PRI for something all the time.
const PINGS: &str = "(while :; do ping -c 1 -W 1 192.168.77.1; done) >/dev/null 2>&1 &";
const LOST: &str = "THIS SERVER HAS GIVEN ITS ROLE UP: disks-lost";

/// PRI up in a chassis whose bays `build` makes, and a client that asks it all the time.
fn stage(ctx: &Context, cabled: bool) -> Result<(Lan, Server, Server)> {
    let cast = Cast::get()?;
    let lan = ctx.lan("office")?;
    let builder = cast.bare(ctx, LEFT, "")?.nic(&lan)?;
    let mut builder = if cabled { builder.cabled_bays() } else { builder.bays() };
    for member in cast.members(ctx, LEFT)? {
        builder = builder.disk(member);
    }
    let mut left = builder.build();
    let client = ctx.client("client", &lan, "192.168.77.9/24")?;
    left.start()?;
    left.wait_booted(secs(240))?;
    ensure!(page(&client)? == PAGE);
    client.sh(PINGS)?;
    Ok((lan, left, client))
}

fn page(client: &Server) -> Result<String> {
    client.sh(&format!("timeout 20 wget -qO- http://{PRI_ADDRESS}/"))
}

fn pri() -> Result<IpAddr> {
    Ok(PRI_ADDRESS.parse()?)
}

/// Waits until a server has been silent for a while; gives when it sent its last frame.
fn last_frame(lan: &Lan, server: &str, at_most: Duration) -> Result<Instant> {
    secs(at_most.as_secs() + 60).poll(&format!("the silence of {server}"), || {
        let last = lan.sent(server)?.last.with_context(|| format!("{server} never sent anything"))?;
        Ok((last.elapsed() >= QUIET).then_some(last))
    })
}

/// Asserts that it is closed for good, and says so where nothing has to be written.
fn assert_closed(server: &Server) -> Result<()> {
    server.wait_console(LOST, secs(30))?;
    server.wait_console("Only switching the server off and on", secs(10))?;
    ensure!(server.exec("test -e /run/atlas/network-allowed", secs(60))?.code != 0, "network-allowed is there");
    ensure!(server.sh("dmesg")?.contains("disks-lost"), "the kernel log does not say it");
    Ok(())
}

/// The same, and wherever else somebody looks.
fn assert_given_up(server: &Server) -> Result<()> {
    assert_closed(server)?;
    let gate: Value = serde_json::from_slice(&server.read_file("/run/atlas/gate.json")?)?;
    ensure!(gate["open"] == false && gate["refusal"]["code"] == "disks-lost", "{gate:#}");
    let boot: Value = serde_json::from_slice(&server.read_file("/run/atlas/boot.json")?)?;
    ensure!(boot["outcome"] == "refused", "{boot:#}");
    ensure!(server.sh("cat /run/issue.d/atlas.issue")?.contains("disks-lost"), "it does not stand above the login");
    ensure!(server.sh("ip -o link show dev eth0")?.contains("state DOWN"), "the card is still up");
    Ok(())
}

/// Whoever writes to the set that is gone gets an error, and nothing is said over the screen that tells why.
fn assert_quiet(server: &Server) -> Result<()> {
    let noise = || {
        server.sh("for n in 1 2 3; do echo x > /unbound/x$n; done 2>/dev/null; sleep 12; dmesg | grep -c -e EXT4-fs -e 'Buffer I/O' || true")
    };
    let (before, after) = (noise()?, noise()?);
    ensure!(before == after, "the kernel says more and more of the set that is gone: {before}, then {after} lines");
    Ok(())
}

/// Both disks are pulled out of the running PRI and booted in the other server: never do two send as PRI. Pushed back, they change nothing before the
/// power was off.
pub(crate) fn pulled_out(ctx: &Context) -> Result<()> {
    let (lan, mut left, client) = stage(ctx, false)?;
    let mut right = Cast::get()?.bare(ctx, RIGHT, "")?.nic(&lan)?.build();
    let one = left.pull(&LEFT.members()[0])?;
    thread::sleep(QUIET);
    ensure!(page(&client)? == PAGE, "one disk was pulled, and PRI serves no longer");
    let pulled = Instant::now();
    let other = left.pull(&LEFT.members()[1])?;
    let last = last_frame(&lan, "left", CLOSED_WITHIN)?;
    let took = last.saturating_duration_since(pulled);
    ctx.note(&format!("the last frame left {} ms after the last disk was pulled", took.as_millis()))?;
    ensure!(took <= CLOSED_WITHIN, "it sent for {took:?}");
    assert_given_up(&left)?;
    assert_quiet(&left)?;

    right.insert(one)?;
    right.insert(other)?;
    // The first was pulled a moment before the second: half of the pair is older, and the set is degraded.
    right.start()?;
    right.wait_booted(secs(240))?;
    ensure!(page(&client)? == PAGE, "the other server does not serve");
    let (was, is) = (lan.sent("left")?, lan.sent("right")?);
    let used = |sent: &crate::Sent| sent.used.get(&pri().ok()?).copied();
    let (was, is) = (used(&was).context("left never was PRI")?, used(&is).context("right never was PRI")?);
    ensure!(was.1 < is.0, "both sent as PRI: {:?}", was.1.saturating_duration_since(is.0));
    right.power_cut()?;

    let before = lan.sent("left")?.frames;
    for serial in LEFT.members() {
        left.push(right.remove(&serial)?)?;
    }
    secs(60)
        .poll("the disks to be back", || Ok((left.sh("ls /sys/class/block | grep -c '^vd'")? == "3").then_some(())))?;
    left.sh("ip link set eth0 up; ip address add 192.168.77.1/24 dev eth0 2>/dev/null; systemctl restart systemd-networkd || true")?;
    thread::sleep(QUIET);
    ensure!(lan.sent("left")?.frames == before, "it sends again, without a cold boot");
    // The file system that was lost says nothing of the disks that are there now.
    let said = left.sh("atlas-boot check; true")?;
    ensure!(said.contains(LOST) && !said.contains("damaged") && !said.contains("WILL REFUSE"), "{said}");
    left.power_cut()?;
    left.start()?;
    left.wait_booted(secs(240))?;
    ensure!(page(&client)? == PAGE, "after a cold boot it is not PRI again");
    left.power_cut()
}

/// Pulls both disks at the same moment, and asserts that soon nothing is sent any more.
fn pull_both(ctx: &Context, lan: &Lan, left: &mut Server) -> Result<()> {
    let pulled = Instant::now();
    left.pull_all(&LEFT.members())?;
    let took = last_frame(lan, "left", CLOSED_WITHIN)?.saturating_duration_since(pulled);
    ctx.note(&format!("the last frame left {} ms after both disks were pulled", took.as_millis()))?;
    ensure!(took <= CLOSED_WITHIN, "it sent for {took:?}");
    Ok(())
}

/// There is no room in /run, where the gate has its files: it closes all the same.
pub(crate) fn run_is_full(ctx: &Context) -> Result<()> {
    let (lan, mut left, _client) = stage(ctx, false)?;
    // Whoever makes room there, as the journal may, does not have it for long.
    left.sh("(while :; do cat /dev/zero >>/run/full; sleep 0.1; done) >/dev/null 2>&1 &")?;
    let is_full = |left: &Server| left.exec("head -c 64K /dev/zero >/run/more", secs(60)).map(|said| said.code != 0);
    secs(60).poll("/run to be full", || Ok(is_full(&left)?.then_some(())))?;
    pull_both(ctx, &lan, &mut left)?;
    assert_closed(&left)?;
    ensure!(is_full(&left)?, "there was room in /run: the fault was not there");

    // A keeper that is started anew knows only what is written there: why it was closed, if there was room for that for a moment, or else nothing.
    let is_written = left.exec("grep -q disks-lost /run/atlas/boot.json", secs(60))?.code == 0;
    ctx.note(if is_written { "the refusal could be written" } else { "there was no room for the refusal" })?;
    let before = lan.sent("left")?.frames;
    let keeper = "systemctl show --property=MainPID --value atlas-gate";
    let was = left.sh(&format!("{keeper}; kill -9 $({keeper})"))?;
    secs(60).poll("another keeper", || Ok(Some(left.sh(keeper)?).filter(|now| *now != "0" && *now != was)))?;
    if is_written {
        thread::sleep(QUIET);
    } else {
        left.wait_console("ATLAS REFUSED TO TAKE A ROLE: not-decided", secs(60))?;
    }
    ensure!(left.exec("test -e /run/atlas/network-allowed", secs(60))?.code != 0, "network-allowed is there");
    ensure!(lan.sent("left")?.frames == before, "it sends again");
    left.power_cut()
}

/// The keeper stands still when the disks are pulled: the watchdog puts another one in its place, and that one closes.
pub(crate) fn keeper_is_stuck(ctx: &Context) -> Result<()> {
    /// The watchdog's, a second until the next keeper, and what that one needs.
    const WITHIN: Duration = Duration::from_secs(20);
    let (lan, mut left, _client) = stage(ctx, false)?;
    let keeper = "systemctl show --property=MainPID --value atlas-gate";
    let stopped = left
        .sh(&format!("pid=$({keeper}); kill -STOP $pid; grep -q '^State:.*stopped' /proc/$pid/status && echo $pid"))?;
    let pulled = Instant::now();
    left.pull_all(&LEFT.members())?;
    let took = last_frame(&lan, "left", WITHIN)?.saturating_duration_since(pulled);
    ctx.note(&format!("the last frame left {} ms after both disks were pulled", took.as_millis()))?;
    ensure!(took <= WITHIN, "it sent for {took:?}");
    assert_closed(&left)?;
    ensure!(left.sh(keeper)? != stopped, "the keeper that stood still is still there");
    left.power_cut()
}

/// The card was given to a network namespace, as a container's is. It is silent there, too, whatever is tried in it.
pub(crate) fn card_in_a_namespace(ctx: &Context) -> Result<()> {
    let (lan, mut left, client) = stage(ctx, false)?;
    left.sh("ip netns add cell && ip link set eth0 netns cell && ip -n cell link set eth0 up && ip -n cell address add 192.168.77.1/24 dev eth0")?;
    left.sh("(while :; do ip netns exec cell ping -c 1 -W 1 192.168.77.9; done) >/dev/null 2>&1 &")?;
    let reached = "for n in $(seq 20); do ! ping -c 1 -W 1 192.168.77.1 || exit 0; done; exit 1";
    client.sh(reached).context("nothing is sent from the namespace, so it cannot end")?;
    pull_both(ctx, &lan, &mut left)?;
    assert_closed(&left)?;

    let before = lan.sent("left")?.frames;
    left.sh("ip -n cell link set eth0 down; ip -n cell link set eth0 up; ip -n cell address replace 192.168.77.1/24 dev eth0")?;
    let dropped = || {
        let text = left.sh("ip netns exec cell tc -s -j qdisc show dev eth0")?;
        let qdiscs: Vec<Value> = serde_json::from_str(&text).with_context(|| format!("reading {text}"))?;
        let held =
            qdiscs.iter().find(|qdisc| qdisc["kind"] == "blackhole").with_context(|| format!("no gate: {text}"))?;
        held["drops"].as_u64().with_context(|| format!("no count in {text}"))
    };
    let had = dropped()?;
    secs(60).poll("something to be tried", || Ok((dropped()? > had).then_some(())))?;
    ensure!(lan.sent("left")?.frames == before, "it sends from the namespace");
    left.power_cut()
}

/// The file system turns read-only: reported, and PRI goes on. Then every access to both disks fails: closed.
pub(crate) fn every_path_fails(ctx: &Context) -> Result<()> {
    let (lan, mut left, client) = stage(ctx, true)?;
    left.sh("device=$(findmnt -n -o SOURCE /unbound); tune2fs -e remount-ro $device; mount -o remount,errors=remount-ro /unbound; \
        echo 1 > /sys/fs/ext4/${device#/dev/}/trigger_fs_error")?;
    ensure!(left.exec("touch /unbound/x", secs(60))?.code != 0, "the file system is writable: the fault was not there");
    secs(60).poll("the report of a read-only set", || {
        let gate: Value = serde_json::from_slice(&left.read_file("/run/atlas/gate.json")?)?;
        Ok((gate["open"] == true && gate["set_fault"].as_str().is_some_and(|why| why.contains("/unbound")))
            .then_some(()))
    })?;
    let told = left.exec("/opt/atlas/bin/VerifyService gate verify --host localhost", secs(60))?;
    ensure!(told.text().contains("cannot be relied on"), "the Verifier says {:?}{:?}", told.text(), told.error_text());
    ensure!(page(&client)? == PAGE, "a read-only set closed the network");
    let cut = Instant::now();
    left.cut_cables()?;
    let took = last_frame(&lan, "left", CLOSED_WITHIN)?.saturating_duration_since(cut);
    ctx.note(&format!("the last frame left {} ms after every path failed", took.as_millis()))?;
    ensure!(took <= CLOSED_WITHIN, "it sent for {took:?}");
    assert_given_up(&left)?;
    left.power_cut()
}

/// Both disks only do not answer any more: the longer bound, and then the same.
pub(crate) fn no_path_answers(ctx: &Context) -> Result<()> {
    let (lan, mut left, _client) = stage(ctx, true)?;
    let silenced = Instant::now();
    left.silence_cables()?;
    // One that waits for these disks from now on; it holds the lock, and nobody else waits for it.
    left.sh("setsid ssSync create >/run/first.log 2>&1 </dev/null &")?;
    let took = last_frame(&lan, "left", SILENT_WITHIN)?.saturating_duration_since(silenced);
    ctx.note(&format!("the last frame left {} ms after the disks fell silent", took.as_millis()))?;
    ensure!(took > CLOSED_WITHIN && took <= SILENT_WITHIN, "it sent for {took:?}");
    left.wait_console(LOST, secs(30))?;
    left.sh("pgrep -x ssSync >/dev/null")?;
    for command in ["ssSync create", "ssSync cycle"] {
        let said = left.exec(command, secs(30))?;
        ensure!(said.code != 0 && said.error_text().contains("given its role up: disks-lost"), "{}", said.error_text());
    }
    // The Verifier writes what it notes to these disks, too, and goes on all the same.
    let written = || left.sh("stat -c %Y.%y /run/atlas/verifier.json");
    let before = written()?;
    secs(90).poll("a further report of the Verifier", || Ok((written()? != before).then_some(())))?;
    left.power_cut()
}
