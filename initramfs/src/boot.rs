//! The sequence of a boot.

use crate::{
    PROGRAM, Places, accept,
    decide::{self, Disks as _, Found},
    gate,
    identity::{How, Identity, WritableRoot},
    machine::Machine,
    refuse,
    role::{self, Start},
    running,
    unbound::{self, ReadOnlySet},
    watch::{self, Line, Voice},
};
use atlas_host::tree::Dir;
use atlas_model::{
    Acceptance, BootReport, MasterConfig, Outcome, Refusal, RefusalCode,
    report::Step,
    set_record::SetRecord,
    survey::{SetChoice, SetKind},
};
use atlas_sid::{BoundData, set_record};
use std::{
    collections::BTreeSet,
    path::Path,
    time::{Duration, Instant},
};

/// The file that `atlas init` leaves on the root file system: ATLAS decides about this server's network.
pub const INITIALISED: &str = "/etc/atlas/initialised";
/// How long to wait for disks that are slow to appear, unless `atlas.wait=SECONDS` on the kernel command line says otherwise.
const WAIT_FOR_DISKS: Duration = Duration::from_secs(10);
/// How often the disks may be others when everything is ready than when they were chosen.
const MAX_DECISIONS: usize = 5;

/// Measures the steps of a boot for its report, and tells whoever watches of each as it begins.
#[derive(Debug)]
pub(crate) struct Clock {
    began: Instant,
    steps: Vec<Step>,
    voice: Voice,
    unbound_written: bool,
}

impl Clock {
    /// Begins now.
    pub(crate) fn new(voice: Voice) -> Clock {
        Clock { began: Instant::now(), steps: vec![], voice, unbound_written: false }
    }

    /// The steps that were done.
    pub(crate) fn steps(self) -> Vec<Step> {
        self.steps
    }

    /// Does one step, and notes when it began and how long it took.
    pub(crate) fn step<T>(&mut self, name: &str, run: impl FnOnce() -> T) -> T {
        self.step_within(name, watch::STEP, run)
    }

    /// As [`Clock::step`], for one that may take longer, or less long.
    pub(crate) fn step_within<T>(&mut self, name: &str, within: Duration, run: impl FnOnce() -> T) -> T {
        let at = self.began.elapsed();
        let micros = |time: Duration| u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
        self.voice.say(&Line::Step {
            name: name.into(),
            within_s: within.as_secs(),
            at_us: micros(at),
            unbound_written: self.unbound_written,
        });
        let result = run();
        let took = self.began.elapsed() - at;
        self.steps.push(Step { name: name.into(), at_us: micros(at), took_us: micros(took) });
        result
    }
}

/// Runs the whole boot. Never fails: a failure is a refusal, and stands in the report. It may hang; see [`watch::boot`].
pub fn boot(places: &Places, voice: Voice) -> BootReport {
    let mut clock = Clock::new(voice);
    let mut report = BootReport { boot_id: Some(gate::boot_id()), ..BootReport::begin(PROGRAM) };
    let mut disks = Machine::new(places);
    // The operator will look for these files on the running server, where its root is "/".
    let root = format!("{}/", places.root.display());
    match sequence(places, &mut disks, &mut report, &mut clock) {
        Ok(outcome) => report.outcome = outcome,
        Err(mut refusal) => {
            refusal.found.iter_mut().for_each(|fact| *fact = fact.replace(&root, "/"));
            if !report.unbound_written {
                refusal.found.push("nothing was written to the Unbound disks".into());
            }
            let accepted = Dir::open_root(&places.root).ok().and_then(|root| accept::read(&root).ok());
            refusal.found.extend(accept::does_not_count(&accepted.unwrap_or_default(), &report.accepted, &refusal));
            if let Ok(survey) = disks.survey() {
                let named = refusal.found.clone();
                refusal.found.extend(disks.clear(&survey));
                refusal = refuse::with_clocks(refusal, &survey);
                if refusal.code == RefusalCode::BoundDataInvalid {
                    refusal.found.extend(survey.beside(&named));
                }
            }
            report.outcome = Outcome::Refused;
            report.refusal = Some(refusal);
        }
    }
    report.warnings.iter_mut().for_each(|warning| *warning = warning.replace(&root, "/"));
    report.steps = clock.steps;
    report
}

fn sequence(
    places: &Places,
    disks: &mut Machine,
    report: &mut BootReport,
    clock: &mut Clock,
) -> Result<Outcome, Refusal> {
    let root = Dir::open_root(&places.root).map_err(|error| refuse::of_file("open the root file system", &error))?;
    let Some(start) = clock.step("read the Bound Data", || Start::read(&root, report))? else {
        return Ok(Outcome::NotInitialised);
    };
    disks.bound_record.clone_from(&start.record);
    let ready = ready(places, disks, &root, &start, report, clock)?;
    let choice = ready.found.choice.clone();
    take_role(places, &root, &start.bound, ready, report, clock).map_err(|refusal| refuse::with_disks(refusal, &choice))
}

/// Everything that is needed to take the role: the set, started and not written to, who this server is, its identity staged.
struct Ready<'p, 'r> {
    found: Found,
    set: ReadOnlySet<'p>,
    config: MasterConfig,
    identity: Identity<'r>,
}

