//! Programs in Go, from tracebacks that were taken of `tests/go/faults.go` and `fatal.go` where Go is installed:
//! `go build -o prog faults.go; GOTRACEBACK=crash ./prog N`, then `raw` of the entry that `ssCoreHandler scan` made of the core.

#![allow(clippy::unwrap_used, reason = "a test ends where something is not as it must be")]

use atlas_corehandler::{
    clean::Rules,
    record::Record,
    signature::{Signature, Strength},
};
use std::collections::BTreeMap;

const TAKEN: &str = include_str!("go/go-1.19.jsonl");
const FATAL: &str = include_str!("go/go-1.19-fatal.jsonl");

const CLEANED: &[(&str, &str)] = &[
    ("method, map of nil", "[runtime.mapassign_faststr] < main.(*Shop).Sell < main.sell < main.main"),
    ("the same method of another type", "[runtime.sigpanic] < main.(*Till).Sell < main.sell < main.main"),
    ("method of a value", "[runtime.sigpanic] < main.Till.Count < main.main"),
    ("index out of range", "[runtime.panicIndex] < main.index < main.main"),
    ("null read", "[runtime.sigpanic] < main.null < main.main"),
    ("null read in a goroutine", "[runtime.sigpanic] < main.null < main.main.func1"),
    ("in a closure", "[runtime.sigpanic] < main.closures.func1 < main.closures < main.main"),
    ("in a second closure", "[runtime.sigpanic] < main.closures.func2 < main.closures < main.main"),
    (
        "in a closure, through a generic function",
        "[runtime.sigpanic] < main.null < main.main.func2 < main.Map < main.main",
    ),
    (
        "in another closure, through a generic function",
        "[runtime.sigpanic] < main.null < main.main.func3 < main.Map < main.main",
    ),
    ("in a comparison that sort calls", "[runtime.sigpanic] < main.null < main.main.func4 < [sort.Slice] < main.main"),
    ("panic", "[runtime.gopanic] < main.main"),
    ("map of nil", "[runtime.mapassign_faststr] < main.main"),
];

const CLEANED_FATAL: &[(&str, &str)] = &[
    ("the same place, plainly", "[runtime.panicIndex] < main.Box.index < main.plain < main.main"),
    (
        "a deferred function panics",
        "[runtime.mapassign_faststr] < main.deferred.func1 < [runtime.panicIndex, deferred] < main.Box.index < main.deferred < main.main",
    ),
    (
        "a deferred function panics where the function itself did",
        "[runtime.panicIndex] < main.Box.index < main.indeferred.func1 < [runtime.panicIndex, deferred] < main.Box.index < \
         main.indeferred < main.main",
    ),
    (
        "panic in a deferred function alone",
        "[runtime.panicIndex] < main.Box.index < main.once.func1 < main.once < main.main",
    ),
    ("unlock of an unlocked mutex", "[sync.(*Mutex).Unlock] < main.unlock < main.main"),
    ("concurrent map writes", "[runtime.mapassign_fast64] < main.writes.func1"),
    ("all asleep: a channel", "[runtime.chanrecv1] < main.asleep < main.main"),
    ("all asleep: a wait group", "[sync.(*WaitGroup).Wait] < main.asleep2 < main.main"),
];

#[derive(serde::Deserialize)]
struct Taken {
    fault: String,
    record: Record,
}

/// Each fault has the cleaned traceback that it should have, a strong signature, and one that no other has.
fn are_told_apart(taken: &str, cleaned: &[(&str, &str)]) {
    let rules = Rules::built_in().unwrap();
    let taken: Vec<Taken> = taken.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(taken.len(), cleaned.len());
    let mut owners: BTreeMap<String, String> = BTreeMap::new();
    for Taken { fault, record } in taken {
        let signature = Signature::of(&record.traceback(), &rules);
        let (_, cleaned) = cleaned.iter().find(|(name, _)| *name == fault).unwrap();
        assert_eq!(signature.cleaned.frames.join(" < "), *cleaned, "{fault}");
        assert_eq!(signature.strength, Strength::Strong, "{fault}: {:?}", signature.cleaned.weaknesses);
        assert_eq!(owners.insert(signature.id, fault.clone()), None, "{fault}");
    }
}

#[test]
fn receivers_and_closures_tell_the_faults_of_a_go_program_apart() {
    are_told_apart(TAKEN, CLEANED);
}

#[test]
fn fatal_errors_and_panics_of_what_was_deferred_are_faults_of_their_own() {
    are_told_apart(FATAL, CLEANED_FATAL);
}

#[test]
fn a_deferred_function_that_panics_for_each_call_of_a_recursion_is_told_once() {
    let taken = FATAL.lines().find(|line| line.contains("where the function itself did")).unwrap();
    let once: Taken = serde_json::from_str(taken).unwrap();
    let rules = Rules::built_in().unwrap();
    let mut traceback = once.record.traceback();
    let named = |name: &str| traceback.frames.iter().position(|frame| frame.place.symbol.as_deref() == Some(name));
    let (first, second) = (named("runtime.goPanicIndex").unwrap(), named("main.indeferred").unwrap());
    let round = traceback.frames[first..second].to_vec();
    let before = Signature::of(&traceback, &rules);
    let deeper = [round.clone(), round].concat();
    traceback.frames.splice(first..first, deeper);
    let after = Signature::of(&traceback, &rules);
    assert_eq!(before.id, after.id, "{:?}", after.cleaned.frames);
}
