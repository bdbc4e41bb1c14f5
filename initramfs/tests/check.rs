//! `atlas-boot check`, as a person and a script call it.

use std::process::Command;

#[test]
fn a_server_that_was_never_set_up_has_no_role_to_boot_into() {
    let server = tempfile::tempdir().unwrap();
    let check = |args: &[&str]| {
        let command = &mut Command::new(env!("CARGO_BIN_EXE_atlas-boot"));
        command.arg("--root").arg(server.path()).arg("--run").arg(server.path().join("run"));
        let said = command.arg("check").args(args).output().unwrap();
        (said.status.code(), String::from_utf8(said.stdout).unwrap())
    };
    let (code, said) = check(&[]);
    assert!(said.contains("'atlas init' was never run here"), "{said}");
    assert_eq!(code, Some(3), "as 'atlas init --check' answers");
    let (code, said) = check(&["--json"]);
    assert!(code == Some(3) && said.contains("\"not-initialised\""), "{said}");
}
