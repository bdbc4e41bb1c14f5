//! NFS, exercised on the kernel's own server and client.
//!
//! Not every kernel has them, so they run in another: User Mode Linux (Debian package user-mode-linux), a kernel that is a program of this
//! machine. It sees this machine's files, and the script below makes a root directory in memory out of them, in which the exports are.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking, in its helpers as well")]

mod common;

use atlas_model::verify::{Profile, Verdict};
use common::{expect, setup, value, write};
use std::{
    collections::BTreeMap,
    fs,
    path::Path,
    process::{Command, Stdio},
};

const EXPORTS: &str = "/srv/data *(rw,no_root_squash,fsid=1)\n/srv/shared 127.0.0.1(rw,fsid=2)\n/srv/read *(ro,fsid=3)\n\
     /srv/host 192.0.2.9(rw,fsid=4)\n/srv/named other.example(rw,fsid=5)\n/srv/ticket *(ro,sec=krb5,fsid=6) 192.0.2.9(rw)\n";
/// Those that are not for this server.
const OTHERS: [&str; 3] = ["host", "named", "ticket"];

/// The first program of that kernel.
const INIT: &str = r#"#!/bin/sh
export PATH=/usr/sbin:/usr/bin:/sbin:/bin
mount -t proc proc /proc
for module in nfsv4 nfsv3 nfsd; do modprobe --dirname @work@ $module; done
mount -t tmpfs tmpfs /srv
cd /srv
mkdir -p usr etc dev proc sys run tmp mnt atlas var/lib/nfs/sm var/lib/nfs/sm.bak var/lib/nfs/rpc_pipefs var/lib/nfs/v4recovery
mkdir -p srv/data srv/shared srv/read srv/host srv/named srv/ticket
ln -s usr/bin usr/sbin usr/lib usr/lib64 .
mount --bind /usr usr; mount --bind /dev dev; mount --bind @programs@ atlas
mount -t proc proc proc; mount -t sysfs sys sys
cp /etc/passwd /etc/group /etc/netconfig /etc/nsswitch.conf /etc/protocols /etc/rpc /etc/services etc/
cp -r /etc/alternatives etc/ 2>/dev/null
cp @work@/exports etc/exports
cp @work@/job.sh tmp/
chroot . sh /tmp/job.sh
echo == end
exec chroot . sh -c 'echo o > /proc/sysrq-trigger; sleep 9'
"#;

/// What happens there: every check says its name, then its answer.
const JOB: &str = r#"
# How fast this machine is at the moment is not what is tested.
verify() {
    echo "== $1"; shift; path=$1; shift
    set -- "$@" --set answer-slow=1000000 --set mount-slow=1000000 --set read-slow=1000000 --set write-slow=1000000 --set lock-slow=1000000
    /atlas/VerifyService nfs verify --json --host 127.0.0.1 --set path="$path" "$@"
}
start() {
    mount -t nfsd nfsd /proc/fs/nfsd 2>/dev/null
    echo 1 > /proc/sys/fs/nfs/nlm_grace_period
    rpc.nfsd "$@" 2 && echo Y > /proc/fs/nfsd/v4_end_grace
    exportfs -ra
    # Locks are given after a time of grace only, in which those of before may be claimed.
    /atlas/VerifyService nfs verify --json --host 127.0.0.1 --set path=/srv/data --set access=rw > /tmp/first
}
ip link set lo up
mount -t rpc_pipefs rpc /var/lib/nfs/rpc_pipefs
for dir in /srv/data /srv/shared /srv/read /srv/host /srv/named /srv/ticket; do mount -t tmpfs tmpfs $dir; done
sh /tmp/place.sh
touch /var/lib/nfs/etab /var/lib/nfs/rmtab
verify stopped /srv/data --set access=rw
rpcbind -w 2>/dev/null; rpc.statd --no-notify 2>/dev/null; rpc.mountd 2>/dev/null
start
verify data /srv/data --set access=rw
verify shared /srv/shared --set access=rw
verify read /srv/read
verify no-export /srv/none --deadline 12
@others@
before=$(stat -c %Y.%s /srv/data/.atlas-verify); sleep 1
verify again /srv/data --set access=rw
echo "== times"; [ "$(stat -c %Y.%s /srv/data/.atlas-verify)" = "$before" ] && echo same
echo "== mounts"; grep -c ' /mnt ' /proc/mounts
mount -o remount,ro /srv/data
verify read-only /srv/data --set access=rw
mount -o remount,rw /srv/data
chown root /srv/shared/.atlas-verify
verify owner /srv/shared --set access=rw
echo other > /srv/read/.atlas-verify
verify changed /srv/read
rm /srv/read/.atlas-verify
verify missing /srv/read
rpc.nfsd 0
start -N 3
verify data-4 /srv/data --set access=rw
@others-4@
rpc.nfsd 0
start -N 4
verify old /srv/data --set access=rw
kill -STOP $(pidof rpc.mountd)
exportfs -f
verify stuck /srv/data --set access=rw --deadline 8
kill -CONT $(pidof rpc.mountd)
rpc.nfsd 0
verify gone /srv/data --set access=rw
@others-gone@
"#;

