//! A worker of atlas-boot that waits for a disk that answers nothing, in a kernel of its own (User Mode Linux): nobody else waits with it.
//!
//! ```text
//! this test ── linux.uml ── init ─► ext4 on a device-mapper device, which is suspended
//!                                   this test again ─ watch ─► worker: opens it for writing, or reads a file, and hangs
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
mount -t ext4 /dev/mapper/set /mnt/unbound
echo read >/mnt/unbound/file
umount /mnt/unbound
mount -t ext4 -o ro /dev/mapper/set /mnt/unbound
# The way to the file is known, what is in it is not.
stat /mnt/unbound/file >/dev/null
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
ATLAS_TEST_ROOT=/mnt @test@ --exact --nocapture @name@ &
watch=$!
while ! grep -q @waits@ /proc/[0-9]*/stack 2>/dev/null; do sleep 0.1; done
ends "a service starts beside it"
touch /run/beside
wait $watch
ends "a service starts after it"
echo "mounted: $(grep -c /mnt/unbound /proc/self/mountinfo)"
echo "it hangs: $(grep -l @waits@ /proc/[0-9]*/stack 2>/dev/null | wc -l)"
echo the end
# Without a sync, which would wait, too.
exec halt --force --no-sync
"#;

/// Runs the test of this name there; its worker hangs in `waits` of the kernel.
fn in_that_kernel(name: &str, waits: &str) -> String {
    let work = tempfile::tempdir().unwrap();
    let work = work.path();
    let test = std::env::current_exe().unwrap();
    let disk = work.join("disk");
    fs::File::create(&disk).unwrap().set_len(32 << 20).unwrap();
    let made = Command::new("/sbin/mkfs.ext4").arg("-q").arg(&disk).status().unwrap();
    assert!(made.success(), "mkfs.ext4: {made}");
    fs::create_dir_all(work.join("lib")).unwrap();
    symlink("/usr/lib/uml/modules", work.join("lib/modules")).unwrap();
    let init = work.join("init");
    let script =
        [("@work@", work.to_str().unwrap()), ("@test@", test.to_str().unwrap()), ("@name@", name), ("@waits@", waits)]
            .iter()
            .fold(INIT.to_owned(), |script, (word, meant)| script.replace(word, meant));
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

/// The parent of a worker that hangs in `command`, as it gives it up when what happens beside it was seen.
fn give_up(root: &Path, command: &str) {
    // A session of its own, as the worker makes for itself.
    let mut worker = Command::new("setsid");
    let step = |within_s| {
        format!(r#"echo '{{"step":{{"name":"open","within-s":{within_s},"at-us":0,"unbound-written":true}}}}'"#)
    };
    let script =
        format!("{}; (while [ ! -e /run/beside ]; do sleep 0.1; done; {}) & exec {command}", step(100), step(0));
    worker.args(["sh", "-c", &script]).arg(root.join("unbound"));
    let limits = Limits { stall: Duration::from_secs(100), tick: Duration::from_millis(100), ..Limits::default() };
    let report = watch(&mut worker, root, &limits);
    println!("refused: {}", report.refusal.unwrap().code);
}

fn says(said: &str, lines: &[&str]) {
    for line in lines {
        assert!(said.contains(line), "no {line:?} in:\n{said}");
    }
}

#[test]
fn a_mount_that_waits_for_a_disk_keeps_nobody_else_waiting() {
    if let Some(root) = std::env::var_os(INSIDE) {
        return give_up(Path::new(&root), "mount -o remount,rw \"$0\"");
    }
    let said = in_that_kernel("a_mount_that_waits_for_a_disk_keeps_nobody_else_waiting", "ext4_setup_super");
    says(&said, &["a service starts beside it: no", "refused: disk-hangs", "a service starts after it: yes"]);
    says(&said, &["mounted: 0", "it hangs: 1", "the end"]);
}

/// The worker can be ended, and what would wait is the real unmount of what it leaves.
#[test]
fn a_file_that_waits_for_a_disk_does_not_keep_its_parent() {
    if let Some(root) = std::env::var_os(INSIDE) {
        return give_up(Path::new(&root), "cat \"$0/file\"");
    }
    let said = in_that_kernel("a_file_that_waits_for_a_disk_does_not_keep_its_parent", "folio_wait_bit_common");
    says(&said, &["a service starts beside it: yes", "refused: disk-hangs", "a service starts after it: yes"]);
    says(&said, &["mounted: 1", "it hangs: 0", "the end"]);
}
