//! A server that wears another role's identity: PRI failed, its disks are PRI elsewhere, and the machine comes back with other disks.

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use super::bench::{install_probe, probe, workbench};
use super::cast::{Cast, LEFT, PRI_ADDRESS, RIGHT, SEC_ADDRESS};
use super::cycles::{assert_outcomes, cycle};
use super::failover::{move_set, take_out};
use crate::{Context, Server, secs};

/// Disks of SEC1 from before its first Snapshot, in the server whose own disk wears PRI's identity: refused, and nothing of it is lost.
pub(crate) fn foreign_identity(ctx: &Context) -> Result<()> {
    let commands = "start_set; cd /mnt/set/SID_DATA/SEC1
rm -r SnapshotEnvVersion Env1/Manifest Env1/IdentFiles Env1/SyncFiles Env1/SyncFilePaths; ls Env1; cd /; stop_set";
    let cast = Cast::get()?;
    let (disks, _) = workbench(ctx, "bench", cast.members(ctx, RIGHT)?, commands)?;
    let mut builder = cast.bare(ctx, LEFT, "init=/probe atlas.wait=1")?;
    for disk in disks {
        builder = builder.disk(disk);
    }
    let mut server = builder.build();
    install_probe(&mut server)?;
    let seen = probe(&mut server)?;
    ensure!(seen.outcome() == "foreign-identity" && !seen.network_allowed, "{:#}", seen.report);
    ensure!(seen.unbound_mount.is_empty() && seen.mdstat.lines().all(|line| !line.contains("active")), "{seen:?}");
    let found = seen.report["refusal"]["found"].to_string();
    ensure!(found.contains("PRI of cluster bakery"), "{:#}", seen.report);
    let own = cast.identity(LEFT)?;
    ensure!(seen.identity == own, "the identity changed:\n{}\n{own}", seen.identity);
    Ok(())
}

fn up(server: &mut Server) -> Result<Value> {
    server.start()?;
    server.wait_booted(secs(180))?;
    Ok(serde_json::from_slice(&server.read_file("/run/atlas/boot.json")?)?)
}

/// PRI's server fails, the other one is PRI with its disks. Repaired, with two new disks, it is to be SEC1: it is neither that nor PRI until it has
/// a name, addresses and host keys of its own, and then it joins the cycle. Not once does it claim PRI's address.
pub(crate) fn repaired_server_gets_its_own(ctx: &Context) -> Result<()> {
    let cast = Cast::get()?;
    let lan = ctx.lan("office")?;
    let mut left = cast.bare(ctx, LEFT, "atlas.wait=1")?.nic(&lan)?.build();
    for member in cast.members(ctx, LEFT)? {
        left.insert(member)?;
    }
    let mut right = cast.server(ctx, RIGHT, &lan)?;
    ensure!(up(&mut left)?["role"] == "PRI");
    let key_of_pri = left.sh("cat /etc/ssh/ssh_host_ed25519_key.pub")?;
    left.power_cut()?;
    take_out(&mut right, RIGHT)?;
    move_set(&mut left, LEFT, &mut right)?;
    ensure!(up(&mut right)?["role"] == "PRI");

    lan.forget("left")?;
    for serial in ["NEW-0", "NEW-1"] {
        left.insert(ctx.blank_disk(serial, super::cast::MEMBER_MIB)?)?;
    }
    ensure!(up(&mut left)?["refusal"]["code"] == "no-unbound-set");
    // Its network file still says so.
    let kept = format!("{LEFT_AS_SEC1} --hostname sec1 --addresses-are-own");
    let partner = format!("{LEFT_AS_SEC1} --hostname sec1 --address {PRI_ADDRESS}/24");
    let name = format!("{LEFT_AS_SEC1} --hostname pri --address {SEC_ADDRESS}/24");
    for (command, code, why) in [
        (LEFT_AS_SEC1, 1, "this server wears the identity of PRI of cluster bakery"),
        (&kept, 1, PRI_ADDRESS),
        (&partner, 2, "that is what this server itself is to have"),
        (&name, 1, "the name pri is that of the identity in place"),
    ] {
        let refused = left.exec(command, secs(240))?;
        let said = refused.error_text();
        ensure!(refused.code == code && said.contains(why), "{command}: {} {said}", refused.code);
    }
    let own = format!("{LEFT_AS_SEC1} --hostname sec1 --address {SEC_ADDRESS}/24");
    let said = left.exec(&own, secs(240))?;
    ensure!(said.code == 0, "{} {}", said.text(), said.error_text());
    left.shutdown(secs(120))?;
    let report = up(&mut left)?;
    ensure!(report["outcome"] == "from-scratch" && report["role"] == "SEC1", "{report:#}");
    joins_the_cycle(&left, &right, &key_of_pri)?;
    let sent = lan.sent("left")?;
    ensure!(!sent.arp_claims.contains(&PRI_ADDRESS.parse()?), "it used PRI's address: {sent:?}");
    ensure!(sent.arp_claims.contains(&SEC_ADDRESS.parse()?), "its own address is not to be seen: {sent:?}");
    left.shutdown(secs(120))?;
    let report = up(&mut left)?;
    ensure!(report["outcome"] == "identity-installed" && report["role"] == "SEC1", "{report:#}");
    ensure!(!lan.sent("left")?.arp_claims.contains(&PRI_ADDRESS.parse()?), "it used PRI's address");
    left.power_cut()?;
    right.power_cut()
}

const LEFT_AS_SEC1: &str = "atlas init --role SEC1 --cluster bakery --env-version 1 --partner PRI=192.168.77.1 \
                            --disks /dev/vdb,/dev/vdc";

/// The new SEC1 has a name, an address and a host key of its own, and PRI brings it up to date.
fn joins_the_cycle(sec: &Server, pri: &Server, key_of_pri: &str) -> Result<()> {
    ensure!(sec.sh("hostname")? == "sec1");
    let addresses = sec.sh("ip -4 -o address show dev eth0")?;
    ensure!(addresses.contains(&format!(" {SEC_ADDRESS}/24")) && !addresses.contains(PRI_ADDRESS), "{addresses}");
    ensure!(sec.sh("cat /etc/ssh/ssh_host_ed25519_key.pub")? != key_of_pri, "it kept PRI's host key");
    sec.sh("ssSync create")?;
    let [of_pri, of_sec] = [pri.sh("ssSync keys")?, sec.sh("ssSync keys")?];
    pri.sh(&format!("ssSync trust SEC1 '{}'", of_sec.trim())).context("PRI learns the new SEC1's keys")?;
    sec.sh(&format!("ssSync trust PRI '{}'", of_pri.trim())).context("the new SEC1 learns PRI's keys")?;
    assert_outcomes(&cycle(pri)?, &[("SEC1", "synced")])
}
