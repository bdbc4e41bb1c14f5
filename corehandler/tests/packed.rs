//! Cores as others keep them, packed by the tools that do it there: the same signature as the bare core's, and bombs come to nothing.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test ends where something is not as it must be")]

mod common;

use atlas_corehandler::{core_file::Core, find, space::Search};
use base64::{Engine, prelude::BASE64_STANDARD};
use common::{Environment, build, built, crash, shell, signature_of};
use std::{fs, path::Path, process::Command};

const BUILD: Environment = built("gcc", "gcc -O1 -g -pthread -w");

/// Writes a report as apport's `problem_report.py` does: the stream is cut into blocks, each a line of its own.
fn apport_report(packed: &[u8], report: &Path) {
    let mut text = "ProblemType: Crash\nArchitecture: amd64\nCoreDump: base64\n".to_owned();
    for block in std::iter::once(&packed[..10]).chain(packed[10..].chunks(65_537)) {
        text += &format!(" {}\n", BASE64_STANDARD.encode(block));
    }
    text += "ExecutablePath: /srv/faults\nProcMaps:\n 55 r-xp /srv/faults\n Q29yZQ==\n";
    fs::write(report, text).unwrap();
}

#[test]
fn a_packed_core_has_the_signature_of_the_bare_one_and_is_found_and_kept() {
    let top = tempfile::tempdir().unwrap();
    let dir = build(top.path(), "faults.c", &BUILD);
    let core = crash(&dir, "2", "");
    let search = Search::new("/");
    let (_, bare) = signature_of(&core, &search);
    let place = top.path().join(find::OWN_PLACE);
    fs::create_dir_all(&place).unwrap();
    let pack = |name: &str, command: &str| {
        shell(&dir, &format!("{command} < {} > {}", core.display(), place.join(name).display()));
    };
    pack("core.a.zst", "zstd -q -19");
    pack("core.b.lz4", "lz4 -q -c");
    pack("core.c.xz", "xz -9 -c");
    pack("gzip", "gzip -n -c");
    let gzip = place.join("gzip");
    apport_report(&fs::read(&gzip).unwrap(), &place.join("_srv_faults.0.crash"));
    apport_report(&fs::read(place.join("core.a.zst")).unwrap(), &place.join("_srv_newer.0.crash"));
    fs::remove_file(gzip).unwrap();
    for name in ["core.a.zst", "core.b.lz4", "core.c.xz", "_srv_faults.0.crash", "_srv_newer.0.crash"] {
        let (_, signature) = signature_of(&place.join(name), &search);
        assert_eq!(signature.id, bare.id, "{name}:\n{}", signature.text);
        // What the store keeps of it is a core that anything can read.
        let store = top.path().join(format!("store-{name}"));
        fs::create_dir_all(store.join(find::OWN_PLACE)).unwrap();
        fs::copy(place.join(name), store.join(find::OWN_PLACE).join(name)).unwrap();
        let scan = Command::new(env!("CARGO_BIN_EXE_ssCoreHandler")).arg("--root").arg(&store).arg("scan").output();
        assert_eq!(scan.unwrap().status.code(), Some(3), "{name} is a new crash");
        shell(&store, &format!("cat var/lib/atlas/crashes/cores/*.zst | zstd -q -d | cmp - {}", core.display()));
    }
    assert_eq!(find::cores(top.path(), &[]).unwrap().len(), 5);
}

#[test]
fn a_report_that_apport_itself_wrote_is_found_and_names_the_function() {
    // A server's tree, with the program that crashed there.
    let root = tempfile::tempdir().unwrap();
    shell(root.path(), &format!("cp -r {}/. .", common::source("../ubuntu").display()));
    let scan = Command::new(env!("CARGO_BIN_EXE_ssCoreHandler")).arg("--root").arg(root.path()).arg("scan").output();
    let scan = scan.unwrap();
    let said = String::from_utf8_lossy(&scan.stdout);
    assert_eq!(scan.status.code(), Some(3), "{said}");
    assert!(said.contains("of tiny (strong): x_read < x_report < main"), "{said}");
    assert!(root.path().join("var/crash/_srv_tiny.0.crash").exists(), "what others keep stays where it is");
}

#[test]
fn a_packed_core_that_was_cut_off_is_answered_and_says_what_is_missing() {
    let top = tempfile::tempdir().unwrap();
    let dir = build(top.path(), "faults.c", &BUILD);
    let core = crash(&dir, "2", "");
    for (pack, name) in [("zstd -q -c", "core.zst"), ("lz4 -q -c", "core.lz4"), ("xz -c", "core.xz")] {
        shell(
            &dir,
            &format!("{pack} < {} > whole; head -c $(($(stat -c %s whole) * 9 / 10)) whole > {name}", core.display()),
        );
        match Core::open(&dir.join(name)) {
            Ok(core) => assert!(core.missing_bytes > 0, "{name}"),
            Err(error) => assert!(error.to_string().contains("not a core file that can be read"), "{name}: {error}"),
        }
    }
}

#[test]
fn reports_without_a_core_and_with_nonsense_are_refused_with_the_reason() {
    let tmp = tempfile::tempdir().unwrap();
    let report = tmp.path().join("_a.0.crash");
    let refusal = |text: &str| {
        fs::write(&report, text).unwrap();
        Core::open(&report).unwrap_err().to_string()
    };
    assert!(refusal("ProblemType: Crash\nTraceback: python\n").contains("without a core"));
    assert!(refusal("ProblemType: Crash\nCoreDump: base64\n !!!\n").contains("Invalid symbol"));
    assert!(refusal("ProblemType: Crash\nCoreDump: base64\n").contains("packed in an unknown way"));
    assert!(
        refusal("ProblemType: Crash\nCoreDump: base64\n UHJvYmxlbVR5cGU6IENyYXNo\n")
            .contains("packed in an unknown way")
    );
    assert!(refusal(&format!("ProblemType: {}", "x".repeat(17 << 20))).contains("a line of more than"));
}
