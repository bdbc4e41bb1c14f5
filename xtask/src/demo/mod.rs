//! `cargo xtask demo`: a failover that one can watch.
//!
//! ```text
//!          before                                          after
//!          left: PRI         right: SEC1                   left: off         right: PRI
//!         ┌─────────────┐   ┌─────────────┐               ┌─────────────┐   ┌─────────────┐
//!    root │  left-root  │   │  right-root │               │  left-root  │   │  right-root │
//!   front │ PRI-0 PRI-1 │   │ SEC-0 SEC-1 │               │             │   │ PRI-0 PRI-1 │
//!         └─────────────┘   └─────────────┘               └─────────────┘   └─────────────┘
//! ```
//!
//! A third machine on the LAN looks at it all from outside.

mod story;

use std::thread;

use anyhow::{Context as _, Result, bail, ensure};
use atlas_image::{Options, PlacedFile, ServerImage, place_files};
use atlas_vm_tests::{Context, Lan, Server, secs};
use story::Story;

use crate::{image, process, setup};

#[derive(clap::Args)]
pub(crate) struct Arguments {}

/// A Role in the demo: what is on its front disks, and what is who it is.
#[derive(Clone, Copy)]
struct Cast {
    role: &'static str,
    hostname: &'static str,
    address: &'static str,
    partner: &'static str,
    disks: [&'static str; 2],
}

const PRI: Cast = Cast {
    role: "PRI",
    hostname: "pri",
    address: "192.168.77.1",
    partner: "SEC1=192.168.77.2",
    disks: ["PRI-0", "PRI-1"],
};
const SEC1: Cast = Cast {
    role: "SEC1",
    hostname: "sec1",
    address: "192.168.77.2",
    partner: "PRI=192.168.77.1",
    disks: ["SEC-0", "SEC-1"],
};
const VISITOR: &str = "192.168.77.9/24";

const FIRST_PAGE: &str = "written when PRI was new";
const LAST_PAGE: &str = "written just before the shutdown";

/// Size of a front disk.
const DISK_MIB: u64 = 128;

/// Returns whether the failover did what it should.
pub(crate) fn run(_arguments: &Arguments) -> Result<bool> {
    setup::run()?;
    let mut story = Story::begin();
    let image = story.timed("the servers' disks are made: Debian 12 with the package atlas", || {
        atlas_image::server_image(&Options::new(&image::say)?)
    })?;
    let context = Context::new("demo", &process::repository().join("target/demo"))?;
    play(&mut story, &context, &image)
        .inspect_err(|_| println!("\nfailover: FAILED: it broke off"))
        .with_context(|| format!("the demo broke off; the servers' consoles are in {}", context.logs().display()))?;
    Ok(story.end())
}

fn play(story: &mut Story, context: &Context, image: &ServerImage) -> Result<()> {
    let lan = context.lan("lan")?;
    let mut left = new_server(context, image, "left", PRI, &lan)?;
    let mut right = new_server(context, image, "right", SEC1, &lan)?;
    let visitor = context.client("visitor", &lan, VISITOR)?;

    story.timed("left and right boot for the first time, as Debian servers like any other", || {
        both(&mut left, &mut right, up)
    })?;
    story.timed("on each, the operator runs `atlas init`, and `ssSync create` takes the first Snapshot", || {
        thread::scope(|scope| {
            let setting_up = scope.spawn(|| make_member(&left, PRI));
            make_member(&right, SEC1)?;
            setting_up.join().unwrap_or_else(|_| bail!("setting PRI up panicked"))
        })
    })?;
    write_page(&left, FIRST_PAGE)?;
    story.timed("both are shut down and boot again, now by what is on their front disks", || {
        both(&mut left, &mut right, |server| server.shutdown(secs(120)).and_then(|()| up(server)))
    })?;
    story.chapter("before the failover");
    check_role(story, "left", &left, PRI)?;
    check_role(story, "right", &right, SEC1)?;
    story.check("the page, as a visitor sees it", &page(&visitor)?, FIRST_PAGE);
    let key = host_key(&left)?;

    write_page(&left, LAST_PAGE)?;
    story.timed("the failover: both are shut down, PRI's two disks move to right, right boots", || {
        both(&mut left, &mut right, |server| server.shutdown(secs(120)))?;
        for serial in SEC1.disks {
            drop(right.remove(serial)?);
        }
        for serial in PRI.disks {
            right.insert(left.remove(serial)?)?;
        }
        lan.forget("right")?;
        up(&mut right)
    })?;
    story.chapter("after the failover");
    check_role(story, "right", &right, PRI)?;
    story.check("right's ssh host key is the one that left had", &host_key(&right)?, &key);
    forget_neighbours(&visitor)?;
    story.check("the page, as a visitor sees it", &page(&visitor)?, LAST_PAGE);
    let claims: Vec<String> = lan.sent("right")?.arp_claims.iter().map(ToString::to_string).collect();
    story.check("the only address that right announced on the LAN", &claims.join(" "), PRI.address);
    right.shutdown(secs(120))?;
    context.finish()
}

/// A server as it comes from the installation: a name and an address of its own, and two empty disks in front.
fn new_server(context: &Context, image: &ServerImage, name: &str, cast: Cast, lan: &Lan) -> Result<Server> {
    let mut builder = context.debian(name, image, "")?.nic(lan)?;
    for serial in cast.disks {
        builder = builder.disk(context.blank_disk(serial, DISK_MIB)?);
    }
    let mut server = builder.build();
    let network = format!(
        "[Match]\nType=ether\n\n[Network]\nAddress={}/24\nLinkLocalAddressing=no\nIPv6AcceptRA=no\n",
        cast.address
    );
    let files = [
        PlacedFile::new("/etc/hostname", format!("{}\n", cast.hostname)),
        PlacedFile::new("/etc/systemd/network/10-lan.network", network),
    ];
    place_files(server.disk(&format!("{name}-root"))?.path(), &files)?;
    Ok(server)
}

/// The same with both servers, at once.
fn both(left: &mut Server, right: &mut Server, act: impl Fn(&mut Server) -> Result<()> + Sync) -> Result<()> {
    thread::scope(|scope| {
        let left = scope.spawn(|| act(left));
        act(right)?;
        left.join().unwrap_or_else(|_| bail!("what was done to the left server panicked"))
    })
}

fn up(server: &mut Server) -> Result<()> {
    server.start()?;
    server.wait_booted(secs(240))
}

/// What an operator types, once on each server. The image's ssh host keys are the same on all that are made of it.
fn make_member(server: &Server, cast: Cast) -> Result<()> {
    let Cast { role, partner, .. } = cast;
    let commands = format!(
        "set -e\n\
         rm -f /etc/ssh/ssh_host_*\n\
         ssh-keygen -q -t ed25519 -N '' -f /etc/ssh/ssh_host_ed25519_key\n\
         atlas init --role {role} --cluster demo --env-version 1 --partner {partner} --disks /dev/vdb,/dev/vdc\n\
         ssSync create\n\
         sync"
    );
    let said = server.exec(&commands, secs(300))?;
    ensure!(said.code == 0, "`atlas init` on {} fails:\n{}\n{}", server.name(), said.text(), said.error_text());
    Ok(())
}

fn write_page(server: &Server, text: &str) -> Result<()> {
    server.sh(&format!("mkdir -p /unbound/www && echo '{text}' > /unbound/www/index.html")).map(drop)
}

/// Who the server is, as it says itself, inside.
fn check_role(story: &mut Story, place: &str, server: &Server, cast: Cast) -> Result<()> {
    let report: serde_json::Value = serde_json::from_slice(&server.read_file("/run/atlas/boot.json")?)?;
    let text = |pointer: &str| report.pointer(pointer).and_then(serde_json::Value::as_str).unwrap_or("nothing");
    story.check(&format!("{place} has its identity from the front disks"), text("/outcome"), "identity-installed");
    story.check(&format!("{place}'s role"), text("/role"), cast.role);
    story.check(&format!("{place}'s host name"), &server.sh("hostname")?, cast.hostname);
    let address = server.sh("ip -4 -o address show dev eth0 | awk '{print $4}'")?;
    story.check(&format!("{place}'s address"), &address, &format!("{}/24", cast.address));
    let page_lies_on = server.sh("findmnt --noheadings --output LABEL --target /unbound")?;
    story.check(&format!("{place} has the front disks at /unbound"), page_lies_on.trim(), "ATLAS-UNBOUND");
    server.assert_healthy()
}

/// What sshd offers, not what lies in a file.
fn host_key(server: &Server) -> Result<String> {
    server.sh("ssh-keyscan -t ed25519 127.0.0.1 2>/dev/null | cut -d' ' -f3")
}

fn page(visitor: &Server) -> Result<String> {
    visitor.sh(&format!("timeout 30 wget -qO- http://{}/", PRI.address))
}

/// A visitor who was there before would otherwise first ask at the old network card.
fn forget_neighbours(visitor: &Server) -> Result<()> {
    visitor.sh("ip neigh flush dev eth0").map(drop)
}
