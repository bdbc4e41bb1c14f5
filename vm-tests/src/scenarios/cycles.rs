//! The seeds' scenarios 1, 2 and 3, figure by figure, with three servers of three EnvVersions [216-269].
//!
//! One story, told by the machines that it is told of, each time as far as the end of another scenario: after every step the Snapshots that lie on each server are what the figure shows,
//! `PRI 2: Env1 Env2` standing for a SnapshotEnvVersion of 2 in bold and the Snapshots Env1 and Env2 of PRI. One thing differs from
//! the figures: SEC1's Snapshot is not converted to PRI's newer version on PRI (FIG 14), since the two are compared at the older one.

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use super::cast::{PAGE, PRI_ADDRESS, Part};
use super::failover::{move_set, take_out};
use super::trio::{A, B, C, Trio, acted, down, long, up};
use crate::{Context, Disk, Server, secs};

/// What a server is to be: who, and from which converted version if any.
pub(super) fn assert_is(
    server: &Server,
    role: Part,
    place: Part,
    converted_from: Option<u32>,
    client: &Server,
) -> Result<()> {
    let report: Value = serde_json::from_slice(&server.read_file("/run/atlas/boot.json")?)?;
    let wanted = report["outcome"] == "identity-installed"
        && report["role"] == role.role
        && report["env_version"] == place.env_version
        && report["converted_from"].as_u64() == converted_from.map(u64::from);
    ensure!(wanted, "{} is not {} of Env{}: {report:#}", place.place, role.role, place.env_version);
    ensure!(server.sh("hostname")? == role.hostname, "{} has another name than {}", place.place, role.hostname);
    let addresses = server.sh("ip -4 -o address show dev eth0")?;
    ensure!(
        addresses.lines().count() == 1 && addresses.contains(&format!(" {}/24 ", role.address)),
        "{} has these addresses, not {}: {addresses}",
        place.place,
        role.address
    );
    client.sh("ip neigh flush dev eth0")?;
    let banner = client.sh(&format!("nc -w 20 {} 22 < /dev/null | head -n 1", role.address))?;
    ensure!(banner.starts_with("SSH-2.0"), "sshd of {} does not answer: {banner:?}", place.place);
    server.assert_healthy()
}

/// The Snapshots on a server are these, one line for each Role.
pub(super) fn assert_snapshots(server: &Server, figure: &str, wanted: &[&str]) -> Result<()> {
    let list = "cd /unbound/SID_DATA && for role in PRI SEC1 SEC2; do [ ! -d $role ] || \
                echo $role $(cat $role/SnapshotEnvVersion): $(cd $role && ls -d Env*); done";
    let there = server.sh(list)?;
    ensure!(there == wanted.join("\n"), "{figure}: on {} lie\n{there}\nnot\n{}", server.name(), wanted.join("\n"));
    Ok(())
}

/// Runs a cycle on PRI; its report, whatever it says.
pub(super) fn cycle(pri: &Server) -> Result<Value> {
    let output = pri.exec("ssSync cycle --json", secs(600))?;
    ensure!([0, 3].contains(&output.code), "no cycle on {}: {}\n{}", pri.name(), output.text(), output.error_text());
    serde_json::from_slice(&output.stdout).context("the report of a cycle cannot be read")
}

/// What a cycle's report says of a partner.
pub(super) fn partner<'r>(report: &'r Value, role: &str) -> Result<&'r Value> {
    let partners = report["partners"].as_array().context("a report without partners")?;
    partners.iter().find(|partner| partner["role"] == role).with_context(|| format!("no {role} in {report:#}"))
}

/// The partners' outcomes are these.
pub(super) fn assert_outcomes(report: &Value, wanted: &[(&str, &str)]) -> Result<()> {
    for (role, outcome) in wanted {
        ensure!(partner(report, role)?["outcome"] == *outcome, "{role} is not {outcome}: {report:#}");
    }
    Ok(())
}

