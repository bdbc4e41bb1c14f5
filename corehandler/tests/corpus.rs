//! One fault has one signature in every environment; two faults have two. The programs are built from source, and crash.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test ends where something is not as it must be")]

mod common;

use atlas_cli::Table;
use atlas_corehandler::{
    clean::Rules,
    core_file::Core,
    record::Record,
    signature::{Signature, Strength, short},
    space::Search,
    traceback::{Detail, Traceback},
    unwind::Trust,
};
use common::{Environment, build, built, crash, signature_of};
use std::{collections::BTreeMap, path::Path};

const SPLIT: &str =
    "objcopy --only-keep-debug faults faults.debug; strip faults; objcopy --add-gnu-debuglink=faults.debug faults";
const BY_BUILD_ID: &str = "id=$(readelf -n faults | sed -n 's/.*Build ID: //p'); d=debug/.build-id/$(echo $id | cut -c1-2); \
    mkdir -p $d; objcopy --only-keep-debug faults $d/$(echo $id | cut -c3-).debug; strip faults";
const MINI: &str = "nm -D faults --format=posix --defined-only | awk '{print $1}' | sort > dynamic; \
    nm faults --format=posix --defined-only | awk '$2 ~ /[tTwW]/ {print $1}' | sort > all; comm -13 dynamic all > kept; \
    objcopy --only-keep-debug faults d; objcopy -S --remove-section .gdb_index --remove-section .comment --keep-symbols=kept d mini; \
    strip faults; xz -k mini; objcopy --add-section .gnu_debugdata=mini.xz faults";

const C: &[Environment] = &[
    built("gcc -O0", "gcc -O0 -g -pthread -w"),
    built("gcc -O1", "gcc -O1 -g -pthread -w"),
    built("gcc -O2", "gcc -O2 -g -pthread -w"),
    built("gcc -O3", "gcc -O3 -g -pthread -w"),
    built("gcc -Os", "gcc -Os -g -fno-builtin -pthread -w"),
    built("no PIE", "gcc -O2 -g -no-pie -pthread -w"),
    built("static", "gcc -O2 -g -static -pthread -w"),
    built("static PIE", "gcc -O1 -g -static-pie -pthread -w"),
    built("fortified", "gcc -O2 -g -D_FORTIFY_SOURCE=2 -fstack-protector-strong -fcf-protection -pthread -w"),
    built("now, no PLT", "gcc -O2 -g -fno-plt -Wl,-z,now -pthread -w"),
    built("clang -O2", "clang -O2 -g -pthread -w"),
    Environment { after: "strip --strip-debug faults", ..built("symbols only", "gcc -O2 -g -pthread -w") },
    Environment { after: SPLIT, ..built("debug link", "gcc -O2 -g -pthread -w") },
    Environment { after: BY_BUILD_ID, ..built("debug by id", "gcc -O2 -g -pthread -w") },
    Environment { after: MINI, ..built("mini debug info", "gcc -O2 -g -pthread -w") },
    Environment {
        variable: "GLIBC_TUNABLES=glibc.cpu.hwcaps=-AVX512F,-AVX2,-AVX,-ERMS,-AVX512VL,-AVX512BW",
        ..built("older CPU", "gcc -O2 -g -pthread -w")
    },
];

const CXX: &[Environment] = &[
    built("g++ -O0", "g++ -O0 -g -pthread -w"),
    built("g++ -O1", "g++ -O1 -g -pthread -w"),
    built("g++ -O2", "g++ -O2 -g -pthread -w"),
    built("g++ -O3", "g++ -O3 -g -pthread -w"),
    built("static", "g++ -O2 -g -static -Wl,-u,__cxa_pure_virtual -pthread -w"),
    built("clang++ -O2", "clang++ -O2 -g -pthread -w"),
    Environment { after: "strip --strip-debug faults", ..built("symbols only", "g++ -O2 -g -pthread -w") },
    Environment { after: BY_BUILD_ID, ..built("debug by id", "g++ -O2 -g -pthread -w") },
    Environment { after: MINI, ..built("mini debug info", "g++ -O2 -g -pthread -w") },
];

