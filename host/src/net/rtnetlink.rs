//! What the kernel says of its network interfaces and their queueing disciplines, over an rtnetlink socket.
//!
//! ```text
//! message    length u32 · type u16 · flags u16 · sequence u32 · port u32 · a header of the type's own · attributes
//! attribute  length u16 · type u16 · content, padded to 4 bytes
//! ```
//!
//! Numbers are in the machine's byte order. Every length is checked against what was received; an answer of more than
//! [`MAX_MESSAGES`] messages, or one that takes longer than [`DEADLINE`], is an error.

use super::NetError;
use nix::{
    errno::Errno,
    sys::{
        socket::{
            AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, connect, recv, send, setsockopt,
            socket, sockopt::ReceiveTimeout,
        },
        time::TimeVal,
    },
};
use std::{
    io,
    os::fd::{AsRawFd, OwnedFd},
};

/// An interface's hardware address, where it is an Ethernet.
pub type Mac = [u8; 6];

/// How long the kernel may take for an answer.
pub const DEADLINE: std::time::Duration = std::time::Duration::from_secs(5);
/// Messages in one answer.
pub const MAX_MESSAGES: usize = 1 << 17;
/// The kernel sends an answer in pieces that are no larger.
const BUFFER: usize = 64 << 10;
/// A list that changed while it was read is read again so many times.
const ATTEMPTS: usize = 5;

const HEADER: usize = 16;
const LINK_HEADER: usize = 16;
const QDISC_HEADER: usize = 20;

const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
const RTM_NEWLINK: u16 = 16;
const RTM_GETLINK: u16 = 18;
const RTM_NEWQDISC: u16 = 36;
const RTM_DELQDISC: u16 = 37;
const RTM_GETQDISC: u16 = 38;

const NLM_F_REQUEST: u16 = 0x1;
const NLM_F_ACK: u16 = 0x4;
const NLM_F_DUMP: u16 = 0x300;
const NLM_F_DUMP_INTR: u16 = 0x10;
const NLM_F_REPLACE: u16 = 0x100;
const NLM_F_CREATE: u16 = 0x400;

const IFLA_ADDRESS: u16 = 1;
const IFLA_IFNAME: u16 = 3;
const IFLA_LINKINFO: u16 = 18;
const IFLA_INFO_KIND: u16 = 1;
const TCA_KIND: u16 = 1;
/// The upper two bits of an attribute's type are flags.
const TYPE_MASK: u16 = 0x3fff;

const IFF_UP: u32 = 0x1;
const IFF_LOOPBACK: u32 = 0x8;
const IFF_LOWER_UP: u32 = 0x1_0000;

/// Where a queueing discipline is that is below no other.
pub const ROOT: u32 = 0xffff_ffff;

/// A network interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    /// The kernel's number for it, in its network namespace.
    pub index: u32,
    /// `eth0`.
    pub name: String,
    /// Its hardware address, where that is one of an Ethernet.
    pub mac: Option<Mac>,
    /// Whether it is up, as far as its administrator is concerned.
    pub is_up: bool,
    /// Whether what it is sent stays in the machine.
    pub is_loopback: bool,
    /// Whether it is up and its wire leads somewhere.
    pub has_carrier: bool,
    /// `vlan`, `bridge`, …; `None` where a driver of a network card made it.
    pub kind: Option<String>,
}

/// A queueing discipline of an interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Qdisc {
    /// The interface.
    pub link: u32,
    /// `major << 16 | minor`; 0 where the kernel put it there by itself.
    pub handle: u32,
    /// What it is below: [`ROOT`], or a class.
    pub parent: u32,
    /// `fq_codel`, `blackhole`, …
    pub kind: String,
}

/// A conversation with the kernel, about the network namespace in which it was begun.
#[derive(Debug)]
pub struct Rtnetlink {
    socket: OwnedFd,
    sequence: u32,
}

impl Rtnetlink {
    /// Begins one.
    pub fn open() -> Result<Rtnetlink, NetError> {
        let open = || {
            let protocol = SockProtocol::NetlinkRoute;
            let socket = socket(AddressFamily::Netlink, SockType::Raw, SockFlag::SOCK_CLOEXEC, protocol)?;
            let seconds = i64::try_from(DEADLINE.as_secs()).unwrap_or(i64::MAX);
            setsockopt(&socket, ReceiveTimeout, &TimeVal::new(seconds, 0))?;
            // From now on nobody but the kernel is heard.
            connect(socket.as_raw_fd(), &NetlinkAddr::new(0, 0))?;
            Ok::<_, Errno>(Rtnetlink { socket, sequence: 0 })
        };
        open().map_err(failed("open an rtnetlink socket"))
    }

