//! `atlas-boot`: installs the identity of a server before its network is up.

use atlas_boot::{
    Places, accept,
    args::{Args, Verb},
    boot, check, note, record,
};
use atlas_host::block::{self, Device};
use clap::Parser;
use std::{io::Write, path::Path, process::ExitCode};

fn main() -> ExitCode {
    let args = Args::parse();
    let places = Places { root: args.root, run: args.run };
    match args.command {
        Verb::Boot => {
            let report = boot::boot(&places);
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
                (Some(refusal), false) => refusal.screen(),
                (None, false) => record::summary(&report),
            };
            say(&text);
            ExitCode::from(if report.refusal.is_some() { 3 } else { 0 })
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
        Verb::IsMember { device } => ExitCode::from(if is_member(&device) { 0 } else { 3 }),
    }
}

fn is_member(device: &Path) -> bool {
    let Ok(size_bytes) = block::size_bytes(device) else { return false };
    !block::survey(&[Device { path: device.to_owned(), size_bytes, ..Device::default() }]).atlas_devices().is_empty()
}

fn say(text: &str) {
    // A closed standard output leaves nobody to tell.
    let _ = std::io::stdout().write_all(text.as_bytes());
}

fn complain(text: &str) -> ExitCode {
    let _ = writeln!(std::io::stderr(), "atlas-boot: error: {text}");
    ExitCode::from(1)
}
