//! What ATLAS is for: PRI's disks move, and the other server is PRI.

use anyhow::{Result, ensure};

use super::cast::{Cast, LEFT, PAGE, PRI_ADDRESS, Part, RIGHT, SEC_ADDRESS};
use super::refused::{Root, assert_refuses, stranger};
use crate::{Context, Disk, Lan, Server, secs};

/// Asserts inside the guest, and from another machine on the LAN, that `server` is the one that `part` describes.
fn assert_is(server: &Server, part: Part, client: &Server) -> Result<()> {
    let report: serde_json::Value = serde_json::from_slice(&server.read_file("/run/atlas/boot.json")?)?;
    ensure!(report["outcome"] == "identity-installed" && report["role"] == part.role, "boot.json: {report:#}");
    ensure!(server.sh("hostname")? == part.hostname);
    ensure!(server.sh("ip -4 -o address show dev eth0")?.contains(&format!("{}/24", part.address)));
    client.sh("ip neigh flush dev eth0")?;
    let key = server.sh("cut -d' ' -f2 /etc/ssh/ssh_host_ed25519_key.pub")?;
    let snapshot = format!("/unbound/SID_DATA/{}/Env1/IdentFiles/etc/ssh/ssh_host_ed25519_key.pub", part.role);
    ensure!(server.sh(&format!("cut -d' ' -f2 {snapshot}"))? == key, "the ssh host key is not the role's");
    let banner = client.sh(&format!("nc -w 10 {} 22 < /dev/null | head -n 1", part.address))?;
    ensure!(banner.starts_with("SSH-2.0"), "sshd does not answer: {banner:?}");
    server.assert_healthy()
}

/// Starts a server and waits until it is up.
fn up(server: &mut Server) -> Result<()> {
    server.start()?;
    server.wait_booted(secs(180))
}

fn page(client: &Server) -> Result<String> {
    client.sh(&format!("timeout 20 wget -qO- http://{PRI_ADDRESS}/"))
}

pub(super) fn move_set(from: &mut Server, part: Part, to: &mut Server) -> Result<()> {
    for serial in part.members() {
        to.insert(from.remove(&serial)?)?;
    }
    Ok(())
}

/// Takes the members of a set out; they lie on the table.
pub(super) fn take_out(server: &mut Server, part: Part) -> Result<Vec<Disk>> {
    part.members().iter().map(|serial| server.remove(serial)).collect()
}

/// The servers and a client, all off but the client.
fn stage(ctx: &Context) -> Result<(Lan, Server, Server, Server)> {
    let cast = Cast::get()?;
    let lan = ctx.lan("office")?;
    let left = cast.server(ctx, LEFT, &lan)?;
    let right = cast.server(ctx, RIGHT, &lan)?;
    let client = ctx.client("client", &lan, "192.168.77.9/24")?;
    Ok((lan, left, right, client))
}

/// Both boot in their roles; PRI's disks move to the right and SEC1's to the left, and then back: at every turn each server is
/// who its disks say, with what was written just before.
pub(crate) fn swap_and_back(ctx: &Context) -> Result<()> {
    let (lan, mut left, mut right, client) = stage(ctx)?;
    up(&mut left)?;
    up(&mut right)?;
    assert_is(&left, LEFT, &client)?;
    assert_is(&right, RIGHT, &client)?;
    ensure!(page(&client)? == PAGE);
    left.sh("echo written just before the failover > /unbound/www/index.html")?;
    left.shutdown(secs(120))?;
    right.shutdown(secs(120))?;

    let sec = take_out(&mut right, RIGHT)?;
    move_set(&mut left, LEFT, &mut right)?;
    for member in sec {
        left.insert(member)?;
    }
    lan.forget("left")?;
    lan.forget("right")?;
    up(&mut right)?;
    up(&mut left)?;
    assert_is(&right, LEFT, &client)?;
    assert_is(&left, RIGHT, &client)?;
    ensure!(page(&client)? == "written just before the failover");
    ensure!(!lan.sent("right")?.arp_claims.contains(&SEC_ADDRESS.parse()?), "the right server used its old address");
    ensure!(!lan.sent("left")?.arp_claims.contains(&PRI_ADDRESS.parse()?), "the left server used its old address");
    right.sh("echo and just before the way back > /unbound/www/index.html")?;
    right.shutdown(secs(120))?;
    left.power_cut()?;

    take_out(&mut left, RIGHT)?;
    move_set(&mut right, LEFT, &mut left)?;
    up(&mut left)?;
    assert_is(&left, LEFT, &client)?;
    ensure!(page(&client)? == "and just before the way back");
    left.power_cut()
}

/// Whether the journal of the file system on a member has to be replayed: PRI lost its power in the middle of work.
fn needs_recovery(member: &Disk) -> Result<bool> {
    let sectors = member.read_at(4096 + 128, 8)?;
    let data: [u8; 8] = sectors.try_into().map_err(|_| anyhow::anyhow!("eight bytes are not eight"))?;
    let incompatible = member.read_at(u64::from_le_bytes(data) * 512 + 1024 + 0x60, 4)?;
    Ok(incompatible[0] & 4 != 0)
}

