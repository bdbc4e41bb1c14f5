//! Programs in Go, from tracebacks that were taken of `tests/go/faults.go` where Go is installed:
//! `go build -o prog faults.go; GOTRACEBACK=crash ./prog N`, then `raw` of the entry that `ssCoreHandler scan` made of the core.

#![allow(clippy::unwrap_used, reason = "a test ends where something is not as it must be")]

use atlas_corehandler::{
    clean::Rules,
    record::Record,
    signature::{Signature, Strength},
};
use std::collections::BTreeMap;

const TAKEN: &str = include_str!("go/go-1.19.jsonl");

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

#[derive(serde::Deserialize)]
struct Taken {
    fault: String,
    record: Record,
}

#[test]
fn receivers_and_closures_tell_the_faults_of_a_go_program_apart() {
    let rules = Rules::built_in().unwrap();
    let taken: Vec<Taken> = TAKEN.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(taken.len(), CLEANED.len());
    let mut owners: BTreeMap<String, String> = BTreeMap::new();
    for Taken { fault, record } in taken {
        let signature = Signature::of(&record.traceback(), &rules);
        let (_, cleaned) = CLEANED.iter().find(|(name, _)| *name == fault).unwrap();
        assert_eq!(signature.cleaned.frames.join(" < "), *cleaned, "{fault}");
        assert_eq!(signature.strength, Strength::Strong, "{fault}: {:?}", signature.cleaned.weaknesses);
        assert_eq!(owners.insert(signature.id, fault.clone()), None, "{fault}");
    }
}
