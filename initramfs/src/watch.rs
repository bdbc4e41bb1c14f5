//! A boot that cannot hang: the work is done by a child, and its parent, which touches no disk, watches it.
//!
//! ```text
//! atlas-boot boot ──spawns──► atlas-boot boot --worker
//!        │                         │  {"step":{"name":"…","within_s":120,…}}      each step, as it begins
//!        │  ◄──── lines ───────────┤  {"devices":["vdb","vdc","md127"]}           what the steps wait for from now on
//!        │                         │  {"refusing":"…"}                            decided already; what was begun is still to be undone
//!        │                         │  {"report":{…}}                              the end
//!        └─► console, kernel log, boot.json
//! ```
//!
//! A process that waits for a dead disk is in a state in which no signal ends it. So it is not waited for: where a step takes longer than it
//! may, or a disk that it waits for has answered nothing for STALL, the parent refuses, takes the file system out of sight, and the boot goes on to a
//! login.

use crate::{PROGRAM, Places, refuse};
use atlas_host::{
    mount, process,
    stall::{self, Stalls},
};
use atlas_model::{BootReport, Outcome, Refusal, RefusalCode, report::Step};
use atlas_sid::layout::UNBOUND_MOUNT;
use serde::{Deserialize, Serialize};
use std::{
    collections::BTreeSet,
    io::{BufRead, BufReader, Write},
    os::unix::process::ExitStatusExt,
    path::{Path, PathBuf},
    process::{Child, Stdio},
    sync::mpsc::{RecvTimeoutError, channel},
    time::{Duration, Instant},
};

/// How long a step may take that says nothing else.
pub const STEP: Duration = Duration::from_secs(120);
/// How long a disk may leave a request without an answer. The kernel gives up a request to a SCSI disk after 30 s, and tries again.
const STALL: Duration = Duration::from_secs(40);
/// How often the parent looks.
const TICK: Duration = Duration::from_millis(500);
/// How long one that was killed may take to end; one that waits for a disk does not.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// One line of the worker.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", rename_all_fields = "kebab-case")]
pub enum Line {
    /// A step begins.
    Step {
        /// What is done.
        name: String,
        /// How long it may take, in seconds.
        within_s: u64,
        /// When it begins, in microseconds after the worker did.
        at_us: u64,
        /// Whether the Unbound disks are written to from here on.
        unbound_written: bool,
    },
    /// The kernel's names of the devices that the steps wait for.
    Devices(BTreeSet<String>),
    /// That the server is refused, and why; the set is still to be let go of.
    Refusing(String),
    /// The end.
    Report(Box<BootReport>),
}

/// How the worker says where it is; nowhere, where nobody watches.
#[derive(Debug, Default)]
pub struct Voice(Option<std::io::Stdout>);

impl Voice {
    /// Speaks to the parent on standard output.
    pub fn to_parent() -> Voice {
        Voice(Some(std::io::stdout()))
    }

    /// Says a line. A parent that is gone does not stop the work.
    pub fn say(&mut self, line: &Line) {
        if let Some(out) = &mut self.0
            && let Ok(mut text) = serde_json::to_vec(line)
        {
            text.push(b'\n');
            let _ = out.write_all(&text).and_then(|()| out.flush());
        }
    }
}

/// What is waited for at most, and where the kernel shows its disks; other than the default only in tests.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Without an answer of a disk.
    pub stall: Duration,
    /// Between two looks.
    pub tick: Duration,
    /// `/sys`.
    pub sys: PathBuf,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits { stall: STALL, tick: TICK, sys: "/sys".into() }
    }
}

/// Has the work done by a child of this program, and gives its report, or that of how it failed.
pub fn boot(places: &Places) -> BootReport {
    let mut worker = process::plain("/proc/self/exe");
    worker.args(["boot", "--worker", "--root"]).arg(&places.root).arg("--run").arg(&places.run);
    watch(&mut worker, &places.root, &Limits::default())
}

/// What the parent knows of the work.
struct Known {
    steps: Vec<Step>,
    began: Instant,
    within: Duration,
    unbound_written: bool,
    refusing: Option<String>,
    stalls: Stalls,
}

