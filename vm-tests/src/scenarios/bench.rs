//! Two short boots that need no systemd: the workbench, to do something to disks, and the probe, to see what early boot made of them.
//!
//! Both run the real kernel and initramfs on a real root file system, with a script as `init`: seconds instead of half a minute.
//!
//! ```text
//! workbench   plain Debian, no ATLAS: runs commands on the disks given to it; must say that it did
//! probe       a server of the cast: after atlas-boot it prints boot.json and what is so, and switches off
//! ```

use anyhow::{Context as _, Result, ensure};
use atlas_image::{PlacedFile, ServerImage, place_files};
use base64::Engine as _;
use serde_json::Value;

use crate::{Context, Deadline, Disk, Server, secs};

const PROLOGUE: &str = "#!/bin/sh
export PATH=/usr/sbin:/usr/bin:/sbin:/bin
mount -t proc proc /proc; mount -t sysfs sysfs /sys
# What the kernel says must not fall into the middle of a line that is read.
echo 1 > /proc/sys/kernel/printk
mount -t tmpfs tmpfs /mnt; mkdir -p /mnt/set
# Nothing may be run after that: the disk that it would be read from goes first, and an init that ends is a panic.
off() { sync; echo o > /proc/sysrq-trigger; while :; do :; done; }
";

/// Runs shell commands (`set -e`) with `disks` as `/dev/vdb`, `/dev/vdc`, …; gives the disks back, and what was printed.
///
/// `start_set` starts and mounts the whole set at /mnt/set, `stop_set` undoes that.
pub(crate) fn workbench(ctx: &Context, name: &str, disks: Vec<Disk>, commands: &str) -> Result<(Vec<Disk>, String)> {
    let image = atlas_image::plain_image(&atlas_image::Options::new(&|_| ())?)?;
    workbench_on(ctx, &image, name, disks, commands, secs(90))
}

/// The same with the programs of `image`, for work that takes longer.
pub(crate) fn workbench_on(
    ctx: &Context,
    image: &ServerImage,
    name: &str,
    disks: Vec<Disk>,
    commands: &str,
    deadline: Deadline,
) -> Result<(Vec<Disk>, String)> {
    let serials: Vec<String> = disks.iter().map(|disk| disk.serial().to_owned()).collect();
    let mut builder = ctx.debian(name, image, "init=/workbench")?;
    for disk in disks {
        builder = builder.disk(disk);
    }
    let mut server = builder.build();
    let script = format!(
        "{PROLOGUE}
members=$(ls /dev/vd[b-z])
start_set() {{ mdadm --assemble /dev/md9 --run $members && udevadm settle; mount -t ext4 /dev/md9 /mnt/set; }}
stop_set() {{ umount /mnt/set; mdadm --wait-clean /dev/md9 || true; mdadm --stop /dev/md9; }}
mdadm --stop --scan >/dev/null 2>&1
(set -e
{commands}
)
echo \"workbench: ended with $?\"
off
"
    );
    let root = format!("{name}-root");
    place_files(server.disk(&root)?.path(), &[PlacedFile { mode: 0o755, ..PlacedFile::new("/workbench", script) }])?;
    server.start()?;
    server.wait_console("^workbench: ended with 0", deadline).context("the workbench did not do its work")?;
    server.wait_off(secs(60))?;
    let text = server.console().text();
    let disks = serials.iter().map(|serial| server.remove(serial)).collect::<Result<_>>()?;
    Ok((disks, text))
}

/// What the probe saw.
#[derive(Debug)]
pub(crate) struct Seen {
    /// boot.json.
    pub(crate) report: Value,
    /// Whether the network may be configured.
    pub(crate) network_allowed: bool,
    /// Digests of the identity files of the root file system, one `DIGEST  PATH` a line.
    pub(crate) identity: String,
    /// Whether /unbound is mounted, and how.
    pub(crate) unbound_mount: String,
    /// Names that begin with ATLAS's prefix of temporary files.
    pub(crate) leftovers: String,
    /// The arrays that run.
    pub(crate) mdstat: String,
    /// What belongs to this one machine, a file after the other.
    pub(crate) machine: String,
}

impl Seen {
    /// A field of the report as text.
    pub(crate) fn text(&self, pointer: &str) -> &str {
        self.report.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
    }

    /// The refusal's code, or the outcome where there was none.
    pub(crate) fn outcome(&self) -> &str {
        match self.text("/refusal/code") {
            "" => self.text("/outcome"),
            code => code,
        }
    }
}

/// Prints the digests of the identity files of the root file system that it runs on.
pub(crate) const IDENTITY: &str =
    "(cd /etc && sha256sum hostname hosts resolv.conf systemd/network/* ssh/ssh_host_* 2>/dev/null) || true";
/// Prints the temporary files that ATLAS left behind.
pub(crate) const LEFTOVERS: &str = "find /etc /opt/atlas -name '.atlas-tmp-*'";

const PROBE: &str = "
say() { echo \"probe-$1: $(base64 -w0)\"; }
# Nobody else runs it here, and it runs on.
/usr/lib/atlas/atlas-boot gate </dev/null 2>/dev/null &
while [ ! -e /run/atlas/gate.json ]; do sleep 0.05; done
say report < /run/atlas/boot.json
[ -e /run/atlas/network-allowed ] && echo yes | say allowed || echo no | say allowed
{ @IDENTITY@; } | say identity
grep ' /unbound ' /proc/mounts | say unbound
@LEFTOVERS@ | say leftovers
say mdstat < /proc/mdstat
cat /etc/fstab /etc/machine-id /opt/atlas/EnvID | say machine
echo 'probe: done'
off
";

/// Makes the probe the init of a server of the cast. Its kernel arguments need `init=/probe`.
pub(crate) fn install_probe(server: &mut Server) -> Result<()> {
    let root = format!("{}-root", server.name());
    let probe = PROBE.replace("@IDENTITY@", IDENTITY).replace("@LEFTOVERS@", LEFTOVERS);
    let script = format!("{PROLOGUE}{probe}");
    place_files(server.disk(&root)?.path(), &[PlacedFile { mode: 0o755, ..PlacedFile::new("/probe", script) }])
}

/// Boots a server whose init is the probe; it is off afterwards.
pub(crate) fn probe(server: &mut Server) -> Result<Seen> {
    server.start()?;
    probed(server)
}

/// What the probe saw on a server that was switched on; it is off afterwards.
pub(crate) fn probed(server: &mut Server) -> Result<Seen> {
    server.wait_console("^probe: done", secs(120))?;
    server.wait_off(secs(60))?;
    let console = server.console().text();
    let part = |name: &str| -> Result<String> {
        let mark = format!("probe-{name}: ");
        let line = console.lines().find_map(|line| line.split_once(&mark).map(|(_, rest)| rest.trim()));
        let bytes = base64::engine::general_purpose::STANDARD.decode(line.with_context(|| format!("no {mark}"))?)?;
        Ok(String::from_utf8(bytes)?.trim().to_owned())
    };
    let report = serde_json::from_str(&part("report")?).context("boot.json cannot be read")?;
    ensure!(!console.contains("workbench"), "the wrong script ran");
    Ok(Seen {
        report,
        network_allowed: part("allowed")? == "yes",
        identity: part("identity")?,
        unbound_mount: part("unbound")?,
        leftovers: part("leftovers")?,
        mdstat: part("mdstat")?,
        machine: part("machine")?,
    })
}
