//! Not one frame: servers on which everything that configures a network on Debian is installed, each with a card of its own on a LAN of
//! its own, so that one boot tries them all.
//!
//! ```text
//! eth0 ifupdown (11, 12), ifupdown2 (13)    eth4 connman       eth8 a person: VLAN, bridge, container
//! eth1 systemd-networkd                     eth5 netplan       eth9 pushed in after the refusal
//! eth2 NetworkManager                       eth6 cloud-init
//! eth3 dhcpcd                               eth7 dropbear-initramfs, with an IP= of its own
//! ```
//!
//! The services' conditions are taken away, so that all start as if there were no ATLAS: the gate alone has to hold. On the same disks, a boot
//! that takes its role shows that each of them sends, and a refused one that each has tried: the gate counts what it drops.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use atlas_image::{KERNEL_ARGUMENTS, Options, PlacedFile, Release, ServerImage, place_files};
use serde_json::Value;

use super::cast::{Cast, LEFT, MEMBER_MIB, Part, RIGHT, keep_initrd};
use super::fault::{self, Fault};
use crate::{Boot, Context, Lan, Server, cache, secs};

/// Whose card is which: that of eth0 first.
const CARDS: [&str; 9] =
    ["ifupdown", "networkd", "networkmanager", "dhcpcd", "connman", "netplan", "cloud-init", "dropbear", "by-hand"];
/// The card that is pushed in.
const LATE: &str = "pushed-in";
/// The one that a person configures; all others are configured by themselves.
const BY_HAND: usize = 8;
/// The one that is configured in the initramfs alone.
const DROPBEAR: usize = 7;
const ETHERTYPE_IPV4: u16 = 0x0800;
const ETHERTYPE_ARP: u16 = 0x0806;
const ETHERTYPE_IPV6: u16 = 0x86dd;
/// How long a server may take until all have tried.
const LONGEST: Duration = Duration::from_secs(240);
/// Takes conditions and order from the services (image/rootfs/configurers/customize.sh).
const WITHOUT_CONDITIONS: &str = "/usr/local/sbin/without-conditions";

/// What a person does: a VLAN, a bridge with a container's cable in it, a container with a card's relative, one with a whole card. Each asks
/// for an address.
const BY_HAND_COMMANDS: &str = "
modprobe -a 8021q bridge veth macvlan
ip link set eth8 up
ip link add link eth8 name eth8.5 type vlan id 5; ip link set eth8.5 up; ip address add 10.9.85.1/24 dev eth8.5
ip link add br0 type bridge; ip link set eth8 master br0; ip link set br0 up
ip netns add box; ip link add veth0 type veth peer name vethbox; ip link set vethbox netns box
ip link set veth0 master br0; ip link set veth0 up
ip -n box link set vethbox up; ip -n box address add 10.9.8.2/24 dev vethbox
ip link set eth9 up
ip link add mac0 link eth9 type macvlan; ip link set mac0 netns box
ip -n box link set mac0 up; ip -n box address add 10.9.9.2/24 dev mac0
ping -c 1 -W 1 10.9.85.9 || true
for address in 10.9.8.9 10.9.9.9; do ip netns exec box ping -c 1 -W 1 $address || true; done
";
/// The whole card goes into the container.
const GIVE_AWAY: &str = "
ip netns add cell; ip link set eth8 nomaster; ip link set eth8 netns cell
ip -n cell link set eth8 up; ip -n cell address add 10.9.88.2/24 dev eth8
ip netns exec cell ping -c 1 -W 1 10.9.88.9 || true
";

/// What becomes of a boot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Case {
    /// It takes its role; the gate was not even closed in early boot.
    Open,
    /// There is no Unbound set.
    Refused,
    /// The set is there, and atlas-boot does not come to a decision.
    Broken(Fault),
}

/// The disks of a server with all configurers, off.
struct Office {
    image: ServerImage,
    part: Part,
    folder: PathBuf,
}

