//! Disks that answer nothing from a certain access on, while atlas-boot takes the role: reported, the gate stays closed, the boot comes to an end.

use std::ops::Range;

use anyhow::{Context as _, Result, ensure};
use atlas_image::{PlacedFile, place_files};
use serde_json::Value;

use super::bench::IDENTITY;
use super::cast::{Cast, LEFT, RIGHT};
use super::mirror::{FileSystem, data_area};
use super::refused::stranger;
use crate::{Boot, Context, Disk, Trigger, secs};

/// Where a member says what it is a member of.
const MD_SUPERBLOCK: Range<u64> = 4096..4352;

/// Bytes of a member on which the first block of a file lies; `file` as debugfs takes it.
fn first_block(member: &Disk, file: &str) -> Result<Range<u64>> {
    let (data, _) = data_area(member)?;
    // Of the superblock of ext4: the logarithm of the size of a block, less ten.
    let size = 1024_u64 << u32::from_le_bytes(member.read_at(data + 1024 + 24, 4)?.as_slice().try_into()?);
    let block = FileSystem::of(member)?.debugfs(&format!("bmap {file} 0"))?;
    let block: u64 = block.trim().parse().with_context(|| format!("{file} has no first block: {block}"))?;
    ensure!(block > 0, "{file} has no first block");
    Ok(data + block * size..data + (block + 1) * size)
}

/// Where md keeps the superblock of a member's write-intent bitmap; that of the member counts from its own beginning, in sectors.
fn bitmap(member: &Disk) -> Result<Range<u64>> {
    let offset = i32::from_le_bytes(member.read_at(MD_SUPERBLOCK.start + 96, 4)?.as_slice().try_into()?);
    ensure!(offset > 0, "the member has no bitmap behind its superblock");
    let at = MD_SUPERBLOCK.start + u64::from(offset.unsigned_abs()) * 512;
    Ok(at..at + 256)
}

/// Boots the right server with PRI's disks, which fall silent, and gives boot.json.
fn boot_with(ctx: &Context, at: impl Fn(&Disk) -> Result<Trigger>, code: &str) -> Result<Value> {
    boot_changed(ctx, at, code, &[])
}

/// As [`boot_with`], with files of its root disk changed.
fn boot_changed(
    ctx: &Context,
    at: impl Fn(&Disk) -> Result<Trigger>,
    code: &str,
    files: &[PlacedFile],
) -> Result<Value> {
    let mut disks = Cast::get()?.members(ctx, LEFT)?;
    for disk in &mut disks {
        let at = at(disk)?;
        disk.fall_silent(at);
    }
    let (lan, mut server) = stranger(ctx, disks)?;
    place_files(server.disk(&RIGHT.root_serial())?.path(), files)?;
    // After two minutes the kernel would name who waits for the disks; whether that comes before the end depends on this machine's speed.
    if let Boot::Kernel { append, .. } = &mut server.boot {
        append.push_str(" sysctl.kernel.hung_task_timeout_secs=0");
    }
    server.start()?;
    server.wait_console(&format!("ATLAS REFUSED TO TAKE A ROLE: {code}"), secs(400))?;
    ensure!(server.has_fallen_silent()?, "the disks answer: the fault was not there");
    server.wait_console("login: $", secs(400))?;
    server.wait_agent(secs(60))?;
    let report: Value = serde_json::from_slice(&server.read_file("/run/atlas/boot.json")?)?;
    ensure!(report["outcome"] == "refused" && report["refusal"]["code"] == code, "{report:#}");
    server.sh("test ! -e /run/atlas/network-allowed; test \"$(systemctl is-active systemd-networkd)\" = inactive")?;
    ensure!(server.sh(IDENTITY)? == Cast::get()?.identity(RIGHT)?, "the identity changed");
    server.sh("ip link set eth0 up; ping -c 2 -W 1 192.168.77.99 >/dev/null || true")?;
    let sent = lan.sent(server.name())?;
    ensure!(sent.frames == 0, "a refused server sent {sent:?}");
    server.power_cut()?;
    Ok(report)
}

/// As [`boot_with`], where the watchdog has to find it, in this step.
fn hangs_in(ctx: &Context, step: &str, at: impl Fn(&Disk) -> Result<Trigger>) -> Result<Value> {
    hangs_changed(ctx, step, at, &[])
}

fn hangs_changed(
    ctx: &Context,
    step: &str,
    at: impl Fn(&Disk) -> Result<Trigger>,
    files: &[PlacedFile],
) -> Result<Value> {
    let report = boot_changed(ctx, at, "disk-hangs", files)?;
    let found = report["refusal"]["found"].to_string();
    ensure!(found.contains(&format!("the step '{step}'")), "{report:#}");
    ensure!(found.contains("its requests have had no answer for 40 s"), "{report:#}");
    Ok(report)
}

pub(crate) fn at_the_survey(ctx: &Context) -> Result<()> {
    let report = boot_with(ctx, |_| Ok(Trigger::Read(MD_SUPERBLOCK)), "no-unbound-set")?;
    ensure!(report["refusal"].to_string().contains("no answer within 15 s"), "{report:#}");
    Ok(())
}

pub(crate) fn at_the_start(ctx: &Context) -> Result<()> {
    let report = hangs_in(ctx, "start the Unbound set read-only", |disk| Ok(Trigger::Read(first_block(disk, "<8>")?)))?;
    ensure!(report["unbound_written"] == false, "{report:#}");
    Ok(())
}

/// What md writes as it starts a set, read-only too: the superblock of its bitmap.
pub(crate) fn at_the_write_of_the_start(ctx: &Context) -> Result<()> {
    let report = hangs_in(ctx, "start the Unbound set read-only", |disk| Ok(Trigger::Write(bitmap(disk)?)))?;
    ensure!(report["unbound_written"] == false, "{report:#}");
    Ok(())
}

/// The role is refused, and what md writes as it stops the set has no answer.
pub(crate) fn after_a_refusal(ctx: &Context) -> Result<()> {
    let of_config = |disk: &Disk| Ok(Trigger::WriteAfterRead(first_block(disk, "/SID_DATA/MasterConfig")?));
    let other = [PlacedFile::new("/opt/atlas/Cluster", "butchery\n")];
    let report = hangs_changed(ctx, "let go of the Unbound set", of_config, &other)?;
    ensure!(report["unbound_written"] == false, "{report:#}");
    let found = report["refusal"]["found"].to_string();
    ensure!(found.contains("refused already") && found.contains("another cluster"), "{report:#}");
    Ok(())
}

pub(crate) fn at_the_identity(ctx: &Context) -> Result<()> {
    let of_config = |disk: &Disk| Ok(Trigger::Read(first_block(disk, "/SID_DATA/MasterConfig")?));
    let report = hangs_in(ctx, "read who this server is", of_config)?;
    ensure!(report["unbound_written"] == false, "{report:#}");
    Ok(())
}

pub(crate) fn at_the_first_write(ctx: &Context) -> Result<()> {
    let report = hangs_in(ctx, "open the Unbound set for writing", |_| Ok(Trigger::Write(MD_SUPERBLOCK)))?;
    ensure!(report["unbound_written"] == true, "{report:#}");
    Ok(())
}
