//! A crash of ATLAS' own: the programs are packaged with the names of their functions, so that ssCoreHandler knows it by a strong signature.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking, in its helpers as well")]

use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use atlas_image::{Options, Package, package};
use serde_json::Value;

fn packaged() -> Package {
    package(&Options::new(&|step| println!("{step}")).unwrap()).unwrap()
}

fn program(package: &Package, name: &str) -> PathBuf {
    package.programs.iter().find(|program| program.name == name).unwrap().path.clone()
}

/// Has an ssRun that waits for a program end by SIGABRT, from outside; what ssCoreHandler makes of the core.
fn aborted(ss_run: &Path, core_handler: &Path) -> Value {
    let pattern = std::fs::read_to_string("/proc/sys/kernel/core_pattern").unwrap();
    assert!(!pattern.contains(['|', '/', '%']), "cores must lie where a program runs: set core_pattern to 'core'");
    let folder = tempfile::tempdir().unwrap();
    let script = "ulimit -c unlimited; exec \"$0\" --root . --no-handlers --name own -- sleep 60";
    let mut command = Command::new("sh");
    command.args(["-c", script]).arg(ss_run).current_dir(folder.path()).stdin(Stdio::null()).process_group(0);
    let mut child = command.spawn().unwrap();
    let patience = Instant::now() + Duration::from_secs(60);
    while !log(folder.path()).contains("sleep 60 runs") {
        assert!(Instant::now() < patience, "it does not start");
        std::thread::sleep(Duration::from_millis(100));
    }
    // It has told that the program runs, and goes to wait for its end.
    std::thread::sleep(Duration::from_secs(1));
    signal("ABRT", &child.id().to_string());
    let status = child.wait().unwrap();
    assert_eq!((status.signal(), status.core_dumped()), (Some(6), true), "{status}");
    // What it ran is left, and nobody waits for it.
    signal("KILL", &format!("-{}", child.id()));
    let core = files(folder.path()).find(|path| path.file_name().unwrap().to_string_lossy().starts_with("core"));
    let output = Command::new(core_handler).args(["signature", "--json"]).arg(core.unwrap()).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

fn files(folder: &Path) -> impl Iterator<Item = PathBuf> {
    std::fs::read_dir(folder).into_iter().flatten().map(|entry| entry.unwrap().path())
}

fn log(root: &Path) -> String {
    files(&root.join("var/log/atlas")).filter_map(|path| std::fs::read_to_string(path).ok()).collect()
}

fn signal(name: &str, whom: &str) {
    assert!(Command::new("kill").args(["-s", name, "--", whom]).status().unwrap().success(), "kill {name} {whom}");
}

#[test]
#[ignore = "builds the package, which takes minutes: `cargo xtask test` runs it"]
fn a_crash_of_a_packaged_program_is_known_by_a_strong_signature() {
    let package = packaged();
    for program in &package.programs {
        let sections = Command::new("readelf").args(["-SW"]).arg(&program.path).output().unwrap();
        let has_names = String::from_utf8_lossy(&sections.stdout).contains(".symtab");
        // In the initramfs every byte counts, and no core is left there.
        assert_eq!(has_names, program.name != "atlas-boot", "{}", program.name);
    }
    let told = aborted(&program(&package, "ssRun"), &program(&package, "ssCoreHandler"));
    assert_eq!(told["strength"], "strong", "{told}");
    let frames = told["cleaned"].as_array().unwrap();
    assert_eq!((&frames[0], frames.last().unwrap()), (&"[poll]".into(), &"atlas_runner::run::main".into()), "{told}");
}

#[test]
#[ignore = "builds a program once more, which takes minutes: `cargo xtask test --long` runs it"]
fn a_program_built_otherwise_has_the_packaged_one_s_signature_and_a_fuller_one() {
    let package = packaged();
    let core_handler = program(&package, "ssCoreHandler");
    let shipped = aborted(&program(&package, "ssRun"), &core_handler);
    // Against the C library of this system, not static, and with all debug information.
    let repository = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let folder = repository.join("target/built-otherwise");
    let mut build = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    build.current_dir(repository).args(["build", "--quiet", "--release", "--locked", "--package", "atlas-runner"]);
    build.arg("--target-dir").arg(&folder).env_remove("RUSTFLAGS");
    build.envs([("CARGO_PROFILE_RELEASE_DEBUG", "limited"), ("CARGO_PROFILE_RELEASE_STRIP", "none")]);
    assert!(build.status().unwrap().success());
    let fuller = aborted(&folder.join("release/ssRun"), &core_handler);
    assert_eq!((&shipped["strength"], &fuller["strength"]), (&"strong".into(), &"strong".into()));
    assert_ne!(shipped["build_id"], fuller["build_id"]);
    assert_eq!(fuller["also"], shipped["signature"], "{fuller}\n{shipped}");
    assert!(fuller["cleaned"].to_string().contains("atlas_runner::supervise::Supervision::wait"), "{fuller}");
}
