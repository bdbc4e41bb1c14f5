//! The short run of a crate's targets that its tests make: the committed inputs, and mutations of them, the same on every run.

use proptest::{
    prelude::*,
    test_runner::{TestRng, TestRunner},
};
use std::{cell::Cell, fs, path::Path};

/// A target's name and its property; `true` where the input parsed.
pub type Target = (&'static str, fn(&[u8]) -> bool);

/// How many mutations of each target's seeds are tried.
const MUTATIONS: u32 = 1000;

/// The inputs in `fuzz/FOLDER/TARGET`, in the order of their names.
fn inputs(folder: &str, target: &str) -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz").join(folder).join(target);
    let Ok(entries) = fs::read_dir(folder) else { return vec![] };
    let mut paths: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths.into_iter().map(|path| fs::read(path).unwrap()).collect()
}

/// One of the seeds with a few of its pieces replaced.
fn mutated(seeds: Vec<Vec<u8>>, pieces: &[&'static [u8]]) -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![
        proptest::sample::select(pieces.to_vec()).prop_map(<[u8]>::to_vec),
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

/// Every target has two seeds or more in `seeds-OF`, all of which parse.
pub fn seeds_parse(of: &str, targets: &[Target]) {
    for (target, property) in targets {
        let seeds = inputs(&format!("seeds-{of}"), target);
        assert!(seeds.len() >= 2, "{target}");
        seeds.iter().for_each(|seed| assert!(property(seed), "{target}: {}", String::from_utf8_lossy(seed)));
    }
}

/// The properties hold for what was found once, in `regressions-OF`, and for mutations of the seeds, of which some parse.
pub fn mutations_hold(of: &str, targets: &[Target], pieces: &[&'static [u8]]) {
    for (target, property) in targets {
        inputs(&format!("regressions-{of}"), target).iter().for_each(|input| _ = property(input));
        let config = ProptestConfig { cases: MUTATIONS, failure_persistence: None, ..ProptestConfig::default() };
        let rng = TestRng::deterministic_rng(config.rng_algorithm);
        let parsed = Cell::new(0);
        let seeds = mutated(inputs(&format!("seeds-{of}"), target), pieces);
        let result = TestRunner::new_with_rng(config, rng).run(&seeds, |input| {
            parsed.set(parsed.get() + u32::from(property(&input)));
            Ok(())
        });
        result.unwrap_or_else(|error| panic!("{target}: {error}"));
        // A mutator that broke every input would test nothing.
        assert!(parsed.get() > 100, "{target}: {} parsed", parsed.get());
    }
}
