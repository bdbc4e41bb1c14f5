//! Goes through all histories from some beginnings, and counts them.

use crate::{
    beginning::{self, Beginning},
    boot::{self, Repairs},
    event::Event,
    rules,
    world::{Power, World},
};
use atlas_model::RefusalCode;
use stateright::{Checker, Model, Property};
use std::{
    collections::{BTreeSet, HashMap},
    hash::{BuildHasher, RandomState},
    io::Write,
    sync::Mutex,
    time::Instant,
};

/// How long histories are in the daily run.
const EVENTS: u8 = 6;

struct Histories {
    beginning: Beginning,
    length: u8,
    repairs: Repairs,
    hasher: RandomState,
    /// From which world to which, for all events that were tried.
    steps: Mutex<Vec<(u64, u64)>>,
    /// What boots ended in.
    refusals: Mutex<BTreeSet<RefusalCode>>,
}

impl Model for Histories {
    type State = World;
    type Action = Event;

    fn init_states(&self) -> Vec<World> {
        vec![World { left: self.length, ..self.beginning.world.clone() }]
    }

    fn actions(&self, world: &World, events: &mut Vec<Event>) {
        if world.left > 0 {
            world.events(events);
        }
    }

    fn next_state(&self, world: &World, event: Event) -> Option<World> {
        let mut next = world.after(event, &self.repairs);
        next.left = world.left - 1;
        if let Event::Boot { server, .. } = event
            && let Power::Refused { code, .. } = next.servers[server].power
        {
            self.refusals.lock().unwrap().insert(code);
        }
        let step = (self.hasher.hash_one(world), self.hasher.hash_one(&next));
        self.steps.lock().unwrap().push(step);
        Some(next)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always("no refusal is needless", |_, world: &World| rules::no_refusal_is_needless(world)),
            Property::always("two servers never have the addresses of one", |_, world: &World| {
                rules::one_primary(world)
            }),
            Property::always("no server wears a wrong identity", |_, world: &World| rules::right_identity(world)),
            Property::always("nobody sends without disks", |_, world: &World| rules::nobody_sends_without_disks(world)),
            Property::always("no acknowledged write is lost silently", |_, world: &World| {
                rules::no_write_is_lost(world)
            }),
            Property::always("no two contents are started as one mirror", |_, world: &World| {
                rules::nothing_is_mixed(world)
            }),
            Property::always("slow disks change no answer", |_, world: &World| rules::slow_disks_change_nothing(world)),
            Property::always("a refusal leaves nothing running", |_, world: &World| {
                rules::a_refusal_leaves_nothing_running(world)
            }),
        ]
    }
}

