//! A boot: the facts are gathered from the model's disks, and the product's own functions decide.

use crate::{
    event::Trouble,
    look::Bench,
    md::{Member, disks_of},
    world::{Accepted, CLUSTERS, Content, DISKS, Data, Fault, Mask, Power, Record, Role, Running, World},
};
use atlas_boot::refuse;
use atlas_model::{
    Acceptance, Digest, RefusalCode, UNBOUND_LABEL,
    ext4::{self, Ext4Superblock},
    set_record::{MadeOf, RecordedMember, SetRecord},
    survey::{self, Device, SetChoice, SetKind, Single, Survey, Trace},
    worn::{RoleIdentity, Worn},
};
use std::{cell::RefCell, collections::HashMap, time::Duration};

/// What keeps a fault from happening. Each can be taken out, to see that the model finds the fault then.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Repairs {
    /// Superblocks are looked at before anything is started; without it, md starts what it takes for a set.
    pub(crate) survey: bool,
    /// The Bound disk says whose identity is in place.
    pub(crate) worn_record: bool,
    /// A server that lost all its disks stops sending.
    pub(crate) keeper: bool,
    /// Addresses are asked for before they are taken.
    pub(crate) address_probe: bool,
    /// What md started by itself is stopped.
    pub(crate) no_other_assembly: bool,
    /// Slow disks are waited for before anything is decided.
    pub(crate) patience: bool,
}

pub(crate) const ALL: Repairs = Repairs {
    survey: true,
    worn_record: true,
    keeper: true,
    address_probe: true,
    no_other_assembly: true,
    patience: true,
};

/// Of each disk, in bytes.
const SIZE: u64 = 1 << 40;

/// What decides of a disk's content. What does not is left out, so that one decision stands for many worlds.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
struct Facts {
    member: Option<Member>,
    file_system: Option<(u8, u8)>,
}

/// The disks to start from, and what had to be accepted for them.
#[derive(Clone, Copy, Debug)]
struct Chosen {
    disks: Mask,
    accepted: Option<RefusalCode>,
}

#[derive(Clone, Copy, Debug)]
struct Refused {
    code: RefusalCode,
    fingerprint: Option<Digest>,
    /// What is mounted all the same.
    started: Mask,
}

type Decision = Result<Chosen, Refused>;
type Question = ([Option<Facts>; DISKS], Option<Accepted>, Trouble);

thread_local! {
    /// Decisions are pure: each is made once.
    static KNOWN: RefCell<HashMap<Question, Decision>> = RefCell::default();
}

impl World {
    pub(crate) fn boot(&mut self, server: usize, trouble: Trouble, repairs: &Repairs) {
        let started = if trouble == Trouble::Assembled { self.assembled_by_md(server) } else { 0 };
        let (chosen, started) = match trouble {
            _ if !repairs.survey => (self.choose_as_md(server), 0),
            Trouble::Assembled if !repairs.no_other_assembly => (self.choose(server, Trouble::Nothing), started),
            Trouble::Slow(late) | Trouble::Silent(late) if !repairs.patience => (self.choose_hastily(server, late), 0),
            // What md started is stopped: see `look.rs`.
            _ => (self.choose(server, trouble), 0),
        };
        if chosen.is_err() && self.has_all_of_one_set(server) {
            self.blame(Fault::Needless);
        }
        let outcome = chosen.and_then(|chosen| {
            if started != 0 {
                return Err(Refused { code: RefusalCode::AssembleFailed, fingerprint: None, started: 0 });
            }
            self.take_role(server, chosen, repairs)
        });
        if let Err(Refused { code, fingerprint, started: mounted }) = outcome {
            self.servers[server].power = Power::Refused { code, fingerprint, started: started | mounted };
        }
    }

