//! Servers whose root file system lies on LVM, LUKS or btrfs, or with /usr and /var beside it: set up, and booted into their role, as on a plain
//! disk. One that is an overlay, and may forget whose identity it got, is refused.
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
use super::cast::{Cast, LEFT, MEMBER_MIB};
use crate::{Boot, Context, Disk, Server, secs};

/// Size of each disk below a root, in MiB: more than the image's.
const BOUND_MIB: u64 = 2300;

/// What a root file system lies on.
struct Root {
    /// The serial numbers of its disks.
    disks: &'static [&'static str],
    /// Makes it of /dev/vdb and those behind it, copies the image's root onto it, and leaves that mounted at /mnt/new.
    make: &'static str,
    /// Lets go of it.
    let_go: &'static str,
    /// How the kernel's command line names it.
    names: &'static str,
    /// Paths that do not lie on it, as identity.
    elsewhere: &'static [&'static str],
}

impl Root {
    /// The letter of the first disk behind its own, where /dev/vd`first` is the first of these.
    fn letter_behind(&self, first: u8) -> char {
        (b'a'..=b'z').map(char::from).nth(usize::from(first - b'a') + self.disks.len()).unwrap_or('z')
    }
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
    elsewhere: &[],
};

/// Key derivation costs nothing here, and the key lies in the initramfs: no one is there to type it.
const LUKS: Root = Root {
    disks: &["BOUND-0"],
    make: "head -c 64 /dev/urandom > /mnt/bound.key
cryptsetup luksFormat -q --type luks2 --pbkdf pbkdf2 --pbkdf-force-iterations 1000 --key-file /mnt/bound.key /dev/vdb
cryptsetup open --key-file /mnt/bound.key /dev/vdb bound
mkfs.ext4 -q /dev/mapper/bound; mount /dev/mapper/bound /mnt/new
cp -ax /. /mnt/new
mkdir -m 700 /mnt/new/etc/keys; cp /mnt/bound.key /mnt/new/etc/keys/bound.key
echo \"bound UUID=$(cryptsetup luksUUID /dev/vdb) /etc/keys/bound.key luks,initramfs\" > /mnt/new/etc/crypttab
echo 'KEYFILE_PATTERN=\"/etc/keys/*.key\"' >> /mnt/new/etc/cryptsetup-initramfs/conf-hook
echo UMASK=0077 > /mnt/new/etc/initramfs-tools/conf.d/keys
echo '/dev/mapper/bound / ext4 errors=remount-ro 0 1' > /mnt/new/etc/fstab",
    let_go: "cryptsetup close bound",
    names: "root=/dev/mapper/bound",
    elsewhere: &[],
};

const USR_AND_VAR: Root = Root {
    disks: &["BOUND-0", "BOUND-USR", "BOUND-VAR"],
    make: "mkfs.ext4 -q -L BOUND /dev/vdb; mkfs.ext4 -q -L BOUND-USR /dev/vdc; mkfs.ext4 -q -L BOUND-VAR /dev/vdd
mount /dev/vdb /mnt/new; mkdir /mnt/new/usr /mnt/new/var
mount /dev/vdc /mnt/new/usr; mount /dev/vdd /mnt/new/var
cp -ax /. /mnt/new
echo 'LABEL=BOUND / ext4 errors=remount-ro 0 1
LABEL=BOUND-USR /usr ext4 defaults 0 2
LABEL=BOUND-VAR /var ext4 defaults 0 2' > /mnt/new/etc/fstab",
    let_go: "",
    names: "root=LABEL=BOUND",
    elsewhere: &["/usr/local/etc/bakery", "/var/lib/bakery"],
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
    elsewhere: &[],
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
umount /mnt/shelf; umount -R /mnt/new/proc /mnt/new/sys /mnt/new/dev; umount -R /mnt/new
{}",
        root.make,
        root.let_go,
        shelf = root.letter_behind(b'b'),
    );
    let (mut disks, _) = workbench_on(ctx, image, "bench", disks, &commands, secs(900))?;
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
    let [one, other] = [root.letter_behind(b'a'), root.letter_behind(b'b')];
    let set_up = LEFT.set_up().replace("/dev/vdb,/dev/vdc", &format!("/dev/vd{one},/dev/vd{other}"));
    assert_elsewhere_is_refused(&server, &set_up)?;
    for path in root.elsewhere {
        let said = server.exec(&format!("{set_up} --ident-path {path}"), secs(120))?;
        let text = said.text() + &said.error_text();
        ensure!(said.code != 0 && text.contains("another file system is mounted at"), "--ident-path {path}: {text}");
    }
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