impl Office {
    fn get(release: Release) -> Result<Office> {
        let image = atlas_image::server_image(&Options::new(&|_| ())?.on(release).with("configurers"))?;
        let part = Part { place: "office", release, ..LEFT };
        let made_from =
            image.root.parent().and_then(|folder| folder.file_name()).context("an image without a folder")?;
        let name = format!("gate-1-{}", made_from.to_string_lossy());
        let folder = cache::made_once(&name, |folder| make(&image, part, folder))?;
        Ok(Office { image, part, folder })
    }

    /// The server with a LAN for each card, with or without its set.
    fn server(&self, ctx: &Context, name: &str, case: Case) -> Result<(Server, BTreeMap<&'static str, Lan>)> {
        let append = format!("{KERNEL_ARGUMENTS} atlas.wait=1");
        let initrd = self.folder.join("office-initrd");
        let boot = Boot::Kernel { kernel: self.image.kernel.clone(), initrd, append };
        let root = ctx.copy_disk(&format!("{name}-root"), &self.folder.join(self.part.root_serial()))?;
        let mut builder = ctx.server(name, boot)?.mem_mib(768).disk(root);
        if case != Case::Refused {
            for serial in self.part.members() {
                let copy = ctx.scratch().join(format!("{name}-{serial}"));
                builder = builder.disk(crate::Disk::copy_of(&self.folder.join(&serial), &copy, &serial)?);
            }
        }
        let mut lans = BTreeMap::new();
        for card in CARDS {
            let lan = ctx.lan(&format!("{name}-{card}"))?;
            builder = builder.nic(&lan)?;
            lans.insert(card, lan);
        }
        let lan = ctx.lan(&format!("{name}-{LATE}"))?;
        builder = builder.spare_nic(&lan)?;
        lans.insert(LATE, lan);
        let mut server = builder.build();
        match case {
            Case::Open => fault::put(ctx, &mut server, Fault::Unmarked)?,
            Case::Broken(what) => fault::put(ctx, &mut server, what)?,
            Case::Refused => {}
        }
        Ok((server, lans))
    }
}

fn make(image: &ServerImage, part: Part, folder: &std::path::Path) -> Result<()> {
    let name = format!("cast-gate-{}", part.release.suite());
    let ctx = Context::new(&name, &std::env::temp_dir().join(format!("atlas-{name}")))?;
    let mut builder = ctx.debian(part.place, image, "")?.mem_mib(768);
    // Without its card, dropbear looks for it for ever.
    for card in CARDS {
        builder = builder.nic(&ctx.lan(card)?)?;
    }
    for serial in part.members() {
        builder = builder.disk(ctx.blank_disk(&serial, MEMBER_MIB)?);
    }
    let mut server = builder.build();
    server.start()?;
    server.wait_booted(secs(400))?;
    let said = server.exec(&part.set_up(), secs(400))?;
    ensure!(said.code == 0, "`{}` fails: {}\n{}", part.set_up(), said.text(), said.error_text());
    server.sh(&format!("{WITHOUT_CONDITIONS} && sync"))?;
    server.shutdown(secs(240))?;
    for serial in [vec![part.root_serial()], part.members().to_vec()].concat() {
        drop(server.remove(&serial)?.copy(&folder.join(&serial), &serial)?);
    }
    keep_initrd(image, part, folder)
}

/// What the gate has dropped on each card that it holds.
fn dropped(server: &Server) -> Result<BTreeMap<String, u64>> {
    let text = server.sh("tc -s -j qdisc show")?;
    let qdiscs: Vec<Value> = serde_json::from_str(&text).with_context(|| format!("reading {text}"))?;
    let held = qdiscs.iter().filter(|qdisc| qdisc["kind"] == "blackhole" && qdisc["handle"] == "a71a:");
    Ok(held.filter_map(|qdisc| Some((qdisc["dev"].as_str()?.to_owned(), qdisc["drops"].as_u64()?))).collect())
}

