//! Copies of disk sets: one that is older than what its partners have seen of it, and one that lived on elsewhere. Neither brings anything back, nor
//! does whoever meets it lose anything [320-324].

use anyhow::{Result, ensure};

use super::cast::Part;
use super::cycles::{assert_outcomes, cycle, partner};
use super::cycles_in_trouble::{BOTH, assert_serves, change};
use super::failover::take_out;
use super::trio::{A, C, up};
use crate::{Context, Disk, Lan, Server, secs};

/// All that a partner may change on a server.
const STATE: &str =
    "cd /unbound/SID_DATA && find PRI SEC* keys -type f | sort | xargs sha256sum; cat /etc/nginx/conf.d/word.conf";

/// Shuts a server down, copies its set, and switches it on again.
fn copied(folder: &Context, server: &mut Server, part: Part) -> Result<Vec<Disk>> {
    server.shutdown(secs(240))?;
    let mut copies = Vec::new();
    for disk in take_out(server, part)? {
        copies.push(disk.copy(&folder.scratch().join(disk.serial()), disk.serial())?);
        server.insert(disk)?;
    }
    up([server])?;
    Ok(copies)
}

/// Shuts a server down and switches it on with another set; gives the one that was in it.
fn exchanged(server: &mut Server, part: Part, set: Vec<Disk>) -> Result<Vec<Disk>> {
    server.shutdown(secs(240))?;
    let before = take_out(server, part)?;
    set.into_iter().try_for_each(|disk| server.insert(disk))?;
    up([server])?;
    Ok(before)
}

/// SEC2 comes with disks from before its last cycles, as a clone of it would, and then with its own again.
pub(super) fn old_copy_is_refused(ctx: &Context, a: &Server, c: &mut Server) -> Result<()> {
    let old = Context::new(&format!("{}-old", ctx.name()), &ctx.logs().join("old"))?;
    let copies = copied(&old, c, C)?;
    change(a, "seven")?;
    assert_outcomes(&cycle(a)?, &BOTH)?;
    let own = exchanged(c, C, copies)?;
    let received = c.sh("cat /unbound/SID_DATA/PRI/Env3/SyncFiles/etc/nginx/conf.d/word.conf")?;
    ensure!(received.contains("before"), "these are no disks from before: {received}");
    // What it runs with lies on its own disk, which is not from before.
    assert_serves(c, "seven")?;
    let before = c.sh(STATE)?;
    change(a, "eight")?;
    let report = cycle(a)?;
    assert_outcomes(&report, &[("SEC1", "synced"), ("SEC2", "refused")])?;
    ensure!(c.sh(STATE)? == before, "a refused server was changed");
    exchanged(c, C, own)?;
    assert_outcomes(&cycle(a)?, &BOTH)?;
    assert_serves(c, "eight")?;
    old.finish()
}

/// PRI's disks were copied; then the ones are in use with SEC1, and the others with SEC2. Whichever of them meets the other one's partner is
/// refused by it, and so is nobody's work undone.
pub(super) fn copies_that_lived_on_are_refused(
    ctx: &Context,
    lan: &Lan,
    a: &mut Server,
    b: &mut Server,
    c: &mut Server,
) -> Result<()> {
    let other = Context::new(&format!("{}-copy", ctx.name()), &ctx.logs().join("copy"))?;
    let copies = copied(&other, a, A)?;
    lan.cut("c")?;
    change(a, "with SEC1")?;
    assert_outcomes(&cycle(a)?, &[("SEC1", "synced"), ("SEC2", "unreachable")])?;

    let own = exchanged(a, A, copies)?;
    lan.heal("c")?;
    lan.cut("b")?;
    change(a, "with SEC2")?;
    assert_outcomes(&cycle(a)?, &[("SEC1", "unreachable"), ("SEC2", "synced")])?;
    lan.heal("b")?;
    meets(a, b, "with SEC1", &[("SEC1", "refused"), ("SEC2", "synced")])?;

    exchanged(a, A, own)?;
    assert_serves(c, "met with SEC1")?;
    meets(a, c, "met with SEC1", &[("SEC1", "synced"), ("SEC2", "refused")])?;
    other.finish()
}

/// PRI meets the partner of its copy, which serves that word, goes on to do so, and is told.
fn meets(pri: &Server, stranger: &Server, word: &str, outcomes: &[(&str, &str)]) -> Result<()> {
    stranger.sh("rm -rf /var/lib/atlas/notices")?;
    let before = stranger.sh(STATE)?;
    change(pri, &format!("met {word}"))?;
    let report = cycle(pri)?;
    assert_outcomes(&report, outcomes)?;
    for (role, _) in outcomes.iter().filter(|(_, outcome)| *outcome == "refused") {
        let why = partner(&report, role)?["why"].as_str().unwrap_or_default();
        ensure!(why.contains("they are an old copy"), "{role} is told as {why:?}");
    }
    ensure!(stranger.sh(STATE)? == before, "a refused server was changed");
    ensure!(stranger.sh("cat /var/lib/atlas/notices/*")?.contains("was refused"), "nobody is told there");
    assert_serves(stranger, word)
}
