//! `VerifyService`: the services that ATLAS knows, called as every VerifyService is.
//!
//! ```text
//!  VerifyService web setup                                   what is there, as JSON; changes nothing
//!  VerifyService web verify --host sec1 --set port=80        a line and an exit code, as Nagios has them
//!  VerifyService web verify --host sec1 --set port=80 --json the Profile
//! ```
//!
//! Exit codes are Nagios': 0 ok, 1 slow, 2 unacceptable, 3 unknown.

use crate::{
    service::{Service, Target, Tree},
    services, settable,
};
use atlas_cli::{in_one_line, print, print_json};
use atlas_model::{
    Role,
    verify::{Profile, Worse, number},
};
use clap::{CommandFactory, Parser};
use std::{
    path::PathBuf,
    process::ExitCode,
    time::{Duration, Instant},
};

/// With this variable set, SetUp says as well what its answer rests on. One of another version does not know it, and is asked each time.
pub(crate) const SEEN: &str = "ATLAS_SETUP_SEEN";

/// Exercise one service of a server as its clients do
///
/// Every service has two modes: 'setup' finds what is there from the real configuration, 'verify' exercises it. Run by VerifierControl; runs
/// as well by hand, and under Nagios or Icinga.
#[derive(Clone, Debug, Parser)]
#[command(
    name = "VerifyService",
    version,
    after_help = "Examples:
  VerifyService ssh setup                         what of ssh this server has
  VerifyService ssh verify --host 192.168.1.11    whether sshd there answers
  VerifyService ssh verify --host sec1 --json     the same with all measures

Exit codes: 0 ok, 1 slow, 2 unacceptable, 3 unknown (as Nagios plugins)."
)]
pub struct Args {
    /// Which service
    #[arg(value_parser = service)]
    pub service: &'static Service,
    /// What to do.
    #[command(subcommand)]
    pub mode: Mode,
}

/// The two modes of every VerifyService.
#[derive(Clone, Debug, clap::Subcommand)]
pub enum Mode {
    /// Find what is there, from the configuration; prints JSON and changes nothing
    Setup {
        /// Work on the tree below DIR as if it were the server's root directory
        #[arg(long, value_name = "DIR", default_value = "/")]
        root: PathBuf,
    },
    /// Exercise it on a server
    Verify(Box<VerifyArgs>),
    /// Starts and exercises what waits for PRI's addresses, in namespaces of its own; run by 'as-pri verify'
    #[command(hide = true)]
    Apart(services::Apart),
}

/// What to exercise.
#[derive(Clone, Debug, clap::Args)]
pub struct VerifyArgs {
    /// The server, by name or address
    #[arg(long)]
    pub host: String,
    /// Its Role, where it is a server of the cluster
    #[arg(long)]
    pub role: Option<Role>,
    /// Which instance, where there are several
    #[arg(long, default_value = "")]
    pub instance: String,
    /// What SetUp found of it, and limits (NAME-slow, NAME-unacceptable)
    #[arg(long = "set", value_name = "KEY=VALUE", value_parser = pair)]
    pub set: Vec<(String, String)>,
    /// How long it may take, in seconds
    #[arg(long, value_name = "SECONDS")]
    pub deadline: Option<u64>,
    /// Answer with the Profile as JSON
    #[arg(long)]
    pub json: bool,
    /// Work on the tree below DIR as if it were the server's root directory
    #[arg(long, value_name = "DIR", default_value = "/")]
    pub root: PathBuf,
}

fn service(name: &str) -> Result<&'static Service, String> {
    services::by_name(name).ok_or_else(|| {
        let names: Vec<&str> = services::SERVICES.iter().map(|service| service.name).collect();
        format!("there are: {}", names.join(", "))
    })
}

fn pair(text: &str) -> Result<(String, String), String> {
    let (key, value) = text.split_once('=').ok_or("it is no KEY=VALUE")?;
    Ok((key.to_owned(), value.to_owned()))
}

/// The definition of the program, for man pages and completions.
pub fn command() -> clap::Command {
    Args::command()
}