/// Waits until `is` gives nothing that is still missing.
fn wait_for(what: &str, mut missing: impl FnMut() -> Result<Vec<String>>) -> Result<()> {
    let until = std::time::Instant::now() + LONGEST;
    loop {
        let left = missing()?;
        if left.is_empty() {
            return Ok(());
        }
        if std::time::Instant::now() >= until {
            bail!("{what}: not {}", left.join(", "));
        }
        std::thread::sleep(Duration::from_secs(1));
    }
}

/// A boot that takes its role: each configurer sends, and so do the late card and what a person makes.
fn sends(ctx: &Context, office: &Office) -> Result<()> {
    let (mut server, lans) = office.server(ctx, "open", Case::Open)?;
    server.start()?;
    server.wait_console(Fault::Unmarked.sign(), secs(60))?;
    server.wait_booted(secs(600))?;
    let report: Value = serde_json::from_slice(&server.read_file("/run/atlas/boot.json")?)?;
    ensure!(report["outcome"] == "from-scratch", "boot.json: {report:#}");
    server.push_card(0)?;
    server.sh("for n in $(seq 100); do [ ! -e /sys/class/net/eth9 ] || exit 0; sleep 0.2; done; exit 1")?;
    wait_for("cards on which something was sent", || {
        let silent = lans.iter().filter(|(card, _)| **card != CARDS[BY_HAND]);
        let silent = silent.filter(|(_, lan)| lan.sent("open").is_ok_and(|sent| sent.frames == 0));
        Ok(silent.map(|(card, _)| (*card).to_owned()).collect())
    })?;
    server.sh(BY_HAND_COMMANDS)?;
    server.sh(GIVE_AWAY)?;
    ensure!(dropped(&server)?.is_empty(), "something is still held: {:?}", dropped(&server)?);
    let mut kinds = BTreeMap::<u16, u64>::new();
    for (card, lan) in &lans {
        let sent = lan.sent("open")?;
        ensure!(sent.frames > 0, "nothing was sent by {card}");
        let count = |ethertype| sent.ethertypes.get(&ethertype).copied().unwrap_or(0);
        let (arp, v4, v6) = (count(ETHERTYPE_ARP), count(ETHERTYPE_IPV4), count(ETHERTYPE_IPV6));
        ctx.note(&format!("open: {card}: {} frames: ARP {arp}, IPv4 {v4}, IPv6 {v6}", sent.frames))?;
        sent.ethertypes.iter().for_each(|(kind, count)| *kinds.entry(*kind).or_default() += count);
    }
    for kind in [ETHERTYPE_ARP, ETHERTYPE_IPV4, ETHERTYPE_IPV6, 0x8100] {
        ensure!(kinds.contains_key(&kind), "no frame of type {kind:#06x} was seen, so none can be missed: {kinds:?}");
    }
    server.power_cut()
}

