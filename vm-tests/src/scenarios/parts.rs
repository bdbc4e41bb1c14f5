//! Do the parts do what the other scenarios take for granted? Without ATLAS.

use anyhow::{Result, ensure};
use atlas_image::ROOT_PASSWORD;

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

/// A Debian server without ATLAS boots, is healthy, lets root in on the console, and is switched off by the power button where its agent
/// does not answer; a unit that fails is noticed.
pub(crate) fn debian_boots_healthy(ctx: &Context) -> Result<()> {
    let image = atlas_image::plain_image(&atlas_image::Options::new(&|_| ())?)?;
    let mut server = ctx.debian("plain", &image, "")?.build();
    server.start()?;
    server.wait_booted(secs(180))?;
    server.assert_healthy()?;
    ensure!(server.sh("uname -r")? == image.kernel_release);
    server.log_in("root", ROOT_PASSWORD, secs(60))?;
    server.type_line("echo by $(whoami) on $(tty)")?;
    server.wait_console("^by root on /dev/ttyS0", secs(30))?;
    server.exec("systemd-run --unit=test-fails --property=Type=oneshot /bin/false", secs(30))?;
    let unhealthy = server.assert_healthy().err().map(|error| error.to_string()).unwrap_or_default();
    ensure!(unhealthy.contains("test-fails.service"), "a failed unit went unnoticed: {unhealthy:?}");
    // The agent goes without an answer, so that the power button must do.
    ensure!(server.exec("systemctl stop qemu-guest-agent", secs(10)).is_err());
    server.shutdown(secs(90))
}
