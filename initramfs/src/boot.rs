//! The sequence of a boot.

use crate::{
    PROGRAM, Places, accept,
    identity::{Disks, Identity, WritableRoot},
    refuse,
    unbound::{self, ReadOnlySet},
};
use atlas_host::tree::Dir;
use atlas_model::{
    Acceptance, BootReport, MasterConfig, Outcome, Refusal, RefusalCode, TreePath,
    report::{SetReport, Step},
    set_record::SetRecord,
    survey::{SetChoice, SetKind, Survey},
};
use atlas_sid::{BoundData, SidData, set_record};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// The file that `atlas init` leaves on the root file system: ATLAS decides about this server's network.
pub const INITIALISED: &str = "/etc/atlas/initialised";
/// How long to wait for disks that are slow to appear, unless `atlas.wait=SECONDS` on the kernel command line says otherwise.
const WAIT_FOR_DISKS: Duration = Duration::from_secs(10);

/// Measures the steps of a boot for its report.
#[derive(Debug)]
pub(crate) struct Clock {
    began: Instant,
    steps: Vec<Step>,
}

impl Clock {
    /// Does one step, and notes when it began and how long it took.
    pub(crate) fn step<T>(&mut self, name: &str, run: impl FnOnce() -> T) -> T {
        let at = self.began.elapsed();
        let result = run();
        let took = self.began.elapsed() - at;
        let micros = |time: Duration| u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
        self.steps.push(Step { name: name.into(), at_us: micros(at), took_us: micros(took) });
        result
    }
}

/// Runs the whole boot. Never fails: a failure is a refusal, and stands in the report.
pub fn boot(places: &Places) -> BootReport {
    let mut clock = Clock { began: Instant::now(), steps: vec![] };
    let mut report = BootReport::begin(PROGRAM);
    match sequence(places, &mut report, &mut clock) {
        Ok(outcome) => report.outcome = outcome,
        Err(mut refusal) => {
            // The operator will look for these files on the running server, where its root is "/".
            let root = format!("{}/", places.root.display());
            refusal.found.iter_mut().for_each(|fact| *fact = fact.replace(&root, "/"));
            if !report.unbound_written {
                refusal.found.push("nothing was written to the Unbound disks".into());
            }
            report.outcome = Outcome::Refused;
            report.refusal = Some(refusal);
        }
    }
    report.steps = clock.steps;
    report
}

