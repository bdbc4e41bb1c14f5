//! A server that hibernated keeps its disks mounted in an image on swap. Its set goes to the other server meanwhile, and another comes in its
//! place; what wakes would write to that as if it were its own.
//!
//! ```text
//! left, PRI ─ hibernates ─┬─ PRI's set out, SEC1's set in ─ hold taken out of the initramfs ─ wakes, writes to SEC1's disks
//!                         └─ PRI's set out, SEC1's set in ─ the initramfs as it is ────────── cold boot: SEC1, nothing woken
//! ```

use anyhow::{Result, ensure};
use serde_json::Value;

use super::bench::workbench;
use super::cast::{Cast, LEFT, RIGHT};
use super::failover::take_out;
use super::others_hands::overlay;
use crate::{Context, Disk, Server, secs};

/// The serial number of the swap disk, which stays in its server.
const SWAP: &str = "left-swap";
/// Enough for all that this server has in memory.
const SWAP_MIB: u64 = 640;
/// Where the first page of a swap area says what it holds.
const SIGNATURE_AT: u64 = 4096 - 10;
const ASLEEP: &[u8] = b"S1SUSPEND";

/// What a person types who does not take no for an answer. Whoever wakes writes to the file system that was mounted, and says so.
const HIBERNATE: &str = "cat > /run/hibernate <<'END'
echo shutdown > /sys/power/disk
echo disk > /sys/power/state || { echo 'HIBERNATION FAILED' > /dev/console; exit 1; }
dd if=/dev/urandom of=/unbound/written-in-sleep bs=64k count=16
sync
echo 'WOKEN: it goes on as if nothing had happened' > /dev/console
END
setsid sh /run/hibernate >/dev/null 2>&1 &";

fn boot_report(server: &Server) -> Result<Value> {
    Ok(serde_json::from_slice(&server.read_file("/run/atlas/boot.json")?)?)
}

fn signature(server: &mut Server) -> Result<Vec<u8>> {
    server.disk(SWAP)?.read_at(SIGNATURE_AT, ASLEEP.len())
}

/// A second disk that is as this one is now, serial number included.
fn spare(ctx: &Context, disk: &Disk) -> Result<Disk> {
    disk.copy(&ctx.scratch().join(format!("{}-spare.img", disk.serial())), disk.serial())
}

/// PRI in the left chassis, with swap in use and named on the kernel's command line as the place to wake from.
fn sleeper(ctx: &Context, cast: &Cast) -> Result<Server> {
    let (swap, _) = workbench(ctx, "bench", vec![ctx.blank_disk(SWAP, SWAP_MIB)?], "mkswap -q -L SWAP /dev/vdb")?;
    let mut builder = cast.bare(ctx, LEFT, "resume=LABEL=SWAP")?;
    for disk in swap.into_iter().chain(cast.members(ctx, LEFT)?) {
        builder = builder.disk(disk);
    }
    Ok(builder.build())
}

/// Puts it to sleep, past what forbids that; it is off afterwards, and would wake.
fn put_to_sleep(server: &mut Server) -> Result<()> {
    server.start()?;
    server.wait_booted(secs(240))?;
    ensure!(boot_report(server)?["role"] == "PRI");
    server.sh("echo 'LABEL=SWAP none swap sw 0 0' >> /etc/fstab; swapon -a; sync")?;
    let said = server.exec("systemctl hibernate", secs(60))?;
    ensure!(said.code != 0, "systemd hibernates a server of ATLAS: {}{}", said.text(), said.error_text());
    server.sh(HIBERNATE)?;
    server.wait_off(secs(240))?;
    ensure!(signature(server)? == ASLEEP, "there is no image on swap, so nothing could wake");
    Ok(())
}

/// The fault, to see that it is there: without ATLAS' hold, what slept wakes and writes to disks that it has never seen.
fn assert_would_wake(ctx: &Context, server: &mut Server) -> Result<()> {
    let (with_hold, one) = (server.boot.clone(), &RIGHT.members()[0]);
    overlay(ctx, server, "scripts/init-top/atlas", 0o755, "#!/bin/sh\nexit 0\n")?;
    let before = server.disk(one)?.sha256()?;
    server.start()?;
    server.wait_console("WOKEN", secs(240))?;
    server.power_cut()?;
    ensure!(server.disk(one)?.sha256()? != before, "it woke, and wrote nothing: no harm to keep off");
    server.boot = with_hold;
    Ok(())
}

pub(crate) fn hibernated_and_swapped(ctx: &Context) -> Result<()> {
    let cast = Cast::get()?;
    let mut left = sleeper(ctx, &cast)?;
    put_to_sleep(&mut left)?;
    take_out(&mut left, LEFT)?;
    cast.members(ctx, RIGHT)?.into_iter().try_for_each(|member| left.insert(member))?;
    let all = [vec!["left-root".to_owned(), SWAP.to_owned()], RIGHT.members().to_vec()].concat();
    let spares = all.iter().map(|serial| spare(ctx, left.disk(serial)?)).collect::<Result<Vec<_>>>()?;
    assert_would_wake(ctx, &mut left)?;

    // The same morning once more, with ATLAS.
    all.iter().try_for_each(|serial| left.remove(serial).map(drop))?;
    spares.into_iter().try_for_each(|disk| left.insert(disk))?;
    left.start()?;
    left.wait_booted(secs(240))?;
    let report = boot_report(&left)?;
    ensure!(report["outcome"] == "identity-installed" && report["role"] == "SEC1", "{report:#}");
    ensure!(left.sh("hostname")? == RIGHT.hostname && left.exec("test -e /run/hibernate", secs(60))?.code != 0);
    left.sh("test -e /run/atlas/network-allowed")?;
    ensure!(!left.console().text().contains("WOKEN"), "what slept woke");
    left.assert_healthy()?;
    left.shutdown(secs(120))?;
    ensure!(signature(&mut left)? != ASLEEP, "the image is still there, for another morning");

    let set = RIGHT.members().iter().map(|serial| left.remove(serial)).collect::<Result<_>>()?;
    let look = "start_set; test ! -e /mnt/set/written-in-sleep; grep -q SEC1 /mnt/set/SID_DATA/MasterConfig; stop_set
mdadm --assemble --readonly /dev/md9 --run $members; e2fsck -fn /dev/md9; mdadm --stop /dev/md9";
    workbench(ctx, "bench-after", set, look).map(drop)
}
