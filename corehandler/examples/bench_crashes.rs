//! Measures core to signature against gdb and eu-stack, and what ssRun adds to a run: the same cores, by turns, in one process.
//!
//! `bench_crashes BIN_DIR [--json]`, with ssCoreHandler, ssRun and ssStartHandler in BIN_DIR as they are packaged. The large Rust program is
//! this one: it holds 75 MB and crashes below a parser, a regular expression engine and a command line. Exit 0 when every row is met.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a bench ends where it cannot measure")]

use atlas_cli::{Table, print, print_json};
use nix::sys::{
    resource::{UsageWho, getrusage},
    time::TimeValLike,
};
use serde_json::{Value, json};
use std::{
    hint::black_box,
    path::{Path, PathBuf},
    process::{Command, ExitCode, Stdio},
    time::Instant,
};

const ROUNDS: usize = 7;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().collect();
    match arguments.get(1).map(String::as_str) {
        Some("crash") => crash(),
        Some("measure") => measure(&arguments[2..]),
        Some(bin) => bench(Path::new(bin), arguments.iter().any(|argument| argument == "--json")),
        None => panic!("call it with the directory of the release builds"),
    }
}

/// A fault far down, in a program with much memory and much code.
fn crash() -> ExitCode {
    let memory: Vec<u64> = (0..75 * 1024 * 1024 / 8).collect();
    let pattern = regex::Regex::new(r"(\w+) (\w+)").unwrap();
    let _ = atlas_corehandler::command().try_get_matches_from(["ssCoreHandler", "rules"]);
    let text = pattern.replace(black_box("a fault"), |found: &regex::Captures<'_>| {
        let values: Vec<usize> = found.iter().map(|found| found.map_or(0, |found| found.len())).collect();
        descend(10, &values).to_string()
    });
    black_box((memory, text.len()));
    ExitCode::SUCCESS
}

#[inline(never)]
fn descend(depth: u32, values: &[usize]) -> u64 {
    if black_box(depth) == 0 {
        if black_box(values.len()) > 1 {
            std::process::abort();
        }
        return 1;
    }
    descend(depth - 1, values) + black_box(1)
}

/// Runs a command and prints how long it took, its largest memory, and the processor's time that it and all that it ran have used:
/// alone in this process, so that these are its own.
fn measure(command: &[String]) -> ExitCode {
    let started = Instant::now();
    let status = Command::new(&command[0])
        .args(&command[1..])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .env("DEBUGINFOD_URLS", "")
        .status()
        .unwrap();
    let took = started.elapsed().as_secs_f64();
    let usage = getrusage(UsageWho::RUSAGE_CHILDREN).unwrap();
    let processor = [usage.user_time(), usage.system_time()].map(|time| time.num_microseconds() as f64 / 1e6);
    println!("{took} {} {} {}", usage.max_rss(), processor[0] + processor[1], status.code().unwrap_or(-1));
    ExitCode::SUCCESS
}

/// What a run, or the median of many, has taken.
#[derive(Clone, Copy)]
struct Taken {
    /// From start to end, in milliseconds.
    time: f64,
    /// At most, in KiB.
    memory: f64,
    /// Of the processor, in milliseconds: the same on a machine that others use.
    processor: f64,
}

fn measured(command: &[&str]) -> Taken {
    let own = std::env::current_exe().unwrap();
    let output = Command::new(own).arg("measure").args(command).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let words: Vec<f64> = text.split_whitespace().map(|word| word.parse().unwrap()).collect();
    assert_eq!(words[3], 0.0, "{command:?} failed");
    Taken { time: words[0] * 1000.0, memory: words[1], processor: words[2] * 1000.0 }
}

fn median(runs: &[Taken]) -> Taken {
    let of = |value: fn(&Taken) -> f64| {
        let mut values: Vec<f64> = runs.iter().map(value).collect();
        values.sort_by(f64::total_cmp);
        values[values.len() / 2]
    };
    Taken { time: of(|run| run.time), memory: of(|run| run.memory), processor: of(|run| run.processor) }
}

/// Two commands that take turns: the medians of all rounds.
fn by_turns(one: &[&str], other: &[&str], rounds: usize) -> (Taken, Taken) {
    // The first turn warms the caches of both.
    let runs: Vec<(Taken, Taken)> = (0..=rounds).map(|_| (measured(one), measured(other))).skip(1).collect();
    let (ones, others): (Vec<Taken>, Vec<Taken>) = runs.into_iter().unzip();
    (median(&ones), median(&others))
}

fn row(name: &str, unit: &str, value: f64, peer: (&str, f64), goal: &str, met: bool) -> Value {
    let round = |value: f64| (value * 1000.0).round() / 1000.0;
    json!({ "name": name, "value": round(value), "unit": unit, "peer": peer.0, "peer_value": round(peer.1),
            "ratio": round(value / peer.1), "goal": goal, "met": met })
}