    /// Decides as a boot does.
    fn choose(&self, server: usize, trouble: Trouble) -> Decision {
        let disks = self.in_bays(server);
        let facts = std::array::from_fn(|disk| (disks & 1 << disk != 0).then(|| Facts::of(&self.disks[disk].content)));
        let question = (facts, self.servers[server].acceptance, trouble);
        let known = KNOWN.with_borrow(|known| known.get(&question).copied());
        known.unwrap_or_else(|| {
            let acceptance = question.1.as_ref().map(acceptance);
            let started = if trouble == Trouble::Assembled { self.assembled_by_md(server) } else { 0 };
            let mut bench = Bench { world: self, disks, trouble, started, now: Duration::ZERO };
            let decision = match bench.decide(acceptance.as_ref()) {
                Ok(found) => Ok(Chosen {
                    disks: disks_in(&found.choice),
                    accepted: acceptance.filter(|_| found.accepted).map(|acceptance| acceptance.code),
                }),
                Err(refusal) => Err(Refused { code: refusal.code, fingerprint: refusal.fingerprint, started: 0 }),
            };
            assert_eq!(bench.started, 0, "what md started is in the way");
            KNOWN.with_borrow_mut(|known| known.insert(question, decision));
            decision
        })
    }

    /// What the first look finds, while the disk `late` is still being probed. Only what lacks a disk is waited for.
    fn choose_hastily(&mut self, server: usize, late: usize) -> Decision {
        let all = self.choose(server, Trouble::Nothing);
        let first = self.survey(self.in_bays(server) & !(1 << late)).choose(None);
        match first {
            Ok(choice) => {
                let chosen = Chosen { disks: disks_in(&choice), accepted: None };
                if all.ok().is_none_or(|other| other.disks != chosen.disks) {
                    self.blame(Fault::Hasty);
                }
                Ok(chosen)
            }
            Err(_) => all,
        }
    }

    /// What md starts, taken for the answer.
    fn choose_as_md(&self, server: usize) -> Decision {
        let single =
            disks_of(self.in_bays(server)).find(|disk| matches!(self.disks[*disk].content, Content::Single(_)));
        let disks = single.map_or_else(|| self.assembled_by_md(server), |disk| 1 << disk);
        let nothing = Refused { code: RefusalCode::NoUnboundSet, fingerprint: None, started: 0 };
        if disks == 0 { Err(nothing) } else { Ok(Chosen { disks, accepted: None }) }
    }

    /// What Debian's `mdadm --assemble --scan --run` starts of the first array that it finds: all members that are not behind.
    fn assembled_by_md(&self, server: usize) -> Mask {
        let members = || disks_of(self.in_bays(server)).filter_map(|disk| Some((disk, self.disks[disk].member()?)));
        let set = members().map(|(_, member)| member.set).min();
        self.md_assemble(members().filter(|(_, member)| Some(member.set) == set).map(|(disk, _)| 1 << disk).sum())
    }

    fn take_role(&mut self, server: usize, chosen: Chosen, repairs: &Repairs) -> Result<(), Refused> {
        let refused = |code| Err(Refused { code, fingerprint: None, started: 0 });
        let is_array = disks_of(chosen.disks).any(|disk| self.disks[disk].member().is_some());
        let disks = if is_array { self.md_assemble(chosen.disks) } else { chosen.disks };
        let newest = |world: &World| {
            disks_of(world.complete(disks)).filter_map(|disk| world.disks[disk].data()).max_by_key(|data| data.branch)
        };
        let Some(data) = newest(self) else { return refused(RefusalCode::AssembleFailed) };
        let mut accepted = chosen.accepted;
        if data.cluster != self.servers[server].cluster {
            accepted = accepted.or(Some(self.unless_accepted(server, &data)?));
        }
        if data.snapshot.is_none() && repairs.worn_record && self.wears_foreign(server, &data) {
            return refused(RefusalCode::ForeignIdentity);
        }
        if accepted.is_some() {
            self.servers[server].acceptance = None;
        }
        self.open(disks, accepted);
        let Data { set, role, cluster, snapshot, .. } = newest(self).unwrap_or(data);
        let this = &mut self.servers[server];
        if let Some(ident) = snapshot {
            this.worn = ident;
            this.record = Record::Of { role, cluster, set };
        }
        // Whoever accepted that another server may have its addresses still has them asked for, when all is mounted and in place.
        let address_accepted = if repairs.address_probe {
            self.addresses_answered(server, disks)?
        } else {
            accepted.is_some_and(takes_addresses)
        };
        let running = Running { disks, set, role, cluster, open: true, address_accepted, can_decrease: false };
        self.servers[server].power = Power::Running(running);
        self.change_file_system(server);
        Ok(())
    }

