//! `atlas notices`: what the programs of ATLAS noticed on this server and nobody has dealt with, and saying that somebody has.

use anyhow::Context;
use atlas_cli::{
    Common, Exit, Hint,
    notice::{self, Notice, Waiting},
    print, print_json,
};
use atlas_model::time::utc;
use serde::Serialize;

/// Which notices, and what to do with them.
#[derive(Clone, Debug, clap::Args)]
pub struct NoticesArgs {
    /// What to do; without it they are listed
    #[command(subcommand)]
    verb: Option<Verb>,
}

#[derive(Clone, Debug, clap::Subcommand)]
enum Verb {
    /// Say that notices are dealt with: they are no finding any more, and are forgotten
    #[command(after_help = "Examples:
  atlas notices done atlas-module-bakeOven
  atlas notices done --all")]
    Done {
        /// Which, by the names that 'atlas notices' shows
        #[arg(value_name = "NOTICE", required_unless_present = "all")]
        notices: Vec<String>,
        /// All that wait now
        #[arg(long, conflicts_with = "notices")]
        all: bool,
    },
}

#[derive(Serialize)]
struct Listed<'a> {
    format: u32,
    notices: Vec<One<'a>>,
    unreadable: Vec<Unreadable<'a>>,
}

#[derive(Serialize)]
struct One<'a> {
    id: &'a str,
    #[serde(flatten)]
    notice: &'a Notice,
}

#[derive(Serialize)]
struct Unreadable<'a> {
    id: &'a str,
    why: &'a str,
}

#[derive(Serialize)]
struct Ended {
    format: u32,
    done: Vec<String>,
}

/// Lists them, or ends some.
pub(crate) fn run(args: &NoticesArgs, common: &Common) -> anyhow::Result<Exit> {
    let waiting = notice::waiting(&common.root).context("read the notices of this server").hint("run it as root")?;
    match &args.verb {
        None => list(&waiting, common),
        Some(Verb::Done { notices, all }) => {
            let every = waiting.notices.iter().map(|(id, _)| id).chain(waiting.unreadable.iter().map(|(id, _)| id));
            let chosen = if *all { every.cloned().collect() } else { notices.clone() };
            done(chosen, common)
        }
    }
}

fn list(waiting: &Waiting, common: &Common) -> anyhow::Result<Exit> {
    if common.json {
        let notices = waiting.notices.iter().map(|(id, notice)| One { id, notice }).collect();
        let unreadable = waiting.unreadable.iter().map(|(id, why)| Unreadable { id, why }).collect();
        print_json(&Listed { format: 1, notices, unreadable })?;
    } else {
        print(tell(waiting))?;
    }
    let is_none = waiting.notices.is_empty() && waiting.unreadable.is_empty();
    Ok(if is_none { Exit::Done } else { Exit::No })
}

fn tell(waiting: &Waiting) -> String {
    let mut text = String::new();
    for (id, notice) in &waiting.notices {
        let times = match notice.count {
            0 | 1 => format!("{} UTC", utc(notice.last)),
            count => format!("{count} times, from {} to {} UTC", utc(notice.first), utc(notice.last)),
        };
        text.push_str(&format!("{id}\n  {} ({}; {times})\n", notice.title, notice.source));
        notice.text.lines().for_each(|line| text.push_str(&format!("    {line}\n")));
    }
    for (id, why) in &waiting.unreadable {
        text.push_str(&format!("{id}\n  cannot be read: {why}\n"));
    }
    match text.is_empty() {
        true => "no notice waits on this server\n".into(),
        false => text + "\nwhen one is dealt with: atlas notices done NAME\n",
    }
}

fn done(chosen: Vec<String>, common: &Common) -> anyhow::Result<Exit> {
    let mut ended = vec![];
    for id in chosen {
        let was_there = notice::done(&common.root, &id).context("end the notice").hint("run it as root")?;
        if !was_there {
            let others = if ended.is_empty() { String::new() } else { format!("; done are: {}", ended.join(", ")) };
            return Err(anyhow::anyhow!("no notice is called {id:?}{others}")).hint("atlas notices");
        }
        ended.push(id);
    }
    if common.json {
        print_json(&Ended { format: 1, done: ended })?;
    } else if ended.is_empty() {
        print("no notice waits on this server\n")?;
    } else {
        print(format!("done: {}\n", ended.join(", ")))?;
    }
    Ok(Exit::Done)
}
