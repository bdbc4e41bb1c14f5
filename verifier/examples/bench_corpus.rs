//! Real configurations: what SetUp finds by asking each daemon and by reading its files is the same; and none that is well is called a fault.
//!
//! Run by `cargo xtask bench corpus`; arguments: the directory of the programs as they are installed, `--json`, and to try a part of it
//! `--release NAME`, `--only TEXT` (in a configuration's name), `--views` or `--alarms`; on a machine that has much else to do, checks in intervals of
//! at least `--interval SECONDS`, and `--at-a-time NUMBER` of configurations. See tests/corpus/README.md.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a bench ends where something is not as it must be")]

#[path = "../tests/corpus/mod.rs"]
mod corpus;

use corpus::{
    alarms,
    case::{self, Case},
    documented, roots, uml, views,
};
use serde_json::json;
use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    path::PathBuf,
    sync::Mutex,
};

/// So many configurations there are at least.
const AT_LEAST: usize = 200;
/// How many are tried at a time: most of the time is waiting.
const AT_A_TIME: usize = 6;

/// What is wanted.
struct Wanted {
    programs: PathBuf,
    release: Option<String>,
    only: Option<String>,
    views: bool,
    alarms: bool,
    /// The shortest interval of checks, in seconds.
    interval: u64,
    at_a_time: usize,
}

/// One configuration in one release.
struct Task {
    release: &'static str,
    root: PathBuf,
    case: Case,
}

/// What came of all.
#[derive(Default)]
struct Tally {
    /// Those that a daemon took, by what distinguishes them.
    configurations: BTreeSet<String>,
    compared: usize,
    differences: Vec<String>,
    exercised: usize,
    instances: usize,
    alarms: Vec<String>,
    missed: Vec<String>,
    listeners: Vec<String>,
    /// Own ones that a daemon does not take or start with.
    refused: Vec<String>,
    left_out: BTreeMap<&'static str, usize>,
}

fn main() {
    let wanted = wanted();
    let tasks = tasks(&wanted);
    let all = tasks.len();
    let kernels = kernels(&wanted, &tasks);
    let tasks = Mutex::new(tasks);
    let tally = Mutex::new(Tally::default());
    std::thread::scope(|scope| {
        for (release, (root, cases)) in &kernels {
            let (wanted, tally) = (&wanted, &tally);
            scope.spawn(move || {
                for (name, outcome) in uml::exercise(root, &wanted.programs, cases) {
                    record(release, &name, false, outcome, tally);
                }
            });
        }
        for _ in 0..wanted.at_a_time {
            scope.spawn(|| {
                while let Some((task, left)) = next(&tasks) {
                    if left > 0 && left.is_multiple_of(25) {
                        eprintln!("bench: {left} of {all} are left");
                    }
                    try_one(&wanted, &task, &tally);
                }
            });
        }
    });
    let tally = tally.into_inner().unwrap();
    eprintln!("bench: excerpts of documentation that are no whole configuration: {:?}", tally.left_out);
    eprintln!("bench: {} instances were exercised", tally.instances);
    let rows = [
        at_least("configurations", tally.configurations.len(), AT_LEAST),
        at_least("compared, each in its releases", tally.compared, AT_LEAST),
        row("differences from the daemons' own word", tally.differences.len()),
        at_least("exercised for three intervals, and stopped", tally.exercised, AT_LEAST),
        row("listeners that SetUp says otherwise of", tally.listeners.len()),
        row("false alarms", tally.alarms.len()),
        row("stopped and not reported", tally.missed.len()),
        row("own ones that the daemon refuses", tally.refused.len()),
    ];
    println!("{}", serde_json::to_string_pretty(&rows).unwrap());
    std::process::exit(i32::from(rows.iter().any(|row| row["met"] != true)));
}

fn row(name: &str, value: usize) -> serde_json::Value {
    json!({ "name": name, "value": value as f64, "unit": "", "peer": "goal", "peer_value": 0.0, "ratio": value as f64, "goal": "none", "met": value == 0 })
}

fn at_least(name: &str, value: usize, limit: usize) -> serde_json::Value {
    let ratio = value as f64 / limit as f64;
    json!({ "name": name, "value": value as f64, "unit": "", "peer": "goal", "peer_value": limit as f64, "ratio": ratio, "goal": "at least", "met": value >= limit })
}

fn wanted() -> Wanted {
    let mut args = std::env::args().skip(1);
    let programs = PathBuf::from(args.next().unwrap()).canonicalize().unwrap();
    let mut wanted =
        Wanted { programs, release: None, only: None, views: false, alarms: false, interval: 0, at_a_time: AT_A_TIME };
    while let Some(arg) = args.next() {
        match arg.as_str() {
            "--json" => (),
            "--release" => wanted.release = args.next(),
            "--only" => wanted.only = args.next(),
            "--views" => wanted.views = true,
            "--alarms" => wanted.alarms = true,
            "--interval" => wanted.interval = args.next().unwrap().parse().unwrap(),
            "--at-a-time" => wanted.at_a_time = args.next().unwrap().parse().unwrap(),
            other => panic!("what is {other}?"),
        }
    }
    if !wanted.views && !wanted.alarms {
        (wanted.views, wanted.alarms) = (true, true);
    }
    wanted
}

