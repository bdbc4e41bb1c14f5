//! A virtual Ethernet that needs no privileges and tells on everyone.
//!
//! Each network card of a server is a QEMU `-netdev stream` that connects to a unix socket of its own; behind it, in this
//! process, is one port of a learning switch. The switch can cut a server off, delay frames, and it records what each
//! server sends: the proof that a refused server sent nothing, or who announced an address.
//!
//! ```text
//! guest eth0 ── QEMU ── unix socket ── port 0 ─┐           a frame on the socket:
//!                                              switch       4 bytes length, big-endian · that many bytes
//! guest eth0 ── QEMU ── unix socket ── port 1 ─┘
//! ```
//!
//! All frames also go to a pcap file in the log folder, for `tcpdump -r`.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs::File;
use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, Weak};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context, Result, ensure};

/// An Ethernet address.
pub type Mac = [u8; 6];

/// Frames that may wait for one server; what is beyond is lost, as on a real switch.
const QUEUE: usize = 1024;
/// No frame is longer.
const FRAME_MAX: usize = 64 << 10;
const ETHERTYPE_IPV4: u16 = 0x0800;
const ETHERTYPE_ARP: u16 = 0x0806;
const ETHERTYPE_IPV6: u16 = 0x86dd;

/// A virtual Ethernet. Clones are the same one; it goes when the last one goes and the last server plugged into it.
#[derive(Debug, Clone)]
pub struct Lan(Arc<Inner>);

/// What a server has sent into a LAN since it was plugged in, or since [`Lan::forget`]. What it sent while it was cut off counts too.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Sent {
    /// Number of frames.
    pub frames: u64,
    /// Number of bytes in them.
    pub bytes: u64,
    /// Source addresses of the frames.
    pub macs: BTreeSet<Mac>,
    /// Number of frames by ethertype (0x0800 IPv4, 0x0806 ARP, 0x86dd IPv6).
    pub ethertypes: BTreeMap<u16, u64>,
    /// Addresses it claimed as its own in ARP requests and answers.
    pub arp_claims: BTreeSet<Ipv4Addr>,
    /// Source addresses of its IPv4 packets, without 0.0.0.0.
    pub ipv4_sources: BTreeSet<Ipv4Addr>,
    /// Number of frames that ask for an address and claim none: ARP probes, IPv6 duplicate address detection.
    pub probes: u64,
    /// When it sent its last frame.
    pub last: Option<Instant>,
    /// When it first and last sent as who has an address: by ARP, IPv4 or IPv6.
    pub used: BTreeMap<IpAddr, (Instant, Instant)>,
}

impl Sent {
    /// Frames that are no mere question for an address.
    pub fn other_than_probes(&self) -> u64 {
        self.frames - self.probes
    }
}

/// Where a server's network card is plugged in.
#[derive(Debug)]
pub(crate) struct Port {
    /// Keeps the LAN for as long as someone is plugged in.
    _lan: Lan,
    pub(crate) mac: Mac,
    pub(crate) socket: PathBuf,
}

/// See [`Lan::neighbour`].
#[derive(Debug)]
pub struct Neighbour {
    stream: UnixStream,
    port: Port,
}

impl Neighbour {
    /// Its card's address, as people write it.
    pub fn mac(&self) -> String {
        self.port.mac.map(|byte| format!("{byte:02x}")).join(":")
    }
}

impl Drop for Neighbour {
    fn drop(&mut self) {
        self.stream.shutdown(std::net::Shutdown::Both).ok();
    }
}

/// The answer to an ARP question for `address` in that VLAN.
fn arp_answer(frame: &[u8], vlan: u16, address: Ipv4Addr, mac: Mac) -> Option<Vec<u8>> {
    let word = |at: usize| Some(u16::from_be_bytes([*frame.get(at)?, *frame.get(at + 1)?]));
    let is_in_it = word(12)? == 0x8100 && word(14)? & 0xfff == vlan && word(16)? == ETHERTYPE_ARP;
    let arp = frame.get(18..46)?;
    if !is_in_it || arp[6..8] != [0, 1] || arp[24..28] != address.octets() {
        return None;
    }
    let (asker, ip) = (&arp[8..14], &arp[14..18]);
    let answer = [asker, &mac, &frame[12..18], &arp[..6], &[0, 2], &mac, &address.octets(), asker, ip].concat();
    Some([answer, vec![0; 14]].concat())
}

