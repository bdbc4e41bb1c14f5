//! The secondary's side of a cycle: answers PRI, and nobody else, on standard input and output [208-209, 324].
//!
//! This is what PRI's key may run on a secondary, and all that it may run. Whatever comes is from another machine: the messages are
//! bounded and validated by `protocol`, the Snapshots by `sid`.

use crate::{
    compare, create, cycle, install,
    protocol::{Fault, Hello, Message, Wire, check_pri, due, introduce, receive, send},
    report::{self, now, timed},
    server::Server,
    who,
};
use anyhow::Context;
use atlas_cli::{Common, Exit, in_one_line};
use atlas_host::{
    process::Command,
    stream::{Hearing, Speaking},
    tree::Dir,
};
use atlas_model::{
    Role,
    cycle::{Problem, SYNCED, SecondaryReport, Step},
    manifest::FileSet,
};
use atlas_sid::{
    bond::Bond,
    convert::{self, Converters},
    create::{Created, adopt_list},
    drift::{self, Undone},
    left,
    lines::Lines,
    snapshot,
};
use std::{
    fs::File,
    io::{Read, Write},
    os::fd::AsFd,
    path::Path,
    sync::mpsc::{self, RecvTimeoutError},
    time::{Duration, Instant},
};

/// How often PRI hears that a step is still under way: well within [`cycle::SILENCE`].
const STILL_WORKING: Duration = Duration::from_secs(60);

/// Who changed something is looked for in logs this far back at most, in seconds.
const LOOK_BACK: u64 = 7 * 86_400;

/// Serves one conversation.
pub(crate) fn run(common: &Common) -> anyhow::Result<Exit> {
    let until = Instant::now() + cycle::WHOLE;
    let input = std::io::stdin().as_fd().try_clone_to_owned()?;
    let output = std::io::stdout().as_fd().try_clone_to_owned()?;
    let heard = Hearing::new(input, cycle::SILENCE, until)?;
    let said = Speaking::new(output, cycle::SILENCE, until)?;
    converse(&common.root, &mut Wire::new(heard, said)).map(|()| Exit::Done)
}

/// The whole conversation. Where it fails, PRI is told why.
pub(crate) fn converse<R: Read + Send, W: Write + Send>(root: &Path, wire: &mut Wire<R, W>) -> anyhow::Result<()> {
    let served = Server::open(root).and_then(|server| serve(&server, wire));
    if let Err(error) = &served {
        // PRI's report is where the reason is read; where PRI is gone, nobody can be told.
        let _ = match error.downcast_ref::<Fault>() {
            Some(Fault::Refused(why)) => wire.say(&Message::Refused { why: why.clone() }),
            Some(Fault::Partner(_) | Fault::Connection(_)) => Ok(()),
            _ => wire.say(&Message::Failed { why: in_one_line(error) }),
        };
    }
    served
}

/// Answers PRI from its first word to its last.
fn serve<R: Read + Send, W: Write + Send>(server: &Server, wire: &mut Wire<R, W>) -> anyhow::Result<()> {
    let pri = due!(wire, Message::Hello(hello) => hello, "Hello");
    let mut own = introduce(server, pri.role)?;
    // Who is called by another Role says who it is, so that both can tell the operator.
    let checked = check_pri(&own, &pri);
    own.to = pri.role;
    if let Err(why) = checked {
        tell_of_refusal(server, &pri, &why);
        // It may have found out by itself and be gone.
        let _ = wire.say(&Message::Hello(Box::new(own)));
        return Err(Fault::Refused(why).into());
    }
    let _alone = cycle::lock(&server.sid, "a cycle is under way here already")?;
    wire.say(&Message::Hello(Box::new(own)))?;
    receive(wire, &server.sid, Role::Pri).context("receive PRI's Snapshots")?;
    match wire.hear()? {
        Message::Bye => return Ok(()),
        Message::SyncUp => {}
        _ => return Err(Fault::Protocol("neither SyncUp nor Bye followed the Snapshots".into()).into()),
    }
    let report = sync_up(server, wire)?;
    report::publish(&server.root, SYNCED, &report)?;
    wire.say(&Message::SyncedUp { report: Box::new(report) })?;
    send(wire, &server.sid, server.role()).context("send this server's Snapshots back")?;
    let knot = due!(wire, Message::Tie { knot } => knot, "Tie");
    Bond { last: Some(knot), next: None }.write(&server.sid, Role::Pri)?;
    Ok(wire.say(&Message::Tied)?)
}

