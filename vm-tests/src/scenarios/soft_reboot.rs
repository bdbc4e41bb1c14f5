//! User space begins anew on the same kernel (`systemctl soft-reboot`, Debian 13): there is no initramfs in between, and /run is as it was,
//! with the sign that the gate is open.

use anyhow::{Context as _, Result, ensure};
use atlas_image::{Options, Release, place_files};
use serde_json::Value;

use super::cast::{LEFT, MEMBER_MIB, Part};
use crate::{Boot, Context, Server, secs};

const PART: Part = Part { release: Release::Trixie, ..LEFT };

/// Begins user space anew for the `number`th time, and waits until it is up.
fn soft_reboot(server: &Server, number: u32) -> Result<()> {
    // The agent is gone before it can answer.
    server.exec("systemctl soft-reboot", secs(5)).ok();
    let mut said = String::new();
    let done = || -> Result<Option<()>> {
        let count = server.exec("systemctl show --property=SoftRebootsCount --value", secs(10));
        said = count.map_or_else(|error| format!("{error:#}"), |count| count.text());
        Ok((said.trim() == number.to_string()).then_some(()))
    };
    secs(240).poll("user space to begin anew", done).with_context(|| format!("the server said last: {said}"))?;
    server.wait_booted(secs(240))
}

fn json(server: &Server, file: &str) -> Result<Value> {
    serde_json::from_slice(&server.read_file(file)?).with_context(|| format!("reading {file}"))
}

/// With the same set, the server is what it was, its file system mounted again; without, the gate closes, and not one frame is sent.
pub(crate) fn soft_reboot_is_decided_like_a_boot(ctx: &Context) -> Result<()> {
    let image = atlas_image::server_image(&Options::new(&|_| ())?.on(PART.release))?;
    let lan = ctx.lan("office")?;
    let mut builder = ctx.debian(PART.place, &image, "")?.nic(&lan)?;
    for serial in PART.members() {
        builder = builder.disk(ctx.blank_disk(&serial, MEMBER_MIB)?);
    }
    let mut server = builder.build();
    place_files(server.disk(&PART.root_serial())?.path(), &PART.own_files())?;
    server.start()?;
    server.wait_booted(secs(240))?;
    let said = server.exec(&PART.set_up(), secs(600))?;
    ensure!(said.code == 0, "`{}` fails: {}\n{}", PART.set_up(), said.text(), said.error_text());
    // Its device wants it, and does not appear a second time.
    server.sh("systemctl add-wants multi-user.target qemu-guest-agent.service")?;
    server.shutdown(secs(120))?;
    let made = format!("/boot/initrd.img-{}", image.kernel_release);
    let taken = server.disk(&PART.root_serial())?.take_file(&made, &ctx.scratch().join("initrd"))?;
    let Boot::Kernel { initrd, .. } = &mut server.boot else { anyhow::bail!("it boots from its first disk") };
    *initrd = taken;

    server.start()?;
    server.wait_booted(secs(240))?;
    ensure!(json(&server, "/run/atlas/gate.json")?["open"] == true);
    server.sh("touch /unbound/before")?;
    soft_reboot(&server, 1)?;
    let gate = json(&server, "/run/atlas/gate.json")?;
    ensure!(gate["open"] == true && gate["warnings"].to_string().contains("begun anew"), "{gate:#}");
    server.sh("test -e /unbound/before && test -e /run/atlas/network-allowed && ip -4 -o address show dev eth0 | grep -q 192.168.77")?;

    // Both disks are taken out, as far as the kernel is concerned, while nobody watches.
    server.sh("systemctl stop atlas-gate VerifierControl; sync
               for disk in vdb vdc; do echo 1 > $(realpath /sys/block/$disk/device/..)/remove; done
               [ ! -e /dev/vdb ] && [ ! -e /dev/vdc ]")?;
    server.expect_console("Failed to mount unbound.mount|Dependency failed for (VerifierCont|systemd-netw)")?;
    soft_reboot(&server, 2)?;
    let gate = json(&server, "/run/atlas/gate.json")?;
    ensure!(gate["open"] == false && gate["refusal"]["code"] == "no-unbound-set", "{gate:#}");
    server.sh("test ! -e /run/atlas/network-allowed")?;
    lan.forget(server.name())?;
    server.sh("ip link set eth0 up; ping -c 2 -W 1 192.168.77.99 || true; tc qdisc show dev eth0 | grep -q 'blackhole a71a: root'")?;
    let sent = lan.sent(server.name())?;
    ensure!(sent.frames == 0, "a server without its set sent {sent:?}");
    server.power_cut()
}
