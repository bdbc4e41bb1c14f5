//! What an event does to the world.

use crate::{
    boot::{Repairs, is_foreign},
    event::{Event, Moment},
    md::{Change, disks_of},
    world::{Accepted, Data, Mask, Power, Record, Role, Running, SERVERS, World},
};

use atlas_model::members::Members;
use std::time::Duration;

impl World {
    /// What it is like after the event.
    pub(crate) fn after(&self, event: Event, repairs: &Repairs) -> World {
        let mut next = self.clone();
        match event {
            Event::Pull { disk } => next.pull(disk, repairs),
            Event::PullAndCut { disk } => next.pull_and_cut(disk),
            Event::Push { disk, server } => next.disks[disk].bay = Some(server),
            Event::Boot { server, trouble } => next.boot(server, trouble, repairs),
            Event::ShutDown { server } => {
                next.change_file_system(server);
                next.servers[server].power = Power::Off;
            }
            Event::Cut { server, moment } => next.cut(server, moment),
            Event::Write { server } => next.write(server),
            Event::WriteAfterRefusal { server } => next.write_after_refusal(server),
            Event::Copy { from, to } => next.copy(from, to),
            Event::Replace { server, disk } => next.with_array(server, |world, members, can| {
                world.md_add(members, disk, can);
                members | 1 << disk
            }),
            Event::Filled { server } => next.with_array(server, |world, members, can| {
                world.md_filled(members, can);
                members
            }),
            Event::Backup { server, disk } => {
                next.with_array(server, |world, members, can| {
                    world.md_backup(members, disk, can);
                    members
                });
                next.disks[disk].bay = None;
            }
            Event::Init { server } => next.init(server, Role::Pri, 1, repairs),
            Event::Join { server } => next.init(server, Role::Sec1, next.servers[server].cluster, repairs),
            Event::Accept { server, disk } => next.accept(server, disk),
        }
        next
    }

    /// Does something with the array of a running server; `act` gives its members afterwards.
    fn with_array(&mut self, server: usize, act: impl FnOnce(&mut World, Mask, &mut bool) -> Mask) {
        let Some(&Running { disks, mut can_decrease, .. }) = self.servers[server].running() else { return };
        let disks = act(self, disks, &mut can_decrease);
        if let Some(running) = self.servers[server].running_mut() {
            (running.disks, running.can_decrease) = (disks, can_decrease);
        }
        let holders = self.complete(disks);
        if let Some(data) = disks_of(holders).find_map(|disk| self.disks[disk].data()) {
            self.known.holders[data.branch as usize] = holders;
        }
    }

    /// What these disks held is gone.
    fn forget(&mut self, disks: Mask) {
        self.known.holders.iter_mut().for_each(|holders| *holders &= !disks);
    }

    pub(crate) fn busy(&mut self, server: usize) {
        self.with_array(server, |world, members, can| {
            world.md_update(members, can, Change::Busy);
            members
        });
    }

    pub(crate) fn rest(&mut self, server: usize) {
        self.with_array(server, |world, members, can| {
            world.md_update(members, can, Change::Rest);
            members
        });
    }

    /// The server that has the disk in use.
    fn user_of(&self, disk: usize) -> Option<usize> {
        (0..SERVERS)
            .find(|server| self.servers[*server].running().is_some_and(|running| running.disks & 1 << disk != 0))
    }

    fn pull(&mut self, disk: usize, repairs: &Repairs) {
        self.disks[disk].bay = None;
        let Some(server) = self.user_of(disk) else { return };
        let before = self.servers[server].running().map_or(0, |running| running.disks);
        self.with_array(server, |world, members, can| {
            let left = members & !(1 << disk);
            world.md_lost(left, can);
            left
        });
        let is_lost = self.is_lost(before, disk);
        if let Some(running) = self.servers[server].running_mut()
            && is_lost
        {
            running.disks = 0;
            running.open = !repairs.keeper;
        }
    }

    /// What the keeper of the gate says when, of the members that the kernel lists, one is pulled.
    fn is_lost(&self, members: Mask, pulled: usize) -> bool {
        let name = |disk: usize| format!("disk {disk}");
        let mut known = Members::default();
        known.consist_of(&disks_of(self.complete(members)).map(name).collect::<Vec<_>>());
        known.is_gone(&name(pulled));
        known.are_lost(Duration::ZERO)
    }

