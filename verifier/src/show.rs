//! The program VerifierResults: what the Verifier found, for people, and what people have to say about it.

use crate::{
    alerts::{Alert, Kind, channel::deliver},
    board::now,
    control::Identity,
    metrics,
    results::{Acknowledged, Maintenance},
    settings::Settings,
    store::{Event, Store},
};
use anyhow::Context;
use atlas_cli::{Common, Exit, Hint, Style, Table, in_one_line, print, print_json};
use atlas_host::tree::Dir;
use atlas_model::{
    Role,
    cycle::REPORTS,
    verify::{FINDINGS, Fault, Findings, HEARTBEAT, MAX_FINDINGS, Observed, Verdict, causes::Root, number},
};
use clap::{CommandFactory, Parser};

/// Show what the Verifier found, and say what is known about it
#[derive(Clone, Debug, Parser)]
#[command(
    name = "VerifierResults",
    version,
    after_help = "Examples:
  VerifierResults                                         everything that is verified, the worst first
  VerifierResults show SEC1/web/*:80                      one of them with all its measures
  VerifierResults causes                                  what is wrong, by cause, with what follows from it
  VerifierResults history SEC1/web                        when its verdict changed
  VerifierResults ack SEC1/web/*:80 'Ann looks into it'   no more alerts about this problem
  VerifierResults maintenance SEC1 --hours 2 'new disks'  no alerts about SEC1 for two hours
  VerifierResults alert-test                              whether alerts arrive

Exit codes: 0 done, 1 failed, 2 called wrongly, 3 something is not well."
)]
pub struct Args {
    /// What to do, if not to list everything.
    #[command(subcommand)]
    pub what: Option<What>,
    /// How to do and tell it.
    #[command(flatten)]
    pub common: Common,
}

/// What it can do.
#[derive(Clone, Debug, clap::Subcommand)]
pub enum What {
    /// List everything that is verified, the worst first
    List,
    /// Show one with all its measures
    Show {
        /// Which, as 'list' names it
        key: String,
    },
    /// List what is wrong by cause: all of it, and below each what follows from it
    Causes {
        /// Only on this server
        server: Option<Role>,
    },
    /// Show when verdicts changed and what was alerted
    History {
        /// Only what begins like this
        key: Option<String>,
        /// At most so many
        #[arg(long, default_value_t = 50)]
        last: usize,
    },
    /// Say that somebody takes care of a problem: it is not alerted again until it has ended
    Ack {
        /// Which, as 'list' names it
        key: String,
        /// Who takes care, and how
        why: String,
    },
    /// Say that changes are planned: no alerts until then
    Maintenance {
        /// A server (SEC1), or one service as 'list' names it
        subject: String,
        /// What is planned
        #[arg(required_unless_present = "end")]
        why: Option<String>,
        /// For how long
        #[arg(long, default_value_t = 1.0, value_parser = hours)]
        hours: f64,
        /// It is over already
        #[arg(long)]
        end: bool,
    },
    /// Send a test alert by every channel, and wait for what comes of it
    AlertTest {
        /// Only by this channel
        channel: Option<String>,
    },
    /// Print the metrics as Prometheus reads them
    Metrics,
}

fn hours(text: &str) -> Result<f64, String> {
    let hours: f64 = text.parse().map_err(|_| "it is no number".to_owned())?;
    if hours > 0.0 && hours <= 24.0 * 31.0 { Ok(hours) } else { Err("it is more than 0 and at most 744".into()) }
}

/// The definition of the program, for man pages and completions.
pub fn command() -> clap::Command {
    Args::command()
}

/// Runs the program.
pub fn run(args: &Args) -> anyhow::Result<Exit> {
    let common = &args.common;
    match args.what.as_ref().unwrap_or(&What::List) {
        What::List => list(common),
        What::Show { key } => show(common, key),
        What::Causes { server } => causes(common, *server),
        What::History { key, last } => history(common, key.as_deref(), *last),
        What::Ack { key, why } => acknowledge(common, key, why),
        What::Maintenance { subject, why, hours, end } => {
            maintain(common, subject, why.as_deref().filter(|_| !end), *hours)
        }
        What::AlertTest { channel } => alert_test(common, channel.as_deref()),
        What::Metrics => print(metrics::text(&findings(common)?)).map(|()| Exit::Done),
    }
}

/// What the Verifier on this server wrote last; an error where it does not live.
fn findings(common: &Common) -> anyhow::Result<Findings> {
    let tree = Dir::open_root(&common.root).context("open the server's tree")?;
    let content = tree.dir(REPORTS).ok().and_then(|dir| dir.read_if_there(FINDINGS, MAX_FINDINGS).ok().flatten());
    let content = content
        .context("the Verifier on this server has found nothing yet")
        .hint("systemctl status VerifierControl")?;
    let findings: Findings = serde_json::from_slice(&content).context("read what the Verifier found")?;
    let age = now().checked_sub(findings.time);
    let alive = age.is_some_and(|age| age <= HEARTBEAT);
    anyhow::ensure!(
        alive,
        "the Verifier on this server is dead or stuck: it wrote last {} s ago, and what it found then says nothing of now (systemctl status VerifierControl)",
        age.unwrap_or_default()
    );
    Ok(findings)
}

/// Everything that is known, with who observed it: the worst first.
fn everything(findings: &Findings) -> Vec<(Role, &Observed)> {
    let own = findings.observed.iter().map(|observed| (findings.role, observed));
    let heard = findings.heard.iter().filter_map(|heard| heard.findings.as_deref());
    let mut all: Vec<_> =
        own.chain(heard.flat_map(|said| said.observed.iter().map(|observed| (said.role, observed)))).collect();
    all.sort_by_key(|(by, observed)| {
        (std::cmp::Reverse(observed.profile.verdict.weight()), observed.key(), by.to_string())
    });
    all
}

fn list(common: &Common) -> anyhow::Result<Exit> {
    let findings = findings(common)?;
    let all = everything(&findings);
    if common.json {
        print_json(&findings)?;
    } else {
        let (style, now) = (Style::stdout(), findings.time);
        let mut table = Table::new(["what", "verdict", "since", "seen by", "checked", "says"]);
        for (by, observed) in &all {
            let checked = match checked(observed, now) {
                age if observed.is_stale(now) => style.yellow(&format!("{age}: OLD")),
                age => age,
            };
            table.row([
                observed.key(),
                coloured(style, observed),
                span(now.saturating_sub(observed.since)),
                by.to_string(),
                checked,
                observed.profile.summary.clone(),
            ]);
        }
        print(table)?;
    }
    let well =
        all.iter().all(|(_, observed)| observed.profile.verdict == Verdict::Ok && !observed.is_stale(findings.time));
    Ok(if well { Exit::Done } else { Exit::No })
}

fn coloured(style: Style, observed: &Observed) -> String {
    let mut text = match observed.profile.verdict {
        Verdict::Ok => style.green("ok"),
        Verdict::Slow => style.yellow("slow"),
        Verdict::Unknown => style.yellow("unknown"),
        Verdict::Unacceptable => style.red("unacceptable"),
    };
    for (is_so, word) in [
        (observed.flapping, " (flapping)"),
        (observed.acknowledged.is_some(), " (known)"),
        (observed.maintenance_until.is_some(), " (maintenance)"),
    ] {
        text.push_str(if is_so { word } else { "" });
    }
    text
}

/// How long ago that was asked for.
fn checked(observed: &Observed, now: u64) -> String {
    observed.age(now).map_or("before the boot".into(), |age| format!("{} ago", span(age)))
}

/// A time span, short.
pub(crate) fn span(seconds: u64) -> String {
    match seconds {
        0..120 => format!("{seconds} s"),
        120..7200 => format!("{} min", seconds / 60),
        7200..172_800 => format!("{} h", seconds / 3600),
        _ => format!("{} days", seconds / 86_400),
    }
}

/// Those that are called so.
fn called<'f>(findings: &'f Findings, key: &str) -> anyhow::Result<Vec<(Role, &'f Observed)>> {
    let found: Vec<_> = everything(findings).into_iter().filter(|(_, observed)| observed.key() == key).collect();
    anyhow::ensure!(!found.is_empty(), "nothing is called '{key}': VerifierResults lists what there is");
    Ok(found)
}

fn show(common: &Common, key: &str) -> anyhow::Result<Exit> {
    let findings = findings(common)?;
    let found = called(&findings, key)?;
    if common.json {
        let told = found.iter().map(|(by, observed)| serde_json::json!({ "by": by, "observed": observed }));
        print_json(&serde_json::json!({ "format": 1, "found": told.collect::<Vec<_>>() }))?;
    }
    for (by, observed) in found.iter().filter(|_| !common.json) {
        let profile = &observed.profile;
        let age = checked(observed, findings.time);
        print(format!("{key}: {}, seen by {by} {age}\n  {}", coloured(Style::stdout(), observed), profile.summary))?;
        match profile.faults.len() {
            0 | 1 => {
                profile.hint.iter().try_for_each(|hint| print(format!("  try: {}", observed.placed(*by, hint))))?;
            }
            count => {
                print(format!("  {count} faults:"))?;
                profile.faults.iter().try_for_each(|fault| print(listed(observed, *by, fault)))?;
            }
        }
        observed.acknowledged.iter().try_for_each(|why| print(format!("  known: {why}")))?;
        let mut table = Table::new(["measure", "value", "slow", "unacceptable"]);
        for measure in &profile.measures {
            let limit = |limit: Option<f64>| limit.map(number).unwrap_or_default();
            table.row([
                measure.name.clone(),
                format!("{} {}", number(measure.value), measure.unit),
                limit(measure.slow),
                limit(measure.unacceptable),
            ]);
        }
        if !profile.measures.is_empty() {
            print(table)?;
        }
    }
    let well = found.iter().all(|(_, observed)| observed.profile.verdict == Verdict::Ok);
    Ok(if well { Exit::Done } else { Exit::No })
}

/// One of several faults, and what to do about it.
fn listed(observed: &Observed, by: Role, fault: &Fault) -> String {
    let hint = fault.hint.as_ref().map(|hint| format!("\n      try: {}", observed.placed(by, hint)));
    format!("    {}: {}{}", fault.verdict, fault.what, hint.unwrap_or_default())
}

fn causes(common: &Common, server: Option<Role>) -> anyhow::Result<Exit> {
    let findings = findings(common)?;
    let causes = findings.causes();
    let is_wanted = |root: &Root<'_, '_>| server.is_none_or(|server| root.at.observed.about == Some(server));
    let roots: Vec<Root<'_, '_>> = causes.roots().into_iter().filter(is_wanted).collect();
    if common.json {
        let told = roots.iter().map(|root| {
            let follows = root.follows.iter().map(|(one, sure)| {
                serde_json::json!({ "key": one.observed.key(), "by": one.by, "sure": sure, "fault": one.fault })
            });
            serde_json::json!({
                "key": root.at.observed.key(), "by": root.at.by, "fault": root.fault, "hint": root.hint(),
                "follows": follows.collect::<Vec<_>>(),
            })
        });
        print_json(&serde_json::json!({ "format": 1, "causes": told.collect::<Vec<_>>() }))?;
    } else if roots.is_empty() {
        print("nothing is wrong")?;
    } else {
        roots.iter().try_for_each(|root| print(tree(root)))?;
    }
    Ok(if roots.is_empty() { Exit::Done } else { Exit::No })
}

/// A cause, what to do, and below it all that follows from it.
fn tree(root: &Root<'_, '_>) -> String {
    let (key, by) = (root.at.observed.key(), root.at.by);
    let mut text = format!("{key}, seen by {by}: {}: {}", root.fault.verdict, root.fault.what);
    text.extend(root.hint().map(|hint| format!("\n  try: {hint}")));
    for (one, sure) in &root.follows {
        let how = if *sure { "with it" } else { "perhaps with it" };
        text.push_str(&format!("\n  {how}: {}, seen by {}: {}", one.observed.key(), one.by, one.fault.what));
    }
    text
}

fn store(common: &Common) -> anyhow::Result<(Identity, Store)> {
    let identity = Identity::read(&common.root)?;
    let store = Store::open(&identity.sid, identity.config.role(), identity.env_version)?;
    Ok((identity, store))
}

fn history(common: &Common, begins: Option<&str>, last: usize) -> anyhow::Result<Exit> {
    let events = store(common)?.1.history()?;
    let line = |event: &Event| match event {
        Event::Verdict { time, key, verdict, summary } => (*time, key.clone(), verdict.to_string(), summary.clone()),
        Event::Fault { time, key, what, over } => {
            (*time, key.clone(), if *over { "over" } else { "fault" }.into(), what.clone())
        }
        Event::Alert { time, alert } => (*time, alert.key.clone(), "alert".into(), alert.title()),
        Event::Note { time, key, text } => (*time, key.clone(), "note".into(), text.clone()),
    };
    let is_wanted = |event: &&Event| begins.is_none_or(|begins| line(event).1.starts_with(begins));
    let wanted: Vec<&Event> = events.iter().filter(is_wanted).collect();
    let wanted = &wanted[wanted.len().saturating_sub(last)..];
    if common.json {
        return print_json(&serde_json::json!({ "format": 1, "events": wanted })).map(|()| Exit::Done);
    }
    let mut table = Table::new(["ago", "what", "became", "because"]);
    for event in wanted {
        let (time, key, what, why) = line(event);
        table.row([span(now().saturating_sub(time)), key, what, why]);
    }
    print(table).map(|()| Exit::Done)
}

fn acknowledge(common: &Common, key: &str, why: &str) -> anyhow::Result<Exit> {
    let findings = findings(common)?;
    let found = called(&findings, key)?;
    let worst = found.iter().map(|(_, observed)| observed).find(|observed| observed.profile.verdict != Verdict::Ok);
    let since = worst.with_context(|| format!("{key} is well: there is nothing to acknowledge"))?.since;
    let (_, store) = store(common)?;
    store.change_notes(|notes| {
        drop(notes.acknowledged.insert(key.to_owned(), Acknowledged { since, why: why.to_owned() }));
    })?;
    store.log(&[Event::Note { time: now(), key: key.into(), text: format!("acknowledged: {why}") }])?;
    told(common, &format!("{key} is acknowledged until it has ended"))
}

fn maintain(common: &Common, subject: &str, why: Option<&str>, hours: f64) -> anyhow::Result<Exit> {
    let (identity, store) = store(common)?;
    let roles: Vec<String> = identity
        .config
        .partners()
        .iter()
        .map(|partner| partner.role)
        .chain([identity.config.role()])
        .map(|role| role.to_string())
        .collect();
    let is_known = roles.iter().any(|role| role == subject) || called(&findings(common)?, subject).is_ok();
    anyhow::ensure!(is_known, "'{subject}' is neither a server ({}) nor a service that is verified", roles.join(", "));
    let from = now();
    let until = from + (hours * 3600.0) as u64;
    store.change_notes(|notes| {
        notes.forget_ended(from);
        match why {
            Some(why) => drop(notes.maintenance.insert(subject.into(), Maintenance { from, until, why: why.into() })),
            None => drop(notes.maintenance.remove(subject)),
        }
    })?;
    let text =
        why.map_or("maintenance has ended".to_owned(), |why| format!("maintenance for {}: {why}", span(until - from)));
    store.log(&[Event::Note { time: from, key: subject.into(), text: text.clone() }])?;
    told(common, &format!("{subject}: {text}"))
}

fn told(common: &Common, text: &str) -> anyhow::Result<Exit> {
    if common.json {
        print_json(&serde_json::json!({ "format": 1, "done": text }))?;
    } else {
        print(text)?;
    }
    Ok(Exit::Done)
}

fn alert_test(common: &Common, only: Option<&str>) -> anyhow::Result<Exit> {
    let settings = Settings::read(&common.root)?;
    let identity = Identity::read(&common.root)?;
    let channels: Vec<_> =
        settings.channels.iter().filter(|channel| only.is_none_or(|only| channel.name == only)).collect();
    if channels.is_empty() {
        let what = only.map_or("there is no channel".to_owned(), |only| format!("there is no channel '{only}'"));
        return Err(anyhow::anyhow!(what))
            .hint("[[channel]] in /etc/atlas/verifier.toml: 'man VerifierControl', docs/verifier.md");
    }
    let alert = Alert {
        format: 1,
        kind: Kind::Test,
        key: "test".into(),
        verdict: Verdict::Ok,
        summary: "Somebody tries whether alerts arrive. There is nothing to do.".into(),
        hint: None,
        follows: vec![],
        from: format!("{} of {}", identity.config.role(), identity.config.cluster()),
        time: now(),
        since: now(),
    };
    let results: Vec<(&str, Option<String>)> = channels
        .iter()
        .map(|channel| {
            (channel.name.as_str(), deliver(channel, &alert, &common.root).err().map(|error| in_one_line(&error)))
        })
        .collect();
    if common.json {
        let told = results.iter().map(|(name, error)| serde_json::json!({ "channel": name, "error": error }));
        print_json(&serde_json::json!({ "format": 1, "channels": told.collect::<Vec<_>>() }))?;
    } else {
        for (name, error) in &results {
            print(error.as_ref().map_or_else(
                || format!("{name}: handed over"),
                |why| format!("{name}: {} {why}", Style::stdout().red("FAILED:")),
            ))?;
        }
    }
    Ok(if results.iter().all(|(_, error)| error.is_none()) { Exit::Done } else { Exit::No })
}
