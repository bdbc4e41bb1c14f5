//! Does a move of disks do what the rest takes for granted? Without ATLAS, on tiny guests.

use anyhow::{Result, ensure};

use crate::{Context, secs};

/// A web page written on one server's disk is served from it by the other, at the same address, after a power cut and a move.
pub(crate) fn content_moves_with_the_disk(ctx: &Context) -> Result<()> {
    let lan = ctx.lan("office")?;
    let mut left = ctx.tiny("left")?.nic(&lan)?.disk(ctx.blank_disk("UNBOUND", 16)?).build();
    let mut right = ctx.tiny("right")?.nic(&lan)?.build();
    let client = ctx.client("client", &lan, "10.0.0.9/24")?;
    let serve = "mkdir -p /srv && mount -t ext2 /dev/vda /srv && ip link set eth0 up && ip address add 10.0.0.1/24 dev eth0 \
                 && httpd -h /srv";

    left.start()?;
    left.wait_agent(secs(30))?;
    left.sh("mke2fs /dev/vda")?;
    left.sh(serve)?;
    left.sh("echo written on the left > /srv/index.html && sync")?;
    ensure!(client.sh("timeout 10 wget -qO- http://10.0.0.1/")? == "written on the left");
    ensure!(left.remove("UNBOUND").is_err(), "a disk came out of a running server");
    left.power_cut()?;

    right.insert(left.remove("UNBOUND")?)?;
    right.start()?;
    right.wait_agent(secs(30))?;
    ensure!(right.sh("cat /sys/block/vda/serial")? == "UNBOUND");
    right.sh(serve)?;
    client.sh("ip neigh flush dev eth0")?;
    ensure!(client.sh("timeout 10 wget -qO- http://10.0.0.1/")? == "written on the left");
    ensure!(lan.sent("right")?.arp_claims.contains(&[10, 0, 0, 1].into()));
    right.shutdown(secs(30))
}