#[derive(Debug)]
struct Inner {
    name: String,
    folder: PathBuf,
    switch: Mutex<Switch>,
}

#[derive(Debug)]
struct Switch {
    ports: Vec<PortState>,
    /// Which port an address was last seen at.
    table: HashMap<Mac, usize>,
    delay: Duration,
    pcap: File,
}

#[derive(Debug)]
struct PortState {
    server: String,
    cut: bool,
    sent: Sent,
    /// Bytes in all frames that went out to it.
    delivered: u64,
    /// The way to the server; none while its power is off.
    out: Option<SyncSender<(Instant, Arc<[u8]>)>>,
    stream: Option<UnixStream>,
}

impl Lan {
    /// A LAN whose sockets are made in `folder` (a short path) and whose frames are recorded in `pcap`.
    pub(crate) fn new(name: &str, folder: &Path, pcap: &Path) -> Result<Self> {
        let mut file = File::create(pcap).with_context(|| format!("making {}", pcap.display()))?;
        file.write_all(&pcap_header())?;
        let switch = Switch { ports: Vec::new(), table: HashMap::new(), delay: Duration::ZERO, pcap: file };
        Ok(Self(Arc::new(Inner { name: name.to_owned(), folder: folder.to_owned(), switch: Mutex::new(switch) })))
    }

    /// Plugs a network card of `server` in. The port stays for as long as the LAN, whatever the server's power does.
    pub(crate) fn plug(&self, server: &str) -> Result<Port> {
        let mut switch = crate::lock(&self.0.switch);
        let number = switch.ports.len();
        let socket = self.0.folder.join(format!("{}-{number}", self.0.name));
        let listener =
            UnixListener::bind(&socket).with_context(|| format!("making the socket {}", socket.display()))?;
        switch.ports.push(PortState {
            server: server.to_owned(),
            cut: false,
            sent: Sent::default(),
            delivered: 0,
            out: None,
            stream: None,
        });
        let inner = Arc::downgrade(&self.0);
        thread::Builder::new().name(format!("lan-{}", self.0.name)).spawn(move || serve(&inner, number, &listener))?;
        Ok(Port { _lan: self.clone(), mac: mac_of(server, &self.0.name, number), socket })
    }

    /// Plugs in a machine that does nothing but say, in a VLAN, that it has this address; until the answer is dropped.
    ///
    /// # Errors
    /// The socket cannot be made.
    pub fn neighbour(&self, name: &str, vlan: u16, address: Ipv4Addr) -> Result<Neighbour> {
        let port = self.plug(name)?;
        let stream = UnixStream::connect(&port.socket).with_context(|| format!("plugging {name} in"))?;
        let (mut heard, mut said, mac) = (stream.try_clone()?, stream.try_clone()?, port.mac);
        thread::Builder::new().name(name.to_owned()).spawn(move || {
            while let Some(frame) = read_frame(&mut heard) {
                let Some(answer) = arp_answer(&frame, vlan, address, mac) else { continue };
                let length = (answer.len() as u32).to_be_bytes();
                if said.write_all(&[&length[..], &answer].concat()).is_err() {
                    return;
                }
            }
        })?;
        Ok(Neighbour { stream, port })
    }

    /// Pulls the plug: frames from and to `server` are lost from now on.
    ///
    /// # Errors
    /// It has no port here.
    pub fn cut(&self, server: &str) -> Result<()> {
        self.each_port(server, |port| port.cut = true)
    }

    /// Plugs `server` back in.
    ///
    /// # Errors
    /// It has no port here.
    pub fn heal(&self, server: &str) -> Result<()> {
        self.each_port(server, |port| port.cut = false)
    }

    /// Holds each frame for `time` before it is delivered.
    pub fn delay(&self, time: Duration) {
        crate::lock(&self.0.switch).delay = time;
    }

