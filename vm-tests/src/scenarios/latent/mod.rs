//! What would break at failover is known before it: every fault of a table is brought about on the secondary, and PRI must say so, name
//! it, and say that all is well again after it has gone.
//!
//! ```text
//!  all clear ─► inject ─► is it there? ─► reported on PRI, how long after, does it name the fault? ─► undo ─► all clear, how long after
//! ```

mod applications;
mod faults;
mod quiet;
mod rests;
mod swapped;
mod unseen;

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use atlas_image::{Options, place_files, server_image};
use serde::Serialize;
use serde_json::Value;

use super::cast::{Cast, LEFT, MEMBER_MIB, PRI_ADDRESS, Part, RIGHT, SEC_ADDRESS};
use super::cycles::cycle;
use super::trio::{long, up};
use super::upkeep::boot_from_own_disk;
use crate::{Context, Lan, Server, secs};
use applications::APPLICATIONS;
use faults::FAULTS;
pub(super) use faults::{Fault, fault};
pub(super) use quiet::nothing_is_wrong_for_an_hour;
use rests::RESTS;
use unseen::UNSEEN;

/// Within which everything has to be told while this runs, in seconds: each check begins about twice in it.
const INTERVAL: u64 = 30;
/// An emulated server may need this long for a check beside all that it does besides, in seconds, before the test fails.
pub(super) const EMULATED: u64 = 15;
/// Cycles are this rare here, in seconds: the next one would undo what is brought about.
pub(super) const EVERY: u64 = 86_400;
/// What is verified.
const SERVICES: [&str; 16] = [
    "atlas",
    "boot",
    "connectivity",
    "disk",
    "gate",
    "identity",
    "logs",
    "nfs",
    "raid",
    "services",
    "ssh",
    "synchronizer",
    "system",
    "time",
    "units",
    "web",
];
/// Names the page of the application in PHP in the settings of the service web.
const PHP: &str = r#"sed -i '/^.service.web.$/,/^set/{ s,^set = {,& "dynamic@*:8082" = "/index.php"\,, }' /etc/atlas/verifier.toml && grep -q index.php /etc/atlas/verifier.toml"#;
/// How long is waited for a fault that is not reported in time, to know whether it ever is.
const AT_MOST: Duration = Duration::from_secs(150);

/// What was told by the channel of the servers' settings.
pub(super) const TOLD: &str = "/var/log/told";

/// What became of one fault.
#[derive(Debug, Serialize)]
struct Row {
    fault: &'static str,
    /// Within which it had to be told, in seconds.
    interval: u64,
    /// Seconds from the fault to the report; nothing where it was not reported.
    reported: Option<f64>,
    /// What PRI said.
    said: Option<String>,
    /// Whether that names the fault.
    named: bool,
    /// Seconds from its end to all clear; nothing where that did not come.
    cleared: Option<f64>,
    /// What `atlas status` said then of a failover.
    ready: Option<String>,
    /// Whether a swap would fail.
    breaks: bool,
    /// Why it could not be tried.
    error: Option<String>,
}

/// Tries all faults; fails where one was not reported, or something was that is not there.
pub(crate) fn act(ctx: &Context) -> Result<()> {
    let lan = ctx.lan("office")?;
    let client = ctx.client("client", &lan, "192.168.77.9/24")?;
    let (mut pri, mut sec) = with_applications(ctx, &lan)?;
    let told = try_all(ctx, &[FAULTS, UNSEEN, RESTS, APPLICATIONS].concat(), INTERVAL, &pri, &sec);
    let swapped = swapped::ten_swaps_fail(ctx, &mut pri, &mut sec, &client);
    std::fs::write(ctx.logs().join("swapped"), format!("{}\n", swapped.as_ref().map_or(0, |count| *count)))?;
    told.and(swapped.map(drop))
}