/// A boot that must not send: each configurer tries, a card is pushed in, a person tries, and there is not one frame.
fn sends_nothing(ctx: &Context, office: &Office, name: &'static str, case: Case) -> Result<()> {
    let (mut server, lans) = office.server(ctx, name, case)?;
    let silent = |when: &str| -> Result<()> {
        for (card, lan) in &lans {
            let sent = lan.sent(name)?;
            ensure!(sent.frames == 0, "{name}, {when}: {card} sent {sent:?}");
        }
        Ok(())
    };
    server.start()?;
    let code = match case {
        Case::Broken(fault) => {
            server.wait_console(fault.sign(), secs(120))?;
            "not-decided"
        }
        _ => "no-unbound-set",
    };
    let pushed_early = case == Case::Broken(Fault::Hung);
    if pushed_early {
        server.push_card(0)?;
    }
    // Without atlas-boot nobody counts in the initramfs: the kernel's default drops there.
    let uncounted = (case == Case::Broken(Fault::Missing)).then_some(DROPBEAR);
    if let Some(card) = uncounted {
        server.wait_console(&format!("IP-Config: eth{card} complete"), secs(60))?;
    }
    silent("in early boot")?;
    server.wait_console(&format!("ATLAS REFUSED TO TAKE A ROLE: {code}"), secs(300))?;
    server.wait_booted(secs(600))?;
    if !pushed_early {
        server.push_card(0)?;
    }
    let report: Value = serde_json::from_slice(&server.read_file("/run/atlas/boot.json")?)?;
    ensure!(report["outcome"] == "refused" && report["refusal"]["code"] == code, "boot.json: {report:#}");
    wait_for("cards on which something was dropped", || {
        let dropped = dropped(&server)?;
        let cards = (0..CARDS.len()).filter(|card| *card != BY_HAND && Some(*card) != uncounted).chain([9]);
        let cards = cards.map(|card| format!("eth{card}"));
        Ok(cards.filter(|card| dropped.get(card).is_none_or(|count| *count == 0)).collect())
    })?;
    ctx.note(&format!("{name}: dropped {:?}", dropped(&server)?))?;
    server.sh(BY_HAND_COMMANDS)?;
    ensure!(dropped(&server)?.get("eth8").is_some_and(|count| *count > 0), "nobody has tried eth8");
    silent("with a VLAN, a bridge and containers")?;
    server.sh(GIVE_AWAY)?;
    silent("with a card in a container")?;
    ensure!(server.sh("ls /run/atlas/network-allowed 2>/dev/null || true")?.is_empty(), "the gate was opened");
    ctx.note(&format!("{name}: not one frame"))?;
    server.power_cut()
}

/// Whoever configures the network, whatever is wrong: not one frame. On the same disks, a boot that takes its role sends on every card.
fn nobody_sends(ctx: &Context, release: Release) -> Result<()> {
    let office = Office::get(release)?;
    sends(ctx, &office)?;
    sends_nothing(ctx, &office, "refused", Case::Refused)?;
    sends_nothing(ctx, &office, "killed", Case::Broken(Fault::Killed))?;
    sends_nothing(ctx, &office, "missing", Case::Broken(Fault::Missing))?;
    sends_nothing(ctx, &office, "hung", Case::Broken(Fault::Hung))
}

pub(crate) fn nobody_sends_on_debian_11(ctx: &Context) -> Result<()> {
    nobody_sends(ctx, Release::Bullseye)
}

pub(crate) fn nobody_sends_on_debian_12(ctx: &Context) -> Result<()> {
    nobody_sends(ctx, Release::Bookworm)
}

pub(crate) fn nobody_sends_on_debian_13(ctx: &Context) -> Result<()> {
    nobody_sends(ctx, Release::Trixie)
}

/// The drop-ins of systemd-networkd, made empty.
fn networkd_without_conditions() -> [PlacedFile; 2] {
    ["service", "socket"]
        .map(|kind| PlacedFile::new(format!("/usr/lib/systemd/system/systemd-networkd.{kind}.d/50-atlas.conf"), ""))
}

/// A server of the cast whose networkd starts whatever ATLAS says, with a card, and one to be pushed in.
fn stubborn(ctx: &Context, part: Part, with_set: bool) -> Result<(Lan, Server)> {
    let (cast, lan) = (Cast::get()?, ctx.lan("office")?);
    let mut builder = cast.bare(ctx, part, "atlas.wait=1")?.nic(&lan)?.spare_nic(&lan)?;
    for member in with_set.then(|| cast.members(ctx, part)).transpose()?.into_iter().flatten() {
        builder = builder.disk(member);
    }
    let mut server = builder.build();
    place_files(server.disk(&part.root_serial())?.path(), &networkd_without_conditions())?;
    Ok((lan, server))
}

