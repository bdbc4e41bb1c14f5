//! The servers that most scenarios begin with: PRI and SEC1 of one cluster, set up by `atlas init` as an operator would, each with
//! a Snapshot, shut down in order. Made once for an image and kept; every scenario gets copies.
//!
//! ```text
//! server   root disk   Unbound set      hostname   address        serves
//! left     left-root   PRI-0, PRI-1     pri        192.168.77.1   "the bakery's page"
//! right    right-root  SEC-0, SEC-1     sec1       192.168.77.2   nothing
//! ```

use std::path::PathBuf;
use std::sync::Mutex;

use anyhow::{Context as _, Result};
use atlas_image::{KERNEL_ARGUMENTS, PlacedFile, Release, ServerImage, place_files};

use super::bench::IDENTITY;
use crate::{Boot, Context, Disk, Lan, Server, ServerBuilder, cache, lock, secs};

/// PRI's address on the business network.
pub(crate) const PRI_ADDRESS: &str = "192.168.77.1";
/// SEC1's.
pub(crate) const SEC_ADDRESS: &str = "192.168.77.2";
/// What PRI serves.
pub(crate) const PAGE: &str = "the bakery's page";
/// Size of each member of a set.
pub(super) const MEMBER_MIB: u64 = 96;

/// One server of the cast.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Part {
    /// Where it stands; prefix of its root disk's serial number.
    pub(crate) place: &'static str,
    /// What it runs on.
    pub(super) release: Release,
    /// Its EnvID.
    pub(super) env_version: u32,
    /// Its Role at the beginning.
    pub(crate) role: &'static str,
    /// Its partners' Roles, and addresses.
    pub(super) partners: &'static [(&'static str, &'static str)],
    /// Prefix of the serial numbers of its members.
    pub(crate) set: &'static str,
    pub(crate) hostname: &'static str,
    pub(crate) address: &'static str,
}

/// The one that begins as PRI.
pub(crate) const LEFT: Part = Part {
    place: "left",
    release: Release::Bookworm,
    env_version: 1,
    role: "PRI",
    partners: &[("SEC1", SEC_ADDRESS)],
    set: "PRI",
    hostname: "pri",
    address: PRI_ADDRESS,
};
/// The one that begins as SEC1.
pub(crate) const RIGHT: Part = Part {
    place: "right",
    release: Release::Bookworm,
    env_version: 1,
    role: "SEC1",
    partners: &[("PRI", PRI_ADDRESS)],
    set: "SEC",
    hostname: "sec1",
    address: SEC_ADDRESS,
};

impl Part {
    pub(super) fn root_serial(self) -> String {
        format!("{}-root", self.place)
    }

    /// The serial numbers of its members.
    pub(crate) fn members(self) -> [String; 2] {
        [0, 1].map(|number| format!("{}-{number}", self.set))
    }

    fn identity_file(self) -> String {
        format!("{}-identity", self.place)
    }

    /// The initramfs that `atlas init` made on it.
    fn initrd_file(self) -> String {
        format!("{}-initrd", self.place)
    }

    pub(super) fn own_files(self) -> [PlacedFile; 2] {
        let network = format!(
            "[Match]\nType=ether\n\n[Network]\nAddress={}/24\nLinkLocalAddressing=no\nIPv6AcceptRA=no\n",
            self.address
        );
        [
            PlacedFile::new("/etc/hostname", format!("{}\n", self.hostname)),
            PlacedFile::new("/etc/systemd/network/10-lan.network", network),
        ]
    }

    /// What an operator types on the new server: the whole of setting it up.
    pub(crate) fn set_up(self) -> String {
        let partners: String = self.partners.iter().map(|(role, host)| format!(" --partner {role}={host}")).collect();
        format!(
            "atlas init --role {} --cluster bakery --env-version {}{partners} --disks /dev/vdb,/dev/vdc",
            self.role, self.env_version
        )
    }
}

/// The servers, off, and the image that they were made from.
#[derive(Debug, Clone)]
pub(crate) struct Cast {
    /// What they run.
    pub(crate) image: ServerImage,
    /// Its disks, by their serial numbers.
    pub(super) folder: PathBuf,
}

impl Cast {
    /// The cast of today's image; made where there is none yet.
    pub(crate) fn get() -> Result<Cast> {
        // One at a time, so that two scenarios that begin together do not both build the programs.
        static ONE: Mutex<Option<Cast>> = Mutex::new(None);
        let mut one = lock(&ONE);
        if let Some(cast) = one.as_ref() {
            return Ok(cast.clone());
        }
        let image = atlas_image::server_image(&atlas_image::Options::new(&|_| ())?)?;
        let made_from =
            image.root.parent().and_then(|folder| folder.file_name()).context("an image without a folder")?;
        let name = format!("cast-4-{}", made_from.to_string_lossy());
        let folder = cache::made_once(&name, |folder| make(&image, folder))?;
        Ok(one.insert(Cast { image, folder }).clone())
    }

