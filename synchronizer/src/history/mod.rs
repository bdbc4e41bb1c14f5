//! `atlas-history`, run by `atlas history`: what changed on the servers, when and by whom; and the way back [309-310].
//!
//! Every Snapshot Create that finds a change records it (`atlas_sid::history`). Nothing is ever removed from the history: text compresses well,
//! and git gathers it. Where it must be shortened nevertheless, git does that: `git --git-dir /unbound/SID_DATA/history …`.

mod restore;
mod when;

use crate::server::Server;
use anyhow::Context;
use atlas_cli::{Common, Exit, Hint, Table, print, print_json};
use atlas_model::{Role, TreePath};
use atlas_sid::history::query::{self, Commit, QueryError, When};
use clap::{CommandFactory, Parser, Subcommand};
use std::io::Write;

/// Show what changed on the servers, and bring files back
///
/// Every change that a Snapshot Create finds is recorded, on this server and, as soon as it is received, of every partner. The history is a git
/// repository: git --git-dir /unbound/SID_DATA/history log -p
#[derive(Clone, Debug, Parser)]
#[command(
    name = "atlas-history",
    version,
    after_help = "Examples:
  atlas history                                      the last changes of all servers
  atlas history --role SEC1                          what cycles installed on SEC1, and what they undid there
  atlas history show 3f2a                            one change, line by line
  atlas history diff /etc/nginx --from '2 days ago'
  atlas history restore /etc/nginx/nginx.conf --at '2026-03-01 12:00' --dry-run
  atlas history restore --all --at 3f2a

Times are UTC. Exit codes: 0 done, 1 failed, 2 called wrongly."
)]
pub struct Args {
    /// What to do; without it, the last changes are listed.
    #[command(subcommand)]
    pub command: Option<Verb>,
    /// Which changes to list.
    #[command(flatten)]
    pub list: ListArgs,
    /// How to do and tell it.
    #[command(flatten)]
    pub common: Common,
}

/// Which changes to list.
#[derive(Clone, Debug, clap::Args)]
pub struct ListArgs {
    /// Of this Role only; of a secondary: what cycles installed there, and what they undid there, with who had changed it where its logs name them
    #[arg(long)]
    role: Option<Role>,
    /// At most so many of each Role
    #[arg(long, short = 'n', default_value_t = 20, value_name = "COUNT")]
    max: usize,
}

/// Of whose history.
#[derive(Clone, Debug, clap::Args)]
pub struct Whose {
    /// The Role; this server's own where none is named
    #[arg(long)]
    role: Option<Role>,
}

/// What `atlas-history` does.
#[derive(Clone, Debug, Subcommand)]
pub enum Verb {
    /// Show what one change changed
    Show {
        /// The beginning of its name
        id: String,
        /// Of whose history
        #[command(flatten)]
        whose: Whose,
    },
    /// Show what changed between two moments
    Diff {
        /// Only this file, or what lies below this directory
        #[arg(value_parser = TreePath::parse)]
        path: Option<TreePath>,
        /// The earlier moment, a time or the beginning of a change's name; where none is named, before the last change
        #[arg(long, value_name = "WHEN", value_parser = when::parse)]
        from: Option<When>,
        /// The later one; where none is named, the last change
        #[arg(long, value_name = "WHEN", value_parser = when::parse)]
        to: Option<When>,
        /// Of whose history
        #[command(flatten)]
        whose: Whose,
    },
    /// Put a file, a directory or everything back to how it was; on PRI
    ///
    /// With owner, mode, access lists and attributes of that time. What is there now is recorded first, so this can be undone. Services that
    /// read the files are not reloaded here; the secondaries follow at the next cycle.
    Restore(restore::Args),
}

/// The definition of the program, for man pages and completions.
pub fn command() -> clap::Command {
    Args::command()
}

