//! One fault has one signature in Debian 11, 12 and 13, each program built and run in a real root file system of that release.
//!
//! The root file systems are made by mmdebstrap, which takes minutes and a network, and kept in the folder that ATLAS_TEST_CACHE names
//! (else below the user's cache): so this one runs with the long tests (`--ignored`).

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test ends where something is not as it must be")]

mod common;

use atlas_cli::Table;
use atlas_corehandler::{
    signature::{Strength, short},
    space::Search,
};
use common::{shell, signature_of, source};
use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

const RELEASES: [&str; 3] = ["bullseye", "bookworm", "trixie"];
const BUILDS: [(&str, &str); 3] = [("-O0", "-O0 -g"), ("-O2", "-O2 -g"), ("-O2 static", "-O2 -g -static")];
const WAYS: [(u32, &str); 12] = [
    (1, "null read"),
    (2, "bad string to strlen"),
    (3, "bad target of memcpy"),
    (4, "abort"),
    (5, "assertion"),
    (7, "callback of qsort"),
    (8, "recursion without end"),
    (9, "call through null"),
    (11, "abort in a signal handler"),
    (15, "double free"),
    (17, "in a thread"),
    (18, "raise"),
];

fn cache() -> PathBuf {
    let home =
        || PathBuf::from(std::env::var_os("HOME").unwrap_or_else(|| "/root".into())).join(".cache/atlas/crash-roots");
    std::env::var_os("ATLAS_TEST_CACHE").map_or_else(home, PathBuf::from)
}

/// The root file system of a release, with a compiler in it.
fn root(release: &str) -> PathBuf {
    let dir = cache().join(release);
    if !dir.join("usr/bin/gcc").exists() {
        std::fs::create_dir_all(cache()).unwrap();
        shell(
            &cache(),
            &format!(
                "rm -rf {release}; mmdebstrap --variant=apt --include=gcc,libc6-dev {release} {release} >{release}.log 2>&1"
            ),
        );
    }
    dir
}

fn crash_in(root: &Path, flags: &str, way: u32) -> PathBuf {
    let work = root.join("srv/faults");
    std::fs::create_dir_all(&work).unwrap();
    std::fs::copy(source("faults.c"), work.join("faults.c")).unwrap();
    let inside = format!(
        "cd /srv/faults; test \"$(cat flags 2>/dev/null)\" = '{flags}' || gcc {flags} -pthread -w -o faults faults.c; echo '{flags}' >flags; \
         ulimit -c unlimited; rm -f core*; ./faults {way} >/dev/null 2>&1; mv core* kept"
    );
    shell(root, &format!("chroot . sh -c \"{}\"", inside.replace('"', "\\\"").replace('$', "\\$")));
    work.join("kept")
}

#[test]
#[ignore = "makes three Debian root file systems"]
fn a_fault_has_one_signature_in_debian_11_12_and_13() {
    let mut rows: BTreeMap<&str, Vec<(String, String, String)>> = BTreeMap::new();
    for release in RELEASES {
        let root = root(release);
        for (build, flags) in BUILDS {
            for (way, fault) in WAYS {
                let (_, signature) = signature_of(&crash_in(&root, flags, way), &Search::new(&root));
                let weak = if signature.strength == Strength::Weak { "weak " } else { "" };
                rows.entry(fault).or_default().push((
                    format!("{release} {build}"),
                    signature.id,
                    format!("{weak}{}", signature.text),
                ));
            }
        }
    }
    let mut table = Table::new(["FAULT", "SIGNATURE", "ENVIRONMENTS"]);
    let mut wrong = Vec::new();
    let mut owners: BTreeMap<String, &str> = BTreeMap::new();
    for (fault, cells) in rows {
        let (_, id, text) = cells[0].clone();
        let alike = cells.iter().filter(|cell| cell.1 == id).count();
        table.row([fault, short(&id), &format!("{alike} of {}", cells.len())]);
        wrong.extend(
            cells
                .iter()
                .filter(|cell| cell.1 != id)
                .map(|cell| format!("{fault} in {}:\n{}instead of\n{text}", cell.0, cell.2)),
        );
        wrong.extend(owners.insert(id, fault).map(|other| format!("{fault} and {other} share a signature")));
    }
    println!("## Debian 11, 12, 13 (C)\n\n{table}");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