/// PRI loses its power while it writes; what it had flushed is there on the other server, the journal replayed.
pub(crate) fn swap_after_power_cut(ctx: &Context) -> Result<()> {
    let (_lan, mut left, mut right, client) = stage(ctx)?;
    up(&mut left)?;
    left.sh("echo flushed before the power went > /unbound/www/index.html && sync -f /unbound/www/index.html")?;
    left.sh("(while :; do date > /unbound/busy.$$; mv /unbound/busy.$$ /unbound/busy; done) >/dev/null 2>&1 &")?;
    left.sh("until [ -e /unbound/busy ]; do sleep 0.1; done")?;
    left.power_cut()?;
    ensure!(needs_recovery(left.disk("PRI-0")?)?, "the file system was at rest: the fault was not there");
    take_out(&mut right, RIGHT)?;
    move_set(&mut left, LEFT, &mut right)?;
    up(&mut right)?;
    assert_is(&right, LEFT, &client)?;
    ensure!(page(&client)? == "flushed before the power went");
    let report: serde_json::Value = serde_json::from_slice(&right.read_file("/run/atlas/boot.json")?)?;
    ensure!(report["set"]["file_system"] == "journal replayed", "{report:#}");
    ensure!(report["set"]["degraded"] == false, "{report:#}");
    right.power_cut()
}

/// PRI loses a member while it works, runs on with the other, and is swapped like that: the other server is PRI with what was written
/// last, although the member that was lost is there again with what it had, and whoever logs in is told.
pub(crate) fn swap_of_a_degraded_set(ctx: &Context) -> Result<()> {
    let (_lan, mut left, mut right, client) = stage(ctx)?;
    up(&mut left)?;
    let array = left.sh("findmnt --noheadings --output SOURCE /unbound")?;
    left.sh(&format!("mdadm {array} --fail /dev/vdc --remove /dev/vdc"))?;
    left.sh("echo written while degraded > /unbound/www/index.html")?;
    ensure!(left.sh("cat /proc/mdstat")?.contains("[2/1] [U_]"), "the set is not degraded: the fault was not there");
    ensure!(page(&client)? == "written while degraded");
    left.shutdown(secs(120))?;

    take_out(&mut right, RIGHT)?;
    move_set(&mut left, LEFT, &mut right)?;
    up(&mut right)?;
    assert_is(&right, LEFT, &client)?;
    ensure!(page(&client)? == "written while degraded");
    let report: serde_json::Value = serde_json::from_slice(&right.read_file("/run/atlas/boot.json")?)?;
    let left_out = report["set"]["left_out"].as_array().map(Vec::as_slice).unwrap_or_default();
    ensure!(report["set"]["degraded"] == true && left_out.len() == 1, "{report:#}");
    ensure!(left_out[0].to_string().contains("PRI-1"), "{report:#}");
    ensure!(right.sh("cat /proc/mdstat")?.contains("[2/1]"), "the stale member is in the set again");
    let warning = "warning: the Unbound set runs on 1 of 2 disks";
    ensure!(right.sh("journalctl --dmesg --output=cat")?.contains(warning), "the kernel log does not say it");
    ensure!(right.console().text().contains(warning), "it does not stand above the login");
    right.power_cut()
}

/// Half of PRI's pair alone: refused. The operator accepts on that console; after a reboot the server is PRI, degraded, and the acceptance is on record.
pub(crate) fn refused_until_accepted(ctx: &Context) -> Result<()> {
    let (lan, mut right) = stranger(ctx, vec![Cast::get()?.disk(ctx, "PRI-1")?])?;
    let client = ctx.client("client", &lan, "192.168.77.9/24")?;
    let phrases = ["nothing fills slot 0", "may be booting in another server", "atlas-boot accept missing-member"];
    assert_refuses(ctx, &lan, &mut right, Root::Sound, "missing-member", &phrases)?;
    let check = right.exec("atlas-boot check", secs(60))?;
    ensure!(check.code == 3 && check.text().contains("missing-member"), "check says {:?}", check.text());

    right.type_line("atlas-boot accept missing-member")?;
    right.wait_console("Type 'missing-member' to accept it", secs(60))?;
    right.type_line("no")?;
    right.wait_console("not accepted; nothing was recorded", secs(60))?;
    right.type_line("atlas-boot accept missing-member")?;
    right.wait_console("Type 'missing-member' to accept it", secs(60))?;
    right.type_line("missing-member")?;
    right.wait_console("Why do you know better", secs(60))?;
    right.type_line("the other disk burned")?;
    right.wait_console("holds for the next boot", secs(60))?;
    let check = right.exec("atlas-boot check", secs(120))?;
    ensure!(check.code == 0 && check.text().contains("PRI"), "check says {:?}", check.text());
    right.shutdown(secs(120))?;

    up(&mut right)?;
    assert_is(&right, LEFT, &client)?;
    ensure!(page(&client)? == PAGE);
    let report: serde_json::Value = serde_json::from_slice(&right.read_file("/run/atlas/boot.json")?)?;
    ensure!(
        report["set"]["degraded"] == true && report["accepted"][0]["reason"] == "the other disk burned",
        "{report:#}"
    );
    ensure!(right.sh("cat /opt/atlas/accepted.d/*.json")?.contains("the other disk burned"), "no record is kept");
    right.sh("test ! -e /opt/atlas/accepted.json")?;
    right.power_cut()
}