/// Pushes the other card in, and lets both ask for an address of their net: by their names, because networkd takes what it has not configured itself
/// from a card.
fn try_both_cards(server: &Server) -> Result<()> {
    server.push_card(0)?;
    server
        .sh("for n in $(seq 100); do [ ! -e /sys/class/net/eth1 ] || break; sleep 0.2; done
               systemctl is-active --quiet systemd-networkd || exit 9; ip link set eth1 up; ip address replace 192.168.78.1/24 dev eth1
               for n in $(seq 100); do ! ip -4 -o address show dev eth0 | grep -q 192.168.77 || break; sleep 0.2; done
               ping -c 1 -W 1 -I eth0 192.168.77.99; ping -c 1 -W 1 -I eth1 192.168.78.99; true")
        .map(drop)
}

/// networkd is up on a server that refused, a second card is pushed in: not one frame. On one that took its role, both cards send.
pub(crate) fn networkd_and_a_late_card(ctx: &Context) -> Result<()> {
    let (lan, mut server) = stubborn(ctx, RIGHT, false)?;
    server.start()?;
    server.wait_console("ATLAS REFUSED TO TAKE A ROLE: no-unbound-set", secs(120))?;
    server.wait_booted(secs(240))?;
    try_both_cards(&server)?;
    let dropped = dropped(&server)?;
    ensure!(["eth0", "eth1"].iter().all(|card| dropped.get(*card).is_some_and(|count| *count > 0)), "{dropped:?}");
    let sent = lan.sent(server.name())?;
    ensure!(sent.frames == 0, "a refused server sent {sent:?}");
    server.power_cut()?;

    for member in Cast::get()?.members(ctx, RIGHT)? {
        server.insert(member)?;
    }
    server.start()?;
    server.wait_booted(secs(240))?;
    try_both_cards(&server)?;
    let sent = lan.sent(server.name())?;
    ensure!(sent.macs.len() == 2 && sent.ethertypes.contains_key(&ETHERTYPE_ARP), "not both cards sent: {sent:?}");
    server.power_cut()
}

/// atlas-boot is killed in early boot: refused as that, above the login too, and not one frame.
pub(crate) fn atlas_boot_killed(ctx: &Context) -> Result<()> {
    let (lan, mut server) = stubborn(ctx, LEFT, true)?;
    fault::put(ctx, &mut server, Fault::Killed)?;
    server.start()?;
    server.wait_console(Fault::Killed.sign(), secs(120))?;
    server.wait_console("ATLAS REFUSED TO TAKE A ROLE: not-decided", secs(120))?;
    server.wait_booted(secs(240))?;
    server.wait_console("login: $", secs(60))?;
    try_both_cards(&server)?;
    let dropped = dropped(&server)?;
    ensure!(dropped.values().filter(|count| **count > 0).count() == 2, "{dropped:?}");
    let sent = lan.sent(server.name())?;
    ensure!(sent.frames == 0, "a server that nobody has decided about sent {sent:?}");
    server.power_cut()
}

/// The initramfs is one that Debian made by itself, and starts every array that it finds: refused, not one frame, and the array is stopped.
pub(crate) fn initramfs_without_atlas(ctx: &Context) -> Result<()> {
    let (lan, mut server) = stubborn(ctx, LEFT, true)?;
    let plain = atlas_image::plain_image(&Options::new(&|_| ())?)?;
    let Boot::Kernel { initrd, .. } = &mut server.boot else { bail!("it boots from its first disk") };
    *initrd = plain.initrd;
    server.start()?;
    server.wait_console("ATLAS REFUSED TO TAKE A ROLE: not-decided", secs(240))?;
    server.wait_booted(secs(240))?;
    server.sh("dmesg | grep 'md/raid1:md.*active with 2 out of 2'").context("nobody started the array")?;
    secs(60).poll("nothing of the set runs", || {
        let runs = server.exec("grep -q ^md /proc/mdstat", secs(30))?;
        Ok((runs.code != 0).then_some(()))
    })?;
    // Said a moment later.
    secs(30).poll("somebody says that it was stopped", || {
        Ok(server.sh("cat /run/atlas/gate.json")?.contains("it was stopped").then_some(()))
    })?;
    let sent = lan.sent(server.name())?;
    ensure!(sent.frames == 0, "a server that nobody has decided about sent {sent:?}");
    server.power_cut()
}