/// Tries these faults of the secondary; fails where PRI did not report one within `interval` seconds and what emulation takes, by its name, or
/// did not say that it had gone.
pub(super) fn try_all(ctx: &Context, faults: &[Fault], interval: u64, pri: &Server, sec: &Server) -> Result<()> {
    // Some of them, for whoever works on those: parts of their names, separated by commas.
    let wanted = std::env::var("ATLAS_FAULT").unwrap_or_default();
    let is_wanted = |fault: &&Fault| wanted.split(',').any(|part| fault.name.contains(part));
    let mut rows: Vec<Row> = vec![];
    for fault in faults.iter().filter(is_wanted) {
        rows.push(try_one(fault, interval, pri, sec));
        // It takes an hour: what is known is kept, whatever becomes of the rest.
        std::fs::write(ctx.logs().join("latent-faults.json"), serde_json::to_vec_pretty(&rows)?)?;
    }
    ensure!(!rows.is_empty(), "no fault is called {wanted:?}");
    let table = table(&rows);
    println!("{table}");
    let bad = rows.iter().filter(|row| !row.is_good()).count();
    ensure!(bad == 0, "{bad} of {} faults were not found in time, not named, or did not end:\n{table}", rows.len());
    Ok(())
}

/// `atlas status` on PRI says that one could fail over, that one could not and why, and that one could again.
pub(crate) fn standby_is_exercised(ctx: &Context) -> Result<()> {
    let lan = ctx.lan("office")?;
    let (pri, sec) = verified(ctx, &lan)?;
    wait_ready(&pri, "yes", "")?;
    sec.sh("systemctl stop nginx && ! systemctl is-active -q nginx")?;
    wait_ready(&pri, "no", "SEC1/web")?;
    sec.sh("systemctl start nginx")?;
    wait_ready(&pri, "yes", "")?;
    sec.sh("systemctl stop VerifierControl")?;
    wait_ready(&pri, "unknown", "Verifier of SEC1")
}

/// Whether one could fail over to SEC1, as `atlas status` says it on PRI; a no that must come is waited for.
fn ready(pri: &Server, breaks: bool) -> Result<String> {
    let start = Instant::now();
    loop {
        let output = pri.exec("atlas status --json", secs(60))?;
        let status: Value = serde_json::from_slice(&output.stdout).context("read the status")?;
        let ready = status["ready"][0]["ready"].as_str().unwrap_or_default().to_owned();
        if !breaks || ready == "no" || start.elapsed() > Duration::from_secs(INTERVAL) {
            return Ok(ready);
        }
        std::thread::sleep(Duration::from_secs(1));
    }
}

/// Waits until `atlas status` on PRI answers so, with a reason that has these words.
pub(super) fn wait_ready(pri: &Server, answer: &str, words: &str) -> Result<()> {
    let start = Instant::now();
    loop {
        let output = pri.exec("atlas status --json", secs(60))?;
        ensure!([0, 3].contains(&output.code), "no status: {}", output.error_text());
        let status: Value = serde_json::from_slice(&output.stdout).context("read the status")?;
        let ready = &status["ready"][0];
        if ready["ready"] == answer && ready["reasons"].to_string().contains(words) {
            return Ok(());
        }
        ensure!(start.elapsed() < Duration::from_secs(180), "not '{answer}' with '{words}' but {ready:#}");
        std::thread::sleep(Duration::from_secs(1));
    }
}

/// PRI and SEC1, verifying each other, and all is clear.
pub(super) fn verified(ctx: &Context, lan: &Lan) -> Result<(Server, Server)> {
    let cast = Cast::get()?;
    let [mut pri, mut sec] = [cast.server(ctx, LEFT, lan)?, cast.server(ctx, RIGHT, lan)?];
    up([&mut pri, &mut sec])?;
    set_up(&pri, &sec)?;
    rare_cycles(&pri, &sec)?;
    are_clear(&pri, &sec)?;
    Ok((pri, sec))
}