    /// Asks for the addresses of the identity in place: whether somebody has them, and that was accepted. The set stays mounted where the
    /// gate stays closed.
    fn addresses_answered(&mut self, server: usize, disks: Mask) -> Result<bool, Refused> {
        let ident = self.servers[server].worn;
        let is_answered = (0..self.servers.len())
            .any(|other| other != server && self.servers[other].sends() && self.servers[other].worn == ident);
        if !is_answered {
            return Ok(false);
        }
        let (code, fingerprint) = (RefusalCode::AddressInUse, Digest::of(&[ident]));
        let is_it = |accepted: Accepted| (accepted.code, accepted.fingerprint) == (code, fingerprint);
        if self.servers[server].acceptance.take_if(|accepted| is_it(*accepted)).is_some() {
            return Ok(true);
        }
        let stamp = self.new_stamp();
        self.change_data(disks, |data| data.stamp = stamp);
        Err(Refused { code, fingerprint: Some(fingerprint), started: disks })
    }

    fn wears_foreign(&self, server: usize, data: &Data) -> bool {
        is_foreign(self.servers[server].record, data.role, data.cluster, data.set)
    }

    /// Opens the disks for writing, and notes what was acknowledged and is not there.
    fn open(&mut self, disks: Mask, accepted: Option<RefusalCode>) {
        let is_member = |disk: &usize| self.disks[*disk].member().is_some();
        let members: Mask = disks_of(disks).filter(is_member).map(|disk| 1 << disk).sum();
        let branch =
            disks_of(disks).filter_map(|disk| self.disks[disk].data()).map(|data| data.branch).max().unwrap_or(0);
        self.md_open(members, &mut false);
        let complete = self.complete(disks);
        let contents = disks_of(complete).filter_map(|disk| self.disks[disk].data());
        let writes = contents.fold(!0, |all, data| all & data.writes);
        let branch = if accepted.is_some_and(gives_writes_up) {
            self.branch(writes)
        } else {
            if self.known.expected[branch as usize] & !writes != 0 {
                self.blame(Fault::LostWrite);
            }
            branch
        };
        self.change_data(disks, |data| data.branch = branch);
        self.known.holders[branch as usize] = complete;
    }

    /// A mount or an unmount: the file system's superblock is written.
    pub(crate) fn change_file_system(&mut self, server: usize) {
        self.busy(server);
        let stamp = self.new_stamp();
        let disks = self.servers[server].running().map_or(0, |running| running.disks);
        self.change_data(disks, |data| data.stamp = stamp);
        self.rest(server);
    }

    fn unless_accepted(&self, server: usize, data: &Data) -> Result<RefusalCode, Refused> {
        let this = &self.servers[server];
        let refusal = refuse::foreign_cluster(
            CLUSTERS[data.cluster as usize],
            CLUSTERS[this.cluster as usize],
            &superblock(data),
        );
        let is_it =
            |accepted: Accepted| accepted.code == refusal.code && Some(accepted.fingerprint) == refusal.fingerprint;
        let refused = Refused { code: refusal.code, fingerprint: refusal.fingerprint, started: 0 };
        if this.acceptance.is_some_and(is_it) { Ok(refusal.code) } else { Err(refused) }
    }