    /// All interfaces of the namespace.
    pub fn links(&mut self) -> Result<Vec<Link>, NetError> {
        let action = "list the interfaces";
        let answer = self.dump(RTM_GETLINK, &[0; LINK_HEADER], action)?;
        Ok(messages(&answer).filter(|message| message.kind == RTM_NEWLINK).filter_map(Link::read).collect())
    }

    /// The interface of this name.
    pub fn link(&mut self, name: &str) -> Result<Link, NetError> {
        let found = self.links()?.into_iter().find(|link| link.name == name);
        found.ok_or_else(|| NetError::NoInterface(name.to_owned()))
    }

    /// The queueing disciplines of all interfaces, but for those that cannot be changed.
    pub fn qdiscs(&mut self) -> Result<Vec<Qdisc>, NetError> {
        let action = "list the queueing disciplines";
        let answer = self.dump(RTM_GETQDISC, &[0; QDISC_HEADER], action)?;
        Ok(messages(&answer).filter(|message| message.kind == RTM_NEWQDISC).filter_map(Qdisc::read).collect())
    }

    /// Puts a queueing discipline above all others of an interface, in the place of the one that is there.
    pub fn set_root_qdisc(&mut self, link: u32, handle: u32, kind: &str) -> io::Result<()> {
        let mut body = qdisc_header(link, handle);
        put_attribute(&mut body, TCA_KIND, &[kind.as_bytes(), b"\0"].concat());
        self.change(RTM_NEWQDISC, NLM_F_CREATE | NLM_F_REPLACE, &body)
    }

    /// Brings an interface up, or down.
    pub fn set_up(&mut self, link: u32, up: bool) -> io::Result<()> {
        let words = [0, link, if up { IFF_UP } else { 0 }, IFF_UP];
        self.change(RTM_NEWLINK, 0, &words.iter().flat_map(|word: &u32| word.to_ne_bytes()).collect::<Vec<u8>>())
    }

    /// Takes away the root queueing discipline of an interface, which somebody must have put there. The kernel puts its default there when
    /// the interface is up.
    pub fn delete_root_qdisc(&mut self, link: u32, handle: u32) -> io::Result<()> {
        self.change(RTM_DELQDISC, 0, &qdisc_header(link, handle))
    }

    fn request(&mut self, kind: u16, flags: u16, body: &[u8]) -> nix::Result<()> {
        self.sequence = self.sequence.wrapping_add(1);
        let length = u32::try_from(HEADER + body.len()).map_err(|_| Errno::EMSGSIZE)?;
        let mut message = length.to_ne_bytes().to_vec();
        message.extend(kind.to_ne_bytes());
        message.extend((flags | NLM_F_REQUEST).to_ne_bytes());
        message.extend(self.sequence.to_ne_bytes());
        message.extend(0_u32.to_ne_bytes());
        message.extend(body);
        send(self.socket.as_raw_fd(), &message, MsgFlags::empty()).map(drop)
    }

    /// One datagram of the answer to the last request.
    fn receive(&self, buffer: &mut [u8]) -> nix::Result<usize> {
        let flags = MsgFlags::MSG_TRUNC;
        loop {
            match recv(self.socket.as_raw_fd(), buffer, flags) {
                Err(Errno::EINTR) => {}
                Err(Errno::EAGAIN) => return Err(Errno::ETIMEDOUT),
                Ok(length) if length > buffer.len() => return Err(Errno::EMSGSIZE),
                other => return other,
            }
        }
    }

    fn change(&mut self, kind: u16, flags: u16, body: &[u8]) -> io::Result<()> {
        self.request(kind, flags | NLM_F_ACK, body)?;
        let mut buffer = vec![0; BUFFER];
        loop {
            let length = self.receive(&mut buffer)?;
            let answer = messages(&buffer[..length]).find(|message| message.is_answer_to(self.sequence));
            if let Some(code) = answer.and_then(|message| message.error()) {
                return if code == 0 { Ok(()) } else { Err(io::Error::from_raw_os_error(code)) };
            }
        }
    }

