//! The false-alarm run: a real daemon with this configuration, exercised for three intervals by the Verifiers of PRI and of a partner; then
//! stopped, which has to be reported.

use super::{case::Case, room::Room, views};
use atlas_model::verify::{At, Findings, Instance, Services, Verdict};
use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
    time::{Duration, Instant},
};

/// How often each instance is exercised while all is well.
const INTERVALS: usize = 3;
/// How long a daemon may take to listen, and its end to be reported.
const PATIENCE: Duration = Duration::from_secs(180);

/// What came of one.
#[derive(Debug)]
pub enum Outcome {
    /// The daemon does not take the configuration, or does not run with it here, and why.
    NotStarted(String),
    Exercised(Exercised),
}

/// What was seen.
#[derive(Debug, Default)]
pub struct Exercised {
    /// So many instances; none where it serves nobody, or is not exercised for a reason that is said.
    pub instances: usize,
    /// What was said of a daemon that is well, in a line each.
    pub alarms: Vec<String>,
    /// What was not reported of one that had ended.
    pub missed: Vec<String>,
    /// Where it listens, and SetUp finds nothing and says nothing; or the other way round.
    pub listeners: Vec<String>,
}

/// PRI is at 10.77.0.1, the partner at 10.77.0.2. The daemon has process numbers of its own: with the first one, all end.
const SCRIPT: &str = r#"
unshare --net sleep 100000 & partner=$!
while [ "$(readlink /proc/$partner/ns/net)" = "$(readlink /proc/self/ns/net)" ]; do sleep 0.05; done
ip link add pri type veth peer name sec netns $partner
ip addr add 10.77.0.1/24 dev pri; ip addr add fd77::1/64 dev pri nodad; ip link set pri up
in_sec() { nsenter -t $partner -n "$@"; }
# Addresses that the configuration names are PRI's.
for at in $OWN; do ip addr add $at/32 dev pri; done
in_sec sh -ec 'ip link set lo up; ip addr add 10.77.0.2/24 dev sec; ip addr add fd77::2/64 dev sec nodad; ip link set sec up'
for at in $OWN; do in_sec ip route add $at dev sec; done
: >"$W/m/etc/resolv.conf"
in_root "VERIFIER=/opt/atlas/programs; $ACCEPTS" >"$W/out/accepts" 2>&1 || exit 3
in_root "$START" >"$W/out/daemon" 2>&1 & daemon=$!
before=; seen=0; waited=0
while [ $seen -lt 4 ] && [ $waited -lt 200 ]; do
  sleep 0.2; waited=$((waited + 1))
  now=$(ss -Hltun)
  if [ "$now" = "$before" ] && { [ -n "$now" ] || [ $waited -gt 75 ]; }; then seen=$((seen + 1)); else seen=0; before=$now; fi
done
kill -0 $daemon || exit 4
in_root "$READY" >/dev/null 2>&1
ss -Hltunp >"$W/out/listeners"
for tree in m sec; do
  mkdir -p "$W/$tree/opt/atlas" "$W/$tree/unbound/SID_DATA" "$W/$tree/etc/atlas" "$W/$tree/run/atlas"
  echo 1 >"$W/$tree/opt/atlas/EnvID"; echo bakery >"$W/$tree/opt/atlas/Cluster"
  printf '%s' "$SETTINGS" >"$W/$tree/etc/atlas/verifier.toml"
done
printf 'format = 1\ncluster = "bakery"\nrole = "PRI"\n[[partner]]\nrole = "SEC1"\nhost = "10.77.0.2"\n' >"$W/m/unbound/SID_DATA/MasterConfig"
printf 'format = 1\ncluster = "bakery"\nrole = "SEC1"\n[[partner]]\nrole = "PRI"\nhost = "10.77.0.1"\n' >"$W/sec/unbound/SID_DATA/MasterConfig"
mkdir -p "$W/m/unbound/SID_DATA/PRI/Env1"
echo 1 >"$W/m/unbound/SID_DATA/PRI/SnapshotEnvVersion"; echo /etc/hostname >"$W/m/unbound/SID_DATA/PRI/Env1/IdentFilePaths"
in_root '/opt/atlas/programs/VerifierControl setup --json' >"$W/out/setup"
for name in proc sys dev; do ln -s /$name "$W/sec/$name"; done
cp -a "$W/m/etc/atlas/verifier" "$W/sec/etc/atlas/"
in_root 'exec /opt/atlas/programs/VerifierControl' >"$W/out/pri" 2>&1 &
in_sec "$PROGRAMS/VerifierControl" --root "$W/sec" >"$W/out/sec" 2>&1 &
: >"$W/out/begun"
until [ -e "$W/out/stop" ]; do sleep 0.05; kill -0 $daemon 2>/dev/null || { : >"$W/out/died"; break; }; done
# One that became another user does not end with its parent.
kill -KILL $(cat /proc/$daemon/task/$daemon/children) $daemon 2>/dev/null || true
: >"$W/out/stopped"
sleep 1000
"#;

