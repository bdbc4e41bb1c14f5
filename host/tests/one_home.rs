//! Other programs are run from one place, in one language: who starts one otherwise reads words and numbers of this server's own language.

#![allow(clippy::unwrap_used, reason = "a test ends where something is not as it must be")]

use std::{
    fs,
    path::{Path, PathBuf},
};

/// The products. The others are for those who work on them.
const PRODUCTS: [&str; 12] = [
    "cli",
    "console",
    "converters",
    "corehandler",
    "host",
    "initramfs",
    "model",
    "modules",
    "runner",
    "sid",
    "synchronizer",
    "verifier",
];
/// The home. (ssRun, which gives a program the environment that it was given, starts it by a call of its own.)
const HOMES: [&str; 1] = ["host/src/process.rs"];

fn sources(dir: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(dir).unwrap().map(Result::unwrap) {
        let (path, name) = (entry.path(), entry.file_name().into_string().unwrap());
        let is_test = ["testing", "tests", "simulation"].contains(&name.as_str())
            || name == "tests.rs"
            || name.ends_with("_tests.rs");
        match path.is_dir() {
            _ if is_test => {}
            true => sources(&path, found),
            false => found.extend(name.ends_with(".rs").then_some(path)),
        }
    }
}

/// Whether a file starts programs by the standard library's own means, outside its tests.
fn starts_programs(text: &str) -> bool {
    let product = text.split("#[cfg(test)]").next().unwrap_or_default();
    let imports = product.split("use std::").skip(1).filter_map(|rest| rest.split(';').next());
    let is_imported =
        imports.flat_map(|names| names.split(|c: char| !c.is_alphanumeric())).any(|name| name == "Command");
    product.contains("std::process::Command::new(") || (is_imported && product.contains("Command::new("))
}

#[test]
fn a_stray_is_seen_in_every_form() {
    for stray in [
        "fn f() { std::process::Command::new(\"x\"); }",
        "use std::{\n    io,\n    process::{Child, Command},\n};\nfn f() { Command::new(\"x\"); }",
        "use std::process::Command;\nfn f() { Command::new(\"x\"); }",
    ] {
        assert!(starts_programs(stray), "{stray}");
    }
    for other in [
        "use atlas_host::process::Command;\nuse std::{os::unix::process::CommandExt, process::Child};\nfn f() { Command::new(\"x\"); }",
        "#[cfg(test)]\nmod tests { fn f() { std::process::Command::new(\"x\"); } }",
    ] {
        assert!(!starts_programs(other), "{other}");
    }
}

#[test]
fn every_program_is_run_from_the_one_place_that_sets_its_language() {
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let mut found = vec![];
    PRODUCTS.iter().for_each(|product| sources(&workspace.join(product).join("src"), &mut found));
    assert!(found.len() > 200, "{} files were found", found.len());
    let strays: Vec<&Path> = found
        .iter()
        .map(|path| path.strip_prefix(workspace).unwrap())
        .filter(|path| !HOMES.iter().any(|home| *path == Path::new(home)))
        .filter(|path| starts_programs(&fs::read_to_string(workspace.join(path)).unwrap()))
        .collect();
    assert!(strays.is_empty(), "atlas_host::process runs programs, or makes them ready (plain): {strays:?}");
    for home in HOMES {
        assert!(fs::read_to_string(workspace.join(home)).unwrap().contains("Command::new("), "{home} is none any more");
    }
}
