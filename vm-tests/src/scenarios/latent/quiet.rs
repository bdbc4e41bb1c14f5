//! An hour in which nothing is wrong, with one of each kind of service and the cycles that come by themselves: nobody may be told anything, not while
//! both servers are busy either. Then something is wrong, and somebody is told: it was not the channel that was dead.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};

use super::super::services::{Cycles, exercising};
use super::{TOLD, all_clear, channel};
use crate::{Context, Server, secs};

/// How long nothing happens; `ATLAS_QUIET_SECONDS` says another.
const HOUR: u64 = 3600;
/// For so much of it both servers have other things to do.
const BUSY: f64 = 1.0 / 6.0;
/// Programs that take all of the processor meanwhile: with what a server does besides, a load of about 4.
const BUSY_PROGRAMS: usize = 3;

/// Both servers are verified all the time for an hour, and not one alert is given.
pub(crate) fn nothing_is_wrong_for_an_hour(ctx: &Context) -> Result<()> {
    let lan = ctx.lan("office")?;
    exercising(ctx, &lan, channel(), Cycles::Usual, |pri, sec| quiet(ctx, pri, sec))
}

fn quiet(ctx: &Context, pri: &Server, sec: &Server) -> Result<()> {
    let length = std::env::var("ATLAS_QUIET_SECONDS").ok().and_then(|text| text.parse().ok()).unwrap_or(HOUR);
    // What was told while they came up was so, and so is that it is over.
    for server in [pri, sec] {
        settled(server)?;
    }
    for server in [pri, sec] {
        super::keeps_what_is_told(server)?;
        server.sh(&format!(": > {TOLD}"))?;
    }
    let checks = [checked(pri)?, checked(sec)?];
    let begun = Instant::now();
    let third = Duration::from_secs(length / 3);
    let mut is_busy = false;
    while begun.elapsed() < Duration::from_secs(length) {
        if !is_busy && begun.elapsed() > third {
            is_busy = true;
            [pri, sec].into_iter().try_for_each(|server| busy(server, (length as f64 * BUSY) as u64))?;
            ctx.note("both are busy")?;
        }
        std::thread::sleep(Duration::from_secs(60.min(length)));
        for server in [pri, sec] {
            let told = server.sh(&format!("cat {TOLD}"))?;
            let after = begun.elapsed().as_secs();
            ensure!(told.is_empty(), "nothing is wrong, and after {after} s {} told:\n{told}", server.name());
        }
    }
    let done: Vec<u64> = [pri, sec]
        .into_iter()
        .zip(checks)
        .map(|(server, before)| Ok(checked(server)? - before))
        .collect::<Result<_>>()?;
    // Not quiet because nothing was verified: ten checks at least in each minute, of each server's more than twenty instances.
    ensure!(done.iter().all(|count| *count > length / 6), "in {length} s only {done:?} processes were begun");
    let line =
        format!("{length} s in which nothing was wrong: no alert; processes begun meanwhile on PRI and SEC1: {done:?}");
    println!("      {line}");
    ctx.note(&line)?;

    sec.sh("systemctl stop nginx && ! systemctl is-active -q nginx")?;
    let stopped = Instant::now();
    while !pri.sh(&format!("cat {TOLD}"))?.contains("SEC1/web") {
        ensure!(stopped.elapsed() < Duration::from_secs(300), "a stopped web server is not told by the same channel");
        std::thread::sleep(Duration::from_secs(1));
    }
    sec.sh("systemctl start nginx")?;
    all_clear(pri, Duration::from_secs(300)).map(drop)
}

/// Gives a server other things to do for so many seconds.
fn busy(server: &Server, seconds: u64) -> Result<()> {
    for number in 0..BUSY_PROGRAMS {
        server.sh(&format!(
            "systemd-run --quiet --unit=busy-{number} --property=RuntimeMaxSec={seconds} --property=SuccessExitStatus=124 \
             timeout {} sh -c 'while :; do :; done'",
            seconds.saturating_sub(5).max(1)
        ))?;
    }
    Ok(())
}

/// Waits until the server knows of nothing that is wrong, itself included, and has told so.
fn settled(server: &Server) -> Result<()> {
    let begun = Instant::now();
    while server.exec("VerifierResults", secs(60))?.code != 0 {
        ensure!(
            begun.elapsed() < Duration::from_secs(600),
            "{}: {}",
            server.name(),
            server.sh("VerifierResults || :")?
        );
        std::thread::sleep(Duration::from_secs(1));
    }
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
