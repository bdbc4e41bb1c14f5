//! For the tests of all crates: mounts and networks of their own, without root's rights; runs that are cut at every system call.

pub mod cuts;

use std::{
    fs,
    io::Write,
    path::Path,
    process::{Command, Stdio},
};

/// Set in the process that has mounts, or a network, of its own.
const INSIDE: &str = "ATLAS_TEST_INSIDE";
/// Brings up the loopback device, and hides what daemons of this machine have in `/run`.
const OWN_NETWORK: &str = "ip link set lo up; mount -t tmpfs -o mode=755 tmpfs /run; exec \"$@\"";

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
    again(test, &["--map-root-user"], &["--mount"])
}

/// The same with a network of its own, too, in which nothing but loopback is, and an empty `/run`: for daemons that listen on their usual
/// ports. They end with the test.
///
/// Without root's rights, the users are those that `/etc/subuid` gives its own user (package uidmap).
///
/// # Panics
/// As [`own_mounts`].
#[must_use]
pub fn own_network(test: &str) -> bool {
    let namespaces =
        ["--mount", "--net", "--pid", "--fork", "--kill-child", "--mount-proc", "sh", "-ec", OWN_NETWORK, "sh"];
    again(test, &["--map-root-user", "--map-auto"], &namespaces)
}

/// Writes a program that can be run at once, with the directories above it.
///
/// Another process writes it: were this one to have it open for writing while another thread begins a child, that would have it open too for
/// a moment, and the kernel runs no program that somebody writes to (`Text file busy`).
///
/// # Panics
/// It cannot be written.
#[expect(clippy::unwrap_used, reason = "a test fails by panicking, in its helpers as well")]
pub fn write_program(path: &Path, content: &str) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    let mut writer = Command::new("/bin/sh")
        .args(["-ec", "rm -f \"$0\"; cat > \"$0\"; chmod 755 \"$0\""])
        .arg(path)
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    writer.stdin.take().unwrap().write_all(content.as_bytes()).unwrap();
    assert!(writer.wait().unwrap().success(), "{} cannot be written", path.display());
}

fn again(test: &str, where_not_root: &[&str], namespaces: &[&str]) -> bool {
    if std::env::var_os(INSIDE).is_some() {
        return true;
    }
    let mut command = Command::new("unshare");
    if !nix::unistd::geteuid().is_root() {
        command.args(where_not_root);
    }
    let program = std::env::current_exe().expect("the name of this program is known");
    command.args(namespaces).arg(program).args(["--exact", test, "--nocapture"]).env(INSIDE, "1");
    let output = command.output().expect("unshare (package util-linux) is there");
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8_lossy(&said);
    assert!(
        output.status.success() && said.contains("1 passed"),
        "{test}, in a process of its own: {}\n{said}",
        output.status
    );
    false
}

/// Has the kernel refuse `openat2` to this thread, and to the programs that it starts from now on, as systemd's `RestrictSUIDSGID=` does;
/// there is no way back.
///
/// # Panics
/// The kernel takes no filter, or `openat2` works all the same.
pub fn refuse_openat2() {
    use nix::libc::{
        ENOSYS, PR_SET_NO_NEW_PRIVS, PR_SET_SECCOMP, SECCOMP_MODE_FILTER, SECCOMP_RET_ALLOW, SECCOMP_RET_ERRNO,
        SYS_openat2, prctl, sock_filter, sock_fprog,
    };
    let step = |code: u16, jf: u8, k: u32| sock_filter { code, jt: 0, jf, k };
    let (load, jump_if_equal, answer) = (0x20, 0x15, 0x06);
    let mut filter = [
        step(load, 0, 0),
        step(jump_if_equal, 1, SYS_openat2 as u32),
        step(answer, 0, SECCOMP_RET_ERRNO | ENOSYS as u32),
        step(answer, 0, SECCOMP_RET_ALLOW),
    ];
    let program = sock_fprog { len: filter.len() as u16, filter: filter.as_mut_ptr() };
    // SAFETY: two calls that take numbers, and a filter that lives longer than the call; the kernel keeps a copy.
    let is_set = unsafe {
        prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0
            && prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &raw const program) == 0
    };
    assert!(is_set, "the kernel takes no filter: {}", std::io::Error::last_os_error());
    let how = nix::fcntl::OpenHow::new();
    let refused = nix::fcntl::openat2(nix::fcntl::AT_FDCWD, "/", how).map(drop);
    assert_eq!(refused, Err(nix::errno::Errno::ENOSYS), "openat2 is not refused");
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
    fn a_network_of_a_test_has_all_ports_free_and_nobody_else_reaches_them() {
        if !own_network("testing::tests::a_network_of_a_test_has_all_ports_free_and_nobody_else_reaches_them") {
            return;
        }
        let devices = std::fs::read_to_string("/proc/self/net/dev").unwrap();
        assert_eq!(
            devices.lines().skip(2).map(|line| line.split(':').next().unwrap().trim()).collect::<Vec<_>>(),
            ["lo"]
        );
        let listening = std::net::TcpListener::bind("127.0.0.1:80").unwrap();
        assert_eq!(listening.local_addr().unwrap().port(), 80);
        assert_eq!(std::fs::read_dir("/run").unwrap().count(), 0);
    }

    #[test]
    #[should_panic(expected = "in a process of its own")]
    fn a_test_that_does_not_exist_is_no_test_passed() {
        let _ = own_mounts("testing::tests::no_such_test");
    }
}