/// One step of a cycle alone, as the figures show it. Servers that are off are told of (3).
fn step(server: &Server, command: &str) -> Result<()> {
    let output = server.exec(&format!("ssSync {command}"), secs(300))?;
    let said = [output.text(), output.error_text()].join("\n");
    ensure!([0, 3].contains(&output.code), "`ssSync {command}` on {} ends with {}: {said}", server.name(), output.code);
    Ok(())
}

/// What PRI's Snapshot brings is in place.
fn assert_same_file(pri: &Server, secondary: &Server, figure: &str) -> Result<()> {
    const LIST: &str = "sha256sum /etc/exports; getent passwd root";
    ensure!(pri.sh(LIST)? == secondary.sh(LIST)?, "{figure}: {} does not have PRI's files", secondary.name());
    Ok(())
}

fn synced(pri: &Server, partners: &[&str]) -> Result<Value> {
    let report = cycle(pri)?;
    let wanted: Vec<_> = partners.iter().map(|role| (*role, "synced")).collect();
    assert_outcomes(&report, &wanted)?;
    Ok(report)
}

/// A needs maintenance, B becomes PRI; before that, what a cluster is kept in step for.
pub(crate) fn scenario_1(ctx: &Context) -> Result<()> {
    story(ctx, |ctx, servers, client| {
        let [a, b, c] = servers;
        cycles_by_themselves(a, [b, c])?;
        ctx.note("cycles by themselves")?;
        local_edit_is_undone(a, b)?;
        ctx.note("a local edit is undone")?;
        figures_17_to_23(servers, client).map(drop)
    })
}

/// A comes back as SEC1.
pub(crate) fn scenario_2(ctx: &Context) -> Result<()> {
    story(ctx, |ctx, servers, client| {
        let of_sec1 = figures_17_to_23(servers, client)?;
        ctx.note("scenario 1")?;
        figures_24_to_31(servers, of_sec1, client)
    })
}

/// B and C swap Roles.
pub(crate) fn scenario_3(ctx: &Context) -> Result<()> {
    story(ctx, |ctx, servers, client| {
        let of_sec1 = figures_17_to_23(servers, client)?;
        figures_24_to_31(servers, of_sec1, client)?;
        ctx.note("scenarios 1 and 2")?;
        figures_32_and_33(servers, client)
    })
}

/// The three servers as all scenarios find them, with their services in step, and what comes then.
fn story(ctx: &Context, then: impl FnOnce(&Context, &mut [Server; 3], &Server) -> Result<()>) -> Result<()> {
    let trio = Trio::get()?;
    let lan = ctx.lan("office")?;
    let client = ctx.client("client", &lan, "192.168.77.9/24")?;
    acted(ctx, trio.servers(ctx, &lan)?, |servers| {
        let [a, b, c] = servers;
        up([a, b, c])?;
        ctx.note("all are up")?;
        figures_9_to_16(a, b, c, &client)?;
        ctx.note("figures 9 to 16")?;
        services_follow(a, &[b, c])?;
        ctx.note("services follow")?;
        then(ctx, servers, &client)
    })
}