/// The same of two new servers with applications of their own: in Python, in PHP, in a container.
fn with_applications(ctx: &Context, lan: &Lan) -> Result<(Server, Server)> {
    let image = server_image(&Options::new(&|_| ())?.with("applications"))?;
    let server = |part: Part| -> Result<Server> {
        let mut builder = ctx.debian(part.place, &image, "")?.nic(lan)?;
        for serial in part.members() {
            builder = builder.disk(ctx.blank_disk(&serial, MEMBER_MIB)?);
        }
        let mut server = builder.build();
        place_files(server.disk(&part.root_serial())?.path(), &part.own_files())?;
        Ok(server)
    };
    let [mut pri, mut sec] = [server(LEFT)?, server(RIGHT)?];
    up([&mut pri, &mut sec])?;
    std::thread::scope(|scope| {
        let preparing = [(LEFT, &pri), (RIGHT, &sec)].map(|(part, server)| {
            scope.spawn(move || -> Result<()> {
                long(server, &part.set_up())?;
                server.sh("rm -f /etc/ssh/ssh_host_*; ssh-keygen -q -t ed25519 -N '' -f /etc/ssh/ssh_host_ed25519_key; systemctl restart ssh")?;
                long(server, include_str!("applications.sh")).map(drop)
            })
        });
        preparing.into_iter().try_for_each(|one| one.join().unwrap_or_else(|_| bail!("a set-up panicked")))
    })?;
    pri.sh("mkdir -p /unbound/www && echo home > /unbound/www/index.html")?;
    long(&pri, include_str!("applications_of_pri.sh"))?;
    long(&pri, include_str!("applications_start.sh"))?;
    for server in [&pri, &sec] {
        long(server, "ssSync create")?;
    }
    // From now on they are booted as the servers that they are.
    for server in [&mut pri, &mut sec] {
        server.shutdown(secs(180))?;
        boot_from_own_disk(ctx, server, &image.kernel_release)?;
    }
    up([&mut pri, &mut sec])?;
    ctx.note("PRI has its applications")?;
    set_up(&pri, &sec)?;
    long(&sec, include_str!("applications_start.sh"))?;
    pri.sh(PHP)?;
    // What SEC1 has now is what PRI holds of it.
    ensure!(cycle(&pri)?["partners"][0]["outcome"] == "synced", "the secondary with its applications is not in step");
    rare_cycles(&pri, &sec)?;
    for server in [&pri, &sec] {
        server.assert_healthy()?;
        server.sh("systemctl restart VerifierControl")?;
    }
    are_clear(&pri, &sec)?;
    wait_ready(&pri, "yes", "")?;
    ctx.note("SEC1 is ready")?;
    Ok((pri, sec))
}

/// Waits until PRI knows of nothing that is wrong with SEC1; says what both know where it does.
fn are_clear(pri: &Server, sec: &Server) -> Result<()> {
    all_clear(pri, Duration::from_secs(300)).map(drop).with_context(|| {
        let look = "systemctl status --no-pager --lines 20 VerifierControl; VerifierResults; ssSync compare";
        let look = |server: &Server| {
            server.exec(look, secs(60)).map_or_else(|error| format!("{error:#}"), |output| output.text())
        };
        format!("before the first fault: {}\n{}", look(pri), look(sec))
    })
}

impl Row {
    fn is_good(&self) -> bool {
        let in_time =
            |seconds: Option<f64>| seconds.is_some_and(|seconds| seconds <= (self.interval + EMULATED) as f64);
        in_time(self.reported) && self.named && self.cleared.is_some() && self.is_ready_right()
    }

    fn is_ready_right(&self) -> bool {
        !self.breaks || self.ready.as_deref() == Some("no")
    }
}

fn table(rows: &[Row]) -> String {
    let seconds = |seconds: Option<f64>| seconds.map_or("never".into(), |seconds| format!("{seconds:.0} s"));
    let mut text = format!("{:44} {:>8} {:>6} {:>8}  {:8} said\n", "fault", "reported", "named", "cleared", "ready");
    for row in rows {
        let said = row.error.as_deref().or(row.said.as_deref()).unwrap_or_default();
        let said: String = said.chars().take(150).collect();
        let named = if row.named { "yes" } else { "no" };
        let (reported, cleared) = (seconds(row.reported), seconds(row.cleared));
        let ready = row.ready.as_deref().unwrap_or_default();
        let ready = if row.is_ready_right() { ready.to_owned() } else { format!("{ready}!") };
        text.push_str(&format!("{:44} {reported:>8} {named:>6} {cleared:>8}  {ready:8} {said}\n", row.fault));
    }
    let count = |is_so: fn(&Row) -> bool| rows.iter().filter(|row| is_so(row)).count();
    let found = count(|row| row.reported.is_some());
    let in_time = count(|row| row.reported.is_some_and(|seconds| seconds <= row.interval as f64));
    let all = rows.len();
    text + &format!("{found} of {all} found, {in_time} within the interval\n")
}

