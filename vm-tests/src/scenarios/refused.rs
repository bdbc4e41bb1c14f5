//! A refusal as an operator meets it, in a whole Debian: why, on the console and above the login; a login; no network; and not a
//! byte written to any disk that is not the system's own business.
//!
//! ```text
//! atlas-boot refuses ─ the machine is stopped ─ systemd boots ──────────── login ─ the machine is stopped ─ power cut
//!                      members and root disk    network down, own identity         members as before
//!                      as before                                                   not one frame on the LAN
//! ```

use std::process::Command;

use anyhow::{Result, ensure};
use serde_json::Value;

use super::bench::{IDENTITY, LEFTOVERS};
use super::cast::{Cast, RIGHT};
use crate::{Context, Disk, Lan, Server, secs};

/// A disk that does not appear within this time, in seconds, is not there: no test of refusals has slow disks.
pub(super) const WAIT_FOR_DISKS: &str = "atlas.wait=1";
/// The root disk of the server that refuses.
const ROOT: &str = "right-root";

/// The root disk of a server that refuses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Root {
    /// In order; atlas-boot writes nothing to it.
    Sound,
    /// It has no room: atlas-boot tries to write, and must take that back.
    Full,
    /// It cannot be written, so that much of Debian fails.
    ReadOnly,
}

/// The right server on a LAN, with `disks`.
pub(super) fn stranger(ctx: &Context, disks: Vec<Disk>) -> Result<(Lan, Server)> {
    let lan = ctx.lan("office")?;
    let mut builder = Cast::get()?.bare(ctx, RIGHT, WAIT_FOR_DISKS)?.nic(&lan)?;
    for disk in disks {
        builder = builder.disk(disk);
    }
    Ok((lan, builder.build()))
}

/// Boots the right server with `disks` and asserts that it refuses as `code`, saying each of `phrases`.
pub(super) fn refused(ctx: &Context, disks: Vec<Disk>, code: &str, phrases: &[&str]) -> Result<()> {
    let (lan, mut server) = stranger(ctx, disks)?;
    assert_refuses(ctx, &lan, &mut server, Root::Sound, code, phrases)?;
    server.power_cut()
}

/// Boots the right server and asserts all that a refusal is. The server is on afterwards, with root logged in on its console.
pub(super) fn assert_refuses(
    ctx: &Context,
    lan: &Lan,
    server: &mut Server,
    root: Root,
    code: &str,
    phrases: &[&str],
) -> Result<()> {
    let root_before = server.disk(ROOT)?.copy(&ctx.scratch().join("root-before"), "before")?;
    server.start()?;
    server.wait_console(&format!("ATLAS REFUSED TO TAKE A ROLE: {code}"), secs(120))?;
    server.wait_console("The network stays down", secs(10))?;
    let before = server.standing_still(|disks| {
        // Before systemd writes to it: what is different now, atlas-boot wrote.
        disks
            .iter()
            .filter(|disk| disk.serial() == ROOT && root != Root::Full)
            .try_for_each(|disk| same(disk, &root_before))?;
        digests(disks)
    })?;
    // Once more, above the login.
    server.wait_console(&format!("ATLAS REFUSED TO TAKE A ROLE: {code}"), secs(180))?;
    server.wait_console("What to do:", secs(10))?;
    server.wait_console("login: $", secs(10))?;
    server.wait_booted(secs(180))?;
    assert_powerless(server, code)?;
    assert_checks(server, root, code)?;
    if root == Root::Sound {
        server.assert_healthy()?;
    }
    server.log_in("root", atlas_image::ROOT_PASSWORD, secs(60))?;
    let console = server.console().text();
    for phrase in phrases {
        ensure!(console.contains(phrase), "the console does not say {phrase:?}:\n{console}");
    }
    ensure!(server.standing_still(digests)? == before, "something was written to a member");
    let sent = lan.sent(server.name())?;
    ensure!(sent.frames == 0, "a refused server sent {sent:?}");
    Ok(())
}

/// What a server that refused has not got: the network, an address, the set's file system, or an array that md began to start.
const POWERLESS: &str = "echo network allowed: $(ls /run/atlas/network-allowed 2>/dev/null); \
    echo networkd: $(systemctl is-active systemd-networkd); echo addresses: $(ip -oneline address show scope global); \
    echo mounted: $(findmnt --noheadings --output SOURCE /unbound); echo arrays: $(grep active /proc/mdstat)";

/// Asserts inside the guest that it has refused as `code`, is who it was, and has neither a network nor the disks.
fn assert_powerless(server: &Server, code: &str) -> Result<()> {
    let report: Value = serde_json::from_slice(&server.read_file("/run/atlas/boot.json")?)?;
    ensure!(report["outcome"] == "refused" && report["refusal"]["code"] == code, "boot.json: {report:#}");
    ensure!(report["unbound_written"] != true, "boot.json: {report:#}");
    // In one command: a guest that is emulated takes its time for each.
    let facts = server.sh(POWERLESS)?;
    ensure!(
        facts == "network allowed:\nnetworkd: inactive\naddresses:\nmounted:\narrays:",
        "refused, and not without power:\n{facts}"
    );
    let (identity, own) = (server.sh(IDENTITY)?, Cast::get()?.identity(RIGHT)?);
    ensure!(identity == own, "the identity changed:\n{identity}\nwas\n{own}");
    let leftovers = server.sh(LEFTOVERS)?;
    ensure!(leftovers.is_empty(), "left behind: {leftovers}");
    Ok(())
}

/// `atlas-boot check` looks into the disks by itself, gives the answer that the boot gave, and leaves nothing running. A root file system that was
/// made read-only on a device that can be written is met by who writes.
fn assert_checks(server: &Server, root: Root, code: &str) -> Result<()> {
    let check = server.exec("atlas-boot check --json", secs(120))?;
    let report: Value = serde_json::from_slice(&check.stdout)?;
    match root {
        Root::Sound | Root::Full => ensure!(
            check.code == 3 && report["refusal"]["code"] == code,
            "atlas-boot check ends with {}: {report:#}",
            check.code
        ),
        Root::ReadOnly => {
            ensure!(check.code == 0 && report["outcome"] == "identity-installed", "{report:#}");
        }
    }
    assert_powerless(server, code)
}

/// Of all disks but the root disk.
fn digests(disks: &[Disk]) -> Result<Vec<String>> {
    disks.iter().filter(|disk| disk.serial() != ROOT).map(Disk::sha256).collect()
}

/// Debian checks its root file system at every boot, and notes so in the superblock: the first block. Nothing else may differ.
fn same(disk: &Disk, before: &Disk) -> Result<()> {
    let compared = Command::new("cmp").arg("--ignore-initial=4096").args([before.path(), disk.path()]).output()?;
    ensure!(
        compared.status.success(),
        "something was written to the root disk: {}",
        String::from_utf8_lossy(&compared.stdout)
    );
    Ok(())
}
