//! `atlas status`: can I fail over right now? One screen, the answer first. A secondary answers for itself, and says whether PRI serves: on
//! the day it matters, PRI is not there to ask.
//!
//! ```text
//!   /run/atlas/boot.json      what this boot found            ─┐
//!   /run/atlas/cycle.json     what the last cycle found        │
//!   /run/atlas/synced.json    the same, on a secondary         ├─► facts, each with its age ─► readiness: a pure decision
//!   /run/atlas/verifier.json  what the Verifiers found         │
//!   MasterConfig, mdstat                                       ─┘
//! ```
//!
//! Invariant: what is not known is said to be unknown. A report that is older than it should be counts for nothing, however good it was.

mod facts;
mod readiness;
mod services;
mod standby;

use readiness::Reason;
pub use readiness::{Facts, Readiness, Ready};
pub use standby::Pri;

use atlas_cli::{Common, Exit, Style, Table, print, print_json};
use serde::Serialize;
use serde_json::json;
use std::{io::IsTerminal, time::Duration};

/// How `atlas status` is told.
#[derive(Clone, Debug, clap::Args)]
pub struct StatusArgs {
    /// Show it again and again, every few seconds, until it is interrupted
    #[arg(long)]
    pub watch: bool,
}

/// So much of what follows from one reason is shown.
const BELOW: usize = 6;

/// How often `--watch` looks.
const AGAIN: Duration = Duration::from_secs(5);

#[derive(Serialize)]
struct Answer<'a> {
    format: u32,
    #[serde(flatten)]
    facts: &'a Facts,
    ready: &'a [Readiness],
    /// Whether PRI serves, on a secondary.
    #[serde(skip_serializing_if = "Option::is_none")]
    pri: Option<&'a Pri>,
    /// What is wrong on this server itself.
    here: &'a [String],
}

/// Looks, decides and tells.
pub(crate) fn run(args: &StatusArgs, common: &Common) -> anyhow::Result<Exit> {
    loop {
        if let Some(reason) = facts::boot(&common.root).as_ref().and_then(services::without_role) {
            // It stays so until the next boot: there is nothing to watch.
            return tell_of_none(&reason, common);
        }
        let facts = facts::gather(&common.root)?;
        let ready = readiness::decide(&facts);
        let (here, pri) = (readiness::here(&facts), standby::pri(&facts));
        if common.json {
            print_json(&Answer { format: 1, facts: &facts, ready: &ready, pri: pri.as_ref(), here: &here })?;
        } else {
            let clear = if args.watch && std::io::stdout().is_terminal() { "\x1b[H\x1b[2J" } else { "" };
            print(format!("{clear}{}", tell(&facts, &ready, pri.as_ref(), &here)))?;
        }
        let good = here.is_empty()
            && ready.iter().all(|one| one.ready == Ready::Yes)
            && pri.as_ref().is_none_or(|pri| pri.serves == Ready::Yes);
        if !args.watch {
            return Ok(if good { Exit::Done } else { Exit::No });
        }
        std::thread::sleep(AGAIN);
    }
}

/// The answer of a server that has no role: nobody can fail over to it as it is.
fn tell_of_none(reason: &Reason, common: &Common) -> anyhow::Result<Exit> {
    if common.json {
        print_json(&json!({ "format": 1, "role": null, "ready": [], "here": [reason.what], "hint": reason.hint }))?;
    } else {
        let style = Style::stdout();
        let (head, no) = (style.bold("READY TO FAIL OVER TO THIS SERVER"), word(style, Ready::No));
        print(format!("{head}: {no}\n  {}\n    try: {}\n", reason.what, reason.hint))?;
    }
    Ok(Exit::No)
}

fn word(style: Style, ready: Ready) -> String {
    match ready {
        Ready::Yes => style.green("yes"),
        Ready::No => style.red("NO"),
        Ready::Unknown => style.yellow("UNKNOWN"),
    }
}

/// Whether PRI serves, and how old that is.
fn tell_of_pri(style: Style, pri: &Pri) -> String {
    let age = pri.heard_age.map_or("never heard".to_owned(), |age| format!("heard {age} s ago"));
    let mut text = format!("{}: {}\n  {} ({age})\n", style.bold("PRI SERVES"), word(style, pri.serves), pri.what);
    text.extend(pri.hint.iter().map(|hint| format!("    try: {hint}\n")));
    text
}

fn tell(facts: &Facts, ready: &[Readiness], pri: Option<&Pri>, here: &[String]) -> String {
    let style = Style::stdout();
    let mut text = pri.map(|pri| tell_of_pri(style, pri)).unwrap_or_default();
    for one in ready {
        text.push_str(&format!("{} {}: {}\n", style.bold("READY TO FAIL OVER TO"), one.role, word(style, one.ready)));
        for reason in &one.reasons {
            text.push_str(&format!("  {}\n    try: {}\n", reason.what, reason.hint));
            reason.follows.iter().take(BELOW).for_each(|one| text.push_str(&format!("    with it: {one}\n")));
            if reason.follows.len() > BELOW {
                let more = reason.follows.len() - BELOW;
                text.push_str(&format!("    with it: {more} more: VerifierResults causes {}\n", one.role));
            }
        }
        for remark in &one.remarks {
            text.push_str(&format!("  {} {}\n", style.yellow("look:"), remark.what));
        }
    }
    for what in here {
        text.push_str(&format!("{} {what}\n", style.red("here:")));
    }
    text.push('\n');
    let mut table = Table::new(["server", "env", "host", "synced", "generation", "as of", "services", "disks"]);
    let own = facts.env_version.map_or("?".into(), |version| version.to_string());
    let (cycle, synced) = (facts.cycle.as_ref(), facts.synced.as_ref());
    let generation = cycle.map(|cycle| cycle.generation).or_else(|| synced?.installed);
    table.row([
        format!("{} (this one)", facts.role),
        own,
        String::new(),
        String::new(),
        generation.map_or("?".into(), |generation| generation.to_string()),
        facts.synced_age.map_or(String::new(), |age| format!("{age} s ago")),
        services::count(facts, facts.role),
        facts.members.map_or("?".into(), |(wanted, there)| format!("{there} of {wanted}")),
    ]);
    for partner in cycle.iter().flat_map(|cycle| &cycle.partners) {
        let installed = partner.secondary.as_ref().and_then(|done| done.installed);
        table.row([
            partner.role.to_string(),
            partner.env_version.map_or("?".into(), |version| version.to_string()),
            partner.host.clone(),
            format!("{:?}", partner.outcome).to_lowercase(),
            installed.map_or("?".into(), |generation| generation.to_string()),
            facts.cycle_age.map_or("?".into(), |age| format!("{age} s ago")),
            services::count(facts, partner.role),
            services::verdict_of(facts, partner.role, "raid"),
        ]);
    }
    text + &table.to_string()
}
