//! What verifying costs, and how soon a fault is told: a server that is a directory, its Verifier, and 200 checks a minute.
//!
//! The checks are those that ATLAS ships, exercised for real: sshd's greeting from a server on loopback, an echo, and this machine's own disks, load, logs,
//! clock. Run by `cargo xtask bench verify`; arguments: the directory of the programs as they are installed, a root file system with one of each kind of
//! service as a tar archive, `--json`.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a bench ends where something is not as it must be")]

mod setup;

use atlas_model::verify::{Findings, Verdict};
use serde_json::json;
use std::{
    fs,
    io::Write,
    net::TcpListener,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

/// Within which faults of each kind have to be told, in seconds.
const INTERVAL: u64 = 6;
/// Instances: so many give more than 200 checks a minute at this interval.
const INSTANCES: usize = 20;
/// How long the cost is measured.
const LONG: Duration = Duration::from_secs(60);
/// The port of the greeting.
const PORT: u16 = 7322;

fn main() {
    let programs = PathBuf::from(std::env::args().nth(1).unwrap());
    eprintln!("bench: SetUp of a server with one of each kind of service");
    let (first, again) = setup::measure(&programs, Path::new(&std::env::args().nth(2).unwrap()));
    let root = tempfile::tempdir().unwrap();
    let works = Arc::new(AtomicBool::new(true));
    greet(&works);
    let checks = set_up(root.path());
    let mut verifier = start(&programs, root.path());
    wait(root.path(), &mut verifier, "all is verified", |findings| {
        findings.observed.iter().filter(|observed| observed.service != "verifier").count() >= checks
    });
    eprintln!("bench: {checks} instances every {INTERVAL} s, for {} s", LONG.as_secs());
    let (cost, memory, ran) = cost(&verifier, root.path());
    let mut latencies = Vec::new();
    for round in 1..=5 {
        eprintln!("bench: fault {round} of 5");
        latencies.push(fault(root.path(), &works, &mut verifier));
    }
    verifier.kill().unwrap();
    verifier.wait().unwrap();
    let worst = |pick: fn(&(f64, f64)) -> f64| latencies.iter().map(pick).fold(0.0, f64::max);
    let rows = [
        row("checks a minute while it was measured, at least 200", 200.0 / ran, 1.0, "times"),
        row("one core, for 200 checks a minute, children included", cost * 200.0 / ran, 2.0, "%"),
        row("memory, Verifier and its checks together, the most", memory, 60.0, "MiB"),
        row("a fault to its report, worst of 5", worst(|both| both.0), INTERVAL as f64 + 2.0, "s"),
        row("SetUp of all services, the first time", first, 1.5, "s"),
        row("SetUp of all services, when nothing has changed", again, 0.3, "s"),
        row("its report to the alert's channel, worst of 5", worst(|both| both.1), 1.0, "s"),
    ];
    let met = rows.iter().all(|row| row["met"] == true);
    println!("{}", serde_json::to_string_pretty(&rows).unwrap());
    std::process::exit(i32::from(!met));
}

fn row(name: &str, value: f64, limit: f64, unit: &str) -> serde_json::Value {
    let ratio = value / limit;
    json!({ "name": name, "value": value, "unit": unit, "peer": "goal", "peer_value": limit, "ratio": ratio, "goal": 1.0, "met": ratio <= 1.0 })
}

/// Greets as sshd does, while it works; else it closes at once.
fn greet(works: &Arc<AtomicBool>) {
    let listener = TcpListener::bind(("127.0.0.1", PORT)).unwrap();
    let works = Arc::clone(works);
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            if works.load(Ordering::SeqCst) {
                let _ = stream.write_all(b"SSH-2.0-bench\r\n");
            }
        }
    });
}

/// A PRI whose secondary is this machine; gives how many instances are verified.
fn set_up(root: &Path) -> usize {
    let write = |path: &str, content: &str| {
        let path = root.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, content).unwrap();
    };
    write("opt/atlas/EnvID", "1\n");
    write("opt/atlas/Cluster", "bakery\n");
    let config =
        "format = 1\ncluster = \"bakery\"\nrole = \"PRI\"\n[[partner]]\nrole = \"SEC1\"\nhost = \"127.0.0.1\"\n";
    write("unbound/SID_DATA/MasterConfig", config);
    // What is on this machine itself is looked at through links.
    for name in ["proc", "sys", "dev"] {
        std::os::unix::fs::symlink(Path::new("/").join(name), root.join(name)).unwrap();
    }
    let mut settings = String::from("listen = [\"127.0.0.1:7311\"]\n");
    for service in atlas_verifier::services::SERVICES {
        settings.push_str(&format!("[service.{}]\ninterval = {INTERVAL}\n", service.name));
    }
    let told = root.join("told").display().to_string();
    settings.push_str(&format!("[alert]\nslow = false\n[[channel]]\nname = \"file\"\nkind = \"command\"\ncommand = [\"/bin/sh\", \"-c\", \"echo $ATLAS_KIND $ATLAS_KEY >>{told}\"]\n"));
    write("etc/atlas/verifier.toml", &settings);
    let instance = |n: usize| format!("{{\"name\":\"{n}\",\"options\":{{\"port\":\"{PORT}\"}}}}");
    let greetings: Vec<String> = (0..INSTANCES - 4).map(instance).collect();
    let echoes: Vec<String> = (0..4).map(instance).collect();
    write(
        "etc/atlas/verifier/Services.json",
        &format!(
            "{{\"format\":1,\"services\":{{\"ssh\":{{\"instances\":[{}]}},\"connectivity\":{{\"instances\":[{}]}}}}}}",
            greetings.join(","),
            echoes.join(",")
        ),
    );
    INSTANCES
}

