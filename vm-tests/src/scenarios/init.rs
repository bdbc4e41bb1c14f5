//! `atlas init`: run again, run on the wrong disks, cut off in its middle.

use anyhow::{Context as _, Result, ensure};

use super::cast::{Cast, LEFT};
use super::upkeep::boot_from_own_disk;
use crate::{Context, Server, secs};

/// Everything that `atlas init` may have written. What the running Verifier finds meanwhile is not of its making.
const DIGESTS: &str = "find /unbound/SID_DATA /opt/atlas /etc/atlas -path /unbound/SID_DATA/Verifier -prune -o -type f -print \
                       | sort | xargs sha256sum";

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
    let before = server.sh(DIGESTS)?;
    let again = server.exec(&LEFT.set_up(), secs(300))?;
    ensure!(again.code == 0, "the second run fails: {} {}", again.text(), again.error_text());
    let after = server.sh(DIGESTS)?;
    ensure!(before == after, "the second run changed:\n{before}\n{after}");

    server.sh("mkfs.ext4 -q -L books /dev/vdd")?;
    let other = LEFT.set_up().replace("/dev/vdb,/dev/vdc", "/dev/vdc,/dev/vdd");
    for command in [other.clone(), format!("{other} --erase"), LEFT.set_up().replace("--role PRI", "--role SEC1")] {
        let refused = server.exec(&command, secs(120))?;
        ensure!(refused.code == 1 || refused.code == 2, "`{command}` ends with {}: {}", refused.code, refused.text());
    }
    ensure!(server.sh("blkid -o value -s LABEL /dev/vdd")? == "books", "a disk was erased without being told twice");
    ensure!(server.sh(DIGESTS)? == after);

    server.sh("echo nonsense > /opt/atlas/EnvID")?;
    let check = server.exec("atlas init --check", secs(120))?;
    ensure!(check.code == 3 && check.text().contains("EnvID"), "check ends with {}: {}", check.code, check.text());
    server.power_cut()
}

/// Where the power is cut: what to wait for in the guest while `atlas init` runs, and what must then still be missing.
const CUTS: [(&str, &str, &str); 3] = [
    ("the mirror is there, the file system is not", "grep -q raid1 /proc/mdstat", "/unbound/SID_DATA"),
    ("the set is mounted, this server does not belong to it yet", "[ -e /unbound/SID_DATA ]", "/etc/atlas/initialised"),
    ("the initramfs is being made", "pgrep -x mkinitramfs", "/nothing"),
];

/// The power is cut three times while `atlas init` makes and fills a set and an initramfs; each time the server boots to a login, the
/// same command goes on, and in the end the server boots from its own initramfs as PRI.
pub(crate) fn init_survives_power_cuts(ctx: &Context) -> Result<()> {
    let image = atlas_image::server_image(&atlas_image::Options::new(&|_| ())?)?;
    let mut builder = ctx.debian("left", &image, "")?;
    for serial in LEFT.members() {
        builder = builder.disk(ctx.blank_disk(&serial, 96)?);
    }
    let mut server = builder.build();
    for (at, (what, begun, not_yet)) in CUTS.into_iter().enumerate() {
        server.start()?;
        server.wait_booted(secs(180))?;
        if at == 0 {
            // As if it had been cut off: what the package made is whole, and would leave nothing to do.
            server.sh(": > /boot/initrd.img-$(uname -r) && sync")?;
        }
        cut_during_init(&mut server, begun, not_yet).with_context(|| format!("cutting the power while {what}"))?;
    }
    server.start()?;
    server.wait_booted(secs(180))?;
    server.assert_healthy()?;
    let whole = server.exec(&LEFT.set_up(), secs(300))?;
    ensure!(whole.code == 0, "it does not go on: {} {}", whole.text(), whole.error_text());
    let check = server.exec("atlas init --check --json", secs(120))?;
    ensure!(check.code == 0, "{} {}", check.text(), check.error_text());
    server.shutdown(secs(120))?;

    boot_from_own_disk(ctx, &mut server, &image.kernel_release)?;
    server.start()?;
    server.wait_booted(secs(180))?;
    let report: serde_json::Value = serde_json::from_slice(&server.read_file("/run/atlas/boot.json")?)?;
    ensure!(report["outcome"] == "from-scratch" && report["role"] == LEFT.role, "boot.json: {report:#}");
    ensure!(report["set"]["degraded"] == false, "boot.json: {report:#}");
    server.sh("ssSync create")?;
    server.assert_healthy()?;
    server.shutdown(secs(120))
}

/// Starts `atlas init`, and cuts the power as soon as the shell command `begun` succeeds in the guest.
fn cut_during_init(server: &mut Server, begun: &str, not_yet: &str) -> Result<()> {
    // Slowly, a millisecond in ten: whoever watches has the processor meanwhile, and misses no moment.
    let slowly = "--property=CPUQuota=10% --property=CPUQuotaPeriodSec=10ms";
    server.sh(&format!("systemd-run --quiet --unit=init-run {slowly} {}", LEFT.set_up()))?;
    // Nothing but the condition in most rounds, and then it stands still: some of these moments last milliseconds.
    let watch = format!(
        "pid=$(systemctl show --property MainPID --value init-run); n=0; until {begun} >/dev/null; do n=$((n+1)); [ $((n % 100)) -ne 0 ] || systemctl is-active --quiet init-run || exit 5; done; \
         kill -STOP $pid; [ ! -e {not_yet} ] || exit 4"
    );
    let seen = server.exec(&watch, secs(400))?;
    let log = || server.sh("journalctl --unit=init-run --output=cat").unwrap_or_default();
    ensure!(
        seen.code == 0,
        "it was not there when it was looked for ({}; 4: too late, 5: it had ended):\n{}",
        seen.code,
        log()
    );
    server.power_cut()
}