/// Each server takes its Role from its own Snapshot [180]; the first cycle [187-214].
fn figures_9_to_16(a: &Server, b: &Server, c: &Server, client: &Server) -> Result<()> {
    for (server, part, debian) in [(a, A, "12."), (b, B, "11."), (c, C, "13.")] {
        assert_is(server, part, part, None, client)?;
        ensure!(server.sh("cat /etc/debian_version")?.starts_with(debian), "{} is no Debian {debian}", part.place);
    }
    assert_snapshots(a, "FIG 12", &["PRI 2: Env1 Env2"])?;
    assert_snapshots(b, "FIG 12", &["SEC1 1: Env1"])?;
    assert_snapshots(c, "FIG 12", &["SEC2 3: Env1 Env2 Env3"])?;
    step(a, "send")?;
    assert_snapshots(b, "FIG 13", &["PRI 2: Env1 Env2", "SEC1 1: Env1"])?;
    assert_snapshots(c, "FIG 13", &["PRI 2: Env1 Env2", "SEC2 3: Env1 Env2 Env3"])?;
    for server in [b, c] {
        step(server, "newer")?;
    }
    assert_snapshots(b, "FIG 14", &["PRI 2: Env1 Env2", "SEC1 1: Env1"])?;
    assert_snapshots(c, "FIG 14", &["PRI 3: Env1 Env2 Env3", "SEC2 3: Env1 Env2 Env3"])?;
    for server in [b, c] {
        step(server, "install")?;
        assert_same_file(a, server, "FIG 15")?;
    }
    synced(a, &["SEC1", "SEC2"])?;
    assert_snapshots(a, "FIG 16", &["PRI 2: Env1 Env2", "SEC1 1: Env1", "SEC2 3: Env1 Env2 Env3"])?;
    assert_snapshots(b, "FIG 16", &["PRI 2: Env1 Env2", "SEC1 1: Env1"])?;
    assert_snapshots(c, "FIG 16", &["PRI 3: Env1 Env2 Env3", "SEC2 3: Env1 Env2 Env3"])
}

/// A site, an export and a user, made on PRI as ever, work on all three after one cycle [384].
fn services_follow(pri: &Server, secondaries: &[&Server]) -> Result<()> {
    pri.sh("printf 'server { listen 8080; return 200 \"cakes\\n\"; }\\n' > /etc/nginx/conf.d/cakes.conf && systemctl reload nginx")?;
    pri.sh("useradd --uid 4711 --shell /bin/sh baker && mkdir -p /srv/recipes && echo '/srv/recipes 192.168.77.0/24(ro)' > /etc/exports")?;
    synced(pri, &["SEC1", "SEC2"])?;
    for server in secondaries.iter().chain([&pri]) {
        ensure!(server.sh("curl -s http://localhost:8080/")? == "cakes", "no cakes from {}", server.name());
        ensure!(server.sh("id baker")?.starts_with("uid=4711(baker)"), "no baker on {}", server.name());
        server.sh("mkdir -p /srv/recipes && systemctl start nfs-server")?;
        ensure!(server.sh("exportfs")?.contains("/srv/recipes"), "no export from {}", server.name());
        server.sh("systemctl stop nfs-server")?;
    }
    Ok(())
}

/// With the service started, a change is on all three soon after, and nobody typed a thing; nothing goes out while it is suspended [306, 317-318].
fn cycles_by_themselves(pri: &Server, secondaries: [&Server; 2]) -> Result<()> {
    let serves = |server: &Server, word: &str| -> Result<bool> {
        Ok(server.exec("curl -s http://localhost:8080/", secs(60))?.text() == word)
    };
    let follow = |word: &str| -> Result<()> {
        for server in secondaries {
            let what = format!("{word} from {} without a word", server.name());
            secs(250).poll(&what, || Ok(serves(server, word)?.then_some(())))?;
        }
        secs(60).poll("a good status", || Ok((pri.exec("ssSyncCtrl status", secs(60))?.code == 0).then_some(())))
    };
    let bake = |from: &str, to: &str| {
        pri.sh(&format!("sed -i s/{from}/{to}/ /etc/nginx/conf.d/cakes.conf && systemctl reload nginx"))
    };
    for server in [secondaries[0], secondaries[1], pri] {
        long(server, "ssSyncCtrl start")?;
    }
    secs(250).poll("the first cycle", || Ok((pri.exec("ssSyncCtrl status", secs(60))?.code == 0).then_some(())))?;
    bake("cakes", "bread")?;
    follow("bread")?;
    long(pri, "ssSyncCtrl suspend 'half way'")?;
    bake("bread", "dough")?;
    let told = pri.exec("ssSync cycle", secs(120))?;
    ensure!(told.code == 1 && told.error_text().contains("half way"), "not suspended: {}", told.error_text());
    for server in secondaries {
        ensure!(serves(server, "bread")?, "a change went out that was half way");
    }
    bake("dough", "cakes")?;
    long(pri, "ssSyncCtrl resume")?;
    follow("cakes")?;
    for server in [secondaries[0], secondaries[1], pri] {
        server.sh("systemctl disable --now ssSyncLoop")?;
        server.assert_healthy()?;
    }
    ensure!(pri.sh("cat /var/log/atlas/*ssSync*")?.contains("synced"), "ssRun kept no log of the cycles");
    Ok(())
}

