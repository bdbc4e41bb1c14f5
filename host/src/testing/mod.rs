//! For the tests of all crates: mounts, without root's rights; runs that are cut at every system call.

pub mod cuts;

use std::process::Command;

/// Set in the process that has mounts of its own.
const INSIDE: &str = "ATLAS_TEST_OWN_MOUNTS";

/// Whether the test that calls this has mounts of its own, seen by it and what it runs and gone when it ends.
///
/// Where not, it runs the test named so (with its modules) once more, alone, in a process that has them, and asserts that it passed;
/// the caller then has nothing left to do: `if !own_mounts("name_of_the_test") { return; }`. Root's rights are not needed: without them
/// the process is root of a user namespace, in which only its own user has a number.
///
/// # Panics
/// The test fails there, or there is none of that name, or no namespaces can be made.
#[must_use]
pub fn own_mounts(test: &str) -> bool {
    if std::env::var_os(INSIDE).is_some() {
        return true;
    }
    let mut command = Command::new("unshare");
    if !nix::unistd::geteuid().is_root() {
        command.arg("--map-root-user");
    }
    let program = std::env::current_exe().expect("the name of this program is known");
    command.arg("--mount").arg(program).args(["--exact", test, "--nocapture"]).env(INSIDE, "1");
    let output = command.output().expect("unshare (package util-linux) is there");
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8_lossy(&said);
    assert!(
        output.status.success() && said.contains("1 passed"),
        "{test}, in a process with mounts of its own: {}\n{said}",
        output.status
    );
    false
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mount;

    #[test]
    fn what_is_mounted_by_a_test_is_full_when_it_should_be_and_nobody_else_sees_it() {
        let name = "testing::tests::what_is_mounted_by_a_test_is_full_when_it_should_be_and_nobody_else_sees_it";
        let mounts = || std::fs::read_to_string("/proc/self/mounts").unwrap().matches("size=64k").count();
        let before = mounts();
        if !own_mounts(name) {
            assert_eq!(mounts(), before);
            return;
        }
        let at = tempfile::tempdir().unwrap();
        mount::memory(at.path(), 64 << 10).unwrap();
        assert_eq!(mounts(), before + 1);
        let error = std::fs::write(at.path().join("file"), vec![0; 65 << 10]).unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::StorageFull);
    }

    #[test]
    #[should_panic(expected = "in a process with mounts of its own")]
    fn a_test_that_does_not_exist_is_no_test_passed() {
        let _ = own_mounts("testing::tests::no_such_test");
    }
}
