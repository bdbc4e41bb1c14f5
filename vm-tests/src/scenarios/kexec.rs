//! A kernel that starts the next one by itself (`kexec`): no firmware is asked, and the power stays on. The initramfs runs, and decides as it does
//! whenever a kernel starts.
//!
//! ```text
//! boot ─ atlas init ─ Snapshot ─► kexec ─► PRI ─ both disks pulled ─► kexec ─► refused ─ SEC1's disks pushed in ─► kexec ─► SEC1
//! ```

use anyhow::{Context as _, Result, ensure};
use atlas_image::{Options, place_files};
use serde_json::Value;

use super::cast::{Cast, LEFT, MEMBER_MIB, RIGHT};
use crate::{Context, Lan, Server, secs};

const KERNEL: &str = "kexec -l /boot/vmlinuz-$(uname -r) --initrd=/boot/initrd.img-$(uname -r) --reuse-cmdline";
const BOOT_ID: &str = "cat /proc/sys/kernel/random/boot_id";

/// Has the kernel start the next one, and gives what that one's early boot decided.
fn kexec(server: &Server) -> Result<Value> {
    let before = server.sh(BOOT_ID)?;
    let loaded = server.exec(KERNEL, secs(120))?;
    ensure!(loaded.code == 0, "kexec -l: {}", loaded.error_text());
    // The agent is gone before it can answer.
    server.exec("systemctl kexec", secs(5)).ok();
    let mut said = String::new();
    let next = || -> Result<Option<()>> {
        let now = server.exec(BOOT_ID, secs(10));
        said = now.map_or_else(|error| format!("{error:#}"), |now| now.text());
        Ok((said.len() == before.len() && said != before).then_some(()))
    };
    secs(240).poll("the next kernel", next).with_context(|| format!("the server said last: {said}"))?;
    server.wait_booted(secs(240))?;
    let report: Value = serde_json::from_slice(&server.read_file("/run/atlas/boot.json")?)?;
    ensure!(report["boot_id"] == server.sh(BOOT_ID)?, "the report is not of this kernel: {report:#}");
    Ok(report)
}

/// PRI as it is after `atlas init` and its first Snapshot, its disks in bays.
fn set_up(ctx: &Context, lan: &Lan) -> Result<Server> {
    let image = atlas_image::server_image(&Options::new(&|_| ())?.with("roots"))?;
    let mut builder = ctx.debian(LEFT.place, &image, "")?.nic(lan)?.bays();
    for serial in LEFT.members() {
        builder = builder.disk(ctx.blank_disk(&serial, MEMBER_MIB)?);
    }
    let mut server = builder.build();
    place_files(server.disk(&LEFT.root_serial())?.path(), &LEFT.own_files())?;
    server.start()?;
    server.wait_booted(secs(240))?;
    let said = server.exec(&LEFT.set_up(), secs(600))?;
    ensure!(said.code == 0, "`{}` fails: {}\n{}", LEFT.set_up(), said.text(), said.error_text());
    server.sh("ssSync create; sync")?;
    Ok(server)
}

pub(crate) fn kexec_is_decided_like_a_boot(ctx: &Context) -> Result<()> {
    let lan = ctx.lan("office")?;
    let mut server = set_up(ctx, &lan)?;
    let report = kexec(&server)?;
    ensure!(report["outcome"] == "identity-installed" && report["role"] == "PRI", "{report:#}");
    server.sh("test -e /run/atlas/network-allowed && ip -4 -o address show dev eth0 | grep -q 192.168.77.1/")?;

    drop(server.pull_all(&LEFT.members())?);
    let closed = || Ok((server.exec("test -e /run/atlas/network-allowed", secs(60))?.code != 0).then_some(()));
    secs(60).poll("the gate to close", closed)?;
    lan.forget(server.name())?;
    let report = kexec(&server)?;
    ensure!(report["outcome"] == "refused" && report["refusal"]["code"] == "no-unbound-set", "{report:#}");
    server.sh(
        "test ! -e /run/atlas/network-allowed; ip link set eth0 up; ping -c 2 -W 1 192.168.77.99 >/dev/null || true",
    )?;
    let sent = lan.sent(server.name())?;
    ensure!(sent.frames == 0, "a server without its set sent {sent:?}");

    for (disk, bay) in Cast::get()?.members(ctx, RIGHT)?.into_iter().zip(LEFT.members()) {
        server.push_into(disk, &bay)?;
    }
    let report = kexec(&server)?;
    ensure!(report["outcome"] == "identity-installed" && report["role"] == "SEC1", "{report:#}");
    ensure!(server.sh("hostname")? == RIGHT.hostname, "it does not have the name of its disks");
    let used = lan.sent(server.name())?.used;
    let pri: std::net::IpAddr = LEFT.address.parse()?;
    ensure!(!used.contains_key(&pri), "it sent as PRI without PRI's disks: {used:?}");
    server.power_cut()
}
