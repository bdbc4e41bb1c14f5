//! SetUp on a Debian with one of each kind of service: when nothing is known, and again when nothing has changed.

use std::{
    fs,
    path::Path,
    process::{Command, Stdio},
};

/// How often each is measured; the median counts.
const ROUNDS: usize = 5;
/// What has to be found, each by its own daemon.
const SERVICES: [&str; 9] = ["dns", "mail", "mariadb", "nfs", "ntp", "postgresql", "samba", "ssh", "web"];
/// Makes the tree a PRI whose services have something to serve.
const MAKE: &str = r#"
cd "$1"
mkdir -p opt/atlas unbound/SID_DATA/PRI/Env2 unbound/www srv/data
echo /etc/hostname > unbound/SID_DATA/PRI/Env2/IdentFilePaths
echo 2 > opt/atlas/EnvID
echo bakery > opt/atlas/Cluster
printf 'format = 1\ncluster = "bakery"\nrole = "PRI"\n[[partner]]\nrole = "SEC1"\nhost = "192.0.2.2"\n' > unbound/SID_DATA/MasterConfig
echo '/srv/data *(ro)' >> etc/exports
printf '[data]\npath = /srv/data\nguest ok = yes\n' >> etc/samba/smb.conf
echo allow > etc/chrony/conf.d/allow.conf
"#;
/// Runs in a network, mounts and processes of its own; prints milliseconds, a line each: first those of SetUps that know nothing.
const MEASURE: &str = r#"
root=$1 rounds=$2
mount --bind "$root" "$root"
mount -t proc proc "$root/proc"
mount -t tmpfs tmpfs "$root/run"
mount --rbind /dev "$root/dev"
cp "$3/VerifierControl" "$3/VerifyService" "$root/run/"
# Where sshd runs, this is there.
mkdir "$root/run/sshd"
chroot "$root" /bin/sh -ec '
PATH=/usr/sbin:/usr/bin:/sbin:/bin
once() {
  start=$(date +%s%N)
  /run/VerifierControl setup > /run/said 2>&1 || { cat /run/said >&2; exit 1; }
  echo $((($(date +%s%N) - start) / 1000000))
}
once > /dev/null
sleep 3
touch /run/before
for round in $(seq $1); do rm -f /run/atlas/setup.json; once; done
for round in $(seq $1); do once; done
find /etc /var /srv /home /root /opt -newer /run/before -not -path "/etc/atlas*" ! -type d >&2
' sh "$rounds"
"#;

/// The median of SetUps that know nothing, and of those that find all as it was, in seconds.
pub(crate) fn measure(programs: &Path, archive: &Path) -> (f64, f64) {
    let tmp = tempfile::tempdir().unwrap();
    let root = tmp.path().join("root");
    fs::create_dir(&root).unwrap();
    let at = root.to_str().unwrap();
    run(&["tar", "-xf", archive.to_str().unwrap(), "-C", at]);
    run(&["sh", "-ec", MAKE, "sh", at]);
    let programs = programs.canonicalize().unwrap();
    let apart = ["unshare", "--mount", "--net", "--pid", "--fork", "--kill-child", "sh", "-ec", MEASURE, "sh", at];
    let (said, complaint) = run(&[&apart[..], &[&ROUNDS.to_string(), programs.to_str().unwrap()]].concat());
    assert!(complaint.trim().is_empty(), "SetUp left more than its own files: {complaint}");
    check(&root);
    run(&["rm", "-rf", "--one-file-system", at]);
    let mut times: Vec<f64> = said.lines().map(|line| line.parse::<f64>().unwrap() / 1e3).collect();
    assert_eq!(times.len(), 2 * ROUNDS, "{said}");
    let mut again = times.split_off(ROUNDS);
    (median(&mut times), median(&mut again))
}

/// All services were found, and each daemon said itself what it is configured to do.
fn check(root: &Path) {
    let found = fs::read_to_string(root.join("etc/atlas/verifier/Services.json")).unwrap();
    let found: atlas_model::verify::Services = serde_json::from_str(&found).unwrap();
    for name in SERVICES {
        let of = found.services.get(name).unwrap_or_else(|| panic!("{name} is missing"));
        assert!(!of.instances.is_empty(), "{name} has no instance");
        assert!(!of.notes.iter().any(|note| note.contains("read instead")), "{name}: {:?}", of.notes);
    }
}

fn median(times: &mut [f64]) -> f64 {
    times.sort_by(f64::total_cmp);
    times[times.len() / 2]
}

/// As root, of this machine or of a namespace of this user.
fn run(words: &[&str]) -> (String, String) {
    let first: &[&str] =
        if nix::unistd::geteuid().is_root() { &[] } else { &["unshare", "--map-auto", "--map-root-user"] };
    let all = [first, words].concat();
    let output = Command::new(all[0]).args(&all[1..]).stdin(Stdio::null()).output().unwrap();
    let complaint = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{}: {complaint}", words[0]);
    (String::from_utf8_lossy(&output.stdout).into_owned(), complaint)
}
