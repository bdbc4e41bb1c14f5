//! What ATLAS adds to a boot: the same server with its role on two mirrored disks, and without ATLAS, boots by turns.
//!
//! The peer is the image without the package, with the same two disks in it. Without ATLAS, too, such a server would start
//! its mirror and check and mount the file system on it: Debian's own mdadm and a line in /etc/fstab do that.

use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use atlas_image::{Options, PlacedFile, ServerImage, place_files, plain_image, server_image};
use atlas_vm_tests::{Context, Disk, Server, secs};
use serde::Deserialize;

use super::{Row, say};
use crate::process;

/// Boots of each: an odd number. Emulated, their clock counts instructions, and they differ little.
const ROUNDS: usize = 3;

/// The serial numbers of the mirror's members.
const MEMBERS: [&str; 2] = ["UNBOUND-0", "UNBOUND-1"];

const MIB: f64 = 1024.0 * 1024.0;

/// What one takes on, with the package installed, to have a server with a role and an identity.
const SET_UP: &str = "set -e
atlas init --role PRI --cluster bench --env-version 1 --partner SEC1=192.168.77.2 --disks /dev/vdb,/dev/vdc
mdadm --wait /dev/md/atlas-unbound || true
ssSync create; sync";

/// The steps of boot.json in which the identity is read, checked, and put in place.
const IDENTITY_STEPS: [&str; 5] = [
    "read who this server is",
    "find its Snapshot",
    "compare the identity",
    "stage the identity",
    "install the identity",
];

/// The step of boot.json that ends with the file system mounted, read-only, and the one that ends with the identity in place.
const MOUNTED: &str = "start the Unbound set read-only";
const INSTALLED: &str = "install the identity";

/// What one takes on without ATLAS.
const SET_UP_PLAIN: &str = "echo 'LABEL=ATLAS-UNBOUND /srv ext4 defaults 0 2' >> /etc/fstab; sync";

/// A server to measure: a root disk that has been booted before, so that nothing is done for the first time.
struct Subject {
    image: ServerImage,
    root: Disk,
}

pub(super) fn run() -> Result<Vec<Row>> {
    let options = Options::new(&say)?;
    let (with, without) = (server_image(&options)?, plain_image(&options)?);
    let mut rows = sizes(&with, &without)?;
    let logs = process::repository().join("target/bench/boot");
    say("the servers are set up: one with a role and an identity on two mirrored disks, one without");
    let context = Context::new("set-up", &logs.join("set-up"))?;
    let members = MEMBERS.map(|serial| context.blank_disk(serial, 96)).into_iter().collect::<Result<Vec<_>>>()?;
    let (atlas, members) = set_up(&context, "atlas", with, members, SET_UP)?;
    let (plain, _) = set_up(&context, "plain", without, Vec::new(), SET_UP_PLAIN)?;
    context.finish()?;
    rows.extend(times(&atlas, &plain, &members, &logs)?);
    Ok(rows)
}

fn sizes(with: &ServerImage, without: &ServerImage) -> Result<Vec<Row>> {
    let program = with.package.as_ref().and_then(|package| package.programs.first());
    let program = program.context("the server image has no programs of ours")?;
    let initrd_bytes = |image: &ServerImage| fs::metadata(&image.initrd).map(|metadata| metadata.len() as f64);
    let added = initrd_bytes(with)? - initrd_bytes(without)?;
    Ok(vec![
        Row::at_most("atlas-boot, stripped", program.size_bytes as f64 / MIB, 3.0, "MiB"),
        Row::at_most("added to the initramfs, compressed", added / MIB, 1.5, "MiB"),
    ])
}

/// Boots a new server, runs the commands, and shuts it down; returns it with the disks that were in it.
fn set_up(
    context: &Context,
    name: &str,
    image: ServerImage,
    members: Vec<Disk>,
    commands: &str,
) -> Result<(Subject, Vec<Disk>)> {
    let lan = context.lan("office")?;
    let mut builder = context.debian(name, &image, "")?.nic(&lan)?;
    let serials: Vec<String> = members.iter().map(|member| member.serial().to_owned()).collect();
    for member in members {
        builder = builder.disk(member);
    }
    let mut server = builder.build();
    server.start()?;
    server.wait_booted(secs(900))?;
    let said = server.exec(commands, secs(900))?;
    ensure!(said.code == 0, "cannot set the server {name} up: {}{}", said.text(), said.error_text());
    server.shutdown(secs(300))?;
    let root = server.remove(&format!("{name}-root"))?;
    // What its own tools made of it meanwhile.
    let initrd = format!("/boot/initrd.img-{}", image.kernel_release);
    let initrd = root.take_file(&initrd, &context.scratch().join(format!("{name}-initrd")))?;
    let image = ServerImage { initrd, ..image };
    let members = serials.iter().map(|serial| server.remove(serial)).collect::<Result<_>>()?;
    Ok((Subject { image, root }, members))
}

