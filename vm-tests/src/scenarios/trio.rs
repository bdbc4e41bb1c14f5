//! One cluster on three releases of Debian, as in the seeds' scenarios [216-269]: each server set up by `atlas init` as an operator would,
//! all knowing each other's keys, each with a Snapshot, shut down in order. Made once for an image and kept.
//!
//! ```text
//! server   runs        EnvID   root disk   Unbound set      hostname   address        network by
//! a        Debian 12   2       a-root      PRI-0, PRI-1     pri        192.168.77.1   ifupdown
//! b        Debian 11   1       b-root      SEC1-0, SEC1-1   sec1       192.168.77.2   ifupdown
//! c        Debian 13   3       c-root      SEC2-0, SEC2-1   sec2       192.168.77.3   systemd-networkd
//! ```

use std::path::Path;
use std::sync::Mutex;

use anyhow::{Context as _, Result, ensure};
use atlas_image::{Options, PlacedFile, Release, place_files};

use super::cast::{Cast, MEMBER_MIB, PAGE, PRI_ADDRESS, Part, SEC_ADDRESS, keep_initrd};
use crate::{Context, Lan, Server, cache, lock, secs};

/// SEC2's address on the business network.
const SEC2_ADDRESS: &str = "192.168.77.3";

/// Server A of the seeds, PRI at the beginning.
pub(super) const A: Part = Part {
    place: "a",
    release: Release::Bookworm,
    env_version: 2,
    role: "PRI",
    partners: &[("SEC1", SEC_ADDRESS), ("SEC2", SEC2_ADDRESS)],
    set: "PRI",
    hostname: "pri",
    address: PRI_ADDRESS,
};
/// Server B, SEC1 at the beginning.
pub(super) const B: Part = Part {
    place: "b",
    release: Release::Bullseye,
    env_version: 1,
    role: "SEC1",
    partners: &[("PRI", PRI_ADDRESS)],
    set: "SEC1",
    hostname: "sec1",
    address: SEC_ADDRESS,
};
/// Server C, SEC2 at the beginning.
pub(super) const C: Part = Part {
    place: "c",
    release: Release::Trixie,
    env_version: 3,
    role: "SEC2",
    partners: &[("PRI", PRI_ADDRESS)],
    set: "SEC2",
    hostname: "sec2",
    address: SEC2_ADDRESS,
};
const PARTS: [Part; 3] = [A, B, C];

/// What PRI synchronizes: a web service, exports, accounts, and files of the site's own.
const SYNC_PATHS: [&str; 7] =
    ["/etc/nginx/conf.d", "/etc/exports", "/etc/passwd", "/etc/group", "/etc/shadow", "/etc/gshadow", "/etc/bakery"];

/// The three servers, off: for each what it runs, and the disks.
#[derive(Debug, Clone)]
pub(super) struct Trio([Cast; 3]);

impl Trio {
    /// The trio of today's images; made where there is none yet.
    pub(super) fn get() -> Result<Trio> {
        static ONE: Mutex<Option<Trio>> = Mutex::new(None);
        let mut one = lock(&ONE);
        if let Some(trio) = one.as_ref() {
            return Ok(trio.clone());
        }
        let images = PARTS.map(|part| atlas_image::server_image(&Options::new(&|_| ())?.on(part.release)));
        let [a, b, c] = images;
        let images = [a?, b?, c?];
        let keys: Vec<_> = images
            .iter()
            .filter_map(|image| image.root.parent()?.file_name()?.to_str()?.rsplit('-').next().map(str::to_owned))
            .collect();
        let casts = images.map(|image| Cast { image, folder: std::path::PathBuf::new() });
        let folder = cache::made_once(&format!("trio-3-{}", keys.join("-")), |folder| make(&casts, folder))?;
        Ok(one.insert(Trio(casts.map(|cast| Cast { folder: folder.clone(), ..cast }))).clone())
    }

    /// A, B and C with copies of all their disks, on `lan`, off.
    pub(super) fn servers(&self, ctx: &Context, lan: &Lan) -> Result<[Server; 3]> {
        let [a, b, c] = &self.0;
        Ok([a.server(ctx, A, lan)?, b.server(ctx, B, lan)?, c.server(ctx, C, lan)?])
    }
}

/// What a server knows of what went wrong, for a person who was not there.
const DIAGNOSIS: &str = "exec 2>&1; date; for file in /run/atlas/*.json; do echo \"== $file\"; cat $file; echo; done; df; \
    cd /unbound/SID_DATA && ls -la . PRI SEC* keys; tail -n 200 /var/log/atlas/*; journalctl -b --no-pager -n 400";

/// Acts a story out. Where it fails, `SERVER.diagnosis.txt` beside the consoles has what each server that is on then knows of it.
pub(super) fn acted(
    ctx: &Context,
    mut servers: [Server; 3],
    story: impl FnOnce(&mut [Server; 3]) -> Result<()>,
) -> Result<()> {
    let told = story(&mut servers);
    if told.is_err() {
        for server in servers.iter().filter(|server| server.is_on()) {
            let text = match server.exec(DIAGNOSIS, secs(60)) {
                Ok(output) => output.text(),
                Err(error) => format!("{error:#}"),
            };
            std::fs::write(ctx.logs().join(format!("{}.diagnosis.txt", server.name())), text)?;
        }
    }
    told
}

