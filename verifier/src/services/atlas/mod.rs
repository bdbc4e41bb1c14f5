//! ATLAS itself: its programs are there, the next boot would go into the role, nobody is somebody else than at the boot, and what is secret is.
//!
//! ```text
//! atlas init --check --json      the hook in the initramfs of every kernel, units that wait for the role, what atlas-boot would decide
//! atlas-module list --json       links, versions, what was put there by hand
//! /run/atlas/boot.json           what this boot found, and who the server was then
//! /var/lib/atlas/crashes         kinds of crash that nobody has said anything about
//! secrets                        keys of the partners, modes of what is secret: secrets.rs
//! ```

mod secrets;

use crate::{
    here::{self, Faults, Member},
    service::{Service, Target},
};
use atlas_model::{BootReport, Outcome, verify::Profile};
use atlas_sid::left;
use serde::Deserialize;
use std::{path::Path, time::Duration};

pub(super) const SERVICE: Service = Service {
    name: "atlas",
    about: "the next boot goes into the role, programs and keys are there, and every kind of crash is known to somebody",
    interval: 60,
    deadline: 240,
    find: |_| Ok(here::found()),
    verify,
};

/// Without one of these there is no boot into the role, or no cycle.
const PROGRAMS: [&str; 8] =
    ["atlas", "atlas-module", "ssSync", "ssSyncCtrl", "ssSyncLoop", "ssRun", "ssCoreHandler", "VerifierControl"];
/// In what atlas-boot says of members that a set lacked.
const MEMBERS: [&str; 3] = ["the Unbound set runs on ", "the Unbound set runs with fewer disks", ": left out, "];
/// Of the crash store, the most entries that are looked at.
const MAX_CRASHES: usize = 200;

fn verify(target: &Target) -> anyhow::Result<Profile> {
    let mut faults = Faults::default();
    let member = match Member::open(&target.root) {
        Ok(None) => return Ok(Profile::ok("this server belongs to no cluster yet")),
        Ok(Some(member)) => Some(member),
        Err(error) => {
            let hint =
                "atlas init --check; cat /run/atlas/boot.json; restore what it names from the history (atlas-history)";
            faults.unacceptable(format!("nobody can say who this server is: {}", atlas_cli::in_one_line(&error)), hint);
            None
        }
    };
    programs(&target.root, &mut faults);
    next_boot(target, &mut faults);
    modules(target, &mut faults);
    if let Some(member) = &member {
        this_boot(member, &mut faults);
        secrets::keys(member, &mut faults);
    }
    secrets::modes(&target.root, &mut faults);
    crashes(&target.root, &mut faults);
    let role = member.map(|member| member.config.role().to_string()).unwrap_or_default();
    Ok(faults.profile(format!("this server would boot as {role}")))
}

fn programs(root: &Path, faults: &mut Faults) {
    use std::os::unix::fs::PermissionsExt;
    let hint = "atlas-module list; apt-get install --reinstall atlas";
    for name in PROGRAMS {
        let Some(file) = here::program(root, name) else {
            faults.unacceptable(format!("the program {name} is not there"), hint);
            continue;
        };
        if !std::fs::metadata(&file).is_ok_and(|meta| meta.permissions().mode() & 0o111 == 0o111) {
            faults.unacceptable(format!("the program {name} may not be run by everybody who has to"), hint);
        }
    }
}

/// What `atlas init --check --json` answers.
#[derive(Deserialize)]
struct Check {
    findings: Vec<Finding>,
}

#[derive(Deserialize)]
struct Finding {
    about: String,
    ok: bool,
    found: String,
    remedy: Vec<String>,
}

/// Whether a cold boot would go into the role.
fn next_boot(target: &Target, faults: &mut Faults) {
    let root = target.root.to_string_lossy();
    // What is left after this is for the rest of the check.
    let deadline = target.left().mul_f64(0.8);
    let Some(output) = here::run(&target.root, "atlas", &["init", "--check", "--json", "--root", &root], deadline)
    else {
        return;
    };
    let check = output.and_then(|output| {
        serde_json::from_slice::<Check>(&output.stdout).map_err(|_| format!("it said: {}", output.complaint()))
    });
    match check {
        Err(why) => faults.unknown(
            format!("whether this server would boot into its role cannot be told: {why}"),
            "atlas init --check",
        ),
        Ok(check) => {
            for finding in check.findings {
                let hint =
                    if finding.remedy.is_empty() { "atlas init --check".into() } else { finding.remedy.join("; ") };
                match (finding.ok, finding.about.as_str()) {
                    (false, about) => {
                        faults.unacceptable(format!("the next boot would fail ({about}): {}", finding.found), hint);
                    }
                    (true, "warning") => faults.slow(finding.found, hint),
                    (true, _) => {}
                }
            }
        }
    }
}