fn times(atlas: &Subject, plain: &Subject, members: &[Disk], logs: &Path) -> Result<Vec<Row>> {
    let (mut with, mut without, mut identity, mut after_mount) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for round in 0..ROUNDS {
        say(&format!("boots {} of {ROUNDS}", round + 1));
        // By turns who is first: what only the first gets, each gets.
        for turn in 0..2 {
            if (round + turn) % 2 == 0 {
                let boot = boot_with_atlas(atlas, members, &logs.join(format!("{round}-atlas")))?;
                with.push(boot.seconds);
                identity.push(boot.identity_ms);
                after_mount.push(boot.after_mount_ms);
            } else {
                without.push(boot_plain(plain, members, &logs.join(format!("{round}-plain")))?);
            }
        }
    }
    let (with, without) = (median(&mut with), median(&mut without));
    Ok(vec![
        Row::at_most_times("from the kernel to multi-user.target, median", with, "s", "Debian", without, 1.03),
        Row::at_most("identity read, staged and installed, median", median(&mut identity), 100.0, "ms"),
        Row::at_most("from the mount to the identity in place, median", median(&mut after_mount), 100.0, "ms"),
    ])
}

/// One boot with ATLAS.
struct Boot {
    /// To multi-user.target.
    seconds: f64,
    /// The steps that deal with the identity.
    identity_ms: f64,
    /// From the mount to the identity in place, all that comes in between included.
    after_mount_ms: f64,
}

/// The server has to install an identity: it begins with another host name than its role's.
fn boot_with_atlas(subject: &Subject, members: &[Disk], logs: &Path) -> Result<Boot> {
    #[derive(Deserialize)]
    struct Report {
        outcome: String,
        installed: Vec<serde_json::Value>,
        steps: Vec<Step>,
    }
    #[derive(Deserialize)]
    struct Step {
        name: String,
        at_us: f64,
        took_us: f64,
    }
    #[derive(Deserialize)]
    struct Gate {
        open: bool,
        asked: Asked,
    }
    #[derive(Deserialize)]
    struct Asked {
        addresses: Vec<String>,
    }
    let context = Context::new("boot", logs)?;
    let changed = PlacedFile::new("/etc/hostname", "nobody\n");
    let (mut server, seconds) = boot(&context, subject, members, &[changed], logs)?;
    let report: Report = serde_json::from_slice(&server.read_file("/run/atlas/boot.json")?)?;
    ensure!(report.outcome == "identity-installed", "the server has no role: {}", report.outcome);
    ensure!(!report.installed.is_empty(), "there was no identity to install, so none was measured");
    let gate: Gate = serde_json::from_slice(&server.read_file("/run/atlas/gate.json")?)?;
    ensure!(gate.open && !gate.asked.addresses.is_empty(), "no address was asked for, so that was not measured");
    let step = |name: &str| {
        let step = report.steps.iter().rev().find(|step| step.name == name);
        step.with_context(|| format!("boot.json does not have the step '{name}'"))
    };
    let ended_ms = |name| step(name).map(|step| (step.at_us + step.took_us) / 1000.0);
    let identity_ms = IDENTITY_STEPS.iter().map(|name| Ok(step(name)?.took_us / 1000.0)).sum::<Result<f64>>()?;
    let after_mount_ms = ended_ms(INSTALLED)? - ended_ms(MOUNTED)?;
    server.power_cut()?;
    Ok(Boot { seconds, identity_ms, after_mount_ms })
}

/// Seconds to multi-user.target of a server that has the same disks and mounts them as Debian does.
fn boot_plain(subject: &Subject, members: &[Disk], logs: &Path) -> Result<f64> {
    let context = Context::new("boot", logs)?;
    let (mut server, seconds) = boot(&context, subject, members, &[], logs)?;
    server.sh("findmnt --noheadings /srv").context("the mirror is not mounted, so its start was not measured")?;
    server.power_cut()?;
    Ok(seconds)
}

/// What a person needs to see where the time went; it lies beside the logs of each boot.
const WHERE_TIME_WENT: &str =
    "systemd-analyze --no-pager time; systemd-analyze --no-pager critical-chain multi-user.target
systemd-analyze --no-pager blame; cat /run/atlas/boot.json /run/atlas/gate.json 2>/dev/null
journalctl --boot --output=short-monotonic --no-pager";

fn boot(
    context: &Context,
    subject: &Subject,
    members: &[Disk],
    files: &[PlacedFile],
    logs: &Path,
) -> Result<(Server, f64)> {
    let image = ServerImage { root: subject.root.path().to_path_buf(), ..subject.image.clone() };
    // A card, as every server has: its address is asked for before it is taken.
    let lan = context.lan("office")?;
    let mut builder = context.debian("measured", &image, "")?.measured().nic(&lan)?;
    for (serial, member) in MEMBERS.iter().zip(members) {
        builder = builder.disk(context.copy_disk(serial, member.path())?);
    }
    let mut server = builder.build();
    place_files(server.disk("measured-root")?.path(), files)?;
    server.start()?;
    server.wait_booted(secs(240))?;
    server.assert_healthy()?;
    fs::write(logs.join("where-time-went"), server.exec(WHERE_TIME_WENT, secs(60))?.text())?;
    let microseconds =
        server.sh("systemctl show --property=ActiveEnterTimestampMonotonic --value multi-user.target")?;
    let microseconds: f64 = microseconds.trim().parse().context("systemd does not say when it was up")?;
    ensure!(microseconds > 0.0, "multi-user.target was never reached");
    Ok((server, microseconds / 1e6))
}

/// The middle one of an odd number of values.
fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_the_middle_whatever_the_order() {
        assert_eq!(median(&mut [5.0, 1.0, 3.0]), 3.0);
        assert_eq!(median(&mut [2.0]), 2.0);
        assert!(median(&mut []).is_nan());
    }
}
