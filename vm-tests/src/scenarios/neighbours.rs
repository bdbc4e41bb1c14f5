//! What else may be in a machine: other arrays, a hardware RAID.

use anyhow::{Result, ensure};

use super::bench::{install_probe, probe, workbench};
use super::cast::{Cast, LEFT, RIGHT};
use crate::Context;

/// An array of the machine's own, beside the Unbound set: started by md as ever, and ATLAS does not touch it; and a degraded one
/// that md by itself leaves inactive is left as md left it.
pub(crate) fn other_arrays_work_as_before(ctx: &Context) -> Result<()> {
    let blank = |serial: &str| ctx.blank_disk(serial, 64);
    let make = "mdadm --create /dev/md8 --run --level=1 --raid-devices=2 --metadata=1.2 --name=scratch --assume-clean /dev/vdb /dev/vdc
mkfs.ext4 -q -L SCRATCH /dev/md8; mdadm --stop /dev/md8";
    let (others, _) = workbench(ctx, "bench", vec![blank("OTHER-0")?, blank("OTHER-1")?], make)?;
    let cast = Cast::get()?;
    let mut builder = cast.bare(ctx, RIGHT, "init=/probe")?;
    for disk in others.into_iter().chain(cast.members(ctx, LEFT)?) {
        builder = builder.disk(disk);
    }
    let mut server = builder.build();
    install_probe(&mut server)?;
    let seen = probe(&mut server)?;
    ensure!(seen.outcome() == "identity-installed" && seen.text("/role") == "PRI", "{:#}", seen.report);
    let members = seen.report["set"]["members"].to_string();
    ensure!(members == r#"["/dev/vdd","/dev/vde"]"#, "{members}");
    let other = seen.mdstat.lines().find(|line| line.contains("vdb") && line.contains("vdc"));
    ensure!(other.is_some_and(|line| line.contains(" active ")), "the other array does not run:\n{}", seen.mdstat);
    Ok(())
}

/// The Unbound set as a hardware RAID shows it: one device with the file system on it; copied from a mirror but for the mirror's record.
pub(crate) fn hardware_raid(ctx: &Context) -> Result<()> {
    let cast = Cast::get()?;
    let disks = cast.members(ctx, LEFT)?.into_iter().chain([ctx.blank_disk("HWRAID", 96)?]).collect();
    let copy = "members='/dev/vdb /dev/vdc'; start_set; mkfs.ext4 -q -L ATLAS-UNBOUND /dev/vdd
mkdir /mnt/new; mount -t ext4 /dev/vdd /mnt/new; cp -a /mnt/set/. /mnt/new/; rm /mnt/new/SID_DATA/Set; umount /mnt/new; stop_set";
    let (mut disks, _) = workbench(ctx, "bench", disks, copy)?;
    let one = disks.pop().ok_or_else(|| anyhow::anyhow!("the workbench lost a disk"))?;
    let mut server = cast.bare(ctx, RIGHT, "init=/probe")?.disk(one).build();
    install_probe(&mut server)?;
    let seen = probe(&mut server)?;
    ensure!(seen.outcome() == "identity-installed" && seen.text("/role") == "PRI", "{:#}", seen.report);
    ensure!(seen.text("/set/device") == "/dev/vdb" && seen.unbound_mount.contains("rw"), "{:#}", seen.report);
    Ok(())
}