/// Whoever watches this server is told, too: the caller may be the one who is wrong.
fn tell_of_refusal(server: &Server, caller: &Hello, why: &str) {
    let title = format!("a call of {} was refused: {why}", caller.role);
    let text = "nothing was changed; see 'Role verification' in the manual before anything is swapped";
    // The refusal itself must not depend on whether somebody can be told.
    let _ = atlas_cli::notice::send(&server.path, "ssSync", &format!("refused-{}", caller.role), &title, text);
}

/// Takes over what PRI sent [208-209].
fn sync_up<R: Read + Send, W: Write + Send>(server: &Server, wire: &mut Wire<R, W>) -> anyhow::Result<SecondaryReport> {
    let (role, env_version) = (server.role(), server.env_version());
    let mut steps = Vec::new();
    // One that cannot be read is reported by the Create.
    let then = drift::manifest(&server.sid, role, env_version).ok().flatten();
    // What somebody changed here since the last cycle goes into the history before it is undone [310].
    let create::Taken { created: before, lists, .. } =
        working(wire, &mut steps, "create before", || create::snapshot(server, false))??;
    let local = local_change(&before);
    let found = local.is_some().then(|| drift::snapshot_dir(&server.sid, role, env_version)).transpose()?.flatten();

    let converters = Converters::of(&server.path);
    let converted = working(wire, &mut steps, "newer", || {
        convert::to_newer(&converters, &server.sid, Role::Pri, env_version)
            .with_context(|| format!("convert PRI's Snapshot to {env_version}"))
    })??;

    let generation = server.sid.role_dir(Role::Pri)?.map_or(Ok(0), |dir| snapshot::generation(&dir))?;
    let installed = working(wire, &mut steps, "install", || {
        let how = install::How { just_taken: true, ..install::How::default() };
        install::install_as(&server.root, &server.sid, role, env_version, generation, how)
            .context("install PRI's configuration")
    })??;

    let listed_anew = adopt_pri_list(server)?;
    // Where nothing was installed, the Snapshot before is that of what is here.
    let after = if listed_anew || installed.change_count > 0 || installed.completed {
        Some(working(wire, &mut steps, "create after", || create::snapshot(server, false))??.created)
    } else {
        None
    };
    let undone = match (then, &found, &after) {
        (Some(then), Some(found), Some(_)) => {
            undone(server, then, found).unwrap_or_else(|error| vec![format!("not known: {}", in_one_line(&error))])
        }
        _ => vec![],
    };
    let after_notes = after.iter().flat_map(|after| &after.notes);
    let notes = before.notes.iter().chain(&converted.notes).chain(after_notes);
    let mut problems: Vec<Problem> = notes.map(|note| report::of_conversion(role, note)).collect();
    problems.extend(lists.iter().map(|note| report::of_list(role, note)));
    problems.extend(installed.problems.iter().map(|what| needs_somebody(role, what)));
    Ok(SecondaryReport {
        format: 1,
        role,
        env_version,
        time: now(),
        installed: Some(generation),
        changed_locally: local.is_some(),
        local_commit: local.flatten(),
        undone,
        converted: converted.versions,
        would_boot: would_boot(server),
        problems,
        install: serde_json::to_value(&installed)?,
        steps,
    })
}

/// Whether the Snapshot before the installation found what somebody changed here; and its commit, if it was recorded.
///
/// The first Snapshot of all finds what was there before ATLAS. One after a cycle that was cut off finds what that cycle installed.
fn local_change(before: &Created) -> Option<Option<String>> {
    let recorded = before.recorded.as_ref();
    let is_local = before.changed && before.generation > 1 && recorded.is_none_or(|recorded| recorded.changed_here);
    is_local.then(|| recorded.map(|recorded| recorded.commit.to_string()))
}