/// What `atlas-module list --json` answers.
#[derive(Deserialize)]
struct Overview {
    modules: Vec<Module>,
    problems: Vec<String>,
}

#[derive(Deserialize)]
struct Module {
    name: String,
    problems: Vec<String>,
}

fn modules(target: &Target, faults: &mut Faults) {
    let root = target.root.to_string_lossy();
    let deadline = target.left().min(Duration::from_secs(30));
    let Some(output) = here::run(&target.root, "atlas-module", &["list", "--json", "--root", &root], deadline) else {
        return;
    };
    let overview = output.and_then(|output| {
        serde_json::from_slice::<Overview>(&output.stdout).map_err(|_| format!("it said: {}", output.complaint()))
    });
    match overview {
        Err(why) => {
            faults.unknown(format!("which versions of ATLAS are set cannot be told: {why}"), "atlas-module list");
        }
        Ok(overview) => {
            let of_modules = overview.modules.into_iter().flat_map(|module| {
                let name = module.name;
                module.problems.into_iter().map(move |problem| format!("module {name}: {problem}"))
            });
            for problem in overview.problems.into_iter().chain(of_modules) {
                let hint = "atlas-module list; atlas-module set MODULE VERSION";
                // A link to nothing is a program that cannot be run.
                if problem.contains("not there") {
                    faults.unacceptable(problem, hint);
                } else {
                    faults.slow(problem, hint);
                }
            }
        }
    }
}

/// What this boot found, and whether the server is still who it was then.
fn this_boot(member: &Member, faults: &mut Faults) {
    let Some(boot) = left::report::<BootReport>(&member.tree, "boot.json") else {
        return faults
            .slow("this server was not booted by ATLAS: there is no boot.json", "reboot it; atlas init --check");
    };
    if let (Outcome::Refused, refusal) = (boot.outcome, &boot.refusal) {
        let why = refusal.as_ref().map(|refusal| refusal.what.as_str()).unwrap_or("boot.json does not say why");
        faults.unacceptable(
            format!("this boot was refused its role: {why}"),
            "cat /run/atlas/boot.json; atlas init --check",
        );
    }
    // That a set lacked a disk at the boot says nothing of it now: the arrays are looked at themselves.
    let of_members = |warning: &&String| MEMBERS.iter().any(|words| warning.contains(words));
    for warning in boot.warnings.iter().filter(|warning| !of_members(warning)) {
        faults.slow(format!("this boot: {warning}"), "cat /run/atlas/boot.json; atlas init --check");
    }
    let restore = "if that was not meant, put it back (atlas-history); if it was, reboot";
    let mut differs = |what: &str, then: Option<String>, now: String| {
        if let Some(then) = then.filter(|then| *then != now) {
            faults.unacceptable(format!("{what} was {then} at the boot and is {now} now"), restore);
        }
    };
    differs("the role in MasterConfig", boot.role.map(|role| role.to_string()), member.config.role().to_string());
    differs("the cluster in MasterConfig", boot.cluster, member.config.cluster().to_string());
    differs("EnvID", boot.env_version.map(|version| version.to_string()), member.bound.env_id.to_string());
    if member.config.cluster() != &member.bound.cluster {
        let what = format!(
            "the Unbound disks belong to cluster {}, this server to {}",
            member.config.cluster(),
            member.bound.cluster
        );
        faults.unacceptable(what, "put in the disks of this server's own cluster");
    }
}

/// The part of an entry of the crash store that matters here.
#[derive(Deserialize)]
struct Crash {
    signature: String,
    program: String,
    #[serde(default)]
    occurrences: Vec<Occurrence>,
    #[serde(default)]
    notes: Vec<String>,
}

#[derive(Deserialize)]
struct Occurrence {
    time: u64,
}

/// Crashes that nobody has said anything about.
fn crashes(root: &Path, faults: &mut Faults) {
    const ENTRIES: &str = "var/lib/atlas/crashes/entries";
    let now = here::now();
    for name in here::names(root, ENTRIES).into_iter().filter(|name| name.ends_with(".json")).take(MAX_CRASHES) {
        // One that is being replaced is read the next time.
        let Some(text) = here::text(root, &format!("{ENTRIES}/{name}")) else { continue };
        let Ok(crash) = serde_json::from_str::<Crash>(&text) else { continue };
        let Some(last) = crash.occurrences.iter().map(|occurrence| occurrence.time).max() else { continue };
        let age = now.saturating_sub(last);
        if crash.notes.is_empty() {
            let short: String = crash.signature.chars().take(12).collect();
            faults.slow(
                format!("{} crashed {} ago (signature {short})", crash.program, here::duration(age)),
                format!("ssCoreHandler show {short}; when it is understood: ssCoreHandler note {short} \"…\""),
            );
        }
    }
}

#[cfg(test)]
mod tests;