    /// The messages of a whole list, one behind the other.
    fn dump(&mut self, kind: u16, body: &[u8], action: &str) -> Result<Vec<u8>, NetError> {
        for _ in 0..ATTEMPTS {
            if let Some(answer) = self.dump_once(kind, body).map_err(failed(action))? {
                return Ok(answer);
            }
        }
        Err(failed(action)(Errno::EBUSY))
    }

    /// `None`: the list changed while it was read.
    fn dump_once(&mut self, kind: u16, body: &[u8]) -> nix::Result<Option<Vec<u8>>> {
        self.request(kind, NLM_F_DUMP, body)?;
        let (mut answer, mut count, mut changed) = (Vec::new(), 0, false);
        let mut buffer = vec![0; BUFFER];
        loop {
            let length = self.receive(&mut buffer)?;
            for message in messages(&buffer[..length]).filter(|message| message.is_answer_to(self.sequence)) {
                changed |= message.flags & NLM_F_DUMP_INTR != 0;
                count += 1;
                match message.kind {
                    NLMSG_DONE => return Ok((!changed).then_some(answer)),
                    NLMSG_ERROR => return Err(Errno::from_raw(message.error().unwrap_or(nix::libc::EPROTO))),
                    _ if count > MAX_MESSAGES => return Err(Errno::EMSGSIZE),
                    _ => answer.extend_from_slice(message.whole),
                }
            }
        }
    }
}

fn failed<E: Into<io::Error>>(action: &str) -> impl FnOnce(E) -> NetError {
    let action = action.to_owned();
    move |source| NetError::Kernel { action, source: source.into() }
}

/// The header of a request about the root queueing discipline of an interface.
fn qdisc_header(link: u32, handle: u32) -> Vec<u8> {
    [0, link, handle, ROOT, 0].iter().flat_map(|word: &u32| word.to_ne_bytes()).collect()
}

fn put_attribute(body: &mut Vec<u8>, kind: u16, content: &[u8]) {
    let length = u16::try_from(4 + content.len()).unwrap_or(u16::MAX);
    body.extend(length.to_ne_bytes());
    body.extend(kind.to_ne_bytes());
    body.extend(content);
    body.resize(body.len().next_multiple_of(4), 0);
}

/// A message as it was received; `body` and `whole` lie in the buffer.
#[derive(Clone, Copy, Debug)]
struct Message<'b> {
    kind: u16,
    flags: u16,
    sequence: u32,
    body: &'b [u8],
    whole: &'b [u8],
}

impl Message<'_> {
    fn is_answer_to(&self, sequence: u32) -> bool {
        self.sequence == sequence
    }

    /// The error number of an NLMSG_ERROR: 0 says that it was done.
    fn error(&self) -> Option<i32> {
        let code = i32::from_ne_bytes(self.body.get(..4)?.try_into().ok()?);
        (self.kind == NLMSG_ERROR).then_some(code.saturating_neg())
    }
}

/// The messages in a buffer, up to the first that is not whole.
fn messages(mut buffer: &[u8]) -> impl Iterator<Item = Message<'_>> {
    std::iter::from_fn(move || {
        let length = usize::try_from(u32_at(buffer, 0)?).ok()?;
        let whole = buffer.get(..length)?;
        let body = whole.get(HEADER..)?;
        let (kind, flags, sequence) = (u16_at(buffer, 4)?, u16_at(buffer, 6)?, u32_at(buffer, 8)?);
        buffer = buffer.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some(Message { kind, flags, sequence, body, whole })
    })
}

/// The attributes behind a message's own header, up to the first that is not whole.
fn attributes(mut rest: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let length = usize::from(u16_at(rest, 0)?);
        let content = rest.get(4..length)?;
        let kind = u16_at(rest, 2)? & TYPE_MASK;
        rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((kind, content))
    })
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_ne_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

/// A text of the kernel's, which ends with a zero.
fn text(content: &[u8]) -> String {
    let end = content.iter().position(|byte| *byte == 0).unwrap_or(content.len());
    String::from_utf8_lossy(&content[..end]).into_owned()
}

