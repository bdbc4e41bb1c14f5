//! What else may be in a machine: other arrays, a hardware RAID, an operator who runs `atlas init` again.

use anyhow::{Result, ensure};

use super::bench::{install_probe, probe, workbench};
use super::cast::{Cast, LEFT, RIGHT};
use crate::{Context, secs};

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

/// The Unbound set as a hardware RAID shows it: one device with the file system on it.
pub(crate) fn hardware_raid(ctx: &Context) -> Result<()> {
    let cast = Cast::get()?;
    let disks = cast.members(ctx, LEFT)?.into_iter().chain([ctx.blank_disk("HWRAID", 96)?]).collect();
    let copy = "members='/dev/vdb /dev/vdc'; start_set; mkfs.ext4 -q -L ATLAS-UNBOUND /dev/vdd
mkdir /mnt/new; mount -t ext4 /dev/vdd /mnt/new; cp -a /mnt/set/. /mnt/new/; umount /mnt/new; stop_set";
    let (mut disks, _) = workbench(ctx, "bench", disks, copy)?;
    let one = disks.pop().ok_or_else(|| anyhow::anyhow!("the workbench lost a disk"))?;
    let mut server = cast.bare(ctx, RIGHT, "init=/probe")?.disk(one).build();
    install_probe(&mut server)?;
    let seen = probe(&mut server)?;
    ensure!(seen.outcome() == "identity-installed" && seen.text("/role") == "PRI", "{:#}", seen.report);
    ensure!(seen.text("/set/device") == "/dev/vdb" && seen.unbound_mount.contains("rw"), "{:#}", seen.report);
    Ok(())
}

/// `atlas init` on disks that hold something is refused unless told twice; run again, it changes nothing; `--check` says yes where the
/// server would boot into its role, and no with the reason where it would not.
pub(crate) fn init_is_careful(ctx: &Context) -> Result<()> {
    let cast = Cast::get()?;
    let mut builder = cast.bare(ctx, LEFT, "")?;
    for member in cast.members(ctx, LEFT)? {
        builder = builder.disk(member);
    }
    let mut server = builder.disk(ctx.blank_disk("BOOKS", 64)?).build();
    server.start()?;
    server.wait_booted(secs(180))?;
    let check = server.exec("atlas init --check --json", secs(120))?;
    ensure!(check.code == 0, "{} {}", check.text(), check.error_text());
    let before = server.sh("find /unbound/SID_DATA /opt/atlas /etc/atlas -type f | sort | xargs sha256sum")?;
    let again = server.exec(&LEFT.set_up(), secs(300))?;
    ensure!(again.code == 0, "the second run fails: {} {}", again.text(), again.error_text());
    let after = server.sh("find /unbound/SID_DATA /opt/atlas /etc/atlas -type f | sort | xargs sha256sum")?;
    ensure!(before == after, "the second run changed:\n{before}\n{after}");

    server.sh("mkfs.ext4 -q -L books /dev/vdd")?;
    let other = LEFT.set_up().replace("/dev/vdb,/dev/vdc", "/dev/vdc,/dev/vdd");
    for command in [other.clone(), format!("{other} --erase"), LEFT.set_up().replace("--role PRI", "--role SEC1")] {
        let refused = server.exec(&command, secs(120))?;
        ensure!(refused.code == 1 || refused.code == 2, "`{command}` ends with {}: {}", refused.code, refused.text());
    }
    ensure!(server.sh("blkid -o value -s LABEL /dev/vdd")? == "books", "a disk was erased without being told twice");
    ensure!(server.sh("find /unbound/SID_DATA /opt/atlas /etc/atlas -type f | sort | xargs sha256sum")? == after);

    server.sh("echo nonsense > /opt/atlas/EnvID")?;
    let check = server.exec("atlas init --check", secs(120))?;
    ensure!(check.code == 3 && check.text().contains("EnvID"), "check ends with {}: {}", check.code, check.text());
    server.sh("echo 1 > /opt/atlas/EnvID")?;
    server.shutdown(secs(120))
}
