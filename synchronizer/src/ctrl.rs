//! `ssSyncCtrl`: what an operator controls the Synchronizer with [317, 306].

use crate::{
    cycle,
    report::{self, now},
    server::Server,
    suspend,
};
use anyhow::Context;
use atlas_cli::{Common, Exit, Hint, Style, Table, print, print_json};
use atlas_host::process::Command;
use atlas_model::{
    Role,
    cycle::{CycleReport, Outcome},
};
use atlas_sid::left::Suspended;
use clap::{CommandFactory, Parser, Subcommand};
use serde::Serialize;
use std::time::{Duration, Instant};

/// The service that runs ssSyncLoop.
const UNIT: &str = "ssSyncLoop.service";
/// How long 'suspend' waits for a cycle that is under way.
const WAIT: Duration = Duration::from_secs(600);

/// Start, stop, suspend and look at the Synchronizer
#[derive(Clone, Debug, Parser)]
#[command(
    name = "ssSyncCtrl",
    version,
    after_help = "Examples:
  ssSyncCtrl status                            how the last cycle went
  ssSyncCtrl suspend 'moving the mail store'   before a change that must not go out half made
  ssSyncCtrl resume                            when it is complete
  ssSyncCtrl now                               a cycle at once

Exit codes: 0 done, 1 failed, 2 called wrongly, 3 status: something is not as it should be."
)]
pub struct Args {
    /// What to do.
    #[command(subcommand)]
    pub command: Verb,
    /// How to do and tell it.
    #[command(flatten)]
    pub common: Common,
}

/// What `ssSyncCtrl` does.
#[derive(Clone, Debug, Subcommand)]
pub enum Verb {
    /// Start the service that begins the cycles, now and at every boot
    Start,
    /// Stop it
    Stop,
    /// Stop and start it
    Restart,
    /// Tell how the last cycle went, and whether cycles run
    Status,
    /// Let no cycle begin until 'resume'; waits for the one that is under way
    Suspend {
        /// What is being changed, for whoever sees the alert
        reason: String,
    },
    /// Let cycles begin again
    Resume,
    /// Run a cycle at once
    Now,
}

/// The definition of the program, for man pages and completions.
pub fn command() -> clap::Command {
    Args::command()
}

/// Runs the program.
pub fn run(args: &Args) -> anyhow::Result<Exit> {
    let common = &args.common;
    match &args.command {
        Verb::Start => systemctl(&["enable", "--now", UNIT]),
        Verb::Stop => systemctl(&["stop", UNIT]),
        Verb::Restart => systemctl(&["restart", UNIT]),
        Verb::Status => status(common),
        Verb::Suspend { reason } => hold(common, reason),
        Verb::Resume => resume(common),
        Verb::Now => cycle::run(common, &crate::CycleArgs { partners: vec![], rsh: None }),
    }
}

fn systemctl(args: &[&str]) -> anyhow::Result<Exit> {
    let command = Command::new("systemctl").args(args).deadline(Duration::from_secs(90));
    command.run().with_context(|| format!("{} {UNIT}", args[0])).hint(format!("see 'systemctl status {UNIT}'"))?;
    Ok(Exit::Done)
}

/// Acknowledged only when no cycle is under way: from then on a half-made change goes nowhere [306].
fn hold(common: &Common, reason: &str) -> anyhow::Result<Exit> {
    let server = pri(common)?;
    suspend::suspend(&server.sid, now(), reason)?;
    let until = Instant::now() + WAIT;
    loop {
        match cycle::lock(&server.sid, "a cycle is still under way") {
            Ok(_ended) => break,
            Err(error) if Instant::now() >= until => {
                return Err(error).context("suspended, but the cycle that is under way does not end");
            }
            Err(_) => std::thread::sleep(Duration::from_millis(200)),
        }
    }
    tell_done(common, "suspended; no cycle is under way")
}

fn resume(common: &Common) -> anyhow::Result<Exit> {
    let was = suspend::resume(&pri(common)?.sid)?;
    tell_done(common, if was { "resumed" } else { "it was not suspended" })
}

#[derive(Serialize)]
struct Done<'a> {
    format: u32,
    done: &'a str,
}

fn tell_done(common: &Common, done: &str) -> anyhow::Result<Exit> {
    if common.json {
        print_json(&Done { format: 1, done })?;
    } else {
        print(format!("{done}\n"))?;
    }
    Ok(Exit::Done)
}

fn pri(common: &Common) -> anyhow::Result<Server> {
    let server = Server::open(&common.root)?;
    if server.role() == Role::Pri {
        return Ok(server);
    }
    Err(anyhow::anyhow!("this server is {}; PRI drives the cycles", server.role())).hint("run it on PRI")
}

#[derive(Serialize)]
struct Status {
    format: u32,
    role: Role,
    /// Of ssSyncLoop: `active`, `inactive`, `failed`; unknown where systemd cannot say.
    service: String,
    suspended: Option<Suspended>,
    last: Option<CycleReport>,
    /// Seconds since the last cycle began.
    age: Option<u64>,
    good: bool,
}

fn status(common: &Common) -> anyhow::Result<Exit> {
    let server = Server::open(&common.root)?;
    let service = Command::new("systemctl").args(["is-active", UNIT]).output();
    let service = service.map_or("unknown".to_owned(), |output| output.text().trim().to_owned());
    let suspended = Suspended::read(&server.sid)?;
    let last = report::last(&server.root);
    let age = last.as_ref().map(|last| now().saturating_sub(last.time));
    let good = suspended.is_none() && service == "active" && last.as_ref().is_some_and(CycleReport::is_good);
    let good = good || server.role() != Role::Pri;
    let status = Status { format: 1, role: server.role(), service, suspended, last, age, good };
    if common.json {
        print_json(&status)?;
    } else {
        print(tell(&status))?;
    }
    Ok(if good { Exit::Done } else { Exit::No })
}

fn tell(status: &Status) -> String {
    let style = Style::stdout();
    if status.role != Role::Pri {
        return format!("this server is {}; PRI drives its cycles\n", status.role);
    }
    let mut table = Table::new(["", ""]);
    table.row(["service", &status.service]);
    if let Some(suspended) = &status.suspended {
        let minutes = now().saturating_sub(suspended.since) / 60;
        table.row(["suspended".to_owned(), style.yellow(&format!("for {minutes} min: {}", suspended.reason))]);
    }
    match (&status.last, status.age) {
        (Some(last), Some(age)) => {
            table.row(["last cycle".to_owned(), format!("{age} s ago, generation {}", last.generation)]);
            for partner in &last.partners {
                let outcome = match partner.outcome {
                    Outcome::Synced => style.green("synced"),
                    other => style.red(&format!("{other:?}").to_lowercase()),
                };
                table.row([partner.role.to_string(), outcome]);
            }
            for problem in &last.problems {
                table.row([style.yellow("problem"), format!("{}: {}", problem.server, problem.what)]);
            }
        }
        _ => table.row(["last cycle".to_owned(), style.yellow("none since the boot")]),
    }
    table.to_string()
}
