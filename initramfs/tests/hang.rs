//! A worker of atlas-boot that waits in the middle of a mount for a disk that answers nothing, in a kernel of its own (User Mode Linux): nobody else
//! waits with it.
//!
//! ```text
//! this test ── linux.uml ── init ─► ext4 on a device-mapper device, which is suspended
//!                                   this test again ─ watch ─► worker: opens it for writing, and hangs
//!                                   what systemd does for a service with ProtectSystem=: before, and after the worker was given up
//! ```

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test")]

use atlas_boot::watch::{Limits, watch};
use std::{
    fs,
    os::unix::fs::{PermissionsExt, symlink},
    path::Path,
    process::{Command, Stdio},
    time::Duration,
};

/// Set for the second run, in the other kernel; the place of the root file system there.
const INSIDE: &str = "ATLAS_TEST_ROOT";

/// The first program of that kernel. `mounts` is what systemd does for a service.
const INIT: &str = r#"#!/bin/sh
export PATH=/usr/sbin:/usr/bin:/sbin:/bin
mount -t proc proc /proc; mount -t sysfs sys /sys; mount -t tmpfs tmpfs /run; mount -t tmpfs tmpfs /mnt
for module in ext4 dm-mod; do modprobe --dirname @work@ $module; done
size=$(cat /sys/class/block/ubda/size)
dmsetup --noudevrules --noudevsync create set --table "0 $size linear 98:0 0"
dmsetup mknodes
mkdir /mnt/unbound
mount -t ext4 -o ro /dev/mapper/set /mnt/unbound
dmsetup --noudevrules --noudevsync suspend --noflush --nolockfs set
waiting() { grep -l rwsem_down_read_slowpath /proc/[0-9]*/stack 2>/dev/null | wc -l; }
ends() {
	before=$(waiting)
	mounts >/dev/null 2>&1 &
	while kill -0 $! 2>/dev/null; do
		[ $(waiting) -eq $before ] || { echo "$1: no"; return; }
		sleep 0.3
	done
	echo "$1: yes"
}
mounts() { unshare --mount sh -c 'for at in $(cut -d" " -f5 /proc/self/mountinfo); do mount -o remount,bind,ro $at; done'; }
ATLAS_TEST_ROOT=/mnt @test@ --exact --nocapture a_mount_that_waits_for_a_disk_keeps_nobody_else_waiting &
watch=$!
while ! grep -q ext4_setup_super /proc/[0-9]*/stack 2>/dev/null; do sleep 0.1; done
ends "a service starts beside it"
touch /run/beside
wait $watch
ends "a service starts after it"
echo "mounted: $(grep -c /mnt/unbound /proc/self/mountinfo)"
echo "it hangs: $(grep -l ext4_setup_super /proc/[0-9]*/stack 2>/dev/null | wc -l)"
echo the end
# Without a sync, which would wait, too.
exec halt --force --no-sync
"#;

fn in_that_kernel(work: &Path) -> String {
    let test = std::env::current_exe().unwrap();
    let disk = work.join("disk");
    fs::File::create(&disk).unwrap().set_len(32 << 20).unwrap();
    let made = Command::new("/sbin/mkfs.ext4").arg("-q").arg(&disk).status().unwrap();
    assert!(made.success(), "mkfs.ext4: {made}");
    fs::create_dir_all(work.join("lib")).unwrap();
    symlink("/usr/lib/uml/modules", work.join("lib/modules")).unwrap();
    let init = work.join("init");
    let script = INIT.replace("@work@", work.to_str().unwrap()).replace("@test@", test.to_str().unwrap());
    fs::write(&init, script).unwrap();
    fs::set_permissions(&init, fs::Permissions::from_mode(0o755)).unwrap();
    let output = Command::new("timeout")
        .args(["200", "linux.uml", "rootfstype=hostfs", "rootflags=/", "rw", "mem=256M", "con=null"])
        .args(["con0=null,fd:1", "quiet"])
        .args([format!("ubd0={}", disk.display()), format!("init={}", init.display())])
        .env("TMPDIR", work)
        .stdin(Stdio::null())
        .output()
        .unwrap();
    String::from_utf8_lossy(&output.stdout).replace('\r', "") + &String::from_utf8_lossy(&output.stderr)
}

/// The parent of a worker that hangs, as it gives it up.
fn give_up(root: &Path) {
    let mut worker = Command::new("sh");
    let step = |within_s| {
        format!(r#"echo '{{"step":{{"name":"open","within-s":{within_s},"at-us":0,"unbound-written":true}}}}'"#)
    };
    // It is given up when what happens beside it was seen.
    let script = format!(
        "{}; (while [ ! -e /run/beside ]; do sleep 0.1; done; {}) & exec mount -o remount,rw \"$0\"",
        step(100),
        step(0)
    );
    worker.args(["-c", &script]).arg(root.join("unbound"));
    let limits = Limits { stall: Duration::from_secs(100), tick: Duration::from_millis(100), ..Limits::default() };
    let report = watch(&mut worker, root, &limits);
    println!("refused: {}", report.refusal.unwrap().code);
}

#[test]
fn a_mount_that_waits_for_a_disk_keeps_nobody_else_waiting() {
    if let Some(root) = std::env::var_os(INSIDE) {
        return give_up(Path::new(&root));
    }
    let work = tempfile::tempdir().unwrap();
    let said = in_that_kernel(work.path());
    for line in [
        "a service starts beside it: no",
        "refused: disk-hangs",
        "a service starts after it: yes",
        "mounted: 0",
        "it hangs: 1",
        "the end",
    ] {
        assert!(said.contains(line), "no {line:?} in:\n{said}");
    }
}
