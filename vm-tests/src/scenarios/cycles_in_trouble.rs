//! Cycles that are cut off, run into full disks, or meet the wrong partner: what was there before stays whole, nobody else is held up,
//! and the next good cycle mends everything [276-290, 320-324].

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use super::cycles::{assert_outcomes, assert_snapshots, cycle, partner};
use super::cycles_misled::{
    clocks_hours_apart, converters_misbehave, no_conversation, pri_loses_its_power, wrong_role_is_refused,
};
use super::cycles_of_copies::{copies_that_lived_on_are_refused, old_copy_is_refused};
use super::trio::{Trio, acted, down, up};
use crate::{Context, Lan, Server, secs};

pub(super) const BOTH: [(&str, &str); 2] = [("SEC1", "synced"), ("SEC2", "synced")];
/// Where there is much to send.
pub(super) const LOAD: &str = "/etc/bakery/load";
/// What is sent anew, in KiB: long enough on its way to be cut in the middle.
const LOAD_KIB: u32 = 4096;
/// How much of it has reached the one that is cut, at least, when that happens; greeting and lists are far less.
pub(super) const IN_THE_MIDDLE: u64 = 1 << 19;

/// What happens to the three servers, who are up and in step before and after it.
type Trouble = fn(&Context, &Lan, &mut Server, &mut Server, &mut Server) -> Result<()>;

const TROUBLES: &[(&str, Trouble)] = &[
    ("a cycle that a secondary drives", |_, _, _, b, _| only_pri_drives(b)),
    ("converters that misbehave", |_, _, a, b, c| converters_misbehave(a, b, c)),
    ("a wrong Role", |_, _, a, _, c| wrong_role_is_refused(a, c)),
    ("clocks hours apart", |_, _, a, b, c| clocks_hours_apart(a, b, c)),
    ("disk full on a secondary", |_, _, a, b, c| disk_full_on_a_secondary(a, b, c)),
    ("disk full on PRI", |_, _, a, b, _| disk_full_on_pri(a, b)),
    ("PRI's power cut in mid-send", |_, lan, a, b, c| pri_loses_its_power(lan, a, b, c)),
    ("LAN cut in mid-send, and down for some cycles", |_, lan, a, b, c| {
        lan_cut_in_mid_send(lan, a, b, c)?;
        down_for_some_cycles(lan, a, b, c)
    }),
    ("power cut in mid-cycle", |_, lan, a, b, c| power_cut_in_mid_cycle(lan, a, b, c)),
    ("an old copy", |ctx, _, a, _, c| old_copy_is_refused(ctx, a, c)),
    // The last one: nobody is in step after it.
    ("a copy, and both lived on", copies_that_lived_on_are_refused),
];

/// One trouble after the other, and after each of them a cycle that brings everyone in step.
pub(crate) fn act(ctx: &Context) -> Result<()> {
    let trio = Trio::get()?;
    let lan = ctx.lan("office")?;
    // Some of them, for whoever works on those: a part of their names.
    let wanted = std::env::var("ATLAS_TROUBLE").unwrap_or_default();
    acted(ctx, trio.servers(ctx, &lan)?, |[a, b, c]| {
        up([a, b, c])?;
        for (name, trouble) in TROUBLES.iter().filter(|(name, _)| name.contains(&wanted)) {
            change(a, "before")?;
            assert_outcomes(&cycle(a)?, &BOTH)?;
            trouble(ctx, &lan, a, b, c).context(*name)?;
            ctx.note(name)?;
        }
        down([a, b, c])
    })
}

/// Changes the site on PRI, so that there is something to send.
pub(super) fn change(pri: &Server, word: &str) -> Result<()> {
    let site = format!("server {{ listen 8080; return 200 \"{word}\\n\"; }}");
    pri.sh(&format!("echo '{site}' > /etc/nginx/conf.d/word.conf && systemctl reload nginx")).map(drop)
}

pub(super) fn assert_serves(server: &Server, word: &str) -> Result<()> {
    let said = server.sh("curl -s http://localhost:8080/")?;
    ensure!(said == word, "{} serves {said:?}, not {word:?}", server.name());
    Ok(())
}

fn only_pri_drives(sec1: &Server) -> Result<()> {
    let refused = sec1.exec("ssSync cycle", secs(60))?;
    ensure!(refused.code == 1 && refused.error_text().contains("driven by PRI"), "{}", refused.error_text());
    Ok(())
}

/// Fills the Unbound file system to the last block; gives nothing back before [`free`].
fn fill(server: &Server) -> Result<()> {
    server
        .exec("dd if=/dev/zero of=/unbound/full bs=64k; dd if=/dev/zero of=/unbound/full.2 bs=1k; sync", secs(200))?;
    let one_more = server.exec("dd if=/dev/zero of=/unbound/full.3 bs=1k count=1", secs(20))?;
    let is_full = one_more.code != 0 && one_more.error_text().contains("No space left");
    ensure!(is_full, "there is room left on {}: {}", server.name(), one_more.error_text());
    Ok(())
}

fn free(server: &Server) -> Result<()> {
    server.sh("rm /unbound/full*").map(drop)
}

