//! Disks that are not what they seem, as the real programs make them.

use std::process::Command;

use anyhow::{Context as _, Result, ensure};

use super::bench::{Seen, install_probe, probe, workbench};
use super::cast::{Cast, LEFT, RIGHT};
use super::mirror::data_area;
use crate::{Context, Disk};

/// A disk that does not appear within this time, in seconds, is not there.
const ARGUMENTS: &str = "init=/probe atlas.wait=1";

/// Boots the right server with the disks, and asserts that none of them was written to, where it has to be so.
fn boot(disks: Vec<Disk>, ctx: &Context, is_refused: bool) -> Result<(Seen, Vec<Disk>)> {
    let before = disks.iter().map(Disk::sha256).collect::<Result<Vec<_>>>()?;
    let serials: Vec<String> = disks.iter().map(|disk| disk.serial().to_owned()).collect();
    let mut builder = Cast::get()?.bare(ctx, RIGHT, ARGUMENTS)?;
    for disk in disks {
        builder = builder.disk(disk);
    }
    let mut server = builder.build();
    install_probe(&mut server)?;
    let seen = probe(&mut server)?;
    let disks = serials.iter().map(|serial| server.remove(serial)).collect::<Result<Vec<_>>>()?;
    // The next server of this scenario gets a root disk of its own, in the same place.
    let root = server.remove(&format!("{}-root", RIGHT.place))?.path().to_owned();
    std::fs::remove_file(root)?;
    if is_refused {
        ensure!(!seen.network_allowed && seen.unbound_mount.is_empty(), "{:#}", seen.report);
        ensure!(disks.iter().map(Disk::sha256).collect::<Result<Vec<_>>>()? == before, "a disk was written to");
    }
    Ok((seen, disks))
}

fn assert_refused(seen: &Seen, code: &str, phrases: &[&str]) -> Result<()> {
    ensure!(seen.outcome() == code, "not {code}: {:#}", seen.report);
    let said = seen.report["refusal"].to_string();
    for phrase in phrases {
        ensure!(said.contains(phrase), "{phrase:?} is not said: {:#}", seen.report);
    }
    Ok(())
}

/// Mirrors of which a half looks like a whole disk: format 0.90, and 1.0 in a dock that hides the end of the disk. They have no record, as those of
/// before there were any.
pub(crate) fn halves_that_hide_it(ctx: &Context) -> Result<()> {
    let blanks = ["OLD-0", "OLD-1", "END-0", "END-1"].map(|serial| ctx.blank_disk(serial, 96));
    let disks = Cast::get()?.members(ctx, LEFT)?.into_iter().map(Ok).chain(blanks).collect::<Result<Vec<_>>>()?;
    let commands = "members='/dev/vdb /dev/vdc'; start_set
make() {
    mdadm --create /dev/md8 --run --level=1 --raid-devices=2 --metadata=$1 --assume-clean $2 $3
    udevadm settle; mkfs.ext4 -q -L ATLAS-UNBOUND /dev/md8; mkdir -p /mnt/new; mount -t ext4 /dev/md8 /mnt/new
    cp -a /mnt/set/. /mnt/new/; rm /mnt/new/SID_DATA/Set; umount /mnt/new; mdadm --wait-clean /dev/md8 || true; mdadm --stop /dev/md8
    mdadm --examine $2 | grep -E 'Version|Raid Level'
}
make 0.90 /dev/vdd /dev/vde
make 1.0 /dev/vdf /dev/vdg
stop_set";
    let (mut disks, said) = workbench(ctx, "bench", disks, commands)?;
    ensure!(
        said.contains("Version : 0.90.00") && said.contains("Version : 1.0"),
        "not the mirrors that were meant: {said}"
    );
    let ends = disks.split_off(4);
    let mut old = disks.split_off(2);
    let half = old.split_off(1);
    let (seen, half) = boot(half, ctx, true)?;
    assert_refused(&seen, "lost-mirror", &["serial OLD-1", "format 0.90", "--update=metadata"])?;
    let (seen, both) = boot(old.into_iter().chain(half).collect(), ctx, true)?;
    assert_refused(&seen, "lost-mirror", &["serial OLD-0", "serial OLD-1"])?;
    // What the screen says to do is enough.
    let convert = "mdadm --assemble --update=metadata /dev/md8 /dev/vdb /dev/vdc; mdadm --stop /dev/md8";
    let (both, _) = workbench(ctx, "bench-0", both, convert)?;
    let (seen, _) = boot(both, ctx, false)?;
    ensure!(seen.outcome() == "identity-installed" && seen.report["set"]["degraded"] == false, "{:#}", seen.report);

    let mut end = ends.into_iter().next().context("the workbench lost a disk")?;
    // The superblock lies 8 KiB before the end.
    end.cut_off(end.size_bytes()? - (16 << 10))?;
    let (seen, _) = boot(vec![end], ctx, true)?;
    assert_refused(&seen, "lost-mirror", &["serial END-0", "bytes before its disk", "dmesg | grep -i hpa"])
}