/// Runs the script in that kernel; gives what stood below each name.
fn run(work: &Path) -> BTreeMap<String, String> {
    let program = Path::new(env!("CARGO_BIN_EXE_VerifyService"));
    let fill = |text: &str| {
        let programs = program.parent().unwrap().to_str().unwrap();
        text.replace("@work@", work.to_str().unwrap()).replace("@programs@", programs)
    };
    fs::create_dir_all(work.join("lib")).unwrap();
    std::os::unix::fs::symlink("/usr/lib/uml/modules", work.join("lib/modules")).unwrap();
    write(work, "init", &fill(INIT));
    fs::set_permissions(work.join("init"), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let output = Command::new("timeout")
        .args([
            "600",
            "linux.uml",
            "rootfstype=hostfs",
            "rootflags=/",
            "rw",
            "mem=256M",
            "con=null",
            "con0=null,fd:1",
            "quiet",
        ])
        .arg(format!("init={}/init", work.display()))
        .env("TMPDIR", work)
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout).replace('\r', "");
    assert!(said.contains("== end"), "{said}{}", String::from_utf8_lossy(&output.stderr));
    let parts = said.split("== ").skip(1).filter_map(|part| part.split_once('\n'));
    parts.map(|(name, text)| (name.to_owned(), text.to_owned())).collect()
}

#[test]
fn exports_are_mounted_read_written_and_locked_and_what_does_not_work_is_told() {
    let tmp = tempfile::tempdir().unwrap();
    let work = tmp.path();
    for name in ["data", "shared", "read"].iter().chain(&OTHERS) {
        write(work, &format!("tree/srv/{name}/x"), "");
    }
    write(work, "tree/etc/exports", EXPORTS);
    write(work, "exports", EXPORTS);
    let found = setup("nfs", &work.join("tree"));
    assert_eq!((found.instances.len(), found.problems.len()), (6, 0), "{found:?}");
    let place = found.place.iter().map(|data| {
        let owner = data.owner.as_deref().unwrap_or("root");
        format!("printf %s '{0}' > {1}; chmod {2:o} {1}; chown {owner} {1}\n", data.content, data.path, data.mode)
    });
    let mut job = JOB.replace("sh /tmp/place.sh\n", &place.collect::<String>());
    for when in ["", "-4", "-gone"] {
        let checks = OTHERS.map(|name| {
            let one = found.instances.iter().find(|one| one.name == format!("/srv/{name}")).unwrap();
            let options = one.options.iter().filter(|(key, _)| *key != "path");
            let options: String = options.map(|(key, value)| format!(" --set '{key}={value}'")).collect();
            format!("verify {name}{when} {}{options} --deadline 12\n", one.name)
        });
        job = job.replace(&format!("@others{when}@\n"), &checks.concat());
    }
    write(work, "job.sh", &job);
    let said = run(work);
    let profile = |name: &str| -> Profile {
        let text = said.get(name).unwrap_or_else(|| panic!("no {name} in {said:?}"));
        let json = text.lines().find(|line| line.starts_with('{')).unwrap_or_else(|| panic!("{name}: {said:?}"));
        serde_json::from_str(json).unwrap()
    };
    expect(
        &profile("stopped"),
        Verdict::Unacceptable,
        &["port 2049", "connection refused", "systemctl status nfs-server"],
    );
    for name in ["data", "shared", "again"] {
        let profile = profile(name);
        expect(&profile, Verdict::Ok, &["read, written and locked (NFS 4)"]);
        assert!(value(&profile, "lock") > 0.0 && value(&profile, "write") > 0.0, "{profile:?}");
    }
    expect(&profile("read"), Verdict::Ok, &["is mounted and read (NFS 4)"]);
    assert_eq!((said["times"].trim(), said["mounts"].trim()), ("same", "0"));
    expect(&profile("no-export"), Verdict::Unacceptable, &["/srv/none: it cannot be mounted: NFS 4: "]);
    for when in ["", "-4"] {
        for (name, words) in [
            ("host", "/srv/host is not for this server"),
            ("named", "/srv/named is given to some alone"),
            ("ticket", "/srv/ticket is not for this server"),
        ] {
            expect(&profile(&format!("{name}{when}")), Verdict::Ok, &["the NFS server answers", words]);
            expect(&profile(&format!("{name}-gone")), Verdict::Unacceptable, &["port 2049"]);
        }
    }
    expect(&profile("data-4"), Verdict::Ok, &["(NFS 4)"]);
    expect(&profile("read-only"), Verdict::Unacceptable, &["opened for writing", "Read-only file system"]);
    expect(&profile("owner"), Verdict::Unacceptable, &["its owner or mode"]);
    expect(&profile("changed"), Verdict::Unacceptable, &["is not what was placed"]);
    expect(&profile("missing"), Verdict::Unacceptable, &["is not there"]);
    expect(&profile("old"), Verdict::Ok, &["read, written and locked (NFS 3)"]);
    expect(&profile("stuck"), Verdict::Unacceptable, &["/srv/data"]);
    expect(&profile("gone"), Verdict::Unacceptable, &["port 2049"]);
}
