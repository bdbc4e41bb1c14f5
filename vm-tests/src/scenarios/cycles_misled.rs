//! Further troubles of a cycle: converters that do what they must not, disks that say another Role, clocks that are hours apart, and a PRI
//! that loses its power in the middle. Each ends with everyone in step [276-290, 320-324].

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use super::cycles::{assert_outcomes, assert_snapshots, cycle, partner};
use super::cycles_in_trouble::{BOTH, IN_THE_MIDDLE, LOAD, assert_serves, change, give_load};
use super::trio::up;
use crate::{Lan, Server, secs};

/// The site that [`change`] changes: what the rogue part of a converter names as its own.
const SITE: &str = "/etc/nginx/conf.d/word.conf";
/// What a rogue part does, and what the report says of it then. The one that writes elsewhere ends well where it could.
const ROGUES: [(&str, &str); 4] = [
    ("exit 7", "exit status: 7"),
    ("sleep 900", "did not end within 5s and was stopped"),
    (
        "for place in / /part /tmp /var/tmp /etc/nginx/conf.d /unbound/SID_DATA .. ../..; do echo > $place/evil && exit 0; done; exit 9",
        "exit status: 9",
    ),
    ("echo > etc/nginx/conf.d/evil", "left /etc/nginx/conf.d/evil, which the part does not name"),
];

/// A part of the site's own that fails, hangs, writes outside of its tree, or leaves what it does not name: on SEC2, which converts what it got, and on
/// PRI, which converts before it sends.
pub(super) fn converters_misbehave(a: &Server, b: &Server, c: &Server) -> Result<()> {
    change(a, "before")?;
    assert_outcomes(&cycle(a)?, &BOTH)?;
    for (number, (program, sign)) in ROGUES.into_iter().enumerate() {
        add_rogue(c, 3, program)?;
        let word = format!("rogue-{number}");
        change(a, &word)?;
        let report = cycle(a)?;
        assert_outcomes(&report, &[("SEC1", "synced"), ("SEC2", "failed")])?;
        let why = partner(&report, "SEC2")?["why"].as_str().unwrap_or_default();
        ensure!(why.contains(sign) && why.contains("rogue"), "`{program}` is told as {why:?}");
        assert_serves(b, &word)?;
        assert_serves(c, "before")?;
        assert_snapshots(c, program, &["PRI 2: Env1 Env2", "SEC2 3: Env1 Env2 Env3"])?;
    }
    let evil = c.sh("find / /tmp /unbound -xdev -name evil; pgrep -f '[s]leep 900' || true")?;
    ensure!(evil.is_empty(), "it did what it must not: {evil}");
    c.sh("rm -r /opt/atlas/converters")?;
    assert_outcomes(&cycle(a)?, &BOTH)?;
    assert_serves(c, "rogue-3")?;

    add_rogue(a, 2, "exit 7")?;
    let before = a.sh("sha256sum /unbound/SID_DATA/PRI/Env*/Manifest")?;
    change(a, "unsent")?;
    let output = a.exec("ssSync cycle", secs(300))?;
    ensure!(output.code == 1 && output.error_text().contains("exit status: 7"), "{}", output.error_text());
    ensure!(a.sh("sha256sum /unbound/SID_DATA/PRI/Env*/Manifest")? == before, "PRI's Snapshot changed");
    assert_serves(b, "rogue-3")?;
    a.sh("rm -r /opt/atlas/converters")?;
    assert_outcomes(&cycle(a)?, &BOTH)?;
    assert_serves(b, "unsent")?;
    assert_serves(c, "unsent")
}

/// Adds a part with a program to a server's SyncConverter of that number.
fn add_rogue(server: &Server, number: u32, program: &str) -> Result<()> {
    let dir = format!("/opt/atlas/converters/Env{number}");
    let part = format!(
        "format = 1\nabout = \"a rogue\"\n[[program]]\nrun = \"rogue\"\nolder = [\"{SITE}\"]\nnewer = [\"{SITE}\"]\ndeadline_seconds = 5\n"
    );
    server.sh(&format!("mkdir -p {dir}"))?;
    server.write_file(&format!("{dir}/rogue.toml"), part.as_bytes())?;
    server.write_file(&format!("{dir}/rogue"), format!("#!/bin/sh\n{program}\n").as_bytes())?;
    server.sh(&format!("chmod 755 {dir}/rogue")).map(drop)
}

