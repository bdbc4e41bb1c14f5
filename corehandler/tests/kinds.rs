//! Kinds of programs that optimisation leaves with less on the stack, or with names that may be anyone's.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test ends where something is not as it must be")]

mod common;

use atlas_corehandler::{
    signature::{Signature, Strength},
    space::Search,
};
use common::{Environment, build, built, crash, signature_of};
use std::path::Path;

fn signature(dir: &Path, way: &str, variable: &str) -> Signature {
    signature_of(&crash(dir, way, variable), &Search::new("/")).1
}

/// All signatures of one fault are strong and one, under these names.
fn assert_one(fault: &str, signatures: &[(&str, Signature)], expected: &[&str]) {
    for (environment, signature) in signatures {
        assert_eq!(signature.cleaned.frames, expected, "{fault}, {environment}");
        assert_eq!(
            (signature.strength, &signature.id),
            (Strength::Strong, &signatures[0].1.id),
            "{fault}, {environment}"
        );
    }
}

fn in_each(top: &Path, source: &str, builds: &[Environment], way: &str) -> Vec<(&'static str, Signature)> {
    let one = |environment: &Environment| {
        // What was built for another way is the same program.
        let dir = top.join(environment.folder());
        let dir = if dir.exists() { dir } else { build(top, source, environment) };
        (environment.name, signature(&dir, way, environment.variable))
    };
    builds.iter().map(one).collect()
}

#[test]
fn what_only_one_file_can_see_is_told_by_the_path_to_it() {
    let top = tempfile::tempdir().unwrap();
    let builds = [
        built("g++ -O0", "g++ -O0 -g -pthread -w"),
        built("g++ -O2", "g++ -O2 -g -pthread -w"),
        built("g++ -O3, DWARF 4", "g++ -O3 -g -gdwarf-4 -pthread -w"),
        built("g++ -Os, types apart", "g++ -Os -g -fdebug-types-section -pthread -w"),
        built("clang++ -O2", "clang++ -O2 -g -pthread -w"),
    ];
    for (way, function) in [("1", "work"), ("2", "other_work")] {
        let names =
            ["[abort]".into(), format!("{function}::Local::run"), format!("{function}::{{lambda}}::operator()")];
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        assert_one(function, &in_each(top.path(), "kinds.cc", &builds, way), &names);
    }
}

#[test]
fn overloads_and_instances_of_a_template_are_faults_of_their_own() {
    let top = tempfile::tempdir().unwrap();
    let builds = [
        built("g++ -O0", "g++ -O0 -g -pthread -w"),
        built("g++ -O2", "g++ -O2 -g -pthread -w"),
        built("g++ -O2, C++11", "g++ -std=c++11 -O2 -g -pthread -w"),
        built("g++ -O2 -flto", "g++ -O2 -g -flto -pthread -w"),
        built("clang++ -O2", "clang++ -O2 -g -pthread -w"),
        Environment { after: "strip --strip-debug faults", ..built("symbols only", "g++ -O2 -pthread -w") },
    ];
    for (way, function) in [
        ("5", "Till::Till(int)"),
        ("6", "Till::Till(double)"),
        ("7", "Till::add(int)"),
        ("8", "Till::add(double)"),
        ("9", "Till::first"),
        ("10", "Till::first const"),
        ("11", "List::push<int>(int)"),
        ("12", "List::push<double>(double)"),
        ("13", "counts<int>(int)"),
        ("14", "counts<double>(double)"),
        ("15", "counts<short>(short)"),
        ("16", "repeats<3>"),
        ("17", "repeats<4>"),
    ] {
        assert_one(function, &in_each(top.path(), "kinds.cc", &builds, way), &[function, "main"]);
    }
}

#[test]
fn overloads_and_lambdas_that_only_one_file_can_see_are_weak_and_two_faults() {
    let top = tempfile::tempdir().unwrap();
    for (name, with) in [
        ("g++ -O0", "g++ -O0 -g -pthread -w"),
        ("g++ -O2", "g++ -O2 -pthread -w"),
        ("clang++ -O2", "clang++ -O2 -g -pthread -w"),
    ] {
        let dir = build(top.path(), "kinds.cc", &built(name, with));
        for (ways, function) in [(["18", "19"], "hidden@"), (["20", "21"], "lambdas::{lambda}::operator()@")] {
            let [one, other] = ways.map(|way| signature(&dir, way, ""));
            for signature in [&one, &other] {
                assert_eq!(signature.strength, Strength::Weak, "{name}: {}", signature.text);
                assert!(signature.cleaned.frames[0].starts_with(function), "{name}: {}", signature.text);
            }
            assert_ne!(one.id, other.id, "{name}: {}", one.text);
        }
        let alone = signature(&dir, "22", "");
        assert_eq!(alone.strength, Strength::Strong, "{name}: {}", alone.text);
        assert_eq!(alone.cleaned.frames[0], "only", "{name}");
    }
}

