//! The fuzz targets' properties on the committed inputs and on mutations of them, the same on every run.
//!
//! `fuzz/README.md` tells how to search further. What a search finds is kept in `fuzz/regressions` and runs here from then on.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test")]

#[path = "../../fuzz/src/properties.rs"]
#[allow(unreachable_pub, reason = "a crate of its own there")]
mod properties;

use atlas_model::{MasterConfig, PathList, manifest::Manifest, md::MdSuperblock};
use properties::{Property, TARGETS};
use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

const MUTATIONS_PER_TARGET: usize = 2000;
/// As `-max_len` in `fuzz/README.md`, in bytes.
const MAX_LEN: usize = 8192;
const DICTIONARY: [&[u8]; 24] = [
    b"\0",
    b"\n",
    b"\r\n",
    b"/",
    b"/..",
    b"/.",
    b"//",
    b"\\x2e\\x2e",
    b"\\x00",
    b"\\",
    b"\"",
    b"\x1b[2J",
    b"\xff",
    b"\xe2\x80\xae",
    b"# atlas: 2",
    b"# atlas: 1",
    b"PRI",
    b"SEC99",
    b"SEC",
    b"[[partner]]\n",
    b"format = ",
    b"{",
    b"[",
    b"4294967295",
];

fn folder(kind: &str, target: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz").join(kind).join(target)
}

/// The inputs of a folder, by name; none where there is no folder.
fn inputs(kind: &str, target: &str) -> Vec<(PathBuf, Vec<u8>)> {
    let Ok(entries) = fs::read_dir(folder(kind, target)) else { return Vec::new() };
    let mut paths = entries.map(|entry| entry.unwrap().path()).collect::<Vec<_>>();
    paths.sort();
    paths.into_iter().map(|path| (path.clone(), fs::read(path).unwrap())).collect()
}

/// Runs a property, and where it fails leaves the input in a file.
fn check(target: &str, property: Property, input: &[u8], origin: &str) -> bool {
    std::panic::catch_unwind(|| property(input)).unwrap_or_else(|_| {
        let kept = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{target}-failed"));
        fs::write(&kept, input).unwrap();
        panic!("{target}: {origin}; the input is {}", kept.display());
    })
}

/// xorshift64*: enough to vary bytes, and the same on every machine.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// A number below `end`, which may be 0.
    fn below(&mut self, end: usize) -> usize {
        (self.next() >> 33) as usize % end.max(1)
    }

    fn range(&mut self, len: usize) -> std::ops::Range<usize> {
        let start = self.below(len + 1);
        start..start + self.below((len - start).min(64) + 1)
    }

    fn mutate(&mut self, bytes: &mut Vec<u8>, other: &[u8]) {
        let len = bytes.len();
        match self.below(8) {
            0 | 1 if len > 0 => bytes[self.below(len)] ^= 1 << self.below(8),
            2 if len > 0 => bytes[self.below(len)] = self.next() as u8,
            3 => bytes.truncate(self.below(len + 1)),
            4 => {
                let doubled = bytes[self.range(len)].to_vec();
                let at = self.below(len + 1);
                bytes.splice(at..at, doubled);
            }
            5 => {
                let (part, at) = (self.range(other.len()), self.range(len));
                bytes.splice(at, other[part].iter().copied());
            }
            6 => {
                let at = self.range(len);
                bytes.splice(at.start..at.start, DICTIONARY[self.below(DICTIONARY.len())].iter().copied());
            }
            _ => {
                let number =
                    [0, 1, 0x7f, 0xff, 0x7fff, 0xffff, 0x7fff_ffff, 0xffff_ffff, u64::MAX, 1 << 63][self.below(10)];
                let width = [1, 2, 4, 8][self.below(4)];
                let at = self.below(len.saturating_sub(width) + 1);
                let end = (at + width).min(len);
                bytes[at..end].copy_from_slice(&number.to_le_bytes()[..end - at]);
            }
        }
        bytes.truncate(MAX_LEN);
    }
}

