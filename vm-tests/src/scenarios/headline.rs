//! What all of it is for, in one day of a cluster: a change arrives, a fault of a standby is told, PRI dies and somebody is told, and the standby
//! becomes PRI. Of two servers; and of three on three releases of Debian, where each of the others becomes PRI once.

use std::time::Instant;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use super::cast::{LEFT, PRI_ADDRESS, RIGHT};
use super::cycles::assert_is;
use super::failover::{move_set, take_out};
use super::latent::{EMULATED, TOLD, verified, verify_patiently};
use super::trio::{A, B, C, Trio, acted, down, long, up};
use crate::{Context, Server, secs};

/// Of every service, in seconds: three emulated servers at once take their time for each.
const INTERVAL: u64 = 60;
/// Within which a secondary has to tell that nobody serves, in seconds.
const TOLD_WITHIN: u64 = 60;

pub(crate) fn two_servers_lose_their_pri(ctx: &Context) -> Result<()> {
    let lan = ctx.lan("office")?;
    let client = ctx.client("client", &lan, "192.168.77.9/24")?;
    let (mut pri, mut sec) = verified(ctx, &lan)?;
    ready(&pri, &[("SEC1", "yes", "")])?;
    ctx.note("SEC1 is ready")?;
    change(&pri)?;
    // One that is under way already may have begun before the change.
    secs(120).poll("a cycle of its own", || {
        let output = pri.exec("ssSyncCtrl now", secs(120))?;
        let is_busy = output.error_text().contains("another cycle is under way");
        ensure!(output.code == 0 || is_busy, "no cycle: {}{}", output.text(), output.error_text());
        Ok((!is_busy).then_some(()))
    })?;
    arrives(&sec)?;
    ready(&pri, &[("SEC1", "yes", "")])?;
    ctx.note("a change has arrived")?;
    stands_still(&sec)?;
    ready(&pri, &[("SEC1", "no", "nginx")])?;
    goes_on(&sec)?;
    ready(&pri, &[("SEC1", "yes", "")])?;
    ctx.note("a fault was told, and its end")?;
    pri.sh(WRITTEN)?;
    sec.sh(&format!(": > {TOLD}"))?;
    dies(ctx, &mut pri, &sec)?;
    down([&mut sec])?;
    drop(take_out(&mut sec, RIGHT)?);
    move_set(&mut pri, LEFT, &mut sec)?;
    up([&mut sec])?;
    assert_is(&sec, LEFT, RIGHT, None, &client)?;
    serves(&sec, &client)?;
    sec.power_cut()
}

pub(crate) fn three_debians_lose_their_pri(ctx: &Context) -> Result<()> {
    let trio = Trio::get()?;
    let lan = ctx.lan("office")?;
    let client = ctx.client("client", &lan, "192.168.77.9/24")?;
    acted(ctx, trio.servers(ctx, &lan)?, |servers| {
        let [a, b, c] = servers;
        up([a, b, c])?;
        verify_patiently(&[a, b, c], a, INTERVAL, None)?;
        for server in [&*b, c, a] {
            long(server, "ssSyncCtrl start")?;
        }
        ready(a, &[("SEC1", "yes", ""), ("SEC2", "yes", "")])?;
        ctx.note("both secondaries are ready")?;
        a_change_arrives(a, &[b, c])?;
        ctx.note("a change has arrived")?;
        a_fault_is_told(a, b)?;
        ctx.note("a fault was told, and its end")?;
        a.sh(WRITTEN)?;
        nobody_serves(ctx, a, b, c)?;
        each_becomes_pri(ctx, servers, &client)
    })
}

/// Waits until `atlas status` on PRI says so of each secondary, with a reason that has these words.
fn ready(pri: &Server, wanted: &[(&str, &str, &str)]) -> Result<()> {
    let start = Instant::now();
    loop {
        let output = pri.exec("atlas status --json", secs(60))?;
        let status: Value = serde_json::from_slice(&output.stdout)
            .with_context(|| format!("read the status: {}", output.error_text()))?;
        let is_so = |(role, answer, words): &(&str, &str, &str)| {
            let said = status["ready"].as_array().into_iter().flatten().find(|one| one["role"] == *role);
            said.is_some_and(|one| one["ready"] == *answer && one["reasons"].to_string().contains(words))
        };
        if wanted.iter().all(is_so) {
            return Ok(());
        }
        ensure!(start.elapsed() < std::time::Duration::from_secs(300), "not {wanted:?} but {:#}", status["ready"]);
        std::thread::sleep(std::time::Duration::from_secs(1));
    }
}

/// What a client of PRI writes last.
const WRITTEN: &str = "echo written just before > /unbound/www/index.html && sync -f /unbound/www/index.html";

