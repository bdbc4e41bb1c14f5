//! gdb as the oracle: the program's own functions, in the same order.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test ends where something is not as it must be")]

mod common;

use atlas_cli::Table;
use atlas_corehandler::{names, traceback::SIGNAL_FRAME};
use common::{
    Environment, build, crash,
    languages::{C, CXX, Language, RUST, search},
    signature_of,
};
use std::{collections::BTreeSet, path::Path, process::Command};

/// How many frames gdb is asked for, from the innermost, and how many of the program's own among them are compared: enough to see a
/// recursion without end.
const FRAMES: usize = 200;
const COMPARED: usize = 100;

/// Where gdb is not right: the fault, the environment (empty: all of them), and why.
const NOT_RIGHT: &[(&str, &str, &str)] = &[
    ("after a tail call", "clang -O2", "clang does not tell of calls in a way it knows"),
    ("after a tail call", "symbols only", "it does not look at the code"),
    ("after a tail call", "mini debug info", "it does not look at the code"),
    ("in a lambda", "", "by debug information a lambda is only operator()"),
    ("panic in drop", "line tables", "by line tables a function of the standard library is only drop, too"),
    ("in a closure", "", "it leaves out the closure where that is inlined into generic code"),
];

/// The functions of the corpus that gdb sees, innermost first.
fn by_gdb(dir: &Path, core: &Path) -> Vec<String> {
    let debug_files = format!("set debug-file-directory {}:/usr/lib/debug", dir.join("debug").display());
    let limit = format!("set backtrace limit {FRAMES}");
    let output = Command::new("gdb")
        .args([
            "-nx",
            "-batch",
            "-iex",
            &debug_files,
            "-ex",
            &limit,
            "-ex",
            "set print frame-arguments none",
            "-ex",
            "bt",
        ])
        .arg(dir.join("faults"))
        .arg(core)
        .env("DEBUGINFOD_URLS", "")
        .env("LC_ALL", "C")
        .output()
        .expect("gdb is the oracle of this test; install it");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    // It shows the innermost frame when it opens the core, too.
    let begin = text.rfind("#0 ").expect("gdb shows no frame");
    let frames = text[begin..].lines().filter(|line| line.starts_with('#'));
    let names = frames.map(|line| {
        let rest = line.split_once(|c: char| c.is_whitespace()).map_or("", |(_, rest)| rest).trim_start();
        let rest = rest.strip_prefix("0x").and_then(|rest| rest.split_once(" in ")).map_or(rest, |(_, rest)| rest);
        essence(rest.split(" (").next().unwrap_or(rest))
    });
    names.filter(|name| is_ours(name)).take(COMPARED).collect()
}

/// The same, as ATLAS sees them. A signal's frame is none of the program's.
fn by_atlas(dir: &Path, core: &Path) -> Vec<String> {
    let (traceback, _) = signature_of(core, &search(dir));
    let frames = traceback.frames.iter();
    frames
        .filter_map(|frame| frame.place.symbol.as_deref())
        .filter(|symbol| *symbol != SIGNAL_FRAME)
        .map(|symbol| {
            let whole = names::demangled(symbol);
            let bare = || names::demangled(symbol.split('.').next().unwrap_or(symbol));
            essence(&if whole == symbol { bare() } else { whole })
        })
        .filter(|name| is_ours(name))
        .take(COMPARED)
        .collect()
}

/// What a name is compared by. Of Rust that is the function's own name: gdb numbers closures and `impl` blocks, and tells no path
/// where there are line tables only.
fn essence(name: &str) -> String {
    let name = names::essence(name).replace("{anonymous}::", "");
    let Some(path) = name.strip_prefix("faults::") else { return name };
    let is_hash = |segment: &&str| segment.len() == 17 && segment.starts_with('h');
    let segments = path.split("::").filter(|segment| !is_hash(segment));
    let segments: Vec<&str> =
        segments.map(|segment| if segment.contains("{closure") { "{closure}" } else { segment }).collect();
    let own = segments.iter().rposition(|segment| *segment != "{closure}").unwrap_or_default();
    segments[own..].join("::")
}

fn is_ours(name: &str) -> bool {
    name.contains("x_") || ["main", "drop"].contains(&name)
}

/// Compares every fault in these environments, and prints where both agree.
fn check(language: &Language, environments: &[&Environment]) {
    let top = tempfile::tempdir().unwrap();
    let mut table = Table::new(["FAULT", "AS GDB", "WHERE GDB IS NOT RIGHT"]);
    let mut wrong = Vec::new();
    for environment in environments {
        build(top.path(), language.source, environment);
    }
    for (way, fault) in language.faults {
        let (mut alike, mut otherwise) = (0, BTreeSet::new());
        for environment in environments {
            let dir = top.path().join(environment.folder());
            let core = crash(&dir, &way.to_string(), environment.variable);
            let (ours, gdb) = (by_atlas(&dir, &core), by_gdb(&dir, &core));
            std::fs::remove_file(core).unwrap();
            let known =
                NOT_RIGHT.iter().find(|(row, column, _)| row == fault && ["", environment.name].contains(column));
            match known {
                _ if ours == gdb => alike += 1,
                Some((_, _, why)) => _ = otherwise.insert(*why),
                None => wrong.push(format!("{fault} in {}:\n  ours {ours:?}\n  gdb  {gdb:?}", environment.name)),
            }
        }
        let count = format!("{alike} of {}", environments.len());
        table.row([*fault, &count, &Vec::from_iter(otherwise).join("; ")]);
    }
    println!("## {}, compared with gdb\n\n{table}", language.name);
    assert!(wrong.is_empty(), "{} cases are otherwise:\n\n{}", wrong.len(), wrong.join("\n"));
}

fn only(language: &Language, name: &str) -> Vec<&'static Environment> {
    language.environments.iter().filter(|environment| environment.name == name).collect()
}

#[test]
fn gdb_names_the_same_functions_in_the_same_order_in_c() {
    check(&C, &only(&C, "gcc -O2"));
}

#[test]
fn gdb_names_the_same_functions_in_the_same_order_in_cxx() {
    check(&CXX, &only(&CXX, "g++ -O1"));
}

#[test]
fn gdb_names_the_same_functions_in_the_same_order_in_rust() {
    check(&RUST, &only(&RUST, "-O2"));
}

#[test]
#[ignore = "opens some five hundred cores in gdb: `cargo xtask test --long` runs it"]
fn gdb_names_the_same_functions_in_the_same_order_in_every_build() {
    for language in [&C, &CXX, &RUST] {
        check(language, &Vec::from_iter(language.environments));
    }
}
