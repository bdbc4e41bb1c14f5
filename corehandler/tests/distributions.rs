//! One fault has one signature in Debian 11, 12 and 13, in C, C++ and Rust, each program built by that release's compiler and run, several
//! times, in a real root file system of that release.
//!
//! The root file systems are made by mmdebstrap, which takes minutes and a network, and kept in the folder that ATLAS_TEST_CACHE names
//! (else below the user's cache): so this one runs with the long tests (`--ignored`).

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test ends where something is not as it must be")]

mod common;

use atlas_cli::Table;
use atlas_corehandler::{
    signature::{Signature, Strength, short},
    space::Search,
};
use common::{
    languages::{C, CXX, Language, RUST},
    shell, signature_of, source,
};
use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

const RELEASES: [&str; 3] = ["bullseye", "bookworm", "trixie"];
/// How often each fault happens in each environment.
const RUNS: usize = 3;

/// What is built of each source. Its faults are those of the corpus.
struct Builds {
    language: &'static Language,
    commands: &'static [(&'static str, &'static str)],
}

const C_BUILDS: Builds = Builds {
    language: &C,
    commands: &[
        ("-O0", "gcc -O0 -g -pthread -w"),
        ("-O2", "gcc -O2 -g -pthread -w"),
        ("-O2 static", "gcc -O2 -g -static -pthread -w"),
    ],
};

const CXX_BUILDS: Builds =
    Builds { language: &CXX, commands: &[("-O0", "g++ -O0 -g -pthread -w"), ("-O2", "g++ -O2 -g -pthread -w")] };

/// Without debug assertions: with them, newer compilers check for null pointers, and the fault is a panic.
const RUST_BUILDS: Builds = Builds {
    language: &RUST,
    commands: &[
        ("-O0", "rustc --edition 2018 --cfg old -Cpanic=abort -Cdebug-assertions=off -Copt-level=0 -g"),
        ("-O2", "rustc --edition 2018 --cfg old -Cpanic=abort -Copt-level=2 -g"),
    ],
};

fn cache() -> PathBuf {
    let home =
        || PathBuf::from(std::env::var_os("HOME").unwrap_or_else(|| "/root".into())).join(".cache/atlas/crash-roots");
    std::env::var_os("ATLAS_TEST_CACHE").map_or_else(home, PathBuf::from)
}

/// The root file system of a release, with its compilers in it.
fn root(release: &str) -> PathBuf {
    let dir = cache().join(format!("{release}-compilers"));
    std::fs::create_dir_all(cache()).unwrap();
    let lock = std::fs::File::create(cache().join("lock")).unwrap();
    lock.lock().unwrap();
    if !dir.exists() {
        let options = "--variant=apt --aptopt='Apt::Install-Recommends \"false\"' --include=g++,rustc";
        let make = format!("rm -rf {release}.new; mmdebstrap {options} {release} {release}.new >{release}.log 2>&1");
        shell(&cache(), &format!("{make}; mv {release}.new {release}-compilers"));
    }
    dir
}

/// Builds in the release's own system, and crashes there in every way, [`RUNS`] times; gives the folder with the cores `WAY.RUN`.
fn crash_in(root: &Path, language: &Language, build: &str) -> PathBuf {
    let work = root.join("srv").join(language.source);
    let _ = std::fs::remove_dir_all(&work);
    std::fs::create_dir_all(&work).unwrap();
    std::fs::copy(source(language.source), work.join(language.source)).unwrap();
    let ways: Vec<String> = language.faults.iter().map(|(way, _)| way.to_string()).collect();
    let script = format!(
        "cd /srv/{0}; {build} -o faults {0}; ulimit -c unlimited\n\
         for way in {1}; do for run in $(seq {RUNS}); do ./faults $way >/dev/null 2>&1 || true; mv core* $way.$run; done; done",
        language.source,
        ways.join(" ")
    );
    std::fs::write(work.join("script"), script).unwrap();
    // Rust's handler of stack overflows asks /proc where the stack is.
    let inside = format!("mount -t proc proc proc; exec chroot . sh -e /srv/{}/script", language.source);
    shell(root, &format!("unshare --mount --pid --fork sh -ec '{inside}'"));
    work
}

/// A fault in one environment.
struct Cell {
    environment: String,
    signature: Signature,
}

#[test]
#[ignore = "makes three Debian root file systems"]
fn a_fault_in_c_has_one_signature_in_debian_11_12_and_13() {
    assert_one_signature_per_row(&C_BUILDS);
}

#[test]
#[ignore = "makes three Debian root file systems"]
fn a_fault_in_cxx_has_one_signature_in_debian_11_12_and_13() {
    assert_one_signature_per_row(&CXX_BUILDS);
}

#[test]
#[ignore = "makes three Debian root file systems"]
fn a_fault_in_rust_has_one_signature_in_debian_11_12_and_13() {
    assert_one_signature_per_row(&RUST_BUILDS);
}

fn assert_one_signature_per_row(builds: &Builds) {
    let language = builds.language;
    let mut rows: BTreeMap<&str, Vec<Cell>> = BTreeMap::new();
    for release in RELEASES {
        let root = root(release);
        for (build, command) in builds.commands {
            let cores = crash_in(&root, language, command);
            for (way, fault) in language.faults {
                rows.entry(fault).or_default().extend((1..=RUNS).map(|run| {
                    let (_, signature) = signature_of(&cores.join(format!("{way}.{run}")), &Search::new(&root));
                    Cell { environment: format!("{release} {build}, run {run}"), signature }
                }));
            }
            // They are many, and large where a stack ran over.
            std::fs::remove_dir_all(cores).unwrap();
        }
    }
    let mut wrong = Vec::new();
    println!("## Debian 11, 12, 13: {}\n\n{}", language.name, table(&rows, &mut wrong));
    assert!(wrong.is_empty(), "{} cells are wrong:\n\n{}", wrong.len(), wrong.join("\n"));
}

/// The table of one language; every cell that is not like its row, or is weak, and every row that is like another, goes to `wrong`.
fn table(rows: &BTreeMap<&str, Vec<Cell>>, wrong: &mut Vec<String>) -> Table {
    let mut table = Table::new(["FAULT", "SIGNATURE", "CRASHES", "CLEANED"]);
    let mut owners: BTreeMap<&str, &str> = BTreeMap::new();
    for (fault, cells) in rows {
        let first = &cells[0].signature;
        let unlike = |cell: &&Cell| cell.signature.id != first.id || cell.signature.strength == Strength::Weak;
        let alike = cells.len() - cells.iter().filter(unlike).count();
        table.row([
            *fault,
            short(&first.id),
            &format!("{alike} of {}", cells.len()),
            &first.cleaned.frames.join(" < "),
        ]);
        wrong.extend(cells.iter().filter(unlike).map(|cell| {
            let Signature { text, cleaned, .. } = &cell.signature;
            format!("{fault} in {}:\n{text}{:?}\ninstead of\n{}", cell.environment, cleaned.weaknesses, first.text)
        }));
        wrong.extend(owners.insert(&first.id, fault).map(|other| format!("{fault} and {other} share a signature")));
    }
    table
}
