//! What there is: disks, servers, and what only the model knows (which writes were acknowledged).

use crate::md::{Member, disks_of};
use atlas_model::{Digest, RefusalCode};

pub(crate) const DISKS: usize = 3;
pub(crate) const SERVERS: usize = 2;
/// Sets of clusters' names: the one that all begin with, and the one that `init` makes.
pub(crate) const CLUSTERS: [&str; 2] = ["bakery", "brewery"];

/// A set of disks, one bit each.
pub(crate) type Mask = u8;
/// A set of acknowledged writes, one bit each.
pub(crate) type Writes = u16;
/// A name with its addresses and host keys.
pub(crate) type Ident = u8;

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) enum Role {
    Pri,
    Sec1,
}

/// A whole file system, as one disk has it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Data {
    /// Made by one `init`; the file system's UUID.
    pub(crate) set: u8,
    /// The state of its ext4 superblock: another one after each mount and each unmount.
    pub(crate) stamp: u8,
    pub(crate) role: Role,
    pub(crate) cluster: u8,
    /// The identity in the Role's Snapshot.
    pub(crate) snapshot: Option<Ident>,
    pub(crate) writes: Writes,
    /// Which line of writes this is part of; see [`Known::expected`].
    pub(crate) branch: u8,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) enum Content {
    Blank,
    Member(Member, Data),
    /// As a hardware RAID shows it: no superblock of md.
    Single(Data),
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Disk {
    /// The server whose bay it is in.
    pub(crate) bay: Option<usize>,
    pub(crate) content: Content,
}

/// What a Bound disk says of the identity that it wears.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) enum Record {
    Own,
    Of { role: Role, cluster: u8, set: u8 },
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Accepted {
    pub(crate) code: RefusalCode,
    pub(crate) fingerprint: Digest,
    pub(crate) disk: Option<usize>,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) enum Power {
    Off,
    /// Up, with the gate closed, after a refusal.
    Refused {
        code: RefusalCode,
        fingerprint: Option<Digest>,
        /// Members that are started although nobody decided so.
        started: Mask,
    },
    Running(Running),
}

/// A server that took a Role.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Running {
    /// The disks that it runs from; none after all were pulled.
    pub(crate) disks: Mask,
    pub(crate) set: u8,
    pub(crate) role: Role,
    pub(crate) cluster: u8,
    /// Whether it may send.
    pub(crate) open: bool,
    /// Somebody accepted that another server may have its addresses.
    pub(crate) address_accepted: bool,
    /// The array's clean flag may go back to the event count before.
    pub(crate) can_decrease: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Server {
    pub(crate) power: Power,
    /// The cluster on the Bound disk.
    pub(crate) cluster: u8,
    /// The identity on its root file system, in truth.
    pub(crate) worn: Ident,
    /// Whose identity it wears, as the Bound disk says.
    pub(crate) record: Record,
    pub(crate) acceptance: Option<Accepted>,
}

/// What no product can know, and the rules are judged by.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub(crate) struct Known {
    /// For each branch: the writes that were acknowledged on it. A branch begins where an operator accepts that writes may be missing, and
    /// where a disk is copied.
    pub(crate) expected: Vec<Writes>,
    /// For each branch: the disks that hold all of it.
    pub(crate) holders: Vec<Mask>,
    /// For each identity: the set whose Snapshot has it.
    pub(crate) owner: Vec<Option<u8>>,
    pub(crate) writes: u8,
    pub(crate) sets: u8,
    pub(crate) stamps: u8,
    /// Time, as far as md writes it down; and numbers of members.
    pub(crate) clock: u8,
    pub(crate) members: u8,
    pub(crate) fault: Option<Fault>,
}

/// What must never happen, noted where it does.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) enum Fault {
    /// A server took a Role with disks that lack an acknowledged write.
    LostWrite,
    /// Members of different content were started as one mirror.
    Mixed,
    /// The disks that appeared later would have changed the answer.
    Hasty,
    /// Disks with which nothing is wrong were refused.
    Needless,
}