/// The real beginning of a LUKS container where the file system of both members should be.
pub(crate) fn luks_in_the_set(ctx: &Context) -> Result<()> {
    let mut members = Cast::get()?.members(ctx, LEFT)?;
    let container = ctx.scratch().join("container");
    std::fs::File::create(&container)?.set_len(20 << 20)?;
    let key = ctx.scratch().join("key");
    std::fs::write(&key, "secret")?;
    let arguments = ["-q", "--pbkdf", "pbkdf2", "--pbkdf-force-iterations", "1000", "--key-file"];
    let made = Command::new("/sbin/cryptsetup").args(arguments).arg(&key).arg("luksFormat").arg(&container).output()?;
    ensure!(made.status.success(), "cryptsetup: {}", String::from_utf8_lossy(&made.stderr));
    let header: Vec<u8> = std::fs::read(&container)?.into_iter().take(1 << 20).collect();
    ensure!(header.starts_with(b"LUKS"), "no LUKS container");
    for member in &mut members {
        let (offset, _) = data_area(member)?;
        member.write_at(offset, &header)?;
    }
    let (seen, _) = boot(members, ctx, true)?;
    assert_refused(
        &seen,
        "unsupported-set",
        &["LUKS", "serial PRI-0", "serial PRI-1", "an ext4 file system directly on it"],
    )
}

/// The healthy member is used, and a stick with the label of a set and no data is left as it is.
pub(crate) fn write_protected_member_and_a_stick(ctx: &Context) -> Result<()> {
    let mut disks = Cast::get()?.members(ctx, LEFT)?;
    let stick = ctx.blank_disk("STICK", 64)?;
    let made = Command::new("/sbin/mke2fs")
        .args(["-q", "-F", "-t", "ext4", "-L", "ATLAS-UNBOUND"])
        .arg(stick.path())
        .output()?;
    ensure!(made.status.success(), "mke2fs: {}", String::from_utf8_lossy(&made.stderr));
    let stick_before = stick.sha256()?;
    disks[1].write_protect();
    disks.push(stick);
    let (seen, disks) = boot(disks, ctx, false)?;
    ensure!(seen.outcome() == "identity-installed" && seen.text("/role") == "PRI", "{:#}", seen.report);
    ensure!(seen.unbound_mount.contains(" rw"), "{}", seen.unbound_mount);
    let set = &seen.report["set"];
    ensure!(set["members"] == serde_json::json!(["/dev/vdb"]) && set["degraded"] == true, "{set:#}");
    let warnings = seen.report["warnings"].to_string();
    ensure!(warnings.contains("PRI-1") && warnings.contains("write-protected"), "{warnings}");
    ensure!(disks[2].sha256()? == stick_before, "the stick was written to");
    Ok(())
}