    /// What `server` has sent.
    ///
    /// # Errors
    /// It has no port here.
    pub fn sent(&self, server: &str) -> Result<Sent> {
        let mut sum = Sent::default();
        self.each_port(server, |port| sum.add(&port.sent))?;
        Ok(sum)
    }

    /// How many bytes `server` was sent since it was plugged in.
    ///
    /// # Errors
    /// It has no port here.
    pub fn delivered(&self, server: &str) -> Result<u64> {
        let mut sum = 0;
        self.each_port(server, |port| sum += port.delivered)?;
        Ok(sum)
    }

    /// Starts the record of what `server` sends anew.
    ///
    /// # Errors
    /// It has no port here.
    pub fn forget(&self, server: &str) -> Result<()> {
        self.each_port(server, |port| port.sent = Sent::default())
    }

    fn each_port(&self, server: &str, mut act: impl FnMut(&mut PortState)) -> Result<()> {
        let mut switch = crate::lock(&self.0.switch);
        let mut found = false;
        for port in switch.ports.iter_mut().filter(|port| port.server == server) {
            act(port);
            found = true;
        }
        ensure!(found, "no server {server} is plugged into the LAN {}", self.0.name);
        Ok(())
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        let switch = crate::lock(&self.switch);
        for (number, port) in switch.ports.iter().enumerate() {
            if let Some(stream) = &port.stream {
                stream.shutdown(std::net::Shutdown::Both).ok();
            }
            // Wakes the thread that waits for a connection, which then finds the LAN gone.
            let socket = self.folder.join(format!("{}-{number}", self.name));
            UnixStream::connect(&socket).ok();
            std::fs::remove_file(&socket).ok();
        }
    }
}

/// Waits for the server's power to come on, carries its frames until the power goes, and begins again.
fn serve(inner: &Weak<Inner>, number: usize, listener: &UnixListener) {
    while let Ok((stream, _)) = listener.accept() {
        let (Some(lan), Ok(to_guest), Ok(to_cut)) = (inner.upgrade(), stream.try_clone(), stream.try_clone()) else {
            return;
        };
        let (out, queue) = sync_channel(QUEUE);
        {
            let mut switch = crate::lock(&lan.switch);
            switch.ports[number].out = Some(out);
            switch.ports[number].stream = Some(to_cut);
        }
        drop(lan);
        thread::spawn(move || deliver(&queue, to_guest));
        carry(inner, number, stream);
        let Some(lan) = inner.upgrade() else { return };
        let mut switch = crate::lock(&lan.switch);
        switch.ports[number].out = None;
        switch.ports[number].stream = None;
    }
}

fn carry(inner: &Weak<Inner>, number: usize, mut stream: UnixStream) {
    while let Some(frame) = read_frame(&mut stream) {
        let Some(lan) = inner.upgrade() else { return };
        crate::lock(&lan.switch).forward(number, &frame);
    }
}

fn read_frame(stream: &mut UnixStream) -> Option<Vec<u8>> {
    let mut length = [0; 4];
    stream.read_exact(&mut length).ok()?;
    let length = usize::try_from(u32::from_be_bytes(length)).ok().filter(|length| *length <= FRAME_MAX)?;
    let mut frame = vec![0; length];
    stream.read_exact(&mut frame).ok()?;
    Some(frame)
}

fn deliver(queue: &Receiver<(Instant, Arc<[u8]>)>, mut stream: UnixStream) {
    for (due, frame) in queue {
        thread::sleep(due.saturating_duration_since(Instant::now()));
        let mut message = (frame.len() as u32).to_be_bytes().to_vec();
        message.extend_from_slice(&frame);
        if stream.write_all(&message).is_err() {
            return;
        }
    }
}

