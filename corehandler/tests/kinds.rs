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
        (environment.name, signature(&build(top, source, environment), way, environment.variable))
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