#[derive(Clone, Debug)]
pub(crate) struct World {
    pub(crate) disks: [Disk; DISKS],
    pub(crate) servers: [Server; SERVERS],
    pub(crate) known: Known,
    /// How many events are left; no part of what makes two worlds equal.
    pub(crate) left: u8,
}

impl PartialEq for World {
    fn eq(&self, other: &World) -> bool {
        (self.disks, self.servers, &self.known) == (other.disks, other.servers, &other.known)
    }
}

impl std::hash::Hash for World {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        (self.disks, self.servers, &self.known).hash(state);
    }
}

impl Disk {
    pub(crate) fn data(&self) -> Option<Data> {
        match self.content {
            Content::Blank => None,
            Content::Member(_, data) | Content::Single(data) => Some(data),
        }
    }

    pub(crate) fn data_mut(&mut self) -> Option<&mut Data> {
        match &mut self.content {
            Content::Blank => None,
            Content::Member(_, data) | Content::Single(data) => Some(data),
        }
    }

    pub(crate) fn member(&self) -> Option<&Member> {
        match &self.content {
            Content::Member(member, _) => Some(member),
            _ => None,
        }
    }
}

impl Server {
    pub(crate) fn running(&self) -> Option<&Running> {
        match &self.power {
            Power::Running(running) => Some(running),
            _ => None,
        }
    }

    pub(crate) fn running_mut(&mut self) -> Option<&mut Running> {
        match &mut self.power {
            Power::Running(running) => Some(running),
            _ => None,
        }
    }

    /// Whether it sends: it runs in a Role, with its gate open.
    pub(crate) fn sends(&self) -> bool {
        self.running().is_some_and(|running| running.open)
    }
}

impl World {
    /// Two servers of one cluster that are off and have no disks, and three blank disks on the shelf.
    pub(crate) fn empty() -> World {
        let server = |worn| Server { power: Power::Off, cluster: 0, worn, record: Record::Own, acceptance: None };
        World {
            disks: [Disk { bay: None, content: Content::Blank }; DISKS],
            servers: [server(0), server(1)],
            known: Known { owner: vec![None, None], ..Known::default() },
            left: 0,
        }
    }

    /// The disks in a server's bays.
    pub(crate) fn in_bays(&self, server: usize) -> Mask {
        (0..DISKS).filter(|disk| self.disks[*disk].bay == Some(server)).map(|disk| 1 << disk).sum()
    }

    /// Disks that some server has in use.
    pub(crate) fn in_use(&self) -> Mask {
        self.servers.iter().filter_map(Server::running).fold(0, |mask, running| mask | running.disks)
    }

    /// The file system that a server runs from.
    pub(crate) fn mounted(&self, server: usize) -> Option<Data> {
        let disks = self.servers[server].running()?.disks;
        disks_of(self.complete(disks)).find_map(|disk| self.disks[disk].data())
    }

    /// Changes the file system on all of `disks`.
    pub(crate) fn change_data(&mut self, disks: Mask, change: impl Fn(&mut Data)) {
        for disk in disks_of(disks) {
            if let Some(data) = self.disks[disk].data_mut() {
                change(data);
            }
        }
    }

    /// A new line of writes that begins with what `writes` says.
    pub(crate) fn branch(&mut self, writes: Writes) -> u8 {
        self.known.expected.push(writes);
        self.known.holders.push(0);
        (self.known.expected.len() - 1) as u8
    }

    pub(crate) fn new_stamp(&mut self) -> u8 {
        self.known.stamps += 1;
        self.known.stamps
    }

    pub(crate) fn new_ident(&mut self) -> Ident {
        self.known.owner.push(None);
        (self.known.owner.len() - 1) as Ident
    }

    pub(crate) fn blame(&mut self, fault: Fault) {
        self.known.fault.get_or_insert(fault);
    }
}
