//! Servers whose root file system lies on LVM or btrfs: set up, and booted into their role, as on a plain disk.
//!
//! ```text
//! workbench: the root of the image ─► onto what is to hold it, its initramfs made there     (an initramfs of its own, by Debian's hooks)
//! boot ─ atlas init ─ Snapshot ─ another name in /etc/hostname ─ off
//! boot ─ PRI, its name back, the gate open
//! ```

use std::path::PathBuf;

use anyhow::{Context as _, Result, ensure};
use atlas_image::{KERNEL_ARGUMENTS, Options, ServerImage};
use serde_json::Value;

use super::bench::workbench_on;
use super::cast::{LEFT, MEMBER_MIB};
use crate::{Boot, Context, Disk, Server, secs};

/// Size of each disk below a root, in MiB: more than the image's.
const BOUND_MIB: u64 = 2300;

/// What a root file system lies on.
struct Root {
    /// The serial numbers of its disks, at most two.
    disks: &'static [&'static str],
    /// Makes it of /dev/vdb and /dev/vdc, copies the image's root onto it, and leaves that mounted at /mnt/new.
    make: &'static str,
    /// Lets go of it.
    let_go: &'static str,
    /// How the kernel's command line names it.
    names: &'static str,
}

const LVM_ON_MD: Root = Root {
    disks: &["BOUND-0", "BOUND-1"],
    make: "mdadm --create /dev/md8 --run --level=1 --raid-devices=2 --metadata=1.2 --homehost=any --name=bound --assume-clean /dev/vdb /dev/vdc
vgcreate -q -A n bound /dev/md8; lvcreate -y -A n -Z n -W n -n root -l 100%FREE bound; udevadm settle
dd if=/dev/vda of=/dev/bound/root bs=4M conv=sparse status=none
mount /dev/bound/root /mnt/new
echo '/dev/mapper/bound-root / ext4 errors=remount-ro 0 1' > /mnt/new/etc/fstab
mdadm --detail --scan >> /mnt/new/etc/mdadm/mdadm.conf",
    let_go: "vgchange -q -A n -a n bound; mdadm --stop /dev/md8",
    names: "root=/dev/mapper/bound-root",
};

const BTRFS: Root = Root {
    disks: &["BOUND-0"],
    make: "mkfs.btrfs -q -L BOUND /dev/vdb
mount -t btrfs /dev/vdb /mnt/new; btrfs subvolume create /mnt/new/@rootfs; umount /mnt/new
mount -t btrfs -o subvol=@rootfs /dev/vdb /mnt/new
cp -ax /. /mnt/new
echo 'LABEL=BOUND / btrfs subvol=@rootfs 0 0' > /mnt/new/etc/fstab",
    let_go: "",
    names: "root=LABEL=BOUND rootflags=subvol=@rootfs",
};

/// The last disk of the workbench: what is to be taken out of the guest lies on it.
const SHELF: &str = "SHELF";

fn image() -> Result<ServerImage> {
    atlas_image::server_image(&Options::new(&|_| ())?.with("roots"))
}

/// Makes the root; gives its disks, and the initramfs that boots from it.
fn make(ctx: &Context, image: &ServerImage, root: &Root) -> Result<(Vec<Disk>, PathBuf)> {
    let mut disks = root.disks.iter().map(|serial| ctx.blank_disk(serial, BOUND_MIB)).collect::<Result<Vec<_>>>()?;
    disks.push(ctx.blank_disk(SHELF, 64)?);
    let commands = format!(
        "/lib/systemd/systemd-udevd --daemon; udevadm trigger; udevadm settle
mkdir /mnt/new /mnt/shelf
{}
for place in proc sys dev; do mount --rbind /$place /mnt/new/$place; done
chroot /mnt/new update-initramfs -u
mkfs.ext4 -q /dev/vd{shelf}; mount /dev/vd{shelf} /mnt/shelf; cp /mnt/new/boot/initrd.img-* /mnt/shelf/initrd
umount /mnt/shelf; umount -R /mnt/new/proc /mnt/new/sys /mnt/new/dev; umount /mnt/new
{}",
        root.make,
        root.let_go,
        shelf = if root.disks.len() == 1 { 'c' } else { 'd' },
    );
    let (mut disks, _) = workbench_on(ctx, image, "bench", disks, &commands, secs(400))?;
    let shelf = disks.pop().context("the workbench lost a disk")?;
    let initrd = shelf.take_file("/initrd", &ctx.scratch().join("first-initrd"))?;
    Ok((disks, initrd))
}