fn tasks(wanted: &Wanted) -> VecDeque<Task> {
    let mut all = VecDeque::new();
    let own = case::own();
    for release in roots::RELEASES.into_iter().filter(|one| wanted.release.as_deref().is_none_or(|is| is == *one)) {
        for is_other in [false, true] {
            let root = roots::root(release, is_other);
            let mut cases = documented::defaults(is_other);
            cases.extend(own.iter().filter(|case| case.daemon.is_other == is_other && case.is_for(release)).cloned());
            cases.extend(documented::examples(&root, is_other));
            cases.retain(|case| wanted.only.as_deref().is_none_or(|only| case.name.contains(only)));
            all.extend(cases.into_iter().map(|case| Task { release, root: root.clone(), case }));
        }
    }
    all
}

/// What the kernel serves, which has to be another one's here: for each release its root file system, and the configurations.
fn kernels(wanted: &Wanted, tasks: &VecDeque<Task>) -> BTreeMap<&'static str, (PathBuf, Vec<Case>)> {
    let mut all: BTreeMap<&'static str, (PathBuf, Vec<Case>)> = BTreeMap::new();
    for task in tasks.iter().filter(|task| wanted.alarms && task.case.daemon.name == "nfs") {
        all.entry(task.release).or_insert((task.root.clone(), vec![])).1.push(task.case.clone());
    }
    all
}

/// The next one, and how many are left behind it.
fn next(tasks: &Mutex<VecDeque<Task>>) -> Option<(Task, usize)> {
    let mut tasks = tasks.lock().unwrap();
    let task = tasks.pop_front()?;
    Some((task, tasks.len()))
}

/// Says it at once, and keeps it.
fn add(kind: &str, release: &str, kept: &mut Vec<String>, lines: Vec<String>) {
    lines.iter().for_each(|line| eprintln!("{kind}: {release}: {line}"));
    kept.extend(lines);
}

/// What distinguishes a configuration: what was written is the same one in each release, what a package brings is not.
fn identity(task: &Task) -> String {
    match task.case.files.is_empty() {
        true => format!("{} {}", task.case.name, task.release),
        false if task.case.is_excerpt => format!("{} {:?}", task.case.daemon.name, task.case.files),
        false => task.case.name.clone(),
    }
}

fn try_one(wanted: &Wanted, task: &Task, tally: &Mutex<Tally>) {
    let Task { release, root, case } = task;
    let mut is_taken = true;
    if wanted.views {
        let outcome = views::compare(root, &wanted.programs, case);
        let mut tally = tally.lock().unwrap();
        match outcome {
            views::Outcome::Refused(_) if case.is_excerpt => {
                is_taken = false;
                *tally.left_out.entry(case.daemon.name).or_default() += 1;
            }
            views::Outcome::Refused(why) => {
                is_taken = false;
                add("refused", release, &mut tally.refused, vec![format!("{}: {why}", case.name)]);
            }
            views::Outcome::Same(_) => tally.compared += 1,
            views::Outcome::Different(lines) => {
                tally.compared += 1;
                add("difference", release, &mut tally.differences, lines);
            }
        }
    }
    if is_taken {
        tally.lock().unwrap().configurations.insert(identity(task));
    }
    // An example that passes everything on is not well without what it passes it on to.
    let is_whole = !case.is_excerpt || !case.files.iter().any(|(_, text)| text.contains("ProxyPass"));
    if wanted.alarms && is_taken && is_whole && !case.daemon.start.is_empty() {
        exercise(wanted, task, tally);
    }
}

fn exercise(wanted: &Wanted, task: &Task, tally: &Mutex<Tally>) {
    let Task { release, root, case } = task;
    record(
        release,
        &case.name,
        case.is_excerpt,
        alarms::exercise(root, &wanted.programs, case, wanted.interval),
        tally,
    );
}

fn record(release: &str, name: &str, is_excerpt: bool, outcome: alarms::Outcome, tally: &Mutex<Tally>) {
    let mut tally = tally.lock().unwrap();
    match outcome {
        alarms::Outcome::NotStarted(_) if is_excerpt => *tally.left_out.entry("not started").or_default() += 1,
        alarms::Outcome::NotStarted(why) => {
            add("refused", release, &mut tally.refused, vec![format!("{name}: {why}")]);
        }
        alarms::Outcome::Exercised(seen) => {
            tally.exercised += 1;
            tally.instances += seen.instances;
            add("false alarm", release, &mut tally.alarms, seen.alarms);
            add("not reported", release, &mut tally.missed, seen.missed);
            add("listener", release, &mut tally.listeners, seen.listeners);
        }
    }
}
