//! `ssSync install`.

use super::{How, InstallReport, Outcome, install_as};
use crate::server::Server;
use atlas_cli::{Common, Exit, Style, print, print_json};
use atlas_model::Role;
use atlas_sid::snapshot::generation;

/// How an operator asks for it.
#[derive(Clone, Copy, Debug, clap::Args)]
pub struct Options {
    /// Remove what PRI's Snapshot lacks, even if it is so much that a file system may not have been mounted on PRI
    #[arg(long)]
    confirm_removal: bool,
    /// Compare every byte, whatever sizes and times say; done once a day without asking
    #[arg(long)]
    every_byte: bool,
    /// Try the files again that a service did not work with
    #[arg(long)]
    retry: bool,
}

/// What was done, as `--json` tells it.
#[derive(serde::Serialize)]
struct Answer {
    format: u32,
    #[serde(flatten)]
    report: InstallReport,
}

/// Installs, and says what was changed.
pub(crate) fn run(common: &Common, options: Options) -> anyhow::Result<Exit> {
    let server = Server::open(&common.root)?;
    let generation = server.sid.role_dir(Role::Pri)?.map_or(Ok(0), |dir| generation(&dir))?;
    let Options { confirm_removal, every_byte, retry } = options;
    let how = How { confirm_removal, every_byte, retry, just_taken: false };
    let report = install_as(&server.root, &server.sid, server.role(), server.env_version(), generation, how)?;
    let exit = if report.problems.is_empty() { Exit::Done } else { Exit::No };
    if common.json {
        print_json(&Answer { format: 1, report })?;
    } else {
        print(tell(&report))?;
    }
    Ok(exit)
}

fn tell(report: &InstallReport) -> String {
    let style = Style::stdout();
    let changes = match report.change_count {
        0 => "nothing had to be changed".to_owned(),
        1 => "1 path changed".to_owned(),
        count => format!("{count} paths changed"),
    };
    let mut text = format!("generation {} of PRI's configuration is installed; {changes}\n", report.generation);
    let mut line = |line: String| text.push_str(&format!("  {line}\n"));
    if report.completed {
        line("an installation that had been cut off was completed".into());
    }
    report.changes.iter().cloned().for_each(&mut line);
    if report.change_count > report.changes.len() {
        line(format!("and {} more", report.change_count - report.changes.len()));
    }
    report.left.iter().for_each(|left| line(format!("left {}: {}", left.path, left.why)));
    report.no_longer_listed.iter().for_each(|path| line(format!("left {path}: PRI does not list it any more")));
    for service in &report.services {
        match &service.outcome {
            Outcome::Reloaded => line(format!("{} was reloaded", service.name)),
            Outcome::Restarted => line(format!("{} was restarted", service.name)),
            Outcome::OnlyAsPri => line(format!(
                "{} needs addresses of PRI, or what only PRI's disks have: its new files work when this server is PRI, and it was not reloaded",
                service.name
            )),
            _ => {}
        }
    }
    report.warnings.iter().for_each(|warning| line(format!("{} {warning}", style.yellow("note:"))));
    report.problems.iter().for_each(|problem| line(format!("{} {problem}", style.red("problem:"))));
    text
}
