//! `atlas-boot`: installs the identity of a server before its network is up.

use atlas_boot::{
    Places, accept,
    args::{Args, Verb},
    arrays, boot, check,
    decide::Disks,
    gate,
    machine::Machine,
    note, record,
    watch::{self, Line, Voice},
};
use atlas_host::{
    block::{self, Device},
    net::gate::{Gate, Hold},
    tree::Dir,
};
use atlas_model::{Outcome, Refusal, survey::Survey};
use atlas_sid::set_record;
use clap::Parser;
use std::{io::Write, path::Path, process::ExitCode};

fn main() -> ExitCode {
    let args = Args::parse();
    let places = Places { root: args.root, run: args.run };
    match args.command {
        Verb::Boot { worker: true } => {
            // Its parent ends all that it started by its session.
            let _ = nix::unistd::setsid();
            let report = boot::boot(&places, Voice::to_parent());
            Voice::to_parent().say(&Line::Report(Box::new(report)));
            ExitCode::SUCCESS
        }
        Verb::Boot { worker: false } => {
            let report = watch::boot(&places);
            record::announce(&report);
            if let Err(error) = record::write(&places, &report) {
                // Without the file that allows it, the network stays down: the safe side.
                return complain(&format!("{error}: {}", error.source));
            }
            ExitCode::from(if report.refusal.is_some() { 3 } else { 0 })
        }
        Verb::Check => {
            let report = check::check(&places);
            let text = match (&report.refusal, args.json) {
                (_, true) => serde_json::to_string(&report).unwrap_or_default() + "\n",
                (Some(refusal), false) => refusal.forecast(),
                (None, false) => record::outlook(&report),
            };
            say(&text);
            let has_role = report.refusal.is_none() && report.outcome != Outcome::NotInitialised;
            ExitCode::from(if has_role { 0 } else { 3 })
        }
        Verb::Accept(answers) => match accept::accept(&places, &answers) {
            Ok(text) => {
                say(&text);
                ExitCode::SUCCESS
            }
            Err(why) => complain(&why),
        },
        Verb::NoteIdentity => match note::note(&places) {
            Ok(text) => {
                say(&text);
                ExitCode::SUCCESS
            }
            Err(why) => complain(&why),
        },
        Verb::Gate => match gate::keep(&places) {
            Ok(()) => ExitCode::SUCCESS,
            Err(why) => complain(&why),
        },
        Verb::Hold { interface } => match Gate::new(&places.run).hold(&interface) {
            Ok(Hold::Held | Hold::Unchanged) => ExitCode::SUCCESS,
            Ok(Hold::Open | Hold::Loopback) => ExitCode::from(3),
            Err(error) => complain(&gate::chain(&error)),
        },
        Verb::IsMember { device } => ExitCode::from(if is_member(&places, &device) { 0 } else { 3 }),
        Verb::LeaveOut { conf } => match leave_out(&places, &conf) {
            Ok(lines) => {
                say(&lines.iter().map(|line| format!("left out: {line}\n")).collect::<String>());
                ExitCode::SUCCESS
            }
            Err(refusal) => complain(&format!("{refusal}: {}", refusal.found.join(": "))),
        },
    }
}

fn is_member(places: &Places, device: &Path) -> bool {
    let Ok(size_bytes) = block::size_bytes(device) else { return false };
    let survey = block::survey(&[Device { path: device.to_owned(), size_bytes, ..Device::default() }]);
    // In the initramfs, where there is no record, the boot itself keeps out what only that shows to be ours.
    let root = Dir::open_root(&places.root).ok();
    let bound_record = root.and_then(|root| set_record::read_bound(&root).ok().flatten());
    let survey = Survey { bound_record, ..survey };
    if let Err(error) = arrays::keep_out(&places.run, &arrays::sets(&survey)) {
        complain(&format!("{error}: {}", error.source));
    }
    !survey.atlas_devices().is_empty()
}

fn leave_out(places: &Places, conf: &Path) -> Result<Vec<String>, Refusal> {
    arrays::leave_out(conf, &arrays::sets(&Machine::looking(places).survey()?))
        .map_err(|error| atlas_boot::refuse::of_file("leave the Unbound set out of mdadm.conf", &error))
}

fn say(text: &str) {
    // A closed standard output leaves nobody to tell.
    let _ = std::io::stdout().write_all(text.as_bytes());
}

fn complain(text: &str) -> ExitCode {
    let _ = writeln!(std::io::stderr(), "atlas-boot: error: {text}");
    ExitCode::from(1)
}