/// A cluster whose services are verified: keys exchanged, a web site and an export, SetUp, one cycle.
fn set_up(pri: &Server, sec: &Server) -> Result<()> {
    verify_patiently(&[pri, sec], pri, INTERVAL, Some(EVERY))?;
    acquaint(pri, sec)?;
    for server in [pri, sec] {
        server.sh("systemctl enable --now nfs-server")?;
    }
    pri.sh("mkdir -p /unbound/share && chmod 777 /unbound/share && echo '/unbound/share 192.168.77.0/24(rw,sync,no_subtree_check)' > /etc/exports && exportfs -ra")?;
    cycle(pri)?;
    let report = cycle(pri)?;
    ensure!(report["partners"][0]["outcome"] == "synced", "the secondary is not in step: {report:#}");
    sec.sh("exportfs -ra; cp /unbound/www/$(cd /unbound/www; ls -a | grep atlas-verify | head -1) /root/test-page")?;
    ensure!(
        sec.sh(&format!("curl -s -o /dev/null -w '%{{http_code}}' http://{SEC_ADDRESS}/"))? != "200",
        "client data is on {PRI_ADDRESS} alone"
    );
    Ok(())
}

/// Limits that an emulated processor does not reach: what it takes its time for is no fault of the service.
const PATIENT: [(&str, &str); 5] = [
    ("connectivity", "answer-slow = \"20000\", answer-unacceptable = \"20000\", fragmented-slow = \"20000\""),
    ("nfs", "mount-slow = \"20000\", read-slow = \"20000\", write-slow = \"20000\", lock-slow = \"20000\""),
    ("ssh", "answer-slow = \"20000\", answer-unacceptable = \"20000\""),
    ("system", "load-slow = \"50\", load-unacceptable = \"90\""),
    (
        "web",
        "answer-slow = \"20000\", answer-unacceptable = \"20000\", dynamic-slow = \"20000\", dynamic-unacceptable = \"20000\"",
    ),
];

/// Sets the Verifier up by PRI's settings: every service within `interval` seconds, and a channel on each server that keeps what is told. `every` is
/// how rare cycles are, in seconds, where that is not the default.
pub(super) fn verify_patiently(servers: &[&Server], pri: &Server, interval: u64, every: Option<u64>) -> Result<()> {
    let settings = SERVICES.map(|name| {
        let patient = PATIENT.iter().find(|(service, _)| *service == name).map(|(_, limits)| (*limits).to_owned());
        let every = every.filter(|_| name == "synchronizer").map(|every| format!("every = \"{every}\""));
        let set: Vec<String> = patient.into_iter().chain(every).collect();
        format!("[service.{name}]\ninterval = {interval}\nset = {{ {} }}\n", set.join(", "))
    });
    servers.iter().try_for_each(|server| keeps_what_is_told(server))?;
    pri.write_file("/etc/atlas/verifier.toml", (settings.concat() + channel()).as_bytes())
}

/// The settings of a channel that keeps what is told, in [`TOLD`].
fn channel() -> &'static str {
    "[[channel]]\nname = \"told\"\nkind = \"command\"\ncommand = [\"/usr/local/bin/told\"]\n"
}

/// Places the program of that channel.
fn keeps_what_is_told(server: &Server) -> Result<()> {
    let script = format!("#!/bin/sh\n{{ date; cat; echo; }} >> {TOLD}\n");
    server.write_file("/usr/local/bin/told", script.as_bytes())?;
    server.sh("chmod 755 /usr/local/bin/told").map(drop)
}

/// The Synchronizer runs, and begins no cycle before the test has ended.
pub(super) fn rare_cycles(pri: &Server, sec: &Server) -> Result<()> {
    for server in [pri, sec] {
        server.sh(&format!(
            "mkdir -p /etc/systemd/system/ssSyncLoop.service.d && \
             printf '[Service]\\nExecStart=\\nExecStart=/opt/atlas/bin/ssSyncLoop --every {EVERY}\\n' > /etc/systemd/system/ssSyncLoop.service.d/rare.conf && \
             systemctl daemon-reload && systemctl enable --now ssSyncLoop"
        ))?;
    }
    Ok(())
}