/// A site is made on PRI.
fn change(pri: &Server) -> Result<()> {
    const SITE: &str = "server { listen 8080; return 200 \"cakes\\n\"; }\n";
    pri.write_file("/etc/nginx/conf.d/cakes.conf", SITE.as_bytes())?;
    pri.sh("systemctl reload nginx").map(drop)
}

/// It answers on a secondary.
fn arrives(server: &Server) -> Result<()> {
    secs(250).poll(&format!("cakes from {}", server.name()), || {
        Ok((server.exec("curl -s http://localhost:8080/", secs(60))?.text() == "cakes").then_some(()))
    })
}

/// A site that is made on PRI answers on both secondaries, and nobody types a word.
fn a_change_arrives(pri: &Server, secondaries: &[&Server]) -> Result<()> {
    change(pri)?;
    secondaries.iter().try_for_each(|server| arrives(server))?;
    ready(pri, &[("SEC1", "yes", ""), ("SEC2", "yes", "")])
}

fn stands_still(server: &Server) -> Result<()> {
    server.sh("systemctl stop nginx && ! systemctl is-active -q nginx").map(drop)
}

fn goes_on(server: &Server) -> Result<()> {
    server.sh("systemctl start nginx").map(drop)
}

/// A web server of SEC1 stands still: SEC1 is no standby any more, and SEC2 is.
fn a_fault_is_told(pri: &Server, sec1: &Server) -> Result<()> {
    stands_still(sec1)?;
    ready(pri, &[("SEC1", "no", "nginx"), ("SEC2", "yes", "")])?;
    goes_on(sec1)?;
    ready(pri, &[("SEC1", "yes", ""), ("SEC2", "yes", "")])
}

/// PRI loses its power. SEC1 tells, by its own channel and with what to do, and SEC2 leaves it at that.
fn nobody_serves(ctx: &Context, pri: &mut Server, sec1: &Server, sec2: &Server) -> Result<()> {
    for server in [sec1, sec2] {
        server.sh(&format!(": > {TOLD}"))?;
    }
    dies(ctx, pri, sec1)?;
    ensure!(!tells(sec2)?, "SEC2 told the same");
    Ok(())
}

/// PRI loses its power, and SEC1 tells.
fn dies(ctx: &Context, pri: &mut Server, sec1: &Server) -> Result<()> {
    pri.power_cut()?;
    let died = Instant::now();
    secs(TOLD_WITHIN + EMULATED).poll("SEC1 to tell that nobody serves", || Ok(tells(sec1)?.then_some(())))?;
    ctx.note(&format!("told {} s after PRI lost its power", died.elapsed().as_secs()))?;
    let status = sec1.exec("atlas status", secs(60))?;
    ensure!(status.code != 0, "a secondary whose PRI is dead calls that well: {}", status.text());
    Ok(())
}

/// Whether a secondary has told that nobody serves, and what to do.
fn tells(server: &Server) -> Result<bool> {
    let text = server.exec(&format!("cat {TOLD}"), secs(60))?.text();
    Ok(text.contains("nobody serves") && text.contains("put both of PRI's front disks"))
}

/// PRI's disks move to SEC1's server, and on to SEC2's.
fn each_becomes_pri(ctx: &Context, [a, b, c]: &mut [Server; 3], client: &Server) -> Result<()> {
    down([b])?;
    drop(take_out(b, B)?);
    move_set(a, A, b)?;
    up([b])?;
    assert_is(b, A, B, None, client)?;
    serves(b, client)?;
    ctx.note("the server of Debian 11 was PRI")?;
    b.power_cut()?;
    down([c])?;
    drop(take_out(c, C)?);
    move_set(b, A, c)?;
    up([c])?;
    let report: Value = serde_json::from_slice(&c.read_file("/run/atlas/boot.json")?)?;
    let from = report["converted_from"].as_u64().and_then(|from| u32::try_from(from).ok());
    ensure!(from.is_some_and(|from| from < C.env_version), "PRI of an older release was not converted: {report:#}");
    assert_is(c, A, C, from, client)?;
    serves(c, client)?;
    ctx.note("the server of Debian 13 was PRI")?;
    c.power_cut()
}

/// Its clients' data, and the site that came by a cycle.
fn serves(server: &Server, client: &Server) -> Result<()> {
    let page = client.sh(&format!("timeout 20 wget -qO- http://{PRI_ADDRESS}/"))?;
    ensure!(page == "written just before", "{} serves {page:?}", server.name());
    let site = client.sh(&format!("timeout 20 wget -qO- http://{PRI_ADDRESS}:8080/"))?;
    ensure!(site == "cakes", "{} serves {site:?}", server.name());
    Ok(())
}
