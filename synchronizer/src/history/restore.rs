//! Putting files back to how they were.

use super::{found, when};
use crate::{create, server::Server};
use anyhow::Context;
use atlas_cli::{Exit, Hint, print, print_json};
use atlas_model::{
    TreePath,
    manifest::{Entry, FileSet, Kind},
    owners::Numbers,
};
use atlas_sid::{
    Snapshot, accounts,
    create::How,
    history::{
        Cause,
        query::{self, Commit, When},
    },
    install::{Plan, Protected, Staged, Trust, Wanted},
    snapshot::read_list,
};
use std::{
    collections::BTreeMap,
    io::{self, IsTerminal, Write},
};

/// What to put back.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// This file, or this directory with all that lies below it
    #[arg(required_unless_present = "all", conflicts_with = "all", value_parser = TreePath::parse)]
    path: Option<TreePath>,
    /// Everything that the Snapshot of that time holds
    #[arg(long)]
    all: bool,
    /// How it was then: a time in UTC, a while ago ('2 days ago'), or the beginning of a change's name
    #[arg(long, value_name = "WHEN", value_parser = when::parse)]
    at: When,
    /// Only say what would be done
    #[arg(long)]
    dry_run: bool,
    /// Do not ask
    #[arg(long)]
    yes: bool,
}

/// What was restored, or would be, as `--json` tells it.
#[derive(serde::Serialize)]
struct Answer<'a> {
    format: u32,
    commit: &'a Commit,
    changes: Vec<String>,
    /// What stays as it is, or gets another owner, and why.
    notes: Vec<String>,
    done: bool,
}

/// Puts files back, after the person has seen which.
pub(super) fn run(server: &Server, args: &Args, json: bool) -> anyhow::Result<Exit> {
    let role = server.role();
    if !role.is_primary() {
        return Err(anyhow::anyhow!("this server is {role}: the next cycle would undo what is restored here"))
            .hint("restore it on PRI; from there it comes here");
    }
    let commit = found(query::at(&server.sid, role, &args.at))?;
    if commit.env_version != server.env_version() {
        let (then, now) = (commit.env_version, server.env_version());
        return Err(anyhow::anyhow!("the files of that time are those of {then}, and this server is of {now}"))
            .hint("look at them with 'atlas history diff', and make the change by hand");
    }
    if !args.dry_run {
        create::snapshot(server, false).context("record what is there now, before anything is replaced")?;
    }
    let is_wanted = |path: &TreePath| args.path.as_ref().is_none_or(|wanted| path.is_within(wanted));
    let past =
        query::past(&server.sid, &commit, |_, path| is_wanted(path)).context("lay out the Snapshot of that time")?;
    let restore = Restore::of(server, past.snapshot()?, args.path.as_ref())?;
    let plans = restore.plans(server, past.snapshot()?)?;
    let changes = plans.iter().flat_map(Plan::changes).map(ToString::to_string).collect();
    let left = plans.iter().flat_map(Plan::left).map(|(path, why)| format!("{path} stays as it is: {why}"));
    let notes = restore.notes.iter().cloned().chain(left).collect();
    let mut answer = Answer { format: 1, commit: &commit, changes, notes, done: false };
    if args.dry_run || answer.changes.is_empty() {
        tell(&answer, json)?;
        return Ok(Exit::Done);
    }
    if !args.yes && !is_confirmed(&answer, json)? {
        print("nothing was changed\n")?;
        return Ok(Exit::Done);
    }
    let staged = Staged::of_all(&plans, &server.root).context("make the files ready; nothing was changed")?;
    staged.commit().context("put the files into place").hint("the changes were taken back; run it again")?;
    drop(plans);
    drop(past);
    create::snapshot_as(server, &How { reads_all: false, cause: Cause::Restored(commit.id.clone()) })
        .context("take a Snapshot of what was restored")?;
    answer.done = true;
    tell(&answer, json)?;
    Ok(Exit::Done)
}

/// The objects to put back, with the numbers of owners that this server has.
struct Restore {
    ident: Vec<Entry>,
    sync: Vec<Entry>,
    notes: Vec<String>,
}

