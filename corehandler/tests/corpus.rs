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
use common::{
    Environment, build, built, crash,
    languages::{C, CXX, Language, RUST, search},
    signature_of,
};
use std::{collections::BTreeMap, path::Path};

/// Where the program itself behaves otherwise, so that it is another fault, with a row of its own: fault, environment, what the row is called.
///
/// The landing pad in the destructor's caller ends the program there, once the destructor's own frame is gone from the stack.
const OTHERWISE: &[(&str, &str, &str)] =
    &[("throw in a destructor", "clang++ -O2", "throw in a destructor, its frame gone")];

/// An environment, and what a fault gave there.
type Cell = (&'static str, Traceback, Signature);

/// Each fault in each environment.
struct Grid {
    rows: BTreeMap<(usize, &'static str), Vec<Cell>>,
}

fn run(language: &Language) -> Grid {
    let top = tempfile::tempdir().unwrap();
    let mut rows: BTreeMap<(usize, &'static str), Vec<_>> = BTreeMap::new();
    for environment in language.environments {
        let dir = build(top.path(), language.source, environment);
        let search = search(&dir);
        for (way, name) in language.faults {
            let core = crash(&dir, &way.to_string(), environment.variable);
            let (traceback, signature) = signature_of(&core, &search);
            let kept = Signature::of(&Record::of(&traceback).traceback(), &Rules::built_in().unwrap());
            assert_eq!((&kept.text, &kept.plain_id), (&signature.text, &signature.plain_id), "as the store keeps it");
            let otherwise = OTHERWISE.iter().find(|(row, column, _)| row == name && *column == environment.name);
            let row = otherwise.map_or(*name, |(.., row)| row);
            rows.entry((*way, row)).or_default().push((environment.name, traceback, signature));
        }
    }
    Grid { rows }
}

/// Prints the table, and collects every cell that is not like its row, and every row that is like another.
fn assert_one_signature_per_row(language: &Language) {
    let grid = run(language);
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
        for (environment, _, signature) in cells {
            if !alike(signature) {
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
    println!("## {}\n\n{table}", language.name);
    assert!(wrong.is_empty(), "{} cells are wrong:\n\n{}", wrong.len(), wrong.join("\n\n"));
}

#[test]
fn a_fault_in_c_has_one_signature_in_every_build() {
    assert_one_signature_per_row(&C);
}

#[test]
fn a_fault_in_cxx_has_one_signature_in_every_build() {
    assert_one_signature_per_row(&CXX);
}

#[test]
fn a_fault_in_rust_has_one_signature_in_every_build() {
    assert_one_signature_per_row(&RUST);
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

#[test]
fn a_build_without_its_debug_information_has_the_plain_signature_of_the_same_build_with_it() {
    let top = tempfile::tempdir().unwrap();
    let mut differ = 0;
    for (language, build_with) in [
        (&C, "gcc -O3 -g -pthread -w"),
        (&C, "clang -O2 -g -pthread -w"),
        (&CXX, "g++ -Os -g -pthread -w"),
        (&CXX, "clang++ -O3 -g -pthread -w"),
        (&RUST, "rustc --edition 2021 -Cpanic=abort -Copt-level=3 -g"),
        (&RUST, "rustc --edition 2021 -Cpanic=abort -Copt-level=z -Csymbol-mangling-version=v0 -g"),
    ] {
        let environment = built("whole", build_with);
        let dir = build(top.path(), language.source, &environment);
        let cores: Vec<_> =
            language.faults.iter().map(|(way, fault)| (fault, crash(&dir, &way.to_string(), ""))).collect();
        let whole: Vec<_> = cores.iter().map(|(_, core)| signature_of(core, &Search::new("/")).1).collect();
        common::shell(&dir, "strip --strip-debug faults");
        for ((fault, core), whole) in cores.iter().zip(whole) {
            let bare = signature_of(core, &Search::new("/")).1;
            let plain = whole.plain_id.as_ref().unwrap_or(&whole.id);
            assert_eq!(*plain, bare.id, "{fault}, {build_with}:\n{}\n{}", whole.text, bare.text);
            differ += usize::from(whole.plain_id.is_some());
        }
    }
    assert!(differ > 10, "only {differ} had inlined functions");
}

#[test]
fn where_nothing_of_the_program_is_on_the_stack_two_faults_are_weak_and_two() {
    let top = tempfile::tempdir().unwrap();
    let build_with = "rustc --edition 2021 -Cpanic=abort -Copt-level=2 -Csymbol-mangling-version=v0";
    let dir = build(top.path(), "copied.rs", &built("copied", build_with));
    let [one, other] = ["1", "2"].map(|way| signature_of(&crash(&dir, way, ""), &Search::new("/")).1);
    for signature in [&one, &other] {
        let [ended, copied] = &signature.cleaned.frames[..] else { panic!("{}", signature.text) };
        assert!(ended == "[panic]" && copied.starts_with("faults@"), "{}", signature.text);
        assert_eq!(signature.strength, Strength::Weak, "{}", signature.text);
    }
    assert_ne!(one.id, other.id, "{}", one.text);
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
    for (way, fault) in C.faults {
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
