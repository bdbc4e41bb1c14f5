//! The package on each Debian that ATLAS runs on: installed, it is in the initramfs, and in that of the next kernel; upgraded, it brings new versions of its modules
//! and leaves what an operator has set; removed, nothing of it is left.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking, in its helpers as well")]

use std::path::Path;
use std::time::Duration;

use atlas_image::{Options, Release, package, root_file_system, run_in_root_file_system};

#[test]
#[ignore = "makes a root file system, which takes a minute and the network: `cargo xtask test` runs it"]
fn installing_puts_atlas_boot_into_the_initramfs_and_removing_leaves_nothing_behind() {
    install_and_remove(Release::default());
}

#[test]
#[ignore = "makes two root file systems, which takes minutes and the network: `cargo xtask test --long` runs it"]
fn so_it_does_on_the_other_releases() {
    Release::ALL.into_iter().filter(|release| *release != Release::default()).for_each(install_and_remove);
}

fn install_and_remove(release: Release) {
    println!("{release}");
    let options = Options::new(&|step| println!("{step}")).unwrap().on(release);
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/package.sh");
    let package = package(&options).unwrap();
    // It is in the initramfs of every server.
    let early = package.programs.iter().find(|program| program.name == "atlas-boot").unwrap();
    assert!(early.size_bytes <= 3 << 20, "atlas-boot has {} bytes", early.size_bytes);
    let arguments = [package.path];
    let arguments: Vec<&Path> = arguments.iter().map(AsRef::as_ref).collect();
    let root_file_system = root_file_system(&options).unwrap();
    let said = run_in_root_file_system(&root_file_system, &script, &arguments, Duration::from_secs(900)).unwrap();

    let (_, said) = said.split_once("== installed\n").unwrap();
    let (installed, said) = said.split_once("== kernel\n").unwrap();
    let (kernel, said) = said.split_once("== operator\n").unwrap();
    let (operator, removed) = said.split_once("== removed\n").unwrap();
    for initramfs in [installed, kernel] {
        assert!(initramfs.lines().any(|line| line == "usr/lib/atlas/atlas-boot"), "{initramfs}");
        assert!(initramfs.contains("scripts/local-bottom/atlas"), "{initramfs}");
    }
    assert!(installed.lines().any(|line| line.starts_with("atlas-boot ")), "it runs: {installed}");
    assert!(installed.lines().any(|line| line.starts_with("ssSync 0.")), "the bundle runs: {installed}");
    for expected in [
        "upgraded: ssSync 90.1",
        "kept: what the operator set",
        "verified: all versions",
        "not removed: this machine wears the identity of PRI.",
        "refused: 1",
        "still there: atlas-boot",
    ] {
        assert!(operator.contains(expected), "not {expected:?}: {operator}");
    }
    // Who reads why it was refused has it before the eyes: nothing is installed anew.
    let (refused, _) = operator.split_once("not removed:").unwrap().1.split_once("still there").unwrap();
    assert!(
        !refused.contains("update-initramfs: Generating") && !refused.contains("is installed already"),
        "{refused}"
    );
    assert_eq!(removed, "initramfs: none\ndpkg: none\nfiles: none\n");
}
