//! A program that is another now than it was when it crashed: no name of it may stand for one of what ran.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test ends where something is not as it must be")]

mod common;

use atlas_corehandler::{
    signature::{Signature, Strength},
    space::Search,
};
use common::{crash, shell, signature_of};
use std::{fs, path::Path};

const SOURCE: &str = "
#include <stdio.h>
#define FAR __attribute__((noinline))
volatile int sink;
FAR int x_inner(int *p) { sink = *p; return sink * 3; }
FAR int x_outer(int *p) { int r = x_inner(p); return sink = r + 1; }
int main(int count, char **arguments) { START sink = x_outer((int *)(long)(count > 50)); return 0; }
";
/// Puts the other one in its own place.
const REPLACE: &str = "rename(\"other\", arguments[0]);";
/// Without a build id; two that differ in names alone have the same first page.
const BARE: &str = "gcc -O1 -Wl,--build-id=none -w";

fn build(dir: &Path, name: &str, compiler: &str, source: &str) {
    fs::write(dir.join("source.c"), source).unwrap();
    shell(dir, &format!("{compiler} -o {name} source.c"));
}

/// Builds the program and one whose functions have other names, and which looks like it at its beginning.
fn build_both(dir: &Path, start: &str) {
    let source = SOURCE.replace("START", start);
    build(dir, "faults", BARE, &source);
    build(dir, "other", BARE, &source.replace("x_", "y_"));
    let page = |name: &str| fs::read(dir.join(name)).unwrap()[..4096].to_vec();
    assert!(page("faults") == page("other"), "the first page tells them apart: this tests nothing");
}

fn read(core: &Path) -> Signature {
    signature_of(core, &Search::new("/")).1
}

/// Asserts that nothing is named, and that the reason is.
fn assert_refused(signature: &Signature, how: &str) {
    assert_eq!(signature.strength, Strength::Weak, "{how}: {}", signature.text);
    assert!(!signature.text.contains("x_") && !signature.text.contains("y_"), "{how}: {}", signature.text);
    let why = "the file on this disk is not proven to be the one that ran: faults";
    let weaknesses = &signature.cleaned.weaknesses;
    assert!(weaknesses.iter().any(|weakness| weakness == why), "{how}: {weaknesses:?}");
}

#[test]
fn a_program_without_a_build_id_that_was_replaced_after_the_crash_names_nothing() {
    let tmp = tempfile::tempdir().unwrap();
    let dir = tmp.path();
    build_both(dir, "");
    let core = crash(dir, "", "");
    let before = read(&core);
    assert_eq!((before.strength, before.text.contains("x_inner")), (Strength::Strong, true), "{}", before.text);
    fs::rename(dir.join("faults"), dir.join("faults.old")).unwrap();
    fs::rename(dir.join("other"), dir.join("faults")).unwrap();
    assert_refused(&read(&core), "renamed over");
    // Somebody who names the program knows which it was.
    let search = Search { program: Some(dir.join("faults.old")), ..Search::new("/") };
    assert_eq!(signature_of(&core, &search).1.id, before.id);
    fs::remove_file(dir.join("faults")).unwrap();
    assert_refused(&read(&core), "removed");
}

#[test]
fn a_program_without_a_build_id_that_was_replaced_while_it_ran_names_nothing() {
    let tmp = tempfile::tempdir().unwrap();
    let dir = tmp.path();
    build_both(dir, REPLACE);
    let core = crash(dir, "", "");
    assert!(!dir.join("other").exists(), "it did not replace itself");
    assert_refused(&read(&core), "replaced by itself");
}

#[test]
fn a_file_without_a_build_id_that_has_no_calls_where_the_program_returns_to_is_another() {
    let tmp = tempfile::tempdir().unwrap();
    let dir = tmp.path();
    let source = SOURCE.replace("START", "");
    build(dir, "faults", BARE, &source);
    let moved = source
        .replace("r + 1;", "r * 5 + count_of(r);")
        .replace("FAR int x_outer", "static int count_of(int n) { sink += n; return 1; }\nFAR int x_outer");
    build(dir, "other", BARE, &moved);
    let page = |name: &str| fs::read(dir.join(name)).unwrap()[..64].to_vec();
    assert!(page("faults") == page("other"), "the headers differ");
    // As far as the core can tell: with its first page, the rest is the other's.
    shell(dir, "head -c 4096 faults >mixed; tail -c +4097 other >>mixed");
    let core = crash(dir, "", "");
    let search = Search { program: Some(dir.join("mixed")), ..Search::new("/nonexistent") };
    assert_refused(&signature_of(&core, &search).1, "moved");
}

#[test]
fn a_program_with_a_build_id_is_known_wherever_it_came_from() {
    let tmp = tempfile::tempdir().unwrap();
    let dir = tmp.path();
    build(dir, "faults", "gcc -O1 -w", &SOURCE.replace("START", ""));
    let core = crash(dir, "", "");
    let before = read(&core);
    assert_eq!(before.strength, Strength::Strong);
    shell(dir, "cp faults copy; rm faults; cp copy faults");
    assert_eq!(read(&core).id, before.id);
    build(dir, "faults", BARE, &SOURCE.replace("START", ""));
    assert_refused(&read(&core), "another");
}