/// What an exploration came to.
struct Outcome {
    histories: u64,
    states: usize,
    refusals: BTreeSet<RefusalCode>,
    /// For each rule that does not hold: the shortest history that breaks it.
    broken: Vec<(&'static str, String)>,
}

/// All histories of up to `length` events; a rule that is broken is shown by a shortest one.
fn explore(beginning: &Beginning, length: u8, repairs: Repairs) -> Outcome {
    let began = Instant::now();
    let checked = check(beginning, length, repairs);
    println!(
        "{}: {} histories of up to {length} events, {} different worlds, {:.1} s",
        beginning.name,
        checked.histories,
        checked.states,
        began.elapsed().as_secs_f64()
    );
    if checked.broken.is_empty() {
        return checked;
    }
    let mut broken: Vec<(&str, String)> = vec![];
    for shorter in 1..=length {
        let found = check(beginning, shorter, repairs).broken;
        broken.extend(
            found.into_iter().filter(|(rule, _)| !broken.iter().any(|(known, _)| known == rule)).collect::<Vec<_>>(),
        );
    }
    Outcome { broken, ..checked }
}

fn check(beginning: &Beginning, length: u8, repairs: Repairs) -> Outcome {
    let model = Histories {
        beginning: beginning.clone(),
        length,
        repairs,
        hasher: RandomState::new(),
        steps: Mutex::default(),
        refusals: Mutex::default(),
    };
    // One thread: worlds come in the order of their distance, and each is left with as many events as it can have.
    let checker = model.checker().spawn_bfs().join();
    let model = checker.model();
    let first = model.hasher.hash_one(&model.init_states()[0]);
    let histories = count(&std::mem::take(&mut *model.steps.lock().unwrap()), first, length);
    let broken =
        checker.discoveries().into_iter().map(|(rule, path)| (rule, script(model, &path.into_actions()))).collect();
    Outcome {
        histories,
        states: checker.unique_state_count(),
        refusals: model.refusals.lock().unwrap().clone(),
        broken,
    }
}

/// The number of ways from `first` along `steps`, up to a length.
fn count(steps: &[(u64, u64)], first: u64, length: u8) -> u64 {
    let mut ways = HashMap::from([(first, 1u64)]);
    let mut all = 0;
    let mut sorted = steps.to_vec();
    sorted.sort_unstable();
    for _ in 0..length {
        let mut next = HashMap::<u64, u64>::new();
        for (from, ways) in ways {
            let begin = sorted.partition_point(|step| step.0 < from);
            for (_, to) in sorted[begin..].iter().take_while(|step| step.0 == from) {
                *next.entry(*to).or_default() += ways;
            }
        }
        all += next.values().sum::<u64>();
        ways = next;
    }
    all
}

/// A history as a person would do it again, with what boots ended in.
fn script(model: &Histories, events: &[Event]) -> String {
    let mut world = model.init_states().remove(0);
    let mut lines: Vec<String> = model.beginning.events.iter().map(|event| format!("({event})")).collect();
    for event in events {
        world = world.after(*event, &model.repairs);
        lines.push(format!("{event}{}", world.outcome(*event)));
    }
    lines.join("; ")
}

/// Explores from all beginnings, two at a time.
fn explore_all(length: u8) -> Vec<(&'static str, Outcome)> {
    let beginnings = Mutex::new(beginning::all());
    let next = || beginnings.lock().unwrap().pop();
    let work =
        || -> Vec<_> { std::iter::from_fn(next).map(|from| (from.name, explore(&from, length, boot::ALL))).collect() };
    std::thread::scope(|scope| {
        let other = scope.spawn(work);
        let mut outcomes = work();
        outcomes.extend(other.join().unwrap());
        outcomes
    })
}

/// The refusals that histories of this kind end in: where one is never met, they show less than they seem to.
const MET: [RefusalCode; 10] = [
    RefusalCode::NoUnboundSet,
    RefusalCode::TwoSets,
    RefusalCode::MixedSets,
    RefusalCode::MissingMember,
    RefusalCode::WrittenApart,
    RefusalCode::DuplicateMember,
    RefusalCode::UnsupportedSet,
    RefusalCode::ForeignCluster,
    RefusalCode::ForeignIdentity,
    RefusalCode::AddressInUse,
];

fn hold(length: u8, at_least: u64) {
    let began = Instant::now();
    let outcomes = explore_all(length);
    let (histories, states) =
        outcomes.iter().fold((0, 0), |(h, s), (_, outcome)| (h + outcome.histories, s + outcome.states));
    let seconds = began.elapsed().as_secs_f64();
    // Not by println, which keeps to itself what a test says that passes.
    let said = format!(
        "\nfigure: {histories} histories of up to {length} events, {states} different worlds, {seconds:.1} s\n"
    );
    std::io::stdout().write_all(said.as_bytes()).unwrap();
    assert!(histories >= at_least, "{histories} are too few to show anything");
    let met: BTreeSet<RefusalCode> = outcomes.iter().flat_map(|(_, outcome)| outcome.refusals.clone()).collect();
    let unmet: Vec<RefusalCode> = MET.into_iter().filter(|code| !met.contains(code)).collect();
    assert!(unmet.is_empty(), "no history ends in {unmet:?}");
    let broken = outcomes.iter().flat_map(|(name, outcome)| {
        outcome.broken.iter().map(move |(rule, script)| format!("{name}: {rule}: {script}"))
    });
    let broken: Vec<String> = broken.collect();
    assert!(broken.is_empty(), "{}", broken.join("\n"));
}

#[test]
fn no_history_breaks_a_rule() {
    hold(EVENTS, 1_000_000);
}

#[test]
#[ignore = "takes a minute: cargo test -p atlas-histories -- --ignored"]
fn no_longer_history_breaks_a_rule() {
    hold(EVENTS + 1, 10_000_000);
}

/// Takes a repair out and shows the shortest history that then breaks `rule`. With all in place none does: `no_history_breaks_a_rule`.
fn needed(without: Repairs, beginning: &Beginning, rule: &str) {
    let found = (1..=EVENTS)
        .find_map(|length| check(beginning, length, without).broken.into_iter().find(|(broken, _)| *broken == rule));
    let Some((_, script)) = found else { panic!("nothing breaks '{rule}' without the repair") };
    println!("{rule}: broken by: {script}");
}

#[test]
fn without_the_record_of_the_worn_identity_a_replaced_server_keeps_that_of_pri() {
    needed(Repairs { worn_record: false, ..boot::ALL }, &beginning::healthy(), "no server wears a wrong identity");
}

#[test]
fn without_the_keeper_a_server_without_disks_goes_on_sending() {
    needed(Repairs { keeper: false, ..boot::ALL }, &beginning::healthy(), "nobody sends without disks");
}

#[test]
fn without_the_probe_a_copy_of_the_set_comes_up_beside_the_original() {
    needed(
        Repairs { address_probe: false, ..boot::ALL },
        &beginning::on_one_device(),
        "two servers never have the addresses of one",
    );
}

#[test]
fn where_md_assembles_by_itself_a_refusal_leaves_an_array_running() {
    let without = Repairs { no_other_assembly: false, ..boot::ALL };
    needed(without, &beginning::healthy(), "a refusal leaves nothing running");
    needed(without, &beginning::apart(), "no two contents are started as one mirror");
}

#[test]
fn without_patience_a_slow_disk_changes_the_answer() {
    needed(Repairs { patience: false, ..boot::ALL }, &beginning::with_secondary(), "slow disks change no answer");
}

#[test]
fn without_the_survey_writes_are_lost_and_contents_mixed() {
    let without = Repairs { survey: false, ..boot::ALL };
    needed(without, &beginning::healthy(), "no acknowledged write is lost silently");
    needed(without, &beginning::apart(), "no two contents are started as one mirror");
}