#[test]
fn functions_of_one_name_in_two_files_of_c_are_weak_and_two_faults() {
    let top = tempfile::tempdir().unwrap();
    let source = common::source("statics.c");
    for (name, with) in [
        ("gcc -O0", "gcc -O0 -g -w"),
        ("gcc -O2", "gcc -O2 -w"),
        ("gcc -O2 -flto", "gcc -O2 -g -flto -w"),
        ("gcc -O2 static", "gcc -O2 -static -w"),
        ("clang -O2", "clang -O2 -g -w"),
    ] {
        let other = top.path().join("other.o");
        common::shell(top.path(), &format!("{with} -DOTHER -c -o {} {}", other.display(), source.display()));
        let with = format!("{with} {}", other.display()).leak();
        let dir = build(top.path(), "statics.c", &built(name, with));
        let [one, other] = ["1", "2"].map(|way| signature(&dir, way, ""));
        for signature in [&one, &other] {
            assert_eq!(signature.strength, Strength::Weak, "{name}: {}", signature.text);
            assert!(signature.cleaned.frames[0].starts_with("handle@"), "{name}: {}", signature.text);
        }
        assert_ne!(one.id, other.id, "{name}: {}", one.text);
        let alone = signature(&dir, "3", "");
        assert_eq!(alone.strength, Strength::Strong, "{name}: {}", alone.text);
        assert_eq!(alone.cleaned.frames, ["alone", "main"], "{name}");
    }
}

/// What is weak because of code that was copied: `ways` end at one place in the source each, and none is taken for another.
fn assert_weak_and_apart(dir: &Path, ways: &[&str], begin: &str) {
    let mut seen = std::collections::BTreeSet::new();
    for way in ways {
        let signature = signature(dir, way, "");
        assert_eq!(signature.strength, Strength::Weak, "{way}: {}", signature.text);
        assert!(signature.cleaned.frames.iter().any(|frame| frame.starts_with(begin)), "{way}: {}", signature.text);
        assert!(seen.insert(signature.id.clone()), "{way} is taken for another fault: {}", signature.text);
    }
}

#[test]
fn callables_that_were_copied_into_the_librarys_functions_are_weak_and_two_faults() {
    let top = tempfile::tempdir().unwrap();
    let dir = build(top.path(), "callables.cc", &built("g++ -O2", "g++ -O2 -pthread -w"));
    assert_weak_and_apart(&dir, &["1", "2", "3", "4", "5", "6"], "{callable}@");
    assert_weak_and_apart(&dir, &["7", "8"], "faults@");
    let told = build(top.path(), "callables.cc", &built("g++ -O2 -g", "g++ -O2 -g -pthread -w"));
    assert_weak_and_apart(&told, &["3", "4"], "calls::{lambda}::operator()@");
    assert_weak_and_apart(&told, &["7", "8"], "main::{lambda}::operator()@");
    let [up, down] = ["5", "6"].map(|way| signature(&told, way, ""));
    assert_eq!(
        (up.strength, &*up.cleaned.frames[1]),
        (Strength::Strong, "Up::operator()(int, int) const"),
        "{}",
        up.text
    );
    assert_ne!(up.id, down.id, "{}", up.text);
}

#[test]
fn closures_that_were_copied_into_what_begins_a_thread_are_weak_and_two_faults() {
    let top = tempfile::tempdir().unwrap();
    for debug in ["", " -g"] {
        let with = of_rust("threads", format!("{LEGACY} -Copt-level=2{debug}"));
        let dir = build(&top.path().join(format!("with{debug}")), "in_threads.rs", &with);
        let begin = if debug.is_empty() { "" } else { "in_threads::main::{closure}@" };
        assert_weak_and_apart(&dir, &["1", "2"], begin);
    }
}

#[test]
fn panics_that_were_copied_into_rusts_main_are_weak_and_faults_of_their_own() {
    let top = tempfile::tempdir().unwrap();
    for (name, with) in [("release", format!("{LEGACY} -Copt-level=3")), ("v0, small", format!("{V0} -Copt-level=s"))] {
        let dir = build(top.path(), "in_main.rs", &of_rust(name, with));
        assert_weak_and_apart(&dir, &["1", "2", "3"], "in_main::main@");
        let apart = signature(&dir, "4", "");
        assert_eq!(apart.strength, Strength::Strong, "{name}: {}", apart.text);
    }
    let told = build(top.path(), "in_main.rs", &of_rust("told", format!("{LEGACY} -Copt-level=3 -g")));
    let sells = signature(&told, "2", "");
    assert_eq!(sells.strength, Strength::Strong, "{}", sells.text);
}

const V0: &str = "rustc --edition 2021 -Cpanic=abort -Csymbol-mangling-version=v0";
const LEGACY: &str = "rustc --edition 2021 -Cpanic=abort";

fn of_rust(name: &'static str, build: String) -> Environment {
    built(name, build.leak())
}

