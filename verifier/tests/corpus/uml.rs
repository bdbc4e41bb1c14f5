//! The false-alarm run of NFS, whose server is the kernel: in another kernel, User Mode Linux (Debian package user-mode-linux), which is a program of
//! this machine and has all configurations of a release one after the other.
//!
//! ```text
//!  rooms          each configuration: what SetUp finds                    this kernel
//!  UML            the release's root file system below a tree in memory, /srv on a disk image; PRI at 10.77.0.1, its partner at 10.77.0.2
//!                 each configuration: exported, exercised three times by the partner, the server stopped, exercised once more
//! ```
//!
//! How fast it is says nothing there, and is not judged.

use super::{alarms, case::Case, views};
use atlas_model::verify::{Found, Profile, Verdict};
use std::{
    collections::BTreeMap,
    fs,
    path::Path,
    process::{Command, Stdio},
};

/// How often each instance is exercised while all is well.
const TIMES: usize = 3;
/// How long all may take, in seconds.
const PATIENCE: &str = "1500";

/// The first program of that kernel, whose root is the release's.
const INIT: &str = r#"#!/bin/sh
export PATH=/usr/sbin:/usr/bin:/sbin:/bin
mount -t proc proc /proc
mount -t tmpfs tmpfs /srv
cd /srv
mkdir -p etc dev proc sys run tmp mnt h atlas m root srv var/lib/nfs/sm var/lib/nfs/sm.bak var/lib/nfs/rpc_pipefs var/lib/nfs/v4recovery modules/lib
mount -t hostfs -o @work@ none h
mount -t hostfs -o @programs@ none atlas
mount -t hostfs -o /usr/lib/uml none m
ln -s /srv/m/modules modules/lib/modules
for module in nfsv4 nfsv3 nfsd veth; do modprobe --dirname /srv/modules $module; done
for dir in usr bin sbin lib lib64; do
  if [ -L /$dir ]; then cp -a /$dir .; elif [ -d /$dir ]; then mkdir $dir; mount --bind /$dir $dir; fi
done
mount -t devtmpfs dev dev; mount -t proc proc proc; mount -t sysfs sys sys
mount -t ext4 /srv/dev/ubda srv
cp /etc/passwd /etc/group /etc/netconfig /etc/nsswitch.conf /etc/protocols /etc/rpc /etc/services etc/ 2>/dev/null
cp -r /etc/alternatives etc/ 2>/dev/null
chroot . sh /h/job.sh
echo "== end"
exec chroot . sh -c 'echo o > /proc/sysrq-trigger; sleep 9'
"#;

/// What begins there.
const BEGIN: &str = r#"
ip link set lo up
unshare --net sleep 100000 & partner=$!
while [ "$(readlink /proc/$partner/ns/net)" = "$(readlink /proc/self/ns/net)" ]; do sleep 0.1; done
ip link add pri type veth peer name sec netns $partner
ip addr add 10.77.0.1/24 dev pri; ip link set pri up
nsenter -t $partner -n sh -c 'ip link set lo up; ip addr add 10.77.0.2/24 dev sec; ip link set sec up'
mount -t rpc_pipefs rpc /var/lib/nfs/rpc_pipefs
# Debian 11's mountd looks for it as it begins.
mount -t nfsd nfsd /proc/fs/nfsd
touch /var/lib/nfs/etab /var/lib/nfs/rmtab
mkdir -p /srv/first
start() {
    echo 1 > /proc/sys/fs/nfs/nlm_grace_period
    rpc.nfsd 2 && echo Y > /proc/fs/nfsd/v4_end_grace
}
verify() {
    echo "== $1"; shift
    nsenter -t $partner -n /atlas/VerifyService nfs verify --json --host 10.77.0.1 --deadline 25 --set answer-slow=1000000 --set mount-slow=1000000 \
        --set read-slow=1000000 --set write-slow=1000000 --set lock-slow=1000000 "$@"
}
rpcbind -w 2>/dev/null; rpc.statd --no-notify 2>/dev/null; rpc.mountd 2>/dev/null
start
"#;

/// Exercises all configurations of a release; what came of each, by its name.
pub fn exercise(root: &Path, programs: &Path, cases: &[Case]) -> Vec<(String, alarms::Outcome)> {
    let dir = tempfile::Builder::new().prefix("atlas-corpus-uml-").tempdir_in("/var/tmp").unwrap();
    let work = dir.path();
    let (mut job, mut found, mut all) = (BEGIN.to_owned(), vec![], vec![]);
    for case in cases {
        match views::compare(root, programs, case) {
            views::Outcome::Same(one) => {
                job.push_str(&steps(work, found.len(), case, &one));
                found.push((case, one));
            }
            other => all.push((case.name.clone(), alarms::Outcome::NotStarted(format!("{other:?}")))),
        }
    }
    fs::write(work.join("job.sh"), job).unwrap();
    let said = run(root, programs, work);
    for (number, (case, found)) in found.iter().enumerate() {
        all.push((case.name.clone(), judged(number, case, found, &said)));
    }
    all
}