impl Switch {
    fn forward(&mut self, from: usize, frame: &[u8]) {
        let (Some(to), Some(source)) = (mac_at(frame, 0), mac_at(frame, 6)) else { return };
        self.ports[from].sent.note(frame, source);
        self.pcap.write_all(&pcap_record(frame)).ok();
        if self.ports[from].cut {
            return;
        }
        self.table.insert(source, from);
        let due = Instant::now() + self.delay;
        let frame: Arc<[u8]> = frame.into();
        // To the port where the address lives; to all others if it is a group's or not known.
        let only = self.table.get(&to).copied().filter(|_| to[0] & 1 == 0);
        for (number, port) in self.ports.iter_mut().enumerate() {
            let meant = number != from && !port.cut && only.is_none_or(|only| only == number);
            if let Some(out) = port.out.as_ref().filter(|_| meant)
                && out.try_send((due, frame.clone())).is_ok()
            {
                port.delivered += frame.len() as u64;
            }
        }
    }
}

impl Sent {
    fn note(&mut self, frame: &[u8], source: Mac) {
        self.frames += 1;
        self.bytes += frame.len() as u64;
        self.macs.insert(source);
        let Some(ethertype) = frame.get(12..14).map(|bytes| u16::from_be_bytes([bytes[0], bytes[1]])) else { return };
        *self.ethertypes.entry(ethertype).or_default() += 1;
        let address = |at: usize| {
            let bytes: [u8; 4] = frame.get(at..at + 4)?.try_into().ok()?;
            Some(Ipv4Addr::from(bytes)).filter(|address| !address.is_unspecified())
        };
        match ethertype {
            ETHERTYPE_ARP => self.arp_claims.extend(address(14 + 14)),
            ETHERTYPE_IPV4 => self.ipv4_sources.extend(address(14 + 12)),
            _ => {}
        }
        let now = Instant::now();
        self.last = Some(now);
        let (user, asks) = match ethertype {
            ETHERTYPE_ARP => (address(14 + 14).map(IpAddr::from), frame.get(20..22) == Some(&[0, 1])),
            ETHERTYPE_IPV4 => (address(14 + 12).map(IpAddr::from), false),
            ETHERTYPE_IPV6 => (ipv6_source(frame).map(IpAddr::from), is_solicitation(frame)),
            _ => (None, false),
        };
        match user {
            Some(user) => self.used.entry(user).or_insert((now, now)).1 = now,
            None if asks => self.probes += 1,
            None => {}
        }
    }

    fn add(&mut self, other: &Self) {
        self.frames += other.frames;
        self.bytes += other.bytes;
        self.macs.extend(&other.macs);
        self.arp_claims.extend(&other.arp_claims);
        self.ipv4_sources.extend(&other.ipv4_sources);
        for (ethertype, count) in &other.ethertypes {
            *self.ethertypes.entry(*ethertype).or_default() += count;
        }
        self.probes += other.probes;
        self.last = self.last.max(other.last);
        for (address, (first, last)) in &other.used {
            let span = self.used.entry(*address).or_insert((*first, *last));
            *span = (span.0.min(*first), span.1.max(*last));
        }
    }
}

fn ipv6_source(frame: &[u8]) -> Option<Ipv6Addr> {
    let bytes: [u8; 16] = frame.get(14 + 8..14 + 24)?.try_into().ok()?;
    Some(Ipv6Addr::from(bytes)).filter(|address| !address.is_unspecified())
}

/// ICMPv6 without extension headers, of the type of neighbour solicitations.
fn is_solicitation(frame: &[u8]) -> bool {
    frame.get(14 + 6) == Some(&58) && frame.get(14 + 40) == Some(&135)
}

fn mac_at(frame: &[u8], at: usize) -> Option<Mac> {
    frame.get(at..at + 6)?.try_into().ok()
}

/// Made of the names, so that a server has the same card in each run; the number keeps the cards of one LAN apart.
fn mac_of(server: &str, lan: &str, number: usize) -> Mac {
    let fold = |hash: u32, byte: u8| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193);
    let [a, b, _, _] = server.bytes().chain(lan.bytes()).fold(0x811c_9dc5, fold).to_be_bytes();
    [0x52, 0x54, 0x00, a, b, number as u8]
}