/// Runs `worker` to its report, or to the point where it is given up.
pub fn watch(worker: &mut std::process::Command, root: &Path, limits: &Limits) -> BootReport {
    let root_devices = stall::below_file_system(&limits.sys, root);
    let mut child = match worker.stdin(Stdio::null()).stdout(Stdio::piped()).spawn() {
        Ok(child) => child,
        Err(error) => return refused(None, not_started(&error)),
    };
    let (tell, told) = channel();
    let out = child.stdout.take();
    std::thread::spawn(move || {
        let lines = out.map(|out| BufReader::new(out).lines()).into_iter().flatten().map_while(Result::ok);
        lines.filter_map(|line| serde_json::from_str::<Line>(&line).ok()).try_for_each(|line| tell.send(line))
    });
    let mut known = Known {
        steps: vec![],
        began: Instant::now(),
        within: STEP,
        unbound_written: false,
        refusing: None,
        stalls: Stalls::of(&limits.sys, &root_devices),
    };
    loop {
        match told.recv_timeout(limits.tick) {
            Ok(Line::Report(report)) => {
                // It has nothing more to say; a thread of it that waits for a disk may keep it from ending.
                end(&mut child);
                return *report;
            }
            Ok(Line::Devices(devices)) => {
                known.stalls = Stalls::of(&limits.sys, &devices.union(&root_devices).cloned().collect());
            }
            Ok(Line::Refusing(why)) => known.refusing = Some(why),
            Ok(Line::Step { name, within_s, at_us, unbound_written }) => {
                known.begin(name, within_s, at_us, unbound_written);
            }
            Err(RecvTimeoutError::Disconnected) => {
                let refusal = ended_early(&mut child, &known);
                end_or_leave(&mut child, root);
                return refused(Some(known), refusal);
            }
            Err(RecvTimeoutError::Timeout) => {}
        }
        if let Some(refusal) = known.overrun(limits) {
            end_or_leave(&mut child, root);
            return refused(Some(known), refusal);
        }
    }
}

/// Ends the worker, or leaves the set that it does not let go of. One that waits for a disk in the middle of a mount holds the lock of that file
/// system; everybody who is given mounts of its own, as systemd gives them to its services, would wait for it, and no login would come.
///
/// Where the worker did end, nobody holds the file system any more: to take it away would be its real unmount, which waits for the disks, and this
/// program with it.
fn end_or_leave(child: &mut Child, root: &Path) {
    if !end(child) {
        mount::detach(&root.join(UNBOUND_MOUNT));
    }
}

impl Known {
    fn begin(&mut self, name: String, within_s: u64, at_us: u64, unbound_written: bool) {
        self.steps.push(Step { name, at_us, took_us: 0 });
        (self.began, self.within, self.unbound_written) =
            (Instant::now(), Duration::from_secs(within_s), unbound_written);
    }

    fn step(&self) -> &str {
        self.steps.last().map_or("begin", |step| &step.name)
    }

    fn overrun(&mut self, limits: &Limits) -> Option<Refusal> {
        let silent = self.stalls.silent_for(limits.stall);
        if silent.is_empty() && self.began.elapsed() < self.within {
            return None;
        }
        let mut refusal = refuse::disk_hangs(&Overrun { step: self.step().to_owned(), took: self.began.elapsed() });
        for disk in silent {
            refusal =
                refusal.found(format!("{disk}: its requests have had no answer for {} s", limits.stall.as_secs()));
        }
        if self.unbound_written {
            refusal = refusal.found("the Unbound set was open for writing");
        }
        if let Some(why) = &self.refusing {
            refusal = refusal.found(format!("the role was refused already, and the next boot may say it again: {why}"));
        }
        Some(refusal)
    }
}

/// A step that was given up.
#[derive(Debug, thiserror::Error)]
#[error("the step '{step}' did not end within {} s", took.as_secs())]
struct Overrun {
    step: String,
    took: Duration,
}

fn refused(known: Option<Known>, refusal: Refusal) -> BootReport {
    let mut report = BootReport::begin(PROGRAM);
    report.outcome = Outcome::Refused;
    report.refusal = Some(refusal);
    if let Some(known) = known {
        report.unbound_written = known.unbound_written;
        report.steps = known.steps;
    }
    report
}

fn not_started(error: &std::io::Error) -> Refusal {
    Refusal::new(RefusalCode::Internal, "atlas-boot could not start itself.")
        .because("nothing was looked at")
        .remedy("look for a lack of memory in 'dmesg', and reboot")
        .caused_by(error)
}

fn ended_early(child: &mut Child, known: &Known) -> Refusal {
    let status = wait_a_moment(child);
    let how = match status.map(|status| (status.signal(), status.code())) {
        Some((Some(signal), _)) => format!("signal {signal} ended it"),
        Some((_, Some(code))) => format!("it ended with exit status {code}"),
        _ => "it says nothing more".to_owned(),
    };
    Refusal::new(RefusalCode::Internal, "atlas-boot ended in the middle of its work.")
        .found(format!("step: {}; {how}", known.step()))
        .because("what was left out could matter")
        .remedy("look for the reason in 'dmesg', then reboot")
        .remedy("if it stays, report it with /run/atlas/boot.json")
}