impl Link {
    fn read(message: Message<'_>) -> Option<Link> {
        let (index, flags) = (u32_at(message.body, 4)?, u32_at(message.body, 8)?);
        let mut link = Link {
            index,
            name: String::new(),
            mac: None,
            is_up: flags & IFF_UP != 0,
            is_loopback: flags & IFF_LOOPBACK != 0,
            has_carrier: flags & (IFF_UP | IFF_LOWER_UP) == IFF_UP | IFF_LOWER_UP,
            kind: None,
        };
        for (kind, content) in attributes(message.body.get(LINK_HEADER..)?) {
            match kind {
                IFLA_IFNAME => link.name = text(content),
                IFLA_ADDRESS => link.mac = content.try_into().ok(),
                IFLA_LINKINFO => {
                    link.kind =
                        attributes(content).find(|(kind, _)| *kind == IFLA_INFO_KIND).map(|(_, name)| text(name));
                }
                _ => {}
            }
        }
        (!link.name.is_empty()).then_some(link)
    }
}

impl Qdisc {
    fn read(message: Message<'_>) -> Option<Qdisc> {
        let word = |at| u32_at(message.body, at);
        let (link, handle, parent) = (word(4)?, word(8)?, word(12)?);
        let kind = attributes(message.body.get(QDISC_HEADER..)?).find(|(kind, _)| *kind == TCA_KIND)?;
        Some(Qdisc { link, handle, parent, kind: text(kind.1) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(kind: u16, body: &[u8]) -> Vec<u8> {
        let mut message = u32::try_from(HEADER + body.len()).unwrap().to_ne_bytes().to_vec();
        message.extend([kind.to_ne_bytes(), 0_u16.to_ne_bytes()].concat());
        message.extend([1_u32.to_ne_bytes(), 0_u32.to_ne_bytes()].concat());
        message.extend(body);
        message
    }

    #[test]
    fn a_link_is_read_with_its_name_and_address() {
        let mut body = vec![0; LINK_HEADER];
        body[4..8].copy_from_slice(&7_u32.to_ne_bytes());
        body[8..12].copy_from_slice(&IFF_UP.to_ne_bytes());
        put_attribute(&mut body, IFLA_IFNAME, b"eth7\0");
        put_attribute(&mut body, IFLA_ADDRESS, &[2, 0, 0, 0, 0, 7]);
        let buffer = message(RTM_NEWLINK, &body);
        let link = messages(&buffer).find_map(Link::read).unwrap();
        let mac = Some([2, 0, 0, 0, 0, 7]);
        assert_eq!(
            link,
            Link {
                index: 7,
                name: "eth7".into(),
                mac,
                is_up: true,
                is_loopback: false,
                has_carrier: false,
                kind: None
            }
        );
    }

    #[test]
    fn what_is_cut_off_anywhere_is_read_up_to_there() {
        let mut body = vec![0; QDISC_HEADER];
        put_attribute(&mut body, TCA_KIND, b"blackhole\0");
        let buffer = [message(RTM_NEWQDISC, &body), message(RTM_NEWQDISC, &body)].concat();
        for end in 0..buffer.len() {
            let whole = messages(&buffer[..end]).filter_map(Qdisc::read).count();
            assert_eq!(whole, usize::from(end >= buffer.len() / 2), "cut at {end}");
        }
        // Lengths that lie: none, less than a header, more than there is.
        for length in [0_u32, 15, u32::MAX] {
            let mut lying = buffer.clone();
            lying[..4].copy_from_slice(&length.to_ne_bytes());
            assert_eq!(messages(&lying).count(), 0, "{length}");
        }
        for length in [0_u16, 3, u16::MAX] {
            assert_eq!(attributes(&[&length.to_ne_bytes()[..], &[1, 0, 9, 9]].concat()).count(), 0, "{length}");
        }
    }

    #[test]
    fn the_kernel_lists_the_loopback_device_and_refuses_what_is_not_there() {
        let mut kernel = Rtnetlink::open().unwrap();
        let lo = kernel.link("lo").unwrap();
        assert!(lo.is_loopback, "{lo:?}");
        assert!(matches!(kernel.link("no-such"), Err(NetError::NoInterface(_))));
        // Unless this runs as root, the kernel says that it is not permitted instead.
        let refused = kernel.delete_root_qdisc(0x7fff_ffff, 0).unwrap_err().raw_os_error().unwrap();
        assert!([nix::libc::ENODEV, nix::libc::EPERM].contains(&refused), "{refused}");
    }
}