    /// What a survey of these disks finds.
    pub(crate) fn survey(&self, disks: Mask) -> Survey {
        let mut survey = Survey::default();
        for disk in disks_of(disks) {
            let (path, serial) = (device(disk), Some(format!("S{}", disk + 1)));
            let (device, md_serial) = (path.clone(), serial.clone());
            let mut found = Device { path: path.into(), serial, size_bytes: SIZE, ..Device::default() };
            match &self.disks[disk].content {
                Content::Blank => found.traces.push(Trace::Blank),
                Content::Member(member, data) => {
                    let (md, ext4) = (member.superblock(), Some(superblock(data)));
                    survey.members.push(survey::Member { device, serial: md_serial, md, ext4 });
                }
                Content::Single(data) => {
                    let ext4 = superblock(data);
                    let made_of = vec![RecordedMember { serial: md_serial.clone(), size_bytes: SIZE }];
                    found.has_sid_data = Some(true);
                    found.record = Some(Ok(SetRecord::new(MadeOf::Single, ext4.uuid_text(), made_of)));
                    survey.singles.push(Single { device, serial: md_serial, ext4 });
                }
            }
            survey.devices.push(found);
        }
        survey
    }
}

impl Facts {
    fn of(content: &Content) -> Facts {
        match content {
            Content::Blank => Facts { member: None, file_system: None },
            Content::Member(member, data) => Facts { member: Some(*member), file_system: Some((data.set, data.stamp)) },
            Content::Single(data) => Facts { member: None, file_system: Some((data.set, data.stamp)) },
        }
    }
}

/// The device of a disk, in whichever server it is.
fn device(disk: usize) -> String {
    format!("/dev/vd{}", char::from(b'b' + disk as u8))
}

fn disks_in(choice: &SetChoice) -> Mask {
    let devices = match &choice.kind {
        SetKind::Mirror { devices, .. } => devices.as_slice(),
        SetKind::Single { device } => std::slice::from_ref(device),
    };
    (0..DISKS).filter(|disk| devices.contains(&device(*disk))).map(|disk| 1 << disk).sum()
}

fn superblock(data: &Data) -> Ext4Superblock {
    Ext4Superblock {
        uuid: [data.set + 1; 16],
        mounted: data.stamp.into(),
        ..ext4::testing::superblock(UNBOUND_LABEL, u32::from(data.stamp))
    }
}

/// Whether the operator was told that what is not on these disks is given up: only then is it.
fn gives_writes_up(code: RefusalCode) -> bool {
    code.risk_of_accepting().is_some_and(|risk| risk.contains("what was written"))
}

/// Whether the operator was told that two servers may have one address.
fn takes_addresses(code: RefusalCode) -> bool {
    code.risk_of_accepting().is_some_and(|risk| risk.contains("two servers"))
}

fn acceptance(accepted: &Accepted) -> Acceptance {
    Acceptance {
        format: 1,
        code: accepted.code,
        fingerprint: accepted.fingerprint,
        device: accepted.disk.map(device),
        by: "root".into(),
        reason: "the model".into(),
        at: 0,
        found: vec![],
    }
}

fn role_identity(role: Role, cluster: u8, set: u8) -> RoleIdentity {
    let role = match role {
        Role::Pri => atlas_model::Role::Pri,
        Role::Sec1 => atlas_model::Role::Sec(1),
    };
    let cluster = CLUSTERS[cluster as usize].parse().unwrap();
    RoleIdentity { role, cluster, set: Some(format!("set {set}")), paths: vec![] }
}

/// Whether the identity in place has to be given up before this server takes a Role of a set that has none yet.
pub(crate) fn is_foreign(record: Record, role: Role, cluster: u8, set: u8) -> bool {
    let worn = match record {
        Record::Own => Worn::OWN,
        Record::Of { role, cluster, set } => Worn::of(role_identity(role, cluster, set)),
    };
    worn.foreign_to(&role_identity(role, cluster, set)).is_some()
}
