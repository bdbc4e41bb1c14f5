//! What histories begin with.

use crate::{
    boot,
    event::{Event, Moment, Trouble},
    world::{Content, Record, Role, World},
};

/// A beginning: how it came about, and what it is like.
#[derive(Clone, Debug)]
pub(crate) struct Beginning {
    pub(crate) name: &'static str,
    pub(crate) events: Vec<Event>,
    pub(crate) world: World,
}

const A: usize = 0;
const B: usize = 1;

impl Beginning {
    /// Follows a script from here on; everything in it has to be possible.
    fn then(mut self, name: &'static str, events: &[Event]) -> Beginning {
        for event in events {
            let mut possible = vec![];
            self.world.events(&mut possible);
            assert!(possible.contains(event), "{event} is not possible; what is: {possible:?}");
            self.world = self.world.after(*event, &boot::ALL);
            self.events.push(*event);
        }
        Beginning { name, ..self }
    }
}

/// Puts disks into a server, makes a set of them, and boots it.
fn set_up(world: &mut World, server: usize, disks: &[usize], role: Role) {
    disks.iter().for_each(|disk| world.disks[*disk].bay = Some(server));
    world.init(server, role, 0, &boot::ALL);
    if let [only] = disks
        && let Some(data) = world.disks[*only].data()
    {
        world.disks[*only].content = Content::Single(data);
    }
    world.boot(server, Trouble::Nothing, &boot::ALL);
    world.write(server);
}

/// PRI runs in A on disks 1 and 2, and has its first Snapshot; disk 3 is blank, on the shelf; B was a secondary of other disks.
pub(crate) fn healthy() -> Beginning {
    let mut world = World::empty();
    set_up(&mut world, A, &[0, 1], Role::Pri);
    let elsewhere = world.known.sets;
    world.known.sets += 1;
    world.known.owner[1] = Some(elsewhere);
    world.servers[B].record = Record::Of { role: Role::Sec1, cluster: 0, set: elsewhere };
    Beginning { name: "PRI on two disks", events: vec![], world }
}

/// The same, with a secondary that runs in B on disk 3.
pub(crate) fn with_secondary() -> Beginning {
    let mut world = World::empty();
    set_up(&mut world, A, &[0, 1], Role::Pri);
    set_up(&mut world, B, &[2], Role::Sec1);
    world.write(A);
    Beginning { name: "PRI on two disks, SEC1 on one", events: vec![], world }
}

/// PRI runs in A on disk 1, which is a hardware RAID or a lone disk.
pub(crate) fn on_one_device() -> Beginning {
    let mut world = World::empty();
    set_up(&mut world, A, &[0], Role::Pri);
    Beginning { name: "PRI on one device", events: vec![], world }
}

fn boot(server: usize) -> Event {
    Event::Boot { server, trouble: Trouble::Nothing }
}

fn push(disk: usize, server: usize) -> Event {
    Event::Push { disk, server }
}

fn write(server: usize) -> Event {
    Event::Write { server }
}

const DOWN: [Event; 2] = [Event::ShutDown { server: A }, Event::ShutDown { server: B }];

fn one_lost() -> Beginning {
    healthy().then("PRI that lost disk 2", &[Event::Pull { disk: 1 }, write(A)])
}

/// Pushes disk 2 into B, and boots B with it although the other half is not there.
fn accepted_in_b() -> Vec<Event> {
    vec![push(1, B), boot(B), Event::Accept { server: B, disk: None }, boot(B), write(B), write(B), write(B)]
}

pub(crate) fn apart() -> Beginning {
    let events: Vec<Event> = [DOWN[A]].into_iter().chain(accepted_in_b()).chain([DOWN[B]]).collect();
    one_lost().then("both halves ran alone", &events)
}

fn refilling() -> Beginning {
    one_lost().then("PRI that fills disk 3", &[push(2, A), Event::Replace { server: A, disk: 2 }])
}

fn replaced() -> Beginning {
    refilling().then("disk 2 was replaced by disk 3", &[Event::Filled { server: A }, write(A), DOWN[A]])
}

/// Disks 1 and 3 went on as one set, and disk 2 alone.
fn apart_later() -> Beginning {
    let events: Vec<Event> = accepted_in_b().into_iter().chain([DOWN[B]]).collect();
    replaced().then("disks 1 and 3, and disk 2, ran apart", &events)
}

fn cut() -> Beginning {
    healthy().then("the power went during a write", &[Event::Cut { server: A, moment: Moment::InUse }])
}

fn with_backup() -> Beginning {
    let events = [push(2, A), Event::Backup { server: A, disk: 2 }, write(A)];
    healthy().then("PRI with a backup on the shelf", &events)
}

/// PRI's disks lie on the shelf; B stands with the blank disk, and may be set up.
fn on_the_shelf() -> Beginning {
    let events = [DOWN[A], Event::Pull { disk: 0 }, Event::Pull { disk: 1 }, push(2, B), boot(B)];
    healthy().then("PRI's disks on the shelf", &events)
}

pub(crate) fn all() -> Vec<Beginning> {
    vec![
        healthy(),
        with_secondary(),
        on_one_device(),
        one_lost(),
        refilling(),
        apart(),
        replaced(),
        apart_later(),
        cut(),
        with_backup(),
        on_the_shelf(),
    ]
}