const RUST: &[Environment] = &[
    built("-O0", "rustc --edition 2021 -Cpanic=abort -Copt-level=0 -g"),
    built("-O1", "rustc --edition 2021 -Cpanic=abort -Copt-level=1 -g"),
    built("-O2", "rustc --edition 2021 -Cpanic=abort -Copt-level=2 -g"),
    built("-O3", "rustc --edition 2021 -Cpanic=abort -Copt-level=3 -g"),
    built("-Os LTO", "rustc --edition 2021 -Cpanic=abort -Copt-level=s -Clto -g"),
    built("v0 names", "rustc --edition 2021 -Cpanic=abort -Copt-level=2 -Csymbol-mangling-version=v0 -g"),
    built("static", "rustc --edition 2021 -Cpanic=abort -Copt-level=2 -Ctarget-feature=+crt-static -g"),
    built("symbols only", "rustc --edition 2021 -Cpanic=abort -Copt-level=2 -Cforce-unwind-tables=yes"),
    built("line tables", "rustc --edition 2021 -Cpanic=abort -Copt-level=2 -Cdebuginfo=line-tables-only"),
    Environment { after: BY_BUILD_ID, ..built("debug by id", "rustc --edition 2021 -Cpanic=abort -Copt-level=2 -g") },
];

/// An environment, and what a fault gave there.
type Cell = (&'static str, Traceback, Signature);

/// Each fault in each environment.
struct Grid {
    rows: BTreeMap<(usize, &'static str), Vec<Cell>>,
}

fn run(source: &str, faults: &[(usize, &'static str)], environments: &[Environment], top: &Path) -> Grid {
    let mut rows: BTreeMap<(usize, &'static str), Vec<_>> = BTreeMap::new();
    for environment in environments {
        let dir = build(top, source, environment);
        let search = Search { debug_dirs: vec![dir.join("debug")], ..Search::new("/") };
        for (way, name) in faults {
            let core = crash(&dir, &way.to_string(), environment.variable);
            let (traceback, signature) = signature_of(&core, &search);
            let kept = Signature::of(&Record::of(&traceback).traceback(), &Rules::built_in().unwrap());
            assert_eq!((&kept.text, &kept.plain_id), (&signature.text, &signature.plain_id), "as the store keeps it");
            rows.entry((*way, name)).or_default().push((environment.name, traceback, signature));
        }
    }
    Grid { rows }
}

/// Where the program itself behaves otherwise, so that another signature is right: it must be one of its own, and strong.
const OTHERWISE: &[(&str, &str, &str)] = &[(
    "throw in a destructor",
    "clang++ -O2",
    "its landing pad in the destructor's caller ends the program, once the destructor's own frame is gone from the stack",
)];

/// Prints the table, and collects every cell that is not like its row, and every row that is like another.
fn assert_one_signature_per_row(title: &str, grid: &Grid) {
    let mut table = Table::new(["FAULT", "SIGNATURE", "ENVIRONMENTS", "CLEANED"]);
    let mut wrong = Vec::new();
    let mut owners: BTreeMap<&str, &str> = BTreeMap::new();
    for ((_, fault), cells) in &grid.rows {
        let first = &cells[0].2;
        let alike = |signature: &Signature| {
            // A build without debug information has the plain signature of one that has it.
            signature.id == first.id
                || (!signature.is_complete
                    && cells
                        .iter()
                        .any(|(_, _, other)| other.id == first.id && other.plain_id.as_ref() == Some(&signature.id)))
        };
        let otherwise =
            |environment: &str| OTHERWISE.iter().any(|(row, column, _)| row == fault && *column == environment);
        for (environment, _, signature) in cells {
            if alike(signature) == otherwise(environment) {
                wrong.push(format!(
                    "{fault} in {environment}:\n{}instead of, in {}:\n{}",
                    signature.text, cells[0].0, first.text
                ));
            }
            if signature.strength == Strength::Weak {
                wrong.push(format!("{fault} in {environment} is weak: {:?}", signature.cleaned.weaknesses));
            }
            if let Some(other) = owners.insert(&signature.id, fault)
                && other != *fault
            {
                wrong.push(format!("{fault} and {other} share a signature:\n{}", signature.text));
            }
        }
        let count = format!("{} of {}", cells.iter().filter(|cell| alike(&cell.2)).count(), cells.len());
        table.row([*fault, short(&first.id), &count, &first.cleaned.frames.join(" < ")]);
    }
    println!("## {title}\n\n{table}");
    for (fault, environment, why) in OTHERWISE {
        println!("{fault} in {environment}: {why}");
    }
    assert!(wrong.is_empty(), "{} cells are wrong:\n\n{}", wrong.len(), wrong.join("\n\n"));
}

const C_FAULTS: &[(usize, &str)] = &[
    (1, "null read"),
    (2, "bad string to strlen"),
    (3, "bad target of memcpy"),
    (4, "abort"),
    (5, "assertion"),
    (6, "assertion, first of two"),
    (19, "assertion, second of two"),
    (7, "callback of qsort"),
    (8, "mutual recursion without end"),
    (9, "call through null"),
    (10, "call to nowhere"),
    (11, "abort in a signal handler"),
    (12, "division by zero"),
    (13, "in an inlined function"),
    (14, "after a tail call"),
    (15, "double free"),
    (16, "deep in a recursion"),
    (17, "in a thread"),
    (18, "raise"),
];

#[test]
fn a_fault_in_c_has_one_signature_in_every_build() {
    let top = tempfile::tempdir().unwrap();
    let grid = run("faults.c", C_FAULTS, C, top.path());
    assert_one_signature_per_row("C", &grid);
}

#[test]
fn a_fault_in_cxx_has_one_signature_in_every_build() {
    let faults = &[
        (1, "uncaught exception"),
        (2, "vector::at"),
        (3, "pure virtual call"),
        (4, "in a template"),
        (5, "in a method"),
        (6, "empty std::function"),
        (7, "in a lambda"),
        (8, "in an anonymous namespace"),
        (9, "uncaught in a thread"),
        (10, "string from null"),
        (11, "throw in a destructor"),
    ];
    let top = tempfile::tempdir().unwrap();
    let grid = run("faults.cc", faults, CXX, top.path());
    assert_one_signature_per_row("C++", &grid);
}

#[test]
fn a_fault_in_rust_has_one_signature_in_every_build() {
    let faults = &[
        (1, "panic"),
        (2, "index out of bounds"),
        (3, "unwrap of None"),
        (4, "expect of Err"),
        (5, "slice within a character"),
        (6, "missing key"),
        (7, "borrowed twice"),
        (8, "null read"),
        (9, "recursion without end"),
        (10, "in a closure"),
        (11, "division by zero"),
        (12, "panic in a thread"),
        (13, "panic in drop"),
        (14, "abort in a callback"),
    ];
    let top = tempfile::tempdir().unwrap();
    let grid = run("faults.rs", faults, RUST, top.path());
    assert_one_signature_per_row("Rust", &grid);
}

#[test]
fn source_lines_are_for_people_and_change_no_signature() {
    let top = tempfile::tempdir().unwrap();
    for (source, build_with, way) in [
        ("faults.c", "gcc -O2 -g -pthread -w", "13"),
        ("faults.c", "gcc -O2 -g -gdwarf-4 -pthread -w", "13"),
        ("faults.cc", "g++ -O2 -g -pthread -w", "2"),
        ("faults.rs", "rustc --edition 2021 -Cpanic=abort -Copt-level=2 -g", "12"),
    ] {
        let dir = build(top.path(), source, &built("lines", build_with));
        let core = crash(&dir, way, "");
        let (_, with_lines) = signature_of(&core, &Search::new("/"));
        let traceback = Traceback::of(Core::open(&core).unwrap(), &Search::new("/"), Detail::Inlines);
        assert!(traceback.frames[0].place.source.is_none(), "{build_with}: lines were told");
        assert!(traceback.frames.iter().any(|frame| frame.trust == Trust::Inline), "{build_with}: none was inlined");
        let without = Signature::of(&traceback, &Rules::built_in().unwrap());
        assert_eq!(without.text, with_lines.text, "{build_with}");
        assert_eq!((without.plain_id, without.is_complete), (with_lines.plain_id, with_lines.is_complete));
    }
}

const PLAIN: Environment = built("plain", "gcc -O2 -g -pthread -w");

#[test]
fn installed_debug_symbols_of_libraries_change_nothing() {
    let top = tempfile::tempdir().unwrap();
    let dir = build(top.path(), "faults.c", &PLAIN);
    // A server's tree that has the program and the libraries, and no /usr/lib/debug.
    let bare = tempfile::tempdir().unwrap();
    for path in [Path::new("/usr/lib/x86_64-linux-gnu"), Path::new("/lib64"), top.path()] {
        let link = bare.path().join(path.strip_prefix("/").unwrap());
        std::fs::create_dir_all(link.parent().unwrap()).unwrap();
        std::os::unix::fs::symlink(path, link).unwrap();
    }
    let mut named = 0;
    for (way, fault) in C_FAULTS {
        let core = crash(&dir, &way.to_string(), "");
        let (with, signature) = signature_of(&core, &Search::new("/"));
        let (without, other) = signature_of(&core, &Search::new(bare.path()));
        assert_eq!(signature.id, other.id, "{fault}:\n{}\n{}", signature.text, other.text);
        let names =
            |traceback: &Traceback| traceback.frames.iter().filter(|frame| frame.place.symbol.is_some()).count();
        named += names(&with) - names(&without);
    }
    assert!(named > 0, "no debug symbols of the C library are installed (libc6-dbg): this test compared nothing");
}

#[test]
fn stripped_code_is_weak_the_same_in_every_run_and_never_merged_with_strong() {
    let top = tempfile::tempdir().unwrap();
    let dir = build(top.path(), "faults.c", &Environment { after: "strip faults", ..PLAIN });
    let named = build(top.path(), "faults.c", &Environment { name: "named", ..PLAIN });
    let mut seen: BTreeMap<String, &str> = BTreeMap::new();
    for (way, fault) in
        [(1, "null read"), (2, "bad string"), (4, "abort"), (9, "null call"), (12, "division"), (17, "thread")]
    {
        let run = |dir: &Path| signature_of(&crash(dir, &way.to_string(), ""), &Search::new("/")).1;
        let (first, second, strong) = (run(&dir), run(&dir), run(&named));
        assert_eq!(first.id, second.id, "{fault}:\n{}\n{}", first.text, second.text);
        assert_eq!((first.strength, strong.strength), (Strength::Weak, Strength::Strong), "{fault}");
        for signature in [first, strong] {
            let other = seen.insert(signature.id, fault);
            assert!(other.is_none(), "{fault} and {other:?} are one");
        }
    }
}

#[test]
fn the_depth_of_a_recursion_and_the_size_of_the_stack_do_not_count() {
    let top = tempfile::tempdir().unwrap();
    let dir = build(top.path(), "faults.c", &PLAIN);
    let of = |way: &str| signature_of(&crash(&dir, way, ""), &Search::new("/")).1.id;
    assert_eq!(of("16 2"), of("16 5000"));
    let whole = of("8");
    let small = {
        common::shell(
            &dir,
            "ulimit -s 300; ulimit -c unlimited; rm -f core; ./faults 8 2>/dev/null || true; mv core* small",
        );
        signature_of(&dir.join("small"), &Search::new("/")).1.id
    };
    assert_eq!(whole, small);
}
