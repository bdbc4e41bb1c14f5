//! Measures core to signature against gdb and eu-stack, and what ssRun adds to a run: the same cores, by turns, in one process.
//!
//! `bench_crashes BIN_DIR [--json]`, with the release builds of ssCoreHandler, ssRun and ssStartHandler in BIN_DIR. The large Rust program is
//! this one: it holds 75 MB and crashes below a parser, a regular expression engine and a command line. Exit 0 when every row is met.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a bench ends where it cannot measure")]

use atlas_cli::{Table, print, print_json};
use nix::sys::resource::{UsageWho, getrusage};
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

/// Runs a command and prints how long it took and its largest memory: alone in this process, so that the memory is its own.
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
    let memory = getrusage(UsageWho::RUSAGE_CHILDREN).unwrap().max_rss();
    println!("{took} {memory} {}", status.code().unwrap_or(-1));
    ExitCode::SUCCESS
}

/// Milliseconds and KiB of one run.
fn measured(command: &[&str]) -> (f64, f64) {
    let own = std::env::current_exe().unwrap();
    let output = Command::new(own).arg("measure").args(command).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let words: Vec<f64> = text.split_whitespace().map(|word| word.parse().unwrap()).collect();
    assert_eq!(words[2], 0.0, "{command:?} failed");
    (words[0] * 1000.0, words[1])
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// Milliseconds and KiB of each of two commands that take turns: the medians of all rounds.
fn by_turns(one: &[&str], other: &[&str], rounds: usize) -> [f64; 4] {
    let mut all: [Vec<f64>; 4] = Default::default();
    // The first turn warms the caches of both.
    for round in 0..=rounds {
        let (a, b) = (measured(one), measured(other));
        if round > 0 {
            for (list, value) in all.iter_mut().zip([a.0, a.1, b.0, b.1]) {
                list.push(value);
            }
        }
    }
    all.map(median)
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
    let [time, memory, gdb_time, gdb_memory] =
        by_turns(&[handler, "signature", core], &["gdb", "-nx", "-batch", "-ex", "bt", own, core], ROUNDS);
    rows.push(row(
        "core to signature",
        "ms",
        time,
        ("gdb -batch -ex bt", gdb_time),
        "ratio <= 1/25",
        time * 25.0 <= gdb_time,
    ));
    let met = memory * 3.0 <= gdb_memory;
    rows.push(row(
        "memory of core to signature",
        "KiB",
        memory,
        ("gdb -batch -ex bt", gdb_memory),
        "ratio <= 1/3",
        met,
    ));
    let one = [handler, "signature", "--no-inlines", core];
    let [time, _, eu_time, _] = by_turns(&one, &["eu-stack", "-e", own, "--core", core], ROUNDS);
    rows.push(row(
        "core to signature, no inlines",
        "ms",
        time,
        ("eu-stack", eu_time),
        "ratio <= 2",
        time <= 2.0 * eu_time,
    ));
    let run = bin.join("ssRun");
    let root = tmp.path().to_str().unwrap();
    let one = [run.to_str().unwrap(), "--root", root, "--", "/bin/true"];
    let [time, _, bare, _] = by_turns(&one, &["/bin/true"], 101);
    rows.push(row(
        "ssRun /bin/true, handlers included, median of 101",
        "ms",
        time,
        ("bare", bare),
        "5 ms more",
        time <= bare + 5.0,
    ));
    rows.push(throughput(&run, root));
    told(&rows, as_json)
}

/// A thousand lines a millisecond are a GB in ten seconds; here a hundred MB.
fn throughput(run: &Path, root: &str) -> Value {
    let program = "yes 'a line of output that is about as long as lines in a log are, some ninety bytes of text' | head -n 1000000";
    let ours = format!("{} --root {root} --no-handlers --to both -- sh -c \"{program}\" >{root}/ours", run.display());
    let tee = format!("sh -c \"{program}\" | tee {root}/file >{root}/tees");
    let [time, _, tee_time, _] = by_turns(&["sh", "-c", &ours], &["sh", "-c", &tee], ROUNDS);
    row("1 000 000 lines to file and stdout", "ms", time, ("tee", tee_time), "ratio <= 1.1", time <= 1.1 * tee_time)
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