fn disk_full_on_a_secondary(a: &Server, b: &Server, c: &Server) -> Result<()> {
    change(a, "one")?;
    assert_outcomes(&cycle(a)?, &BOTH)?;
    fill(b)?;
    change(a, "two")?;
    let report = cycle(a)?;
    assert_outcomes(&report, &[("SEC1", "failed"), ("SEC2", "synced")])?;
    let why = partner(&report, "SEC1")?["why"].as_str().unwrap_or_default();
    ensure!(why.contains("No space left"), "the reason is not told: {why:?}");
    assert_snapshots(b, "a full disk", &["PRI 2: Env1 Env2", "SEC1 1: Env1"])?;
    assert_serves(b, "one")?;
    assert_serves(c, "two")?;
    free(b)?;
    assert_outcomes(&cycle(a)?, &BOTH)?;
    assert_serves(b, "two")
}

fn disk_full_on_pri(a: &Server, b: &Server) -> Result<()> {
    let before = a.sh("cat /unbound/SID_DATA/PRI/Env2/Manifest | sha256sum")?;
    fill(a)?;
    change(a, "three")?;
    let output = a.exec("ssSync cycle", secs(300))?;
    ensure!(output.code == 1 && output.error_text().contains("No space left"), "{}", output.error_text());
    ensure!(a.sh("cat /unbound/SID_DATA/PRI/Env2/Manifest | sha256sum")? == before, "PRI's Snapshot changed");
    assert_serves(b, "before")?;
    free(a)?;
    assert_outcomes(&cycle(a)?, &BOTH)?;
    assert_serves(b, "three")
}

/// Gives PRI much to send.
pub(super) fn give_load(pri: &Server) -> Result<()> {
    pri.sh(&format!("mkdir -p /etc/bakery; dd if=/dev/urandom of={LOAD} bs=1k count={LOAD_KIB}")).map(drop)
}

/// Runs a cycle with much to send, and `cut` as soon as PRI is in the middle of sending it to `partner`.
fn cycle_cut_by(lan: &Lan, pri: &Server, partner: &str, cut: impl FnOnce() -> Result<()>) -> Result<Value> {
    give_load(pri)?;
    let before = lan.delivered(partner)?;
    let ended = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let running = scope.spawn(|| {
            let report = cycle(pri);
            ended.store(true, Ordering::SeqCst);
            report
        });
        while lan.delivered(partner)? < before + IN_THE_MIDDLE {
            ensure!(!ended.load(Ordering::SeqCst), "the cycle ended before it was cut: {:?}", running.join());
            std::thread::sleep(Duration::from_millis(5));
        }
        let cut = cut();
        let report = running.join().unwrap_or_else(|_| anyhow::bail!("the cycle panicked"));
        cut.and(report)
    })
}

fn lan_cut_in_mid_send(lan: &Lan, a: &Server, b: &Server, c: &Server) -> Result<()> {
    let before = b.sh("sha256sum /unbound/SID_DATA/PRI/Env*/Manifest")?;
    let report = cycle_cut_by(lan, a, "b", || lan.cut("b"))?;
    assert_outcomes(&report, &[("SEC1", "failed"), ("SEC2", "synced")])?;
    ensure!(b.sh("sha256sum /unbound/SID_DATA/PRI/Env*/Manifest")? == before, "half a send was published");
    assert_snapshots(b, "a send cut off", &["PRI 2: Env1 Env2", "SEC1 1: Env1"])?;
    assert_serves(b, "before")?;
    c.sh(&format!("test -s {LOAD}")).context("SEC2 was held up").map(drop)
}

fn down_for_some_cycles(lan: &Lan, a: &Server, b: &Server, c: &Server) -> Result<()> {
    for word in ["two", "three", "four", "five"] {
        change(a, word)?;
        assert_outcomes(&cycle(a)?, &[("SEC1", "unreachable"), ("SEC2", "synced")])?;
        assert_serves(c, word)?;
    }
    a.sh(&format!("rm {LOAD}"))?;
    no_conversation(b)?;
    lan.heal("b")?;
    assert_outcomes(&cycle(a)?, &BOTH)?;
    assert_serves(b, "five")?;
    b.sh(&format!("test ! -e {LOAD}")).map(drop)
}

fn power_cut_in_mid_cycle(lan: &Lan, a: &Server, b: &Server, c: &mut Server) -> Result<()> {
    let before = c.sh("sha256sum /unbound/SID_DATA/PRI/Env*/Manifest; sync")?;
    let report = cycle_cut_by(lan, a, "c", || c.power_cut())?;
    assert_outcomes(&report, &[("SEC1", "synced"), ("SEC2", "failed")])?;
    b.sh(&format!("test -s {LOAD}")).context("SEC1 was held up")?;
    up([c])?;
    let boot: Value = serde_json::from_slice(&c.read_file("/run/atlas/boot.json")?)?;
    ensure!(boot["outcome"] == "identity-installed" && boot["role"] == "SEC2", "boot.json: {boot:#}");
    ensure!(c.sh("sha256sum /unbound/SID_DATA/PRI/Env*/Manifest")? == before, "half a send was published");
    assert_snapshots(c, "a power cut", &["PRI 3: Env1 Env2 Env3", "SEC2 3: Env1 Env2 Env3"])?;
    assert_serves(c, "before")?;
    a.sh(&format!("rm {LOAD}"))?;
    change(a, "six")?;
    assert_outcomes(&cycle(a)?, &BOTH)?;
    assert_serves(c, "six")
}
