//! The program VerifierControl.

use super::{Identity, beside, control, services};
use crate::{
    catalogue::{self, Known},
    contract,
    settings::Settings,
    setup,
};
use atlas_cli::{Common, Exit, Style, Table, print, print_json};
use atlas_model::verify::key;
use clap::{CommandFactory, Parser};
use std::path::PathBuf;

/// Exercise every service of the cluster all the time, and tell what does not work
///
/// Without a command it runs until it is stopped; systemd starts it. Each server verifies its partners' services over the business network, and its own
/// health. What it finds is on 'atlas status', in 'VerifierResults', in the metrics, and in the alerts that /etc/atlas/verifier.toml sets.
#[derive(Clone, Debug, Parser)]
#[command(
    name = "VerifierControl",
    version,
    after_help = "Examples:
  VerifierControl                      what the service runs
  VerifierControl setup                on PRI: find the services, place test data (a hook does it before each Snapshot)
  VerifierControl plan                 what is verified, how often, by which command
  VerifierControl template >MyService  a VerifyService to begin with
  VerifierControl check ./MyService    whether it keeps the contract

Exit codes: 0 done, 1 failed, 2 called wrongly, 3 the check found something."
)]
pub struct Args {
    /// What to do, if not to run.
    #[command(subcommand)]
    pub mode: Option<Mode>,
    /// How to do and tell it.
    #[command(flatten)]
    pub common: Common,
}

/// What else it can do.
#[derive(Clone, Debug, clap::Subcommand)]
pub enum Mode {
    /// Find the services of PRI, place their test data, and list what has to be synchronised
    Setup,
    /// Show what this server verifies
    Plan,
    /// Prove that a program keeps the contract of a VerifyService
    Check {
        /// The program
        program: PathBuf,
        /// Where its 'verify' is tried
        #[arg(long, default_value = "127.0.0.1")]
        host: String,
    },
    /// Print a VerifyService to begin with
    Template,
}

/// The definition of the program, for man pages and completions.
pub fn command() -> clap::Command {
    Args::command()
}

/// Runs the program.
pub fn run(args: &Args) -> anyhow::Result<Exit> {
    match &args.mode {
        None => control(&args.common.root).map(|()| Exit::Done),
        Some(Mode::Setup) => set_up(&args.common),
        Some(Mode::Plan) => plan(&args.common),
        Some(Mode::Check { program, host }) => contract::check(program, host, args.common.json),
        Some(Mode::Template) => print(contract::TEMPLATE).map(|()| Exit::Done),
    }
}

fn set_up(common: &Common) -> anyhow::Result<Exit> {
    let report = setup::run(&common.root)?;
    if common.json {
        print_json(&report)?;
    }
    let Some(report) = report else {
        if !common.json {
            print("this server is not PRI: there is nothing to set up")?;
        }
        return Ok(Exit::Done);
    };
    let problems =
        report.services.services.iter().flat_map(|(name, found)| found.problems.iter().map(move |what| (name, what)));
    if !common.json {
        let mut table = Table::new(["service", "instances"]);
        for (name, found) in report.services.services.iter().filter(|(_, found)| !found.instances.is_empty()) {
            let names =
                found.instances.iter().map(|instance| if instance.name.is_empty() { "1" } else { &instance.name });
            table.row([name.clone(), names.collect::<Vec<_>>().join(", ")]);
        }
        print(table)?;
        report.placed.iter().try_for_each(|path| print(format!("placed {path}")))?;
        report.removed.iter().try_for_each(|path| print(format!("removed {path}")))?;
        let notes = report.services.services.iter();
        let mut notes = notes.flat_map(|(name, found)| found.notes.iter().map(move |what| (name, what)));
        notes.try_for_each(|(name, what)| print(format!("note: {name}: {what}")))?;
        problems
            .clone()
            .try_for_each(|(name, what)| print(format!("{} {name}: {what}", Style::stdout().yellow("not done:"))))?;
    }
    Ok(if problems.count() == 0 { Exit::Done } else { Exit::No })
}

fn plan(common: &Common) -> anyhow::Result<Exit> {
    let root = &common.root;
    let identity = Identity::read(root)?;
    let settings = Settings::read(root)?;
    let (plugins, refused) = catalogue::plugins(root, &beside("VerifyService"));
    let (found, failed) = catalogue::find_here(root, &plugins);
    let here = found.into_iter().map(|(name, found)| (name, found.instances)).collect();
    let services = services(root)?;
    let (role, partners) = (identity.config.role(), identity.config.partners());
    let checks = catalogue::plan(&Known {
        role,
        partners,
        plugins: &plugins,
        services: &services,
        here: &here,
        settings: &settings,
    });
    if common.json {
        let told = checks.iter().map(|check| {
            serde_json::json!({
                "about": check.about, "service": check.service, "instance": check.instance, "interval": check.interval,
                "deadline": check.deadline, "program": check.program, "args": check.args,
            })
        });
        print_json(
            &serde_json::json!({ "format": 1, "checks": told.collect::<Vec<_>>(), "refused": refused, "failed": failed }),
        )?;
        return Ok(Exit::Done);
    }
    let mut table = Table::new(["what", "told within", "may take", "command"]);
    for check in &checks {
        let name = check.program.file_name().unwrap_or_default().to_string_lossy();
        let command = format!("{name} {}", check.args.join(" "));
        let what = key(check.about, &check.service, &check.instance);
        table.row([what, format!("{} s", check.interval), format!("{} s", check.deadline), command]);
    }
    print(table)?;
    refused.iter().try_for_each(print)?;
    failed.iter().try_for_each(|(name, why)| print(format!("setup of {name} failed: {why}")))?;
    Ok(Exit::Done)
}