/// What of a local change, found between `then` and `found`, is not here any more; noted where the Verifier looks.
fn undone(server: &Server, then: Lines<File>, found: &Dir) -> anyhow::Result<Vec<String>> {
    let after = drift::snapshot_dir(&server.sid, server.role(), server.env_version())?;
    let Some(after) = after else { return Ok(vec![]) };
    let mut changes = drift::undone(then, found, &after).context("find out what this cycle undid")?;
    let paths: Vec<_> = changes.keys().cloned().collect();
    let last = left::report::<SecondaryReport>(&server.root, SYNCED).map_or(0, |last| last.time);
    let since = last.max(now().saturating_sub(LOOK_BACK));
    for (path, who) in who::changed(&server.root, since, &paths.iter().collect::<Vec<_>>()) {
        changes.entry(path).and_modify(|what| *what = format!("{what}, {who}"));
    }
    if !changes.is_empty() {
        Undone::add(&server.root, now(), &changes).context("note what this cycle undid")?;
    }
    Ok(report::shortened(changes.iter().map(|(path, what)| format!("{path} ({what})"))))
}

/// Does a step, and tells PRI at its beginning, and for as long as it takes, that this server is at work.
///
/// The outer result is that of telling. Where PRI is gone the step is done all the same: nothing is left half done.
fn working<T, R: Read + Send, W: Write + Send>(
    wire: &mut Wire<R, W>,
    steps: &mut Vec<Step>,
    step: &str,
    work: impl FnOnce() -> T,
) -> Result<T, Fault> {
    every(STILL_WORKING, || wire.say(&Message::Working { step: step.into() }), || timed(steps, step, work))
}

/// Tells something now and after each `pause`, for as long as `work` takes.
fn every<T, E: Send>(
    pause: Duration,
    mut tell: impl FnMut() -> Result<(), E> + Send,
    work: impl FnOnce() -> T,
) -> Result<T, E> {
    tell()?;
    std::thread::scope(|scope| {
        let (end, ended) = mpsc::channel::<()>();
        let telling = scope.spawn(move || {
            while ended.recv_timeout(pause) == Err(RecvTimeoutError::Timeout) {
                tell()?;
            }
            Ok(())
        });
        let result = work();
        drop(end);
        // One that panicked has told nothing more; the next thing said finds out why.
        telling.join().unwrap_or(Ok(())).map(|()| result)
    })
}

fn needs_somebody(role: Role, what: &str) -> Problem {
    let hint = "mend it on PRI or on that server; what a check complained of is asked again by every cycle; 'ssSync install --retry' there tries at once what a service did not come up with";
    Problem { server: role, what: what.to_owned(), hint: hint.to_owned() }
}

/// What PRI synchronizes is what this server compares with: its list becomes one of the lists here.
///
/// Says whether it was another list before.
fn adopt_pri_list(server: &Server) -> anyhow::Result<bool> {
    let Some(dir) = server.sid.role_dir(Role::Pri)? else { return Ok(false) };
    let pri = dir.dir(server.env_version().dir_name())?;
    let Some(list) = snapshot::read_list(&pri, FileSet::Sync.list_name())? else { return Ok(false) };
    Ok(adopt_list(&server.sid, server.role(), server.env_version(), compare::PRI_LIST, &list)?)
}

/// Asks whether this server would boot into its role. What it would boot as after a swap depends on the same: the hook, the units, the
/// programs.
fn would_boot(server: &Server) -> Option<bool> {
    // Below another root the answer would be about this machine.
    if server.path != Path::new("/") {
        return None;
    }
    let check =
        Command::new("atlas").args(["init", "--check", "--json"]).deadline(Duration::from_secs(60)).output().ok()?;
    match check.status.code() {
        Some(0) => Some(true),
        Some(3) => Some(false),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_that_takes_long_is_told_of_again_and_again_and_a_word_that_fails_does_not_cut_it_off() {
        let pause = Duration::from_millis(5);
        let (told, tells) = mpsc::channel();
        let heard = move |times: usize| (0..times).all(|_| tells.recv_timeout(Duration::from_secs(10)).is_ok());
        let said = every(pause, || told.send(()), || heard(4));
        assert_eq!(said, Ok(true));

        let (mut words, mut done) = (0, false);
        let broken = every(
            pause,
            || {
                words += 1;
                if words == 1 { Ok(()) } else { Err("PRI is gone") }
            },
            || {
                std::thread::sleep(10 * pause);
                done = true;
            },
        );
        assert_eq!((broken, words, done), (Err("PRI is gone"), 2, true));
    }
}
