//! An hour in which nothing is wrong: nobody may be told anything. Then something is, and somebody is told: it was not the channel that was dead.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};

use super::{INTERVAL, TOLD, all_clear, verified};
use crate::{Context, Server, secs};

/// How long nothing happens; `ATLAS_QUIET_SECONDS` says another.
const HOUR: u64 = 3600;

/// Both servers are verified every few seconds for an hour, and not one alert is given.
pub(crate) fn nothing_is_wrong_for_an_hour(ctx: &Context) -> Result<()> {
    let lan = ctx.lan("office")?;
    let (pri, sec) = verified(ctx, &lan)?;
    let length = std::env::var("ATLAS_QUIET_SECONDS").ok().and_then(|text| text.parse().ok()).unwrap_or(HOUR);
    // What was told while they came up was so, and so is that it is over.
    for server in [&pri, &sec] {
        settled(server)?;
    }
    for server in [&pri, &sec] {
        server.sh(&format!(": > {TOLD}"))?;
    }
    let checks = [checked(&pri)?, checked(&sec)?];
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_secs(length) {
        std::thread::sleep(Duration::from_secs(60.min(length)));
        for server in [&pri, &sec] {
            let told = server.sh(&format!("cat {TOLD}"))?;
            let after = begun.elapsed().as_secs();
            ensure!(told.is_empty(), "nothing is wrong, and after {after} s {} told:\n{told}", server.name());
        }
    }
    let done: Vec<u64> = [&pri, &sec]
        .into_iter()
        .zip(checks)
        .map(|(server, before)| Ok(checked(server)? - before))
        .collect::<Result<_>>()?;
    // Not quiet because nothing was verified: three checks at least in ten intervals, of each server's more than ten instances.
    ensure!(
        done.iter().all(|count| *count > length / INTERVAL * 3),
        "in {length} s only {done:?} processes were begun"
    );
    println!(
        "      {length} s in which nothing was wrong: no alert; processes begun meanwhile on PRI and SEC1: {done:?}"
    );

    sec.sh("systemctl stop nginx")?;
    let stopped = Instant::now();
    while !pri.sh(&format!("cat {TOLD}"))?.contains("SEC1/web") {
        ensure!(stopped.elapsed() < Duration::from_secs(120), "a stopped web server is not told by the same channel");
        std::thread::sleep(Duration::from_secs(1));
    }
    sec.sh("systemctl start nginx")?;
    all_clear(&pri, Duration::from_secs(120)).map(drop)
}

/// Waits until the server knows of nothing that is wrong, itself included, and has told so.
fn settled(server: &Server) -> Result<()> {
    let begun = Instant::now();
    while server.exec("VerifierResults", secs(60))?.code != 0 {
        ensure!(
            begun.elapsed() < Duration::from_secs(300),
            "{}: {}",
            server.name(),
            server.sh("VerifierResults || :")?
        );
        std::thread::sleep(Duration::from_secs(1));
    }
    std::thread::sleep(Duration::from_secs(INTERVAL));
    Ok(())
}

/// How many processes the server has begun: each check is one.
fn checked(server: &Server) -> Result<u64> {
    let line = server.sh("grep '^processes' /proc/stat")?;
    line.split_whitespace()
        .nth(1)
        .and_then(|number| number.parse().ok())
        .context("no number of processes in /proc/stat")
}