fn quoted(word: &str) -> String {
    format!("'{}'", word.replace('\'', "'\\''"))
}

/// The steps of one configuration, whose files are laid out in `work`.
fn steps(work: &Path, number: usize, case: &Case, found: &Found) -> String {
    let files = work.join(format!("case{number}"));
    fs::create_dir_all(&files).unwrap();
    for (path, content) in &case.files {
        let path = files.join(path.trim_start_matches('/'));
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }
    fs::write(work.join(format!("setup{number}")), &case.setup).unwrap();
    let mut job = format!(
        "exportfs -ua; rm -rf /etc/exports /etc/exports.d /srv/*\ncp -r /h/case{number}/. /; sh /h/setup{number}\n"
    );
    for data in &found.place {
        let (path, owner) = (quoted(&data.path), data.owner.as_deref().unwrap_or("root"));
        job.push_str(&format!(
            "printf %s {} >{path}; chmod {:o} {path}; chown {owner} {path}\n",
            quoted(&data.content),
            data.mode
        ));
    }
    job.push_str("exportfs -ra 2>/dev/null\n");
    let verify = |step: &str| -> String {
        let one = |(index, one): (usize, &atlas_model::verify::Instance)| {
            let options =
                one.options.iter().map(|(key, value)| format!(" --set {}", quoted(&format!("{key}={value}"))));
            format!("verify {number}.{index}.{step}{}\n", options.collect::<String>())
        };
        found.instances.iter().enumerate().map(one).collect()
    };
    // Locks are given after a time of grace only, in which those of before may be claimed.
    job.push_str(&verify("first"));
    (0..TIMES).for_each(|time| job.push_str(&verify(&time.to_string())));
    job.push_str("rpc.nfsd 0\n");
    job.push_str(&verify("stopped"));
    job.push_str("start\n");
    job
}

/// Runs the job; gives what stood below each name.
fn run(root: &Path, programs: &Path, work: &Path) -> BTreeMap<String, String> {
    let init = INIT.replace("@work@", work.to_str().unwrap()).replace("@programs@", programs.to_str().unwrap());
    fs::write(work.join("init"), init).unwrap();
    let disk = work.join("disk");
    let made = Command::new("sh").args(["-ec", "truncate -s 64M \"$0\"; mke2fs -q -t ext4 \"$0\""]).arg(&disk).status();
    assert!(made.unwrap().success(), "{} cannot be made", disk.display());
    let output = Command::new("timeout")
        .args([
            PATIENCE,
            "linux.uml",
            "root=/dev/root",
            "rootfstype=hostfs",
            "ro",
            "mem=384M",
            "con=null",
            "con0=null,fd:1",
            "quiet",
        ])
        .arg(format!("rootflags={}", root.display()))
        .arg(format!("ubda={}", disk.display()))
        // It shows the release's root alone: what is run there first comes from this one.
        .args(["init=/bin/sh", "--", "-c"])
        .arg(format!(
            "\"mount -t tmpfs t /tmp; mkdir /tmp/h; mount -t hostfs -o {} none /tmp/h; exec sh /tmp/h/init\"",
            work.display()
        ))
        .env("TMPDIR", work)
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout).replace('\r', "");
    assert!(said.contains("== end"), "{said}{}", String::from_utf8_lossy(&output.stderr));
    let parts = said.split("== ").skip(1).filter_map(|part| part.split_once('\n'));
    parts.map(|(name, text)| (name.to_owned(), text.to_owned())).collect()
}

fn judged(number: usize, case: &Case, found: &Found, said: &BTreeMap<String, String>) -> alarms::Outcome {
    let mut exercised = alarms::Exercised { instances: found.instances.len(), ..Default::default() };
    exercised.alarms.extend(found.problems.iter().map(|problem| format!("{}: SetUp: {problem}", case.name)));
    for (index, one) in found.instances.iter().enumerate() {
        let profile = |step: &str| -> Option<Profile> {
            let text = said.get(&format!("{number}.{index}.{step}"))?;
            serde_json::from_str(text.lines().find(|line| line.starts_with('{'))?).ok()
        };
        let of = |what: String| format!("{}: nfs {} {what}", case.name, one.name);
        for time in 0..TIMES {
            match profile(&time.to_string()) {
                Some(profile) if profile.verdict == Verdict::Ok => {}
                Some(profile) => exercised.alarms.push(of(format!("{:?}: {}", profile.verdict, profile.summary))),
                None => exercised.alarms.push(of("was not exercised".to_owned())),
            }
        }
        let verdict = profile("stopped").map(|profile| profile.verdict);
        if verdict != Some(Verdict::Unacceptable) {
            exercised.missed.push(of(format!("is {verdict:?}, and its server was stopped")));
        }
    }
    alarms::Outcome::Exercised(exercised)
}