fn report(server: &Server) -> Result<Value> {
    Ok(serde_json::from_slice(&server.read_file("/run/atlas/boot.json")?)?)
}

/// A path of the identity on another file system is refused by `atlas init` and at Create, with the reason, and nothing is done.
fn assert_elsewhere_is_refused(server: &Server, command: &str) -> Result<()> {
    server.sh("mkdir -p /run/other; cp -a /etc/ssh/. /run/other; mount --bind /run/other /etc/ssh")?;
    let said = server.exec(command, secs(120))?;
    server.sh("umount /etc/ssh")?;
    let text = said.text() + &said.error_text();
    ensure!(said.code != 0 && text.contains("another file system is mounted at /etc/ssh"), "`{command}`: {text}");
    Ok(())
}

fn boots_into_its_role(ctx: &Context, root: &Root) -> Result<()> {
    let image = image()?;
    let (disks, initrd) = make(ctx, &image, root)?;
    let append = KERNEL_ARGUMENTS.replace("root=LABEL=ATLAS-ROOT", root.names);
    ensure!(append.contains(root.names), "the kernel's arguments name no root: {append}");
    let mut builder = ctx.server("left", Boot::Kernel { kernel: image.kernel.clone(), initrd, append })?;
    for disk in disks {
        builder = builder.disk(disk);
    }
    for serial in LEFT.members() {
        builder = builder.disk(ctx.blank_disk(&serial, MEMBER_MIB)?);
    }
    let mut server = builder.build();
    server.start()?;
    server.wait_booted(secs(240))?;
    for file in LEFT.own_files() {
        server.write_file(&file.path, &file.content)?;
    }
    server.sh("hostname -F /etc/hostname")?;
    let set_up = match root.disks.len() {
        1 => LEFT.set_up(),
        _ => LEFT.set_up().replace("/dev/vdb,/dev/vdc", "/dev/vdc,/dev/vdd"),
    };
    assert_elsewhere_is_refused(&server, &set_up)?;
    let said = server.exec(&set_up, secs(600))?;
    ensure!(said.code == 0, "`{set_up}` fails: {}\n{}", said.text(), said.error_text());
    assert_elsewhere_is_refused(&server, "ssSync create")?;
    server.sh("ssSync create; echo nobody > /etc/hostname; sync")?;
    let made = server.read_file(&format!("/boot/initrd.img-{}", image.kernel_release))?;
    server.shutdown(secs(120))?;
    let with_mark = ctx.scratch().join("second-initrd");
    std::fs::write(&with_mark, made)?;
    if let Boot::Kernel { initrd, .. } = &mut server.boot {
        *initrd = with_mark;
    }

    server.start()?;
    server.wait_booted(secs(240))?;
    let report = report(&server)?;
    ensure!(report["outcome"] == "identity-installed" && report["role"] == "PRI", "{report:#}");
    ensure!(report["warnings"] == serde_json::json!([]), "{report:#}");
    ensure!(server.sh("hostname; cat /etc/hostname")? == "pri\npri", "it does not have its role's name");
    server.sh("test -e /run/atlas/network-allowed && findmnt -n -o OPTIONS /unbound | grep -q '^rw'")?;
    server.assert_healthy()?;
    server.shutdown(secs(120))
}

pub(crate) fn lvm_on_md(ctx: &Context) -> Result<()> {
    boots_into_its_role(ctx, &LVM_ON_MD)
}

pub(crate) fn btrfs(ctx: &Context) -> Result<()> {
    boots_into_its_role(ctx, &BTRFS)
}
