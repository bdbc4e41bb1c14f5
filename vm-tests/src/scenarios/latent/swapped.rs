//! Whether *no* was true: ten faults with which a swap is said to fail, and the swap. Before them a swap without a fault, after which all that they
//! are to break works: what is broken after the second one was broken by them.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};

use super::super::cast::{LEFT, RIGHT};
use super::super::failover::{move_set, take_out};
use super::super::trio::up;
use super::{AT_MOST, Fault, all_clear, ready, run, wrong};
use super::{applications::APPLICATIONS, faults::FAULTS, rests::RESTS, unseen::UNSEEN};
use crate::{Context, Server, secs};

/// A fault, and what works after a swap without it: a command on the server that is PRI then.
type Broken = (&'static str, &'static str);

/// Those that leave each other alone.
const TOGETHER: [Broken; 9] = [
    ("sshd disabled at boot", "timeout 10 bash -c 'head -c 4 < /dev/tcp/192.168.77.1/22' | grep -q SSH-"),
    ("a synchronised file gone", "exportfs | grep -q /unbound/share"),
    ("web configuration broken, not yet loaded", "curl -fs --max-time 20 http://192.168.77.1/ | grep -q home"),
    ("an application's program gone", "curl -fs --max-time 20 http://127.0.0.1:5000/ | grep -q orders"),
    ("PHP disabled", "systemctl is-active -q php8.2-fpm && test -S /run/php/php8.2-fpm.sock"),
    ("a container's directory gone", "curl -fs --max-time 20 http://127.0.0.1:5001/ | grep -q flour"),
    (
        "a unit whose working directory is gone",
        "test -z \"$(systemctl list-units --failed --plain --no-legend job.service)\"",
    ),
    ("the Verifier masked", "systemctl is-active -q VerifierControl"),
    ("an ATLAS program gone", "ssSync create"),
];
/// One that closes the network for all others.
const ALONE: Broken = ("the gate masked", "ping -c 1 -W 5 192.168.77.1");
/// How long what works after a boot may need for that, emulated.
const STARTED: Duration = Duration::from_secs(120);

/// PRI's disks move to the server of SEC1, in which these faults are, and it is not what it had to be. Returns how many faults there were.
pub(super) fn ten_swaps_fail(ctx: &Context, pri: &mut Server, sec: &mut Server, client: &Server) -> Result<usize> {
    swap(pri, sec)?;
    for (name, works) in TOGETHER {
        let begun = Instant::now();
        while sec.exec(works, secs(90))?.code != 0 {
            ensure!(begun.elapsed() < STARTED, "without a fault, and this fails after a swap ({name}): {works}");
            std::thread::sleep(Duration::from_secs(2));
        }
    }
    let answers = |client: &Server| Ok::<_, anyhow::Error>(client.exec(ALONE.1, secs(30))?.code == 0);
    ensure!(answers(client)?, "without a fault, and PRI does not answer its client after a swap");
    ctx.note("without a fault, all of it works after a swap")?;
    swap_back(pri, sec)?;

    let together = TOGETHER.map(|(name, _)| name);
    said_no(pri, sec, &together)?;
    swap(pri, sec)?;
    // What would come up has come up: the server has booted, and had the time that the others needed.
    std::thread::sleep(STARTED / 4);
    for (name, works) in TOGETHER {
        ensure!(
            sec.exec(works, secs(90))?.code != 0,
            "'{name}' was called a no, and after the swap this works: {works}"
        );
    }
    ctx.note(&format!("{} faults, each of them real after a swap", TOGETHER.len()))?;
    together.iter().try_for_each(|name| run(sec, named(name)?.undo))?;
    swap_back(pri, sec)?;

    said_no(pri, sec, &[ALONE.0])?;
    swap(pri, sec)?;
    ensure!(!answers(client)?, "'{}' was called a no, and after the swap PRI answers its client", ALONE.0);
    ctx.note("the closed gate is real after a swap")?;
    run(sec, named(ALONE.0)?.undo)?;
    Ok(TOGETHER.len() + 1)
}

/// The faults are brought about, and PRI says no, and names each.
fn said_no(pri: &Server, sec: &Server, names: &[&str]) -> Result<()> {
    let faults: Vec<Fault> = names.iter().map(|name| named(name)).collect::<Result<_>>()?;
    for fault in &faults {
        ensure!(fault.breaks, "'{}' is not called a no", fault.name);
        run(sec, fault.inject).with_context(|| format!("bring about: {}", fault.name))?;
        ensure!(sec.exec(fault.is_there, secs(60))?.code == 0, "'{}' is not there", fault.name);
    }
    let begun = Instant::now();
    loop {
        let wrong = wrong(pri)?;
        let is_said = |fault: &&Fault| wrong.iter().any(|said| fault.names.iter().any(|words| said.contains(words)));
        let unsaid: Vec<&str> = faults.iter().filter(|fault| !is_said(fault)).map(|fault| fault.name).collect();
        if unsaid.is_empty() {
            break;
        }
        ensure!(begun.elapsed() < AT_MOST, "PRI does not say: {}; but: {}", unsaid.join(", "), wrong.join("; "));
        std::thread::sleep(Duration::from_secs(1));
    }
    let said = ready(pri, true)?;
    ensure!(said == "no", "with {} faults, one could fail over: {said}", faults.len());
    Ok(())
}

fn named(name: &str) -> Result<Fault> {
    let all = [FAULTS, UNSEEN, RESTS, APPLICATIONS].concat();
    all.into_iter().find(|fault| fault.name == name).with_context(|| format!("no fault is called '{name}'"))
}

/// PRI's server fails, its disks move to SEC1's, which boots. SEC1's lie on the table, in PRI's server.
fn swap(pri: &mut Server, sec: &mut Server) -> Result<()> {
    pri.shutdown(secs(180))?;
    sec.shutdown(secs(180))?;
    let of_sec = take_out(sec, RIGHT)?;
    move_set(pri, LEFT, sec)?;
    of_sec.into_iter().try_for_each(|member| pri.insert(member))?;
    up([&mut *sec])?;
    let role = sec.sh("cat /etc/hostname")?;
    ensure!(role == LEFT.hostname, "the server of SEC1 is {role} with PRI's disks");
    Ok(())
}

/// Each gets its own again, and all is well.
fn swap_back(pri: &mut Server, sec: &mut Server) -> Result<()> {
    sec.shutdown(secs(180))?;
    let of_sec = take_out(pri, RIGHT)?;
    move_set(sec, LEFT, pri)?;
    of_sec.into_iter().try_for_each(|member| sec.insert(member))?;
    up([&mut *pri, &mut *sec])?;
    all_clear(pri, Duration::from_secs(400)).map(drop).context("after the servers have their own disks again")
}
