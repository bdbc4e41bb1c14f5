//! Frames as they are on the wire: a socket that sends past the queueing disciplines, so through a closed gate, and hears who has
//! which address.
//!
//! Only what somebody says about addresses (ARP, IPv6 neighbour discovery) comes out of the socket: a filter in the kernel
//! drops everything else, so that a busy server does not notice that somebody listens.

use super::{NetError, arp, ndp};
use atlas_model::address::Mac;
use nix::{errno::Errno, libc};
use std::{
    cell::Cell,
    ffi::c_int,
    io,
    net::IpAddr,
    os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd},
};

/// The longest frame that is looked at; what matters stands at the beginning.
const FRAME: usize = 256;
const VLAN: u16 = 0x8100;

/// What somebody says about an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Said {
    /// "It is mine."
    Claim,
    /// "Is it free? I am about to take it."
    Probe,
}

/// One thing that was heard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Heard {
    /// What was said.
    pub said: Said,
    /// Of which address.
    pub address: IpAddr,
    /// By which card.
    pub mac: Mac,
    /// In which VLAN.
    pub vlan: Option<u16>,
}

impl Heard {
    /// What a frame says; `None` where that is nothing about an address.
    pub fn parse(frame: &[u8]) -> Option<Heard> {
        arp::parse(frame).or_else(|| ndp::parse(frame))
    }
}

/// The header of a frame.
pub(super) fn ethernet(to: Mac, from: Mac, vlan: Option<u16>, ethertype: u16) -> Vec<u8> {
    let mut frame = [to.0, from.0].concat();
    if let Some(vlan) = vlan {
        frame.extend(VLAN.to_be_bytes());
        frame.extend((vlan & 0xfff).to_be_bytes());
    }
    frame.extend(ethertype.to_be_bytes());
    frame
}

/// The sender, the VLAN and the content of a frame of that ethertype.
pub(super) fn payload(frame: &[u8], ethertype: u16) -> Option<(Mac, Option<u16>, &[u8])> {
    let word = |at: usize| Some(u16::from_be_bytes([*frame.get(at)?, *frame.get(at + 1)?]));
    let from = Mac(frame.get(6..12)?.try_into().ok()?);
    let (vlan, at) = match word(12)? {
        VLAN => (Some(word(14)? & 0xfff).filter(|id| *id != 0), 16),
        _ => (None, 12),
    };
    (word(at)? == ethertype).then(|| frame.get(at + 2..).map(|rest| (from, vlan, rest)))?
}

/// A socket on one network card.
#[derive(Debug)]
pub struct Wiretap {
    socket: OwnedFd,
    interface: String,
    index: c_int,
    hears_all: Cell<bool>,
}

impl Wiretap {
    /// Listens on a card, which may be down.
    pub fn open(interface: &str, index: u32) -> Result<Wiretap, NetError> {
        let open = || -> io::Result<Wiretap> {
            let flags = libc::SOCK_RAW | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;
            // Protocol 0: it hears nothing before it is bound, with its filter in place.
            // SAFETY: no memory is involved.
            let fd = Errno::result(unsafe { libc::socket(libc::AF_PACKET, flags, 0) })?;
            // SAFETY: the kernel has just made it, and nobody else knows of it.
            let socket = unsafe { OwnedFd::from_raw_fd(fd) };
            let index = c_int::try_from(index).map_err(|_| Errno::ENODEV)?;
            let tap = Wiretap { socket, interface: interface.to_owned(), index, hears_all: Cell::new(false) };
            tap.filter()?;
            tap.option(libc::PACKET_AUXDATA, &1)?;
            tap.option(libc::PACKET_QDISC_BYPASS, &1)?;
            // Answers to a probe of an IPv6 address go to groups that only who has an address joins.
            tap.receive_mode(libc::PACKET_ADD_MEMBERSHIP, libc::PACKET_MR_ALLMULTI)?;
            tap.bind(index)?;
            Ok(tap)
        };
        open().map_err(|source| NetError::Kernel { action: format!("listen on {interface}"), source })
    }

    /// Hears everything that is on the wire, or only what is for this machine. Many a card drops what comes in a VLAN of which the kernel has no
    /// interface yet, unless it is to hear everything.
    pub fn hear_all(&self, all: bool) -> Result<(), NetError> {
        if self.hears_all.get() == all {
            return Ok(());
        }
        let option = if all { libc::PACKET_ADD_MEMBERSHIP } else { libc::PACKET_DROP_MEMBERSHIP };
        let action = || format!("hear all that is on the wire of {}", self.interface);
        self.receive_mode(option, libc::PACKET_MR_PROMISC)
            .map_err(|source| NetError::Kernel { action: action(), source })?;
        self.hears_all.set(all);
        Ok(())
    }

    fn receive_mode(&self, option: c_int, mode: c_int) -> io::Result<()> {
        let mode = libc::packet_mreq {
            mr_ifindex: self.index,
            mr_type: mode as libc::c_ushort,
            mr_alen: 0,
            mr_address: [0; 8],
        };
        self.option(option, &mode)
    }

    /// Sends a frame, whatever queueing discipline the interface has.
    pub fn send(&self, frame: &[u8]) -> Result<(), NetError> {
        // SAFETY: the buffer lives longer than the call, which only reads it.
        let sent = unsafe { libc::send(self.socket.as_raw_fd(), frame.as_ptr().cast(), frame.len(), 0) };
        let action = || format!("send on {}", self.interface);
        Errno::result(sent).map(drop).map_err(|errno| NetError::Kernel { action: action(), source: errno.into() })
    }