#[test]
fn every_target_has_seeds_that_parse_and_no_folder_is_without_a_target() {
    let names = TARGETS.iter().map(|(name, _)| (*name).to_owned()).collect::<BTreeSet<_>>();
    for kind in ["seeds", "regressions"] {
        let folders = fs::read_dir(folder(kind, "")).unwrap().map(|entry| entry.unwrap());
        let folders =
            folders.filter(|entry| entry.path().is_dir()).map(|entry| entry.file_name().into_string().unwrap());
        for name in folders {
            assert!(names.contains(&name), "{kind}/{name}");
        }
    }
    for (target, property) in TARGETS {
        let seeds = inputs("seeds", target);
        assert!(seeds.len() >= 2, "{target} has {} seeds", seeds.len());
        for (path, seed) in seeds {
            assert!(property(&seed), "{} does not parse", path.display());
        }
    }
}

#[test]
fn the_checksum_is_the_one_that_mdadm_wrote() {
    for (path, block) in inputs("seeds", "md") {
        assert!(matches!(MdSuperblock::parse(&block, 4096), Ok(Some(_))), "{}", path.display());
    }
}

#[test]
fn the_properties_hold_for_all_seeds_and_for_what_was_found_once() {
    for (target, property) in TARGETS {
        for (path, input) in ["seeds", "regressions"].into_iter().flat_map(|kind| inputs(kind, target)) {
            check(target, property, &input, &path.display().to_string());
        }
    }
}

#[test]
fn the_properties_hold_for_mutations_of_the_seeds() {
    for (target, property) in TARGETS {
        let [seeds, found] = ["seeds", "regressions"].map(|kind| inputs(kind, target));
        let mut random = Random(0x41_54_4c_41_53);
        let mut parsed = 0;
        for round in 0..MUTATIONS_PER_TARGET {
            // Mostly from what parses: next to it lies what parses wrongly.
            let from = if random.below(4) == 0 { &found } else { &seeds };
            let mut input = from[random.below(from.len())].1.clone();
            let other = &seeds[random.below(seeds.len())].1;
            for _ in 0..[1, 1, 2, 4][random.below(4)] {
                random.mutate(&mut input, other);
            }
            parsed += usize::from(check(target, property, &input, &format!("mutation {round}")));
        }
        // A mutator that broke every input, or none, would test nothing.
        assert!((30..MUTATIONS_PER_TARGET - 30).contains(&parsed), "{target}: {parsed} parsed");
    }
}

#[test]
fn a_file_beyond_its_bound_is_refused_before_it_is_read_and_one_within_in_time() {
    let begun = Instant::now();
    let filled =
        |begin: &str, unit: &str, len: usize| [begin.as_bytes(), &unit.as_bytes().repeat(len / unit.len())].concat();
    for unit in ["a.", "[", "[[partner]]\n", "a={", "\u{e9}", "\"", "\\", "#\n"] {
        let within = filled("format = 1\n", unit, MasterConfig::MAX_SIZE - 40);
        assert!(MasterConfig::parse(&within).is_err(), "{unit:?}");
        properties::master_config(&within);
    }
    for unit in ["/a\n", "/a/b/c/d/e/f/g/h\n", "\\x2f", "\u{202e}", "#\n"] {
        properties::path_list(&filled("/", unit, PathList::MAX_SIZE / 16));
    }
    for unit in ["{\"a\":", "[", "\n", "{}\n"] {
        let within = filled(
            "{\"atlas\":\"manifest\",\"format\":1,\"role\":\"PRI\",\"env_version\":1,\"entries\":7}\n",
            unit,
            1 << 18,
        );
        assert!(Manifest::parse(&within).is_err(), "{unit:?}");
        properties::manifest(&within);
    }
    properties::tree_path(&filled("/", "\\x61", 1 << 18));
    properties::env_version(&filled("", "1", 1 << 18));
    properties::cluster(&filled("", "a", 1 << 18));
    let worst = begun.elapsed();
    assert!(worst < Duration::from_secs(20), "took {worst:?}");

    let begun = Instant::now();
    assert!(
        matches!(MasterConfig::parse(&vec![b'#'; MasterConfig::MAX_SIZE + 1]).unwrap_err().to_string().as_str(), text if text.contains("larger"))
    );
    assert!(PathList::parse(&vec![b'/'; PathList::MAX_SIZE + 1]).unwrap_err().to_string().contains("larger"));
    assert!(Manifest::parse(&vec![0; Manifest::MAX_SIZE + 1]).unwrap_err().to_string().contains("larger"));
    assert!(begun.elapsed() < Duration::from_secs(5));
}
