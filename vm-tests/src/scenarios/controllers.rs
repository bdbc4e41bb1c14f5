//! Disks of a set on another kind of controller than those that the initramfs was made for, as after a move of the root disk, or of the
//! cables: the driver is missing where the boot looks for the set, and there when the system runs.
//!
//! ```text
//! initramfs without virtio_scsi ─ refused, names the driver ─ atlas init --check names it, too ─ update-initramfs -u ─ PRI
//! ```

use anyhow::{Result, ensure};
use serde_json::Value;

use super::cast::{Cast, LEFT, PAGE, PRI_ADDRESS};
use crate::{Boot, Context, secs};

/// PRI with its set on SCSI, and an initramfs that was made where the set was on virtio-blk.
pub(crate) fn disks_on_another_controller(ctx: &Context) -> Result<()> {
    let (cast, lan) = (Cast::get()?, ctx.lan("office")?);
    let mut builder = cast.bare(ctx, LEFT, "atlas.wait=1")?.nic(&lan)?.scsi();
    for member in cast.members(ctx, LEFT)? {
        builder = builder.disk(member);
    }
    let mut server = builder.build();
    server.start()?;
    server.wait_console("ATLAS REFUSED TO TAKE A ROLE: no-unbound-set", secs(120))?;
    server.wait_console("has no driver here; disks behind it are not seen", secs(10))?;
    server.wait_console("write virtio_scsi to /etc/initramfs-tools/modules", secs(10))?;
    server.wait_booted(secs(240))?;
    // The running system has the driver: the set is there, and only the initramfs stands in the way.
    secs(60).poll("the disks in the system that runs", || {
        let there = server.exec("test -e /sys/module/virtio_scsi && lsblk -n -o NAME,SERIAL | grep PRI-0", secs(30))?;
        Ok((there.code == 0).then_some(()))
    })?;
    let verdict = check(&server)?;
    ensure!(
        verdict.contains("lacks drivers") && verdict.contains("virtio_scsi") && verdict.contains("sd_mod"),
        "{verdict}"
    );
    let made = server.exec("update-initramfs -u && sync", secs(600))?;
    ensure!(made.code == 0, "update-initramfs fails: {}{}", made.text(), made.error_text());
    let verdict = check(&server)?;
    ensure!(!verdict.contains("lacks drivers"), "made anew, and still: {verdict}");
    server.shutdown(secs(120))?;

    let file = format!("/boot/initrd.img-{}", cast.image.kernel_release);
    let made = server.disk(&LEFT.root_serial())?.take_file(&file, &ctx.scratch().join("made-anew"))?;
    if let Boot::Kernel { initrd, .. } = &mut server.boot {
        *initrd = made;
    }
    let client = ctx.client("client", &lan, "192.168.77.9/24")?;
    server.start()?;
    server.wait_booted(secs(240))?;
    let boot: Value = serde_json::from_slice(&server.read_file("/run/atlas/boot.json")?)?;
    ensure!(boot["role"] == "PRI" && boot["set"]["members"].to_string().contains("/dev/sd"), "{boot:#}");
    ensure!(client.sh(&format!("timeout 20 wget -qO- http://{PRI_ADDRESS}/"))? == PAGE, "it does not serve");
    ensure!(check(&server)?.contains("starts atlas-boot"));
    server.power_cut()
}

/// What `atlas init --check` says, whatever its answer is.
fn check(server: &crate::Server) -> Result<String> {
    Ok(server.exec("atlas init --check", secs(300))?.text())
}