/// What somebody changed on a secondary is undone by the next cycle, and stays on record there and on PRI [310].
fn local_edit_is_undone(pri: &Server, sec1: &Server) -> Result<()> {
    sec1.sh("echo '# edited here' >> /etc/nginx/conf.d/cakes.conf")?;
    let report = synced(pri, &["SEC1", "SEC2"])?;
    ensure!(partner(&report, "SEC1")?["secondary"]["changed_locally"] == true, "not noticed: {report:#}");
    ensure!(partner(&report, "SEC2")?["secondary"]["changed_locally"] == false, "SEC2 was blamed, too: {report:#}");
    ensure!(!sec1.sh("cat /etc/nginx/conf.d/cakes.conf")?.contains("edited here"), "the edit was not undone");
    let history =
        long(sec1, "git --git-dir=/unbound/SID_DATA/history log --all --patch | grep '^[+-].*edited here' | sort")?;
    let (undone, edited) = ("-# edited here", "+# edited here");
    ensure!(
        history.lines().any(|line| line == undone) && history.lines().any(|line| line == edited),
        "history: {history}"
    );
    Ok(())
}

/// A has problems: its disks move to B, which becomes PRI [216-236]. Gives what was in B.
fn figures_17_to_23([a, b, c]: &mut [Server; 3], client: &Server) -> Result<Vec<Disk>> {
    a.sh("echo written just before > /unbound/www/index.html")?;
    down([a, b])?;
    let of_sec1 = take_out(b, B)?;
    move_set(a, A, b)?;
    up([b])?;
    assert_is(b, A, B, None, client)?;
    ensure!(client.sh(&format!("timeout 20 wget -qO- http://{PRI_ADDRESS}/"))? == "written just before");
    assert_snapshots(b, "FIG 18 top", &["PRI 2: Env1 Env2", "SEC1 1: Env1", "SEC2 3: Env1 Env2 Env3"])?;
    step(b, "create")?;
    assert_snapshots(b, "FIG 18", &["PRI 1: Env1", "SEC1 1: Env1", "SEC2 3: Env1 Env2 Env3"])?;
    step(b, "send")?;
    assert_snapshots(c, "FIG 19", &["PRI 1: Env1", "SEC2 3: Env1 Env2 Env3"])?;
    step(c, "newer")?;
    step(c, "install")?;
    assert_snapshots(c, "FIG 20", &["PRI 3: Env1 Env2 Env3", "SEC2 3: Env1 Env2 Env3"])?;
    step(c, "create")?;
    assert_snapshots(c, "FIG 21", &["PRI 3: Env1 Env2 Env3", "SEC2 3: Env1 Env2 Env3"])?;
    let report = synced(b, &["SEC2"])?;
    assert_outcomes(&report, &[("SEC1", "unreachable")])?;
    assert_snapshots(b, "FIG 23", &["PRI 1: Env1", "SEC1 1: Env1", "SEC2 3: Env1 Env2 Env3"])?;
    assert_snapshots(c, "FIG 23", &["PRI 3: Env1 Env2 Env3", "SEC2 3: Env1 Env2 Env3"])?;
    ensure!(c.sh("curl -s http://localhost:8080/")? == "cakes", "SEC2 lost its site");
    Ok(of_sec1)
}