    fn pull_and_cut(&mut self, disk: usize) {
        self.disks[disk].bay = None;
        let Some(server) = self.user_of(disk) else { return };
        self.with_array(server, |world, members, can| {
            let left = members & !(1 << disk);
            world.md_update(left, can, Change::Members);
            left
        });
        self.servers[server].power = Power::Off;
    }

    fn cut(&mut self, server: usize, moment: Moment) {
        match moment {
            Moment::AtRest => {}
            Moment::InUse => self.busy(server),
            Moment::Between(first) => self.with_array(server, |world, members, _| {
                let before = world.clone();
                world.md_update(members, &mut false, Change::Busy);
                disks_of(members & !(1 << first)).for_each(|disk| world.disks[disk] = before.disks[disk]);
                members
            }),
        }
        self.servers[server].power = Power::Off;
    }

    /// A write that a client gets an answer to; on PRI it ends in a cycle with the partners that run.
    pub(crate) fn write(&mut self, server: usize) {
        let Some(data) = self.mounted(server) else { return };
        let write = 1 << self.known.writes;
        self.known.writes += 1;
        self.busy(server);
        let disks = self.servers[server].running().map_or(0, |running| running.disks);
        self.change_data(self.complete(disks), |data| data.writes |= write);
        self.rest(server);
        if data.role == Role::Pri {
            self.known.expected[data.branch as usize] |= write;
            self.take_snapshot(server);
            for partner in (0..SERVERS).filter(|partner| *partner != server) {
                let of = self.servers[partner].running().copied();
                if of.is_some_and(|of| of.open && of.role == Role::Sec1 && of.cluster == data.cluster) {
                    self.take_snapshot(partner);
                }
            }
        }
    }

    /// The first Snapshot of a set: the identity that its server wears is the Role's from now on.
    fn take_snapshot(&mut self, server: usize) {
        let Some(data) = self.mounted(server).filter(|data| data.snapshot.is_none()) else { return };
        let worn = self.servers[server].worn;
        let disks = self.servers[server].running().map_or(0, |running| running.disks);
        self.change_data(disks, |data| data.snapshot = Some(worn));
        self.known.owner[worn as usize].get_or_insert(data.set);
        self.servers[server].record = Record::Of { role: data.role, cluster: data.cluster, set: data.set };
    }

    pub(crate) fn write_after_refusal(&mut self, server: usize) {
        let Power::Refused { started, .. } = self.servers[server].power else { return };
        self.md_open(started & self.in_bays(server), &mut false);
        let stamp = self.new_stamp();
        self.change_data(started, |data| data.stamp = stamp);
    }

    fn copy(&mut self, from: usize, to: usize) {
        self.disks[to].content = self.disks[from].content;
        self.forget(1 << to);
        if let Some(data) = self.disks[from].data() {
            let branch = self.branch(data.writes);
            self.disks[to].data_mut().into_iter().for_each(|data| data.branch = branch);
            self.known.holders[branch as usize] = self.complete(1 << to);
        }
    }

    /// `atlas init` on the disks in the bays. Where the identity in place is another Role's, it asks for one of its own.
    pub(crate) fn init(&mut self, server: usize, role: Role, cluster: u8, repairs: &Repairs) {
        let disks = self.in_bays(server);
        let set = self.known.sets;
        self.known.sets += 1;
        if repairs.worn_record && is_foreign(self.servers[server].record, role, cluster, set) {
            self.servers[server].worn = self.new_ident();
            self.servers[server].record = Record::Own;
        }
        let (branch, stamp) = (self.branch(0), self.new_stamp());
        self.md_create(disks, set, Data { set, stamp, role, cluster, snapshot: None, writes: 0, branch });
        self.forget(disks);
        self.known.holders[branch as usize] = disks;
        self.servers[server].cluster = cluster;
        // It takes its Role when it is booted.
        self.servers[server].power = Power::Off;
    }

    fn accept(&mut self, server: usize, disk: Option<usize>) {
        if let Power::Refused { code, fingerprint: Some(fingerprint), .. } = self.servers[server].power {
            self.servers[server].acceptance = Some(Accepted { code, fingerprint, disk });
        }
    }
}