impl Restore {
    fn of(server: &Server, snapshot: &Snapshot, path: Option<&TreePath>) -> anyhow::Result<Restore> {
        let here = accounts::owners_of(&server.root).context("read this server's accounts")?;
        let numbers = Numbers::between(snapshot.manifest.owners(), &here);
        let mut notes = Vec::new();
        let mut of = |set| {
            let mut entries: Vec<Entry> = snapshot.manifest.of_set(set).cloned().collect();
            entries.retain(|entry| path.is_none_or(|path| entry.path.is_within(path)));
            for entry in &mut entries {
                if let Kind::File { meta, .. } | Kind::Dir { meta } | Kind::Link { meta, .. } = &mut entry.kind
                    && !numbers.apply(meta)
                {
                    notes.push(format!("{} becomes root's: its owner of that time has no account here", entry.path));
                }
            }
            entries
        };
        let (mut ident, mut sync) = (of(FileSet::Ident), of(FileSet::Sync));
        if let Some(path) = path
            && ident.is_empty()
            && sync.is_empty()
        {
            // Listed, and not there: it was missing then.
            let absent = |set| vec![Entry { set, path: path.clone(), kind: Kind::Absent }];
            if snapshot.ident_paths.covers(path) {
                ident = absent(FileSet::Ident);
            } else if read_list(&snapshot.dir, FileSet::Sync.list_name())?.is_some_and(|list| list.covers(path)) {
                sync = absent(FileSet::Sync);
            } else {
                return Err(anyhow::anyhow!("{path} was on no list at that time, so it was not recorded"))
                    .hint("'atlas history diff' shows what was");
            }
        }
        Ok(Restore { ident, sync, notes })
    }

    /// What has to be done for each set. What belongs to the machine and not to its role stays as it is.
    fn plans<'a>(&'a self, server: &Server, snapshot: &Snapshot) -> anyhow::Result<Vec<Plan<'a>>> {
        let sets = [
            (
                FileSet::Sync,
                &self.sync,
                Protected { paths: snapshot.ident_paths.clone(), reserved: true, no_identity: false },
            ),
            (FileSet::Ident, &self.ident, Protected { no_identity: true, ..Protected::default() }),
        ];
        let mut plans = Vec::new();
        for (set, entries, protected) in sets {
            let wanted = Wanted {
                entries,
                files: snapshot.files(set)?,
                ways: BTreeMap::new(),
                made: BTreeMap::new(),
                protected,
                trust: Trust::Bytes,
                differing: None,
                removes_strangers: true,
            };
            plans.push(Plan::of(&server.root, wanted).context("compare with what is there now")?);
        }
        Ok(plans)
    }
}

fn tell(answer: &Answer<'_>, json: bool) -> anyhow::Result<()> {
    if json { print_json(answer) } else { print(text(answer)) }
}

fn text(answer: &Answer<'_>) -> String {
    let Answer { commit, changes, notes, done, .. } = answer;
    let mut text = format!("as recorded {} ({:.10}: {})\n", when::shown(commit.time), commit.id, commit.cause);
    for line in changes.iter().chain(notes) {
        text.push_str(&format!("  {line}\n"));
    }
    text.push_str(match (changes.is_empty(), done) {
        (true, _) => "nothing differs from that\n",
        (false, false) => "nothing was changed yet\n",
        (false, true) => "done; reload the services that read these files\n",
    });
    text
}

fn is_confirmed(answer: &Answer<'_>, json: bool) -> anyhow::Result<bool> {
    if json || !io::stdin().is_terminal() {
        return Err(anyhow::anyhow!("nobody is there to confirm it; nothing was changed"))
            .hint("see what would change with --dry-run, and give --yes");
    }
    let mut err = io::stderr().lock();
    write!(err, "{}put it back? [y/N] ", text(answer)).and_then(|()| err.flush()).context("ask")?;
    let mut line = String::new();
    io::stdin().read_line(&mut line).context("read the answer")?;
    Ok(matches!(line.trim(), "y" | "Y" | "yes"))
}
