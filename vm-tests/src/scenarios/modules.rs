//! An update that went wrong at night: the new version of a service crashes at its start, and one command brings the old one back.

use std::time::Instant;

use anyhow::{Result, ensure};

use crate::{Context, Server, secs};

const UNIT: &str = "[Service]\nExecStart=/opt/atlas/bin/bakeOven\n";
/// Kept running by systemd, as a service that must not stay away; by ssRun, which knows of trials.
const KEPT_UNIT: &str = "[Unit]\nStartLimitIntervalSec=0\n[Service]\nRestart=on-failure\nRestartSec=100ms\n\
    ExecStart=/usr/bin/ssRun --to stdout -- /opt/atlas/bin/bakeOven\n";

/// Packs and installs a version of the module `bakeOven` whose program is `script`, all in the guest.
fn install(server: &Server, version: &str, script: &str) -> Result<()> {
    server.sh(&format!("mkdir -p /tmp/{version}"))?;
    server.write_file(&format!("/tmp/{version}/bakeOven"), script.as_bytes())?;
    server.sh(&format!(
        "cd /tmp && chmod 755 {version}/bakeOven && atlas-module pack {version} bakeOven-{version}.tar.zst --name bakeOven --version {version} \
         && atlas-module install --allow-unsigned bakeOven-{version}.tar.zst"
    ))?;
    Ok(())
}

/// Also: a machine that has the package, but on which `atlas init` was never run, boots as before, its network up.
pub(crate) fn crashing_version_is_rolled_back(ctx: &Context) -> Result<()> {
    let image = atlas_image::server_image(&atlas_image::Options::new(&|_| ())?)?;
    let mut server = ctx.debian("oven", &image, "")?.build();
    server.start()?;
    server.wait_booted(secs(180))?;
    let report: serde_json::Value = serde_json::from_slice(&server.read_file("/run/atlas/boot.json")?)?;
    ensure!(report["outcome"] == "not-initialised", "{report:#}");
    ensure!(server.sh("systemctl is-active systemd-networkd")? == "active");

    install(&server, "v1", "#!/bin/sh\necho v1 bakes\nsleep 1000\nexit 0\n")?;
    install(&server, "v2", "#!/bin/sh\necho v2 crashes\nkill -SEGV $$\n")?;
    server.write_file("/etc/systemd/system/oven.service", UNIT.as_bytes())?;
    server.sh(
        "atlas-module set bakeOven v1 && systemctl daemon-reload && systemctl start oven && systemctl is-active oven",
    )?;

    server.sh("atlas-module set bakeOven v2 && systemctl restart oven")?;
    server.sh("for i in $(seq 100); do systemctl is-failed oven && exit 0; sleep 0.2; done; exit 1")?;
    let list = server.sh("atlas-module list")?;
    ensure!(list.lines().any(|line| line.contains("v2") && line.contains("set")), "{list}");

    let began = Instant::now();
    server.sh("atlas-module set bakeOven v1 && systemctl restart oven && systemctl is-active oven")?;
    let took = began.elapsed();
    ensure!(took < std::time::Duration::from_secs(20), "from the command to a running service: {took:?}");
    ensure!(server.sh("journalctl -u oven -o cat | grep -c 'v1 bakes'")? == "2");
    server.sh("atlas-module verify")?;
    println!("      rolled back, from the command to the running service, emulated: {:.1} s", took.as_secs_f64());
    server.sh("systemctl stop oven")?;
    trial_ends_by_itself(&server)?;
    crashes_are_known(&server)?;
    server.power_cut()
}

/// The same at an hour at which nobody is there: the crashing version is on trial, and is set back without a hand.
fn trial_ends_by_itself(server: &Server) -> Result<()> {
    server.write_file("/etc/systemd/system/oven.service", KEPT_UNIT.as_bytes())?;
    let began = Instant::now();
    server.sh("atlas-module set bakeOven v2 --try 3 && systemctl daemon-reload && systemctl start oven")?;
    // It has baked twice before.
    let bakes = "test $(journalctl -u oven -o cat | grep -c 'v1 bakes') = 3";
    server.sh(&format!("for i in $(seq 60); do {bakes} && exit 0; sleep 1; done; exit 1"))?;
    println!("      set back by itself after three crashes, emulated: {:.1} s", began.elapsed().as_secs_f64());
    let alert = server.sh("cat /var/lib/atlas/notices/atlas-module-bakeOven.json")?;
    ensure!(alert.contains("did not report itself healthy within 3 starts; update/v1 is set again"), "{alert}");
    let crashes = server.sh("journalctl -u oven -o cat | grep -c 'v2 crashes'")?;
    ensure!(crashes == "4", "one crash before, and three on trial, not {crashes}");
    let list = server.sh("atlas-module list bakeOven")?;
    ensure!(list.lines().any(|line| line.contains("v1") && line.contains("pid")), "{list}");
    server.sh("systemctl stop oven")?;
    Ok(())
}

/// The system's own catcher has taken the cores of all four crashes: they are found where it keeps them, and are one kind of crash.
fn crashes_are_known(server: &Server) -> Result<()> {
    let pattern = server.sh("cat /proc/sys/kernel/core_pattern")?;
    ensure!(pattern.contains("systemd-coredump"), "cores are not taken by systemd-coredump, but by '{pattern}'");
    let kept = "ls /var/lib/systemd/coredump/core.bakeOven.*";
    server.sh(&format!(
        "for i in $(seq 100); do test $({kept} | wc -l) = 4 && exit 0; sleep 0.2; done; {kept}; exit 1"
    ))?;
    server.sh("ssCoreHandler scan || test $? = 3")?;
    let list: serde_json::Value = serde_json::from_str(&server.sh("ssCoreHandler list --json")?)?;
    let crashes = list["crashes"].as_array().map_or(0, Vec::len);
    ensure!(crashes == 1 && list["crashes"][0]["count"] == 4, "not one kind of crash, four times: {list:#}");
    server.sh("ssCoreHandler scan")?;
    ensure!(server.sh("ls /var/lib/systemd/coredump | wc -l")? == "4", "cores that another program keeps are its own");
    println!("      four cores of systemd-coredump, one crash: {}", list["crashes"][0]["signature"]);
    server.sh("rm /var/lib/systemd/coredump/core.*").map(drop)
}