pub(crate) fn luks(ctx: &Context) -> Result<()> {
    boots_into_its_role(ctx, &LUKS)
}

pub(crate) fn usr_and_var(ctx: &Context) -> Result<()> {
    boots_into_its_role(ctx, &USR_AND_VAR)
}

/// Puts an overlay in memory over the root file system.
const PUT_OVER: &str = r#"put_over() {
	mkdir -p /run/over
	mount -t tmpfs over /run/over
	mkdir /run/over/upper /run/over/work /run/over/lower
	mount -o move "$rootmnt" /run/over/lower
	mount -t overlay -o lowerdir=/run/over/lower,upperdir=/run/over/upper,workdir=/run/over/work over "$rootmnt"
}
"#;

/// The overlay is there before atlas-boot runs with `boot=over`, as live systems mount theirs, and comes behind it with `over`, as overlayroot's does.
fn overlay_scripts() -> [(&'static str, String); 2] {
    let behind =
        "#!/bin/sh\ncase \"$1\" in\nprereqs)\n\techo\n\texit 0\n\t;;\nesac\ngrep -q ' over' /proc/cmdline || exit 0\n";
    [
        ("over", format!("{PUT_OVER}mountroot() {{\n\tlocal_mount_root\n\tput_over\n}}\n")),
        ("init-bottom/over", format!("{behind}{PUT_OVER}put_over\n")),
    ]
}

/// A PRI that was set up, and whose root is an overlay from then on: whenever that comes, it takes no role, and `atlas init` says why not.
pub(crate) fn overlay(ctx: &Context) -> Result<()> {
    let lan = ctx.lan("office")?;
    let mut server = Cast::get()?.server(ctx, LEFT, &lan)?;
    server.start()?;
    server.wait_booted(secs(240))?;
    for (name, script) in overlay_scripts() {
        let path = format!("/etc/initramfs-tools/scripts/{name}");
        server.write_file(&path, script.as_bytes())?;
        server.sh(&format!("chmod 755 {path}"))?;
    }
    let made = server.exec("echo overlay >> /etc/initramfs-tools/modules; update-initramfs -u && sync", secs(300))?;
    ensure!(made.code == 0, "update-initramfs: {}", made.error_text());
    let made = server.read_file(&format!("/boot/initrd.img-{}", Cast::get()?.image.kernel_release))?;
    server.shutdown(secs(120))?;
    let with_scripts = ctx.scratch().join("initrd-with-overlay");
    std::fs::write(&with_scripts, made)?;
    for append in ["boot=over", "over"] {
        if let Boot::Kernel { initrd, append: arguments, .. } = &mut server.boot {
            initrd.clone_from(&with_scripts);
            *arguments = format!("{KERNEL_ARGUMENTS} {append}");
        }
        lan.forget(server.name())?;
        server.start()?;
        server.wait_console("ATLAS REFUSED TO TAKE A ROLE: root-not-writable", secs(240))?;
        server.wait_booted(secs(240))?;
        ensure!(server.sh("findmnt -n -o FSTYPE /")? == "overlay", "the overlay is not there");
        let report = report(&server)?;
        ensure!(report["refusal"]["code"] == "root-not-writable" && report["outcome"] == "refused", "{report:#}");
        ensure!(report["refusal"]["found"].to_string().contains("of type overlay"), "{report:#}");
        let said = server.exec(&format!("{} --ident-path /etc/bakery", LEFT.set_up()), secs(120))?;
        let text = said.text() + &said.error_text();
        ensure!(said.code != 0 && text.contains("the root file system is of type overlay"), "{text}");
        server.sh("test ! -e /run/atlas/network-allowed; ip link set eth0 up; ping -c 2 -W 1 192.168.77.99 >/dev/null || true")?;
        let sent = lan.sent(server.name())?;
        ensure!(sent.frames == 0, "a refused server sent {sent:?}");
        server.power_cut()?;
    }
    Ok(())
}