/// A is repaired, and comes back as SEC1 [237-262].
fn figures_24_to_31([a, b, c]: &mut [Server; 3], of_sec1: Vec<Disk>, client: &Server) -> Result<()> {
    of_sec1.into_iter().try_for_each(|disk| a.insert(disk))?;
    up([a])?;
    assert_is(a, B, A, Some(1), client)?;
    assert_snapshots(a, "FIG 24", &["PRI 2: Env1 Env2", "SEC1 2: Env1 Env2"])?;
    b.sh("sed -i s/cakes/tarts/ /etc/nginx/conf.d/cakes.conf && systemctl reload nginx")?;
    step(b, "create")?;
    step(b, "send")?;
    assert_snapshots(a, "FIG 25", &["PRI 1: Env1", "SEC1 2: Env1 Env2"])?;
    assert_snapshots(c, "FIG 25", &["PRI 1: Env1", "SEC2 3: Env1 Env2 Env3"])?;
    let is_as_in = |figure: &str| {
        assert_snapshots(a, figure, &["PRI 2: Env1 Env2", "SEC1 2: Env1 Env2"])?;
        assert_snapshots(c, figure, &["PRI 3: Env1 Env2 Env3", "SEC2 3: Env1 Env2 Env3"])
    };
    for (command, figure) in [("newer", "FIG 26"), ("install", "FIG 27"), ("create", "FIG 29")] {
        for server in [&*a, c] {
            step(server, command)?;
            ensure!(
                (server.sh("curl -s http://localhost:8080/")? == "tarts") == (command != "newer"),
                "{figure}: {} serves what it should not yet, or no longer",
                server.name()
            );
        }
        is_as_in(figure)?;
    }
    synced(b, &["SEC1", "SEC2"])?;
    is_as_in("FIG 31")?;
    assert_snapshots(b, "FIG 31", &["PRI 1: Env1", "SEC1 2: Env1 Env2", "SEC2 3: Env1 Env2 Env3"])?;
    for server in [&*a, &*c] {
        ensure!(server.sh("curl -s http://localhost:8080/")? == "tarts", "no tarts from {}", server.name());
    }
    Ok(())
}

/// B and C swap Roles: C is PRI, B is SEC2 [263-269].
fn figures_32_and_33([a, b, c]: &mut [Server; 3], client: &Server) -> Result<()> {
    down([b, c])?;
    let of_sec2 = take_out(c, C)?;
    move_set(b, A, c)?;
    of_sec2.into_iter().try_for_each(|disk| b.insert(disk))?;
    up([b, c])?;
    assert_is(b, C, B, None, client)?;
    assert_is(c, A, C, Some(1), client)?;
    assert_snapshots(c, "FIG 33", &["PRI 3: Env1 Env2 Env3", "SEC1 2: Env1 Env2", "SEC2 3: Env1 Env2 Env3"])?;
    synced(c, &["SEC1", "SEC2"])?;
    assert_snapshots(c, "after FIG 33", &["PRI 3: Env1 Env2 Env3", "SEC1 2: Env1 Env2", "SEC2 1: Env1"])?;
    assert_snapshots(a, "after FIG 33", &["PRI 3: Env1 Env2 Env3", "SEC1 2: Env1 Env2"])?;
    assert_snapshots(b, "after FIG 33", &["PRI 3: Env1 Env2 Env3", "SEC2 1: Env1"])?;
    ensure!(client.sh(&format!("timeout 20 wget -qO- http://{PRI_ADDRESS}/"))? != PAGE, "an old page");
    for server in [a, b, c] {
        ensure!(server.sh("curl -s http://localhost:8080/")? == "tarts", "no tarts from {}", server.name());
        ensure!(server.sh("id baker")?.starts_with("uid=4711(baker)"), "no baker on {}", server.name());
    }
    Ok(())
}