/// Runs the program.
pub fn run(args: &Args) -> ExitCode {
    match &args.mode {
        Mode::Setup { root } => {
            let found = Tree::open(root).and_then(|tree| {
                let mut found = (args.service.find)(&tree)?;
                if std::env::var_os(SEEN).is_some() && services::BY_FILES.contains(&args.service.name) {
                    found.seen = tree.seen().stamps();
                }
                Ok(found)
            });
            atlas_cli::finish(
                "VerifyService",
                true,
                found.and_then(|found| print_json(&found)).map(|()| atlas_cli::Exit::Done),
            )
        }
        Mode::Apart(apart) => atlas_cli::finish("VerifyService", true, services::run_apart(apart)),
        Mode::Verify(verify) => {
            let profile = exercise(args.service, verify);
            let told = if verify.json { print_json(&profile) } else { print(nagios_line(args.service.name, &profile)) };
            // Whom nobody hears says it with the exit code alone.
            let _ = told;
            ExitCode::from(profile.verdict.exit_code())
        }
    }
}

fn exercise(service: &Service, args: &VerifyArgs) -> Profile {
    // A little before the caller's own deadline, so that the answer still gets there.
    let deadline = Duration::from_secs(args.deadline.unwrap_or(service.deadline)).mul_f64(0.9);
    let target = Target {
        host: args.host.clone(),
        role: args.role,
        instance: args.instance.clone(),
        options: args.set.iter().cloned().collect(),
        until: Instant::now() + deadline,
        root: args.root.clone(),
    };
    let target = match target.bound() {
        Ok(target) => target,
        Err(why) => return Profile::ok(why),
    };
    if let Some(why) = target.meaningless(service.name) {
        return Profile::unknown(why).hint("in /etc/atlas/verifier.toml, or as --set KEY=VALUE: correct that value");
    }
    let profile = (service.verify)(&target).unwrap_or_else(|error| Profile::unknown(in_one_line(&error)));
    for measure in &profile.measures {
        debug_assert!(settable::is_measure(service.name, &measure.name), "{} is not settable", measure.name);
    }
    if profile.verdict.exit_code() == 0 { profile } else { target.waiting().map_or(profile, Profile::ok) }
}

/// A Profile as Nagios reads it: a line of text, `|`, and performance data.
pub fn nagios_line(service: &str, profile: &Profile) -> String {
    let word = match profile.verdict.exit_code() {
        0 => "OK",
        1 => "WARNING",
        2 => "CRITICAL",
        _ => "UNKNOWN",
    };
    let summary: String = profile.summary.chars().map(|c| if c == '|' || c.is_control() { ' ' } else { c }).collect();
    let mut line = format!("{} {word}: {summary}", service.to_uppercase());
    for (index, measure) in profile.measures.iter().enumerate() {
        line.push_str(if index == 0 { " | " } else { " " });
        // Beyond is above for a plain number, and below for one with a colon.
        let side = if measure.worse == Worse::Higher { "" } else { ":" };
        let limit = |limit: Option<f64>| limit.map(|limit| format!("{}{side}", number(limit))).unwrap_or_default();
        let unit = if ["ms", "s", "%", "B"].contains(&measure.unit.as_str()) { &measure.unit } else { "" };
        let name = measure.name.replace(['\'', '='], "_");
        let (slow, unacceptable) = (limit(measure.slow), limit(measure.unacceptable));
        line.push_str(&format!("'{name}'={}{unit};{slow};{unacceptable}", number(measure.value)));
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;
    use atlas_model::verify::Measure;

    #[test]
    fn a_profile_is_told_as_nagios_reads_it() {
        let measure = |name: &str, value, unit: &str, worse| Measure {
            name: name.into(),
            value,
            unit: unit.into(),
            slow: Some(10.0),
            unacceptable: None,
            worse,
        };
        let profile = Profile::ok("fine | all\nof it")
            .measure(measure("answer", 2.5, "ms", Worse::Higher))
            .measure(measure("left", 30.0, "days", Worse::Lower));
        assert_eq!(nagios_line("web", &profile), "WEB OK: fine   all of it | 'answer'=2.5ms;10; 'left'=30;10:;");
    }
}