fn sequence(places: &Places, report: &mut BootReport, clock: &mut Clock) -> Result<Outcome, Refusal> {
    let root = Dir::open_root(&places.root).map_err(|error| refuse::of_file("open the root file system", &error))?;
    let Some(bound) = clock.step("read the Bound Data", || read_bound(&root))? else {
        return Ok(Outcome::NotInitialised);
    };
    report.env_version = Some(bound.env_id);
    let acceptance = accept::read(&root).unwrap_or_else(|why| {
        report.warnings.push(why);
        None
    });
    let (survey, choice) = clock.step("find the Unbound set", || find_set(&root, acceptance.as_ref(), report))?;
    report.warnings.extend(choice.warnings.iter().cloned());
    report.warnings.extend(choice.of_the_future(now()));
    let record = survey.record_of(&choice);
    take_role(places, &root, &bound, acceptance.as_ref(), (&choice, &record), report, clock)
        .map_err(|refusal| refuse::with_disks(refusal, &choice))
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

/// With the set that was chosen: who this server is, and everything that follows.
fn take_role(
    places: &Places,
    root: &Dir,
    bound: &BoundData,
    acceptance: Option<&Acceptance>,
    (choice, record): (&SetChoice, &SetRecord),
    report: &mut BootReport,
    clock: &mut Clock,
) -> Result<Outcome, Refusal> {
    let set = clock.step("start the Unbound set read-only", || ReadOnlySet::start(places, choice))?;
    report.set = Some(describe(choice, &set));
    let (config, mut identity) = match prepare(places, root, bound, acceptance, choice, report, clock) {
        Ok(prepared) => prepared,
        Err(refusal) => {
            set.release();
            return Err(refusal);
        }
    };
    if let Some(acceptance) = &report.accepted
        && let Err(error) = use_up(places, root, acceptance)
    {
        identity.discard();
        set.release();
        return Err(error);
    }
    let opened = clock.step("open the Unbound set for writing", || set.open_for_writing());
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
    report.installed = clock.step("install the identity", || identity.commit())?;
    clock.step("remove what it replaced", || identity.discard());
    report.role = Some(config.role());
    clock.step("note how the set is made", || note(places, choice, record, report));
    Ok(if from_scratch { Outcome::FromScratch } else { Outcome::IdentityInstalled })
}

/// A whole mirror is noted in its file system as one, so that a half of it is never taken for a whole disk. A single disk is not:
/// that it is whole, somebody has to say by 'atlas init'.
fn note(places: &Places, choice: &SetChoice, record: &SetRecord, report: &mut BootReport) {
    if choice.degraded || !matches!(choice.kind, SetKind::Mirror { .. }) {
        return;
    }
    let noted = open_sid(places)
        .map_err(|refusal| refusal.to_string())
        .and_then(|sid| set_record::write(sid.dir(), record).map_err(|error| format!("{error}: {}", error.source)));
    if let Err(why) = noted {
        report.warnings.push(format!("how the Unbound set is made could not be noted in it: {why}"));
    }
}

/// `None`: this machine is not (yet) ATLAS's.
pub(crate) fn read_bound(root: &Dir) -> Result<Option<BoundData>, Refusal> {
    let bound = BoundData::read(root).map_err(|error| refuse::of_bound(&error))?;
    let marker = TreePath::parse(INITIALISED).ok().and_then(|path| {
        let (dir, name) = root.parent_of(&path).ok()?;
        dir.stat(name).ok().flatten()
    });
    if bound.is_none() && marker.is_some() {
        return Err(refuse::bound_lost(INITIALISED));
    }
    Ok(bound)
}

/// Surveys the disks until the set is found; what may be missing only because a disk is slow is waited for.
fn find_set(
    root: &Dir,
    acceptance: Option<&Acceptance>,
    report: &mut BootReport,
) -> Result<(Survey, SetChoice), Refusal> {
    unbound::settle();
    let bound_record = set_record::read_bound(root).unwrap_or_else(|why| {
        report.warnings.push(why);
        None
    });
    let until = Instant::now() + wait_for_disks();
    loop {
        let survey = unbound::survey(bound_record.as_ref())?;
        let refusal = match survey.choose(None) {
            Ok(choice) => return Ok((survey, choice)),
            Err(refusal) => refusal,
        };
        if let Ok(choice) = survey.choose(acceptance) {
            report.accepted = acceptance.cloned();
            return Ok((survey, choice));
        }
        let may_come = matches!(refusal.code, RefusalCode::NoUnboundSet | RefusalCode::MissingMember);
        if !may_come || Instant::now() >= until {
            return Err(refusal);
        }
        std::thread::sleep(Duration::from_millis(200));
    }
}

fn wait_for_disks() -> Duration {
    let line = std::fs::read_to_string("/proc/cmdline").unwrap_or_default();
    let given = line.split_whitespace().find_map(|word| word.strip_prefix("atlas.wait=")?.parse::<u64>().ok());
    given.map_or(WAIT_FOR_DISKS, |seconds| Duration::from_secs(seconds.min(600)))
}

fn describe(choice: &SetChoice, set: &ReadOnlySet) -> SetReport {
    let (uuid, members) = match &choice.kind {
        SetKind::Mirror { uuid, devices } => (uuid.to_string(), devices.clone()),
        SetKind::Single { device } => (choice.ext4.uuid_text(), vec![device.clone()]),
    };
    SetReport {
        uuid,
        device: set.device().display().to_string(),
        members,
        disks: choice.disks.clone(),
        left_out: choice.left_out.clone(),
        degraded: choice.degraded,
        file_system: "read-only".into(),
    }
}

fn open_sid(places: &Places) -> Result<SidData, Refusal> {
    let unbound =
        Dir::open_root(places.unbound()).map_err(|error| refuse::of_file("open the Unbound file system", &error))?;
    match SidData::open(&unbound) {
        Err(atlas_sid::SidError::File(error)) if error.is_not_found() => {
            Err(refuse::of_sid(&atlas_sid::SidError::NoMasterConfig(unbound.show("SID_DATA/MasterConfig"))))
        }
        other => other.map_err(|error| refuse::of_sid(&error)),
    }
}

/// Reads MasterConfig and checks that the disks belong here.
pub(crate) fn read_config(
    sid: &SidData,
    bound: &BoundData,
    acceptance: Option<&Acceptance>,
) -> Result<(MasterConfig, bool), Refusal> {
    let config = sid.master_config().map_err(|error| refuse::of_sid(&error))?;
    if config.cluster() == &bound.cluster {
        return Ok((config, false));
    }
    let refusal = refuse::foreign_cluster(&config.cluster().to_string(), &bound.cluster.to_string());
    let accepted = acceptance.is_some_and(|a| a.code == refusal.code && Some(a.fingerprint) == refusal.fingerprint);
    if accepted { Ok((config, true)) } else { Err(refusal) }
}

fn prepare<'r>(
    places: &Places,
    root: &'r Dir,
    bound: &BoundData,
    acceptance: Option<&Acceptance>,
    choice: &SetChoice,
    report: &mut BootReport,
    clock: &mut Clock,
) -> Result<(MasterConfig, Identity<'r>), Refusal> {
    let (sid, (config, by_acceptance)) = clock.step("read who this server is", || {
        let sid = open_sid(places)?;
        let config = read_config(&sid, bound, acceptance)?;
        Ok::<_, Refusal>((sid, config))
    })?;
    if by_acceptance {
        report.accepted = acceptance.cloned();
    }
    report.cluster = Some(config.cluster().to_string());
    let file_system = choice.ext4.uuid_text();
    let disks = Disks { sid: &sid, config: &config, file_system: &file_system };
    let identity = Identity::prepare(places, root, &disks, bound, clock)?;
    report.warnings.extend_from_slice(&identity.warnings);
    Ok((config, identity))
}

fn use_up(places: &Places, root: &Dir, acceptance: &Acceptance) -> Result<(), Refusal> {
    let _writable = WritableRoot::open(places)?;
    accept::use_up(root, acceptance).map_err(|error| refuse::root_not_writable(&error))
}

fn publish(places: &Places, identity: &Identity<'_>, config: &MasterConfig, bound: &BoundData) -> Result<(), Refusal> {
    let sid = open_sid(places)?;
    identity.publish(&sid, config, bound.env_id).map_err(|error| refuse::of_sid(&error))
}