/// What is said of an instance by whoever exercises it.
#[derive(Debug, Default)]
struct Seen {
    times: BTreeSet<u64>,
    last: Option<Verdict>,
    complaints: BTreeSet<String>,
}

/// Exercises, in intervals of this many seconds at least.
pub fn exercise(root: &Path, programs: &Path, case: &Case, at_least: u64) -> Outcome {
    let daemon = case.daemon;
    let patience = PATIENCE + Duration::from_secs(at_least * 10);
    // A check is over within its interval; one who lets strangers wait needs more.
    let waits = case.files.iter().any(|(_, text)| text.contains(" postscreen\n"));
    let seconds = if waits { 40 } else { daemon.interval }.max(at_least);
    let interval = format!("[service.{}]\ninterval = {seconds}\n", daemon.service);
    let variables = [
        ("ACCEPTS", daemon.accepts.to_owned()),
        ("START", daemon.start.to_owned()),
        ("READY", daemon.ready.to_owned()),
        ("OWN", own_addresses(case).join(" ")),
        ("SETTINGS", format!("[alert]\nslow = false\n{interval}")),
    ];
    let exports: String =
        variables.iter().map(|(name, value)| format!("{name}='{}'\n", value.replace('\'', "'\\''"))).collect();
    // The daemon as the first of processes of its own.
    let script = SCRIPT.replace(
        "in_root \"$START\"",
        "unshare --pid --fork --kill-child --mount chroot \"$W/m\" /usr/bin/env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin LANG=C HOME=/root /bin/sh -ec \"mount -t proc proc /proc; $START\"",
    );
    let mut room = Room::open(root, programs, case, &format!("{}{exports}{script}", views::layout(case)));
    if !room.until(patience * 2, |room| room.at("out/begun").exists()) {
        let why =
            [room.read("out/log"), room.read("out/accepts"), room.read("out/daemon"), room.read("out/setup")].concat();
        let lines: Vec<&str> = why.lines().filter(|line| !line.trim().is_empty()).collect();
        return Outcome::NotStarted(lines[lines.len().saturating_sub(2)..].join(" / "));
    }
    let services: Services = serde_json::from_str(
        &std::fs::read_to_string(room.at("m/etc/atlas/verifier/Services.json"))
            .unwrap_or_else(|_| room.read("sec/etc/atlas/verifier/Services.json")),
    )
    .unwrap_or_default();
    let found = services.services.get(daemon.service).cloned().unwrap_or_default();
    let mut exercised = Exercised { instances: found.instances.len(), ..Exercised::default() };
    exercised.alarms.extend(found.problems.iter().map(|problem| format!("{}: SetUp: {problem}", case.name)));
    exercised.listeners = listeners(case, &found.instances, &found.notes, &room.read("out/listeners"));
    // Of what listens on a socket alone `services` says whether it runs, and asks systemd, which is not here.
    let is_asked = |one: &&Instance| !one.options.contains_key("socket");
    let mut seen: BTreeMap<String, Seen> =
        found.instances.iter().filter(is_asked).map(|one| (one.name.clone(), Seen::default())).collect();
    let enough = |seen: &BTreeMap<String, Seen>| seen.values().all(|one| one.times.len() >= INTERVALS);
    let all = room.until(patience, |room| {
        look(room, case, &found.instances, &mut seen);
        enough(&seen)
    });
    for (name, one) in &seen {
        let of = |what: &String| format!("{}: {} {name} {what}", case.name, daemon.service);
        exercised.alarms.extend(one.complaints.iter().map(of));
        if !all && one.times.len() < INTERVALS {
            exercised.alarms.push(of(&format!("was exercised {} times", one.times.len())));
        }
    }
    if room.at("out/died").exists() {
        return Outcome::NotStarted(format!("it ended by itself: {}", room.read("out/daemon").trim()));
    }
    std::fs::write(room.at("out/stop"), "").unwrap();
    let begun = Instant::now();
    let ended = room.until(patience, |room| {
        look(room, case, &found.instances, &mut seen);
        let is_reported = |one: &Seen| one.last.is_some_and(|verdict| verdict == Verdict::Unacceptable);
        room.at("out/stopped").exists() && seen.values().all(is_reported)
    });
    if !ended {
        let quiet = seen.iter().filter(|(_, one)| one.last != Some(Verdict::Unacceptable));
        exercised.missed.extend(quiet.map(|(name, one)| {
            format!(
                "{}: stopped {} s ago, and {} {name} is {:?}",
                case.name,
                begun.elapsed().as_secs(),
                daemon.service,
                one.last
            )
        }));
    }
    Outcome::Exercised(exercised)
}