#[test]
fn methods_of_several_traits_are_faults_of_their_own() {
    let top = tempfile::tempdir().unwrap();
    let builds = [
        of_rust("-O0", format!("{LEGACY} -Copt-level=0 -g")),
        of_rust("-O2", format!("{LEGACY} -Copt-level=2 -g")),
        of_rust("v0", format!("{V0} -Copt-level=2 -g")),
        of_rust("v0, bare", format!("{V0} -Copt-level=0")),
    ];
    for (way, function) in [
        ("3", "kinds::Item::act as kinds::Sell"),
        ("4", "kinds::Item::act as kinds::Buy"),
        ("5", "kinds::Price::from as core::convert::From<i32>"),
        ("6", "kinds::Price::from as core::convert::From<u8>"),
    ] {
        let all = in_each(top.path(), "kinds.rs", &builds, way);
        for (environment, signature) in &all {
            assert!(
                signature.cleaned.frames.iter().any(|frame| frame == function),
                "{environment}: {}",
                signature.text
            );
            assert_eq!((signature.strength, &signature.id), (Strength::Strong, &all[0].1.id), "{environment}");
        }
    }
}

#[test]
fn instances_of_a_generic_function_are_two_faults_and_weak_where_their_names_are_one() {
    let top = tempfile::tempdir().unwrap();
    let told = [
        of_rust("v0 -O0", format!("{V0} -Copt-level=0 -g")),
        of_rust("v0 -O2", format!("{V0} -Copt-level=2 -g")),
        of_rust("v0, bare", format!("{V0} -Copt-level=2")),
    ];
    for (way, function) in [("1", "kinds::counts<i32>"), ("2", "kinds::counts<&str>")] {
        let names = ["[panic]", function, "kinds::main"];
        assert_one(function, &in_each(top.path(), "kinds.rs", &told, way), &names);
    }
    for build in [format!("{LEGACY} -Copt-level=0 -g"), format!("{LEGACY} -Copt-level=2")] {
        let dir = build_at(&top.path().join("first"), &build);
        let [one, other] = ["1", "2"].map(|way| signature(&dir, way, ""));
        for signature in [&one, &other] {
            assert_eq!(signature.strength, Strength::Weak, "{}", signature.text);
            assert!(signature.cleaned.frames[1].starts_with("kinds::counts@"), "{}", signature.text);
        }
        assert_ne!(one.id, other.id, "{}", one.text);
        // The only instance has no other to be taken for.
        let alone = signature(&dir, "7", "");
        assert_eq!(alone.strength, Strength::Strong, "{}", alone.text);
        let again = signature(&build_at(&top.path().join("elsewhere"), &build), "7", "");
        assert_eq!(alone.id, again.id);
    }
}

fn build_at(top: &Path, with: &str) -> std::path::PathBuf {
    build(top, "kinds.rs", &of_rust("legacy", with.to_owned()))
}

#[test]
fn a_method_that_no_class_implements_is_told_where_the_call_of_it_is_a_jump() {
    let top = tempfile::tempdir().unwrap();
    let static_bare = built("static", "g++ -Os -g -static -pthread -w");
    let dir = build(top.path(), "kinds.cc", &static_bare);
    let whole = build(top.path(), "kinds.cc", &built("whole", "g++ -O0 -g -pthread -w"));
    for way in ["3", "4"] {
        let [one, other] = [&dir, &whole].map(|dir| signature(dir, way, ""));
        assert_eq!(one.cleaned.frames[..2], other.cleaned.frames[..2], "{}\n{}", one.text, other.text);
        assert_eq!(one.cleaned.frames[0], "[pure virtual]");
    }
}

#[test]
fn a_main_that_left_by_a_jump_is_as_one_that_called() {
    let top = tempfile::tempdir().unwrap();
    let builds = [
        built("gcc -O0", "gcc -O0 -g -w"),
        built("gcc -O2", "gcc -O2 -g -w"),
        built("gcc -O2 static", "gcc -O2 -g -static -w"),
        built("gcc -O2 static PIE", "gcc -O2 -g -static-pie -w"),
        built("clang -O2", "clang -O2 -g -w"),
        Environment { after: "strip --strip-debug faults", ..built("symbols only", "gcc -O2 -w") },
    ];
    assert_one("recursion", &in_each(top.path(), "leaves.c", &builds, "1"), &["deep", "main"]);
    assert_one("fault", &in_each(top.path(), "leaves.c", &builds, "2"), &["reads", "main"]);
}

#[test]
fn what_runs_before_main_was_not_called_by_it() {
    let top = tempfile::tempdir().unwrap();
    let builds = ["gcc -O2 -g -w", "gcc -O2 -g -static -w"]
        .map(|build_with| Environment { variable: "EARLY=1", ..built(build_with, build_with) });
    assert_one("constructor", &in_each(top.path(), "leaves.c", &builds, "2"), &["[abort]", "before"]);
}

#[test]
fn c_code_in_a_go_program_was_called_by_a_goroutine() {
    let top = tempfile::tempdir().unwrap();
    let builds = [built("gcc -O0", "gcc -O0 -g -w"), built("gcc -O2", "gcc -O2 -g -w")];
    for (way, function) in [("1", "one"), ("2", "other")] {
        let signatures = in_each(top.path(), "calls_c.c", &builds, way);
        assert_one(function, &signatures, &["in_c", "[runtime.asmcgocall]", function, "main"]);
    }
}
