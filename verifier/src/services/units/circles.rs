//! Units that wait for each other in a circle: systemd leaves one of them out at the boot, whichever it meets first.
//!
//! To ask costs systemd a look at every unit. So the answer is kept, with the times of all directories and files that it rests on:
//!
//! ```text
//! /run/atlas/circles.json    {"key":"…","circles":["…"],"answered":true,"failed":0}
//! ```

use crate::{
    cold_boot::units::SEARCHED,
    here::{self, Faults, below, names},
    service::Target,
};
use atlas_host::{durable, tree::Dir};
use atlas_model::{
    Digest,
    cycle::REPORTS,
    verify::{Fault, Verdict},
};
use serde::{Deserialize, Serialize};
use std::{ffi::OsStr, fmt::Write, os::unix::fs::MetadataExt, path::Path, time::Duration};

const KEPT: &str = "circles.json";
/// systemd is asked for at most so long.
const DEADLINE: Duration = Duration::from_secs(30);
/// So often it may fail to answer before that is told.
const ATTEMPTS: u32 = 3;
/// From then on it is asked this rarely until a unit changes, in seconds: a server that was busy answers later.
const RARELY: u64 = 600;
/// So many are told.
const MOST: usize = 3;

#[derive(Serialize, Deserialize)]
struct Kept {
    key: String,
    circles: Vec<String>,
    answered: bool,
    /// How often systemd did not answer in time.
    failed: u32,
    /// When it was asked last, in seconds since 1970.
    #[serde(default)]
    asked: u64,
}

pub(super) fn look(target: &Target, faults: &mut Faults) {
    let root = &target.root;
    if !here::has_systemd(root) || here::program(root, "systemd-analyze").is_none() {
        return;
    }
    let key = key(root);
    let kept = here::text(root, &format!("{REPORTS}/{KEPT}")).and_then(|text| serde_json::from_str::<Kept>(&text).ok());
    let kept = kept.filter(|kept| kept.key == key).unwrap_or(Kept {
        key,
        circles: vec![],
        answered: false,
        failed: 0,
        asked: 0,
    });
    let is_due = kept.failed < ATTEMPTS || here::now().saturating_sub(kept.asked) >= RARELY;
    let kept = if kept.answered || !is_due { kept } else { ask(target, kept) };
    if !kept.answered && kept.failed >= ATTEMPTS {
        let what =
            "whether units wait for each other in a circle is not known: systemd-analyze does not answer in time";
        faults.slow(what, "systemd-analyze verify default.target");
    }
    for circle in kept.circles {
        let what = format!(
            "units of the next boot wait for each other in a circle, and one of them would be left out: {circle}"
        );
        let hint = "systemd-analyze verify default.target; take one After= or Before= out of the circle";
        let units: Vec<&str> =
            circle.split([' ', '/']).filter(|word| word.contains('.') && !word.ends_with(':')).collect();
        faults.add(Fault::new(Verdict::Unacceptable, what, hint).is("circle", &units));
    }
}

/// Asks systemd, and keeps what it said.
fn ask(target: &Target, kept: Kept) -> Kept {
    let args = ["verify", "--man=no", "default.target"];
    let deadline = target.left().mul_f64(0.7).min(DEADLINE);
    // One that complains of other things ends with a failure; only what it says of circles counts.
    let kept = Kept { asked: here::now(), ..kept };
    let kept = match here::run(&target.root, "systemd-analyze", &args, deadline) {
        Some(Ok(output)) => Kept { circles: circles(&String::from_utf8_lossy(&output.stderr)), answered: true, ..kept },
        _ => Kept { failed: kept.failed + 1, ..kept },
    };
    keep(&target.root, &kept);
    kept
}

/// `default.target: Found ordering cycle on app.service/start`, and what systemd would leave out.
fn circles(said: &str) -> Vec<String> {
    let is_circle = |line: &&str| line.contains("ordering cycle");
    said.lines().filter(is_circle).map(|line| line.trim().to_owned()).take(MOST).collect()
}

/// Of everything that units are read from.
fn key(root: &Path) -> String {
    let mut seen = String::new();
    let mut add = |path: &str| {
        if let Ok(meta) = below(root, path).symlink_metadata() {
            let _ = writeln!(seen, "{path} {} {}.{}", meta.ino(), meta.mtime(), meta.mtime_nsec());
        }
    };
    for dir in SEARCHED {
        add(dir);
        for name in names(root, dir) {
            let path = format!("{dir}/{name}");
            add(&path);
            if [".d", ".wants", ".requires"].iter().any(|end| name.ends_with(end)) {
                names(root, &path).iter().for_each(|inner| add(&format!("{path}/{inner}")));
            }
        }
    }
    Digest::of(seen.as_bytes()).to_string()
}

/// Kept where it can be: without it systemd is asked again.
fn keep(root: &Path, kept: &Kept) {
    let Ok(content) = serde_json::to_vec(kept) else { return };
    let dir = Dir::open_root(root).and_then(|tree| tree.make_dirs(REPORTS));
    let _ = dir.and_then(|dir| durable::write(&dir, OsStr::new(KEPT), &content, 0o600));
}