    /// The next thing that somebody says about an address; `None` where nobody has said more by now. Never waits.
    ///
    /// # Errors
    /// The interface is down, or gone.
    pub fn hear(&self) -> Result<Option<Heard>, NetError> {
        loop {
            match self.receive() {
                Ok(None) => {}
                Ok(Some(heard)) => return Ok(Some(heard)),
                Err(Errno::EAGAIN) => return Ok(None),
                Err(Errno::EINTR) => {}
                Err(errno) => {
                    let action = format!("receive on {}", self.interface);
                    return Err(NetError::Kernel { action, source: errno.into() });
                }
            }
        }
    }

    /// `None`: a frame that says nothing, or one of this machine's own.
    fn receive(&self) -> nix::Result<Option<Heard>> {
        #[repr(C, align(8))]
        struct Control([u8; 128]);
        let mut frame = [0u8; FRAME];
        let mut control = Control([0; 128]);
        // SAFETY: all zeroes are a valid value of these two structures of numbers and pointers.
        let (mut from, mut message): (libc::sockaddr_ll, libc::msghdr) = unsafe { std::mem::zeroed() };
        let mut part = libc::iovec { iov_base: frame.as_mut_ptr().cast(), iov_len: frame.len() };
        message.msg_name = (&raw mut from).cast();
        message.msg_namelen = size_of::<libc::sockaddr_ll>() as libc::socklen_t;
        message.msg_iov = &raw mut part;
        message.msg_iovlen = 1;
        message.msg_control = (&raw mut control).cast();
        message.msg_controllen = size_of::<Control>() as _;
        // SAFETY: every pointer in the message is to memory that lives until the end of this function, with its length beside it.
        let length = Errno::result(unsafe { libc::recvmsg(self.socket.as_raw_fd(), &raw mut message, 0) })?;
        let tag = tag_of(&message);
        if from.sll_pkttype == libc::PACKET_OUTGOING {
            return Ok(None);
        }
        let length = usize::try_from(length).unwrap_or_default().min(FRAME);
        Ok(Heard::parse(&frame[..length]).map(|heard| Heard { vlan: tag.or(heard.vlan), ..heard }))
    }

    fn bind(&self, index: c_int) -> io::Result<()> {
        // SAFETY: all zeroes are a valid value of this structure of numbers.
        let mut address: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
        address.sll_family = libc::AF_PACKET as libc::c_ushort;
        address.sll_protocol = (libc::ETH_P_ALL as u16).to_be();
        address.sll_ifindex = index;
        let length = size_of::<libc::sockaddr_ll>() as libc::socklen_t;
        // SAFETY: the address lives longer than the call, which reads that many bytes of it.
        Errno::result(unsafe { libc::bind(self.socket.as_raw_fd(), (&raw const address).cast(), length) })?;
        Ok(())
    }

    fn option<T>(&self, option: c_int, value: &T) -> io::Result<()> {
        self.set(libc::SOL_PACKET, option, value)
    }

    fn set<T>(&self, level: c_int, option: c_int, value: &T) -> io::Result<()> {
        let (value, length) = (std::ptr::from_ref(value).cast(), size_of::<T>() as libc::socklen_t);
        // SAFETY: the value lives longer than the call, which reads that many bytes of it.
        Errno::result(unsafe { libc::setsockopt(self.socket.as_raw_fd(), level, option, value, length) })?;
        Ok(())
    }

    /// Lets through ARP, ICMPv6 of types 135 and 136, and what has its VLAN tag in the frame.
    fn filter(&self) -> io::Result<()> {
        const LOAD_HALF: u16 = 0x28;
        const LOAD_BYTE: u16 = 0x30;
        const JUMP_IF_EQUAL: u16 = 0x15;
        const RETURN: u16 = 0x06;
        let step = |code, k, jt, jf| libc::sock_filter { code, jt, jf, k };
        let mut program = [
            step(LOAD_HALF, 12, 0, 0),
            step(JUMP_IF_EQUAL, 0x0806, 7, 0),
            step(JUMP_IF_EQUAL, 0x8100, 6, 0),
            step(JUMP_IF_EQUAL, 0x86dd, 0, 6),
            step(LOAD_BYTE, 14 + 6, 0, 0),
            step(JUMP_IF_EQUAL, 58, 0, 4),
            step(LOAD_BYTE, 14 + 40, 0, 0),
            step(JUMP_IF_EQUAL, 135, 1, 0),
            step(JUMP_IF_EQUAL, 136, 0, 1),
            step(RETURN, FRAME as u32, 0, 0),
            step(RETURN, 0, 0, 0),
        ];
        let program = libc::sock_fprog { len: program.len() as libc::c_ushort, filter: program.as_mut_ptr() };
        self.set(libc::SOL_SOCKET, libc::SO_ATTACH_FILTER, &program)
    }
}

impl AsFd for Wiretap {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// The VLAN that the kernel, or the card, took out of the frame.
fn tag_of(message: &libc::msghdr) -> Option<u16> {
    // SAFETY: the kernel has filled the message's control buffer, which outlives this call, and set its length.
    let header = unsafe { libc::CMSG_FIRSTHDR(message).as_ref() }?;
    let wanted = (libc::SOL_PACKET, libc::PACKET_AUXDATA);
    let long_enough = header.cmsg_len as usize >= size_of::<libc::cmsghdr>() + size_of::<libc::tpacket_auxdata>();
    if (header.cmsg_level, header.cmsg_type) != wanted || !long_enough {
        return None;
    }
    // SAFETY: a header of this type, and of at least this length, is followed by this structure.
    let data = unsafe { libc::CMSG_DATA(header).cast::<libc::tpacket_auxdata>().read_unaligned() };
    let tagged = data.tp_status & libc::TP_STATUS_VLAN_VALID != 0;
    Some(data.tp_vlan_tci & 0xfff).filter(|id| tagged && *id != 0)
}