/// The header of a pcap file: version 2.4, frames up to 64 KiB, Ethernet.
fn pcap_header() -> Vec<u8> {
    let words: [u32; 6] = [0xa1b2_c3d4, 2 | 4 << 16, 0, 0, FRAME_MAX as u32, 1];
    words.iter().flat_map(|word| word.to_ne_bytes()).collect()
}

fn pcap_record(frame: &[u8]) -> Vec<u8> {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let words: [u32; 4] = [now.as_secs() as u32, now.subsec_micros(), frame.len() as u32, frame.len() as u32];
    words.iter().flat_map(|word| word.to_ne_bytes()).chain(frame.iter().copied()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: Mac = [2, 0, 0, 0, 0, 1];
    const B: Mac = [2, 0, 0, 0, 0, 2];

    fn frame(to: Mac, from: Mac, rest: &[u8]) -> Vec<u8> {
        [&to[..], &from[..], rest].concat()
    }

    fn send(stream: &mut UnixStream, frame: &[u8]) {
        stream.write_all(&(frame.len() as u32).to_be_bytes()).unwrap();
        stream.write_all(frame).unwrap();
    }

    fn connect(port: &Port) -> UnixStream {
        let stream = UnixStream::connect(&port.socket).unwrap();
        stream.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
        stream
    }

    #[test]
    fn the_switch_learns_who_is_where_and_a_cut_server_hears_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let lan = Lan::new("l", folder.path(), &folder.path().join("l.pcap")).unwrap();
        let ports = ["a", "b", "c"].map(|name| lan.plug(name).unwrap());
        let [mut a, mut b, mut c] = ports.each_ref().map(connect);
        // A port is ready when the switch has taken the connection.
        while crate::lock(&lan.0.switch).ports.iter().any(|port| port.out.is_none()) {
            thread::yield_now();
        }

        let everyone = frame([0xff; 6], A, &[0x08, 0x06]);
        send(&mut a, &everyone);
        assert_eq!(read_frame(&mut b), Some(everyone.clone()));
        assert_eq!(read_frame(&mut c), Some(everyone));

        let answer = frame(A, B, &[0x12, 0x34, 1, 2, 3]);
        send(&mut b, &answer);
        assert_eq!(read_frame(&mut a), Some(answer.clone()));
        assert_eq!(read_frame(&mut c), None, "a frame for a known address goes to its port only");

        lan.cut("a").unwrap();
        send(&mut b, &answer);
        assert_eq!(read_frame(&mut a), None);
        lan.heal("a").unwrap();
        send(&mut b, &answer);
        assert_eq!(read_frame(&mut a), Some(answer.clone()));

        assert_eq!(lan.sent("b").unwrap().frames, 3);
        assert_eq!(lan.sent("b").unwrap().ethertypes, BTreeMap::from([(0x1234, 3)]));
        assert_eq!(lan.sent("c").unwrap(), Sent::default());
        assert!(lan.sent("d").is_err());
        // Two answers while it was plugged in, and nothing while it was not.
        assert_eq!(lan.delivered("a").unwrap(), 2 * answer.len() as u64);
    }

    #[test]
    fn a_claim_by_arp_is_recorded_and_a_probe_is_none() {
        let arp = |sender: [u8; 4]| {
            let mut packet = vec![0x08, 0x06, 0, 1, 8, 0, 6, 4, 0, 1];
            packet.extend(A);
            packet.extend(sender);
            packet.extend([0; 10]);
            frame([0xff; 6], A, &packet)
        };
        let mut sent = Sent::default();
        sent.note(&arp([0, 0, 0, 0]), A);
        assert!(sent.arp_claims.is_empty() && sent.used.is_empty());
        sent.note(&arp([10, 1, 2, 3]), A);
        assert_eq!((sent.probes, sent.other_than_probes()), (1, 1));
        assert!(sent.last == sent.used.get(&IpAddr::from([10, 1, 2, 3])).map(|used| used.1) && sent.last.is_some());
        assert_eq!(sent.arp_claims, BTreeSet::from([Ipv4Addr::new(10, 1, 2, 3)]));
        assert_eq!((sent.frames, &sent.macs), (2, &BTreeSet::from([A])));
    }
}
