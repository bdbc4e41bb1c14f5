//! Disks of an Unbound set within reach of others: the initramfs of Debian assembles what it finds for as long as it waits, and so does a
//! person who types the command that every guide names. None of them starts a set.
//!
//! ```text
//! root disk comes 5 s late ─ local-block: mdadm --assemble --scan, each second ─ the set is found as it was, and taken
//! the second half comes late ── waited for ────────────────────────────────── the set is whole, and taken
//! resume= names a swap that is gone ── nothing is waited for, nothing assembles ── taken
//! the administrator's mdadm.conf in the initramfs names the set by UUID ─ it is started ─ stopped, and taken
//! refused ─ mdadm --assemble --scan on the console ─ nothing runs, nor with the other half pushed in
//! ```

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};

use super::bench::{Seen, install_probe, probe, probed};
use super::cast::{Cast, LEFT, RIGHT};
use super::refused::{Root, WAIT_FOR_DISKS, assert_refuses};
use crate::cpio::Archive;
use crate::{Boot, Context, Server, secs};

/// The right server with PRI's set and the probe, its root disk late.
fn waiting(ctx: &Context) -> Result<Server> {
    let cast = Cast::get()?;
    let mut builder = cast.without_root(ctx, RIGHT, "init=/probe")?;
    for disk in cast.members(ctx, LEFT)? {
        builder = builder.disk(disk);
    }
    let mut server = builder.late_disk(cast.disk(ctx, "right-root")?).build();
    if let Boot::Kernel { append, .. } = &mut server.boot {
        // The initramfs says what it does.
        *append = append.replace(" quiet", "");
    }
    install_probe(&mut server)?;
    Ok(server)
}

/// Switches it on, plugs its root disk in after the initramfs has waited for it for some seconds, and gives what the probe saw.
fn boot_with_late_root(server: &mut Server) -> Result<Seen> {
    server.start()?;
    // Said once, when the root disk is not there; from now on the scripts of local-block are run.
    server.wait_console("Begin: Waiting for root", secs(120))?;
    server.wait_console("(?s)(Begin: Running /scripts/local-block.*){4}", secs(60))?;
    server.plug("right-root")?;
    probed(server)
}

fn taken_untouched(seen: &Seen) -> Result<()> {
    ensure!(seen.outcome() == "identity-installed" && seen.text("/role") == "PRI", "{:#}", seen.report);
    ensure!(seen.report["set"]["degraded"] == false, "{:#}", seen.report);
    ensure!(seen.mdstat.matches("active raid1").count() == 1, "not one array runs:\n{}", seen.mdstat);
    Ok(())
}

/// The initramfs waits for a root disk, and nothing that it tries meanwhile starts the set.
pub(crate) fn root_disk_comes_late(ctx: &Context) -> Result<()> {
    let mut server = waiting(ctx)?;
    let seen = boot_with_late_root(&mut server)?;
    taken_untouched(&seen)?;
    ensure!(seen.report["warnings"] == serde_json::json!([]), "somebody had started it: {:#}", seen.report);
    Ok(())
}

/// What is missing is waited for: a slow disk does not make a set degraded, nor refused.
pub(crate) fn second_half_comes_late(ctx: &Context) -> Result<()> {
    let cast = Cast::get()?;
    let [first, second] = LEFT.members();
    let builder = cast.bare(ctx, RIGHT, "init=/probe")?.disk(cast.disk(ctx, &first)?);
    let mut server = builder.late_disk(cast.disk(ctx, &second)?).build();
    install_probe(&mut server)?;
    server.start()?;
    server.wait_console("waiting for the missing member of the Unbound set", secs(120))?;
    server.plug(&second)?;
    taken_untouched(&probed(&mut server)?)
}

/// A swap to wake from that is no longer there: Debian waits for it, and has mdadm start everything meanwhile. With ATLAS nobody wakes, so
/// nobody waits.
pub(crate) fn resume_names_a_swap_that_is_gone(ctx: &Context) -> Result<()> {
    let cast = Cast::get()?;
    let mut builder = cast.bare(ctx, RIGHT, "init=/probe resume=UUID=0cf94a3b-3a6c-4b1a-a1fc-24b8a8e0a3c1")?;
    for disk in cast.members(ctx, LEFT)? {
        builder = builder.disk(disk);
    }
    let mut server = builder.build();
    if let Boot::Kernel { append, .. } = &mut server.boot {
        *append = append.replace(" quiet", "");
    }
    install_probe(&mut server)?;
    taken_untouched(&probe(&mut server)?)?;
    let waits = "Waiting for suspend/resume device";
    ensure!(!server.console().text().contains(waits), "it waited for the swap");

    // The fault was there: without what ATLAS does first in the initramfs, the swap is waited for.
    overlay(ctx, &mut server, "scripts/init-top/atlas", 0o755, "#!/bin/sh\nexit 0\n")?;
    server.start()?;
    server.wait_console(waits, secs(120))?;
    server.power_cut()
}