/// Addresses of IPv4 that stand in the configuration, and are neither networks nor of loopback.
fn own_addresses(case: &Case) -> Vec<String> {
    let is_part = |c: char| c.is_ascii_digit() || c == '.' || c == '/';
    let words = case.files.iter().flat_map(|(_, text)| text.split(move |c| !is_part(c)));
    let addresses = words.filter_map(|word| word.parse::<std::net::Ipv4Addr>().ok());
    let is_own = |at: &std::net::Ipv4Addr| {
        !at.is_loopback() && !at.is_unspecified() && at.octets()[3] != 0 && at.octets()[0] < 224
    };
    addresses.filter(is_own).map(|at| at.to_string()).collect::<BTreeSet<_>>().into_iter().collect()
}

/// Takes in what both Verifiers say now.
fn look(room: &Room, case: &Case, instances: &[Instance], seen: &mut BTreeMap<String, Seen>) {
    for (path, at) in [("run/atlas/verifier.json", At::Here), ("sec/run/atlas/verifier.json", At::Partners)] {
        let Ok(findings) = serde_json::from_str::<Findings>(&room.read(path)) else { continue };
        let of_it = |observed: &&atlas_model::verify::Observed| {
            observed.service == case.daemon.service
                && observed.about == Some(atlas_model::Role::Pri)
                && instances.iter().any(|one| one.name == observed.instance && one.at == at)
        };
        for observed in findings.observed.iter().filter(of_it) {
            let Some(one) = seen.get_mut(&observed.instance) else { continue };
            one.times.insert(observed.checked);
            one.last = Some(observed.profile.verdict);
            if observed.profile.verdict != Verdict::Ok {
                one.complaints.insert(format!("{:?}: {}", observed.profile.verdict, observed.profile.summary));
            }
        }
    }
}

/// What `ss` says beside what SetUp found.
fn listeners(case: &Case, instances: &[Instance], notes: &[String], ss: &str) -> Vec<String> {
    let kind = if case.daemon.is_udp { "udp" } else { "tcp" };
    let mut real: BTreeMap<u16, bool> = BTreeMap::new();
    for line in ss.lines().filter(|line| line.starts_with(kind)) {
        let Some((address, port)) = line.split_whitespace().nth(4).and_then(|at| at.rsplit_once(':')) else { continue };
        let Ok(port) = port.parse() else { continue };
        let address = address.split('%').next().unwrap_or_default().trim_matches(['[', ']']);
        // What is of both families is shown as a star.
        let is_local = address.starts_with("127.") || address == "::1" || address == "::";
        *real.entry(port).or_insert(true) &= is_local;
    }
    let port = |one: &Instance| one.options.get("port").and_then(|port| port.parse::<u16>().ok());
    let mut lines = vec![];
    for (number, is_local) in &real {
        let of_it: Vec<&Instance> = instances.iter().filter(|one| port(one) == Some(*number)).collect();
        let is_said = notes.iter().any(|note| note.contains(&number.to_string()));
        if of_it.is_empty() && !is_said && !case.daemon.control.contains(number) {
            lines.push(format!(
                "{}: {} listens on port {number}, of which SetUp says nothing",
                case.name, case.daemon.name
            ));
        }
        let differs = of_it.iter().filter(|one| (one.at == At::Here) != *is_local);
        lines.extend(differs.map(|one| {
            format!(
                "{}: {} is exercised at {:?}; it listens {}",
                case.name,
                one.name,
                one.at,
                if *is_local { "on loopback alone" } else { "for all" }
            )
        }));
    }
    let gone = instances.iter().filter(|one| port(one).is_some_and(|port| !real.contains_key(&port)));
    lines.extend(gone.map(|one| format!("{}: SetUp found {}, where nobody listens", case.name, one.name)));
    lines
}