fn start(programs: &Path, root: &Path) -> Child {
    let log = fs::File::create(root.join("log")).unwrap();
    let program = programs.join("VerifierControl").canonicalize().unwrap();
    Command::new(program).arg("--root").arg(root).stdin(Stdio::null()).stderr(log).spawn().unwrap()
}

fn findings(root: &Path) -> Option<Findings> {
    serde_json::from_slice(&fs::read(root.join("run/atlas/verifier.json")).ok()?).ok()
}

fn wait(root: &Path, verifier: &mut Child, what: &str, is_so: impl Fn(&Findings) -> bool) {
    let start = Instant::now();
    while !findings(root).is_some_and(|findings| is_so(&findings)) {
        let ended = verifier.try_wait().unwrap();
        assert!(
            ended.is_none() && start.elapsed() < Duration::from_secs(60),
            "{what}: {ended:?} {}",
            fs::read_to_string(root.join("log")).unwrap_or_default()
        );
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Percent of one core, the most MiB, and checks a minute.
fn cost(verifier: &Child, root: &Path) -> (f64, f64, f64) {
    let ticks =
        f64::from(u32::try_from(nix::unistd::sysconf(nix::unistd::SysconfVar::CLK_TCK).unwrap().unwrap()).unwrap());
    let (before, start) = (cpu_ticks(verifier.id()), Instant::now());
    let (mut most, mut seen, mut ran) = (0.0_f64, std::collections::BTreeMap::new(), 0_u32);
    while start.elapsed() < LONG {
        most = most.max(resident_mib(verifier.id()));
        for observed in findings(root).into_iter().flat_map(|findings| findings.observed) {
            let is_ours = observed.service != "verifier";
            let last = seen.insert(observed.key(), observed.checked);
            ran += u32::from(is_ours && last.is_some_and(|last| last != observed.checked));
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    let seconds = start.elapsed().as_secs_f64();
    let percent = (cpu_ticks(verifier.id()) - before) as f64 / ticks / seconds * 100.0;
    (percent, most, f64::from(ran) / seconds * 60.0)
}

/// Of the process and of all its children that have ended.
fn cpu_ticks(pid: u32) -> u64 {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
    fields[11..15].iter().map(|field| field.parse::<u64>().unwrap()).sum()
}

/// Of the process and its children, what each has for itself and its share of the rest.
fn resident_mib(pid: u32) -> f64 {
    let children = fs::read_dir(format!("/proc/{pid}/task")).unwrap().flatten().flat_map(|task| {
        let text = fs::read_to_string(task.path().join("children")).unwrap_or_default();
        text.split_whitespace().filter_map(|child| child.parse().ok()).collect::<Vec<u32>>()
    });
    let kib = |pid: u32| -> f64 {
        let text = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap_or_default();
        let line = text.lines().find_map(|line| line.strip_prefix("Pss:"));
        line.and_then(|line| line.split_whitespace().next()?.parse().ok()).unwrap_or(0.0)
    };
    children.chain([pid]).map(kib).sum::<f64>() / 1024.0
}

/// Seconds from a fault to its report, and from there to the alert; then all is well again.
fn fault(root: &Path, works: &AtomicBool, verifier: &mut Child) -> (f64, f64) {
    let told = || {
        fs::read_to_string(root.join("told"))
            .unwrap_or_default()
            .lines()
            .filter(|line| line.starts_with("problem SEC1/ssh/"))
            .count()
    };
    let broken = |findings: &Findings| {
        findings
            .observed
            .iter()
            .filter(|observed| observed.service == "ssh" && observed.profile.verdict != Verdict::Ok)
            .count()
    };
    let before = told();
    works.store(false, Ordering::SeqCst);
    let start = Instant::now();
    wait(root, verifier, "the last of all is reported", |findings| broken(findings) == INSTANCES - 4);
    let reported = start.elapsed();
    while told() < before + INSTANCES - 4 {
        assert!(start.elapsed() < Duration::from_secs(60), "only {} alerts", told() - before);
        std::thread::sleep(Duration::from_millis(2));
    }
    let alerted = start.elapsed();
    works.store(true, Ordering::SeqCst);
    wait(root, verifier, "all is well again", |findings| broken(findings) == 0);
    (reported.as_secs_f64(), (alerted - reported).as_secs_f64())
}
