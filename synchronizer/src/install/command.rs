//! `ssSync install`.

use super::{InstallReport, install};
use crate::server::Server;
use atlas_cli::{Common, Exit, print, print_json};
use atlas_model::Role;
use atlas_sid::snapshot::generation;

/// What was done, as `--json` tells it.
#[derive(serde::Serialize)]
struct Answer {
    format: u32,
    #[serde(flatten)]
    report: InstallReport,
}

/// Installs, and says what was changed.
pub(crate) fn run(common: &Common) -> anyhow::Result<Exit> {
    let server = Server::open(&common.root)?;
    let generation = server.sid.role_dir(Role::Pri)?.map_or(Ok(0), |dir| generation(&dir))?;
    let report = install(&server.root, &server.sid, server.role(), server.env_version(), generation)?;
    if common.json {
        print_json(&Answer { format: 1, report })?;
    } else {
        print(tell(&report))?;
    }
    Ok(Exit::Done)
}

fn tell(report: &InstallReport) -> String {
    let mut text = format!(
        "generation {} of PRI's configuration is installed, {} changes\n",
        report.generation,
        report.changes.len()
    );
    report.changes.iter().for_each(|change| text.push_str(&format!("{change}\n")));
    text
}
