//! `atlas-boot`: installs the identity of a server before its network is up.

use atlas_boot::{Places, accept, boot, check, record};
use atlas_host::block::{self, Device};
use clap::{Parser, Subcommand};
use std::{
    io::Write,
    path::{Path, PathBuf},
    process::ExitCode,
};

/// Makes this server what its Unbound disks say it is, before the network is up.
///
/// The initramfs runs 'atlas-boot boot'. An operator needs it in two cases: to see whether this server would boot into its role
/// ('atlas-boot check'), and, after a refusal, to accept a risk that it must not take by itself ('atlas-boot accept').
#[derive(Parser)]
#[command(
    name = "atlas-boot",
    version,
    after_help = "Examples:
  atlas-boot check                      would this server boot into its role, and why not?
  atlas-boot accept missing-member      after a refusal: go on without the missing disk
  jq .refusal /run/atlas/boot.json      what the last boot refused, and why

Exit codes: 0 done, 1 failed, 2 called wrongly, 3 the answer is no."
)]
struct Args {
    #[command(subcommand)]
    command: Verb,
    /// The server's root file system
    #[arg(long, value_name = "DIR", default_value = "/", global = true)]
    root: PathBuf,
    /// Where reports lie
    #[arg(long, value_name = "DIR", default_value = "/run", global = true)]
    run: PathBuf,
    /// Answer with the report as JSON
    #[arg(long, global = true)]
    json: bool,
}

#[derive(Subcommand)]
enum Verb {
    /// Take the role of the Unbound disks; run by the initramfs, once
    Boot,
    /// Tell whether this server would boot into its role; changes nothing
    Check,
    /// Accept, once, a risk that led to a refusal
    Accept(accept::AcceptArgs),
    /// Tell by the exit code (0 yes, 3 no) whether a device belongs to an Unbound set; asked by udev
    IsMember {
        /// The device
        device: PathBuf,
    },
}

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
        Verb::IsMember { device } => ExitCode::from(if is_member(&device) { 0 } else { 3 }),
    }
}

fn is_member(device: &Path) -> bool {
    let Ok(size_bytes) = block::size_bytes(device) else { return false };
    !block::survey(&[Device { path: device.to_owned(), serial: None, size_bytes }]).atlas_devices().is_empty()
}

fn say(text: &str) {
    // A closed standard output leaves nobody to tell.
    let _ = std::io::stdout().write_all(text.as_bytes());
}

fn complain(text: &str) -> ExitCode {
    let _ = writeln!(std::io::stderr(), "atlas-boot: error: {text}");
    ExitCode::from(1)
}