/// Runs the program.
pub fn run(args: &Args) -> anyhow::Result<Exit> {
    let server = Server::open(&args.common.root)?;
    match &args.command {
        None => list(&server, &args.list, args.common.json),
        Some(Verb::Show { id, whose }) => {
            let commit = by_id(&server, whose.role.or(args.list.role), id)?;
            show(&server, None, &commit, None)
        }
        Some(Verb::Diff { path, from, to, whose }) => {
            let role = whose.role.or(args.list.role).unwrap_or(server.role());
            let to = to.as_ref().unwrap_or(&When::Time(u64::MAX));
            let to = found(query::at(&server.sid, role, to))?;
            let from = from.as_ref().map(|from| found(query::at(&server.sid, role, from))).transpose()?;
            show(&server, from.as_ref(), &to, path.as_ref())
        }
        Some(Verb::Restore(restore)) => restore::run(&server, restore, args.common.json),
    }
}

/// The change of this name; where no Role is named, of whichever server's history the list shows.
fn by_id(server: &Server, role: Option<Role>, id: &str) -> anyhow::Result<Commit> {
    let at = |role: Role| query::at(&server.sid, role, &When::Commit(id.to_owned()));
    let own = at(role.unwrap_or(server.role()));
    if role.is_some() || own.is_ok() {
        return found(own);
    }
    let partners = server.config.partners().iter().filter_map(|partner| at(partner.role).ok());
    let others: Vec<Commit> = partners.collect();
    match <[Commit; 1]>::try_from(others) {
        Ok([commit]) => Ok(commit),
        Err(_) => found(own),
    }
}

/// An answer of the history, or what to try.
fn found(answer: Result<Commit, QueryError>) -> anyhow::Result<Commit> {
    let hint = match &answer {
        Err(QueryError::Sid(_)) => {
            "git --git-dir /unbound/SID_DATA/history fsck shows whether it is damaged; the next change begins a new one"
        }
        _ => "'atlas history' lists what there is; --role names another server's",
    };
    answer.context("look into the history").hint(hint)
}

fn show(server: &Server, from: Option<&Commit>, to: &Commit, path: Option<&TreePath>) -> anyhow::Result<Exit> {
    let mut out = std::io::stdout().lock();
    let from = from.map(|from| &from.id);
    let shown = query::patch(&server.sid, from, &to.id, path, &mut out).context("show what changed")?;
    out.flush()?;
    // Said beside the patch, which is empty for whoever reads it by program.
    if shown == 0 {
        let what = path.map_or_else(|| "anything".to_owned(), TreePath::to_string);
        eprintln!("no change of {what} is recorded there; what is on no list of paths is not recorded at all");
    }
    Ok(Exit::Done)
}

fn list(server: &Server, which: &ListArgs, json: bool) -> anyhow::Result<Exit> {
    let partners = server.config.partners().iter().map(|partner| partner.role);
    let mut roles: Vec<Role> = std::iter::once(server.role()).chain(partners).collect();
    roles.sort();
    if let Some(role) = which.role {
        roles = vec![role];
    }
    let mut commits = Vec::new();
    for role in roles {
        commits.extend(query::log(&server.sid, role, which.max).context("read the history")?);
    }
    commits.sort_by_key(|commit| std::cmp::Reverse(commit.time));
    if json {
        print_json(&serde_json::json!({ "format": 1, "commits": commits }))?;
        return Ok(Exit::Done);
    }
    if commits.is_empty() {
        print("nothing was recorded yet; 'ssSync create' records what it finds\n")?;
        return Ok(Exit::Done);
    }
    let mut table = Table::new(["ID", "TIME", "SERVER", "ROLE", "ENV", "FILES", "SIZE", "CAUSE"]);
    for commit in &commits {
        table.row([
            format!("{:.10}", commit.id),
            when::shown(commit.time),
            commit.server.clone(),
            commit.role.to_string(),
            commit.env_version.number().to_string(),
            commit.files.to_string(),
            size(commit.bytes),
            commit.cause.clone(),
        ]);
    }
    print(table)?;
    Ok(Exit::Done)
}

fn size(bytes: u64) -> String {
    match bytes {
        0..10_000 => format!("{bytes} B"),
        10_000..10_000_000 => format!("{} KB", bytes / 1000),
        _ => format!("{} MB", bytes / 1_000_000),
    }
}
