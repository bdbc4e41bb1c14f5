//! Every service that the Verifier exercises over the network, as Debian's packages install them, in two servers that exercise each other's;
//! then each is stopped or spoiled on the secondary, and PRI says so, names it, and says that all is well again.
//!
//! ```text
//!  image with the packages ─► init ─► data to /unbound ─► PRI configured ─► cycles ─► SEC1 as PRI ─► PRI ⇄ SEC1: all ok ─► FAULTS
//!                             every_server.sh             pri.sh                      start.sh
//! ```

mod faults;

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use atlas_image::{Options, ServerImage, place_files, server_image};
use serde_json::Value;

use super::cast::{LEFT, Part, RIGHT};
use super::cycles::cycle;
use super::latent::{EVERY, acquaint, all_clear, rare_cycles, try_all, wait_ready};
use super::trio::{long, up};
use crate::{Context, Lan, Server};

/// Within which each service's faults have to be told, in seconds: their clients take emulated processors seconds, and each runs twice in it.
const INTERVAL: u64 = 100;
/// How long one check may take, in seconds.
const DEADLINE: u64 = 50;
/// Size of each member of a set: MariaDB alone wants 130 MiB.
const MEMBER_MIB: u64 = 512;
const MEMORY_MIB: u32 = 1024;
/// How long all services of both servers may take to be verified, or to be well again.
const LONGEST: Duration = Duration::from_secs(400);

/// What each server has to exercise on the other: the service and its instance.
const EXERCISED: [(&str, &str); 13] = [
    ("connectivity", ""),
    ("ssh", "22"),
    ("web", "*:80"),
    ("web", "*:8080"),
    ("web", "shop.bakery.example:443"),
    ("nfs", "/unbound/recipes"),
    ("samba", "team"),
    ("dns", "bakery.example"),
    ("ntp", "chrony"),
    ("mail", "smtp:25"),
    ("mail", "imap:993"),
    ("postgresql", "15/main"),
    ("mariadb", "3306"),
];

/// The settings of the Verifier. What an emulated processor takes its time for is no fault of the service, and two clocks that were set from
/// their hardware's are up to a second apart.
fn settings(cycles: Cycles) -> String {
    let slow = "answer dynamic fragmented mount read write lock query accepted delivered tls offset".split(' ');
    let slow: Vec<String> =
        slow.map(|time| format!("{time}-slow = \"60000\", {time}-unacceptable = \"90000\"")).collect();
    let slow = slow.join(", ");
    let every = if cycles == Cycles::Rare { format!("every = \"{EVERY}\"") } else { String::new() };
    let more = |service: &str| match service {
        "web" => {
            "\"dynamic@*:8080\" = \"/orders\", \"expect@*:8080\" = \"orders: 3\", \"ca@shop.bakery.example:443\" = \"/etc/atlas/verifier/ca.pem\""
        }
        "mail" => "mail-to = \"baker@bakery.example\", credentials = \"/etc/atlas/verifier/mail\"",
        "postgresql" => "user = \"verify\", credentials = \"/etc/atlas/verifier/postgresql\"",
        "mariadb" => "database = \"verify\", credentials = \"/etc/atlas/verifier/mariadb\"",
        "system" => "load-slow = \"50\", load-unacceptable = \"90\"",
        "synchronizer" => &every,
        _ => "",
    };
    let mut services: Vec<&str> = EXERCISED.iter().map(|(service, _)| *service).collect();
    services.extend(["services", "synchronizer", "system"]);
    services.dedup();
    let section = |name: &&str| {
        let set =
            [slow.as_str(), more(name)].into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join(", ");
        format!("[service.{name}]\ninterval = {INTERVAL}\ndeadline = {DEADLINE}\nset = {{ {set} }}\n")
    };
    services.iter().map(section).collect()
}

/// See the module's text.
pub(crate) fn every_service_in_machines(ctx: &Context) -> Result<()> {
    let lan = ctx.lan("office")?;
    exercising(ctx, &lan, "", Cycles::Rare, |pri, sec| try_all(ctx, faults::FAULTS, INTERVAL, pri, sec))
}

/// Whether cycles begin as they do everywhere.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Cycles {
    /// None before the test has ended: it would undo what is brought about.
    Rare,
    /// Every five minutes.
    Usual,
}