/// Switches them on, all at once, and waits until each is up.
pub(super) fn up<const N: usize>(mut servers: [&mut Server; N]) -> Result<()> {
    servers.iter_mut().try_for_each(|server| server.start())?;
    servers.iter().try_for_each(|server| server.wait_booted(secs(400)))
}

/// Shuts them down in order, all at once.
pub(super) fn down<const N: usize>(servers: [&mut Server; N]) -> Result<()> {
    std::thread::scope(|scope| {
        let ending = servers.map(|server| scope.spawn(|| server.shutdown(secs(240))));
        ending.into_iter().try_for_each(|one| one.join().unwrap_or_else(|_| anyhow::bail!("a shutdown panicked")))
    })
}

/// Runs a command that must succeed and may take long; its standard output.
pub(super) fn long(server: &Server, command: &str) -> Result<String> {
    let output = server.exec(command, secs(400))?;
    ensure!(
        output.code == 0,
        "`{command}` on {} exits with {}: {}\n{}",
        server.name(),
        output.code,
        output.text(),
        output.error_text()
    );
    Ok(output.text())
}

/// How a release's own tools say what a server's address is.
fn network(part: Part) -> PlacedFile {
    match part.release {
        Release::Trixie => PlacedFile::new(
            // The name by which the converter of Env3 knows what it may turn into a stanza of ifupdown.
            "/etc/systemd/network/50-ifupdown-eth0.network",
            format!("[Match]\nName=eth0\n\n[Network]\nAddress={}/24\n", part.address),
        ),
        Release::Bullseye | Release::Bookworm => PlacedFile::new(
            "/etc/network/interfaces",
            format!(
                "auto lo\niface lo inet loopback\n\nauto eth0\niface eth0 inet static\n    address {}/24\n",
                part.address
            ),
        ),
    }
}

/// Sets all three up at once, and keeps their disks in `folder`.
fn make(casts: &[Cast; 3], folder: &Path) -> Result<()> {
    let ctx = Context::new("cast-trio", &std::env::temp_dir().join("atlas-cast-trio"))?;
    // Without a card, ifupdown fails.
    let lan = ctx.lan("office")?;
    let mut servers = Vec::new();
    for (part, cast) in PARTS.iter().zip(casts) {
        let mut builder = ctx.debian(part.place, &cast.image, "")?.nic(&lan)?;
        for serial in part.members() {
            builder = builder.disk(ctx.blank_disk(&serial, MEMBER_MIB)?);
        }
        let mut server = builder.build();
        let hostname = PlacedFile::new("/etc/hostname", format!("{}\n", part.hostname));
        place_files(server.disk(&part.root_serial())?.path(), &[hostname, network(*part)])?;
        server.start()?;
        servers.push(server);
    }
    for (part, server) in PARTS.iter().zip(&servers) {
        server.wait_booted(secs(400))?;
        set_up(*part, server).with_context(|| format!("setting {} up", part.role))?;
    }
    acquaint(&servers)?;
    for server in &mut servers {
        long(server, "ssSync create && sync")?;
        server.shutdown(secs(240))?;
    }
    ctx.finish()?;
    for ((part, cast), server) in PARTS.iter().zip(casts).zip(&mut servers) {
        for serial in [vec![part.root_serial()], part.members().to_vec()].concat() {
            drop(server.remove(&serial)?.copy(&folder.join(&serial), &serial)?);
        }
        keep_initrd(&cast.image, *part, folder)?;
    }
    Ok(())
}

/// What an operator does on one server.
fn set_up(part: Part, server: &Server) -> Result<()> {
    server.sh("rm -f /etc/systemd/network/10-lan.network /etc/ssh/ssh_host_*; ssh-keygen -q -t ed25519 -N '' -f /etc/ssh/ssh_host_ed25519_key")?;
    let mut init = part.set_up();
    if part.role == "PRI" {
        init.extend(SYNC_PATHS.iter().map(|path| format!(" --sync-path {path}")));
    }
    long(server, &init)?;
    if part.role == "PRI" {
        server.sh(&format!("mkdir -p /unbound/www && echo \"{PAGE}\" > /unbound/www/index.html"))?;
    }
    Ok(())
}

/// Every server learns its partners' keys; what an operator carries from one console to the other.
fn acquaint(servers: &[Server]) -> Result<()> {
    let keys = servers.iter().map(|server| server.sh("ssSync keys")).collect::<Result<Vec<_>>>()?;
    for (part, server) in PARTS.iter().zip(servers) {
        for (role, _) in part.partners {
            let of = PARTS.iter().position(|other| other.role == *role).context("a partner that nobody is")?;
            server.sh(&format!("ssSync trust {role} '{}'", keys[of].trim()))?;
        }
    }
    Ok(())
}
