//! Situations in which a server must not take a role. What a refusal is, is asserted for each of them in the module `refused`. Half of
//! a healthy pair alone stands in `failover`, with the way past it.

use anyhow::{Context as _, Result, ensure};

use super::bench::{install_probe, probe, workbench};
use super::cast::{Cast, LEFT, RIGHT};
use super::mirror::{FileSystem, edit_mirror};
use super::refused::refused;
use crate::{Context, Disk};

const MASTER_CONFIG: &str = "/SID_DATA/MasterConfig";

/// PRI's set, changed by `edit`.
fn pri_changed(ctx: &Context, edit: impl FnOnce(&FileSystem) -> Result<()>) -> Result<Vec<Disk>> {
    let mut members = Cast::get()?.members(ctx, LEFT)?;
    edit_mirror(&mut members, edit)?;
    Ok(members)
}

pub(crate) fn no_set(ctx: &Context) -> Result<()> {
    refused(ctx, vec![], "no-unbound-set", &["No disk with Unbound Data", "push the Unbound disks"])
}

pub(crate) fn two_sets(ctx: &Context) -> Result<()> {
    let cast = Cast::get()?;
    let disks = [cast.members(ctx, LEFT)?, cast.members(ctx, RIGHT)?].into_iter().flatten().collect();
    refused(ctx, disks, "two-sets", &["serial PRI-0", "serial SEC-1", "leave in only the disks"])
}

pub(crate) fn members_of_two_sets(ctx: &Context) -> Result<()> {
    let cast = Cast::get()?;
    let disks = vec![cast.disk(ctx, "PRI-0")?, cast.disk(ctx, "SEC-1")?];
    refused(ctx, disks, "mixed-sets", &["serial PRI-0", "serial SEC-1"])
}

/// Each half is written alone, the same number of times, so that md would start them as one.
pub(crate) fn halves_written_apart(ctx: &Context) -> Result<()> {
    let mut halves = Vec::new();
    let mut counts = Vec::new();
    for (bench, serial) in [("bench-0", "PRI-0"), ("bench-1", "PRI-1")] {
        let half = Cast::get()?.disk(ctx, serial)?;
        let commands = format!(
            "start_set\necho written on {serial} alone > /mnt/set/www/index.html\nstop_set\nmdadm --examine /dev/vdb | grep -E 'Events|Array State'"
        );
        let (mut disks, said) = workbench(ctx, bench, vec![half], &commands)?;
        let line = |what: &str| said.lines().find(|line| line.contains(what)).map(str::trim).map(str::to_owned);
        counts.push(line("Events :").context("no event count")?);
        let state = line("Array State").context("no array state")?;
        ensure!(state.contains("A.") || state.contains(".A"), "the half did not run alone: {state}");
        halves.append(&mut disks);
    }
    let events = |text: &str| text.rsplit(' ').next().and_then(|number| number.parse::<u64>().ok());
    let (Some(a), Some(b)) = (events(&counts[0]), events(&counts[1])) else { anyhow::bail!("no numbers: {counts:?}") };
    // The fault must be the treacherous one: as md counts, the halves are equally fresh.
    let even = a.max(b);
    for (half, count) in halves.iter_mut().zip([a, b]) {
        set_events(half, even).with_context(|| format!("from {count} to {even}"))?;
    }
    refused(
        ctx,
        halves,
        "written-apart",
        &["without all members", "serial PRI-1", "accept written-apart --device /dev/vd"],
    )
}

/// Writes the event count of a format 1.2 member, and the checksum that goes with it.
fn set_events(disk: &mut Disk, events: u64) -> Result<()> {
    const AT: u64 = 4096;
    let mut block = disk.read_at(AT, 4096)?;
    let word = |block: &[u8], at: usize| u32::from_le_bytes([block[at], block[at + 1], block[at + 2], block[at + 3]]);
    ensure!(word(&block, 0) == 0xa92b_4efc, "no md superblock");
    block[200..208].copy_from_slice(&events.to_le_bytes());
    let length = 256 + 2 * word(&block, 220) as usize;
    let mut sum = 0u64;
    for at in (0..length).step_by(4).filter(|at| *at != 216) {
        let half =
            if at + 4 <= length { word(&block, at) } else { u32::from(u16::from_le_bytes([block[at], block[at + 1]])) };
        sum += u64::from(half);
    }
    let sum = ((sum & 0xffff_ffff) + (sum >> 32)) as u32;
    block[216..220].copy_from_slice(&sum.to_le_bytes());
    disk.write_at(AT, &block)
}

pub(crate) fn master_config_absent(ctx: &Context) -> Result<()> {
    let disks = pri_changed(ctx, |files| files.remove(MASTER_CONFIG))?;
    refused(ctx, disks, "master-config-missing", &["has no MasterConfig"])
}