/// SEC2's disks say that they are SEC1's, and then PRI's: refused at both ends, told there, too, and nothing changed.
pub(super) fn wrong_role_is_refused(a: &Server, c: &Server) -> Result<()> {
    const CONFIG: &str = "/unbound/SID_DATA/MasterConfig";
    let swapped = format!("sed -i -e s/SEC2/X/ -e s/PRI/SEC2/ -e s/X/PRI/ {CONFIG}");
    for (wrong, edit, sign) in [
        ("wrong-1", format!("sed -i s/SEC2/SEC1/ {CONFIG}"), "SEC2 was called, and SEC1 answered"),
        ("wrong-2", swapped, "two servers hold Role PRI"),
    ] {
        let right = c.read_file(CONFIG)?;
        c.sh("rm -rf /var/lib/atlas/notices")?;
        c.sh(&edit)?;
        ensure!(c.read_file(CONFIG)? != right, "the Role is as it was: the fault is not there");
        let list = "cd /unbound/SID_DATA && find PRI SEC* keys -type f | sort | xargs sha256sum; sha256sum /etc/nginx/conf.d/*";
        let before = c.sh(list)?;
        change(a, wrong)?;
        let report = cycle(a)?;
        assert_outcomes(&report, &[("SEC1", "synced"), ("SEC2", "refused")])?;
        let why = partner(&report, "SEC2")?["why"].as_str().unwrap_or_default();
        ensure!(why.contains(sign), "{wrong} is told as {why:?}");
        ensure!(c.sh(list)? == before, "a refused server was changed");
        ensure!(c.sh("cat /var/lib/atlas/notices/*")?.contains("was refused"), "nobody is told there");
        c.write_file(CONFIG, &right)?;
    }
    assert_outcomes(&cycle(a)?, &BOTH)?;
    assert_serves(c, "wrong-2")
}

/// SEC1's clock is five hours ahead, SEC2's seven behind: the cycle works, and the report says so.
pub(super) fn clocks_hours_apart(a: &Server, b: &Server, c: &Server) -> Result<()> {
    b.sh("date -s '+5 hours'")?;
    c.sh("date -s '-7 hours'")?;
    for word in ["early", "late"] {
        change(a, word)?;
        let report = cycle(a)?;
        assert_outcomes(&report, &BOTH)?;
        for (role, hours) in [("SEC1", 5), ("SEC2", -7)] {
            let ahead = partner(&report, role)?["clock_ahead"].as_i64().context("nobody compared the clocks")?;
            ensure!((ahead - hours * 3600).abs() < 1200, "{role} is said to be ahead by {ahead} s");
        }
        assert_serves(b, word)?;
        assert_serves(c, word)?;
    }
    b.sh("date -s '-5 hours'")?;
    c.sh("date -s '+7 hours'")?;
    change(a, "in time")?;
    assert_outcomes(&cycle(a)?, &BOTH)?;
    assert_serves(b, "in time")
}

/// PRI loses its power while it sends: no secondary has half of it, PRI comes back as itself, and its next cycle reaches both.
pub(super) fn pri_loses_its_power(lan: &Lan, a: &mut Server, b: &Server, c: &Server) -> Result<()> {
    const MANIFESTS: &str = "sha256sum /unbound/SID_DATA/PRI/Env*/Manifest";
    let before = [b.sh(MANIFESTS)?, c.sh(MANIFESTS)?];
    give_load(a)?;
    a.sh("sync")?;
    let before_it = [lan.delivered("b")?, lan.delivered("c")?];
    a.sh("setsid ssSync cycle > /dev/null 2>&1 < /dev/null &")?;
    let until = secs(300);
    while lan.delivered("b")? < before_it[0] + IN_THE_MIDDLE && lan.delivered("c")? < before_it[1] + IN_THE_MIDDLE {
        ensure!(until.left().is_some(), "PRI sent nothing");
        std::thread::sleep(Duration::from_millis(5));
    }
    a.power_cut()?;
    up([a])?;
    let boot: Value = serde_json::from_slice(&a.read_file("/run/atlas/boot.json")?)?;
    ensure!(boot["outcome"] == "identity-installed" && boot["role"] == "PRI", "boot.json: {boot:#}");
    assert_snapshots(a, "a power cut", &["PRI 2: Env1 Env2", "SEC1 1: Env1", "SEC2 3: Env1 Env2 Env3"])?;
    ensure!([b.sh(MANIFESTS)?, c.sh(MANIFESTS)?] == before, "half a send was published");
    for server in [b, c] {
        no_conversation(server)?;
    }
    a.sh(&format!("rm {LOAD}"))?;
    change(a, "up again")?;
    assert_outcomes(&cycle(a)?, &BOTH)?;
    assert_serves(b, "up again")?;
    assert_serves(c, "up again")
}

/// A secondary that PRI is cut off from notices by itself, soon, and is free for the next call.
pub(super) fn no_conversation(server: &Server) -> Result<()> {
    secs(90).poll(&format!("the end of the conversation on {}", server.name()), || {
        Ok((server.exec("pgrep -f 'ssSync [s]erve'", secs(20))?.code == 1).then_some(()))
    })
}