    /// A copy of a disk, by its serial number.
    pub(crate) fn disk(&self, ctx: &Context, serial: &str) -> Result<Disk> {
        ctx.copy_disk(serial, &self.folder.join(serial))
    }

    /// Copies of the two members of a set.
    pub(crate) fn members(&self, ctx: &Context, part: Part) -> Result<Vec<Disk>> {
        part.members().iter().map(|serial| self.disk(ctx, serial)).collect()
    }

    /// The digests of the identity files on a server's root disk, as [`IDENTITY`] prints them.
    pub(crate) fn identity(&self, part: Part) -> Result<String> {
        let file = self.folder.join(part.identity_file());
        std::fs::read_to_string(&file).with_context(|| format!("reading {}", file.display()))
    }

    /// A server with a copy of its root disk and without any Unbound disk; `append` goes behind the kernel's arguments.
    pub(crate) fn bare(&self, ctx: &Context, part: Part, append: &str) -> Result<ServerBuilder> {
        Ok(self.without_root(ctx, part, append)?.disk(self.disk(ctx, &part.root_serial())?))
    }

    /// As [`Cast::bare`], without its root disk.
    pub(crate) fn without_root(&self, ctx: &Context, part: Part, append: &str) -> Result<ServerBuilder> {
        let append = format!("{KERNEL_ARGUMENTS} {append}").trim_end().to_owned();
        let initrd = self.folder.join(part.initrd_file());
        let boot = Boot::Kernel { kernel: self.image.kernel.clone(), initrd, append };
        ctx.server(part.place, boot)
    }

    /// A server without any disk, that boots as PRI's does.
    pub(super) fn chassis(&self, ctx: &Context, name: &str) -> Result<ServerBuilder> {
        let initrd = self.folder.join(LEFT.initrd_file());
        ctx.server(
            name,
            Boot::Kernel { kernel: self.image.kernel.clone(), initrd, append: KERNEL_ARGUMENTS.to_owned() },
        )
    }

    /// A whole server with copies of all its disks, on `lan`.
    pub(crate) fn server(&self, ctx: &Context, part: Part, lan: &Lan) -> Result<Server> {
        let mut builder = self.bare(ctx, part, "")?.nic(lan)?;
        for member in self.members(ctx, part)? {
            builder = builder.disk(member);
        }
        Ok(builder.build())
    }
}

/// Sets both servers up, side by side, and keeps their disks in `folder`.
fn make(image: &ServerImage, folder: &std::path::Path) -> Result<()> {
    std::thread::scope(|scope| {
        let left = scope.spawn(|| make_one(image, LEFT, folder));
        let right = scope.spawn(|| make_one(image, RIGHT, folder));
        let joined = |result: std::thread::Result<Result<()>>| result.unwrap_or_else(|_| anyhow::bail!("it panicked"));
        joined(left.join()).context("setting PRI up")?;
        joined(right.join()).context("setting SEC1 up")
    })
}

fn make_one(image: &ServerImage, part: Part, folder: &std::path::Path) -> Result<()> {
    let ctx = Context::new(
        &format!("cast-{}", part.place),
        &std::env::temp_dir().join(format!("atlas-cast-{}", part.place)),
    )?;
    let mut builder = ctx.debian(part.place, image, "")?;
    for serial in part.members() {
        builder = builder.disk(ctx.blank_disk(&serial, MEMBER_MIB)?);
    }
    let mut server = builder.build();
    place_files(server.disk(&part.root_serial())?.path(), &part.own_files())?;
    server.start()?;
    server.wait_booted(secs(180))?;
    let said = server.exec(&part.set_up(), secs(600))?;
    anyhow::ensure!(said.code == 0, "`{}` fails: {}\n{}", part.set_up(), said.text(), said.error_text());
    if part.role == "PRI" {
        server.sh(&format!("mkdir -p /unbound/www && echo \"{PAGE}\" > /unbound/www/index.html"))?;
    }
    server.sh("rm -f /etc/ssh/ssh_host_*; ssh-keygen -q -t ed25519 -N '' -f /etc/ssh/ssh_host_ed25519_key")?;
    server.sh("ssSync create && sync")?;
    std::fs::write(folder.join(part.identity_file()), server.sh(IDENTITY)?)?;
    server.shutdown(secs(120))?;
    ctx.finish()?;
    for serial in [vec![part.root_serial()], part.members().to_vec()].concat() {
        let disk = server.remove(&serial)?;
        drop(disk.copy(&folder.join(&serial), &serial)?);
    }
    keep_initrd(image, part, folder)
}

/// Keeps the initramfs that `atlas init` made on a server whose disks are in `folder`.
pub(super) fn keep_initrd(image: &ServerImage, part: Part, folder: &std::path::Path) -> Result<()> {
    let serial = part.root_serial();
    let made = format!("/boot/initrd.img-{}", image.kernel_release);
    Disk::open(&folder.join(&serial), &serial)?.take_file(&made, &folder.join(part.initrd_file())).map(drop)
}
