//! The fuzz targets' properties on the committed inputs and on mutations of them, the same on every run.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test")]

#[path = "../../fuzz/src/crashes.rs"]
#[allow(unreachable_pub, reason = "a crate of its own there")]
mod properties;

use proptest::{
    prelude::*,
    test_runner::{TestRng, TestRunner},
};
use std::{cell::Cell, fs, path::Path};

/// What a mutation puts in: pieces that some parser minds.
const PIECES: [&[u8]; 20] = [
    b"\0",
    b"\n",
    b"\n ",
    b"\nCoreDump: base64\n ",
    b"ProblemType:",
    b"====",
    b"H4sI",
    b"\x28\xb5\x2f\xfd",
    b"\x04\x22\x4d\x18",
    b"\xfd7zXZ\0",
    b"\xff\xff\xff\xff",
    b"\xff\xff\xff\xff\xff\xff\xff\x7f",
    b"\x7fELF",
    b"[ 1.5] ",
    b"Kernel panic - not syncing",
    b"Call Trace:\n",
    b"a.cold+0x1/0x2\n",
    b"note ",
    b"| strong\n",
    b"signature ",
];

fn seeds(target: &str) -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/seeds-crashes").join(target);
    let mut paths: Vec<_> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths.into_iter().map(|path| fs::read(path).unwrap()).collect()
}

/// One of the seeds with a few of its pieces replaced.
fn mutated(seeds: Vec<Vec<u8>>) -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![
        proptest::sample::select(PIECES.to_vec()).prop_map(<[u8]>::to_vec),
        proptest::collection::vec(any::<u8>(), 0..3),
    ];
    let edits = proptest::collection::vec((any::<prop::sample::Index>(), 0..12_usize, piece), 0..5);
    (proptest::sample::select(seeds), edits).prop_map(|(mut bytes, edits)| {
        for (at, len, piece) in edits {
            let at = at.index(bytes.len() + 1);
            bytes.splice(at..(at + len).min(bytes.len()), piece);
        }
        bytes
    })
}

#[test]
fn every_target_has_seeds_that_parse() {
    for (target, property) in properties::TARGETS {
        let seeds = seeds(target);
        assert!(seeds.len() >= 2, "{target}");
        assert!(seeds.iter().all(|seed| property(seed)), "{target}");
    }
}

#[test]
fn the_properties_hold_for_mutations_of_the_seeds() {
    for (target, property) in properties::TARGETS {
        let config = ProptestConfig { cases: 1000, failure_persistence: None, ..ProptestConfig::default() };
        let rng = TestRng::deterministic_rng(config.rng_algorithm);
        let parsed = Cell::new(0);
        let result = TestRunner::new_with_rng(config, rng).run(&mutated(seeds(target)), |input| {
            parsed.set(parsed.get() + u32::from(property(&input)));
            Ok(())
        });
        result.unwrap_or_else(|error| panic!("{target}: {error}"));
        // A mutator that broke every input would test nothing.
        assert!(parsed.get() > 100, "{target}: {} parsed", parsed.get());
    }
}
