//! What may happen next, and how it reads.

use crate::{
    md::disks_of,
    world::{Content, DISKS, Power, Role, Running, SERVERS, World},
};
use atlas_model::RefusalCode;
use std::fmt;

/// What the members of a running set have written down when the power goes.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) enum Moment {
    AtRest,
    /// While something is being written: all members say so.
    InUse,
    /// Between the superblocks of two members: this disk has the newer one.
    Between(usize),
}

/// What comes in the way of a boot.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) enum Trouble {
    Nothing,
    /// A disk appears long after the others, and its controller says so.
    Slow(usize),
    /// A disk appears a moment after the others, and nothing said so.
    Silent(usize),
    /// Debian's own scripts have md assemble what it finds, before ATLAS looks.
    Assembled,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) enum Event {
    Pull {
        disk: usize,
    },
    /// The power goes while the loss of the disk is being written down.
    PullAndCut {
        disk: usize,
    },
    Push {
        disk: usize,
        server: usize,
    },
    Boot {
        server: usize,
        trouble: Trouble,
    },
    ShutDown {
        server: usize,
    },
    Cut {
        server: usize,
        moment: Moment,
    },
    Write {
        server: usize,
    },
    /// Something on a refused server mounts what is started there, and writes to it.
    WriteAfterRefusal {
        server: usize,
    },
    Copy {
        from: usize,
        to: usize,
    },
    Replace {
        server: usize,
        disk: usize,
    },
    Filled {
        server: usize,
    },
    Backup {
        server: usize,
        disk: usize,
    },
    Init {
        server: usize,
    },
    Join {
        server: usize,
    },
    Accept {
        server: usize,
        disk: Option<usize>,
    },
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let disk = |number: &usize| format!("disk {}", number + 1);
        let server = |number: &usize| char::from(b'A' + *number as u8);
        match self {
            Event::Pull { disk: of } => write!(f, "pull {}", disk(of)),
            Event::PullAndCut { disk: of } => write!(f, "pull {}, and the power goes as that is noticed", disk(of)),
            Event::Push { disk: of, server: into } => write!(f, "push {} into {}", disk(of), server(into)),
            Event::Boot { server: of, trouble: Trouble::Nothing } => write!(f, "boot {}", server(of)),
            Event::Boot { server: of, trouble: Trouble::Slow(late) } => {
                write!(f, "boot {}, {} appearing late", server(of), disk(late))
            }
            Event::Boot { server: of, trouble: Trouble::Silent(late) } => {
                write!(f, "boot {}, {} appearing unannounced", server(of), disk(late))
            }
            Event::Boot { server: of, trouble: Trouble::Assembled } => {
                write!(f, "boot {}, where md assembles what it finds", server(of))
            }
            Event::ShutDown { server: of } => write!(f, "shut {} down", server(of)),
            Event::Cut { server: of, moment: Moment::AtRest } => write!(f, "cut {}'s power", server(of)),
            Event::Cut { server: of, moment: Moment::InUse } => write!(f, "cut {}'s power during a write", server(of)),
            Event::Cut { server: of, moment: Moment::Between(first) } => {
                write!(f, "cut {}'s power when only {} was marked as in use", server(of), disk(first))
            }
            Event::Write { server: of } => write!(f, "write on {}", server(of)),
            Event::WriteAfterRefusal { server: of } => write!(f, "mount what is started on {}, and write", server(of)),
            Event::Copy { from, to } => write!(f, "copy {} to {}", disk(from), disk(to)),
            Event::Replace { server: of, disk: by } => write!(f, "add {} to the set on {}", disk(by), server(of)),
            Event::Filled { server: of } => write!(f, "the set on {} is filled", server(of)),
            Event::Backup { server: of, disk: onto } => {
                write!(f, "take a backup of {} onto {}", server(of), disk(onto))
            }
            Event::Init { server: of } => write!(f, "atlas init --role PRI --cluster brewery on {}", server(of)),
            Event::Join { server: of } => write!(f, "atlas init --role SEC1 on {}", server(of)),
            Event::Accept { server: of, disk: None } => write!(f, "accept it on {}", server(of)),
            Event::Accept { server: of, disk: Some(with) } => {
                write!(f, "accept it on {}, going on with {}", server(of), disk(with))
            }
        }
    }
}