fn bench(bin: &Path, as_json: bool) -> ExitCode {
    let tmp = tempfile::tempdir().unwrap();
    let core = crashed(tmp.path());
    let (core, own) = (core.to_str().unwrap(), std::env::current_exe().unwrap());
    let own = own.to_str().unwrap();
    let handler = bin.join("ssCoreHandler");
    let handler = handler.to_str().unwrap();
    let mut rows = Vec::new();
    let gdb_command = ["gdb", "-nx", "-batch", "-ex", "bt", own, core];
    let (ours, gdb) = by_turns(&[handler, "signature", core], &gdb_command, ROUNDS);
    let peer = "gdb -batch -ex bt";
    let met = ours.time * 25.0 <= gdb.time;
    rows.push(row("core to signature", "ms", ours.time, (peer, gdb.time), "ratio <= 1/25", met));
    let met = ours.processor * 25.0 <= gdb.processor;
    rows.push(row(
        "core to signature, processor time",
        "ms",
        ours.processor,
        (peer, gdb.processor),
        "ratio <= 1/25",
        met,
    ));
    let met = ours.memory * 3.0 <= gdb.memory;
    rows.push(row("memory of core to signature", "KiB", ours.memory, (peer, gdb.memory), "ratio <= 1/3", met));
    let one = [handler, "signature", "--no-inlines", core];
    let (ours, eu_stack) = by_turns(&one, &["eu-stack", "-e", own, "--core", core], ROUNDS);
    let met = ours.time <= 0.8 * eu_stack.time;
    rows.push(row("core to signature, no inlines", "ms", ours.time, ("eu-stack", eu_stack.time), "ratio <= 0.8", met));
    let met = ours.processor <= 0.8 * eu_stack.processor;
    rows.push(row(
        "core to signature, no inlines, processor time",
        "ms",
        ours.processor,
        ("eu-stack", eu_stack.processor),
        "ratio <= 0.8",
        met,
    ));
    let run = bin.join("ssRun");
    let root = tmp.path().to_str().unwrap();
    // So that ssStartHandler has this machine to look at, with all its processes.
    std::os::unix::fs::symlink("/proc", tmp.path().join("proc")).unwrap();
    let one = [run.to_str().unwrap(), "--root", root, "--", "/bin/true"];
    let (ours, bare) = by_turns(&one, &["/bin/true"], 101);
    let logs: Vec<_> = std::fs::read_dir(tmp.path().join("var/log/atlas")).unwrap().collect();
    assert!(!logs.is_empty(), "no run left a log that tells of its handlers");
    for log in logs {
        let text = std::fs::read_to_string(log.unwrap().path()).unwrap();
        assert!(!text.contains("no answer"), "a handler had no part in it: {text}");
    }
    let name = "ssRun /bin/true, handlers included, median of 101";
    rows.push(row(name, "ms", ours.time, ("bare", bare.time), "5 ms more", ours.time <= bare.time + 5.0));
    let met = ours.processor <= 4.5 * bare.processor;
    rows.push(row(
        "ssRun /bin/true, processor time of all four processes",
        "ms",
        ours.processor,
        ("bare", bare.processor),
        "ratio <= 4.5",
        met,
    ));
    rows.push(throughput(&run, root));
    told(&rows, as_json)
}

/// A thousand lines a millisecond are a GB in ten seconds; here a hundred MB.
fn throughput(run: &Path, root: &str) -> Value {
    let program = "yes 'a line of output that is about as long as lines in a log are, some ninety bytes of text' | head -n 1000000";
    let ours = format!("{} --root {root} --no-handlers --to both -- sh -c \"{program}\" >{root}/ours", run.display());
    let tee = format!("sh -c \"{program}\" | tee {root}/file >{root}/tees");
    let (ours, tee) = by_turns(&["sh", "-c", &ours], &["sh", "-c", &tee], ROUNDS);
    let met = ours.time <= 1.1 * tee.time;
    row("1 000 000 lines to file and stdout", "ms", ours.time, ("tee", tee.time), "ratio <= 1.1", met)
}

fn told(rows: &[Value], as_json: bool) -> ExitCode {
    if as_json {
        print_json(&rows).unwrap();
    } else {
        let mut table = Table::new(["NAME", "VALUE", "", "PEER", "", "RATIO", "GOAL", "MET"]);
        for row in rows {
            let text = |key: &str| row[key].as_str().map_or_else(|| row[key].to_string(), ToOwned::to_owned);
            table.row(["name", "value", "unit", "peer", "peer_value", "ratio", "goal", "met"].map(text));
        }
        print(table).unwrap();
    }
    let all = rows.iter().all(|row| row["met"] == true);
    ExitCode::from(u8::from(!all))
}

/// The core of this program, crashed.
fn crashed(dir: &Path) -> PathBuf {
    let own = std::env::current_exe().unwrap();
    let script = format!("ulimit -c unlimited; exec '{}' crash", own.display());
    let status = Command::new("sh").args(["-c", &script]).current_dir(dir).stderr(Stdio::null()).status().unwrap();
    assert!(!status.success(), "it did not crash");
    let found = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    found.into_iter().next().expect("no core: /proc/sys/kernel/core_pattern must be a plain name")
}
