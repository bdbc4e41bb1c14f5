//! gdb as the oracle: the program's own functions, in the same order.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test ends where something is not as it must be")]

mod common;

use atlas_corehandler::{names, space::Search, traceback::SIGNAL_FRAME, unwind::Trust};
use common::{Environment, build, built, crash, signature_of};
use std::{path::Path, process::Command};

/// The functions of the corpus that gdb sees, innermost first.
fn by_gdb(dir: &Path, core: &Path) -> Vec<String> {
    let output = Command::new("gdb")
        .args(["-nx", "-batch", "-ex", "set backtrace limit 200", "-ex", "set print frame-arguments none", "-ex", "bt"])
        .arg(dir.join("faults"))
        .arg(core)
        .env("DEBUGINFOD_URLS", "")
        .output()
        .expect("gdb is the oracle of this test; install it");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    // It shows the innermost frame when it opens the core, too.
    let begin = text.rfind("#0 ").expect("gdb shows no frame");
    let frames = text[begin..].lines().filter(|line| line.starts_with('#'));
    let names = frames.map(|line| {
        let rest = line.split_once(|c: char| c.is_whitespace()).map_or("", |(_, rest)| rest).trim_start();
        let rest = rest.strip_prefix("0x").and_then(|rest| rest.split_once(" in ")).map_or(rest, |(_, rest)| rest);
        let name = rest.split(" (").next().unwrap_or(rest);
        names::essence(name)
    });
    names.filter(|name| is_ours(name)).collect()
}

fn is_ours(name: &str) -> bool {
    name.contains("x_") || name == "main" || name.ends_with("::main")
}

fn check(source: &str, ways: &[usize], environment: &Environment) {
    let top = tempfile::tempdir().unwrap();
    let dir = build(top.path(), source, environment);
    let mut wrong = Vec::new();
    for way in ways {
        let core = crash(&dir, &way.to_string(), "");
        let (traceback, _) = signature_of(&core, &Search::new("/"));
        let ours: Vec<String> = traceback
            .frames
            .iter()
            .take(200)
            .filter(|frame| frame.trust != Trust::TailCall && frame.place.symbol.as_deref() != Some(SIGNAL_FRAME))
            .filter_map(|frame| frame.place.symbol.as_deref())
            .map(|symbol| names::essence(&names::demangled(symbol.split('.').next().unwrap_or(symbol))))
            .map(|name| name.trim_start_matches("{anonymous}::").replace("{anonymous}::", ""))
            .filter(|name| is_ours(name))
            .collect();
        let gdb: Vec<String> = by_gdb(&dir, &core).into_iter().map(|name| name.replace("{anonymous}::", "")).collect();
        if ours != gdb {
            wrong.push(format!("way {way}:\n  ours {ours:?}\n  gdb  {gdb:?}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn gdb_names_the_same_functions_in_the_same_order_in_c() {
    // gdb loses the caller of a call to nowhere (9, 10), and tells a recursion's innermost frames only (8).
    let ways = [1, 2, 3, 4, 5, 6, 7, 11, 12, 13, 15, 16, 17, 18, 19];
    check("faults.c", &ways, &built("gcc -O2", "gcc -O2 -g -pthread -w"));
}

#[test]
fn gdb_names_the_same_functions_in_the_same_order_in_cxx() {
    check("faults.cc", &[1, 2, 3, 4, 5, 6, 8, 9, 10, 11], &built("g++ -O1", "g++ -O1 -g -pthread -w"));
}