/// Ends the worker and all that it started, as far as they can be ended, and says whether the worker did.
fn end(child: &mut Child) -> bool {
    if wait_a_moment(child).is_some() {
        return true;
    }
    stall::end_session(child.id());
    wait_a_moment(child).is_some()
}

fn wait_a_moment(child: &mut Child) -> Option<std::process::ExitStatus> {
    let until = Instant::now() + LAST_WORDS;
    loop {
        match child.try_wait() {
            Ok(Some(status)) => return Some(status),
            Ok(None) if Instant::now() < until => std::thread::sleep(Duration::from_millis(5)),
            _ => return None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    const STEP_LINE: &str = r#"{"step":{"name":"mount","within-s":1,"at-us":7,"unbound-written":true}}"#;

    fn limits(sys: &Path) -> Limits {
        Limits { stall: Duration::from_millis(300), tick: Duration::from_millis(20), sys: sys.to_owned() }
    }

    fn run(script: &str, sys: &Path) -> (BootReport, Duration) {
        let begun = Instant::now();
        let mut worker = Command::new("sh");
        let report = watch(worker.args(["-c", script]), sys, &limits(sys));
        (report, begun.elapsed())
    }

    #[test]
    fn the_report_of_the_worker_is_the_report() {
        let mut report = BootReport::begin("atlas-boot test");
        report.outcome = Outcome::FromScratch;
        let line = serde_json::to_string(&Line::Report(Box::new(report.clone()))).unwrap();
        let tmp = tempfile::tempdir().unwrap();
        // What it leaves behind does not hold up the boot.
        let (seen, took) = run(&format!("echo '{STEP_LINE}'; echo '{line}'; sleep 100"), tmp.path());
        assert_eq!(seen, report);
        assert!(took < Duration::from_secs(10), "{took:?}");
    }

    #[test]
    fn a_step_that_does_not_end_is_a_refusal_that_names_it() {
        let tmp = tempfile::tempdir().unwrap();
        let (report, took) = run(&format!("trap '' TERM; echo '{STEP_LINE}'; sleep 100"), tmp.path());
        let refusal = report.refusal.unwrap();
        assert_eq!((report.outcome, refusal.code), (Outcome::Refused, RefusalCode::DiskHangs));
        assert!(refusal.found[0].contains("'mount'"), "{:?}", refusal.found);
        assert!(report.unbound_written && report.steps.len() == 1);
        assert!(took >= Duration::from_secs(1) && took < Duration::from_secs(10), "{took:?}");
    }

    #[test]
    fn a_disk_that_does_not_answer_is_named_before_the_steps_time_is_over() {
        let tmp = tempfile::tempdir().unwrap();
        let disk = tmp.path().join("class/block/vdb");
        std::fs::create_dir_all(&disk).unwrap();
        std::fs::write(disk.join("stat"), "9 0 0 0 0 0 0 0 1 0 0 0 0 0 0 0 0\n").unwrap();
        let step = STEP_LINE.replace("\"within-s\":1", "\"within-s\":99");
        let (report, took) = run(&format!("echo '{step}'; echo '{{\"devices\":[\"vdb\"]}}'; sleep 100"), tmp.path());
        let refusal = report.refusal.unwrap();
        assert_eq!(refusal.code, RefusalCode::DiskHangs);
        assert!(refusal.found.iter().any(|fact| fact.starts_with("vdb: ")), "{:?}", refusal.found);
        assert!(took < Duration::from_secs(10), "{took:?}");
    }

    #[test]
    fn what_was_refused_already_is_said_beside_the_disk_that_hangs_after_it() {
        let tmp = tempfile::tempdir().unwrap();
        let (report, _) =
            run(&format!("echo '{{\"refusing\":\"foreign\"}}'; echo '{STEP_LINE}'; sleep 100"), tmp.path());
        let refusal = report.refusal.unwrap();
        assert_eq!(refusal.code, RefusalCode::DiskHangs);
        assert!(refusal.found.iter().any(|fact| fact.ends_with("again: foreign")), "{:?}", refusal.found);
    }

    #[test]
    fn a_worker_that_dies_is_a_refusal_that_says_how() {
        let tmp = tempfile::tempdir().unwrap();
        let (report, _) = run(&format!("echo '{STEP_LINE}'; kill -SEGV $$"), tmp.path());
        let refusal = report.refusal.unwrap();
        assert_eq!(refusal.code, RefusalCode::Internal);
        assert!(refusal.found[0].contains("mount") && refusal.found[0].contains("signal 11"), "{:?}", refusal.found);
        let (report, _) = run("exit 5", tmp.path());
        assert!(report.refusal.unwrap().found[0].contains("exit status 5"));
    }
}