impl World {
    /// Everything that may happen next.
    pub(crate) fn events(&self, events: &mut Vec<Event>) {
        for disk in 0..DISKS {
            self.events_of_disk(disk, events);
        }
        for server in 0..SERVERS {
            match self.servers[server].power {
                Power::Off => self.boots(server, events),
                Power::Refused { code, fingerprint, started } => {
                    self.boots(server, events);
                    events.push(Event::ShutDown { server });
                    if started != 0 {
                        events.push(Event::WriteAfterRefusal { server });
                    }
                    if fingerprint.is_some() && code.risk_of_accepting().is_some() {
                        self.acceptances(server, code, events);
                    }
                    let disks = self.in_bays(server);
                    if disks != 0 && disks_of(disks).all(|disk| self.disks[disk].content == Content::Blank) {
                        events.extend([Event::Init { server }, Event::Join { server }]);
                    }
                }
                Power::Running(running) => self.events_of_running(server, &running, events),
            }
        }
    }

    fn events_of_disk(&self, disk: usize, events: &mut Vec<Event>) {
        match self.disks[disk].bay {
            Some(_) => {
                events.push(Event::Pull { disk });
                if self.in_use() & 1 << disk != 0 {
                    events.push(Event::PullAndCut { disk });
                }
            }
            None => events.extend((0..SERVERS).map(|server| Event::Push { disk, server })),
        }
        // A copy is made at a bench: of a disk that is not in use, onto one that is on the shelf.
        let source = self.in_use() & 1 << disk == 0 && self.disks[disk].content != Content::Blank;
        if source {
            events.extend(
                (0..DISKS)
                    .filter(|to| *to != disk && self.disks[*to].bay.is_none())
                    .map(|to| Event::Copy { from: disk, to }),
            );
        }
    }

    fn boots(&self, server: usize, events: &mut Vec<Event>) {
        events.push(Event::Boot { server, trouble: Trouble::Nothing });
        let disks = disks_of(self.in_bays(server)).filter(|disk| self.disks[*disk].content != Content::Blank);
        if disks.clone().any(|disk| self.disks[disk].member().is_some()) {
            events.push(Event::Boot { server, trouble: Trouble::Assembled });
        }
        if disks.clone().count() > 1 {
            let late = disks.flat_map(|late| [Trouble::Slow(late), Trouble::Silent(late)]);
            events.extend(late.map(|trouble| Event::Boot { server, trouble }));
        }
    }

    fn acceptances(&self, server: usize, code: RefusalCode, events: &mut Vec<Event>) {
        if code == RefusalCode::WrittenApart {
            let members = disks_of(self.in_bays(server)).filter(|disk| self.disks[*disk].member().is_some());
            events.extend(members.map(|disk| Event::Accept { server, disk: Some(disk) }));
        } else {
            events.push(Event::Accept { server, disk: None });
        }
    }

    fn events_of_running(&self, server: usize, running: &Running, events: &mut Vec<Event>) {
        events.extend([Event::ShutDown { server }, Event::Cut { server, moment: Moment::AtRest }]);
        if running.disks == 0 {
            return;
        }
        let mut members = disks_of(running.disks).filter(|disk| self.disks[*disk].member().is_some()).peekable();
        if members.peek().is_some() {
            events.push(Event::Cut { server, moment: Moment::InUse });
        }
        if running.disks.count_ones() > 1 {
            events.extend(disks_of(running.disks).map(|first| Event::Cut { server, moment: Moment::Between(first) }));
        }
        events.push(Event::Write { server });
        if members.peek().is_none() {
            return;
        }
        let idle = disks_of(self.in_bays(server) & !running.disks);
        if members.clone().any(|disk| self.disks[disk].member().is_some_and(|member| member.rebuilding)) {
            events.push(Event::Filled { server });
        } else if self.md_is_whole(running.disks) {
            events.extend(idle.map(|disk| Event::Backup { server, disk }));
        } else {
            events.extend(idle.map(|disk| Event::Replace { server, disk }));
        }
    }

    /// What a boot ended in, to be read after its event.
    pub(crate) fn outcome(&self, event: Event) -> String {
        let Event::Boot { server, .. } = event else { return String::new() };
        match self.servers[server].power {
            Power::Refused { code, .. } => format!(" (refused: {code})"),
            Power::Running(running) if running.role == Role::Pri => " (PRI)".into(),
            Power::Running(_) => " (SEC1)".into(),
            Power::Off => String::new(),
        }
    }
}