/// An initramfs made by hand names the set: it is started by mdadm while the root disk is waited for, stopped, and taken.
pub(crate) fn array_line_in_the_initramfs(ctx: &Context) -> Result<()> {
    let mut server = waiting(ctx)?;
    let member = server.disk("PRI-0")?.read_at(4096, 64)?;
    let uuid = member[16..32].iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    overlay(ctx, &mut server, "etc/mdadm/mdadm.conf", 0o644, &format!("ARRAY /dev/md77 UUID={uuid}\n"))?;
    let seen = boot_with_late_root(&mut server)?;
    // The fault was there.
    let warnings = seen.report["warnings"].to_string();
    ensure!(warnings.contains("had started /dev/md77") && warnings.contains("it was stopped"), "{:#}", seen.report);
    taken_untouched(&seen)
}

/// Asserts that none of the commands that start everything starts something.
fn nothing_starts(server: &Server, commands: &[&str]) -> Result<()> {
    for command in commands {
        let said = server.exec(command, secs(60))?;
        let arrays = server.sh("udevadm settle; grep md /proc/mdstat || true")?;
        ensure!(arrays.is_empty(), "'{command}' started it: {arrays}\n{}{}", said.text(), said.error_text());
    }
    Ok(())
}

/// A refused half does not run, whoever asks for it by the command that starts everything; nor does the whole pair, when the other half is
/// pushed in after the refusal. What a person names does.
pub(crate) fn assembled_by_hand_after_a_refusal(ctx: &Context) -> Result<()> {
    let (cast, lan) = (Cast::get()?, ctx.lan("office")?);
    let builder = cast.bare(ctx, RIGHT, WAIT_FOR_DISKS)?.nic(&lan)?.disk(cast.disk(ctx, "PRI-0")?);
    let mut server = builder.late_disk(cast.disk(ctx, "PRI-1")?).build();
    assert_refuses(ctx, &lan, &mut server, Root::Sound, "missing-member", &["nothing fills slot"])?;
    let scans = ["mdadm --assemble --scan --run", "mdadm --assemble --scan"];
    nothing_starts(&server, &scans)?;
    nothing_starts(&server, &["mdadm --incremental --run /dev/vdb"])?;
    let by_name = |devices: &str| {
        let array = "/dev/md/atlas-unbound";
        server.sh(&format!("mdadm --assemble {array} --run --readonly {devices} --config=none && cat /proc/mdstat && mdadm --stop {array}"))
    };
    by_name("/dev/vdb")?;

    server.plug("PRI-1")?;
    secs(60).poll("the other half", || Ok((server.exec("test -b /dev/vdc", secs(60))?.code == 0).then_some(())))?;
    nothing_starts(&server, &["true"])?;
    nothing_starts(&server, &scans)?;
    nothing_starts(&server, &["mdadm --incremental --run /dev/vdc", "mdadm --incremental --run /dev/vdb"])?;
    // It is a pair that runs when it is named, so that there was something to start.
    let pair = by_name("/dev/vdb /dev/vdc")?;
    ensure!(pair.contains("[UU]"), "the pair is not whole: {pair}");
    server.power_cut()
}

/// Puts one file over the initramfs of a server: the kernel unpacks one archive after the other.
pub(super) fn overlay(ctx: &Context, server: &mut Server, name: &str, mode: u32, content: &str) -> Result<()> {
    let Boot::Kernel { initrd, .. } = &mut server.boot else { anyhow::bail!("it boots by itself") };
    let path = ctx.scratch().join("overlaid-initrd");
    append_to(initrd, &path, name, mode, content)?;
    *initrd = path;
    Ok(())
}

fn append_to(initrd: &Path, path: &PathBuf, name: &str, mode: u32, content: &str) -> Result<()> {
    let mut archive = Archive::default();
    archive.file(name, mode, content.as_bytes());
    let over = path.with_extension("over");
    archive.write(&over)?;
    let mut bytes = std::fs::read(initrd).with_context(|| format!("reading {}", initrd.display()))?;
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes.extend(std::fs::read(&over)?);
    std::fs::write(path, bytes).with_context(|| format!("writing {}", path.display()))
}