/// Each learns the other's keys.
pub(super) fn acquaint(pri: &Server, sec: &Server) -> Result<()> {
    let keys = [pri.sh("ssSync keys")?, sec.sh("ssSync keys")?];
    pri.sh(&format!("ssSync trust SEC1 '{}'", keys[1].trim()))?;
    sec.sh(&format!("ssSync trust PRI '{}'", keys[0].trim())).map(drop)
}

/// What PRI knows to be wrong with SEC1: `KEY: sentence`.
fn wrong(pri: &Server) -> Result<Vec<String>> {
    let output = pri.exec("VerifierResults list --json", secs(60))?;
    ensure!([0, 3].contains(&output.code), "no findings: {}", output.error_text());
    let findings: Value = serde_json::from_slice(&output.stdout).context("read the findings")?;
    let mut wrong = Vec::new();
    let mut look = |findings: &Value| {
        for one in findings["observed"].as_array().into_iter().flatten().filter(|one| one["about"] == "SEC1") {
            if one["profile"]["verdict"] != "ok" {
                let text = |name: &str| one[name].as_str().unwrap_or_default().to_owned();
                let summary = one["profile"]["summary"].as_str().unwrap_or_default();
                wrong.push(format!("{}/{}: {summary}", text("service"), text("instance")));
            }
        }
    };
    look(&findings);
    let heard = &findings["heard"][0];
    if heard["silent"].is_null() {
        look(&heard["findings"]);
    }
    ensure!(findings["observed"].as_array().is_some_and(|all| !all.is_empty()), "nothing is verified: {findings:#}");
    Ok(wrong)
}

/// Waits until PRI knows of nothing that is wrong with SEC1; the seconds it took.
pub(super) fn all_clear(pri: &Server, longest: Duration) -> Result<f64> {
    let start = Instant::now();
    loop {
        // Before its first findings nobody knows: that is not clear.
        let wrong = wrong(pri).unwrap_or_else(|error| vec![format!("{error:#}")]);
        if wrong.is_empty() {
            return Ok(start.elapsed().as_secs_f64());
        }
        ensure!(start.elapsed() < longest, "PRI says after {longest:?}: {}", wrong.join("; "));
        std::thread::sleep(Duration::from_secs(1));
    }
}

fn try_one(fault: &Fault, interval: u64, pri: &Server, sec: &Server) -> Row {
    let mut row = Row {
        fault: fault.name,
        interval: fault.interval.unwrap_or(interval),
        reported: None,
        said: None,
        named: false,
        cleared: None,
        ready: None,
        breaks: fault.breaks,
        error: None,
    };
    let mut act = || -> Result<()> {
        run(sec, fault.inject).context("bring it about")?;
        let injected = Instant::now();
        let there = sec.exec(fault.is_there, secs(60))?;
        ensure!(there.code == 0, "the fault is not there: {}", there.error_text());
        while injected.elapsed() < AT_MOST && !row.named {
            let wrong = wrong(pri)?;
            if !wrong.is_empty() && row.reported.is_none() {
                row.reported = Some(injected.elapsed().as_secs_f64());
            }
            // Several things may be wrong because of one fault: one of them names it.
            let names = |said: &&String| fault.names.iter().any(|words| said.contains(words));
            if let Some(said) = wrong.iter().find(names).or(wrong.first()) {
                row.named = names(&said);
                row.said = Some(said.clone());
            }
            std::thread::sleep(Duration::from_millis(500));
        }
        row.ready = Some(ready(pri, fault.breaks)?);
        Ok(())
    };
    let done = act();
    let undone = run(sec, fault.undo).context("take it away");
    let cleared = undone.and_then(|()| all_clear(pri, AT_MOST));
    match done.and(cleared) {
        Ok(seconds) => row.cleared = Some(seconds),
        Err(error) => row.error = Some(format!("{error:#}")),
    }
    eprintln!("{}", table(std::slice::from_ref(&row)).lines().nth(1).unwrap_or_default());
    row
}

/// Runs a command that may need its time on a server whose network may be gone: it is driven by another way.
fn run(server: &Server, command: &str) -> Result<()> {
    let output = server.exec(command, secs(120))?;
    if output.code != 0 {
        bail!("`{command}` exits with {}: {}", output.code, output.error_text());
    }
    Ok(())
}
