//! The failover that `cargo xtask demo` shows: the same servers, disks and LAN as in the scenarios, told step by step.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};

use crate::scenarios::cast::{Cast, LEFT, PRI_ADDRESS, RIGHT, SEC_ADDRESS};
use crate::{Context, Server, secs};

/// One thing that the demo checked.
#[derive(Debug, Clone)]
pub struct Check {
    /// What was looked at.
    pub what: &'static str,
    /// What it had to be.
    pub expected: String,
    /// What it was.
    pub seen: String,
}

impl Check {
    /// Whether it was as it had to be.
    pub fn is_ok(&self) -> bool {
        self.expected == self.seen
    }
}

/// How long a step took.
pub type Timing = (&'static str, Duration);

/// What the demo found.
#[derive(Debug, Clone, Default)]
pub struct Report {
    /// Everything that was checked after the failover, in order.
    pub checks: Vec<Check>,
    /// The steps that took time, in order.
    pub timings: Vec<Timing>,
}

/// Tells each step to `say` as it begins, and keeps the time it took.
struct Story<'a> {
    say: &'a dyn Fn(&str),
    report: Report,
}

impl Story<'_> {
    fn step<T>(&mut self, name: &'static str, act: impl FnOnce() -> Result<T>) -> Result<T> {
        (self.say)(name);
        let began = Instant::now();
        let result = act().with_context(|| name.to_owned())?;
        self.report.timings.push((name, began.elapsed()));
        Ok(result)
    }

    fn check(&mut self, what: &'static str, expected: impl Into<String>, seen: Result<String>) {
        let seen = seen.unwrap_or_else(|error| format!("{error:#}"));
        self.report.checks.push(Check { what, expected: expected.into(), seen });
    }
}

/// Two servers boot as PRI and SEC1; PRI's disks move; the other one boots, and has to be PRI. Logs go to `logs`.
///
/// # Errors
/// A step that could not be taken. What the failover made of the server is in the report, not an error.
pub fn demo(logs: &Path, say: &dyn Fn(&str)) -> Result<Report> {
    let mut story = Story { say, report: Report::default() };
    let cast = story.step("two new servers are set up with 'atlas init' (kept for the next time)", Cast::get)?;
    let ctx = Context::new("demo", logs)?;
    let lan = ctx.lan("office")?;
    let mut left = cast.server(&ctx, LEFT, &lan)?;
    let mut right = cast.server(&ctx, RIGHT, &lan)?;
    let client = ctx.client("client", &lan, "192.168.77.9/24")?;

    story.step("both servers boot: left with PRI's disks, right with SEC1's", || {
        left.start()?;
        right.start()?;
        left.wait_booted(secs(240))?;
        right.wait_booted(secs(240))
    })?;
    let role_before = [role(&left)?, role(&right)?].join(", ");
    story.check("before: left and right server are", "PRI, SEC1", Ok(role_before));
    story.check("before: PRI serves", "the bakery's page", page(&client));
    let key = host_key(&left)?;
    let sentence = format!("written at {} s, just before the failover", left.sh("cut -d. -f1 /proc/uptime")?);
    left.sh(&format!("echo '{sentence}' > /unbound/www/index.html"))?;

    story.step("both are shut down", || {
        left.shutdown(secs(120))?;
        right.shutdown(secs(120))
    })?;
    story.step("PRI's two disks move from the left server to the right one", || {
        RIGHT.members().iter().try_for_each(|serial| right.remove(serial).map(drop))?;
        LEFT.members().iter().try_for_each(|serial| right.insert(left.remove(serial)?))
    })?;
    lan.forget("right")?;
    story.step("the right server boots", || {
        right.start()?;
        right.wait_booted(secs(240))
    })?;

    story.check("role of the right server", "PRI", role(&right));
    story.check("its name", LEFT.hostname, right.sh("hostname"));
    let address = "ip -4 -o address show dev eth0 | awk '{ print $4 }'";
    story.check("its address", format!("{PRI_ADDRESS}/24"), right.sh(address));
    story.check("its ssh host key", key, host_key(&right));
    client.sh("ip neigh flush dev eth0")?;
    story.check("the page that a client gets from it", sentence, page(&client));
    let claimed = lan.sent("right")?.arp_claims.contains(&SEC_ADDRESS.parse()?);
    story.check("it used its old address on the LAN", "no", Ok(if claimed { "yes" } else { "no" }.into()));
    story.check("units failed, programs crashed", "none", right.assert_healthy().map(|()| "none".into()));
    story.step("it is shut down", || right.shutdown(secs(120)))?;
    ctx.finish()?;
    Ok(story.report)
}

fn role(server: &Server) -> Result<String> {
    let report: serde_json::Value = serde_json::from_slice(&server.read_file("/run/atlas/boot.json")?)?;
    Ok(report["role"].as_str().unwrap_or("none").to_owned())
}

fn host_key(server: &Server) -> Result<String> {
    server.sh("ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub | cut -d' ' -f2")
}

fn page(client: &Server) -> Result<String> {
    client.sh(&format!("timeout 20 wget -qO- http://{PRI_ADDRESS}/"))
}