/// Does this with two servers that exercise each other's services, and find all of them well; `more` are settings of the Verifier.
pub(super) fn exercising(
    ctx: &Context,
    lan: &Lan,
    more: &str,
    cycles: Cycles,
    act: impl FnOnce(&Server, &Server) -> Result<()>,
) -> Result<()> {
    let image = server_image(&Options::new(&|_| ())?.with("services"))?;
    let [mut pri, mut sec] = [server(ctx, &image, LEFT, lan)?, server(ctx, &image, RIGHT, lan)?];
    up([&mut pri, &mut sec])?;
    ctx.note("both are up")?;
    let told = set_up(ctx, &pri, &sec, &(settings(cycles) + more), cycles)
        .and_then(|()| both_exercise(ctx, &pri, &sec))
        .and_then(|()| act(&pri, &sec));
    if told.is_err() {
        for server in [&pri, &sec] {
            let look = "VerifierResults; VerifierResults history; systemctl --failed --no-pager; journalctl -b --no-pager -n 300; df; free -m; uptime";
            let text =
                server.exec(look, crate::secs(120)).map_or_else(|error| format!("{error:#}"), |output| output.text());
            std::fs::write(ctx.logs().join(format!("{}.diagnosis.txt", server.name())), text)?;
        }
    }
    told
}

fn server(ctx: &Context, image: &ServerImage, part: Part, lan: &Lan) -> Result<Server> {
    let mut builder = ctx.debian(part.place, image, "")?.nic(lan)?.mem_mib(MEMORY_MIB);
    for serial in part.members() {
        builder = builder.disk(ctx.blank_disk(&serial, MEMBER_MIB)?);
    }
    let mut server = builder.build();
    place_files(server.disk(&part.root_serial())?.path(), &part.own_files())?;
    Ok(server)
}

/// A cluster with all services, of which SEC1 has the configuration through cycles.
fn set_up(ctx: &Context, pri: &Server, sec: &Server, settings: &str, cycles: Cycles) -> Result<()> {
    std::thread::scope(|scope| {
        let preparing = [(LEFT, pri), (RIGHT, sec)].map(|(part, server)| {
            scope.spawn(move || -> Result<()> {
                long(server, &part.set_up())?;
                long(server, include_str!("every_server.sh")).map(drop)
            })
        });
        preparing.into_iter().try_for_each(|one| one.join().unwrap_or_else(|_| anyhow::bail!("a set-up panicked")))
    })?;
    ctx.note("both are set up")?;
    pri.write_file("/etc/atlas/verifier.toml", settings.as_bytes())?;
    pri.sh(include_str!("pri.sh"))?;
    long(pri, include_str!("start.sh"))?;
    ctx.note("PRI has its services")?;
    acquaint(pri, sec)?;
    for server in [pri, sec] {
        long(server, "ssSync create")?;
    }
    // The first brings the configuration; the second sees that both have the same.
    cycle(pri)?;
    let report = cycle(pri)?;
    ensure!(report["partners"][0]["outcome"] == "synced", "the secondary is not in step: {report:#}");
    long(sec, include_str!("start.sh"))?;
    match cycles {
        Cycles::Rare => rare_cycles(pri, sec)?,
        Cycles::Usual => [pri, sec].into_iter().try_for_each(|server| long(server, "ssSyncCtrl start").map(drop))?,
    }
    for server in [pri, sec] {
        server.assert_healthy()?;
        server.sh("systemctl restart VerifierControl")?;
    }
    ctx.note("SEC1 has PRI's services")
}

/// Waits until each server says of the other that all its services are well, and that it exercises all of them.
fn both_exercise(ctx: &Context, pri: &Server, sec: &Server) -> Result<()> {
    let begun = Instant::now();
    for (server, other) in [(pri, "SEC1"), (sec, "PRI")] {
        let missing = loop {
            let missing = not_ok(server, other)?;
            if missing.is_empty() || begun.elapsed() > LONGEST {
                break missing;
            }
            std::thread::sleep(Duration::from_secs(2));
        };
        ensure!(missing.is_empty(), "{} says of {other}: {}", server.name(), missing.join("; "));
    }
    all_clear(pri, LONGEST)?;
    wait_ready(pri, "yes", "")?;
    let line = format!(
        "each server exercises {} services of the other, {:.0} s after their start",
        EXERCISED.len(),
        begun.elapsed().as_secs_f64()
    );
    println!("      {line}");
    ctx.note(&line)
}

/// Which of the services a server does not find well on the other.
fn not_ok(server: &Server, other: &str) -> Result<Vec<String>> {
    let output = server.exec("VerifierResults list --json", crate::secs(60))?;
    let findings: Value = serde_json::from_slice(&output.stdout).context("read the findings")?;
    let observed = findings["observed"].as_array().map(Vec::as_slice).unwrap_or_default();
    let said = |(service, instance): &(&str, &str)| {
        let one = observed.iter().find(|one| {
            one["about"] == other
                && one["service"] == *service
                && one["instance"].as_str().unwrap_or_default() == *instance
        });
        let profile = one.map(|one| &one["profile"]);
        (profile.is_none_or(|profile| profile["verdict"] != "ok")).then(|| {
            format!(
                "{service}/{instance}: {}",
                profile.map_or("not exercised", |it| it["summary"].as_str().unwrap_or_default())
            )
        })
    };
    Ok(EXERCISED.iter().filter_map(said).collect())
}