/// Refused with a MasterConfig that `change` made of the one that was there.
fn bad_master_config(
    ctx: &Context,
    change: impl FnOnce(Vec<u8>) -> Vec<u8>,
    code: &str,
    phrases: &[&str],
) -> Result<()> {
    let disks = pri_changed(ctx, |files| {
        let before = files.read(MASTER_CONFIG)?;
        let after = change(before.clone());
        ensure!(after != before, "MasterConfig is as it was");
        files.replace(MASTER_CONFIG, &after)
    })?;
    refused(ctx, disks, code, phrases)
}

/// Its text with `from` replaced.
fn edited(text: &[u8], from: &str, to: &str) -> Vec<u8> {
    String::from_utf8_lossy(text).replacen(from, to, 1).into_bytes()
}

pub(crate) fn master_config_empty(ctx: &Context) -> Result<()> {
    bad_master_config(ctx, |_| vec![], "master-config-invalid", &["it is empty"])
}

pub(crate) fn master_config_cut_off(ctx: &Context) -> Result<()> {
    let cut = |mut text: Vec<u8>| {
        text.truncate(text.len().saturating_sub(20));
        text
    };
    bad_master_config(ctx, cut, "master-config-invalid", &["cannot be read as MasterConfig"])
}

pub(crate) fn master_config_binary(ctx: &Context) -> Result<()> {
    let program = std::fs::read("/bin/sh")?;
    let beginning = |_| program.iter().take(300).copied().collect();
    bad_master_config(ctx, beginning, "master-config-invalid", &["not text"])
}

pub(crate) fn master_config_of_unknown_role(ctx: &Context) -> Result<()> {
    let king = |text: Vec<u8>| edited(&text, "\nrole = \"PRI\"", "\nrole = \"KING\"");
    bad_master_config(ctx, king, "master-config-invalid", &["'KING' is not a role"])
}

pub(crate) fn master_config_of_another_cluster(ctx: &Context) -> Result<()> {
    let phrases = ["cluster of the disks: butchery", "cluster of this server: bakery", "accept foreign-cluster"];
    bad_master_config(ctx, |text| edited(&text, "\"bakery\"", "\"butchery\""), "foreign-cluster", &phrases)
}

pub(crate) fn unknown_format(ctx: &Context) -> Result<()> {
    let newer = |text: Vec<u8>| edited(&text, "format = 1", "format = 2");
    bad_master_config(ctx, newer, "unknown-format", &["format 2", "install the newer ATLAS"])
}

pub(crate) fn ident_path_climbs_out(ctx: &Context) -> Result<()> {
    let list = "/SID_DATA/PRI/Env1/IdentFilePaths";
    let disks = pri_changed(ctx, |files| {
        files.replace(list, &[files.read(list)?.as_slice(), b"/etc/../root/.profile\n"].concat())
    })?;
    refused(ctx, disks, "bad-path", &["climbs out with '..'"])
}

pub(crate) fn ident_path_through_a_link(ctx: &Context) -> Result<()> {
    let disks = pri_changed(ctx, |files| files.put_link_before("/SID_DATA/PRI/Env1/IdentFiles/etc", "/etc"))?;
    refused(ctx, disks, "bad-path", &["leads out of the tree"])
}

/// The inode of the root directory is gone, and the file system knows that it has errors: e2fsck would have to ask.
pub(crate) fn file_system_beyond_mending(ctx: &Context) -> Result<()> {
    let disks = pri_changed(ctx, |files| {
        files.debugfs("clri <2>")?;
        files.debugfs("ssv state 2")?;
        ensure!(files.check().is_err(), "e2fsck finds nothing to mend");
        Ok(())
    })?;
    refused(ctx, disks, "filesystem-broken", &["the disks are untouched", "e2fsck -f -n"])
}

/// A file system that is merely marked as in need of a check is mended and used, and the report says so.
pub(crate) fn file_system_that_can_be_mended(ctx: &Context) -> Result<()> {
    let disks = pri_changed(ctx, |files| {
        files.debugfs("ssv state 2")?;
        files.debugfs("ssv free_blocks_count 5")?;
        // A wrong count alone is nothing to e2fsck.
        let state = files.debugfs("show_super_stats -h")?;
        ensure!(state.contains("not clean with errors"), "it is not marked: {state}");
        Ok(())
    })?;
    let mut builder = Cast::get()?.bare(ctx, RIGHT, "init=/probe")?;
    for disk in disks {
        builder = builder.disk(disk);
    }
    let mut server = builder.build();
    install_probe(&mut server)?;
    let seen = probe(&mut server)?;
    ensure!(seen.outcome() == "identity-installed" && seen.network_allowed, "{:#}", seen.report);
    ensure!(seen.text("/set/file_system") == "mended", "{:#}", seen.report);
    Ok(())
}
