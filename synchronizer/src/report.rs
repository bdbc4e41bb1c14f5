//! Where reports of the Synchronizer go, and what all steps need for theirs. What a report holds: [`atlas_model::cycle`].

use atlas_host::{durable, tree::Dir};
use atlas_model::{
    Role,
    cycle::{CYCLE, CycleReport, Problem, REPORTS, Step},
};
use serde::Serialize;
use std::ffi::OsStr;

/// The longest list in a report that travels.
pub(crate) const MAX_LISTED: usize = 500;

/// The report of the last cycle, if there is one that can be read.
pub(crate) fn last(root: &Dir) -> Option<CycleReport> {
    atlas_sid::left::report(root, CYCLE)
}

/// Writes a report where whoever watches this server looks.
pub(crate) fn publish(root: &Dir, name: &str, report: &impl Serialize) -> anyhow::Result<()> {
    let content = serde_json::to_vec(report)?;
    let dir = root.make_dirs(REPORTS)?;
    Ok(durable::write(&dir, OsStr::new(name), &content, 0o644)?)
}

/// What a converter said on `server` though its conversion ended well.
pub(crate) fn of_conversion(server: Role, note: &str) -> Problem {
    let hint = "nothing is lost: what does not fit is kept beside the Snapshot; 'atlas-convert check' shows it";
    Problem { server, what: format!("a conversion: {note}"), hint: hint.into() }
}

/// What is the matter with a list that people write on `server`.
pub(crate) fn of_list(server: Role, note: &str) -> Problem {
    let hint = format!("mend that list in /unbound/SID_DATA/{server}; 'ssSync create' says whether all is well");
    Problem { server, what: note.into(), hint }
}

/// At most [`MAX_LISTED`] of these, and a last line that says how many more there are.
pub(crate) fn shortened(lines: impl Iterator<Item = String>) -> Vec<String> {
    let mut lines: Vec<String> = lines.collect();
    if lines.len() > MAX_LISTED {
        let more = lines.len() - MAX_LISTED;
        lines.truncate(MAX_LISTED);
        lines.push(format!("… and {more} more"));
    }
    lines
}

/// Runs a step and notes how long it took.
pub(crate) fn timed<T>(steps: &mut Vec<Step>, name: &str, step: impl FnOnce() -> T) -> T {
    let started = std::time::Instant::now();
    let result = step();
    steps.push(Step { name: name.into(), ms: u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX) });
    result
}

/// Seconds since 1970.
pub(crate) fn now() -> u64 {
    std::time::SystemTime::now().duration_since(std::time::SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs())
}