/// Everything from the first write on.
fn take_role(
    places: &Places,
    root: &Dir,
    bound: &BoundData,
    Ready { found, set, config, mut identity }: Ready<'_, '_>,
    report: &mut BootReport,
    clock: &mut Clock,
) -> Result<Outcome, Refusal> {
    let warnings = report.set.as_ref().map(running::warnings);
    report.warnings.extend(warnings.unwrap_or_default());
    if !report.accepted.is_empty()
        && let Err(error) = use_up(places, root, &report.accepted)
    {
        identity.discard();
        clock.voice.say(&Line::Refusing(error.to_string()));
        clock.step("let go of the Unbound set", || set.release());
        return Err(error);
    }
    clock.unbound_written = true;
    let within = unbound::FSCK_DEADLINE + watch::STEP;
    let opened = clock.step_within("open the Unbound set for writing", within, || set.open_for_writing());
    report.unbound_written = true;
    let file_system = match opened {
        Ok(done) => done,
        Err(refusal) => {
            identity.discard();
            return Err(refusal);
        }
    };
    if let Some(set) = &mut report.set {
        file_system.clone_into(&mut set.file_system);
    }
    report.converted_from = identity.converted.as_ref().map(|converted| converted.from);
    if identity.converted.is_some() {
        let published = clock.step("publish the converted Snapshot", || publish(places, &identity, &config, bound));
        if let Err(refusal) = published {
            identity.discard();
            return Err(refusal);
        }
    }
    let from_scratch = identity.from_scratch;
    report.installed = clock.step("install the identity", || identity.commit(&mut report.warnings))?;
    clock.step("remove what it replaced", || identity.discard());
    report.role = Some(config.role());
    let record = found.survey.record_of(&found.choice);
    clock.step("note how the set is made", || note(places, &found.choice, &record, report));
    Ok(if from_scratch { Outcome::FromScratch } else { Outcome::IdentityInstalled })
}

/// A whole mirror is noted in its file system as one, so that a half of it is never taken for a whole disk. A single disk is not:
/// that it is whole, somebody has to say by 'atlas init'.
fn note(places: &Places, choice: &SetChoice, record: &SetRecord, report: &mut BootReport) {
    let is_degraded = choice.degraded || report.set.as_ref().is_some_and(|set| set.degraded);
    if is_degraded || !matches!(choice.kind, SetKind::Mirror { .. }) {
        return;
    }
    let noted = role::open_sid(places)
        .map_err(|refusal| refusal.to_string())
        .and_then(|sid| set_record::write(sid.dir(), record).map_err(|error| format!("{error}: {}", error.source)));
    if let Err(why) = noted {
        report.warnings.push(format!("how the Unbound set is made could not be noted in it: {why}"));
    }
}

/// Comes to the point from which everything is decided, and nothing is written yet: the set started, who this server is, its identity staged.
///
/// Where the disks changed on the way, everything is let go of, and decided anew.
fn ready<'p, 'r>(
    places: &'p Places,
    disks: &mut Machine,
    root: &'r Dir,
    start: &Start,
    report: &mut BootReport,
    clock: &mut Clock,
) -> Result<Ready<'p, 'r>, Refusal> {
    unbound::settle(&places.run);
    for _ in 0..MAX_DECISIONS {
        let found = clock.step_within("find the Unbound set", watch::STEP + wait_for_disks(), || {
            decide::find(disks, start.of_disks(), wait_for_disks())
        })?;
        role::remember(&found, start, report);
        let with_disks = |refusal| refuse::with_disks(refusal, &found.choice);
        clock.voice.say(&Line::Devices(kernel_names(&found.choice)));
        let within = unbound::FSCK_DEADLINE + watch::STEP;
        let set = clock
            .step_within("start the Unbound set read-only", within, || ReadOnlySet::start(places, &found.choice))
            .map_err(with_disks)?;
        clock.voice.say(&Line::Devices(kernel_names(&found.choice).into_iter().chain(name_of(set.device())).collect()));
        report.set = Some(set.describe(&found.choice));
        let prepared = role::prepare(places, root, start, &found.choice.ext4, How::Stage, report, clock);
        let (config, identity) = match prepared {
            Ok(prepared) => prepared,
            Err(refusal) => {
                clock.voice.say(&Line::Refusing(refusal.to_string()));
                clock.step("let go of the Unbound set", || set.release());
                return Err(with_disks(refusal));
            }
        };
        match clock.step("look at the disks again", || decide::confirm(disks, &found)) {
            Ok(true) => return Ok(Ready { found, set, config, identity }),
            other => {
                identity.discard();
                clock.step("let go of the Unbound set", || set.release());
                report.set = None;
                other?;
            }
        }
    }
    Err(decide::restless())
}

fn kernel_names(choice: &SetChoice) -> BTreeSet<String> {
    let devices = match &choice.kind {
        SetKind::Mirror { devices, .. } => devices.as_slice(),
        SetKind::Single { device } => std::slice::from_ref(device),
    };
    devices.iter().filter_map(|device| name_of(Path::new(device))).collect()
}

fn name_of(device: &Path) -> Option<String> {
    Some(device.file_name()?.to_string_lossy().into_owned())
}

fn wait_for_disks() -> Duration {
    let line = std::fs::read_to_string("/proc/cmdline").unwrap_or_default();
    let given = line.split_whitespace().find_map(|word| word.strip_prefix("atlas.wait=")?.parse::<u64>().ok());
    given.map_or(WAIT_FOR_DISKS, |seconds| Duration::from_secs(seconds.min(600)))
}

fn use_up(places: &Places, root: &Dir, used: &[Acceptance]) -> Result<(), Refusal> {
    let _writable = WritableRoot::open(places)?;
    accept::use_up(root, used).map_err(|error| refuse::root_not_writable(&error))
}

fn publish(places: &Places, identity: &Identity<'_>, config: &MasterConfig, bound: &BoundData) -> Result<(), Refusal> {
    let sid = role::open_sid(places)?;
    identity.publish(&sid, config, bound.env_id).map_err(|error| refuse::of_sid(&error))
}
